/* What is traced (atoll/trace.h), and atoll.trace()'s half in C. */
#ifndef EXT_WATCH_TRACE_H
#define EXT_WATCH_TRACE_H

#include "atoll/trace.h"
#include "base/base.h"

struct wait_record;
struct job;

/* Beside ATOLL_TRACE_ON. */
enum { TRACE_MESSAGES = 2 };

typedef enum trace_kind {
    TRACE_SUBMIT, /* a job was made; `id` is its number */
    TRACE_TASK,   /* it ran, from start to end */
    TRACE_FAILED, /* likewise, and raised */
    TRACE_WAIT,   /* a thread waited, from start to end, for one of `id` things */
    TRACE_SEND,   /* a message went into channel or queue `id` */
    TRACE_RECV,
} trace_kind;

/* A wait has ended: note it if it took longer than a hand-over between threads that
 * are awake. The record is still the caller's. */
void trace_wait(const struct wait_record *record, int64_t end);
/* A job has been made: gives it its number. */
void trace_submit(struct job *j);
/* It has run since `start`: what it called is `function` (or NULL, for exec).
 * Attached; keeps the exception that is set, if any: then it has failed. */
void trace_job(const struct job *j, int64_t start, PyObject *function);

extern PyMethodDef trace_functions[];

#endif
