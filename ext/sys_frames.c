/* sys._current_frames and sys._current_exceptions, of this interpreter's threads.
 *
 * CPython's own go through the threads of all interpreters, and make frame objects for
 * them with this interpreter's memory, or count exceptions that are another's, while
 * those run under GILs of their own: the other interpreter then frees what is not
 * its own, and the heap is corrupt. Profilers call them (that of Dask's workers, every
 * 10 ms), so where atoll makes interpreters it replaces them. */
#include "state.h"

/* The thread states of this interpreter (owned array), newest first, or NULL with an
 * exception. They stay while the GIL is held: a thread ends its own state, with it.
 * But other threads may add states without it, in front. */
static PyThreadState **
all_states(size_t *count)
{
    PyInterpreterState *interp = PyInterpreterState_Get();
    PyThreadState **states = NULL, *ts;
    size_t room = 0;
    do {
        room = 2 * room + 16;
        PyThreadState **more = PyMem_Realloc(states, room * sizeof(PyThreadState *));
        if (more == NULL) {
            PyMem_Free(states);
            PyErr_NoMemory();
            return NULL;
        }
        states = more;
        *count = 0;
        ts = PyInterpreterState_ThreadHead(interp);
        for (; ts != NULL && *count < room; ts = PyThreadState_Next(ts)) {
            states[(*count)++] = ts;
        }
    } while (ts != NULL);
    return states;
}

/* A dict of what `look` says of each thread of this interpreter, by its id. `look`
 * gives a new reference, or NULL without an exception: nothing is to be said. */
static PyObject *
of_threads(PyObject *(*look)(PyThreadState *))
{
    size_t count;
    PyObject *result = PyDict_New();
    PyThreadState **states = result == NULL ? NULL : all_states(&count);
    if (states == NULL) {
        Py_XDECREF(result);
        return NULL;
    }
    for (size_t i = 0; i < count; i++) {
        /* One that is being made has no thread yet. */
        PyObject *value = states[i]->thread_id == 0 ? NULL : look(states[i]);
        if (value == NULL) {
            continue;
        }
        PyObject *ident = PyLong_FromUnsignedLong(states[i]->thread_id);
        int rc = ident == NULL ? -1 : PyDict_SetItem(result, ident, value);
        Py_XDECREF(ident);
        Py_DECREF(value); /* never the last one: its owner is there */
        if (rc < 0) {
            Py_CLEAR(result);
            break;
        }
    }
    PyMem_Free(states);
    return result;
}

static PyObject *
frame_of(PyThreadState *ts)
{
    PyObject *frame = (PyObject *)PyThreadState_GetFrame(ts);
    if (frame == NULL) {
        PyErr_Clear();
    }
    return frame;
}

static PyObject *
exception_of(PyThreadState *ts)
{
    const __typeof__(*ts->exc_info) *item = ts->exc_info;
    while (item != NULL &&
           (item->exc_value == NULL || item->exc_value == Py_None) &&
           item->previous_item != NULL) {
        item = item->previous_item;
    }
    bool has = item != NULL && item->exc_value != NULL;
    return Py_NewRef(has ? item->exc_value : Py_None);
}

static PyObject *
current_frames(PyObject *Py_UNUSED(module), PyObject *Py_UNUSED(ignored))
{
    return of_threads(frame_of);
}

static PyObject *
current_exceptions(PyObject *Py_UNUSED(module), PyObject *Py_UNUSED(ignored))
{
    return of_threads(exception_of);
}

static PyMethodDef functions[] = {
    {"_current_frames", current_frames, METH_NOARGS,
     "_current_frames()\n--\n\n"
     "The topmost frame of each thread of this interpreter (dict by thread id)."},
    {"_current_exceptions", current_exceptions, METH_NOARGS,
     "_current_exceptions()\n--\n\n"
     "What each thread of this interpreter handles (dict by thread id): an exception,\n"
     "or None."},
};

int
sys_mend_frames(void)
{
    for (size_t i = 0; i < Py_ARRAY_LENGTH(functions); i++) {
        PyObject *function = PyCFunction_New(&functions[i], NULL);
        int rc = function == NULL
                     ? -1
                     : PySys_SetObject(functions[i].ml_name, function);
        Py_XDECREF(function);
        if (rc < 0) {
            return -1;
        }
    }
    return 0;
}
