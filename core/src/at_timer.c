/* Timers: one heap, one thread for the process.
 *
 * Ownership. A timer is its caller's storage. While it is pending it is linked
 * into the heap, and whoever owns it must stop it before its memory goes.
 *
 * Threads. The timer thread takes what is due out of the heap under the lock,
 * and calls `fire` without it. It sleeps on a futex word until the first
 * deadline; a start that is to fire earlier than the thread would wake changes
 * the word. A stop wakes nobody: the thread may wake once for a timer that is
 * gone, which costs less than a system call for each timeout that was not
 * needed. With nothing pending it lingers for a second, and then goes. It says
 * so under the lock and detaches itself, so nothing is left to be joined; the
 * next start makes a new one.
 *
 * Memory order. All of it is the lock's: what was written before a start is seen
 * by `fire`. The word is changed and read under the lock, too, and atomic only
 * because the kernel compares it without: if it has changed since the thread
 * looked at the heap, the thread does not go to sleep.
 *
 * Fork. The thread is not in the child, and the heap may be half linked there.
 * So the child begins with an empty one, and a timer is pending only if it was
 * armed by the same process (at_forks). A child that was forked by a `fire` has
 * the timer thread as its only one; when that `fire` returns, the same number
 * tells the thread that it serves nobody any more.
 *
 * Lock order: this lock is a leaf. Making the thread is the one longer thing
 * that is done under it; that is at most once a second.
 *
 * The heap is a pairing heap (Fredman, Sedgewick, Sleator, Tarjan, "The pairing
 * heap", 1986): its links fit into the timers, so a start cannot fail for lack
 * of memory; a start is constant, removing any timer logarithmic (amortised). */
#include "at_atomic.h"
#include "at_port.h"
#include "at_wait.h"

#define LINGER_NS INT64_C(1000000000)
#define STACK ((size_t)1 << 20) /* what `fire` does is the caller's business */
#define AWAKE INT64_MIN         /* of wakes_at: it will look by itself */

static struct {
    atoll_lock lock;
    atoll_timer *root;   /* guarded by lock, like all but the word */
    uint64_t starts;     /* so far; orders equal deadlines */
    uint64_t pending;    /* in the heap */
    uint32_t word;       /* atomic: the thread sleeps on it */
    int64_t wakes_at;    /* the thread sleeps until then, or AWAKE */
    bool running;        /* there is a thread that will look at the heap */
    bool ended;          /* atoll_timers_end */
    atoll_thread thread; /* if running */
} timers;

/* --------------------------------------------------------------- the heap */

/* at_child is the first of the children, at_next the next of the siblings,
 * at_prev the one before or, of the first, the parent. */

static inline bool
timer_before(const atoll_timer *a, const atoll_timer *b)
{
    return a->deadline != b->deadline ? a->deadline < b->deadline
                                      : a->at_order < b->at_order;
}

/* One heap of two roots, either of which may be NULL. */
static atoll_timer *
timer_meld(atoll_timer *a, atoll_timer *b)
{
    if (a == NULL || b == NULL) {
        return a == NULL ? b : a;
    }
    if (timer_before(b, a)) {
        atoll_timer *first = b;
        b = a;
        a = first;
    }
    b->at_prev = a;
    b->at_next = a->at_child;
    if (a->at_child != NULL) {
        a->at_child->at_prev = b;
    }
    a->at_child = b;
    return a;
}

/* One heap of a chain of siblings: in pairs from the left, and the pairs from
 * the right. That order is what makes it logarithmic. */
static atoll_timer *
meld_all(atoll_timer *chain)
{
    atoll_timer *pairs = NULL, *root = NULL;
    while (chain != NULL) {
        atoll_timer *a = chain, *b = a->at_next;
        chain = b == NULL ? NULL : b->at_next;
        a->at_next = NULL;
        if (b != NULL) {
            b->at_next = NULL;
        }
        a = timer_meld(a, b);
        a->at_next = pairs; /* a stack: the last pair comes out first */
        pairs = a;
    }
    while (pairs != NULL) {
        atoll_timer *next = pairs->at_next;
        pairs->at_next = NULL;
        root = timer_meld(root, pairs);
        pairs = next;
    }
    if (root != NULL) {
        root->at_prev = NULL;
    }
    return root;
}

static void
timer_add(atoll_timer *timer)
{
    timer->at_child = timer->at_next = timer->at_prev = NULL;
    timer->at_order = timers.starts++;
    timer->at_armed = at_forks + 1; /* 0 is idle */
    timers.root = timer_meld(timers.root, timer);
    timers.pending++;
}

static inline bool
timer_pending(const atoll_timer *timer)
{
    return timer->at_armed == at_forks + 1;
}

static void
timer_take_out(atoll_timer *timer)
{
    atoll_timer *children = meld_all(timer->at_child);
    if (timer == timers.root) {
        timers.root = children;
    }
    else {
        if (timer->at_prev->at_child == timer) {
            timer->at_prev->at_child = timer->at_next;
        }
        else {
            timer->at_prev->at_next = timer->at_next;
        }
        if (timer->at_next != NULL) {
            timer->at_next->at_prev = timer->at_prev;
        }
        timers.root = timer_meld(timers.root, children);
    }
    timer->at_armed = 0;
    timers.pending--;
}

/* ------------------------------------------------------------- the thread */

/* Sleep until `deadline`, or until something earlier has come. Called with the
 * lock held, and returns with it. */
static void
sleep_until(int64_t deadline)
{
    uint32_t seen = at_load_rlx(&timers.word);
    timers.wakes_at = deadline;
    atoll_lock_release(&timers.lock);
    at_port_park(&timers.word, seen, deadline);
    atoll_lock_acquire(&timers.lock);
    timers.wakes_at = AWAKE;
}

/* Nothing is pending, and nothing has been since there were `*starts` starts,
 * which was a linger before `*leave_at`. */
static bool
may_leave(uint64_t *starts, int64_t *leave_at)
{
    int64_t now = at_port_now();
    if (*leave_at == 0 || *starts != timers.starts) {
        *starts = timers.starts;
        *leave_at = now + LINGER_NS;
    }
    return now >= *leave_at;
}

static void *
timer_main(void *arg)
{
    atoll_thread_name(atoll_thread_self(), "atoll-timers");
    uint32_t forks = (uint32_t)(uintptr_t)arg;
    uint64_t starts = 0;
    int64_t leave_at = 0;
    atoll_lock_acquire(&timers.lock);
    while (!timers.ended) {
        atoll_timer *first = timers.root;
        if (first == NULL) {
            if (may_leave(&starts, &leave_at)) {
                timers.running = false;
                at_port_detach_self();
                break;
            }
            sleep_until(leave_at);
        }
        else if (first->deadline > at_port_now()) {
            sleep_until(first->deadline);
        }
        else {
            void (*fire)(atoll_timer *) = first->fire;
            timer_take_out(first);
            leave_at = 0;
            atoll_lock_release(&timers.lock);
            fire(first);
            atoll_lock_acquire(&timers.lock);
            if (at_forks != forks) {
                break; /* `fire` has forked, and this is the child */
            }
        }
    }
    atoll_lock_release(&timers.lock);
    return NULL;
}

/* ---------------------------------------------------------------- the API */

/* Called with the lock held. */
static atoll_err
thread_for_timers(void)
{
    if (timers.ended) {
        return ATOLL_ERR_CLOSED;
    }
    if (at_likely(timers.running)) {
        return ATOLL_OK;
    }
    timers.wakes_at = AWAKE; /* it begins with a look */
    atoll_err err = atoll_thread_start(STACK, timer_main, (void *)(uintptr_t)at_forks,
                                       &timers.thread);
    timers.running = err == ATOLL_OK;
    return err;
}

/* The thread is to look again: the caller wakes it without the lock. */
static void
timer_disturb(void)
{
    timers.wakes_at = AWAKE; /* one disturbance is enough */
    at_store_rlx(&timers.word, at_load_rlx(&timers.word) + 1);
}

atoll_err
atoll_timer_start(atoll_timer *timer, int64_t deadline)
{
    bool wake = false;
    atoll_lock_acquire(&timers.lock);
    if (timer_pending(timer)) {
        timer_take_out(timer);
    }
    atoll_err err = thread_for_timers();
    if (err == ATOLL_OK) {
        timer->deadline = deadline;
        timer_add(timer);
        wake = deadline < timers.wakes_at;
        if (wake) {
            timer_disturb();
        }
    }
    else {
        timer->at_armed = 0;
    }
    atoll_lock_release(&timers.lock);
    if (wake) {
        at_port_wake(&timers.word, 1);
    }
    return err;
}

bool
atoll_timer_stop(atoll_timer *timer)
{
    atoll_lock_acquire(&timers.lock);
    bool was_pending = timer_pending(timer);
    if (was_pending) {
        timer_take_out(timer);
    }
    atoll_lock_release(&timers.lock);
    return was_pending;
}

void
atoll_timers_end(void)
{
    atoll_lock_acquire(&timers.lock);
    bool join = timers.running;
    timers.running = false;
    timers.ended = true;
    timer_disturb();
    atoll_lock_release(&timers.lock);
    if (join) {
        at_port_wake(&timers.word, 1);
        atoll_thread_join(timers.thread);
    }
}

void
at_timer_stats(atoll_stats *out)
{
    atoll_lock_acquire(&timers.lock);
    out->timers = timers.pending;
    atoll_lock_release(&timers.lock);
}

void
at_timer_fork_child(void)
{
    timers.lock.word = 0;
    timers.root = NULL;
    timers.pending = 0;
    timers.running = timers.ended = false;
}
