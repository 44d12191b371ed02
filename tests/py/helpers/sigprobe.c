/* An extension module that handles signals as libraries do (libuv), for
 * test_isolate_signals.py: with static data, sigaction and signal, and children. */
#define _GNU_SOURCE
#include <Python.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <unistd.h>

static volatile sig_atomic_t counts[NSIG];
static volatile pid_t sender;
static volatile int blocked; /* in the handler: SIGUSR2, and the signal itself */
static int said[2] = {-1, -1};
static volatile int hold = -1; /* the handler waits for a byte from it */
static struct sigaction olds[NSIG];

static void
note(int signum)
{
    sigset_t mask;
    int kept = errno;
    pthread_sigmask(SIG_SETMASK, NULL, &mask);
    blocked =
        (sigismember(&mask, SIGUSR2) ? 1 : 0) + (sigismember(&mask, signum) ? 2 : 0);
    __atomic_fetch_add(&counts[signum], 1, __ATOMIC_RELAXED);
    if (said[1] >= 0) {
        (void)!write(said[1], "s", 1);
    }
    char byte;
    while (hold >= 0 && read(hold, &byte, 1) < 0 && errno == EINTR) {
    }
    errno = kept;
}

static void
note_info(int signum, siginfo_t *info, void *context)
{
    (void)context;
    sender = info->si_pid;
    note(signum);
}

/* And then, as some do, what was there before. */
static void
note_chain(int signum, siginfo_t *info, void *context)
{
    note_info(signum, info, context);
    if ((olds[signum].sa_flags & SA_SIGINFO) != 0) {
        olds[signum].sa_sigaction(signum, info, context);
    }
}

static PyObject *
answer(int rc, const struct sigaction *old)
{
    if (rc < 0) {
        return PyErr_SetFromErrno(PyExc_OSError);
    }
    return Py_BuildValue("Ki", (unsigned long long)(uintptr_t)old->sa_handler,
                         old->sa_flags & ~0x04000000 /* SA_RESTORER */);
}

/* handle(signum, flags, chain=0, block=0): what was there, (address, flags) */
static PyObject *
handle(PyObject *self, PyObject *args)
{
    int signum, flags, chain = 0, block = 0;
    if (!PyArg_ParseTuple(args, "ii|ii", &signum, &flags, &chain, &block)) {
        return NULL;
    }
    struct sigaction action = {.sa_flags = flags};
    sigemptyset(&action.sa_mask);
    if (block) {
        sigaddset(&action.sa_mask, SIGUSR2);
    }
    if (flags & SA_SIGINFO) {
        action.sa_sigaction = chain ? note_chain : note_info;
    }
    else {
        action.sa_handler = note;
    }
    int rc = sigaction(signum, &action, &olds[signum]);
    return answer(rc, &olds[signum]);
}

/* simply(signum, what): 0, 1: SIG_DFL, SIG_IGN by signal(); 2: the handler;
 * 3: by sigaction, what was there before */
static PyObject *
simply(PyObject *self, PyObject *args)
{
    int signum, what;
    if (!PyArg_ParseTuple(args, "ii", &signum, &what)) {
        return NULL;
    }
    struct sigaction old = {0};
    int rc = 0;
    if (what == 3) {
        rc = sigaction(signum, &olds[signum], &old);
    }
    else {
        old.sa_handler = signal(signum, what == 0   ? SIG_DFL
                                        : what == 1 ? SIG_IGN
                                                    : note);
        rc = old.sa_handler == SIG_ERR ? -1 : 0;
    }
    return answer(rc, &old);
}

static PyObject *
query(PyObject *self, PyObject *arg)
{
    struct sigaction old;
    return answer(sigaction(PyLong_AsInt(arg), NULL, &old), &old);
}

static PyObject *
count(PyObject *self, PyObject *arg)
{
    return PyLong_FromLong(counts[PyLong_AsInt(arg)]);
}

static PyObject *
facts(PyObject *self, PyObject *Py_UNUSED(ignored))
{
    return Py_BuildValue("iiK", (int)sender, (int)blocked,
                         (unsigned long long)(uintptr_t)note);
}

/* A descriptor that gets a byte for each signal. */
static PyObject *
said_fd(PyObject *self, PyObject *Py_UNUSED(ignored))
{
    if (said[0] < 0 && pipe2(said, O_CLOEXEC | O_NONBLOCK) < 0) {
        return PyErr_SetFromErrno(PyExc_OSError);
    }
    return PyLong_FromLong(said[0]);
}

static PyObject *
hold_on(PyObject *self, PyObject *fd)
{
    hold = PyLong_AsInt(fd);
    Py_RETURN_NONE;
}

/* In this thread, without the GIL. */
static PyObject *
take(PyObject *self, PyObject *signum)
{
    int number = PyLong_AsInt(signum);
    Py_BEGIN_ALLOW_THREADS
    raise(number);
    Py_END_ALLOW_THREADS
    Py_RETURN_NONE;
}

/* As uvloop does: what is to be done in the child, if this process is about to
 * start a program. */
void (*volatile __forkHandler)(void);
static volatile int hooked;

static void
in_child(void)
{
    if (__forkHandler != NULL) {
        __forkHandler();
    }
}

static void
hooked_up(void)
{
    hooked = 1;
}

static PyObject *
hook(PyObject *self, PyObject *Py_UNUSED(ignored))
{
    __forkHandler = hooked_up;
    return PyLong_FromLong(pthread_atfork(NULL, NULL, in_child));
}

/* child(reset, signum, fd): a child that resets all signals if it is to, waits
 * for the end of the pipe `fd` if that is one, raises the signal and exits with 7, or
 * 8, 9, 10: signal() failed, the handler ran, the hook was called. Its process
 * id. */
static PyObject *
child(PyObject *self, PyObject *args)
{
    int reset, signum, fd;
    if (!PyArg_ParseTuple(args, "iii", &reset, &signum, &fd)) {
        return NULL;
    }
    pid_t pid = fork();
    if (pid == 0) {
        int wrong = 0;
        char byte;
        for (int n = 1; reset && n < 32; n++) {
            wrong |= n != SIGKILL && n != SIGSTOP && signal(n, SIG_DFL) == SIG_ERR;
        }
        while (fd >= 0 && read(fd, &byte, 1) < 0 && errno == EINTR) {
        }
        if (signum > 0) {
            raise(signum);
        }
        _exit(wrong ? 8 : counts[signum] > 0 ? 9 : hooked ? 10 : 7);
    }
    return PyLong_FromLong(pid);
}

static PyMethodDef functions[] = {
    {"handle", handle, METH_VARARGS, NULL},
    {"simply", simply, METH_VARARGS, NULL},
    {"query", query, METH_O, NULL},
    {"count", count, METH_O, NULL},
    {"facts", facts, METH_NOARGS, NULL},
    {"said_fd", said_fd, METH_NOARGS, NULL},
    {"hold_on", hold_on, METH_O, NULL},
    {"take", take, METH_O, NULL},
    {"hook", hook, METH_NOARGS, NULL},
    {"child", child, METH_VARARGS, NULL},
    {NULL, NULL, 0, NULL},
};

static PyModuleDef definition = {
    PyModuleDef_HEAD_INIT,
    .m_name = "sigprobe",
    .m_size = -1,
    .m_methods = functions,
};

PyMODINIT_FUNC
PyInit_sigprobe(void)
{
    return PyModule_Create(&definition);
}
