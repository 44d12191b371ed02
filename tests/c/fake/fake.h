/* A thin fake of CPython, and of the rooms that need real objects, for C tests of the
 * rooms home, pool, wait and output.
 *
 * A CPython under TSan is not to be had, so these rooms' own sources are built under it
 * and linked with this instead: interpreters with a GIL each, thread states, pending
 * calls, and as many objects as these rooms look at. A GIL is a mutex and a condition,
 * so that TSan sees what a GIL orders and nothing else. "Python code" is a C function
 * that looks now and then (fake_look), as CPython does between bytecodes.
 *
 * What CPython dies of is fatal here as well: ending an interpreter that has other
 * threads, taking a GIL or running code with a lock of atoll's held, and using what has
 * been freed, which ASan and TSan see. */
#ifndef FAKE_H
#define FAKE_H

#include "home/home.h"
#include "output/output.h"
#include "pool/pool.h"

/* Code of Python's: called attached; a new reference, or NULL with an exception. */
typedef PyObject *(*fake_code)(void *arg);

/* ------------------------------------------- interpreters (fake/interpreter.c) */

/* Begin: the calling thread is the main thread of the main interpreter from now on,
 * attached, and atoll is imported there. Once a process. */
void fake_begin(void);

/* Do what the exit of the process does to atoll (module/module.c), in the main thread,
 * attached. */
void fake_exit(void);

/* Get the state of atoll in the current interpreter. */
core_state *fake_state(void);

/* Attach the calling thread, which has no thread state, to the main interpreter; end
 * that. */
void fake_attach_main(void);

/* End it: what is in the thread's dict goes. */
void fake_detach(void);

/* Look, as between two bytecodes: let another thread have the GIL if one wants it, run
 * pending calls, raise what was sent to this thread. True with an exception. */
bool fake_look(void);

/* Sleep without the GIL, as time.sleep does: no interrupt of atoll's ends it. */
void fake_sleep(int64_t ns);

/* Start a thread in the current interpreter, which a close waits for if it is no
 * `daemon`. It ends when its code does. */
void fake_thread_start(fake_code code, void *arg, bool daemon);

/* Have this run before the current interpreter ends, as an exit handler. */
void fake_at_exit(void (*handler)(void));

/* Say what interrupt_find_place finds in the calling thread. */
void fake_set_place(interrupt_place place);

/* Count the interpreters that have been made and not ended, but for main. */
unsigned fake_interpreters(void);

/* Make the creation of interpreters fail from now on, or not any more. Any thread. */
void fake_fail_creation(bool fail);

/* ----------------------------------------------------- objects (fake/object.c) */

/* Make an object that means nothing. A new reference. */
PyObject *fake_thing(void);

/* Make a function that runs `code`. A new reference. */
PyObject *fake_function(fake_code code, void *arg);

/* Run the code of such a function; of another object, return a thing. */
PyObject *fake_run(PyObject *function);

/* Raise `type` with a text. Returns NULL. */
PyObject *fake_raise(PyObject *type, const char *text);

/* Get the text of a str or an exception: borrowed. "" for others. */
const char *fake_text(PyObject *obj);

/* -------------------------------------------------------- rooms (fake/rooms.c) */

/* Make a message that asks for a call of `code`. */
atoll_msg fake_request(fake_code code, void *arg);

/* Get the text of a reply, borrowed: "" if there is none. */
const char *fake_reply(const atoll_msg *reply);

/* Make a plan for interpreters of a kind; the caller drops it. */
home_plan fake_plan(const char *kind, bool isolated);

/* Count messages that are alive. */
unsigned fake_messages(void);

/* Write a text to a stream of the current interpreter's; true with an exception. */
bool fake_print(output_kind kind, const char *text);

/* Called in main with each batch of what is written out, with the GIL. */
extern void (*fake_writer)(output_kind kind, int64_t interp, const char *data,
                           size_t size);

/* Make an interpreter "endless", as one that must not be ended before the process. In
 * its own code. */
void fake_make_endless(void);

/* -------------------------------------------------------- locks (fake/locks.c) */

/* Count the locks of atoll's that the calling thread holds. */
unsigned fake_locks_held(void);

/* Die, since the program has done what CPython does not survive, or atoll forbids. */
_Noreturn void fake_fatal(const char *why);

/* ------------------------------------------------------- among the files of this
 * folder */

/* Who made it: somebody in C, or Python code. */
typedef enum fake_thread_kind {
    FAKE_FOREIGN,
    FAKE_PLAIN,
    FAKE_DAEMON
} fake_thread_kind;

/* A thread state; the GIL of its interpreter guards what is here. */
typedef struct fake_thread_state {
    PyThreadState base; /* first */
    PyObject *dict;
    PyObject *raised; /* the exception that is set */
    bool sent;        /* KeyboardInterrupt is to be raised */
    bool ended;       /* SystemExit is */
    unsigned long ident;
    uint64_t number;
    fake_thread_kind kind;
} fake_thread_state;

/* Make the objects that everybody has immortal, before there are threads. */
void fake_objects_begin(void);

/* Get that of the calling thread. Fatal if it is not attached. */
fake_thread_state *fake_thread_here(void);

/* Raise SystemExit in all daemon threads of the current interpreter. */
void fake_end_daemons(void);

/* Count the current interpreter's threads of a kind, without the calling one. */
unsigned fake_count_threads(fake_thread_kind kind);

/* Run the exit handler of the current interpreter, once. */
void fake_run_exit_handler(void);

/* The streams of the current interpreter: objects that it owns. */
PyObject **fake_streams(void);

/* Begin and end atoll in an interpreter (fake/rooms.c), attached to it. */
void fake_module_begin(core_state *state, int64_t id, bool is_main);
void fake_module_end(core_state *state);

#endif
