/* The watch for deadlocks: what it sees in one look, who is live, and who is not.
 * watch/watch.c says when and why, watch/deadlock.c finds out, watch/tell.c tells. */
#ifndef EXT_WATCH_WATCH_H
#define EXT_WATCH_WATCH_H

#include "wait/visit.h"

extern const core_room watch_room;

/* A party in one look. */
typedef struct party_look {
    party *party;
    uint64_t epoch;
    bool live, idle;
    bool visited; /* `stacks` are known */
    stacks stacks;
    size_t group; /* another one that it is connected with, or itself */
} party_look;

typedef struct hold_look {
    const void *object;
    int side;
    size_t owner; /* index of the party */
} hold_look;

typedef struct edge {
    size_t from, to;
} edge;

typedef struct view {
    waits_view asks;     /* first: what the kinds of waits ask */
    party_look *parties; /* owned */
    size_t count;
    hold_look *holds; /* owned, sorted by object; NULL: not made yet */
    size_t hold_count;
    int64_t young; /* who waits since then, or less long, has time */
    bool failed;   /* no memory: nothing is found */
    /* Of the first look, for the second. */
    const struct view *before;
    party_look **kept; /* owned; those that are not live, kept from ending */
    size_t kept_count;
    uint32_t threads, known_threads; /* of the process; of them, ours */
    /* While a record is looked at: who was asked about. */
    size_t asking; /* index of its party */
    bool log;
    edge *edges; /* owned */
    size_t edge_count, edge_room;
} view;

/* All with every party locked, but view_free. */

/* Prepare one for its questions (watch/deadlock.c); *v is zeroed. */
void view_init(view *v);

/* Look at all parties; false: nobody is worth the trouble. *wanted: somebody waits
 * for ever and wants to know. */
bool view_make(view *v, party *table, bool *wanted);
/* Find those that are not live; returns how many. */
size_t view_find(view *v);

/* Could somebody end this wait who is live? */
bool view_may_end(view *v, const wait_record *r);
/* What the first look has kept of `p`, or NULL; for the second. */
const party_look *view_before(const view *v, const party *p);
/* Keep these from ending: false without memory. visit_end is due for each. */
bool view_keep(view *v);
/* End their waits. */
void view_deliver(view *v);

/* Free what a look has found. With no lock held. */
void view_free(view *v);

/* --- the switch (watch/watch.c) */

/* Is it on for all waits? */
bool watch_all(void);

/* Turn it on for all waits, or off; returns what it was. */
bool watch_set_all(bool on);

/* Look all the time, with so short pauses, in nanoseconds; 0: as usual. For tests. */
void watch_hurry(int64_t pause);

/* Stop: main is leaving. Waits, detached. */
void watch_stop(void);

/* Forget the thread, which is not in the child. */
void watch_fork_child(void);

/* Tell the waits who watches them. */
void watch_start(void);

extern PyMethodDef survey_functions[], trace_functions[];

#endif
