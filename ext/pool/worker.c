/* What a worker's home does for its pool: it comes, takes tasks, and leaves, or is
 * left. See pool/pool.h. */
#include "pool/parts.h"

#include <stdio.h>

#include "wire/wire.h"

/* A pool with more strays than this, and two for each place, is broken. */
#define STRAYS_MAX 8

/* Make `j` the current job of `h`, in whose thread this is. */
static void
set_current(home *h, job *j)
{
    atoll_lock_acquire(&h->lock);
    h->current = j;
    h->job_over = false;
    h->state = HOME_RUNNING;
    atoll_lock_release(&h->lock);
}

/* The next one of the queue, begun; the caller gets the queue's reference. */
static job *
take(pool *p, worker *w)
{
    job *j = p->first;
    if (j != NULL) {
        pool_unlink(p, j);
        pool_begin(w, j);
    }
    return j;
}

/* The job that prepares a worker, with a reference of the pool's. NULL when out of
 * memory. */
static job *
init_job(pool *p)
{
    atoll_msg msg;
    job *j = NULL;
    if (xfer_clone(&p->init, &msg) == ATOLL_OK) {
        j = job_new(JOB_CALL, &msg);
        if (j == NULL) {
            atoll_msg_drop(&msg);
        }
        else {
            j->init = true;
            j->pool = p;
            pool_ref(p);
        }
    }
    return j;
}

/* The home takes its place; with the lock held on return. *first is the job that
 * prepares it, begun so that it can be stopped like a task, or NULL. */
static worker *
arrive(home *h, job **first)
{
    pool *p = h->pool;
    bool prepare = p->prepares && !home_is_exiting(h);
    job *j = prepare ? init_job(p) : NULL;
    if (prepare && j == NULL) {
        pool_break(p, "not enough memory for the initializer", 0);
    }
    atoll_lock_acquire(&p->lock);
    worker *w = h->worker;
    w->starting = false;
    w->home = h;
    if (j != NULL) {
        pool_begin(w, j);
    }
    *first = j;
    return w;
}

job *
pool_hello(home *h)
{
    pool *p = h->pool;
    job *j;
    worker *w = arrive(h, &j);
    if (j == NULL && !home_is_exiting(h)) {
        j = take(p, w);
    }
    if (j != NULL) {
        set_current(h, j);
        atoll_lock_release(&p->lock);
        return j;
    }
    home_becomes_idle(h, NULL);
    pool_idle_push(p, w);
    if (p->closed && p->pending == 0) {
        pool_release_idle(p);
    }
    else {
        pool_release(p);
    }
    return NULL;
}

void
pool_adopt(home *h)
{
    pool *p = h->pool;
    job *j;
    worker *w = arrive(h, &j);
    if (j != NULL && home_submit(h, j) != ATOLL_OK) {
        /* It is about to end, and will say so. */
        pool_unbegin(w, j);
    }
    else if (j == NULL) {
        pool_idle_push(p, w);
        if (p->pending > 0) {
            pool_give(p);
        }
    }
    if (p->closed && p->pending == 0) {
        pool_release_idle(p);
    }
    else {
        pool_release(p);
    }
    if (j != NULL) {
        job_unref(j);
    }
}

/* Its task is over: for the books. Returns whether `w` had a reference to it. */
static bool
account(worker *w, job *j)
{
    bool known = w != NULL && w->job == j;
    if (known) {
        w->busy += atoll_now() - w->since;
        w->tasks += j->task;
        w->served += j->task;
        w->job = NULL;
    }
    j->phase = JOB_OVER;
    return known;
}

job *
pool_next(home *h, job *j, job_status status, uint64_t printed)
{
    pool *p = h->pool;
    job *next = NULL;
    home *left = NULL, *at = NULL;
    worker *vacant = NULL;
    bool dropped = false;
    if (j->init && status != JOB_RETURNED) {
        char why[256];
        snprintf(why, sizeof(why), "the initializer failed: %s",
                 h->start_error == NULL ? "no memory" : h->start_error);
        pool_break(p, why, printed);
    }
    atoll_lock_acquire(&p->lock);
    worker *w = h->worker;
    if (j->pool != NULL) {
        dropped = account(w, j);
        at = j->home;
        j->home = NULL;
    }
    bool keep = w != NULL && !(p->max_tasks > 0 && w->served >= p->max_tasks);
    if (keep && !home_is_exiting(h)) {
        next = take(p, w);
        keep = !p->closed || p->fixed;
    }
    if (h->stray) {
        h->stray = false;
        p->strays--;
    }
    if (next != NULL) {
        set_current(h, next);
    }
    else {
        home_becomes_idle(h, j);
        if (w != NULL && keep) {
            pool_idle_push(p, w);
        }
        else if (w != NULL) {
            left = pool_vacate(p, w);
            vacant = pool_reserve(p);
            w->restarts += vacant != NULL;
        }
    }
    pool_release(p);
    pool_unwatch(j);
    pool_let_go(p, left);
    if (at != NULL) {
        home_unref(at);
    }
    if (dropped) {
        job_unref(j);
    }
    if (vacant != NULL) {
        pool_start(p, vacant);
    }
    return next;
}

void
pool_home_ended(home *h)
{
    pool *p = h->pool;
    home *left = NULL;
    job *chain = NULL;
    worker *vacant = NULL;
    atoll_lock_acquire(&p->lock);
    worker *w = h->worker;
    if (w != NULL) {
        w->home = h; /* it may not have come to say so */
        w->starting = false;
        left = pool_vacate(p, w);
        w->restarts++;
        p->restarts++;
    }
    if (h->counted) {
        h->counted = false;
        p->live--;
    }
    /* What could not be made would most likely fail again, and so for ever: others
     * serve the queue, if there are any, and the next task tries again. */
    bool failed = h->start_error != NULL && !p->fixed;
    if (p->fixed) {
        p->closed = true;
        chain = pool_take_all(p);
    }
    else if (!failed) {
        vacant = pool_reserve(p);
    }
    bool alone = p->live == 0;
    pool_release(p);
    if (failed && alone) {
        pool_break(p, h->start_error, 0);
    }
    pool_settle_all(chain, JOB_GONE, 0);
    pool_let_go(p, left);
    if (vacant != NULL) {
        pool_start(p, vacant);
    }
}

void
pool_abandon(pool *p, worker *w)
{
    job *dropped = w->job;
    w->job = NULL;
    home *h = pool_vacate(p, w);
    h->stray = true;
    h->counted = false;
    p->live--;
    p->strays++;
    p->restarts++;
    w->restarts++;
    bool many = p->strays > STRAYS_MAX + 2 * p->max_workers;
    worker *vacant = NULL;
    if (!many && (!p->closed || p->pending > 0) && p->why == NULL) {
        vacant = w;
        w->starting = true;
        p->live++;
    }
    pool_release(p);
    home_is_hopeless(h);
    pool_let_go(p, h);
    job_unref(dropped);
    if (many) {
        pool_break(p, "too many tasks could not be stopped", 0);
    }
    if (vacant != NULL) {
        pool_start(p, vacant);
    }
}
