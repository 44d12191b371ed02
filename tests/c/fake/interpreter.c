/* Interpreters, their GILs, their threads and pending calls. See fake/fake.h. */
#include "fake/fake.h"

#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "at_atomic.h"
#include "cpython/runtime.h"
#include "wait/visit.h"

/* As few as this, so that the ring is full now and then. */
#define RING 3

typedef struct fake_gil {
    pthread_mutex_t mutex;
    pthread_cond_t free, taken;
    bool held;         /* guarded by mutex, as all here */
    unsigned waiting;  /* how many threads want it */
    uint64_t switches; /* how often it was taken */
} fake_gil;

struct _is {
    int64_t id;
    fake_gil gil;
    struct _is *next;       /* guarded by head_lock */
    PyThreadState *threads; /* guarded by head_lock */
    pthread_mutex_t pending_lock;
    struct {
        int (*func)(void *);
        void *arg;
    } ring[RING];      /* guarded by pending_lock */
    unsigned pending;  /* likewise */
    bool running_main; /* guarded by the GIL, as the rest */
    void (*exit)(void);
    PyObject *streams[2];
    core_state state;
    bool imported;
};

/* CPython's HEAD_LOCK: the list of interpreters, and the threads of each. */
static pthread_mutex_t head_lock = PTHREAD_MUTEX_INITIALIZER;
static struct _is *all;      /* guarded by head_lock */
static struct _is *main_one; /* constant once begun */
static int64_t next_id;      /* guarded by head_lock */
static uint64_t next_thread; /* likewise */
static unsigned alive;       /* likewise */
static uint32_t failing;     /* atomic */
static uint32_t finalizing;  /* atomic */

static __thread fake_thread_state *current;
static __thread interrupt_place place;

/* --------------------------------------------------------------------- the GIL */

static void
gil_take(fake_gil *gil)
{
    if (fake_locks_held() > 0) {
        fake_fatal("a thread takes a GIL with a lock held");
    }
    pthread_mutex_lock(&gil->mutex);
    gil->waiting++;
    while (gil->held) {
        pthread_cond_wait(&gil->free, &gil->mutex);
    }
    gil->waiting--;
    gil->held = true;
    gil->switches++;
    pthread_cond_broadcast(&gil->taken);
    pthread_mutex_unlock(&gil->mutex);
}

static void
gil_drop(fake_gil *gil)
{
    pthread_mutex_lock(&gil->mutex);
    gil->held = false;
    pthread_cond_signal(&gil->free);
    pthread_mutex_unlock(&gil->mutex);
}

/* Let another thread have it, if one waits, and take it again after that. */
static void
gil_share(fake_gil *gil)
{
    pthread_mutex_lock(&gil->mutex);
    bool wanted = gil->waiting > 0;
    uint64_t before = gil->switches;
    if (wanted) {
        gil->held = false;
        pthread_cond_signal(&gil->free);
        while (gil->switches == before) {
            pthread_cond_wait(&gil->taken, &gil->mutex);
        }
    }
    pthread_mutex_unlock(&gil->mutex);
    if (wanted) {
        gil_take(gil);
    }
}

/* --------------------------------------------------------------- thread states */

static fake_thread_state *
of(PyThreadState *ts)
{
    return (fake_thread_state *)ts;
}

fake_thread_state *
fake_thread_here(void)
{
    if (current == NULL) {
        fake_fatal("no thread state is attached");
    }
    return current;
}

static struct _is *
here(void)
{
    return fake_thread_here()->base.interp;
}

PyThreadState *
PyThreadState_New(PyInterpreterState *interp)
{
    fake_thread_state *ts = calloc(1, sizeof(*ts));
    ts->base.interp = interp;
    pthread_mutex_lock(&head_lock);
    ts->number = ++next_thread;
    ts->base.next = interp->threads;
    if (interp->threads != NULL) {
        interp->threads->prev = &ts->base;
    }
    interp->threads = &ts->base;
    pthread_mutex_unlock(&head_lock);
    return &ts->base;
}

static void
attach(fake_thread_state *ts)
{
    if (current != NULL) {
        fake_fatal("a thread that is attached attaches");
    }
    gil_take(&ts->base.interp->gil);
    current = ts;
    ts->ident = PyThread_get_thread_ident();
}

void
PyEval_RestoreThread(PyThreadState *ts)
{
    attach(of(ts));
}

void
PyEval_AcquireThread(PyThreadState *ts)
{
    attach(of(ts));
}

PyThreadState *
PyEval_SaveThread(void)
{
    fake_thread_state *ts = fake_thread_here();
    current = NULL;
    gil_drop(&ts->base.interp->gil);
    return &ts->base;
}

void
PyThreadState_Clear(PyThreadState *ts)
{
    if (here() != ts->interp) {
        fake_fatal("a thread state is cleared from elsewhere");
    }
    Py_CLEAR(of(ts)->dict);
    Py_CLEAR(of(ts)->raised);
}

static void
unlink_thread(PyThreadState *ts)
{
    pthread_mutex_lock(&head_lock);
    *(ts->prev == NULL ? &ts->interp->threads : &ts->prev->next) = ts->next;
    if (ts->next != NULL) {
        ts->next->prev = ts->prev;
    }
    pthread_mutex_unlock(&head_lock);
}

void
PyThreadState_DeleteCurrent(void)
{
    fake_thread_state *ts = fake_thread_here();
    fake_gil *gil = &ts->base.interp->gil;
    current = NULL;
    unlink_thread(&ts->base);
    free(ts);
    gil_drop(gil);
}

PyThreadState *
PyThreadState_Get(void)
{
    return &fake_thread_here()->base;
}

PyThreadState *
PyThreadState_GetUnchecked(void)
{
    return current == NULL ? NULL : &current->base;
}

PyInterpreterState *
PyThreadState_GetInterpreter(PyThreadState *ts)
{
    return ts->interp;
}

uint64_t
PyThreadState_GetID(PyThreadState *ts)
{
    return of(ts)->number;
}

PyObject *
runtime_thread_dict(PyThreadState *ts)
{
    if (of(ts)->dict == NULL) {
        of(ts)->dict = PyDict_New();
    }
    return of(ts)->dict;
}

PyObject *
PyThreadState_GetDict(void)
{
    return current == NULL ? NULL : runtime_thread_dict(&current->base);
}

unsigned long
PyThread_get_thread_ident(void)
{
    return (unsigned long)pthread_self();
}

/* ------------------------------------------------------------------- the lists */

void
runtime_lock_threads(void)
{
    fake_thread_here();
    pthread_mutex_lock(&head_lock);
}

void
runtime_unlock_threads(void)
{
    pthread_mutex_unlock(&head_lock);
}

PyThreadState *
PyInterpreterState_ThreadHead(PyInterpreterState *interp)
{
    return interp->threads;
}

PyThreadState *
PyThreadState_Next(PyThreadState *ts)
{
    return ts->next;
}

PyInterpreterState *
PyInterpreterState_Get(void)
{
    return here();
}

PyInterpreterState *
PyInterpreterState_Main(void)
{
    return main_one;
}

int64_t
PyInterpreterState_GetID(PyInterpreterState *interp)
{
    return interp->id;
}

static void
unlist(struct _is *interp)
{
    struct _is **link = &all;
    while (*link != NULL && *link != interp) {
        link = &(*link)->next;
    }
    if (*link != NULL) {
        *link = interp->next;
    }
}

void
runtime_order_list(void)
{
}

void
runtime_unlink(PyInterpreterState *interp)
{
    pthread_mutex_lock(&head_lock);
    unlist(interp);
    pthread_mutex_unlock(&head_lock);
}

int
_PyInterpreterState_SetRunningMain(PyInterpreterState *interp)
{
    if (interp->running_main) {
        fake_raise(PyExc_RuntimeError, "interpreter already running");
        return -1;
    }
    interp->running_main = true;
    return 0;
}

void
_PyInterpreterState_SetNotRunningMain(PyInterpreterState *interp)
{
    interp->running_main = false;
}

unsigned
fake_interpreters(void)
{
    pthread_mutex_lock(&head_lock);
    unsigned count = alive;
    pthread_mutex_unlock(&head_lock);
    return count;
}

void
fake_fail_creation(bool fail)
{
    at_store_rlx(&failing, fail); /* orders nothing */
}

/* --------------------------------------------------------------- pending calls */

int
_PyEval_AddPendingCall(PyInterpreterState *interp, int (*func)(void *), void *arg,
                       int Py_UNUSED(flags))
{
    pthread_mutex_lock(&interp->pending_lock);
    bool full = interp->pending == RING;
    if (!full) {
        interp->ring[interp->pending].func = func;
        interp->ring[interp->pending++].arg = arg;
    }
    pthread_mutex_unlock(&interp->pending_lock);
    return full ? -1 : 0;
}

/* Run the oldest one. 1; 0: there was none; -1 with an exception. */
static int
run_pending(struct _is *interp)
{
    int (*func)(void *) = NULL;
    void *arg = NULL;
    pthread_mutex_lock(&interp->pending_lock);
    if (interp->pending > 0) {
        func = interp->ring[0].func;
        arg = interp->ring[0].arg;
        interp->pending--;
        memmove(interp->ring, interp->ring + 1,
                interp->pending * sizeof(*interp->ring));
    }
    pthread_mutex_unlock(&interp->pending_lock);
    return func == NULL ? 0 : func(arg) == 0 ? 1 : -1;
}

bool
fake_look(void)
{
    fake_thread_state *ts = fake_thread_here();
    struct _is *interp = ts->base.interp;
    gil_share(&interp->gil);
    /* Those that come meanwhile come the next time. Of main's only its thread. */
    for (int i = 0; i < RING && interp != main_one; i++) {
        int rc = run_pending(interp);
        if (rc < 0) {
            return true;
        }
        if (rc == 0) {
            break;
        }
    }
    if (ts->sent || ts->ended) {
        PyObject *type = ts->ended ? PyExc_SystemExit : PyExc_KeyboardInterrupt;
        ts->sent = ts->ended = false;
        fake_raise(type, "sent from elsewhere");
        return true;
    }
    return false;
}

int
PyThreadState_SetAsyncExc(unsigned long ident, PyObject *exc)
{
    struct _is *interp = here();
    int found = 0;
    pthread_mutex_lock(&head_lock);
    for (PyThreadState *ts = interp->threads; ts != NULL; ts = ts->next) {
        if (of(ts)->ident == ident) {
            of(ts)->sent = exc != NULL;
            found++;
        }
    }
    pthread_mutex_unlock(&head_lock);
    return found;
}

interrupt_place
interrupt_find_place(void)
{
    return place;
}

void
fake_set_place(interrupt_place where)
{
    place = where;
}

/* ------------------------------------------------------------- birth and death */

static struct _is *
new_interpreter(void)
{
    struct _is *interp = calloc(1, sizeof(*interp));
    pthread_mutex_init(&interp->gil.mutex, NULL);
    pthread_cond_init(&interp->gil.free, NULL);
    pthread_cond_init(&interp->gil.taken, NULL);
    pthread_mutex_init(&interp->pending_lock, NULL);
    pthread_mutex_lock(&head_lock);
    interp->id = next_id++;
    interp->next = all;
    all = interp;
    alive += interp->id > 0;
    pthread_mutex_unlock(&head_lock);
    return interp;
}

PyStatus
Py_NewInterpreterFromConfig(PyThreadState **out, const PyInterpreterConfig *config)
{
    PyStatus status = {0};
    (void)config;
    if (at_load_rlx(&failing)) { /* orders nothing */
        status._type = _PyStatus_TYPE_ERROR;
        status.err_msg = "none today";
        return status;
    }
    *out = PyThreadState_New(new_interpreter());
    attach(of(*out));
    return status;
}

int
PyStatus_Exception(PyStatus status)
{
    return status._type != _PyStatus_TYPE_OK;
}

void
Py_EndInterpreter(PyThreadState *ts)
{
    struct _is *interp = ts->interp;
    pthread_mutex_lock(&head_lock);
    bool alone = interp->threads == ts && ts->next == NULL;
    pthread_mutex_unlock(&head_lock);
    if (current != of(ts) || !alone) {
        fake_fatal("Py_EndInterpreter: not the last thread");
    }
    while (run_pending(interp) != 0) {
        PyErr_Clear();
    }
    Py_CLEAR(interp->streams[0]);
    Py_CLEAR(interp->streams[1]);
    PyThreadState_Clear(ts); /* in CPython after the module, before the memory */
    if (interp->imported) {
        fake_module_end(&interp->state);
    }
    if (interp->pending > 0) {
        fake_fatal("a pending call comes after the end");
    }
    pthread_mutex_lock(&head_lock);
    unlist(interp);
    alive--;
    pthread_mutex_unlock(&head_lock);
    current = NULL;
    gil_drop(&interp->gil);
    pthread_mutex_destroy(&interp->gil.mutex);
    pthread_cond_destroy(&interp->gil.free);
    pthread_cond_destroy(&interp->gil.taken);
    pthread_mutex_destroy(&interp->pending_lock);
    free(ts);
    free(interp);
}

core_state *
core_state_import(void)
{
    struct _is *interp = here();
    if (!interp->imported) {
        interp->imported = true;
        fake_module_begin(&interp->state, interp->id, interp == main_one);
    }
    return &interp->state;
}

core_state *
fake_state(void)
{
    return &here()->state;
}

PyObject **
fake_streams(void)
{
    return here()->streams;
}

void
fake_begin(void)
{
    fake_objects_begin();
    main_one = new_interpreter();
    attach(of(PyThreadState_New(main_one)));
    core_state_import();
    output_main_ready();
}

void
fake_exit(void)
{
    core_state *state = fake_state();
    Py_BEGIN_ALLOW_THREADS
    spare_end();
    Py_END_ALLOW_THREADS
    if (home_shutdown_all(state) < 0) {
        PyErr_Clear();
    }
    Py_BEGIN_ALLOW_THREADS
    atoll_timers_end();
    Py_END_ALLOW_THREADS
    output_shutdown(state);
    service_stop();
    visit_close(state);
    at_store_rlx(&finalizing, 1); /* orders nothing */
}

int
Py_IsFinalizing(void)
{
    return at_load_rlx(&finalizing) != 0; /* orders nothing */
}

/* ------------------------------------------------------------ Python's threads */

void
fake_attach_main(void)
{
    PyEval_RestoreThread(PyThreadState_New(main_one));
}

void
fake_detach(void)
{
    PyThreadState_Clear(&fake_thread_here()->base);
    PyThreadState_DeleteCurrent();
}

void
fake_sleep(int64_t ns)
{
    const struct timespec time = {ns / 1000000000, ns % 1000000000};
    Py_BEGIN_ALLOW_THREADS
    nanosleep(&time, NULL);
    Py_END_ALLOW_THREADS
}

typedef struct fake_thread {
    PyThreadState *ts;
    fake_code code;
    void *arg;
} fake_thread;

static void *
thread_main(void *arg)
{
    fake_thread thread = *(fake_thread *)arg;
    free(arg);
    PyEval_RestoreThread(thread.ts);
    PyObject *result = thread.code(thread.arg);
    Py_XDECREF(result);
    PyErr_Clear();
    fake_detach();
    return NULL;
}

void
fake_thread_start(fake_code code, void *arg, bool daemon)
{
    pthread_t id;
    fake_thread *thread = malloc(sizeof(*thread));
    *thread = (fake_thread){PyThreadState_New(here()), code, arg};
    of(thread->ts)->kind = daemon ? FAKE_DAEMON : FAKE_PLAIN;
    if (pthread_create(&id, NULL, thread_main, thread) != 0) {
        fake_fatal("no thread");
    }
    pthread_detach(id);
}

unsigned
fake_count_threads(fake_thread_kind kind)
{
    struct _is *interp = here();
    unsigned count = 0;
    pthread_mutex_lock(&head_lock);
    for (PyThreadState *ts = interp->threads; ts != NULL; ts = ts->next) {
        count += ts != &current->base && of(ts)->kind == kind;
    }
    pthread_mutex_unlock(&head_lock);
    return count;
}

void
fake_end_daemons(void)
{
    struct _is *interp = here();
    pthread_mutex_lock(&head_lock);
    for (PyThreadState *ts = interp->threads; ts != NULL; ts = ts->next) {
        of(ts)->ended |= of(ts)->kind == FAKE_DAEMON;
    }
    pthread_mutex_unlock(&head_lock);
}

void
fake_at_exit(void (*handler)(void))
{
    here()->exit = handler;
}

void
fake_run_exit_handler(void)
{
    void (*handler)(void) = here()->exit;
    here()->exit = NULL;
    if (handler != NULL) {
        handler();
    }
}

/* --------------------------------------------------------------------- signals */

int
PySignal_SetWakeupFd(int fd)
{
    static int now = -1; /* guarded by main's GIL */
    int before = now;
    now = fd;
    return before;
}
