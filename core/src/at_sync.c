/* Locks and what is like them: their life, the roll of all. See at_sync.h, at_roll.h.
 */
#include "at_sync.h"

#include "at_atomic.h"

static atoll_sync *
sync_of(at_member *member)
{
    return member == NULL ? NULL : AT_CONTAINER(member, atoll_sync, member);
}

static void
sync_unref(at_member *member)
{
    atoll_sync_unref(sync_of(member));
}

static at_roll syncs = {.unref = sync_unref};

/* --------------------------------------------------------------- life time */

atoll_sync *
at_sync_make(atoll_sync_kind kind)
{
    atoll_sync *sync = at_alloc_zeroed(sizeof(*sync));
    if (sync == NULL) {
        return NULL;
    }
    sync->kind = kind;
    if (at_sync_is_mutex(sync)) {
        sync->u.mutex.owner.group = -1;
        sync->u.mutex.dead = -1;
    }
    at_roll_add(&syncs, &sync->member);
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
    at_add_rlx(&sync->member.refs, 1); /* the caller has one: nothing is published */
    return sync;
}

void
atoll_sync_unref(atoll_sync *sync)
{
    /* Acquire and release: what others did with theirs happens before. */
    if (at_sub_ar(&sync->member.refs, 1) != 1) {
        return;
    }
    at_roll_remove(&syncs, &sync->member);
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
    return at_load_rlx(&sync->member.refs);
}

uint64_t
atoll_sync_id(const atoll_sync *sync)
{
    return sync->member.entry.key;
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
    at_member *found = at_roll_find(&syncs, id);
    if (found == NULL) {
        return ATOLL_ERR_NOTFOUND;
    }
    *out = sync_of(found);
    return ATOLL_OK;
}

static bool
sync_is_held_by(const at_member *member, const void *group)
{
    const atoll_sync *s = AT_CONTAINER(member, const atoll_sync, member);
    /* Relaxed: the group has ended, and nobody makes it the owner of anything now. */
    return at_sync_is_mutex(s) && !s->forked &&
           at_load_rlx(&s->u.mutex.owner.group) == *(const int64_t *)group;
}

void
atoll_sync_orphan_all(int64_t group)
{
    for (at_member *m = NULL;
         (m = at_roll_next(&syncs, m, sync_is_held_by, &group)) != NULL;) {
        at_node *told = NULL, *given = NULL;
        at_mutex_orphan(sync_of(m), group, &told, &given);
        at_node_finish_all(told, ATOLL_ERR_OWNER_DIED);
        at_node_finish_all(given, ATOLL_OK);
    }
}

/* -------------------------------------------------------------------- fork */

void
at_sync_fork_prepare(void)
{
    atoll_lock_acquire(&syncs.lock); /* so that the child finds a whole table */
}

void
at_sync_fork_parent(void)
{
    atoll_lock_release(&syncs.lock);
}

void
at_sync_fork_child(void)
{
    syncs.lock.word = 0;
    for (at_member *m = syncs.oldest; m != NULL; m = m->newer) {
        atoll_sync *s = sync_of(m);
        s->forked = true;
        s->lock.word = 0;
        s->q = (at_waitq){NULL, NULL};
    }
}
