/* Writing a frozen graph.
 *
 * One pass over the objects with a stack of our own, so that depth costs no C
 * stack: the place of a container is taken when it is met, its parts are set as
 * they come to be, and then it is sealed. Should a part be a mold, what is there of
 * the container is made one, too, in the same place. Who may change what meanwhile:
 * see frozen/builder.h. */
#include "frozen/builder.h"
#include "frozen/view/view.h"
#include "wait/wait.h"

#include <stddef.h>

char frozen_under_way; /* its address stands for that */

/* ----------------------------------------------------------------- refusals */

/* ['jobs'][3]: the way from the root. What is not plain is left out: showing it
 * would run code of the user's. */
static PyObject *
build_place_of(const builder *b)
{
    PyObject *place = PyUnicode_FromString("");
    for (size_t i = 0; place != NULL && i < b->depth; i++) {
        const frame *f = &b->frames[i];
        PyObject *step;
        if (b->depth > 20 && i == 10) {
            i = b->depth - 11;
            step = PyUnicode_FromString("[...]");
        }
        else if (!f->mapping) {
            static const char *const of_slice[] = {".start", ".stop", ".step"};
            step = f->kind == MOLD_SLICE ? PyUnicode_FromString(of_slice[f->at])
                   : f->kind >= MOLD_SET ? frozen_step(f)
                                         : PyUnicode_FromFormat("[%zd]", f->at);
        }
        else if (f->frozen_key == NULL) {
            step = PyUnicode_FromString(" key");
        }
        else {
            PyTypeObject *type = Py_TYPE(f->key);
            bool plain = type == &PyUnicode_Type || type == &PyLong_Type ||
                         type == &PyFloat_Type || type == &PyBytes_Type ||
                         type == &PyBool_Type || f->key == Py_None;
            step = plain ? PyUnicode_FromFormat("[%.80R]", f->key)
                         : PyUnicode_FromFormat("[<%s>]", type->tp_name);
        }
        if (step == NULL) { /* an int with too many digits to be shown */
            PyErr_Clear();
            step = PyUnicode_FromString("[...]");
        }
        if (step == NULL) {
            Py_CLEAR(place);
        }
        else {
            PyUnicode_Append(&place, step);
            Py_DECREF(step);
        }
    }
    return place;
}

int
frozen_refuse(const builder *b, PyObject *obj, const char *why)
{
    PyObject *place = build_place_of(b);
    if (place != NULL) {
        bool inside = PyUnicode_GET_LENGTH(place) > 0;
        raise_error(b->state, "NotShareableError",
                    "%s%U%san instance of %T cannot be frozen: %s", inside ? "at " : "",
                    place, inside ? ": " : "", obj, why);
        Py_DECREF(place);
    }
    return -1;
}

/* --------------------------------------------------------------- containers */

int
frozen_remember(builder *b, PyObject *src, void *to)
{
    bool fresh = b->holding && frozen_map_get(&b->memo, src) == NULL;
    if (frozen_map_set(&b->memo, src, to) < 0) {
        return -1;
    }
    if (fresh) {
        Py_INCREF(src);
    }
    return 0;
}

frame *
frozen_push(builder *b)
{
    if (b->depth == b->room) {
        size_t room = b->room == 0 ? 16 : 2 * b->room;
        frame *more = atoll_realloc(b->frames, room * sizeof(*more));
        if (more == NULL) {
            PyErr_NoMemory();
            return NULL;
        }
        b->frames = more;
        b->room = room;
    }
    frame *f = &b->frames[b->depth];
    memset(f, 0, offsetof(frame, pairs));
    return f;
}

/* Are all keys exact str? */
static bool
build_has_str_keys(const core_state *state, PyObject *dict)
{
    PyObject *key, *value;
    Py_ssize_t at = 0;
    if (layout_pairs(state, dict) != NULL) {
        return true;
    }
    while (PyDict_Next(dict, &at, &key, &value)) {
        if (!PyUnicode_CheckExact(key)) {
            return false;
        }
    }
    return true;
}

static int
begin_mapping(builder *b, PyObject *src, PyObject *dict, frame *f)
{
    Py_ssize_t count = PyDict_GET_SIZE(dict);
    bool general = !build_has_str_keys(b->state, dict);
    if (count > FROZEN_MOST) {
        return frozen_refuse(b, src, "it is too large");
    }
    void *to = frozen_take(b, frozen_mapping_size(count, general), CHUNKS_PLAIN);
    if (to == NULL) {
        return -1;
    }
    f->kind = MOLD_DICT;
    f->mapping = true;
    f->pairs = dict;
    f->room = count;
    f->put = 0;
    f->key = f->value = f->frozen_key = NULL;
    f->dst = frozen_write_mapping(b->state, to, count, general);
    return 0;
}

static int
begin_sequence(builder *b, PyObject *src, PyTypeObject *type, frame *f)
{
    f->from = frozen_parts(src, &f->count);
    int kind = type == &PyList_Type ? CHUNKS_LISTS : CHUNKS_PLAIN;
    f->kind = type == &PyList_Type    ? MOLD_LIST
              : type == &PySlice_Type ? MOLD_SLICE
                                      : MOLD_TUPLE;
    size_t size = type == &PyRange_Type   ? frozen_range_size()
                  : type == &PySlice_Type ? frozen_slice_size()
                                          : frozen_tuple_size(f->count);
    void *to = frozen_take(b, size, kind);
    if (to == NULL) {
        return -1;
    }
    f->dst = type == &PyRange_Type   ? frozen_write_range(to)
             : type == &PySlice_Type ? frozen_write_slice(to)
                                     : frozen_write_tuple(to, f->count);
    Py_ssize_t count;
    f->to = frozen_parts(f->dst, &count);
    return 0;
}

/* The dict that `src` is, or stands for; NULL: it is no mapping. */
static PyObject *
dict_of(PyObject *src, PyTypeObject *type)
{
    if (type == &PyDict_Type) {
        return src;
    }
#ifdef COMPAT_FROZENDICT
    if (type == &PyFrozenDict_Type) {
        return src;
    }
#endif
    if (type == &PyDictProxy_Type) {
        PyObject *mapping = ((frozen_proxy *)src)->mapping;
        return PyDict_CheckExact(mapping) ? mapping : NULL;
    }
    return NULL;
}

int
frozen_known(builder *b, PyObject *src, PyObject **out)
{
    void *known = frozen_map_get(&b->memo, src);
    if (known == &frozen_under_way) {
        return frozen_refuse(b, src,
                             "it is part of itself, and what cannot be "
                             "changed cannot be made so");
    }
    if (known != NULL) {
        *out = known;
        return 1;
    }
    int taken = frozen_take_over(b, src);
    *out = src;
    return taken;
}

/* 1, and *out is it; 0: its parts come first; -1 with an exception. */
static int
freeze_container(builder *b, PyObject *src, PyTypeObject *type, PyObject **out)
{
    bool is_sequence = type == &PyTuple_Type || type == &PyList_Type ||
                       type == &PyRange_Type || type == &PySlice_Type;
    PyObject *dict = is_sequence ? NULL : dict_of(src, type);
    if (!is_sequence && dict == NULL) {
        bool is_view = frozen_is_view(b->state, type);
        if (!is_view && type != b->state->frozen->frozen_type) {
            return frozen_other(b, src, type, out);
        }
        frozen_graph *other =
            is_view ? ((frozen_view *)src)->hold->graph : frozen_of(src);
        if (other->element && b->depth > 0) {
            return frozen_refuse(b, src, "XML elements can be by themselves only");
        }
        b->graph->element = other->element;
        frozen_ref(other);
        if (frozen_use(b->graph, other) != ATOLL_OK) {
            PyErr_NoMemory();
            return -1;
        }
        *out = is_view ? ((frozen_view *)src)->obj : other->root;
        return 1;
    }
    if (frozen_is_empty_tuple(src)) {
        *out = src;
        return 1;
    }
    bool shared = Py_REFCNT(src) > 1;
    if (shared) {
        int known = frozen_known(b, src, out);
        if (known != 0) {
            return known;
        }
    }
    frame *f = frozen_push(b);
    if (f == NULL) {
        return -1;
    }
    f->src = src;
    f->shared = shared;
    int rc =
        is_sequence ? begin_sequence(b, src, type, f) : begin_mapping(b, src, dict, f);
    if (rc < 0 || (shared && frozen_remember(b, src, &frozen_under_way) < 0)) {
        return -1;
    }
    b->depth++;
    return 0;
}

/* Any object; as freeze_container(). */
static inline int
freeze_any(builder *b, PyObject *src, PyObject **out)
{
    PyTypeObject *type = Py_TYPE(src);
    if (type == &PyUnicode_Type || type == &PyBytes_Type) {
        *out = frozen_text(b, src);
    }
    else if (type == &PyLong_Type || type == &PyFloat_Type || type == &PyComplex_Type) {
        *out = frozen_number(b, src, type);
    }
    else if (src == Py_None || src == Py_True || src == Py_False ||
             src == Py_Ellipsis) {
        *out = src;
    }
    else {
        return freeze_container(b, src, type, out);
    }
    return *out == NULL ? -1 : 1;
}

/* ----------------------------------------------------------------- the walk */

/* A part of the innermost container has become `obj`. */
static int
build_deliver(frame *f, PyObject *obj)
{
    if (!f->mapping) {
        if (frozen_is_mold(obj) && f->mold == NULL) {
            frozen_turn_to_mold(f);
        }
        f->to[f->at++] = obj;
        return 0;
    }
    if (f->frozen_key == NULL) {
        f->frozen_key = obj;
        return 0;
    }
    if (f->mold == NULL && (frozen_is_mold(f->frozen_key) || frozen_is_mold(obj))) {
        frozen_turn_to_mold(f);
    }
    if (f->mold != NULL) {
        f->to[f->put++] = f->frozen_key;
        f->to[f->put++] = obj;
    }
    else {
        Py_hash_t hash = PyObject_Hash(f->frozen_key);
        if (hash == -1) {
            return -1;
        }
        frozen_mapping_put(f->dst, f->frozen_key, hash, obj);
    }
    f->frozen_key = NULL;
    f->key = NULL;
    return 0;
}

/* The next part of the innermost container; NULL: there is none. */
static PyObject *
build_next_part(const core_state *state, frame *f)
{
    if (!f->mapping) {
        return f->at < f->count ? f->from[f->at] : NULL;
    }
    if (f->key == NULL) {
        if (f->pairs != NULL) {
            if (!layout_next(state, f->pairs, &f->at, &f->key, &f->value)) {
                return NULL;
            }
        }
        else if (f->at < f->count) {
            f->key = f->from[f->at++];
            f->value = f->from[f->at++];
        }
        else {
            return NULL;
        }
    }
    return f->frozen_key == NULL ? f->key : f->value;
}

/* All parts of the innermost container are there. */
static PyObject *
finish_frame(builder *b)
{
    frame *f = &b->frames[b->depth - 1];
    PyObject *done = f->dst;
    if (f->mold != NULL) {
        f->mold->shared = f->shared;
        done = frozen_as_part(f->mold);
    }
    else if (frozen_seal(done) < 0) {
        return NULL;
    }
    if (f->shared && frozen_remember(b, f->src, done) < 0) {
        return NULL;
    }
    b->depth--;
    if (f->secured || f->held != NULL) {
        frozen_release(b, f);
    }
    return done;
}

/* So often is looked for signals, which costs what secures the containers under way,
 * and for interrupts, which run no code; after so many parts the clock is. */
#define SIGNALS_NS INT64_C(50000000)
#define INTERRUPTS_NS INT64_C(10000000)
#define LOOK_PARTS 4096

/* -1 with an exception. Between two parts: it may run code. */
static int
build_look(builder *b)
{
    b->until_look = LOOK_PARTS;
    int64_t now = atoll_now();
    if (now < b->next_look) {
        return 0;
    }
    bool first = b->next_look == 0, signals = detach_is_signal_thread(b->state);
    b->next_look = now + (signals ? SIGNALS_NS : INTERRUPTS_NS);
    if (first || (signals && frozen_secure(b) < 0)) {
        return first ? 0 : -1;
    }
    return detach_look(b->state);
}

static PyObject *
build_walk(builder *b, PyObject *root)
{
    PyObject *done = NULL, *part;
    int rc = freeze_any(b, root, &done);
    while (rc >= 0 && b->depth > 0) {
        frame *f = &b->frames[b->depth - 1];
        if (rc > 0 && build_deliver(f, done) < 0) {
            return NULL;
        }
        rc = 1;
        while (rc > 0) {
            if (b->until_look-- == 0 && build_look(b) < 0) {
                return NULL;
            }
            part = build_next_part(b->state, f);
            if (part == NULL) {
                break;
            }
            rc = freeze_any(b, part, &done);
            if (rc > 0 && build_deliver(f, done) < 0) {
                return NULL;
            }
        }
        if (rc > 0) { /* complete: what it has become goes to the next */
            done = finish_frame(b);
            rc = done == NULL ? -1 : 1;
        }
    }
    return rc < 0 ? NULL : done;
}

PyObject *
frozen_write_graph(core_state *state, frozen_graph *g, PyObject *obj)
{
    builder b = {.state = state, .graph = g};
    PyObject *root = build_walk(&b, obj);
    while (b.depth > 0) { /* it has failed */
        b.depth--;
        frozen_release(&b, &b.frames[b.depth]);
    }
    for (size_t i = 0; b.holding && b.memo.used > 0 && i <= b.memo.mask; i++) {
        Py_XDECREF((PyObject *)b.memo.links[i].from);
    }
    Py_XDECREF(b.plans);
    atoll_free(b.frames);
    frozen_leaves_fini(&b);
    frozen_map_fini(&b.memo);
    return root;
}

frozen_graph *
frozen_build(core_state *state, PyObject *obj, bool read_only)
{
    frozen_graph *g = frozen_new();
    if (g == NULL) {
        PyErr_NoMemory();
        return NULL;
    }
    PyObject *root = frozen_write_graph(state, g, obj);
    if (root != NULL && frozen_is_mold(root) && !frozen_mold_of(root)->root) {
        frozen_mold_of(root)->root = true; /* else it is another graph's */
    }
    if (root != NULL && frozen_publish(g, root, read_only) == ATOLL_OK) {
        return g;
    }
    if (root != NULL) {
        PyErr_NoMemory();
    }
    frozen_unref(g);
    return NULL;
}
