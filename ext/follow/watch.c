/* Whether what follows tasks has changed, found out in some ten nanoseconds.
 *
 * Three dictionaries tell when they change: that of os.environ, the configuration of
 * multiprocessing's current process, and the root logger's cache of levels, which
 * logging clears whenever a level changes anywhere. sys.path and the filters of
 * warnings are lists of a few items, compared by identity with those of the last time.
 * The decimal context is an object of C, compared byte by byte. Modules that the
 * program has not imported are looked for only when the number of modules has changed.
 */
#include "follow/watch.h"

#include <string.h>

/* The modules that have what follows. */
typedef enum watched_module {
    MODULE_WARNINGS,
    MODULE_LOGGING,
    MODULE_DECIMAL,
    MODULE_PROCESS,
    MODULE_TRACKER,
    MODULES,
} watched_module;

static const struct {
    const char *name;
    follow_part part;
} watched[MODULES] = {
    [MODULE_WARNINGS] = {"warnings", FOLLOW_WARNINGS},
    [MODULE_LOGGING] = {"logging", FOLLOW_LOGGING},
    [MODULE_DECIMAL] = {"decimal", FOLLOW_DECIMAL},
    [MODULE_PROCESS] = {"multiprocessing.process", FOLLOW_MULTIPROCESSING},
    [MODULE_TRACKER] = {"multiprocessing.resource_tracker", FOLLOW_MULTIPROCESSING},
};

/* What is compared is kept, so that nothing else can be at its address. */
typedef struct follow_watch {
    struct follow_watch *next; /* guarded by follow_lock, as is `changed` */
    int64_t interp;            /* constant */
    uint32_t changed;          /* parts whose dictionaries have changed */

    /* Guarded by the GIL. */
    int id;                           /* of CPython's watchers; -1: none */
    PyObject *dicts[FOLLOW_PARTS];    /* watched, or NULL */
    PyObject *names[MODULES];         /* str */
    PyObject *modules[MODULES];       /* NULL: not imported */
    Py_ssize_t count;                 /* of modules, when they were looked for */
    PyObject *sys_dict, *path_name;   /* of sys, and "path" */
    PyObject *filters_name, *fd_name; /* "filters", "_fd" */
    PyObject *items[FOLLOW_PARTS];    /* of a list: a tuple, or NULL */
    PyObject *get_context, *tracker, *tracker_fd;
    PyObject *context; /* the decimal context that was looked at */
    char *image;       /* its bytes */
    Py_ssize_t image_size;
    int recursion;
} follow_watch;

atoll_lock follow_lock;

static follow_watch *first_watch; /* guarded by follow_lock */

void
follow_fork_prepare(void)
{
    atoll_lock_acquire(&follow_lock);
}

void
follow_fork_parent(void)
{
    atoll_lock_release(&follow_lock);
}

/* --------------------------------------------------------------- dictionaries */

/* CPython's callback: which of them it is does not matter much, they change rarely. Its
 * interpreter is found by its id, since nothing else is known here. */
static int
note_change(PyDict_WatchEvent event, PyObject *dict, PyObject *Py_UNUSED(key),
            PyObject *Py_UNUSED(value))
{
    int64_t interp = PyInterpreterState_GetID(PyInterpreterState_Get());
    atoll_lock_acquire(&follow_lock);
    for (follow_watch *w = first_watch; w != NULL; w = w->next) {
        for (int part = 0; part < FOLLOW_PARTS && w->interp == interp; part++) {
            /* logging adds levels to its cache as it uses them. */
            if (w->dicts[part] == dict &&
                (part != FOLLOW_LOGGING || event == PyDict_EVENT_CLEARED)) {
                w->changed |= 1u << part;
            }
        }
    }
    atoll_lock_release(&follow_lock);
    return 0;
}

/* Watch `dict`, if that is one, in the place of the one before. */
static int
watch_dict(follow_watch *w, follow_part part, PyObject *dict)
{
    if (dict == w->dicts[part] || dict == NULL || !PyDict_Check(dict)) {
        return 0;
    }
    if (w->id >= 0 && PyDict_Watch(w->id, dict) < 0) {
        return -1;
    }
    PyObject *old = w->dicts[part];
    w->dicts[part] = Py_NewRef(dict);
    if (old != NULL) {
        (void)PyDict_Unwatch(w->id, old);
        PyErr_Clear();
        Py_DECREF(old);
    }
    return 0;
}

PyObject *
watch_environ(void)
{
    PyObject *modules = PyImport_GetModuleDict(); /* borrowed */
    PyObject *os = PyDict_GetItemString(modules, "os");
    PyObject *environ = NULL, *data = NULL;
    if (os != NULL && PyObject_GetOptionalAttrString(os, "environ", &environ) > 0 &&
        PyObject_GetOptionalAttrString(environ, "_data", &data) > 0 &&
        !PyDict_Check(data)) {
        Py_CLEAR(data);
    }
    PyErr_Clear();
    Py_XDECREF(environ);
    Py_XDECREF(data); /* os.environ has it */
    return data;
}

/* ---------------------------------------------------------------------- lists */

PyObject *
watch_path(void)
{
    PyObject *path = PySys_GetObject("path"); /* borrowed */
    PyObject *found =
        path != NULL && PyList_Check(path) ? PyList_New(0) : PyTuple_New(0);
    for (Py_ssize_t i = 0;
         found != NULL && PyList_Check(found) && i < PyList_GET_SIZE(path); i++) {
        PyObject *item = PyList_GET_ITEM(path, i);
        if (PyUnicode_Check(item) && PyList_Append(found, item) < 0) {
            Py_CLEAR(found);
        }
    }
    if (found != NULL && PyList_Check(found)) {
        Py_SETREF(found, PyList_AsTuple(found));
    }
    return found;
}

/* Are the items of `seq` those that were kept? Then 0; else they are kept, and 1. */
static int
compare_items(follow_watch *w, follow_part part, PyObject *seq)
{
    PyObject *kept = w->items[part];
    if (seq == NULL || !PyList_Check(seq)) {
        return 0;
    }
    if (kept != NULL && PyTuple_GET_SIZE(kept) == PyList_GET_SIZE(seq)) {
        Py_ssize_t i = PyTuple_GET_SIZE(kept);
        while (i > 0 && PyTuple_GET_ITEM(kept, i - 1) == PyList_GET_ITEM(seq, i - 1)) {
            i--;
        }
        if (i == 0) {
            return 0;
        }
    }
    PyObject *items = PyList_AsTuple(seq);
    if (items == NULL) {
        return -1;
    }
    Py_XSETREF(w->items[part], items);
    return 1;
}

static int
look_at_lists(follow_watch *w, uint32_t *due)
{
    PyObject *path = PyDict_GetItemWithError(w->sys_dict, w->path_name);
    int rc = compare_items(w, FOLLOW_PATH, path);
    if (rc > 0) {
        *due |= 1u << FOLLOW_PATH;
    }
    PyObject *module = w->modules[MODULE_WARNINGS];
    if (rc >= 0 && module != NULL) {
        PyObject *dict = PyModule_GetDict(module);
        PyObject *filters = PyDict_GetItemWithError(dict, w->filters_name);
        rc = compare_items(w, FOLLOW_WARNINGS, filters);
        if (rc > 0) {
            *due |= 1u << FOLLOW_WARNINGS;
        }
    }
    return rc < 0 ? -1 : 0;
}

/* -------------------------------------------------------------------- modules */

static int
begin_logging(follow_watch *w, PyObject *module)
{
    /* A cache that is empty would not say that it is cleared. */
    PyObject *root = PyObject_GetAttrString(module, "root");
    PyObject *level =
        root == NULL ? NULL : PyObject_CallMethod(root, "isEnabledFor", "i", 50);
    PyObject *cache = level == NULL ? NULL : PyObject_GetAttrString(root, "_cache");
    int rc = cache == NULL ? -1 : watch_dict(w, FOLLOW_LOGGING, cache);
    Py_XDECREF(cache);
    Py_XDECREF(level);
    Py_XDECREF(root);
    return rc;
}

static int
begin_process(follow_watch *w, PyObject *module)
{
    PyObject *process = PyObject_CallMethod(module, "current_process", NULL);
    PyObject *config =
        process == NULL ? NULL : PyObject_GetAttrString(process, "_config");
    int rc = config == NULL ? -1 : watch_dict(w, FOLLOW_MULTIPROCESSING, config);
    Py_XDECREF(config);
    Py_XDECREF(process);
    return rc;
}

/* The module is there now. What it lacks is not watched: it may be half imported. */
static int
begin_module(follow_watch *w, watched_module which, PyObject *module)
{
    int rc = 0;
    switch (which) {
    case MODULE_LOGGING:
        rc = begin_logging(w, module);
        break;
    case MODULE_PROCESS:
        rc = begin_process(w, module);
        break;
    case MODULE_DECIMAL:
        Py_XSETREF(w->get_context, PyObject_GetAttrString(module, "getcontext"));
        rc = w->get_context == NULL ? -1 : 0;
        break;
    case MODULE_TRACKER:
        Py_XSETREF(w->tracker, PyObject_GetAttrString(module, "_resource_tracker"));
        rc = w->tracker == NULL ? -1 : 0;
        break;
    default:
        rc = PyModule_Check(module) ? 0 : -1;
    }
    return rc;
}

static int
look_for_modules(follow_watch *w, uint32_t *due)
{
    PyObject *all = PyImport_GetModuleDict(); /* borrowed */
    Py_ssize_t count = PyDict_Check(all) ? PyDict_GET_SIZE(all) : w->count;
    if (count == w->count) {
        return 0;
    }
    w->count = count;
    for (int i = 0; i < MODULES; i++) {
        PyObject *module = PyDict_GetItemWithError(all, w->names[i]);
        if (module == NULL || module == w->modules[i]) {
            continue;
        }
        Py_INCREF(module);
        int rc = begin_module(w, (watched_module)i, module);
        if (rc < 0 && !PyErr_ExceptionMatches(PyExc_Exception)) {
            Py_DECREF(module);
            return -1;
        }
        if (rc < 0) { /* asked again when another module is there */
            PyErr_Clear();
            w->count = -1;
            Py_DECREF(module);
            continue;
        }
        Py_XSETREF(w->modules[i], module);
        *due |= 1u << watched[i].part;
    }
    return 0;
}

/* --------------------------------------------------------------------- others */

/* The bytes of an object after its head. */
static const char *
image_of(PyObject *obj)
{
    return (const char *)obj + sizeof(PyObject);
}

static int
look_at_context(follow_watch *w, uint32_t *due)
{
    PyObject *context = w->get_context == NULL || !PyCFunction_Check(w->get_context)
                            ? NULL
                            : PyObject_CallNoArgs(w->get_context);
    if (context == NULL) {
        return PyErr_Occurred() ? -1 : 0;
    }
    Py_ssize_t size = Py_TYPE(context)->tp_basicsize - (Py_ssize_t)sizeof(PyObject);
    if (context != w->context || size != w->image_size ||
        memcmp(w->image, image_of(context), (size_t)size) != 0) {
        char *image = PyMem_Realloc(w->image, (size_t)size);
        if (image == NULL) {
            Py_DECREF(context);
            PyErr_NoMemory();
            return -1;
        }
        memcpy(image, image_of(context), (size_t)size);
        w->image = image;
        w->image_size = size;
        Py_XSETREF(w->context, Py_NewRef(context));
        *due |= 1u << FOLLOW_DECIMAL;
    }
    Py_DECREF(context);
    return 0;
}

static int
look_at_tracker(follow_watch *w, uint32_t *due)
{
    PyObject *fd = NULL;
    if (w->tracker == NULL) {
        return 0;
    }
    if (PyObject_GetOptionalAttr(w->tracker, w->fd_name, &fd) < 0) {
        return -1;
    }
    if (fd != w->tracker_fd) {
        *due |= 1u << FOLLOW_MULTIPROCESSING;
    }
    Py_XSETREF(w->tracker_fd, fd);
    return 0;
}

int
watch_look(core_state *state, uint32_t *due)
{
    follow_watch *w = state->follow->watch;
    *due = 0;
    if (w->sys_dict == NULL) { /* the module goes */
        return 0;
    }
    if (look_for_modules(w, due) < 0 || look_at_lists(w, due) < 0 ||
        look_at_context(w, due) < 0 || look_at_tracker(w, due) < 0) {
        watch_again(w, *due);
        return -1;
    }
    int recursion = Py_GetRecursionLimit();
    if (recursion != w->recursion) {
        w->recursion = recursion;
        *due |= 1u << FOLLOW_RECURSION;
    }
    for (int part = 0; part < FOLLOW_PARTS && w->id < 0; part++) {
        *due |= w->dicts[part] != NULL ? 1u << part : 0; /* nobody tells */
    }
    /* Its own thread writes it, with this GIL: nobody else does. */
    if (w->changed != 0) {
        atoll_lock_acquire(&follow_lock);
        *due |= w->changed;
        w->changed = 0;
        atoll_lock_release(&follow_lock);
    }
    return 0;
}

void
watch_again(follow_watch *w, uint32_t parts)
{
    atoll_lock_acquire(&follow_lock);
    w->changed |= parts;
    atoll_lock_release(&follow_lock);
}

PyObject *
watch_value(const follow_watch *w, follow_part part)
{
    switch (part) {
    case FOLLOW_ENVIRON:
        return w->dicts[part] == NULL ? Py_NewRef(Py_None)
                                      : PyDict_Copy(w->dicts[part]);
    case FOLLOW_PATH:
        return watch_path();
    case FOLLOW_RECURSION:
        return PyLong_FromLong(w->recursion);
    default:
        return Py_NewRef(Py_NotImplemented);
    }
}

/* ----------------------------------------------------------------------- life */

follow_watch *
watch_new(core_state *state)
{
    follow_watch *w = PyMem_RawCalloc(1, sizeof(*w));
    if (w == NULL) {
        PyErr_NoMemory();
        return NULL;
    }
    PyObject *sys = PyImport_ImportModule("sys");
    bool ok = sys != NULL;
    w->interp = state->interp_id;
    w->count = -1;
    w->changed = 1u << FOLLOW_ENVIRON;
    w->id = PyDict_AddWatcher(note_change);
    if (w->id < 0) { /* others have all eight: then what is watched is compared */
        PyErr_Clear();
    }
    if (ok) {
        w->sys_dict = Py_NewRef(PyModule_GetDict(sys));
        w->path_name = PyUnicode_InternFromString("path");
        w->filters_name = PyUnicode_InternFromString("filters");
        w->fd_name = PyUnicode_InternFromString("_fd");
        ok = w->path_name != NULL && w->filters_name != NULL && w->fd_name != NULL;
    }
    for (int i = 0; i < MODULES && ok; i++) {
        w->names[i] = PyUnicode_InternFromString(watched[i].name);
        ok = w->names[i] != NULL;
    }
    Py_XDECREF(sys);
    if (!ok || watch_dict(w, FOLLOW_ENVIRON, watch_environ()) < 0) {
        watch_clear(w);
        watch_free(w);
        return NULL;
    }
    atoll_lock_acquire(&follow_lock);
    w->next = first_watch;
    first_watch = w;
    atoll_lock_release(&follow_lock);
    return w;
}

int
watch_visit(follow_watch *w, visitproc visit, void *arg)
{
    for (int i = 0; i < FOLLOW_PARTS; i++) {
        Py_VISIT(w->dicts[i]);
        Py_VISIT(w->items[i]);
    }
    for (int i = 0; i < MODULES; i++) {
        Py_VISIT(w->modules[i]);
    }
    Py_VISIT(w->sys_dict);
    Py_VISIT(w->get_context);
    Py_VISIT(w->tracker);
    Py_VISIT(w->context);
    return 0;
}

void
watch_clear(follow_watch *w)
{
    PyObject *exc = PyErr_GetRaisedException();
    for (int i = 0; i < FOLLOW_PARTS; i++) {
        if (w->dicts[i] != NULL && PyDict_Unwatch(w->id, w->dicts[i]) < 0) {
            PyErr_Clear();
        }
        Py_CLEAR(w->dicts[i]);
        Py_CLEAR(w->items[i]);
    }
    for (int i = 0; i < MODULES; i++) {
        Py_CLEAR(w->modules[i]);
        Py_CLEAR(w->names[i]);
    }
    Py_CLEAR(w->sys_dict);
    Py_CLEAR(w->path_name);
    Py_CLEAR(w->filters_name);
    Py_CLEAR(w->fd_name);
    Py_CLEAR(w->get_context);
    Py_CLEAR(w->tracker);
    Py_CLEAR(w->tracker_fd);
    Py_CLEAR(w->context);
    PyErr_SetRaisedException(exc);
}

void
watch_free(follow_watch *w)
{
    atoll_lock_acquire(&follow_lock);
    follow_watch **at = &first_watch;
    while (*at != NULL && *at != w) {
        at = &(*at)->next;
    }
    if (*at == w) {
        *at = w->next;
    }
    atoll_lock_release(&follow_lock);
    PyObject *exc = PyErr_GetRaisedException();
    if (w->id >= 0 && PyDict_ClearWatcher(w->id) < 0) {
        PyErr_Clear();
    }
    PyErr_SetRaisedException(exc);
    PyMem_Free(w->image);
    PyMem_RawFree(w);
}
