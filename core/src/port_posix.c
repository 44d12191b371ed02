/* Threads, forks and mappings, as POSIX has them. */
#include <pthread.h>
#include <sys/mman.h>
#include <unistd.h>

#include "at_base.h"

at_static_assert(sizeof(pthread_t) <= sizeof(atoll_thread),
                 "a thread's name fits into a word");

atoll_err
atoll_thread_start(size_t stack_bytes, void *(*run)(void *), void *arg,
                   atoll_thread *out)
{
    pthread_attr_t attr;
    pthread_t thread;
    if (pthread_attr_init(&attr) != 0) {
        return ATOLL_ERR_SYSTEM;
    }
    pthread_attr_setstacksize(&attr, stack_bytes);
    int rc = pthread_create(&thread, &attr, run, arg);
    pthread_attr_destroy(&attr);
    if (rc != 0) {
        return ATOLL_ERR_SYSTEM;
    }
    *out = (atoll_thread)thread;
    return ATOLL_OK;
}

void
atoll_thread_join(atoll_thread thread)
{
    pthread_join((pthread_t)thread, NULL);
}

atoll_thread
atoll_thread_self(void)
{
    return (atoll_thread)pthread_self();
}

void
atoll_thread_halt(void)
{
    for (;;) {
        pause();
    }
}

atoll_err
atoll_fork_hooks(void (*prepare)(void), void (*parent)(void),
                 void (*child)(void))
{
    return pthread_atfork(prepare, parent, child) == 0 ? ATOLL_OK
                                                       : ATOLL_ERR_NOMEM;
}

bool
atoll_mem_room(size_t size)
{
    void *ptr = mmap(NULL, size, PROT_READ | PROT_WRITE,
                     MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    return ptr != MAP_FAILED && munmap(ptr, size) == 0;
}
