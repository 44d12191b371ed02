/* atoll.SequenceView: a tuple of a frozen graph, or what was a list. See
 * frozen/view/view.h. */
#include "frozen/view/view.h"

static PyObject *
sequence_item(PyObject *obj, Py_ssize_t at)
{
    frozen_view *self = (frozen_view *)obj;
    if (at < 0 || at >= self->count) {
        PyErr_SetString(PyExc_IndexError, "index out of range");
        return NULL;
    }
    return frozen_view_part(self->hold, self->items[at]);
}

/* A tuple of parts. */
static PyObject *
part_of(frozen_view *self, Py_ssize_t start, Py_ssize_t step, Py_ssize_t count)
{
    PyObject *tuple = PyTuple_New(count);
    for (Py_ssize_t i = 0; i < count && tuple != NULL; i++) {
        PyObject *item = frozen_view_part(self->hold, self->items[start + i * step]);
        if (item == NULL) {
            Py_CLEAR(tuple);
        }
        else {
            PyTuple_SET_ITEM(tuple, i, item);
        }
    }
    return tuple;
}

PyObject *
frozen_view_tuple(frozen_view *self)
{
    return part_of(self, 0, 1, self->count);
}

static PyObject *
sequence_subscript(PyObject *obj, PyObject *index)
{
    frozen_view *self = (frozen_view *)obj;
    if (PySlice_Check(index)) {
        Py_ssize_t start, stop, step;
        if (PySlice_Unpack(index, &start, &stop, &step) < 0) {
            return NULL;
        }
        Py_ssize_t count = PySlice_AdjustIndices(self->count, &start, &stop, step);
        return part_of(self, start, step, count);
    }
    if (!PyIndex_Check(index)) {
        return PyErr_Format(PyExc_TypeError,
                            "indices must be integers or slices, not %T", index);
    }
    Py_ssize_t at = PyNumber_AsSsize_t(index, PyExc_IndexError);
    if (at == -1 && PyErr_Occurred()) {
        return NULL;
    }
    return sequence_item(obj, at < 0 ? at + self->count : at);
}

/* The first one that is equal, from `start` on and before `stop`; `stop`: there
 * is none; -1 with an exception. */
static Py_ssize_t
sequence_find(frozen_view *self, PyObject *value, Py_ssize_t start, Py_ssize_t stop)
{
    for (Py_ssize_t i = start; i < stop; i++) {
        int equal = frozen_view_equal(self->hold, self->items[i], value);
        if (equal != 0) {
            return equal < 0 ? -1 : i;
        }
    }
    return stop;
}

static int
sequence_contains(PyObject *obj, PyObject *value)
{
    frozen_view *self = (frozen_view *)obj;
    Py_ssize_t at = sequence_find(self, value, 0, self->count);
    return at < 0 ? -1 : at < self->count;
}

PyDoc_STRVAR(index_doc,
"index(value, start=0, stop=..., /)\n--\n\n"
"The index (int) of the first item that is equal. Raises ValueError: there is none.");

static PyObject *
sequence_index(PyObject *obj, PyObject *const *args, Py_ssize_t nargs)
{
    frozen_view *self = (frozen_view *)obj;
    Py_ssize_t range[2] = {0, self->count};
    if (nargs < 1 || nargs > 3) {
        return PyErr_Format(PyExc_TypeError,
                            "index() takes from 1 to 3 arguments (%zd given)", nargs);
    }
    for (int i = 0; i < nargs - 1; i++) {
        Py_ssize_t at = PyNumber_AsSsize_t(args[i + 1], NULL);
        if (at == -1 && PyErr_Occurred()) {
            return NULL;
        }
        at = at < 0 ? at + self->count : at;
        range[i] = at < 0 ? 0 : at > self->count ? self->count : at;
    }
    Py_ssize_t at = range[0] < range[1]
                        ? sequence_find(self, args[0], range[0], range[1])
                        : range[1];
    if (at == range[1]) {
        PyErr_SetString(PyExc_ValueError, "the value is not in the view");
        return NULL;
    }
    return at < 0 ? NULL : PyLong_FromSsize_t(at);
}

PyDoc_STRVAR(count_doc,
"count(value, /)\n--\n\nHow many items (int) are equal to `value`.");

static PyObject *
sequence_count(PyObject *obj, PyObject *value)
{
    frozen_view *self = (frozen_view *)obj;
    Py_ssize_t count = 0;
    for (Py_ssize_t i = 0; i < self->count; i++) {
        int equal = frozen_view_equal(self->hold, self->items[i], value);
        if (equal < 0) {
            return NULL;
        }
        count += equal;
    }
    return PyLong_FromSsize_t(count);
}

/* Item by item; code of the user's may change `b`, a list. */
static PyObject *
compare_items(frozen_view *self, PyObject *b, int op)
{
    for (Py_ssize_t i = 0; i < self->count && i < Py_SIZE(b); i++) {
        PyObject *item = Py_NewRef(PySequence_Fast_GET_ITEM(b, i));
        int equal = frozen_view_equal(self->hold, self->items[i], item);
        if (equal > 0) {
            Py_DECREF(item);
            continue;
        }
        PyObject *result = NULL;
        if (equal == 0 && (op == Py_EQ || op == Py_NE)) {
            result = PyBool_FromLong(op == Py_NE);
        }
        else if (equal == 0) {
            PyObject *mine = frozen_view_part(self->hold, self->items[i]);
            result = mine == NULL ? NULL : PyObject_RichCompare(mine, item, op);
            Py_XDECREF(mine);
        }
        Py_DECREF(item);
        return result;
    }
    Py_RETURN_RICHCOMPARE(self->count, Py_SIZE(b), op);
}

static PyObject *
sequence_compare(PyObject *a, PyObject *b, int op)
{
    frozen_view *self = (frozen_view *)a;
    if (Py_TYPE(a) == Py_TYPE(b)) {
        frozen_view *other = (frozen_view *)b;
        if (frozen_view_is_native(self) && frozen_view_is_native(other)) {
            return PyObject_RichCompare(self->obj, other->obj, op);
        }
        PyObject *parts = frozen_view_tuple(other);
        PyObject *result = parts == NULL ? NULL : sequence_compare(a, parts, op);
        Py_XDECREF(parts);
        return result;
    }
    if (!PyTuple_Check(b) && !PyList_Check(b)) {
        Py_RETURN_NOTIMPLEMENTED;
    }
    if ((op == Py_EQ || op == Py_NE) && self->count != Py_SIZE(b)) {
        return PyBool_FromLong(op == Py_NE);
    }
    return compare_items(self, b, op);
}

/* A tuple, or NULL: it cannot be added, or an exception. */
static PyObject *
as_tuple(PyObject *obj, PyTypeObject *view)
{
    if (Py_TYPE(obj) == view) {
        return frozen_view_tuple((frozen_view *)obj);
    }
    return PyTuple_Check(obj) ? Py_NewRef(obj) : NULL;
}

static PyObject *
sequence_add(PyObject *a, PyObject *b)
{
    /* One of them is a view, or both are. */
    const PyNumberMethods *number = Py_TYPE(a)->tp_as_number;
    bool left = number != NULL && number->nb_add == sequence_add;
    PyTypeObject *view = Py_TYPE(left ? a : b);
    PyObject *result = NULL, *second = NULL, *first = as_tuple(a, view);
    if (first != NULL) {
        second = as_tuple(b, view);
    }
    if (second != NULL) {
        result = PySequence_Concat(first, second);
    }
    else if (!PyErr_Occurred()) {
        result = Py_NewRef(Py_NotImplemented);
    }
    Py_XDECREF(first);
    Py_XDECREF(second);
    return result;
}

PyDoc_STRVAR(sequence_doc,
"A view of a tuple, or of what was a list, in a frozen graph; view() of an\n"
"atoll.Frozen, and views, give it. It behaves as a tuple: equal to, and ordered\n"
"with, tuples, lists and other views; with the hash of the equal tuple. Items are\n"
"copies, or views if they have parts. A slice, and a sum, is a tuple of them.\n"
"The graph stays as long as any view of it. Pickled or copied deeply it is an\n"
"ordinary list or tuple, as by atoll.thaw().");

static PyMethodDef sequence_methods[] = {
    {"index", (PyCFunction)(void (*)(void))sequence_index, METH_FASTCALL, index_doc},
    {"count", sequence_count, METH_O, count_doc},
    FROZEN_VIEW_COPIES,
    {NULL, NULL, 0, NULL},
};

static PyType_Slot sequence_slots[] = {
    {Py_tp_dealloc, frozen_view_dealloc},
    {Py_tp_repr, frozen_view_repr},
    {Py_tp_hash, frozen_view_hash},
    {Py_tp_richcompare, sequence_compare},
    {Py_tp_iter, frozen_view_iter},
    {Py_tp_methods, sequence_methods},
    {Py_tp_members, frozen_view_members},
    {Py_tp_doc, (void *)sequence_doc},
    {Py_sq_length, frozen_view_length},
    {Py_sq_item, sequence_item},
    {Py_sq_contains, sequence_contains},
    {Py_mp_length, frozen_view_length},
    {Py_mp_subscript, sequence_subscript},
    {Py_nb_add, sequence_add},
    {0, NULL},
};

PyType_Spec frozen_sequence_spec = {
    .name = "atoll.SequenceView",
    .basicsize = sizeof(frozen_view),
    .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_IMMUTABLETYPE |
             Py_TPFLAGS_DISALLOW_INSTANTIATION | Py_TPFLAGS_SEQUENCE,
    .slots = sequence_slots,
};
