/* Locks with an owner. See at_sync.h.
 *
 * The owner of a plain lock is written down only for its death; of a recursive one,
 * also to know who may take it again. A lock is released by handing it to the first who
 * waits. That is slower than letting whoever runs take it, if many want it for short
 * sections; but nobody starves, and across interpreters nobody can be told to be
 * patient.
 *
 * Death. Models are POSIX's robust mutexes and Rust's poisoning. As there, the next to
 * come is told, since what the lock protects may be half written. Unlike POSIX's it
 * does not hold the lock then: an exception comes out of `with lock:` before the block,
 * and nobody would release it. And unlike Rust's poison it is told once, and then the
 * lock works again: whoever was told is the one to repair. */
#include "at_atomic.h"
#include "at_sync.h"

static inline bool
mutex_is_owner(const atoll_sync *m, int64_t group, uint64_t thread)
{
    return m->u.mutex.depth > 0 && m->u.mutex.owner.thread == thread &&
           m->u.mutex.owner.group == group;
}

static inline void
mutex_own(atoll_sync *m, const atoll_msg *who)
{
    at_store_rlx(&m->u.mutex.owner.group, who->group);
    m->u.mutex.owner.thread = (uint64_t)who->u.i64;
    m->u.mutex.depth = 1;
}

atoll_err
at_mutex_try(atoll_sync *m, const atoll_msg *me)
{
    atoll_err err = ATOLL_OK;
    atoll_lock_acquire(&m->lock);
    if (at_likely(m->u.mutex.depth == 0)) {
        if (at_unlikely(m->u.mutex.inconsistent)) {
            m->u.mutex.inconsistent = false;
            err = ATOLL_ERR_OWNER_DIED;
        }
        else {
            mutex_own(m, me);
        }
    }
    else if (m->kind == ATOLL_RLOCK &&
             mutex_is_owner(m, me->group, (uint64_t)me->u.i64)) {
        m->u.mutex.depth++;
    }
    else {
        return ATOLL_ERR_AGAIN; /* with the lock */
    }
    atoll_lock_release(&m->lock);
    return err;
}

at_node *
at_mutex_pass(atoll_sync *m)
{
    at_node *next = at_waitq_claim(&m->q);
    if (next != NULL) {
        mutex_own(m, next->msg);
    }
    else {
        m->u.mutex.depth = 0;
        at_store_rlx(&m->u.mutex.owner.group, -1);
    }
    return next;
}

/* `levels` of 0: all. */
static atoll_err
mutex_release(atoll_sync *m, atoll_party who, uint64_t levels, uint64_t *depth)
{
    if (at_unlikely(m->forked)) {
        return ATOLL_ERR_FORKED;
    }
    at_node *next = NULL;
    atoll_lock_acquire(&m->lock);
    *depth = m->u.mutex.depth;
    if (*depth == 0 ||
        (m->kind == ATOLL_RLOCK && !mutex_is_owner(m, who.group, who.thread))) {
        atoll_lock_release(&m->lock);
        return ATOLL_ERR_INVALID;
    }
    if (levels == 0 || *depth == 1) {
        next = at_mutex_pass(m);
    }
    else {
        m->u.mutex.depth--;
    }
    atoll_lock_release(&m->lock);
    if (next != NULL) {
        at_node_finish(next, ATOLL_OK);
    }
    return ATOLL_OK;
}

atoll_err
atoll_mutex_release(atoll_sync *mutex, atoll_party who)
{
    uint64_t depth;
    return mutex_release(mutex, who, 1, &depth);
}

atoll_err
atoll_mutex_drop(atoll_sync *mutex, atoll_party who, uint64_t *depth)
{
    return mutex_release(mutex, who, 0, depth);
}

void
atoll_mutex_deepen(atoll_sync *mutex, uint64_t depth)
{
    atoll_lock_acquire(&mutex->lock);
    mutex->u.mutex.depth = depth;
    atoll_lock_release(&mutex->lock);
}

void
atoll_mutex_look(atoll_sync *mutex, atoll_mutex_state *out)
{
    atoll_lock_acquire(&mutex->lock);
    *out = (atoll_mutex_state){.held = mutex->u.mutex.depth > 0,
                               .owner = mutex->u.mutex.owner,
                               .depth = mutex->u.mutex.depth,
                               .dead = mutex->u.mutex.dead};
    atoll_lock_release(&mutex->lock);
}

static void
mutex_prepend(at_node **chain, at_node *node)
{
    node->next = *chain;
    *chain = node;
}

void
at_mutex_orphan(atoll_sync *m, int64_t group, at_node **told, at_node **given)
{
    atoll_lock_acquire(&m->lock);
    if (m->u.mutex.depth > 0 && m->u.mutex.owner.group == group) {
        m->u.mutex.dead = group;
        at_node *first = at_waitq_claim(&m->q);
        if (first != NULL) {
            mutex_prepend(told, first);
        }
        else {
            m->u.mutex.inconsistent = true;
        }
        at_node *next = at_mutex_pass(m);
        if (next != NULL) {
            mutex_prepend(given, next);
        }
    }
    atoll_lock_release(&m->lock);
}
