/* What the tests of the extension's rooms share (see fake/fake.h): programs in child
 * processes, since there is one end of a process in each; callers as in home/object.c
 * and pool/object.c; and code to be called. */
#ifndef ROOMS_HELPER_H
#define ROOMS_HELPER_H

#include <sys/wait.h>

#include "fake/fake.h"
#include "helper.h"

/* -------------------------------------------------------------------- programs */

/* How often to run a program with another seed. */
static inline unsigned
rounds_of(unsigned usual, unsigned nightly)
{
    return getenv("ATOLL_NIGHTLY") != NULL ? nightly : usual;
}

/* Run a program in a child process, which has `seconds`: false if it has failed. It is
 * called with its seed, in the main thread of a process with nothing in it. */
static inline bool
run_program(void (*program)(uint64_t *seed), uint64_t seed, unsigned seconds)
{
    int status = -1;
    fflush(stdout);
    pid_t pid = fork();
    if (pid == 0) {
        uint64_t state = seed;
        alarm(seconds);
        program(&state);
        exit(tap_complaints != 0);
    }
    if (pid < 0 || waitpid(pid, &status, 0) != pid) {
        return false;
    }
    if (status != 0) {
        printf("# it fails with ATOLL_SEED=%llu: status %d\n", (unsigned long long)seed,
               status);
    }
    return status == 0;
}

/* Run it with many seeds, or the one of ATOLL_SEED. */
static inline void
run_programs(void (*program)(uint64_t *seed), unsigned rounds, unsigned seconds)
{
    const char *given = getenv("ATOLL_SEED");
    uint64_t first = given != NULL ? strtoull(given, NULL, 10) : (uint64_t)atoll_now();
    printf("# seeds from %llu\n", (unsigned long long)first);
    for (unsigned i = 0; i < (given != NULL ? 1 : rounds); i++) {
        if (!CHECK(run_program(program, first + i, seconds))) {
            return;
        }
    }
}

/* What must be so at the end of a program whose homes have all ended. */
static inline void
check_nothing_left(void)
{
    CHECK(fake_interpreters() == 0);
    CHECK(fake_messages() == 0);
}

/* ---------------------------------------------------------------------- random */

static inline bool
one_in(uint64_t *seed, uint32_t n)
{
    return next_random(seed) % n == 0;
}

/* A seed for another thread. */
static inline uint64_t
fork_seed(uint64_t *seed)
{
    uint64_t high = next_random(seed);
    return high << 32 | next_random(seed);
}

/* --------------------------------------------------------------------- callers */

/* Make a home, which is there on return. */
static inline home *
make_home(const char *name, bool isolated)
{
    home_plan plan = fake_plan("plain", isolated);
    home *h = NULL;
    CHECK(home_new(name, &plan, &h) == ATOLL_OK);
    plan_drop(&plan);
    Py_BEGIN_ALLOW_THREADS
    CHECK(atoll_event_wait(&h->started, &for_ever) == ATOLL_OK);
    Py_END_ALLOW_THREADS
    return h;
}

/* Give up what make_home has made: it closes. */
static inline void
drop_home(home *h)
{
    home_handle_unref(h);
    home_unref(h);
}

static inline atoll_err
wait_for_event(void *arg, const atoll_wait *wait)
{
    return atoll_event_wait(arg, wait);
}

/* Wait attached, as callers do, for an event. ATOLL_ERR_INTERRUPTED: with an exception.
 */
static inline atoll_err
await(atoll_event *event, int64_t deadline, const wait_type *type, const void *object)
{
    atoll_err err = ATOLL_ERR_INTERRUPTED;
    int rc = detach_wait_one(fake_state(), wait_for_event, event, deadline, NULL, type,
                             object, &err);
    return rc < 0 ? ATOLL_ERR_INTERRUPTED : err;
}

/* Begin to have `code` called there: the job, with a reference, or NULL: *err. */
static inline job *
begin_call(home *h, fake_code code, void *arg, atoll_err *err)
{
    atoll_msg msg = fake_request(code, arg);
    job *j = job_new(JOB_CALL, &msg);
    j->from_main = fake_state()->is_main;
    *err = home_submit(h, j);
    if (*err != ATOLL_OK) {
        job_unref(j);
        j = NULL;
    }
    return j;
}

/* Wait for it; gives its reference back. */
static inline job_status
end_call(home *h, job *j)
{
    CHECK(await(&j->done, ATOLL_FOREVER, &wait_home_job, h) == ATOLL_OK);
    job_status status = j->status;
    CHECK(output_catch_up(fake_state(), j->printed) == 0);
    job_unref(j);
    return status;
}

/* Have it called. PENDING: it was not taken. */
static inline job_status
call(home *h, fake_code code, void *arg)
{
    atoll_err err;
    job *j = begin_call(h, code, arg, &err);
    return j == NULL ? JOB_PENDING : end_call(h, j);
}

/* Close it, as Interpreter.close(timeout) does: RETURNED; REFUSED; PENDING: not in
 * time; GONE: others have closed it; BUSY: it runs, and there is no timeout. */
static inline job_status
close_home(home *h, int64_t deadline)
{
    job *j;
    atoll_err err = home_close(h, deadline != ATOLL_FOREVER, &j);
    if (err != ATOLL_OK) {
        return err == ATOLL_ERR_AGAIN ? JOB_BUSY : JOB_GONE;
    }
    err = await(&j->done, deadline, &wait_home_job, h);
    home_close_over(h);
    job_status status = err == ATOLL_OK ? j->status : JOB_PENDING;
    job_unref(j);
    Py_BEGIN_ALLOW_THREADS
    home_reap();
    Py_END_ALLOW_THREADS
    return status;
}

/* ------------------------------------------------------------------------ code */

/* A number that the code counts up, or an order to end. */
static inline PyObject *
code_count(void *arg)
{
    at_add_rlx((uint32_t *)arg, 1); /* read when the job is done */
    return Py_NewRef(Py_None);
}

/* Compute until an interrupt comes, which is what it ends with. */
static inline PyObject *
code_spin(void *arg)
{
    if (arg != NULL) {
        at_add_rlx((uint32_t *)arg, 1); /* only how far it is */
    }
    while (!fake_look()) {
    }
    return NULL;
}

/* Wait for an event as code in an interpreter does. */
static inline PyObject *
code_wait(void *arg)
{
    return await(arg, ATOLL_FOREVER, &wait_unknown, NULL) == ATOLL_OK
               ? Py_NewRef(Py_None)
               : NULL;
}

/* Catch all interrupts until `*arg`, a flag, is set. */
static inline PyObject *
code_deaf(void *arg)
{
    while (at_load_acq((uint32_t *)arg) == 0) { /* pairs with `obey` */
        if (fake_look()) {
            PyErr_Clear();
        }
        fake_sleep(50000);
    }
    return Py_NewRef(Py_None);
}

static inline void
obey(uint32_t *flag)
{
    at_store_rel(flag, 1); /* pairs with the load in code_deaf */
}

/* Run `body` on a thread of the program's, in main, attached. */
typedef struct main_thread {
    pthread_t thread;
    void (*body)(struct main_thread *self);
    uint64_t seed;
    void *arg;
} main_thread;

static inline void *
main_thread_run(void *arg)
{
    main_thread *self = arg;
    fake_attach_main();
    self->body(self);
    fake_detach();
    return NULL;
}

static inline void
main_threads_start(main_thread *threads, unsigned count,
                   void (*body)(main_thread *self), void *arg, uint64_t *seed)
{
    for (unsigned i = 0; i < count; i++) {
        threads[i] = (main_thread){.body = body, .arg = arg, .seed = fork_seed(seed)};
        threads[i].thread = start(main_thread_run, &threads[i]);
    }
}

/* They may go on when the process exits, as daemon threads do. */
static inline void
main_threads_leave(main_thread *threads, unsigned count)
{
    for (unsigned i = 0; i < count; i++) {
        pthread_detach(threads[i].thread);
    }
}

static inline void
main_threads_join(main_thread *threads, unsigned count)
{
    Py_BEGIN_ALLOW_THREADS
    for (unsigned i = 0; i < count; i++) {
        join(threads[i].thread);
    }
    Py_END_ALLOW_THREADS
}

#endif
