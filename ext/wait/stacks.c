/* The threads of an interpreter and their Python stacks, as text. No code of the
 * user's runs: what is read are CPython's own objects. See wait/visit.h. */
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "cpython/runtime.h"
#include "wait/visit.h"

#define FRAMES_MAX 100 /* of one thread; deep recursion is not worth more */

/* ------------------------------------------------------------------- text */

typedef struct text {
    char *data;
    size_t size, room;
    bool failed;
} text;

static void
stacks_add(text *t, const char *format, ...)
{
    char line[1024];
    va_list args;
    va_start(args, format);
    int size = vsnprintf(line, sizeof(line), format, args);
    va_end(args);
    size_t length = size < 0                      ? 0
                    : (size_t)size < sizeof(line) ? (size_t)size
                                                  : sizeof(line) - 1;
    if (t->size + length + 1 > t->room) {
        size_t room = 2 * t->room + length + 256;
        char *data = atoll_realloc(t->data, room);
        if (data == NULL) {
            t->failed = true;
            return;
        }
        t->data = data;
        t->room = room;
    }
    memcpy(t->data + t->size, line, length);
    t->size += length;
    t->data[t->size] = '\0';
}

/* `value` as UTF-8 with at most size - 1 bytes; what has none is escaped. */
static void
copy_str(PyObject *value, char *out, size_t size)
{
    out[0] = '\0';
    if (value == NULL || !PyUnicode_Check(value)) {
        return;
    }
    PyObject *bytes = PyUnicode_AsEncodedString(value, "utf-8", "backslashreplace");
    if (bytes == NULL) {
        PyErr_Clear();
        return;
    }
    snprintf(out, size, "%s", PyBytes_AS_STRING(bytes));
    Py_DECREF(bytes);
}

/* ------------------------------------------------------------------ frames */

typedef struct place {
    char file[512], function[160];
    int line;
} place;

static void
stacks_place_of(PyFrameObject *frame, place *at)
{
    PyCodeObject *code = PyFrame_GetCode(frame);
    copy_str(code->co_filename, at->file, sizeof(at->file));
    copy_str(code->co_qualname, at->function, sizeof(at->function));
    at->line = PyFrame_GetLineNumber(frame);
    Py_DECREF(code);
}

/* Is it in the package atoll, which is in `package`? */
static bool
stacks_is_ours(const place *at, const char *package)
{
    size_t size = strlen(package);
    return size > 0 && strncmp(at->file, package, size) == 0 && at->file[size] == '/';
}

/* Takes over the reference to `frame`, the innermost one. */
static void
look_at_frames(thread_stack *thread, PyFrameObject *frame, const char *package,
               bool texts, bool *failed)
{
    text t = {0};
    place at;
    bool found = false;
    for (int i = 0; frame != NULL && i < FRAMES_MAX; i++) {
        stacks_place_of(frame, &at);
        if (!found && (!stacks_is_ours(&at, package) || i == 0)) {
            found = !stacks_is_ours(&at, package);
            snprintf(thread->where, sizeof(thread->where), "%.150s:%d in %.80s",
                     at.file, at.line, at.function);
        }
        if (texts) {
            stacks_add(&t, "    File \"%s\", line %d, in %s\n", at.file, at.line,
                       at.function);
        }
        PyFrameObject *back = PyFrame_GetBack(frame);
        Py_DECREF(frame);
        frame = back;
    }
    if (frame != NULL) {
        stacks_add(&t, "    ...\n");
        Py_DECREF(frame);
    }
    thread->frames = t.data;
    *failed = *failed || t.failed;
}

/* ----------------------------------------------------------------- threads */

/* An imported module, or NULL; imports nothing. */
static PyObject *
stacks_imported(const char *name)
{
    PyObject *key = PyUnicode_FromString(name);
    PyObject *module = key == NULL ? NULL : PyImport_GetModule(key);
    Py_XDECREF(key);
    if (module == NULL) {
        PyErr_Clear();
    }
    return module;
}

/* An attribute of a module, from its dict. */
static PyObject *
global_of(const char *module_name, const char *name)
{
    PyObject *module = stacks_imported(module_name);
    if (module == NULL || !PyModule_Check(module)) {
        Py_XDECREF(module);
        return NULL;
    }
    PyObject *value = Py_XNewRef(PyDict_GetItemString(PyModule_GetDict(module), name));
    Py_DECREF(module);
    return value;
}

/* The folder of the package. */
static void
find_package(char *out, size_t size)
{
    PyObject *file = global_of("atoll", "__file__");
    copy_str(file, out, size);
    Py_XDECREF(file);
    char *end = strrchr(out, '/');
    *(end == NULL ? out : end) = '\0';
}

/* What threading calls it: Thread._name, from the instance's own dict. */
static void
stacks_name_thread(thread_stack *thread, PyObject *active, PyObject *ident)
{
    PyObject *object = active == NULL || !PyDict_CheckExact(active)
                           ? NULL
                           : PyDict_GetItemWithError(active, ident);
    if (object == NULL) {
        PyErr_Clear();
        return;
    }
    PyObject *dict = PyObject_GenericGetDict(object, NULL);
    if (dict == NULL) {
        PyErr_Clear();
        return;
    }
    copy_str(PyDict_GetItemString(dict, "_name"), thread->name, sizeof(thread->name));
    Py_DECREF(dict);
}

/* Not sys._current_frames(): that makes frame objects for the threads of all
 * interpreters, with the allocator of this one and without their GILs. */
static void
look_at_threads(stacks *out, PyInterpreterState *interp)
{
    char package[512];
    find_package(package, sizeof(package));
    out->threads = atoll_alloc((out->states + 1) * sizeof(*out->threads));
    PyFrameObject **tops = atoll_alloc((out->states + 1) * sizeof(*tops));
    if (out->threads == NULL || tops == NULL) {
        out->failed = true;
        atoll_free(tops);
        return;
    }
    /* First all frames: between this and what frees objects. */
    runtime_lock_threads();
    PyThreadState *ts = PyInterpreterState_ThreadHead(interp);
    for (; ts != NULL && out->count < out->states; ts = PyThreadState_Next(ts)) {
        PyFrameObject *top = PyThreadState_GetFrame(ts);
        if (top != NULL) {
            tops[out->count] = top;
            out->threads[out->count++] = (thread_stack){.ident = ts->thread_id};
        }
    }
    runtime_unlock_threads();
    PyObject *active = global_of("threading", "_active");
    for (size_t i = 0; i < out->count; i++) {
        thread_stack *thread = &out->threads[i];
        PyObject *ident = PyLong_FromUnsignedLong(thread->ident);
        if (ident != NULL) {
            stacks_name_thread(thread, active, ident);
            Py_DECREF(ident);
        }
        look_at_frames(thread, tops[i], package, out->texts, &out->failed);
    }
    Py_XDECREF(active);
    atoll_free(tops);
}

/* ----------------------------------------------------------------- signals */

/* dump_on_signal's handler in main; a reference for ever. */
static PyObject *harmless; /* guarded by main's GIL */

void
stacks_set_harmless(PyObject *handler)
{
    Py_XSETREF(harmless, Py_NewRef(handler));
}

/* Is there a function of Python's that a signal calls, and that may do anything?
 * Ctrl-C's default only raises. */
static bool
has_handlers(void)
{
    PyObject *get = global_of("_signal", "getsignal");
    PyObject *usual = global_of("_signal", "default_int_handler");
    bool found = get != NULL && usual == NULL;
    for (int i = 1; get != NULL && i < 65 && !found; i++) {
        PyObject *handler = PyObject_CallFunction(get, "i", i);
        if (handler == NULL) {
            PyErr_Clear(); /* there is no such signal */
            continue;
        }
        found = PyCallable_Check(handler) && handler != usual && handler != harmless &&
                !PyLong_Check(handler);
        Py_DECREF(handler);
    }
    Py_XDECREF(usual);
    Py_XDECREF(get);
    return found;
}

/* --------------------------------------------------------------------- all */

static size_t
count_states(PyInterpreterState *interp)
{
    size_t count = 0;
    runtime_lock_threads();
    PyThreadState *ts = PyInterpreterState_ThreadHead(interp);
    for (; ts != NULL; ts = PyThreadState_Next(ts)) {
        count++;
    }
    runtime_unlock_threads();
    return count;
}

void
stacks_here(stacks *out)
{
    PyObject *exc = PyErr_GetRaisedException();
    PyInterpreterState *interp = PyInterpreterState_Get();
    out->states = count_states(interp);
    out->has_handlers = interp == PyInterpreterState_Main() && has_handlers();
    look_at_threads(out, interp);
    PyErr_Clear();
    PyErr_SetRaisedException(exc);
}

void
stacks_free(stacks *s)
{
    for (size_t i = 0; i < s->count; i++) {
        atoll_free(s->threads[i].frames);
    }
    atoll_free(s->threads);
    s->threads = NULL;
    s->count = 0;
}

const thread_stack *
stacks_find(const stacks *s, unsigned long ident)
{
    for (size_t i = 0; i < s->count; i++) {
        if (s->threads[i].ident == ident) {
            return &s->threads[i];
        }
    }
    return NULL;
}
