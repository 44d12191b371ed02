/* Functions of sys that know of one interpreter: _current_frames, _current_exceptions,
 * of this interpreter's threads, and activate_stack_trampoline.
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

/* ------------------------------------------------------- trampolines of perf */

/* What sys.activate_stack_trampoline makes belongs to the process in CPython: the
 * memory for trampolines, and the count of code objects that have one. There is no lock
 * for it, and several interpreters that make them crash. So one at a time may have
 * them. */
static atoll_lock trampoline_lock;
static int64_t trampoline_owner = -1; /* guarded by trampoline_lock; -1: nobody */

/* Returns who has it: the interpreter that asks, or another that is still there. */
static int64_t
claim_trampolines(void)
{
    int64_t here = PyInterpreterState_GetID(PyInterpreterState_Get());
    atoll_lock_acquire(&trampoline_lock);
    int64_t owner = trampoline_owner;
    atoll_lock_release(&trampoline_lock);
    bool free = owner < 0 || !compat_interp_exists(owner);
    atoll_lock_acquire(&trampoline_lock);
    if (free && trampoline_owner == owner) {
        trampoline_owner = here;
    }
    owner = trampoline_owner;
    atoll_lock_release(&trampoline_lock);
    return owner;
}

static PyObject *
activate_trampolines(PyObject *original, PyObject *args)
{
    int64_t owner = claim_trampolines();
    if (owner != PyInterpreterState_GetID(PyInterpreterState_Get())) {
        return PyErr_Format(
            PyExc_RuntimeError,
            "interpreter %lld has stack trampolines, and in CPython one "
            "interpreter of a process can have them; perf shows the "
            "functions of that one",
            (long long)owner);
    }
    return PyObject_Call(original, args, NULL);
}

static PyMethodDef activate_def = {
    "activate_stack_trampoline", activate_trampolines, METH_VARARGS,
    "activate_stack_trampoline(backend, /)\n--\n\n"
    "Activate stack profiler trampoline *backend*, in one interpreter of the process."};

/* With -X perf main has them from the start. */
static int
mend_trampolines(void)
{
    PyObject *original = PySys_GetObject(activate_def.ml_name); /* borrowed */
    PyObject *active = PySys_GetObject("is_stack_trampoline_active");
    if (original == NULL || active == NULL ||
        (PyCFunction_Check(original) &&
         PyCFunction_GetFunction(original) == activate_trampolines)) {
        return 0;
    }
    PyObject *answer = PyObject_CallNoArgs(active);
    PyObject *function =
        answer == NULL ? NULL : PyCFunction_New(&activate_def, original);
    int rc = function == NULL ? -1 : PySys_SetObject(activate_def.ml_name, function);
    if (rc == 0 && answer == Py_True) {
        (void)claim_trampolines();
    }
    Py_XDECREF(function);
    Py_XDECREF(answer);
    return rc;
}

void
sys_fork_child(void)
{
    trampoline_lock.word = 0;
}

/* ---------------------------------------------------------------------------- */

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
    return mend_trampolines();
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
