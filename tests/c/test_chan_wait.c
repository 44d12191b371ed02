/* Waiting in channels: who is served first, what ends a wait, and when. */
#include <sched.h>
#include <sys/eventfd.h>

#include "helper.h"

/* --------------------------------------------------- order of the waiters */

enum { CROWD = 6 };

typedef struct person {
    atoll_chan *chan;
    atoll_wait wait;
    int64_t value; /* to send, or received */
    atoll_err err;
    uint32_t done; /* atomic */
} person;

static void *
receive_one(void *arg)
{
    person *p = arg;
    atoll_msg msg;
    p->err = atoll_chan_recv(p->chan, &msg, &p->wait);
    if (p->err == ATOLL_OK) {
        p->value = msg.u.i64;
    }
    at_store_rel(&p->done, 1);
    return NULL;
}

static void *
send_one(void *arg)
{
    person *p = arg;
    atoll_msg msg = number(p->value);
    p->err = atoll_chan_send(p->chan, &msg, &p->wait);
    CHECK(msg.drop == count_drop && msg.u.i64 == p->value);
    at_store_rel(&p->done, 1);
    return NULL;
}

/* Let them queue up one after the other and fall asleep. */
static void
line_up(person *people, pthread_t *threads, void *(*body)(void *), atoll_chan *chan,
        at_waitq *q)
{
    for (unsigned i = 0; i < CROWD; i++) {
        people[i].chan = chan;
        people[i].wait = for_ever;
        if (body == send_one) {
            people[i].value = i + 100;
        }
        threads[i] = start(body, &people[i]);
        UNTIL(waiting(chan, q) == i + 1);
    }
    UNTIL(parked(chan, q) == CROWD);
}

static void
receivers_in_order(void)
{
    size_t capacities[] = {0, 3, ATOLL_UNBOUNDED};
    for (int k = 0; k < 3; k++) {
        atoll_chan *chan = new_chan(capacities[k]);
        person people[CROWD] = {{0}};
        pthread_t threads[CROWD];
        line_up(people, threads, receive_one, chan, &chan->recvq);
        for (int i = 0; i < CROWD; i++) {
            CHECK(send_number(chan, i, &try_once) == ATOLL_OK);
        }
        for (int i = 0; i < CROWD; i++) {
            join(threads[i]);
            CHECK(people[i].err == ATOLL_OK && people[i].value == i);
        }
        CHECK(atoll_chan_len(chan) == 0);
        atoll_chan_unref(chan);
    }
}

static void
senders_in_order(void)
{
    size_t capacities[] = {0, 3, 16};
    for (int k = 0; k < 3; k++) {
        size_t capacity = capacities[k];
        atoll_chan *chan = new_chan(capacity);
        person people[CROWD] = {{0}};
        pthread_t threads[CROWD];
        for (size_t i = 0; i < capacity; i++) {
            CHECK(send_number(chan, (int64_t)i, &try_once) == ATOLL_OK);
        }
        line_up(people, threads, send_one, chan, &chan->sendq);
        CHECK(send_number(chan, 1, &try_once) == ATOLL_ERR_AGAIN);
        for (size_t i = 0; i < capacity; i++) {
            CHECK(recv_number(chan, &try_once) == (int64_t)i);
        }
        for (int i = 0; i < CROWD; i++) {
            /* Just so many are served as there are places. */
            UNTIL(waiting(chan, &chan->sendq) + (unsigned)capacity ==
                      (unsigned)(CROWD - i) ||
                  waiting(chan, &chan->sendq) == 0);
            CHECK(recv_number(chan, &try_once) == i + 100);
        }
        for (int i = 0; i < CROWD; i++) {
            join(threads[i]);
            CHECK(people[i].err == ATOLL_OK);
        }
        CHECK(recv_number(chan, &try_once) == -ATOLL_ERR_AGAIN);
        atoll_chan_unref(chan);
    }
}

/* A rendezvous: the send is not over before somebody has the message. */
static void
rendezvous(void)
{
    atoll_chan *chan = new_chan(0);
    person p = {.chan = chan, .wait = for_ever, .value = 5};
    pthread_t thread = start(send_one, &p);
    UNTIL(parked(chan, &chan->sendq) == 1);
    sleep_us(20000);
    CHECK(at_load_acq(&p.done) == 0 && atoll_chan_len(chan) == 0);
    CHECK(recv_number(chan, &try_once) == 5);
    join(thread);
    CHECK(p.err == ATOLL_OK);
    atoll_chan_unref(chan);
}

/* Who gives up in the middle of the queue loses nothing for the others. */
static void
leaving_the_queue(void)
{
    for (int sending = 0; sending < 2; sending++) {
        atoll_chan *chan = new_chan(0);
        at_waitq *q = sending ? &chan->sendq : &chan->recvq;
        void *(*body)(void *) = sending ? send_one : receive_one;
        person people[3] = {{0}};
        pthread_t threads[3];
        for (unsigned i = 0; i < 3; i++) {
            people[i] = (person){.chan = chan, .wait = for_ever, .value = i};
            if (i == 1) {
                people[i].wait = within_ms(20);
            }
            threads[i] = start(body, &people[i]);
            /* The second may be gone before the third comes. */
            UNTIL(waiting(chan, q) + at_load_acq(&people[1].done) == i + 1);
        }
        join(threads[1]);
        CHECK(people[1].err == ATOLL_ERR_TIMEOUT && waiting(chan, q) == 2);
        for (int i = 0; i < 3; i += 2) {
            if (sending) {
                CHECK(recv_number(chan, &try_once) == i);
            }
            else {
                CHECK(send_number(chan, i, &try_once) == ATOLL_OK);
            }
            join(threads[i]);
            CHECK(people[i].err == ATOLL_OK && people[i].value == i);
        }
        atoll_chan_unref(chan);
    }
}

static void
close_wakes(void)
{
    for (int discard = 0; discard < 2; discard++) {
        atoll_chan *chan = new_chan(2);
        person people[CROWD] = {{0}};
        pthread_t threads[CROWD];
        line_up(people, threads, receive_one, chan, &chan->recvq);
        CHECK(atoll_chan_close(chan, discard));
        for (int i = 0; i < CROWD; i++) {
            join(threads[i]);
            CHECK(people[i].err == ATOLL_ERR_CLOSED);
        }
        atoll_chan_unref(chan);

        chan = new_chan(2);
        drops = 0;
        CHECK(send_number(chan, 1, &try_once) == ATOLL_OK);
        CHECK(send_number(chan, 2, &try_once) == ATOLL_OK);
        line_up(people, threads, send_one, chan, &chan->sendq);
        CHECK(atoll_chan_close(chan, discard));
        for (int i = 0; i < CROWD; i++) {
            join(threads[i]); /* send_one checks that it kept its message */
            CHECK(people[i].err == ATOLL_ERR_CLOSED);
        }
        CHECK(drops == (discard ? 2 : 0));
        CHECK(atoll_chan_len(chan) == (discard ? 0 : 2));
        atoll_chan_unref(chan);
        CHECK(drops == 2);
    }
}

/* ---------------------------------------------------------------- deadlines */

static atoll_err
wait_somewhere(int where, atoll_chan *empty, atoll_chan *full, const atoll_wait *wait)
{
    atoll_event event = {.is_set = 0};
    atoll_msg msg = number(1);
    switch (where) {
    case 0:
        return atoll_chan_recv(empty, &msg, wait);
    case 1:
        return atoll_chan_send(full, &msg, wait);
    default:
        return atoll_event_wait(&event, wait);
    }
}

enum { PLACES = 3 };

/* Never early, and not much later; the best of many tries is what counts, since
 * this machine may be busy with something else. */
static void
deadlines(void)
{
    atoll_chan *empty = new_chan(1), *full = new_chan(0);
    int event_fd = eventfd(0, EFD_NONBLOCK);
    for (int where = 0; where < 2 * PLACES; where++) {
        int64_t best = INT64_MAX;
        for (int i = 0; i < 400 && best > 8 * MS; i++) {
            atoll_wait wait = within_ms(10);
            wait.use_fds = where >= PLACES;
            wait.event_fd = event_fd;
            wait.intr_fd = -1;
            CHECK(wait_somewhere(where % PLACES, empty, full, &wait) ==
                  ATOLL_ERR_TIMEOUT);
            int64_t late = atoll_now() - wait.deadline;
            CHECK(late >= 0);
            best = late < best ? late : best;
        }
        CHECK(best <= 8 * MS);
    }
    close(event_fd);
    atoll_chan_unref(empty);
    atoll_chan_unref(full);
}

static void
waiting_costs_no_cpu(void)
{
    atoll_chan *empty = new_chan(1), *full = new_chan(0);
    int event_fd = eventfd(0, EFD_NONBLOCK);
    for (int where = 0; where < 2 * PLACES; where++) {
        int64_t before = cpu_time();
        atoll_wait wait = within_ms(100);
        wait.use_fds = where >= PLACES;
        wait.event_fd = event_fd;
        wait.intr_fd = -1;
        CHECK(wait_somewhere(where % PLACES, empty, full, &wait) == ATOLL_ERR_TIMEOUT);
        CHECK(cpu_time() - before < 20 * MS);
    }
    close(event_fd);
    atoll_chan_unref(empty);
    atoll_chan_unref(full);
}

/* -------------------------------------------------------------------- kicks */

static void
kick_before(void)
{
    atoll_chan *empty = new_chan(1), *full = new_chan(0);
    atoll_kick kick = {.set = 0};
    for (int where = 0; where < PLACES; where++) {
        atoll_wait wait = {.deadline = ATOLL_FOREVER, .kick = &kick};
        atoll_kick_set(&kick);
        for (int i = 0; i < 2; i++) { /* it stays until it is cleared */
            CHECK(wait_somewhere(where, empty, full, &wait) == ATOLL_ERR_INTERRUPTED);
        }
        atoll_kick_clear(&kick);
        wait.deadline = atoll_now() + 2 * MS;
        CHECK(wait_somewhere(where, empty, full, &wait) == ATOLL_ERR_TIMEOUT);
        CHECK(kick.now == NULL && kick.set == 0);
    }
    /* What need not wait is not interrupted. */
    atoll_wait wait = {.deadline = ATOLL_FOREVER, .kick = &kick};
    atoll_kick_set(&kick);
    CHECK(send_number(empty, 1, &wait) == ATOLL_OK);
    CHECK(recv_number(empty, &wait) == 1);
    CHECK(empty->recvq.first == NULL && full->sendq.first == NULL);
    atoll_chan_unref(empty);
    atoll_chan_unref(full);
}

static void
kick_during(void)
{
    for (int sending = 0; sending < 2; sending++) {
        atoll_chan *chan = new_chan(0);
        at_waitq *q = sending ? &chan->sendq : &chan->recvq;
        for (int i = 0; i < 50; i++) {
            atoll_kick kick = {.set = 0};
            person p = {.chan = chan, .value = 3};
            p.wait = (atoll_wait){.deadline = ATOLL_FOREVER, .kick = &kick};
            pthread_t thread = start(sending ? send_one : receive_one, &p);
            if (i % 2 == 0) {
                UNTIL(parked(chan, q) == 1);
            }
            else {
                sleep_us(i * 3);
            }
            atoll_kick_set(&kick);
            join(thread);
            CHECK(p.err == ATOLL_ERR_INTERRUPTED && kick.now == NULL);
            CHECK(waiting(chan, q) == 0);
        }
        CHECK(send_number(chan, 1, &try_once) == ATOLL_ERR_AGAIN);
        CHECK(recv_number(chan, &try_once) == -ATOLL_ERR_AGAIN);
        atoll_chan_unref(chan);
    }
}

/* Kick and message at once: whoever is interrupted has no message, and then
 * it is still where it was. */
static uint32_t ready, go; /* atomic */

static void *
send_on_go(void *arg)
{
    at_store_rel(&ready, 1);
    while (at_load_acq(&go) == 0) {
        sched_yield();
    }
    return send_one(arg);
}

static void
kick_against_send(void)
{
    int interrupted = 0, served = 0;
    uint64_t seed = 4;
    for (int i = 0; i < 600; i++) {
        atoll_chan *chan = new_chan(1);
        atoll_kick kick = {.set = 0};
        person p = {.chan = chan}, s = {.chan = chan, .value = i};
        p.wait = (atoll_wait){.deadline = ATOLL_FOREVER, .kick = &kick};
        ready = go = 0;
        pthread_t sender = start(send_on_go, &s);
        pthread_t thread = start(receive_one, &p);
        if (i % 4 != 0) {
            UNTIL(waiting(chan, &chan->recvq) == 1);
        }
        UNTIL(at_load_acq(&ready));
        at_store_rel(&go, 1);
        if (i % 3 == 0) {
            sched_yield(); /* on one processor it takes that */
        }
        for (uint32_t k = next_random(&seed) % 20000; k > 0; k--) {
            at_load_acq(&s.done);
        }
        atoll_kick_set(&kick);
        join(thread);
        join(sender);
        CHECK(s.err == ATOLL_OK);
        if (p.err == ATOLL_OK) {
            CHECK(p.value == i && atoll_chan_len(chan) == 0);
            served++;
        }
        else {
            CHECK(p.err == ATOLL_ERR_INTERRUPTED);
            CHECK(recv_number(chan, &try_once) == i);
            interrupted++;
        }
        atoll_chan_unref(chan);
    }
    printf("# interrupted %d, served %d\n", interrupted, served);
}

int
main(void)
{
    TAP_BEGIN(60);
    RUN(receivers_in_order);
    RUN(senders_in_order);
    RUN(rendezvous);
    RUN(leaving_the_queue);
    RUN(close_wakes);
    RUN(deadlines);
    RUN(waiting_costs_no_cpu);
    RUN(kick_before);
    RUN(kick_during);
    RUN(kick_against_send);
    TAP_END();
}
