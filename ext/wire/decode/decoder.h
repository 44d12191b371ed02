/* The decoder: what the files decode*.c have in common.
 *
 * The encoding comes from our own encoder, so it is not checked. But code of
 * the user's runs while it is read, and may keep, change or look at what is not
 * finished: nothing that it can reach may have holes.
 */
#ifndef EXT_WIRE_DECODE_DECODER_H
#define EXT_WIRE_DECODE_DECODER_H

#include <string.h>

#include "cpython/dict.h"
#include "cpython/version.h"
#include "wire/form.h"

#define DEC_MEMO 24
#define DEC_SHAPES 4
#define DEC_FORMS 8

/* A class and the names of its attributes, for many instances. */
typedef struct shape {
    PyTypeObject *type; /* counted */
    PyObject *names;    /* tuple of interned str; counted */
    bool direct;        /* no descriptor is in the way of setting them */
    enum { SLOTS_UNKNOWN, SLOTS_NONE, SLOTS_KNOWN } known;
    uint8_t slots[LAYOUT_SLOTS]; /* of the names; see cpython/dict.h */
} shape;

/* The keys of many dicts. */
typedef struct dict_form {
    PyObject *names; /* tuple; counted */
    layout_form layout;
} dict_form;

typedef struct decoder {
    core_state *state;
    const unsigned char *at, *end;
    handle *handles; /* owned by the message; taken ones become HANDLE_NONE */
    size_t nhandles;
    PyObject **memo; /* counted references */
    size_t memo_used, memo_room;
    shape *shapes;
    size_t nshapes, shape_room;
    dict_form *forms;
    size_t nforms, form_room;
    struct decoder *outer; /* in state->wire->decoders, once linked */
    unsigned long thread;
    bool linked;
    bool keep; /* the message may have to be as it was: see xfer_decode_kept */
    PyObject *memo_small[DEC_MEMO];
    dict_form forms_small[DEC_FORMS];
    shape shapes_small[DEC_SHAPES];
} decoder;

static inline const unsigned char *
dec_take(decoder *d, size_t size)
{
    assert((size_t)(d->end - d->at) >= size);
    const unsigned char *at = d->at;
    d->at += size;
    return at;
}

static inline uint8_t
dec_u8(decoder *d)
{
    return *dec_take(d, 1);
}

static inline uint32_t
dec_u32(decoder *d)
{
    uint32_t n;
    memcpy(&n, dec_take(d, sizeof(n)), sizeof(n));
    return n;
}

static inline uint64_t
dec_u64(decoder *d)
{
    uint64_t n;
    memcpy(&n, dec_take(d, sizeof(n)), sizeof(n));
    return n;
}

/* Make room in the memo. -1 with MemoryError. */
int dec_memo_grow(decoder *d);

/* Give `obj` the next number, if the tag said so. -1 with MemoryError. */
static inline int
dec_number(decoder *d, bool memo, PyObject *obj)
{
    if (!memo) {
        return 0;
    }
    if (d->memo_used == d->memo_room && dec_memo_grow(d) < 0) {
        return -1;
    }
    d->memo[d->memo_used++] = Py_NewRef(obj);
    return 0;
}

/* After the parts of an object that gets its number late: is it there already,
 * because one of its parts led to it? A new reference, or NULL (no exception). */
static inline PyObject *
dec_known(decoder *d)
{
    return dec_u8(d) == 0 ? NULL : Py_NewRef(d->memo[dec_u32(d)]);
}

/* The next object: a new reference, or NULL with an exception. */
PyObject *dec_object(decoder *d);

/* Around the parts of an object that are no atoms. -1 with RecursionError. */
static inline int
dec_enter(void)
{
    return Py_EnterRecursiveCall(" while an object is received") ? -1 : 0;
}

/* The hash is the sender's: it depends on the process only. */
static inline PyObject *
dec_key(decoder *d)
{
    size_t length = dec_u8(d);
    int64_t hash = (int64_t)dec_u64(d);
    const unsigned char *data = dec_take(d, length);
    PyObject *str = PyUnicode_New((Py_ssize_t)length, 127);
    if (str != NULL) {
        memcpy(PyUnicode_1BYTE_DATA(str), data, length);
        compat_str_set_hash(str, (Py_hash_t)hash);
    }
    return str;
}

static inline PyObject *
dec_ascii(const unsigned char *data, size_t length)
{
    if (length < 2) { /* CPython has these already */
        return PyUnicode_FromStringAndSize((const char *)data, (Py_ssize_t)length);
    }
    PyObject *str = PyUnicode_New((Py_ssize_t)length, 127);
    if (str != NULL) {
        memcpy(PyUnicode_1BYTE_DATA(str), data, length);
    }
    return str;
}

/* The next object, if it is one of the commonest atoms, or one that is known;
 * else NULL, and *at is what it was. (If it is not: there is an exception.) `*at`
 * is the caller's own d->at, which the compiler can keep in a register. */
__attribute__((always_inline)) static inline PyObject *
dec_quick_at(decoder *d, const unsigned char **at)
{
    const unsigned char *from = *at + 1;
    int32_t narrow;
    uint32_t number;
    double value;
    switch (from[-1]) {
    case TAG_ASCII8:
        *at = from + 1 + from[0];
        return dec_ascii(from + 1, from[0]);
    case TAG_INT8:
        *at = from + 1;
        return PyLong_FromLong((int8_t)from[0]);
    case TAG_INT32:
        *at = from + sizeof(narrow);
        memcpy(&narrow, from, sizeof(narrow));
        return PyLong_FromLong(narrow);
    case TAG_REF:
        *at = from + sizeof(number);
        memcpy(&number, from, sizeof(number));
        return Py_NewRef(d->memo[number]);
    case TAG_NONE:
        *at = from;
        Py_RETURN_NONE;
    case TAG_TRUE:
        *at = from;
        Py_RETURN_TRUE;
    case TAG_FALSE:
        *at = from;
        Py_RETURN_FALSE;
    case TAG_FLOAT:
        *at = from + sizeof(value);
        memcpy(&value, from, sizeof(value));
        return PyFloat_FromDouble(value);
    }
    return NULL;
}

/* Any next object. */
__attribute__((always_inline)) static inline PyObject *
dec_item_at(decoder *d, const unsigned char **at)
{
    const unsigned char *from = *at;
    PyObject *obj = dec_quick_at(d, at);
    if (obj == NULL && *at == from) {
        d->at = from;
        obj = dec_object(d);
        *at = d->at;
    }
    return obj;
}

static inline PyObject *
dec_item(decoder *d)
{
    const unsigned char *at = d->at;
    PyObject *obj = dec_item_at(d, &at);
    d->at = at;
    return obj;
}

/* The parts of a tuple or an instance: any next object, too, for a caller who
 * has entered nothing so far. Many have only atoms. */
__attribute__((always_inline)) static inline PyObject *
dec_part_at(decoder *d, const unsigned char **at, bool *entered)
{
    const unsigned char *from = *at;
    PyObject *obj = dec_quick_at(d, at);
    if (obj == NULL && *at == from) {
        if (!*entered && dec_enter() < 0) {
            return NULL;
        }
        *entered = true;
        d->at = from;
        obj = dec_object(d);
        *at = d->at;
    }
    return obj;
}

/* To be called before code of the user's may run. */
void dec_link(decoder *d);

/* All that is no atom, by its tag, without MEMO: containers and views of memory
 * (wire/decode/container.c); what is not built in (wire/decode/object.c). */
PyObject *dec_container(decoder *d, int tag, bool memo);

/* Make what is not built in, after its tag; as dec_container. */
PyObject *dec_other(decoder *d, int tag, bool memo);
/* Those which need not be entered before: a tuple; an instance of a plain class
 * (wire/decode/instance.c), and its shape if it is the `first` with that. */
PyObject *dec_tuple(decoder *d, Py_ssize_t count, bool memo);

/* Make an instance of a plain class; with its shape if it is the `first` with that. */
PyObject *dec_instance(decoder *d, bool memo, bool first);

#endif
