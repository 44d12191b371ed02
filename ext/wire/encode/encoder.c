/* Python objects to messages: the encoder, its memo, and the message at the end.
 * See wire/wire.h and wire/encode/encoder.h.
 *
 * A container that nobody else refers to (its count is one, held by its parent)
 * cannot be met a second time, so only objects with more references go into the
 * memo. On a cycle there is always one with two: the one through which the walk
 * came in. */
#include "wire/encode/encoder.h"

#include <stdarg.h>

/* ------------------------------------------------------------ the encoder */

static void
encoder_init(encoder *e, core_state *state)
{
    e->state = state;
    e->at = e->onstack;
    e->end = e->onstack + sizeof(e->onstack);
    e->heap = NULL;
    e->handles = e->handles_onstack;
    e->nhandles = 0;
    e->handle_room = ENC_HANDLES;
    e->count = 0;
    e->shapes = 0;
    e->types = NULL;
    e->last_type = NULL;
    e->order_type = NULL;
    e->pickler = NULL;
    e->by_value = 0;
    e->nforms = 0;
    e->forms_used = false;
    e->path = NULL;
    e->culprit = NULL;
    e->linked = false;
    e->in_exception = false;
    e->alone = false;
    e->share_buffers = false;
    memo_init(&e->memo);
}

void
enc_link(encoder *e)
{
    if (!e->linked) {
        e->linked = true;
        e->thread = PyThread_get_thread_ident();
        e->outer = e->state->wire->encoders;
        e->state->wire->encoders = e;
    }
}

static void
encoder_fini(encoder *e)
{
    if (e->linked) {
        /* Other threads may have come and gone in the list meanwhile: it is
         * not a stack. */
        encoder **link = &e->state->wire->encoders;
        while (*link != e) {
            link = &(*link)->outer;
        }
        *link = e->outer;
    }
    for (size_t i = 0; i < e->nhandles; i++) {
        xfer_handle_unref(e->handles[i].kind, e->handles[i].ptr);
    }
    if (e->handles != e->handles_onstack) {
        atoll_free(e->handles);
    }
    if (e->heap != NULL) {
        block_give(e->state, e->heap);
    }
    Py_XDECREF(e->path);
    Py_XDECREF(e->culprit);
    Py_XDECREF(e->types);
    Py_XDECREF(e->pickler);
    for (size_t i = 0; i < ENC_FORMS && e->forms_used; i++) {
        Py_XDECREF(e->forms[i].keys);
    }
    memo_fini(&e->memo); /* last: runs destructors */
}

#define FIRST_HEAP 4096

int
encoder_grow(encoder *e, size_t more)
{
    size_t used = e->heap == NULL ? (size_t)(e->at - e->onstack)
                                  : (size_t)(e->at - e->heap->data);
    size_t room = used * 2 > FIRST_HEAP ? used * 2 : FIRST_HEAP;
    if (more > SIZE_MAX / 4 || used > SIZE_MAX / 4) {
        PyErr_NoMemory();
        return -1;
    }
    if (room < used + more) {
        room = used + more;
    }
    block *heap =
        e->heap == NULL ? block_new(e->state, room) : block_grow(e->heap, room);
    if (heap == NULL) {
        PyErr_NoMemory();
        return -1;
    }
    if (e->heap == NULL) {
        memcpy(heap->data, e->onstack, used);
    }
    e->heap = heap;
    e->at = heap->data + used;
    e->end = heap->data + heap->room;
    return 0;
}

int
enc_handle(encoder *e, xfer_handle_kind kind, void *ptr, uint32_t *index)
{
    if (e->nhandles == e->handle_room) {
        bool first = e->handles == e->handles_onstack;
        size_t room = e->handle_room * 2;
        handle *more = first ? atoll_alloc(room * sizeof(*more))
                             : atoll_realloc(e->handles, room * sizeof(*more));
        if (more == NULL) {
            xfer_handle_unref(kind, ptr);
            PyErr_NoMemory();
            return -1;
        }
        if (first) {
            memcpy(more, e->handles_onstack, sizeof(e->handles_onstack));
        }
        e->handles = more;
        e->handle_room = room;
    }
    *index = (uint32_t)e->nhandles;
    e->handles[e->nhandles++] = (handle){.ptr = ptr, .kind = kind};
    return 0;
}

int
enc_put_handle(encoder *e, int tag, xfer_handle_kind kind, void *ptr)
{
    uint32_t index;
    xfer_handle_ref(kind, ptr);
    if (enc_handle(e, kind, ptr, &index) < 0) {
        return -1;
    }
    return enc_put(e, tag, &index, sizeof(index));
}

int
xfer_note_handle(core_state *state, xfer_handle_kind kind, void *ptr)
{
    unsigned long thread = PyThread_get_thread_ident();
    for (encoder *e = state->wire->encoders; e != NULL; e = e->outer) {
        if (e->thread == thread) {
            uint32_t index;
            xfer_handle_ref(kind, ptr);
            return enc_handle(e, kind, ptr, &index);
        }
    }
    return 0;
}

/* ---------------------------------------------------------------- the memo */

int
enc_known(encoder *e, PyObject *obj)
{
    if (e->memo.slots == NULL) {
        return 0;
    }
    memo_slot *slot = memo_find(&e->memo, obj);
    if (slot->obj == NULL) {
        return 0;
    }
    return enc_put(e, TAG_REF, &slot->index, sizeof(slot->index)) < 0 ? -1 : 1;
}

int
enc_number(encoder *e, PyObject *obj)
{
    if (memo_reserve(&e->memo) < 0) {
        return -1;
    }
    memo_slot *slot = memo_find(&e->memo, obj);
    if (slot->obj == NULL) {
        slot->obj = Py_NewRef(obj);
        e->memo.used++;
    }
    slot->index = e->count++;
    return 0;
}

int
enc_number_late(encoder *e, PyObject *obj)
{
    memo_slot *slot = e->memo.slots == NULL ? NULL : memo_find(&e->memo, obj);
    if (slot != NULL && slot->obj != NULL) {
        uint32_t index = slot->index;
        return enc_put(e, 1, &index, sizeof(index)) < 0 ? -1 : 1;
    }
    return enc_tag(e, 0) < 0 ? -1 : enc_number(e, obj);
}

int
enc_memo(encoder *e, PyObject *obj, int *memo)
{
    if (Py_REFCNT(obj) == 1) {
        *memo = 0;
        return 0;
    }
    if (memo_reserve(&e->memo) < 0) {
        return -1;
    }
    memo_slot *slot = memo_find(&e->memo, obj);
    if (slot->obj != NULL) {
        return enc_put(e, TAG_REF, &slot->index, sizeof(slot->index)) < 0 ? -1 : 1;
    }
    slot->obj = Py_NewRef(obj);
    slot->index = e->count++;
    e->memo.used++;
    *memo = MEMO;
    return 0;
}

/* ---------------------------------------------------------------- failures */

void
enc_path(encoder *e, const char *format, ...)
{
    if (e->culprit == NULL) {
        return; /* another kind of failure: it speaks for itself */
    }
    PyObject *exc = PyErr_GetRaisedException();
    va_list args;
    va_start(args, format);
    PyObject *step = PyUnicode_FromFormatV(format, args);
    va_end(args);
    if (e->path == NULL) {
        e->path = PyList_New(0);
    }
    if (step == NULL || e->path == NULL || PyList_Append(e->path, step) < 0) {
        PyErr_Clear(); /* a path with a gap is better than none */
    }
    Py_XDECREF(step);
    PyErr_SetRaisedException(exc);
}

int
enc_refuse(encoder *e, PyObject *obj)
{
    if (e->culprit == NULL) {
        e->culprit = Py_NewRef(obj);
    }
    return -1;
}

/* ------------------------------------------------------------ the message */

/* Move what was encoded into the message. */
static int
encoder_finish(encoder *e, atoll_msg *msg)
{
    size_t size = e->heap == NULL ? (size_t)(e->at - e->onstack)
                                  : (size_t)(e->at - e->heap->data);
    if (size <= ATOLL_MSG_INLINE && e->nhandles == 0) {
        msg->tag = TAG_FLAT;
        msg->len = (uint8_t)size;
        memcpy(msg->u.bytes, e->at - size, size);
        return 0;
    }
    block *b = e->heap;
    if (b == NULL || b->room / 2 > size) {
        /* It may wait for long: what is not needed stays here. */
        b = atoll_alloc(sizeof(block) + size);
        if (b == NULL) {
            PyErr_NoMemory();
            return -1;
        }
        b->room = size;
        memcpy(b->data, e->at - size, size);
        if (e->heap != NULL) {
            block_give(e->state, e->heap);
        }
        e->heap = b;
    }
    b->handles = NULL;
    b->nhandles = e->nhandles;
    b->size = size;
    if (e->nhandles > 0) {
        if (e->handles == e->handles_onstack) {
            b->handles = atoll_alloc(e->nhandles * sizeof(handle));
            if (b->handles == NULL) {
                PyErr_NoMemory();
                return -1;
            }
            memcpy(b->handles, e->handles, e->nhandles * sizeof(handle));
        }
        else {
            b->handles = e->handles;
            e->handles = e->handles_onstack;
        }
    }
    e->heap = NULL; /* the message owns it now, and the handles */
    e->nhandles = 0;
    msg->tag = TAG_BLOCK;
    msg->u.heap.ptr = b;
    msg->u.heap.size = size;
    msg->drop = wire_drop_block;
    return 0;
}

/* What fits into the message as it is: the common case, without a buffer. */
static bool
enc_scalar(PyObject *obj, atoll_msg *msg)
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

/* "at ['jobs'][3].callback: <object> cannot be sent ...: reason" */
static void
raise_refusal(encoder *e)
{
    PyObject *reason = PyErr_GetRaisedException();
    PyObject *cls = error_class(e->state, "NotShareableError");
    PyObject *where = PyUnicode_FromString("");
    for (Py_ssize_t i = e->path == NULL ? 0 : PyList_GET_SIZE(e->path);
         i > 0 && where != NULL; i--) {
        Py_SETREF(where, PyUnicode_Concat(where, PyList_GET_ITEM(e->path, i - 1)));
    }
    PyObject *shown = PyObject_Repr(e->culprit);
    if (shown == NULL) { /* the user's code: anything may come of it */
        PyErr_Clear();
        shown = PyUnicode_FromFormat("<%s object>", Py_TYPE(e->culprit)->tp_name);
    }
    if (cls != NULL && where != NULL && shown != NULL) {
        bool inside = PyUnicode_GET_LENGTH(where) > 0;
        PyErr_Format(cls, "%s%U%s%.300U cannot be sent to another interpreter%s%S",
                     inside ? "at " : "", where, inside ? ": " : "", shown,
                     reason == NULL ? "" : ": ", reason == NULL ? where : reason);
    }
    Py_XDECREF(where);
    Py_XDECREF(shown);
    if (reason != NULL && PyErr_Occurred()) {
        PyObject *exc = PyErr_GetRaisedException();
        PyException_SetCause(exc, reason); /* steals */
        PyErr_SetRaisedException(exc);
    }
    else {
        Py_XDECREF(reason);
    }
}

/* The end of the encoder in any case: a message, if rc is 0. */
static int
encoder_end(encoder *e, int rc, atoll_msg *msg)
{
    if (rc == 0) {
        rc = encoder_finish(e, msg);
    }
    else if (e->culprit != NULL) {
        raise_refusal(e);
    }
    PyObject *exc = rc < 0 ? PyErr_GetRaisedException() : NULL;
    encoder_fini(e);
    if (exc != NULL) {
        PyErr_SetRaisedException(exc);
    }
    return rc;
}

/* The root is not met again but on a cycle, and then it is a container. */
static inline bool
is_single(PyTypeObject *type)
{
    return type == &PyUnicode_Type || type == &PyBytes_Type ||
           type == &PyByteArray_Type;
}

static void
message_init(core_state *state, atoll_msg *msg)
{
    msg->drop = NULL;
    msg->group = state->interp_id;
    msg->orphan = ATOLL_ORPHAN_KEEP;
    msg->orphaned = 0;
}

void
xfer_encode_float(double value, atoll_msg *msg)
{
    msg->tag = TAG_FLOAT;
    msg->u.f64 = value;
}

int
xfer_encode(core_state *state, PyObject *obj, atoll_msg *msg)
{
    message_init(state, msg);
    if (enc_scalar(obj, msg)) {
        return 0;
    }
    encoder e;
    encoder_init(&e, state);
    PyTypeObject *type = Py_TYPE(obj);
    int rc = !is_single(type)          ? enc_object(&e, obj)
             : type == &PyUnicode_Type ? enc_str(&e, obj, 0)
             : type == &PyBytes_Type   ? enc_bytes(&e, obj, 0)
                                       : enc_bytearray(&e, obj, 0);
    return encoder_end(&e, rc, msg);
}

static int
enc_attempt(encoder *e, PyObject *obj)
{
    uint64_t size = 0;
    if (enc_put(e, TAG_TRY, &size, sizeof(size)) < 0) {
        return -1;
    }
    Py_ssize_t from = enc_offset(e);
    if (enc_object(e, obj) < 0) {
        return -1;
    }
    enc_patch(e, from - (Py_ssize_t)sizeof(size), false, enc_offset(e) - from);
    return 0;
}

/* Encode the pair (info, exc); `alone`: without the exceptions that `exc` comes from.
 */
static int
encode_error(core_state *state, PyObject *info, PyObject *exc, bool alone,
             atoll_msg *msg)
{
    const uint8_t two = 2;
    encoder e;
    message_init(state, msg);
    encoder_init(&e, state);
    e.alone = alone;
    int rc = enc_put(&e, TAG_TUPLE8, &two, 1) < 0 || enc_object(&e, info) < 0 ||
                     enc_attempt(&e, exc) < 0
                 ? -1
                 : 0;
    return encoder_end(&e, rc, msg);
}

int
xfer_encode_error(core_state *state, PyObject *info, PyObject *exc, atoll_msg *msg)
{
    if (encode_error(state, info, exc, false, msg) == 0) {
        return 0;
    }
    PyObject *why = PyErr_GetRaisedException();
    /* Its class matters more than those: the text of the traceback has them all. */
    int rc = encode_error(state, info, exc, true, msg);
    if (rc == 0) {
        Py_DECREF(why);
        return 0;
    }
    PyErr_Clear();
    PyObject *text = PyObject_Str(why);
    PyObject *pair = text == NULL ? NULL : PyTuple_Pack(2, info, text);
    rc = pair == NULL ? -1 : xfer_encode(state, pair, msg);
    Py_XDECREF(pair);
    Py_XDECREF(text);
    Py_DECREF(why);
    return rc;
}

/* ----------------------------------------------------------- is_shareable */

#define PLAIN_DEPTH 200 /* what is nested deeper may well be too deep to send */

static bool
enc_is_plain(core_state *state, PyObject *obj, int depth)
{
    PyTypeObject *type = Py_TYPE(obj);
    if (type == &PyTuple_Type) {
        bool all = depth < PLAIN_DEPTH;
        for (Py_ssize_t i = 0; i < PyTuple_GET_SIZE(obj) && all; i++) {
            all = enc_is_plain(state, PyTuple_GET_ITEM(obj, i), depth + 1);
        }
        return all;
    }
    if ((constant_tag(obj) != 0 && obj != Py_NotImplemented) || type == &PyLong_Type ||
        type == &PyFloat_Type || type == &PyComplex_Type || type == &PyUnicode_Type ||
        type == &PyBytes_Type) {
        return true;
    }
    const wire_type *known = wire_find_type(state, type);
    return known != NULL && known->shareable;
}

bool
xfer_is_shareable(core_state *state, PyObject *obj)
{
    return enc_is_plain(state, obj, 0);
}

bool
xfer_is_builtin(core_state *state, PyTypeObject *type)
{
    const wire_type *known = wire_find_type(state, type);
    return (known != NULL && known->shareable) || is_container(type) ||
           is_single(type) || type == &PyLong_Type || type == &PyFloat_Type ||
           type == &PyComplex_Type || type == &PyBool_Type ||
           type == Py_TYPE(Py_None) || type == Py_TYPE(Py_Ellipsis) ||
           type == Py_TYPE(Py_NotImplemented) || type == &PyFunction_Type ||
           type == &PyType_Type || type == &PyModule_Type ||
           type == &PyPickleBuffer_Type || type == &PyMemoryView_Type;
}
