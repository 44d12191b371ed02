/* The state of the module, from wherever one stands. See base/base.h. */
#include "base/base.h"

/* Constant once the first interpreter has begun to import the module: written under
 * the lock of the import, read by those who come later. */
static PyModuleDef *state_definition;

void
core_state_define(PyModuleDef *def)
{
    if (state_definition == NULL) {
        state_definition = def;
    }
}

core_state *
core_state_import(void)
{
    /* The package first: it tells the core its classes. */
    PyObject *package = PyImport_ImportModule("atoll");
    Py_XDECREF(package);
    PyObject *module = package == NULL ? NULL : PyImport_ImportModule("atoll._core");
    if (module == NULL) {
        return NULL;
    }
    core_state *state = PyModule_GetState(module);
    Py_DECREF(module); /* sys.modules keeps it; the types do as well */
    return state;
}

core_state *
core_state_of_type(PyTypeObject *type)
{
    PyObject *module = PyType_GetModuleByDef(type, state_definition);
    return module == NULL ? NULL : PyModule_GetState(module);
}
