/* The end of the process: all homes are closed, and those that cannot be are taken
 * out of CPython's list. */
#include "cpython/runtime.h"
#include "home/home.h"
#include "isolate/isolate.h"

/* How long what still runs gets to obey its interrupt. */
#define EXIT_GRACE_NS INT64_C(1000000000)

static const atoll_wait forever = {.deadline = ATOLL_FOREVER};

static atoll_err
exit_wait_ended(void *arg, const atoll_wait *wait)
{
    return atoll_event_wait(&((home *)arg)->ended, wait);
}

/* Take it out of CPython's list. False if it is being ended at this moment, or
 * has been: then that is to be waited for. */
static bool
exit_abandon(home *h)
{
    atoll_lock_acquire(&h->lock);
    bool can = !h->ending && h->state != HOME_ENDED;
    if (can) {
        h->abandoned = true;
        if (h->mailbox != NULL) {
            mailbox_kill(h->mailbox);
        }
        if (h->interp != NULL) {
            runtime_unlink(h->interp);
        }
        if (h->isolate != NULL) {
            isolate_abandon(h->isolate); /* there until it has ended */
        }
    }
    atoll_lock_release(&h->lock);
    return can;
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

int
home_shutdown_all(core_state *state)
{
    home **homes = homes_close();
    if (homes == NULL) {
        PyErr_NoMemory();
        return -1;
    }
    int rc = 0;
    int64_t grace = ATOLL_FOREVER;
    Py_BEGIN_ALLOW_THREADS
    callers_note();
    for (home **h = homes; *h != NULL; h++) {
        if (home_ask_to_end(*h)) {
            grace = atoll_now() + EXIT_GRACE_NS;
        }
    }
    Py_END_ALLOW_THREADS
    for (home **h = homes; *h != NULL; h++) {
        /* Idle ones end by themselves, once their threads do; a busy one has
         * the grace. Ctrl-C ends the patience with all. */
        home_state now = home_state_now(*h);
        int64_t deadline = ATOLL_FOREVER;
        if (now == HOME_RUNNING) {
            deadline = is_hopeless(*h) ? ATOLL_NOW : grace;
        }
        else if (now == HOME_IDLE || now == HOME_LINGERING) {
            /* There was no memory to close it; or it ends with views that may
             * be our own. */
            deadline = ATOLL_NOW;
        }
        atoll_err err = ATOLL_ERR_TIMEOUT;
        if (rc == 0) {
            rc = detach_wait_one(state, exit_wait_ended, *h, deadline, NULL,
                                 &wait_home_job, *h, &err);
        }
        if (rc < 0 || err != ATOLL_OK || home_state_now(*h) != HOME_ENDED) {
            if (!exit_abandon(*h)) {
                Py_BEGIN_ALLOW_THREADS
                err = atoll_event_wait(&(*h)->gone, &forever);
                Py_END_ALLOW_THREADS
            }
        }
        home_unref(*h);
    }
    Py_BEGIN_ALLOW_THREADS
    home_reap();
    if (rc == 0) {
        callers_wait(atoll_now() + EXIT_GRACE_NS);
    }
    Py_END_ALLOW_THREADS
    atoll_free(homes);
    return rc;
}
