/* What port_children.c needs of port_signals.c. */
#ifndef PORT_SIGNALS_H
#define PORT_SIGNALS_H

#include <signal.h>

/* Call `owner`'s handler for `signum`, if it has one, with `info`. All signals
 * are blocked. */
void at_signal_deliver(const void *owner, int signum, siginfo_t *info);

/* Block all signals in this thread; *before is what was blocked. */
void at_signal_mask(sigset_t *before);   /* block all signals here */
void at_signal_unmask(sigset_t *before); /* back to that */

/* In the child of a fork: nothing is watched there. */
void at_signals_fork_child(void);

#endif
