/* Timers: order, stops, restarts, the life of the one thread, forks, and many
 * threads at once. */
#include <dirent.h>
#include <sys/wait.h>

#include "helper.h"

/* The linker puts this between the core and the port: threads are refused. */
static uint32_t refuse; /* atomic */
atoll_err __real_atoll_thread_start(size_t stack_bytes, void *(*run)(void *), void *arg,
                                    atoll_thread *out);
atoll_err __wrap_atoll_thread_start(size_t stack_bytes, void *(*run)(void *), void *arg,
                                    atoll_thread *out);

atoll_err
__wrap_atoll_thread_start(size_t stack_bytes, void *(*run)(void *), void *arg,
                          atoll_thread *out)
{
    return at_load_rlx(&refuse) ? ATOLL_ERR_SYSTEM
                                : __real_atoll_thread_start(stack_bytes, run, arg, out);
}

static unsigned others; /* sanitizers have threads of their own */

static unsigned
threads_now(void)
{
    unsigned count = 0;
    DIR *dir = opendir("/proc/self/task");
    struct dirent *entry;
    while (dir != NULL && (entry = readdir(dir)) != NULL) {
        count += entry->d_name[0] != '.';
    }
    closedir(dir);
    return count - others;
}

/* A timer that counts, and notes when it was. */
typedef struct clocked {
    atoll_timer timer; /* first: fire gets its address */
    uint32_t fired;    /* atomic */
    uint32_t turn;     /* the how-manieth of all it was */
    int64_t when;
    int data; /* plain: published by the start */
} clocked;

static uint32_t turns; /* atomic */

static void
note(atoll_timer *timer)
{
    clocked *c = (clocked *)(void *)timer;
    c->when = atoll_now();
    c->turn = at_add_rlx(&turns, 1);
    CHECK(c->data == 42);
    __atomic_fetch_add(&c->fired, 1, __ATOMIC_RELEASE);
}

static clocked
fresh(void)
{
    return (clocked){.timer = {.fire = note}, .data = 42};
}

static void
fires_in_time(void)
{
    clocked c = fresh();
    CHECK(!atoll_timer_stop(&c.timer));
    for (uint32_t i = 1; i <= 3; i++) {
        int64_t due = atoll_now() + 20 * MS;
        CHECK(atoll_timer_start(&c.timer, due) == ATOLL_OK);
        CHECK(c.timer.deadline == due);
        UNTIL(at_load_acq(&c.fired) == i);
        CHECK(c.when >= due && c.when < due + 2000 * MS);
        CHECK(!atoll_timer_stop(&c.timer));
    }
    int64_t long_ago[] = {0, 1, -1, INT64_MIN};
    for (uint32_t i = 0; i < 4; i++) {
        CHECK(atoll_timer_start(&c.timer, long_ago[i]) == ATOLL_OK);
        UNTIL(at_load_acq(&c.fired) == 4 + i);
    }
}

static void
stopped(void)
{
    clocked c = fresh();
    CHECK(atoll_timer_start(&c.timer, atoll_now() + 10 * MS) == ATOLL_OK);
    CHECK(atoll_timer_stop(&c.timer));
    CHECK(!atoll_timer_stop(&c.timer));
    CHECK(atoll_timer_start(&c.timer, ATOLL_FOREVER) == ATOLL_OK);
    sleep_us(30000);
    CHECK(atoll_timer_stop(&c.timer));
    CHECK(at_load_acq(&c.fired) == 0);
}

/* Later ones do not delay earlier ones, whichever the thread sleeps for. */
static void
earlier_ones_disturb(void)
{
    clocked late = fresh(), soon = fresh();
    CHECK(atoll_timer_start(&late.timer, atoll_now() + 5000 * MS) == ATOLL_OK);
    sleep_us(5000); /* the thread sleeps for it */
    int64_t due = atoll_now() + 10 * MS;
    CHECK(atoll_timer_start(&soon.timer, due) == ATOLL_OK);
    UNTIL(at_load_acq(&soon.fired) == 1);
    CHECK(soon.when < due + 2000 * MS);
    /* Moved to the front while it is pending. */
    CHECK(atoll_timer_start(&late.timer, atoll_now() + 5 * MS) == ATOLL_OK);
    UNTIL(at_load_acq(&late.fired) == 1);
    CHECK(!atoll_timer_stop(&late.timer));
}

/* --------------------------------------------------------------- the order */

enum { MANY = 1000 };
static clocked many[MANY];

static int
by_due(const void *a, const void *b)
{
    const clocked *x = *(clocked *const *)a, *y = *(clocked *const *)b;
    if (x->timer.deadline != y->timer.deadline) {
        return x->timer.deadline < y->timer.deadline ? -1 : 1;
    }
    return x->timer.at_order < y->timer.at_order ? -1 : 1;
}

/* Starts, moves and stops at random, then all that is left fires in order of
 * deadline, and of start where these are equal. */
static void
in_order(void)
{
    static clocked *left[MANY];
    for (uint64_t seed = 1; seed <= 8; seed++) {
        uint64_t dice = seed;
        int64_t due = atoll_now() + 100 * MS;
        int count = 0;
        turns = 0;
        for (int i = 0; i < MANY; i++) {
            many[i] = fresh();
        }
        bool is_pending[MANY] = {false};
        for (int i = 0; i < 5 * MANY; i++) {
            uint32_t which = next_random(&dice) % MANY;
            if (next_random(&dice) % 3 != 0) {
                CHECK(atoll_timer_start(&many[which].timer,
                                        due + next_random(&dice) % 200) == ATOLL_OK);
                is_pending[which] = true;
            }
            else {
                CHECK(atoll_timer_stop(&many[which].timer) == is_pending[which]);
                is_pending[which] = false;
            }
        }
        bool in_time = atoll_now() < due; /* or some have fired before */
        for (int i = 0; i < MANY; i++) {
            if (is_pending[i]) {
                left[count++] = &many[i];
            }
        }
        qsort(left, (size_t)count, sizeof(left[0]), by_due);
        for (int i = 0; i < count; i++) {
            UNTIL(at_load_acq(&left[i]->fired) >= 1);
        }
        for (int i = 0; i < count && in_time; i++) {
            CHECK(left[i]->turn == (uint32_t)i);
        }
        for (int i = 0; i < MANY; i++) {
            CHECK(!in_time || many[i].fired == (is_pending[i] ? 1u : 0u));
        }
        if (!in_time) { /* some that have fired may be firing once more */
            printf("# too slow for seed %d\n", (int)seed);
            for (int i = 0; i < MANY; i++) {
                (void)atoll_timer_stop(&many[i].timer);
            }
            clocked last = fresh();
            CHECK(atoll_timer_start(&last.timer, atoll_now()) == ATOLL_OK);
            UNTIL(at_load_acq(&last.fired) == 1);
        }
    }
}

/* -------------------------------------------------- what fire may do to it */

static void
again(atoll_timer *timer)
{
    clocked *c = (clocked *)(void *)timer;
    if (__atomic_add_fetch(&c->fired, 1, __ATOMIC_RELEASE) < 50) {
        CHECK(atoll_timer_start(timer, atoll_now() + MS / 10) == ATOLL_OK);
    }
}

static uint32_t freed; /* atomic */

static void
free_it(atoll_timer *timer)
{
    memset(timer, 0xee, sizeof(*timer));
    free(timer);
    __atomic_fetch_add(&freed, 1, __ATOMIC_RELEASE);
}

static void
restarts_and_frees(void)
{
    clocked c = {.timer = {.fire = again}};
    CHECK(atoll_timer_start(&c.timer, ATOLL_NOW) == ATOLL_OK);
    int64_t now = atoll_now();
    for (int i = 0; i < 300; i++) {
        atoll_timer *timer = calloc(1, sizeof(*timer));
        timer->fire = free_it;
        CHECK(atoll_timer_start(timer, now + i % 7 * MS) == ATOLL_OK);
    }
    UNTIL(at_load_acq(&freed) == 300);
    UNTIL(at_load_acq(&c.fired) == 50);
}

/* ------------------------------------------------------------- the thread */

static void
thread_goes(void)
{
    clocked c = fresh();
    UNTIL(threads_now() == 1); /* of the tests before */
    for (uint32_t i = 1; i <= 2; i++) {
        CHECK(atoll_timer_start(&c.timer, atoll_now() + MS) == ATOLL_OK);
        UNTIL(at_load_acq(&c.fired) == i);
        CHECK(threads_now() == 2);
        sleep_us(500000);
        CHECK(threads_now() == 2);
        /* What is started and stopped keeps it, without waking it. */
        CHECK(atoll_timer_start(&c.timer, atoll_now() + 5000 * MS) == ATOLL_OK);
        CHECK(atoll_timer_stop(&c.timer));
        int64_t begin = atoll_now();
        UNTIL(threads_now() == 1);
        CHECK(atoll_now() - begin > 900 * MS);
    }
}

static void
thread_refused(void)
{
    clocked c = fresh();
    UNTIL(threads_now() == 1);
    at_store_rlx(&refuse, 1);
    CHECK(atoll_timer_start(&c.timer, ATOLL_NOW) == ATOLL_ERR_SYSTEM);
    CHECK(!atoll_timer_stop(&c.timer));
    at_store_rlx(&refuse, 0);
    CHECK(atoll_timer_start(&c.timer, ATOLL_NOW) == ATOLL_OK);
    UNTIL(at_load_acq(&c.fired) == 1);
}

/* ------------------------------------------------------------------ stress */

enum { HANDS = 6, ROUNDS = 4000, OWN = 8 };

typedef struct counted {
    atoll_timer timer;
    uint32_t refs; /* the owner's, and one while it is started */
    uint32_t *fires;
} counted;

static void
give_back(counted *c)
{
    if (atoll_count_down(&c->refs)) {
        free(c);
    }
}

static void
fire_counted(atoll_timer *timer)
{
    counted *c = (counted *)(void *)timer;
    at_add_rlx(c->fires, 1);
    give_back(c);
}

/* Each start ends in exactly one of: a stop that was in time, a fire. */
static void *
start_and_stop(void *arg)
{
    uint64_t seed = (uint64_t)(uintptr_t)arg + 1;
    uint32_t fires = 0, starts = 0, stops = 0;
    for (int i = 0; i < ROUNDS; i++) {
        counted *own[OWN];
        for (int k = 0; k < OWN; k++) {
            own[k] = malloc(sizeof(counted));
            *own[k] =
                (counted){.timer = {.fire = fire_counted}, .refs = 2, .fires = &fires};
            CHECK(atoll_timer_start(&own[k]->timer,
                                    atoll_now() + next_random(&seed) % 60000) ==
                  ATOLL_OK);
            starts++;
        }
        if (i % 16 == 0) {
            sleep_us(next_random(&seed) % 50);
        }
        for (int k = 0; k < OWN; k++) {
            if (next_random(&seed) % 4 != 0 && atoll_timer_stop(&own[k]->timer)) {
                stops++;
                give_back(own[k]);
            }
            give_back(own[k]);
        }
    }
    UNTIL(at_load_acq(&fires) + stops == starts);
    sleep_us(1000);
    CHECK(at_load_acq(&fires) + stops == starts);
    printf("# started %u, stopped %u\n", starts, stops);
    return NULL;
}

static void
many_threads(void)
{
    pthread_t threads[HANDS];
    for (uintptr_t i = 0; i < HANDS; i++) {
        threads[i] = start(start_and_stop, (void *)i);
    }
    for (int i = 0; i < HANDS; i++) {
        join(threads[i]);
    }
}

/* -------------------------------------------------------------------- fork */

static pid_t
fork_core(void)
{
    fflush(stdout);
    atoll_fork_prepare();
    pid_t pid = fork();
    if (pid == 0) {
        atoll_fork_child();
        alarm(20);
        tap_complaints = 0;
    }
    else {
        atoll_fork_parent();
    }
    return pid;
}

static void
end_child(void)
{
    fflush(stdout);
    _exit(tap_complaints > 0);
}

static void
check_child(pid_t pid)
{
    int status;
    CHECK(pid > 0 && waitpid(pid, &status, 0) == pid);
    CHECK(WIFEXITED(status) && WEXITSTATUS(status) == 0);
}

static void
forked(void)
{
    for (int i = 0; i < 20; i++) {
        clocked c = fresh(), other = fresh();
        CHECK(atoll_timer_start(&c.timer, atoll_now() + 30 * MS) == ATOLL_OK);
        CHECK(atoll_timer_start(&other.timer, atoll_now() + 3000 * MS) == ATOLL_OK);
        pid_t pid = fork_core();
        if (pid == 0) {
            CHECK(!atoll_timer_stop(&c.timer));
            CHECK(!atoll_timer_stop(&other.timer));
#ifndef __SANITIZE_THREAD__ /* it refuses threads in such a child */
            CHECK(atoll_timer_start(&other.timer, ATOLL_NOW) == ATOLL_OK);
            UNTIL(at_load_acq(&other.fired) == 1);
            CHECK(at_load_acq(&c.fired) == 0);
            atoll_timers_end();
            CHECK(threads_now() == 1);
#endif
            end_child();
        }
        check_child(pid);
        UNTIL(at_load_acq(&c.fired) == 1);
        CHECK(atoll_timer_stop(&other.timer));
    }
}

static uint32_t forks; /* atomic */

/* The child has this thread, on which no timer fires any more. */
static void
fork_in_fire(atoll_timer *timer)
{
    (void)timer;
    pid_t pid = fork_core();
    if (pid == 0) {
#ifndef __SANITIZE_THREAD__
        static clocked c;
        c = fresh();
        CHECK(atoll_timer_start(&c.timer, ATOLL_NOW) == ATOLL_OK);
        UNTIL(at_load_acq(&c.fired) == 1);
        atoll_timers_end();
#endif
#ifdef __SANITIZE_ADDRESS__ /* it would look for leaks with threads it misses */
        end_child();
#endif
        if (tap_complaints > 0) {
            end_child();
        }
        return; /* the thread ends, and so does the process, with 0 */
    }
    check_child(pid);
    __atomic_fetch_add(&forks, 1, __ATOMIC_RELEASE);
}

static void
forked_by_fire(void)
{
    atoll_timer timer = {.fire = fork_in_fire};
    CHECK(atoll_timer_start(&timer, ATOLL_NOW) == ATOLL_OK);
    UNTIL(at_load_acq(&forks) == 1);
}

/* --------------------------------------------------------------------- end */

static uint32_t entered, left_fire; /* atomic */

static void
take_time(atoll_timer *timer)
{
    (void)timer;
    __atomic_store_n(&entered, 1, __ATOMIC_RELEASE);
    sleep_us(50000);
    __atomic_store_n(&left_fire, 1, __ATOMIC_RELEASE);
}

static void
at_the_end(void)
{
    atoll_timer slow = {.fire = take_time};
    clocked c = fresh();
    CHECK(atoll_timer_start(&slow, ATOLL_NOW) == ATOLL_OK);
    CHECK(atoll_timer_start(&c.timer, atoll_now() + 10 * MS) == ATOLL_OK);
    UNTIL(at_load_acq(&entered) == 1);
    atoll_timers_end();
    CHECK(at_load_acq(&left_fire) == 1);
    UNTIL(threads_now() == 1); /* the kernel's list is a moment late */
    CHECK(at_load_acq(&c.fired) == 0);
    CHECK(atoll_timer_stop(&c.timer));
    CHECK(atoll_timer_start(&c.timer, ATOLL_NOW) == ATOLL_ERR_CLOSED);
    CHECK(!atoll_timer_stop(&c.timer));
    atoll_timers_end(); /* again: no harm */
}

static void *
nothing(void *arg)
{
    return arg;
}

int
main(void)
{
    TAP_BEGIN(100);
    join(start(nothing, NULL)); /* its own begins with the first of ours */
    sleep_us(20000);
    others = threads_now() - 1;
    RUN(thread_refused);
    RUN(fires_in_time);
    RUN(stopped);
    RUN(earlier_ones_disturb);
    RUN(in_order);
    RUN(restarts_and_frees);
    RUN(thread_goes);
    RUN(many_threads);
    RUN(forked);
    RUN(forked_by_fire);
    RUN(at_the_end);
    TAP_END();
}
