/* Ordinary mutable copies of what is frozen: lists of what were lists, dicts of
 * mappings, tuples, new leaves, and what molds make. Nothing of the graph's memory is
 * in them. What was one object stays one. With a stack of our own, as
 * frozen/build.c. */
#include "cpython/immortal.h"
#include "frozen/frozen.h"
#include "frozen/mold.h"

typedef struct frame {
    PyObject *src;
    PyObject *dst; /* list, tuple or dict; of a slice or mold a tuple. Owned. */
    const frozen_mold *mold; /* or NULL */
    Py_ssize_t at, count;
    PyObject **from; /* of a sequence */
    PyObject *pairs; /* of a mapping; else NULL */
    PyObject *key, *value;
    PyObject *new_key; /* owned; NULL: it comes first */
} frame;

typedef struct thawer {
    core_state *state;
    frame *frames;
    size_t depth, room;
    frozen_map memo; /* of objects and parts, to counted references */
} thawer;

PyObject *
frozen_copy_str(PyObject *src)
{
    Py_ssize_t length = PyUnicode_GET_LENGTH(src);
    PyObject *str = PyUnicode_New(length, PyUnicode_MAX_CHAR_VALUE(src));
    if (str != NULL && length > 0) {
        memcpy(PyUnicode_DATA(str), PyUnicode_DATA(src),
               (size_t)length * (size_t)PyUnicode_KIND(src));
    }
    return str;
}

/* A new int of any size. */
static PyObject *
thaw_int(PyObject *src)
{
    int64_t value;
    if (compat_int64(src, &value)) {
        return PyLong_FromLongLong(value);
    }
    PyObject *negative = PyNumber_Negative(src);
    PyObject *copy = negative == NULL ? NULL : PyNumber_Negative(negative);
    Py_XDECREF(negative);
    return copy;
}

/* A copy of what has no parts; NULL without an exception: it is a container. */
static PyObject *
thaw_leaf(PyObject *src)
{
    PyTypeObject *type = Py_TYPE(src);
    if (type == &PyUnicode_Type) {
        return frozen_copy_str(src);
    }
    if (type == &PyLong_Type) {
        return thaw_int(src);
    }
    if (type == &PyFloat_Type) {
        return PyFloat_FromDouble(PyFloat_AS_DOUBLE(src));
    }
    if (type == &PyBytes_Type) {
        return PyBytes_FromStringAndSize(PyBytes_AS_STRING(src), PyBytes_GET_SIZE(src));
    }
    if (type == &PyComplex_Type) {
        return PyComplex_FromCComplex(((PyComplexObject *)src)->cval);
    }
    if (type == &PyRange_Type) {
        PyObject *parts[3] = {NULL};
        Py_ssize_t count;
        PyObject **from = frozen_parts(src, &count);
        bool good = true;
        for (int i = 0; i < 3; i++) {
            parts[i] = good ? thaw_int(from[i]) : NULL;
            good = parts[i] != NULL;
        }
        PyObject *copy =
            good ? PyObject_Vectorcall((PyObject *)&PyRange_Type, parts, 3, NULL)
                 : NULL;
        for (int i = 0; i < 3; i++) {
            Py_XDECREF(parts[i]);
        }
        return copy;
    }
    return src == Py_None || src == Py_True || src == Py_False || src == Py_Ellipsis ||
                   frozen_is_empty_tuple(src)
               ? Py_NewRef(src)
               : NULL;
}

/* Is it a container of a graph's, and which of the two? */
static int
find_native(PyObject *src, bool *was_list)
{
    frozen_graph *owner = compat_is_immortal(src) ? frozen_owner(src, was_list) : NULL;
    if (owner == NULL) {
        PyErr_Format(PyExc_TypeError,
                     "thaw() is for a Frozen, and for objects that its get() "
                     "has given, not for %T",
                     src);
        return -1;
    }
    frozen_unref(owner); /* the caller has it */
    return 0;
}

/* Begin with a container: -1 with an exception. */
static int
thaw_enter(thawer *t, PyObject *src)
{
    bool was_list = false;
    if (!frozen_is_mold(src) && find_native(src, &was_list) < 0) {
        return -1;
    }
    if (t->depth == t->room) {
        size_t room = t->room == 0 ? 16 : 2 * t->room;
        frame *more = atoll_realloc(t->frames, room * sizeof(*more));
        if (more == NULL) {
            PyErr_NoMemory();
            return -1;
        }
        t->frames = more;
        t->room = room;
    }
    frame *f = &t->frames[t->depth];
    memset(f, 0, sizeof(*f));
    f->src = src;
    if (frozen_is_mold(src)) {
        frozen_mold *mold = frozen_mold_of(src);
        f->mold = mold;
        f->from = mold->parts;
        f->count = mold->count;
        f->dst = PyTuple_New(f->count);
    }
    else if ((f->pairs = frozen_mapping_dict(src)) != NULL) {
        f->dst = compat_dict_presized(PyDict_GET_SIZE(f->pairs));
    }
    else {
        f->from = frozen_parts(src, &f->count);
        f->dst = was_list ? PyList_New(f->count) : PyTuple_New(f->count);
    }
    if (f->dst == NULL) {
        return -1;
    }
    t->depth++;
    return 0;
}

/* 1, and *out is a new reference; 0: its parts come first; -1. */
static int
thaw_any(thawer *t, PyObject *src, PyObject **out)
{
    PyObject *known = frozen_map_get(&t->memo, src);
    if (known != NULL) {
        *out = Py_NewRef(known);
        return 1;
    }
    *out = frozen_is_mold(src) ? NULL : thaw_leaf(src);
    if (*out == NULL) {
        return PyErr_Occurred() ? -1 : thaw_enter(t, src);
    }
    if (frozen_map_set(&t->memo, src, *out) < 0) {
        Py_CLEAR(*out);
        return -1;
    }
    Py_INCREF(*out); /* the memo's */
    return 1;
}

/* Steals `obj`. */
static int
thaw_deliver(frame *f, PyObject *obj)
{
    if (f->pairs == NULL) {
        if (PyList_CheckExact(f->dst)) {
            PyList_SET_ITEM(f->dst, f->at++, obj);
        }
        else {
            PyTuple_SET_ITEM(f->dst, f->at++, obj);
        }
        return 0;
    }
    if (f->new_key == NULL) {
        f->new_key = obj;
        return 0;
    }
    int rc = PyDict_SetItem(f->dst, f->new_key, obj);
    Py_DECREF(obj);
    Py_CLEAR(f->new_key);
    f->key = NULL;
    return rc;
}

static PyObject *
thaw_next_part(frame *f)
{
    if (f->pairs == NULL) {
        return f->at < f->count ? f->from[f->at] : NULL;
    }
    if (f->key == NULL && !PyDict_Next(f->pairs, &f->at, &f->key, &f->value)) {
        return NULL;
    }
    return f->new_key == NULL ? f->key : f->value;
}

/* The innermost container is complete: a new reference. */
static PyObject *
thaw_finish(thawer *t)
{
    frame *f = &t->frames[t->depth - 1];
    if (f->mold != NULL) {
        PyObject *parts = f->dst;
        f->dst = frozen_cast(t->state, f->mold, &PyTuple_GET_ITEM(parts, 0), true);
        Py_DECREF(parts);
    }
    else if (Py_TYPE(f->src) == &PySlice_Type) {
        Py_SETREF(f->dst,
                  PySlice_New(PyTuple_GET_ITEM(f->dst, 0), PyTuple_GET_ITEM(f->dst, 1),
                              PyTuple_GET_ITEM(f->dst, 2)));
    }
    if (f->dst == NULL || frozen_map_set(&t->memo, f->src, f->dst) < 0) {
        return NULL;
    }
    t->depth--;
    return Py_NewRef(f->dst); /* the other one is the memo's now */
}

static PyObject *
thaw_visit(thawer *t, PyObject *root)
{
    PyObject *done = NULL, *part;
    int rc = thaw_any(t, root, &done);
    while (rc >= 0 && t->depth > 0) {
        frame *f = &t->frames[t->depth - 1];
        if (rc > 0 && thaw_deliver(f, done) < 0) {
            return NULL;
        }
        rc = 1;
        while (rc > 0 && (part = thaw_next_part(f)) != NULL) {
            rc = thaw_any(t, part, &done);
            if (rc > 0 && thaw_deliver(f, done) < 0) {
                return NULL;
            }
        }
        if (rc > 0) {
            done = thaw_finish(t);
            rc = done == NULL ? -1 : 1;
        }
    }
    return rc < 0 ? NULL : done;
}

PyObject *
frozen_thaw(core_state *state, PyObject *root)
{
    thawer t = {.state = state};
    if (!frozen_is_mold(root)) {
        PyObject *leaf = thaw_leaf(root);
        if (leaf != NULL || PyErr_Occurred()) {
            return leaf;
        }
        const frozen_mold *mold = frozen_molded(state, root);
        root = mold == NULL ? root : frozen_as_part(mold);
    }
    PyObject *copy = thaw_visit(&t, root);
    while (t.depth > 0) { /* it has failed */
        frame *f = &t.frames[--t.depth];
        Py_XDECREF(f->dst);
        Py_XDECREF(f->new_key);
    }
    for (size_t i = 0; t.memo.used > 0 && i <= t.memo.mask; i++) {
        Py_XDECREF((PyObject *)t.memo.links[i].to);
    }
    atoll_free(t.frames);
    frozen_map_fini(&t.memo);
    return copy;
}

PyObject *
frozen_copy_leaf(PyObject *src)
{
    return thaw_leaf(src);
}
