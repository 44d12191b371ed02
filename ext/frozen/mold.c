/* What molds become. See frozen/mold.h. */
#include "frozen/mold.h"

#include "cpython/version.h"

const char *
frozen_mold_name(const frozen_mold *mold)
{
    static const char *const names[] = {
        [MOLD_TUPLE] = "tuple",     [MOLD_LIST] = "tuple",
        [MOLD_DICT] = "mapping",    [MOLD_SLICE] = "slice",
        [MOLD_SET] = "frozenset",   [MOLD_FROZENSET] = "frozenset",
        [MOLD_GLOBAL] = "class",    [MOLD_CALL] = "instance",
        [MOLD_FIELDS] = "instance", [MOLD_NAMED] = "named tuple",
        [MOLD_MEMBER] = "member",   [MOLD_BUFFER] = "buffer",
        [MOLD_NAMES] = "tuple",
    };
    return names[mold->kind];
}

static PyObject *
mold_sequence(PyObject *const *parts, Py_ssize_t count, bool list)
{
    PyObject *obj = list ? PyList_New(count) : PyTuple_New(count);
    for (Py_ssize_t i = 0; obj != NULL && i < count; i++) {
        if (list) {
            PyList_SET_ITEM(obj, i, Py_NewRef(parts[i]));
        }
        else {
            PyTuple_SET_ITEM(obj, i, Py_NewRef(parts[i]));
        }
    }
    return obj;
}

static PyObject *
mold_mapping(PyObject *const *parts, Py_ssize_t count, bool thaw)
{
    PyObject *dict = compat_dict_presized(count / 2);
    for (Py_ssize_t i = 0; dict != NULL && i < count; i += 2) {
        if (PyDict_SetItem(dict, parts[i], parts[i + 1]) < 0) {
            Py_CLEAR(dict);
        }
    }
    if (dict == NULL || thaw) {
        return dict;
    }
#ifdef COMPAT_FROZENDICT
    PyObject *frozen = PyFrozenDict_New(dict);
#else
    PyObject *frozen = PyDictProxy_New(dict);
#endif
    Py_DECREF(dict);
    return frozen;
}

static PyObject *
mold_set(PyObject *const *parts, Py_ssize_t count, bool mutable)
{
    PyObject *items = mold_sequence(parts, count, false);
    PyObject *obj = items == NULL ? NULL
                    : mutable     ? PySet_New(items)
                                  : PyFrozenSet_New(items);
    Py_XDECREF(items);
    return obj;
}

/* Such as code has: CPython compares names by address first, and keeps them in the
 * tables of classes. */
static PyObject *
mold_names(PyObject *const *parts, Py_ssize_t count)
{
    PyObject *obj = PyTuple_New(count);
    for (Py_ssize_t i = 0; obj != NULL && i < count; i++) {
        PyObject *name = frozen_copy_str(parts[i]);
        if (name == NULL) {
            Py_CLEAR(obj);
        }
        else {
            PyUnicode_InternInPlace(&name);
            PyTuple_SET_ITEM(obj, i, name);
        }
    }
    return obj;
}

/* A call of atoll._cross.frozen's. */
static PyObject *
mold_helper(const char *name, PyObject *const *parts, Py_ssize_t count)
{
    PyObject *function = package_get(PACKAGE_FROZEN, name);
    PyObject *result = function == NULL
                           ? NULL
                           : PyObject_Vectorcall(function, parts, (size_t)count, NULL);
    Py_XDECREF(function);
    return result;
}

/* What a module has under a name: copies of both are left in the tables of whoever
 * is imported. */
static PyObject *
mold_global(const frozen_mold *mold, PyObject *const *parts)
{
    PyObject *texts = mold_names(parts, mold->count);
    PyObject *found =
        texts == NULL ? NULL
                      : mold_helper("find", &PyTuple_GET_ITEM(texts, 0), mold->count);
    Py_XDECREF(texts);
    return found;
}

/* Can an instance be made as object.__new__() makes it? */
static bool
mold_is_plain(PyObject *cls)
{
    if (!PyType_Check(cls)) {
        return false;
    }
    const PyTypeObject *base = (PyTypeObject *)cls;
    while (base->tp_flags & Py_TPFLAGS_HEAPTYPE) {
        base = base->tp_base;
    }
    return base == &PyBaseObject_Type;
}

static PyObject *
mold_instance(PyObject *const *parts, Py_ssize_t count)
{
    PyObject *cls = parts[0], *fields = parts[1];
    if (!mold_is_plain(cls)) {
        PyErr_Format(PyExc_TypeError,
                     "%R, an instance of which is in a frozen graph, is another "
                     "class here",
                     cls);
        return NULL;
    }
    PyObject *args = PyTuple_New(0);
    PyObject *obj =
        args == NULL ? NULL : PyBaseObject_Type.tp_new((PyTypeObject *)cls, args, NULL);
    Py_XDECREF(args);
    for (Py_ssize_t i = 2; obj != NULL && i < count; i++) {
        if (PyObject_GenericSetAttr(obj, PyTuple_GET_ITEM(fields, i - 2), parts[i]) <
            0) {
            Py_CLEAR(obj);
        }
    }
    return obj;
}

static PyObject *
mold_named(PyObject *const *parts, Py_ssize_t count)
{
    PyObject *items = mold_sequence(parts + 1, count - 1, false);
    PyObject *obj = items == NULL
                        ? NULL
                        : PyObject_CallMethod((PyObject *)&PyTuple_Type, "__new__",
                                              "OO", parts[0], items);
    Py_XDECREF(items);
    return obj;
}

static PyObject *
mold_member(PyObject *const *parts)
{
    PyObject *one = mold_names(parts + 1, 1);
    PyObject *obj =
        one == NULL ? NULL : PyObject_GetItem(parts[0], PyTuple_GET_ITEM(one, 0));
    Py_XDECREF(one);
    if (obj == NULL && PyErr_ExceptionMatches(PyExc_KeyError)) {
        PyErr_Clear();
        PyErr_Format(PyExc_ImportError,
                     "%R has no member %R in this interpreter, which is in a "
                     "frozen graph",
                     parts[0], parts[1]);
    }
    return obj;
}

PyObject *
frozen_cast(core_state *Py_UNUSED(state), const frozen_mold *mold,
            PyObject *const *parts, bool thaw)
{
    Py_ssize_t count = mold->count;
    switch ((mold_kind)mold->kind) {
    case MOLD_TUPLE:
        return mold_sequence(parts, count, false);
    case MOLD_LIST:
        return mold_sequence(parts, count, thaw);
    case MOLD_DICT:
        return mold_mapping(parts, count, thaw);
    case MOLD_SLICE:
        return PySlice_New(parts[0], parts[1], parts[2]);
    case MOLD_SET:
        return mold_set(parts, count, thaw);
    case MOLD_FROZENSET:
        return mold_set(parts, count, false);
    case MOLD_GLOBAL:
        return mold_global(mold, parts);
    case MOLD_CALL:
        return PyObject_Vectorcall(parts[0], parts + 1, (size_t)(count - 1), NULL);
    case MOLD_FIELDS:
        return mold_instance(parts, count);
    case MOLD_NAMED:
        return mold_named(parts, count);
    case MOLD_MEMBER:
        return mold_member(parts);
    case MOLD_BUFFER:
        return mold_helper(thaw ? "thaw_buffer" : "open_buffer", parts, count);
    case MOLD_NAMES:
        return mold_names(parts, count);
    }
    Py_UNREACHABLE();
}
