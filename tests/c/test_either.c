/* Receive from one channel or send to another, whichever comes first: one
 * waiter in the queues of two real channels, as a select would do it. Nothing
 * is lost, and nothing done twice. */
#include "helper.h"

/* Messages carry no drop here: they are numbers only. */
static atoll_msg
plain(int64_t value)
{
    return (atoll_msg){.group = -1, .u.i64 = value};
}

enum { SELECTORS = 3, NUMBERS = 8000 };

static atoll_chan *source, *sink;
static uint32_t arrived[NUMBERS]; /* atomic: from the source */
static uint32_t sent, drained;    /* atomic: to the sink */

/* Receive from `source` or send to `sink`, whichever comes first. Returns the
 * node that it was, or -1 when the source is closed. */
static int
either(atoll_msg *in, atoll_msg *out, const atoll_wait *wait)
{
    at_waiter waiter;
    at_node nodes[2] = {{.waiter = &waiter, .msg = in},
                        {.waiter = &waiter, .msg = out}};
    at_waiter_init(&waiter, wait);
    /* Both locks, always in this order; then the invariants of both channels
     * hold, since neither can be served at once. */
    atoll_lock_acquire(&source->lock);
    atoll_lock_acquire(&sink->lock);
    bool must_wait = !source->closed && source->len == 0 &&
                     at_waitq_empty(&source->sendq) &&
                     sink->len == sink->capacity &&
                     at_waitq_empty(&sink->recvq);
    if (must_wait) {
        at_waitq_push(&source->recvq, &nodes[0]);
        at_waitq_push(&sink->sendq, &nodes[1]);
    }
    atoll_lock_release(&sink->lock);
    atoll_lock_release(&source->lock);
    if (!must_wait) {
        atoll_err err = atoll_chan_recv(source, in, &try_once);
        if (err != ATOLL_ERR_AGAIN) {
            return err == ATOLL_OK ? 0 : -1;
        }
        return atoll_chan_send(sink, out, &try_once) == ATOLL_OK ? 1 : 2;
    }
    atoll_err err = at_waiter_wait(&waiter, wait, NULL);
    atoll_lock_acquire(&source->lock);
    at_waitq_remove(&source->recvq, &nodes[0]);
    atoll_lock_release(&source->lock);
    atoll_lock_acquire(&sink->lock);
    at_waitq_remove(&sink->sendq, &nodes[1]);
    atoll_lock_release(&sink->lock);
    if (err != ATOLL_OK) {
        CHECK(err == ATOLL_ERR_TIMEOUT);
        return 2;
    }
    CHECK(waiter.won->err == ATOLL_OK ||
          (waiter.won == &nodes[0] && waiter.won->err == ATOLL_ERR_CLOSED));
    return waiter.won->err == ATOLL_OK ? (int)(waiter.won - nodes) : -1;
}

static void *
select_often(void *arg)
{
    uint64_t seed = (uint64_t)(uintptr_t)arg;
    for (;;) {
        atoll_msg in = plain(-1), out = plain(1);
        atoll_wait wait = for_ever;
        if (next_random(&seed) % 4 == 0) {
            wait.deadline = atoll_now() + next_random(&seed) % 50000;
        }
        int which = either(&in, &out, &wait);
        CHECK((in.u.i64 >= 0) == (which == 0));
        if (which == 0) {
            CHECK(at_add_rlx(&arrived[in.u.i64], 1) == 0);
        }
        else if (which == 1) {
            at_add_rlx(&sent, 1);
        }
        else if (which == -1) {
            return NULL;
        }
    }
}

static void *
feed(void *arg)
{
    (void)arg;
    for (int i = 0; i < NUMBERS; i++) {
        atoll_msg msg = plain(i);
        CHECK(atoll_chan_send(source, &msg, &for_ever) == ATOLL_OK);
        if (i % 64 == 0) {
            sleep_us(50); /* so that it is the sink's turn now and then */
        }
    }
    return NULL;
}

static void *
drain(void *arg)
{
    int64_t got;
    (void)arg;
    while ((got = recv_number(sink, &for_ever)) != -ATOLL_ERR_CLOSED) {
        CHECK(got == 1);
        at_add_rlx(&drained, 1);
    }
    return NULL;
}

static void
two_channels(size_t capacity)
{
    source = new_chan(capacity);
    sink = new_chan(capacity);
    sent = drained = 0;
    memset(arrived, 0, sizeof(arrived));
    pthread_t selectors[SELECTORS], feeder, drainer;
    for (uintptr_t i = 0; i < SELECTORS; i++) {
        selectors[i] = start(select_often, (void *)i);
    }
    feeder = start(feed, NULL);
    drainer = start(drain, NULL);
    join(feeder);
    atoll_chan_close(source, false);
    for (int i = 0; i < SELECTORS; i++) {
        join(selectors[i]);
    }
    atoll_chan_close(sink, false);
    join(drainer);
    CHECK(sent == drained && sent > 0);
    for (int i = 0; i < NUMBERS; i++) {
        CHECK(arrived[i] == 1);
    }
    printf("# received %d, sent %u\n", NUMBERS, sent);
    atoll_chan_unref(source);
    atoll_chan_unref(sink);
}

static void
two_rendezvous_channels(void)
{
    two_channels(0);
}

static void
two_buffered_channels(void)
{
    two_channels(2);
}

int
main(void)
{
    TAP_BEGIN(90);
    RUN(two_rendezvous_channels);
    RUN(two_buffered_channels);
    TAP_END();
}
