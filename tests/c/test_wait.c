/* One waiter in several queues at once, with servers at all of them: exactly
 * one claim wins. This is what a select over many channels relies on; it uses
 * the private at_wait.h directly. */
#include <sched.h>
#include <sys/eventfd.h>

#include "helper.h"

enum { PLACES = 4, WAITERS = 3, ROUNDS = 6000 };

/* Messages carry no drop here: they are numbers only. */
static atoll_msg
plain(int64_t value)
{
    return (atoll_msg){.group = -1, .u.i64 = value};
}

typedef struct place {
    atoll_lock lock;
    at_waitq q; /* guarded by lock */
} place;

static place places[PLACES];
static atoll_kick kicks[WAITERS];
static uint32_t stop;                 /* atomic */
static uint64_t claimed, claimed_sum; /* atomic */
static uint64_t served, served_sum;   /* atomic */
static uint64_t late, interrupted;    /* atomic */

static void
dawdle(uint64_t *seed)
{
    uint32_t choice = next_random(seed) % 64;
    if (choice == 0) {
        sleep_us(50); /* long enough for the other side to fall asleep */
    }
    else if (choice < 8) {
        sched_yield();
    }
}

static void *
serve(void *arg)
{
    uint64_t seed = (uint64_t)(uintptr_t)arg, number_of = 0;
    place *p = &places[(uintptr_t)arg % PLACES];
    while (!at_load_acq(&stop)) {
        atoll_lock_acquire(&p->lock);
        at_node *node = at_waitq_claim(&p->q);
        atoll_lock_release(&p->lock);
        if (node == NULL) {
            sched_yield();
            continue;
        }
        CHECK(node->waiter->won == NULL && node->msg->u.i64 == 0);
        dawdle(&seed); /* claimed, but not finished */
        uint64_t value = (++number_of << 8 | (uintptr_t)arg) + 1;
        node->msg->u.i64 = (int64_t)value;
        at_node_finish(node, ATOLL_ERR_CLOSED); /* any code: it must arrive */
        at_add_rlx(&claimed, 1);
        at_add_rlx(&claimed_sum, value);
        dawdle(&seed);
    }
    return NULL;
}

static void *
kick_around(void *arg)
{
    uint64_t seed = 99;
    (void)arg;
    while (!at_load_acq(&stop)) {
        atoll_kick *kick = &kicks[next_random(&seed) % WAITERS];
        atoll_kick_set(kick);
        dawdle(&seed);
        atoll_kick_clear(kick);
        sleep_us(20);
    }
    return NULL;
}

/* A wait of one of all kinds. */
static atoll_wait
some_wait(uint64_t *seed, atoll_kick *kick, int event_fd)
{
    uint32_t choice = next_random(seed);
    atoll_wait wait = {.deadline = ATOLL_FOREVER, .intr_fd = -1};
    wait.use_fds = choice % 2;
    wait.event_fd = event_fd;
    wait.kick = choice / 2 % 4 ? kick : NULL;
    if (choice / 8 % 2) {
        wait.deadline = atoll_now() + choice / 16 % 30000;
    }
    return wait;
}

static void *
stand_everywhere(void *arg)
{
    uintptr_t me = (uintptr_t)arg;
    uint64_t seed = me + 1000;
    int event_fd = eventfd(0, EFD_NONBLOCK);
    atoll_spin spin = {.lost = 0};
    for (int round = 0; round < ROUNDS; round++) {
        at_waiter waiter;
        at_node nodes[PLACES];
        atoll_msg msgs[PLACES];
        atoll_wait wait = some_wait(&seed, &kicks[me], event_fd);
        at_waiter_init(&waiter, &wait);
        for (int i = 0; i < PLACES; i++) {
            msgs[i] = plain(0);
            nodes[i] = (at_node){.waiter = &waiter, .msg = &msgs[i]};
            atoll_lock_acquire(&places[i].lock);
            at_waitq_push(&places[i].q, &nodes[i]);
            atoll_lock_release(&places[i].lock);
        }
        dawdle(&seed);
        atoll_err err = at_waiter_wait(&waiter, &wait, &spin);
        dawdle(&seed); /* nobody may come any more */
        for (int i = 0; i < PLACES; i++) {
            atoll_lock_acquire(&places[i].lock);
            at_waitq_remove(&places[i].q, &nodes[i]);
            atoll_lock_release(&places[i].lock);
        }
        for (int i = 0; i < PLACES; i++) {
            bool won = err == ATOLL_OK && waiter.won == &nodes[i];
            CHECK((msgs[i].u.i64 != 0) == won);
            CHECK(nodes[i].err == (won ? ATOLL_ERR_CLOSED : ATOLL_OK));
        }
        if (err == ATOLL_OK) {
            at_node *won = waiter.won;
            CHECK(won >= nodes && won < nodes + PLACES);
            at_add_rlx(&served, 1);
            at_add_rlx(&served_sum, (uint64_t)won->msg->u.i64);
        }
        else {
            CHECK(waiter.won == NULL);
            CHECK(err == ATOLL_ERR_TIMEOUT || err == ATOLL_ERR_INTERRUPTED);
            at_add_rlx(err == ATOLL_ERR_TIMEOUT ? &late : &interrupted, 1);
        }
    }
    close(event_fd);
    return NULL;
}

static void
one_claim_wins(void)
{
    pthread_t servers[PLACES + 2], waiters[WAITERS];
    pthread_t kicker = start(kick_around, NULL);
    for (uintptr_t i = 0; i < PLACES + 2; i++) { /* two places have two */
        servers[i] = start(serve, (void *)i);
    }
    for (uintptr_t i = 0; i < WAITERS; i++) {
        waiters[i] = start(stand_everywhere, (void *)i);
    }
    for (int i = 0; i < WAITERS; i++) {
        join(waiters[i]);
    }
    at_store_rel(&stop, 1);
    for (int i = 0; i < PLACES + 2; i++) {
        join(servers[i]);
    }
    join(kicker);
    CHECK(served == claimed && served_sum == claimed_sum);
    CHECK(served + late + interrupted == (uint64_t)WAITERS * ROUNDS);
    for (int i = 0; i < PLACES; i++) {
        CHECK(at_waitq_empty(&places[i].q));
    }
    printf("# served %u, late %u, interrupted %u\n", (unsigned)served, (unsigned)late,
           (unsigned)interrupted);
}

/* Twice in one queue: the second node is found dead and skipped. */
static void
twice_in_one_queue(void)
{
    at_waitq q = {NULL, NULL};
    at_waiter a, b;
    at_waiter_init(&a, &for_ever);
    at_waiter_init(&b, &for_ever);
    at_node nodes[] = {{.waiter = &a}, {.waiter = &a}, {.waiter = &b}};
    for (int i = 0; i < 3; i++) {
        at_waitq_push(&q, &nodes[i]);
    }
    at_node *chain = at_waitq_claim_all(&q);
    CHECK(chain == &nodes[0] && chain->next == &nodes[2]);
    CHECK(nodes[2].next == NULL && at_waitq_empty(&q));
    at_node_finish_all(chain, ATOLL_OK);
    CHECK(a.won == &nodes[0] && b.won == &nodes[2]);
    CHECK(at_waiter_wait(&a, &for_ever, NULL) == ATOLL_OK);
    at_waitq_remove(&q, &nodes[1]); /* it is out already: nothing happens */
    CHECK(at_waitq_claim(&q) == NULL);
}

/* Removal from the front, the middle and the end. */
static void
queue_links(void)
{
    for (int gone = 0; gone < 3; gone++) {
        at_waitq q = {NULL, NULL};
        at_waiter waiters[3];
        at_node nodes[3];
        for (int i = 0; i < 3; i++) {
            at_waiter_init(&waiters[i], &for_ever);
            nodes[i] = (at_node){.waiter = &waiters[i]};
            at_waitq_push(&q, &nodes[i]);
        }
        at_waitq_remove(&q, &nodes[gone]);
        at_waitq_remove(&q, &nodes[gone]);
        for (int i = 0; i < 3; i++) {
            CHECK(i == gone || at_waitq_claim(&q) == &nodes[i]);
        }
        CHECK(q.first == NULL && q.last == NULL);
    }
}

/* One kick for each wait, at the moment of falling asleep: none is lost. */
enum { KICKS = 2000 };
static uint32_t about_to_wait; /* atomic: rounds begun */

static void *
kick_each_round(void *arg)
{
    atoll_kick *kick = arg;
    uint64_t seed = 5;
    for (uint32_t round = 1; round <= KICKS; round++) {
        uint32_t delay = next_random(&seed) % 400;
        for (int looks = 0; at_load_acq(&about_to_wait) < round; looks++) {
            if (looks > 1000) { /* the waiter may need this processor */
                sched_yield();
            }
        }
        while (delay-- > 0) {
            at_load_acq(&about_to_wait);
        }
        atoll_kick_set(kick);
    }
    return NULL;
}

static void
no_kick_is_lost(void)
{
    atoll_kick kick = {.set = 0};
    int event_fd = eventfd(0, EFD_NONBLOCK);
    pthread_t kicker = start(kick_each_round, &kick);
    for (uint32_t round = 1; round <= KICKS; round++) {
        atoll_event never = {.is_set = 0};
        atoll_spin spin = {.skip = 1}; /* do not spin, sleep */
        atoll_wait wait = {.deadline = ATOLL_FOREVER, .kick = &kick};
        wait.use_fds = round % 2;
        wait.event_fd = event_fd;
        wait.intr_fd = -1;
        wait.spin = &spin;
        at_store_rel(&about_to_wait, round);
        CHECK(atoll_event_wait(&never, &wait) == ATOLL_ERR_INTERRUPTED);
        atoll_kick_clear(&kick);
    }
    join(kicker);
    close(event_fd);
}

int
main(void)
{
    TAP_BEGIN(90);
    RUN(queue_links);
    RUN(twice_in_one_queue);
    RUN(one_claim_wins);
    RUN(no_kick_is_lost);
    TAP_END();
}
