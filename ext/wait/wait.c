/* Blocking without the GIL, interruptible by signals. See wait/wait.h. */
#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif

#include "wait/wait.h"

#include <errno.h>
#include <fcntl.h>
#include <math.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "atoll/trace.h"

/* --------------------------------------------------- the signal thread */

/* Of the process; written at import in the main interpreter and in a forked
 * child, when no other thread looks. */
static unsigned long signal_thread;

/* Made on first use by the signal thread, which alone uses them. */
static int event_fd = -1;
static int intr_pipe[2] = {-1, -1};
/* The program's own wakeup descriptor while ours is in its place. */
static int forward_to = -1;
static bool in_place;

int
detach_init(void)
{
    /* The main interpreter may import us from any thread: ask. */
    PyObject *thread = PyImport_ImportModule("_thread");
    if (thread == NULL) {
        return -1;
    }
    PyObject *ident = PyObject_CallMethod(thread, "_get_main_thread_ident", NULL);
    Py_DECREF(thread);
    if (ident == NULL) {
        return -1;
    }
    signal_thread = PyLong_AsUnsignedLong(ident);
    Py_DECREF(ident);
    return PyErr_Occurred() ? -1 : 0;
}

bool
detach_is_signal_thread(const core_state *state)
{
    return state->is_main && PyThread_get_thread_ident() == signal_thread;
}

static void
close_fds(void)
{
    if (event_fd >= 0) {
        close(event_fd);
    }
    for (int i = 0; i < 2; i++) {
        if (intr_pipe[i] >= 0) {
            close(intr_pipe[i]);
        }
    }
    event_fd = intr_pipe[0] = intr_pipe[1] = -1;
}

void
detach_fork_child(void)
{
    signal_thread = PyThread_get_thread_ident();
    if (in_place) { /* another thread has forked while this one waited */
        PySignal_SetWakeupFd(forward_to);
        in_place = false;
    }
    close_fds();
}

static int
open_fds(void)
{
    if (event_fd >= 0) {
        return 0;
    }
    event_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    if (event_fd < 0 || pipe2(intr_pipe, O_CLOEXEC | O_NONBLOCK) < 0) {
        PyErr_SetFromErrno(PyExc_OSError);
        close_fds();
        return -1;
    }
    return 0;
}

/* Empty our pipe, passing what signals wrote on to the descriptor that the
 * program had set (asyncio's, say). */
static void
forward_signals(int to)
{
    char bytes[64];
    ssize_t got;
    while ((got = read(intr_pipe[0], bytes, sizeof(bytes))) > 0) {
        if (to >= 0) {
            ssize_t put = write(to, bytes, (size_t)got);
            (void)put; /* full: its reader has been woken anyway */
        }
    }
}

/* ------------------------------------------------------------------- waiting */

void
wait_set_host(core_state *state, wait_host *host)
{
    state->wait->host = host;
    waits_party_set_host(state, host);
}

wait_host *
wait_host_here(const core_state *state)
{
    wait_host *host = state->wait->host;
    return host != NULL && atoll_thread_self() == host->thread ? host : NULL;
}

/* What takes less is a hand-over to somebody who is awake: too short to be seen on
 * a timeline, and too frequent to be noted at a price that nobody notices. */
#define TRACED_NS 10000

/* Note a wait that has ended, for a timeline. The record is still the caller's. */
static void
wait_trace(const wait_record *record, int64_t end)
{
    if (end - record->since < TRACED_NS) {
        return;
    }
    char text[64] = "";
    const wait_case *first = record->count > 0 ? record->cases : NULL;
    if (first != NULL && first->type->describe != NULL) {
        first->type->describe(first->object, text, sizeof(text));
    }
    atoll_trace_note(TRACE_WAIT, record->since, end, record->count, text);
}

/* The state of a thread that has let go of its GIL; NULL while it has it. */
static void
attach_early(void *arg)
{
    PyThreadState **detached = arg;
    if (*detached != NULL) {
        PyEval_RestoreThread(*detached);
        *detached = NULL;
    }
}

static void
detach_late(void *arg)
{
    PyThreadState **detached = arg;
    if (*detached == NULL) {
        *detached = PyEval_SaveThread();
    }
}

/* One attempt. The record goes before the GIL comes back, since at the end of the
 * process it may not, and this thread's stack may go.
 *
 * Not so for the signal thread, which always gets it back. A signal comes, and it has
 * to wait for the GIL before it can ask what the signal means: that may take as long as
 * the interval of a timer. So it does that in its place in line, and leaves it only
 * for the handlers. Afterwards it lets go of the GIL only when it is there again:
 * others who wait for the GIL might take what comes before that. */
static void
wait_detached(detach_op op, void *arg, atoll_wait *wait, wait_record *record,
              atoll_err *err)
{
    waits_enter(record);
    int64_t end = 0;
    PyThreadState *detached = NULL;
    bool again = wait->use_fds && *wait->place != 0;
    wait->interrupted = wait->use_fds ? attach_early : NULL;
    wait->standing = again ? detach_late : NULL;
    wait->arg = &detached;
    if (!again) {
        detached = PyEval_SaveThread();
    }
    *err = op(arg, wait);
    if (atoll_trace_on(ATOLL_TRACE_ON)) {
        end = atoll_now();
    }
    waits_leave(record);
    if (detached != NULL) {
        PyEval_RestoreThread(detached);
    }
    if (end != 0) {
        wait_trace(record, end);
    }
}

/* One attempt in the signal thread. -1 with an exception. */
static int
wait_with_signals(detach_op op, void *arg, atoll_wait *wait, wait_record *record,
                  atoll_err *err)
{
    if (open_fds() < 0) {
        return -1;
    }
    wait->use_fds = true;
    wait->event_fd = event_fd;
    wait->intr_fd = intr_pipe[0];
    /* First the descriptor, then the check: a signal before the check is seen
     * by it, one after it is in the pipe. */
    int before = PySignal_SetWakeupFd(intr_pipe[1]);
    /* A signal handler that waits comes here a second time. */
    bool nested = before == intr_pipe[1];
    int to = nested ? forward_to : before;
    forward_to = to;
    in_place = true;
    int rc = PyErr_CheckSignals();
    if (rc == 0) {
        wait_detached(op, arg, wait, record, err);
    }
    PySignal_SetWakeupFd(before);
    in_place = nested;
    forward_signals(to);
    return rc;
}

/* It has been found that nobody will ever end this wait. */
static int
raise_deadlock(core_state *state, wait_host *host, wait_record *record)
{
    char *text = record->verdict;
    record->verdict = NULL;
    if (host != NULL) {
        host->wait_over(host);
    }
    if (!PyErr_Occurred()) {
        raise_error(state, "DeadlockError", "%s", text);
    }
    atoll_free(text);
    return -1;
}

int
detach_wait_for(core_state *state, detach_op op, void *arg, int64_t deadline,
                atoll_spin *spin, const wait_case *cases, size_t count, atoll_err *err)
{
    wait_record record;
    bool signals = detach_is_signal_thread(state);
    wait_host *host = signals ? NULL : wait_host_here(state);
    waits_init(&record, state, host, cases, count, deadline);
    uint64_t place = 0;
    atoll_wait wait = {
        .deadline = deadline, .spin = spin, .kick = record.kick, .place = &place};
    for (;;) {
        if (host != NULL && host->take_interrupt(host)) {
            return -1;
        }
        if (!signals) {
            wait_detached(op, arg, &wait, &record, err);
        }
        else if (wait_with_signals(op, arg, &wait, &record, err) < 0) {
            atoll_free(record.verdict);
            return -1;
        }
        if (*err != ATOLL_ERR_INTERRUPTED) {
            atoll_free(record.verdict); /* it came to an end after all */
            if (host != NULL) {
                host->wait_over(host);
            }
            mailbox_drain(state->wait->mailbox);
            return 0;
        }
        if (record.verdict != NULL) {
            return raise_deadlock(state, host, &record);
        }
        if (signals) {
            waits_enter(&record); /* for dump(), as a handler */
            int rc = PyErr_CheckSignals();
            waits_leave(&record);
            if (rc < 0) {
                return -1;
            }
        }
    }
}

int
detach_look(core_state *state)
{
    if (detach_is_signal_thread(state)) {
        return PyErr_CheckSignals();
    }
    wait_host *host = wait_host_here(state);
    if (host != NULL) {
        if (host->take_interrupt(host)) {
            return -1;
        }
        host->wait_over(host);
    }
    return 0;
}

int
detach_wait(core_state *state, detach_op op, void *arg, int64_t deadline,
            atoll_spin *spin, atoll_err *err)
{
    return detach_wait_for(state, op, arg, deadline, spin, NULL, 0, err);
}

/* ------------------------------------------------------------- timeouts */

int
detach_deadline(PyObject *timeout, int64_t *deadline)
{
    if (timeout == NULL || timeout == Py_None) {
        *deadline = ATOLL_FOREVER;
        return 0;
    }
    double seconds;
    if (args_double("timeout", "a number of seconds or None", timeout, &seconds) < 0) {
        return -1;
    }
    if (isnan(seconds) || seconds < 0) {
        PyErr_Format(PyExc_ValueError,
                     "timeout must be a non-negative number of seconds, "
                     "not %R",
                     timeout);
        return -1;
    }
    if (seconds == 0) {
        *deadline = ATOLL_NOW;
        return 0;
    }
    double ns = ceil(seconds * 1e9);
    int64_t now = atoll_now();
    *deadline = ns >= (double)(INT64_MAX - now) ? ATOLL_FOREVER : now + (int64_t)ns;
    return 0;
}
