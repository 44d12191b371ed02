/* Arguments of functions that are called by vectorcall; texts. See base/base.h. */
#include "base/base.h"

#include <string.h>

char *
core_copy_text(const char *text)
{
    size_t size = strlen(text) + 1;
    char *copy = atoll_alloc(size);
    if (copy != NULL) {
        memcpy(copy, text, size);
    }
    return copy;
}

/* Find a keyword among the names: its index; -1 with TypeError. */
static int
args_find_name(const char *function, PyObject *name, const char *const *names,
               int count)
{
    for (int i = 0; i < count; i++) {
        if (PyUnicode_EqualToUTF8(name, names[i])) {
            return i;
        }
    }
    PyErr_Format(PyExc_TypeError, "%s() got an unexpected keyword argument '%U'",
                 function, name);
    return -1;
}

int
args_parse(const char *function, PyObject *const *args, Py_ssize_t nargs,
           PyObject *kwnames, const char *const *names, int count, int required,
           int positional, PyObject **values)
{
    if (nargs > positional) {
        PyErr_Format(PyExc_TypeError,
                     "%s() takes at most %d positional argument%s (%zd given)",
                     function, positional, positional == 1 ? "" : "s", nargs);
        return -1;
    }
    for (Py_ssize_t i = 0; i < nargs; i++) {
        values[i] = args[i];
    }
    Py_ssize_t nkw = kwnames == NULL ? 0 : PyTuple_GET_SIZE(kwnames);
    for (Py_ssize_t i = 0; i < nkw; i++) {
        int at = args_find_name(function, PyTuple_GET_ITEM(kwnames, i), names, count);
        if (at < 0) {
            return -1;
        }
        if (values[at] != NULL) {
            PyErr_Format(PyExc_TypeError, "%s() got multiple values for argument '%s'",
                         function, names[at]);
            return -1;
        }
        values[at] = args[nargs + i];
    }
    for (int i = 0; i < required; i++) {
        if (values[i] == NULL) {
            PyErr_Format(PyExc_TypeError, "%s() missing required argument: '%s'",
                         function, names[i]);
            return -1;
        }
    }
    return 0;
}

int
args_int(const char *name, PyObject *value, int64_t *result)
{
    if (!PyIndex_Check(value)) {
        PyErr_Format(PyExc_TypeError, "%s must be an int, not %T", name, value);
        return -1;
    }
    long long found = PyLong_AsLongLong(value);
    if (found == -1 && PyErr_Occurred()) {
        if (PyErr_ExceptionMatches(PyExc_OverflowError)) {
            PyErr_Format(PyExc_OverflowError, "%s must fit into 64 bits", name);
        }
        return -1;
    }
    *result = found;
    return 0;
}

int
args_double(const char *name, const char *wanted, PyObject *value, double *result)
{
    *result = PyFloat_AsDouble(value);
    if (*result != -1.0 || !PyErr_Occurred()) {
        return 0;
    }
    if (PyErr_ExceptionMatches(PyExc_TypeError)) {
        PyErr_Format(PyExc_TypeError, "%s must be %s, not %T", name, wanted, value);
    }
    return -1;
}

PyObject *
args_view(const char *function, PyObject *value)
{
    if (!PyObject_CheckBuffer(value)) {
        return PyErr_Format(PyExc_TypeError,
                            "%s() takes an object with a buffer, such as bytes or an "
                            "array, not %T",
                            function, value);
    }
    return PyMemoryView_FromObject(value);
}
