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

/* What an interpreter has of the room. */
typedef struct memory_data {
    PyTypeObject *buffer_type, *view_type, *moved_type, *fd_type;
} memory_data;

extern const core_room memory_room;

/* --- memoryviews (memory/view.c) */

/* Tell the wire about regions and views. */
void view_start(void);

/* Make the type of the exporter; tell the wire about memoryviews, PickleBuffers and
 * Buffers. 0, or -1 with an exception. */
int view_add_types(core_state *state);

extern PyMethodDef view_functions[];

/* --- atoll.Buffer (memory/buffer.c) */

typedef struct bufferobj {
    PyObject_HEAD
    atoll_region *region; /* counted; NULL once moved away */
    Py_ssize_t exports;
    PyObject *weakrefs;
} bufferobj;

/* Make the type. 0, or -1 with an exception. */
int buffer_add_type(core_state *state);

/* Make a Buffer that takes a reference of its own to the region. A new reference; NULL
 * with MemoryError. */
PyObject *buffer_from_region(core_state *state, atoll_region *region);

/* --- what atoll.move() took (memory/moved.c) */

/* Tell the wire about what was moved. */
void moved_start(void);

/* Make the type, and tell the wire. 0, or -1 with an exception. */
int moved_add_type(core_state *state);

extern PyMethodDef moved_functions[];

/* --- NumPy arrays (memory/ndarray.c) */

/* Is it exactly a numpy.ndarray? Does not import numpy. */
bool ndarray_check(PyObject *obj);
/* Take the contents out of the array: a new array that has them, while `array`
 * has length 0. NULL with BufferError, TypeError or ValueError. */
PyObject *ndarray_take(PyObject *array);

/* --- file descriptors (memory/descriptor.c) */

/* Tell the wire about descriptors. */
void descriptor_start(void);

/* Make the type, and tell the wire. 0, or -1 with an exception. */
int descriptor_add_type(core_state *state);

#endif
