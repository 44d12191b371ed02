/* atoll.SendChannel and atoll.RecvChannel: the two ends of a channel. */
#include "chanobj.h"
#include "cqobj.h"
#include "detach.h"

/* ------------------------------------------------------------ send, receive */

static PyObject *
raise_for(chanobj *self, atoll_err err, const char *if_not_ready)
{
    unsigned long long id = atoll_chan_id(self->chan);
    switch (err) {
    case ATOLL_ERR_AGAIN:
        return raise_error(self->state, if_not_ready, "channel %llu: %s", id,
                           self->kind == HANDLE_SEND
                               ? "no room and no receiver is waiting"
                               : "nothing has been sent");
    case ATOLL_ERR_TIMEOUT:
        return raise_error(self->state, "ChannelTimeout",
                           "channel %llu: %s in time", id,
                           self->kind == HANDLE_SEND ? "nobody received"
                                                     : "nothing was sent");
    case ATOLL_ERR_CLOSED:
        return raise_error(self->state, "ChannelClosed",
                           "channel %llu is closed", id);
    default:
        return raise_err(self->state, err, "channel");
    }
}

PyObject *
channel_raise(chanobj *self, atoll_err err)
{
    return raise_for(self, err, "ChannelEmpty");
}

static PyObject *
send_object(chanobj *self, PyObject *obj, int64_t deadline, int orphan)
{
    atoll_msg msg;
    if (xfer_encode(self->state, obj, &msg) < 0) {
        return NULL;
    }
    chanobj_set_orphan(self, &msg, orphan);
    atoll_err err;
    int rc = chanobj_send(self, &msg, deadline, &err);
    if (rc == 0 && err == ATOLL_OK) {
        Py_RETURN_NONE;
    }
    atoll_msg_drop(&msg);
    return rc < 0 ? NULL : raise_for(self, err, "ChannelFull");
}

PyDoc_STRVAR(send_doc,
"send(obj, timeout=None, *, unbounditems=None)\n--\n\n"
"Send `obj`; the receiver gets its own, equal object.\n\n"
"With capacity 0 it blocks until a receiver has it, otherwise until there is\n"
"room. The GIL is released. Waiting senders are served in order.\n\n"
"Args:\n"
"  obj: anything that crosses; see the reference.\n"
"  timeout (float | None): seconds to wait; None for ever, 0 tries once.\n"
"  unbounditems: as in Queue.put.\n"
"Raises:\n"
"  ChannelTimeout (a TimeoutError): not in time; nothing was sent. With 0\n"
"    ChannelFull.\n"
"  ChannelClosed: an end was closed, or no receiving end is left.\n"
"  NotShareableError: `obj` cannot cross.\n"
"Can be interrupted by a signal; then nothing was sent.");

static PyObject *
send_send(PyObject *obj, PyObject *const *args, Py_ssize_t nargs,
          PyObject *kwnames)
{
    chanobj *self = (chanobj *)obj;
    if (nargs == 1 && kwnames == NULL) {
        return send_object(self, args[0], ATOLL_FOREVER, -1);
    }
    static const char *const names[] = {"obj", "timeout", "unbounditems"};
    PyObject *values[3] = {NULL, NULL, NULL};
    int64_t deadline;
    int orphan;
    if (args_parse("send", args, nargs, kwnames, names, 3, 1, 2, values) < 0 ||
        detach_deadline(values[1], &deadline) < 0 ||
        chanobj_parse_orphan(values[2], &orphan) < 0) {
        return NULL;
    }
    return send_object(self, values[0], deadline, orphan);
}

PyDoc_STRVAR(send_nowait_doc,
"send_nowait(obj, *, unbounditems=None)\n--\n\n"
"Send without waiting, or raise ChannelFull: there is no room or, with\n"
"capacity 0, no receiver is waiting.");

static PyObject *
send_send_nowait(PyObject *obj, PyObject *const *args, Py_ssize_t nargs,
                 PyObject *kwnames)
{
    static const char *const names[] = {"obj", "unbounditems"};
    PyObject *values[2] = {NULL, NULL};
    int orphan;
    if (args_parse("send_nowait", args, nargs, kwnames, names, 2, 1, 1,
                   values) < 0 ||
        chanobj_parse_orphan(values[1], &orphan) < 0) {
        return NULL;
    }
    return send_object((chanobj *)obj, values[0], ATOLL_NOW, orphan);
}

PyDoc_STRVAR(send_buffer_doc,
"send_buffer(obj, timeout=None, *, unbounditems=None)\n--\n\n"
"send(atoll.share(obj)): the receiver gets a memoryview of the same memory.\n\n"
"`obj` is anything that exports a buffer. It is held until the last view is\n"
"gone. Raises TypeError if it exports none; else as send() does.");

static PyObject *
send_send_buffer(PyObject *obj, PyObject *const *args, Py_ssize_t nargs,
                 PyObject *kwnames)
{
    static const char *const names[] = {"obj", "timeout", "unbounditems"};
    PyObject *values[3] = {NULL, NULL, NULL};
    int64_t deadline;
    int orphan;
    if (args_parse("send_buffer", args, nargs, kwnames, names, 3, 1, 2,
                   values) < 0 ||
        detach_deadline(values[1], &deadline) < 0 ||
        chanobj_parse_orphan(values[2], &orphan) < 0) {
        return NULL;
    }
    PyObject *view = PyMemoryView_FromObject(values[0]);
    if (view == NULL) {
        return NULL;
    }
    PyObject *done = send_object((chanobj *)obj, view, deadline, orphan);
    Py_DECREF(view);
    return done;
}

static PyObject *
recv_object(chanobj *self, int64_t deadline, PyObject *if_not_ready)
{
    atoll_msg msg;
    atoll_err err;
    if (chanobj_recv(self, &msg, deadline, &err) < 0) {
        return NULL;
    }
    if (err == ATOLL_OK) {
        return chanobj_open(self, &msg);
    }
    if (err == ATOLL_ERR_AGAIN && if_not_ready != NULL) {
        return Py_NewRef(if_not_ready);
    }
    return raise_for(self, err, "ChannelEmpty");
}

PyDoc_STRVAR(recv_doc,
"recv(timeout=None)\n--\n\n"
"Receive the next object, waiting until one is sent. The GIL is released.\n"
"Waiting receivers are served in order.\n\n"
"Args:\n"
"  timeout (float | None): seconds to wait; None for ever, 0 tries once.\n"
"Raises:\n"
"  ChannelTimeout (a TimeoutError): nothing came in time. With 0\n"
"    ChannelEmpty.\n"
"  ChannelClosed: closed, and all that was accepted has been received.\n"
"  ItemInterpreterDestroyed: see Queue.put(unbounditems=).\n"
"Can be interrupted by a signal.");

static PyObject *
recv_recv(PyObject *obj, PyObject *const *args, Py_ssize_t nargs,
          PyObject *kwnames)
{
    static const char *const names[] = {"timeout"};
    PyObject *values[1] = {NULL};
    int64_t deadline;
    if (args_parse("recv", args, nargs, kwnames, names, 1, 0, 1, values) < 0 ||
        detach_deadline(values[0], &deadline) < 0) {
        return NULL;
    }
    return recv_object((chanobj *)obj, deadline, NULL);
}

PyDoc_STRVAR(recv_nowait_doc,
"recv_nowait(default=...)\n--\n\n"
"The next object if there is one; else `default` if given, or ChannelEmpty.");

static PyObject *
recv_recv_nowait(PyObject *obj, PyObject *const *args, Py_ssize_t nargs,
                 PyObject *kwnames)
{
    static const char *const names[] = {"default"};
    PyObject *values[1] = {NULL};
    if (args_parse("recv_nowait", args, nargs, kwnames, names, 1, 0, 1,
                   values) < 0) {
        return NULL;
    }
    return recv_object((chanobj *)obj, ATOLL_NOW, values[0]);
}

/* `for item in recv`: until the channel is closed. */
static PyObject *
recv_next(PyObject *obj)
{
    chanobj *self = (chanobj *)obj;
    atoll_msg msg;
    atoll_err err;
    if (chanobj_recv(self, &msg, ATOLL_FOREVER, &err) < 0) {
        return NULL;
    }
    if (err == ATOLL_ERR_CLOSED) {
        return NULL; /* StopIteration */
    }
    return err == ATOLL_OK ? chanobj_open(self, &msg)
                           : raise_for(self, err, "ChannelEmpty");
}

/* ---------------------------------------------------------------- coroutines */

PyDoc_STRVAR(send_async_doc,
"send_async(obj, *, unbounditems=None)\n--\n\n"
"await channel.send_async(obj): as send(), for a coroutine of asyncio or Trio.\n"
"If it can be done at once it does not yield. When it is cancelled, nothing was\n"
"sent.");

static PyObject *
send_send_async(PyObject *obj, PyObject *const *args, Py_ssize_t nargs,
                PyObject *kwnames)
{
    return aio_call(((chanobj *)obj)->state, "put_async", obj, args, nargs,
                    kwnames);
}

PyDoc_STRVAR(recv_async_doc,
"recv_async()\n--\n\n"
"await channel.recv_async(): as recv(), for a coroutine of asyncio or Trio. If\n"
"something is there it does not yield. When it is cancelled, nothing was\n"
"received. `async for obj in channel` receives until it is closed.");

static PyObject *
recv_recv_async(PyObject *obj, PyObject *Py_UNUSED(ignored))
{
    return aio_call(((chanobj *)obj)->state, "get_async", obj, NULL, 0, NULL);
}

static PyObject *
recv_anext(PyObject *obj)
{
    return aio_call(((chanobj *)obj)->state, "next_async", obj, NULL, 0,
                    NULL);
}

/* ------------------------------------------------------------- both of them */

PyDoc_STRVAR(close_doc,
"close()\n--\n\n"
"Close the channel. Senders, also those who wait, get ChannelClosed; receivers\n"
"get what was accepted first. Closed from the receiving end, what was not\n"
"received is dropped. Does not block. Calling it twice is allowed.");

static PyObject *
end_close(PyObject *obj, PyObject *Py_UNUSED(ignored))
{
    chanobj *self = (chanobj *)obj;
    atoll_chan_close(self->chan, self->kind == HANDLE_RECV);
    Py_RETURN_NONE;
}

static PyObject *
end_enter(PyObject *obj, PyObject *Py_UNUSED(ignored))
{
    return Py_NewRef(obj);
}

static PyObject *
end_exit(PyObject *obj, PyObject *Py_UNUSED(args))
{
    return end_close(obj, NULL);
}

static PyObject *
end_get_capacity(PyObject *obj, void *Py_UNUSED(closure))
{
    return PyLong_FromSize_t(atoll_chan_capacity(((chanobj *)obj)->chan));
}

static PyObject *
end_get_is_closed(PyObject *obj, void *Py_UNUSED(closure))
{
    return PyBool_FromLong(atoll_chan_is_closed(((chanobj *)obj)->chan));
}

static PyObject *
end_get_unbounditems(PyObject *obj, void *Py_UNUSED(closure))
{
    chanobj *self = (chanobj *)obj;
    return chanobj_orphan_rule(self->state,
                               (int)atoll_chan_user(self->chan)[CHANNEL_ORPHAN]);
}

static PyObject *
end_repr(PyObject *obj)
{
    chanobj *self = (chanobj *)obj;
    return PyUnicode_FromFormat(
        "%s(id=%llu)",
        self->kind == HANDLE_SEND ? "SendChannel" : "RecvChannel",
        (unsigned long long)atoll_chan_id(self->chan));
}

static PyObject *
end_reduce(PyObject *obj, PyObject *Py_UNUSED(ignored))
{
    chanobj *self = (chanobj *)obj;
    return chanobj_reduce(self, self->kind == HANDLE_SEND ? "_find_send"
                                                          : "_find_recv");
}

#define END_METHODS                                                         \
    {"close", end_close, METH_NOARGS, close_doc},                           \
    {"__enter__", end_enter, METH_NOARGS, NULL},                            \
    {"__exit__", end_exit, METH_VARARGS, NULL},                             \
    {"__reduce__", end_reduce, METH_NOARGS, NULL},                          \
    {NULL, NULL, 0, NULL}

static PyMethodDef send_methods[] = {
    {"send", (PyCFunction)(void *)send_send, METH_FASTCALL | METH_KEYWORDS,
     send_doc},
    {"send_nowait", (PyCFunction)(void *)send_send_nowait,
     METH_FASTCALL | METH_KEYWORDS, send_nowait_doc},
    {"send_async", (PyCFunction)(void *)send_send_async,
     METH_FASTCALL | METH_KEYWORDS, send_async_doc},
    {"send_buffer", (PyCFunction)(void *)send_send_buffer,
     METH_FASTCALL | METH_KEYWORDS, send_buffer_doc},
    END_METHODS,
};

static PyMethodDef recv_methods[] = {
    {"recv", (PyCFunction)(void *)recv_recv, METH_FASTCALL | METH_KEYWORDS,
     recv_doc},
    {"recv_nowait", (PyCFunction)(void *)recv_recv_nowait,
     METH_FASTCALL | METH_KEYWORDS, recv_nowait_doc},
    {"recv_async", recv_recv_async, METH_NOARGS, recv_async_doc},
    END_METHODS,
};

static PyGetSetDef end_getset[] = {
    {"id", chanobj_get_id, NULL,
     "The channel's id (int), unique in this process.", NULL},
    {"capacity", end_get_capacity, NULL,
     "Objects it may hold (int); 0 is a rendezvous.", NULL},
    {"is_closed", end_get_is_closed, NULL, "Is the channel closed? (bool)",
     NULL},
    {"unbounditems", end_get_unbounditems, NULL,
     "The default of send(unbounditems=).", NULL},
    {NULL, NULL, NULL, NULL, NULL},
};

#define LIFE_DOC                                                            \
    "Made by create_channel(); can be sent to other interpreters. One object\n" \
    "per channel and interpreter. When the last sending end of a channel goes\n" \
    "it closes after what was accepted; when the last receiving end goes it\n" \
    "closes at once. A context manager that closes. Pickles as its id, within\n" \
    "this process."

static PyType_Slot send_slots[] = {
    {Py_tp_dealloc, chanobj_dealloc},
    {Py_tp_repr, end_repr},
    {Py_tp_hash, chanobj_hash},
    {Py_tp_methods, send_methods},
    {Py_tp_getset, end_getset},
    {Py_tp_members, chanobj_members},
    {Py_tp_doc, "The sending end of a channel.\n\n" LIFE_DOC},
    {0, NULL},
};

static PyType_Slot recv_slots[] = {
    {Py_tp_dealloc, chanobj_dealloc},
    {Py_tp_repr, end_repr},
    {Py_tp_hash, chanobj_hash},
    {Py_tp_methods, recv_methods},
    {Py_tp_getset, end_getset},
    {Py_tp_members, chanobj_members},
    {Py_tp_iter, PyObject_SelfIter},
    {Py_tp_iternext, recv_next},
    {Py_am_aiter, PyObject_SelfIter},
    {Py_am_anext, recv_anext},
    {Py_tp_doc, "The receiving end of a channel; iterating receives until it "
                "is closed.\n\n" LIFE_DOC},
    {0, NULL},
};

#define END_FLAGS                                                           \
    (Py_TPFLAGS_DEFAULT | Py_TPFLAGS_IMMUTABLETYPE |                        \
     Py_TPFLAGS_DISALLOW_INSTANTIATION)

static PyType_Spec send_spec = {
    .name = "atoll.SendChannel",
    .basicsize = sizeof(chanobj),
    .flags = END_FLAGS,
    .slots = send_slots,
};

static PyType_Spec recv_spec = {
    .name = "atoll.RecvChannel",
    .basicsize = sizeof(chanobj),
    .flags = END_FLAGS,
    .slots = recv_slots,
};

int
channel_add_types(core_state *state)
{
    state->send_type = chanobj_make_type(state, &send_spec);
    state->recv_type = chanobj_make_type(state, &recv_spec);
    return state->send_type == NULL || state->recv_type == NULL ? -1 : 0;
}

/* ------------------------------------------------------- module functions */

static PyObject *
find_end(PyObject *module, PyObject *args, xfer_handle_kind kind)
{
    core_state *state = PyModule_GetState(module);
    unsigned long long id;
    if (chanobj_parse_find(state, args, "channel", "ChannelNotFoundError",
                           &id) < 0) {
        return NULL;
    }
    return chanobj_find(state, kind, CHAN_KIND_CHANNEL, id, "ChannelNotFoundError");
}

static PyObject *
core_find_send(PyObject *module, PyObject *args)
{
    return find_end(module, args, HANDLE_SEND);
}

static PyObject *
core_find_recv(PyObject *module, PyObject *args)
{
    return find_end(module, args, HANDLE_RECV);
}

static PyObject *
pair_from_chan(core_state *state, atoll_chan *chan)
{
    PyObject *recv = chanobj_get(state, HANDLE_RECV, chan);
    if (recv == NULL) {
        return NULL;
    }
    PyObject *send = chanobj_get(state, HANDLE_SEND, chan);
    if (send == NULL) {
        Py_DECREF(recv);
        return NULL;
    }
    return Py_BuildValue("NN", recv, send);
}

PyDoc_STRVAR(create_channel_doc,
"create_channel(capacity=0, *, unbounditems=None)\n--\n\n"
"Make a channel for all interpreters and threads of this process.\n\n"
"Args:\n"
"  capacity (int): objects it may hold. 0 is a rendezvous: send() returns when\n"
"    a receiver has the object.\n"
"  unbounditems: the default of SendChannel.send(unbounditems=).\n"
"Returns:\n"
"  (RecvChannel, SendChannel)\n"
"Raises:\n"
"  TypeError, ValueError: the capacity is not an int, or negative.");

static PyObject *
core_create_channel(PyObject *module, PyObject *args, PyObject *kwargs)
{
    core_state *state = PyModule_GetState(module);
    static char *keywords[] = {"capacity", "unbounditems", NULL};
    PyObject *capacity_obj = NULL, *unbound = NULL;
    Py_ssize_t capacity = 0;
    int orphan;
    if (!PyArg_ParseTupleAndKeywords(args, kwargs, "|O$O:create_channel",
                                     keywords, &capacity_obj, &unbound)) {
        return NULL;
    }
    if (capacity_obj != NULL) {
        if (!PyIndex_Check(capacity_obj)) {
            return PyErr_Format(PyExc_TypeError,
                                "capacity must be an int, not %T",
                                capacity_obj);
        }
        capacity = PyNumber_AsSsize_t(capacity_obj, PyExc_OverflowError);
        if (capacity == -1 && PyErr_Occurred()) {
            return NULL;
        }
    }
    if (capacity < 0) {
        return PyErr_Format(PyExc_ValueError,
                            "capacity must be 0 or more, not %zd", capacity);
    }
    if (chanobj_parse_orphan(unbound, &orphan) < 0) {
        return NULL;
    }
    atoll_chan *chan;
    atoll_err err = atoll_chan_new((size_t)capacity, CHAN_KIND_CHANNEL, &chan);
    if (err != ATOLL_OK) {
        return raise_err(state, err, "channel");
    }
    atoll_chan_user(chan)[CHANNEL_ORPHAN] = orphan >= 0 ? orphan : 0;
    PyObject *pair = pair_from_chan(state, chan);
    atoll_chan_unref(chan);
    return pair;
}

PyDoc_STRVAR(list_channels_doc,
"list_channels()\n--\n\n"
"All open channels of this process, oldest first, as (recv, send) pairs.");

/* A channel that is closed, or that has lost an end, cannot be used again. */
static PyObject *
core_list_channels(PyObject *module, PyObject *Py_UNUSED(ignored))
{
    core_state *state = PyModule_GetState(module);
    PyObject *all = chanobj_list(state, CHAN_KIND_CHANNEL, pair_from_chan);
    if (all == NULL) {
        return NULL;
    }
    for (Py_ssize_t i = PyList_GET_SIZE(all) - 1; i >= 0; i--) {
        chanobj *recv =
            (chanobj *)PyTuple_GET_ITEM(PyList_GET_ITEM(all, i), 0);
        if (atoll_chan_is_closed(recv->chan) &&
            PySequence_DelItem(all, i) < 0) {
            Py_DECREF(all);
            return NULL;
        }
    }
    return all;
}

PyMethodDef channel_functions[] = {
    {"create_channel", (PyCFunction)(void *)core_create_channel,
     METH_VARARGS | METH_KEYWORDS, create_channel_doc},
    {"list_channels", core_list_channels, METH_NOARGS, list_channels_doc},
    {"_find_send", core_find_send, METH_VARARGS, NULL},
    {"_find_recv", core_find_recv, METH_VARARGS, NULL},
    {NULL, NULL, 0, NULL},
};
