/* The end of the process: all homes are closed, and those that cannot be are taken
 * out of CPython's list. */
#include "cpython/runtime.h"
#include "home/home.h"
#include "isolate/isolate.h"

/* How long what still runs gets to obey its interrupt. */
#define EXIT_GRACE_NS INT64_C(1000000000)
/* And what does not end, once the user has pressed Ctrl-C for it. */
#define HURRY_NS INT64_C(300000000)

/* And how long main waits for an interpreter that it leaves to stand still. */
#define CAPTURE_NS INT64_C(500000000)

static atoll_err
exit_wait_ended(void *arg, const atoll_wait *wait)
{
    return atoll_event_wait(&((home *)arg)->ended, wait);
}

/* Has the user lost his patience? Guarded by main's GIL. */
static bool hurry;

/* Take it out of CPython's list. False if it is being ended at this moment, which is to
 * be waited for, unless by `force`; or has been. */
static bool
exit_abandon(home *h, bool force)
{
    atoll_lock_acquire(&h->lock);
    bool can = h->state != HOME_ENDED && (force || !h->ending);
    bool closing = h->state == HOME_CLOSING && !h->left;
    PyInterpreterState *listed = can ? h->listed : NULL;
    if (can) {
        h->abandoned = true;
        if (h->mailbox != NULL) {
            mailbox_kill(h->mailbox);
        }
        if (h->isolate != NULL) {
            isolate_abandon(h->isolate); /* there until it has ended */
        }
    }
    atoll_lock_release(&h->lock);
    /* Not with our lock: the list has one of CPython's, which a thread that forks has
     * when it wants ours. */
    if (listed != NULL) {
        runtime_unlink(listed);
    }
    if (can && closing && !hurry) {
        home_say_left(h);
    }
    return can;
}

/* One who holds the GIL of an interpreter that main has left, for the rest of the
 * process. CPython takes apart now what all interpreters share: strings, types, the
 * keys of threads. Code that ran on, an import say, would find them gone. */
typedef struct captor {
    PyInterpreterState *interp; /* stays: it is abandoned, and so not ended */
    atoll_event held;
    atoll_thread thread;
    struct captor *next;
} captor;

/* Only the thread that ends the process touches the list. Nothing of it is freed, since
 * they are there to the last. */
static captor *captors;

static void *
captor_main(void *arg)
{
    captor *c = arg;
    PyThreadState *ts = PyThreadState_New(c->interp);
    if (ts != NULL) {
        PyEval_RestoreThread(ts); /* or never comes back, if main was quicker */
    }
    atoll_event_set(&c->held);
    atoll_thread_halt();
    return NULL;
}

/* Have the code of `h`, which is abandoned, stand still. Does not wait. Without memory
 * it goes on. */
static void
exit_capture(home *h)
{
    atoll_lock_acquire(&h->lock);
    PyInterpreterState *interp = h->listed;
    atoll_lock_release(&h->lock);
    captor *c = interp == NULL ? NULL : atoll_alloc(sizeof(*c));
    if (c == NULL) {
        return;
    }
    *c = (captor){.interp = interp, .next = captors};
    if (atoll_thread_start((size_t)1 << 20, captor_main, c, &c->thread) != ATOLL_OK) {
        atoll_free(c);
        return;
    }
    captors = c;
}

/* Wait, detached, until all of those stand still; what is in a long call of C code does
 * so when that returns. */
static void
exit_await_captors(void)
{
    const atoll_wait wait = {.deadline = atoll_now() + CAPTURE_NS, .uncounted = true};
    for (captor *c = captors; c != NULL; c = c->next) {
        atoll_err err = atoll_event_wait(&c->held, &wait);
        (void)err; /* main goes on in any case */
    }
}

/* Has it had its time to obey already? */
static bool
is_hopeless(home *h)
{
    atoll_lock_acquire(&h->lock);
    bool hopeless = h->hopeless;
    atoll_lock_release(&h->lock);
    return hopeless;
}

/* Until when may it run on? `grace` is that of what runs, `limit` that of closes. */
static int64_t
exit_deadline(home *h, int64_t grace, int64_t limit)
{
    switch (home_state_now(h)) {
    case HOME_RUNNING:
        return is_hopeless(h) ? ATOLL_NOW : grace;
    case HOME_IDLE:      /* there was no memory to close it */
    case HOME_LINGERING: /* it ends with views that may be our own */
        return ATOLL_NOW;
    default:
        return limit;
    }
}

/* Wait for the end of `h`. -1 with an exception, of a signal handler. */
static int
exit_await(core_state *state, home *h, int64_t grace, int64_t limit)
{
    atoll_err err = ATOLL_ERR_TIMEOUT;
    bool runs = home_state_now(h) == HOME_RUNNING;
    int rc = detach_wait_one(state, exit_wait_ended, h, exit_deadline(h, grace, limit),
                             NULL, &wait_home_job, h, &err);
    if (rc == 0 && err != ATOLL_OK && runs && home_state_now(h) == HOME_CLOSING) {
        /* It has obeyed, and has to wait for its threads now. */
        rc = detach_wait_one(state, exit_wait_ended, h, limit, NULL, &wait_home_job, h,
                             &err);
    }
    return rc;
}

/* It has not ended: see that main can, without it. */
static void
exit_without(home *h, int64_t limit)
{
    const atoll_wait creation = {.deadline = atoll_now() + EXIT_GRACE_NS};
    const atoll_wait end = {.deadline = limit};
    atoll_err err;
    Py_BEGIN_ALLOW_THREADS
    /* CPython makes one without looking at signals, but soon. */
    err = atoll_event_wait(&h->created, &creation);
    if (exit_abandon(h, false)) {
        exit_capture(h);
    }
    else {
        err = atoll_event_wait(&h->gone, &end);
        if (err != ATOLL_OK) {
            /* Destructors that do not end. Ending it later would be fatal, but that
             * takes longer than what main has still to do. */
            exit_abandon(h, true);
        }
    }
    Py_END_ALLOW_THREADS
}

void
home_hurry(void)
{
    hurry = true;
}

int
home_shutdown_all(core_state *state)
{
    home **homes = homes_close();
    if (homes == NULL) {
        PyErr_NoMemory();
        return -1;
    }
    int rc = 0;
    int64_t grace = ATOLL_FOREVER, limit;
    Py_BEGIN_ALLOW_THREADS
    callers_note();
    for (home **h = homes; *h != NULL; h++) {
        if (home_ask_to_end(*h)) {
            grace = atoll_now() + (hurry ? HURRY_NS : EXIT_GRACE_NS);
        }
    }
    limit = hurry ? atoll_now() + HURRY_NS : home_close_limit();
    Py_END_ALLOW_THREADS
    for (home **h = homes; *h != NULL; h++) {
        /* Idle ones end by themselves, once their threads do; a busy one has
         * the grace. Ctrl-C ends the patience with all. */
        if (rc == 0) {
            rc = exit_await(state, *h, grace, limit);
            if (rc < 0) {
                limit = atoll_now() + HURRY_NS;
                hurry = true;
            }
        }
        if (home_state_now(*h) != HOME_ENDED) {
            exit_without(*h, limit);
        }
        home_unref(*h);
    }
    Py_BEGIN_ALLOW_THREADS
    home_reap();
    if (rc == 0) {
        callers_wait(atoll_now() + (hurry ? HURRY_NS : EXIT_GRACE_NS));
    }
    exit_await_captors();
    Py_END_ALLOW_THREADS
    atoll_free(homes);
    return rc;
}
