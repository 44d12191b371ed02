/* See cpython/adopt.h. */
#include "cpython/adopt.h"

#include <stddef.h>
#include <string.h>

#include "cpython/version.h"

bool
adopt_possible(void)
{
    const char *name = compat_allocator_name();
    return name != NULL &&
           (strcmp(name, "pymalloc") == 0 || strcmp(name, "malloc") == 0);
}

/* NULL when out of memory, without an exception. */
static adopt_blob *
alloc_blob(adopt_kind kind, size_t offset, size_t bytes)
{
    adopt_blob *blob = NULL;
    if (bytes < (size_t)PY_SSIZE_T_MAX - offset - 8) {
        blob = atoll_alloc(sizeof(*blob));
    }
    void *block = blob == NULL ? NULL : PyMem_RawMalloc(offset + bytes + 8);
    if (block == NULL) {
        atoll_free(blob);
        return NULL;
    }
    *blob = (adopt_blob){.block = block, .offset = offset, .size = bytes, .kind = kind};
    return blob;
}

static adopt_blob *
new_blob(adopt_kind kind, size_t offset, size_t bytes)
{
    adopt_blob *blob = alloc_blob(kind, offset, bytes);
    if (blob == NULL) {
        PyErr_NoMemory();
    }
    return blob;
}

adopt_blob *
adopt_clone(const adopt_blob *blob)
{
    adopt_blob *copy = alloc_blob(blob->kind, blob->offset, blob->size);
    if (copy != NULL) {
        memcpy(copy->block, blob->block, blob->offset + blob->size + 8);
        copy->length = blob->length;
        copy->maxchar = blob->maxchar;
    }
    return copy;
}

#define BYTES_HEAD offsetof(PyBytesObject, ob_sval)

adopt_blob *
adopt_copy_bytes(const char *data, size_t size, bool as_bytearray)
{
    /* A bytearray's memory has no header, but for 3.15's, which is a bytes. */
    bool bare = as_bytearray && !COMPAT_BYTEARRAY_HAS_BYTES;
    adopt_blob *blob = new_blob(as_bytearray ? ADOPT_BYTEARRAY : ADOPT_BYTES,
                                bare ? 0 : BYTES_HEAD, size);
    if (blob != NULL) {
        char *to = (char *)blob->block + blob->offset;
        memcpy(to, data, size);
        to[size] = '\0';
        blob->length = size;
    }
    return blob;
}

adopt_blob *
adopt_copy_str(PyObject *str)
{
    size_t length = (size_t)PyUnicode_GET_LENGTH(str);
    size_t width = (size_t)PyUnicode_KIND(str);
    size_t head = PyUnicode_IS_ASCII(str) ? sizeof(PyASCIIObject)
                                          : sizeof(PyCompactUnicodeObject);
    adopt_blob *blob = new_blob(ADOPT_STR, head, length * width);
    if (blob != NULL) {
        char *to = (char *)blob->block + head;
        memcpy(to, PyUnicode_DATA(str), length * width);
        memset(to + length * width, 0, width);
        blob->length = length;
        blob->maxchar = PyUnicode_MAX_CHAR_VALUE(str);
    }
    return blob;
}

void
adopt_drop(adopt_blob *blob)
{
    PyMem_RawFree(blob->block);
    atoll_free(blob);
}

/* Blocks over 512 bytes are raw ones in every interpreter; they differ from a
 * raw block only by having been counted. */
#define COUNTED 1024

int
adopt_count_in(void)
{
    void *counted = PyObject_Malloc(COUNTED);
    if (counted == NULL) {
        PyErr_NoMemory();
        return -1;
    }
    PyMem_RawFree(counted); /* its count stays */
    return 0;
}

int
adopt_count_out(void)
{
    void *uncounted = PyMem_RawMalloc(COUNTED);
    if (uncounted == NULL) {
        PyErr_NoMemory();
        return -1;
    }
    PyObject_Free(uncounted); /* takes one off */
    return 0;
}

/* ---------------------------------------------------------------- adopting */

static PyObject *
bytes_of(void *block, size_t size)
{
    PyBytesObject *bytes =
        (PyBytesObject *)PyObject_InitVar(block, &PyBytes_Type, (Py_ssize_t)size);
    compat_bytes_no_hash(bytes);
    return (PyObject *)bytes;
}

static PyObject *
str_of(void *block, size_t length, uint32_t maxchar)
{
    /* What CPython writes into the header of such a string, it says itself. */
    PyObject *model = PyUnicode_New(2, maxchar);
    if (model == NULL) {
        return NULL;
    }
    PyASCIIObject *str = (PyASCIIObject *)PyObject_Init(block, &PyUnicode_Type);
    str->length = (Py_ssize_t)length;
    str->hash = -1;
    str->state = ((PyASCIIObject *)model)->state;
    if (maxchar > 127) {
        ((PyCompactUnicodeObject *)str)->utf8 = NULL;
        ((PyCompactUnicodeObject *)str)->utf8_length = 0;
    }
    Py_DECREF(model);
    return (PyObject *)str;
}

PyObject *
adopt_bytearray(void *block, size_t offset, size_t size, size_t room)
{
    PyObject *obj = PyByteArray_FromStringAndSize(NULL, 0);
    if (obj == NULL) {
        return NULL;
    }
    PyByteArrayObject *array = (PyByteArrayObject *)obj;
#if COMPAT_BYTEARRAY_HAS_BYTES
    PyObject *bytes = bytes_of(block, room);
    Py_XSETREF(array->ob_bytes_object, bytes);
    array->ob_bytes = PyBytes_AS_STRING(bytes);
#else
    array->ob_bytes = block;
#endif
    array->ob_start = (char *)block + offset;
    array->ob_alloc = (Py_ssize_t)room;
    Py_SET_SIZE(array, (Py_ssize_t)size);
    return obj;
}

static PyObject *
copy_of(const adopt_blob *blob)
{
    const char *data = (const char *)blob->block + blob->offset;
    Py_ssize_t length = (Py_ssize_t)blob->length;
    if (blob->kind == ADOPT_BYTEARRAY) {
        return PyByteArray_FromStringAndSize(data, length);
    }
    if (blob->kind == ADOPT_BYTES) {
        return PyBytes_FromStringAndSize(data, length);
    }
    PyObject *str = PyUnicode_New(length, blob->maxchar);
    if (str != NULL) {
        memcpy(PyUnicode_DATA(str), data, blob->length * (size_t)PyUnicode_KIND(str));
    }
    return str;
}

PyObject *
adopt_take(core_state *state, adopt_blob *blob)
{
    PyObject *obj = NULL;
    if (state == NULL || !state->cpython->can_adopt) {
        obj = copy_of(blob);
    }
    else if (adopt_count_in() == 0) {
        obj = blob->kind == ADOPT_BYTES ? bytes_of(blob->block, blob->length)
              : blob->kind == ADOPT_STR
                  ? str_of(blob->block, blob->length, blob->maxchar)
                  : adopt_bytearray(blob->block, blob->offset, blob->length,
                                    COMPAT_BYTEARRAY_HAS_BYTES ? blob->length
                                                               : blob->length + 1);
        if (obj != NULL) {
            blob->block = NULL; /* the object's now */
        }
        else {
            (void)adopt_count_out();
        }
    }
    adopt_drop(blob);
    return obj;
}
