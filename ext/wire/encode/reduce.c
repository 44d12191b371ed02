/* Encoding objects taken apart as pickle takes them apart (the reduce protocol of
 * PEP 307 and PEP 574), but with one memo for the whole message, so that what is
 * shared stays shared. */
#include "cpython/version.h"
#include "wire/encode/encoder.h"

/* ------------------------------------------------------------ taken apart */

/* Items of an iterator until it ends, then TAG_END. */
static int
enc_iter(encoder *e, PyObject *iter, bool pairs)
{
    Py_ssize_t i = 0;
    if (!PyIter_Check(iter)) {
        PyErr_SetString(PyExc_TypeError,
                        "__reduce__ must return iterators as its fourth and "
                        "fifth item");
        return -1;
    }
    PyObject *item;
    while ((item = PyIter_Next(iter)) != NULL) {
        int rc;
        if (!pairs) {
            rc = enc_object(e, item);
            if (rc < 0) {
                enc_path(e, "[%zd]", i);
            }
        }
        else if (!PyTuple_Check(item) || PyTuple_GET_SIZE(item) != 2) {
            PyErr_SetString(PyExc_TypeError,
                            "the fifth item of __reduce__ must yield pairs");
            rc = -1;
        }
        else {
            PyObject *key = PyTuple_GET_ITEM(item, 0);
            rc = enc_object(e, key);
            if (rc == 0) {
                rc = enc_object(e, PyTuple_GET_ITEM(item, 1));
                if (rc < 0) {
                    enc_path(e, "[%.80R]", key);
                }
            }
        }
        Py_DECREF(item);
        if (rc < 0) {
            return -1;
        }
        i++;
    }
    return PyErr_Occurred() ? -1 : enc_tag(e, TAG_END);
}

static bool
is_named(PyObject *func, const char *name)
{
    PyObject *own = NULL;
    bool same = PyObject_GetOptionalAttrString(func, "__name__", &own) > 0 &&
                PyUnicode_Check(own) && PyUnicode_EqualToUTF8(own, name);
    Py_XDECREF(own);
    PyErr_Clear();
    return same;
}

static PyObject *
enc_optional(PyObject *tuple, Py_ssize_t i)
{
    PyObject *item = i < PyTuple_GET_SIZE(tuple) ? PyTuple_GET_ITEM(tuple, i) : Py_None;
    return item == Py_None ? NULL : item;
}

/* The arguments: a tuple, whose items are named by position. */
static int
enc_args(encoder *e, PyObject *args, Py_ssize_t from)
{
    uint64_t count = (uint64_t)(PyTuple_GET_SIZE(args) - from);
    if (enc_put(e, TAG_TUPLE, &count, sizeof(count)) < 0) {
        return -1;
    }
    for (Py_ssize_t i = from; i < PyTuple_GET_SIZE(args); i++) {
        if (enc_object(e, PyTuple_GET_ITEM(args, i)) < 0) {
            enc_path(e, ".__reduce__()[1][%zd]", i);
            return -1;
        }
    }
    return 0;
}

/* The state is mostly a dict of attributes, or a pair of such: name them so in
 * a path. */
int
enc_state(encoder *e, PyObject *state)
{
    int rc = enc_object(e, state);
    if (rc == 0 || e->path == NULL) {
        return rc;
    }
    Py_ssize_t last = PyList_GET_SIZE(e->path) - 1;
    if (PyTuple_CheckExact(state) && PyTuple_GET_SIZE(state) == 2 && last > 0 &&
        PyDict_CheckExact(PyTuple_GET_ITEM(state, 1))) {
        PyList_SetSlice(e->path, last, last + 1, NULL);
        last--;
    }
    else if (!PyDict_CheckExact(state)) {
        enc_path(e, ".__getstate__()");
        return rc;
    }
    /* "['name']" to ".name" */
    PyObject *step = PyList_GET_ITEM(e->path, last);
    Py_ssize_t length = PyUnicode_GET_LENGTH(step);
    PyObject *name = length > 4 ? PyUnicode_Substring(step, 2, length - 2) : NULL;
    PyObject *dotted = name == NULL ? NULL : PyUnicode_FromFormat(".%U", name);
    if (dotted != NULL) {
        PyList_SetItem(e->path, last, dotted); /* steals */
    }
    Py_XDECREF(name);
    return rc;
}

/* The tuple that a reducer returned. */
int
enc_reduced(encoder *e, PyObject *obj, PyObject *value)
{
    Py_ssize_t size = PyTuple_GET_SIZE(value);
    if (size < 2 || size > 6 || !PyCallable_Check(PyTuple_GET_ITEM(value, 0)) ||
        !PyTuple_Check(PyTuple_GET_ITEM(value, 1))) {
        PyErr_Format(PyExc_TypeError,
                     "__reduce__ of %.200s must return a str, or a tuple of "
                     "two to six items that begins with a callable and a "
                     "tuple",
                     Py_TYPE(obj)->tp_name);
        return -1;
    }
    PyObject *func = PyTuple_GET_ITEM(value, 0);
    PyObject *args = PyTuple_GET_ITEM(value, 1);
    PyObject *state = enc_optional(value, 2), *list = enc_optional(value, 3);
    PyObject *dict = enc_optional(value, 4), *setter = enc_optional(value, 5);
    uint8_t build =
        (uint8_t)((list != NULL ? BUILD_LIST : 0) | (dict != NULL ? BUILD_DICT : 0) |
                  (state != NULL ? BUILD_STATE : 0) |
                  (setter != NULL ? BUILD_SETTER : 0));
    /* copyreg.__newobj__(cls, *args) is cls.__new__(cls, *args). */
    bool is_new = PyTuple_GET_SIZE(args) > 0 &&
                  PyType_Check(PyTuple_GET_ITEM(args, 0)) &&
                  is_named(func, "__newobj__");
    if (enc_put(e, (is_new ? TAG_NEW : TAG_CALL) | MEMO, &build, 1) < 0 ||
        enc_object(e, is_new ? PyTuple_GET_ITEM(args, 0) : func) < 0 ||
        enc_args(e, args, is_new ? 1 : 0) < 0) {
        return -1;
    }
    int known = enc_number_late(e, obj);
    if (known != 0) {
        return known < 0 ? -1 : 0;
    }
    if ((list != NULL && enc_iter(e, list, false) < 0) ||
        (dict != NULL && enc_iter(e, dict, true) < 0) ||
        (setter != NULL && enc_object(e, setter) < 0)) {
        return -1;
    }
    return state == NULL ? 0 : enc_state(e, state);
}

/* Classes whose own reduction is not what crossing needs: what atoll._cross.pickle
 * says of them instead. */
static const struct {
    const char *name, *module, *function;
} corrected[] = {
    {"Connection", "multiprocessing.connection", "reduce"},
    {"ForwardRef", "annotationlib", "reduce_code"},
    {"NewType", "typing", "reduce_named"},
    {"_FIELD_BASE", "dataclasses", "reduce"},
    {"_MISSING_TYPE", "dataclasses", "reduce"},
    {"functools._lru_cache_wrapper", "functools", "reduce_named"},
    {"WeakSet", "_weakrefset", "reduce_code"},
    {"partialmethod", "functools", "reduce_code"},
    {"singledispatchmethod", "functools", "reduce_code"},
    {"typing.ParamSpec", "typing", "reduce_named"},
    {"typing.TypeAliasType", "typing", "reduce_named"},
    {"typing.TypeVar", "typing", "reduce_named"},
    {"typing.TypeVarTuple", "typing", "reduce_named"},
#if COMPAT_NO_C_DATETIME
    {"timezone", "_pydatetime", "reduce_timezone"},
#endif
};

/* The name of that function, or NULL. */
static const char *
correction_of(PyTypeObject *type)
{
    for (size_t i = 0; i < Py_ARRAY_LENGTH(corrected); i++) {
        if (strcmp(type->tp_name, corrected[i].name) == 0) {
            PyObject *module = PyObject_GetAttrString((PyObject *)type, "__module__");
            bool same = module != NULL && PyUnicode_Check(module) &&
                        PyUnicode_EqualToUTF8(module, corrected[i].module);
            Py_XDECREF(module);
            PyErr_Clear();
            if (same) {
                return corrected[i].function;
            }
        }
    }
    return NULL;
}

bool
enc_is_corrected(PyTypeObject *type)
{
    return correction_of(type) != NULL;
}

/* copyreg.dispatch_table, registered reducers: one lookup. A new reference, or
 * NULL; an exception may be set. */
PyObject *
enc_reducer_of(core_state *state, PyTypeObject *type)
{
    PyObject *found = NULL;
    if (state->wire->copyreg_table == NULL) {
        PyObject *copyreg = PyImport_ImportModule("copyreg");
        if (copyreg == NULL) {
            return NULL;
        }
        state->wire->copyreg_table = PyObject_GetAttrString(copyreg, "dispatch_table");
        Py_DECREF(copyreg);
        if (state->wire->copyreg_table == NULL) {
            return NULL;
        }
    }
    (void)PyDict_GetItemRef(state->wire->copyreg_table, (PyObject *)type, &found);
    return found;
}

static PyObject *
call_correction(PyObject *obj, const char *name)
{
    return package_call(PACKAGE_PICKLE, name, "(O)", obj);
}

/* What object.__reduce_ex__ and its like return; also copyreg's reducers. */
PyObject *
enc_call_reduce(core_state *state, PyObject *obj)
{
    const char *correction = correction_of(Py_TYPE(obj));
    if (correction != NULL) {
        return call_correction(obj, correction);
    }
    PyObject *reducer = enc_reducer_of(state, Py_TYPE(obj));
    if (reducer != NULL) {
        PyObject *value = PyObject_CallOneArg(reducer, obj);
        Py_DECREF(reducer);
        return value;
    }
    return PyErr_Occurred() ? NULL : PyObject_CallMethod(obj, "__reduce_ex__", "i", 5);
}

/* cloudpickle knows some types that pickle does not. A reduce value, or NULL
 * with the exception that was there before. */
PyObject *
enc_call_cloudpickle(core_state *state, PyObject *obj)
{
    PyObject *reason = PyErr_GetRaisedException();
    PyObject *function = enc_helper(&state->wire->reduce, "reduce");
    PyObject *value = function == NULL ? NULL : PyObject_CallOneArg(function, obj);
    if (value == NULL && reason == NULL) {
        return NULL;
    }
    if (value == NULL || value == Py_None) {
        if (value == NULL && !PyErr_ExceptionMatches(PyExc_Exception)) {
            Py_DECREF(reason); /* an interrupt, say: it goes first */
        }
        else if (value == Py_None || !PyErr_ExceptionMatches(PyExc_TypeError)) {
            PyErr_SetRaisedException(reason); /* replaces any other */
        }
        else {
            Py_DECREF(reason); /* it knows better */
        }
        Py_XDECREF(value);
        return NULL;
    }
    Py_XDECREF(reason);
    return value;
}

/* A reducer returned a str: the name of a constant in obj's module, or, as pickle has
 * it, in whichever module holds it if it does not say (ufuncs). */
static int
enc_reduced_name(encoder *e, PyObject *obj, PyObject *name)
{
    PyObject *module;
    int rc = PyObject_GetOptionalAttrString(obj, "__module__", &module);
    if (rc == 0 || module == Py_None) {
        Py_XSETREF(module,
                   package_call(PACKAGE_MODULES, "which_module", "(OO)", obj, name));
        rc = module == NULL ? -1 : module != Py_None;
    }
    if (rc > 0) {
        rc = enc_by_name(e, obj, module, name);
    }
    if (rc == 0) {
        PyErr_Format(PyExc_TypeError, "no module has it under the name %R", name);
        rc = enc_refuse(e, obj);
    }
    Py_XDECREF(module);
    return rc < 0 ? -1 : 0;
}

/* Has the class of `self`, or `self` if it is one, this function under its name, as it
 * is or as a class method? An exception may be set. */
static bool
class_has_method(PyObject *self, PyObject *function)
{
    PyTypeObject *type = PyType_Check(self) ? (PyTypeObject *)self : Py_TYPE(self);
    PyObject *name = NULL, *inner = NULL;
    if (PyObject_GetOptionalAttrString(function, "__name__", &name) <= 0) {
        return false;
    }
    PyObject *found = PyUnicode_Check(name) ? compat_type_lookup(type, name) : NULL;
    Py_DECREF(name);
    if (found != function && found != NULL && Py_IS_TYPE(found, &PyClassMethod_Type)) {
        (void)PyObject_GetOptionalAttrString(found, "__func__", &inner);
        found = inner; /* which its descriptor holds */
        Py_XDECREF(inner);
    }
    return found == function;
}

/* Is the class of `self`, or `self`, one that goes by value? Its methods cannot be
 * looked up while it is being made. 1, 0, or -1 with an exception. */
static int
is_made_by_value(PyObject *self)
{
    PyObject *type = PyType_Check(self) ? self : (PyObject *)Py_TYPE(self);
    if (!(((PyTypeObject *)type)->tp_flags & Py_TPFLAGS_HEAPTYPE)) {
        return 0;
    }
    int found = enc_is_held(type);
    return found < 0 ? -1 : !found;
}

/* A method as its function and what it is bound to. NULL without an exception: its own
 * way, to look it up there, will do. */
static PyObject *
reduce_method(encoder *e, PyObject *method)
{
    PyObject *function = PyMethod_GET_FUNCTION(method),
             *self = PyMethod_GET_SELF(method);
    int by_value = e->by_value > 0 ? is_made_by_value(self) : 0;
    if (by_value < 0 || (by_value == 0 && class_has_method(self, function)) ||
        PyErr_Occurred()) {
        return NULL;
    }
    return Py_BuildValue("O(OO)", &PyMethod_Type, function, self);
}

int
enc_reduce(encoder *e, PyObject *obj)
{
    int known = enc_known(e, obj);
    if (known != 0) {
        return known < 0 ? -1 : 0;
    }
    enc_link(e);
    PyObject *value = PyMethod_Check(obj) ? reduce_method(e, obj) : NULL;
    if (value == NULL && !PyErr_Occurred()) {
        value = enc_call_reduce(e->state, obj);
    }
    if (value == NULL && enc_says_unpicklable(obj)) {
        value = enc_call_cloudpickle(e->state, obj);
        if (value == NULL && PyErr_ExceptionMatches(PyExc_Exception)) {
            return enc_refuse(e, obj);
        }
    }
    if (value == NULL) {
        return -1;
    }
    int rc;
    if (PyUnicode_Check(value)) {
        rc = enc_reduced_name(e, obj, value);
    }
    else if (PyTuple_Check(value)) {
        rc = enc_reduced(e, obj, value);
    }
    else {
        PyErr_Format(PyExc_TypeError,
                     "__reduce__ of %.200s must return a str or a tuple, not "
                     "%.200s",
                     Py_TYPE(obj)->tp_name, Py_TYPE(value)->tp_name);
        rc = -1;
    }
    Py_DECREF(value);
    return rc;
}
