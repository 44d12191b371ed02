/* Encoding exceptions: themselves, what they come from, and where they were. */
#include "cpython/version.h"
#include "wire/encode/encoder.h"

/* ------------------------------------------------------------- exceptions */

/* Does its class leave it to a built-in exception how it is taken apart? Then
 * it can be put together without the __init__ of the user's, which rarely takes
 * what ends up in `args`. */
static bool
is_plain_exception(PyTypeObject *type)
{
    static const char *const names[] = {"__reduce__", "__reduce_ex__", "__setstate__",
                                        "__getstate__"};
    PyTypeObject *base = type;
    while (base->tp_flags & Py_TPFLAGS_HEAPTYPE) {
        base = base->tp_base;
    }
    for (size_t i = 0; i < Py_ARRAY_LENGTH(names); i++) {
        if (!enc_inherits(type, base, names[i])) {
            return false;
        }
    }
    return true;
}

static PyTypeObject *
builtin_base(PyTypeObject *type)
{
    while (type->tp_flags & Py_TPFLAGS_HEAPTYPE) {
        type = type->tp_base;
    }
    return type;
}

static bool
enc_has_slots(PyTypeObject *type)
{
    return type->tp_basicsize > builtin_base(type)->tp_basicsize;
}

/* The traceback as text, for the outermost exception of a message only: it
 * tells of the causes as well. A new reference. */
static PyObject *
traceback_text(encoder *e, PyObject *exc)
{
    PyObject *traceback = PyException_GetTraceback(exc);
    if (traceback == NULL || e->in_exception) {
        Py_XDECREF(traceback);
        return Py_NewRef(Py_None);
    }
    Py_DECREF(traceback);
    PyObject *function = enc_helper(&e->state->wire->traceback_text, "traceback_text");
    return function == NULL ? NULL : PyObject_CallOneArg(function, exc);
}

/* cause, context, suppress_context, text: after what the exception is itself. */
static int
enc_chain(encoder *e, PyObject *exc)
{
    PyObject *text = traceback_text(e, exc);
    if (text == NULL) {
        return -1;
    }
    bool outermost = !e->in_exception;
    e->in_exception = true;
    PyObject *cause = e->alone ? NULL : PyException_GetCause(exc);
    PyObject *context = e->alone ? NULL : PyException_GetContext(exc);
    uint8_t suppress = ((PyBaseExceptionObject *)exc)->suppress_context != 0;
    int rc = enc_object(e, cause == NULL ? Py_None : cause);
    if (rc < 0) {
        enc_path(e, ".__cause__");
    }
    else {
        rc = enc_object(e, context == NULL ? Py_None : context);
        if (rc < 0) {
            enc_path(e, ".__context__");
        }
    }
    if (rc == 0) {
        rc = enc_object(e, text);
    }
    if (rc == 0) {
        unsigned char *at = enc_reserve(e, 1);
        rc = at == NULL ? -1 : 0;
        if (at != NULL) {
            *at = suppress;
        }
    }
    if (outermost) {
        e->in_exception = false;
    }
    Py_XDECREF(cause);
    Py_XDECREF(context);
    Py_DECREF(text);
    return rc;
}

/* Has it an attribute in C that neither its arguments nor its state have? An OSError
 * whose class calls no __init__ of OSError's (urllib's HTTPError), a NameError. */
static bool
exception_forgets(PyObject *exc, PyObject *args)
{
    if (PyObject_TypeCheck(exc, (PyTypeObject *)PyExc_NameError)) {
        return ((PyNameErrorObject *)exc)->name != NULL;
    }
    return PyObject_TypeCheck(exc, (PyTypeObject *)PyExc_OSError) &&
           PyTuple_GET_SIZE(args) < 3 && ((PyOSErrorObject *)exc)->filename != NULL;
}

/* TAG_EXCEPTION: whether to call (0) or to build (1); the callable and its
 * arguments; here it gets its number; the state or None; the chain. */
int
enc_exception(encoder *e, PyObject *obj)
{
    int known = enc_known(e, obj);
    if (known != 0) {
        return known < 0 ? -1 : 0;
    }
    enc_link(e);
    /* What is registered for exceptions may put their causes into the arguments:
     * tblib's functions do. */
    PyObject *value = e->alone ? PyObject_CallMethod(obj, "__reduce_ex__", "i", 5)
                               : enc_call_reduce(e->state, obj);
    if (value == NULL) {
        return enc_says_unpicklable(obj) ? enc_refuse(e, obj) : -1;
    }
    PyObject *func, *args, *state = Py_None;
    if (!PyTuple_Check(value) ||
        !PyArg_ParseTuple(value, "OO!|O", &func, &PyTuple_Type, &args, &state)) {
        /* It says something else about itself: then only that crosses. */
        PyErr_Clear();
        int rc = PyTuple_Check(value) ? enc_reduced(e, obj, value) : enc_refuse(e, obj);
        Py_DECREF(value);
        return rc;
    }
    uint8_t build =
        func == (PyObject *)Py_TYPE(obj) && is_plain_exception(Py_TYPE(obj));
    PyObject *with_slots = NULL;
    if (build && (enc_has_slots(Py_TYPE(obj)) || exception_forgets(obj, args))) {
        PyObject *function =
            enc_helper(&e->state->wire->exception_state, "exception_state");
        with_slots = function == NULL
                         ? NULL
                         : PyObject_CallFunctionObjArgs(function, obj, state, NULL);
        if (with_slots == NULL) {
            Py_DECREF(value);
            return -1;
        }
        state = with_slots;
    }
    int rc = enc_put(e, TAG_EXCEPTION | MEMO, &build, 1);
    if (rc == 0) {
        rc = enc_object(e, func);
    }
    for (Py_ssize_t i = -1; i < PyTuple_GET_SIZE(args) && rc == 0; i++) {
        if (i < 0) {
            uint64_t count = (uint64_t)PyTuple_GET_SIZE(args);
            rc = enc_put(e, TAG_TUPLE, &count, sizeof(count));
            continue;
        }
        rc = enc_object(e, PyTuple_GET_ITEM(args, i));
        if (rc < 0) {
            enc_path(e, ".args[%zd]", i);
        }
    }
    if (rc == 0) {
        rc = enc_number_late(e, obj); /* 1: it was there already */
    }
    if (rc == 0) {
        rc = state == Py_None ? enc_tag(e, TAG_NONE) : enc_state(e, state);
    }
    if (rc == 0) {
        rc = enc_chain(e, obj);
    }
    Py_DECREF(value);
    Py_XDECREF(with_slots);
    return rc < 0 ? -1 : 0;
}
