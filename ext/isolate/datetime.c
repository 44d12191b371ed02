/* The C datetime on CPython 3.13, for extension modules that use it.
 *
 * Finalising an interpreter that has imported the C module _datetime corrupts
 * the heap there while others live: its types are in a table of the process. So
 * interpreters begin with the pure-Python datetime, which has no C API. When an
 * extension module comes that asks for that, the interpreter changes over: to a
 * private copy where _datetime is a file, else to the one built into Python. At its
 * close it then does everything but finalise, and its memory stays. (Copies alone
 * are not enough: finalised, they crashed as well.)
 *
 * What has been derived from the pure classes before cannot be changed over: C code
 * refuses such classes and objects. bson derives its time zones before it imports
 * its extension module. So a package that has one in its folder makes the
 * interpreter change over before it is run. */
#include "isolate/isolate.h"

#include "cpython/version.h"

#if COMPAT_NO_C_DATETIME

#include <dirent.h>
#include <fcntl.h>
#include <limits.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
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
    void *bytes = fd < 0 ? MAP_FAILED : mmap(NULL, size, PROT_READ, MAP_PRIVATE, fd, 0);
    bool wants =
        bytes != MAP_FAILED && memmem(bytes, size, api, sizeof(api) - 1) != NULL;
    if (bytes != MAP_FAILED) {
        munmap(bytes, size);
    }
    if (fd >= 0) {
        close(fd);
    }
    return wants;
}

/* Is it still the pure one? */
static bool
is_blocked(void)
{
    PyObject *modules = PyImport_GetModuleDict(); /* borrowed */
    return PyDict_GetItemString(modules, "_datetime") == Py_None;
}

static int
change_over(core_state *state)
{
    state->isolate->endless = true;
    PyObject *done = package_call(PACKAGE_BOOT, "use_c_datetime", "()");
    Py_XDECREF(done);
    return done == NULL ? -1 : 0;
}

int
datetime_prepare(core_state *state, const char *path, size_t size)
{
    return is_blocked() && wants_api(path, size) ? change_over(state) : 0;
}

/* Does one of the extension modules right in the folder? */
static bool
folder_wants_api(const char *folder)
{
    DIR *dir = opendir(folder);
    const struct dirent *entry;
    bool wants = false;
    while (dir != NULL && !wants && (entry = readdir(dir)) != NULL) {
        size_t length = strlen(entry->d_name);
        char path[PATH_MAX];
        struct stat st;
        if (length > 3 && strcmp(entry->d_name + length - 3, ".so") == 0 &&
            PyOS_snprintf(path, sizeof(path), "%s/%s", folder, entry->d_name) <
                (int)sizeof(path) &&
            stat(path, &st) == 0) {
            wants = wants_api(path, (size_t)st.st_size);
        }
    }
    if (dir != NULL) {
        closedir(dir);
    }
    return wants;
}

int
datetime_foresee(core_state *state, PyObject *module)
{
    PyObject *folders;
    bool wants = false;
    if (!is_blocked() ||
        PyObject_GetOptionalAttrString(module, "__path__", &folders) <= 0) {
        PyErr_Clear(); /* a strange module: not our business */
        return 0;
    }
    if (PyList_Check(folders)) { /* a package's, when it is about to run */
        for (Py_ssize_t i = 0; !wants && i < PyList_GET_SIZE(folders); i++) {
            PyObject *folder = PyList_GET_ITEM(folders, i);
            const char *text =
                PyUnicode_Check(folder) ? PyUnicode_AsUTF8(folder) : NULL;
            wants = text != NULL && folder_wants_api(text);
        }
    }
    Py_DECREF(folders);
    PyErr_Clear(); /* a name that is no UTF-8 */
    return wants ? change_over(state) : 0;
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

int
datetime_foresee(core_state *state, PyObject *module)
{
    (void)state, (void)module;
    return 0;
}

#endif
