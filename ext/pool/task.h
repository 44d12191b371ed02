/* What Python sees of tasks and pools: atoll._core.Job, the base of the classes of
 * futures, and atoll._core.Pool. */
#ifndef EXT_POOL_TASK_H
#define EXT_POOL_TASK_H

#include "home/job.h"

typedef struct jobobj {
    PyObject_HEAD
    core_state *state; /* the type keeps its module, and so this, alive */
    job *job;          /* counted; NULL: not begun */
    PyObject *value;   /* what its reply became, or NULL */
    PyObject *reply;   /* what was in it, while that becomes an exception */
    bool raised;       /* value is an exception */
    bool opening;      /* a thread makes the value */
    atoll_event opened; /* it has */
} jobobj;

/* A new object of `cls`, which derives from Job, without a job. */
PyObject *jobobj_new(core_state *state, PyTypeObject *cls);

/* Interpreter.submit: arguments as of Pool.submit. */
struct home;
PyObject *pool_submit_to_home(core_state *state, struct home *h,
                              PyObject *const *args, Py_ssize_t nargs);

int job_add_type(core_state *state);
int pool_add_type(core_state *state);

#endif
