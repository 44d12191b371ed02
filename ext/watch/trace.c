/* atoll.trace()'s half in C: beginning, ending, handing out the logs. What is noted is
 * noted where it happens. */
#include "watch/watch.h"

#include <stdlib.h>
#include <string.h>

#include "atoll/trace.h"
#include "home/home.h"

/* Who the calling thread is: the id of its interpreter and that one's name. */
static int64_t
trace_name_thread(char *name, size_t size)
{
    PyThreadState *ts = PyThreadState_GetUnchecked();
    if (ts == NULL) {
        return -1;
    }
    int64_t id = PyInterpreterState_GetID(PyThreadState_GetInterpreter(ts));
    home_copy_name(id, name, size);
    return id;
}

/* --------------------------------------------------------------- functions */

PyDoc_STRVAR(start_doc,
"_trace_start(limit, messages, /)\n--\n\n"
"Begin to log: `limit` events (int) at most, sends and receives among them if\n"
"`messages`. Returns False if something is logged already.");

static PyObject *
core_trace_start(PyObject *Py_UNUSED(module), PyObject *args)
{
    unsigned long long limit;
    int messages;
    if (!PyArg_ParseTuple(args, "Kp:_trace_start", &limit, &messages)) {
        return NULL;
    }
    return PyBool_FromLong(
        atoll_trace_start(limit, messages ? TRACE_MESSAGES : 0, trace_name_thread));
}

static PyObject *
open_log(const atoll_trace_log *log)
{
    PyObject *parts = PyList_New(0);
    const atoll_trace_event *events;
    const void *at = NULL;
    size_t count;
    while (parts != NULL && (events = atoll_trace_next(log, &at, &count)) != NULL) {
        PyObject *part = PyBytes_FromStringAndSize(
            (const char *)events, (Py_ssize_t)(count * sizeof(*events)));
        if (part == NULL || PyList_Append(parts, part) < 0) {
            Py_CLEAR(parts);
        }
        Py_XDECREF(part);
    }
    if (parts == NULL) {
        return NULL;
    }
    atoll_trace_facts facts;
    atoll_trace_look(log, &facts);
    return Py_BuildValue(
        "LLNN", (long long)facts.number, (long long)facts.thread,
        PyUnicode_DecodeUTF8(facts.name, (Py_ssize_t)strlen(facts.name), "replace"),
        parts);
}

PyDoc_STRVAR(stop_doc,
"_trace_stop()\n--\n\n"
"End the logging: (lost, logs), how many events there was no room for (int), and\n"
"for each thread (interpreter, thread id, name, list of bytes), 64 bytes an event:\n"
"atoll_trace_event of atoll/trace.h.");

static PyObject *
core_trace_stop(PyObject *Py_UNUSED(module), PyObject *Py_UNUSED(ignored))
{
    uint64_t lost;
    atoll_trace_log *log = atoll_trace_stop(&lost);
    PyObject *list = PyList_New(0);
    while (log != NULL) {
        PyObject *one = list == NULL ? NULL : open_log(log);
        if (one == NULL || PyList_Append(list, one) < 0) {
            Py_CLEAR(list);
        }
        Py_XDECREF(one);
        log = atoll_trace_drop(log);
    }
    return list == NULL ? NULL : Py_BuildValue("KN", (unsigned long long)lost, list);
}

PyDoc_STRVAR(wanted_doc,
"_wanted(name, /)\n--\n\n"
"Is this the main interpreter, and `name` (str) set in the environment, to anything\n"
"but nothing and 0?");

static PyObject *
core_wanted(PyObject *module, PyObject *name)
{
    const core_state *state = PyModule_GetState(module);
    const char *text = PyUnicode_AsUTF8(name);
    if (text == NULL) {
        return NULL;
    }
    const char *value = state->is_main ? getenv(text) : NULL;
    return PyBool_FromLong(value != NULL && value[0] != '\0' &&
                           strcmp(value, "0") != 0);
}

PyMethodDef trace_functions[] = {
    {"_trace_start", core_trace_start, METH_VARARGS, start_doc},
    {"_trace_stop", core_trace_stop, METH_NOARGS, stop_doc},
    {"_wanted", core_wanted, METH_O, wanted_doc},
    {NULL, NULL, 0, NULL},
};
