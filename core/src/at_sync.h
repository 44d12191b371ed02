/* The inside of locks and what is like them, for at_sync.c and the files of each
 * kind.
 *
 * Invariants, whenever the lock is free
 *   S1  somebody waits for a mutex      =>  it is held
 *   S2  somebody waits for a semaphore  =>  its value is 0
 *   S3  somebody waits for a flag       =>  it is not set
 * so what is released goes to the first who waits, who has it before anybody else can
 * look. Who is handed a mutex is written down as its owner by the one who hands it
 * over: there is no moment at which it belongs to nobody and somebody waits.
 *
 * Who waits, tells who it is in the message of its node (`group`, and the thread in
 * u.i64), since a node of an asynchronous operation has nothing else to bring.
 *
 * Lock order: the roll of these objects, one of them. No waiter is woken and nothing
 * is freed while one is held.
 *
 * Memory order: all is ordered by the lock, but for the counter, which is one word.
 * `value` of a semaphore, `set` and `held` are also read without it, as hints. */
#ifndef AT_SYNC_H
#define AT_SYNC_H

#include "at_roll.h"
#include "at_wait.h"
#include "atoll/sync.h"

struct atoll_value {
    uint32_t refs; /* atomic */
    atoll_msg msg; /* constant */
};

struct atoll_sync {
    atoll_lock lock;
    at_waitq q; /* guarded by lock */
    union {     /* guarded by lock, if not said otherwise */
        struct {
            atoll_party owner; /* group also read without it, as a hint */
            uint64_t depth;    /* 0: not held */
            int64_t dead;      /* the group that died with it; -1: none */
            bool inconsistent; /* and nobody has been told */
        } mutex;
        struct {
            int64_t value;
            int64_t limit; /* constant */
        } sem;
        struct {
            bool set;
            uint64_t seen; /* `arrivals` when it was set last */
        } flag;
        atoll_sync *mutex_of; /* a condition's; constant, counted */
        struct {
            at_waitq group;  /* those who will pass when the leader has been */
            int64_t timeout; /* constant */
            uint64_t generation;
            uint32_t parties; /* constant */
            uint32_t count;   /* in q */
            bool led;         /* constant */
            bool leading;     /* a leader is at work */
            bool broken;
        } barrier;
        int64_t counter; /* atomic */
    } u;
    atoll_value *value;   /* guarded by lock; counted; a cell's, or a barrier's */
    atoll_spin spin;      /* hints */
    at_member member;     /* on the roll: id, references */
    uint64_t arrivals;    /* guarded by lock: who has stood in the line */
    atoll_sync_kind kind; /* constant */
    bool forked;          /* set on the only thread of a forked child */
};

static inline bool
at_sync_is_mutex(const atoll_sync *sync)
{
    return sync->kind == ATOLL_LOCK || sync->kind == ATOLL_RLOCK;
}

/* Zeroed, of that kind, on the roll. NULL when exhausted. The caller fills in the
 * rest before it shows it to anybody, and before it calls anything else. */
atoll_sync *at_sync_make(atoll_sync_kind kind);

/* Take without waiting, for whoever `me` says. AGAIN: it would have to wait, and the
 * lock is held, so that the caller can stand in line (sync->q) and then release it; or
 * just release it. One for each kind, and the one that asks which it is. */
atoll_err at_sync_try(atoll_sync *sync, const atoll_msg *me);

/* Take a lock; as at_sync_try. */
atoll_err at_mutex_try(atoll_sync *mutex, const atoll_msg *me);

/* Take a permit; as at_sync_try. */
atoll_err at_sem_try(atoll_sync *sem);

/* See whether it is set; as at_sync_try. */
atoll_err at_flag_try(atoll_sync *flag);

/* Has a flag been set since a wait stood in line with the number `place` (0: it has
 * not stood), and was not there when all who stood were told? Not of other kinds. */
bool at_sync_missed(atoll_sync *sync, uint64_t place);

/* Release the mutex whose lock is held. Returns who has it now, and has to be
 * finished when the lock has been released; or NULL. */
at_node *at_mutex_pass(atoll_sync *mutex);

/* `group` has ended, and may hold this mutex. Puts who has to be told into *told, and
 * who has it now into *given, through `next`. */
void at_mutex_orphan(atoll_sync *mutex, int64_t group, at_node **told, at_node **given);

/* Would at_sync_try say AGAIN? With the lock held. */
bool at_sync_waits(const atoll_sync *sync);

/* Objects of the parent are dead. */
void at_sync_fork_prepare(void);

/* Release the table again. */
void at_sync_fork_parent(void);

/* Mark all objects as the parent's, in the child. */
void at_sync_fork_child(void);

#endif
