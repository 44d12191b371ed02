/* Extension modules in private copies: one isolate for each interpreter.
 *
 * CPython refuses modules that do not declare support for an own GIL, since
 * their static data is the process's. An isolate gives its interpreter a copy
 * of each such module's shared object (atoll/elf.h), with static data of its
 * own, and stands between the copy and those functions of CPython and of the
 * system that mean "the main interpreter" or "the process": see isolate/api.c.
 *
 * An isolate is made and used under its interpreter's GIL, but for what says
 * otherwise: threads that the copies have started call in with no GIL at any
 * time, also after the interpreter is gone. So its memory stays as long as a
 * copy is mapped.
 *
 *   OPEN -> CLOSING (-> OPEN, if the interpreter cannot be ended) -> ENDED
 */
#ifndef EXT_ISOLATE_ISOLATE_H
#define EXT_ISOLATE_ISOLATE_H

#include "base/base.h"

#include "atoll/elf.h"

#define ISOLATE_REDIRECTS 31
#define ISOLATE_SETTERS 8

/* A thread of somebody else's that is in the interpreter, or has been given the
 * way in: on its stack of calls there is a PyGILState_Ensure. */
typedef struct visitor {
    struct visitor *next;
    atoll_thread thread;
    PyThreadState *state;
    PyThreadState *before; /* what was attached when it came, or NULL */
    unsigned depth;        /* calls of Ensure that are not released */
} visitor;

typedef struct isolate_exit {
    struct isolate_exit *next;
    void (*func)(void);
} isolate_exit;

typedef struct isolate_key {
    atoll_tls_key key;
    const void *owner; /* code of its maker; or NULL */
} isolate_key;

typedef struct isolate_memory {
    struct isolate_memory *next;
    max_align_t bytes[];
} isolate_memory;

typedef struct isolate {
    PyInterpreterState *interp; /* constant; dangling once it has ended */
    int64_t id;
    int process;        /* constant: getpid() */
    atoll_thread home;  /* constant: the interpreter's own thread */
    bool parsers_known; /* constant: see runtime_find_parsers */
    atoll_elf_space *space;
    atoll_thunks *thunks;
    atoll_elf_redirect redirects[ISOLATE_REDIRECTS];
    const char *building; /* full name of the module whose init runs, or NULL */
    atoll_lock lock;
    bool closing;         /* guarded by lock: arrivals have to wait */
    bool ended;           /* guarded by lock: for ever */
    bool abandoned;       /* guarded by lock: the process ends without its end */
    uint32_t late;        /* guarded by lock: threads that wait for `resumed` */
    atoll_event silent;   /* set: no handlers of signals any more */
    visitor *visitors;    /* guarded by lock */
    uint32_t threads;     /* guarded by lock: alive, started by copies */
    atoll_event *quiet;   /* guarded by lock: set when the last visitor goes */
    atoll_event *resumed; /* guarded by lock: arrivals wait for it */
    isolate_key *keys;    /* guarded by lock: made by copies, not deleted */
    size_t key_count, key_room;
    Py_tss_t **tss; /* guarded by lock: likewise, of CPython's kind */
    size_t tss_count, tss_room;
    isolate_exit *exits;    /* guarded by the GIL: of Py_AtExit, last first */
    isolate_memory *memory; /* guarded by lock: of the redirected functions */
    char thread_limit[16];  /* guarded by lock: what getenv says */
    /* isolate/threads.c; all guarded by its lock */
    struct isolate *next_with_pool;
    bool has_pool;
    size_t setter_count;
    void (*setters[ISOLATE_SETTERS])(int);
    void (*thread_setter)(int);
    int thread_count_due; /* for thread_setter, in the home thread; 0: none */
} isolate;

/* What an interpreter has of the room: of CPython's functions, those that ours are in
 * the place of. NULLs in interpreters that are not isolated. */
typedef struct isolate_data {
    isolate *isolate;       /* borrowed from the home; NULL: there are no copies */
    PyObject *single_phase; /* see isolate/import.c */
    PyObject *create_extension, *create_builtin, *exec_extension, *exec_builtin,
        *exec_source, *ctypes_dlopen;
    bool endless; /* the interpreter must not be ended: see isolate/datetime.c */
} isolate_data;

extern const core_room isolate_room;

/* Make the current interpreter load extension modules as private copies, where atoll
 * can make them; where it cannot, their import says so. Returns its isolate, which the
 * caller ends with isolate_end(), NULL if there are no copies; *failed: with an
 * exception. */
isolate *isolate_boot(core_state *state, bool *failed);

/* Make an isolate for the current interpreter. NULL with an exception. */
isolate *isolate_new(void);

/* Replace the methods of importlib's loaders. -1 with an exception. */
int isolate_install(core_state *state);

/* Must the interpreter not be ended before the process does? */
bool isolate_is_endless(const core_state *state);

extern PyMethodDef isolate_functions[];

/* Let nobody in any more and wait, until `deadline`, for those that are in.
 * Attached; the GIL is released meanwhile. True: nobody is; else it is open
 * again. */
bool isolate_close(isolate *iso, int64_t deadline);
/* Open again after a close that led to nothing. */
void isolate_reopen(isolate *iso);

/* The process ends, and the interpreter is left as it is. No GIL needed. */
void isolate_abandon(isolate *iso);

/* The interpreter has ended. No GIL. Unloads what can be unloaded; frees `iso`
 * if that is all. NULL is allowed. */
void isolate_end(isolate *iso);

/* Unload the copies that came last, until `count` are left, whose module is not wanted.
 */
void isolate_drop_last(isolate *iso, size_t count);

/* --- isolate/api.c */

/* Fill `iso->thunks` and `iso->redirects`. -1 with an exception. */
int isolate_redirect(isolate *iso);

/* Memory that lives as long as the isolate's copies may use it; NULL. */
void *isolate_alloc(isolate *iso, size_t size);

/* Slots like those of `def`, but for the one that says that own GILs are supported;
 * a new array. NULL with an exception. */
PyModuleDef_Slot *isolate_slots(isolate *iso, PyModuleDef *def);

#if PY_VERSION_HEX >= 0x030F0000
/* The same for slots of the kind that PEP 820 brings. */
PySlot *isolate_pyslots(isolate *iso, const PySlot *slots);
#endif

/* Do the slots declare that? `*by_us`: because they are from isolate_slots. */
bool isolate_is_declared(isolate *iso, const PyModuleDef *def, bool *by_us);

/* In a forked child: the locks of the two tables of the process, which a thread that
 * is not here may have held. */
void isolate_numbers_fork_child(void);

/* Make the lock of the table of declarations anew, in the child. */
void isolate_declared_fork_child(void);

/* --- isolate/fork.c: forget the fork handlers of its copies */
void forks_forget(isolate *iso);
/* A copy of the file at `path` has been loaded. */
void forks_found(void *handle, const char *path);
/* One of the copies is going to fork; in the child, of whomever. */
void forks_prepare(void);

/* Run the handlers of the copies of the interpreter that has forked, in the child. */
void forks_child(void);

/* --- isolate/signals.c: take away the handlers that its copies have set. False:
 * one still runs, or was left with a jump; its code has to stay. */
bool isolate_silence(isolate *iso);

/* --- isolate/load.c */

/* The module of an extension file, from a private copy of it. NULL with an
 * exception; or without one, if CPython is to load the original. */
PyObject *isolate_load(core_state *state, PyObject *spec, PyObject *name,
                       PyObject *origin);

/* --- isolate/threads.c: the thread pools of numerical libraries */

/* An isolate has been made; it is about to go. */
void threads_begin(void);

/* Forget an isolate that is about to go. */
void threads_end(isolate *iso);
/* Something has been loaded: share the cores anew if it has a pool. In the home
 * thread. */
void threads_found(isolate *iso, void *handle);
/* In the home thread, before it works: what has changed meanwhile. */
void threads_refresh(isolate *iso);
/* Does a thread live that a copy has started? Any thread. */
bool isolate_has_threads(isolate *iso);
/* How many threads a pool of one interpreter should have now. Any thread. */
unsigned threads_share(void);

/* Make the lock of the pools anew, in the child. */
void threads_fork_child(void);

/* --- isolate/datetime.c: for CPython 3.13; elsewhere they do nothing */

/* At boot, isolated or not: keep the C datetime out where it must not be. */
int datetime_block(void);
/* Is this module of the standard library's to be loaded as a private copy? */
bool datetime_is_isolated(const char *name);
/* Before the extension module at `path`, of `size` bytes, is loaded: give it the
 * C datetime if it asks for that. -1 with an exception. */
int datetime_prepare(core_state *state, const char *path, size_t size);
/* Before the code of `module` runs: if it is a package with such an extension
 * module, likewise, since what it derives from datetime's classes would not do
 * later. -1 with an exception. */
int datetime_foresee(core_state *state, PyObject *module);

/* --- tracemalloc and other hooks of allocators (isolate/tracing.c) */

/* Have main alone traced by tracemalloc, from its start on or from now. 0. */
int tracing_begin(const core_state *state);

/* Say why no interpreter can be made now, because of what traces memory; NULL: one can.
 * *beside_main: only with main's GIL, since there is a hook which may want it on a
 * thread that has no thread state. Called with none, after unsteady_begin. */
const char *tracing_forbids(bool *beside_main);

/* Replace PyTraceMalloc_Track in a copy: its interpreter is not traced. */
int tracing_track(unsigned int domain, uintptr_t ptr, size_t size, isolate *iso);

#endif
