/* The life of channels, and the roll of all that live: lookup by id, listing. See
 * at_roll.h. */
#include <string.h>

#include "at_atomic.h"
#include "at_chan.h"
#include "at_ring.h"

static void registry_unref(at_member *member);

static at_roll channels = {.unref = registry_unref};

static atoll_chan *
chan_of(at_member *member)
{
    return member == NULL ? NULL : AT_CONTAINER(member, atoll_chan, member);
}

/* -------------------------------------------------------------- life time */

atoll_err
atoll_chan_new(size_t capacity, int kind, atoll_chan **out)
{
    /* atoll_alloc promises no more than malloc: align by hand. */
    void *raw = atoll_alloc(sizeof(atoll_chan) + AT_CACHELINE);
    if (raw == NULL) {
        return ATOLL_ERR_NOMEM;
    }
    uintptr_t base = ((uintptr_t)raw + AT_CACHELINE) & ~(uintptr_t)(AT_CACHELINE - 1);
    atoll_chan *chan = (atoll_chan *)base;
    memset(chan, 0, sizeof(*chan));
    ((void **)chan)[-1] = raw; /* malloc aligns to 16: there is room */
    chan->capacity = capacity;
    chan->kind = kind;
    at_roll_add(&channels, &chan->member);
    *out = chan;
    return ATOLL_OK;
}

atoll_chan *
atoll_chan_ref(atoll_chan *chan)
{
    /* Relaxed: the caller has a reference, so nothing is published. */
    at_add_rlx(&chan->member.refs, 1);
    return chan;
}

static void
chan_destroy(atoll_chan *chan)
{
    if (!chan->forked) { /* in a forked child the ring may be half written */
        at_ring_drop(chan->ring, chan->head, chan->len, chan->mask);
        atoll_msg_drop(&chan->why); /* zeroed if there is none */
    }
    atoll_free(((void **)chan)[-1]);
}

void
atoll_chan_unref(atoll_chan *chan)
{
    /* Acquire and release: what other threads did with their references
     * happens before the destruction by the last one. */
    if (at_sub_ar(&chan->member.refs, 1) == 1) {
        at_roll_remove(&channels, &chan->member);
        chan_destroy(chan);
    }
}

static void
registry_unref(at_member *member)
{
    atoll_chan_unref(chan_of(member));
}

/* --------------------------------------------------------------------- roll */

atoll_err
atoll_chan_find(uint64_t id, atoll_chan **out)
{
    at_member *found = at_roll_find(&channels, id);
    if (found == NULL) {
        return ATOLL_ERR_NOTFOUND;
    }
    *out = chan_of(found);
    return ATOLL_OK;
}

typedef struct listing {
    int kind;
    uint64_t *ids;
    size_t count, max;
} listing;

static void
registry_list(const at_member *member, void *arg)
{
    listing *l = arg;
    const atoll_chan *c = AT_CONTAINER(member, const atoll_chan, member);
    if (c->kind == l->kind && !c->forked && at_load_rlx(&member->refs) > 0) {
        if (l->count < l->max) {
            l->ids[l->count] = member->entry.key;
        }
        l->count++;
    }
}

size_t
atoll_chan_list(int kind, uint64_t *ids, size_t max)
{
    listing l = {.kind = kind, .ids = ids, .max = max};
    at_roll_walk(&channels, registry_list, &l);
    return l.count;
}

static bool
registry_has_orphans(const at_member *member, const void *arg)
{
    (void)arg;
    return at_load_rlx(&AT_CONTAINER(member, const atoll_chan, member)->has_orphans);
}

atoll_chan *
at_registry_next_with_orphans(atoll_chan *after)
{
    return chan_of(at_roll_next(&channels, after == NULL ? NULL : &after->member,
                                registry_has_orphans, NULL));
}

uint64_t
at_registry_alive(void)
{
    return at_roll_count(&channels);
}

/* -------------------------------------------------------------------- fork */

void
at_registry_fork_prepare(void)
{
    atoll_lock_acquire(&channels.lock); /* so that the child finds a whole table */
}

void
at_registry_fork_parent(void)
{
    atoll_lock_release(&channels.lock);
}

void
at_registry_fork_child(void (*each)(atoll_chan *chan))
{
    channels.lock.word = 0;
    for (at_member *m = channels.oldest; m != NULL; m = m->newer) {
        each(chan_of(m));
    }
}
