/* Taking the memory out of a bytearray or an array, and making one of it again. See
 * cpython/take.h. */
#include "cpython/take.h"

#include <stddef.h>
#include <string.h>

#include "cpython/adopt.h"
#include "cpython/version.h"

/* array.array, as all of 3.13 to 3.15 lay it out; checked where it is used. */
typedef struct arrayobj {
    PyObject_VAR_HEAD char *ob_item;
    Py_ssize_t allocated;
    const void *descr;
    PyObject *weakreflist;
    Py_ssize_t ob_exports;
} arrayobj;

/* ------------------------------------------------------------------- taking */

/* Below this the block may be one of the interpreter's own arenas'. */
#define OWN_BLOCK 512

int
take_refuse_exports(PyObject *obj)
{
    PyErr_Format(PyExc_BufferError,
                 "this %s cannot be moved: there are views of its memory; "
                 "release them first",
                 Py_TYPE(obj)->tp_name);
    return -1;
}

/* Copy `size` bytes into a block that a bytearray or array can adopt. */
static int
take_copy(taken_memory *out, const char *data, size_t size, size_t head)
{
    out->block = PyMem_RawMalloc(head + size + 1);
    if (out->block == NULL) {
        PyErr_NoMemory();
        return -1;
    }
    memcpy((char *)out->block + head, data, size);
    ((char *)out->block)[head + size] = '\0';
    out->offset = head;
    out->size = size;
    out->room = COMPAT_BYTEARRAY_HAS_BYTES ? size : size + 1;
    return 0;
}

#define BYTES_HEAD offsetof(PyBytesObject, ob_sval)

int
take_bytearray(const core_state *state, PyObject *obj, taken_memory *out)
{
    PyByteArrayObject *array = (PyByteArrayObject *)obj;
    size_t size = (size_t)Py_SIZE(array);
    if (array->ob_exports > 0) {
        return take_refuse_exports(obj);
    }
    bool movable = state->cpython->can_adopt && array->ob_alloc > OWN_BLOCK;
#if COMPAT_BYTEARRAY_HAS_BYTES
    movable = movable && Py_REFCNT(array->ob_bytes_object) == 1;
#endif
    if (!movable) {
        size_t head = COMPAT_BYTEARRAY_HAS_BYTES ? BYTES_HEAD : 0;
        return take_copy(out, PyByteArray_AS_STRING(obj), size, head) < 0
                   ? -1
                   : PyByteArray_Resize(obj, 0);
    }
    /* What an empty one looks like, it says itself. */
    PyObject *model = PyByteArray_FromStringAndSize(NULL, 0);
    if (model == NULL || adopt_count_out() < 0) {
        Py_XDECREF(model);
        return -1;
    }
    PyByteArrayObject *empty = (PyByteArrayObject *)model;
    out->size = size;
    out->room = (size_t)array->ob_alloc;
#if COMPAT_BYTEARRAY_HAS_BYTES
    out->block = array->ob_bytes_object;
    array->ob_bytes_object = Py_NewRef(empty->ob_bytes_object);
#else
    out->block = array->ob_bytes;
#endif
    out->offset = (size_t)(array->ob_start - (char *)out->block);
    array->ob_bytes = empty->ob_bytes;
    array->ob_start = empty->ob_start;
    array->ob_alloc = empty->ob_alloc;
    Py_SET_SIZE(array, 0);
    Py_DECREF(model);
    return 0;
}

static PyTypeObject *
array_type(void)
{
    PyObject *module = PyImport_ImportModule("array");
    PyObject *type = module == NULL ? NULL : PyObject_GetAttrString(module, "array");
    Py_XDECREF(module);
    return (PyTypeObject *)type;
}

bool
take_is_array(PyObject *obj)
{
    PyTypeObject *type = array_type();
    bool is = type != NULL && Py_IS_TYPE(obj, type);
    Py_XDECREF(type);
    return is;
}

/* Is an array what we think it is? */
static bool
array_is_known(PyObject *obj, const Py_buffer *b)
{
    arrayobj *array = (arrayobj *)obj;
    return Py_TYPE(obj)->tp_basicsize == sizeof(arrayobj) &&
           (Py_SIZE(array) == 0 || b->buf == (void *)array->ob_item) &&
           b->len == Py_SIZE(array) * b->itemsize &&
           array->allocated >= Py_SIZE(array) && array->ob_exports == 1;
}

int
take_array(const core_state *state, PyObject *obj, taken_memory *out)
{
    arrayobj *array = (arrayobj *)obj;
    PyObject *code = PyObject_GetAttrString(obj, "typecode");
    Py_buffer b;
    if (code == NULL || PyObject_GetBuffer(obj, &b, PyBUF_ND) < 0) {
        Py_XDECREF(code);
        return -1;
    }
    out->typecode = (int)PyUnicode_ReadChar(code, 0);
    out->itemsize = (size_t)b.itemsize;
    Py_DECREF(code);
    bool known = array_is_known(obj, &b);
    bool exported =
        Py_TYPE(obj)->tp_basicsize == sizeof(arrayobj) && array->ob_exports > 1;
    bool movable = known && state->cpython->can_adopt &&
                   (size_t)array->allocated * out->itemsize > OWN_BLOCK;
    int rc = 0;
    if (!movable && !exported) {
        rc = take_copy(out, b.buf, (size_t)b.len, 0);
    }
    PyBuffer_Release(&b);
    if (exported) {
        return take_refuse_exports(obj);
    }
    if (!movable) {
        return rc < 0 ? -1 : PySequence_DelSlice(obj, 0, PY_SSIZE_T_MAX);
    }
    if (adopt_count_out() < 0) {
        return -1;
    }
    out->block = array->ob_item;
    out->size = (size_t)Py_SIZE(array) * out->itemsize;
    out->room = (size_t)array->allocated * out->itemsize;
    array->ob_item = NULL;
    array->allocated = 0;
    Py_SET_SIZE(array, 0);
    return 0;
}

/* ------------------------------------------------------------------- giving */

PyObject *
give_bytearray(const core_state *state, const taken_memory *from)
{
    const char *data = (const char *)from->block + from->offset;
    if (!state->cpython->can_adopt) {
        return PyByteArray_FromStringAndSize(data, (Py_ssize_t)from->size);
    }
    if (adopt_count_in() < 0) {
        return NULL;
    }
    PyObject *obj = adopt_bytearray(from->block, from->offset, from->size, from->room);
    if (obj == NULL) {
        (void)adopt_count_out();
    }
    return obj;
}

PyObject *
give_array(const core_state *state, const taken_memory *from)
{
    PyTypeObject *type = array_type();
    PyObject *obj = type == NULL
                        ? NULL
                        : PyObject_CallFunction((PyObject *)type, "C", from->typecode);
    Py_XDECREF(type);
    if (obj == NULL || from->size == 0) {
        return obj;
    }
    arrayobj *array = (arrayobj *)obj;
    if (state->cpython->can_adopt && type->tp_basicsize == sizeof(arrayobj)) {
        if (adopt_count_in() < 0) {
            Py_DECREF(obj);
            return NULL;
        }
        array->ob_item = from->block;
        array->allocated = (Py_ssize_t)(from->room / from->itemsize);
        Py_SET_SIZE(array, (Py_ssize_t)(from->size / from->itemsize));
        return obj;
    }
    PyObject *bytes = PyBytes_FromStringAndSize(from->block, (Py_ssize_t)from->size);
    PyObject *done =
        bytes == NULL ? NULL : PyObject_CallMethod(obj, "frombytes", "(O)", bytes);
    if (done == NULL) {
        Py_CLEAR(obj);
    }
    Py_XDECREF(done);
    Py_XDECREF(bytes);
    return obj;
}
