/* atoll.select: one of several sends, receives and ends of tasks. The core does it
 * (at_select.c); here cases are read and results made. */
#include "async/select.h"

#include "async/async.h"
#include "atoll/trace.h"
#include "chan/chan.h"
#include "pool/pool.h"
#include "sync/sync.h"
#include "wait/wait.h"

/* ------------------------------------------------------------------ cases */

static bool
is_channel(const core_state *state, PyObject *obj, bool send)
{
    return Py_IS_TYPE(obj, state->chan->queue_type) ||
           Py_IS_TYPE(obj, send ? state->chan->send_type : state->chan->recv_type);
}

/* The exception that is set says which case it is about. */
static void
name_case(uint32_t index)
{
    PyObject *exc = PyErr_GetRaisedException();
    PyObject *number = PyLong_FromUnsignedLong(index);
    if (exc != NULL && number != NULL &&
        PyObject_SetAttrString(exc, "case", number) < 0) {
        PyErr_Clear(); /* a MemoryError, say, has no attributes */
    }
    Py_XDECREF(number);
    PyErr_SetRaisedException(exc);
}

/* Case `i` is about an end that has been retired, and so has no say any more: it is as
 * if its channel was closed, whatever others do there. */
static void
set_closed(selection *s, uint32_t i)
{
    s->cases[i].kind = ATOLL_CASE_CLOSED;
    s->cases[i].of.chan = ((chanobj *)s->ends[i])->chan;
}

/* Code that encoding has run may have retired the end of a case before. */
static void
find_retired(selection *s)
{
    for (uint32_t i = 0; i < s->count; i++) {
        atoll_case_kind kind = s->cases[i].kind;
        if ((kind == ATOLL_CASE_SEND || kind == ATOLL_CASE_RECV) &&
            ((chanobj *)s->ends[i])->retired) {
            if (kind == ATOLL_CASE_SEND) {
                atoll_msg_drop(&s->cases[i].msg);
            }
            set_closed(s, i);
        }
    }
}

static int
set_send(core_state *state, atoll_case *c, PyObject *end, PyObject *obj)
{
    if (xfer_encode(state, obj, &c->msg) < 0) {
        c->msg.drop = NULL;
        return -1;
    }
    chanobj_set_orphan((chanobj *)end, &c->msg, -1);
    c->kind = ATOLL_CASE_SEND;
    c->of.chan = ((chanobj *)end)->chan;
    return 0;
}

static int
set_task(atoll_case *c, PyObject *obj)
{
    task *t = pool_future_task(obj);
    if (t == NULL) {
        return -1;
    }
    c->kind = ATOLL_CASE_EVENT;
    c->of.event = &t->job.done;
    return 0;
}

/* Read case `i` from `arg`. */
static int
set_case(selection *s, uint32_t i, PyObject *arg)
{
    core_state *state = s->state;
    atoll_case *c = &s->cases[i];
    if (arg == Py_None) {
        return 0;
    }
    if (PyTuple_CheckExact(arg) && PyTuple_GET_SIZE(arg) == 2 &&
        is_channel(state, PyTuple_GET_ITEM(arg, 0), true)) {
        s->ends[i] = Py_NewRef(PyTuple_GET_ITEM(arg, 0));
        if (((chanobj *)s->ends[i])->retired) {
            set_closed(s, i);
            return 0;
        }
        return set_send(state, c, s->ends[i], PyTuple_GET_ITEM(arg, 1));
    }
    if (is_channel(state, arg, false)) {
        c->kind = ATOLL_CASE_RECV;
        c->of.chan = ((chanobj *)arg)->chan;
    }
    else if (pool_is_future(state, arg)) {
        if (set_task(c, arg) < 0) {
            return -1;
        }
        s->has_tasks = true;
    }
    else if (sync_can_wait(state, Py_TYPE(arg))) {
        c->kind = ATOLL_CASE_TAKE;
        c->of.sync = ((syncobj *)arg)->sync;
        c->msg = atoll_sync_introduce(sync_me(state));
    }
    else {
        PyErr_Format(PyExc_TypeError,
                     "case %u: expected a RecvChannel, Queue, Future, Event, "
                     "Lock or Semaphore, a tuple (SendChannel or Queue, "
                     "object), or None, not %R",
                     (unsigned)i, arg);
        return -1;
    }
    s->ends[i] = Py_NewRef(arg);
    return 0;
}

/* Memory for `count` cases: that of the last selection, if it is enough. */
static selection *
take_memory(core_state *state, Py_ssize_t count)
{
    selection *s = state->async->selection;
    if (s != NULL && (size_t)count <= s->room) {
        state->async->selection = NULL;
        return s;
    }
    if (count > INT32_MAX / 4) {
        return (selection *)PyErr_NoMemory();
    }
    size_t room = count < 8 ? 8 : (size_t)count;
    s = PyMem_Malloc(sizeof(*s) + room * (sizeof(atoll_case) + sizeof(wait_case) +
                                          sizeof(PyObject *)));
    if (s == NULL) {
        return (selection *)PyErr_NoMemory();
    }
    s->room = (uint32_t)room;
    return s;
}

selection *
selection_new(core_state *state, PyObject *const *args, Py_ssize_t count, bool in_order)
{
    selection *s = take_memory(state, count);
    if (s == NULL) {
        return NULL;
    }
    *s = (selection){.state = state,
                     .count = (uint32_t)count,
                     .room = s->room,
                     .in_order = in_order};
    s->cases = (atoll_case *)(s + 1);
    s->waits = (wait_case *)(s->cases + s->room);
    s->ends = (PyObject **)(s->waits + s->room);
    for (uint32_t i = 0; i == 0 || i < s->count; i++) {
        s->cases[i].kind = ATOLL_CASE_NEVER;
        s->cases[i].msg.drop = NULL;
        s->ends[i] = NULL;
    }
    for (uint32_t i = 0; i < s->count; i++) {
        if (set_case(s, i, args[i]) < 0) {
            selection_drop_unsent(s);
            selection_free(s);
            return NULL;
        }
    }
    find_retired(s);
    return s;
}

void
selection_drop_unsent(selection *s)
{
    for (uint32_t i = 0; i < s->count; i++) {
        if (s->cases[i].kind == ATOLL_CASE_SEND) {
            atoll_msg_drop(&s->cases[i].msg);
        }
    }
}

void
selection_settle(selection *s, uint32_t index, atoll_err err)
{
    if (err == ATOLL_OK && s->cases[index].kind == ATOLL_CASE_SEND) {
        s->cases[index].msg.drop = NULL; /* it is the channel's */
    }
    selection_drop_unsent(s);
}

void
selection_free(selection *s)
{
    PyObject *exc = PyErr_GetRaisedException();
    for (uint32_t i = 0; i < s->count; i++) {
        Py_XDECREF(s->ends[i]);
    }
    PyErr_SetRaisedException(exc);
    core_state *state = s->state;
    if (state->async->selection == NULL || state->async->selection->room < s->room) {
        selection *smaller = state->async->selection;
        state->async->selection = s;
        s = smaller;
    }
    PyMem_Free(s);
}

void
selection_forget(core_state *state)
{
    PyMem_Free(state->async->selection);
    state->async->selection = NULL;
}

int
selection_visit(const selection *s, visitproc visit, void *arg)
{
    for (uint32_t i = 0; i < s->count; i++) {
        Py_VISIT(s->ends[i]);
    }
    return 0;
}

/* ------------------------------------------------------------------ results */

/* What the call that it stands for raises, with the number of the case. */
static void
raise_case(selection *s, uint32_t index, atoll_err err)
{
    chanobj *end = (chanobj *)s->ends[index];
    if (s->cases[index].kind == ATOLL_CASE_TAKE) {
        (void)sync_raise(s->state, s->cases[index].of.sync, err);
    }
    else if (end == NULL || s->cases[index].kind == ATOLL_CASE_EVENT) {
        raise_err(s->state, err, "select"); /* in a forked child */
        return;
    }
    else {
        (void)chanobj_raise(end, err);
    }
    name_case(index);
}

PyObject *
selection_result(selection *s, uint32_t index, atoll_err err)
{
    atoll_case *c = &s->cases[index];
    PyObject *value = NULL;
    if (atoll_trace_on(TRACE_MESSAGES) &&
        (c->kind == ATOLL_CASE_RECV || c->kind == ATOLL_CASE_SEND)) {
        chanobj_trace((chanobj *)s->ends[index], c->kind == ATOLL_CASE_SEND, err);
    }
    if (err != ATOLL_OK) {
        raise_case(s, index, err);
        return NULL;
    }
    if (c->kind == ATOLL_CASE_RECV) {
        bool orphaned = c->msg.orphaned;
        value = chanobj_open((chanobj *)s->ends[index], &c->msg);
        if (value == NULL && orphaned) {
            name_case(index); /* as what else an end raises */
        }
    }
    else {
        value = Py_NewRef(c->kind == ATOLL_CASE_SEND ? Py_None : s->ends[index]);
    }
    return value == NULL ? NULL : Py_BuildValue("IN", index, value);
}

/* ------------------------------------------------------------------ waiting */

uint64_t *
selection_random(selection *s)
{
    if (s->in_order) {
        return NULL;
    }
    uint64_t *random = &s->state->async->random;
    if (*random == 0) { /* another one in each interpreter and process */
        *random = (uint64_t)atoll_now() ^ (uint64_t)(uintptr_t)s->state;
    }
    return random;
}

static const atoll_wait no_wait = {.deadline = ATOLL_NOW};

atoll_err
selection_try(selection *s, uint32_t *index, atoll_err *err)
{
    return atoll_select(s->cases, s->count, selection_random(s), &no_wait, index, err);
}

typedef struct choice {
    selection *s;
    uint64_t random; /* its own: other threads use that of the interpreter */
    uint32_t index;
    atoll_err err;
} choice;

static atoll_err
do_select(void *arg, const atoll_wait *wait)
{
    choice *c = arg;
    selection *s = c->s;
    return atoll_select(s->cases, s->count, s->in_order ? NULL : &c->random, wait,
                        &c->index, &c->err);
}

/* What is waited for, for those who look (wait/record.h): how many. */
static uint32_t
note_waits(selection *s)
{
    uint32_t i = 0;
    do { /* with none it is one that never ends */
        const atoll_case *c = &s->cases[i];
        wait_case *w = &s->waits[i];
        *w = (wait_case){&wait_unknown, NULL};
        if (c->kind == ATOLL_CASE_NEVER) {
            w->type = &wait_never;
        }
        else if (c->kind == ATOLL_CASE_RECV || c->kind == ATOLL_CASE_SEND) {
            w->type = c->kind == ATOLL_CASE_RECV ? &wait_recv : &wait_send;
            w->object = c->of.chan;
        }
        else if (c->kind == ATOLL_CASE_TAKE) {
            w->type = &wait_sync;
            w->object = c->of.sync;
        }
        else if (pool_is_future(s->state, s->ends[i])) {
            w->type = &wait_task;
            w->object = pool_future_task(s->ends[i]);
        }
    } while (++i < s->count);
    return i;
}

/* 0: a case has ended, or *end says why none has; -1 with an exception. */
static int
wait_for_one(choice *c, int64_t deadline, atoll_err *end)
{
    selection *s = c->s;
    *end = selection_try(s, &c->index, &c->err);
    if (*end != ATOLL_ERR_AGAIN || deadline == ATOLL_NOW) {
        return 0;
    }
    c->random = s->state->async->random;
    if (s->has_tasks) {
        callers_enter(s->state);
    }
    uint32_t count = note_waits(s);
    int rc =
        detach_wait_for(s->state, do_select, c, deadline, NULL, s->waits, count, end);
    if (s->has_tasks) {
        PyObject *exc = PyErr_GetRaisedException();
        callers_leave(s->state);
        PyErr_SetRaisedException(exc);
    }
    return rc;
}

/* The arguments by name. */
typedef struct options {
    int64_t deadline;
    PyObject *otherwise; /* borrowed; or NULL */
    bool in_order;
} options;

static int
parse_options(const char *function, PyObject *const *args, PyObject *kwnames,
              options *o)
{
    static const char *const names[] = {"timeout", "default", "priority"};
    PyObject *values[3] = {NULL, NULL, NULL};
    *o = (options){.deadline = ATOLL_FOREVER};
    if (args_parse(function, args, 0, kwnames, names, 3, 0, 0, values) < 0 ||
        detach_deadline(values[0], &o->deadline) < 0) {
        return -1;
    }
    o->otherwise = values[1];
    if (values[1] != NULL && (values[0] == NULL || values[0] == Py_None)) {
        o->deadline = ATOLL_NOW;
    }
    int in_order = values[2] == NULL ? 0 : PyObject_IsTrue(values[2]);
    o->in_order = in_order > 0;
    return in_order < 0 ? -1 : 0;
}

static PyObject *
none_ready(core_state *state, PyObject *otherwise)
{
    if (otherwise != NULL) {
        return PyTuple_Pack(2, Py_None, otherwise);
    }
    return raise_error(state, "ChannelTimeout", "select: no case was ready in time");
}

PyDoc_STRVAR(select_doc,
"select(*cases, timeout=None, default=..., priority=False)\n--\n\n"
"Wait for several things; exactly one of them happens.\n\n"
"If several are ready, one of them is chosen at random. The GIL is released while\n"
"it waits. It stands in all lines at once, and is served in its turn.\n\n"
"Args:\n"
"  *cases: each is one of\n"
"    a RecvChannel or a Queue: receive, or get, an object;\n"
"    (SendChannel, obj) or (Queue, obj): send, or put, it. It is encoded at once,\n"
"      whether or not it is sent then;\n"
"    a Future or Task: it has ended;\n"
"    an Event: it is set; a Lock, Semaphore or BoundedSemaphore: acquire it;\n"
"    None: never ready.\n"
"  timeout (float | None): seconds to wait; None for ever, 0 tries once.\n"
"  default: what to return as (None, default) if no case is ready in time; without\n"
"    a timeout it does not wait.\n"
"  priority (bool): the first case that is ready, instead of any.\n"
"Returns:\n"
"  (index, value): which case it was (int) and, of a receive, the object; of a\n"
"    future, event or lock itself; of a send None.\n"
"Raises:\n"
"  ChannelClosed, QueueShutDown, ...: as the call that the case stands for; `case`\n"
"    of the exception is its index. A channel that is closed or poisoned is\n"
"    ready, and so is an end that has been retired.\n"
"  ChannelTimeout (a TimeoutError): not in time; nothing has happened.\n"
"  NotShareableError: an object cannot cross; nothing has happened.\n"
"Can be interrupted by a signal; then nothing has happened.");

static PyObject *
core_select(PyObject *module, PyObject *const *args, Py_ssize_t nargs,
            PyObject *kwnames)
{
    core_state *state = PyModule_GetState(module);
    options o;
    if (parse_options("select", args + nargs, kwnames, &o) < 0) {
        return NULL;
    }
    choice c = {.s = selection_new(state, args, nargs, o.in_order)};
    if (c.s == NULL) {
        return NULL;
    }
    atoll_err end;
    PyObject *result = NULL;
    int rc = wait_for_one(&c, o.deadline, &end);
    if (rc == 0 && end == ATOLL_OK) {
        selection_settle(c.s, c.index, c.err);
        result = selection_result(c.s, c.index, c.err);
    }
    else {
        selection_drop_unsent(c.s);
        if (rc == 0) {
            result = none_ready(state, o.otherwise);
        }
    }
    selection_free(c.s);
    return result;
}

PyMethodDef select_functions[] = {
    {"select", (PyCFunction)(void *)core_select, METH_FASTCALL | METH_KEYWORDS,
     select_doc},
    {NULL, NULL, 0, NULL},
};
