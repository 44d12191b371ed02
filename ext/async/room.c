/* Asynchronous waits and select as a room. See async/async.h. */
#include <stddef.h>

#include "async/operation.h"
#include "async/select.h"

static int
async_begin(core_state *state)
{
    return cq_add_types(state) < 0 ||
                   PyModule_AddFunctions(state->module, cq_functions) < 0
               ? -1
               : PyModule_AddFunctions(state->module, select_functions);
}

static int
async_visit(core_state *state, visitproc visit, void *arg)
{
    Py_VISIT(state->async->cq_type);
    Py_VISIT(state->async->op_type);
    return 0;
}

static void
async_clear(core_state *state)
{
    Py_CLEAR(state->async->cq_type);
    Py_CLEAR(state->async->op_type);
}

static void
async_end(core_state *state)
{
    selection_forget(state);
}

const core_room async_room = {
    CORE_ROOM_DATA(async), .begin = async_begin, .visit = async_visit,
    .clear = async_clear,  .end = async_end,
};
