/* atoll._core.Job: what a future holds on to, and how it waits. The rest of a
 * future is Python (atoll/_tasks/future.py). */
#include "pool/task.h"

#include "output/output.h"
#include "wire/wire.h"

PyObject *
jobobj_new(core_state *state, PyTypeObject *cls)
{
    jobobj *self = (jobobj *)cls->tp_alloc(cls, 0);
    if (self != NULL) {
        self->state = state;
    }
    return (PyObject *)self;
}

static PyObject *
jobobj_tp_new(PyTypeObject *cls, PyObject *Py_UNUSED(args), PyObject *Py_UNUSED(kwargs))
{
    core_state *state = core_state_of_type(cls);
    return state == NULL ? NULL : jobobj_new(state, cls);
}

static int
jobobj_traverse(PyObject *obj, visitproc visit, void *arg)
{
    Py_VISIT(Py_TYPE(obj));
    Py_VISIT(((jobobj *)obj)->value);
    Py_VISIT(((jobobj *)obj)->reply);
    return 0;
}

static int
jobobj_clear(PyObject *obj)
{
    Py_CLEAR(((jobobj *)obj)->value);
    Py_CLEAR(((jobobj *)obj)->reply);
    return 0;
}

/* Has it been submitted by this process, and not by the parent of one that was forked?
 */
static bool
is_ours(const jobobj *self)
{
    return self->task != NULL && self->task->pool->process == xfer_process_token();
}

/* Is that an end that somebody is to hear of? That a pool is broken, one time only. */
static bool
is_sad(task *t, job_status status)
{
    if (status != JOB_BROKEN) {
        return status != JOB_RETURNED && status != JOB_CANCELLED;
    }
    atoll_lock_acquire(&t->pool->lock);
    bool first = !t->pool->mourned;
    t->pool->mourned = true;
    atoll_lock_release(&t->pool->lock);
    return first;
}

/* Is this too late to import anything, or call Python code of a module's? CPython takes
 * that list away when it begins to take apart the modules of an interpreter. */
static bool
is_interpreter_ending(void)
{
    PyObject *path = PySys_GetObject("meta_path");
    return Py_IsFinalizing() || path == NULL || path == Py_None;
}

/* Nobody has it any more: if nobody has looked at what it failed with, log that. What
 * is not over yet is logged where it runs: see job_mourn. */
static void
jobobj_finalize(PyObject *obj)
{
    jobobj *self = (jobobj *)obj;
    if (self->retrieved || !is_ours(self) || is_interpreter_ending()) {
        return;
    }
    job *j = &self->task->job;
    if (job_drop_future(j) || !is_sad(self->task, j->status)) {
        return;
    }
    PyObject *exc = PyErr_GetRaisedException();
    PyObject *mourn =
        package_keep(&self->state->pool->mourn, PACKAGE_FUTURE, "unretrieved");
    PyObject *done = mourn == NULL ? NULL : PyObject_CallOneArg(mourn, obj);
    if (done == NULL) {
        PyErr_WriteUnraisable(obj);
    }
    Py_XDECREF(done);
    PyErr_SetRaisedException(exc);
}

static void
jobobj_dealloc(PyObject *obj)
{
    jobobj *self = (jobobj *)obj;
    PyTypeObject *type = Py_TYPE(obj);
    PyObject_GC_UnTrack(obj);
    Py_CLEAR(self->value);
    Py_CLEAR(self->reply);
    if (self->task != NULL) {
        task_unref(self->task);
    }
    type->tp_free(obj);
    Py_DECREF(type);
}

bool
pool_is_future(const core_state *state, PyObject *obj)
{
    return PyObject_TypeCheck(obj, state->pool->job_type);
}

/* --------------------------------------------------------------- its state */

/* Its job, begun in this process; else NULL with an exception. */
static task *
task_begun(jobobj *self)
{
    if (self->task == NULL) {
        PyErr_SetString(PyExc_RuntimeError, "the task has not been started");
        return NULL;
    }
    if (self->task->pool->process != xfer_process_token()) {
        raise_err(self->state, ATOLL_ERR_FORKED, "task");
        return NULL;
    }
    return self->task;
}

task *
pool_future_task(PyObject *future)
{
    return task_begun((jobobj *)future);
}

static bool
is_done(const jobobj *self)
{
    return self->task != NULL && atoll_event_is_set(&self->task->job.done);
}

static bool
is_cancelled(const jobobj *self)
{
    return is_done(self) && self->task->job.status == JOB_CANCELLED;
}

static bool
is_started(jobobj *self)
{
    /* In a forked child nothing of the parent's runs, and its pool's lock may be held
     * by a thread that is not there. */
    if (!is_ours(self)) {
        return false;
    }
    pool *p = self->task->pool;
    atoll_lock_acquire(&p->lock);
    bool started = self->task->phase == TASK_STARTED;
    atoll_lock_release(&p->lock);
    return started;
}

PyDoc_STRVAR(done_doc,
"done($self, /)\n--\n\nHas it ended, or been cancelled? (bool)");

static PyObject *
jobobj_done(PyObject *obj, PyObject *Py_UNUSED(ignored))
{
    return PyBool_FromLong(is_done((jobobj *)obj));
}

PyDoc_STRVAR(cancelled_doc,
"cancelled($self, /)\n--\n\nHas it been cancelled? (bool)");

static PyObject *
jobobj_cancelled(PyObject *obj, PyObject *Py_UNUSED(ignored))
{
    return PyBool_FromLong(is_cancelled((jobobj *)obj));
}

PyDoc_STRVAR(running_doc,
"running($self, /)\n--\n\nIs it running, its outcome still open? (bool)");

static PyObject *
jobobj_running(PyObject *obj, PyObject *Py_UNUSED(ignored))
{
    jobobj *self = (jobobj *)obj;
    return PyBool_FromLong(!is_done(self) && is_started(self));
}

PyDoc_STRVAR(is_alive_doc,
"is_alive($self, /)\n--\n\n"
"Has it been started, and has its code not ended? (bool) One that was cancelled\n"
"is alive until it has obeyed.");

static PyObject *
jobobj_is_alive(PyObject *obj, PyObject *Py_UNUSED(ignored))
{
    jobobj *self = (jobobj *)obj;
    return PyBool_FromLong(is_ours(self) && !atoll_event_is_set(&self->task->job.over));
}

/* ---------------------------------------------------------------- waiting */

static atoll_err
jobobj_wait_done(void *arg, const atoll_wait *wait)
{
    return atoll_event_wait(&((task *)arg)->job.done, wait);
}

static atoll_err
jobobj_wait_over(void *arg, const atoll_wait *wait)
{
    return atoll_event_wait(&((task *)arg)->job.over, wait);
}

static atoll_err
wait_opened(void *arg, const atoll_wait *wait)
{
    return atoll_event_wait(arg, wait);
}

/* As detach_deadline, but what is negative is now, as in concurrent.futures. */
static int
parse_timeout(PyObject *timeout, int64_t *deadline)
{
    if (timeout != NULL && PyFloat_Check(timeout) && PyFloat_AS_DOUBLE(timeout) < 0) {
        *deadline = ATOLL_NOW;
        return 0;
    }
    if (timeout != NULL && PyLong_Check(timeout)) {
        int negative = 0;
        (void)PyLong_AsLongAndOverflow(timeout, &negative);
        if (negative < 0 || (negative == 0 && PyLong_AsLong(timeout) < 0)) {
            *deadline = ATOLL_NOW;
            return 0;
        }
    }
    return detach_deadline(timeout, deadline);
}

/* Note in a KeyboardInterrupt that has ended a wait for `t`, if that is set, that the
 * task is not stopped by it: where it is, and what would stop it. Keeps the exception.
 */
static void
note_goes_on(task *t)
{
    if (!PyErr_ExceptionMatches(PyExc_KeyboardInterrupt) ||
        atoll_event_is_set(&t->job.done)) {
        return;
    }
    PyObject *exc = PyErr_GetRaisedException();
    pool *p = t->pool;
    atoll_lock_acquire(&p->lock);
    task_phase phase = t->phase;
    long long id = t->home == NULL ? -1 : (long long)t->home->id;
    atoll_lock_release(&p->lock);
    PyObject *note = NULL;
    if (phase == TASK_STARTED && id >= 0) {
        note =
            PyUnicode_FromFormat("the task goes on in interpreter %lld '%s'; cancel() "
                                 "of its future stops it",
                                 id, p->name);
    }
    else if (phase == TASK_QUEUED) {
        note =
            PyUnicode_FromFormat("the task is still queued for '%s'; cancel() of its "
                                 "future takes it out",
                                 p->name);
    }
    PyObject *done =
        note == NULL ? NULL : PyObject_CallMethod(exc, "add_note", "O", note);
    Py_XDECREF(done);
    Py_XDECREF(note);
    PyErr_Clear(); /* no memory for it */
    PyErr_SetRaisedException(exc);
}

/* Wait with `op`. 1: it has happened; 0: not in time; -1 with an exception. */
static int
jobobj_wait_for(jobobj *self, detach_op op, PyObject *timeout)
{
    int64_t deadline;
    atoll_err err;
    task *t = task_begun(self);
    if (t == NULL || parse_timeout(timeout, &deadline) < 0) {
        return -1;
    }
    task_ref(t);
    callers_enter(self->state);
    const wait_type *what = op == jobobj_wait_over ? &wait_task_over : &wait_task;
    int rc =
        detach_wait_one(self->state, op, t, deadline, &t->pool->spin, what, t, &err);
    if (rc < 0) {
        note_goes_on(t);
    }
    PyObject *exc = PyErr_GetRaisedException();
    callers_leave(self->state);
    PyErr_SetRaisedException(exc);
    task_unref(t);
    return rc < 0 ? -1 : err == ATOLL_OK;
}

/* One optional argument, `timeout`, by position or name. */
static int
parse_args(PyObject *const *args, Py_ssize_t nargs, PyObject *kwnames,
           PyObject **timeout)
{
    Py_ssize_t named = kwnames == NULL ? 0 : PyTuple_GET_SIZE(kwnames);
    *timeout = NULL;
    if (nargs + named > 1 ||
        (named == 1 && PyUnicode_CompareWithASCIIString(PyTuple_GET_ITEM(kwnames, 0),
                                                        "timeout") != 0)) {
        PyErr_SetString(PyExc_TypeError, "expected at most one argument, timeout");
        return -1;
    }
    if (nargs + named == 1) {
        *timeout = args[0];
    }
    return 0;
}

/* Make an exception of an outcome that is none of the user's values:
 * atoll._tasks.future.failure(status, value, task). */
static PyObject *
jobobj_failure(jobobj *self, PyObject *value)
{
    core_state *state = self->state;
    PyObject *make = package_keep(&state->pool->failure, PACKAGE_FUTURE, "failure");
    const pool *p = self->task->pool;
    return make == NULL
               ? NULL
               : PyObject_CallFunction(make, "iOsLz", (int)self->task->job.status,
                                       value, p->name, (long long)self->task->limit,
                                       p->why);
}

/* What is in its reply: self->reply. -1 with an exception; *kept: it can be asked
 * for again. */
static int
decode_reply(jobobj *self, bool *kept)
{
    task *t = self->task;
    *kept = self->reply != NULL;
    if (self->reply != NULL) {
        return 0;
    }
    self->reply = t->job.status == JOB_RETURNED || t->job.status == JOB_RAISED ||
                          t->job.status == JOB_UNSENT
                      ? xfer_decode_kept(self->state, &t->job.reply, kept)
                      : Py_NewRef(Py_None);
    *kept = *kept || self->reply != NULL;
    return self->reply == NULL ? -1 : 0;
}

/* Its outcome, as an object or an exception; only one thread at a time. -1 with what
 * has interrupted it, a KeyboardInterrupt or what a signal's handler has raised: that
 * is for the caller and not what the task has come to, and the reply can be opened
 * another time. */
static int
open_reply(jobobj *self)
{
    bool kept, raised = self->task->job.status != JOB_RETURNED;
    PyObject *value = NULL;
    if (decode_reply(self, &kept) == 0) {
        value = raised ? jobobj_failure(self, self->reply) : Py_NewRef(self->reply);
    }
    if (value == NULL && kept) {
        return -1;
    }
    if (value == NULL) {
        raised = true;
        value = PyErr_GetRaisedException();
    }
    Py_CLEAR(self->reply);
    self->raised = raised;
    self->value = value;
    return 0;
}

/* Wait for the outcome and make its object. 1; 0: not in time; -1. */
static int
jobobj_resolve(jobobj *self, PyObject *timeout)
{
    if (self->value != NULL) {
        return 1;
    }
    int rc = jobobj_wait_for(self, jobobj_wait_done, timeout);
    if (rc <= 0 || is_cancelled(self)) {
        return rc;
    }
    if (output_catch_up(self->state, self->task->job.printed) < 0) {
        return -1;
    }
    while (self->value == NULL && self->opening) {
        /* Another thread of this interpreter is at it. */
        atoll_err err;
        if (detach_wait(self->state, wait_opened, &self->opened, ATOLL_FOREVER, NULL,
                        &err) < 0) {
            return -1;
        }
    }
    int rc_open = 0;
    if (self->value == NULL) {
        self->opening = true;
        if (atoll_event_is_set(&self->opened)) {
            atoll_event_reset(&self->opened); /* for the one before that failed */
        }
        rc_open = open_reply(self);
        self->opening = false;
        atoll_event_set(&self->opened);
    }
    return rc_open < 0 ? -1 : 1;
}

static PyObject *
raise_value(PyObject *exc)
{
    PyErr_SetObject((PyObject *)Py_TYPE(exc), exc);
    return NULL;
}

/* For the two methods: 1, with self->value; else the exception is set. */
static int
resolve_or_raise(jobobj *self, PyObject *const *args, Py_ssize_t nargs,
                 PyObject *kwnames)
{
    PyObject *timeout;
    if (parse_args(args, nargs, kwnames, &timeout) < 0) {
        return -1;
    }
    int rc = jobobj_resolve(self, timeout);
    if (rc == 0) {
        PyErr_SetNone(PyExc_TimeoutError);
        return -1;
    }
    if (rc > 0) {
        self->retrieved = true;
    }
    if (rc > 0 && self->value == NULL) { /* cancelled: a new one each time */
        PyObject *exc = jobobj_failure(self, Py_None);
        if (exc != NULL) {
            raise_value(exc);
            Py_DECREF(exc);
        }
        return -1;
    }
    return rc;
}

PyDoc_STRVAR(result_doc,
"result($self, /, timeout=None)\n--\n\n"
"Wait for the task and return its result, or raise its exception.\n\n"
"Blocks for up to `timeout` seconds (float; None: for ever). The result is a\n"
"copy, made at the first call here; later calls return the same object.\n"
"Raises TimeoutError; CancelledError; InterpreterNotFoundError if the\n"
"interpreter was closed before the task began; BrokenInterpreterPool.");

static PyObject *
jobobj_result(PyObject *obj, PyObject *const *args, Py_ssize_t nargs, PyObject *kwnames)
{
    jobobj *self = (jobobj *)obj;
    if (resolve_or_raise(self, args, nargs, kwnames) < 0) {
        return NULL;
    }
    return self->raised ? raise_value(self->value) : Py_NewRef(self->value);
}

PyDoc_STRVAR(exception_doc,
"exception($self, /, timeout=None)\n--\n\n"
"Wait for the task and return its exception, or None. As result() else.");

static PyObject *
jobobj_exception(PyObject *obj, PyObject *const *args, Py_ssize_t nargs,
                 PyObject *kwnames)
{
    jobobj *self = (jobobj *)obj;
    if (resolve_or_raise(self, args, nargs, kwnames) < 0) {
        return NULL;
    }
    return Py_NewRef(self->raised ? self->value : Py_None);
}

PyDoc_STRVAR(wait_doc,
"_wait($self, timeout, /)\n--\n\nWait for its code to end; returns whether it has.");

static PyObject *
jobobj_wait(PyObject *obj, PyObject *timeout)
{
    int rc = jobobj_wait_for((jobobj *)obj, jobobj_wait_over, timeout);
    return rc < 0 ? NULL : PyBool_FromLong(rc);
}

PyDoc_STRVAR(cancel_doc,
"_cancel($self, queued, /)\n--\n\n"
"See Future.cancel; with `queued`, only if it has not begun. Returns whether this\n"
"call did it.");

static PyObject *
jobobj_cancel(PyObject *obj, PyObject *queued)
{
    jobobj *self = (jobobj *)obj;
    task *t = task_begun(self);
    int only = t == NULL ? -1 : PyObject_IsTrue(queued);
    if (only < 0) {
        return NULL;
    }
    bool mine;
    task_ref(t);
    Py_BEGIN_ALLOW_THREADS
    mine = only ? pool_cancel_queued(t) : pool_cancel(t, JOB_CANCELLED);
    if (!mine) {
        job_await_announcement(&t->job); /* so that done() says true */
    }
    Py_END_ALLOW_THREADS
    task_unref(t);
    return PyBool_FromLong(mine);
}

static void
release_task(PyObject *capsule)
{
    task_unref(PyCapsule_GetContext(capsule));
}

PyDoc_STRVAR(event_doc,
"_event($self, /)\n--\n\n"
"A capsule for CompletionQueue.watch: set when it is done.");

static PyObject *
jobobj_event(PyObject *obj, PyObject *Py_UNUSED(ignored))
{
    task *t = task_begun((jobobj *)obj);
    if (t == NULL) {
        return NULL;
    }
    task_ref(t);
    PyObject *capsule = core_event_capsule(&t->job.done, release_task, t);
    if (capsule == NULL) {
        task_unref(t);
    }
    return capsule;
}

PyDoc_STRVAR(failed_doc,
"_failed($self, /)\n--\n\nIt has ended: did it fail? (bool) Decodes nothing.");

static PyObject *
jobobj_failed(PyObject *obj, PyObject *Py_UNUSED(ignored))
{
    jobobj *self = (jobobj *)obj;
    return PyBool_FromLong(is_done(self) && self->task->job.status != JOB_RETURNED);
}

PyDoc_STRVAR(retrieve_doc,
"_retrieve($self, /)\n--\n\n"
"Somebody is going to look at its outcome: no failure is logged when it is dropped.");

static PyObject *
jobobj_retrieve(PyObject *obj, PyObject *Py_UNUSED(ignored))
{
    ((jobobj *)obj)->retrieved = true;
    Py_RETURN_NONE;
}

PyDoc_STRVAR(peek_doc,
"_peek($self, /)\n--\n\n"
"What it has ended with, which is not retrieved by that: a result or an exception.\n"
"As result(0) else.");

static PyObject *
jobobj_peek(PyObject *obj, PyObject *Py_UNUSED(ignored))
{
    jobobj *self = (jobobj *)obj;
    bool before = self->retrieved;
    PyObject *now = PyLong_FromLong(0);
    int rc = now == NULL ? -1 : resolve_or_raise(self, &now, 1, NULL);
    Py_XDECREF(now);
    self->retrieved = before;
    return rc < 0 ? NULL : Py_NewRef(self->value);
}

static PyMethodDef jobobj_methods[] = {
    {"__class_getitem__", Py_GenericAlias, METH_O | METH_CLASS, core_generic_doc},
    {"done", jobobj_done, METH_NOARGS, done_doc},
    {"cancelled", jobobj_cancelled, METH_NOARGS, cancelled_doc},
    {"running", jobobj_running, METH_NOARGS, running_doc},
    {"is_alive", jobobj_is_alive, METH_NOARGS, is_alive_doc},
    {"result", (PyCFunction)(void (*)(void))jobobj_result,
     METH_FASTCALL | METH_KEYWORDS, result_doc},
    {"exception", (PyCFunction)(void (*)(void))jobobj_exception,
     METH_FASTCALL | METH_KEYWORDS, exception_doc},
    {"_wait", jobobj_wait, METH_O, wait_doc},
    {"_cancel", jobobj_cancel, METH_O, cancel_doc},
    {"_event", jobobj_event, METH_NOARGS, event_doc},
    {"_failed", jobobj_failed, METH_NOARGS, failed_doc},
    {"_retrieve", jobobj_retrieve, METH_NOARGS, retrieve_doc},
    {"_peek", jobobj_peek, METH_NOARGS, peek_doc},
    {NULL, NULL, 0, NULL},
};

static PyType_Slot jobobj_slots[] = {
    {Py_tp_new, jobobj_tp_new},
    {Py_tp_dealloc, jobobj_dealloc},
    {Py_tp_traverse, jobobj_traverse},
    {Py_tp_clear, jobobj_clear},
    {Py_tp_finalize, jobobj_finalize},
    {Py_tp_methods, jobobj_methods},
    {Py_tp_doc, "The core of a future: a task, wherever it runs."},
    {0, NULL},
};

static PyType_Spec jobobj_spec = {
    .name = "atoll._core.Job",
    .basicsize = sizeof(jobobj),
    .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_BASETYPE | Py_TPFLAGS_HAVE_GC |
             Py_TPFLAGS_IMMUTABLETYPE,
    .slots = jobobj_slots,
};

int
job_add_type(core_state *state)
{
    state->pool->job_type = core_add_type(state, &jobobj_spec);
    return state->pool->job_type == NULL ? -1 : 0;
}
