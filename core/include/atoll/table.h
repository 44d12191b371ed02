/* atoll: a hash table of things that are known by a number.
 *
 * What is in it are entries inside of the things themselves, so that adding, finding
 * and removing need no memory and cannot fail. It grows and shrinks by one bucket at a
 * time (linear hashing), with the calls that add and remove: each of these takes about
 * the same time, whether there are ten entries or ten millions, and none makes those
 * wait long who wait for the lock around it. Without memory to grow it goes on with the
 * buckets that it has, more slowly, until there is some again.
 *
 * A table has no lock: whoever owns it has one, or is the only one who uses it.
 */
#ifndef ATOLL_TABLE_H
#define ATOLL_TABLE_H

#include "atoll/atoll.h"

#ifdef __cplusplus
extern "C" {
#endif

/* Caller's storage, in the thing that it stands for. It stays where it is as long as it
 * is in a table. */
typedef struct atoll_entry {
    struct atoll_entry *at_next;
    uint64_t key; /* constant while it is in a table */
} atoll_entry;

enum { ATOLL_TABLE_FEW = 32 };

/* Caller's storage; zero-initialised means empty. */
typedef struct atoll_table {
    size_t count; /* of entries; read only */
    /* The rest is private: see at_table.c. */
    size_t at_buckets, at_room;
    struct atoll_entry ***at_parts;
    struct atoll_entry *at_few[ATOLL_TABLE_FEW];
} atoll_table;

/* Put `entry`, which is in no table, in under `key`. Others may have the same key. */
ATOLL_API void atoll_table_add(atoll_table *table, atoll_entry *entry, uint64_t key);

/* Take `entry`, which is in it, out. */
ATOLL_API void atoll_table_remove(atoll_table *table, atoll_entry *entry);

/* Find an entry with this key: the one that was added last; or NULL. */
ATOLL_API atoll_entry *atoll_table_find(const atoll_table *table, uint64_t key);

/* Find the one that was added before `entry` with the same key; or NULL. */
ATOLL_API atoll_entry *atoll_table_again(const atoll_entry *entry);

/* Free what the table has allocated, and forget all entries: it is empty. */
ATOLL_API void atoll_table_end(atoll_table *table);

#ifdef __cplusplus
}
#endif

#endif
