/* Who waits for what: one record for each thread that waits in atoll, and what each
 * interpreter holds that others may wait for. Read by dump() (watch/survey.c) and by
 * the watch for deadlocks (watch/watch.c).
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

struct wait_host;

/* What the watch for deadlocks sees while it looks: the questions that the kinds of
 * waits ask it. */
typedef struct waits_view {
    /* Is the interpreter `id` live? True also if nothing is known about it. */
    bool (*live)(struct waits_view *view, int64_t id);
    /* Is any of them? */
    bool (*any_live)(struct waits_view *view);
    /* How many holds of `object` are there, of one side or (side < 0) of all? */
    size_t (*held)(struct waits_view *view, const void *object, int side);
    /* Does a party have one that does not wait for ever? */
    bool (*held_live)(struct waits_view *view, const void *object, int side);
} waits_view;

/* A kind of thing that one can wait for; each is in the room of the thing. All
 * functions are called with every party locked, from any thread, without a GIL; the
 * object is alive since whoever waits for it holds it. */
typedef struct wait_type {
    /* What the wait is, for people: "recv on channel 7". */
    void (*describe)(const void *object, char *text, size_t size);
    /* Could somebody end this wait who does not himself wait without end? NULL: yes,
     * at any time. */
    bool (*may_end)(const void *object, waits_view *view);
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
    struct wait_host *host; /* written with both locks; borrowed: whose thread it has */
    wait_record *records;   /* guarded by lock */
    wait_hold *holds;       /* guarded by lock */
    uint64_t epoch;         /* guarded by lock: records that came or went */
    int64_t notified;       /* guarded by lock: when the watch was last told */
    bool watched;           /* guarded by its GIL: a task of spawn() runs */
    bool watch_all;         /* guarded by lock: all waits are watched */
    bool closing;           /* guarded by lock: no more visits, see wait/visit.h */
    uint32_t visitors;      /* guarded by lock */
    atoll_event *alone;     /* guarded by lock: whom the last visitor tells */
} party;

/* --- an interpreter's side; attached to it */

/* Enter the current interpreter: 0, or -1 with MemoryError. */
int waits_party_begin(core_state *state);
/* Its home thread is `host`'s. */
void waits_party_set_host(core_state *state, struct wait_host *host);
/* Nothing of it is looked at any more. */
void waits_party_end(core_state *state);
/* The same once the interpreter has ended, if its module has leaked, and with it
 * perhaps what held something: that memory may be given back now. */
void waits_party_gone(const struct wait_host *host);

/* Fill in a record: what detach_wait does. `host` is the calling thread's own, or
 * NULL; cases and what they point at stay until it is over. */
void waits_init(wait_record *r, core_state *state, struct wait_host *host,
                const wait_case *cases, size_t count, int64_t deadline);

/* Begin the wait: enter the record into its party's list. Attached. */
void waits_enter(wait_record *r);

/* End it: take the record out. Attached or not. */
void waits_leave(wait_record *r);

/* It holds `object` from now on, having counted it before; and not any more, before
 * it gives it back: so that nothing seems to be held by nobody who is unknown. */
void waits_hold(core_state *state, wait_hold *hold, const void *object, int side);

/* Note that it holds the object no more, before it gives it back. */
void waits_unhold(core_state *state, wait_hold *hold);

/* --- readers */

/* Lock all parties, and the table: the first; release them. */
party *waits_lock_all(void);

/* Release all parties, and the table. */
void waits_unlock_all(void);

/* --- who looks at the records: the watch for deadlocks */

typedef struct waits_watcher {
    /* Are all waits of a new party to be watched? Called with the table locked. */
    bool (*wants_all)(void);
    /* Somebody has begun to wait for ever who wants to know. Any thread, no lock
     * held. */
    void (*notify)(void);
} waits_watcher;

/* Tell who watches. In a room's `start`; there is one. */
void waits_set_watcher(const waits_watcher *watcher);

/* --- what is waited for that is of no room (wait/kinds.c) */

extern const wait_type wait_unknown; /* no object: may end at any time */
extern const wait_type wait_never;   /* no object: a case that is never ready */

/* How long a wait lasts before anybody looks at it, in nanoseconds. */
#define WATCH_GRACE INT64_C(50000000)

/* Hold the table still, for a fork. */
void waits_fork_prepare(void);

/* Let go of it. */
void waits_fork_parent(void);

/* Leave main alone in the table, in the child: nobody waits. */
void waits_fork_child(void);

#endif
