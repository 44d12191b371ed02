/* What Python sees of tasks and pools: atoll._core.Job, the base of the classes of
 * futures, and atoll._core.Pool. */
#ifndef EXT_POOL_TASK_H
#define EXT_POOL_TASK_H

#include "pool/pool.h"

typedef struct jobobj {
    PyObject_HEAD
    core_state *state;  /* the type keeps its module, and so this, alive */
    task *task;         /* counted; NULL: not begun */
    PyObject *value;    /* what its reply became, or NULL */
    PyObject *reply;    /* what was in it, while that becomes an exception */
    bool raised;        /* value is an exception */
    bool opening;       /* a thread makes the value */
    bool retrieved;     /* somebody has looked at its outcome, or is going to */
    atoll_event opened; /* it has */
} jobobj;

/* Make an object of `cls`, which derives from Job, without a task. A new reference. */
PyObject *jobobj_new(core_state *state, PyTypeObject *cls);

/* Make the types. 0, or -1 with an exception. */
int job_add_type(core_state *state);

/* Make the type of pools. 0, or -1 with an exception. */
int pool_add_type(core_state *state);

extern PyMethodDef pool_functions[];

#endif
