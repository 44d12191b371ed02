/* Handles inside messages, and the token of this process. */
#include "xfer.h"

#include <sys/random.h>
#include <unistd.h>

#include "adopt.h"
#include "home.h"
#include "view.h"
#include "wire.h"

void
xfer_handle_ref(xfer_handle_kind kind, void *ptr)
{
    switch (kind) {
    case HANDLE_HOME:
        home_ref(ptr);
        home_handle_ref(ptr);
        return;
    case HANDLE_REGION:
        atoll_region_ref(ptr);
        return;
    case HANDLE_BLOB:
    case HANDLE_MOVED:
    case HANDLE_FD:
    case HANDLE_NONE:
        Py_UNREACHABLE();
    case HANDLE_SEND:
        atoll_chan_end_ref(ptr, ATOLL_END_SEND);
        break;
    case HANDLE_RECV:
        atoll_chan_end_ref(ptr, ATOLL_END_RECV);
        break;
    case HANDLE_QUEUE:
        break;
    }
    atoll_chan_ref(ptr);
}

void
xfer_handle_unref(xfer_handle_kind kind, void *ptr)
{
    switch (kind) {
    case HANDLE_HOME:
        home_handle_unref(ptr);
        home_unref(ptr);
        return;
    case HANDLE_REGION:
        atoll_region_unref(ptr);
        return;
    case HANDLE_BLOB:
        adopt_drop(ptr);
        return;
    case HANDLE_MOVED:
        moved_drop(ptr);
        return;
    case HANDLE_FD:
        close((int)(intptr_t)ptr);
        return;
    case HANDLE_NONE:
        return;
    case HANDLE_SEND:
        atoll_chan_end_unref(ptr, ATOLL_END_SEND);
        break;
    case HANDLE_RECV:
        atoll_chan_end_unref(ptr, ATOLL_END_RECV);
        break;
    case HANDLE_QUEUE:
        break;
    }
    atoll_chan_unref(ptr);
}

/* ------------------------------------------------------------------ blocks */

/* What an interpreter may keep: not so little that it is of no use, and not so
 * much that anybody would miss it. */
#define SPARE_MIN ((size_t)4096)
#define SPARE_MAX ((size_t)1 << 20)

block *
block_new(core_state *state, size_t room)
{
    block *b = state->spare;
    if (b != NULL && b->room >= room) {
        state->spare = NULL;
        return b;
    }
    b = atoll_alloc(sizeof(block) + room);
    if (b != NULL) {
        b->room = room;
    }
    return b;
}

block *
block_grow(block *b, size_t room)
{
    block *more = atoll_realloc(b, sizeof(block) + room);
    if (more != NULL) {
        more->room = room;
    }
    return more;
}

void
block_give(core_state *state, block *b)
{
    if (state != NULL && b->room >= SPARE_MIN && b->room <= SPARE_MAX &&
        (state->spare == NULL || state->spare->room < b->room)) {
        block *old = state->spare;
        state->spare = b;
        b = old;
    }
    atoll_free(b);
}

void
wire_drop_handles(block *b)
{
    for (size_t i = 0; i < b->nhandles; i++) {
        xfer_handle_unref(b->handles[i].kind, b->handles[i].ptr);
    }
    atoll_free(b->handles);
}

void
wire_drop_block(atoll_msg *msg)
{
    wire_drop_handles(msg->u.heap.ptr);
    atoll_free(msg->u.heap.ptr);
}

/* ------------------------------------------------------- the process token */

static uint64_t process_token; /* guarded by token_lock; 0: not made yet */
static atoll_lock token_lock;

uint64_t
xfer_process_token(void)
{
    atoll_lock_acquire(&token_lock);
    if (process_token == 0) {
        uint64_t token = 0;
        if (getrandom(&token, sizeof(token), 0) != sizeof(token)) {
            token = (uint64_t)atoll_now();
        }
        process_token = token | 1;
    }
    uint64_t token = process_token;
    atoll_lock_release(&token_lock);
    return token;
}

void
xfer_fork_child(void)
{
    token_lock.word = 0;
    process_token = 0;
}
