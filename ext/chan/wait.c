/* Waits at channels: how to say what they are, and who could end them. */
#include "chan/chan.h"

#include <stdio.h>

static bool
chan_is_queue(const atoll_chan *chan)
{
    return atoll_chan_kind(chan) == KIND_QUEUE;
}

static void
chan_describe_recv(const void *object, char *text, size_t size)
{
    snprintf(text, size,
             chan_is_queue(object) ? "get from queue %llu" : "recv on channel %llu",
             (unsigned long long)atoll_chan_id(object));
}

static void
chan_describe_join(const void *object, char *text, size_t size)
{
    snprintf(text, size, "join of queue %llu",
             (unsigned long long)atoll_chan_id(object));
}

static void
chan_describe_send(const void *object, char *text, size_t size)
{
    snprintf(text, size,
             chan_is_queue(object) ? "put into queue %llu" : "send on channel %llu",
             (unsigned long long)atoll_chan_id(object));
}

/* Those who have the other end can; and whoever has a reference that is no handle
 * of an interpreter's: a message that nobody has received, a timer, C code. */
enum { CHAN_ANY = 2 }; /* of a queue, also when it has been shut down */

static bool
chan_other_end_lives(const void *object, int end, waits_view *view)
{
    union {
        const void *given;
        atoll_chan *chan;
    } u = {object};
    atoll_chan_facts facts;
    atoll_chan_look(u.chan, &facts);
    if (facts.closed && end != CHAN_ANY) {
        return true; /* they are being told */
    }
    if (chan_is_queue(u.chan)) {
        return view->held_live(view, object, HANDLE_QUEUE) ||
               facts.refs > view->held(view, object, HANDLE_QUEUE);
    }
    int side = end == ATOLL_END_SEND ? HANDLE_SEND : HANDLE_RECV;
    return view->held_live(view, object, side) ||
           facts.ends[end] > view->held(view, object, side) ||
           facts.refs > facts.ends[ATOLL_END_SEND] + facts.ends[ATOLL_END_RECV] +
                            view->held(view, object, HANDLE_NONE); /* retired */
}

static bool
chan_recv_may_end(const void *object, waits_view *view)
{
    return chan_other_end_lives(object, ATOLL_END_SEND, view);
}

static bool
chan_send_may_end(const void *object, waits_view *view)
{
    return chan_other_end_lives(object, ATOLL_END_RECV, view);
}

static bool
chan_join_may_end(const void *object, waits_view *view)
{
    return chan_other_end_lives(object, CHAN_ANY, view);
}

const wait_type wait_join = {chan_describe_join, chan_join_may_end, false};
const wait_type wait_recv = {chan_describe_recv, chan_recv_may_end, false};
const wait_type wait_send = {chan_describe_send, chan_send_may_end, false};
