/* Instances of ordinary classes: a class and names, then values for them. */
#include "wire/decode/decoder.h"

#include "cpython/version.h"

/* Can the attributes be set as they would be in the dict? A property of that
 * name would be called instead. */
static bool
is_direct(PyTypeObject *type, PyObject *names)
{
    if (!(type->tp_flags & Py_TPFLAGS_MANAGED_DICT) && type->tp_dictoffset == 0) {
        return true; /* it has slots here: those are the descriptors */
    }
    for (Py_ssize_t i = 0; i < PyTuple_GET_SIZE(names); i++) {
        PyObject *found = compat_type_lookup(type, PyTuple_GET_ITEM(names, i));
        if (found != NULL && Py_TYPE(found)->tp_descr_set != NULL) {
            return false;
        }
    }
    return true;
}

static int
shapes_reserve(decoder *d)
{
    if (d->nshapes < d->shape_room) {
        return 0;
    }
    bool first = d->shapes == d->shapes_small;
    size_t room = d->shape_room * 4;
    shape *more = first ? atoll_alloc(room * sizeof(*more))
                        : atoll_realloc(d->shapes, room * sizeof(*more));
    if (more == NULL) {
        PyErr_NoMemory();
        return -1;
    }
    if (first) {
        memcpy(more, d->shapes_small, sizeof(d->shapes_small));
    }
    d->shapes = more;
    d->shape_room = room;
    return 0;
}

static int
new_shape(decoder *d)
{
    PyObject *type = dec_object(d); /* which may bring shapes of its own */
    if (type == NULL || shapes_reserve(d) < 0) {
        Py_XDECREF(type);
        return -1;
    }
    if (!PyType_Check(type) ||
        ((PyTypeObject *)type)->tp_new != PyBaseObject_Type.tp_new) {
        PyErr_Format(PyExc_TypeError,
                     "%R is not the class here that it was where its instance "
                     "was sent",
                     type);
        Py_DECREF(type);
        return -1;
    }
    Py_ssize_t count = (Py_ssize_t)dec_u32(d);
    PyObject *names = PyTuple_New(count);
    for (Py_ssize_t i = 0; i < count && names != NULL; i++) {
        PyObject *name = dec_object(d);
        if (name == NULL) {
            Py_CLEAR(names);
            break;
        }
        PyUnicode_InternInPlace(&name);
        PyTuple_SET_ITEM(names, i, name);
    }
    if (names == NULL) {
        Py_DECREF(type);
        return -1;
    }
    d->shapes[d->nshapes++] = (shape){.type = (PyTypeObject *)type,
                                      .names = names,
                                      .direct = is_direct((PyTypeObject *)type, names)};
    return 0;
}

/* Are the places of the values known? For the first instance they may not be
 * there yet: it makes them. */
static bool
dec_has_slots(decoder *d, size_t number, bool first)
{
    shape *s = &d->shapes[number];
    if (s->known == SLOTS_UNKNOWN) {
        bool found = s->direct && layout_slots(d->state, s->type, s->names, s->slots);
        s->known = found ? SLOTS_KNOWN : first ? SLOTS_UNKNOWN : SLOTS_NONE;
    }
    return s->known == SLOTS_KNOWN;
}

/* The values of an instance, in the slots of its shape for as long as nobody has
 * given it a dict. */
static int
dec_attributes(decoder *d, PyObject *obj, size_t number, bool first)
{
    const shape *s = &d->shapes[number];
    PyTypeObject *type = s->type;
    PyObject *names = s->names;
    bool direct = s->direct, entered = false;
    layout_values *values =
        dec_has_slots(d, number, first) ? layout_open(d->state, obj, type) : NULL;
    PyObject *dict = direct ? NULL : PyObject_GenericGetDict(obj, NULL);
    int rc = direct || dict != NULL ? 0 : -1;
    const unsigned char *at = d->at;
    for (Py_ssize_t i = 0; i < PyTuple_GET_SIZE(names) && rc == 0; i++) {
        PyObject *value = dec_part_at(d, &at, &entered);
        if (entered && values != NULL) { /* code may have run */
            s = &d->shapes[number];
            values = layout_open(d->state, obj, type);
        }
        if (values != NULL && value != NULL &&
            layout_fill(values, s->slots[i], value)) {
            continue;
        }
        PyObject *name = PyTuple_GET_ITEM(names, i);
        rc = value == NULL ? -1
             : direct      ? PyObject_GenericSetAttr(obj, name, value)
                           : PyDict_SetItem(dict, name, value);
        Py_XDECREF(value);
        values = NULL;
    }
    d->at = at;
    if (entered) {
        Py_LeaveRecursiveCall();
    }
    Py_XDECREF(dict);
    return rc;
}

PyObject *
dec_instance(decoder *d, bool memo, bool first)
{
    if (first) {
        dec_link(d);
        if (new_shape(d) < 0) {
            return NULL;
        }
    }
    size_t number = first ? d->nshapes - 1 : dec_u32(d);
    PyTypeObject *type = d->shapes[number].type;
    PyObject *obj = type->tp_alloc(type, 0);
    if (obj == NULL || dec_number(d, memo, obj) < 0 ||
        dec_attributes(d, obj, number, first) < 0) {
        Py_CLEAR(obj);
    }
    return obj;
}
