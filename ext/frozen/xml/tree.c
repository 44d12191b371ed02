/* From ElementTree's Elements into a graph, and back. With stacks of their own, so
 * that depth costs no C stack.
 *
 * An Element may be of a subclass, or the one written in Python: code of the user's
 * may run at each look at one. So what is looked at is held, its children are
 * counted again each time, and an address is remembered only of what is held. */
#include "frozen/xml/xml.h"

static char under_way; /* its address stands for that */

PyObject *
xml_library(const char *module, const char *name)
{
    PyObject *from = PyImport_ImportModule(module);
    PyObject *found = from == NULL ? NULL : PyObject_GetAttrString(from, name);
    Py_XDECREF(from);
    return found;
}

/* Elements exist only if their module has been imported: do not. */
bool
xml_is_element(PyObject *obj)
{
    static const char *const names[] = {"Element", "_Element_Py"};
    PyObject *modules = PyImport_GetModuleDict(); /* borrowed */
    PyObject *module = modules == NULL || !PyDict_Check(modules)
                           ? NULL
                           : PyDict_GetItemString(modules, "xml.etree.ElementTree");
    bool found = false;
    if (module == NULL || !PyModule_Check(module)) {
        return false;
    }
    PyObject *dict = PyModule_GetDict(module);
    for (int i = 0; i < 2 && !found; i++) {
        PyObject *cls = PyDict_GetItemString(dict, names[i]);
        if (cls != NULL && PyType_Check(cls)) {
            found = PyObject_TypeCheck(obj, (PyTypeObject *)cls);
        }
    }
    return found;
}

frozen_graph *
xml_alias(frozen_graph *g, PyObject *node)
{
    frozen_graph *alias = frozen_new();
    if (alias == NULL) {
        return NULL;
    }
    frozen_ref(g);
    if (frozen_use(alias, g) != ATOLL_OK) {
        frozen_unref(alias);
        return NULL;
    }
    alias->root = node;
    alias->element = true;
    return alias;
}

frozen_graph *
xml_publish_alias(frozen_graph *g, PyObject *node)
{
    frozen_graph *alias = xml_alias(g, node);
    if (alias == NULL || frozen_publish(alias, node, false) != ATOLL_OK) {
        if (alias != NULL) {
            frozen_unref(alias);
        }
        PyErr_NoMemory();
        return NULL;
    }
    return alias;
}

/* --------------------------------------------------------------- Elements in */

typedef struct level {
    PyObject *src; /* held */
    Py_ssize_t at; /* the next child */
    size_t count;  /* children that are written */
    bool shared;
    PyObject *tag, *text, *attrib, *tail; /* written */
} level;

typedef struct copier {
    xml_writer w;
    level *levels;
    size_t depth, room;
    frozen_map memo; /* Elements that may be met again, each held: to nodes */
    PyObject *comment, *pi;
} copier;

/* [0][3].text */
static PyObject *
tree_place_of(const copier *c, const char *what)
{
    PyObject *place = PyUnicode_FromString("");
    for (size_t i = 0; place != NULL && i + 1 < c->depth; i++) {
        PyObject *step;
        if (c->depth > 20 && i == 10) {
            i = c->depth - 11;
            step = PyUnicode_FromString("[...]");
        }
        else {
            step = PyUnicode_FromFormat("[%zd]", c->levels[i].at - 1);
        }
        if (step == NULL) {
            Py_CLEAR(place);
        }
        else {
            PyUnicode_Append(&place, step);
            Py_DECREF(step);
        }
    }
    if (place != NULL) {
        Py_SETREF(place, PyUnicode_FromFormat("%U%s", place, what));
    }
    return place;
}

static int
tree_refuse(const copier *c, const char *what, PyObject *obj, const char *why)
{
    PyObject *place = tree_place_of(c, what);
    if (place != NULL) {
        bool inside = PyUnicode_GET_LENGTH(place) > 0;
        raise_error(c->w.b.state, "NotShareableError",
                    "%s%U%san instance of %T cannot be frozen: %s", inside ? "at " : "",
                    place, inside ? ": " : "", obj, why);
        Py_DECREF(place);
    }
    return -1;
}

/* An attribute that is text: written, or NULL. */
static PyObject *
tree_text_of(copier *c, PyObject *src, const char *name)
{
    PyObject *text = PyObject_GetAttrString(src, name + 1), *written = NULL;
    if (text == NULL) {
        return NULL;
    }
    if (text == Py_None || PyUnicode_CheckExact(text)) {
        written = xml_write_text(&c->w, text);
    }
    else {
        tree_refuse(c, name, text, "in an XML element, only str and None can");
    }
    Py_DECREF(text);
    return written;
}

static PyObject *
tag_of(copier *c, PyObject *src)
{
    PyObject *tag = PyObject_GetAttrString(src, "tag");
    if (tag == NULL) {
        return NULL;
    }
    long kind = tag == c->comment ? XML_COMMENT : tag == c->pi ? XML_PI : 0;
    Py_DECREF(tag);
    return kind == 0 ? tree_text_of(c, src, ".tag") : PyLong_FromLong(kind);
}

static PyObject *
tree_attrib_of(copier *c, PyObject *src)
{
    PyObject *attrib = PyObject_GetAttrString(src, "attrib"), *written = NULL;
    if (attrib == NULL) {
        return NULL;
    }
    if (PyDict_CheckExact(attrib)) {
        written = xml_write_attrib(&c->w, attrib);
    }
    if (written == NULL && !PyErr_Occurred()) {
        tree_refuse(c, ".attrib", attrib, "it must be a dict, of str to str");
    }
    Py_DECREF(attrib);
    return written;
}

/* Begin with an Element. 1: it is written already, and on `done`; 0; -1. */
static int
tree_begin(copier *c, PyObject *src)
{
    /* One is ours, one the parent's, or that of who asks. */
    bool shared = Py_REFCNT(src) > 2 || c->depth == 0;
    void *known = shared ? frozen_map_get(&c->memo, src) : NULL;
    if (known != NULL && known != &under_way) {
        return xml_push(&c->w, known) < 0 ? -1 : 1;
    }
    if (c->depth == c->room) {
        size_t room = c->room == 0 ? 16 : 2 * c->room;
        level *more = atoll_realloc(c->levels, room * sizeof(*more));
        if (more == NULL) {
            PyErr_NoMemory();
            return -1;
        }
        c->levels = more;
        c->room = room;
    }
    level *l = &c->levels[c->depth++];
    *l = (level){.src = Py_NewRef(src), .shared = shared};
    if (known == &under_way) {
        return tree_refuse(c, "", src, "it is part of itself");
    }
    if (shared) {
        if (frozen_map_set(&c->memo, src, &under_way) < 0) {
            return -1;
        }
        Py_INCREF(src); /* the memo's */
    }
    PyObject *tag = tag_of(c, src);
    PyObject *text = tag == NULL ? NULL : tree_text_of(c, src, ".text");
    PyObject *tail = text == NULL ? NULL : tree_text_of(c, src, ".tail");
    PyObject *attrib = tail == NULL ? NULL : tree_attrib_of(c, src);
    l->tag = tag;
    l->text = text;
    l->tail = tail;
    l->attrib = attrib;
    return attrib == NULL ? -1 : 0;
}

/* The innermost element is complete, and goes to `done`. */
static PyObject *
tree_finish(copier *c)
{
    level *l = &c->levels[c->depth - 1];
    PyObject *node = xml_write_node(&c->w, l->tag, l->text, l->attrib, l->count);
    if (node == NULL) {
        return NULL;
    }
    xml_set_tail(node, l->tail);
    if (xml_seal(node) < 0 ||
        (l->shared && frozen_map_set(&c->memo, l->src, node) < 0) ||
        xml_push(&c->w, node) < 0) {
        return NULL;
    }
    c->depth--;
    Py_DECREF(l->src);
    return node;
}

static PyObject *
tree_copy(copier *c, PyObject *root)
{
    PyObject *node = NULL;
    if (tree_begin(c, root) < 0) {
        return NULL;
    }
    while (c->depth > 0) {
        level *l = &c->levels[c->depth - 1];
        Py_ssize_t count = PySequence_Size(l->src);
        if (count < 0) {
            return NULL;
        }
        if (l->at >= count) {
            node = tree_finish(c);
            if (node == NULL) {
                return NULL;
            }
            continue;
        }
        PyObject *child = PySequence_GetItem(l->src, l->at++);
        if (child == NULL) {
            return NULL;
        }
        l->count++;
        int rc = xml_is_element(child) ? tree_begin(c, child)
                                       : tree_refuse(c, "", child,
                                                     "it is among the children of an "
                                                     "XML element, and is none");
        Py_DECREF(child);
        if (rc < 0) {
            return NULL;
        }
    }
    return node;
}

frozen_graph *
xml_build(core_state *state, PyObject *element)
{
    copier c = {.depth = 0};
    frozen_graph *g = NULL;
    if (xml_writer_init(&c.w, state) < 0) {
        return NULL;
    }
    c.comment = xml_library("xml.etree.ElementTree", "Comment");
    c.pi = c.comment == NULL
               ? NULL
               : xml_library("xml.etree.ElementTree", "ProcessingInstruction");
    PyObject *root = c.pi == NULL ? NULL : tree_copy(&c, element);
    if (root != NULL) {
        g = xml_publish(&c.w, root);
    }
    PyObject *exc = PyErr_GetRaisedException();
    while (c.depth > 0) {
        Py_DECREF(c.levels[--c.depth].src);
    }
    for (size_t i = 0; c.memo.used > 0 && i <= c.memo.mask; i++) {
        Py_XDECREF((PyObject *)(uintptr_t)c.memo.links[i].from);
    }
    frozen_map_fini(&c.memo);
    atoll_free(c.levels);
    xml_writer_fini(&c.w);
    Py_XDECREF(c.comment);
    Py_XDECREF(c.pi);
    PyErr_SetRaisedException(exc);
    return g;
}

/* -------------------------------------------------------------- Elements out */

typedef struct thawer {
    core_state *state;
    struct thaw_level {
        PyObject *node, *element; /* the element: held */
        Py_ssize_t at;
    } *levels;
    size_t depth, room;
    frozen_map memo; /* nodes and str to what they have become: counted */
    PyObject *cls, *append;
} thawer;

/* A copy of a str, the same one for the same; a new reference. */
static PyObject *
thaw_text(thawer *t, PyObject *text)
{
    if (!PyUnicode_Check(text)) { /* of a comment, the function */
        return xml_text(t->state, text, false);
    }
    PyObject *known = frozen_map_get(&t->memo, text);
    if (known == NULL) {
        known = frozen_copy_str(text);
        if (known == NULL || frozen_map_set(&t->memo, text, known) < 0) {
            Py_XDECREF(known);
            return NULL;
        }
    }
    return Py_NewRef(known);
}

static PyObject *
thaw_attrib(thawer *t, PyObject *mapping)
{
    PyObject *from = frozen_mapping_dict(mapping), *key, *value;
    PyObject *dict = PyDict_New();
    for (Py_ssize_t at = 0; dict != NULL && PyDict_Next(from, &at, &key, &value);) {
        PyObject *name = thaw_text(t, key);
        PyObject *text = name == NULL ? NULL : thaw_text(t, value);
        if (text == NULL || PyDict_SetItem(dict, name, text) < 0) {
            Py_CLEAR(dict);
        }
        Py_XDECREF(name);
        Py_XDECREF(text);
    }
    return dict;
}

static int
set_text(thawer *t, PyObject *element, const char *name, PyObject *field)
{
    if (field == Py_None) {
        return 0;
    }
    PyObject *text = thaw_text(t, field);
    int rc = text == NULL ? -1 : PyObject_SetAttrString(element, name, text);
    Py_XDECREF(text);
    return rc;
}

/* A new Element without children, on top of the levels. */
static PyObject *
thaw_begin(thawer *t, PyObject *node)
{
    if (t->depth == t->room) {
        size_t room = t->room == 0 ? 16 : 2 * t->room;
        struct thaw_level *more = atoll_realloc(t->levels, room * sizeof(*more));
        if (more == NULL) {
            PyErr_NoMemory();
            return NULL;
        }
        t->levels = more;
        t->room = room;
    }
    PyObject *tag = thaw_text(t, xml_field(node, XML_TAG));
    PyObject *attrib = tag == NULL ? NULL : thaw_attrib(t, xml_field(node, XML_ATTRIB));
    PyObject *element =
        attrib == NULL ? NULL : PyObject_CallFunctionObjArgs(t->cls, tag, attrib, NULL);
    Py_XDECREF(tag);
    Py_XDECREF(attrib);
    if (element == NULL ||
        set_text(t, element, "text", xml_field(node, XML_TEXT)) < 0 ||
        set_text(t, element, "tail", xml_field(node, XML_TAIL)) < 0) {
        Py_XDECREF(element);
        return NULL;
    }
    t->levels[t->depth++] = (struct thaw_level){node, element, 0};
    return element;
}

static int
tree_append(thawer *t, PyObject *parent, PyObject *child)
{
    PyObject *done = PyObject_CallMethodObjArgs(parent, t->append, child, NULL);
    Py_XDECREF(done);
    return done == NULL ? -1 : 0;
}

/* Borrowed from the memo; NULL with an exception. */
static PyObject *
thaw_walk(thawer *t, PyObject *root)
{
    if (thaw_begin(t, root) == NULL) {
        return NULL;
    }
    for (;;) {
        struct thaw_level *l = &t->levels[t->depth - 1];
        if (l->at < xml_count(l->node)) {
            PyObject *child = xml_child(l->node, l->at++);
            PyObject *parent = l->element;
            PyObject *known = frozen_map_get(&t->memo, child);
            if (known == NULL) {
                known = thaw_begin(t, child);
            }
            if (known == NULL || tree_append(t, parent, known) < 0) {
                return NULL;
            }
            continue;
        }
        PyObject *element = l->element;
        if (frozen_map_set(&t->memo, l->node, element) < 0) {
            return NULL;
        }
        t->depth--; /* the memo has its reference */
        if (t->depth == 0) {
            return element;
        }
    }
}

PyObject *
xml_thaw(core_state *state, PyObject *node)
{
    thawer t = {.state = state};
    PyObject *root = NULL;
    t.cls = xml_library("xml.etree.ElementTree", "Element");
    t.append = PyUnicode_FromString("append");
    if (t.cls != NULL && t.append != NULL) {
        root = Py_XNewRef(thaw_walk(&t, node));
    }
    PyObject *exc = PyErr_GetRaisedException();
    while (t.depth > 0) {
        Py_DECREF(t.levels[--t.depth].element);
    }
    for (size_t i = 0; t.memo.used > 0 && i <= t.memo.mask; i++) {
        Py_XDECREF((PyObject *)t.memo.links[i].to);
    }
    frozen_map_fini(&t.memo);
    atoll_free(t.levels);
    Py_XDECREF(t.cls);
    Py_XDECREF(t.append);
    PyErr_SetRaisedException(exc);
    return root;
}
