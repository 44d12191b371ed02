/* Messages to Python objects: the decoder, and atoms. See wire/decode/decoder.h,
 * wire/form.h. */
#include "wire/decode/decoder.h"

#include "cpython/adopt.h"
#include "cpython/version.h"

int
dec_memo_grow(decoder *d)
{
    bool first = d->memo == d->memo_small;
    size_t room = d->memo_room * 4;
    PyObject **more = first ? atoll_alloc(room * sizeof(*more))
                            : atoll_realloc(d->memo, room * sizeof(*more));
    if (more == NULL) {
        PyErr_NoMemory();
        return -1;
    }
    if (first) {
        memcpy(more, d->memo_small, sizeof(d->memo_small));
    }
    d->memo = more;
    d->memo_room = room;
    return 0;
}

void
dec_link(decoder *d)
{
    if (!d->linked && d->state != NULL) {
        d->linked = true;
        d->thread = PyThread_get_thread_ident();
        d->outer = d->state->wire->decoders;
        d->state->wire->decoders = d;
    }
}

static void
decoder_fini(decoder *d)
{
    if (d->linked) {
        /* As in wire/encode/encoder.c: other threads may have come and gone meanwhile.
         */
        decoder **link = &d->state->wire->decoders;
        while (*link != d) {
            link = &(*link)->outer;
        }
        *link = d->outer;
    }
    for (size_t i = 0; i < d->memo_used; i++) {
        Py_DECREF(d->memo[i]);
    }
    if (d->memo != d->memo_small) {
        atoll_free(d->memo);
    }
    for (size_t i = 0; i < d->nforms; i++) {
        Py_DECREF(d->forms[i].names);
        layout_form_fini(&d->forms[i].layout);
    }
    if (d->forms != d->forms_small) {
        atoll_free(d->forms);
    }
    for (size_t i = 0; i < d->nshapes; i++) {
        Py_DECREF(d->shapes[i].type);
        Py_XDECREF(d->shapes[i].names);
    }
    if (d->shapes != d->shapes_small) {
        atoll_free(d->shapes);
    }
}

/* ------------------------------------------------------------------- atoms */

static PyObject *
dec_str(decoder *d)
{
    uint32_t maxchar = dec_u32(d);
    Py_ssize_t length = (Py_ssize_t)dec_u64(d);
    PyObject *str = PyUnicode_New(length, maxchar);
    if (str != NULL && length > 0) {
        size_t bytes = (size_t)length * (size_t)PyUnicode_KIND(str);
        memcpy(PyUnicode_DATA(str), dec_take(d, bytes), bytes);
    }
    return str;
}

static PyObject *
dec_blob(decoder *d)
{
    handle *h = &d->handles[dec_u32(d)];
    h->kind = HANDLE_NONE; /* used up in any case */
    PyObject *obj = adopt_take(d->state, h->ptr);
    if (d->keep && obj != NULL) {
        *h = (handle){.ptr = Py_NewRef(obj), .kind = HANDLE_TAKEN};
    }
    return obj;
}

/* ------------------------------------------------------------- any object */

/* What needs no recursion. */
static inline bool
is_atom(int tag)
{
    return tag <= TAG_BLOB || tag == TAG_REF || tag == TAG_HANDLE ||
           tag == TAG_FOREIGN || tag == TAG_PART;
}

static PyObject *
new_atom(decoder *d, int tag)
{
    switch (tag) {
    case TAG_NONE:
        Py_RETURN_NONE;
    case TAG_TRUE:
        Py_RETURN_TRUE;
    case TAG_FALSE:
        Py_RETURN_FALSE;
    case TAG_ELLIPSIS:
        return Py_NewRef(Py_Ellipsis);
    case TAG_NOTIMPLEMENTED:
        return Py_NewRef(Py_NotImplemented);
    case TAG_INT8:
        return PyLong_FromLong((int8_t)dec_u8(d));
    case TAG_INT32:
        return PyLong_FromLong((int32_t)dec_u32(d));
    case TAG_INT:
        return PyLong_FromLongLong((long long)dec_u64(d));
    case TAG_BIGINT: {
        size_t size = (size_t)dec_u64(d);
        return PyLong_FromNativeBytes(dec_take(d, size), size,
                                      Py_ASNATIVEBYTES_NATIVE_ENDIAN);
    }
    case TAG_FLOAT: {
        double value;
        memcpy(&value, dec_take(d, sizeof(value)), sizeof(value));
        return PyFloat_FromDouble(value);
    }
    case TAG_COMPLEX: {
        Py_complex value;
        memcpy(&value, dec_take(d, sizeof(value)), sizeof(value));
        return PyComplex_FromCComplex(value);
    }
    case TAG_ASCII8: {
        size_t length = dec_u8(d);
        return dec_ascii(dec_take(d, length), length);
    }
    case TAG_KEY8:
        return dec_key(d);
    case TAG_STR:
        return dec_str(d);
    case TAG_BYTES8:
    case TAG_BYTES: {
        size_t size = tag == TAG_BYTES8 ? dec_u8(d) : (size_t)dec_u64(d);
        return PyBytes_FromStringAndSize((const char *)dec_take(d, size),
                                         (Py_ssize_t)size);
    }
    case TAG_BYTEARRAY: {
        size_t size = (size_t)dec_u64(d);
        return PyByteArray_FromStringAndSize((const char *)dec_take(d, size),
                                             (Py_ssize_t)size);
    }
    case TAG_BLOB:
        return dec_blob(d);
    case TAG_REF:
        return Py_NewRef(d->memo[dec_u32(d)]);
    case TAG_HANDLE:
        return wire_open_handle(d->state, &d->handles[dec_u32(d)]);
    case TAG_FOREIGN:
    case TAG_PART:
        return wire_decode_tag(d, tag);
    }
    Py_UNREACHABLE();
}

__attribute__((noinline)) static PyObject *
dec_atom(decoder *d, int tag, bool memo)
{
    PyObject *obj = new_atom(d, tag);
    if (memo && obj != NULL && dec_number(d, true, obj) < 0) {
        Py_CLEAR(obj);
    }
    return obj;
}

/* Its frame is small, for what is nested deeply: most of it is in others. */
PyObject *
dec_object(decoder *d)
{
    int tag = dec_u8(d);
    bool memo = (tag & MEMO) != 0;
    tag &= ~MEMO;
    switch (tag) { /* they enter if they must */
    case TAG_TUPLE8:
        return dec_tuple(d, dec_u8(d), memo);
    case TAG_TUPLE:
        return dec_tuple(d, (Py_ssize_t)dec_u64(d), memo);
    case TAG_INSTANCE:
        return dec_instance(d, memo, false);
    }
    if (is_atom(tag)) {
        return dec_atom(d, tag, memo);
    }
    if (dec_enter() < 0) {
        return NULL;
    }
    PyObject *obj = dec_container(d, tag, memo);
    Py_LeaveRecursiveCall();
    return obj;
}

/* The object of *msg, which stays, but for what has been taken out of it. NULL with an
 * exception. `keep`: see xfer_decode_kept. */
static PyObject *
dec_build(core_state *state, atoll_msg *msg, bool keep)
{
    switch (msg->tag) {
    case TAG_NONE:
        Py_RETURN_NONE;
    case TAG_INT:
        return PyLong_FromLongLong(msg->u.i64);
    case TAG_FLOAT:
        return PyFloat_FromDouble(msg->u.f64);
    }
    decoder d;
    d.state = state;
    d.handles = NULL;
    d.nhandles = 0;
    d.memo = d.memo_small;
    d.memo_used = 0;
    d.memo_room = DEC_MEMO;
    d.forms = d.forms_small;
    d.nforms = 0;
    d.form_room = DEC_FORMS;
    d.shapes = d.shapes_small;
    d.nshapes = 0;
    d.shape_room = DEC_SHAPES;
    d.linked = false;
    d.keep = keep;
    if (msg->tag == TAG_FLAT) {
        d.at = msg->u.bytes;
        d.end = d.at + msg->len;
    }
    else {
        block *b = msg->u.heap.ptr;
        d.at = b->data;
        d.end = d.at + b->size;
        d.handles = b->handles;
        d.nhandles = b->nhandles;
    }
    PyObject *obj = dec_object(&d);
    PyObject *exc = obj == NULL ? PyErr_GetRaisedException() : NULL;
    decoder_fini(&d);
    if (exc != NULL) {
        PyErr_SetRaisedException(exc);
    }
    return obj;
}

/* Done with the message. */
static inline void
dec_drop(core_state *state, atoll_msg *msg)
{
    if (msg->drop == wire_drop_block) {
        wire_drop_handles(msg->u.heap.ptr);
        block_give(state, msg->u.heap.ptr);
        msg->drop = NULL;
    }
}

PyObject *
xfer_decode(core_state *state, atoll_msg *msg)
{
    PyObject *obj = dec_build(state, msg, false);
    PyObject *exc = obj == NULL ? PyErr_GetRaisedException() : NULL;
    dec_drop(state, msg);
    if (exc != NULL) {
        PyErr_SetRaisedException(exc);
    }
    return obj;
}

/* ------------------------------------------------------------------ interrupts */

/* Have CPython do what it would do at this thread's next bytecode: 0; or -1 with what
 * came of it. */
static int
dec_look(core_state *state)
{
    wire_data *data = state->wire;
    if (data->look == NULL) {
        data->look = Py_CompileString("", "<atoll>", Py_file_input);
    }
    PyObject *names = data->look == NULL ? NULL : PyDict_New();
    PyObject *done = names == NULL ? NULL : PyEval_EvalCode(data->look, names, names);
    bool raised = done == NULL;
    Py_XDECREF(done);
    Py_XDECREF(names);
    if (raised && PyErr_ExceptionMatches(PyExc_MemoryError)) {
        PyErr_Clear(); /* it comes when the caller goes on */
        return 0;
    }
    return raised ? -1 : 0;
}

/* Is it no doing of the object's? */
static bool
dec_is_interrupt(PyObject *exc)
{
    if (PyErr_GivenExceptionMatches(exc, PyExc_KeyboardInterrupt)) {
        return true;
    }
    PyObject *answer = package_call(PACKAGE_INTERRUPT, "from_handler", "(O)", exc);
    /* One that comes now is one as well. */
    bool is = answer == Py_True ||
              (answer == NULL && PyErr_ExceptionMatches(PyExc_KeyboardInterrupt));
    PyErr_Clear();
    Py_XDECREF(answer);
    return is;
}

/* Building has failed, with an exception; or has not, and there is something to be
 * looked at. */
__attribute__((noinline)) static PyObject *
dec_not_smooth(core_state *state, atoll_msg *msg, PyObject *obj, bool *kept)
{
    block *b = msg->drop == wire_drop_block ? msg->u.heap.ptr : NULL;
    if (obj == NULL || dec_look(state) < 0) {
        PyObject *exc = PyErr_GetRaisedException();
        *kept = obj != NULL || dec_is_interrupt(exc);
        Py_CLEAR(obj);
        *kept = *kept && (b == NULL || wire_unread(state, b));
        PyErr_SetRaisedException(exc);
    }
    if (*kept) {
        return NULL;
    }
    PyObject *exc = PyErr_GetRaisedException();
    if (b != NULL) {
        wire_received(b);
    }
    dec_drop(state, msg);
    PyErr_SetRaisedException(exc);
    return obj;
}

PyObject *
xfer_decode_kept(core_state *state, atoll_msg *msg, bool *kept)
{
    *kept = false;
    PyObject *obj = dec_build(state, msg, true);
    if (obj == NULL || compat_interrupt_due()) {
        return dec_not_smooth(state, msg, obj, kept);
    }
    if (msg->drop == wire_drop_block) {
        block *b = msg->u.heap.ptr;
        if (b->nhandles > 0) {
            wire_received(b);
        }
        dec_drop(state, msg);
    }
    return obj;
}

void *
xfer_noted_handle(core_state *state, xfer_handle_kind kind,
                  bool (*matches)(const void *ptr, int64_t id), int64_t id)
{
    unsigned long thread = PyThread_get_thread_ident();
    for (decoder *d = state->wire->decoders; d != NULL; d = d->outer) {
        for (size_t i = 0; d->thread == thread && i < d->nhandles; i++) {
            if (d->handles[i].kind == kind && matches(d->handles[i].ptr, id)) {
                return d->handles[i].ptr;
            }
        }
    }
    return NULL;
}
