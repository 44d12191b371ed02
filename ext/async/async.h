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

/* Start to wait for `event` through `cq`, a CompletionQueue: what can be waited
 * for without a thread is whatever has an event.
 * Returns
 *   1   it waits. drain() will hand out `token` (a new reference is taken) when
 *       the event has been set. *op is the Operation, a new reference: its
 *       cancel(), or cq_cancel, ends the wait. `release(keep)` is called once,
 *       attached, when it is over or cancelled; until then the event must stay.
 *   0   it is set already; nothing was taken, *op is NULL.
 *   -1  with an exception (TypeError: no CompletionQueue; ForkedError; ...). */
int cq_watch(core_state *state, PyObject *cq, atoll_event *event,
             PyObject *token, void (*release)(void *), void *keep,
             PyObject **op);

/* Operation.cancel(): true if it has not happened, and never will. */
bool cq_cancel(PyObject *op);

/* At the exit of an interpreter: end all operations of all its queues. */
void cq_end_all(core_state *state);

/* The queues of a home thread's event loops: an interrupt makes each of their
 * descriptors readable, since a loop that sleeps looks for nothing else. In
 * the home's list from the making of the queue to its closing. */
typedef struct cq_link {
    struct cq_link *prev, *next;
    atoll_cq *cq;
} cq_link;

int cq_add_types(core_state *state);
extern PyMethodDef cq_functions[];

/* A method that is a coroutine of atoll/_aio.py: its `name`, called with `self`
 * before the other arguments. */
PyObject *aio_call(core_state *state, const char *name, PyObject *self,
                   PyObject *const *args, Py_ssize_t nargs, PyObject *kwnames);

#endif
