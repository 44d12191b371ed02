/* Which files are loaded with a shared object, and which of them are copied. */
#ifndef ELF_PLAN_H
#define ELF_PLAN_H

#include "atoll/elf.h"

/* More than any package has; a plan that grows beyond is refused. */
#define ELF_PLAN_MAX 512

typedef struct elf_node {
    char *path;         /* without links in it; owned */
    char *place;        /* where it was found, perhaps a link; owned */
    const char *wanted; /* its name there: the last part of `place` */
    atoll_elf *elf;     /* owned */
    size_t parent;      /* who asked for it first; the root: itself */
    uint16_t *needs;    /* owned; indices of nodes, for each that was found */
    size_t needs_count;
    bool by_origin; /* its place is relative to who needs it */
    bool far;       /* somebody finds it in another way */
    bool copied;
} elf_node;

typedef struct elf_plan {
    elf_node *nodes; /* the first is the root; in order of discovery */
    size_t count, room;
} elf_plan;

/* What `path` (absolute, no links) is linked with, closed under need. Returns
 * false with `why`; then the plan is empty. */
bool elf_plan_make(elf_plan *plan, const char *path, atoll_why *why);
void elf_plan_fini(elf_plan *plan);

/* A copy of a string, or NULL; for atoll_free. */
char *elf_copy_text(const char *text);

#endif
