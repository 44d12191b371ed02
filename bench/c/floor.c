/* The floor of the benchmark `transfer`, as a Python module:
 *
 *     plan(obj) -> a capsule: C data from which obj can be built again
 *     build(capsule) -> an object equal to obj
 *     copy(buffer) -> ns of one copy into fresh memory, ns of freeing that
 *
 * `build` is the least that any decoder has to do: one loop over data that lies
 * in order, and the public C API for each object. It knows None, bool, int of
 * 64 bits, float, str, list, tuple, dict with keys of str, and instances with a
 * __dict__. A key that an object holds many times is made once in each build.
 * Between two builds only classes and the names of their attributes are kept,
 * as any program keeps them.
 */
#define PY_SSIZE_T_CLEAN
#include <Python.h>

#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

typedef enum kind {
    K_NONE,
    K_TRUE,
    K_FALSE,
    K_INT,
    K_FLOAT,
    K_STR,
    K_KEEP, /* a str that comes again: into its slot with it */
    K_KEPT, /* here it comes again */
    K_LIST, /* the items follow */
    K_TUPLE,
    K_DICT,   /* key, value, key, value, ... follow */
    K_OBJECT, /* a class; K_NAME, value, K_NAME, value, ... follow */
    K_NAME,
} kind;

#define MAX_SLOTS 64

/* 16 bytes, in the order in which the objects are built. */
typedef struct node {
    uint16_t kind;
    uint16_t slot;
    uint32_t size; /* bytes of a str, items of the others */
    union {
        int64_t i;
        double f;
        size_t at;     /* of a str: where in the text */
        PyObject *obj; /* owned by the plan */
    } u;
} node;

typedef struct plan {
    node *nodes;
    size_t count, room;
    char *text;
    size_t text_size, text_room;
    uint16_t slots;
    PyObject *keys; /* id of a key: index of its node; only while planning */
} plan;

/* --------------------------------------------------------------- planning */

static void
plan_free(plan *p)
{
    for (size_t i = 0; i < p->count; i++) {
        if (p->nodes[i].kind >= K_OBJECT) {
            Py_DECREF(p->nodes[i].u.obj);
        }
    }
    Py_XDECREF(p->keys);
    free(p->nodes);
    free(p->text);
    free(p);
}

static int
add(plan *p, node n)
{
    if (p->count == p->room) {
        size_t room = p->room ? p->room * 2 : 64;
        node *nodes = realloc(p->nodes, room * sizeof(*nodes));
        if (nodes == NULL) {
            PyErr_NoMemory();
            return -1;
        }
        p->nodes = nodes;
        p->room = room;
    }
    p->nodes[p->count++] = n;
    return 0;
}

/* A node that holds `obj`. */
static int
add_held(plan *p, kind k, Py_ssize_t size, PyObject *obj)
{
    node n = {.kind = (uint16_t)k, .size = (uint32_t)size, .u.obj = obj};
    if (add(p, n) < 0) {
        return -1;
    }
    Py_INCREF(obj);
    return 0;
}

static int
add_sized(plan *p, kind k, Py_ssize_t size)
{
    return add(p, (node){.kind = (uint16_t)k, .size = (uint32_t)size});
}

static int
add_str(plan *p, PyObject *obj)
{
    Py_ssize_t length;
    const char *text = PyUnicode_AsUTF8AndSize(obj, &length);
    if (text == NULL) {
        return -1;
    }
    size_t size = (size_t)length, end = p->text_size + size;
    if (end > p->text_room) {
        char *more = realloc(p->text, end * 2);
        if (more == NULL) {
            PyErr_NoMemory();
            return -1;
        }
        p->text = more;
        p->text_room = end * 2;
    }
    memcpy(p->text + p->text_size, text, size);
    node n = {.kind = K_STR, .size = (uint32_t)size, .u.at = p->text_size};
    p->text_size = end;
    return add(p, n);
}

/* When a key comes again, its first place is told to keep it. */
static int
add_key_again(plan *p, size_t index)
{
    node *first = &p->nodes[index];
    if (first->kind == K_STR) {
        if (p->slots == MAX_SLOTS) {
            PyErr_SetString(PyExc_ValueError, "too many keys that repeat");
            return -1;
        }
        first->kind = K_KEEP;
        first->slot = p->slots++;
    }
    return add(p, (node){.kind = K_KEPT, .slot = first->slot});
}

static int
add_key(plan *p, PyObject *key)
{
    PyObject *id = PyLong_FromVoidPtr(key);
    if (id == NULL) {
        return -1;
    }
    int rc = -1;
    PyObject *known = PyDict_GetItemWithError(p->keys, id);
    if (known != NULL) {
        rc = add_key_again(p, PyLong_AsSize_t(known));
    }
    else if (!PyErr_Occurred()) {
        PyObject *index = PyLong_FromSize_t(p->count);
        if (index != NULL && PyDict_SetItem(p->keys, id, index) == 0) {
            rc = add_str(p, key);
        }
        Py_XDECREF(index);
    }
    Py_DECREF(id);
    return rc;
}

static int add_value(plan *p, PyObject *obj);

static int
add_items(plan *p, kind k, PyObject *obj)
{
    Py_ssize_t size = PySequence_Fast_GET_SIZE(obj);
    if (add_sized(p, k, size) < 0) {
        return -1;
    }
    for (Py_ssize_t i = 0; i < size; i++) {
        if (add_value(p, PySequence_Fast_GET_ITEM(obj, i)) < 0) {
            return -1;
        }
    }
    return 0;
}

static int
add_dict(plan *p, PyObject *obj)
{
    PyObject *key, *value;
    Py_ssize_t at = 0;
    if (add_sized(p, K_DICT, PyDict_GET_SIZE(obj)) < 0) {
        return -1;
    }
    while (PyDict_Next(obj, &at, &key, &value)) {
        if (add_key(p, key) < 0 || add_value(p, value) < 0) {
            return -1;
        }
    }
    return 0;
}

static int
add_object(plan *p, PyObject *obj)
{
    PyObject *fields = PyObject_GetAttrString(obj, "__dict__");
    if (fields == NULL) {
        return -1;
    }
    PyObject *name, *value;
    Py_ssize_t at = 0;
    int rc = add_held(p, K_OBJECT, PyDict_GET_SIZE(fields), (PyObject *)Py_TYPE(obj));
    while (rc == 0 && PyDict_Next(fields, &at, &name, &value)) {
        rc = add_held(p, K_NAME, 0, name);
        if (rc == 0) {
            rc = add_value(p, value);
        }
    }
    Py_DECREF(fields);
    return rc;
}

static int
add_value(plan *p, PyObject *obj)
{
    if (obj == Py_None) {
        return add_sized(p, K_NONE, 0);
    }
    if (PyBool_Check(obj)) {
        return add_sized(p, obj == Py_True ? K_TRUE : K_FALSE, 0);
    }
    if (PyLong_CheckExact(obj)) {
        node n = {.kind = K_INT, .u.i = PyLong_AsLongLong(obj)};
        return n.u.i == -1 && PyErr_Occurred() ? -1 : add(p, n);
    }
    if (PyFloat_CheckExact(obj)) {
        node n = {.kind = K_FLOAT, .u.f = PyFloat_AS_DOUBLE(obj)};
        return add(p, n);
    }
    if (PyUnicode_CheckExact(obj)) {
        return add_str(p, obj);
    }
    if (PyList_CheckExact(obj)) {
        return add_items(p, K_LIST, obj);
    }
    if (PyTuple_CheckExact(obj)) {
        return add_items(p, K_TUPLE, obj);
    }
    return PyDict_CheckExact(obj) ? add_dict(p, obj) : add_object(p, obj);
}

static const char PLAN[] = "floor.plan";

static void
capsule_free(PyObject *capsule)
{
    plan_free(PyCapsule_GetPointer(capsule, PLAN));
}

static PyObject *
floor_plan(PyObject *Py_UNUSED(module), PyObject *obj)
{
    plan *p = calloc(1, sizeof(*p));
    if (p == NULL) {
        return PyErr_NoMemory();
    }
    p->keys = PyDict_New();
    PyObject *capsule = NULL;
    if (p->keys != NULL && add_value(p, obj) == 0) {
        Py_CLEAR(p->keys);
        capsule = PyCapsule_New(p, PLAN, capsule_free);
    }
    if (capsule == NULL) {
        plan_free(p);
    }
    return capsule;
}

/* --------------------------------------------------------------- building
 * This is what is timed. Errors can only be those of memory: what was made so
 * far is dropped, as far as that takes no more than a line. */

typedef struct builder {
    const node *next;
    const char *text;
    PyObject *slots[MAX_SLOTS];
} builder;

__attribute__((noinline)) static PyObject *build_container(builder *b, const node *n);

/* Inline, and with the caller's own cursor, which the compiler can keep in a
 * register: a loop over plain values does hardly more than call CPython. (By
 * itself gcc would inline the containers here instead: 15 % slower.) */
__attribute__((always_inline)) static inline PyObject *
build_value(builder *b, const node **next)
{
    const node *n = (*next)++;
    switch ((kind)n->kind) {
    case K_NONE:
        return Py_NewRef(Py_None);
    case K_TRUE:
        return Py_NewRef(Py_True);
    case K_FALSE:
        return Py_NewRef(Py_False);
    case K_INT:
        return PyLong_FromLong(n->u.i);
    case K_FLOAT:
        return PyFloat_FromDouble(n->u.f);
    case K_STR:
        return PyUnicode_FromStringAndSize(b->text + n->u.at, n->size);
    case K_KEEP:
        b->slots[n->slot] = PyUnicode_FromStringAndSize(b->text + n->u.at, n->size);
        return Py_XNewRef(b->slots[n->slot]);
    case K_KEPT:
        return Py_NewRef(b->slots[n->slot]);
    default:
        break;
    }
    b->next = *next;
    PyObject *obj = build_container(b, n);
    *next = b->next;
    return obj;
}

static PyObject *
build_list(builder *b, Py_ssize_t size)
{
    const node *next = b->next;
    PyObject *list = PyList_New(size);
    for (Py_ssize_t i = 0; list != NULL && i < size; i++) {
        PyObject *item = build_value(b, &next);
        if (item == NULL) {
            Py_CLEAR(list);
            break;
        }
        PyList_SET_ITEM(list, i, item);
    }
    b->next = next;
    return list;
}

static PyObject *
build_tuple(builder *b, Py_ssize_t size)
{
    const node *next = b->next;
    PyObject *tuple = PyTuple_New(size);
    for (Py_ssize_t i = 0; tuple != NULL && i < size; i++) {
        PyObject *item = build_value(b, &next);
        if (item == NULL) {
            Py_CLEAR(tuple);
            break;
        }
        PyTuple_SET_ITEM(tuple, i, item);
    }
    b->next = next;
    return tuple;
}

static PyObject *
build_dict(builder *b, Py_ssize_t size)
{
    const node *next = b->next;
    PyObject *dict = PyDict_New();
    for (Py_ssize_t i = 0; dict != NULL && i < size; i++) {
        PyObject *key = build_value(b, &next);
        PyObject *value = key == NULL ? NULL : build_value(b, &next);
        if (value == NULL || PyDict_SetItem(dict, key, value) < 0) {
            Py_CLEAR(dict);
        }
        Py_XDECREF(key);
        Py_XDECREF(value);
    }
    b->next = next;
    return dict;
}

static PyObject *
build_object(builder *b, PyTypeObject *type, Py_ssize_t size)
{
    const node *next = b->next;
    PyObject *obj = type->tp_alloc(type, 0);
    for (Py_ssize_t i = 0; obj != NULL && i < size; i++) {
        PyObject *name = next++->u.obj;
        PyObject *value = build_value(b, &next);
        if (value == NULL || PyObject_GenericSetAttr(obj, name, value) < 0) {
            Py_CLEAR(obj);
        }
        Py_XDECREF(value);
    }
    b->next = next;
    return obj;
}

static PyObject *
build_container(builder *b, const node *n)
{
    switch ((kind)n->kind) {
    case K_LIST:
        return build_list(b, n->size);
    case K_TUPLE:
        return build_tuple(b, n->size);
    case K_DICT:
        return build_dict(b, n->size);
    case K_OBJECT:
        return build_object(b, (PyTypeObject *)n->u.obj, n->size);
    default:
        Py_UNREACHABLE();
    }
}

static PyObject *
floor_build(PyObject *Py_UNUSED(module), PyObject *capsule)
{
    plan *p = PyCapsule_GetPointer(capsule, PLAN);
    if (p == NULL) {
        return NULL;
    }
    builder b = {.text = p->text};
    const node *next = p->nodes;
    PyObject *obj = build_value(&b, &next);
    for (uint16_t i = 0; i < p->slots; i++) {
        Py_XDECREF(b.slots[i]);
    }
    return obj;
}

/* ---------------------------------------------------------------- copying */

static int64_t
now_ns(void)
{
    struct timespec ts;
    clock_gettime(CLOCK_MONOTONIC, &ts);
    return (int64_t)ts.tv_sec * 1000000000 + ts.tv_nsec;
}

static PyObject *
floor_copy(PyObject *Py_UNUSED(module), PyObject *obj)
{
    Py_buffer view;
    if (PyObject_GetBuffer(obj, &view, PyBUF_SIMPLE) < 0) {
        return NULL;
    }
    int64_t start = now_ns();
    void *copy = malloc((size_t)view.len);
    if (copy != NULL) {
        memcpy(copy, view.buf, (size_t)view.len);
    }
    /* Nobody reads the copy; the compiler must not know that. */
    __asm__ volatile("" : : "r"(copy) : "memory");
    int64_t copied = now_ns();
    free(copy);
    int64_t freed = now_ns();
    PyBuffer_Release(&view);
    if (copy == NULL) {
        return PyErr_NoMemory();
    }
    return Py_BuildValue("LL", (long long)(copied - start),
                         (long long)(freed - copied));
}

static PyMethodDef methods[] = {
    {"plan", floor_plan, METH_O, "C data from which obj can be built again."},
    {"build", floor_build, METH_O, "Build what the plan is of."},
    {"copy", floor_copy, METH_O, "(ns of copying the buffer, ns of freeing)."},
    {NULL, NULL, 0, NULL},
};

static struct PyModuleDef module_def = {
    PyModuleDef_HEAD_INIT,
    .m_name = "floor",
    .m_methods = methods,
};

PyMODINIT_FUNC
PyInit_floor(void)
{
    return PyModuleDef_Init(&module_def);
}
