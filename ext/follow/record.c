/* Records of surroundings: made where tasks are submitted, applied where they run. */
#include "follow/follow.h"
#include "follow/watch.h"
#include "wire/wire.h"

#include <string.h>

/* So many references to a record are taken at once; as many may a worker owe. */
#define STOCK 65536u

/* An encoded value. Belongs to the process. */
typedef struct follow_value {
    uint32_t refs; /* atomic */
    atoll_msg msg; /* owned; it is only cloned */
} follow_value;

struct follow_record {
    uint32_t refs;                     /* guarded by follow_lock */
    follow_value *parts[FOLLOW_PARTS]; /* counted; NULL: as every interpreter begins */
};

/* ------------------------------------------------------------------ references */

static void
value_unref(follow_value *value)
{
    if (value != NULL && atoll_count_down(&value->refs)) {
        atoll_msg_drop(&value->msg);
        atoll_free(value);
    }
}

static void
record_add(follow_record *record, uint32_t count)
{
    atoll_lock_acquire(&follow_lock);
    record->refs += count;
    atoll_lock_release(&follow_lock);
}

/* Give `count` references back. */
static void
record_give(follow_record *record, uint32_t count)
{
    if (record == NULL) {
        return;
    }
    atoll_lock_acquire(&follow_lock);
    record->refs -= count;
    bool last = record->refs == 0;
    atoll_lock_release(&follow_lock);
    if (last) {
        for (int i = 0; i < FOLLOW_PARTS; i++) {
            value_unref(record->parts[i]);
        }
        atoll_free(record);
    }
}

follow_record *
follow_ref(follow_record *record)
{
    if (record != NULL) {
        record_add(record, 1);
    }
    return record;
}

void
follow_unref(follow_record *record)
{
    record_give(record, 1);
}

/* ---------------------------------------------------------------------- making */

/* Ask for a part as it is now: NULL with an exception; None: as every interpreter
 * begins. */
static PyObject *
collect(core_state *state, follow_part part)
{
    follow_data *data = state->follow;
    PyObject *value = watch_value(data->watch, part);
    if (value == Py_NotImplemented) {
        Py_DECREF(value);
        PyObject *ask = package_keep(&data->collect, PACKAGE_COLLECT, "collect");
        value = ask == NULL ? NULL : PyObject_CallFunction(ask, "i", (int)part);
    }
    return value;
}

/* Encode a part for the record. NULL with an exception. */
static follow_value *
value_new(core_state *state, PyObject *obj)
{
    follow_value *value = atoll_alloc(sizeof(*value));
    if (value == NULL) {
        PyErr_NoMemory();
    }
    else if (xfer_encode(state, obj, &value->msg) < 0) {
        atoll_free(value);
        value = NULL;
    }
    else {
        value->refs = 1;
    }
    return value;
}

/* Put `value` (taken over; NULL: nothing) into a record like the one of now, which it
 * replaces. -1 with MemoryError. */
static int
renew_record(follow_data *data, follow_part part, follow_value *value)
{
    follow_record *old = data->record, *record = atoll_alloc(sizeof(*record));
    if (record == NULL) {
        value_unref(value);
        PyErr_NoMemory();
        return -1;
    }
    *record = (follow_record){.refs = 1};
    for (int i = 0; i < FOLLOW_PARTS; i++) {
        follow_value *kept = old == NULL ? NULL : old->parts[i];
        if (i != (int)part && kept != NULL) {
            atoll_count_up(&kept->refs);
            record->parts[i] = kept;
        }
    }
    record->parts[part] = value;
    uint32_t owned = 1 + data->stock;
    data->record = record;
    data->stock = 0;
    record_give(old, owned);
    return 0;
}

/* Collect one part, and put it into the record if it has changed. Python code runs, so
 * other threads may do the same meanwhile: the last who asks is right. */
static int
renew_part(core_state *state, follow_part part)
{
    follow_data *data = state->follow;
    uint32_t turn = ++data->turns[part];
    PyObject *value = collect(state, part);
    if (value == NULL) {
        return -1;
    }
    PyObject *old = data->values[part] == NULL ? Py_None : data->values[part];
    Py_INCREF(old);
    int same = PyObject_RichCompareBool(old, value, Py_EQ);
    Py_DECREF(old);
    /* What has been something else before is sent as what it is; only what never was
     * needs no value. */
    follow_value *sent = same == 0 ? value_new(state, value) : NULL;
    int rc = same < 0 || (same == 0 && sent == NULL) ? -1 : 0;
    if (rc == 0 && sent != NULL && turn == data->turns[part]) {
        rc = renew_record(data, part, sent);
        if (rc == 0) {
            Py_XSETREF(data->values[part], Py_NewRef(value));
        }
    }
    else if (sent != NULL) {
        value_unref(sent);
    }
    Py_DECREF(value);
    return rc;
}

static int
renew(core_state *state, follow_part part)
{
    follow_data *data = state->follow;
    data->asking[part]++;
    int rc = renew_part(state, part);
    data->asking[part]--;
    return rc;
}

int
follow_take(core_state *state, uint32_t deaf, follow_record **out)
{
    follow_data *data = state->follow;
    uint32_t due = 0;
    *out = NULL;
    if ((deaf & FOLLOW_ALL) == FOLLOW_ALL) {
        return 0;
    }
    if (data->watch == NULL) {
        struct follow_watch *watch = watch_new(state);
        if (watch == NULL) {
            return -1;
        }
        if (data->watch != NULL) { /* another thread was faster */
            watch_clear(watch);
            watch_free(watch);
        }
        else {
            data->watch = watch;
        }
    }
    if (watch_look(state, &due) < 0) {
        return -1;
    }
    for (int part = 0; part < FOLLOW_PARTS; part++) {
        /* Another thread has seen that it has changed, and has not got it yet. */
        due |= data->asking[part] > 0 ? 1u << part : 0;
    }
    for (int part = 0; due != 0; part++, due >>= 1) {
        if ((due & 1) != 0 && renew(state, (follow_part)part) < 0) {
            watch_again(data->watch, due << part);
            return -1;
        }
    }
    if (data->record != NULL && data->stock == 0) {
        record_add(data->record, STOCK);
        data->stock = STOCK;
    }
    if (data->record != NULL) {
        data->stock--;
        *out = data->record;
    }
    return 0;
}

/* -------------------------------------------------------------------- following */

/* Build the value of a part: a new reference, NULL with an exception. */
static PyObject *
value_open(core_state *state, const follow_value *value)
{
    atoll_msg msg;
    if (xfer_clone(&value->msg, &msg) != ATOLL_OK) {
        PyErr_NoMemory();
        return NULL;
    }
    return xfer_decode(state, &msg);
}

/* Let this interpreter have `value` for a part. -1 with an exception. */
static int
apply_part(core_state *state, follow_part part, const follow_value *value)
{
    follow_data *data = state->follow;
    PyObject *now = value == NULL ? Py_NewRef(Py_None) : value_open(state, value);
    PyObject *known = data->known[part] == NULL ? Py_None : data->known[part];
    int same = now == NULL ? -1 : PyObject_RichCompareBool(known, now, Py_EQ);
    PyObject *done = NULL;
    if (same == 0) {
        PyObject *apply = package_keep(&data->apply, PACKAGE_APPLY, "apply");
        done = apply == NULL
                   ? NULL
                   : PyObject_CallFunction(apply, "iOO", (int)part, known, now);
    }
    if (done != NULL) {
        Py_XSETREF(data->known[part], Py_NewRef(now));
    }
    int rc = same < 0 || (same == 0 && done == NULL) ? -1 : 0;
    Py_XDECREF(done);
    Py_XDECREF(now);
    return rc;
}

void
follow_apply(core_state *state, follow_record *record)
{
    follow_data *data = state->follow;
    follow_record *last = data->last;
    if (record == NULL) {
        return;
    }
    if (record == last) {
        if (++data->owed == STOCK) {
            record_give(last, STOCK);
            data->owed = 0;
        }
        return;
    }
    /* Kept whatever comes of it: the next job does not try the same again. */
    uint32_t owned = 1 + data->owed;
    data->last = record;
    data->owed = 0;
    for (int i = 0; i < FOLLOW_PARTS; i++) {
        const follow_value *before = last == NULL ? NULL : last->parts[i];
        bool differs = record->parts[i] != before && (data->deaf & (1u << i)) == 0;
        if (differs && apply_part(state, (follow_part)i, record->parts[i]) < 0) {
            PyErr_FormatUnraisable("Exception ignored while an interpreter took over "
                                   "the surroundings of a task");
        }
    }
    record_give(last, last == NULL ? 0 : owned);
}

int
follow_boot(core_state *state, uint32_t deaf, PyObject *levels)
{
    follow_data *data = state->follow;
    PyObject *environ = watch_environ();
    data->deaf = deaf;
    data->known[FOLLOW_ENVIRON] =
        environ == NULL ? Py_NewRef(Py_None) : PyDict_Copy(environ);
    data->known[FOLLOW_PATH] = watch_path();
    data->known[FOLLOW_RECURSION] = PyLong_FromLong(Py_GetRecursionLimit());
    data->known[FOLLOW_LOGGING] = Py_NewRef(levels);
    for (int i = 0; i <= FOLLOW_RECURSION; i++) {
        if (data->known[i] == NULL) {
            return -1;
        }
    }
    return 0;
}

/* ------------------------------------------------------------------- functions */

/* The resource tracker of multiprocessing's that all interpreters use, if one of them
 * has started it: its descriptor, its process. Guarded by follow_lock. */
static int tracker_fd = -1, tracker_pid = -1;

PyDoc_STRVAR(share_tracker_doc,
"_share_tracker(fd, pid, /)\n--\n\n"
"Note the resource tracker that all interpreters are to use, unless there is one\n"
"already, or `fd` is -1. Returns which it is, (fd, pid): -1 for none.");

static PyObject *
core_share_tracker(PyObject *Py_UNUSED(module), PyObject *args)
{
    int fd, pid;
    if (!PyArg_ParseTuple(args, "ii:_share_tracker", &fd, &pid)) {
        return NULL;
    }
    atoll_lock_acquire(&follow_lock);
    if (tracker_fd < 0) {
        tracker_fd = fd;
        tracker_pid = pid;
    }
    fd = tracker_fd;
    pid = tracker_pid;
    atoll_lock_release(&follow_lock);
    return Py_BuildValue("ii", fd, pid);
}

static PyMethodDef follow_functions[] = {
    {"_share_tracker", core_share_tracker, METH_VARARGS, share_tracker_doc},
    {NULL, NULL, 0, NULL},
};

void
follow_fork_child(void)
{
    follow_lock.word = 0;
    tracker_fd = tracker_pid = -1; /* CPython closes it in the child */
}

/* ------------------------------------------------------------------------ room */

static int
follow_begin(core_state *state)
{
    return PyModule_AddFunctions(state->module, follow_functions);
}

static int
follow_visit(core_state *state, visitproc visit, void *arg)
{
    follow_data *data = state->follow;
    for (int i = 0; i < FOLLOW_PARTS; i++) {
        Py_VISIT(data->values[i]);
        Py_VISIT(data->known[i]);
    }
    Py_VISIT(data->collect);
    Py_VISIT(data->apply);
    return data->watch == NULL ? 0 : watch_visit(data->watch, visit, arg);
}

static void
follow_clear(core_state *state)
{
    follow_data *data = state->follow;
    for (int i = 0; i < FOLLOW_PARTS; i++) {
        Py_CLEAR(data->values[i]);
        Py_CLEAR(data->known[i]);
    }
    Py_CLEAR(data->collect);
    Py_CLEAR(data->apply);
    if (data->watch != NULL) {
        watch_clear(data->watch);
    }
}

static void
follow_end(core_state *state)
{
    follow_data *data = state->follow;
    record_give(data->record, 1 + data->stock);
    record_give(data->last, 1 + data->owed);
    if (data->watch != NULL) {
        watch_free(data->watch);
    }
    *data = (follow_data){0};
}

const core_room follow_room = {
    CORE_ROOM_DATA(follow), .begin = follow_begin, .visit = follow_visit,
    .clear = follow_clear,  .end = follow_end,
};
