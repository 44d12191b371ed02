/* Private copies as a room. See isolate/isolate.h. */
#include "isolate/isolate.h"

#include <stddef.h>

isolate *
isolate_boot(core_state *state, bool *failed)
{
    isolate_data *data = state->isolate;
    *failed = false;
    if (atoll_elf_supported()) {
        data->isolate = isolate_new();
        *failed = data->isolate == NULL;
    }
    if (!*failed && isolate_install(state) < 0) {
        *failed = true;
    }
    return data->isolate;
}

bool
isolate_is_endless(const core_state *state)
{
    return state->isolate->endless;
}

static int
isolate_begin(core_state *state)
{
    return tracing_begin(state) < 0
               ? -1
               : PyModule_AddFunctions(state->module, isolate_functions);
}

static int
isolate_visit(core_state *state, visitproc visit, void *arg)
{
    const isolate_data *data = state->isolate;
    Py_VISIT(data->single_phase);
    Py_VISIT(data->create_extension);
    Py_VISIT(data->create_builtin);
    Py_VISIT(data->exec_extension);
    Py_VISIT(data->exec_builtin);
    Py_VISIT(data->exec_source);
    Py_VISIT(data->ctypes_dlopen);
    return 0;
}

static void
isolate_clear(core_state *state)
{
    isolate_data *data = state->isolate;
    Py_CLEAR(data->single_phase);
    Py_CLEAR(data->create_extension);
    Py_CLEAR(data->create_builtin);
    Py_CLEAR(data->exec_extension);
    Py_CLEAR(data->exec_builtin);
    Py_CLEAR(data->exec_source);
    Py_CLEAR(data->ctypes_dlopen);
}

const core_room isolate_room = {
    CORE_ROOM_DATA(isolate),
    .begin = isolate_begin,
    .visit = isolate_visit,
    .clear = isolate_clear,
};
