/* Forced into every file of the core (cc -include) for the *_yield tests: a
 * thread that is about to do an atomic operation that matters may first lose
 * its processor or sleep. What takes a window of nanoseconds otherwise happens
 * in every run. */
#ifndef YIELD_H
#define YIELD_H

#include <sched.h>
#include <time.h>

#include "at_atomic.h"

static inline void
yield_point(void)
{
    static _Thread_local uint64_t state;
    /* Each file and thread has its own: the address is its seed. */
    state = (state + (uintptr_t)&state) * UINT64_C(6364136223846793005) + 1;
    uint32_t choice = (uint32_t)(state >> 40) % 256;
    if (choice < 2) {
        struct timespec ts = {0, 20000};
        nanosleep(&ts, 0);
    }
    else if (choice < 16) {
        sched_yield();
    }
}

/* A macro is not expanded within itself, so these reach the functions. */
#define at_cas_acq(w, e, d) (yield_point(), at_cas_acq((w), (e), (d)))
#define at_cas_rel(w, e, d) (yield_point(), at_cas_rel((w), (e), (d)))

#undef at_swap_acq
#undef at_swap_rel
#undef at_sub_ar
#define at_swap_acq(p, v) \
    (yield_point(), __atomic_exchange_n((p), (v), __ATOMIC_ACQUIRE))
#define at_swap_rel(p, v) \
    (yield_point(), __atomic_exchange_n((p), (v), __ATOMIC_RELEASE))
#define at_sub_ar(p, v) (yield_point(), __atomic_fetch_sub((p), (v), __ATOMIC_ACQ_REL))

#endif
