/* Random programs of sends, receives, selects, closes, poisons and cancels on up to
 * 6 threads: nothing is lost, nothing comes twice, and nobody sleeps who could be
 * served.
 *
 *     test_select_crowd [seed [seeds]]
 *
 * ATOLL_NIGHTLY=1 makes it 10,000 seeds.
 *
 * How a hang is told from a deadlock that the program deserves: a referee looks at
 * all lines with all locks held. Who is parked there must not stand in line for what
 * is to be had: that would be a wake-up that was lost. Once every thread that has not
 * come to its end is parked, the program has deserved it, and the referee cancels one
 * of them, or ends a channel, and it goes on. A thread that was served and does not
 * come back is never parked: the watchdog tells. */
#include "helper.h"

enum {
    PARTIES = 6,
    CHANS = 4,
    MOVES = 40,
    CASES = 5,
    IDS = PARTIES * MOVES * CASES,
};
enum { PARKED = 1 }; /* the state of at_wait.c */

/* What became of message `id`. It is written by whoever has it at that time. */
static struct {
    uint32_t accepted, received, dropped; /* atomic: how often */
} msgs[IDS];

typedef struct party {
    uint64_t dice;
    atoll_kick kick;
    uint32_t over; /* atomic */
    int number, first_id, ids;
    int last[PARTIES][CHANS]; /* the last id from a party through a channel */
} party;

static party parties[PARTIES];
static int crowd; /* how many play */
static atoll_chan *chans[CHANS];
static long parked_all, kicked; /* the referee's */

static int
below(uint64_t *dice, int limit)
{
    return (int)(next_random(dice) % (uint32_t)limit);
}

static void
note_drop(atoll_msg *msg)
{
    at_add_rlx(&msgs[msg->u.i64].dropped, 1);
}

/* ---------------------------------------------------------------- a player */

static atoll_msg
new_msg(party *p)
{
    int id = p->first_id + p->ids++;
    return (atoll_msg){
        .drop = note_drop, .group = -1, .extra = (uint32_t)p->number, .u.i64 = id};
}

/* A message has come to `p`. What one party sends to one channel comes in order,
 * as far as it comes to the same receiver. */
static void
received(party *p, int c, const atoll_msg *msg)
{
    int id = (int)msg->u.i64, *last = &p->last[msg->extra][c];
    CHECK(id >= 0 && id < IDS && msg->drop == note_drop);
    CHECK(id > *last);
    *last = id;
    at_add_rlx(&msgs[id].received, 1);
}

static atoll_wait
how_long(party *p)
{
    atoll_wait wait = {.deadline = ATOLL_FOREVER, .kick = &p->kick};
    int kind = below(&p->dice, 10);
    if (kind == 0) {
        wait.deadline = ATOLL_NOW;
    }
    else if (kind == 1) { /* soon, or just over */
        wait.deadline = atoll_now() + below(&p->dice, 50000);
    }
    return wait;
}

static void
plain_send(party *p, int c, const atoll_wait *wait)
{
    atoll_msg msg = new_msg(p);
    int id = (int)msg.u.i64;
    atoll_err err = atoll_chan_send(chans[c], &msg, wait);
    if (err == ATOLL_OK) {
        at_add_rlx(&msgs[id].accepted, 1);
    }
    else {
        CHECK(msg.u.i64 == id && msg.drop == note_drop);
    }
}

static void
plain_recv(party *p, int c, const atoll_wait *wait)
{
    atoll_msg msg;
    if (atoll_chan_recv(chans[c], &msg, wait) == ATOLL_OK) {
        received(p, c, &msg);
    }
}

static void
select_some(party *p, const atoll_wait *wait)
{
    atoll_case cases[CASES];
    int of[CASES], ids[CASES];
    uint32_t count = 1 + (uint32_t)below(&p->dice, CASES), index = CASES;
    for (uint32_t i = 0; i < count; i++) {
        of[i] = below(&p->dice, CHANS);
        cases[i] = (atoll_case){.kind = ATOLL_CASE_RECV, .of.chan = chans[of[i]]};
        if (below(&p->dice, 2) == 0) {
            cases[i].kind = ATOLL_CASE_SEND;
            cases[i].msg = new_msg(p);
            ids[i] = (int)cases[i].msg.u.i64;
        }
        else if (i > 0 && below(&p->dice, 8) == 0) {
            cases[i].kind = ATOLL_CASE_NEVER;
        }
    }
    atoll_err err, said;
    said = atoll_select(cases, count, below(&p->dice, 4) ? &p->dice : NULL, wait,
                        &index, &err);
    bool done = said == ATOLL_OK && err == ATOLL_OK;
    CHECK(said != ATOLL_OK || index < count);
    for (uint32_t i = 0; i < count; i++) {
        if (done && i == index && cases[i].kind == ATOLL_CASE_RECV) {
            received(p, of[i], &cases[i].msg);
        }
        else if (done && i == index) {
            at_add_rlx(&msgs[ids[i]].accepted, 1);
        }
        else if (cases[i].kind == ATOLL_CASE_SEND) { /* still ours */
            CHECK(cases[i].msg.u.i64 == ids[i] && cases[i].msg.drop == note_drop);
        }
    }
}

static void
end_chan(atoll_chan *chan, uint64_t *dice)
{
    atoll_msg why = {.group = -1};
    int how = below(dice, 3);
    if (how == 2) {
        atoll_err err = atoll_chan_poison(chan, &why, NULL);
        CHECK(err == ATOLL_OK || err == ATOLL_ERR_POISONED);
    }
    else {
        atoll_chan_close(chan, how == 1);
    }
}

static void *
play(void *arg)
{
    party *p = arg;
    for (int i = 0; i < MOVES; i++) {
        int what = below(&p->dice, 200), c = below(&p->dice, CHANS);
        atoll_wait wait = how_long(p);
        if (what == 0) {
            end_chan(chans[c], &p->dice);
        }
        else if (what < 40) {
            plain_send(p, c, &wait);
        }
        else if (what < 80) {
            plain_recv(p, c, &wait);
        }
        else if (what < 90) {
            party *other = &parties[below(&p->dice, crowd)];
            atoll_kick_set(&other->kick);
        }
        else {
            select_some(p, &wait);
        }
        atoll_kick_clear(&p->kick);
    }
    at_store_rel(&p->over, 1);
    return NULL;
}

/* -------------------------------------------------------------- the referee */

/* With its lock held: the parked waiters of a line, but those in `seen`, are added
 * to it. Returns how many the line has. */
static int
look(const at_waitq *line, const at_waiter **seen, int *count)
{
    int there = 0;
    for (const at_node *node = line->first; node != NULL; node = node->next) {
        if (at_load_rlx(&node->waiter->state) != PARKED) {
            continue; /* served elsewhere, or about to be on its way */
        }
        there++;
        int i = 0;
        while (i < *count && seen[i] != node->waiter) {
            i++;
        }
        if (i == *count) {
            seen[(*count)++] = node->waiter;
        }
    }
    return there;
}

static bool
only_one_waiter(const at_waitq *recvq, const at_waitq *sendq)
{
    const at_waiter *seen[2 * PARTIES * CASES];
    int count = 0;
    look(recvq, seen, &count);
    look(sendq, seen, &count);
    return count < 2;
}

/* How many are parked. None of them may stand in line for what is to be had; at no
 * time, as long as the locks are held. */
static int
look_around(void)
{
    const at_waiter *seen[CHANS * 2 * PARTIES * CASES];
    int count = 0, recvs[CHANS], sends[CHANS];
    for (int c = 0; c < CHANS; c++) {
        atoll_lock_acquire(&chans[c]->lock);
    }
    for (int c = 0; c < CHANS; c++) {
        recvs[c] = look(&chans[c]->recvq, seen, &count);
        sends[c] = look(&chans[c]->sendq, seen, &count);
    }
    for (int c = 0; c < CHANS; c++) {
        const atoll_chan *chan = chans[c];
        CHECK(recvs[c] == 0 || chan->len == 0);
        CHECK(sends[c] == 0 || chan->len >= chan->capacity);
        CHECK(!chan->closed || recvs[c] + sends[c] == 0);
        /* Nobody serves himself. */
        CHECK(recvs[c] == 0 || sends[c] == 0 ||
              only_one_waiter(&chan->recvq, &chan->sendq));
    }
    for (int c = CHANS; c > 0; c--) {
        atoll_lock_release(&chans[c - 1]->lock);
    }
    return count;
}

static void
referee(uint64_t *dice)
{
    for (;;) {
        /* Those that come to their end now are at least not parked. */
        int live = 0, who = -1;
        for (int i = 0; i < crowd; i++) {
            if (!at_load_acq(&parties[i].over)) {
                live++;
                who = who < 0 || below(dice, live) == 0 ? i : who;
            }
        }
        if (live == 0) {
            return;
        }
        if (look_around() < live) {
            sleep_us(20);
            continue;
        }
        parked_all++;
        if (below(dice, 8) == 0) {
            end_chan(chans[below(dice, CHANS)], dice);
        }
        else {
            kicked++;
            atoll_kick_set(&parties[who].kick);
        }
    }
}

/* ------------------------------------------------------------------ one seed */

static void
check_messages(void)
{
    for (int c = 0; c < CHANS; c++) {
        atoll_msg msg;
        while (atoll_chan_recv(chans[c], &msg, &try_once) == ATOLL_OK) {
            at_add_rlx(&msgs[msg.u.i64].received, 1);
        }
        CHECK(at_waitq_empty(&chans[c]->recvq) && at_waitq_empty(&chans[c]->sendq));
        atoll_chan_unref(chans[c]);
    }
    for (int i = 0; i < IDS; i++) {
        CHECK(msgs[i].accepted <= 1);
        CHECK(msgs[i].accepted == msgs[i].received + msgs[i].dropped);
    }
}

static int
by_address(const void *a, const void *b)
{
    uintptr_t x = (uintptr_t)*(atoll_chan *const *)a,
              y = (uintptr_t)*(atoll_chan *const *)b;
    return (x > y) - (x < y);
}

static void
run_seed(uint64_t seed)
{
    static const size_t capacities[] = {0, 0, 1, 4, ATOLL_UNBOUNDED};
    uint64_t dice = seed * UINT64_C(0x9e3779b97f4a7c15) + 1;
    pthread_t threads[PARTIES];
    memset(msgs, 0, sizeof(msgs));
    memset(parties, 0, sizeof(parties));
    crowd = 2 + below(&dice, PARTIES - 1);
    for (int c = 0; c < CHANS; c++) {
        chans[c] = new_chan(capacities[below(&dice, 5)]);
    }
    /* The referee takes their locks as a select does: by address. */
    qsort(chans, CHANS, sizeof(*chans), by_address);
    for (int i = 0; i < crowd; i++) {
        party *p = &parties[i];
        p->dice = seed * 1000 + (uint64_t)i;
        p->number = i;
        p->first_id = i * MOVES * CASES;
        memset(p->last, -1, sizeof(p->last));
    }
    for (int i = 0; i < crowd; i++) {
        threads[i] = start(play, &parties[i]);
    }
    referee(&dice);
    for (int i = 0; i < crowd; i++) {
        join(threads[i]);
    }
    check_messages();
}

static uint64_t first_seed = 1;
static int seeds = 150;

static void
random_programs(void)
{
    for (int i = 0; i < seeds && tap_complaints == 0; i++) {
        run_seed(first_seed + (uint64_t)i);
        if (tap_complaints > 0) {
            printf("# seed %llu\n",
                   (unsigned long long)first_seed + (unsigned long long)i);
        }
    }
}

int
main(int argc, char **argv)
{
    const char *nightly = getenv("ATOLL_NIGHTLY");
    if (nightly != NULL && strcmp(nightly, "1") == 0) {
        seeds = 10000;
    }
    first_seed = argc > 1 ? strtoull(argv[1], NULL, 0) : first_seed;
    seeds = argc > 2 ? atoi(argv[2]) : seeds;
    TAP_BEGIN(seeds > 1000 ? 3000 : 100);
    printf("# seed %llu, %d seeds\n", (unsigned long long)first_seed, seeds);
    RUN(random_programs);
    printf("# all were parked %ld times, of which %ld ended with a cancel\n",
           parked_all, kicked);
    TAP_END();
}
