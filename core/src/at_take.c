/* Taking locks and what is like them, of whatever kind they are. See at_sync.h. */
#include "at_sync.h"

#include "at_atomic.h"
#include "at_cq.h"

atoll_err
at_sync_try(atoll_sync *sync, const atoll_msg *me)
{
    if (at_unlikely(sync->forked)) {
        return ATOLL_ERR_FORKED;
    }
    switch (sync->kind) {
    case ATOLL_LOCK:
    case ATOLL_RLOCK:
        return at_mutex_try(sync, me);
    case ATOLL_SEMAPHORE:
        return at_sem_try(sync);
    case ATOLL_FLAG:
        return at_flag_try(sync);
    default:
        return ATOLL_ERR_INVALID;
    }
}

bool
at_sync_waits(const atoll_sync *sync)
{
    switch (sync->kind) {
    case ATOLL_LOCK:
        return sync->u.mutex.depth > 0;
    case ATOLL_SEMAPHORE:
        return sync->u.sem.value == 0;
    case ATOLL_FLAG:
        return !sync->u.flag.set;
    default:
        return false; /* it is refused */
    }
}

atoll_err
atoll_sync_take(atoll_sync *sync, atoll_party who, const atoll_wait *wait)
{
    atoll_msg me = atoll_sync_introduce(who);
    if (wait->place != NULL && at_sync_missed(sync, *wait->place)) {
        return ATOLL_OK;
    }
    atoll_err err = at_sync_try(sync, &me);
    if (at_likely(err != ATOLL_ERR_AGAIN)) {
        return err;
    }
    if (wait->deadline == ATOLL_NOW || at_wait_late(wait)) {
        atoll_lock_release(&sync->lock);
        return wait->deadline == ATOLL_NOW ? ATOLL_ERR_AGAIN : ATOLL_ERR_TIMEOUT;
    }
    at_waiter waiter;
    at_node node = {.waiter = &waiter, .msg = &me};
    at_waiter_init(&waiter, wait);
    at_waitq_enter(&sync->q, &node, &sync->arrivals, wait->place);
    atoll_lock_release(&sync->lock);

    err = at_waiter_wait(&waiter, wait, &sync->spin);
    if (err == ATOLL_OK) {
        return node.err; /* the claimer has unlinked the node */
    }
    atoll_lock_acquire(&sync->lock);
    at_waitq_remove(&sync->q, &node);
    atoll_lock_release(&sync->lock);
    return err;
}

atoll_err
atoll_sync_take_start(atoll_sync *sync, atoll_party who, atoll_op *op, atoll_cq *cq)
{
    atoll_err err = at_op_begin(op, cq);
    if (err == ATOLL_OK) {
        op->msg = atoll_sync_introduce(who);
        err = at_sync_try(sync, &op->msg);
        if (err == ATOLL_ERR_AGAIN) {
            return at_op_stand(op, cq, &sync->q, &sync->arrivals, &sync->lock);
        }
    }
    return op->status = err;
}

void
atoll_sync_untake(atoll_sync *sync, atoll_err err)
{
    at_node *next = NULL;
    bool died = err == ATOLL_ERR_OWNER_DIED;
    if (sync->forked || sync->kind == ATOLL_FLAG || (err != ATOLL_OK && !died)) {
        return;
    }
    atoll_lock_acquire(&sync->lock);
    if (died) {
        /* Whoever has it by now has not been told; nor can it be. */
        next = at_waitq_claim(&sync->q);
        sync->u.mutex.inconsistent |= next == NULL;
    }
    else if (at_sync_is_mutex(sync)) {
        next = at_mutex_pass(sync);
    }
    else {
        next = at_waitq_claim(&sync->q);
        if (next == NULL) {
            at_store_rlx(&sync->u.sem.value, sync->u.sem.value + 1);
        }
    }
    atoll_lock_release(&sync->lock);
    if (next != NULL) {
        at_node_finish(next, err);
    }
}
