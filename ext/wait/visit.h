/* Looking into another interpreter, without waiting for it longer than a moment.
 *
 * What can only be seen with an interpreter's GIL (its threads, their stacks) is
 * looked at from a thread of its own, the visitor, which attaches to it. An
 * interpreter that waits or sleeps lets it in at once, one that computes within
 * some 5 ms. One inside a long call of C code does not; then the visitor is left
 * behind: when it gets the GIL after all it finds that nobody wants anything any
 * more, and leaves. An interpreter that closes lets nobody in any more, and waits
 * for those inside, detached.
 */
#ifndef EXT_WAIT_VISIT_H
#define EXT_WAIT_VISIT_H

#include "wait/record.h"

/* One thread of an interpreter. */
typedef struct thread_stack {
    unsigned long ident;
    char name[48];   /* of threading's; or "" */
    char where[256]; /* "file:line in function": the innermost outside of atoll */
    char *frames;    /* lines as in a traceback, innermost first; or NULL */
} thread_stack;

typedef struct stacks {
    thread_stack *threads; /* owned */
    size_t count;
    size_t states;     /* thread states, also those without a frame */
    bool has_handlers; /* Python functions that signals may call; main only */
    bool failed;       /* no memory */
    bool texts;        /* set by the caller: `frames` are wanted */
} stacks;

/* Keep `p` from ending: true, unless it is closing. For a party that is in the
 * table, whose lock is held; and let go of it, without. */
bool visit_begin(party *p);

/* Let go of `p`, without its lock; it may end, and be gone. */
void visit_end(party *p);

/* Fill in *out of `p`, which visit_begin has kept. Call it detached; takes up to
 * `patience` nanoseconds, or VISIT_FOR_EVER. OK; TIMEOUT: the GIL was not to be had;
 * NOMEM, SYSTEM. */
#define VISIT_FOR_EVER (-1)

/* Look at `p`'s stacks; see above. */
atoll_err visit_stacks(party *p, stacks *out, int64_t patience);

/* Something to do in another interpreter, in a thread that attaches to it for that. */
typedef struct visit_errand {
    void (*inside)(void *arg); /* attached, unless memory was short; exceptions of it
                                  are cleared */
    void (*over)(void *arg);   /* afterwards, attached to nothing */
    void *arg;
} visit_errand;

/* Send a visitor to `p`, which visit_begin has kept, and do not wait: the visitor lets
 * go of `p`. NOMEM, SYSTEM: then nothing of the errand is done, and `p` is still kept.
 */
atoll_err visit_send(party *p, const visit_errand *errand);

/* The same of the calling thread's own interpreter; attached. */
void stacks_here(stacks *out);

/* Free what they own. */
void stacks_free(stacks *s);

/* Find the stack of a thread, or NULL; borrowed. */
const thread_stack *stacks_find(const stacks *s, unsigned long ident);

/* Let nobody in any more, and wait, detached, for those inside; attached to it.
 * And open it again. */
void visit_close(core_state *state);

/* Let visitors in again. */
void visit_reopen(core_state *state);

/* Forget the visitors, who are not in the child. */
void visit_fork_child(void);

/* --- holding all others still (wait/still.c) */

/* A home comes or goes from here on: it is not yet, or no more, what could be held
 * still. Waits while somebody holds still; detached then. Who goes, calls visit_close
 * after it, for those who have let go and are about to leave. */
void unsteady_begin(void);

/* It is there, or gone. */
void unsteady_end(void);

/* Hold all other interpreters still that have atoll, from one to the next allocation of
 * theirs: their GILs are taken, and none comes or goes. Attached. Tries for a second,
 * detached; false, without an exception: one of them, *in_way, is inside a long call of
 * C code, or (-1) comes or goes, or there is no memory. What the caller does then must
 * be short, and must not let go of its GIL. */
bool still_begin(core_state *state, int64_t *in_way);

/* Let them go on. */
void still_end(void);

/* Nobody is here, in the child of a fork. */
void still_fork_child(void);

/* The handler of dump_on_signal for `signum` is no way to wake anybody. */
void stacks_set_harmless(PyObject *handler);

#endif
