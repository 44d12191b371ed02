/* What can be seen from outside: who waits through a kick, what a channel has, how
 * many threads there are. */
#include <sys/eventfd.h>

#include "helper.h"

/* A wait is seen once it sleeps, and not any more once it is served, kicked or
 * over, whether its thread has woken up or not. */
typedef struct sleeper {
    atoll_event event;
    atoll_kick kick;
    atoll_err err;
    int event_fd; /* or -1 */
    int64_t ms;   /* 0: for ever */
} sleeper;

static void *
sleep_on_event(void *arg)
{
    sleeper *s = arg;
    atoll_spin spin = {.skip = 1};
    atoll_wait wait = {.deadline = ATOLL_FOREVER,
                       .kick = &s->kick,
                       .spin = &spin,
                       .use_fds = s->event_fd >= 0,
                       .event_fd = s->event_fd,
                       .intr_fd = -1};
    if (s->ms > 0) {
        wait.deadline = atoll_now() + s->ms * MS;
    }
    s->err = atoll_event_wait(&s->event, &wait);
    return NULL;
}

static void
kick_waits(void)
{
    int fd = eventfd(0, EFD_NONBLOCK);
    for (int round = 0; round < 60; round++) {
        sleeper s = {.event_fd = round % 2 ? fd : -1, .ms = round % 3 == 2};
        CHECK(!atoll_kick_waits(&s.kick));
        pthread_t thread = start(sleep_on_event, &s);
        if (round % 3 != 2) {
            UNTIL(atoll_kick_waits(&s.kick));
        }
        if (round % 3 == 0) {
            atoll_event_set(&s.event);
            CHECK(!atoll_kick_waits(&s.kick)); /* at once */
        }
        else if (round % 3 == 1) {
            atoll_kick_set(&s.kick);
            CHECK(!atoll_kick_waits(&s.kick));
        }
        else { /* late, at about this moment */
            atoll_kick_waits(&s.kick);
        }
        join(thread);
        CHECK(!atoll_kick_waits(&s.kick));
        CHECK(s.err == (round % 3 == 0   ? ATOLL_OK
                        : round % 3 == 1 ? ATOLL_ERR_INTERRUPTED
                                         : ATOLL_ERR_TIMEOUT));
    }
    close(fd);
}

/* Somebody looks all the time: nothing but the answer comes of it. */
enum { ROUNDS = 3000 };
static uint32_t over; /* atomic */

static void *
look_all_the_time(void *arg)
{
    atoll_kick *kick = arg;
    uint64_t seen = 0;
    while (!at_load_acq(&over)) {
        seen += atoll_kick_waits(kick);
    }
    printf("# seen asleep %llu times\n", (unsigned long long)seen);
    return NULL;
}

static void *
echo(void *arg)
{
    atoll_chan **chans = arg;
    atoll_msg msg;
    for (int i = 0; i < ROUNDS; i++) {
        CHECK(atoll_chan_recv(chans[0], &msg, &for_ever) == ATOLL_OK);
        CHECK(atoll_chan_send(chans[1], &msg, &for_ever) == ATOLL_OK);
    }
    return NULL;
}

static void
looked_at_while_served(void)
{
    atoll_chan *chans[2];
    atoll_kick kick = {.set = 0};
    CHECK(atoll_chan_new(0, 1, &chans[0]) == ATOLL_OK);
    CHECK(atoll_chan_new(0, 1, &chans[1]) == ATOLL_OK);
    pthread_t looker = start(look_all_the_time, &kick);
    pthread_t other = start(echo, chans);
    atoll_wait wait = {.deadline = ATOLL_FOREVER, .kick = &kick};
    for (int i = 0; i < ROUNDS; i++) {
        atoll_msg msg = {.group = -1, .u.i64 = i};
        CHECK(atoll_chan_send(chans[0], &msg, &wait) == ATOLL_OK);
        CHECK(atoll_chan_recv(chans[1], &msg, &wait) == ATOLL_OK);
        CHECK(msg.u.i64 == i);
    }
    at_store_rel(&over, 1);
    join(other);
    join(looker);
    atoll_chan_unref(chans[0]);
    atoll_chan_unref(chans[1]);
}

static void *
receive_one(void *arg)
{
    atoll_msg msg;
    CHECK(atoll_chan_recv(arg, &msg, &for_ever) == ATOLL_ERR_CLOSED);
    return NULL;
}

static void *
send_one(void *arg)
{
    atoll_msg msg = {.group = -1};
    CHECK(atoll_chan_send(arg, &msg, &for_ever) == ATOLL_ERR_CLOSED);
    return NULL;
}

static void
facts_of_a_channel(void)
{
    atoll_chan *chan;
    atoll_chan_facts facts;
    CHECK(atoll_chan_new(1, 1, &chan) == ATOLL_OK);
    atoll_chan_look(chan, &facts);
    CHECK(facts.len == 0 && facts.refs == 1 && !facts.closed);
    CHECK(facts.ends[0] == 0 && facts.ends[1] == 0);
    atoll_chan_end_ref(chan, ATOLL_END_SEND);
    atoll_chan_end_ref(chan, ATOLL_END_RECV);
    atoll_chan_end_ref(chan, ATOLL_END_RECV);
    atoll_chan_ref(chan);

    pthread_t threads[3];
    for (int i = 0; i < 3; i++) {
        threads[i] = start(receive_one, chan);
    }
    do {
        atoll_chan_look(chan, &facts);
    } while (facts.waiting[ATOLL_END_RECV] < 3);
    CHECK(facts.waiting[ATOLL_END_SEND] == 0 && facts.len == 0);
    CHECK(facts.ends[ATOLL_END_SEND] == 1 && facts.ends[ATOLL_END_RECV] == 2);
    CHECK(facts.refs == 2);
    atoll_chan_close(chan, false);
    for (int i = 0; i < 3; i++) {
        join(threads[i]);
    }
    atoll_chan_look(chan, &facts);
    CHECK(facts.closed && facts.waiting[ATOLL_END_RECV] == 0);
    atoll_chan_unref(chan);
    atoll_chan_unref(chan);

    CHECK(atoll_chan_new(1, 1, &chan) == ATOLL_OK);
    atoll_msg msg = {.group = -1};
    CHECK(atoll_chan_send(chan, &msg, &try_once) == ATOLL_OK);
    threads[0] = start(send_one, chan);
    do {
        atoll_chan_look(chan, &facts);
    } while (facts.waiting[ATOLL_END_SEND] < 1);
    CHECK(facts.len == 1);
    atoll_chan_close(chan, true);
    join(threads[0]);
    atoll_chan_unref(chan);
}

static void *
stay(void *arg)
{
    CHECK(atoll_thread_count() >= 1);
    CHECK(atoll_event_wait(arg, &for_ever) == ATOLL_OK);
    return arg;
}

static void
threads(void)
{
    atoll_event leave = {.is_set = 0};
    atoll_thread ours[4];
    uint32_t before = atoll_thread_count();
    uint32_t all = atoll_thread_count_all();
    CHECK(all > before);
    for (int i = 0; i < 4; i++) {
        CHECK(atoll_thread_start(1 << 16, stay, &leave, &ours[i]) == ATOLL_OK);
    }
    UNTIL(atoll_thread_count() == before + 4);
    CHECK(atoll_thread_count_all() >= all + 4);
    sleeper s = {.event_fd = -1};
    pthread_t other = start(sleep_on_event, &s);
    UNTIL(atoll_kick_waits(&s.kick));
    CHECK(atoll_thread_count() == before + 4); /* not one of ours */
    CHECK(atoll_thread_count_all() >= all + 5);
    atoll_event_set(&s.event);
    atoll_event_set(&leave);
    join(other);
    for (int i = 0; i < 4; i++) {
        atoll_thread_join(ours[i]);
    }
    CHECK(atoll_thread_count() == before);
}

int
main(void)
{
    TAP_BEGIN(60);
    RUN(kick_waits);
    RUN(looked_at_while_served);
    RUN(facts_of_a_channel);
    RUN(threads);
    TAP_END();
}
