/* What becomes of messages that nobody received: dropped once each, with no
 * lock held and without recursion; and the rules for orphans. */
#include "helper.h"

static void
last_unref_drops(void)
{
    for (int used = 0; used < 20; used++) {
        atoll_chan *chan = new_chan(ATOLL_UNBOUNDED);
        drops = 0;
        for (int i = 0; i < 100 + used; i++) {
            CHECK(send_number(chan, i, &try_once) == ATOLL_OK);
        }
        for (int i = 0; i < used; i++) {
            CHECK(recv_number(chan, &try_once) == i);
        }
        atoll_chan_ref(chan);
        atoll_chan_unref(chan);
        CHECK(drops == 0);
        atoll_chan_unref(chan);
        CHECK(drops == 100);
    }
}

/* A drop that uses the very channel it comes out of, and another one. */
static atoll_chan *other;

static void
drop_reentrant(atoll_msg *msg)
{
    atoll_chan *chan = msg->u.heap.ptr;
    at_add_rlx(&drops, 1);
    CHECK(atoll_chan_len(chan) == 0);
    CHECK(recv_number(chan, &try_once) == -ATOLL_ERR_CLOSED);
    CHECK(!atoll_chan_close(chan, true));
    CHECK(atoll_chan_list(0, NULL, 0) > 0);
    CHECK(send_number(other, 1, &try_once) == ATOLL_OK);
    atoll_chan_unref(chan);
}

static void
drops_hold_no_lock(void)
{
    atoll_chan *chan = new_chan(10);
    other = new_chan(10);
    drops = 0;
    for (int i = 0; i < 10; i++) {
        atoll_msg msg = {.drop = drop_reentrant, .u.heap.ptr = atoll_chan_ref(chan)};
        CHECK(atoll_chan_send(chan, &msg, &try_once) == ATOLL_OK);
    }
    uint64_t id = atoll_chan_id(chan);
    atoll_chan *found;
    CHECK(atoll_chan_close(chan, true));
    CHECK(drops == 10 && atoll_chan_len(other) == 10);
    atoll_chan_unref(chan);
    CHECK(atoll_chan_find(id, &found) == ATOLL_ERR_NOTFOUND);
    atoll_chan_unref(other);
    CHECK(drops == 20);
}

/* ---------------------------------------------------------- nested channels */

enum { CHAIN = 100000 };

static void
drop_ref(atoll_msg *msg)
{
    at_add_rlx(&drops, 1);
    atoll_chan_unref(msg->u.heap.ptr);
}

/* A handle that counts as a receiving end, as the ends of a channel do. */
static void
drop_end(atoll_msg *msg)
{
    at_add_rlx(&drops, 1);
    atoll_chan_end_unref(msg->u.heap.ptr, ATOLL_END_RECV);
    atoll_chan_unref(msg->u.heap.ptr);
}

/* The outermost of CHAIN channels, each in the buffer of the next; with
 * `drop` two messages that count as one drop each beside it. */
static atoll_chan *
make_chain(void (*drop)(atoll_msg *))
{
    atoll_chan *inner = new_chan(3);
    for (int i = 1; i < CHAIN; i++) {
        atoll_chan *outer = new_chan(3);
        atoll_msg msg = {.drop = drop, .u.heap.ptr = inner};
        if (drop == drop_end) {
            atoll_chan_end_ref(inner, ATOLL_END_RECV);
        }
        CHECK(send_number(outer, 1, &try_once) == ATOLL_OK);
        CHECK(atoll_chan_send(outer, &msg, &try_once) == ATOLL_OK);
        CHECK(send_number(outer, 2, &try_once) == ATOLL_OK);
        inner = outer;
    }
    return inner;
}

static void
chains(void)
{
    atoll_stats before, after;
    atoll_stats_get(&before);
    void (*how[])(atoll_msg *) = {drop_ref, drop_end};
    for (int i = 0; i < 4; i++) {
        drops = 0;
        atoll_chan *chan = make_chain(how[i % 2]);
        if (i < 2) {
            CHECK(atoll_chan_close(chan, true));
            CHECK(drops == 3 * (CHAIN - 1));
        }
        atoll_chan_unref(chan);
        CHECK(drops == 3 * (CHAIN - 1));
    }
    atoll_stats_get(&after);
    CHECK(after.channels == before.channels);
}

static void *
run_chains(void *arg)
{
    (void)arg;
    chains();
    return NULL;
}

/* On a stack that is far too small for a frame or two a channel. */
static void
chains_without_recursion(void)
{
    pthread_attr_t attr;
    pthread_t thread;
    pthread_attr_init(&attr);
    pthread_attr_setstacksize(&attr, 512 * 1024);
    CHECK(pthread_create(&thread, &attr, run_chains, NULL) == 0);
    join(thread);
    pthread_attr_destroy(&attr);
}

/* A channel that holds the last handle of itself goes when it is emptied. */
static void
contains_itself(void)
{
    atoll_stats before, after;
    atoll_stats_get(&before);
    atoll_chan *chan = new_chan(2);
    atoll_msg msg = {.drop = drop_ref, .u.heap.ptr = chan};
    drops = 0;
    CHECK(send_number(chan, 1, &try_once) == ATOLL_OK);
    CHECK(atoll_chan_send(chan, &msg, &try_once) == ATOLL_OK);
    atoll_chan_ref(chan);
    CHECK(atoll_chan_close(chan, true));
    CHECK(drops == 2);
    atoll_chan_unref(chan);
    atoll_stats_get(&after);
    CHECK(after.channels == before.channels);
}

/* ----------------------------------------------------------------- orphans */

static atoll_err
send_ruled(atoll_chan *chan, int64_t value, int64_t group, atoll_orphan rule,
           const atoll_wait *wait)
{
    atoll_msg msg = number(value);
    msg.group = group;
    msg.orphan = (uint8_t)rule;
    return atoll_chan_send(chan, &msg, wait);
}

static void
orphan_rules(void)
{
    atoll_chan *chan = new_chan(ATOLL_UNBOUNDED), *next = new_chan(10);
    drops = 0;
    for (int64_t group = 1; group <= 2; group++) {
        for (int rule = ATOLL_ORPHAN_KEEP; rule <= ATOLL_ORPHAN_MARK; rule++) {
            CHECK(send_ruled(chan, group * 10 + rule, group, (atoll_orphan)rule,
                             &try_once) == ATOLL_OK);
        }
    }
    CHECK(send_ruled(next, 7, 1, ATOLL_ORPHAN_REMOVE, &try_once) == ATOLL_OK);
    atoll_chan_orphan_all(3); /* nobody's */
    CHECK(atoll_chan_len(chan) == 8 && atoll_chan_len(next) == 1);
    atoll_chan_orphan_all(1);
    CHECK(atoll_chan_len(chan) == 7 && atoll_chan_len(next) == 0);
    CHECK(drops == 2);
    atoll_chan_orphan_all(1); /* again: nothing left to do */
    CHECK(atoll_chan_len(chan) == 7);
    CHECK(chan->has_orphans && !next->has_orphans);

    int64_t expected[] = {10, 12, 13, 20, 21, 22, 23};
    for (int i = 0; i < 7; i++) {
        atoll_msg msg;
        CHECK(atoll_chan_recv(chan, &msg, &try_once) == ATOLL_OK);
        CHECK(msg.u.i64 == expected[i]);
        CHECK(msg.orphaned == (i == 1 || i == 2));
        CHECK(msg.drop == count_drop);
    }
    CHECK(drops == 2);
    atoll_chan_unref(chan);
    atoll_chan_unref(next);
}

/* Many removed, for every position in the ring; those that stay keep their
 * order, and what is sent afterwards comes after them. */
static void
orphans_by_the_hundred(void)
{
    for (int lead = 0; lead < 600; lead += 7) {
        atoll_chan *chan = new_chan(ATOLL_UNBOUNDED);
        for (int i = 0; i < lead; i++) { /* moves the head */
            CHECK(send_number(chan, i, &try_once) == ATOLL_OK);
            CHECK(recv_number(chan, &try_once) == i);
        }
        uint64_t seed = (uint64_t)lead;
        int removed = 0, kept[300], count = 0;
        drops = 0;
        for (int i = 0; i < 300; i++) {
            bool go = next_random(&seed) % 4 != 0;
            CHECK(send_ruled(chan, i, go ? 5 : 6, ATOLL_ORPHAN_REMOVE, &try_once) ==
                  ATOLL_OK);
            if (go) {
                removed++;
            }
            else {
                kept[count++] = i;
            }
        }
        CHECK(removed > 150);
        atoll_chan_orphan_all(5);
        CHECK(drops == (uint32_t)removed);
        CHECK(atoll_chan_len(chan) == (size_t)count);
        CHECK(send_number(chan, 1000, &try_once) == ATOLL_OK);
        for (int i = 0; i < count; i++) {
            CHECK(recv_number(chan, &try_once) == kept[i]);
        }
        CHECK(recv_number(chan, &try_once) == 1000);
        CHECK(recv_number(chan, &try_once) == -ATOLL_ERR_AGAIN);
        atoll_chan_unref(chan);
    }
}

enum { SENDERS = 5 };

static void *
send_one(void *arg)
{
    atoll_chan *chan = arg;
    CHECK(send_ruled(chan, 1000, 9, ATOLL_ORPHAN_REMOVE, &for_ever) == ATOLL_OK);
    return NULL;
}

/* Places that become free are given to the senders that wait, in order. */
static void
orphans_let_senders_in(void)
{
    atoll_chan *chan = new_chan(100);
    drops = 0;
    for (int i = 0; i < 100; i++) {
        CHECK(send_ruled(chan, i, i % 25 == 0 ? 6 : 5, ATOLL_ORPHAN_REMOVE,
                         &try_once) == ATOLL_OK);
    }
    pthread_t threads[SENDERS];
    for (int i = 0; i < SENDERS; i++) {
        threads[i] = start(send_one, chan);
    }
    UNTIL(waiting(chan, &chan->sendq) == SENDERS);
    atoll_chan_orphan_all(5);
    for (int i = 0; i < SENDERS; i++) {
        join(threads[i]);
    }
    CHECK(drops == 96);
    CHECK(atoll_chan_len(chan) == 4 + SENDERS);
    for (int i = 0; i < 4; i++) {
        CHECK(recv_number(chan, &try_once) == i * 25);
    }
    for (int i = 0; i < SENDERS; i++) {
        CHECK(recv_number(chan, &try_once) == 1000);
    }
    atoll_chan_unref(chan);
}

/* A receiver that comes in between gets messages in their order, and each is
 * received or dropped, never both. */
static void *
receive_rising(void *arg)
{
    atoll_chan *chan = arg;
    int64_t last = -1, got;
    uintptr_t count = 0;
    while ((got = recv_number(chan, &for_ever)) >= 0) {
        CHECK(got > last);
        last = got;
        count++;
    }
    CHECK(got == -ATOLL_ERR_CLOSED);
    return (void *)count;
}

static void
orphans_against_a_receiver(void)
{
    for (int round = 0; round < 60; round++) {
        atoll_chan *chan = new_chan(ATOLL_UNBOUNDED);
        drops = 0;
        for (int i = 0; i < 2000; i++) {
            CHECK(send_ruled(chan, i, i % 3 == 0 ? 6 : 5, ATOLL_ORPHAN_REMOVE,
                             &try_once) == ATOLL_OK);
        }
        pthread_t thread = start(receive_rising, chan);
        UNTIL(atoll_chan_len(chan) < 2000);
        atoll_chan_orphan_all(5);
        atoll_chan_close(chan, false);
        void *count;
        pthread_join(thread, &count);
        CHECK((uintptr_t)count + drops == 2000);
        atoll_chan_unref(chan);
    }
}

int
main(void)
{
    TAP_BEGIN(90);
    RUN(last_unref_drops);
    RUN(drops_hold_no_lock);
    RUN(chains_without_recursion);
    RUN(contains_itself);
    RUN(orphan_rules);
    RUN(orphans_by_the_hundred);
    RUN(orphans_let_senders_in);
    RUN(orphans_against_a_receiver);
    TAP_END();
}
