/* What the core asks of the operating system, and all that a port provides.
 * Today there is one: port_linux.c. */
#ifndef AT_PORT_H
#define AT_PORT_H

#include <stdbool.h>
#include <stdint.h>

typedef enum at_park {
    AT_PARK_WOKEN,   /* woken, or for no reason: look again */
    AT_PARK_TIMEOUT, /* the deadline has passed */
    AT_PARK_INTR,    /* intr_fd became readable (fd parking only) */
    AT_PARK_EVENT,   /* an event was there and is consumed (fd parking only) */
} at_park;

/* Nanoseconds of the monotonic clock. */
int64_t at_port_now(void);

/* Sleep while `*word == expected`, until `deadline` (ATOLL_FOREVER: no limit).
 * The kernel compares under its own lock, so a wake after a change of *word
 * is never lost. May return early. */
at_park at_port_park(uint32_t *word, uint32_t expected, int64_t deadline);

/* Wake up to `count` threads parked on `word`. Only the address is used: the
 * memory may be gone already, and the worst that happens is a spurious wake
 * of somebody else. */
void at_port_wake(uint32_t *word, int count);

/* Sleep until `event_fd` or `intr_fd` is readable or the deadline passes.
 * An event is consumed, what is in intr_fd is not. An event goes before an
 * interrupt. A negative descriptor is ignored. */
at_park at_port_park_fds(int event_fd, int intr_fd, int64_t deadline);

/* Make `event_fd` readable. */
void at_port_wake_fd(int event_fd);

/* A new one, empty; -1 if the system refuses. Another process does not inherit
 * it by exec. */
int at_port_open_fd(void);
/* Take what is in it. False: there was nothing. */
bool at_port_clear_fd(int event_fd);

/* Close it. */
void at_port_close_fd(int event_fd);

/* Processors that this process may run on, at least 1. */
unsigned at_port_cpus(void);

/* Nobody will join the calling thread, which atoll_thread_start has made. */
void at_port_detach_self(void);
/* In the child of a fork: none of them is here. */
void at_port_threads_fork_child(void);

/* The calling thread, as the system numbers it. */
int64_t at_port_thread_number(void);
/* One pointer that each thread has of its own: NULL at first. `over` is called with
 * what it has at its end, if that is not NULL; it is the same in all calls. False: the
 * system refuses, and it is as before. */
bool at_port_set_own(void *pointer, void (*over)(void *));

/* Get what at_port_set_own has set in this thread, or NULL. */
void *at_port_own(void);

/* Let another thread have this processor, if one wants it. */
void at_port_yield(void);

/* Tell the processor that this is a spin loop. */
static inline void
at_port_pause(void)
{
#if defined(__x86_64__) || defined(__i386__)
    __builtin_ia32_pause();
#elif defined(__aarch64__) || defined(__arm__)
    __asm__ volatile("yield" ::: "memory");
#else
    __asm__ volatile("" ::: "memory");
#endif
}

#endif
