/* The end of child processes, told by the system itself (pidfd_open).
 *
 * SIGCHLD is not enough: the process has one handler for it, and what is not
 * redirected (main's own libuv) replaces ours whenever it starts a program, and
 * resets it when that has ended. A thread that waits for the children of owners,
 * for as long as there are some, calls the owners' handlers itself. */
#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif

#include "port_signals.h"

#include <errno.h>
#include <pthread.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "at_atomic.h"
#include "at_base.h"

#ifndef SYS_pidfd_open
#define SYS_pidfd_open 434 /* the same on all processors */
#endif

typedef struct child {
    struct child *next;
    const void *owner; /* an address only */
    int pid, fd;
} child;

/* Held with all signals blocked, as that of port_signals.c is. */
static atoll_lock lock;
static child *children; /* guarded by lock: watched */
static int epoll = -1;  /* guarded by lock: the thread's, while there is one */

/* Its process has ended. Under the lock, so that who forks meanwhile does not
 * find a descriptor in the list that is somebody else's by then. */
static void
children_take_out(child *c)
{
    atoll_lock_acquire(&lock);
    child **link = &children;
    while (*link != c) {
        link = &(*link)->next;
    }
    *link = c->next;
    /* A child of somebody's that has not begun its program yet may have the
     * descriptor too, so that closing it does not end the watch. */
    epoll_ctl(epoll, EPOLL_CTL_DEL, c->fd, NULL);
    close(c->fd);
    atoll_lock_release(&lock);
}

/* Nobody is left: the thread is over. */
static bool
children_is_over(void)
{
    atoll_lock_acquire(&lock);
    bool over = children == NULL;
    if (over) {
        close(epoll);
        epoll = -1;
    }
    atoll_lock_release(&lock);
    return over;
}

/* Born with all signals blocked. */
static void *
wait_for_children(void *arg)
{
    int fd = (int)(intptr_t)arg;
    do {
        struct epoll_event event;
        if (epoll_wait(fd, &event, 1, -1) != 1) {
            continue; /* EINTR: a debugger's */
        }
        child *c = event.data.ptr;
        children_take_out(c);
        siginfo_t info;
        memset(&info, 0, sizeof(info));
        info.si_signo = SIGCHLD;
        info.si_code = CLD_EXITED;
        info.si_pid = c->pid;
        at_signal_deliver(c->owner, SIGCHLD, &info);
        atoll_free(c);
    } while (!children_is_over());
    return NULL;
}

#define STACK ((size_t)256 << 10) /* handlers run on it */

/* Under the lock. */
static bool
children_start(void)
{
    int fd = epoll_create1(EPOLL_CLOEXEC);
    pthread_attr_t attributes;
    pthread_t thread;
    if (fd < 0 || pthread_attr_init(&attributes) != 0) {
        if (fd >= 0) {
            close(fd);
        }
        return false;
    }
    pthread_attr_setstacksize(&attributes, STACK);
    pthread_attr_setdetachstate(&attributes, PTHREAD_CREATE_DETACHED);
    bool good = pthread_create(&thread, &attributes, wait_for_children,
                               (void *)(intptr_t)fd) == 0;
    pthread_attr_destroy(&attributes);
    if (!good) {
        close(fd);
        return false;
    }
    epoll = fd;
    return true;
}

static bool
children_add(child *c)
{
    struct epoll_event event = {.events = EPOLLIN, .data.ptr = c};
    if (epoll < 0 && !children_start()) {
        return false;
    }
    c->next = children;
    children = c;
    if (epoll_ctl(epoll, EPOLL_CTL_ADD, c->fd, &event) == 0) {
        return true;
    }
    /* If it was the first one, the thread waits for the next. */
    children = c->next;
    return false;
}

void
atoll_signals_watch(const void *owner, int pid)
{
    int fd = (int)syscall(SYS_pidfd_open, pid, 0);
    if (fd < 0) {
        return; /* an old system; or it has ended, and somebody has waited */
    }
    child *c = atoll_alloc(sizeof(*c));
    if (c == NULL) {
        close(fd);
        return;
    }
    *c = (child){NULL, owner, pid, fd};
    sigset_t mask;
    at_signal_mask(&mask);
    atoll_lock_acquire(&lock);
    bool good = children_add(c);
    atoll_lock_release(&lock);
    at_signal_unmask(&mask);
    if (!good) {
        close(fd);
        atoll_free(c);
    }
}

static void
children_fork_child(void)
{
    /* The thread is not here. If somebody held the lock, what is written here may
     * not be true, and the descriptors stay; else acquires what they wrote. */
    if (at_cas_acq(&lock.word, 0, 1)) {
        for (child *c = children, *next; c != NULL; c = next) {
            next = c->next;
            close(c->fd);
            atoll_free(c);
        }
        if (epoll >= 0) {
            close(epoll);
        }
    }
    epoll = -1;
    children = NULL;
    lock.word = 0;
}

void
atoll_signals_fork_child(void)
{
    at_signals_fork_child();
    children_fork_child();
}
