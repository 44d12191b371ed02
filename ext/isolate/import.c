/* How an isolated interpreter imports extension modules.
 *
 * The two methods of importlib.machinery.ExtensionFileLoader by which every
 * finder's extension modules come into being are replaced in the interpreter,
 * and those of the built-in modules that need it. So `__spec__`, `__loader__`
 * and `__file__` are what they would be, and modules that are not found through
 * sys.meta_path (importlib.util.spec_from_file_location) are isolated as well. */
#include "isolate/isolate.h"

#include <dlfcn.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>

#include "cpython/version.h"

/* Of the standard library, but CPython refuses them here; they work, or fail as
 * they do in main. */
static const char *const lifted[] = {
    "_curses",      "_curses_panel", "_suggestions", "_tkinter",
    "_tracemalloc", "faulthandler",  "readline",
};

static bool
is_lifted(const char *name)
{
    for (size_t i = 0; i < sizeof(lifted) / sizeof(*lifted); i++) {
        if (strcmp(name, lifted[i]) == 0) {
            return true;
        }
    }
    return false;
}

/* ------------------------------------------------------------------- methods */

/* Call `original(*args)` with CPython's check lifted. There is no public way to
 * say so for one module. */
static PyObject *
call_lifted(PyObject *original, PyObject *const *args, size_t count)
{
    PyObject *imp = PyImport_ImportModule("_imp");
    PyObject *before =
        imp == NULL ? NULL
                    : PyObject_CallMethod(
                          imp, "_override_multi_interp_extensions_check", "i", -1);
    PyObject *result =
        before == NULL ? NULL : PyObject_Vectorcall(original, args, count, NULL);
    if (before != NULL) {
        PyObject *exc = PyErr_GetRaisedException();
        PyObject *after = PyObject_CallMethod(
            imp, "_override_multi_interp_extensions_check", "O", before);
        Py_XDECREF(after);
        if (exc != NULL) {
            PyErr_SetRaisedException(exc);
        }
    }
    Py_XDECREF(before);
    Py_XDECREF(imp);
    return result;
}

/* A name of the standard library's, which CPython loads itself? */
static int
is_standard(PyObject *name)
{
    PyObject *names = PySys_GetObject("stdlib_module_names"); /* borrowed */
    Py_ssize_t length = PyUnicode_GET_LENGTH(name);
    Py_ssize_t dot = PyUnicode_FindChar(name, '.', 0, length, 1);
    PyObject *top = dot < 0 ? Py_NewRef(name) : PyUnicode_Substring(name, 0, dot);
    int is = top == NULL || names == NULL ? -1 : PySequence_Contains(names, top);
    Py_XDECREF(top);
    return is;
}

/* ExtensionFileLoader.create_module(self, spec) */
static PyObject *
create_extension(PyObject *module, PyObject *const *args, Py_ssize_t count)
{
    core_state *state = PyModule_GetState(module);
    PyObject *result = NULL;
    if (count != 2) {
        PyErr_SetString(PyExc_TypeError, "create_module() takes a spec");
        return NULL;
    }
    PyObject *spec = args[1];
    PyObject *full = PyObject_GetAttrString(spec, "name");
    PyObject *origin = full == NULL ? NULL : PyObject_GetAttrString(spec, "origin");
    if (origin == NULL || !PyUnicode_Check(full) || !PyUnicode_Check(origin)) {
        if (!PyErr_Occurred()) {
            PyErr_SetString(PyExc_TypeError, "a spec's name and origin are str");
        }
        goto done;
    }
    int standard = is_standard(full);
    if (standard < 0) {
        goto done;
    }
    const char *name = PyUnicode_AsUTF8(full);
    if (name == NULL) {
        goto done;
    }
    if (!standard || datetime_is_isolated(name)) {
        result = isolate_load(state, spec, full, origin);
        if (result != NULL || PyErr_Occurred()) {
            goto done;
        }
    }
    result = is_lifted(name)
                 ? call_lifted(state->isolate->create_extension, args, 2)
                 : PyObject_Vectorcall(state->isolate->create_extension, args, 2, NULL);
done:
    Py_XDECREF(full);
    Py_XDECREF(origin);
    return result;
}

/* BuiltinImporter.create_module(spec) */
static PyObject *
create_builtin(PyObject *module, PyObject *spec)
{
    core_state *state = PyModule_GetState(module);
    PyObject *name = PyObject_GetAttrString(spec, "name");
    const char *text = name == NULL ? NULL : PyUnicode_AsUTF8(name);
    PyObject *result = NULL;
    if (text != NULL) {
        result = is_lifted(text)
                     ? call_lifted(state->isolate->create_builtin, &spec, 1)
                     : PyObject_CallOneArg(state->isolate->create_builtin, spec);
    }
    Py_XDECREF(name);
    return result;
}

/* ------------------------------------------------------------------- ctypes */

/* Libraries of packages, which keep state as extension modules do. Those of the
 * system are for all. */
static bool
is_of_a_package(const char *path)
{
    return strstr(path, "/site-packages/") != NULL ||
           strstr(path, "/dist-packages/") != NULL;
}

/* _ctypes.dlopen(name, mode=...) */
static PyObject *
ctypes_dlopen(PyObject *module, PyObject *args)
{
    core_state *state = PyModule_GetState(module);
    PyObject *name = PyTuple_GET_SIZE(args) > 0 ? PyTuple_GET_ITEM(args, 0) : Py_None;
    int mode = RTLD_NOW;
    PyObject *bytes = NULL;
    char path[PATH_MAX];
    if (name == Py_None || !PyUnicode_FSConverter(name, &bytes) ||
        (PyTuple_GET_SIZE(args) > 1 &&
         (mode = PyLong_AsInt(PyTuple_GET_ITEM(args, 1))) == -1)) {
        PyErr_Clear(); /* CPython's function says what is wrong */
        Py_XDECREF(bytes);
        return PyObject_CallObject(state->isolate->ctypes_dlopen, args);
    }
    /* What is to be visible to all is not to be private; and who asks for what
     * is there already is not to get something new. */
    bool ours = (mode & (RTLD_GLOBAL | RTLD_NOLOAD)) == 0 &&
                strchr(PyBytes_AS_STRING(bytes), '/') != NULL &&
                realpath(PyBytes_AS_STRING(bytes), path) != NULL &&
                is_of_a_package(path);
    Py_DECREF(bytes);
    if (!ours || state->isolate->isolate == NULL) {
        return PyObject_CallObject(state->isolate->ctypes_dlopen, args);
    }
    if (PySys_Audit("ctypes.dlopen", "O", name) < 0) {
        return NULL;
    }
    atoll_why why;
    bool fresh;
    void *handle = atoll_elf_space_load(state->isolate->isolate->space, path,
                                        mode | RTLD_NOW, &fresh, &why);
    if (handle == NULL) {
        PyErr_Format(PyExc_OSError,
                     "cannot load a private copy of %s for "
                     "this interpreter: %s",
                     path, why.text);
        return NULL;
    }
    if (fresh) {
        threads_found(state->isolate->isolate, handle);
    }
    return PyLong_FromVoidPtr(handle);
}

/* After _ctypes has been made: let it open libraries of packages privately. */
static int
mend_ctypes(core_state *state, PyObject *ctypes)
{
    PyObject *ours = PyObject_GetAttrString(state->module, "_ctypes_dlopen");
    PyObject *theirs = PyObject_GetAttrString(ctypes, "dlopen");
    int rc = -1;
    if (ours != NULL && theirs != NULL) {
        if (ours != theirs) {
            Py_XSETREF(state->isolate->ctypes_dlopen, Py_NewRef(theirs));
        }
        rc = PyObject_SetAttrString(ctypes, "dlopen", ours);
    }
    Py_XDECREF(ours);
    Py_XDECREF(theirs);
    return rc;
}

/* Modules of which the process has one, not the interpreter. */
static int
import_limit(PyObject *module)
{
    PyObject *done = package_call(PACKAGE_BOOT, "limit", "(O)", module);
    Py_XDECREF(done);
    return done == NULL ? -1 : 0;
}

static int
import_mend(core_state *state, PyObject *name, PyObject *module)
{
    if (PyUnicode_EqualToUTF8(name, "_ctypes")) {
        return mend_ctypes(state, module);
    }
    return PyUnicode_EqualToUTF8(name, "faulthandler") ||
                   PyUnicode_EqualToUTF8(name, "_tracemalloc")
               ? import_limit(module)
               : 0;
}

/* Call `original(*args)`, an exec_module whose last argument is the module. */
static PyObject *
exec_and_mend(core_state *state, PyObject *original, PyObject *const *args,
              size_t count)
{
    PyObject *result = PyObject_Vectorcall(original, args, count, NULL);
    PyObject *name = result == NULL ? NULL : PyModule_GetNameObject(args[count - 1]);
    if (name != NULL && import_mend(state, name, args[count - 1]) < 0) {
        Py_CLEAR(result);
    }
    if (result != NULL && name == NULL) {
        PyErr_Clear(); /* not a module: nothing that we know */
    }
    Py_XDECREF(name);
    return result;
}

/* ExtensionFileLoader.exec_module(self, module) */
static PyObject *
exec_extension(PyObject *module, PyObject *const *args, Py_ssize_t count)
{
    core_state *state = PyModule_GetState(module);
    if (count != 2) {
        PyErr_SetString(PyExc_TypeError, "exec_module() takes a module");
        return NULL;
    }
    return exec_and_mend(state, state->isolate->exec_extension, args, 2);
}

/* BuiltinImporter.exec_module(module) */
static PyObject *
exec_builtin(PyObject *module, PyObject *arg)
{
    core_state *state = PyModule_GetState(module);
    return exec_and_mend(state, state->isolate->exec_builtin, &arg, 1);
}

/* SourceLoader.exec_module(self, module), and that of bytecode files */
static PyObject *
exec_source(PyObject *module, PyObject *const *args, Py_ssize_t count)
{
    core_state *state = PyModule_GetState(module);
    if (count == 2 && datetime_foresee(state, args[1]) < 0) {
        return NULL;
    }
    return PyObject_Vectorcall(state->isolate->exec_source, args, (size_t)count, NULL);
}

#define FAST(f) ((PyCFunction)(void (*)(void))(f))

PyMethodDef isolate_functions[] = {
    {"_create_extension", FAST(create_extension), METH_FASTCALL,
     "_create_extension(loader, spec)\n--\n\n"
     "ExtensionFileLoader.create_module of isolated interpreters."},
    {"_create_builtin", create_builtin, METH_O,
     "_create_builtin(spec)\n--\n\n"
     "BuiltinImporter.create_module of isolated interpreters."},
    {"_exec_extension", FAST(exec_extension), METH_FASTCALL,
     "_exec_extension(loader, module)\n--\n\n"
     "ExtensionFileLoader.exec_module of isolated interpreters."},
    {"_exec_source", FAST(exec_source), METH_FASTCALL,
     "_exec_source(loader, module)\n--\n\n"
     "SourceLoader.exec_module of isolated interpreters."},
    {"_exec_builtin", exec_builtin, METH_O,
     "_exec_builtin(module)\n--\n\n"
     "BuiltinImporter.exec_module of isolated interpreters."},
    {"_ctypes_dlopen", ctypes_dlopen, METH_VARARGS,
     "_ctypes_dlopen(name, mode)\n--\n\n"
     "_ctypes.dlopen of isolated interpreters."},
    {NULL, NULL, 0, NULL},
};

/* ------------------------------------------------------------------ installing */

/* Set `cls.<attribute>` to our function of that name, bound to instances if
 * `bind`; what was there goes to *before. A class attribute that is asked of the class
 * loses one wrapper, and importlib.abc takes exec_module from there into classes of its
 * own: so there are two of them. */
static int
import_replace(core_state *state, PyObject *importlib, const char *cls_name,
               const char *attribute, const char *ours, bool bind, PyObject **before)
{
    PyObject *cls = PyObject_GetAttrString(importlib, cls_name);
    PyObject *function = PyObject_GetAttrString(state->module, ours);
    int rc = -1;
    if (function != NULL && bind) {
        Py_SETREF(function, PyInstanceMethod_New(function));
        if (function != NULL) {
            Py_SETREF(function, PyInstanceMethod_New(function));
        }
    }
    if (cls != NULL && function != NULL) {
        *before = PyObject_GetAttrString(cls, attribute);
        if (*before != NULL) {
            rc = PyObject_SetAttrString(cls, attribute, function);
        }
    }
    Py_XDECREF(cls);
    Py_XDECREF(function);
    return rc;
}

int
isolate_install(core_state *state)
{
    /* The frozen modules behind importlib.machinery, which are there. */
    PyObject *files = PyImport_ImportModule("_frozen_importlib_external");
    PyObject *builtins = PyImport_ImportModule("_frozen_importlib");
    state->isolate->single_phase = PyDict_New();
    int rc = -1;
    if (files != NULL && builtins != NULL && state->isolate->single_phase != NULL &&
        import_replace(state, files, "ExtensionFileLoader", "create_module",
                       "_create_extension", true,
                       &state->isolate->create_extension) == 0 &&
        import_replace(state, files, "ExtensionFileLoader", "exec_module",
                       "_exec_extension", true, &state->isolate->exec_extension) == 0 &&
        (!datetime_is_isolated("_datetime") ||
         import_replace(state, files, "_LoaderBasics", "exec_module", "_exec_source",
                        true, &state->isolate->exec_source) == 0) &&
        import_replace(state, builtins, "BuiltinImporter", "create_module",
                       "_create_builtin", false,
                       &state->isolate->create_builtin) == 0) {
        rc = import_replace(state, builtins, "BuiltinImporter", "exec_module",
                            "_exec_builtin", false, &state->isolate->exec_builtin);
    }
    Py_XDECREF(files);
    Py_XDECREF(builtins);
    return rc;
}
