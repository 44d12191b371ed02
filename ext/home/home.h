/* Homes: each interpreter that atoll makes lives on one OS thread of its own.
 *
 * The thread creates the interpreter, runs every exec and call in it, and ends
 * it. Thread states never migrate (one that was made on another stack crashes
 * on deep recursion), and the caller of a job only waits, so it can be
 * interrupted and give up while the job goes on.
 *
 * A home belongs to the process. `refs` keeps its memory; `handles` counts the
 * Python objects and messages that stand for the interpreter: when the last
 * one goes the interpreter is closed as soon as it is idle.
 *
 *   STARTING -> IDLE <-> RUNNING
 *                IDLE <-> CLOSING -> (LINGERING ->) ENDED
 *
 * One job at a time: a second exec on a running interpreter is refused, so
 * calls in a circle (A calls B calls A) are an error, not a deadlock. CLOSING
 * goes back to IDLE only when thread states that nobody can end are in the way.
 *
 * Lock order: a pool, the table of homes, a home's lock, then the core's locks. No
 * lock is held while Python code runs or a GIL is taken.
 */
#ifndef EXT_HOME_HOME_H
#define EXT_HOME_HOME_H

#include "home/job.h"

typedef enum home_state {
    HOME_STARTING,
    HOME_IDLE,
    HOME_RUNNING,
    HOME_CLOSING,
    HOME_LINGERING, /* closed for everybody, but others look at its memory */
    HOME_ENDED,
} home_state;

typedef struct home {
    atoll_lock lock;
    uint32_t refs;     /* atomic */
    uint32_t handles;  /* guarded by lock */
    home_state state;  /* guarded by lock */
    job *current;      /* guarded by lock; counted; the job under way */
    PyInterpreterState *interp; /* guarded by lock; NULL before and after */
    int64_t id;        /* written before `started` is set; -1 until then */
    atoll_thread thread; /* constant once started */
    unsigned long ident; /* the same, as CPython names threads */
    bool interruptible;  /* guarded by lock: user code runs */
    bool interrupt_due;  /* guarded by lock */
    bool interrupted;    /* guarded by lock: once at least, in this job */
    bool job_over;       /* guarded by lock: only the reply is still due */
    bool call_in_flight; /* guarded by lock: our pending call is queued */
    uint32_t put_off;    /* guarded by lock: how often the interrupt was */
    int64_t put_off_since; /* guarded by lock: when that began */
    bool waiting;        /* guarded by lock: the home thread is in a wait */
    bool exiting;        /* guarded by lock: the process exits */
    bool refused;        /* guarded by lock: the last close was refused */
    bool ending;         /* guarded by lock: Py_EndInterpreter has begun */
    bool abandoned;      /* guarded by lock: unlinked, must not end */
    bool endless;        /* guarded by its GIL: see isolate/datetime.c */
    struct mailbox *mailbox; /* guarded by lock; counted; NULL until booted */
    atoll_kick kick;     /* interrupts the home thread's waits */
    struct cq_link *loops; /* guarded by lock: its event loops; see async/async.h */
    atoll_chan *inbox;   /* jobs */
    struct pool *pool;   /* that it works for, counted; written once, with the
                            lock held */
    struct worker *worker; /* guarded by the pool's lock: its place there, or
                              NULL when it has none (any more) */
    bool counted;        /* guarded by the pool's lock: one of its `live` */
    bool stray;          /* guarded by the pool's lock: abandoned, and busy */
    bool dismissed;      /* guarded by lock: closes when it is idle, even if
                            somebody has handles */
    bool hopeless;       /* guarded by lock: it has not obeyed in its time */
    bool isolated;       /* constant: extensions="isolate" */
    int nice;            /* the home thread's own: its niceness */
    struct isolate *isolate; /* constant once booted; or NULL */
    atoll_spin spin;     /* of callers that wait for jobs to be done */
    uint64_t printed;    /* guarded by its GIL: its last piece of output */
    atoll_event started;
    atoll_event ended; /* or, at process exit, refused: it will not end */
    atoll_event gone;  /* it has ended */
    atoll_msg setup;     /* for job_boot; owned until started */
    char *start_error;   /* written before `started` is set */
    bool spare;          /* guarded by lock: nobody has it, see home/spare.h */
    char *name;          /* UTF-8; constant once it is no spare */
    struct home *next;   /* guarded by the table's lock */
} home;

/* --- what runs inside (home/job.c) */

/* What a job has come to, before anybody else knows. */
typedef struct outcome {
    job_status status;
    atoll_msg reply; /* owned */
} outcome;

/* Run a job in the home's thread, attached; fills *out. Returns true if the
 * interpreter is to end now; then `done` is not to be set before it has. */
bool job_run(home *h, core_state *state, job *j, outcome *out);

/* Prepare the new interpreter: sys.path, threading, atoll itself, its streams.
 * Attached to it. NULL with an exception. */
core_state *job_boot(home *h);

/* --- life (home/home.c) */

/* How to make an interpreter. */
typedef struct home_plan {
    atoll_msg setup; /* owned: see make_setup in atoll/interpreter.py */
    char *key;       /* owned: the same for plans that come to the same */
    size_t key_size;
    bool isolated;   /* its extension modules are private copies (isolate/isolate.h) */
} home_plan;

/* Of the tuple (setup, key) that Python has. -1 with an exception. */
int plan_parse(core_state *state, PyObject *setup, bool isolated,
               home_plan *plan);
/* NOMEM, or as xfer_clone. */
atoll_err plan_clone(const home_plan *plan, home_plan *copy);
void plan_drop(home_plan *plan);

/* Start a thread with a new interpreter; do not wait for it. The home has copies
 * of what it needs. The caller gets a reference and a handle. Returns NOMEM,
 * SYSTEM, or CLOSED at process exit. */
atoll_err home_new(const char *name, const home_plan *plan, home **out);

/* The same for a worker of `p`, at the place `w` that has been reserved for it; it
 * may be a spare. The reference and the handle are the place's. */
atoll_err home_start(struct pool *p, struct worker *w);

/* As home_new, but nobody can see it yet. And: give it `name` and let it be seen,
 * if it is idle; false if it is not, or without memory. */
atoll_err home_new_spare(const home_plan *plan, home **out);
bool home_unspare(home *h, const char *name);

void home_ref(home *h);
void home_unref(home *h);
/* Handles are counted apart from references; a new one needs an old one. */
void home_handle_ref(home *h);
void home_handle_unref(home *h);

home_state home_state_now(home *h);

/* For all that anybody can see, it is gone. */
static inline bool
has_ended(home *h)
{
    return home_state_now(h) >= HOME_LINGERING;
}

/* The home of interpreter `id`, with a reference and a handle, or NULL. With
 * `any` also one that is being made, closed, or a spare. */
home *home_find(int64_t id, bool any);
/* The name of the home of interpreter `id`, shortened to `size`; "" if it has none. */
void home_copy_name(int64_t id, char *text, size_t size);

/* Hand a job over; the home takes a reference of its own. OK; AGAIN when it is
 * running; CLOSED when it is closing or gone; NOMEM. */
atoll_err home_submit(home *h, job *j);

/* For pools, whose lock may be held. Its last job, `j` (NULL: it has just been
 * made), has ended and no other follows; does the process end; it has been told to stop and has not. */
void home_becomes_idle(home *h, const job *j);
/* Give a handle back; it closes as soon as it is idle, whoever else has one. */
void home_dismiss(home *h);
bool home_is_exiting(home *h);
void home_is_hopeless(home *h);

/* The job under way, with a reference, or NULL. */
job *home_current(home *h);

/* --- the table (home/table.c) */

/* Enter it, unless the process is ending; leave it again, never having begun. */
bool homes_add(home *h);
void homes_remove(home *h);
/* It has ended: its thread is to be joined by whoever comes next. */
void homes_retire(home *h);
void homes_set_id(home *h, int64_t id);
/* Let nobody in any more. All homes, each with a reference: an array that the
 * caller frees, with a NULL at its end; NULL when out of memory. */
home **homes_close(void);
/* Join the threads of homes that have ended. Without a GIL. */
void home_reap(void);

/* --- interrupts (home/interrupt.c); all but home_interrupt attached, inside */

/* Ask job `j` (NULL: any) to end with KeyboardInterrupt. False if it does not
 * run. Must be called without a GIL; does not wait for one. `unwanted`: its
 * caller has given up, so the error need not be described. */
bool home_interrupt(home *h, const job *j, bool unwanted);

/* The home whose own thread is the calling one, or NULL. */
home *home_of_thread(core_state *state);
/* At boot: what the module signal does where no signal arrives. -1 with an
 * exception. */
int home_mend_signal(core_state *state);
/* The job's code begins: from here on it can be interrupted. What comes before
 * that (modules are imported when functions arrive) is left in peace, since an
 * import that is broken off leaves half of it behind. False, with
 * KeyboardInterrupt, if an interrupt has come already. */
bool home_begin_code(home *h);
/* Until the next home_begin_code it is left in peace again. */
void home_pause_code(home *h);
/* Called by the home thread before each wait. If an interrupt is due, raise
 * KeyboardInterrupt and return true; else note that a wait follows. */
bool home_take_interrupt(home *h);
/* That wait is over. */
void home_wait_over(home *h);
/* Where the calling thread's code is (home/place.c). Called attached, with no
 * exception set. */
typedef enum interrupt_place {
    PLACE_FREE,     /* KeyboardInterrupt may come */
    PLACE_DELICATE, /* it would break more than the task, here */
    PLACE_LOOP,     /* in an event loop that waits: cancel its task */
} interrupt_place;

interrupt_place interrupt_find_place(void);
/* The user's code of this job is over: no interrupt from here on. Returns
 * whether anybody still wants the reply. */
bool home_job_over(home *h);

/* Ask it to end. Returns whether it was running something. Callers that are
 * left in the main interpreter are daemon threads: they stay blocked, as daemon
 * threads do, rather than print an error of our making. Callers elsewhere get
 * their error, since their interpreters are still to end in good order. */
bool home_ask_to_end(home *h);

/* --- in Python */

/* The atoll._core.Home of `h` (home/object.c): takes a reference and a handle of its own.
 * NULL with MemoryError. */
PyObject *home_object(core_state *state, home *h);

/* --- the process (home/exit.c) */

/* Close all, interrupting what runs; called by main's atexit, with the GIL.
 * What cannot be stopped within the grace is unlinked from the runtime. Returns
 * -1 with an exception if a signal handler raised. */
int home_shutdown_all(core_state *state);

void home_fork_prepare(void);
void home_fork_parent(void);
void home_fork_child(void);

/* --- callers in interpreters that are not ours (home/callers.c) */

/* Around each job that somebody waits for; attached. */
void callers_enter(const core_state *state);
void callers_leave(const core_state *state);
/* At process exit, with no GIL held. Which threads wait for a job now? And: wait
 * until these have ended. */
void callers_note(void);
void callers_wait(int64_t deadline);
void callers_fork_child(void);

/* --- the memory of dead interpreters (cpython/arena.c) */

/* Watch CPython's arenas. Once a process. */
void arena_init(void);
/* Unmap what interpreter `owner`, which has ended, has left behind. */
void arena_release_all(int64_t owner);
/* How much CPython's small-object allocator has taken for it from the system. */
size_t arena_bytes(int64_t owner);
void arena_fork_prepare(void);
void arena_fork_parent(void);
void arena_fork_child(void);

/* --- CPython's list of interpreters (cpython/runtime.c) */

/* Find the list; install the fork handlers. Once a process. -1 with an
 * exception. */
int runtime_init(void);
/* Between these, no thread state of any interpreter comes or goes; attached. Code that
 * holds another interpreter's GIL, or none, makes and deletes them: importing an
 * extension module elsewhere makes one of main's, and CPython deletes it without main's
 * GIL. No object may be freed meanwhile, and no other lock of CPython's be taken. */
void runtime_lock_threads(void);
void runtime_unlock_threads(void);
/* Take one interpreter out of the list; what it owns is leaked. */
void runtime_unlink(PyInterpreterState *interp);
/* All that CPython has in its one static struct: the address, and how much. */
const char *runtime_memory(size_t *size);
/* In a forked child: leave only the main interpreter in it. */
void runtime_unlink_all(void);

#endif
