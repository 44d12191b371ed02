/* Memoryviews that cross without a copy. See memory/memory.h. */
#include "memory/memory.h"

#include "wait/wait.h"
#include "wire/kind.h"

/* ----------------------------------------------------- what the owner holds */

typedef struct export
{
    atoll_region region; /* first: the region is the export */
    mail mail;
    mailbox *owner;   /* counted */
    Py_buffer buffer; /* of the owner's */
}
export;

static void
open_export(mail *m)
{
    export *x = (export *)((char *)m - offsetof(export, mail));
    mailbox *owner = x->owner;
    PyObject *exc = PyErr_GetRaisedException();
    PyBuffer_Release(&x->buffer);
    PyErr_SetRaisedException(exc);
    atoll_free(x);
    mailbox_unref(owner);
}

static void
release_export(atoll_region *region)
{
    export *x = (export *)region;
    /* The mailbox may be opened, and the export freed, before post returns. */
    mailbox *owner = mailbox_ref(x->owner);
    mailbox_post(owner, &x->mail);
    mailbox_unref(owner);
}

/* A region for the memory of `view`. The caller owns a reference. It holds a
 * view of its own: so release() of the sender's works. */
static atoll_region *
export_new(core_state *state, PyObject *view)
{
    mailbox_drain(state->wait->mailbox); /* who sends many gets many back */
    export *x = atoll_alloc(sizeof(*x));
    if (x == NULL) {
        PyErr_NoMemory();
        return NULL;
    }
    PyObject *own = PyMemoryView_FromObject(view);
    int rc = own == NULL ? -1 : PyObject_GetBuffer(own, &x->buffer, PyBUF_FULL_RO);
    Py_XDECREF(own); /* the buffer holds it */
    if (rc < 0) {
        atoll_free(x);
        return NULL;
    }
    x->region = (atoll_region){.refs = 1,
                               .data = x->buffer.buf,
                               .size = (size_t)x->buffer.len,
                               .release = release_export};
    x->mail = (mail){.open = open_export};
    x->owner = mailbox_ref(state->wait->mailbox);
    mailbox_expect(x->owner);
    return &x->region;
}

/* ------------------------------------------------------------ the exporter */

/* Up to two arrays of ndim numbers are at its end: shape and strides, or three
 * with suboffsets. */
typedef struct viewobj {
    PyObject_HEAD
    atoll_region *region; /* counted; NULL: the memory is of this interpreter */
    Py_buffer own;        /* then: a view of what exports it */
    void *buf;
    Py_ssize_t len, itemsize;
    int ndim;
    bool readonly;
    bool indirect;      /* it has suboffsets */
    char *format;       /* owned */
    Py_ssize_t *arrays; /* owned; 3 * ndim */
} viewobj;

static void
view_dealloc(PyObject *obj)
{
    viewobj *self = (viewobj *)obj;
    PyTypeObject *type = Py_TYPE(obj);
    atoll_region *region = self->region;
    Py_buffer own = self->own;
    atoll_free(self->format);
    atoll_free(self->arrays);
    PyObject_Free(self);
    Py_DECREF(type);
    PyBuffer_Release(&own);
    if (region != NULL) {
        atoll_region_unref(region); /* last: may run code of the owner's */
    }
}

static int
view_getbuffer(PyObject *obj, Py_buffer *out, int flags)
{
    viewobj *self = (viewobj *)obj;
    if ((flags & PyBUF_WRITABLE) && self->readonly) {
        PyErr_SetString(PyExc_BufferError, "this memory is read-only");
        return -1;
    }
    /* memoryview asks for everything, and sees to what others want of it. */
    if ((flags & PyBUF_FULL_RO) != PyBUF_FULL_RO) {
        PyErr_SetString(PyExc_BufferError, "use the memoryview of it");
        return -1;
    }
    *out = (Py_buffer){
        .obj = Py_NewRef(obj),
        .buf = self->buf,
        .len = self->len,
        .itemsize = self->itemsize,
        .readonly = self->readonly,
        .ndim = self->ndim,
        .format = self->format,
        .shape = self->arrays,
        .strides = self->arrays + self->ndim,
        .suboffsets = self->indirect ? self->arrays + 2 * (size_t)self->ndim : NULL,
    };
    return 0;
}

static PyType_Slot view_slots[] = {
    {Py_tp_dealloc, view_dealloc},
    {Py_bf_getbuffer, view_getbuffer},
    {Py_tp_doc, "What a memoryview that was received is a view of."},
    {0, NULL},
};

static PyType_Spec view_spec = {
    .name = "atoll._core._View",
    .basicsize = sizeof(viewobj),
    .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_DISALLOW_INSTANTIATION |
             Py_TPFLAGS_IMMUTABLETYPE,
    .slots = view_slots,
};

/* -------------------------------------------------------------- the wire */

/* In the message: */
typedef struct geometry {
    void *buf;
    int64_t len, itemsize;
    int32_t ndim;
    uint8_t readonly, indirect;
    uint16_t format; /* bytes that follow; then the arrays */
} geometry;

static int
put_geometry(encoder *e, const Py_buffer *b)
{
    const char *format = b->format == NULL ? "B" : b->format;
    size_t length = strlen(format) + 1;
    if (length > UINT16_MAX) {
        PyErr_SetString(PyExc_ValueError, "the view's format is too long");
        return -1;
    }
    geometry g = {
        .buf = b->buf,
        .len = b->len,
        .itemsize = b->itemsize,
        .ndim = b->ndim,
        .readonly = b->readonly != 0,
        .indirect = b->suboffsets != NULL,
        .format = (uint16_t)length,
    };
    size_t array = (size_t)b->ndim * sizeof(Py_ssize_t);
    unsigned char *at = enc_reserve(e, sizeof(g) + length + 3 * array);
    if (at == NULL) {
        return -1;
    }
    memcpy(at, &g, sizeof(g));
    memcpy(at + sizeof(g), format, length);
    at += sizeof(g) + length;
    if (array > 0) {
        memcpy(at, b->shape, array);
        memcpy(at + array, b->strides, array);
        if (b->suboffsets != NULL) {
            memcpy(at + 2 * array, b->suboffsets, array);
        }
        else {
            memset(at + 2 * array, 0, array);
        }
    }
    return 0;
}

static int
enc_memoryview(encoder *e, PyObject *obj)
{
    core_state *state = e->state;
    int memo = 0, known = enc_memo(e, obj, &memo);
    if (known != 0) {
        return known < 0 ? -1 : 0;
    }
    Py_buffer whole;
    if (PyObject_GetBuffer(obj, &whole, PyBUF_FULL_RO) < 0) {
        return enc_refuse(e, obj); /* released */
    }
    PyObject *of = PyMemoryView_GET_BUFFER(obj)->obj;
    atoll_region *region;
    if (of != NULL && Py_IS_TYPE(of, state->memory->view_type) &&
        ((viewobj *)of)->region != NULL) {
        region = atoll_region_ref(((viewobj *)of)->region);
    }
    else if (of != NULL && Py_IS_TYPE(of, state->memory->buffer_type)) {
        region = atoll_region_ref(((bufferobj *)of)->region);
    }
    else {
        region = export_new(state, obj);
    }
    uint32_t index;
    int rc = -1;
    if (region != NULL && enc_handle(e, HANDLE_REGION, region, &index) == 0 &&
        enc_put(e, TAG_VIEW | memo, &index, sizeof(index)) == 0) {
        rc = put_geometry(e, &whole);
    }
    PyBuffer_Release(&whole);
    return rc;
}

/* Have the new view hold the memory. What is back where it came from is held as any
 * memoryview holds it: an interpreter whose views count as lent would wait, at its end,
 * for those that it has itself, which go with it. */
static int
view_hold(core_state *state, viewobj *self, atoll_region *region)
{
    const export *x = (const export *)region;
    if (region->release != release_export || x->owner != state->wait->mailbox) {
        self->region = atoll_region_ref(region);
        return 0;
    }
    return PyObject_GetBuffer(x->buffer.obj, &self->own, PyBUF_FULL_RO);
}

static PyObject *
dec_memoryview(decoder *d, int Py_UNUSED(tag))
{
    const handle *h = &d->handles[dec_u32(d)];
    geometry g;
    memcpy(&g, dec_take(d, sizeof(g)), sizeof(g));
    const unsigned char *format = dec_take(d, g.format);
    size_t arrays = 3 * (size_t)g.ndim * sizeof(Py_ssize_t);
    const unsigned char *numbers = dec_take(d, arrays);
    viewobj *self = PyObject_New(viewobj, d->state->memory->view_type);
    if (self == NULL) {
        return NULL;
    }
    self->region = NULL;
    self->own = (Py_buffer){0};
    self->buf = g.buf;
    self->len = g.len;
    self->itemsize = g.itemsize;
    self->ndim = g.ndim;
    self->readonly = g.readonly != 0;
    self->indirect = g.indirect != 0;
    self->format = atoll_alloc(g.format);
    self->arrays = atoll_alloc(arrays);
    PyObject *view = NULL;
    if (self->format == NULL || self->arrays == NULL) {
        PyErr_NoMemory();
    }
    else if (view_hold(d->state, self, h->ptr) == 0) {
        memcpy(self->format, format, g.format);
        memcpy(self->arrays, numbers, arrays);
        view = PyMemoryView_FromObject((PyObject *)self);
    }
    Py_DECREF(self);
    return view;
}

/* ------------------------------------------------- pickle's out-of-band data */

/* One copy, here; the receiver's object is built on it. */
static int
enc_picklebuffer(encoder *e, PyObject *obj)
{
    const Py_buffer *b = PyPickleBuffer_GetBuffer(obj);
    if (b == NULL) {
        return -1;
    }
    if (e->share_buffers) {
        PyObject *view = PyMemoryView_FromObject(obj);
        int rc = view == NULL ? -1 : enc_memoryview(e, view);
        Py_XDECREF(view);
        return rc;
    }
    if (!PyBuffer_IsContiguous(b, 'A')) {
        PyErr_SetString(PyExc_BufferError,
                        "a PickleBuffer must be contiguous to be sent");
        return -1;
    }
    atoll_region *region;
    if (atoll_region_new((size_t)b->len, false, &region) != ATOLL_OK) {
        PyErr_NoMemory();
        return -1;
    }
    memcpy(region->data, b->buf, (size_t)b->len);
    uint8_t readonly = b->readonly != 0;
    uint32_t index;
    if (enc_handle(e, HANDLE_REGION, region, &index) < 0 ||
        enc_put(e, TAG_MEMORY, &index, sizeof(index)) < 0) {
        return -1;
    }
    unsigned char *at = enc_reserve(e, 1);
    if (at == NULL) {
        return -1;
    }
    *at = readonly;
    return 0;
}

static int
enc_buffer(encoder *e, PyObject *obj)
{
    int memo = 0, known = enc_memo(e, obj, &memo);
    if (known != 0) {
        return known < 0 ? -1 : 0;
    }
    atoll_region *region = ((bufferobj *)obj)->region;
    if (region == NULL) {
        PyErr_SetString(PyExc_ValueError, "it was moved away");
        return enc_refuse(e, obj);
    }
    uint8_t readonly = 0;
    if (enc_put_handle(e, TAG_MEMORY | memo, HANDLE_REGION, region) < 0) {
        return -1;
    }
    unsigned char *at = enc_reserve(e, 1);
    if (at == NULL) {
        return -1;
    }
    *at = readonly;
    return 0;
}

static PyObject *
dec_memory(decoder *d, int Py_UNUSED(tag))
{
    const handle *h = &d->handles[dec_u32(d)];
    bool readonly = dec_u8(d) != 0;
    PyObject *obj = buffer_from_region(d->state, h->ptr);
    if (obj != NULL && readonly) {
        PyObject *view = PyMemoryView_FromObject(obj);
        Py_DECREF(obj);
        obj = view == NULL ? NULL : PyObject_CallMethod(view, "toreadonly", NULL);
        Py_XDECREF(view);
    }
    return obj;
}

/* --------------------------------------------------------------- for the wire */

static void
view_ref_region(void *ptr)
{
    atoll_region_ref(ptr);
}

static void
view_unref_region(void *ptr)
{
    atoll_region_unref(ptr);
}

static const wire_kind view_region_kind = {.ref = view_ref_region,
                                           .unref = view_unref_region};

void
view_start(void)
{
    wire_set_kind(HANDLE_REGION, &view_region_kind);
    wire_set_decoder(TAG_VIEW, dec_memoryview);
    wire_set_decoder(TAG_MEMORY, dec_memory);
}

int
view_add_types(core_state *state)
{
    memory_data *data = state->memory;
    data->view_type = core_make_type(state, &view_spec);
    return data->view_type == NULL ||
                   wire_add_type(state, &PyMemoryView_Type, enc_memoryview, true) < 0 ||
                   wire_add_type(state, &PyPickleBuffer_Type, enc_picklebuffer, false) <
                       0 ||
                   wire_add_type(state, data->buffer_type, enc_buffer, true) < 0
               ? -1
               : 0;
}

/* ---------------------------------------------------------------- functions */

PyDoc_STRVAR(share_doc,
"share(obj, /)\n--\n\n"
"A memoryview of `obj`, to be sent: the receiver sees the same memory.\n\n"
"Args:\n"
"  obj: anything that exports a buffer: bytearray, array, ndarray, mmap, Buffer.\n"
"Returns:\n"
"  memoryview(obj). Sent through a queue or channel, also inside other objects,\n"
"  a memoryview arrives as one of the same memory, shape, strides, format and\n"
"  writability, in O(1). `obj` is held until the last view is released or gone,\n"
"  in whichever interpreter, and then released in its own; if that is closed\n"
"  before, the memory stays valid. Nothing synchronises who writes when.\n"
"Raises TypeError if `obj` exports no buffer, BufferError if it refuses.");

static PyObject *
core_share(PyObject *Py_UNUSED(module), PyObject *obj)
{
    return args_view("share", obj);
}

PyMethodDef view_functions[] = {
    {"share", core_share, METH_O, share_doc},
    {NULL, NULL, 0, NULL},
};
