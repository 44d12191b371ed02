/* atoll: locks, semaphores, events, conditions, barriers, counters and cells.
 *
 * All are one kind of object, an atoll_sync: counted, of the process, found by its
 * id. Any thread may use it, of any interpreter or of none. The conventions are those
 * of atoll.h; in a forked child what the parent made is dead, and every function that
 * returns an error returns FORKED.
 */
#ifndef ATOLL_SYNC_H
#define ATOLL_SYNC_H

#include "atoll/atoll.h"

#ifdef __cplusplus
extern "C" {
#endif

typedef struct atoll_sync atoll_sync;

typedef enum atoll_sync_kind {
    ATOLL_LOCK,      /* may be released by anybody */
    ATOLL_RLOCK,     /* its owner may take it again, and alone releases it */
    ATOLL_SEMAPHORE, /* never waits to give; may have a limit */
    ATOLL_FLAG,      /* level-triggered: set, clear, wait */
    ATOLL_CONDITION, /* a line to stand in beside a lock */
    ATOLL_BARRIER,
    ATOLL_COUNTER,
    ATOLL_CELL,
    ATOLL_SYNC_KINDS,
} atoll_sync_kind;

/* Who takes a lock: a thread of a group (an interpreter; -1: of none, and then the
 * lock is never orphaned). */
typedef struct atoll_party {
    int64_t group;
    uint64_t thread;
} atoll_party;

/* ------------------------------------------------------------- life time */

/* Make one, of a kind that needs no more than this: lock, recursive lock, flag,
 * cell (which is empty). The caller owns one reference. Returns NOMEM. */
ATOLL_API atoll_err atoll_sync_new(atoll_sync_kind kind,
                                   atoll_sync **out) ATOLL_MUST_CHECK;
/* With `value` permits; `limit` < 0: there may be any number. */
ATOLL_API atoll_err atoll_sem_new(int64_t value, int64_t limit,
                                  atoll_sync **out) ATOLL_MUST_CHECK;
/* For waits with `mutex` (a lock or a recursive lock) held; takes a reference. */
ATOLL_API atoll_err atoll_cond_new(atoll_sync *mutex,
                                   atoll_sync **out) ATOLL_MUST_CHECK;
/* For `parties` (>= 1) at a time. With `led`, the last to arrive is told to lead
 * before anybody passes; see below. `timeout` in nanoseconds is kept for the caller
 * (ATOLL_FOREVER: none). */
ATOLL_API atoll_err atoll_barrier_new(uint32_t parties, bool led, int64_t timeout,
                                      atoll_sync **out) ATOLL_MUST_CHECK;

/* Make a counter. The caller owns one reference. Returns NOMEM. */
ATOLL_API atoll_err atoll_counter_new(int64_t value, atoll_sync **out) ATOLL_MUST_CHECK;

/* Count another reference; returns the object. Threads: any. */
ATOLL_API atoll_sync *atoll_sync_ref(atoll_sync *sync);

/* Give a reference back; the last one frees it. Threads: any. */
ATOLL_API void atoll_sync_unref(atoll_sync *sync);

/* Process-wide id among these objects: never reused, > 0. */
ATOLL_API uint64_t atoll_sync_id(const atoll_sync *sync);

/* Get what it is. Threads: any. */
ATOLL_API atoll_sync_kind atoll_sync_kind_of(const atoll_sync *sync);
/* How many references there are; a hint once other threads run. */
ATOLL_API uint32_t atoll_sync_refs(const atoll_sync *sync);
/* Was it made by the parent of this process? */
ATOLL_API bool atoll_sync_forked(const atoll_sync *sync);

/* A new reference to the live object with this id, or NOTFOUND. */
ATOLL_API atoll_err atoll_sync_find(uint64_t id, atoll_sync **out) ATOLL_MUST_CHECK;

/* The group has ended. Each lock that it holds is free afterwards, but first one
 * taker is told: the first of those who wait, or else the next to come, gets
 * OWNER_DIED, and does not hold the lock. */
ATOLL_API void atoll_sync_orphan_all(int64_t group);

/* ---------------------------------------- locks, semaphores, flags: taking */

/* Take a lock or a permit, or wait until a flag is set.
 * Returns OK; TIMEOUT (AGAIN with ATOLL_NOW); INTERRUPTED; OWNER_DIED: see above;
 *   INVALID: it is of another kind; FORKED. With any of these but OK nothing has been
 *   taken.
 * Order: first come, first served; what is released goes to the first who waits, and
 *   nobody who comes later can take it from them.
 * Makes visible what was written before the release, or the set. */
ATOLL_API atoll_err atoll_sync_take(atoll_sync *sync, atoll_party who,
                                    const atoll_wait *wait) ATOLL_MUST_CHECK;

/* The same without a thread; see atoll_chan_recv_start. The message of `op` is used
 * meanwhile. An operation that has ended with OK has taken. */
ATOLL_API atoll_err atoll_sync_take_start(atoll_sync *sync, atoll_party who,
                                          atoll_op *op, atoll_cq *cq) ATOLL_MUST_CHECK;

/* What the message of a case of atoll_select has to be, for `who` to take. A lock that
 * is recursive is refused there (INVALID). */
static inline atoll_msg
atoll_sync_introduce(atoll_party who)
{
    atoll_msg msg = {0};
    msg.group = who.group;
    msg.u.i64 = (int64_t)who.thread;
    return msg;
}

/* Give back what a take that has ended with `err` has taken, and nobody wants: as if
 * it had not happened, but that whoever waits gets it now. With OWNER_DIED another
 * taker will be told. Nothing for a flag, and for other errors. */
ATOLL_API void atoll_sync_untake(atoll_sync *sync, atoll_err err);

/* Release a lock. Returns OK; INVALID: it is not locked, or it is recursive and
 * `who` is not its owner. A recursive lock goes down by one. */
ATOLL_API atoll_err atoll_mutex_release(atoll_sync *mutex,
                                        atoll_party who) ATOLL_MUST_CHECK;
/* Release it, however often it was taken: *depth. As above otherwise. */
ATOLL_API atoll_err atoll_mutex_drop(atoll_sync *mutex, atoll_party who,
                                     uint64_t *depth) ATOLL_MUST_CHECK;
/* For the owner of a recursive lock, who has taken it once: as if `depth` times. */
ATOLL_API void atoll_mutex_deepen(atoll_sync *mutex, uint64_t depth);

typedef struct atoll_mutex_state {
    bool held;
    atoll_party owner; /* if it is held */
    uint64_t depth;
    int64_t dead; /* the group that died with it last; -1: none */
} atoll_mutex_state;

/* Look at a lock: fill in *out, all at one moment. Threads: any. */
ATOLL_API void atoll_mutex_look(atoll_sync *mutex, atoll_mutex_state *out);

/* Give `count` (>= 1) permits. Returns OK; INVALID: they would be more than the limit
 * or than fit into 63 bits, and none was given. */
ATOLL_API atoll_err atoll_sem_release(atoll_sync *sem, int64_t count) ATOLL_MUST_CHECK;

/* Read how many permits there are; a hint once other threads run. */
ATOLL_API int64_t atoll_sem_value(const atoll_sync *sem);

/* Get the limit of permits; negative: none. */
ATOLL_API int64_t atoll_sem_limit(const atoll_sync *sem);

/* Set it and wake all who wait; they have waited with success even if it is cleared
 * before they look. */
ATOLL_API atoll_err atoll_flag_set(atoll_sync *flag) ATOLL_MUST_CHECK;

/* Clear it. Returns FORKED. Threads: any. */
ATOLL_API atoll_err atoll_flag_clear(atoll_sync *flag) ATOLL_MUST_CHECK;

/* Is it set? A hint once other threads run. */
ATOLL_API bool atoll_flag_is_set(const atoll_sync *flag);

/* ---------------------------------------------------- conditions, barriers */

/* A place in the line of a condition or a barrier: the caller's storage, from the
 * entry until it is known to be out. A wait that is interrupted keeps the place, so it
 * may be waited in again: what comes between the two is not lost. */
typedef struct atoll_turn {
    atoll_event event;
    uint64_t generation; /* the rest is private */
    uint32_t index;      /* but this: how many had come before, once it is out */
    bool leads;          /* and this: see atoll_barrier_arrive */
    bool grouped;
    atoll_err result;
    at_node node;
} atoll_turn;

/* Wait for one's turn. Returns OK: it has come, and the place is given up; TIMEOUT
 * (AGAIN), INTERRUPTED, FORKED: the place is kept, until it is left. */
ATOLL_API atoll_err atoll_turn_wait(atoll_sync *sync, atoll_turn *turn,
                                    const atoll_wait *wait) ATOLL_MUST_CHECK;

/* Get the lock that it was made with. */
ATOLL_API atoll_sync *atoll_cond_mutex(const atoll_sync *cond); /* borrowed */
/* Stand in line. The caller holds the mutex, and releases it next. */
ATOLL_API atoll_err atoll_cond_enter(atoll_sync *cond,
                                     atoll_turn *turn) ATOLL_MUST_CHECK;
/* Leave the line after a wait that was not OK. True: one had been notified already.
 * Blocks for a moment at most. */
ATOLL_API bool atoll_cond_leave(atoll_sync *cond, atoll_turn *turn);
/* The first `count` in line have their turn. Returns how many that were. */
ATOLL_API size_t atoll_cond_notify(atoll_sync *cond, size_t count);

/* Arrive. If that makes the number full, all have their turn.
 * Returns OK: wait for it; BROKEN, FORKED.
 * After a wait that was OK: turn->index; and atoll_barrier_passed says whether the
 * barrier was passed or broken. If turn->leads the others wait until the caller has
 * called atoll_barrier_lead. */
ATOLL_API atoll_err atoll_barrier_arrive(atoll_sync *barrier,
                                         atoll_turn *turn) ATOLL_MUST_CHECK;
static inline atoll_err
atoll_barrier_passed(const atoll_turn *turn)
{
    return turn->result;
}
/* Let the others pass, or break the barrier if not `good`. Returns OK; BROKEN: it has
 * been broken or reset meanwhile. */
ATOLL_API atoll_err atoll_barrier_lead(atoll_sync *barrier, atoll_turn *turn,
                                       bool good) ATOLL_MUST_CHECK;
/* Leave after a wait that was not OK. With `late` this breaks the barrier for all who
 * stand there and all who come, but not for those who were enough before, and whose
 * leader is at work; else it is as if one had not come. True: too late, one's turn has
 * come: go on as after a wait that was OK. Blocks for a moment at most; or, if `late`
 * and the leader is at work for the caller (*led is true then), does nothing and
 * returns false: wait on. */
ATOLL_API bool atoll_barrier_leave(atoll_sync *barrier, atoll_turn *turn, bool late,
                                   bool *led);
/* Broken: all who wait, and all who come, are told BROKEN. */
ATOLL_API atoll_err atoll_barrier_abort(atoll_sync *barrier) ATOLL_MUST_CHECK;
/* As new; those who wait are told BROKEN. */
ATOLL_API atoll_err atoll_barrier_reset(atoll_sync *barrier) ATOLL_MUST_CHECK;

typedef struct atoll_barrier_state {
    uint32_t parties, waiting;
    bool broken;
    int64_t timeout;
} atoll_barrier_state;

/* Look at a barrier: fill in *out, all at one moment. Threads: any. */
ATOLL_API void atoll_barrier_look(atoll_sync *barrier, atoll_barrier_state *out);

/* -------------------------------------------------------- counters, cells */

/* Each is one atomic operation that also orders what was written before it. */
ATOLL_API int64_t atoll_counter_value(const atoll_sync *counter);
/* Returns OK with the new value; INVALID: it would not fit, and is as it was. */
ATOLL_API atoll_err atoll_counter_add(atoll_sync *counter, int64_t amount,
                                      int64_t *value) ATOLL_MUST_CHECK;
/* Set it to `value` if it is `expected`. */
ATOLL_API bool atoll_counter_swap(atoll_sync *counter, int64_t expected, int64_t value);

/* A message that nobody changes, with a count: what a cell holds. */
typedef struct atoll_value atoll_value;
/* Takes the payload of *msg over. On NOMEM the caller still owns it. */
ATOLL_API atoll_err atoll_value_new(atoll_msg *msg, atoll_value **out) ATOLL_MUST_CHECK;

/* Give a reference back; the last one drops the message. Threads: any. */
ATOLL_API void atoll_value_unref(atoll_value *value);
/* To look at, or to copy; not to be received or dropped. */
ATOLL_API const atoll_msg *atoll_value_msg(const atoll_value *value);

/* A barrier has a place for a value, too: what its leader does, say.
 *
 * What is in it: a new reference, or NULL if it is empty. */
ATOLL_API atoll_value *atoll_cell_load(atoll_sync *cell);
/* Put `value` in (the reference goes with it); what was there comes out, or NULL. */
ATOLL_API atoll_value *atoll_cell_swap(atoll_sync *cell, atoll_value *value);
/* The same if `expected`, to which the caller has a reference, is in it still: then
 * the reference to `value`, and the cell's to `expected`, change hands. */
ATOLL_API bool atoll_cell_replace(atoll_sync *cell, const atoll_value *expected,
                                  atoll_value *value);

#ifdef __cplusplus
}
#endif

#endif /* ATOLL_SYNC_H */
