/* Threads that come into an interpreter by way of a copy, and what else CPython takes
 * to mean the main interpreter. See isolate/api.h. */
#include "isolate/api.h"

#include "cpython/version.h"

static visitor *
find_visitor(isolate *iso)
{
    atoll_thread self = atoll_thread_self();
    atoll_lock_acquire(&iso->lock);
    visitor *v = iso->visitors;
    while (v != NULL && v->thread != self) {
        v = v->next;
    }
    atoll_lock_release(&iso->lock);
    return v; /* its own: nobody else removes it */
}

/* A thread state of this interpreter that CPython knows for this thread. */
static PyThreadState *
own_state(isolate *iso)
{
    PyThreadState *ts = PyGILState_GetThisThreadState();
    return ts != NULL && PyThreadState_GetInterpreter(ts) == iso->interp ? ts : NULL;
}

/* Then CPython may be finalising, and to delete a thread state is fatal. */
static bool
is_abandoned(isolate *iso)
{
    atoll_lock_acquire(&iso->lock);
    bool abandoned = iso->abandoned;
    atoll_lock_release(&iso->lock);
    return abandoned;
}

/* Enter `v`, unless the interpreter is being closed: then wait until that has
 * come to nothing, or for ever, as CPython lets late threads do. */
static void
gil_enter(isolate *iso, visitor *v)
{
    static const atoll_wait forever = {.deadline = ATOLL_FOREVER};
    atoll_lock_acquire(&iso->lock);
    while (iso->closing || iso->abandoned) {
        atoll_event *resumed = iso->ended || iso->abandoned ? NULL : iso->resumed;
        iso->late++; /* nobody may wait for it: see api_at_process_exit */
        atoll_lock_release(&iso->lock);
        if (resumed == NULL) {
            atoll_thread_halt();
        }
        (void)!atoll_event_wait(resumed, &forever);
        atoll_lock_acquire(&iso->lock);
        iso->late--;
    }
    v->next = iso->visitors;
    iso->visitors = v;
    atoll_lock_release(&iso->lock);
}

static void
gil_leave(isolate *iso, visitor *v)
{
    atoll_lock_acquire(&iso->lock);
    visitor **link = &iso->visitors;
    while (*link != v) {
        link = &(*link)->next;
    }
    *link = v->next;
    if (iso->visitors == NULL && iso->quiet != NULL) {
        atoll_event_set(iso->quiet);
    }
    atoll_lock_release(&iso->lock);
    atoll_free(v);
}

PyGILState_STATE
api_gilstate_ensure(isolate *iso)
{
    visitor *v = find_visitor(iso);
    if (v != NULL) {
        v->depth++;
        if (PyThreadState_GetUnchecked() == v->state) {
            return PyGILState_LOCKED;
        }
        PyEval_RestoreThread(v->state);
        return PyGILState_UNLOCKED;
    }
    PyThreadState *own = own_state(iso);
    /* Not when it has been left at exit: its GIL is for nobody then, and the state may
     * be the one that this thread's last visit has left. */
    if (own != NULL && (PyThreadState_GetUnchecked() == own || !is_abandoned(iso))) {
        return PyGILState_Ensure(); /* right, for once */
    }
    v = atoll_alloc(sizeof(*v));
    if (v == NULL) {
        Py_FatalError("no memory for a thread that calls into Python");
    }
    *v = (visitor){.thread = atoll_thread_self(), .depth = 1};
    v->before = PyThreadState_GetUnchecked();
    if (v->before != NULL) {
        PyEval_SaveThread(); /* of another interpreter */
    }
    gil_enter(iso, v);
    v->state = PyThreadState_New(iso->interp);
    if (v->state == NULL) {
        Py_FatalError("no memory for a thread that calls into Python");
    }
    PyEval_RestoreThread(v->state);
    return PyGILState_UNLOCKED;
}

void
api_gilstate_release(PyGILState_STATE old, isolate *iso)
{
    visitor *v = find_visitor(iso);
    if (v == NULL) {
        PyGILState_Release(old);
    }
    else if (v->depth > 1) {
        v->depth--;
        if (old == PyGILState_UNLOCKED) {
            PyEval_SaveThread();
        }
    }
    else {
        PyThreadState *before = v->before;
        if (is_abandoned(iso)) {
            PyEval_SaveThread(); /* what else it takes is gone, or going */
        }
        else {
            /* With its depth still 1: this calls the ends of thread-local objects,
             * which may take the GIL in turn, and are not to come here again. */
            PyThreadState_Clear(v->state);
            PyThreadState_DeleteCurrent();
        }
        gil_leave(iso, v);
        if (before != NULL) {
            PyEval_RestoreThread(before);
        }
    }
}

PyThreadState *
api_gilstate_this(isolate *iso)
{
    visitor *v = find_visitor(iso);
    return v != NULL ? v->state : own_state(iso);
}

int
api_gilstate_check(isolate *iso)
{
    PyThreadState *ts = PyThreadState_GetUnchecked();
    return ts != NULL && PyThreadState_GetInterpreter(ts) == iso->interp;
}

/* Is there an interpreter to come into, for this thread? Libraries ask before they
 * drop references from threads of their own (libarrow), and are spared to wait for
 * ever by a no. */
static bool
gil_is_open(isolate *iso)
{
    atoll_lock_acquire(&iso->lock);
    bool closing = iso->closing || iso->abandoned, ended = iso->ended;
    atoll_lock_release(&iso->lock);
    /* One that is in, or belongs here, may go on until the end. */
    return !ended && (!closing || own_state(iso) != NULL || find_visitor(iso) != NULL);
}

int
api_is_initialized(isolate *iso)
{
    return Py_IsInitialized() && gil_is_open(iso);
}

int
api_is_finalizing(isolate *iso)
{
    return Py_IsFinalizing() || !gil_is_open(iso);
}

PyInterpreterState *
api_interpreter_main(isolate *iso)
{
    return iso->interp;
}

/* NULL is how extensions see that there is nothing left to clean up in. */
PyInterpreterState *
api_interpreter_head(isolate *iso)
{
    atoll_lock_acquire(&iso->lock);
    PyInterpreterState *interp = iso->ended ? NULL : iso->interp;
    atoll_lock_release(&iso->lock);
    return interp;
}

int
api_add_pending_call(int (*func)(void *), void *arg, isolate *iso)
{
    /* Under the lock: isolate_close sets `closing` before it is ended. */
    atoll_lock_acquire(&iso->lock);
    int rc = iso->closing ? 0 /* as if it ran when nothing is left */
                          : compat_add_pending_call(iso->interp, func, arg);
    atoll_lock_release(&iso->lock);
    return rc;
}

int
api_at_exit(void (*func)(void), isolate *iso)
{
    isolate_exit *entry = isolate_alloc(iso, sizeof(*entry));
    if (entry == NULL) {
        return -1;
    }
    *entry = (isolate_exit){iso->exits, func};
    iso->exits = entry;
    return 0;
}

/* In the child of a fork that goes on to start a program (libuv's, in uvloop):
 * CPython ends the process if this is not main. There is nothing to be done for
 * a program; os.fork() itself is refused in interpreters. */
void
api_after_fork_child(isolate *Py_UNUSED(iso))
{
}
