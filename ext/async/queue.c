/* The type CompletionQueue, and what goes with it. See async/async.h. */
#include "async/operation.h"

/* ------------------------------------------------------------- beginnings */

static cqobj *
open_queue(PyObject *obj)
{
    cqobj *self = (cqobj *)obj;
    if (self->closing) {
        PyErr_SetString(PyExc_ValueError, "the completion queue is closed");
        return NULL;
    }
    return self;
}

/* `o`, or NULL, started: the result of a method. */
static PyObject *
cq_started(opobj *o, cqobj *self)
{
    if (o == NULL || open_queue((PyObject *)self) == NULL) {
        Py_XDECREF(o); /* encoding runs anybody's code, which may close it */
        return NULL;
    }
    op_start(o, self, NULL);
    return (PyObject *)o;
}

/* A NEW send of `obj`. */
static opobj *
new_send(core_state *state, chanobj *end, PyObject *obj, PyObject *token, int orphan)
{
    opobj *o = op_new(state, OP_SEND, (PyObject *)end, token);
    if (o == NULL) {
        return NULL;
    }
    if (xfer_encode(state, obj, &o->op->msg) < 0) {
        o->op->msg.drop = NULL; /* there is nothing to drop */
        Py_DECREF(o);
        return NULL;
    }
    chanobj_set_orphan(end, &o->op->msg, orphan);
    return o;
}

/* ------------------------------------------------------------ the methods */

PyDoc_STRVAR(recv_doc,
"recv($self, end, token, /)\n--\n\n"
"Start to receive from a Queue or RecvChannel. Returns an Operation; if it is\n"
"not `done` already, drain() will return `token` when it is.");

static PyObject *
cq_recv(PyObject *obj, PyObject *const *args, Py_ssize_t nargs)
{
    cqobj *self = open_queue(obj);
    if (self == NULL || !op_takes("recv", nargs, 2)) {
        return NULL;
    }
    chanobj *end = op_end_of(self->state, args[0], false);
    opobj *o = end == NULL ? NULL : op_new(self->state, OP_RECV, args[0], args[1]);
    return cq_started(o, self);
}

PyDoc_STRVAR(send_doc,
"send($self, end, obj, token, /)\n--\n\n"
"Start to send to a Queue or SendChannel; as recv().");

static PyObject *
cq_send(PyObject *obj, PyObject *const *args, Py_ssize_t nargs)
{
    cqobj *self = open_queue(obj);
    if (self == NULL || !op_takes("send", nargs, 3)) {
        return NULL;
    }
    chanobj *end = op_end_of(self->state, args[0], true);
    opobj *o = end == NULL ? NULL : new_send(self->state, end, args[1], args[2], -1);
    return cq_started(o, self);
}

PyDoc_STRVAR(join_doc,
"join($self, queue, token, /)\n--\n\n"
"Start to wait until all items of a Queue are done; as recv().");

static PyObject *
cq_join(PyObject *obj, PyObject *const *args, Py_ssize_t nargs)
{
    cqobj *self = open_queue(obj);
    if (self == NULL || !op_takes("join", nargs, 2)) {
        return NULL;
    }
    if (!Py_IS_TYPE(args[0], self->state->chan->queue_type)) {
        return PyErr_Format(PyExc_TypeError, "expected a Queue, not %T", args[0]);
    }
    return cq_started(op_new(self->state, OP_JOIN, args[0], args[1]), self);
}

PyDoc_STRVAR(take_doc,
"take($self, lock, token, task=0, /)\n--\n\n"
"Start to acquire a Lock or a Semaphore, or to wait for an Event; as recv(). One\n"
"that has ended, and is cancelled before its result() is taken, is undone. An RLock\n"
"will be owned by the task with that number.");

static PyObject *
cq_take(PyObject *obj, PyObject *const *args, Py_ssize_t nargs)
{
    cqobj *self = open_queue(obj);
    if (self == NULL || (nargs != 3 && !op_takes("take", nargs, 2))) {
        return NULL;
    }
    unsigned long long task = nargs == 3 ? PyLong_AsUnsignedLongLong(args[2]) : 0;
    if (task == (unsigned long long)-1 && PyErr_Occurred()) {
        return NULL;
    }
    bool owned =
        task != 0 && Py_IS_TYPE(args[0], self->state->sync->types[ATOLL_RLOCK]);
    if (!owned && !sync_can_wait(self->state, Py_TYPE(args[0]))) {
        return PyErr_Format(PyExc_TypeError,
                            "expected a Lock, Semaphore or Event, not %T", args[0]);
    }
    opobj *o = op_new(self->state, OP_TAKE, NULL, args[1]);
    if (o != NULL) {
        o->lock = (syncobj *)Py_NewRef(args[0]);
        o->task = owned ? task : 0;
    }
    return cq_started(o, self);
}

PyDoc_STRVAR(start_doc,
"start($self, op, token, /)\n--\n\n"
"Start the Operation that _send_now has returned; as send().");

static PyObject *
cq_start(PyObject *obj, PyObject *const *args, Py_ssize_t nargs)
{
    cqobj *self = open_queue(obj);
    if (self == NULL || !op_takes("start", nargs, 2)) {
        return NULL;
    }
    opobj *o = (opobj *)args[0];
    if (!Py_IS_TYPE(args[0], self->state->async->op_type) || o->phase != OP_NEW) {
        PyErr_SetString(PyExc_TypeError, "expected a new Operation");
        return NULL;
    }
    Py_XSETREF(o->token, Py_NewRef(args[1]));
    return cq_started((opobj *)Py_NewRef(o), self);
}

PyDoc_STRVAR(watch_doc,
"watch($self, capsule, token, /)\n--\n\n"
"Start to wait for an event of C code: a capsule named \"atoll_event\" with an\n"
"atoll_event *, which is held until the wait is over. Returns an Operation, or\n"
"None if it is set already.");

static PyObject *
cq_watch(PyObject *obj, PyObject *const *args, Py_ssize_t nargs)
{
    cqobj *self = open_queue(obj);
    if (self == NULL || !op_takes("watch", nargs, 2)) {
        return NULL;
    }
    atoll_event *event = core_event_of(args[0]);
    opobj *o = event == NULL ? NULL : op_new(self->state, OP_WATCH, NULL, args[1]);
    if (o == NULL) {
        return NULL;
    }
    op_start(o, self, event);
    if (o->phase == OP_PENDING) {
        o->keep = Py_NewRef(args[0]); /* it holds the event */
        return (PyObject *)o;
    }
    atoll_err err = o->op->status;
    Py_DECREF(o);
    return err == ATOLL_OK ? Py_NewRef(Py_None)
                           : raise_err(self->state, err, "completion queue");
}

PyDoc_STRVAR(drain_doc,
"drain($self, /)\n--\n\n"
"The tokens of the operations that have ended and were not told yet, in the\n"
"order of their ends: a list. Those that were cancelled are not in it.");

static PyObject *
cq_drain(PyObject *obj, PyObject *Py_UNUSED(ignored))
{
    cqobj *self = open_queue(obj);
    PyObject *tokens = self == NULL ? NULL : PyList_New(0);
    if (tokens == NULL) {
        return NULL;
    }
    atoll_op *op;
    while ((op = atoll_cq_next(self->cq)) != NULL) {
        op_collect(self, op);
    }
    opobj *o;
    while ((o = self->untold.first) != NULL) {
        if (o->owned && PyList_Append(tokens, o->token) < 0) {
            Py_DECREF(tokens);
            return NULL;
        }
        op_told(o);
    }
    mailbox_drain(self->state->wait->mailbox); /* as after each wait */
    return tokens;
}

static atoll_err
cq_do_wait(void *arg, const atoll_wait *wait)
{
    return atoll_cq_wait(arg, wait);
}

PyDoc_STRVAR(wait_doc,
"wait($self, /, timeout=None)\n--\n\n"
"Block until there is something to drain. True; or False, if the time is over\n"
"or the queue was closed.");

static PyObject *
cq_wait(PyObject *obj, PyObject *const *args, Py_ssize_t nargs, PyObject *kwnames)
{
    static const char *const names[] = {"timeout"};
    PyObject *values[1] = {NULL};
    int64_t deadline;
    atoll_err err;
    if (args_parse("wait", args, nargs, kwnames, names, 1, 0, 1, values) < 0 ||
        detach_deadline(values[0], &deadline) < 0) {
        return NULL;
    }
    cqobj *self = open_queue(obj);
    if (self == NULL) {
        return NULL;
    }
    atoll_cq *cq = atoll_cq_ref(self->cq);
    int rc = detach_wait_one(self->state, cq_do_wait, cq, deadline, NULL, &wait_events,
                             NULL, &err);
    atoll_cq_unref(cq);
    if (rc < 0) {
        return NULL;
    }
    if (err == ATOLL_ERR_FORKED) {
        return raise_err(self->state, err, "completion queue");
    }
    return PyBool_FromLong(err == ATOLL_OK);
}

PyDoc_STRVAR(fileno_doc,
"fileno($self, /)\n--\n\n"
"A descriptor that is readable while there is something to drain. Do not read\n"
"from it. It is closed with the queue.");

static PyObject *
cq_fileno(PyObject *obj, PyObject *Py_UNUSED(ignored))
{
    cqobj *self = open_queue(obj);
    if (self == NULL) {
        return NULL;
    }
    int fd = atoll_cq_fd(self->cq);
    return fd < 0 ? PyErr_SetFromErrno(PyExc_OSError) : PyLong_FromLong(fd);
}

/* Made by a home thread: see home_loop. The home lives as long as the state. */
static void
link_home(cqobj *self)
{
    self->home = home_of_thread(self->state);
    if (self->home != NULL) {
        self->loop.cq = self->cq;
        home_add_loop(self->home, &self->loop);
    }
}

static void
unlink_home(cqobj *self)
{
    if (self->home != NULL) {
        home_remove_loop(self->home, &self->loop);
        self->home = NULL;
    }
}

static void
close_queue(cqobj *self)
{
    if (self->closing) {
        return;
    }
    self->closing = true;
    unlink_home(self);
    if (self->cq != NULL) {
        op_end_all(self);
        atoll_cq_close(self->cq);
        atoll_cq_unref(self->cq);
        self->cq = NULL;
    }
}

PyDoc_STRVAR(close_doc,
"close($self, /)\n--\n\n"
"Cancel all that is under way; what was received and not taken is put back.\n"
"Calling it twice is allowed.");

static PyObject *
cq_close(PyObject *obj, PyObject *Py_UNUSED(ignored))
{
    close_queue((cqobj *)obj);
    Py_RETURN_NONE;
}

/* --------------------------------------------------------------- the type */

static PyObject *
cq_new(PyTypeObject *type, PyObject *args, PyObject *kwargs)
{
    if (PyTuple_GET_SIZE(args) > 0 || (kwargs != NULL && PyDict_Size(kwargs))) {
        PyErr_SetString(PyExc_TypeError, "CompletionQueue() takes no arguments");
        return NULL;
    }
    core_state *state = PyType_GetModuleState(type);
    cqobj *self = PyObject_GC_New(cqobj, type);
    if (self == NULL) {
        return NULL;
    }
    memset((char *)self + sizeof(PyObject), 0, sizeof(*self) - sizeof(PyObject));
    self->state = state;
    self->next = state->async->cqs;
    if (self->next != NULL) {
        self->next->prev = self;
    }
    state->async->cqs = self;
    PyObject_GC_Track((PyObject *)self);
    atoll_err err = atoll_cq_new(&self->cq);
    if (err != ATOLL_OK) {
        self->cq = NULL;
        Py_DECREF(self);
        return raise_err(state, err, "completion queue");
    }
    link_home(self);
    return (PyObject *)self;
}

static int
cq_traverse(PyObject *obj, visitproc visit, void *arg)
{
    cqobj *self = (cqobj *)obj;
    Py_VISIT(Py_TYPE(obj));
    for (opobj *o = self->pending.first; o != NULL; o = o->next) {
        Py_VISIT(o);
    }
    for (opobj *o = self->untold.first; o != NULL; o = o->next) {
        if (o->owned) {
            Py_VISIT(o);
        }
    }
    return 0;
}

static int
cq_clear(PyObject *obj)
{
    close_queue((cqobj *)obj);
    return 0;
}

static void
cq_dealloc(PyObject *obj)
{
    cqobj *self = (cqobj *)obj;
    PyTypeObject *type = Py_TYPE(obj);
    PyObject_GC_UnTrack(obj);
    PyObject *exc = PyErr_GetRaisedException();
    close_queue(self);
    PyErr_SetRaisedException(exc);
    *(self->prev != NULL ? &self->prev->next : &self->state->async->cqs) = self->next;
    if (self->next != NULL) {
        self->next->prev = self->prev;
    }
    PyObject_GC_Del(obj);
    Py_DECREF(type);
}

static PyMethodDef cq_methods[] = {
    {"recv", (PyCFunction)(void *)cq_recv, METH_FASTCALL, recv_doc},
    {"send", (PyCFunction)(void *)cq_send, METH_FASTCALL, send_doc},
    {"join", (PyCFunction)(void *)cq_join, METH_FASTCALL, join_doc},
    {"take", (PyCFunction)(void *)cq_take, METH_FASTCALL, take_doc},
    {"start", (PyCFunction)(void *)cq_start, METH_FASTCALL, start_doc},
    {"watch", (PyCFunction)(void *)cq_watch, METH_FASTCALL, watch_doc},
    {"drain", cq_drain, METH_NOARGS, drain_doc},
    {"wait", (PyCFunction)(void *)cq_wait, METH_FASTCALL | METH_KEYWORDS, wait_doc},
    {"fileno", cq_fileno, METH_NOARGS, fileno_doc},
    {"close", cq_close, METH_NOARGS, close_doc},
    {NULL, NULL, 0, NULL},
};

static PyType_Slot cq_slots[] = {
    {Py_tp_new, cq_new},
    {Py_tp_dealloc, cq_dealloc},
    {Py_tp_traverse, cq_traverse},
    {Py_tp_clear, cq_clear},
    {Py_tp_methods, cq_methods},
    {Py_tp_doc, "Operations under way, and those that have ended; see "
                "atoll/_aio.py."},
    {0, NULL},
};

static PyType_Spec cq_spec = {
    .name = "atoll._core.CompletionQueue",
    .basicsize = sizeof(cqobj),
    .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_HAVE_GC | Py_TPFLAGS_IMMUTABLETYPE,
    .slots = cq_slots,
};

int
cq_add_types(core_state *state)
{
    state->async->cq_type = core_add_type(state, &cq_spec);
    state->async->op_type = core_add_type(state, &op_spec);
    return state->async->cq_type == NULL || state->async->op_type == NULL ? -1 : 0;
}

/* ------------------------------------------------------------------ the end */

void
cq_end_all(core_state *state)
{
    /* Ending may drop queues, but makes none: begin again until nothing is
     * under way. */
    for (cqobj *cq = state->async->cqs; cq != NULL;) {
        if (cq->pending.first == NULL && cq->untold.first == NULL &&
            cq->told.first == NULL) {
            cq = cq->next;
            continue;
        }
        Py_INCREF(cq);
        op_end_all(cq);
        Py_DECREF(cq);
        cq = state->async->cqs;
    }
}
