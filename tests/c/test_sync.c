/* Locks, semaphores, flags, conditions, barriers, counters, cells: order, owners that
 * die, deadlines and cancels at the worst moment. */
#include "at_sync.h"
#include "helper.h"

static atoll_party
party(int64_t group, uint64_t thread)
{
    return (atoll_party){group, thread};
}

static atoll_sync *
made(atoll_err err, atoll_sync **sync)
{
    if (err != ATOLL_OK) {
        printf("Bail out! no object\n");
        exit(99);
    }
    return *sync;
}

static atoll_sync *
new_sync(atoll_sync_kind kind)
{
    atoll_sync *sync = NULL;
    return made(atoll_sync_new(kind, &sync), &sync);
}

static atoll_sync *
new_sem(int64_t value, int64_t limit)
{
    atoll_sync *sync = NULL;
    return made(atoll_sem_new(value, limit, &sync), &sync);
}

static unsigned
in_line(atoll_sync *sync)
{
    unsigned count = 0;
    atoll_lock_acquire(&sync->lock);
    for (const at_node *n = sync->q.first; n != NULL; n = n->next) {
        count++;
    }
    atoll_lock_release(&sync->lock);
    return count;
}

/* A thread that takes, and notes when and how that ended. */
typedef struct taker {
    atoll_sync *sync;
    atoll_party who;
    atoll_wait wait;
    uint32_t *order; /* atomic: the next number */
    uint32_t number;
    atoll_err err;
    bool give_back;
    pthread_t thread;
} taker;

static void *
take(void *arg)
{
    taker *t = arg;
    t->err = atoll_sync_take(t->sync, t->who, &t->wait);
    if (t->err == ATOLL_OK && t->order != NULL) {
        t->number = at_add_rlx(t->order, 1);
    }
    if (t->err == ATOLL_OK && t->give_back) {
        atoll_sync_untake(t->sync, ATOLL_OK);
    }
    return NULL;
}

static void
start_taker(taker *t, unsigned position)
{
    t->thread = start(take, t);
    UNTIL(in_line(t->sync) == position);
}

/* ------------------------------------------------------------------- locks */

static void
test_lock_alone(void)
{
    atoll_sync *lock = new_sync(ATOLL_LOCK);
    atoll_mutex_state look;
    CHECK(atoll_mutex_release(lock, party(1, 1)) == ATOLL_ERR_INVALID);
    CHECK(atoll_sync_take(lock, party(1, 1), &try_once) == ATOLL_OK);
    CHECK(atoll_sync_take(lock, party(1, 1), &try_once) == ATOLL_ERR_AGAIN);
    atoll_wait soon = within_ms(5);
    CHECK(atoll_sync_take(lock, party(1, 1), &soon) == ATOLL_ERR_TIMEOUT);
    CHECK(atoll_sync_take(lock, party(1, 1), &soon) == ATOLL_ERR_TIMEOUT);
    atoll_mutex_look(lock, &look);
    CHECK(look.held && look.owner.group == 1 && look.dead == -1);
    CHECK(atoll_mutex_release(lock, party(2, 7)) == ATOLL_OK);
    CHECK(atoll_mutex_release(lock, party(1, 1)) == ATOLL_ERR_INVALID);
    atoll_sync *found;
    CHECK(atoll_sync_find(atoll_sync_id(lock), &found) == ATOLL_OK &&
          found == lock);
    atoll_sync_unref(found);
    uint64_t id = atoll_sync_id(lock);
    atoll_sync_unref(lock);
    CHECK(atoll_sync_find(id, &found) == ATOLL_ERR_NOTFOUND);
}

static void
test_rlock(void)
{
    atoll_sync *lock = new_sync(ATOLL_RLOCK);
    atoll_party me = party(1, 1);
    uint64_t depth;
    for (int i = 0; i < 3; i++) {
        CHECK(atoll_sync_take(lock, me, &try_once) == ATOLL_OK);
    }
    CHECK(atoll_sync_take(lock, party(1, 2), &try_once) == ATOLL_ERR_AGAIN);
    CHECK(atoll_sync_take(lock, party(2, 1), &try_once) == ATOLL_ERR_AGAIN);
    CHECK(atoll_mutex_release(lock, party(1, 2)) == ATOLL_ERR_INVALID);
    CHECK(atoll_mutex_release(lock, me) == ATOLL_OK);
    CHECK(atoll_mutex_drop(lock, me, &depth) == ATOLL_OK && depth == 2);
    CHECK(atoll_mutex_release(lock, me) == ATOLL_ERR_INVALID);
    CHECK(atoll_sync_take(lock, party(2, 1), &try_once) == ATOLL_OK);
    atoll_mutex_deepen(lock, 2);
    CHECK(atoll_mutex_release(lock, party(2, 1)) == ATOLL_OK);
    CHECK(atoll_sync_take(lock, me, &try_once) == ATOLL_ERR_AGAIN);
    CHECK(atoll_mutex_release(lock, party(2, 1)) == ATOLL_OK);
    atoll_sync_unref(lock);
}

#define CROWD 8

static void
test_lock_is_fair(void)
{
    atoll_sync *lock = new_sync(ATOLL_LOCK);
    uint32_t order = 0;
    taker crowd[CROWD];
    CHECK(atoll_sync_take(lock, party(1, 1), &try_once) == ATOLL_OK);
    for (unsigned i = 0; i < CROWD; i++) {
        crowd[i] = (taker){.sync = lock, .who = party(2, i), .wait = for_ever,
                           .order = &order, .give_back = true};
        start_taker(&crowd[i], i + 1);
    }
    CHECK(atoll_mutex_release(lock, party(1, 1)) == ATOLL_OK);
    /* It belongs to the first of them already, or to one after that. */
    for (unsigned i = 0; i < CROWD; i++) {
        join(crowd[i].thread);
        CHECK(crowd[i].err == ATOLL_OK && crowd[i].number == i);
    }
    CHECK(atoll_sync_take(lock, party(1, 1), &try_once) == ATOLL_OK);
    atoll_sync_unref(lock);
}

static void
test_nobody_overtakes(void)
{
    atoll_sync *lock = new_sync(ATOLL_LOCK);
    taker waits = {.sync = lock, .who = party(2, 2), .wait = for_ever};
    CHECK(atoll_sync_take(lock, party(1, 1), &try_once) == ATOLL_OK);
    start_taker(&waits, 1);
    CHECK(atoll_mutex_release(lock, party(1, 1)) == ATOLL_OK);
    CHECK(atoll_sync_take(lock, party(1, 1), &try_once) == ATOLL_ERR_AGAIN);
    atoll_mutex_state look;
    atoll_mutex_look(lock, &look);
    CHECK(look.held && look.owner.group == 2 && look.owner.thread == 2);
    join(waits.thread);
    atoll_sync_unref(lock);
}

static int64_t shared_sum; /* guarded by the lock under test */

static void *
add_many(void *arg)
{
    taker *t = arg;
    for (int i = 0; i < 2000; i++) {
        CHECK(atoll_sync_take(t->sync, t->who, &for_ever) == ATOLL_OK);
        shared_sum++;
        CHECK(atoll_mutex_release(t->sync, t->who) == ATOLL_OK);
    }
    return NULL;
}

static void
test_lock_excludes(void)
{
    atoll_sync *lock = new_sync(ATOLL_RLOCK);
    taker crowd[3];
    shared_sum = 0;
    for (unsigned i = 0; i < 3; i++) {
        crowd[i] = (taker){.sync = lock, .who = party(1, i)};
        crowd[i].thread = start(add_many, &crowd[i]);
    }
    for (unsigned i = 0; i < 3; i++) {
        join(crowd[i].thread);
    }
    CHECK(shared_sum == 6000);
    atoll_sync_unref(lock);
}

/* ------------------------------------------------------------------ deaths */

static void
test_death_is_told_once(void)
{
    for (atoll_sync_kind kind = ATOLL_LOCK; kind <= ATOLL_RLOCK; kind++) {
        atoll_sync *lock = new_sync(kind), *other = new_sync(kind);
        atoll_mutex_state look;
        CHECK(atoll_sync_take(lock, party(5, 1), &try_once) == ATOLL_OK);
        CHECK(atoll_sync_take(other, party(6, 1), &try_once) == ATOLL_OK);
        atoll_sync_orphan_all(5);
        atoll_sync_orphan_all(5);
        atoll_mutex_look(lock, &look);
        CHECK(!look.held && look.dead == 5);
        CHECK(atoll_mutex_release(lock, party(7, 1)) == ATOLL_ERR_INVALID);
        CHECK(atoll_sync_take(lock, party(7, 1), &for_ever) ==
              ATOLL_ERR_OWNER_DIED);
        CHECK(atoll_sync_take(lock, party(7, 1), &for_ever) == ATOLL_OK);
        CHECK(atoll_sync_take(other, party(7, 1), &try_once) ==
              ATOLL_ERR_AGAIN);
        CHECK(atoll_mutex_release(lock, party(7, 1)) == ATOLL_OK);
        atoll_sync_orphan_all(7); /* it has given it back */
        CHECK(atoll_sync_take(lock, party(8, 1), &try_once) == ATOLL_OK);
        atoll_sync_unref(lock);
        atoll_sync_unref(other);
    }
}

static void
test_death_wakes_the_line(void)
{
    atoll_sync *lock = new_sync(ATOLL_LOCK);
    uint32_t order = 0;
    taker crowd[3];
    CHECK(atoll_sync_take(lock, party(5, 1), &try_once) == ATOLL_OK);
    for (unsigned i = 0; i < 3; i++) {
        crowd[i] = (taker){.sync = lock, .who = party(6, i), .wait = for_ever,
                           .order = &order, .give_back = true};
        start_taker(&crowd[i], i + 1);
    }
    atoll_sync_orphan_all(5);
    for (unsigned i = 0; i < 3; i++) {
        join(crowd[i].thread);
    }
    CHECK(crowd[0].err == ATOLL_ERR_OWNER_DIED);
    CHECK(crowd[1].err == ATOLL_OK && crowd[1].number == 0);
    CHECK(crowd[2].err == ATOLL_OK && crowd[2].number == 1);
    CHECK(atoll_sync_take(lock, party(6, 9), &try_once) == ATOLL_OK);
    atoll_sync_unref(lock);
}

/* A group that takes and dies again and again, beside one that takes and releases:
 * every death that found the lock held is told to exactly one. */
static atoll_sync *mortal;
static uint32_t told; /* atomic */

static void *
survive(void *arg)
{
    (void)arg;
    for (int i = 0; i < 500;) {
        switch (atoll_sync_take(mortal, party(1, 1), &for_ever)) {
        case ATOLL_OK:
            CHECK(atoll_mutex_release(mortal, party(1, 1)) == ATOLL_OK);
            i++;
            break;
        case ATOLL_ERR_OWNER_DIED:
            at_add_rlx(&told, 1);
            break;
        default:
            CHECK(false);
        }
    }
    return NULL;
}

static void
test_deaths_race(void)
{
    mortal = new_sync(ATOLL_LOCK);
    uint32_t died = 0;
    told = 0;
    pthread_t thread = start(survive, NULL);
    for (int64_t group = 10; group < 300; group++) {
        atoll_wait soon = within_ms(1);
        atoll_err err = atoll_sync_take(mortal, party(group, 1), &soon);
        if (err == ATOLL_ERR_OWNER_DIED) {
            at_add_rlx(&told, 1);
        }
        else if (err == ATOLL_OK) {
            died++;
        }
        atoll_sync_orphan_all(group);
    }
    join(thread);
    if (atoll_sync_take(mortal, party(1, 1), &try_once) ==
        ATOLL_ERR_OWNER_DIED) {
        told++;
    }
    CHECK(died > 0 && died == told);
    atoll_sync_unref(mortal);
}

/* -------------------------------------------------------------- semaphores */

static void
test_semaphore(void)
{
    atoll_sync *sem = new_sem(2, -1), *bounded = new_sem(1, 1);
    CHECK(atoll_sync_take(sem, party(1, 1), &try_once) == ATOLL_OK);
    CHECK(atoll_sync_take(sem, party(1, 1), &try_once) == ATOLL_OK);
    CHECK(atoll_sync_take(sem, party(1, 1), &try_once) == ATOLL_ERR_AGAIN);
    CHECK(atoll_sem_release(sem, 0) == ATOLL_ERR_INVALID);
    CHECK(atoll_sem_release(sem, 5) == ATOLL_OK && atoll_sem_value(sem) == 5);
    CHECK(atoll_sem_release(sem, INT64_MAX - 5) == ATOLL_OK);
    CHECK(atoll_sem_release(sem, 1) == ATOLL_ERR_INVALID);
    CHECK(atoll_sem_release(bounded, 1) == ATOLL_ERR_INVALID);
    CHECK(atoll_sync_take(bounded, party(1, 1), &try_once) == ATOLL_OK);
    CHECK(atoll_sem_release(bounded, 2) == ATOLL_ERR_INVALID);
    CHECK(atoll_sem_release(bounded, 1) == ATOLL_OK);
    atoll_sync_unref(sem);
    atoll_sync_unref(bounded);
}

static void
test_semaphore_gives_many(void)
{
    atoll_sync *sem = new_sem(0, -1);
    taker crowd[CROWD];
    for (unsigned i = 0; i < CROWD; i++) {
        crowd[i] = (taker){.sync = sem, .wait = for_ever};
        start_taker(&crowd[i], i + 1);
    }
    CHECK(atoll_sem_release(sem, 3) == ATOLL_OK);
    for (unsigned i = 0; i < 3; i++) {
        join(crowd[i].thread); /* the first three, and no others */
    }
    CHECK(in_line(sem) == CROWD - 3 && atoll_sem_value(sem) == 0);
    CHECK(atoll_sem_release(sem, CROWD) == ATOLL_OK);
    for (unsigned i = 3; i < CROWD; i++) {
        join(crowd[i].thread);
    }
    CHECK(atoll_sem_value(sem) == 3);
    atoll_sync_unref(sem);
}

/* Deadlines and kicks that come as a permit does: none is lost, none is made. */
static void
test_permits_are_conserved(void)
{
    for (int round = 0; round < 300; round++) {
        atoll_sync *sem = new_sem(0, -1);
        atoll_kick kick = {0};
        taker late = {.sync = sem, .wait = within_ms(0)},
              kicked = {.sync = sem, .wait = for_ever};
        late.wait.deadline = atoll_now() + round % 50 * 2000;
        kicked.wait.kick = &kick;
        late.thread = start(take, &late);
        kicked.thread = start(take, &kicked);
        CHECK(atoll_sem_release(sem, 1) == ATOLL_OK);
        atoll_kick_set(&kick);
        join(late.thread);
        join(kicked.thread);
        int64_t taken = (late.err == ATOLL_OK) + (kicked.err == ATOLL_OK);
        CHECK(taken + atoll_sem_value(sem) == 1);
        CHECK(late.err == ATOLL_OK || late.err == ATOLL_ERR_TIMEOUT);
        CHECK(kicked.err == ATOLL_OK || kicked.err == ATOLL_ERR_INTERRUPTED);
        CHECK(in_line(sem) == 0);
        atoll_sync_unref(sem);
    }
}

/* ------------------------------------------------------------------- flags */

static void
test_flag(void)
{
    atoll_sync *flag = new_sync(ATOLL_FLAG);
    taker crowd[3];
    CHECK(atoll_sync_take(flag, party(1, 1), &try_once) == ATOLL_ERR_AGAIN);
    for (unsigned i = 0; i < 3; i++) {
        crowd[i] = (taker){.sync = flag, .wait = for_ever};
        start_taker(&crowd[i], i + 1);
    }
    CHECK(atoll_flag_set(flag) == ATOLL_OK);
    CHECK(atoll_flag_clear(flag) == ATOLL_OK);
    for (unsigned i = 0; i < 3; i++) {
        join(crowd[i].thread);
        CHECK(crowd[i].err == ATOLL_OK);
    }
    CHECK(!atoll_flag_is_set(flag));
    CHECK(atoll_flag_set(flag) == ATOLL_OK && atoll_flag_is_set(flag));
    CHECK(atoll_sync_take(flag, party(1, 1), &try_once) == ATOLL_OK);
    atoll_sync_unref(flag);
}

/* ------------------------------------------------------- without a thread */

static void
test_async(void)
{
    atoll_sync *kinds[] = {new_sync(ATOLL_LOCK), new_sem(1, -1)};
    atoll_cq *cq = NULL;
    CHECK(atoll_cq_new(&cq) == ATOLL_OK);
    for (int i = 0; i < 2; i++) {
        atoll_sync *s = kinds[i];
        atoll_op a = {0}, b = {0}, c = {0};
        CHECK(atoll_sync_take_start(s, party(1, 1), &a, cq) == ATOLL_OK);
        CHECK(atoll_sync_take_start(s, party(1, 1), &b, cq) ==
              ATOLL_ERR_AGAIN);
        CHECK(atoll_sync_take_start(s, party(1, 1), &c, cq) ==
              ATOLL_ERR_AGAIN);
        CHECK(atoll_op_cancel(&b));
        atoll_sync_untake(s, ATOLL_OK);
        CHECK(!atoll_op_cancel(&c));
        CHECK(atoll_cq_next(cq) == &c && c.status == ATOLL_OK);
        CHECK(atoll_sync_take(s, party(1, 2), &try_once) == ATOLL_ERR_AGAIN);
        atoll_sync_untake(s, ATOLL_OK);
        CHECK(atoll_sync_take(s, party(1, 2), &try_once) == ATOLL_OK);
    }
    atoll_op d = {0};
    CHECK(atoll_sync_take_start(kinds[0], party(2, 1), &d, cq) ==
          ATOLL_ERR_AGAIN);
    atoll_sync_orphan_all(1);
    CHECK(atoll_cq_next(cq) == &d && d.status == ATOLL_ERR_OWNER_DIED);
    atoll_sync_untake(kinds[0], d.status); /* nobody looks at the news */
    CHECK(atoll_sync_take(kinds[0], party(2, 1), &try_once) ==
          ATOLL_ERR_OWNER_DIED);
    CHECK(atoll_sync_take(kinds[0], party(2, 1), &try_once) == ATOLL_OK);
    atoll_cq_unref(cq);
    atoll_sync_unref(kinds[0]);
    atoll_sync_unref(kinds[1]);
}

/* Cancels that race with permits. */
static void *
give_permits(void *arg)
{
    for (int i = 0; i < 2000; i++) {
        CHECK(atoll_sem_release(arg, 1) == ATOLL_OK);
        if (i % 16 == 0) {
            sleep_us(20);
        }
    }
    return NULL;
}

static void
test_async_cancel_races(void)
{
    atoll_sync *sem = new_sem(0, -1);
    atoll_cq *cq = NULL;
    CHECK(atoll_cq_new(&cq) == ATOLL_OK);
    pthread_t thread = start(give_permits, sem);
    int64_t taken = 0;
    uint64_t seed = 7;
    for (int i = 0; i < 4000; i++) {
        atoll_op op = {0};
        atoll_err err = atoll_sync_take_start(sem, party(1, 1), &op, cq);
        if (err == ATOLL_ERR_AGAIN) {
            if (next_random(&seed) % 2) {
                sleep_us(1);
            }
            if (!atoll_op_cancel(&op)) {
                CHECK(atoll_cq_wait(cq, &for_ever) == ATOLL_OK);
                CHECK(atoll_cq_next(cq) == &op);
                err = op.status;
            }
        }
        taken += err == ATOLL_OK;
    }
    join(thread);
    CHECK(taken + atoll_sem_value(sem) == 2000);
    CHECK(in_line(sem) == 0);
    atoll_cq_unref(cq);
    atoll_sync_unref(sem);
}

/* ------------------------------------------------------------------ select */

static atoll_case
taking(atoll_sync *sync)
{
    return (atoll_case){.kind = ATOLL_CASE_TAKE, .of.sync = sync,
                        .msg = atoll_sync_introduce(party(3, 3))};
}

static void *
set_later(void *arg)
{
    sleep_us(300);
    CHECK(atoll_flag_set(arg) == ATOLL_OK);
    return NULL;
}

static void
test_select(void)
{
    atoll_sync *lock = new_sync(ATOLL_LOCK), *sem = new_sem(0, -1),
               *flag = new_sync(ATOLL_FLAG), *rlock = new_sync(ATOLL_RLOCK);
    atoll_case cases[] = {taking(lock), taking(sem), taking(flag)};
    atoll_case wrong[] = {taking(rlock)};
    uint64_t random = 1;
    uint32_t index;
    atoll_err err;
    CHECK(atoll_select(cases, 3, &random, &for_ever, &index, &err) ==
              ATOLL_OK &&
          index == 0 && err == ATOLL_OK);
    CHECK(atoll_select(cases, 3, &random, &try_once, &index, &err) ==
          ATOLL_ERR_AGAIN);
    pthread_t thread = start(set_later, flag);
    CHECK(atoll_select(cases, 3, &random, &for_ever, &index, &err) ==
              ATOLL_OK &&
          index == 2 && err == ATOLL_OK);
    join(thread);
    CHECK(in_line(lock) == 0 && in_line(sem) == 0 && in_line(flag) == 0);
    CHECK(atoll_flag_clear(flag) == ATOLL_OK);
    atoll_sync_orphan_all(3);
    CHECK(atoll_select(cases, 3, &random, &for_ever, &index, &err) ==
              ATOLL_OK &&
          index == 0 && err == ATOLL_ERR_OWNER_DIED);
    CHECK(atoll_select(wrong, 1, &random, &for_ever, &index, &err) ==
              ATOLL_OK &&
          err == ATOLL_ERR_INVALID);
    atoll_sync_unref(lock);
    atoll_sync_unref(sem);
    atoll_sync_unref(flag);
    atoll_sync_unref(rlock);
}

/* Two threads select from the same two semaphores: each permit goes to one. */
static atoll_sync *two[2];

static void *
select_many(void *arg)
{
    uint64_t random = 5;
    (void)arg;
    for (int i = 0; i < 1000; i++) {
        atoll_case cases[] = {taking(two[0]), taking(two[1])};
        uint32_t index;
        atoll_err err;
        CHECK(atoll_select(cases, 2, &random, &for_ever, &index, &err) ==
                  ATOLL_OK &&
              err == ATOLL_OK);
    }
    return NULL;
}

static void
test_select_loses_no_permit(void)
{
    two[0] = new_sem(0, -1);
    two[1] = new_sem(0, -1);
    pthread_t a = start(select_many, NULL), b = start(select_many, NULL);
    for (int i = 0; i < 2000; i++) {
        CHECK(atoll_sem_release(two[i % 2], 1) == ATOLL_OK);
    }
    join(a);
    join(b);
    CHECK(atoll_sem_value(two[0]) + atoll_sem_value(two[1]) == 0);
    atoll_sync_unref(two[0]);
    atoll_sync_unref(two[1]);
}

/* -------------------------------------------------------------- conditions */

static void
test_condition(void)
{
    atoll_sync *lock = new_sync(ATOLL_LOCK), *cond = NULL;
    CHECK(atoll_cond_new(lock, &cond) == ATOLL_OK);
    atoll_sync_unref(lock); /* the condition has one */
    CHECK(atoll_cond_mutex(cond) == lock);
    atoll_turn a, b, c;
    CHECK(atoll_cond_enter(cond, &a) == ATOLL_OK);
    CHECK(atoll_cond_enter(cond, &b) == ATOLL_OK);
    CHECK(atoll_cond_enter(cond, &c) == ATOLL_OK);
    CHECK(atoll_turn_wait(cond, &a, &try_once) == ATOLL_ERR_AGAIN);
    CHECK(atoll_cond_notify(cond, 1) == 1);
    CHECK(atoll_turn_wait(cond, &a, &for_ever) == ATOLL_OK);
    CHECK(!atoll_cond_leave(cond, &b)); /* nobody had called it */
    CHECK(atoll_cond_notify(cond, SIZE_MAX) == 1);
    CHECK(atoll_cond_leave(cond, &c)); /* somebody had */
    CHECK(atoll_cond_notify(cond, 1) == 0);
    atoll_sync_unref(cond);
}

/* A bounded buffer of the textbook: two producers, two consumers. */
static struct {
    atoll_sync *lock, *not_empty, *not_full;
    int filled;
    int64_t sum;
} buffer; /* all but the pointers guarded by lock */

static void
wait_in(atoll_sync *cond, uint64_t thread)
{
    atoll_turn turn;
    CHECK(atoll_cond_enter(cond, &turn) == ATOLL_OK);
    CHECK(atoll_mutex_release(buffer.lock, party(1, thread)) == ATOLL_OK);
    atoll_wait soon = {.deadline = atoll_now() + 30000};
    if (atoll_turn_wait(cond, &turn, &soon) != ATOLL_OK) {
        (void)atoll_cond_leave(cond, &turn);
    }
    CHECK(atoll_sync_take(buffer.lock, party(1, thread), &for_ever) ==
          ATOLL_OK);
}

static void *
produce(void *arg)
{
    uint64_t me = *(uint64_t *)arg;
    for (int i = 0; i < 1000; i++) {
        CHECK(atoll_sync_take(buffer.lock, party(1, me), &for_ever) ==
              ATOLL_OK);
        while (buffer.filled == 3) {
            wait_in(buffer.not_full, me);
        }
        buffer.filled++;
        (void)atoll_cond_notify(buffer.not_empty, 1);
        CHECK(atoll_mutex_release(buffer.lock, party(1, me)) == ATOLL_OK);
    }
    return NULL;
}

static void *
consume(void *arg)
{
    uint64_t me = *(uint64_t *)arg;
    for (int i = 0; i < 1000; i++) {
        CHECK(atoll_sync_take(buffer.lock, party(1, me), &for_ever) ==
              ATOLL_OK);
        while (buffer.filled == 0) {
            wait_in(buffer.not_empty, me);
        }
        buffer.filled--;
        buffer.sum++;
        (void)atoll_cond_notify(buffer.not_full, 1);
        CHECK(atoll_mutex_release(buffer.lock, party(1, me)) == ATOLL_OK);
    }
    return NULL;
}

static void
test_condition_in_a_crowd(void)
{
    uint64_t ids[4] = {0, 1, 2, 3};
    pthread_t threads[4];
    buffer.lock = new_sync(ATOLL_LOCK);
    CHECK(atoll_cond_new(buffer.lock, &buffer.not_empty) == ATOLL_OK);
    CHECK(atoll_cond_new(buffer.lock, &buffer.not_full) == ATOLL_OK);
    for (int i = 0; i < 4; i++) {
        threads[i] = start(i % 2 ? consume : produce, &ids[i]);
    }
    for (int i = 0; i < 4; i++) {
        join(threads[i]);
    }
    CHECK(buffer.sum == 2000 && buffer.filled == 0);
    atoll_sync_unref(buffer.not_empty);
    atoll_sync_unref(buffer.not_full);
    atoll_sync_unref(buffer.lock);
}

/* ---------------------------------------------------------------- barriers */

typedef struct arrival {
    atoll_sync *barrier;
    int rounds;
    uint32_t *arrived; /* atomic: in all rounds */
    uint32_t passed, led, broken;
    uint64_t indexes;
    pthread_t thread;
} arrival;

static void *
pass_rounds(void *arg)
{
    arrival *a = arg;
    atoll_barrier_state look;
    atoll_barrier_look(a->barrier, &look);
    for (int i = 0; i < a->rounds; i++) {
        atoll_turn turn;
        at_add_rlx(a->arrived, 1);
        CHECK(atoll_barrier_arrive(a->barrier, &turn) == ATOLL_OK);
        CHECK(atoll_turn_wait(a->barrier, &turn, &for_ever) == ATOLL_OK);
        CHECK(atoll_barrier_passed(&turn) == ATOLL_OK);
        CHECK(at_load_rlx(a->arrived) >= (uint32_t)(i + 1) * look.parties);
        a->indexes += turn.index;
        if (turn.leads) {
            a->led++;
            CHECK(atoll_barrier_lead(a->barrier, &turn, true) == ATOLL_OK);
        }
        a->passed++;
    }
    return NULL;
}

static void
test_barrier_again_and_again(void)
{
    for (int led = 0; led < 2; led++) {
        atoll_sync *barrier = NULL;
        uint32_t arrived = 0, leaders = 0;
        uint64_t indexes = 0;
        arrival all[4];
        CHECK(atoll_barrier_new(4, led, ATOLL_FOREVER, &barrier) == ATOLL_OK);
        for (int i = 0; i < 4; i++) {
            all[i] = (arrival){.barrier = barrier, .rounds = 300,
                               .arrived = &arrived};
            all[i].thread = start(pass_rounds, &all[i]);
        }
        for (int i = 0; i < 4; i++) {
            join(all[i].thread);
            CHECK(all[i].passed == 300);
            leaders += all[i].led;
            indexes += all[i].indexes;
        }
        CHECK(leaders == (led ? 300 : 0) && indexes == 300 * (0 + 1 + 2 + 3));
        atoll_sync_unref(barrier);
    }
}

static void
test_barrier_breaks(void)
{
    atoll_sync *barrier = NULL;
    atoll_barrier_state look;
    atoll_turn a, b;
    bool led;
    CHECK(atoll_barrier_new(3, false, ATOLL_FOREVER, &barrier) == ATOLL_OK);
    CHECK(atoll_barrier_arrive(barrier, &a) == ATOLL_OK);
    CHECK(!atoll_barrier_leave(barrier, &a, false, &led) && !led);
    atoll_barrier_look(barrier, &look);
    CHECK(look.waiting == 0 && !look.broken);
    CHECK(atoll_barrier_arrive(barrier, &a) == ATOLL_OK);
    CHECK(atoll_barrier_arrive(barrier, &b) == ATOLL_OK);
    CHECK(!atoll_barrier_leave(barrier, &b, true, &led)); /* late */
    CHECK(atoll_turn_wait(barrier, &a, &for_ever) == ATOLL_OK);
    CHECK(atoll_barrier_passed(&a) == ATOLL_ERR_BROKEN);
    CHECK(atoll_barrier_arrive(barrier, &a) == ATOLL_ERR_BROKEN);
    CHECK(atoll_barrier_reset(barrier) == ATOLL_OK);
    CHECK(atoll_barrier_arrive(barrier, &a) == ATOLL_OK);
    CHECK(atoll_barrier_reset(barrier) == ATOLL_OK);
    CHECK(atoll_barrier_leave(barrier, &a, true, &led) &&
          atoll_barrier_passed(&a) == ATOLL_ERR_BROKEN);
    atoll_barrier_look(barrier, &look);
    CHECK(!look.broken && look.waiting == 0);
    CHECK(atoll_barrier_abort(barrier) == ATOLL_OK);
    CHECK(atoll_barrier_arrive(barrier, &a) == ATOLL_ERR_BROKEN);
    atoll_sync_unref(barrier);
}

static void
test_barrier_with_a_leader(void)
{
    atoll_sync *barrier = NULL;
    atoll_turn a, b, c, d;
    bool led;
    CHECK(atoll_barrier_new(2, true, ATOLL_FOREVER, &barrier) == ATOLL_OK);
    CHECK(atoll_barrier_arrive(barrier, &a) == ATOLL_OK);
    CHECK(atoll_barrier_arrive(barrier, &b) == ATOLL_OK);
    CHECK(atoll_turn_wait(barrier, &b, &try_once) == ATOLL_OK && b.leads);
    CHECK(atoll_turn_wait(barrier, &a, &try_once) == ATOLL_ERR_AGAIN);
    CHECK(!atoll_barrier_leave(barrier, &a, true, &led) && led);
    /* The next two come while it is at work. */
    CHECK(atoll_barrier_arrive(barrier, &c) == ATOLL_OK);
    CHECK(atoll_barrier_arrive(barrier, &d) == ATOLL_OK);
    CHECK(atoll_turn_wait(barrier, &d, &try_once) == ATOLL_ERR_AGAIN);
    CHECK(atoll_barrier_lead(barrier, &b, true) == ATOLL_OK);
    CHECK(atoll_turn_wait(barrier, &a, &for_ever) == ATOLL_OK && !a.leads);
    CHECK(atoll_turn_wait(barrier, &d, &for_ever) == ATOLL_OK && d.leads);
    CHECK(!atoll_barrier_leave(barrier, &c, false, &led) && led); /* a kick */
    CHECK(atoll_barrier_reset(barrier) == ATOLL_OK);
    CHECK(atoll_barrier_lead(barrier, &d, true) == ATOLL_ERR_BROKEN);
    CHECK(atoll_barrier_arrive(barrier, &a) == ATOLL_OK);
    CHECK(atoll_barrier_arrive(barrier, &b) == ATOLL_OK);
    CHECK(atoll_turn_wait(barrier, &b, &for_ever) == ATOLL_OK && b.leads);
    CHECK(atoll_barrier_lead(barrier, &b, false) == ATOLL_OK);
    CHECK(atoll_turn_wait(barrier, &a, &for_ever) == ATOLL_OK);
    CHECK(atoll_barrier_passed(&a) == ATOLL_ERR_BROKEN);
    atoll_sync_unref(barrier);
}

/* Arrivals whose deadline comes as the last one does: all pass, or all are told that
 * it is broken. */
static void *
arrive_late(void *arg)
{
    arrival *a = arg;
    atoll_turn turn;
    bool led;
    atoll_err err = atoll_barrier_arrive(a->barrier, &turn);
    if (err == ATOLL_OK) {
        atoll_wait soon = {.deadline = atoll_now() + a->rounds};
        if (atoll_turn_wait(a->barrier, &turn, &soon) == ATOLL_OK ||
            atoll_barrier_leave(a->barrier, &turn, true, &led)) {
            err = atoll_barrier_passed(&turn);
        }
        else {
            err = ATOLL_ERR_BROKEN;
        }
    }
    a->passed = err == ATOLL_OK;
    a->broken = err == ATOLL_ERR_BROKEN;
    return NULL;
}

static void
test_barrier_deadlines_race(void)
{
    for (int round = 0; round < 200; round++) {
        atoll_sync *barrier = NULL;
        arrival all[3];
        uint32_t passed = 0, broken = 0;
        CHECK(atoll_barrier_new(3, false, ATOLL_FOREVER, &barrier) ==
              ATOLL_OK);
        for (int i = 0; i < 3; i++) {
            all[i] = (arrival){.barrier = barrier, .rounds = round * 1500};
            all[i].thread = start(arrive_late, &all[i]);
        }
        for (int i = 0; i < 3; i++) {
            join(all[i].thread);
            passed += all[i].passed;
            broken += all[i].broken;
        }
        CHECK(passed == 3 || broken == 3);
        atoll_sync_unref(barrier);
    }
}

/* -------------------------------------------------------- counters, cells */

static void *
count_up(void *arg)
{
    int64_t value;
    for (int i = 0; i < 5000; i++) {
        CHECK(atoll_counter_add(arg, 2, &value) == ATOLL_OK);
        CHECK(atoll_counter_add(arg, -1, &value) == ATOLL_OK);
    }
    return NULL;
}

static void
test_counter(void)
{
    atoll_sync *counter = NULL;
    int64_t value;
    CHECK(atoll_counter_new(INT64_MAX - 1, &counter) == ATOLL_OK);
    CHECK(atoll_counter_add(counter, 1, &value) == ATOLL_OK &&
          value == INT64_MAX);
    CHECK(atoll_counter_add(counter, 1, &value) == ATOLL_ERR_INVALID);
    CHECK(!atoll_counter_swap(counter, 5, 6));
    CHECK(atoll_counter_swap(counter, INT64_MAX, INT64_MIN));
    CHECK(atoll_counter_add(counter, -1, &value) == ATOLL_ERR_INVALID);
    CHECK(atoll_counter_swap(counter, INT64_MIN, 0));
    pthread_t a = start(count_up, counter), b = start(count_up, counter);
    join(a);
    join(b);
    CHECK(atoll_counter_value(counter) == 10000);
    atoll_sync_unref(counter);
}

static atoll_value *
value_of(int64_t n)
{
    atoll_msg msg = number(n);
    atoll_value *value = NULL;
    CHECK(atoll_value_new(&msg, &value) == ATOLL_OK);
    return value;
}

static void *
replace_many(void *arg)
{
    atoll_sync *cell = arg;
    for (int i = 0; i < 1000;) {
        atoll_value *seen = atoll_cell_load(cell);
        atoll_value *next = value_of(atoll_value_msg(seen)->u.i64 + 1);
        if (atoll_cell_replace(cell, seen, next)) {
            atoll_value_unref(seen); /* the cell's */
            i++;
        }
        else {
            atoll_value_unref(next);
        }
        atoll_value_unref(seen);
    }
    return NULL;
}

static void
test_cell(void)
{
    atoll_sync *cell = new_sync(ATOLL_CELL);
    at_store_rlx(&drops, 0);
    CHECK(atoll_cell_load(cell) == NULL);
    CHECK(atoll_cell_swap(cell, value_of(0)) == NULL);
    pthread_t a = start(replace_many, cell), b = start(replace_many, cell);
    join(a);
    join(b);
    atoll_value *last = atoll_cell_load(cell);
    CHECK(atoll_value_msg(last)->u.i64 == 2000);
    uint32_t before = at_load_rlx(&drops);
    atoll_sync_unref(cell);
    CHECK(at_load_rlx(&drops) == before); /* `last` holds it */
    atoll_value_unref(last);
    CHECK(at_load_rlx(&drops) == before + 1);
}

int
main(void)
{
    TAP_BEGIN(100);
    RUN(test_lock_alone);
    RUN(test_rlock);
    RUN(test_lock_is_fair);
    RUN(test_nobody_overtakes);
    RUN(test_lock_excludes);
    RUN(test_death_is_told_once);
    RUN(test_death_wakes_the_line);
    RUN(test_deaths_race);
    RUN(test_semaphore);
    RUN(test_semaphore_gives_many);
    RUN(test_permits_are_conserved);
    RUN(test_flag);
    RUN(test_async);
    RUN(test_async_cancel_races);
    RUN(test_select);
    RUN(test_select_loses_no_permit);
    RUN(test_condition);
    RUN(test_condition_in_a_crowd);
    RUN(test_barrier_again_and_again);
    RUN(test_barrier_breaks);
    RUN(test_barrier_with_a_leader);
    RUN(test_barrier_deadlines_race);
    RUN(test_counter);
    RUN(test_cell);
    TAP_END();
}
