/* Looking at interpreters from outside, as a room: dump, deadlocks, traces. */
#include "watch/watch.h"

static const core_constant watch_constants[] = {
    {"_TRACE_SUBMIT", TRACE_SUBMIT},
    {"_TRACE_TASK", TRACE_TASK},
    {"_TRACE_FAILED", TRACE_FAILED},
    {"_TRACE_WAIT", TRACE_WAIT},
    {"_TRACE_SEND", TRACE_SEND},
    {"_TRACE_RECV", TRACE_RECV},
    {NULL, 0},
};

static int
watch_begin(core_state *state)
{
    return core_add_constants(state, watch_constants) < 0 ||
                   PyModule_AddFunctions(state->module, survey_functions) < 0
               ? -1
               : PyModule_AddFunctions(state->module, trace_functions);
}

const core_room watch_room = {
    .name = "watch",
    .start = watch_start,
    .begin = watch_begin,
};
