/* Timers that are channels: what fires is a message. See atoll_chan_timer.
 *
 * Ownership. A tick has owners, each with a count: its channel's on_close
 * function, the timer while it is pending, and whoever fires or starts it. It has
 * one reference to the channel, from its making until they are gone. There is no cycle
 * to be left behind: the channel is closed when its last receiving end goes, and that
 * stops the timer.
 *
 * Threads and memory order. Who starts the timer looks *afterwards* whether the
 * channel is closed; who closes it sets `closed` *before* it stops the timer. The
 * lock of the timers orders the two: if the stop came first it has published
 * `closed` to the start, so the starter sees it and stops the timer itself; if
 * the start came first, the stop finds it. Either way exactly one stop succeeds,
 * and gives the timer's count back.
 *
 * Fork. The channel is dead in the child, and the timer idle; the little that is
 * here stays. */
#include "at_atomic.h"
#include "at_chan.h"
#include "at_port.h"

typedef struct tick {
    atoll_timer timer;
    atoll_chan *chan;                          /* counted; constant */
    int64_t period;                            /* constant; 0: fires once */
    void (*fill)(int64_t now, atoll_msg *msg); /* constant */
    uint32_t owners;                           /* atomic */
} tick;

static void
tick_give_up(tick *t)
{
    if (atoll_count_down(&t->owners)) {
        atoll_chan_unref(t->chan);
        atoll_free(t);
    }
}

/* The channel has been closed. */
static void
tick_closed(void *arg)
{
    tick *t = arg;
    if (atoll_timer_stop(&t->timer)) {
        tick_give_up(t); /* in the timer's place */
    }
    tick_give_up(t);
}

/* Called by an owner, who is one still afterwards. */
static atoll_err
tick_arm(tick *t, int64_t deadline)
{
    at_add_rlx(&t->owners, 1);
    atoll_err err = atoll_timer_start(&t->timer, deadline);
    if (err != ATOLL_OK ||
        (atoll_chan_is_closed(t->chan) && atoll_timer_stop(&t->timer))) {
        tick_give_up(t);
    }
    return err;
}

/* The first time after `now` that is a whole number of periods from `deadline`. */
static int64_t
next_time(int64_t deadline, int64_t period, int64_t now)
{
    int64_t late = now > deadline ? now - deadline : 0;
    int64_t step = period * (late / period); /* no more than `late` */
    if (deadline > INT64_MAX - period - step) {
        return ATOLL_FOREVER;
    }
    return deadline + step + period;
}

static void
tick_fire(atoll_timer *timer)
{
    static const atoll_wait at_once = {.deadline = ATOLL_NOW};
    tick *t = (tick *)(void *)((char *)timer - offsetof(tick, timer));
    int64_t now = at_port_now();
    atoll_msg msg = {.group = -1};
    t->fill(now, &msg);
    if (atoll_chan_send(t->chan, &msg, &at_once) != ATOLL_OK) {
        atoll_msg_drop(&msg); /* the last one has not been taken, or closed */
    }
    if (t->period == 0 ||
        tick_arm(t, next_time(timer->deadline, t->period, now)) != ATOLL_OK) {
        atoll_chan_close(t->chan, false);
    }
    tick_give_up(t); /* what was the pending timer's has been the firing's */
}

atoll_err
atoll_chan_timer(int64_t first, int64_t period, int kind,
                 void (*fill)(int64_t now, atoll_msg *msg), atoll_chan **out)
{
    if (period < 0) {
        return ATOLL_ERR_INVALID;
    }
    tick *t = at_alloc_zeroed(sizeof(*t));
    if (t == NULL) {
        return ATOLL_ERR_NOMEM;
    }
    atoll_chan *chan;
    atoll_err err = atoll_chan_new(1, kind, &chan);
    if (err != ATOLL_OK) {
        atoll_free(t);
        return err;
    }
    t->timer.fire = tick_fire;
    t->chan = atoll_chan_ref(chan);
    t->period = period > 0 && period < ATOLL_TICK_MIN ? ATOLL_TICK_MIN : period;
    t->fill = fill;
    t->owners = 2; /* on_close, and this call */
    err = atoll_chan_on_close(chan, tick_closed, t);
    if (err != ATOLL_OK) {
        tick_give_up(t); /* who has looked through the table may have closed it */
    }
    else {
        err = tick_arm(t, first);
    }
    tick_give_up(t);
    if (err != ATOLL_OK) {
        atoll_chan_close(chan, true);
        atoll_chan_unref(chan);
        return err;
    }
    *out = chan;
    return ATOLL_OK;
}
