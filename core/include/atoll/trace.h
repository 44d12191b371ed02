/* Logs of what happens when, for a timeline.
 *
 * Each thread that notes something while it is traced has a log of its own, so that
 * threads do not meet; a log is chunks of events, and the process has a list of the
 * logs. While nothing is traced a hook is one relaxed load.
 *
 * Ownership. A log is counted: its thread and the list have it. The list gives up its
 * own to whoever ends the tracing; the thread when it notes something of the next
 * tracing, or ends.
 *
 * Threads and memory order. A log is written by its thread alone. An event is
 * published by the release store of its chunk's count, and a chunk by that of the
 * pointer to it; readers load with acquire, and may come at any time. What is noted
 * after they came is lost.
 */
#ifndef ATOLL_TRACE_H
#define ATOLL_TRACE_H

#include "atoll/atoll.h"

/* What is noted. The caller gives meaning to all but the first. */
enum { ATOLL_TRACE_ON = 1 };

/* One event; one cache line. */
typedef struct atoll_trace_event {
    int64_t start, end; /* as atoll_now() */
    uint64_t id;
    uint8_t kind;
    char name[39]; /* zero-terminated, unless it is as long as that */
} atoll_trace_event;

typedef struct atoll_trace_log atoll_trace_log;

/* Says who the calling thread is: a number, and a text (UTF-8) into `name`, which is
 * "" before. Called once for each log, with no lock held. */
typedef int64_t (*atoll_trace_namer)(char *name, size_t size);

/* Begin: `limit` events at most (a thread takes room for 511 at a time). False if
 * something is traced already. Any thread. */
ATOLL_API bool atoll_trace_start(uint64_t limit, uint32_t flags,
                                 atoll_trace_namer namer);
/* Is one of these flags on? A hint, relaxed. */
ATOLL_API bool atoll_trace_on(uint32_t flags);
/* A number that nothing else in this process has got here. */
ATOLL_API uint64_t atoll_trace_number(void);
/* Note that it happened. Without memory, or past the limit, it is counted only.
 * `name`: shortened to what there is room for; NULL: none. Any thread. */
ATOLL_API void atoll_trace_note(uint8_t kind, int64_t start, int64_t end, uint64_t id,
                                const char *name);

/* End it: the first of the logs, all of which the caller gives back one by one; NULL:
 * there are none. *lost: how many events there was no room for. Any thread. */
ATOLL_API atoll_trace_log *atoll_trace_stop(uint64_t *lost);
/* Give it back; returns the one after it. */
ATOLL_API atoll_trace_log *atoll_trace_drop(atoll_trace_log *log);

typedef struct atoll_trace_facts {
    int64_t number; /* what the namer said */
    const char *name;
    int64_t thread; /* as the system numbers it */
} atoll_trace_facts;

/* Look at a log that the caller has: fill in *facts, whose name is borrowed. */
ATOLL_API void atoll_trace_look(const atoll_trace_log *log, atoll_trace_facts *facts);
/* The chunks of a log: *at is NULL before the first. Returns the events of the next
 * one and how many; NULL after the last. They are there as long as the log. */
ATOLL_API const atoll_trace_event *atoll_trace_next(const atoll_trace_log *log,
                                                    const void **at, size_t *count);

/* In the child of a fork: nothing is traced. What the parent has is left as it is. */
ATOLL_API void atoll_trace_fork_child(void);

#endif
