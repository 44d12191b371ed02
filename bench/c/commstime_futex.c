/* The floor of commstime: four threads in C, and nothing but futexes.
 *
 *   commstime_futex [--count N] [--rounds R] [--spin-ns NS]
 *
 * A prefix, a delta and a successor in a ring, and a consumer beside it, with a slot
 * for one number between each two. A slot is a rendezvous, as a channel of capacity 0
 * is: a send ends when a receiver has come, a receive when a sender has. Who waits
 * spins for NS, then parks. There is no lock, no line of waiters, no close and no
 * timeout; one sender and one receiver.
 *
 * Prints one line of JSON: the ns of each number, four hand-overs, per round. */
#define _GNU_SOURCE

#include <linux/futex.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#define NS_PER_S INT64_C(1000000000)

/* Who has come to a slot. PARKED: the one who waits for the next change sleeps. */
enum {
    NOBODY = 0,
    RECEIVER = 1,
    SENDER = 2,    /* the number is there, the sender waits until it is taken */
    DELIVERED = 3, /* the number is there, the sender has gone */
    STATE = 3,
    PARKED = 4,
};

typedef struct slot {
    _Alignas(64) _Atomic uint32_t word;
    int64_t value; /* published by `word` */
} slot;

static int64_t spin_ns = 2000;

static int64_t
now_ns(void)
{
    struct timespec ts;
    clock_gettime(CLOCK_MONOTONIC, &ts);
    return (int64_t)ts.tv_sec * NS_PER_S + ts.tv_nsec;
}

static inline void
relax(void)
{
#if defined(__x86_64__) || defined(__i386__)
    __builtin_ia32_pause();
#elif defined(__aarch64__)
    __asm__ volatile("yield");
#endif
}

/* Wait until the state is no longer `old`; returns what it is. */
static uint32_t
wait_change(slot *s, uint32_t old)
{
    uint32_t word;
    if (spin_ns > 0) {
        int64_t end = now_ns() + spin_ns;
        do {
            for (int i = 0; i < 32; i++) {
                word = atomic_load_explicit(&s->word, memory_order_acquire);
                if ((word & STATE) != old) {
                    return word & STATE;
                }
                relax();
            }
        } while (now_ns() < end);
    }
    for (;;) {
        word = old;
        if (atomic_compare_exchange_strong(&s->word, &word, old | PARKED) ||
            word == (old | PARKED)) {
            syscall(SYS_futex, &s->word, FUTEX_WAIT_PRIVATE, old | PARKED, NULL, NULL,
                    0);
            word = atomic_load_explicit(&s->word, memory_order_acquire);
        }
        if ((word & STATE) != old) {
            return word & STATE;
        }
    }
}

/* The next state; wakes who sleeps until it comes. */
static void
change(slot *s, uint32_t state)
{
    uint32_t old = atomic_exchange(&s->word, state);
    if (old & PARKED) {
        syscall(SYS_futex, &s->word, FUTEX_WAKE_PRIVATE, 1, NULL, NULL, 0);
    }
}

static void
put(slot *s, int64_t value)
{
    uint32_t state = atomic_load_explicit(&s->word, memory_order_acquire) & STATE;
    for (;;) {
        uint32_t expected = NOBODY;
        if (state == RECEIVER) {
            s->value = value;
            change(s, DELIVERED);
            return;
        }
        if (state == DELIVERED) { /* the one before has not been picked up */
            state = wait_change(s, DELIVERED);
            continue;
        }
        s->value = value;
        if (atomic_compare_exchange_strong(&s->word, &expected, SENDER)) {
            wait_change(s, SENDER);
            return;
        }
        state = expected & STATE;
    }
}

static int64_t
take(slot *s)
{
    uint32_t expected = NOBODY;
    if (atomic_compare_exchange_strong(&s->word, &expected, RECEIVER)) {
        wait_change(s, RECEIVER);
    }
    int64_t value = s->value;
    change(s, NOBODY);
    return value;
}

/* --------------------------------------------------------------- the parties */

static slot a, b, c, d;
static int64_t total; /* how many numbers come in all */

static void *
prefix(void *arg)
{
    (void)arg;
    put(&a, 0);
    for (int64_t i = 1; i < total; i++) {
        put(&a, take(&b));
    }
    return NULL;
}

static void *
delta(void *arg)
{
    (void)arg;
    for (int64_t i = 0; i < total; i++) {
        int64_t value = take(&a);
        put(&d, value);
        if (i + 1 < total) {
            put(&c, value);
        }
    }
    return NULL;
}

static void *
successor(void *arg)
{
    (void)arg;
    for (int64_t i = 0; i + 1 < total; i++) {
        put(&b, take(&c) + 1);
    }
    return NULL;
}

static void
usage(void)
{
    fputs("usage: commstime_futex [--count N] [--rounds R] [--spin-ns NS]\n", stderr);
    exit(2);
}

static void
start(pthread_t *thread, void *(*body)(void *))
{
    if (pthread_create(thread, NULL, body, NULL) != 0) {
        fputs("commstime_futex: cannot start a thread\n", stderr);
        exit(2);
    }
}

int
main(int argc, char **argv)
{
    long count = 100000, rounds = 5;
    if (argc % 2 == 0) {
        usage();
    }
    for (int i = 1; i < argc; i += 2) {
        char *end;
        long value = strtol(argv[i + 1], &end, 10);
        if (*end != '\0' || value < 0) {
            usage();
        }
        if (strcmp(argv[i], "--count") == 0 && value > 0) {
            count = value;
        }
        else if (strcmp(argv[i], "--rounds") == 0 && value > 0) {
            rounds = value;
        }
        else if (strcmp(argv[i], "--spin-ns") == 0) {
            spin_ns = value;
        }
        else {
            usage();
        }
    }
    long warm = count / 10 + 1;
    total = warm + (int64_t)count * rounds;
    pthread_t threads[3];
    start(&threads[0], prefix);
    start(&threads[1], delta);
    start(&threads[2], successor);
    for (int64_t i = 0; i < warm; i++) {
        take(&d);
    }
    printf("{\"ns\": [");
    int64_t expected = warm;
    for (long r = 0; r < rounds; r++) {
        int64_t began = now_ns();
        for (long i = 0; i < count; i++) {
            if (take(&d) != expected++) {
                fputs("commstime_futex: a number is missing\n", stderr);
                return 2;
            }
        }
        printf("%s%.2f", r > 0 ? ", " : "", (double)(now_ns() - began) / (double)count);
    }
    printf("]}\n");
    for (int i = 0; i < 3; i++) {
        pthread_join(threads[i], NULL);
    }
    return 0;
}
