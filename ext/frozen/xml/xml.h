/* Frozen XML: elements in a graph, and what Python sees of them.
 *
 * An element is a plain tuple of the graph's: tag, text, tail, attributes, children.
 *   - tag: a str, None, or an int that stands for a function of ElementTree's:
 *     XML_COMMENT, XML_PI;
 *   - text, tail: a str or None;
 *   - attributes: a read-only mapping of str to str;
 *   - children: a tuple of elements.
 * So nothing is shared that was not before. Nobody but these files sees the tuples:
 * Python gets an atoll.FrozenElement, made on access, that holds the graph.
 *
 * Attached, all of it; guarded by the GIL of the interpreter that it is used in.
 */
#ifndef EXT_FROZEN_XML_XML_H
#define EXT_FROZEN_XML_XML_H

#include "frozen/builder.h"

enum { XML_TAG, XML_TEXT, XML_TAIL, XML_ATTRIB, XML_CHILDREN, XML_FIELDS };
enum { XML_COMMENT = 1, XML_PI = 2 };

static inline PyObject *
xml_field(PyObject *node, int field)
{
    return PyTuple_GET_ITEM(node, field);
}

static inline Py_ssize_t
xml_count(PyObject *node)
{
    return PyTuple_GET_SIZE(xml_field(node, XML_CHILDREN));
}

static inline PyObject *
xml_child(PyObject *node, Py_ssize_t at)
{
    return PyTuple_GET_ITEM(xml_field(node, XML_CHILDREN), at);
}

/* --- atoll.FrozenElement (frozen/xml/element.c) */

typedef struct elementobj {
    PyObject_HEAD
    core_state *state;   /* lives as long as the type */
    frozen_graph *graph; /* counted; `node` is its, or of one that it holds */
    PyObject *node;
    bool native; /* this interpreter pins it, so its str may be given out */
    PyObject *weakrefs;
    atoll_entry entry; /* in state->frozen->elements, by the address of `node` */
} elementobj;

/* Tell the wire about elements. */
void xml_start(void);

/* Make the type of elements, and tell the wire. 0, or -1 with an exception. */
int xml_add_types(core_state *state);

/* The wrapper of a node: a new reference, the same object as long as one is alive.
 * `g` is counted for it; `native`: it is pinned. NULL with MemoryError. */
PyObject *xml_element(core_state *state, frozen_graph *g, PyObject *node, bool native);
/* The same for another node of the same graph. */
static inline PyObject *
xml_other(const elementobj *self, PyObject *node)
{
    return xml_element(self->state, self->graph, node, self->native);
}
/* A field that is a str, None or a tag, as Python may have it: itself, if the
 * element is native, else a copy. A new reference; NULL with an exception. */
PyObject *xml_text(core_state *state, PyObject *field, bool native);
/* What xml.etree.ElementTree or one of its fellows has under a name. A new
 * reference; NULL with an exception. */
PyObject *xml_library(const char *module, const char *name);

/* Methods that walk (frozen/xml/iter.c). */
int xml_add_iterators(core_state *state);

/* Walk an element and all below it: FrozenElement.iter. */
PyObject *xml_iter(PyObject *self, PyObject *args, PyObject *kwargs);

/* Walk all text inside an element: FrozenElement.itertext. */
PyObject *xml_itertext(PyObject *self, PyObject *ignored);

/* --- writing */

typedef struct xml_writer {
    builder b;           /* of it only what writes leaves is used */
    PyObject *no_attrib; /* the empty mapping of this graph, or NULL */
    PyObject **done;     /* elements whose parent is not complete */
    size_t ndone, room;
} xml_writer;

/* Begin: a new graph in `w`. -1 with MemoryError; else xml_writer_fini(). */
int xml_writer_init(xml_writer *w, core_state *state);
/* Let go of everything, also of the graph, if it was not published. */
void xml_writer_fini(xml_writer *w);
/* An exact str or None. NULL with an exception. */
PyObject *xml_write_text(xml_writer *w, PyObject *text);
/* A dict of str to str. NULL with an exception; without one: it is no such dict. */
PyObject *xml_write_attrib(xml_writer *w, PyObject *attrib);
/* An element of the topmost `count` of `done`, which it takes away. All but the tail,
 * which is set later, before xml_seal(). Its tag, text and attributes are written
 * already. NULL with MemoryError. */
PyObject *xml_write_node(xml_writer *w, PyObject *tag, PyObject *text, PyObject *attrib,
                         size_t count);

/* Set the text after an element, which is not sealed. */
void xml_set_tail(PyObject *node, PyObject *tail);

/* Seal an element: nothing of it changes any more. -1 with an exception. */
int xml_seal(PyObject *node);
/* Put it on `done`. -1 with MemoryError. */
int xml_push(xml_writer *w, PyObject *node);
/* A published graph of that root, with one reference. NULL with MemoryError. */
frozen_graph *xml_publish(xml_writer *w, PyObject *root);

/* --- from and to ElementTree (frozen/xml/tree.c), from text (frozen/xml/parse.c) */

/* Is it an Element of the standard library's? */
bool xml_is_element(PyObject *obj);
/* A graph of it, with one reference. Runs code of the user's, if the Element is
 * of a subclass. NULL with NotShareableError, MemoryError, or what that raised. */
frozen_graph *xml_build(core_state *state, PyObject *element);
/* A graph without memory of its own: a node of `g`, which it holds. NULL: out of
 * memory. */
frozen_graph *xml_alias(frozen_graph *g, PyObject *node);
/* The same, published. NULL with MemoryError. */
frozen_graph *xml_publish_alias(frozen_graph *g, PyObject *node);
/* Ordinary Elements. A new reference; NULL with an exception. */
PyObject *xml_thaw(core_state *state, PyObject *node);

/* Make the type of the parser's target. 0, or -1 with an exception. */
int xml_add_parser(core_state *state);
extern PyMethodDef xml_functions[];

#endif
