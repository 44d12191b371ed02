/* Output as a room. See output/output.h. */
#include "output/output.h"

#include <stddef.h>

static const core_constant output_constants[] = {
    {"_OUTPUT_STDOUT", OUTPUT_STDOUT},
    {"_OUTPUT_STDERR", OUTPUT_STDERR},
    {"_OUTPUT_RECORD", OUTPUT_RECORD},
    {"_OUTPUT_COVERAGE", OUTPUT_COVERAGE},
    {NULL, 0},
};

static int
output_begin(core_state *state)
{
    if (sink_add_type(state) < 0 || core_add_constants(state, output_constants) < 0 ||
        PyModule_AddFunctions(state->module, output_functions) < 0 ||
        PyModule_AddFunctions(state->module, sink_functions) < 0) {
        return -1;
    }
    return state->is_main ? output_watch_forks() : 0;
}

static int
output_visit(core_state *state, visitproc visit, void *arg)
{
    Py_VISIT(state->output->sink_type);
    Py_VISIT(state->output->drain);
    return 0;
}

static void
output_clear(core_state *state)
{
    Py_CLEAR(state->output->sink_type);
    Py_CLEAR(state->output->drain);
}

static void
output_end(core_state *state)
{
    sink_forget(state);
    if (state->output->source != NULL) {
        output_source_unref(state->output->source);
    }
}

const core_room output_room = {
    CORE_ROOM_DATA(output), .begin = output_begin, .visit = output_visit,
    .clear = output_clear,  .end = output_end,
};
