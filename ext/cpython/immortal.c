/* Immortal objects in memory of ours. See cpython/immortal.h. */
#include "cpython/immortal.h"

typedef struct frozen_dict {
    PyObject_HEAD
    Py_ssize_t used;
    uint64_t watched; /* 0: by nobody; 3.13: and no version */
    void *keys;
    void *values; /* NULL: they are in the table */
} frozen_dict;

/* The entry of a table whose keys are anything. */
typedef struct general_entry {
    Py_hash_t hash;
    PyObject *key, *value;
} general_entry;

#ifdef COMPAT_FROZENDICT
typedef struct frozen_frozendict {
    frozen_dict dict;
    Py_hash_t hash;
} frozen_frozendict;
#endif

#ifdef FROZEN_KNOWN
static_assert(sizeof(PyObject) == 16, "PyObject");
static_assert(sizeof(void *) == 8 && sizeof(Py_hash_t) == 8, "64 bits");
static_assert(sizeof(frozen_dict) == sizeof(PyDictObject), "PyDictObject");
static_assert(offsetof(frozen_dict, keys) == offsetof(PyDictObject, ma_keys),
              "PyDictObject");
static_assert(offsetof(frozen_dict, values) == offsetof(PyDictObject, ma_values),
              "PyDictObject");
static_assert(sizeof(PySliceObject) == 16 + 3 * 8, "PySliceObject");
static_assert(offsetof(PyLongObject, long_value.ob_digit) == 24, "PyLongObject");
static_assert(sizeof(digit) == 4 && PyLong_SHIFT == 30, "digit");
static_assert(sizeof(PyASCIIObject) == 40, "PyASCIIObject");
static_assert(sizeof(PyCompactUnicodeObject) == 56, "PyCompactUnicodeObject");
static_assert(offsetof(PyBytesObject, ob_sval) == 32, "PyBytesObject");
#endif

static size_t
immortal_rounded(size_t size)
{
    return (size + 7) & ~(size_t)7;
}

static PyObject *
immortal_head(void *to, PyTypeObject *type)
{
    PyObject *obj = to;
    obj->ob_type = type;
    compat_make_immortal(obj);
    return obj;
}

static PyObject *
container_head(void *to, PyTypeObject *type)
{
    return immortal_head((char *)to + FROZEN_HEAD, type);
}

/* ----------------------------------------------------------------- numbers */

size_t
frozen_int_size(PyObject *src)
{
    size_t size = offsetof(PyLongObject, long_value.ob_digit) +
                  compat_int_digits(src) * sizeof(digit);
    return immortal_rounded(size < sizeof(PyLongObject) ? sizeof(PyLongObject) : size);
}

PyObject *
frozen_write_int(void *to, PyObject *src)
{
    PyObject *obj = immortal_head(to, &PyLong_Type);
    compat_int_copy(obj, src);
    return obj;
}

PyObject *
frozen_write_float(void *to, double value)
{
    PyObject *obj = immortal_head(to, &PyFloat_Type);
    ((PyFloatObject *)obj)->ob_fval = value;
    return obj;
}

PyObject *
frozen_write_complex(void *to, Py_complex value)
{
    PyObject *obj = immortal_head(to, &PyComplex_Type);
    ((PyComplexObject *)obj)->cval = value;
    return obj;
}

PyObject *
frozen_own_int(PyObject *src)
{
    int64_t value;
    if (!compat_int64(src, &value) || value < -64 || value > 4096) {
        return NULL;
    }
    PyObject *own = PyLong_FromLongLong(value);
    if (own == NULL) {
        PyErr_Clear();
        return NULL;
    }
    bool immortal = compat_is_immortal(own);
    Py_DECREF(own);
    return immortal ? own : NULL;
}

/* ----------------------------------------------------------------- strings */

/* How long it is as UTF-8; 0: it has none. */
static size_t
utf8_length(PyObject *src)
{
    int kind = PyUnicode_KIND(src);
    const void *data = PyUnicode_DATA(src);
    Py_ssize_t length = PyUnicode_GET_LENGTH(src);
    size_t size = 0;
    for (Py_ssize_t i = 0; i < length; i++) {
        Py_UCS4 c = PyUnicode_READ(kind, data, i);
        if (c >= 0xD800 && c <= 0xDFFF) {
            return 0;
        }
        size += c < 0x80 ? 1 : c < 0x800 ? 2 : c < 0x10000 ? 3 : 4;
    }
    return size;
}

static void
write_utf8(unsigned char *to, PyObject *src)
{
    int kind = PyUnicode_KIND(src);
    const void *data = PyUnicode_DATA(src);
    Py_ssize_t length = PyUnicode_GET_LENGTH(src);
    for (Py_ssize_t i = 0; i < length; i++) {
        Py_UCS4 c = PyUnicode_READ(kind, data, i);
        if (c < 0x80) {
            *to++ = (unsigned char)c;
            continue;
        }
        int more = c < 0x800 ? 1 : c < 0x10000 ? 2 : 3;
        static const unsigned char first[] = {0, 0xC0, 0xE0, 0xF0};
        *to++ = (unsigned char)(first[more] | c >> (6 * more));
        while (more-- > 0) {
            *to++ = (unsigned char)(0x80 | (c >> (6 * more) & 0x3F));
        }
    }
}

/* Its head and characters. */
static size_t
str_body(PyObject *src)
{
    size_t head_size = PyUnicode_IS_ASCII(src) ? sizeof(PyASCIIObject)
                                               : sizeof(PyCompactUnicodeObject);
    return head_size +
           ((size_t)PyUnicode_GET_LENGTH(src) + 1) * (size_t)PyUnicode_KIND(src);
}

size_t
frozen_str_size(PyObject *src)
{
    size_t size = str_body(src);
    if (!PyUnicode_IS_ASCII(src)) {
        size_t utf8 = utf8_length(src);
        size += utf8 == 0 ? 0 : utf8 + 1;
    }
    return immortal_rounded(size);
}

PyObject *
frozen_write_str(void *to, PyObject *src, Py_hash_t hash)
{
    PyASCIIObject *obj = (PyASCIIObject *)immortal_head(to, &PyUnicode_Type);
    bool ascii = PyUnicode_IS_ASCII(src);
    int kind = PyUnicode_KIND(src);
    obj->length = PyUnicode_GET_LENGTH(src);
    obj->hash = hash;
    obj->state.interned = SSTATE_INTERNED_IMMORTAL_STATIC;
    obj->state.kind = (unsigned)kind & 7;
    obj->state.compact = 1;
    obj->state.ascii = ascii;
    obj->state.statically_allocated = 1;
    char *data =
        (char *)to + (ascii ? sizeof(PyASCIIObject) : sizeof(PyCompactUnicodeObject));
    memcpy(data, PyUnicode_DATA(src), (size_t)obj->length * (size_t)kind);
    size_t utf8 = ascii ? 0 : utf8_length(src);
    if (utf8 > 0) {
        PyCompactUnicodeObject *wide = to;
        wide->utf8 = (char *)to + str_body(src);
        wide->utf8_length = (Py_ssize_t)utf8;
        write_utf8((unsigned char *)wide->utf8, src);
    }
    return (PyObject *)obj;
}

size_t
frozen_data_size(Py_ssize_t size)
{
    return immortal_rounded(offsetof(PyBytesObject, ob_sval) + 1 + (size_t)size);
}

static PyObject *
write_bytes(void *to, const void *data, Py_ssize_t size, Py_hash_t hash)
{
    PyBytesObject *obj = (PyBytesObject *)immortal_head(to, &PyBytes_Type);
    ((PyVarObject *)to)->ob_size = size;
    compat_bytes_set_hash(obj, hash);
    if (size > 0) {
        memcpy(obj->ob_sval, data, (size_t)size);
    }
    return (PyObject *)obj;
}

PyObject *
frozen_write_data(void *to, const void *data, Py_ssize_t size)
{
    return write_bytes(to, data, size, compat_hash_buffer(data, size));
}

size_t
frozen_bytes_size(PyObject *src)
{
    return frozen_data_size(PyBytes_GET_SIZE(src));
}

PyObject *
frozen_write_bytes(void *to, PyObject *src, Py_hash_t hash)
{
    return write_bytes(to, PyBytes_AS_STRING(src), PyBytes_GET_SIZE(src), hash);
}

PyObject *
frozen_own_char(PyObject *src)
{
    PyObject *own = NULL;
    if (PyUnicode_CheckExact(src)) {
        Py_ssize_t length = PyUnicode_GET_LENGTH(src);
        Py_UCS4 c = length == 1 ? PyUnicode_READ_CHAR(src, 0) : 0;
        own = length == 0                ? PyUnicode_New(0, 0)
              : length == 1 && c < 0x100 ? PyUnicode_FromOrdinal((int)c)
                                         : NULL;
    }
    else if (PyBytes_GET_SIZE(src) < 2) {
        own = PyBytes_FromStringAndSize(PyBytes_AS_STRING(src), PyBytes_GET_SIZE(src));
    }
    if (own == NULL) {
        PyErr_Clear();
        return NULL;
    }
    bool immortal = compat_is_immortal(own);
    Py_DECREF(own);
    return immortal ? own : NULL;
}

/* --------------------------------------------------------------- sequences */

size_t
frozen_tuple_size(Py_ssize_t count)
{
    return FROZEN_HEAD + offsetof(PyTupleObject, ob_item) +
           (size_t)count * sizeof(PyObject *);
}

PyObject *
frozen_write_tuple(void *to, Py_ssize_t count)
{
    PyObject *obj = container_head(to, &PyTuple_Type);
    ((PyVarObject *)obj)->ob_size = count;
#if PY_VERSION_HEX >= 0x030E0000
    ((PyTupleObject *)obj)->ob_hash = -1;
#endif
    return obj;
}

size_t
frozen_range_size(void)
{
    return sizeof(frozen_range);
}

PyObject *
frozen_write_range(void *to)
{
    return immortal_head(to, &PyRange_Type); /* no collector knows of ranges */
}

size_t
frozen_slice_size(void)
{
    return FROZEN_HEAD + sizeof(PySliceObject);
}

PyObject *
frozen_write_slice(void *to)
{
    return container_head(to, &PySlice_Type);
}

PyObject **
frozen_parts(PyObject *obj, Py_ssize_t *count)
{
    PyTypeObject *type = Py_TYPE(obj);
    if (type == &PyRange_Type) {
        *count = 4;
        return ((frozen_range *)obj)->parts;
    }
    if (type == &PySlice_Type) {
        *count = 3;
        return &((PySliceObject *)obj)->start;
    }
    *count = Py_SIZE(obj);
    return type == &PyList_Type ? ((PyListObject *)obj)->ob_item
                                : ((PyTupleObject *)obj)->ob_item;
}

bool
frozen_is_empty_tuple(PyObject *obj)
{
    if (Py_TYPE(obj) != &PyTuple_Type || Py_SIZE(obj) != 0) {
        return false;
    }
    PyObject *own = PyTuple_New(0); /* cannot fail: there is one */
    Py_XDECREF(own);
    return own == obj;
}

/* ---------------------------------------------------------------- mappings */

#ifdef COMPAT_FROZENDICT
#define MAPPING_TYPE (&PyFrozenDict_Type)
#define MAPPING_SIZE (FROZEN_HEAD + sizeof(frozen_frozendict))
#else
/* The dict, then the proxy. */
#define MAPPING_TYPE (&PyDictProxy_Type)
#define DICT_SIZE (FROZEN_HEAD + sizeof(frozen_dict))
#define MAPPING_SIZE (DICT_SIZE + FROZEN_HEAD + sizeof(frozen_proxy))
#endif

static int
table_log2(Py_ssize_t count)
{
    int log2_size = 3;
    while (layout_most(log2_size) < (size_t)count) {
        log2_size++;
    }
    return log2_size;
}

/* Numbers in the index are one, two or four bytes wide. */
static int
index_width_log2(int log2_size)
{
    return log2_size < 8 ? 0 : log2_size < 16 ? 1 : 2;
}

static size_t
table_size(int log2_size, bool general)
{
    size_t entry = general ? sizeof(general_entry) : sizeof(layout_pair);
    return sizeof(layout_keys) +
           ((size_t)1 << (log2_size + index_width_log2(log2_size))) +
           layout_most(log2_size) * entry;
}

size_t
frozen_mapping_size(Py_ssize_t count, bool general)
{
    return MAPPING_SIZE + (count == 0 ? 0 : table_size(table_log2(count), general));
}

static layout_keys *
write_table(void *to, Py_ssize_t count, bool general)
{
    int log2_size = table_log2(count);
    layout_keys *keys = to;
    keys->refcount = 1;
    keys->log2_size = (uint8_t)log2_size;
    keys->log2_index_bytes = (uint8_t)(log2_size + index_width_log2(log2_size));
    keys->kind = general ? KEYS_GENERAL : KEYS_UNICODE;
    keys->usable = (Py_ssize_t)layout_most(log2_size);
    memset(keys->index, 0xff, (size_t)1 << keys->log2_index_bytes);
    return keys;
}

PyObject *
frozen_write_mapping(const core_state *state, void *to, Py_ssize_t count, bool general)
{
    void *keys = count == 0 ? state->cpython->layout.empty
                            : write_table((char *)to + MAPPING_SIZE, count, general);
#ifdef COMPAT_FROZENDICT
    PyObject *dict = container_head(to, &PyFrozenDict_Type), *outer = dict;
    ((frozen_frozendict *)dict)->hash = -1;
#else
    PyObject *dict = container_head(to, &PyDict_Type);
    PyObject *outer = container_head((char *)to + DICT_SIZE, &PyDictProxy_Type);
    ((frozen_proxy *)outer)->mapping = dict;
#endif
    ((frozen_dict *)dict)->keys = keys;
    return outer;
}

PyObject *
frozen_mapping_dict(PyObject *mapping)
{
    if (Py_TYPE(mapping) != MAPPING_TYPE) {
        return NULL;
    }
#ifdef COMPAT_FROZENDICT
    return mapping;
#else
    return ((frozen_proxy *)mapping)->mapping;
#endif
}

/* Enter all pairs into the index. In a loop of its own, so that the processor can
 * wait for many of its lines at once; `width` is a constant in each copy. */
__attribute__((always_inline)) static inline void
fill_index(layout_keys *keys, size_t width)
{
    size_t mask = ((size_t)1 << keys->log2_size) - 1;
    const layout_pair *pairs = layout_entries(keys);
    const general_entry *entries = (const void *)pairs;
    bool general = keys->kind == KEYS_GENERAL;
    for (uint32_t n = 0; n < (uint32_t)keys->used; n++) {
        Py_hash_t hash =
            general ? entries[n].hash : ((PyASCIIObject *)pairs[n].key)->hash;
        size_t perturb = (size_t)hash, i = perturb & mask;
        for (;;) {
            uint32_t found = UINT32_MAX;
            memcpy(&found, keys->index + i * width, width); /* all ones: free */
            if (found == UINT32_MAX) {
                break;
            }
            perturb >>= 5;
            i = (i * 5 + perturb + 1) & mask;
        }
        memcpy(keys->index + i * width, &n, width);
    }
}

static void
seal_mapping(PyObject *mapping)
{
    frozen_dict *dict = (frozen_dict *)frozen_mapping_dict(mapping);
    layout_keys *keys = dict->keys;
    if (dict->used == 0) {
        return; /* CPython's own empty table */
    }
    switch (index_width_log2(keys->log2_size)) {
    case 0:
        fill_index(keys, 1);
        break;
    case 1:
        fill_index(keys, 2);
        break;
    default:
        fill_index(keys, 4);
    }
}

void
frozen_mapping_put(PyObject *mapping, PyObject *key, Py_hash_t hash, PyObject *value)
{
    frozen_dict *dict = (frozen_dict *)frozen_mapping_dict(mapping);
    layout_keys *keys = dict->keys;
    layout_pair *pairs = layout_entries(keys);
    if (keys->kind == KEYS_GENERAL) {
        ((general_entry *)(void *)pairs)[keys->used] =
            (general_entry){hash, key, value};
    }
    else {
        pairs[keys->used] = (layout_pair){key, value};
    }
    keys->used++;
    keys->usable--;
    dict->used++;
}

PyObject *const *
frozen_mapping_pairs(PyObject *mapping, Py_ssize_t *count, int *stride)
{
    const frozen_dict *dict = (frozen_dict *)frozen_mapping_dict(mapping);
    layout_keys *keys = dict->keys;
    int general = keys->kind == KEYS_GENERAL;
    *count = dict->used;
    *stride = 2 + general;
    return (PyObject *const *)layout_entries(keys) + general;
}

frozen_probe
frozen_probe_begin(PyObject *mapping, Py_hash_t hash)
{
    const frozen_dict *dict = (frozen_dict *)frozen_mapping_dict(mapping);
    layout_keys *keys = dict->used == 0 ? NULL : dict->keys;
    size_t mask = keys == NULL ? 0 : ((size_t)1 << keys->log2_size) - 1;
    return (frozen_probe){keys, (size_t)hash & mask, (size_t)hash, hash};
}

/* The way of fill_index(). */
PyObject *const *
frozen_probe_next(frozen_probe *p)
{
    const layout_keys *keys = p->keys;
    if (keys == NULL) {
        return NULL;
    }
    size_t mask = ((size_t)1 << keys->log2_size) - 1;
    size_t width = (size_t)1 << (keys->log2_index_bytes - keys->log2_size);
    const layout_pair *pairs = layout_entries(p->keys);
    const general_entry *entries = (const void *)pairs;
    for (;;) {
        uint32_t n = UINT32_MAX;
        const unsigned char *at = keys->index + p->slot * width;
        if (width == 1) {
            n = *at == UINT8_MAX ? n : *at;
        }
        else {
            memcpy(&n, at, width); /* all ones: free */
            if (width == 2) {
                n = (uint16_t)n == UINT16_MAX ? UINT32_MAX : (uint16_t)n;
            }
        }
        if (n == UINT32_MAX) {
            return NULL;
        }
        p->perturb >>= 5;
        p->slot = (p->slot * 5 + p->perturb + 1) & mask;
        if (keys->kind == KEYS_GENERAL) {
            if (entries[n].hash == p->hash) {
                return &entries[n].key;
            }
        }
        else if (((PyASCIIObject *)pairs[n].key)->hash == p->hash) {
            return &pairs[n].key;
        }
    }
}

/* ------------------------------------------------------------------ hashes */

#if PY_VERSION_HEX >= 0x030E0000
/* Has this frozen object a hash? */
static bool
has_hash(PyObject *obj)
{
    PyTypeObject *type = Py_TYPE(obj);
    if (type == &PyTuple_Type) {
        return Py_SIZE(obj) == 0 || ((PyTupleObject *)obj)->ob_hash != -1;
    }
#ifdef COMPAT_FROZENDICT
    if (type == &PyFrozenDict_Type) {
        return ((frozen_frozendict *)obj)->hash != -1;
    }
#endif
    if (type == &PySlice_Type) {
        PySliceObject *slice = (PySliceObject *)obj;
        return has_hash(slice->start) && has_hash(slice->stop) && has_hash(slice->step);
    }
    return type != &PyDictProxy_Type;
}

static bool
parts_have_hashes(PyObject *obj)
{
    PyObject *const *parts = ((PyTupleObject *)obj)->ob_item;
    for (Py_ssize_t i = 0, count = Py_SIZE(obj); i < count; i++) {
        if (!has_hash(parts[i])) {
            return false;
        }
    }
    return true;
}
#endif

#ifdef COMPAT_FROZENDICT
static bool
values_have_hashes(PyObject *dict)
{
    PyObject *key, *value;
    Py_ssize_t at = 0;
    while (PyDict_Next(dict, &at, &key, &value)) {
        if (!has_hash(value)) {
            return false;
        }
    }
    return true;
}
#endif

int
frozen_seal(PyObject *obj)
{
    if (frozen_mapping_dict(obj) != NULL) {
        seal_mapping(obj);
    }
    bool kept = false; /* does the object keep its hash, and is there one? */
#if PY_VERSION_HEX >= 0x030E0000
    kept = Py_TYPE(obj) == &PyTuple_Type && parts_have_hashes(obj);
#endif
#ifdef COMPAT_FROZENDICT
    kept = kept || (Py_TYPE(obj) == &PyFrozenDict_Type && values_have_hashes(obj));
#endif
    return kept && PyObject_Hash(obj) == -1 ? -1 : 0;
}
