/* Waiters: claim, finish, spin, park, kick. See at_wait.h for the protocol. */
#include "at_wait.h"

#include "at_atomic.h"
#include "at_port.h"

enum {
    WAITING = 0,
    PARKED = 1,
    CLAIMED = 2,
    CLAIMED_PARKED = 3,
    DONE = 4,
    KICKED = 5,
    GIVEN_UP = 6,
};

/* ------------------------------------------------------------- the queue */

void
at_waitq_push(at_waitq *q, at_node *node)
{
    node->next = NULL;
    node->prev = q->last;
    if (q->last != NULL) {
        q->last->next = node;
    }
    else {
        q->first = node;
    }
    q->last = node;
    node->queued = true;
}

/* Stand before the first whose number is greater. */
static void
waitq_insert(at_waitq *q, at_node *node)
{
    at_node *next = q->first;
    while (next != NULL && next->ticket < node->ticket) {
        next = next->next;
    }
    if (next == NULL) {
        at_waitq_push(q, node);
        return;
    }
    node->next = next;
    node->prev = next->prev;
    *(node->prev != NULL ? &node->prev->next : &q->first) = node;
    next->prev = node;
    node->queued = true;
}

void
at_waitq_enter(at_waitq *q, at_node *node, uint64_t *arrivals, uint64_t *place)
{
    if (place != NULL && *place != 0) {
        node->ticket = *place;
        waitq_insert(q, node);
        return;
    }
    node->ticket = ++*arrivals;
    if (place != NULL) {
        *place = node->ticket;
    }
    at_waitq_push(q, node);
}

void
at_waitq_remove(at_waitq *q, at_node *node)
{
    if (!node->queued) {
        return;
    }
    if (node->prev != NULL) {
        node->prev->next = node->next;
    }
    else {
        q->first = node->next;
    }
    if (node->next != NULL) {
        node->next->prev = node->prev;
    }
    else {
        q->last = node->prev;
    }
    node->queued = false;
}

/* ------------------------------------------------------ the serving side */

static bool
wait_claim(at_waiter *waiter)
{
    /* Acquire is for symmetry only: what the claimer reads of the node was
     * published by the queue's lock. */
    /* It may go to sleep between the two attempts, but never comes back to
     * WAITING, so these two cover all. */
    return at_cas_acq(&waiter->state, WAITING, CLAIMED) ||
           at_cas_acq(&waiter->state, PARKED, CLAIMED_PARKED);
}

at_node *
at_waitq_claim(at_waitq *q)
{
    at_node *node;
    while ((node = q->first) != NULL) {
        at_waitq_remove(q, node);
        if (wait_claim(node->waiter)) {
            return node;
        }
    }
    return NULL;
}

at_node *
at_waitq_claim_all(at_waitq *q)
{
    at_node *chain = NULL, **end = &chain, *node;
    while ((node = at_waitq_claim(q)) != NULL) {
        node->next = NULL;
        *end = node;
        end = &node->next;
    }
    return chain;
}

static uint64_t wakes; /* statistics: relaxed */

void
at_wake_fd(int event_fd)
{
    at_add_rlx(&wakes, 1);
    at_port_wake_fd(event_fd);
}

static void
wait_wake(uint32_t *word, int event_fd)
{
    if (event_fd >= 0) {
        at_wake_fd(event_fd);
    }
    else {
        at_add_rlx(&wakes, 1);
        at_port_wake(word, 1);
    }
}

void
at_node_finish(at_node *node, atoll_err err)
{
    at_waiter *waiter = node->waiter;
    uint32_t *word = &waiter->state;
    int event_fd = waiter->event_fd;
    void (*done)(at_waiter *) = waiter->done;
    node->err = err;
    waiter->won = node;
    if (done != NULL) {
        /* Relaxed: that it is over is published by whatever `done` does. */
        at_store_rlx(word, DONE);
        done(waiter);
        return;
    }
    /* Release: publishes the message, err and won to the waiter's acquire
     * load. From here on the waiter's frame may be gone. */
    if (at_swap_rel(word, DONE) == CLAIMED_PARKED) {
        wait_wake(word, event_fd);
    }
}

void
at_node_finish_all(at_node *chain, atoll_err err)
{
    while (chain != NULL) {
        at_node *next = chain->next; /* before the frame may go */
        at_node_finish(chain, err);
        chain = next;
    }
}

/* -------------------------------------------------------------- spinning */

/* Spinning pays while the partner runs on another core: then a hand-over takes
 * a fraction of a microsecond instead of the tens that it takes to put a core
 * to sleep and wake it. It costs when the partner needs the very core that the
 * spinner burns. So
 *   - it lasts about as long as a sleep and a wake-up cost together, which is
 *     at most twice the best possible for any wait (the ski-rental argument;
 *     Karlin et al., "Competitive randomized algorithms", 1990);
 *   - after the first microseconds the spinner yields its core between looks,
 *     so a partner on the same one gets on;
 *   - no more threads spin than there are processors, and none on a single one;
 *   - a place where it does not pay spins less and less often, and is tried
 *     again after 1, 2, 4, ... SKIP_MAX waits;
 *   - a place where a sleep was over soon after it began spins longer the next
 *     time: there a partner is at work that takes a little more than the usual
 *     spin, and would otherwise pay for a wake-up each time.
 * Yielding also leads out of a trap: two partners that wake each other on one
 * core while another is idle. The kernel moves neither if each sleeps while the
 * other runs, for it never finds two runnable threads there; with both
 * spinning it finds them at the next timer tick. */
#define SPIN_NS 40000
#define SPIN_LONG_NS 160000 /* where waits are known to end within that time */
#define SPIN_HARD_NS 2000   /* of these, so many without yielding */
#define SPIN_CHUNK 32       /* pauses between two looks at the clock */
#define SKIP_MAX 256
#define LOST_MAX 8 /* 2 to this power is SKIP_MAX */

static uint32_t spinners;     /* relaxed: a limit, not a lock */
static uint32_t max_spinners; /* processors; 0: not known yet */

bool
at_may_spin(const atoll_spin *spin)
{
    if (spin != NULL && at_load_rlx(&spin->skip) > 0) {
        return false;
    }
    uint32_t limit = at_load_rlx(&max_spinners);
    if (at_unlikely(limit == 0)) {
        limit = at_port_cpus();
        at_store_rlx(&max_spinners, limit);
    }
    /* Not one fewer: in a ping-pong the partner that was just served is still
     * counted for the moment that it takes to see it. */
    return limit > 1 && at_load_rlx(&spinners) < limit;
}

/* All fields are hints: threads may overwrite each other's. */
static void
spin_history(atoll_spin *spin, bool won)
{
    if (spin == NULL) {
        return;
    }
    uint32_t lost = at_load_rlx(&spin->lost);
    if (won) {
        if (lost != 0) {
            at_store_rlx(&spin->lost, 0);
        }
        return;
    }
    at_store_rlx(&spin->skip, lost < LOST_MAX ? 1u << lost : SKIP_MAX);
    at_store_rlx(&spin->lost, lost < LOST_MAX ? lost + 1 : lost);
}

/* A sleep that took `slept` nanoseconds, the wake-up among them, has ended. */
static void
spin_reach(atoll_spin *spin, int64_t slept)
{
    if (slept >= SPIN_LONG_NS - SPIN_NS) {
        if (at_load_rlx(&spin->reach) != 0) {
            at_store_rlx(&spin->reach, 0);
        }
        return;
    }
    at_store_rlx(&spin->reach, SPIN_LONG_NS);
    spin_history(spin, true); /* nearly won */
}

/* Returns true when the state is final. */
static bool
spin_for(at_waiter *waiter, const atoll_wait *wait, int64_t reach)
{
    int64_t now = at_port_now();
    int64_t hard = now + SPIN_HARD_NS;
    int64_t end = wait->deadline < now + reach ? wait->deadline : now + reach;
    do {
        int looks = now < hard ? SPIN_CHUNK : 1;
        for (int i = 0; i < looks; i++) {
            /* Acquire: pairs with DONE in at_node_finish. */
            if (at_load_acq(&waiter->state) >= DONE) {
                return true;
            }
            at_port_pause();
        }
        if (now >= hard) {
            at_port_yield();
        }
        now = at_port_now();
    } while (now < end);
    return false;
}

static bool
try_spinning(at_waiter *waiter, const atoll_wait *wait, atoll_spin *spin)
{
    if (!at_may_spin(spin)) {
        if (spin != NULL) {
            uint32_t skip = at_load_rlx(&spin->skip);
            if (skip > 0) {
                at_store_rlx(&spin->skip, skip - 1);
            }
        }
        return at_load_acq(&waiter->state) >= DONE;
    }
    at_add_rlx(&spinners, 1);
    uint32_t reach = spin == NULL ? 0 : at_load_rlx(&spin->reach);
    bool won = spin_for(waiter, wait, reach == 0 ? SPIN_NS : reach);
    at_sub_rlx(&spinners, 1);
    spin_history(spin, won);
    return won;
}

/* --------------------------------------------------------------- parking */

static uint64_t parks; /* statistics: relaxed */

static at_park
wait_park(at_waiter *waiter, const atoll_wait *wait, uint32_t state)
{
    /* Once claimed, the end is near and certain: no deadline, no interrupt. */
    bool claimed = state == CLAIMED_PARKED;
    int64_t deadline = claimed ? ATOLL_FOREVER : wait->deadline;
    if (waiter->event_fd >= 0) {
        return at_port_park_fds(waiter->event_fd, claimed ? -1 : wait->intr_fd,
                                deadline);
    }
    return at_port_park(&waiter->state, state, deadline);
}

/* Sleep until the state is final. Returns what at_waiter_wait returns.
 *
 * A waiter that has said it sleeps gets exactly one wake-up with its final
 * state. On a futex that may come when the frame is gone. Through a descriptor
 * it must not: by then the caller may have closed it, and the number may
 * belong to another file, into which eight bytes would be written. So with an
 * event_fd the waiter stays until it has taken that one event; it is on its
 * way already. (This also leaves the eventfd empty, so that the next wait's
 * event is known to be its own.) */
static atoll_err
park_until_final(at_waiter *waiter, const atoll_wait *wait)
{
    bool event_due = false; /* the other side will write to event_fd */
    bool told = wait->interrupted == NULL;
    if (!wait->uncounted) {
        at_add_rlx(&parks, 1);
    }
    for (;;) {
        /* Acquire: pairs with DONE in at_node_finish, and with KICKED. */
        uint32_t state = at_load_acq(&waiter->state);
        switch (state) {
        case DONE:
        case KICKED:
            while (event_due) {
                event_due = at_port_park_fds(waiter->event_fd, -1, ATOLL_FOREVER) !=
                            AT_PARK_EVENT;
            }
            return state == DONE ? ATOLL_OK : ATOLL_ERR_INTERRUPTED;
        case WAITING:
        case CLAIMED:
            /* Say that we sleep before we do: the other side's swap then
             * tells it to wake us. Release is not needed, nothing of ours is
             * read on the strength of this. */
            if (at_cas_acq(&waiter->state, state,
                           state == WAITING ? PARKED : CLAIMED_PARKED)) {
                event_due = waiter->event_fd >= 0;
            }
            continue;
        default:
            break;
        }
        at_park why = wait_park(waiter, wait, state);
        if (why == AT_PARK_EVENT) {
            event_due = false;
        }
        if (why == AT_PARK_EVENT || why == AT_PARK_WOKEN) {
            continue;
        }
        if (why == AT_PARK_INTR && !told) {
            told = true;
            wait->interrupted(wait->arg);
        }
        /* Only an unclaimed waiter may leave. If the swap fails somebody has
         * claimed or kicked it in the meantime: look again. */
        if (at_cas_acq(&waiter->state, PARKED, GIVEN_UP)) {
            return why == AT_PARK_TIMEOUT ? ATOLL_ERR_TIMEOUT : ATOLL_ERR_INTERRUPTED;
        }
    }
}

void
at_waiter_init(at_waiter *waiter, const atoll_wait *wait)
{
    waiter->state = WAITING;
    waiter->event_fd = wait->use_fds ? wait->event_fd : -1;
    waiter->won = NULL;
    waiter->done = NULL;
}

void
at_waiter_init_async(at_waiter *waiter, void (*done)(at_waiter *))
{
    *waiter = (at_waiter){.state = WAITING, .event_fd = -1, .done = done};
}

bool
at_waiter_give_up(at_waiter *waiter)
{
    /* Nothing to order: if it succeeds nobody has written, and what a server
     * has read of the node is ordered by the queue's lock. */
    return at_cas_acq(&waiter->state, WAITING, GIVEN_UP);
}

/* The same, with the kick told which waiter it has to reach. */
static atoll_err
park_kickable(at_waiter *waiter, const atoll_wait *wait)
{
    atoll_kick *kick = wait->kick;
    atoll_lock_acquire(&kick->lock);
    bool kicked = kick->set != 0;
    if (!kicked) {
        kick->now = waiter;
    }
    atoll_lock_release(&kick->lock);
    if (kicked && at_cas_acq(&waiter->state, WAITING, GIVEN_UP)) {
        return ATOLL_ERR_INTERRUPTED;
    }
    atoll_err err = park_until_final(waiter, wait);
    if (!kicked) {
        atoll_lock_acquire(&kick->lock);
        kick->now = NULL;
        atoll_lock_release(&kick->lock);
    }
    return err;
}

atoll_err
at_waiter_wait(at_waiter *waiter, const atoll_wait *wait, atoll_spin *spin)
{
    if (wait->standing != NULL) {
        wait->standing(wait->arg);
    }
    if (try_spinning(waiter, wait, spin)) {
        return ATOLL_OK;
    }
    int64_t asleep = at_port_now();
    atoll_err err = wait->kick == NULL ? park_until_final(waiter, wait)
                                       : park_kickable(waiter, wait);
    if (spin != NULL) {
        spin_reach(spin, err == ATOLL_OK ? at_port_now() - asleep : SPIN_LONG_NS);
    }
    return err;
}

bool
at_wait_late(const atoll_wait *wait)
{
    return wait->deadline != ATOLL_FOREVER &&
           (wait->deadline == ATOLL_NOW || at_port_now() >= wait->deadline);
}

/* ------------------------------------------------------------- the kicks */

void
atoll_kick_set(atoll_kick *kick)
{
    atoll_lock_acquire(&kick->lock);
    kick->set = 1;
    at_waiter *waiter = kick->now;
    if (waiter != NULL) {
        /* Under the lock the waiter's frame is alive: it takes the lock to
         * unregister before it returns. A claimed waiter is left alone. These
         * two attempts cover the rest, as in wait_claim(). */
        if (!at_cas_rel(&waiter->state, WAITING, KICKED) &&
            at_cas_rel(&waiter->state, PARKED, KICKED)) {
            wait_wake(&waiter->state, waiter->event_fd);
        }
    }
    atoll_lock_release(&kick->lock);
}

void
atoll_kick_clear(atoll_kick *kick)
{
    atoll_lock_acquire(&kick->lock);
    kick->set = 0;
    atoll_lock_release(&kick->lock);
}

bool
atoll_kick_waits(atoll_kick *kick)
{
    atoll_lock_acquire(&kick->lock);
    bool waits = false;
    if (kick->now != NULL && !kick->set) {
        /* Nothing is read on the strength of it. */
        uint32_t state = at_load_rlx(&kick->now->state);
        waits = state == WAITING || state == PARKED;
    }
    atoll_lock_release(&kick->lock);
    return waits;
}

/* ------------------------------------------------------------------ rest */

uint32_t at_forks;

void
at_wait_fork_child(void)
{
    at_forks++;
    at_store_rlx(&spinners, 0);
    at_store_rlx(&max_spinners, 0);
}

void
at_wait_stats(atoll_stats *out)
{
    out->parks = at_load_rlx(&parks);
    out->wakes = at_load_rlx(&wakes);
}

int64_t
atoll_now(void)
{
    return at_port_now();
}
