/* Kinds of handles, and types that are encoded elsewhere. See wire/kind.h. */
#include "wire/kind.h"

#include <string.h>

#include "cpython/adopt.h"

/* Written before any interpreter has the module, then constant. */
static const wire_kind *kind_table[HANDLE_KINDS];
static wire_decoder decoder_table[TAG_COUNT];

void
wire_set_kind(xfer_handle_kind kind, const wire_kind *ops)
{
    kind_table[kind] = ops;
}

void
wire_set_decoder(int tag, wire_decoder decode)
{
    decoder_table[tag] = decode;
}

PyObject *
wire_decode_tag(decoder *d, int tag)
{
    return decoder_table[tag](d, tag);
}

/* ------------------------------------------------------------------ handles */

void
xfer_handle_ref(xfer_handle_kind kind, void *ptr)
{
    kind_table[kind]->ref(ptr);
}

void
xfer_handle_unref(xfer_handle_kind kind, void *ptr)
{
    kind_table[kind]->unref(ptr);
}

bool
wire_has_copies(xfer_handle_kind kind)
{
    return kind_table[kind]->ref != NULL || kind_table[kind]->clone != NULL;
}

atoll_err
wire_clone_handle(const handle *from, handle *to)
{
    const wire_kind *kind = kind_table[from->kind];
    *to = *from;
    to->lent = false;
    if (kind->clone != NULL) {
        return kind->clone(from->ptr, &to->ptr);
    }
    if (kind->ref == NULL) {
        return ATOLL_ERR_CLOSED;
    }
    kind->ref(from->ptr);
    return ATOLL_OK;
}

PyObject *
wire_open_handle(core_state *state, const handle *h)
{
    return kind_table[h->kind]->open(state, h->ptr);
}

void
wire_received(block *b)
{
    for (size_t i = 0; i < b->nhandles; i++) {
        handle *h = &b->handles[i];
        if (h->kind == HANDLE_TAKEN) {
            h->kind = HANDLE_NONE;
            Py_DECREF((PyObject *)h->ptr);
        }
        else if (kind_table[h->kind]->received != NULL) {
            kind_table[h->kind]->received(h->ptr);
        }
    }
}

/* A blob again, of what has been made of one. */
static bool
unread_blob(handle *h)
{
    PyObject *obj = h->ptr;
    bool array = PyByteArray_CheckExact(obj);
    adopt_blob *blob = PyUnicode_CheckExact(obj) ? adopt_copy_str(obj)
                       : array
                           ? adopt_copy_bytes(PyByteArray_AS_STRING(obj),
                                              (size_t)PyByteArray_GET_SIZE(obj), true)
                           : adopt_copy_bytes(PyBytes_AS_STRING(obj),
                                              (size_t)PyBytes_GET_SIZE(obj), false);
    if (blob == NULL) {
        PyErr_Clear();
        return false;
    }
    *h = (handle){.ptr = blob, .kind = HANDLE_BLOB};
    Py_DECREF(obj);
    return true;
}

bool
wire_unread(core_state *state, block *b)
{
    bool whole = true;
    for (size_t i = 0; i < b->nhandles && whole; i++) {
        handle *h = &b->handles[i];
        const wire_kind *kind = kind_table[h->kind];
        if (h->kind == HANDLE_TAKEN) {
            whole = unread_blob(h);
        }
        else if (kind->unread != NULL) {
            whole = kind->unread(state, h->ptr);
        }
        else {
            whole = h->kind != HANDLE_NONE && wire_has_copies(h->kind);
        }
    }
    return whole;
}

/* ----------------------------------------------------------- kinds of the wire */

static void
kind_drop_blob(void *ptr)
{
    adopt_drop(ptr);
}

static atoll_err
kind_clone_blob(void *ptr, void **copy)
{
    *copy = adopt_clone(ptr);
    return *copy == NULL ? ATOLL_ERR_NOMEM : ATOLL_OK;
}

/* What a receiver has taken out leaves nothing. */
static void
kind_ignore(void *ptr)
{
    (void)ptr;
}

static const wire_kind kind_blob = {.unref = kind_drop_blob, .clone = kind_clone_blob};
static const wire_kind kind_none = {.ref = kind_ignore, .unref = kind_ignore};

void
wire_start_kinds(void)
{
    wire_set_kind(HANDLE_BLOB, &kind_blob);
    wire_set_kind(HANDLE_NONE, &kind_none);
    wire_set_kind(HANDLE_TAKEN, &kind_none);
}

/* -------------------------------------------------------------------- types */

static size_t
types_place(PyTypeObject *type)
{
    return ((uintptr_t)type >> 4) * 0x9E3779B97F4A7C15u >> 58;
}

static_assert(WIRE_TYPES == 64, "types_place() keeps six bits");

const wire_type *
wire_find_type(const core_state *state, PyTypeObject *type)
{
    const wire_type *types = state->wire->types;
    size_t at = types_place(type);
    while (types[at].type != NULL && types[at].type != type) {
        at = (at + 1) % WIRE_TYPES;
    }
    return types[at].type == NULL ? NULL : &types[at];
}

int
wire_add_type(core_state *state, PyTypeObject *type, wire_encode encode, bool shareable)
{
    wire_data *data = state->wire;
    size_t at = types_place(type);
    while (data->types[at].type != NULL && data->types[at].type != type) {
        at = (at + 1) % WIRE_TYPES;
    }
    if (data->types[at].type == NULL) {
        if (data->ntypes == WIRE_TYPES / 2) {
            PyErr_SetString(PyExc_SystemError,
                            "too many types have encodings of their own");
            return -1;
        }
        data->ntypes++;
        data->types[at].type = (PyTypeObject *)Py_NewRef((PyObject *)type);
    }
    data->types[at].encode = encode;
    data->types[at].shareable = shareable;
    return 0;
}
