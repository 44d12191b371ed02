/* atoll.move(): memory that changes its owner, without a copy.
 *
 * What move() takes out of its object is held by a counted `cargo`. It is with
 * its Moved object, in a message, or landed: whoever receives it makes it the
 * memory of a new object. A message that is dropped unreceived gives it back to
 * the Moved object, so a send that failed loses nothing. */
#include "cpython/adopt.h"
#include "chan/chan.h"
#include "cpython/version.h"
#include "wire/decode/decoder.h"
#include "wire/encode/encoder.h"
#include "memory/memory.h"

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
    void *block;   /* of the raw allocator; owned until LANDED */
    size_t offset; /* of the data in the block */
    size_t size;   /* bytes of data */
    size_t room;   /* bytes of the block, as its object counts them */
    int typecode;  /* of an array */
    size_t itemsize;
    atoll_region *region; /* of a Buffer; counted */
} cargo;

typedef struct movedobj {
    PyObject_HEAD
    cargo *load;     /* counted */
    PyObject *array; /* of CARGO_NDARRAY: the array that has the contents */
} movedobj;

/* array.array, as all of 3.13 to 3.15 lay it out; checked where it is used. */
typedef struct arrayobj {
    PyObject_VAR_HEAD
    char *ob_item;
    Py_ssize_t allocated;
    const void *descr;
    PyObject *weakreflist;
    Py_ssize_t ob_exports;
} arrayobj;

static void
cargo_unref(cargo *c)
{
    if (!atoll_count_down(&c->refs)) {
        return;
    }
    if (c->state != LANDED) {
        PyMem_RawFree(c->block);
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

void
moved_drop(void *ptr)
{
    cargo *c = ptr;
    cargo_step(c, SENT, WAITING); /* it was not received */
    cargo_unref(c);
}

/* ------------------------------------------------------------------ taking */

/* Below this the block may be one of the interpreter's own arenas'. */
#define OWN_BLOCK 512

static int
refuse_exports(PyObject *obj)
{
    PyErr_Format(PyExc_BufferError,
                 "this %s cannot be moved: there are views of its memory; "
                 "release them first",
                 Py_TYPE(obj)->tp_name);
    return -1;
}

/* Copy `size` bytes into a block that a bytearray or array can adopt. */
static int
load_copy(cargo *c, const char *data, size_t size, size_t head)
{
    c->block = PyMem_RawMalloc(head + size + 1);
    if (c->block == NULL) {
        PyErr_NoMemory();
        return -1;
    }
    memcpy((char *)c->block + head, data, size);
    ((char *)c->block)[head + size] = '\0';
    c->offset = head;
    c->size = size;
    c->room = COMPAT_BYTEARRAY_HAS_BYTES ? size : size + 1;
    return 0;
}

#define BYTES_HEAD offsetof(PyBytesObject, ob_sval)

static int
load_bytearray(core_state *state, cargo *c, PyObject *obj)
{
    PyByteArrayObject *array = (PyByteArrayObject *)obj;
    size_t size = (size_t)Py_SIZE(array);
    if (array->ob_exports > 0) {
        return refuse_exports(obj);
    }
    bool movable = state->can_adopt && array->ob_alloc > OWN_BLOCK;
#if COMPAT_BYTEARRAY_HAS_BYTES
    movable = movable && Py_REFCNT(array->ob_bytes_object) == 1;
#endif
    if (!movable) {
        size_t head = COMPAT_BYTEARRAY_HAS_BYTES ? BYTES_HEAD : 0;
        return load_copy(c, PyByteArray_AS_STRING(obj), size, head) < 0
                   ? -1
                   : PyByteArray_Resize(obj, 0);
    }
    /* What an empty one looks like, it says itself. */
    PyObject *model = PyByteArray_FromStringAndSize(NULL, 0);
    if (model == NULL || adopt_count_out() < 0) {
        Py_XDECREF(model);
        return -1;
    }
    PyByteArrayObject *empty = (PyByteArrayObject *)model;
    c->size = size;
    c->room = (size_t)array->ob_alloc;
#if COMPAT_BYTEARRAY_HAS_BYTES
    c->block = array->ob_bytes_object;
    array->ob_bytes_object = Py_NewRef(empty->ob_bytes_object);
#else
    c->block = array->ob_bytes;
#endif
    c->offset = (size_t)(array->ob_start - (char *)c->block);
    array->ob_bytes = empty->ob_bytes;
    array->ob_start = empty->ob_start;
    array->ob_alloc = empty->ob_alloc;
    Py_SET_SIZE(array, 0);
    Py_DECREF(model);
    return 0;
}

static PyTypeObject *
array_type(void)
{
    PyObject *module = PyImport_ImportModule("array");
    PyObject *type =
        module == NULL ? NULL : PyObject_GetAttrString(module, "array");
    Py_XDECREF(module);
    return (PyTypeObject *)type;
}

/* Is an array what we think it is? */
static bool
array_is_known(PyObject *obj, const Py_buffer *b)
{
    arrayobj *array = (arrayobj *)obj;
    return Py_TYPE(obj)->tp_basicsize == sizeof(arrayobj) &&
           (Py_SIZE(array) == 0 || b->buf == (void *)array->ob_item) &&
           b->len == Py_SIZE(array) * b->itemsize &&
           array->allocated >= Py_SIZE(array) && array->ob_exports == 1;
}

static int
load_array(core_state *state, cargo *c, PyObject *obj)
{
    arrayobj *array = (arrayobj *)obj;
    PyObject *code = PyObject_GetAttrString(obj, "typecode");
    Py_buffer b;
    if (code == NULL || PyObject_GetBuffer(obj, &b, PyBUF_ND) < 0) {
        Py_XDECREF(code);
        return -1;
    }
    c->typecode = (int)PyUnicode_ReadChar(code, 0);
    c->itemsize = (size_t)b.itemsize;
    Py_DECREF(code);
    bool known = array_is_known(obj, &b);
    bool exported = Py_TYPE(obj)->tp_basicsize == sizeof(arrayobj) &&
                    array->ob_exports > 1;
    bool movable = known && state->can_adopt &&
                   (size_t)array->allocated * c->itemsize > OWN_BLOCK;
    int rc = 0;
    if (!movable && !exported) {
        rc = load_copy(c, b.buf, (size_t)b.len, 0);
    }
    PyBuffer_Release(&b);
    if (exported) {
        return refuse_exports(obj);
    }
    if (!movable) {
        return rc < 0 ? -1
                      : PySequence_DelSlice(obj, 0, PY_SSIZE_T_MAX);
    }
    if (adopt_count_out() < 0) {
        return -1;
    }
    c->block = array->ob_item;
    c->size = (size_t)Py_SIZE(array) * c->itemsize;
    c->room = (size_t)array->allocated * c->itemsize;
    array->ob_item = NULL;
    array->allocated = 0;
    Py_SET_SIZE(array, 0);
    return 0;
}

static int
load_buffer(cargo *c, PyObject *obj)
{
    bufferobj *buffer = (bufferobj *)obj;
    if (buffer->exports > 0) {
        return refuse_exports(obj);
    }
    if (buffer->region == NULL) {
        PyErr_SetString(PyExc_ValueError, "this Buffer was moved away already");
        return -1;
    }
    c->region = buffer->region;
    c->size = c->region->size;
    buffer->region = NULL;
    return 0;
}

/* ----------------------------------------------------------------- landing */

static PyObject *
land_bytearray(core_state *state, const cargo *c)
{
    const char *data = (const char *)c->block + c->offset;
    if (!state->can_adopt) {
        return PyByteArray_FromStringAndSize(data, (Py_ssize_t)c->size);
    }
    if (adopt_count_in() < 0) {
        return NULL;
    }
    PyObject *obj = adopt_bytearray(c->block, c->offset, c->size, c->room);
    if (obj == NULL) {
        (void)adopt_count_out();
    }
    return obj;
}

static PyObject *
land_array(core_state *state, const cargo *c)
{
    PyTypeObject *type = array_type();
    PyObject *obj =
        type == NULL
            ? NULL
            : PyObject_CallFunction((PyObject *)type, "C", c->typecode);
    Py_XDECREF(type);
    if (obj == NULL || c->size == 0) {
        return obj;
    }
    arrayobj *array = (arrayobj *)obj;
    if (state->can_adopt && type->tp_basicsize == sizeof(arrayobj)) {
        if (adopt_count_in() < 0) {
            Py_DECREF(obj);
            return NULL;
        }
        array->ob_item = c->block;
        array->allocated = (Py_ssize_t)(c->room / c->itemsize);
        Py_SET_SIZE(array, (Py_ssize_t)(c->size / c->itemsize));
        return obj;
    }
    PyObject *bytes = PyBytes_FromStringAndSize(c->block, (Py_ssize_t)c->size);
    PyObject *done =
        bytes == NULL ? NULL
                      : PyObject_CallMethod(obj, "frombytes", "(O)", bytes);
    if (done == NULL) {
        Py_CLEAR(obj);
    }
    Py_XDECREF(done);
    Py_XDECREF(bytes);
    return obj;
}

/* Make the object of it, once. `from` is where it is now. */
static PyObject *
land(core_state *state, cargo *c, cargo_state from)
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
        obj = land_bytearray(state, c);
        adopted = state->can_adopt;
        break;
    case CARGO_ARRAY:
        obj = land_array(state, c);
        adopted = state->can_adopt && c->size > 0;
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
        PyMem_RawFree(c->block);
    }
    return obj;
}

PyObject *
moved_decode(decoder *d, struct handle *h)
{
    cargo *c = h->ptr;
    PyObject *obj = land(d->state, c, SENT);
    if (obj == NULL || c->kind != CARGO_NDARRAY) {
        return obj;
    }
    Py_DECREF(obj);
    obj = dec_object(d);
    if (obj == NULL) {
        cargo_step(c, LANDED, SENT); /* not lost: its Moved has it still */
    }
    return obj;
}

int
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
    PyObject *taken = land(state, self->load, WAITING);
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
    static const char *const kinds[] = {"bytearray", "array", "Buffer",
                                        "ndarray"};
    static const char *const states[] = {"to be sent", "sent", "received"};
    atoll_lock_acquire(&c->lock);
    cargo_state now = c->state;
    atoll_lock_release(&c->lock);
    return PyUnicode_FromFormat("<atoll.Moved %s of %zu bytes, %s>",
                                kinds[c->kind], c->size, states[now]);
}

PyDoc_STRVAR(moved_doc,
"What move() took out of its object. Send it; who receives it gets an object\n"
"of the same type with the same memory. See take().");

static PyMethodDef moved_methods[] = {
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

int
moved_add_type(core_state *state)
{
    state->moved_type = chanobj_make_type(state, &moved_spec);
    return state->moved_type == NULL ? -1 : 0;
}

static int
load(core_state *state, movedobj *self, PyObject *obj)
{
    cargo *c = self->load;
    if (PyByteArray_CheckExact(obj)) {
        c->kind = CARGO_BYTEARRAY;
        return load_bytearray(state, c, obj);
    }
    if (Py_IS_TYPE(obj, state->buffer_type)) {
        c->kind = CARGO_BUFFER;
        return load_buffer(c, obj);
    }
    if (strcmp(Py_TYPE(obj)->tp_name, "array.array") == 0) {
        PyTypeObject *type = array_type();
        bool is_array = Py_IS_TYPE(obj, type);
        Py_XDECREF(type);
        if (is_array) {
            c->kind = CARGO_ARRAY;
            return load_array(state, c, obj);
        }
        if (PyErr_Occurred()) {
            return -1;
        }
    }
    if (ndarray_check(obj)) {
        c->kind = CARGO_NDARRAY;
        PyObject *size = PyObject_GetAttrString(obj, "nbytes");
        c->size = size == NULL ? 0 : PyLong_AsSize_t(size);
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
    movedobj *self = PyObject_New(movedobj, state->moved_type);
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
    if (load(state, self, obj) < 0) {
        Py_CLEAR(self);
    }
    return (PyObject *)self;
}

PyMethodDef moved_functions[] = {
    {"move", core_move, METH_O, move_doc},
    {NULL, NULL, 0, NULL},
};
