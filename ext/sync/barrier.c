/* atoll.Barrier. See sync/sync.h.
 *
 * Its action is an object of the interpreter that has made it. When the barrier is
 * first sent elsewhere the action is encoded, once, into the barrier's own place for a
 * value; whoever has to run it elsewhere decodes it there, once. */
#include "sync/sync.h"
#include "wait/wait.h"

static PyObject *
barrier_new(PyTypeObject *type, PyObject *args, PyObject *kwargs)
{
    static char *keywords[] = {"parties", "action", "timeout", NULL};
    int64_t parties;
    PyObject *count, *action = Py_None, *timeout = Py_None;
    if (!PyArg_ParseTupleAndKeywords(args, kwargs, "O|OO:Barrier", keywords, &count,
                                     &action, &timeout) ||
        args_int("parties", count, &parties) < 0) {
        return NULL;
    }
    if (parties < 1 || parties > INT32_MAX) {
        PyErr_SetString(PyExc_ValueError, "parties must be >= 1");
        return NULL;
    }
    if (action != Py_None && !PyCallable_Check(action)) {
        return PyErr_Format(PyExc_TypeError, "action must be callable or None, not %T",
                            action);
    }
    int64_t limit;
    if (sync_deadline(timeout, &limit) < 0) {
        return NULL;
    }
    if (limit != ATOLL_NOW && limit != ATOLL_FOREVER) {
        limit = (int64_t)(PyFloat_AsDouble(timeout) * 1e9);
    }
    atoll_sync *sync;
    atoll_err err =
        atoll_barrier_new((uint32_t)parties, action != Py_None, limit, &sync);
    PyObject *self = sync_made(type, err, sync);
    if (self != NULL && action != Py_None) {
        ((syncobj *)self)->action = Py_NewRef(action);
    }
    return self;
}

/* ------------------------------------------------------------------- action */

int
sync_prepare(syncobj *self)
{
    if (self->action == NULL) {
        return 0;
    }
    atoll_value *value = atoll_cell_load(self->sync);
    if (value != NULL) {
        atoll_value_unref(value);
        return 0;
    }
    atoll_msg msg;
    if (xfer_encode(self->state, self->action, &msg) < 0) {
        return -1;
    }
    if (atoll_value_new(&msg, &value) != ATOLL_OK) {
        atoll_msg_drop(&msg);
        PyErr_NoMemory();
        return -1;
    }
    if (!atoll_cell_replace(self->sync, NULL, value)) {
        atoll_value_unref(value); /* encoding runs code, which has sent it */
    }
    return 0;
}

/* The callable: a new reference. */
static PyObject *
action_of(syncobj *self)
{
    if (self->action == NULL) {
        atoll_msg msg;
        atoll_value *value = atoll_cell_load(self->sync);
        if (value == NULL) { /* else it has come here in a message */
            PyErr_SetString(PyExc_RuntimeError, "the barrier is being collected");
            return NULL;
        }
        atoll_err err = xfer_clone(atoll_value_msg(value), &msg);
        atoll_value_unref(value);
        if (err != ATOLL_OK) {
            return raise_err(self->state, err, "barrier");
        }
        PyObject *action = xfer_decode(self->state, &msg);
        if (action == NULL) {
            return NULL;
        }
        Py_XSETREF(self->action, action);
    }
    return Py_NewRef(self->action);
}

/* ------------------------------------------------------------------ waiting */

/* Wait for the turn. 0: it has come; -1 with an exception. */
static int
await_turn(syncobj *self, atoll_turn *turn, int64_t deadline)
{
    for (;;) {
        atoll_err err;
        bool led;
        if (sync_wait_turn(self, turn, deadline, &err) < 0) {
            PyObject *exc = PyErr_GetRaisedException();
            if (atoll_barrier_leave(self->sync, turn, false, &led) &&
                turn->result == ATOLL_OK && turn->leads) {
                err = atoll_barrier_lead(self->sync, turn, false);
                (void)err; /* it is broken in any case */
            }
            PyErr_SetRaisedException(exc);
            return -1;
        }
        if (err == ATOLL_OK || atoll_barrier_leave(self->sync, turn, true, &led)) {
            return 0;
        }
        if (err != ATOLL_ERR_AGAIN && err != ATOLL_ERR_TIMEOUT) {
            sync_raise(self->state, self->sync, err);
            return -1;
        }
        if (!led) {
            sync_raise(self->state, self->sync, ATOLL_ERR_BROKEN);
            return -1;
        }
        deadline = ATOLL_FOREVER; /* all have come: the action runs */
    }
}

/* Run the action, then let the others pass. */
static atoll_err
barrier_lead(syncobj *self, atoll_turn *turn)
{
    PyObject *action = action_of(self);
    PyObject *result = action == NULL ? NULL : PyObject_CallNoArgs(action);
    Py_XDECREF(action);
    if (result != NULL) {
        Py_DECREF(result);
        return atoll_barrier_lead(self->sync, turn, true);
    }
    PyObject *exc = PyErr_GetRaisedException();
    atoll_err err = atoll_barrier_lead(self->sync, turn, false);
    (void)err; /* it is broken in any case */
    PyErr_SetRaisedException(exc);
    return ATOLL_OK;
}

PyDoc_STRVAR(wait_doc,
"wait($self, /, timeout=None)\n--\n\n"
"Wait until as many are here as the barrier is for. The last to come runs the\n"
"action, in its interpreter, and then all go on.\n\n"
"Args:\n"
"  timeout (float | None): seconds to wait; None: as the barrier says.\n"
"Returns:\n"
"  int: how many had come before, 0 to parties - 1.\n"
"Raises:\n"
"  threading.BrokenBarrierError: somebody was late, or has called abort() or\n"
"    reset(), or the action has raised. Who is late breaks it for all.\n"
"  What the action raises, for who runs it.\n"
"Can be interrupted by a signal; then it is as if one had not come.");

static PyObject *
barrier_wait(PyObject *obj, PyObject *const *args, Py_ssize_t nargs, PyObject *kwnames)
{
    syncobj *self = (syncobj *)obj;
    static const char *const names[] = {"timeout"};
    PyObject *values[1] = {NULL};
    int64_t deadline;
    if (args_parse("wait", args, nargs, kwnames, names, 1, 0, 1, values) < 0 ||
        sync_deadline(values[0], &deadline) < 0) {
        return NULL;
    }
    if (values[0] == NULL || values[0] == Py_None) {
        atoll_barrier_state look;
        atoll_barrier_look(self->sync, &look);
        bool limited = look.timeout != ATOLL_NOW && look.timeout != ATOLL_FOREVER;
        deadline = look.timeout + (limited ? atoll_now() : 0);
    }
    atoll_turn turn;
    atoll_err err = atoll_barrier_arrive(self->sync, &turn);
    if (err == ATOLL_OK) {
        if (await_turn(self, &turn, deadline) < 0) {
            return NULL;
        }
        err = atoll_barrier_passed(&turn);
    }
    if (err == ATOLL_OK && turn.leads) {
        err = barrier_lead(self, &turn);
        if (PyErr_Occurred()) {
            return NULL;
        }
    }
    if (err != ATOLL_OK) {
        return sync_raise(self->state, self->sync, err);
    }
    return PyLong_FromUnsignedLong(turn.index);
}

static PyObject *
barrier_none_or_raise(syncobj *self, atoll_err err)
{
    if (err == ATOLL_OK) {
        Py_RETURN_NONE;
    }
    return sync_raise(self->state, self->sync, err);
}

PyDoc_STRVAR(abort_doc,
"abort($self, /)\n--\n\n"
"Break it: all who wait, and all who come, get BrokenBarrierError, until reset().\n"
"Does not block.");

static PyObject *
barrier_abort(PyObject *obj, PyObject *Py_UNUSED(ignored))
{
    syncobj *self = (syncobj *)obj;
    return barrier_none_or_raise(self, atoll_barrier_abort(self->sync));
}

PyDoc_STRVAR(reset_doc,
"reset($self, /)\n--\n\n"
"Make it as new. Those who wait get BrokenBarrierError. Does not block.");

static PyObject *
barrier_reset(PyObject *obj, PyObject *Py_UNUSED(ignored))
{
    syncobj *self = (syncobj *)obj;
    return barrier_none_or_raise(self, atoll_barrier_reset(self->sync));
}

/* ------------------------------------------------------------------ looking */

static atoll_barrier_state
look_at(PyObject *obj)
{
    atoll_barrier_state look;
    atoll_barrier_look(((syncobj *)obj)->sync, &look);
    return look;
}

static PyObject *
barrier_parties(PyObject *obj, void *Py_UNUSED(closure))
{
    return PyLong_FromUnsignedLong(look_at(obj).parties);
}

static PyObject *
barrier_n_waiting(PyObject *obj, void *Py_UNUSED(closure))
{
    return PyLong_FromUnsignedLong(look_at(obj).waiting);
}

static PyObject *
barrier_broken(PyObject *obj, void *Py_UNUSED(closure))
{
    return PyBool_FromLong(look_at(obj).broken);
}

static PyObject *
barrier_repr(PyObject *obj)
{
    atoll_barrier_state look = look_at(obj);
    return look.broken ? sync_repr(obj, "broken")
                       : sync_repr(obj, "waiters=%u/%u", look.waiting, look.parties);
}

static int
barrier_traverse(PyObject *obj, visitproc visit, void *arg)
{
    Py_VISIT(Py_TYPE(obj));
    Py_VISIT(((syncobj *)obj)->action);
    return 0;
}

static int
barrier_clear(PyObject *obj)
{
    Py_CLEAR(((syncobj *)obj)->action);
    return 0;
}

static PyMethodDef methods[] = {
    {"wait", (PyCFunction)(void *)barrier_wait, METH_FASTCALL | METH_KEYWORDS,
     wait_doc},
    {"abort", barrier_abort, METH_NOARGS, abort_doc},
    {"reset", barrier_reset, METH_NOARGS, reset_doc},
    {"__reduce__", sync_reduce, METH_NOARGS, NULL},
    {NULL, NULL, 0, NULL},
};

static PyGetSetDef getset[] = {
    {"parties", barrier_parties, NULL, "For how many it is (int).", NULL},
    {"n_waiting", barrier_n_waiting, NULL, "How many wait now (int).", NULL},
    {"broken", barrier_broken, NULL, "Is it broken? (bool)", NULL},
    SYNC_ID,
    {NULL, NULL, NULL, NULL, NULL},
};

PyDoc_STRVAR(barrier_doc,
"Barrier(parties, action=None, timeout=None)\n--\n\n"
"threading.Barrier, for all interpreters and threads of this process.\n\n"
"Args:\n"
"  parties (int): how many wait for each other.\n"
"  action (Callable[[], object] | None): called by the last to come, before all go\n"
"    on. If the barrier is sent it has to cross: another interpreter has a copy.\n"
"  timeout (float | None): of wait(), where none is given.");

static PyType_Slot slots[] = {
    SYNC_SLOTS,
    {Py_tp_new, barrier_new},
    {Py_tp_traverse, barrier_traverse},
    {Py_tp_clear, barrier_clear},
    {Py_tp_repr, barrier_repr},
    {Py_tp_methods, methods},
    {Py_tp_getset, getset},
    {Py_tp_doc, (void *)barrier_doc},
    {0, NULL},
};

PyType_Spec barrier_spec = {
    .name = "atoll.Barrier",
    .basicsize = sizeof(syncobj),
    .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_HAVE_GC | Py_TPFLAGS_IMMUTABLETYPE,
    .slots = slots,
};
