/* Pools: the queue and its workers. See pool.h; how tasks are stopped is in
 * pool_stop.c, what Python sees in poolobj.c. */
#include "pool.h"

#include <stdio.h>
#include <string.h>

#include "home.h"
#include "xfer.h"

/* ---------------------------------------------------------------- counting */

static char *
copy_text(const char *text)
{
    size_t size = strlen(text) + 1;
    char *copy = atoll_alloc(size);
    if (copy != NULL) {
        memcpy(copy, text, size);
    }
    return copy;
}

pool *
pool_new(const pool_config *config)
{
    size_t size = sizeof(pool) + config->max_workers * sizeof(worker);
    pool *p = atoll_alloc(size);
    char *name = p == NULL ? NULL : copy_text(config->name);
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
    p->fixed = config->plan == NULL;
    if (config->plan != NULL) {
        p->plan = *config->plan;
    }
    if (config->init != NULL) {
        p->init = *config->init;
        p->prepares = true;
    }
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
    pool *p = h->pool;
    atoll_lock_release(&h->lock);
    if (p == NULL) {
        pool_config config = {.name = h->name,
                              .max_workers = 1,
                              .grace = ATOLL_FOREVER};
        pool *fresh = pool_new(&config);
        if (fresh == NULL) {
            return NULL;
        }
        fresh->live = 1;
        fresh->workers[0].home = h;
        atoll_lock_acquire(&h->lock);
        if (h->pool == NULL) {
            h->worker = &fresh->workers[0];
            h->counted = true;
            h->pool = fresh;
        }
        p = h->pool;
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
push(pool *p, job *j)
{
    j->prev = p->last;
    j->next = NULL;
    *(p->last == NULL ? &p->first : &p->last->next) = j;
    p->last = j;
    p->pending++;
    j->phase = JOB_QUEUED;
}

static void
unlink_job(pool *p, job *j)
{
    *(j->prev == NULL ? &p->first : &j->prev->next) = j->next;
    *(j->next == NULL ? &p->last : &j->next->prev) = j->prev;
    j->prev = j->next = NULL;
    p->pending--;
    j->phase = JOB_OVER;
}

/* `j`, just taken from the queue, is to run at `w`. */
static void
begin(worker *w, job *j)
{
    job_ref(j);
    w->job = j;
    w->since = atoll_now();
    j->phase = JOB_STARTED;
    home_ref(w->home);
    j->home = w->home;
    pool_watch(j);
}

static void
idle_push(pool *p, worker *w)
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
is_over(const pool *p)
{
    return p->closed && p->live == 0 && p->pending == 0;
}

void
pool_release(pool *p)
{
    bool over = is_over(p);
    atoll_lock_release(&p->lock);
    if (over) {
        atoll_event_set(&p->ended);
    }
}

/* --------------------------------------------------- leaving a place in it */

/* What is to be done about a home that has left its place, with no lock held. */
static void
let_go(pool *p, home *h)
{
    if (h != NULL && !p->fixed) {
        home_handle_unref(h); /* it closes, now or when it is idle */
        home_unref(h);
    }
}

/* Take the home out of its place. The caller lets go of it. */
static home *
vacate(pool *p, worker *w)
{
    home *h = w->home;
    idle_remove(p, w);
    w->home = NULL;
    w->served = 0;
    h->worker = NULL;
    return h;
}

/* Let go of all idle homes: the pool is closed and its queue empty. Called with
 * the lock held, which it releases. */
static void
release_idle(pool *p)
{
    while (p->idle != NULL && !p->fixed) {
        home *h = vacate(p, p->idle);
        atoll_lock_release(&p->lock);
        let_go(p, h);
        atoll_lock_acquire(&p->lock);
    }
    pool_release(p);
}

/* ------------------------------------------------------------ new workers */

/* A place that nobody is in, or NULL. */
static worker *
vacancy(pool *p)
{
    for (uint32_t i = 0; i < p->max_workers && !p->fixed; i++) {
        if (p->workers[i].home == NULL && !p->workers[i].starting) {
            return &p->workers[i];
        }
    }
    return NULL;
}

/* Make an interpreter for a place that has been reserved. No lock held. */
static void
start(pool *p, worker *w)
{
    atoll_err err = home_start(p, w);
    if (err == ATOLL_OK) {
        return;
    }
    atoll_lock_acquire(&p->lock);
    w->starting = false;
    p->live--;
    bool alone = p->live == 0;
    atoll_lock_release(&p->lock);
    if (alone) {
        pool_break(p, err == ATOLL_ERR_SYSTEM
                          ? "the operating system refused a thread"
                      : err == ATOLL_ERR_CLOSED ? "the process is ending"
                                                : "not enough memory");
    }
}

/* Reserve a place if the queue needs one more worker. With the lock held. */
static worker *
reserve(pool *p)
{
    worker *w = p->why == NULL && p->pending > 0 ? vacancy(p) : NULL;
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
        worker *w = p->live < count && !p->closed ? vacancy(p) : NULL;
        if (w != NULL) {
            w->starting = true;
            p->live++;
        }
        atoll_lock_release(&p->lock);
        if (w == NULL) {
            return;
        }
        start(p, w);
    }
}

/* --------------------------------------------------------------- submitting */

/* Give the first of the queue to idle workers. True if it was taken. */
static bool
give(pool *p)
{
    while (p->idle != NULL) {
        worker *w = p->idle;
        job *j = p->first;
        idle_remove(p, w);
        unlink_job(p, j);
        begin(w, j); /* before it can be over */
        if (home_submit(w->home, j) == ATOLL_OK) {
            job_unref(j); /* the queue's; the home has its own */
            return true;
        }
        /* Somebody else has it run something, or has closed it, or there is no
         * memory to tell it: it will come again by itself, or be replaced. */
        pool_unwatch(j);
        job_unref(w->job);
        w->job = NULL;
        home_unref(j->home);
        j->home = NULL;
        j->next = p->first;
        *(p->first == NULL ? &p->last : &p->first->prev) = j;
        p->first = j;
        p->pending++;
        j->phase = JOB_QUEUED;
    }
    return false;
}

/* Can the interpreter of a fixed pool still take tasks? */
static bool
is_open(pool *p)
{
    if (p->closed || !p->fixed) {
        return !p->closed;
    }
    home_state now = home_state_now(p->workers[0].home);
    return now <= HOME_RUNNING;
}

atoll_err
pool_submit(pool *p, job *j)
{
    atoll_lock_acquire(&p->lock);
    if (!is_open(p)) {
        atoll_lock_release(&p->lock);
        return ATOLL_ERR_CLOSED;
    }
    if (p->fixed && !p->workers[0].idle &&
        home_state_now(p->workers[0].home) == HOME_IDLE) {
        idle_push(p, &p->workers[0]); /* nobody has told us yet */
    }
    job_ref(j);
    push(p, j);
    worker *w = give(p) ? NULL : reserve(p);
    atoll_lock_release(&p->lock);
    if (w != NULL) {
        start(p, w);
    }
    return ATOLL_OK;
}

/* --------------------------------------------------------------------- ends */

/* Settle a chain of jobs that were taken from the queue. */
static void
settle_all(job *chain, job_status status)
{
    while (chain != NULL) {
        job *next = chain->next;
        chain->next = NULL;
        if (job_settle(chain, status, NULL, 0)) {
            job_announce(chain);
        }
        atoll_event_set(&chain->over);
        job_unref(chain);
        chain = next;
    }
}

/* Empty the queue: returns the chain. */
static job *
take_all(pool *p)
{
    job *chain = p->first;
    for (job *j = chain; j != NULL; j = j->next) {
        j->prev = NULL;
        j->phase = JOB_OVER;
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
    job *chain = cancel ? take_all(p) : NULL;
    if (p->pending > 0) {
        atoll_lock_release(&p->lock);
    }
    else {
        release_idle(p);
    }
    settle_all(chain, JOB_CANCELLED);
}

void
pool_break(pool *p, const char *why)
{
    char *text = copy_text(why);
    atoll_lock_acquire(&p->lock);
    if (p->why == NULL) {
        p->why = text;
        text = NULL;
    }
    p->closed = true;
    job *chain = take_all(p);
    release_idle(p);
    settle_all(chain, JOB_BROKEN);
    atoll_free(text);
}

/* ---------------------------------------------------------- from the home */

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
        unlink_job(p, j);
        begin(w, j);
    }
    return j;
}

/* The job that prepares a worker. NULL when out of memory. */
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
        }
    }
    return j;
}

job *
pool_hello(home *h)
{
    pool *p = h->pool;
    job *j = p->prepares ? init_job(p) : NULL;
    if (p->prepares && j == NULL) {
        pool_break(p, "not enough memory for the initializer");
    }
    atoll_lock_acquire(&p->lock);
    worker *w = h->worker;
    w->starting = false;
    w->home = h;
    if (j == NULL) {
        j = take(p, w);
    }
    if (j != NULL) {
        set_current(h, j);
        atoll_lock_release(&p->lock);
        return j;
    }
    atoll_lock_acquire(&h->lock);
    h->state = HOME_IDLE;
    atoll_lock_release(&h->lock);
    idle_push(p, w);
    if (p->closed) {
        release_idle(p);
    }
    else {
        atoll_lock_release(&p->lock);
    }
    return NULL;
}

void
pool_adopt(home *h)
{
    pool *p = h->pool;
    job *j = p->prepares ? init_job(p) : NULL;
    if (p->prepares && j == NULL) {
        pool_break(p, "not enough memory for the initializer");
    }
    atoll_lock_acquire(&p->lock);
    worker *w = h->worker;
    w->starting = false;
    w->home = h;
    /* If it does not take the job it is about to end, and will say so. */
    if (j == NULL || home_submit(h, j) != ATOLL_OK) {
        idle_push(p, w);
        if (p->pending > 0) {
            give(p);
        }
    }
    if (p->closed && p->pending == 0) {
        release_idle(p);
    }
    else {
        atoll_lock_release(&p->lock);
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
        w->tasks++;
        w->served++;
        w->job = NULL;
    }
    j->phase = JOB_OVER;
    return known;
}

job *
pool_next(home *h, job *j, job_status status)
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
        pool_break(p, why);
    }
    atoll_lock_acquire(&p->lock);
    worker *w = h->worker;
    if (j->task) {
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
            idle_push(p, w);
        }
        else if (w != NULL) {
            left = vacate(p, w);
            vacant = reserve(p);
            w->restarts += vacant != NULL;
        }
    }
    pool_release(p);
    pool_unwatch(j);
    let_go(p, left);
    if (at != NULL) {
        home_unref(at);
    }
    if (dropped) {
        job_unref(j);
    }
    if (vacant != NULL) {
        start(p, vacant);
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
        left = vacate(p, w);
        w->restarts++;
        p->restarts++;
    }
    if (h->counted) {
        h->counted = false;
        p->live--;
    }
    bool failed = h->start_error != NULL && p->live == 0 && !p->fixed;
    if (p->fixed) {
        p->closed = true;
        chain = take_all(p);
    }
    else if (!failed) {
        vacant = reserve(p);
    }
    pool_release(p);
    if (failed) {
        pool_break(p, h->start_error);
    }
    settle_all(chain, JOB_GONE);
    let_go(p, left);
    if (vacant != NULL) {
        start(p, vacant);
    }
}

/* ---------------------------------------------------------- for pool_stop.c */

bool
pool_withdraw(pool *p, job *j)
{
    bool queued = j->phase == JOB_QUEUED;
    if (queued) {
        unlink_job(p, j);
    }
    return queued;
}

void
pool_abandon(pool *p, worker *w)
{
    job *dropped = w->job;
    w->job = NULL;
    home *h = vacate(p, w);
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
    let_go(p, h);
    job_unref(dropped);
    if (many) {
        pool_break(p, "too many tasks could not be stopped");
    }
    if (vacant != NULL) {
        start(p, vacant);
    }
}
