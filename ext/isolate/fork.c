/* Fork handlers of copies.
 *
 * A library that registers handlers (pthread_atfork) does so in each copy. If a
 * thread of one interpreter forks, those of the others are not to run: they may
 * take a GIL in the child (uvloop's does), where none of the others' threads are.
 * So there is one set of handlers for all copies, which calls those of the
 * interpreter that the forking thread belongs to.
 *
 * Those of main's own libraries are called by the system, also in the child of an
 * interpreter's thread. uvloop's is dangerous there: it does what is due in the
 * child of a program that main is about to start, if main is. */
#include <dlfcn.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "isolate/api.h"

typedef struct fork_entry {
    struct fork_entry *next, *before; /* guarded by the lock, as all else here */
    isolate *iso;
    void (*handlers[3])(void); /* prepare, parent, child; each may be NULL */
} fork_entry;

static atoll_lock lock;
static fork_entry *first, *last; /* in the order in which they came */
static bool registered;

/* The next entry after `e` (NULL: the first) of the calling thread's interpreter. */
static fork_entry *
next_of_ours(fork_entry *e, bool backwards)
{
    PyThreadState *ts = PyGILState_GetThisThreadState();
    PyInterpreterState *interp = ts == NULL ? NULL : PyThreadState_GetInterpreter(ts);
    atoll_lock_acquire(&lock);
    do {
        if (e == NULL) {
            e = backwards ? last : first;
        }
        else {
            e = backwards ? e->before : e->next;
        }
    } while (e != NULL && e->iso->interp != interp);
    atoll_lock_release(&lock);
    return e;
}

static void
run_handlers(size_t which)
{
    bool backwards = which == 0; /* as POSIX says of `prepare` */
    for (fork_entry *e = next_of_ours(NULL, backwards); e != NULL;
         e = next_of_ours(e, backwards)) {
        if (e->handlers[which] != NULL) {
            e->handlers[which]();
        }
    }
}

static void
forks_run_prepare(void)
{
    run_handlers(0);
    atoll_lock_acquire(&lock);
}

static void
run_parent(void)
{
    atoll_lock_release(&lock);
    run_handlers(1);
}

static void
run_child(void)
{
    lock.word = 0;
    run_handlers(2);
}

/* __register_atfork, which is what pthread_atfork calls. */
int
api_register_atfork(void (*prepare)(void), void (*parent)(void), void (*child)(void),
                    void *library, isolate *iso)
{
    (void)library;
    fork_entry *e = atoll_alloc(sizeof(*e));
    if (e == NULL) {
        return ENOMEM;
    }
    *e = (fork_entry){NULL, NULL, iso, {prepare, parent, child}};
    atoll_lock_acquire(&lock);
    bool good = registered ||
                atoll_fork_hooks(forks_run_prepare, run_parent, run_child) == ATOLL_OK;
    if (good) {
        registered = true;
        e->before = last;
        *(last == NULL ? &first : &last->next) = e;
        last = e;
    }
    atoll_lock_release(&lock);
    if (!good) {
        atoll_free(e);
    }
    return good ? 0 : 12;
}

/* ------------------------------------------------- uvloop's original, in main */

static const char hook_name[] = "__forkHandler";
static char *hook_path; /* guarded by lock: of a file that has such a hook */
static void **hook;     /* guarded by lock: main's; NULL: has none, or no file */

void
forks_found(void *handle, const char *path)
{
    if (dlsym(handle, hook_name) == NULL) {
        return;
    }
    atoll_lock_acquire(&lock);
    if (hook_path == NULL) {
        hook_path = strdup(path);
    }
    atoll_lock_release(&lock);
}

void
forks_prepare(void)
{
    atoll_lock_acquire(&lock);
    const char *path = hook == NULL ? hook_path : NULL; /* for ever */
    atoll_lock_release(&lock);
    void *handle = path == NULL ? NULL : dlopen(path, RTLD_LAZY | RTLD_NOLOAD);
    if (handle != NULL) { /* which main does not close */
        atoll_lock_acquire(&lock);
        hook = dlsym(handle, hook_name);
        atoll_lock_release(&lock);
    }
}

/* The handlers are called in the order in which they came, so this is in time
 * unless main has started programs with uvloop before it imported atoll. */
void
forks_child(void)
{
    lock.word = 0; /* of the others: see run_child, which may not be registered */
    PyThreadState *ts = PyGILState_GetThisThreadState();
    if (hook != NULL && ts != NULL &&
        PyThreadState_GetInterpreter(ts) != PyInterpreterState_Main()) {
        *hook = NULL;
    }
}

void
forks_forget(isolate *iso)
{
    atoll_lock_acquire(&lock);
    for (fork_entry *e = first, *next; e != NULL; e = next) {
        next = e->next;
        if (e->iso == iso) {
            *(e->before == NULL ? &first : &e->before->next) = e->next;
            *(e->next == NULL ? &last : &e->next->before) = e->before;
            atoll_free(e);
        }
    }
    atoll_lock_release(&lock);
}
