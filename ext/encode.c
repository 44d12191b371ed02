/* Python objects to messages: atoms and containers. See xfer.h and encoder.h.
 *
 * A container that nobody else refers to (its count is one, held by its parent)
 * cannot be met a second time, so only objects with more references go into the
 * memo. On a cycle there is always one with two: the one through which the walk
 * came in. */
#include "encoder.h"

#include <stdarg.h>

#include "adopt.h"
#include "chanobj.h"
#include "compat.h"
#include "view.h"

/* ------------------------------------------------------------ the encoder */

static void
encoder_init(encoder *e, core_state *state)
{
    e->state = state;
    e->at = e->onstack;
    e->end = e->onstack + sizeof(e->onstack);
    e->heap = NULL;
    e->handles = e->handles_onstack;
    e->nhandles = 0;
    e->handle_room = ENC_HANDLES;
    e->count = 0;
    e->shapes = 0;
    e->types = NULL;
    e->last_type = NULL;
    e->nforms = 0;
    memset(e->forms, 0, sizeof(e->forms));
    e->path = NULL;
    e->culprit = NULL;
    e->linked = false;
    e->in_exception = false;
    memo_init(&e->memo);
}

void
enc_link(encoder *e)
{
    if (!e->linked) {
        e->linked = true;
        e->thread = PyThread_get_thread_ident();
        e->outer = e->state->encoders;
        e->state->encoders = e;
    }
}

static void
encoder_fini(encoder *e)
{
    if (e->linked) {
        /* Other threads may have come and gone in the list meanwhile: it is
         * not a stack. */
        encoder **link = &e->state->encoders;
        while (*link != e) {
            link = &(*link)->outer;
        }
        *link = e->outer;
    }
    for (size_t i = 0; i < e->nhandles; i++) {
        xfer_handle_unref(e->handles[i].kind, e->handles[i].ptr);
    }
    if (e->handles != e->handles_onstack) {
        atoll_free(e->handles);
    }
    atoll_free(e->heap);
    Py_XDECREF(e->path);
    Py_XDECREF(e->culprit);
    Py_XDECREF(e->types);
    for (size_t i = 0; i < ENC_FORMS; i++) {
        Py_XDECREF(e->forms[i].keys);
    }
    memo_fini(&e->memo); /* last: runs destructors */
}

#define FIRST_HEAP 4096

int
encoder_grow(encoder *e, size_t more)
{
    size_t used = e->heap == NULL ? (size_t)(e->at - e->onstack)
                                  : (size_t)(e->at - e->heap->data);
    size_t room = used * 2 > FIRST_HEAP ? used * 2 : FIRST_HEAP;
    if (more > SIZE_MAX / 4 || used > SIZE_MAX / 4) {
        PyErr_NoMemory();
        return -1;
    }
    if (room < used + more) {
        room = used + more;
    }
    block *heap = atoll_realloc(e->heap, sizeof(block) + room);
    if (heap == NULL) {
        PyErr_NoMemory();
        return -1;
    }
    if (e->heap == NULL) {
        memcpy(heap->data, e->onstack, used);
    }
    e->heap = heap;
    e->at = heap->data + used;
    e->end = heap->data + room;
    return 0;
}

int
enc_handle(encoder *e, xfer_handle_kind kind, void *ptr, uint32_t *index)
{
    if (e->nhandles == e->handle_room) {
        bool first = e->handles == e->handles_onstack;
        size_t room = e->handle_room * 2;
        handle *more = first ? atoll_alloc(room * sizeof(*more))
                             : atoll_realloc(e->handles, room * sizeof(*more));
        if (more == NULL) {
            xfer_handle_unref(kind, ptr);
            PyErr_NoMemory();
            return -1;
        }
        if (first) {
            memcpy(more, e->handles_onstack, sizeof(e->handles_onstack));
        }
        e->handles = more;
        e->handle_room = room;
    }
    *index = (uint32_t)e->nhandles;
    e->handles[e->nhandles++] = (handle){.ptr = ptr, .kind = kind};
    return 0;
}

int
enc_put_handle(encoder *e, int tag, xfer_handle_kind kind, void *ptr)
{
    uint32_t index;
    xfer_handle_ref(kind, ptr);
    if (enc_handle(e, kind, ptr, &index) < 0) {
        return -1;
    }
    return enc_put(e, tag, &index, sizeof(index));
}

int
xfer_note_handle(core_state *state, xfer_handle_kind kind, void *ptr)
{
    unsigned long thread = PyThread_get_thread_ident();
    for (encoder *e = state->encoders; e != NULL; e = e->outer) {
        if (e->thread == thread) {
            uint32_t index;
            xfer_handle_ref(kind, ptr);
            return enc_handle(e, kind, ptr, &index);
        }
    }
    return 0;
}

/* ---------------------------------------------------------------- the memo */

int
enc_known(encoder *e, PyObject *obj)
{
    if (e->memo.slots == NULL) {
        return 0;
    }
    memo_slot *slot = memo_find(&e->memo, obj);
    if (slot->obj == NULL) {
        return 0;
    }
    return enc_put(e, TAG_REF, &slot->index, sizeof(slot->index)) < 0 ? -1 : 1;
}

int
enc_number(encoder *e, PyObject *obj)
{
    if (memo_reserve(&e->memo) < 0) {
        return -1;
    }
    memo_slot *slot = memo_find(&e->memo, obj);
    if (slot->obj == NULL) {
        slot->obj = Py_NewRef(obj);
        e->memo.used++;
    }
    slot->index = e->count++;
    return 0;
}

int
enc_memo(encoder *e, PyObject *obj, int *memo)
{
    if (Py_REFCNT(obj) == 1) {
        *memo = 0;
        return 0;
    }
    if (memo_reserve(&e->memo) < 0) {
        return -1;
    }
    memo_slot *slot = memo_find(&e->memo, obj);
    if (slot->obj != NULL) {
        return enc_put(e, TAG_REF, &slot->index, sizeof(slot->index)) < 0 ? -1
                                                                          : 1;
    }
    slot->obj = Py_NewRef(obj);
    slot->index = e->count++;
    e->memo.used++;
    *memo = MEMO;
    return 0;
}

/* ---------------------------------------------------------------- failures */

void
enc_path(encoder *e, const char *format, ...)
{
    if (e->culprit == NULL) {
        return; /* another kind of failure: it speaks for itself */
    }
    PyObject *exc = PyErr_GetRaisedException();
    va_list args;
    va_start(args, format);
    PyObject *step = PyUnicode_FromFormatV(format, args);
    va_end(args);
    if (e->path == NULL) {
        e->path = PyList_New(0);
    }
    if (step == NULL || e->path == NULL || PyList_Append(e->path, step) < 0) {
        PyErr_Clear(); /* a path with a gap is better than none */
    }
    Py_XDECREF(step);
    PyErr_SetRaisedException(exc);
}

int
enc_refuse(encoder *e, PyObject *obj)
{
    if (e->culprit == NULL) {
        e->culprit = Py_NewRef(obj);
    }
    return -1;
}

/* ------------------------------------------------------------------- atoms */

static int
enc_int(encoder *e, PyObject *obj)
{
    int overflow = 0;
    int64_t value;
    if (!compat_int64(obj, &value)) {
        value = PyLong_AsLongLongAndOverflow(obj, &overflow);
    }
    if (overflow == 0) {
        if (value == (int8_t)value) {
            return enc_put(e, TAG_INT8, &(int8_t){(int8_t)value}, 1);
        }
        if (value == (int32_t)value) {
            return enc_put(e, TAG_INT32, &(int32_t){(int32_t)value}, 4);
        }
        return enc_put(e, TAG_INT, &value, sizeof(value));
    }
    Py_ssize_t size =
        PyLong_AsNativeBytes(obj, NULL, 0, Py_ASNATIVEBYTES_NATIVE_ENDIAN);
    if (size < 0) {
        return -1;
    }
    uint64_t n = (uint64_t)size;
    if (enc_put(e, TAG_BIGINT, &n, sizeof(n)) < 0) {
        return -1;
    }
    unsigned char *at = enc_reserve(e, (size_t)size);
    if (at == NULL) {
        return -1;
    }
    return PyLong_AsNativeBytes(obj, at, size,
                                Py_ASNATIVEBYTES_NATIVE_ENDIAN) < 0
               ? -1
               : 0;
}

/* What is too large for the block: one copy here, none in the receiver. */
static int
enc_blob(encoder *e, adopt_blob *blob, int memo)
{
    uint32_t index;
    if (blob == NULL || enc_handle(e, HANDLE_BLOB, blob, &index) < 0) {
        return -1;
    }
    return enc_put(e, TAG_BLOB | memo, &index, sizeof(index));
}

int
enc_str(encoder *e, PyObject *obj, int memo)
{
    size_t length = (size_t)PyUnicode_GET_LENGTH(obj);
    if (length <= UINT8_MAX && PyUnicode_IS_COMPACT_ASCII(obj)) {
        unsigned char *at = enc_reserve(e, 2 + length);
        if (at == NULL) {
            return -1;
        }
        at[0] = (unsigned char)(TAG_ASCII8 | memo);
        at[1] = (unsigned char)length;
        memcpy(at + 2, PyUnicode_1BYTE_DATA(obj), length);
        return 0;
    }
    size_t bytes = length * (size_t)PyUnicode_KIND(obj);
    if (bytes >= ADOPT_MIN) {
        return enc_blob(e, adopt_copy_str(obj), memo);
    }
    uint32_t maxchar = PyUnicode_MAX_CHAR_VALUE(obj);
    uint64_t n = length;
    unsigned char *at =
        enc_reserve(e, 1 + sizeof(maxchar) + sizeof(n) + bytes);
    if (at == NULL) {
        return -1;
    }
    at[0] = (unsigned char)(TAG_STR | memo);
    memcpy(at + 1, &maxchar, sizeof(maxchar));
    memcpy(at + 1 + sizeof(maxchar), &n, sizeof(n));
    memcpy(at + 1 + sizeof(maxchar) + sizeof(n), PyUnicode_DATA(obj), bytes);
    return 0;
}

static int
enc_sized(encoder *e, int tag, const void *data, size_t size)
{
    uint64_t n = size;
    if (enc_put(e, tag, &n, sizeof(n)) < 0) {
        return -1;
    }
    unsigned char *at = enc_reserve(e, size);
    if (at == NULL) {
        return -1;
    }
    memcpy(at, data, size);
    return 0;
}

static int
enc_bytes(encoder *e, PyObject *obj, int memo)
{
    size_t size = (size_t)PyBytes_GET_SIZE(obj);
    if (size >= ADOPT_MIN) {
        return enc_blob(e, adopt_copy_bytes(PyBytes_AS_STRING(obj), size, false),
                        memo);
    }
    if (size > UINT8_MAX) {
        return enc_sized(e, TAG_BYTES | memo, PyBytes_AS_STRING(obj), size);
    }
    unsigned char *at = enc_reserve(e, 2 + size);
    if (at == NULL) {
        return -1;
    }
    at[0] = (unsigned char)(TAG_BYTES8 | memo);
    at[1] = (unsigned char)size;
    memcpy(at + 2, PyBytes_AS_STRING(obj), size);
    return 0;
}

static int
enc_bytearray(encoder *e, PyObject *obj, int memo)
{
    size_t size = (size_t)PyByteArray_GET_SIZE(obj);
    const char *data = PyByteArray_AS_STRING(obj);
    if (size >= ADOPT_MIN) {
        return enc_blob(e, adopt_copy_bytes(data, size, true), memo);
    }
    return enc_sized(e, TAG_BYTEARRAY | memo, data, size);
}

/* -------------------------------------------------------------- containers */

/* How much is written. */
static inline Py_ssize_t
enc_offset(const encoder *e)
{
    return e->at - (e->heap == NULL ? e->onstack : e->heap->data);
}

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

static void
enc_patch(encoder *e, Py_ssize_t where, bool small, Py_ssize_t count)
{
    unsigned char *start = e->heap == NULL ? e->onstack : e->heap->data;
    uint64_t n = (uint64_t)count;
    if (small) {
        start[where] = (unsigned char)count;
    }
    else {
        memcpy(start + where, &n, sizeof(n));
    }
}

/* Numbers in a row are worth a tag of their own from this many on. */
#define RUN_MIN 3

/* Make the n ints of 32 bits at `at` ints of 64 bits, in place. */
static void
widen(unsigned char *at, Py_ssize_t n)
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
    unsigned char *start =
        enc_reserve(e, head + (size_t)left * sizeof(int64_t));
    if (start == NULL) {
        return -1;
    }
    unsigned char *at = start + head;
    Py_ssize_t n = 0;
    bool wide = false;
    for (; n < left && PyLong_CheckExact(items[n]) &&
           compat_int64(items[n], &value);
         n++) {
        int32_t narrow = (int32_t)value;
        if (!wide && value != narrow) {
            widen(start + head, n);
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
    unsigned char *at =
        enc_reserve(e, 1 + sizeof(count) + count * sizeof(double));
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
static Py_ssize_t
enc_run(encoder *e, PyObject *const *items, Py_ssize_t left)
{
    left = left < UINT32_MAX ? left : UINT32_MAX;
    return PyLong_CheckExact(items[0]) ? enc_int_run(e, items, left)
                                       : enc_float_run(e, items, left);
}

static inline int
enc_item(encoder *e, PyObject *item)
{
    PyTypeObject *type = Py_TYPE(item);
    if (type == &PyLong_Type) {
        return enc_int(e, item);
    }
    if (type == &PyFloat_Type) {
        double value = PyFloat_AS_DOUBLE(item);
        return enc_put(e, TAG_FLOAT, &value, sizeof(value));
    }
    if (type == &PyUnicode_Type) { /* runs nothing */
        int memo = 0, rc = enc_memo(e, item, &memo);
        return rc != 0 ? (rc < 0 ? -1 : 0) : enc_str(e, item, memo);
    }
    return enc_object(e, item);
}

static int
enc_tuple(encoder *e, PyObject *obj, int memo)
{
    Py_ssize_t count = PyTuple_GET_SIZE(obj);
    if (enc_head(e, TAG_TUPLE8, TAG_TUPLE, memo, count) < 0) {
        return -1;
    }
    PyObject *const *items = ((PyTupleObject *)obj)->ob_item;
    for (Py_ssize_t i = 0; i < count; i++) {
        if (PyLong_CheckExact(items[i]) || PyFloat_CheckExact(items[i])) {
            Py_ssize_t run = enc_run(e, items + i, count - i);
            if (run != 0) {
                if (run < 0) {
                    return -1;
                }
                i += run - 1;
                continue;
            }
        }
        if (enc_item(e, items[i]) < 0) {
            enc_path(e, "[%zd]", i);
            return -1;
        }
    }
    return 0;
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
    while (i < count && i < PyList_GET_SIZE(obj)) {
        PyObject **items = ((PyListObject *)obj)->ob_item;
        if (PyLong_CheckExact(items[i]) || PyFloat_CheckExact(items[i])) {
            Py_ssize_t left = PyList_GET_SIZE(obj) - i;
            Py_ssize_t run =
                enc_run(e, items + i, left < count - i ? left : count - i);
            if (run != 0) {
                if (run < 0) {
                    return -1;
                }
                i += run;
                continue;
            }
        }
        if (enc_item(e, items[i]) < 0) {
            enc_path(e, "[%zd]", i);
            return -1;
        }
        i++;
    }
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
raise_changed(void)
{
    PyErr_SetString(PyExc_RuntimeError,
                    "a dictionary changed while it was sent");
    return -1;
}

/* A value that may run code, and its key, are held meanwhile. */
static int
enc_loud_value(encoder *e, PyObject *dict, PyObject *key, PyObject *value,
               Py_ssize_t count)
{
    Py_INCREF(key);
    int rc = enc_item(e, value); /* which holds it */
    if (rc < 0) {
        enc_path(e, "[%R]", key);
    }
    Py_DECREF(key);
    return rc == 0 && PyDict_GET_SIZE(dict) != count ? raise_changed() : rc;
}

/* A pair of which one part may run code: both are held. */
static int
enc_loud_pair(encoder *e, PyObject *dict, PyObject *key, PyObject *value,
              Py_ssize_t count)
{
    if (is_quiet(key)) {
        return enc_item(e, key) < 0
                   ? -1
                   : enc_loud_value(e, dict, key, value, count);
    }
    Py_INCREF(key);
    Py_INCREF(value);
    int rc = enc_item(e, key);
    if (rc < 0) {
        enc_path(e, " key");
    }
    else {
        rc = enc_loud_value(e, dict, key, value, count);
    }
    Py_DECREF(value);
    Py_DECREF(key);
    return rc;
}

static int
enc_pair(encoder *e, PyObject *dict, PyObject *key, PyObject *value,
         Py_ssize_t count)
{
    return is_quiet(key) && is_quiet(value)
               ? (enc_item(e, key) < 0 ? -1 : enc_item(e, value))
               : enc_loud_pair(e, dict, key, value, count);
}

static int
enc_pairs(encoder *e, PyObject *obj, Py_ssize_t count)
{
    PyObject *key, *value;
    Py_ssize_t at = 0, done = 0;
    while (PyDict_Next(obj, &at, &key, &value)) {
        if (done++ == count) {
            break; /* keys were exchanged: it may never end */
        }
        if (enc_pair(e, obj, key, value, count) < 0) {
            return -1;
        }
    }
    return done == count ? 0 : raise_changed();
}

/* Dicts with the same keys, as the records of a document have them: the keys
 * are written once, and then only values. A shape is made when its first key
 * and its length are met for the second time. */
static form *
form_of(encoder *e, PyObject *first, Py_ssize_t count)
{
    size_t place = ((uintptr_t)first >> 4) + (size_t)count;
    return &e->forms[place % ENC_FORMS];
}

/* The keys of a dict as a new form: they are all str, else -2. */
static int
enc_new_form(encoder *e, form *f, PyObject *dict, Py_ssize_t count, int memo)
{
    PyObject *key, *keys = PyTuple_New(count);
    Py_ssize_t at = 0, i = 0;
    if (keys == NULL) {
        return -1;
    }
    while (i < count && PyDict_Next(dict, &at, &key, NULL)) {
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
        if (enc_item(e, PyTuple_GET_ITEM(keys, i)) < 0) {
            return -1;
        }
    }
    return 0;
}

/* The values, as long as the keys are those of the form; then the rest as
 * pairs. (They may well differ after the first; and they may change.) */
static int
enc_formed(encoder *e, PyObject *dict, Py_ssize_t count, PyObject *keys)
{
    PyObject *key, *value;
    Py_ssize_t at = 0, done = 0;
    bool same = true;
    while (PyDict_Next(dict, &at, &key, &value)) {
        if (done == count) {
            return raise_changed();
        }
        if (same && key != PyTuple_GET_ITEM(keys, done)) {
            same = false;
            if (enc_tag(e, TAG_BREAK) < 0) {
                return -1;
            }
        }
        int rc = !same            ? enc_pair(e, dict, key, value, count)
                 : is_quiet(value) ? enc_item(e, value)
                                   : enc_loud_value(e, dict, key, value, count);
        if (rc < 0) {
            return -1;
        }
        done++;
    }
    return done == count ? 0 : raise_changed();
}

static int
enc_dict(encoder *e, PyObject *obj, int memo)
{
    Py_ssize_t count = PyDict_GET_SIZE(obj), at = 0;
    PyObject *first;
    if (count >= FORM_MIN && count <= FORM_MAX &&
        PyDict_Next(obj, &at, &first, NULL)) {
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
    return enc_head(e, TAG_DICT8, TAG_DICT, memo, count) < 0
               ? -1
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
        rc = enc_item(e, item);
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
    if (enc_tag(e, TAG_SLICE | memo) < 0 || enc_item(e, slice->start) < 0 ||
        enc_item(e, slice->stop) < 0 || enc_item(e, slice->step) < 0) {
        return -1;
    }
    return 0;
}

/* ------------------------------------------------------------- any object */

static int
enc_constant(PyObject *obj)
{
    if (obj == Py_None) {
        return TAG_NONE;
    }
    if (obj == Py_True || obj == Py_False) {
        return obj == Py_True ? TAG_TRUE : TAG_FALSE;
    }
    if (obj == Py_Ellipsis) {
        return TAG_ELLIPSIS;
    }
    return obj == Py_NotImplemented ? TAG_NOTIMPLEMENTED : 0;
}

static int
enc_interpreter(encoder *e, PyObject *obj)
{
    struct home *h = interpreter_home(e->state, obj);
    if (h != NULL) {
        return enc_put_handle(e, TAG_HANDLE, HANDLE_HOME, h);
    }
    PyObject *id = PyErr_Occurred() ? NULL : PyObject_GetAttrString(obj, "id");
    int64_t value = id == NULL ? -1 : PyLong_AsLongLong(id);
    Py_XDECREF(id);
    if (value == -1 && PyErr_Occurred()) {
        return -1;
    }
    return enc_put(e, TAG_FOREIGN, &value, sizeof(value));
}

/* 1: appended; 0: it is not one of these; -1 with an exception. */
static int
enc_own_handle(encoder *e, PyObject *obj, PyTypeObject *type)
{
    core_state *state = e->state;
    int rc;
    if (type == state->queue_type) {
        rc = enc_put_handle(e, TAG_HANDLE, HANDLE_QUEUE,
                            ((chanobj *)obj)->chan);
    }
    else if (type == state->send_type) {
        rc = enc_put_handle(e, TAG_HANDLE, HANDLE_SEND, ((chanobj *)obj)->chan);
    }
    else if (type == state->recv_type) {
        rc = enc_put_handle(e, TAG_HANDLE, HANDLE_RECV, ((chanobj *)obj)->chan);
    }
    else if ((PyObject *)type == state->interpreter_class) {
        rc = enc_interpreter(e, obj);
    }
    else {
        return view_encode(e, obj, type);
    }
    return rc < 0 ? -1 : 1;
}

static int
enc_container(encoder *e, PyObject *obj, PyTypeObject *type, int memo)
{
    if (type == &PyDict_Type) {
        return enc_dict(e, obj, memo);
    }
    if (type == &PyList_Type) {
        return enc_list(e, obj, memo);
    }
    if (type == &PyTuple_Type) {
        return enc_tuple(e, obj, memo);
    }
    if (type == &PySet_Type || type == &PyFrozenSet_Type) {
        return enc_set(e, obj,
                       type == &PySet_Type ? TAG_SET : TAG_FROZENSET, memo);
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

static inline bool
is_container(PyTypeObject *type)
{
    return type == &PyDict_Type || type == &PyList_Type ||
           type == &PyTuple_Type || type == &PySet_Type ||
           type == &PyFrozenSet_Type || type == &PySlice_Type
#ifdef COMPAT_FROZENDICT
           || type == &PyFrozenDict_Type
#endif
        ;
}

/* What is immutable and cannot be made empty gets its number after its items.
 * A cycle through it alone would be a RecursionError. */
static inline bool
is_late(PyTypeObject *type)
{
    return type == &PyFrozenSet_Type || type == &PySlice_Type
#ifdef COMPAT_FROZENDICT
           || type == &PyFrozenDict_Type
#endif
        ;
}

int
enc_object(encoder *e, PyObject *obj)
{
    PyTypeObject *type = Py_TYPE(obj);
    int memo = 0;
    if (type == &PyLong_Type) {
        return enc_int(e, obj);
    }
    if (type == &PyFloat_Type) {
        double value = PyFloat_AS_DOUBLE(obj);
        return enc_put(e, TAG_FLOAT, &value, sizeof(value));
    }
    int constant = enc_constant(obj);
    if (constant != 0) {
        return enc_tag(e, constant);
    }
    if (type == &PyUnicode_Type || type == &PyBytes_Type ||
        type == &PyByteArray_Type) {
        int known = enc_memo(e, obj, &memo);
        if (known != 0) {
            return known < 0 ? -1 : 0;
        }
        return type == &PyUnicode_Type ? enc_str(e, obj, memo)
               : type == &PyBytes_Type ? enc_bytes(e, obj, memo)
                                       : enc_bytearray(e, obj, memo);
    }
    if (type == &PyComplex_Type) {
        Py_complex c = PyComplex_AsCComplex(obj);
        return enc_put(e, TAG_COMPLEX, &c, sizeof(c));
    }
    bool container = is_container(type), late = is_late(type);
    if (container) {
        int known = late ? enc_known(e, obj) : enc_memo(e, obj, &memo);
        if (known != 0) {
            return known < 0 ? -1 : 0;
        }
        if (late && Py_REFCNT(obj) > 1) {
            memo = MEMO;
        }
    }
    if (Py_EnterRecursiveCall(" while an object is sent")) {
        return -1;
    }
    /* Held from here on: code that runs may drop the last other reference.
     * What is in the memo is held already. */
    int rc;
    Py_INCREF(obj);
    if (container) {
        rc = enc_container(e, obj, type, memo);
        if (rc == 0 && late && memo != 0) {
            rc = enc_number(e, obj);
        }
    }
    else {
        rc = enc_own_handle(e, obj, type);
        if (rc == 0) {
            rc = enc_other(e, obj);
        }
        rc = rc < 0 ? -1 : 0;
    }
    Py_DECREF(obj);
    Py_LeaveRecursiveCall();
    return rc;
}

/* ------------------------------------------------------------ the message */

/* Move what was encoded into the message. */
static int
encoder_finish(encoder *e, atoll_msg *msg)
{
    size_t size = e->heap == NULL ? (size_t)(e->at - e->onstack)
                                  : (size_t)(e->at - e->heap->data);
    if (size <= ATOLL_MSG_INLINE && e->nhandles == 0) {
        msg->tag = TAG_FLAT;
        msg->len = (uint8_t)size;
        memcpy(msg->u.bytes, e->at - size, size);
        return 0;
    }
    /* It may wait for long: give back what is not needed. */
    if (e->heap == NULL || (size_t)(e->end - e->at) > size / 8) {
        block *heap = atoll_realloc(e->heap, sizeof(block) + size);
        if (heap == NULL) {
            PyErr_NoMemory();
            return -1;
        }
        if (e->heap == NULL) {
            memcpy(heap->data, e->onstack, size);
        }
        e->heap = heap;
    }
    block *b = e->heap;
    b->handles = NULL;
    b->nhandles = e->nhandles;
    b->size = size;
    if (e->nhandles > 0) {
        if (e->handles == e->handles_onstack) {
            b->handles = atoll_alloc(e->nhandles * sizeof(handle));
            if (b->handles == NULL) {
                PyErr_NoMemory();
                return -1;
            }
            memcpy(b->handles, e->handles, e->nhandles * sizeof(handle));
        }
        else {
            b->handles = e->handles;
            e->handles = e->handles_onstack;
        }
    }
    e->heap = NULL; /* the message owns it now, and the handles */
    e->nhandles = 0;
    msg->tag = TAG_BLOCK;
    msg->u.heap.ptr = b;
    msg->u.heap.size = size;
    msg->drop = wire_drop_block;
    return 0;
}

/* What fits into the message as it is: the common case, without a buffer. */
static bool
enc_scalar(PyObject *obj, atoll_msg *msg)
{
    if (PyLong_CheckExact(obj)) {
        int overflow;
        int64_t value = PyLong_AsLongLongAndOverflow(obj, &overflow);
        msg->u.i64 = value;
        msg->tag = TAG_INT;
        return overflow == 0;
    }
    if (obj == Py_None) {
        msg->tag = TAG_NONE;
        return true;
    }
    if (PyFloat_CheckExact(obj)) {
        msg->u.f64 = PyFloat_AS_DOUBLE(obj);
        msg->tag = TAG_FLOAT;
        return true;
    }
    return false;
}

/* "at ['jobs'][3].callback: <object> cannot be sent ...: reason" */
static void
raise_refusal(encoder *e)
{
    PyObject *reason = PyErr_GetRaisedException();
    PyObject *cls = error_class(e->state, "NotShareableError");
    PyObject *where = PyUnicode_FromString("");
    for (Py_ssize_t i = e->path == NULL ? 0 : PyList_GET_SIZE(e->path);
         i > 0 && where != NULL; i--) {
        Py_SETREF(where, PyUnicode_Concat(where,
                                          PyList_GET_ITEM(e->path, i - 1)));
    }
    PyObject *shown = PyObject_Repr(e->culprit);
    if (shown == NULL) { /* the user's code: anything may come of it */
        PyErr_Clear();
        shown = PyUnicode_FromFormat("<%s object>", Py_TYPE(e->culprit)->tp_name);
    }
    if (cls != NULL && where != NULL && shown != NULL) {
        bool inside = PyUnicode_GET_LENGTH(where) > 0;
        PyErr_Format(cls,
                     "%s%U%s%.300U cannot be sent to another interpreter%s%S",
                     inside ? "at " : "", where, inside ? ": " : "", shown,
                     reason == NULL ? "" : ": ",
                     reason == NULL ? where : reason);
    }
    Py_XDECREF(where);
    Py_XDECREF(shown);
    if (reason != NULL && PyErr_Occurred()) {
        PyObject *exc = PyErr_GetRaisedException();
        PyException_SetCause(exc, reason); /* steals */
        PyErr_SetRaisedException(exc);
    }
    else {
        Py_XDECREF(reason);
    }
}

/* The end of the encoder in any case: a message, if rc is 0. */
static int
encoder_end(encoder *e, int rc, atoll_msg *msg)
{
    if (rc == 0) {
        rc = encoder_finish(e, msg);
    }
    else if (e->culprit != NULL) {
        raise_refusal(e);
    }
    PyObject *exc = rc < 0 ? PyErr_GetRaisedException() : NULL;
    encoder_fini(e);
    if (exc != NULL) {
        PyErr_SetRaisedException(exc);
    }
    return rc;
}

/* The root is not met again but on a cycle, and then it is a container. */
static inline bool
is_single(PyTypeObject *type)
{
    return type == &PyUnicode_Type || type == &PyBytes_Type ||
           type == &PyByteArray_Type;
}

static void
message_init(core_state *state, atoll_msg *msg)
{
    msg->drop = NULL;
    msg->group = state->interp_id;
    msg->orphan = ATOLL_ORPHAN_KEEP;
    msg->orphaned = 0;
}

int
xfer_encode(core_state *state, PyObject *obj, atoll_msg *msg)
{
    message_init(state, msg);
    if (enc_scalar(obj, msg)) {
        return 0;
    }
    encoder e;
    encoder_init(&e, state);
    PyTypeObject *type = Py_TYPE(obj);
    int rc = !is_single(type)            ? enc_object(&e, obj)
             : type == &PyUnicode_Type   ? enc_str(&e, obj, 0)
             : type == &PyBytes_Type     ? enc_bytes(&e, obj, 0)
                                         : enc_bytearray(&e, obj, 0);
    return encoder_end(&e, rc, msg);
}

static int
enc_attempt(encoder *e, PyObject *obj)
{
    uint64_t size = 0;
    if (enc_put(e, TAG_TRY, &size, sizeof(size)) < 0) {
        return -1;
    }
    Py_ssize_t from = enc_offset(e);
    if (enc_object(e, obj) < 0) {
        return -1;
    }
    enc_patch(e, from - (Py_ssize_t)sizeof(size), false, enc_offset(e) - from);
    return 0;
}

int
xfer_encode_error(core_state *state, PyObject *info, PyObject *exc,
                  atoll_msg *msg)
{
    const uint8_t two = 2;
    encoder e;
    message_init(state, msg);
    encoder_init(&e, state);
    int rc = enc_put(&e, TAG_TUPLE8, &two, 1) < 0 ||
                     enc_object(&e, info) < 0 || enc_attempt(&e, exc) < 0
                 ? -1
                 : 0;
    if (encoder_end(&e, rc, msg) == 0) {
        return 0;
    }
    PyObject *why = PyErr_GetRaisedException();
    PyObject *text = PyObject_Str(why);
    PyObject *pair = text == NULL ? NULL : PyTuple_Pack(2, info, text);
    rc = pair == NULL ? -1 : xfer_encode(state, pair, msg);
    Py_XDECREF(pair);
    Py_XDECREF(text);
    Py_DECREF(why);
    return rc;
}

/* ----------------------------------------------------------- is_shareable */

#define PLAIN_DEPTH 200 /* what is nested deeper may well be too deep to send */

static bool
is_plain(core_state *state, PyObject *obj, int depth)
{
    PyTypeObject *type = Py_TYPE(obj);
    if (type == &PyTuple_Type) {
        bool all = depth < PLAIN_DEPTH;
        for (Py_ssize_t i = 0; i < PyTuple_GET_SIZE(obj) && all; i++) {
            all = is_plain(state, PyTuple_GET_ITEM(obj, i), depth + 1);
        }
        return all;
    }
    return enc_constant(obj) != 0 || type == &PyLong_Type ||
           type == &PyFloat_Type || type == &PyComplex_Type ||
           type == &PyUnicode_Type || type == &PyBytes_Type ||
           type == state->queue_type || type == state->send_type ||
           type == state->recv_type ||
           (PyObject *)type == state->interpreter_class ||
           view_is_plain(state, type);
}

bool
xfer_is_shareable(core_state *state, PyObject *obj)
{
    return is_plain(state, obj, 0);
}

bool
xfer_is_builtin(core_state *state, PyTypeObject *type)
{
    return is_container(type) || is_single(type) || type == &PyLong_Type ||
           type == &PyFloat_Type || type == &PyComplex_Type ||
           type == &PyBool_Type || type == Py_TYPE(Py_None) ||
           type == Py_TYPE(Py_Ellipsis) || type == Py_TYPE(Py_NotImplemented) ||
           type == &PyFunction_Type || type == &PyType_Type ||
           type == &PyModule_Type || type == &PyPickleBuffer_Type ||
           type == &PyMemoryView_Type || type == state->queue_type ||
           type == state->send_type || type == state->recv_type ||
           (PyObject *)type == state->interpreter_class ||
           view_is_plain(state, type);
}
