/* Waits for tasks and pools: how to say what they are, and who could end them. */
#include "pool/pool.h"

#include <stdio.h>

static void
pool_describe_task(const void *object, char *text, size_t size)
{
    const task *t = object;
    snprintf(text, size, "the result of a task of %s '%s'",
             t->pool->fixed ? "interpreter" : "pool", t->pool->name);
}

static void
pool_describe_task_over(const void *object, char *text, size_t size)
{
    const task *t = object;
    snprintf(text, size, "the end of a task of %s '%s'",
             t->pool->fixed ? "interpreter" : "pool", t->pool->name);
}

/* One that has nothing to do, or is not there yet, takes the next task. */
static bool
pool_worker_may_come(const pool *p, const worker *w, waits_view *view)
{
    if (w->home == NULL) {
        return !p->fixed;
    }
    return w->idle || w->task == NULL || view->live(view, w->home->id);
}

static bool
pool_task_may_end(const void *object, waits_view *view)
{
    const task *t = object;
    pool *p = t->pool;
    bool may = true;
    atoll_lock_acquire(&p->lock);
    if (t->phase == TASK_STARTED && t->home != NULL) {
        may = view->live(view, t->home->id);
    }
    else if (t->phase == TASK_QUEUED) {
        may = false;
        for (uint32_t i = 0; i < p->max_workers && !may; i++) {
            may = pool_worker_may_come(p, &p->workers[i], view);
        }
    }
    atoll_lock_release(&p->lock);
    return may;
}

static void
pool_describe_pool(const void *object, char *text, size_t size)
{
    snprintf(text, size, "the end of the tasks of pool '%s'",
             ((const pool *)object)->name);
}

static bool
pool_may_end(const void *object, waits_view *view)
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
            may = pool_worker_may_come(p, w, view);
        }
    }
    may = may || known != p->live; /* some begin, or end */
    atoll_lock_release(&p->lock);
    return may;
}

const wait_type wait_task = {pool_describe_task, pool_task_may_end, true};
const wait_type wait_task_over = {pool_describe_task_over, pool_task_may_end, true};
const wait_type wait_pool = {pool_describe_pool, pool_may_end, true};
