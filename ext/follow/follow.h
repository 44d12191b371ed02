/* What follows tasks to their workers: the surroundings that code expects to be the
 * same everywhere, though each interpreter has its own: os.environ, sys.path, the
 * recursion limit, filters of warnings, levels of logging, the decimal context, and
 * what multiprocessing knows of this process.
 *
 * An interpreter that submits has one *record* of its own surroundings, made anew when
 * they have changed; every job carries it as a pointer. A worker compares the pointer
 * with that of its last record, and applies only what differs between the two, so that
 * what code there has set itself stays. A record is made of parts, each an encoded
 * value that several records may share.
 *
 * Nothing is asked of Python while nothing has changed: dictionaries are watched by
 * CPython (PyDict_Watch), lists are compared by the identity of their items
 * (follow/watch.c).
 *
 * References to a record are counted without touching memory that another core writes:
 * the interpreter that makes it takes many at once, and hands them to jobs; a worker
 * keeps those of the jobs that it has run until it gets another record.
 */
#ifndef EXT_FOLLOW_FOLLOW_H
#define EXT_FOLLOW_FOLLOW_H

#include "base/base.h"

/* In the order of python/atoll/_follow/__init__.py. */
typedef enum follow_part {
    FOLLOW_ENVIRON,
    FOLLOW_PATH,
    FOLLOW_RECURSION,
    FOLLOW_WARNINGS,
    FOLLOW_LOGGING,
    FOLLOW_DECIMAL,
    FOLLOW_MULTIPROCESSING,
    FOLLOW_PARTS,
} follow_part;

/* A bit for each part. */
#define FOLLOW_ALL ((1u << FOLLOW_PARTS) - 1)

/* Belongs to the process. */
typedef struct follow_record follow_record;

/* What an interpreter has of the room: see follow/record.c, follow/watch.c. */
typedef struct follow_data {
    struct follow_watch *watch; /* owned; NULL: it has submitted nothing yet */
    /* - what it sends */
    follow_record *record;          /* a reference; NULL: none yet */
    uint32_t stock;                 /* further references, for jobs */
    uint32_t turns[FOLLOW_PARTS];   /* how often each has been asked for */
    uint32_t asking[FOLLOW_PARTS];  /* calls that ask for it now */
    PyObject *values[FOLLOW_PARTS]; /* what is in the record; NULL: nothing */
    PyObject *collect;              /* of atoll._follow.collect, on demand */
    /* - what it has been sent */
    follow_record *last;           /* a reference */
    uint32_t owed;                 /* further ones, of jobs that have run */
    uint32_t deaf;                 /* bits of the parts that it does not follow */
    PyObject *known[FOLLOW_PARTS]; /* last applied, or there at the beginning */
    PyObject *apply;               /* of atoll._follow.apply, on demand */
} follow_data;

extern const core_room follow_room;

/* Get the record of the surroundings of now, with a reference for a job; *out is NULL
 * if there is nothing to follow, or the job is for one that is `deaf` to all parts. 0,
 * or -1 with an exception. */
int follow_take(core_state *state, uint32_t deaf, follow_record **out);

/* Count another reference. `record` may be NULL; returns it. Any thread. */
follow_record *follow_ref(follow_record *record);

/* Give a reference back. `record` may be NULL. Any thread. */
void follow_unref(follow_record *record);

/* In a new interpreter, before any module is imported there: note how it is now, and
 * the bits of the parts in which it goes its own way. `levels` is what its logging
 * begins with (atoll._output.stream). 0, or -1 with an exception. */
int follow_boot(core_state *state, uint32_t deaf, PyObject *levels);

/* Let this interpreter follow `record` (NULL: nothing), whose reference it takes over.
 * What cannot be applied is reported, and left as it is. No interrupts may come. */
void follow_apply(core_state *state, follow_record *record);

/* Before and after a fork: keep watchers and counts still, and in the child make their
 * lock anew. */
void follow_fork_prepare(void);

/* Let go of it, in the parent. */
void follow_fork_parent(void);

/* See follow_fork_prepare. */
void follow_fork_child(void);

#endif
