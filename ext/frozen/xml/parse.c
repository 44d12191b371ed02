/* atoll.frozen_xml: the target of ElementTree's XMLParser, that writes each element
 * into the graph when it is closed.
 *
 * What an element is is known when it ends, except its tail, which ends where the
 * next element begins or the parent ends: until then it is not sealed. Comments and
 * processing instructions are dropped, as ElementTree's own target does: it has no
 * methods for them. */
#include "frozen/xml/xml.h"

#include <stddef.h>

typedef struct open_element {
    PyObject *tag, *attrib, *text; /* written */
    size_t first;                  /* its first child, in `done` */
} open_element;

typedef struct parseobj {
    PyObject_HEAD
    bool live; /* the writer has to be let go of */
    xml_writer w;
    open_element *open;
    size_t depth, room;
    PyObject *last; /* the element that has ended last, whose tail comes; or NULL */
    PyObject *data; /* text so far, a str or a list of them; held, or NULL */
    PyObject *root;
} parseobj;

static void
parse_let_go(parseobj *self)
{
    if (self->live) {
        self->live = false;
        xml_writer_fini(&self->w);
    }
    atoll_free(self->open);
    self->open = NULL;
    self->depth = self->room = 0;
    self->last = self->root = NULL;
    Py_CLEAR(self->data);
}

static void
parse_dealloc(PyObject *obj)
{
    PyTypeObject *type = Py_TYPE(obj);
    parse_let_go((parseobj *)obj);
    PyObject_Free(obj);
    Py_DECREF(type);
}

static int
is_live(const parseobj *self)
{
    if (!self->live) {
        PyErr_SetString(PyExc_ValueError, "this target has been closed");
    }
    return self->live;
}

/* What was text so far belongs to the element that has ended last, or to the one
 * that is open. -1 with an exception. */
static int
parse_flush(parseobj *self)
{
    PyObject *data = self->data, *text = NULL;
    self->data = NULL;
    if (data != NULL) {
        if (PyList_CheckExact(data)) {
            PyObject *none = PyUnicode_New(0, 0);
            Py_SETREF(data, none == NULL ? NULL : PyUnicode_Join(none, data));
            Py_XDECREF(none);
        }
        text = data == NULL ? NULL : xml_write_text(&self->w, data);
        Py_XDECREF(data);
        if (text == NULL) {
            return -1;
        }
        if (self->last != NULL) {
            xml_set_tail(self->last, text);
        }
        else if (self->depth > 0) {
            self->open[self->depth - 1].text = text;
        }
    }
    if (self->last != NULL && xml_seal(self->last) < 0) {
        return -1;
    }
    self->last = NULL;
    return 0;
}

static PyObject *
parse_start(PyObject *obj, PyObject *const *args, Py_ssize_t nargs)
{
    parseobj *self = (parseobj *)obj;
    if (!is_live(self)) {
        return NULL;
    }
    if (nargs != 2 || !PyUnicode_CheckExact(args[0]) || !PyDict_CheckExact(args[1])) {
        PyErr_SetString(PyExc_TypeError, "start() takes a str and a dict");
        return NULL;
    }
    if (parse_flush(self) < 0) {
        return NULL;
    }
    if (self->depth == self->room) {
        size_t room = self->room == 0 ? 16 : 2 * self->room;
        open_element *more = atoll_realloc(self->open, room * sizeof(*more));
        if (more == NULL) {
            return PyErr_NoMemory();
        }
        self->open = more;
        self->room = room;
    }
    PyObject *tag = xml_write_text(&self->w, args[0]);
    PyObject *attrib = tag == NULL ? NULL : xml_write_attrib(&self->w, args[1]);
    if (attrib == NULL) {
        if (!PyErr_Occurred()) {
            PyErr_SetString(PyExc_TypeError, "attributes must be str");
        }
        return NULL;
    }
    self->open[self->depth++] = (open_element){tag, attrib, Py_None, self->w.ndone};
    Py_RETURN_NONE;
}

static PyObject *
parse_end(PyObject *obj, PyObject *Py_UNUSED(tag))
{
    parseobj *self = (parseobj *)obj;
    if (!is_live(self)) {
        return NULL;
    }
    if (self->depth == 0) {
        PyErr_SetString(PyExc_ValueError, "nothing is open");
        return NULL;
    }
    if (parse_flush(self) < 0) {
        return NULL;
    }
    const open_element *e = &self->open[self->depth - 1];
    PyObject *node =
        xml_write_node(&self->w, e->tag, e->text, e->attrib, self->w.ndone - e->first);
    if (node == NULL || xml_push(&self->w, node) < 0) {
        return NULL;
    }
    self->depth--;
    self->last = node;
    if (self->depth == 0) {
        self->root = node;
    }
    Py_RETURN_NONE;
}

static PyObject *
parse_data(PyObject *obj, PyObject *data)
{
    parseobj *self = (parseobj *)obj;
    if (!is_live(self)) {
        return NULL;
    }
    if (!PyUnicode_CheckExact(data)) {
        PyErr_Format(PyExc_TypeError, "data() takes a str, not %T", data);
        return NULL;
    }
    if (self->data == NULL) {
        self->data = Py_NewRef(data);
        Py_RETURN_NONE;
    }
    if (!PyList_CheckExact(self->data)) {
        PyObject *list = PyList_New(1);
        if (list == NULL) {
            return NULL;
        }
        PyList_SET_ITEM(list, 0, self->data);
        self->data = list;
    }
    return PyList_Append(self->data, data) < 0 ? NULL : Py_NewRef(Py_None);
}

/* The whole document has been read: what XMLParser.close() calls. */
static PyObject *
parse_close(PyObject *obj, PyObject *Py_UNUSED(ignored))
{
    parseobj *self = (parseobj *)obj;
    if (!is_live(self)) {
        return NULL;
    }
    if (self->root == NULL || self->depth > 0) {
        PyErr_SetString(PyExc_ValueError, "the document is not complete");
        return NULL;
    }
    return parse_flush(self) < 0 ? NULL : Py_NewRef(Py_None);
}

PyDoc_STRVAR(finish_doc,
"finish($self, name, /)\n--\n\n"
"After close(): the graph (Frozen), named `name` (str | None). Once.");

static PyObject *
parse_finish(PyObject *obj, PyObject *name)
{
    parseobj *self = (parseobj *)obj;
    char *copy;
    if (!is_live(self)) {
        return NULL;
    }
    if (self->root == NULL || self->depth > 0 || self->last != NULL) {
        PyErr_SetString(PyExc_ValueError, "the document is not complete");
        return NULL;
    }
    if (frozen_copy_name(name, &copy) < 0) {
        return NULL;
    }
    core_state *state = self->w.b.state;
    frozen_graph *g = xml_publish(&self->w, self->root);
    parse_let_go(self);
    if (g == NULL) {
        atoll_free(copy);
        return NULL;
    }
    g->name = copy;
    PyObject *result = frozen_object(state, g);
    frozen_unref(g);
    return result;
}

PyDoc_STRVAR(drop_doc,
"drop($self, /)\n--\n\n"
"Give the memory back, whatever there is; an exception may keep this object.");

static PyObject *
parse_drop(PyObject *obj, PyObject *Py_UNUSED(ignored))
{
    parse_let_go((parseobj *)obj);
    Py_RETURN_NONE;
}

static PyMethodDef parse_methods[] = {
    {"start", (PyCFunction)(void (*)(void))parse_start, METH_FASTCALL, NULL},
    {"end", parse_end, METH_O, NULL},
    {"data", parse_data, METH_O, NULL},
    {"close", parse_close, METH_NOARGS, NULL},
    {"finish", parse_finish, METH_O, finish_doc},
    {"drop", parse_drop, METH_NOARGS, drop_doc},
    {NULL, NULL, 0, NULL},
};

static PyType_Slot parse_slots[] = {
    {Py_tp_dealloc, parse_dealloc},
    {Py_tp_methods, parse_methods},
    {0, NULL},
};

static PyType_Spec parse_spec = {
    .name = "atoll._core._XmlTarget",
    .basicsize = sizeof(parseobj),
    .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_IMMUTABLETYPE |
             Py_TPFLAGS_DISALLOW_INSTANTIATION,
    .slots = parse_slots,
};

int
xml_add_parser(core_state *state)
{
    state->frozen->parse_type = core_make_type(state, &parse_spec);
    return state->frozen->parse_type == NULL ? -1 : 0;
}

PyDoc_STRVAR(target_doc,
"_xml_target()\n--\n\n"
"A target for xml.etree.ElementTree.XMLParser that writes into a new graph.\n\n"
"Raises AtollError where nothing can be frozen; MemoryError.");

static PyObject *
core_xml_target(PyObject *module, PyObject *Py_UNUSED(ignored))
{
    core_state *state = PyModule_GetState(module);
    if (frozen_begin(state) < 0) {
        return NULL;
    }
    parseobj *self = PyObject_New(parseobj, state->frozen->parse_type);
    if (self == NULL) {
        return NULL;
    }
    memset((char *)self + sizeof(PyObject), 0, sizeof(*self) - sizeof(PyObject));
    self->live = xml_writer_init(&self->w, state) == 0;
    if (!self->live) {
        Py_CLEAR(self);
    }
    return (PyObject *)self;
}

PyMethodDef xml_functions[] = {
    {"_xml_target", core_xml_target, METH_NOARGS, target_doc},
    {NULL, NULL, 0, NULL},
};
