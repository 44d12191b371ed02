/* Waiting as a room: an interpreter's mailbox and party. See wait/wait.h. */
#include "wait/wait.h"

#include <stddef.h>

static int
wait_begin(core_state *state)
{
    state->wait->mailbox = mailbox_new(PyInterpreterState_Get());
    if (state->wait->mailbox == NULL || waits_party_begin(state) < 0) {
        return -1;
    }
    return state->is_main ? detach_init() : 0;
}

static void
wait_end(core_state *state)
{
    waits_party_end(state);
    mailbox *box = state->wait->mailbox;
    if (box != NULL) {
        mailbox_kill(box);
        mailbox_unref(box);
    }
}

const core_room wait_room = {
    CORE_ROOM_DATA(wait),
    .begin = wait_begin,
    .end = wait_end,
};
