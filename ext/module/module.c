/* The module atoll._core: one state per interpreter, multi-phase; all rooms, from the
 * lowest floor to the highest. */
#include "module/module.h"

#include "async/async.h"
#include "atoll/sync.h"
#include "chan/chan.h"
#include "cpython/dict.h"
#include "cpython/version.h"
#include "follow/follow.h"
#include "frozen/frozen.h"
#include "home/home.h"
#include "isolate/isolate.h"
#include "memory/memory.h"
#include "output/output.h"
#include "pool/pool.h"
#include "sync/sync.h"
#include "wait/visit.h"
#include "watch/watch.h"
#include "wire/wire.h"

static const core_room *const rooms[] = {
    &cpython_room, &wait_room,   &wire_room,   &isolate_room, &output_room,
    &memory_room,  &frozen_room, &follow_room, &chan_room,    &sync_room,
    &home_room,    &pool_room,   &async_room,  &watch_room,
};

/* ---------------------------------------------------------------- functions */

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
    return Py_BuildValue("{s:K,s:K,s:K,s:K}", "parks", (unsigned long long)stats.parks,
                         "wakes", (unsigned long long)stats.wakes, "channels",
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
    (void)mailbox_close(state->wait->mailbox); /* what is still due stays valid */
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

/* What is done once in a process: a lock each, since the rooms' beginnings take others.
 */
static atoll_lock once_lock, start_lock;

void
module_fork_child(void)
{
    once_lock.word = start_lock.word = 0; /* main's import has begun the rooms */
}

static void
ask_main_to_import(void)
{
    static bool asked; /* guarded by once_lock; once a process */
    atoll_lock_acquire(&once_lock);
    bool first = !asked;
    asked = true;
    atoll_lock_release(&once_lock);
    if (first) {
        compat_add_pending_call(PyInterpreterState_Main(), import_in_main, NULL);
    }
}

/* ---------------------------------------------------------------- the rooms */

/* Let each room tell the others, once in the process, what they ask of it. */
static void
start_rooms(void)
{
    static bool started; /* guarded by start_lock */
    atoll_lock_acquire(&start_lock);
    if (!started) {
        started = true;
        for (size_t i = 0; i < Py_ARRAY_LENGTH(rooms); i++) {
            if (rooms[i]->start != NULL) {
                rooms[i]->start();
            }
        }
    }
    atoll_lock_release(&start_lock);
}

static void **
data_of(core_state *state, const core_room *room)
{
    return (void **)(void *)((char *)state + room->data);
}

/* Is there something that the room could do for `state`? */
static bool
is_there(core_state *state, const core_room *room)
{
    return room->size == 0 || *data_of(state, room) != NULL;
}

/* The data of all rooms are there before the first begins. */
static int
furnish_rooms(core_state *state)
{
    for (size_t i = 0; i < Py_ARRAY_LENGTH(rooms); i++) {
        if (rooms[i]->size > 0) {
            void *data = PyMem_RawCalloc(1, rooms[i]->size);
            if (data == NULL) {
                PyErr_NoMemory();
                return -1;
            }
            *data_of(state, rooms[i]) = data;
        }
    }
    return 0;
}

static int
begin_rooms(core_state *state)
{
    for (size_t i = 0; i < Py_ARRAY_LENGTH(rooms); i++) {
        if (rooms[i]->begin(state) < 0) {
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
    start_rooms();
    state->module = module;
    state->interp_id = PyInterpreterState_GetID(interp);
    state->is_main = interp == PyInterpreterState_Main();
    state->errors = PyDict_New();
    if (state->errors == NULL || furnish_rooms(state) < 0 || begin_rooms(state) < 0 ||
        fork_start() < 0 ||
        PyModule_AddStringConstant(module, "__version__", ATOLL_VERSION) < 0) {
        return -1;
    }
    if (!state->is_main) {
        ask_main_to_import();
        /* Harmless where atoll does the same itself, before it ends one. */
        return register_exit(module, "_close_mailbox");
    }
    if (register_exit(module, "_shutdown") < 0) {
        return -1;
    }
    output_main_ready();
    return 0;
}

static int
core_traverse(PyObject *module, visitproc visit, void *arg)
{
    core_state *state = PyModule_GetState(module);
    Py_VISIT(state->errors);
    Py_VISIT(state->aio);
    for (size_t i = 0; i < Py_ARRAY_LENGTH(rooms); i++) {
        if (rooms[i]->visit != NULL && is_there(state, rooms[i])) {
            int rc = rooms[i]->visit(state, visit, arg);
            if (rc != 0) {
                return rc;
            }
        }
    }
    return 0;
}

static int
core_clear(PyObject *module)
{
    core_state *state = PyModule_GetState(module);
    Py_CLEAR(state->errors);
    Py_CLEAR(state->aio);
    for (size_t i = 0; i < Py_ARRAY_LENGTH(rooms); i++) {
        if (rooms[i]->clear != NULL && is_there(state, rooms[i])) {
            rooms[i]->clear(state);
        }
    }
    return 0;
}

/* End the rooms, from the lowest floor up as they began: those who look at the
 * interpreter from outside (wait) have to stop before what they look at goes. */
static void
core_free(void *module)
{
    core_state *state = PyModule_GetState(module);
    core_clear(module);
    for (size_t i = 0; i < Py_ARRAY_LENGTH(rooms); i++) {
        if (rooms[i]->end != NULL && is_there(state, rooms[i])) {
            rooms[i]->end(state);
        }
    }
    for (size_t i = 0; i < Py_ARRAY_LENGTH(rooms); i++) {
        if (rooms[i]->size > 0) {
            PyMem_RawFree(*data_of(state, rooms[i]));
            *data_of(state, rooms[i]) = NULL;
        }
    }
    atoll_table_end(&state->handles); /* of objects whose types held the module */
}

static PyModuleDef_Slot slots[] = {
    {Py_mod_exec, core_exec},
    {Py_mod_multiple_interpreters, Py_MOD_PER_INTERPRETER_GIL_SUPPORTED},
    {0, NULL},
};

static PyModuleDef core_module = {
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
    core_state_define(&core_module);
    return PyModuleDef_Init(&core_module);
}
