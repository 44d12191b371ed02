/* What a private copy of an extension module calls instead of some functions of
 * CPython and of the system.
 *
 * CPython's own mean the main interpreter where a thread is not known to it, or
 * where nobody said which one; the system's use up what there is only so much of
 * in a process. The copies' imports are pointed at small thunks that add the
 * isolate as last argument and jump here. Thunks, and not the address of the
 * caller, say which isolate it is: a compiler may turn a last call into a jump,
 * and then the caller is somebody else. */
#include "isolate/api.h"

#include <dlfcn.h>
#include <stdlib.h>
#include <string.h>

#include "cpython/version.h"

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

/* ------------------------------------------------------------------ modules */

/* Py_mod_multiple_interpreters as it was up to 3.14. */
#define SLOT_BEFORE_3_15 3

static bool
is_about_interpreters(int slot)
{
    /* On 3.15 there are two numbers for it. */
    return slot == SLOT_BEFORE_3_15 || slot == Py_mod_multiple_interpreters;
}

bool
isolate_is_declared(isolate *iso, const PyModuleDef *def, bool *by_us)
{
    bool declared = false;
    const PyModuleDef_Slot *s = def->m_slots;
    for (; s != NULL && s->slot != 0; s++) {
        declared |= is_about_interpreters(s->slot) &&
                    s->value == Py_MOD_PER_INTERPRETER_GIL_SUPPORTED;
    }
    *by_us = s != NULL && s->value == iso;
    return declared;
}

PyModuleDef_Slot *
isolate_slots(isolate *iso, PyModuleDef *def)
{
    size_t count = 0, used = 0;
    while (def->m_slots != NULL && def->m_slots[count].slot != 0) {
        count++;
    }
    PyModuleDef_Slot *slots = isolate_alloc(iso, (count + 2) * sizeof(*slots));
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
    /* CPython does not read the last value: it says that these are ours. */
    slots[used] = (PyModuleDef_Slot){0, iso};
    return slots;
}

/* CPython numbers definitions, and an interpreter's list of modules is as long
 * as the highest number of one that it puts there. Each copy has definitions of
 * its own, so that the lists would grow for ever. The same definition of a file
 * gets the same number in all copies. */
typedef struct numbered {
    struct numbered *next;
    uint64_t file;    /* hash of the path */
    uintptr_t offset; /* of the definition in the file's image */
    Py_ssize_t index;
} numbered;

static atoll_lock numbers_lock;
static numbered *numbers[256]; /* guarded by numbers_lock */

static void
api_number(PyModuleDef *def)
{
    Dl_info info;
    if (def->m_base.m_index != 0 || dladdr(def, &info) == 0 || info.dli_fname == NULL) {
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

void
isolate_numbers_fork_child(void)
{
    numbers_lock.word = 0;
}

static PyObject *
module_def_init(PyModuleDef *def, isolate *Py_UNUSED(iso))
{
    api_number(def);
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
    api_number(def);
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

/* ---------------------------------------------------------------- the table */

/* A function, ours, and the number of its arguments. */
typedef struct replacement {
    const char *name;
    void (*target)(void);
    uint8_t arguments;
} replacement;

#define OURS(f) ((void (*)(void))(f))

static const replacement replacements[] = {
    {"PyGILState_Check", OURS(api_gilstate_check), 0},
    {"PyGILState_Ensure", OURS(api_gilstate_ensure), 0},
    {"PyGILState_GetThisThreadState", OURS(api_gilstate_this), 0},
    {"PyGILState_Release", OURS(api_gilstate_release), 1},
    {"PyInterpreterState_Head", OURS(api_interpreter_head), 0},
    {"PyInterpreterState_Main", OURS(api_interpreter_main), 0},
    {"PyModuleDef_Init", OURS(module_def_init), 1},
    {"PyModule_Create2", OURS(module_create), 2},
    {"PyModule_FromDefAndSpec2", OURS(module_from_def), 3},
#if PY_VERSION_HEX >= 0x030F0000
    {"PyModule_FromSlotsAndSpec", OURS(module_from_slots), 2},
#endif
    {"PyOS_AfterFork_Child", OURS(api_after_fork_child), 0},
    {"PyTraceMalloc_Track", OURS(tracing_track), 3},
    {"PyThread_tss_create", OURS(api_tss_create), 1},
    {"PyThread_tss_delete", OURS(api_tss_delete), 1},
    {"PyThread_tss_free", OURS(api_tss_free), 1},
    {"Py_AddPendingCall", OURS(api_add_pending_call), 2},
    {"Py_AtExit", OURS(api_at_exit), 1},
    {"Py_IsFinalizing", OURS(api_is_finalizing), 0},
    {"Py_IsInitialized", OURS(api_is_initialized), 0},
    {"__cxa_atexit", OURS(api_at_process_exit), 3},
    {"__cxa_thread_atexit", OURS(api_thread_at_exit), 3},
    {"__cxa_thread_atexit_impl", OURS(api_thread_at_exit), 3},
    {"__register_atfork", OURS(api_register_atfork), 4},
    {"fork", OURS(api_fork), 0},
    {"getenv", OURS(api_get_env), 1},
    {"pthread_create", OURS(api_thread_create), 4},
    {"pthread_key_create", OURS(api_key_create), 2},
    {"pthread_key_delete", OURS(api_key_delete), 1},
    {"secure_getenv", OURS(api_secure_get_env), 1},
    {"sigaction", OURS(api_sigaction), 3},
    {"signal", OURS(api_signal), 2},
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
        iso->redirects[i] = (atoll_elf_redirect){replacements[i].name,
                                                 atoll_thunks_get(iso->thunks, i)};
    }
    iso->space = atoll_elf_space_new(iso->redirects, REPLACED);
    if (iso->space == NULL) {
        PyErr_NoMemory();
        return -1;
    }
    return 0;
}
