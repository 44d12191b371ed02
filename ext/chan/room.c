/* Queues and channels as a room, and how they cross. See chan/chan.h. */
#include "chan/chan.h"

#include <stddef.h>

#include "wire/kind.h"

/* -------------------------------------------------------------- for the wire */

static void
chan_ref_queue(void *ptr)
{
    atoll_chan_ref(ptr);
}

static void
chan_unref_queue(void *ptr)
{
    atoll_chan_unref(ptr);
}

static PyObject *
chan_open_queue(core_state *state, void *ptr)
{
    return chanobj_get(state, HANDLE_QUEUE, ptr);
}

static void
chan_ref_send(void *ptr)
{
    atoll_chan_end_ref(ptr, ATOLL_END_SEND);
    atoll_chan_ref(ptr);
}

static void
chan_unref_send(void *ptr)
{
    atoll_chan_end_unref(ptr, ATOLL_END_SEND);
    atoll_chan_unref(ptr);
}

static PyObject *
chan_open_send(core_state *state, void *ptr)
{
    return chanobj_get(state, HANDLE_SEND, ptr);
}

static void
chan_ref_recv(void *ptr)
{
    atoll_chan_end_ref(ptr, ATOLL_END_RECV);
    atoll_chan_ref(ptr);
}

static void
chan_unref_recv(void *ptr)
{
    atoll_chan_end_unref(ptr, ATOLL_END_RECV);
    atoll_chan_unref(ptr);
}

static PyObject *
chan_open_recv(core_state *state, void *ptr)
{
    return chanobj_get(state, HANDLE_RECV, ptr);
}

static const wire_kind chan_queue_kind = {
    .ref = chan_ref_queue, .unref = chan_unref_queue, .open = chan_open_queue};
static const wire_kind chan_send_kind = {
    .ref = chan_ref_send, .unref = chan_unref_send, .open = chan_open_send};
static const wire_kind chan_recv_kind = {
    .ref = chan_ref_recv, .unref = chan_unref_recv, .open = chan_open_recv};

/* Append a queue or an end, unless it has no end to give. */
static int
chan_encode(encoder *e, PyObject *obj)
{
    chanobj *self = (chanobj *)obj;
    if (self->retired) {
        channel_raise(self, ATOLL_ERR_CLOSED);
        return -1;
    }
    return enc_put_handle(e, TAG_HANDLE, self->kind, self->chan);
}

/* --------------------------------------------------------------------- room */

static void
chan_start(void)
{
    wire_set_kind(HANDLE_QUEUE, &chan_queue_kind);
    wire_set_kind(HANDLE_SEND, &chan_send_kind);
    wire_set_kind(HANDLE_RECV, &chan_recv_kind);
}

static const core_constant chan_constants[] = {
    {"_ORPHAN_KEEP", ATOLL_ORPHAN_KEEP},
    {"_ORPHAN_REMOVE", ATOLL_ORPHAN_REMOVE},
    {"_ORPHAN_ERROR", ATOLL_ORPHAN_ERROR},
    {"_ORPHAN_MARK", ATOLL_ORPHAN_MARK},
    {NULL, 0},
};

static int
chan_begin(core_state *state)
{
    const chan_data *data = state->chan;
    return queue_add_type(state) < 0 || channel_add_types(state) < 0 ||
                   wire_add_type(state, data->queue_type, chan_encode, true) < 0 ||
                   wire_add_type(state, data->send_type, chan_encode, true) < 0 ||
                   wire_add_type(state, data->recv_type, chan_encode, true) < 0 ||
                   core_add_constants(state, chan_constants) < 0 ||
                   PyModule_AddFunctions(state->module, queue_functions) < 0
               ? -1
               : PyModule_AddFunctions(state->module, channel_functions);
}

static int
chan_visit(core_state *state, visitproc visit, void *arg)
{
    Py_VISIT(state->chan->queue_type);
    Py_VISIT(state->chan->send_type);
    Py_VISIT(state->chan->recv_type);
    return 0;
}

static void
chan_clear(core_state *state)
{
    Py_CLEAR(state->chan->queue_type);
    Py_CLEAR(state->chan->send_type);
    Py_CLEAR(state->chan->recv_type);
}

const core_room chan_room = {
    CORE_ROOM_DATA(chan), .start = chan_start, .begin = chan_begin,
    .visit = chan_visit,  .clear = chan_clear,
};
