/* A channel's ring: memory, growth, and the end of what is in it. See at_ring.h. */
#include "at_ring.h"

#define RING_MIN 8

/* What is to be dropped: written into the slot before a ring's first. */
typedef struct dead_ring {
    struct dead_ring *next;
    size_t head, len, mask;
} dead_ring;

at_static_assert(sizeof(dead_ring) <= sizeof(atoll_msg),
                 "the note fits into the slot before the first");

atoll_msg *
at_ring_alloc(size_t count)
{
    atoll_msg *block = NULL;
    if (count < SIZE_MAX / sizeof(*block)) {
        block = atoll_alloc((count + 1) * sizeof(*block));
    }
    return block == NULL ? NULL : block + 1;
}

void
at_ring_free(atoll_msg *ring)
{
    if (ring != NULL) {
        atoll_free(ring - 1);
    }
}

atoll_err
at_ring_grow(atoll_chan *chan)
{
    size_t old = at_ring_slots(chan);
    size_t count = old == 0 ? RING_MIN : old * 2;
    atoll_msg *ring = at_ring_alloc(count); /* fails long before 2 * old wraps */
    if (ring == NULL) {
        return ATOLL_ERR_NOMEM;
    }
    for (size_t i = chan->head; i != chan->head + chan->len; i++) {
        ring[i & (count - 1)] = chan->ring[i & chan->mask];
    }
    at_ring_free(chan->ring);
    chan->ring = ring;
    chan->mask = count - 1;
    return ATOLL_OK;
}

/* A message may hold the last reference to another channel, or its last
 * receiving end, and that channel's messages hold ... : drop the messages of
 * one ring after the other, not one inside the other. A ring that dies while
 * this thread is dropping waits until the one before it is finished. */
static _Thread_local dead_ring *dead_first;
static _Thread_local bool dropping;

void
at_ring_drop(atoll_msg *ring, size_t head, size_t len, size_t mask)
{
    if (len == 0) {
        at_ring_free(ring);
        return;
    }
    dead_ring *dead = (dead_ring *)(void *)(ring - 1);
    *dead = (dead_ring){dead_first, head, len, mask};
    dead_first = dead;
    if (dropping) {
        return;
    }
    dropping = true;
    while ((dead = dead_first) != NULL) {
        dead_first = dead->next;
        ring = (atoll_msg *)(void *)dead + 1;
        for (size_t i = 0; i < dead->len; i++) {
            atoll_msg_drop(&ring[(dead->head + i) & dead->mask]);
        }
        at_ring_free(ring);
    }
    dropping = false;
}
