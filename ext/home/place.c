/* Where the calling thread's code is: where a KeyboardInterrupt would break more than
 * the task that it is meant for, and whether a module is being imported. How long an
 * interrupt is put off: see home/interrupt.c.
 *
 * Between `with` and its body. CPython looks for pending calls after the call of
 * __enter__, when the lock has been taken and the body, whose end lets go of it, has
 * not begun: so the lock would be held for ever, and the next task of this
 * interpreter that wants it would hang. Once in three times that is where an interrupt
 * finds a loop that uses a lock; and with the lock of the module threading no thread
 * of the interpreter could begin or end any more. So it is in what enters and leaves
 * contexts, __enter__ and __exit__ and their asynchronous kin, and in what these call:
 * of contextlib's they call the generator, which takes the lock or lets go of it.
 *
 * In asyncio's own code and what it calls: the loop would be left running for ever, or
 * have a task that it does not know (3.13 registers tasks in Python code of another
 * module, after they have been scheduled), or stop when it is used next, since the
 * callback that stops it has been left in it. Where it waits, in the selector, nothing
 * would break but for that callback: so there the loop's task is cancelled, if
 * it is one of a pool's loops. Elsewhere asyncio.Runner has its own way, a handler of
 * SIGINT (home/signal.c).
 *
 * In what the end of an object calls, __del__ and the callbacks of weak references,
 * and in what these call: an exception there is lost, and has to be raised again.
 *
 * In the importer's own code, where it holds the lock of a module, or is one of those
 * callbacks. The bodies of the modules can be interrupted.
 */
#include "home/home.h"

#include <string.h>

#include "cpython/runtime.h"

/* Is it on the threshold: has `with` just called an __enter__ in C? */
static bool
is_on_threshold(PyFrameObject *frame)
{
    PyCodeObject *code = PyFrame_GetCode(frame);
    bool is = frames_call_enter(code, PyFrame_GetLasti(frame));
    Py_DECREF(code);
    return is;
}

typedef enum owner {
    OWNER_OTHER,
    OWNER_ASYNCIO,
    OWNER_STEP,     /* asyncio's Handle._run, which calls other people's code */
    OWNER_SELECTOR, /* select() of selectors; uvloop, when a signal has woken it */
    OWNER_READER,   /* what a loop calls of ours when it has been woken */
    OWNER_BOOT,     /* atoll's, around a loop and a coroutine */
    OWNER_RUN,      /* _boot's coroutine, which awaits the task's */
    OWNER_DOOR,     /* __enter__, __exit__ and their asynchronous kin */
    OWNER_END,      /* __del__; weak sets and dicts, which take out what has gone */
    OWNER_IMPORT,   /* importlib */
} owner;

static const struct {
    const char *module;
    const char *function; /* NULL: any; the first that fits counts */
    owner owner;
} owners[] = {
    {"asyncio.events", "_run", OWNER_STEP},
    {"selectors", "select", OWNER_SELECTOR},
    {"uvloop._noop", NULL, OWNER_SELECTOR},
    {"atoll._aio", "__call__", OWNER_READER}, /* uvloop's waits have no frame */
    {"atoll._boot", "run", OWNER_RUN},
    {"atoll._boot", NULL, OWNER_BOOT},
    {"_weakrefset", NULL, OWNER_END},
    {"weakref", NULL, OWNER_END},
    {"importlib._bootstrap", NULL, OWNER_IMPORT},
    {"importlib._bootstrap_external", NULL, OWNER_IMPORT},
    {"_frozen_importlib", NULL, OWNER_IMPORT}, /* without the module importlib */
    {"_frozen_importlib_external", NULL, OWNER_IMPORT},
};

static owner
owner_of_code(const char *module, PyCodeObject *code)
{
    for (size_t i = 0; i < sizeof(owners) / sizeof(owners[0]); i++) {
        const char *function = owners[i].function;
        if (strcmp(module, owners[i].module) == 0 &&
            (function == NULL || PyUnicode_EqualToUTF8(code->co_name, function))) {
            return owners[i].owner;
        }
    }
    bool asyncio = strncmp(module, "asyncio.", strlen("asyncio.")) == 0;
    return asyncio ? OWNER_ASYNCIO : OWNER_OTHER;
}

/* Names that say enough, whatever the module, which may have no name. */
static owner
owner_of_name(PyObject *name)
{
    static const char *const doors[] = {"__enter__", "__exit__", "__aenter__",
                                        "__aexit__"};
    if (PyUnicode_GET_LENGTH(name) < 7 || PyUnicode_READ_CHAR(name, 0) != '_') {
        return OWNER_OTHER;
    }
    for (size_t i = 0; i < Py_ARRAY_LENGTH(doors); i++) {
        if (PyUnicode_EqualToUTF8(name, doors[i])) {
            return OWNER_DOOR;
        }
    }
    return PyUnicode_EqualToUTF8(name, "__del__") ? OWNER_END : OWNER_OTHER;
}

/* Whose code is it? Called with no exception set. */
static owner
owner_of(PyFrameObject *frame)
{
    PyCodeObject *code = PyFrame_GetCode(frame);
    owner named = owner_of_name(code->co_name);
    if (named != OWNER_OTHER) {
        Py_DECREF(code);
        return named;
    }
    PyObject *globals = PyFrame_GetGlobals(frame), *name = NULL;
    bool has = PyDict_GetItemStringRef(globals, "__name__", &name) > 0 &&
               PyUnicode_Check(name);
    const char *module = has ? PyUnicode_AsUTF8(name) : NULL;
    owner is = module == NULL ? OWNER_OTHER : owner_of_code(module, code);
    PyErr_Clear();
    Py_XDECREF(name);
    Py_DECREF(globals);
    Py_DECREF(code);
    return is;
}

/* Whose is the nearest code below this frame that says who has called it? */
static owner
owner_of_callers(PyFrameObject *frame)
{
    owner is = OWNER_OTHER;
    PyFrameObject *at = PyFrame_GetBack(frame);
    while (at != NULL && is != OWNER_ASYNCIO && is != OWNER_STEP && is != OWNER_BOOT &&
           is != OWNER_RUN && is != OWNER_DOOR && is != OWNER_END) {
        is = owner_of(at);
        Py_SETREF(at, PyFrame_GetBack(at));
    }
    Py_XDECREF(at);
    return is;
}

/* The frame first: the walk through its callers, of which there may be thousands, is
 * made again at each look. */
static interrupt_place
place_of(PyFrameObject *frame)
{
    if (is_on_threshold(frame)) {
        return PLACE_THRESHOLD;
    }
    owner is = owner_of(frame);
    if (is == OWNER_READER) {
        return PLACE_LOOP;
    }
    if (is == OWNER_DOOR || is == OWNER_END) {
        return PLACE_DOOR;
    }
    if (is != OWNER_OTHER && is != OWNER_SELECTOR) {
        return PLACE_DELICATE;
    }
    switch (owner_of_callers(frame)) {
    case OWNER_DOOR:
    case OWNER_END:
        return PLACE_DOOR;
    case OWNER_ASYNCIO:
    case OWNER_BOOT:
        return is == OWNER_SELECTOR ? PLACE_LOOP : PLACE_DELICATE;
    default:
        return PLACE_FREE;
    }
}

interrupt_place
interrupt_find_place(void)
{
    PyFrameObject *frame = PyThreadState_GetFrame(PyThreadState_Get());
    if (frame == NULL) {
        return PLACE_FREE;
    }
    interrupt_place place = place_of(frame);
    Py_DECREF(frame);
    return place;
}

/* ------------------------------------------------------------------ imports */

/* In the dict of a thread state: for which module's import its thread works. */
static const char on_behalf[] = "atoll.importing";

/* Is it the importer's own code? */
static bool
is_importer(PyCodeObject *code)
{
    static const char file[] = "<frozen importlib._bootstrap";
    const char *name = PyUnicode_AsUTF8(code->co_filename);
    PyErr_Clear(); /* no UTF-8: then it is not */
    return name != NULL && strncmp(name, file, sizeof(file) - 1) == 0;
}

/* Does this function of the importer's run modules? */
static bool
runs_modules(PyCodeObject *code)
{
    return PyUnicode_EqualToUTF8(code->co_name, "_load_unlocked") ||
           PyUnicode_EqualToUTF8(code->co_name, "exec_module") ||
           PyUnicode_EqualToUTF8(code->co_name, "_exec");
}

/* The name of the module that the importer runs in `frame`: a new reference; NULL if it
 * does not say, with no exception. */
static PyObject *
module_of_importer(PyFrameObject *frame)
{
    PyObject *name = NULL;
    PyObject *spec = PyFrame_GetVarString(frame, "spec"), *module = NULL;
    if (spec != NULL) {
        name = PyObject_GetAttrString(spec, "name");
    }
    else {
        PyErr_Clear();
        module = PyFrame_GetVarString(frame, "module");
        name = module == NULL || !PyModule_Check(module)
                   ? NULL
                   : PyModule_GetNameObject(module);
    }
    PyErr_Clear();
    Py_XDECREF(module);
    Py_XDECREF(spec);
    return name;
}

/* Say which module the importer runs in `frame`, and where that is (`body`, or NULL). A
 * new reference; NULL with an exception. */
static PyObject *
describe_import(PyFrameObject *frame, PyFrameObject *body)
{
    PyObject *name = module_of_importer(frame), *text;
    if (name == NULL) {
        name = PyUnicode_FromString("?");
    }
    if (name == NULL || body == NULL) {
        text = name == NULL ? NULL : PyUnicode_FromFormat("module %R", name);
    }
    else {
        PyCodeObject *code = PyFrame_GetCode(body);
        text = PyUnicode_FromFormat("module %R (%U, line %d)", name, code->co_filename,
                                    PyFrame_GetLineNumber(body));
        Py_DECREF(code);
    }
    Py_XDECREF(name);
    return text;
}

static bool
is_body(PyFrameObject *frame)
{
    PyCodeObject *code = PyFrame_GetCode(frame);
    bool is = PyUnicode_EqualToUTF8(code->co_name, "<module>");
    Py_DECREF(code);
    return is;
}

/* The innermost import on the stack, described; NULL without an exception if there is
 * none. */
static PyObject *
import_on_stack(void)
{
    PyFrameObject *at = PyThreadState_GetFrame(PyThreadState_Get());
    PyFrameObject *body = NULL; /* the module's code; until that is found, any code */
    PyObject *text = NULL;
    bool found = false;
    while (at != NULL && !found) {
        PyCodeObject *code = PyFrame_GetCode(at);
        bool importer = is_importer(code);
        found = importer && runs_modules(code);
        Py_DECREF(code);
        if (found) {
            text = describe_import(at, body);
        }
        else if (!importer && (body == NULL || is_body(at) || !is_body(body))) {
            Py_XSETREF(body, (PyFrameObject *)Py_NewRef(at));
        }
        Py_SETREF(at, PyFrame_GetBack(at));
    }
    Py_XDECREF(at);
    Py_XDECREF(body);
    return text;
}

PyObject *
place_find_import(bool *in_thread)
{
    PyObject *text = import_on_stack();
    *in_thread = false;
    if (text == NULL && !PyErr_Occurred()) {
        PyObject *dict = PyThreadState_GetDict(); /* borrowed */
        if (dict != NULL && PyDict_GetItemStringRef(dict, on_behalf, &text) > 0) {
            *in_thread = true;
        }
    }
    return text;
}

/* Is it the package's own code? */
static bool
is_ours(PyFrameObject *frame)
{
    PyObject *globals = PyFrame_GetGlobals(frame), *name = NULL;
    bool has = PyDict_GetItemStringRef(globals, "__name__", &name) > 0 &&
               PyUnicode_Check(name);
    const char *text = has ? PyUnicode_AsUTF8(name) : NULL;
    bool ours =
        text != NULL && (strncmp(text, "atoll.", 6) == 0 || strcmp(text, "atoll") == 0);
    PyErr_Clear();
    Py_XDECREF(name);
    Py_DECREF(globals);
    return ours;
}

PyObject *
place_describe(void)
{
    PyFrameObject *frame = PyThreadState_GetFrame(PyThreadState_Get());
    while (frame != NULL && is_ours(frame)) {
        Py_SETREF(frame, PyFrame_GetBack(frame));
    }
    if (frame == NULL) {
        return PyUnicode_FromString("code");
    }
    PyCodeObject *code = PyFrame_GetCode(frame);
    PyObject *text =
        PyUnicode_FromFormat("%U (%U, line %d)", code->co_qualname, code->co_filename,
                             PyFrame_GetLineNumber(frame));
    Py_DECREF(code);
    Py_DECREF(frame);
    return text;
}

/* ------------------------------------------------------- threads of an import */

/* What such a thread runs: self is (description, function). */
static PyObject *
run_on_behalf(PyObject *self, PyObject *args, PyObject *kwargs)
{
    PyObject *dict = PyThreadState_GetDict(); /* borrowed */
    if (dict == NULL) {
        return PyErr_NoMemory();
    }
    return PyDict_SetItemString(dict, on_behalf, PyTuple_GET_ITEM(self, 0)) < 0
               ? NULL
               : PyObject_Call(PyTuple_GET_ITEM(self, 1), args, kwargs);
}

#define WITH_KEYWORDS(f) ((PyCFunction)(void (*)(void))(f))

static PyMethodDef on_behalf_def = {"run", WITH_KEYWORDS(run_on_behalf),
                                    METH_VARARGS | METH_KEYWORDS, NULL};

/* The function that `function` becomes. */
static PyObject *
marked(PyObject *description, PyObject *function)
{
    PyObject *pair = PyTuple_Pack(2, description, function);
    PyObject *made = pair == NULL ? NULL : PyCFunction_New(&on_behalf_def, pair);
    Py_XDECREF(pair);
    return made;
}

/* Call `original` with the thread's function marked; it is the first argument, or has
 * the name `function`. */
static PyObject *
start_marked(PyObject *original, PyObject *description, PyObject *args,
             PyObject *kwargs)
{
    static const char by_name[] = "function";
    PyObject *function = NULL, *result = NULL, *made = NULL;
    bool first = PyTuple_GET_SIZE(args) > 0;
    if (first) {
        function = PyTuple_GET_ITEM(args, 0);
    }
    else if (kwargs != NULL) {
        function = PyDict_GetItemString(kwargs, by_name);
    }
    if (function == NULL || !PyCallable_Check(function)) {
        return PyObject_Call(original, args, kwargs); /* which says what is wrong */
    }
    made = marked(description, function);
    if (made == NULL) {
        return NULL;
    }
    if (first) {
        PyObject *rest = PyTuple_GetSlice(args, 1, PyTuple_GET_SIZE(args));
        PyObject *head = rest == NULL ? NULL : PyTuple_Pack(1, made);
        PyObject *all = head == NULL ? NULL : PySequence_Concat(head, rest);
        result = all == NULL ? NULL : PyObject_Call(original, all, kwargs);
        Py_XDECREF(all);
        Py_XDECREF(head);
        Py_XDECREF(rest);
    }
    else {
        PyObject *names = PyDict_Copy(kwargs);
        if (names != NULL && PyDict_SetItemString(names, by_name, made) == 0) {
            result = PyObject_Call(original, args, names);
        }
        Py_XDECREF(names);
    }
    Py_DECREF(made);
    return result;
}

/* One of _thread's functions that start threads; self is CPython's own. */
static PyObject *
place_start_thread(PyObject *original, PyObject *args, PyObject *kwargs)
{
    bool in_thread;
    PyObject *description = place_find_import(&in_thread);
    if (description == NULL) {
        return PyErr_Occurred() ? NULL : PyObject_Call(original, args, kwargs);
    }
    PyObject *result = start_marked(original, description, args, kwargs);
    Py_DECREF(description);
    return result;
}

#define START_NEW(name)                                    \
    name "($module, function, args, kwargs={}, /)\n--\n\n" \
         "Start a new thread and return its identifier."

static PyMethodDef start_defs[] = {
    {"start_new_thread", WITH_KEYWORDS(place_start_thread),
     METH_VARARGS | METH_KEYWORDS, START_NEW("start_new_thread")},
    {"start_new", WITH_KEYWORDS(place_start_thread), METH_VARARGS | METH_KEYWORDS,
     START_NEW("start_new")},
    {"start_joinable_thread", WITH_KEYWORDS(place_start_thread),
     METH_VARARGS | METH_KEYWORDS,
     "start_joinable_thread($module, /, function, handle=None, daemon=True)\n--\n\n"
     "Start a new thread and return a handle with which it can be joined."},
};

int
place_mend_threads(PyObject *thread)
{
    PyObject *name = PyModule_GetNameObject(thread);
    int rc = name == NULL ? -1 : 0;
    for (size_t i = 0; rc == 0 && i < sizeof(start_defs) / sizeof(*start_defs); i++) {
        PyObject *original = PyObject_GetAttrString(thread, start_defs[i].ml_name);
        PyObject *ours =
            original == NULL ? NULL : PyCFunction_NewEx(&start_defs[i], original, name);
        rc = ours == NULL ? -1
                          : PyObject_SetAttrString(thread, start_defs[i].ml_name, ours);
        Py_XDECREF(ours);
        Py_XDECREF(original);
    }
    Py_XDECREF(name);
    return rc;
}
