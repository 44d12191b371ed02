/* What the files of the builder of frozen graphs have in common: the walk
 * (frozen/build.c), what has no parts (frozen/leaf.c), and what each interpreter has
 * to make itself (frozen/other.c).
 *
 * As long as all that is met is CPython's own, nobody's code runs and the GIL is
 * held, so nothing can change, and no reference is held to anything but the whole.
 * Before code runs that takes an instance apart, or handles a signal while a large
 * graph is made, frozen_secure() makes that good: it
 * copies what is left of the containers under way, and holds what is remembered by
 * its address. */
#ifndef EXT_FROZEN_BUILDER_H
#define EXT_FROZEN_BUILDER_H

#include "cpython/immortal.h"
#include "frozen/frozen.h"
#include "frozen/mold.h"

#define NUMBERS 1024 /* remembered at once; 10 bits */

/* Of a str or bytes in the graph, found by its content. Small, since most of the time
 * that a text takes is that of a slot to come from memory. */
typedef struct text_slot {
    uint32_t hash;   /* its lower half */
    uint32_t number; /* of the text, from 1; 0: empty */
} text_slot;

/* An int or float of which the graph has one already. */
typedef struct number_slot {
    uint64_t bits;
    PyObject *obj; /* NULL: empty */
} number_slot;

/* A container whose parts are being frozen, into `to` or, a mapping, into `dst`. */
typedef struct frame {
    PyObject *src;
    PyObject *dst;     /* native; NULL: it was a mold from the start */
    frozen_mold *mold; /* NULL: so far it is native */
    uint8_t kind;      /* of mold, that it would be */
    bool shared;       /* it may be met again */
    bool mapping;
    bool secured;         /* `src`, and key and value in `held`, are owned */
    Py_ssize_t at, count; /* mapping, until it is secured: PyDict_Next()'s */
    PyObject **from, **to;
    PyObject *held;  /* owned: a tuple that `from` is in; or NULL */
    PyObject *pairs; /* from here on: of a mapping. The dict it is made of; NULL: they
                        are in `held` */
    Py_ssize_t room; /* so many pairs will be there */
    Py_ssize_t put;  /* parts in the mold */
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
    PyObject **text_list; /* by their numbers, with as much room as slots */
    number_slot *numbers; /* NULL: none so far */
    size_t secured;       /* so many of the frames are */
    bool holding;         /* the memo's keys are held */
    uint32_t until_look;  /* so many parts */
    int64_t next_look;    /* 0: this is the first */
    PyObject *plans; /* owned: type -> what atoll._cross.frozen.plan() says; or NULL */
} builder;

/* --- frozen/build.c */

extern char frozen_under_way; /* its address in the memo stands for that */

/* Room for a frame, which the caller adds (depth) when it is filled in; zeroed, but
 * for what only mappings have. NULL with MemoryError. */
frame *frozen_push(builder *b);
/* Raise NotShareableError: `obj` is at the end of the way. Returns -1. */
int frozen_refuse(const builder *b, PyObject *obj, const char *why);
/* What may be met again has become `to`. -1 with MemoryError. */
int frozen_remember(builder *b, PyObject *src, void *to);
/* What is known of it already: 1, and it is in *out; 0; -1. */
int frozen_known(builder *b, PyObject *src, PyObject **out);

/* --- frozen/other.c */

/* Whatever is not native: 1, and *out is it; 0: its parts come first (a frame was
 * added); -1 with an exception. Runs code of the user's. */
int frozen_other(builder *b, PyObject *src, PyTypeObject *type, PyObject **out);
/* A native container has a part that is a mold: it becomes one, in its place. */
void frozen_turn_to_mold(frame *f);
/* Code is about to run. -1 with MemoryError. */
int frozen_secure(builder *b);
/* Let go of what a frame holds: may run code, but the frames below are secured. */
void frozen_release(builder *b, frame *f);
/* The steps in a text that is for people: of a frame of instances and sets. */
PyObject *frozen_step(const frame *f);

/* --- frozen/leaf.c */

/* Memory in the graph; NULL with MemoryError. */
void *frozen_take(builder *b, size_t size, int kind);
/* If `src` is frozen already, hold its graph: 1; 0: it is not; -1 with MemoryError. */
int frozen_take_over(builder *b, PyObject *src);

/* An exact str or bytes. NULL with MemoryError. */
PyObject *frozen_text(builder *b, PyObject *src);
/* An exact int, float or complex; `type` is its. NULL with MemoryError. */
PyObject *frozen_number(builder *b, PyObject *src, PyTypeObject *type);
/* The bytes of a C-contiguous memoryview. NULL with MemoryError. */
PyObject *frozen_write_buffer(builder *b, PyObject *view);
/* Let go of what they remember. */
void frozen_leaves_fini(builder *b);

#endif
