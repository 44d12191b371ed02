/* Memory that changes from one bytearray or array to another, also of another
 * interpreter, without a copy: reaches into CPython's own structs. */
#ifndef EXT_CPYTHON_TAKE_H
#define EXT_CPYTHON_TAKE_H

#include "cpython/dict.h"

/* What was taken. */
typedef struct taken_memory {
    void *block;   /* of the raw allocator; owned */
    size_t offset; /* of the data in the block */
    size_t size;   /* bytes of data */
    size_t room;   /* bytes of the block, as its object counts them */
    int typecode;  /* of an array */
    size_t itemsize;
} taken_memory;

/* Is it exactly an array.array? False with an exception if there is none. */
bool take_is_array(PyObject *obj);

/* Take the contents out of a bytearray, which is empty afterwards. What is small, or
 * cannot be taken, is copied. 0, or -1 with BufferError if there are views of it, or
 * MemoryError; then nothing has changed. */
int take_bytearray(const core_state *state, PyObject *obj, taken_memory *out);

/* Take those of an array; as take_bytearray. */
int take_array(const core_state *state, PyObject *obj, taken_memory *out);

/* Raise BufferError: there are views of it. Returns -1. */
int take_refuse_exports(PyObject *obj);

/* Make a bytearray of it. A new reference, NULL with MemoryError. The block is the
 * object's if state->cpython->can_adopt; else it has been copied, and is still the
 * caller's. */
PyObject *give_bytearray(const core_state *state, const taken_memory *from);

/* Make an array of it; as give_bytearray, but a block without data stays the caller's.
 */
PyObject *give_array(const core_state *state, const taken_memory *from);

#endif
