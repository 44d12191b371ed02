/* The contents of a NumPy array, taken out in O(1).
 *
 * NumPy has no call for it, and we do not build against NumPy: the fields of two
 * array objects are exchanged. Their layout is part of NumPy's ABI and the same
 * in 1.x and 2.x; it is checked against what the array says of itself. */
#include "memory/memory.h"

#include <string.h>

typedef struct array_fields {
    PyObject_HEAD
    char *data;
    int nd;
    Py_ssize_t *dimensions, *strides;
    PyObject *base;
    PyObject *descr;
    int flags;
    PyObject *weakreflist;
    void *buffer_info;
    PyObject *mem_handler;
} array_fields;

bool
ndarray_check(PyObject *obj)
{
    return strcmp(Py_TYPE(obj)->tp_name, "numpy.ndarray") == 0;
}

/* Are the fields where we think they are? */
static bool
layout_is_known(PyObject *obj)
{
    const array_fields *array = (array_fields *)obj;
    if (Py_TYPE(obj)->tp_basicsize < (Py_ssize_t)sizeof(array_fields)) {
        return false;
    }
    PyObject *ctypes = PyObject_GetAttrString(obj, "__array_interface__");
    PyObject *pair = ctypes == NULL ? NULL : PyMapping_GetItemString(ctypes, "data");
    PyObject *descr = PyObject_GetAttrString(obj, "dtype");
    bool known = pair != NULL && PyTuple_Check(pair) && PyTuple_GET_SIZE(pair) == 2 &&
                 PyLong_AsVoidPtr(PyTuple_GET_ITEM(pair, 0)) == array->data &&
                 descr == array->descr;
    Py_XDECREF(ctypes);
    Py_XDECREF(pair);
    Py_XDECREF(descr);
    PyErr_Clear();
    return known;
}

/* What reshape() returns is a view of an array that nobody else knows. */
static bool
is_only_ours(PyObject *base)
{
    return ndarray_check(base) && Py_REFCNT(base) == 1 &&
           ((array_fields *)base)->base == NULL;
}

/* One reference is the caller's variable, one may be the call's. A view of the
 * array has one as well. (From 3.14 on a local variable may be passed without
 * one: then a single view is not seen; what it shows stays valid, see below.) */
#define REFERENCES 2

PyObject *
ndarray_take(PyObject *obj)
{
    array_fields *array = (array_fields *)obj;
    if (!layout_is_known(obj)) {
        PyErr_SetString(PyExc_TypeError, "atoll does not know this NumPy's arrays");
        return NULL;
    }
    if (Py_REFCNT(obj) > REFERENCES) {
        PyErr_SetString(PyExc_BufferError,
                        "this array cannot be moved: there are other "
                        "references to it, or views of its memory");
        return NULL;
    }
    if (array->base != NULL && !is_only_ours(array->base)) {
        PyErr_SetString(PyExc_BufferError,
                        "this array cannot be moved: its memory is another "
                        "object's; move that one, or a copy");
        return NULL;
    }
    PyObject *hasobject = PyObject_GetAttrString(array->descr, "hasobject");
    int objects = hasobject == NULL ? -1 : PyObject_IsTrue(hasobject);
    Py_XDECREF(hasobject);
    if (objects != 0) {
        if (objects > 0) {
            PyErr_SetString(PyExc_TypeError,
                            "an array of Python objects cannot be moved");
        }
        return NULL;
    }
    PyObject *numpy = PyImport_ImportModule("numpy");
    PyObject *other =
        numpy == NULL ? NULL
                      : PyObject_CallMethod(numpy, "empty", "(iO)", 0, array->descr);
    Py_XDECREF(numpy);
    if (other == NULL) {
        return NULL;
    }
    array_fields *empty = (array_fields *)other, keep = *array;
#define EXCHANGE(field) array->field = empty->field, empty->field = keep.field
    EXCHANGE(data);
    EXCHANGE(nd);
    EXCHANGE(dimensions);
    EXCHANGE(strides);
    EXCHANGE(base);
    EXCHANGE(descr);
    EXCHANGE(flags);
    EXCHANGE(buffer_info);
    EXCHANGE(mem_handler);
#undef EXCHANGE
    if (Py_REFCNT(obj) > 1) {
        /* Should there be a view after all, it is one of `array`, and has to
         * find the memory there as long as it lives. */
        Py_XSETREF(array->base, Py_NewRef(other));
    }
    return other;
}
