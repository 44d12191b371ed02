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

static task *
of_timer(atoll_timer *timer, size_t offset)
{
    return (task *)(void *)((char *)timer - offset);
}

/* The home that runs `t`, with a reference, or NULL. */
static home *
runs_at(task *t)
{
    atoll_lock_acquire(&t->pool->lock);
    home *h = t->phase == TASK_STARTED ? t->home : NULL;
    if (h != NULL) {
        home_ref(h);
    }
    atoll_lock_release(&t->pool->lock);
    return h;
}

static void grace_fires(atoll_timer *timer);

/* Come back in a part of the grace; takes over a reference of the job. */
static void
set_grace(task *t)
{
    t->grace_timer.fire = grace_fires;
    int64_t part = t->pool->grace / REMINDERS;
    if (t->pool->grace == ATOLL_FOREVER ||
        atoll_timer_start(&t->grace_timer, atoll_now() + part) != ATOLL_OK) {
        task_unref(t);
    }
}

static void
grace_fires(atoll_timer *timer)
{
    task *t = of_timer(timer, offsetof(task, grace_timer));
    home *h = runs_at(t);
    if (h == NULL) {
        task_unref(t);
        return;
    }
    if (++t->reminders < REMINDERS) {
        home_interrupt(h, &t->job, true);
        set_grace(t);
    }
    else {
        pool *p = t->pool;
        atoll_lock_acquire(&p->lock);
        if (t->phase == TASK_STARTED && h->place != NULL) {
            pool_abandon(p, h->place);
        }
        else {
            atoll_lock_release(&p->lock);
        }
        task_unref(t);
    }
    home_unref(h);
}

bool
pool_cancel(task *t, job_status how)
{
    pool *p = t->pool;
    if (!job_settle(&t->job, how, NULL, 0)) {
        return false;
    }
    atoll_lock_acquire(&p->lock);
    bool queued = pool_withdraw(p, t);
    bool never = queued || t->phase == TASK_NEW;
    if (never) {
        t->phase = TASK_OVER;
    }
    home *h = t->phase == TASK_STARTED ? t->home : NULL;
    if (h != NULL) {
        home_ref(h);
    }
    pool_release(p);
    job_announce(&t->job);
    if (never) {
        atoll_event_set(&t->job.over);
    }
    if (queued) {
        task_unref(t); /* the queue's */
    }
    if (h != NULL) {
        home_interrupt(h, &t->job, true);
        task_ref(t);
        set_grace(t);
        home_unref(h);
    }
    return true;
}

bool
pool_cancel_queued(task *t)
{
    pool *p = t->pool;
    atoll_lock_acquire(&p->lock);
    bool queued = pool_withdraw(p, t);
    pool_release(p);
    if (!queued) {
        return false;
    }
    bool mine = job_settle(&t->job, JOB_CANCELLED, NULL, 0);
    if (mine) {
        job_announce(&t->job);
    }
    atoll_event_set(&t->job.over);
    task_unref(t); /* the queue's */
    return mine;
}

void
pool_cancel_started(pool *p)
{
    for (uint32_t i = 0; i < p->max_workers; i++) {
        atoll_lock_acquire(&p->lock);
        task *t = p->workers[i].task;
        if (t != NULL) {
            task_ref(t);
        }
        atoll_lock_release(&p->lock);
        if (t != NULL) {
            pool_cancel(t, JOB_CANCELLED);
            task_unref(t);
        }
    }
}

/* --------------------------------------------------------------- time limits */

static void
limit_fires(atoll_timer *timer)
{
    task *t = of_timer(timer, offsetof(task, limit_timer));
    pool_cancel(t, JOB_LATE);
    task_unref(t);
}

void
pool_watch(task *t)
{
    if (t->limit != ATOLL_FOREVER) {
        task_ref(t);
        t->limit_timer.fire = limit_fires;
        if (atoll_timer_start(&t->limit_timer, atoll_now() + t->limit) != ATOLL_OK) {
            task_unref(t);
        }
    }
}

void
pool_unwatch(task *t)
{
    if (t->limit != ATOLL_FOREVER && atoll_timer_stop(&t->limit_timer)) {
        task_unref(t);
    }
    atoll_lock_acquire(&t->job.lock);
    bool stopped = t->job.status == JOB_CANCELLED || t->job.status == JOB_LATE;
    atoll_lock_release(&t->job.lock);
    /* One that is set only after this will find the task over. */
    if (stopped && atoll_timer_stop(&t->grace_timer)) {
        task_unref(t);
    }
}
