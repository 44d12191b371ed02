/* atoll: waiting, channels and counted messages, in plain C11.
 *
 * The public header of the core, with those beside it. Nothing here needs Python: a C
 * thread may send and receive with no interpreter and no GIL.
 *
 * Conventions
 *   - A function that can fail returns an `atoll_err`; 0 is success. errno is
 *     never used to report a result.
 *   - Times are nanoseconds of CLOCK_MONOTONIC. A call that may wait takes an
 *     absolute deadline: ATOLL_NOW tries once, ATOLL_FOREVER never gives up.
 *   - Objects with `ref`/`unref` are counted atomically and may be used from
 *     any thread that holds a reference.
 *   - "Makes visible" means: what the sender wrote before the call is seen by
 *     the receiver after its call returned (release/acquire).
 */
#ifndef ATOLL_H
#define ATOLL_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

#if defined(__GNUC__)
#define ATOLL_API __attribute__((visibility("default")))
#define ATOLL_MUST_CHECK __attribute__((warn_unused_result))
#else
#define ATOLL_API
#define ATOLL_MUST_CHECK
#endif

/* --------------------------------------------------------------- version */

/* The version of atoll is written here and nowhere else: the build and the
 * Python package read it. ATOLL_VERSION_NUMBER grows with each release. */
#define ATOLL_VERSION "0.1.0"
#define ATOLL_VERSION_NUMBER 0x000100 /* major, minor and micro, a byte each */

/* Of this header. It changes when a program compiled with an older header
 * would not work any more: a function gone or with other arguments, a
 * structure with other fields, an error with another value. Added functions
 * and errors change the version alone. */
#define ATOLL_ABI 1

/* Those of the library that is running. A program that finds the library at
 * run time compares atoll_abi() with its ATOLL_ABI before it calls anything
 * else. Threads: any. Neither blocks nor fails; the text is constant. */
ATOLL_API const char *atoll_version(void);

/* Get the number of the library's ABI, to be compared with ATOLL_ABI. Threads: any. */
ATOLL_API int atoll_abi(void);

/* ---------------------------------------------------------------- errors */

/* X(symbol, value, text). Values are part of the ABI: append only. */
#define ATOLL_ERRORS(X)                                                  \
    X(OK, 0, "success")                                                  \
    X(NOMEM, 1, "out of memory")                                         \
    X(TIMEOUT, 2, "the deadline has passed")                             \
    X(AGAIN, 3, "the call would have to wait")                           \
    X(CLOSED, 4, "the channel is closed")                                \
    X(INTERRUPTED, 5, "the wait was interrupted")                        \
    X(FORKED, 6, "the object belongs to the parent of this process")     \
    X(NOTFOUND, 7, "there is no object with this id")                    \
    X(INVALID, 8, "an argument is out of range")                         \
    X(SYSTEM, 9, "the operating system refused a resource")              \
    X(POISONED, 10, "the channel is poisoned")                           \
    X(OWNER_DIED, 11, "the lock's owner has ended without releasing it") \
    X(BROKEN, 12, "the barrier is broken")

typedef enum atoll_err {
#define ATOLL_ERR_ENUM(name, value, text) ATOLL_ERR_##name = value,
    ATOLL_ERRORS(ATOLL_ERR_ENUM)
#undef ATOLL_ERR_ENUM
} atoll_err;

#define ATOLL_OK ATOLL_ERR_OK

/* A constant English sentence for `err`. Never NULL, never freed. */
ATOLL_API const char *atoll_strerror(int err);

/* ---------------------------------------------------------------- memory */

/* Allocator of the core. `malloc`-like; every allocation of the core goes
 * through it, so that a test can make the N-th one fail. Set it before the
 * first use of any other function; it is not synchronised. */
typedef struct atoll_allocator {
    void *(*alloc)(size_t size, void *arg);
    void *(*realloc)(void *ptr, size_t size, void *arg);
    void (*free)(void *ptr, void *arg);
    void *arg;
} atoll_allocator;

/* Use another allocator from now on; NULL: malloc's. Before anything else of the core
 * is called. */
ATOLL_API void atoll_set_allocator(const atoll_allocator *allocator);

/* Allocate / grow / free memory that belongs to no interpreter. Threads: any;
 * memory may be freed by another thread than its maker. NULL when exhausted. */
ATOLL_API void *atoll_alloc(size_t size) ATOLL_MUST_CHECK;

/* Grow memory of atoll_alloc's; on failure, NULL, it is as it was. Threads: any. */
ATOLL_API void *atoll_realloc(void *ptr, size_t size) ATOLL_MUST_CHECK;

/* Free memory of the core's; NULL is allowed. Threads: any. */
ATOLL_API void atoll_free(void *ptr);

/* Whether the system would give `size` bytes at this moment: for code that
 * must not be called when it would not. Maps and unmaps them; others may take
 * what was free meanwhile, so ask for more than is needed. Any thread. */
ATOLL_API bool atoll_mem_room(size_t size) ATOLL_MUST_CHECK;

/* Reference counts for objects of the caller's. atoll_count_down is true for
 * the one call that reaches zero; what all others did before theirs is visible
 * to it (acquire and release). */
ATOLL_API void atoll_count_up(uint32_t *count);

/* Count one down: true for the one call that reaches zero. Acquire and release. */
ATOLL_API bool atoll_count_down(uint32_t *count) ATOLL_MUST_CHECK;

/* --------------------------------------------------------------- regions */

/* Counted memory that any number of parties share. What `release` does when
 * the last reference goes is its maker's: free it, or tell the owner. */
typedef struct atoll_region {
    uint32_t refs; /* atomic */
    void *data;    /* constant */
    size_t size;   /* bytes; constant */
    /* Called once, from any thread, with no lock held; frees the struct. */
    void (*release)(struct atoll_region *region);
} atoll_region;

/* Memory of nobody's in particular, aligned to 64 bytes; `zeroed` or not.
 * The caller owns one reference. Returns NOMEM. */
ATOLL_API atoll_err atoll_region_new(size_t size, bool zeroed,
                                     atoll_region **out) ATOLL_MUST_CHECK;

/* Count another reference; returns the region. Relaxed: the caller has one. */
ATOLL_API atoll_region *atoll_region_ref(atoll_region *region);
/* What all holders wrote happens before `release` (acquire and release). */
ATOLL_API void atoll_region_unref(atoll_region *region);

/* ------------------------------------------------------------------ time */

#define ATOLL_NOW INT64_C(0)
#define ATOLL_FOREVER INT64_MAX

/* Now, in nanoseconds of the monotonic clock. */
ATOLL_API int64_t atoll_now(void);

/* ------------------------------------------------------------------ lock */

/* A 4-byte mutex: spins briefly, then parks on a futex. Not recursive, not
 * fair. For sections of a few dozen instructions; never held across a call
 * that can block. Zero-initialised means unlocked. */
typedef struct atoll_lock {
    uint32_t word;
} atoll_lock;

/* Take the lock (acquire). Blocks until it is free, for a few dozen instructions. */
ATOLL_API void atoll_lock_acquire(atoll_lock *lock);

/* Release the lock (release); wakes one that waits for it. */
ATOLL_API void atoll_lock_release(atoll_lock *lock);

/* Take a lock that is not ours: a byte whose lowest bit says that it is held (the
 * others stay as they are), and that its owner knows how to release. Spins, and yields
 * the processor: only for locks that are held for some instructions. Acquire. */
ATOLL_API void atoll_byte_acquire(uint8_t *byte);

/* --------------------------------------------------------------- waiting */

/* How well spinning has paid off at one place lately; see at_spin in
 * at_wait.h. Zero-initialised is a good start. All fields are hints. */
typedef struct atoll_spin {
    uint32_t lost;  /* spins in a row that ended in a park */
    uint32_t skip;  /* waits still to go before the next try */
    uint32_t reach; /* nanoseconds that a spin may last; 0: as usual */
} atoll_spin;

typedef struct atoll_kick atoll_kick;

/* How one call may wait. Zero-initialise it, then set what is needed. The
 * struct belongs to the caller and is only read, except through its pointers.
 */
typedef struct atoll_wait {
    int64_t deadline; /* ATOLL_NOW, ATOLL_FOREVER or an absolute time */
    /* How another thread can end this wait with INTERRUPTED, or NULL. */
    atoll_kick *kick;
    /* With use_fds the wait parks in poll(2) instead of on a futex: it is
     * woken through `event_fd` (an eventfd in non-blocking mode, empty, that
     * only the core writes and only the waiting thread reads; it is empty
     * again when the call returns, and may then be closed), and ends with
     * INTERRUPTED as soon as `intr_fd` is readable; what is in intr_fd is left
     * there. A signal handler that may run on any thread ends the wait by
     * writing to intr_fd: there is no moment at which that gets lost. */
    bool use_fds;
    int event_fd, intr_fd;
    /* Called by the waiting thread once intr_fd is readable and before the wait ends
     * with that, with no lock held, or NULL. Until it returns the wait can still be
     * served, and is OK then: so what may take long before the interrupt can be looked
     * at (taking a GIL) costs nobody a turn. */
    void (*interrupted)(void *arg);
    /* Called when the wait stands in line, before it spins or sleeps, likewise, or
     * NULL: what may let others run (releasing a GIL) is better done then than before.
     */
    void (*standing)(void *arg);
    void *arg; /* of both */
    /* Where a wait that is begun again after an interrupt keeps its place in line, or
     * NULL: 0 before the first time, then the core's. Meant for one call of one object
     * (or of the same cases), with the same arguments each time. */
    uint64_t *place;
    /* Spin history for atoll_event_wait; a channel has its own. May be NULL:
     * then the wait spins once. */
    atoll_spin *spin;
    bool uncounted; /* not among the parks of atoll_stats: housekeeping */
} atoll_wait;

/* A place through which one thread's waits can be interrupted, one after the
 * other. It is `set` by the interrupter and stays set until it is cleared, so
 * an interrupt that comes before the wait is not lost. */
struct atoll_kick {
    atoll_lock lock;
    uint32_t set;          /* guarded by lock */
    struct at_waiter *now; /* guarded by lock; the wait under way, or NULL */
};

/* Interrupt the wait that is under way through `kick`, and any later one,
 * until atoll_kick_clear. Threads: any. Never blocks for long. */
ATOLL_API void atoll_kick_set(atoll_kick *kick);

/* End the interrupting: waits through `kick` wait again. Threads: any. */
ATOLL_API void atoll_kick_clear(atoll_kick *kick);

/* Does somebody wait through `kick` at this moment, whom nobody has served or
 * interrupted yet? False also while it only spins. Whoever asks has to know by
 * other means that it stays so. Any thread. */
ATOLL_API bool atoll_kick_waits(atoll_kick *kick);

/* -------------------------------------------------------------- messages */

/* Bytes of payload that fit into a message without an allocation. */
#define ATOLL_MSG_INLINE 40

/* What to do with a message in a queue when its sender's group ends. */
typedef enum atoll_orphan {
    ATOLL_ORPHAN_KEEP = 0, /* it stays as it is: the default */
    ATOLL_ORPHAN_REMOVE = 1,
    ATOLL_ORPHAN_ERROR = 2,
    ATOLL_ORPHAN_MARK = 3,
} atoll_orphan;

/* One message: a cache line. The core moves it as a value and looks at
 * `drop`, `group` and `orphan` only; the rest is its maker's. */
typedef struct atoll_msg {
    /* Releases what the payload owns; NULL when it owns nothing. Called from
     * any thread, with no lock of the core held. Messages of a channel that
     * it closes or frees are dropped after it has returned. */
    void (*drop)(struct atoll_msg *msg);
    int64_t group;    /* who sent it, for atoll_chan_orphan_all; -1: nobody */
    uint8_t orphan;   /* an atoll_orphan: what to do when the group ends */
    uint8_t orphaned; /* set by the core: ERROR or MARK came true */
    uint8_t tag;      /* for the maker of the message */
    uint8_t len;      /* for the maker: bytes used in u.bytes */
    uint32_t extra;   /* for the maker */
    union {
        unsigned char bytes[ATOLL_MSG_INLINE];
        struct {
            void *ptr;
            size_t size;
        } heap;
        int64_t i64;
        double f64;
    } u;
} atoll_msg;

/* Release what `msg` owns. It may be reused afterwards. */
static inline void
atoll_msg_drop(atoll_msg *msg)
{
    if (msg->drop != NULL) {
        void (*drop)(atoll_msg *) = msg->drop;
        msg->drop = NULL;
        drop(msg);
    }
}

/* -------------------------------------------------------------- channels */

typedef struct atoll_chan atoll_chan;

#define ATOLL_UNBOUNDED SIZE_MAX

/* Make a channel that holds up to `capacity` messages: 0 is a rendezvous (a
 * send ends when a receiver has the message), ATOLL_UNBOUNDED never makes a
 * sender wait. `kind` is kept for the caller (atoll_chan_kind, _list).
 * The caller owns one reference. Returns NOMEM. */
ATOLL_API atoll_err atoll_chan_new(size_t capacity, int kind,
                                   atoll_chan **out) ATOLL_MUST_CHECK;

/* Count another reference; returns the channel. Threads: any. */
ATOLL_API atoll_chan *atoll_chan_ref(atoll_chan *chan);
/* Give a reference back; the last one drops all pending messages. */
ATOLL_API void atoll_chan_unref(atoll_chan *chan);

/* Process-wide id: never reused, > 0. */
ATOLL_API uint64_t atoll_chan_id(const atoll_chan *chan);

/* Get the `kind` that its maker gave it. Threads: any. */
ATOLL_API int atoll_chan_kind(const atoll_chan *chan);

/* Get its capacity. Threads: any. */
ATOLL_API size_t atoll_chan_capacity(const atoll_chan *chan);

/* Two words of the maker's, zero at first. Set them before the channel is
 * shared; they are constant afterwards. */
ATOLL_API int64_t *atoll_chan_user(atoll_chan *chan);

/* A new reference to the live channel with this id, or NOTFOUND. */
ATOLL_API atoll_err atoll_chan_find(uint64_t id, atoll_chan **out) ATOLL_MUST_CHECK;

/* The ids of all live channels of `kind`, in order of creation. Writes up to
 * `max` of them; returns how many there are. */
ATOLL_API size_t atoll_chan_list(int kind, uint64_t *ids, size_t max);

/* Send `*msg`.
 * Ownership: on OK the channel (or a receiver) owns the payload; on any error
 *   the caller still owns it.
 * Returns OK; TIMEOUT (AGAIN with ATOLL_NOW) when there was no room in time;
 *   CLOSED, POISONED; INTERRUPTED; NOMEM (the buffer grows as needed); FORKED.
 * Blocks: until there is room, or, with capacity 0, until it was received.
 * Order: senders that wait are served first come, first served.
 * Makes visible to the receiver all that was written before. */
ATOLL_API atoll_err atoll_chan_send(atoll_chan *chan, atoll_msg *msg,
                                    const atoll_wait *wait) ATOLL_MUST_CHECK;

/* Receive the oldest message into `*msg`, which the caller then owns.
 * Returns OK; TIMEOUT (AGAIN with ATOLL_NOW); CLOSED, once everything that was
 *   accepted has been received; POISONED; INTERRUPTED; FORKED.
 * Blocks: until a message is there. Receivers are served in order. */
ATOLL_API atoll_err atoll_chan_recv(atoll_chan *chan, atoll_msg *msg,
                                    const atoll_wait *wait) ATOLL_MUST_CHECK;

/* Put back what atoll_chan_recv or _recv_start has given, as if it had not been
 * received: whoever waits gets it, or else it becomes the oldest message. The
 * capacity does not matter to it: a message that was accepted once is not lost
 * for lack of room. Several go back in the reverse order.
 * Returns OK: `msg` is the channel's; CLOSED: its messages have been discarded,
 *   by closing it or by poison;
 *   NOMEM, FORKED: the caller still owns it. Does not block. */
ATOLL_API atoll_err atoll_chan_unrecv(atoll_chan *chan,
                                      atoll_msg *msg) ATOLL_MUST_CHECK;

/* Something that has been received is done with, as the receiver says: one of those
 * that have been accepted, in whatever order. A message that the channel drops (by
 * closing it, or by an orphan rule) is done with by that.
 * Returns OK; INVALID: all are done already; FORKED. Does not block. */
ATOLL_API atoll_err atoll_chan_done(atoll_chan *chan) ATOLL_MUST_CHECK;

/* Count the messages that have been accepted and are not done: a hint once other
 * threads run. */
ATOLL_API size_t atoll_chan_unfinished(atoll_chan *chan);

/* Wait until all that has been accepted is done; whoever waits when it is, has waited
 * with success, although more may have been sent since.
 * Returns OK; TIMEOUT (AGAIN with ATOLL_NOW); INTERRUPTED; FORKED. */
ATOLL_API atoll_err atoll_chan_join(atoll_chan *chan,
                                    const atoll_wait *wait) ATOLL_MUST_CHECK;

/* No more sends. Waiting senders get CLOSED and keep their messages. With
 * `discard` the buffered messages are dropped as well, otherwise receivers
 * get them first. Returns false if it was closed before (discard still
 * discards). */
ATOLL_API bool atoll_chan_close(atoll_chan *chan, bool discard);

/* Is it closed or poisoned? A hint once other threads run. */
ATOLL_API bool atoll_chan_is_closed(const atoll_chan *chan);

/* Something has gone wrong: everybody who waits here, or comes later, gets
 * POISONED, also if the channel was closed before. The buffered messages are
 * dropped, as after closing it with `discard`; waiting senders keep theirs.
 * *dropped (or NULL) is how many were dropped.
 * Ownership: on OK `*why` is the channel's, which keeps it as it is until the
 *   channel is freed; on any error it still is the caller's.
 * Returns OK; POISONED: somebody else was first, and theirs counts; FORKED.
 * Does not block. */
ATOLL_API atoll_err atoll_chan_poison(atoll_chan *chan, const atoll_msg *why,
                                      size_t *dropped) ATOLL_MUST_CHECK;
/* What the first poison gave; NULL: not poisoned. Constant, and valid for as long
 * as the caller has a reference. Makes visible what the poisoner wrote before. */
ATOLL_API const atoll_msg *atoll_chan_why(const atoll_chan *chan);

/* Have `fn(arg)` called when the channel is closed or poisoned for the first
 * time, and so also when the last of one of its ends goes: once, by the thread
 * that does it, with no lock held, after all who waited have been told. `fn` may
 * give back references to the channel. It is not called for a channel that is
 * freed without any of this, nor in a forked child.
 * Returns OK; CLOSED: it is closed, and `fn` will not be called; INVALID: there
 *   is such a function already (there is room for one); FORKED. */
ATOLL_API atoll_err atoll_chan_on_close(atoll_chan *chan, void (*fn)(void *arg),
                                        void *arg) ATOLL_MUST_CHECK;

/* How many wait at it now, senders and receivers, counted up to `max`: a hint. */
ATOLL_API size_t atoll_chan_waiting(atoll_chan *chan, size_t max);

/* Messages in the buffer now (a hint once other threads run). More than its
 * capacity after atoll_chan_unrecv. */
ATOLL_API size_t atoll_chan_len(const atoll_chan *chan);

/* The two ends, counted apart from references: when the last sending end is
 * given back the channel closes; when the last receiving end is, it closes
 * and drops what is left. A channel whose ends were never taken is not
 * affected. */
typedef enum atoll_end { ATOLL_END_RECV = 0, ATOLL_END_SEND = 1 } atoll_end;

/* Count another handle of an end. Threads: any. */
ATOLL_API void atoll_chan_end_ref(atoll_chan *chan, atoll_end end);

/* Give a handle of an end back; the last one closes the channel. Threads: any. */
ATOLL_API void atoll_chan_end_unref(atoll_chan *chan, atoll_end end);

/* What can be seen of a channel from outside; a hint once other threads run. */
typedef struct atoll_chan_facts {
    size_t len;        /* messages in the buffer */
    size_t waiting[2]; /* those in line at each end, threads or not */
    uint32_t ends[2];  /* handles of each end, also those inside messages */
    uint32_t refs;     /* the handles' references among them */
    bool closed;
} atoll_chan_facts;

/* Look at it: fill in *out, all at one moment. Threads: any. */
ATOLL_API void atoll_chan_look(atoll_chan *chan, atoll_chan_facts *out);

/* The sender group `group` has ended: apply each pending message's `orphan`
 * rule, in every live channel. Costs nothing when no message asked for one. */
ATOLL_API void atoll_chan_orphan_all(int64_t group);

/* ---------------------------------------------------------------- events */

/* An event: waiters wait until it is set, which is for ever but for a reset. Caller's
 * storage; zero-initialised means not set. Any number of waiters. */
typedef struct atoll_event {
    atoll_lock lock;
    uint32_t is_set;
    struct at_node *first, *last; /* guarded by lock */
} atoll_event;

/* Set it and wake all. The setter does not touch `event` once a waiter can
 * have returned, so the waiter may free it. */
ATOLL_API void atoll_event_set(atoll_event *event);
/* A look without the lock: the setter may still be in its section, so `true`
 * is no leave to free the event; an atoll_event_wait that returned OK is. */
ATOLL_API bool atoll_event_is_set(const atoll_event *event);
/* Make it one that is not set. Who waits goes on waiting; who has been woken, and has
 * not come back yet, comes back. The caller sees to it that it is set again for those
 * who come from now on. */
ATOLL_API void atoll_event_reset(atoll_event *event);
/* Returns OK, TIMEOUT (AGAIN) or INTERRUPTED. */
ATOLL_API atoll_err atoll_event_wait(atoll_event *event,
                                     const atoll_wait *wait) ATOLL_MUST_CHECK;

/* ----------------------------------------------------- asynchronous waits */

/* An operation that has to wait may do so without a thread: it is *started*,
 * stands in the same line as those who block, and comes out of a completion
 * queue when it is over. One thread can so wait for any number of things, and
 * an event loop for all of them through one descriptor. */

typedef struct atoll_cq atoll_cq;

/* Private; what they are is said in at_wait.h. They are here because an
 * operation is the caller's storage, and contains them. */
typedef struct at_waiter {
    uint32_t state;
    int event_fd;
    struct at_node *won;
    void (*done)(struct at_waiter *waiter);
} at_waiter;
typedef struct at_node {
    struct at_node *prev, *next;
    at_waiter *waiter;
    atoll_msg *msg;
    uint64_t ticket;
    atoll_err err;
    bool queued;
} at_node;

/* One operation. Zero-initialise it; between a start that returned AGAIN and
 * its end (it came out of the queue, or was cancelled) it must stay where it is
 * and be left alone, and so must the channel (hold a reference) or the event. */
typedef struct atoll_op {
    atoll_msg msg;       /* to send; or what was received */
    atoll_err status;    /* how it ended */
    void *user;          /* the caller's */
    at_waiter at_waiter; /* the rest is private: see at_cq.c */
    at_node at_node;
    struct atoll_op *at_next;
    atoll_cq *at_cq;
    void *at_queue;
    atoll_lock *at_lock;
} atoll_op;

/* Start to receive into, or to send, op->msg; or to wait for an event.
 * Returns
 *   AGAIN   it waits now, and will come out of `cq`, unless it is cancelled,
 *           with op->status OK, CLOSED or POISONED;
 *   else    it is over, and will not come out: OK, it has happened; CLOSED,
 *           POISONED, NOMEM or FORKED as from the call that blocks.
 * Ownership of a message, and order, are as with the call that blocks: one with
 * status OK has been sent and is not the caller's any more, or has been received
 * and is. Does not block. Any thread. */
ATOLL_API atoll_err atoll_chan_recv_start(atoll_chan *chan, atoll_op *op,
                                          atoll_cq *cq) ATOLL_MUST_CHECK;

/* Start to send op->msg; as atoll_chan_recv_start. */
ATOLL_API atoll_err atoll_chan_send_start(atoll_chan *chan, atoll_op *op,
                                          atoll_cq *cq) ATOLL_MUST_CHECK;

/* Start to wait until all is done, as atoll_chan_join; as atoll_chan_recv_start. */
ATOLL_API atoll_err atoll_chan_join_start(atoll_chan *chan, atoll_op *op,
                                          atoll_cq *cq) ATOLL_MUST_CHECK;

/* Start to wait for an event; as atoll_chan_recv_start. */
ATOLL_API atoll_err atoll_event_wait_start(atoll_event *event, atoll_op *op,
                                           atoll_cq *cq) ATOLL_MUST_CHECK;

/* True: it has not happened and never will, nobody looks at it any more, and
 * its message is what it was. False: it was not waiting, or it has happened and
 * is in its queue, or will be at any moment (whoever ends it does not wait for
 * anything on the way). Any thread; but not once it has come out, if that
 * means that it is freed or started again. In a forked child, operations of the
 * parent do not come out in either case. */
ATOLL_API bool atoll_op_cancel(atoll_op *op);

/* ---------------------------------------------------------------- select */

/* Wait for several things at once, and have exactly one of them happen. */

typedef enum atoll_case_kind {
    ATOLL_CASE_NEVER = 0, /* as if the case was not there */
    ATOLL_CASE_RECV,      /* receive into msg */
    ATOLL_CASE_SEND,      /* send msg */
    ATOLL_CASE_EVENT,     /* the event is set */
    ATOLL_CASE_TAKE,      /* take a lock, a permit, or see a flag set: atoll/sync.h */
    ATOLL_CASE_CLOSED,    /* as a channel that is closed: `chan`, whatever it is */
} atoll_case_kind;

/* Caller's storage. Set the kind, what it is about, and the message of a send;
 * the caller holds what keeps the channel or event alive. */
typedef struct atoll_case {
    atoll_case_kind kind;
    union {
        atoll_chan *chan;
        atoll_event *event;
        struct atoll_sync *sync;
    } of;
    atoll_msg msg;             /* of a TAKE: see atoll_sync_introduce */
    uint32_t at_turn, at_lock; /* the rest is private: see at_select.c */
    uint64_t at_place;
    at_node at_node;
} atoll_case;

/* Do one of `count` cases: one that is ready, at random, or else the first that
 * becomes so. `random` is the state of the generator, which the caller keeps for
 * the next call (any number to begin with; not for two threads at once); NULL:
 * the first in order that is ready. A case is ready when the call that it stands
 * for would not wait; so one on a closed channel is.
 * Returns
 *   OK      *index says which, and *err what came of it: OK, or CLOSED, POISONED,
 *           NOMEM or FORKED as from atoll_chan_send or _recv. Nothing has come of
 *           the others; the messages of their sends are the caller's as before.
 *   TIMEOUT (AGAIN with ATOLL_NOW), INTERRUPTED: none of them has happened.
 * Blocks: until a case is ready; with none but NEVER, until the deadline.
 * Takes time in proportion to count log count, and asks for no memory.
 * Threads, order, visibility: as the call that blocks. */
ATOLL_API atoll_err atoll_select(atoll_case *cases, uint32_t count, uint64_t *random,
                                 const atoll_wait *wait, uint32_t *index,
                                 atoll_err *err) ATOLL_MUST_CHECK;

/* The same without a thread. AGAIN: it waits now; `cases` and `op` must stay as
 * they are, and `op` will come out of `cq`, after which atoll_select_end must be
 * called; or it is cancelled. Else it is over, as from atoll_select, and will not
 * come out. `op` carries no message; its status is the result of its case. */
ATOLL_API atoll_err atoll_select_start(atoll_case *cases, uint32_t count,
                                       uint64_t *random, atoll_op *op, atoll_cq *cq,
                                       uint32_t *index,
                                       atoll_err *err) ATOLL_MUST_CHECK;
/* It has come out: leaves all lines. Returns the index of its case. */
ATOLL_API uint32_t atoll_select_end(atoll_case *cases, uint32_t count,
                                    const atoll_op *op);
/* As atoll_op_cancel. */
ATOLL_API bool atoll_select_cancel(atoll_case *cases, uint32_t count, atoll_op *op);

/* ----------------------------------------------------- completion queues */

/* A completion queue. The caller owns one reference; operations that wait have
 * theirs. Returns NOMEM. In a forked child those of the parent are dead: all
 * that returns an error returns FORKED. */
ATOLL_API atoll_err atoll_cq_new(atoll_cq **out) ATOLL_MUST_CHECK;

/* Count another reference; returns the queue. Threads: any. */
ATOLL_API atoll_cq *atoll_cq_ref(atoll_cq *cq);
/* Operations that have ended and that nobody took out are forgotten by it. */
ATOLL_API void atoll_cq_unref(atoll_cq *cq);

/* The operation that has ended first, taken out; NULL if there is none. Makes
 * visible what was written before it was ended. Does not block. */
ATOLL_API atoll_op *atoll_cq_next(atoll_cq *cq);

/* Wait until there is one (several who wait are all told).
 * Returns OK; TIMEOUT (AGAIN with ATOLL_NOW); INTERRUPTED; CLOSED, after
 *   atoll_cq_close and with none left; FORKED. */
ATOLL_API atoll_err atoll_cq_wait(atoll_cq *cq,
                                  const atoll_wait *wait) ATOLL_MUST_CHECK;

/* Nobody waits for it any more. What has been started goes on, and can still
 * be taken out. */
ATOLL_API void atoll_cq_close(atoll_cq *cq);

/* A descriptor for poll(2) and the like, made by the first call; -1 if that is
 * refused (or FORKED). It is readable as soon as there is an operation to take
 * out, until atoll_cq_next has returned NULL, or once more after that. Leave what
 * is in it alone. It is closed with the queue. */
ATOLL_API int atoll_cq_fd(atoll_cq *cq);

/* Make the descriptor readable for once, although nothing may have ended: its
 * loop is to look around. Nothing happens without a descriptor. */
ATOLL_API void atoll_cq_poke(atoll_cq *cq);

/* --------------------------------------------------------------- threads */

typedef uintptr_t atoll_thread;

/* Start a thread that calls run(arg), with a stack of `stack_bytes`. It has to
 * be joined. Returns SYSTEM when the system refuses. */
ATOLL_API atoll_err atoll_thread_start(size_t stack_bytes, void *(*run)(void *),
                                       void *arg, atoll_thread *out) ATOLL_MUST_CHECK;
/* Wait for its end. Blocks; once for each thread. */
ATOLL_API void atoll_thread_join(atoll_thread thread);

/* Get the calling thread. */
ATOLL_API atoll_thread atoll_thread_self(void);
/* What ps, top and gdb call it: the first 15 bytes of `name`. The thread must not
 * have been joined. */
ATOLL_API void atoll_thread_name(atoll_thread thread, const char *name);
/* Give the calling thread, and those that it makes, the niceness `nice` (0 to 19) of
 * setpriority(2), where threads have one of their own (Linux). */
ATOLL_API void atoll_thread_nice(int nice);
/* Sleep until the end of the process. */
ATOLL_API void atoll_thread_halt(void);
/* Threads of atoll_thread_start that are inside their `run`. Never too many. */
ATOLL_API uint32_t atoll_thread_count(void);
/* All threads of this process, whoever has made them; 0: the system does not say.
 * Allocates nothing, does not block. */
ATOLL_API uint32_t atoll_thread_count_all(void);

/* How many processors this process may use; at least 1. */
ATOLL_API unsigned atoll_cores(void);

/* pthread_create itself, for whoever stands between it and somebody's code:
 * `thread` and `attributes` are its first two arguments, the result is its
 * result. `over(over_arg)` is called in the new thread when `run` has returned or
 * the thread has been cancelled or left, before its thread-local destructors. */
ATOLL_API int atoll_thread_watch(void *thread, const void *attributes,
                                 void *(*run)(void *), void *arg, void (*over)(void *),
                                 void *over_arg);

/* Keys of thread-local storage, of which a process has about a thousand. Both
 * return what POSIX's function returns: 0 or an errno. */
typedef unsigned atoll_tls_key;

/* Make a key, whose `destructor` (NULL: none) is called at the end of a thread. 0 or
 * an errno. */
ATOLL_API int atoll_tls_key_new(atoll_tls_key *key, void (*destructor)(void *));

/* Delete a key; as atoll_tls_key_new. */
ATOLL_API int atoll_tls_key_free(atoll_tls_key key);
/* The calling thread's value for the key. */
ATOLL_API int atoll_tls_set(atoll_tls_key key, const void *value);

/* --------------------------------------------------------------- signals */

struct sigaction;

/* sigaction(2) for one of many owners in a process, which has room for one
 * handler: `owner`'s, which gets the signal beside those of other owners and
 * the process's own, whatever sigaction(2) says that is. SIG_DFL, and SIG_IGN,
 * take away its own handler only; but a signal that nobody has said anything
 * about may be ignored (not SIGCHLD). `before` is what it had itself, else what
 * the process has. SA_NODEFER is not honoured. SIGSEGV and other faults are the
 * process's, as with sigaction(2).
 * Returns 0, or -1 with errno set. Threads: any. May be called by a handler,
 * where memory is allocated for a handler that is new to the owner. */
ATOLL_API int atoll_signal_action(const void *owner, int signum,
                                  const struct sigaction *action,
                                  struct sigaction *before);

/* Somebody else may have called sigaction(2) since: see to it that owners'
 * handlers are called again, and that one, too. Threads: any. */
ATOLL_API void atoll_signals_check(void);

/* Has `owner` a handler for this signal? Threads: any. */
ATOLL_API bool atoll_signals_has(const void *owner, int signum);

/* `owner`, which has no calls of the others under way, has no handlers any
 * more. Waits until none of them runs; false: not by `deadline` (a handler may
 * have been left with a jump), so that its code has to stay. */
ATOLL_API bool atoll_signals_forget(const void *owner, int64_t deadline);

/* In the child of a fork: no owner is here. */
ATOLL_API void atoll_signals_fork_child(void);

/* The child process `pid` is one of `owner`'s: call its handler of SIGCHLD when
 * that has ended, also if the process's has been changed meanwhile. Does nothing
 * where the system cannot say so (Linux before 5.3). Threads: any. */
ATOLL_API void atoll_signals_watch(const void *owner, int pid);

/* ------------------------------------------------------------------ fork */

/* Have these called around every fork of the process from now on: before it
 * (in reverse order of registration), then in the parent and in the child.
 * Returns NOMEM. */
ATOLL_API atoll_err atoll_fork_hooks(void (*prepare)(void), void (*parent)(void),
                                     void (*child)(void)) ATOLL_MUST_CHECK;

/* Call in the child of a fork, on its only thread: every channel of the
 * parent is marked FORKED, all locks of the core are made anew, all timers are
 * idle.
 * atoll_fork_prepare and atoll_fork_parent go around the fork in the parent.
 * Locks, kicks and events are their owners' storage, and may have been in use
 * by a thread that the child does not have: the owner zeroes them. */
ATOLL_API void atoll_fork_prepare(void);

/* Release, in the parent, what atoll_fork_prepare has locked. */
ATOLL_API void atoll_fork_parent(void);

/* Make the core anew, in the child of a fork, on its only thread. */
ATOLL_API void atoll_fork_child(void);

/* -------------------------------------------------------------- counters */

typedef struct atoll_stats {
    uint64_t parks;    /* waits that gave the CPU up */
    uint64_t wakes;    /* system calls that woke a waiter */
    uint64_t channels; /* alive now */
    uint64_t timers;   /* pending now */
} atoll_stats;

/* Read the counters of the process. Threads: any. */
ATOLL_API void atoll_stats_get(atoll_stats *out);

#ifdef __cplusplus
}
#endif

#include "atoll/timer.h"

#endif /* ATOLL_H */
