/* Interpreters as a room. See home/home.h. */
#include "home/home.h"

#include <stddef.h>
#include <stdio.h>

#include "atoll/sync.h"

/* ------------------ waits for interpreters: what they are, who could end them */

static void
home_describe_home_job(const void *object, char *text, size_t size)
{
    home *h = (home *)(uintptr_t)object;
    char name[80];
    home_read_name(h, name, sizeof(name));
    snprintf(text, size, "what interpreter %lld '%s' runs", (long long)h->id, name);
}

static bool
home_may_end(const void *object, waits_view *view)
{
    return view->live(view, ((const home *)object)->id);
}

static void
home_describe_start(const void *object, char *text, size_t size)
{
    (void)object;
    snprintf(text, size, "a new interpreter");
}

const wait_type wait_home_job = {home_describe_home_job, home_may_end, true};
const wait_type wait_home_start = {home_describe_start, NULL, true};

/* -------------------------------------------------------------------- the room */

static int
home_begin(core_state *state)
{
    if (state->is_main && close_read_limit() < 0) {
        return -1;
    }
    state->home->anchor = PyCapsule_New(state, NULL, NULL);
    return state->home->anchor == NULL || home_add_type(state) < 0
               ? -1
               : PyModule_AddFunctions(state->module, home_functions);
}

static int
home_visit(core_state *state, visitproc visit, void *arg)
{
    Py_VISIT(state->home->home_type);
    Py_VISIT(state->home->interpreter_class);
    Py_VISIT(state->home->handlers[0]);
    Py_VISIT(state->home->handlers[1]);
    Py_VISIT(state->home->frame_code);
    return 0;
}

static void
home_clear(core_state *state)
{
    Py_CLEAR(state->home->home_type);
    Py_CLEAR(state->home->interpreter_class);
    Py_CLEAR(state->home->handlers[0]);
    Py_CLEAR(state->home->handlers[1]);
    Py_CLEAR(state->home->frame_code);
}

static void
home_end(core_state *state)
{
    if (state->home->anchor != NULL) {
        PyCapsule_SetContext(state->home->anchor, state);
        Py_CLEAR(state->home->anchor);
    }
    if (state->home->self != NULL) {
        home_unref(state->home->self);
    }
    else if (!state->is_main && state->module != NULL) {
        /* An interpreter that somebody else made is ending. */
        atoll_chan_orphan_all(state->interp_id);
        atoll_sync_orphan_all(state->interp_id);
    }
}

const core_room home_room = {
    CORE_ROOM_DATA(home), .start = home_start_handles, .begin = home_begin,
    .visit = home_visit,  .clear = home_clear,         .end = home_end,
};
