/* Stopping tasks: cancelled, late, abandoned. See pool/pool.h.
 *
 * An interrupt is a request. Code may be in a call that does not see it, may
 * catch it, or CPython may drop it (in a weakref callback, say). So it is repeated
 * a few times within the grace; then the worker is abandoned, and the pool goes on
 * with another one.
 */
#include "pool/parts.h"

#include <stddef.h>

#define REMINDERS 4

static job *
of_timer(atoll_timer *timer, size_t offset)
{
    return (job *)(void *)((char *)timer - offset);
}

/* The home that runs `j`, with a reference, or NULL. */
static home *
runs_at(job *j)
{
    atoll_lock_acquire(&j->pool->lock);
    home *h = j->phase == JOB_STARTED ? j->home : NULL;
    if (h != NULL) {
        home_ref(h);
    }
    atoll_lock_release(&j->pool->lock);
    return h;
}

static void grace_fires(atoll_timer *timer);

/* Come back in a part of the grace; takes over a reference of the job. */
static void
set_grace(job *j)
{
    j->grace_timer.fire = grace_fires;
    int64_t part = j->pool->grace / REMINDERS;
    if (j->pool->grace == ATOLL_FOREVER ||
        atoll_timer_start(&j->grace_timer, atoll_now() + part) != ATOLL_OK) {
        job_unref(j);
    }
}

static void
grace_fires(atoll_timer *timer)
{
    job *j = of_timer(timer, offsetof(job, grace_timer));
    home *h = runs_at(j);
    if (h == NULL) {
        job_unref(j);
        return;
    }
    if (++j->reminders < REMINDERS) {
        home_interrupt(h, j, true);
        set_grace(j);
    }
    else {
        pool *p = j->pool;
        atoll_lock_acquire(&p->lock);
        if (j->phase == JOB_STARTED && h->worker != NULL) {
            pool_abandon(p, h->worker);
        }
        else {
            atoll_lock_release(&p->lock);
        }
        job_unref(j);
    }
    home_unref(h);
}

bool
pool_cancel(job *j, job_status how)
{
    pool *p = j->pool;
    if (!job_settle(j, how, NULL, 0)) {
        return false;
    }
    atoll_lock_acquire(&p->lock);
    bool queued = pool_withdraw(p, j);
    bool never = queued || j->phase == JOB_NEW;
    if (never) {
        j->phase = JOB_OVER;
    }
    home *h = j->phase == JOB_STARTED ? j->home : NULL;
    if (h != NULL) {
        home_ref(h);
    }
    pool_release(p);
    job_announce(j);
    if (never) {
        atoll_event_set(&j->over);
    }
    if (queued) {
        job_unref(j); /* the queue's */
    }
    if (h != NULL) {
        home_interrupt(h, j, true);
        job_ref(j);
        set_grace(j);
        home_unref(h);
    }
    return true;
}

bool
pool_cancel_queued(job *j)
{
    pool *p = j->pool;
    atoll_lock_acquire(&p->lock);
    bool queued = pool_withdraw(p, j);
    pool_release(p);
    if (!queued) {
        return false;
    }
    bool mine = job_settle(j, JOB_CANCELLED, NULL, 0);
    if (mine) {
        job_announce(j);
    }
    atoll_event_set(&j->over);
    job_unref(j); /* the queue's */
    return mine;
}

void
pool_cancel_started(pool *p)
{
    for (uint32_t i = 0; i < p->max_workers; i++) {
        atoll_lock_acquire(&p->lock);
        job *j = p->workers[i].job;
        if (j != NULL) {
            job_ref(j);
        }
        atoll_lock_release(&p->lock);
        if (j != NULL) {
            pool_cancel(j, JOB_CANCELLED);
            job_unref(j);
        }
    }
}

/* --------------------------------------------------------------- time limits */

static void
limit_fires(atoll_timer *timer)
{
    job *j = of_timer(timer, offsetof(job, limit_timer));
    pool_cancel(j, JOB_LATE);
    job_unref(j);
}

void
pool_watch(job *j)
{
    if (j->limit > 0) {
        job_ref(j);
        j->limit_timer.fire = limit_fires;
        if (atoll_timer_start(&j->limit_timer, atoll_now() + j->limit) !=
            ATOLL_OK) {
            job_unref(j);
        }
    }
}

void
pool_unwatch(job *j)
{
    if (j->limit > 0 && atoll_timer_stop(&j->limit_timer)) {
        job_unref(j);
    }
    atoll_lock_acquire(&j->lock);
    bool stopped = j->status == JOB_CANCELLED || j->status == JOB_LATE;
    atoll_lock_release(&j->lock);
    /* One that is set only after this will find the task over. */
    if (stopped && atoll_timer_stop(&j->grace_timer)) {
        job_unref(j);
    }
}
