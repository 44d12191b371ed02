/* The close of an interpreter: what it does before its end, and what becomes of one
 * that cannot end.
 *
 * An interpreter must not be ended while other threads use it: that is fatal on 3.13
 * and leaves them with freed memory later. So a close waits for its threads, runs its
 * exit handlers, and asks daemon threads to end. Where some are left after that, a
 * caller of close() is told which, and has its interpreter back. If there is no caller
 * (a pool's worker, an interpreter whose last handle is gone, the exit of the process),
 * there is nobody to have it back: then the interpreter is *left to itself*. It says
 * so, its pool and the exit of the process go on without it, and it ends by itself if
 * its threads do. The same happens when the close takes longer than home_close_limit(),
 * whatever it is that it waits for. */
#include "home/home.h"

#include <math.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "cpython/runtime.h"
#include "isolate/isolate.h"
#include "output/output.h"
#include "wait/visit.h"
#include "wire/wire.h"

#define NS_PER_S 1e9

/* How long a close may take that nobody waits for by himself; see ATOLL_CLOSE_LIMIT. */
#define LIMIT_S 5.0
/* How long threads that an extension has started get to come out of Python. */
#define LEAVE_NS INT64_C(1000000000)

static int64_t limit =
    (int64_t)(LIMIT_S * NS_PER_S); /* constant once there are homes */

int
close_read_limit(void)
{
    const char *text = getenv("ATOLL_CLOSE_LIMIT");
    if (text == NULL || *text == '\0') {
        return 0;
    }
    char *end;
    double seconds = strtod(text, &end);
    if (*end != '\0' || isnan(seconds) || seconds < 0) {
        return PyErr_WarnFormat(
            PyExc_RuntimeWarning, 1,
            "ATOLL_CLOSE_LIMIT is to be a number of seconds or inf, not '%s'; atoll "
            "takes 5",
            text);
    }
    limit = seconds > 1e9 ? ATOLL_FOREVER : (int64_t)(seconds * NS_PER_S);
    return 0;
}

int64_t
home_close_limit(void)
{
    return limit == ATOLL_FOREVER ? ATOLL_FOREVER : atoll_now() + limit;
}

/* ------------------------------------------------------------ leaving it to itself */

/* Note what keeps it from ending: takes over `text`, from atoll_alloc, or NULL. */
static void
close_note(home *h, char *text)
{
    atoll_lock_acquire(&h->lock);
    char *old = h->in_way;
    h->in_way = text;
    atoll_lock_release(&h->lock);
    atoll_free(old);
}

char *
home_in_way(home *h)
{
    atoll_lock_acquire(&h->lock);
    char *copy = core_copy_text(h->in_way != NULL && h->in_way[0] != '\0'
                                    ? h->in_way
                                    : "exit handlers or destructors");
    atoll_lock_release(&h->lock);
    return copy;
}

void
home_say_left(home *h)
{
    static const char format[] =
        "atoll: interpreter %lld '%s' could not be closed and is left to itself, with "
        "what still runs in it: %s\n";
    char *way = home_in_way(h);
    if (way == NULL || h->output == NULL) {
        atoll_free(way);
        return;
    }
    int length = snprintf(NULL, 0, format, (long long)h->id, h->name, way);
    piece *p = output_piece(OUTPUT_STDERR, false, (size_t)length + 1);
    if (p != NULL) {
        snprintf(p->data, (size_t)length + 1, format, (long long)h->id, h->name, way);
        p->size = (size_t)length;
        p->flush = true;
        output_send(h->output, p);
    }
    atoll_free(way);
}

bool
home_leave(home *h, bool late)
{
    atoll_lock_acquire(&h->lock);
    bool alone = h->closers == 0 || h->exiting;
    bool now = h->state == HOME_CLOSING && alone && !h->left;
    h->left |= now;
    bool left = h->left;
    bool say = late || !h->exiting; /* a process ends under its daemon threads */
    home_employer *employer = h->employer;
    atoll_lock_release(&h->lock);
    if (now) {
        if (say) {
            home_say_left(h);
        }
        if (employer != NULL) {
            employer->ops->ended(h);
        }
        atoll_event_set(&h->ended);
    }
    return left;
}

bool
home_remains(home *h)
{
    atoll_lock_acquire(&h->lock);
    bool remains = h->left && h->state != HOME_ENDED;
    atoll_lock_release(&h->lock);
    return remains;
}

static void
limit_fires(atoll_timer *timer)
{
    home *h = (home *)(void *)((char *)timer - offsetof(home, close_timer));
    atoll_lock_acquire(&h->lock);
    h->close_watched = false;
    atoll_lock_release(&h->lock);
    home_leave(h, true);
    home_unref(h);
}

void
home_watch_close(home *h)
{
    if (h->close_watched || limit == ATOLL_FOREVER) {
        return;
    }
    home_ref(h);
    h->close_timer.fire = limit_fires;
    /* Without a timer it has no limit but at the exit of the process. */
    h->close_watched =
        atoll_timer_start(&h->close_timer, home_close_limit()) == ATOLL_OK;
    if (!h->close_watched) {
        bool last = atoll_count_down(&h->refs);
        assert(!last);
        (void)last;
    }
}

void
home_unwatch_close(home *h)
{
    atoll_lock_acquire(&h->lock);
    bool watched = h->close_watched;
    h->close_watched = false;
    atoll_lock_release(&h->lock);
    if (watched && atoll_timer_stop(&h->close_timer)) {
        home_unref(h);
    }
}

/* ---------------------------------------------------------------- callers of close()
 */

/* The job of a close that is begun or due, with a reference, or NULL. With the lock
 * held. */
static job *
close_pending(home *h)
{
    job *j = h->close_next != NULL      ? h->close_next
             : h->state == HOME_CLOSING ? h->current
                                        : NULL;
    if (j != NULL) {
        job_ref(j);
    }
    return j;
}

/* As home_close, with the lock held and `fresh` a new job, which is not kept. */
static atoll_err
close_begin(home *h, bool patient, job *fresh, job **out)
{
    if (h->state >= HOME_LINGERING || h->state == HOME_STARTING) {
        return ATOLL_ERR_CLOSED;
    }
    if (h->state == HOME_RUNNING && !patient) {
        return ATOLL_ERR_AGAIN;
    }
    if (h->left && !patient) {
        return ATOLL_ERR_TIMEOUT; /* its threads may be there for ever */
    }
    *out = close_pending(h);
    if (*out == NULL) {
        if (h->state == HOME_IDLE) {
            atoll_err err = home_submit_locked(h, fresh);
            if (err != ATOLL_OK) {
                return err;
            }
        }
        else {
            job_ref(fresh);
            h->close_next = fresh;
        }
        job_ref(fresh);
        *out = fresh;
    }
    h->closers++;
    return ATOLL_OK;
}

atoll_err
home_close(home *h, bool patient, job **out)
{
    job *fresh = job_new(JOB_CLOSE, NULL);
    if (fresh == NULL) {
        return ATOLL_ERR_NOMEM;
    }
    atoll_lock_acquire(&h->lock);
    atoll_err err = close_begin(h, patient, fresh, out);
    atoll_lock_release(&h->lock);
    job_unref(fresh);
    return err;
}

bool
home_close_over(home *h)
{
    job *never = NULL;
    atoll_lock_acquire(&h->lock);
    bool begun = h->state != HOME_RUNNING;
    if (--h->closers == 0) {
        never = h->close_next;
        h->close_next = NULL;
        if (h->state == HOME_CLOSING) {
            home_watch_close(h); /* nobody waits for it any more */
        }
    }
    atoll_lock_release(&h->lock);
    if (never != NULL) {
        job_unref(never);
    }
    return begun;
}

bool
home_close_is_due(home *h)
{
    atoll_lock_acquire(&h->lock);
    bool due = h->close_next != NULL;
    atoll_lock_release(&h->lock);
    return due;
}

void
home_close_next_locked(home *h)
{
    job *j = h->close_next;
    h->close_next = NULL;
    if (home_submit_locked(h, j) != ATOLL_OK && job_settle(j, JOB_LOST, NULL, 0)) {
        job_announce(j);
    }
    job_unref(j);
}

/* --------------------------------------------------------------- in the home's thread
 */

static size_t
count_threads(void)
{
    size_t count = 0;
    runtime_lock_threads();
    PyThreadState *ts = PyInterpreterState_ThreadHead(PyInterpreterState_Get());
    for (; ts != NULL; ts = PyThreadState_Next(ts)) {
        count++;
    }
    runtime_unlock_threads();
    return count;
}

/* Call a function of atoll._boot; what it raises is reported. */
static PyObject *
close_call(const char *how, size_t number)
{
    PyObject *done = package_call(PACKAGE_BOOT, how, "(n)", (Py_ssize_t)number);
    if (done == NULL) {
        PyErr_WriteUnraisable(NULL);
    }
    return done;
}

static void
close_do(const char *how)
{
    PyObject *done = close_call(how, 0);
    Py_XDECREF(done);
}

/* Note which threads are in the way, besides this one. */
static void
close_note_threads(home *h)
{
    PyObject *text = close_call("threads_in_the_way", count_threads() - 1);
    const char *utf8 = text == NULL ? NULL : PyUnicode_AsUTF8(text);
    close_note(h, utf8 == NULL ? NULL : core_copy_text(utf8));
    PyErr_Clear();
    Py_XDECREF(text);
}

/* Wait for the threads that threading knows; returns how many others are left. */
static size_t
join_threads(home *h)
{
    close_note_threads(h); /* this may last */
    close_do("join_threads");
    close_note(h, NULL);
    return count_threads() - 1;
}

/* Bring its threads to an end, as far as they do. */
static void
close_quiesce(home *h)
{
    size_t others = join_threads(h);
    if (others == 0 || h->isolated) {
        /* Exit handlers may start threads: not under Py_EndInterpreter. They
         * also end the daemon threads that packages have. */
        close_do("run_exit_handlers");
        others = join_threads(h);
    }
    if (others > 0 && h->isolated) {
        close_note_threads(h);
        close_do("join_daemons");
    }
}

/* Is nobody but this thread in it any more? Else it is open again. Exit handlers may
 * wait for threads that are to come in, so this is after them. */
static bool
close_is_empty(home *h, int64_t deadline)
{
    bool closed = h->isolate == NULL || isolate_close(h->isolate, deadline);
    if (closed && count_threads() == 1) {
        return true;
    }
    if (closed && h->isolate != NULL) {
        isolate_reopen(h->isolate);
    }
    return false;
}

/* Threads that are waited for, of whatever kind. Guarded by the interpreter's GIL. */
typedef struct watch {
    size_t count;     /* of those that have not left */
    atoll_event gone; /* the last one has */
} watch;

static const char watch_key[] = "atoll close";

static void
watch_leaves(PyObject *capsule)
{
    watch *w = PyCapsule_GetPointer(capsule, watch_key);
    if (--w->count == 0) {
        atoll_event_set(&w->gone);
    }
}

/* Have `w` told when the thread of `ts` leaves: then the dict of its state goes. -1
 * without memory. */
static int
watch_add(watch *w, PyThreadState *ts)
{
    PyObject *dict = runtime_thread_dict(ts);
    PyObject *capsule = dict == NULL ? NULL : PyCapsule_New(w, watch_key, NULL);
    int rc = capsule == NULL ? -1 : PyDict_SetItemString(dict, watch_key, capsule);
    if (rc == 0) {
        w->count++;
        rc = PyCapsule_SetDestructor(capsule, watch_leaves);
    }
    PyErr_Clear();
    Py_XDECREF(capsule);
    return rc;
}

/* Watch all threads that are in it now, besides this one. */
static int
watch_all(watch *w)
{
    enum { MANY = 256 };
    PyThreadState *others[MANY], *here = PyThreadState_Get();
    size_t count = 0;
    int rc = 0;
    /* With the GIL held they stay; objects are not to be made under the lock. */
    runtime_lock_threads();
    PyThreadState *ts = PyInterpreterState_ThreadHead(PyInterpreterState_Get());
    for (; ts != NULL && count < MANY; ts = PyThreadState_Next(ts)) {
        if (ts != here) {
            others[count++] = ts;
        }
    }
    runtime_unlock_threads();
    for (size_t i = 0; i < count && rc == 0; i++) {
        rc = watch_add(w, others[i]);
    }
    return rc;
}

/* It has been left to itself: wait until its threads have ended. Without memory it
 * stays for ever. */
static void
close_outlast(home *h)
{
    while (!close_is_empty(h, ATOLL_FOREVER)) {
        watch w = {0};
        if (watch_all(&w) < 0) {
            PyEval_SaveThread();
            atoll_thread_halt();
        }
        while (w.count > 0) {
            const atoll_wait wait = {.deadline = ATOLL_FOREVER};
            Py_BEGIN_ALLOW_THREADS
            while (atoll_event_wait(&w.gone, &wait) != ATOLL_OK) {
            }
            Py_END_ALLOW_THREADS
        }
    }
}

/* Reply to the callers of close() with what is in the way. */
static void
close_refuse(home *h, core_state *state, outcome *out)
{
    char *way = home_in_way(h);
    PyObject *text = way == NULL ? NULL : PyUnicode_FromString(way);
    out->status = JOB_REFUSED;
    if (text == NULL || xfer_encode(state, text, &out->reply) < 0) {
        out->status = JOB_LOST;
        PyErr_Clear();
    }
    Py_XDECREF(text);
    atoll_free(way);
}

bool
close_run(home *h, core_state *state, outcome *out)
{
    home_set_unsteady(h, state, true); /* guards would be counted as threads */
    visit_close(state);
    mailbox_close(state->wait->mailbox); /* a thread state less, for good */
    close_quiesce(h);
    if (!close_is_empty(h, atoll_now() + LEAVE_NS)) {
        close_note_threads(h);
        if (!home_leave(h, false)) {
            mailbox_reopen(state->wait->mailbox);
            visit_reopen(state);
            home_set_unsteady(h, state, false);
            close_refuse(h, state, out);
            return false;
        }
        home_set_unsteady(h, state, false); /* for as long as this lasts */
        close_outlast(h);
    }
    out->status = JOB_RETURNED;
    return true;
}

void
close_clear_main(void)
{
    PyObject *main = PyImport_AddModuleRef("__main__");
    if (main == NULL) {
        PyErr_Clear();
        return;
    }
    PyDict_Clear(PyModule_GetDict(main));
    Py_DECREF(main);
    PyGC_Collect();
}
