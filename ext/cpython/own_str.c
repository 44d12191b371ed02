/* The str objects that CPython was compiled with.
 *
 * They are the same in every interpreter, and CPython tells names like `__len__`
 * by their address: a class whose method is set under another str of the same
 * content has it only half. So a frozen graph uses them where it can. There is no
 * list of them, but all lie in _PyRuntime; what looks like one there is one if
 * interning its content leads to it. */
#include "cpython/immortal.h"
#include "cpython/runtime.h"

#define LONGEST 256

static struct {
    atoll_lock lock;
    PyObject **slots; /* constant once `count` is set */
    size_t mask;
    Py_ssize_t count; /* guarded by lock; 0: not looked for yet */
} own;

static PyObject **
slot_of(PyObject **slots, size_t mask, PyObject *str, Py_hash_t hash)
{
    for (size_t i = (size_t)hash;; i++) {
        PyObject **slot = &slots[i & mask];
        if (*slot == NULL ||
            (((PyASCIIObject *)*slot)->hash == hash &&
             PyUnicode_GET_LENGTH(*slot) == PyUnicode_GET_LENGTH(str) &&
             memcmp(PyUnicode_1BYTE_DATA(*slot), PyUnicode_1BYTE_DATA(str),
                    (size_t)PyUnicode_GET_LENGTH(str)) == 0)) {
            return slot;
        }
    }
}

PyObject *
frozen_own_str(PyObject *str, Py_hash_t hash)
{
    return !PyUnicode_IS_ASCII(str) || PyUnicode_GET_LENGTH(str) > LONGEST
               ? NULL
               : *slot_of(own.slots, own.mask, str, hash);
}

/* Does what lies here look like a str of CPython's own? Nothing of it is
 * believed before. */
static bool
looks_like_one(const char *at, const char *end)
{
    const PyASCIIObject *str = (const void *)at;
    if ((size_t)(end - at) < sizeof(PyASCIIObject) + LONGEST + 1 ||
        str->ob_base.ob_type != &PyUnicode_Type ||
        !compat_is_immortal((PyObject *)(uintptr_t)at) || !str->state.ascii ||
        !str->state.compact || !str->state.statically_allocated || str->length < 2 ||
        str->length > LONGEST) {
        return false;
    }
    const char *data = (const char *)(str + 1);
    return memchr(data, 0, (size_t)str->length + 1) == data + str->length;
}

/* Does interning its content lead to it? */
static int
own_is_own(PyObject *str)
{
    PyObject *copy = PyUnicode_FromString((const char *)PyUnicode_1BYTE_DATA(str));
    if (copy == NULL) {
        return -1;
    }
    PyUnicode_InternInPlace(&copy);
    bool same = copy == str;
    Py_DECREF(copy);
    return same;
}

/* Put all of them into `slots` (NULL: only count them). */
static Py_ssize_t
own_collect(PyObject **slots, size_t mask)
{
    size_t size;
    const char *at = runtime_memory(&size), *end = at + size;
    Py_ssize_t count = 0;
    for (; at < end; at += sizeof(void *)) {
        if (!looks_like_one(at, end)) {
            continue;
        }
        PyObject *str = (PyObject *)(uintptr_t)at;
        int rc = own_is_own(str);
        Py_hash_t hash = rc == 1 ? PyObject_Hash(str) : 0;
        if (rc < 0 || hash == -1) {
            return -1;
        }
        if (rc == 1 && slots != NULL && (size_t)count < mask / 2) {
            *slot_of(slots, mask, str, hash) = str;
        }
        count += rc;
    }
    return count;
}

Py_ssize_t
frozen_find_own(void)
{
    atoll_lock_acquire(&own.lock);
    Py_ssize_t known = own.count;
    atoll_lock_release(&own.lock);
    if (known != 0) {
        return known;
    }
    Py_ssize_t count = own_collect(NULL, 0);
    if (count < 0) {
        return -1;
    }
    size_t mask = 63;
    while (mask < 4 * (size_t)count) {
        mask = 2 * mask + 1;
    }
    PyObject **slots = atoll_alloc((mask + 1) * sizeof(*slots));
    if (slots == NULL) {
        PyErr_NoMemory();
        return -1;
    }
    memset(slots, 0, (mask + 1) * sizeof(*slots));
    if (own_collect(slots, mask) < 0) {
        atoll_free(slots);
        return -1;
    }
    atoll_lock_acquire(&own.lock);
    if (own.count == 0) { /* else somebody was faster */
        own.slots = slots;
        own.mask = mask;
        own.count = count;
        slots = NULL;
    }
    atoll_lock_release(&own.lock);
    atoll_free(slots);
    return count;
}

void
frozen_static_fork_child(void)
{
    own.lock.word = 0;
}
