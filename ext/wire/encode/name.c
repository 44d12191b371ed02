/* Encoding functions and classes: by name, or by value. */
#include "cpython/version.h"
#include "wire/encode/encoder.h"

/* --------------------------------------------------------------- by name */

int
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

/* Does `at`, a module (stolen), hold `obj` under this name? 1, 0, or -1 with an
 * exception. */
static int
name_leads_to(PyObject *at, PyObject *qualname, PyObject *obj)
{
    Py_ssize_t length = PyUnicode_GET_LENGTH(qualname), from = 0;
    while (at != NULL && from <= length) {
        Py_ssize_t dot = PyUnicode_FindChar(qualname, '.', from, length, 1);
        if (dot < 0) {
            dot = length;
        }
        PyObject *name = PyUnicode_Substring(qualname, from, dot);
        PyObject *next = NULL;
        if (name != NULL && PyObject_GetOptionalAttr(at, name, &next) < 0 &&
            PyErr_ExceptionMatches(PyExc_Exception)) {
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

/* Does the module of that name, imported if need be, hold `obj` under `qualname`?
 * 1, and *held is a new reference to it; 0; or -1 with an exception. */
static int
name_is_held(PyObject *obj, PyObject *module, PyObject *qualname, PyObject **held)
{
    *held = NULL;
    if (!PyUnicode_CheckExact(module) || !PyUnicode_CheckExact(qualname) ||
        PyUnicode_EqualToUTF8(module, "__main__")) {
        return 0;
    }
    /* First as it is now. CPython waits until it has been imported in whole, and the
     * thread that does so may be waiting for this one. */
    PyObject *modules = PyImport_GetModuleDict(), *at = NULL; /* borrowed */
    if (PyDict_Check(modules) && PyDict_GetItemRef(modules, module, &at) < 0) {
        return -1;
    }
    int found = at == NULL ? 0 : name_leads_to(Py_NewRef(at), qualname, obj);
    if (found == 0) {
        Py_XSETREF(at, PyImport_GetModule(module));
        if (at == NULL && PyErr_Occurred()) {
            return -1;
        }
        if (at == NULL) {
            at = PyImport_Import(module);
        }
        if (at == NULL) {
            if (!PyErr_ExceptionMatches(PyExc_Exception)) {
                return -1; /* an interrupt is not an answer */
            }
            PyErr_Clear();
            return 0;
        }
        found = name_leads_to(Py_NewRef(at), qualname, obj);
    }
    if (found > 0) {
        *held = at;
    }
    else {
        Py_XDECREF(at);
    }
    return found;
}

/* Has the user told cloudpickle that this module's code goes by value, or that of a
 * package above it? 1, 0, or -1 with an exception. Looked up as soon as cloudpickle has
 * been imported, by whomever. */
static int
is_registered(wire_data *data, PyObject *name)
{
    PyObject *modules = PyImport_GetModuleDict(); /* borrowed; anything, by now */
    if (data->registered == NULL && PyDict_Check(modules)) {
        PyObject *package = NULL;
        if (data->cloudpickle == NULL) {
            data->cloudpickle = PyUnicode_InternFromString("cloudpickle.cloudpickle");
        }
        if (data->cloudpickle == NULL ||
            PyDict_GetItemRef(modules, data->cloudpickle, &package) < 0) {
            return -1;
        }
        if (package != NULL &&
            PyObject_GetOptionalAttrString(package, "_PICKLE_BY_VALUE_MODULES",
                                           &data->registered) < 0) {
            PyErr_Clear(); /* half imported */
        }
        Py_XDECREF(package);
    }
    if (data->registered == NULL || !PySet_Check(data->registered) ||
        PySet_GET_SIZE(data->registered) == 0) {
        return 0;
    }
    PyObject *answer = package_call(PACKAGE_MODULES, "is_registered", "(O)", name);
    int rc = answer == NULL ? -1 : answer == Py_True;
    Py_XDECREF(answer);
    return rc;
}

/* Do other interpreters find this module, which is there under that name? 1, 0, or -1
 * with an exception. Asked once for each, as long as the name is the same module's. */
static int
name_is_found(encoder *e, PyObject *name, PyObject *module)
{
    wire_data *data = e->state->wire;
    if (PyUnicode_EqualToUTF8(name, "builtins")) {
        return 1;
    }
    int by_value = is_registered(data, name);
    if (by_value != 0) {
        return by_value < 0 ? -1 : 0;
    }
    PyObject *known = PyDict_GetItemWithError(data->found_modules, name);
    if (known != NULL && PyLong_AsVoidPtr(known) == module) {
        return 1;
    }
    if (known == NULL && PyErr_Occurred()) {
        return -1;
    }
    enc_link(e);
    PyObject *function = package_keep(&data->is_found, PACKAGE_MODULES, "is_found");
    PyObject *answer = function == NULL
                           ? NULL
                           : PyObject_CallFunctionObjArgs(function, name, module, NULL);
    if (answer == NULL) {
        if (!PyErr_ExceptionMatches(PyExc_Exception)) {
            return -1;
        }
        PyErr_Clear(); /* at its end an interpreter cannot import any more */
        return 1;
    }
    int rc = answer == Py_True;
    Py_DECREF(answer);
    if (rc > 0) {
        PyObject *address = PyLong_FromVoidPtr(module);
        if (address == NULL || PyDict_SetItem(data->found_modules, name, address) < 0) {
            rc = -1;
        }
        Py_XDECREF(address);
    }
    return rc;
}

/* As what the module's file gives, for a module that others would not find:
 * atoll._cross.modules.reduce(name, qualname). 1; 0 if there is no file; or -1. */
static int
enc_from_file(encoder *e, PyObject *obj, PyObject *module, PyObject *qualname)
{
    PyObject *value = package_call(PACKAGE_MODULES, "reduce", "(OO)", module, qualname);
    int rc = value == NULL ? -1 : 0;
    if (value != NULL && PyTuple_Check(value)) {
        rc = enc_reduced(e, obj, value) < 0 ? -1 : 1;
    }
    Py_XDECREF(value);
    return rc;
}

int
enc_by_name(encoder *e, PyObject *obj, PyObject *module, PyObject *qualname)
{
    PyObject *held;
    int rc = name_is_held(obj, module, qualname, &held);
    if (rc <= 0) {
        return rc;
    }
    rc = name_is_found(e, module, held);
    if (rc > 0) {
        rc = enc_name(e, obj, module, qualname) < 0 ? -1 : 1;
    }
    else if (rc == 0) {
        rc = enc_from_file(e, obj, module, qualname);
    }
    Py_DECREF(held);
    return rc;
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

/* 3.13's exceptions of interpreters say that they are from a module which is not
 * there yet. -1 with an exception. */
static int
correct_interpreters(PyObject *obj, PyObject **module, PyObject *qualname)
{
    if (!COMPAT_NO_INTERPRETERS || qualname == NULL || !PyUnicode_CheckExact(*module) ||
        !PyUnicode_EqualToUTF8(*module, "interpreters")) {
        return 0;
    }
    PyObject *right = PyUnicode_InternFromString("_interpreters");
    PyObject *held = NULL;
    int found = right == NULL ? -1 : name_is_held(obj, right, qualname, &held);
    if (found > 0) {
        Py_SETREF(*module, Py_NewRef(right));
    }
    Py_XDECREF(held);
    Py_XDECREF(right);
    return found < 0 ? -1 : 0;
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
    if (*module != NULL && correct_interpreters(obj, module, *qualname) < 0) {
        Py_CLEAR(*module);
        Py_CLEAR(*qualname);
        return -1;
    }
    return 0;
}

/* -------------------------------------------------------------- by value */

PyObject *
enc_helper(PyObject **slot, const char *name)
{
    return package_keep(slot, PACKAGE_PICKLE, name);
}

/* Is the current exception one that says that `obj` cannot be pickled? */
bool
enc_says_unpicklable(PyObject *obj)
{
    if (PyErr_ExceptionMatches(PyExc_ValueError)) {
        /* Of ctypes and its like; a method in Python means what it says. */
        PyObject *name = PyUnicode_InternFromString("__reduce__");
        PyObject *method = name == NULL ? NULL : compat_type_lookup(Py_TYPE(obj), name);
        Py_XDECREF(name);
        return method != NULL && Py_IS_TYPE(method, &PyMethodDescr_Type);
    }
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

/* A function that is constant, as bytes that both sides keep by their digest:
 * atoll._constant.constant(obj) -> (digest, bytes). 1; 0 if it is not; or -1. */
static int
enc_constant_function(encoder *e, PyObject *obj)
{
    PyObject *function =
        package_keep(&e->state->wire->constant, PACKAGE_CONSTANT, "constant");
    PyObject *pair = function == NULL ? NULL : PyObject_CallOneArg(function, obj);
    if (pair == NULL || pair == Py_None) {
        Py_XDECREF(pair);
        return pair == NULL ? -1 : 0;
    }
    const char *digest, *data;
    Py_ssize_t digest_size, size;
    int rc = -1;
    if (PyArg_ParseTuple(pair, "y#y#", &digest, &digest_size, &data, &size) &&
        digest_size == DIGEST_SIZE) {
        uint64_t n = (uint64_t)size;
        unsigned char *at = enc_reserve(e, 1 + DIGEST_SIZE + sizeof(n) + (size_t)size);
        if (at != NULL) {
            at[0] = TAG_CONSTANT | MEMO;
            memcpy(at + 1, digest, DIGEST_SIZE);
            memcpy(at + 1 + DIGEST_SIZE, &n, sizeof(n));
            memcpy(at + 1 + DIGEST_SIZE + sizeof(n), data, (size_t)size);
            rc = enc_number(e, obj) < 0 ? -1 : 1;
        }
    }
    Py_DECREF(pair);
    return rc;
}

/* Anything else: taken apart as cloudpickle does it, into code, names, cells:
 * what is captured is part of the message, and of its memo. */
static int
enc_by_value(encoder *e, PyObject *obj)
{
    enc_link(e);
    if (PyFunction_Check(obj)) {
        int done = enc_constant_function(e, obj);
        if (done > 0) {
            return 0;
        }
        if (done < 0) {
            return enc_says_unpicklable(obj) ? enc_refuse(e, obj) : -1;
        }
    }
    PyObject *function = enc_helper(&e->state->wire->by_value, "by_value");
    PyObject *pair =
        function == NULL
            ? NULL
            : PyObject_CallFunctionObjArgs(
                  function, obj, e->pickler == NULL ? Py_None : e->pickler, NULL);
    if (pair == NULL) {
        return enc_says_unpicklable(obj) ? enc_refuse(e, obj) : -1;
    }
    PyObject *pickler, *value;
    int rc = -1;
    if (PyArg_ParseTuple(pair, "OO!", &pickler, &PyTuple_Type, &value)) {
        Py_XSETREF(e->pickler, Py_NewRef(pickler));
        e->by_value++;
        rc = enc_reduced(e, obj, value);
        e->by_value--;
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
    PyObject *of = obj == (PyObject *)Py_TYPE(Py_None)       ? Py_None
                   : obj == (PyObject *)Py_TYPE(Py_Ellipsis) ? Py_Ellipsis
                                                             : Py_NotImplemented;
    uint8_t one = 1, build = 0;
    if (enc_put(e, TAG_CALL | MEMO, &build, 1) < 0 ||
        enc_global(e, (PyObject *)&PyType_Type) < 0 ||
        enc_put(e, TAG_TUPLE8, &one, 1) < 0 || enc_object(e, of) < 0) {
        return -1;
    }
    return enc_number_late(e, obj) < 0 ? -1 : 0;
}

int
enc_is_held(PyObject *obj)
{
    PyObject *module, *qualname, *held = NULL;
    if (names_of(obj, &module, &qualname) < 0) {
        return -1;
    }
    int rc = module == NULL || qualname == NULL
                 ? 0
                 : name_is_held(obj, module, qualname, &held);
    Py_XDECREF(held);
    Py_XDECREF(module);
    Py_XDECREF(qualname);
    return rc;
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
    int rc =
        module == NULL || qualname == NULL ? 0 : enc_by_name(e, obj, module, qualname);
    if (rc == 0) {
        rc = enc_by_value(e, obj);
    }
    Py_XDECREF(module);
    Py_XDECREF(qualname);
    return rc < 0 ? -1 : 0;
}
