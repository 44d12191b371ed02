/* Pools: tasks on their way to workers.
 *
 * A pool is a queue of jobs and up to `max_workers` homes that take from it. It
 * belongs to the process: what submits, what runs and what waits may be three
 * interpreters, and none of them is needed for the others to go on. An executor
 * is a pool; a spawned task is a pool of one worker and one job that is closed at
 * once; Interpreter.submit() uses a pool whose one worker is that interpreter.
 *
 * A task goes from submit() to an idle worker directly, to the one that became
 * idle last, since that one may still be spinning; else it stands in the queue,
 * and whoever becomes free takes it without a message.
 *
 *     NEW -> QUEUED -> STARTED -> OVER        (task_phase, under the pool's lock)
 *
 * A worker's home that is abandoned (it does not obey), worn out (max_tasks) or
 * closed by somebody leaves its place in the pool, which another one takes. What
 * was abandoned is a stray: nobody has a handle of it, so it closes when its task
 * comes to an end after all.
 *
 * Lock order: that of all pools, a pool, then a home, then the core's locks. No lock is
 * held while an interpreter is made, a job is announced, or anything is freed.
 */
#ifndef EXT_POOL_POOL_H
#define EXT_POOL_POOL_H

#include "home/home.h"

struct pool;

/* Where a task is; of other jobs their home's `current` says it. */
typedef enum task_phase {
    TASK_NEW,
    TASK_QUEUED,
    TASK_STARTED,
    TASK_OVER,
} task_phase;

/* A job on its way to a worker; or, with job.init, one that prepares a worker. */
typedef struct task {
    job job;                  /* first */
    struct pool *pool;        /* counted; constant */
    int64_t limit;            /* constant: nanoseconds that it may run, or FOREVER */
    struct task *prev, *next; /* guarded by the pool's lock: while QUEUED */
    task_phase phase;         /* guarded by the pool's lock */
    home *home;               /* guarded by the pool's lock: while STARTED */
    atoll_timer limit_timer;  /* has a reference of its own while it is set */
    atoll_timer grace_timer;  /* likewise */
    uint32_t reminders;       /* the grace timer's own */
} task;

/* Make a task that owns `request`, for `p`, with one reference; NULL when out of
 * memory, request untouched. */
task *task_new(struct pool *p, const atoll_msg *request);

/* Get the task that a job is, or NULL. */
static inline task *
task_of(job *j)
{
    return j != NULL && (j->task || j->init) ? (task *)j : NULL;
}

/* Count a reference; give one back. Any thread. */
static inline void
task_ref(task *t)
{
    job_ref(&t->job);
}

static inline void
task_unref(task *t)
{
    job_unref(&t->job);
}

/* A place for a home. Guarded by the pool's lock. */
typedef struct worker {
    struct home *home; /* with a reference and a handle, unless the pool is
                          `fixed`; NULL: nobody, or it is being made */
    bool starting;     /* it is being made */
    bool idle;         /* it stands in the pool's list of these */
    struct worker *next_idle;
    task *task;        /* counted: what it runs, or NULL */
    int64_t since;     /* when that began */
    uint64_t served;   /* tasks of this home */
    uint64_t tasks;    /* of all that have been here */
    int64_t busy;      /* nanoseconds, likewise */
    uint32_t restarts; /* how often the place was taken again */
} worker;

typedef struct pool {
    home_employer employer;      /* first */
    uint32_t refs;               /* atomic */
    struct pool *before, *after; /* guarded by the lock of all pools */
    atoll_lock lock;
    uint64_t process;      /* constant: xfer_process_token() */
    char *name;            /* constant */
    uint32_t max_workers;  /* constant */
    bool fixed;            /* constant: its one worker is somebody's interpreter */
    bool prepares;         /* constant: there is an `init` */
    uint64_t max_tasks;    /* constant: for one home; 0: any number */
    int64_t grace;         /* constant: nanoseconds to obey an interrupt */
    struct home_plan plan; /* constant: of its workers */
    atoll_msg init;        /* constant: the request of the first job of each */
    task *first, *last;    /* the queue: a reference to each */
    size_t pending;        /* its length */
    worker *idle;          /* that became so last */
    uint32_t live;         /* homes that are in a place, begin or end */
    uint32_t strays;       /* abandoned ones that are still busy */
    uint32_t remain; /* those that could not be closed, and are left to themselves */
    uint32_t restarts;
    uint64_t printed;  /* the last piece of output of those that have ended */
    bool closed;       /* nothing is accepted any more */
    char *why;         /* it is broken: the reason; set once, then constant */
    bool mourned;      /* somebody has logged that, for a task that nobody asks for */
    atoll_event ended; /* closed, and nothing is left to do */
    atoll_spin spin;   /* of those that wait for its tasks */
    worker workers[];
} pool;

typedef struct pool_config {
    const char *name;
    uint32_t max_workers;
    uint64_t max_tasks;
    int64_t grace;
    int nice;
    bool watched;
    struct home_plan *plan; /* taken on success; NULL: the pool is `fixed` */
    atoll_msg *init;        /* likewise; NULL: nothing to prepare */
} pool_config;

/* The caller owns a reference. NULL when out of memory. */
pool *pool_new(const pool_config *config);

/* Count a reference. Any thread. */
void pool_ref(pool *p);
/* The last one is for the memory only: close the pool before. */
void pool_unref(pool *p);

/* Look at each pool of this process, oldest last, with its lock held; look() takes no
 * other lock but those of homes. */
void pools_each(void (*look)(pool *p, void *arg), void *arg);

/* Hold the list of pools still, for a fork. */
void pools_fork_prepare(void);

/* Let go of it. */
void pools_fork_parent(void);

/* Make its lock anew, in the child. */
void pools_fork_child(void);

/* The fixed pool of an interpreter, made on demand: a reference. NULL: no memory
 * (NOMEM), or it works for another pool (CLOSED). */
pool *pool_of_home(struct home *h, atoll_err *err);

/* Queue `t`, which is new, or give it to a worker. OK: the pool has
 * taken a reference of its own; CLOSED when it is closed or broken, or the
 * interpreter gone. Starts workers as needed. One that may not run for any time is
 * settled as LATE at once. Any thread, without a GIL or with. */
atoll_err pool_submit(pool *p, task *t);

/* Have `count` workers, at most its maximum, even with nothing to do. */
void pool_start_workers(pool *p, uint32_t count);

/* Accept nothing more; workers end when the queue is empty. With `cancel` the
 * queue is emptied: its jobs are settled as cancelled. */
void pool_close(pool *p, bool cancel);

/* No worker can be had: settle what is queued, refuse what comes. `printed`: the
 * last piece of output that says why, or 0; see output/output.h. */
void pool_break(pool *p, const char *why, uint64_t printed);

/* --- stopping (pool/stop.c) */

/* Settle as `how` (CANCELLED or LATE) unless it is settled already, and stop its
 * code: take it from the queue, or interrupt it, again and again during the
 * pool's grace, after which its worker is abandoned. Returns whether it was this
 * call. Any thread, without a GIL. */
bool pool_cancel(task *t, job_status how);

/* Cancel it, if it has not begun; as pool_cancel. */
bool pool_cancel_queued(task *t);

/* Cancel all that run. */
void pool_cancel_started(pool *p);
/* Begin to watch its time limit; with the pool's lock held. */
void pool_watch(task *t);

/* End that: it is over. */
void pool_unwatch(task *t);

/* --- what homes ask of their employer (pool/worker.c) */

extern const home_employer_ops pool_employer;

/* The pool that a home works for; borrowed. */
static inline pool *
pool_of_worker(const home *h)
{
    return (pool *)h->employer;
}

/* --- as a room */

/* What an interpreter has of it. */
typedef struct pool_data {
    PyTypeObject *job_type;
    PyObject *failure; /* of atoll._tasks.future, on demand */
    PyObject *mourn;   /* likewise: unretrieved */
} pool_data;

extern const core_room pool_room;

/* What one waits for: the outcome of a task, its end; the end of a pool. The object is
 * the task, or the pool. */
extern const wait_type wait_task, wait_task_over, wait_pool;

/* Is it a future of this interpreter's? */
bool pool_is_future(const core_state *state, PyObject *obj);

/* Get the task of a future, begun in this process: borrowed. NULL with an exception. */
task *pool_future_task(PyObject *future);

#endif
