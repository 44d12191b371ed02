/* What atoll.Lock, RLock, Semaphore, BoundedSemaphore, Event, Condition, Barrier,
 * Counter and Cell have in common: a counted atoll_sync, one Python object for each of
 * these and interpreter, and how to wait for one.
 *
 * The objects are handles: what they stand for belongs to the process, and goes when
 * the last handle, in whatever interpreter or message, has gone. Guarded by the GIL of
 * their interpreter. */
#ifndef EXT_SYNC_SYNC_H
#define EXT_SYNC_SYNC_H

#include "atoll/sync.h"
#include "base/base.h"
#include "wait/record.h"
#include "wire/wire.h"

enum { SYNC_TYPES = ATOLL_SYNC_KINDS + 1 }; /* the last: a bounded semaphore */

/* A thread that has left the wait of a condition without its lock: the releases that
 * the ends of its `with` blocks make are none. */
typedef struct sync_debt {
    struct sync_debt *next;
    atoll_sync *mutex; /* counted */
    uint64_t thread, depth;
} sync_debt;

/* What an interpreter has of the room. */
typedef struct sync_data {
    PyTypeObject *types[SYNC_TYPES];
    sync_debt *debts; /* owned; guarded by the GIL */
} sync_data;

extern const core_room sync_room;

/* What one waits for: a lock or what is like it; the object is an atoll_sync. */
extern const wait_type wait_sync;

typedef struct syncobj {
    PyObject_HEAD
    core_state *state; /* the type keeps its module, and so this, alive */
    atoll_sync *sync;  /* counted; constant */
    PyObject *weakrefs;
    wait_hold hold;     /* that this interpreter has it */
    core_handle handle; /* in the table of handles */
    PyObject *action;   /* of a barrier, once it is known here; or NULL */
} syncobj;

/* The object for `sync` here: the one that exists, or a new one that takes a
 * reference of its own. NULL with an exception. */
PyObject *sync_get(core_state *state, atoll_sync *sync);

/* The result of a constructor: what `err` and *sync, whose reference it takes, have
 * come to. */
PyObject *sync_made(PyTypeObject *type, atoll_err err, atoll_sync *sync);

/* Is it one of these types? */
bool sync_is(PyTypeObject *type);

/* Can one wait for it without a thread, and in select()? */
bool sync_can_wait(const core_state *state, PyTypeObject *type);

/* Before a handle is put into a message: -1 with an exception if what goes with it
 * (a barrier's action) cannot cross. */
int sync_prepare(syncobj *self);

/* The thread that asks. */
static inline atoll_party
sync_me(const core_state *state)
{
    return (atoll_party){state->interp_id, PyThread_get_thread_ident()};
}

/* atoll_sync_take, without letting go of the GIL if it need not wait. 0 with *err;
 * -1 with an exception: nothing has been taken. */
int sync_take(core_state *state, atoll_sync *sync, int64_t deadline, atoll_err *err);

/* Wait, detached, for a turn in a line of this object's. 0 with *err; -1 with an
 * exception. */
int sync_wait_turn(syncobj *self, atoll_turn *turn, int64_t deadline, atoll_err *err);

/* Raise what `err` stands for; returns NULL. */
PyObject *sync_raise(core_state *state, atoll_sync *sync, atoll_err err);

/* The result of acquire() and the like: True, False if it was not in time, or what
 * sync_raise raises. */
PyObject *sync_answer(core_state *state, atoll_sync *sync, atoll_err err);

/* acquire(), given its arguments, and release() of a lock. */
PyObject *sync_lock_acquire(core_state *state, atoll_sync *mutex, PyObject *const *args,
                            Py_ssize_t nargs, PyObject *kwnames);

/* Release a lock; as release() of threading's. */
PyObject *sync_lock_release(core_state *state, atoll_sync *mutex);

/* The calling thread, which should have the lock `depth` times, has it not: its next
 * releases of it, while it has it not, do nothing. False: no memory. */
bool sync_owe(core_state *state, atoll_sync *mutex, uint64_t depth);

/* At the end of an interpreter: give them up. */
void sync_forget_debts(core_state *state);

/* Is the lock one that a task (asyncio's or Trio's) has taken with acquire_async(), and
 * the one that runs here? Then `*who` is it. Runs Python code; raises nothing. */
bool sync_as_task(const core_state *state, atoll_sync *mutex, atoll_party *who);

/* A bit of a party's thread: it is the number of a task. */
#define SYNC_OF_TASK (UINT64_C(1) << 63)

/* The task with this number of atoll._aio's, or (0) the thread that asks. */
static inline atoll_party
sync_me_as(const core_state *state, uint64_t number)
{
    return number == 0 ? sync_me(state)
                       : (atoll_party){state->interp_id, number | SYNC_OF_TASK};
}

/* As detach_deadline, but what is below 0 is 0, as for threading. */
int sync_deadline(PyObject *timeout, int64_t *deadline);

/* The method object for threading's `_is_owned`: does the caller have the lock? For a
 * plain lock: does anybody? */
bool sync_is_owned(const core_state *state, atoll_sync *mutex);

/* "<atoll.Name at 0x...: " for a repr; the arguments are of the rest. */
PyObject *sync_repr(PyObject *obj, const char *format, ...);

/* The tables of the types. */
void sync_dealloc(PyObject *obj);

/* Hash it by its id. */
Py_hash_t sync_hash(PyObject *obj);

/* Make what __reduce__ returns. */
PyObject *sync_reduce(PyObject *obj, PyObject *ignored);

/* Get its id, an int. */
PyObject *sync_get_id(PyObject *obj, void *closure);

/* Enter `with`: take it. */
PyObject *sync_enter(PyObject *obj, PyObject *ignored);

/* Take it, in a coroutine. */
PyObject *sync_take_async(PyObject *obj, PyObject *ignored);
extern PyMemberDef sync_members[];

#define SYNC_ID {"id", sync_get_id, NULL, "The id (int), unique in this process.", NULL}
#define SYNC_SLOTS                                          \
    {Py_tp_dealloc, sync_dealloc}, {Py_tp_hash, sync_hash}, \
    {                                                       \
        Py_tp_members, sync_members                         \
    }

/* Of each kind; of ATOLL_SYNC_KINDS: a bounded semaphore. */
extern PyType_Spec lock_spec, rlock_spec, semaphore_spec, bounded_spec, event_spec,
    condition_spec, barrier_spec, counter_spec, cell_spec;

#endif
