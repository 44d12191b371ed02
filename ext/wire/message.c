/* Handles inside messages, and the token of this process. */
#include "wire/wire.h"

#include <fcntl.h>
#include <string.h>
#include <sys/random.h>
#include <unistd.h>

#include "cpython/adopt.h"
#include "atoll/sync.h"
#include "frozen/frozen.h"
#include "home/home.h"
#include "memory/memory.h"
#include "wire/form.h"

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
    case HANDLE_FROZEN:
    case HANDLE_ELEMENT:
        frozen_ref(ptr);
        return;
    case HANDLE_SYNC:
        atoll_sync_ref(ptr);
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
    case HANDLE_FROZEN:
    case HANDLE_ELEMENT:
        frozen_unref(ptr);
        return;
    case HANDLE_SYNC:
        atoll_sync_unref(ptr);
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

/* ------------------------------------------------------------------ clones */

static atoll_err
clone_handle(const handle *from, handle *to)
{
    *to = *from;
    switch (from->kind) {
    case HANDLE_NONE:
        return ATOLL_OK;
    case HANDLE_MOVED:
        return ATOLL_ERR_CLOSED;
    case HANDLE_BLOB:
        to->ptr = adopt_clone(from->ptr);
        return to->ptr == NULL ? ATOLL_ERR_NOMEM : ATOLL_OK;
    case HANDLE_FD: {
        int fd = fcntl((int)(intptr_t)from->ptr, F_DUPFD_CLOEXEC, 0);
        to->ptr = (void *)(intptr_t)fd;
        return fd < 0 ? ATOLL_ERR_NOMEM : ATOLL_OK;
    }
    default:
        xfer_handle_ref(from->kind, from->ptr);
        return ATOLL_OK;
    }
}

atoll_err
xfer_clone(const atoll_msg *msg, atoll_msg *out)
{
    *out = *msg;
    if (msg->tag != TAG_BLOCK) {
        return ATOLL_OK; /* all of it is inside */
    }
    const block *from = msg->u.heap.ptr;
    block *copy = atoll_alloc(sizeof(block) + from->size);
    if (copy == NULL) {
        return ATOLL_ERR_NOMEM;
    }
    *copy = (block){.size = from->size, .room = from->size};
    memcpy(copy->data, from->data, from->size);
    if (from->nhandles > 0) {
        copy->handles = atoll_alloc(from->nhandles * sizeof(handle));
    }
    atoll_err err = from->nhandles > 0 && copy->handles == NULL
                        ? ATOLL_ERR_NOMEM
                        : ATOLL_OK;
    while (err == ATOLL_OK && copy->nhandles < from->nhandles) {
        err = clone_handle(&from->handles[copy->nhandles],
                           &copy->handles[copy->nhandles]);
        copy->nhandles += err == ATOLL_OK;
    }
    if (err != ATOLL_OK) {
        wire_drop_handles(copy);
        atoll_free(copy);
        return err;
    }
    out->u.heap.ptr = copy;
    return ATOLL_OK;
}

bool
xfer_can_clone(const atoll_msg *msg)
{
    if (msg->tag != TAG_BLOCK) {
        return true;
    }
    const block *b = msg->u.heap.ptr;
    for (size_t i = 0; i < b->nhandles; i++) {
        if (b->handles[i].kind == HANDLE_MOVED) {
            return false;
        }
    }
    return true;
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
