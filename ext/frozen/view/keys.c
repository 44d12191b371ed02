/* keys(), values() and items() of an atoll.DictView. See frozen/view/view.h. */
#include "frozen/view/view.h"

static int
keys_contain(PyObject *obj, PyObject *key)
{
    bool failed;
    PyObject *value = frozen_view_find((frozen_view *)obj, key, &failed);
    return failed ? -1 : value != NULL;
}

static int
items_contain(PyObject *obj, PyObject *pair)
{
    frozen_view *self = (frozen_view *)obj;
    if (!PyTuple_Check(pair) || PyTuple_GET_SIZE(pair) != 2) {
        return 0;
    }
    bool failed;
    PyObject *value = frozen_view_find(self, PyTuple_GET_ITEM(pair, 0), &failed);
    if (value == NULL) {
        return failed ? -1 : 0;
    }
    return frozen_view_equal(self->hold, value, PyTuple_GET_ITEM(pair, 1));
}

/* ------------------------------------------------------------------ as sets */

static bool
keys_is_own(const core_state *state, PyObject *obj)
{
    return Py_TYPE(obj) == state->frozen->view_types[VIEW_KEYS] ||
           Py_TYPE(obj) == state->frozen->view_types[VIEW_ITEMS];
}

/* Are all of `a` in `b`? 1, 0, -1 with an exception. */
static int
all_in(PyObject *a, PyObject *b)
{
    PyObject *iter = PyObject_GetIter(a), *item;
    int in = iter == NULL ? -1 : 1;
    while (in > 0 && (item = PyIter_Next(iter)) != NULL) {
        in = PySequence_Contains(b, item);
        Py_DECREF(item);
    }
    Py_XDECREF(iter);
    return in > 0 && PyErr_Occurred() ? -1 : in;
}

static PyObject *
set_compare(PyObject *a, PyObject *b, int op)
{
    frozen_view *self = (frozen_view *)a;
    if (!keys_is_own(self->hold->state, b) && !PyAnySet_Check(b) &&
        Py_TYPE(b) != &PyDictKeys_Type && Py_TYPE(b) != &PyDictItems_Type) {
        Py_RETURN_NOTIMPLEMENTED;
    }
    Py_ssize_t mine = self->count, others = PyObject_Size(b);
    if (others < 0) {
        return NULL;
    }
    /* Sets: a <= b says that all of a's are in b, and so on. */
    bool fits, contains = false; /* does `a` have to contain `b`? */
    switch (op) {
    case Py_LT:
        fits = mine < others;
        break;
    case Py_LE:
        fits = mine <= others;
        break;
    case Py_GT:
        fits = mine > others, contains = true;
        break;
    case Py_GE:
        fits = mine >= others, contains = true;
        break;
    default:
        fits = mine == others;
        break;
    }
    int in = 0;
    if (fits) {
        in = contains ? all_in(b, a) : all_in(a, b);
    }
    return in < 0 ? NULL : PyBool_FromLong(op == Py_NE ? !in : in);
}

/* What the method of a set of `a` gives for `b`. */
static PyObject *
keys_combine(PyObject *a, PyObject *b, const char *method)
{
    PyObject *set = PySet_New(a);
    PyObject *result = set == NULL ? NULL : PyObject_CallMethod(set, method, "O", b);
    Py_XDECREF(set);
    return result;
}

static PyObject *
set_and(PyObject *a, PyObject *b)
{
    return keys_combine(a, b, "intersection");
}

static PyObject *
set_or(PyObject *a, PyObject *b)
{
    return keys_combine(a, b, "union");
}

static PyObject *
set_xor(PyObject *a, PyObject *b)
{
    return keys_combine(a, b, "symmetric_difference");
}

static PyObject *
set_subtract(PyObject *a, PyObject *b)
{
    return keys_combine(a, b, "difference");
}

PyDoc_STRVAR(isdisjoint_doc,
"isdisjoint(other, /)\n--\n\nHas it nothing in common with that iterable? (bool)");

static PyObject *
set_isdisjoint(PyObject *self, PyObject *other)
{
    PyObject *iter = PyObject_GetIter(other), *item;
    int in = iter == NULL ? -1 : 0;
    while (in == 0 && (item = PyIter_Next(iter)) != NULL) {
        in = PySequence_Contains(self, item);
        Py_DECREF(item);
    }
    Py_XDECREF(iter);
    return in < 0 || PyErr_Occurred() ? NULL : PyBool_FromLong(!in);
}

/* --------------------------------------------------------------------- types */

static PyObject *
keys_repr(PyObject *obj)
{
    PyObject *list = PySequence_List(obj);
    PyObject *text =
        list == NULL ? NULL
                     : PyUnicode_FromFormat("<%s of %R>", Py_TYPE(obj)->tp_name, list);
    Py_XDECREF(list);
    return text;
}

static PyObject *
keys_mapping(PyObject *self, void *Py_UNUSED(closure))
{
    return frozen_view_as((frozen_view *)self, VIEW_DICT);
}

static PyGetSetDef keys_getset[] = {
    {"mapping", keys_mapping, NULL, "The DictView that it is of.", NULL},
    {NULL, NULL, NULL, NULL, NULL},
};

static PyMethodDef set_methods[] = {
    {"isdisjoint", set_isdisjoint, METH_O, isdisjoint_doc},
    {"__reversed__", frozen_view_reversed, METH_NOARGS, NULL},
    {NULL, NULL, 0, NULL},
};

static PyMethodDef values_methods[] = {
    {"__reversed__", frozen_view_reversed, METH_NOARGS, NULL},
    {NULL, NULL, 0, NULL},
};

#define COMMON_SLOTS                                                        \
    {Py_tp_dealloc, frozen_view_dealloc}, {Py_tp_repr, keys_repr},          \
        {Py_tp_iter, frozen_view_iter}, {Py_sq_length, frozen_view_length}, \
        {Py_tp_members, frozen_view_members},                               \
    {                                                                       \
        Py_tp_getset, keys_getset                                           \
    }

#define SET_SLOTS                                                       \
    COMMON_SLOTS, {Py_tp_hash, PyObject_HashNotImplemented},            \
        {Py_tp_richcompare, set_compare}, {Py_tp_methods, set_methods}, \
        {Py_nb_and, set_and}, {Py_nb_or, set_or}, {Py_nb_xor, set_xor}, \
    {                                                                   \
        Py_nb_subtract, set_subtract                                    \
    }

static PyType_Slot keys_slots[] = {
    SET_SLOTS,
    {Py_sq_contains, keys_contain},
    {0, NULL},
};

static PyType_Slot items_slots[] = {
    SET_SLOTS,
    {Py_sq_contains, items_contain},
    {0, NULL},
};

static PyType_Slot values_slots[] = {
    COMMON_SLOTS,
    {Py_tp_methods, values_methods},
    {0, NULL},
};

#define KEYS_SPEC(name_, slots_)                                 \
    {                                                            \
        .name = name_,                                           \
        .basicsize = sizeof(frozen_view),                        \
        .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_IMMUTABLETYPE | \
                 Py_TPFLAGS_DISALLOW_INSTANTIATION,              \
        .slots = slots_,                                         \
    }

PyType_Spec frozen_keys_spec = KEYS_SPEC("atoll.DictViewKeys", keys_slots);
PyType_Spec frozen_values_spec = KEYS_SPEC("atoll.DictViewValues", values_slots);
PyType_Spec frozen_items_spec = KEYS_SPEC("atoll.DictViewItems", items_slots);
