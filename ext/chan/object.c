/* The common part of queues and channel ends. See chan/chan.h. */
#include "chan/end.h"

#include <stddef.h>

#include "atoll/trace.h"
#include "wait/wait.h"

/* ------------------------------------------------------ one object per id */

static PyTypeObject *
chanobj_type_of(core_state *state, xfer_handle_kind kind)
{
    switch (kind) {
    case HANDLE_QUEUE:
        return state->chan->queue_type;
    case HANDLE_SEND:
        return state->chan->send_type;
    default:
        return state->chan->recv_type;
    }
}

static PyObject *
chanobj_new_object(core_state *state, xfer_handle_kind kind, atoll_chan *chan,
                   uint64_t key)
{
    chanobj *self = PyObject_New(chanobj, chanobj_type_of(state, kind));
    if (self == NULL) {
        return NULL;
    }
    self->state = state;
    self->kind = kind;
    self->weakrefs = NULL;
    self->retired = false;
    self->chan = chan;
    xfer_handle_ref(kind, chan);
    waits_hold(state, &self->hold, chan, (int)kind);
    core_handle_add(state, key, &self->handle, (PyObject *)self);
    return (PyObject *)self;
}

PyObject *
chanobj_peek(core_state *state, xfer_handle_kind kind, atoll_chan *chan)
{
    uint64_t key = core_channel_key(atoll_chan_id(chan), (unsigned)kind);
    PyObject *self = core_handle_find(state, key);
    return self != NULL ? self : chanobj_new_object(state, kind, chan, key);
}

PyObject *
chanobj_get(core_state *state, xfer_handle_kind kind, atoll_chan *chan)
{
    PyObject *obj = chanobj_peek(state, kind, chan);
    chanobj *self = (chanobj *)obj;
    if (self != NULL && self->retired) {
        self->retired = false; /* it has kept its reference */
        atoll_chan_end_ref(chan, kind == HANDLE_SEND ? ATOLL_END_SEND : ATOLL_END_RECV);
        waits_unhold(state, &self->hold);
        waits_hold(state, &self->hold, chan, (int)kind);
    }
    return obj;
}

void
chanobj_dealloc(PyObject *obj)
{
    chanobj *self = (chanobj *)obj;
    PyTypeObject *type = Py_TYPE(obj);
    core_handle_forget(self->state, &self->handle);
    if (self->weakrefs != NULL) {
        PyObject_ClearWeakRefs(obj);
    }
    waits_unhold(self->state, &self->hold);
    if (self->retired) {
        atoll_chan_unref(self->chan);
    }
    else {
        xfer_handle_unref(self->kind, self->chan);
    }
    PyObject_Free(self);
    Py_DECREF(type);
}

Py_hash_t
chanobj_hash(PyObject *obj)
{
    return (Py_hash_t)atoll_chan_id(((chanobj *)obj)->chan); /* as hash(id) */
}

PyObject *
chanobj_get_id(PyObject *obj, void *Py_UNUSED(closure))
{
    return PyLong_FromUnsignedLongLong(atoll_chan_id(((chanobj *)obj)->chan));
}

PyMemberDef chanobj_members[] = {
    {"__weaklistoffset__", Py_T_PYSSIZET, offsetof(chanobj, weakrefs), Py_READONLY,
     NULL},
    {NULL, 0, 0, 0, NULL},
};

PyObject *
chanobj_find(core_state *state, xfer_handle_kind kind, int core_kind,
             unsigned long long id, const char *error_name)
{
    atoll_chan *chan = NULL;
    PyObject *obj = NULL;
    const char *what = kind == HANDLE_QUEUE ? "queue" : "channel";
    if (atoll_chan_find(id, &chan) == ATOLL_OK &&
        (atoll_chan_kind(chan) == core_kind ||
         (kind == HANDLE_RECV && atoll_chan_kind(chan) == KIND_TIMER))) {
        obj = chanobj_get(state, kind, chan);
    }
    else {
        raise_error(state, error_name, "there is no %s %llu (any more)", what, id);
    }
    if (chan != NULL) {
        atoll_chan_unref(chan);
    }
    return obj;
}

PyObject *
chanobj_list(core_state *state, int core_kind,
             PyObject *(*make)(core_state *, atoll_chan *))
{
    uint64_t *ids = NULL;
    size_t room = 64, count;
    for (;; room = count) {
        uint64_t *more = atoll_realloc(ids, room * sizeof(*ids));
        if (more == NULL) {
            atoll_free(ids);
            return PyErr_NoMemory();
        }
        ids = more;
        count = atoll_chan_list(core_kind, ids, room);
        if (count <= room) {
            break;
        }
    }
    PyObject *list = PyList_New(0);
    for (size_t i = 0; i < count && list != NULL; i++) {
        atoll_chan *chan;
        if (atoll_chan_find(ids[i], &chan) != ATOLL_OK) {
            continue; /* gone since it was listed */
        }
        PyObject *obj = make(state, chan);
        atoll_chan_unref(chan);
        if (obj == NULL || PyList_Append(list, obj) < 0) {
            Py_CLEAR(list);
        }
        Py_XDECREF(obj);
    }
    atoll_free(ids);
    return list;
}

/* ---------------------------------------------------------- send, receive */

typedef struct transfer {
    atoll_chan *chan;
    atoll_msg *msg;
} transfer;

static atoll_err
do_send(void *arg, const atoll_wait *wait)
{
    transfer *t = arg;
    return atoll_chan_send(t->chan, t->msg, wait);
}

static atoll_err
do_recv(void *arg, const atoll_wait *wait)
{
    transfer *t = arg;
    return atoll_chan_recv(t->chan, t->msg, wait);
}

static const atoll_wait no_wait = {.deadline = ATOLL_NOW};

void
chanobj_trace(const chanobj *self, bool sent, atoll_err err)
{
    if (err == ATOLL_OK) {
        int64_t now = atoll_now();
        atoll_trace_note(sent ? TRACE_SEND : TRACE_RECV, now, now,
                         atoll_chan_id(self->chan),
                         self->kind == HANDLE_QUEUE ? "queue" : "channel");
    }
}

int
chanobj_send(chanobj *self, atoll_msg *msg, int64_t deadline, atoll_err *err)
{
    /* Usually it need not wait, and then need not let go of the GIL. */
    *err =
        self->retired ? ATOLL_ERR_CLOSED : atoll_chan_send(self->chan, msg, &no_wait);
    int rc = 0;
    if (*err == ATOLL_ERR_AGAIN && deadline != ATOLL_NOW) {
        transfer t = {self->chan, msg};
        rc = detach_wait_one(self->state, do_send, &t, deadline, NULL, &wait_send,
                             self->chan, err);
    }
    if (atoll_trace_on(TRACE_MESSAGES) && rc == 0) {
        chanobj_trace(self, true, *err);
    }
    return rc;
}

PyObject *
chanobj_send_object(chanobj *self, PyObject *obj, int64_t deadline, int orphan)
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
    if (rc < 0) {
        return NULL;
    }
    return self->kind == HANDLE_QUEUE ? queue_raise_for(self, err, "QueueFull", "full")
                                      : chanend_raise(self, err, "ChannelFull");
}

PyObject *
chanobj_send_nowait(PyObject *obj, PyObject *const *args, Py_ssize_t nargs,
                    PyObject *kwnames)
{
    static const char *const keywords[] = {"obj", "unbounditems"};
    PyObject *values[2] = {NULL, NULL};
    chanobj *self = (chanobj *)obj;
    const char *name = self->kind == HANDLE_QUEUE ? "put_nowait" : "send_nowait";
    int orphan;
    if (args_parse(name, args, nargs, kwnames, keywords, 2, 1, 1, values) < 0 ||
        chanobj_parse_orphan(values[1], &orphan) < 0) {
        return NULL;
    }
    return chanobj_send_object(self, values[0], ATOLL_NOW, orphan);
}

int
chanobj_recv(chanobj *self, atoll_msg *msg, int64_t deadline, atoll_err *err)
{
    *err =
        self->retired ? ATOLL_ERR_CLOSED : atoll_chan_recv(self->chan, msg, &no_wait);
    int rc = 0;
    if (*err == ATOLL_ERR_AGAIN && deadline != ATOLL_NOW) {
        transfer t = {self->chan, msg};
        rc = detach_wait_one(self->state, do_recv, &t, deadline, NULL, &wait_recv,
                             self->chan, err);
    }
    if (atoll_trace_on(TRACE_MESSAGES) && rc == 0) {
        chanobj_trace(self, false, *err);
    }
    return rc;
}

void
chanobj_put_back(core_state *state, atoll_chan *chan, atoll_msg *msg)
{
    atoll_err err = atoll_chan_unrecv(chan, msg);
    if (err == ATOLL_OK || err == ATOLL_ERR_FORKED) {
        return;
    }
    PyObject *exc = PyErr_GetRaisedException();
    if (err != ATOLL_ERR_CLOSED) {
        raise_err(state, err, "channel");
        PyErr_FormatUnraisable("atoll: an item that nobody has received is lost");
    }
    err = atoll_chan_done(chan); /* nobody will say so */
    (void)err;
    atoll_msg_drop(msg);
    PyErr_SetRaisedException(exc);
}

PyObject *
chanobj_open(chanobj *self, atoll_msg *msg)
{
    if (!msg->orphaned) {
        bool kept;
        PyObject *obj = xfer_decode_kept(self->state, msg, &kept);
        if (kept) {
            chanobj_put_back(self->state, self->chan, msg);
        }
        return obj;
    }
    int rule = msg->orphan;
    atoll_msg_drop(msg);
    if (rule == ATOLL_ORPHAN_ERROR) {
        return raise_error(self->state, "ItemInterpreterDestroyed",
                           "item's original interpreter destroyed");
    }
    return chanobj_orphan_rule(self->state, rule);
}

/* ------------------------------------------------------------ orphan rules */

void
chanobj_set_orphan(chanobj *self, atoll_msg *msg, int orphan)
{
    int word = self->kind == HANDLE_QUEUE ? QUEUE_ORPHAN : CHANNEL_ORPHAN;
    msg->orphan = (uint8_t)(orphan >= 0 ? orphan : atoll_chan_user(self->chan)[word]);
}

int
chanobj_parse_orphan(PyObject *value, int *orphan)
{
    *orphan = -1;
    if (value == NULL || value == Py_None) {
        return 0;
    }
    /* KEEP, UNBOUND, UNBOUND_ERROR and UNBOUND_REMOVE know their number. */
    PyObject *rule;
    if (PyObject_GetOptionalAttrString(value, "_rule", &rule) < 0) {
        return -1;
    }
    if (rule == NULL) {
        PyErr_Format(PyExc_NotImplementedError,
                     "unbounditems must be KEEP, UNBOUND, UNBOUND_ERROR, "
                     "UNBOUND_REMOVE or None, not %R",
                     value);
        return -1;
    }
    *orphan = PyLong_AsInt(rule);
    Py_DECREF(rule);
    if (*orphan < ATOLL_ORPHAN_KEEP || *orphan > ATOLL_ORPHAN_MARK) {
        if (!PyErr_Occurred()) {
            PyErr_SetString(PyExc_ValueError, "unknown unbounditems rule");
        }
        return -1;
    }
    return 0;
}

PyObject *
chanobj_orphan_rule(core_state *state, int orphan)
{
    static const char *const names[] = {"KEEP", "UNBOUND_REMOVE", "UNBOUND_ERROR",
                                        "UNBOUND"};
    return Py_XNewRef(error_class(state, names[orphan]));
}

/* ----------------------------------------------------------------- pickling */

PyObject *
chanobj_reduce(chanobj *self, const char *finder)
{
    return xfer_reduce_handle(self->state, self->kind, self->chan,
                              atoll_chan_id(self->chan), finder);
}

/* ----------------------------------------------------- what both kinds do alike */

PyObject *
chanobj_raise(chanobj *self, atoll_err err)
{
    return self->kind == HANDLE_QUEUE ? queue_raise(self, err)
                                      : channel_raise(self, err);
}

PyObject *
chanobj_send_async(PyObject *obj, PyObject *const *args, Py_ssize_t nargs,
                   PyObject *kwnames)
{
    return aio_call(((chanobj *)obj)->state, "put_async", obj, args, nargs, kwnames);
}

PyObject *
chanobj_recv_async(PyObject *obj, PyObject *Py_UNUSED(ignored))
{
    return aio_call(((chanobj *)obj)->state, "get_async", obj, NULL, 0, NULL);
}

PyObject *
chanobj_anext(PyObject *obj)
{
    return aio_call(((chanobj *)obj)->state, "next_async", obj, NULL, 0, NULL);
}
