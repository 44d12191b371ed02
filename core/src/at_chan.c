/* Channels: send, receive, close, orphan rules. See at_chan.h first. */
#include "at_chan.h"

#include <string.h>

#include "at_atomic.h"
#include "at_port.h"

#define RING_MIN 8
/* An empty ring of more slots than this is given back. */
#define RING_KEEP 1024

/* --------------------------------------------------------------- the ring */

/* What is to be dropped: written into the slot before a ring's first. */
typedef struct dead_ring {
    struct dead_ring *next;
    size_t head, len, mask;
} dead_ring;

at_static_assert(sizeof(dead_ring) <= sizeof(atoll_msg),
                 "the note fits into the slot before the first");

/* `count` slots, and the one before them. */
static atoll_msg *
ring_alloc(size_t count)
{
    atoll_msg *block = NULL;
    if (count < SIZE_MAX / sizeof(*block)) {
        block = atoll_alloc((count + 1) * sizeof(*block));
    }
    return block == NULL ? NULL : block + 1;
}

static void
ring_free(atoll_msg *ring)
{
    if (ring != NULL) {
        atoll_free(ring - 1);
    }
}

static size_t
slots(const atoll_chan *chan)
{
    return chan->ring == NULL ? 0 : chan->mask + 1;
}

static inline void
set_len(atoll_chan *chan, size_t len)
{
    at_store_rlx(&chan->len, len); /* atoll_chan_len reads it unlocked */
}

/* Make room for one more. Called with the lock held; the ring never needs more
 * than `capacity` slots (rounded up), and grows by doubling, so that a large
 * capacity costs nothing until it is used. */
static atoll_err
ring_grow(atoll_chan *chan)
{
    size_t old = slots(chan);
    size_t count = old == 0 ? RING_MIN : old * 2;
    atoll_msg *ring = ring_alloc(count); /* fails long before 2 * old wraps */
    if (ring == NULL) {
        return ATOLL_ERR_NOMEM;
    }
    for (size_t i = 0; i < chan->len; i++) {
        ring[i] = chan->ring[(chan->head + i) & chan->mask];
    }
    ring_free(chan->ring);
    chan->ring = ring;
    chan->mask = count - 1;
    chan->head = 0;
    return ATOLL_OK;
}

static inline void
ring_push(atoll_chan *chan, const atoll_msg *msg)
{
    assert(chan->len < slots(chan));
    chan->ring[(chan->head + chan->len) & chan->mask] = *msg;
    set_len(chan, chan->len + 1);
    if (at_unlikely(msg->orphan != ATOLL_ORPHAN_KEEP)) {
        at_store_rlx(&chan->has_orphans, true);
    }
}

static inline void
ring_pop(atoll_chan *chan, atoll_msg *msg)
{
    *msg = chan->ring[chan->head];
    chan->head = (chan->head + 1) & chan->mask;
    set_len(chan, chan->len - 1);
}

/* Detach a ring that is empty and large; the caller frees it unlocked. */
static atoll_msg *
ring_detach_if_idle(atoll_chan *chan)
{
    if (at_likely(chan->len > 0 || chan->mask < RING_KEEP)) {
        return NULL;
    }
    atoll_msg *ring = chan->ring;
    chan->ring = NULL;
    chan->mask = 0;
    chan->head = 0;
    return ring;
}

/* -------------------------------------------------------------- life time */

atoll_err
atoll_chan_new(size_t capacity, int kind, atoll_chan **out)
{
    /* atoll_alloc promises no more than malloc: align by hand. */
    void *raw = atoll_alloc(sizeof(atoll_chan) + AT_CACHELINE);
    if (raw == NULL) {
        return ATOLL_ERR_NOMEM;
    }
    uintptr_t base = ((uintptr_t)raw + AT_CACHELINE) &
                     ~(uintptr_t)(AT_CACHELINE - 1);
    atoll_chan *chan = (atoll_chan *)base;
    memset(chan, 0, sizeof(*chan));
    ((void **)chan)[-1] = raw; /* malloc aligns to 16: there is room */
    chan->capacity = capacity;
    chan->kind = kind;
    chan->refs = 1;
    at_registry_add(chan);
    *out = chan;
    return ATOLL_OK;
}

atoll_chan *
atoll_chan_ref(atoll_chan *chan)
{
    /* Relaxed: the caller has a reference, so nothing is published. */
    at_add_rlx(&chan->refs, 1);
    return chan;
}

/* A message may hold the last reference to another channel, or its last
 * receiving end, and that channel's messages hold ... : drop the messages of
 * one ring after the other, not one inside the other. A ring that dies while
 * this thread is dropping waits until the one before it is finished. */
static _Thread_local dead_ring *dead_first;
static _Thread_local bool dropping;

/* Drop `len` messages from `head` on, then free the ring. No lock is held. */
static void
drop_all(atoll_msg *ring, size_t head, size_t len, size_t mask)
{
    if (len == 0) {
        ring_free(ring);
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
        ring_free(ring);
    }
    dropping = false;
}

static void
destroy(atoll_chan *chan)
{
    if (!chan->forked) { /* in a forked child the ring may be half written */
        drop_all(chan->ring, chan->head, chan->len, chan->mask);
    }
    atoll_free(((void **)chan)[-1]);
}

void
atoll_chan_unref(atoll_chan *chan)
{
    /* Acquire and release: what other threads did with their references
     * happens before the destruction by the last one. */
    if (at_sub_ar(&chan->refs, 1) == 1) {
        at_registry_remove(chan);
        destroy(chan);
    }
}

uint64_t
atoll_chan_id(const atoll_chan *chan)
{
    return chan->id;
}

int
atoll_chan_kind(const atoll_chan *chan)
{
    return chan->kind;
}

size_t
atoll_chan_capacity(const atoll_chan *chan)
{
    return chan->capacity;
}

int64_t *
atoll_chan_user(atoll_chan *chan)
{
    return chan->user;
}

/* ------------------------------------------------------------ send, receive */

/* Stand in `q`, release the lock, wait. Called with the lock held. */
static atoll_err
wait_in(atoll_chan *chan, at_waitq *q, atoll_spin *spin, atoll_msg *msg,
        const atoll_wait *wait)
{
    at_waiter waiter;
    at_node node = {.waiter = &waiter, .msg = msg};
    at_waiter_init(&waiter, wait);
    at_waitq_push(q, &node);
    atoll_lock_release(&chan->lock);

    atoll_err err = at_waiter_wait(&waiter, wait, spin);
    if (err == ATOLL_OK) {
        return node.err; /* the claimer has unlinked the node */
    }
    atoll_lock_acquire(&chan->lock);
    at_waitq_remove(q, &node);
    atoll_lock_release(&chan->lock);
    return err;
}

static atoll_err
cannot_wait(const atoll_wait *wait)
{
    if (wait->deadline == ATOLL_NOW) {
        return ATOLL_ERR_AGAIN;
    }
    return at_wait_late(wait) ? ATOLL_ERR_TIMEOUT : ATOLL_OK;
}

/* A sender that is faster than its receiver finds the buffer full each time.
 * If it waited for one place, and got it, the two would go in lockstep at the
 * price of a hand-over a message. So before it stands in the queue it gives the
 * receiver, if that runs on another core, a moment to make some room; then both
 * work undisturbed for a while. It overtakes nobody: it is done only while no
 * sender waits, and if one has begun to since, the buffer is full and it stands
 * behind that one. It has no claim to the room either: who comes in the meantime
 * may take it. */
#define DRAIN_NS 3000
#define DRAIN_SHIFT 3 /* wait for an eighth of the buffer */

static bool
worth_draining(const atoll_chan *chan)
{
    return chan->capacity >> DRAIN_SHIFT > 0 &&
           at_waitq_empty(&chan->sendq) && at_may_spin(&chan->send_spin);
}

/* Called without the lock. */
static void
drain(const atoll_chan *chan)
{
    size_t enough = chan->capacity - (chan->capacity >> DRAIN_SHIFT);
    int64_t end = at_port_now() + DRAIN_NS;
    do {
        /* Few looks: each takes the line away from the receiver. */
        for (int i = 0; i < 64; i++) {
            at_port_pause();
        }
    } while (at_load_rlx(&chan->len) > enough && at_port_now() < end);
}

atoll_err
atoll_chan_send(atoll_chan *chan, atoll_msg *msg, const atoll_wait *wait)
{
    if (at_unlikely(chan->forked)) {
        return ATOLL_ERR_FORKED;
    }
    atoll_err err = ATOLL_OK;
    bool drained = false;
again:
    atoll_lock_acquire(&chan->lock);
    if (at_unlikely(chan->closed)) {
        err = ATOLL_ERR_CLOSED;
        goto out;
    }
    at_node *receiver = at_waitq_claim(&chan->recvq);
    if (receiver != NULL) {
        *receiver->msg = *msg;
        atoll_lock_release(&chan->lock);
        at_node_finish(receiver, ATOLL_OK);
        return ATOLL_OK;
    }
    if (chan->len < chan->capacity) {
        if (at_unlikely(chan->len == slots(chan))) {
            err = ring_grow(chan);
        }
        if (at_likely(err == ATOLL_OK)) {
            ring_push(chan, msg);
        }
        goto out;
    }
    err = cannot_wait(wait);
    if (err == ATOLL_OK && !drained && worth_draining(chan)) {
        atoll_lock_release(&chan->lock);
        drain(chan);
        drained = true;
        goto again;
    }
    if (err == ATOLL_OK) {
        return wait_in(chan, &chan->sendq, &chan->send_spin, msg, wait);
    }
out:
    atoll_lock_release(&chan->lock);
    return err;
}

atoll_err
atoll_chan_recv(atoll_chan *chan, atoll_msg *msg, const atoll_wait *wait)
{
    if (at_unlikely(chan->forked)) {
        return ATOLL_ERR_FORKED;
    }
    atoll_lock_acquire(&chan->lock);
    if (chan->len > 0) {
        ring_pop(chan, msg);
        at_node *sender = at_waitq_claim(&chan->sendq);
        if (sender != NULL) {
            ring_push(chan, sender->msg); /* into the place just freed */
        }
        atoll_msg *idle = ring_detach_if_idle(chan);
        atoll_lock_release(&chan->lock);
        if (sender != NULL) {
            at_node_finish(sender, ATOLL_OK);
        }
        ring_free(idle);
        return ATOLL_OK;
    }
    at_node *sender = at_waitq_claim(&chan->sendq);
    if (sender != NULL) {
        /* By I2 this is a rendezvous. */
        *msg = *sender->msg;
        atoll_lock_release(&chan->lock);
        at_node_finish(sender, ATOLL_OK);
        return ATOLL_OK;
    }
    atoll_err err = chan->closed ? ATOLL_ERR_CLOSED : cannot_wait(wait);
    if (err == ATOLL_OK) {
        return wait_in(chan, &chan->recvq, &chan->recv_spin, msg, wait);
    }
    atoll_lock_release(&chan->lock);
    return err;
}

/* ------------------------------------------------------------------- close */

bool
atoll_chan_close(atoll_chan *chan, bool discard)
{
    if (at_unlikely(chan->forked)) {
        return false;
    }
    atoll_msg *ring = NULL;
    size_t head = 0, len = 0, mask = 0;

    atoll_lock_acquire(&chan->lock);
    bool first = !chan->closed;
    at_store_rlx(&chan->closed, true);
    at_node *receivers = at_waitq_claim_all(&chan->recvq);
    at_node *senders = at_waitq_claim_all(&chan->sendq);
    if (discard) {
        ring = chan->ring;
        head = chan->head;
        len = chan->len;
        mask = chan->mask;
        chan->ring = NULL;
        chan->head = chan->mask = 0;
        set_len(chan, 0);
    }
    atoll_lock_release(&chan->lock);

    at_node_finish_all(receivers, ATOLL_ERR_CLOSED);
    at_node_finish_all(senders, ATOLL_ERR_CLOSED);
    drop_all(ring, head, len, mask);
    return first;
}

bool
atoll_chan_is_closed(const atoll_chan *chan)
{
    /* Relaxed: a hint, as documented for every such question. */
    return at_load_rlx(&chan->closed);
}

size_t
atoll_chan_len(const atoll_chan *chan)
{
    return at_load_rlx(&chan->len);
}

void
atoll_chan_end_ref(atoll_chan *chan, atoll_end end)
{
    at_add_rlx(&chan->ends[end], 1);
}

void
atoll_chan_end_unref(atoll_chan *chan, atoll_end end)
{
    /* Acquire and release: all that was sent through the other handles of
     * this end happens before the close. */
    if (at_sub_ar(&chan->ends[end], 1) == 1) {
        atoll_chan_close(chan, end == ATOLL_END_RECV);
    }
}

/* ----------------------------------------------------------------- orphans */

/* Let waiting senders into places that have become free (keeps I2). Returns
 * the senders to finish. */
static at_node *
refill(atoll_chan *chan)
{
    at_node *chain = NULL, **end = &chain, *sender;
    while (chan->len < chan->capacity && chan->len < slots(chan) &&
           (sender = at_waitq_claim(&chan->sendq)) != NULL) {
        ring_push(chan, sender->msg);
        sender->next = NULL;
        *end = sender;
        end = &sender->next;
    }
    return chain;
}

static inline bool
goes(const atoll_msg *msg, int64_t group)
{
    return msg->orphan == ATOLL_ORPHAN_REMOVE && msg->group == group;
}

/* Mark what stays, take up to `max` of what goes, oldest first; the others
 * keep their places. Returns how many were taken. */
static size_t
orphan_take(atoll_chan *chan, int64_t group, atoll_msg *gone, size_t max)
{
    size_t kept = 0, count = 0;
    bool has_orphans = false;
    for (size_t i = 0; i < chan->len; i++) {
        atoll_msg *from = &chan->ring[(chan->head + i) & chan->mask];
        if (goes(from, group) && count < max) {
            gone[count++] = *from;
            continue;
        }
        if (from->orphan > ATOLL_ORPHAN_REMOVE && from->group == group) {
            from->orphaned = 1;
        }
        has_orphans |= from->orphan != ATOLL_ORPHAN_KEEP && !from->orphaned;
        if (kept != i) {
            chan->ring[(chan->head + kept) & chan->mask] = *from;
        }
        kept++;
    }
    set_len(chan, kept);
    at_store_rlx(&chan->has_orphans, has_orphans);
    return count;
}

/* So many are removed even if there is no memory for a list of them. */
#define ORPHAN_FEW 32

void
at_chan_orphan(atoll_chan *chan, int64_t group)
{
    size_t going, count;
    do {
        atoll_msg few[ORPHAN_FEW];
        atoll_msg *many = NULL;
        going = 0;
        atoll_lock_acquire(&chan->lock);
        if (!chan->has_orphans || chan->forked) {
            atoll_lock_release(&chan->lock);
            return;
        }
        for (size_t i = 0; i < chan->len; i++) {
            going += goes(&chan->ring[(chan->head + i) & chan->mask], group);
        }
        if (going > ORPHAN_FEW) {
            many = ring_alloc(going);
        }
        /* Without memory the rest goes in further rounds; between two of them
         * a receiver may still get one, in its turn. */
        count = many != NULL ? orphan_take(chan, group, many, going)
                             : orphan_take(chan, group, few, ORPHAN_FEW);
        at_node *senders = refill(chan);
        atoll_lock_release(&chan->lock);

        at_node_finish_all(senders, ATOLL_OK);
        if (many != NULL) {
            drop_all(many, 0, count, SIZE_MAX);
        }
        else {
            for (size_t i = 0; i < count; i++) {
                atoll_msg_drop(&few[i]);
            }
        }
    } while (count < going);
}

void
at_chan_fork_child(atoll_chan *chan)
{
    chan->forked = true;
    chan->lock.word = 0;
    chan->recvq = chan->sendq = (at_waitq){NULL, NULL};
}
