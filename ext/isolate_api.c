/* What a private copy of an extension module calls instead of some functions of
 * CPython and of the system.
 *
 * CPython's own mean the main interpreter where a thread is not known to it, or
 * where nobody said which one; the system's use up what there is only so much of
 * in a process. The copies' imports are pointed at small thunks that add the
 * isolate as last argument and jump here. Thunks, and not the address of the
 * caller, say which isolate it is: a compiler may turn a last call into a jump,
 * and then the caller is somebody else. */
#include "isolate.h"

#include <dlfcn.h>
#include <stdlib.h>
#include <string.h>

#include "compat.h"

/* ------------------------------------------------------------------- memory */

void *
isolate_alloc(isolate *iso, size_t size)
{
    isolate_memory *m = atoll_alloc(sizeof(*m) + size);
    if (m == NULL) {
        return NULL;
    }
    atoll_lock_acquire(&iso->lock);
    m->next = iso->memory;
    iso->memory = m;
    atoll_lock_release(&iso->lock);
    return m->bytes;
}

/* ------------------------------------------------------------ thread states */

static visitor *
find_visitor(isolate *iso)
{
    atoll_thread self = atoll_thread_self();
    atoll_lock_acquire(&iso->lock);
    visitor *v = iso->visitors;
    while (v != NULL && v->thread != self) {
        v = v->next;
    }
    atoll_lock_release(&iso->lock);
    return v; /* its own: nobody else removes it */
}

/* A thread state of this interpreter that CPython knows for this thread. */
static PyThreadState *
own_state(isolate *iso)
{
    PyThreadState *ts = PyGILState_GetThisThreadState();
    return ts != NULL && PyThreadState_GetInterpreter(ts) == iso->interp
               ? ts
               : NULL;
}

/* Enter `v`, unless the interpreter is being closed: then wait until that has
 * come to nothing, or for ever, as CPython lets late threads do. */
static void
enter(isolate *iso, visitor *v)
{
    static const atoll_wait forever = {.deadline = ATOLL_FOREVER};
    atoll_lock_acquire(&iso->lock);
    while (iso->closing) {
        atoll_event *resumed = iso->ended ? NULL : iso->resumed;
        atoll_lock_release(&iso->lock);
        if (resumed == NULL) {
            atoll_thread_halt();
        }
        (void)!atoll_event_wait(resumed, &forever);
        atoll_lock_acquire(&iso->lock);
    }
    v->next = iso->visitors;
    iso->visitors = v;
    atoll_lock_release(&iso->lock);
}

static void
leave(isolate *iso, visitor *v)
{
    atoll_lock_acquire(&iso->lock);
    visitor **link = &iso->visitors;
    while (*link != v) {
        link = &(*link)->next;
    }
    *link = v->next;
    if (iso->visitors == NULL && iso->quiet != NULL) {
        atoll_event_set(iso->quiet);
    }
    atoll_lock_release(&iso->lock);
    atoll_free(v);
}

static PyGILState_STATE
gilstate_ensure(isolate *iso)
{
    visitor *v = find_visitor(iso);
    if (v != NULL) {
        v->depth++;
        if (PyThreadState_GetUnchecked() == v->state) {
            return PyGILState_LOCKED;
        }
        PyEval_RestoreThread(v->state);
        return PyGILState_UNLOCKED;
    }
    if (own_state(iso) != NULL) {
        return PyGILState_Ensure(); /* right, for once */
    }
    v = atoll_alloc(sizeof(*v));
    if (v == NULL) {
        Py_FatalError("no memory for a thread that calls into Python");
    }
    *v = (visitor){.thread = atoll_thread_self(), .depth = 1};
    v->before = PyThreadState_GetUnchecked();
    if (v->before != NULL) {
        PyEval_SaveThread(); /* of another interpreter */
    }
    enter(iso, v);
    v->state = PyThreadState_New(iso->interp);
    if (v->state == NULL) {
        Py_FatalError("no memory for a thread that calls into Python");
    }
    PyEval_RestoreThread(v->state);
    return PyGILState_UNLOCKED;
}

static void
gilstate_release(PyGILState_STATE old, isolate *iso)
{
    visitor *v = find_visitor(iso);
    if (v == NULL) {
        PyGILState_Release(old);
    }
    else if (--v->depth > 0) {
        if (old == PyGILState_UNLOCKED) {
            PyEval_SaveThread();
        }
    }
    else {
        PyThreadState *before = v->before;
        PyThreadState_Clear(v->state);
        PyThreadState_DeleteCurrent();
        leave(iso, v);
        if (before != NULL) {
            PyEval_RestoreThread(before);
        }
    }
}

static PyThreadState *
gilstate_this(isolate *iso)
{
    visitor *v = find_visitor(iso);
    return v != NULL ? v->state : own_state(iso);
}

static int
gilstate_check(isolate *iso)
{
    PyThreadState *ts = PyThreadState_GetUnchecked();
    return ts != NULL && PyThreadState_GetInterpreter(ts) == iso->interp;
}

static PyInterpreterState *
interpreter_main(isolate *iso)
{
    return iso->interp;
}

/* NULL is how extensions see that there is nothing left to clean up in. */
static PyInterpreterState *
interpreter_head(isolate *iso)
{
    atoll_lock_acquire(&iso->lock);
    PyInterpreterState *interp = iso->ended ? NULL : iso->interp;
    atoll_lock_release(&iso->lock);
    return interp;
}

static int
add_pending_call(int (*func)(void *), void *arg, isolate *iso)
{
    /* Under the lock: isolate_close sets `closing` before it is ended. */
    atoll_lock_acquire(&iso->lock);
    int rc = iso->closing ? 0 /* as if it ran when nothing is left */
                          : compat_add_pending_call(iso->interp, func, arg);
    atoll_lock_release(&iso->lock);
    return rc;
}

static int
at_exit(void (*func)(void), isolate *iso)
{
    isolate_exit *entry = isolate_alloc(iso, sizeof(*entry));
    if (entry == NULL) {
        return -1;
    }
    *entry = (isolate_exit){iso->exits, func};
    iso->exits = entry;
    return 0;
}

/* ------------------------------------------------------------------ modules */

static bool
is_about_interpreters(int slot)
{
    /* On 3.15 there are two numbers for it. */
    return slot == 3 || slot == Py_mod_multiple_interpreters;
}

/* Has isolate_alloc returned it? */
static bool
is_ours(isolate *iso, const void *ptr)
{
    atoll_lock_acquire(&iso->lock);
    isolate_memory *m = iso->memory;
    while (m != NULL && m->bytes != ptr) {
        m = m->next;
    }
    atoll_lock_release(&iso->lock);
    return m != NULL;
}

bool
isolate_is_declared(isolate *iso, const PyModuleDef *def, bool *by_us)
{
    const PyModuleDef_Slot *s = def->m_slots;
    *by_us = s != NULL && is_ours(iso, s);
    for (; s != NULL && s->slot != 0; s++) {
        if (is_about_interpreters(s->slot) &&
            s->value == Py_MOD_PER_INTERPRETER_GIL_SUPPORTED) {
            return true;
        }
    }
    return false;
}

PyModuleDef_Slot *
isolate_slots(isolate *iso, PyModuleDef *def)
{
    size_t count = 0, used = 0;
    while (def->m_slots != NULL && def->m_slots[count].slot != 0) {
        count++;
    }
    PyModuleDef_Slot *slots =
        isolate_alloc(iso, (count + 2) * sizeof(*slots));
    if (slots == NULL) {
        PyErr_NoMemory();
        return NULL;
    }
    for (size_t i = 0; i < count; i++) {
        if (!is_about_interpreters(def->m_slots[i].slot)) {
            slots[used++] = def->m_slots[i];
        }
    }
    slots[used++] = (PyModuleDef_Slot){Py_mod_multiple_interpreters,
                                       Py_MOD_PER_INTERPRETER_GIL_SUPPORTED};
    slots[used] = (PyModuleDef_Slot){0, NULL};
    return slots;
}

/* CPython numbers definitions, and an interpreter's list of modules is as long
 * as the highest number of one that it puts there. Each copy has definitions of
 * its own, so that the lists would grow for ever. The same definition of a file
 * gets the same number in all copies. */
typedef struct numbered {
    struct numbered *next;
    uint64_t file;      /* hash of the path */
    uintptr_t offset;   /* of the definition in the file's image */
    Py_ssize_t index;
} numbered;

static atoll_lock numbers_lock;
static numbered *numbers[256]; /* guarded by numbers_lock */

static void
number(PyModuleDef *def)
{
    Dl_info info;
    if (def->m_base.m_index != 0 || dladdr(def, &info) == 0 ||
        info.dli_fname == NULL) {
        return;
    }
    uint64_t file = UINT64_C(14695981039346656037); /* FNV-1a */
    for (const char *c = info.dli_fname; *c != '\0'; c++) {
        file = (file ^ (uint8_t)*c) * UINT64_C(1099511628211);
    }
    uintptr_t offset = (uintptr_t)def - (uintptr_t)info.dli_fbase;
    numbered **bucket = &numbers[(file ^ offset >> 5) % 256];
    atoll_lock_acquire(&numbers_lock);
    numbered *n = *bucket;
    while (n != NULL && (n->file != file || n->offset != offset)) {
        n = n->next;
    }
    if (n == NULL) {
        PyModuleDef_Init(def);
        n = atoll_alloc(sizeof(*n));
        if (n != NULL) {
            *n = (numbered){*bucket, file, offset, def->m_base.m_index};
            *bucket = n;
        }
    }
    else {
        /* What PyModuleDef_Init does to one that has no number. */
        Py_SET_REFCNT((PyObject *)def, 1);
        Py_SET_TYPE((PyObject *)def, &PyModuleDef_Type);
        def->m_base.m_index = n->index;
    }
    atoll_lock_release(&numbers_lock);
}

static PyObject *
module_def_init(PyModuleDef *def, isolate *Py_UNUSED(iso))
{
    number(def);
    return PyModuleDef_Init(def);
}

#if PY_VERSION_HEX >= 0x030F0000
PySlot *
isolate_pyslots(isolate *iso, const PySlot *slots)
{
    size_t count = 0, used = 0;
    while (slots[count].sl_id != 0) {
        count++;
    }
    PySlot *ours = isolate_alloc(iso, (count + 2) * sizeof(*ours));
    if (ours == NULL) {
        PyErr_NoMemory();
        return NULL;
    }
    for (size_t i = 0; i < count; i++) {
        if (!is_about_interpreters(slots[i].sl_id)) {
            ours[used++] = slots[i];
        }
    }
    ours[used++] = (PySlot)PySlot_DATA(Py_mod_multiple_interpreters,
                                       Py_MOD_PER_INTERPRETER_GIL_SUPPORTED);
    ours[used] = (PySlot)PySlot_END;
    return ours;
}

static PyObject *
module_from_slots(const PySlot *slots, PyObject *spec, isolate *iso)
{
    PySlot *ours = isolate_pyslots(iso, slots);
    return ours == NULL ? NULL : PyModule_FromSlotsAndSpec(ours, spec);
}
#endif

/* Modules may make others, with definitions of their own. */
static PyObject *
module_from_def(PyModuleDef *def, PyObject *spec, int version, isolate *iso)
{
    bool by_us;
    if (!isolate_is_declared(iso, def, &by_us)) {
        PyModuleDef_Slot *slots = isolate_slots(iso, def);
        if (slots == NULL) {
            return NULL;
        }
        def->m_slots = slots; /* the copy's own */
    }
    return PyModule_FromDefAndSpec2(def, spec, version);
}

/* CPython puts the package's name before that of a module which is made by its
 * init function, but tells nobody but itself which package it is. */
static PyObject *
module_create(PyModuleDef *def, int version, isolate *iso)
{
    number(def);
    const char *name = def->m_name, *full = iso->building;
    const char *last = full == NULL ? NULL : strrchr(full, '.');
    if (last == NULL || name == NULL || strcmp(last + 1, name) != 0) {
        return PyModule_Create2(def, version);
    }
    iso->building = NULL; /* only the first one */
    def->m_name = full;
    PyObject *module = PyModule_Create2(def, version);
    def->m_name = name;
    return module;
}

/* --------------------------------------------------------------- the system */

/* Room for one more in an array of pointers or keys. Called with the lock
 * held. */
static void *
room_for(void *array, size_t count, size_t *room, size_t width)
{
    if (count < *room) {
        return array;
    }
    size_t more = *room * 2 + 16;
    array = atoll_realloc(array, more * width);
    if (array != NULL) {
        *room = more;
    }
    return array;
}

static int
key_create(atoll_tls_key *key, void (*destructor)(void *), isolate *iso)
{
    atoll_lock_acquire(&iso->lock);
    isolate_key *keys =
        room_for(iso->keys, iso->key_count, &iso->key_room, sizeof(*keys));
    int rc = -1;
    if (keys != NULL) {
        iso->keys = keys;
        rc = atoll_tls_key_new(key, destructor);
        if (rc == 0) {
            const void *owner;
            memcpy(&owner, &destructor, sizeof(owner));
            keys[iso->key_count++] = (isolate_key){*key, owner};
        }
    }
    atoll_lock_release(&iso->lock);
    return rc < 0 ? 12 /* ENOMEM */ : rc;
}

static int
key_delete(atoll_tls_key key, isolate *iso)
{
    atoll_lock_acquire(&iso->lock);
    for (size_t i = 0; i < iso->key_count; i++) {
        if (iso->keys[i].key == key) {
            iso->keys[i] = iso->keys[--iso->key_count];
            break;
        }
    }
    int rc = atoll_tls_key_free(key);
    atoll_lock_release(&iso->lock);
    return rc;
}

static int
tss_create(Py_tss_t *key, isolate *iso)
{
    atoll_lock_acquire(&iso->lock);
    bool is_new = !PyThread_tss_is_created(key);
    Py_tss_t **tss =
        room_for(iso->tss, iso->tss_count, &iso->tss_room, sizeof(*tss));
    int rc = -1;
    if (tss != NULL) {
        iso->tss = tss;
        rc = PyThread_tss_create(key);
        if (rc == 0 && is_new) {
            tss[iso->tss_count++] = key;
        }
    }
    atoll_lock_release(&iso->lock);
    return rc;
}

static void
tss_delete(Py_tss_t *key, isolate *iso)
{
    atoll_lock_acquire(&iso->lock);
    for (size_t i = 0; i < iso->tss_count; i++) {
        if (iso->tss[i] == key) {
            iso->tss[i] = iso->tss[--iso->tss_count];
            break;
        }
    }
    PyThread_tss_delete(key);
    atoll_lock_release(&iso->lock);
}

static void
tss_free(Py_tss_t *key, isolate *iso)
{
    if (key != NULL) {
        tss_delete(key, iso);
        PyThread_tss_free(key);
    }
}

static void
thread_over(void *arg)
{
    isolate *iso = arg;
    atoll_lock_acquire(&iso->lock);
    iso->threads--;
    atoll_lock_release(&iso->lock);
}

static int
thread_create(void *thread, const void *attributes, void *(*run)(void *),
              void *arg, isolate *iso)
{
    atoll_lock_acquire(&iso->lock);
    iso->threads++;
    atoll_lock_release(&iso->lock);
    int rc =
        atoll_thread_watch(thread, attributes, run, arg, thread_over, iso);
    if (rc != 0) {
        thread_over(iso);
    }
    return rc;
}

extern int __cxa_thread_atexit_impl(void (*)(void *), void *, void *);

/* Destructors of C++'s and Rust's thread-local objects. Those of the home thread
 * would run when the interpreter is gone, and greenlet's would look for objects
 * in it; in a process's main thread they mostly do not run before the end. */
static int
thread_at_exit(void (*destructor)(void *), void *object, void *library,
               isolate *iso)
{
    return atoll_thread_self() == iso->home
               ? 0
               : __cxa_thread_atexit_impl(destructor, object, library);
}

/* How many threads a library's pool has, by the names of the variables that say
 * so. A copy has a pool of its own, so all together would have too many. */
static char *
limited(const char *name, isolate *iso)
{
    static const char *const variables[] = {
        "BLIS_NUM_THREADS", "GOTO_NUM_THREADS", "MKL_NUM_THREADS",
        "NUMEXPR_NUM_THREADS", "OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS",
        "POLARS_MAX_THREADS", "RAYON_NUM_THREADS",
        "RAYON_RS_NUM_CPUS", "TOKIO_WORKER_THREADS",
    };
    for (size_t i = 0; i < sizeof(variables) / sizeof(*variables); i++) {
        if (strcmp(name, variables[i]) == 0) {
            atoll_lock_acquire(&iso->lock);
            if (iso->thread_limit[0] == '\0') {
                PyOS_snprintf(iso->thread_limit, sizeof(iso->thread_limit),
                              "%u", threads_share());
            }
            atoll_lock_release(&iso->lock);
            return iso->thread_limit; /* written once */
        }
    }
    return NULL;
}

static char *
get_env(const char *name, isolate *iso)
{
    char *value = getenv(name);
    return value != NULL ? value : limited(name, iso);
}

static char *
secure_get_env(const char *name, isolate *iso)
{
    char *value = secure_getenv(name);
    return value != NULL ? value : limited(name, iso);
}

/* ---------------------------------------------------------------- the table */

/* A function, ours, and the number of its arguments. */
typedef struct replacement {
    const char *name;
    void (*target)(void);
    uint8_t arguments;
} replacement;

#define OURS(f) ((void (*)(void))(f))

static const replacement replacements[] = {
    {"PyGILState_Check", OURS(gilstate_check), 0},
    {"PyGILState_Ensure", OURS(gilstate_ensure), 0},
    {"PyGILState_GetThisThreadState", OURS(gilstate_this), 0},
    {"PyGILState_Release", OURS(gilstate_release), 1},
    {"PyInterpreterState_Head", OURS(interpreter_head), 0},
    {"PyInterpreterState_Main", OURS(interpreter_main), 0},
    {"PyModuleDef_Init", OURS(module_def_init), 1},
    {"PyModule_Create2", OURS(module_create), 2},
    {"PyModule_FromDefAndSpec2", OURS(module_from_def), 3},
#if PY_VERSION_HEX >= 0x030F0000
    {"PyModule_FromSlotsAndSpec", OURS(module_from_slots), 2},
#endif
    {"PyThread_tss_create", OURS(tss_create), 1},
    {"PyThread_tss_delete", OURS(tss_delete), 1},
    {"PyThread_tss_free", OURS(tss_free), 1},
    {"Py_AddPendingCall", OURS(add_pending_call), 2},
    {"Py_AtExit", OURS(at_exit), 1},
    {"__cxa_thread_atexit", OURS(thread_at_exit), 3},
    {"__cxa_thread_atexit_impl", OURS(thread_at_exit), 3},
    {"getenv", OURS(get_env), 1},
    {"pthread_create", OURS(thread_create), 4},
    {"pthread_key_create", OURS(key_create), 2},
    {"pthread_key_delete", OURS(key_delete), 1},
    {"secure_getenv", OURS(secure_get_env), 1},
};

#define REPLACED (sizeof(replacements) / sizeof(*replacements))
_Static_assert(REPLACED <= ISOLATE_REDIRECTS, "room in the isolate");

int
isolate_redirect(isolate *iso)
{
    void *targets[REPLACED];
    uint8_t places[REPLACED];
    atoll_why why;
    for (size_t i = 0; i < REPLACED; i++) {
        memcpy(&targets[i], &replacements[i].target, sizeof(*targets));
        places[i] = replacements[i].arguments;
    }
    iso->thunks = atoll_thunks_new(iso, targets, places, REPLACED, &why);
    if (iso->thunks == NULL) {
        PyErr_SetString(PyExc_RuntimeError, why.text);
        return -1;
    }
    for (size_t i = 0; i < REPLACED; i++) {
        iso->redirects[i] = (atoll_elf_redirect){
            replacements[i].name, atoll_thunks_get(iso->thunks, i)};
    }
    iso->space = atoll_elf_space_new(iso->redirects, REPLACED);
    if (iso->space == NULL) {
        PyErr_NoMemory();
        return -1;
    }
    return 0;
}
