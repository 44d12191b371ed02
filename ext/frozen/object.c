/* atoll.Frozen, atoll.freeze, atoll.thaw. See frozen/frozen.h. */
#include "frozen/frozen.h"

#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#include "chan/chan.h"
#include "cpython/immortal.h"
#include "frozen/mold.h"
#include "frozen/view/view.h"
#include "frozen/xml/xml.h"

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
    frozenobj *self = PyObject_New(frozenobj, state->frozen_type);
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
        bool foreign = !state->is_main && state->home == NULL;
        if (frozen_pin_for(self->graph, state->interp_id, foreign) !=
            ATOLL_OK) {
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
            ? PyUnicode_FromFormat("<atoll.Frozen %s of %zu bytes>", what,
                                   g->nbytes)
            : PyUnicode_FromFormat("<atoll.Frozen %R: %s of %zu bytes>", name,
                                   what, g->nbytes);
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
    {"get", frozen_get, METH_NOARGS, get_doc},
    {"view", frozen_get_view, METH_NOARGS, view_doc},
    {NULL, NULL, 0, NULL},
};

static PyGetSetDef frozen_getset[] = {
    {"nbytes", frozen_get_nbytes, NULL,
     "The memory of this graph (int), without graphs that it has parts of.",
     NULL},
    {"pins", frozen_get_pins, NULL,
     "How many interpreters (int) have called get() and are not closed.", NULL},
    {"name", frozen_get_name, NULL, "What freeze(name=) was given, or None.",
     NULL},
    {NULL, NULL, NULL, NULL, NULL},
};

static PyMemberDef frozen_members[] = {
    {"__weaklistoffset__", Py_T_PYSSIZET, offsetof(frozenobj, weakrefs),
     Py_READONLY, NULL},
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

int
frozen_add_type(core_state *state)
{
    state->frozen_type = chanobj_make_type(state, &frozen_spec);
    return state->frozen_type == NULL ? -1 : 0;
}

/* ---------------------------------------------------------------- functions */

int
frozen_copy_name(PyObject *name, char **copy)
{
    *copy = NULL;
    if (name == NULL || name == Py_None) {
        return 0;
    }
    if (!PyUnicode_Check(name)) {
        PyErr_Format(PyExc_TypeError, "name must be a str or None, not %T",
                     name);
        return -1;
    }
    Py_ssize_t length;
    const char *text = PyUnicode_AsUTF8AndSize(name, &length);
    if (text == NULL) {
        return -1;
    }
    size_t size = (size_t)length + 1;
    if (strlen(text) + 1 != size) {
        PyErr_SetString(PyExc_ValueError, "null character in the name");
        return -1;
    }
    *copy = atoll_alloc(size);
    if (*copy == NULL) {
        PyErr_NoMemory();
        return -1;
    }
    memcpy(*copy, text, size);
    return 0;
}

int
frozen_begin(core_state *state)
{
    int possible = frozen_possible(state);
    if (possible == 0) {
        raise_error(state, "AtollError",
                    "atoll does not know how the objects of this build of "
                    "CPython are laid out, so it cannot freeze any");
    }
    frozen_sweep();
    return possible > 0 ? 0 : -1;
}

bool
frozen_read_only(void)
{
    const char *mode = getenv("ATOLL_FROZEN_READONLY");
    return mode != NULL && mode[0] != '\0' && strcmp(mode, "0") != 0;
}

PyDoc_STRVAR(freeze_doc,
"freeze(obj, /, *, name=None)\n--\n\n"
"A copy of `obj` that nobody can change, in memory shared by all interpreters.\n\n"
"Args:\n"
"  obj: None, bool, int, float, complex, str, bytes, range, slice, Ellipsis;\n"
"    datetime and its family, Decimal, Fraction, UUID, Path, members of Enum;\n"
"    bytearray, memoryview, array, ndarray; named tuples, frozen dataclasses, and\n"
"    what register_frozen() knows; tuples, lists, dicts and sets of these, of any\n"
"    depth; Frozen. Lists become tuples, dicts read-only mappings, sets\n"
"    frozensets, buffers read-only. Equal str and bytes are stored once, and\n"
"    what is shared inside stays shared. What is frozen already (a Frozen, or a\n"
"    container from get()) is not copied but held. Or an XML tree: an Element\n"
"    of xml.etree.ElementTree or a FrozenElement, by itself.\n"
"  name (str | None): for you to tell graphs apart.\n"
"Returns:\n"
"  Frozen: a handle, to be sent, and opened with get().\n\n"
"Copies all of it, holding the GIL; `obj` may be changed afterwards. Does not block;\n"
"can be interrupted by a signal, then nothing is left behind.\n"
"Raises NotShareableError for anything else and for what is part of itself, with\n"
"the place; MemoryError; AtollError where CPython's objects are not such as\n"
"atoll knows them. A failure leaves nothing behind.");

static PyObject *
core_freeze(PyObject *module, PyObject *args, PyObject *kwargs)
{
    static char *keywords[] = {"", "name", NULL};
    core_state *state = PyModule_GetState(module);
    PyObject *obj, *name = NULL, *result = NULL;
    char *copy;
    if (!PyArg_ParseTupleAndKeywords(args, kwargs, "O|$O:freeze", keywords,
                                     &obj, &name)) {
        return NULL;
    }
    if (frozen_begin(state) < 0 || frozen_copy_name(name, &copy) < 0) {
        return NULL;
    }
    if (copy == NULL && Py_TYPE(obj) == state->frozen_type) {
        return Py_NewRef(obj);
    }
    bool is_element = xml_is_element(obj);
    frozen_graph *g;
    if (Py_TYPE(obj) == state->element_type) {
        const elementobj *element = (const elementobj *)obj;
        g = xml_publish_alias(element->graph, element->node);
    }
    else {
        g = is_element ? xml_build(state, obj)
                       : frozen_build(state, obj, frozen_read_only());
    }
    if (g == NULL) {
        atoll_free(copy);
        return NULL;
    }
    g->name = copy;
    result = frozen_object(state, g);
    frozen_unref(g);
    return result;
}

PyDoc_STRVAR(thaw_doc,
"thaw(obj, /)\n--\n\n"
"An ordinary, mutable deep copy of what is frozen: lists where there were lists,\n"
"tuples where there were tuples, dicts, sets, new instances, buffers of their own.\n"
"What is shared inside stays shared. The copy has nothing of the graph's memory and\n"
"does not keep it.\n\n"
"Args:\n"
"  obj: a Frozen, a view, a FrozenElement, or an object that get() has given. Of\n"
"    XML, Elements of xml.etree.ElementTree are made.\n"
"Raises TypeError for other containers, MemoryError.");

static PyObject *
core_thaw(PyObject *module, PyObject *obj)
{
    core_state *state = PyModule_GetState(module);
    if (frozen_is_view(state, Py_TYPE(obj))) {
        return frozen_view_thaw(obj);
    }
    if (Py_TYPE(obj) == state->element_type) {
        return xml_thaw(state, ((elementobj *)obj)->node);
    }
    if (Py_TYPE(obj) != state->frozen_type) {
        return frozen_thaw(state, obj);
    }
    const frozen_graph *g = frozen_of(obj);
    return g->element ? xml_thaw(state, g->root) : frozen_thaw(state, g->root);
}

PyDoc_STRVAR(view_types_doc,
"_frozen_view_types()\n--\n\nSequenceView and DictView, made when needed (tuple).");

static PyObject *
core_view_types(PyObject *module, PyObject *Py_UNUSED(ignored))
{
    core_state *state = PyModule_GetState(module);
    return frozen_view_ready(state) < 0
               ? NULL
               : PyTuple_Pack(2, state->frozen_views[VIEW_SEQUENCE],
                              state->frozen_views[VIEW_DICT]);
}

PyDoc_STRVAR(frozen_stats_doc,
"frozen_stats()\n--\n\n"
"What this process has frozen (dict of int): `graphs`, that are in memory now;\n"
"`nbytes`, their memory; and `pins`, by interpreters that have called get().");

static PyObject *
core_frozen_stats(PyObject *Py_UNUSED(module), PyObject *Py_UNUSED(ignored))
{
    frozen_totals totals;
    frozen_sweep();
    frozen_count(&totals);
    return Py_BuildValue("{s:n,s:n,s:n}", "graphs", (Py_ssize_t)totals.graphs,
                         "nbytes", (Py_ssize_t)totals.nbytes, "pins",
                         (Py_ssize_t)totals.pins);
}

PyMethodDef frozen_functions[] = {
    {"freeze", (PyCFunction)(void (*)(void))core_freeze,
     METH_VARARGS | METH_KEYWORDS, freeze_doc},
    {"thaw", core_thaw, METH_O, thaw_doc},
    {"_frozen_view_types", core_view_types, METH_NOARGS, view_types_doc},
    {"frozen_stats", core_frozen_stats, METH_NOARGS, frozen_stats_doc},
    {NULL, NULL, 0, NULL},
};
