/* Shared memory as a room. See memory/memory.h. */
#include "memory/memory.h"

#include <stddef.h>

static void
memory_start(void)
{
    view_start();
    moved_start();
    descriptor_start();
}

static int
memory_begin(core_state *state)
{
    return buffer_add_type(state) < 0 || view_add_types(state) < 0 ||
                   moved_add_type(state) < 0 || descriptor_add_type(state) < 0 ||
                   PyModule_AddFunctions(state->module, view_functions) < 0
               ? -1
               : PyModule_AddFunctions(state->module, moved_functions);
}

static int
memory_visit(core_state *state, visitproc visit, void *arg)
{
    const memory_data *data = state->memory;
    Py_VISIT(data->buffer_type);
    Py_VISIT(data->view_type);
    Py_VISIT(data->moved_type);
    Py_VISIT(data->fd_type);
    return 0;
}

static void
memory_clear(core_state *state)
{
    memory_data *data = state->memory;
    Py_CLEAR(data->buffer_type);
    Py_CLEAR(data->view_type);
    Py_CLEAR(data->moved_type);
    Py_CLEAR(data->fd_type);
}

const core_room memory_room = {
    CORE_ROOM_DATA(memory), .start = memory_start, .begin = memory_begin,
    .visit = memory_visit,  .clear = memory_clear,
};
