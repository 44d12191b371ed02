/* atoll.move(): memory that changes its owner, without a copy.
 *
 * What move() takes out of its object is held by a counted `cargo`. It is with
 * its Moved object, in a message, or landed: whoever receives it makes it the
 * memory of a new object. A message that is dropped unreceived gives it back to
 * the Moved object, so a send that failed loses nothing. */
#include "memory/memory.h"

#include "cpython/take.h"
#include "wire/kind.h"

#include <stddef.h>

typedef enum cargo_kind {
    CARGO_BYTEARRAY,
    CARGO_ARRAY,
    CARGO_BUFFER,
    CARGO_NDARRAY, /* it is in the Moved object, and beside it in the message */
} cargo_kind;
typedef enum cargo_state { WAITING, SENT, LANDED } cargo_state;

typedef struct cargo {
    uint32_t refs; /* atomic */
    atoll_lock lock;
    cargo_state state; /* guarded by lock */
    cargo_kind kind;
    taken_memory memory;  /* its block is owned until LANDED */
    atoll_region *region; /* of a Buffer; counted */
    PyObject *landed;     /* its new object, while it may have to go back; or NULL */
} cargo;

typedef struct movedobj {
    PyObject_HEAD
    cargo *load;     /* counted */
    PyObject *array; /* of CARGO_NDARRAY: the array that has the contents */
} movedobj;

static void
cargo_unref(cargo *c)
{
    if (!atoll_count_down(&c->refs)) {
        return;
    }
    if (c->state != LANDED) {
        PyMem_RawFree(c->memory.block);
        if (c->region != NULL) {
            atoll_region_unref(c->region);
        }
    }
    atoll_free(c);
}

static bool
cargo_step(cargo *c, cargo_state from, cargo_state to)
{
    atoll_lock_acquire(&c->lock);
    bool ok = c->state == from;
    if (ok) {
        c->state = to;
    }
    atoll_lock_release(&c->lock);
    return ok;
}

static void
moved_drop(void *ptr)
{
    cargo *c = ptr;
    cargo_step(c, SENT, WAITING); /* it was not received */
    cargo_unref(c);
}

/* The message has been received: it is as for a message that is not kept. */
static void
moved_received(void *ptr)
{
    Py_CLEAR(((cargo *)ptr)->landed);
}

/* ------------------------------------------------------------------ taking */

static int
load_buffer(cargo *c, PyObject *obj)
{
    bufferobj *buffer = (bufferobj *)obj;
    if (buffer->exports > 0) {
        return take_refuse_exports(obj);
    }
    if (buffer->region == NULL) {
        PyErr_SetString(PyExc_ValueError, "this Buffer was moved away already");
        return -1;
    }
    c->region = buffer->region;
    c->memory.size = c->region->size;
    buffer->region = NULL;
    return 0;
}

/* ----------------------------------------------------------------- landing */

/* Make the object of it, once. `from` is where it is now. */
static PyObject *
moved_land(core_state *state, cargo *c, cargo_state from)
{
    if (!cargo_step(c, from, LANDED)) {
        return raise_error(state, "AtollError",
                           c->state == SENT
                               ? "it was sent, and may be received any moment"
                               : "it was received, and is no longer here");
    }
    PyObject *obj = NULL;
    bool adopted = false;
    switch (c->kind) {
    case CARGO_BYTEARRAY:
        obj = give_bytearray(state, &c->memory);
        adopted = state->cpython->can_adopt;
        break;
    case CARGO_ARRAY:
        obj = give_array(state, &c->memory);
        adopted = state->cpython->can_adopt && c->memory.size > 0;
        break;
    case CARGO_BUFFER:
        obj = buffer_from_region(state, c->region);
        if (obj != NULL) {
            atoll_region_unref(c->region); /* it has its own now */
        }
        return obj != NULL ? obj : (cargo_step(c, LANDED, from), NULL);
    case CARGO_NDARRAY:
        return Py_NewRef(Py_None); /* the caller has it */
    }
    if (obj == NULL) {
        cargo_step(c, LANDED, from); /* it is still there */
    }
    else if (!adopted) {
        PyMem_RawFree(c->memory.block);
    }
    return obj;
}

static PyObject *
moved_decode(decoder *d, int Py_UNUSED(tag))
{
    cargo *c = d->handles[dec_u32(d)].ptr;
    PyObject *obj = moved_land(d->state, c, SENT);
    if (obj != NULL && c->kind == CARGO_NDARRAY) {
        Py_DECREF(obj);
        obj = dec_object(d);
        if (obj == NULL) {
            cargo_step(c, LANDED, SENT); /* not lost: its Moved has it still */
        }
    }
    if (obj != NULL && d->keep) {
        c->landed = Py_NewRef(obj);
    }
    return obj;
}

/* The message is to be as it was. False: there are views of the memory. */
static bool
moved_unread(core_state *state, void *ptr)
{
    cargo *c = ptr;
    PyObject *obj = c->landed;
    if (obj == NULL) {
        return true; /* it has not been read */
    }
    int rc = 0;
    switch (c->kind) {
    case CARGO_BYTEARRAY:
        rc = take_bytearray(state, obj, &c->memory);
        break;
    case CARGO_ARRAY:
        rc = take_array(state, obj, &c->memory);
        break;
    case CARGO_BUFFER:
        rc = load_buffer(c, obj);
        break;
    case CARGO_NDARRAY:
        break; /* it is made of the encoding once more */
    }
    PyErr_Clear();
    c->landed = NULL;
    Py_DECREF(obj);
    return rc == 0 && cargo_step(c, LANDED, SENT);
}

static int
moved_encode(encoder *e, PyObject *obj)
{
    cargo *c = ((movedobj *)obj)->load;
    if (!cargo_step(c, WAITING, SENT)) {
        raise_error(e->state, "AtollError",
                    "what was moved can be sent once, and has been");
        return -1;
    }
    atoll_count_up(&c->refs);
    uint32_t index;
    if (enc_handle(e, HANDLE_MOVED, c, &index) < 0) {
        return -1; /* given back by the drop */
    }
    if (enc_put(e, TAG_MOVED, &index, sizeof(index)) < 0) {
        return -1;
    }
    if (c->kind != CARGO_NDARRAY) {
        return 0;
    }
    /* Taken apart by NumPy, with its memory shared instead of copied. */
    bool before = e->share_buffers;
    e->share_buffers = true;
    int rc = enc_reduce(e, ((movedobj *)obj)->array);
    e->share_buffers = before;
    return rc;
}

/* ---------------------------------------------------------------- the type */

static void
moved_dealloc(PyObject *obj)
{
    PyTypeObject *type = Py_TYPE(obj);
    Py_XDECREF(((movedobj *)obj)->array);
    cargo_unref(((movedobj *)obj)->load);
    PyObject_Free(obj);
    Py_DECREF(type);
}

PyDoc_STRVAR(take_doc,
"take($self, /)\n--\n\n"
"Get the object back in this interpreter: a new one of the same type, with the\n"
"same memory. Raises AtollError if it was sent or taken already.");

static PyObject *
moved_take(PyObject *obj, PyObject *Py_UNUSED(ignored))
{
    core_state *state = PyType_GetModuleState(Py_TYPE(obj));
    movedobj *self = (movedobj *)obj;
    PyObject *taken = moved_land(state, self->load, WAITING);
    if (taken != NULL && self->array != NULL) {
        Py_SETREF(taken, self->array);
        self->array = NULL;
    }
    return taken;
}

static PyObject *
moved_repr(PyObject *obj)
{
    cargo *c = ((movedobj *)obj)->load;
    static const char *const kinds[] = {"bytearray", "array", "Buffer", "ndarray"};
    static const char *const states[] = {"to be sent", "sent", "received"};
    atoll_lock_acquire(&c->lock);
    cargo_state now = c->state;
    atoll_lock_release(&c->lock);
    return PyUnicode_FromFormat("<atoll.Moved %s of %zu bytes, %s>", kinds[c->kind],
                                c->memory.size, states[now]);
}

PyDoc_STRVAR(moved_doc,
"What move() took out of its object. Send it; who receives it gets an object\n"
"of the same type with the same memory. See take().");

static PyMethodDef moved_methods[] = {
    {"__class_getitem__", Py_GenericAlias, METH_O | METH_CLASS, core_generic_doc},
    {"take", moved_take, METH_NOARGS, take_doc},
    {NULL, NULL, 0, NULL},
};

static PyType_Slot moved_slots[] = {
    {Py_tp_dealloc, moved_dealloc},
    {Py_tp_repr, moved_repr},
    {Py_tp_methods, moved_methods},
    {Py_tp_doc, (void *)moved_doc},
    {0, NULL},
};

static PyType_Spec moved_spec = {
    .name = "atoll.Moved",
    .basicsize = sizeof(movedobj),
    .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_DISALLOW_INSTANTIATION |
             Py_TPFLAGS_IMMUTABLETYPE,
    .slots = moved_slots,
};

static const wire_kind moved_kind = {
    .unref = moved_drop, .received = moved_received, .unread = moved_unread};

void
moved_start(void)
{
    wire_set_kind(HANDLE_MOVED, &moved_kind);
    wire_set_decoder(TAG_MOVED, moved_decode);
}

int
moved_add_type(core_state *state)
{
    PyTypeObject *type = core_add_type(state, &moved_spec);
    state->memory->moved_type = type;
    return type == NULL ? -1 : wire_add_type(state, type, moved_encode, true);
}

static int
moved_load(core_state *state, movedobj *self, PyObject *obj)
{
    cargo *c = self->load;
    if (PyByteArray_CheckExact(obj)) {
        c->kind = CARGO_BYTEARRAY;
        return take_bytearray(state, obj, &c->memory);
    }
    if (Py_IS_TYPE(obj, state->memory->buffer_type)) {
        c->kind = CARGO_BUFFER;
        return load_buffer(c, obj);
    }
    if (strcmp(Py_TYPE(obj)->tp_name, "array.array") == 0) {
        if (take_is_array(obj)) {
            c->kind = CARGO_ARRAY;
            return take_array(state, obj, &c->memory);
        }
        if (PyErr_Occurred()) {
            return -1;
        }
    }
    if (ndarray_check(obj)) {
        c->kind = CARGO_NDARRAY;
        PyObject *size = PyObject_GetAttrString(obj, "nbytes");
        c->memory.size = size == NULL ? 0 : PyLong_AsSize_t(size);
        Py_XDECREF(size);
        self->array = PyErr_Occurred() ? NULL : ndarray_take(obj);
        return self->array == NULL ? -1 : 0;
    }
    PyErr_Format(PyExc_TypeError,
                 "move() takes a bytearray, array.array, numpy.ndarray or "
                 "atoll.Buffer, not %.200s",
                 Py_TYPE(obj)->tp_name);
    return -1;
}

PyDoc_STRVAR(move_doc,
"move(obj, /)\n--\n\n"
"Take the memory out of `obj`, to send it without a copy.\n\n"
"Args:\n"
"  obj (bytearray, array.array, numpy.ndarray or Buffer): empty afterwards, of\n"
"    length 0. An ndarray must own its memory.\n"
"Returns:\n"
"  A Moved. Who receives it gets an object of the same type with the memory,\n"
"  in O(1). It can be received once; if sending fails it is still here and can\n"
"  be sent again, or taken back with its take().\n"
"Raises:\n"
"  BufferError: there are views of the memory; obj is as it was.\n"
"  TypeError: obj is of another type.\n"
"Less than half a kilobyte is copied: such memory is the interpreter's own.");

static PyObject *
core_move(PyObject *module, PyObject *obj)
{
    core_state *state = PyModule_GetState(module);
    movedobj *self = PyObject_New(movedobj, state->memory->moved_type);
    if (self == NULL) {
        return NULL;
    }
    self->array = NULL;
    self->load = atoll_alloc(sizeof(cargo));
    if (self->load == NULL) {
        PyTypeObject *type = Py_TYPE(self);
        PyObject_Free(self);
        Py_DECREF(type);
        return PyErr_NoMemory();
    }
    *self->load = (cargo){.refs = 1, .state = WAITING};
    if (moved_load(state, self, obj) < 0) {
        Py_CLEAR(self);
    }
    return (PyObject *)self;
}

PyMethodDef moved_functions[] = {
    {"move", core_move, METH_O, move_doc},
    {NULL, NULL, 0, NULL},
};
