/* A small mutex: spin, then park.
 *
 * The word is FREE, HELD (nobody sleeps) or CONTENDED (somebody may sleep).
 * Acquiring is an acquire operation on the word, releasing a release one; that
 * pair is what orders the protected data. A thread that has slept takes the
 * lock as CONTENDED, since others may still sleep; the price is at most one
 * wake-up for nothing. (The three-state scheme is the one that Drepper's
 * "Futexes Are Tricky", 2011, proves correct.) */
#include "at_atomic.h"
#include "at_base.h"
#include "at_port.h"

enum { FREE = 0, HELD = 1, CONTENDED = 2 };

/* Long enough for a section of a few dozen instructions on another core. */
#define LOCK_SPINS 100

static void
acquire_slow(uint32_t *word)
{
    for (int i = 0; i < LOCK_SPINS; i++) {
        /* Read before trying: a plain read keeps the line shared. */
        if (at_load_rlx(word) == FREE && at_cas_acq(word, FREE, HELD)) {
            return;
        }
        at_port_pause();
    }
    while (at_swap_acq(word, CONTENDED) != FREE) {
        at_port_park(word, CONTENDED, ATOLL_FOREVER);
    }
}

void
atoll_lock_acquire(atoll_lock *lock)
{
    if (at_unlikely(!at_cas_acq(&lock->word, FREE, HELD))) {
        acquire_slow(&lock->word);
    }
}

void
atoll_lock_release(atoll_lock *lock)
{
    if (at_unlikely(at_swap_rel(&lock->word, FREE) == CONTENDED)) {
        at_port_wake(&lock->word, 1);
    }
}

void
atoll_byte_acquire(uint8_t *byte)
{
    for (int i = 1;; i++) {
        uint8_t seen = at_load_rlx(byte);
        if ((seen & 1) == 0 && at_cas8_acq(byte, seen, seen | 1)) {
            return;
        }
        if (i % LOCK_SPINS == 0) {
            at_port_yield();
        }
        else {
            at_port_pause();
        }
    }
}
