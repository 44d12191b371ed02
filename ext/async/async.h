/* Asynchronous waits in Python: _core.CompletionQueue and _core.Operation.
 *
 * A completion queue is what an event loop has of atoll (atoll/_aio.py): one
 * descriptor, which is readable when operations have ended, and drain(), which
 * says which. An operation is a receive, a send, or the wait for an event.
 *
 *   NEW -> PENDING -> ENDED -> OVER
 *
 * NEW      it has its message, and has not been started.
 * PENDING  it stands in a line of the core's. The queue owns a reference.
 * ENDED    its result is known and has not been taken. What was received is
 *          still a message: nothing is decoded before somebody takes it.
 * OVER     its result has been taken, or it has been cancelled.
 *
 * No message is lost. If the operation is cancelled or dropped when a message
 * has come for it already, it goes back to the front of its channel; and if
 * other receives of the same queue have got later ones, but nobody has taken
 * these, all move up by one first, and the last goes back. So it is as if the
 * operation had never stood in line, and the order is kept.
 *
 * Ownership. What the core writes to, an atoll_op, is memory of the process, so
 * it is valid whatever an interpreter leaves behind; but no operation outlives
 * its queue, and no queue the exit handlers of its interpreter (cq_end_all).
 *
 * Threads. All is guarded by the interpreter's GIL. Taking an operation back that
 * is being ended at this very moment waits, with the GIL, until it has been put
 * into the queue: whoever ends it waits for nobody meanwhile (at_cq.c).
 */
#ifndef EXT_ASYNC_ASYNC_H
#define EXT_ASYNC_ASYNC_H

#include "base/base.h"
#include "wait/record.h"

/* What an interpreter has of the room. */
typedef struct async_data {
    PyTypeObject *cq_type, *op_type;
    struct cqobj *cqs;           /* its completion queues */
    struct selection *selection; /* owned: memory for the next, or NULL */
    uint64_t random;             /* of select; 0: not begun */
} async_data;

extern const core_room async_room;

/* What one waits for: events, through a completion queue. There is no object. */
extern const wait_type wait_events;

/* End all operations of all queues, at the exit of an interpreter. */
void cq_end_all(core_state *state);

#endif
