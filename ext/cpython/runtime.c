/* CPython's list of interpreters.
 *
 * CPython aborts in the child of a fork while any sub-interpreter lives
 * (gh-139759, gh-101437), and crashes at process exit if one still runs. Both
 * times the mend is that it does not see them: the main interpreter becomes
 * the only entry of its list. Where the list is and how it is linked is read
 * from the table of offsets that CPython keeps for debuggers at the start of
 * _PyRuntime; it exists for readers that do not know the build, and its head
 * is the same in 3.13, 3.14 and 3.15. */
#include <string.h>

#include "cpython/runtime.h"

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
runtime_head(void)
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

/* CPython's lock of its lists of interpreters and of thread states: a byte, and
 * padding, in front of the list's head. NULL if it is not there, in versions to come.
 */
static PyMutex *list_lock; /* constant after runtime_init */

static void
find_lock(void)
{
    static const uint8_t padding[sizeof(void *) - 1];
    uint8_t *place = (uint8_t *)_PyRuntime + head_offset - sizeof(void *);
    if (sizeof(PyMutex) == 1 && memcmp(place + 1, padding, sizeof(padding)) == 0) {
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

PyAPI_FUNC(PyObject *) _PyThreadState_GetDict(PyThreadState *);

PyObject *
runtime_thread_dict(PyThreadState *ts)
{
    return _PyThreadState_GetDict(ts);
}

void
runtime_unlink(PyInterpreterState *interp)
{
    PyInterpreterState **link = runtime_head();
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
        *runtime_head() = main;
    }
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
    return memcmp(offsets.cookie, "xdebugpy", 8) == 0 && *runtime_head() == first &&
           *next_of(first) == PyInterpreterState_Next(first);
}

static atoll_lock once_lock;
static bool once_done;  /* guarded by once_lock */
static bool list_found; /* guarded by once_lock */

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
        arena_init();
    }
    bool found = list_found;
    atoll_lock_release(&once_lock);
    if (!found) {
        PyErr_SetString(PyExc_ImportError,
                        "atoll does not know this build of CPython: its list "
                        "of interpreters is not where it says it is");
        return -1;
    }
    return 0;
}
