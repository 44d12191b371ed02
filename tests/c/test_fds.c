/* Waiting through descriptors: an eventfd that wakes and a pipe that
 * interrupts, as a signal handler does it. */
#include <errno.h>
#include <fcntl.h>
#include <sys/eventfd.h>

#include "helper.h"

static int event_fd, intr[2];

static atoll_wait
fd_wait(int64_t deadline)
{
    return (atoll_wait){.deadline = deadline,
                        .use_fds = true,
                        .event_fd = event_fd,
                        .intr_fd = intr[0]};
}

static void
interrupt(void)
{
    CHECK(write(intr[1], "x", 1) == 1);
}

/* Bytes taken out of the interrupt pipe. */
static int
drain_intr(void)
{
    char buffer[64];
    ssize_t got = read(intr[0], buffer, sizeof(buffer));
    return got > 0 ? (int)got : 0;
}

static bool
event_fd_is_empty(void)
{
    uint64_t count;
    return read(event_fd, &count, sizeof(count)) == -1 && errno == EAGAIN;
}

static void
open_all(void)
{
    event_fd = eventfd(0, EFD_NONBLOCK);
    CHECK(event_fd >= 0 && pipe(intr) == 0);
    CHECK(fcntl(intr[0], F_SETFL, O_NONBLOCK) == 0);
}

static void
interrupt_before(void)
{
    atoll_chan *empty = new_chan(1), *full = new_chan(0);
    atoll_event event = {.is_set = 0};
    atoll_wait wait = fd_wait(ATOLL_FOREVER);
    interrupt();
    for (int i = 0; i < 2; i++) { /* it is left in the pipe */
        CHECK(recv_number(empty, &wait) == -ATOLL_ERR_INTERRUPTED);
        CHECK(send_number(full, 1, &wait) == ATOLL_ERR_INTERRUPTED);
        CHECK(atoll_event_wait(&event, &wait) == ATOLL_ERR_INTERRUPTED);
    }
    /* What need not wait is not interrupted. */
    CHECK(send_number(empty, 7, &wait) == ATOLL_OK);
    CHECK(recv_number(empty, &wait) == 7);
    CHECK(drain_intr() == 1);
    wait.deadline = atoll_now() + 3 * MS;
    CHECK(recv_number(empty, &wait) == -ATOLL_ERR_TIMEOUT);
    CHECK(empty->recvq.first == NULL && full->sendq.first == NULL);
    CHECK(event_fd_is_empty());
    atoll_chan_unref(empty);
    atoll_chan_unref(full);
}

static void
on_signal(int sig)
{
    (void)sig;
    ssize_t put = write(intr[1], "s", 1);
    (void)put;
}

typedef struct victim {
    atoll_chan *chan;
    pthread_t thread;
    atoll_kick kick;
    uint32_t pace; /* atomic: something to read while time passes */
} victim;

static void *
signal_when_parked(void *arg)
{
    victim *v = arg;
    UNTIL(parked(v->chan, &v->chan->recvq) == 1);
    pthread_kill(v->thread, SIGUSR1);
    return NULL;
}

static void *
signal_another_thread(void *arg)
{
    victim *v = arg;
    UNTIL(parked(v->chan, &v->chan->recvq) == 1);
    pthread_kill(pthread_self(), SIGUSR1); /* runs here, ends the wait there */
    return NULL;
}

static void
signal_during(void)
{
    void *(*how[])(void *) = {signal_when_parked, signal_another_thread};
    struct sigaction action = {.sa_handler = on_signal};
    sigaction(SIGUSR1, &action, NULL);
    atoll_chan *chan = new_chan(0);
    for (int i = 0; i < 40; i++) {
        victim v = {.chan = chan, .thread = pthread_self()};
        atoll_wait wait = fd_wait(ATOLL_FOREVER);
        pthread_t thread = start(how[i % 2], &v);
        CHECK(recv_number(chan, &wait) == -ATOLL_ERR_INTERRUPTED);
        join(thread);
        CHECK(drain_intr() == 1);
        CHECK(waiting(chan, &chan->recvq) == 0);
    }
    atoll_chan_unref(chan);
}

static void
ignored(int sig)
{
    (void)sig;
}

static void *
signal_often(void *arg)
{
    victim *v = arg;
    for (int i = 0; i < 20; i++) {
        UNTIL(parked(v->chan, &v->chan->recvq) == 1);
        sleep_us(500);
        pthread_kill(v->thread, SIGUSR2);
    }
    CHECK(send_number(v->chan, 9, &for_ever) == ATOLL_OK);
    return NULL;
}

/* A signal whose handler does not write is no reason to end the wait. */
static void
other_signals_do_not_end_it(void)
{
    struct sigaction action = {.sa_handler = ignored};
    sigaction(SIGUSR2, &action, NULL);
    atoll_chan *chan = new_chan(1);
    victim v = {.chan = chan, .thread = pthread_self()};
    for (int with_fds = 0; with_fds < 2; with_fds++) {
        atoll_wait wait = fd_wait(ATOLL_FOREVER);
        wait.use_fds = with_fds;
        pthread_t thread = start(signal_often, &v);
        CHECK(recv_number(chan, &wait) == 9);
        join(thread);
    }
    CHECK(event_fd_is_empty());
    atoll_chan_unref(chan);
}

static void *
kick_when_parked(void *arg)
{
    victim *v = arg;
    UNTIL(parked(v->chan, &v->chan->recvq) == 1);
    atoll_kick_set(&v->kick);
    return NULL;
}

static void
kick_during(void)
{
    atoll_chan *chan = new_chan(0);
    for (int i = 0; i < 50; i++) {
        victim v = {.chan = chan};
        atoll_wait wait = fd_wait(ATOLL_FOREVER);
        wait.kick = &v.kick;
        pthread_t thread = start(kick_when_parked, &v);
        CHECK(recv_number(chan, &wait) == -ATOLL_ERR_INTERRUPTED);
        CHECK(event_fd_is_empty());
        join(thread);
        CHECK(event_fd_is_empty());
        CHECK(waiting(chan, &chan->recvq) == 0);
    }
    atoll_chan_unref(chan);
}

/* Messages, deadlines and interrupts at the same moment. Each number arrives
 * once and in order, and each wait leaves the eventfd empty. */
enum { NUMBERS = 3000 };

static void *
send_numbers(void *arg)
{
    victim *v = arg;
    uint64_t seed = 1;
    for (int i = 0; i < NUMBERS; i++) {
        for (uint32_t k = next_random(&seed) % 4096; k > 0; k--) {
            at_load_acq(&v->pace);
        }
        if (i % 50 == 0) {
            sleep_us(100);
        }
        if (i % 10 == 0) {
            interrupt();
        }
        CHECK(send_number(v->chan, i, &for_ever) == ATOLL_OK);
    }
    return NULL;
}

static void
all_at_once(void)
{
    int outcomes[2] = {0, 0};
    uint64_t seed = 2;
    victim v = {.chan = new_chan(0)};
    pthread_t thread = start(send_numbers, &v);
    for (int i = 0; i < NUMBERS;) {
        atoll_wait wait = fd_wait(atoll_now() + next_random(&seed) % 200000);
        int64_t got = recv_number(v.chan, &wait);
        if (got >= 0) {
            CHECK(got == i);
            i++;
        }
        else if (got == -ATOLL_ERR_INTERRUPTED) {
            CHECK(drain_intr() > 0);
            outcomes[0]++;
        }
        else {
            CHECK(got == -ATOLL_ERR_TIMEOUT);
            outcomes[1]++;
        }
        CHECK(event_fd_is_empty());
    }
    join(thread);
    CHECK(event_fd_is_empty());
    drain_intr();
    printf("# interrupted %d, late %d\n", outcomes[0], outcomes[1]);
    atoll_chan_unref(v.chan);
}

int
main(void)
{
    TAP_BEGIN(60);
    open_all();
    RUN(interrupt_before);
    RUN(signal_during);
    RUN(other_signals_do_not_end_it);
    RUN(kick_during);
    RUN(all_at_once);
    TAP_END();
}
