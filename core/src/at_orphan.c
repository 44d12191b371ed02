/* Orphan rules: what becomes of pending messages when their sender's group ends.
 * See atoll_chan_orphan_all, and at_chan.h for the locking. */
#include "at_ring.h"

/* Let waiting senders into places that have become free (keeps I2). Returns
 * the senders to finish. */
static at_node *
orphan_refill(atoll_chan *chan)
{
    at_node *chain = NULL, **end = &chain, *sender;
    while (chan->len < chan->capacity && chan->len < at_ring_slots(chan) &&
           (sender = at_waitq_claim(&chan->sendq)) != NULL) {
        at_ring_push(chan, sender->msg);
        sender->next = NULL;
        *end = sender;
        end = &sender->next;
    }
    return chain;
}

static inline bool
orphan_goes(const atoll_msg *msg, int64_t group)
{
    return msg->orphan == ATOLL_ORPHAN_REMOVE && msg->group == group;
}

/* Mark what stays, take up to `max` of what goes, oldest first; the others
 * keep their places. Returns how many were taken. */
static size_t
orphan_take(atoll_chan *chan, int64_t group, atoll_msg *gone, size_t max)
{
    size_t kept = 0, count = 0;
    bool has_orphans = false;
    for (size_t i = 0; i < chan->len; i++) {
        atoll_msg *from = &chan->ring[(chan->head + i) & chan->mask];
        if (orphan_goes(from, group) && count < max) {
            gone[count++] = *from;
            continue;
        }
        if (from->orphan > ATOLL_ORPHAN_REMOVE && from->group == group) {
            from->orphaned = 1;
        }
        has_orphans |= from->orphan != ATOLL_ORPHAN_KEEP && !from->orphaned;
        if (kept != i) {
            chan->ring[(chan->head + kept) & chan->mask] = *from;
        }
        kept++;
    }
    at_ring_set_len(chan, kept);
    at_store_rlx(&chan->has_orphans, has_orphans);
    return count;
}

/* So many are removed even if there is no memory for a list of them. */
#define ORPHAN_FEW 32

void
at_chan_orphan(atoll_chan *chan, int64_t group)
{
    size_t going, count;
    do {
        atoll_msg few[ORPHAN_FEW];
        atoll_msg *many = NULL;
        going = 0;
        atoll_lock_acquire(&chan->lock);
        if (!chan->has_orphans || chan->forked) {
            atoll_lock_release(&chan->lock);
            return;
        }
        for (size_t i = 0; i < chan->len; i++) {
            going += orphan_goes(&chan->ring[(chan->head + i) & chan->mask], group);
        }
        if (going > ORPHAN_FEW) {
            many = at_ring_alloc(going);
        }
        /* Without memory the rest goes in further rounds; between two of them
         * a receiver may still get one, in its turn. */
        count = many != NULL ? orphan_take(chan, group, many, going)
                             : orphan_take(chan, group, few, ORPHAN_FEW);
        at_node *senders = orphan_refill(chan);
        at_node *joiners = at_chan_all_done(chan);
        atoll_lock_release(&chan->lock);

        at_node_finish_all(senders, ATOLL_OK);
        at_node_finish_all(joiners, ATOLL_OK);
        if (many != NULL) {
            at_ring_drop(many, 0, count, SIZE_MAX);
        }
        else {
            for (size_t i = 0; i < count; i++) {
                atoll_msg_drop(&few[i]);
            }
        }
    } while (count < going);
}

void
atoll_chan_orphan_all(int64_t group)
{
    for (atoll_chan *chan = NULL;
         (chan = at_registry_next_with_orphans(chan)) != NULL;) {
        at_chan_orphan(chan, group);
    }
}
