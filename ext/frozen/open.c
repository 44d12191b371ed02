/* Opening a graph that has molds: what they stand for, made once in an interpreter,
 * and what that keeps. With a stack of our own, as frozen/build.c.
 *
 * Code of the user's runs while objects are made: it may open the same graph, and so
 * may other threads. Whoever is first decides which objects they are. */
#include <string.h>

#include "cpython/version.h"
#include "frozen/mold.h"

/* A graph that was opened, and the molds of what is in it. */
typedef struct opening {
    frozen_map molds; /* counted objects to the molds they were made of */
    struct opening *next;
} opening;

/* What an interpreter keeps. Guarded by its GIL. A capsule in the module's dict has
 * it: there are objects that no collector looks into (a datetime, with a ZoneInfo),
 * so that the module could be part of a cycle that is never found. But the dict is
 * emptied at the interpreter's end. */
typedef struct frozen_opened {
    frozen_map roots; /* molds to counted objects */
    opening *openings;
    core_state *state; /* NULL: it is gone, or this is not its any more */
} frozen_opened;

typedef struct frame {
    const frozen_mold *mold;
    PyObject *made; /* owned: a tuple of the parts */
    Py_ssize_t at;
} frame;

typedef struct opener {
    core_state *state;
    frame *frames;
    size_t depth, room;
    frozen_map shared; /* molds to counted objects: what is met again */
    opening *opening;
} opener;

/* ------------------------------------------------------------------- errors */

/* Where in the graph, as a note: "in a frozen graph, at [3].name". */
static void
add_place(const opener *o)
{
    PyObject *exc = PyErr_GetRaisedException();
    PyObject *place = PyUnicode_FromString("");
    for (size_t i = 0; place != NULL && i < o->depth; i++) {
        const frame *f = &o->frames[i];
        PyObject *step = NULL;
        if (o->depth > 20 && i == 10) {
            i = o->depth - 11;
            step = PyUnicode_FromString("[...]");
        }
        else if (f->at >= f->mold->count) {
            break; /* this is what was to be made */
        }
        else if (f->mold->kind == MOLD_DICT) {
            PyObject *key = PyTuple_GET_ITEM(f->made, f->at & ~(Py_ssize_t)1);
            step = f->at % 2 == 0 ? PyUnicode_FromString(" key")
                   : PyUnicode_CheckExact(key) || PyLong_CheckExact(key)
                       ? PyUnicode_FromFormat("[%.80R]", key)
                       : PyUnicode_FromFormat("[<%s>]", Py_TYPE(key)->tp_name);
        }
        else if (f->mold->kind == MOLD_FIELDS && f->at >= 2) {
            step = PyUnicode_FromFormat(
                ".%U", PyTuple_GET_ITEM(PyTuple_GET_ITEM(f->made, 1), f->at - 2));
        }
        else if (f->mold->kind <= MOLD_SLICE || f->mold->kind == MOLD_NAMED) {
            step = PyUnicode_FromFormat("[%zd]", f->at - (f->mold->kind == MOLD_NAMED));
        }
        else {
            step = PyUnicode_FromString(f->mold->kind <= MOLD_FROZENSET ? " item" : "");
        }
        PyErr_Clear(); /* an int with too many digits: it is left out */
        if (step != NULL) {
            PyUnicode_Append(&place, step);
            Py_DECREF(step);
        }
    }
    PyObject *note = place == NULL
                         ? NULL
                         : PyUnicode_FromFormat(PyUnicode_GET_LENGTH(place) > 0
                                                    ? "in a frozen graph, at %U"
                                                    : "in a frozen graph%U",
                                                place);
    PyObject *done =
        note == NULL ? NULL : PyObject_CallMethod(exc, "add_note", "(O)", note);
    Py_XDECREF(place);
    Py_XDECREF(note);
    Py_XDECREF(done);
    PyErr_Clear();
    PyErr_SetRaisedException(exc);
}

static void
drop_opening(opening *gone)
{
    for (size_t i = 0; gone->molds.used > 0 && i <= gone->molds.mask; i++) {
        Py_XDECREF((PyObject *)gone->molds.links[i].from);
    }
    frozen_map_fini(&gone->molds);
    atoll_free(gone);
}

/* Let go of all objects. Code may run that looks for them: it begins anew. */
static void
open_empty(frozen_opened *here)
{
    frozen_opened gone = *here;
    memset(here, 0, sizeof(*here));
    if (gone.state != NULL) {
        gone.state->frozen->opened = NULL;
    }
    for (size_t i = 0; gone.roots.used > 0 && i <= gone.roots.mask; i++) {
        Py_XDECREF((PyObject *)gone.roots.links[i].to);
    }
    while (gone.openings != NULL) {
        opening *first = gone.openings;
        gone.openings = first->next;
        drop_opening(first);
    }
    frozen_map_fini(&gone.roots);
}

static void
end_capsule(PyObject *capsule)
{
    frozen_opened *here = PyCapsule_GetPointer(capsule, NULL);
    PyObject *exc = PyErr_GetRaisedException();
    open_empty(here);
    atoll_free(here);
    PyErr_SetRaisedException(exc);
}

/* What this interpreter keeps; NULL with MemoryError. It may have been let go of
 * meanwhile, if this is its end. */
static frozen_opened *
open_kept(core_state *state)
{
    if (state->frozen->opened != NULL) {
        return state->frozen->opened;
    }
    frozen_opened *here = atoll_alloc(sizeof(*here));
    if (here == NULL) {
        PyErr_NoMemory();
        return NULL;
    }
    memset(here, 0, sizeof(*here));
    PyObject *capsule = PyCapsule_New(here, NULL, end_capsule);
    if (capsule == NULL) {
        atoll_free(here);
        return NULL;
    }
    here->state = state;
    state->frozen->opened = here;
    int rc = PyObject_SetAttrString(state->module, "_opened", capsule);
    Py_DECREF(capsule); /* without another reference, this is the end of it */
    return rc < 0 ? NULL : state->frozen->opened;
}

/* --------------------------------------------------------------------- walk */

static int
open_push(opener *o, const frozen_mold *mold)
{
    if (o->depth == o->room) {
        size_t room = o->room == 0 ? 16 : 2 * o->room;
        frame *more = atoll_realloc(o->frames, room * sizeof(*more));
        if (more == NULL) {
            PyErr_NoMemory();
            return -1;
        }
        o->frames = more;
        o->room = room;
    }
    PyObject *made = PyTuple_New(mold->count);
    if (made == NULL) {
        return -1;
    }
    o->frames[o->depth++] = (frame){.mold = mold, .made = made};
    return 0;
}

/* The object of a part: 1 and *out, a new reference; 0: it is to be made; -1. */
static int
open_find(opener *o, PyObject *part, PyObject **out)
{
    if (!frozen_is_mold(part)) {
        *out = part; /* immortal */
        return 1;
    }
    const frozen_mold *mold = frozen_mold_of(part);
    PyObject *known = NULL;
    if (mold->shared || mold->root) {
        known = frozen_map_get(&o->shared, mold);
    }
    if (known == NULL && mold->root) {
        frozen_opened *known_here = open_kept(o->state);
        if (known_here == NULL) {
            return -1;
        }
        known = frozen_map_get(&known_here->roots, mold);
    }
    if (known != NULL) {
        *out = Py_NewRef(known);
        return 1;
    }
    return open_push(o, mold) < 0 ? -1 : 0;
}

/* What the innermost mold stands for, of all its parts: a new reference. */
static PyObject *
open_finish(opener *o)
{
    frame *f = &o->frames[o->depth - 1];
    const frozen_mold *mold = f->mold;
    PyObject *obj =
        mold->kind == MOLD_TUPLE || mold->kind == MOLD_LIST
            ? Py_NewRef(f->made)
            : frozen_cast(o->state, mold, &PyTuple_GET_ITEM(f->made, 0), false);
    if (obj == NULL) {
        return NULL;
    }
    if (mold->shared || mold->root) {
        if (frozen_map_set(&o->shared, mold, obj) < 0) {
            Py_DECREF(obj);
            return NULL;
        }
        Py_INCREF(obj);
    }
    if (mold->kind != MOLD_GLOBAL && mold->kind != MOLD_NAMES &&
        frozen_map_get(&o->opening->molds, obj) == NULL) {
        if (frozen_map_set(&o->opening->molds, obj, (void *)mold) < 0) {
            Py_DECREF(obj);
            return NULL;
        }
        Py_INCREF(obj);
    }
    Py_DECREF(f->made);
    o->depth--;
    return obj;
}

static PyObject *
open_walk(opener *o, PyObject *root)
{
    PyObject *done = NULL;
    int rc = open_find(o, root, &done);
    while (rc >= 0 && o->depth > 0) {
        frame *f = &o->frames[o->depth - 1];
        if (rc > 0) {
            PyTuple_SET_ITEM(f->made, f->at++, done);
        }
        rc = 1;
        while (rc > 0 && f->at < f->mold->count) {
            rc = open_find(o, f->mold->parts[f->at], &done);
            if (rc > 0) {
                PyTuple_SET_ITEM(f->made, f->at++, done);
            }
        }
        if (rc > 0) {
            done = open_finish(o);
            rc = done == NULL ? -1 : 1;
        }
    }
    return rc < 0 ? NULL : done;
}

/* ---------------------------------------------------------------------- keep */

/* Keep the roots that were met, unless somebody was faster. -1 with MemoryError. */
static int
open_keep(opener *o)
{
    frozen_opened *here = open_kept(o->state);
    if (here == NULL) {
        return -1;
    }
    frozen_map *roots = &here->roots;
    for (size_t i = 0; o->shared.used > 0 && i <= o->shared.mask; i++) {
        const frozen_mold *mold = o->shared.links[i].from;
        if (mold != NULL && mold->root && frozen_map_get(roots, mold) == NULL) {
            if (frozen_map_set(roots, mold, o->shared.links[i].to) < 0) {
                return -1;
            }
            Py_INCREF((PyObject *)o->shared.links[i].to);
        }
    }
    o->opening->next = here->openings;
    here->openings = o->opening;
    o->opening = NULL;
    return 0;
}

static PyObject *
open_new(core_state *state, PyObject *root)
{
    opener o = {.state = state};
    o.opening = atoll_alloc(sizeof(*o.opening));
    if (o.opening == NULL) {
        return PyErr_NoMemory();
    }
    memset(o.opening, 0, sizeof(*o.opening));
    PyObject *obj = open_walk(&o, root);
    if (obj != NULL && open_keep(&o) < 0) {
        Py_CLEAR(obj);
    }
    else if (obj != NULL) { /* that of whoever was first */
        PyObject *first =
            frozen_map_get(&state->frozen->opened->roots, frozen_mold_of(root));
        Py_SETREF(obj, Py_NewRef(first == NULL ? obj : first));
    }
    else {
        add_place(&o);
    }
    PyObject *exc = PyErr_GetRaisedException(); /* destructors run from here on */
    while (o.depth > 0) {
        Py_DECREF(o.frames[--o.depth].made);
    }
    for (size_t i = 0; o.shared.used > 0 && i <= o.shared.mask; i++) {
        Py_XDECREF((PyObject *)o.shared.links[i].to);
    }
    if (o.opening != NULL) {
        drop_opening(o.opening);
    }
    atoll_free(o.frames);
    frozen_map_fini(&o.shared);
    PyErr_SetRaisedException(exc);
    return obj;
}

PyObject *
frozen_open(core_state *state, PyObject *part)
{
    if (!frozen_is_mold(part)) {
        return part; /* immortal */
    }
    frozen_opened *here = open_kept(state);
    if (here == NULL) {
        return NULL;
    }
    PyObject *known = frozen_map_get(&here->roots, frozen_mold_of(part));
    return known != NULL ? Py_NewRef(known) : open_new(state, part);
}

const frozen_mold *
frozen_molded(core_state *state, PyObject *obj)
{
    const opening *at =
        state->frozen->opened == NULL ? NULL : state->frozen->opened->openings;
    const frozen_mold *mold = NULL;
    for (; at != NULL && mold == NULL; at = at->next) {
        mold = frozen_map_get(&at->molds, obj);
    }
    return mold;
}

int
frozen_visit_opened(core_state *state, visitproc visit, void *arg)
{
    if (state->frozen->opened == NULL) {
        return 0;
    }
    const frozen_map *roots = &state->frozen->opened->roots;
    for (size_t i = 0; roots->used > 0 && i <= roots->mask; i++) {
        Py_VISIT((PyObject *)roots->links[i].to);
    }
    for (const opening *at = state->frozen->opened->openings; at != NULL;
         at = at->next) {
        for (size_t i = 0; at->molds.used > 0 && i <= at->molds.mask; i++) {
            Py_VISIT((PyObject *)at->molds.links[i].from);
        }
    }
    return 0;
}

void
frozen_forget(core_state *state)
{
    if (state->frozen->opened != NULL) {
        open_empty(state->frozen->opened);
    }
}
