/* atoll.SendChannel and atoll.RecvChannel: the two ends of a channel, how they
 * send and receive. What both do is in chan/end.c. */
#include "chan/end.h"
#include "wait/wait.h"

/* ------------------------------------------------------------ send, receive */

PyDoc_STRVAR(send_doc,
"send($self, /, obj, timeout=None, *, unbounditems=None)\n--\n\n"
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
"  ChannelClosed: an end was closed, or no receiving end is left; or this end\n"
"    has been retired.\n"
"  ChannelPoisoned: see poison().\n"
"  NotShareableError: `obj` cannot cross.\n"
"Can be interrupted by a signal; then nothing was sent.");

static PyObject *
send_send(PyObject *obj, PyObject *const *args, Py_ssize_t nargs, PyObject *kwnames)
{
    chanobj *self = (chanobj *)obj;
    if (nargs == 1 && kwnames == NULL) {
        return chanobj_send_object(self, args[0], ATOLL_FOREVER, -1);
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
    return chanobj_send_object(self, values[0], deadline, orphan);
}

PyDoc_STRVAR(send_nowait_doc,
"send_nowait($self, /, obj, *, unbounditems=None)\n--\n\n"
"Send without waiting, or raise ChannelFull: there is no room or, with\n"
"capacity 0, no receiver is waiting.");

PyDoc_STRVAR(send_buffer_doc,
"send_buffer($self, /, obj, timeout=None, *, unbounditems=None)\n--\n\n"
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
    if (args_parse("send_buffer", args, nargs, kwnames, names, 3, 1, 2, values) < 0 ||
        detach_deadline(values[1], &deadline) < 0 ||
        chanobj_parse_orphan(values[2], &orphan) < 0) {
        return NULL;
    }
    PyObject *view = args_view("send_buffer", values[0]);
    if (view == NULL) {
        return NULL;
    }
    PyObject *done = chanobj_send_object((chanobj *)obj, view, deadline, orphan);
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
    return chanend_raise(self, err, "ChannelEmpty");
}

PyDoc_STRVAR(recv_doc,
"recv($self, /, timeout=None)\n--\n\n"
"Receive the next object, waiting until one is sent. The GIL is released.\n"
"Waiting receivers are served in order.\n\n"
"Args:\n"
"  timeout (float | None): seconds to wait; None for ever, 0 tries once.\n"
"Raises:\n"
"  ChannelTimeout (a TimeoutError): nothing came in time. With 0\n"
"    ChannelEmpty.\n"
"  ChannelClosed: closed, and all that was accepted has been received; or this\n"
"    end has been retired.\n"
"  ChannelPoisoned: see poison().\n"
"  ItemInterpreterDestroyed: see Queue.put(unbounditems=).\n"
"Can be interrupted by a signal or Interpreter.interrupt(); then nothing was\n"
"received: what had arrived is the first again, whatever the capacity, also of a\n"
"rendezvous, whose sender goes on. An object whose own code fails to decode it is\n"
"gone.");

static PyObject *
recv_recv(PyObject *obj, PyObject *const *args, Py_ssize_t nargs, PyObject *kwnames)
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
"recv_nowait($self, /, default=...)\n--\n\n"
"The next object if there is one; else `default` if given, or ChannelEmpty.");

static PyObject *
recv_recv_nowait(PyObject *obj, PyObject *const *args, Py_ssize_t nargs,
                 PyObject *kwnames)
{
    static const char *const names[] = {"default"};
    PyObject *values[1] = {NULL};
    if (args_parse("recv_nowait", args, nargs, kwnames, names, 1, 0, 1, values) < 0) {
        return NULL;
    }
    return recv_object((chanobj *)obj, ATOLL_NOW, values[0]);
}

/* `for item in recv`: until the channel is closed. Poison is an error. */
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
                           : chanend_raise(self, err, "ChannelEmpty");
}

/* ---------------------------------------------------------------- coroutines */

PyDoc_STRVAR(send_async_doc,
"send_async($self, /, obj, *, unbounditems=None)\n--\n\n"
"await channel.send_async(obj): as send(), for a coroutine of asyncio or Trio.\n"
"If it can be done at once it does not yield. When it is cancelled, nothing was\n"
"sent.");

PyDoc_STRVAR(recv_async_doc,
"recv_async($self, /)\n--\n\n"
"await channel.recv_async(): as recv(), for a coroutine of asyncio or Trio. If\n"
"something is there it does not yield. When it is cancelled, nothing was\n"
"received. `async for obj in channel` receives until it is closed.");

/* ---------------------------------------------------------------- the types */

PyDoc_STRVAR(send_retire_doc,
"retire($self, /)\n--\n\n"
"This interpreter sends no more: its sending end leaves the channel, which closes,\n"
"after what was accepted, when the last sending end has left. All threads of an\n"
"interpreter share one end object, so it is retired for all of them: using it\n"
"raises ChannelClosed from then on, close() and poison() do nothing. Calls that\n"
"wait at this moment go on. If the same end comes by a message later, while the\n"
"channel is open, this object can be used again. Does not block. Calling it\n"
"twice is allowed.");

PyDoc_STRVAR(recv_retire_doc,
"retire($self, /)\n--\n\n"
"This interpreter receives no more: its receiving end leaves the channel. When\n"
"the last receiving end has left, the channel closes and what was not received\n"
"is dropped. Else as SendChannel.retire().");

static PyMethodDef send_methods[] = {
    {"__class_getitem__", Py_GenericAlias, METH_O | METH_CLASS, core_generic_doc},
    {"retire", chanend_retire, METH_NOARGS, send_retire_doc},
    {"send", (PyCFunction)(void *)send_send, METH_FASTCALL | METH_KEYWORDS, send_doc},
    {"send_nowait", (PyCFunction)(void *)chanobj_send_nowait,
     METH_FASTCALL | METH_KEYWORDS, send_nowait_doc},
    {"send_async", (PyCFunction)(void *)chanobj_send_async,
     METH_FASTCALL | METH_KEYWORDS, send_async_doc},
    {"send_buffer", (PyCFunction)(void *)send_send_buffer,
     METH_FASTCALL | METH_KEYWORDS, send_buffer_doc},
    CHANEND_METHODS,
};

static PyMethodDef recv_methods[] = {
    {"__class_getitem__", Py_GenericAlias, METH_O | METH_CLASS, core_generic_doc},
    {"retire", chanend_retire, METH_NOARGS, recv_retire_doc},
    {"recv", (PyCFunction)(void *)recv_recv, METH_FASTCALL | METH_KEYWORDS, recv_doc},
    {"recv_nowait", (PyCFunction)(void *)recv_recv_nowait,
     METH_FASTCALL | METH_KEYWORDS, recv_nowait_doc},
    {"recv_async", chanobj_recv_async, METH_NOARGS, recv_async_doc},
    CHANEND_METHODS,
};

#define LIFE_DOC                                                                 \
    "Made by create_channel(); can be sent to other interpreters. One object\n"  \
    "per channel and interpreter. When the last sending end of a channel goes\n" \
    "it closes after what was accepted; when the last receiving end goes it\n"   \
    "closes at once. A context manager that closes. Pickles as its id, within\n" \
    "this process."

static PyType_Slot send_slots[] = {
    {Py_tp_dealloc, chanobj_dealloc},
    {Py_tp_repr, chanend_repr},
    {Py_tp_hash, chanobj_hash},
    {Py_tp_methods, send_methods},
    {Py_tp_getset, chanend_getset},
    {Py_tp_members, chanobj_members},
    {Py_tp_doc, "The sending end of a channel.\n\n" LIFE_DOC},
    {0, NULL},
};

static PyType_Slot recv_slots[] = {
    {Py_tp_dealloc, chanobj_dealloc},
    {Py_tp_repr, chanend_repr},
    {Py_tp_hash, chanobj_hash},
    {Py_tp_methods, recv_methods},
    {Py_tp_getset, chanend_getset},
    {Py_tp_members, chanobj_members},
    {Py_tp_iter, PyObject_SelfIter},
    {Py_tp_iternext, recv_next},
    {Py_am_aiter, PyObject_SelfIter},
    {Py_am_anext, chanobj_anext},
    {Py_tp_doc, "The receiving end of a channel; iterating receives until it "
                "is closed.\n\n" LIFE_DOC},
    {0, NULL},
};

#define END_FLAGS \
    (Py_TPFLAGS_DEFAULT | Py_TPFLAGS_IMMUTABLETYPE | Py_TPFLAGS_DISALLOW_INSTANTIATION)

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
    state->chan->send_type = core_add_type(state, &send_spec);
    state->chan->recv_type = core_add_type(state, &recv_spec);
    return state->chan->send_type == NULL || state->chan->recv_type == NULL ? -1 : 0;
}
