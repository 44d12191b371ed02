/* Are CPython's objects what cpython/immortal.h says?
 *
 * Sizes and fields are compared with objects of CPython's own; then a graph with
 * one of everything is written, compared through the public API, and looked at
 * again after all has been done to it that would be counted, or filled in, in an
 * ordinary object. Once a process, at the first freeze: it takes some 10 ms. What
 * raises an exception means no, except MemoryError. */
#include "cpython/immortal.h"
#include "frozen/frozen.h"

static struct {
    atoll_lock lock;
    int answer; /* guarded by lock; 0: nobody has asked; 1: yes; -1: no */
} known;

void
frozen_check_fork_child(void)
{
    known.lock.word = 0;
}

#ifdef FROZEN_KNOWN

/* Everything that can be frozen: evaluated by CPython. */
static const char sample_source[] =
    "{'a': [None, True, False, ..., 0, -5, 256, 100000, -1 << 40, 1 << 200,\n"
    "       -(1 << 90), 1.5, -0.0, float('inf'), 2j, '', 'x', '\\xe9', 'word',\n"
    "       'some longer text', 'na\\xefve', '\\u20ac uro', '\\U0001f40d snake',\n"
    "       '\\ud800', b'', b'y', b'some bytes', (), [], {}, (1, (2, 'three')),\n"
    "       range(5), range(10, -10, -3), range(1 << 70), slice(1, None, 'b'),\n"
    "       slice((1, 2), 3)],\n"
    " 'general': {1: 'one', (1, 2): 3, None: 4, 'x': 5, 1.5: 6, b'k': 7},\n"
    " 'mid': {str(i): i for i in range(200)},\n"
    " 'large': dict.fromkeys(range(22000))}";

static PyObject *
check_evaluate(const char *source)
{
    PyObject *names = PyDict_New();
    PyObject *builtins = PyImport_ImportModule("builtins");
    PyObject *value = NULL;
    if (names != NULL && builtins != NULL &&
        PyDict_SetItemString(names, "__builtins__", builtins) == 0) {
        value = PyRun_String(source, Py_eval_input, names, names);
    }
    Py_XDECREF(names);
    Py_XDECREF(builtins);
    return value;
}

static bool
has_attr(PyObject *obj, const char *name, PyObject *value)
{
    PyObject *found = PyObject_GetAttrString(obj, name);
    bool same = found == value;
    Py_XDECREF(found);
    return same;
}

/* sys.getsizeof() counts the head of a container: is it as long as we think? */
static bool
has_head(PyObject *obj, size_t body)
{
    PyObject *sys = PyImport_ImportModule("sys");
    PyObject *answer =
        sys == NULL ? NULL : PyObject_CallMethod(sys, "getsizeof", "(O)", obj);
    bool same = answer != NULL && PyLong_AsSize_t(answer) == body + FROZEN_HEAD;
    Py_XDECREF(sys);
    Py_XDECREF(answer);
    return same;
}

static bool
ranges_are_known(void)
{
    PyObject *range = check_evaluate("range(1000000, 5000000, 1000003)");
    Py_ssize_t count;
    PyObject **parts = range == NULL ? NULL : frozen_parts(range, &count);
    bool good = range != NULL && PyRange_Type.tp_basicsize == sizeof(frozen_range) &&
                !PyType_IS_GC(&PyRange_Type) && has_attr(range, "start", parts[0]) &&
                has_attr(range, "stop", parts[1]) &&
                has_attr(range, "step", parts[2]) && PyLong_CheckExact(parts[3]) &&
                PyLong_AsSsize_t(parts[3]) == PyObject_Size(range);
    Py_XDECREF(range);
    return good;
}

static bool
slices_are_known(void)
{
    PyObject *slice = check_evaluate("slice('a', 1000000, 2.5)");
    Py_ssize_t count;
    PyObject **parts = slice == NULL ? NULL : frozen_parts(slice, &count);
    bool good = slice != NULL && PyType_IS_GC(&PySlice_Type) &&
                PySlice_Type.tp_basicsize == sizeof(PySliceObject) &&
                has_attr(slice, "start", parts[0]) &&
                has_attr(slice, "stop", parts[1]) && has_attr(slice, "step", parts[2]);
    Py_XDECREF(slice);
    return good;
}

static bool
mappings_are_known(core_state *state)
{
    PyObject *dict = PyDict_New();
    PyObject *proxy = dict == NULL ? NULL : PyDictProxy_New(dict);
    bool good = proxy != NULL && state->cpython->layout.can_read &&
                PyDictProxy_Type.tp_basicsize == sizeof(frozen_proxy) &&
                PyDictProxy_Type.tp_weaklistoffset == 0 &&
                ((frozen_proxy *)proxy)->mapping == dict &&
                has_head(proxy, sizeof(frozen_proxy)) &&
                has_head(dict, IMMORTAL_DICT_SIZE);
#ifdef COMPAT_FROZENDICT
    good = good && PyType_IS_GC(&PyFrozenDict_Type) &&
           PyFrozenDict_Type.tp_basicsize == IMMORTAL_DICT_SIZE + sizeof(Py_hash_t) &&
           PyFrozenDict_Type.tp_weaklistoffset == 0;
#endif
    Py_XDECREF(dict);
    Py_XDECREF(proxy);
    return good;
}

static bool
sizes_are_known(void)
{
    PyObject *pair = check_evaluate("(1.5, [])");
    bool good = pair != NULL &&
                has_head(pair, offsetof(PyTupleObject, ob_item) + 2 * sizeof(void *)) &&
                PyLong_Type.tp_basicsize == IMMORTAL_INT_HEAD &&
                PyLong_Type.tp_itemsize == sizeof(digit) &&
                PyFloat_Type.tp_basicsize == sizeof(PyFloatObject) &&
                PyComplex_Type.tp_basicsize == sizeof(PyComplexObject) &&
                PyBytes_Type.tp_basicsize == offsetof(PyBytesObject, ob_sval) + 1 &&
                PyTuple_Type.tp_basicsize == offsetof(PyTupleObject, ob_item) &&
                PyTuple_Type.tp_weaklistoffset == 0;
    Py_XDECREF(pair);
    return good;
}

/* CPython's own objects are found. */
static int
own_are_known(void)
{
    Py_ssize_t count = frozen_find_own();
    if (count < 0) {
        return -1;
    }
    PyObject *len = PyUnicode_FromString("__len__");
    Py_hash_t hash = len == NULL ? -1 : PyObject_Hash(len);
    if (hash == -1) {
        Py_XDECREF(len);
        return -1;
    }
    PyObject *own = count < 100 ? NULL : frozen_own_str(len, hash);
    PyUnicode_InternInPlace(&len);
    bool good = own != NULL && own == len;
    Py_DECREF(len);
    return good;
}

/* Use it as code would, and whatever is in it: 1 if all is as in the model. */
static int
check_behaves(PyObject *root, PyObject *model)
{
    static const char source[] =
        "lambda f, m: (same := lambda a, b: (\n"
        "    list(a.items()) == list(b.items()) and\n"
        "      all(map(a.__contains__, b))\n"
        "    if type(b) is dict and len(b) > 1000 else\n"
        "    len(a) == len(b) and all(k in a and same(a[k], b[k]) for k in b)\n"
        "      and list(a) == list(b) and dict(a).keys() == b.keys()\n"
        "    if type(b) is dict else\n"
        "    type(a) is tuple and len(a) == len(b) and\n"
        "      all(map(same, a, b)) if type(b) in (list, tuple) else\n"
        "    type(a) is type(b) and a == b and repr(a) == repr(b) and\n"
        "      (type(b) is slice or hash(a) == hash(b))))(f, m)";
    PyObject *function = check_evaluate(source);
    PyObject *answer = function == NULL
                           ? NULL
                           : PyObject_CallFunctionObjArgs(function, root, model, NULL);
    int good = answer == NULL ? -1 : answer == Py_True;
    Py_XDECREF(function);
    Py_XDECREF(answer);
    return good;
}

/* All bytes of a graph: whatever changes one has written. */
static uint64_t
check_digest(const frozen_graph *g)
{
    uint64_t sum = 0;
    for (int kind = 0; kind < CHUNKS_KINDS; kind++) {
        for (size_t i = 0; i < g->nchunks[kind]; i++) {
            const frozen_chunk *chunk = &g->chunks[kind][i];
            for (size_t at = 0; at < chunk->used; at += sizeof(uint64_t)) {
                uint64_t word;
                memcpy(&word, chunk->data + at, sizeof(word));
                sum = (sum ^ word) * UINT64_C(0x9E3779B97F4A7C15) + 1;
            }
        }
    }
    return sum;
}

static int
sample_is_right(core_state *state)
{
    frozen_graph *g = frozen_new();
    PyObject *model = check_evaluate(sample_source);
    PyObject *root =
        model == NULL || g == NULL ? NULL : frozen_write_graph(state, g, model);
    int good = -1;
    if (g == NULL) {
        PyErr_NoMemory();
    }
    if (root != NULL) {
        uint64_t before = check_digest(g);
        good = check_behaves(root, model);
        for (int i = 0; i < 3; i++) {
            Py_INCREF(root);
        }
        Py_DECREF(root);
        good = good == 1 ? check_digest(g) == before : good;
        for (int i = 0; i < 2; i++) {
            Py_DECREF(root); /* it was not counted, nor is it now */
        }
    }
    Py_XDECREF(model);
    /* Frames that an exception holds may refer to its objects: so it stays. */
    if (g != NULL && (root == NULL || good >= 0)) {
        frozen_unref(g);
    }
    return good;
}

static int
check_compare(core_state *state)
{
    /* Sizes first: they decide whether we may look at the rest. */
    bool good = sizes_are_known() && ranges_are_known() && slices_are_known() &&
                mappings_are_known(state);
    int own = good ? own_are_known() : good;
    return own == 1 ? sample_is_right(state) : own;
}

#else

static int
check_compare(core_state *Py_UNUSED(state))
{
    return 0;
}

#endif

int
frozen_possible(core_state *state)
{
    atoll_lock_acquire(&known.lock);
    int answer = known.answer;
    atoll_lock_release(&known.lock);
    if (answer == 0) { /* without the lock: several may do it at once */
        answer = check_compare(state);
        PyObject *exc = PyErr_GetRaisedException();
        if (exc != NULL) {
            if (PyErr_GivenExceptionMatches(exc, PyExc_MemoryError) ||
                !PyErr_GivenExceptionMatches(exc, PyExc_Exception)) {
                PyErr_SetRaisedException(exc);
                return -1; /* ask again */
            }
            /* It may be that of a signal's handler: then it goes on, once we know. */
            answer = check_compare(state);
            if (PyErr_Occurred() && !PyErr_ExceptionMatches(PyExc_Exception)) {
                Py_DECREF(exc);
                return -1;
            }
            if (answer != 1) {
                Py_CLEAR(exc);
                PyErr_Clear();
            }
        }
        answer = answer == 1 ? 1 : -1;
        atoll_lock_acquire(&known.lock);
        known.answer = answer;
        atoll_lock_release(&known.lock);
        if (exc != NULL) {
            PyErr_SetRaisedException(exc);
            return -1;
        }
    }
    return answer == 1;
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
