/* Frozen graphs as a room. See frozen/frozen.h. */
#include "frozen/frozen.h"

#include <stddef.h>

#include "frozen/mold.h"
#include "frozen/view/view.h"
#include "frozen/xml/xml.h"

static void
frozen_start(void)
{
    frozen_start_handles();
    frozen_start_views();
    xml_start();
}

/* What atoll._cross.frozen says an object is. */
static const core_constant frozen_constants[] = {
    {"_MOLD_CALL", MOLD_CALL},
    {"_MOLD_NAMED", MOLD_NAMED},
    {"_MOLD_MEMBER", MOLD_MEMBER},
    {"_MOLD_BUFFER", MOLD_BUFFER},
    {NULL, 0},
};

static int
frozen_begin_room(core_state *state)
{
    return frozen_add_type(state) < 0 || xml_add_types(state) < 0 ||
                   xml_add_iterators(state) < 0 || xml_add_parser(state) < 0 ||
                   core_add_constants(state, frozen_constants) < 0 ||
                   PyModule_AddFunctions(state->module, frozen_functions) < 0
               ? -1
               : PyModule_AddFunctions(state->module, xml_functions);
}

static int
frozen_visit(core_state *state, visitproc visit, void *arg)
{
    const frozen_data *data = state->frozen;
    Py_VISIT(data->frozen_type);
    Py_VISIT(data->element_type);
    Py_VISIT(data->walk_type);
    Py_VISIT(data->parse_type);
    for (size_t i = 0; i < FROZEN_VIEW_TYPES; i++) {
        Py_VISIT(data->view_types[i]);
    }
    return frozen_visit_opened(state, visit, arg);
}

static void
frozen_clear(core_state *state)
{
    frozen_data *data = state->frozen;
    Py_CLEAR(data->frozen_type);
    Py_CLEAR(data->element_type);
    Py_CLEAR(data->walk_type);
    Py_CLEAR(data->parse_type);
    for (size_t i = 0; i < FROZEN_VIEW_TYPES; i++) {
        Py_CLEAR(data->view_types[i]);
    }
    frozen_forget(state);
}

static void
frozen_end(core_state *state)
{
    atoll_table_end(&state->frozen->elements);
}

const core_room frozen_room = {
    CORE_ROOM_DATA(frozen), .start = frozen_start, .begin = frozen_begin_room,
    .visit = frozen_visit,  .clear = frozen_clear, .end = frozen_end,
};
