/* FrozenElement.iter() and itertext(): walks in the order of the document, with a
 * stack of their own. */
#include "frozen/xml/xml.h"

typedef struct step {
    PyObject *node;
    Py_ssize_t at; /* the next child */
} step;

typedef struct walkobj {
    PyObject_HEAD
    elementobj *root; /* held; NULL: it has ended */
    PyObject *tag;    /* held, NULL: any */
    bool texts;
    bool begun;
    step *steps;
    size_t depth, room;
} walkobj;

static void
walk_end(walkobj *self)
{
    atoll_free(self->steps);
    self->steps = NULL;
    self->depth = self->room = 0;
    Py_CLEAR(self->tag);
    Py_CLEAR(self->root);
}

static void
walk_dealloc(PyObject *obj)
{
    PyTypeObject *type = Py_TYPE(obj);
    walk_end((walkobj *)obj);
    PyObject_Free(obj);
    Py_DECREF(type);
}

static int
walk_enter(walkobj *self, PyObject *node)
{
    if (self->depth == self->room) {
        size_t room = self->room == 0 ? 16 : 2 * self->room;
        step *more = atoll_realloc(self->steps, room * sizeof(*more));
        if (more == NULL) {
            PyErr_NoMemory();
            return -1;
        }
        self->steps = more;
        self->room = room;
    }
    self->steps[self->depth++] = (step){node, 0};
    return 0;
}

/* The next element of the document; borrowed. NULL: there is none, or an exception
 * is set; or one below the root was left, and `left` is not NULL: *left is it. */
static PyObject *
next_node(walkobj *self, PyObject **left)
{
    if (!self->begun) {
        self->begun = true;
        return walk_enter(self, self->root->node) < 0 ? NULL : self->root->node;
    }
    while (self->depth > 0) {
        step *s = &self->steps[self->depth - 1];
        if (s->at < xml_count(s->node)) {
            PyObject *child = xml_child(s->node, s->at++);
            return walk_enter(self, child) < 0 ? NULL : child;
        }
        self->depth--;
        if (left != NULL && self->depth > 0) {
            *left = s->node;
            return NULL;
        }
    }
    return NULL;
}

/* Has it the tag? -1 with an exception. Runs code of the user's if what was asked
 * for is no str. */
static int
walk_matches(const walkobj *self, PyObject *node)
{
    PyObject *tag = xml_field(node, XML_TAG);
    if (self->tag == NULL) {
        return 1;
    }
    if (PyUnicode_CheckExact(self->tag) && PyUnicode_Check(tag)) {
        return PyUnicode_Compare(tag, self->tag) == 0;
    }
    PyObject *theirs = Py_NewRef(self->tag);
    PyObject *ours = xml_text(self->root->state, tag, self->root->native);
    int rc = ours == NULL ? -1 : PyObject_RichCompareBool(ours, theirs, Py_EQ);
    Py_XDECREF(ours);
    Py_DECREF(theirs);
    return rc;
}

static PyObject *
next_element(walkobj *self)
{
    PyObject *node;
    while ((node = next_node(self, NULL)) != NULL) {
        int rc = walk_matches(self, node);
        if (rc < 0 || self->root == NULL) { /* its code may have ended this */
            return NULL;
        }
        if (rc > 0) {
            return node == self->root->node ? Py_NewRef((PyObject *)self->root)
                                            : xml_other(self->root, node);
        }
    }
    return NULL;
}

/* Texts of an element that is entered, tails of one that is left. Of a comment only
 * the tail. */
static PyObject *
next_text(walkobj *self)
{
    for (;;) {
        PyObject *left = NULL, *field = NULL;
        PyObject *node = next_node(self, &left);
        if (node != NULL) {
            PyObject *tag = xml_field(node, XML_TAG);
            if (PyUnicode_Check(tag) || tag == Py_None) {
                field = xml_field(node, XML_TEXT);
            }
            else { /* go on behind it */
                self->steps[self->depth - 1].at = xml_count(node);
            }
        }
        else if (left != NULL) {
            field = xml_field(left, XML_TAIL);
        }
        else {
            return NULL;
        }
        if (field != NULL && field != Py_None && PyUnicode_GET_LENGTH(field) > 0) {
            return xml_text(self->root->state, field, self->root->native);
        }
    }
}

static PyObject *
walk_next(PyObject *obj)
{
    walkobj *self = (walkobj *)obj;
    if (self->root == NULL) {
        return NULL;
    }
    PyObject *found = self->texts ? next_text(self) : next_element(self);
    if (found == NULL && !PyErr_Occurred()) {
        walk_end(self); /* the graph may go */
    }
    return found;
}

static PyType_Slot walk_slots[] = {
    {Py_tp_dealloc, walk_dealloc},
    {Py_tp_iter, PyObject_SelfIter},
    {Py_tp_iternext, walk_next},
    {0, NULL},
};

static PyType_Spec walk_spec = {
    .name = "atoll._core._ElementWalk",
    .basicsize = sizeof(walkobj),
    .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_IMMUTABLETYPE |
             Py_TPFLAGS_DISALLOW_INSTANTIATION,
    .slots = walk_slots,
};

int
xml_add_iterators(core_state *state)
{
    state->frozen->walk_type = core_make_type(state, &walk_spec);
    return state->frozen->walk_type == NULL ? -1 : 0;
}

static PyObject *
new_walk(PyObject *element, PyObject *tag, bool texts)
{
    elementobj *root = (elementobj *)element;
    walkobj *self = PyObject_New(walkobj, root->state->frozen->walk_type);
    if (self != NULL) {
        memset((char *)self + sizeof(PyObject), 0, sizeof(*self) - sizeof(PyObject));
        self->root = (elementobj *)Py_NewRef(element);
        self->tag = Py_XNewRef(tag);
        self->texts = texts;
    }
    return (PyObject *)self;
}

PyObject *
xml_iter(PyObject *self, PyObject *args, PyObject *kwargs)
{
    static char *keywords[] = {"tag", NULL};
    PyObject *tag = Py_None;
    if (!PyArg_ParseTupleAndKeywords(args, kwargs, "|O:iter", keywords, &tag)) {
        return NULL;
    }
    bool any =
        tag == Py_None || (PyUnicode_Check(tag) && PyUnicode_EqualToUTF8(tag, "*"));
    return new_walk(self, any ? NULL : tag, false);
}

PyObject *
xml_itertext(PyObject *self, PyObject *Py_UNUSED(ignored))
{
    return new_walk(self, NULL, true);
}
