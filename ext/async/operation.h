/* Operations and their lists: what async/operation.c, async/queue.c and async/now.c
 * share. See async/async.h. */
#ifndef EXT_ASYNC_OPERATION_H
#define EXT_ASYNC_OPERATION_H

#include "async/async.h"
#include "chan/chan.h"
#include "home/home.h"
#include "sync/sync.h"

typedef enum op_kind {
    OP_NONE,
    OP_RECV,
    OP_SEND,
    OP_JOIN,
    OP_TAKE,
    OP_WATCH,
    OP_SELECT
} op_kind;
typedef enum op_phase { OP_NEW, OP_PENDING, OP_ENDED, OP_OVER } op_phase;

struct cqobj;

typedef struct opobj {
    PyObject_HEAD
    core_state *state;
    op_kind kind;
    op_phase phase;
    bool owned;           /* its queue has a reference, and will tell its token */
    atoll_op *op;         /* owned; NULL once it is over */
    struct cqobj *cq;     /* borrowed; in one of whose lists it is, or NULL */
    struct op_list *list; /* which */
    struct opobj *prev, *next;
    PyObject *token;
    chanobj *end;                /* or NULL */
    syncobj *lock;               /* of OP_TAKE, or NULL */
    uint64_t task;               /* which is to own it: see sync_me_as */
    struct selection *selection; /* owned, of OP_SELECT, until it is over */
    uint32_t index;              /* of its case, once it has ended */
    PyObject *keep;              /* what holds the event, or NULL */
} opobj;

typedef struct op_list {
    opobj *first, *last;
} op_list;

typedef struct cqobj {
    PyObject_HEAD
    core_state *state;
    atoll_cq *cq;      /* NULL once closed */
    op_list pending;   /* PENDING */
    op_list untold;    /* ENDED since the last drain(), in that order */
    op_list told;      /* ENDED before it, likewise */
    bool closing;      /* nothing new is started */
    struct home *home; /* in whose list `loop` is, or NULL */
    home_loop loop;
    struct cqobj *prev, *next; /* all of the interpreter: state->async->cqs */
} cqobj;

/* The queue or the channel's end in `obj`, if one can `send` to it, or receive;
 * NULL with TypeError. */
chanobj *op_end_of(core_state *state, PyObject *obj, bool send);

/* Has `function` been given `count` arguments? Else TypeError. */
bool op_takes(const char *function, Py_ssize_t nargs, Py_ssize_t count);

/* A NEW operation; `end` and `token` may be NULL. NULL with MemoryError. */
opobj *op_new(core_state *state, op_kind kind, PyObject *end, PyObject *token);

/* Start it. It is PENDING afterwards, or ENDED. */
void op_start(opobj *o, cqobj *cq, atoll_event *event);

/* `op` has come out of the core's queue. */
void op_collect(cqobj *cq, atoll_op *op);

/* The first of the untold becomes one of the told: its token, if it has one to
 * be told, has been handed out. */
void op_told(opobj *o);

/* What cancel() does. */
bool op_cancel(opobj *o);

/* Cancel every operation of `cq` that waits, and put back what has come; afterwards
 * none refers to it. May wait, for a moment, for one that is being served. */
void op_end_all(cqobj *cq);

/* Make the types. 0, or -1 with an exception. */
int cq_add_types(core_state *state);

extern PyType_Spec op_spec;
extern PyMethodDef cq_functions[];

#endif
