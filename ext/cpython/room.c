/* What is known of CPython, as a room. */
#include <stddef.h>

#include "cpython/adopt.h"
#include "cpython/dict.h"
#include "cpython/runtime.h"

static int
cpython_begin(core_state *state)
{
    state->cpython->can_adopt = adopt_possible();
    layout_init(state);
    if (state->is_main) {
        (void)runtime_find_parsers(); /* elsewhere CPython would wait for main's GIL */
    }
    if (runtime_init() < 0 || sys_mend_frames() < 0 || runtime_mend_list() < 0) {
        return -1;
    }
    runtime_order_list(); /* one that the standard library has made */
    return PyModule_AddFunctions(state->module, layout_functions);
}

const core_room cpython_room = {
    CORE_ROOM_DATA(cpython),
    .begin = cpython_begin,
};
