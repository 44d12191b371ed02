/* atoll.Lock and atoll.RLock. See sync/sync.h. */
#include "sync/sync.h"
#include "wait/wait.h"

/* ---------------------------------------------------------------- acquiring */

/* acquire()'s arguments, which mean what they mean to threading. */
static int
parse_acquire(PyObject *const *args, Py_ssize_t nargs, PyObject *kwnames,
              int64_t *deadline)
{
    static const char *const names[] = {"blocking", "timeout"};
    PyObject *values[2] = {NULL, NULL};
    if (args_parse("acquire", args, nargs, kwnames, names, 2, 0, 2, values) < 0) {
        return -1;
    }
    int blocking = values[0] == NULL ? 1 : PyObject_IsTrue(values[0]);
    double seconds = -1.0;
    if (blocking < 0 ||
        (values[1] != NULL &&
         args_double("timeout", "a number of seconds", values[1], &seconds) < 0)) {
        return -1;
    }
    const char *wrong = NULL;
    if (!blocking && seconds != -1.0) {
        wrong = "can't specify a timeout for a non-blocking call";
    }
    else if (seconds != -1.0 && !(seconds >= 0)) {
        wrong = "timeout value must be a non-negative number";
    }
    if (wrong != NULL) {
        PyErr_SetString(PyExc_ValueError, wrong);
        return -1;
    }
    if (seconds * 1e6 > (double)PY_TIMEOUT_MAX) {
        PyErr_SetString(PyExc_OverflowError, "timeout value is too large");
        return -1;
    }
    if (seconds == -1.0) {
        *deadline = blocking ? ATOLL_FOREVER : ATOLL_NOW;
        return 0;
    }
    return detach_deadline(values[1], deadline);
}

#define ACQUIRE_TEXT                                                           \
    "Args:\n"                                                                  \
    "  blocking (bool): False: try once.\n"                                    \
    "  timeout (float): seconds to wait; -1 for ever.\n"                       \
    "Returns:\n"                                                               \
    "  True; False: not in time.\n"                                            \
    "Raises:\n"                                                                \
    "  LockOwnerDied: an interpreter has ended that held it. It is not held\n" \
    "    now, and the next acquire() works as usual.\n"                        \
    "Can be interrupted by a signal; then it is not held."

PyDoc_STRVAR(acquire_doc,
"acquire($self, /, blocking=True, timeout=-1)\n--\n\n"
"Lock it. Those who wait get it in the order in which they came.\n\n"
ACQUIRE_TEXT);

PyDoc_STRVAR(racquire_doc,
"acquire($self, /, blocking=True, timeout=-1)\n--\n\n"
"Lock it, or, if this thread has it already, lock it once more. Those who wait\n"
"get it in the order in which they came.\n\n"
ACQUIRE_TEXT);

PyObject *
sync_lock_acquire(core_state *state, atoll_sync *mutex, PyObject *const *args,
                  Py_ssize_t nargs, PyObject *kwnames)
{
    int64_t deadline = ATOLL_FOREVER;
    atoll_err err;
    if ((nargs > 0 || kwnames != NULL) &&
        parse_acquire(args, nargs, kwnames, &deadline) < 0) {
        return NULL;
    }
    if (sync_take(state, mutex, deadline, &err) < 0) {
        return NULL;
    }
    return sync_answer(state, mutex, err);
}

static PyObject *
lock_acquire(PyObject *obj, PyObject *const *args, Py_ssize_t nargs, PyObject *kwnames)
{
    syncobj *self = (syncobj *)obj;
    return sync_lock_acquire(self->state, self->sync, args, nargs, kwnames);
}

PyDoc_STRVAR(acquire_async_doc,
"acquire_async($self, /)\n--\n\n"
"await lock.acquire_async(): as acquire(), for a coroutine of asyncio or Trio. If\n"
"it is free it does not yield. When it is cancelled, the lock is not held.");

PyDoc_STRVAR(racquire_async_doc,
"acquire_async($self, /)\n--\n\n"
"await lock.acquire_async(): as acquire(), for a coroutine of asyncio or Trio; but\n"
"the owner is the task, since the tasks of a loop share its thread. The task that has\n"
"it may acquire it again, also with acquire() and `with` in functions that it calls,\n"
"and releases it as often; no other task can, and no code of the thread's outside of\n"
"it. If the task ends without that it stays locked. When it is cancelled while it\n"
"waits, the lock is not held.");

static PyObject *
rlock_acquire_async(PyObject *obj, PyObject *Py_UNUSED(ignored))
{
    return aio_call(((syncobj *)obj)->state, "take_as_task", obj, NULL, 0, NULL);
}

/* ---------------------------------------------------------------- releasing */

static PyObject *
lock_released(core_state *state, atoll_sync *mutex, atoll_err err)
{
    if (err == ATOLL_OK) {
        Py_RETURN_NONE;
    }
    if (err == ATOLL_ERR_INVALID) {
        bool recursive = atoll_sync_kind_of(mutex) == ATOLL_RLOCK;
        PyErr_SetString(PyExc_RuntimeError, recursive
                                                ? "cannot release un-acquired lock"
                                                : "release unlocked lock");
        return NULL;
    }
    return sync_raise(state, mutex, err);
}

bool
sync_owe(core_state *state, atoll_sync *mutex, uint64_t depth)
{
    sync_debt *debt = atoll_alloc(sizeof(*debt));
    if (debt != NULL) {
        *debt = (sync_debt){.next = state->sync->debts,
                            .mutex = atoll_sync_ref(mutex),
                            .thread = sync_me(state).thread,
                            .depth = depth};
        state->sync->debts = debt;
    }
    return debt != NULL;
}

static void
debt_paid(sync_debt **link)
{
    sync_debt *debt = *link;
    *link = debt->next;
    atoll_sync_unref(debt->mutex);
    atoll_free(debt);
}

void
sync_forget_debts(core_state *state)
{
    while (state->sync->debts != NULL) {
        debt_paid(&state->sync->debts);
    }
}

/* Is this release one of those that are owed? */
static bool
is_owed(core_state *state, atoll_sync *mutex, atoll_party me)
{
    sync_debt **link = &state->sync->debts;
    while (*link != NULL && ((*link)->mutex != mutex || (*link)->thread != me.thread)) {
        link = &(*link)->next;
    }
    if (*link == NULL) {
        return false;
    }
    atoll_mutex_state look;
    atoll_mutex_look(mutex, &look);
    if (look.held && look.owner.group == me.group && look.owner.thread == me.thread) {
        return false; /* it has taken it again */
    }
    if (--(*link)->depth == 0) {
        debt_paid(link);
    }
    return true;
}

bool
sync_as_task(const core_state *state, atoll_sync *mutex, atoll_party *who)
{
    atoll_mutex_state look;
    if (atoll_sync_kind_of(mutex) != ATOLL_RLOCK) {
        return false;
    }
    atoll_mutex_look(mutex, &look);
    if (!look.held || look.owner.group != state->interp_id ||
        (look.owner.thread & SYNC_OF_TASK) == 0) {
        return false;
    }
    PyObject *exc = PyErr_GetRaisedException();
    PyObject *number = package_call(PACKAGE_AIO, "task_number", "()");
    unsigned long long task = number == NULL ? 0 : PyLong_AsUnsignedLongLong(number);
    Py_XDECREF(number);
    PyErr_SetRaisedException(exc);
    if ((task | SYNC_OF_TASK) != look.owner.thread) {
        return false;
    }
    *who = look.owner;
    return true;
}

PyObject *
sync_lock_release(core_state *state, atoll_sync *mutex)
{
    atoll_party me = sync_me(state);
    if (state->sync->debts != NULL && is_owed(state, mutex, me)) {
        Py_RETURN_NONE;
    }
    atoll_err err = atoll_mutex_release(mutex, me);
    if (err == ATOLL_ERR_INVALID && sync_as_task(state, mutex, &me)) {
        err = atoll_mutex_release(mutex, me);
    }
    return lock_released(state, mutex, err);
}

PyDoc_STRVAR(release_doc,
"release($self, /)\n--\n\n"
"Unlock it: whoever has waited longest has it now. Any thread, of any\n"
"interpreter, may do that. Raises RuntimeError if it is not locked. Does not block.");

PyDoc_STRVAR(rrelease_doc,
"release($self, /)\n--\n\n"
"Unlock it as often as it was locked, and whoever has waited longest has it. Raises\n"
"RuntimeError in another thread (or task, see acquire_async) than that which has\n"
"locked it. Does not block.");

static PyObject *
lock_release(PyObject *obj, PyObject *Py_UNUSED(ignored))
{
    syncobj *self = (syncobj *)obj;
    return sync_lock_release(self->state, self->sync);
}

static PyObject *
lock_exit(PyObject *obj, PyObject *const *Py_UNUSED(args), Py_ssize_t Py_UNUSED(nargs))
{
    return lock_release(obj, NULL);
}

/* ------------------------------------------------------------------ looking */

PyDoc_STRVAR(locked_doc, "locked($self, /)\n--\n\nIs it locked, by anybody? (bool)");

static PyObject *
lock_locked(PyObject *obj, PyObject *Py_UNUSED(ignored))
{
    atoll_mutex_state look;
    atoll_mutex_look(((syncobj *)obj)->sync, &look);
    return PyBool_FromLong(look.held);
}

bool
sync_is_owned(const core_state *state, atoll_sync *mutex)
{
    atoll_mutex_state look;
    atoll_party me = sync_me(state);
    atoll_mutex_look(mutex, &look);
    return look.held &&
           (atoll_sync_kind_of(mutex) == ATOLL_LOCK ||
            (look.owner.group == me.group && look.owner.thread == me.thread) ||
            sync_as_task(state, mutex, &me));
}

static PyObject *
lock_repr(PyObject *obj)
{
    atoll_mutex_state look;
    atoll_sync *sync = ((syncobj *)obj)->sync;
    atoll_mutex_look(sync, &look);
    const char *how = look.held ? "locked" : "unlocked";
    if (atoll_sync_kind_of(sync) == ATOLL_LOCK) {
        return PyUnicode_FromFormat("<%s %s object id=%llu at %p>", how,
                                    Py_TYPE(obj)->tp_name,
                                    (unsigned long long)atoll_sync_id(sync), obj);
    }
    return PyUnicode_FromFormat("<%s %s object id=%llu owner=%llu count=%llu at %p>",
                                how, Py_TYPE(obj)->tp_name,
                                (unsigned long long)atoll_sync_id(sync),
                                look.held ? (unsigned long long)look.owner.thread : 0,
                                (unsigned long long)look.depth, obj);
}

/* ------------------------------- what threading.Condition asks of an RLock */

static PyObject *
rlock_is_owned(PyObject *obj, PyObject *Py_UNUSED(ignored))
{
    syncobj *self = (syncobj *)obj;
    return PyBool_FromLong(sync_is_owned(self->state, self->sync));
}

static PyObject *
rlock_recursion_count(PyObject *obj, PyObject *Py_UNUSED(ignored))
{
    syncobj *self = (syncobj *)obj;
    atoll_mutex_state look;
    bool mine = sync_is_owned(self->state, self->sync);
    atoll_mutex_look(self->sync, &look);
    return PyLong_FromUnsignedLongLong(mine ? look.depth : 0);
}

static PyObject *
rlock_release_save(PyObject *obj, PyObject *Py_UNUSED(ignored))
{
    syncobj *self = (syncobj *)obj;
    uint64_t depth;
    atoll_err err = atoll_mutex_drop(self->sync, sync_me(self->state), &depth);
    PyObject *done = lock_released(self->state, self->sync, err);
    if (done == NULL) {
        return NULL;
    }
    Py_DECREF(done);
    return PyLong_FromUnsignedLongLong(depth);
}

static PyObject *
rlock_acquire_restore(PyObject *obj, PyObject *saved)
{
    syncobj *self = (syncobj *)obj;
    unsigned long long depth = PyLong_AsUnsignedLongLong(saved);
    if (depth == (unsigned long long)-1 && PyErr_Occurred()) {
        return NULL;
    }
    PyObject *done = sync_enter(obj, NULL);
    if (done == NULL) {
        return NULL;
    }
    Py_DECREF(done);
    if (depth > 1) {
        atoll_mutex_deepen(self->sync, depth);
    }
    Py_RETURN_NONE;
}

/* --------------------------------------------------------------- the types */

static PyObject *
lock_make(PyTypeObject *type, PyObject *args, PyObject *kwargs, atoll_sync_kind kind)
{
    if (PyTuple_GET_SIZE(args) > 0 || (kwargs != NULL && PyDict_Size(kwargs))) {
        return PyErr_Format(PyExc_TypeError, "%s() takes no arguments", type->tp_name);
    }
    atoll_sync *sync;
    atoll_err err = atoll_sync_new(kind, &sync);
    return sync_made(type, err, sync);
}

static PyObject *
lock_new(PyTypeObject *type, PyObject *args, PyObject *kwargs)
{
    return lock_make(type, args, kwargs, ATOLL_LOCK);
}

static PyObject *
rlock_new(PyTypeObject *type, PyObject *args, PyObject *kwargs)
{
    return lock_make(type, args, kwargs, ATOLL_RLOCK);
}

#define ENTER_EXIT                                                         \
    {"__enter__", sync_enter, METH_NOARGS, NULL},                          \
        {"__exit__", (PyCFunction)(void *)lock_exit, METH_FASTCALL, NULL}, \
        {"locked", lock_locked, METH_NOARGS, locked_doc},                  \
    {                                                                      \
        "__reduce__", sync_reduce, METH_NOARGS, NULL                       \
    }

static PyMethodDef lock_methods[] = {
    {"acquire", (PyCFunction)(void *)lock_acquire, METH_FASTCALL | METH_KEYWORDS,
     acquire_doc},
    {"acquire_async", sync_take_async, METH_NOARGS, acquire_async_doc},
    {"release", lock_release, METH_NOARGS, release_doc},
    ENTER_EXIT,
    {NULL, NULL, 0, NULL},
};

static PyMethodDef rlock_methods[] = {
    {"acquire", (PyCFunction)(void *)lock_acquire, METH_FASTCALL | METH_KEYWORDS,
     racquire_doc},
    {"acquire_async", rlock_acquire_async, METH_NOARGS, racquire_async_doc},
    {"release", lock_release, METH_NOARGS, rrelease_doc},
    ENTER_EXIT,
    {"_is_owned", rlock_is_owned, METH_NOARGS, NULL},
    {"_recursion_count", rlock_recursion_count, METH_NOARGS, NULL},
    {"_release_save", rlock_release_save, METH_NOARGS, NULL},
    {"_acquire_restore", rlock_acquire_restore, METH_O, NULL},
    {NULL, NULL, 0, NULL},
};

static PyGetSetDef getset[] = {
    SYNC_ID,
    {NULL, NULL, NULL, NULL, NULL},
};

PyDoc_STRVAR(lock_doc,
"Lock()\n--\n\n"
"threading.Lock, for all interpreters and threads of this process. It crosses as a\n"
"handle. It may be released by another thread than the one that has locked it, also\n"
"of another interpreter. If the interpreter ends that has locked it, the next to\n"
"acquire it gets LockOwnerDied; a thread that ends leaves it locked.");

PyDoc_STRVAR(rlock_doc,
"RLock()\n--\n\n"
"threading.RLock, for all interpreters and threads of this process: its owner, a\n"
"thread of an interpreter, may acquire it again. Otherwise as Lock.");

static PyType_Slot lock_slots[] = {
    SYNC_SLOTS,
    {Py_tp_new, lock_new},
    {Py_tp_repr, lock_repr},
    {Py_tp_methods, lock_methods},
    {Py_tp_getset, getset},
    {Py_tp_doc, (void *)lock_doc},
    {0, NULL},
};

static PyType_Slot rlock_slots[] = {
    SYNC_SLOTS,
    {Py_tp_new, rlock_new},
    {Py_tp_repr, lock_repr},
    {Py_tp_methods, rlock_methods},
    {Py_tp_getset, getset},
    {Py_tp_doc, (void *)rlock_doc},
    {0, NULL},
};

PyType_Spec lock_spec = {
    .name = "atoll.Lock",
    .basicsize = sizeof(syncobj),
    .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_IMMUTABLETYPE,
    .slots = lock_slots,
};

PyType_Spec rlock_spec = {
    .name = "atoll.RLock",
    .basicsize = sizeof(syncobj),
    .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_IMMUTABLETYPE,
    .slots = rlock_slots,
};
