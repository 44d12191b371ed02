/* Encoding objects that are not built in: what kind each is, and instances of
 * ordinary classes. */
#include "cpython/version.h"
#include "wire/encode/encoder.h"

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

/* The values beside an instance, as long as it is of this class. */
static inline layout_values *
values_of(const encoder *e, PyObject *obj, PyTypeObject *type)
{
    return Py_TYPE(obj) == type ? layout_values_of(e->state, obj) : NULL;
}

/* The name of its i-th attribute. */
static inline PyObject *
name_at(PyTypeObject *type, layout_values *values, Py_ssize_t i)
{
    uint8_t slot = layout_order(values)[i];
    return layout_entries(layout_cached_keys(type))[slot].key;
}

static bool
enc_has_str_keys(PyObject *dict)
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

static int
enc_raise_changed(void)
{
    PyErr_SetString(PyExc_RuntimeError, "an object changed while it was sent");
    return -1;
}

/* Note the order of an instance's values, which is that of a shape. */
static void
note_order(encoder *e, PyTypeObject *type, uint32_t number, layout_values *values)
{
    e->order_type = type;
    e->order_number = number;
    e->order_count = values->used;
    memcpy(e->order, layout_order(values), values->used);
}

/* The names of an instance's attributes, in their order: those of the next
 * shape. */
static PyObject *
attribute_names(encoder *e, PyObject *obj, PyTypeObject *type)
{
    e->order_type = NULL;
    layout_values *values = values_of(e, obj, type);
    if (values != NULL) {
        note_order(e, type, e->shapes, values);
        PyObject *names = PyTuple_New(values->used);
        for (Py_ssize_t i = 0; names != NULL && i < values->used; i++) {
            PyTuple_SET_ITEM(names, i, Py_NewRef(name_at(type, values, i)));
        }
        return names;
    }
    PyObject *dict = PyObject_GenericGetDict(obj, NULL), *names = NULL;
    if (dict != NULL && (!PyDict_CheckExact(dict) || !enc_has_str_keys(dict))) {
        enc_raise_changed();
    }
    else if (dict != NULL) {
        PyObject *list = PyDict_Keys(dict);
        names = list == NULL ? NULL : PyList_AsTuple(list);
        Py_XDECREF(list);
    }
    Py_XDECREF(dict);
    return names;
}

/* shape: what e->types holds for a plain class: (number, names) of its last
 * instance. Instances with other names get another shape. Returns how many
 * names the new one has, or -1. */
static Py_ssize_t
enc_new_shape(encoder *e, PyTypeObject *type, PyObject *obj, int memo)
{
    /* The class first: if it goes by value it may bring shapes of its own. */
    if (enc_tag(e, TAG_SHAPE | memo) < 0 || enc_global(e, (PyObject *)type) < 0) {
        return -1;
    }
    PyObject *names = attribute_names(e, obj, type);
    if (names == NULL) {
        return -1;
    }
    uint32_t count = (uint32_t)PyTuple_GET_SIZE(names), number = e->shapes++;
    PyObject *shape = Py_BuildValue("IO", (unsigned)number, names);
    int rc =
        shape == NULL || PyDict_SetItem(e->types, (PyObject *)type, shape) < 0 ? -1 : 0;
    unsigned char *to = rc < 0 ? NULL : enc_reserve(e, sizeof(count));
    if (to != NULL) {
        memcpy(to, &count, sizeof(count));
    }
    rc = to == NULL ? -1 : 0;
    for (Py_ssize_t i = 0; i < (Py_ssize_t)count && rc == 0; i++) {
        PyObject *name = PyTuple_GET_ITEM(names, i);
        int name_memo = 0, known = enc_memo(e, name, &name_memo);
        rc = known < 0 || (known == 0 && enc_str(e, name, name_memo) < 0) ? -1 : 0;
    }
    Py_XDECREF(shape);
    Py_DECREF(names);
    return rc < 0 ? -1 : (Py_ssize_t)count;
}

/* Do the attributes, which are in `values` or else in `dict`, have these names,
 * by identity and in this order? */
static bool
has_names(PyTypeObject *type, layout_values *values, PyObject *dict, PyObject *names)
{
    Py_ssize_t count = PyTuple_GET_SIZE(names), at = 0, i = 0;
    PyObject *key;
    if (values != NULL) {
        while (i < count && values->used == count &&
               name_at(type, values, i) == PyTuple_GET_ITEM(names, i)) {
            i++;
        }
        return i == count && values->used == count;
    }
    if (PyDict_GET_SIZE(dict) != count) {
        return false;
    }
    while (PyDict_Next(dict, &at, &key, NULL)) {
        if (key != PyTuple_GET_ITEM(names, i++)) {
            return false;
        }
    }
    return true;
}

static int
enc_attribute(encoder *e, PyObject *name, PyObject *value)
{
    Py_INCREF(name);
    int rc = enc_compound(e, value); /* which holds it */
    if (rc < 0) {
        enc_path(e, ".%U", name);
    }
    Py_DECREF(name);
    return rc;
}

/* The values in the dict, but for the first `from`. */
static int
enc_dict_values(encoder *e, PyObject *obj, Py_ssize_t from, Py_ssize_t count)
{
    PyObject *dict = PyObject_GenericGetDict(obj, NULL), *name, *value;
    Py_ssize_t at = 0, i = 0;
    if (dict == NULL) {
        return -1;
    }
    int rc = 0;
    while (rc == 0 && i < count && layout_next(e->state, dict, &at, &name, &value)) {
        if (i++ >= from) {
            int done = enc_quick(e, value);
            rc = done > 0 ? 0 : done < 0 ? -1 : enc_attribute(e, name, value);
        }
    }
    if (rc == 0 && (i != count || PyDict_GET_SIZE(dict) != count)) {
        rc = enc_raise_changed();
    }
    Py_DECREF(dict);
    return rc;
}

/* The values beside an instance from the i-th on, up to one that is no atom.
 * Returns the index of that, or `count`; -1 with an exception. Nothing changes
 * meanwhile. */
static inline Py_ssize_t
enc_atoms(encoder *e, layout_values *values, Py_ssize_t i, Py_ssize_t count)
{
    const uint8_t *order = layout_order(values);
    unsigned char *at = e->at;
    int done = 1;
    while (i < count && (done = enc_quick_at(e, &at, values->values[order[i]])) > 0) {
        i++;
    }
    e->at = at;
    return done < 0 ? -1 : i;
}

/* The values beside an instance from the i-th on, and from where it has a dict
 * with values of its own those: code of a value's may change it. */
static int
enc_values(encoder *e, PyObject *obj, PyTypeObject *type, layout_values *values,
           Py_ssize_t i, Py_ssize_t count)
{
    while (values != NULL) {
        if (values->used != count) {
            return enc_raise_changed();
        }
        i = enc_atoms(e, values, i, count);
        if (i < 0 || i == count) {
            return i < 0 ? -1 : 0;
        }
        PyObject *value = values->values[layout_order(values)[i]];
        if (enc_attribute(e, name_at(type, values, i), value) < 0) {
            return -1;
        }
        i++;
        values = values_of(e, obj, type);
    }
    return enc_dict_values(e, obj, i, count);
}

/* `shape` is borrowed: it is used before any code can run. */
static int
enc_plain(encoder *e, PyObject *obj, PyObject *shape)
{
    PyTypeObject *type = Py_TYPE(obj);
    bool shared = e->shared;
    layout_values *values = values_of(e, obj, type);
    PyObject *dict = NULL;
    if (values == NULL && (dict = PyObject_GenericGetDict(obj, NULL)) == NULL) {
        return -1;
    }
    /* The names of a shape are str, and so are those beside an instance. */
    bool exact = values != NULL || PyDict_CheckExact(dict);
    bool same = exact && PyTuple_Check(shape) &&
                has_names(type, values, dict, PyTuple_GET_ITEM(shape, 1));
    bool reduce = !exact || (!same && values == NULL && !enc_has_str_keys(dict));
    Py_XDECREF(dict);
    if (reduce) {
        return enc_reduce(e, obj);
    }
    if (same) {
        uint32_t number = (uint32_t)PyLong_AsUnsignedLong(PyTuple_GET_ITEM(shape, 0));
        Py_ssize_t count = PyTuple_GET_SIZE(PyTuple_GET_ITEM(shape, 1));
        if (values != NULL) {
            note_order(e, type, number, values);
        }
        int memo = 0, known = shared ? enc_memo(e, obj, &memo) : 0;
        if (known != 0) {
            return known < 0 ? -1 : 0;
        }
        return enc_put(e, TAG_INSTANCE | memo, &number, sizeof(number)) < 0
                   ? -1
                   : enc_values(e, obj, type, values, 0, count);
    }
    /* With a new shape the class comes first, and so does its number. */
    int known = shared ? enc_known(e, obj) : 0;
    if (known != 0) {
        return known < 0 ? -1 : 0;
    }
    Py_ssize_t count = enc_new_shape(e, type, obj, shared ? MEMO : 0);
    if (count < 0 || (shared && enc_number(e, obj) < 0)) {
        return -1;
    }
    return enc_values(e, obj, type, values_of(e, obj, type), 0, count);
}

/* Does an instance with these values have the attributes of the last one? */
static inline bool
has_last_order(const encoder *e, layout_values *values)
{
    const uint8_t *order = layout_order(values);
    Py_ssize_t count = e->order_count, i = 0;
    if (values->used != count) {
        return false;
    }
    while (i < count && order[i] == e->order[i]) {
        i++; /* too few for memcmp() to be worth its call */
    }
    return i == count;
}

/* Entered when it comes to the first value that is no atom. */
int
enc_again(encoder *e, PyObject *obj)
{
    layout_values *values = layout_values_of(e->state, obj);
    if (values == NULL || !has_last_order(e, values)) {
        return 0;
    }
    uint32_t number = e->order_number;
    int memo = 0, known = enc_memo(e, obj, &memo);
    if (known != 0) {
        return known;
    }
    if (enc_put(e, TAG_INSTANCE | memo, &number, sizeof(number)) < 0) {
        return -1;
    }
    Py_ssize_t count = values->used, i = enc_atoms(e, values, 0, count);
    if (i < 0 || i == count) {
        return i < 0 ? -1 : 1;
    }
    if (enc_enter() < 0) {
        return -1;
    }
    Py_INCREF(obj); /* as in enc_compound() */
    int rc = enc_values(e, obj, Py_TYPE(obj), values, i, count);
    Py_DECREF(obj);
    Py_LeaveRecursiveCall();
    return rc < 0 ? -1 : 1;
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
enc_registered_reducer(encoder *e, PyTypeObject *type)
{
    core_state *state = e->state;
    PyObject *pair = PyDict_GetItemWithError(state->wire->reducers, (PyObject *)type);
    if (pair != NULL || PyErr_Occurred() || state->wire->inherit == NULL ||
        (e->types != NULL && PyDict_Contains(e->types, (PyObject *)type))) {
        return pair;
    }
    /* Reducers that were registered where this interpreter was made are looked
     * up by name when the type is first met: atoll._cross.registry. */
    PyObject *found = PyObject_CallOneArg(state->wire->inherit, (PyObject *)type);
    Py_XDECREF(found); /* it is in the dict now, or None */
    return found == NULL || found == Py_None
               ? NULL
               : PyDict_GetItemWithError(state->wire->reducers, (PyObject *)type);
}

/* A module is that of the receiver, unless it was made by code. That of the built-in
 * functions is no value: who sends it has sent a namespace, of globals() say, which is
 * its interpreter's own. */
static int
enc_module(encoder *e, PyObject *obj)
{
    const char *name = e->by_value > 0 ? NULL : PyModule_GetName(obj);
    if (name != NULL && strcmp(name, "builtins") == 0) {
        return enc_refuse(e, obj);
    }
    PyErr_Clear(); /* it has no name */
    PyObject *value = enc_call_cloudpickle(e->state, obj);
    if (value == NULL) {
        return enc_refuse(e, obj);
    }
    int known = enc_known(e, obj);
    int rc = known != 0             ? (known < 0 ? -1 : 0)
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
    return PyDict_SetItem(e->types, (PyObject *)type, known) < 0 ? NULL : known;
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
    PyObject *pair = enc_registered_reducer(e, type);
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
