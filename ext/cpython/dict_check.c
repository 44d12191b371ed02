/* Is the layout of dicts what cpython/dict.h says? It is compared with what the
 * public API makes, and what we make is used through the public API. Whatever
 * raises an exception, which may be left behind, means no. */
#include "cpython/dict.h"
#include "cpython/version.h"

/* ------------------------------------------------------------------ dicts */

#define FEW 7
#define MANY 100 /* their index is two bytes wide */

/* The place of a key in the entries, as CPython looks for it; or -1. */
static Py_ssize_t
check_find(const layout_keys *keys, const layout_pair *pairs, PyObject *key)
{
    size_t mask = ((size_t)1 << keys->log2_size) - 1;
    size_t perturb = (size_t)PyObject_Hash(key), i = perturb & mask;
    for (size_t n = 0; n <= 64 * mask; n++) {
        size_t at = keys->index[i];
        if (keys->log2_size >= 8) {
            uint16_t wide;
            memcpy(&wide, keys->index + 2 * i, sizeof(wide));
            at = wide == UINT16_MAX ? UINT8_MAX : wide;
        }
        if (at >= (size_t)keys->used) {
            return -1;
        }
        if (pairs[at].key == key) {
            return (Py_ssize_t)at;
        }
        perturb >>= 5;
        i = (i * 5 + perturb + 1) & mask;
    }
    return -1;
}

static bool
has_size(PyObject *dict, size_t size)
{
    PyObject *answer = PyObject_CallMethod(dict, "__sizeof__", NULL);
    bool same = answer != NULL && PyLong_AsSize_t(answer) == size;
    Py_XDECREF(answer);
    return same;
}

/* Is the table of this dict, whose keys are str, what the structs say? */
static bool
is_known(PyObject *dict)
{
    layout_keys *keys = layout_keys_of(dict);
    Py_ssize_t count = PyDict_GET_SIZE(dict), at = 0, i = 0;
    PyObject *key, *value;
    if (((PyDictObject *)dict)->ma_values != NULL || keys->refcount != 1 ||
        keys->log2_size < 3 || keys->log2_size > 10 ||
        keys->log2_index_bytes != layout_index_log2(keys->log2_size) ||
        keys->kind != KEYS_UNICODE || keys->used != count ||
        (size_t)(keys->usable + count) != layout_most(keys->log2_size) ||
        !has_size(dict, sizeof(PyDictObject) + layout_size(keys->log2_size))) {
        return false;
    }
    const layout_pair *pairs = layout_entries(keys);
    while (PyDict_Next(dict, &at, &key, &value)) {
        if (pairs[i].key != key || pairs[i].value != value || at != i + 1 ||
            check_find(keys, pairs, key) != i) {
            return false;
        }
        i++;
    }
    return i == count;
}

/* {"0": True, "1": ...}, made by the public API. */
static PyObject *
model_of(int count)
{
    PyObject *dict = PyDict_New();
    for (int i = 0; dict != NULL && i < count; i++) {
        PyObject *key = PyUnicode_FromFormat("%d", i);
        if (key == NULL || PyDict_SetItem(dict, key, i ? key : Py_True) < 0) {
            Py_CLEAR(dict);
        }
        Py_XDECREF(key);
    }
    return dict;
}

/* Does a dict with our own table do what one of CPython's does? Takes it
 * over. */
static bool
check_behaves(PyObject *dict, PyObject *model)
{
    PyObject *more = PyUnicode_FromString("more"), *copy = NULL;
    PyObject *first = PyUnicode_FromString("0");
    bool good = dict != NULL && more != NULL && first != NULL && is_known(dict) &&
                PyObject_RichCompareBool(dict, model, Py_EQ) == 1 &&
                PyDict_GetItemWithError(dict, first) == Py_True &&
                PyDict_GetItemWithError(dict, more) == NULL &&
                (copy = PyDict_Copy(dict)) != NULL && is_known(copy) &&
                PyDict_SetItem(dict, more, Py_None) == 0 &&
                PyDict_GetItemWithError(dict, more) == Py_None &&
                PyDict_DelItem(dict, first) == 0 &&
                PyDict_GET_SIZE(dict) == PyDict_GET_SIZE(model) &&
                PyObject_RichCompareBool(copy, model, Py_EQ) == 1;
    Py_XDECREF(more);
    Py_XDECREF(first);
    Py_XDECREF(copy);
    Py_XDECREF(dict);
    return good;
}

/* A dict like `model`, from a table of its own. */
static PyObject *
filled_like(const core_state *state, PyObject *model)
{
    PyObject *key, *value, *dict = PyDict_New();
    layout_keys *keys = layout_table(PyDict_GET_SIZE(model));
    Py_ssize_t at = 0;
    while (keys != NULL && PyDict_Next(model, &at, &key, &value)) {
        layout_put(keys, Py_NewRef(key), PyObject_Hash(key), Py_NewRef(value));
    }
    if (dict == NULL || keys == NULL || layout_give(state, dict, keys) < 0) {
        Py_CLEAR(dict);
    }
    return dict;
}

/* The same from a form. */
static PyObject *
formed_like(const core_state *state, PyObject *model)
{
    layout_form form = {.keys = NULL};
    PyObject *list = PyDict_Keys(model);
    PyObject *names = list == NULL ? NULL : PyList_AsTuple(list);
    PyObject *dict = names == NULL ? NULL : PyDict_New();
    layout_keys *keys = NULL;
    if (dict != NULL && layout_form_init(state, &form, names) == 0 &&
        form.keys != NULL && (keys = layout_form_table(&form)) != NULL) {
        PyObject *key, *value;
        Py_ssize_t at = 0;
        while (PyDict_Next(model, &at, &key, &value)) {
            layout_append(keys, Py_NewRef(value));
        }
    }
    if (keys == NULL || layout_give(state, dict, keys) < 0) {
        Py_CLEAR(dict);
    }
    layout_form_fini(&form);
    Py_XDECREF(list);
    Py_XDECREF(names);
    return dict;
}

/* Are a dict's triples read as the public API reads them, with one deleted? */
static bool
triples_are_known(core_state *state)
{
    PyObject *dict = PyDict_New(), *key, *value, *ours[2];
    Py_ssize_t at[2] = {0, 0};
    bool good = dict != NULL, more = good;
    for (long i = 0; i < FEW && good; i++) {
        key = PyLong_FromLong(i);
        good = key != NULL && PyDict_SetItem(dict, key, i ? key : Py_True) == 0;
        Py_XDECREF(key);
    }
    key = PyLong_FromLong(1);
    good = good && key != NULL && PyDict_DelItem(dict, key) == 0 &&
           layout_keys_of(dict)->kind == KEYS_GENERAL &&
           layout_keys_of(dict)->used == FEW &&
           layout_keys_of(dict)->log2_index_bytes == 4;
    Py_XDECREF(key);
    while (good && more) {
        more = PyDict_Next(dict, &at[0], &key, &value);
        good = layout_next(state, dict, &at[1], &ours[0], &ours[1]) == more;
        good =
            good && (!more || (ours[0] == key && ours[1] == value && at[0] == at[1]));
    }
    Py_XDECREF(dict);
    return good;
}

static bool
dicts_are_known(core_state *state)
{
    PyObject *empty = PyDict_New();
    PyObject *few = model_of(FEW), *many = model_of(MANY);
    PyObject *copy = few == NULL ? NULL : PyDict_Copy(few);
    bool good = false;
    if (empty != NULL && copy != NULL && many != NULL && is_known(few) &&
        is_known(copy) && is_known(many)) {
        PyObject *first = PyUnicode_FromString("0");
        layout_keys *keys = layout_keys_of(copy), *none = layout_keys_of(empty);
        state->cpython->layout.empty = none;
        state->cpython->layout.tracked = PyObject_GC_IsTracked(empty);
        good = none->log2_size == 0 && none->kind == KEYS_UNICODE && none->used == 0 &&
               none->usable == 0 && first != NULL && PyDict_DelItem(copy, first) == 0 &&
               layout_keys_of(copy) == keys && keys->used == FEW &&
               layout_entries(keys)[0].key == NULL &&
               layout_entries(keys)[0].value == NULL;
        /* Nobody counts those who share the empty keys. */
        Py_ssize_t before = none->refcount;
        Py_XSETREF(copy, PyDict_New());
        good = good && copy != NULL && layout_keys_of(copy) == none &&
               none->refcount == before;
        Py_XDECREF(first);
    }
    if (good && state->cpython->layout.writes) {
        state->cpython->layout.reads = true;
        state->cpython->layout.writes = check_behaves(filled_like(state, few), few) &&
                                        check_behaves(filled_like(state, many), many) &&
                                        check_behaves(formed_like(state, few), few);
        good = state->cpython->layout.writes;
    }
    Py_XDECREF(empty);
    Py_XDECREF(few);
    Py_XDECREF(many);
    Py_XDECREF(copy);
    return good;
}

/* -------------------------------------------------------------- instances */

/* Does a new instance of `type` hold `values`, one for each name? */
static bool
instance_is_known(const core_state *state, PyObject *obj, PyObject *names)
{
    Py_ssize_t count = PyTuple_GET_SIZE(names);
    uint8_t slots[LAYOUT_SLOTS];
    layout_values *values = layout_values_of(state, obj);
    layout_keys *keys = layout_cached_keys(Py_TYPE(obj));
    if (values == NULL || keys == NULL || keys->used != count ||
        !layout_slots(state, Py_TYPE(obj), names, slots) || values->used != count ||
        values->embedded != 1 || values->valid != 1 || values->capacity < keys->used) {
        return false;
    }
    for (Py_ssize_t i = 0; i < count; i++) {
        PyObject *name = PyTuple_GET_ITEM(names, i);
        PyObject *value = PyObject_GenericGetAttr(obj, name);
        bool same = value != NULL && value == values->values[slots[i]] &&
                    layout_order(values)[i] == slots[i];
        Py_XDECREF(value);
        if (!same) {
            return false;
        }
    }
    return true;
}

/* An instance of the class with these attributes, whose values are their names:
 * set by CPython, or by us. */
static PyObject *
instance_with(const core_state *state, PyObject *cls, PyObject *names, bool own)
{
    PyTypeObject *type = (PyTypeObject *)cls;
    PyObject *obj = type->tp_alloc(type, 0);
    uint8_t slots[LAYOUT_SLOTS];
    bool good = obj != NULL && (!own || layout_slots(state, type, names, slots));
    for (Py_ssize_t i = 0; good && i < PyTuple_GET_SIZE(names); i++) {
        PyObject *name = PyTuple_GET_ITEM(names, i);
        layout_values *values = own ? layout_open(state, obj, type) : NULL;
        good = own ? values != NULL && layout_fill(values, slots[i], Py_NewRef(name))
                   : PyObject_GenericSetAttr(obj, name, name) == 0;
    }
    if (!good) {
        Py_CLEAR(obj);
    }
    return obj;
}

static bool
instances_are_known(const core_state *state)
{
    PyObject *cls = PyObject_CallFunction((PyObject *)&PyType_Type, "s(){}", "probe");
    PyObject *names = Py_BuildValue("NN", PyUnicode_InternFromString("first"),
                                    PyUnicode_InternFromString("second"));
    PyObject *theirs = NULL, *ours = NULL, *dict = NULL, *copy = NULL;
    bool good =
        cls != NULL && names != NULL &&
        (((PyTypeObject *)cls)->tp_flags & Py_TPFLAGS_INLINE_VALUES) != 0 &&
        (theirs = instance_with(state, cls, names, false)) != NULL &&
        instance_is_known(state, theirs, names) &&
        (ours = instance_with(state, cls, names, true)) != NULL &&
        instance_is_known(state, ours, names) &&
        PyObject_DelAttr(theirs, PyTuple_GET_ITEM(names, 0)) == 0 &&
        layout_inline_values(theirs)->used == 1 &&
        /* Its dict is a view of the values, another dict is not. */
        (dict = PyObject_GenericGetDict(ours, NULL)) != NULL &&
        ((PyObject **)ours)[LAYOUT_DICT_AT] == dict && PyDict_GET_SIZE(dict) == 2 &&
        instance_is_known(state, ours, names) && (copy = PyDict_Copy(dict)) != NULL &&
        PyObject_SetAttrString(ours, "__dict__", copy) == 0 &&
        layout_values_of(state, ours) == NULL && layout_inline_values(ours)->valid == 0;
    Py_XDECREF(cls);
    Py_XDECREF(names);
    Py_XDECREF(theirs);
    Py_XDECREF(ours);
    Py_XDECREF(dict);
    Py_XDECREF(copy);
    return good;
}

bool
layout_is_known(core_state *state)
{
    state->cpython->layout.reads = dicts_are_known(state);
    state->cpython->layout.reads = state->cpython->layout.reads &&
                                   triples_are_known(state) &&
                                   instances_are_known(state);
    return state->cpython->layout.reads;
}
