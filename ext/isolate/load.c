/* Making a module out of a private copy, as CPython would out of the original. */
#include "isolate/isolate.h"

#include <dlfcn.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "cpython/version.h"

/* Modules of which it is known that CPython can load them here: they declare
 * support for own GILs, and use no other extension's C API. Those that do keep
 * what it gave them in static data (SciPy's modules have a pointer to NumPy's
 * functions), which is wrong as soon as a second interpreter has its own copy of
 * the other extension, whatever they declare. A file may have several modules. */
typedef struct declared {
    struct declared *next;
    uint64_t device, inode;
    char name[]; /* UTF-8, in full */
} declared;

static atoll_lock declared_lock;
static declared *declared_modules; /* guarded by declared_lock */

void
isolate_declared_fork_child(void)
{
    declared_lock.word = 0;
}

static bool
is_known_declared(const struct stat *st, const char *name)
{
    atoll_lock_acquire(&declared_lock);
    declared *d = declared_modules;
    while (d != NULL && (d->device != st->st_dev || d->inode != st->st_ino ||
                         strcmp(d->name, name) != 0)) {
        d = d->next;
    }
    atoll_lock_release(&declared_lock);
    return d != NULL;
}

static void
note_declared(const struct stat *st, const char *name)
{
    size_t size = strlen(name) + 1;
    declared *d = atoll_alloc(sizeof(*d) + size);
    if (d != NULL) { /* else it is looked at again */
        d->device = st->st_dev;
        d->inode = st->st_ino;
        memcpy(d->name, name, size);
        atoll_lock_acquire(&declared_lock);
        d->next = declared_modules;
        declared_modules = d;
        atoll_lock_release(&declared_lock);
    }
}

/* C APIs are handed over in capsules. When in doubt, it does. */
static bool
uses_other_extensions(const char *path)
{
    atoll_why why;
    atoll_elf *elf = atoll_elf_open(path, &why);
    bool uses = elf == NULL || atoll_elf_imports(elf, "PyCapsule_Import") ||
                atoll_elf_imports(elf, "PyCapsule_GetPointer");
    atoll_elf_close(elf);
    return uses;
}

/* ------------------------------------------------------------------- errors */

/* Raise ImportError(text, name=, path=). */
static void
import_error(PyObject *name, PyObject *path, const char *format, ...)
{
    va_list args;
    va_start(args, format);
    PyObject *text = PyUnicode_FromFormatV(format, args);
    va_end(args);
    if (text != NULL) {
        PyErr_SetImportError(text, name, path);
        Py_DECREF(text);
    }
}

/* The loader's reason, and what to do about it. */
static void
load_error(PyObject *name, PyObject *path, const char *why)
{
    const char *advice = "";
    if (strstr(why, "static TLS") != NULL) {
        advice = "; the process has no more room for thread-local variables "
                 "that are placed when it starts: start it with "
                 "GLIBC_TUNABLES=glibc.rtld.optional_static_tls=16384, or use "
                 "the module in the main interpreter only";
    }
    import_error(name, path,
                 "cannot load a private copy of %R for this "
                 "interpreter: %s%s",
                 name, why, advice);
}

/* ------------------------------------------------------------ init functions */

/* PyInit_<last part>, or PyInitU_<punycode>. False with an exception. */
static bool
init_name(PyObject *full, const char *prefix, char *out, size_t size)
{
    const char *name = PyUnicode_AsUTF8(full);
    if (name == NULL) {
        return false;
    }
    const char *dot = strrchr(name, '.');
    const char *last = dot == NULL ? name : dot + 1;
    PyObject *part = PyUnicode_FromString(last);
    const char *mark = "";
    PyObject *encoded = NULL;
    if (part != NULL && PyUnicode_IS_ASCII(part)) {
        encoded = PyUnicode_AsASCIIString(part);
    }
    else if (part != NULL) {
        mark = "U";
        encoded = PyUnicode_AsEncodedString(part, "punycode", NULL);
    }
    Py_XDECREF(part);
    if (encoded == NULL) {
        return false;
    }
    int n =
        PyOS_snprintf(out, size, "%s%s_%s", prefix, mark, PyBytes_AS_STRING(encoded));
    Py_DECREF(encoded);
    for (char *c = out; *c != '\0'; c++) {
        *c = *c == '-' ? '_' : *c;
    }
    if (n < 0 || (size_t)n >= size) {
        PyErr_SetString(PyExc_ImportError, "the module's name is too long");
        return false;
    }
    return true;
}

/* What an init function may do wrong. */
static PyObject *
load_checked(PyObject *result, PyObject *name)
{
    if (result == NULL && !PyErr_Occurred()) {
        PyErr_Format(PyExc_SystemError,
                     "initialization of %U failed without raising an "
                     "exception",
                     name);
    }
    else if (result != NULL && PyErr_Occurred()) {
        if (!PyObject_TypeCheck(result, &PyModuleDef_Type)) {
            Py_DECREF(result);
        }
        result = NULL;
        PyErr_Format(PyExc_SystemError,
                     "initialization of %U raised unreported exception", name);
    }
    else if (result != NULL && Py_TYPE(result) == NULL) {
        result = NULL;
        PyErr_Format(PyExc_SystemError,
                     "init function of %U returned uninitialized object", name);
    }
    return result;
}

/* ------------------------------------------------------------------- modules */

typedef struct request {
    core_state *state;
    isolate *iso;
    PyObject *spec, *name, *origin;
    char path[PATH_MAX]; /* the origin without links */
    struct stat st;
} request;

/* Multi-phase: the definition says how; CPython makes it of the spec. */
static PyObject *
from_definition(request *r, PyModuleDef *def)
{
    bool by_us;
    if (!isolate_is_declared(r->iso, def, &by_us)) {
        PyModuleDef_Slot *slots = isolate_slots(r->iso, def);
        if (slots == NULL) {
            return NULL;
        }
        def->m_slots = slots;
    }
    return PyModule_FromDefAndSpec(def, r->spec);
}

/* Single-phase: the init function has made it. Some expect that the state of
 * the interpreter knows it, as CPython sees to. Modules that cannot be made twice
 * are remembered as they are now, for the next import. */
static PyObject *
from_init(request *r, PyObject *module)
{
    PyModuleDef *def = PyModule_Check(module) ? PyModule_GetDef(module) : NULL;
    if (def == NULL) {
        PyErr_Clear();
        PyErr_Format(PyExc_SystemError,
                     "initialization of %U did not return a valid extension "
                     "module",
                     r->name);
        goto fail;
    }
    if (PyState_FindModule(def) != module && PyState_AddModule(module, def) < 0) {
        goto fail;
    }
    PyObject *dict = PyModule_GetDict(module);
    if (PyDict_SetItemString(dict, "__file__", r->origin) < 0) {
        PyErr_Clear(); /* as CPython does: not important */
    }
    if (def->m_size == -1) {
        PyObject *now = PyDict_Copy(dict);
        int rc = now == NULL
                     ? -1
                     : PyDict_SetItem(r->state->isolate->single_phase, r->name, now);
        Py_XDECREF(now);
        if (rc < 0) {
            goto fail;
        }
    }
    return module;

fail:
    Py_DECREF(module);
    return NULL;
}

/* A module that cannot be made twice, again: with what it had at first. */
static PyObject *
from_memory(request *r, PyObject *dict)
{
    PyObject *module = PyModule_NewObject(r->name);
    if (module != NULL && PyDict_Update(PyModule_GetDict(module), dict) < 0) {
        Py_CLEAR(module);
    }
    return module;
}

#if PY_VERSION_HEX >= 0x030F0000
/* PEP 793: instead of an init function, an array of slots. */
static PyObject *
from_slots(request *r, void *symbol)
{
    PySlot *(*export)(void);
    memcpy(&export, &symbol, sizeof(export));
    PySlot *slots = export();
    if (slots == NULL) {
        return load_checked(NULL, r->name);
    }
    PySlot *ours = isolate_pyslots(r->iso, slots);
    return ours == NULL ? NULL : PyModule_FromSlotsAndSpec(ours, r->spec);
}
#endif

/* Make the module out of the copy that `handle` stands for. `*theirs` instead:
 * CPython is to load the original. */
static PyObject *
make_module(request *r, void *handle, bool *theirs)
{
    char symbol[512];
    PyObject *(*init)(void);
#if PY_VERSION_HEX >= 0x030F0000
    if (!init_name(r->name, "PyModExport", symbol, sizeof(symbol))) {
        return NULL;
    }
    void *exported = dlsym(handle, symbol);
    if (exported != NULL) {
        return from_slots(r, exported);
    }
#endif
    if (!init_name(r->name, "PyInit", symbol, sizeof(symbol))) {
        return NULL;
    }
    void *found = dlsym(handle, symbol);
    if (found == NULL) {
        import_error(r->name, r->origin,
                     "dynamic module does not define module export function "
                     "(%s)",
                     symbol);
        return NULL;
    }
    PyObject *remembered =
        PyDict_GetItemWithError(r->state->isolate->single_phase, r->name);
    if (remembered != NULL || PyErr_Occurred()) {
        return remembered == NULL ? NULL : from_memory(r, remembered);
    }
    memcpy(&init, &found, sizeof(init));
    const char *outer = r->iso->building;
    r->iso->building = PyUnicode_AsUTF8(r->name);
    PyObject *result = load_checked(init(), r->name);
    r->iso->building = outer;
    if (result == NULL) {
        return NULL;
    }
    if (!PyObject_TypeCheck(result, &PyModuleDef_Type)) {
        return from_init(r, result);
    }
    PyModuleDef *def = (PyModuleDef *)result;
    bool by_us;
    *theirs = isolate_is_declared(r->iso, def, &by_us) && !by_us &&
              !uses_other_extensions(r->path);
    return *theirs ? NULL : from_definition(r, def);
}

/* The module of a file that CPython would refuse; NULL without an exception if
 * it would not. */
static PyObject *
load_load(request *r)
{
    if (r->iso == NULL) {
        import_error(r->name, r->origin,
                     "cannot import %R: private copies of extension modules "
                     "need Linux with glibc on x86-64 or aarch64; "
                     "atoll.create(extensions=\"strict\") loads those that "
                     "support interpreters with their own GIL",
                     r->name);
        return NULL;
    }
    const char *origin = PyUnicode_AsUTF8(r->origin);
    const char *name = origin == NULL ? NULL : PyUnicode_AsUTF8(r->name);
    if (name == NULL) {
        return NULL;
    }
    if (realpath(origin, r->path) == NULL || stat(r->path, &r->st) < 0) {
        PyErr_SetFromErrnoWithFilenameObject(PyExc_ImportError, r->origin);
        return NULL;
    }
    if (is_known_declared(&r->st, name) ||
        datetime_prepare(r->state, r->path, (size_t)r->st.st_size) < 0) {
        return NULL;
    }
    atoll_why why;
    bool fresh, theirs = false;
    size_t before = atoll_elf_space_count(r->iso->space);
    void *handle = atoll_elf_space_load(r->iso->space, r->path, RTLD_NOW, &fresh, &why);
    if (handle == NULL) {
        load_error(r->name, r->origin, why.text);
        return NULL;
    }
    PyObject *module = make_module(r, handle, &theirs);
    if (fresh && !theirs) {
        threads_found(r->iso, handle);
        forks_found(handle, r->path);
    }
    if (theirs) {
        note_declared(&r->st, name);
        if (fresh) {
            isolate_drop_last(r->iso, before);
        }
    }
    return module;
}

PyObject *
isolate_load(core_state *state, PyObject *spec, PyObject *name, PyObject *origin)
{
    request r = {.state = state,
                 .iso = state->isolate->isolate,
                 .spec = spec,
                 .name = name,
                 .origin = origin};
    return load_load(&r);
}
