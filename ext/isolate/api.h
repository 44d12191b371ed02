/* The functions that private copies call in place of CPython's and the system's. Each
 * has the arguments of the one that it replaces, and the isolate after them. The table
 * of them is in isolate/api.c. */
#ifndef EXT_ISOLATE_API_H
#define EXT_ISOLATE_API_H

#include "isolate/isolate.h"

/* --- isolate/gil.c: CPython's that mean the main interpreter */
PyGILState_STATE api_gilstate_ensure(isolate *iso);

/* Replace PyGILState_Release. */
void api_gilstate_release(PyGILState_STATE old, isolate *iso);

/* Replace PyGILState_GetThisThreadState. */
PyThreadState *api_gilstate_this(isolate *iso);

/* Replace PyGILState_Check. */
int api_gilstate_check(isolate *iso);

/* Replace Py_IsInitialized. */
int api_is_initialized(isolate *iso);

/* Replace Py_IsFinalizing. */
int api_is_finalizing(isolate *iso);

/* Replace PyInterpreterState_Main. */
PyInterpreterState *api_interpreter_main(isolate *iso);

/* Replace PyInterpreterState_Head. */
PyInterpreterState *api_interpreter_head(isolate *iso);

/* Replace Py_AddPendingCall. */
int api_add_pending_call(int (*func)(void *), void *arg, isolate *iso);

/* Replace Py_AtExit. */
int api_at_exit(void (*func)(void), isolate *iso);

/* Replace PyOS_AfterFork_Child. */
void api_after_fork_child(isolate *iso);

/* --- isolate/system.c: the system's and CPython's that use up something */
int api_key_create(atoll_tls_key *key, void (*destructor)(void *), isolate *iso);

/* Replace pthread_key_delete. */
int api_key_delete(atoll_tls_key key, isolate *iso);

/* Replace PyThread_tss_create. */
int api_tss_create(Py_tss_t *key, isolate *iso);

/* Replace PyThread_tss_delete. */
void api_tss_delete(Py_tss_t *key, isolate *iso);

/* Replace PyThread_tss_free. */
void api_tss_free(Py_tss_t *key, isolate *iso);

/* Replace pthread_create. */
int api_thread_create(void *thread, const void *attributes, void *(*run)(void *),
                      void *arg, isolate *iso);

/* Replace __cxa_thread_atexit_impl. */
int api_thread_at_exit(void (*destructor)(void *), void *object, void *library,
                       isolate *iso);

/* Replace __cxa_atexit. */
int api_at_process_exit(void (*destructor)(void *), void *object, void *library,
                        isolate *iso);

/* Replace getenv. */
char *api_get_env(const char *name, isolate *iso);

/* Replace secure_getenv. */
char *api_secure_get_env(const char *name, isolate *iso);

/* The C++ runtime's, which no header declares. */
extern int __cxa_thread_atexit_impl(void (*)(void *), void *, void *);
extern int __cxa_atexit(void (*)(void *), void *, void *);

/* --- isolate/fork.c */
int api_register_atfork(void (*prepare)(void), void (*parent)(void),
                        void (*child)(void), void *library, isolate *iso);

/* --- isolate/signals.c */
struct sigaction;

/* Replace sigaction. */
int api_sigaction(int signum, const struct sigaction *action, struct sigaction *before,
                  isolate *iso);
void (*api_signal(int signum, void (*handler)(int), isolate *iso))(int);

/* Replace fork. */
int api_fork(isolate *iso);

#endif
