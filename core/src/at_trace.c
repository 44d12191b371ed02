/* Logs for a timeline. See atoll/trace.h. */
#include "atoll/trace.h"

#include <string.h>

#include "at_atomic.h"
#include "at_base.h"
#include "at_port.h"

at_static_assert(sizeof(atoll_trace_event) == 64, "one cache line");

#define CHUNK_EVENTS 511
typedef struct chunk {
    struct chunk *next; /* atomic */
    uint32_t used;      /* atomic; written by the log's thread */
    atoll_trace_event events[CHUNK_EVENTS];
} chunk;

struct atoll_trace_log {
    uint32_t refs;  /* atomic */
    uint32_t run;   /* constant: of which tracing it is */
    int64_t number; /* constant, as the next two */
    int64_t thread;
    char name[64];
    chunk *first;          /* atomic */
    chunk *last;           /* the thread's alone */
    atoll_trace_log *next; /* guarded by the lock; then its reader's */
};

static uint32_t on;      /* relaxed: a hint */
static uint32_t run;     /* relaxed: which tracing this is, or the last one was */
static uint64_t numbers; /* relaxed */
static int64_t room;     /* relaxed: events that may still come */
static uint64_t lost;    /* relaxed: that did not */
static atoll_lock lock;
static atoll_trace_log *logs;          /* guarded by lock */
static atoll_trace_namer thread_namer; /* guarded by lock */

/* ------------------------------------------------------------- life of a log */

static void
trace_unref(void *arg)
{
    atoll_trace_log *log = arg;
    if (log == NULL || !atoll_count_down(&log->refs)) {
        return;
    }
    chunk *c = log->first;
    while (c != NULL) {
        chunk *next = c->next;
        atoll_free(c);
        c = next;
    }
    atoll_free(log);
}

static atoll_trace_log *
new_log(uint32_t of)
{
    atoll_trace_log *log = atoll_alloc(sizeof(*log));
    if (log == NULL) {
        return NULL;
    }
    *log = (atoll_trace_log){.refs = 2, .run = of, .thread = at_port_thread_number()};
    atoll_lock_acquire(&lock);
    atoll_trace_namer namer = thread_namer;
    atoll_lock_release(&lock);
    log->number = namer == NULL ? 0 : namer(log->name, sizeof(log->name));
    if (!at_port_set_own(log, trace_unref)) {
        atoll_free(log);
        return NULL;
    }
    atoll_lock_acquire(&lock);
    log->next = logs;
    logs = log;
    atoll_lock_release(&lock);
    return log;
}

/* The calling thread's log of this run; NULL without memory. A tracing that ends and
 * another that begins meanwhile are told apart by `run`, but for an event at that
 * very moment, which may come into the wrong one. */
static atoll_trace_log *
own_log(void)
{
    uint32_t now = at_load_rlx(&run);
    atoll_trace_log *log = at_port_own();
    if (log != NULL && log->run != now) {
        (void)at_port_set_own(NULL, trace_unref);
        trace_unref(log);
        log = NULL;
    }
    return log == NULL ? new_log(now) : log;
}

/* A chunk of the log with room for one more event; NULL: no memory, or the limit. */
static chunk *
chunk_with_room(atoll_trace_log *log)
{
    chunk *c = log->last;
    if (c != NULL && at_load_rlx(&c->used) < CHUNK_EVENTS) {
        return c;
    }
    if (at_load_rlx(&room) < CHUNK_EVENTS ||
        at_sub_rlx(&room, CHUNK_EVENTS) < CHUNK_EVENTS) {
        return NULL;
    }
    chunk *more = atoll_alloc(sizeof(*more));
    if (more == NULL) {
        return NULL;
    }
    more->next = NULL;
    more->used = 0;
    at_store_rel(c == NULL ? &log->first : &c->next, more);
    log->last = more;
    return more;
}

/* ------------------------------------------------------------------- writing */

bool
atoll_trace_on(uint32_t flags)
{
    return at_unlikely((at_load_rlx(&on) & flags) != 0);
}

uint64_t
atoll_trace_number(void)
{
    return at_add_rlx(&numbers, 1) + 1;
}

void
atoll_trace_note(uint8_t kind, int64_t start, int64_t end, uint64_t id,
                 const char *name)
{
    atoll_trace_log *log = own_log();
    chunk *c = log == NULL ? NULL : chunk_with_room(log);
    if (c == NULL) {
        at_add_rlx(&lost, 1);
        return;
    }
    uint32_t used = at_load_rlx(&c->used);
    atoll_trace_event *e = &c->events[used];
    *e = (atoll_trace_event){start, end, id, kind, {0}};
    size_t size = name == NULL ? 0 : strnlen(name, sizeof(e->name));
    if (size > 0) {
        memcpy(e->name, name, size);
    }
    at_store_rel(&c->used, used + 1);
}

/* ----------------------------------------------------------- beginning, reading */

bool
atoll_trace_start(uint64_t limit, uint32_t flags, atoll_trace_namer namer)
{
    atoll_lock_acquire(&lock);
    bool free = at_load_rlx(&on) == 0;
    if (free) {
        thread_namer = namer;
        at_store_rlx(&room, limit > INT64_MAX / 2 ? INT64_MAX / 2 : (int64_t)limit);
        at_store_rlx(&lost, 0);
        at_add_rlx(&run, 1);
        at_store_rlx(&on, flags | ATOLL_TRACE_ON);
    }
    atoll_lock_release(&lock);
    return free;
}

atoll_trace_log *
atoll_trace_stop(uint64_t *count)
{
    atoll_lock_acquire(&lock);
    at_store_rlx(&on, 0);
    at_add_rlx(&run, 1);
    atoll_trace_log *taken = logs;
    logs = NULL;
    *count = at_load_rlx(&lost);
    atoll_lock_release(&lock);
    return taken;
}

atoll_trace_log *
atoll_trace_drop(atoll_trace_log *log)
{
    atoll_trace_log *next = log->next;
    trace_unref(log);
    return next;
}

void
atoll_trace_look(const atoll_trace_log *log, atoll_trace_facts *facts)
{
    *facts = (atoll_trace_facts){log->number, log->name, log->thread};
}

const atoll_trace_event *
atoll_trace_next(const atoll_trace_log *log, const void **at, size_t *count)
{
    const chunk *before = *at;
    const chunk *c =
        before == NULL ? at_load_acq(&log->first) : at_load_acq(&before->next);
    *at = c;
    *count = c == NULL ? 0 : at_load_acq(&c->used);
    return c == NULL ? NULL : c->events;
}

void
atoll_trace_fork_child(void)
{
    lock.word = 0;
    logs = NULL; /* some may be half written */
    at_store_rlx(&on, 0);
    at_add_rlx(&run, 1);
}
