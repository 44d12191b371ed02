/* The memory of frozen graphs, and who holds it. See frozen/frozen.h. */
#include "frozen/frozen.h"

#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include "cpython/version.h"

#define PAGE ((size_t)4096)
#define CHUNK_MOST ((size_t)8 << 20)
#define BUCKETS 256

/* Where the objects of published graphs are. */
typedef struct extent {
    const char *start, *end;
    frozen_graph *graph;
    bool lists;
} extent;

static atoll_lock lock;
static extent *extents; /* guarded by lock, as all below; sorted */
static size_t nextents, extent_room;
static frozen_totals totals;
static frozen_pin *buckets[BUCKETS];
static size_t foreign_pins;

/* ------------------------------------------------------------------ memory */

frozen_graph *
frozen_new(void)
{
    frozen_graph *g = atoll_alloc(sizeof(*g));
    if (g != NULL) {
        memset(g, 0, sizeof(*g));
        g->refs = 1;
    }
    return g;
}

void
frozen_huge_pages(void *data, size_t size)
{
#ifdef MADV_HUGEPAGE
    if (size >= FROZEN_HUGE) {
        (void)madvise(data, size, MADV_HUGEPAGE);
    }
#else
    (void)data, (void)size;
#endif
}

/* One more chunk, with room for `size` bytes. */
static frozen_chunk *
new_chunk(frozen_graph *g, size_t size, int kind)
{
    size_t count = g->nchunks[kind], want = PAGE;
    for (size_t i = 0; i < count && want < CHUNK_MOST; i++) {
        want *= 2;
    }
    if (size > SIZE_MAX - PAGE) {
        return NULL;
    }
    want = size > want ? (size + PAGE - 1) & ~(PAGE - 1) : want;
    frozen_chunk *chunks =
        atoll_realloc(g->chunks[kind], (count + 1) * sizeof(*chunks));
    if (chunks == NULL) {
        return NULL;
    }
    g->chunks[kind] = chunks;
    int flags = MAP_PRIVATE | MAP_ANONYMOUS;
#ifdef MAP_POPULATE
    flags |= want > PAGE && want < FROZEN_HUGE ? MAP_POPULATE : 0; /* all at once */
#endif
    void *data = mmap(NULL, want, PROT_READ | PROT_WRITE, flags, -1, 0);
    if (data == MAP_FAILED) {
        return NULL;
    }
    frozen_huge_pages(data, want);
    frozen_chunk *chunk = &chunks[count];
    *chunk = (frozen_chunk){.data = data, .size = want};
    g->nchunks[kind]++;
    g->nbytes += want;
    return chunk;
}

void *
frozen_alloc(frozen_graph *g, size_t size, int kind)
{
    size_t count = g->nchunks[kind];
    frozen_chunk *chunk = count == 0 ? NULL : &g->chunks[kind][count - 1];
    if (chunk == NULL || chunk->size - chunk->used < size) {
        frozen_chunk *more = new_chunk(g, size, kind);
        if (more == NULL) {
            return NULL;
        }
        /* What is left of the old one is still good, if that is more. */
        frozen_chunk *last = more - 1;
        if (count > 0 && last->size - last->used > more->size - size) {
            frozen_chunk old = *last;
            *last = *more;
            *more = old;
            more = last;
        }
        chunk = more;
    }
    void *at = chunk->data + chunk->used;
    chunk->used += size; /* a multiple of 8 */
    return at;
}

static void
unmap_all(frozen_graph *g)
{
    for (int kind = 0; kind < CHUNKS_KINDS; kind++) {
        for (size_t i = 0; i < g->nchunks[kind]; i++) {
            munmap(g->chunks[kind][i].data, g->chunks[kind][i].size);
        }
        atoll_free(g->chunks[kind]);
    }
}

/* Give back the pages that nothing is on. */
static void
graph_trim(frozen_graph *g)
{
    for (int kind = 0; kind < CHUNKS_KINDS; kind++) {
        for (size_t i = 0; i < g->nchunks[kind]; i++) {
            frozen_chunk *chunk = &g->chunks[kind][i];
            size_t keep = (chunk->used + PAGE - 1) & ~(PAGE - 1);
            if (keep < chunk->size &&
                munmap(chunk->data + keep, chunk->size - keep) == 0) {
                g->nbytes -= chunk->size - keep;
                chunk->size = keep;
            }
        }
    }
}

/* --------------------------------------------------------------- addresses */

/* The number of extents that begin at or before `at`. */
static size_t
find_locked(const char *at)
{
    size_t low = 0, high = nextents;
    while (low < high) {
        size_t mid = low + (high - low) / 2;
        if ((uintptr_t)extents[mid].start <= (uintptr_t)at) {
            low = mid + 1;
        }
        else {
            high = mid;
        }
    }
    return low;
}

frozen_graph *
frozen_owner(const void *obj, bool *was_list)
{
    frozen_graph *g = NULL;
    atoll_lock_acquire(&lock);
    size_t i = find_locked(obj);
    if (i > 0 && (uintptr_t)obj < (uintptr_t)extents[i - 1].end) {
        g = extents[i - 1].graph;
        *was_list = extents[i - 1].lists;
        atoll_count_up(&g->refs); /* somebody has one, and so `obj` is there */
    }
    atoll_lock_release(&lock);
    return g;
}

static atoll_err
list_locked(frozen_graph *g)
{
    size_t more = g->nchunks[CHUNKS_PLAIN] + g->nchunks[CHUNKS_LISTS];
    if (nextents + more > extent_room) {
        size_t room = 2 * (nextents + more);
        extent *grown = atoll_realloc(extents, room * sizeof(*grown));
        if (grown == NULL) {
            return ATOLL_ERR_NOMEM;
        }
        extents = grown;
        extent_room = room;
    }
    for (int kind = 0; kind < CHUNKS_KINDS; kind++) {
        for (size_t i = 0; i < g->nchunks[kind]; i++) {
            const frozen_chunk *chunk = &g->chunks[kind][i];
            if (chunk->size == 0) {
                continue; /* all of it was given back */
            }
            size_t at = find_locked(chunk->data);
            memmove(&extents[at + 1], &extents[at], (nextents - at) * sizeof(*extents));
            extents[at] = (extent){chunk->data, chunk->data + chunk->size, g,
                                   kind == CHUNKS_LISTS};
            nextents++;
        }
    }
    totals.graphs++;
    totals.nbytes += g->nbytes;
    g->listed = true;
    return ATOLL_OK;
}

static void
graph_unlist(frozen_graph *g)
{
    atoll_lock_acquire(&lock);
    size_t kept = 0;
    for (size_t i = 0; i < nextents; i++) {
        if (extents[i].graph != g) {
            extents[kept++] = extents[i];
        }
    }
    nextents = kept;
    totals.graphs--;
    totals.nbytes -= g->nbytes;
    atoll_lock_release(&lock);
}

atoll_err
frozen_publish(frozen_graph *g, PyObject *root, bool read_only)
{
    g->root = root;
    graph_trim(g);
    for (int kind = 0; kind < CHUNKS_KINDS && read_only; kind++) {
        for (size_t i = 0; i < g->nchunks[kind]; i++) {
            const frozen_chunk *chunk = &g->chunks[kind][i];
            (void)mprotect(chunk->data, chunk->size, PROT_READ);
        }
    }
    atoll_lock_acquire(&lock);
    atoll_err err = list_locked(g);
    atoll_lock_release(&lock);
    return err;
}

/* ---------------------------------------------------------------- counting */

void
frozen_ref(frozen_graph *g)
{
    atoll_count_up(&g->refs);
}

void
frozen_unref(frozen_graph *g)
{
    frozen_graph *dead = NULL;
    if (atoll_count_down(&g->refs)) {
        g->next_dead = NULL;
        dead = g;
    }
    while (dead != NULL) { /* chains of them may be long */
        g = dead;
        dead = g->next_dead;
        if (g->listed) {
            graph_unlist(g);
        }
        unmap_all(g);
        for (size_t i = 0; i < g->nothers; i++) {
            if (atoll_count_down(&g->others[i]->refs)) {
                g->others[i]->next_dead = dead;
                dead = g->others[i];
            }
        }
        atoll_free(g->others);
        atoll_free(g->name);
        atoll_free(g);
    }
}

atoll_err
frozen_use(frozen_graph *g, frozen_graph *other)
{
    for (size_t i = g->nothers; i-- > 0;) {
        if (g->others[i] == other) {
            frozen_unref(other);
            return ATOLL_OK;
        }
    }
    if (g->nothers == g->other_room) {
        size_t room = g->other_room == 0 ? 4 : 2 * g->other_room;
        frozen_graph **more = atoll_realloc(g->others, room * sizeof(*more));
        if (more == NULL) {
            frozen_unref(other);
            return ATOLL_ERR_NOMEM;
        }
        g->others = more;
        g->other_room = room;
    }
    g->others[g->nothers++] = other;
    return ATOLL_OK;
}

/* -------------------------------------------------------------------- pins */

static frozen_pin **
graph_bucket_of(int64_t interp)
{
    return &buckets[(uint64_t)interp % BUCKETS];
}

atoll_err
frozen_pin_for(frozen_graph *g, int64_t id, bool foreign)
{
    frozen_pin *pin = atoll_alloc(sizeof(*pin));
    if (pin == NULL) {
        return ATOLL_ERR_NOMEM;
    }
    *pin = (frozen_pin){.graph = g, .interp = id, .foreign = foreign};
    atoll_lock_acquire(&lock);
    const frozen_pin *old = g->pins;
    while (old != NULL && old->interp != id) {
        old = old->next;
    }
    if (old == NULL) {
        atoll_count_up(&g->refs);
        pin->next = g->pins;
        g->pins = pin;
        g->npins++;
        totals.pins++;
        foreign_pins += foreign;
        pin->next_same = *graph_bucket_of(id);
        *graph_bucket_of(id) = pin;
        pin = NULL;
    }
    atoll_lock_release(&lock);
    atoll_free(pin);
    return ATOLL_OK;
}

/* Out of its graph's pins, which are as many as interpreters. */
static void
unpin_locked(frozen_pin *pin)
{
    frozen_pin **link = &pin->graph->pins;
    while (*link != pin) {
        link = &(*link)->next;
    }
    *link = pin->next;
    pin->graph->npins--;
    totals.pins--;
    foreign_pins -= pin->foreign;
}

void
frozen_unpin_all(int64_t id)
{
    frozen_pin *gone = NULL;
    atoll_lock_acquire(&lock);
    for (frozen_pin **link = graph_bucket_of(id); *link != NULL;) {
        frozen_pin *pin = *link;
        if (pin->interp != id) {
            link = &pin->next_same;
            continue;
        }
        *link = pin->next_same;
        unpin_locked(pin);
        pin->next_same = gone;
        gone = pin;
    }
    atoll_lock_release(&lock);
    while (gone != NULL) {
        frozen_pin *next = gone->next_same;
        frozen_unref(gone->graph);
        atoll_free(gone);
        gone = next;
    }
}

/* The smallest id above `id` that has a foreign pin; INT64_MAX: there is none. */
static int64_t
next_foreign(int64_t id)
{
    int64_t found = INT64_MAX;
    atoll_lock_acquire(&lock);
    for (size_t i = 0; i < BUCKETS && foreign_pins > 0; i++) {
        for (const frozen_pin *p = buckets[i]; p != NULL; p = p->next_same) {
            if (p->foreign && p->interp > id && p->interp < found) {
                found = p->interp;
            }
        }
    }
    atoll_lock_release(&lock);
    return found;
}

void
frozen_sweep(void)
{
    int64_t here = PyInterpreterState_GetID(PyInterpreterState_Get());
    for (int64_t id = next_foreign(0); id != INT64_MAX; id = next_foreign(id)) {
        if (id != here && !compat_interp_exists(id)) {
            frozen_unpin_all(id);
        }
    }
}

void
frozen_count(frozen_totals *out)
{
    atoll_lock_acquire(&lock);
    *out = totals;
    atoll_lock_release(&lock);
}

size_t
frozen_pin_count(frozen_graph *g)
{
    atoll_lock_acquire(&lock);
    size_t count = g->npins;
    atoll_lock_release(&lock);
    return count;
}

/* -------------------------------------------------------------------- fork */

void
frozen_fork_prepare(void)
{
    atoll_lock_acquire(&lock);
}

void
frozen_fork_parent(void)
{
    atoll_lock_release(&lock);
}

/* Only main is in CPython's list here: the next sweep lets go of what the others
 * had got. */
void
frozen_fork_child(void)
{
    lock.word = 0;
    for (size_t i = 0; i < BUCKETS; i++) {
        for (frozen_pin *p = buckets[i]; p != NULL; p = p->next_same) {
            if (!p->foreign && p->interp != 0) {
                p->foreign = true;
                foreign_pins++;
            }
        }
    }
}

/* ------------------------------------------------------- names, environment */

int
frozen_copy_name(PyObject *name, char **copy)
{
    *copy = NULL;
    if (name == NULL || name == Py_None) {
        return 0;
    }
    if (!PyUnicode_Check(name)) {
        PyErr_Format(PyExc_TypeError, "name must be a str or None, not %T", name);
        return -1;
    }
    Py_ssize_t length;
    const char *text = PyUnicode_AsUTF8AndSize(name, &length);
    if (text == NULL) {
        return -1;
    }
    size_t size = (size_t)length + 1;
    if (strlen(text) + 1 != size) {
        PyErr_SetString(PyExc_ValueError, "null character in the name");
        return -1;
    }
    *copy = atoll_alloc(size);
    if (*copy == NULL) {
        PyErr_NoMemory();
        return -1;
    }
    memcpy(*copy, text, size);
    return 0;
}

bool
frozen_read_only(void)
{
    const char *mode = getenv("ATOLL_FROZEN_READONLY");
    return mode != NULL && mode[0] != '\0' && strcmp(mode, "0") != 0;
}
