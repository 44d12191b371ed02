/* The lock: mutual exclusion, sleeping, waking everybody. */
#include "helper.h"

enum { THREADS = 8, ROUNDS = 20000 };

static atoll_lock lock;
static long counter; /* plain: guarded by lock */
static int inside;   /* plain: guarded by lock */

static void *
increment(void *arg)
{
    (void)arg;
    for (int i = 0; i < ROUNDS; i++) {
        atoll_lock_acquire(&lock);
        CHECK(inside++ == 0);
        counter++;
        CHECK(--inside == 0);
        atoll_lock_release(&lock);
    }
    return NULL;
}

static void
excludes(void)
{
    pthread_t threads[THREADS];
    for (int i = 0; i < THREADS; i++) {
        threads[i] = start(increment, NULL);
    }
    for (int i = 0; i < THREADS; i++) {
        join(threads[i]);
    }
    CHECK(counter == (long)THREADS * ROUNDS);
    CHECK(lock.word == 0);
}

static uint8_t byte = 2; /* its other bits are none of the lock's */

static void *
increment_by_byte(void *arg)
{
    (void)arg;
    for (int i = 0; i < ROUNDS; i++) {
        atoll_byte_acquire(&byte);
        CHECK(inside++ == 0);
        counter++;
        CHECK(--inside == 0);
        at_store_rel(&byte, 2);
    }
    return NULL;
}

static void
byte_excludes(void)
{
    pthread_t threads[THREADS];
    counter = 0;
    for (int i = 0; i < THREADS; i++) {
        threads[i] = start(increment_by_byte, NULL);
    }
    for (int i = 0; i < THREADS; i++) {
        join(threads[i]);
    }
    CHECK(counter == (long)THREADS * ROUNDS);
    CHECK(byte == 2);
}

static uint32_t got_it; /* atomic */

static void *
take_slowly(void *arg)
{
    int64_t *cpu = arg;
    int64_t before = cpu_time();
    atoll_lock_acquire(&lock);
    *cpu = cpu_time() - before;
    uint32_t mine = at_add_rlx(&got_it, 1);
    sleep_us(1000); /* the others meet a holder that sleeps */
    CHECK(at_load_rlx(&got_it) == mine + 1);
    atoll_lock_release(&lock);
    return NULL;
}

/* Everybody sleeps on a lock that is held for long, burns no CPU meanwhile,
 * and each gets it in the end: one wake-up leads to the next. */
static void
parks_and_wakes_all(void)
{
    pthread_t threads[THREADS];
    int64_t cpu[THREADS];
    atoll_lock_acquire(&lock);
    for (int i = 0; i < THREADS; i++) {
        threads[i] = start(take_slowly, &cpu[i]);
    }
    UNTIL(at_load_rlx(&lock.word) == 2); /* CONTENDED: somebody sleeps */
    sleep_us(200000);
    CHECK(at_load_rlx(&got_it) == 0);
    atoll_lock_release(&lock);
    for (int i = 0; i < THREADS; i++) {
        join(threads[i]);
        CHECK(cpu[i] < 50 * MS);
    }
    CHECK(got_it == THREADS);
    CHECK(lock.word == 0);
}

/* What one wrote under the lock the next one sees, with more than a word. */
static uint64_t pages[64]; /* plain: guarded by lock */

static void *
write_all(void *arg)
{
    uint64_t seed = (uint64_t)(uintptr_t)arg;
    for (int i = 0; i < 5000; i++) {
        uint64_t value = next_random(&seed);
        atoll_lock_acquire(&lock);
        for (int k = 1; k < 64; k++) {
            CHECK(pages[k] == pages[0]);
        }
        for (int k = 0; k < 64; k++) {
            pages[k] = value;
        }
        atoll_lock_release(&lock);
    }
    return NULL;
}

static void
makes_visible(void)
{
    pthread_t a = start(write_all, (void *)1), b = start(write_all, (void *)2);
    write_all((void *)3);
    join(a);
    join(b);
}

int
main(void)
{
    TAP_BEGIN(60);
    RUN(excludes);
    RUN(byte_excludes);
    RUN(parks_and_wakes_all);
    RUN(makes_visible);
    TAP_END();
}
