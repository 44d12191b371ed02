/* Which files are loaded with a shared object, and which of them are copied. */
#ifndef ELF_PLAN_H
#define ELF_PLAN_H

#include "atoll/elf.h"

/* More than any package has; a plan that grows beyond is refused. */
#define ELF_PLAN_MAX 512

/* A file. */
typedef struct elf_node {
    char *path;      /* without links in it; owned */
    char *found;     /* as the loader opens it: its folder is $ORIGIN; owned */
    atoll_elf *elf;  /* owned */
    size_t name;     /* index of the first name by which it is found */
    size_t parent;   /* who asked for it first; the root: itself */
    uint16_t *needs; /* owned; indices of nodes, for each that was found */
    size_t needs_count;
    bool copied;
} elf_node;

/* A name that is needed, and where it is found: mostly one for each file, but
 * there may be links to it. Each name is there once, since the loader gives
 * what it has found first to all. */
typedef struct elf_name {
    size_t node;
    char *place;        /* like `found`, but without "." and ".."; owned */
    const char *wanted; /* the name: the last part of `place` */
    bool by_origin;     /* the place is relative to who needs it */
} elf_name;

typedef struct elf_plan {
    elf_node *nodes; /* the first is the root; in order of discovery */
    size_t count;
    elf_name *names; /* the first is the root's */
    size_t name_count;
} elf_plan;

/* What `path` (absolute, no links) is linked with, closed under need. Returns
 * false with `why`; then the plan is empty. */
bool elf_plan_make(elf_plan *plan, const char *path, atoll_why *why);

/* Free what a plan owns. */
void elf_plan_fini(elf_plan *plan);

/* A copy of a string, or NULL; for atoll_free. */
char *elf_copy_text(const char *text);

#endif
