/* Operations: start, end, result, cancel, put back. See async/async.h.
 *
 * Dropping a reference may run anybody's code, which may come back here. So in
 * each function the lists are right before that, and nothing that was read from
 * them earlier is used after it. */
#include "async/operation.h"

#include "async/select.h"
#include "atoll/trace.h"

#include <stddef.h>

/* -------------------------------------------------------------- the lists */

static void
add_last(cqobj *cq, op_list *list, opobj *o)
{
    o->cq = cq;
    o->list = list;
    o->next = NULL;
    o->prev = list->last;
    *(o->prev != NULL ? &o->prev->next : &list->first) = o;
    list->last = o;
}

static void
op_take_out(opobj *o)
{
    if (o->cq == NULL) {
        return;
    }
    op_list *list = o->list;
    *(o->prev != NULL ? &o->prev->next : &list->first) = o->next;
    *(o->next != NULL ? &o->next->prev : &list->last) = o->prev;
    o->prev = o->next = NULL;
    o->cq = NULL;
    o->list = NULL;
}

/* ------------------------------------------------------------ beginning */

opobj *
op_new(core_state *state, op_kind kind, PyObject *end, PyObject *token)
{
    opobj *o = PyObject_GC_New(opobj, state->async->op_type);
    if (o == NULL) {
        return NULL;
    }
    memset((char *)o + sizeof(PyObject), 0, sizeof(*o) - sizeof(PyObject));
    o->state = state;
    o->kind = kind;
    o->token = Py_XNewRef(token);
    o->end = (chanobj *)Py_XNewRef(end);
    o->op = atoll_alloc(sizeof(*o->op));
    PyObject_GC_Track((PyObject *)o);
    if (o->op == NULL) {
        o->phase = OP_OVER;
        Py_DECREF(o);
        return (opobj *)PyErr_NoMemory();
    }
    *o->op = (atoll_op){.user = o};
    return o;
}

void
op_start(opobj *o, cqobj *cq, atoll_event *event)
{
    atoll_err err = ATOLL_ERR_CLOSED;
    bool retired = o->end != NULL && o->end->retired;
    switch (retired ? OP_NONE : o->kind) {
    case OP_NONE:
        o->op->status = err; /* as from a call that blocks */
        break;
    case OP_RECV:
        err = atoll_chan_recv_start(o->end->chan, o->op, cq->cq);
        break;
    case OP_SEND:
        err = atoll_chan_send_start(o->end->chan, o->op, cq->cq);
        break;
    case OP_JOIN:
        err = atoll_chan_join_start(o->end->chan, o->op, cq->cq);
        break;
    case OP_TAKE:
        err = atoll_sync_take_start(o->lock->sync, sync_me_as(o->state, o->task), o->op,
                                    cq->cq);
        break;
    case OP_SELECT:
        err = atoll_select_start(o->selection->cases, o->selection->count,
                                 selection_random(o->selection), o->op, cq->cq,
                                 &o->index, &o->op->status);
        break;
    default:
        err = atoll_event_wait_start(event, o->op, cq->cq);
        break;
    }
    o->phase = err == ATOLL_ERR_AGAIN ? OP_PENDING : OP_ENDED;
    if (o->kind == OP_SELECT && o->phase == OP_ENDED) {
        selection_settle(o->selection, o->index, o->op->status);
    }
    if (o->phase == OP_PENDING) {
        o->owned = true;
        Py_INCREF(o);
    }
    add_last(cq, o->owned ? &cq->pending : &cq->untold, o);
}

/* ------------------------------------------------------------------ ending */

/* As atoll_op_cancel. */
static bool
op_recall(opobj *o)
{
    return o->kind == OP_SELECT
               ? atoll_select_cancel(o->selection->cases, o->selection->count, o->op)
               : atoll_op_cancel(o->op);
}

/* It has not been sent. */
static void
drop_unsent(opobj *o)
{
    if (o->kind == OP_SEND) {
        atoll_msg_drop(&o->op->msg);
    }
    else if (o->kind == OP_SELECT) {
        selection_drop_unsent(o->selection);
    }
}

/* Out of all lists, and nothing is left of it but the object. What becomes of
 * the message is the caller's business. */
static void
op_over(opobj *o)
{
    bool owned = o->owned;
    PyObject *keep = o->keep;
    PyObject *token = o->token;
    selection *cases = o->selection;
    op_take_out(o);
    o->token = NULL;
    o->owned = false;
    o->phase = OP_OVER;
    o->keep = NULL;
    o->selection = NULL;
    atoll_free(o->op);
    o->op = NULL;
    Py_XDECREF(keep);
    if (cases != NULL) {
        selection_free(cases);
    }
    if (owned) {
        Py_DECREF(o);
    }
    Py_XDECREF(token);
}

void
op_collect(cqobj *cq, atoll_op *op)
{
    opobj *o = op->user;
    op_take_out(o);
    if (o->kind == OP_SELECT) {
        o->index = atoll_select_end(o->selection->cases, o->selection->count, op);
        selection_settle(o->selection, o->index, op->status);
    }
    o->phase = OP_ENDED;
    add_last(cq, &cq->untold, o);
}

void
op_told(opobj *o)
{
    cqobj *cq = o->cq;
    if (o->kind == OP_WATCH) {
        op_over(o); /* there is no result to be taken */
        return;
    }
    bool owned = o->owned;
    PyObject *token = o->token; /* told once: it need not be kept */
    op_take_out(o);
    add_last(cq, &cq->told, o);
    o->owned = false;
    o->token = NULL;
    if (owned) {
        Py_DECREF(o);
    }
    Py_XDECREF(token);
}

/* The kind of case that it has ended with. */
static atoll_case_kind
case_of(const opobj *o)
{
    switch (o->kind) {
    case OP_RECV:
        return ATOLL_CASE_RECV;
    case OP_SEND:
        return ATOLL_CASE_SEND;
    case OP_SELECT:
        return o->selection->cases[o->index].kind;
    case OP_TAKE:
        return ATOLL_CASE_TAKE;
    default:
        return ATOLL_CASE_EVENT;
    }
}

static bool
has_received(const opobj *o)
{
    return o->phase == OP_ENDED && o->op->status == ATOLL_OK &&
           case_of(o) == ATOLL_CASE_RECV;
}

/* Of one that has received: where from, and what. */
static atoll_chan *
op_chan_of(const opobj *o)
{
    return o->kind == OP_SELECT ? o->selection->cases[o->index].of.chan : o->end->chan;
}

static atoll_msg *
msg_of(const opobj *o)
{
    return o->kind == OP_SELECT ? &o->selection->cases[o->index].msg : &o->op->msg;
}

/* A lock or a permit; or, of a lock, the news that its owner has died. */
static bool
has_taken(const opobj *o)
{
    return o->phase == OP_ENDED &&
           (o->op->status == ATOLL_OK || o->op->status == ATOLL_ERR_OWNER_DIED) &&
           case_of(o) == ATOLL_CASE_TAKE;
}

static const atoll_wait now = {.deadline = ATOLL_NOW};
static const atoll_wait for_ever = {.deadline = ATOLL_FOREVER};

/* From `o` on, each gets the message of the one before it; *msg goes in, and
 * the last comes out. */
static void
swap_along(opobj *o, const atoll_chan *chan, atoll_msg *msg)
{
    for (; o != NULL; o = o->next) {
        if (has_received(o) && op_chan_of(o) == chan) {
            atoll_msg newer = *msg_of(o);
            *msg_of(o) = *msg;
            *msg = newer;
        }
    }
}

/* The message that came for `o` is not taken: see async/async.h. */
static void
put_back(opobj *o)
{
    atoll_chan *chan = op_chan_of(o);
    atoll_msg msg = *msg_of(o);
    /* Those that the core has ended meanwhile count, too. They are asked for
     * one by one: a queue that has said that it is empty would have emptied its
     * descriptor, and the loop would not come for what we have taken out. */
    cqobj *cq = o->cq;
    while (cq != NULL && atoll_cq_wait(cq->cq, &now) == ATOLL_OK) {
        op_collect(cq, atoll_cq_next(cq->cq));
    }
    swap_along(o->next, chan, &msg);
    if (cq != NULL && o->list == &cq->told) {
        swap_along(cq->untold.first, chan, &msg);
    }
    chanobj_put_back(o->state, chan, &msg);
}

bool
op_cancel(opobj *o)
{
    if (o->phase == OP_PENDING && op_recall(o)) {
        drop_unsent(o);
        op_over(o);
        return true;
    }
    while (o->phase == OP_PENDING) {
        /* Somebody is about to put it in. */
        if (atoll_cq_wait(o->cq->cq, &for_ever) != ATOLL_OK) {
            op_over(o); /* in a forked child: nobody is */
            return true;
        }
        op_collect(o->cq, atoll_cq_next(o->cq->cq));
    }
    if (o->phase == OP_OVER) {
        return false;
    }
    if (o->phase == OP_ENDED && o->op->status == ATOLL_OK &&
        (case_of(o) == ATOLL_CASE_SEND || o->kind == OP_WATCH)) {
        return false; /* and all goes on as if nobody had asked */
    }
    if (has_received(o)) {
        put_back(o);
    }
    else if (has_taken(o)) {
        atoll_sync_untake(o->kind == OP_TAKE ? o->lock->sync
                                             : o->selection->cases[o->index].of.sync,
                          o->op->status);
    }
    drop_unsent(o);
    op_over(o);
    return true;
}

/* The newest of what has ended and was not taken; or NULL. */
static opobj *
op_newest(const cqobj *cq)
{
    return cq->untold.last != NULL ? cq->untold.last : cq->told.last;
}

void
op_end_all(cqobj *cq)
{
    opobj *o;
    /* First those that wait: none of them is to get what is put back. */
    while ((o = cq->pending.first) != NULL) {
        if (op_recall(o)) {
            drop_unsent(o);
            op_over(o);
        }
        else if (atoll_cq_wait(cq->cq, &for_ever) == ATOLL_OK) {
            op_collect(cq, atoll_cq_next(cq->cq));
        }
        else {
            op_over(o); /* in a forked child */
        }
    }
    /* Then, the newest first, what has come. */
    while ((o = op_newest(cq)) != NULL) {
        if (!has_received(o) && !has_taken(o) && !o->owned) {
            op_take_out(o); /* whoever has it may still ask how it ended */
        }
        else if (!op_cancel(o)) {
            op_over(o);
        }
    }
}

/* --------------------------------------------------------------- the type */

static PyObject *
op_raise_for(const opobj *o, atoll_err err)
{
    if (o->lock != NULL) {
        return sync_raise(o->state, o->lock->sync, err);
    }
    if (o->end == NULL) {
        return raise_err(o->state, err, "event");
    }
    return chanobj_raise(o->end, err);
}

PyDoc_STRVAR(result_doc,
"result($self, /)\n--\n\n"
"What it has come to, once it has ended: the object received, or None. Raises\n"
"what the call that blocks would raise. Once.");

static PyObject *
op_result(PyObject *obj, PyObject *Py_UNUSED(ignored))
{
    opobj *o = (opobj *)obj;
    if (o->phase != OP_ENDED) {
        PyErr_SetString(PyExc_RuntimeError,
                        o->phase == OP_OVER
                            ? "the result has been taken, or it was cancelled"
                            : "the operation has not ended");
        return NULL;
    }
    atoll_err err = o->op->status;
    atoll_msg msg = o->op->msg;
    selection *cases = o->selection;
    o->selection = NULL;
    Py_INCREF(o);
    op_over(o);
    PyObject *result = NULL;
    if (atoll_trace_on(TRACE_MESSAGES) && (o->kind == OP_RECV || o->kind == OP_SEND)) {
        chanobj_trace(o->end, o->kind == OP_SEND, err);
    }
    if (cases != NULL) {
        result = selection_result(cases, o->index, err);
        selection_free(cases);
    }
    else if (err != ATOLL_OK) {
        if (o->kind == OP_SEND) {
            atoll_msg_drop(&msg);
        }
        op_raise_for(o, err);
    }
    else {
        result = o->kind == OP_RECV ? chanobj_open(o->end, &msg) : Py_NewRef(Py_None);
    }
    Py_DECREF(o);
    return result;
}

PyDoc_STRVAR(cancel_doc,
"cancel($self, /)\n--\n\n"
"End it. True: it has not happened; what had been received has been put back.\n"
"False: it has happened, and its result() may still be taken; or it has been.");

static PyObject *
op_cancel_method(PyObject *obj, PyObject *Py_UNUSED(ignored))
{
    Py_INCREF(obj);
    bool undone = op_cancel((opobj *)obj);
    Py_DECREF(obj);
    return PyBool_FromLong(undone);
}

static PyObject *
op_get_done(PyObject *obj, void *Py_UNUSED(closure))
{
    return PyBool_FromLong(((opobj *)obj)->phase >= OP_ENDED);
}

static int
op_traverse(PyObject *obj, visitproc visit, void *arg)
{
    Py_VISIT(Py_TYPE(obj));
    Py_VISIT(((opobj *)obj)->token);
    const selection *cases = ((opobj *)obj)->selection;
    return cases == NULL ? 0 : selection_visit(cases, visit, arg);
}

static int
op_clear(PyObject *obj)
{
    Py_CLEAR(((opobj *)obj)->token);
    return 0;
}

static void
op_dealloc(PyObject *obj)
{
    opobj *o = (opobj *)obj;
    PyTypeObject *type = Py_TYPE(obj);
    PyObject_GC_UnTrack(obj);
    PyObject *exc = PyErr_GetRaisedException();
    /* Not PENDING: then the queue has a reference. */
    if (o->phase != OP_OVER && !op_cancel(o)) {
        op_over(o);
    }
    PyErr_SetRaisedException(exc);
    op_clear(obj);
    Py_XDECREF(o->end);
    Py_XDECREF(o->lock);
    PyObject_GC_Del(obj);
    Py_DECREF(type);
}

static PyMethodDef op_methods[] = {
    {"result", op_result, METH_NOARGS, result_doc},
    {"cancel", op_cancel_method, METH_NOARGS, cancel_doc},
    {NULL, NULL, 0, NULL},
};

static PyGetSetDef op_getset[] = {
    {"done", op_get_done, NULL, "Has it ended? (bool)", NULL},
    {NULL, NULL, NULL, NULL, NULL},
};

static PyType_Slot op_slots[] = {
    {Py_tp_dealloc, op_dealloc},
    {Py_tp_traverse, op_traverse},
    {Py_tp_clear, op_clear},
    {Py_tp_methods, op_methods},
    {Py_tp_getset, op_getset},
    {Py_tp_doc, "A receive, a send, or a wait for an event, under way."},
    {0, NULL},
};

PyType_Spec op_spec = {
    .name = "atoll._core.Operation",
    .basicsize = sizeof(opobj),
    .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_HAVE_GC | Py_TPFLAGS_IMMUTABLETYPE |
             Py_TPFLAGS_DISALLOW_INSTANTIATION,
    .slots = op_slots,
};
