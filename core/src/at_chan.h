/* The inside of a channel, for at_chan.c, at_registry.c, at_select.c and others.
 *
 * Purpose. A queue of messages with a capacity from 0 (rendezvous) to
 * unbounded, many senders, many receivers, served in order.
 *
 * Invariants, whenever the lock is free
 *   I1  receivers wait  =>  the buffer is empty and no sender waits
 *   I2  senders wait    =>  the buffer holds `capacity` messages, or more
 *   I3  closed          =>  nobody waits
 *   I4  poisoned        =>  closed and empty
 * (more than `capacity` are there only after atoll_chan_unrecv)
 * so whoever comes looks first for a waiter of the other side, then at the
 * buffer, and waits only if neither helps. A message is handed straight to a
 * waiting receiver; a place that a receiver frees is filled at once by the
 * sender that has waited longest. That is what makes it first come, first
 * served.
 *
 * Linearisation point: inside the lock, for every operation.
 *
 * Lock order: the roll of channels, a channel. Nothing else is taken inside a channel's
 * lock. No message is dropped, no waiter is woken and (but for growing the
 * ring, and for many orphans) no memory is asked for while it is held: a
 * message's `drop` may well give back a reference to this same channel.
 *
 * Poison is a sub-case of closed, so that it costs those who do not meet it
 * nothing: whoever finds the channel closed (and, a receiver, empty) asks then
 * which of the two it is.
 *
 * Memory order: everything is ordered by the lock. `closed`, `len` and
 * `has_orphans` are also read without it, as hints; so they are written with
 * relaxed stores, which order nothing. `poisoned` publishes `why`, which is read
 * without the lock: release and acquire.
 *
 * Sources: the invariants and the direct hand-over are those of Go's
 * runtime/chan.go. A single lock, rather than a lock-free ring, is what lets
 * close, orphan rules, exact sizes and waiting in many queues stay simple; the
 * section is some twenty instructions, and bench/ has what it costs.
 */
#ifndef AT_CHAN_H
#define AT_CHAN_H

#include "at_roll.h"
#include "at_wait.h"

struct atoll_chan {
    /* What every operation touches, in one cache line. */
    AT_ALIGNED atoll_lock lock;
    bool closed;      /* guarded by lock */
    bool forked;      /* set on the only thread of a forked child */
    bool has_orphans; /* guarded by lock: some message may have a rule */
    bool discarded;   /* guarded by lock: closed, and what was in it dropped */
    size_t capacity;  /* constant */
    size_t len;       /* guarded by lock: messages in the ring */
    size_t head;      /* guarded by lock: how many have been received, and have not
                         been put back; with `mask`, the slot of the oldest */
    size_t mask;      /* guarded by lock: slots - 1; a power of two less one */
    atoll_msg *ring;  /* guarded by lock; NULL: no slots */
    at_waitq recvq;   /* guarded by lock */

    AT_ALIGNED at_waitq sendq; /* guarded by lock */
    atoll_spin recv_spin;      /* hints */
    atoll_spin send_spin;      /* hints */
    uint64_t arrivals;         /* guarded by lock: who has stood in the lines */
    at_waitq joinq;            /* guarded by lock: until all is done */
    size_t done;               /* guarded by lock: atoll_chan_done calls */
    uint64_t all_done;         /* guarded by lock: `arrivals` when all was done last */
    uint32_t ends[2];          /* atomic: live handles of each end */
    int kind;                  /* constant */
    int64_t user[2];           /* the maker's; constant once shared */
    at_member member;          /* on the roll: id, references */

    /* Of its end. */
    void (*on_close)(void *arg); /* guarded by lock; NULL once taken */
    void *on_close_arg;          /* guarded by lock */
    bool poisoned;               /* written under the lock, atomic */
    atoll_msg why;               /* constant once poisoned */
};

/* Find the oldest channel that is newer than `after` (NULL: of all) and has orphan
 * rules to apply, with a reference; NULL at the end. Gives that to `after` back. */
atoll_chan *at_registry_next_with_orphans(atoll_chan *after);

/* Count the live channels. */
uint64_t at_registry_alive(void);

/* Around a fork; in the child, call `each` for every channel. */
void at_registry_fork_prepare(void);

/* Release the table again. */
void at_registry_fork_parent(void);

/* Make the table anew in the child, and call `each` for every channel. */
void at_registry_fork_child(void (*each)(atoll_chan *chan));

/* Send or receive without waiting. AGAIN: it would have to wait, and the lock
 * is held, so that the caller can stand in line (chan->sendq, chan->recvq) and
 * then release it; or just release it. */
atoll_err at_chan_try_send(atoll_chan *chan, atoll_msg *msg);

/* Receive without waiting; as at_chan_try_send. */
atoll_err at_chan_try_recv(atoll_chan *chan, atoll_msg *msg);

/* Is all done? As at_chan_try_send, for chan->joinq. `place` as in atoll_wait, or NULL:
 * was all done since it stood there? */
atoll_err at_chan_try_join(atoll_chan *chan, const uint64_t *place);

/* Would it have to wait? With the lock held. A waiter of the other side that has
 * been served elsewhere (select) makes it say no; a try then unlinks that one. */
static inline bool
at_chan_send_waits(const atoll_chan *chan)
{
    return !chan->closed && chan->len >= chan->capacity && at_waitq_empty(&chan->recvq);
}

static inline bool
at_chan_recv_waits(const atoll_chan *chan)
{
    return !chan->closed && chan->len == 0 && at_waitq_empty(&chan->sendq);
}

/* How many have been accepted and are not done; with the lock held. Each that has been
 * received counts in `head`, each that has not in `len`. */
static inline size_t
at_chan_unfinished(const atoll_chan *chan)
{
    return chan->head + chan->len - chan->done;
}

/* Called with the lock, when some may have gone otherwise than by being received: if
 * nothing is left to be done, whoever waits for that, as a chain to be finished without
 * the lock. */
at_node *at_chan_all_done(atoll_chan *chan);

/* Apply the orphan rules of `group` to what is pending in `chan`. */
void at_chan_orphan(atoll_chan *chan, int64_t group);

/* In the child of a fork: the locks are free, nobody waits. */
void at_chan_fork_child(atoll_chan *chan);

#endif
