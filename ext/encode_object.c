/* Objects that are not built in: by name, by value, or taken apart as pickle
 * takes them apart (the reduce protocol of PEP 307 and PEP 574), but with one
 * memo for the whole message, so that what is shared stays shared. */
#include "compat.h"
#include "encoder.h"
#include "home.h"

/* --------------------------------------------------------------- by name */

static int
enc_name(encoder *e, PyObject *obj, PyObject *module, PyObject *qualname)
{
    if (enc_tag(e, TAG_GLOBAL | MEMO) < 0) {
        return -1;
    }
    int memo = 0, known = enc_memo(e, module, &memo);
    if (known < 0 || (known == 0 && enc_str(e, module, memo) < 0) ||
        enc_str(e, qualname, 0) < 0) {
        return -1;
    }
    return enc_number(e, obj);
}

/* Does `module` hold `obj` under this name, in a place that every interpreter
 * has? 1, 0, or -1 with an exception. */
static int
is_importable(PyObject *obj, PyObject *module, PyObject *qualname)
{
    if (!PyUnicode_CheckExact(module) || !PyUnicode_CheckExact(qualname) ||
        PyUnicode_EqualToUTF8(module, "__main__")) {
        return 0;
    }
    PyObject *at = PyImport_GetModule(module);
    if (at == NULL) {
        if (PyErr_Occurred()) {
            return -1;
        }
        at = PyImport_Import(module);
        if (at == NULL) {
            PyErr_Clear();
            return 0;
        }
    }
    Py_ssize_t length = PyUnicode_GET_LENGTH(qualname), from = 0;
    while (at != NULL && from <= length) {
        Py_ssize_t dot = PyUnicode_FindChar(qualname, '.', from, length, 1);
        if (dot < 0) {
            dot = length;
        }
        PyObject *name = PyUnicode_Substring(qualname, from, dot);
        PyObject *next = NULL;
        if (name != NULL && PyObject_GetOptionalAttr(at, name, &next) < 0) {
            PyErr_Clear(); /* a descriptor's code: then it is not there */
        }
        Py_XDECREF(name);
        Py_SETREF(at, next);
        from = dot + 1;
    }
    int found = at == obj;
    Py_XDECREF(at);
    return PyErr_Occurred() ? -1 : found;
}

/* The pure-Python datetime says that its classes are those of _pydatetime. By
 * that name they would arrive in the main interpreter as classes that nobody
 * there uses. */
static void
correct_module(PyObject **module)
{
    if (COMPAT_NO_C_DATETIME && PyUnicode_CheckExact(*module) &&
        PyUnicode_EqualToUTF8(*module, "_pydatetime")) {
        Py_XSETREF(*module, PyUnicode_InternFromString("datetime"));
    }
}

/* Functions and classes know where they are from; look it up. *module and
 * *qualname are new references, or NULL. */
static int
names_of(PyObject *obj, PyObject **module, PyObject **qualname)
{
    *qualname = NULL;
    if (PyObject_GetOptionalAttrString(obj, "__module__", module) < 0 ||
        PyObject_GetOptionalAttrString(obj, "__qualname__", qualname) < 0) {
        Py_CLEAR(*module);
        return -1;
    }
    if (*module != NULL) {
        correct_module(module);
    }
    return 0;
}

/* -------------------------------------------------------------- by value */

/* atoll._pickle.<name>, kept in *slot. Borrowed. */
static PyObject *
helper(PyObject **slot, const char *name)
{
    if (*slot == NULL) {
        PyObject *module = PyImport_ImportModule("atoll._pickle");
        PyObject *function =
            module == NULL ? NULL : PyObject_GetAttrString(module, name);
        Py_XDECREF(module);
        if (function == NULL) {
            return NULL;
        }
        Py_XSETREF(*slot, function);
    }
    return *slot;
}

/* Is the current exception one that says that something cannot be pickled? */
static bool
says_unpicklable(void)
{
    if (PyErr_ExceptionMatches(PyExc_TypeError) ||
        PyErr_ExceptionMatches(PyExc_AttributeError)) {
        return true;
    }
    PyObject *exc = PyErr_GetRaisedException();
    PyObject *pickle = PyImport_ImportModule("_pickle");
    PyObject *cls =
        pickle == NULL ? NULL : PyObject_GetAttrString(pickle, "PicklingError");
    bool matches = cls != NULL && PyErr_GivenExceptionMatches(exc, cls);
    Py_XDECREF(pickle);
    Py_XDECREF(cls);
    PyErr_SetRaisedException(exc);
    return matches;
}

/* atoll._pickle.by_value(obj) -> (digest or None, pickle) */
static int
enc_by_value(encoder *e, PyObject *obj)
{
    PyObject *function = helper(&e->state->by_value, "by_value");
    if (function == NULL) {
        return -1;
    }
    enc_link(e); /* handles that the function holds find us */
    PyObject *pair = PyObject_CallOneArg(function, obj);
    if (pair == NULL) {
        return says_unpicklable() ? enc_refuse(e, obj) : -1;
    }
    PyObject *digest, *data;
    int rc = -1;
    if (PyArg_ParseTuple(pair, "OO!", &digest, &PyBytes_Type, &data)) {
        uint64_t size = (uint64_t)PyBytes_GET_SIZE(data);
        unsigned char head[17 + sizeof(size)] = {0};
        if (PyBytes_CheckExact(digest) && PyBytes_GET_SIZE(digest) == 16) {
            head[0] = 1;
            memcpy(head + 1, PyBytes_AS_STRING(digest), 16);
        }
        memcpy(head + 17, &size, sizeof(size));
        unsigned char *at = NULL;
        if (enc_put(e, TAG_BY_VALUE | MEMO, head, sizeof(head)) == 0) {
            at = enc_reserve(e, (size_t)size);
        }
        if (at != NULL) {
            memcpy(at, PyBytes_AS_STRING(data), (size_t)size);
            rc = enc_number(e, obj);
        }
    }
    Py_DECREF(pair);
    return rc;
}

/* None's class and its like have names that no module holds. */
static bool
is_class_of_constant(PyObject *obj)
{
    return obj == (PyObject *)Py_TYPE(Py_None) ||
           obj == (PyObject *)Py_TYPE(Py_NotImplemented) ||
           obj == (PyObject *)Py_TYPE(Py_Ellipsis);
}

static int
enc_class_of_constant(encoder *e, PyObject *obj)
{
    PyObject *of = obj == (PyObject *)Py_TYPE(Py_None) ? Py_None
                   : obj == (PyObject *)Py_TYPE(Py_Ellipsis)
                       ? Py_Ellipsis
                       : Py_NotImplemented;
    uint8_t one = 1, build = 0;
    if (enc_put(e, TAG_CALL | MEMO, &build, 1) < 0 ||
        enc_global(e, (PyObject *)&PyType_Type) < 0 ||
        enc_put(e, TAG_TUPLE8, &one, 1) < 0 || enc_object(e, of) < 0) {
        return -1;
    }
    return enc_number(e, obj);
}

int
enc_global(encoder *e, PyObject *obj)
{
    int known = enc_known(e, obj);
    if (known != 0) {
        return known < 0 ? -1 : 0;
    }
    if (is_class_of_constant(obj)) {
        return enc_class_of_constant(e, obj);
    }
    PyObject *module, *qualname;
    if (names_of(obj, &module, &qualname) < 0) {
        return -1;
    }
    int rc = module == NULL || qualname == NULL
                 ? 0
                 : is_importable(obj, module, qualname);
    if (rc > 0) {
        rc = enc_name(e, obj, module, qualname);
    }
    else if (rc == 0) {
        rc = enc_by_value(e, obj);
    }
    Py_XDECREF(module);
    Py_XDECREF(qualname);
    return rc;
}

/* ------------------------------------------------------- what a class is like */

static bool
inherits(PyTypeObject *type, PyTypeObject *base, const char *name)
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
    return inherits(type, &PyBaseObject_Type, "__reduce_ex__") &&
           inherits(type, &PyBaseObject_Type, "__reduce__") &&
           inherits(type, &PyBaseObject_Type, "__getstate__") &&
           inherits(type, NULL, "__setstate__") &&
           inherits(type, NULL, "__getnewargs__") &&
           inherits(type, NULL, "__getnewargs_ex__") &&
           inherits(type, &PyBaseObject_Type, "__class__") &&
           inherits(type, &PyBaseObject_Type, "__getattribute__") &&
           inherits(type, NULL, "__getattr__");
}

/* copyreg.dispatch_table, registered reducers: one lookup. A new reference, or
 * NULL; an exception may be set. */
static PyObject *
reducer_of(core_state *state, PyTypeObject *type)
{
    PyObject *found = NULL;
    if (state->copyreg_table == NULL) {
        PyObject *copyreg = PyImport_ImportModule("copyreg");
        if (copyreg == NULL) {
            return NULL;
        }
        state->copyreg_table =
            PyObject_GetAttrString(copyreg, "dispatch_table");
        Py_DECREF(copyreg);
        if (state->copyreg_table == NULL) {
            return NULL;
        }
    }
    (void)PyDict_GetItemRef(state->copyreg_table, (PyObject *)type, &found);
    return found;
}

/* ----------------------------------------------------------- plain instances */

/* shape: what e->types holds for a plain class: (number, names) of its last
 * instance. Instances with other names get another shape. */
static int
enc_new_shape(encoder *e, PyTypeObject *type, PyObject *dict, int memo)
{
    Py_ssize_t count = PyDict_GET_SIZE(dict), at = 0, i = 0;
    uint32_t n = (uint32_t)count;
    PyObject *key, *names = PyTuple_New(count);
    if (names == NULL) {
        return -1;
    }
    while (i < count && PyDict_Next(dict, &at, &key, NULL)) {
        PyTuple_SET_ITEM(names, i++, Py_NewRef(key));
    }
    int rc = -1;
    PyObject *shape = Py_BuildValue("IO", (unsigned)e->shapes, names);
    if (shape != NULL &&
        PyDict_SetItem(e->types, (PyObject *)type, shape) == 0 &&
        enc_tag(e, TAG_SHAPE | memo) == 0 &&
        enc_global(e, (PyObject *)type) == 0) {
        unsigned char *to = enc_reserve(e, sizeof(n));
        rc = to == NULL ? -1 : 0;
        if (to != NULL) {
            memcpy(to, &n, sizeof(n));
        }
        e->shapes++;
    }
    for (i = 0; i < count && rc == 0; i++) {
        key = PyTuple_GET_ITEM(names, i);
        int key_memo = 0, known = enc_memo(e, key, &key_memo);
        rc = known < 0 || (known == 0 && enc_str(e, key, key_memo) < 0) ? -1
                                                                        : 0;
    }
    Py_XDECREF(shape);
    Py_DECREF(names);
    return rc;
}

/* Do the keys of `dict` equal `names`, by identity and in order? */
static bool
has_names(PyObject *dict, PyObject *names)
{
    Py_ssize_t at = 0, i = 0;
    PyObject *key;
    if (PyDict_GET_SIZE(dict) != PyTuple_GET_SIZE(names)) {
        return false;
    }
    while (PyDict_Next(dict, &at, &key, NULL)) {
        if (key != PyTuple_GET_ITEM(names, i++)) {
            return false;
        }
    }
    return true;
}

static bool
has_str_keys(PyObject *dict)
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

static int enc_reduce(encoder *e, PyObject *obj);

/* `shape` is borrowed: it is used before any code can run. */
static int
enc_plain(encoder *e, PyObject *obj, PyObject *shape)
{
    PyTypeObject *type = Py_TYPE(obj);
    PyObject *dict = PyObject_GenericGetDict(obj, NULL);
    if (dict == NULL) {
        return -1;
    }
    /* The names of a shape are str. */
    bool same = PyDict_CheckExact(dict) && PyTuple_Check(shape) &&
                has_names(dict, PyTuple_GET_ITEM(shape, 1));
    if (!same && (!PyDict_CheckExact(dict) || !has_str_keys(dict))) {
        Py_DECREF(dict);
        return enc_reduce(e, obj);
    }
    int memo = 0, known = enc_memo(e, obj, &memo), rc = known < 0 ? -1 : 0;
    if (known == 0) {
        if (same) {
            uint32_t number =
                (uint32_t)PyLong_AsUnsignedLong(PyTuple_GET_ITEM(shape, 0));
            rc = enc_put(e, TAG_INSTANCE | memo, &number, sizeof(number));
        }
        else {
            rc = enc_new_shape(e, type, dict, memo);
        }
        Py_ssize_t count = PyDict_GET_SIZE(dict), at = 0, done = 0;
        PyObject *key, *value;
        while (rc == 0 && done < count &&
               PyDict_Next(dict, &at, &key, &value)) {
            Py_INCREF(key);
            rc = enc_object(e, value);
            if (rc < 0) {
                enc_path(e, ".%U", key);
            }
            Py_DECREF(key);
            done++;
        }
        if (rc == 0 && (done != count || PyDict_GET_SIZE(dict) != count)) {
            PyErr_SetString(PyExc_RuntimeError,
                            "an object changed while it was sent");
            rc = -1;
        }
    }
    Py_DECREF(dict);
    return rc;
}

/* ------------------------------------------------------------ taken apart */

/* Items of an iterator until it ends, then TAG_END. */
static int
enc_iter(encoder *e, PyObject *iter, bool pairs)
{
    Py_ssize_t i = 0;
    if (!PyIter_Check(iter)) {
        PyErr_SetString(PyExc_TypeError,
                        "__reduce__ must return iterators as its fourth and "
                        "fifth item");
        return -1;
    }
    PyObject *item;
    while ((item = PyIter_Next(iter)) != NULL) {
        int rc;
        if (!pairs) {
            rc = enc_object(e, item);
            if (rc < 0) {
                enc_path(e, "[%zd]", i);
            }
        }
        else if (!PyTuple_Check(item) || PyTuple_GET_SIZE(item) != 2) {
            PyErr_SetString(PyExc_TypeError,
                            "the fifth item of __reduce__ must yield pairs");
            rc = -1;
        }
        else {
            PyObject *key = PyTuple_GET_ITEM(item, 0);
            rc = enc_object(e, key);
            if (rc == 0) {
                rc = enc_object(e, PyTuple_GET_ITEM(item, 1));
                if (rc < 0) {
                    enc_path(e, "[%R]", key);
                }
            }
        }
        Py_DECREF(item);
        if (rc < 0) {
            return -1;
        }
        i++;
    }
    return PyErr_Occurred() ? -1 : enc_tag(e, TAG_END);
}

static bool
is_named(PyObject *func, const char *name)
{
    PyObject *own = NULL;
    bool same = PyObject_GetOptionalAttrString(func, "__name__", &own) > 0 &&
                PyUnicode_Check(own) && PyUnicode_EqualToUTF8(own, name);
    Py_XDECREF(own);
    PyErr_Clear();
    return same;
}

static PyObject *
optional(PyObject *tuple, Py_ssize_t i)
{
    PyObject *item =
        i < PyTuple_GET_SIZE(tuple) ? PyTuple_GET_ITEM(tuple, i) : Py_None;
    return item == Py_None ? NULL : item;
}

/* The arguments: a tuple, whose items are named by position. */
static int
enc_args(encoder *e, PyObject *args, Py_ssize_t from)
{
    uint64_t count = (uint64_t)(PyTuple_GET_SIZE(args) - from);
    if (enc_put(e, TAG_TUPLE, &count, sizeof(count)) < 0) {
        return -1;
    }
    for (Py_ssize_t i = from; i < PyTuple_GET_SIZE(args); i++) {
        if (enc_object(e, PyTuple_GET_ITEM(args, i)) < 0) {
            enc_path(e, ".__reduce__()[1][%zd]", i);
            return -1;
        }
    }
    return 0;
}

/* The state is mostly a dict of attributes: name them so in a path. */
static int
enc_state(encoder *e, PyObject *state)
{
    if (!PyDict_CheckExact(state)) {
        int rc = enc_object(e, state);
        if (rc < 0) {
            enc_path(e, ".__getstate__()");
        }
        return rc;
    }
    return enc_object(e, state);
}

/* The tuple that a reducer returned. */
static int
enc_reduced(encoder *e, PyObject *obj, PyObject *value)
{
    Py_ssize_t size = PyTuple_GET_SIZE(value);
    if (size < 2 || size > 6 || !PyCallable_Check(PyTuple_GET_ITEM(value, 0)) ||
        !PyTuple_Check(PyTuple_GET_ITEM(value, 1))) {
        PyErr_Format(PyExc_TypeError,
                     "__reduce__ of %.200s must return a str, or a tuple of "
                     "two to six items that begins with a callable and a "
                     "tuple",
                     Py_TYPE(obj)->tp_name);
        return -1;
    }
    PyObject *func = PyTuple_GET_ITEM(value, 0);
    PyObject *args = PyTuple_GET_ITEM(value, 1);
    PyObject *state = optional(value, 2), *list = optional(value, 3);
    PyObject *dict = optional(value, 4), *setter = optional(value, 5);
    uint8_t build = (uint8_t)((list != NULL ? BUILD_LIST : 0) |
                              (dict != NULL ? BUILD_DICT : 0) |
                              (state != NULL ? BUILD_STATE : 0) |
                              (setter != NULL ? BUILD_SETTER : 0));
    /* copyreg.__newobj__(cls, *args) is cls.__new__(cls, *args). */
    bool is_new = PyTuple_GET_SIZE(args) > 0 &&
                  PyType_Check(PyTuple_GET_ITEM(args, 0)) &&
                  is_named(func, "__newobj__");
    if (enc_put(e, (is_new ? TAG_NEW : TAG_CALL) | MEMO, &build, 1) < 0 ||
        enc_object(e, is_new ? PyTuple_GET_ITEM(args, 0) : func) < 0 ||
        enc_args(e, args, is_new ? 1 : 0) < 0 || enc_number(e, obj) < 0) {
        return -1;
    }
    if ((list != NULL && enc_iter(e, list, false) < 0) ||
        (dict != NULL && enc_iter(e, dict, true) < 0) ||
        (setter != NULL && enc_object(e, setter) < 0)) {
        return -1;
    }
    return state == NULL ? 0 : enc_state(e, state);
}

/* Classes whose own reduction is not what crossing needs: what atoll._pickle
 * says of them instead. */
static const struct {
    const char *name, *module, *function;
} corrected[] = {
    {"Connection", "multiprocessing.connection", "reduce"},
#if COMPAT_NO_C_DATETIME
    {"timezone", "_pydatetime", "reduce_timezone"},
#endif
};

/* The name of that function, or NULL. */
static const char *
correction_of(PyTypeObject *type)
{
    for (size_t i = 0; i < Py_ARRAY_LENGTH(corrected); i++) {
        if (strcmp(type->tp_name, corrected[i].name) == 0) {
            PyObject *module = PyObject_GetAttrString((PyObject *)type,
                                                      "__module__");
            bool same = module != NULL && PyUnicode_Check(module) &&
                        PyUnicode_EqualToUTF8(module, corrected[i].module);
            Py_XDECREF(module);
            PyErr_Clear();
            if (same) {
                return corrected[i].function;
            }
        }
    }
    return NULL;
}

static PyObject *
call_correction(PyObject *obj, const char *name)
{
    PyObject *module = PyImport_ImportModule("atoll._pickle");
    PyObject *value =
        module == NULL ? NULL : PyObject_CallMethod(module, name, "O", obj);
    Py_XDECREF(module);
    return value;
}

/* What object.__reduce_ex__ and its like return; also copyreg's reducers. */
static PyObject *
call_reduce(core_state *state, PyObject *obj)
{
    const char *correction = correction_of(Py_TYPE(obj));
    if (correction != NULL) {
        return call_correction(obj, correction);
    }
    PyObject *reducer = reducer_of(state, Py_TYPE(obj));
    if (reducer != NULL) {
        PyObject *value = PyObject_CallOneArg(reducer, obj);
        Py_DECREF(reducer);
        return value;
    }
    return PyErr_Occurred()
               ? NULL
               : PyObject_CallMethod(obj, "__reduce_ex__", "i", 5);
}

/* cloudpickle knows some types that pickle does not. A reduce value, or NULL
 * with the exception that was there before. */
static PyObject *
call_cloudpickle(core_state *state, PyObject *obj)
{
    PyObject *reason = PyErr_GetRaisedException();
    PyObject *function = helper(&state->reduce, "reduce");
    PyObject *value =
        function == NULL ? NULL : PyObject_CallOneArg(function, obj);
    if (value == NULL || value == Py_None) {
        Py_CLEAR(value);
        PyErr_SetRaisedException(reason); /* replaces any other */
        return NULL;
    }
    Py_DECREF(reason);
    return value;
}

/* A reducer returned a str: the name of a constant in obj's module. */
static int
enc_reduced_name(encoder *e, PyObject *obj, PyObject *name)
{
    PyObject *module;
    int rc = PyObject_GetOptionalAttrString(obj, "__module__", &module);
    if (rc > 0) {
        rc = is_importable(obj, module, name);
    }
    if (rc > 0) {
        rc = enc_name(e, obj, module, name);
    }
    else if (rc == 0) {
        PyErr_Format(PyExc_TypeError, "no module has it under the name %R",
                     name);
        rc = enc_refuse(e, obj);
    }
    Py_XDECREF(module);
    return rc;
}

static int
enc_reduce(encoder *e, PyObject *obj)
{
    int known = enc_known(e, obj);
    if (known != 0) {
        return known < 0 ? -1 : 0;
    }
    enc_link(e);
    PyObject *value = call_reduce(e->state, obj);
    if (value == NULL && says_unpicklable()) {
        value = call_cloudpickle(e->state, obj);
        if (value == NULL) {
            return enc_refuse(e, obj);
        }
    }
    if (value == NULL) {
        return -1;
    }
    int rc;
    if (PyUnicode_Check(value)) {
        rc = enc_reduced_name(e, obj, value);
    }
    else if (PyTuple_Check(value)) {
        rc = enc_reduced(e, obj, value);
    }
    else {
        PyErr_Format(PyExc_TypeError,
                     "__reduce__ of %.200s must return a str or a tuple, not "
                     "%.200s",
                     Py_TYPE(obj)->tp_name, Py_TYPE(value)->tp_name);
        rc = -1;
    }
    Py_DECREF(value);
    return rc;
}

/* ------------------------------------------------------------- exceptions */

/* Does its class leave it to a built-in exception how it is taken apart? Then
 * it can be put together without the __init__ of the user's, which rarely takes
 * what ends up in `args`. */
static bool
is_plain_exception(PyTypeObject *type)
{
    static const char *const names[] = {"__reduce__", "__reduce_ex__",
                                        "__setstate__", "__getstate__"};
    PyTypeObject *base = type;
    while (base->tp_flags & Py_TPFLAGS_HEAPTYPE) {
        base = base->tp_base;
    }
    for (size_t i = 0; i < Py_ARRAY_LENGTH(names); i++) {
        if (!inherits(type, base, names[i])) {
            return false;
        }
    }
    return true;
}

/* The traceback as text, for the outermost exception of a message only: it
 * tells of the causes as well. A new reference. */
static PyObject *
traceback_text(encoder *e, PyObject *exc)
{
    PyObject *traceback = PyException_GetTraceback(exc);
    if (traceback == NULL || e->in_exception) {
        Py_XDECREF(traceback);
        return Py_NewRef(Py_None);
    }
    Py_DECREF(traceback);
    PyObject *function = helper(&e->state->traceback_text, "traceback_text");
    return function == NULL ? NULL : PyObject_CallOneArg(function, exc);
}

/* cause, context, suppress_context, text: after what the exception is itself. */
static int
enc_chain(encoder *e, PyObject *exc)
{
    PyObject *text = traceback_text(e, exc);
    if (text == NULL) {
        return -1;
    }
    bool outermost = !e->in_exception;
    e->in_exception = true;
    PyObject *cause = PyException_GetCause(exc);
    PyObject *context = PyException_GetContext(exc);
    uint8_t suppress = ((PyBaseExceptionObject *)exc)->suppress_context != 0;
    int rc = enc_object(e, cause == NULL ? Py_None : cause);
    if (rc < 0) {
        enc_path(e, ".__cause__");
    }
    else {
        rc = enc_object(e, context == NULL ? Py_None : context);
        if (rc < 0) {
            enc_path(e, ".__context__");
        }
    }
    if (rc == 0) {
        rc = enc_object(e, text);
    }
    if (rc == 0) {
        unsigned char *at = enc_reserve(e, 1);
        rc = at == NULL ? -1 : 0;
        if (at != NULL) {
            *at = suppress;
        }
    }
    if (outermost) {
        e->in_exception = false;
    }
    Py_XDECREF(cause);
    Py_XDECREF(context);
    Py_DECREF(text);
    return rc;
}

/* TAG_EXCEPTION: whether to call (0) or to build (1); the callable and its
 * arguments; here it gets its number; the state or None; the chain. */
static int
enc_exception(encoder *e, PyObject *obj)
{
    int known = enc_known(e, obj);
    if (known != 0) {
        return known < 0 ? -1 : 0;
    }
    enc_link(e);
    PyObject *value = call_reduce(e->state, obj);
    if (value == NULL) {
        return says_unpicklable() ? enc_refuse(e, obj) : -1;
    }
    PyObject *func, *args, *state = Py_None;
    if (!PyTuple_Check(value) ||
        !PyArg_ParseTuple(value, "OO!|O", &func, &PyTuple_Type, &args,
                          &state)) {
        /* It says something else about itself: then only that crosses. */
        PyErr_Clear();
        int rc = PyTuple_Check(value) ? enc_reduced(e, obj, value)
                                      : enc_refuse(e, obj);
        Py_DECREF(value);
        return rc;
    }
    uint8_t build =
        func == (PyObject *)Py_TYPE(obj) && is_plain_exception(Py_TYPE(obj));
    int rc = enc_put(e, TAG_EXCEPTION | MEMO, &build, 1);
    if (rc == 0) {
        rc = enc_object(e, func);
    }
    for (Py_ssize_t i = -1; i < PyTuple_GET_SIZE(args) && rc == 0; i++) {
        if (i < 0) {
            uint64_t count = (uint64_t)PyTuple_GET_SIZE(args);
            rc = enc_put(e, TAG_TUPLE, &count, sizeof(count));
            continue;
        }
        rc = enc_object(e, PyTuple_GET_ITEM(args, i));
        if (rc < 0) {
            enc_path(e, ".args[%zd]", i);
        }
    }
    if (rc == 0 && (rc = enc_number(e, obj)) == 0) {
        rc = enc_object(e, state);
        if (rc < 0) {
            enc_path(e, ".__dict__");
        }
    }
    if (rc == 0) {
        rc = enc_chain(e, obj);
    }
    Py_DECREF(value);
    return rc;
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
            rc = enc_number(e, obj);
        }
    }
    Py_XDECREF(value);
    Py_DECREF(pair);
    return rc;
}

/* (reduce, rebuild) of the type, borrowed, or NULL; an exception may be set. */
static PyObject *
registered(encoder *e, PyTypeObject *type)
{
    core_state *state = e->state;
    PyObject *pair =
        PyDict_GetItemWithError(state->reducers, (PyObject *)type);
    if (pair != NULL || PyErr_Occurred() || state->inherit == NULL ||
        (e->types != NULL && PyDict_Contains(e->types, (PyObject *)type))) {
        return pair;
    }
    /* Reducers that were registered where this interpreter was made are looked
     * up by name when the type is first met: atoll._registry. */
    PyObject *found =
        PyObject_CallOneArg(state->inherit, (PyObject *)type);
    Py_XDECREF(found); /* it is in the dict now, or None */
    return found == NULL || found == Py_None
               ? NULL
               : PyDict_GetItemWithError(state->reducers, (PyObject *)type);
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
    if (is_plain_class(type) && correction_of(type) == NULL) {
        PyObject *reducer = reducer_of(e->state, type);
        if (PyErr_Occurred()) {
            return NULL;
        }
        known = reducer == NULL ? Py_None : Py_False;
        Py_XDECREF(reducer);
    }
    return PyDict_SetItem(e->types, (PyObject *)type, known) < 0 ? NULL
                                                                 : known;
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
        return enc_refuse(e, obj);
    }
    PyObject *pair = registered(e, type);
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
