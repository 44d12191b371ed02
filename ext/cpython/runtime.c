/* CPython's list of interpreters, and forks.
 *
 * CPython aborts in the child of a fork while any sub-interpreter lives
 * (gh-139759, gh-101437), and crashes at process exit if one still runs. Both
 * times the mend is that it does not see them: the main interpreter becomes
 * the only entry of its list. Where the list is and how it is linked is read
 * from the table of offsets that CPython keeps for debuggers at the start of
 * _PyRuntime; it exists for readers that do not know the build, and its head
 * is the same in 3.13, 3.14 and 3.15. */
#include <string.h>

#include "wait/wait.h"
#include "frozen/frozen.h"
#include "home/home.h"
#include "home/spare.h"
#include "isolate/isolate.h"
#include "wait/mail.h"
#include "output/output.h"
#include "pool/pool.h"
#include "watch/trace.h"
#include "wait/visit.h"
#include "wire/wire.h"

/* The head of CPython's table, as far as we use it. */
typedef struct debug_offsets {
    char cookie[8];
    uint64_t version;
    uint64_t free_threaded;
    struct {
        uint64_t size, finalizing, interpreters_head;
    } runtime;
    struct {
        uint64_t size, id, next;
    } interpreter;
} debug_offsets;

extern char _PyRuntime[]; /* exported by CPython; its table is at the start */

static uint64_t head_offset, next_offset; /* constant after runtime_init */

static PyInterpreterState **
head(void)
{
    return (PyInterpreterState **)(void *)(_PyRuntime + head_offset);
}

static PyInterpreterState **
next_of(PyInterpreterState *interp)
{
    return (PyInterpreterState **)(void *)((char *)interp + next_offset);
}

const char *
runtime_memory(size_t *size)
{
    debug_offsets offsets;
    memcpy(&offsets, _PyRuntime, sizeof(offsets));
    *size = offsets.runtime.size;
    return _PyRuntime;
}

/* CPython's lock of its lists of interpreters and of thread states: a byte, and padding,
 * in front of the list's head. NULL if it is not there, in versions to come. */
static PyMutex *list_lock; /* constant after runtime_init */

static void
find_lock(void)
{
    static const uint8_t padding[sizeof(void *) - 1];
    uint8_t *place = (uint8_t *)_PyRuntime + head_offset - sizeof(void *);
    if (sizeof(PyMutex) == 1 &&
        memcmp(place + 1, padding, sizeof(padding)) == 0) {
        list_lock = (PyMutex *)(void *)place;
    }
}

void
runtime_lock_threads(void)
{
    /* Not PyMutex_Lock: it may give up the GIL, and want it back with the lock. */
    if (list_lock != NULL) {
        atoll_byte_acquire(&list_lock->_bits);
    }
}

void
runtime_unlock_threads(void)
{
    if (list_lock != NULL) {
        PyMutex_Unlock(list_lock);
    }
}

void
runtime_unlink(PyInterpreterState *interp)
{
    PyInterpreterState **link = head();
    while (*link != NULL && *link != interp) {
        link = next_of(*link);
    }
    if (*link == interp) {
        *link = *next_of(interp);
    }
}

void
runtime_unlink_all(void)
{
    PyInterpreterState *main = PyInterpreterState_Main();
    if (main != NULL) {
        *next_of(main) = NULL;
        *head() = main;
    }
}

/* ----------------------------------------------------------- fork handlers */

static void
before_fork(void)
{
    waits_fork_prepare();
    pools_fork_prepare();
    home_fork_prepare();
    output_fork_prepare();
    atoll_fork_prepare();
    arena_fork_prepare();
    frozen_fork_prepare();
}

static void
after_fork_in_parent(void)
{
    frozen_fork_parent();
    arena_fork_parent();
    atoll_fork_parent();
    output_fork_parent();
    home_fork_parent();
    pools_fork_parent();
    waits_fork_parent();
}

/* Runs inside fork(), before CPython's own PyOS_AfterFork_Child. */
static void
after_fork_in_child(void)
{
    forks_child();
    arena_fork_child();
    frozen_fork_child();
    frozen_static_fork_child();
    frozen_check_fork_child();
    atoll_trace_fork_child();
    atoll_fork_child();
    home_fork_child();
    spare_fork_child();
    output_fork_child();
    xfer_fork_child();
    service_fork_child();
    callers_fork_child();
    mailbox_fork_child();
    detach_fork_child();
    waits_fork_child();
    watch_fork_child();
    visit_fork_child();
    pools_fork_child();
    threads_fork_child();
    isolate_numbers_fork_child();
    isolate_declared_fork_child();
    atoll_signals_fork_child();
    runtime_unlink_all();
}

static bool
find_list(void)
{
    debug_offsets offsets;
    memcpy(&offsets, _PyRuntime, sizeof(offsets));
    head_offset = offsets.runtime.interpreters_head;
    next_offset = offsets.interpreter.next;
    /* Believe it only if it leads to what the public API says. */
    PyInterpreterState *first = PyInterpreterState_Head();
    return memcmp(offsets.cookie, "xdebugpy", 8) == 0 && *head() == first &&
           *next_of(first) == PyInterpreterState_Next(first);
}

static atoll_lock once_lock;
static bool once_done;       /* guarded by once_lock */
static bool list_found;      /* guarded by once_lock */
static atoll_err hooks_err;  /* guarded by once_lock */

int
runtime_init(void)
{
    /* Once, and not at each import: others come and go in the list. */
    atoll_lock_acquire(&once_lock);
    if (!once_done) {
        once_done = true;
        list_found = find_list();
        if (list_found) {
            find_lock();
        }
        hooks_err = atoll_fork_hooks(before_fork, after_fork_in_parent,
                                     after_fork_in_child);
        arena_init();
    }
    bool found = list_found, hooked = hooks_err == ATOLL_OK;
    atoll_lock_release(&once_lock);
    if (!found) {
        PyErr_SetString(PyExc_ImportError,
                        "atoll does not know this build of CPython: its list "
                        "of interpreters is not where it says it is");
        return -1;
    }
    if (!hooked) {
        PyErr_NoMemory();
        return -1;
    }
    return 0;
}
