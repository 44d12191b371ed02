/* Conditions, barriers, counters and cells: turns that come as somebody leaves. */
#include "sync_helper.h"

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
    CHECK(atoll_sync_take(buffer.lock, party(1, thread), &for_ever) == ATOLL_OK);
}

static void *
produce(void *arg)
{
    uint64_t me = *(uint64_t *)arg;
    for (int i = 0; i < 1000; i++) {
        CHECK(atoll_sync_take(buffer.lock, party(1, me), &for_ever) == ATOLL_OK);
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
        CHECK(atoll_sync_take(buffer.lock, party(1, me), &for_ever) == ATOLL_OK);
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
            all[i] = (arrival){.barrier = barrier, .rounds = 300, .arrived = &arrived};
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

/* Who comes early for the next round, and is late, breaks that one: those who were
 * enough before, and whose leader is at work, pass. */
static void
test_barrier_early_and_late(void)
{
    atoll_sync *barrier = NULL;
    atoll_turn a, b, early, beside;
    bool led;
    CHECK(atoll_barrier_new(2, true, ATOLL_FOREVER, &barrier) == ATOLL_OK);
    for (int good = 0; good < 2; good++) {
        CHECK(atoll_barrier_arrive(barrier, &a) == ATOLL_OK);
        CHECK(atoll_barrier_arrive(barrier, &b) == ATOLL_OK);
        CHECK(atoll_turn_wait(barrier, &b, &try_once) == ATOLL_OK && b.leads);
        CHECK(atoll_barrier_arrive(barrier, &beside) == ATOLL_OK);
        CHECK(atoll_barrier_arrive(barrier, &early) == ATOLL_OK);
        CHECK(!atoll_barrier_leave(barrier, &early, true, &led) && !led);
        CHECK(atoll_turn_wait(barrier, &beside, &try_once) == ATOLL_OK);
        CHECK(atoll_barrier_passed(&beside) == ATOLL_ERR_BROKEN);
        CHECK(atoll_barrier_arrive(barrier, &early) == ATOLL_ERR_BROKEN);
        CHECK(atoll_turn_wait(barrier, &a, &try_once) == ATOLL_ERR_AGAIN);
        CHECK(atoll_barrier_lead(barrier, &b, good) == ATOLL_OK);
        CHECK(atoll_turn_wait(barrier, &a, &for_ever) == ATOLL_OK);
        CHECK(atoll_barrier_passed(&a) == (good ? ATOLL_OK : ATOLL_ERR_BROKEN));
        CHECK(atoll_barrier_arrive(barrier, &early) == ATOLL_ERR_BROKEN);
        CHECK(atoll_barrier_reset(barrier) == ATOLL_OK);
    }
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
        CHECK(atoll_barrier_new(3, false, ATOLL_FOREVER, &barrier) == ATOLL_OK);
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
    CHECK(atoll_counter_add(counter, 1, &value) == ATOLL_OK && value == INT64_MAX);
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
    RUN(test_condition);
    RUN(test_condition_in_a_crowd);
    RUN(test_barrier_again_and_again);
    RUN(test_barrier_breaks);
    RUN(test_barrier_with_a_leader);
    RUN(test_barrier_early_and_late);
    RUN(test_barrier_deadlines_race);
    RUN(test_counter);
    RUN(test_cell);
    TAP_END();
}
