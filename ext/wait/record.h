/* Who waits for what: one record for each thread that waits in atoll, and what each
 * interpreter holds that others may wait for. Read by dump() (watch/survey.c) and by the
 * watch for deadlocks (watch/watch.c).
 *
 * Each interpreter that has imported atoll is a *party*. Its records and holds are
 * in lists of its own, so that threads of different interpreters do not meet at one
 * lock. The records are on the stacks of those who wait.
 *
 * Ownership. A party belongs to the process; it is in the table from the import of
 * atoll to the end of that module, and gone from it before its interpreter is. A
 * record is its thread's. A hold is part of what holds.
 *
 * Threads. Any; a reader needs no GIL. A record is entered with the GIL, and leaves
 * without (a thread that wants the GIL back at the end of the process may never get
 * it, and its stack may go).
 *
 * Lock order: the table, the parties in its order (only readers take more than one),
 * then pools, homes, the watch's, and the core's.
 */
#ifndef EXT_WAIT_RECORD_H
#define EXT_WAIT_RECORD_H

#include "base/base.h"

struct home;
struct waits_view;

/* A kind of thing that one can wait for. All functions are called with every
 * party locked, from any thread, without a GIL; the object is alive since whoever
 * waits for it holds it. */
typedef struct wait_type {
    /* What the wait is, for people: "recv on channel 7". */
    void (*describe)(const void *object, char *text, size_t size);
    /* Could somebody end this wait who does not wait for ever himself? Asks
     * waits_live() or waits_held_live(). NULL: yes, at any time. */
    bool (*may_end)(const void *object, struct waits_view *view);
    /* It ends when a task or interpreter does: so with a DeadlockError there. */
    bool for_task;
} wait_type;

/* One of the things that a thread waits for at once. */
typedef struct wait_case {
    const wait_type *type;
    const void *object;
} wait_case;

typedef struct wait_record {
    struct wait_record *prev, *next; /* the party's lock guards all of it */
    struct party *party;
    const wait_case *cases; /* constant; may be none: nothing is known */
    size_t count;
    int64_t since, deadline; /* constant while it is in the list */
    unsigned long ident;     /* the thread, as CPython names it */
    bool at_home;            /* it is a home thread */
    bool watched;            /* it wants to know about deadlocks */
    bool of_task;            /* a task of spawn() runs there */
    atoll_kick own_kick, *kick;
    char *verdict; /* why it is to end with DeadlockError; or NULL */
} wait_record;

/* One interpreter holds `object` (the end `side` of it). */
typedef struct wait_hold {
    struct wait_hold *prev, *next; /* guarded by the party's lock */
    const void *object;
    int side; /* of an atoll_chan, the xfer_handle_kind; of others, from
                 WAIT_SIDE_OTHER on */
} wait_hold;
enum { WAIT_SIDE_OTHER = 16, WAIT_SIDE_SYNC = WAIT_SIDE_OTHER };

typedef struct party {
    struct party *prev, *next; /* guarded by the table's lock */
    atoll_lock lock;
    PyInterpreterState *interp; /* constant; valid until waits_party_end */
    int64_t id;
    bool is_main;
    struct home *home;    /* guarded by lock; borrowed from the module's state */
    wait_record *records; /* guarded by lock */
    wait_hold *holds;     /* guarded by lock */
    uint64_t epoch;       /* guarded by lock: records that came or went */
    int64_t notified;     /* guarded by lock: when the watch was last told */
    bool watched;         /* guarded by its GIL: a task of spawn() runs */
    bool watch_all;       /* guarded by lock: as watch_all() */
    bool closing;         /* guarded by lock: no more visits, see wait/visit.h */
    uint32_t visitors;    /* guarded by lock */
    atoll_event *alone;   /* guarded by lock: whom the last visitor tells */
} party;

/* --- an interpreter's side; attached to it */

/* Enter the current interpreter: 0, or -1 with MemoryError. */
int waits_party_begin(core_state *state);
void waits_party_set_home(core_state *state, struct home *h);
/* Nothing of it is looked at any more. */
void waits_party_end(core_state *state);
/* The same once the interpreter has ended, if its module has leaked, and with it
 * perhaps what held something: that memory may be given back now. */
void waits_party_gone(const struct home *h);

/* Fill in a record: what detach_wait does. `home` is the calling thread's own, or
 * NULL; cases and what they point at stay until it is over. */
void waits_init(wait_record *r, core_state *state, struct home *home,
                const wait_case *cases, size_t count, int64_t deadline);
/* The wait begins; attached. And it is over: attached or not. */
void waits_enter(wait_record *r);
void waits_leave(wait_record *r);

/* It holds `object` from now on, having counted it before; and not any more, before
 * it gives it back: so that nothing seems to be held by nobody who is unknown. */
void waits_hold(core_state *state, wait_hold *hold, const void *object,
                int side);
void waits_unhold(core_state *state, wait_hold *hold);

/* --- readers */

/* Lock all parties, and the table: the first; release them. */
party *waits_lock_all(void);
void waits_unlock_all(void);

/* How many holds of `object` there are, of one side or (side < 0) of all; and does
 * a party have one that does not wait for ever? */
size_t waits_held(struct waits_view *view, const void *object, int side);
bool waits_held_live(struct waits_view *view, const void *object, int side);
/* The interpreter `id`; true also if nothing is known about it. */
bool waits_live(struct waits_view *view, int64_t id);
/* Any of them. */
bool waits_any_live(struct waits_view *view);

/* --- what is waited for (wait/kinds.c) */

extern const wait_type wait_recv, wait_send; /* atoll_chan */
extern const wait_type wait_sync; /* atoll_sync: a lock or what is like it */
extern const wait_type wait_task, wait_task_over; /* job, of a pool */
extern const wait_type wait_home_job; /* home: what runs there now */
extern const wait_type wait_home_start; /* home */
extern const wait_type wait_pool;     /* pool: its end */
extern const wait_type wait_events;   /* a completion queue: no object */
extern const wait_type wait_output;   /* no object */
extern const wait_type wait_unknown;  /* no object: may end at any time */
extern const wait_type wait_never;    /* no object: a case that is never ready */

/* --- the watch for deadlocks (watch/watch.c) */

/* Is it on for all waits? And: turn it on or off; returns what it was. */
bool watch_all(void);
bool watch_set_all(bool on);
/* For tests: look all the time, with so short pauses, in nanoseconds; 0: as usual. */
void watch_hurry(int64_t pause);
/* Somebody has begun to wait for ever who wants to know. Any thread. */
void watch_notify(void);
/* Main is leaving. Waits, detached. */
void watch_stop(void);

void waits_fork_prepare(void);
void waits_fork_parent(void);
void waits_fork_child(void);
void watch_fork_child(void);

/* How long a wait lasts before anybody looks at it, in nanoseconds. */
#define WATCH_GRACE INT64_C(50000000)

#endif
