/* Interpreters: jobs, interrupts, closes and ends, by many threads at once. On a fake
 * of CPython: see fake/fake.h. */
#include "rooms_helper.h"

/* ----------------------------------------------------------------------- calls */

enum { CALLERS = 3 };

static void
call_often(main_thread *self)
{
    home *h = self->arg;
    uint32_t ran = 0, taken = 0;
    for (int i = 0; i < 20; i++) {
        job_status status = call(h, code_count, &ran);
        CHECK(status == JOB_RETURNED || status == JOB_PENDING);
        taken += status == JOB_RETURNED;
    }
    CHECK(ran == taken);
}

/* A call is taken or refused, and what is taken runs once. */
static void
calls(uint64_t *seed)
{
    main_thread threads[CALLERS];
    fake_begin();
    home *h = make_home("calls", false);
    main_threads_start(threads, CALLERS, call_often, h, seed);
    main_threads_join(threads, CALLERS);
    CHECK(close_home(h, ATOLL_FOREVER) == JOB_RETURNED);
    CHECK(call(h, code_count, NULL) == JOB_PENDING);
    drop_home(h);
    fake_exit();
    check_nothing_left();
}

/* ------------------------------------------------------------------ interrupts */

typedef struct target {
    home *h;
    atoll_event never;
} target;

static void
interrupt_sometimes(main_thread *self)
{
    target *t = self->arg;
    for (int i = 0; i < 30; i++) {
        atoll_err err;
        bool aim = one_in(&self->seed, 2), wait = one_in(&self->seed, 2);
        uint32_t ran = 0;
        job *j = !aim   ? begin_call(t->h, code_count, &ran, &err)
                 : wait ? begin_call(t->h, code_wait, &t->never, &err)
                        : begin_call(t->h, code_spin, NULL, &err);
        if (j == NULL) {
            CHECK(err == ATOLL_ERR_AGAIN);
            fake_sleep(20000);
            continue;
        }
        if (aim) {
            fake_sleep(next_random(&self->seed) % 300000);
            Py_BEGIN_ALLOW_THREADS
            CHECK(home_interrupt(t->h, j, false));
            Py_END_ALLOW_THREADS
        }
        /* It hits the one that it is for, and no other. */
        CHECK(end_call(t->h, j) == (aim ? JOB_RAISED : JOB_RETURNED));
        CHECK(ran == !aim);
    }
}

static void
interrupts(uint64_t *seed)
{
    main_thread threads[CALLERS];
    target t = {0};
    fake_begin();
    t.h = make_home("interrupts", false);
    main_threads_start(threads, CALLERS, interrupt_sometimes, &t, seed);
    main_threads_join(threads, CALLERS);
    drop_home(t.h);
    fake_exit();
    check_nothing_left();
}

/* In a place where an interrupt must not come, and out of it. */
static PyObject *
code_delicate(void *Py_UNUSED(arg))
{
    fake_set_place(PLACE_DELICATE);
    for (int i = 0; i < 200; i++) {
        if (!CHECK(!fake_look())) {
            break;
        }
    }
    fake_set_place(PLACE_FREE);
    return code_spin(NULL);
}

/* A thread of the interpreter's takes pending calls from the home's. */
static PyObject *
code_helper(void *arg)
{
    while (at_load_acq((uint32_t *)arg) == 0) { /* pairs with `obey` */
        if (fake_look()) {
            PyErr_Clear();
        }
    }
    return Py_NewRef(Py_None);
}

static PyObject *
code_start_helper(void *arg)
{
    fake_thread_start(code_helper, arg, false);
    return Py_NewRef(Py_None);
}

/* Late interrupts: while it comes and goes, put off, or had by another thread. */
static void
late_interrupts(uint64_t *seed)
{
    static uint32_t stop;
    fake_begin();
    home *h = make_home("late", false);
    CHECK(call(h, code_start_helper, &stop) == JOB_RETURNED);
    for (int i = 0; i < 8; i++) {
        atoll_err err;
        job *j = begin_call(h, one_in(seed, 2) ? code_delicate : code_spin, NULL, &err);
        for (int n = 0; n < 3; n++) {
            Py_BEGIN_ALLOW_THREADS
            CHECK(home_interrupt(h, n == 0 ? j : NULL, one_in(seed, 2)) || n > 0);
            Py_END_ALLOW_THREADS
            fake_sleep(next_random(seed) % 50000);
        }
        job_status status = end_call(h, j);
        CHECK(status == JOB_RAISED || status == JOB_LOST); /* or nobody wants it */
        CHECK(call(h, code_count, &(uint32_t){0}) == JOB_RETURNED);
    }
    obey(&stop);
    CHECK(close_home(h, ATOLL_FOREVER) == JOB_RETURNED);
    drop_home(h);
    fake_exit();
    check_nothing_left();
}

/* ---------------------------------------------------------------------- closes */

typedef struct closing {
    home *h;
    uint32_t closed; /* atomic: how many have closed it */
} closing;

static void
close_or_call(main_thread *self)
{
    closing *c = self->arg;
    for (int i = 0; i < 10; i++) {
        job_status status;
        switch (next_random(&self->seed) % 4) {
        case 0: {
            int64_t deadline = atoll_now() + next_random(&self->seed) % 2000000;
            status =
                close_home(c->h, one_in(&self->seed, 3) ? ATOLL_FOREVER : deadline);
            if (status == JOB_RETURNED) {
                at_add_rlx(&c->closed, 1); /* read after the join */
            }
            break;
        }
        case 1:
            Py_BEGIN_ALLOW_THREADS
            home_interrupt(c->h, NULL, false);
            Py_END_ALLOW_THREADS
            break;
        case 2:
            status = call(c->h, code_count, &(uint32_t){0});
            CHECK(status == JOB_RETURNED || status == JOB_PENDING ||
                  status == JOB_RAISED || status == JOB_GONE);
            break;
        default: {
            home *again = home_find(c->h->id, one_in(&self->seed, 2));
            char name[16];
            home_copy_name(c->h->id, name, sizeof(name));
            if (again != NULL) {
                CHECK(again == c->h);
                drop_home(again);
            }
        }
        }
    }
}

static void
closes(uint64_t *seed)
{
    main_thread threads[CALLERS];
    fake_begin();
    for (int i = 0; i < 4; i++) {
        closing c = {.h = make_home("closes", one_in(seed, 2))};
        main_threads_start(threads, CALLERS, close_or_call, &c, seed);
        main_threads_join(threads, CALLERS);
        /* Somebody may have given up a close that goes on: it ends all the same. */
        job_status status = close_home(c.h, ATOLL_FOREVER);
        CHECK(status == JOB_RETURNED || status == JOB_GONE);
        CHECK(home_state_now(c.h) == HOME_ENDED);
        drop_home(c.h);
    }
    fake_exit();
    check_nothing_left();
}

/* A daemon thread that does not end before it is told. */
static PyObject *
code_start_daemon(void *arg)
{
    fake_thread_start(code_deaf, arg, true);
    return Py_NewRef(Py_None);
}

/* What cannot be closed is refused to a caller of close(), who has it back. */
static void
refused(uint64_t *Py_UNUSED(seed))
{
    static uint32_t stop;
    fake_begin();
    home *h = make_home("refused", true);
    CHECK(call(h, code_start_daemon, &stop) == JOB_RETURNED);
    CHECK(close_home(h, ATOLL_FOREVER) == JOB_REFUSED);
    CHECK(call(h, code_count, &(uint32_t){0}) == JOB_RETURNED);
    obey(&stop);
    CHECK(close_home(h, ATOLL_FOREVER) == JOB_RETURNED);
    drop_home(h);
    fake_exit();
    check_nothing_left();
}

/* What nobody waits for is left to itself, and ends when its threads do. */
static void
left(uint64_t *seed)
{
    uint32_t stop[3] = {0};
    home *homes[3];
    setenv("ATOLL_CLOSE_LIMIT", "0.02", 1);
    fake_begin();
    for (int i = 0; i < 3; i++) {
        homes[i] = make_home("left", one_in(seed, 2));
        CHECK(call(homes[i], code_start_daemon, &stop[i]) == JOB_RETURNED);
        home_ref(homes[i]);
        drop_home(homes[i]);
    }
    for (int i = 0; i < 3; i++) {
        CHECK(await(&homes[i]->ended, ATOLL_FOREVER, &wait_unknown, NULL) == ATOLL_OK);
        CHECK(home_remains(homes[i]));
        fake_sleep(next_random(seed) % 1000000);
        obey(&stop[i]);
    }
    for (int i = 0; i < 3; i++) {
        CHECK(await(&homes[i]->gone, ATOLL_FOREVER, &wait_unknown, NULL) == ATOLL_OK);
        CHECK(!home_remains(homes[i]));
        home_unref(homes[i]);
    }
    fake_exit();
    check_nothing_left();
}

/* ------------------------------------------------------------------------ exit */

/* Calls that are under way when the process exits end, or stay blocked as those of
 * daemon threads do. */
static void
call_until_exit(main_thread *self)
{
    target *t = self->arg;
    for (;;) {
        atoll_err err;
        job *j = one_in(&self->seed, 2)
                     ? begin_call(t->h, code_count, &(uint32_t){0}, &err)
                     : begin_call(t->h, code_wait, &t->never, &err);
        if (j == NULL && err == ATOLL_ERR_CLOSED) {
            return;
        }
        if (j != NULL) {
            end_call(t->h, j);
        }
        else {
            fake_sleep(10000);
        }
    }
}

static void
exit_amid(uint64_t *seed)
{
    static uint32_t never;
    static target targets[2];
    static main_thread threads[4];
    setenv("ATOLL_CLOSE_LIMIT", "0.05", 1);
    fake_begin();
    for (int i = 0; i < 2; i++) {
        targets[i].h = make_home("amid", one_in(seed, 2));
        if (one_in(seed, 3)) {
            CHECK(call(targets[i].h, code_start_daemon, &never) == JOB_RETURNED);
        }
    }
    main_threads_start(threads, 2, call_until_exit, &targets[0], seed);
    main_threads_start(threads + 2, 2, call_until_exit, &targets[1], seed);
    main_threads_leave(threads, 4);
    fake_sleep(next_random(seed) % 3000000);
    if (one_in(seed, 2)) {
        home_hurry();
    }
    fake_exit();
    CHECK(home_state_now(targets[0].h) >= HOME_CLOSING);
}

static void
test_calls(void)
{
    run_programs(calls, rounds_of(3, 200), 60);
}

static void
test_interrupts(void)
{
    run_programs(interrupts, rounds_of(3, 200), 60);
}

static void
test_late_interrupts(void)
{
    run_programs(late_interrupts, rounds_of(3, 200), 60);
}

static void
test_closes(void)
{
    run_programs(closes, rounds_of(6, 400), 60);
}

static void
test_refused(void)
{
    run_programs(refused, rounds_of(2, 100), 60);
}

static void
test_left(void)
{
    run_programs(left, rounds_of(3, 200), 60);
}

static void
test_exit_amid(void)
{
    run_programs(exit_amid, rounds_of(4, 300), 60);
}

int
main(void)
{
    TAP_BEGIN(0);
    RUN(test_calls);
    RUN(test_interrupts);
    RUN(test_late_interrupts);
    RUN(test_closes);
    RUN(test_refused);
    RUN(test_left);
    RUN(test_exit_amid);
    TAP_END();
}
