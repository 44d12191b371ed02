/* Jobs: work that is handed to an interpreter, and what becomes of it.
 *
 * A job is counted and belongs to the process, so whoever made it may give up
 * before it is done. It ends twice: it is *settled* when its outcome is known,
 * by whoever is first (the interpreter that ran it, a canceller, the timer, the
 * end of its pool), and it is *over* when its code has stopped running. For most
 * jobs that is one moment; one that is cancelled is settled at once, and over
 * when its code has obeyed.
 */
#ifndef EXT_HOME_JOB_H
#define EXT_HOME_JOB_H

#include "base/base.h"

typedef enum job_op { JOB_EXEC, JOB_CALL, JOB_PREPARE, JOB_CLOSE } job_op;

typedef enum job_status {
    JOB_PENDING,
    JOB_RETURNED, /* reply: the result */
    JOB_RAISED,   /* reply: the error as a tuple, see atoll/_boot.py */
    JOB_UNSENT,   /* reply: why the result cannot cross, a str */
    JOB_REFUSED,  /* close only; reply: how many threads are in the way */
    JOB_BUSY,     /* no reply: somebody else runs the interpreter */
    JOB_LOST,     /* no reply: out of memory there */
    /* Of tasks only, and without a reply: */
    JOB_CANCELLED,
    JOB_LATE,     /* it ran longer than it was given */
    JOB_GONE,     /* its interpreter ended before it began */
    JOB_BROKEN,   /* its pool has no workers any more, see pool_why */
} job_status;

/* Where a task is; of other jobs their home's `current` says it. */
typedef enum job_phase { JOB_NEW, JOB_QUEUED, JOB_STARTED, JOB_OVER } job_phase;

struct pool;

typedef struct job {
    uint32_t refs; /* atomic */
    job_op op;
    bool from_main;    /* constant: its caller is in the main interpreter */
    bool task;         /* constant: of a pool; its caller does not wait for it */
    bool init;         /* constant: prepares a worker; see pool/pool.h */
    uint64_t number;   /* constant: of those that are traced, see watch/trace.h; or 0 */
    atoll_lock lock;
    job_status status; /* guarded by lock; constant once settled */
    uint64_t printed;  /* constant once settled: see output/output.h */
    atoll_msg reply;   /* likewise; owned */
    bool unwanted;     /* guarded by the home's lock: nobody reads the reply */
    bool muted;        /* guarded by the home's lock: `done` stays unset */
    atoll_msg request; /* owned */
    atoll_event done;  /* it is settled */
    atoll_event over;  /* of tasks: its code does not run, and never will */

    /* Of tasks only. */
    struct pool *pool;      /* counted; constant */
    struct job *prev, *next; /* guarded by the pool's lock: while QUEUED */
    job_phase phase;        /* guarded by the pool's lock */
    struct home *home;      /* guarded by the pool's lock: while STARTED */
    int64_t limit;          /* constant: nanoseconds that it may run; 0: any */
    atoll_timer limit_timer; /* has a reference of its own while it is set */
    atoll_timer grace_timer; /* likewise */
    uint32_t reminders;     /* the grace timer's own */
} job;

/* A job that owns `request` (NULL: none); NULL when out of memory, request
 * untouched. */
job *job_new(job_op op, const atoll_msg *request);
void job_ref(job *j);
void job_unref(job *j);

/* Settle it, unless somebody has: returns whether this call did. `reply` (NULL:
 * none) is the job's then, and else still the caller's. Whoever settled it
 * announces it once what depends on that is done. Any thread. */
bool job_settle(job *j, job_status status, atoll_msg *reply, uint64_t printed);
void job_announce(job *j);
/* If it has been cancelled, wait for the moment until that is announced. Without a
 * GIL, since whoever is about to announce it may want one. */
void job_await_announcement(job *j);

/* Call a function of atoll._boot with one argument: its result, or NULL with an
 * exception. Attached, inside. */
PyObject *boot_call(const char *name, PyObject *arg);

#endif
