/* The form of a message, shared by encode.c and decode.c.
 *
 * A message is one of
 *   - a single None, int of 64 bits or float, in tag and u alone;
 *   - TAG_FLAT and `len` bytes inline: a flat encoding that fits;
 *   - TAG_BLOCK and a heap block: handles, then a flat encoding.
 * The flat encoding is a tag byte before each value, in native byte order: it
 * never leaves the process.
 */
#ifndef EXT_WIRE_H
#define EXT_WIRE_H

#include "xfer.h"

enum {
    TAG_NONE = 1,
    TAG_TRUE,
    TAG_FALSE,
    TAG_ELLIPSIS,
    TAG_INT,     /* int64_t */
    TAG_BIGINT,  /* uint64_t size, then two's complement */
    TAG_FLOAT,   /* double */
    TAG_COMPLEX, /* two doubles */
    TAG_STR,     /* uint32_t maxchar class, uint64_t length, data */
    TAG_BYTES,   /* uint64_t size, data */
    TAG_TUPLE,   /* uint64_t count, items */
    TAG_HANDLE,  /* uint32_t index into the block's handles */
    TAG_FOREIGN, /* int64_t id of an interpreter that has no home */
    TAG_PICKLE,  /* uint64_t size, data */
    TAG_FLAT,    /* message tag only */
    TAG_BLOCK,   /* message tag only */
};

typedef struct handle {
    void *ptr; /* counted */
    xfer_handle_kind kind;
} handle;

/* The heap form: handles, then `size` bytes of flat encoding. */
typedef struct block {
    size_t nhandles;
    size_t size;
    handle handles[];
} block;

static inline unsigned char *
block_data(block *b)
{
    return (unsigned char *)&b->handles[b->nhandles];
}

/* The `drop` of a message with a block. */
void wire_drop_block(atoll_msg *msg);

#endif
