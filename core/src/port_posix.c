/* Threads, forks and mappings, as POSIX has them. */
#include <errno.h>
#include <pthread.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <unistd.h>

#include "at_atomic.h"
#include "at_base.h"
#include "at_port.h"

at_static_assert(sizeof(pthread_t) <= sizeof(atoll_thread),
                 "a thread's name fits into a word");

static uint32_t alive; /* relaxed, but see thread_run */

typedef struct start {
    void *(*run)(void *);
    void *arg;
} start;

/* A thread is counted when it is there, and not any more before it is gone: so
 * that the others are never taken for fewer than they are. */
static void *
thread_run(void *arg)
{
    start s = *(start *)arg;
    free(arg);
    at_add_rlx(&alive, 1);
    void *result = s.run(s.arg);
    at_sub_rlx(&alive, 1);
    return result;
}

uint32_t
atoll_thread_count(void)
{
    return at_load_rlx(&alive);
}

void
at_port_threads_fork_child(void)
{
    at_store_rlx(&alive, 0);
}

atoll_err
atoll_thread_start(size_t stack_bytes, void *(*run)(void *), void *arg,
                   atoll_thread *out)
{
    pthread_attr_t attr;
    pthread_t thread;
    start *s = malloc(sizeof(*s)); /* it counts as the system's */
    if (s == NULL || pthread_attr_init(&attr) != 0) {
        free(s);
        return ATOLL_ERR_SYSTEM;
    }
    *s = (start){run, arg};
    pthread_attr_setstacksize(&attr, stack_bytes);
    int rc = pthread_create(&thread, &attr, thread_run, s);
    pthread_attr_destroy(&attr);
    if (rc != 0) {
        free(s);
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
at_port_detach_self(void)
{
    pthread_detach(pthread_self());
}

void
atoll_thread_halt(void)
{
    for (;;) {
        pause();
    }
}

static pthread_key_t own_key;
static uint32_t has_own_key; /* 0: not yet; 1: there; acquire and release */
static atoll_lock own_lock;

bool
at_port_set_own(void *pointer, void (*over)(void *))
{
    if (at_load_acq(&has_own_key) == 0) {
        atoll_lock_acquire(&own_lock);
        if (at_load_rlx(&has_own_key) == 0 && pthread_key_create(&own_key, over) == 0) {
            at_store_rel(&has_own_key, 1);
        }
        atoll_lock_release(&own_lock);
    }
    return at_load_acq(&has_own_key) == 1 && pthread_setspecific(own_key, pointer) == 0;
}

void *
at_port_own(void)
{
    return at_load_acq(&has_own_key) == 0 ? NULL : pthread_getspecific(own_key);
}

unsigned
atoll_cores(void)
{
    return at_port_cpus();
}

typedef struct watched {
    void *(*run)(void *);
    void *arg;
    void (*over)(void *);
    void *over_arg;
} watched;

static void
watch_over(void *arg)
{
    watched *w = arg;
    w->over(w->over_arg);
    free(w);
}

static void *
run_watched(void *arg)
{
    watched *w = arg;
    void *result;
    pthread_cleanup_push(watch_over, w);
    result = w->run(w->arg);
    pthread_cleanup_pop(1);
    return result;
}

int
atoll_thread_watch(void *thread, const void *attributes, void *(*run)(void *),
                   void *arg, void (*over)(void *), void *over_arg)
{
    /* Not from our allocator: the thread may outlive the caller's world. */
    watched *w = malloc(sizeof(*w));
    if (w == NULL) {
        return EAGAIN;
    }
    *w = (watched){run, arg, over, over_arg};
    int rc = pthread_create(thread, attributes, run_watched, w);
    if (rc != 0) {
        free(w);
    }
    return rc;
}

at_static_assert(sizeof(pthread_key_t) == sizeof(atoll_tls_key),
                 "a key is an unsigned int");

int
atoll_tls_key_new(atoll_tls_key *key, void (*destructor)(void *))
{
    return pthread_key_create(key, destructor);
}

int
atoll_tls_key_free(atoll_tls_key key)
{
    return pthread_key_delete(key);
}

int
atoll_tls_set(atoll_tls_key key, const void *value)
{
    return pthread_setspecific(key, value);
}

atoll_err
atoll_fork_hooks(void (*prepare)(void), void (*parent)(void), void (*child)(void))
{
    return pthread_atfork(prepare, parent, child) == 0 ? ATOLL_OK : ATOLL_ERR_NOMEM;
}

bool
atoll_mem_room(size_t size)
{
    void *ptr =
        mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    return ptr != MAP_FAILED && munmap(ptr, size) == 0;
}
