/* Lines on their way from interpreters to main's streams. See output/output.h. */
#include <string.h>

#include "output/output.h"
#include "wait/wait.h"

/* As a home's: main's streams and logging handlers are anybody's code. */
#define STACK_BYTES ((size_t)8 << 20)

/* Lines of one stream are written together, up to about this much. */
#define BATCH_BYTES ((size_t)64 << 10)

/* While more than this waits to be written, who prints is held up, a moment
 * for each line: a loop that prints faster than main's stdout takes it must
 * not fill the memory. Only a moment, so nothing can be locked up by it. */
#define FULL_BYTES ((size_t)16 << 20)
#define BRAKE_NS INT64_C(100000000)

/* Who reads from the terminal waits so long for what was printed before: main may be
 * in a long call of C code. */
#define WRITTEN_NS INT64_C(1000000000)

/* Our thread lets what was printed lie for so long, unless there is much of it:
 * a caller in main whose job ends writes it itself, which is cheaper than two
 * threads that fight for main's GIL, and many lines are written at once. */
#define PAUSE_NS INT64_C(1000000)

/* How long the end of the process waits for our thread, which may be held up
 * in somebody's write(). */
#define EXIT_GRACE_NS INT64_C(1000000000)

/* A writer that is held up until piece `seq` is written. */
typedef struct brake {
    atoll_event released;
    uint64_t seq;
    struct brake *next;
} brake;

/* The list of the process. Pieces are taken off it by main alone. */
static struct {
    atoll_lock lock;
    piece *first, *last;    /* guarded by lock */
    size_t bytes;           /* guarded by lock: of all pieces */
    uint64_t sent, written; /* guarded by lock: numbers of pieces */
    brake *brakes;          /* guarded by lock */
    atoll_event *sleeper;   /* guarded by lock: our thread waits for it */
    atoll_event *pause;     /* guarded by lock: it does so for a moment */
    bool running;           /* guarded by lock: our thread exists */
    bool closed;            /* guarded by lock: what comes is dropped */
    bool main_ready;        /* guarded by lock: main has imported atoll */
    atoll_thread thread;    /* written by our thread before `ended` is set */
    atoll_event ended;      /* our thread has */
} list;

/* ---------------------------------------------------------- our own thread */

static int output_drain(core_state *state, uint64_t upto, bool live);

/* Write out what there is. Attached to main. */
static void
output_write_all(uint64_t upto)
{
    core_state *state = core_state_import();
    atoll_lock_acquire(&list.lock);
    uint64_t before = list.written;
    atoll_lock_release(&list.lock);
    if (state != NULL && output_drain(state, upto, true) == 0) {
        return;
    }
    PyErr_WriteUnraisable(NULL);
    atoll_lock_acquire(&list.lock);
    piece *lost = NULL;
    if (list.written == before && list.first != NULL) {
        /* Main cannot even begin, so it must not be asked again. */
        lost = list.first;
        list.first = lost->next;
        list.last = list.first == NULL ? NULL : list.last;
        list.bytes -= lost->size;
        list.written = lost->seq;
    }
    atoll_lock_release(&list.lock);
    atoll_free(lost);
}

/* Wait until there is something to write. Returns up to which piece, or 0 when
 * the process ends. */
static uint64_t
wait_for_pieces(atoll_spin *spin)
{
    atoll_event sleep = {0}, pause = {0};
    atoll_lock_acquire(&list.lock);
    if (list.first == NULL && !list.closed) {
        list.sleeper = &sleep;
        atoll_lock_release(&list.lock);
        atoll_wait forever = {.deadline = ATOLL_FOREVER, .spin = spin};
        atoll_err err = atoll_event_wait(&sleep, &forever);
        (void)err; /* there is nobody to interrupt it */
        atoll_lock_acquire(&list.lock);
    }
    if (!list.closed && list.bytes < BATCH_BYTES) {
        list.pause = &pause;
        atoll_lock_release(&list.lock);
        atoll_wait moment = {.deadline = atoll_now() + PAUSE_NS, .spin = spin};
        atoll_err err = atoll_event_wait(&pause, &moment);
        (void)err; /* over in any case */
        atoll_lock_acquire(&list.lock);
        list.pause = NULL;
    }
    uint64_t upto = list.closed ? 0 : list.sent;
    atoll_lock_release(&list.lock);
    return upto;
}

/* Is anything left to write? */
static bool
is_behind(uint64_t upto)
{
    atoll_lock_acquire(&list.lock);
    bool behind = list.written < upto;
    atoll_lock_release(&list.lock);
    return behind;
}

static void *
thread_main(void *Py_UNUSED(arg))
{
    atoll_spin spin = {0};
    list.thread = atoll_thread_self();
    atoll_thread_name(list.thread, "atoll-output");
    for (;;) {
        uint64_t upto = wait_for_pieces(&spin);
        if (upto == 0 || Py_IsFinalizing()) {
            break;
        }
        if (!is_behind(upto)) {
            continue; /* somebody else has written it */
        }
        PyThreadState *ts = PyThreadState_New(PyInterpreterState_Main());
        if (ts == NULL) {
            break; /* out of memory: callers write for themselves */
        }
        PyEval_AcquireThread(ts);
        output_write_all(upto);
        PyThreadState_Clear(ts);
        PyThreadState_DeleteCurrent();
    }
    atoll_event_set(&list.ended);
    return NULL;
}

/* Called when a piece has come and nobody was there. Nothing is lost if there
 * is no thread to be had: callers in main write what they find. */
static void
start_thread(void)
{
    atoll_thread thread; /* the thread itself keeps it */
    if (atoll_thread_start(STACK_BYTES, thread_main, NULL, &thread) != ATOLL_OK) {
        atoll_lock_acquire(&list.lock);
        list.running = false;
        atoll_lock_release(&list.lock);
    }
}

/* ------------------------------------------------------------------ pieces */

piece *
output_piece(output_kind kind, bool binary, size_t size)
{
    piece *p = atoll_alloc(sizeof(piece) + size);
    if (p != NULL) {
        *p = (piece){.size = size, .kind = kind, .binary = binary};
    }
    return p;
}

uint64_t
output_send(const output_source *source, piece *p)
{
    p->interp = source->id;
    atoll_lock_acquire(&list.lock);
    bool closed = list.closed;
    uint64_t seq = 0;
    atoll_event *wake = NULL;
    bool start = false;
    if (!closed) {
        seq = p->seq = ++list.sent;
        *(list.last == NULL ? &list.first : &list.last->next) = p;
        list.last = p;
        list.bytes += p->size;
        wake = list.sleeper;
        list.sleeper = NULL;
        if (list.pause != NULL && list.bytes >= BATCH_BYTES) {
            atoll_event_set(list.pause); /* with the lock: it is on a stack */
            list.pause = NULL;
        }
        start = list.main_ready && !list.running;
        list.running = list.running || start;
    }
    atoll_lock_release(&list.lock);
    if (closed) {
        atoll_free(p);
    }
    if (wake != NULL) {
        atoll_event_set(wake);
    }
    if (start) {
        start_thread();
    }
    return seq;
}

/* Before that our thread must not attach to main: it would run the pending call
 * that imports atoll there (module/module.c), while main goes on, and perhaps ends
 * before the import has registered what is to be done at exit. */
void
output_main_ready(void)
{
    atoll_lock_acquire(&list.lock);
    bool start = list.first != NULL && !list.running && !list.closed;
    list.main_ready = true;
    list.running = list.running || start;
    atoll_lock_release(&list.lock);
    if (start) {
        start_thread();
    }
}

static atoll_err
wait_released(void *arg, const atoll_wait *wait)
{
    return atoll_event_wait(&((brake *)arg)->released, wait);
}

/* Somebody writes what is sent. Called with the lock held. */
static bool
is_served_locked(void)
{
    return !list.closed && list.running && !atoll_event_is_set(&list.ended);
}

/* Put `b` among the brakes. Called with the lock held. */
static void
add_brake_locked(brake *b)
{
    b->next = list.brakes;
    list.brakes = b;
}

/* Wait until `b` is released, and no longer than `limit` nanoseconds. -1 with an
 * exception. */
static int
wait_brake(core_state *state, brake *b, int64_t limit)
{
    atoll_err err;
    int rc = detach_wait_one(state, wait_released, b, atoll_now() + limit, NULL,
                             &wait_output, NULL, &err);
    atoll_lock_acquire(&list.lock);
    brake **link = &list.brakes;
    while (*link != NULL && *link != b) {
        link = &(*link)->next;
    }
    if (*link == b) {
        *link = b->next;
    }
    atoll_lock_release(&list.lock);
    return rc;
}

int
output_hold_up(core_state *state)
{
    brake b = {.seq = 0};
    atoll_lock_acquire(&list.lock);
    /* Nobody makes room during a job if our thread could not be had. */
    bool full = list.bytes > FULL_BYTES && is_served_locked();
    if (full) {
        b.seq = list.written + (list.sent - list.written + 1) / 2;
        add_brake_locked(&b);
    }
    atoll_lock_release(&list.lock);
    return full ? wait_brake(state, &b, BRAKE_NS) : 0;
}

int
output_wait_written(core_state *state, uint64_t last)
{
    brake b = {.seq = last};
    atoll_lock_acquire(&list.lock);
    bool behind = list.written < last && is_served_locked();
    if (behind) {
        add_brake_locked(&b);
        if (list.pause != NULL) {
            atoll_event_set(list.pause); /* with the lock: it is on a stack */
            list.pause = NULL;
        }
    }
    atoll_lock_release(&list.lock);
    return behind ? wait_brake(state, &b, WRITTEN_NS) : 0;
}

/* Release who waits for pieces up to `upto`. Called with the lock held, so
 * that none of them can leave before its event is set. */
static void
release_brakes_locked(uint64_t upto)
{
    brake **link = &list.brakes;
    while (*link != NULL) {
        brake *b = *link;
        if (b->seq <= upto) {
            *link = b->next;
            atoll_event_set(&b->released);
        }
        else {
            link = &b->next;
        }
    }
}

/* Take pieces up to number `upto` off the list. */
static void
drop_pieces(uint64_t upto)
{
    atoll_lock_acquire(&list.lock);
    piece *old = list.first, **link = &list.first;
    while (*link != NULL && (*link)->seq <= upto) {
        list.bytes -= (*link)->size;
        list.written = (*link)->seq;
        link = &(*link)->next;
    }
    piece *rest = *link;
    *link = NULL;
    old = rest == old ? NULL : old;
    list.first = rest;
    list.last = rest == NULL ? NULL : list.last;
    release_brakes_locked(list.written);
    atoll_lock_release(&list.lock);
    while (old != NULL) {
        piece *next = old->next;
        atoll_free(old);
        old = next;
    }
}

/* ----------------------------------------------------------------- in main */

static int
output_drain(core_state *state, uint64_t upto, bool live)
{
    PyObject *function = package_keep(&state->output->drain, PACKAGE_OUTPUT, "drain");
    PyObject *done =
        function == NULL
            ? NULL
            : PyObject_CallFunction(function, "KO", (unsigned long long)upto,
                                    live ? Py_True : Py_False);
    Py_XDECREF(done);
    return done == NULL ? -1 : 0;
}

int
output_catch_up(core_state *state, uint64_t last)
{
    if (last <= state->output->caught_up) {
        return 0; /* the usual case: nothing was printed */
    }
    if (!state->is_main) {
        output_source *source = state->output->source;
        if (source != NULL && last > source->printed) {
            source->printed = last;
        }
        return 0;
    }
    /* Even if our thread was faster: it may have met a broken pipe. */
    if (output_drain(state, last, false) < 0) {
        return -1;
    }
    if (last > state->output->caught_up && !is_behind(last)) {
        state->output->caught_up = last;
    }
    return 0;
}

void
output_shutdown(core_state *state)
{
    sink_send_all();
    atoll_lock_acquire(&list.lock);
    uint64_t last = list.sent;
    atoll_lock_release(&list.lock);
    if (is_behind(last) && output_drain(state, last, true) < 0) {
        PyErr_WriteUnraisable(NULL);
    }
    atoll_lock_acquire(&list.lock);
    list.closed = true;
    bool running = list.running;
    atoll_event *wake = list.sleeper;
    list.sleeper = NULL;
    if (list.pause != NULL) {
        atoll_event_set(list.pause);
        list.pause = NULL;
    }
    release_brakes_locked(UINT64_MAX);
    atoll_lock_release(&list.lock);
    if (wake != NULL) {
        atoll_event_set(wake);
    }
    if (running) {
        Py_BEGIN_ALLOW_THREADS
        atoll_wait wait = {.deadline = atoll_now() + EXIT_GRACE_NS};
        if (atoll_event_wait(&list.ended, &wait) == ATOLL_OK) {
            atoll_thread_join(list.thread);
        }
        Py_END_ALLOW_THREADS
    }
}

PyDoc_STRVAR(peek_doc,
"_peek_output(upto, /)\n--\n\n"
"What is to be written next, up to piece `upto`, as (number of the last piece,\n"
"kind, interpreter, flush, str or bytes), or None. It stays until it is\n"
"dropped.");

static PyObject *
core_peek(PyObject *Py_UNUSED(module), PyObject *arg)
{
    uint64_t upto = PyLong_AsUnsignedLongLong(arg);
    if (upto == UINT64_MAX && PyErr_Occurred()) {
        return NULL;
    }
    /* Only main takes pieces off, and we have its GIL. */
    atoll_lock_acquire(&list.lock);
    piece *first = list.first, *last = first;
    size_t size = 0;
    if (first == NULL || first->seq > upto) {
        atoll_lock_release(&list.lock);
        Py_RETURN_NONE;
    }
    for (size = first->size;
         first->kind < OUTPUT_RECORD && !last->flush && last->next != NULL &&
         last->next->seq <= upto && last->next->kind == first->kind &&
         last->next->binary == first->binary && size + last->next->size <= BATCH_BYTES;
         size += last->size) {
        last = last->next;
    }
    atoll_lock_release(&list.lock);
    PyObject *data = PyBytes_FromStringAndSize(NULL, (Py_ssize_t)size);
    if (data == NULL) {
        return NULL;
    }
    char *to = PyBytes_AS_STRING(data);
    for (piece *p = first;; p = p->next) {
        memcpy(to, p->data, p->size);
        to += p->size;
        if (p == last) {
            break;
        }
    }
    if (!first->binary) {
        Py_SETREF(data, PyUnicode_DecodeUTF8(PyBytes_AS_STRING(data), (Py_ssize_t)size,
                                             "surrogatepass"));
        if (data == NULL) {
            return NULL;
        }
    }
    return Py_BuildValue("KiLON", (unsigned long long)last->seq, (int)first->kind,
                         (long long)first->interp, last->flush ? Py_True : Py_False,
                         data);
}

PyDoc_STRVAR(drop_doc,
"_drop_output(upto, /)\n--\n\nPieces up to number `upto` have been dealt with.");

static PyObject *
core_drop(PyObject *Py_UNUSED(module), PyObject *arg)
{
    uint64_t upto = PyLong_AsUnsignedLongLong(arg);
    if (upto == UINT64_MAX && PyErr_Occurred()) {
        return NULL;
    }
    drop_pieces(upto);
    Py_RETURN_NONE;
}

PyDoc_STRVAR(report_doc,
"_report(exc, message, /)\n--\n\n"
"Hand an exception that has nowhere to go to sys.unraisablehook.");

static PyObject *
core_report(PyObject *Py_UNUSED(module), PyObject *args)
{
    PyObject *exc, *message;
    if (!PyArg_ParseTuple(args, "OU:_report", &exc, &message)) {
        return NULL;
    }
    PyErr_SetRaisedException(Py_NewRef(exc));
    PyErr_FormatUnraisable("%U", message);
    Py_RETURN_NONE;
}

/* Before main forks: wait until what writes for interpreters has been imported and
 * rests. The child would find the lock of a module or of a stream held by a thread that
 * it does not have. */
static PyObject *
output_before_fork(PyObject *Py_UNUSED(none), PyObject *Py_UNUSED(ignored))
{
    atoll_lock_acquire(&list.lock);
    bool begun = list.running;
    atoll_lock_release(&list.lock);
    core_state *state = core_state_import();
    if (state == NULL) {
        return NULL;
    }
    if (!begun && state->output->drain == NULL) {
        Py_RETURN_NONE;
    }
    return package_call(PACKAGE_OUTPUT, "before_fork", "()");
}

/* Bound to no module, which would live as long as the list of what is called. */
static PyMethodDef before_fork_def = {"_output_before_fork", output_before_fork,
                                      METH_NOARGS, NULL};

int
output_watch_forks(void)
{
    PyObject *before = PyCFunction_New(&before_fork_def, NULL);
    PyObject *posix = before == NULL ? NULL : PyImport_ImportModule("posix");
    PyObject *function =
        posix == NULL ? NULL : PyObject_GetAttrString(posix, "register_at_fork");
    PyObject *none = function == NULL ? NULL : PyTuple_New(0);
    PyObject *keywords = none == NULL ? NULL : Py_BuildValue("{s:O}", "before", before);
    PyObject *done = keywords == NULL ? NULL : PyObject_Call(function, none, keywords);
    Py_XDECREF(done);
    Py_XDECREF(keywords);
    Py_XDECREF(none);
    Py_XDECREF(function);
    Py_XDECREF(posix);
    Py_XDECREF(before);
    return done == NULL ? -1 : 0;
}

PyMethodDef output_functions[] = {
    {"_peek_output", core_peek, METH_O, peek_doc},
    {"_drop_output", core_drop, METH_O, drop_doc},
    {"_report", core_report, METH_VARARGS, report_doc},
    {NULL, NULL, 0, NULL},
};

/* --------------------------------------------------------------------- fork */

void
output_fork_prepare(void)
{
    sink_fork_prepare();
    atoll_lock_acquire(&list.lock);
}

void
output_fork_parent(void)
{
    atoll_lock_release(&list.lock);
    sink_fork_parent();
}

void
output_fork_child(void)
{
    /* The parent writes its own. What was waiting is lost memory. */
    uint64_t sent = list.sent;
    bool closed = list.closed;
    memset(&list, 0, sizeof(list));
    list.sent = list.written = sent;
    list.closed = closed;
    sink_fork_child();
}

/* --------------------------------------------------------------------- waits */

static void
output_describe_output(const void *object, char *text, size_t size)
{
    (void)object;
    snprintf(text, size, "what has been printed to be written out");
}

const wait_type wait_output = {output_describe_output, NULL, false};
