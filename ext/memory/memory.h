/* Memory that is shared, not copied: atoll.Buffer, and memoryviews of any
 * object that exports a buffer.
 *
 * Both are counted regions (atoll.h). That of a Buffer is memory of nobody's;
 * that of an exporting object holds a Py_buffer of the owner's, and the last
 * holder of the region posts it home. What crosses is a reference to the region
 * and a geometry: where in it, format, shape, strides, read-only or not. The
 * receiver gets a memoryview over a small exporter (atoll._core._View) that
 * holds the region.
 */
#ifndef EXT_MEMORY_MEMORY_H
#define EXT_MEMORY_MEMORY_H

#include "base/base.h"

struct encoder;
struct decoder;
struct handle;

/* Append a memoryview, PickleBuffer, Buffer, Moved or _Descriptor. 1; or 0 when
 * `obj`, whose exact type is `type`, is none; -1 with an exception. */
int view_encode(struct encoder *e, PyObject *obj, PyTypeObject *type);
/* The object of one of their tags. A new reference. */
PyObject *view_decode(struct decoder *d, int tag);
/* Is it one of those that cross without a copy? */
bool view_is_plain(core_state *state, PyTypeObject *type);

int view_add_types(core_state *state);
extern PyMethodDef view_functions[];

/* --- atoll.Buffer (memory/buffer.c) */

typedef struct bufferobj {
    PyObject_HEAD
    atoll_region *region; /* counted; NULL once moved away */
    Py_ssize_t exports;
    PyObject *weakrefs;
} bufferobj;

int buffer_add_type(core_state *state);
PyObject *buffer_from_region(core_state *state, atoll_region *region);

/* --- what atoll.move() took (memory/moved.c) */

int moved_add_type(core_state *state);
int moved_encode(struct encoder *e, PyObject *obj);
PyObject *moved_decode(struct decoder *d, struct handle *h);
void moved_drop(void *ptr);
extern PyMethodDef moved_functions[];

/* --- NumPy arrays (memory/ndarray.c) */

/* Is it exactly a numpy.ndarray? Does not import numpy. */
bool ndarray_check(PyObject *obj);
/* Take the contents out of the array: a new array that has them, while `array`
 * has length 0. NULL with BufferError, TypeError or ValueError. */
PyObject *ndarray_take(PyObject *array);

/* --- file descriptors (memory/descriptor.c) */

int descriptor_add_type(core_state *state);
int descriptor_encode(struct encoder *e, PyObject *obj);

#endif
