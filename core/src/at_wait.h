/* Waiting: one waiter, standing in one queue or in many.
 *
 * Purpose. A thread that has to wait makes one at_waiter on its stack and one
 * at_node for each place that could serve it (a channel's receivers, another
 * channel's senders, an event). Whoever serves it first *claims* the waiter;
 * the claims of all others fail and they look at the next node. So waiting in
 * many queues (select) needs no second mechanism.
 *
 * States of a waiter, and who moves it:
 *
 *     WAITING ---- waiter goes to sleep ----> PARKED
 *     WAITING, PARKED --- server claims ----> CLAIMED, CLAIMED_PARKED
 *     CLAIMED ---- waiter goes to sleep ----> CLAIMED_PARKED
 *     CLAIMED* --- server is finished ------> DONE        (final)
 *     WAITING, PARKED --- a kick -----------> KICKED      (final)
 *     WAITING, PARKED --- waiter gives up --> GIVEN_UP    (final)
 *
 * Invariants
 *   - A node is linked and unlinked only under the lock of the queue it stands
 *     in, and `queued` says which. A waiter does not return before each of its
 *     nodes is unlinked.
 *   - A waiter that is no thread (at_cq.c) is never PARKED. Its finish is DONE,
 *     and then its `done`, which hands it back to its owner.
 *   - Between claim and finish the server alone writes to the node and to the
 *     message behind it; the waiter does not return before DONE.
 *   - After finish the server uses the waiter's address as a number only (the
 *     futex call); the stack frame may be gone. The event_fd is read before,
 *     and stays open: a waiter that parked on it returns only when it has
 *     consumed the one event that a final state brings (park_until_final).
 *
 * Memory order. A node's fields are published by the queue's lock. The served
 * message is published by the release of DONE in at_waiter_finish and taken by
 * the acquire load in at_waiter_wait. No other pair is needed: whether
 * somebody waits at all is decided under the queue's lock, so there is no
 * "look, then sleep" race outside of it; and the race between DONE and going
 * to sleep is decided by the compare-and-swap on the one state word, and by
 * the kernel's comparison when it parks.
 *
 * Lock order: a queue's lock, then a kick's lock. Neither is held while
 * parked.
 *
 * Sources: Go's runtime/chan.go (hand-over to the first waiter) and
 * crossbeam-channel's `Context` (one claim word for many operations).
 */
#ifndef AT_WAIT_H
#define AT_WAIT_H

#include "at_base.h"

/* The two structs are in atoll.h, since an atoll_op contains them.
 *
 * at_waiter
 *   state     atomic; also the futex word
 *   event_fd  >= 0: woken through it; constant during the wait
 *   won       written by the claimer before DONE
 *   done      constant; NULL for a thread. Else nobody sleeps here, and finish
 *             ends with this call: the waiter is in its caller's hands then
 * at_node
 *   prev, next, queued  guarded by the queue's lock
 *   ticket    guarded by it: the nodes of a line stand in this order
 *   msg       to send from, or to receive into; owned by the waiter
 *   err       written by the claimer: how it ended */

/* First in, first out. Guarded by the lock of its owner. */
typedef struct at_waitq {
    at_node *first, *last;
} at_waitq;

/* Stand at the end of a line, whose lock is held. */
void at_waitq_push(at_waitq *q, at_node *node);

/* Stand in a line, whose lock is held: at its end, with the next number of `arrivals`,
 * which that lock guards; or, if a wait is begun again that has stood there, where its
 * number in *place says, before all who came later. `place` may be NULL. What could
 * be had without waiting has been tried, under the same lock: so nobody has been left
 * standing who is overtaken. */
void at_waitq_enter(at_waitq *q, at_node *node, uint64_t *arrivals, uint64_t *place);

/* Leave a line, whose lock is held, if the node is in it. */
void at_waitq_remove(at_waitq *q, at_node *node);

static inline bool
at_waitq_empty(const at_waitq *q)
{
    return q->first == NULL;
}

/* Unlink nodes from the front until one can be claimed; NULL if none can.
 * The caller must at_waiter_finish it, after it has released the lock. */
at_node *at_waitq_claim(at_waitq *q);

/* Claim all, in order. They are chained through `next`. */
at_node *at_waitq_claim_all(at_waitq *q);

/* Hand the claimed waiter its result and wake it if it sleeps. */
void at_node_finish(at_node *node, atoll_err err);

/* Finish a chain made by at_waitq_claim_all. */
void at_node_finish_all(at_node *chain, atoll_err err);

/* Prepare a waiter for a thread that waits as `wait` says. */
void at_waiter_init(at_waiter *waiter, const atoll_wait *wait);

/* For a waiter that is no thread: `done(waiter)` is called when it is served. */
void at_waiter_init_async(at_waiter *waiter, void (*done)(at_waiter *));

/* Take such a waiter back: true if nobody has claimed it, and then nobody can
 * any more. The caller then unlinks its nodes. */
bool at_waiter_give_up(at_waiter *waiter);

/* Wait until claimed and finished, kicked, interrupted or late. Call it with
 * no lock held. Returns
 *   OK           served: waiter->won says by which node; its err is set;
 *   TIMEOUT, INTERRUPTED   not served, and nobody can claim it any more.
 * The caller then unlinks the nodes that are still queued.
 * `spin`: the history that decides how long to spin; NULL spins once. */
atoll_err at_waiter_wait(at_waiter *waiter, const atoll_wait *wait, atoll_spin *spin);

/* Is there a core to spin on, and has spinning paid off here lately? */
bool at_may_spin(const atoll_spin *spin);

/* Has the deadline of `wait` passed? */
bool at_wait_late(const atoll_wait *wait);

/* Is it set? AGAIN: it is not, and its lock is held, so that the caller can
 * stand in line and then release it (at_event.c). */
atoll_err at_event_try(atoll_event *event);

/* Get the line of those who wait for an event. */
at_waitq *at_event_queue(atoll_event *event);

/* Make `event_fd` readable; counted among the wake-ups. */
void at_wake_fd(int event_fd);

/* How often this process is the child of a fork. What was made under another
 * number is the parent's. Changes only while there is one thread. */
extern uint32_t at_forks;

/* For the child of a fork. */
void at_wait_fork_child(void);

/* Forget all timers, in the child of a fork. */
void at_timer_fork_child(void);

/* For atoll_stats_get. */
void at_wait_stats(atoll_stats *out);

/* Fill in what is known of timers. */
void at_timer_stats(atoll_stats *out);

#endif
