/* Pools: the queue, and the places of workers. See pool/pool.h; what happens in a
 * worker is in pool/worker.c, how tasks are stopped in pool/stop.c, and what Python
 * sees in pool/object.c. */
#include "pool/parts.h"

#include <string.h>

#include "wire/wire.h"

/* ---------------------------------------------------------------- counting */

/* So that dump() finds them. A pool in the list is memory that exists, but may be
 * about to go: without a reference, it is looked at under this lock only. */
static atoll_lock all_lock;
static pool *all; /* guarded by all_lock */

void
pools_each(void (*look)(pool *p, void *arg), void *arg)
{
    uint64_t process = xfer_process_token();
    atoll_lock_acquire(&all_lock);
    for (pool *p = all; p != NULL; p = p->after) {
        if (p->process == process) { /* the parent's lock may be held for ever */
            atoll_lock_acquire(&p->lock);
            look(p, arg);
            atoll_lock_release(&p->lock);
        }
    }
    atoll_lock_release(&all_lock);
}

void
pools_fork_prepare(void)
{
    atoll_lock_acquire(&all_lock);
}

void
pools_fork_parent(void)
{
    atoll_lock_release(&all_lock);
}

void
pools_fork_child(void)
{
    all_lock.word = 0;
}

/* See job.free. */
static void
task_free(job *j)
{
    pool_unref(((task *)j)->pool);
    atoll_free(j);
}

task *
task_new(pool *p, const atoll_msg *request)
{
    task *t = atoll_alloc(sizeof(*t));
    if (t != NULL) {
        *t = (task){.pool = p, .limit = ATOLL_FOREVER};
        job_init(&t->job, JOB_CALL, request);
        t->job.free = task_free;
        pool_ref(p);
    }
    return t;
}

pool *
pool_new(const pool_config *config)
{
    size_t size = sizeof(pool) + config->max_workers * sizeof(worker);
    pool *p = atoll_alloc(size);
    char *name = p == NULL ? NULL : core_copy_text(config->name);
    if (name == NULL) {
        atoll_free(p);
        return NULL;
    }
    memset(p, 0, size);
    p->refs = 1;
    p->process = xfer_process_token();
    p->name = name;
    p->max_workers = config->max_workers;
    p->max_tasks = config->max_tasks;
    p->grace = config->grace;
    p->employer = (home_employer){
        .ops = &pool_employer, .nice = config->nice, .watched = config->watched};
    p->fixed = config->plan == NULL;
    if (config->plan != NULL) {
        p->plan = *config->plan;
    }
    if (config->init != NULL) {
        p->init = *config->init;
        p->prepares = true;
    }
    atoll_lock_acquire(&all_lock);
    p->after = all;
    if (all != NULL) {
        all->before = p;
    }
    all = p;
    atoll_lock_release(&all_lock);
    return p;
}

void
pool_ref(pool *p)
{
    atoll_count_up(&p->refs);
}

void
pool_unref(pool *p)
{
    if (atoll_count_down(&p->refs)) {
        atoll_lock_acquire(&all_lock);
        *(p->before == NULL ? &all : &p->before->after) = p->after;
        if (p->after != NULL) {
            p->after->before = p->before;
        }
        atoll_lock_release(&all_lock);
        plan_drop(&p->plan);
        atoll_msg_drop(&p->init);
        atoll_free(p->name);
        atoll_free(p->why);
        atoll_free(p);
    }
}

pool *
pool_of_home(home *h, atoll_err *err)
{
    *err = ATOLL_ERR_NOMEM;
    atoll_lock_acquire(&h->lock);
    pool *p = pool_of_worker(h);
    atoll_lock_release(&h->lock);
    if (p == NULL) {
        pool_config config = {
            .name = h->name, .max_workers = 1, .grace = ATOLL_FOREVER};
        pool *fresh = pool_new(&config);
        if (fresh == NULL) {
            return NULL;
        }
        fresh->live = 1;
        fresh->workers[0].home = h;
        atoll_lock_acquire(&h->lock);
        if (h->employer == NULL) {
            h->place = &fresh->workers[0];
            h->counted = true;
            h->employer = &fresh->employer; /* with the reference */
        }
        p = pool_of_worker(h);
        atoll_lock_release(&h->lock);
        if (p != fresh) {
            pool_unref(fresh);
        }
    }
    if (!p->fixed) {
        *err = ATOLL_ERR_CLOSED;
        return NULL;
    }
    pool_ref(p);
    return p;
}

/* ----------------------------------------------------------------- the queue */

static void
pool_push(pool *p, task *t)
{
    t->prev = p->last;
    t->next = NULL;
    *(p->last == NULL ? &p->first : &p->last->next) = t;
    p->last = t;
    p->pending++;
    t->phase = TASK_QUEUED;
}

void
pool_unlink(pool *p, task *t)
{
    *(t->prev == NULL ? &p->first : &t->prev->next) = t->next;
    *(t->next == NULL ? &p->last : &t->next->prev) = t->prev;
    t->prev = t->next = NULL;
    p->pending--;
    t->phase = TASK_OVER;
}

/* `t`, just taken from the queue, is to run at `w`. */
void
pool_begin(worker *w, task *t)
{
    task_ref(t);
    w->task = t;
    w->since = atoll_now();
    t->phase = TASK_STARTED;
    home_ref(w->home);
    t->home = w->home;
    pool_watch(t);
}

void
pool_unbegin(worker *w, task *t)
{
    pool_unwatch(t);
    w->task = NULL;
    home_unref(t->home); /* never the last: it is the place's */
    t->home = NULL;
    t->phase = TASK_OVER;
    task_unref(t); /* the place's */
}

void
pool_idle_push(pool *p, worker *w)
{
    if (!w->idle) {
        w->idle = true;
        w->next_idle = p->idle;
        p->idle = w;
    }
}

static void
idle_remove(pool *p, worker *w)
{
    worker **link = &p->idle;
    while (w->idle && *link != NULL) {
        if (*link == w) {
            *link = w->next_idle;
            w->idle = false;
        }
        else {
            link = &(*link)->next_idle;
        }
    }
}

/* Is nothing left to do, and nobody left? */
static bool
pool_is_over(const pool *p)
{
    return p->closed && p->live == 0 && p->pending == 0;
}

void
pool_release(pool *p)
{
    bool over = pool_is_over(p);
    atoll_lock_release(&p->lock);
    if (over) {
        atoll_event_set(&p->ended);
    }
}

/* --------------------------------------------------- leaving a place in it */

/* What is to be done about a home that has left its place, with no lock held. */
void
pool_let_go(pool *p, home *h)
{
    if (h != NULL && !p->fixed) {
        home_dismiss(h); /* it closes, now or when it is idle */
        home_unref(h);
    }
}

/* Take the home out of its place. The caller lets go of it. */
home *
pool_vacate(pool *p, worker *w)
{
    home *h = w->home;
    idle_remove(p, w);
    w->home = NULL;
    w->served = 0;
    h->place = NULL;
    return h;
}

/* Let go of all idle homes: the pool is closed and its queue empty. Called with
 * the lock held, which it releases. */
void
pool_release_idle(pool *p)
{
    while (p->idle != NULL && !p->fixed) {
        home *h = pool_vacate(p, p->idle);
        atoll_lock_release(&p->lock);
        pool_let_go(p, h);
        atoll_lock_acquire(&p->lock);
    }
    pool_release(p);
}

/* ------------------------------------------------------------ new workers */

/* A place that nobody is in, or NULL. */
static worker *
pool_vacancy(pool *p)
{
    for (uint32_t i = 0; i < p->max_workers && !p->fixed; i++) {
        if (p->workers[i].home == NULL && !p->workers[i].starting) {
            return &p->workers[i];
        }
    }
    return NULL;
}

/* A spare, or a new interpreter, for a place that has been reserved for it. The
 * reference and the handle are the place's. */
static atoll_err
pool_employ(pool *p, worker *w)
{
    home *h;
    atoll_err err = ATOLL_ERR_CLOSED;
    while (err != ATOLL_OK && (h = spare_take(&p->plan)) != NULL) {
        err = pool_adopt(p, w, h);
        if (err != ATOLL_OK) {
            home_handle_unref(h);
            home_unref(h);
        }
    }
    spare_expect(&p->plan);
    return err == ATOLL_OK ? err
                           : home_new_employed(p->name, &p->plan, &p->employer, w);
}

/* Make an interpreter for a place that has been reserved. No lock held. */
void
pool_start(pool *p, worker *w)
{
    atoll_err err = pool_employ(p, w);
    if (err == ATOLL_OK) {
        return;
    }
    atoll_lock_acquire(&p->lock);
    w->starting = false;
    p->live--;
    bool alone = p->live == 0;
    atoll_lock_release(&p->lock);
    if (alone) {
        pool_break(p,
                   err == ATOLL_ERR_SYSTEM   ? "the operating system refused a thread"
                   : err == ATOLL_ERR_CLOSED ? "the process is ending"
                                             : "not enough memory",
                   0);
    }
}

/* Reserve a place if the queue needs one more worker. With the lock held. */
worker *
pool_reserve(pool *p)
{
    worker *w = p->why == NULL && p->pending > 0 ? pool_vacancy(p) : NULL;
    if (w != NULL) {
        w->starting = true;
        p->live++;
    }
    return w;
}

void
pool_start_workers(pool *p, uint32_t count)
{
    for (;;) {
        atoll_lock_acquire(&p->lock);
        worker *w = p->live < count && !p->closed ? pool_vacancy(p) : NULL;
        if (w != NULL) {
            w->starting = true;
            p->live++;
        }
        atoll_lock_release(&p->lock);
        if (w == NULL) {
            return;
        }
        pool_start(p, w);
    }
}

/* --------------------------------------------------------------- submitting */

/* Give the first of the queue to idle workers. True if it was taken. */
bool
pool_give(pool *p)
{
    while (p->idle != NULL) {
        worker *w = p->idle;
        task *t = p->first;
        idle_remove(p, w);
        pool_unlink(p, t);
        pool_begin(w, t); /* before it can be over */
        if (home_submit(w->home, &t->job) == ATOLL_OK) {
            task_unref(t); /* the queue's; the home has its own */
            return true;
        }
        /* Somebody else has it run something, or has closed it, or there is no
         * memory to tell it: it will come again by itself, or be replaced. */
        pool_unbegin(w, t);
        t->next = p->first;
        *(p->first == NULL ? &p->last : &p->first->prev) = t;
        p->first = t;
        p->pending++;
        t->phase = TASK_QUEUED;
    }
    return false;
}

/* Can the interpreter of a fixed pool still take tasks? */
static bool
pool_is_open(pool *p)
{
    if (p->closed || !p->fixed) {
        return !p->closed;
    }
    home_state now = home_state_now(p->workers[0].home);
    return now <= HOME_RUNNING;
}

atoll_err
pool_submit(pool *p, task *t)
{
    atoll_lock_acquire(&p->lock);
    if (!pool_is_open(p)) {
        atoll_lock_release(&p->lock);
        return ATOLL_ERR_CLOSED;
    }
    if (t->limit == 0) {
        t->phase = TASK_OVER;
        atoll_lock_release(&p->lock);
        if (job_settle(&t->job, JOB_LATE, NULL, 0)) {
            job_announce(&t->job);
        }
        atoll_event_set(&t->job.over);
        return ATOLL_OK;
    }
    if (p->fixed && !p->workers[0].idle &&
        home_state_now(p->workers[0].home) == HOME_IDLE) {
        pool_idle_push(p, &p->workers[0]); /* nobody has told us yet */
    }
    task_ref(t);
    pool_push(p, t);
    worker *w = pool_give(p) ? NULL : pool_reserve(p);
    atoll_lock_release(&p->lock);
    if (w != NULL) {
        pool_start(p, w);
    }
    return ATOLL_OK;
}

/* --------------------------------------------------------------------- ends */

/* Settle a chain of jobs that were taken from the queue. */
void
pool_settle_all(task *chain, job_status status, uint64_t printed)
{
    while (chain != NULL) {
        task *next = chain->next;
        chain->next = NULL;
        if (job_settle(&chain->job, status, NULL, printed)) {
            job_announce(&chain->job);
        }
        atoll_event_set(&chain->job.over);
        task_unref(chain);
        chain = next;
    }
}

/* Empty the queue: returns the chain. */
task *
pool_take_all(pool *p)
{
    task *chain = p->first;
    for (task *t = chain; t != NULL; t = t->next) {
        t->prev = NULL;
        t->phase = TASK_OVER;
    }
    p->first = p->last = NULL;
    p->pending = 0;
    return chain;
}

void
pool_close(pool *p, bool cancel)
{
    atoll_lock_acquire(&p->lock);
    p->closed = true;
    task *chain = cancel ? pool_take_all(p) : NULL;
    if (p->pending > 0) {
        atoll_lock_release(&p->lock);
    }
    else {
        pool_release_idle(p);
    }
    pool_settle_all(chain, JOB_CANCELLED, 0);
}

void
pool_break(pool *p, const char *why, uint64_t printed)
{
    char *text = core_copy_text(why);
    atoll_lock_acquire(&p->lock);
    if (p->why == NULL) {
        p->why = text;
        text = NULL;
    }
    p->closed = true;
    task *chain = pool_take_all(p);
    pool_release_idle(p);
    pool_settle_all(chain, JOB_BROKEN, printed);
    atoll_free(text);
}

bool
pool_withdraw(pool *p, task *t)
{
    bool queued = t->phase == TASK_QUEUED;
    if (queued) {
        pool_unlink(p, t);
    }
    return queued;
}
