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
core_handle_find(const core_state *state, uint64_t key)
{
    /* The entry is the first thing in a handle. */
    const core_handle *found =
        (const core_handle *)atoll_table_find(&state->handles, key);
    return found == NULL ? NULL : Py_NewRef(found->object);
}

void
core_handle_add(core_state *state, uint64_t key, core_handle *handle, PyObject *obj)
{
    handle->object = obj;
    atoll_table_add(&state->handles, &handle->entry, key);
}

void
core_handle_forget(core_state *state, core_handle *handle)
{
    atoll_table_remove(&state->handles, &handle->entry);
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
