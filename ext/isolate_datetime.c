/* The C datetime on CPython 3.13, for extension modules that use it.
 *
 * Finalising an interpreter that has imported the C module _datetime corrupts
 * the heap there while others live: its types are in a table of the process. So
 * interpreters begin with the pure-Python datetime, which has no C API. When an
 * extension module comes that asks for that, the interpreter changes over: to a
 * private copy where _datetime is a file, else to the one built into Python. At its
 * close it then does everything but finalise, and its memory stays. (Copies alone
 * are not enough: finalised, they crashed as well.) */
#include "isolate.h"

#include "compat.h"
#include "home.h"

#if COMPAT_NO_C_DATETIME

#include <fcntl.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

/* _zoneinfo is useless without it, and older 3.13 do not expect that. */
int
datetime_block(void)
{
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
datetime_block(void)
{
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
