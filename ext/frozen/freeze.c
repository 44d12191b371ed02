/* atoll.freeze, atoll.thaw, and what else the room offers as functions. See
 * frozen/frozen.h. */
#include "frozen/frozen.h"

#include "frozen/view/view.h"
#include "frozen/xml/xml.h"

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
    if (!PyArg_ParseTupleAndKeywords(args, kwargs, "O|$O:freeze", keywords, &obj,
                                     &name)) {
        return NULL;
    }
    if (frozen_begin(state) < 0 || frozen_copy_name(name, &copy) < 0) {
        return NULL;
    }
    if (copy == NULL && Py_TYPE(obj) == state->frozen->frozen_type) {
        return Py_NewRef(obj);
    }
    bool is_element = xml_is_element(obj);
    frozen_graph *g;
    if (Py_TYPE(obj) == state->frozen->element_type) {
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
    if (Py_TYPE(obj) == state->frozen->element_type) {
        return xml_thaw(state, ((elementobj *)obj)->node);
    }
    if (Py_TYPE(obj) != state->frozen->frozen_type) {
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
               : PyTuple_Pack(2, state->frozen->view_types[VIEW_SEQUENCE],
                              state->frozen->view_types[VIEW_DICT]);
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
    return Py_BuildValue("{s:n,s:n,s:n}", "graphs", (Py_ssize_t)totals.graphs, "nbytes",
                         (Py_ssize_t)totals.nbytes, "pins", (Py_ssize_t)totals.pins);
}

PyMethodDef frozen_functions[] = {
    {"freeze", (PyCFunction)(void (*)(void))core_freeze, METH_VARARGS | METH_KEYWORDS,
     freeze_doc},
    {"thaw", core_thaw, METH_O, thaw_doc},
    {"_frozen_view_types", core_view_types, METH_NOARGS, view_types_doc},
    {"frozen_stats", core_frozen_stats, METH_NOARGS, frozen_stats_doc},
    {NULL, NULL, 0, NULL},
};
