/* Select: one waiter in many lines, of which exactly one serves it.
 *
 * Passes
 *   1  Try the cases one by one, in random order, each under its own lock, as the
 *      call that blocks would. The first that need not wait is it. The order is a
 *      random permutation, so each of those that are ready is as likely.
 *   2  None was ready: take the locks of all, look again, and if still none is
 *      ready stand in all lines; release the locks. If one has become ready, back
 *      to pass 1: somebody else has got on in between.
 *   3  Wait. Whoever serves one of the nodes claims the waiter, which ends its
 *      standing in all other lines: they skip it. Then leave those lines, one lock
 *      after the other.
 *
 * Why all locks in pass 2. From the first line that it stands in the waiter can be
 * served. If it then found another case ready, it would have to claim itself, and
 * the partner, in one step; two selects that meet would each have claimed
 * themselves and be lost to the other. With all locks held no node is seen before
 * all stand, and a case that is taken in pass 1 is taken by somebody whom nobody can
 * serve elsewhere: only the partner has to be claimed.
 *
 * Lock order: by address, whatever they belong to; a channel that is in several
 * cases is locked once. Nothing else in the core takes two of these locks, and
 * nothing is taken inside of them.
 *
 * A select that both sends to and receives from a channel does not meet itself: it
 * stands in line only when nobody else does, and others find it in one of the lines.
 * So there a sender may stand while a receiver does, which at_chan.h excludes for
 * those who could serve each other.
 *
 * A node in a line whose waiter has been served elsewhere is unlinked by the next
 * one who comes to serve that line, or in pass 3, whichever is first. As pass 2
 * takes it for a waiter, and pass 1 unlinks it, the two do not go in circles.
 *
 * Memory order: that of the locks, and of at_waiter_wait; nothing is read without.
 *
 * Sources: the passes and the order of locks are those of Go's runtime/select.go,
 * with the difference that pass 1 takes one lock at a time, which is what a select
 * that finds something ready pays. */
#include "at_atomic.h"
#include "at_chan.h"
#include "at_cq.h"
#include "at_sync.h"

/* --------------------------------------------------------------- one case */

static atoll_lock *
select_lock_of(const atoll_case *c)
{
    switch (c->kind) {
    case ATOLL_CASE_EVENT:
        return &c->of.event->lock;
    case ATOLL_CASE_TAKE:
        return &c->of.sync->lock;
    default:
        return &c->of.chan->lock;
    }
}

/* The number of those who have stood in its line; NULL: there is no such number. */
static uint64_t *
arrivals_of(const atoll_case *c)
{
    switch (c->kind) {
    case ATOLL_CASE_EVENT:
        return NULL;
    case ATOLL_CASE_TAKE:
        return &c->of.sync->arrivals;
    default:
        return &c->of.chan->arrivals;
    }
}

static at_waitq *
line_of(const atoll_case *c)
{
    switch (c->kind) {
    case ATOLL_CASE_RECV:
        return &c->of.chan->recvq;
    case ATOLL_CASE_SEND:
        return &c->of.chan->sendq;
    case ATOLL_CASE_TAKE:
        return &c->of.sync->q;
    default:
        return at_event_queue(c->of.event);
    }
}

/* Do it, unless it would have to wait: AGAIN. `again`: its select has waited before,
 * and has been interrupted. */
static atoll_err
try_case(atoll_case *c, bool again)
{
    atoll_err err;
    if (again && c->kind == ATOLL_CASE_TAKE &&
        at_sync_missed(c->of.sync, c->at_place)) {
        return ATOLL_OK;
    }
    switch (c->kind) {
    case ATOLL_CASE_RECV:
        err = at_chan_try_recv(c->of.chan, &c->msg);
        break;
    case ATOLL_CASE_SEND:
        err = at_chan_try_send(c->of.chan, &c->msg);
        break;
    case ATOLL_CASE_CLOSED:
        return ATOLL_ERR_CLOSED;
    case ATOLL_CASE_TAKE:
        err = c->of.sync->kind == ATOLL_RLOCK ? ATOLL_ERR_INVALID
                                              : at_sync_try(c->of.sync, &c->msg);
        break;
    default:
        err = at_event_try(c->of.event);
        break;
    }
    if (err == ATOLL_ERR_AGAIN) {
        atoll_lock_release(select_lock_of(c));
    }
    return err;
}

/* With its lock held. */
static bool
must_wait(const atoll_case *c)
{
    switch (c->kind) {
    case ATOLL_CASE_RECV:
        return at_chan_recv_waits(c->of.chan);
    case ATOLL_CASE_SEND:
        return at_chan_send_waits(c->of.chan);
    case ATOLL_CASE_TAKE:
        return at_sync_waits(c->of.sync);
    default:
        return !at_load_rlx(&c->of.event->is_set);
    }
}

/* ---------------------------------------------------------------- orders */

/* Marsaglia, "Xorshift RNGs", 2003. */
static uint64_t
next_random(uint64_t *state)
{
    uint64_t x = *state == 0 ? UINT64_C(0x9e3779b97f4a7c15) : *state;
    x ^= x << 13;
    x ^= x >> 7;
    x ^= x << 17;
    return *state = x;
}

/* Put the indices of the cases that are there into at_turn, at random or in order.
 * Returns how many there are. */
static uint32_t
make_turns(atoll_case *cases, uint32_t count, uint64_t *random)
{
    uint32_t used = 0;
    for (uint32_t i = 0; i < count; i++) {
        if (cases[i].kind == ATOLL_CASE_NEVER) {
            continue;
        }
        /* Durstenfeld's shuffle, from the inside out. The high bits, scaled: a
         * remainder would favour the first. */
        uint32_t at = used;
        if (random != NULL) {
            at = (uint32_t)(((next_random(random) >> 32) * (used + 1)) >> 32);
            cases[used].at_turn = cases[at].at_turn;
        }
        cases[at].at_turn = i;
        used++;
    }
    return used;
}

static inline uintptr_t
select_address(const atoll_case *cases, uint32_t i)
{
    return (uintptr_t)select_lock_of(&cases[cases[i].at_lock]);
}

static void
sift_down(atoll_case *cases, uint32_t top, uint32_t count)
{
    uint32_t child;
    for (; (child = 2 * top + 1) < count; top = child) {
        if (child + 1 < count &&
            select_address(cases, child + 1) > select_address(cases, child)) {
            child++;
        }
        if (select_address(cases, top) >= select_address(cases, child)) {
            return;
        }
        uint32_t other = cases[top].at_lock;
        cases[top].at_lock = cases[child].at_lock;
        cases[child].at_lock = other;
    }
}

/* Sort the cases by their locks into at_lock. A heap sort: in place, and no order
 * that a caller might have them in makes it slow. */
static void
sort_locks(atoll_case *cases, uint32_t used)
{
    for (uint32_t i = 0; i < used; i++) {
        cases[i].at_lock = cases[i].at_turn;
    }
    for (uint32_t i = used / 2; i > 0; i--) {
        sift_down(cases, i - 1, used);
    }
    for (uint32_t n = used; n > 1; n--) {
        uint32_t last = cases[0].at_lock;
        cases[0].at_lock = cases[n - 1].at_lock;
        cases[n - 1].at_lock = last;
        sift_down(cases, 0, n - 1);
    }
}

/* Take all locks, or release them, each once. */
static void
lock_all(atoll_case *cases, uint32_t used)
{
    for (uint32_t i = 0; i < used; i++) {
        if (i == 0 || select_address(cases, i) != select_address(cases, i - 1)) {
            atoll_lock_acquire(select_lock_of(&cases[cases[i].at_lock]));
        }
    }
}

static void
unlock_all(atoll_case *cases, uint32_t used)
{
    for (uint32_t i = used; i > 0; i--) {
        if (i == 1 || select_address(cases, i - 1) != select_address(cases, i - 2)) {
            atoll_lock_release(select_lock_of(&cases[cases[i - 1].at_lock]));
        }
    }
}

/* --------------------------------------------------------------- the passes */

/* Pass 1. AGAIN: none is ready. */
static atoll_err
try_all(atoll_case *cases, uint32_t used, bool again, uint32_t *index, atoll_err *err)
{
    for (uint32_t i = 0; i < used; i++) {
        uint32_t turn = cases[i].at_turn;
        *err = try_case(&cases[turn], again);
        if (*err != ATOLL_ERR_AGAIN) {
            *index = turn;
            return ATOLL_OK;
        }
    }
    return ATOLL_ERR_AGAIN;
}

/* Pass 2. False: one has become ready; the waiter stands nowhere. `keep`: its places
 * are those of the cases, if they have any, and else become theirs. */
static bool
select_stand(atoll_case *cases, uint32_t used, at_waiter *waiter, bool keep)
{
    uint64_t none = 0;
    lock_all(cases, used);
    bool waits = true;
    for (uint32_t i = 0; i < used && waits; i++) {
        waits = must_wait(&cases[cases[i].at_turn]);
    }
    for (uint32_t i = 0; i < used && waits; i++) {
        atoll_case *c = &cases[cases[i].at_turn];
        c->at_node = (at_node){.waiter = waiter, .msg = &c->msg};
        uint64_t *arrivals = arrivals_of(c);
        at_waitq_enter(line_of(c), &c->at_node, arrivals == NULL ? &none : arrivals,
                       keep && arrivals != NULL ? &c->at_place : NULL);
    }
    unlock_all(cases, used);
    return waits;
}

/* Pass 3, after the wait. */
static void
select_leave(atoll_case *cases, uint32_t count, const at_node *won)
{
    for (uint32_t i = 0; i < count; i++) {
        atoll_case *c = &cases[i];
        if (c->kind != ATOLL_CASE_NEVER && &c->at_node != won) {
            /* Always under the lock, also if it has been unlinked: who did that
             * may still be looking at the node. */
            atoll_lock_acquire(select_lock_of(c));
            at_waitq_remove(line_of(c), &c->at_node);
            atoll_lock_release(select_lock_of(c));
        }
    }
}

static uint32_t
select_index_of(const atoll_case *cases, const at_node *won)
{
    const atoll_case *c =
        (const atoll_case *)(const void *)((const char *)won -
                                           offsetof(atoll_case, at_node));
    return (uint32_t)(c - cases);
}

/* Where spinning is remembered: at the first channel. */
static atoll_spin *
spin_of(const atoll_case *cases, uint32_t count, const atoll_wait *wait)
{
    for (uint32_t i = 0; i < count && wait->spin == NULL; i++) {
        if (cases[i].kind == ATOLL_CASE_RECV) {
            return &cases[i].of.chan->recv_spin;
        }
        if (cases[i].kind == ATOLL_CASE_SEND) {
            return &cases[i].of.chan->send_spin;
        }
    }
    return wait->spin;
}

atoll_err
atoll_select(atoll_case *cases, uint32_t count, uint64_t *random,
             const atoll_wait *wait, uint32_t *index, atoll_err *err)
{
    uint32_t used = make_turns(cases, count, random);
    at_waiter waiter;
    bool sorted = false;
    bool keep = wait->place != NULL;
    bool again = keep && *wait->place != 0;
    do {
        if (try_all(cases, used, again, index, err) == ATOLL_OK) {
            return ATOLL_OK;
        }
        if (wait->deadline == ATOLL_NOW) {
            return ATOLL_ERR_AGAIN;
        }
        if (at_wait_late(wait)) {
            return ATOLL_ERR_TIMEOUT;
        }
        if (!sorted) {
            sort_locks(cases, used);
            sorted = true;
        }
        for (uint32_t i = 0; keep && !again && i < used; i++) {
            cases[cases[i].at_turn].at_place = 0;
        }
        at_waiter_init(&waiter, wait);
    } while (!select_stand(cases, used, &waiter, keep));
    if (keep) {
        *wait->place = 1; /* the cases have theirs */
    }

    atoll_err end = at_waiter_wait(&waiter, wait, spin_of(cases, count, wait));
    const at_node *won = end == ATOLL_OK ? waiter.won : NULL;
    select_leave(cases, count, won);
    if (won != NULL) {
        *index = select_index_of(cases, won);
        *err = won->err;
    }
    return end;
}

/* ---------------------------------------------------------- without a thread */

atoll_err
atoll_select_start(atoll_case *cases, uint32_t count, uint64_t *random, atoll_op *op,
                   atoll_cq *cq, uint32_t *index, atoll_err *err)
{
    *index = 0;
    *err = at_op_begin(op, cq);
    if (*err != ATOLL_OK) {
        return ATOLL_OK;
    }
    uint32_t used = make_turns(cases, count, random);
    sort_locks(cases, used);
    for (;;) {
        if (try_all(cases, used, false, index, err) == ATOLL_OK) {
            op->status = *err;
            return ATOLL_OK;
        }
        at_op_arm(op, cq);
        if (select_stand(cases, used, &op->at_waiter, false)) {
            return ATOLL_ERR_AGAIN; /* it may have come out already */
        }
        atoll_cq_unref(op->at_cq); /* never the last: the caller has one */
    }
}

uint32_t
atoll_select_end(atoll_case *cases, uint32_t count, const atoll_op *op)
{
    const at_node *won = op->at_waiter.won;
    select_leave(cases, count, won);
    return select_index_of(cases, won);
}

bool
atoll_select_cancel(atoll_case *cases, uint32_t count, atoll_op *op)
{
    bool of_child;
    if (!at_op_disarm(op, &of_child)) {
        return false;
    }
    if (!of_child) {
        select_leave(cases, count, NULL);
    }
    atoll_cq_unref(op->at_cq);
    return true;
}
