/* The C datetime on CPython 3.13, for extension modules that use it.
 *
 * Finalising an interpreter that has imported the C module _datetime corrupts
 * the heap there while others live, since the module's static types are the
 * process's. Where _datetime is a file, isolated interpreters have a private
 * copy of it, as of any other extension, and all is well. Where it is built into
 * Python they begin with the pure-Python datetime, which has no C API. When a
 * module comes that asks for that, the interpreter changes over to the built-in
 * one; at its close it does everything but finalise, and its memory stays. */
#include "isolate.h"

#include "compat.h"
#include "home.h"

#if COMPAT_NO_C_DATETIME

#include <fcntl.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

static int
is_built_in(void)
{
    PyObject *names = PySys_GetObject("builtin_module_names"); /* borrowed */
    PyObject *name = PyUnicode_FromString("_datetime");
    int is = names == NULL || name == NULL ? -1
                                           : PySequence_Contains(names, name);
    Py_XDECREF(name);
    return is;
}

/* _zoneinfo is useless without it, and older 3.13 do not expect that. */
int
datetime_block(const core_state *state)
{
    if (state->home->isolate != NULL) {
        int built_in = is_built_in();
        if (built_in <= 0) {
            return built_in;
        }
    }
    PyObject *modules = PyImport_GetModuleDict(); /* borrowed */
    return PyDict_SetItemString(modules, "_datetime", Py_None) < 0 ||
                   PyDict_SetItemString(modules, "_zoneinfo", Py_None) < 0
               ? -1
               : 0;
}

bool
datetime_is_isolated(const char *name)
{
    return strcmp(name, "_datetime") == 0;
}

/* Does the file hold the name by which its C API is asked for? */
static bool
wants_api(const char *path, size_t size)
{
    static const char api[] = "datetime.datetime_CAPI";
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    void *bytes = fd < 0 ? MAP_FAILED
                         : mmap(NULL, size, PROT_READ, MAP_PRIVATE, fd, 0);
    bool wants = bytes != MAP_FAILED &&
                 memmem(bytes, size, api, sizeof(api) - 1) != NULL;
    if (bytes != MAP_FAILED) {
        munmap(bytes, size);
    }
    if (fd >= 0) {
        close(fd);
    }
    return wants;
}

int
datetime_prepare(core_state *state, const char *path, size_t size)
{
    PyObject *modules = PyImport_GetModuleDict(); /* borrowed */
    PyObject *now = PyDict_GetItemString(modules, "_datetime"); /* borrowed */
    if (now != Py_None || !wants_api(path, size)) {
        return 0; /* there already, or not blocked, or not needed */
    }
    state->home->endless = true;
    PyObject *boot = PyImport_ImportModule("atoll._boot");
    PyObject *done =
        boot == NULL ? NULL : PyObject_CallMethod(boot, "use_c_datetime", NULL);
    Py_XDECREF(boot);
    Py_XDECREF(done);
    return done == NULL ? -1 : 0;
}

#else

int
datetime_block(const core_state *state)
{
    (void)state;
    return 0;
}

bool
datetime_is_isolated(const char *name)
{
    (void)name;
    return false;
}

int
datetime_prepare(core_state *state, const char *path, size_t size)
{
    (void)state, (void)path, (void)size;
    return 0;
}

#endif
