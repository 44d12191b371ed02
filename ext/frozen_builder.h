/* What the two files of the builder of frozen graphs have in common: the walk
 * (frozen_build.c) and what has no parts (frozen_leaf.c). No code of the user's runs
 * in either, and the GIL is held from end to end, so nothing changes meanwhile. */
#ifndef EXT_FROZEN_BUILDER_H
#define EXT_FROZEN_BUILDER_H

#include "frozen.h"
#include "frozen_layout.h"

#define NUMBERS 1024 /* remembered at once; 10 bits */

/* Of a str or bytes in the graph, found by its content. */
typedef struct text_slot {
    Py_hash_t hash;
    PyObject *obj; /* NULL: empty */
} text_slot;

/* An int or float of which the graph has one already. */
typedef struct number_slot {
    uint64_t bits;
    PyObject *obj; /* NULL: empty */
} number_slot;

/* A container whose parts are being frozen. */
typedef struct frame {
    PyObject *src, *dst;
    bool shared;     /* it may be met again */
    bool mapping;
    Py_ssize_t at, count; /* mapping: `at` is PyDict_Next()'s */
    PyObject **from, **to;
    PyObject *pairs;       /* the dict it is made of */
    PyObject *key, *value; /* the pair under way */
    PyObject *frozen_key;  /* NULL: that comes first */
} frame;

typedef struct builder {
    core_state *state;
    frozen_graph *graph;
    frame *frames;
    size_t depth, room;
    frozen_map memo; /* what may be met again; to NULL: under way */
    text_slot *texts;
    size_t text_mask, ntexts;
    number_slot *numbers; /* NULL: none so far */
} builder;

/* Memory in the graph; NULL with MemoryError. */
void *frozen_take(builder *b, size_t size, int kind);
/* If `src` is frozen already, hold its graph: 1; 0: it is not; -1 with MemoryError. */
int frozen_take_over(builder *b, PyObject *src);

/* An exact str or bytes. NULL with MemoryError. */
PyObject *frozen_text(builder *b, PyObject *src);
/* An exact int, float or complex; `type` is its. NULL with MemoryError. */
PyObject *frozen_number(builder *b, PyObject *src, PyTypeObject *type);
/* Let go of what they remember. */
void frozen_leaves_fini(builder *b);

#endif
