/* atoll: timers, and channels that tick. A part of atoll.h, which includes it. */
#ifndef ATOLL_TIMER_H
#define ATOLL_TIMER_H

#include "atoll/atoll.h"

#ifdef __cplusplus
extern "C" {
#endif

/* Something to do at a certain time. Caller's storage; zero-initialised means
 * idle, then set `fire`. One thread serves all timers of the process. It is
 * started when it is needed, sleeps until the nearest deadline, and ends when
 * nothing has been pending for a second. */
typedef struct atoll_timer {
    int64_t deadline; /* set by atoll_timer_start */
    /* Called on that thread with no lock held, as soon as possible after the
     * deadline; what was written before the start is visible to it. The timer
     * is idle by then and not touched any more: `fire` may free it or start it
     * again. It holds up all other timers, so it must not block for long. */
    void (*fire)(struct atoll_timer *timer);
    /* The rest is private, and guarded by the lock of at_timer.c. */
    struct atoll_timer *at_child, *at_next, *at_prev;
    uint64_t at_order;
    uint32_t at_armed;
} atoll_timer;

/* Fire at `deadline`; ATOLL_FOREVER is never, what has passed is at once. A
 * timer that is pending already is moved there. Timers with the same deadline
 * fire in the order of their starts. Needs no memory. Any thread.
 * Returns OK; SYSTEM when the thread is refused, CLOSED after atoll_timers_end:
 *   then it is idle. */
ATOLL_API atoll_err atoll_timer_start(atoll_timer *timer,
                                      int64_t deadline) ATOLL_MUST_CHECK;
/* True: it was pending, and will not fire. False: it was idle, has fired, or is
 * firing at this moment, which is not waited for: whoever frees what `fire`
 * uses counts references. Any thread. */
ATOLL_API bool atoll_timer_stop(atoll_timer *timer);
/* At process exit: let a `fire` that runs come to its end, and join the thread.
 * What is pending will not fire; later starts return CLOSED. Once, not from
 * `fire`, and holding nothing that a `fire` may wait for. */
ATOLL_API void atoll_timers_end(void);

#define ATOLL_TICK_MIN INT64_C(10000)

/* A channel of capacity 1 into which the timer thread sends: at `first`, and then,
 * if `period` (nanoseconds) is not 0, at each further multiple of it; with a
 * `period` of 0 it is closed after the one message. What finds the place taken
 * is dropped, and times that have passed unused are skipped: so nothing piles
 * up, and nothing drifts. A period of less than ATOLL_TICK_MIN counts as that: nobody
 * could tell such ticks apart, and making them would take a core. Closing the channel,
 * or giving back its last receiving end, ends it at once, and nothing of it is left.
 * Until then it holds a reference to the channel: take a receiving end, or close it.
 * `fill(now, msg)` makes a message, on the timer thread: it must not block or
 * allocate. `kind` as in atoll_chan_new. The caller owns one reference.
 * Returns OK; NOMEM; INVALID (period < 0); SYSTEM, CLOSED as atoll_timer_start. */
ATOLL_API atoll_err atoll_chan_timer(int64_t first, int64_t period, int kind,
                                     void (*fill)(int64_t now, atoll_msg *msg),
                                     atoll_chan **out) ATOLL_MUST_CHECK;

#ifdef __cplusplus
}
#endif

#endif /* ATOLL_TIMER_H */
