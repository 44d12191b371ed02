/* The messages in a channel: a ring that grows by doubling.
 *
 * It belongs to its channel and is guarded by the channel's lock. A ring that
 * has been detached belongs to whoever did that, and is dropped and freed without
 * the lock. The slot before the first is for a note of at_ring_drop's. */
#ifndef AT_RING_H
#define AT_RING_H

#include "at_atomic.h"
#include "at_chan.h"

/* An empty ring of more slots than this is given back. */
#define RING_KEEP 1024

/* `count` slots, and the one before them; NULL when exhausted. */
atoll_msg *at_ring_alloc(size_t count);

/* Free a ring's memory; it has no messages. */
void at_ring_free(atoll_msg *ring); /* or NULL */

/* Make room for one more. Called with the lock held; the ring never needs more
 * than `capacity` slots (rounded up) and what is put back, and grows by doubling,
 * so that a large capacity costs nothing until it is used. */
atoll_err at_ring_grow(atoll_chan *chan);

/* Drop `len` messages from `head` on, then free the ring. No lock is held. */
void at_ring_drop(atoll_msg *ring, size_t head, size_t len, size_t mask);

static inline size_t
at_ring_slots(const atoll_chan *chan)
{
    return chan->ring == NULL ? 0 : chan->mask + 1;
}

static inline void
at_ring_set_len(atoll_chan *chan, size_t len)
{
    at_store_rlx(&chan->len, len); /* atoll_chan_len reads it unlocked */
}

static inline void
at_ring_count_in(atoll_chan *chan, const atoll_msg *msg)
{
    at_ring_set_len(chan, chan->len + 1);
    if (at_unlikely(msg->orphan != ATOLL_ORPHAN_KEEP)) {
        at_store_rlx(&chan->has_orphans, true);
    }
}

static inline void
at_ring_push(atoll_chan *chan, const atoll_msg *msg)
{
    assert(chan->len < at_ring_slots(chan));
    chan->ring[(chan->head + chan->len) & chan->mask] = *msg;
    at_ring_count_in(chan, msg);
}

static inline void
at_ring_push_front(atoll_chan *chan, const atoll_msg *msg)
{
    assert(chan->len < at_ring_slots(chan));
    chan->head--;
    chan->ring[chan->head & chan->mask] = *msg;
    at_ring_count_in(chan, msg);
}

static inline void
at_ring_pop(atoll_chan *chan, atoll_msg *msg)
{
    *msg = chan->ring[chan->head & chan->mask];
    chan->head++;
    at_ring_set_len(chan, chan->len - 1);
}

/* Detach a ring that is empty and large; the caller frees it unlocked. */
static inline atoll_msg *
at_ring_detach_if_idle(atoll_chan *chan)
{
    if (at_likely(chan->len > 0 || chan->mask < RING_KEEP)) {
        return NULL;
    }
    atoll_msg *ring = chan->ring;
    chan->ring = NULL;
    chan->mask = 0;
    return ring;
}

#endif
