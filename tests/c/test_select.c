/* Select: what is ready, what is waited for, what is left behind; and races of
 * many selects over the same channels, in which nothing is lost or done twice. */
#include "helper.h"

/* Messages carry no drop here, unless said: they are numbers only. */
static atoll_msg
plain(int64_t value)
{
    return (atoll_msg){.group = -1, .u.i64 = value};
}

static atoll_case
receive(atoll_chan *chan)
{
    return (atoll_case){.kind = ATOLL_CASE_RECV, .of.chan = chan};
}

static atoll_case
sending(atoll_chan *chan, int64_t value)
{
    return (atoll_case){.kind = ATOLL_CASE_SEND, .of.chan = chan, .msg = plain(value)};
}

static atoll_case
happens(atoll_event *event)
{
    return (atoll_case){.kind = ATOLL_CASE_EVENT, .of.event = event};
}

static uint32_t chosen;
static atoll_err came;

/* One thread's select: in `chosen` and `came`. */
static atoll_err
choose(atoll_case *cases, uint32_t count, const atoll_wait *wait)
{
    return atoll_select(cases, count, NULL, wait, &chosen, &came);
}

static bool
nobody_waits(atoll_chan *chan)
{
    return waiting(chan, &chan->recvq) == 0 && waiting(chan, &chan->sendq) == 0;
}

/* ------------------------------------------------------------ what is ready */

static void
what_is_ready(void)
{
    atoll_chan *a = new_chan(1), *b = new_chan(1);
    atoll_event event = {.is_set = 0};
    atoll_case cases[4] = {
        {.kind = ATOLL_CASE_NEVER}, receive(a), sending(b, 7), happens(&event)};
    CHECK(choose(cases, 4, &try_once) == ATOLL_OK);
    CHECK(chosen == 2 && came == ATOLL_OK);
    CHECK(choose(cases, 4, &try_once) == ATOLL_ERR_AGAIN); /* it is full */
    CHECK(recv_number(b, &try_once) == 7);

    CHECK(send_number(a, 5, &try_once) == ATOLL_OK);
    CHECK(choose(cases, 2, &try_once) == ATOLL_OK);
    CHECK(chosen == 1 && came == ATOLL_OK && cases[1].msg.u.i64 == 5);
    cases[1].msg = (atoll_msg){.drop = NULL};

    atoll_event_set(&event);
    cases[2].kind = ATOLL_CASE_NEVER;
    CHECK(choose(cases, 4, &for_ever) == ATOLL_OK);
    CHECK(chosen == 3 && came == ATOLL_OK);

    atoll_chan_close(a, false);
    CHECK(choose(cases, 2, &for_ever) == ATOLL_OK);
    CHECK(chosen == 1 && came == ATOLL_ERR_CLOSED);
    atoll_chan_close(b, false);
    cases[2] = sending(b, 8);
    CHECK(choose(&cases[2], 1, &for_ever) == ATOLL_OK);
    CHECK(chosen == 0 && came == ATOLL_ERR_CLOSED);
    CHECK(cases[2].msg.u.i64 == 8); /* still ours */
    CHECK(nobody_waits(a) && nobody_waits(b));
    atoll_chan_unref(a);
    atoll_chan_unref(b);
}

static void
nothing_is(void)
{
    atoll_chan *a = new_chan(0), *b = new_chan(0);
    atoll_event event = {.is_set = 0};
    atoll_case cases[4] = {receive(a), sending(b, 1), happens(&event), receive(a)};
    CHECK(choose(cases, 0, &try_once) == ATOLL_ERR_AGAIN);
    CHECK(choose(cases, 4, &try_once) == ATOLL_ERR_AGAIN);
    atoll_wait wait = within_ms(20);
    CHECK(choose(cases, 4, &wait) == ATOLL_ERR_TIMEOUT);
    wait = within_ms(20);
    CHECK(choose(cases, 0, &wait) == ATOLL_ERR_TIMEOUT);
    CHECK(choose(cases, 4, &wait) == ATOLL_ERR_TIMEOUT); /* it is over */
    CHECK(nobody_waits(a) && nobody_waits(b) && event.first == NULL);
    atoll_kick kick = {.set = 0};
    atoll_kick_set(&kick);
    wait = (atoll_wait){.deadline = ATOLL_FOREVER, .kick = &kick};
    CHECK(choose(cases, 4, &wait) == ATOLL_ERR_INTERRUPTED);
    CHECK(nobody_waits(a) && nobody_waits(b) && event.first == NULL);
    atoll_chan_unref(a);
    atoll_chan_unref(b);
}

enum { MANY = 64, ROUNDS = 64000 };

/* Each of those that are ready is as likely: with ROUNDS / MANY expected, the
 * standard deviation is 31. */
static void
fair(void)
{
    atoll_chan *chans[MANY];
    atoll_case cases[MANY];
    uint32_t count[MANY] = {0}, index;
    uint64_t random = 1;
    atoll_err err;
    for (int i = 0; i < MANY; i++) {
        chans[i] = new_chan(1);
        cases[i] = receive(chans[i]);
        /* Every second one is ready. */
        CHECK(i % 2 == 0 || send_number(chans[i], i, &try_once) == ATOLL_OK);
    }
    for (int i = 0; i < ROUNDS / 2; i++) {
        CHECK(atoll_select(cases, MANY, &random, &for_ever, &index, &err) == ATOLL_OK);
        count[index]++;
        CHECK(send_number(chans[index], 0, &try_once) == ATOLL_OK);
    }
    for (int i = 0; i < MANY; i++) {
        CHECK(i % 2 == 0
                  ? count[i] == 0
                  : count[i] > ROUNDS / MANY - 200 && count[i] < ROUNDS / MANY + 200);
    }
    CHECK(choose(cases, MANY, &for_ever) == ATOLL_OK && chosen == 1);
    for (int i = 0; i < MANY; i++) {
        atoll_chan_unref(chans[i]);
    }
}

/* ------------------------------------------------------------------ waiting */

typedef struct sleeper {
    atoll_case *cases;
    uint32_t count, index;
    atoll_err end, err;
} sleeper;

static void *
sleep_in(void *arg)
{
    sleeper *s = arg;
    s->end = atoll_select(s->cases, s->count, NULL, &for_ever, &s->index, &s->err);
    return NULL;
}

static void
served_by_each(void)
{
    atoll_chan *a = new_chan(0), *b = new_chan(1), *c = new_chan(0);
    CHECK(send_number(b, 1, &try_once) == ATOLL_OK);
    for (uint32_t way = 0; way < 4; way++) {
        atoll_event event = {.is_set = 0};
        atoll_case cases[4] = {receive(a), sending(b, 2), happens(&event), receive(c)};
        sleeper s = {.cases = cases, .count = 4};
        pthread_t thread = start(sleep_in, &s);
        UNTIL(parked(c, &c->recvq) == 1);
        CHECK(waiting(a, &a->recvq) == 1 && waiting(b, &b->sendq) == 1);
        switch (way) {
        case 0:
            CHECK(send_number(a, 3, &try_once) == ATOLL_OK);
            break;
        case 1:
            CHECK(recv_number(b, &try_once) == 1);
            CHECK(recv_number(b, &try_once) == 2);
            CHECK(send_number(b, 1, &try_once) == ATOLL_OK);
            break;
        case 2:
            atoll_event_set(&event);
            break;
        default:
            atoll_chan_close(c, false);
            break;
        }
        join(thread);
        CHECK(s.end == ATOLL_OK && s.index == way);
        CHECK(s.err == (way == 3 ? ATOLL_ERR_CLOSED : ATOLL_OK));
        CHECK(way != 0 || cases[0].msg.u.i64 == 3);
        CHECK(nobody_waits(a) && nobody_waits(b) && nobody_waits(c));
        CHECK(event.first == NULL);
    }
    atoll_chan_unref(a);
    atoll_chan_unref(b);
    atoll_chan_unref(c);
}

/* Two that both send to and receive from one channel meet each other, never
 * themselves. */
static void
both_ways_on_one_channel(void)
{
    atoll_chan *chan = new_chan(0);
    atoll_case mine[3] = {sending(chan, 1), receive(chan), receive(chan)};
    atoll_case theirs[2] = {receive(chan), sending(chan, 2)};
    CHECK(choose(mine, 3, &try_once) == ATOLL_ERR_AGAIN);
    sleeper s = {.cases = mine, .count = 3};
    pthread_t thread = start(sleep_in, &s);
    UNTIL(parked(chan, &chan->sendq) == 1);
    CHECK(waiting(chan, &chan->recvq) == 2);
    CHECK(choose(theirs, 2, &for_ever) == ATOLL_OK);
    join(thread);
    CHECK(chosen == 0 && s.index == 0 && theirs[0].msg.u.i64 == 1);
    CHECK(nobody_waits(chan));
    atoll_chan_unref(chan);
}

/* ---------------------------------------------------------- without a thread */

static void
asynchronous(void)
{
    atoll_cq *cq;
    CHECK(atoll_cq_new(&cq) == ATOLL_OK);
    atoll_chan *a = new_chan(0), *b = new_chan(1);
    atoll_event event = {.is_set = 0};
    atoll_case cases[3] = {receive(a), receive(b), happens(&event)};
    atoll_op op = {.user = NULL};
    /* at once */
    CHECK(send_number(b, 4, &try_once) == ATOLL_OK);
    CHECK(atoll_select_start(cases, 3, NULL, &op, cq, &chosen, &came) == ATOLL_OK);
    CHECK(chosen == 1 && came == ATOLL_OK && cases[1].msg.u.i64 == 4);
    CHECK(atoll_cq_next(cq) == NULL && nobody_waits(a));
    /* later */
    CHECK(atoll_select_start(cases, 3, NULL, &op, cq, &chosen, &came) ==
          ATOLL_ERR_AGAIN);
    CHECK(send_number(a, 6, &try_once) == ATOLL_OK);
    CHECK(!atoll_select_cancel(cases, 3, &op));
    CHECK(atoll_cq_next(cq) == &op && op.status == ATOLL_OK);
    CHECK(atoll_select_end(cases, 3, &op) == 0);
    CHECK(cases[0].msg.u.i64 == 6 && nobody_waits(a) && nobody_waits(b));
    /* an event; and a message that comes after it goes to somebody else */
    CHECK(atoll_select_start(cases, 3, NULL, &op, cq, &chosen, &came) ==
          ATOLL_ERR_AGAIN);
    atoll_event_set(&event);
    CHECK(send_number(a, 6, &try_once) == ATOLL_ERR_AGAIN);
    CHECK(atoll_cq_next(cq) == &op && op.status == ATOLL_OK);
    CHECK(atoll_select_end(cases, 3, &op) == 2 && nobody_waits(b));
    /* never */
    CHECK(atoll_select_start(cases, 2, NULL, &op, cq, &chosen, &came) ==
          ATOLL_ERR_AGAIN);
    CHECK(atoll_select_cancel(cases, 2, &op));
    CHECK(atoll_cq_next(cq) == NULL && nobody_waits(a) && nobody_waits(b));
    atoll_chan_unref(a);
    atoll_chan_unref(b);
    atoll_cq_unref(cq);
}

/* ------------------------------------------------------------------- races */

enum { SELECTORS = 3, NUMBERS = 8000 };

static atoll_chan *source, *sink;
static uint32_t arrived[NUMBERS]; /* atomic: from the source */
static uint32_t sent, drained;    /* atomic: to the sink */

/* Receive from the source or send to the sink, until the source is closed. */
static void *
select_often(void *arg)
{
    uint64_t seed = (uint64_t)(uintptr_t)arg + 1;
    atoll_cq *cq;
    CHECK(atoll_cq_new(&cq) == ATOLL_OK);
    for (;;) {
        atoll_case cases[2] = {receive(source), sending(sink, 1)};
        atoll_wait wait = for_ever;
        uint32_t index = 9, dice = next_random(&seed) % 4;
        atoll_err err, end;
        if (dice == 0) {
            wait.deadline = atoll_now() + next_random(&seed) % 50000;
        }
        if (dice == 1) {
            atoll_op op = {.user = NULL};
            end = atoll_select_start(cases, 2, &seed, &op, cq, &index, &err);
            if (end == ATOLL_ERR_AGAIN) {
                if (next_random(&seed) % 2 == 0 && atoll_select_cancel(cases, 2, &op)) {
                    continue;
                }
                CHECK(atoll_cq_wait(cq, &for_ever) == ATOLL_OK);
                CHECK(atoll_cq_next(cq) == &op);
                index = atoll_select_end(cases, 2, &op);
                err = op.status;
                end = ATOLL_OK;
            }
        }
        else {
            end = atoll_select(cases, 2, &seed, &wait, &index, &err);
        }
        if (end != ATOLL_OK) {
            CHECK(end == ATOLL_ERR_TIMEOUT && dice == 0);
            continue;
        }
        if (err != ATOLL_OK) {
            CHECK(index == 0 && err == ATOLL_ERR_CLOSED);
            break;
        }
        if (index == 0) {
            CHECK(at_add_rlx(&arrived[cases[0].msg.u.i64], 1) == 0);
        }
        else {
            at_add_rlx(&sent, 1);
        }
    }
    atoll_cq_unref(cq);
    return NULL;
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

/* Selects that meet selects only: each of four threads sends and receives on four
 * rendezvous channels. Each transfer has two ends, so it comes out even when all
 * have done their number of turns; whoever is left over has nobody to meet. */
enum { PARTIES = 4, TURNS = 20000 };
static atoll_chan *ring[PARTIES];
static int64_t given[PARTIES], taken[PARTIES];
static uint32_t turns; /* atomic */

static void *
meet(void *arg)
{
    int me = (int)(uintptr_t)arg;
    uint64_t seed = (uint64_t)me + 1;
    while (at_load_rlx(&turns) < TURNS) {
        atoll_case cases[2 * PARTIES];
        uint32_t index;
        atoll_err err;
        atoll_wait wait = within_ms(50);
        int64_t value = (int64_t)next_random(&seed);
        for (int i = 0; i < PARTIES; i++) {
            cases[2 * i] = receive(ring[i]);
            cases[2 * i + 1] = sending(ring[i], value);
        }
        if (atoll_select(cases, 2 * PARTIES, &seed, &wait, &index, &err) != ATOLL_OK) {
            continue;
        }
        CHECK(err == ATOLL_OK);
        if (index % 2 == 0) {
            taken[me] += cases[index].msg.u.i64;
        }
        else {
            given[me] += value;
        }
        at_add_rlx(&turns, 1);
    }
    return NULL;
}

static void
selects_that_meet(void)
{
    pthread_t threads[PARTIES];
    turns = 0;
    for (int i = 0; i < PARTIES; i++) {
        ring[i] = new_chan(0);
        given[i] = taken[i] = 0;
    }
    for (uintptr_t i = 0; i < PARTIES; i++) {
        threads[i] = start(meet, (void *)i);
    }
    int64_t balance = 0;
    for (int i = 0; i < PARTIES; i++) {
        join(threads[i]);
    }
    for (int i = 0; i < PARTIES; i++) {
        balance += given[i] - taken[i];
        CHECK(nobody_waits(ring[i]));
        atoll_chan_unref(ring[i]);
    }
    CHECK(balance == 0 && turns >= TURNS);
}

int
main(void)
{
    TAP_BEGIN(90);
    RUN(what_is_ready);
    RUN(nothing_is);
    RUN(fair);
    RUN(served_by_each);
    RUN(both_ways_on_one_channel);
    RUN(asynchronous);
    RUN(two_rendezvous_channels);
    RUN(two_buffered_channels);
    RUN(selects_that_meet);
    TAP_END();
}
