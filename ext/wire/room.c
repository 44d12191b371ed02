/* The wire as a room: what an interpreter has of it, and its functions. */
#include <stddef.h>

#include "wire/form.h"

/* ---------------------------------------------------------------- functions */

PyDoc_STRVAR(token_doc,
"_process_token()\n--\n\nA random number of this process, for pickles.");

static PyObject *
core_token(PyObject *Py_UNUSED(module), PyObject *Py_UNUSED(ignored))
{
    return PyLong_FromUnsignedLongLong(xfer_process_token());
}

PyDoc_STRVAR(register_doc,
"_register(type, reduce, rebuild, /)\n--\n\nSee atoll.register.");

static PyObject *
core_register(PyObject *module, PyObject *args)
{
    core_state *state = PyModule_GetState(module);
    PyObject *type, *reduce, *rebuild;
    if (!PyArg_ParseTuple(args, "O!OO:register", &PyType_Type, &type, &reduce,
                          &rebuild)) {
        return NULL;
    }
    if (!PyCallable_Check(reduce) || !PyCallable_Check(rebuild)) {
        PyErr_SetString(PyExc_TypeError,
                        "register() takes two callables after the type");
        return NULL;
    }
    if (xfer_is_builtin(state, (PyTypeObject *)type)) {
        PyErr_Format(PyExc_TypeError, "%R crosses by itself", type);
        return NULL;
    }
    PyObject *pair = PyTuple_Pack(2, reduce, rebuild);
    int rc = pair == NULL ? -1 : PyDict_SetItem(state->wire->reducers, type, pair);
    Py_XDECREF(pair);
    return rc < 0 ? NULL : Py_NewRef(Py_None);
}

PyDoc_STRVAR(set_inherit_doc,
"_set_inherit(function, /)\n--\n\nSee atoll._cross.registry.inherit.");

static PyObject *
core_set_inherit(PyObject *module, PyObject *function)
{
    core_state *state = PyModule_GetState(module);
    Py_XSETREF(state->wire->inherit, Py_NewRef(function));
    Py_RETURN_NONE;
}

PyDoc_STRVAR(is_shareable_doc,
"is_shareable(obj, /)\n--\n\n"
"Is `obj` of a type that PEP 734 calls shareable: an immutable value without\n"
"parts that are not, a memoryview, or a handle of atoll's? Such an object always\n"
"crosses, and no code runs for it. Much more can be sent. Never raises.");

static PyObject *
core_is_shareable(PyObject *module, PyObject *obj)
{
    return PyBool_FromLong(xfer_is_shareable(PyModule_GetState(module), obj));
}

static PyMethodDef wire_functions[] = {
    {"_process_token", core_token, METH_NOARGS, token_doc},
    {"_register", core_register, METH_VARARGS, register_doc},
    {"_set_inherit", core_set_inherit, METH_O, set_inherit_doc},
    {"is_shareable", core_is_shareable, METH_O, is_shareable_doc},
    {NULL, NULL, 0, NULL},
};

/* --------------------------------------------------------------------- room */

static int
wire_begin(core_state *state)
{
    state->wire->reducers = PyDict_New();
    state->wire->found_modules = PyDict_New();
    return state->wire->reducers == NULL || state->wire->found_modules == NULL
               ? -1
               : PyModule_AddFunctions(state->module, wire_functions);
}

static int
wire_visit(core_state *state, visitproc visit, void *arg)
{
    const wire_data *data = state->wire;
    Py_VISIT(data->constant);
    Py_VISIT(data->by_value);
    Py_VISIT(data->reduce);
    Py_VISIT(data->exception_state);
    Py_VISIT(data->traceback_text);
    Py_VISIT(data->loads);
    Py_VISIT(data->rebuild_exception);
    Py_VISIT(data->is_found);
    Py_VISIT(data->found_modules);
    Py_VISIT(data->cloudpickle);
    Py_VISIT(data->registered);
    Py_VISIT(data->look);
    Py_VISIT(data->copyreg_table);
    Py_VISIT(data->reducers);
    Py_VISIT(data->inherit);
    for (size_t i = 0; i < WIRE_TYPES; i++) {
        Py_VISIT(data->types[i].type);
    }
    return 0;
}

static void
wire_clear(core_state *state)
{
    wire_data *data = state->wire;
    Py_CLEAR(data->constant);
    Py_CLEAR(data->by_value);
    Py_CLEAR(data->reduce);
    Py_CLEAR(data->exception_state);
    Py_CLEAR(data->traceback_text);
    Py_CLEAR(data->loads);
    Py_CLEAR(data->rebuild_exception);
    Py_CLEAR(data->is_found);
    Py_CLEAR(data->found_modules);
    Py_CLEAR(data->cloudpickle);
    Py_CLEAR(data->registered);
    Py_CLEAR(data->look);
    Py_CLEAR(data->copyreg_table);
    Py_CLEAR(data->reducers);
    Py_CLEAR(data->inherit);
    for (size_t i = 0; i < WIRE_TYPES; i++) {
        Py_CLEAR(data->types[i].type);
    }
}

static void
wire_end(core_state *state)
{
    atoll_free(state->wire->spare);
}

const core_room wire_room = {
    CORE_ROOM_DATA(wire), .start = wire_start_kinds, .begin = wire_begin,
    .visit = wire_visit,  .clear = wire_clear,       .end = wire_end,
};
