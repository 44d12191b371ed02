/* Channels on one thread: every return code, order, close, ends, the table.
 * What waits is in test_chan_wait.c, what is dropped in test_drop.c. */
#include <sched.h>

#include "helper.h"

static void
error_texts(void)
{
    CHECK(strcmp(atoll_strerror(ATOLL_OK), "success") == 0);
    CHECK(strcmp(atoll_strerror(ATOLL_ERR_CLOSED), "the channel is closed") == 0);
    for (int i = ATOLL_OK; i <= ATOLL_ERR_BROKEN; i++) {
        CHECK(strcmp(atoll_strerror(i), "unknown error") != 0);
    }
    CHECK(strcmp(atoll_strerror(-1), "unknown error") == 0);
    CHECK(strcmp(atoll_strerror(ATOLL_ERR_BROKEN + 1), "unknown error") == 0);
}

static void
attributes(void)
{
    size_t capacities[] = {0, 1, 7, ATOLL_UNBOUNDED};
    for (int i = 0; i < 4; i++) {
        atoll_chan *chan;
        CHECK(atoll_chan_new(capacities[i], 10 + i, &chan) == ATOLL_OK);
        CHECK(atoll_chan_capacity(chan) == capacities[i]);
        CHECK(atoll_chan_kind(chan) == 10 + i);
        CHECK(atoll_chan_len(chan) == 0);
        CHECK(!atoll_chan_is_closed(chan));
        CHECK((uintptr_t)chan % AT_CACHELINE == 0);
        int64_t *user = atoll_chan_user(chan);
        CHECK(user[0] == 0 && user[1] == 0);
        user[1] = 5;
        CHECK(atoll_chan_user(chan)[1] == 5);
        CHECK(atoll_chan_ref(chan) == chan);
        atoll_chan_unref(chan);
        atoll_chan_unref(chan);
    }
}

/* Full and empty, with the caller keeping what was not accepted. */
static void
bounded(void)
{
    atoll_chan *chan = new_chan(7);
    atoll_msg msg;
    atoll_wait past = {.deadline = 1};
    memset(&msg, 0x5a, sizeof(msg));
    const atoll_msg untouched = msg;
    CHECK(atoll_chan_recv(chan, &msg, &try_once) == ATOLL_ERR_AGAIN);
    CHECK(atoll_chan_recv(chan, &msg, &past) == ATOLL_ERR_TIMEOUT);
    CHECK(memcmp(&msg, &untouched, sizeof(msg)) == 0);

    drops = 0;
    for (int round = 0; round < 100; round++) {
        for (int i = 0; i < 7; i++) {
            CHECK(atoll_chan_len(chan) == (size_t)i);
            CHECK(send_number(chan, round * 7 + i, &try_once) == ATOLL_OK);
        }
        msg = number(-1);
        CHECK(atoll_chan_send(chan, &msg, &try_once) == ATOLL_ERR_AGAIN);
        CHECK(atoll_chan_send(chan, &msg, &past) == ATOLL_ERR_TIMEOUT);
        past.deadline = -5;
        CHECK(atoll_chan_send(chan, &msg, &past) == ATOLL_ERR_TIMEOUT);
        CHECK(msg.drop == count_drop && msg.u.i64 == -1);
        CHECK(atoll_chan_len(chan) == 7);
        for (int i = 0; i < 7; i++) {
            CHECK(recv_number(chan, &for_ever) == round * 7 + i);
        }
        CHECK(recv_number(chan, &try_once) == -ATOLL_ERR_AGAIN);
    }
    CHECK(drops == 0);
    atoll_chan_unref(chan);
}

/* The whole message arrives, not only the number. */
static void
messages_arrive_whole(void)
{
    atoll_chan *chan = new_chan(2);
    atoll_msg sent = number(0), got;
    sent.group = 77;
    sent.tag = 3;
    sent.len = 40;
    sent.extra = 0x12345678;
    for (int i = 0; i < ATOLL_MSG_INLINE; i++) {
        sent.u.bytes[i] = (unsigned char)(i * 7);
    }
    atoll_msg copy = sent;
    CHECK(atoll_chan_send(chan, &copy, &try_once) == ATOLL_OK);
    memset(&copy, 0, sizeof(copy));
    CHECK(atoll_chan_recv(chan, &got, &try_once) == ATOLL_OK);
    CHECK(memcmp(&got, &sent, sizeof(got)) == 0);
    atoll_chan_unref(chan);
}

/* The ring grows while its content is wrapped round, in every position, and a
 * large one is given back when it runs empty. */
static void
unbounded(void)
{
    for (int lead = 0; lead < 20; lead++) {
        atoll_chan *chan = new_chan(ATOLL_UNBOUNDED);
        int64_t in = 0, out = 0;
        for (; in < lead; in++) {
            CHECK(send_number(chan, in, &try_once) == ATOLL_OK);
            if (in % 3 != 0) {
                CHECK(recv_number(chan, &try_once) == out++);
            }
        }
        for (; in < 5000; in++) {
            CHECK(send_number(chan, in, &try_once) == ATOLL_OK);
        }
        CHECK(atoll_chan_len(chan) == (size_t)(in - out));
        CHECK(chan->ring != NULL);
        while (out < in) {
            CHECK(recv_number(chan, &try_once) == out++);
        }
        CHECK(recv_number(chan, &try_once) == -ATOLL_ERR_AGAIN);
        CHECK(chan->ring == NULL);
        CHECK(send_number(chan, 5, &try_once) == ATOLL_OK);
        CHECK(recv_number(chan, &try_once) == 5);
        CHECK(chan->ring != NULL); /* a small one is kept */
        atoll_chan_unref(chan);
    }
}

/* A large capacity costs nothing until it is used, and is then exact. */
static void
large_capacity(void)
{
    atoll_chan *chan = new_chan(3000);
    CHECK(chan->ring == NULL);
    for (int i = 0; i < 3000; i++) {
        CHECK(send_number(chan, i, &try_once) == ATOLL_OK);
    }
    CHECK(send_number(chan, 0, &try_once) == ATOLL_ERR_AGAIN);
    for (int i = 0; i < 3000; i++) {
        CHECK(recv_number(chan, &try_once) == i);
    }
    atoll_chan_unref(chan);
    chan = new_chan(ATOLL_UNBOUNDED - 1);
    CHECK(send_number(chan, 1, &try_once) == ATOLL_OK);
    CHECK(recv_number(chan, &try_once) == 1);
    atoll_chan_unref(chan);
}

static void
rendezvous_needs_a_partner(void)
{
    atoll_chan *chan = new_chan(0);
    CHECK(send_number(chan, 1, &try_once) == ATOLL_ERR_AGAIN);
    CHECK(recv_number(chan, &try_once) == -ATOLL_ERR_AGAIN);
    atoll_wait wait = within_ms(5);
    CHECK(send_number(chan, 1, &wait) == ATOLL_ERR_TIMEOUT);
    wait = within_ms(5);
    CHECK(recv_number(chan, &wait) == -ATOLL_ERR_TIMEOUT);
    CHECK(atoll_chan_len(chan) == 0);
    CHECK(chan->sendq.first == NULL && chan->recvq.first == NULL);
    atoll_chan_unref(chan);
}

static void
close_drains(void)
{
    atoll_chan *chan = new_chan(7);
    drops = 0;
    for (int i = 0; i < 5; i++) {
        CHECK(send_number(chan, i, &try_once) == ATOLL_OK);
    }
    CHECK(atoll_chan_close(chan, false));
    CHECK(atoll_chan_is_closed(chan));
    CHECK(!atoll_chan_close(chan, false));
    atoll_msg msg = number(9);
    CHECK(atoll_chan_send(chan, &msg, &try_once) == ATOLL_ERR_CLOSED);
    CHECK(atoll_chan_send(chan, &msg, &for_ever) == ATOLL_ERR_CLOSED);
    CHECK(msg.drop == count_drop && msg.u.i64 == 9);
    for (int i = 0; i < 5; i++) {
        CHECK(atoll_chan_len(chan) == (size_t)(5 - i));
        CHECK(recv_number(chan, i % 2 ? &try_once : &for_ever) == i);
    }
    CHECK(recv_number(chan, &try_once) == -ATOLL_ERR_CLOSED);
    CHECK(recv_number(chan, &for_ever) == -ATOLL_ERR_CLOSED);
    CHECK(drops == 0);
    atoll_chan_unref(chan);
}

static void
close_discards(void)
{
    atoll_chan *chan = new_chan(ATOLL_UNBOUNDED);
    drops = 0;
    for (int i = 0; i < 100; i++) {
        CHECK(send_number(chan, i, &try_once) == ATOLL_OK);
    }
    CHECK(recv_number(chan, &try_once) == 0);
    CHECK(atoll_chan_close(chan, true));
    CHECK(drops == 99);
    CHECK(atoll_chan_len(chan) == 0);
    CHECK(recv_number(chan, &for_ever) == -ATOLL_ERR_CLOSED);
    CHECK(!atoll_chan_close(chan, true));
    atoll_chan_unref(chan);
    CHECK(drops == 99);

    /* Discarding may come later. */
    chan = new_chan(4);
    CHECK(send_number(chan, 1, &try_once) == ATOLL_OK);
    CHECK(send_number(chan, 2, &try_once) == ATOLL_OK);
    CHECK(atoll_chan_close(chan, false));
    CHECK(recv_number(chan, &try_once) == 1);
    CHECK(!atoll_chan_close(chan, true));
    CHECK(drops == 100);
    CHECK(recv_number(chan, &try_once) == -ATOLL_ERR_CLOSED);
    atoll_chan_unref(chan);
    CHECK(drops == 100);
}

static void
ends(void)
{
    /* The last sending end closes, and what is there is delivered. */
    atoll_chan *chan = new_chan(4);
    drops = 0;
    atoll_chan_end_ref(chan, ATOLL_END_SEND);
    atoll_chan_end_ref(chan, ATOLL_END_SEND);
    atoll_chan_end_ref(chan, ATOLL_END_RECV);
    CHECK(send_number(chan, 1, &try_once) == ATOLL_OK);
    CHECK(send_number(chan, 2, &try_once) == ATOLL_OK);
    atoll_chan_end_unref(chan, ATOLL_END_SEND);
    CHECK(!atoll_chan_is_closed(chan));
    CHECK(send_number(chan, 3, &try_once) == ATOLL_OK);
    atoll_chan_end_unref(chan, ATOLL_END_SEND);
    CHECK(atoll_chan_is_closed(chan));
    CHECK(recv_number(chan, &try_once) == 1);
    CHECK(drops == 0);
    /* The last receiving end drops what is left. */
    atoll_chan_end_unref(chan, ATOLL_END_RECV);
    CHECK(drops == 2);
    CHECK(recv_number(chan, &try_once) == -ATOLL_ERR_CLOSED);
    atoll_chan_unref(chan);

    chan = new_chan(4);
    atoll_chan_end_ref(chan, ATOLL_END_RECV);
    atoll_chan_end_ref(chan, ATOLL_END_RECV);
    CHECK(send_number(chan, 1, &try_once) == ATOLL_OK);
    atoll_chan_end_unref(chan, ATOLL_END_RECV);
    CHECK(!atoll_chan_is_closed(chan) && drops == 2);
    atoll_chan_end_unref(chan, ATOLL_END_RECV);
    CHECK(atoll_chan_is_closed(chan) && drops == 3);
    CHECK(send_number(chan, 1, &try_once) == ATOLL_ERR_CLOSED);
    atoll_chan_unref(chan);
}

static void
ids_and_find(void)
{
    atoll_chan *chans[600], *found;
    atoll_stats before, during, after;
    atoll_stats_get(&before);
    for (int i = 0; i < 600; i++) {
        chans[i] = new_chan(1);
        CHECK(atoll_chan_id(chans[i]) > 0);
        CHECK(i == 0 || atoll_chan_id(chans[i]) > atoll_chan_id(chans[i - 1]));
    }
    atoll_stats_get(&during);
    CHECK(during.channels == before.channels + 600);
    for (int i = 0; i < 600; i++) {
        CHECK(atoll_chan_find(atoll_chan_id(chans[i]), &found) == ATOLL_OK);
        CHECK(found == chans[i]);
        atoll_chan_unref(found);
    }
    uint64_t last = atoll_chan_id(chans[599]);
    CHECK(atoll_chan_find(0, &found) == ATOLL_ERR_NOTFOUND);
    CHECK(atoll_chan_find(last + 1, &found) == ATOLL_ERR_NOTFOUND);
    for (int i = 0; i < 600; i++) {
        uint64_t id = atoll_chan_id(chans[i]);
        atoll_chan_unref(chans[i]);
        CHECK(atoll_chan_find(id, &found) == ATOLL_ERR_NOTFOUND);
    }
    atoll_stats_get(&after);
    CHECK(after.channels == before.channels);
    chans[0] = new_chan(1);
    CHECK(atoll_chan_id(chans[0]) > last); /* never again the same */
    atoll_chan_unref(chans[0]);
}

static void
list(void)
{
    enum { KIND = 1234, OTHER, NONE };
    atoll_chan *mine[300], *other[300];
    uint64_t ids[301];
    for (int i = 0; i < 300; i++) {
        CHECK(atoll_chan_new(0, KIND, &mine[i]) == ATOLL_OK);
        CHECK(atoll_chan_new(0, OTHER, &other[i]) == ATOLL_OK);
    }
    CHECK(atoll_chan_list(NONE, ids, 301) == 0);
    CHECK(atoll_chan_list(KIND, NULL, 0) == 300);
    ids[300] = 99;
    CHECK(atoll_chan_list(KIND, ids, 301) == 300);
    CHECK(ids[300] == 99);
    for (int i = 0; i < 300; i++) {
        CHECK(ids[i] == atoll_chan_id(mine[i]));
    }
    ids[10] = 99;
    CHECK(atoll_chan_list(OTHER, ids, 10) == 300);
    CHECK(ids[10] == 99 && ids[0] < ids[9]);
    for (int i = 0; i < 300; i++) {
        atoll_chan_unref(mine[i]);
        CHECK(atoll_chan_list(KIND, ids, 301) == (size_t)(299 - i));
        atoll_chan_unref(other[i]);
    }
}

/* A message without a drop is dropped by forgetting it. */
static void
drop_is_optional(void)
{
    atoll_chan *chan = new_chan(3);
    atoll_msg msg = {.u.i64 = 1};
    CHECK(atoll_chan_send(chan, &msg, &try_once) == ATOLL_OK);
    drops = 0;
    CHECK(send_number(chan, 2, &try_once) == ATOLL_OK);
    atoll_chan_unref(chan);
    CHECK(drops == 1);
    msg = number(3);
    atoll_msg_drop(&msg);
    atoll_msg_drop(&msg); /* once only */
    CHECK(drops == 2);
}

/* Found by id while the last reference goes: the finder has a whole channel
 * or none. */
static uint64_t found_id; /* atomic */

static void *
find_all_the_time(void *arg)
{
    unsigned *found = arg;
    for (uint64_t id; (id = at_load_acq(&found_id)) != UINT64_MAX;) {
        atoll_chan *chan;
        uint64_t ids[4];
        if (atoll_chan_find(id, &chan) == ATOLL_OK) {
            ++*found;
            CHECK(atoll_chan_id(chan) == id);
            CHECK(send_number(chan, 1, &try_once) == ATOLL_OK);
            atoll_chan_unref(chan);
        }
        CHECK(atoll_chan_list(99, ids, 4) <= 1);
        sched_yield(); /* the table's lock is not fair: let the maker have it */
    }
    return NULL;
}

static void
find_against_unref(void)
{
    unsigned found = 0;
    pthread_t thread = start(find_all_the_time, &found);
    for (int i = 0; i < 8000; i++) {
        atoll_chan *chan;
        CHECK(atoll_chan_new(ATOLL_UNBOUNDED, 99, &chan) == ATOLL_OK);
        at_store_rel(&found_id, atoll_chan_id(chan));
        if (i % 16 == 0) {
            sched_yield();
        }
        atoll_chan_unref(chan);
    }
    at_store_rel(&found_id, UINT64_MAX);
    join(thread);
    CHECK(atoll_chan_list(99, NULL, 0) == 0);
    printf("# found %u times\n", found);
}

int
main(void)
{
    TAP_BEGIN(60);
    RUN(error_texts);
    RUN(attributes);
    RUN(bounded);
    RUN(messages_arrive_whole);
    RUN(unbounded);
    RUN(large_capacity);
    RUN(rendezvous_needs_a_partner);
    RUN(close_drains);
    RUN(close_discards);
    RUN(ends);
    RUN(ids_and_find);
    RUN(list);
    RUN(drop_is_optional);
    RUN(find_against_unref);
    TAP_END();
}
