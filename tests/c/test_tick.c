/* Timers that are channels: values, no drift, what nobody takes, and that nothing
 * is left of them, whoever ends them and when. */
#include "helper.h"

static void
fill(int64_t now, atoll_msg *msg)
{
    msg->u.i64 = now;
}

/* One that has its receiving end taken. */
static atoll_chan *
timer_chan(int64_t first, int64_t period)
{
    atoll_chan *chan;
    if (atoll_chan_timer(first, period, 9, fill, &chan) != ATOLL_OK) {
        printf("Bail out! no timer\n");
        exit(99);
    }
    atoll_chan_end_ref(chan, ATOLL_END_RECV);
    return chan;
}

static void
let_go(atoll_chan *chan)
{
    atoll_chan_end_unref(chan, ATOLL_END_RECV);
    atoll_chan_unref(chan);
}

static atoll_stats
stats(void)
{
    atoll_stats now;
    atoll_stats_get(&now);
    return now;
}

/* The timer thread may still be at the end of a `fire`: it lets go of the channel
 * a moment later. */
static void
nothing_left(uint64_t channels)
{
    UNTIL(stats().timers == 0 && stats().channels == channels);
}

static void
once(void)
{
    uint64_t before = stats().channels;
    int64_t due = atoll_now() + 200 * MS;
    atoll_chan *chan = timer_chan(due, 0);
    CHECK(atoll_chan_kind(chan) == 9 && atoll_chan_capacity(chan) == 1);
    CHECK(recv_number(chan, &try_once) == -ATOLL_ERR_AGAIN);
    int64_t when = recv_number(chan, &for_ever);
    CHECK(when >= due && when <= atoll_now());
    CHECK(recv_number(chan, &for_ever) == -ATOLL_ERR_CLOSED);
    let_go(chan);

    /* Nobody waits: the message does. What has passed is at once. */
    chan = timer_chan(1, 0);
    UNTIL(atoll_chan_is_closed(chan));
    CHECK(recv_number(chan, &try_once) > 0);
    let_go(chan);
    nothing_left(before);
}

static void
bad_arguments(void)
{
    atoll_chan *chan;
    CHECK(atoll_chan_timer(1, -1, 9, fill, &chan) == ATOLL_ERR_INVALID);
}

static void
no_drift(void)
{
    uint64_t before = stats().channels;
    int64_t period = 2 * MS, first = atoll_now() + period;
    atoll_chan *chan = timer_chan(first, period);
    int64_t last = 0;
    for (int i = 0; i < 100; i++) {
        int64_t when = recv_number(chan, &for_ever);
        CHECK(when >= first + i * period); /* never early */
        CHECK(when > last);
        last = when;
    }
    /* If it drifted, each of them would be later than the one before; the best
     * of many is on time. */
    int64_t best = INT64_MAX;
    for (int i = 0; i < 50; i++) {
        int64_t off = (recv_number(chan, &for_ever) - first) % period;
        best = off < best ? off : best;
    }
    printf("# after 100 ticks of 2 ms the best is %.3f ms late\n", (double)best / 1e6);
    CHECK(best < MS);
    let_go(chan);
    nothing_left(before);
}

/* One tick is kept, the first that nobody took; the next one is on time again. */
static void
nothing_piles_up(void)
{
    uint64_t before = stats().channels;
    int64_t period = 5 * MS, first = atoll_now() + period;
    atoll_chan *chan = timer_chan(first, period);
    sleep_us(60000);
    CHECK(atoll_chan_len(chan) == 1);
    int64_t now = atoll_now();
    int64_t old = recv_number(chan, &try_once);
    CHECK(old >= first && old < now - 10 * MS);
    CHECK(recv_number(chan, &for_ever) > old); /* it may be on its way already */
    CHECK(recv_number(chan, &for_ever) >= now);
    let_go(chan);
    nothing_left(before);
}

static void
far_away(void)
{
    uint64_t before = stats().channels;
    atoll_chan *a = timer_chan(ATOLL_FOREVER, 0);
    atoll_chan *b = timer_chan(atoll_now(), INT64_MAX);
    CHECK(recv_number(b, &for_ever) > 0); /* its next is for ever away */
    UNTIL(stats().timers == 2);
    CHECK(recv_number(a, &try_once) == -ATOLL_ERR_AGAIN);
    let_go(a);
    CHECK(stats().timers == 1);
    let_go(b);
    nothing_left(before);
}

/* Closed, poisoned or let go while it is pending: at once, in the same thread. */
static void
ended_while_pending(void)
{
    uint64_t before = stats().channels;
    for (int how = 0; how < 6; how++) {
        atoll_chan *chan =
            timer_chan(atoll_now() + 60000 * MS, how % 2 ? 1000 * MS : 0);
        atoll_msg why = {.group = -1};
        CHECK(stats().timers == 1);
        if (how / 2 == 0) {
            atoll_chan_close(chan, true);
        }
        else if (how / 2 == 1) {
            CHECK(atoll_chan_poison(chan, &why, NULL) == ATOLL_OK);
        }
        else {
            let_go(chan);
        }
        CHECK(stats().timers == 0);
        if (how / 2 < 2) {
            let_go(chan);
        }
        CHECK(stats().channels == before);
    }
}

/* Ended at the moment at which it fires, by one or by two at once. */
typedef struct racer {
    atoll_chan *chan;
    uint32_t *go; /* atomic */
    long after_us;
    bool poisons;
} racer;

static void *
end_it(void *arg)
{
    racer *r = arg;
    atoll_msg why = {.group = -1};
    while (at_load_acq(r->go) == 0) {
    }
    int64_t end = atoll_now() + r->after_us * 1000;
    while (atoll_now() < end) {
    }
    if (!r->poisons) {
        atoll_chan_close(r->chan, true);
    }
    else if (atoll_chan_poison(r->chan, &why, NULL) != ATOLL_OK) {
        CHECK(atoll_chan_why(r->chan) != NULL);
    }
    let_go(r->chan);
    return NULL;
}

static void
ended_while_firing(void)
{
    uint64_t before = stats().channels, dice = 1;
    for (int round = 0; round < 400; round++) {
        int64_t period = round % 3 == 0 ? 0 : round % 3 == 1 ? 1000 : 20000;
        uint32_t go = 0;
        atoll_chan *chan = timer_chan(atoll_now() + 50000, period);
        racer racers[2];
        pthread_t threads[2];
        for (int i = 0; i < 2; i++) {
            racers[i] = (racer){chan, &go, (long)(next_random(&dice) % 80), i == 1};
            threads[i] = 0;
        }
        atoll_chan_ref(chan);
        atoll_chan_end_ref(chan, ATOLL_END_RECV);
        for (int i = 0; i < 2; i++) {
            threads[i] = start(end_it, &racers[i]);
        }
        at_store_rel(&go, 1);
        join(threads[0]);
        join(threads[1]);
    }
    nothing_left(before);
}

/* Many at once: all of them fire, and all of them go. */
static void
many(void)
{
    enum { MANY = 500 };
    static atoll_chan *chans[MANY];
    uint64_t before = stats().channels;
    for (int i = 0; i < MANY; i++) {
        chans[i] = timer_chan(atoll_now() + (i % 7) * MS, i % 2 ? 0 : 3 * MS);
    }
    for (int i = 0; i < MANY; i++) {
        CHECK(recv_number(chans[i], &for_ever) > 0);
    }
    for (int i = 0; i < MANY; i++) {
        let_go(chans[i]);
    }
    nothing_left(before);
}

static void
after_the_end(void)
{
    uint64_t before = stats().channels;
    atoll_chan *chan;
    atoll_timers_end();
    CHECK(atoll_chan_timer(atoll_now(), 0, 9, fill, &chan) == ATOLL_ERR_CLOSED);
    nothing_left(before);
}

int
main(void)
{
    TAP_BEGIN(100);
    RUN(once);
    RUN(bad_arguments);
    RUN(no_drift);
    RUN(nothing_piles_up);
    RUN(far_away);
    RUN(ended_while_pending);
    RUN(ended_while_firing);
    RUN(many);
    RUN(after_the_end);
    TAP_END();
}
