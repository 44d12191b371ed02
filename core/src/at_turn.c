/* Conditions and barriers: lines of turns. See at_sync.h.
 *
 * A turn is an event on its owner's stack, and a node in the line. Whoever takes it out
 * of the line will set the event, and touches neither afterwards. The owner keeps its
 * place over interrupted waits: a waiter of at_wait.h would be over with the first, and
 * what is notified before the owner stands in line again would go to nobody. */
#include "at_atomic.h"
#include "at_sync.h"

static inline atoll_turn *
turn_of(at_node *node)
{
    return (atoll_turn *)(void *)((char *)node - offsetof(atoll_turn, node));
}

/* Take the first out of `q`, and add it to a chain that ends at *end. */
static at_node **
move_first(at_waitq *q, at_node **end)
{
    at_node *node = q->first;
    at_waitq_remove(q, node);
    node->next = NULL;
    *end = node;
    return &node->next;
}

/* Called without the lock. */
static void
set_all(at_node *chain)
{
    while (chain != NULL) {
        at_node *next = chain->next; /* before its owner may go */
        atoll_event_set(&turn_of(chain)->event);
        chain = next;
    }
}

static const atoll_wait for_a_moment = {.deadline = ATOLL_FOREVER};

/* It is out of the line: whoever has taken it is about to set its event. */
static void
wait_for_setter(atoll_turn *turn)
{
    atoll_err err = atoll_event_wait(&turn->event, &for_a_moment);
    (void)err; /* it has no other end */
}

atoll_err
atoll_turn_wait(atoll_sync *sync, atoll_turn *turn, const atoll_wait *wait)
{
    if (at_unlikely(sync->forked)) {
        return ATOLL_ERR_FORKED;
    }
    atoll_wait here = *wait;
    here.spin = &sync->spin;
    atoll_err err = atoll_event_wait(&turn->event, &here);
    return at_unlikely(sync->forked) ? ATOLL_ERR_FORKED : err;
}

/* -------------------------------------------------------------- conditions */

atoll_err
atoll_cond_new(atoll_sync *mutex, atoll_sync **out)
{
    atoll_sync *cond = *out = at_sync_make(ATOLL_CONDITION);
    if (cond == NULL) {
        return ATOLL_ERR_NOMEM;
    }
    cond->u.mutex_of = atoll_sync_ref(mutex);
    return ATOLL_OK;
}

atoll_sync *
atoll_cond_mutex(const atoll_sync *cond)
{
    return cond->u.mutex_of;
}

atoll_err
atoll_cond_enter(atoll_sync *cond, atoll_turn *turn)
{
    if (at_unlikely(cond->forked)) {
        return ATOLL_ERR_FORKED;
    }
    *turn = (atoll_turn){.result = ATOLL_OK};
    atoll_lock_acquire(&cond->lock);
    at_waitq_push(&cond->q, &turn->node);
    atoll_lock_release(&cond->lock);
    return ATOLL_OK;
}

bool
atoll_cond_leave(atoll_sync *cond, atoll_turn *turn)
{
    if (cond->forked) {
        return false; /* the line has been made anew */
    }
    atoll_lock_acquire(&cond->lock);
    bool stood = turn->node.queued;
    at_waitq_remove(&cond->q, &turn->node);
    atoll_lock_release(&cond->lock);
    if (!stood) {
        wait_for_setter(turn);
    }
    return !stood;
}

size_t
atoll_cond_notify(atoll_sync *cond, size_t count)
{
    at_node *chain = NULL, **end = &chain;
    size_t done = 0;
    if (cond->forked) {
        return 0;
    }
    atoll_lock_acquire(&cond->lock);
    while (done < count && !at_waitq_empty(&cond->q)) {
        end = move_first(&cond->q, end);
        done++;
    }
    atoll_lock_release(&cond->lock);
    set_all(chain);
    return done;
}

/* ---------------------------------------------------------------- barriers */

/* Those who come stand in `q`. As soon as there are enough the first `parties` of them
 * are a group. If nobody leads they pass. If one does, it is the last of them, and the
 * others stand in `group` until it is done; who comes meanwhile is of the next one. */

atoll_err
atoll_barrier_new(uint32_t parties, bool led, int64_t timeout, atoll_sync **out)
{
    atoll_sync *barrier = *out = at_sync_make(ATOLL_BARRIER);
    if (barrier == NULL) {
        return ATOLL_ERR_NOMEM;
    }
    barrier->u.barrier.parties = parties;
    barrier->u.barrier.led = led;
    barrier->u.barrier.timeout = timeout;
    return ATOLL_OK;
}

/* All of `q` have their turn, with `result`. */
static at_node **
end_all(at_waitq *q, atoll_err result, at_node **end)
{
    while (!at_waitq_empty(q)) {
        turn_of(q->first)->result = result;
        end = move_first(q, end);
    }
    return end;
}

/* Are there enough? Called with the lock; adds to the chain who has a turn now. */
static at_node **
form_groups(atoll_sync *b, at_node **end)
{
    while (!b->u.barrier.leading && b->u.barrier.count >= b->u.barrier.parties) {
        bool led = b->u.barrier.led;
        uint32_t parties = b->u.barrier.parties;
        b->u.barrier.count -= parties;
        for (uint32_t i = 0; i < parties; i++) {
            at_node *node = b->q.first;
            atoll_turn *turn = turn_of(node);
            turn->index = i;
            if (!led || i + 1 == parties) {
                turn->leads = led;
                turn->generation = b->u.barrier.generation;
                end = move_first(&b->q, end);
            }
            else {
                at_waitq_remove(&b->q, node);
                at_waitq_push(&b->u.barrier.group, node);
                turn->grouped = true;
            }
        }
        b->u.barrier.leading = led;
    }
    return end;
}

/* Nobody passes who stands there now. Called with the lock. */
static at_node **
drive_out(atoll_sync *b, at_node **end)
{
    b->u.barrier.generation++; /* its leader will find out */
    b->u.barrier.leading = false;
    b->u.barrier.count = 0;
    end = end_all(&b->u.barrier.group, ATOLL_ERR_BROKEN, end);
    return end_all(&b->q, ATOLL_ERR_BROKEN, end);
}

atoll_err
atoll_barrier_arrive(atoll_sync *b, atoll_turn *turn)
{
    if (at_unlikely(b->forked)) {
        return ATOLL_ERR_FORKED;
    }
    at_node *chain = NULL;
    *turn = (atoll_turn){.result = ATOLL_OK};
    atoll_lock_acquire(&b->lock);
    if (b->u.barrier.broken) {
        atoll_lock_release(&b->lock);
        return ATOLL_ERR_BROKEN;
    }
    at_waitq_push(&b->q, &turn->node);
    b->u.barrier.count++;
    (void)form_groups(b, &chain);
    atoll_lock_release(&b->lock);
    set_all(chain);
    return ATOLL_OK;
}

atoll_err
atoll_barrier_lead(atoll_sync *b, atoll_turn *turn, bool good)
{
    if (at_unlikely(b->forked)) {
        return ATOLL_ERR_FORKED;
    }
    atoll_err err = ATOLL_OK;
    at_node *chain = NULL, **end = &chain;
    atoll_lock_acquire(&b->lock);
    if (turn->generation != b->u.barrier.generation) {
        err = ATOLL_ERR_BROKEN;
    }
    else if (good) {
        b->u.barrier.leading = false;
        end = end_all(&b->u.barrier.group, ATOLL_OK, end);
        (void)form_groups(b, end);
    }
    else {
        b->u.barrier.broken = true;
        (void)drive_out(b, end);
    }
    atoll_lock_release(&b->lock);
    set_all(chain);
    return err;
}

bool
atoll_barrier_leave(atoll_sync *b, atoll_turn *turn, bool late, bool *led)
{
    *led = false;
    if (b->forked) {
        return false;
    }
    at_node *chain = NULL;
    atoll_lock_acquire(&b->lock);
    bool stood = turn->node.queued;
    if (stood && turn->grouped) {
        *led = true;
        if (!late) {
            at_waitq_remove(&b->u.barrier.group, &turn->node);
        }
    }
    else if (stood) {
        at_waitq_remove(&b->q, &turn->node);
        b->u.barrier.count--;
        if (late) {
            /* A group that is complete already passes, or not, as its leader says:
             * it does not wait for this one. */
            b->u.barrier.broken = true;
            b->u.barrier.count = 0;
            (void)end_all(&b->q, ATOLL_ERR_BROKEN, &chain);
        }
    }
    atoll_lock_release(&b->lock);
    set_all(chain);
    if (!stood) {
        wait_for_setter(turn);
    }
    return !stood;
}

static atoll_err
drive_all_out(atoll_sync *b, bool broken)
{
    if (at_unlikely(b->forked)) {
        return ATOLL_ERR_FORKED;
    }
    at_node *chain = NULL;
    atoll_lock_acquire(&b->lock);
    b->u.barrier.broken = broken;
    (void)drive_out(b, &chain);
    atoll_lock_release(&b->lock);
    set_all(chain);
    return ATOLL_OK;
}

atoll_err
atoll_barrier_abort(atoll_sync *barrier)
{
    return drive_all_out(barrier, true);
}

atoll_err
atoll_barrier_reset(atoll_sync *barrier)
{
    return drive_all_out(barrier, false);
}

void
atoll_barrier_look(atoll_sync *b, atoll_barrier_state *out)
{
    atoll_lock_acquire(&b->lock);
    *out = (atoll_barrier_state){.parties = b->u.barrier.parties,
                                 .waiting = b->u.barrier.count,
                                 .broken = b->u.barrier.broken,
                                 .timeout = b->u.barrier.timeout};
    atoll_lock_release(&b->lock);
}
