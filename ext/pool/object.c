/* atoll._core.Pool: what an executor holds on to. See pool/pool.h. */
#include "cpython/runtime.h"
#include "output/output.h"
#include "pool/task.h"
#include "wire/wire.h"

typedef struct poolobj {
    PyObject_HEAD
    core_state *state;
    pool *pool; /* counted */
} poolobj;

/* ------------------------------------------------------------------ its life */

static int
poolobj_parse_seconds(const char *name, PyObject *value, int64_t *ns)
{
    if (value == Py_None) {
        *ns = ATOLL_FOREVER;
        return 0;
    }
    double seconds;
    if (args_double(name, "a number of seconds or None", value, &seconds) < 0) {
        return -1;
    }
    if (!(seconds >= 0)) {
        PyErr_Format(PyExc_ValueError,
                     "%s must be a non-negative number of seconds, not %R", name,
                     value);
        return -1;
    }
    *ns = seconds < 9e9 ? (int64_t)(seconds * 1e9) : ATOLL_FOREVER;
    return 0;
}

PyDoc_STRVAR(pool_doc,
"Pool(name, max_workers, isolated, setup, init, max_tasks, grace, nice=0,\n"
"  watched=False)\n--\n\n"
"Workers for tasks. `setup`: see _create(); `init`: (function, args, kwargs) that\n"
"each worker begins with, or None; `max_tasks`: of one interpreter, 0: any number;\n"
"`grace`: seconds to obey an interrupt, or None; `watched`: their deadlocks are\n"
"found.");

static PyObject *
poolobj_tp_new(PyTypeObject *type, PyObject *args, PyObject *kwargs)
{
    static char *names[] = {"name",      "max_workers", "isolated", "setup",   "init",
                            "max_tasks", "grace",       "nice",     "watched", NULL};
    core_state *state = PyType_GetModuleState(type);
    pool_config config = {0};
    unsigned max_workers;
    unsigned long long max_tasks;
    int isolated, watched = 0;
    PyObject *setup, *init, *grace;
    if (!PyArg_ParseTupleAndKeywords(args, kwargs, "sIpO!OKO|ip:Pool", names,
                                     &config.name, &max_workers, &isolated,
                                     &PyTuple_Type, &setup, &init, &max_tasks, &grace,
                                     &config.nice, &watched) ||
        poolobj_parse_seconds("grace", grace, &config.grace) < 0) {
        return NULL;
    }
    atoll_msg init_msg = {0}, copy;
    home_plan plan;
    config.max_workers = max_workers;
    config.max_tasks = max_tasks;
    config.plan = &plan;
    config.watched = watched != 0;
    config.init = init == Py_None ? NULL : &init_msg;
    if (plan_parse(state, setup, isolated, &plan) < 0) {
        return NULL;
    }
    if (config.init != NULL) {
        if (xfer_encode(state, init, &init_msg) < 0) {
            goto failed;
        }
        /* Each worker gets a copy: is there one of everything? */
        atoll_err err = xfer_clone(&init_msg, &copy);
        if (err != ATOLL_OK) {
            raise_error(state, "NotShareableError",
                        err == ATOLL_ERR_CLOSED
                            ? "the initializer's arguments go to every worker, "
                              "so nothing in them can be moved"
                            : "the initializer's arguments: out of memory or "
                              "file descriptors");
            goto failed;
        }
        atoll_msg_drop(&copy);
    }
    poolobj *self = PyObject_New(poolobj, type);
    if (self != NULL) {
        self->state = state;
        self->pool = pool_new(&config);
        if (self->pool != NULL) {
            return (PyObject *)self;
        }
        PyErr_NoMemory();
        Py_DECREF(self);
    }
failed:
    plan_drop(&plan);
    atoll_msg_drop(&init_msg);
    return NULL;
}

static void
poolobj_dealloc(PyObject *obj)
{
    poolobj *self = (poolobj *)obj;
    PyTypeObject *type = Py_TYPE(obj);
    if (self->pool != NULL) {
        /* In a forked child its lock may be held by nobody that is there. */
        if (self->pool->process == xfer_process_token()) {
            pool_close(self->pool, false);
        }
        pool_unref(self->pool);
    }
    PyObject_Free(self);
    Py_DECREF(type);
}

/* Its pool, made in this process; else NULL with an exception. */
static pool *
pool_of(PyObject *obj)
{
    poolobj *self = (poolobj *)obj;
    if (self->pool->process != xfer_process_token()) {
        raise_err(self->state, ATOLL_ERR_FORKED, "pool");
        return NULL;
    }
    return self->pool;
}

/* --------------------------------------------------------------- submitting */

/* Make a job of `request` and hand it to `p` for `future`. -1 with an
 * exception, and then the future has no job. */
static int
poolobj_send(core_state *state, pool *p, jobobj *future, PyObject *request,
             int64_t limit)
{
    atoll_msg msg;
    if (xfer_encode(state, request, &msg) < 0) {
        return -1;
    }
    task *t = task_new(p, &msg);
    if (t == NULL) {
        atoll_msg_drop(&msg);
        PyErr_NoMemory();
        return -1;
    }
    if (follow_take(state, p->plan.deaf, &t->job.follow) < 0) {
        task_unref(t);
        return -1;
    }
    t->job.task = true;
    t->job.from_main = state->is_main;
    t->limit = limit;
    if (pool_submit(p, t) == ATOLL_OK) {
        future->task = t;
        return 0;
    }
    task_unref(t);
    if (p->fixed) {
        raise_error(state, "InterpreterNotFoundError",
                    "the interpreter has been closed");
    }
    else if (p->why != NULL) {
        raise_error(state, "BrokenInterpreterPool",
                    "the pool has no workers any more: %s", p->why);
    }
    else {
        PyErr_SetString(PyExc_RuntimeError,
                        "cannot schedule new futures after shutdown");
    }
    return -1;
}

/* (target, function, args, kwargs, limit): the future. */
static PyObject *
submit_args(core_state *state, pool *p, PyObject *const *args, Py_ssize_t nargs)
{
    int64_t limit;
    if (nargs != 5) {
        PyErr_SetString(PyExc_TypeError, "submit() takes five arguments");
        return NULL;
    }
    if (!PyCallable_Check(args[1])) {
        PyErr_Format(PyExc_TypeError, "expected a callable, got %T", args[1]);
        return NULL;
    }
    if (poolobj_parse_seconds("timeout", args[4], &limit) < 0) {
        return NULL;
    }
    if (!p->fixed && plan_check(state, &p->plan) < 0) {
        return NULL;
    }
    PyObject *future;
    if (PyType_Check(args[0])) {
        future = jobobj_new(state, (PyTypeObject *)args[0]);
    }
    else {
        future = Py_NewRef(args[0]);
    }
    PyObject *request =
        future == NULL ? NULL : PyTuple_Pack(3, args[1], args[2], args[3]);
    if (request == NULL ||
        poolobj_send(state, p, (jobobj *)future, request, limit) < 0) {
        Py_CLEAR(future);
    }
    Py_XDECREF(request);
    return future;
}

PyDoc_STRVAR(submit_doc,
"submit($self, target, function, args, kwargs, limit, /)\n--\n\n"
"Queue a call. `target` is a subclass of Job, or an object of one without a task;\n"
"`limit` the seconds that it may run, or None; with 0 it does not. Returns the Job.");

static PyObject *
poolobj_submit(PyObject *obj, PyObject *const *args, Py_ssize_t nargs)
{
    pool *p = pool_of(obj);
    return p == NULL ? NULL : submit_args(((poolobj *)obj)->state, p, args, nargs);
}

PyDoc_STRVAR(submit_to_home_doc,
"_submit(home, target, function, args, kwargs, limit, /)\n--\n\n"
"Queue a call in the interpreter of a Home; as Pool.submit.");

static PyObject *
core_submit(PyObject *module, PyObject *const *args, Py_ssize_t nargs)
{
    core_state *state = PyModule_GetState(module);
    home *h = nargs < 1 ? NULL : home_of_object(state, args[0]);
    if (h == NULL) {
        return nargs < 1 ? submit_args(state, NULL, args, nargs) : NULL;
    }
    if (has_ended(h)) {
        return home_raise_gone(state, h);
    }
    atoll_err err;
    pool *p = pool_of_home(h, &err);
    if (p == NULL) {
        return err == ATOLL_ERR_CLOSED
                   ? raise_error(state, "InterpreterError",
                                 "the interpreter works for an executor")
                   : raise_err(state, err, "interpreter");
    }
    PyObject *future = submit_args(state, p, args + 1, nargs - 1);
    pool_unref(p);
    return future;
}

PyMethodDef pool_functions[] = {
    {"_submit", (PyCFunction)(void (*)(void))core_submit, METH_FASTCALL,
     submit_to_home_doc},
    {NULL, NULL, 0, NULL},
};

/* --------------------------------------------------------------------- ends */

PyDoc_STRVAR(close_doc,
"close($self, cancel, /)\n--\n\n"
"Accept nothing more; with `cancel`, cancel what is queued. Does not wait.");

static PyObject *
poolobj_close(PyObject *obj, PyObject *cancel)
{
    pool *p = pool_of(obj);
    int all = p == NULL ? -1 : PyObject_IsTrue(cancel);
    if (all < 0) {
        return NULL;
    }
    Py_BEGIN_ALLOW_THREADS
    pool_close(p, all);
    Py_END_ALLOW_THREADS
    Py_RETURN_NONE;
}

PyDoc_STRVAR(stop_doc,
"stop($self, /)\n--\n\nCancel the tasks that run. Does not wait.");

static PyObject *
poolobj_stop(PyObject *obj, PyObject *Py_UNUSED(ignored))
{
    pool *p = pool_of(obj);
    if (p == NULL) {
        return NULL;
    }
    Py_BEGIN_ALLOW_THREADS
    pool_cancel_started(p);
    Py_END_ALLOW_THREADS
    Py_RETURN_NONE;
}

PyDoc_STRVAR(grow_doc,
"grow($self, count, /)\n--\n\nHave at least so many workers. Does not wait.");

static PyObject *
poolobj_grow(PyObject *obj, PyObject *arg)
{
    pool *p = pool_of(obj);
    unsigned long count = p == NULL ? 0 : PyLong_AsUnsignedLong(arg);
    if (PyErr_Occurred() || plan_check(((poolobj *)obj)->state, &p->plan) < 0) {
        return NULL;
    }
    Py_BEGIN_ALLOW_THREADS
    pool_start_workers(p, count > p->max_workers ? p->max_workers : (uint32_t)count);
    Py_END_ALLOW_THREADS
    Py_RETURN_NONE;
}

static atoll_err
poolobj_wait_ended(void *arg, const atoll_wait *wait)
{
    return atoll_event_wait(&((pool *)arg)->ended, wait);
}

PyDoc_STRVAR(wait_doc,
"wait($self, timeout, /)\n--\n\n"
"Wait until it is closed, its queue empty, and its workers are gone. Returns\n"
"whether it is so.");

static PyObject *
poolobj_wait(PyObject *obj, PyObject *timeout)
{
    core_state *state = ((poolobj *)obj)->state;
    int64_t deadline;
    atoll_err err;
    pool *p = pool_of(obj);
    if (p == NULL || detach_deadline(timeout, &deadline) < 0) {
        return NULL;
    }
    callers_enter(state);
    int rc = detach_wait_one(state, poolobj_wait_ended, p, deadline, NULL, &wait_pool,
                             p, &err);
    PyObject *exc = PyErr_GetRaisedException();
    callers_leave(state);
    PyErr_SetRaisedException(exc);
    if (rc < 0) {
        return NULL;
    }
    atoll_lock_acquire(&p->lock);
    uint64_t printed = p->printed;
    atoll_lock_release(&p->lock);
    if (err == ATOLL_OK && output_catch_up(state, printed) < 0) {
        return NULL;
    }
    Py_BEGIN_ALLOW_THREADS
    home_reap();
    Py_END_ALLOW_THREADS
    return PyBool_FromLong(err == ATOLL_OK);
}

static void
release_pool(PyObject *capsule)
{
    pool_unref(PyCapsule_GetContext(capsule));
}

PyDoc_STRVAR(event_doc,
"event($self, /)\n--\n\n"
"A capsule for CompletionQueue.watch: set when wait() would return True.");

static PyObject *
poolobj_event(PyObject *obj, PyObject *Py_UNUSED(ignored))
{
    pool *p = pool_of(obj);
    if (p == NULL) {
        return NULL;
    }
    pool_ref(p);
    PyObject *capsule = core_event_capsule(&p->ended, release_pool, p);
    if (capsule == NULL) {
        pool_unref(p);
    }
    return capsule;
}

/* -------------------------------------------------------------------- looking */

PyDoc_STRVAR(state_doc,
"state($self, /)\n--\n\n"
"(queued, strays, restarts, closed, why, workers): a worker is (interpreter's id\n"
"or None, tasks, busy seconds, restarts, seconds that its task has run or None,\n"
"bytes).");

static PyObject *
describe_worker(const worker *w, int64_t id, int64_t now)
{
    int64_t runs = w->task == NULL ? 0 : now - w->since;
    PyObject *running =
        w->task == NULL ? Py_NewRef(Py_None) : PyFloat_FromDouble((double)runs * 1e-9);
    PyObject *number = id < 0 ? Py_NewRef(Py_None) : PyLong_FromLongLong(id);
    return Py_BuildValue("NKdkNn", number, (unsigned long long)w->tasks,
                         (double)(w->busy + runs) * 1e-9, (unsigned long)w->restarts,
                         running, (Py_ssize_t)(id < 0 ? 0 : arena_bytes(id)));
}

static PyObject *
poolobj_state(PyObject *obj, PyObject *Py_UNUSED(ignored))
{
    pool *p = pool_of(obj);
    PyObject *list = p == NULL ? NULL : PyList_New(0);
    int64_t now = atoll_now();
    for (uint32_t i = 0; list != NULL && i < p->max_workers; i++) {
        atoll_lock_acquire(&p->lock);
        worker w = p->workers[i];
        int64_t id = w.home == NULL ? -1 : w.home->id;
        atoll_lock_release(&p->lock);
        PyObject *row = describe_worker(&w, id, now);
        if (row == NULL || PyList_Append(list, row) < 0) {
            Py_CLEAR(list);
        }
        Py_XDECREF(row);
    }
    if (list == NULL) {
        return NULL;
    }
    atoll_lock_acquire(&p->lock);
    size_t pending = p->pending;
    unsigned strays = p->strays + p->remain, restarts = p->restarts;
    bool closed = p->closed;
    const char *why = p->why;
    atoll_lock_release(&p->lock);
    return Py_BuildValue("nIIOzN", (Py_ssize_t)pending, strays, restarts,
                         closed ? Py_True : Py_False, why, list);
}

/* --------------------------------------------------------------------- type */

static PyMethodDef poolobj_methods[] = {
    {"submit", (PyCFunction)(void (*)(void))poolobj_submit, METH_FASTCALL, submit_doc},
    {"close", poolobj_close, METH_O, close_doc},
    {"stop", poolobj_stop, METH_NOARGS, stop_doc},
    {"grow", poolobj_grow, METH_O, grow_doc},
    {"wait", poolobj_wait, METH_O, wait_doc},
    {"event", poolobj_event, METH_NOARGS, event_doc},
    {"state", poolobj_state, METH_NOARGS, state_doc},
    {NULL, NULL, 0, NULL},
};

static PyType_Slot poolobj_slots[] = {
    {Py_tp_new, poolobj_tp_new},
    {Py_tp_dealloc, poolobj_dealloc},
    {Py_tp_methods, poolobj_methods},
    {Py_tp_doc, (void *)pool_doc},
    {0, NULL},
};

static PyType_Spec poolobj_spec = {
    .name = "atoll._core.Pool",
    .basicsize = sizeof(poolobj),
    .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_IMMUTABLETYPE,
    .slots = poolobj_slots,
};

int
pool_add_type(core_state *state)
{
    PyTypeObject *type = core_add_type(state, &poolobj_spec);
    Py_XDECREF(type); /* the module has it */
    return type == NULL ? -1 : 0;
}
