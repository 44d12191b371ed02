/* sys._current_frames and sys._current_exceptions, of this interpreter's threads.
 *
 * CPython's own go through the threads of all interpreters, and make frame objects for
 * them with this interpreter's memory, or count exceptions that are another's, while
 * those run under GILs of their own: the other interpreter then frees what is not
 * its own, and the heap is corrupt. Profilers call them (that of Dask's workers, every
 * 10 ms), so where atoll makes interpreters it replaces them. */
#include "cpython/runtime.h"

#include <opcode_ids.h>

#include "cpython/version.h"

typedef struct entry {
    unsigned long thread;
    PyObject *value; /* owned */
} entry;

/* What `look` says of each thread of this interpreter: an array (owned) of *count
 * entries, newest first, or NULL with an exception. Threads may be added meanwhile, in
 * front, by who does not hold this GIL. */
static entry *
all_entries(PyObject *(*look)(PyThreadState *), size_t *count)
{
    PyInterpreterState *interp = PyInterpreterState_Get();
    entry *entries = NULL;
    size_t room = 0;
    for (;;) {
        room = 2 * room + 16;
        entry *more = PyMem_Realloc(entries, room * sizeof(*entries));
        if (more == NULL) {
            PyMem_Free(entries);
            PyErr_NoMemory();
            return NULL;
        }
        entries = more;
        size_t states = 0;
        *count = 0;
        runtime_lock_threads();
        PyThreadState *ts = PyInterpreterState_ThreadHead(interp);
        for (; ts != NULL; ts = PyThreadState_Next(ts)) {
            states++;
        }
        ts = PyInterpreterState_ThreadHead(interp);
        for (; ts != NULL && states <= room; ts = PyThreadState_Next(ts)) {
            /* One that is being made has no thread yet. */
            PyObject *value = ts->thread_id == 0 ? NULL : look(ts);
            if (value != NULL) {
                entries[(*count)++] = (entry){ts->thread_id, value};
            }
        }
        runtime_unlock_threads();
        if (states <= room) {
            return entries;
        }
    }
}

/* A dict of what `look` says of each thread of this interpreter, by its id. `look`
 * gives a new reference, or NULL without an exception: nothing is to be said. */
static PyObject *
of_threads(PyObject *(*look)(PyThreadState *))
{
    size_t count;
    entry *entries = all_entries(look, &count);
    if (entries == NULL) {
        return NULL;
    }
    PyObject *result = PyDict_New();
    for (size_t i = 0; i < count; i++) {
        PyObject *ident =
            result == NULL ? NULL : PyLong_FromUnsignedLong(entries[i].thread);
        if (ident == NULL || PyDict_SetItem(result, ident, entries[i].value) < 0) {
            Py_CLEAR(result);
        }
        Py_XDECREF(ident);
        Py_DECREF(entries[i].value);
    }
    PyMem_Free(entries);
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
    while (item != NULL && (item->exc_value == NULL || item->exc_value == Py_None) &&
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
        int rc =
            function == NULL ? -1 : PySys_SetObject(functions[i].ml_name, function);
        Py_XDECREF(function);
        if (rc < 0) {
            return -1;
        }
    }
    return 0;
}

PyObject *
frames_asyncgen_hook(unsigned long ident)
{
    PyObject *hook = NULL;
    runtime_lock_threads();
    PyThreadState *ts = PyInterpreterState_ThreadHead(PyInterpreterState_Get());
    for (; ts != NULL && hook == NULL; ts = PyThreadState_Next(ts)) {
        if (ts->thread_id == ident) {
            hook = Py_XNewRef(ts->async_gen_firstiter);
        }
    }
    runtime_unlock_threads();
    return hook;
}

/* ---------------------------------------------------------------- instructions */

#ifdef COMPAT_ENTER_SPECIAL
bool
frames_call_enter(PyCodeObject *code, int at)
{
    PyObject *bytes = PyCode_GetCode(code);
    if (bytes == NULL) {
        PyErr_Clear();
        return false;
    }
    const unsigned char *ops = (const unsigned char *)PyBytes_AS_STRING(bytes);
    bool calls = at >= 2 && at + 1 < PyBytes_GET_SIZE(bytes) &&
                 ops[at - 2] == LOAD_SPECIAL && ops[at - 1] == COMPAT_ENTER_SPECIAL &&
                 ops[at] == CALL && ops[at + 1] == 0;
    Py_DECREF(bytes);
    return calls;
}
#else
bool
frames_call_enter(PyCodeObject *Py_UNUSED(code), int Py_UNUSED(at))
{
    return false; /* one instruction does it all, and does not look */
}
#endif
