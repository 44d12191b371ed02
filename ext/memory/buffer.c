/* atoll.Buffer: memory that belongs to no interpreter. */
#include "memory/memory.h"

#include <stddef.h>

PyObject *
buffer_from_region(core_state *state, atoll_region *region)
{
    bufferobj *self = PyObject_New(bufferobj, state->memory->buffer_type);
    if (self != NULL) {
        self->region = atoll_region_ref(region);
        self->exports = 0;
        self->weakrefs = NULL;
    }
    return (PyObject *)self;
}

static PyObject *
buffer_new(PyTypeObject *type, PyObject *args, PyObject *kwargs)
{
    static char *keywords[] = {"nbytes", NULL};
    PyObject *nbytes;
    int64_t size;
    if (!PyArg_ParseTupleAndKeywords(args, kwargs, "O:Buffer", keywords, &nbytes) ||
        args_int("nbytes", nbytes, &size) < 0) {
        return NULL;
    }
    if (size < 0) {
        PyErr_SetString(PyExc_ValueError, "nbytes must not be negative");
        return NULL;
    }
    atoll_region *region;
    if (atoll_region_new((size_t)size, true, &region) != ATOLL_OK) {
        return PyErr_NoMemory();
    }
    PyObject *self = buffer_from_region(PyType_GetModuleState(type), region);
    atoll_region_unref(region);
    return self;
}

static void
buffer_dealloc(PyObject *obj)
{
    bufferobj *self = (bufferobj *)obj;
    PyTypeObject *type = Py_TYPE(obj);
    if (self->weakrefs != NULL) {
        PyObject_ClearWeakRefs(obj);
    }
    if (self->region != NULL) {
        atoll_region_unref(self->region);
    }
    PyObject_Free(self);
    Py_DECREF(type);
}

static Py_ssize_t
buffer_length(PyObject *obj)
{
    atoll_region *region = ((bufferobj *)obj)->region;
    return region == NULL ? 0 : (Py_ssize_t)region->size;
}

static int
buffer_getbuffer(PyObject *obj, Py_buffer *out, int flags)
{
    bufferobj *self = (bufferobj *)obj;
    static char nothing[1];
    void *data = self->region == NULL ? nothing : self->region->data;
    if (PyBuffer_FillInfo(out, obj, data, buffer_length(obj), 0, flags) < 0) {
        return -1;
    }
    self->exports++;
    return 0;
}

static void
buffer_releasebuffer(PyObject *obj, Py_buffer *Py_UNUSED(b))
{
    ((bufferobj *)obj)->exports--;
}

static PyObject *
buffer_repr(PyObject *obj)
{
    return ((bufferobj *)obj)->region == NULL
               ? PyUnicode_FromString("<atoll.Buffer, moved away>")
               : PyUnicode_FromFormat("<atoll.Buffer of %zd bytes>",
                                      buffer_length(obj));
}

PyDoc_STRVAR(buffer_doc,
"Buffer(nbytes)\n--\n\n"
"Memory that belongs to no interpreter: `nbytes` (int) bytes, zero at first,\n"
"aligned to 64 bytes. It never changes its size.\n\n"
"It exports a writable buffer: memoryview(buffer), numpy.frombuffer(buffer).\n"
"Sent through a queue or channel it is shared, not copied: both sides see the\n"
"same memory, in O(1). atoll does not synchronise who writes when. It is freed\n"
"with the last handle and view, in whichever interpreter.\n\n"
"Raises ValueError if nbytes is negative, MemoryError.");

static PyMemberDef buffer_members[] = {
    {"__weaklistoffset__", Py_T_PYSSIZET, offsetof(bufferobj, weakrefs), Py_READONLY,
     NULL},
    {NULL, 0, 0, 0, NULL},
};

static PyType_Slot buffer_slots[] = {
    {Py_tp_new, buffer_new},
    {Py_tp_dealloc, buffer_dealloc},
    {Py_tp_repr, buffer_repr},
    {Py_sq_length, buffer_length},
    {Py_bf_getbuffer, buffer_getbuffer},
    {Py_bf_releasebuffer, buffer_releasebuffer},
    {Py_tp_members, buffer_members},
    {Py_tp_doc, (void *)buffer_doc},
    {0, NULL},
};

static PyType_Spec buffer_spec = {
    .name = "atoll.Buffer",
    .basicsize = sizeof(bufferobj),
    .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_IMMUTABLETYPE,
    .slots = buffer_slots,
};

int
buffer_add_type(core_state *state)
{
    state->memory->buffer_type = core_add_type(state, &buffer_spec);
    return state->memory->buffer_type == NULL ? -1 : 0;
}
