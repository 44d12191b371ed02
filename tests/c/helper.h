/* What several test programs share: messages that count their drops, waits,
 * threads, and looks into a channel's queues. */
#ifndef HELPER_H
#define HELPER_H

#include <pthread.h>
#include <time.h>

#include "at_atomic.h"
#include "at_chan.h"
#include "tap.h"

#define MS INT64_C(1000000)

static const atoll_wait try_once = {.deadline = ATOLL_NOW};
static const atoll_wait for_ever = {.deadline = ATOLL_FOREVER};

static inline atoll_wait
within_ms(int64_t ms)
{
    return (atoll_wait){.deadline = atoll_now() + ms * MS};
}

static inline void
sleep_us(long us)
{
    struct timespec ts = {us / 1000000, us % 1000000 * 1000};
    nanosleep(&ts, NULL);
}

/* Look again and again until it is true; a hang is the watchdog's business. */
#define UNTIL(cond)    \
    while (!(cond)) {  \
        sleep_us(100); \
    }

/* ---------------------------------------------------------------- threads */

static inline pthread_t
start(void *(*body)(void *), void *arg)
{
    pthread_t thread;
    if (pthread_create(&thread, NULL, body, arg) != 0) {
        printf("Bail out! no thread\n");
        exit(99);
    }
    return thread;
}

static inline void
join(pthread_t thread)
{
    pthread_join(thread, NULL);
}

/* CPU time of the calling thread. */
static inline int64_t
cpu_time(void)
{
    struct timespec ts;
    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &ts);
    return (int64_t)ts.tv_sec * 1000 * MS + ts.tv_nsec;
}

/* Good enough to choose what to do next; from a seed, so that it repeats. */
static inline uint32_t
next_random(uint64_t *seed)
{
    *seed = *seed * UINT64_C(6364136223846793005) + 1;
    return (uint32_t)(*seed >> 33);
}

/* --------------------------------------------------------------- messages */

static uint32_t drops; /* atomic: how many drops were called */

static inline void
count_drop(atoll_msg *msg)
{
    (void)msg;
    at_add_rlx(&drops, 1);
}

/* A message that carries a number and counts its drop. */
static inline atoll_msg
number(int64_t value)
{
    return (atoll_msg){.drop = count_drop, .group = -1, .u.i64 = value};
}

static inline atoll_chan *
new_chan(size_t capacity)
{
    atoll_chan *chan;
    if (atoll_chan_new(capacity, 0, &chan) != ATOLL_OK) {
        printf("Bail out! no channel\n");
        exit(99);
    }
    return chan;
}

static inline atoll_err
send_number(atoll_chan *chan, int64_t value, const atoll_wait *wait)
{
    atoll_msg msg = number(value);
    return atoll_chan_send(chan, &msg, wait);
}

/* The number received, or minus the error. The message is consumed without
 * counting as a drop. */
static inline int64_t
recv_number(atoll_chan *chan, const atoll_wait *wait)
{
    atoll_msg msg;
    atoll_err err = atoll_chan_recv(chan, &msg, wait);
    return err == ATOLL_OK ? msg.u.i64 : -(int64_t)err;
}

/* ------------------------------------------------- a look into the queues */

/* How many stand in `q`, a queue of `chan`. */
static inline unsigned
waiting(atoll_chan *chan, const at_waitq *q)
{
    unsigned count = 0;
    atoll_lock_acquire(&chan->lock);
    for (const at_node *node = q->first; node != NULL; node = node->next) {
        count++;
    }
    atoll_lock_release(&chan->lock);
    return count;
}

/* How many of them sleep: 1 is the state PARKED of at_wait.c. */
static inline unsigned
parked(atoll_chan *chan, const at_waitq *q)
{
    unsigned count = 0;
    atoll_lock_acquire(&chan->lock);
    for (const at_node *node = q->first; node != NULL; node = node->next) {
        count += at_load_rlx(&node->waiter->state) == 1;
    }
    atoll_lock_release(&chan->lock);
    return count;
}

#endif
