/* What SendChannel and RecvChannel have in common: their attributes and the ends
 * of their life. The types are in chan/channel.c. */
#ifndef EXT_CHAN_END_H
#define EXT_CHAN_END_H

#include "chan/chan.h"

/* Raise what `err` means for a channel; for AGAIN atoll.<if_not_ready>. Returns
 * NULL. */
PyObject *chanend_raise(chanobj *self, atoll_err err, const char *if_not_ready);

/* Methods of both types. */
PyObject *chanend_close(PyObject *obj, PyObject *ignored);

/* Poison the channel; documented in chanend_poison_doc. */
PyObject *chanend_poison(PyObject *obj, PyObject *const *args, Py_ssize_t nargs,
                         PyObject *kwnames);

/* Enter `with`: returns the end itself. */
PyObject *chanend_enter(PyObject *obj, PyObject *ignored);

/* Leave `with`: closes the channel. */
PyObject *chanend_exit(PyObject *obj, PyObject *args);

/* Make what __reduce__ returns; ChannelClosed if the end is retired. */
PyObject *chanend_reduce(PyObject *obj, PyObject *ignored);
/* Give this interpreter's end back; the types document it each for itself. */
PyObject *chanend_retire(PyObject *obj, PyObject *ignored);

/* Show it. */
PyObject *chanend_repr(PyObject *obj);

extern const char chanend_close_doc[], chanend_poison_doc[];
extern PyGetSetDef chanend_getset[];

#define CHANEND_METHODS                                                                \
    {"close", chanend_close, METH_NOARGS, chanend_close_doc},                          \
        {"poison", (PyCFunction)(void *)chanend_poison, METH_FASTCALL | METH_KEYWORDS, \
         chanend_poison_doc},                                                          \
        {"__enter__", chanend_enter, METH_NOARGS, NULL},                               \
        {"__exit__", chanend_exit, METH_VARARGS, NULL},                                \
        {"__reduce__", chanend_reduce, METH_NOARGS, NULL},                             \
    {                                                                                  \
        NULL, NULL, 0, NULL                                                            \
    }

#endif
