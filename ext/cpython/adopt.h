/* Large str, bytes and bytearray: copied once, by the sender, into a block that
 * the receiver makes its object of.
 *
 * The block is laid out as CPython lays out the object, with a header still to
 * be filled. It comes from the raw allocator, as every object of more than 512
 * bytes does; an object's free function sees that the address is in none of its
 * arenas and hands it to the raw allocator. Where the allocator is another one
 * (debug hooks, mimalloc), the receiver copies.
 *
 * The object itself is never moved: its sender may still hold references that
 * it drops later, at a time when the receiver's thread counts too.
 */
#ifndef EXT_CPYTHON_ADOPT_H
#define EXT_CPYTHON_ADOPT_H

#include "cpython/dict.h"

/* From this size in bytes on a block of its own is worth it. */
#define ADOPT_MIN 16384

typedef enum adopt_kind { ADOPT_STR, ADOPT_BYTES, ADOPT_BYTEARRAY } adopt_kind;

/* A note, and the block it is about. Belongs to the message. */
typedef struct adopt_blob {
    void *block;      /* of the raw allocator; owned */
    size_t length;    /* bytes, or code points of a str */
    size_t offset;    /* of the data in the block */
    size_t size;      /* of the data, in bytes; eight more are allocated */
    uint32_t maxchar; /* of a str: 127, 255, 65535 or 1114111 */
    adopt_kind kind;
} adopt_blob;

/* Copy. NULL with MemoryError. */
adopt_blob *adopt_copy_bytes(const char *data, size_t size, bool as_bytearray);

/* Copy a str. NULL with MemoryError. */
adopt_blob *adopt_copy_str(PyObject *str);

/* Another one with the same contents; NULL when out of memory. Any thread. */
adopt_blob *adopt_clone(const adopt_blob *blob);

/* Make the object of a blob; the blob is used up, also on failure. NULL with
 * MemoryError. */
PyObject *adopt_take(core_state *state, adopt_blob *blob);

/* Drop a blob that nobody has taken. Any thread, no GIL needed. */
void adopt_drop(adopt_blob *blob);

/* Whether this interpreter's objects can be made of raw blocks. */
bool adopt_possible(void);

/* --- blocks that change from one interpreter to another (see memory/moved.c) */

/* CPython counts the blocks that an interpreter has from the raw allocator, and
 * keeps all its arenas if it ends with another number than zero. To be called
 * for a block that came to the current interpreter, or left it. -1 with
 * MemoryError: it is not counted. */
int adopt_count_in(void);

/* Note that a block has left the current interpreter; as adopt_count_in. */
int adopt_count_out(void);

/* A bytearray that owns `block`, in which its `size` bytes begin at `offset`;
 * `room` is what it counts as allocated. Steals the block on success. */
PyObject *adopt_bytearray(void *block, size_t offset, size_t size, size_t room);

#endif
