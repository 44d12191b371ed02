/* Writing elements into a graph: what the parser's target and the copy of a tree
 * have in common. See frozen/xml/xml.h. */
#include "frozen/xml/xml.h"

int
xml_writer_init(xml_writer *w, core_state *state)
{
    memset(w, 0, sizeof(*w));
    w->b.state = state;
    w->b.graph = frozen_new();
    if (w->b.graph == NULL) {
        PyErr_NoMemory();
        return -1;
    }
    return 0;
}

void
xml_writer_fini(xml_writer *w)
{
    if (w->b.graph != NULL) {
        frozen_unref(w->b.graph);
    }
    frozen_leaves_fini(&w->b);
    atoll_free(w->done);
    memset(w, 0, sizeof(*w));
}

PyObject *
xml_write_text(xml_writer *w, PyObject *text)
{
    return text == Py_None ? text : frozen_text(&w->b, text);
}

PyObject *
xml_write_attrib(xml_writer *w, PyObject *attrib)
{
    Py_ssize_t at = 0, count = PyDict_GET_SIZE(attrib);
    PyObject *key, *value;
    if (count == 0 && w->no_attrib != NULL) {
        return w->no_attrib;
    }
    if (count > FROZEN_MOST) {
        return NULL;
    }
    while (PyDict_Next(attrib, &at, &key, &value)) {
        if (!PyUnicode_CheckExact(key) || !PyUnicode_CheckExact(value)) {
            return NULL;
        }
    }
    void *to = frozen_take(&w->b, frozen_mapping_size(count, false), CHUNKS_PLAIN);
    if (to == NULL) {
        return NULL;
    }
    PyObject *mapping = frozen_write_mapping(w->b.state, to, count, false);
    for (at = 0; PyDict_Next(attrib, &at, &key, &value);) {
        PyObject *name = frozen_text(&w->b, key);
        PyObject *text = name == NULL ? NULL : frozen_text(&w->b, value);
        if (text == NULL) {
            return NULL;
        }
        frozen_mapping_put(mapping, name, PyObject_Hash(name), text);
    }
    if (frozen_seal(mapping) < 0) {
        return NULL;
    }
    if (count == 0) {
        w->no_attrib = mapping;
    }
    return mapping;
}

static PyObject **
items_of(PyObject *tuple)
{
    Py_ssize_t count;
    return frozen_parts(tuple, &count);
}

PyObject *
xml_write_node(xml_writer *w, PyObject *tag, PyObject *text, PyObject *attrib,
               size_t count)
{
    PyObject *children = PyTuple_New(0); /* the one that there is */
    Py_XDECREF(children);                /* immortal */
    if (count > 0) {
        size_t size = frozen_tuple_size((Py_ssize_t)count);
        void *to = frozen_take(&w->b, size, CHUNKS_PLAIN);
        if (to == NULL) {
            return NULL;
        }
        children = frozen_write_tuple(to, (Py_ssize_t)count);
        w->ndone -= count;
        memcpy(items_of(children), w->done + w->ndone, count * sizeof(PyObject *));
        if (frozen_seal(children) < 0) {
            return NULL;
        }
    }
    void *to = frozen_take(&w->b, frozen_tuple_size(XML_FIELDS), CHUNKS_PLAIN);
    if (to == NULL) {
        return NULL;
    }
    PyObject *node = frozen_write_tuple(to, XML_FIELDS);
    PyObject **fields = items_of(node);
    fields[XML_TAG] = tag;
    fields[XML_TEXT] = text;
    fields[XML_TAIL] = Py_None;
    fields[XML_ATTRIB] = attrib;
    fields[XML_CHILDREN] = children;
    return node;
}

void
xml_set_tail(PyObject *node, PyObject *tail)
{
    items_of(node)[XML_TAIL] = tail;
}

int
xml_seal(PyObject *node)
{
    return frozen_seal(node);
}

int
xml_push(xml_writer *w, PyObject *node)
{
    if (w->ndone == w->room) {
        size_t room = w->room == 0 ? 64 : 2 * w->room;
        PyObject **more = atoll_realloc(w->done, room * sizeof(*more));
        if (more == NULL) {
            PyErr_NoMemory();
            return -1;
        }
        w->done = more;
        w->room = room;
    }
    w->done[w->ndone++] = node;
    return 0;
}

frozen_graph *
xml_publish(xml_writer *w, PyObject *root)
{
    frozen_graph *g = w->b.graph;
    g->element = true;
    if (frozen_publish(g, root, frozen_read_only()) != ATOLL_OK) {
        PyErr_NoMemory();
        return NULL;
    }
    w->b.graph = NULL;
    return g;
}
