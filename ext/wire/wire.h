/* Python objects to messages and back: the one encode, the one decode.
 *
 * A message is a value in raw memory: whoever receives it, or drops it, needs
 * nothing of the interpreter that made it. It is a flat encoding (wire/form.h) of the
 * whole object with one memo, so what is shared or cyclic inside stays so.
 * Exact built-in types are encoded here in C; instances of ordinary classes by
 * class and attributes; everything else is taken apart as pickle would
 * (wire/encode/object.c). Functions and classes go by name, or by value through
 * atoll._cross.pickle. Handles (queues, channel ends, interpreters, memory, file
 * descriptors) are counted references beside the encoding.
 */
#ifndef EXT_WIRE_WIRE_H
#define EXT_WIRE_WIRE_H

#include "base/base.h"

/* Encode `obj` into *msg, which the caller then owns (drop it, or send it).
 * Returns -1 with an exception and nothing to drop: NotShareableError when the
 * object cannot cross, MemoryError, or what its own pickling code raised. */
int xfer_encode(core_state *state, PyObject *obj, atoll_msg *msg);

/* The reply to a job that raised: the pair (info, exc). If its causes cannot be sent
 * they are left out (the text of the traceback has them); if `exc` itself cannot, a str
 * that says why is in its place; if it cannot be rebuilt by the receiver, a tuple with
 * the exception that came of it. */
int xfer_encode_error(core_state *state, PyObject *info, PyObject *exc, atoll_msg *msg);

/* Build the object of *msg, and drop the message in any case.
 * Returns a new reference, or NULL with an exception. */
PyObject *xfer_decode(core_state *state, atoll_msg *msg);
/* The same; but if an interrupt comes, *kept is true, and the message is as it was, to
 * be decoded again. An interrupt is KeyboardInterrupt, or whatever the handler of a
 * signal raises; also one that comes when the object has been built, so that none is
 * due in this thread when it returns an object. What the object's own code raises is
 * none: then the message has been dropped. So it has, and *kept is false, if what only
 * one can have is in use by now, or for lack of memory. */
PyObject *xfer_decode_kept(core_state *state, atoll_msg *msg, bool *kept);

/* A copy of *msg that is received or dropped on its own. NOMEM; CLOSED if there is
 * something in it that only one can have: what atoll.move() took. Any thread. */
atoll_err xfer_clone(const atoll_msg *msg, atoll_msg *out);

/* The message is going to be kept by the channel `ptr`, for as long as that is there:
 * it does not count its handles of that one any more, or the two would keep each other.
 * The clones do. The caller has a reference, and one of each end that it has. */
void xfer_lend(const atoll_msg *msg, const void *ptr);

/* Would xfer_clone not say CLOSED? */
bool xfer_can_clone(const atoll_msg *msg);

/* Would `obj` cross without pickle? Does not fail. */
bool xfer_is_shareable(core_state *state, PyObject *obj);

/* Is `type` encoded here in any case, whatever is registered for it? */
bool xfer_is_builtin(core_state *state, PyTypeObject *type);

/* What a handle is, inside a message and in Python. */
typedef enum xfer_handle_kind {
    HANDLE_QUEUE,
    HANDLE_SEND,
    HANDLE_RECV,
    HANDLE_HOME,
    HANDLE_REGION,  /* atoll_region *: a Buffer's or a memoryview's memory */
    HANDLE_BLOB,    /* adopt_blob *, owned */
    HANDLE_MOVED,   /* what atoll.move() took, counted */
    HANDLE_FD,      /* a file descriptor as a number, owned */
    HANDLE_FROZEN,  /* frozen_graph * */
    HANDLE_ELEMENT, /* the same: its root, an XML element */
    HANDLE_SYNC,    /* atoll_sync *: a lock, or what is like one; counted */
    HANDLE_NONE,    /* taken out by the receiver */
    HANDLE_TAKEN,   /* PyObject *: made of a blob, while the message is decoded */
    HANDLE_KINDS,
} xfer_handle_kind;

/* Called by a handle's __reduce__: the message under way in this thread, if
 * any, takes a reference of its own, so that the object is still there when
 * the pickle is read. Returns -1 with MemoryError. */
int xfer_note_handle(core_state *state, xfer_handle_kind kind, void *ptr);

/* Find a handle of `kind` that `matches(ptr, id)` among those of the message that this
 * thread is reading, or NULL: it is known there even if it has been closed. Borrowed.
 */
void *xfer_noted_handle(core_state *state, xfer_handle_kind kind,
                        bool (*matches)(const void *ptr, int64_t id), int64_t id);

/* Make what __reduce__ of a handle returns: (module.<finder>, (id, process token)).
 * Notes the handle. A new reference; NULL with an exception. */
PyObject *xfer_reduce_handle(core_state *state, xfer_handle_kind kind, void *ptr,
                             uint64_t id, const char *finder);

/* Parse the arguments of such a finder, and check the token: 0, or -1 with an
 * exception; `what` names the thing, `error_name` the class if it belongs to another
 * process. */
int xfer_parse_find(core_state *state, PyObject *args, const char *what,
                    const char *error_name, unsigned long long *id);

/* Make up a random number for this process: pickled handles carry it. A forked child
 * gets another one. */
uint64_t xfer_process_token(void);

/* Forget the token: the child gets another one. */
void xfer_fork_child(void);

/* Count another reference; used by messages and by the types. Not for what is owned,
 * not counted. Any thread. */
void xfer_handle_ref(xfer_handle_kind kind, void *ptr);

/* Give a reference back, or what is owned. Any thread. */
void xfer_handle_unref(xfer_handle_kind kind, void *ptr);

/* Make a message of a float, which needs no memory and no GIL. */
void xfer_encode_float(double value, atoll_msg *msg);

extern const core_room wire_room;

#endif
