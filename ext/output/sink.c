/* Where the streams of an interpreter lead to: text is collected per thread until
 * a line is complete, then sent. See output/output.h. */
#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif

#include <string.h>

#include "output/output.h"
#include "wait/wait.h"

/* --------------------------------------------------------- a thread's lines */

/* stdout and stderr, the first of the kinds, have lines. */
#define LINES 2

/* The beginning of a line. */
typedef struct line {
    char *data;
    size_t size, room;
    bool binary;
    bool unflushed; /* something was sent since the last flush */
} line;

/* What one thread of an interpreter has begun. The thread's dict has it, and
 * sends what is left when the thread ends. */
typedef struct buffer {
    atoll_lock lock;
    line lines[LINES];             /* guarded by lock */
    output_source *source;         /* counted */
    uint64_t thread;               /* constant: of PyThreadState_GetID */
    struct buffer *next;           /* in core_state.buffers; guarded by its GIL */
    struct buffer **link;          /* NULL: not in it (any more) */
    struct buffer *before, *after; /* guarded by buffers_lock */
} buffer;

static atoll_lock buffers_lock;
static buffer *buffers; /* guarded by buffers_lock: all of the process */

static const char buffer_key[] = "atoll output";

/* Note that `seq` (0: none) was sent by the source, whose GIL is held. */
static void
sink_note(output_source *source, uint64_t seq)
{
    if (seq != 0) {
        source->printed = seq;
    }
}

/* Send the beginning of a line, if there is one; returns its number or 0.
 * Called with the buffer's lock held. Without memory it stays. */
static uint64_t
send_rest_locked(buffer *b, output_kind kind, bool flush)
{
    line *l = &b->lines[kind];
    if (l->size == 0 && !(flush && l->unflushed)) {
        return 0;
    }
    piece *p = output_piece(kind, l->binary, l->size);
    if (p == NULL) {
        return 0;
    }
    if (l->size > 0) {
        memcpy(p->data, l->data, l->size);
    }
    l->size = 0;
    l->unflushed = !flush;
    p->flush = flush;
    return output_send(b->source, p);
}

static void
unlink_here(buffer *b)
{
    if (b->link != NULL) {
        *b->link = b->next;
        if (b->next != NULL) {
            b->next->link = b->link;
        }
        b->link = NULL;
    }
}

/* The thread ends. */
static void
buffer_end(PyObject *capsule)
{
    buffer *b = PyCapsule_GetPointer(capsule, buffer_key);
    unlink_here(b);
    atoll_lock_acquire(&buffers_lock);
    *(b->before == NULL ? &buffers : &b->before->after) = b->after;
    if (b->after != NULL) {
        b->after->before = b->before;
    }
    atoll_lock_release(&buffers_lock);
    for (output_kind kind = 0; kind < LINES; kind++) {
        /* Nobody else has it now. */
        sink_note(b->source, send_rest_locked(b, kind, false));
        atoll_free(b->lines[kind].data);
    }
    output_source_unref(b->source);
    atoll_free(b);
}

static buffer *
sink_buffer_new(core_state *state, uint64_t thread)
{
    PyObject *dict = PyThreadState_GetDict(); /* borrowed */
    buffer *b = dict == NULL ? NULL : atoll_alloc(sizeof(*b));
    if (b == NULL) {
        PyErr_NoMemory();
        return NULL;
    }
    *b = (buffer){.thread = thread, .source = state->output->source};
    PyObject *capsule = PyCapsule_New(b, buffer_key, NULL);
    if (capsule == NULL || PyDict_SetItemString(dict, buffer_key, capsule) < 0) {
        Py_XDECREF(capsule);
        atoll_free(b);
        return NULL;
    }
    atoll_count_up(&b->source->refs);
    b->next = state->output->buffers;
    b->link = &state->output->buffers;
    if (b->next != NULL) {
        b->next->link = &b->next;
    }
    state->output->buffers = b;
    atoll_lock_acquire(&buffers_lock);
    b->after = buffers;
    if (buffers != NULL) {
        buffers->before = b;
    }
    buffers = b;
    atoll_lock_release(&buffers_lock);
    int rc = PyCapsule_SetDestructor(capsule, buffer_end);
    assert(rc == 0);
    (void)rc;
    Py_DECREF(capsule); /* the dict has it */
    return b;
}

static buffer *
buffer_find(const core_state *state)
{
    uint64_t thread = PyThreadState_GetID(PyThreadState_Get());
    buffer *b = state->output->buffers;
    while (b != NULL && b->thread != thread) {
        b = b->next;
    }
    return b;
}

static buffer *
buffer_here(core_state *state)
{
    buffer *b = buffer_find(state);
    return b != NULL ? b
                     : sink_buffer_new(state, PyThreadState_GetID(PyThreadState_Get()));
}

void
sink_forget(core_state *state)
{
    while (state->output->buffers != NULL) {
        unlink_here(state->output->buffers);
    }
}

static bool
sink_reserve(line *l, size_t more)
{
    if (more <= l->room - l->size) {
        return true;
    }
    size_t room = l->size + more;
    room = room < 128 ? 128 : room + room / 2;
    char *data = atoll_realloc(l->data, room);
    if (data == NULL) {
        return false;
    }
    l->data = data;
    l->room = room;
    return true;
}

/* Add to a line; send it if that completes it. Returns -1 without memory, then
 * nothing has changed. */
static int
add_locked(buffer *b, output_kind kind, bool binary, const char *data, size_t size)
{
    line *l = &b->lines[kind];
    const char *newline = memrchr(data, '\n', size);
    size_t head = newline == NULL ? 0 : (size_t)(newline - data) + 1;
    if (l->size > 0 && l->binary != binary) {
        sink_note(b->source, send_rest_locked(b, kind, false));
        if (l->size > 0) {
            return -1;
        }
    }
    l->binary = binary;
    if (!sink_reserve(l, size - head)) {
        return -1;
    }
    if (head > 0) {
        piece *p = output_piece(kind, binary, l->size + head);
        if (p == NULL) {
            return -1;
        }
        if (l->size > 0) {
            memcpy(p->data, l->data, l->size);
        }
        memcpy(p->data + l->size, data, head);
        l->size = 0;
        l->unflushed = true;
        sink_note(b->source, output_send(b->source, p));
    }
    if (size > head) {
        memcpy(l->data + l->size, data + head, size - head);
        l->size += size - head;
    }
    return head > 0;
}

static int
sink_add(core_state *state, output_kind kind, bool binary, const char *data,
         size_t size)
{
    buffer *b = size == 0 ? NULL : buffer_here(state);
    if (b == NULL) {
        return size == 0 ? 0 : -1;
    }
    atoll_lock_acquire(&b->lock);
    int rc = add_locked(b, kind, binary, data, size);
    atoll_lock_release(&b->lock);
    if (rc < 0) {
        PyErr_NoMemory();
        return -1;
    }
    return rc > 0 ? output_hold_up(state) : 0;
}

uint64_t
sink_job_over(core_state *state)
{
    output_source *source = state->output->source;
    if (state->output->buffers != NULL) {
        buffer *b = buffer_find(state);
        for (output_kind kind = 0; b != NULL && kind < LINES; kind++) {
            atoll_lock_acquire(&b->lock);
            sink_note(source, send_rest_locked(b, kind, false));
            atoll_lock_release(&b->lock);
        }
    }
    return source->printed;
}

/* ------------------------------------------------------------------- sinks */

/* No Python code runs in their methods: an interrupt comes before or after a
 * line, never into it. */
typedef struct sink {
    PyObject_HEAD
    core_state *state;
    output_kind kind;
} sink;

PyDoc_STRVAR(write_doc, "write($self, text, /)\n--\n\nAdd text (str); its length.");

static PyObject *
sink_write(PyObject *obj, PyObject *text)
{
    sink *self = (sink *)obj;
    if (!PyUnicode_Check(text)) {
        return PyErr_Format(PyExc_TypeError, "write() argument must be str, not %T",
                            text);
    }
    PyObject *bytes = NULL;
    Py_ssize_t size;
    const char *data = PyUnicode_AsUTF8AndSize(text, &size);
    if (data == NULL) {
        if (!PyErr_ExceptionMatches(PyExc_UnicodeEncodeError)) {
            return NULL;
        }
        PyErr_Clear();
        bytes = PyUnicode_AsEncodedString(text, "utf-8", "surrogatepass");
        if (bytes == NULL) {
            return NULL;
        }
        data = PyBytes_AS_STRING(bytes);
        size = PyBytes_GET_SIZE(bytes);
    }
    int rc = sink_add(self->state, self->kind, false, data, (size_t)size);
    Py_XDECREF(bytes);
    return rc < 0 ? NULL : PyLong_FromSsize_t(PyUnicode_GET_LENGTH(text));
}

PyDoc_STRVAR(write_bytes_doc,
"write_bytes($self, data, /)\n--\n\nAdd bytes (a buffer); their number.");

static PyObject *
sink_write_bytes(PyObject *obj, PyObject *data)
{
    sink *self = (sink *)obj;
    Py_buffer view;
    if (PyObject_GetBuffer(data, &view, PyBUF_SIMPLE) < 0) {
        return NULL;
    }
    int rc = sink_add(self->state, self->kind, true, view.buf, (size_t)view.len);
    Py_ssize_t size = view.len;
    PyBuffer_Release(&view);
    return rc < 0 ? NULL : PyLong_FromSsize_t(size);
}

PyDoc_STRVAR(flush_doc,
"flush($self, /)\n--\n\n"
"Send the beginning of a line as well, and have main's stream flushed.");

static PyObject *
sink_flush(PyObject *obj, PyObject *Py_UNUSED(ignored))
{
    sink *self = (sink *)obj;
    buffer *b = buffer_find(self->state);
    if (b != NULL) {
        atoll_lock_acquire(&b->lock);
        sink_note(b->source, send_rest_locked(b, self->kind, true));
        atoll_lock_release(&b->lock);
    }
    Py_RETURN_NONE;
}

static void
sink_dealloc(PyObject *obj)
{
    PyTypeObject *type = Py_TYPE(obj);
    PyObject_GC_UnTrack(obj);
    PyObject_GC_Del(obj);
    Py_DECREF(type);
}

/* Threads keep the stream they began with, so a sink can be part of a cycle that
 * leads through its type to everything. */
static int
sink_traverse(PyObject *obj, visitproc visit, void *arg)
{
    Py_VISIT(Py_TYPE(obj));
    return 0;
}

static PyMethodDef sink_methods[] = {
    {"write", sink_write, METH_O, write_doc},
    {"write_bytes", sink_write_bytes, METH_O, write_bytes_doc},
    {"flush", sink_flush, METH_NOARGS, flush_doc},
    {NULL, NULL, 0, NULL},
};

static PyType_Slot sink_slots[] = {
    {Py_tp_dealloc, sink_dealloc},
    {Py_tp_traverse, sink_traverse},
    {Py_tp_methods, sink_methods},
    {Py_tp_doc, "Where a stream of an interpreter's leads to."},
    {0, NULL},
};

static PyType_Spec sink_spec = {
    .name = "atoll._core.Sink",
    .basicsize = sizeof(sink),
    .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_HAVE_GC | Py_TPFLAGS_IMMUTABLETYPE |
             Py_TPFLAGS_DISALLOW_INSTANTIATION,
    .slots = sink_slots,
};

int
sink_add_type(core_state *state)
{
    state->output->sink_type = core_add_type(state, &sink_spec);
    return state->output->sink_type == NULL ? -1 : 0;
}

void
output_source_unref(output_source *source)
{
    if (atoll_count_down(&source->refs)) {
        atoll_free(source);
    }
}

output_source *
sink_boot(core_state *state, PyObject *streams, PyObject *logging)
{
    output_source *source = atoll_alloc(sizeof(*source));
    if (source == NULL) {
        PyErr_NoMemory();
        return NULL;
    }
    *source = (output_source){.refs = 2, .id = state->interp_id};
    state->output->source = source;
    PyObject *done = package_call(PACKAGE_STREAM, "install", "(OO)", streams, logging);
    if (done == NULL) {
        output_source_unref(source);
        return NULL;
    }
    Py_DECREF(done);
    return source;
}

/* --------------------------------------------------------- in interpreters */

static int
sink_check_source(const core_state *state)
{
    if (state->output->source == NULL) {
        PyErr_SetString(PyExc_RuntimeError, "not an interpreter of atoll's");
        return -1;
    }
    return 0;
}

PyDoc_STRVAR(sink_doc,
"_sink(kind, /)\n--\n\nThe Sink of stdout (0) or stderr (1).");

static PyObject *
core_sink(PyObject *module, PyObject *arg)
{
    core_state *state = PyModule_GetState(module);
    int kind = PyLong_AsInt(arg);
    if (kind == -1 && PyErr_Occurred()) {
        return NULL;
    }
    if (sink_check_source(state) < 0) {
        return NULL;
    }
    sink *self = PyObject_GC_New(sink, state->output->sink_type);
    if (self != NULL) {
        self->state = state;
        self->kind = kind == OUTPUT_STDERR ? OUTPUT_STDERR : OUTPUT_STDOUT;
        PyObject_GC_Track(self);
    }
    return (PyObject *)self;
}

PyDoc_STRVAR(send_record_doc,
"_send_record(data, kind=_OUTPUT_RECORD, /)\n--\n\n"
"Send a marshalled log record (bytes) to main, or what coverage has measured.");

static PyObject *
core_send_record(PyObject *module, PyObject *args)
{
    core_state *state = PyModule_GetState(module);
    const char *bytes;
    Py_ssize_t size;
    int kind = OUTPUT_RECORD;
    if (!PyArg_ParseTuple(args, "y#|i:_send_record", &bytes, &size, &kind) ||
        sink_check_source(state) < 0) {
        return NULL;
    }
    piece *p = output_piece(kind == OUTPUT_COVERAGE ? OUTPUT_COVERAGE : OUTPUT_RECORD,
                            true, (size_t)size);
    if (p == NULL) {
        return PyErr_NoMemory();
    }
    memcpy(p->data, bytes, (size_t)size);
    sink_note(state->output->source, output_send(state->output->source, p));
    if (output_hold_up(state) < 0) {
        return NULL;
    }
    Py_RETURN_NONE;
}

PyDoc_STRVAR(wait_written_doc,
"_wait_written()\n--\n\n"
"Wait until main has written out what was printed here, a second at most.");

static PyObject *
core_wait_written(PyObject *module, PyObject *Py_UNUSED(ignored))
{
    core_state *state = PyModule_GetState(module);
    if (sink_check_source(state) < 0 ||
        output_wait_written(state, state->output->source->printed) < 0) {
        return NULL;
    }
    Py_RETURN_NONE;
}

PyMethodDef sink_functions[] = {
    {"_sink", core_sink, METH_O, sink_doc},
    {"_send_record", core_send_record, METH_VARARGS, send_record_doc},
    {"_wait_written", core_wait_written, METH_NOARGS, wait_written_doc},
    {NULL, NULL, 0, NULL},
};

/* ------------------------------------------------------- exit and fork */

void
sink_send_all(void)
{
    atoll_lock_acquire(&buffers_lock);
    for (buffer *b = buffers; b != NULL; b = b->after) {
        atoll_lock_acquire(&b->lock);
        for (output_kind kind = 0; kind < LINES; kind++) {
            uint64_t seq = send_rest_locked(b, kind, false);
            (void)seq; /* not ours to note: its interpreter still runs */
        }
        atoll_lock_release(&b->lock);
    }
    atoll_lock_release(&buffers_lock);
}

void
sink_fork_prepare(void)
{
    atoll_lock_acquire(&buffers_lock);
}

void
sink_fork_parent(void)
{
    atoll_lock_release(&buffers_lock);
}

void
sink_fork_child(void)
{
    buffers_lock.word = 0;
    buffers = NULL;
}
