/* Semaphores and flags. See at_sync.h. */
#include "at_atomic.h"
#include "at_sync.h"

/* -------------------------------------------------------------- semaphores */

atoll_err
atoll_sem_new(int64_t value, int64_t limit, atoll_sync **out)
{
    atoll_sync *sem = *out = at_sync_make(ATOLL_SEMAPHORE);
    if (sem == NULL) {
        return ATOLL_ERR_NOMEM;
    }
    sem->u.sem.value = value;
    sem->u.sem.limit = limit;
    return ATOLL_OK;
}

atoll_err
at_sem_try(atoll_sync *sem)
{
    atoll_lock_acquire(&sem->lock);
    if (sem->u.sem.value == 0) {
        return ATOLL_ERR_AGAIN; /* with the lock */
    }
    at_store_rlx(&sem->u.sem.value, sem->u.sem.value - 1);
    atoll_lock_release(&sem->lock);
    return ATOLL_OK;
}

atoll_err
atoll_sem_release(atoll_sync *sem, int64_t count)
{
    if (at_unlikely(sem->forked)) {
        return ATOLL_ERR_FORKED;
    }
    at_node *chain = NULL, **end = &chain, *node;
    atoll_lock_acquire(&sem->lock);
    int64_t most = sem->u.sem.limit < 0 ? INT64_MAX : sem->u.sem.limit;
    if (count < 1 || count > most - sem->u.sem.value) {
        atoll_lock_release(&sem->lock);
        return ATOLL_ERR_INVALID;
    }
    while (count > 0 && (node = at_waitq_claim(&sem->q)) != NULL) {
        node->next = NULL;
        *end = node;
        end = &node->next;
        count--;
    }
    at_store_rlx(&sem->u.sem.value, sem->u.sem.value + count);
    atoll_lock_release(&sem->lock);
    at_node_finish_all(chain, ATOLL_OK);
    return ATOLL_OK;
}

int64_t
atoll_sem_value(const atoll_sync *sem)
{
    return at_load_rlx(&sem->u.sem.value);
}

int64_t
atoll_sem_limit(const atoll_sync *sem)
{
    return sem->u.sem.limit;
}

/* ------------------------------------------------------------------- flags */

atoll_err
at_flag_try(atoll_sync *flag)
{
    atoll_lock_acquire(&flag->lock);
    if (!flag->u.flag.set) {
        return ATOLL_ERR_AGAIN; /* with the lock */
    }
    atoll_lock_release(&flag->lock);
    return ATOLL_OK;
}

bool
at_sync_missed(atoll_sync *sync, uint64_t place)
{
    if (place == 0 || sync->kind != ATOLL_FLAG || sync->forked) {
        return false;
    }
    atoll_lock_acquire(&sync->lock);
    bool missed = place <= sync->u.flag.seen;
    atoll_lock_release(&sync->lock);
    return missed;
}

atoll_err
atoll_flag_set(atoll_sync *flag)
{
    if (at_unlikely(flag->forked)) {
        return ATOLL_ERR_FORKED;
    }
    atoll_lock_acquire(&flag->lock);
    /* Release: a reader of the hint sees what the setter wrote. */
    at_store_rel(&flag->u.flag.set, true);
    flag->u.flag.seen = flag->arrivals;
    at_node *chain = at_waitq_claim_all(&flag->q);
    atoll_lock_release(&flag->lock);
    at_node_finish_all(chain, ATOLL_OK);
    return ATOLL_OK;
}

atoll_err
atoll_flag_clear(atoll_sync *flag)
{
    if (at_unlikely(flag->forked)) {
        return ATOLL_ERR_FORKED;
    }
    atoll_lock_acquire(&flag->lock);
    at_store_rlx(&flag->u.flag.set, false);
    atoll_lock_release(&flag->lock);
    return ATOLL_OK;
}

bool
atoll_flag_is_set(const atoll_sync *flag)
{
    /* Acquire: pairs with the release in atoll_flag_set. */
    return at_load_acq(&flag->u.flag.set);
}
