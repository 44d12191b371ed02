/* Molds: what stands in a frozen graph for an object that each interpreter has to
 * make itself.
 *
 * A set has a list of weak references, an instance has a class, and classes belong
 * to interpreters: such objects cannot be shared. In their place the graph has a
 * mold: the kind of the object and its parts. A container with a mold among its
 * parts is a mold, too; all else is native and shared, as ever.
 *
 * A part (and the root of a graph) is native, a PyObject *, or a mold, whose
 * address then has its lowest bit set. Nothing native refers to a mold. Molds are
 * in the memory of graphs, constant like all of it, refer to nothing that belongs
 * to an interpreter, and never to themselves.
 *
 * frozen_open() makes the objects, once in each interpreter, which keeps them until
 * it ends: its pin goes later. frozen_thaw() makes others, mutable ones.
 */
#ifndef EXT_FROZEN_MOLD_H
#define EXT_FROZEN_MOLD_H

#include "frozen/frozen.h"

typedef enum mold_kind {
    /* Containers; parts: the items, of a mapping keys and values in turns. */
    MOLD_TUPLE = 1,
    MOLD_LIST, /* opened as a tuple */
    MOLD_DICT, /* opened as a read-only mapping */
    MOLD_SLICE,
    MOLD_SET, /* opened as a frozenset */
    MOLD_FROZENSET,
    /* What a module has under a name: mostly a class. Parts: two str, the module
     * and the qualified name. */
    MOLD_GLOBAL,
    /* Instances. The first part is a MOLD_GLOBAL: what is called, the class. */
    MOLD_CALL,   /* called with the other parts */
    MOLD_FIELDS, /* MOLD_NAMES, then their values, set without asking the class */
    MOLD_NAMED,  /* a class of tuples; the items */
    MOLD_MEMBER, /* an Enum; the name of the member */
    /* Bytes to be read. Parts: bytes that hold them; a str, which class it was
     * ("bytearray", "array", "memoryview", "ndarray"); the format (a str; of an
     * ndarray what numpy.lib.format says of its dtype); the shape, a tuple. All of
     * them are native. */
    MOLD_BUFFER,
    MOLD_NAMES, /* str; opened as a tuple of interned ones */
} mold_kind;

typedef struct frozen_mold {
    uint8_t kind;
    bool shared; /* several refer to it: it becomes one object */
    bool root;   /* of some graph: what it becomes is kept by the interpreter */
    Py_ssize_t count;
    PyObject *parts[]; /* native or molds */
} frozen_mold;

static inline bool
frozen_is_mold(const void *part)
{
    return ((uintptr_t)part & 1) != 0;
}

static inline frozen_mold *
frozen_mold_of(const void *part)
{
    return (frozen_mold *)((uintptr_t)part - 1);
}

static inline PyObject *
frozen_as_part(const frozen_mold *mold)
{
    return (PyObject *)((uintptr_t)mold + 1);
}

/* What it is called in texts for people: "tuple", "an instance of", ... */
const char *frozen_mold_name(const frozen_mold *mold);

/* The object that a part is in this interpreter: a new reference, NULL with an
 * exception (then nothing is kept). The graph is pinned by this interpreter. Runs
 * code of the user's, if there are molds below. Of a mold that is a root it is the
 * same one each time. */
PyObject *frozen_open(core_state *state, PyObject *part);

/* frozen_thaw() (frozen/frozen.h) takes parts, too: a mutable copy of a mold and what
 * is below, with nothing of the graph's in it; a new reference. */

/* Make what a mold stands for of parts that are made already, borrowed. `thaw`: the
 * mutable one. A new reference; NULL with an exception. */
PyObject *frozen_cast(core_state *state, const frozen_mold *mold,
                      PyObject *const *parts, bool thaw);

/* The mold that an object of frozen_open()'s was made of, or NULL. Borrowed: it
 * stays as long as this interpreter. */
const frozen_mold *frozen_molded(core_state *state, PyObject *obj);

/* Let go of what frozen_open() keeps, at the end of an interpreter's module. */
void frozen_forget(core_state *state);

/* Visit what frozen_open() keeps. */
int frozen_visit_opened(core_state *state, visitproc visit, void *arg);

#endif
