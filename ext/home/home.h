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
 * goes back to IDLE only for a caller of close(), when threads that nobody can end are
 * in the way; without a caller it is left to itself (home/close.c).
 *
 * A home may work for an employer, a pool, which is on a higher floor: it asks that for
 * its next job, and tells it of its beginning and its end (home_employer).
 *
 * Lock order: an employer's, the table of homes, a home's lock, then the core's locks.
 * No lock is held while Python code runs or a GIL is taken.
 */
#ifndef EXT_HOME_HOME_H
#define EXT_HOME_HOME_H

#include "home/job.h"
#include "wait/wait.h"

typedef enum home_state {
    HOME_STARTING,
    HOME_IDLE,
    HOME_RUNNING,
    HOME_CLOSING,
    HOME_LINGERING, /* closed for everybody, but others look at its memory */
    HOME_ENDED,
} home_state;

/* An event loop of a home thread's: an interrupt makes its descriptor readable, since a
 * loop that sleeps looks for nothing else. */
typedef struct home_loop {
    struct home_loop *prev, *next; /* guarded by the home's lock */
    atoll_cq *cq;                  /* constant */
} home_loop;

/* What an interrupt does in an interpreter: what signal.signal(SIGINT, ...) has said.
 */
typedef enum sigint_action {
    SIGINT_RAISES, /* KeyboardInterrupt, as nobody has said anything */
    SIGINT_CALLS,  /* calls home_data.handlers */
    SIGINT_IGNORED,
} sigint_action;

/* For how long an interrupt has been put off (home/interrupt.c). */
typedef struct home_patience {
    uint32_t looks;      /* how often the home's thread has looked; 0: not yet */
    int64_t since, last; /* the first look, the last */
    int64_t asleep;      /* between looks, waiting for what is no core */
    long sleeps;         /* how often, as the system counts */
} home_patience;

typedef struct home {
    wait_host host; /* first; its thread and the kick that ends its waits */

    /* Atomic, constant, or written once. */
    uint32_t refs;                /* atomic */
    int64_t id;                   /* written before `started` is set; -1 until then */
    unsigned long ident;          /* the thread, as CPython names it */
    core_state *core;             /* of its interpreter; constant once booted */
    atoll_chan *inbox;            /* jobs; constant */
    bool isolated;                /* constant: extensions="isolate" */
    struct isolate *isolate;      /* constant once booted; or NULL */
    struct output_source *output; /* counted; constant once booted */
    atoll_msg setup;              /* for job_boot; owned until started */
    follow_record *follow;        /* likewise: counted, or NULL */
    uint32_t deaf;                /* constant: what of them it does not follow */
    char *start_error;            /* written before `started` is set */
    char *name;     /* UTF-8; guarded by `lock`; constant once it is no spare */
    unsigned depth; /* of its plan; likewise */
    atoll_event started;
    atoll_event created; /* CPython has made the interpreter, or has not */
    atoll_event ended;   /* or it is left to itself, or lingers at process exit */
    atoll_event gone;    /* it has ended */
    atoll_spin spin;     /* of callers that wait for jobs to be done */

    /* Of the home thread alone. */
    int nice;           /* its niceness */
    bool decoding;      /* it makes the objects of a request */
    const void *raised; /* the last KeyboardInterrupt of ours; only to be compared */

    /* Guarded by the table's lock. */
    struct home *next;

    /* Guarded by the employer's lock, and the employer's business. `employer` itself
     * is counted, and written once, with the home's lock held as well. */
    struct home_employer *employer;
    void *place;  /* in the employer; NULL when it has none (any more) */
    bool counted; /* one of those that the employer waits for at its end */
    bool stray;   /* abandoned, and busy */
    bool remains; /* left to itself, and counted as such */

    /* Guarded by `lock`. */
    atoll_lock lock;
    uint32_t handles;
    home_state state;
    job *current;               /* counted; the job under way */
    PyInterpreterState *interp; /* NULL before and after */
    PyInterpreterState
        *listed;      /* the same, for as long as CPython's list may have it */
    mailbox *mailbox; /* counted; NULL until booted */
    home_loop *loops; /* its event loops */
    /* - the interrupt of the job that runs */
    bool interruptible; /* user code runs */
    bool interrupt_due;
    bool interrupted;       /* once at least, in this job */
    bool job_over;          /* only the reply is still due */
    bool call_in_flight;    /* our pending call is queued */
    bool waiting;           /* the home thread is in a wait */
    home_patience patience; /* with the code that it finds */
    int64_t passed_on;      /* since when other threads alone have had it; 0: not */
    atoll_timer reminder;   /* pending with a reference, if `reminding` */
    bool reminding;
    int64_t pause;     /* until the next reminder */
    int64_t insist_at; /* when to see whether asyncio has heard it; 0: never */
    bool insists;      /* what is due is that */
    /* - what the interpreter has told the module signal */
    sigint_action sigint;
    bool gentle;   /* asyncio.Runner's handler, whose next call raises nothing */
    int wakeup_fd; /* -1: none */
    /* - its end */
    atoll_timer close_timer; /* has a reference of its own while it is set */
    bool close_watched;      /* it is set */
    uint32_t closers;        /* how many callers of close() wait for it */
    job *close_next;         /* counted: their job, while another one runs; or NULL */
    char *in_way;            /* owned: what keeps it from ending; or NULL */
    bool left;               /* to itself: nobody waits for its end any more */
    bool exiting;            /* the process exits */
    bool ending;             /* Py_EndInterpreter has begun */
    bool abandoned;          /* unlinked, must not end */
    bool dismissed;          /* closes when it is idle, even if somebody has handles */
    bool hopeless;           /* it has not obeyed in its time */
    bool spare;              /* nobody has it, see home/spare.c */
    /* - of its own thread */
    bool unsteady; /* as unsteady_begin says */
} home;

/* Say, in the home's thread, that it comes or goes from here on, so that nobody holds
 * it still (wait/visit.h): waits for those who do, detached. Or that it is there. */
void home_set_unsteady(home *h, core_state *state, bool unsteady);

/* Get the home that a party's host is part of, or NULL. */
static inline home *
home_of_host(wait_host *host)
{
    return (home *)host;
}

/* What an interpreter has of the room. */
typedef struct home_data {
    PyTypeObject *home_type;
    PyObject *interpreter_class; /* atoll.Interpreter, set by the package */
    home *self; /* counted: the interpreter's own; NULL: atoll has not made it */
    PyObject *handlers[2]; /* of SIGINT, SIGTERM, as signal.signal was told; or NULL */
    PyObject *anchor; /* a capsule for what is bound to the state and may outlive it;
                         its context is set when the state ends */
    PyObject *frame_code; /* what calls what has no frame of its own (home/job.c) */
    PyObject *request;    /* its function and arguments; borrowed */
} home_data;

extern const core_room home_room;

/* What one waits for; the object is a home: what runs there now, its beginning. */
extern const wait_type wait_home_job, wait_home_start;

/* ------------------------------------------------------------- the employer */

/* Whoever gives a home its jobs. Embedded in a pool. */
typedef struct home_employer {
    const struct home_employer_ops *ops; /* constant */
    int nice;                            /* constant: of the threads of its homes */
    bool watched; /* constant: deadlocks of its tasks are found */
} home_employer;

/* What a home asks of it, in the home's own thread. */
typedef struct home_employer_ops {
    /* Count another reference; give one back. */
    void (*ref)(home_employer *employer);
    void (*unref)(home_employer *employer);
    /* The interpreter is ready: return its first job, now its current one, or NULL. */
    job *(*hello)(home *h);
    /* `j` has ended (its outcome is `status`, its last piece of output `printed`):
     * return the next job, now the current one, or NULL; then the home is idle. */
    job *(*next)(home *h, job *j, job_status status, uint64_t printed);
    /* It has ended, or never begun. */
    void (*ended)(home *h);
} home_employer_ops;

/* ----------------------------------------------- what runs inside (home/job.c) */

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

/* -------------------------------------------------------- plans (home/make.c) */

/* How to make an interpreter. */
typedef struct home_plan {
    atoll_msg setup;       /* owned: see make_setup in atoll/_plan.py */
    follow_record *follow; /* of who planned it; counted, or NULL */
    char *key;             /* owned: the same for plans that come to the same */
    size_t key_size;
    bool isolated;  /* its extension modules are private copies */
    uint32_t deaf;  /* bits of the surroundings that it does not follow */
    unsigned depth; /* interpreters that have started one another, with this one */
} home_plan;

/* Make one of the tuple (setup, key) that Python has. -1 with an exception. */
int plan_parse(core_state *state, PyObject *setup, bool isolated, home_plan *plan);

/* May the calling thread start interpreters as planned, or give a pool of such a task?
 * Not on behalf of what an interpreter of atoll's imports or decodes: it would be done
 * again in each interpreter that is started. -1 with RuntimeError. */
int plan_check(core_state *state, const home_plan *plan);

/* Copy one. NOMEM, or as xfer_clone. */
atoll_err plan_clone(const home_plan *plan, home_plan *copy);

/* Free what it owns. */
void plan_drop(home_plan *plan);

/* --------------------------------------------------------- life (home/home.c) */

/* Start a thread with a new interpreter; do not wait for it. The home has copies
 * of what it needs. The caller gets a reference and a handle. Returns NOMEM,
 * SYSTEM, or CLOSED at process exit. */
atoll_err home_new(const char *name, const home_plan *plan, home **out);

/* Start one that works for `employer`, in `place`. The reference and the handle are the
 * place's. As home_new. */
atoll_err home_new_employed(const char *name, const home_plan *plan,
                            home_employer *employer, void *place);

/* Start one that nobody can see yet. As home_new. */
atoll_err home_new_spare(const home_plan *plan, home **out);

/* Give a spare a name and let it be seen, if it is idle. CLOSED if it is not; NOMEM. */
atoll_err home_unspare(home *h, const char *name);

/* The same, and let it work for `employer` in `place`, taking a reference to it, with
 * `first` (NULL: none) as its first job: all at one moment, before anybody else can
 * have it do something. With the employer's lock held. `name` is swapped with the old
 * one. */
atoll_err home_employ_spare(home *h, char **name, home_employer *employer, void *place,
                            job *first);

/* Count a reference; give one back. Any thread. */
void home_ref(home *h);

/* Give a reference back; the last one frees the memory. Any thread. */
void home_unref(home *h);

/* Count a handle; give one back. They are counted apart from references; a new one
 * needs an old one. Any thread. */
void home_handle_ref(home *h);

/* Give a handle back; with the last one it closes as soon as it is idle. Any thread. */
void home_handle_unref(home *h);

/* Look at its state. */
home_state home_state_now(home *h);

/* Is it gone, for all that anybody can see? */
static inline bool
has_ended(home *h)
{
    return home_state_now(h) >= HOME_LINGERING;
}

/* Hand a job over; the home takes a reference of its own. OK; AGAIN when it is
 * running; CLOSED when it is closing or gone; NOMEM. */
atoll_err home_submit(home *h, job *j);

/* Put `j` into an idle home. With its lock held. OK, NOMEM. */
atoll_err home_submit_locked(home *h, job *j);

/* Note that it has just been made, or its last job has ended, and no other follows. For
 * employers, whose lock may be held, as for the next three. */
void home_becomes_idle(home *h);

/* Give a handle back; it closes as soon as it is idle, whoever else has one. */
void home_dismiss(home *h);

/* Does the process end? */
bool home_is_exiting(home *h);

/* Look at who gives it its jobs: borrowed; NULL: nobody yet. */
home_employer *home_employer_of(home *h);

/* Note that it has been told to stop and has not. */
void home_is_hopeless(home *h);

/* Let the caller of what it runs go: settles the job as GONE. Not of tasks. */
void home_forsake(home *h);

/* -------------------------------------------------------- its close (home/close.c) */

/* Begin to wait for its close: begins it, or joins one that is under way; if a job
 * runs, it is begun when that is over, before any other, provided `patient`. OK: the
 * caller gets the job to wait for, with a reference, and calls home_close_over
 * afterwards. AGAIN: a job runs. TIMEOUT: it has been left to itself, and the caller is
 * not `patient`. CLOSED: it is gone. NOMEM. */
atoll_err home_close(home *h, bool patient, job **out);

/* End that wait. A close that has not begun, and that nobody waits for any more, is not
 * begun. Returns whether it had. */
bool home_close_over(home *h);

/* Is a close due when the job of now is over? An employer has no further one then. */
bool home_close_is_due(home *h);

/* Begin that close, in an idle home. With its lock held. */
void home_close_next_locked(home *h);

/* Give its close, which nobody waits for, its limit from now. With its lock held. */
void home_watch_close(home *h);

/* End that: it has ended. */
void home_unwatch_close(home *h);

/* Leave it to itself, if it is closing and no caller of close() waits for it, or the
 * process exits. Returns whether it is left now. It is said, but for what has only
 * daemon threads left when the process exits; if it is `late`, in any case. Any thread,
 * without a GIL or with. */
bool home_leave(home *h, bool late);

/* Is it left to itself, and has not ended? */
bool home_remains(home *h);

/* Say, where main's errors go, that it is left to itself, and why. Any thread. */
void home_say_left(home *h);

/* Copy what keeps it from ending: the caller frees it. NULL without memory. */
char *home_in_way(home *h);

/* Return the time by which a close that begins now is to be over: the one limit of all
 * of them, or ATOLL_FOREVER. */
int64_t home_close_limit(void);

/* Read that limit from the environment. -1 with an exception. */
int close_read_limit(void);

/* Run a close in the home's thread, attached; fills *out. Returns true if the
 * interpreter is to end now. */
bool close_run(home *h, core_state *state, outcome *out);

/* Let go of what the globals of __main__ refer to, and of what is garbage. In the
 * home's thread, attached, after close_run. */
void close_clear_main(void);

/* -------------------------------------------------------- the table (home/table.c) */

/* Find the home of interpreter `id`, with a reference and a handle, or NULL. With
 * `any` also one that is being made, closed, or a spare. */
home *home_find(int64_t id, bool any);

/* Copy its name, shortened to `size`; "" if it has none, or is a spare. Its lock must
 * not be held. */
void home_read_name(home *h, char *text, size_t size);

/* Copy the name of the home of interpreter `id`, shortened to `size`; "" if it has
 * none. */
void home_copy_name(int64_t id, char *text, size_t size);

/* Enter the table, unless the process is ending. */
bool homes_add(home *h);

/* Leave it again, never having begun. */
void homes_remove(home *h);

/* Leave it at the end: the thread is to be joined by whoever comes next. */
void homes_retire(home *h);

/* Tell the id. */
void homes_set_id(home *h, int64_t id);

/* Let nobody in any more. Returns all homes, each with a reference: an array that the
 * caller frees, with a NULL at its end; NULL when out of memory. */
home **homes_close(void);

/* Join the threads of homes that have ended. Without a GIL. */
void home_reap(void);

/* ------------------------------------------------------ spares (home/spare.c) */

/* Take one that is ready: its reference and its handle are the caller's, who lets it be
 * seen (home_unspare, home_employ_spare); until then nobody else has it. NULL if there
 * is none. Any thread. */
home *spare_take(const home_plan *plan);

/* Expect that such interpreters are needed: have spares of this kind soon. Keeps a copy
 * of `plan`. Any thread; never fails, at worst there are none. */
void spare_expect(const home_plan *plan);

/* Close all, and make no more: the process exits. */
void spare_end(void);

/* Forget the spares, which are the parent's. */
void spare_fork_child(void);

/* ------------------------------------------------ interrupts (home/interrupt.c) */

/* Ask job `j` (NULL: any) to end with KeyboardInterrupt. False if it does not
 * run. Must be called without a GIL; does not wait for one. `unwanted`: its
 * caller has given up, so the error need not be described. */
bool home_interrupt(home *h, const job *j, bool unwanted);

/* Find the home whose own thread is the calling one, or NULL. */
home *home_of_thread(const core_state *state);

/* Set up how the waits of the home's thread are interrupted. */
void home_init_host(home *h);

/* Let the calling thread, which is the home's, find what is due at its next look. */
void home_look_soon(home *h);

/* Come back to an event loop of asyncio's that has been told of the interrupt: it is
 * interrupted once more if it has not gone on by then. In the home's thread. */
void home_insist(home *h);

/* Raise the interrupt again that has come where its exception is lost. Called in the
 * home's thread. */
void home_interrupt_again(home *h);

/* Begin the job's code: from here on it can be interrupted. What comes before
 * that (modules are imported when functions arrive) is left in peace, since an
 * import that is broken off leaves half of it behind. False, with
 * KeyboardInterrupt, if an interrupt has come already. */
bool home_begin_code(home *h);

/* Leave it in peace again, until the next home_begin_code. */
void home_pause_code(home *h);

/* End the user's code of this job: no interrupt from here on. Returns whether anybody
 * still wants the reply. */
bool home_job_over(home *h);

/* Add an event loop of the calling home thread's. */
void home_add_loop(home *h, home_loop *loop);

/* Take it out. */
void home_remove_loop(home *h, home_loop *loop);

/* Where the calling thread's code is (home/place.c). */
typedef enum interrupt_place {
    PLACE_FREE,      /* KeyboardInterrupt may come */
    PLACE_DELICATE,  /* it would break more than the task, here */
    PLACE_DOOR,      /* so it would if it raises something */
    PLACE_THRESHOLD, /* likewise, and the next place is another */
    PLACE_LOOP,      /* in an event loop that waits: cancel its task */
} interrupt_place;

/* Find out. Called attached, with no exception set. */
interrupt_place interrupt_find_place(void);

/* Describe the import of a module that the calling thread is in, the innermost one; or
 * that had the thread started, and maybe is over: then *in_thread. A new reference, a
 * str; NULL if there is none, or with an exception. Called with none set. */
PyObject *place_find_import(bool *in_thread);

/* Describe where the calling thread's code is: a new reference, a str; NULL with an
 * exception. */
PyObject *place_describe(void);

/* Have the functions of the module _thread remember, in the threads that they start,
 * the import that has started them. Before threading is imported. -1 with an exception.
 */
int place_mend_threads(PyObject *thread);

/* ----------------------------------------- what is SIGINT there (home/signal.c) */

/* Let the module signal mean the interpreter's interrupts where no signal arrives, at
 * boot. -1 with an exception. */
int home_mend_signal(core_state *state);

/* Do what an interrupt is to do here: -1 with an exception, of which the handler may be
 * the author, or 0: the code goes on. In the home's thread, attached. */
int signal_deliver(home *h);

/* Write to the descriptor that signal.set_wakeup_fd was told. With the home's lock. */
void signal_write_locked(const home *h, int number);

/* Wake the event loop that runs in the home, if it is of asyncio's kind: a visitor does
 * it, once the home has let go of its GIL. Does not wait. */
void signal_wake_loop(home *h);

/* ------------------------------------------------------- in Python (home/object.c) */

/* Make the atoll._core.Home of `h`: takes a reference and a handle of its own.
 * NULL with MemoryError. */
PyObject *home_object(core_state *state, home *h);

/* Get the home of an atoll._core.Home, borrowed. NULL with TypeError. */
home *home_of_object(core_state *state, PyObject *obj);

/* Raise InterpreterNotFoundError. Returns NULL. */
PyObject *home_raise_gone(core_state *state, const home *h);

/* Make the type. 0, or -1 with an exception. */
int home_add_type(core_state *state);

/* Tell the wire about interpreters. */
void home_start_handles(void);

/* Tell the core which class stands for interpreters here. 0, or -1 with an exception.
 */
int home_set_class(core_state *state, PyObject *cls);

/* The functions about making and finding interpreters (home/make.c). */
extern PyMethodDef home_functions[];

/* ----------------------------------------------------- the process (home/exit.c) */

/* Close all, interrupting what runs; called by main's atexit, with the GIL.
 * What cannot be stopped within the grace is unlinked from the runtime. Returns
 * -1 with an exception if a signal handler raised. */
int home_shutdown_all(core_state *state);

/* Have home_shutdown_all be quick: the user has interrupted the end of the program.
 * With main's GIL. */
void home_hurry(void);

/* Ask it to end. Returns whether it was running something. Callers that are
 * left in the main interpreter are daemon threads: they stay blocked, as daemon
 * threads do, rather than print an error of our making. Callers elsewhere get
 * their error, since their interpreters are still to end in good order. */
bool home_ask_to_end(home *h);

/* Hold the table still, for a fork. */
void home_fork_prepare(void);

/* Let go of it. */
void home_fork_parent(void);

/* Treat all homes as ended, in the child. */
void home_fork_child(void);

/* ------------------ callers in interpreters that are not ours (home/callers.c) */

/* Begin to wait for a job; attached. */
void callers_enter(const core_state *state);

/* End that wait; attached. */
void callers_leave(const core_state *state);

/* Note which threads wait for a job now, at process exit, with no GIL held. */
void callers_note(void);

/* Wait until these have ended. Likewise. */
void callers_wait(int64_t deadline);

/* Forget the callers, which are not in the child. */
void callers_fork_child(void);

#endif
