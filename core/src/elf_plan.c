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
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "elf_image.h"

/* Libraries that do not use Python but keep state, or hold a lock of theirs
 * while a callback waits for a GIL. Beginnings of file names. */
static const char *const stateful[] = {
    "libarrow",   /* registries of functions and types that hold callbacks */
    "libparquet", /* uses the classes of libarrow */
    "libcares",   /* gevent's: one event loop a process */
    "libev.",      "libev-",  "libuv.",
    "libuv-",      "libhdf5", /* one lock around all calls, callbacks included */
    "libllvmlite",            /* one LLVM context, with callbacks into Python */
};

/* Of what packages bring with them, these are for all: they are large, or have
 * one pool of threads a process, or reserve room for thread-local variables, of
 * which there is little. */
static const char *const pooled[] = {
    "libblis",     "libgfortran", "libgomp",           "libiomp",   "libmkl", "libomp",
    "libopenblas", "libquadmath", "libscipy_openblas", "libstdc++", "libtbb",
};

/* The system's own, which are many to open and never to be copied. */
static const char *const common[] = {
    "ld-linux", "libc.so",      "libdl.so",  "libgcc_s.so", "libm.so", "libpthread.so",
    "librt.so", "libstdc++.so", "libpython", "libutil.so",  "libz.so",
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

#define IS_ONE_OF(name, list) is_one_of(name, list, sizeof(list) / sizeof(*(list)))

/* ------------------------------------------------------------------- search */

/* Take "//", "/./" and "/../" out of an absolute path, by its text alone. */
static void
plan_normalise(char *path)
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
plan_expand(char *out, const char *folder, size_t length, const char *owner,
            const char *name, bool *by_origin)
{
    size_t skip = strncmp(folder, "$ORIGIN", 7) == 0     ? 7
                  : strncmp(folder, "${ORIGIN}", 9) == 0 ? 9
                                                         : 0;
    *by_origin = skip > 0;
    if (skip > length || memchr(folder + skip, '$', length - skip) != NULL ||
        (skip < length && folder[skip] != '/') || length >= PATH_MAX) {
        return false;
    }
    int origin = *by_origin ? (int)(strrchr(owner, '/') - owner) : 0;
    int n = snprintf(out, PATH_MAX, "%.*s%.*s/%s", origin, owner, (int)(length - skip),
                     folder + skip, name);
    return n > 0 && n < PATH_MAX;
}

/* Is the file at `path` for another machine? The loader passes by those. */
static bool
is_foreign(const char *path)
{
    Elf64_Ehdr h;
    int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY);
    bool read = fd >= 0 && pread(fd, &h, sizeof(h), 0) == sizeof(h);
    if (fd >= 0) {
        close(fd);
    }
    return read && memcmp(h.e_ident, ELFMAG, SELFMAG) == 0 &&
           (h.e_ident[EI_CLASS] != ELFCLASS64 || h.e_ident[EI_DATA] != ELFDATA2LSB ||
            h.e_machine != ELF_HERE);
}

/* Something that is needed, and where it is. */
typedef struct finding {
    const char *name;
    const elf_plan *plan;
    size_t owner;         /* who needs it */
    char found[PATH_MAX]; /* as in elf_node */
    char place[PATH_MAX]; /* as in elf_name */
    bool by_origin;
} finding;

/* Look in `folders`, of which $ORIGIN is that of the node `origin`. */
static bool
plan_search(finding *f, const char *folders, size_t origin)
{
    const elf_node *node = &f->plan->nodes[origin];
    const char *place = f->plan->names[node->name].place;
    while (folders != NULL && *folders != '\0') {
        size_t length = strcspn(folders, ":");
        /* Twice, since ".." behind a link leads elsewhere than it seems. */
        if (length > 0 &&
            plan_expand(f->found, folders, length, node->found, f->name,
                        &f->by_origin) &&
            access(f->found, R_OK) == 0 && !is_foreign(f->found) &&
            plan_expand(f->place, folders, length, place, f->name, &f->by_origin)) {
            plan_normalise(f->place);
            return true;
        }
        folders += length;
        folders += *folders == ':';
    }
    return false;
}

static bool
plan_find(finding *f)
{
    const elf_plan *plan = f->plan;
    const char *runpath = atoll_elf_runpath(plan->nodes[f->owner].elf);
    for (size_t i = f->owner; runpath == NULL; i = plan->nodes[i].parent) {
        if (plan_search(f, atoll_elf_rpath(plan->nodes[i].elf), i)) {
            return true;
        }
        if (plan->nodes[i].parent == i) {
            break;
        }
    }
    return plan_search(f, getenv("LD_LIBRARY_PATH"), f->owner) ||
           plan_search(f, runpath, f->owner) ||
           (!IS_ONE_OF(f->name, common) && plan_search(f, system_folders, f->owner));
}

/* -------------------------------------------------------------------- nodes */

#define NONE SIZE_MAX

static void
node_fini(elf_node *node)
{
    atoll_free(node->path);
    atoll_free(node->found);
    atoll_free(node->needs);
    atoll_elf_close(node->elf);
}

/* The index of the node with that path; or NONE. */
static size_t
known_path(const elf_plan *plan, const char *path)
{
    for (size_t i = 0; i < plan->count; i++) {
        if (strcmp(plan->nodes[i].path, path) == 0) {
            return i;
        }
    }
    return NONE;
}

/* The index of the node of that file, which may have two names and none of them
 * a link; or NONE. */
static size_t
known_file(const elf_plan *plan, const atoll_elf *elf)
{
    for (size_t i = 0; i < plan->count; i++) {
        const atoll_elf *its = plan->nodes[i].elf;
        if (its->device == elf->device && its->inode == elf->inode) {
            return i;
        }
    }
    return NONE;
}

/* The node of the file that was found, new if need be. NONE with `why`; `bad`:
 * it is that file which is at fault, and no lack of means. */
static size_t
node_of(elf_plan *plan, const finding *f, bool *bad, atoll_why *why)
{
    char path[PATH_MAX];
    *bad = true;
    if (realpath(f->found, path) == NULL) {
        *bad = errno != ENOMEM;
        atoll_because(why, "cannot find it: %s", strerror(errno));
        return NONE;
    }
    size_t index = known_path(plan, path);
    if (index != NONE) {
        return index;
    }
    elf_node node = {
        .elf = elf_open(path, bad, why), .name = plan->name_count, .parent = f->owner};
    if (node.elf == NULL) {
        return NONE;
    }
    index = known_file(plan, node.elf);
    if (index != NONE) {
        node_fini(&node);
        return index;
    }
    *bad = false;
    node.path = elf_copy_text(path);
    node.found = elf_copy_text(f->found);
    if (node.path == NULL || node.found == NULL) {
        atoll_because(why, "out of memory");
    }
    else if (plan->count == ELF_PLAN_MAX) {
        atoll_because(why, "it is linked with too many libraries");
    }
    else {
        plan->nodes[plan->count] = node;
        return plan->count++;
    }
    node_fini(&node);
    return NONE;
}

/* Note that a node is found at `place`. */
static bool
add_name(elf_plan *plan, const char *place, size_t node, bool by_origin, atoll_why *why)
{
    if (plan->name_count == ELF_PLAN_MAX) {
        return atoll_because(why, "it is linked with too many libraries");
    }
    char *text = elf_copy_text(place);
    if (text == NULL) {
        return atoll_because(why, "out of memory");
    }
    plan->names[plan->name_count++] = (elf_name){.node = node,
                                                 .place = text,
                                                 .wanted = strrchr(text, '/') + 1,
                                                 .by_origin = by_origin};
    return true;
}

/* The node that is there when the loader needs `name`: it takes what has been
 * loaded under that name, or calls itself so. NONE if there is none; `*err`: no
 * memory. */
static size_t
node_named(elf_plan *plan, const char *name, bool *err, atoll_why *why)
{
    for (size_t i = 0; i < plan->name_count; i++) {
        if (strcmp(plan->names[i].wanted, name) == 0) {
            return plan->names[i].node;
        }
    }
    for (size_t i = 0; i < plan->count; i++) {
        const elf_name *first = &plan->names[plan->nodes[i].name];
        const char *soname = atoll_elf_soname(plan->nodes[i].elf);
        if (soname != NULL && strcmp(soname, name) == 0) {
            char place[PATH_MAX];
            int n = snprintf(place, sizeof(place), "%.*s%s",
                             (int)(first->wanted - first->place), first->place, name);
            *err = n >= PATH_MAX
                       ? !atoll_because(why, "the path of %s is too long", name)
                       : !add_name(plan, place, i, first->by_origin, why);
            return i;
        }
    }
    return NONE;
}

/* Find `name`, which the node `of` needs. True without a `*node`: the loader
 * will find it, or say so. */
static bool
add_need(elf_plan *plan, size_t of, const char *name, size_t *node, atoll_why *why)
{
    bool bad = false, err = false;
    finding f = {.name = name, .plan = plan, .owner = of};
    *node = NONE;
    if (strchr(name, '/') != NULL || strncmp(name, "libpython", 9) == 0) {
        return true;
    }
    *node = node_named(plan, name, &err, why);
    if (*node != NONE || !plan_find(&f)) {
        return !err;
    }
    atoll_why its;
    *node = node_of(plan, &f, &bad, &its);
    if (*node == NONE) {
        return (bad && !f.by_origin) || atoll_because(why, "%s: %s", f.place, its.text);
    }
    return add_name(plan, f.place, *node, f.by_origin, why);
}

static bool
add_needs(elf_plan *plan, size_t of, atoll_why *why)
{
    elf_node *node = &plan->nodes[of];
    size_t count = atoll_elf_needed_count(node->elf);
    node->needs = atoll_alloc((count + 1) * sizeof(*node->needs));
    if (node->needs == NULL) {
        return atoll_because(why, "out of memory");
    }
    for (size_t i = 0; i < count; i++) {
        size_t its;
        if (!add_need(plan, of, atoll_elf_needed(node->elf, i), &its, why)) {
            return false;
        }
        if (its != NONE) {
            node->needs[node->needs_count++] = (uint16_t)its;
        }
    }
    return true;
}

/* What needs a private library is private itself. */
static void
plan_spread(elf_plan *plan)
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

static bool
is_cplusplus(const atoll_elf *elf)
{
    for (size_t i = 0; i < atoll_elf_needed_count(elf); i++) {
        if (strncmp(atoll_elf_needed(elf, i), "libstdc++", 9) == 0) {
            return true;
        }
    }
    return false;
}

/* Is a name of the node known to keep state? Or is it a C++ library that a package
 * brings with it: those have registries into which modules put functions of
 * theirs (libqpdf), which are of one interpreter. */
static bool
is_stateful(const elf_plan *plan, size_t node)
{
    for (size_t i = 0; i < plan->name_count; i++) {
        const elf_name *name = &plan->names[i];
        if (name->node == node &&
            (IS_ONE_OF(name->wanted, stateful) ||
             (name->by_origin && is_cplusplus(plan->nodes[node].elf) &&
              !IS_ONE_OF(name->wanted, pooled)))) {
            return true;
        }
    }
    return false;
}

static bool
plan_make(elf_plan *plan, const char *path, atoll_why *why)
{
    finding root = {.plan = plan};
    bool bad;
    plan->nodes = atoll_alloc(ELF_PLAN_MAX * sizeof(*plan->nodes));
    plan->names = atoll_alloc(ELF_PLAN_MAX * sizeof(*plan->names));
    if (plan->nodes == NULL || plan->names == NULL) {
        return atoll_because(why, "out of memory");
    }
    if (path[0] != '/' || strlen(path) >= PATH_MAX) {
        return atoll_because(why, "not an absolute path, or too long");
    }
    strcpy(root.found, path);
    strcpy(root.place, path);
    plan_normalise(root.place);
    if (node_of(plan, &root, &bad, why) == NONE ||
        !add_name(plan, root.place, 0, true, why)) {
        return false;
    }
    for (size_t i = 0; i < plan->count; i++) {
        if (!add_needs(plan, i, why)) {
            return false;
        }
    }
    for (size_t i = 0; i < plan->count; i++) {
        elf_node *node = &plan->nodes[i];
        node->copied = i == 0 || is_stateful(plan, i) ||
                       atoll_elf_imports_prefix(node->elf, "Py") ||
                       atoll_elf_imports_prefix(node->elf, "_Py");
    }
    plan_spread(plan);
    return true;
}

bool
elf_plan_make(elf_plan *plan, const char *path, atoll_why *why)
{
    *plan = (elf_plan){NULL, 0, NULL, 0};
    if (!plan_make(plan, path, why)) {
        elf_plan_fini(plan);
        return false;
    }
    return true;
}

void
elf_plan_fini(elf_plan *plan)
{
    for (size_t i = 0; i < plan->count; i++) {
        node_fini(&plan->nodes[i]);
    }
    for (size_t i = 0; i < plan->name_count; i++) {
        atoll_free(plan->names[i].place);
    }
    atoll_free(plan->nodes);
    atoll_free(plan->names);
    *plan = (elf_plan){NULL, 0, NULL, 0};
}
