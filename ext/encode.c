/* Python objects to messages. See xfer.h for what crosses and how. */
#include <string.h>

#include "chanobj.h"
#include "wire.h"

/* Tuples are encoded without a memo. One whose parts are shared could grow
 * exponentially, so past this many nodes pickle, which has one, takes over. */
#define MAX_NODES 100000

#define ENC_ONSTACK 512
#define ENC_HANDLES 8

typedef struct encoder {
    core_state *state;
    struct encoder *outer; /* in state->encoders, while pickling */
    unsigned long thread;
    unsigned char *buf;
    size_t size, room;
    size_t nodes;
    handle *handles;
    size_t nhandles, handle_room;
    unsigned char onstack[ENC_ONSTACK];
    handle handles_onstack[ENC_HANDLES];
} encoder;

typedef enum enc_result {
    ENC_OK,
    ENC_ERROR,     /* an exception is set */
    ENC_NOT_PLAIN, /* pickle it; no exception */
} enc_result;

static void
encoder_init(encoder *e, core_state *state)
{
    e->state = state;
    e->outer = NULL;
    e->thread = 0;
    e->buf = e->onstack;
    e->size = 0;
    e->room = sizeof(e->onstack);
    e->nodes = 0;
    e->handles = e->handles_onstack;
    e->nhandles = 0;
    e->handle_room = ENC_HANDLES;
}

static void
encoder_drop_handles(encoder *e)
{
    for (size_t i = 0; i < e->nhandles; i++) {
        xfer_handle_unref(e->handles[i].kind, e->handles[i].ptr);
    }
    e->nhandles = 0;
}

static void
encoder_fini(encoder *e)
{
    if (e->buf != e->onstack) {
        atoll_free(e->buf);
    }
    if (e->handles != e->handles_onstack) {
        atoll_free(e->handles);
    }
}

/* Room for `more` bytes. */
static unsigned char *
reserve(encoder *e, size_t more)
{
    if (more > e->room - e->size) {
        if (more > SIZE_MAX / 2 - e->size) {
            PyErr_NoMemory();
            return NULL;
        }
        size_t room = e->room * 2;
        if (room < e->size + more) {
            room = e->size + more;
        }
        bool first = e->buf == e->onstack;
        void *buf = first ? atoll_alloc(room) : atoll_realloc(e->buf, room);
        if (buf == NULL) {
            PyErr_NoMemory();
            return NULL;
        }
        if (first) {
            memcpy(buf, e->onstack, e->size);
        }
        e->buf = buf;
        e->room = room;
    }
    unsigned char *at = e->buf + e->size;
    e->size += more;
    return at;
}

/* A tag and up to two fixed-size fields. */
static enc_result
put(encoder *e, int tag, const void *a, size_t asize, const void *b,
    size_t bsize)
{
    unsigned char *at = reserve(e, 1 + asize + bsize);
    if (at == NULL) {
        return ENC_ERROR;
    }
    at[0] = (unsigned char)tag;
    memcpy(at + 1, a, asize);
    memcpy(at + 1 + asize, b, bsize);
    return ENC_OK;
}

static enc_result
put_tag(encoder *e, int tag)
{
    return put(e, tag, "", 0, "", 0);
}

static enc_result
put_sized(encoder *e, int tag, const void *data, size_t size)
{
    uint64_t n = size;
    return put(e, tag, &n, sizeof(n), data, size);
}

static enc_result
put_handle(encoder *e, xfer_handle_kind kind, void *ptr)
{
    if (e->nhandles == e->handle_room) {
        bool first = e->handles == e->handles_onstack;
        size_t room = e->handle_room * 2;
        handle *more = first ? atoll_alloc(room * sizeof(*more))
                             : atoll_realloc(e->handles, room * sizeof(*more));
        if (more == NULL) {
            PyErr_NoMemory();
            return ENC_ERROR;
        }
        if (first) {
            memcpy(more, e->handles_onstack, sizeof(e->handles_onstack));
        }
        e->handles = more;
        e->handle_room = room;
    }
    xfer_handle_ref(kind, ptr);
    e->handles[e->nhandles++] = (handle){.ptr = ptr, .kind = kind};
    return ENC_OK;
}

static enc_result
encode_handle(encoder *e, xfer_handle_kind kind, void *ptr)
{
    uint32_t index = (uint32_t)e->nhandles;
    enc_result r = put_handle(e, kind, ptr);
    return r == ENC_OK ? put(e, TAG_HANDLE, &index, sizeof(index), "", 0) : r;
}

static enc_result
encode_int(encoder *e, PyObject *obj)
{
    int overflow;
    int64_t value = PyLong_AsLongLongAndOverflow(obj, &overflow);
    if (overflow == 0) {
        if (value == -1 && PyErr_Occurred()) {
            return ENC_ERROR;
        }
        return put(e, TAG_INT, &value, sizeof(value), "", 0);
    }
    Py_ssize_t size =
        PyLong_AsNativeBytes(obj, NULL, 0, Py_ASNATIVEBYTES_NATIVE_ENDIAN);
    if (size < 0) {
        return ENC_ERROR;
    }
    uint64_t n = (uint64_t)size;
    unsigned char *at = reserve(e, 1 + sizeof(n) + (size_t)size);
    if (at == NULL) {
        return ENC_ERROR;
    }
    at[0] = TAG_BIGINT;
    memcpy(at + 1, &n, sizeof(n));
    Py_ssize_t used = PyLong_AsNativeBytes(obj, at + 1 + sizeof(n), size,
                                           Py_ASNATIVEBYTES_NATIVE_ENDIAN);
    return used < 0 ? ENC_ERROR : ENC_OK;
}

static enc_result
encode_str(encoder *e, PyObject *obj)
{
    uint64_t length = (uint64_t)PyUnicode_GET_LENGTH(obj);
    uint32_t maxchar = PyUnicode_MAX_CHAR_VALUE(obj);
    size_t bytes = (size_t)length * (size_t)PyUnicode_KIND(obj);
    unsigned char *at =
        reserve(e, 1 + sizeof(maxchar) + sizeof(length) + bytes);
    if (at == NULL) {
        return ENC_ERROR;
    }
    at[0] = TAG_STR;
    memcpy(at + 1, &maxchar, sizeof(maxchar));
    memcpy(at + 1 + sizeof(maxchar), &length, sizeof(length));
    memcpy(at + 1 + sizeof(maxchar) + sizeof(length), PyUnicode_DATA(obj),
           bytes);
    return ENC_OK;
}

static enc_result encode(encoder *e, PyObject *obj);

static enc_result
encode_tuple(encoder *e, PyObject *obj)
{
    Py_ssize_t count = PyTuple_GET_SIZE(obj);
    uint64_t n = (uint64_t)count;
    enc_result r = put(e, TAG_TUPLE, &n, sizeof(n), "", 0);
    if (r != ENC_OK) {
        return r;
    }
    if (Py_EnterRecursiveCall(" while sending a nested tuple")) {
        return ENC_ERROR;
    }
    for (Py_ssize_t i = 0; i < count && r == ENC_OK; i++) {
        r = encode(e, PyTuple_GET_ITEM(obj, i));
    }
    Py_LeaveRecursiveCall();
    return r;
}

static enc_result
encode_interpreter(encoder *e, PyObject *obj)
{
    struct home *h = interpreter_home(e->state, obj);
    if (h != NULL) {
        return encode_handle(e, HANDLE_HOME, h);
    }
    PyObject *id = PyErr_Occurred() ? NULL : PyObject_GetAttrString(obj, "id");
    if (id == NULL) {
        return ENC_ERROR;
    }
    int64_t value = PyLong_AsLongLong(id);
    Py_DECREF(id);
    if (value == -1 && PyErr_Occurred()) {
        return ENC_ERROR;
    }
    return put(e, TAG_FOREIGN, &value, sizeof(value), "", 0);
}

/* Append the flat encoding of `obj`. Nothing here runs Python code, so what is
 * walked cannot change under us. (The `id` of an Interpreter is an ordinary
 * attribute of an exact, known class.) */
static enc_result
encode(encoder *e, PyObject *obj)
{
    core_state *state = e->state;
    PyTypeObject *type = Py_TYPE(obj);
    if (++e->nodes > MAX_NODES) {
        return ENC_NOT_PLAIN;
    }
    if (obj == Py_None) {
        return put_tag(e, TAG_NONE);
    }
    if (type == &PyLong_Type) {
        return encode_int(e, obj);
    }
    if (type == &PyUnicode_Type) {
        return encode_str(e, obj);
    }
    if (type == &PyBytes_Type) {
        return put_sized(e, TAG_BYTES, PyBytes_AS_STRING(obj),
                         (size_t)PyBytes_GET_SIZE(obj));
    }
    if (type == &PyTuple_Type) {
        return encode_tuple(e, obj);
    }
    if (type == &PyFloat_Type) {
        double value = PyFloat_AS_DOUBLE(obj);
        return put(e, TAG_FLOAT, &value, sizeof(value), "", 0);
    }
    if (obj == Py_True || obj == Py_False) {
        return put_tag(e, obj == Py_True ? TAG_TRUE : TAG_FALSE);
    }
    if (obj == Py_Ellipsis) {
        return put_tag(e, TAG_ELLIPSIS);
    }
    if (type == &PyComplex_Type) {
        Py_complex c = PyComplex_AsCComplex(obj);
        return put(e, TAG_COMPLEX, &c.real, sizeof(double), &c.imag,
                   sizeof(double));
    }
    if (type == state->queue_type) {
        return encode_handle(e, HANDLE_QUEUE, ((chanobj *)obj)->chan);
    }
    if (type == state->send_type) {
        return encode_handle(e, HANDLE_SEND, ((chanobj *)obj)->chan);
    }
    if (type == state->recv_type) {
        return encode_handle(e, HANDLE_RECV, ((chanobj *)obj)->chan);
    }
    if ((PyObject *)type == state->interpreter_class) {
        return encode_interpreter(e, obj);
    }
    return ENC_NOT_PLAIN;
}

static enc_result
encode_pickle(encoder *e, PyObject *obj)
{
    core_state *state = e->state;
    if (state->dumps == NULL) {
        PyObject *module = PyImport_ImportModule("atoll._pickle");
        if (module == NULL) {
            return ENC_ERROR;
        }
        PyObject *dumps = PyObject_GetAttrString(module, "dumps");
        Py_DECREF(module);
        if (dumps == NULL) {
            return ENC_ERROR;
        }
        Py_XSETREF(state->dumps, dumps);
    }
    /* Handles met on the way find us here. Pickling runs any code, so other
     * threads may come and go in the list meanwhile: it is not a stack. */
    e->thread = PyThread_get_thread_ident();
    e->outer = state->encoders;
    state->encoders = e;
    PyObject *data = PyObject_CallOneArg(state->dumps, obj);
    encoder **link = &state->encoders;
    while (*link != e) {
        link = &(*link)->outer;
    }
    *link = e->outer;
    if (data == NULL) {
        return ENC_ERROR;
    }
    enc_result r = ENC_ERROR;
    if (PyBytes_CheckExact(data)) {
        r = put_sized(e, TAG_PICKLE, PyBytes_AS_STRING(data),
                      (size_t)PyBytes_GET_SIZE(data));
    }
    else {
        PyErr_SetString(PyExc_TypeError, "pickling must give bytes");
    }
    Py_DECREF(data);
    return r;
}

int
xfer_note_handle(core_state *state, xfer_handle_kind kind, void *ptr)
{
    unsigned long thread = PyThread_get_thread_ident();
    for (encoder *e = state->encoders; e != NULL; e = e->outer) {
        if (e->thread == thread) {
            return put_handle(e, kind, ptr) == ENC_OK ? 0 : -1;
        }
    }
    return 0;
}

/* Move what was encoded into the message. */
static int
encoder_finish(encoder *e, atoll_msg *msg)
{
    if (e->size <= ATOLL_MSG_INLINE && e->nhandles == 0) {
        msg->tag = TAG_FLAT;
        msg->len = (uint8_t)e->size;
        memcpy(msg->u.bytes, e->buf, e->size);
        return 0;
    }
    size_t head = sizeof(block) + e->nhandles * sizeof(handle);
    block *b = atoll_alloc(head + e->size);
    if (b == NULL) {
        PyErr_NoMemory();
        return -1;
    }
    b->nhandles = e->nhandles;
    b->size = e->size;
    memcpy(b->handles, e->handles, e->nhandles * sizeof(handle));
    memcpy(block_data(b), e->buf, e->size);
    e->nhandles = 0; /* the block owns them now */
    msg->tag = TAG_BLOCK;
    msg->u.heap.ptr = b;
    msg->u.heap.size = e->size;
    msg->drop = wire_drop_block;
    return 0;
}

/* What fits into the message as it is: the common case, without a buffer. */
static bool
encode_scalar(PyObject *obj, atoll_msg *msg)
{
    if (PyLong_CheckExact(obj)) {
        int overflow;
        int64_t value = PyLong_AsLongLongAndOverflow(obj, &overflow);
        msg->u.i64 = value;
        msg->tag = TAG_INT;
        return overflow == 0;
    }
    if (obj == Py_None) {
        msg->tag = TAG_NONE;
        return true;
    }
    if (PyFloat_CheckExact(obj)) {
        msg->u.f64 = PyFloat_AS_DOUBLE(obj);
        msg->tag = TAG_FLOAT;
        return true;
    }
    return false;
}

/* One large str or bytes goes straight into its block: one copy, not two. */
#define LARGE 4096

static bool
is_large(PyObject *obj)
{
    return (PyBytes_CheckExact(obj) && PyBytes_GET_SIZE(obj) > LARGE) ||
           (PyUnicode_CheckExact(obj) && PyUnicode_GET_LENGTH(obj) > LARGE);
}

static int
encode_large(core_state *state, PyObject *obj, atoll_msg *msg)
{
    bool is_bytes = PyBytes_CheckExact(obj);
    size_t size = is_bytes ? (size_t)PyBytes_GET_SIZE(obj)
                           : (size_t)PyUnicode_GET_LENGTH(obj) *
                                 (size_t)PyUnicode_KIND(obj);
    block *b = atoll_alloc(sizeof(block) + size + 32);
    if (b == NULL) {
        PyErr_NoMemory();
        return -1;
    }
    b->nhandles = 0;
    encoder e;
    encoder_init(&e, state);
    e.buf = block_data(b); /* has room for all that follows */
    e.room = size + 32;
    if (is_bytes) {
        put_sized(&e, TAG_BYTES, PyBytes_AS_STRING(obj), size);
    }
    else {
        encode_str(&e, obj);
    }
    b->size = e.size;
    msg->tag = TAG_BLOCK;
    msg->u.heap.ptr = b;
    msg->u.heap.size = e.size;
    msg->drop = wire_drop_block;
    return 0;
}

int
xfer_encode(core_state *state, PyObject *obj, atoll_msg *msg)
{
    msg->drop = NULL;
    msg->group = state->interp_id;
    msg->orphan = ATOLL_ORPHAN_KEEP;
    msg->orphaned = 0;
    if (encode_scalar(obj, msg)) {
        return 0;
    }
    if (is_large(obj)) {
        return encode_large(state, obj, msg);
    }
    encoder e;
    encoder_init(&e, state);
    enc_result r = encode(&e, obj);
    if (r == ENC_NOT_PLAIN) {
        encoder_drop_handles(&e);
        e.size = 0;
        r = encode_pickle(&e, obj);
    }
    int rc = r == ENC_OK ? encoder_finish(&e, msg) : -1;
    encoder_drop_handles(&e);
    encoder_fini(&e);
    return rc;
}

bool
xfer_is_shareable(core_state *state, PyObject *obj)
{
    encoder e;
    encoder_init(&e, state);
    enc_result r = encode(&e, obj);
    encoder_drop_handles(&e);
    encoder_fini(&e);
    if (r == ENC_ERROR) {
        PyErr_Clear();
    }
    return r == ENC_OK;
}
