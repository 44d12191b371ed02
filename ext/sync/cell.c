/* atoll.Counter and atoll.Cell. See sync/sync.h. */
#include "sync/sync.h"

/* ---------------------------------------------------------------- counters */

static PyObject *
counter_new(PyTypeObject *type, PyObject *args, PyObject *kwargs)
{
    static char *keywords[] = {"value", NULL};
    PyObject *given = NULL;
    int64_t value = 0;
    if (!PyArg_ParseTupleAndKeywords(args, kwargs, "|O:Counter", keywords, &given) ||
        (given != NULL && args_int("value", given, &value) < 0)) {
        return NULL;
    }
    atoll_sync *sync;
    atoll_err err = atoll_counter_new(value, &sync);
    return sync_made(type, err, sync);
}

static bool
is_dead(syncobj *self)
{
    if (!atoll_sync_forked(self->sync)) {
        return false;
    }
    sync_raise(self->state, self->sync, ATOLL_ERR_FORKED);
    return true;
}

static PyObject *
too_large(void)
{
    PyErr_SetString(PyExc_OverflowError, "the counter has 64 bits");
    return NULL;
}

static PyObject *
cell_change(PyObject *obj, const char *name, PyObject *const *args, Py_ssize_t nargs,
            PyObject *kwnames, bool down)
{
    syncobj *self = (syncobj *)obj;
    static const char *const names[] = {"n"};
    PyObject *values[1] = {NULL};
    if (args_parse(name, args, nargs, kwnames, names, 1, 0, 1, values) < 0) {
        return NULL;
    }
    int64_t n = 1;
    if (values[0] != NULL && args_int("n", values[0], &n) < 0) {
        return NULL;
    }
    if (down && n == INT64_MIN) {
        return too_large();
    }
    int64_t value;
    atoll_err err = atoll_counter_add(self->sync, down ? -n : n, &value);
    if (err == ATOLL_OK) {
        return PyLong_FromLongLong(value);
    }
    return err == ATOLL_ERR_INVALID ? too_large()
                                    : sync_raise(self->state, self->sync, err);
}

PyDoc_STRVAR(add_doc,
"add($self, /, n=1)\n--\n\n"
"Add n (int); returns the new value. Raises OverflowError if it would not fit into\n"
"64 bits; then it is as it was.");

static PyObject *
counter_add(PyObject *obj, PyObject *const *args, Py_ssize_t nargs, PyObject *kwnames)
{
    return cell_change(obj, "add", args, nargs, kwnames, false);
}

PyDoc_STRVAR(sub_doc,
"sub($self, /, n=1)\n--\n\nSubtract n (int); otherwise as add().");

static PyObject *
counter_sub(PyObject *obj, PyObject *const *args, Py_ssize_t nargs, PyObject *kwnames)
{
    return cell_change(obj, "sub", args, nargs, kwnames, true);
}

PyDoc_STRVAR(counter_cas_doc,
"compare_and_set($self, /, expected, new)\n--\n\n"
"Set it to `new` (int) if it is `expected` (int). Returns whether it was.");

static PyObject *
counter_cas(PyObject *obj, PyObject *args, PyObject *kwargs)
{
    static char *keywords[] = {"expected", "new", NULL};
    syncobj *self = (syncobj *)obj;
    PyObject *first, *second;
    int64_t expected, value;
    if (!PyArg_ParseTupleAndKeywords(args, kwargs, "OO:compare_and_set", keywords,
                                     &first, &second) ||
        args_int("expected", first, &expected) < 0 ||
        args_int("new", second, &value) < 0 || is_dead(self)) {
        return NULL;
    }
    return PyBool_FromLong(atoll_counter_swap(self->sync, expected, value));
}

static PyObject *
counter_value(PyObject *obj, void *Py_UNUSED(closure))
{
    syncobj *self = (syncobj *)obj;
    return is_dead(self) ? NULL : PyLong_FromLongLong(atoll_counter_value(self->sync));
}

static PyObject *
counter_repr(PyObject *obj)
{
    return sync_repr(obj, "value=%lld",
                     (long long)atoll_counter_value(((syncobj *)obj)->sync));
}

static PyMethodDef counter_methods[] = {
    {"add", (PyCFunction)(void *)counter_add, METH_FASTCALL | METH_KEYWORDS, add_doc},
    {"sub", (PyCFunction)(void *)counter_sub, METH_FASTCALL | METH_KEYWORDS, sub_doc},
    {"compare_and_set", (PyCFunction)(void *)counter_cas, METH_VARARGS | METH_KEYWORDS,
     counter_cas_doc},
    {"__reduce__", sync_reduce, METH_NOARGS, NULL},
    {NULL, NULL, 0, NULL},
};

static PyGetSetDef counter_getset[] = {
    {"value", counter_value, NULL, "The value now (int).", NULL},
    SYNC_ID,
    {NULL, NULL, NULL, NULL, NULL},
};

PyDoc_STRVAR(counter_doc,
"Counter(value=0)\n--\n\n"
"A number of 64 bits (int) that all interpreters and threads of this process change\n"
"by atomic operations. None of them blocks.");

static PyType_Slot counter_slots[] = {
    SYNC_SLOTS,
    {Py_tp_new, counter_new},
    {Py_tp_repr, counter_repr},
    {Py_tp_methods, counter_methods},
    {Py_tp_getset, counter_getset},
    {Py_tp_doc, (void *)counter_doc},
    {0, NULL},
};

PyType_Spec counter_spec = {
    .name = "atoll.Counter",
    .basicsize = sizeof(syncobj),
    .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_IMMUTABLETYPE,
    .slots = counter_slots,
};

/* ------------------------------------------------------------------- cells */

/* A new value for a cell. NULL with an exception. */
static atoll_value *
cell_encode(core_state *state, PyObject *obj)
{
    atoll_msg msg;
    atoll_value *value = NULL;
    if (xfer_encode(state, obj, &msg) < 0) {
        return NULL;
    }
    if (!xfer_can_clone(&msg)) {
        raise_error(state, "NotShareableError",
                    "what atoll.move() took can be received once; a cell's "
                    "value can be loaded by many");
    }
    else if (atoll_value_new(&msg, &value) == ATOLL_OK) {
        return value;
    }
    else {
        PyErr_NoMemory();
    }
    atoll_msg_drop(&msg);
    return NULL;
}

static PyObject *
cell_decode(core_state *state, const atoll_value *value)
{
    atoll_msg msg;
    atoll_err err = xfer_clone(atoll_value_msg(value), &msg);
    return err == ATOLL_OK ? xfer_decode(state, &msg) : raise_err(state, err, "cell");
}

static PyObject *
cell_new(PyTypeObject *type, PyObject *args, PyObject *kwargs)
{
    static char *keywords[] = {"value", NULL};
    core_state *state = PyType_GetModuleState(type);
    PyObject *obj;
    if (!PyArg_ParseTupleAndKeywords(args, kwargs, "O:Cell", keywords, &obj)) {
        return NULL;
    }
    atoll_value *value = cell_encode(state, obj);
    if (value == NULL) {
        return NULL;
    }
    atoll_sync *sync;
    atoll_err err = atoll_sync_new(ATOLL_CELL, &sync);
    if (err != ATOLL_OK) {
        atoll_value_unref(value);
        return raise_err(state, err, "cell");
    }
    atoll_value *none = atoll_cell_swap(sync, value);
    assert(none == NULL);
    (void)none;
    return sync_made(type, err, sync);
}

PyDoc_STRVAR(load_doc,
"load($self, /)\n--\n\n"
"The value: a copy, of one's own. Does not block.");

static PyObject *
cell_load(PyObject *obj, PyObject *Py_UNUSED(ignored))
{
    syncobj *self = (syncobj *)obj;
    if (is_dead(self)) {
        return NULL;
    }
    atoll_value *value = atoll_cell_load(self->sync);
    PyObject *result = cell_decode(self->state, value);
    atoll_value_unref(value);
    return result;
}

/* What was there, with its reference. NULL with an exception. */
static atoll_value *
swap_in(syncobj *self, PyObject *obj)
{
    atoll_value *value = is_dead(self) ? NULL : cell_encode(self->state, obj);
    return value == NULL ? NULL : atoll_cell_swap(self->sync, value);
}

PyDoc_STRVAR(store_doc,
"store($self, value, /)\n--\n\n"
"Put a copy of `value`, anything that crosses, into it. Does not block. Raises\n"
"NotShareableError if it cannot cross, or is what atoll.move() took.");

static PyObject *
cell_store(PyObject *obj, PyObject *arg)
{
    atoll_value *old = swap_in((syncobj *)obj, arg);
    if (old == NULL) {
        return NULL;
    }
    atoll_value_unref(old);
    Py_RETURN_NONE;
}

PyDoc_STRVAR(swap_doc,
"swap($self, value, /)\n--\n\nAs store(); returns what was in it before.");

static PyObject *
cell_swap(PyObject *obj, PyObject *arg)
{
    syncobj *self = (syncobj *)obj;
    atoll_value *old = swap_in(self, arg);
    if (old == NULL) {
        return NULL;
    }
    PyObject *result = cell_decode(self->state, old);
    atoll_value_unref(old);
    return result;
}

/* 1, 0, -1 with an exception. */
static int
is_expected(core_state *state, const atoll_value *value, PyObject *expected)
{
    PyObject *now = cell_decode(state, value);
    if (now == NULL) {
        return -1;
    }
    int same = Py_IS_TYPE(now, Py_TYPE(expected))
                   ? PyObject_RichCompareBool(now, expected, Py_EQ)
                   : 0;
    Py_DECREF(now);
    return same;
}

PyDoc_STRVAR(cell_cas_doc,
"compare_and_set($self, /, expected, new)\n--\n\n"
"Put a copy of `new` into it if what is in it is of the same type as `expected`\n"
"and == to it. Returns whether it was; if not, nothing has changed.\n\n"
"== may be code of yours, so it is called without a lock: if the value changes\n"
"meanwhile it is compared again.");

static PyObject *
cell_cas(PyObject *obj, PyObject *args, PyObject *kwargs)
{
    static char *keywords[] = {"expected", "new", NULL};
    syncobj *self = (syncobj *)obj;
    PyObject *expected, *wanted;
    if (!PyArg_ParseTupleAndKeywords(args, kwargs, "OO:compare_and_set", keywords,
                                     &expected, &wanted) ||
        is_dead(self)) {
        return NULL;
    }
    atoll_value *value = cell_encode(self->state, wanted);
    if (value == NULL) {
        return NULL;
    }
    bool done = false;
    int same = 1;
    while (same == 1 && !done) {
        atoll_value *seen = atoll_cell_load(self->sync);
        same = is_expected(self->state, seen, expected);
        if (same == 1) {
            done = atoll_cell_replace(self->sync, seen, value);
        }
        if (done) {
            atoll_value_unref(seen); /* the cell's */
        }
        atoll_value_unref(seen);
        if (!done && same == 1 && PyErr_CheckSignals() < 0) {
            same = -1;
        }
    }
    if (!done) {
        atoll_value_unref(value);
    }
    return same < 0 ? NULL : PyBool_FromLong(done);
}

static PyObject *
cell_repr(PyObject *obj)
{
    return sync_repr(obj, "id=%llu",
                     (unsigned long long)atoll_sync_id(((syncobj *)obj)->sync));
}

static PyMethodDef cell_methods[] = {
    {"__class_getitem__", Py_GenericAlias, METH_O | METH_CLASS, core_generic_doc},
    {"load", cell_load, METH_NOARGS, load_doc},
    {"store", cell_store, METH_O, store_doc},
    {"swap", cell_swap, METH_O, swap_doc},
    {"compare_and_set", (PyCFunction)(void *)cell_cas, METH_VARARGS | METH_KEYWORDS,
     cell_cas_doc},
    {"__reduce__", sync_reduce, METH_NOARGS, NULL},
    {NULL, NULL, 0, NULL},
};

static PyGetSetDef cell_getset[] = {
    SYNC_ID,
    {NULL, NULL, NULL, NULL, NULL},
};

PyDoc_STRVAR(cell_doc,
"Cell(value)\n--\n\n"
"A place for a value that all interpreters and threads of this process read and\n"
"write. It holds a copy, which nobody can change; handles in it (queues, locks, …)\n"
"stay alive with it. A cell that holds itself is never freed.");

static PyType_Slot cell_slots[] = {
    SYNC_SLOTS,
    {Py_tp_new, cell_new},
    {Py_tp_repr, cell_repr},
    {Py_tp_methods, cell_methods},
    {Py_tp_getset, cell_getset},
    {Py_tp_doc, (void *)cell_doc},
    {0, NULL},
};

PyType_Spec cell_spec = {
    .name = "atoll.Cell",
    .basicsize = sizeof(syncobj),
    .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_IMMUTABLETYPE,
    .slots = cell_slots,
};
