/* Which objects a message already contains: address to index.
 *
 * Open addressing with linear probing, at most two thirds full. The memo holds
 * a reference to each of its objects: code that runs during the encoding may
 * drop the last other one, and the address must not be used again meanwhile.
 */
#ifndef EXT_WIRE_MEMO_H
#define EXT_WIRE_MEMO_H

#include "base/base.h"

#define MEMO_SMALL 32 /* slots inside the struct; a power of two */

typedef struct memo_slot {
    PyObject *obj; /* counted; NULL: empty */
    uint32_t index;
} memo_slot;

typedef struct memo_table {
    memo_slot *slots; /* NULL until the first insertion */
    size_t mask;
    size_t used;
    memo_slot small[MEMO_SMALL];
} memo_table;

static inline void
memo_init(memo_table *m)
{
    m->slots = NULL;
    m->mask = 0;
    m->used = 0;
}

/* Release everything. Runs destructors. */
void memo_fini(memo_table *m);

/* The slot of `obj`: its own, or the empty one where it belongs. The memo must
 * have slots. */
static inline memo_slot *
memo_find(const memo_table *m, PyObject *obj)
{
    /* Objects are 16 bytes apart; the multiplication spreads what is left
     * (Knuth, The Art of Computer Programming 3, 6.4). */
    size_t at = (size_t)(((uintptr_t)obj >> 4) * UINT64_C(0x9E3779B97F4A7C15) >> 32);
    for (;; at++) {
        memo_slot *slot = &m->slots[at & m->mask];
        if (slot->obj == obj || slot->obj == NULL) {
            return slot;
        }
    }
}

/* Make sure that one more fits. -1 with MemoryError. */
int memo_reserve(memo_table *m);

#endif
