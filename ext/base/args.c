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
