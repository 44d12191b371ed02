/* What the files of pools share; see pool/pool.h. Unless it says otherwise, the pool's
 * lock is held. */
#ifndef EXT_POOL_PARTS_H
#define EXT_POOL_PARTS_H

#include "pool/pool.h"

/* --- the queue */

/* Take `t`, which is in it, out. It is over, unless it is begun now. */
void pool_unlink(pool *p, task *t);
/* The same if it is in it: returns whether, and then the queue's reference is the
 * caller's. */
bool pool_withdraw(pool *p, task *t);
/* Empty it: returns the tasks as a chain. */
task *pool_take_all(pool *p);

/* Settle such a chain, with no lock held. */
void pool_settle_all(task *chain, job_status status, uint64_t printed);
/* Give its first job to one of the idle workers. True if it was taken. */
bool pool_give(pool *p);

/* --- places */

/* `t`, just taken from the queue, is to run at `w`. */
void pool_begin(worker *w, task *t);
/* It does not, since the home has not taken it: as before pool_begin. */
void pool_unbegin(worker *w, task *t);

/* Put `w` into the list of the idle, unless it is there. */
void pool_idle_push(pool *p, worker *w);
/* Take the home out of its place; the caller then lets go of it, with no lock
 * held. */
struct home *pool_vacate(pool *p, worker *w);

/* Give back the reference and the handle of a home that has left its place, with no
 * lock held; NULL is allowed. */
void pool_let_go(pool *p, struct home *h);
/* Let go of all idle homes: the pool is closed and its queue empty. Releases the
 * lock. */
void pool_release_idle(pool *p);
/* Release the lock; if that was the last that was to do, say so. */
void pool_release(pool *p);
/* Reserve a place if the queue needs one more worker; NULL: no. */
worker *pool_reserve(pool *p);

/* Make an interpreter for a place that has been reserved, with no lock held. */
void pool_start(pool *p, worker *w);
/* Let a spare take its place: from then on it is the pool's, with the reference and the
 * handle. Nobody sees it before. CLOSED, if it is about to end; NOMEM: then it is still
 * the caller's. With no lock held (pool/worker.c). */
atoll_err pool_adopt(pool *p, worker *w, home *h);

/* Leave `w`, whose task does not obey, to itself (pool/worker.c). Releases the
 * lock. */
void pool_abandon(pool *p, worker *w);

#endif
