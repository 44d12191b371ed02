/* Many senders, many receivers, every capacity; timeouts, kicks, interrupts
 * and closes at random. Each message is delivered once, or dropped by a close
 * that discards, or returned to its sender; and in the order of each sender.
 *
 * ATOLL_STRESS: how many seconds it takes (2). ATOLL_SEED: another run. */
#include <fcntl.h>
#include <sched.h>
#include <sys/eventfd.h>

#include "helper.h"

enum { SENDERS = 4, RECEIVERS = 4, PEOPLE = SENDERS + RECEIVERS };
enum { MAX_SEQ = 1 << 17 }; /* messages of one sender in one round */

/* What became of each message: atomic bytes. */
enum { NEVER = 0, DELIVERED = 1, DROPPED = 2 };
static uint8_t fate[SENDERS][MAX_SEQ];

typedef struct person {
    atoll_chan *chan;
    uint64_t seed;
    int number;        /* of the sender */
    uint32_t accepted; /* by the channel, of this sender; a plain counter */
    uint32_t late, interrupted;
    atoll_kick kick;
    int event_fd, intr[2];
    uint32_t done; /* atomic */
} person;

static person people[PEOPLE];
static uint64_t total_sent, total_late, total_interrupted, rounds;

static void
became(int64_t value, uint8_t what)
{
    uint8_t *place = &fate[value >> 32][value & 0xffffffff];
    CHECK(__atomic_exchange_n(place, what, __ATOMIC_RELAXED) == NEVER);
}

static void
note_drop(atoll_msg *msg)
{
    became(msg->u.i64, DROPPED);
}

/* A wait of one of all kinds. */
static atoll_wait
some_wait(person *p)
{
    uint32_t choice = next_random(&p->seed);
    atoll_wait wait = {.deadline = ATOLL_FOREVER, .kick = &p->kick};
    wait.use_fds = choice & 1;
    wait.event_fd = p->event_fd;
    wait.intr_fd = p->intr[0];
    choice >>= 1;
    switch (choice % 8) {
    case 0:
        wait.deadline = ATOLL_NOW;
        break;
    case 1:
    case 2:
        wait.deadline = atoll_now() + choice / 8 % 50000;
        break;
    case 3:
        wait.deadline = atoll_now() + choice / 8 % 2000000;
        break;
    default:
        break;
    }
    return wait;
}

/* Count an error that may be; false when the channel is closed. */
static bool
go_on_after(person *p, atoll_err err, const atoll_wait *wait)
{
    char buffer[16];
    switch (err) {
    case ATOLL_ERR_AGAIN:
        CHECK(wait->deadline == ATOLL_NOW);
        sched_yield();
        return true;
    case ATOLL_ERR_TIMEOUT:
        CHECK(atoll_now() >= wait->deadline);
        p->late++;
        return true;
    case ATOLL_ERR_INTERRUPTED:
        p->interrupted++;
        while (read(p->intr[0], buffer, sizeof(buffer)) > 0) {
        }
        return true;
    default:
        CHECK(err == ATOLL_ERR_CLOSED);
        return false;
    }
}

static void *
send_many(void *arg)
{
    person *p = arg;
    bool open = true;
    while (open && p->accepted < MAX_SEQ) {
        int64_t value = (int64_t)p->number << 32 | p->accepted;
        atoll_msg msg = {.drop = note_drop, .group = 1, .u.i64 = value};
        msg.orphan = value % 8 == 0 ? ATOLL_ORPHAN_MARK : ATOLL_ORPHAN_KEEP;
        atoll_wait wait = some_wait(p);
        bool closed = atoll_chan_is_closed(p->chan);
        atoll_err err = atoll_chan_send(p->chan, &msg, &wait);
        CHECK(!closed || err == ATOLL_ERR_CLOSED);
        if (err == ATOLL_OK) {
            p->accepted++;
        }
        else {
            CHECK(msg.drop == note_drop && msg.u.i64 == value);
            open = go_on_after(p, err, &wait);
        }
        if (next_random(&p->seed) % 256 == 0) {
            sleep_us(next_random(&p->seed) % 200);
        }
    }
    at_store_rel(&p->done, 1);
    return NULL;
}

static void *
receive_many(void *arg)
{
    person *p = arg;
    int64_t last[SENDERS];
    memset(last, -1, sizeof(last));
    for (bool open = true; open;) {
        atoll_msg msg;
        atoll_wait wait = some_wait(p);
        atoll_err err = atoll_chan_recv(p->chan, &msg, &wait);
        if (err == ATOLL_OK) {
            int64_t who = msg.u.i64 >> 32;
            CHECK(who >= 0 && who < SENDERS && msg.u.i64 > last[who]);
            last[who] = msg.u.i64;
            became(msg.u.i64, DELIVERED);
        }
        else {
            open = go_on_after(p, err, &wait);
        }
        if (next_random(&p->seed) % 256 == 0) {
            sleep_us(next_random(&p->seed) % 200);
        }
    }
    at_store_rel(&p->done, 1);
    return NULL;
}

/* Until `end`, bother somebody now and then. Group 2 has sent nothing, but
 * what is pending is looked through for it. */
static void
bother_until(int64_t end, atoll_chan *chan, uint64_t *seed)
{
    while (atoll_now() < end) {
        if (atoll_chan_len(chan) < 1000) {
            atoll_chan_orphan_all(2);
        }
        person *p = &people[next_random(seed) % PEOPLE];
        if (next_random(seed) % 2) {
            atoll_kick_set(&p->kick);
            sleep_us(next_random(seed) % 20);
            atoll_kick_clear(&p->kick);
        }
        else {
            CHECK(write(p->intr[1], "x", 1) == 1);
        }
        sleep_us(next_random(seed) % 300);
    }
}

static void
check_fates(bool discard)
{
    for (int i = 0; i < SENDERS; i++) {
        uint32_t accepted = people[i].accepted;
        for (uint32_t seq = 0; seq < MAX_SEQ; seq++) {
            uint8_t what = fate[i][seq];
            bool good = seq >= accepted ? what == NEVER
                        : discard       ? what != NEVER
                                        : what == DELIVERED;
            if (!CHECK(good)) {
                printf("# sender %d, message %u of %u: fate %d\n", i, seq, accepted,
                       what);
                return;
            }
        }
        total_sent += accepted;
    }
}

static void
stress(size_t capacity, bool discard, int64_t duration, uint64_t *seed)
{
    atoll_chan *chan = new_chan(capacity);
    pthread_t threads[PEOPLE];
    memset(fate, NEVER, sizeof(fate));
    for (int i = 0; i < PEOPLE; i++) {
        person *p = &people[i];
        *p = (person){.chan = chan, .number = i, .seed = *seed + (uint64_t)i};
        p->event_fd = eventfd(0, EFD_NONBLOCK);
        CHECK(p->event_fd >= 0 && pipe(p->intr) == 0);
        CHECK(fcntl(p->intr[0], F_SETFL, O_NONBLOCK) == 0);
    }
    for (int i = 0; i < PEOPLE; i++) {
        threads[i] = start(i < SENDERS ? send_many : receive_many, &people[i]);
    }
    bother_until(atoll_now() + duration, chan, seed);
    CHECK(atoll_chan_close(chan, discard));
    for (int i = 0; i < PEOPLE; i++) {
        uint64_t event;
        join(threads[i]);
        /* Nothing is on its way to somebody who has returned. */
        CHECK(read(people[i].event_fd, &event, sizeof(event)) == -1);
        CHECK(people[i].kick.now == NULL && people[i].kick.lock.word == 0);
        close(people[i].event_fd);
        close(people[i].intr[0]);
        close(people[i].intr[1]);
        total_late += people[i].late;
        total_interrupted += people[i].interrupted;
    }
    CHECK(waiting(chan, &chan->recvq) == 0);
    CHECK(waiting(chan, &chan->sendq) == 0);
    atoll_chan_unref(chan);
    check_fates(discard);
    rounds++;
}

static int64_t duration;
static uint64_t seed;

static void
stress_capacity(size_t capacity)
{
    int64_t end = atoll_now() + duration / 5;
    total_sent = total_late = total_interrupted = rounds = 0;
    bool all;
    do {
        int64_t length = (20 + next_random(&seed) % 60) * MS;
        stress(capacity, rounds % 2, length, &seed);
        /* On a busy machine it goes on until all has happened. Without a limit
         * hardly anybody waits. */
        all = total_sent > 0 && (capacity == ATOLL_UNBOUNDED ||
                                 (total_late > 0 && total_interrupted > 0));
    } while ((atoll_now() < end || !all) && tap_complaints == 0);
    printf("# %llu rounds, %llu sent, %llu late, %llu interrupted\n",
           (unsigned long long)rounds, (unsigned long long)total_sent,
           (unsigned long long)total_late, (unsigned long long)total_interrupted);
}

static void
rendezvous(void)
{
    stress_capacity(0);
}

static void
capacity_1(void)
{
    stress_capacity(1);
}

static void
capacity_7(void)
{
    stress_capacity(7);
}

static void
capacity_64(void)
{
    stress_capacity(64);
}

static void
unbounded(void)
{
    stress_capacity(ATOLL_UNBOUNDED);
}

int
main(void)
{
    const char *seconds = getenv("ATOLL_STRESS"), *from = getenv("ATOLL_SEED");
    double length = seconds != NULL ? atof(seconds) : 2.0;
    duration = (int64_t)(length * 1e9);
    seed = from != NULL ? strtoull(from, NULL, 0) : (uint64_t)atoll_now();
    TAP_BEGIN(60 + 2 * (unsigned)length);
    printf("# seed %llu\n", (unsigned long long)seed);
    RUN(rendezvous);
    RUN(capacity_1);
    RUN(capacity_7);
    RUN(capacity_64);
    RUN(unbounded);
    TAP_END();
}
