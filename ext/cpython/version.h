/* Every difference between CPython versions, and every name of CPython that is
 * not public, in one place. The names are exported by all of 3.13 to 3.15. */
#ifndef EXT_CPYTHON_VERSION_H
#define EXT_CPYTHON_VERSION_H

#include <Python.h>
#include <cpython/longintrepr.h>
#include <stdbool.h>
#include <stddef.h>
#include <string.h>

#if PY_VERSION_HEX < 0x030D0000
#error "atoll needs CPython 3.13 or newer"
#endif
#ifdef Py_GIL_DISABLED
#error "atoll needs a CPython with a GIL; free-threaded builds share one"
#endif

/* On 3.13 finalising an interpreter that has imported the C module _datetime
 * corrupts the heap while others live; interpreters use the pure-Python
 * implementation there. */
#define COMPAT_NO_C_DATETIME (PY_VERSION_HEX < 0x030E0000)

/* There is no concurrent.interpreters yet, but the exceptions of _interpreters say
 * that they come from a module `interpreters`. */
#define COMPAT_NO_INTERPRETERS (PY_VERSION_HEX < 0x030E0000)

/* Queue `func(arg)` to run in `interp`, on whichever of its threads evaluates
 * bytecode next. Unlike Py_AddPendingCall it can name the interpreter, and
 * unlike PyThreadState_SetAsyncExc it needs no GIL. Returns 0, or another
 * number when the ring of pending calls is full. `interp` must be alive. */
extern int _PyEval_AddPendingCall(PyInterpreterState *interp, int (*func)(void *),
                                  void *arg, int flags);

/* Mark the current interpreter as running its __main__, and as not. Built-in
 * functions that need a namespace (eval, dir) then find that of __main__, and
 * the standard library does not run it at the same time. Fails with an
 * InterpreterError if somebody else has marked it. */
extern int _PyInterpreterState_SetRunningMain(PyInterpreterState *interp);
extern void _PyInterpreterState_SetNotRunningMain(PyInterpreterState *interp);

/* The interpreter with this id; NULL with InterpreterNotFoundError. It is in the
 * list until the last of its objects is gone. Takes a lock of CPython's. */
extern PyInterpreterState *_PyInterpreterState_LookUpID(int64_t id);

/* Is there something that CPython does in this thread at its next bytecode, and that
 * may raise: a signal's handler, a pending call, an asynchronous exception? The bits of
 * the word are the same in all versions; the others are about the GIL and the
 * collector. Relaxed: who sets them orders nothing, and whoever looks too early looks
 * again. */
static inline bool
compat_interrupt_due(void)
{
    return (_Py_atomic_load_uintptr_relaxed(
                &PyThreadState_GetUnchecked()->eval_breaker) &
            (1U << 1 | 1U << 2 | 1U << 3)) != 0;
}

/* Is there an interpreter with this id (still)? Keeps the exception that is set,
 * if any. */
static inline bool
compat_interp_exists(int64_t id)
{
    PyObject *exc = PyErr_GetRaisedException();
    bool exists = _PyInterpreterState_LookUpID(id) != NULL;
    PyErr_SetRaisedException(exc); /* in place of "not found" */
    return exists;
}

/* What hash() gives for bytes with these contents. */
#if PY_VERSION_HEX >= 0x030E0000
#define compat_hash_buffer Py_HashBuffer
#else
extern Py_hash_t _Py_HashBytes(const void *data, Py_ssize_t size);
#define compat_hash_buffer _Py_HashBytes
#endif

/* The allocator in use: "pymalloc", "malloc", one with "_debug" in its name, or
 * NULL when it is none of CPython's own. */
extern const char *_PyMem_GetCurrentAllocatorName(void);

static inline const char *
compat_allocator_name(void)
{
    return _PyMem_GetCurrentAllocatorName();
}

/* The value of an exact int of up to two digits of 30 bits. False, and nothing
 * more, for larger ones. */
static inline bool
compat_int64(PyObject *obj, int64_t *value)
{
    const _PyLongValue *number = &((PyLongObject *)obj)->long_value;
    uintptr_t digits = number->lv_tag >> _PyLong_NON_SIZE_BITS;
    if (PyLong_SHIFT != 30 || digits > 2) {
        return false;
    }
    /* Without a branch on the length: in random data it would be mispredicted
     * half of the time, which costs more than all the rest. */
    int64_t sign = 1 - (int64_t)(number->lv_tag & 3); /* 0 1 2: + 0 - */
    int64_t two = (int64_t)(digits >> 1);
    int64_t size =
        (int64_t)number->ob_digit[0] | ((int64_t)number->ob_digit[two] & -two) << 30;
    *value = sign * size;
    return true;
}

/* Does nobody count it? */
static inline bool
compat_is_immortal(PyObject *obj)
{
    return _Py_IsImmortal(obj);
}

/* Let nobody count a new object: as CPython's own static ones. On 3.13 any other
 * number is still counted by some. */
static inline void
compat_make_immortal(PyObject *obj)
{
#if PY_VERSION_HEX >= 0x030E0000
    obj->ob_refcnt_full = _Py_STATIC_IMMORTAL_INITIAL_REFCNT;
#else
    obj->ob_refcnt = UINT32_MAX;
#endif
}

/* Return how many digits an exact int has. */
static inline size_t
compat_int_digits(PyObject *obj)
{
    return ((PyLongObject *)obj)->long_value.lv_tag >> _PyLong_NON_SIZE_BITS;
}

/* Make `to`, new and zeroed, with room for the digits of `from`, an int of the same
 * value, which is not one of CPython's own. */
static inline void
compat_int_copy(PyObject *to, PyObject *from)
{
    const _PyLongValue *value = &((PyLongObject *)from)->long_value;
    size_t digits = compat_int_digits(from);
    ((PyLongObject *)to)->long_value.lv_tag =
        digits << _PyLong_NON_SIZE_BITS | (value->lv_tag & _PyLong_SIGN_MASK);
    memcpy((char *)to + offsetof(PyLongObject, long_value.ob_digit), value->ob_digit,
           digits * sizeof(digit));
}

/* Get the hash that a str keeps; -1: it has not been asked for it. */
static inline Py_hash_t
compat_str_hash(PyObject *str)
{
    return ((PyASCIIObject *)str)->hash;
}

/* Give a new str the hash that it would compute. */
static inline void
compat_str_set_hash(PyObject *str, Py_hash_t hash)
{
    ((PyASCIIObject *)str)->hash = hash;
}

/* A dict with room for `count` pairs. */
static inline PyObject *
compat_dict_presized(Py_ssize_t count)
{
    return count <= 5 ? PyDict_New() : _PyDict_NewPresized(count);
}

/* What `type` or a base of it defines under `name`; no descriptor is called.
 * Borrowed, or NULL without an exception. */
static inline PyObject *
compat_type_lookup(PyTypeObject *type, PyObject *name)
{
    return _PyType_Lookup(type, name);
}

/* A new bytes object whose memory is not CPython's own allocation. */
static inline void
compat_bytes_set_hash(PyBytesObject *bytes, Py_hash_t hash)
{
    _Py_COMP_DIAG_PUSH _Py_COMP_DIAG_IGNORE_DEPR_DECLS bytes->ob_shash = hash;
    _Py_COMP_DIAG_POP
}

static inline void
compat_bytes_no_hash(PyBytesObject *bytes)
{
    compat_bytes_set_hash(bytes, -1);
}

/* The layout that cpython/dict.h describes: of these versions. (A debug build, which
 * counts all references, has hooks in its allocator: so nothing is written there.) */
#if PY_VERSION_HEX < 0x03100000 && SIZEOF_VOID_P == 8
#define COMPAT_DICT_LAYOUT 1
#endif

/* From 3.15 on the memory of a bytearray is a bytes object. */
#define COMPAT_BYTEARRAY_HAS_BYTES (PY_VERSION_HEX >= 0x030F0000)

#if PY_VERSION_HEX >= 0x030F0000
#define COMPAT_FROZENDICT 1
#endif

/* From 3.14 on `with` calls __enter__ by an ordinary call, which looks for pending
 * calls when it is over; before it is LOAD_SPECIAL with this index. On 3.13 all is
 * one instruction (BEFORE_WITH), which does not look. */
#if PY_VERSION_HEX >= 0x030E0000
#define COMPAT_ENTER_SPECIAL 0
#endif

static inline int
compat_begin_main(void)
{
    return _PyInterpreterState_SetRunningMain(PyInterpreterState_Get());
}

static inline void
compat_end_main(void)
{
    _PyInterpreterState_SetNotRunningMain(PyInterpreterState_Get());
}

static inline int
compat_add_pending_call(PyInterpreterState *interp, int (*func)(void *), void *arg)
{
    return _PyEval_AddPendingCall(interp, func, arg, 0);
}

#endif
