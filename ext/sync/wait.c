/* Waits for locks and what is like them: how to say it, and who could end them. */
#include "sync/sync.h"

#include <stdio.h>

static void
sync_describe_sync(const void *object, char *text, size_t size)
{
    static const char *const names[ATOLL_SYNC_KINDS] = {
        "Lock",    "RLock", "a permit of Semaphore", "Event", "Condition", "Barrier",
        "Counter", "Cell"};
    union {
        const void *given;
        atoll_sync *sync;
    } u = {object};
    atoll_sync_kind kind = atoll_sync_kind_of(u.sync);
    unsigned long long id = atoll_sync_id(u.sync);
    if (kind != ATOLL_LOCK && kind != ATOLL_RLOCK) {
        snprintf(text, size, "%s %llu", names[kind], id);
        return;
    }
    atoll_mutex_state state;
    atoll_mutex_look(u.sync, &state);
    snprintf(text, size, "%s %llu, which interpreter %lld has", names[kind], id,
             (long long)state.owner.group);
}

/* A recursive lock is released by its owner alone; all others by whoever has a
 * handle. A condition's reference to its lock is not told from a message's. */
static bool
sync_may_end(const void *object, waits_view *view)
{
    union {
        const void *given;
        atoll_sync *sync;
    } u = {object};
    if (atoll_sync_kind_of(u.sync) == ATOLL_RLOCK) {
        atoll_mutex_state state;
        atoll_mutex_look(u.sync, &state);
        return !state.held || view->live(view, state.owner.group);
    }
    return view->held_live(view, object, WAIT_SIDE_SYNC) ||
           atoll_sync_refs(u.sync) > view->held(view, object, WAIT_SIDE_SYNC);
}

const wait_type wait_sync = {sync_describe_sync, sync_may_end, false};
