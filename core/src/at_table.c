/* Tables that grow by one bucket at a time. See atoll/table.h.
 *
 * Linear hashing (Witold Litwin, 1980). With `buckets` between N and 2N, N a power of
 * two, the first buckets - N chains have been split in two already, by one bit more of
 * their hashes, and the others not yet. To grow, the next chain is split into its own
 * place and the place at the end; to shrink, the last chain goes back to where it came
 * from. There are as many buckets as entries, about: one more for each entry that is
 * too many, two less for each that is too few, which is when they are less than half
 * of the buckets. So the next growth is far from the last shrinking.
 *
 * The buckets are in parts of equal size, so that no call has to copy or clear more
 * than one of them, and in the first few, which are in the table itself and need no
 * memory. One part more than needed is kept, so that adding and removing at the edge
 * of one does not allocate each time. */
#include "at_table.h"

#include <string.h>

#include "at_base.h"

#define FEW ((size_t)ATOLL_TABLE_FEW)
#define PART ((size_t)2048)

at_static_assert((FEW & (FEW - 1)) == 0, "a power of two");

/* Ids come one after the other, and what was made one after the other is used and lies
 * in memory like that: so 64 neighbours stay neighbours, which makes growing three
 * times as fast with a million entries. But the survivors of many may be the multiples
 * of some number, and addresses are: so which neighbourhood it is, and the order in it,
 * depend on every bit of the rest. Odd multipliers carry it up, the shifts bring it
 * down. */
static inline size_t
table_hash(uint64_t key)
{
    uint64_t h = (key >> 6) * UINT64_C(0x9E3779B97F4A7C15);
    h = (h ^ h >> 32) * UINT64_C(0xD6E8FEB86659FD93);
    return (size_t)(h ^ h >> 32 ^ (key & 63));
}

static inline atoll_entry **
table_bucket(const atoll_table *table, size_t at)
{
    return at < FEW ? (atoll_entry **)&table->at_few[at]
                    : &table->at_parts[at / PART][at % PART];
}

/* The largest power of two that is not above `n`. */
static inline size_t
table_floor(size_t n)
{
    return (size_t)1 << (63 - __builtin_clzll((unsigned long long)n));
}

static inline size_t
table_index(const atoll_table *table, size_t hash)
{
    size_t whole = table_floor(table->at_buckets);
    size_t at = hash & (2 * whole - 1);
    return at < table->at_buckets ? at : at - whole;
}

atoll_entry **
at_table_chain(const atoll_table *table, uint64_t key)
{
    return table_bucket(table, table_index(table, table_hash(key)));
}

/* Have memory for one bucket more. */
static bool
table_has_room(atoll_table *table)
{
    size_t part = table->at_buckets / PART;
    if (table->at_buckets < FEW) {
        return true;
    }
    if (part >= table->at_room) {
        size_t room = table->at_room == 0 ? 4 : 2 * table->at_room;
        atoll_entry ***parts = at_alloc_zeroed(room * sizeof(*parts));
        if (parts == NULL) {
            return false;
        }
        if (table->at_room > 0) {
            memcpy(parts, table->at_parts, table->at_room * sizeof(*parts));
        }
        atoll_free(table->at_parts);
        table->at_parts = parts;
        table->at_room = room;
    }
    if (table->at_parts[part] == NULL) {
        table->at_parts[part] = at_alloc_zeroed(PART * sizeof(atoll_entry *));
    }
    return table->at_parts[part] != NULL;
}

/* Split one chain. Entries with one key stay in their order. */
static void
table_grow(atoll_table *table)
{
    if (!table_has_room(table)) {
        return; /* the next call tries again */
    }
    size_t whole = table_floor(table->at_buckets);
    atoll_entry **stay = table_bucket(table, table->at_buckets - whole);
    atoll_entry **go = table_bucket(table, table->at_buckets);
    *go = NULL;
    for (atoll_entry *e = *stay; e != NULL; e = e->at_next) {
        if ((table_hash(e->key) & whole) == 0) {
            *stay = e;
            stay = &e->at_next;
        }
        else {
            *go = e;
            go = &e->at_next;
        }
    }
    *stay = *go = NULL;
    table->at_buckets++;
}

/* Put the last chain back behind that from which it was split. */
static void
table_shrink(atoll_table *table)
{
    size_t last = --table->at_buckets;
    atoll_entry **end = table_bucket(table, last - table_floor(last));
    while (*end != NULL) {
        end = &(*end)->at_next;
    }
    *end = *table_bucket(table, last);
    size_t spare = last / PART + 1; /* this part is used, or is the one to keep */
    if (last % PART == 0 && spare < table->at_room) {
        atoll_free(table->at_parts[spare]);
        table->at_parts[spare] = NULL;
    }
}

void
atoll_table_add(atoll_table *table, atoll_entry *entry, uint64_t key)
{
    if (table->at_buckets == 0) {
        table->at_buckets = FEW;
    }
    table->count++;
    /* Twice, in case that there was no memory for a time. */
    for (int i = 0; i < 2 && table->count > table->at_buckets; i++) {
        table_grow(table);
    }
    atoll_entry **chain = at_table_chain(table, key);
    entry->key = key;
    entry->at_next = *chain;
    *chain = entry;
}

void
atoll_table_remove(atoll_table *table, atoll_entry *entry)
{
    atoll_entry **link = at_table_chain(table, entry->key);
    while (*link != entry) {
        link = &(*link)->at_next;
    }
    *link = entry->at_next;
    table->count--;
    for (int i = 0;
         i < 2 && table->at_buckets > FEW && table->count < table->at_buckets / 2;
         i++) {
        table_shrink(table);
    }
}

atoll_entry *
atoll_table_find(const atoll_table *table, uint64_t key)
{
    atoll_entry *e = table->at_buckets == 0 ? NULL : *at_table_chain(table, key);
    while (e != NULL && e->key != key) {
        e = e->at_next;
    }
    return e;
}

atoll_entry *
atoll_table_again(const atoll_entry *entry)
{
    atoll_entry *e = entry->at_next;
    while (e != NULL && e->key != entry->key) {
        e = e->at_next;
    }
    return e;
}

void
atoll_table_end(atoll_table *table)
{
    for (size_t i = 0; i < table->at_room; i++) {
        atoll_free(table->at_parts[i]);
    }
    atoll_free(table->at_parts);
    *table = (atoll_table){.count = 0};
}
