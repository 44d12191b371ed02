/* The life of a home and its thread. See home/home.h; what runs inside is in
 * home/job.c, the end of the process in home/exit.c. */
#include "home/home.h"

#include <stdio.h>
#include <string.h>

#include "atoll/sync.h"
#include "cpython/runtime.h"
#include "frozen/frozen.h"
#include "isolate/isolate.h"
#include "output/output.h"
#include "wait/visit.h"
#include "wire/wire.h"

/* As large as the main thread's by default: OpenBLAS and deep recursion crash
 * on less. It is address space, not memory. */
#define STACK_BYTES ((size_t)8 << 20)

static const atoll_wait forever = {.deadline = ATOLL_FOREVER};

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
    follow_unref(h->follow);
    if (h->employer != NULL) {
        h->employer->ops->unref(h->employer);
    }
    if (h->output != NULL) {
        output_source_unref(h->output);
    }
    atoll_chan_unref(h->inbox);
    if (h->mailbox != NULL) {
        mailbox_unref(h->mailbox);
    }
    atoll_free(h->start_error);
    atoll_free(h->in_way);
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

void
home_forsake(home *h)
{
    atoll_lock_acquire(&h->lock);
    job *j = h->state == HOME_RUNNING ? h->current : NULL;
    if (j != NULL && !j->task && !j->init) {
        job_ref(j);
        j->unwanted = true;
        h->hopeless = true;
    }
    else {
        j = NULL;
    }
    atoll_lock_release(&h->lock);
    if (j != NULL && job_settle(j, JOB_GONE, NULL, 0)) {
        job_announce(j);
    }
    if (j != NULL) {
        job_unref(j);
    }
}

atoll_err
home_submit_locked(home *h, job *j)
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
        err = home_submit_locked(h, j);
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
 * Without memory for the job it stays, and is dealt with at process exit. */
static bool
close_if_unused_locked(home *h)
{
    bool wanted = h->handles > 0 && !h->exiting && !h->dismissed;
    if (wanted || h->state != HOME_IDLE) {
        return false;
    }
    job *j = job_new(JOB_CLOSE, NULL);
    if (j == NULL) {
        return false;
    }
    bool closing = home_submit_locked(h, j) == ATOLL_OK;
    if (closing) {
        home_watch_close(h);
    }
    job_unref(j);
    return closing;
}

bool
home_ask_to_end(home *h)
{
    bool mute = false;
    atoll_lock_acquire(&h->lock);
    if (h->state == HOME_RUNNING && h->current->from_main) {
        mute = h->current->muted = true; /* before the interrupt ends it */
    }
    h->exiting = true; /* closes as soon as it is idle */
    close_if_unused_locked(h);
    atoll_lock_release(&h->lock);
    return home_interrupt(h, NULL, mute);
}

void
home_handle_ref(home *h)
{
    atoll_lock_acquire(&h->lock);
    h->handles++;
    atoll_lock_release(&h->lock);
}

static void
give_handle_back(home *h, bool dismiss)
{
    atoll_lock_acquire(&h->lock);
    h->handles--;
    h->dismissed |= dismiss;
    bool closing = close_if_unused_locked(h);
    int64_t id = closing ? h->id : -1; /* only then is it known to have one */
    atoll_lock_release(&h->lock);
    if (closing) {
        /* It will end in its own time; its messages are orphans from now. */
        atoll_chan_orphan_all(id);
    }
}

void
home_handle_unref(home *h)
{
    give_handle_back(h, false);
}

void
home_dismiss(home *h)
{
    give_handle_back(h, true);
}

/* --------------------------------------------------------------- the thread */

/* Keep the current exception as text; clears it. */
static char *
exception_text(void)
{
    PyObject *exc = PyErr_GetRaisedException();
    PyObject *text =
        exc == NULL ? NULL : PyUnicode_FromFormat("%s: %S", Py_TYPE(exc)->tp_name, exc);
    const char *utf8 = text == NULL ? NULL : PyUnicode_AsUTF8(text);
    char *copy = core_copy_text(utf8 != NULL ? utf8 : "unknown error");
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
        h->start_error = core_copy_text("not enough memory");
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
    bool beside_main;
    const char *reason = tracing_forbids(&beside_main);
    if (reason != NULL) {
        h->start_error = core_copy_text(reason);
        return NULL;
    }
    PyGILState_STATE before = beside_main ? PyGILState_Ensure() : PyGILState_LOCKED;
    PyThreadState *ts = NULL, *main_ts = PyThreadState_GetUnchecked();
    PyStatus status = Py_NewInterpreterFromConfig(&ts, &config);
    if (PyStatus_Exception(status)) {
        h->start_error =
            core_copy_text(status.err_msg != NULL ? status.err_msg : "no reason");
        ts = NULL;
    }
    runtime_order_list();
    if (beside_main) {
        if (ts != NULL) {
            (void)PyThreadState_Swap(main_ts);
        }
        PyGILState_Release(before); /* it was made for this */
        if (ts != NULL) {
            PyEval_RestoreThread(ts);
        }
    }
    return ts;
}

static void
becomes_idle_locked(home *h)
{
    h->current = NULL;
    h->state = HOME_IDLE;
    if (h->close_next != NULL) {
        home_close_next_locked(h);
    }
    else {
        close_if_unused_locked(h);
    }
}

void
home_becomes_idle(home *h)
{
    atoll_lock_acquire(&h->lock);
    becomes_idle_locked(h);
    atoll_lock_release(&h->lock);
}

bool
home_is_exiting(home *h)
{
    atoll_lock_acquire(&h->lock);
    bool exiting = h->exiting;
    atoll_lock_release(&h->lock);
    return exiting;
}

home_employer *
home_employer_of(home *h)
{
    atoll_lock_acquire(&h->lock);
    home_employer *employer = h->employer;
    atoll_lock_release(&h->lock);
    return employer;
}

void
home_is_hopeless(home *h)
{
    atoll_lock_acquire(&h->lock);
    h->hopeless = true;
    atoll_lock_release(&h->lock);
}

/* `j` has ended: the next one of the employer's, or none. */
static job *
next_job(home *h, job *j, job_status status, uint64_t printed)
{
    atoll_lock_acquire(&h->lock);
    home_employer *employer = h->employer;
    if (employer == NULL) {
        becomes_idle_locked(h);
    }
    atoll_lock_release(&h->lock);
    return employer == NULL ? NULL : employer->ops->next(h, j, status, printed);
}

/* Wait for a job; attached on entry and return. */
static job *
home_receive(home *h, PyThreadState *ts)
{
    atoll_msg msg;
    atoll_err err;
    PyEval_SaveThread();
    do { /* it succeeds: nobody closes an inbox */
        err = atoll_chan_recv(h->inbox, &msg, &forever);
    } while (err != ATOLL_OK);
    PyEval_RestoreThread(ts);
    return msg.u.heap.ptr;
}

/* Serve jobs, beginning with `j` (NULL: wait for one), until one of them is the
 * end; returns it (counted). */
static job *
home_serve(home *h, core_state *state, PyThreadState *ts, job *j)
{
    for (;;) {
        if (j == NULL) {
            j = home_receive(h, ts);
        }
        home_employer *employer = home_employer_of(h);
        if (employer != NULL && h->nice != employer->nice) {
            h->nice = employer->nice;
            atoll_thread_nice(h->nice);
        }
        outcome out;
        bool last = job_run(h, state, j, &out);
        uint64_t printed = last ? 0 : sink_job_over(state);
        if (!job_settle(j, out.status, &out.reply, printed)) {
            atoll_msg_drop(&out.reply);
        }
        if (last) {
            return j;
        }
        job *next = next_job(h, j, out.status, printed);
        atoll_lock_acquire(&h->lock);
        bool muted = j->muted;
        atoll_lock_release(&h->lock);
        if (!muted) {
            job_announce(j);
        }
        if (j->task) {
            job_mourn(state, j);
            atoll_event_set(&j->over);
        }
        job_unref(j);
        j = next;
    }
}

/* It is gone, as far as its employer is concerned. */
static void
leave_employer(home *h)
{
    home_employer *employer = home_employer_of(h);
    if (employer != NULL) {
        employer->ops->ended(h);
    }
}

/* It is closed, as far as anybody can see. But there are views of its memory
 * elsewhere, so it is not ended before the last of them is gone; or never, if it
 * must not end before the process does. */
static void
home_linger(home *h, core_state *state, job *last)
{
    atoll_lock_acquire(&h->lock);
    h->state = HOME_LINGERING;
    h->current = NULL;
    bool exiting = h->exiting;
    atoll_lock_release(&h->lock);
    atoll_chan_orphan_all(h->id);
    atoll_sync_orphan_all(h->id);
    leave_employer(h);
    job_announce(last);
    job_unref(last);
    if (exiting) {
        atoll_event_set(&h->ended); /* main need not wait */
    }
    if (h->isolate != NULL) {
        (void)isolate_silence(h->isolate); /* whose code stays, for now */
    }
    home_set_unsteady(h, state, false);
    mailbox_linger(state->wait->mailbox);
    if (isolate_is_endless(state)) {
        PyEval_SaveThread();
        atoll_thread_halt();
    }
}

void
home_set_unsteady(home *h, core_state *state, bool unsteady)
{
    if (unsteady && !h->unsteady) {
        unsteady_begin();
        if (state != NULL && state->wait->party != NULL) {
            visit_close(state); /* who holds no more is about to leave */
        }
    }
    else if (!unsteady && h->unsteady) {
        unsteady_end();
    }
    h->unsteady = unsteady;
}

/* The end of the interpreter, attached to it on entry, to none on return. */
static void
end_interpreter(home *h, core_state *state, PyThreadState *ts)
{
    home_set_unsteady(h, state, true);
    atoll_lock_acquire(&h->lock);
    h->interp = NULL; /* no pending call of ours from here on */
    h->ending = !h->abandoned;
    bool abandoned = h->abandoned;
    atoll_lock_release(&h->lock);
    if (abandoned) {
        /* Main has taken us out of CPython's list and is leaving: ending now
         * would be fatal, and anything else we do is too late. */
        home_set_unsteady(h, state, false);
        PyEval_SaveThread();
        atoll_thread_halt();
    }
    Py_EndInterpreter(ts);
    home_set_unsteady(h, NULL, false);
    atoll_lock_acquire(&h->lock);
    h->listed = NULL;
    atoll_lock_release(&h->lock);
}

static void
home_finish(home *h, job *last)
{
    waits_party_gone(&h->host);
    isolate_end(h->isolate); /* first: destructors may look at objects */
    h->isolate = NULL;
    if (h->id >= 0) {
        arena_release_all(h->id);
        frozen_unpin_all(h->id); /* until here its last objects used them */
        atoll_chan_orphan_all(h->id);
        atoll_sync_orphan_all(h->id);
    }
    atoll_lock_acquire(&h->lock);
    h->state = HOME_ENDED;
    h->current = NULL;
    atoll_lock_release(&h->lock);
    home_unwatch_close(h);
    leave_employer(h);
    home_ref(h); /* the table's goes to the zombies, who may be reaped */
    homes_retire(h);
    if (last != NULL) {
        last->printed = h->output->printed; /* to the last word: it has ended */
        job_announce(last);
        job_unref(last);
    }
    atoll_event_set(&h->ended);
    atoll_event_set(&h->gone);
    home_unref(h);
}

/* For ps, top and gdb. */
static void
home_name_thread(home *h)
{
    char name[32];
    snprintf(name, sizeof(name), "atoll-%lld", (long long)h->id);
    atoll_thread_name(h->host.thread, h->name[0] != '\0' ? h->name : name);
}

static void *
home_main(void *arg)
{
    home *h = arg;
    h->host.thread = atoll_thread_self();
    home_set_unsteady(h, NULL, true);
    PyThreadState *ts = new_interpreter(h);
    atoll_lock_acquire(&h->lock);
    h->listed = ts == NULL ? NULL : PyThreadState_GetInterpreter(ts);
    atoll_lock_release(&h->lock);
    atoll_event_set(&h->created);
    if (ts == NULL) {
        home_set_unsteady(h, NULL, false);
        home_finish(h, NULL);
        atoll_event_set(&h->started);
        home_unref(h);
        return NULL;
    }
    h->ident = PyThread_get_thread_ident();
    homes_set_id(h, PyInterpreterState_GetID(PyInterpreterState_Get()));
    home_name_thread(h);
    core_state *state = job_boot(h);
    if (state == NULL) {
        h->start_error = exception_text();
        end_interpreter(h, NULL, ts);
        home_finish(h, NULL);
        atoll_event_set(&h->started);
        home_unref(h);
        return NULL;
    }
    home_set_unsteady(h, state, false);
    atoll_lock_acquire(&h->lock);
    h->interp = PyInterpreterState_Get();
    h->mailbox = mailbox_ref(state->wait->mailbox);
    home_employer *employer = h->employer;
    if (employer == NULL) {
        h->state = HOME_IDLE;
        close_if_unused_locked(h); /* its creator may have given up */
    }
    atoll_lock_release(&h->lock);
    job *first = employer == NULL ? NULL : employer->ops->hello(h);
    atoll_event_set(&h->started);

    job *last = home_serve(h, state, ts, first);
    if (mailbox_close(state->wait->mailbox) > 0) {
        close_clear_main(); /* it may be in a queue that only this interpreter has */
    }
    if (mailbox_close(state->wait->mailbox) > 0 || isolate_is_endless(state)) {
        home_linger(h, state, last);
        last = NULL;
    }
    end_interpreter(h, state, ts);
    home_finish(h, last);
    home_unref(h);
    return NULL;
}

static void
free_new(home *h)
{
    if (h->inbox != NULL) {
        atoll_chan_unref(h->inbox);
    }
    atoll_msg_drop(&h->setup);
    follow_unref(h->follow);
    atoll_free(h->name);
    atoll_free(h);
}

/* A home without a thread. */
static atoll_err
home_make(const char *name, const home_plan *plan, home **out)
{
    home *h = atoll_alloc(sizeof(*h));
    if (h == NULL) {
        return ATOLL_ERR_NOMEM;
    }
    memset(h, 0, sizeof(*h));
    home_init_host(h);
    h->id = -1;
    h->handles = 1;
    h->isolated = plan->isolated;
    h->depth = plan->depth;
    h->follow = follow_ref(plan->follow);
    h->deaf = plan->deaf;
    h->refs = 3; /* the caller's, the thread's, the table's */
    h->name = core_copy_text(name);
    atoll_err err =
        h->name == NULL ? ATOLL_ERR_NOMEM : xfer_clone(&plan->setup, &h->setup);
    if (err == ATOLL_OK) {
        err = atoll_chan_new(ATOLL_UNBOUNDED, 0, &h->inbox);
    }
    if (err != ATOLL_OK) {
        h->inbox = NULL;
        free_new(h);
        return err;
    }
    *out = h;
    return ATOLL_OK;
}

/* Begin its life; what fails leaves it as it was made. */
static atoll_err
home_begin_life(home *h)
{
    if (!homes_add(h)) {
        return ATOLL_ERR_CLOSED;
    }
    atoll_thread thread; /* it keeps it itself: at this moment it may have ended */
    atoll_err err = atoll_thread_start(STACK_BYTES, home_main, h, &thread);
    if (err != ATOLL_OK) {
        homes_remove(h);
    }
    return err;
}

static atoll_err
new_home(const char *name, const home_plan *plan, bool spare, home **out)
{
    home *h;
    home_reap();
    atoll_err err = home_make(name, plan, &h);
    if (err != ATOLL_OK) {
        return err;
    }
    h->spare = spare;
    err = home_begin_life(h);
    if (err != ATOLL_OK) {
        free_new(h);
        return err;
    }
    *out = h;
    return ATOLL_OK;
}

atoll_err
home_new(const char *name, const home_plan *plan, home **out)
{
    return new_home(name, plan, false, out);
}

atoll_err
home_new_spare(const home_plan *plan, home **out)
{
    return new_home("", plan, true, out);
}

/* Let an idle spare be seen, under `*name`, which is swapped with its old one. Called
 * with the lock held. */
static void
show_locked(home *h, char **name)
{
    char *old = h->name;
    h->name = *name;
    *name = old;
    h->spare = false;
    if (h->name[0] != '\0') {
        atoll_thread_name(h->host.thread, h->name);
    }
}

atoll_err
home_unspare(home *h, const char *name)
{
    char *copy = core_copy_text(name);
    if (copy == NULL) {
        return ATOLL_ERR_NOMEM;
    }
    atoll_lock_acquire(&h->lock);
    bool idle = h->state == HOME_IDLE;
    if (idle) {
        show_locked(h, &copy);
    }
    atoll_lock_release(&h->lock);
    atoll_free(copy);
    return idle ? ATOLL_OK : ATOLL_ERR_CLOSED;
}

/* From now on it works for `employer`. */
static void
home_join_employer(home *h, home_employer *employer, void *place)
{
    employer->ops->ref(employer);
    h->place = place;
    h->counted = true;
    h->employer = employer;
}

atoll_err
home_employ_spare(home *h, char **name, home_employer *employer, void *place,
                  job *first)
{
    atoll_err err = ATOLL_ERR_CLOSED;
    atoll_lock_acquire(&h->lock);
    if (h->state == HOME_IDLE) {
        err = first == NULL ? ATOLL_OK : home_submit_locked(h, first);
    }
    if (err == ATOLL_OK) {
        home_join_employer(h, employer, place);
        show_locked(h, name);
    }
    atoll_lock_release(&h->lock);
    return err;
}

atoll_err
home_new_employed(const char *name, const home_plan *plan, home_employer *employer,
                  void *place)
{
    home *h;
    home_reap();
    atoll_err err = home_make(name, plan, &h);
    if (err != ATOLL_OK) {
        return err;
    }
    home_join_employer(h, employer, place);
    err = home_begin_life(h);
    if (err != ATOLL_OK) {
        employer->ops->unref(employer);
        free_new(h);
    }
    return err;
}
