/* Kinds of handles, for the rooms whose objects they are.
 *
 * A handle stands beside the encoding of a message for something that is no copy: a
 * channel, a lock, memory. The wire does not know what that is. Each room tells it,
 * once in the process, what to do with its kinds (wire_set_kind) and how to read its
 * tags (wire_set_decoder), and in each interpreter, which types it encodes
 * (wire_add_type).
 */
#ifndef EXT_WIRE_KIND_H
#define EXT_WIRE_KIND_H

#include "wire/decode/decoder.h"
#include "wire/encode/encoder.h"

/* What can be done with the handles of a kind. All but `open` are called in any
 * thread, without a GIL. */
typedef struct wire_kind {
    /* Count another reference. NULL: only one can have it. */
    void (*ref)(void *ptr);
    /* Give a reference back, or what is owned. */
    void (*unref)(void *ptr);
    /* Make another one of what is owned, not counted: NOMEM. NULL: `ref` does it, or
     * there can be no other. */
    atoll_err (*clone)(void *ptr, void **copy);
    /* Make the object that TAG_HANDLE stands for, attached: a new reference, which
     * counts for itself; NULL with an exception. NULL: it is not sent that way. */
    PyObject *(*open)(core_state *state, void *ptr);
    /* Of what only one can have, and has been read in a message that is kept
     * (decoder.keep): it is received, for good; or is to be as before, attached: can
     * it? NULL: there is nothing to be done; it cannot. */
    void (*received)(void *ptr);
    bool (*unread)(core_state *state, void *ptr);
} wire_kind;

/* Tell what to do with handles of `kind`. In a room's `start`. */
void wire_set_kind(xfer_handle_kind kind, const wire_kind *ops);

/* Tell how the object after `tag` is read: a new reference, or NULL with an exception;
 * `tag` is without MEMO, and numbers are given by the caller. In a room's `start`. */
typedef PyObject *(*wire_decoder)(decoder *d, int tag);

/* Set the function for a tag. */
void wire_set_decoder(int tag, wire_decoder decode);

/* Append an object of a type: 0, or -1 with an exception. */
typedef int (*wire_encode)(encoder *e, PyObject *obj);

/* Tell how objects that are exactly of `type` are encoded, in this interpreter; with
 * `shareable`, they are that in the sense of PEP 734. Holds the type. -1 with
 * MemoryError, or SystemError if there are too many types. */
int wire_add_type(core_state *state, PyTypeObject *type, wire_encode encode,
                  bool shareable);

#endif
