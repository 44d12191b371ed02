/* atoll.Condition. See sync/sync.h. */
#include "sync/sync.h"
#include "wait/wait.h"

static PyObject *
cond_new(PyTypeObject *type, PyObject *args, PyObject *kwargs)
{
    static char *keywords[] = {"lock", NULL};
    core_state *state = PyType_GetModuleState(type);
    PyObject *lock = NULL;
    if (!PyArg_ParseTupleAndKeywords(args, kwargs, "|O:Condition", keywords, &lock)) {
        return NULL;
    }
    atoll_sync *mutex = NULL, *sync = NULL;
    atoll_err err = ATOLL_OK;
    if (lock == NULL || lock == Py_None) {
        err = atoll_sync_new(ATOLL_RLOCK, &mutex);
    }
    else if (Py_IS_TYPE(lock, state->sync->types[ATOLL_LOCK]) ||
             Py_IS_TYPE(lock, state->sync->types[ATOLL_RLOCK])) {
        mutex = atoll_sync_ref(((syncobj *)lock)->sync);
    }
    else {
        return PyErr_Format(PyExc_TypeError,
                            "lock must be an atoll.Lock or atoll.RLock, not "
                            "%T: another cannot be used by all interpreters",
                            lock);
    }
    if (err == ATOLL_OK) {
        err = atoll_cond_new(mutex, &sync);
        atoll_sync_unref(mutex);
    }
    return sync_made(type, err, sync);
}

/* The condition's lock, as an object. */
static PyObject *
cond_lock_of(PyObject *obj)
{
    syncobj *self = (syncobj *)obj;
    return sync_get(self->state, atoll_cond_mutex(self->sync));
}

/* acquire(), release() and locked() are the lock's. */
static PyObject *
cond_acquire(PyObject *obj, PyObject *const *args, Py_ssize_t nargs, PyObject *kwnames)
{
    syncobj *self = (syncobj *)obj;
    return sync_lock_acquire(self->state, atoll_cond_mutex(self->sync), args, nargs,
                             kwnames);
}

static PyObject *
cond_enter(PyObject *obj, PyObject *Py_UNUSED(ignored))
{
    return cond_acquire(obj, NULL, 0, NULL);
}

static PyObject *
cond_release(PyObject *obj, PyObject *Py_UNUSED(ignored))
{
    syncobj *self = (syncobj *)obj;
    return sync_lock_release(self->state, atoll_cond_mutex(self->sync));
}

static PyObject *
cond_exit(PyObject *obj, PyObject *const *Py_UNUSED(args), Py_ssize_t Py_UNUSED(nargs))
{
    return cond_release(obj, NULL);
}

static PyObject *
cond_locked(PyObject *obj, PyObject *Py_UNUSED(ignored))
{
    atoll_mutex_state look;
    atoll_mutex_look(atoll_cond_mutex(((syncobj *)obj)->sync), &look);
    return PyBool_FromLong(look.held);
}

static bool
must_own(syncobj *self, const char *verb)
{
    if (sync_is_owned(self->state, atoll_cond_mutex(self->sync))) {
        return true;
    }
    PyErr_Format(PyExc_RuntimeError, "cannot %s on un-acquired lock", verb);
    return false;
}

/* ------------------------------------------------------------------ waiting */

/* An exception that cannot be raised yet; an earlier one is its context. */
static void
keep_exception(PyObject **kept)
{
    PyObject *exc = PyErr_GetRaisedException();
    if (*kept != NULL) {
        PyException_SetContext(exc, *kept); /* takes the reference */
    }
    *kept = exc;
}

/* Lock it again: who waits in `with condition:` will release it. So an interrupt is
 * kept until it is locked, and so is the news of an owner's death. But a second
 * interrupt is meant: then it goes without the lock, and the releases to come do
 * nothing. Not if it is of the parent of this process. */
static void
lock_again(core_state *state, atoll_sync *mutex, uint64_t depth, PyObject **kept)
{
    bool interrupted = *kept != NULL;
    atoll_err err;
    do {
        if (sync_take(state, mutex, ATOLL_FOREVER, &err) < 0) {
            keep_exception(kept);
            if (interrupted && sync_owe(state, mutex, depth)) {
                return;
            }
            interrupted = true;
            err = ATOLL_ERR_INTERRUPTED;
            continue;
        }
        if (err == ATOLL_OK && depth > 1) {
            atoll_mutex_deepen(mutex, depth);
        }
        if (err != ATOLL_OK) {
            sync_raise(state, mutex, err);
            keep_exception(kept);
        }
    } while (err == ATOLL_ERR_INTERRUPTED || err == ATOLL_ERR_OWNER_DIED);
}

/* 1: notified; 0: not in time; -1 with an exception. The lock is held as before, but
 * for two interrupts. */
static int
wait_until(syncobj *self, int64_t deadline)
{
    core_state *state = self->state;
    atoll_sync *mutex = atoll_cond_mutex(self->sync);
    atoll_turn turn;
    uint64_t depth;
    atoll_err err = atoll_cond_enter(self->sync, &turn);
    if (err == ATOLL_OK) {
        err = atoll_mutex_drop(mutex, sync_me(state), &depth);
        if (err != ATOLL_OK) {
            (void)atoll_cond_leave(self->sync, &turn);
        }
    }
    if (err == ATOLL_ERR_INVALID) {
        PyErr_SetString(PyExc_RuntimeError, "cannot wait on un-acquired lock");
        return -1;
    }
    if (err != ATOLL_OK) {
        sync_raise(state, self->sync, err);
        return -1;
    }
    PyObject *kept = NULL;
    bool notified = false;
    if (sync_wait_turn(self, &turn, deadline, &err) < 0) {
        keep_exception(&kept);
        if (atoll_cond_leave(self->sync, &turn)) {
            (void)atoll_cond_notify(self->sync, 1); /* it is for another, then */
        }
    }
    else {
        notified = err == ATOLL_OK || atoll_cond_leave(self->sync, &turn);
    }
    lock_again(state, mutex, depth, &kept);
    if (kept != NULL) {
        PyErr_SetRaisedException(kept);
        return -1;
    }
    return notified;
}

PyDoc_STRVAR(wait_doc,
"wait($self, /, timeout=None)\n--\n\n"
"Release the lock, wait until notified, and acquire it again. Those who wait are\n"
"notified in the order in which they came; nobody returns without that.\n\n"
"Args:\n"
"  timeout (float | None): seconds to wait; None for ever.\n"
"Returns:\n"
"  True; False: not in time.\n"
"Raises:\n"
"  RuntimeError: the lock is not held.\n"
"  LockOwnerDied: an interpreter ended that had the lock.\n"
"Can be interrupted by a signal. Whatever it raises, the lock is held again: an\n"
"exception waits for it. A second interrupt does not: it is raised without the lock,\n"
"with the first as its context, and this thread's releases of the lock do nothing\n"
"until it has acquired it again: so `with` blocks can be left.");

static PyObject *
cond_wait(PyObject *obj, PyObject *const *args, Py_ssize_t nargs, PyObject *kwnames)
{
    syncobj *self = (syncobj *)obj;
    static const char *const names[] = {"timeout"};
    PyObject *values[1] = {NULL};
    int64_t deadline;
    if (args_parse("wait", args, nargs, kwnames, names, 1, 0, 1, values) < 0 ||
        sync_deadline(values[0], &deadline) < 0 || !must_own(self, "wait")) {
        return NULL;
    }
    int notified = wait_until(self, deadline);
    return notified < 0 ? NULL : PyBool_FromLong(notified);
}

PyDoc_STRVAR(wait_for_doc,
"wait_for($self, /, predicate, timeout=None)\n--\n\n"
"Wait until predicate() is true: look at it at first and whenever notified, with the\n"
"lock held. Returns what it returned last, also when the time is over. Otherwise as\n"
"wait().");

static PyObject *
cond_wait_for(PyObject *obj, PyObject *const *args, Py_ssize_t nargs, PyObject *kwnames)
{
    syncobj *self = (syncobj *)obj;
    static const char *const names[] = {"predicate", "timeout"};
    PyObject *values[2] = {NULL, NULL};
    int64_t deadline;
    if (args_parse("wait_for", args, nargs, kwnames, names, 2, 1, 2, values) < 0 ||
        sync_deadline(values[1], &deadline) < 0) {
        return NULL;
    }
    if (!PyCallable_Check(values[0])) {
        return PyErr_Format(PyExc_TypeError, "predicate must be callable, not %T",
                            values[0]);
    }
    for (bool late = false;;) {
        PyObject *result = PyObject_CallNoArgs(values[0]);
        int truth = result == NULL ? -1 : PyObject_IsTrue(result);
        if (truth > 0 || (truth == 0 && late)) {
            return result;
        }
        Py_XDECREF(result);
        if (truth < 0 || !must_own(self, "wait")) {
            return NULL;
        }
        int notified = wait_until(self, deadline);
        if (notified < 0) {
            return NULL;
        }
        late = !notified;
    }
}

PyDoc_STRVAR(notify_doc,
"notify($self, /, n=1)\n--\n\n"
"Wake the n (int) who have waited longest, or all if they are fewer. Raises\n"
"RuntimeError if the lock is not held.");

static PyObject *
cond_wake(syncobj *self, size_t n)
{
    if (atoll_sync_forked(self->sync)) {
        return sync_raise(self->state, self->sync, ATOLL_ERR_FORKED);
    }
    if (!must_own(self, "notify")) {
        return NULL;
    }
    (void)atoll_cond_notify(self->sync, n);
    Py_RETURN_NONE;
}

static PyObject *
cond_notify(PyObject *obj, PyObject *const *args, Py_ssize_t nargs, PyObject *kwnames)
{
    static const char *const names[] = {"n"};
    PyObject *values[1] = {NULL};
    if (args_parse("notify", args, nargs, kwnames, names, 1, 0, 1, values) < 0) {
        return NULL;
    }
    int64_t n = 1;
    if (values[0] != NULL && args_int("n", values[0], &n) < 0) {
        return NULL;
    }
    return cond_wake((syncobj *)obj, n < 0 ? 0 : (size_t)n);
}

PyDoc_STRVAR(notify_all_doc,
"notify_all($self, /)\n--\n\nWake all who wait. As notify() otherwise.");

static PyObject *
cond_notify_all(PyObject *obj, PyObject *Py_UNUSED(ignored))
{
    return cond_wake((syncobj *)obj, SIZE_MAX);
}

static PyObject *
cond_repr(PyObject *obj)
{
    PyObject *lock = cond_lock_of(obj);
    PyObject *text = lock == NULL ? NULL : sync_repr(obj, "%R", lock);
    Py_XDECREF(lock);
    return text;
}

PyDoc_STRVAR(acquire_doc,
"acquire($self, /, blocking=True, timeout=-1)\n--\n\nacquire() of the lock.");
PyDoc_STRVAR(release_doc,
"release($self, /)\n--\n\nrelease() of the lock. Does not block.");
PyDoc_STRVAR(locked_doc, "locked($self, /)\n--\n\nlocked() of the lock.");

static PyMethodDef cond_methods[] = {
    {"acquire", (PyCFunction)(void *)cond_acquire, METH_FASTCALL | METH_KEYWORDS,
     acquire_doc},
    {"release", cond_release, METH_NOARGS, release_doc},
    {"locked", cond_locked, METH_NOARGS, locked_doc},
    {"__enter__", cond_enter, METH_NOARGS, NULL},
    {"__exit__", (PyCFunction)(void *)cond_exit, METH_FASTCALL, NULL},
    {"wait", (PyCFunction)(void *)cond_wait, METH_FASTCALL | METH_KEYWORDS, wait_doc},
    {"wait_for", (PyCFunction)(void *)cond_wait_for, METH_FASTCALL | METH_KEYWORDS,
     wait_for_doc},
    {"notify", (PyCFunction)(void *)cond_notify, METH_FASTCALL | METH_KEYWORDS,
     notify_doc},
    {"notify_all", cond_notify_all, METH_NOARGS, notify_all_doc},
    {"__reduce__", sync_reduce, METH_NOARGS, NULL},
    {NULL, NULL, 0, NULL},
};

static PyGetSetDef getset[] = {
    SYNC_ID,
    {NULL, NULL, NULL, NULL, NULL},
};

PyDoc_STRVAR(cond_doc,
"Condition(lock=None)\n--\n\n"
"threading.Condition, for all interpreters and threads of this process. `lock` is an\n"
"atoll.Lock or atoll.RLock; None: a new RLock.");

static PyType_Slot slots[] = {
    SYNC_SLOTS,
    {Py_tp_new, cond_new},
    {Py_tp_repr, cond_repr},
    {Py_tp_methods, cond_methods},
    {Py_tp_getset, getset},
    {Py_tp_doc, (void *)cond_doc},
    {0, NULL},
};

PyType_Spec condition_spec = {
    .name = "atoll.Condition",
    .basicsize = sizeof(syncobj),
    .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_IMMUTABLETYPE,
    .slots = slots,
};
