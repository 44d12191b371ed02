/* The growing part of the memo. See wire/memo.h. */
#include "wire/memo.h"

#include <string.h>

void
memo_fini(memo_table *m)
{
    if (m->slots == NULL) {
        return;
    }
    for (size_t i = 0; i <= m->mask && m->used > 0; i++) {
        if (m->slots[i].obj != NULL) {
            m->used--;
            Py_DECREF(m->slots[i].obj);
        }
    }
    if (m->slots != m->small) {
        atoll_free(m->slots);
    }
    m->slots = NULL;
}

static int
memo_grow(memo_table *m)
{
    size_t count = (m->mask + 1) * 4;
    memo_slot *slots = atoll_alloc(count * sizeof(*slots));
    if (slots == NULL) {
        PyErr_NoMemory();
        return -1;
    }
    memset(slots, 0, count * sizeof(*slots));
    memo_table old = *m;
    memo_slot *from = old.slots == m->small ? m->small : old.slots;
    m->slots = slots;
    m->mask = count - 1;
    for (size_t i = 0; i <= old.mask; i++) {
        if (from[i].obj != NULL) {
            *memo_find(m, from[i].obj) = from[i];
        }
    }
    if (from != m->small) {
        atoll_free(from);
    }
    return 0;
}

int
memo_reserve(memo_table *m)
{
    if (m->slots == NULL) {
        memset(m->small, 0, sizeof(m->small));
        m->slots = m->small;
        m->mask = MEMO_SMALL - 1;
    }
    if (m->used >= UINT32_MAX / 2) {
        PyErr_SetString(PyExc_OverflowError, "too many objects in a message");
        return -1;
    }
    return 3 * (m->used + 1) > 2 * (m->mask + 1) ? memo_grow(m) : 0;
}
