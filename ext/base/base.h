/* What every room may use: the state of one interpreter, the shape of a room, errors,
 * arguments of functions, calls into the package atoll.
 *
 * A room is a folder of ext/ with one job and one header that others may include, its
 * door. tools/rooms.toml says which rooms a room may use; tools/lint_c.py checks it.
 */
#ifndef EXT_BASE_BASE_H
#define EXT_BASE_BASE_H

#define PY_SSIZE_T_CLEAN
#include <Python.h>

#include <stdbool.h>

#include "atoll/atoll.h"
#include "atoll/table.h"

/* ---------------------------------------------------------------- the state */

/* What one interpreter has of atoll: the state of its copy of the module.
 *
 * Guarded by that interpreter's GIL. Everything that belongs to the process (channels,
 * homes) is counted outside of it. What a room keeps is a struct of its own, declared
 * by its door: zeroed memory that is there before the room begins and until the last
 * room has ended. */
typedef struct core_state {
    PyObject *module;    /* borrowed: the state lives in it; NULL: never begun */
    atoll_table handles; /* of channels, locks: see core_handle_find */
    PyObject *errors;    /* name -> class, filled on demand */
    PyObject *aio;       /* the module atoll._aio, on demand */
    int64_t interp_id;
    bool is_main; /* the main interpreter */

    struct cpython_data *cpython;
    struct wait_data *wait;
    struct wire_data *wire;
    struct isolate_data *isolate;
    struct output_data *output;
    struct memory_data *memory;
    struct follow_data *follow;
    struct frozen_data *frozen;
    struct chan_data *chan;
    struct sync_data *sync;
    struct home_data *home;
    struct pool_data *pool;
    struct async_data *async;
} core_state;

/* What a room does for an interpreter that imports atoll. module/module.c has the
 * array of all rooms, and goes through it from the lowest floor to the highest. */
typedef struct core_room {
    const char *name;
    size_t data; /* offset of its pointer in core_state; if `size` is not 0 */
    size_t size; /* of its data */
    /* Once in the process, before any interpreter begins: no GIL is needed, nothing
     * can fail. NULL: nothing to do, as for the others. */
    void (*start)(void);
    /* Add types and functions to the module. 0, or -1 with an exception; `end` is
     * called then, too. */
    int (*begin)(core_state *state);
    /* For the garbage collector: visit the objects of the data, drop them. */
    int (*visit)(core_state *state, visitproc visit, void *arg);
    void (*clear)(core_state *state);
    /* The module goes; all objects have been dropped. */
    void (*end)(core_state *state);
} core_room;

#define CORE_ROOM_DATA(room)                           \
    .name = #room, .data = offsetof(core_state, room), \
    .size = sizeof(struct room##_data)

/* Tell how the module is defined, before it is made. Once; any value but the first is
 * ignored. */
void core_state_define(PyModuleDef *def);

/* The state of the current interpreter's module, importing it if need be.
 * NULL with an exception. */
core_state *core_state_import(void);

/* The state of the module that made `type` or a base of it. NULL with TypeError. */
core_state *core_state_of_type(PyTypeObject *type);

/* ----------------------------------------------------------- types, handles */

/* Make a type and add it to the module under its name. A new reference; NULL with an
 * exception. */
PyTypeObject *core_add_type(core_state *state, PyType_Spec *spec);

/* Make a type that the module does not show. As core_add_type. */
PyTypeObject *core_make_type(core_state *state, PyType_Spec *spec);

/* A number of the core's that the package uses. */
typedef struct core_constant {
    const char *name; /* NULL: the end of a table */
    long value;
} core_constant;

/* Add a table of them to the module. 0, or -1 with MemoryError. */
int core_add_constants(core_state *state, const core_constant *table);

/* There is one Python object for each channel end and lock in an interpreter. They are
 * known under a number: of a channel end its id and kind, of a lock its negative id.
 * The table does not hold them; it needs no memory for them, so nothing here fails. */

/* In the object. */
typedef struct core_handle {
    atoll_entry entry;
    PyObject *object; /* that it is in */
} core_handle;

/* Make the number of an end of a channel, which is of one of four kinds. */
static inline uint64_t
core_channel_key(uint64_t id, unsigned kind)
{
    return id * 4 + kind;
}

/* Make the number of a lock. */
static inline uint64_t
core_lock_key(uint64_t id)
{
    return UINT64_MAX - id;
}

/* Find the object of `key`: a new reference; NULL, without an exception, if there is
 * none. */
PyObject *core_handle_find(const core_state *state, uint64_t key);

/* Remember `obj`, whose `handle` is, under `key`. */
void core_handle_add(core_state *state, uint64_t key, core_handle *handle,
                     PyObject *obj);

/* Forget the object with this handle, which is being deallocated: the first thing to do
 * there, since a weak reference's callback must not find it again. */
void core_handle_forget(core_state *state, core_handle *handle);

/* ------------------------------------------------------------------- events */

/* Make a capsule for CompletionQueue.watch: an event that can be waited for without a
 * thread. `release(capsule)` is called when nobody wants the event any more; `context`
 * is its PyCapsule_GetContext. A new reference; NULL with MemoryError, and then
 * `release` is not called. */
PyObject *core_event_capsule(atoll_event *event, PyCapsule_Destructor release,
                             void *context);

/* Get the event of such a capsule. NULL with an exception. */
atoll_event *core_event_of(PyObject *capsule);

/* ------------------------------------------------------------------- errors */

/* Raise atoll.errors.<name> with a formatted message. Always returns NULL. */
PyObject *raise_error(core_state *state, const char *name, const char *format, ...);

/* Look the class up: a borrowed reference, NULL with an exception. */
PyObject *error_class(core_state *state, const char *name);

/* Raise what codes mean that mean the same everywhere (NOMEM, FORKED, ...); `what`
 * names the thing. Always returns NULL. */
PyObject *raise_err(core_state *state, atoll_err err, const char *what);

/* -------------------------------------------------------------------- texts */

/* Copy a text into memory of the process, to be freed with atoll_free. NULL when out of
 * memory. Any thread. */
char *core_copy_text(const char *text);

/* ---------------------------------------------------------------- arguments */

/* Bind vectorcall arguments to `count` names, the first `required` of which
 * must be there and the first `positional` of which may be positional. values
 * starts as NULLs. -1 with TypeError. */
int args_parse(const char *function, PyObject *const *args, Py_ssize_t nargs,
               PyObject *kwnames, const char *const *names, int count, int required,
               int positional, PyObject **values);

/* Take an int, or what can stand for one. -1 with TypeError, or OverflowError: it has
 * more than 64 bits. */
int args_int(const char *name, PyObject *value, int64_t *result);

/* Take a number; `wanted` says what it has to be ("a number of seconds"). -1 with an
 * exception, which is a TypeError if it is none. */
int args_double(const char *name, const char *wanted, PyObject *value, double *result);

/* The same for an object with a buffer: a memoryview of it, a new reference; NULL with
 * an exception. */
PyObject *args_view(const char *function, PyObject *value);

/* Of the types that say what they hold in annotations: Queue[int]. */
#define core_generic_doc "For annotations: what it carries, as in Queue[int]."

/* -------------------------------------------------------------- the package */

/* The modules of the package that the core calls. */
typedef enum package_module {
    PACKAGE_AIO,
    PACKAGE_APPLY,
    PACKAGE_BOOT,
    PACKAGE_COLLECT,
    PACKAGE_CONSTANT,
    PACKAGE_ERRORS,
    PACKAGE_FROZEN,
    PACKAGE_FUTURE,
    PACKAGE_INTERRUPT,
    PACKAGE_MODULES,
    PACKAGE_OUTPUT,
    PACKAGE_PICKLE,
    PACKAGE_REGISTRY,
    PACKAGE_STREAM,
} package_module;

/* Import a module of the package. A new reference; NULL with an exception. */
PyObject *package_import(package_module module);

/* Get `name` of a module of the package, which is imported if need be. A new
 * reference; NULL with an exception. */
PyObject *package_get(package_module module, const char *name);

/* Get it once and keep it in *slot: a borrowed reference; NULL with an exception. */
PyObject *package_keep(PyObject **slot, package_module module, const char *name);

/* Call a function of the package with arguments as of Py_BuildValue: `format` makes a
 * tuple. A new reference; NULL with an exception. */
PyObject *package_call(package_module module, const char *name, const char *format,
                       ...);

/* Call a method that is a coroutine of atoll._aio: its `name`, with `self` before the
 * other arguments, at most three. A new reference; NULL with an exception. */
PyObject *aio_call(core_state *state, const char *name, PyObject *self,
                   PyObject *const *args, Py_ssize_t nargs, PyObject *kwnames);

/* ------------------------------------------------------------------- traces */

/* What is noted for a timeline (atoll/trace.h), each where it happens. */

/* A flag beside ATOLL_TRACE_ON. */
enum { TRACE_MESSAGES = 2 };

typedef enum trace_kind {
    TRACE_SUBMIT, /* a job was made; `id` is its number */
    TRACE_TASK,   /* it ran, from start to end */
    TRACE_FAILED, /* likewise, and raised */
    TRACE_WAIT,   /* a thread waited, from start to end, for one of `id` things */
    TRACE_SEND,   /* a message went into channel or queue `id` */
    TRACE_RECV,
} trace_kind;

#endif
