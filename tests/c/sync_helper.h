/* What the tests of locks and of turns share. */
#ifndef SYNC_HELPER_H
#define SYNC_HELPER_H

#include "at_sync.h"
#include "helper.h"

static inline atoll_party
party(int64_t group, uint64_t thread)
{
    return (atoll_party){group, thread};
}

static inline atoll_sync *
made(atoll_err err, atoll_sync **sync)
{
    if (err != ATOLL_OK) {
        printf("Bail out! no object\n");
        exit(99);
    }
    return *sync;
}

static inline atoll_sync *
new_sync(atoll_sync_kind kind)
{
    atoll_sync *sync = NULL;
    return made(atoll_sync_new(kind, &sync), &sync);
}

#endif
