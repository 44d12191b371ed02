/* atoll.Semaphore, BoundedSemaphore and Event. See sync/sync.h. */
#include "sync/sync.h"

/* -------------------------------------------------------------- semaphores */

static PyObject *
new_semaphore(PyTypeObject *type, PyObject *args, PyObject *kwargs, bool bounded)
{
    static char *keywords[] = {"value", NULL};
    PyObject *given = NULL;
    int64_t value = 1;
    if (!PyArg_ParseTupleAndKeywords(args, kwargs, "|O", keywords, &given) ||
        (given != NULL && args_int("value", given, &value) < 0)) {
        return NULL;
    }
    if (value < 0) {
        PyErr_SetString(PyExc_ValueError, "semaphore initial value must be >= 0");
        return NULL;
    }
    atoll_sync *sync;
    atoll_err err = atoll_sem_new(value, bounded ? value : -1, &sync);
    return sync_made(type, err, sync);
}

static PyObject *
semaphore_new(PyTypeObject *type, PyObject *args, PyObject *kwargs)
{
    return new_semaphore(type, args, kwargs, false);
}

static PyObject *
bounded_new(PyTypeObject *type, PyObject *args, PyObject *kwargs)
{
    return new_semaphore(type, args, kwargs, true);
}

PyDoc_STRVAR(acquire_doc,
"acquire($self, /, blocking=True, timeout=None)\n--\n\n"
"Take a permit. Those who wait get one in the order in which they came.\n\n"
"Args:\n"
"  blocking (bool): False: try once.\n"
"  timeout (float | None): seconds to wait; None for ever.\n"
"Returns:\n"
"  True; False: not in time.\n"
"Can be interrupted by a signal; then none was taken.");

static PyObject *
sem_acquire(PyObject *obj, PyObject *const *args, Py_ssize_t nargs, PyObject *kwnames)
{
    syncobj *self = (syncobj *)obj;
    static const char *const names[] = {"blocking", "timeout"};
    PyObject *values[2] = {NULL, NULL};
    int64_t deadline;
    atoll_err err;
    if (args_parse("acquire", args, nargs, kwnames, names, 2, 0, 2, values) < 0) {
        return NULL;
    }
    int blocking = values[0] == NULL ? 1 : PyObject_IsTrue(values[0]);
    if (blocking < 0) {
        return NULL;
    }
    if (!blocking && values[1] != NULL && values[1] != Py_None) {
        PyErr_SetString(PyExc_ValueError,
                        "can't specify timeout for non-blocking acquire");
        return NULL;
    }
    if (sync_deadline(values[1], &deadline) < 0 ||
        sync_take(self->state, self->sync, blocking ? deadline : ATOLL_NOW, &err) < 0) {
        return NULL;
    }
    return sync_answer(self->state, self->sync, err);
}

PyDoc_STRVAR(acquire_async_doc,
"acquire_async($self, /)\n--\n\n"
"await semaphore.acquire_async(): as acquire(), for a coroutine of asyncio or Trio.\n"
"If there is a permit it does not yield. When it is cancelled, none was taken.");

static PyObject *
sem_give(syncobj *self, long long n)
{
    atoll_err err = atoll_sem_release(self->sync, n);
    if (err == ATOLL_OK) {
        Py_RETURN_NONE;
    }
    if (err != ATOLL_ERR_INVALID) {
        return sync_raise(self->state, self->sync, err);
    }
    if (atoll_sem_limit(self->sync) < 0) {
        PyErr_SetString(PyExc_OverflowError, "too many permits");
    }
    else {
        PyErr_SetString(PyExc_ValueError, "Semaphore released too many times");
    }
    return NULL;
}

PyDoc_STRVAR(release_doc,
"release($self, /, n=1)\n--\n\n"
"Give n permits, first to those who wait. Raises ValueError if n < 1 or if a\n"
"BoundedSemaphore would have more than it began with; then none is given. Does not\n"
"block.");

static PyObject *
sem_release(PyObject *obj, PyObject *const *args, Py_ssize_t nargs, PyObject *kwnames)
{
    static const char *const names[] = {"n"};
    PyObject *values[1] = {NULL};
    if (args_parse("release", args, nargs, kwnames, names, 1, 0, 1, values) < 0) {
        return NULL;
    }
    int64_t n = 1;
    if (values[0] != NULL && args_int("n", values[0], &n) < 0) {
        return NULL;
    }
    if (n < 1) {
        PyErr_SetString(PyExc_ValueError, "n must be one or more");
        return NULL;
    }
    return sem_give((syncobj *)obj, n);
}

static PyObject *
sem_exit(PyObject *obj, PyObject *const *Py_UNUSED(args), Py_ssize_t Py_UNUSED(nargs))
{
    return sem_give((syncobj *)obj, 1);
}

static PyObject *
sem_repr(PyObject *obj)
{
    const atoll_sync *sync = ((syncobj *)obj)->sync;
    long long value = atoll_sem_value(sync), limit = atoll_sem_limit(sync);
    return limit < 0 ? sync_repr(obj, "value=%lld", value)
                     : sync_repr(obj, "value=%lld/%lld", value, limit);
}

static PyMethodDef sem_methods[] = {
    {"acquire", (PyCFunction)(void *)sem_acquire, METH_FASTCALL | METH_KEYWORDS,
     acquire_doc},
    {"acquire_async", sync_take_async, METH_NOARGS, acquire_async_doc},
    {"release", (PyCFunction)(void *)sem_release, METH_FASTCALL | METH_KEYWORDS,
     release_doc},
    {"__enter__", sync_enter, METH_NOARGS, NULL},
    {"__exit__", (PyCFunction)(void *)sem_exit, METH_FASTCALL, NULL},
    {"__reduce__", sync_reduce, METH_NOARGS, NULL},
    {NULL, NULL, 0, NULL},
};

static PyGetSetDef getset[] = {
    SYNC_ID,
    {NULL, NULL, NULL, NULL, NULL},
};

PyDoc_STRVAR(semaphore_doc,
"Semaphore(value=1)\n--\n\n"
"threading.Semaphore, for all interpreters and threads of this process, with `value`\n"
"(int) permits at first. Permits that an interpreter has taken end with it.");

PyDoc_STRVAR(bounded_doc,
"BoundedSemaphore(value=1)\n--\n\n"
"As Semaphore, but with never more permits than at first.");

static PyType_Slot semaphore_slots[] = {
    SYNC_SLOTS,
    {Py_tp_new, semaphore_new},
    {Py_tp_repr, sem_repr},
    {Py_tp_methods, sem_methods},
    {Py_tp_getset, getset},
    {Py_tp_doc, (void *)semaphore_doc},
    {0, NULL},
};

static PyType_Slot bounded_slots[] = {
    SYNC_SLOTS,
    {Py_tp_new, bounded_new},
    {Py_tp_repr, sem_repr},
    {Py_tp_methods, sem_methods},
    {Py_tp_getset, getset},
    {Py_tp_doc, (void *)bounded_doc},
    {0, NULL},
};

PyType_Spec semaphore_spec = {
    .name = "atoll.Semaphore",
    .basicsize = sizeof(syncobj),
    .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_IMMUTABLETYPE,
    .slots = semaphore_slots,
};

PyType_Spec bounded_spec = {
    .name = "atoll.BoundedSemaphore",
    .basicsize = sizeof(syncobj),
    .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_IMMUTABLETYPE,
    .slots = bounded_slots,
};

/* ------------------------------------------------------------------ events */

static PyObject *
event_new(PyTypeObject *type, PyObject *args, PyObject *kwargs)
{
    if (PyTuple_GET_SIZE(args) > 0 || (kwargs != NULL && PyDict_Size(kwargs))) {
        PyErr_SetString(PyExc_TypeError, "Event() takes no arguments");
        return NULL;
    }
    atoll_sync *sync;
    atoll_err err = atoll_sync_new(ATOLL_FLAG, &sync);
    return sync_made(type, err, sync);
}

PyDoc_STRVAR(is_set_doc, "is_set($self, /)\n--\n\nIs it set? (bool)");

static PyObject *
event_is_set(PyObject *obj, PyObject *Py_UNUSED(ignored))
{
    return PyBool_FromLong(atoll_flag_is_set(((syncobj *)obj)->sync));
}

static PyObject *
sem_none_or_raise(syncobj *self, atoll_err err)
{
    if (err == ATOLL_OK) {
        Py_RETURN_NONE;
    }
    return sync_raise(self->state, self->sync, err);
}

PyDoc_STRVAR(set_doc,
"set($self, /)\n--\n\n"
"Set it. All who wait are woken, in the order in which they came, and have waited\n"
"with success even if it is cleared before they run. Does not block.");

static PyObject *
event_set(PyObject *obj, PyObject *Py_UNUSED(ignored))
{
    syncobj *self = (syncobj *)obj;
    return sem_none_or_raise(self, atoll_flag_set(self->sync));
}

PyDoc_STRVAR(clear_doc,
"clear($self, /)\n--\n\nIt is not set any more. Does not block.");

static PyObject *
event_clear(PyObject *obj, PyObject *Py_UNUSED(ignored))
{
    syncobj *self = (syncobj *)obj;
    return sem_none_or_raise(self, atoll_flag_clear(self->sync));
}

PyDoc_STRVAR(wait_doc,
"wait($self, /, timeout=None)\n--\n\n"
"Wait until it is set.\n\n"
"Args:\n"
"  timeout (float | None): seconds to wait; None for ever.\n"
"Returns:\n"
"  True; False: not in time.\n"
"Can be interrupted by a signal.");

static PyObject *
event_wait(PyObject *obj, PyObject *const *args, Py_ssize_t nargs, PyObject *kwnames)
{
    syncobj *self = (syncobj *)obj;
    static const char *const names[] = {"timeout"};
    PyObject *values[1] = {NULL};
    int64_t deadline;
    atoll_err err;
    if (args_parse("wait", args, nargs, kwnames, names, 1, 0, 1, values) < 0 ||
        sync_deadline(values[0], &deadline) < 0 ||
        sync_take(self->state, self->sync, deadline, &err) < 0) {
        return NULL;
    }
    return sync_answer(self->state, self->sync, err);
}

PyDoc_STRVAR(wait_async_doc,
"wait_async($self, /)\n--\n\n"
"await event.wait_async(): as wait(), for a coroutine of asyncio or Trio. If it is\n"
"set it does not yield.");

static PyObject *
event_repr(PyObject *obj)
{
    return sync_repr(obj, "%s",
                     atoll_flag_is_set(((syncobj *)obj)->sync) ? "set" : "unset");
}

static PyMethodDef event_methods[] = {
    {"is_set", event_is_set, METH_NOARGS, is_set_doc},
    {"set", event_set, METH_NOARGS, set_doc},
    {"clear", event_clear, METH_NOARGS, clear_doc},
    {"wait", (PyCFunction)(void *)event_wait, METH_FASTCALL | METH_KEYWORDS, wait_doc},
    {"wait_async", sync_take_async, METH_NOARGS, wait_async_doc},
    {"__reduce__", sync_reduce, METH_NOARGS, NULL},
    {NULL, NULL, 0, NULL},
};

PyDoc_STRVAR(event_doc,
"Event()\n--\n\n"
"threading.Event, for all interpreters and threads of this process.");

static PyType_Slot event_slots[] = {
    SYNC_SLOTS,
    {Py_tp_new, event_new},
    {Py_tp_repr, event_repr},
    {Py_tp_methods, event_methods},
    {Py_tp_getset, getset},
    {Py_tp_doc, (void *)event_doc},
    {0, NULL},
};

PyType_Spec event_spec = {
    .name = "atoll.Event",
    .basicsize = sizeof(syncobj),
    .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_IMMUTABLETYPE,
    .slots = event_slots,
};
