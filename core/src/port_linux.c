/* The port to Linux: futexes, poll and eventfd, sched_getaffinity. */
#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif

#include "at_port.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/futex.h>
#include <poll.h>
#include <pthread.h>
#include <sched.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include "at_base.h"

#define NS_PER_S INT64_C(1000000000)

int64_t
at_port_now(void)
{
    struct timespec ts;
    clock_gettime(CLOCK_MONOTONIC, &ts);
    return (int64_t)ts.tv_sec * NS_PER_S + ts.tv_nsec;
}

static struct timespec
timespec_of(int64_t ns)
{
    struct timespec ts = {.tv_sec = (time_t)(ns / NS_PER_S),
                          .tv_nsec = (long)(ns % NS_PER_S)};
    return ts;
}

at_park
at_port_park(uint32_t *word, uint32_t expected, int64_t deadline)
{
    struct timespec ts, *until = NULL;
    if (deadline != ATOLL_FOREVER) {
        /* A negative time is refused (EINVAL), which would look like a wake-up
         * and make the caller's loop spin for ever. */
        ts = timespec_of(deadline > 0 ? deadline : 0);
        until = &ts;
    }
    /* FUTEX_WAIT_BITSET takes an absolute time of CLOCK_MONOTONIC. */
    long rc = syscall(SYS_futex, word, FUTEX_WAIT_BITSET | FUTEX_PRIVATE_FLAG, expected,
                      until, NULL, FUTEX_BITSET_MATCH_ANY);
    if (rc == -1 && errno == ETIMEDOUT) {
        return AT_PARK_TIMEOUT;
    }
    return AT_PARK_WOKEN;
}

void
at_port_wake(uint32_t *word, int count)
{
    syscall(SYS_futex, word, FUTEX_WAKE | FUTEX_PRIVATE_FLAG, count, NULL, NULL, 0);
}

at_park
at_port_park_fds(int event_fd, int intr_fd, int64_t deadline)
{
    struct pollfd fds[2] = {{.fd = event_fd, .events = POLLIN},
                            {.fd = intr_fd, .events = POLLIN}};
    struct timespec ts, *timeout = NULL;
    if (deadline != ATOLL_FOREVER) {
        int64_t now = at_port_now();
        ts = timespec_of(deadline > now ? deadline - now : 0);
        timeout = &ts;
    }
    int rc = ppoll(fds, 2, timeout, NULL);
    if (rc == 0) {
        return AT_PARK_TIMEOUT;
    }
    if (rc > 0 && fds[0].revents != 0) {
        uint64_t count;
        if (read(event_fd, &count, sizeof(count)) == sizeof(count)) {
            return AT_PARK_EVENT;
        }
    }
    if (rc > 0 && fds[1].revents != 0) {
        return AT_PARK_INTR;
    }
    return AT_PARK_WOKEN;
}

void
at_port_wake_fd(int event_fd)
{
    uint64_t one = 1;
    ssize_t put;
    do {
        put = write(event_fd, &one, sizeof(one));
    } while (put == -1 && errno == EINTR);
}

int
at_port_open_fd(void)
{
    return eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
}

bool
at_port_clear_fd(int event_fd)
{
    uint64_t count;
    ssize_t got;
    do {
        got = read(event_fd, &count, sizeof(count));
    } while (got == -1 && errno == EINTR);
    return got > 0;
}

void
at_port_close_fd(int event_fd)
{
    close(event_fd);
}

unsigned
at_port_cpus(void)
{
    cpu_set_t set;
    if (sched_getaffinity(0, sizeof(set), &set) == 0) {
        int count = CPU_COUNT(&set);
        if (count > 0) {
            return (unsigned)count;
        }
    }
    long online = sysconf(_SC_NPROCESSORS_ONLN);
    return online > 0 ? (unsigned)online : 1;
}

void
at_port_yield(void)
{
    sched_yield();
}

void
atoll_thread_name(atoll_thread thread, const char *name)
{
    char text[16]; /* more than that it refuses */
    size_t size = strnlen(name, sizeof(text) - 1);
    memcpy(text, name, size);
    text[size] = '\0';
    pthread_setname_np((pthread_t)thread, text);
}

int64_t
at_port_thread_number(void)
{
    return syscall(SYS_gettid);
}

void
atoll_thread_nice(int nice)
{
    setpriority(PRIO_PROCESS, (id_t)syscall(SYS_gettid), nice);
}

uint32_t
atoll_thread_count_all(void)
{
    /* proc(5): the name in brackets may contain anything; num_threads is the
     * 18th word after it. */
    char text[1024];
    int fd = open("/proc/self/stat", O_RDONLY | O_CLOEXEC);
    ssize_t size = fd < 0 ? -1 : read(fd, text, sizeof(text) - 1);
    if (fd >= 0) {
        close(fd);
    }
    if (size <= 0) {
        return 0;
    }
    text[size] = '\0';
    const char *word = strrchr(text, ')');
    for (int i = 0; i < 18 && word != NULL; i++) {
        word = strchr(word + 1, ' ');
    }
    return word == NULL ? 0 : (uint32_t)strtoul(word, NULL, 10);
}
