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
#include <sys/stat.h>

#include "at_atomic.h"
#include "at_base.h"
#include "elf_stage.h"

/* Bytes of a name that are replaced, if it has so many. */
#define UNIQUE 7

typedef struct member {
    struct member *next; /* the one that was loaded before */
    uint64_t device, inode;
    void *handle;
    struct link_map *map;
    char *name;     /* unique, as a library; owned */
    char *old_path; /* what the loader called it; its memory; or NULL */
    bool pinned;    /* stays when the space goes */
    bool hides_threads;
} member;

struct atoll_elf_space {
    const atoll_elf_redirect *redirects;
    size_t redirect_count;
    member *members; /* the newest first */
};

/* One load under way: what is known of each node of the plan. */
typedef struct loading {
    atoll_elf_space *space;
    elf_plan plan;
    elf_stage stage;
    atoll_elf_copy **copies; /* NULL: not copied, or there already */
    char **names;            /* unique ones; NULL: not copied */
    atoll_elf_rename *renames;
    size_t rename_count;
} loading;

atoll_elf_space *
atoll_elf_space_new(const atoll_elf_redirect *redirects, size_t count)
{
    atoll_elf_space *space = atoll_alloc(sizeof(*space));
    if (space != NULL) {
        *space = (atoll_elf_space){redirects, count, NULL};
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

/* Give each copy its name, the one it has if it is there already. */
static bool
choose_names(loading *l, atoll_why *why)
{
    for (size_t i = 0; i < l->plan.count; i++) {
        elf_node *node = &l->plan.nodes[i];
        if (!node->copied) {
            continue;
        }
        member *m = find_member(l->space, atoll_elf_device(node->elf),
                                atoll_elf_inode(node->elf));
        l->names[i] = elf_copy_text(m != NULL ? m->name : node->wanted);
        if (l->names[i] == NULL) {
            return atoll_because(why, "out of memory");
        }
        if (m == NULL) {
            make_unique(l->names[i]);
        }
        size_t length = strlen(node->wanted);
        if (strlen(l->names[i]) == length) {
            l->renames[l->rename_count++] = (atoll_elf_rename){
                node->wanted, l->names[i], length < UNIQUE ? length : UNIQUE};
        }
    }
    return true;
}

/* ------------------------------------------------------------------ staging */

static bool
make_copies(loading *l, atoll_why *why)
{
    for (size_t i = 0; i < l->plan.count; i++) {
        elf_node *node = &l->plan.nodes[i];
        if (!node->copied ||
            find_member(l->space, atoll_elf_device(node->elf),
                        atoll_elf_inode(node->elf)) != NULL) {
            continue;
        }
        l->copies[i] = atoll_elf_copy_new(node->elf, node->wanted, l->renames,
                                          l->rename_count, why);
        if (l->copies[i] == NULL) {
            return false;
        }
    }
    return true;
}

/* Where the copy of node `i` is seen. */
static bool
copy_path(const loading *l, size_t i, char out[PATH_MAX])
{
    const elf_node *node = &l->plan.nodes[i];
    if (i == 0 || node->by_origin) {
        return elf_stage_path(&l->stage, node->place,
                              i == 0 ? node->wanted : l->names[i], out);
    }
    int n = snprintf(out, PATH_MAX, "%s/%s", l->stage.root, l->names[i]);
    return n > 0 && n < PATH_MAX;
}

static bool
set_stage(loading *l, atoll_why *why)
{
    if (!elf_stage_make(&l->stage, &l->plan, why)) {
        return false;
    }
    for (size_t i = 0; i < l->plan.count; i++) {
        const elf_node *node = &l->plan.nodes[i];
        char path[PATH_MAX], target[PATH_MAX];
        if (l->copies[i] != NULL) {
            snprintf(target, sizeof(target), "/proc/self/fd/%d",
                     atoll_elf_copy_fd(l->copies[i]));
            if (!copy_path(l, i, path)) {
                return atoll_because(why, "its path is too long");
            }
        }
        else if (!node->copied && node->by_origin) {
            snprintf(target, sizeof(target), "%s", node->path);
            if (!elf_stage_path(&l->stage, node->place, node->wanted, path)) {
                return atoll_because(why, "its path is too long");
            }
        }
        else {
            continue;
        }
        if (!elf_stage_link(&l->stage, path, target, why)) {
            return false;
        }
    }
    return true;
}

/* ------------------------------------------------------------------ loading */

/* What dlopen says, with the places that people know. */
static void
explain(const loading *l, atoll_why *why)
{
    const char *error = dlerror();
    const char *text = error != NULL ? error : "no reason given";
    size_t root = strlen(l->stage.root), used = 0;
    while (*text != '\0' && used + 1 < sizeof(why->text)) {
        if (strncmp(text, l->stage.root, root) == 0) {
            size_t room = sizeof(why->text) - used;
            int n = snprintf(why->text + used, room, "%.*s",
                             (int)l->stage.prefix, l->plan.nodes[0].place);
            used += n > 0 && (size_t)n < room ? (size_t)n : 0;
            text += root;
        }
        else {
            why->text[used++] = *text++;
        }
    }
    why->text[used] = '\0';
}

/* Libraries that are not found by their origin must be there before. */
static bool
load_far(loading *l, atoll_why *why)
{
    for (size_t i = l->plan.count; i-- > 1;) {
        char path[PATH_MAX];
        if (l->copies[i] == NULL || !l->plan.nodes[i].far) {
            continue;
        }
        /* Kept by those that need it; if there are none, it stays. */
        if (!copy_path(l, i, path) ||
            dlopen(path, RTLD_LAZY | RTLD_LOCAL) == NULL) {
            explain(l, why);
            return false;
        }
    }
    return true;
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
    sprintf(text, "%.*s%s%s", (int)folder, place, unusual ? "/." : "",
            place + folder);
    char *old = map->l_name;
    map->l_name = text;
    return old;
}

static struct link_map *
map_of(void *handle)
{
    struct link_map *map = NULL;
    return dlinfo(handle, RTLD_DI_LINKMAP, &map) == 0 ? map : NULL;
}

/* Does the constructor-run object start threads where we cannot see it? */
static bool
hides_threads(const atoll_elf *elf)
{
    return atoll_elf_imports_prefix(elf, "_ZNSt6thread15_M_start_thread") ||
           atoll_elf_imports(elf, "thrd_create");
}

/* Take node `i`, which is loaded, into the space; `handle` becomes its, also on
 * an error. */
static bool
adopt(loading *l, size_t i, void *handle, atoll_why *why)
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
        .device = atoll_elf_device(node->elf),
        .inode = atoll_elf_inode(node->elf),
        .handle = handle,
        .map = map_of(handle),
        .name = l->names[i],
        .pinned = l->rename_count > 1, /* it came with copied libraries */
        .hides_threads = hides_threads(node->elf),
    };
    l->names[i] = NULL;
    space->members = m;
    if (m->map == NULL) {
        return atoll_because(why, "the loader does not say where it is");
    }
    uintptr_t base = (uintptr_t)m->map->l_addr;
    if (!atoll_elf_redirect_all(l->copies[i], base, space->redirects,
                                space->redirect_count, why)) {
        return false;
    }
    atoll_elf_share(l->copies[i], base);
    m->old_path = show_as(m->map, node->place, true);
    return true;
}

/* Call what is shared with the process by its own path, not by that in a
 * folder that is about to go. */
static void
name_shared(const loading *l, const elf_node *node)
{
    void *handle = dlopen(node->wanted, RTLD_LAZY | RTLD_NOLOAD);
    struct link_map *map = handle == NULL ? NULL : map_of(handle);
    if (map != NULL && strncmp(map->l_name, l->stage.root,
                               strlen(l->stage.root)) == 0) {
        /* The old name is leaked: a reader may be looking at it. */
        (void)show_as(map, node->place, false);
    }
    if (handle != NULL) {
        dlclose(handle);
    }
}

/* Take out what this load has put in. */
static void
undo(atoll_elf_space *space, const member *before)
{
    while (space->members != before) {
        member *m = space->members;
        space->members = m->next;
        char *old_path = m->old_path;
        dlclose(m->handle);
        free(old_path); /* the loader frees the one it has now */
        atoll_free(m->name);
        atoll_free(m);
    }
}

static void *
load_group(loading *l, int mode, atoll_why *why)
{
    char path[PATH_MAX];
    const member *before = l->space->members;
    if (!choose_names(l, why) || !make_copies(l, why) || !set_stage(l, why) ||
        !load_far(l, why)) {
        return NULL;
    }
    if (!copy_path(l, 0, path)) {
        atoll_because(why, "its path is too long");
        return NULL;
    }
    void *root = dlopen(path, (mode & ~RTLD_GLOBAL) | RTLD_LOCAL);
    if (root == NULL) {
        explain(l, why);
        return NULL;
    }
    for (size_t i = l->plan.count; i-- > 0;) {
        const elf_node *node = &l->plan.nodes[i];
        void *handle = root;
        if (l->copies[i] == NULL) {
            if (!node->copied && node->by_origin) {
                name_shared(l, node);
            }
            continue;
        }
        if (i > 0) {
            handle = dlopen(l->names[i], RTLD_LAZY | RTLD_NOLOAD);
            if (handle == NULL) {
                continue; /* the loader did not want it after all */
            }
        }
        if (!adopt(l, i, handle, why)) {
            undo(l->space, before);
            return NULL;
        }
    }
    return root;
}

static bool
begin(loading *l, const char *path, atoll_why *why)
{
    if (!elf_plan_make(&l->plan, path, why)) {
        return false;
    }
    size_t n = l->plan.count;
    l->copies = atoll_alloc(n * sizeof(*l->copies));
    l->names = atoll_alloc(n * sizeof(*l->names));
    l->renames = atoll_alloc(n * sizeof(*l->renames));
    for (size_t i = 0; i < n; i++) {
        if (l->copies != NULL) {
            l->copies[i] = NULL;
        }
        if (l->names != NULL) {
            l->names[i] = NULL;
        }
    }
    return (l->copies != NULL && l->names != NULL && l->renames != NULL) ||
           atoll_because(why, "out of memory");
}

static void
finish(loading *l)
{
    elf_stage_remove(&l->stage);
    for (size_t i = 0; i < l->plan.count; i++) {
        if (l->copies != NULL) {
            atoll_elf_copy_free(l->copies[i]);
        }
        if (l->names != NULL) {
            atoll_free(l->names[i]);
        }
    }
    atoll_free(l->copies);
    atoll_free(l->names);
    atoll_free(l->renames);
    elf_plan_fini(&l->plan);
}

void *
atoll_elf_space_load(atoll_elf_space *space, const char *path, int mode,
                     bool *fresh, atoll_why *why)
{
    struct stat st;
    if (fresh != NULL) {
        *fresh = false;
    }
    if (stat(path, &st) == 0) {
        member *m = find_member(space, (uint64_t)st.st_dev,
                                (uint64_t)st.st_ino);
        if (m != NULL) {
            return m->handle;
        }
    }
    loading l = {.space = space};
    void *handle =
        begin(&l, path, why) ? load_group(&l, mode, why) : NULL;
    finish(&l);
    if (fresh != NULL) {
        *fresh = handle != NULL;
    }
    return handle;
}

/* ---------------------------------------------------------------- questions */

bool
atoll_elf_space_hides_threads(const atoll_elf_space *space)
{
    bool hides = false;
    for (const member *m = space->members; m != NULL; m = m->next) {
        hides |= m->hides_threads;
    }
    return hides;
}

size_t
atoll_elf_space_count(const atoll_elf_space *space)
{
    size_t count = 0;
    for (const member *m = space->members; m != NULL; m = m->next) {
        count++;
    }
    return count;
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
    for (size_t here = atoll_elf_space_count(space); here > count; here--) {
        before = before->next;
    }
    undo(space, before);
}

bool
atoll_elf_space_free(atoll_elf_space *space, bool unload)
{
    bool all = true;
    while (space->members != NULL) {
        member *m = space->members;
        if (unload && !m->pinned) {
            undo(space, m->next);
            continue;
        }
        all = false;
        space->members = m->next;
        atoll_free(m->name);
        atoll_free(m);
    }
    atoll_free(space);
    return all;
}
