/* Frozen graphs: ordinary objects in memory of their own, shared by all
 * interpreters.
 *
 * atoll.freeze() writes a graph of objects once, immortal and never written again
 * (cpython/immortal.h), into chunks of mapped memory. What crosses is a counted
 * reference to the graph; frozen.get() gives the objects themselves. Nobody can
 * count who refers to those, so an interpreter that has got them is a holder of
 * the graph until it has ended, and main for ever: that is a pin.
 *
 * The memory goes with the last reference: handles in Python, handles in
 * messages, pins, and graphs that refer to parts of this one.
 *
 * A graph is complete and constant before anybody but its maker knows it. What is
 * said to be guarded is guarded by one lock for all graphs, held for a few loads,
 * never while anything is called but the core's allocator.
 */
#ifndef EXT_FROZEN_FROZEN_H
#define EXT_FROZEN_FROZEN_H

#include "base/base.h"

enum { FROZEN_VIEW_TYPES = 6 }; /* frozen/view/view.h */

/* What an interpreter has of the room. */
typedef struct frozen_data {
    PyTypeObject *frozen_type, *element_type, *walk_type, *parse_type;
    PyTypeObject *view_types[FROZEN_VIEW_TYPES]; /* made on demand */
    atoll_table elements;                        /* the live ones by their nodes */
    struct frozen_opened *opened;                /* what graphs became; frozen/open.c */
} frozen_data;

extern const core_room frozen_room;

typedef struct frozen_chunk {
    char *data;
    size_t size, used;
} frozen_chunk;

typedef struct frozen_pin {
    struct frozen_graph *graph;   /* counted */
    int64_t interp;               /* its id */
    bool foreign;                 /* nobody tells us when it has ended */
    struct frozen_pin *next;      /* of the graph; guarded */
    struct frozen_pin *next_same; /* in the bucket of the interpreter; guarded */
} frozen_pin;

/* Two kinds of memory, so that thaw() knows the tuples that were lists. */
enum { CHUNKS_PLAIN, CHUNKS_LISTS, CHUNKS_KINDS };

typedef struct frozen_graph {
    uint32_t refs;  /* atomic */
    PyObject *root; /* in our chunks, another graph's, or CPython's own; it may be a
                       mold (frozen/mold.h) */
    size_t nbytes;
    char *name; /* UTF-8, or NULL */
    frozen_chunk *chunks[CHUNKS_KINDS];
    size_t nchunks[CHUNKS_KINDS];
    struct frozen_graph **others; /* whose parts this one has; counted */
    size_t nothers, other_room;
    bool listed;
    bool element;     /* the root is one of XML: see frozen/xml/xml.h */
    frozen_pin *pins; /* guarded */
    size_t npins;     /* guarded */
    struct frozen_graph *next_dead;
} frozen_graph;

/* --- life (frozen/graph.c) */

/* An empty graph, with one reference. NULL: out of memory. */
frozen_graph *frozen_new(void);
/* Zeroed memory in it, aligned to 8 bytes. NULL: out of memory. */
void *frozen_alloc(frozen_graph *g, size_t size, int kind);
/* Ask for large pages, if it is that large: a fault for each 4 KiB is half of the
 * work of writing so much. */
#define FROZEN_HUGE ((size_t)2 << 20)

/* Does the system have huge pages for memory of this size? */
void frozen_huge_pages(void *data, size_t size);
/* It is complete: give back what it has too much, let everybody find its objects.
 * NOMEM; then it is as before. */
atoll_err frozen_publish(frozen_graph *g, PyObject *root, bool read_only);

/* Counting. Any thread, no GIL needed. The caller of frozen_ref has one. */
void frozen_ref(frozen_graph *g);

/* Give a reference back; the last one unmaps the memory. Any thread. */
void frozen_unref(frozen_graph *g);

/* The published graph in whose memory `obj` is, with a reference, or NULL; and
 * whether it was a list. Any thread; the caller knows that `obj` stays. */
frozen_graph *frozen_owner(const void *obj, bool *was_list);
/* `g`, being made, refers to parts of `other`: takes over the caller's reference
 * to that. NOMEM; the reference is gone then, too. */
atoll_err frozen_use(frozen_graph *g, frozen_graph *other);

/* Interpreter `id` has got the objects. NOMEM. */
atoll_err frozen_pin_for(frozen_graph *g, int64_t id, bool foreign);
/* It has ended: Py_EndInterpreter has returned. No GIL needed. */
void frozen_unpin_all(int64_t id);
/* The same for interpreters that were not made by atoll and are gone. Attached;
 * keeps the exception that is set. */
void frozen_sweep(void);

typedef struct frozen_totals {
    size_t graphs, nbytes, pins;
} frozen_totals;

/* Count all graphs of the process. Any thread. */
void frozen_count(frozen_totals *totals);

/* Count the pins of a graph. Any thread. */
size_t frozen_pin_count(frozen_graph *g);

/* Hold the graphs still, for a fork. */
void frozen_fork_prepare(void);

/* Let go of them. */
void frozen_fork_parent(void);

/* Make the lock anew in the child, and treat all pins but main's as foreign. */
void frozen_fork_child(void);

/* Make the lock of the check anew, in the child (frozen/check.c). */
void frozen_check_fork_child(void); /* frozen/check.c */

/* --- making (frozen/build.c), thawing (frozen/thaw.c); attached */

/* A graph of `obj`, published, with one reference. NULL with NotShareableError,
 * that names the place, MemoryError, or what code raised that takes instances
 * apart. Runs such code, if there are any. */
frozen_graph *frozen_build(core_state *state, PyObject *obj, bool read_only);
/* The same into a graph that the caller has made and drops, without publishing
 * it: its root; NULL with an exception. */
PyObject *frozen_write_graph(core_state *state, frozen_graph *g, PyObject *obj);

/* A mutable copy, with nothing of the graph's in it; of an object or a part. A new
 * reference. */
PyObject *frozen_thaw(core_state *state, PyObject *root);
/* Copy an exact str, so that CPython may intern it. A new reference. */
PyObject *frozen_copy_str(PyObject *src);

/* Copy a leaf. A new reference; NULL without an exception if `src` is a container. */
PyObject *frozen_copy_leaf(PyObject *src);

/* --- atoll.Frozen (frozen/object.c) */

int frozen_add_type(core_state *state);
/* A handle: a new reference; takes a reference of its own to `g`. */
PyObject *frozen_object(core_state *state, frozen_graph *g);
/* The graph of an atoll.Frozen; borrowed. */
frozen_graph *frozen_of(PyObject *obj);
/* Before a graph is made: can it be, and are interpreters gone? -1 with an
 * exception. */
int frozen_begin(core_state *state);
/* Does the environment want graphs to be read-only for the processor, too? */
bool frozen_read_only(void);
/* A copy of a str, or NULL for None or NULL. -1 with an exception. */
int frozen_copy_name(PyObject *name, char **copy);
extern PyMethodDef frozen_functions[];

/* Tell the wire about handles of graphs. */
void frozen_start_handles(void);

/* --- tables that are needed meanwhile (frozen/map.c) */

/* Zeroed memory, NULL: out of memory; and back with it. */
void *frozen_table(size_t size);

/* Give a table back; NULL is allowed. */
void frozen_table_free(void *table, size_t size);

/* Addresses to addresses: which object has become which. */

typedef struct frozen_map {
    struct frozen_link {
        const void *from; /* NULL: empty */
        void *to;
    } *links;
    size_t mask, used; /* links: NULL as long as `used` is 0 */
} frozen_map;

/* What `from` leads to: NULL if nothing. */
void *frozen_map_get(const frozen_map *map, const void *from);
/* Set it, or change it. -1 with MemoryError. */
int frozen_map_set(frozen_map *map, const void *from, void *to);

/* Free what a map owns. */
void frozen_map_fini(frozen_map *map);

#endif
