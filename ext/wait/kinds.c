/* What threads wait for in atoll: how to say it, and who could end it. */
#include "wait/record.h"

#include <stdio.h>

#include "atoll/sync.h"
#include "chan/chan.h"
#include "pool/pool.h"

/* ---------------------------------------------------------------- channels */

static bool
is_queue(const atoll_chan *chan)
{
    return atoll_chan_kind(chan) == KIND_QUEUE;
}

static void
describe_recv(const void *object, char *text, size_t size)
{
    snprintf(text, size, is_queue(object) ? "get from queue %llu"
                                          : "recv on channel %llu",
             (unsigned long long)atoll_chan_id(object));
}

static void
describe_send(const void *object, char *text, size_t size)
{
    snprintf(text, size, is_queue(object) ? "put into queue %llu"
                                          : "send on channel %llu",
             (unsigned long long)atoll_chan_id(object));
}

/* Those who have the other end can; and whoever has a reference that is no handle
 * of an interpreter's: a message that nobody has received, a timer, C code. */
static bool
other_end_lives(const void *object, atoll_end end, struct waits_view *view)
{
    union {
        const void *given;
        atoll_chan *chan;
    } u = {object};
    atoll_chan_facts facts;
    atoll_chan_look(u.chan, &facts);
    if (facts.closed) {
        return true; /* they are being told */
    }
    if (is_queue(u.chan)) {
        return waits_held_live(view, object, HANDLE_QUEUE) ||
               facts.refs > waits_held(view, object, HANDLE_QUEUE);
    }
    int side = end == ATOLL_END_SEND ? HANDLE_SEND : HANDLE_RECV;
    return waits_held_live(view, object, side) ||
           facts.ends[end] > waits_held(view, object, side) ||
           facts.refs > facts.ends[ATOLL_END_SEND] +
                            facts.ends[ATOLL_END_RECV] +
                            waits_held(view, object, HANDLE_NONE); /* retired */
}

static bool
recv_may_end(const void *object, struct waits_view *view)
{
    return other_end_lives(object, ATOLL_END_SEND, view);
}

static bool
send_may_end(const void *object, struct waits_view *view)
{
    return other_end_lives(object, ATOLL_END_RECV, view);
}

const wait_type wait_recv = {describe_recv, recv_may_end, false};
const wait_type wait_send = {describe_send, send_may_end, false};

/* ------------------------------------------------------------------- locks */

static void
describe_sync(const void *object, char *text, size_t size)
{
    static const char *const names[ATOLL_SYNC_KINDS] = {
        "Lock", "RLock", "a permit of Semaphore", "Event", "Condition",
        "Barrier", "Counter", "Cell"};
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
sync_may_end(const void *object, struct waits_view *view)
{
    union {
        const void *given;
        atoll_sync *sync;
    } u = {object};
    if (atoll_sync_kind_of(u.sync) == ATOLL_RLOCK) {
        atoll_mutex_state state;
        atoll_mutex_look(u.sync, &state);
        return !state.held || waits_live(view, state.owner.group);
    }
    return waits_held_live(view, object, WAIT_SIDE_SYNC) ||
           atoll_sync_refs(u.sync) > waits_held(view, object, WAIT_SIDE_SYNC);
}

const wait_type wait_sync = {describe_sync, sync_may_end, false};

/* ------------------------------------------------------- tasks and their pools */

static void
describe_task(const void *object, char *text, size_t size)
{
    const job *j = object;
    snprintf(text, size, "the result of a task of %s '%s'",
             j->pool->fixed ? "interpreter" : "pool", j->pool->name);
}

static void
describe_task_over(const void *object, char *text, size_t size)
{
    const job *j = object;
    snprintf(text, size, "the end of a task of %s '%s'",
             j->pool->fixed ? "interpreter" : "pool", j->pool->name);
}

/* One that has nothing to do, or is not there yet, takes the next task. */
static bool
worker_may_come(const pool *p, const worker *w, struct waits_view *view)
{
    if (w->home == NULL) {
        return !p->fixed;
    }
    return w->idle || w->job == NULL || waits_live(view, w->home->id);
}

static bool
task_may_end(const void *object, struct waits_view *view)
{
    const job *j = object;
    pool *p = j->pool;
    bool may = true;
    atoll_lock_acquire(&p->lock);
    if (j->phase == JOB_STARTED && j->home != NULL) {
        may = waits_live(view, j->home->id);
    }
    else if (j->phase == JOB_QUEUED) {
        may = false;
        for (uint32_t i = 0; i < p->max_workers && !may; i++) {
            may = worker_may_come(p, &p->workers[i], view);
        }
    }
    atoll_lock_release(&p->lock);
    return may;
}

static void
describe_pool(const void *object, char *text, size_t size)
{
    snprintf(text, size, "the end of the tasks of pool '%s'",
             ((const pool *)object)->name);
}

static bool
pool_may_end(const void *object, struct waits_view *view)
{
    union {
        const void *given;
        pool *pool;
    } u = {object};
    pool *p = u.pool;
    uint32_t known = 0;
    atoll_lock_acquire(&p->lock);
    bool may = !p->closed;
    for (uint32_t i = 0; i < p->max_workers && !may; i++) {
        const worker *w = &p->workers[i];
        if (w->home != NULL) {
            known++;
            may = worker_may_come(p, w, view);
        }
    }
    may = may || known != p->live; /* some begin, or end */
    atoll_lock_release(&p->lock);
    return may;
}

const wait_type wait_task = {describe_task, task_may_end, true};
const wait_type wait_task_over = {describe_task_over, task_may_end, true};
const wait_type wait_pool = {describe_pool, pool_may_end, true};

/* ------------------------------------------------------------- interpreters */

static void
describe_home_job(const void *object, char *text, size_t size)
{
    const home *h = object;
    snprintf(text, size, "what interpreter %lld '%s' runs", (long long)h->id,
             h->name);
}

static bool
home_may_end(const void *object, struct waits_view *view)
{
    return waits_live(view, ((const home *)object)->id);
}

static void
describe_start(const void *object, char *text, size_t size)
{
    (void)object;
    snprintf(text, size, "a new interpreter");
}

const wait_type wait_home_job = {describe_home_job, home_may_end, true};
const wait_type wait_home_start = {describe_start, NULL, true};

/* --------------------------------------------------------------------- rest */

static void
describe_events(const void *object, char *text, size_t size)
{
    (void)object;
    snprintf(text, size, "events (a completion queue)");
}

static bool
events_may_end(const void *object, struct waits_view *view)
{
    (void)object;
    return waits_any_live(view); /* which they are is known with the GIL only */
}

static void
describe_output(const void *object, char *text, size_t size)
{
    (void)object;
    snprintf(text, size, "what has been printed to be written out");
}

const wait_type wait_events = {describe_events, events_may_end, true};
const wait_type wait_output = {describe_output, NULL, false};

static void
describe_unknown(const void *object, char *text, size_t size)
{
    (void)object;
    snprintf(text, size, "something of atoll's");
}

static void
describe_never(const void *object, char *text, size_t size)
{
    (void)object;
    snprintf(text, size, "nothing");
}

static bool
never(const void *object, struct waits_view *view)
{
    (void)object;
    (void)view;
    return false;
}

const wait_type wait_unknown = {describe_unknown, NULL, false};
const wait_type wait_never = {describe_never, never, false};
