/* What every file of the core needs: hints, alignment, assertions. */
#ifndef AT_BASE_H
#define AT_BASE_H

#include <assert.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "atoll/atoll.h"

#define AT_CACHELINE 64
#define AT_ALIGNED _Alignas(AT_CACHELINE)

#define at_likely(x) __builtin_expect(!!(x), 1)
#define at_unlikely(x) __builtin_expect(!!(x), 0)

#define at_static_assert(cond, text) _Static_assert(cond, text)

at_static_assert(sizeof(atoll_msg) == AT_CACHELINE, "a message fills one cache line");

/* Get the object of `type` whose `field` is at `ptr`. */
#define AT_CONTAINER(ptr, type, field) \
    ((type *)(uintptr_t)((const char *)(ptr) - offsetof(type, field)))

/* Zeroed memory for atoll_free; NULL when exhausted. */
void *at_alloc_zeroed(size_t size);

#endif
