/* Selections: the cases of atoll.select(), made of Python objects, for the call
 * that blocks (async/select.c) and for operations of completion queues
 * (async/operation.c). */
#ifndef EXT_ASYNC_SELECT_H
#define EXT_ASYNC_SELECT_H

#include "base/base.h"
#include "wait/record.h"

/* The cases of a call. All is guarded by the GIL, but what is in `cases` between
 * a start and its end, which is the core's. */
typedef struct selection {
    core_state *state;
    uint32_t count;
    uint32_t room; /* for so many cases */
    bool in_order; /* priority=True */
    bool has_tasks;
    PyObject **ends;   /* what each case is about (a chanobj, a future): counted;
                          NULL: it is never ready */
    wait_case *waits;  /* likewise, for those who look: while a thread waits */
    atoll_case *cases; /* in the same allocation */
} selection;

/* Of `count` Python objects: see atoll.select. The objects of sends are encoded.
 * NULL with an exception. */
selection *selection_new(core_state *state, PyObject *const *args, Py_ssize_t count,
                         bool in_order);

/* Try once. As atoll_select with ATOLL_NOW. */
atoll_err selection_try(selection *s, uint32_t *index, atoll_err *err);
/* The state of the generator, or NULL if the order is to be kept. */
uint64_t *selection_random(selection *s);

/* Nothing has been sent: drop what was to be. */
void selection_drop_unsent(selection *s);
/* Case `index` has ended with `err`: the same for the others, and for it if it was
 * not sent. To be called once, before anything else is done with the result. */
void selection_settle(selection *s, uint32_t index, atoll_err err);

/* The result of a settled one: (index, value), or the exception that the call raises
 * for which the case stands, with `case` set. */
PyObject *selection_result(selection *s, uint32_t index, atoll_err err);

/* The messages have been dropped, or are left to whoever they belong to. Gives back
 * the objects, which may run anybody's code. */
void selection_free(selection *s);

/* Visit the objects of its cases, for the collector. */
int selection_visit(const selection *s, visitproc visit, void *arg);

/* The memory of the last one is kept for the next: give it back. */
void selection_forget(core_state *state);

extern PyMethodDef select_functions[];

#endif
