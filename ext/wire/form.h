/* The form of a message, shared by the encoder and the decoder.
 *
 * A message is one of
 *   - a single None, int of 64 bits or float, in tag and u alone;
 *   - TAG_FLAT and `len` bytes inline: a flat encoding that fits;
 *   - TAG_BLOCK and a heap block: handles, and a flat encoding.
 *
 * The flat encoding is a tag byte before each value, depth first, in native
 * byte order: it never leaves the process. A tag with MEMO set is the
 * definition of an object that is referred to again: both sides count these, in
 * the order in which the objects come into being, and TAG_REF names one by its
 * number. A list, dict, set or plain instance comes into being before its items;
 * what is immutable, or made by a call, after them. In the latter case the items
 * are followed by a byte: 0, and it gets its number now; or 1 and a uint32_t, and
 * it is that object, since one of its own parts has led to it and made it first.
 *
 * Large str, bytes and buffers are not in the block but beside it, as handles.
 */
#ifndef EXT_WIRE_FORM_H
#define EXT_WIRE_FORM_H

#include "wire/wire.h"

#define MEMO 0x80
#define DIGEST_SIZE 16

enum {
    TAG_NONE = 1,
    TAG_TRUE,
    TAG_FALSE,
    TAG_ELLIPSIS,
    TAG_NOTIMPLEMENTED,
    TAG_INT8,      /* int8_t */
    TAG_INT32,     /* int32_t */
    TAG_INT,       /* int64_t */
    TAG_BIGINT,    /* size, then two's complement */
    TAG_FLOAT,     /* double */
    TAG_COMPLEX,   /* two doubles */
    TAG_INTS,      /* in a list or tuple: uint32_t count, int32_t each */
    TAG_WIDE_INTS, /* likewise: uint32_t count, int64_t each */
    TAG_FLOATS,    /* in a list or tuple: uint32_t count, double each */
    TAG_ASCII8,    /* uint8_t length, data */
    TAG_KEY8,      /* uint8_t length, int64_t hash, data: of a dict's key */
    TAG_STR,       /* uint32_t maxchar class, size, data */
    TAG_BYTES8,    /* uint8_t size, data */
    TAG_BYTES,     /* size, data */
    TAG_BYTEARRAY, /* size, data */
    TAG_BLOB,      /* uint32_t handle: str or bytes or bytearray of its own */
    TAG_TUPLE8,    /* uint8_t count, items */
    TAG_TUPLE,     /* size, items */
    TAG_LIST8,
    TAG_LIST,
    TAG_DICT8,
    TAG_DICT,
    TAG_NEW_FORM,   /* uint8_t count, keys: a form, numbered; then as FORM */
    TAG_FORM,       /* uint32_t form, then a value for each key; or BREAK */
    TAG_BREAK,      /* in place of a value: from here on pairs */
    TAG_FROZENDICT, /* size, pairs; from 3.15 on */
    TAG_SET,
    TAG_FROZENSET,
    TAG_SLICE,     /* three items */
    TAG_REF,       /* uint32_t number in the memo */
    TAG_GLOBAL,    /* module and qualified name, two str */
    TAG_CONSTANT,  /* 16 bytes of digest, size, bytes: a constant function */
    TAG_CALL,      /* callable, a tuple of arguments; then what BUILD_ says */
    TAG_NEW,       /* class, a tuple of arguments for __new__; then as CALL */
    TAG_SHAPE,     /* class, count, names: a shape, numbered; then as INSTANCE */
    TAG_INSTANCE,  /* uint32_t shape, then a value for each name */
    TAG_EXCEPTION, /* see wire/encode/object.c */
    TAG_TRY,       /* size, then an object that may fail: see dec_try */
    TAG_END,       /* ends a run of items whose number is not known before */
    TAG_HANDLE,    /* uint32_t handle: a queue, lock, interpreter, … */
    TAG_FOREIGN,   /* int64_t id of an interpreter that has no home */
    TAG_MEMORY,    /* uint32_t handle, uint8_t read-only: an atoll.Buffer */
    TAG_VIEW,      /* uint32_t handle, a geometry (memory/memory.h): a memoryview */
    TAG_MOVED,     /* uint32_t handle: what atoll.move() took */
    TAG_FD,        /* uint32_t handle: a file descriptor */
    TAG_PART,      /* uint32_t handle, an address: a view of a frozen graph */
    TAG_FLAT,      /* message tag only */
    TAG_BLOCK,     /* message tag only */
    TAG_COUNT,
};

/* What follows the arguments of TAG_CALL and TAG_NEW, in this order. */
enum {
    BUILD_LIST = 1,   /* items to append, then TAG_END */
    BUILD_DICT = 2,   /* pairs to set, then TAG_END */
    BUILD_STATE = 4,  /* the state */
    BUILD_SETTER = 8, /* before the state: a callable(obj, state) */
};

typedef struct handle {
    void *ptr; /* counted, if not `lent` */
    xfer_handle_kind kind;
    bool lent; /* see xfer_lend */
} handle;

/* The heap form: one allocation, and one for the handles if there are any. */
typedef struct block {
    handle *handles;
    size_t nhandles;
    size_t size; /* of the encoding */
    size_t room; /* for it */
    unsigned char data[];
} block;

struct encoder;
struct decoder;

/* A type whose objects another room encodes; see wire/kind.h. */
typedef struct wire_type {
    PyTypeObject *type; /* counted; NULL: nothing is here */
    int (*encode)(struct encoder *e, PyObject *obj);
    bool shareable;
} wire_type;

#define WIRE_TYPES 64 /* places; at most half of them are taken */

/* What an interpreter has of the wire. */
typedef struct wire_data {
    struct block *spare;      /* owned; or NULL */
    struct encoder *encoders; /* pickles being written, innermost first */
    struct decoder *decoders; /* pickles being read */
    PyObject *constant, *by_value, *reduce, *exception_state, *traceback_text, *loads,
        *rebuild_exception;      /* of the package, on demand */
    PyObject *is_found;          /* atoll._cross.modules.is_found, likewise */
    PyObject *found_modules;     /* name -> address of a module that others find */
    PyObject *cloudpickle;       /* the name of its module, likewise */
    PyObject *registered;        /* its set of what goes by value, once imported */
    PyObject *look;              /* a code object that does nothing, likewise */
    PyObject *copyreg_table;     /* copyreg.dispatch_table, likewise */
    PyObject *reducers;          /* type -> (reduce, rebuild): atoll.register */
    PyObject *inherit;           /* atoll._cross.registry's, or NULL */
    wire_type types[WIRE_TYPES]; /* by address, open addressing */
    size_t ntypes;
} wire_data;

/* Find what is known of `type`, or NULL. */
const wire_type *wire_find_type(const core_state *state, PyTypeObject *type);

/* Tell about the kinds of handles that are the wire's own. */
void wire_start_kinds(void);

/* Can there be two handles of the kind? */
bool wire_has_copies(xfer_handle_kind kind);

/* Make a handle of the same thing. NOMEM; CLOSED if only one can have it. */
atoll_err wire_clone_handle(const handle *from, handle *to);

/* Make the object of a handle: a new reference; NULL with an exception. */
PyObject *wire_open_handle(core_state *state, const handle *h);

/* The handles of a message that is kept, when it has been read: it is received, or it
 * is to be as it was: can it? Attached. */
void wire_received(block *b);

/* Make the handles as they were; false if that cannot be. See wire_received. */
bool wire_unread(core_state *state, block *b);

/* Make the object after a tag that another room reads. As wire_open_handle. */
PyObject *wire_decode_tag(struct decoder *d, int tag);

/* Each interpreter keeps one block, of a message that it has received, for the
 * next one that it sends: such memory is warm, and large enough.
 *
 * A block with room for `room` bytes: the spare one, or new; NULL when
 * exhausted. */
block *block_new(core_state *state, size_t room);
/* A larger one with the same content. On failure (NULL) the old one remains. */
block *block_grow(block *b, size_t room);
/* Done with it; it has no handles (any more). */
void block_give(core_state *state, block *b);

/* Release the handles of a block. */
void wire_drop_handles(block *b);
/* The `drop` of a message with a block. */
void wire_drop_block(atoll_msg *msg);

#endif
