/* What runs inside an interpreter of atoll's: its preparation, and one job at
 * a time, in its home thread. */

#include "atoll/trace.h"
#include "cpython/runtime.h"
#include "cpython/version.h"
#include "home/home.h"
#include "isolate/isolate.h"
#include "output/output.h"
#include "wait/visit.h"
#include "wire/wire.h"

#include <marshal.h>
#include <string.h>

/* -------------------------------------------------------------------- jobs */

/* Note for a timeline that it has been made: gives it its number. */
static void
job_trace_submit(job *j)
{
    int64_t now = atoll_now();
    j->number = atoll_trace_number();
    atoll_trace_note(TRACE_SUBMIT, now, now, j->number, NULL);
}

void
job_init(job *j, job_op op, const atoll_msg *request)
{
    *j = (job){.refs = 1, .op = op, .status = JOB_PENDING};
    if (request != NULL) {
        j->request = *request;
    }
    if (atoll_trace_on(ATOLL_TRACE_ON) && op != JOB_CLOSE) {
        job_trace_submit(j);
    }
}

job *
job_new(job_op op, const atoll_msg *request)
{
    job *j = atoll_alloc(sizeof(*j));
    if (j != NULL) {
        job_init(j, op, request);
    }
    return j;
}

void
job_ref(job *j)
{
    atoll_count_up(&j->refs);
}

void
job_unref(job *j)
{
    if (atoll_count_down(&j->refs)) {
        atoll_msg_drop(&j->request);
        atoll_msg_drop(&j->reply);
        follow_unref(j->follow);
        if (j->free != NULL) {
            j->free(j);
        }
        else {
            atoll_free(j);
        }
    }
}

bool
job_settle(job *j, job_status status, atoll_msg *reply, uint64_t printed)
{
    atoll_lock_acquire(&j->lock);
    bool first = j->status == JOB_PENDING;
    if (first) {
        if (reply != NULL) {
            j->reply = *reply;
        }
        j->printed = printed;
        j->status = status;
    }
    atoll_lock_release(&j->lock);
    return first;
}

bool
job_drop_future(job *j)
{
    atoll_lock_acquire(&j->lock);
    /* Whoever announces it looks at `dropped` afterwards, under this lock. */
    bool pending = !atoll_event_is_set(&j->done);
    j->dropped = pending;
    atoll_lock_release(&j->lock);
    return pending;
}

void
job_mourn(core_state *state, job *j)
{
    atoll_lock_acquire(&j->lock);
    job_status status = j->status;
    bool dropped = j->dropped;
    atoll_lock_release(&j->lock);
    if (!dropped || status == JOB_RETURNED || status == JOB_CANCELLED) {
        return;
    }
    /* Nobody else takes the reply, which there is for two of them. */
    PyObject *value = status == JOB_RAISED || status == JOB_UNSENT
                          ? xfer_decode(state, &j->reply)
                          : Py_NewRef(Py_None);
    PyObject *done = value == NULL ? NULL
                                   : package_call(PACKAGE_FUTURE, "mourn", "(iO)",
                                                  (int)status, value);
    if (done == NULL) {
        PyErr_WriteUnraisable(NULL);
    }
    Py_XDECREF(done);
    Py_XDECREF(value);
}

/* How long an outcome may be settled and not announced; at exit it may be for good. */
#define ANNOUNCED_NS INT64_C(1000000000)

void
job_announce(job *j)
{
    atoll_event_set(&j->done);
}

void
job_await_announcement(job *j)
{
    atoll_lock_acquire(&j->lock);
    job_status status = j->status;
    atoll_lock_release(&j->lock);
    if (status == JOB_PENDING) {
        return;
    }
    const atoll_wait wait = {.deadline = status == JOB_CANCELLED
                                             ? ATOLL_FOREVER
                                             : atoll_now() + ANNOUNCED_NS};
    atoll_err err;
    do {
        err = atoll_event_wait(&j->done, &wait);
    } while (err != ATOLL_OK && err != ATOLL_ERR_TIMEOUT);
}

/* Call a function of atoll._boot: a new reference, NULL with an exception. */
static PyObject *
boot_call(const char *name, PyObject *arg)
{
    return package_call(PACKAGE_BOOT, name, "(O)", arg);
}

/* -------------------------------------------------------------------- boot */

/* The home thread is this interpreter's main thread: threading asks _thread
 * for the ident when it is imported, and would get the process's. */
static int
claim_main_thread(home *h)
{
    PyObject *thread = PyImport_ImportModule("_thread");
    PyObject *ident = PyLong_FromUnsignedLong(h->ident);
    /* A callable without arguments that returns the ident. */
    PyObject *get = ident == NULL ? NULL : PyObject_GetAttrString(ident, "__int__");
    int rc = thread == NULL || get == NULL
                 ? -1
                 : PyObject_SetAttrString(thread, "_get_main_thread_ident", get);
    if (rc == 0) {
        rc = place_mend_threads(thread);
    }
    Py_XDECREF(get);
    Py_XDECREF(ident);
    Py_XDECREF(thread);
    return rc;
}

static int
set_path(PyObject *setup)
{
    PyObject *list = PySequence_List(PyTuple_GET_ITEM(setup, 0));
    int rc = list == NULL ? -1 : PySys_SetObject("path", list);
    Py_XDECREF(list);
    return rc;
}

/* What atoll.register was told where this interpreter was made. */
static int
job_inherit(PyObject *setup)
{
    PyObject *entries = PyTuple_GET_ITEM(setup, 1);
    if (PyTuple_GET_SIZE(entries) == 0) {
        return 0;
    }
    PyObject *done = package_call(PACKAGE_REGISTRY, "inherit", "(O)", entries);
    Py_XDECREF(done);
    return done == NULL ? -1 : 0;
}

/* Have coverage measure what runs here, as it does where this interpreter was made. */
static int
job_measure(PyObject *setup)
{
    PyObject *config = PyTuple_GET_ITEM(setup, 6);
    if (config == Py_None) {
        return 0;
    }
    PyObject *done = boot_call("measure", config);
    Py_XDECREF(done);
    return done == NULL ? -1 : 0;
}

/* What it is to have imported. */
static int
job_preload(const home *h, PyObject *setup)
{
    PyObject *names = PyTuple_GET_ITEM(setup, 4);
    if (PyTuple_GET_SIZE(names) > 0) {
        PyObject *done = boot_call("preload", names);
        Py_XDECREF(done);
        if (done == NULL) {
            return -1;
        }
    }
    if (h->spare) { /* there is time: what most first tasks need */
        PyObject *module = package_import(PACKAGE_CONSTANT);
        Py_XDECREF(module);
        return module == NULL ? -1 : 0;
    }
    return 0;
}

/* What the setup says, after the package has been imported. Isolation comes first: what
 * follows may import what is to be isolated. */
static int
set_up(home *h, core_state *state, PyObject *setup)
{
    bool failed = false;
    if (h->isolated) {
        h->isolate = isolate_boot(state, &failed);
    }
    if (failed || datetime_block() < 0 || home_mend_signal(state) < 0 ||
        job_inherit(setup) < 0) {
        return -1;
    }
    h->output =
        sink_boot(state, PyTuple_GET_ITEM(setup, 2), PyTuple_GET_ITEM(setup, 3));
    if (h->output == NULL ||
        follow_boot(state, h->deaf, PyTuple_GET_ITEM(setup, 3)) < 0) {
        return -1;
    }
    follow_apply(state, h->follow);
    h->follow = NULL;
    return job_measure(setup) < 0 ? -1 : job_preload(h, setup);
}

core_state *
job_boot(home *h)
{
    PyObject *setup = xfer_decode(NULL, &h->setup);
    core_state *state = NULL;
    if (setup != NULL && set_path(setup) == 0 && claim_main_thread(h) == 0) {
        state = core_state_import();
    }
    if (state != NULL) {
        home_ref(h);
        state->home->self = h; /* given back at the end of the module */
        wait_set_host(state, &h->host);
        if (set_up(h, state, setup) < 0) {
            state = NULL;
        }
    }
    Py_XDECREF(setup);
    return state;
}

/* ------------------------------------------------------------------- running */

static PyObject *
main_dict(void)
{
    PyObject *main = PyImport_AddModuleRef("__main__");
    PyObject *dict = main == NULL ? NULL : Py_NewRef(PyModule_GetDict(main));
    Py_XDECREF(main);
    return dict;
}

/* Source text, or a marshalled code object as bytes. */
static PyObject *
code_of(PyObject *source)
{
    if (PyBytes_CheckExact(source)) {
        return PyMarshal_ReadObjectFromString(PyBytes_AS_STRING(source),
                                              PyBytes_GET_SIZE(source));
    }
    const char *text = PyUnicode_AsUTF8(source);
    if (text == NULL) {
        return NULL;
    }
    PyCompilerFlags flags = {.cf_flags = PyCF_SOURCE_IS_UTF8,
                             .cf_feature_version = PY_MINOR_VERSION};
    return Py_CompileStringExFlags(text, "<script>", Py_file_input, &flags, -1);
}

static PyObject *
run_exec(PyObject *source)
{
    PyObject *result = NULL, *dict = main_dict();
    PyObject *code = dict == NULL ? NULL : code_of(source);
    if (code != NULL) {
        result = PyEval_EvalCode(code, dict, dict);
    }
    if (result != NULL) {
        Py_SETREF(result, Py_NewRef(Py_None));
    }
    Py_XDECREF(code);
    Py_XDECREF(dict);
    return result;
}

static PyObject *
call_request(PyObject *request)
{
    PyObject *function, *args, *kwargs;
    if (!PyArg_ParseTuple(request, "OO!O!", &function, &PyTuple_Type, &args,
                          &PyDict_Type, &kwargs)) {
        return NULL;
    }
    return PyObject_Call(function, args, kwargs);
}

/* See frame_code. */
static PyObject *
call_from_frame(PyObject *anchor, PyObject *Py_UNUSED(ignored))
{
    core_state *state = PyCapsule_GetPointer(anchor, NULL);
    PyObject *request = state->home->request;
    state->home->request = NULL;
    if (request == NULL) { /* somebody has found it, and calls it himself */
        Py_RETURN_NONE;
    }
    Py_INCREF(request);
    PyObject *result = call_request(request);
    Py_DECREF(request);
    return result;
}

static PyMethodDef call_from_frame_def = {"call", call_from_frame, METH_NOARGS,
                                          "Run the request that has been put there."};

/* Code that calls call_from_frame(), which is its only constant, so that its frame has
 * no names but those of __main__. Borrowed, or NULL with an exception. */
static PyObject *
frame_code(core_state *state)
{
    if (state->home->frame_code == NULL) {
        /* Not the empty str, which 3.15 does not take from the constants. */
        PyObject *code = Py_CompileString("'call'.__call__()", "<call>", Py_eval_input);
        PyObject *replace =
            code == NULL ? NULL : PyObject_GetAttrString(code, "replace");
        PyObject *call = PyCFunction_New(&call_from_frame_def, state->home->anchor);
        PyObject *none = PyTuple_New(0);
        PyObject *with =
            call == NULL ? NULL : Py_BuildValue("{s(O)}", "co_consts", call);
        if (replace != NULL && none != NULL && with != NULL) {
            state->home->frame_code = PyObject_Call(replace, none, with);
        }
        Py_XDECREF(with);
        Py_XDECREF(none);
        Py_XDECREF(call);
        Py_XDECREF(replace);
        Py_XDECREF(code);
    }
    return state->home->frame_code;
}

/* Take the frame out of the traceback of the exception that is set. */
static void
hide_frame(PyObject *code)
{
    PyObject *exc = PyErr_GetRaisedException();
    PyObject *traceback = PyException_GetTraceback(exc);
    if (traceback != NULL) {
        PyTracebackObject *first = (PyTracebackObject *)traceback;
        PyCodeObject *of = PyFrame_GetCode(first->tb_frame);
        PyObject *rest = first->tb_next == NULL ? Py_None : (PyObject *)first->tb_next;
        if ((PyObject *)of == code) {
            PyException_SetTraceback(exc, rest);
        }
        Py_DECREF(of);
        Py_DECREF(traceback);
    }
    PyErr_SetRaisedException(exc);
}

/* What is no Python function may look at the frame of who calls it: eval and dir do,
 * type() for the new class's module, warnings. So it is called from one of __main__. */
static PyObject *
run_call(core_state *state, PyObject *request)
{
    PyObject *function = PyTuple_Check(request) && PyTuple_GET_SIZE(request) > 0
                             ? PyTuple_GET_ITEM(request, 0)
                             : NULL;
    if (function != NULL && PyMethod_Check(function)) {
        function = PyMethod_GET_FUNCTION(function);
    }
    if (function == NULL || PyFunction_Check(function)) {
        return call_request(request);
    }
    PyObject *dict = main_dict(), *result = NULL;
    PyObject *code = dict == NULL ? NULL : frame_code(state);
    if (code != NULL) {
        state->home->request = request;
        result = PyEval_EvalCode(code, dict, dict);
        state->home->request = NULL;
        if (result == NULL) {
            hide_frame(code);
        }
    }
    Py_XDECREF(dict);
    return result;
}

static PyObject *
job_run_prepare(PyObject *names)
{
    PyObject *dict = main_dict();
    int rc = dict == NULL ? -1 : PyDict_Update(dict, names);
    Py_XDECREF(dict);
    return rc < 0 ? NULL : Py_NewRef(Py_None);
}

/* Steals the coroutine. */
static PyObject *
run_coroutine(home *h, const job *j, PyObject *coroutine)
{
    PyObject *result = NULL;
    home_pause_code(h);
    PyObject *made = boot_call("make_loop", Py_None);
    if (home_begin_code(h) && made != NULL) {
        result = boot_call(j->init ? "run_initializer" : "run_coroutine", coroutine);
    }
    Py_XDECREF(made);
    PyObject *exc = PyErr_GetRaisedException();
    /* An interrupt may have come before it began, and it would complain. */
    PyObject *closed = PyObject_CallMethod(coroutine, "close", NULL);
    if (closed == NULL) {
        PyErr_Clear();
    }
    Py_XDECREF(closed);
    Py_DECREF(coroutine);
    PyErr_SetRaisedException(exc);
    return result;
}

/* Get the qualified name of a function; that of another callable if it has one, and of
 * a functools.partial that of what it calls. NULL, with no exception, if there is none.
 */
static PyObject *
job_function_name(PyObject *function)
{
    PyObject *name = NULL, *inner = NULL;
    if (PyObject_GetOptionalAttrString(function, "__qualname__", &name) > 0 &&
        PyUnicode_Check(name)) {
        return name;
    }
    Py_CLEAR(name);
    PyErr_Clear();
    if (PyObject_GetOptionalAttrString(function, "func", &inner) > 0 &&
        PyObject_GetOptionalAttrString(inner, "__qualname__", &name) > 0 &&
        !PyUnicode_Check(name)) {
        Py_CLEAR(name);
    }
    PyErr_Clear();
    Py_XDECREF(inner);
    return name;
}

/* Note for a timeline that it has run since `start`: what it called is `function` (or
 * NULL, for exec). Keeps the exception that is set, if any: then it has failed. */
static void
job_trace_run(const job *j, int64_t start, PyObject *function)
{
    PyObject *exc = PyErr_GetRaisedException();
    PyObject *name = NULL;
    const char *text = "exec";
    if (function != NULL) {
        name = job_function_name(function);
        text = name == NULL ? NULL : PyUnicode_AsUTF8(name);
        PyErr_Clear();
        text = text == NULL ? Py_TYPE(function)->tp_name : text;
    }
    atoll_trace_note(exc == NULL ? TRACE_TASK : TRACE_FAILED, start, atoll_now(),
                     j->number, text);
    Py_XDECREF(name);
    PyErr_SetRaisedException(exc);
}

static PyObject *
job_run_code(home *h, core_state *state, job *j)
{
    follow_apply(state, j->follow);
    j->follow = NULL;
    h->decoding = true;
    PyObject *request = xfer_decode(state, &j->request);
    PyObject *result = NULL;
    h->decoding = false;
    if (request == NULL || !home_begin_code(h)) {
        Py_XDECREF(request);
        return NULL;
    }
    int64_t start = atoll_trace_on(ATOLL_TRACE_ON) ? atoll_now() : 0;
    switch (j->op) {
    case JOB_EXEC:
        result = run_exec(request);
        break;
    case JOB_CALL:
        result = run_call(state, request);
        if ((j->task || j->init) && result != NULL && PyCoro_CheckExact(result)) {
            result = run_coroutine(h, j, result);
        }
        break;
    case JOB_PREPARE:
        result = job_run_prepare(request);
        break;
    case JOB_CLOSE:
        Py_UNREACHABLE();
    }
    if (start != 0) {
        bool calls = j->op == JOB_CALL && PyTuple_Check(request) &&
                     PyTuple_GET_SIZE(request) > 0;
        job_trace_run(j, start, calls ? PyTuple_GET_ITEM(request, 0) : NULL);
    }
    Py_DECREF(request);
    return result;
}

/* The initializer of a pool has failed: log it, since its caller is far away,
 * and keep its text for those who get to know that the pool is broken. */
static void
note_failed_init(home *h, PyObject *exc, PyObject *info)
{
    const char *text =
        info == NULL ? NULL : PyUnicode_AsUTF8(PyTuple_GET_ITEM(info, 4));
    if (text != NULL && h->start_error == NULL) {
        h->start_error = core_copy_text(text);
    }
    PyErr_Clear();
    PyObject *reported = boot_call("report_initializer", exc);
    if (reported == NULL) { /* no memory, no logging: at least print it */
        PyErr_Clear();
        PyErr_DisplayException(exc);
    }
    Py_XDECREF(reported);
}

/* Turn the current exception into the reply; clears it. */
static void
reply_with_error(core_state *state, job *j, outcome *out)
{
    PyObject *exc = PyErr_GetRaisedException();
    PyObject *info = boot_call("capture", exc);
    if (j->init) {
        note_failed_init(state->home->self, exc, info);
    }
    out->status = JOB_RAISED;
    if (info == NULL || xfer_encode_error(state, info, exc, &out->reply) < 0) {
        out->status = JOB_LOST;
        PyErr_Clear();
    }
    Py_XDECREF(info);
    Py_DECREF(exc);
}

/* The result is an object that cannot cross: reply with the reason. */
static void
reply_with_reason(core_state *state, outcome *out)
{
    PyObject *exc = PyErr_GetRaisedException();
    PyObject *text = PyObject_Str(exc);
    out->status = JOB_UNSENT;
    if (text == NULL || xfer_encode(state, text, &out->reply) < 0) {
        out->status = JOB_LOST;
        PyErr_Clear();
    }
    Py_XDECREF(text);
    Py_DECREF(exc);
}

/* Is the current exception a NotShareableError? */
static bool
cannot_cross(core_state *state)
{
    PyObject *exc = PyErr_GetRaisedException(); /* error_class may import */
    PyObject *cls = error_class(state, "NotShareableError");
    bool matches = cls != NULL && PyErr_GivenExceptionMatches(exc, cls);
    PyErr_SetRaisedException(exc);
    return matches;
}

bool
job_run(home *h, core_state *state, job *j, outcome *out)
{
    *out = (outcome){.status = JOB_LOST};
    if (j->op == JOB_CLOSE) {
        return close_run(h, state, out);
    }
    if (compat_begin_main() < 0) {
        PyErr_Clear(); /* the standard library is running it */
        home_job_over(h);
        out->status = JOB_BUSY;
        return false;
    }
    if (h->isolate != NULL) {
        threads_refresh(h->isolate);
    }
    const home_employer *employer = home_employer_of(h);
    state->wait->party->watched = employer != NULL && employer->watched;
    PyObject *result = job_run_code(h, state, j);
    int rc = result == NULL ? -1 : xfer_encode(state, result, &out->reply);
    compat_end_main();
    bool unsent = result != NULL && rc < 0;
    if (rc < 0 && !PyErr_Occurred()) {
        PyErr_SetString(PyExc_SystemError, "job failed without an exception");
    }
    bool wanted = home_job_over(h);
    if (rc == 0) {
        out->status = JOB_RETURNED;
    }
    else if (!wanted) {
        PyErr_Clear();
    }
    else if (unsent && cannot_cross(state)) {
        reply_with_reason(state, out);
    }
    else {
        reply_with_error(state, j, out);
    }
    Py_XDECREF(result); /* may run destructors: after the reply is made */
    return false;
}
