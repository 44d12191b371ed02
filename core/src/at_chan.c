/* Channels: send, receive, close, poison. See at_chan.h first. */
#include "at_chan.h"

#include <string.h>

#include "at_atomic.h"
#include "at_port.h"
#include "at_ring.h"

/* --------------------------------------------------------------- attributes */

uint64_t
atoll_chan_id(const atoll_chan *chan)
{
    return chan->member.entry.key;
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

static size_t
count_nodes(const at_waitq *q)
{
    size_t count = 0;
    for (const at_node *node = q->first; node != NULL; node = node->next) {
        count++;
    }
    return count;
}

void
atoll_chan_look(atoll_chan *chan, atoll_chan_facts *out)
{
    /* Relaxed: handles come and go without the lock. Whoever draws conclusions
     * from the counts knows how those that count them are ordered. */
    out->ends[ATOLL_END_RECV] = at_load_rlx(&chan->ends[ATOLL_END_RECV]);
    out->ends[ATOLL_END_SEND] = at_load_rlx(&chan->ends[ATOLL_END_SEND]);
    out->refs = at_load_rlx(&chan->member.refs);
    atoll_lock_acquire(&chan->lock);
    out->len = chan->len;
    out->closed = chan->closed;
    out->waiting[ATOLL_END_RECV] = count_nodes(&chan->recvq);
    out->waiting[ATOLL_END_SEND] = count_nodes(&chan->sendq);
    atoll_lock_release(&chan->lock);
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
    at_waitq_enter(q, &node, &chan->arrivals, wait->place);
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
    return chan->capacity >> DRAIN_SHIFT > 0 && at_waitq_empty(&chan->sendq) &&
           at_may_spin(&chan->send_spin);
}

/* Called without the lock. */
static void
chan_drain(const atoll_chan *chan)
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

/* What a closed channel says; called with the lock. */
static atoll_err
how_closed(const atoll_chan *chan)
{
    return at_load_rlx(&chan->poisoned) ? ATOLL_ERR_POISONED : ATOLL_ERR_CLOSED;
}

static inline atoll_err
try_send(atoll_chan *chan, atoll_msg *msg)
{
    if (at_unlikely(chan->forked)) {
        return ATOLL_ERR_FORKED;
    }
    atoll_err err = ATOLL_OK;
    atoll_lock_acquire(&chan->lock);
    if (at_unlikely(chan->closed)) {
        err = how_closed(chan);
        goto out;
    }
    at_node *receiver = at_waitq_claim(&chan->recvq);
    if (receiver != NULL) {
        *receiver->msg = *msg;
        chan->head++; /* the ring is empty: no slot is meant */
        atoll_lock_release(&chan->lock);
        at_node_finish(receiver, ATOLL_OK);
        return ATOLL_OK;
    }
    if (chan->len >= chan->capacity) {
        return ATOLL_ERR_AGAIN; /* with the lock */
    }
    if (at_unlikely(chan->len == at_ring_slots(chan))) {
        err = at_ring_grow(chan);
    }
    if (at_likely(err == ATOLL_OK)) {
        at_ring_push(chan, msg);
    }
out:
    atoll_lock_release(&chan->lock);
    return err;
}

static inline atoll_err
try_recv(atoll_chan *chan, atoll_msg *msg)
{
    if (at_unlikely(chan->forked)) {
        return ATOLL_ERR_FORKED;
    }
    atoll_lock_acquire(&chan->lock);
    if (chan->len > 0) {
        at_node *sender = NULL;
        at_ring_pop(chan, msg);
        if (at_likely(chan->len < chan->capacity) &&
            (sender = at_waitq_claim(&chan->sendq)) != NULL) {
            at_ring_push(chan, sender->msg); /* into the place just freed */
        }
        atoll_msg *idle = at_ring_detach_if_idle(chan);
        atoll_lock_release(&chan->lock);
        if (sender != NULL) {
            at_node_finish(sender, ATOLL_OK);
        }
        if (at_unlikely(idle != NULL)) {
            at_ring_free(idle);
        }
        return ATOLL_OK;
    }
    at_node *sender = at_waitq_claim(&chan->sendq);
    if (sender != NULL) {
        /* By I2 this is a rendezvous. */
        *msg = *sender->msg;
        chan->head++;
        atoll_lock_release(&chan->lock);
        at_node_finish(sender, ATOLL_OK);
        return ATOLL_OK;
    }
    if (!chan->closed) {
        return ATOLL_ERR_AGAIN; /* with the lock */
    }
    atoll_err err = how_closed(chan);
    atoll_lock_release(&chan->lock);
    return err;
}

atoll_err
at_chan_try_send(atoll_chan *chan, atoll_msg *msg)
{
    return try_send(chan, msg);
}

atoll_err
at_chan_try_recv(atoll_chan *chan, atoll_msg *msg)
{
    return try_recv(chan, msg);
}

atoll_err
atoll_chan_send(atoll_chan *chan, atoll_msg *msg, const atoll_wait *wait)
{
    bool drained = false;
    for (;;) {
        atoll_err err = try_send(chan, msg);
        if (at_likely(err != ATOLL_ERR_AGAIN)) {
            return err;
        }
        err = cannot_wait(wait);
        if (err != ATOLL_OK) {
            atoll_lock_release(&chan->lock);
            return err;
        }
        if (drained || !worth_draining(chan)) {
            return wait_in(chan, &chan->sendq, &chan->send_spin, msg, wait);
        }
        atoll_lock_release(&chan->lock);
        chan_drain(chan);
        drained = true;
    }
}

atoll_err
atoll_chan_recv(atoll_chan *chan, atoll_msg *msg, const atoll_wait *wait)
{
    atoll_err err = try_recv(chan, msg);
    if (err != ATOLL_ERR_AGAIN) {
        return err;
    }
    err = cannot_wait(wait);
    if (err == ATOLL_OK) {
        return wait_in(chan, &chan->recvq, &chan->recv_spin, msg, wait);
    }
    atoll_lock_release(&chan->lock);
    return err;
}

atoll_err
atoll_chan_unrecv(atoll_chan *chan, atoll_msg *msg)
{
    if (at_unlikely(chan->forked)) {
        return ATOLL_ERR_FORKED;
    }
    atoll_err err = ATOLL_OK;
    atoll_lock_acquire(&chan->lock);
    at_node *receiver = at_waitq_claim(&chan->recvq);
    if (receiver != NULL) {
        *receiver->msg = *msg;
    }
    else if (chan->discarded) {
        err = ATOLL_ERR_CLOSED;
    }
    else {
        if (chan->len == at_ring_slots(chan)) {
            err = at_ring_grow(chan);
        }
        if (err == ATOLL_OK) {
            at_ring_push_front(chan, msg);
        }
    }
    atoll_lock_release(&chan->lock);
    if (receiver != NULL) {
        at_node_finish(receiver, ATOLL_OK);
    }
    return err;
}

/* -------------------------------------------------------------------- done */

at_node *
at_chan_all_done(atoll_chan *chan)
{
    if (at_chan_unfinished(chan) > 0) {
        return NULL;
    }
    chan->all_done = chan->arrivals;
    return at_waitq_claim_all(&chan->joinq);
}

atoll_err
atoll_chan_done(atoll_chan *chan)
{
    if (at_unlikely(chan->forked)) {
        return ATOLL_ERR_FORKED;
    }
    at_node *joiners = NULL;
    atoll_lock_acquire(&chan->lock);
    bool more = at_chan_unfinished(chan) > 0;
    if (more) {
        chan->done++;
        joiners = at_chan_all_done(chan);
    }
    atoll_lock_release(&chan->lock);
    at_node_finish_all(joiners, ATOLL_OK);
    return more ? ATOLL_OK : ATOLL_ERR_INVALID;
}

size_t
atoll_chan_unfinished(atoll_chan *chan)
{
    if (at_unlikely(chan->forked)) {
        return 0;
    }
    atoll_lock_acquire(&chan->lock);
    size_t count = at_chan_unfinished(chan);
    atoll_lock_release(&chan->lock);
    return count;
}

atoll_err
at_chan_try_join(atoll_chan *chan, const uint64_t *place)
{
    if (at_unlikely(chan->forked)) {
        return ATOLL_ERR_FORKED;
    }
    atoll_lock_acquire(&chan->lock);
    bool missed = place != NULL && *place != 0 && *place <= chan->all_done;
    if (!missed && at_chan_unfinished(chan) > 0) {
        return ATOLL_ERR_AGAIN; /* with the lock */
    }
    atoll_lock_release(&chan->lock);
    return ATOLL_OK;
}

atoll_err
atoll_chan_join(atoll_chan *chan, const atoll_wait *wait)
{
    atoll_err err = at_chan_try_join(chan, wait->place);
    if (err != ATOLL_ERR_AGAIN) {
        return err;
    }
    err = cannot_wait(wait);
    if (err == ATOLL_OK) {
        return wait_in(chan, &chan->joinq, NULL, NULL, wait);
    }
    atoll_lock_release(&chan->lock);
    return err;
}

/* ------------------------------------------------------------------- close */

/* What the end of a channel leaves to be done without its lock. */
typedef struct remains {
    at_node *receivers, *senders; /* chains to be told */
    at_node *joiners;             /* likewise, that all is done */
    atoll_msg *ring;
    size_t head, len, mask;
    void (*fn)(void *arg);
    void *arg;
} remains;

/* Called with the lock. */
static void
end_now(atoll_chan *chan, bool discard, remains *left)
{
    *left = (remains){.fn = chan->on_close, .arg = chan->on_close_arg};
    at_store_rlx(&chan->closed, true);
    chan->on_close = NULL;
    left->receivers = at_waitq_claim_all(&chan->recvq);
    left->senders = at_waitq_claim_all(&chan->sendq);
    if (discard) {
        chan->discarded = true;
        left->ring = chan->ring;
        left->head = chan->head;
        left->len = chan->len;
        left->mask = chan->mask;
        chan->ring = NULL;
        chan->mask = 0;
        at_ring_set_len(chan, 0);
        left->joiners = at_chan_all_done(chan);
    }
}

/* Called without the lock. The caller has a reference, `fn` may give up others. */
static void
end_rest(const remains *left, atoll_err err)
{
    at_node_finish_all(left->receivers, err);
    at_node_finish_all(left->senders, err);
    at_node_finish_all(left->joiners, ATOLL_OK);
    at_ring_drop(left->ring, left->head, left->len, left->mask);
    if (left->fn != NULL) {
        left->fn(left->arg);
    }
}

bool
atoll_chan_close(atoll_chan *chan, bool discard)
{
    if (at_unlikely(chan->forked)) {
        return false;
    }
    remains left;
    atoll_lock_acquire(&chan->lock);
    bool first = !chan->closed;
    end_now(chan, discard, &left);
    atoll_lock_release(&chan->lock);
    end_rest(&left, ATOLL_ERR_CLOSED);
    return first;
}

atoll_err
atoll_chan_poison(atoll_chan *chan, const atoll_msg *why, size_t *dropped)
{
    if (dropped != NULL) {
        *dropped = 0;
    }
    if (at_unlikely(chan->forked)) {
        return ATOLL_ERR_FORKED;
    }
    remains left;
    atoll_lock_acquire(&chan->lock);
    if (chan->poisoned) {
        atoll_lock_release(&chan->lock);
        return ATOLL_ERR_POISONED;
    }
    chan->why = *why;
    /* Release: publishes `why` to atoll_chan_why. */
    at_store_rel(&chan->poisoned, true);
    end_now(chan, true, &left);
    atoll_lock_release(&chan->lock);
    if (dropped != NULL) {
        *dropped = left.len;
    }
    end_rest(&left, ATOLL_ERR_POISONED);
    return ATOLL_OK;
}

const atoll_msg *
atoll_chan_why(const atoll_chan *chan)
{
    /* Acquire: pairs with the release in atoll_chan_poison. */
    return at_load_acq(&chan->poisoned) ? &chan->why : NULL;
}

atoll_err
atoll_chan_on_close(atoll_chan *chan, void (*fn)(void *arg), void *arg)
{
    if (at_unlikely(chan->forked)) {
        return ATOLL_ERR_FORKED;
    }
    atoll_err err = ATOLL_OK;
    atoll_lock_acquire(&chan->lock);
    if (chan->closed) {
        err = ATOLL_ERR_CLOSED;
    }
    else if (chan->on_close != NULL) {
        err = ATOLL_ERR_INVALID;
    }
    else {
        chan->on_close = fn;
        chan->on_close_arg = arg;
    }
    atoll_lock_release(&chan->lock);
    return err;
}

bool
atoll_chan_is_closed(const atoll_chan *chan)
{
    /* Relaxed: a hint, as documented for every such question. */
    return at_load_rlx(&chan->closed);
}

size_t
atoll_chan_waiting(atoll_chan *chan, size_t max)
{
    if (at_unlikely(chan->forked)) {
        return 0;
    }
    size_t count = 0;
    atoll_lock_acquire(&chan->lock);
    const at_node *lines[] = {chan->recvq.first, chan->sendq.first};
    for (int i = 0; i < 2; i++) {
        for (const at_node *n = lines[i]; n != NULL && count < max; n = n->next) {
            count++;
        }
    }
    atoll_lock_release(&chan->lock);
    return count;
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

void
at_chan_fork_child(atoll_chan *chan)
{
    chan->forked = true;
    chan->lock.word = 0;
    chan->recvq = chan->sendq = chan->joinq = (at_waitq){NULL, NULL};
}
