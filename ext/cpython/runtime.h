/* CPython's lists of interpreters and of parsers, its lock of thread states, and the
 * arenas of its allocator. */
#ifndef EXT_CPYTHON_RUNTIME_H
#define EXT_CPYTHON_RUNTIME_H

#include "base/base.h"

/* --- the list of interpreters (cpython/runtime.c) */

/* Find the list. Once a process. -1 with ImportError: this build of CPython is
 * unknown. */
int runtime_init(void);

/* Keep thread states of any interpreter from coming or going, until the unlocking;
 * attached. Code that holds another interpreter's GIL, or none, makes and deletes them:
 * importing an extension module elsewhere makes one of main's, and CPython deletes it
 * without main's GIL. No object may be freed meanwhile, and no other lock of CPython's
 * be taken. */
void runtime_lock_threads(void);

/* Let them come and go again. */
void runtime_unlock_threads(void);

/* Get the dict of a thread state of the own interpreter, which is made if need be:
 * borrowed, NULL without memory. Attached. What is in it goes, attached, when the
 * thread leaves the interpreter. */
PyObject *runtime_thread_dict(PyThreadState *ts);

/* Take one interpreter out of the list, if it is still there; what it owns is leaked.
 * Takes CPython's lock of the list, so that none of ours may be held that is taken
 * around a fork, nor one that is taken inside of such a lock. */
void runtime_unlink(PyInterpreterState *interp);

/* Put the interpreter that is shown, at first the main one, in front of the others, and
 * the main one behind it; if CPython is known to have a lock for the list. A new one
 * comes in front, and what looks into a process from outside takes that for the program
 * (py-spy, sys.remote_exec, so pdb -p), as debuggers in it do. No GIL needed; locks as
 * for runtime_unlink. */
void runtime_order_list(void);

/* Show interpreter `id` from now on. 1, or 0 if it is not there, or -1 if CPython is
 * not known to have such a lock. As runtime_order_list. */
int runtime_show(int64_t id);

/* Replace _interpreters.list_all of this interpreter. Attached; 0, or -1 with an
 * exception. */
int runtime_mend_list(void);

/* Leave only the main interpreter in it, in a forked child. */
void runtime_unlink_all(void);

/* Find the list of the parsers that Argument Clinic's functions have, if it has not
 * been looked for. Attached; keeps the exception that is set. False: it is not known.
 */
bool runtime_find_parsers(void);

/* Take out of that list the parsers that go() says are about to be unmapped; if the
 * list is known. It must not take one of our locks. No GIL needed. */
void runtime_forget_parsers(bool (*goes)(const void *parser, void *arg), void *arg);

/* Make the locks of runtime_init() and of sys's functions anew, in the child of a fork.
 */
void runtime_fork_child(void);

/* Find all that CPython has in its one static struct: the address, and how much. */
const char *runtime_memory(size_t *size);

/* --- functions of sys that know of one interpreter (cpython/frames.c) */

/* Replace them. At import; 0, or -1 with an exception. */
int sys_mend_frames(void);

/* Make their lock anew, in the child of a fork. */
void sys_fork_child(void);

/* Find what sys.set_asyncgen_hooks was told as `firstiter` in the thread of this
 * interpreter that CPython names `ident`: a method of the event loop that runs there,
 * of asyncio's kind. Attached. A new reference, or NULL without an exception. */
PyObject *frames_asyncgen_hook(unsigned long ident);

/* --- what a frame is about to do (cpython/frames.c) */

/* Is the instruction `at` of `code` the call of __enter__ by a `with`, after which
 * CPython looks for pending calls? Attached, with no exception set. */
bool frames_call_enter(PyCodeObject *code, int at);

/* --- the memory of dead interpreters (cpython/arena.c) */

/* Watch CPython's arenas. Once a process. */
void arena_init(void);

/* Unmap what interpreter `owner`, which has ended, has left behind. */
void arena_release_all(int64_t owner);

/* Count how much CPython's small-object allocator has taken for `owner` from the
 * system, in bytes. */
size_t arena_bytes(int64_t owner);

/* Hold the table of arenas still, for a fork. */
void arena_fork_prepare(void);

/* Let go of it. */
void arena_fork_parent(void);

/* Make its lock anew, in the child. */
void arena_fork_child(void);

#endif
