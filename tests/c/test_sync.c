/* Locks, semaphores and flags: order, owners that die, deadlines and cancels at the
 * worst moment. */
#include "sync_helper.h"

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
    CHECK(atoll_sync_find(atoll_sync_id(lock), &found) == ATOLL_OK && found == lock);
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
        crowd[i] = (taker){.sync = lock,
                           .who = party(2, i),
                           .wait = for_ever,
                           .order = &order,
                           .give_back = true};
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
        CHECK(atoll_sync_take(lock, party(7, 1), &for_ever) == ATOLL_ERR_OWNER_DIED);
        CHECK(atoll_sync_take(lock, party(7, 1), &for_ever) == ATOLL_OK);
        CHECK(atoll_sync_take(other, party(7, 1), &try_once) == ATOLL_ERR_AGAIN);
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
        crowd[i] = (taker){.sync = lock,
                           .who = party(6, i),
                           .wait = for_ever,
                           .order = &order,
                           .give_back = true};
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
    if (atoll_sync_take(mortal, party(1, 1), &try_once) == ATOLL_ERR_OWNER_DIED) {
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
        CHECK(atoll_sync_take_start(s, party(1, 1), &b, cq) == ATOLL_ERR_AGAIN);
        CHECK(atoll_sync_take_start(s, party(1, 1), &c, cq) == ATOLL_ERR_AGAIN);
        CHECK(atoll_op_cancel(&b));
        atoll_sync_untake(s, ATOLL_OK);
        CHECK(!atoll_op_cancel(&c));
        CHECK(atoll_cq_next(cq) == &c && c.status == ATOLL_OK);
        CHECK(atoll_sync_take(s, party(1, 2), &try_once) == ATOLL_ERR_AGAIN);
        atoll_sync_untake(s, ATOLL_OK);
        CHECK(atoll_sync_take(s, party(1, 2), &try_once) == ATOLL_OK);
    }
    atoll_op d = {0};
    CHECK(atoll_sync_take_start(kinds[0], party(2, 1), &d, cq) == ATOLL_ERR_AGAIN);
    atoll_sync_orphan_all(1);
    CHECK(atoll_cq_next(cq) == &d && d.status == ATOLL_ERR_OWNER_DIED);
    atoll_sync_untake(kinds[0], d.status); /* nobody looks at the news */
    CHECK(atoll_sync_take(kinds[0], party(2, 1), &try_once) == ATOLL_ERR_OWNER_DIED);
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
    return (atoll_case){.kind = ATOLL_CASE_TAKE,
                        .of.sync = sync,
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
    CHECK(atoll_select(cases, 3, &random, &for_ever, &index, &err) == ATOLL_OK &&
          index == 0 && err == ATOLL_OK);
    CHECK(atoll_select(cases, 3, &random, &try_once, &index, &err) == ATOLL_ERR_AGAIN);
    pthread_t thread = start(set_later, flag);
    CHECK(atoll_select(cases, 3, &random, &for_ever, &index, &err) == ATOLL_OK &&
          index == 2 && err == ATOLL_OK);
    join(thread);
    CHECK(in_line(lock) == 0 && in_line(sem) == 0 && in_line(flag) == 0);
    CHECK(atoll_flag_clear(flag) == ATOLL_OK);
    atoll_sync_orphan_all(3);
    CHECK(atoll_select(cases, 3, &random, &for_ever, &index, &err) == ATOLL_OK &&
          index == 0 && err == ATOLL_ERR_OWNER_DIED);
    CHECK(atoll_select(wrong, 1, &random, &for_ever, &index, &err) == ATOLL_OK &&
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
        CHECK(atoll_select(cases, 2, &random, &for_ever, &index, &err) == ATOLL_OK &&
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
    TAP_END();
}
