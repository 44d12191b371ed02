/* Python objects to messages and back: the one encode, the one decode.
 *
 * A message is a value in raw memory: whoever receives it, or drops it, needs
 * nothing of the interpreter that made it. What crosses by itself: None, bool,
 * int, float, complex, Ellipsis, str, bytes, tuples of these, and handles
 * (queues, channel ends, interpreters), which are counted references inside
 * the message. Exact types only; everything else goes through pickle, by
 * atoll._pickle, as one blob for the whole object so that shared references
 * stay shared.
 */
#ifndef EXT_XFER_H
#define EXT_XFER_H

#include "state.h"

struct home;

/* Encode `obj` into *msg, which the caller then owns (drop it, or send it).
 * Returns -1 with an exception and nothing to drop: NotShareableError when the
 * object cannot cross, MemoryError, or what its own pickling code raised. */
int xfer_encode(core_state *state, PyObject *obj, atoll_msg *msg);

/* Build the object of *msg, and drop the message in any case.
 * Returns a new reference, or NULL with an exception. */
PyObject *xfer_decode(core_state *state, atoll_msg *msg);

/* Would `obj` cross without pickle? Does not fail. */
bool xfer_is_shareable(core_state *state, PyObject *obj);

/* What a handle is, inside a message and in Python. */
typedef enum xfer_handle_kind {
    HANDLE_QUEUE,
    HANDLE_SEND,
    HANDLE_RECV,
    HANDLE_HOME,
} xfer_handle_kind;

/* Called by a handle's __reduce__: the message under way in this thread, if
 * any, takes a reference of its own, so that the object is still there when
 * the pickle is read. Returns -1 with MemoryError. */
int xfer_note_handle(core_state *state, xfer_handle_kind kind, void *ptr);

/* The home `id` among the handles of the message that this thread is reading,
 * or NULL: it is known there even if it has been closed. Borrowed. */
struct home *xfer_noted_home(core_state *state, int64_t id);

/* A random number for this process: pickled handles carry it. A forked child
 * gets another one. */
uint64_t xfer_process_token(void);
void xfer_fork_child(void);

/* Counted references of each kind; used by messages and by the types. */
void xfer_handle_ref(xfer_handle_kind kind, void *ptr);
void xfer_handle_unref(xfer_handle_kind kind, void *ptr);

/* --- how atoll.Interpreter takes part; in interp.c */
/* The Python object for a home: a new reference. There is one per id and
 * interpreter. */
PyObject *interpreter_from_home(core_state *state, struct home *home);
/* The home behind an atoll.Interpreter (borrowed), or NULL if it has none; an
 * exception may be set. */
struct home *interpreter_home(core_state *state, PyObject *obj);

#endif
