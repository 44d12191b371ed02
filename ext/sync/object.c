/* The common part of locks and what is like them. See sync/sync.h. */
#include "sync/sync.h"

#include <math.h>
#include <stddef.h>

#include "wait/wait.h"
#include "wire/kind.h"

/* ------------------------------------------------------ one object per id */

static PyTypeObject *
sync_type_of(core_state *state, const atoll_sync *sync)
{
    int kind = (int)atoll_sync_kind_of(sync);
    if (kind == ATOLL_SEMAPHORE && atoll_sem_limit(sync) >= 0) {
        kind = ATOLL_SYNC_KINDS;
    }
    return state->sync->types[kind];
}

static PyObject *
sync_new_object(core_state *state, atoll_sync *sync, uint64_t key)
{
    PyTypeObject *type = sync_type_of(state, sync);
    bool gc = PyType_IS_GC(type);
    syncobj *self = gc ? PyObject_GC_New(syncobj, type) : PyObject_New(syncobj, type);
    if (self == NULL) {
        return NULL;
    }
    self->state = state;
    self->weakrefs = NULL;
    self->action = NULL;
    self->sync = atoll_sync_ref(sync);
    waits_hold(state, &self->hold, sync, WAIT_SIDE_SYNC);
    if (gc) {
        PyObject_GC_Track((PyObject *)self);
    }
    core_handle_add(state, key, &self->handle, (PyObject *)self);
    return (PyObject *)self;
}

PyObject *
sync_get(core_state *state, atoll_sync *sync)
{
    uint64_t key = core_lock_key(atoll_sync_id(sync));
    PyObject *self = core_handle_find(state, key);
    return self != NULL ? self : sync_new_object(state, sync, key);
}

PyObject *
sync_made(PyTypeObject *type, atoll_err err, atoll_sync *sync)
{
    core_state *state = PyType_GetModuleState(type);
    if (err != ATOLL_OK) {
        return raise_err(state, err, "lock");
    }
    PyObject *self = sync_get(state, sync);
    atoll_sync_unref(sync);
    return self;
}

void
sync_dealloc(PyObject *obj)
{
    syncobj *self = (syncobj *)obj;
    PyTypeObject *type = Py_TYPE(obj);
    bool gc = PyType_IS_GC(type);
    if (gc) {
        PyObject_GC_UnTrack(obj);
    }
    core_handle_forget(self->state, &self->handle);
    if (self->weakrefs != NULL) {
        PyObject_ClearWeakRefs(obj);
    }
    Py_CLEAR(self->action);
    waits_unhold(self->state, &self->hold);
    atoll_sync_unref(self->sync);
    gc ? PyObject_GC_Del(self) : PyObject_Free(self);
    Py_DECREF(type);
}

bool
sync_is(PyTypeObject *type)
{
    return type->tp_dealloc == sync_dealloc; /* none can be derived from them */
}

bool
sync_can_wait(const core_state *state, PyTypeObject *type)
{
    return type == state->sync->types[ATOLL_FLAG] ||
           type == state->sync->types[ATOLL_LOCK] ||
           type == state->sync->types[ATOLL_SEMAPHORE] ||
           type == state->sync->types[ATOLL_SYNC_KINDS];
}

Py_hash_t
sync_hash(PyObject *obj)
{
    return (Py_hash_t)atoll_sync_id(((syncobj *)obj)->sync);
}

PyObject *
sync_get_id(PyObject *obj, void *Py_UNUSED(closure))
{
    return PyLong_FromUnsignedLongLong(atoll_sync_id(((syncobj *)obj)->sync));
}

PyMemberDef sync_members[] = {
    {"__weaklistoffset__", Py_T_PYSSIZET, offsetof(syncobj, weakrefs), Py_READONLY,
     NULL},
    {NULL, 0, 0, 0, NULL},
};

PyObject *
sync_repr(PyObject *obj, const char *format, ...)
{
    va_list args;
    va_start(args, format);
    PyObject *rest = PyUnicode_FromFormatV(format, args);
    va_end(args);
    if (rest == NULL) {
        return NULL;
    }
    PyObject *text =
        PyUnicode_FromFormat("<%s at %p: %U>", Py_TYPE(obj)->tp_name, obj, rest);
    Py_DECREF(rest);
    return text;
}

/* ---------------------------------------------------------------- crossing */

PyObject *
sync_reduce(PyObject *obj, PyObject *Py_UNUSED(ignored))
{
    syncobj *self = (syncobj *)obj;
    return sync_prepare(self) < 0
               ? NULL
               : xfer_reduce_handle(self->state, HANDLE_SYNC, self->sync,
                                    atoll_sync_id(self->sync), "_find_sync");
}

/* Append a lock to a message. */
static int
sync_encode(encoder *e, PyObject *obj)
{
    syncobj *self = (syncobj *)obj;
    return sync_prepare(self) < 0
               ? -1
               : enc_put_handle(e, TAG_HANDLE, HANDLE_SYNC, self->sync);
}

static void
sync_ref_handle(void *ptr)
{
    atoll_sync_ref(ptr);
}

static void
sync_unref_handle(void *ptr)
{
    atoll_sync_unref(ptr);
}

static PyObject *
sync_open_handle(core_state *state, void *ptr)
{
    return sync_get(state, ptr);
}

static const wire_kind sync_kind = {
    .ref = sync_ref_handle,
    .unref = sync_unref_handle,
    .open = sync_open_handle,
};

static const atoll_wait no_wait = {.deadline = ATOLL_NOW};

static PyObject *
core_find_sync(PyObject *module, PyObject *args)
{
    core_state *state = PyModule_GetState(module);
    unsigned long long id;
    if (xfer_parse_find(state, args, "lock", "AtollError", &id) < 0) {
        return NULL;
    }
    atoll_sync *sync;
    if (atoll_sync_find(id, &sync) != ATOLL_OK) {
        return raise_error(state, "AtollError", "there is no lock %llu (any more)", id);
    }
    PyObject *obj = sync_get(state, sync);
    atoll_sync_unref(sync);
    return obj;
}

PyDoc_STRVAR(take_now_doc,
"_take_now(lock, task=0, /)\n--\n\n"
"Take a lock or a permit, or see that an event is set, without waiting: a bool.\n"
"`task` is the number of the task that is to own an RLock.");

static PyObject *
core_take_now(PyObject *module, PyObject *args)
{
    core_state *state = PyModule_GetState(module);
    PyObject *obj;
    unsigned long long task = 0;
    if (!PyArg_ParseTuple(args, "O|K:_take_now", &obj, &task)) {
        return NULL;
    }
    if (!sync_is(Py_TYPE(obj))) {
        return PyErr_Format(PyExc_TypeError, "expected a lock, not %T", obj);
    }
    atoll_sync *sync = ((syncobj *)obj)->sync;
    atoll_err err = atoll_sync_take(sync, sync_me_as(state, task), &no_wait);
    return sync_answer(state, sync, err);
}

static PyMethodDef sync_functions[] = {
    {"_find_sync", core_find_sync, METH_VARARGS, NULL},
    {"_take_now", core_take_now, METH_VARARGS, take_now_doc},
    {NULL, NULL, 0, NULL},
};

/* ------------------------------------------------------------------ waiting */

typedef struct taking {
    atoll_sync *sync;
    atoll_party who;
} taking;

static atoll_err
do_take(void *arg, const atoll_wait *wait)
{
    taking *t = arg;
    return atoll_sync_take(t->sync, t->who, wait);
}

int
sync_take(core_state *state, atoll_sync *sync, int64_t deadline, atoll_err *err)
{
    taking t = {sync, sync_me(state)};
    *err = atoll_sync_take(sync, t.who, &no_wait);
    if (*err == ATOLL_ERR_AGAIN && sync_as_task(state, sync, &t.who)) {
        *err = atoll_sync_take(sync, t.who, &no_wait);
    }
    if (*err != ATOLL_ERR_AGAIN || deadline == ATOLL_NOW) {
        return 0;
    }
    return detach_wait_one(state, do_take, &t, deadline, NULL, &wait_sync, sync, err);
}

typedef struct standing {
    atoll_sync *sync;
    atoll_turn *turn;
} standing;

static atoll_err
do_wait_turn(void *arg, const atoll_wait *wait)
{
    standing *s = arg;
    return atoll_turn_wait(s->sync, s->turn, wait);
}

int
sync_wait_turn(syncobj *self, atoll_turn *turn, int64_t deadline, atoll_err *err)
{
    standing s = {self->sync, turn};
    return detach_wait_one(self->state, do_wait_turn, &s, deadline, NULL, &wait_sync,
                           self->sync, err);
}

PyObject *
sync_raise(core_state *state, atoll_sync *sync, atoll_err err)
{
    unsigned long long id = atoll_sync_id(sync);
    switch (err) {
    case ATOLL_ERR_OWNER_DIED: {
        atoll_mutex_state look;
        atoll_mutex_look(sync, &look);
        return raise_error(state, "LockOwnerDied",
                           "interpreter %lld ended without releasing lock "
                           "%llu; it is free now, and what it protects may be "
                           "half done",
                           (long long)look.dead, id);
    }
    case ATOLL_ERR_BROKEN: {
        PyObject *cls = error_class(state, "BrokenBarrierError");
        if (cls != NULL) {
            PyErr_Format(cls, "barrier %llu is broken", id);
        }
        return NULL;
    }
    default:
        return raise_err(state, err, "lock");
    }
}

PyObject *
sync_answer(core_state *state, atoll_sync *sync, atoll_err err)
{
    switch (err) {
    case ATOLL_OK:
        Py_RETURN_TRUE;
    case ATOLL_ERR_AGAIN:
    case ATOLL_ERR_TIMEOUT:
        Py_RETURN_FALSE;
    default:
        return sync_raise(state, sync, err);
    }
}

PyObject *
sync_enter(PyObject *obj, PyObject *Py_UNUSED(ignored))
{
    syncobj *self = (syncobj *)obj;
    atoll_err err;
    if (sync_take(self->state, self->sync, ATOLL_FOREVER, &err) < 0) {
        return NULL;
    }
    return sync_answer(self->state, self->sync, err);
}

PyObject *
sync_take_async(PyObject *obj, PyObject *Py_UNUSED(ignored))
{
    return aio_call(((syncobj *)obj)->state, "take_async", obj, NULL, 0, NULL);
}

int
sync_deadline(PyObject *timeout, int64_t *deadline)
{
    if (timeout != NULL && timeout != Py_None) {
        double seconds;
        if (args_double("timeout", "a number of seconds or None", timeout, &seconds) <
            0) {
            return -1;
        }
        if (seconds < 0) {
            *deadline = ATOLL_NOW;
            return 0;
        }
    }
    return detach_deadline(timeout, deadline);
}

/* ----------------------------------------------------------------- the room */

static void
sync_start(void)
{
    wire_set_kind(HANDLE_SYNC, &sync_kind);
}

static int
sync_begin(core_state *state)
{
    PyType_Spec *const specs[SYNC_TYPES] = {
        [ATOLL_LOCK] = &lock_spec,           [ATOLL_RLOCK] = &rlock_spec,
        [ATOLL_SEMAPHORE] = &semaphore_spec, [ATOLL_FLAG] = &event_spec,
        [ATOLL_CONDITION] = &condition_spec, [ATOLL_BARRIER] = &barrier_spec,
        [ATOLL_COUNTER] = &counter_spec,     [ATOLL_CELL] = &cell_spec,
        [ATOLL_SYNC_KINDS] = &bounded_spec,
    };
    for (size_t i = 0; i < SYNC_TYPES; i++) {
        PyTypeObject *type = core_add_type(state, specs[i]);
        state->sync->types[i] = type;
        if (type == NULL || wire_add_type(state, type, sync_encode, true) < 0) {
            return -1;
        }
    }
    return PyModule_AddFunctions(state->module, sync_functions);
}

static int
sync_visit(core_state *state, visitproc visit, void *arg)
{
    for (size_t i = 0; i < SYNC_TYPES; i++) {
        Py_VISIT(state->sync->types[i]);
    }
    return 0;
}

static void
sync_clear(core_state *state)
{
    for (size_t i = 0; i < SYNC_TYPES; i++) {
        Py_CLEAR(state->sync->types[i]);
    }
}

static void
sync_end(core_state *state)
{
    sync_forget_debts(state);
}

const core_room sync_room = {
    CORE_ROOM_DATA(sync), .start = sync_start, .begin = sync_begin,
    .visit = sync_visit,  .clear = sync_clear, .end = sync_end,
};
