/* One-shot events on the same waiters as channels. */
#include "at_atomic.h"
#include "at_wait.h"

/* The waiters stand in an at_waitq that is spelled out in the public struct,
 * since that must not show private types. */
at_waitq *
at_event_queue(atoll_event *event)
{
    at_static_assert(offsetof(atoll_event, last) - offsetof(atoll_event, first) ==
                         offsetof(at_waitq, last),
                     "an event ends in an at_waitq");
    return (at_waitq *)(void *)&event->first;
}

void
atoll_event_set(atoll_event *event)
{
    atoll_lock_acquire(&event->lock);
    /* Release: a reader of the hint below sees what the setter wrote. */
    at_store_rel(&event->is_set, 1);
    at_node *chain = at_waitq_claim_all(at_event_queue(event));
    atoll_lock_release(&event->lock);
    at_node_finish_all(chain, ATOLL_OK);
}

void
atoll_event_reset(atoll_event *event)
{
    atoll_lock_acquire(&event->lock);
    at_store_rel(&event->is_set, 0);
    atoll_lock_release(&event->lock);
}

bool
atoll_event_is_set(const atoll_event *event)
{
    /* Acquire: pairs with the release in atoll_event_set. */
    return at_load_acq(&event->is_set) != 0;
}

atoll_err
at_event_try(atoll_event *event)
{
    /* Always under the lock: the setter is then out of its own section. */
    atoll_lock_acquire(&event->lock);
    if (!at_load_rlx(&event->is_set)) {
        return ATOLL_ERR_AGAIN;
    }
    atoll_lock_release(&event->lock);
    return ATOLL_OK;
}

atoll_err
atoll_event_wait(atoll_event *event, const atoll_wait *wait)
{
    at_waiter waiter;
    at_node node = {.waiter = &waiter};
    at_waiter_init(&waiter, wait);

    if (at_event_try(event) == ATOLL_OK) {
        return ATOLL_OK;
    }
    if (wait->deadline == ATOLL_NOW) {
        atoll_lock_release(&event->lock);
        return ATOLL_ERR_AGAIN;
    }
    at_waitq_push(at_event_queue(event), &node);
    atoll_lock_release(&event->lock);

    atoll_err err = at_waiter_wait(&waiter, wait, wait->spin);
    atoll_lock_acquire(&event->lock);
    at_waitq_remove(at_event_queue(event), &node);
    atoll_lock_release(&event->lock);
    return err;
}
