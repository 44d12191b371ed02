/* Where a KeyboardInterrupt would break more than the task that it is meant for. How
 * long it is put off there: see home/interrupt.c.
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
    OWNER_SELECTOR, /* the module selectors; uvloop, when a signal has woken it */
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
    {"selectors", NULL, OWNER_SELECTOR},
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
    if (is != OWNER_OTHER && is != OWNER_SELECTOR) {
        return PLACE_DELICATE;
    }
    switch (owner_of_callers(frame)) {
    case OWNER_DOOR:
    case OWNER_END:
        return PLACE_DELICATE;
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
