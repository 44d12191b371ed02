/* Encoding the built-in containers, whose items may change them under way. */
#include "cpython/version.h"
#include "wire/encode/encoder.h"

/* -------------------------------------------------------------- containers */

/* A container's tag and how many items follow. Returns where the number is, as
 * an offset, for the case that they get fewer; -1 with an exception. */
static Py_ssize_t
enc_head(encoder *e, int small, int large, int memo, Py_ssize_t count)
{
    uint64_t n = (uint64_t)count;
    bool fits = small != 0 && count <= UINT8_MAX;
    if (fits ? enc_put(e, small | memo, &(uint8_t){(uint8_t)count}, 1) < 0
             : enc_put(e, large | memo, &n, sizeof(n)) < 0) {
        return -1;
    }
    return enc_offset(e) - (fits ? 1 : (Py_ssize_t)sizeof(n));
}

/* Numbers in a row are worth a tag of their own from this many on. */
#define RUN_MIN 3

/* Make the n ints of 32 bits at `at` ints of 64 bits, in place. */
static void
enc_widen(unsigned char *at, Py_ssize_t n)
{
    while (n-- > 0) {
        int32_t narrow;
        memcpy(&narrow, at + (size_t)n * sizeof(narrow), sizeof(narrow));
        int64_t wide = narrow;
        memcpy(at + (size_t)n * sizeof(wide), &wide, sizeof(wide));
    }
}

/* If a run of ints begins at items[0], append it, in 32 bits each if that is
 * enough for all. One pass: to look at each object is what takes the time. */
static Py_ssize_t
enc_int_run(encoder *e, PyObject *const *items, Py_ssize_t left)
{
    int64_t value;
    for (int i = 0; i < RUN_MIN; i++) {
        if (i >= left || !PyLong_CheckExact(items[i]) ||
            !compat_int64(items[i], &value)) {
            return 0;
        }
    }
    uint32_t count = 0;
    size_t head = 1 + sizeof(count);
    unsigned char *start = enc_reserve(e, head + (size_t)left * sizeof(int64_t));
    if (start == NULL) {
        return -1;
    }
    unsigned char *at = start + head;
    Py_ssize_t n = 0;
    bool wide = false;
    for (; n < left && PyLong_CheckExact(items[n]) && compat_int64(items[n], &value);
         n++) {
        int32_t narrow = (int32_t)value;
        if (!wide && value != narrow) {
            enc_widen(start + head, n);
            at = start + head + (size_t)n * sizeof(value);
            wide = true;
        }
        if (wide) {
            memcpy(at, &value, sizeof(value));
            at += sizeof(value);
        }
        else {
            memcpy(at, &narrow, sizeof(narrow));
            at += sizeof(narrow);
        }
    }
    count = (uint32_t)n;
    start[0] = wide ? TAG_WIDE_INTS : TAG_INTS;
    memcpy(start + 1, &count, sizeof(count));
    e->at = at; /* give back what was not needed */
    return n;
}

static Py_ssize_t
enc_float_run(encoder *e, PyObject *const *items, Py_ssize_t left)
{
    Py_ssize_t n = 0;
    while (n < left && PyFloat_CheckExact(items[n])) {
        n++;
    }
    if (n < RUN_MIN) {
        return 0;
    }
    uint32_t count = (uint32_t)n;
    unsigned char *at = enc_reserve(e, 1 + sizeof(count) + count * sizeof(double));
    if (at == NULL) {
        return -1;
    }
    at[0] = TAG_FLOATS;
    memcpy(at + 1, &count, sizeof(count));
    at += 1 + sizeof(count);
    for (Py_ssize_t i = 0; i < n; i++, at += sizeof(double)) {
        double value = PyFloat_AS_DOUBLE(items[i]);
        memcpy(at, &value, sizeof(value));
    }
    return n;
}

/* If a run of numbers begins at items[0], append it; returns its length, 0 if
 * it is none, -1 with an exception. Runs no code. */
static inline Py_ssize_t
enc_run_at(encoder *e, unsigned char **at, PyObject *const *items, Py_ssize_t left)
{
    bool is_int = PyLong_CheckExact(items[0]);
    if (left < RUN_MIN || (!is_int && !PyFloat_CheckExact(items[0]))) {
        return 0;
    }
    left = left < UINT32_MAX ? left : UINT32_MAX;
    e->at = *at;
    Py_ssize_t run =
        is_int ? enc_int_run(e, items, left) : enc_float_run(e, items, left);
    *at = e->at;
    return run;
}

/* Entered when it comes to the first item that is no atom: many have none. */
int
enc_tuple(encoder *e, PyObject *obj, int memo)
{
    Py_ssize_t count = PyTuple_GET_SIZE(obj), run = 0;
    if (enc_head(e, TAG_TUPLE8, TAG_TUPLE, memo, count) < 0) {
        return -1;
    }
    PyObject *const *items = ((PyTupleObject *)obj)->ob_item;
    unsigned char *at = e->at;
    bool entered = false;
    for (Py_ssize_t i = 0; i < count && run >= 0; i += run) {
        run = enc_run_at(e, &at, items + i, count - i);
        if (run == 0) {
            run = enc_quick_at(e, &at, items[i]);
        }
        if (run == 0) {
            entered = entered || enc_enter() == 0;
            run = entered && enc_compound(e, items[i]) == 0 ? 1 : -1;
            at = e->at;
        }
        if (run < 0) {
            enc_path(e, "[%zd]", i);
        }
    }
    if (entered) {
        Py_LeaveRecursiveCall();
    }
    e->at = at;
    return run < 0 ? -1 : 0;
}

/* The items that are there when their turn comes, but no more than there were:
 * code of an item's may change the list. */
static int
enc_list(encoder *e, PyObject *obj, int memo)
{
    Py_ssize_t count = PyList_GET_SIZE(obj), i = 0;
    Py_ssize_t where = enc_head(e, TAG_LIST8, TAG_LIST, memo, count);
    if (where < 0) {
        return -1;
    }
    unsigned char *at = e->at;
    while (i < count && i < PyList_GET_SIZE(obj)) {
        PyObject **items = ((PyListObject *)obj)->ob_item + i;
        Py_ssize_t left = PyList_GET_SIZE(obj) - i;
        Py_ssize_t run = enc_run_at(e, &at, items, left < count - i ? left : count - i);
        if (run == 0) {
            run = enc_item_at(e, &at, *items) < 0 ? -1 : 1;
        }
        if (run < 0) {
            enc_path(e, "[%zd]", i);
            return -1;
        }
        i += run;
    }
    e->at = at;
    if (i < count) {
        enc_patch(e, where, count <= UINT8_MAX, i);
    }
    return 0;
}

/* Can its encoding run code? */
static inline bool
is_quiet(PyObject *obj)
{
    return PyUnicode_CheckExact(obj) || PyLong_CheckExact(obj) ||
           PyFloat_CheckExact(obj) || obj == Py_None || PyBool_Check(obj);
}

static int
enc_raise_changed(void)
{
    PyErr_SetString(PyExc_RuntimeError, "a dictionary changed while it was sent");
    return -1;
}

/* A value that may run code, and its key, are held meanwhile. It is none that
 * enc_quick() knows. */
static int
enc_loud_value(encoder *e, PyObject *dict, PyObject *key, PyObject *value,
               Py_ssize_t count)
{
    Py_INCREF(key);
    int rc = enc_compound(e, value); /* which holds it */
    if (rc < 0) {
        enc_path(e, "[%.80R]", key);
    }
    Py_DECREF(key);
    return rc == 0 && PyDict_GET_SIZE(dict) != count ? enc_raise_changed() : rc;
}

static int
enc_value(encoder *e, PyObject *dict, PyObject *key, PyObject *value, Py_ssize_t count)
{
    int done = enc_quick(e, value);
    return done == 0 ? enc_loud_value(e, dict, key, value, count) : done < 0 ? -1 : 0;
}

/* A pair whose key may run code: both are held. */
static int
enc_loud_pair(encoder *e, PyObject *dict, PyObject *key, PyObject *value,
              Py_ssize_t count)
{
    Py_INCREF(key);
    Py_INCREF(value);
    int rc = enc_object(e, key);
    if (rc < 0) {
        enc_path(e, " key");
    }
    else {
        rc = enc_value(e, dict, key, value, count);
    }
    Py_DECREF(value);
    Py_DECREF(key);
    return rc;
}

/* A key that is a str goes with its hash, which is the same in all interpreters
 * of a process and takes as long to compute as the rest of the decoding. */
static int
enc_key(encoder *e, PyObject *key)
{
    int memo = 0, known = Py_REFCNT(key) == 1 ? 0 : enc_memo(e, key, &memo);
    if (known != 0) {
        return known < 0 ? -1 : 0;
    }
    size_t length = (size_t)PyUnicode_GET_LENGTH(key);
    int64_t hash = compat_str_hash(key);
    if (length > UINT8_MAX || length < 2 || hash == -1 ||
        !PyUnicode_IS_COMPACT_ASCII(key)) {
        return enc_str(e, key, memo);
    }
    unsigned char *at = enc_reserve(e, 2 + sizeof(hash) + length);
    if (at == NULL) {
        return -1;
    }
    at[0] = (unsigned char)(TAG_KEY8 | memo);
    at[1] = (unsigned char)length;
    memcpy(at + 2, &hash, sizeof(hash));
    memcpy(at + 2 + sizeof(hash), PyUnicode_1BYTE_DATA(key), length);
    return 0;
}

static int
enc_pair(encoder *e, PyObject *dict, PyObject *key, PyObject *value, Py_ssize_t count)
{
    if (PyUnicode_CheckExact(key)) {
        return enc_key(e, key) < 0 ? -1 : enc_value(e, dict, key, value, count);
    }
    if (!is_quiet(key)) {
        return enc_loud_pair(e, dict, key, value, count);
    }
    return enc_object(e, key) < 0 ? -1 : enc_value(e, dict, key, value, count);
}

static int
enc_pairs(encoder *e, PyObject *obj, Py_ssize_t count)
{
    PyObject *key, *value;
    Py_ssize_t at = 0, done = 0;
    while (layout_next(e->state, obj, &at, &key, &value)) {
        if (done++ == count) {
            break; /* keys were exchanged: it may never end */
        }
        if (enc_pair(e, obj, key, value, count) < 0) {
            return -1;
        }
    }
    return done == count ? 0 : enc_raise_changed();
}

/* Dicts with the same keys, as the records of a document have them: the keys
 * are written once, and then only values. A shape is made when its first key
 * and its length are met for the second time. */
static form *
form_of(encoder *e, PyObject *first, Py_ssize_t count)
{
    if (!e->forms_used) {
        e->forms_used = true;
        memset(e->forms, 0, sizeof(e->forms));
    }
    uint64_t mixed =
        (((uintptr_t)first >> 4) + (uint64_t)count) * UINT64_C(0x9E3779B97F4A7C15);
    /* One of some places: which are the same is an accident of addresses, and
     * two forms that put each other out are none. */
    form *place = NULL;
    int best = -1;
    for (size_t i = 0; i < FORM_PLACES; i++) {
        form *f = &e->forms[((mixed >> 60) + i) % ENC_FORMS];
        if (f->first == first && f->count == count) {
            return f;
        }
        int good = f->first == NULL ? 2 : f->keys == NULL;
        if (good > best) {
            best = good;
            place = f;
        }
    }
    return place;
}

/* The keys of a dict as a new form: they are all str, else -2. */
static int
enc_new_form(encoder *e, form *f, PyObject *dict, Py_ssize_t count, int memo)
{
    PyObject *key, *value, *keys = PyTuple_New(count);
    Py_ssize_t at = 0, i = 0;
    if (keys == NULL) {
        return -1;
    }
    while (i < count && layout_next(e->state, dict, &at, &key, &value)) {
        if (!PyUnicode_CheckExact(key)) {
            Py_DECREF(keys);
            return -2;
        }
        PyTuple_SET_ITEM(keys, i++, Py_NewRef(key));
    }
    Py_XSETREF(f->keys, keys);
    f->number = e->nforms++;
    if (enc_put(e, TAG_NEW_FORM | memo, &(uint8_t){(uint8_t)count}, 1) < 0) {
        return -1;
    }
    for (i = 0; i < count; i++) {
        if (enc_object(e, PyTuple_GET_ITEM(keys, i)) < 0) {
            return -1;
        }
    }
    return 0;
}

/* The values from `at` on, as long as the keys are those of the form; then the
 * rest as pairs. (They may well differ after the first; and they may change.) */
static int
enc_formed_from(encoder *e, PyObject *dict, Py_ssize_t count, PyObject *keys,
                Py_ssize_t at, Py_ssize_t done)
{
    PyObject *key, *value;
    bool same = true;
    while (layout_next(e->state, dict, &at, &key, &value)) {
        if (done == count) {
            return enc_raise_changed();
        }
        if (same && key != PyTuple_GET_ITEM(keys, done)) {
            same = false;
            if (enc_tag(e, TAG_BREAK) < 0) {
                return -1;
            }
        }
        int rc = same ? enc_quick(e, value) : enc_pair(e, dict, key, value, count);
        if (same && rc == 0) {
            rc = enc_loud_value(e, dict, key, value, count);
        }
        if (rc < 0) {
            return -1;
        }
        done++;
    }
    return done == count ? 0 : enc_raise_changed();
}

/* The same from the beginning, as fast as can be. In a table without gaps, the
 * index of a pair is its place in the order. */
static int
enc_formed(encoder *e, PyObject *dict, Py_ssize_t count, PyObject *keys)
{
    PyObject *const *expected = ((PyTupleObject *)keys)->ob_item;
    const layout_pair *pairs = layout_pairs(e->state, dict);
    Py_ssize_t i = 0;
    unsigned char *at = e->at;
    while (i < count && pairs != NULL && pairs[i].key == expected[i]) {
        PyObject *value = pairs[i].value;
        int done = enc_quick_at(e, &at, value);
        if (done == 0) {
            done = enc_loud_value(e, dict, expected[i], value, count);
            pairs = layout_pairs(e->state, dict); /* another table, maybe */
            at = e->at;
        }
        if (done < 0) {
            return -1;
        }
        i++;
    }
    e->at = at;
    return i == count ? 0 : enc_formed_from(e, dict, count, keys, i, i);
}

static int
enc_dict(encoder *e, PyObject *obj, int memo)
{
    Py_ssize_t count = PyDict_GET_SIZE(obj), at = 0;
    PyObject *first, *value;
    if (count >= FORM_MIN && count <= FORM_MAX &&
        layout_next(e->state, obj, &at, &first, &value)) {
        form *f = form_of(e, first, count);
        if (f->first != first || f->count != count) {
            f->first = first; /* an address to compare with */
            f->count = count;
            Py_CLEAR(f->keys);
        }
        else {
            int rc = 0;
            if (f->keys == NULL) {
                rc = enc_new_form(e, f, obj, count, memo);
            }
            else {
                rc = enc_put(e, TAG_FORM | memo, &f->number, sizeof(f->number));
            }
            if (rc != -2) {
                /* Held: what is inside may put another form in its place. */
                PyObject *keys = Py_XNewRef(f->keys);
                rc = rc < 0 ? -1 : enc_formed(e, obj, count, keys);
                Py_XDECREF(keys);
                return rc;
            }
        }
    }
    return enc_head(e, TAG_DICT8, TAG_DICT, memo, count) < 0 ? -1
                                                             : enc_pairs(e, obj, count);
}

static int
enc_set(encoder *e, PyObject *obj, int tag, int memo)
{
    Py_ssize_t count = PySet_GET_SIZE(obj), done = 0;
    if (enc_head(e, 0, tag, memo, count) < 0) {
        return -1;
    }
    PyObject *iter = PyObject_GetIter(obj);
    PyObject *item = NULL;
    int rc = iter == NULL ? -1 : 0;
    while (rc == 0 && (item = PyIter_Next(iter)) != NULL) {
        /* The iterator complains if the set changes. */
        rc = enc_object(e, item);
        if (rc < 0) {
            enc_path(e, " item");
        }
        Py_DECREF(item);
        done++;
    }
    Py_XDECREF(iter);
    if (rc == 0 && !PyErr_Occurred() && done != count) {
        PyErr_SetString(PyExc_RuntimeError, "set changed while it was sent");
    }
    return rc < 0 || PyErr_Occurred() ? -1 : 0;
}

static int
enc_slice(encoder *e, PyObject *obj, int memo)
{
    PySliceObject *slice = (PySliceObject *)obj;
    if (enc_tag(e, TAG_SLICE | memo) < 0 || enc_object(e, slice->start) < 0 ||
        enc_object(e, slice->stop) < 0 || enc_object(e, slice->step) < 0) {
        return -1;
    }
    return 0;
}

int
enc_container(encoder *e, PyObject *obj, PyTypeObject *type, int memo)
{
    if (type == &PyDict_Type) {
        return enc_dict(e, obj, memo);
    }
    if (type == &PyList_Type) {
        return enc_list(e, obj, memo);
    }
    if (type == &PySet_Type || type == &PyFrozenSet_Type) {
        return enc_set(e, obj, type == &PySet_Type ? TAG_SET : TAG_FROZENSET, memo);
    }
#ifdef COMPAT_FROZENDICT
    if (type == &PyFrozenDict_Type) {
        Py_ssize_t count = PyDict_GET_SIZE(obj);
        return enc_head(e, 0, TAG_FROZENDICT, memo, count) < 0
                   ? -1
                   : enc_pairs(e, obj, count);
    }
#endif
    return enc_slice(e, obj, memo);
}
