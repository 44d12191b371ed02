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
#include "follow/follow.h"

typedef enum job_op { JOB_EXEC, JOB_CALL, JOB_PREPARE, JOB_CLOSE } job_op;

typedef enum job_status {
    JOB_PENDING,
    JOB_RETURNED, /* reply: the result */
    JOB_RAISED,   /* reply: the error as a tuple, see atoll/_boot.py */
    JOB_UNSENT,   /* reply: why the result cannot cross, a str */
    JOB_REFUSED,  /* close only; reply: what is in the way, a str */
    JOB_BUSY,     /* no reply: somebody else runs the interpreter */
    JOB_LOST,     /* no reply: out of memory there */
    /* Of tasks (pool/pool.h) only, and without a reply: */
    JOB_CANCELLED,
    JOB_LATE,   /* it ran longer than it was given */
    JOB_GONE,   /* its interpreter ended before it began; or home_forsake */
    JOB_BROKEN, /* its pool has no workers any more */
} job_status;

typedef struct job {
    uint32_t refs; /* atomic */
    job_op op;
    bool from_main;  /* constant: its caller is in the main interpreter */
    bool task;       /* constant: of a pool; its caller does not wait for it */
    bool init;       /* constant: prepares a worker, for an employer */
    uint64_t number; /* constant: of those that are traced; or 0 */
    void (*free)(struct job *j); /* constant: frees it all; NULL: atoll_free does */
    atoll_lock lock;
    job_status status;     /* guarded by lock; constant once settled */
    uint64_t printed;      /* constant once settled: see output/output.h */
    atoll_msg reply;       /* likewise; owned */
    bool unwanted;         /* guarded by the home's lock: nobody reads the reply */
    bool muted;            /* guarded by the home's lock: `done` stays unset */
    bool dropped;          /* guarded by lock: its future was, before it was done */
    atoll_msg request;     /* owned */
    follow_record *follow; /* of who submitted it; counted, or NULL */
    atoll_event done;      /* it is settled */
    atoll_event over;      /* of tasks: its code does not run, and never will */
} job;

/* Make a job that owns `request` (NULL: none), with one reference; NULL when out of
 * memory, request untouched. */
job *job_new(job_op op, const atoll_msg *request);

/* Fill in a job that is part of something larger, as job_new. */
void job_init(job *j, job_op op, const atoll_msg *request);

/* Count a reference; give one back. Any thread. */
void job_ref(job *j);

/* Give a reference back; the last one frees it. Any thread. */
void job_unref(job *j);

/* Settle it, unless somebody has: returns whether this call did. `reply` (NULL:
 * none) is the job's then, and else still the caller's. Whoever settled it
 * announces it once what depends on that is done. Any thread. */
bool job_settle(job *j, job_status status, atoll_msg *reply, uint64_t printed);

/* Note that nobody can ask for its outcome any more, and nobody has. False: it is done.
 * Else whoever runs it will say whether it has failed. Any thread. */
bool job_drop_future(job *j);

/* Log that the task `j` has failed, if it has and its future was dropped before; it has
 * just been run in this interpreter, and announced. Leaves no exception. */
void job_mourn(core_state *state, job *j);

/* Announce it: wake who waits for its outcome. Any thread. */
void job_announce(job *j);

/* Wait, if its outcome is settled, for the moment until that is announced: at most a
 * second unless it was cancelled, since one that is muted never is. Without a
 * GIL, since whoever is about to announce it may want one. */
void job_await_announcement(job *j);

#endif
