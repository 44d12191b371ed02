/* Counted memory. */
#include "at_atomic.h"
#include "at_base.h"

#define REGION_ALIGN 64 /* what vector instructions like best */

static void
release_plain(atoll_region *region)
{
    atoll_free(region);
}

atoll_err
atoll_region_new(size_t size, bool zeroed, atoll_region **out)
{
    const size_t head = sizeof(atoll_region) + REGION_ALIGN;
    atoll_region *region = NULL;
    if (size <= SIZE_MAX - head) {
        region = zeroed ? at_alloc_zeroed(head + size) : atoll_alloc(head + size);
    }
    if (region == NULL) {
        return ATOLL_ERR_NOMEM;
    }
    uintptr_t data = (uintptr_t)(region + 1) + REGION_ALIGN - 1;
    region->refs = 1;
    region->data = (void *)(data & ~(uintptr_t)(REGION_ALIGN - 1));
    region->size = size;
    region->release = release_plain;
    *out = region;
    return ATOLL_OK;
}

atoll_region *
atoll_region_ref(atoll_region *region)
{
    at_add_rlx(&region->refs, 1); /* who adds one has one */
    return region;
}

void
atoll_region_unref(atoll_region *region)
{
    if (at_sub_ar(&region->refs, 1) == 1) {
        region->release(region);
    }
}
