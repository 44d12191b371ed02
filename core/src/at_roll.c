/* See at_roll.h. */
#include "at_roll.h"

#include "at_atomic.h"

void
at_roll_add(at_roll *roll, at_member *member)
{
    member->refs = 1;
    member->newer = NULL;
    atoll_lock_acquire(&roll->lock);
    atoll_table_add(&roll->table, &member->entry, ++roll->last_id);
    member->older = roll->newest;
    *(roll->newest == NULL ? &roll->oldest : &roll->newest->newer) = member;
    roll->newest = member;
    atoll_lock_release(&roll->lock);
}

void
at_roll_remove(at_roll *roll, at_member *member)
{
    atoll_lock_acquire(&roll->lock);
    atoll_table_remove(&roll->table, &member->entry);
    *(member->older == NULL ? &roll->oldest : &member->older->newer) = member->newer;
    *(member->newer == NULL ? &roll->newest : &member->newer->older) = member->older;
    atoll_lock_release(&roll->lock);
}

at_member *
at_roll_find(at_roll *roll, uint64_t id)
{
    atoll_lock_acquire(&roll->lock);
    /* The entry is the first thing in a member. */
    at_member *found = (at_member *)atoll_table_find(&roll->table, id);
    if (found != NULL && !at_inc_unless_zero(&found->refs)) {
        found = NULL;
    }
    atoll_lock_release(&roll->lock);
    return found;
}

/* Up to AT_ROLL_STRIDE steps. *wanted_one: what is returned is wanted, and not only
 * where to go on. */
static at_member *
roll_stride(at_roll *roll, at_member *after,
            bool (*wanted)(const at_member *member, const void *arg), const void *arg,
            bool *wanted_one)
{
    at_member *found = NULL;
    *wanted_one = false;
    atoll_lock_acquire(&roll->lock);
    at_member *m = after == NULL ? roll->oldest : after->newer;
    for (int steps = 1; m != NULL && found == NULL; steps++, m = m->newer) {
        *wanted_one = wanted(m, arg);
        if ((*wanted_one || steps >= AT_ROLL_STRIDE) && at_inc_unless_zero(&m->refs)) {
            found = m;
        }
    }
    atoll_lock_release(&roll->lock);
    return found;
}

at_member *
at_roll_next(at_roll *roll, at_member *after,
             bool (*wanted)(const at_member *member, const void *arg), const void *arg)
{
    bool wanted_one;
    do {
        at_member *found = roll_stride(roll, after, wanted, arg, &wanted_one);
        if (after != NULL) {
            roll->unref(after);
        }
        after = found;
    } while (after != NULL && !wanted_one);
    return after;
}

void
at_roll_walk(at_roll *roll, void (*each)(const at_member *member, void *arg), void *arg)
{
    at_member *after = NULL;
    do {
        at_member *before = after;
        int steps = 0;
        atoll_lock_acquire(&roll->lock);
        at_member *m = after == NULL ? roll->oldest : after->newer;
        for (after = NULL; m != NULL && after == NULL; m = m->newer) {
            each(m, arg);
            if (++steps >= AT_ROLL_STRIDE && at_inc_unless_zero(&m->refs)) {
                after = m;
            }
        }
        atoll_lock_release(&roll->lock);
        if (before != NULL) {
            roll->unref(before);
        }
    } while (after != NULL);
}

uint64_t
at_roll_count(at_roll *roll)
{
    atoll_lock_acquire(&roll->lock);
    uint64_t count = roll->table.count;
    atoll_lock_release(&roll->lock);
    return count;
}
