/* The one way to block: detach from the interpreter, wait, attach, look for
 * signals and interrupts, and go on. */
#ifndef EXT_WAIT_WAIT_H
#define EXT_WAIT_WAIT_H

#include "base/base.h"
#include "wait/mail.h"
#include "wait/record.h"

/* What an interpreter has of the room. */
typedef struct wait_data {
    mailbox *mailbox;       /* counted: what comes home to be released */
    party *party;           /* see wait/record.h; NULL once the module has ended */
    struct wait_host *host; /* borrowed; NULL: atoll has not made the interpreter */
} wait_data;

extern const core_room wait_room;

/* Whoever runs the code of an interpreter, for the waits of that one thread: its home,
 * which embeds this. The functions are called in the thread, attached. */
typedef struct wait_host {
    atoll_thread thread; /* constant once `host` is set anywhere */
    atoll_kick kick;     /* interrupts the thread's waits */
    /* Called before each wait. If an interrupt is due, raise KeyboardInterrupt and
     * return true; else note that a wait follows. */
    bool (*take_interrupt)(struct wait_host *host);
    /* That wait is over. */
    void (*wait_over)(struct wait_host *host);
} wait_host;

/* Tell the current interpreter, and those who look at it, whose thread it is. */
void wait_set_host(core_state *state, wait_host *host);

/* Find the host whose own thread is the calling one, or NULL. */
wait_host *wait_host_here(const core_state *state);

/* A blocking operation of the core. Called without the GIL. */
typedef atoll_err (*detach_op)(void *arg, const atoll_wait *wait);

/* Run `op` until it ends with anything but INTERRUPTED, which goes to *err.
 * It is called again after each interrupt that raised nothing, and keeps its place in
 * line (atoll_wait.place).
 * Returns 0, or -1 with an exception that a signal handler or
 * Interpreter.interrupt() raised; then the operation has not happened.
 *
 * In the thread that runs signal handlers the wait parks in poll(2) on a pipe
 * that is CPython's wakeup descriptor for that time, so a signal ends it
 * whichever thread the kernel gives it to and however late it comes. In a home
 * thread it can be kicked. Elsewhere no Python code can be asked to run, and it
 * parks on a futex. `spin` goes to atoll_wait. */
int detach_wait(core_state *state, detach_op op, void *arg, int64_t deadline,
                atoll_spin *spin, atoll_err *err);

/* The same, and it can be seen what is waited for: the `count` things in `cases`,
 * which stay until it returns (wait/record.h). If nobody is left who could end the
 * wait, and somebody wants to know, it returns -1 with DeadlockError. */
int detach_wait_for(core_state *state, detach_op op, void *arg, int64_t deadline,
                    atoll_spin *spin, const wait_case *cases, size_t count,
                    atoll_err *err);
/* Wait for one thing; as detach_wait_for. */
static inline int
detach_wait_one(core_state *state, detach_op op, void *arg, int64_t deadline,
                atoll_spin *spin, const wait_type *type, const void *object,
                atoll_err *err)
{
    const wait_case one = {type, object};
    return detach_wait_for(state, op, arg, deadline, spin, &one, 1, err);
}

/* Seconds (a Python number, or NULL or None for ever) to an absolute deadline.
 * 0 becomes ATOLL_NOW. Returns -1 with TypeError, ValueError. */
int detach_deadline(PyObject *timeout, int64_t *deadline);

/* Is this the thread in which CPython runs signal handlers? */
bool detach_is_signal_thread(const core_state *state);

/* For work that does not wait, but is long: 0, or -1 with what a signal handler or
 * Interpreter.interrupt() raised. Runs handlers, in their thread; attached. */
int detach_look(core_state *state);

/* In the child of a fork: the calling thread is now the signal thread, and
 * the parent's descriptors are given up. */
void detach_fork_child(void);

/* Remember the signal thread. Called once in the main interpreter. */
int detach_init(void);

#endif
