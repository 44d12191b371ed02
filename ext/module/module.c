/* The module atoll._core: one state per interpreter, multi-phase. */
#include "cpython/adopt.h"
#include "atoll/sync.h"
#include "cpython/version.h"
#include "async/async.h"
#include "wait/wait.h"
#include "cpython/dict.h"
#include "frozen/frozen.h"
#include "frozen/mold.h"
#include "frozen/xml/xml.h"
#include "home/home.h"
#include "pool/task.h"
#include "wait/mail.h"
#include "output/output.h"
#include "async/select.h"
#include "home/spare.h"
#include "base/base.h"
#include "watch/trace.h"
#include "memory/memory.h"
#include "wait/visit.h"

core_state *
core_state_import(void)
{
    /* The package first: it tells the core its classes. */
    PyObject *package = PyImport_ImportModule("atoll");
    Py_XDECREF(package);
    PyObject *module =
        package == NULL ? NULL : PyImport_ImportModule("atoll._core");
    if (module == NULL) {
        return NULL;
    }
    core_state *state = PyModule_GetState(module);
    Py_DECREF(module); /* sys.modules keeps it; the types do as well */
    return state;
}

PyDoc_STRVAR(shutdown_doc,
"_shutdown()\n--\n\n"
"Close every interpreter of atoll's, at the exit of the process. What runs is\n"
"interrupted and gets a second; threads of idle interpreters are waited for.");

static PyObject *
core_shutdown(PyObject *module, PyObject *Py_UNUSED(ignored))
{
    core_state *state = PyModule_GetState(module);
    Py_BEGIN_ALLOW_THREADS
    spare_end();
    Py_END_ALLOW_THREADS
    watch_stop();
    int rc = home_shutdown_all(state);
    PyObject *exc = rc < 0 ? PyErr_GetRaisedException() : NULL;
    Py_BEGIN_ALLOW_THREADS
    atoll_timers_end();
    Py_END_ALLOW_THREADS
    output_shutdown(state);
    if (rc < 0) {
        PyErr_SetRaisedException(exc);
    }
    service_stop();
    visit_close(state);
    return rc < 0 ? NULL : Py_NewRef(Py_None);
}

PyDoc_STRVAR(stats_doc,
"stats()\n--\n\n"
"Counters of this process since it started (int): `parks`, waits that gave the\n"
"CPU up; `wakes`, system calls that woke a waiter; `channels`, queues and\n"
"channels alive now; and `timers`, which are pending now.");

static PyObject *
core_stats(PyObject *Py_UNUSED(module), PyObject *Py_UNUSED(ignored))
{
    atoll_stats stats;
    atoll_stats_get(&stats);
    return Py_BuildValue("{s:K,s:K,s:K,s:K}", "parks",
                         (unsigned long long)stats.parks, "wakes",
                         (unsigned long long)stats.wakes, "channels",
                         (unsigned long long)stats.channels, "timers",
                         (unsigned long long)stats.timers);
}

PyDoc_STRVAR(close_mailbox_doc,
"_close_mailbox()\n--\n\n"
"At the exit of an interpreter that is not main: nobody attaches to it to\n"
"release buffers from here on, and asynchronous waits end.");

static PyObject *
core_close_mailbox(PyObject *module, PyObject *Py_UNUSED(ignored))
{
    core_state *state = PyModule_GetState(module);
    cq_end_all(state); /* loops of its threads, if any are left, end with it */
    visit_close(state);
    (void)mailbox_close(state->mailbox); /* what is still due stays valid */
    Py_RETURN_NONE;
}

static PyMethodDef functions[] = {
    {"_close_mailbox", core_close_mailbox, METH_NOARGS, close_mailbox_doc},
    {"_shutdown", core_shutdown, METH_NOARGS, shutdown_doc},
    {"stats", core_stats, METH_NOARGS, stats_doc},
    {NULL, NULL, 0, NULL},
};

/* Only main outlives the others, and only there may all of them be closed. */
static int
register_exit(PyObject *module, const char *name)
{
    PyObject *atexit = PyImport_ImportModule("atexit");
    PyObject *shutdown = PyObject_GetAttrString(module, name);
    PyObject *done = NULL;
    if (atexit != NULL && shutdown != NULL) {
        done = PyObject_CallMethod(atexit, "register", "O", shutdown);
    }
    Py_XDECREF(atexit);
    Py_XDECREF(shutdown);
    Py_XDECREF(done);
    return done == NULL ? -1 : 0;
}

/* Runs in the main interpreter when atoll is imported elsewhere first. */
static int
import_in_main(void *Py_UNUSED(arg))
{
    PyObject *module = PyImport_ImportModule("atoll._core");
    if (module == NULL) {
        PyErr_Clear(); /* main cannot find atoll: nothing closes at exit */
    }
    Py_XDECREF(module);
    return 0;
}

static void
ask_main_to_import(void)
{
    static bool asked; /* guarded by lock; once a process */
    static atoll_lock lock;
    atoll_lock_acquire(&lock);
    bool first = !asked;
    asked = true;
    atoll_lock_release(&lock);
    if (first) {
        compat_add_pending_call(PyInterpreterState_Main(), import_in_main,
                                NULL);
    }
}

/* The types and functions of all files. */
static int
add_all(core_state *state)
{
    static int (*const types[])(core_state *) = {
        view_add_types, queue_add_type, channel_add_types, home_add_type,
        job_add_type,   pool_add_type,  sink_add_type,     cq_add_types,
        frozen_add_type, sync_add_types, xml_add_types,
    };
    static PyMethodDef *const tables[] = {
        moved_functions,   layout_functions,    view_functions,
        queue_functions,   channel_functions,   home_functions,
        output_functions,  sink_functions,      cq_functions,
        isolate_functions, interrupt_functions, select_functions,
        sync_functions,    survey_functions,  frozen_functions,
        trace_functions,   xml_functions,
    };
    for (size_t i = 0; i < Py_ARRAY_LENGTH(types); i++) {
        if (types[i](state) < 0) {
            return -1;
        }
    }
    for (size_t i = 0; i < Py_ARRAY_LENGTH(tables); i++) {
        if (PyModule_AddFunctions(state->module, tables[i]) < 0) {
            return -1;
        }
    }
    return 0;
}

static int
core_exec(PyObject *module)
{
    core_state *state = PyModule_GetState(module);
    PyInterpreterState *interp = PyInterpreterState_Get();
    state->module = module;
    state->wakeup_fd = -1;
    state->interp_id = PyInterpreterState_GetID(interp);
    state->is_main = interp == PyInterpreterState_Main();
    state->handles = PyDict_New();
    state->errors = PyDict_New();
    state->reducers = PyDict_New();
    state->mailbox = mailbox_new(interp);
    if (waits_party_begin(state) < 0) {
        return -1;
    }
    state->can_adopt = adopt_possible();
    layout_init(state);
    if (state->handles == NULL || state->errors == NULL ||
        state->reducers == NULL || state->mailbox == NULL ||
        runtime_init() < 0 || sys_mend_frames() < 0 || add_all(state) < 0 ||
        PyModule_AddStringConstant(module, "__version__", ATOLL_VERSION) < 0) {
        return -1;
    }
    if (!state->is_main) {
        ask_main_to_import();
        /* Harmless where atoll does the same itself, before it ends one. */
        return register_exit(module, "_close_mailbox");
    }
    if (detach_init() < 0 || register_exit(module, "_shutdown") < 0) {
        return -1;
    }
    output_main_ready();
    return 0;
}

#define STATE_OBJECTS(X)                                                    \
    X(queue_type) X(send_type) X(recv_type) X(home_type) X(job_type)        \
    X(interpreter_class) X(handles) X(errors) X(constant) X(by_value)      \
    X(reduce) X(exception_state)                                            \
    X(traceback_text) X(loads) X(rebuild_exception) X(copyreg_table)        \
    X(reducers) X(inherit) X(buffer_type) X(view_type) X(moved_type)        \
    X(fd_type) X(sink_type) X(failure) X(drain) X(single_phase)             \
    X(create_extension) X(create_builtin) X(exec_extension)                 \
    X(exec_builtin) X(exec_source) X(ctypes_dlopen) X(cq_type) X(op_type)   \
    X(aio) X(sync_types[0]) X(sync_types[1]) X(sync_types[2])               \
    X(sync_types[3]) X(sync_types[4]) X(sync_types[5]) X(sync_types[6])     \
    X(sync_types[7]) X(sync_types[8]) X(frozen_type)                        \
    X(frozen_views[0]) X(frozen_views[1]) X(frozen_views[2])                \
    X(frozen_views[3]) X(frozen_views[4]) X(frozen_views[5])                \
    X(element_type) X(walk_type) X(xml_parse_type)

static int
core_traverse(PyObject *module, visitproc visit, void *arg)
{
    core_state *state = PyModule_GetState(module);
#define VISIT(field) Py_VISIT(state->field);
    STATE_OBJECTS(VISIT)
#undef VISIT
    return frozen_visit(state, visit, arg);
}

static int
core_clear(PyObject *module)
{
    core_state *state = PyModule_GetState(module);
#define CLEAR(field) Py_CLEAR(state->field);
    STATE_OBJECTS(CLEAR)
#undef CLEAR
    frozen_forget(state);
    return 0;
}

static void
core_free(void *module)
{
    core_state *state = PyModule_GetState(module);
    core_clear(module);
    sink_forget(state);
    waits_party_end(state);
    selection_forget(state);
    atoll_free(state->elements);
    if (state->mailbox != NULL) {
        mailbox_kill(state->mailbox);
        mailbox_unref(state->mailbox);
        state->mailbox = NULL;
    }
    if (state->home != NULL) {
        home_unref(state->home);
        state->home = NULL;
    }
    else if (!state->is_main && state->module != NULL) {
        /* An interpreter that somebody else made is ending. */
        atoll_chan_orphan_all(state->interp_id);
        atoll_sync_orphan_all(state->interp_id);
    }
}

static PyModuleDef_Slot slots[] = {
    {Py_mod_exec, core_exec},
    {Py_mod_multiple_interpreters, Py_MOD_PER_INTERPRETER_GIL_SUPPORTED},
    {0, NULL},
};

PyModuleDef core_module = {
    PyModuleDef_HEAD_INIT,
    .m_name = "atoll._core",
    .m_doc = "The compiled part of atoll. Use the package, not this.",
    .m_size = sizeof(core_state),
    .m_methods = functions,
    .m_slots = slots,
    .m_traverse = core_traverse,
    .m_clear = core_clear,
    .m_free = core_free,
};

PyMODINIT_FUNC
PyInit__core(void)
{
    return PyModuleDef_Init(&core_module);
}
