/* atoll._core.Job: what a future holds on to, and how it waits. The rest of a
 * future is Python (atoll/_future.py). */
#include "pool/task.h"

#include "async/async.h"
#include "wait/wait.h"
#include "home/home.h"
#include "output/output.h"
#include "pool/pool.h"
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
jobobj_tp_new(PyTypeObject *cls, PyObject *Py_UNUSED(args),
              PyObject *Py_UNUSED(kwargs))
{
    PyObject *module = PyType_GetModuleByDef(cls, &core_module);
    return module == NULL ? NULL
                          : jobobj_new(PyModule_GetState(module), cls);
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

static void
jobobj_dealloc(PyObject *obj)
{
    jobobj *self = (jobobj *)obj;
    PyTypeObject *type = Py_TYPE(obj);
    PyObject_GC_UnTrack(obj);
    Py_CLEAR(self->value);
    Py_CLEAR(self->reply);
    if (self->job != NULL) {
        job_unref(self->job);
    }
    type->tp_free(obj);
    Py_DECREF(type);
}

/* --------------------------------------------------------------- its state */

/* Its job, begun in this process; else NULL with an exception. */
static job *
job_of(jobobj *self)
{
    if (self->job == NULL) {
        PyErr_SetString(PyExc_RuntimeError, "the task has not been started");
        return NULL;
    }
    if (self->job->pool->process != xfer_process_token()) {
        raise_err(self->state, ATOLL_ERR_FORKED, "task");
        return NULL;
    }
    return self->job;
}

static bool
is_done(const jobobj *self)
{
    return self->job != NULL && atoll_event_is_set(&self->job->done);
}

static bool
is_cancelled(const jobobj *self)
{
    return is_done(self) && self->job->status == JOB_CANCELLED;
}

static bool
is_started(jobobj *self)
{
    if (self->job == NULL) {
        return false;
    }
    pool *p = self->job->pool;
    atoll_lock_acquire(&p->lock);
    bool started = self->job->phase == JOB_STARTED;
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
    return PyBool_FromLong(self->job != NULL &&
                           !atoll_event_is_set(&self->job->over));
}

/* ---------------------------------------------------------------- waiting */

static atoll_err
wait_done(void *arg, const atoll_wait *wait)
{
    return atoll_event_wait(&((job *)arg)->done, wait);
}

static atoll_err
wait_over(void *arg, const atoll_wait *wait)
{
    return atoll_event_wait(&((job *)arg)->over, wait);
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
    if (timeout != NULL && PyFloat_Check(timeout) &&
        PyFloat_AS_DOUBLE(timeout) < 0) {
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

/* Wait with `op`. 1: it has happened; 0: not in time; -1 with an exception. */
static int
wait_for(jobobj *self, detach_op op, PyObject *timeout)
{
    int64_t deadline;
    atoll_err err;
    job *j = job_of(self);
    if (j == NULL || parse_timeout(timeout, &deadline) < 0) {
        return -1;
    }
    job_ref(j);
    callers_enter(self->state);
    const wait_type *what = op == wait_over ? &wait_task_over : &wait_task;
    int rc = detach_wait_one(self->state, op, j, deadline, &j->pool->spin, what,
                             j, &err);
    PyObject *exc = PyErr_GetRaisedException();
    callers_leave(self->state);
    PyErr_SetRaisedException(exc);
    job_unref(j);
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
        (named == 1 &&
         PyUnicode_CompareWithASCIIString(PyTuple_GET_ITEM(kwnames, 0),
                                          "timeout") != 0)) {
        PyErr_SetString(PyExc_TypeError,
                        "expected at most one argument, timeout");
        return -1;
    }
    if (nargs + named == 1) {
        *timeout = args[0];
    }
    return 0;
}

/* Make an exception of an outcome that is none of the user's values:
 * atoll._future.failure(status, value, task). */
static PyObject *
failure(jobobj *self, PyObject *value)
{
    core_state *state = self->state;
    if (state->failure == NULL) {
        PyObject *module = PyImport_ImportModule("atoll._future");
        if (module != NULL) {
            state->failure = PyObject_GetAttrString(module, "failure");
            Py_DECREF(module);
        }
    }
    const pool *p = self->job->pool;
    return state->failure == NULL
               ? NULL
               : PyObject_CallFunction(
                     state->failure, "iOsLz", (int)self->job->status, value,
                     p->name, (long long)self->job->limit, p->why);
}

/* What is in its reply: self->reply. -1 with an exception; *kept: it can be asked
 * for again. */
static int
decode_reply(jobobj *self, bool *kept)
{
    job *j = self->job;
    *kept = self->reply != NULL;
    if (self->reply != NULL) {
        return 0;
    }
    self->reply = j->status == JOB_RETURNED || j->status == JOB_RAISED ||
                          j->status == JOB_UNSENT
                      ? xfer_decode_kept(self->state, &j->reply, kept)
                      : Py_NewRef(Py_None);
    *kept = *kept || self->reply != NULL;
    return self->reply == NULL ? -1 : 0;
}

/* Its outcome, as an object or an exception; only one thread at a time. -1 with
 * KeyboardInterrupt: that is for the caller and not what the task has come to, and
 * the reply can be opened another time. */
static int
open_reply(jobobj *self)
{
    bool kept, raised = self->job->status != JOB_RETURNED;
    PyObject *value = NULL;
    if (decode_reply(self, &kept) == 0) {
        value = raised ? failure(self, self->reply) : Py_NewRef(self->reply);
    }
    if (value == NULL && kept && PyErr_ExceptionMatches(PyExc_KeyboardInterrupt)) {
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
resolve(jobobj *self, PyObject *timeout)
{
    if (self->value != NULL) {
        return 1;
    }
    int rc = wait_for(self, wait_done, timeout);
    if (rc <= 0 || is_cancelled(self)) {
        return rc;
    }
    if (output_catch_up(self->state, self->job->printed) < 0) {
        return -1;
    }
    while (self->value == NULL && self->opening) {
        /* Another thread of this interpreter is at it. */
        atoll_err err;
        if (detach_wait(self->state, wait_opened, &self->opened,
                        ATOLL_FOREVER, NULL, &err) < 0) {
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
    int rc = resolve(self, timeout);
    if (rc == 0) {
        PyErr_SetNone(PyExc_TimeoutError);
        return -1;
    }
    if (rc > 0 && self->value == NULL) { /* cancelled: a new one each time */
        PyObject *exc = failure(self, Py_None);
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
jobobj_result(PyObject *obj, PyObject *const *args, Py_ssize_t nargs,
              PyObject *kwnames)
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
    int rc = wait_for((jobobj *)obj, wait_over, timeout);
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
    job *j = job_of(self);
    int only = j == NULL ? -1 : PyObject_IsTrue(queued);
    if (only < 0) {
        return NULL;
    }
    bool mine;
    job_ref(j);
    Py_BEGIN_ALLOW_THREADS
    mine = only ? pool_cancel_queued(j) : pool_cancel(j, JOB_CANCELLED);
    if (!mine) {
        job_await_announcement(j); /* so that cancelled() says true */
    }
    Py_END_ALLOW_THREADS
    job_unref(j);
    return PyBool_FromLong(mine);
}

static void
release_job(void *j)
{
    job_unref(j);
}

PyDoc_STRVAR(watch_doc,
"_watch($self, cq, token, /)\n--\n\n"
"Have cq.drain() return `token` when it is done. Returns the Operation, or None if\n"
"it is done already.");

static PyObject *
jobobj_watch(PyObject *obj, PyObject *const *args, Py_ssize_t nargs)
{
    jobobj *self = (jobobj *)obj;
    job *j = job_of(self);
    if (j == NULL) {
        return NULL;
    }
    if (nargs != 2) {
        PyErr_SetString(PyExc_TypeError, "_watch() takes two arguments");
        return NULL;
    }
    PyObject *op;
    job_ref(j);
    int rc = cq_watch(self->state, args[0], &j->done, args[1], release_job, j,
                      &op);
    if (rc > 0) {
        return op;
    }
    job_unref(j);
    return rc < 0 ? NULL : Py_NewRef(Py_None);
}

PyDoc_STRVAR(failed_doc,
"_failed($self, /)\n--\n\nIt has ended: did it fail? (bool) Decodes nothing.");

static PyObject *
jobobj_failed(PyObject *obj, PyObject *Py_UNUSED(ignored))
{
    jobobj *self = (jobobj *)obj;
    return PyBool_FromLong(is_done(self) &&
                           self->job->status != JOB_RETURNED);
}

static PyMethodDef jobobj_methods[] = {
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
    {"_watch", (PyCFunction)(void (*)(void))jobobj_watch, METH_FASTCALL,
     watch_doc},
    {"_failed", jobobj_failed, METH_NOARGS, failed_doc},
    {NULL, NULL, 0, NULL},
};

static PyType_Slot jobobj_slots[] = {
    {Py_tp_new, jobobj_tp_new},
    {Py_tp_dealloc, jobobj_dealloc},
    {Py_tp_traverse, jobobj_traverse},
    {Py_tp_clear, jobobj_clear},
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
    state->job_type = (PyTypeObject *)PyType_FromModuleAndSpec(
        state->module, &jobobj_spec, NULL);
    return state->job_type == NULL
               ? -1
               : PyModule_AddType(state->module, state->job_type);
}
