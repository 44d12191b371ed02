/* What a shared object is linked with, found as the loader would find it, and
 * what of it must be private to an interpreter.
 *
 * The search follows ld.so(8): DT_RPATH of the object and of those that led to
 * it, LD_LIBRARY_PATH, DT_RUNPATH, the system's folders. Libraries that are not
 * found are left to the loader, which knows its cache. */
#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include "elf_plan.h"

#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* Libraries that do not use Python but keep state, or hold a lock of theirs
 * while a callback waits for a GIL. Beginnings of file names. */
static const char *const stateful[] = {
    "libarrow",    /* registries of functions and types that hold callbacks */
    "libparquet",  /* uses the classes of libarrow */
    "libcares",    /* gevent's: one event loop a process */
    "libev.",      "libev-",
    "libuv.",      "libuv-",
    "libhdf5",     /* one lock around all calls, callbacks included */
    "libllvmlite", /* one LLVM context, with callbacks into Python */
};

/* The system's own, which are many to open and never to be copied. */
static const char *const common[] = {
    "ld-linux",   "libc.so",  "libdl.so",     "libgcc_s.so", "libm.so",
    "libpthread.so", "librt.so", "libstdc++.so", "libpython",   "libutil.so",
    "libz.so",
};

#if defined(__x86_64__)
#define MULTIARCH "x86_64-linux-gnu"
#elif defined(__aarch64__)
#define MULTIARCH "aarch64-linux-gnu"
#else
#define MULTIARCH "none"
#endif

static const char system_folders[] =
    "/usr/local/lib:/lib/" MULTIARCH ":/usr/lib/" MULTIARCH
    ":/lib64:/usr/lib64:/lib:/usr/lib";

char *
elf_copy_text(const char *text)
{
    size_t size = strlen(text) + 1;
    char *copy = atoll_alloc(size);
    if (copy != NULL) {
        memcpy(copy, text, size);
    }
    return copy;
}

static bool
is_one_of(const char *name, const char *const *list, size_t count)
{
    for (size_t i = 0; i < count; i++) {
        if (strncmp(name, list[i], strlen(list[i])) == 0) {
            return true;
        }
    }
    return false;
}

#define IS_ONE_OF(name, list) \
    is_one_of(name, list, sizeof(list) / sizeof(*(list)))

/* ------------------------------------------------------------------- search */

/* Take "//", "/./" and "/../" out of an absolute path, by its text alone. */
static void
normalise(char *path)
{
    char *out = path;
    for (const char *in = path; *in != '\0';) {
        size_t length = strcspn(in + 1, "/") + 1; /* with its slash */
        if (length == 3 && strncmp(in, "/..", 3) == 0) {
            while (out > path && *--out != '/') {
            }
        }
        else if (length > 1 && !(length == 2 && in[1] == '.')) {
            memmove(out, in, length);
            out += length;
        }
        in += length;
    }
    *out = '\0';
}

/* `folder` (of `length`) and `name` as one path; $ORIGIN is the folder of
 * `owner`. False if it is too long or has another variable in it. */
static bool
expand(char *out, const char *folder, size_t length, const char *owner,
       const char *name, bool *by_origin)
{
    size_t skip = strncmp(folder, "$ORIGIN", 7) == 0     ? 7
                  : strncmp(folder, "${ORIGIN}", 9) == 0 ? 9
                                                         : 0;
    *by_origin = skip > 0;
    if (skip > length || memchr(folder + skip, '$', length - skip) != NULL ||
        (skip == 0 && folder[0] != '/')) {
        return false;
    }
    int origin = *by_origin ? (int)(strrchr(owner, '/') - owner) : 0;
    int n = snprintf(out, PATH_MAX, "%.*s%.*s/%s", origin, owner,
                     (int)(length - skip), folder + skip, name);
    if (n <= 0 || n >= PATH_MAX) {
        return false;
    }
    normalise(out);
    return true;
}

/* Look for `name` in `folders`. True: it is at `place`. */
static bool
search(const char *folders, const char *owner, const char *name, char *place,
       bool *by_origin)
{
    while (folders != NULL && *folders != '\0') {
        size_t length = strcspn(folders, ":");
        if (length > 0 &&
            expand(place, folders, length, owner, name, by_origin) &&
            access(place, R_OK) == 0) {
            return true;
        }
        folders += length;
        folders += *folders == ':';
    }
    return false;
}

static bool
find(const elf_plan *plan, size_t of, const char *name, char *place,
     bool *by_origin)
{
    const elf_node *node = &plan->nodes[of];
    const char *runpath = atoll_elf_runpath(node->elf);
    if (strchr(name, '/') != NULL) {
        return false; /* the loader's business */
    }
    for (size_t i = of; runpath == NULL; i = plan->nodes[i].parent) {
        const elf_node *up = &plan->nodes[i];
        if (search(atoll_elf_rpath(up->elf), up->place, name, place,
                   by_origin)) {
            return true;
        }
        if (up->parent == i) {
            break;
        }
    }
    return search(getenv("LD_LIBRARY_PATH"), node->place, name, place,
                  by_origin) ||
           search(runpath, node->place, name, place, by_origin) ||
           (!IS_ONE_OF(name, common) &&
            search(system_folders, node->place, name, place, by_origin));
}

/* -------------------------------------------------------------------- nodes */

static void
node_fini(elf_node *node)
{
    atoll_free(node->path);
    atoll_free(node->place);
    atoll_free(node->needs);
    atoll_elf_close(node->elf);
}

/* The node of the file at `place`, new if need be; ELF_PLAN_MAX on an error. */
static size_t
node_of(elf_plan *plan, const char *place, size_t parent, atoll_why *why)
{
    char path[PATH_MAX];
    if (realpath(place, path) == NULL) {
        atoll_because(why, "cannot find it: %s", strerror(errno));
        return ELF_PLAN_MAX;
    }
    for (size_t i = 0; i < plan->count; i++) {
        if (strcmp(plan->nodes[i].path, path) == 0) {
            return i;
        }
    }
    if (plan->count == plan->room) {
        size_t room = plan->room * 2 + 8;
        elf_node *nodes =
            room > ELF_PLAN_MAX
                ? NULL
                : atoll_realloc(plan->nodes, room * sizeof(*nodes));
        if (nodes == NULL) {
            atoll_because(why, "no memory for what it is linked with");
            return ELF_PLAN_MAX;
        }
        plan->nodes = nodes;
        plan->room = room;
    }
    elf_node node = {.path = elf_copy_text(path), .place = elf_copy_text(place),
                     .parent = parent};
    if (node.path == NULL || node.place == NULL) {
        atoll_because(why, "out of memory");
        node_fini(&node);
        return ELF_PLAN_MAX;
    }
    node.wanted = strrchr(node.place, '/') + 1;
    node.elf = atoll_elf_open(path, why);
    if (node.elf == NULL) {
        node_fini(&node);
        return ELF_PLAN_MAX;
    }
    plan->nodes[plan->count] = node;
    return plan->count++;
}

static bool
add_needs(elf_plan *plan, size_t of, atoll_why *why)
{
    char place[PATH_MAX];
    size_t count = atoll_elf_needed_count(plan->nodes[of].elf);
    uint16_t *needs = atoll_alloc((count + 1) * sizeof(*needs));
    if (needs == NULL) {
        return atoll_because(why, "out of memory");
    }
    plan->nodes[of].needs = needs;
    for (size_t i = 0; i < count; i++) {
        const char *name = atoll_elf_needed(plan->nodes[of].elf, i);
        bool by_origin = false;
        if (strncmp(name, "libpython", 9) == 0 ||
            !find(plan, of, name, place, &by_origin)) {
            continue;
        }
        size_t index = node_of(plan, place, of, why);
        if (index == ELF_PLAN_MAX) {
            continue; /* the loader will say so, if it finds the same */
        }
        plan->nodes[index].by_origin |= by_origin;
        plan->nodes[index].far |= !by_origin;
        needs[plan->nodes[of].needs_count++] = (uint16_t)index;
    }
    return true;
}

/* What needs a private library is private itself. */
static void
spread(elf_plan *plan)
{
    bool again = true;
    while (again) {
        again = false;
        for (size_t i = 0; i < plan->count; i++) {
            elf_node *node = &plan->nodes[i];
            for (size_t k = 0; k < node->needs_count && !node->copied; k++) {
                again |= node->copied = plan->nodes[node->needs[k]].copied;
            }
        }
    }
}

bool
elf_plan_make(elf_plan *plan, const char *path, atoll_why *why)
{
    *plan = (elf_plan){NULL, 0, 0};
    if (node_of(plan, path, 0, why) == ELF_PLAN_MAX) {
        elf_plan_fini(plan);
        return false;
    }
    for (size_t i = 0; i < plan->count; i++) {
        if (!add_needs(plan, i, why)) {
            elf_plan_fini(plan);
            return false;
        }
        elf_node *node = &plan->nodes[i];
        node->copied = i == 0 || IS_ONE_OF(node->wanted, stateful) ||
                       atoll_elf_imports_prefix(node->elf, "Py") ||
                       atoll_elf_imports_prefix(node->elf, "_Py");
    }
    spread(plan);
    return true;
}

void
elf_plan_fini(elf_plan *plan)
{
    for (size_t i = 0; i < plan->count; i++) {
        node_fini(&plan->nodes[i]);
    }
    atoll_free(plan->nodes);
    *plan = (elf_plan){NULL, 0, 0};
}
