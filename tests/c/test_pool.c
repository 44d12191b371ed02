/* Pools: tasks that are submitted, cancelled, late and abandoned by many threads at
 * once, on workers that come, go and break. On a fake of CPython: see fake/fake.h. */
#include "home/spare.h"
#include "rooms_helper.h"

/* ----------------------------------------------------------------------- tasks */

enum { QUICK, RAISING, SPINNING, WAITING, PRINTING, DEAF };

/* What the code of a task is to do, and what it has done. Static, since code that was
 * abandoned may outlive its task. */
typedef struct work {
    int how;
    uint32_t begun, ended; /* atomic: how often the code did */
    atoll_event never;
} work;

static work works[1024];
static uint32_t next_work; /* atomic: how many are used */
static uint32_t stop_deaf; /* atomic: see code_deaf */

static PyObject *
do_work(work *w)
{
    switch (w->how) {
    case RAISING:
        return fake_raise(PyExc_ValueError, "raised");
    case SPINNING:
        return code_spin(NULL);
    case WAITING:
        return code_wait(&w->never);
    case PRINTING:
        return fake_print(OUTPUT_STDOUT, "a line\n") ? NULL : Py_NewRef(Py_None);
    case DEAF:
        return code_deaf(&stop_deaf);
    default:
        return Py_NewRef(Py_None);
    }
}

static PyObject *
code_work(void *arg)
{
    work *w = arg;
    at_add_rlx(&w->begun, 1); /* read when the task is over */
    PyObject *result = do_work(w);
    at_add_rlx(&w->ended, 1); /* likewise */
    return result;
}

/* No code runs twice, whatever becomes of its task; when all is over, all has ended. */
static void
check_works(void)
{
    for (uint32_t i = 0; i < Py_ARRAY_LENGTH(works); i++) {
        CHECK(at_load_rlx(&works[i].begun) <= 1); /* all of it is over */
        CHECK(at_load_rlx(&works[i].ended) == at_load_rlx(&works[i].begun));
    }
}

/* Submit a task, as poolobj_send does, with a limit, or 0: none. With a reference;
 * NULL: it is not taken. */
static task *
submit(pool *p, int how, int64_t limit)
{
    uint32_t number = at_add_rlx(&next_work, 1); /* a number of one's own is all */
    if (!CHECK(number < Py_ARRAY_LENGTH(works))) {
        return NULL;
    }
    works[number].how = how;
    atoll_msg msg = fake_request(code_work, &works[number]);
    task *t = task_new(p, &msg);
    t->job.task = true;
    t->job.from_main = true;
    t->limit = limit == 0 ? ATOLL_FOREVER : limit;
    if (pool_submit(p, t) != ATOLL_OK) {
        task_unref(t);
        return NULL;
    }
    return t;
}

/* Wait for its outcome; gives its reference back. */
static job_status
outcome_of(task *t)
{
    CHECK(await(&t->job.done, ATOLL_FOREVER, &wait_task, t) == ATOLL_OK);
    job_status status = t->job.status;
    CHECK(status != JOB_PENDING);
    CHECK(output_catch_up(fake_state(), t->job.printed) == 0);
    task_unref(t);
    return status;
}

/* As Future.cancel. */
static bool
cancel(task *t, bool queued)
{
    bool mine;
    Py_BEGIN_ALLOW_THREADS
    mine = queued ? pool_cancel_queued(t) : pool_cancel(t, JOB_CANCELLED);
    if (!mine) {
        job_await_announcement(&t->job);
    }
    Py_END_ALLOW_THREADS
    return mine;
}

/* Whether it has been cancelled here or not, wait for its outcome, and compare. */
static void
settle(task *t, bool cancelled)
{
    bool now = !cancelled && cancel(t, false);
    job_status status = outcome_of(t);
    CHECK((!cancelled && !now) || status == JOB_CANCELLED);
}

/* ----------------------------------------------------------------------- pools */

static pool *
make_pool(const char *kind, uint32_t workers, uint64_t max_tasks, int64_t grace,
          fake_code init)
{
    home_plan plan = fake_plan(kind, false);
    atoll_msg msg = {0};
    pool_config config = {.name = kind,
                          .max_workers = workers,
                          .max_tasks = max_tasks,
                          .grace = grace,
                          .plan = &plan};
    if (init != NULL) {
        msg = fake_request(init, NULL);
        config.init = &msg;
    }
    return pool_new(&config);
}

static void
close_pool(pool *p, bool all)
{
    Py_BEGIN_ALLOW_THREADS
    pool_close(p, all);
    if (all) {
        pool_cancel_started(p);
    }
    Py_END_ALLOW_THREADS
}

/* Close it and wait until it has ended. */
static void
end_pool(pool *p, bool all)
{
    close_pool(p, all);
    CHECK(await(&p->ended, ATOLL_FOREVER, &wait_pool, p) == ATOLL_OK);
    pool_unref(p);
}

/* Wait until what was abandoned has ended, and the spares: the exit does not. */
static void
await_strays(void)
{
    Py_BEGIN_ALLOW_THREADS
    spare_off();
    Py_END_ALLOW_THREADS
    while (fake_interpreters() > 0) {
        fake_sleep(100000);
    }
}

static PyObject *
code_init(void *Py_UNUSED(arg))
{
    return fake_look() ? NULL : Py_NewRef(Py_None);
}

static PyObject *
code_bad_init(void *Py_UNUSED(arg))
{
    return fake_raise(PyExc_ValueError, "it does not begin");
}

/* ------------------------------------------------------------------------------ a
 * crowd */

enum { CLIENTS = 3, TASKS = 24, KEPT = 6 };

/* Submit tasks that end, late or not, and cancel them at any time. */
static void
client(main_thread *self)
{
    task *kept[KEPT] = {0};
    for (int i = 0; i < TASKS; i++) {
        task **at = &kept[next_random(&self->seed) % KEPT];
        if (*at != NULL && (*at)->limit != ATOLL_FOREVER && one_in(&self->seed, 3)) {
            job_drop_future(&(*at)->job); /* it goes on, and nobody asks */
            task_unref(*at);
        }
        else if (*at != NULL) {
            settle(*at, cancel(*at, one_in(&self->seed, 3)));
        }
        int how = (int)(next_random(&self->seed) % 12);
        int64_t limit = one_in(&self->seed, 3) ? 1 + next_random(&self->seed) % MS : 0;
        *at = submit(self->arg, how < DEAF ? how : QUICK, limit);
        if (one_in(&self->seed, 6)) {
            fake_sleep(next_random(&self->seed) % MS);
        }
    }
    for (int i = 0; i < KEPT; i++) {
        if (kept[i] != NULL) {
            settle(kept[i], false);
        }
    }
}

static void
crowd(uint64_t *seed)
{
    main_thread threads[CLIENTS];
    fake_begin();
    pool *p = make_pool("crowd", 1 + next_random(seed) % 3, next_random(seed) % 4,
                        ATOLL_FOREVER, one_in(seed, 2) ? code_init : NULL);
    main_threads_start(threads, CLIENTS, client, p, seed);
    if (one_in(seed, 3)) {
        fake_sleep(next_random(seed) % (3 * MS));
        close_pool(p, one_in(seed, 2));
    }
    main_threads_join(threads, CLIENTS);
    end_pool(p, false);
    fake_exit();
    check_works();
    check_nothing_left();
}

/* ------------------------------------------------- what does not obey, or does not
 * begin */

/* A worker that does not obey is abandoned, and another one takes its place. */
static void
abandoned(uint64_t *seed)
{
    fake_begin();
    pool *p = make_pool("abandoned", 2, 0, 2 * MS, NULL);
    for (int i = 0; i < 4; i++) {
        task *deaf = submit(p, DEAF, one_in(seed, 2) ? MS : 0);
        task *quick = submit(p, QUICK, 0);
        CHECK(outcome_of(quick) == JOB_RETURNED);
        bool mine = cancel(deaf, false);
        CHECK(outcome_of(deaf) == (mine ? JOB_CANCELLED : JOB_LATE));
    }
    CHECK(outcome_of(submit(p, QUICK, 0)) == JOB_RETURNED);
    fake_sleep(next_random(seed) % (4 * MS));
    obey(&stop_deaf);
    end_pool(p, false);
    await_strays();
    fake_exit();
    check_works();
    check_nothing_left();
}

/* With too many of them it is broken: what is queued, and what comes, is told so. */
static void
too_many(uint64_t *Py_UNUSED(seed))
{
    fake_begin();
    pool *p = make_pool("too many", 1, 0, 100000, NULL);
    task *t;
    int taken = 0;
    while ((t = submit(p, DEAF, 100000)) != NULL) {
        job_status status = outcome_of(t);
        CHECK(status == JOB_LATE || status == JOB_BROKEN);
        taken++;
    }
    CHECK(taken > 8);
    obey(&stop_deaf);
    end_pool(p, false);
    await_strays();
    fake_exit();
    check_works();
    check_nothing_left();
}

/* Workers that cannot be made, or prepared, break their pool. */
static void
broken(uint64_t *seed)
{
    fake_begin();
    bool made = one_in(seed, 2);
    fake_fail_creation(!made);
    pool *p = make_pool("broken", 2, 0, ATOLL_FOREVER, made ? code_bad_init : NULL);
    task *tasks[4];
    for (int i = 0; i < 4; i++) {
        tasks[i] = submit(p, QUICK, one_in(seed, 2) ? MS : 0);
    }
    for (int i = 0; i < 4; i++) {
        CHECK(tasks[i] == NULL || outcome_of(tasks[i]) == JOB_BROKEN);
    }
    end_pool(p, false);
    fake_exit();
    check_works();
    check_nothing_left();
}

/* ---------------------------------------------------------------------- spares */

/* Take spares as create() does, have others made, and none. */
static void
use_spares(main_thread *self)
{
    const char *kinds[] = {"one", "two"};
    for (int i = 0; i < 12; i++) {
        home_plan plan = fake_plan(kinds[next_random(&self->seed) % 2], false);
        home *h = NULL;
        switch (next_random(&self->seed) % 4) {
        case 0:
            Py_BEGIN_ALLOW_THREADS
            spare_set(&plan, next_random(&self->seed) % 3);
            h = spare_unready();
            Py_END_ALLOW_THREADS
            if (h != NULL) {
                CHECK(await(&h->started, ATOLL_FOREVER, &wait_home_start, NULL) ==
                      ATOLL_OK);
                home_unref(h);
            }
            break;
        case 1:
            h = spare_take(&plan);
            if (h != NULL) {
                uint32_t ran = 0;
                CHECK(home_unspare(h, "taken") == ATOLL_OK);
                CHECK(call(h, code_count, &ran) == JOB_RETURNED && ran == 1);
                drop_home(h);
            }
            break;
        case 2:
            if (one_in(&self->seed, 3)) {
                Py_BEGIN_ALLOW_THREADS
                spare_off();
                Py_END_ALLOW_THREADS
            }
            break;
        default: {
            pool *p =
                make_pool(kinds[next_random(&self->seed) % 2], 2, 0, ATOLL_FOREVER,
                          one_in(&self->seed, 2) ? code_init : NULL);
            task *first = submit(p, QUICK, 0), *second = submit(p, SPINNING, 0);
            CHECK(outcome_of(first) == JOB_RETURNED);
            settle(second, false);
            end_pool(p, one_in(&self->seed, 2));
        }
        }
        plan_drop(&plan);
    }
}

/* Somebody who looks everywhere: closes, calls and interrupts what it can find. */
static void
disturb(main_thread *self)
{
    uint32_t *stop = self->arg;
    while (at_load_acq(stop) == 0) { /* pairs with `obey` */
        home *h = home_find(1 + next_random(&self->seed) % 30, true);
        if (h != NULL) {
            job_status status = JOB_GONE;
            switch (next_random(&self->seed) % 3) {
            case 0:
                status = close_home(h, atoll_now() + MS);
                break;
            case 1:
                Py_BEGIN_ALLOW_THREADS
                home_interrupt(h, NULL, false);
                Py_END_ALLOW_THREADS
                break;
            default:
                status = call(h, code_count, &(uint32_t){0});
            }
            CHECK(status != JOB_LOST);
            drop_home(h);
        }
        fake_sleep(50000);
    }
}

static void
spares(uint64_t *seed)
{
    main_thread threads[CLIENTS];
    fake_begin();
    main_threads_start(threads, CLIENTS, use_spares, NULL, seed);
    main_threads_join(threads, CLIENTS);
    fake_exit();
    check_works();
    check_nothing_left();
}

/* ------------------------------------------------------------- an interpreter as a
 * pool */

/* Submit to an interpreter that others call, interrupt and close. */
static void
submit_to_home(main_thread *self)
{
    home *h = self->arg;
    for (int i = 0; i < 16; i++) {
        atoll_err err;
        pool *p = pool_of_home(h, &err);
        int how = (int)(next_random(&self->seed) % 6);
        task *t = submit(p, how < DEAF ? how : QUICK, one_in(&self->seed, 2) ? MS : 0);
        if (t != NULL) {
            if (one_in(&self->seed, 2)) {
                call(h, code_count, &(uint32_t){0});
            }
            settle(t, cancel(t, true));
        }
        if (one_in(&self->seed, 20)) {
            job_status status = close_home(h, atoll_now() + MS);
            CHECK(status != JOB_REFUSED && status != JOB_LOST);
        }
        pool_unref(p);
    }
}

static void
fixed(uint64_t *seed)
{
    main_thread threads[CLIENTS];
    fake_begin();
    home *h = make_home("fixed", one_in(seed, 2));
    main_threads_start(threads, CLIENTS, submit_to_home, h, seed);
    main_threads_join(threads, CLIENTS);
    job_status status = close_home(h, ATOLL_FOREVER);
    CHECK(status == JOB_RETURNED || status == JOB_GONE || status == JOB_BUSY);
    drop_home(h);
    fake_exit();
    check_works();
    check_nothing_left();
}

/* ------------------------------------------------------------------------ exit */

static void
submit_until_exit(main_thread *self)
{
    for (int i = 0; i < 300; i++) {
        task *t = submit(self->arg, (int)(next_random(&self->seed) % (DEAF + 1)), MS);
        if (t == NULL) {
            return;
        }
        if (one_in(&self->seed, 2)) {
            cancel(t, true);
        }
        outcome_of(t);
    }
}

static void
exit_amid(uint64_t *seed)
{
    static main_thread threads[CLIENTS];
    static uint32_t stop;
    setenv("ATOLL_CLOSE_LIMIT", "0.05", 1);
    fake_begin();
    pool *p = make_pool("amid", 2, next_random(seed) % 3, 4 * MS,
                        one_in(seed, 2) ? code_init : NULL);
    main_threads_start(threads, 2, submit_until_exit, p, seed);
    main_threads_start(threads + 2, 1, disturb, &stop, seed);
    main_threads_leave(threads, CLIENTS);
    fake_sleep(next_random(seed) % (10 * MS));
    if (one_in(seed, 2)) {
        close_pool(p, one_in(seed, 2));
    }
    if (one_in(seed, 2)) {
        obey(&stop_deaf);
    }
    home_hurry();
    fake_exit();
    for (uint32_t i = 0; i < Py_ARRAY_LENGTH(works); i++) {
        CHECK(at_load_rlx(&works[i].begun) <= 1); /* whoever begins it later */
    }
}

static void
test_crowd(void)
{
    run_programs(crowd, rounds_of(6, 500), 60);
}

static void
test_abandoned(void)
{
    run_programs(abandoned, rounds_of(3, 200), 60);
}

static void
test_too_many(void)
{
    run_programs(too_many, rounds_of(2, 100), 60);
}

static void
test_broken(void)
{
    run_programs(broken, rounds_of(4, 200), 60);
}

static void
test_spares(void)
{
    run_programs(spares, rounds_of(4, 300), 60);
}

static void
test_fixed(void)
{
    run_programs(fixed, rounds_of(6, 400), 60);
}

static void
test_exit_amid(void)
{
    run_programs(exit_amid, rounds_of(5, 300), 60);
}

int
main(void)
{
    TAP_BEGIN(0);
    RUN(test_crowd);
    RUN(test_abandoned);
    RUN(test_too_many);
    RUN(test_broken);
    RUN(test_spares);
    RUN(test_fixed);
    RUN(test_exit_amid);
    TAP_END();
}
