/* Calls into the package: all names of its modules that the core uses, but for those of
 * code that it knows by its module (home/place.c). See base/base.h. */
#include <stdarg.h>

#include "base/base.h"

static const char *const package_names[] = {
    [PACKAGE_AIO] = "atoll._aio",
    [PACKAGE_APPLY] = "atoll._follow.apply",
    [PACKAGE_BOOT] = "atoll._boot",
    [PACKAGE_COLLECT] = "atoll._follow.collect",
    [PACKAGE_CONSTANT] = "atoll._cross.constant",
    [PACKAGE_ERRORS] = "atoll.errors",
    [PACKAGE_FROZEN] = "atoll._cross.frozen",
    [PACKAGE_FUTURE] = "atoll._tasks.future",
    [PACKAGE_INTERRUPT] = "atoll._cross.interrupt",
    [PACKAGE_MODULES] = "atoll._cross.modules",
    [PACKAGE_OUTPUT] = "atoll._output.drain",
    [PACKAGE_PICKLE] = "atoll._cross.pickle",
    [PACKAGE_REGISTRY] = "atoll._cross.registry",
    [PACKAGE_STREAM] = "atoll._output.stream",
};

PyObject *
package_import(package_module module)
{
    return PyImport_ImportModule(package_names[module]);
}

PyObject *
package_get(package_module module, const char *name)
{
    PyObject *found = package_import(module);
    PyObject *object = found == NULL ? NULL : PyObject_GetAttrString(found, name);
    Py_XDECREF(found);
    return object;
}

PyObject *
package_keep(PyObject **slot, package_module module, const char *name)
{
    if (*slot == NULL) {
        PyObject *object = package_get(module, name);
        /* The import has run code, which may have come here as well. */
        if (object != NULL) {
            Py_XSETREF(*slot, object);
        }
    }
    return *slot;
}

PyObject *
package_call(package_module module, const char *name, const char *format, ...)
{
    PyObject *function = package_get(module, name);
    if (function == NULL) {
        return NULL;
    }
    va_list values;
    va_start(values, format);
    PyObject *args = Py_VaBuildValue(format, values);
    va_end(values);
    PyObject *result = args == NULL ? NULL : PyObject_CallObject(function, args);
    Py_XDECREF(args);
    Py_DECREF(function);
    return result;
}

PyObject *
aio_call(core_state *state, const char *name, PyObject *self, PyObject *const *args,
         Py_ssize_t nargs, PyObject *kwnames)
{
    if (state->aio == NULL) {
        state->aio = package_import(PACKAGE_AIO);
        if (state->aio == NULL) {
            return NULL;
        }
    }
    Py_ssize_t count = nargs + (kwnames == NULL ? 0 : PyTuple_GET_SIZE(kwnames));
    PyObject *few[4] = {self};
    if (count > 3) {
        return PyErr_Format(PyExc_TypeError, "too many arguments (%zd)", count);
    }
    for (Py_ssize_t i = 0; i < count; i++) {
        few[i + 1] = args[i];
    }
    PyObject *function = PyObject_GetAttrString(state->aio, name);
    if (function == NULL) {
        return NULL;
    }
    PyObject *result = PyObject_Vectorcall(function, few, (size_t)nargs + 1, kwnames);
    Py_DECREF(function);
    return result;
}
