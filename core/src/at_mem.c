/* Memory of no interpreter, through a replaceable allocator. */
#include <stdlib.h>
#include <string.h>

#include "at_atomic.h"
#include "at_base.h"

static void *
default_alloc(size_t size, void *arg)
{
    (void)arg;
    return malloc(size);
}

static void *
default_realloc(void *ptr, size_t size, void *arg)
{
    (void)arg;
    return realloc(ptr, size);
}

static void
default_free(void *ptr, void *arg)
{
    (void)arg;
    free(ptr);
}

static atoll_allocator the_allocator = {default_alloc, default_realloc, default_free,
                                        NULL};

void
atoll_set_allocator(const atoll_allocator *allocator)
{
    the_allocator = *allocator;
}

void *
atoll_alloc(size_t size)
{
    return the_allocator.alloc(size > 0 ? size : 1, the_allocator.arg);
}

void *
at_alloc_zeroed(size_t size)
{
    if (the_allocator.alloc == default_alloc) {
        return calloc(1, size); /* fresh pages are zero already */
    }
    void *ptr = atoll_alloc(size);
    if (ptr != NULL) {
        memset(ptr, 0, size);
    }
    return ptr;
}

void *
atoll_realloc(void *ptr, size_t size)
{
    return the_allocator.realloc(ptr, size > 0 ? size : 1, the_allocator.arg);
}

void
atoll_free(void *ptr)
{
    if (ptr != NULL) {
        the_allocator.free(ptr, the_allocator.arg);
    }
}

void
atoll_count_up(uint32_t *count)
{
    /* Relaxed: who adds one has one, so nothing is published by it. */
    at_add_rlx(count, 1);
}

bool
atoll_count_down(uint32_t *count)
{
    return at_sub_ar(count, 1) == 1;
}
