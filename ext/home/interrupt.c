/* Interrupting the code that runs in a home, and only that: KeyboardInterrupt
 * reaches it at its next bytecode through a pending call, or at once in a wait
 * of atoll's through a kick; an event loop is led to its next bytecode. Which of
 * them, is decided under the home's lock; what has not arrived when the job is over
 * is cleared.
 *
 * It does not come where it would break more than the task (home/place.c): there
 * the pending call queues itself again, until CPython looks elsewhere. */
#include "cpython/version.h"
#include "home/home.h"

#include <signal.h>

/* So long, and after so many looks (a hundred at each place where CPython looks), it
 * comes anyway: __enter__ may be a long story, and if another thread has our call, the
 * home's may be in lock.acquire(). Time alone would not do where cores are short. */
#define PATIENCE_NS INT64_C(100000000)
#define PATIENCE_LOOKS 20000

static int on_pending(void *arg);

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

/* Queue our pending call, which gets a reference. False if the ring is full. With
 * the lock held. */
static bool
queue_call_locked(home *h)
{
    home_ref(h);
    h->call_in_flight = compat_add_pending_call(h->interp, on_pending, h) == 0;
    if (!h->call_in_flight) {
        bool last = atoll_count_down(&h->refs);
        assert(!last);
        (void)last;
    }
    return h->call_in_flight;
}

/* Shall it come later? With the lock held. */
static bool
put_off_locked(home *h)
{
    if (h->put_off++ == 0) {
        h->put_off_since = atoll_now();
    }
    bool patient =
        h->put_off < PATIENCE_LOOKS || atoll_now() - h->put_off_since < PATIENCE_NS;
    return patient && queue_call_locked(h);
}

/* Runs in one of the interpreter's threads, attached. */
static int
on_pending(void *arg)
{
    home *h = arg;
    bool mine = atoll_thread_self() == h->host.thread;
    /* Another thread leaves it to the home's, which takes its turn soon. An exception
     * set from here would be raised later, where nobody has looked at the place. */
    interrupt_place place = mine ? interrupt_find_place() : PLACE_DELICATE;
    atoll_lock_acquire(&h->lock);
    h->call_in_flight = false;
    /* A home thread that waits is kicked out of its wait and raises there. */
    bool due = h->interrupt_due && h->interruptible && (mine || !h->waiting);
    if (due && place == PLACE_DELICATE && put_off_locked(h)) {
        due = false;
    }
    if (due) {
        h->interrupt_due = false;
        atoll_kick_clear(&h->host.kick);
    }
    unsigned long ident = h->ident;
    atoll_lock_release(&h->lock);
    home_unref(h);
    if (!due) {
        return 0;
    }
    if (mine) {
        return place == PLACE_LOOP && cancel_coroutine()
                   ? 0
                   : (PyErr_SetNone(PyExc_KeyboardInterrupt), -1);
    }
    PyThreadState_SetAsyncExc(ident, PyExc_KeyboardInterrupt);
    return 0;
}

bool
home_interrupt(home *h, const job *j, bool unwanted)
{
    atoll_lock_acquire(&h->lock);
    bool runs = h->state == HOME_RUNNING && (j == NULL || h->current == j);
    if (runs && !h->job_over) {
        /* If its code has not begun it is not yet `interruptible`, but it will
         * look. */
        if (!h->interrupt_due) {
            h->put_off = 0;
        }
        h->interrupt_due = true;
        h->interrupted = true;
        h->current->unwanted |= unwanted;
    }
    if (runs && h->interruptible) {
        atoll_kick_set(&h->host.kick);
        if (!h->call_in_flight && h->interp != NULL) {
            /* If the ring is full, what is in it wakes the interpreter, but only
             * a wait of the home thread will notice us. */
            (void)queue_call_locked(h);
        }
        for (home_loop *loop = h->loops; loop != NULL; loop = loop->next) {
            atoll_cq_poke(loop->cq);
        }
    }
    atoll_lock_release(&h->lock);
    return runs;
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
    if (due) {
        PyErr_SetNone(PyExc_KeyboardInterrupt);
    }
    return !due;
}

/* See wait_host.take_interrupt. */
static bool
interrupt_take(wait_host *host)
{
    home *h = (home *)host;
    atoll_lock_acquire(&h->lock);
    bool due = h->interrupt_due && h->interruptible;
    if (!h->interrupt_due || due) {
        atoll_kick_clear(&h->host.kick);
        h->interrupt_due = false;
    }
    h->waiting = !due;
    atoll_lock_release(&h->lock);
    if (due) {
        PyErr_SetNone(PyExc_KeyboardInterrupt);
    }
    return due;
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
    bool due = h->interrupt_due && h->interruptible && !h->call_in_flight &&
               !queue_call_locked(h);
    if (due) {
        h->interrupt_due = false;
        atoll_kick_clear(&h->host.kick);
    }
    atoll_lock_release(&h->lock);
    if (due) { /* the ring is full */
        PyThreadState_SetAsyncExc(h->ident, PyExc_KeyboardInterrupt);
    }
}

void
home_init_host(home *h)
{
    h->host.take_interrupt = interrupt_take;
    h->host.wait_over = interrupt_wait_over;
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
    atoll_kick_clear(&h->host.kick);
    atoll_lock_release(&h->lock);
    /* One that was set for this job but not raised must not hit the next. */
    PyThreadState_SetAsyncExc(h->ident, NULL);
    if (interrupted) {
        take_back_sigint();
    }
    return wanted;
}

/* ------------------------------------------------------------ wakeup descriptors */

/* signal.set_wakeup_fd(fd, *, warn_on_full_buffer=True). The home thread is its
 * interpreter's main thread, and event loops (uvloop's) set the descriptor in the
 * main thread; but CPython has one for the process, and it is main's. No signal
 * arrives in this interpreter, so that nothing has to be written. */
static PyObject *
set_wakeup_fd(PyObject *module, PyObject *args, PyObject *kwargs)
{
    static char *names[] = {"", "warn_on_full_buffer", NULL};
    core_state *state = PyModule_GetState(module);
    int fd, warn = 1, before = state->home->wakeup_fd;
    if (!PyArg_ParseTupleAndKeywords(args, kwargs, "i|$p:set_wakeup_fd", names, &fd,
                                     &warn)) {
        return NULL;
    }
    if (home_of_thread(state) == NULL) {
        PyErr_SetString(PyExc_ValueError,
                        "set_wakeup_fd only works in main thread of an "
                        "interpreter");
        return NULL;
    }
    state->home->wakeup_fd = fd < 0 ? -1 : fd;
    return PyLong_FromLong(before);
}

/* signal.getsignal(signum). CPython's own hands out the handler that main has set:
 * an object of main's, whose count two interpreters would change at once. */
static PyObject *
get_signal(PyObject *Py_UNUSED(module), PyObject *arg)
{
    int number = PyLong_AsInt(arg);
    struct sigaction now;
    if (number == -1 && PyErr_Occurred()) {
        return NULL;
    }
    if (number < 1 || number >= NSIG) {
        PyErr_SetString(PyExc_ValueError, "signal number out of range");
        return NULL;
    }
    if (sigaction(number, NULL, &now) < 0) {
        Py_RETURN_NONE; /* one that the C library keeps to itself */
    }
    if (now.sa_handler == SIG_DFL || now.sa_handler == SIG_IGN) {
        return PyLong_FromLong(now.sa_handler == SIG_IGN);
    }
    if (number != SIGINT) {
        Py_RETURN_NONE; /* not of this interpreter's making */
    }
    PyObject *signal = PyImport_ImportModule("_signal");
    PyObject *handler =
        signal == NULL ? NULL : PyObject_GetAttrString(signal, "default_int_handler");
    Py_XDECREF(signal);
    return handler;
}

PyMethodDef interrupt_functions[] = {
    {"_getsignal", get_signal, METH_O,
     "_getsignal(signum)\n--\n\n"
     "signal.getsignal in interpreters of atoll's: no object of main's."},
    {"_set_wakeup_fd", (PyCFunction)(void (*)(void))set_wakeup_fd,
     METH_VARARGS | METH_KEYWORDS,
     "_set_wakeup_fd(fd, /, *, warn_on_full_buffer=True)\n--\n\n"
     "signal.set_wakeup_fd in interpreters of atoll's: where no signal arrives."},
    {NULL, NULL, 0, NULL},
};

int
home_mend_signal(core_state *state)
{
    PyObject *signal = PyImport_ImportModule("_signal");
    PyObject *set = PyObject_GetAttrString(state->module, "_set_wakeup_fd");
    PyObject *get = PyObject_GetAttrString(state->module, "_getsignal");
    int rc = -1;
    if (signal != NULL && set != NULL && get != NULL &&
        PyObject_SetAttrString(signal, "set_wakeup_fd", set) == 0) {
        rc = PyObject_SetAttrString(signal, "getsignal", get);
    }
    Py_XDECREF(signal);
    Py_XDECREF(set);
    Py_XDECREF(get);
    return rc;
}
