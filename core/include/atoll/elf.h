/* Private copies of shared objects: reading, copying and mending ELF files.
 *
 * A shared object's static data exists once a process. Whoever wants it once
 * an interpreter loads a copy of the file. This is the part of it that needs no
 * Python: what a file asks for, a copy of it under other names, and what is
 * changed in a copy after the loader has mapped it.
 *
 *   atoll_elf       an open file, checked and mapped read-only
 *   atoll_elf_copy  a copy of it in a memory file, with a few bytes changed
 *   atoll_elf_live  a copy that the loader has mapped
 *
 * Only for the glibc loader on 64-bit little-endian x86-64 and aarch64:
 * elsewhere atoll_elf_supported() is false and opening fails. Files may be
 * damaged or hostile: every offset is checked before it is followed.
 *
 * Threads: an object is used by one thread at a time; there is no other state.
 * Sources: the System V gABI, chapters 4 and 5; the psABI supplements of both
 * machines; the GNU extensions as <elf.h> names them.
 */
#ifndef ATOLL_ELF_H
#define ATOLL_ELF_H

#include "atoll/atoll.h"

/* Why something failed, for people. Written only on failure. */
typedef struct atoll_why {
    char text[600];
} atoll_why;

/* Format into `why`; always returns false. */
bool atoll_because(atoll_why *why, const char *format, ...)
    __attribute__((format(printf, 2, 3)));

typedef struct atoll_elf atoll_elf;

/* Is there a loader here that we know? */
bool atoll_elf_supported(void);

/* ------------------------------------------------------------------- files */

/* Open and check the shared object at `path`. NULL, with the reason in `why`. */
atoll_elf *atoll_elf_open(const char *path, atoll_why *why) ATOLL_MUST_CHECK;
/* NULL is allowed. */
void atoll_elf_close(atoll_elf *elf);

/* Which file this is, whatever its name. */
uint64_t atoll_elf_device(const atoll_elf *elf);

/* Get the inode of the file. */
uint64_t atoll_elf_inode(const atoll_elf *elf);
/* Bytes of the file. */
size_t atoll_elf_size(const atoll_elf *elf);

/* What it is linked with; strings of the file, which live as long as it. */
size_t atoll_elf_needed_count(const atoll_elf *elf);

/* Get the name of library `i` that it needs; borrowed. */
const char *atoll_elf_needed(const atoll_elf *elf, size_t i);
/* NULL: has none. */
const char *atoll_elf_soname(const atoll_elf *elf);
/* Where to look for that, folders separated by colons: DT_RUNPATH, or else
 * DT_RPATH, which its own libraries inherit. NULL: has none. */
const char *atoll_elf_runpath(const atoll_elf *elf);

/* Get its DT_RPATH, or NULL; borrowed. */
const char *atoll_elf_rpath(const atoll_elf *elf);

/* Does it import a symbol of that name; one that begins so? */
bool atoll_elf_imports(const atoll_elf *elf, const char *name);

/* Does it import a symbol that begins with `prefix`? */
bool atoll_elf_imports_prefix(const atoll_elf *elf, const char *prefix);

/* ------------------------------------------------------------------ copies */

/* A name of a library, and the one it gets: both of the same length, and
 * different only in the first `changed` bytes. */
typedef struct atoll_elf_rename {
    const char *from, *to;
    size_t changed;
    bool own; /* only where an object calls itself so */
} atoll_elf_rename;

typedef struct atoll_elf_copy atoll_elf_copy;

/* Copy the file into a new memory file (or an unlinked temporary one), but for
 * code and constants that only the program reads (atoll_elf_share), with
 *   - each name of `renames` replaced where it names a library: what is needed,
 *     the versions needed of it, the object's own name;
 *   - "unique" symbols made ordinary global ones, since the loader would merge
 *     those of all copies;
 *   - its constructors hidden from the loader: see atoll_elf_construct.
 * `label` is what /proc shows. The copy keeps using `elf`. NULL with `why`. */
atoll_elf_copy *atoll_elf_copy_new(atoll_elf *elf, const char *label,
                                   const atoll_elf_rename *renames, size_t count,
                                   atoll_why *why) ATOLL_MUST_CHECK;

/* Free a copy that was not loaded, and close its file. */
void atoll_elf_copy_free(atoll_elf_copy *copy);
/* Its descriptor; owned by the copy. */
int atoll_elf_copy_fd(const atoll_elf_copy *copy);

/* -------------------------------------------------------------- live copies */

/* A function that is called instead of another. */
typedef struct atoll_elf_redirect {
    const char *name;
    void *target;
} atoll_elf_redirect;

/* In the copy that is mapped at `base` (the loader's l_addr): let every import
 * of a function of `redirects` lead to its target. Called before anything of the
 * copy is. Returns false with `why` if
 * the memory cannot be made writable; then some may have been changed. */
bool atoll_elf_redirect_all(const atoll_elf_copy *copy, uintptr_t base,
                            const atoll_elf_redirect *redirects, size_t count,
                            atoll_why *why) ATOLL_MUST_CHECK;

/* Run the constructors of the copy that is mapped at `base`, which the loader
 * has not run: once, after the redirects and after those of what it needs. They
 * see the environment, but not the program's arguments. Without this, the loader
 * does not run the copy's destructors either. */
void atoll_elf_construct(const atoll_elf_copy *copy, uintptr_t base);

/* Map the pages that nobody writes and that are the original's from the
 * original's file: what the copy does not have, since the loader did not look at
 * it, and the rest, which is given back. Before anything of the copy runs. Returns
 * false with `why` if the system refuses what has to be. */
bool atoll_elf_share(const atoll_elf_copy *copy, uintptr_t base,
                     atoll_why *why) ATOLL_MUST_CHECK;

/* Small functions that call another one with one more argument. */
typedef struct atoll_thunks atoll_thunks;

/* For `count` targets: thunk i jumps to targets[i] with `context` as argument
 * number places[i] (0 to 4; all are integers or pointers). NULL with `why`. */
atoll_thunks *atoll_thunks_new(void *context, void *const *targets,
                               const uint8_t *places, size_t count,
                               atoll_why *why) ATOLL_MUST_CHECK;

/* Make, or find, the thunk that calls `function` with an argument more. NULL when
 * exhausted. */
void *atoll_thunks_get(const atoll_thunks *thunks, size_t i);
/* Nothing may be able to call them any more. */
void atoll_thunks_free(atoll_thunks *thunks);

/* ------------------------------------------------------------------- spaces */

/* All copies of one interpreter. In a space each file is copied once. What is
 * copied of what an object is linked with: what imports Python's functions,
 * what is known to keep state that must not be shared (see elf_plan.c), and
 * what needs one of these. All else is shared with the process. */
typedef struct atoll_elf_space atoll_elf_space;

/* The redirects, and what they lead to, must live as long as the space. NULL:
 * out of memory. */
atoll_elf_space *atoll_elf_space_new(const atoll_elf_redirect *redirects,
                                     size_t count) ATOLL_MUST_CHECK;

/* Load a private copy of the file at `path`, an absolute path without links
 * in it, and of what it is linked with; or find the one that is there. `mode`
 * is dlopen's, without RTLD_GLOBAL. The result is a handle for dlsym that the
 * space owns; NULL with `why`. Runs constructors. `fresh` (may be NULL): it was
 * not there before. */
void *atoll_elf_space_load(atoll_elf_space *space, const char *path, int mode,
                           bool *fresh, atoll_why *why) ATOLL_MUST_CHECK;

/* Is `address` in a copy that stays when the space is freed with `unload`? For
 * an address in no object, or NULL: does any? */
bool atoll_elf_space_keeps(const atoll_elf_space *space, const void *address);

/* Is `address` in one of the copies, but for the first `count` of them? */
bool atoll_elf_space_has(const atoll_elf_space *space, size_t count,
                         const void *address);

/* How many files have been copied. */
size_t atoll_elf_space_count(const atoll_elf_space *space);

/* Unload the copies that came last, until `count` are left: for what turned out
 * not to be wanted. Nothing of theirs may be in use. */
void atoll_elf_space_drop_last(atoll_elf_space *space, size_t count);

/* Call `visit` for the handle of each copy. */
void atoll_elf_space_each(const atoll_elf_space *space,
                          void (*visit)(void *handle, void *arg), void *arg);

/* Forget the copies. With `unload` they are unmapped: destructors run, and
 * nothing may use their code or data any more. Else they stay for ever, as do
 * those that came with copied libraries or may have started threads through the
 * C++ library. Returns whether all are gone. */
bool atoll_elf_space_free(atoll_elf_space *space, bool unload);

#endif
