/* atoll.FrozenElement: ElementTree's read-only side of a node in a graph.
 *
 * Wrappers are made on access. What uses elements (ElementPath, for one) compares
 * them with `is`, so there is never more than one of a node alive in an interpreter:
 * they are in a table by address, that does not count them. */
#include "frozen/xml/xml.h"

#include <stddef.h>

#include "wire/kind.h"

/* ---------------------------------------------------------- the one of a node */

static elementobj *
element_of(atoll_entry *entry)
{
    return (elementobj *)((char *)entry - offsetof(elementobj, entry));
}

PyObject *
xml_element(core_state *state, frozen_graph *g, PyObject *node, bool native)
{
    uint64_t key = (uintptr_t)node;
    for (atoll_entry *e = atoll_table_find(&state->frozen->elements, key); e != NULL;
         e = atoll_table_again(e)) {
        if (element_of(e)->native == native) {
            return Py_NewRef((PyObject *)element_of(e));
        }
    }
    elementobj *self = PyObject_New(elementobj, state->frozen->element_type);
    if (self == NULL) {
        return NULL;
    }
    frozen_ref(g);
    self->state = state;
    self->graph = g;
    self->node = node;
    self->native = native;
    self->weakrefs = NULL;
    atoll_table_add(&state->frozen->elements, &self->entry, key);
    return (PyObject *)self;
}

static void
element_dealloc(PyObject *obj)
{
    elementobj *self = (elementobj *)obj;
    PyTypeObject *type = Py_TYPE(obj);
    /* First: what follows may run code that looks for it. */
    atoll_table_remove(&self->state->frozen->elements, &self->entry);
    if (self->weakrefs != NULL) {
        PyObject_ClearWeakRefs(obj);
    }
    frozen_unref(self->graph);
    PyObject_Free(self);
    Py_DECREF(type);
}

/* --------------------------------------------------------------------- fields */

PyObject *
xml_text(core_state *Py_UNUSED(state), PyObject *field, bool native)
{
    if (PyUnicode_Check(field)) {
        return native ? Py_NewRef(field) : frozen_copy_str(field);
    }
    return field == Py_None ? Py_NewRef(field)
                            : xml_library("xml.etree.ElementTree",
                                          PyLong_AsLong(field) == XML_COMMENT
                                              ? "Comment"
                                              : "ProcessingInstruction");
}

static PyObject *
element_text(PyObject *obj, void *field)
{
    const elementobj *self = (const elementobj *)obj;
    return xml_text(self->state, xml_field(self->node, (int)(intptr_t)field),
                    self->native);
}

static PyObject *
element_attrib_of(const elementobj *self)
{
    return frozen_mapping_dict(xml_field(self->node, XML_ATTRIB));
}

static PyObject *
element_attrib(PyObject *obj, void *Py_UNUSED(closure))
{
    const elementobj *self = (const elementobj *)obj;
    if (self->native) {
        return Py_NewRef(xml_field(self->node, XML_ATTRIB));
    }
    PyObject *dict = PyDict_New(), *key, *value;
    for (Py_ssize_t at = 0;
         dict != NULL && PyDict_Next(element_attrib_of(self), &at, &key, &value);) {
        PyObject *name = frozen_copy_str(key);
        PyObject *text = name == NULL ? NULL : frozen_copy_str(value);
        if (text == NULL || PyDict_SetItem(dict, name, text) < 0) {
            Py_CLEAR(dict);
        }
        Py_XDECREF(name);
        Py_XDECREF(text);
    }
    PyObject *proxy = dict == NULL ? NULL : PyDictProxy_New(dict);
    Py_XDECREF(dict);
    return proxy;
}

static PyObject *
element_keys(PyObject *obj, PyObject *Py_UNUSED(ignored))
{
    const elementobj *self = (const elementobj *)obj;
    PyObject *keys = PyList_New(0), *key, *value;
    for (Py_ssize_t at = 0;
         keys != NULL && PyDict_Next(element_attrib_of(self), &at, &key, &value);) {
        PyObject *name = xml_text(self->state, key, self->native);
        if (name == NULL || PyList_Append(keys, name) < 0) {
            Py_CLEAR(keys);
        }
        Py_XDECREF(name);
    }
    return keys;
}

static PyObject *
element_items(PyObject *obj, PyObject *Py_UNUSED(ignored))
{
    const elementobj *self = (const elementobj *)obj;
    PyObject *items = PyList_New(0), *key, *value;
    for (Py_ssize_t at = 0;
         items != NULL && PyDict_Next(element_attrib_of(self), &at, &key, &value);) {
        PyObject *name = xml_text(self->state, key, self->native);
        PyObject *text =
            name == NULL ? NULL : xml_text(self->state, value, self->native);
        PyObject *pair = text == NULL ? NULL : PyTuple_Pack(2, name, text);
        if (pair == NULL || PyList_Append(items, pair) < 0) {
            Py_CLEAR(items);
        }
        Py_XDECREF(name);
        Py_XDECREF(text);
        Py_XDECREF(pair);
    }
    return items;
}

static PyObject *
element_get(PyObject *obj, PyObject *args, PyObject *kwargs)
{
    static char *keywords[] = {"key", "default", NULL};
    const elementobj *self = (const elementobj *)obj;
    PyObject *key, *other = Py_None, *value;
    if (!PyArg_ParseTupleAndKeywords(args, kwargs, "O|O:get", keywords, &key, &other)) {
        return NULL;
    }
    if (PyUnicode_CheckExact(key)) {
        value = PyDict_GetItemWithError(element_attrib_of(self), key);
        return value != NULL      ? xml_text(self->state, value, self->native)
               : PyErr_Occurred() ? NULL
                                  : Py_NewRef(other);
    }
    /* Its __eq__ gets what is in the mapping: only what may be given out. */
    PyObject *attrib = element_attrib(obj, NULL);
    value = attrib == NULL ? NULL : PyObject_GetItem(attrib, key);
    Py_XDECREF(attrib);
    if (value == NULL && PyErr_ExceptionMatches(PyExc_KeyError)) {
        PyErr_Clear();
        return Py_NewRef(other);
    }
    return value;
}

/* ------------------------------------------------------------------- children */

static Py_ssize_t
element_length(PyObject *obj)
{
    return xml_count(((elementobj *)obj)->node);
}

static PyObject *
element_item(PyObject *obj, Py_ssize_t at)
{
    const elementobj *self = (const elementobj *)obj;
    if (at < 0 || at >= xml_count(self->node)) {
        PyErr_SetString(PyExc_IndexError, "child index out of range");
        return NULL;
    }
    return xml_other(self, xml_child(self->node, at));
}

static PyObject *
element_subscript(PyObject *obj, PyObject *index)
{
    const elementobj *self = (const elementobj *)obj;
    Py_ssize_t count = xml_count(self->node);
    if (PyIndex_Check(index)) {
        Py_ssize_t at = PyNumber_AsSsize_t(index, PyExc_IndexError);
        if (at == -1 && PyErr_Occurred()) {
            return NULL;
        }
        return element_item(obj, at < 0 ? at + count : at);
    }
    if (!PySlice_Check(index)) {
        PyErr_Format(PyExc_TypeError,
                     "element indices must be integers or slices, not %T", index);
        return NULL;
    }
    Py_ssize_t start, stop, step;
    if (PySlice_Unpack(index, &start, &stop, &step) < 0) {
        return NULL;
    }
    Py_ssize_t length = PySlice_AdjustIndices(count, &start, &stop, step);
    PyObject *list = PyList_New(length);
    for (Py_ssize_t i = 0; list != NULL && i < length; i++) {
        PyObject *child = element_item(obj, start + i * step);
        if (child == NULL) {
            Py_CLEAR(list);
            break;
        }
        PyList_SET_ITEM(list, i, child);
    }
    return list;
}

/* ----------------------------------------------------------------- it is const */

static PyObject *
element_refuse(PyObject *Py_UNUSED(obj), PyObject *Py_UNUSED(args),
               PyObject *Py_UNUSED(kwargs))
{
    PyErr_SetString(PyExc_TypeError,
                    "a frozen element cannot be changed; atoll.thaw() makes an "
                    "ordinary one of it");
    return NULL;
}

static int
element_set_item(PyObject *obj, PyObject *Py_UNUSED(index), PyObject *Py_UNUSED(value))
{
    element_refuse(obj, NULL, NULL);
    return -1;
}

static int
element_set_attr(PyObject *Py_UNUSED(obj), PyObject *name, PyObject *Py_UNUSED(value))
{
    PyErr_Format(PyExc_AttributeError,
                 "%R of a frozen element cannot be set; atoll.thaw() makes an "
                 "ordinary one of it",
                 name);
    return -1;
}

/* ---------------------------------------------------------------- as an object */

/* ElementTree's elements say this, too: code that is to work with both is told. */
static int
element_bool(PyObject *obj)
{
    if (PyErr_WarnEx(PyExc_DeprecationWarning,
                     "the truth value of an element is whether it has children, "
                     "and will be True: use len(elem) or elem is not None",
                     1) < 0) {
        return -1;
    }
    return element_length(obj) != 0;
}

static PyObject *
element_repr(PyObject *obj)
{
    PyObject *tag = element_text(obj, (void *)XML_TAG);
    PyObject *text =
        tag == NULL ? NULL : PyUnicode_FromFormat("<FrozenElement %R at %p>", tag, obj);
    Py_XDECREF(tag);
    return text;
}

static Py_hash_t
element_hash(PyObject *obj)
{
    return Py_HashPointer(((elementobj *)obj)->node);
}

static PyObject *
element_compare(PyObject *a, PyObject *b, int op)
{
    if (Py_TYPE(a) != Py_TYPE(b) || (op != Py_EQ && op != Py_NE)) {
        Py_RETURN_NOTIMPLEMENTED;
    }
    bool same = ((elementobj *)a)->node == ((elementobj *)b)->node;
    return PyBool_FromLong(same == (op == Py_EQ));
}

/* copy.copy(Element): so that who reads the pickle needs no atoll. */
static PyObject *
element_reduce(PyObject *obj, PyObject *Py_UNUSED(ignored))
{
    const elementobj *self = (const elementobj *)obj;
    PyObject *function = xml_library("copy", "copy");
    PyObject *element = function == NULL ? NULL : xml_thaw(self->state, self->node);
    PyObject *result =
        element == NULL ? NULL : Py_BuildValue("O(O)", function, element);
    Py_XDECREF(function);
    Py_XDECREF(element);
    return result;
}

/* ------------------------------------------------------------------- searching */

/* Is it a tag, and no path? As ElementTree decides. In a tag, the name of its space
 * is in braces. */
static bool
is_tag(PyObject *path)
{
    Py_ssize_t length = PyUnicode_GET_LENGTH(path);
    Py_UCS4 start[3] = {0};
    bool outside = true;
    for (Py_ssize_t i = 0; i < length; i++) {
        Py_UCS4 c = PyUnicode_READ_CHAR(path, i);
        if (i < 3) {
            start[i] = c;
        }
        if (c == '{' || c == '}') {
            outside = c == '}';
        }
        else if (outside &&
                 (c == '/' || c == '*' || c == '[' || c == '@' || c == '.')) {
            return false;
        }
    }
    return length < 3 || start[0] != '{' ||
           (start[1] != '}' && (start[1] != '*' || start[2] != '}'));
}

/* The first child with that tag; borrowed, NULL: there is none. */
static PyObject *
child_with(PyObject *node, PyObject *tag)
{
    for (Py_ssize_t i = 0, count = xml_count(node); i < count; i++) {
        PyObject *child = xml_child(node, i);
        PyObject *found = xml_field(child, XML_TAG);
        if (PyUnicode_Check(found) && PyUnicode_Compare(found, tag) == 0) {
            return child;
        }
    }
    return NULL;
}

typedef struct search {
    PyObject *path, *other, *namespaces;
    bool simple;
} search;

static bool
parse_search(PyObject *args, PyObject *kwargs, bool with_default, search *s)
{
    static char *all[] = {"path", "default", "namespaces", NULL};
    static char *two[] = {"path", "namespaces", NULL};
    *s = (search){NULL, Py_None, Py_None, false};
    int good = with_default
                   ? PyArg_ParseTupleAndKeywords(args, kwargs, "O|OO", all, &s->path,
                                                 &s->other, &s->namespaces)
                   : PyArg_ParseTupleAndKeywords(args, kwargs, "O|O", two, &s->path,
                                                 &s->namespaces);
    s->simple = good && PyUnicode_CheckExact(s->path) && s->namespaces == Py_None &&
                is_tag(s->path);
    return good;
}

/* The path language is the standard library's: it needs what we have. */
static PyObject *
search_path(PyObject *obj, const search *s, const char *how, bool with_default)
{
    PyObject *function = xml_library("xml.etree.ElementPath", how);
    PyObject *result =
        function == NULL ? NULL
        : with_default
            ? PyObject_CallFunctionObjArgs(function, obj, s->path, s->other,
                                           s->namespaces, NULL)
            : PyObject_CallFunctionObjArgs(function, obj, s->path, s->namespaces, NULL);
    Py_XDECREF(function);
    return result;
}

static PyObject *
element_find(PyObject *obj, PyObject *args, PyObject *kwargs)
{
    const elementobj *self = (const elementobj *)obj;
    search s;
    if (!parse_search(args, kwargs, false, &s)) {
        return NULL;
    }
    if (!s.simple) {
        return search_path(obj, &s, "find", false);
    }
    PyObject *child = child_with(self->node, s.path);
    return child == NULL ? Py_NewRef(Py_None) : xml_other(self, child);
}

static PyObject *
element_findtext(PyObject *obj, PyObject *args, PyObject *kwargs)
{
    const elementobj *self = (const elementobj *)obj;
    search s;
    if (!parse_search(args, kwargs, true, &s)) {
        return NULL;
    }
    if (!s.simple) {
        return search_path(obj, &s, "findtext", true);
    }
    PyObject *child = child_with(self->node, s.path);
    if (child == NULL) {
        return Py_NewRef(s.other);
    }
    PyObject *text = xml_field(child, XML_TEXT);
    return text == Py_None ? PyUnicode_New(0, 0)
                           : xml_text(self->state, text, self->native);
}

static PyObject *
element_findall(PyObject *obj, PyObject *args, PyObject *kwargs)
{
    const elementobj *self = (const elementobj *)obj;
    search s;
    if (!parse_search(args, kwargs, false, &s)) {
        return NULL;
    }
    if (!s.simple) {
        return search_path(obj, &s, "findall", false);
    }
    PyObject *list = PyList_New(0);
    for (Py_ssize_t i = 0, count = xml_count(self->node); list != NULL && i < count;
         i++) {
        PyObject *node = xml_child(self->node, i);
        PyObject *tag = xml_field(node, XML_TAG);
        if (!PyUnicode_Check(tag) || PyUnicode_Compare(tag, s.path) != 0) {
            continue;
        }
        PyObject *child = xml_other(self, node);
        if (child == NULL || PyList_Append(list, child) < 0) {
            Py_CLEAR(list);
        }
        Py_XDECREF(child);
    }
    return list;
}

static PyObject *
element_iterfind(PyObject *obj, PyObject *args, PyObject *kwargs)
{
    search s;
    return parse_search(args, kwargs, false, &s)
               ? search_path(obj, &s, "iterfind", false)
               : NULL;
}

/* -------------------------------------------------------------------- the type */

PyDoc_STRVAR(element_doc,
"An element of a frozen XML tree: what xml.etree.ElementTree.Element has for\n"
"reading. Made on access; it holds the whole graph while it lives, and there is\n"
"one of a node at a time. Two are equal if they are of the same node.\n\n"
"From get(), str and attributes are the graph's own; from view(), copies. In a\n"
"message it arrives as if from view(), in O(1). Pickled or copied it becomes an\n"
"ordinary Element, as with atoll.thaw().");

#define CALL(function) \
    (PyCFunction)(void (*)(void)) function, METH_VARARGS | METH_KEYWORDS

static PyMethodDef element_methods[] = {
    {"get", CALL(element_get),
     PyDoc_STR(
         "get($self, key, default=None)\n--\n\nAn attribute (str), or `default`.")},
    {"keys", element_keys, METH_NOARGS,
     PyDoc_STR("keys($self, /)\n--\n\nThe names of all attributes (list of str).")},
    {"items", element_items, METH_NOARGS,
     PyDoc_STR("items($self, /)\n--\n\nAll attributes (list of name, value).")},
    {"iter", CALL(xml_iter),
     PyDoc_STR(
         "iter($self, tag=None)\n--\n\nThis element and all below it in the order "
         "of the document; only those\nwith that tag.")},
    {"itertext", xml_itertext, METH_NOARGS,
     PyDoc_STR("itertext($self, /)\n--\n\nAll text inside (iterator of str).")},
    {"find", CALL(element_find),
     PyDoc_STR(
         "find($self, path, namespaces=None)\n--\n\nThe first that matches a tag or "
         "path, or None.")},
    {"findtext", CALL(element_findtext),
     PyDoc_STR(
         "findtext($self, path, default=None, namespaces=None)\n--\n\nThe text of "
         "the first that matches, \"\" if it has none; `default` if none\n"
         "matches.")},
    {"findall", CALL(element_findall),
     PyDoc_STR("findall($self, path, namespaces=None)\n--\n\nAll that match (list).")},
    {"iterfind", CALL(element_iterfind),
     PyDoc_STR(
         "iterfind($self, path, namespaces=None)\n--\n\nAll that match (iterator).")},
    {"__reduce__", element_reduce, METH_NOARGS, NULL},
    {"append", CALL(element_refuse),
     PyDoc_STR("append($self, *args, **kwargs)\n--\n\nRaises TypeError.")},
    {"clear", CALL(element_refuse),
     PyDoc_STR("clear($self, *args, **kwargs)\n--\n\nRaises TypeError.")},
    {"extend", CALL(element_refuse),
     PyDoc_STR("extend($self, *args, **kwargs)\n--\n\nRaises TypeError.")},
    {"insert", CALL(element_refuse),
     PyDoc_STR("insert($self, *args, **kwargs)\n--\n\nRaises TypeError.")},
    {"remove", CALL(element_refuse),
     PyDoc_STR("remove($self, *args, **kwargs)\n--\n\nRaises TypeError.")},
    {"set", CALL(element_refuse),
     PyDoc_STR("set($self, *args, **kwargs)\n--\n\nRaises TypeError.")},
    {NULL, NULL, 0, NULL},
};

static PyGetSetDef element_getset[] = {
    {"tag", element_text, NULL,
     PyDoc_STR("Its name (str); of a comment, ElementTree's function."),
     (void *)XML_TAG},
    {"text", element_text, NULL,
     PyDoc_STR("Text before its first child (str or None)."), (void *)XML_TEXT},
    {"tail", element_text, NULL, PyDoc_STR("Text after its end (str or None)."),
     (void *)XML_TAIL},
    {"attrib", element_attrib, NULL,
     PyDoc_STR("Its attributes: a read-only mapping of str to str."), NULL},
    {NULL, NULL, NULL, NULL, NULL},
};

static PyMemberDef element_members[] = {
    {"__weaklistoffset__", Py_T_PYSSIZET, offsetof(elementobj, weakrefs), Py_READONLY,
     NULL},
    {NULL, 0, 0, 0, NULL},
};

static PyType_Slot element_slots[] = {
    {Py_tp_dealloc, element_dealloc},
    {Py_tp_iter, (void *)PySeqIter_New},
    {Py_tp_repr, element_repr},
    {Py_tp_hash, element_hash},
    {Py_tp_richcompare, element_compare},
    {Py_tp_setattro, element_set_attr},
    {Py_nb_bool, element_bool},
    {Py_sq_length, element_length},
    {Py_sq_item, element_item},
    {Py_mp_length, element_length},
    {Py_mp_subscript, element_subscript},
    {Py_mp_ass_subscript, element_set_item},
    {Py_tp_methods, element_methods},
    {Py_tp_getset, element_getset},
    {Py_tp_members, element_members},
    {Py_tp_doc, (void *)element_doc},
    {0, NULL},
};

static PyType_Spec element_spec = {
    .name = "atoll.FrozenElement",
    .basicsize = sizeof(elementobj),
    .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_IMMUTABLETYPE |
             Py_TPFLAGS_DISALLOW_INSTANTIATION,
    .slots = element_slots,
};

/* ------------------------------------------------------------- for the wire */

static void
xml_ref_handle(void *ptr)
{
    frozen_ref(ptr);
}

static void
xml_unref_handle(void *ptr)
{
    frozen_unref(ptr);
}

static PyObject *
xml_open_handle(core_state *state, void *ptr)
{
    frozen_graph *g = ptr;
    return xml_element(state, g, g->root, false);
}

static const wire_kind xml_kind = {
    .ref = xml_ref_handle,
    .unref = xml_unref_handle,
    .open = xml_open_handle,
};

/* Append an element: a graph of its own that holds the one it is in. */
static int
xml_encode(encoder *e, PyObject *obj)
{
    const elementobj *element = (const elementobj *)obj;
    frozen_graph *g = xml_alias(element->graph, element->node);
    if (g == NULL) {
        PyErr_NoMemory();
        return -1;
    }
    int rc = enc_put_handle(e, TAG_HANDLE, HANDLE_ELEMENT, g);
    frozen_unref(g);
    return rc;
}

void
xml_start(void)
{
    wire_set_kind(HANDLE_ELEMENT, &xml_kind);
}

int
xml_add_types(core_state *state)
{
    PyTypeObject *type = core_add_type(state, &element_spec);
    state->frozen->element_type = type;
    return type == NULL ? -1 : wire_add_type(state, type, xml_encode, true);
}
