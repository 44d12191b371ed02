/* Tables of keys, and whether they are used at all. See cpython/dict.h. */
#include "cpython/dict.h"

#include "cpython/adopt.h"
#include "cpython/version.h"

/* PyDictObject, whose second field has another name in each version. */
typedef struct dict_head {
    PyObject_HEAD
    Py_ssize_t used;
    uint64_t watched; /* one bit for each watcher in the lowest byte */
    void *keys;
    void *values;
} dict_head;

#ifdef COMPAT_DICT_LAYOUT
static_assert(sizeof(layout_keys) == 32, "PyDictKeysObject");
static_assert(sizeof(layout_pair) == 16, "PyDictUnicodeEntry");
static_assert(offsetof(layout_values, values) == 8, "PyDictValues");
static_assert(sizeof(dict_head) == sizeof(PyDictObject), "PyDictObject");
static_assert(offsetof(dict_head, used) == offsetof(PyDictObject, ma_used),
              "PyDictObject");
static_assert(offsetof(dict_head, keys) == offsetof(PyDictObject, ma_keys),
              "PyDictObject");
static_assert(offsetof(dict_head, values) == offsetof(PyDictObject, ma_values),
              "PyDictObject");
#endif

/* ----------------------------------------------------------------- tables */

layout_keys *
layout_table(Py_ssize_t count)
{
    int log2_size = 3;
    while (layout_most(log2_size) < (size_t)count) {
        log2_size++;
    }
    layout_keys *keys = PyMem_Malloc(layout_size(log2_size));
    if (keys == NULL) {
        PyErr_NoMemory();
        return NULL;
    }
    *keys = (layout_keys){
        .refcount = 1,
        .log2_size = (uint8_t)log2_size,
        .log2_index_bytes = (uint8_t)layout_index_log2(log2_size),
        .kind = KEYS_UNICODE,
        .usable = (Py_ssize_t)layout_most(log2_size),
    };
    memset(keys->index, 0xff, (size_t)1 << keys->log2_index_bytes);
    memset(layout_entries(keys), 0, layout_most(log2_size) * sizeof(layout_pair));
    return keys;
}

void
layout_drop(layout_keys *keys)
{
    layout_pair *pairs = layout_entries(keys);
    for (Py_ssize_t i = 0; i < keys->used; i++) {
        Py_DECREF(pairs[i].key);
        Py_XDECREF(pairs[i].value);
    }
    PyMem_Free(keys);
}

int
layout_set_pairs(PyObject *dict, layout_keys *keys)
{
    int rc = 0;
    layout_pair *pairs = layout_entries(keys);
    for (Py_ssize_t i = 0; i < keys->used && rc == 0; i++) {
        rc = PyDict_SetItem(dict, pairs[i].key, pairs[i].value);
    }
    layout_drop(keys);
    return rc;
}

/* Where dicts are not tracked before they hold something that is (3.13). */
static void
layout_track(PyObject *dict, layout_keys *keys)
{
    layout_pair *pairs = layout_entries(keys);
    for (Py_ssize_t i = 0; i < keys->used; i++) {
        PyObject *value = pairs[i].value;
        if (PyType_IS_GC(Py_TYPE(value)) &&
            (!PyTuple_CheckExact(value) || PyObject_GC_IsTracked(value))) {
            if (!PyObject_GC_IsTracked(dict)) {
                PyObject_GC_Track(dict);
            }
            return;
        }
    }
}

int
layout_give(const core_state *state, PyObject *dict, layout_keys *keys)
{
    dict_head *head = (dict_head *)dict;
    if (head->keys != state->cpython->layout.empty || head->values != NULL ||
        (head->watched & 0xff) != 0 || keys->used == 0) {
        return layout_set_pairs(dict, keys);
    }
    head->keys = keys; /* the empty ones are not counted */
    head->used = keys->used;
    if (!state->cpython->layout.tracked) {
        layout_track(dict, keys);
    }
    return 0;
}

int
layout_form_init(const core_state *state, layout_form *form, PyObject *names)
{
    form->keys = NULL;
    Py_ssize_t count = PyTuple_GET_SIZE(names);
    if (!layout_writes(state, count)) {
        return 0;
    }
    layout_keys *keys = layout_table(count);
    if (keys == NULL) {
        return -1;
    }
    for (Py_ssize_t i = 0; i < count; i++) {
        PyObject *name = PyTuple_GET_ITEM(names, i);
        if (!PyUnicode_CheckExact(name) ||
            !layout_put(keys, name, PyObject_Hash(name), NULL)) {
            layout_drop(keys);
            return 0;
        }
        Py_INCREF(name);
    }
    form->keys = keys;
    form->size = layout_size(keys->log2_size);
    return 0;
}

void
layout_form_fini(layout_form *form)
{
    if (form->keys != NULL) {
        layout_drop(form->keys);
    }
}

bool
layout_slots(const core_state *state, PyTypeObject *type, PyObject *names,
             uint8_t slots[LAYOUT_SLOTS])
{
    Py_ssize_t count = PyTuple_GET_SIZE(names);
    layout_keys *keys = layout_cached_keys(type);
    if (!state->cpython->layout.reads || keys == NULL || count > LAYOUT_SLOTS) {
        return false;
    }
    const layout_pair *pairs = layout_entries(keys);
    for (Py_ssize_t i = 0; i < count; i++) {
        Py_ssize_t at = 0;
        while (at < keys->used && pairs[at].key != PyTuple_GET_ITEM(names, i)) {
            at++;
        }
        if (at >= keys->used || at >= LAYOUT_SLOTS) {
            return false;
        }
        slots[i] = (uint8_t)at;
    }
    return true;
}

/* -------------------------------------------------------------- at import */

static void
layout_compare(core_state *state)
{
    struct dict_layout *layout = &state->cpython->layout;
    *layout = (struct dict_layout){.reads = false};
#ifdef COMPAT_DICT_LAYOUT
    /* What we allocate is freed by CPython: by its own allocator, and without
     * hooks that look at who has allocated what. */
    layout->writes = adopt_possible();
    layout->reads = layout_is_known(state);
    layout->writes = layout->writes && layout->reads;
    PyErr_Clear();
#endif
    layout->can_read = layout->reads;
    layout->can_write = layout->writes;
}

static atoll_lock layout_lock;

void
layout_init(core_state *state)
{
    static struct dict_layout found; /* both guarded by layout_lock */
    static bool compared;
    atoll_lock_acquire(&layout_lock);
    bool known = compared;
    state->cpython->layout = found;
    atoll_lock_release(&layout_lock);
    if (!known) { /* without the lock: several may do it at once */
        layout_compare(state);
        atoll_lock_acquire(&layout_lock);
        found = state->cpython->layout;
        compared = true;
        atoll_lock_release(&layout_lock);
    }
}

void
layout_fork_child(void)
{
    layout_lock.word = 0; /* main's import has done all that it guards */
}

PyDoc_STRVAR(use_doc,
"_use_dict_layout(on: bool, /)\n--\n\n"
"For tests: let this interpreter use what is known of CPython's private\n"
"layout of dicts, or the public API alone. Returns what it can do with the\n"
"layout: (read, write).");

static PyObject *
use_dict_layout(PyObject *module, PyObject *on)
{
    struct dict_layout *layout =
        &((core_state *)PyModule_GetState(module))->cpython->layout;
    int use = PyObject_IsTrue(on);
    if (use < 0) {
        return NULL;
    }
    layout->reads = use && layout->can_read;
    layout->writes = use && layout->can_write;
    return Py_BuildValue("OO", layout->can_read ? Py_True : Py_False,
                         layout->can_write ? Py_True : Py_False);
}

PyMethodDef layout_functions[] = {
    {"_use_dict_layout", use_dict_layout, METH_O, use_doc},
    {NULL, NULL, 0, NULL},
};
