/* Functions of atoll._core about interpreters: making, finding and keeping ready. */
#include "wait/wait.h"
#include "home/home.h"
#include "home/spare.h"
#include "wire/wire.h"

static atoll_err
wait_started(void *arg, const atoll_wait *wait)
{
    return atoll_event_wait(&((home *)arg)->started, wait);
}

static PyObject *
raise_not_made(core_state *state, atoll_err err)
{
    switch (err) {
    case ATOLL_ERR_CLOSED:
        return raise_error(state, "InterpreterError",
                           "no new interpreter at process exit");
    case ATOLL_ERR_SYSTEM:
        return raise_error(state, "InterpreterError",
                           "the operating system refused a thread for the "
                           "interpreter");
    default:
        return raise_err(state, err, "interpreter");
    }
}

PyDoc_STRVAR(create_doc,
"_create(name, isolated, setup, /)\n--\n\n"
"Make an interpreter; returns its Home. `isolated`: with private copies of\n"
"extension modules. `setup` is a pair: a tuple, and a key (bytes) that is the same\n"
"for equal ones. The tuple: its sys.path (a tuple of str), what\n"
"atoll._registry.inherit() takes, the two arguments of atoll._stream.install(),\n"
"and the modules to import (a tuple of str).");

static PyObject *
core_create(PyObject *module, PyObject *args)
{
    core_state *state = PyModule_GetState(module);
    const char *name;
    PyObject *setup;
    home_plan plan;
    home *h;
    int isolated;
    if (!PyArg_ParseTuple(args, "spO!:_create", &name, &isolated,
                          &PyTuple_Type, &setup) ||
        plan_parse(state, setup, isolated, &plan) < 0) {
        return NULL;
    }
    atoll_err err = ATOLL_OK;
    Py_BEGIN_ALLOW_THREADS
    h = spare_take(&plan, name);
    if (h == NULL) {
        err = home_new(name, &plan, &h);
    }
    plan_drop(&plan);
    Py_END_ALLOW_THREADS
    if (err != ATOLL_OK) {
        return raise_not_made(state, err);
    }
    PyObject *result = NULL;
    if (detach_wait_one(state, wait_started, h, ATOLL_FOREVER, NULL,
                        &wait_home_start, h, &err) == 0) {
        result = h->start_error == NULL
                     ? home_object(state, h)
                     : raise_error(state, "InterpreterError",
                                   "interpreter creation failed: %s",
                                   h->start_error);
    }
    xfer_handle_unref(HANDLE_HOME, h); /* home_new's; closes it on failure */
    return result;
}

PyDoc_STRVAR(warm_doc,
"_warm(count, isolated, setup, wait, /)\n--\n\n"
"See atoll.warm. Returns how many there are.");

static PyObject *
core_warm(PyObject *module, PyObject *args)
{
    core_state *state = PyModule_GetState(module);
    unsigned count, have = 0;
    int isolated, wait;
    PyObject *setup;
    home_plan plan;
    if (!PyArg_ParseTuple(args, "IpO!p:_warm", &count, &isolated,
                          &PyTuple_Type, &setup, &wait) ||
        plan_parse(state, setup, isolated, &plan) < 0) {
        return NULL;
    }
    Py_BEGIN_ALLOW_THREADS
    if (count == 0) {
        spare_off();
    }
    else {
        have = spare_set(&plan, count);
    }
    Py_END_ALLOW_THREADS
    home *h = NULL;
    atoll_err err;
    int rc = 0;
    while (rc == 0 && wait && (h = spare_unready()) != NULL) {
        rc = detach_wait_one(state, wait_started, h, ATOLL_FOREVER, NULL,
                             &wait_home_start, h, &err);
        home_unref(h);
    }
    plan_drop(&plan);
    return rc < 0 ? NULL : PyLong_FromUnsignedLong(have);
}

PyDoc_STRVAR(find_home_doc,
"_find_home(id, any=False, /)\n--\n\n"
"The Home of an interpreter of atoll's, or None; with `any` also while it is\n"
"being made or closed, or if the message that is being read has it.");

static PyObject *
core_find_home(PyObject *module, PyObject *args)
{
    core_state *state = PyModule_GetState(module);
    long long id;
    int any = 0;
    if (!PyArg_ParseTuple(args, "L|p:_find_home", &id, &any)) {
        return NULL;
    }
    home *h = home_find(id, any);
    if (h == NULL) {
        h = any ? xfer_noted_home(state, id) : NULL;
        if (h == NULL) {
            Py_RETURN_NONE;
        }
        xfer_handle_ref(HANDLE_HOME, h);
    }
    PyObject *obj = home_object(state, h);
    xfer_handle_unref(HANDLE_HOME, h);
    return obj;
}

PyDoc_STRVAR(token_doc,
"_process_token()\n--\n\nA random number of this process, for pickles.");

static PyObject *
core_token(PyObject *Py_UNUSED(module), PyObject *Py_UNUSED(ignored))
{
    return PyLong_FromUnsignedLongLong(xfer_process_token());
}

PyDoc_STRVAR(set_class_doc,
"_set_interpreter_class(cls, /)\n--\n\n"
"Tell the core which class stands for interpreters here.");

static PyObject *
core_set_class(PyObject *module, PyObject *cls)
{
    core_state *state = PyModule_GetState(module);
    Py_XSETREF(state->interpreter_class, Py_NewRef(cls));
    Py_RETURN_NONE;
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
    int rc = pair == NULL ? -1 : PyDict_SetItem(state->reducers, type, pair);
    Py_XDECREF(pair);
    return rc < 0 ? NULL : Py_NewRef(Py_None);
}

PyDoc_STRVAR(set_inherit_doc,
"_set_inherit(function, /)\n--\n\nSee atoll._registry.inherit.");

static PyObject *
core_set_inherit(PyObject *module, PyObject *function)
{
    core_state *state = PyModule_GetState(module);
    Py_XSETREF(state->inherit, Py_NewRef(function));
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

PyMethodDef home_functions[] = {
    {"_create", core_create, METH_VARARGS, create_doc},
    {"_find_home", core_find_home, METH_VARARGS, find_home_doc},
    {"_process_token", core_token, METH_NOARGS, token_doc},
    {"_register", core_register, METH_VARARGS, register_doc},
    {"_set_inherit", core_set_inherit, METH_O, set_inherit_doc},
    {"_set_interpreter_class", core_set_class, METH_O, set_class_doc},
    {"_warm", core_warm, METH_VARARGS, warm_doc},
    {"is_shareable", core_is_shareable, METH_O, is_shareable_doc},
    {NULL, NULL, 0, NULL},
};
