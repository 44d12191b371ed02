/* CPython's private layout of dicts and of the attributes of instances.
 *
 * The encoder reads tables of pairs directly, and the decoder fills them: with
 * the public API alone, finding the place of each key in each record is most of
 * the work, though all records have the same keys.
 *
 * The structs below say what CPython 3.13 to 3.15 have (dict.h and object.h of
 * its internal headers, which other patch releases may change). Nothing relies
 * on them before layout_init() has compared them with dicts and instances that
 * the public API has made. If one comparison fails, `reads` and `writes` stay
 * false, and the public API is used for everything.
 *
 * Reading: no pointer into a table is kept over anything that may run code. A
 * pair is found again by its index, as PyDict_Next() does it.
 * Writing: a table is filled while nobody else knows of it, and then given to a
 * dict that nobody has used yet.
 */
#ifndef EXT_CPYTHON_DICT_H
#define EXT_CPYTHON_DICT_H

#include <stddef.h>
#include <string.h>

#include "base/base.h"

/* What is known of the layout of dicts; see cpython/dict.h. */
struct dict_layout {
    bool reads, writes;       /* what is done */
    bool can_read, can_write; /* what could be done */
    bool tracked;             /* is a new dict in the hands of the collector? */
    void *empty;              /* the keys of one */
};

typedef struct cpython_data {
    struct dict_layout layout;
    bool can_adopt; /* see cpython/adopt.h */
} cpython_data;

extern const core_room cpython_room;

enum { KEYS_GENERAL, KEYS_UNICODE, KEYS_SPLIT };

/* PyDictKeysObject. `index`, 1 << log2_index_bytes bytes, is followed by the
 * entries: pairs, or triples that begin with a hash if `kind` is general. */
typedef struct layout_keys {
    Py_ssize_t refcount;
    uint8_t log2_size; /* of the index */
    uint8_t log2_index_bytes;
    uint8_t kind;
    uint32_t version; /* 0: it has none */
    Py_ssize_t usable;
    Py_ssize_t used; /* entries, with those that were deleted */
    unsigned char index[];
} layout_keys;

typedef struct layout_pair {
    PyObject *key;
    PyObject *value; /* NULL: deleted */
} layout_pair;

/* PyDictValues: what an instance has in place of a dict, after its object. The
 * names are in the keys of its class. In behind `values` there is for each
 * attribute, in the order of their making, a byte: the index of its value. */
typedef struct layout_values {
    uint8_t capacity;
    uint8_t used;
    uint8_t embedded;
    uint8_t valid; /* 0: they have moved into a dict */
    PyObject *values[];
} layout_values;

#define LAYOUT_SLOTS 30 /* no instance has more values beside its dict */

/* Dicts with more pairs are left to CPython: their index is wider than what the
 * check at import has looked at. */
#define LAYOUT_MAX 21845

/* Compare all this with what CPython does, once a process, and note the result
 * in the state. */
void layout_init(core_state *state);
/* Make its lock anew, in the child of a fork. */
void layout_fork_child(void);
/* The comparison (cpython/dict_check.c); state->cpython->layout.writes says whether
 * tables may be made for it. */
bool layout_is_known(core_state *state);

extern PyMethodDef layout_functions[];

/* ---------------------------------------------------------------- reading */

static inline layout_keys *
layout_keys_of(PyObject *dict)
{
    return (layout_keys *)((PyDictObject *)dict)->ma_keys;
}

static inline layout_pair *
layout_entries(layout_keys *keys)
{
    return (layout_pair *)(void *)(keys->index + ((size_t)1 << keys->log2_index_bytes));
}

/* PyDict_Next(), with the same meaning of `at` for both ways to do it. */
static inline bool
layout_next(const core_state *state, PyObject *dict, Py_ssize_t *at, PyObject **key,
            PyObject **value)
{
    layout_keys *keys = layout_keys_of(dict);
    if (!state->cpython->layout.reads || ((PyDictObject *)dict)->ma_values != NULL) {
        return PyDict_Next(dict, at, key, value);
    }
    Py_ssize_t general = keys->kind == KEYS_GENERAL, i = *at;
    PyObject *const *pair =
        (PyObject *const *)layout_entries(keys) + general + i * (2 + general);
    while (i < keys->used && pair[1] == NULL) {
        i++;
        pair += 2 + general;
    }
    *at = i + 1;
    if (i >= keys->used) {
        return false;
    }
    *key = pair[0];
    *value = pair[1];
    return true;
}

/* All pairs, if the keys are exact str and none was deleted; else NULL. Good
 * until code may run. */
static inline const layout_pair *
layout_pairs(const core_state *state, PyObject *dict)
{
    layout_keys *keys = layout_keys_of(dict);
    return state->cpython->layout.reads && ((PyDictObject *)dict)->ma_values == NULL &&
                   keys->kind == KEYS_UNICODE && keys->used == PyDict_GET_SIZE(dict)
               ? layout_entries(keys)
               : NULL;
}

/* -------------------------------------------------------------- instances */

/* The dict of an instance, before the instance; NULL: it has none so far. */
#define LAYOUT_DICT_AT (-3)

static inline layout_values *
layout_inline_values(PyObject *obj)
{
    return (layout_values *)(void *)((char *)obj + Py_TYPE(obj)->tp_basicsize);
}

/* The values of an instance that has them beside it: it has no dict, or one
 * that is only a view of them. Else NULL. Good until code may run. */
static inline layout_values *
layout_values_of(const core_state *state, PyObject *obj)
{
    if (state == NULL || !state->cpython->layout.reads ||
        !(Py_TYPE(obj)->tp_flags & Py_TPFLAGS_INLINE_VALUES)) {
        return NULL;
    }
    layout_values *values = layout_inline_values(obj);
    PyDictObject *dict = ((PyDictObject **)obj)[LAYOUT_DICT_AT];
    return values->valid && values->used <= LAYOUT_SLOTS &&
                   (dict == NULL || (void *)dict->ma_values == values)
               ? values
               : NULL;
}

static inline uint8_t *
layout_order(layout_values *values)
{
    return (uint8_t *)&values->values[values->capacity];
}

/* The names that instances of a class share; NULL: they share none. They grow
 * in number, but none ever changes its place. */
static inline layout_keys *
layout_cached_keys(PyTypeObject *type)
{
    if (!(type->tp_flags & Py_TPFLAGS_INLINE_VALUES)) {
        return NULL;
    }
    layout_keys *keys = (layout_keys *)((PyHeapTypeObject *)type)->ht_cached_keys;
    return keys != NULL && keys->kind == KEYS_SPLIT ? keys : NULL;
}

/* Where instances of `type` have the values of these names, which are interned:
 * false if they have no such place (yet). */
bool layout_slots(const core_state *state, PyTypeObject *type, PyObject *names,
                  uint8_t slots[LAYOUT_SLOTS]);

/* The values of an instance of `type`, if attributes can be made there: it may
 * have no dict, which would count. Else NULL. Good until code may run. */
static inline layout_values *
layout_open(const core_state *state, PyObject *obj, PyTypeObject *type)
{
    layout_values *values = Py_TYPE(obj) == type ? layout_values_of(state, obj) : NULL;
    return values != NULL && ((PyObject **)obj)[LAYOUT_DICT_AT] == NULL ? values : NULL;
}

/* Make an attribute, unless there is one. Steals the value, if it returns true.
 */
static inline bool
layout_fill(layout_values *values, uint8_t slot, PyObject *value)
{
    if (slot >= values->capacity || values->used >= values->capacity ||
        values->values[slot] != NULL) {
        return false;
    }
    layout_order(values)[values->used++] = slot;
    values->values[slot] = value;
    return true;
}

/* ---------------------------------------------------------------- writing */

/* How many pairs a table has, with an index of this size. */
static inline size_t
layout_most(int log2_size)
{
    return ((size_t)2 << log2_size) / 3;
}

static inline int
layout_index_log2(int log2_size)
{
    return log2_size + (log2_size >= 8); /* LAYOUT_MAX: never wider */
}

/* All of its bytes. */
static inline size_t
layout_size(int log2_size)
{
    return sizeof(layout_keys) + ((size_t)1 << layout_index_log2(log2_size)) +
           layout_most(log2_size) * sizeof(layout_pair);
}

/* Can dicts with so many pairs be made of tables? */
static inline bool
layout_writes(const core_state *state, Py_ssize_t count)
{
    return state != NULL && state->cpython->layout.writes && count > 0 &&
           count <= LAYOUT_MAX;
}

/* An empty table for `count` pairs. NULL with MemoryError. */
layout_keys *layout_table(Py_ssize_t count);

/* Put a pair into a table with room: false if an equal key is there already.
 * Steals both if it returns true. `hash` is the key's. */
static inline bool
layout_put(layout_keys *keys, PyObject *key, Py_hash_t hash, PyObject *value)
{
    size_t mask = ((size_t)1 << keys->log2_size) - 1, perturb = (size_t)hash;
    size_t i = perturb & mask;
    layout_pair *pairs = layout_entries(keys);
    uint16_t wide = UINT16_MAX;
    for (;;) {
        size_t at;
        if (keys->log2_size < 8) {
            at = keys->index[i];
            if (at == UINT8_MAX) {
                keys->index[i] = (uint8_t)keys->used;
                break;
            }
        }
        else {
            memcpy(&wide, keys->index + 2 * i, sizeof(wide));
            at = wide;
            if (at == UINT16_MAX) {
                wide = (uint16_t)keys->used;
                memcpy(keys->index + 2 * i, &wide, sizeof(wide));
                break;
            }
        }
        if (((PyASCIIObject *)pairs[at].key)->hash == hash &&
            PyUnicode_Compare(pairs[at].key, key) == 0) {
            return false;
        }
        perturb >>= 5;
        i = (i * 5 + perturb + 1) & mask;
    }
    pairs[keys->used++] = (layout_pair){key, value};
    keys->usable--;
    return true;
}

/* A table that was not given away, and what is in it. */
void layout_drop(layout_keys *keys);

/* Set its pairs one by one, and drop it. -1 with an exception. */
int layout_set_pairs(PyObject *dict, layout_keys *keys);

/* Give the table to `dict`, which is new and empty; if somebody has used that
 * meanwhile, as layout_set_pairs(). */
int layout_give(const core_state *state, PyObject *dict, layout_keys *keys);

/* --- many dicts with the same keys */

/* The keys, and no values. */
typedef struct layout_form {
    layout_keys *keys; /* values are NULL; NULL: no such dicts can be made */
    size_t size;
} layout_form;

/* Of a tuple of exact str. -1 with MemoryError. */
int layout_form_init(const core_state *state, layout_form *form, PyObject *names);

/* Free what a form owns. */
void layout_form_fini(layout_form *form);

/* A table to be filled by layout_append(), as often as the form has keys. NULL
 * with MemoryError. */
static inline layout_keys *
layout_form_table(const layout_form *form)
{
    layout_keys *keys = PyMem_Malloc(form->size);
    if (keys == NULL) {
        PyErr_NoMemory();
        return NULL;
    }
    memcpy(keys, form->keys, form->size);
    keys->used = 0;
    return keys;
}

/* Steals the value. */
static inline void
layout_append(layout_keys *keys, PyObject *value)
{
    layout_pair *pair = &layout_entries(keys)[keys->used++];
    Py_INCREF(pair->key);
    pair->value = value;
}

#endif
