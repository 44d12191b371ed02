/* atoll.DictView: what was a dict, in a frozen graph. See frozen/view/view.h. */
#include "frozen/view/view.h"

/* ------------------------------------------------------------------- lookup */

/* Enter the key at `at`. -1 with an exception. */
static int
mapping_enter(frozen_view *self, frozen_index *index, Py_ssize_t at)
{
    PyObject *key = frozen_view_part(self->hold, self->items[at]);
    Py_hash_t hash = key == NULL ? -1 : PyObject_Hash(key);
    Py_XDECREF(key);
    size_t i = (size_t)hash & index->mask;
    while (index->places[i].at >= 0) {
        i = (i + 1) & index->mask;
    }
    index->places[i].hash = hash;
    index->places[i].at = at;
    return hash == -1 ? -1 : 0;
}

/* The index of a mold, which has none of its own: made once for all views of a
 * hold. Borrowed; NULL with an exception. */
static frozen_index *
mapping_index_of(frozen_view *self)
{
    frozen_map *indexes = &self->hold->indexes;
    frozen_index *index = frozen_map_get(indexes, self->obj);
    if (index != NULL) {
        return index;
    }
    size_t room = 8;
    while (room < 2 * (size_t)self->count) {
        room *= 2;
    }
    index = atoll_alloc(sizeof(*index) + room * sizeof(index->places[0]));
    if (index == NULL) {
        PyErr_NoMemory();
        return NULL;
    }
    memset(index->places, 0xff, room * sizeof(index->places[0]));
    index->mask = room - 1;
    for (Py_ssize_t i = 0; i < self->count; i++) {
        if (mapping_enter(self, index, 2 * i) < 0) {
            atoll_free(index);
            return NULL;
        }
    }
    /* Code of the user's has run, and may have made one. */
    frozen_index *other = frozen_map_get(indexes, self->obj);
    if (other != NULL || frozen_map_set(indexes, self->obj, index) < 0) {
        atoll_free(index);
        return other;
    }
    return index;
}

static PyObject *
find_in_mold(frozen_view *self, PyObject *key, Py_hash_t hash, bool *failed)
{
    const frozen_index *index = mapping_index_of(self);
    *failed = index == NULL;
    for (size_t i = (size_t)hash; index != NULL; i++) {
        const struct frozen_place *place = &index->places[i & index->mask];
        if (place->at < 0) {
            return NULL;
        }
        if (place->hash == hash) {
            PyObject *const *pair = &self->items[place->at];
            int equal = frozen_view_equal(self->hold, pair[0], key);
            if (equal != 0) {
                *failed = equal < 0;
                return equal < 0 ? NULL : pair[1];
            }
        }
    }
    return NULL;
}

PyObject *
frozen_view_find(frozen_view *self, PyObject *key, bool *failed)
{
    Py_hash_t hash = PyObject_Hash(key);
    *failed = hash == -1;
    if (hash == -1) {
        return NULL;
    }
    if (!frozen_view_is_native(self)) {
        return find_in_mold(self, key, hash, failed);
    }
    frozen_probe probe = frozen_probe_begin(self->obj, hash);
    PyObject *const *pair;
    while ((pair = frozen_probe_next(&probe)) != NULL) {
        int equal = frozen_view_equal(self->hold, pair[0], key);
        if (equal != 0) {
            *failed = equal < 0;
            return equal < 0 ? NULL : pair[1];
        }
    }
    return NULL;
}

static PyObject *
dict_subscript(PyObject *obj, PyObject *key)
{
    frozen_view *self = (frozen_view *)obj;
    bool failed;
    PyObject *value = frozen_view_find(self, key, &failed);
    if (value != NULL) {
        return frozen_view_part(self->hold, value);
    }
    if (!failed) { /* a tuple would become several arguments */
        PyObject *args = PyTuple_Pack(1, key);
        if (args != NULL) {
            PyErr_SetObject(PyExc_KeyError, args);
            Py_DECREF(args);
        }
    }
    return NULL;
}

static int
dict_contains(PyObject *obj, PyObject *key)
{
    bool failed;
    PyObject *value = frozen_view_find((frozen_view *)obj, key, &failed);
    return failed ? -1 : value != NULL;
}

PyDoc_STRVAR(get_doc,
"get(key, default=None, /)\n--\n\n"
"The value of `key`: a copy, or a view; `default` if there is none.");

static PyObject *
dict_get(PyObject *obj, PyObject *const *args, Py_ssize_t nargs)
{
    frozen_view *self = (frozen_view *)obj;
    if (nargs < 1 || nargs > 2) {
        return PyErr_Format(PyExc_TypeError, "get() takes 1 or 2 arguments (%zd given)",
                            nargs);
    }
    bool failed;
    PyObject *value = frozen_view_find(self, args[0], &failed);
    return value != NULL ? frozen_view_part(self->hold, value)
           : failed      ? NULL
                         : Py_NewRef(nargs == 2 ? args[1] : Py_None);
}

static PyObject *
dict_keys(PyObject *self, PyObject *Py_UNUSED(ignored))
{
    return frozen_view_as((frozen_view *)self, VIEW_KEYS);
}

static PyObject *
dict_values(PyObject *self, PyObject *Py_UNUSED(ignored))
{
    return frozen_view_as((frozen_view *)self, VIEW_VALUES);
}

static PyObject *
dict_items(PyObject *self, PyObject *Py_UNUSED(ignored))
{
    return frozen_view_as((frozen_view *)self, VIEW_ITEMS);
}

/* -------------------------------------------------------------- comparison */

static bool
is_dict(PyObject *obj)
{
#ifdef COMPAT_FROZENDICT
    return PyAnyDict_Check(obj);
#else
    return PyDict_Check(obj);
#endif
}

/* Has `other` an equal value for this key? 1, 0, -1 with an exception. */
static int
has_equal(view_hold *hold, PyObject *const *pair, PyObject *other)
{
    PyObject *key = frozen_view_part(hold, pair[0]), *value;
    if (key == NULL) {
        return -1;
    }
    int found = PyDict_GetItemRef(other, key, &value);
    Py_DECREF(key);
    if (found > 0) {
        found = frozen_view_equal(hold, pair[1], value);
        Py_DECREF(value);
    }
    return found;
}

static PyObject *
dict_compare(PyObject *a, PyObject *b, int op)
{
    frozen_view *self = (frozen_view *)a;
    if (op != Py_EQ && op != Py_NE) {
        Py_RETURN_NOTIMPLEMENTED;
    }
    if (Py_TYPE(a) == Py_TYPE(b)) {
        frozen_view *other = (frozen_view *)b;
        if (frozen_view_is_native(self) && frozen_view_is_native(other)) {
            return PyObject_RichCompare(self->obj, other->obj, op);
        }
        PyObject *parts = frozen_view_dict(other);
        PyObject *result = parts == NULL ? NULL : dict_compare(a, parts, op);
        Py_XDECREF(parts);
        return result;
    }
    if (!is_dict(b)) {
        Py_RETURN_NOTIMPLEMENTED; /* Mapping.__eq__ is enough for others */
    }
    int equal = PyDict_Size(b) == self->count;
    for (Py_ssize_t i = 0; i < self->count && equal > 0; i++) {
        equal = has_equal(self->hold, self->items + i * self->stride, b);
    }
    return equal < 0 ? NULL : PyBool_FromLong(equal == (op == Py_EQ));
}

/* -------------------------------------------------------------------- union */

static PyObject *dict_or(PyObject *a, PyObject *b);

static bool
is_view(PyObject *obj)
{
    const PyNumberMethods *number = Py_TYPE(obj)->tp_as_number;
    return number != NULL && number->nb_or == dict_or;
}

PyObject *
frozen_view_dict(frozen_view *self)
{
    PyObject *dict = compat_dict_presized(self->count);
    for (Py_ssize_t i = 0; i < self->count && dict != NULL; i++) {
        PyObject *const *pair = self->items + i * self->stride;
        PyObject *value = NULL, *key = frozen_view_part(self->hold, pair[0]);
        if (key != NULL) {
            value = frozen_view_part(self->hold, pair[1]);
        }
        if (value == NULL || PyDict_SetItem(dict, key, value) < 0) {
            Py_CLEAR(dict);
        }
        Py_XDECREF(key);
        Py_XDECREF(value);
    }
    return dict;
}

/* A new dict. */
static PyObject *
as_dict(PyObject *obj)
{
    if (is_view(obj)) {
        return frozen_view_dict((frozen_view *)obj);
    }
    PyObject *dict = PyDict_New();
    if (dict != NULL && PyDict_Update(dict, obj) < 0) {
        Py_CLEAR(dict);
    }
    return dict;
}

static PyObject *
dict_or(PyObject *a, PyObject *b)
{
    bool good = true;
    PyObject *const both[] = {a, b};
    for (int i = 0; i < 2; i++) {
        good = good && (is_view(both[i]) || is_dict(both[i]) ||
                        Py_TYPE(both[i]) == &PyDictProxy_Type);
    }
    if (!good) {
        Py_RETURN_NOTIMPLEMENTED;
    }
    PyObject *result = as_dict(a), *more = NULL;
    if (result != NULL) {
        more = as_dict(b);
        if (more == NULL || PyDict_Update(result, more) < 0) {
            Py_CLEAR(result);
        }
    }
    Py_XDECREF(more);
    return result;
}

static Py_hash_t
dict_hash(PyObject *self)
{
#ifdef COMPAT_FROZENDICT
    return frozen_view_hash(self); /* it is equal to a frozendict */
#else
    return PyObject_HashNotImplemented(self);
#endif
}

/* -------------------------------------------------------------------- type */

PyDoc_STRVAR(dict_doc,
"A view of what was a dict in a frozen graph; view() of an atoll.Frozen, and\n"
"views, give it. It behaves as a read-only dict, and is equal to dicts and other\n"
"mappings. Keys and values are copies, or views if they have parts. `|` gives a\n"
"dict of them. The graph stays as long as any view of it. Pickled or copied deeply\n"
"it is an ordinary dict, as by atoll.thaw().");

PyDoc_STRVAR(keys_doc,
"keys()\n--\n\nA view of the keys, which behaves as a set.");
PyDoc_STRVAR(values_doc,
"values()\n--\n\nA view of the values.");
PyDoc_STRVAR(items_doc,
"items()\n--\n\nA view of the pairs (tuples of two), which behaves as a set.");

static PyMethodDef dict_methods[] = {
    {"get", (PyCFunction)(void (*)(void))dict_get, METH_FASTCALL, get_doc},
    {"keys", dict_keys, METH_NOARGS, keys_doc},
    {"values", dict_values, METH_NOARGS, values_doc},
    {"items", dict_items, METH_NOARGS, items_doc},
    FROZEN_VIEW_COPIES,
    {NULL, NULL, 0, NULL},
};

static PyType_Slot dict_slots[] = {
    {Py_tp_dealloc, frozen_view_dealloc},
    {Py_tp_repr, frozen_view_repr},
    {Py_tp_hash, dict_hash},
    {Py_tp_richcompare, dict_compare},
    {Py_tp_iter, frozen_view_iter},
    {Py_tp_methods, dict_methods},
    {Py_tp_members, frozen_view_members},
    {Py_tp_doc, (void *)dict_doc},
    {Py_sq_contains, dict_contains},
    {Py_mp_length, frozen_view_length},
    {Py_mp_subscript, dict_subscript},
    {Py_nb_or, dict_or},
    {0, NULL},
};

PyType_Spec frozen_dict_spec = {
    .name = "atoll.DictView",
    .basicsize = sizeof(frozen_view),
    .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_IMMUTABLETYPE |
             Py_TPFLAGS_DISALLOW_INSTANTIATION | Py_TPFLAGS_MAPPING,
    .slots = dict_slots,
};
