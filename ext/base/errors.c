/* Raising atoll's exceptions from C. The classes live in atoll/errors.py. */
#include <stdarg.h>

#include "base/base.h"

PyObject *
error_class(core_state *state, const char *name)
{
    PyObject *cls;
    if (PyDict_GetItemStringRef(state->errors, name, &cls) < 0) {
        return NULL;
    }
    if (cls == NULL) {
        cls = package_get(PACKAGE_ERRORS, name);
        if (cls == NULL) {
            return NULL;
        }
        if (PyDict_SetItemString(state->errors, name, cls) < 0) {
            Py_DECREF(cls);
            return NULL;
        }
    }
    Py_DECREF(cls); /* the dict keeps it */
    return cls;
}

PyObject *
raise_error(core_state *state, const char *name, const char *format, ...)
{
    PyObject *cls = error_class(state, name);
    if (cls != NULL) {
        va_list args;
        va_start(args, format);
        PyErr_FormatV(cls, format, args);
        va_end(args);
    }
    return NULL;
}

PyObject *
raise_err(core_state *state, atoll_err err, const char *what)
{
    switch (err) {
    case ATOLL_ERR_NOMEM:
        return PyErr_NoMemory();
    case ATOLL_ERR_FORKED:
        return raise_error(state, "ForkedError",
                           "this %s belongs to the process that this one was "
                           "forked from; make a new one here",
                           what);
    default:
        return raise_error(state, "AtollError", "%s: %s", what, atoll_strerror(err));
    }
}
