/* File descriptors inside messages: duplicated when they are sent, and closed
 * if the message is dropped. The receiver gets the number of its own copy. */
#include "memory/memory.h"

#include "wire/kind.h"

#include <errno.h>
#include <fcntl.h>
#include <unistd.h>

typedef struct descriptorobj {
    PyObject_HEAD
    int fd; /* borrowed from whoever sends */
} descriptorobj;

static int
descriptor_encode(encoder *e, PyObject *obj)
{
    int fd = fcntl(((descriptorobj *)obj)->fd, F_DUPFD_CLOEXEC, 3);
    if (fd < 0) {
        PyErr_SetFromErrno(PyExc_OSError);
        return -1;
    }
    uint32_t index;
    if (enc_handle(e, HANDLE_FD, (void *)(intptr_t)fd, &index) < 0) {
        return -1;
    }
    return enc_put(e, TAG_FD, &index, sizeof(index));
}

static PyObject *
descriptor_new(PyTypeObject *type, PyObject *args, PyObject *kwargs)
{
    static char *keywords[] = {"fd", NULL};
    int fd;
    if (!PyArg_ParseTupleAndKeywords(args, kwargs, "i:_Descriptor", keywords, &fd)) {
        return NULL;
    }
    if (fcntl(fd, F_GETFD) < 0) {
        return PyErr_SetFromErrno(PyExc_OSError);
    }
    descriptorobj *self = PyObject_New(descriptorobj, type);
    if (self != NULL) {
        self->fd = fd;
    }
    return (PyObject *)self;
}

static void
descriptor_dealloc(PyObject *obj)
{
    PyTypeObject *type = Py_TYPE(obj);
    PyObject_Free(obj);
    Py_DECREF(type);
}

PyDoc_STRVAR(descriptor_doc,
"_Descriptor(fd)\n--\n\n"
"A file descriptor (int) to be sent. The receiver gets an int: a duplicate,\n"
"which is its own to close. OSError if it is not open.");

static PyType_Slot descriptor_slots[] = {
    {Py_tp_new, descriptor_new},
    {Py_tp_dealloc, descriptor_dealloc},
    {Py_tp_doc, (void *)descriptor_doc},
    {0, NULL},
};

static PyType_Spec descriptor_spec = {
    .name = "atoll._core._Descriptor",
    .basicsize = sizeof(descriptorobj),
    .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_IMMUTABLETYPE,
    .slots = descriptor_slots,
};

static PyObject *
descriptor_decode(decoder *d, int Py_UNUSED(tag))
{
    handle *h = &d->handles[dec_u32(d)];
    handle given = *h;
    /* A message that may have to be as it was keeps its own: whoever reads it now has
     * perhaps closed his before that is known. */
    if (d->keep && wire_clone_handle(h, &given) != ATOLL_OK) {
        return PyErr_SetFromErrno(PyExc_OSError);
    }
    PyObject *number = PyLong_FromLong((int)(intptr_t)given.ptr);
    if (number == NULL && d->keep) {
        xfer_handle_unref(given.kind, given.ptr);
    }
    else if (number != NULL && !d->keep) {
        h->kind = HANDLE_NONE; /* the receiver's now */
    }
    return number;
}

static void
descriptor_close(void *ptr)
{
    close((int)(intptr_t)ptr);
}

static atoll_err
descriptor_clone(void *ptr, void **copy)
{
    int fd = fcntl((int)(intptr_t)ptr, F_DUPFD_CLOEXEC, 0);
    *copy = (void *)(intptr_t)fd;
    return fd < 0 ? ATOLL_ERR_NOMEM : ATOLL_OK;
}

static const wire_kind descriptor_kind = {.unref = descriptor_close,
                                          .clone = descriptor_clone};

void
descriptor_start(void)
{
    wire_set_kind(HANDLE_FD, &descriptor_kind);
    wire_set_decoder(TAG_FD, descriptor_decode);
}

int
descriptor_add_type(core_state *state)
{
    PyTypeObject *type = core_add_type(state, &descriptor_spec);
    state->memory->fd_type = type;
    return type == NULL ? -1 : wire_add_type(state, type, descriptor_encode, false);
}
