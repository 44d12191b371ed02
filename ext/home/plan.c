/* How interpreters are to be made. See home/home.h. */
#include "home/home.h"

#include <string.h>

#include "wire/wire.h"

int
plan_parse(core_state *state, PyObject *setup, bool isolated, home_plan *plan)
{
    PyObject *tuple;
    const char *key;
    Py_ssize_t size;
    *plan = (home_plan){.isolated = isolated};
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
    if (xfer_encode(state, tuple, &plan->setup) < 0) {
        atoll_free(plan->key);
        return -1;
    }
    return 0;
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
    }
    return err;
}

void
plan_drop(home_plan *plan)
{
    atoll_msg_drop(&plan->setup);
    atoll_free(plan->key);
}
