/* atoll.Queue: a queue.Queue between interpreters. */
#include "chan/chan.h"
#include "wait/wait.h"

static inline atoll_chan *
queue_chan_of(PyObject *obj)
{
    return ((chanobj *)obj)->chan;
}

static PyObject *
queue_from_chan(core_state *state, atoll_chan *chan)
{
    return chanobj_get(state, HANDLE_QUEUE, chan);
}

/* ------------------------------------------------------------- put and get */

PyObject *
queue_raise_for(chanobj *self, atoll_err err, const char *if_late,
                const char *if_late_text)
{
    unsigned long long id = atoll_chan_id(self->chan);
    switch (err) {
    case ATOLL_ERR_AGAIN:
    case ATOLL_ERR_TIMEOUT:
        return raise_error(self->state, if_late, "queue %llu is %s", id, if_late_text);
    case ATOLL_ERR_CLOSED:
        return raise_error(self->state, "QueueShutDown",
                           "queue %llu has been shut down", id);
    default:
        return raise_err(self->state, err, "queue");
    }
}

PyObject *
queue_raise(chanobj *self, atoll_err err)
{
    return queue_raise_for(self, err, "QueueEmpty", "not ready");
}

static PyObject *
get_object(chanobj *self, int64_t deadline)
{
    atoll_msg msg;
    atoll_err err;
    if (chanobj_recv(self, &msg, deadline, &err) < 0) {
        return NULL;
    }
    return err == ATOLL_OK ? chanobj_open(self, &msg)
                           : queue_raise_for(self, err, "QueueEmpty", "empty");
}

/* block and timeout, as queue.Queue has them */
static int
parse_deadline(PyObject *block, PyObject *timeout, int64_t *deadline)
{
    int truth = block == NULL ? 1 : PyObject_IsTrue(block);
    if (truth < 0) {
        return -1;
    }
    if (!truth) {
        *deadline = ATOLL_NOW;
        return 0;
    }
    return detach_deadline(timeout, deadline);
}

PyDoc_STRVAR(put_doc,
"put($self, /, obj, block=True, timeout=None, *, unbounditems=None)\n--\n\n"
"Add `obj` to the queue.\n\n"
"The object is copied: the receiver gets its own, equal one. Handles (queues,\n"
"channel ends, interpreters) arrive as handles of the same thing.\n\n"
"Args:\n"
"  obj: anything that crosses; see the reference.\n"
"  block (bool): wait while the queue is full; the GIL is released.\n"
"  timeout (float | None): seconds to wait; None for ever, 0 tries once.\n"
"  unbounditems: what becomes of the item if the interpreter that put it is\n"
"    closed before it is received: KEEP, UNBOUND, UNBOUND_ERROR or\n"
"    UNBOUND_REMOVE; None is the queue's default.\n"
"Raises:\n"
"  QueueFull: there was no room in time. The queue is as it was.\n"
"  QueueShutDown: shutdown() has been called.\n"
"  NotShareableError: `obj` cannot cross. The queue is as it was.\n"
"  ValueError, TypeError: the timeout is negative or not a number.\n"
"Can be interrupted by a signal; then nothing has been put.");

static PyObject *
queue_put(PyObject *obj, PyObject *const *args, Py_ssize_t nargs, PyObject *kwnames)
{
    chanobj *self = (chanobj *)obj;
    if (nargs == 1 && kwnames == NULL) {
        return chanobj_send_object(self, args[0], ATOLL_FOREVER, -1);
    }
    static const char *const keywords[] = {"obj", "block", "timeout", "unbounditems"};
    PyObject *values[4] = {NULL, NULL, NULL, NULL};
    int64_t deadline;
    int orphan;
    if (args_parse("put", args, nargs, kwnames, keywords, 4, 1, 3, values) < 0 ||
        parse_deadline(values[1], values[2], &deadline) < 0 ||
        chanobj_parse_orphan(values[3], &orphan) < 0) {
        return NULL;
    }
    return chanobj_send_object(self, values[0], deadline, orphan);
}

PyDoc_STRVAR(put_nowait_doc,
"put_nowait($self, /, obj, *, unbounditems=None)\n--\n\n"
"put(obj, block=False): add without waiting, or raise QueueFull.");

PyDoc_STRVAR(get_doc,
"get($self, /, block=True, timeout=None)\n--\n\n"
"Remove and return the oldest item.\n\n"
"Args:\n"
"  block (bool): wait while the queue is empty; the GIL is released.\n"
"  timeout (float | None): seconds to wait; None for ever, 0 tries once.\n"
"Returns:\n"
"  A new object equal to the one that was put (or UNBOUND).\n"
"Raises:\n"
"  QueueEmpty: nothing came in time.\n"
"  QueueShutDown: shut down, and all that was accepted has been received.\n"
"  ItemInterpreterDestroyed: see put(unbounditems=).\n"
"  ValueError, TypeError: the timeout is negative or not a number.\n"
"Waiting getters are served in order. Can be interrupted by a signal or\n"
"Interpreter.interrupt(); then the queue is as it was, also while the item is\n"
"being decoded: it is the oldest again. An item whose own code fails to decode it\n"
"has been removed.");

static PyObject *
queue_get(PyObject *obj, PyObject *const *args, Py_ssize_t nargs, PyObject *kwnames)
{
    chanobj *self = (chanobj *)obj;
    if (nargs == 0 && kwnames == NULL) {
        return get_object(self, ATOLL_FOREVER);
    }
    static const char *const keywords[] = {"block", "timeout"};
    PyObject *values[2] = {NULL, NULL};
    int64_t deadline;
    if (args_parse("get", args, nargs, kwnames, keywords, 2, 0, 2, values) < 0 ||
        parse_deadline(values[0], values[1], &deadline) < 0) {
        return NULL;
    }
    return get_object(self, deadline);
}

PyDoc_STRVAR(get_nowait_doc,
"get_nowait($self, /)\n--\n\n"
"get(block=False): the oldest item, or raise QueueEmpty.");

static PyObject *
queue_get_nowait(PyObject *obj, PyObject *Py_UNUSED(ignored))
{
    return get_object((chanobj *)obj, ATOLL_NOW);
}

/* --------------------------------------------------------------------- done */

PyDoc_STRVAR(task_done_doc,
"task_done($self, /)\n--\n\n"
"What get() has returned is done with: one of the items that have been put, in\n"
"whatever order, and whichever interpreter has got it. Whoever gets items for those\n"
"who join() calls it once for each. Does not block. Raises ValueError if all items\n"
"that have been put are done already.");

static PyObject *
queue_task_done(PyObject *obj, PyObject *Py_UNUSED(ignored))
{
    atoll_err err = atoll_chan_done(queue_chan_of(obj));
    if (err == ATOLL_OK) {
        Py_RETURN_NONE;
    }
    if (err == ATOLL_ERR_INVALID) {
        PyErr_SetString(PyExc_ValueError, "task_done() called too many times");
        return NULL;
    }
    return queue_raise((chanobj *)obj, err);
}

static atoll_err
do_join(void *arg, const atoll_wait *wait)
{
    return atoll_chan_join(arg, wait);
}

PyDoc_STRVAR(join_doc,
"join($self, /)\n--\n\n"
"Wait until all items that have been put are done: task_done() has been called for\n"
"each, or they have been dropped, by shutdown(immediate=True) or by their\n"
"`unbounditems`. The GIL is released. It is over as soon as that is so, although\n"
"more may be put before this thread runs. Can be interrupted by a signal.");

static PyObject *
queue_join(PyObject *obj, PyObject *Py_UNUSED(ignored))
{
    static const atoll_wait now = {.deadline = ATOLL_NOW};
    chanobj *self = (chanobj *)obj;
    atoll_err err = atoll_chan_join(self->chan, &now);
    if (err == ATOLL_ERR_AGAIN &&
        detach_wait_one(self->state, do_join, self->chan, ATOLL_FOREVER, NULL,
                        &wait_join, self->chan, &err) < 0) {
        return NULL;
    }
    if (err == ATOLL_OK) {
        Py_RETURN_NONE;
    }
    return queue_raise(self, err);
}

PyDoc_STRVAR(join_async_doc,
"join_async($self, /)\n--\n\n"
"await queue.join_async(): as join(), for a coroutine of asyncio or Trio. If all is\n"
"done it does not yield.");

static PyObject *
queue_join_async(PyObject *obj, PyObject *Py_UNUSED(ignored))
{
    return aio_call(((chanobj *)obj)->state, "join_async", obj, NULL, 0, NULL);
}

/* ---------------------------------------------------------------- coroutines */

PyDoc_STRVAR(put_async_doc,
"put_async($self, /, obj, *, unbounditems=None)\n--\n\n"
"await queue.put_async(obj): as put(), for a coroutine of asyncio or Trio. The\n"
"thread goes on with others while the queue is full. If there is room it does\n"
"not yield. When it is cancelled, nothing has been put.");

PyDoc_STRVAR(get_async_doc,
"get_async($self, /)\n--\n\n"
"await queue.get_async(): as get(), for a coroutine of asyncio or Trio. If an\n"
"item is there it does not yield. When it is cancelled, the queue is as it was.\n"
"`async for item in queue` gets until the queue is shut down.");

/* ---------------------------------------------------------------- the rest */

PyDoc_STRVAR(qsize_doc, "qsize($self, /)\n--\n\n"
"How many items are in the queue. Another thread may change it at once.");

static PyObject *
queue_qsize(PyObject *obj, PyObject *Py_UNUSED(ignored))
{
    return PyLong_FromSize_t(atoll_chan_len(queue_chan_of(obj)));
}

PyDoc_STRVAR(empty_doc, "empty($self, /)\n--\n\nqsize() == 0.");

static PyObject *
queue_empty(PyObject *obj, PyObject *Py_UNUSED(ignored))
{
    return PyBool_FromLong(atoll_chan_len(queue_chan_of(obj)) == 0);
}

PyDoc_STRVAR(full_doc, "full($self, /)\n--\n\n"
"Is there no room? Always false when maxsize <= 0.");

static PyObject *
queue_full(PyObject *obj, PyObject *Py_UNUSED(ignored))
{
    atoll_chan *chan = queue_chan_of(obj);
    return PyBool_FromLong(atoll_chan_len(chan) >= atoll_chan_capacity(chan));
}

PyDoc_STRVAR(shutdown_doc,
"shutdown($self, /, immediate=False)\n--\n\n"
"No more items: put() raises QueueShutDown, and so do those who wait to put.\n"
"get() returns what was accepted and then raises QueueShutDown; with\n"
"`immediate` what is left is dropped, and so done (see task_done). Does not\n"
"block. Calling it twice is allowed.");

static PyObject *
queue_shutdown(PyObject *obj, PyObject *const *args, Py_ssize_t nargs,
               PyObject *kwnames)
{
    static const char *const keywords[] = {"immediate"};
    PyObject *values[1] = {NULL};
    if (args_parse("shutdown", args, nargs, kwnames, keywords, 1, 0, 1, values) < 0) {
        return NULL;
    }
    int immediate = values[0] == NULL ? 0 : PyObject_IsTrue(values[0]);
    if (immediate < 0) {
        return NULL;
    }
    atoll_chan_close(queue_chan_of(obj), immediate);
    Py_RETURN_NONE;
}

static PyObject *
queue_get_maxsize(PyObject *obj, void *Py_UNUSED(closure))
{
    return PyLong_FromLongLong(atoll_chan_user(queue_chan_of(obj))[QUEUE_MAXSIZE]);
}

static PyObject *
queue_get_unbounditems(PyObject *obj, void *Py_UNUSED(closure))
{
    chanobj *self = (chanobj *)obj;
    return chanobj_orphan_rule(self->state,
                               (int)atoll_chan_user(self->chan)[QUEUE_ORPHAN]);
}

static PyObject *
queue_get_is_shutdown(PyObject *obj, void *Py_UNUSED(closure))
{
    return PyBool_FromLong(atoll_chan_is_closed(queue_chan_of(obj)));
}

static PyObject *
queue_repr(PyObject *obj)
{
    return PyUnicode_FromFormat("Queue(%llu)",
                                (unsigned long long)atoll_chan_id(queue_chan_of(obj)));
}

static PyObject *
queue_reduce(PyObject *obj, PyObject *Py_UNUSED(ignored))
{
    return chanobj_reduce((chanobj *)obj, "_find_queue");
}

PyDoc_STRVAR(queue_doc,
"A queue between interpreters (and threads), with the methods of queue.Queue.\n"
"\n"
"Made by create_queue(). Queue(id) gives the live queue with that id. There is\n"
"one object per queue and interpreter; the queue itself lives as long as any\n"
"handle or message refers to it, whichever interpreter is closed. A handle\n"
"pickles as its id, within this process.");

static PyObject *
queue_new(PyTypeObject *type, PyObject *args, PyObject *kwargs)
{
    PyObject *id;
    if (kwargs != NULL && PyDict_GET_SIZE(kwargs) > 0) {
        PyErr_SetString(PyExc_TypeError, "Queue() takes no keyword arguments");
        return NULL;
    }
    if (!PyArg_ParseTuple(args, "O:Queue", &id)) {
        return NULL;
    }
    if (!PyLong_Check(id)) {
        return PyErr_Format(PyExc_TypeError, "id must be an int, got %R", id);
    }
    int beyond;
    long long value = PyLong_AsLongLongAndOverflow(id, &beyond);
    if (value < 0 && beyond <= 0) {
        return PyErr_Format(PyExc_ValueError, "id must be 0 or more, got %R", id);
    }
    return chanobj_find(PyType_GetModuleState(type), HANDLE_QUEUE, KIND_QUEUE,
                        beyond > 0 ? UINT64_MAX : (uint64_t)value,
                        "QueueNotFoundError");
}

static PyMethodDef queue_methods[] = {
    {"__class_getitem__", Py_GenericAlias, METH_O | METH_CLASS, core_generic_doc},
    {"put", (PyCFunction)(void *)queue_put, METH_FASTCALL | METH_KEYWORDS, put_doc},
    {"put_nowait", (PyCFunction)(void *)chanobj_send_nowait,
     METH_FASTCALL | METH_KEYWORDS, put_nowait_doc},
    {"get", (PyCFunction)(void *)queue_get, METH_FASTCALL | METH_KEYWORDS, get_doc},
    {"get_nowait", queue_get_nowait, METH_NOARGS, get_nowait_doc},
    {"put_async", (PyCFunction)(void *)chanobj_send_async,
     METH_FASTCALL | METH_KEYWORDS, put_async_doc},
    {"get_async", chanobj_recv_async, METH_NOARGS, get_async_doc},
    {"task_done", queue_task_done, METH_NOARGS, task_done_doc},
    {"join", queue_join, METH_NOARGS, join_doc},
    {"join_async", queue_join_async, METH_NOARGS, join_async_doc},
    {"qsize", queue_qsize, METH_NOARGS, qsize_doc},
    {"empty", queue_empty, METH_NOARGS, empty_doc},
    {"full", queue_full, METH_NOARGS, full_doc},
    {"shutdown", (PyCFunction)(void *)queue_shutdown, METH_FASTCALL | METH_KEYWORDS,
     shutdown_doc},
    {"__reduce__", queue_reduce, METH_NOARGS, NULL},
    {NULL, NULL, 0, NULL},
};

static PyGetSetDef queue_getset[] = {
    {"id", chanobj_get_id, NULL, "The id (int), unique in this process.", NULL},
    {"maxsize", queue_get_maxsize, NULL, "Items it may hold (int); <= 0: no limit.",
     NULL},
    {"unbounditems", queue_get_unbounditems, NULL, "The default of put(unbounditems=).",
     NULL},
    {"is_shutdown", queue_get_is_shutdown, NULL, "Has shutdown() been called? (bool)",
     NULL},
    {NULL, NULL, NULL, NULL, NULL},
};

static PyType_Slot queue_slots[] = {
    {Py_tp_new, queue_new},
    {Py_tp_dealloc, chanobj_dealloc},
    {Py_tp_repr, queue_repr},
    {Py_tp_hash, chanobj_hash},
    {Py_am_aiter, PyObject_SelfIter},
    {Py_am_anext, chanobj_anext},
    {Py_tp_methods, queue_methods},
    {Py_tp_getset, queue_getset},
    {Py_tp_members, chanobj_members},
    {Py_tp_doc, (void *)queue_doc},
    {0, NULL},
};

static PyType_Spec queue_spec = {
    .name = "atoll.Queue",
    .basicsize = sizeof(chanobj),
    .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_IMMUTABLETYPE,
    .slots = queue_slots,
};

int
queue_add_type(core_state *state)
{
    state->chan->queue_type = core_add_type(state, &queue_spec);
    return state->chan->queue_type == NULL ? -1 : 0;
}

/* ------------------------------------------------------- module functions */

static PyObject *
core_find_queue(PyObject *module, PyObject *args)
{
    core_state *state = PyModule_GetState(module);
    unsigned long long id;
    if (xfer_parse_find(state, args, "queue", "QueueNotFoundError", &id) < 0) {
        return NULL;
    }
    return chanobj_find(state, HANDLE_QUEUE, KIND_QUEUE, id, "QueueNotFoundError");
}

PyDoc_STRVAR(create_queue_doc,
"create_queue(maxsize=0, *, unbounditems=None)\n--\n\n"
"Make a queue for all interpreters and threads of this process.\n\n"
"Args:\n"
"  maxsize (int): items it may hold; 0 or less: no limit.\n"
"  unbounditems: the default of Queue.put(unbounditems=). KEEP (or None)\n"
"    delivers what was accepted even if its sender is gone. (The standard\n"
"    library's default is UNBOUND.)\n"
"Returns:\n"
"  Queue");

static PyObject *
core_create_queue(PyObject *module, PyObject *args, PyObject *kwargs)
{
    core_state *state = PyModule_GetState(module);
    static char *keywords[] = {"maxsize", "unbounditems", NULL};
    PyObject *maxsize_obj = NULL, *unbound = NULL;
    if (!PyArg_ParseTupleAndKeywords(args, kwargs, "|O$O:create_queue", keywords,
                                     &maxsize_obj, &unbound)) {
        return NULL;
    }
    int64_t maxsize = 0;
    if (maxsize_obj != NULL && args_int("maxsize", maxsize_obj, &maxsize) < 0) {
        return NULL;
    }
    int orphan;
    if (chanobj_parse_orphan(unbound, &orphan) < 0) {
        return NULL;
    }
    atoll_chan *chan;
    atoll_err err = atoll_chan_new(maxsize <= 0 ? ATOLL_UNBOUNDED : (size_t)maxsize,
                                   KIND_QUEUE, &chan);
    if (err != ATOLL_OK) {
        return raise_err(state, err, "queue");
    }
    atoll_chan_user(chan)[QUEUE_MAXSIZE] = maxsize;
    atoll_chan_user(chan)[QUEUE_ORPHAN] = orphan >= 0 ? orphan : 0;
    PyObject *obj = queue_from_chan(state, chan);
    atoll_chan_unref(chan);
    return obj;
}

PyDoc_STRVAR(list_queues_doc,
"list_queues()\n--\n\nAll live queues of this process, oldest first.");

static PyObject *
core_list_queues(PyObject *module, PyObject *Py_UNUSED(ignored))
{
    core_state *state = PyModule_GetState(module);
    return chanobj_list(state, KIND_QUEUE, queue_from_chan);
}

PyMethodDef queue_functions[] = {
    {"create_queue", (PyCFunction)(void *)core_create_queue,
     METH_VARARGS | METH_KEYWORDS, create_queue_doc},
    {"list_queues", core_list_queues, METH_NOARGS, list_queues_doc},
    {"_find_queue", core_find_queue, METH_VARARGS, NULL},
    {NULL, NULL, 0, NULL},
};
