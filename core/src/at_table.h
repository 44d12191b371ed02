/* The inside of tables, for at_table.c and the tests that count steps. */
#ifndef AT_TABLE_H
#define AT_TABLE_H

#include "atoll/table.h"

/* Find where the chain of those entries begins among which one with `key` would be.
 * The table has buckets. */
atoll_entry **at_table_chain(const atoll_table *table, uint64_t key);

#endif
