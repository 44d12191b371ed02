/* An extension module that does what breaks modules in interpreters, for
 * test_isolate.py: static data, threads of its own that call into Python, calls
 * that mean "the main interpreter". Compiled by probe.py, as `probe` (single-phase)
 * or `pkg.multi` (multi-phase, with a submodule), by the macros SINGLE and MULTI. */
#include <Python.h>
#include <pthread.h>
#include <stdlib.h>
#include <sys/wait.h>
#include <unistd.h>

static int counter;
static pthread_key_t key;
static int exit_fd = -1;
static PyObject *kept; /* single-phase modules do such things */

static PyModuleDef definition;

static PyObject *
count(PyObject *self, PyObject *Py_UNUSED(ignored))
{
    return PyLong_FromLong(++counter);
}

static PyObject *
address(PyObject *self, PyObject *Py_UNUSED(ignored))
{
    return Py_BuildValue("kk", (unsigned long)&counter, (unsigned long)&count);
}

/* Call `arg` from a thread that Python does not know; print what it raises. */
static void *
call_in(void *arg)
{
    PyGILState_STATE state = PyGILState_Ensure();
    PyGILState_STATE again = PyGILState_Ensure();
    if (PyGILState_GetThisThreadState() != PyThreadState_Get() || !PyGILState_Check()) {
        Py_FatalError("not the state of this thread");
    }
    PyObject *result = PyObject_CallNoArgs(arg);
    if (result == NULL) {
        PyErr_WriteUnraisable(arg);
    }
    Py_XDECREF(result);
    PyGILState_Release(again);
    Py_DECREF((PyObject *)arg);
    PyGILState_Release(state);
    return NULL;
}

static PyObject *
from_thread(PyObject *self, PyObject *function)
{
    pthread_t thread;
    if (pthread_create(&thread, NULL, call_in, Py_NewRef(function)) != 0) {
        return PyErr_NoMemory();
    }
    Py_BEGIN_ALLOW_THREADS
    pthread_join(thread, NULL);
    Py_END_ALLOW_THREADS
    Py_RETURN_NONE;
}

/* The same, but nobody waits for the thread. */
static PyObject *
leave_thread(PyObject *self, PyObject *function)
{
    pthread_t thread;
    if (pthread_create(&thread, NULL, call_in, Py_NewRef(function)) != 0) {
        return PyErr_NoMemory();
    }
    pthread_detach(thread);
    Py_RETURN_NONE;
}

/* A thread that comes in again and again, for ever. */
static void *
knock(void *arg)
{
    for (;;) {
        PyGILState_STATE state = PyGILState_Ensure();
        counter++;
        PyGILState_Release(state);
        usleep(100);
    }
    return arg;
}

static PyObject *
keep_knocking(PyObject *self, PyObject *Py_UNUSED(ignored))
{
    pthread_t thread;
    if (pthread_create(&thread, NULL, knock, NULL) != 0) {
        return PyErr_NoMemory();
    }
    pthread_detach(thread);
    Py_RETURN_NONE;
}

/* A pool as libraries in C++ have it: a destructor that runs at the end of the
 * process stops its thread, waits for it and says so to `pool_fd`. The thread comes
 * in again and again; if it `asks`, only as long as there is something to come
 * into. */
static pthread_t pool;
static volatile int pool_asks, pool_stops;
static int pool_fd = -1;

static void *
serve(void *arg)
{
    while (!pool_stops) {
        if (!pool_asks || (Py_IsInitialized() && !Py_IsFinalizing())) {
            PyGILState_STATE state = PyGILState_Ensure();
            counter++;
            PyGILState_Release(state);
        }
        usleep(100);
    }
    return arg;
}

static void
stop_pool(void)
{
    pool_stops = 1;
    pthread_join(pool, NULL);
    (void)!write(pool_fd, "x", 1);
}

static PyObject *
start_pool(PyObject *self, PyObject *args)
{
    int asks;
    if (!PyArg_ParseTuple(args, "ip", &pool_fd, &asks)) {
        return NULL;
    }
    pool_asks = asks;
    if (atexit(stop_pool) != 0 || pthread_create(&pool, NULL, serve, NULL) != 0) {
        return PyErr_NoMemory();
    }
    Py_RETURN_NONE;
}

/* Called back on the thread that calls, which has let go of the GIL. */
static PyObject *
call_back(PyObject *self, PyObject *function)
{
    Py_BEGIN_ALLOW_THREADS
    Py_INCREF(function);
    call_in(function);
    Py_END_ALLOW_THREADS
    Py_RETURN_NONE;
}

static int
run_pending(void *arg)
{
    PyObject *result = PyObject_CallNoArgs(arg);
    Py_DECREF((PyObject *)arg);
    Py_XDECREF(result);
    return result == NULL ? -1 : 0;
}

static PyObject *
pending(PyObject *self, PyObject *function)
{
    return PyLong_FromLong(Py_AddPendingCall(run_pending, Py_NewRef(function)));
}

static PyObject *
facts(PyObject *self, PyObject *Py_UNUSED(ignored))
{
    const char *threads = getenv("RAYON_NUM_THREADS");
    return Py_BuildValue("{s:i,s:i,s:O,s:z}", "main is current",
                         PyInterpreterState_Main() == PyInterpreterState_Get(), "check",
                         PyGILState_Check(), "found",
                         PyState_FindModule(&definition) == self ? Py_True : Py_False,
                         "threads", threads);
}

static void
say_goodbye(void)
{
    (void)!write(exit_fd, "x", 1);
}

static PyObject *
at_exit(PyObject *self, PyObject *fd)
{
    exit_fd = PyLong_AsInt(fd);
    return PyLong_FromLong(Py_AtExit(say_goodbye));
}

static PyObject *
keep(PyObject *self, PyObject *obj)
{
    Py_XSETREF(kept, Py_NewRef(obj));
    return Py_NewRef(kept);
}

static void
key_gone(void *value)
{
    free(value);
}

__attribute__((constructor)) static void
made(void)
{
    pthread_key_create(&key, key_gone);
}

static int in_child = -1, pipe_end = -1;

/* As uvloop does: into Python, also in the child. */
static void
forked(void)
{
    PyGILState_STATE state = PyGILState_Ensure();
    in_child++;
    PyGILState_Release(state);
}

/* Fork; the child says how many handlers it has run and goes. The status. */
static PyObject *
fork_child(PyObject *self, PyObject *fd)
{
    int status = 0;
    pipe_end = PyLong_AsInt(fd);
    if (in_child < 0) {
        in_child = 0;
        pthread_atfork(NULL, NULL, forked);
    }
    pid_t pid = pipe_end < 0 ? 0 : fork();
    if (pipe_end >= 0 && pid == 0) {
        char text = (char)('0' + in_child);
        _exit(write(pipe_end, &text, 1) == 1 ? 0 : 1);
    }
    if (pid > 0) {
        Py_BEGIN_ALLOW_THREADS
        waitpid(pid, &status, 0);
        Py_END_ALLOW_THREADS
    }
    return PyLong_FromLong(status);
}

static PyObject *
use_key(PyObject *self, PyObject *Py_UNUSED(ignored))
{
    return PyLong_FromLong(pthread_setspecific(key, malloc(10)));
}

static PyMethodDef functions[] = {
    {"count", count, METH_NOARGS, NULL},
    {"address", address, METH_NOARGS, NULL},
    {"from_thread", from_thread, METH_O, NULL},
    {"leave_thread", leave_thread, METH_O, NULL},
    {"keep_knocking", keep_knocking, METH_NOARGS, NULL},
    {"start_pool", start_pool, METH_VARARGS, NULL},
    {"call_back", call_back, METH_O, NULL},
    {"pending", pending, METH_O, NULL},
    {"facts", facts, METH_NOARGS, NULL},
    {"at_exit", at_exit, METH_O, NULL},
    {"keep", keep, METH_O, NULL},
    {"fork_child", fork_child, METH_O, NULL},
    {"use_key", use_key, METH_NOARGS, NULL},
    {NULL, NULL, 0, NULL},
};

#ifdef SINGLE

static PyModuleDef definition = {
    PyModuleDef_HEAD_INIT,
    .m_name = "probe",
    .m_size = -1,
    .m_methods = functions,
};

PyMODINIT_FUNC
PyInit_probe(void)
{
    PyObject *module = PyModule_Create(&definition);
    if (module != NULL && PyModule_AddIntConstant(module, "made", ++counter) < 0) {
        Py_CLEAR(module);
    }
    return module;
}

#else

static PyModuleDef below = {
    PyModuleDef_HEAD_INIT,
    .m_name = "pkg.multi.below",
    .m_size = 0,
    .m_slots = (PyModuleDef_Slot[]){{0, NULL}},
};

/* Makes a module of its own, with a definition that says nothing about
 * interpreters either. */
static int
exec_multi(PyObject *module)
{
    PyObject *spec = PyObject_GetAttrString(module, "__spec__");
    PyObject *sub = spec == NULL ? NULL : PyModule_FromDefAndSpec(&below, spec);
    int rc = sub == NULL ? -1 : PyModule_ExecDef(sub, &below);
    if (rc == 0) {
        rc = PyModule_AddObjectRef(module, "below", sub);
    }
    Py_XDECREF(sub);
    Py_XDECREF(spec);
    counter++;
    return rc < 0 ? rc : PyModule_AddIntConstant(module, "made", counter);
}

static PyModuleDef_Slot slots[] = {
    {Py_mod_exec, exec_multi},
    {0, NULL},
};

static PyModuleDef definition = {
    PyModuleDef_HEAD_INIT,  .m_name = "multi", .m_size = 8,
    .m_methods = functions, .m_slots = slots,
};

PyMODINIT_FUNC
PyInit_multi(void)
{
    return PyModuleDef_Init(&definition);
}

#endif
