/* The copies of one interpreter: loading them together with what they need, and
 * letting them go.
 *
 * One dlopen loads an object and all of its copied libraries, so that symbols
 * are resolved as for the originals: libraries that are loaded one by one
 * before would find each other's symbols in another order. Copies get names
 * that no other object of the process has, since the loader takes what is there
 * already if its name is the one that is needed. */
#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include <dlfcn.h>
#include <errno.h>
#include <link.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "at_atomic.h"
#include "at_base.h"
#include "elf_image.h"
#include "elf_stage.h"

/* Bytes of a name that are replaced, if it has so many. */
#define UNIQUE 7

/* A name that a copy has in the loader's lists. */
typedef struct alias {
    struct alias *next;
    char text[];
} alias;

typedef struct member {
    struct member *next; /* the one that was loaded before */
    size_t number;       /* of members up to this one */
    uint64_t device, inode;
    void *held; /* a page of the original: no other file gets the inode */
    void *handle;
    struct link_map *map;
    alias *names;   /* unique, as a library; owned */
    char *old_path; /* what the loader called it; its memory; or NULL */
    bool pinned;    /* stays when the space goes */
} member;

struct atoll_elf_space {
    const atoll_elf_redirect *redirects;
    size_t redirect_count;
    member *members; /* the newest first */
    bool stuck;      /* the loader has not let go of one that was closed */
};

/* One load under way: what is known of each node of the plan, and of each of
 * its names. */
typedef struct loading {
    atoll_elf_space *space;
    elf_plan plan;
    elf_stage stage;
    size_t group;            /* how many nodes are copied, now or before */
    atoll_elf_copy **copies; /* of nodes; NULL: not copied, or there already */
    alias **names;           /* unique ones; NULL: the node is not copied */
    void **handles;          /* of what had to be loaded before; or NULL */
    bool *constructed;       /* of nodes: their constructors have run */
    atoll_elf_rename *renames;
    size_t rename_count;
} loading;

atoll_elf_space *
atoll_elf_space_new(const atoll_elf_redirect *redirects, size_t count)
{
    atoll_elf_space *space = atoll_alloc(sizeof(*space));
    if (space != NULL) {
        *space = (atoll_elf_space){redirects, count, NULL, false};
    }
    return space;
}

static member *
find_member(const atoll_elf_space *space, uint64_t device, uint64_t inode)
{
    member *m = space->members;
    while (m != NULL && (m->device != device || m->inode != inode)) {
        m = m->next;
    }
    return m;
}

/* -------------------------------------------------------------------- names */

/* Replace the beginning of `name` by a number that is used once a process. */
static void
make_unique(char *name)
{
    static const char digits[] = "0123456789abcdefghijklmnopqrstuvwxyz"
                                 "ABCDEFGHIJKLMNOPQRSTUVWXYZ";
    static uint64_t counter;
    /* Relaxed: only to be different each time. */
    uint64_t number = at_add_rlx(&counter, 1);
    for (size_t i = 0; i < UNIQUE && name[i] != '\0'; i++) {
        name[i] = digits[number % 62];
        number /= 62;
    }
}

static alias *
unique_name(const char *name)
{
    size_t size = strlen(name) + 1;
    alias *unique = atoll_alloc(sizeof(*unique) + size);
    if (unique != NULL) {
        unique->next = NULL;
        memcpy(unique->text, name, size);
        make_unique(unique->text);
    }
    return unique;
}

static member *
member_of(const loading *l, size_t node)
{
    const atoll_elf *elf = l->plan.nodes[node].elf;
    return find_member(l->space, atoll_elf_device(elf), atoll_elf_inode(elf));
}

/* The name of a copy that is there already, that can stand for `wanted`. */
static const alias *
known_name(const member *m, const char *wanted)
{
    const alias *name = m->names;
    size_t length = strlen(wanted);
    while (name != NULL &&
           (strlen(name->text) != length ||
            (length > UNIQUE && strcmp(name->text + UNIQUE, wanted + UNIQUE) != 0))) {
        name = name->next;
    }
    return name;
}

static void
add_rename(loading *l, const char *from, const char *to, bool own)
{
    size_t length = strlen(from);
    l->renames[l->rename_count++] =
        (atoll_elf_rename){from, to, length < UNIQUE ? length : UNIQUE, own};
}

/* Give each copy its names, those it has if it is there already. */
static bool
choose_names(loading *l, atoll_why *why)
{
    for (size_t i = 0; i < l->plan.count; i++) {
        l->group += l->plan.nodes[i].copied;
    }
    for (size_t k = 0; k < l->plan.name_count; k++) {
        const elf_name *name = &l->plan.names[k];
        if (!l->plan.nodes[name->node].copied) {
            continue;
        }
        const member *m = member_of(l, name->node);
        if (m != NULL) {
            const alias *known = known_name(m, name->wanted);
            if (known == NULL) {
                return atoll_because(why,
                                     "%s: is there already, but not under "
                                     "that name",
                                     name->place);
            }
            add_rename(l, name->wanted, known->text, false);
            continue;
        }
        l->names[k] = unique_name(name->wanted);
        if (l->names[k] == NULL) {
            return atoll_because(why, "out of memory");
        }
        add_rename(l, name->wanted, l->names[k]->text, false);
    }
    return true;
}

/* ------------------------------------------------------------------ staging */

/* Copy node `i`. What it calls itself is made unique, too, also if nobody of
 * the group calls it so: somebody else could get the copy for it. */
static bool
make_copy(loading *l, size_t i, atoll_why *why)
{
    const elf_node *node = &l->plan.nodes[i];
    const char *soname = atoll_elf_soname(node->elf);
    alias *own = soname == NULL ? NULL : unique_name(soname);
    size_t count = l->rename_count;
    if (soname != NULL && own == NULL) {
        return atoll_because(why, "out of memory");
    }
    if (own != NULL) {
        add_rename(l, soname, own->text, true); /* after those that count */
    }
    l->copies[i] = atoll_elf_copy_new(node->elf, l->plan.names[node->name].wanted,
                                      l->renames, l->rename_count, why);
    l->rename_count = count;
    atoll_free(own);
    return l->copies[i] != NULL;
}

static bool
make_copies(loading *l, atoll_why *why)
{
    for (size_t i = 0; i < l->plan.count; i++) {
        if (l->plan.nodes[i].copied && member_of(l, i) == NULL &&
            !make_copy(l, i, why)) {
            return false;
        }
    }
    return true;
}

/* Where the file of name `k` is seen: a copy, or the original. */
static bool
staged_path(const loading *l, size_t k, char out[PATH_MAX], atoll_why *why)
{
    const elf_name *name = &l->plan.names[k];
    const char *seen = k == 0 || l->names[k] == NULL ? name->wanted : l->names[k]->text;
    return elf_stage_path(&l->stage, name->place, seen, out) ||
           atoll_because(why, "its path is too long: %s", name->place);
}

static bool
set_stage(loading *l, atoll_why *why)
{
    if (access("/proc/self/fd", X_OK) < 0) {
        return atoll_because(why,
                             "copies are loaded through /proc, which "
                             "cannot be used: %s",
                             strerror(errno));
    }
    if (!elf_stage_make(&l->stage, &l->plan, why)) {
        return false;
    }
    for (size_t k = 0; k < l->plan.name_count; k++) {
        const elf_name *name = &l->plan.names[k];
        const elf_node *node = &l->plan.nodes[name->node];
        const atoll_elf_copy *copy = l->copies[name->node];
        char path[PATH_MAX], target[PATH_MAX];
        if (copy == NULL && (node->copied || !name->by_origin)) {
            continue; /* there already, or found without us */
        }
        if (copy != NULL) {
            snprintf(target, sizeof(target), "/proc/self/fd/%d",
                     atoll_elf_copy_fd(copy));
        }
        else {
            snprintf(target, sizeof(target), "%s", node->path);
        }
        if (!staged_path(l, k, path, why) ||
            !elf_stage_link(&l->stage, path, target, why)) {
            return false;
        }
    }
    return true;
}

/* ------------------------------------------------------------------ loading */

/* What `text` begins with that only we know, and what people call that. */
static size_t
known_text(const loading *l, const char *text, const char **plain, int *length)
{
    size_t root = strlen(l->stage.root);
    if (root > 0 && strncmp(text, l->stage.root, root) == 0) {
        *plain = l->plan.names[0].place;
        *length = (int)l->stage.prefix;
        return root;
    }
    for (size_t k = 0; k < l->plan.name_count; k++) {
        const char *name = l->names[k] == NULL ? "" : l->names[k]->text;
        size_t its = strlen(name);
        if (its > UNIQUE && strncmp(text, name, its) == 0) {
            *plain = l->plan.names[k].wanted;
            *length = (int)its;
            return its;
        }
    }
    *plain = text;
    *length = 1;
    return 1;
}

/* What dlopen says, with the names that people know. */
static void
space_explain(const loading *l, atoll_why *why)
{
    const char *error = dlerror();
    const char *text = error != NULL ? error : "no reason given";
    size_t used = 0;
    why->text[0] = '\0';
    while (*text != '\0' && used < sizeof(why->text)) {
        const char *plain;
        int length;
        text += known_text(l, text, &plain, &length);
        used += (size_t)snprintf(why->text + used, sizeof(why->text) - used, "%.*s",
                                 length, plain);
    }
}

/* Libraries that are not found by their origin must be there before. */
static bool
load_far(loading *l, atoll_why *why)
{
    for (size_t k = l->plan.name_count; k-- > 1;) {
        const elf_name *name = &l->plan.names[k];
        const elf_node *node = &l->plan.nodes[name->node];
        char path[PATH_MAX];
        if (l->copies[name->node] == NULL || name->by_origin) {
            continue;
        }
        const char *soname = atoll_elf_soname(node->elf);
        if (soname == NULL || strcmp(soname, name->wanted) != 0) {
            return atoll_because(why,
                                 "%s calls itself %s, so that a copy of "
                                 "it would not be found",
                                 name->place, soname == NULL ? "nothing" : soname);
        }
        if (!staged_path(l, k, path, why)) {
            return false;
        }
        l->handles[k] = dlopen(path, RTLD_LAZY | RTLD_LOCAL);
        if (l->handles[k] == NULL) {
            space_explain(l, why);
            return false;
        }
    }
    return true;
}

/* Those that need them keep them. */
static void
release_far(loading *l)
{
    for (size_t k = 0; l->handles != NULL && k < l->plan.name_count; k++) {
        if (l->handles[k] != NULL) {
            dlclose(l->handles[k]);
            l->handles[k] = NULL;
        }
    }
}

/* Show debuggers, profilers and tracebacks the original's path: an unusual
 * spelling of it, since the loader would take a copy for the original if
 * somebody asked for exactly that. */
static char *
show_as(struct link_map *map, const char *place, bool unusual)
{
    char *text = malloc(strlen(place) + 3); /* the loader frees it */
    if (text == NULL) {
        return NULL;
    }
    size_t folder = (size_t)(strrchr(place, '/') - place);
    sprintf(text, "%.*s%s%s", (int)folder, place, unusual ? "/." : "", place + folder);
    char *old = map->l_name;
    /* Pairs with the load in name_shared: who sees the pointer sees the text.
     * The loader's own readers have to take it as it comes. */
    at_store_rel(&map->l_name, text);
    return old;
}

static struct link_map *
map_of(void *handle)
{
    struct link_map *map = NULL;
    return dlinfo(handle, RTLD_DI_LINKMAP, &map) == 0 ? map : NULL;
}

/* May it start threads that redirects do not see: through the C++ library, or,
 * as jemalloc does, with a function that it asks the loader for? Its code is to
 * stay for them. */
static bool
hides_threads(const atoll_elf *elf)
{
    return atoll_elf_imports_prefix(elf, "_ZNSt6thread15_M_start_thread") ||
           atoll_elf_imports(elf, "thrd_create") ||
           (atoll_elf_imports(elf, "dlsym") &&
            atoll_elf_imports(elf, "pthread_key_create") &&
            memmem(elf->bytes, elf->size, "jemalloc", 8) != NULL);
}

/* Give the names of node `i` to its member. */
static void
move_names(loading *l, size_t i, member *m)
{
    for (size_t k = 0; k < l->plan.name_count; k++) {
        if (l->plan.names[k].node == i && l->names[k] != NULL) {
            l->names[k]->next = m->names;
            m->names = l->names[k];
            l->names[k] = NULL;
        }
    }
}

/* Take node `i`, which is loaded, into the space; `handle` becomes its, also on
 * an error. */
static bool
space_adopt(loading *l, size_t i, void *handle, atoll_why *why)
{
    const elf_node *node = &l->plan.nodes[i];
    atoll_elf_space *space = l->space;
    member *m = atoll_alloc(sizeof(*m));
    if (m == NULL) {
        dlclose(handle);
        return atoll_because(why, "out of memory");
    }
    *m = (member){
        .next = space->members,
        .number = atoll_elf_space_count(space) + 1,
        .device = atoll_elf_device(node->elf),
        .inode = atoll_elf_inode(node->elf),
        .held = mmap(NULL, 1, PROT_READ, MAP_PRIVATE, node->elf->fd, 0),
        .handle = handle,
        .map = map_of(handle),
        /* Destructors of copied libraries are not to be trusted (libarrow's
         * crash when nothing of Python is left). */
        .pinned = l->group > 1 || hides_threads(node->elf),
    };
    move_names(l, i, m);
    space->members = m;
    if (m->map == NULL) {
        return atoll_because(why, "the loader does not say where it is");
    }
    uintptr_t base = (uintptr_t)m->map->l_addr;
    if (m->held == MAP_FAILED) {
        return atoll_because(why, "cannot map it: %s", strerror(errno));
    }
    if (!atoll_elf_redirect_all(l->copies[i], base, space->redirects,
                                space->redirect_count, why)) {
        return false;
    }
    if (!atoll_elf_share(l->copies[i], base, why)) {
        return false;
    }
    m->old_path = show_as(m->map, l->plan.names[node->name].place, true);
    return true;
}

/* Call what is shared with the process by its own path, not by that in a
 * folder that is about to go. */
static void
name_shared(const loading *l, const elf_name *name)
{
    void *handle = dlopen(name->wanted, RTLD_LAZY | RTLD_NOLOAD);
    struct link_map *map = handle == NULL ? NULL : map_of(handle);
    /* Pairs with the store in show_as: of another thread that loads in another
     * space. Only the one whose folder it is in gives a new name. */
    if (map != NULL &&
        strncmp(at_load_acq(&map->l_name), l->stage.root, strlen(l->stage.root)) == 0) {
        /* The old name is leaked: a reader may be looking at it. */
        (void)show_as(map, name->place, false);
    }
    if (handle != NULL) {
        dlclose(handle);
    }
}

static void
free_member(member *m)
{
    while (m->names != NULL) {
        alias *name = m->names;
        m->names = name->next;
        atoll_free(name);
    }
    if (m->held != MAP_FAILED) {
        munmap(m->held, 1);
    }
    atoll_free(m);
}

static bool
is_loaded(const char *name)
{
    void *handle = dlopen(name, RTLD_LAZY | RTLD_NOLOAD);
    if (handle != NULL) {
        dlclose(handle);
    }
    return handle != NULL;
}

/* Does the loader still have what was closed? All names of a copy are used once
 * in a process; an address may have been used again by another thread. */
static bool
is_stuck(const member *m)
{
    bool stuck = m->old_path != NULL && is_loaded(m->old_path);
    for (const alias *name = m->names; name != NULL && !stuck; name = name->next) {
        stuck = is_loaded(name->text);
    }
    (void)dlerror(); /* nobody asks for the last one */
    return stuck;
}

/* Take out what came after `before`. The loader does not unmap everything: what
 * is marked so, has objects of a thread, or is used by somebody else stays. */
static void
space_undo(atoll_elf_space *space, const member *before)
{
    member *closed = space->members;
    for (member *m = closed; m != before; m = m->next) {
        dlclose(m->handle);
    }
    while (closed != before) {
        member *m = closed;
        closed = m->next;
        if (is_stuck(m)) {
            space->stuck = true; /* and may look at its old path */
        }
        else {
            free(m->old_path); /* the loader has freed the one it had last */
        }
        space->members = closed;
        free_member(m);
    }
}

/* A handle of node `i`; NULL if the loader did not want it after all. */
static void *
handle_of(const loading *l, size_t i)
{
    void *handle = NULL;
    for (size_t k = 0; k < l->plan.name_count && handle == NULL; k++) {
        if (l->plan.names[k].node == i) {
            handle = dlopen(l->names[k]->text, RTLD_LAZY | RTLD_NOLOAD);
        }
    }
    return handle;
}

/* Take what has been loaded with `root` into the space. */
static bool
adopt_all(loading *l, void *root, atoll_why *why)
{
    const member *before = l->space->members;
    for (size_t k = 0; k < l->plan.name_count; k++) {
        const elf_name *name = &l->plan.names[k];
        if (name->by_origin && !l->plan.nodes[name->node].copied) {
            name_shared(l, name);
        }
    }
    for (size_t i = l->plan.count; i-- > 0;) {
        void *handle = root;
        if (i > 0) {
            handle = l->copies[i] == NULL ? NULL : handle_of(l, i);
        }
        if (handle != NULL && !space_adopt(l, i, handle, why)) {
            if (i > 0) {
                dlclose(root);
            }
            release_far(l);
            space_undo(l->space, before);
            return false;
        }
    }
    return true;
}

/* Run the constructors of copy `i`, after those of what it needs. */
static void
space_construct(loading *l, size_t i)
{
    const elf_node *node = &l->plan.nodes[i];
    atoll_elf_copy *copy = l->copies[i];
    if (copy == NULL || l->constructed[i]) {
        return;
    }
    l->constructed[i] = true; /* first: what is needed may be in a circle */
    for (size_t k = 0; k < node->needs_count; k++) {
        space_construct(l, node->needs[k]);
    }
    const member *m =
        find_member(l->space, atoll_elf_device(node->elf), atoll_elf_inode(node->elf));
    if (m != NULL && m->map != NULL) {
        atoll_elf_construct(copy, (uintptr_t)m->map->l_addr);
    }
}

static void *
load_group(loading *l, int mode, atoll_why *why)
{
    char path[PATH_MAX];
    if (!choose_names(l, why) || !make_copies(l, why) || !set_stage(l, why) ||
        !load_far(l, why) || !staged_path(l, 0, path, why)) {
        return NULL;
    }
    void *root = dlopen(path, (mode & ~RTLD_GLOBAL) | RTLD_LOCAL);
    if (root == NULL) {
        space_explain(l, why);
        return NULL;
    }
    if (!adopt_all(l, root, why)) {
        return NULL;
    }
    space_construct(l, 0);
    return root;
}

static bool
space_begin(loading *l, const char *path, atoll_why *why)
{
    if (!elf_plan_make(&l->plan, path, why)) {
        return false;
    }
    size_t nodes = l->plan.count, names = l->plan.name_count;
    l->copies = at_alloc_zeroed(nodes * sizeof(*l->copies));
    l->names = at_alloc_zeroed(names * sizeof(*l->names));
    l->handles = at_alloc_zeroed(names * sizeof(*l->handles));
    l->constructed = at_alloc_zeroed(nodes * sizeof(*l->constructed));
    /* One more: what an object calls itself. */
    l->renames = at_alloc_zeroed((names + 1) * sizeof(*l->renames));
    return (l->copies != NULL && l->names != NULL && l->handles != NULL &&
            l->constructed != NULL && l->renames != NULL) ||
           atoll_because(why, "out of memory");
}

static void
space_finish(loading *l)
{
    /* Copies first: their descriptors may be the last of the process, and to
     * remove a folder takes some. */
    for (size_t i = 0; l->copies != NULL && i < l->plan.count; i++) {
        atoll_elf_copy_free(l->copies[i]);
    }
    elf_stage_remove(&l->stage);
    release_far(l);
    for (size_t k = 0; l->names != NULL && k < l->plan.name_count; k++) {
        atoll_free(l->names[k]);
    }
    atoll_free(l->copies);
    atoll_free(l->names);
    atoll_free(l->handles);
    atoll_free(l->constructed);
    atoll_free(l->renames);
    elf_plan_fini(&l->plan);
}

void *
atoll_elf_space_load(atoll_elf_space *space, const char *path, int mode, bool *fresh,
                     atoll_why *why)
{
    struct stat st;
    if (fresh != NULL) {
        *fresh = false;
    }
    if (stat(path, &st) == 0) {
        member *m = find_member(space, (uint64_t)st.st_dev, (uint64_t)st.st_ino);
        if (m != NULL) {
            return m->handle;
        }
    }
    loading l = {.space = space};
    void *handle = space_begin(&l, path, why) ? load_group(&l, mode, why) : NULL;
    space_finish(&l);
    if (fresh != NULL) {
        *fresh = handle != NULL;
    }
    return handle;
}

/* ---------------------------------------------------------------- questions */

bool
atoll_elf_space_keeps(const atoll_elf_space *space, const void *address)
{
    Dl_info info;
    bool known = address != NULL && dladdr(address, &info) != 0;
    for (const member *m = space->members; m != NULL; m = m->next) {
        if (m->pinned &&
            (!known || (uintptr_t)info.dli_fbase == (uintptr_t)m->map->l_addr)) {
            return true;
        }
    }
    return false;
}

bool
atoll_elf_space_has(const atoll_elf_space *space, size_t count, const void *address)
{
    Dl_info info;
    const member *m = dladdr(address, &info) != 0 ? space->members : NULL;
    while (m != NULL && (uintptr_t)info.dli_fbase != (uintptr_t)m->map->l_addr) {
        m = m->next;
    }
    return m != NULL && m->number > count;
}

size_t
atoll_elf_space_count(const atoll_elf_space *space)
{
    return space->members == NULL ? 0 : space->members->number;
}

void
atoll_elf_space_each(const atoll_elf_space *space,
                     void (*visit)(void *handle, void *arg), void *arg)
{
    for (const member *m = space->members; m != NULL; m = m->next) {
        visit(m->handle, arg);
    }
}

void
atoll_elf_space_drop_last(atoll_elf_space *space, size_t count)
{
    const member *before = space->members;
    while (before != NULL && before->number > count) {
        before = before->next;
    }
    space_undo(space, before);
}

bool
atoll_elf_space_free(atoll_elf_space *space, bool unload)
{
    while (space->members != NULL) {
        member *m = space->members;
        if (unload && !m->pinned) {
            space_undo(space, m->next);
            continue;
        }
        /* Its old path stays, too: it may have asked for that and use it. */
        space->stuck = true;
        space->members = m->next;
        free_member(m);
    }
    bool all = !space->stuck;
    atoll_free(space);
    return all;
}
