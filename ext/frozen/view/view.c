/* What all views of frozen graphs have in common. See frozen/view/view.h. */
#include "frozen/view/view.h"

#include "cpython/version.h"
#include "wire/kind.h"

/* ------------------------------------------------------------------- holds */

static void
view_let_go(view_hold *hold)
{
    if (--hold->count == 0) {
        for (size_t i = 0; hold->indexes.used > 0 && i <= hold->indexes.mask; i++) {
            atoll_free(hold->indexes.links[i].to);
        }
        frozen_map_fini(&hold->indexes);
        frozen_unref(hold->graph);
        atoll_free(hold);
        frozen_sweep();
    }
}

static PyTypeObject *
type_for(const core_state *state, int type)
{
    PyTypeObject *found = state->frozen->view_types[type];
    if (found == NULL) {
        PyErr_SetString(PyExc_RuntimeError, "the interpreter is ending");
    }
    return found;
}

static PyObject *
new_view(view_hold *hold, int type, PyObject *obj, PyObject *const *items,
         Py_ssize_t count, int stride)
{
    PyTypeObject *class = type_for(hold->state, type);
    frozen_view *self = class == NULL ? NULL : PyObject_New(frozen_view, class);
    if (self != NULL) {
        hold->count++;
        self->hold = hold;
        self->obj = obj;
        self->items = items;
        self->count = count;
        self->stride = stride;
        self->weakrefs = NULL;
    }
    return (PyObject *)self;
}

void
frozen_view_dealloc(PyObject *obj)
{
    frozen_view *self = (frozen_view *)obj;
    PyTypeObject *type = Py_TYPE(obj);
    if (self->weakrefs != NULL) {
        PyObject_ClearWeakRefs(obj);
    }
    view_let_go(self->hold);
    PyObject_Free(self);
    Py_DECREF(type);
}

/* ------------------------------------------------------------------- parts */

static PyObject *
show_str(PyObject *src)
{
    Py_ssize_t length = PyUnicode_GET_LENGTH(src);
    if (length < 2) { /* CPython has most of these */
        return length == 0 ? PyUnicode_New(0, 0)
                           : PyUnicode_FromOrdinal((int)PyUnicode_READ_CHAR(src, 0));
    }
    PyObject *str = PyUnicode_New(length, PyUnicode_MAX_CHAR_VALUE(src));
    if (str != NULL) {
        memcpy(PyUnicode_DATA(str), PyUnicode_DATA(src),
               (size_t)length * (size_t)PyUnicode_KIND(src));
        compat_str_set_hash(str, compat_str_hash(src));
    }
    return str;
}

static PyObject *
show_slice(view_hold *hold, PyObject *src)
{
    PyObject *parts[3] = {NULL}, *slice = NULL;
    Py_ssize_t count;
    PyObject **from = frozen_parts(src, &count);
    if (Py_EnterRecursiveCall(" while a slice is copied")) {
        return NULL;
    }
    bool good = true;
    for (int i = 0; i < 3 && good; i++) {
        parts[i] = frozen_view_part(hold, from[i]);
        good = parts[i] != NULL;
    }
    if (good) {
        slice = PySlice_New(parts[0], parts[1], parts[2]);
    }
    for (int i = 0; i < 3; i++) {
        Py_XDECREF(parts[i]);
    }
    Py_LeaveRecursiveCall();
    return slice;
}

static PyObject *
show_mold(view_hold *hold, PyObject *part)
{
    frozen_mold *mold = frozen_mold_of(part);
    switch (mold->kind) {
    case MOLD_TUPLE:
    case MOLD_LIST:
        return new_view(hold, VIEW_SEQUENCE, part, mold->parts, mold->count, 1);
    case MOLD_DICT:
        return new_view(hold, VIEW_DICT, part, mold->parts, mold->count / 2, 2);
    case MOLD_SET: {
        PyObject *set = frozen_thaw(hold->state, part);
        PyObject *copy = set == NULL ? NULL : PyFrozenSet_New(set);
        Py_XDECREF(set);
        return copy;
    }
    }
    return frozen_thaw(hold->state, part);
}

PyObject *
frozen_view_part(view_hold *hold, PyObject *part)
{
    if (frozen_is_mold(part)) {
        return show_mold(hold, part);
    }
    PyTypeObject *type = Py_TYPE(part);
    int64_t value;
    if (type == &PyUnicode_Type) {
        return show_str(part);
    }
    if (type == &PyLong_Type && compat_int64(part, &value)) {
        return PyLong_FromLongLong(value);
    }
    if (type == &PyFloat_Type) {
        return PyFloat_FromDouble(PyFloat_AS_DOUBLE(part));
    }
    if (type == &PyTuple_Type) {
        Py_ssize_t count;
        PyObject *const *items = frozen_parts(part, &count);
        return new_view(hold, VIEW_SEQUENCE, part, items, count, 1);
    }
    if (frozen_mapping_dict(part) != NULL) {
        Py_ssize_t count;
        int stride;
        PyObject *const *items = frozen_mapping_pairs(part, &count, &stride);
        return new_view(hold, VIEW_DICT, part, items, count, stride);
    }
    return type == &PySlice_Type ? show_slice(hold, part) : frozen_copy_leaf(part);
}

PyObject *
frozen_view_open(core_state *state, frozen_graph *g, PyObject *part)
{
    if (frozen_view_ready(state) < 0) {
        return NULL;
    }
    view_hold *hold = atoll_alloc(sizeof(*hold));
    if (hold == NULL) {
        return PyErr_NoMemory();
    }
    frozen_ref(g);
    *hold = (view_hold){.state = state, .graph = g, .count = 1};
    PyObject *view = frozen_view_part(hold, part);
    view_let_go(hold); /* it stays, if the part has parts */
    return view;
}

bool
frozen_is_view(const core_state *state, PyTypeObject *type)
{
    return type == state->frozen->view_types[VIEW_SEQUENCE] ||
           type == state->frozen->view_types[VIEW_DICT];
}

/* To compare it with an object of CPython's runs no code of the user's. */
static bool
view_is_plain(PyObject *obj)
{
    PyTypeObject *type = Py_TYPE(obj);
    return type == &PyUnicode_Type || type == &PyLong_Type || type == &PyFloat_Type ||
           type == &PyBytes_Type || type == &PyBool_Type || type == &PyComplex_Type ||
           obj == Py_None || obj == Py_Ellipsis;
}

int
frozen_view_equal(view_hold *hold, PyObject *part, PyObject *obj)
{
    bool native = !frozen_is_mold(part);
    if (native && view_is_plain(obj)) {
        return PyObject_RichCompareBool(part, obj, Py_EQ);
    }
    if (native && frozen_is_view(hold->state, Py_TYPE(obj)) &&
        frozen_view_is_native((frozen_view *)obj)) {
        return PyObject_RichCompareBool(part, ((frozen_view *)obj)->obj, Py_EQ);
    }
    PyObject *shown = frozen_view_part(hold, part);
    int equal = shown == NULL ? -1 : PyObject_RichCompareBool(shown, obj, Py_EQ);
    Py_XDECREF(shown);
    return equal;
}

PyObject *
frozen_view_as(frozen_view *of, int type)
{
    return new_view(of->hold, type, of->obj, of->items, of->count, of->stride);
}

/* --------------------------------------------------------------- iterators */

typedef struct iterator {
    PyObject_HEAD
    view_hold *hold; /* counted; NULL: it is exhausted */
    PyObject *const *at;
    Py_ssize_t left, stride;
    int of; /* VIEW_... */
} iterator;

PyObject *
frozen_view_iterate(frozen_view *of, bool backwards)
{
    core_state *state = of->hold->state;
    PyTypeObject *class = type_for(state, VIEW_ITERATOR);
    iterator *self = class == NULL ? NULL : PyObject_New(iterator, class);
    if (self == NULL) {
        return NULL;
    }
    of->hold->count++;
    self->hold = of->hold;
    self->left = of->count;
    self->at = of->items;
    self->stride = of->stride;
    if (backwards && of->count > 0) {
        self->at += (of->count - 1) * of->stride;
        self->stride = -self->stride;
    }
    self->of = VIEW_SEQUENCE;
    for (int type = VIEW_VALUES; type <= VIEW_ITEMS; type++) {
        if (Py_TYPE(of) == state->frozen->view_types[type]) {
            self->of = type;
        }
    }
    return (PyObject *)self;
}

static void
iterator_dealloc(PyObject *obj)
{
    PyTypeObject *type = Py_TYPE(obj);
    if (((iterator *)obj)->hold != NULL) {
        view_let_go(((iterator *)obj)->hold);
    }
    PyObject_Free(obj);
    Py_DECREF(type);
}

static PyObject *
show_pair(view_hold *hold, PyObject *const *pair)
{
    PyObject *shown = PyTuple_New(2);
    for (int i = 0; i < 2 && shown != NULL; i++) {
        PyObject *part = frozen_view_part(hold, pair[i]);
        if (part == NULL) {
            Py_CLEAR(shown);
        }
        else {
            PyTuple_SET_ITEM(shown, i, part);
        }
    }
    return shown;
}

static PyObject *
iterator_next(PyObject *obj)
{
    iterator *self = (iterator *)obj;
    if (self->left == 0) { /* the graph need not wait for us */
        if (self->hold != NULL) {
            view_hold *hold = self->hold;
            self->hold = NULL;
            view_let_go(hold);
        }
        return NULL;
    }
    PyObject *const *at = self->at;
    if (--self->left > 0) {
        self->at += self->stride;
    }
    /* Code of an instance that is made may use up the iterator meanwhile. */
    view_hold *hold = self->hold;
    hold->count++;
    PyObject *next = self->of == VIEW_ITEMS
                         ? show_pair(hold, at)
                         : frozen_view_part(hold, at[self->of == VIEW_VALUES]);
    view_let_go(hold);
    return next;
}

static PyObject *
iterator_hint(PyObject *obj, PyObject *Py_UNUSED(ignored))
{
    return PyLong_FromSsize_t(((iterator *)obj)->left);
}

static PyMethodDef iterator_methods[] = {
    {"__length_hint__", iterator_hint, METH_NOARGS, NULL},
    {NULL, NULL, 0, NULL},
};

static PyType_Slot iterator_slots[] = {
    {Py_tp_dealloc, iterator_dealloc},
    {Py_tp_iter, PyObject_SelfIter},
    {Py_tp_iternext, iterator_next},
    {Py_tp_methods, iterator_methods},
    {0, NULL},
};

static PyType_Spec iterator_spec = {
    .name = "atoll._ViewIterator",
    .basicsize = sizeof(iterator),
    .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_IMMUTABLETYPE |
             Py_TPFLAGS_DISALLOW_INSTANTIATION,
    .slots = iterator_slots,
};

/* -------------------------------------------------- what the types have alike */

Py_ssize_t
frozen_view_length(PyObject *self)
{
    return ((frozen_view *)self)->count;
}

PyObject *
frozen_view_iter(PyObject *self)
{
    return frozen_view_iterate((frozen_view *)self, false);
}

PyObject *
frozen_view_reversed(PyObject *self, PyObject *Py_UNUSED(ignored))
{
    return frozen_view_iterate((frozen_view *)self, true);
}

PyObject *
frozen_view_thaw(PyObject *view)
{
    frozen_view *self = (frozen_view *)view;
    return frozen_thaw(self->hold->state, self->obj);
}

PyObject *
frozen_view_repr(PyObject *self)
{
    PyObject *copy = frozen_view_thaw(self);
    PyObject *text =
        copy == NULL ? NULL
                     : PyUnicode_FromFormat("<%s of %R>", Py_TYPE(self)->tp_name, copy);
    Py_XDECREF(copy);
    return text;
}

Py_hash_t
frozen_view_hash(PyObject *self)
{
    frozen_view *view = (frozen_view *)self;
    if (frozen_view_is_native(view)) {
        return PyObject_Hash(view->obj);
    }
    PyObject *parts = NULL;
    if (Py_TYPE(self) == view->hold->state->frozen->view_types[VIEW_SEQUENCE]) {
        parts = frozen_view_tuple(view);
    }
#ifdef COMPAT_FROZENDICT
    else {
        PyObject *dict = frozen_view_dict(view);
        parts = dict == NULL ? NULL : PyFrozenDict_New(dict);
        Py_XDECREF(dict);
    }
#endif
    Py_hash_t hash = parts == NULL ? -1 : PyObject_Hash(parts);
    Py_XDECREF(parts);
    return hash;
}

PyObject *
frozen_view_copy(PyObject *self, PyObject *Py_UNUSED(ignored))
{
    return Py_NewRef(self);
}

PyObject *
frozen_view_deepcopy(PyObject *self, PyObject *Py_UNUSED(memo))
{
    return frozen_view_thaw(self);
}

/* As the ordinary object, whose type makes another one of it. */
PyObject *
frozen_view_reduce(PyObject *self, PyObject *Py_UNUSED(ignored))
{
    PyObject *copy = frozen_view_thaw(self);
    return copy == NULL ? NULL : Py_BuildValue("O(N)", Py_TYPE(copy), copy);
}

PyMemberDef frozen_view_members[] = {
    {"__weaklistoffset__", Py_T_PYSSIZET, offsetof(frozen_view, weakrefs), Py_READONLY,
     NULL},
    {NULL, 0, 0, 0, NULL},
};

/* ------------------------------------------------------------------- types */

static const struct {
    PyType_Spec *spec;
    const char *abc; /* that it is registered with */
} kinds[VIEW_TYPES] = {
    [VIEW_SEQUENCE] = {&frozen_sequence_spec, "Sequence"},
    [VIEW_DICT] = {&frozen_dict_spec, "Mapping"},
    [VIEW_KEYS] = {&frozen_keys_spec, "KeysView"},
    [VIEW_VALUES] = {&frozen_values_spec, "ValuesView"},
    [VIEW_ITEMS] = {&frozen_items_spec, "ItemsView"},
    [VIEW_ITERATOR] = {&iterator_spec, "Iterator"},
};

/* Append a view: a handle of its graph, and the address of its part. */
static int
frozen_view_encode(encoder *e, PyObject *obj)
{
    const frozen_view *view = (frozen_view *)obj;
    if (enc_put_handle(e, TAG_PART, HANDLE_FROZEN, view->hold->graph) < 0) {
        return -1;
    }
    unsigned char *to = enc_reserve(e, sizeof(view->obj));
    if (to == NULL) {
        return -1;
    }
    memcpy(to, &view->obj, sizeof(view->obj));
    return 0;
}

static PyObject *
frozen_view_decode(decoder *d, int Py_UNUSED(tag))
{
    const handle *h = &d->handles[dec_u32(d)];
    PyObject *part;
    memcpy(&part, dec_take(d, sizeof(part)), sizeof(part));
    return frozen_view_open(d->state, h->ptr, part);
}

void
frozen_start_views(void)
{
    wire_set_decoder(TAG_PART, frozen_view_decode);
}

static PyObject *
make_type(core_state *state, PyObject *abcs, int kind)
{
    PyObject *abc = PyObject_GetAttrString(abcs, kinds[kind].abc);
    PyObject *type =
        abc == NULL ? NULL : (PyObject *)core_make_type(state, kinds[kind].spec);
    PyObject *done =
        type == NULL ? NULL : PyObject_CallMethod(abc, "register", "O", type);
    if (done == NULL) {
        Py_CLEAR(type);
    }
    Py_XDECREF(done);
    Py_XDECREF(abc);
    return type;
}

int
frozen_view_ready(core_state *state)
{
    if (state->frozen->view_types[VIEW_TYPES - 1] != NULL) {
        return 0;
    }
    PyObject *abcs = PyImport_ImportModule("_collections_abc");
    int kind = 0;
    for (; abcs != NULL && kind < VIEW_TYPES; kind++) {
        if (state->frozen->view_types[kind] != NULL) {
            continue;
        }
        PyObject *type = make_type(state, abcs, kind);
        if (type == NULL) {
            break;
        }
        if (state->frozen->view_types[kind] != NULL) { /* another thread was faster */
            Py_DECREF(type);
            continue;
        }
        state->frozen->view_types[kind] = (PyTypeObject *)type;
        if (kind <= VIEW_DICT &&
            wire_add_type(state, (PyTypeObject *)type, frozen_view_encode, true) < 0) {
            break;
        }
    }
    Py_XDECREF(abcs);
    return kind == VIEW_TYPES ? 0 : -1;
}
