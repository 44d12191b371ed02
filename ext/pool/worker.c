/* What a worker's home does for its pool: it comes, takes tasks, and leaves, or is
 * left. See pool/pool.h. */
#include "pool/parts.h"

#include <stdio.h>

#include "output/output.h"
#include "wire/wire.h"

/* A pool with more strays than this, and two for each place, is broken. */
#define STRAYS_MAX 8

/* Make `t` the current job of `h`, in whose thread this is. */
static void
set_current(home *h, task *t)
{
    atoll_lock_acquire(&h->lock);
    h->current = &t->job;
    h->job_over = false;
    h->state = HOME_RUNNING;
    atoll_lock_release(&h->lock);
}

/* The next one of the queue, begun; the caller gets the queue's reference. */
static task *
worker_take(pool *p, worker *w)
{
    task *t = p->first;
    if (t != NULL) {
        pool_unlink(p, t);
        pool_begin(w, t);
    }
    return t;
}

/* The task that prepares a worker, with a reference of the pool's. NULL when out of
 * memory. */
static task *
init_task(pool *p)
{
    atoll_msg msg;
    task *t = NULL;
    if (xfer_clone(&p->init, &msg) == ATOLL_OK) {
        t = task_new(p, &msg);
        if (t == NULL) {
            atoll_msg_drop(&msg);
        }
        else {
            t->job.init = true;
            t->job.follow = follow_ref(p->plan.follow);
        }
    }
    return t;
}

/* The home takes its place; with the lock held on return. *first is the job that
 * prepares it, begun so that it can be stopped like a task, or NULL. */
static worker *
worker_arrive(home *h, task **first)
{
    pool *p = pool_of_worker(h);
    bool prepare = p->prepares && !home_is_exiting(h);
    task *t = prepare ? init_task(p) : NULL;
    if (prepare && t == NULL) {
        pool_break(p, "not enough memory for the initializer", 0);
    }
    atoll_lock_acquire(&p->lock);
    worker *w = h->place;
    w->starting = false;
    w->home = h;
    if (t != NULL) {
        pool_begin(w, t);
    }
    *first = t;
    return w;
}

/* See home_employer_ops.hello. */
static job *
worker_hello(home *h)
{
    pool *p = pool_of_worker(h);
    task *t;
    worker *w = worker_arrive(h, &t);
    if (t == NULL && !home_is_exiting(h)) {
        t = worker_take(p, w);
    }
    if (t != NULL) {
        set_current(h, t);
        atoll_lock_release(&p->lock);
        return &t->job;
    }
    home_becomes_idle(h);
    pool_idle_push(p, w);
    if (p->closed && p->pending == 0) {
        pool_release_idle(p);
    }
    else {
        pool_release(p);
    }
    return NULL;
}

atoll_err
pool_adopt(pool *p, worker *w, home *h)
{
    bool prepare = p->prepares;
    task *t = prepare ? init_task(p) : NULL;
    char *name = core_copy_text(p->name);
    if (name == NULL || (prepare && t == NULL)) {
        atoll_free(name);
        if (t != NULL) {
            task_unref(t);
        }
        return ATOLL_ERR_NOMEM;
    }
    atoll_lock_acquire(&p->lock);
    w->home = h;
    if (t != NULL) {
        pool_begin(w, t); /* before it can be over */
    }
    atoll_err err =
        home_employ_spare(h, &name, &p->employer, w, t == NULL ? NULL : &t->job);
    if (err != ATOLL_OK) {
        if (t != NULL) {
            pool_unbegin(w, t);
        }
        w->home = NULL;
        atoll_lock_release(&p->lock);
    }
    else {
        w->starting = false;
        if (t == NULL) {
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
    }
    atoll_free(name);
    if (t != NULL) {
        task_unref(t);
    }
    return err;
}

/* Its task is over: for the books. Returns whether `w` had a reference to it. */
static bool
worker_account(worker *w, task *t)
{
    bool known = w != NULL && w->task == t;
    if (known) {
        w->busy += atoll_now() - w->since;
        w->tasks += t->job.task;
        w->served += t->job.task;
        w->task = NULL;
    }
    t->phase = TASK_OVER;
    return known;
}

/* See home_employer_ops.next. What has run may also be no task, but what somebody has
 * had the interpreter of a fixed pool run. */
static job *
worker_next(home *h, job *j, job_status status, uint64_t printed)
{
    pool *p = pool_of_worker(h);
    task *t = task_of(j), *next = NULL;
    home *left = NULL, *at = NULL;
    worker *vacant = NULL;
    bool dropped = false;
    if (j->init && status != JOB_RETURNED) {
        char why[1024];
        snprintf(why, sizeof(why), "the initializer failed: %s",
                 h->start_error == NULL ? "no memory" : h->start_error);
        pool_break(p, why, printed);
    }
    atoll_lock_acquire(&p->lock);
    worker *w = h->place;
    if (t != NULL) {
        dropped = worker_account(w, t);
        at = t->home;
        t->home = NULL;
    }
    bool keep = w != NULL && !(p->max_tasks > 0 && w->served >= p->max_tasks);
    if (keep && !home_is_exiting(h)) {
        next = home_close_is_due(h) ? NULL : worker_take(p, w);
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
        home_becomes_idle(h);
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
    if (t != NULL) {
        pool_unwatch(t);
    }
    pool_let_go(p, left);
    if (at != NULL) {
        home_unref(at);
    }
    if (dropped) {
        task_unref(t);
    }
    if (vacant != NULL) {
        pool_start(p, vacant);
    }
    return next == NULL ? NULL : &next->job;
}

/* See home_employer_ops.ended; twice, if it has been left to itself and ends after all.
 */
static void
worker_ended(home *h)
{
    pool *p = pool_of_worker(h);
    home *left = NULL;
    task *chain = NULL;
    worker *vacant = NULL;
    atoll_lock_acquire(&p->lock);
    worker *w = h->place;
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
    if (h->output != NULL && home_state_now(h) == HOME_ENDED &&
        h->output->printed > p->printed) {
        p->printed = h->output->printed;
    }
    bool remains = home_remains(h);
    if (remains != h->remains) {
        h->remains = remains;
        p->remain = remains ? p->remain + 1 : p->remain - 1;
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
    task *dropped = w->task;
    w->task = NULL;
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
    task_unref(dropped);
    if (many) {
        pool_break(p, "too many tasks could not be stopped", 0);
    }
    if (vacant != NULL) {
        pool_start(p, vacant);
    }
}

/* ------------------------------------------------------------- as an employer */

static void
worker_ref_pool(home_employer *employer)
{
    pool_ref((pool *)employer);
}

static void
worker_unref_pool(home_employer *employer)
{
    pool_unref((pool *)employer);
}

const home_employer_ops pool_employer = {
    .ref = worker_ref_pool,
    .unref = worker_unref_pool,
    .hello = worker_hello,
    .next = worker_next,
    .ended = worker_ended,
};
