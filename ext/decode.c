/* Messages to Python objects. See xfer.h and wire.h. */
#include <string.h>

#include "chanobj.h"
#include "home.h"
#include "wire.h"

typedef struct decoder {
    core_state *state;
    struct decoder *outer; /* in state->decoders, while unpickling */
    unsigned long thread;
    const unsigned char *at, *end;
    const handle *handles;
    size_t nhandles;
} decoder;

static const unsigned char *
take(decoder *d, size_t size)
{
    assert((size_t)(d->end - d->at) >= size);
    const unsigned char *at = d->at;
    d->at += size;
    return at;
}

static uint64_t
take_u64(decoder *d)
{
    uint64_t n;
    memcpy(&n, take(d, sizeof(n)), sizeof(n));
    return n;
}

static PyObject *
decode_str(decoder *d)
{
    uint32_t maxchar;
    memcpy(&maxchar, take(d, sizeof(maxchar)), sizeof(maxchar));
    Py_ssize_t length = (Py_ssize_t)take_u64(d);
    PyObject *str = PyUnicode_New(length, maxchar);
    if (str != NULL && length > 0) {
        size_t bytes = (size_t)length * (size_t)PyUnicode_KIND(str);
        memcpy(PyUnicode_DATA(str), take(d, bytes), bytes);
    }
    return str;
}

static PyObject *decode(decoder *d);

static PyObject *
decode_tuple(decoder *d)
{
    Py_ssize_t count = (Py_ssize_t)take_u64(d);
    PyObject *tuple = PyTuple_New(count);
    if (tuple == NULL) {
        return NULL;
    }
    if (Py_EnterRecursiveCall(" while receiving a nested tuple")) {
        Py_DECREF(tuple);
        return NULL;
    }
    for (Py_ssize_t i = 0; i < count; i++) {
        PyObject *item = decode(d);
        if (item == NULL) {
            Py_CLEAR(tuple);
            break;
        }
        PyTuple_SET_ITEM(tuple, i, item);
    }
    Py_LeaveRecursiveCall();
    return tuple;
}

static PyObject *
decode_handle(decoder *d)
{
    uint32_t index;
    memcpy(&index, take(d, sizeof(index)), sizeof(index));
    const handle *h = &d->handles[index];
    switch (h->kind) {
    case HANDLE_QUEUE:
    case HANDLE_SEND:
    case HANDLE_RECV:
        return chanobj_get(d->state, h->kind, h->ptr);
    case HANDLE_HOME:
        return interpreter_from_home(d->state, h->ptr);
    }
    Py_UNREACHABLE();
}

static PyObject *
decode_foreign(decoder *d)
{
    int64_t id = (int64_t)take_u64(d);
    if (d->state->interpreter_class == NULL) {
        PyErr_SetString(PyExc_RuntimeError, "atoll is not fully imported");
        return NULL;
    }
    return PyObject_CallFunction(d->state->interpreter_class, "L",
                                 (long long)id);
}

static PyObject *
decode_pickle(decoder *d)
{
    core_state *state = d->state;
    if (state->loads == NULL) {
        PyObject *module = PyImport_ImportModule("atoll._pickle");
        if (module == NULL) {
            return NULL;
        }
        PyObject *loads = PyObject_GetAttrString(module, "loads");
        Py_DECREF(module);
        if (loads == NULL) {
            return NULL;
        }
        Py_XSETREF(state->loads, loads);
    }
    size_t size = (size_t)take_u64(d);
    /* A view, not a copy: atoll._pickle.loads releases it before it returns,
     * so that nobody can keep a hold of our memory. */
    PyObject *view = PyMemoryView_FromMemory((char *)take(d, size),
                                             (Py_ssize_t)size, PyBUF_READ);
    if (view == NULL) {
        return NULL;
    }
    /* As in encode.c: other threads may come and go in the list meanwhile. */
    d->thread = PyThread_get_thread_ident();
    d->outer = state->decoders;
    state->decoders = d;
    PyObject *obj = PyObject_CallOneArg(state->loads, view);
    decoder **link = &state->decoders;
    while (*link != d) {
        link = &(*link)->outer;
    }
    *link = d->outer;
    Py_DECREF(view);
    return obj;
}

static PyObject *
decode(decoder *d)
{
    switch (*take(d, 1)) {
    case TAG_NONE:
        Py_RETURN_NONE;
    case TAG_TRUE:
        Py_RETURN_TRUE;
    case TAG_FALSE:
        Py_RETURN_FALSE;
    case TAG_ELLIPSIS:
        return Py_NewRef(Py_Ellipsis);
    case TAG_INT:
        return PyLong_FromLongLong((long long)take_u64(d));
    case TAG_BIGINT: {
        size_t size = (size_t)take_u64(d);
        return PyLong_FromNativeBytes(take(d, size), size,
                                      Py_ASNATIVEBYTES_NATIVE_ENDIAN);
    }
    case TAG_FLOAT: {
        double value;
        memcpy(&value, take(d, sizeof(value)), sizeof(value));
        return PyFloat_FromDouble(value);
    }
    case TAG_COMPLEX: {
        double parts[2];
        memcpy(parts, take(d, sizeof(parts)), sizeof(parts));
        return PyComplex_FromDoubles(parts[0], parts[1]);
    }
    case TAG_STR:
        return decode_str(d);
    case TAG_BYTES: {
        size_t size = (size_t)take_u64(d);
        return PyBytes_FromStringAndSize((const char *)take(d, size),
                                         (Py_ssize_t)size);
    }
    case TAG_TUPLE:
        return decode_tuple(d);
    case TAG_HANDLE:
        return decode_handle(d);
    case TAG_FOREIGN:
        return decode_foreign(d);
    case TAG_PICKLE:
        return decode_pickle(d);
    }
    Py_UNREACHABLE();
}

PyObject *
xfer_decode(core_state *state, atoll_msg *msg)
{
    switch (msg->tag) {
    case TAG_NONE:
        Py_RETURN_NONE;
    case TAG_INT:
        return PyLong_FromLongLong(msg->u.i64);
    case TAG_FLOAT:
        return PyFloat_FromDouble(msg->u.f64);
    }
    decoder d = {.state = state};
    if (msg->tag == TAG_FLAT) {
        d.at = msg->u.bytes;
        d.end = d.at + msg->len;
    }
    else {
        block *b = msg->u.heap.ptr;
        d.at = block_data(b);
        d.end = d.at + b->size;
        d.handles = b->handles;
        d.nhandles = b->nhandles;
    }
    PyObject *obj = decode(&d);
    atoll_msg_drop(msg);
    return obj;
}

struct home *
xfer_noted_home(core_state *state, int64_t id)
{
    unsigned long thread = PyThread_get_thread_ident();
    for (decoder *d = state->decoders; d != NULL; d = d->outer) {
        for (size_t i = 0; d->thread == thread && i < d->nhandles; i++) {
            struct home *h = d->handles[i].ptr;
            if (d->handles[i].kind == HANDLE_HOME && h->id == id) {
                return h;
            }
        }
    }
    return NULL;
}
