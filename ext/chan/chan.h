/* What Queue, SendChannel and RecvChannel have in common: a counted channel,
 * one Python object per channel, kind and interpreter, and how to move a
 * message without holding the GIL longer than needed. */
#ifndef EXT_CHAN_CHAN_H
#define EXT_CHAN_CHAN_H

#include "base/base.h"
#include "wait/record.h"
#include "wire/wire.h"

/* What an interpreter has of the room. */
typedef struct chan_data {
    PyTypeObject *queue_type, *send_type, *recv_type;
} chan_data;

extern const core_room chan_room;

/* What one waits for; the object is an atoll_chan. */
extern const wait_type wait_recv, wait_send, wait_join;

typedef struct chanobj {
    PyObject_HEAD
    core_state *state; /* the type keeps its module, and so this, alive */
    atoll_chan *chan;  /* counted (and its end, for a channel); constant */
    PyObject *weakrefs;
    xfer_handle_kind kind;
    bool retired;       /* an end that has been given back: retire() */
    wait_hold hold;     /* that this interpreter has it */
    core_handle handle; /* in the table of handles */
} chanobj;

/* The maker's words in the channel: of a queue, and of a channel. */
enum { QUEUE_MAXSIZE, QUEUE_ORPHAN };
enum { CHANNEL_ORPHAN };

/* What atoll_chan_kind says. Timers are not listed: a sending end made for them
 * would close them when it goes. */
enum { KIND_QUEUE = 1, KIND_CHANNEL = 2, KIND_TIMER = 3 };

/* The object for `chan` here: the one that exists, or a new one that takes a
 * reference of its own. The caller has an end of that kind, so one that has been
 * retired here can take an end again. NULL with an exception. */
PyObject *chanobj_get(core_state *state, xfer_handle_kind kind, atoll_chan *chan);
/* The same, but one that has been retired stays so. */
PyObject *chanobj_peek(core_state *state, xfer_handle_kind kind, atoll_chan *chan);

/* The live channel with this id as an object; error_name is raised if there
 * is none. `core_kind` must match. */
PyObject *chanobj_find(core_state *state, xfer_handle_kind kind, int core_kind,
                       unsigned long long id, const char *error_name);

/* All live channels of `core_kind`, oldest first, as a list of make()'s
 * results. */
PyObject *chanobj_list(core_state *state, int core_kind,
                       PyObject *(*make)(core_state *, atoll_chan *));

/* Send an encoded message, or receive one: without waiting if possible, else
 * detached, until `deadline`. To a retired end all is CLOSED. 0 with *err, and the
 * message's owner is as atoll_chan_send and _recv say; -1 with an exception: nothing
 * happened. */
int chanobj_send(chanobj *self, atoll_msg *msg, int64_t deadline, atoll_err *err);

/* Receive a message; as chanobj_send. */
int chanobj_recv(chanobj *self, atoll_msg *msg, int64_t deadline, atoll_err *err);

/* The object of a received message: decoded, or what its orphan rule says. If an
 * interrupt comes before it can be returned, the message goes back. */
PyObject *chanobj_open(chanobj *self, atoll_msg *msg);

/* Put a message back that has been received, but not got to anybody: it is the first
 * again (atoll_chan_unrecv). What cannot go back is dropped. Keeps the exception that
 * is set, if any; the caller holds the channel. */
void chanobj_put_back(core_state *state, atoll_chan *chan, atoll_msg *msg);

/* Encode and send: None; NULL with an exception. `orphan` as for chanobj_set_orphan. */
PyObject *chanobj_send_object(chanobj *self, PyObject *obj, int64_t deadline,
                              int orphan);

/* The method put_nowait of queues, and send_nowait of channels. */
PyObject *chanobj_send_nowait(PyObject *obj, PyObject *const *args, Py_ssize_t nargs,
                              PyObject *kwnames);
/* While messages are traced: one was sent or received, if err is OK. */
void chanobj_trace(const chanobj *self, bool sent, atoll_err err);

/* Raise what a call that blocks raises for CLOSED, POISONED, FORKED, NOMEM.
 * Returns NULL. */
PyObject *queue_raise(chanobj *self, atoll_err err);

/* The same; for AGAIN and TIMEOUT atoll.<if_late>: "queue 7 is <if_late_text>". */
PyObject *queue_raise_for(chanobj *self, atoll_err err, const char *if_late,
                          const char *if_late_text);

/* Raise what a call on a channel raises for `err`. Returns NULL. */
PyObject *channel_raise(chanobj *self, atoll_err err);

/* Give a message its rule; `orphan` < 0 is the default of its channel. */
void chanobj_set_orphan(chanobj *self, atoll_msg *msg, int orphan);

/* unbounditems= to an atoll_orphan; -1 for None or NULL. */
int chanobj_parse_orphan(PyObject *value, int *orphan);
/* And back: KEEP, UNBOUND, ... A new reference. */
PyObject *chanobj_orphan_rule(core_state *state, int orphan);

/* Make what __reduce__ returns: see xfer_reduce_handle. */
PyObject *chanobj_reduce(chanobj *self, const char *finder);

/* Raise as queue_raise or channel_raise, whichever it is. Returns NULL. */
PyObject *chanobj_raise(chanobj *self, atoll_err err);

/* Methods of both kinds that are coroutines of atoll._aio: sending, receiving, and the
 * next of `async for`. */
PyObject *chanobj_send_async(PyObject *obj, PyObject *const *args, Py_ssize_t nargs,
                             PyObject *kwnames);

/* Receive, in a coroutine. */
PyObject *chanobj_recv_async(PyObject *obj, PyObject *ignored);

/* Receive, for `async for`. */
PyObject *chanobj_anext(PyObject *obj);

/* For the type tables. */
void chanobj_dealloc(PyObject *obj);

/* Hash it by its id. */
Py_hash_t chanobj_hash(PyObject *obj);

/* Get its id, an int. */
PyObject *chanobj_get_id(PyObject *obj, void *closure);
extern PyMemberDef chanobj_members[];

/* --- the types, each in its file: make them; 0, or -1 with an exception */

int queue_add_type(core_state *state);

/* Make SendChannel and RecvChannel. */
int channel_add_types(core_state *state);

extern PyMethodDef queue_functions[], channel_functions[];

#endif
