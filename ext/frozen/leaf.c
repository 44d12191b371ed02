/* Freezing what has no parts: equal str and bytes once, equal numbers mostly. */
#include "frozen/builder.h"

#include <stddef.h>

void *
frozen_take(builder *b, size_t size, int kind)
{
    void *to = frozen_alloc(b->graph, size, kind);
    if (to == NULL) {
        PyErr_NoMemory();
    }
    return to;
}

int
frozen_take_over(builder *b, PyObject *src)
{
    bool was_list;
    frozen_graph *g = compat_is_immortal(src) ? frozen_owner(src, &was_list) : NULL;
    if (g == NULL) {
        return 0;
    }
    if (frozen_use(b->graph, g) != ATOLL_OK) {
        PyErr_NoMemory();
        return -1;
    }
    return 1;
}

static bool
same_text(PyObject *a, PyObject *b)
{
    if (a == b) {
        return true;
    }
    if (Py_TYPE(a) != Py_TYPE(b)) {
        return false;
    }
    if (PyUnicode_CheckExact(a)) {
        return PyUnicode_GET_LENGTH(a) == PyUnicode_GET_LENGTH(b) &&
               PyUnicode_KIND(a) == PyUnicode_KIND(b) &&
               memcmp(PyUnicode_DATA(a), PyUnicode_DATA(b),
                      (size_t)PyUnicode_GET_LENGTH(a) * (size_t)PyUnicode_KIND(a)) == 0;
    }
    return PyBytes_GET_SIZE(a) == PyBytes_GET_SIZE(b) &&
           memcmp(PyBytes_AS_STRING(a), PyBytes_AS_STRING(b),
                  (size_t)PyBytes_GET_SIZE(a)) == 0;
}

static text_slot *
text_slot_of(const builder *b, PyObject *text, uint32_t hash)
{
    for (size_t i = hash;; i++) {
        text_slot *slot = &b->texts[i & b->text_mask];
        if (slot->number == 0 ||
            (slot->hash == hash && same_text(b->text_list[slot->number - 1], text))) {
            return slot;
        }
    }
}

static void
drop_texts(builder *b)
{
    if (b->texts != NULL) {
        frozen_table_free(b->texts, (b->text_mask + 1) * sizeof(*b->texts));
    }
}

/* Make room for one more. A large table is not made larger than it has to be: all of
 * it is cleared, and its parts are far apart. */
static int
grow_texts(builder *b)
{
    text_slot *old = b->texts;
    size_t count = old == NULL ? 0 : b->text_mask + 1;
    size_t room = count == 0 ? 64 : count < 1 << 16 ? 4 * count : 2 * count;
    PyObject **list = NULL;
    text_slot *more = NULL;
    if (room <= (size_t)UINT32_MAX + 1) {
        list = atoll_realloc(b->text_list, room * sizeof(*list));
    }
    if (list != NULL) {
        b->text_list = list;
        more = frozen_table(room * sizeof(*more));
    }
    if (more == NULL) {
        PyErr_NoMemory();
        return -1;
    }
    for (size_t i = 0; i < count; i++) {
        if (old[i].number != 0) {
            size_t at = old[i].hash;
            while (more[at & (room - 1)].number != 0) {
                at++;
            }
            more[at & (room - 1)] = old[i];
        }
    }
    drop_texts(b);
    b->texts = more;
    b->text_mask = room - 1;
    return 0;
}

#define LARGE 1024 /* shorter texts are not worth a whole graph that stays */

/* A str or bytes that the graph has not got so far. NULL with an exception. */
static PyObject *
new_text(builder *b, PyObject *src, Py_hash_t hash)
{
    bool is_str = PyUnicode_CheckExact(src);
    PyObject *own = is_str ? frozen_own_str(src, hash) : NULL;
    own = own == NULL ? frozen_own_char(src) : own;
    if (own != NULL) {
        return own;
    }
    size_t size = is_str ? frozen_str_size(src) : frozen_bytes_size(src);
    if (size >= LARGE) {
        int taken = frozen_take_over(b, src);
        if (taken != 0) {
            return taken < 0 ? NULL : src;
        }
    }
    void *to = frozen_take(b, size, CHUNKS_PLAIN);
    return to == NULL ? NULL
           : is_str   ? frozen_write_str(to, src, hash)
                      : frozen_write_bytes(to, src, hash);
}

PyObject *
frozen_text(builder *b, PyObject *src)
{
    Py_hash_t hash = PyObject_Hash(src);
    if (hash == -1 || (3 * b->ntexts >= 2 * b->text_mask && grow_texts(b) < 0)) {
        return NULL;
    }
    text_slot *slot = text_slot_of(b, src, (uint32_t)hash);
    if (slot->number != 0) {
        return b->text_list[slot->number - 1];
    }
    PyObject *obj = new_text(b, src, hash);
    if (obj != NULL) {
        b->text_list[b->ntexts++] = obj;
        *slot = (text_slot){(uint32_t)hash, (uint32_t)b->ntexts};
    }
    return obj;
}

/* Where a number with these bits is remembered. NULL with MemoryError. */
static number_slot *
number_slot_of(builder *b, uint64_t bits)
{
    if (b->numbers == NULL) {
        b->numbers = atoll_alloc(NUMBERS * sizeof(*b->numbers));
        if (b->numbers == NULL) {
            PyErr_NoMemory();
            return NULL;
        }
        memset(b->numbers, 0, NUMBERS * sizeof(*b->numbers));
    }
    uint64_t mixed = bits * UINT64_C(0x9E3779B97F4A7C15);
    return &b->numbers[mixed >> 54]; /* the topmost bits are the best */
}

static PyObject *
new_number(builder *b, PyObject *src, PyTypeObject *type)
{
    bool is_int = type == &PyLong_Type, is_float = type == &PyFloat_Type;
    void *to = frozen_take(b,
                           is_int     ? frozen_int_size(src)
                           : is_float ? frozen_float_size()
                                      : frozen_complex_size(),
                           CHUNKS_PLAIN);
    return to == NULL ? NULL
           : is_int   ? frozen_write_int(to, src)
           : is_float ? frozen_write_float(to, PyFloat_AS_DOUBLE(src))
                      : frozen_write_complex(to, ((PyComplexObject *)src)->cval);
}

/* Equal ones mostly become one. A NaN is equal to nothing, but itself in a
 * container: two of them stay two, and one stays one. */
PyObject *
frozen_number(builder *b, PyObject *src, PyTypeObject *type)
{
    number_slot *slot = NULL;
    int64_t value;
    uint64_t bits = 0;
    if (type == &PyLong_Type && compat_int64(src, &value)) {
        PyObject *own = frozen_own_int(src);
        if (own != NULL) {
            return own;
        }
        bits = (uint64_t)value;
        slot = number_slot_of(b, bits);
    }
    else if (type == &PyFloat_Type) {
        double number = PyFloat_AS_DOUBLE(src);
        if (number == number) {
            memcpy(&bits, &number, sizeof(bits));
            slot = number_slot_of(b, bits);
        }
    }
    if (slot == NULL && PyErr_Occurred()) {
        return NULL;
    }
    if (slot != NULL && slot->obj != NULL && slot->bits == bits &&
        Py_TYPE(slot->obj) == type) {
        return slot->obj;
    }
    bool shared = Py_REFCNT(src) > 1;
    PyObject *obj = shared ? frozen_map_get(&b->memo, src) : NULL;
    if (obj == NULL) {
        obj = new_number(b, src, type);
        if (obj == NULL || (shared && frozen_remember(b, src, obj) < 0)) {
            return NULL;
        }
    }
    if (slot != NULL) {
        *slot = (number_slot){bits, obj};
    }
    return obj;
}

#define LINE ((size_t)64) /* of a cache: what arrays are best aligned to */

PyObject *
frozen_write_buffer(builder *b, PyObject *view)
{
    const Py_buffer *buffer = PyMemoryView_GET_BUFFER(view);
    PyObject *base = buffer->obj;
    if (base != NULL && PyBytes_CheckExact(base) &&
        buffer->buf == PyBytes_AS_STRING(base) &&
        buffer->len == PyBytes_GET_SIZE(base)) {
        int taken = frozen_take_over(b, base);
        if (taken != 0) {
            return taken < 0 ? NULL : base;
        }
    }
    if (buffer->len > PY_SSIZE_T_MAX - 4096) {
        PyErr_NoMemory();
        return NULL;
    }
    size_t size = frozen_data_size(buffer->len);
    char *to = frozen_take(b, size + LINE, CHUNKS_PLAIN);
    if (to == NULL) {
        return NULL;
    }
    to += -(uintptr_t)(to + offsetof(PyBytesObject, ob_sval)) % LINE;
    return frozen_write_data(to, buffer->buf, buffer->len);
}

void
frozen_leaves_fini(builder *b)
{
    drop_texts(b);
    atoll_free(b->text_list);
    atoll_free(b->numbers);
}
