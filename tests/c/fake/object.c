/* Objects: as many of CPython's as the rooms look at. Their counts are CPython's own,
 * so that TSan sees an object that two interpreters have. See fake/fake.h. */
#include "fake/fake.h"

#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include "cpython/version.h"

static void dealloc_plain(PyObject *obj);
static void dealloc_tuple(PyObject *obj);
static void dealloc_dict(PyObject *obj);
static void dealloc_exc(PyObject *obj);
static void dealloc_capsule(PyObject *obj);
static void dealloc_type(PyObject *obj);

#define TYPE(name, dealloc, flags)                                         \
    {PyVarObject_HEAD_INIT(NULL, 0).tp_name = name, .tp_dealloc = dealloc, \
     .tp_flags = Py_TPFLAGS_DEFAULT | (flags)}

PyTypeObject PyTuple_Type = TYPE("tuple", dealloc_tuple, Py_TPFLAGS_TUPLE_SUBCLASS);
PyTypeObject PyBytes_Type = TYPE("bytes", dealloc_plain, Py_TPFLAGS_BYTES_SUBCLASS);
PyTypeObject PyLong_Type = TYPE("int", dealloc_plain, Py_TPFLAGS_LONG_SUBCLASS);
PyTypeObject PyBool_Type = TYPE("bool", NULL, Py_TPFLAGS_LONG_SUBCLASS);
PyTypeObject PyDict_Type = TYPE("dict", dealloc_dict, Py_TPFLAGS_DICT_SUBCLASS);
PyTypeObject PyCoro_Type = TYPE("coroutine", dealloc_plain, 0);
static PyTypeObject text_type = TYPE("str", dealloc_plain, 0);
static PyTypeObject thing_type = TYPE("thing", dealloc_plain, 0);
PyTypeObject PyFunction_Type = TYPE("function", dealloc_plain, 0);
PyTypeObject PyMethod_Type = TYPE("method", dealloc_plain, 0);
static PyTypeObject capsule_type = TYPE("capsule", dealloc_capsule, 0);
static PyTypeObject type_type = TYPE("type", dealloc_type, Py_TPFLAGS_TYPE_SUBCLASS);
static PyTypeObject none_type = TYPE("NoneType", NULL, 0);

PyObject _Py_NoneStruct = {.ob_type = &none_type};
PyLongObject _Py_FalseStruct = {.ob_base = {.ob_type = &PyBool_Type}};
PyLongObject _Py_TrueStruct = {.ob_base = {.ob_type = &PyBool_Type}};

/* Instances of an exception are of its class. */
#define EXCEPTION(name)                                            \
    static PyTypeObject name##_type = TYPE(#name, dealloc_exc, 0); \
    PyObject *PyExc_##name = (PyObject *)&name##_type
EXCEPTION(KeyboardInterrupt);
EXCEPTION(MemoryError);
EXCEPTION(OSError);
EXCEPTION(OverflowError);
EXCEPTION(RuntimeError);
EXCEPTION(RuntimeWarning);
EXCEPTION(SystemError);
EXCEPTION(SystemExit);
EXCEPTION(TypeError);
EXCEPTION(UnicodeEncodeError);
EXCEPTION(ValueError);

typedef struct text {
    PyObject_HEAD
    char data[];
} text;

typedef struct number {
    PyObject_HEAD
    unsigned long long value;
} number;

typedef struct function {
    PyObject_HEAD
    fake_code code;
    void *arg;
} function;

typedef struct capsule {
    PyObject_HEAD
    const char *name;
    void *pointer, *context;
    PyCapsule_Destructor destructor;
} capsule;

/* A dict whose keys are str, which the callers have as constants. */
#define PAIRS 8
typedef struct dict {
    PyObject_HEAD
    const char *keys[PAIRS];
    PyObject *values[PAIRS];
} dict;

void
fake_objects_begin(void)
{
    compat_make_immortal(&_Py_NoneStruct);
    compat_make_immortal((PyObject *)&_Py_FalseStruct);
    compat_make_immortal((PyObject *)&_Py_TrueStruct);
}

static void *
make(PyTypeObject *type, size_t size)
{
    PyObject *obj = calloc(1, size);
    obj->ob_refcnt = 1;
    obj->ob_type = type;
    return obj;
}

void
_Py_Dealloc(PyObject *obj)
{
    fake_thread_here();
    Py_TYPE(obj)->tp_dealloc(obj);
}

static void
dealloc_plain(PyObject *obj)
{
    free(obj);
}

static void
dealloc_tuple(PyObject *obj)
{
    for (Py_ssize_t i = 0; i < PyTuple_GET_SIZE(obj); i++) {
        Py_XDECREF(PyTuple_GET_ITEM(obj, i));
    }
    free(obj);
}

static void
dealloc_dict(PyObject *obj)
{
    for (int i = 0; i < PAIRS; i++) {
        Py_XDECREF(((dict *)obj)->values[i]);
    }
    free(obj);
}

static void
dealloc_exc(PyObject *obj)
{
    free(obj);
}

static void
dealloc_capsule(PyObject *obj)
{
    if (((capsule *)obj)->destructor != NULL) {
        ((capsule *)obj)->destructor(obj);
    }
    free(obj);
}

static void
dealloc_type(PyObject *obj)
{
    free(obj);
}

/* --------------------------------------------------------------- text, numbers */

static PyObject *
text_of(PyTypeObject *type, const char *data, size_t size)
{
    text *self = make(type, sizeof(*self) + size + 1);
    memcpy(self->data, data, size);
    return (PyObject *)self;
}

const char *
fake_text(PyObject *obj)
{
    bool has = obj != NULL &&
               (Py_TYPE(obj) == &text_type || Py_TYPE(obj)->tp_dealloc == dealloc_exc);
    return has ? ((text *)obj)->data : "";
}

PyObject *
fake_thing(void)
{
    fake_thread_here();
    return make(&thing_type, sizeof(PyObject));
}

PyObject *
PyUnicode_FromString(const char *data)
{
    return text_of(&text_type, data, strlen(data));
}

PyObject *
PyUnicode_DecodeUTF8(const char *data, Py_ssize_t size, const char *errors)
{
    (void)errors;
    return text_of(&text_type, data, (size_t)size);
}

/* "%s: %S", of an exception. */
PyObject *
PyUnicode_FromFormat(const char *format, ...)
{
    va_list args;
    (void)format;
    va_start(args, format);
    (void)va_arg(args, const char *);
    PyObject *exc = va_arg(args, PyObject *);
    va_end(args);
    return PyUnicode_FromString(fake_text(exc));
}

const char *
PyUnicode_AsUTF8(PyObject *obj)
{
    return fake_text(obj);
}

PyObject *
PyObject_Str(PyObject *obj)
{
    return PyUnicode_FromString(fake_text(obj));
}

PyObject *
PyBytes_FromStringAndSize(const char *data, Py_ssize_t size)
{
    PyBytesObject *self = make(&PyBytes_Type, sizeof(*self) + (size_t)size + 1);
    self->ob_base.ob_size = size;
    if (data != NULL) {
        memcpy(self->ob_sval, data, (size_t)size);
    }
    return (PyObject *)self;
}

int
PyObject_GetBuffer(PyObject *obj, Py_buffer *view, int Py_UNUSED(flags))
{
    *view = (Py_buffer){.buf = PyBytes_AS_STRING(obj), .len = PyBytes_GET_SIZE(obj)};
    return 0;
}

void
PyBuffer_Release(Py_buffer *Py_UNUSED(view))
{
}

static PyObject *
number_of(unsigned long long value)
{
    number *self = make(&PyLong_Type, sizeof(*self));
    self->value = value;
    return (PyObject *)self;
}

PyObject *
PyLong_FromLong(long value)
{
    return number_of((unsigned long long)value);
}

PyObject *
PyLong_FromUnsignedLong(unsigned long value)
{
    return number_of(value);
}

PyObject *
PyLong_FromSsize_t(Py_ssize_t value)
{
    return number_of((unsigned long long)value);
}

int
PyLong_AsInt(PyObject *obj)
{
    return (int)((number *)obj)->value;
}

unsigned long
PyLong_AsUnsignedLong(PyObject *obj)
{
    return (unsigned long)((number *)obj)->value;
}

unsigned long long
PyLong_AsUnsignedLongLong(PyObject *obj)
{
    return ((number *)obj)->value;
}

/* ------------------------------------------------------------------ containers */

PyObject *
PyTuple_New(Py_ssize_t size)
{
    PyTupleObject *self =
        make(&PyTuple_Type, sizeof(*self) + (size_t)size * sizeof(PyObject *));
    self->ob_base.ob_size = size;
    return (PyObject *)self;
}

PyObject *
PyTuple_Pack(Py_ssize_t size, ...)
{
    va_list args;
    PyObject *tuple = PyTuple_New(size);
    va_start(args, size);
    for (Py_ssize_t i = 0; i < size; i++) {
        PyTuple_SET_ITEM(tuple, i, Py_NewRef(va_arg(args, PyObject *)));
    }
    va_end(args);
    return tuple;
}

/* A tuple, or a dict of which nobody asks for more than that it is there. */
PyObject *
Py_BuildValue(const char *format, ...)
{
    va_list args;
    if (format[0] == '{') {
        return PyDict_New();
    }
    PyObject *tuple = PyTuple_New((Py_ssize_t)strlen(format));
    va_start(args, format);
    for (Py_ssize_t i = 0; format[i] != '\0'; i++) {
        PyObject *item;
        switch (format[i]) {
        case 'K':
        case 'L':
            item = number_of(va_arg(args, unsigned long long));
            break;
        case 'i':
            item = number_of((unsigned long long)va_arg(args, int));
            break;
        case 'N':
            item = va_arg(args, PyObject *);
            break;
        default:
            item = Py_NewRef(va_arg(args, PyObject *));
            break;
        }
        PyTuple_SET_ITEM(tuple, i, item);
    }
    va_end(args);
    return tuple;
}

PyObject *
PyDict_New(void)
{
    return make(&PyDict_Type, sizeof(dict));
}

static PyObject **
find(PyObject *obj, const char *key)
{
    dict *self = (dict *)obj;
    for (int i = 0; i < PAIRS; i++) {
        if (self->keys[i] != NULL && strcmp(self->keys[i], key) == 0) {
            return &self->values[i];
        }
    }
    return NULL;
}

PyObject *
PyDict_GetItemString(PyObject *obj, const char *key)
{
    PyObject **value = obj == NULL ? NULL : find(obj, key);
    return value == NULL ? NULL : *value;
}

int
PyDict_SetItemString(PyObject *obj, const char *key, PyObject *value)
{
    dict *self = (dict *)obj;
    PyObject **old = find(obj, key);
    Py_INCREF(value);
    if (old != NULL) {
        Py_SETREF(*old, value);
        return 0;
    }
    for (int i = 0; i < PAIRS; i++) {
        if (self->keys[i] == NULL) {
            self->keys[i] = key;
            self->values[i] = value;
            return 0;
        }
    }
    fake_fatal("a dict of the fake's is full");
}

/* -------------------------------------------------------------------- capsules */

PyObject *
PyCapsule_New(void *pointer, const char *name, PyCapsule_Destructor destructor)
{
    capsule *self = make(&capsule_type, sizeof(*self));
    self->pointer = pointer;
    self->name = name;
    self->destructor = destructor;
    return (PyObject *)self;
}

void *
PyCapsule_GetPointer(PyObject *obj, const char *name)
{
    (void)name;
    return ((capsule *)obj)->pointer;
}

int
PyCapsule_SetDestructor(PyObject *obj, PyCapsule_Destructor destructor)
{
    ((capsule *)obj)->destructor = destructor;
    return 0;
}

/* ------------------------------------------------------------------- functions */

int
PyCapsule_SetContext(PyObject *obj, void *context)
{
    ((capsule *)obj)->context = context;
    return 0;
}

void *
PyCapsule_GetContext(PyObject *obj)
{
    return ((capsule *)obj)->context;
}

PyObject *
fake_function(fake_code code, void *arg)
{
    function *self = make(&PyFunction_Type, sizeof(*self));
    self->code = code;
    self->arg = arg;
    return (PyObject *)self;
}

PyObject *
fake_run(PyObject *obj)
{
    if (Py_TYPE(obj) != &PyFunction_Type) {
        return fake_thing();
    }
    if (fake_locks_held() > 0) {
        fake_fatal("code of Python's runs with a lock held");
    }
    function *self = (function *)obj;
    PyObject *result = fake_look() ? NULL : self->code(self->arg);
    if (result != NULL && fake_look()) {
        Py_CLEAR(result);
    }
    return result;
}

PyObject *
PyObject_Call(PyObject *obj, PyObject *args, PyObject *kwargs)
{
    (void)args;
    (void)kwargs;
    return fake_run(obj);
}

/* An exception of such a class, or a thing. */
PyObject *
PyObject_CallNoArgs(PyObject *obj)
{
    bool class = ((PyTypeObject *)obj)->tp_dealloc == dealloc_exc;
    return class ? text_of((PyTypeObject *)obj, "", 0) : fake_thing();
}

PyObject *
PyImport_GetModuleDict(void)
{
    return NULL; /* nothing is in it, for PyDict_GetItemString */
}

PyObject *
PyModule_GetNameObject(PyObject *module)
{
    (void)module;
    return fake_thing();
}

PyObject *
PySys_GetObject(const char *name)
{
    (void)name;
    return Py_None; /* borrowed */
}

/* There is no __main__ here. */
PyObject *
PyImport_AddModuleRef(const char *name)
{
    (void)name;
    return NULL;
}

PyObject *
PyImport_ImportModule(const char *name)
{
    (void)name;
    return fake_thing();
}

PyObject *
PyObject_GetAttrString(PyObject *obj, const char *name)
{
    (void)obj;
    (void)name;
    return fake_thing();
}

int
PyObject_SetAttrString(PyObject *obj, const char *name, PyObject *value)
{
    (void)obj;
    (void)name;
    (void)value;
    return 0;
}

/* "_get_main_thread_ident", in main: the thread that begins. */
PyObject *
PyObject_CallMethod(PyObject *obj, const char *name, const char *format, ...)
{
    (void)obj;
    (void)name;
    (void)format;
    return PyLong_FromUnsignedLong(PyThread_get_thread_ident());
}

PyObject *
PyCMethod_New(PyMethodDef *def, PyObject *self, PyObject *module, PyTypeObject *type)
{
    (void)def;
    (void)self;
    (void)module;
    (void)type;
    return fake_thing();
}

PyObject *
PySequence_List(PyObject *obj)
{
    return Py_NewRef(obj);
}

int
PySys_SetObject(const char *name, PyObject *value)
{
    (void)name;
    (void)value;
    return 0;
}

int
PyModule_AddFunctions(PyObject *module, PyMethodDef *functions)
{
    (void)module;
    (void)functions;
    return 0;
}

PyObject *
PyRun_StringFlags(const char *source, int start, PyObject *globals, PyObject *locals,
                  PyCompilerFlags *flags)
{
    (void)source;
    (void)start;
    (void)globals;
    (void)locals;
    (void)flags;
    return fake_thing();
}

/* The two formats that are used: a call, (function, args, kwargs); and a setup. */
int
PyArg_ParseTuple(PyObject *tuple, const char *format, ...)
{
    va_list args;
    va_start(args, format);
    bool call = strcmp(format, "OO!O!") == 0;
    if (!call) {
        fake_fatal("PyArg_ParseTuple of the fake's does not know this format");
    }
    for (Py_ssize_t i = 0; i < 3; i++) {
        if (i > 0) {
            (void)va_arg(args, PyTypeObject *);
        }
        *va_arg(args, PyObject **) = PyTuple_GET_ITEM(tuple, i);
    }
    va_end(args);
    return 1;
}

/* ----------------------------------------------------------------------- types */

PyTypeObject *
core_add_type(core_state *Py_UNUSED(state), PyType_Spec *spec)
{
    PyTypeObject *type = make(&type_type, sizeof(*type));
    type->tp_name = spec->name;
    type->tp_basicsize = spec->basicsize;
    for (PyType_Slot *slot = spec->slots; slot->slot != 0; slot++) {
        if (slot->slot == Py_tp_dealloc) {
            type->tp_dealloc = (destructor)slot->pfunc;
        }
        if (slot->slot == Py_tp_methods) {
            type->tp_methods = slot->pfunc;
        }
    }
    return type;
}

PyObject *
_PyObject_GC_New(PyTypeObject *type)
{
    Py_INCREF(type);
    return make(type, (size_t)type->tp_basicsize);
}

void
PyObject_GC_Del(void *obj)
{
    free(obj);
}

void
PyObject_GC_Track(void *obj)
{
    (void)obj;
}

void
PyObject_GC_UnTrack(void *obj)
{
    (void)obj;
}

/* ------------------------------------------------------------------ exceptions */

PyObject *
fake_raise(PyObject *type, const char *why)
{
    PyErr_Clear();
    fake_thread_here()->raised = text_of((PyTypeObject *)type, why, strlen(why));
    return NULL;
}

void
PyErr_SetObject(PyObject *Py_UNUSED(type), PyObject *exc)
{
    Py_INCREF(exc);
    PyErr_Clear();
    fake_thread_here()->raised = exc;
}

void
PyErr_SetNone(PyObject *type)
{
    fake_raise(type, "");
}

void
PyErr_SetString(PyObject *type, const char *why)
{
    fake_raise(type, why);
}

PyObject *
PyErr_Format(PyObject *type, const char *format, ...)
{
    return fake_raise(type, format);
}

PyObject *
PyErr_NoMemory(void)
{
    return fake_raise(PyExc_MemoryError, "");
}

PyObject *
PyErr_SetFromErrno(PyObject *type)
{
    return fake_raise(type, "errno");
}

PyObject *
PyErr_Occurred(void)
{
    PyObject *exc = fake_thread_here()->raised;
    return exc == NULL ? NULL : (PyObject *)Py_TYPE(exc);
}

void
PyErr_Clear(void)
{
    Py_CLEAR(fake_thread_here()->raised);
}

PyObject *
PyErr_GetRaisedException(void)
{
    PyObject *exc = fake_thread_here()->raised;
    fake_thread_here()->raised = NULL;
    return exc;
}

void
PyErr_SetRaisedException(PyObject *exc)
{
    PyErr_Clear();
    fake_thread_here()->raised = exc;
}

int
PyErr_GivenExceptionMatches(PyObject *exc, PyObject *type)
{
    return exc != NULL && (PyObject *)Py_TYPE(exc) == type;
}

int
PyErr_ExceptionMatches(PyObject *type)
{
    return PyErr_Occurred() == type;
}

void
PyErr_WriteUnraisable(PyObject *obj)
{
    (void)obj;
    PyErr_Clear();
}

int
PyErr_CheckSignals(void)
{
    return fake_look() ? -1 : 0;
}

#ifdef Py_REF_DEBUG
/* What a debug build's counting calls besides. */
void
_Py_INCREF_IncRefTotal(void)
{
}

void
_Py_DECREF_DecRefTotal(void)
{
}

void
_Py_NegativeRefcount(const char *file, int line, PyObject *obj)
{
    (void)file;
    (void)line;
    (void)obj;
    fake_fatal("a count of references is negative");
}
#endif
