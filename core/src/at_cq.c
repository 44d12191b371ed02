/* Asynchronous waits: operations that wait without a thread, and the queues
 * out of which they come.
 *
 * Mechanism. There is no second one: an operation contains a waiter and a node
 * (at_wait.h) and stands in the same lines as blocked threads, so it is served
 * in the same order. Only the end differs: where a thread would be woken, the
 * waiter's `done` puts the operation at the end of its completion queue.
 *
 * Ownership. An operation is its caller's storage. From a start that returned
 * AGAIN it belongs to the core, until atoll_cq_next has returned it or a cancel
 * was in time. A waiting operation holds a reference to its completion queue;
 * whoever ends it inherits that and gives it back last. So the queue is there
 * for as long as the one who serves is inside it, even if the operation has been
 * taken out and freed, and the queue been let go, right after it was put in.
 *
 * Threads. Any may start, serve, cancel, take out. Who serves does not wait for
 * anything between claiming the operation and putting it into the queue, but
 * for the queue's lock.
 *
 * Serve or cancel. Both are a compare-and-swap of the waiter's state from
 * WAITING; one wins.
 *   - The server wins: it writes the message and the result, then puts the
 *     operation in, under the queue's lock, under which it is taken out; that
 *     publishes both. The canceller has touched nothing and has read nothing
 *     but the state, so there is nothing else to order.
 *   - The canceller wins: no server writes to the operation any more. One may
 *     still be looking at its node; it does so under the lock of the line, so
 *     the canceller takes that lock (and unlinks the node if no server has)
 *     before it returns. From there on nobody knows the operation.
 * The line's memory (a channel, an event) must outlive that; the canceller holds
 * a reference to it. If the server wins the canceller does not look at the line,
 * so an event may be freed by whoever has taken the operation out: the setter
 * has let go of its lock before it finishes anybody (at_event.c).
 *
 * Two threads that start and cancel the same operation must have agreed on it
 * by other means: the start's writes are published only by the line's lock.
 *
 * Invariant, whenever the queue's lock is free:
 *   threads wait in it  =>  it is empty and not closed
 *   with a descriptor: it is not empty (or was poked)  =>  `readable`
 *   `readable`  <=>  the descriptor is readable, or somebody is about to make it so
 * There is one write each time that the queue begins to fill, and one read when it
 * has been emptied. The write comes after the lock is released: it wakes the loop,
 * which may take the writer's core, and would then wait for the lock until the
 * writer has a core again, which on a busy machine is a time slice or two (4 to 8 ms).
 * So the read, which is under the lock, may come before the write that it is for. It
 * finds nothing, then, and leaves `readable` as it is: the write comes and wakes the
 * loop once for nothing, and the read after that takes it.
 *
 * Lock order: this lock is a leaf. It is never taken inside that of a line.
 *
 * Fork. What was made before it is dead in the child: the descriptor is shared
 * with the parent, the lists may be half linked. `forks` tells. */
#include "at_cq.h"

#include "at_atomic.h"
#include "at_port.h"

struct atoll_cq {
    atoll_lock lock;
    uint32_t refs;          /* atomic */
    uint32_t forks;         /* constant: at_forks when it was made */
    int fd;                 /* guarded by lock; -1: not made yet */
    bool readable;          /* guarded by lock; false without a descriptor */
    bool closed;            /* guarded by lock */
    atoll_op *first, *last; /* guarded by lock: what is to be taken out */
    at_waitq waiters;       /* guarded by lock: threads */
    atoll_spin spin;        /* hints */
};

/* -------------------------------------------------------------- life time */

atoll_err
atoll_cq_new(atoll_cq **out)
{
    atoll_cq *cq = at_alloc_zeroed(sizeof(*cq));
    if (cq == NULL) {
        return ATOLL_ERR_NOMEM;
    }
    cq->refs = 1;
    cq->forks = at_forks;
    cq->fd = -1;
    *out = cq;
    return ATOLL_OK;
}

atoll_cq *
atoll_cq_ref(atoll_cq *cq)
{
    at_add_rlx(&cq->refs, 1); /* the caller has one: nothing is published */
    return cq;
}

void
atoll_cq_unref(atoll_cq *cq)
{
    /* Acquire and release: what others did with theirs happens before. */
    if (at_sub_ar(&cq->refs, 1) == 1) {
        if (cq->fd >= 0) {
            at_port_close_fd(cq->fd); /* in a forked child: its copy */
        }
        atoll_free(cq);
    }
}

static inline bool
of_parent(const atoll_cq *cq)
{
    return at_unlikely(cq->forks != at_forks);
}

/* -------------------------------------------------------------- operations */

/* Release the lock, and make the descriptor readable if `now`. The caller has a
 * reference, so the descriptor stays open. */
static void
cq_release(atoll_cq *cq, bool now)
{
    int fd = cq->fd;
    bool write = now && fd >= 0 && !cq->readable;
    if (write) {
        cq->readable = true;
    }
    atoll_lock_release(&cq->lock);
    if (write) {
        at_wake_fd(fd);
    }
}

/* The `done` of an operation's waiter: it has been served. */
static void
op_done(at_waiter *waiter)
{
    atoll_op *op = (atoll_op *)(void *)((char *)waiter - offsetof(atoll_op, at_waiter));
    atoll_cq *cq = op->at_cq;
    op->status = waiter->won->err;
    op->at_next = NULL;
    atoll_lock_acquire(&cq->lock);
    if (cq->first == NULL) {
        cq->first = op;
    }
    else {
        cq->last->at_next = op;
    }
    cq->last = op;
    at_node *threads = at_waitq_claim_all(&cq->waiters);
    cq_release(cq, true);
    /* From here on the operation may be gone. */
    at_node_finish_all(threads, ATOLL_OK);
    atoll_cq_unref(cq);
}

/* Before the operation is tried. */
atoll_err
at_op_begin(atoll_op *op, const atoll_cq *cq)
{
    op->at_queue = NULL; /* a cancel finds that it does not wait */
    op->status = ATOLL_ERR_AGAIN;
    return of_parent(cq) ? ATOLL_ERR_FORKED : ATOLL_OK;
}

void
at_op_arm(atoll_op *op, atoll_cq *cq)
{
    at_waiter_init_async(&op->at_waiter, op_done);
    op->at_cq = atoll_cq_ref(cq);
}

bool
at_op_disarm(atoll_op *op, bool *of_child)
{
    if (!at_waiter_give_up(&op->at_waiter)) {
        return false;
    }
    *of_child = of_parent(op->at_cq);
    return true;
}

atoll_err
at_op_stand(atoll_op *op, atoll_cq *cq, at_waitq *line, uint64_t *arrivals,
            atoll_lock *lock)
{
    uint64_t none = 0;
    at_op_arm(op, cq);
    op->at_node = (at_node){.waiter = &op->at_waiter, .msg = &op->msg};
    op->at_queue = line;
    op->at_lock = lock;
    at_waitq_enter(line, &op->at_node, arrivals == NULL ? &none : arrivals, NULL);
    atoll_lock_release(lock); /* it may be over and gone from here on */
    return ATOLL_ERR_AGAIN;
}

bool
atoll_op_cancel(atoll_op *op)
{
    at_waitq *line = op->at_queue;
    bool of_child;
    if (line == NULL || !at_op_disarm(op, &of_child)) {
        return false;
    }
    if (!of_child) { /* else the line has been made anew */
        atoll_lock_acquire(op->at_lock);
        at_waitq_remove(line, &op->at_node);
        atoll_lock_release(op->at_lock);
    }
    atoll_cq_unref(op->at_cq);
    return true;
}

/* --------------------------------------------------------------- the queue */

atoll_op *
atoll_cq_next(atoll_cq *cq)
{
    if (of_parent(cq)) {
        return NULL;
    }
    atoll_lock_acquire(&cq->lock);
    atoll_op *op = cq->first;
    if (op != NULL) {
        cq->first = op->at_next;
    }
    else if (cq->readable) {
        cq->readable = !at_port_clear_fd(cq->fd);
    }
    atoll_lock_release(&cq->lock);
    return op;
}

/* Nobody may stand in line before this says AGAIN; called with the lock. */
static atoll_err
cq_look(const atoll_cq *cq, const atoll_wait *wait)
{
    if (cq->first != NULL) {
        return ATOLL_OK;
    }
    if (cq->closed) {
        return ATOLL_ERR_CLOSED;
    }
    if (wait->deadline != ATOLL_NOW && at_wait_late(wait)) {
        return ATOLL_ERR_TIMEOUT;
    }
    return ATOLL_ERR_AGAIN;
}

atoll_err
atoll_cq_wait(atoll_cq *cq, const atoll_wait *wait)
{
    if (of_parent(cq)) {
        return ATOLL_ERR_FORKED;
    }
    atoll_lock_acquire(&cq->lock);
    atoll_err err = cq_look(cq, wait);
    if (err != ATOLL_ERR_AGAIN || wait->deadline == ATOLL_NOW) {
        atoll_lock_release(&cq->lock);
        return err;
    }
    at_waiter waiter;
    at_node node = {.waiter = &waiter};
    at_waiter_init(&waiter, wait);
    at_waitq_push(&cq->waiters, &node);
    atoll_lock_release(&cq->lock);

    err = at_waiter_wait(&waiter, wait, &cq->spin);
    if (err == ATOLL_OK) {
        return node.err; /* who has claimed it has unlinked it */
    }
    atoll_lock_acquire(&cq->lock);
    at_waitq_remove(&cq->waiters, &node);
    atoll_lock_release(&cq->lock);
    return err;
}

void
atoll_cq_close(atoll_cq *cq)
{
    if (of_parent(cq)) {
        return;
    }
    atoll_lock_acquire(&cq->lock);
    cq->closed = true;
    at_node *threads = at_waitq_claim_all(&cq->waiters);
    atoll_lock_release(&cq->lock);
    at_node_finish_all(threads, ATOLL_ERR_CLOSED);
}

int
atoll_cq_fd(atoll_cq *cq)
{
    if (of_parent(cq)) {
        return -1;
    }
    atoll_lock_acquire(&cq->lock);
    if (cq->fd < 0) {
        cq->fd = at_port_open_fd();
    }
    int fd = cq->fd;
    cq_release(cq, cq->first != NULL);
    return fd;
}

void
atoll_cq_poke(atoll_cq *cq)
{
    if (of_parent(cq)) {
        return;
    }
    atoll_lock_acquire(&cq->lock);
    cq_release(cq, true);
}
