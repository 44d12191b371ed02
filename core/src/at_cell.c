/* Counters and cells. See at_sync.h.
 *
 * A cell holds a pointer to a counted message. The lock is there for the moment between
 * reading the pointer and adding to the count, in which a writer could free it; nobody
 * copies, decodes or drops with it. */
#include "at_atomic.h"
#include "at_sync.h"

/* ---------------------------------------------------------------- counters */

atoll_err
atoll_counter_new(int64_t value, atoll_sync **out)
{
    *out = at_sync_make(ATOLL_COUNTER);
    if (*out == NULL) {
        return ATOLL_ERR_NOMEM;
    }
    (*out)->u.counter = value;
    return ATOLL_OK;
}

int64_t
atoll_counter_value(const atoll_sync *counter)
{
    return at_load_acq(&counter->u.counter);
}

atoll_err
atoll_counter_add(atoll_sync *counter, int64_t amount, int64_t *value)
{
    if (at_unlikely(counter->forked)) {
        return ATOLL_ERR_FORKED;
    }
    int64_t seen = at_load_rlx(&counter->u.counter);
    do {
        /* Looked at before it is written: nobody ever sees it wrapped. */
        if (amount > 0 ? seen > INT64_MAX - amount : seen < INT64_MIN - amount) {
            return ATOLL_ERR_INVALID;
        }
        *value = seen + amount;
    } while (!at_cas64_ar(&counter->u.counter, &seen, *value));
    return ATOLL_OK;
}

bool
atoll_counter_swap(atoll_sync *counter, int64_t expected, int64_t value)
{
    return at_cas64_ar(&counter->u.counter, &expected, value);
}

/* ------------------------------------------------------------------- cells */

atoll_value *
atoll_cell_load(atoll_sync *cell)
{
    atoll_lock_acquire(&cell->lock);
    atoll_value *value = cell->value;
    if (value != NULL) {
        at_add_rlx(&value->refs, 1); /* the cell has one */
    }
    atoll_lock_release(&cell->lock);
    return value;
}

atoll_value *
atoll_cell_swap(atoll_sync *cell, atoll_value *value)
{
    atoll_lock_acquire(&cell->lock);
    atoll_value *old = cell->value;
    cell->value = value;
    atoll_lock_release(&cell->lock);
    return old;
}

bool
atoll_cell_replace(atoll_sync *cell, const atoll_value *expected, atoll_value *value)
{
    /* The caller's reference keeps `expected` from being freed and made again at the
     * same place. */
    atoll_lock_acquire(&cell->lock);
    bool same = cell->value == expected;
    if (same) {
        cell->value = value;
    }
    atoll_lock_release(&cell->lock);
    return same;
}
