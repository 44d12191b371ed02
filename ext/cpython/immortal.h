/* CPython's layout of the objects that a frozen graph is made of.
 *
 * Everything that atoll knows of it is here, in cpython/immortal.c, and, for the
 * tables of dicts, in cpython/dict.h. frozen/check.c compares it with what CPython
 * makes, once a process; unless all of it is right nothing is frozen.
 *
 * An object is written into memory of ours that nobody else knows yet: zeroed,
 * aligned to 8 bytes, `..._size()` of it. It has to be such that CPython never
 * writes it again, whatever is done with it, in any interpreter:
 *   - its count says that it is immortal and static, so nobody counts;
 *   - a head of zeros before a container says that no collector tracks it;
 *   - each field that CPython fills on demand is filled: the hashes of str,
 *     bytes, tuples and frozendicts, the UTF-8 of a str that is not ASCII;
 *   - a str is interned and static, so no interpreter takes it into its own
 *     table, whose end would free it.
 *
 * Nothing here runs code of the user's, allocates, or fails, except where it
 * says so. Attached to some interpreter.
 */
#ifndef EXT_CPYTHON_IMMORTAL_H
#define EXT_CPYTHON_IMMORTAL_H

#include "cpython/dict.h"
#include "cpython/version.h"

/* What is known: a build that counts no references apart, of these versions. */
#if defined(COMPAT_DICT_LAYOUT) && !defined(Py_TRACE_REFS) && !PY_BIG_ENDIAN
#define FROZEN_KNOWN 1
#endif

#define FROZEN_HEAD ((size_t)16) /* PyGC_Head, before each container */

/* The fields of a range, in rangeobject.c of CPython. */
typedef struct frozen_range {
    PyObject_HEAD
    PyObject *parts[4]; /* start, stop, step, length: exact int */
} frozen_range;

/* A mappingproxy, in descrobject.c. */
typedef struct frozen_proxy {
    PyObject_HEAD
    PyObject *mapping;
} frozen_proxy;

/* --- numbers, strings */

size_t frozen_int_size(PyObject *src);

/* Write an int into zeroed memory of that size; returns it. */
PyObject *frozen_write_int(void *to, PyObject *src);

static inline size_t
frozen_float_size(void)
{
    return sizeof(PyFloatObject);
}

/* Write a float; as frozen_write_int. */
PyObject *frozen_write_float(void *to, double value);

static inline size_t
frozen_complex_size(void)
{
    return sizeof(PyComplexObject);
}

/* Write a complex; as frozen_write_int. */
PyObject *frozen_write_complex(void *to, Py_complex value);

/* With its UTF-8, unless it has lone surrogates and so no UTF-8 ever. */
size_t frozen_str_size(PyObject *src);

/* Write a str whose hash is known; as frozen_write_int. */
PyObject *frozen_write_str(void *to, PyObject *src, Py_hash_t hash);

/* Compute the size of a bytes object, as it is written. */
size_t frozen_bytes_size(PyObject *src);

/* Write a bytes object whose hash is known; as frozen_write_int. */
PyObject *frozen_write_bytes(void *to, PyObject *src, Py_hash_t hash);
/* A bytes object of any memory. */
size_t frozen_data_size(Py_ssize_t size);

/* Write a bytes object of any memory; as frozen_write_int. */
PyObject *frozen_write_data(void *to, const void *data, Py_ssize_t size);

/* --- what has parts: they are set after it is written, and then it is sealed */

size_t frozen_tuple_size(Py_ssize_t count);

/* Write a tuple with room for `count` items; as frozen_write_int. */
PyObject *frozen_write_tuple(void *to, Py_ssize_t count);

/* Compute the size of a range. */
size_t frozen_range_size(void);

/* Write a range without its parts; as frozen_write_int. */
PyObject *frozen_write_range(void *to);

/* Compute the size of a slice. */
size_t frozen_slice_size(void);

/* Write a slice without its parts; as frozen_write_int. */
PyObject *frozen_write_slice(void *to);

/* The parts of a tuple, list, range (4) or slice (3), frozen or not. */
PyObject **frozen_parts(PyObject *obj, Py_ssize_t *count);

/* A read-only mapping of `count` pairs, at most FROZEN_MOST: a mappingproxy of a
 * dict; from 3.15 on a frozendict. `general`: not all keys are exact str. */
#define FROZEN_MOST ((Py_ssize_t)1 << 30)

/* Compute the size of a mapping of `count` pairs. */
size_t frozen_mapping_size(Py_ssize_t count, bool general);

/* Write a mapping without its pairs; as frozen_write_int. */
PyObject *frozen_write_mapping(const core_state *state, void *to, Py_ssize_t count,
                               bool general);
/* Add one, to be found after frozen_seal(): the key is frozen, not equal to any that is
 * there, `hash` is its. */
void frozen_mapping_put(PyObject *mapping, PyObject *key, Py_hash_t hash,
                        PyObject *value);
/* The dict of a frozen mapping, to be read only; NULL: it is none. */
PyObject *frozen_mapping_dict(PyObject *mapping);

/* The first of its keys, with the value after it; how many there are; and from one
 * key to the next. Of a sealed one, to be read only. */
PyObject *const *frozen_mapping_pairs(PyObject *mapping, Py_ssize_t *count,
                                      int *stride);

/* Looking for a key of which only the hash is known: its owner compares. */
typedef struct frozen_probe {
    layout_keys *keys; /* NULL: the mapping is empty */
    size_t slot, perturb;
    Py_hash_t hash;
} frozen_probe;

/* Begin to look for a key in a sealed mapping. */
frozen_probe frozen_probe_begin(PyObject *mapping, Py_hash_t hash);
/* The next key with this hash, with the value after it; NULL: no more. */
PyObject *const *frozen_probe_next(frozen_probe *probe);

/* All parts are set: fill in the index, and the hash, if it has one. -1 with an
 * exception. */
int frozen_seal(PyObject *obj);

/* --- what CPython has already, the same in every interpreter; borrowed. */

/* An int; NULL: it has none. */
PyObject *frozen_own_int(PyObject *src);
/* A str or bytes of less than two characters; NULL: it has none, and no
 * exception. */
PyObject *frozen_own_char(PyObject *src);
/* Is it the one empty tuple? What was an empty list is another. */
bool frozen_is_empty_tuple(PyObject *obj);
/* The str that CPython itself was compiled with (cpython/own_str.c). It compares
 * names of attributes by address. NULL: there is none like it. */
PyObject *frozen_own_str(PyObject *str, Py_hash_t hash);

/* --- is all this right? (frozen/check.c) */

/* Compare it with CPython, the first time in this process. 1; 0: something is
 * different, and nothing must be frozen; -1 with an exception. */
int frozen_possible(core_state *state);
/* Find CPython's own str: how many there are; -1 with MemoryError. Once. */
Py_ssize_t frozen_find_own(void);

/* Sizes of CPython's own structs, for the comparison at the first freeze. */
#define IMMORTAL_DICT_SIZE sizeof(PyDictObject)
#define IMMORTAL_INT_HEAD offsetof(PyLongObject, long_value.ob_digit)

/* In a forked child (cpython/own_str.c). */
void frozen_static_fork_child(void);

#endif
