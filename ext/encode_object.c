/* Encoding objects that are not built in: what kind each is, and instances of
 * ordinary classes. */
#include "compat.h"
#include "encoder.h"

/* ------------------------------------------------------- what a class is like */

bool
enc_inherits(PyTypeObject *type, PyTypeObject *base, const char *name)
{
    PyObject *str = PyUnicode_InternFromString(name);
    if (str == NULL) {
        PyErr_Clear();
        return false;
    }
    bool same = compat_type_lookup(type, str) ==
                (base == NULL ? NULL : compat_type_lookup(base, str));
    Py_DECREF(str);
    return same;
}

/* Every instance is its dict, and nothing of the user's has a say. */
static bool
is_plain_class(PyTypeObject *type)
{
    if (!(type->tp_flags & Py_TPFLAGS_HEAPTYPE) ||
        type->tp_new != PyBaseObject_Type.tp_new || type->tp_itemsize != 0 ||
        !(type->tp_flags & Py_TPFLAGS_MANAGED_DICT) ||
        type->tp_basicsize != PyBaseObject_Type.tp_basicsize) {
        return false;
    }
    return enc_inherits(type, &PyBaseObject_Type, "__reduce_ex__") &&
           enc_inherits(type, &PyBaseObject_Type, "__reduce__") &&
           enc_inherits(type, &PyBaseObject_Type, "__getstate__") &&
           enc_inherits(type, NULL, "__setstate__") &&
           enc_inherits(type, NULL, "__getnewargs__") &&
           enc_inherits(type, NULL, "__getnewargs_ex__") &&
           enc_inherits(type, &PyBaseObject_Type, "__class__") &&
           enc_inherits(type, &PyBaseObject_Type, "__getattribute__") &&
           enc_inherits(type, NULL, "__getattr__");
}

/* ----------------------------------------------------------- plain instances */

/* shape: what e->types holds for a plain class: (number, names) of its last
 * instance. Instances with other names get another shape. */
static int
enc_new_shape(encoder *e, PyTypeObject *type, PyObject *dict, int memo)
{
    /* The class first: if it goes by value it may bring shapes of its own. */
    if (enc_tag(e, TAG_SHAPE | memo) < 0 ||
        enc_global(e, (PyObject *)type) < 0) {
        return -1;
    }
    uint32_t count = (uint32_t)PyDict_GET_SIZE(dict);
    PyObject *key, *names = PyTuple_New((Py_ssize_t)count);
    if (names == NULL) {
        return -1;
    }
    Py_ssize_t at = 0, i = 0;
    while (i < (Py_ssize_t)count && PyDict_Next(dict, &at, &key, NULL)) {
        PyTuple_SET_ITEM(names, i++, Py_NewRef(key));
    }
    PyObject *shape = Py_BuildValue("IO", (unsigned)e->shapes++, names);
    unsigned char *to = enc_reserve(e, sizeof(count));
    int rc = shape == NULL || to == NULL ||
                     PyDict_SetItem(e->types, (PyObject *)type, shape) < 0
                 ? -1
                 : 0;
    if (to != NULL) {
        memcpy(to, &count, sizeof(count));
    }
    for (i = 0; i < (Py_ssize_t)count && rc == 0; i++) {
        key = PyTuple_GET_ITEM(names, i);
        int key_memo = 0, known = enc_memo(e, key, &key_memo);
        rc = known < 0 || (known == 0 && enc_str(e, key, key_memo) < 0) ? -1
                                                                        : 0;
    }
    Py_XDECREF(shape);
    Py_DECREF(names);
    return rc;
}

/* Do the keys of `dict` equal `names`, by identity and in order? */
static bool
has_names(PyObject *dict, PyObject *names)
{
    Py_ssize_t at = 0, i = 0;
    PyObject *key;
    if (PyDict_GET_SIZE(dict) != PyTuple_GET_SIZE(names)) {
        return false;
    }
    while (PyDict_Next(dict, &at, &key, NULL)) {
        if (key != PyTuple_GET_ITEM(names, i++)) {
            return false;
        }
    }
    return true;
}

static bool
has_str_keys(PyObject *dict)
{
    Py_ssize_t at = 0;
    PyObject *key;
    while (PyDict_Next(dict, &at, &key, NULL)) {
        if (!PyUnicode_CheckExact(key)) {
            return false;
        }
    }
    return true;
}

/* `shape` is borrowed: it is used before any code can run. */
static int
enc_plain(encoder *e, PyObject *obj, PyObject *shape)
{
    PyTypeObject *type = Py_TYPE(obj);
    bool shared = e->shared;
    PyObject *dict = PyObject_GenericGetDict(obj, NULL);
    if (dict == NULL) {
        return -1;
    }
    /* The names of a shape are str. */
    bool same = PyDict_CheckExact(dict) && PyTuple_Check(shape) &&
                has_names(dict, PyTuple_GET_ITEM(shape, 1));
    if (!same && (!PyDict_CheckExact(dict) || !has_str_keys(dict))) {
        Py_DECREF(dict);
        return enc_reduce(e, obj);
    }
    /* With a new shape the class comes first, and so does its number. */
    int memo = same || !shared ? 0 : MEMO;
    int known = !shared ? 0
                : same  ? enc_memo(e, obj, &memo)
                        : enc_known(e, obj);
    int rc = known < 0 ? -1 : 0;
    if (known == 0) {
        if (same) {
            uint32_t number =
                (uint32_t)PyLong_AsUnsignedLong(PyTuple_GET_ITEM(shape, 0));
            rc = enc_put(e, TAG_INSTANCE | memo, &number, sizeof(number));
        }
        else {
            rc = enc_new_shape(e, type, dict, memo);
            if (rc == 0 && memo != 0) {
                rc = enc_number(e, obj);
            }
        }
        Py_ssize_t count = PyDict_GET_SIZE(dict), at = 0, done = 0;
        PyObject *key, *value;
        while (rc == 0 && done < count &&
               PyDict_Next(dict, &at, &key, &value)) {
            done++;
            rc = enc_quick(e, value);
            if (rc > 0) {
                rc = 0;
                continue;
            }
            Py_INCREF(key);
            rc = rc < 0 ? -1 : enc_object(e, value);
            if (rc < 0) {
                enc_path(e, ".%U", key);
            }
            Py_DECREF(key);
        }
        if (rc == 0 && (done != count || PyDict_GET_SIZE(dict) != count)) {
            PyErr_SetString(PyExc_RuntimeError,
                            "an object changed while it was sent");
            rc = -1;
        }
    }
    Py_DECREF(dict);
    return rc;
}

/* ----------------------------------------------------------- registered types */

/* atoll.register: rebuild(reduce(obj)), as a call. */
static int
enc_registered(encoder *e, PyObject *obj, PyObject *pair)
{
    int known = enc_known(e, obj);
    if (known != 0) {
        return known < 0 ? -1 : 0;
    }
    enc_link(e);
    Py_INCREF(pair); /* the reducer may register another */
    PyObject *value = PyObject_CallOneArg(PyTuple_GET_ITEM(pair, 0), obj);
    uint8_t build = 0, one = 1;
    int rc = -1;
    if (value != NULL && enc_put(e, TAG_CALL | MEMO, &build, 1) == 0 &&
        enc_object(e, PyTuple_GET_ITEM(pair, 1)) == 0 &&
        enc_put(e, TAG_TUPLE8, &one, 1) == 0) {
        rc = enc_object(e, value);
        if (rc < 0) {
            enc_path(e, " (reduced)");
        }
        else {
            rc = enc_number_late(e, obj) < 0 ? -1 : 0;
        }
    }
    Py_XDECREF(value);
    Py_DECREF(pair);
    return rc;
}

/* (reduce, rebuild) of the type, borrowed, or NULL; an exception may be set. */
static PyObject *
registered(encoder *e, PyTypeObject *type)
{
    core_state *state = e->state;
    PyObject *pair =
        PyDict_GetItemWithError(state->reducers, (PyObject *)type);
    if (pair != NULL || PyErr_Occurred() || state->inherit == NULL ||
        (e->types != NULL && PyDict_Contains(e->types, (PyObject *)type))) {
        return pair;
    }
    /* Reducers that were registered where this interpreter was made are looked
     * up by name when the type is first met: atoll._registry. */
    PyObject *found =
        PyObject_CallOneArg(state->inherit, (PyObject *)type);
    Py_XDECREF(found); /* it is in the dict now, or None */
    return found == NULL || found == Py_None
               ? NULL
               : PyDict_GetItemWithError(state->reducers, (PyObject *)type);
}

/* A module is no value. But a function that goes by value may refer to one. */
static int
enc_module(encoder *e, PyObject *obj)
{
    if (e->by_value == 0) {
        return enc_refuse(e, obj);
    }
    PyObject *value = enc_call_cloudpickle(e->state, obj);
    if (value == NULL) {
        return enc_refuse(e, obj);
    }
    int known = enc_known(e, obj);
    int rc = known != 0                ? (known < 0 ? -1 : 0)
             : PyTuple_Check(value) ? enc_reduced(e, obj, value)
                                       : enc_refuse(e, obj);
    Py_DECREF(value);
    return rc;
}

/* ---------------------------------------------------------------- dispatch */

/* What is known of obj's class: Py_False (it reduces), Py_None (plain) or the
 * last shape of a plain one. Borrowed; NULL with an exception. */
static PyObject *
class_of(encoder *e, PyTypeObject *type)
{
    if (e->types == NULL && (e->types = PyDict_New()) == NULL) {
        return NULL;
    }
    PyObject *known = PyDict_GetItemWithError(e->types, (PyObject *)type);
    if (known != NULL || PyErr_Occurred()) {
        return known;
    }
    known = Py_False;
    if (is_plain_class(type) && !enc_is_corrected(type)) {
        PyObject *reducer = enc_reducer_of(e->state, type);
        if (PyErr_Occurred()) {
            return NULL;
        }
        known = reducer == NULL ? Py_None : Py_False;
        Py_XDECREF(reducer);
    }
    return PyDict_SetItem(e->types, (PyObject *)type, known) < 0 ? NULL
                                                                 : known;
}

int
enc_other(encoder *e, PyObject *obj)
{
    PyTypeObject *type = Py_TYPE(obj);
    if (type == e->last_type) {
        PyObject *shape = PyDict_GetItemWithError(e->types, (PyObject *)type);
        return shape == NULL ? -1 : enc_plain(e, obj, shape);
    }
    if (PyType_Check(obj) || PyFunction_Check(obj)) {
        return enc_global(e, obj);
    }
    if (PyModule_Check(obj)) {
        return enc_module(e, obj);
    }
    PyObject *pair = registered(e, type);
    if (pair != NULL || PyErr_Occurred()) {
        return pair == NULL ? -1 : enc_registered(e, obj, pair);
    }
    if (PyExceptionInstance_Check(obj)) {
        return enc_exception(e, obj);
    }
    PyObject *known = class_of(e, type);
    if (known == NULL) {
        return -1;
    }
    if (known == Py_False) {
        return enc_reduce(e, obj);
    }
    e->last_type = type;
    return enc_plain(e, obj, known);
}
