/* The only place that names the compiler's atomics. The memory order is part
 * of each name, so that a reader sees it at the use:
 *   rlx  no ordering, atomicity only
 *   acq  later accesses stay after it; pairs with a rel on the same word
 *   rel  earlier accesses stay before it
 *   ar   both
 *   sc   both, and in one total order with all other sc operations
 */
#ifndef AT_ATOMIC_H
#define AT_ATOMIC_H

#include <stdbool.h>
#include <stdint.h>

#define at_load_rlx(p) __atomic_load_n((p), __ATOMIC_RELAXED)
#define at_load_acq(p) __atomic_load_n((p), __ATOMIC_ACQUIRE)
#define at_store_rlx(p, v) __atomic_store_n((p), (v), __ATOMIC_RELAXED)
#define at_store_rel(p, v) __atomic_store_n((p), (v), __ATOMIC_RELEASE)

#define at_load_sc(p) __atomic_load_n((p), __ATOMIC_SEQ_CST)
#define at_store_sc(p, v) __atomic_store_n((p), (v), __ATOMIC_SEQ_CST)

#define at_swap_acq(p, v) __atomic_exchange_n((p), (v), __ATOMIC_ACQUIRE)
#define at_swap_rel(p, v) __atomic_exchange_n((p), (v), __ATOMIC_RELEASE)
#define at_swap_ar(p, v) __atomic_exchange_n((p), (v), __ATOMIC_ACQ_REL)

#define at_add_rlx(p, v) __atomic_fetch_add((p), (v), __ATOMIC_RELAXED)
#define at_sub_rlx(p, v) __atomic_fetch_sub((p), (v), __ATOMIC_RELAXED)
#define at_sub_ar(p, v) __atomic_fetch_sub((p), (v), __ATOMIC_ACQ_REL)
#define at_add_sc(p, v) __atomic_fetch_add((p), (v), __ATOMIC_SEQ_CST)
#define at_or_sc(p, v) __atomic_fetch_or((p), (v), __ATOMIC_SEQ_CST)
#define at_and_sc(p, v) __atomic_fetch_and((p), (v), __ATOMIC_SEQ_CST)

/* Compare and swap of 32-bit words, strong. On failure nothing is ordered. */
static inline bool
at_cas_acq(uint32_t *word, uint32_t expected, uint32_t desired)
{
    return __atomic_compare_exchange_n(word, &expected, desired, false,
                                       __ATOMIC_ACQUIRE, __ATOMIC_RELAXED);
}

static inline bool
at_cas_rel(uint32_t *word, uint32_t expected, uint32_t desired)
{
    return __atomic_compare_exchange_n(word, &expected, desired, false,
                                       __ATOMIC_RELEASE, __ATOMIC_RELAXED);
}

/* The same for a byte. */
static inline bool
at_cas8_acq(uint8_t *byte, uint8_t expected, uint8_t desired)
{
    return __atomic_compare_exchange_n(byte, &expected, desired, false,
                                       __ATOMIC_ACQUIRE, __ATOMIC_RELAXED);
}

/* The same for 64 bits; *seen is what was there. */
static inline bool
at_cas64_ar(int64_t *word, int64_t *seen, int64_t desired)
{
    return __atomic_compare_exchange_n(word, seen, desired, false, __ATOMIC_ACQ_REL,
                                       __ATOMIC_RELAXED);
}

/* The same for pointers, strong, in the total order. */
#define at_cas_ptr_sc(place, expected, desired)                          \
    __extension__({                                                      \
        __typeof__(*(place)) at_seen = (expected);                       \
        __atomic_compare_exchange_n((place), &at_seen, (desired), false, \
                                    __ATOMIC_SEQ_CST, __ATOMIC_RELAXED); \
    })

/* Add one unless the count is zero already: how a reference is taken by
 * somebody who has none. */
static inline bool
at_inc_unless_zero(uint32_t *count)
{
    uint32_t seen = at_load_rlx(count);
    while (seen != 0) {
        /* Relaxed: the table's lock orders what the finder sees. */
        if (__atomic_compare_exchange_n(count, &seen, seen + 1, true, __ATOMIC_RELAXED,
                                        __ATOMIC_RELAXED)) {
            return true;
        }
    }
    return false;
}

#endif
