/* Locks and what is like them: their life, the table of all. See at_sync.h.
 *
 * The table is as that of channels (at_registry.c): an object is in it from its making
 * to its end, a count that has reached zero never rises again, and the last unref takes
 * the table's lock, so what is seen in it under that lock is there. */
#include "at_sync.h"

#include "at_atomic.h"

#define BUCKETS 256

static atoll_lock lock;
static atoll_sync *buckets[BUCKETS]; /* guarded by lock */
static uint64_t last_id;             /* guarded by lock */

/* --------------------------------------------------------------- life time */

atoll_sync *
at_sync_make(atoll_sync_kind kind)
{
    atoll_sync *sync = at_alloc_zeroed(sizeof(*sync));
    if (sync == NULL) {
        return NULL;
    }
    sync->kind = kind;
    sync->refs = 1;
    if (at_sync_is_mutex(sync)) {
        sync->u.mutex.owner.group = -1;
        sync->u.mutex.dead = -1;
    }
    atoll_lock_acquire(&lock);
    sync->id = ++last_id;
    atoll_sync **bucket = &buckets[sync->id % BUCKETS];
    sync->chain = *bucket;
    *bucket = sync;
    atoll_lock_release(&lock);
    return sync;
}

atoll_err
atoll_sync_new(atoll_sync_kind kind, atoll_sync **out)
{
    *out = at_sync_make(kind);
    return *out == NULL ? ATOLL_ERR_NOMEM : ATOLL_OK;
}

atoll_sync *
atoll_sync_ref(atoll_sync *sync)
{
    at_add_rlx(&sync->refs, 1); /* the caller has one: nothing is published */
    return sync;
}

void
atoll_sync_unref(atoll_sync *sync)
{
    /* Acquire and release: what others did with theirs happens before. */
    if (at_sub_ar(&sync->refs, 1) != 1) {
        return;
    }
    atoll_lock_acquire(&lock);
    atoll_sync **link = &buckets[sync->id % BUCKETS];
    while (*link != sync) {
        link = &(*link)->chain;
    }
    *link = sync->chain;
    atoll_lock_release(&lock);
    if (sync->kind == ATOLL_CONDITION) {
        atoll_sync_unref(sync->u.mutex_of);
    }
    if (sync->value != NULL && !sync->forked) {
        atoll_value_unref(sync->value);
    }
    atoll_free(sync);
}

uint32_t
atoll_sync_refs(const atoll_sync *sync)
{
    return at_load_rlx(&sync->refs);
}

uint64_t
atoll_sync_id(const atoll_sync *sync)
{
    return sync->id;
}

atoll_sync_kind
atoll_sync_kind_of(const atoll_sync *sync)
{
    return sync->kind;
}

bool
atoll_sync_forked(const atoll_sync *sync)
{
    return sync->forked;
}

atoll_err
atoll_sync_find(uint64_t id, atoll_sync **out)
{
    atoll_err err = ATOLL_ERR_NOTFOUND;
    atoll_lock_acquire(&lock);
    for (atoll_sync *s = buckets[id % BUCKETS]; s != NULL; s = s->chain) {
        if (s->id == id && at_inc_unless_zero(&s->refs)) {
            *out = s;
            err = ATOLL_OK;
            break;
        }
    }
    atoll_lock_release(&lock);
    return err;
}

void
atoll_sync_orphan_all(int64_t group)
{
    at_node *told = NULL, *given = NULL;
    atoll_lock_acquire(&lock);
    for (size_t i = 0; i < BUCKETS; i++) {
        for (atoll_sync *s = buckets[i]; s != NULL; s = s->chain) {
            /* The group has ended: nobody makes it the owner of anything now. */
            if (at_sync_is_mutex(s) && !s->forked &&
                at_load_rlx(&s->u.mutex.owner.group) == group) {
                at_mutex_orphan(s, group, &told, &given);
            }
        }
    }
    atoll_lock_release(&lock);
    at_node_finish_all(told, ATOLL_ERR_OWNER_DIED);
    at_node_finish_all(given, ATOLL_OK);
}

/* -------------------------------------------------------------------- fork */

void
at_sync_fork_prepare(void)
{
    atoll_lock_acquire(&lock); /* so that the child finds a whole table */
}

void
at_sync_fork_parent(void)
{
    atoll_lock_release(&lock);
}

void
at_sync_fork_child(void)
{
    lock.word = 0;
    for (size_t i = 0; i < BUCKETS; i++) {
        for (atoll_sync *s = buckets[i]; s != NULL; s = s->chain) {
            s->forked = true;
            s->lock.word = 0;
            s->q = (at_waitq){NULL, NULL};
        }
    }
}
