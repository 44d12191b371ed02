/* Giving back what a closed interpreter leaves behind.
 *
 * An interpreter with its own GIL has its own obmalloc. If a single block of it
 * has leaked at its end, CPython keeps all of its arenas for ever: 8 MB for one
 * that had imported asyncio and sqlite3, on 3.13 (3.14 and 3.15 leak less, but
 * any extension can). So we remember which arena belongs to which interpreter
 * of ours, and unmap what is left when it is gone: nothing in it can be reached
 * any more, since all that was reachable was the interpreter's own.
 *
 * Arenas are 1 MiB, so this is far from any hot path. The functions below are
 * called by CPython with some GIL held, or none; they take no GIL. */
#include "cpython/runtime.h"

#define BUCKETS 1024

typedef struct arena {
    struct arena *next; /* guarded by lock */
    void *ptr;
    size_t size;
    int64_t owner; /* interpreter id */
} arena;

static atoll_lock lock;
static arena *buckets[BUCKETS];         /* guarded by lock */
static PyObjectArenaAllocator original; /* constant after arena_init */

static arena **
arena_bucket_of(const void *ptr)
{
    return &buckets[((uintptr_t)ptr >> 18) % BUCKETS];
}

static void *
alloc_arena(void *Py_UNUSED(ctx), size_t size)
{
    void *ptr = original.alloc(original.ctx, size);
    PyThreadState *ts = ptr == NULL ? NULL : PyThreadState_GetUnchecked();
    if (ts == NULL) {
        return ptr;
    }
    PyInterpreterState *interp = PyThreadState_GetInterpreter(ts);
    if (interp == PyInterpreterState_Main()) {
        return ptr;
    }
    arena *a = atoll_alloc(sizeof(*a));
    if (a != NULL) { /* else it may stay behind: no reason to fail */
        a->ptr = ptr;
        a->size = size;
        a->owner = PyInterpreterState_GetID(interp);
        atoll_lock_acquire(&lock);
        a->next = *arena_bucket_of(ptr);
        *arena_bucket_of(ptr) = a;
        atoll_lock_release(&lock);
    }
    return ptr;
}

static void
free_arena(void *Py_UNUSED(ctx), void *ptr, size_t size)
{
    atoll_lock_acquire(&lock);
    arena **link = arena_bucket_of(ptr);
    while (*link != NULL && (*link)->ptr != ptr) {
        link = &(*link)->next;
    }
    arena *a = *link;
    if (a != NULL) {
        *link = a->next;
    }
    atoll_lock_release(&lock);
    atoll_free(a);
    original.free(original.ctx, ptr, size);
}

void
arena_init(void)
{
    PyObject_GetArenaAllocator(&original);
    /* Another interpreter may be reading the three words that this writes; the
     * functions of either set ignore their context, so any mixture works. */
    PyObjectArenaAllocator ours = {NULL, alloc_arena, free_arena};
    PyObject_SetArenaAllocator(&ours);
}

void
arena_release_all(int64_t owner)
{
    arena *gone = NULL;
    atoll_lock_acquire(&lock);
    for (size_t i = 0; i < BUCKETS; i++) {
        for (arena **link = &buckets[i]; *link != NULL;) {
            arena *a = *link;
            if (a->owner != owner) {
                link = &a->next;
                continue;
            }
            *link = a->next;
            a->next = gone;
            gone = a;
        }
    }
    atoll_lock_release(&lock);
    while (gone != NULL) {
        arena *next = gone->next;
        original.free(original.ctx, gone->ptr, gone->size);
        atoll_free(gone);
        gone = next;
    }
}

size_t
arena_bytes(int64_t owner)
{
    size_t bytes = 0;
    atoll_lock_acquire(&lock);
    for (size_t i = 0; i < BUCKETS; i++) {
        for (const arena *a = buckets[i]; a != NULL; a = a->next) {
            bytes += a->owner == owner ? a->size : 0;
        }
    }
    atoll_lock_release(&lock);
    return bytes;
}

void
arena_fork_prepare(void)
{
    atoll_lock_acquire(&lock);
}

void
arena_fork_parent(void)
{
    atoll_lock_release(&lock);
}

void
arena_fork_child(void)
{
    lock.word = 0;
}
