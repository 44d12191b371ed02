/* Types of the module, one object for each id, capsules of events. See base/base.h. */
#include "base/base.h"

/* -------------------------------------------------------------------- types */

PyTypeObject *
core_make_type(core_state *state, PyType_Spec *spec)
{
    return (PyTypeObject *)PyType_FromModuleAndSpec(state->module, spec, NULL);
}

PyTypeObject *
core_add_type(core_state *state, PyType_Spec *spec)
{
    PyTypeObject *type = core_make_type(state, spec);
    if (type != NULL && PyModule_AddType(state->module, type) < 0) {
        Py_CLEAR(type);
    }
    return type;
}

int
core_add_constants(core_state *state, const core_constant *table)
{
    for (; table->name != NULL; table++) {
        if (PyModule_AddIntConstant(state->module, table->name, table->value) < 0) {
            return -1;
        }
    }
    return 0;
}

/* ------------------------------------------------------ one object for an id */

PyObject *
core_handle_find(const core_state *state, long long key)
{
    PyObject *obj = NULL, *number = PyLong_FromLongLong(key);
    PyObject *known =
        number == NULL ? NULL : PyDict_GetItemWithError(state->handles, number);
    if (known != NULL) {
        obj = Py_NewRef((PyObject *)PyLong_AsVoidPtr(known));
    }
    Py_XDECREF(number);
    return obj;
}

int
core_handle_add(core_state *state, long long key, PyObject *obj)
{
    PyObject *number = PyLong_FromLongLong(key);
    PyObject *address = number == NULL ? NULL : PyLong_FromVoidPtr(obj);
    int rc = address == NULL ? -1 : PyDict_SetItem(state->handles, number, address);
    Py_XDECREF(number);
    Py_XDECREF(address);
    return rc;
}

void
core_handle_forget(core_state *state, long long key)
{
    if (state->handles == NULL) {
        return;
    }
    PyObject *exc = PyErr_GetRaisedException();
    PyObject *number = PyLong_FromLongLong(key);
    if (number == NULL || PyDict_Pop(state->handles, number, NULL) < 0) {
        PyErr_WriteUnraisable(NULL);
    }
    Py_XDECREF(number);
    PyErr_SetRaisedException(exc);
}

/* ------------------------------------------------------------------- events */

static const char event_name[] = "atoll_event";

PyObject *
core_event_capsule(atoll_event *event, PyCapsule_Destructor release, void *context)
{
    PyObject *capsule = PyCapsule_New(event, event_name, NULL);
    if (capsule != NULL && (PyCapsule_SetContext(capsule, context) < 0 ||
                            PyCapsule_SetDestructor(capsule, release) < 0)) {
        Py_CLEAR(capsule);
    }
    return capsule;
}

atoll_event *
core_event_of(PyObject *capsule)
{
    return PyCapsule_GetPointer(capsule, event_name);
}
