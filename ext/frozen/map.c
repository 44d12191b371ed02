/* Tables that are needed while a graph is made or thawed. */
#include <string.h>
#include <sys/mman.h>

#include "frozen/frozen.h"

void *
frozen_table(size_t size)
{
    if (size < FROZEN_HUGE) {
        void *table = atoll_alloc(size);
        return table == NULL ? NULL : memset(table, 0, size);
    }
    void *table =
        mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (table == MAP_FAILED) {
        return NULL;
    }
    frozen_huge_pages(table, size);
    return table;
}

void
frozen_table_free(void *table, size_t size)
{
    if (size < FROZEN_HUGE) {
        atoll_free(table);
    }
    else {
        munmap(table, size);
    }
}

static struct frozen_link *
link_of(const frozen_map *map, const void *from)
{
    size_t at = (size_t)(((uintptr_t)from >> 3) * UINT64_C(0x9E3779B97F4A7C15) >> 32);
    for (;; at++) {
        struct frozen_link *found = &map->links[at & map->mask];
        if (found->from == from || found->from == NULL) {
            return found;
        }
    }
}

void *
frozen_map_get(const frozen_map *map, const void *from)
{
    return map->used == 0 ? NULL : link_of(map, from)->to;
}

int
frozen_map_set(frozen_map *map, const void *from, void *to)
{
    if (map->links == NULL || 3 * map->used >= 2 * map->mask) {
        frozen_map more = {.mask = map->links == NULL ? 63 : 4 * map->mask + 3};
        more.links = frozen_table((more.mask + 1) * sizeof(*more.links));
        if (more.links == NULL) {
            PyErr_NoMemory();
            return -1;
        }
        for (size_t i = 0; map->links != NULL && i <= map->mask; i++) {
            if (map->links[i].from != NULL) {
                *link_of(&more, map->links[i].from) = map->links[i];
            }
        }
        more.used = map->used;
        frozen_map_fini(map);
        *map = more;
    }
    struct frozen_link *found = link_of(map, from);
    map->used += found->from == NULL;
    found->from = from;
    found->to = to;
    return 0;
}

void
frozen_map_fini(frozen_map *map)
{
    if (map->links != NULL) {
        frozen_table_free(map->links, (map->mask + 1) * sizeof(*map->links));
    }
}
