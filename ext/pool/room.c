/* Pools as a room. See pool/pool.h. */
#include <stddef.h>

#include "pool/task.h"

static const core_constant pool_constants[] = {
    {"_JOB_RAISED", JOB_RAISED},
    {"_JOB_UNSENT", JOB_UNSENT},
    {"_JOB_BUSY", JOB_BUSY},
    {"_JOB_LOST", JOB_LOST},
    {"_JOB_CANCELLED", JOB_CANCELLED},
    {"_JOB_LATE", JOB_LATE},
    {"_JOB_GONE", JOB_GONE},
    {"_JOB_BROKEN", JOB_BROKEN},
    {NULL, 0},
};

static int
pool_begin_room(core_state *state)
{
    return job_add_type(state) < 0 || pool_add_type(state) < 0 ||
                   core_add_constants(state, pool_constants) < 0
               ? -1
               : PyModule_AddFunctions(state->module, pool_functions);
}

static int
pool_visit(core_state *state, visitproc visit, void *arg)
{
    Py_VISIT(state->pool->job_type);
    Py_VISIT(state->pool->failure);
    Py_VISIT(state->pool->mourn);
    return 0;
}

static void
pool_clear(core_state *state)
{
    Py_CLEAR(state->pool->job_type);
    Py_CLEAR(state->pool->failure);
    Py_CLEAR(state->pool->mourn);
}

const core_room pool_room = {
    CORE_ROOM_DATA(pool),
    .begin = pool_begin_room,
    .visit = pool_visit,
    .clear = pool_clear,
};
