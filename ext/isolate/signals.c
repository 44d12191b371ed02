/* Handlers of signals that copies set, and programs that they start.
 *
 * A process has one handler for each signal. A library sets its own (libuv one for
 * SIGCHLD, to learn that its programs have ended), so each copy does, and only the
 * last one would hear of anything; main's original of the same library, which is
 * left alone, would take it away from all. So copies' sigaction and signal lead to
 * a table (atoll_signal_action), where each isolate has handlers of its own beside
 * what the process has.
 *
 * Between fork and exec, libuv resets all handlers of the child. There the calls
 * are the real ones, which the process's id tells; pthread_atfork would not see a
 * vfork, whose child writes to the parent's memory. These functions are called by
 * handlers of signals and in such children, so they may do only what is safe there:
 * see port_signals.c. */
#include "isolate/api.h"

#include <errno.h>
#include <signal.h>
#include <string.h>
#include <unistd.h>

static bool
is_in_child(const isolate *iso)
{
    return getpid() != iso->process;
}

/* Has the isolate been told that it has no handlers any more? (Destructors of
 * libraries set what they found when they were loaded.) Not by a flag under its
 * lock: a handler may have interrupted whoever holds that. */
static bool
signals_is_late(const isolate *iso)
{
    return atoll_event_is_set(&iso->silent);
}

int
api_sigaction(int signum, const struct sigaction *action, struct sigaction *before,
              isolate *iso)
{
    if (is_in_child(iso)) {
        return sigaction(signum, action, before);
    }
    if (signals_is_late(iso)) {
        action = NULL;
    }
    /* Also to call it for nothing is worth while: what main has set since is to
     * be found again. */
    int rc = atoll_signal_action(iso, signum, action, before);
    atoll_signals_check();
    return rc;
}

/* As glibc's: system calls go on after the handler, which stays. */
void (*api_signal(int signum, void (*handler)(int), isolate *iso))(int)
{
    struct sigaction action, before;
    memset(&action, 0, sizeof(action));
    action.sa_handler = handler;
    action.sa_flags = SA_RESTART;
    sigemptyset(&action.sa_mask);
    sigaddset(&action.sa_mask, signum);
    if (handler == SIG_ERR) {
        errno = EINVAL;
        return SIG_ERR;
    }
    return api_sigaction(signum, &action, &before, iso) < 0 ? SIG_ERR
                                                            : before.sa_handler;
}

/* The parent has its handler in the table before it forks, if it wants to hear of
 * the child in this way; main's may have taken its place in the process since. */
int
api_fork(isolate *iso)
{
    if (is_in_child(iso)) {
        return fork();
    }
    forks_prepare();
    atoll_signals_check();
    int pid = fork();
    if (pid > 0 && atoll_signals_has(iso, SIGCHLD)) {
        int kept = errno;
        atoll_signals_watch(iso, pid);
        errno = kept;
    }
    return pid;
}

/* For handlers to return. They run for microseconds. */
#define PATIENCE_NS INT64_C(1000000000)

bool
isolate_silence(isolate *iso)
{
    if (!atoll_event_is_set(&iso->silent)) {
        atoll_event_set(&iso->silent);
    }
    return atoll_signals_forget(iso, atoll_now() + PATIENCE_NS);
}
