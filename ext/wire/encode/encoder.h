/* The encoder: what the files encode*.c and the buffers have in common.
 *
 * All functions return 0, or -1 with an exception. Where they run code of the
 * user's, objects may change under way: every object that is walked is held,
 * and every length is looked at again.
 */
#ifndef EXT_WIRE_ENCODE_ENCODER_H
#define EXT_WIRE_ENCODE_ENCODER_H

#include <string.h>

#include "cpython/dict.h"
#include "cpython/version.h"
#include "wire/form.h"
#include "wire/memo.h"

#define ENC_ONSTACK 512
#define ENC_HANDLES 4

/* The keys of a dict, when another one has the same. */
typedef struct form {
    PyObject *first;  /* the first key: only compared */
    Py_ssize_t count; /* of keys */
    PyObject *keys;   /* tuple, counted; NULL: met once so far */
    uint32_t number;
} form;

#define ENC_FORMS 16 /* a power of two */
#define FORM_PLACES 4
#define FORM_MIN 2
#define FORM_MAX 64

typedef struct encoder {
    core_state *state;
    unsigned char *at;  /* next byte to write */
    unsigned char *end; /* one past the room */
    block *heap;        /* NULL while all is in `onstack` */
    handle *handles;
    size_t nhandles, handle_room;
    uint32_t count;  /* objects that were given a number */
    uint32_t shapes; /* shapes that were given a number */
    uint32_t nforms;
    bool forms_used; /* else they are not initialised */
    form forms[ENC_FORMS];
    PyTypeObject *last_type; /* the last plain class, held by `types` */
    /* The class, held likewise, of the last shape whose values are beside the
     * instance, in this order (cpython/dict.h); or NULL. */
    PyTypeObject *order_type;
    uint32_t order_number; /* the shape's */
    uint8_t order_count;
    uint8_t order[LAYOUT_SLOTS];
    PyObject *types;       /* type -> what wire/encode/object.c knows of it, or NULL */
    PyObject *pickler;     /* cloudpickle's, for by_value, or NULL */
    int by_value;          /* functions and classes being taken apart */
    PyObject *path;        /* of what cannot cross: the steps, innermost first */
    PyObject *culprit;     /* what cannot cross, or NULL */
    struct encoder *outer; /* in state->wire->encoders, once linked */
    unsigned long thread;
    bool linked;
    bool shared;        /* for enc_other: others than its holder refer to the object */
    bool share_buffers; /* PickleBuffers are not copied but shared */
    bool in_exception;  /* the text of the outermost one tells of all */
    bool alone;         /* of exceptions, not what they come from */
    memo_table memo;
    unsigned char onstack[ENC_ONSTACK];
    handle handles_onstack[ENC_HANDLES];
} encoder;

/* Make room for `more` bytes beyond `at`. */
int encoder_grow(encoder *e, size_t more);

/* Room for `more` bytes; NULL with MemoryError. Advances. */
static inline unsigned char *
enc_reserve(encoder *e, size_t more)
{
    if ((size_t)(e->end - e->at) < more && encoder_grow(e, more) < 0) {
        return NULL;
    }
    unsigned char *at = e->at;
    e->at += more;
    return at;
}

/* A tag, with MEMO or without, and one fixed-size field. */
static inline int
enc_put(encoder *e, int tag, const void *field, size_t size)
{
    unsigned char *at = enc_reserve(e, 1 + size);
    if (at == NULL) {
        return -1;
    }
    at[0] = (unsigned char)tag;
    memcpy(at + 1, field, size);
    return 0;
}

static inline int
enc_tag(encoder *e, int tag)
{
    return enc_put(e, tag, "", 0);
}

/* How much is written. */
static inline Py_ssize_t
enc_offset(const encoder *e)
{
    return e->at - (e->heap == NULL ? e->onstack : e->heap->data);
}

/* Change a number that was written at `where`: one byte, or eight. */
static inline void
enc_patch(encoder *e, Py_ssize_t where, bool small, Py_ssize_t count)
{
    unsigned char *start = e->heap == NULL ? e->onstack : e->heap->data;
    uint64_t n = (uint64_t)count;
    if (small) {
        start[where] = (unsigned char)count;
    }
    else {
        memcpy(start + where, &n, sizeof(n));
    }
}

/* Append any object (wire/encode/value.c), or one that enc_atom() does not know. */
int enc_object(encoder *e, PyObject *obj);

/* Append an object that is no atom. 0, or -1 with an exception. */
int enc_compound(encoder *e, PyObject *obj);

/* Append an exact int. */
int enc_int(encoder *e, PyObject *obj);

/* Append exact bytes. */
int enc_bytes(encoder *e, PyObject *obj, int memo);

/* Append an exact bytearray. */
int enc_bytearray(encoder *e, PyObject *obj, int memo);

/* A str without a number in the memo (names). */
int enc_str(encoder *e, PyObject *obj, int memo);

/* If `obj` can be met again: a number already there is written as a reference,
 * and 1 is returned; else it is given the next one, *memo becomes MEMO, and 0 is
 * returned. An object that only its holder refers to is not remembered. */
int enc_memo(encoder *e, PyObject *obj, int *memo);

/* Write a reference if `obj` has a number: 1, or 0 if it has none. The first half of
 * enc_memo, for objects that get their number late; -1 with an exception. */
int enc_known(encoder *e, PyObject *obj);

/* Give an object the next number: the second half of enc_memo. -1 with MemoryError. */
int enc_number(encoder *e, PyObject *obj);

/* The same after its parts, which may have led to it: 1 if it has a number
 * already, and then it is complete. */
int enc_number_late(encoder *e, PyObject *obj);

/* Take over a handle, whose reference is the encoder's from now on, also on
 * failure. *index is its place. */
int enc_handle(encoder *e, xfer_handle_kind kind, void *ptr, uint32_t *index);
/* The same, with a tag before it; takes a reference of its own. */
int enc_put_handle(encoder *e, int tag, xfer_handle_kind kind, void *ptr);

/* To be called before code of the user's may run. */
void enc_link(encoder *e);

/* On the way out of a failure: the step that leads to what failed. The format
 * is PyUnicode_FromFormat's. Keeps the exception. */
void enc_path(encoder *e, const char *format, ...);
/* Note that `obj` cannot cross; the exception that is set is the reason, or
 * none. Returns -1. */
int enc_refuse(encoder *e, PyObject *obj);

/* The tag of None, True and their like; 0: it is none. */
static inline int
constant_tag(PyObject *obj)
{
    if (obj == Py_None) {
        return TAG_NONE;
    }
    if (obj == Py_True || obj == Py_False) {
        return obj == Py_True ? TAG_TRUE : TAG_FALSE;
    }
    if (obj == Py_Ellipsis) {
        return TAG_ELLIPSIS;
    }
    return obj == Py_NotImplemented ? TAG_NOTIMPLEMENTED : 0;
}

/* Is it one of the types that enc_container() is for? */
static inline bool
is_container(PyTypeObject *type)
{
    return type == &PyDict_Type || type == &PyList_Type || type == &PyTuple_Type ||
           type == &PySet_Type || type == &PyFrozenSet_Type || type == &PySlice_Type
#ifdef COMPAT_FROZENDICT
           || type == &PyFrozenDict_Type
#endif
        ;
}

/* Around the parts of an object that are no atoms. -1 with RecursionError. */
static inline int
enc_enter(void)
{
    return Py_EnterRecursiveCall(" while an object is sent") ? -1 : 0;
}

/* A container that is held, and whose number is seen to (wire/encode/container.c). */
int enc_container(encoder *e, PyObject *obj, PyTypeObject *type, int memo);
/* A tuple likewise, which need not be entered before. */
int enc_tuple(encoder *e, PyObject *obj, int memo);

/* A str, an int, a float, None or a bool (wire/encode/value.c): 1; 0: none of these;
 * -1 with an exception. Runs no code. */
int enc_atom(encoder *e, PyObject *obj);

/* The same, without a call for the commonest of them. `*at` is the caller's own
 * e->at, which the compiler can keep in a register through a loop: where the
 * next value goes is what each one has to wait for. e->at is right again when 0
 * or -1 is returned, and the caller's to set otherwise. */
__attribute__((always_inline)) static inline int
enc_quick_at(encoder *e, unsigned char **at, PyObject *obj)
{
    PyTypeObject *type = Py_TYPE(obj);
    unsigned char *to = *at;
    size_t room = (size_t)(e->end - to);
    if (type == &PyUnicode_Type) {
        size_t length = (size_t)PyUnicode_GET_LENGTH(obj);
        if (Py_REFCNT(obj) == 1 && length <= UINT8_MAX && room >= 2 + length &&
            PyUnicode_IS_COMPACT_ASCII(obj)) {
            to[0] = TAG_ASCII8;
            to[1] = (unsigned char)length;
            memcpy(to + 2, PyUnicode_1BYTE_DATA(obj), length);
            *at = to + 2 + length;
            return 1;
        }
    }
    else if (type == &PyLong_Type) {
        int64_t value;
        if (compat_int64(obj, &value) && value == (int32_t)value &&
            room >= 1 + sizeof(int32_t)) {
            if (value == (int8_t)value) {
                to[0] = TAG_INT8;
                to[1] = (unsigned char)value;
                *at = to + 2;
                return 1;
            }
            int32_t narrow = (int32_t)value;
            to[0] = TAG_INT32;
            memcpy(to + 1, &narrow, sizeof(narrow));
            *at = to + 1 + sizeof(narrow);
            return 1;
        }
    }
    else if (type == &PyFloat_Type) {
        double value = PyFloat_AS_DOUBLE(obj);
        if (room >= 1 + sizeof(value)) {
            to[0] = TAG_FLOAT;
            memcpy(to + 1, &value, sizeof(value));
            *at = to + 1 + sizeof(value);
            return 1;
        }
    }
    else {
        int tag = obj == Py_None    ? TAG_NONE
                  : obj == Py_True  ? TAG_TRUE
                  : obj == Py_False ? TAG_FALSE
                                    : 0;
        if (tag == 0) {
            e->at = to;
            return 0;
        }
        if (room >= 1) {
            to[0] = (unsigned char)tag;
            *at = to + 1;
            return 1;
        }
    }
    e->at = to;
    int done = enc_atom(e, obj);
    *at = e->at;
    return done;
}

static inline int
enc_quick(encoder *e, PyObject *obj)
{
    unsigned char *at = e->at;
    int done = enc_quick_at(e, &at, obj);
    e->at = at;
    return done;
}

/* Any item. */
static inline int
enc_item_at(encoder *e, unsigned char **at, PyObject *obj)
{
    int done = enc_quick_at(e, at, obj);
    if (done == 0) {
        done = enc_compound(e, obj);
        *at = e->at;
    }
    return done < 0 ? -1 : 0;
}

/* Everything that is not built in (wire/encode/object.c). */
int enc_other(encoder *e, PyObject *obj);
/* Another instance of e->order_type, which need be neither held nor entered: 1;
 * 0, and nothing is written: its attributes are not those of the last one; -1
 * with an exception. */
int enc_again(encoder *e, PyObject *obj);
/* Does `type` inherit `name` from `base` (NULL: does it have none)? */
bool enc_inherits(PyTypeObject *type, PyTypeObject *base, const char *name);

/* A function or class by name, or by value (wire/encode/name.c). */
int enc_global(encoder *e, PyObject *obj);
/* `obj` as what the module holds under this name, if it does, and if others find the
 * module or can load it from its file: 1; 0, and nothing is written; -1 with an
 * exception. */
int enc_by_name(encoder *e, PyObject *obj, PyObject *module, PyObject *qualname);
/* Does the module that `obj` is of hold it under its name? 1; 0; -1 with an
 * exception. */
int enc_is_held(PyObject *obj);
/* `obj` as that name, which every interpreter finds. */
int enc_name(encoder *e, PyObject *obj, PyObject *module, PyObject *qualname);
/* Does the exception that is set say that `obj` cannot be pickled? */
bool enc_says_unpicklable(PyObject *obj);
/* atoll._cross.pickle.<name>, kept in *slot. Borrowed; NULL with an exception. */
PyObject *enc_helper(PyObject **slot, const char *name);

/* Taken apart by its own reducer (wire/encode/reduce.c). */
int enc_reduce(encoder *e, PyObject *obj);
/* What a reducer returned: a tuple. */
int enc_reduced(encoder *e, PyObject *obj, PyObject *value);
/* The state in it. */
int enc_state(encoder *e, PyObject *state);
/* Call obj's reducer, or what is registered in its place. */
PyObject *enc_call_reduce(core_state *state, PyObject *obj);
/* cloudpickle's, for types that pickle refuses; NULL with the exception that was
 * set before (or without one, if there was none). */
PyObject *enc_call_cloudpickle(core_state *state, PyObject *obj);
/* A reducer of copyreg's, a new reference or NULL; an exception may be set. */
PyObject *enc_reducer_of(core_state *state, PyTypeObject *type);
/* Is the class's own reduction not what crossing needs? */
bool enc_is_corrected(PyTypeObject *type);

/* wire/encode/exception.c */
int enc_exception(encoder *e, PyObject *obj);

#endif
