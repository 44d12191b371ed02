/* Messages as memory: their blocks, copies of them, and the token of this process. */
#include "wire/form.h"

#include <string.h>
#include <sys/random.h>

/* ------------------------------------------------------------------ blocks */

/* What an interpreter may keep: not so little that it is of no use, and not so
 * much that anybody would miss it. */
#define SPARE_MIN ((size_t)4096)
#define SPARE_MAX ((size_t)1 << 20)

block *
block_new(core_state *state, size_t room)
{
    block *b = state->wire->spare;
    if (b != NULL && b->room >= room) {
        state->wire->spare = NULL;
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
        (state->wire->spare == NULL || state->wire->spare->room < b->room)) {
        block *old = state->wire->spare;
        state->wire->spare = b;
        b = old;
    }
    atoll_free(b);
}

void
wire_drop_handles(block *b)
{
    for (size_t i = 0; i < b->nhandles; i++) {
        if (!b->handles[i].lent) {
            xfer_handle_unref(b->handles[i].kind, b->handles[i].ptr);
        }
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
    atoll_err err =
        from->nhandles > 0 && copy->handles == NULL ? ATOLL_ERR_NOMEM : ATOLL_OK;
    while (err == ATOLL_OK && copy->nhandles < from->nhandles) {
        err = wire_clone_handle(&from->handles[copy->nhandles],
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

void
xfer_lend(const atoll_msg *msg, const void *ptr)
{
    const block *b = msg->tag == TAG_BLOCK ? msg->u.heap.ptr : NULL;
    for (size_t i = 0; b != NULL && i < b->nhandles; i++) {
        handle *h = &b->handles[i];
        if (h->ptr == ptr && h->kind <= HANDLE_RECV && !h->lent) {
            h->lent = true;
            xfer_handle_unref(h->kind, h->ptr);
        }
    }
}

bool
xfer_can_clone(const atoll_msg *msg)
{
    if (msg->tag != TAG_BLOCK) {
        return true;
    }
    const block *b = msg->u.heap.ptr;
    for (size_t i = 0; i < b->nhandles; i++) {
        if (!wire_has_copies(b->handles[i].kind)) {
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

/* --------------------------------------------------------- handles in pickles */

PyObject *
xfer_reduce_handle(core_state *state, xfer_handle_kind kind, void *ptr, uint64_t id,
                   const char *finder)
{
    if (xfer_note_handle(state, kind, ptr) < 0) {
        return NULL;
    }
    PyObject *find = PyObject_GetAttrString(state->module, finder);
    if (find == NULL) {
        return NULL;
    }
    return Py_BuildValue("N(KK)", find, (unsigned long long)id,
                         (unsigned long long)xfer_process_token());
}

int
xfer_parse_find(core_state *state, PyObject *args, const char *what,
                const char *error_name, unsigned long long *id)
{
    unsigned long long token;
    if (!PyArg_ParseTuple(args, "KK", id, &token)) {
        return -1;
    }
    if (token != xfer_process_token()) {
        raise_error(state, error_name,
                    "%s %llu belongs to another process; it works within "
                    "one process only",
                    what, *id);
        return -1;
    }
    return 0;
}
