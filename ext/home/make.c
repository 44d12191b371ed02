/* How interpreters are to be made, and whether; and the functions of atoll._core about
 * them: making, finding and keeping ready. */
#include "home/home.h"

#include <string.h>

#include "home/spare.h"
#include "wire/wire.h"

/* -------------------------------------------------------------------- plans */

int
plan_parse(core_state *state, PyObject *setup, bool isolated, home_plan *plan)
{
    PyObject *tuple;
    const char *key;
    Py_ssize_t size;
    const home *self = state->home->self;
    *plan =
        (home_plan){.isolated = isolated, .depth = self == NULL ? 1 : self->depth + 1};
    if (!PyArg_ParseTuple(setup, "O!y#", &PyTuple_Type, &tuple, &key, &size)) {
        return -1;
    }
    plan->key_size = (size_t)size;
    plan->key = atoll_alloc(plan->key_size + 1);
    if (plan->key == NULL) {
        PyErr_NoMemory();
        return -1;
    }
    memcpy(plan->key, key, plan->key_size);
    long deaf = PyLong_AsLong(PyTuple_GET_ITEM(tuple, 5));
    if (deaf == -1 && PyErr_Occurred()) {
        atoll_free(plan->key);
        return -1;
    }
    plan->deaf = (uint32_t)deaf;
    if (xfer_encode(state, tuple, &plan->setup) < 0) {
        atoll_free(plan->key);
        return -1;
    }
    if (follow_take(state, plan->deaf, &plan->follow) < 0) {
        plan_drop(plan);
        return -1;
    }
    return 0;
}

/* So many interpreters may have started one another. Nobody has need of it; but a
 * function that has itself called in a new interpreter, and that one again, comes to an
 * end while there is memory to say so. */
#define DEPTH_MAX 16

#define ADVICE                                                                         \
    "An interpreter imports the modules of all functions and classes that it is "      \
    "given, and each one would start others in turn, without end. Start interpreters " \
    "and give them work in functions only; or where a file is run as a program and "   \
    "not imported, under `if __name__ == '__main__':`. A pool may be made at the top " \
    "level of a module, if only functions use it."

static int
refuse_import(const home *self, PyObject *where, bool in_thread)
{
    PyObject *id = PyLong_FromLongLong(self->id);
    if (id != NULL) {
        PyErr_Format(PyExc_RuntimeError,
                     in_thread ? "%U has started a thread, when interpreter %S "
                                 "imported it, that starts interpreters. " ADVICE
                               : "%U starts interpreters when it is imported, here by "
                                 "interpreter %S. " ADVICE,
                     where, id);
        Py_DECREF(id);
    }
    return -1;
}

static int
refuse_decoding(const home *self)
{
    PyObject *where = place_describe();
    PyObject *id = PyLong_FromLongLong(self->id);
    if (where != NULL && id != NULL) {
        PyErr_Format(PyExc_RuntimeError,
                     "%U starts interpreters while interpreter %S makes the objects of "
                     "a call that it has been given. Where these are given to an "
                     "interpreter, that would start others in turn, without end. Start "
                     "interpreters in the function that is called.",
                     where, id);
    }
    Py_XDECREF(where);
    Py_XDECREF(id);
    return -1;
}

static int
refuse_depth(const home *self)
{
    PyObject *where = place_describe();
    if (where != NULL) {
        PyErr_Format(PyExc_RuntimeError,
                     "%U starts an interpreter in an interpreter that was started by "
                     "another one, and so on, %u deep, which is the limit: does a "
                     "function have itself called in new interpreters, without end?",
                     where, self->depth);
        Py_DECREF(where);
    }
    return -1;
}

int
plan_check(core_state *state, const home_plan *plan)
{
    const home *self = state->home->self;
    bool in_thread;
    if (self == NULL) { /* what main imports is imported once */
        return 0;
    }
    PyObject *where = place_find_import(&in_thread);
    if (where != NULL) {
        int rc = refuse_import(self, where, in_thread);
        Py_DECREF(where);
        return rc;
    }
    if (PyErr_Occurred()) {
        return -1;
    }
    /* The flag is its own thread's. */
    if (atoll_thread_self() == self->host.thread && self->decoding) {
        return refuse_decoding(self);
    }
    return plan->depth > DEPTH_MAX ? refuse_depth(self) : 0;
}

atoll_err
plan_clone(const home_plan *plan, home_plan *copy)
{
    *copy = *plan;
    copy->key = atoll_alloc(plan->key_size + 1);
    if (copy->key == NULL) {
        return ATOLL_ERR_NOMEM;
    }
    memcpy(copy->key, plan->key, plan->key_size);
    atoll_err err = xfer_clone(&plan->setup, &copy->setup);
    if (err != ATOLL_OK) {
        atoll_free(copy->key);
        return err;
    }
    copy->follow = follow_ref(plan->follow);
    return err;
}

void
plan_drop(home_plan *plan)
{
    atoll_msg_drop(&plan->setup);
    follow_unref(plan->follow);
    atoll_free(plan->key);
}

/* ---------------------------------------------------------------- functions */

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
"atoll._cross.registry.inherit() takes, the two arguments of\n"
"atoll._output.stream.install(), the modules to import (a tuple of str), the bits of\n"
"what it does not follow, and what atoll._boot.measure() takes, or None.");

static PyObject *
core_create(PyObject *module, PyObject *args)
{
    core_state *state = PyModule_GetState(module);
    const char *name;
    PyObject *setup;
    home_plan plan;
    home *h;
    int isolated;
    if (!PyArg_ParseTuple(args, "spO!:_create", &name, &isolated, &PyTuple_Type,
                          &setup) ||
        plan_parse(state, setup, isolated, &plan) < 0) {
        return NULL;
    }
    if (plan_check(state, &plan) < 0) {
        plan_drop(&plan);
        return NULL;
    }
    atoll_err err = ATOLL_OK;
    Py_BEGIN_ALLOW_THREADS
    while ((h = spare_take(&plan)) != NULL && home_unspare(h, name) != ATOLL_OK) {
        home_handle_unref(h); /* it ends, or there is no memory */
        home_unref(h);
    }
    if (h == NULL) {
        err = home_new(name, &plan, &h);
    }
    plan_drop(&plan);
    Py_END_ALLOW_THREADS
    if (err != ATOLL_OK) {
        return raise_not_made(state, err);
    }
    PyObject *result = NULL;
    if (detach_wait_one(state, wait_started, h, ATOLL_FOREVER, NULL, &wait_home_start,
                        h, &err) == 0) {
        result = h->start_error == NULL
                     ? home_object(state, h)
                     : raise_error(state, "InterpreterError",
                                   "interpreter creation failed: %s", h->start_error);
    }
    home_handle_unref(h); /* home_new's; closes it on failure */
    home_unref(h);
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
    if (!PyArg_ParseTuple(args, "IpO!p:_warm", &count, &isolated, &PyTuple_Type, &setup,
                          &wait) ||
        plan_parse(state, setup, isolated, &plan) < 0) {
        return NULL;
    }
    if (count > 0 && plan_check(state, &plan) < 0) {
        plan_drop(&plan);
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

static bool
has_id(const void *h, int64_t id)
{
    return ((const home *)h)->id == id;
}

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
        h = any ? xfer_noted_handle(state, HANDLE_HOME, has_id, id) : NULL;
        if (h == NULL) {
            Py_RETURN_NONE;
        }
        home_ref(h);
        home_handle_ref(h);
    }
    PyObject *obj = home_object(state, h);
    home_handle_unref(h);
    home_unref(h);
    return obj;
}

PyDoc_STRVAR(set_class_doc,
"_set_interpreter_class(cls, /)\n--\n\n"
"Tell the core which class stands for interpreters here.");

static PyObject *
core_set_class(PyObject *module, PyObject *cls)
{
    core_state *state = PyModule_GetState(module);
    return home_set_class(state, cls) < 0 ? NULL : Py_NewRef(Py_None);
}

PyDoc_STRVAR(end_thread_doc,
"_end_thread(ident, /)\n--\n\n"
"Have a thread of this interpreter raise SystemExit at its next bytecode.");

static PyObject *
core_end_thread(PyObject *Py_UNUSED(module), PyObject *ident)
{
    unsigned long number = PyLong_AsUnsignedLong(ident);
    if (number == (unsigned long)-1 && PyErr_Occurred()) {
        return NULL;
    }
    return PyBool_FromLong(PyThreadState_SetAsyncExc(number, PyExc_SystemExit) > 0);
}

PyDoc_STRVAR(close_limit_doc,
"_close_limit()\n--\n\n"
"The seconds that a close may take which nobody waits for; None: any.");

static PyObject *
core_close_limit(PyObject *Py_UNUSED(module), PyObject *Py_UNUSED(ignored))
{
    int64_t limit = home_close_limit();
    return limit == ATOLL_FOREVER
               ? Py_NewRef(Py_None)
               : PyFloat_FromDouble((double)(limit - atoll_now()) * 1e-9);
}

PyDoc_STRVAR(hurry_doc,
"_hurry()\n--\n\n"
"The end of the program has been interrupted: end without waiting any longer.");

static PyObject *
core_hurry(PyObject *Py_UNUSED(module), PyObject *Py_UNUSED(ignored))
{
    home_hurry();
    Py_RETURN_NONE;
}

PyMethodDef home_functions[] = {
    {"_close_limit", core_close_limit, METH_NOARGS, close_limit_doc},
    {"_end_thread", core_end_thread, METH_O, end_thread_doc},
    {"_hurry", core_hurry, METH_NOARGS, hurry_doc},
    {"_create", core_create, METH_VARARGS, create_doc},
    {"_find_home", core_find_home, METH_VARARGS, find_home_doc},
    {"_set_interpreter_class", core_set_class, METH_O, set_class_doc},
    {"_warm", core_warm, METH_VARARGS, warm_doc},
    {NULL, NULL, 0, NULL},
};
