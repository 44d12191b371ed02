/* The life of a home: its thread, the table of all, the end of the process.
 * See home.h; what runs inside is in job.c. */
#include "home.h"
#include "isolate.h"
#include "mailbox.h"

#include <string.h>

#include "detach.h"
#include "output.h"

/* As large as the main thread's by default: OpenBLAS and deep recursion crash
 * on less. It is address space, not memory. */
#define STACK_BYTES ((size_t)8 << 20)

/* How long what still runs at process exit gets to obey its interrupt. */
#define EXIT_GRACE_NS INT64_C(1000000000)

static const atoll_wait forever = {.deadline = ATOLL_FOREVER};

/* ---------------------------------------------------------------- the table */

static atoll_lock table_lock;
static home *table;        /* guarded by table_lock: all that have not ended */
static home *zombies;      /* guarded by table_lock: ended, to be joined */
static bool shutting_down; /* guarded by table_lock */

static void
table_remove(home *h)
{
    atoll_lock_acquire(&table_lock);
    home **link = &table;
    while (*link != NULL && *link != h) {
        link = &(*link)->next;
    }
    if (*link == h) {
        *link = h->next;
        h->next = zombies;
        zombies = h; /* the table's reference goes with it */
    }
    atoll_lock_release(&table_lock);
}

void
home_reap(void)
{
    atoll_lock_acquire(&table_lock);
    home *list = zombies;
    zombies = NULL;
    atoll_lock_release(&table_lock);
    while (list != NULL) {
        home *next = list->next;
        atoll_thread_join(list->thread); /* it is on its last lines */
        home_unref(list);
        list = next;
    }
}

home *
home_find(int64_t id, bool any)
{
    atoll_lock_acquire(&table_lock);
    home *h = table;
    while (h != NULL && h->id != id) {
        h = h->next;
    }
    if (h != NULL) {
        atoll_lock_acquire(&h->lock);
        bool usable = h->state == HOME_IDLE || h->state == HOME_RUNNING ||
                      (any && h->state != HOME_ENDED);
        if (usable) {
            h->handles++;
            home_ref(h);
        }
        atoll_lock_release(&h->lock);
        h = usable ? h : NULL;
    }
    atoll_lock_release(&table_lock);
    return h;
}

/* ---------------------------------------------------------- counting, state */

void
home_ref(home *h)
{
    atoll_count_up(&h->refs);
}

void
home_unref(home *h)
{
    if (!atoll_count_down(&h->refs)) {
        return;
    }
    atoll_msg_drop(&h->setup);
    atoll_chan_unref(h->inbox);
    if (h->mailbox != NULL) {
        mailbox_unref(h->mailbox);
    }
    atoll_free(h->start_error);
    atoll_free(h->name);
    atoll_free(h);
}

home_state
home_state_now(home *h)
{
    atoll_lock_acquire(&h->lock);
    home_state state = h->state;
    atoll_lock_release(&h->lock);
    return state;
}

job *
home_current(home *h)
{
    atoll_lock_acquire(&h->lock);
    job *j = h->current;
    if (j != NULL) {
        job_ref(j);
    }
    atoll_lock_release(&h->lock);
    return j;
}

/* Put `j` into an idle home. Called with the lock held. */
static atoll_err
submit_locked(home *h, job *j)
{
    atoll_msg msg = {.group = -1, .u.heap.ptr = j};
    atoll_wait now = {.deadline = ATOLL_NOW};
    atoll_err err = atoll_chan_send(h->inbox, &msg, &now);
    if (err != ATOLL_OK) {
        return err;
    }
    job_ref(j); /* for `current`, and so for the inbox */
    h->current = j;
    h->job_over = false;
    h->state = j->op == JOB_CLOSE ? HOME_CLOSING : HOME_RUNNING;
    return ATOLL_OK;
}

atoll_err
home_submit(home *h, job *j)
{
    atoll_err err;
    atoll_lock_acquire(&h->lock);
    switch (h->state) {
    case HOME_IDLE:
        err = submit_locked(h, j);
        break;
    case HOME_RUNNING:
        err = ATOLL_ERR_AGAIN;
        break;
    default:
        err = ATOLL_ERR_CLOSED;
        break;
    }
    atoll_lock_release(&h->lock);
    return err;
}

/* Close it if nobody has a handle and it is idle. Called with the lock held.
 * Without memory for the job it stays, and so does one that has refused, since
 * there is nobody to see it do so again; both are dealt with at process exit. */
static bool
close_if_unused_locked(home *h)
{
    if ((h->handles > 0 && !h->exiting) || h->state != HOME_IDLE ||
        h->refused) {
        return false;
    }
    job *j = job_new(JOB_CLOSE, NULL);
    if (j == NULL) {
        return false;
    }
    bool closing = submit_locked(h, j) == ATOLL_OK;
    job_unref(j);
    return closing;
}

void
home_handle_ref(home *h)
{
    atoll_lock_acquire(&h->lock);
    h->handles++;
    atoll_lock_release(&h->lock);
}

void
home_handle_unref(home *h)
{
    atoll_lock_acquire(&h->lock);
    h->handles--;
    bool closing = close_if_unused_locked(h);
    int64_t id = h->id;
    atoll_lock_release(&h->lock);
    if (closing) {
        /* It will end in its own time; its messages are orphans from now. */
        atoll_chan_orphan_all(id);
    }
}

/* --------------------------------------------------------------- the thread */

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

/* Keep the current exception as text; clears it. */
static char *
exception_text(void)
{
    PyObject *exc = PyErr_GetRaisedException();
    PyObject *text = exc == NULL ? NULL
                                 : PyUnicode_FromFormat(
                                       "%s: %S", Py_TYPE(exc)->tp_name, exc);
    const char *utf8 = text == NULL ? NULL : PyUnicode_AsUTF8(text);
    char *copy = copy_text(utf8 != NULL ? utf8 : "unknown error");
    Py_XDECREF(text);
    Py_XDECREF(exc);
    PyErr_Clear();
    return copy;
}

/* What must be free for a new interpreter: four times what its creation needs,
 * since others allocate at the same time. */
#define ROOM ((size_t)12 << 20)

static PyThreadState *
new_interpreter(home *h)
{
    /* CPython's creation of interpreters does not survive a failed allocation
     * (3.15 reports it with types that it has not made yet), so ask first. */
    if (!atoll_mem_room(ROOM)) {
        h->start_error = copy_text("not enough memory");
        return NULL;
    }
    PyInterpreterConfig config = {
        .use_main_obmalloc = 0,
        .allow_fork = 0,
        .allow_exec = 0,
        .allow_threads = 1,
        /* Packages have them (pyzmq, grpc) that end at exit. */
        .allow_daemon_threads = h->isolated,
        .check_multi_interp_extensions = 1,
        .gil = PyInterpreterConfig_OWN_GIL,
    };
    PyThreadState *ts = NULL;
    PyStatus status = Py_NewInterpreterFromConfig(&ts, &config);
    if (PyStatus_Exception(status)) {
        h->start_error =
            copy_text(status.err_msg != NULL ? status.err_msg : "no reason");
        return NULL;
    }
    return ts;
}

/* Serve jobs until one of them is the end; returns it (counted). */
static job *
serve(home *h, core_state *state, PyThreadState *ts)
{
    for (;;) {
        atoll_msg msg;
        PyEval_SaveThread();
        atoll_err err = atoll_chan_recv(h->inbox, &msg, &forever);
        PyEval_RestoreThread(ts);
        if (err != ATOLL_OK) {
            continue; /* cannot be: nobody closes an inbox */
        }
        job *j = msg.u.heap.ptr;
        atoll_lock_acquire(&h->lock);
        h->interruptible = j->op != JOB_CLOSE;
        atoll_lock_release(&h->lock);
        if (job_run(h, state, j)) {
            return j;
        }
        j->printed = sink_job_over(state, h);
        atoll_lock_acquire(&h->lock);
        h->current = NULL;
        h->state = HOME_IDLE;
        h->refused = j->op == JOB_CLOSE;
        bool muted = j->muted;
        bool stuck = h->refused && h->exiting;
        close_if_unused_locked(h);
        atoll_lock_release(&h->lock);
        if (!muted) {
            atoll_event_set(&j->done);
        }
        if (stuck) {
            atoll_event_set(&h->ended); /* main need not wait */
        }
        job_unref(j);
    }
}

/* It is closed, as far as anybody can see. But there are views of its memory
 * elsewhere, so it is not ended before the last of them is gone; or never, if it
 * must not end before the process does. */
static void
linger(home *h, core_state *state, job *last)
{
    atoll_lock_acquire(&h->lock);
    h->state = HOME_LINGERING;
    h->current = NULL;
    bool exiting = h->exiting;
    atoll_lock_release(&h->lock);
    atoll_chan_orphan_all(h->id);
    atoll_event_set(&last->done);
    job_unref(last);
    if (exiting) {
        atoll_event_set(&h->ended); /* main need not wait */
    }
    if (h->isolate != NULL) {
        (void)isolate_silence(h->isolate); /* whose code stays, for now */
    }
    mailbox_linger(state->mailbox);
    if (h->endless) {
        PyEval_SaveThread();
        atoll_thread_halt();
    }
}

/* The end of the interpreter, attached to it on entry, to none on return. */
static void
end_interpreter(home *h, PyThreadState *ts)
{
    atoll_lock_acquire(&h->lock);
    h->interp = NULL; /* no pending call of ours from here on */
    h->ending = !h->abandoned;
    bool abandoned = h->abandoned;
    atoll_lock_release(&h->lock);
    if (abandoned) {
        /* Main has taken us out of CPython's list and is leaving: ending now
         * would be fatal, and anything else we do is too late. */
        PyEval_SaveThread();
        atoll_thread_halt();
    }
    Py_EndInterpreter(ts);
}

static void
finish(home *h, job *last)
{
    isolate_end(h->isolate); /* first: destructors may look at objects */
    h->isolate = NULL;
    if (h->id >= 0) {
        arena_release_all(h->id);
        atoll_chan_orphan_all(h->id);
    }
    atoll_lock_acquire(&h->lock);
    h->state = HOME_ENDED;
    h->current = NULL;
    atoll_lock_release(&h->lock);
    home_ref(h); /* the table's goes to the zombies, who may be reaped */
    table_remove(h);
    if (last != NULL) {
        last->printed = h->printed; /* to the last word: it has ended */
        atoll_event_set(&last->done);
        job_unref(last);
    }
    atoll_event_set(&h->ended);
    atoll_event_set(&h->gone);
    home_unref(h);
}

static void *
home_main(void *arg)
{
    home *h = arg;
    h->thread = atoll_thread_self();
    PyThreadState *ts = new_interpreter(h);
    if (ts == NULL) {
        finish(h, NULL);
        atoll_event_set(&h->started);
        home_unref(h);
        return NULL;
    }
    h->ident = PyThread_get_thread_ident();
    atoll_lock_acquire(&table_lock);
    h->id = PyInterpreterState_GetID(PyInterpreterState_Get());
    atoll_lock_release(&table_lock);
    core_state *state = job_boot(h);
    if (state == NULL) {
        h->start_error = exception_text();
        end_interpreter(h, ts);
        finish(h, NULL);
        atoll_event_set(&h->started);
        home_unref(h);
        return NULL;
    }
    atoll_lock_acquire(&h->lock);
    h->interp = PyInterpreterState_Get();
    h->mailbox = mailbox_ref(state->mailbox);
    h->state = HOME_IDLE;
    close_if_unused_locked(h); /* its creator may have given up */
    atoll_lock_release(&h->lock);
    atoll_event_set(&h->started);

    job *last = serve(h, state, ts);
    if (mailbox_close(state->mailbox) > 0 || h->endless) {
        linger(h, state, last);
        last = NULL;
    }
    end_interpreter(h, ts);
    finish(h, last);
    home_unref(h);
    return NULL;
}

/* Enter the table, unless the process is leaving. */
static bool
table_add(home *h)
{
    atoll_lock_acquire(&table_lock);
    bool welcome = !shutting_down;
    if (welcome) {
        h->next = table;
        table = h;
    }
    atoll_lock_release(&table_lock);
    return welcome;
}

atoll_err
home_new(const char *name, bool isolated, const atoll_msg *setup, home **out)
{
    atoll_err err = ATOLL_ERR_NOMEM;
    home_reap();
    home *h = atoll_alloc(sizeof(*h));
    if (h == NULL) {
        return err;
    }
    memset(h, 0, sizeof(*h));
    h->id = -1;
    h->handles = 1;
    h->isolated = isolated;
    h->refs = 3; /* the caller's, the thread's, the table's */
    h->name = copy_text(name);
    if (h->name == NULL) {
        goto no_name;
    }
    err = atoll_chan_new(ATOLL_UNBOUNDED, 0, &h->inbox);
    if (err != ATOLL_OK) {
        goto no_inbox;
    }
    h->setup = *setup;
    if (!table_add(h)) {
        err = ATOLL_ERR_CLOSED;
        goto no_thread;
    }
    err = atoll_thread_start(STACK_BYTES, home_main, h, &h->thread);
    if (err != ATOLL_OK) {
        atoll_lock_acquire(&table_lock);
        home **link = &table;
        while (*link != h) {
            link = &(*link)->next;
        }
        *link = h->next;
        atoll_lock_release(&table_lock);
        goto no_thread;
    }
    *out = h;
    return ATOLL_OK;

no_thread:
    atoll_chan_unref(h->inbox);
no_inbox:
    atoll_free(h->name);
no_name:
    atoll_free(h);
    return err;
}

/* ---------------------------------------------------- the end of the process */

/* All homes, each with a reference, chained in a plain array; NULL-ended. */
static home **
all_homes(void)
{
    size_t count = 0, i = 0;
    atoll_lock_acquire(&table_lock);
    shutting_down = true;
    for (home *h = table; h != NULL; h = h->next) {
        count++;
    }
    home **homes = atoll_alloc((count + 1) * sizeof(*homes));
    if (homes != NULL) {
        for (home *h = table; h != NULL; h = h->next) {
            home_ref(h);
            homes[i++] = h;
        }
        homes[i] = NULL;
    }
    atoll_lock_release(&table_lock);
    return homes;
}

/* Ask it to end. Returns whether it was running something. Callers that are
 * left in the main interpreter are daemon threads: they stay blocked, as daemon
 * threads do, rather than print an error of our making. Callers elsewhere get
 * their error, since their interpreters are still to end in good order. */
static bool
ask_to_end(home *h)
{
    bool mute = false;
    atoll_lock_acquire(&h->lock);
    if (h->state == HOME_RUNNING && h->current->from_main) {
        mute = h->current->muted = true; /* before the interrupt ends it */
    }
    h->exiting = true;  /* closes as soon as it is idle */
    h->refused = false; /* one more try */
    close_if_unused_locked(h);
    atoll_lock_release(&h->lock);
    return home_interrupt(h, NULL, mute);
}

static atoll_err
wait_ended(void *arg, const atoll_wait *wait)
{
    return atoll_event_wait(&((home *)arg)->ended, wait);
}

/* Take it out of CPython's list. False if it is being ended at this moment, or
 * has been: then that is to be waited for. */
static bool
abandon(home *h)
{
    atoll_lock_acquire(&h->lock);
    bool can = !h->ending && h->state != HOME_ENDED;
    if (can) {
        h->abandoned = true;
        if (h->mailbox != NULL) {
            mailbox_kill(h->mailbox);
        }
        if (h->interp != NULL) {
            runtime_unlink(h->interp);
        }
    }
    atoll_lock_release(&h->lock);
    return can;
}

int
home_shutdown_all(core_state *state)
{
    home **homes = all_homes();
    if (homes == NULL) {
        PyErr_NoMemory();
        return -1;
    }
    int rc = 0;
    int64_t grace = ATOLL_FOREVER;
    Py_BEGIN_ALLOW_THREADS
    callers_note();
    for (home **h = homes; *h != NULL; h++) {
        if (ask_to_end(*h)) {
            grace = atoll_now() + EXIT_GRACE_NS;
        }
    }
    Py_END_ALLOW_THREADS
    for (home **h = homes; *h != NULL; h++) {
        /* Idle ones end by themselves, once their threads do; a busy one has
         * the grace. Ctrl-C ends the patience with all. */
        home_state now = home_state_now(*h);
        int64_t deadline = ATOLL_FOREVER;
        if (now == HOME_RUNNING) {
            deadline = grace;
        }
        else if (now == HOME_IDLE || now == HOME_LINGERING) {
            /* There was no memory to close it; or it ends with views that may
             * be our own. */
            deadline = ATOLL_NOW;
        }
        atoll_err err = ATOLL_ERR_TIMEOUT;
        if (rc == 0) {
            rc = detach_wait(state, wait_ended, *h, deadline, NULL, &err);
        }
        if (rc < 0 || err != ATOLL_OK || home_state_now(*h) != HOME_ENDED) {
            if (!abandon(*h)) {
                Py_BEGIN_ALLOW_THREADS
                err = atoll_event_wait(&(*h)->gone, &forever);
                Py_END_ALLOW_THREADS
            }
        }
        home_unref(*h);
    }
    Py_BEGIN_ALLOW_THREADS
    home_reap();
    if (rc == 0) {
        callers_wait(atoll_now() + EXIT_GRACE_NS);
    }
    Py_END_ALLOW_THREADS
    atoll_free(homes);
    return rc;
}

/* --------------------------------------------------------------------- fork */

void
home_fork_prepare(void)
{
    atoll_lock_acquire(&table_lock);
}

void
home_fork_parent(void)
{
    atoll_lock_release(&table_lock);
}

void
home_fork_child(void)
{
    /* None of the threads is here. Handles find their home ENDED; what the
     * interpreters owned is lost memory. */
    table_lock.word = 0;
    for (home *h = table; h != NULL; h = h->next) {
        h->lock.word = 0;
        h->kick = (atoll_kick){0};
        h->state = HOME_ENDED;
        h->interp = NULL;
        h->current = NULL;
    }
    table = NULL;
    zombies = NULL;
}
