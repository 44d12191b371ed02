/* A private folder from which a group of copies is loaded; see elf_stage.c. */
#ifndef ELF_STAGE_H
#define ELF_STAGE_H

#include <limits.h>

#include "elf_plan.h"

typedef struct elf_stage {
    char root[PATH_MAX]; /* "" when there is none */
    size_t prefix;       /* bytes of a place that `root` stands for */
} elf_stage;

/* Folders for temporary links, or files with data, the best first; some more
 * than once. False when there are no more. */
typedef enum { ELF_LINKS, ELF_DATA } elf_temporary;

/* Find the folder for what is there for a moment: $TMPDIR, or /dev/shm. */
bool elf_temporary_folder(size_t i, elf_temporary what, const char **folder);

/* Make the folder for what `plan` copies, and for what is found by its origin.
 * False with `why`. */
bool elf_stage_make(elf_stage *stage, const elf_plan *plan, atoll_why *why);

/* Where the node with that place is seen, under the name `wanted`. False if
 * that is too long. */
bool elf_stage_path(const elf_stage *stage, const char *place, const char *wanted,
                    char out[PATH_MAX]);

/* Link `path` to `target`, with the folders above it. */
bool elf_stage_link(const elf_stage *stage, const char *path, const char *target,
                    atoll_why *why);

/* Remove all of it. */
void elf_stage_remove(elf_stage *stage);

#endif
