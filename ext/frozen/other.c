/* Freezing what is not native: sets, and instances, that atoll._cross.frozen takes
 * apart. They become molds. */
#include "frozen/builder.h"

#include <string.h>

/* ---------------------------------------------------------- while code runs */

/* The pairs that are left of a mapping, and the one under way, as a tuple. */
static int
secure_mapping(const builder *b, frame *f)
{
    Py_ssize_t count = f->key != NULL, at = f->at, i = 0;
    PyObject *key, *value;
    while (layout_next(b->state, f->pairs, &at, &key, &value)) {
        count++;
    }
    PyObject *held = PyTuple_New(2 * count);
    if (held == NULL) {
        return -1;
    }
    if (f->key != NULL) {
        PyTuple_SET_ITEM(held, i++, Py_NewRef(f->key));
        PyTuple_SET_ITEM(held, i++, Py_NewRef(f->value));
    }
    at = f->at;
    while (layout_next(b->state, f->pairs, &at, &key, &value)) {
        PyTuple_SET_ITEM(held, i++, Py_NewRef(key));
        PyTuple_SET_ITEM(held, i++, Py_NewRef(value));
    }
    f->at = f->key != NULL ? 2 : 0;
    f->count = 2 * count;
    f->held = held;
    f->pairs = NULL;
    return 0;
}

static int
secure_frame(const builder *b, frame *f)
{
    if (f->mapping) {
        if (secure_mapping(b, f) < 0) {
            return -1;
        }
    }
    else if (f->kind == MOLD_LIST) {
        f->held = PyList_AsTuple(f->src);
        if (f->held == NULL) {
            return -1;
        }
    }
    if (f->held != NULL) {
        f->from = ((PyTupleObject *)f->held)->ob_item;
    }
    Py_INCREF(f->src);
    f->secured = true;
    return 0;
}

int
frozen_secure(builder *b)
{
    if (!b->holding) {
        for (size_t i = 0; b->memo.used > 0 && i <= b->memo.mask; i++) {
            Py_XINCREF((PyObject *)b->memo.links[i].from);
        }
        b->holding = true;
    }
    for (; b->secured < b->depth; b->secured++) {
        if (secure_frame(b, &b->frames[b->secured]) < 0) {
            return -1;
        }
    }
    return 0;
}

void
frozen_release(builder *b, frame *f)
{
    frame gone = *f; /* what is run may not, but a next frame will be put there */
    if (b->secured > b->depth) {
        b->secured = b->depth;
    }
    Py_XDECREF(gone.held);
    if (gone.secured) {
        Py_DECREF(gone.src);
    }
}

/* ------------------------------------------------------------------- molds */

void
frozen_turn_to_mold(frame *f)
{
    PyObject *obj = f->dst;
    PyObject *dict = f->mapping ? frozen_mapping_dict(obj) : NULL;
    frozen_mold *mold =
        (frozen_mold *)(void *)((char *)(f->mapping ? dict : obj) - FROZEN_HEAD);
    if (f->mapping) {
        /* Each pair moves down: it is read before anything is put there. */
        layout_keys *keys = layout_keys_of(dict);
        Py_ssize_t general = keys->kind == KEYS_GENERAL;
        Py_ssize_t used = keys->used;
        f->put = 0;
        if (used > 0) {
            PyObject *const *pair = (PyObject *const *)layout_entries(keys) + general;
            while (f->put < 2 * used) {
                PyObject *key = pair[0], *value = pair[1];
                mold->parts[f->put++] = key;
                mold->parts[f->put++] = value;
                pair += 2 + general;
            }
        }
        mold->count = 2 * f->room;
    }
    else {
        memmove(mold->parts, f->to, (size_t)f->at * sizeof(PyObject *));
        mold->count = f->count;
    }
    mold->kind = f->kind;
    mold->root = mold->shared = false;
    f->to = mold->parts;
    f->mold = mold;
    f->dst = NULL;
}

static frozen_mold *
new_mold(builder *b, mold_kind kind, Py_ssize_t count)
{
    frozen_mold *mold = frozen_take(
        b, sizeof(*mold) + (size_t)count * sizeof(PyObject *), CHUNKS_PLAIN);
    if (mold != NULL) {
        mold->kind = (uint8_t)kind;
        mold->count = count;
    }
    return mold;
}

/* A mold with the texts of a tuple for its parts, of which all users are one. */
static int
other_texts(builder *b, mold_kind kind, PyObject *tuple, PyObject *of, PyObject **out)
{
    Py_ssize_t count = PyTuple_GET_SIZE(tuple);
    frozen_mold *mold = new_mold(b, kind, count);
    if (mold == NULL) {
        return -1;
    }
    for (Py_ssize_t i = 0; i < count; i++) {
        PyObject *text = PyTuple_GET_ITEM(tuple, i);
        if (!PyUnicode_CheckExact(text)) {
            PyErr_Format(PyExc_TypeError, "a name must be a str, not %T", text);
            return -1;
        }
        mold->parts[i] = frozen_text(b, text);
        if (mold->parts[i] == NULL) {
            return -1;
        }
    }
    mold->shared = true;
    *out = frozen_as_part(mold);
    return frozen_remember(b, of, *out) < 0 ? -1 : 1;
}

static PyObject *
other_helper(const char *name, PyObject *arg)
{
    return package_call(PACKAGE_FROZEN, name, "(O)", arg);
}

/* `text` says why not. */
static int
refuse_because(const builder *b, PyObject *src, PyObject *text)
{
    const char *why = PyUnicode_AsUTF8(text);
    return why == NULL ? -1 : frozen_refuse(b, src, why);
}

/* The class, or function, that `src` is made with. */
static int
global_part(builder *b, PyObject *src, PyObject *obj, PyObject **out)
{
    int known = frozen_known(b, obj, out);
    if (known != 0) {
        return known;
    }
    PyObject *name = other_helper("name", obj);
    int rc = -1;
    if (name != NULL && PyTuple_CheckExact(name)) {
        rc = other_texts(b, MOLD_GLOBAL, name, obj, out);
    }
    else if (name != NULL) {
        rc = refuse_because(b, src, name);
    }
    Py_XDECREF(name);
    return rc;
}

/* ------------------------------------------------------------- the walk's part */

/* A frame of a mold, whose first parts are there: steals `held`, a tuple. */
static int
other_begin(builder *b, PyObject *src, frozen_mold *mold, PyObject *held, Py_ssize_t at)
{
    frame *f = frozen_push(b);
    if (f == NULL || frozen_remember(b, src, &frozen_under_way) < 0) {
        Py_DECREF(held);
        return -1;
    }
    f->src = src;
    f->mold = mold;
    f->kind = mold->kind;
    f->shared = true;
    f->held = held;
    f->from = ((PyTupleObject *)held)->ob_item;
    f->to = mold->parts;
    f->at = at;
    f->count = mold->count;
    b->depth++;
    return 0;
}

static int
begin_set(builder *b, PyObject *src, mold_kind kind)
{
    PyObject *items = PySequence_Tuple(src); /* runs no code: CPython's own set */
    frozen_mold *mold =
        items == NULL ? NULL : new_mold(b, kind, PyTuple_GET_SIZE(items));
    if (mold == NULL) {
        Py_XDECREF(items);
        return -1;
    }
    return other_begin(b, src, mold, items, 0);
}

/* Attributes by their names, as if the class had no say. (class, names, values...) */
static PyObject *
read_fields(const builder *b, PyObject *src, PyObject *names)
{
    Py_ssize_t count = PyTuple_GET_SIZE(names);
    PyObject *parts = PyTuple_New(2 + count);
    if (parts == NULL) {
        return NULL;
    }
    PyTuple_SET_ITEM(parts, 0, Py_NewRef((PyObject *)Py_TYPE(src)));
    PyTuple_SET_ITEM(parts, 1, Py_NewRef(names));
    for (Py_ssize_t i = 0; i < count; i++) {
        PyObject *name = PyTuple_GET_ITEM(names, i);
        PyObject *value = PyObject_GenericGetAttr(src, name);
        if (value == NULL) {
            Py_DECREF(parts);
            if (PyErr_ExceptionMatches(PyExc_AttributeError)) {
                PyErr_Clear();
                frozen_refuse(b, src, "not all of its fields have a value");
            }
            return NULL;
        }
        PyTuple_SET_ITEM(parts, 2 + i, value);
    }
    return parts;
}

/* Of what kind it is taken to be, and its parts: a new reference to a tuple. */
static PyObject *
take_apart(builder *b, PyObject *src, PyObject *plan, mold_kind *kind)
{
    if (PyTuple_CheckExact(plan)) {
        *kind = MOLD_FIELDS;
        return read_fields(b, src, plan);
    }
    if (PyUnicode_Check(plan)) {
        refuse_because(b, src, plan);
        return NULL;
    }
    PyObject *answer = PyObject_CallOneArg(plan, src), *parts = NULL;
    int number;
    if (answer != NULL && PyUnicode_Check(answer)) {
        refuse_because(b, src, answer);
    }
    else if (answer != NULL &&
             PyArg_ParseTuple(answer, "iO!", &number, &PyTuple_Type, &parts)) {
        *kind = (mold_kind)number;
        Py_INCREF(parts);
    }
    Py_XDECREF(answer);
    return parts;
}

/* Steals `parts`. */
static int
begin_instance(builder *b, PyObject *src, mold_kind kind, PyObject *parts)
{
    PyObject *first = PyTuple_GET_ITEM(parts, 0);
    Py_ssize_t at = 1;
    frozen_mold *mold = new_mold(b, kind, PyTuple_GET_SIZE(parts));
    int rc = mold == NULL ? -1 : 1;
    if (rc > 0 && kind == MOLD_BUFFER) {
        mold->parts[0] = frozen_write_buffer(b, first);
        rc = mold->parts[0] == NULL ? -1 : 1;
    }
    else if (rc > 0) {
        rc = global_part(b, src, first, &mold->parts[0]);
    }
    if (rc > 0 && kind == MOLD_FIELDS) {
        PyObject *names = PyTuple_GET_ITEM(parts, 1);
        rc = frozen_known(b, names, &mold->parts[1]);
        if (rc == 0) {
            rc = other_texts(b, MOLD_NAMES, names, names, &mold->parts[1]);
        }
        at = 2;
    }
    if (rc < 0) {
        Py_DECREF(parts);
        return -1;
    }
    return other_begin(b, src, mold, parts, at);
}

/* How instances of the class are taken apart; a new reference. */
static PyObject *
plan_of(builder *b, PyTypeObject *type)
{
    if (b->plans == NULL && (b->plans = PyDict_New()) == NULL) {
        return NULL;
    }
    PyObject *plan;
    if (PyDict_GetItemRef(b->plans, (PyObject *)type, &plan) != 0) {
        return plan;
    }
    plan = other_helper("plan", (PyObject *)type);
    if (plan != NULL && PyDict_SetItem(b->plans, (PyObject *)type, plan) < 0) {
        Py_CLEAR(plan);
    }
    return plan;
}

int
frozen_other(builder *b, PyObject *src, PyTypeObject *type, PyObject **out)
{
    int known = frozen_known(b, src, out);
    if (known != 0) {
        return known;
    }
    if (type == b->state->frozen->element_type ||
        strcmp(type->tp_name, "xml.etree.ElementTree.Element") == 0) {
        return frozen_refuse(b, src, "XML elements can be by themselves only");
    }
    if (type == &PySet_Type || type == &PyFrozenSet_Type) {
        return begin_set(b, src, type == &PySet_Type ? MOLD_SET : MOLD_FROZENSET);
    }
    if (frozen_secure(b) < 0) {
        return -1;
    }
    Py_INCREF(src);               /* it may be in nothing but a list that changes */
    mold_kind kind = MOLD_FIELDS; /* set with the parts */
    PyObject *plan = plan_of(b, type);
    PyObject *parts = plan == NULL ? NULL : take_apart(b, src, plan, &kind);
    int rc = parts == NULL ? -1 : begin_instance(b, src, kind, parts);
    Py_XDECREF(plan);
    Py_DECREF(src);
    return rc;
}

PyObject *
frozen_step(const frame *f)
{
    switch (f->kind) {
    case MOLD_SET:
    case MOLD_FROZENSET:
        return PyUnicode_FromString(" item");
    case MOLD_FIELDS:
        return PyUnicode_FromFormat(
            ".%U", PyTuple_GET_ITEM(PyTuple_GET_ITEM(f->held, 1), f->at - 2));
    case MOLD_NAMED:
        return PyUnicode_FromFormat("[%zd]", f->at - 1);
    }
    return PyUnicode_FromFormat(" part %zd", f->at);
}
