/* The built-in containers. See wire/decode/decoder.h, wire/form.h. */
#include "wire/decode/decoder.h"

#include "cpython/version.h"

/* ---------------------------------------------------------- lists and tuples */

static inline bool
is_run(int tag)
{
    return tag == TAG_INTS || tag == TAG_WIDE_INTS || tag == TAG_FLOATS;
}

static inline PyObject *
number_of_run(const unsigned char **at, int tag)
{
    const unsigned char *from = *at;
    int32_t narrow;
    int64_t wide;
    double value;
    if (tag == TAG_INTS) {
        *at = from + sizeof(narrow);
        memcpy(&narrow, from, sizeof(narrow));
        return PyLong_FromLong(narrow);
    }
    if (tag == TAG_WIDE_INTS) {
        *at = from + sizeof(wide);
        memcpy(&wide, from, sizeof(wide));
        return PyLong_FromLongLong(wide);
    }
    *at = from + sizeof(value);
    memcpy(&value, from, sizeof(value));
    return PyFloat_FromDouble(value);
}

/* A run of numbers into slots[0..left). Returns how many, -1 with an
 * exception. */
static Py_ssize_t
dec_run(decoder *d, PyObject **slots)
{
    int tag = dec_u8(d);
    Py_ssize_t count = (Py_ssize_t)dec_u32(d);
    const unsigned char *at = d->at;
    for (Py_ssize_t i = 0; i < count; i++) {
        PyObject *item = number_of_run(&at, tag);
        if (item == NULL) {
            while (i > 0) {
                Py_CLEAR(slots[--i]);
            }
            return -1;
        }
        slots[i] = item;
    }
    d->at = at;
    return count;
}

/* The end of what gets its number late: it itself, or what one of its parts has
 * made of it before. Steals `obj`, which may be NULL. */
static PyObject *
dec_numbered(decoder *d, bool memo, PyObject *obj)
{
    if (obj == NULL || !memo) {
        return obj;
    }
    PyObject *known = dec_known(d);
    if (known != NULL) {
        Py_SETREF(obj, known);
    }
    else if (dec_number(d, true, obj) < 0) {
        Py_CLEAR(obj);
    }
    return obj;
}

/* The garbage collector need not look at a tuple of atoms: it would find that
 * out by itself, when it has looked. */
static void
dec_untrack(PyObject *tuple)
{
    for (Py_ssize_t i = 0; i < PyTuple_GET_SIZE(tuple); i++) {
        if (PyType_IS_GC(Py_TYPE(PyTuple_GET_ITEM(tuple, i)))) {
            return;
        }
    }
    if (PyTuple_GET_SIZE(tuple) > 0) { /* the empty one is everybody's */
        PyObject_GC_UnTrack(tuple);
    }
}

PyObject *
dec_tuple(decoder *d, Py_ssize_t count, bool memo)
{
    PyObject *tuple = PyTuple_New(count);
    if (tuple == NULL) {
        return NULL;
    }
    PyObject **items = ((PyTupleObject *)tuple)->ob_item;
    const unsigned char *at = d->at;
    bool entered = false;
    Py_ssize_t i = 0, run = 0;
    for (; i < count && run >= 0; i += run) {
        if (is_run(*at)) {
            d->at = at;
            run = dec_run(d, items + i);
            at = d->at;
        }
        else {
            items[i] = dec_part_at(d, &at, &entered);
            run = items[i] == NULL ? -1 : 1;
        }
    }
    d->at = at;
    if (entered) {
        Py_LeaveRecursiveCall();
    }
    if (run < 0) {
        Py_DECREF(tuple);
        return NULL;
    }
    dec_untrack(tuple);
    return dec_numbered(d, memo, tuple);
}

/* A run of numbers at the end of a list, which `fits` if there is room for all
 * that comes. Returns how many, -1 with an exception. */
static Py_ssize_t
dec_list_run(decoder *d, PyObject *obj, bool fits)
{
    PyListObject *list = (PyListObject *)obj;
    if (fits) {
        Py_ssize_t size = Py_SIZE(list);
        Py_ssize_t run = dec_run(d, list->ob_item + size);
        Py_SET_SIZE(list, size + (run > 0 ? run : 0));
        return run;
    }
    int tag = dec_u8(d);
    Py_ssize_t run = (Py_ssize_t)dec_u32(d);
    for (Py_ssize_t i = 0; i < run; i++) {
        PyObject *item = number_of_run(&d->at, tag);
        int rc = item == NULL ? -1 : PyList_Append(obj, item);
        Py_XDECREF(item);
        if (rc < 0) {
            return -1;
        }
    }
    return run;
}

/* Its size grows with its items, so that it has no holes at any time. If code
 * of an item's has changed it meanwhile, what comes is appended. */
static PyObject *
dec_list(decoder *d, Py_ssize_t count, bool memo)
{
    PyObject *obj = PyList_New(count);
    if (obj == NULL) {
        return NULL;
    }
    PyListObject *list = (PyListObject *)obj;
    Py_SET_SIZE(list, 0);
    if (dec_number(d, memo, obj) < 0) {
        goto error;
    }
    const unsigned char *at = d->at;
    for (Py_ssize_t i = 0; i < count;) {
        if (is_run(*at)) {
            d->at = at;
            Py_ssize_t run =
                dec_list_run(d, obj, Py_SIZE(list) == i && list->allocated >= count);
            if (run < 0) {
                goto error;
            }
            at = d->at;
            i += run;
            continue;
        }
        PyObject *item = dec_item_at(d, &at);
        if (item == NULL) {
            goto error;
        }
        Py_ssize_t size = Py_SIZE(list);
        if (size < list->allocated) {
            list->ob_item[size] = item;
            Py_SET_SIZE(list, size + 1);
        }
        else {
            int rc = PyList_Append(obj, item);
            Py_DECREF(item);
            if (rc < 0) {
                goto error;
            }
        }
        i++;
    }
    d->at = at;
    return obj;
error:
    Py_DECREF(obj);
    return NULL;
}

/* ------------------------------------------------------------------- dicts */

static int
dec_pairs(decoder *d, PyObject *dict, Py_ssize_t count)
{
    for (Py_ssize_t i = 0; i < count; i++) {
        PyObject *key = dec_object(d);
        PyObject *value = key == NULL ? NULL : dec_object(d);
        int rc = value == NULL ? -1 : PyDict_SetItem(dict, key, value);
        Py_XDECREF(key);
        Py_XDECREF(value);
        if (rc < 0) {
            return -1;
        }
    }
    return 0;
}

/* The keys that follow, as the next form. -1 with an exception. */
__attribute__((noinline)) static int
new_form(decoder *d)
{
    if (d->nforms == d->form_room) {
        bool first = d->forms == d->forms_small;
        size_t room = d->form_room * 4;
        dict_form *more = first ? atoll_alloc(room * sizeof(*more))
                                : atoll_realloc(d->forms, room * sizeof(*more));
        if (more == NULL) {
            PyErr_NoMemory();
            return -1;
        }
        if (first) {
            memcpy(more, d->forms_small, sizeof(d->forms_small));
        }
        d->forms = more;
        d->form_room = room;
    }
    PyObject *keys = PyTuple_New(dec_u8(d));
    for (Py_ssize_t i = 0; keys != NULL && i < PyTuple_GET_SIZE(keys); i++) {
        PyObject *key = dec_object(d);
        if (key == NULL) {
            Py_CLEAR(keys);
            break;
        }
        PyTuple_SET_ITEM(keys, i, key);
    }
    dict_form *form = &d->forms[d->nforms];
    if (keys == NULL || layout_form_init(d->state, &form->layout, keys) < 0) {
        Py_XDECREF(keys);
        return -1;
    }
    form->names = keys;
    d->nforms++;
    return 0;
}

/* The values for the keys of a form from `i` on, one by one. */
static int
dec_values(decoder *d, PyObject *dict, size_t form, Py_ssize_t i, Py_ssize_t count)
{
    int rc = 0;
    for (; i < count && rc == 0; i++) {
        if (*d->at == TAG_BREAK) {
            d->at++;
            return dec_pairs(d, dict, count - i);
        }
        PyObject *value = dec_object(d);
        PyObject *key = PyTuple_GET_ITEM(d->forms[form].names, i);
        rc = value == NULL ? -1 : PyDict_SetItem(dict, key, value);
        Py_XDECREF(value);
    }
    return rc;
}

/* A dict is made of a table only if nobody can see it grow: it has no number,
 * or no code of the user's has run so far. */
static inline bool
is_unseen(const decoder *d, bool memo)
{
    return !memo || !d->linked;
}

/* The values into a copy of the form's table, which the dict then gets. */
static int
dec_form_table(decoder *d, PyObject *dict, size_t form, Py_ssize_t count)
{
    layout_keys *keys = layout_form_table(&d->forms[form].layout);
    if (keys == NULL) {
        return -1;
    }
    const unsigned char *at = d->at;
    for (Py_ssize_t i = 0; i < count; i++) {
        if (*at == TAG_BREAK) {
            d->at = at;
            return layout_set_pairs(dict, keys) < 0
                       ? -1
                       : dec_values(d, dict, form, i, count);
        }
        PyObject *value = dec_item_at(d, &at);
        if (value == NULL) {
            layout_drop(keys);
            return -1;
        }
        layout_append(keys, value);
    }
    d->at = at;
    return layout_give(d->state, dict, keys);
}

__attribute__((noinline)) static PyObject *
dec_formed(decoder *d, bool first, bool memo)
{
    /* The dict has its number before its keys have theirs. */
    size_t form = first ? d->nforms : dec_u32(d);
    Py_ssize_t count = first ? *d->at : PyTuple_GET_SIZE(d->forms[form].names);
    bool table = layout_writes(d->state, count) && is_unseen(d, memo);
    PyObject *dict = table ? PyDict_New() : compat_dict_presized(count);
    int rc = dict == NULL ? -1 : dec_number(d, memo, dict);
    if (rc == 0 && first) {
        rc = new_form(d);
    }
    if (rc == 0) {
        table = table && d->forms[form].layout.keys != NULL;
        rc = table ? dec_form_table(d, dict, form, count)
                   : dec_values(d, dict, form, 0, count);
    }
    if (rc < 0) {
        Py_CLEAR(dict);
    }
    return dict;
}

/* Pairs into a table, as long as the keys are str; the rest one by one. Not
 * inline, as others here: what is nested deeply needs small frames. */
__attribute__((noinline)) static int
dec_table(decoder *d, PyObject *dict, Py_ssize_t count)
{
    layout_keys *keys = layout_table(count);
    if (keys == NULL) {
        return -1;
    }
    for (Py_ssize_t i = 0; i < count; i++) {
        PyObject *key, *value = NULL;
        Py_hash_t hash = -1;
        if (*d->at == TAG_KEY8) {
            d->at++;
            key = dec_key(d);
        }
        else {
            key = dec_object(d);
        }
        bool is_str = key != NULL && PyUnicode_CheckExact(key);
        if (is_str) {
            hash = compat_str_hash(key);
            hash = hash == -1 ? PyObject_Hash(key) : hash;
        }
        value = key == NULL ? NULL : dec_item(d);
        if (value == NULL) {
            Py_XDECREF(key);
            layout_drop(keys);
            return -1;
        }
        if (is_str && layout_put(keys, key, hash, value)) {
            continue;
        }
        int rc = layout_give(d->state, dict, keys);
        rc = rc < 0 ? -1 : PyDict_SetItem(dict, key, value);
        Py_DECREF(key);
        Py_DECREF(value);
        return rc < 0 ? -1 : dec_pairs(d, dict, count - i - 1);
    }
    return layout_give(d->state, dict, keys);
}

/* Can what follows be a str? */
static inline bool
is_str_next(const decoder *d)
{
    int tag = *d->at & ~MEMO;
    return tag == TAG_KEY8 || tag == TAG_ASCII8 || tag == TAG_STR || tag == TAG_REF;
}

static PyObject *
dec_dict(decoder *d, Py_ssize_t count, bool memo)
{
    bool table = layout_writes(d->state, count) && is_unseen(d, memo) && is_str_next(d);
    PyObject *dict = table ? PyDict_New() : compat_dict_presized(count);
    if (dict == NULL || dec_number(d, memo, dict) < 0 ||
        (table ? dec_table(d, dict, count) : dec_pairs(d, dict, count)) < 0) {
        Py_CLEAR(dict);
    }
    return dict;
}

static PyObject *
dec_frozendict(decoder *d, Py_ssize_t count, bool memo)
{
#ifdef COMPAT_FROZENDICT
    PyObject *dict = compat_dict_presized(count), *frozen = NULL;
    if (dict != NULL && dec_pairs(d, dict, count) == 0) {
        frozen = PyFrozenDict_New(dict);
    }
    Py_XDECREF(dict);
    return dec_numbered(d, memo, frozen);
#else
    (void)d, (void)count, (void)memo;
    Py_UNREACHABLE(); /* nobody can have sent one */
#endif
}

/* ------------------------------------------------------------------ others */

static PyObject *
dec_set(decoder *d, bool frozen, Py_ssize_t count, bool memo)
{
    PyObject *set = frozen ? PyFrozenSet_New(NULL) : PySet_New(NULL);
    if (set == NULL || dec_number(d, memo && !frozen, set) < 0) {
        Py_XDECREF(set);
        return NULL;
    }
    for (Py_ssize_t i = 0; i < count; i++) {
        PyObject *item = dec_object(d);
        int rc = item == NULL ? -1 : PySet_Add(set, item);
        Py_XDECREF(item);
        if (rc < 0) {
            Py_DECREF(set);
            return NULL;
        }
    }
    return frozen ? dec_numbered(d, memo, set) : set;
}

static PyObject *
dec_slice(decoder *d, bool memo)
{
    PyObject *parts[3] = {NULL, NULL, NULL}, *slice = NULL;
    for (int i = 0; i < 3; i++) {
        parts[i] = dec_object(d);
        if (parts[i] == NULL) {
            break;
        }
    }
    if (parts[2] != NULL) {
        slice = PySlice_New(parts[0], parts[1], parts[2]);
    }
    for (int i = 0; i < 3; i++) {
        Py_XDECREF(parts[i]);
    }
    return dec_numbered(d, memo, slice);
}

PyObject *
dec_container(decoder *d, int tag, bool memo)
{
    switch (tag) {
    case TAG_LIST8:
        return dec_list(d, dec_u8(d), memo);
    case TAG_LIST:
        return dec_list(d, (Py_ssize_t)dec_u64(d), memo);
    case TAG_DICT8:
        return dec_dict(d, dec_u8(d), memo);
    case TAG_DICT:
        return dec_dict(d, (Py_ssize_t)dec_u64(d), memo);
    case TAG_NEW_FORM:
    case TAG_FORM:
        return dec_formed(d, tag == TAG_NEW_FORM, memo);
    case TAG_FROZENDICT:
        return dec_frozendict(d, (Py_ssize_t)dec_u64(d), memo);
    case TAG_SET:
    case TAG_FROZENSET:
        return dec_set(d, tag == TAG_FROZENSET, (Py_ssize_t)dec_u64(d), memo);
    case TAG_SLICE:
        return dec_slice(d, memo);
    case TAG_MEMORY:
    case TAG_VIEW:
    case TAG_MOVED:
    case TAG_FD: {
        PyObject *obj = wire_decode_tag(d, tag);
        if (obj != NULL && dec_number(d, memo, obj) < 0) {
            Py_CLEAR(obj);
        }
        return obj;
    }
    default:
        return dec_other(d, tag, memo);
    }
}
