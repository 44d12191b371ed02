/* Objects that are not built in: found by name, made from their code, or put
 * together by calls, as pickle does it. */
#include "cpython/version.h"
#include "wire/decode/decoder.h"

/* --------------------------------------------------------------- by name */

/* `module`.`qualname`, imported if need be; an error says what was wanted. */
static PyObject *
find_global(PyObject *module, PyObject *qualname)
{
    PyObject *at = PyImport_GetModule(module);
    if (at == NULL && !PyErr_Occurred()) {
        at = PyImport_Import(module);
        if (at != NULL) {
            /* With a dot in its name that is the package. */
            Py_SETREF(at, PyImport_GetModule(module));
        }
    }
    Py_ssize_t length = PyUnicode_GET_LENGTH(qualname), from = 0;
    while (at != NULL && from <= length) {
        Py_ssize_t dot = PyUnicode_FindChar(qualname, '.', from, length, 1);
        if (dot < 0) {
            dot = length;
        }
        PyObject *name = from == 0 && dot == length
                             ? Py_NewRef(qualname)
                             : PyUnicode_Substring(qualname, from, dot);
        Py_SETREF(at, name == NULL ? NULL : PyObject_GetAttr(at, name));
        Py_XDECREF(name);
        from = dot + 1;
    }
    if (at != NULL) {
        return at;
    }
    PyObject *reason = PyErr_GetRaisedException();
    if (reason == NULL || PyErr_GivenExceptionMatches(reason, PyExc_ImportError) ||
        PyErr_GivenExceptionMatches(reason, PyExc_AttributeError)) {
        PyErr_Format(reason == NULL ? PyExc_ImportError : (PyObject *)Py_TYPE(reason),
                     "this interpreter has no %U.%U, which it has received: "
                     "%S",
                     module, qualname, reason == NULL ? module : reason);
        PyObject *exc = PyErr_GetRaisedException();
        PyException_SetCause(exc, reason); /* steals */
        reason = exc;
    }
    PyErr_SetRaisedException(reason);
    return NULL;
}

static PyObject *
dec_global(decoder *d, bool memo)
{
    PyObject *module = dec_object(d);
    PyObject *qualname = module == NULL ? NULL : dec_object(d);
    PyObject *obj = NULL;
    if (qualname != NULL) {
        dec_link(d);
        obj = find_global(module, qualname);
    }
    Py_XDECREF(module);
    Py_XDECREF(qualname);
    if (obj != NULL && dec_number(d, memo, obj) < 0) {
        Py_CLEAR(obj);
    }
    return obj;
}

/* -------------------------------------------------------------- by value */

/* atoll._cross.constant.loads(view, digest) */
static PyObject *
dec_constant(decoder *d, bool memo)
{
    core_state *state = d->state;
    const char *digest = (const char *)dec_take(d, DIGEST_SIZE);
    size_t size = (size_t)dec_u64(d);
    const unsigned char *data = dec_take(d, size);
    PyObject *loads = package_keep(&state->wire->loads, PACKAGE_CONSTANT, "loads");
    if (loads == NULL) {
        return NULL;
    }
    dec_link(d);
    /* A view, not a copy: loads() releases it before it returns, so that nobody
     * can keep a hold of our memory. */
    PyObject *view =
        PyMemoryView_FromMemory((char *)data, (Py_ssize_t)size, PyBUF_READ);
    PyObject *key = PyBytes_FromStringAndSize(digest, DIGEST_SIZE);
    PyObject *obj = NULL;
    if (view != NULL && key != NULL) {
        obj = PyObject_CallFunctionObjArgs(loads, view, key, NULL);
    }
    Py_XDECREF(view);
    Py_XDECREF(key);
    if (obj != NULL && dec_number(d, memo, obj) < 0) {
        Py_CLEAR(obj);
    }
    return obj;
}

/* ------------------------------------------------------------ put together */

/* Until TAG_END: items to append, as pickle's APPENDS does it. */
static int
build_list(decoder *d, PyObject *obj)
{
    while (*d->at != TAG_END) {
        PyObject *item = dec_object(d);
        int rc = -1;
        if (item != NULL && PyList_CheckExact(obj)) {
            rc = PyList_Append(obj, item);
        }
        else if (item != NULL) {
            PyObject *done = PyObject_CallMethod(obj, "append", "(O)", item);
            rc = done == NULL ? -1 : 0;
            Py_XDECREF(done);
        }
        Py_XDECREF(item);
        if (rc < 0) {
            return -1;
        }
    }
    d->at++;
    return 0;
}

static int
build_dict(decoder *d, PyObject *obj)
{
    while (*d->at != TAG_END) {
        PyObject *key = dec_object(d);
        PyObject *value = key == NULL ? NULL : dec_object(d);
        int rc = value == NULL            ? -1
                 : PyDict_CheckExact(obj) ? PyDict_SetItem(obj, key, value)
                                          : PyObject_SetItem(obj, key, value);
        Py_XDECREF(key);
        Py_XDECREF(value);
        if (rc < 0) {
            return -1;
        }
    }
    d->at++;
    return 0;
}

static int
set_attributes(PyObject *obj, PyObject *names)
{
    PyObject *key, *value;
    Py_ssize_t at = 0;
    while (PyDict_Next(names, &at, &key, &value)) {
        Py_INCREF(key);
        Py_INCREF(value);
        int rc = PyObject_SetAttr(obj, key, value);
        Py_DECREF(key);
        Py_DECREF(value);
        if (rc < 0) {
            return -1;
        }
    }
    return 0;
}

/* Attribute names are interned, as the compiler's are: one copy of each, and a
 * dict that shares its keys with those of other instances. */
static int
update_dict(PyObject *obj, PyObject *state)
{
    PyObject *dict = PyObject_GetAttrString(obj, "__dict__");
    PyObject *key, *value;
    Py_ssize_t at = 0;
    int rc = dict == NULL ? -1 : 0;
    while (rc == 0 && PyDict_Next(state, &at, &key, &value)) {
        Py_INCREF(key);
        Py_INCREF(value);
        if (PyUnicode_CheckExact(key)) {
            PyUnicode_InternInPlace(&key);
        }
        rc = PyObject_SetItem(dict, key, value);
        Py_DECREF(key);
        Py_DECREF(value);
    }
    Py_XDECREF(dict);
    return rc;
}

/* As pickle's BUILD: __setstate__, or the dict, or (dict, slots). */
static int
set_state(PyObject *obj, PyObject *setter, PyObject *state)
{
    PyObject *done = NULL, *method = NULL;
    if (setter != NULL) {
        done = PyObject_CallFunctionObjArgs(setter, obj, state, NULL);
        Py_XDECREF(done);
        return done == NULL ? -1 : 0;
    }
    if (PyObject_GetOptionalAttrString(obj, "__setstate__", &method) < 0) {
        return -1;
    }
    if (method != NULL) {
        done = PyObject_CallOneArg(method, state);
        Py_DECREF(method);
        Py_XDECREF(done);
        return done == NULL ? -1 : 0;
    }
    PyObject *dict = state, *slots = NULL;
    if (PyTuple_Check(state) && PyTuple_GET_SIZE(state) == 2) {
        dict = PyTuple_GET_ITEM(state, 0);
        slots = PyTuple_GET_ITEM(state, 1);
    }
    if ((dict != Py_None && !PyDict_Check(dict)) ||
        (slots != NULL && slots != Py_None && !PyDict_Check(slots))) {
        PyErr_Format(PyExc_TypeError,
                     "the state of %.200s is no dict, and it has no "
                     "__setstate__",
                     Py_TYPE(obj)->tp_name);
        return -1;
    }
    if (dict != Py_None && PyDict_GET_SIZE(dict) > 0 && update_dict(obj, dict) < 0) {
        return -1;
    }
    return slots != NULL && slots != Py_None ? set_attributes(obj, slots) : 0;
}

static PyObject *
dec_make(PyObject *func, PyObject *args, bool is_new)
{
    if (!is_new) {
        return PyObject_CallObject(func, args);
    }
    PyTypeObject *type = (PyTypeObject *)func;
    if (!PyType_Check(func) || type->tp_new == NULL) {
        PyErr_Format(PyExc_TypeError, "%R cannot be instantiated", func);
        return NULL;
    }
    return type->tp_new(type, args, NULL);
}

static PyObject *
dec_call(decoder *d, bool is_new, bool memo)
{
    int build = dec_u8(d);
    PyObject *func = dec_object(d);
    PyObject *args = func == NULL ? NULL : dec_object(d);
    PyObject *obj = NULL, *setter = NULL, *state = NULL;
    PyObject *known = args == NULL ? NULL : dec_known(d);
    if (args != NULL && known == NULL) {
        dec_link(d);
        obj = dec_make(func, args, is_new);
    }
    Py_XDECREF(func);
    Py_XDECREF(args);
    if (known != NULL) {
        return known;
    }
    if (obj == NULL || dec_number(d, memo, obj) < 0 ||
        ((build & BUILD_LIST) && build_list(d, obj) < 0) ||
        ((build & BUILD_DICT) && build_dict(d, obj) < 0) ||
        ((build & BUILD_SETTER) && (setter = dec_object(d)) == NULL) ||
        ((build & BUILD_STATE) && (state = dec_object(d)) == NULL) ||
        (state != NULL && set_state(obj, setter, state) < 0)) {
        Py_CLEAR(obj);
    }
    Py_XDECREF(setter);
    Py_XDECREF(state);
    return obj;
}

/* ------------------------------------------------------------- exceptions */

/* What the class's own constructor would have done, but for the parts that are
 * written in Python: __new__ and __init__ of the first base that is built in. */
static PyObject *
make_exception(PyObject *cls, PyObject *args)
{
    PyTypeObject *type = (PyTypeObject *)cls, *base = type;
    if (!PyExceptionClass_Check(cls)) {
        PyErr_Format(PyExc_TypeError, "%R is no exception here", cls);
        return NULL;
    }
    while (base->tp_flags & Py_TPFLAGS_HEAPTYPE) {
        base = base->tp_base;
    }
    PyObject *exc = base->tp_new(type, args, NULL);
    if (exc != NULL && Py_TYPE(exc) == type && base->tp_init(exc, args, NULL) < 0) {
        Py_CLEAR(exc);
    }
    return exc;
}

/* See enc_exception in wire/encode/object.c. */
static PyObject *
dec_exception(decoder *d, bool memo)
{
    int build = dec_u8(d);
    PyObject *func = dec_object(d);
    PyObject *args = func == NULL ? NULL : dec_object(d);
    PyObject *exc = NULL, *state = NULL, *cause = NULL, *context = NULL, *text = NULL;
    dec_link(d);
    PyObject *known = args == NULL ? NULL : dec_known(d);
    if (args != NULL && known == NULL) {
        exc = build ? make_exception(func, args) : PyObject_CallObject(func, args);
    }
    Py_XDECREF(func);
    Py_XDECREF(args);
    if (known != NULL) {
        return known;
    }
    if (exc == NULL || dec_number(d, memo, exc) < 0 ||
        (state = dec_object(d)) == NULL ||
        (state != Py_None && set_state(exc, NULL, state) < 0) ||
        (cause = dec_object(d)) == NULL || (context = dec_object(d)) == NULL ||
        (text = dec_object(d)) == NULL) {
        Py_CLEAR(exc);
        goto out;
    }
    bool suppress = dec_u8(d) != 0;
    if (!PyExceptionInstance_Check(exc)) {
        goto out; /* a reducer that made something else of it */
    }
    if (PyExceptionInstance_Check(context)) {
        PyException_SetContext(exc, Py_NewRef(context)); /* steals */
    }
    if (PyExceptionInstance_Check(cause)) {
        PyException_SetCause(exc, Py_NewRef(cause)); /* steals */
    }
    ((PyBaseExceptionObject *)exc)->suppress_context = suppress;
    if (text != Py_None) {
        PyObject *function = package_keep(&d->state->wire->rebuild_exception,
                                          PACKAGE_PICKLE, "attach_traceback");
        PyObject *done = function == NULL
                             ? NULL
                             : PyObject_CallFunctionObjArgs(function, exc, text, NULL);
        if (done == NULL) {
            Py_CLEAR(exc);
        }
        Py_XDECREF(done);
    }
out:
    Py_XDECREF(state);
    Py_XDECREF(cause);
    Py_XDECREF(context);
    Py_XDECREF(text);
    return exc;
}

/* TAG_TRY: uint64_t size, and what may fail without taking the rest with it: in
 * its place comes the exception that says why. The last of its message. */
static PyObject *
dec_try(decoder *d)
{
    size_t size = (size_t)dec_u64(d);
    const unsigned char *end = d->at + size;
    PyObject *obj = dec_object(d);
    if (obj == NULL && PyErr_ExceptionMatches(PyExc_Exception)) {
        PyObject *reason = PyErr_GetRaisedException();
        obj = PyTuple_Pack(1, reason);
        Py_DECREF(reason);
        d->at = end;
    }
    return obj;
}

PyObject *
dec_other(decoder *d, int tag, bool memo)
{
    switch (tag) {
    case TAG_GLOBAL:
        return dec_global(d, memo);
    case TAG_CONSTANT:
        return dec_constant(d, memo);
    case TAG_CALL:
    case TAG_NEW:
        return dec_call(d, tag == TAG_NEW, memo);
    case TAG_SHAPE:
        return dec_instance(d, memo, true);
    case TAG_EXCEPTION:
        return dec_exception(d, memo);
    case TAG_TRY:
        return dec_try(d);
    }
    Py_UNREACHABLE();
}
