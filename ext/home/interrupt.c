/* Interrupting the code that runs in a home, and only that: it reaches it at its next
 * bytecode through a pending call, or at once in a wait of atoll's through a kick; an
 * event loop is led to its next bytecode. What it does there, is home/signal.c's. Which
 * of them, is decided under the home's lock; what has not arrived when the job is over
 * is cleared.
 *
 * It does not come where it would break more than the task (home/place.c): there
 * the pending call queues itself again, until CPython looks elsewhere. Not for long:
 * code that stays in such a place has lost its claim to be left in peace.
 *
 * Code in C that has let go of the GIL looks for nothing. If it is an event loop that
 * waits, it is woken: through the descriptor of a hub of ours, through the one that
 * signal.set_wakeup_fd was told, and, if nobody has looked for a moment, by a visitor
 * that calls the loop's call_soon_threadsafe.
 *
 * A pending call is the interpreter's, and any of its threads may take it. One that is
 * not the home's leaves it to that, which takes its turn within milliseconds; or else
 * is in C code, so that the others are not bothered any more but a few times a second.
 */
#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif

#include "cpython/version.h"
#include "home/home.h"

#include <signal.h>
#include <stddef.h>
#include <sys/resource.h>

/* So long code is left in peace in a delicate place: */
#define PATIENCE_NS INT64_C(100000000)
/* and after so many looks (a hundred at each place where CPython looks), since time
 * alone would not do where cores are short; */
#define PATIENCE_LOOKS 50000
/* or of its own free will asleep between looks; of one sleep, which may be a thread's
 * that has kept the GIL, no more counts than half of it; */
#define PATIENCE_NAP (PATIENCE_NS / 2)
/* and never longer than this. */
#define PATIENCE_END (9 * PATIENCE_NS)

/* If nobody has looked for so long, the loop is woken. */
#define NUDGE_NS INT64_C(10000000)
/* So long other threads hand the call on to the home's, at each look; then so rarely.
 */
#define PASS_ON_NS INT64_C(15000000)
#define PAUSE_MIN INT64_C(10000000)
#define PAUSE_MAX INT64_C(100000000)

static int on_pending(void *arg);
static void reminder_fires(atoll_timer *timer);

/* Cancel what runs in the event loop of a pool's worker, where there is one. */
static bool
cancel_coroutine(void)
{
    PyObject *result = package_call(PACKAGE_BOOT, "cancel_coroutine", "(O)", Py_None);
    bool cancelled = result == Py_True;
    if (result == NULL) {
        PyErr_Clear(); /* no memory: so it is interrupted here */
    }
    Py_XDECREF(result);
    return cancelled;
}

/* Give a reference back that is not the last. */
static void
unref_early(home *h)
{
    bool last = atoll_count_down(&h->refs);
    assert(!last);
    (void)last;
}

/* Queue our pending call, which gets a reference. False if the ring is full. With
 * the lock held. */
static bool
queue_call_locked(home *h)
{
    home_ref(h);
    h->call_in_flight = compat_add_pending_call(h->interp, on_pending, h) == 0;
    if (!h->call_in_flight) {
        unref_early(h);
    }
    return h->call_in_flight;
}

/* Come back in a moment, if that is not to be anyhow. With the lock held. */
static void
remind_locked(home *h, int64_t pause)
{
    if (h->reminding) {
        return;
    }
    home_ref(h);
    h->reminder.fire = reminder_fires;
    h->reminding = atoll_timer_start(&h->reminder, atoll_now() + pause) == ATOLL_OK;
    if (!h->reminding) {
        unref_early(h);
    }
}

static void
forget_reminder_locked(home *h)
{
    if (h->reminding && atoll_timer_stop(&h->reminder)) {
        h->reminding = false;
        unref_early(h); /* the home's thread has one */
    }
}

/* Queue it, or come back. With the lock held. */
static void
queue_or_remind_locked(home *h)
{
    if (!queue_call_locked(h)) {
        remind_locked(h, PAUSE_MIN);
    }
}

/* Is it still to be left in peace, in a delicate place? In the home's thread, with the
 * lock held. */
static bool
is_patient_locked(home *h)
{
    home_patience *p = &h->patience;
    struct rusage usage;
    int64_t now = atoll_now();
    long sleeps = getrusage(RUSAGE_THREAD, &usage) == 0 ? usage.ru_nvcsw : p->sleeps;
    if (p->looks++ == 0) {
        p->since = now;
        p->asleep = 0;
    }
    else if (sleeps != p->sleeps) {
        int64_t nap = now - p->last;
        p->asleep += nap < PATIENCE_NAP ? nap : PATIENCE_NAP;
    }
    p->sleeps = sleeps;
    p->last = now;
    int64_t all = now - p->since;
    bool stays = p->looks >= PATIENCE_LOOKS || p->asleep >= PATIENCE_NS;
    return all < PATIENCE_NS || (!stays && all < PATIENCE_END);
}

/* Is it to come later? asyncio.Runner's handler raises nothing, at first. */
static bool
is_put_off_locked(home *h, interrupt_place place)
{
    bool delicate = place == PLACE_DELICATE || place == PLACE_DOOR;
    bool patient = delicate && is_patient_locked(h);
    return place == PLACE_THRESHOLD ? !h->gentle
                                    : patient && !(h->gentle && place == PLACE_DOOR);
}

/* Another thread has our call. With the lock held. */
static void
pass_on_locked(home *h)
{
    int64_t now = atoll_now();
    if (h->passed_on == 0) {
        h->passed_on = now;
    }
    if (now - h->passed_on < PASS_ON_NS) {
        queue_or_remind_locked(h);
        return;
    }
    h->pause = h->pause < PAUSE_MIN / 2 ? PAUSE_MIN : 2 * h->pause;
    h->pause = h->pause > PAUSE_MAX ? PAUSE_MAX : h->pause;
    remind_locked(h, h->pause);
}

/* Runs in one of the interpreter's threads, attached. */
static int
on_pending(void *arg)
{
    home *h = arg;
    bool mine = atoll_thread_self() == h->host.thread;
    interrupt_place place = mine ? interrupt_find_place() : PLACE_FREE;
    atoll_lock_acquire(&h->lock);
    h->call_in_flight = false;
    bool due = h->interrupt_due && h->interruptible;
    h->passed_on = mine ? 0 : h->passed_on;
    if (due && !mine) {
        /* A home thread that waits is kicked out of its wait and raises there. */
        if (!h->waiting) {
            pass_on_locked(h);
        }
        due = false;
    }
    else if (due && is_put_off_locked(h, place)) {
        queue_or_remind_locked(h);
        due = false;
    }
    if (due) {
        h->interrupt_due = false;
        atoll_kick_clear(&h->host.kick);
    }
    bool cancel = due && place == PLACE_LOOP && h->sigint == SIGINT_RAISES;
    atoll_lock_release(&h->lock);
    int rc = !due || (cancel && cancel_coroutine()) ? 0 : signal_deliver(h);
    home_unref(h);
    return rc;
}

/* Let it be due. With the lock held. */
static void
make_due_locked(home *h)
{
    h->passed_on = 0;
    h->pause = 0;
    h->insist_at = 0;
    h->insists = false;
    h->interrupt_due = true;
    h->interrupted = true;
}

/* Let a new one be due. With the lock held. */
static void
make_new_locked(home *h)
{
    if (!h->interrupt_due) {
        h->patience.looks = 0;
    }
    make_due_locked(h);
}

/* Let it be due again if the time has come to insist. With the lock held. */
static void
insist_locked(home *h)
{
    int64_t left = h->insist_at - atoll_now();
    if (h->insist_at == 0 || !h->interruptible || h->interrupt_due) {
        return;
    }
    if (left > 0) {
        remind_locked(h, left);
        return;
    }
    make_due_locked(h); /* with what is left of the patience */
    h->insists = true;
    atoll_kick_set(&h->host.kick);
}

void
home_look_soon(home *h)
{
    atoll_lock_acquire(&h->lock);
    h->passed_on = 0;
    if (h->interrupt_due && h->interruptible && !h->call_in_flight) {
        queue_or_remind_locked(h);
    }
    atoll_lock_release(&h->lock);
}

void
home_insist(home *h)
{
    atoll_lock_acquire(&h->lock);
    h->insist_at = atoll_now() + PATIENCE_NS;
    remind_locked(h, PATIENCE_NS);
    atoll_lock_release(&h->lock);
}

/* On the thread of the timers. */
static void
reminder_fires(atoll_timer *timer)
{
    home *h = (home *)(void *)((char *)timer - offsetof(home, reminder));
    atoll_lock_acquire(&h->lock);
    h->reminding = false;
    insist_locked(h);
    bool due = h->interrupt_due && h->interruptible && !h->waiting && h->interp != NULL;
    if (due && !h->call_in_flight) {
        h->passed_on = 0;
        queue_or_remind_locked(h);
    }
    atoll_lock_release(&h->lock);
    if (due) {
        signal_wake_loop(h);
    }
    home_unref(h);
}

/* Let the home's thread see that it is due. With the lock held. */
static void
announce_locked(home *h)
{
    atoll_kick_set(&h->host.kick);
    if (!h->call_in_flight && h->interp != NULL) {
        /* If the ring is full, what is in it wakes the interpreter, but only
         * a wait of the home thread will notice us. */
        (void)queue_call_locked(h);
    }
    for (home_loop *loop = h->loops; loop != NULL; loop = loop->next) {
        atoll_cq_poke(loop->cq);
    }
    signal_write_locked(h, SIGINT);
    remind_locked(h, NUDGE_NS);
}

bool
home_interrupt(home *h, const job *j, bool unwanted)
{
    atoll_lock_acquire(&h->lock);
    bool runs = h->state == HOME_RUNNING && (j == NULL || h->current == j);
    if (runs && !h->job_over) {
        h->current->unwanted |= unwanted;
        if (h->sigint != SIGINT_IGNORED) {
            /* If its code has not begun it is not yet `interruptible`, but it will
             * look. */
            make_new_locked(h);
        }
    }
    if (runs && h->interrupt_due && h->interruptible) {
        announce_locked(h);
    }
    atoll_lock_release(&h->lock);
    return runs;
}

void
home_interrupt_again(home *h)
{
    atoll_lock_acquire(&h->lock);
    if (h->interruptible) {
        make_new_locked(h);
        announce_locked(h);
    }
    atoll_lock_release(&h->lock);
}

home *
home_of_thread(const core_state *state)
{
    home *h = state->home->self;
    return h != NULL && atoll_thread_self() == h->host.thread ? h : NULL;
}

void
home_pause_code(home *h)
{
    atoll_lock_acquire(&h->lock);
    h->interruptible = false;
    atoll_kick_clear(&h->host.kick); /* or a wait would not wait */
    atoll_lock_release(&h->lock);
}

bool
home_begin_code(home *h)
{
    atoll_lock_acquire(&h->lock);
    h->interruptible = true;
    bool due = h->interrupt_due;
    h->interrupt_due = false;
    atoll_lock_release(&h->lock);
    return !due || signal_deliver(h) == 0;
}

/* See wait_host.take_interrupt. */
static bool
interrupt_take(wait_host *host)
{
    home *h = (home *)host;
    for (;;) {
        atoll_lock_acquire(&h->lock);
        bool due = h->interrupt_due && h->interruptible;
        if (!h->interrupt_due || due) {
            atoll_kick_clear(&h->host.kick);
            h->interrupt_due = false;
        }
        h->waiting = !due;
        atoll_lock_release(&h->lock);
        if (!due) {
            return false;
        }
        if (signal_deliver(h) < 0) {
            return true;
        }
    }
}

/* See wait_host.wait_over. */
static void
interrupt_wait_over(wait_host *host)
{
    home *h = (home *)host;
    atoll_lock_acquire(&h->lock);
    h->waiting = false;
    /* Another thread may have had the call and left it to the wait, which then
     * ended with what it waited for. */
    if (h->interrupt_due && h->interruptible && !h->call_in_flight) {
        queue_or_remind_locked(h);
    }
    atoll_lock_release(&h->lock);
}

void
home_init_host(home *h)
{
    h->host.take_interrupt = interrupt_take;
    h->host.wait_over = interrupt_wait_over;
    h->wakeup_fd = -1;
}

void
home_add_loop(home *h, home_loop *loop)
{
    atoll_lock_acquire(&h->lock);
    loop->next = h->loops;
    if (h->loops != NULL) {
        h->loops->prev = loop;
    }
    h->loops = loop;
    atoll_lock_release(&h->lock);
}

void
home_remove_loop(home *h, home_loop *loop)
{
    atoll_lock_acquire(&h->lock);
    *(loop->prev != NULL ? &loop->prev->next : &h->loops) = loop->next;
    if (loop->next != NULL) {
        loop->next->prev = loop->prev;
    }
    atoll_lock_release(&h->lock);
}

/* Where exec() of a str is interrupted (an import makes a dataclass, say), CPython
 * notes for the whole process that it is to die of SIGINT at its exit: that is meant
 * for main's program. The next exec() takes it back. At the exit it may be main's.
 * Keeps the exception that is set. */
static void
take_back_sigint(void)
{
    PyObject *exc = PyErr_GetRaisedException();
    PyObject *dict = PyDict_New();
    PyObject *result =
        dict == NULL ? NULL : PyRun_String("", Py_file_input, dict, dict);
    Py_XDECREF(result);
    Py_XDECREF(dict);
    PyErr_SetRaisedException(exc);
}

bool
home_job_over(home *h)
{
    atoll_lock_acquire(&h->lock);
    bool wanted = !h->current->unwanted;
    bool interrupted = h->interrupted && !h->exiting;
    h->interrupted = false;
    h->interruptible = false;
    h->interrupt_due = false;
    h->job_over = true;
    h->waiting = false;
    h->insist_at = 0;
    h->raised = NULL;
    forget_reminder_locked(h);
    atoll_kick_clear(&h->host.kick);
    atoll_lock_release(&h->lock);
    if (interrupted) {
        take_back_sigint();
    }
    return wanted;
}
