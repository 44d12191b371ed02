/* atoll.Frozen, atoll.freeze, atoll.thaw. See frozen/frozen.h. */
#include "frozen/frozen.h"

#include <stddef.h>
#include <string.h>

#include "cpython/immortal.h"
#include "frozen/mold.h"
#include "frozen/view/view.h"
#include "frozen/xml/xml.h"
#include "wait/wait.h"
#include "wire/kind.h"

typedef struct frozenobj {
    PyObject_HEAD
    core_state *state;   /* lives as long as the type */
    frozen_graph *graph; /* counted */
    bool pinned;         /* by this interpreter */
    PyObject *weakrefs;
} frozenobj;

PyObject *
frozen_object(core_state *state, frozen_graph *g)
{
    frozenobj *self = PyObject_New(frozenobj, state->frozen->frozen_type);
    if (self != NULL) {
        frozen_ref(g);
        self->state = state;
        self->graph = g;
        self->pinned = false;
        self->weakrefs = NULL;
    }
    return (PyObject *)self;
}

frozen_graph *
frozen_of(PyObject *obj)
{
    return ((frozenobj *)obj)->graph;
}

static void
frozen_dealloc(PyObject *obj)
{
    frozenobj *self = (frozenobj *)obj;
    PyTypeObject *type = Py_TYPE(obj);
    if (self->weakrefs != NULL) {
        PyObject_ClearWeakRefs(obj);
    }
    frozen_unref(self->graph);
    PyObject_Free(self);
    Py_DECREF(type);
    frozen_sweep();
}

PyDoc_STRVAR(get_doc,
"get($self, /)\n--\n\n"
"The objects themselves: ordinary ones, at their ordinary speed, the same for\n"
"every interpreter, in O(1). They are immutable: tuples in place of lists,\n"
"mappingproxy (from 3.15 on frozendict) in place of dicts. Of an XML tree, its\n"
"root, a FrozenElement. Sets, instances and buffers, and containers of such, are\n"
"made by the first call in an interpreter, which keeps them: classes are looked up\n"
"by their names, and may be imported.\n\n"
"Nobody counts who refers to them. So the graph stays in memory until this\n"
"interpreter is closed; in main, until the process ends. Does not block.\n\n"
"Raises MemoryError; ImportError, if there is no such class here; and what the\n"
"code of a class raises.");

static PyObject *
frozen_get(PyObject *obj, PyObject *Py_UNUSED(ignored))
{
    frozenobj *self = (frozenobj *)obj;
    const core_state *state = self->state;
    if (!self->pinned) {
        bool foreign = !state->is_main && state->wait->host == NULL;
        if (frozen_pin_for(self->graph, state->interp_id, foreign) != ATOLL_OK) {
            return PyErr_NoMemory();
        }
        self->pinned = true;
    }
    if (self->graph->element) {
        return xml_element(self->state, self->graph, self->graph->root, true);
    }
    return frozen_open(self->state, self->graph->root);
}

PyDoc_STRVAR(view_doc,
"view($self, /)\n--\n\n"
"A view of it, in O(1): a SequenceView of a tuple or list, a DictView of a dict,\n"
"which behave as these and give views of their parts in turn; a FrozenElement of an\n"
"XML tree; of anything else a copy, as thaw() makes it, but frozensets of sets.\n"
"Nothing is pinned: the memory is given back when the last view, handle or message\n"
"is gone. Does not block.\n\n"
"Raises MemoryError; of an instance what thaw() raises.");

static PyObject *
frozen_get_view(PyObject *obj, PyObject *Py_UNUSED(ignored))
{
    frozenobj *self = (frozenobj *)obj;
    frozen_graph *g = self->graph;
    return g->element ? xml_element(self->state, g, g->root, false)
                      : frozen_view_open(self->state, g, g->root);
}

static PyObject *
frozen_get_nbytes(PyObject *obj, void *Py_UNUSED(closure))
{
    return PyLong_FromSize_t(frozen_of(obj)->nbytes);
}

static PyObject *
frozen_get_pins(PyObject *obj, void *Py_UNUSED(closure))
{
    frozen_sweep();
    return PyLong_FromSize_t(frozen_pin_count(frozen_of(obj)));
}

static PyObject *
frozen_get_name(PyObject *obj, void *Py_UNUSED(closure))
{
    const char *name = frozen_of(obj)->name;
    return name == NULL ? Py_NewRef(Py_None) : PyUnicode_FromString(name);
}

static PyObject *
frozen_repr(PyObject *obj)
{
    const frozen_graph *g = frozen_of(obj);
    PyObject *name = g->name == NULL ? NULL : PyUnicode_FromString(g->name);
    if (name == NULL && PyErr_Occurred()) {
        return NULL;
    }
    const char *what = g->element ? "XML element"
                       : frozen_is_mold(g->root)
                           ? frozen_mold_name(frozen_mold_of(g->root))
                           : Py_TYPE(g->root)->tp_name;
    PyObject *text =
        name == NULL
            ? PyUnicode_FromFormat("<atoll.Frozen %s of %zu bytes>", what, g->nbytes)
            : PyUnicode_FromFormat("<atoll.Frozen %R: %s of %zu bytes>", name, what,
                                   g->nbytes);
    Py_XDECREF(name);
    return text;
}

static Py_hash_t
frozen_hash(PyObject *obj)
{
    return Py_HashPointer(frozen_of(obj));
}

static PyObject *
frozen_compare(PyObject *a, PyObject *b, int op)
{
    if (Py_TYPE(a) != Py_TYPE(b) || (op != Py_EQ && op != Py_NE)) {
        Py_RETURN_NOTIMPLEMENTED;
    }
    return PyBool_FromLong((frozen_of(a) == frozen_of(b)) == (op == Py_EQ));
}

PyDoc_STRVAR(frozen_doc,
"A frozen graph of objects, made by freeze(): a handle to memory that belongs to\n"
"no interpreter.\n\n"
"Sent to another interpreter, also inside other objects, it arrives as a handle\n"
"to the same graph, in O(1) whatever the size. get() gives the objects. Two\n"
"handles are equal if they are of the same graph. The memory is given back when\n"
"the last handle is gone and every interpreter that has called get() is closed.");

static PyMethodDef frozen_methods[] = {
    {"__class_getitem__", Py_GenericAlias, METH_O | METH_CLASS, core_generic_doc},
    {"get", frozen_get, METH_NOARGS, get_doc},
    {"view", frozen_get_view, METH_NOARGS, view_doc},
    {NULL, NULL, 0, NULL},
};

static PyGetSetDef frozen_getset[] = {
    {"nbytes", frozen_get_nbytes, NULL,
     "The memory of this graph (int), without graphs that it has parts of.", NULL},
    {"pins", frozen_get_pins, NULL,
     "How many interpreters (int) have called get() and are not closed.", NULL},
    {"name", frozen_get_name, NULL, "What freeze(name=) was given, or None.", NULL},
    {NULL, NULL, NULL, NULL, NULL},
};

static PyMemberDef frozen_members[] = {
    {"__weaklistoffset__", Py_T_PYSSIZET, offsetof(frozenobj, weakrefs), Py_READONLY,
     NULL},
    {NULL, 0, 0, 0, NULL},
};

static PyType_Slot frozen_slots[] = {
    {Py_tp_dealloc, frozen_dealloc},
    {Py_tp_repr, frozen_repr},
    {Py_tp_hash, frozen_hash},
    {Py_tp_richcompare, frozen_compare},
    {Py_tp_methods, frozen_methods},
    {Py_tp_getset, frozen_getset},
    {Py_tp_members, frozen_members},
    {Py_tp_doc, (void *)frozen_doc},
    {0, NULL},
};

static PyType_Spec frozen_spec = {
    .name = "atoll.Frozen",
    .basicsize = sizeof(frozenobj),
    .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_IMMUTABLETYPE |
             Py_TPFLAGS_DISALLOW_INSTANTIATION,
    .slots = frozen_slots,
};

/* ------------------------------------------------------------- for the wire */

static void
frozen_ref_handle(void *ptr)
{
    frozen_ref(ptr);
}

static void
frozen_unref_handle(void *ptr)
{
    frozen_unref(ptr);
}

static PyObject *
frozen_open_handle(core_state *state, void *ptr)
{
    return frozen_object(state, ptr);
}

static const wire_kind frozen_kind = {
    .ref = frozen_ref_handle,
    .unref = frozen_unref_handle,
    .open = frozen_open_handle,
};

static int
frozen_encode(encoder *e, PyObject *obj)
{
    return enc_put_handle(e, TAG_HANDLE, HANDLE_FROZEN, frozen_of(obj));
}

void
frozen_start_handles(void)
{
    wire_set_kind(HANDLE_FROZEN, &frozen_kind);
}

int
frozen_add_type(core_state *state)
{
    PyTypeObject *type = core_add_type(state, &frozen_spec);
    state->frozen->frozen_type = type;
    return type == NULL ? -1 : wire_add_type(state, type, frozen_encode, true);
}
