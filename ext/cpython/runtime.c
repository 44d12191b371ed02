/* Two lists of CPython's: of interpreters, and of the parsers of arguments.
 *
 * CPython aborts in the child of a fork while any sub-interpreter lives
 * (gh-139759, gh-101437), and crashes at process exit if one still runs. Both
 * times the mend is that it does not see them: the main interpreter becomes
 * the only entry of its list. Where the list is and how it is linked is read
 * from the table of offsets that CPython keeps for debuggers at the start of
 * _PyRuntime; it exists for readers that do not know the build, and its head
 * is the same in 3.13, 3.14 and 3.15. */
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#include "cpython/runtime.h"
#include "cpython/version.h"

/* The head of CPython's table, as far as we use it. */
typedef struct debug_offsets {
    char cookie[8];
    uint64_t version;
    uint64_t free_threaded;
    struct {
        uint64_t size, finalizing, interpreters_head;
    } runtime;
    struct {
        uint64_t size, id, next;
    } interpreter;
} debug_offsets;

extern char _PyRuntime[]; /* exported by CPython; its table is at the start */

static uint64_t head_offset, next_offset; /* constant after runtime_init */

static atoll_lock parsers_lock; /* of the second list: see below */

static PyInterpreterState **
runtime_head(void)
{
    return (PyInterpreterState **)(void *)(_PyRuntime + head_offset);
}

static PyInterpreterState **
next_of(PyInterpreterState *interp)
{
    return (PyInterpreterState **)(void *)((char *)interp + next_offset);
}

const char *
runtime_memory(size_t *size)
{
    debug_offsets offsets;
    memcpy(&offsets, _PyRuntime, sizeof(offsets));
    *size = offsets.runtime.size;
    return _PyRuntime;
}

/* CPython's lock of its lists of interpreters and of thread states: a byte, and
 * padding, in front of the list's head. NULL if it is not there, in versions to come.
 */
static PyMutex *list_lock; /* constant after runtime_init */

static void
find_lock(void)
{
    static const uint8_t padding[sizeof(void *) - 1];
    uint8_t *place = (uint8_t *)_PyRuntime + head_offset - sizeof(void *);
    if (sizeof(PyMutex) == 1 && memcmp(place + 1, padding, sizeof(padding)) == 0) {
        list_lock = (PyMutex *)(void *)place;
    }
}

void
runtime_lock_threads(void)
{
    /* Not PyMutex_Lock: it may give up the GIL, and want it back with the lock. */
    if (list_lock != NULL) {
        atoll_byte_acquire(&list_lock->_bits);
    }
}

void
runtime_unlock_threads(void)
{
    if (list_lock != NULL) {
        PyMutex_Unlock(list_lock);
    }
}

PyAPI_FUNC(PyObject *) _PyThreadState_GetDict(PyThreadState *);

PyObject *
runtime_thread_dict(PyThreadState *ts)
{
    return _PyThreadState_GetDict(ts);
}

void
runtime_unlink(PyInterpreterState *interp)
{
    runtime_lock_threads();
    PyInterpreterState **link = runtime_head();
    while (*link != NULL && *link != interp) {
        link = next_of(*link);
    }
    if (*link == interp) {
        *link = *next_of(interp);
    }
    runtime_unlock_threads();
}

/* The interpreter that is to be first. Guarded by list_lock. */
static int64_t shown; /* at first main, which has the id 0 */

/* Where the list leads to this interpreter: NULL if it does not. With the lock. */
static PyInterpreterState **
find_link(int64_t id)
{
    PyInterpreterState **link = runtime_head();
    while (*link != NULL && PyInterpreterState_GetID(*link) != id) {
        link = next_of(*link);
    }
    return *link == NULL ? NULL : link;
}

/* Put an interpreter in front, with the lock. Who goes along the list without it, as
 * CPython's own functions for debuggers do, sees each store behind what it leads to,
 * and may come by an interpreter twice, but misses none. */
static void
put_first(int64_t id)
{
    PyInterpreterState **head = runtime_head(), **link = find_link(id);
    if (link == NULL || link == head) {
        return;
    }
    PyInterpreterState *interp = *link, *behind = *next_of(interp);
    _Py_atomic_store_ptr_release(next_of(interp), *head);
    _Py_atomic_store_ptr_release(head, interp);
    _Py_atomic_store_ptr_release(link, behind);
}

void
runtime_order_list(void)
{
    if (list_lock == NULL) {
        return;
    }
    runtime_lock_threads();
    put_first(0);
    put_first(shown);
    runtime_unlock_threads();
}

int
runtime_show(int64_t id)
{
    if (list_lock == NULL) {
        return -1;
    }
    runtime_lock_threads();
    bool there = find_link(id) != NULL;
    if (there) {
        shown = id;
        put_first(0);
        put_first(id);
    }
    runtime_unlock_threads();
    return there;
}

PyAPI_FUNC(int) _PyInterpreterState_IsReady(PyInterpreterState *);
PyAPI_FUNC(long) _PyInterpreterState_GetWhence(PyInterpreterState *);

typedef struct listed {
    int64_t id;
    long whence;
    bool ready;
} listed;

/* All interpreters: an array (owned), or NULL with an exception. */
static listed *
list_interpreters(size_t *count)
{
    listed *array = NULL;
    for (size_t room = 16;; room = *count + 16) {
        listed *more = PyMem_Realloc(array, room * sizeof(*array));
        if (more == NULL) {
            PyMem_Free(array);
            PyErr_NoMemory();
            return NULL;
        }
        array = more;
        *count = 0;
        runtime_lock_threads();
        for (PyInterpreterState *interp = *runtime_head(); interp != NULL;
             interp = *next_of(interp), ++*count) {
            if (*count < room) {
                array[*count] = (listed){PyInterpreterState_GetID(interp),
                                         _PyInterpreterState_GetWhence(interp),
                                         _PyInterpreterState_IsReady(interp) != 0};
            }
        }
        runtime_unlock_threads();
        if (*count <= room) {
            return array;
        }
    }
}

static int
compare_listed(const void *left, const void *right)
{
    int64_t a = ((const listed *)left)->id, b = ((const listed *)right)->id;
    return (a > b) - (a < b);
}

/* _interpreters.list_all, which takes the list's own order for that of creation, and
 * goes along it without its lock, while others end. */
static PyObject *
list_all(PyObject *Py_UNUSED(module), PyObject *args, PyObject *keywords)
{
    static const char *const names[] = {"require_ready", NULL};
    int ready = 0;
    if (!PyArg_ParseTupleAndKeywords(args, keywords, "|$p:list_all", (char **)names,
                                     &ready)) {
        return NULL;
    }
    size_t count;
    listed *array = list_interpreters(&count);
    PyObject *result = array == NULL ? NULL : PyList_New(0);
    if (result != NULL) {
        qsort(array, count, sizeof(*array), compare_listed);
    }
    for (size_t i = 0; result != NULL && i < count; i++) {
        if (ready && !array[i].ready) {
            continue;
        }
        PyObject *entry =
            Py_BuildValue("(Ll)", (long long)array[i].id, array[i].whence);
        if (entry == NULL || PyList_Append(result, entry) < 0) {
            Py_CLEAR(result);
        }
        Py_XDECREF(entry);
    }
    PyMem_Free(array);
    return result;
}

static PyMethodDef list_all_def = {
    "list_all", (PyCFunction)(void (*)(void))list_all, METH_VARARGS | METH_KEYWORDS,
    "list_all($module, /, *, require_ready=False)\n--\n\n"
    "Return a list containing the ID of every existing interpreter."};

int
runtime_mend_list(void)
{
    PyObject *module = PyImport_ImportModule("_interpreters");
    PyObject *name = module == NULL ? NULL : PyModule_GetNameObject(module);
    PyObject *function =
        name == NULL ? NULL : PyCFunction_NewEx(&list_all_def, NULL, name);
    int rc =
        function == NULL ? -1 : PyObject_SetAttrString(module, "list_all", function);
    Py_XDECREF(function);
    Py_XDECREF(name);
    Py_XDECREF(module);
    return rc;
}

void
runtime_unlink_all(void)
{
    parsers_lock.word = 0; /* whoever had it is not here */
    /* Nobody else is here, and CPython, which has its lock while it forks, makes that
     * anew afterwards: so it is not taken. */
    PyInterpreterState *main = PyInterpreterState_Main();
    if (main != NULL) {
        *next_of(main) = NULL;
        *runtime_head() = main;
    }
}

static bool
find_list(void)
{
    debug_offsets offsets;
    memcpy(&offsets, _PyRuntime, sizeof(offsets));
    head_offset = offsets.runtime.interpreters_head;
    next_offset = offsets.interpreter.next;
    /* Believe it only if it leads to what the public API says. */
    PyInterpreterState *first = PyInterpreterState_Head();
    return memcmp(offsets.cookie, "xdebugpy", 8) == 0 && *runtime_head() == first &&
           *next_of(first) == PyInterpreterState_Next(first);
}

/* ------------------------------------------------------- parsers of arguments */

/* Functions that Argument Clinic has written have a static struct each, which CPython
 * fills in when it is first used, and puts in a list of the process: at its end it goes
 * through that, to drop the tuples of names. A private copy of an extension module has
 * such structs of its own, so they have to leave the list before it is unmapped.
 *
 * Nobody but the end takes anything out, and what is new comes in front by a
 * compare-and-swap, without a lock. The list is where a struct of ours turns up that we
 * have had filled in: with the one before it behind it, which is the check of all that
 * is known here of the struct. */
typedef struct _PyArg_Parser arg_parser;

_Static_assert(offsetof(arg_parser, next) == sizeof(arg_parser) - sizeof(void *) &&
                   offsetof(arg_parser, kwtuple) ==
                       offsetof(arg_parser, next) - sizeof(void *),
               "the parsers of CPython 3.13 to 3.15");

#define PROBES 4

static arg_parser **parsers_first; /* guarded by parsers_lock; NULL: not known */
static bool parsers_sought;        /* guarded by parsers_lock */

/* Where in _PyRuntime is a pointer to `probe`? NULL: nowhere, or it may be chance. */
static arg_parser **
parsers_find(const arg_parser *probe)
{
    size_t size;
    const char *memory = runtime_memory(&size);
    arg_parser **found = NULL;
    for (size_t i = 0; i + sizeof(void *) <= size; i += sizeof(void *)) {
        if (*(void *const volatile *)(const void *)(memory + i) == probe) {
            if (found != NULL) {
                return NULL;
            }
            found = (arg_parser **)(void *)(_PyRuntime + i);
        }
    }
    return found;
}

bool
runtime_find_parsers(void)
{
    static const char *const names[] = {"object", NULL};
    static arg_parser probes[PROBES] = {
        {.format = "O:probe", .keywords = names},
        {.format = "O:probe", .keywords = names},
        {.format = "O:probe", .keywords = names},
        {.format = "O:probe", .keywords = names},
    };
    atoll_lock_acquire(&parsers_lock);
    bool sought = parsers_sought, known = parsers_first != NULL;
    parsers_sought = true;
    atoll_lock_release(&parsers_lock);
    if (sought) {
        return known;
    }
    PyObject *exc = PyErr_GetRaisedException(), *parsed;
    PyObject *args = PyTuple_Pack(1, Py_None);
    arg_parser **first = NULL;
    /* Others may come between two of them, but not each time. */
    for (int i = 0; args != NULL && first == NULL && i < PROBES; i++) {
        if (!_PyArg_ParseTupleAndKeywordsFast(args, NULL, &probes[i], &parsed)) {
            break;
        }
        if (i > 0 && probes[i].next == &probes[i - 1]) {
            first = parsers_find(&probes[i]);
        }
    }
    Py_XDECREF(args);
    PyErr_SetRaisedException(exc); /* in place of any of these */
    atoll_lock_acquire(&parsers_lock);
    parsers_first = first;
    atoll_lock_release(&parsers_lock);
    return first != NULL;
}

/* Tuples of names on their way to main, whose they are. */
typedef struct main_tuples {
    size_t count, room;
    PyObject *tuples[];
} main_tuples;

static int
release_tuples(void *arg)
{
    main_tuples *list = arg;
    for (size_t i = 0; i < list->count; i++) {
        Py_DECREF(list->tuples[i]);
    }
    atoll_free(list);
    return 0;
}

/* Add the tuple of `p`, if it has one of its own. Without memory it stays for ever. */
static main_tuples *
add_tuple(main_tuples *list, const arg_parser *p)
{
    if (!p->is_kwtuple_owned || p->kwtuple == NULL) {
        return list;
    }
    if (list == NULL || list->count == list->room) {
        size_t room = list == NULL ? 8 : 2 * list->room;
        main_tuples *more =
            atoll_realloc(list, sizeof(*list) + room * sizeof(list->tuples[0]));
        if (more == NULL) {
            return list;
        }
        more->count = list == NULL ? 0 : more->count;
        more->room = room;
        list = more;
    }
    list->tuples[list->count++] = p->kwtuple;
    return list;
}

/* Take `p` out; `before` was in front of it, or NULL. Returns what is in front of the
 * next one now. Called with the lock held. */
static arg_parser *
take_parser(arg_parser *p, arg_parser *before)
{
    arg_parser *first = p;
    /* If it was the first one and is not any more, others have come before it. What
     * they have written is seen, since the list has been read with acquire order. */
    if (before == NULL &&
        !_Py_atomic_compare_exchange_ptr(parsers_first, &first, p->next)) {
        before = first;
        while (before->next != p) {
            before = before->next;
        }
    }
    if (before != NULL) {
        before->next = p->next; /* nobody reads it before the end, but under the lock */
    }
    return before;
}

void
runtime_forget_parsers(bool (*goes)(const void *parser, void *arg), void *arg)
{
    main_tuples *list = NULL;
    atoll_lock_acquire(&parsers_lock);
    arg_parser *before = NULL;
    /* Pairs with CPython's compare-and-swap: what is in the list is filled in. */
    arg_parser *p =
        parsers_first == NULL ? NULL : _Py_atomic_load_ptr_acquire(parsers_first);
    while (p != NULL) {
        arg_parser *next = p->next;
        if (goes(p, arg)) {
            list = add_tuple(list, p);
            before = take_parser(p, before);
        }
        else {
            before = p;
        }
        p = next;
    }
    atoll_lock_release(&parsers_lock);
    PyInterpreterState *main = PyInterpreterState_Main();
    if (list != NULL &&
        (main == NULL || compat_add_pending_call(main, release_tuples, list) != 0)) {
        atoll_free(list); /* too much is pending there: the tuples stay */
    }
}

static atoll_lock once_lock;
static bool once_done;  /* guarded by once_lock */
static bool list_found; /* guarded by once_lock */

void
runtime_fork_child(void)
{
    once_lock.word = 0; /* main's import has done all that it guards */
    sys_fork_child();
}

int
runtime_init(void)
{
    /* Once, and not at each import: others come and go in the list. */
    atoll_lock_acquire(&once_lock);
    if (!once_done) {
        once_done = true;
        list_found = find_list();
        if (list_found) {
            find_lock();
        }
        arena_init();
    }
    bool found = list_found;
    atoll_lock_release(&once_lock);
    if (!found) {
        PyErr_SetString(PyExc_ImportError,
                        "atoll does not know this build of CPython: its list "
                        "of interpreters is not where it says it is");
        return -1;
    }
    return 0;
}
