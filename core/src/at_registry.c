/* The table of live channels: lookup by id, listing.
 *
 * A channel is in the table from its creation to its destruction. A count that
 * has reached zero never rises again: who finds a channel here takes a
 * reference only if there is one left. The last unref then takes this lock to
 * remove the channel, so what is seen in the table under the lock is memory
 * that still exists. Lock order: registry, then a channel. */
#include <stdlib.h>

#include "at_atomic.h"
#include "at_chan.h"

#define BUCKETS 256

static atoll_lock lock;
static atoll_chan *buckets[BUCKETS]; /* guarded by lock */
static uint64_t last_id;             /* guarded by lock */
static uint64_t alive;               /* guarded by lock */

void
at_registry_add(atoll_chan *chan)
{
    atoll_lock_acquire(&lock);
    chan->id = ++last_id;
    atoll_chan **bucket = &buckets[chan->id % BUCKETS];
    chan->chain = *bucket;
    *bucket = chan;
    alive++;
    atoll_lock_release(&lock);
}

void
at_registry_remove(atoll_chan *chan)
{
    atoll_lock_acquire(&lock);
    atoll_chan **link = &buckets[chan->id % BUCKETS];
    while (*link != chan) {
        link = &(*link)->chain;
    }
    *link = chan->chain;
    alive--;
    atoll_lock_release(&lock);
}

atoll_err
atoll_chan_find(uint64_t id, atoll_chan **out)
{
    atoll_err err = ATOLL_ERR_NOTFOUND;
    atoll_lock_acquire(&lock);
    for (atoll_chan *c = buckets[id % BUCKETS]; c != NULL; c = c->chain) {
        if (c->id == id && at_inc_unless_zero(&c->refs)) {
            *out = c;
            err = ATOLL_OK;
            break;
        }
    }
    atoll_lock_release(&lock);
    return err;
}

static int
by_id(const void *a, const void *b)
{
    uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;
    return (x > y) - (x < y);
}

size_t
atoll_chan_list(int kind, uint64_t *ids, size_t max)
{
    size_t count = 0;
    atoll_lock_acquire(&lock);
    for (size_t i = 0; i < BUCKETS; i++) {
        for (atoll_chan *c = buckets[i]; c != NULL; c = c->chain) {
            if (c->kind == kind && !c->forked && at_load_rlx(&c->refs) > 0) {
                if (count < max) {
                    ids[count] = c->id;
                }
                count++;
            }
        }
    }
    atoll_lock_release(&lock);
    size_t written = count < max ? count : max;
    if (written > 1) { /* `ids` may be NULL if there is no room for any */
        qsort(ids, written, sizeof(*ids), by_id);
    }
    return count;
}

atoll_chan *
at_registry_next_with_orphans(uint64_t after)
{
    atoll_chan *best;
    atoll_lock_acquire(&lock);
    do {
        best = NULL;
        for (size_t i = 0; i < BUCKETS; i++) {
            for (atoll_chan *c = buckets[i]; c != NULL; c = c->chain) {
                if (c->id > after && at_load_rlx(&c->has_orphans) &&
                    (best == NULL || c->id < best->id)) {
                    best = c;
                }
            }
        }
        if (best != NULL) {
            after = best->id;
        }
    } while (best != NULL && !at_inc_unless_zero(&best->refs));
    atoll_lock_release(&lock);
    return best;
}

uint64_t
at_registry_alive(void)
{
    atoll_lock_acquire(&lock);
    uint64_t now = alive;
    atoll_lock_release(&lock);
    return now;
}

/* -------------------------------------------------------------------- fork */

void
at_registry_fork_prepare(void)
{
    atoll_lock_acquire(&lock); /* so that the child finds a whole table */
}

void
at_registry_fork_parent(void)
{
    atoll_lock_release(&lock);
}

void
at_registry_fork_child(void (*each)(atoll_chan *chan))
{
    lock.word = 0;
    for (size_t i = 0; i < BUCKETS; i++) {
        for (atoll_chan *c = buckets[i]; c != NULL; c = c->chain) {
            each(c);
        }
    }
}
