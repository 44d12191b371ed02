/* Bad luck from the operating system. The linker puts the functions below
 * between the core and its port (see meson.build): sleep ends for no reason or
 * begins late, and wake-ups come long after the state has changed. */
#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <sys/eventfd.h>

#include "at_port.h"
#include "helper.h"

at_park __real_at_port_park(uint32_t *word, uint32_t expected, int64_t until);
at_park __real_at_port_park_fds(int event_fd, int intr_fd, int64_t deadline);
void __real_at_port_wake(uint32_t *word, int count);
void __real_at_port_wake_fd(int event_fd);
at_park __wrap_at_port_park(uint32_t *word, uint32_t expected, int64_t until);
at_park __wrap_at_port_park_fds(int event_fd, int intr_fd, int64_t deadline);
void __wrap_at_port_wake(uint32_t *word, int count);
void __wrap_at_port_wake_fd(int event_fd);

/* What goes wrong now. Changed while no other thread runs. */
static bool spurious;      /* sleep ends soon, or at once */
static bool sleepy;        /* sleep may begin late */
static long wake_delay_us; /* a wake-up takes so long */
static uint64_t luck;      /* atomic */

static uint32_t
chance(void)
{
    /* A weak generator; it only has to be shared and cheap. */
    uint64_t x = at_add_rlx(&luck, UINT64_C(0x9e3779b97f4a7c15));
    x = (x ^ x >> 31) * UINT64_C(0xbf58476d1ce4e5b9);
    return (uint32_t)(x >> 40);
}

#define RESTLESS_NS 50000

/* How long to sleep really; ATOLL_NOW for not at all. */
static int64_t
sleep_until(int64_t deadline)
{
    if (sleepy && chance() % 4 == 0) {
        sleep_us(chance() % 100);
    }
    if (!spurious) {
        return deadline;
    }
    int64_t soon = chance() % 2 ? atoll_now() + RESTLESS_NS : ATOLL_NOW;
    return soon < deadline ? soon : deadline;
}

/* Nobody is told that it was our time that ran out. */
static at_park
reason(at_park why, int64_t deadline)
{
    return why == AT_PARK_TIMEOUT && atoll_now() < deadline ? AT_PARK_WOKEN : why;
}

at_park
__wrap_at_port_park(uint32_t *word, uint32_t expected, int64_t until)
{
    int64_t real = sleep_until(until);
    return real == ATOLL_NOW ? AT_PARK_WOKEN
                             : reason(__real_at_port_park(word, expected, real), until);
}

at_park
__wrap_at_port_park_fds(int event_fd, int intr_fd, int64_t deadline)
{
    int64_t real = sleep_until(deadline);
    return reason(__real_at_port_park_fds(event_fd, intr_fd, real), deadline);
}

void
__wrap_at_port_wake(uint32_t *word, int count)
{
    if (wake_delay_us > 0) {
        sleep_us(wake_delay_us);
    }
    __real_at_port_wake(word, count);
}

void
__wrap_at_port_wake_fd(int event_fd)
{
    if (wake_delay_us > 0) {
        sleep_us(wake_delay_us);
    }
    __real_at_port_wake_fd(event_fd);
}

static void
faults(bool with_spurious, bool with_sleepy, long delay)
{
    spurious = with_spurious;
    sleepy = with_sleepy;
    wake_delay_us = delay;
}

/* -------------------------------------------------------------------- tests */

typedef struct job {
    atoll_chan *chan;
    atoll_event *event;
    atoll_kick *kick;
} job;

static void *
serve_parked(void *arg)
{
    job *j = arg;
    UNTIL(parked(j->chan, &j->chan->recvq) == 1);
    if (j->kick != NULL) {
        atoll_kick_set(j->kick);
    }
    else {
        CHECK(send_number(j->chan, 7, &for_ever) == ATOLL_OK);
    }
    return NULL;
}

/* The waiter sees that it was served before the server has written to its
 * eventfd. If it returned now and closed it, the write would go to whatever
 * gets the number next: here a pipe. */
static void
no_event_after_the_return(void)
{
    faults(true, false, 2000);
    for (int i = 0; i < 40; i++) {
        int event_fd = eventfd(0, EFD_NONBLOCK), intr[2], victim[2];
        CHECK(pipe(intr) == 0);
        atoll_kick kick = {.set = 0};
        job j = {.chan = new_chan(0), .kick = i % 2 ? &kick : NULL};
        atoll_wait wait = {.deadline = ATOLL_FOREVER,
                           .kick = &kick,
                           .use_fds = true,
                           .event_fd = event_fd,
                           .intr_fd = intr[0]};
        pthread_t server = start(serve_parked, &j);
        int64_t got = recv_number(j.chan, &wait);
        CHECK(got == (i % 2 ? -ATOLL_ERR_INTERRUPTED : 7));
        /* The eventfd's number goes to the end of a pipe that is written. */
        CHECK(pipe(victim) == 0);
        CHECK(dup2(victim[1], event_fd) == event_fd);
        join(server);
        char byte;
        CHECK(fcntl(victim[0], F_SETFL, O_NONBLOCK) == 0);
        CHECK(read(victim[0], &byte, 1) == -1 && errno == EAGAIN);
        int all[] = {event_fd, intr[0], intr[1], victim[0], victim[1]};
        for (int k = 0; k < 5; k++) {
            close(all[k]);
        }
        atoll_chan_unref(j.chan);
    }
}

/* On a futex the late wake-up meets memory that is gone: only its address is
 * used, and somebody else may wake for nothing. */
static void *
set_event(void *arg)
{
    job *j = arg;
    sleep_us(200);
    atoll_event_set(j->event);
    return NULL;
}

static void
late_wake_of_freed_memory(void)
{
    faults(true, false, 1000);
    for (int i = 0; i < 60; i++) {
        job j = {.event = calloc(1, sizeof(atoll_event))};
        pthread_t setter = start(set_event, &j);
        CHECK(atoll_event_wait(j.event, &for_ever) == ATOLL_OK);
        memset(j.event, 0xee, sizeof(*j.event));
        free(j.event);
        join(setter);
    }
}

/* Kept awake again and again, a wait does not end before its time, nor does
 * it end otherwise. */
static void
spurious_returns_are_not_results(void)
{
    faults(true, true, 0);
    int event_fd = eventfd(0, EFD_NONBLOCK);
    atoll_chan *chan = new_chan(0);
    for (int i = 0; i < 20; i++) {
        atoll_wait wait = within_ms(3);
        wait.use_fds = i % 2;
        wait.event_fd = event_fd;
        wait.intr_fd = -1;
        CHECK(recv_number(chan, &wait) == -ATOLL_ERR_TIMEOUT);
        CHECK(atoll_now() >= wait.deadline);
    }
    close(event_fd);
    atoll_chan_unref(chan);
}

/* Everything at once: the lock, and messages in order through channels. */
static atoll_lock lock;
static int inside, total; /* plain: guarded by lock */

static void *
count_under_lock(void *arg)
{
    (void)arg;
    for (int i = 0; i < 3000; i++) {
        atoll_lock_acquire(&lock);
        CHECK(inside++ == 0);
        total++;
        if (i % 64 == 0) {
            sched_yield();
        }
        CHECK(--inside == 0);
        atoll_lock_release(&lock);
    }
    return NULL;
}

static void
lock_excludes(void)
{
    for (int delay = 0; delay < 2; delay++) {
        faults(true, true, delay);
        total = 0;
        pthread_t threads[4];
        for (int i = 0; i < 4; i++) {
            threads[i] = start(count_under_lock, NULL);
        }
        for (int i = 0; i < 4; i++) {
            join(threads[i]);
        }
        CHECK(total == 4 * 3000 && lock.word == 0);
    }
}

enum { NUMBERS = 600 };

static void *
echo(void *arg)
{
    atoll_chan **pair = arg;
    int event_fd = eventfd(0, EFD_NONBLOCK);
    atoll_wait wait = {.deadline = ATOLL_FOREVER, .intr_fd = -1};
    wait.event_fd = event_fd;
    for (int i = 0; i < NUMBERS; i++) {
        wait.use_fds = i / 8 % 2;
        CHECK(recv_number(pair[0], &wait) == i);
        CHECK(send_number(pair[1], i, &wait) == ATOLL_OK);
    }
    uint64_t count;
    CHECK(read(event_fd, &count, sizeof(count)) == -1 && errno == EAGAIN);
    close(event_fd);
    return NULL;
}

static void
no_wake_up_is_lost(void)
{
    for (size_t capacity = 0; capacity < 2; capacity++) {
        for (int i = 1; i < 8; i++) {
            faults(i & 1, i & 2, i & 4 ? 20 : 0);
            atoll_chan *pair[] = {new_chan(capacity), new_chan(capacity)};
            pthread_t thread = start(echo, pair);
            for (int k = 0; k < NUMBERS; k++) {
                CHECK(send_number(pair[0], k, &for_ever) == ATOLL_OK);
                CHECK(recv_number(pair[1], &for_ever) == k);
            }
            join(thread);
            atoll_chan_unref(pair[0]);
            atoll_chan_unref(pair[1]);
        }
    }
}

int
main(void)
{
    TAP_BEGIN(90);
    RUN(no_event_after_the_return);
    RUN(late_wake_of_freed_memory);
    RUN(spurious_returns_are_not_results);
    RUN(lock_excludes);
    RUN(no_wake_up_is_lost);
    TAP_END();
}
