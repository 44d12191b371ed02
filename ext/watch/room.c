/* Looking at interpreters from outside, as a room: dump, deadlocks, traces. */
#include "watch/watch.h"

static int
watch_begin(core_state *state)
{
    return PyModule_AddFunctions(state->module, survey_functions) < 0
               ? -1
               : PyModule_AddFunctions(state->module, trace_functions);
}

const core_room watch_room = {
    .name = "watch",
    .start = watch_start,
    .begin = watch_begin,
};
