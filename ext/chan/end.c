/* Both ends of a channel: close, poison, retire; errors; attributes. See chan/end.h.
 *
 * Poison's reason is one message in the channel, encoded once by whoever poisons,
 * as the reply of a job that raised is: (description, exception). Everybody who
 * meets the poison decodes a clone of it, in any number of interpreters at once;
 * so it must be something of which there can be clones. */
#include "chan/end.h"

/* ---------------------------------------------------------------- telling all */

/* Who is woken wants the GIL at once. If they are many they would crowd before it
 * while the rest is being told, and take turns at looking for it every 5 ms: so
 * let go of it. If they are few that is not worth a wait for it afterwards. */
#define MANY 8

static PyThreadState *
detach_if_many(const chanobj *self)
{
    return atoll_chan_waiting(self->chan, MANY) == MANY ? PyEval_SaveThread() : NULL;
}

static void
attach_again(PyThreadState *detached)
{
    if (detached != NULL) {
        PyEval_RestoreThread(detached);
    }
}

/* ------------------------------------------------------------------- poison */

/* No reason. The tags of encoded messages begin with 1. */
static inline bool
is_empty(const atoll_msg *why)
{
    return why->tag == 0;
}

/* The exception to be told of: `exc`, or the reason of another poison that it is.
 * NULL: none, or with an exception set. A new reference. */
static PyObject *
chanend_innermost(core_state *state, PyObject *exc)
{
    PyObject *poisoned = error_class(state, "ChannelPoisoned");
    if (poisoned == NULL) {
        return NULL;
    }
    Py_INCREF(exc);
    /* Who makes such exceptions by hand may make a circle of them. */
    for (int depth = 0; depth < 100; depth++) {
        int is = PyObject_IsInstance(exc, poisoned);
        if (is <= 0) {
            if (is == 0 && PyExceptionInstance_Check(exc)) {
                return exc;
            }
            break;
        }
        PyObject *reason = PyObject_GetAttrString(exc, "reason");
        if (reason == NULL) {
            break;
        }
        Py_SETREF(exc, reason);
    }
    Py_DECREF(exc);
    return NULL;
}

/* (info, exc) as a message of which there can be clones. */
static int
encode_pair(core_state *state, PyObject *info, PyObject *exc, atoll_msg *msg)
{
    atoll_msg clone;
    if (xfer_encode_error(state, info, exc, msg) < 0) {
        return -1;
    }
    atoll_err err = xfer_clone(msg, &clone);
    if (err == ATOLL_OK) {
        atoll_msg_drop(&clone);
        return 0;
    }
    atoll_msg_drop(msg);
    if (err != ATOLL_ERR_CLOSED) {
        raise_err(state, err, "channel");
        return -1;
    }
    PyObject *pair =
        Py_BuildValue("(Os)", info, "it holds something that only one can receive");
    int rc = pair == NULL ? -1 : xfer_encode(state, pair, msg);
    Py_XDECREF(pair);
    return rc;
}

/* What stands for `exc` in the channel. -1 with an exception; then it is empty. */
static int
encode_why(core_state *state, PyObject *exc, atoll_msg *msg)
{
    int rc = -1;
    PyObject *info = NULL;
    PyObject *inner = chanend_innermost(state, exc);
    if (inner != NULL) {
        info = package_call(PACKAGE_BOOT, "capture", "(O)", inner);
        rc = info == NULL ? -1 : encode_pair(state, info, inner, msg);
        Py_XDECREF(info);
        Py_DECREF(inner);
    }
    else if (!PyErr_Occurred()) {
        rc = 0;
        *msg = (atoll_msg){.group = -1};
    }
    if (rc < 0) {
        *msg = (atoll_msg){.group = -1};
    }
    return rc;
}

const char chanend_poison_doc[] =
    "poison($self, /, exc=None)\n--\n\n"
    "Tell everybody that something has gone wrong: all who wait at this channel,\n"
    "and all who use it later, get ChannelPoisoned, whose `reason` and `__cause__`\n"
    "are a copy of `exc`, also if the channel was closed before. Objects that were\n"
    "sent and not received are dropped. The first poison counts. Does not block.\n\n"
    "Args:\n"
    "  exc (BaseException | None): why. If it is a ChannelPoisoned, its reason is\n"
    "    passed on. If it cannot be sent, a RemoteError stands for it.\n"
    "Returns:\n"
    "  int: how many objects were dropped; 0 if it was poisoned already, and if\n"
    "  this end has been retired, which then has no say any more.";

PyObject *
chanend_poison(PyObject *obj, PyObject *const *args, Py_ssize_t nargs,
               PyObject *kwnames)
{
    static const char *const names[] = {"exc"};
    PyObject *values[1] = {NULL};
    chanobj *self = (chanobj *)obj;
    if (args_parse("poison", args, nargs, kwnames, names, 1, 0, 1, values) < 0) {
        return NULL;
    }
    PyObject *exc = values[0] == NULL ? Py_None : values[0];
    if (exc != Py_None && !PyExceptionInstance_Check(exc)) {
        return PyErr_Format(PyExc_TypeError, "exc must be an exception or None, not %T",
                            exc);
    }
    if (self->retired || atoll_chan_why(self->chan) != NULL) {
        return PyLong_FromLong(0);
    }
    atoll_msg why = {.group = -1};
    int rc = exc == Py_None ? 0 : encode_why(self->state, exc, &why);
    if (rc < 0 && PyErr_ExceptionMatches(PyExc_Exception)) {
        PyErr_Clear(); /* poison without a reason is better than none */
        rc = 0;
    }
    PyObject *interrupt = rc < 0 ? PyErr_GetRaisedException() : NULL;
    size_t dropped;
    xfer_lend(&why, self->chan);
    PyThreadState *detached = detach_if_many(self);
    if (atoll_chan_poison(self->chan, &why, &dropped) != ATOLL_OK) {
        atoll_msg_drop(&why); /* somebody was faster; or in a forked child */
    }
    attach_again(detached);
    if (interrupt != NULL) {
        PyErr_SetRaisedException(interrupt);
        return NULL;
    }
    return PyLong_FromSize_t(dropped);
}

/* (description, exception), or None; a new reference. */
static PyObject *
decode_why(core_state *state, const atoll_msg *why)
{
    atoll_msg clone;
    if (why == NULL || is_empty(why)) {
        Py_RETURN_NONE;
    }
    atoll_err err = xfer_clone(why, &clone);
    return err == ATOLL_OK ? xfer_decode(state, &clone)
                           : raise_err(state, err, "channel");
}

static PyObject *
raise_poisoned(chanobj *self)
{
    PyObject *value = decode_why(self->state, atoll_chan_why(self->chan));
    if (value == NULL) {
        if (!PyErr_ExceptionMatches(PyExc_Exception)) {
            return NULL; /* an interrupt, while the user's code was running */
        }
        value = PyErr_GetRaisedException();
    }
    PyObject *make = error_class(self->state, "_poisoned");
    PyObject *exc = NULL;
    if (make != NULL) {
        exc = PyObject_CallFunction(
            make, "KO", (unsigned long long)atoll_chan_id(self->chan), value);
    }
    Py_DECREF(value);
    if (exc != NULL) {
        PyErr_SetObject((PyObject *)Py_TYPE(exc), exc);
        Py_DECREF(exc);
    }
    return NULL;
}

/* ------------------------------------------------------------------- errors */

PyObject *
chanend_raise(chanobj *self, atoll_err err, const char *if_not_ready)
{
    unsigned long long id = atoll_chan_id(self->chan);
    switch (err) {
    case ATOLL_ERR_AGAIN:
        return raise_error(self->state, if_not_ready, "channel %llu: %s", id,
                           self->kind == HANDLE_SEND
                               ? "no room and no receiver is waiting"
                               : "nothing has been sent");
    case ATOLL_ERR_TIMEOUT:
        return raise_error(
            self->state, "ChannelTimeout", "channel %llu: %s in time", id,
            self->kind == HANDLE_SEND ? "nobody received" : "nothing was sent");
    case ATOLL_ERR_CLOSED:
        return raise_error(self->state, "ChannelClosed",
                           self->retired ? "channel %llu: this end has been retired"
                                         : "channel %llu is closed",
                           id);
    case ATOLL_ERR_POISONED:
        return raise_poisoned(self);
    default:
        return raise_err(self->state, err, "channel");
    }
}

PyObject *
channel_raise(chanobj *self, atoll_err err)
{
    return chanend_raise(self, err, "ChannelEmpty");
}

/* ------------------------------------------------------------ close, retire */

const char chanend_close_doc[] =
    "close($self, /)\n--\n\n"
    "Close the channel. Senders, also those who wait, get ChannelClosed; receivers\n"
    "get what was accepted first. Closed from the receiving end, what was not\n"
    "received is dropped. Does not block. Calling it twice is allowed. An end that\n"
    "has been retired closes nothing.";

PyObject *
chanend_close(PyObject *obj, PyObject *Py_UNUSED(ignored))
{
    chanobj *self = (chanobj *)obj;
    if (!self->retired) {
        PyThreadState *detached = detach_if_many(self);
        atoll_chan_close(self->chan, self->kind == HANDLE_RECV);
        attach_again(detached);
    }
    Py_RETURN_NONE;
}

PyObject *
chanend_retire(PyObject *obj, PyObject *Py_UNUSED(ignored))
{
    chanobj *self = (chanobj *)obj;
    if (!self->retired) {
        self->retired = true; /* first: from here on others may run */
        waits_unhold(self->state, &self->hold);
        waits_hold(self->state, &self->hold, self->chan, HANDLE_NONE);
        PyThreadState *detached = detach_if_many(self);
        atoll_chan_end_unref(self->chan, self->kind == HANDLE_SEND ? ATOLL_END_SEND
                                                                   : ATOLL_END_RECV);
        attach_again(detached);
    }
    Py_RETURN_NONE;
}

PyObject *
chanend_enter(PyObject *obj, PyObject *Py_UNUSED(ignored))
{
    return Py_NewRef(obj);
}

PyObject *
chanend_exit(PyObject *obj, PyObject *Py_UNUSED(args))
{
    return chanend_close(obj, NULL);
}

/* --------------------------------------------------------------- attributes */

static PyObject *
get_capacity(PyObject *obj, void *Py_UNUSED(closure))
{
    return PyLong_FromSize_t(atoll_chan_capacity(((chanobj *)obj)->chan));
}

static PyObject *
get_is_closed(PyObject *obj, void *Py_UNUSED(closure))
{
    return PyBool_FromLong(atoll_chan_is_closed(((chanobj *)obj)->chan));
}

static PyObject *
get_is_poisoned(PyObject *obj, void *Py_UNUSED(closure))
{
    return PyBool_FromLong(atoll_chan_why(((chanobj *)obj)->chan) != NULL);
}

static PyObject *
get_unbounditems(PyObject *obj, void *Py_UNUSED(closure))
{
    chanobj *self = (chanobj *)obj;
    return chanobj_orphan_rule(self->state,
                               (int)atoll_chan_user(self->chan)[CHANNEL_ORPHAN]);
}

PyGetSetDef chanend_getset[] = {
    {"id", chanobj_get_id, NULL, "The channel's id (int), unique in this process.",
     NULL},
    {"capacity", get_capacity, NULL, "Objects it may hold (int); 0 is a rendezvous.",
     NULL},
    {"is_closed", get_is_closed, NULL, "Is the channel closed, or poisoned? (bool)",
     NULL},
    {"is_poisoned", get_is_poisoned, NULL, "Is the channel poisoned? (bool)", NULL},
    {"unbounditems", get_unbounditems, NULL, "The default of send(unbounditems=).",
     NULL},
    {NULL, NULL, NULL, NULL, NULL},
};

PyObject *
chanend_repr(PyObject *obj)
{
    chanobj *self = (chanobj *)obj;
    return PyUnicode_FromFormat(
        "%s(id=%llu)", self->kind == HANDLE_SEND ? "SendChannel" : "RecvChannel",
        (unsigned long long)atoll_chan_id(self->chan));
}

PyObject *
chanend_reduce(PyObject *obj, PyObject *Py_UNUSED(ignored))
{
    chanobj *self = (chanobj *)obj;
    if (self->retired) { /* it has no end to give */
        return channel_raise(self, ATOLL_ERR_CLOSED);
    }
    return chanobj_reduce(self,
                          self->kind == HANDLE_SEND ? "_find_send" : "_find_recv");
}
