/* The roll of all live objects of a kind: channels, locks. Lookup by id, and all of
 * them one after the other.
 *
 * An object is on the roll from its making to its end. A count that has reached zero
 * never rises again: who finds an object here takes a reference only if there is one
 * left. The last unref then takes the roll's lock to strike the object off, so what is
 * seen on the roll under the lock is memory that still exists.
 *
 * Nothing is done under the lock that takes longer the more objects there are, but
 * for what a forked child does, which is alone. Lock order: a roll, then an object. */
#ifndef AT_ROLL_H
#define AT_ROLL_H

#include "at_base.h"
#include "atoll/table.h"

/* Inside of the object. */
typedef struct at_member {
    atoll_entry entry;               /* the key is its id; guarded by the lock */
    struct at_member *older, *newer; /* guarded by the lock */
    uint32_t refs;                   /* atomic */
} at_member;

typedef struct at_roll {
    atoll_lock lock;
    atoll_table table;          /* guarded by lock */
    at_member *oldest, *newest; /* guarded by lock: in the order of their ids */
    uint64_t last_id;           /* guarded by lock */
    /* Gives a reference back, without the lock; constant. */
    void (*unref)(at_member *member);
} at_roll;

/* Enter an object, with one reference, and give it an id. */
void at_roll_add(at_roll *roll, at_member *member);

/* Strike it off, when its last reference has gone. */
void at_roll_remove(at_roll *roll, at_member *member);

/* Find the object with this id, with a reference; or NULL. */
at_member *at_roll_find(at_roll *roll, uint64_t id);

/* Find the first that is wanted of those that are newer than `after` (NULL: of all),
 * with a reference; NULL at the end. Gives the reference to `after` back. `wanted` is
 * called with the lock. An object that lives from the first call to the last is found
 * once; one that is made meanwhile may be. */
at_member *at_roll_next(at_roll *roll, at_member *after,
                        bool (*wanted)(const at_member *member, const void *arg),
                        const void *arg);

/* Call `each` for all of them, the oldest first, with the lock; it is given away after
 * every AT_ROLL_STRIDE, so that up to that many are seen as they are at one moment. An
 * object that lives from the beginning to the end is seen once. */
void at_roll_walk(at_roll *roll, void (*each)(const at_member *member, void *arg),
                  void *arg);
enum { AT_ROLL_STRIDE = 256 };

/* Count them. */
uint64_t at_roll_count(at_roll *roll);

#endif
