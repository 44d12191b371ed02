/* Deadlocks: does anybody wait for what nobody is left to do?
 *
 * A party (wait/record.h) is *live* if it may do something by itself: one of its
 * threads is not in a wait of atoll's that lasts for ever. It is also live if one of
 * its waits could be ended by a party that is. Those that are left when nothing can be
 * added wait for each other. Everything that is not known counts as live.
 *
 * A look costs a walk over the records. Only if that finds somebody are the parties
 * concerned visited (wait/visit.h), for what is known with their GIL only: how many
 * threads they have, whether signals call functions, and where their threads are.
 * Then all is looked at a second time, with the parties locked, and counts only for
 * parties in which no wait has begun or ended since. A party all of whose threads
 * wait, and whose waits are the same as before, has not run; so nothing that it
 * holds has changed hands, and what others hold is in live hands, or in messages,
 * which count as live. Who has been served but has not woken up is seen in its
 * waiter's state (atoll_kick_waits).
 *
 * The wait is ended as an interrupt ends it, through its kick: if it is served at
 * that very moment it has been served.
 *
 * When. The first look comes WATCH_GRACE after a wait began, the next ones after
 * pauses that double up to PAUSE_MAX, for as long as somebody waits who wants to
 * know; a thread that ends, or a library's that returns, tells nobody. The thread
 * that looks sleeps otherwise; without such waits it does not exist. */
#include "watch/watch.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "home/home.h"

#define PAUSE_MIN INT64_C(100000000)
#define PAUSE_MAX INT64_C(5000000000)
#define PATIENCE INT64_C(250000000) /* with one visit */

static struct {
    atoll_lock lock;
    bool all;         /* guarded by lock */
    int64_t hurry;    /* guarded by lock: the pause between looks; 0: as usual */
    bool known;       /* guarded by lock: `all` has been set */
    bool running;     /* guarded by lock */
    bool stopped;     /* guarded by lock: main is leaving */
    atoll_chan *bell; /* set once, under the lock */
    atoll_thread thread;
} watch;

static const atoll_wait now = {.deadline = ATOLL_NOW};

/* -------------------------------------------------------------------- switch */

static void
watch_learn(void) /* with the lock held */
{
    if (!watch.known) {
        const char *value = getenv("ATOLL_DETECT_DEADLOCKS");
        watch.known = true;
        watch.all = value != NULL && value[0] != '\0' && strcmp(value, "0") != 0;
    }
}

bool
watch_all(void)
{
    atoll_lock_acquire(&watch.lock);
    watch_learn();
    bool all = watch.all;
    atoll_lock_release(&watch.lock);
    return all;
}

bool
watch_set_all(bool on)
{
    party *table = waits_lock_all();
    for (party *p = table; p != NULL; p = p->next) {
        p->watch_all = on;
    }
    atoll_lock_acquire(&watch.lock);
    watch_learn();
    bool before = watch.all;
    watch.all = on;
    atoll_lock_release(&watch.lock);
    waits_unlock_all();
    return before;
}

void
watch_hurry(int64_t pause)
{
    atoll_lock_acquire(&watch.lock);
    watch.hurry = pause;
    atoll_lock_release(&watch.lock);
}

static int64_t
watch_pause(void)
{
    atoll_lock_acquire(&watch.lock);
    int64_t pause = watch.hurry;
    atoll_lock_release(&watch.lock);
    return pause;
}

/* ------------------------------------------------------------------- looking */

/* Look once. Does anybody wait who wants to know? */
static bool
watch_look(int64_t grace)
{
    view v = {.young = atoll_now() - grace};
    view_init(&v);
    bool wanted = false;
    party *table = waits_lock_all();
    bool found = view_make(&v, table, &wanted) && view_find(&v) > 0;
    for (party *p = table; p != NULL && !wanted; p = p->next) {
        p->notified = 0; /* we go to sleep: the next one is to wake us */
    }
    if (found) {
        found = view_keep(&v);
    }
    waits_unlock_all();
    if (!found) {
        view_free(&v);
        return wanted;
    }
    for (size_t i = 0; i < v.kept_count; i++) {
        party_look *l = v.kept[i];
        l->visited = visit_stacks(l->party, &l->stacks, PATIENCE) == ATOLL_OK;
    }
    uint32_t ours = atoll_thread_count();
    v.threads = atoll_thread_count_all();
    v.known_threads = atoll_thread_count();
    v.known_threads = ours < v.known_threads ? ours : v.known_threads;
    view again = {.before = &v, .young = v.young};
    view_init(&again);
    bool ignored = false;
    table = waits_lock_all();
    if (view_make(&again, table, &ignored) && view_find(&again) > 0) {
        view_deliver(&again);
    }
    waits_unlock_all();
    view_free(&again);
    for (size_t i = 0; i < v.kept_count; i++) {
        visit_end(v.kept[i]->party);
    }
    view_free(&v);
    return wanted;
}

static void *
watch_main(void *arg)
{
    atoll_chan *bell = arg;
    int64_t next = ATOLL_FOREVER, pause = PAUSE_MIN;
    atoll_thread_name(atoll_thread_self(), "atoll-watch");
    for (;;) {
        atoll_msg msg;
        atoll_wait wait = {.deadline = next, .uncounted = true};
        atoll_err err = atoll_chan_recv(bell, &msg, &wait);
        int64_t time = atoll_now();
        if (err == ATOLL_OK) {
            next = time + WATCH_GRACE < next ? time + WATCH_GRACE : next;
            pause = PAUSE_MIN;
        }
        else if (err != ATOLL_ERR_TIMEOUT) {
            return NULL; /* closed: watch_stop */
        }
        if (time < next) {
            continue;
        }
        int64_t rush = watch_pause();
        bool more = watch_look(rush > 0 ? 0 : WATCH_GRACE - WATCH_GRACE / 5);
        if (rush > 0) {
            next = atoll_now() + rush;
        }
        else {
            next = more ? atoll_now() + pause : ATOLL_FOREVER;
            pause = 2 * pause < PAUSE_MAX ? 2 * pause : PAUSE_MAX;
        }
    }
}

#define STACK ((size_t)256 << 10)

/* See waits_watcher.notify. */
static void
watch_notify(void)
{
    atoll_lock_acquire(&watch.lock);
    if (watch.bell == NULL && !watch.stopped &&
        atoll_chan_new(1, -1, &watch.bell) != ATOLL_OK) {
        watch.bell = NULL;
    }
    if (!watch.running && !watch.stopped && watch.bell != NULL) {
        watch.running = atoll_thread_start(STACK, watch_main, watch.bell,
                                           &watch.thread) == ATOLL_OK;
    }
    atoll_chan *bell = watch.running ? watch.bell : NULL;
    atoll_lock_release(&watch.lock);
    if (bell != NULL) {
        atoll_msg msg = {.group = -1};
        atoll_err err = atoll_chan_send(bell, &msg, &now);
        (void)err; /* AGAIN: it rings already, and is not heard before now */
    }
}

void
watch_stop(void)
{
    atoll_lock_acquire(&watch.lock);
    bool join = watch.running;
    watch.running = false;
    watch.stopped = true;
    atoll_lock_release(&watch.lock);
    if (join) {
        PyThreadState *ts = PyEval_SaveThread();
        atoll_chan_close(watch.bell, true);
        atoll_thread_join(watch.thread); /* visits are short */
        PyEval_RestoreThread(ts);
    }
}

static const waits_watcher watch_watcher = {.wants_all = watch_all,
                                            .notify = watch_notify};

void
watch_start(void)
{
    waits_set_watcher(&watch_watcher);
}

void
watch_fork_child(void)
{
    watch.lock.word = 0;
    watch.running = watch.stopped = false;
    watch.bell = NULL; /* the parent's */
}
