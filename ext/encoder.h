/* The encoder: what encode.c (atoms and containers), encode_object.c (objects
 * that say how they are taken apart) and the buffers have in common.
 *
 * All functions return 0, or -1 with an exception. Where they run code of the
 * user's, objects may change under way: every object that is walked is held,
 * and every length is looked at again.
 */
#ifndef EXT_ENCODER_H
#define EXT_ENCODER_H

#include <string.h>

#include "memo.h"
#include "wire.h"

#define ENC_ONSTACK 512
#define ENC_HANDLES 4

/* The keys of a dict, when another one has the same. */
typedef struct form {
    PyObject *first;  /* the first key: only compared */
    Py_ssize_t count; /* of keys */
    PyObject *keys;   /* tuple, counted; NULL: met once so far */
    uint32_t number;
} form;

#define ENC_FORMS 8
#define FORM_MIN 2
#define FORM_MAX 64

typedef struct encoder {
    core_state *state;
    unsigned char *at;  /* next byte to write */
    unsigned char *end; /* one past the room */
    block *heap;        /* NULL while all is in `onstack` */
    handle *handles;
    size_t nhandles, handle_room;
    uint32_t count;   /* objects that were given a number */
    uint32_t shapes;  /* shapes that were given a number */
    uint32_t nforms;
    form forms[ENC_FORMS];
    PyTypeObject *last_type; /* the last plain class, held by `types` */
    PyObject *types;  /* type -> what encode_object.c knows of it, or NULL */
    PyObject *path;   /* of what cannot cross: the steps, innermost first */
    PyObject *culprit; /* what cannot cross, or NULL */
    struct encoder *outer; /* in state->encoders, once linked */
    unsigned long thread;
    bool linked;
    bool in_exception; /* the text of the outermost one tells of all */
    memo memo;
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

/* Append any object. */
int enc_object(encoder *e, PyObject *obj);

/* A str without a number in the memo (names). */
int enc_str(encoder *e, PyObject *obj, int memo);

/* If `obj` can be met again: a number already there is written as a reference,
 * and 1 is returned; else it is given the next one, *memo becomes MEMO, and 0 is
 * returned. An object that only its holder refers to is not remembered. */
int enc_memo(encoder *e, PyObject *obj, int *memo);

/* The two halves of enc_memo, for objects that get their number late: is it
 * known (1, written as a reference)? And: give it a number. */
int enc_known(encoder *e, PyObject *obj);
int enc_number(encoder *e, PyObject *obj);

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

/* encode_object.c: everything that is not built in. */
int enc_other(encoder *e, PyObject *obj);
/* A callable or class by name, or by value. */
int enc_global(encoder *e, PyObject *obj);

#endif
