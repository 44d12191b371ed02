/* Encoding what is built in: atoms, and which container or object it is. */
#include "wire/encode/encoder.h"

#include "cpython/adopt.h"
#include "cpython/version.h"

/* ------------------------------------------------------------------- atoms */

int
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
    return PyLong_AsNativeBytes(obj, at, size, Py_ASNATIVEBYTES_NATIVE_ENDIAN) < 0 ? -1
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
    unsigned char *at = enc_reserve(e, 1 + sizeof(maxchar) + sizeof(n) + bytes);
    if (at == NULL) {
        return -1;
    }
    at[0] = (unsigned char)(TAG_STR | memo);
    memcpy(at + 1, &maxchar, sizeof(maxchar));
    memcpy(at + 1 + sizeof(maxchar), &n, sizeof(n));
    memcpy(at + 1 + sizeof(maxchar) + sizeof(n), PyUnicode_DATA(obj), bytes);
    return 0;
}

int
enc_atom(encoder *e, PyObject *obj)
{
    PyTypeObject *type = Py_TYPE(obj);
    int rc, memo = 0;
    if (type == &PyUnicode_Type) {
        int known = enc_memo(e, obj, &memo);
        if (known != 0) {
            return known;
        }
        rc = enc_str(e, obj, memo);
    }
    else if (type == &PyLong_Type) {
        rc = enc_int(e, obj);
    }
    else if (type == &PyFloat_Type) {
        double value = PyFloat_AS_DOUBLE(obj);
        rc = enc_put(e, TAG_FLOAT, &value, sizeof(value));
    }
    else if (obj == Py_None || PyBool_Check(obj)) {
        rc = enc_tag(e, constant_tag(obj));
    }
    else {
        return 0;
    }
    return rc < 0 ? -1 : 1;
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

int
enc_bytes(encoder *e, PyObject *obj, int memo)
{
    size_t size = (size_t)PyBytes_GET_SIZE(obj);
    if (size >= ADOPT_MIN) {
        return enc_blob(e, adopt_copy_bytes(PyBytes_AS_STRING(obj), size, false), memo);
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

int
enc_bytearray(encoder *e, PyObject *obj, int memo)
{
    size_t size = (size_t)PyByteArray_GET_SIZE(obj);
    const char *data = PyByteArray_AS_STRING(obj);
    if (size >= ADOPT_MIN) {
        return enc_blob(e, adopt_copy_bytes(data, size, true), memo);
    }
    return enc_sized(e, TAG_BYTEARRAY | memo, data, size);
}

/* ------------------------------------------------------------- any object */

/* 1: appended; 0: no other room encodes its type; -1 with an exception. */
static int
enc_own_handle(encoder *e, PyObject *obj, PyTypeObject *type)
{
    const wire_type *known = wire_find_type(e->state, type);
    if (known == NULL) {
        return 0;
    }
    return known->encode(e, obj) < 0 ? -1 : 1;
}

/* What is immutable and cannot be made empty gets its number after its items. */
static inline bool
enc_is_late(PyTypeObject *type)
{
    return type == &PyTuple_Type || type == &PyFrozenSet_Type || type == &PySlice_Type
#ifdef COMPAT_FROZENDICT
           || type == &PyFrozenDict_Type
#endif
        ;
}

int
enc_object(encoder *e, PyObject *obj)
{
    int done = enc_quick(e, obj);
    return done == 0 ? enc_compound(e, obj) : done < 0 ? -1 : 0;
}

/* What has no parts, and is no own handle. 1; 0: it is none of these; -1. */
static int
enc_whole(encoder *e, PyObject *obj, PyTypeObject *type)
{
    int rc, memo = 0, constant = constant_tag(obj);
    if (constant != 0) {
        rc = enc_tag(e, constant);
    }
    else if (type == &PyBytes_Type || type == &PyByteArray_Type) {
        int known = enc_memo(e, obj, &memo);
        if (known != 0) {
            return known;
        }
        rc = type == &PyBytes_Type ? enc_bytes(e, obj, memo)
                                   : enc_bytearray(e, obj, memo);
    }
    else if (type == &PyComplex_Type) {
        Py_complex c = PyComplex_AsCComplex(obj);
        rc = enc_put(e, TAG_COMPLEX, &c, sizeof(c));
    }
    else {
        return 0;
    }
    return rc < 0 ? -1 : 1;
}

/* Held while it is walked: code that runs may drop the last other reference.
 * What is in the memo is held already, but some are not there before the end. */
static int
enc_walked(encoder *e, PyObject *obj, PyTypeObject *type)
{
    bool late = enc_is_late(type);
    int rc = -1, memo = 0;
    if (Py_REFCNT(obj) > 1) {
        int known = late ? enc_known(e, obj) : enc_memo(e, obj, &memo);
        if (known != 0) {
            return known < 0 ? -1 : 0;
        }
        memo = MEMO;
    }
    Py_INCREF(obj);
    if (type == &PyTuple_Type) {
        rc = enc_tuple(e, obj, memo);
    }
    else if (enc_enter() == 0) {
        rc = enc_container(e, obj, type, memo);
        Py_LeaveRecursiveCall();
    }
    if (rc == 0 && late && memo != 0) {
        rc = enc_number_late(e, obj) < 0 ? -1 : 0;
    }
    Py_DECREF(obj);
    return rc;
}

int
enc_compound(encoder *e, PyObject *obj)
{
    PyTypeObject *type = Py_TYPE(obj);
    if (is_container(type)) {
        return enc_walked(e, obj, type);
    }
    int done = type == e->order_type ? enc_again(e, obj) : enc_whole(e, obj, type);
    if (done != 0) {
        return done < 0 ? -1 : 0;
    }
    e->shared = Py_REFCNT(obj) > 1;
    Py_INCREF(obj);
    done = enc_enter();
    if (done == 0) {
        done = enc_own_handle(e, obj, type);
        if (done == 0) {
            done = enc_other(e, obj);
        }
        Py_LeaveRecursiveCall();
    }
    Py_DECREF(obj);
    return done < 0 ? -1 : 0;
}
