/* Views of frozen graphs: what frozen.view() gives.
 *
 * A view is a small object of this interpreter's for a tuple or a mapping in a
 * graph, and looks like it. What has no parts comes out of it as a copy, what has
 * as another view, and what each interpreter has to make itself, as a copy of its
 * own: no object of a graph's ever gets into the hands of anybody. So
 * the graph can be counted, and goes with its last view, in main, too.
 *
 * All views that have come of one frozen.view() share one hold, which has the
 * reference to the graph: counting in that is the interpreter's own business,
 * under its GIL, and costs no atomic operation for each part of the graph.
 *
 * Views refer to no Python object but their type, so no collector knows of them.
 * All functions: attached.
 */
#ifndef EXT_FROZEN_VIEW_VIEW_H
#define EXT_FROZEN_VIEW_VIEW_H

#include "cpython/immortal.h"
#include "frozen/frozen.h"
#include "frozen/mold.h"

/* frozen_data.view_types */
enum {
    VIEW_SEQUENCE,
    VIEW_DICT,
    VIEW_KEYS,
    VIEW_VALUES,
    VIEW_ITEMS,
    VIEW_ITERATOR,
    VIEW_TYPES
};
static_assert(VIEW_TYPES == (int)FROZEN_VIEW_TYPES, "frozen_data has room");

/* Where the keys of the mold of a dict are, by their hashes. */
typedef struct frozen_index {
    size_t mask;
    struct frozen_place {
        Py_hash_t hash;
        Py_ssize_t at; /* of the key among the parts; -1: empty */
    } places[];
} frozen_index;

typedef struct view_hold {
    core_state *state;   /* lives as long as the types, so as any view */
    frozen_graph *graph; /* counted */
    size_t count;        /* of views and iterators; guarded by the GIL */
    frozen_map indexes;  /* molds of dicts to frozen_index */
} view_hold;

typedef struct frozen_view {
    PyObject_HEAD
    view_hold *hold;        /* counted */
    PyObject *obj;          /* a tuple or mapping of the graph's, or a mold */
    PyObject *const *items; /* its parts: items, or keys with their values after */
    Py_ssize_t count;       /* of items, or pairs */
    int stride;             /* from one of them to the next */
    PyObject *weakrefs;
} frozen_view;

/* --- frozen/view/view.c */

/* Tell the wire about parts of graphs. */
void frozen_start_views(void);

/* Make the types, when they are first needed: 0, or -1 with an exception. */
int frozen_view_ready(core_state *state);
/* A view of a part of `g`, or a copy of what has no parts. A new reference, NULL
 * with an exception; takes a reference of its own to the graph. */
PyObject *frozen_view_open(core_state *state, frozen_graph *g, PyObject *part);
/* Is it the type of a view of a tuple or a mapping? */
bool frozen_is_view(const core_state *state, PyTypeObject *type);

/* A part as it is shown: a new reference, NULL with an exception. Runs code of the
 * user's, if it is an instance. */
PyObject *frozen_view_part(view_hold *hold, PyObject *part);
/* Is the part equal to `obj`? 1, 0, -1 with an exception. Code of the user's that
 * runs for it gets copies and views. */
int frozen_view_equal(view_hold *hold, PyObject *part, PyObject *obj);
/* Are all objects in it CPython's own? Then it is compared and hashed as it is. */
static inline bool
frozen_view_is_native(const frozen_view *view)
{
    return !frozen_is_mold(view->obj);
}
/* Another view of what `of` is one of. */
PyObject *frozen_view_as(frozen_view *of, int type);

/* Make an iterator over what it shows, from the end if `backwards`. A new reference. */
PyObject *frozen_view_iterate(frozen_view *of, bool backwards);
/* An ordinary copy of all of it. */
PyObject *frozen_view_thaw(PyObject *view);

/* For the type tables. */
void frozen_view_dealloc(PyObject *self);

/* Count what it shows. */
Py_ssize_t frozen_view_length(PyObject *self);

/* Iterate over what it shows. */
PyObject *frozen_view_iter(PyObject *self);

/* Iterate over what it shows, from the end. */
PyObject *frozen_view_reversed(PyObject *self, PyObject *ignored);

/* Show it, with its parts. */
PyObject *frozen_view_repr(PyObject *self);

/* Hash it as what it shows. */
Py_hash_t frozen_view_hash(PyObject *self);
extern PyMemberDef frozen_view_members[];
#define FROZEN_VIEW_COPIES                                     \
    {"__reversed__", frozen_view_reversed, METH_NOARGS, NULL}, \
        {"__copy__", frozen_view_copy, METH_NOARGS, NULL},     \
        {"__deepcopy__", frozen_view_deepcopy, METH_O, NULL},  \
    {                                                          \
        "__reduce__", frozen_view_reduce, METH_NOARGS, NULL    \
    }

/* Copy it: itself. */
PyObject *frozen_view_copy(PyObject *self, PyObject *ignored);

/* Copy it deeply: as thaw() does. */
PyObject *frozen_view_deepcopy(PyObject *self, PyObject *memo);

/* Make what __reduce__ returns: a copy of what it shows. */
PyObject *frozen_view_reduce(PyObject *self, PyObject *ignored);

/* --- frozen/view/sequence.c, frozen/view/mapping.c, frozen/view/keys.c */

extern PyType_Spec frozen_sequence_spec, frozen_dict_spec, frozen_keys_spec,
    frozen_values_spec, frozen_items_spec;

/* A tuple or dict of the parts as they are shown. */
PyObject *frozen_view_tuple(frozen_view *sequence);

/* Make a dict of the parts as they are shown. A new reference. */
PyObject *frozen_view_dict(frozen_view *dict);

/* The value of `key`, of the graph's, or NULL: there is none (*failed is false),
 * or an exception. */
PyObject *frozen_view_find(frozen_view *dict, PyObject *key, bool *failed);

#endif
