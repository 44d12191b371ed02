/* What the module signal means in an interpreter of atoll's.
 *
 * The home thread is its interpreter's main thread, and that is where programs set
 * handlers: asyncio.Runner, Trio, servers, unittest. But the process has one handler
 * for each signal, which runs in main. So here SIGINT stands for what interrupts this
 * interpreter: Interpreter.interrupt(), Ctrl-C in who has called it, the cancelling of
 * a task. SIGTERM can be set because servers set both at once; nothing but
 * raise_signal() brings it. All others are refused as CPython refuses them.
 *
 * CPython's own functions would hand out main's handlers (objects whose counts two
 * interpreters would change at once), interrupt main, or change how the process takes
 * its signals. */
#include "cpython/runtime.h"
#include "home/home.h"
#include "wait/visit.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

/* ------------------------------------------------------------------ handlers */

/* A new reference to what the module _signal has under `name`; NULL with an exception.
 */
static PyObject *
signal_get(const char *name)
{
    PyObject *module = PyImport_ImportModule("_signal");
    PyObject *value = module == NULL ? NULL : PyObject_GetAttrString(module, name);
    Py_XDECREF(module);
    return value;
}

/* What a function of atoll._boot says of `arg`. */
static bool
signal_ask(home *h, const char *function, PyObject *arg)
{
    PyObject *result = package_call(PACKAGE_BOOT, function, "(O)", arg);
    bool is = result == Py_True;
    PyObject *exc = PyErr_GetRaisedException();
    if (exc != NULL && (const void *)exc == h->raised) {
        home_interrupt_again(h); /* it came in there */
    }
    Py_XDECREF(exc);
    Py_XDECREF(result);
    return is;
}

/* Is it the handler that asyncio.Runner sets, which cancels its task, and raises when
 * it is called again? No Python code runs. */
static bool
is_runners(PyObject *handler)
{
    if (strcmp(Py_TYPE(handler)->tp_name, "functools.partial") != 0) {
        return false;
    }
    PyObject *method = PyObject_GetAttrString(handler, "func");
    PyObject *function =
        method != NULL && PyMethod_Check(method) ? PyMethod_GET_FUNCTION(method) : NULL;
    PyObject *module = function != NULL && PyFunction_Check(function)
                           ? PyFunction_GetModule(function)
                           : NULL;
    bool is =
        module != NULL && PyUnicode_Check(module) &&
        PyUnicode_EqualToUTF8(module, "asyncio.runners") &&
        PyUnicode_EqualToUTF8(((PyCodeObject *)PyFunction_GetCode(function))->co_name,
                              "_on_sigint");
    PyErr_Clear();
    Py_XDECREF(method);
    return is;
}

/* Where the handler of `number` is kept, or NULL: it is none of ours. */
static PyObject **
slot_of(core_state *state, int number)
{
    return number == SIGINT    ? &state->home->handlers[0]
           : number == SIGTERM ? &state->home->handlers[1]
                               : NULL;
}

/* Is `handler` the number `value`, as SIG_DFL and SIG_IGN are? */
static bool
is_number(PyObject *handler, long value)
{
    return PyLong_CheckExact(handler) && PyLong_AsLong(handler) == value;
}

enum { DEFAULT = 0, IGNORE = 1 }; /* signal.SIG_DFL, signal.SIG_IGN */

/* What is due for `number`: a new reference; NULL with an exception. */
static PyObject *
handler_of(core_state *state, int number)
{
    PyObject **slot = slot_of(state, number);
    if (slot != NULL && *slot != NULL) {
        return Py_NewRef(*slot);
    }
    if (number == SIGINT) {
        return signal_get("default_int_handler");
    }
    struct sigaction now;
    if (sigaction(number, NULL, &now) < 0) {
        Py_RETURN_NONE; /* one that the C library keeps to itself */
    }
    if (now.sa_handler == SIG_DFL || now.sa_handler == SIG_IGN) {
        return PyLong_FromLong(now.sa_handler == SIG_IGN ? IGNORE : DEFAULT);
    }
    Py_RETURN_NONE; /* not of this interpreter's making */
}

/* Call `handler` (a reference that is given back) as CPython does. */
static int
call_handler(PyObject *handler, int number)
{
    PyFrameObject *frame = PyThreadState_GetFrame(PyThreadState_Get());
    PyObject *here = frame == NULL ? Py_NewRef(Py_None) : (PyObject *)frame;
    PyObject *result = PyObject_CallFunction(handler, "iO", number, here);
    Py_DECREF(here);
    Py_DECREF(handler);
    Py_XDECREF(result);
    return result == NULL ? -1 : 0;
}

/* Raise a KeyboardInterrupt that is known again if it gets lost. */
static int
raise_interrupt(home *h)
{
    PyObject *exc = PyObject_CallNoArgs(PyExc_KeyboardInterrupt);
    h->raised = exc;
    if (exc != NULL) {
        PyErr_SetObject(PyExc_KeyboardInterrupt, exc);
        Py_DECREF(exc);
    }
    return -1;
}

/* asyncio.Runner's handler cancels a task, which the loop hears of when it goes on. If
 * what it runs does not let it, the handler is called once more, and raises. */
static int
deliver_call(home *h, bool insists, bool gentle)
{
    PyObject *handler = Py_XNewRef(h->core->home->handlers[0]);
    int rc = 0;
    if (handler == NULL) { /* the interpreter ends */
        return 0;
    }
    if (!insists || signal_ask(h, "is_deaf", Py_None)) {
        rc = call_handler(Py_NewRef(handler), SIGINT);
        if (rc == 0 && gentle && signal_ask(h, "will_hear", handler)) {
            home_insist(h);
        }
    }
    Py_DECREF(handler);
    return rc;
}

int
signal_deliver(home *h)
{
    atoll_lock_acquire(&h->lock);
    sigint_action action = h->sigint;
    bool insists = h->insists, gentle = h->gentle;
    h->insists = h->gentle = false;
    atoll_lock_release(&h->lock);
    switch (action) {
    case SIGINT_IGNORED:
        return 0;
    case SIGINT_CALLS:
        return deliver_call(h, insists, gentle);
    default:
        if (insists) {
            return 0; /* asyncio.Runner has gone */
        }
        return raise_interrupt(h);
    }
}

void
signal_write_locked(const home *h, int number)
{
    if (h->wakeup_fd >= 0) {
        int kept = errno;
        unsigned char byte = (unsigned char)number;
        ssize_t put = write(h->wakeup_fd, &byte, 1);
        (void)put; /* full: its reader has been woken anyway */
        errno = kept;
    }
}

/* ------------------------------------------------------------ a loop that waits */

static PyObject *
loop_look(PyObject *anchor, PyObject *Py_UNUSED(ignored))
{
    core_state *state = PyCapsule_GetPointer(anchor, NULL);
    home *h = PyCapsule_GetContext(anchor) == NULL ? home_of_thread(state) : NULL;
    if (h != NULL) {
        home_look_soon(h);
    }
    Py_RETURN_NONE;
}

static PyMethodDef loop_look_def = {
    "look", loop_look, METH_NOARGS,
    "What the event loop calls when it has been woken: an interrupt is due."};

/* Inside, by a visitor. */
static void
wake_inside(void *arg)
{
    home *h = arg;
    atoll_lock_acquire(&h->lock);
    bool due = h->interrupt_due && h->interruptible && !h->waiting;
    atoll_lock_release(&h->lock);
    PyObject *hook = due ? frames_asyncgen_hook(h->ident) : NULL, *loop = NULL;
    if (hook != NULL && PyObject_GetOptionalAttrString(hook, "__self__", &loop) > 0) {
        PyObject *look = PyCFunction_New(&loop_look_def, h->core->home->anchor);
        PyObject *done =
            look == NULL ? NULL
                         : PyObject_CallMethod(loop, "call_soon_threadsafe", "O", look);
        Py_XDECREF(done); /* without such a method it is no loop */
        Py_XDECREF(look);
    }
    PyErr_Clear();
    Py_XDECREF(loop);
    Py_XDECREF(hook);
}

static void
wake_over(void *arg)
{
    home_unref(arg);
}

void
signal_wake_loop(home *h)
{
    party *found = NULL;
    for (party *p = waits_lock_all(); p != NULL && found == NULL; p = p->next) {
        if (p->host == &h->host && visit_begin(p)) {
            found = p;
        }
    }
    waits_unlock_all();
    if (found == NULL) {
        return; /* it is closing */
    }
    home_ref(h);
    visit_errand errand = {.inside = wake_inside, .over = wake_over, .arg = h};
    if (visit_send(found, &errand) != ATOLL_OK) {
        visit_end(found);
        home_unref(h);
    }
}

/* -------------------------------------------------------- the module's functions */

/* Call CPython's own function, which has been replaced: the functions here are bound to
 * a pair of home_data.anchor and it. */
static PyObject *
call_original(PyObject *self, PyObject *args)
{
    return PyObject_CallObject(PyTuple_GET_ITEM(self, 1), args);
}

/* NULL, without an exception, at the end of the interpreter. */
static core_state *
state_of(PyObject *self)
{
    PyObject *anchor = PyTuple_GET_ITEM(self, 0);
    return PyCapsule_GetContext(anchor) == NULL ? PyCapsule_GetPointer(anchor, NULL)
                                                : NULL;
}

static home *
home_of(PyObject *self)
{
    core_state *state = state_of(self);
    return state == NULL ? NULL : home_of_thread(state);
}

/* What an interrupt is to do now. */
static void
set_action(home *h, PyObject *handler, PyObject *standard)
{
    bool raises = handler == standard || is_number(handler, DEFAULT);
    bool gentle = !raises && is_runners(handler);
    atoll_lock_acquire(&h->lock);
    h->sigint = raises                       ? SIGINT_RAISES
                : is_number(handler, IGNORE) ? SIGINT_IGNORED
                                             : SIGINT_CALLS;
    h->gentle = gentle;
    h->insist_at = 0;
    if (h->sigint == SIGINT_IGNORED) {
        h->interrupt_due = false;
    }
    atoll_lock_release(&h->lock);
}

static PyObject *
set_signal(PyObject *self, PyObject *args)
{
    core_state *state = state_of(self);
    int number;
    PyObject *handler;
    if (!PyArg_ParseTuple(args, "iO:signal", &number, &handler)) {
        return NULL;
    }
    home *h = home_of(self);
    PyObject **slot = h == NULL ? NULL : slot_of(state, number);
    if (slot == NULL) {
        return call_original(self, args); /* which says what is wrong */
    }
    if (!is_number(handler, DEFAULT) && !is_number(handler, IGNORE) &&
        !PyCallable_Check(handler)) {
        PyErr_SetString(PyExc_TypeError,
                        "signal handler must be signal.SIG_IGN, signal.SIG_DFL, or a "
                        "callable object");
        return NULL;
    }
    PyObject *before = handler_of(state, number);
    PyObject *standard = before == NULL ? NULL : signal_get("default_int_handler");
    if (standard == NULL) {
        Py_XDECREF(before);
        return NULL;
    }
    Py_XSETREF(*slot, Py_NewRef(handler));
    if (number == SIGINT) {
        set_action(h, handler, standard);
    }
    Py_DECREF(standard);
    return before;
}

static PyObject *
get_signal(PyObject *self, PyObject *arg)
{
    int number = PyLong_AsInt(arg);
    if (number == -1 && PyErr_Occurred()) {
        return NULL;
    }
    if (number < 1 || number >= NSIG) {
        PyErr_SetString(PyExc_ValueError, "signal number out of range");
        return NULL;
    }
    core_state *state = state_of(self);
    return state == NULL ? Py_NewRef(Py_None) : handler_of(state, number);
}

/* In the home's thread: at once, as in main. */
static PyObject *
raise_here(core_state *state, home *h, int number)
{
    atoll_lock_acquire(&h->lock);
    sigint_action action = h->sigint;
    if (number != SIGINT || action != SIGINT_IGNORED) {
        signal_write_locked(h, number);
    }
    atoll_lock_release(&h->lock);
    int rc = number == SIGINT ? signal_deliver(h)
                              : call_handler(handler_of(state, number), number);
    return rc < 0 ? NULL : Py_NewRef(Py_None);
}

static PyObject *
raise_signal(PyObject *self, PyObject *args)
{
    core_state *state = state_of(self);
    int number;
    if (!PyArg_ParseTuple(args, "i:raise_signal", &number)) {
        return NULL;
    }
    if (state == NULL) {
        return call_original(self, args);
    }
    home *h = home_of_thread(state);
    PyObject **slot = slot_of(state, number);
    if (number == SIGINT && h == NULL) {
        Py_BEGIN_ALLOW_THREADS(void)
        home_interrupt(state->home->self, NULL, false);
        Py_END_ALLOW_THREADS
        Py_RETURN_NONE;
    }
    bool ours = slot != NULL && *slot != NULL && !is_number(*slot, DEFAULT);
    if (number != SIGINT && ours && is_number(*slot, IGNORE)) {
        Py_RETURN_NONE;
    }
    if (h != NULL && (number == SIGINT || ours)) {
        return raise_here(state, h, number);
    }
    return call_original(self, args);
}

static PyObject *
interrupt_main(PyObject *self, PyObject *args)
{
    core_state *state = state_of(self);
    int number = SIGINT;
    if (!PyArg_ParseTuple(args, "|i:interrupt_main", &number)) {
        return NULL;
    }
    if (number != SIGINT || state == NULL) {
        return call_original(self, args);
    }
    PyObject *handler = state->home->handlers[0];
    if (handler == NULL || !is_number(handler, DEFAULT)) {
        Py_BEGIN_ALLOW_THREADS(void)
        home_interrupt(state->home->self, NULL, false);
        Py_END_ALLOW_THREADS
    }
    Py_RETURN_NONE;
}

static PyObject *
set_siginterrupt(PyObject *self, PyObject *args)
{
    int number, flag;
    if (!PyArg_ParseTuple(args, "ii:siginterrupt", &number, &flag)) {
        return NULL;
    }
    core_state *state = state_of(self);
    if (state == NULL || slot_of(state, number) == NULL) {
        return call_original(self, args);
    }
    Py_RETURN_NONE; /* the process's are main's, and are to interrupt its calls */
}

/* 0 if `fd` can be written to by who must not wait, as CPython checks it. */
static int
check_wakeup_fd(int fd)
{
    struct stat status;
    int flags = fstat(fd, &status) < 0 ? -1 : fcntl(fd, F_GETFL);
    if (flags < 0) {
        PyErr_SetFromErrno(PyExc_OSError);
        return -1;
    }
    if ((flags & O_NONBLOCK) == 0) {
        PyErr_Format(PyExc_ValueError, "the fd %i must be in non-blocking mode", fd);
        return -1;
    }
    return 0;
}

/* CPython has one for the process, and it is main's. */
static PyObject *
set_wakeup_fd(PyObject *self, PyObject *args, PyObject *kwargs)
{
    static char *names[] = {"", "warn_on_full_buffer", NULL};
    home *h = home_of(self);
    int fd, warn = 1;
    if (!PyArg_ParseTupleAndKeywords(args, kwargs, "i|$p:set_wakeup_fd", names, &fd,
                                     &warn)) {
        return NULL;
    }
    if (h == NULL) {
        PyErr_SetString(PyExc_ValueError,
                        "set_wakeup_fd only works in main thread of an "
                        "interpreter");
        return NULL;
    }
    if (fd != -1 && check_wakeup_fd(fd) < 0) {
        return NULL;
    }
    atoll_lock_acquire(&h->lock);
    int before = h->wakeup_fd;
    h->wakeup_fd = fd;
    atoll_lock_release(&h->lock);
    return PyLong_FromLong(before);
}

/* sys.unraisablehook: an interrupt that would be lost here comes again. */
static PyObject *
unraisable_hook(PyObject *self, PyObject *args)
{
    home *h = home_of(self);
    PyObject *info = PyTuple_GET_SIZE(args) > 0 ? PyTuple_GET_ITEM(args, 0) : NULL;
    if (h != NULL && h->raised != NULL && info != NULL) {
        PyObject *exc = PyObject_GetAttrString(info, "exc_value");
        bool is = exc != NULL && (const void *)exc == h->raised;
        Py_XDECREF(exc);
        PyErr_Clear();
        if (is) {
            h->raised = NULL;
            home_interrupt_again(h);
            Py_RETURN_NONE;
        }
    }
    return call_original(self, args);
}

static struct {
    const char *module;
    bool copied; /* the module signal has it in a variable of its own */
    PyMethodDef def;
} functions[] = {
    {"_signal",
     false,
     {"signal", set_signal, METH_VARARGS,
      "signal($module, signalnum, handler, /)\n--\n\n"
      "Set the action for SIGINT, which here is what interrupts this interpreter, or\n"
      "SIGTERM, which nothing but raise_signal() brings. Others are main's.\n"
      "Returns the previous action."}},
    {"_signal",
     false,
     {"getsignal", get_signal, METH_O,
      "getsignal($module, signalnum, /)\n--\n\n"
      "Return the current action for a signal in this interpreter: SIG_IGN, SIG_DFL,\n"
      "a callable, or None if it is somebody else's."}},
    {"_signal",
     true,
     {"raise_signal", raise_signal, METH_VARARGS,
      "raise_signal($module, signalnum, /)\n--\n\n"
      "Send a signal to the executing process; SIGINT, and what has a handler of this\n"
      "interpreter's, to this interpreter."}},
    {"_signal",
     true,
     {"siginterrupt", set_siginterrupt, METH_VARARGS,
      "siginterrupt($module, signalnum, flag, /)\n--\n\n"
      "Change system call restart behaviour; of SIGINT and SIGTERM, nothing."}},
    {"_signal",
     true,
     {"set_wakeup_fd", (PyCFunction)(void (*)(void))set_wakeup_fd,
      METH_VARARGS | METH_KEYWORDS,
      "set_wakeup_fd($module, fd, /, *, warn_on_full_buffer=True)\n--\n\n"
      "Set the descriptor to be written to when this interpreter is interrupted.\n"
      "Returns the previous one, or -1."}},
    {"_thread",
     false,
     {"interrupt_main", interrupt_main, METH_VARARGS,
      "interrupt_main($module, signum=signal.SIGINT, /)\n--\n\n"
      "Interrupt this interpreter, in its main thread."}},
    {"sys",
     false,
     {"unraisablehook", unraisable_hook, METH_VARARGS,
      "unraisablehook($module, unraisable, /)\n--\n\n"
      "Handle an unraisable exception."}},
};

/* Put one of these in the place of CPython's own. */
static int
mend_function(core_state *state, size_t index)
{
    const char *name = functions[index].def.ml_name;
    int rc = -1;
    PyObject *pair = NULL, *function = NULL, *copy = NULL;
    PyObject *module = PyImport_ImportModule(functions[index].module);
    PyObject *original = module == NULL ? NULL : PyObject_GetAttrString(module, name);
    PyObject *named = original == NULL ? NULL : PyModule_GetNameObject(module);
    if (named != NULL &&
        (pair = PyTuple_Pack(2, state->home->anchor, original)) != NULL &&
        (function = PyCFunction_NewEx(&functions[index].def, pair, named)) != NULL) {
        rc = PyObject_SetAttrString(module, name, function);
    }
    if (rc == 0 && functions[index].copied &&
        (copy = PyDict_GetItemString(PyImport_GetModuleDict(), "signal")) != NULL) {
        rc = PyObject_SetAttrString(copy, name, function); /* by the code of a site */
    }
    Py_XDECREF(function);
    Py_XDECREF(pair);
    Py_XDECREF(named);
    Py_XDECREF(original);
    Py_XDECREF(module);
    return rc;
}

int
home_mend_signal(core_state *state)
{
    state->home->self->core = state;
    for (size_t i = 0; i < Py_ARRAY_LENGTH(functions); i++) {
        if (mend_function(state, i) < 0) {
            return -1;
        }
    }
    PyObject *hook = PySys_GetObject("unraisablehook"); /* borrowed */
    return hook == NULL ? -1 : PySys_SetObject("__unraisablehook__", hook);
}
