/* A look at the locks of atoll's: which of them a thread holds, and, for TSan, in which
 * order they are taken. The linker puts these between the callers and the core. */
#include "fake/fake.h"

#include <stdio.h>
#include <stdlib.h>

#ifdef __SANITIZE_THREAD__
#include <sanitizer/tsan_interface.h>
#define TSAN(call) call

/* Visitors that were left behind are joined by the next one, and at the exit there is
 * none. */
const char *__tsan_default_options(void);
const char *
__tsan_default_options(void)
{
    return "report_thread_leaks=0";
}
#else
#define TSAN(call) ((void)0)
#endif

void __real_atoll_lock_acquire(atoll_lock *lock);
void __real_atoll_lock_release(atoll_lock *lock);
void __wrap_atoll_lock_acquire(atoll_lock *lock);
void __wrap_atoll_lock_release(atoll_lock *lock);

static __thread unsigned held;

/* Told that it is a mutex, TSan takes what the mutex orders from here (the core's own
 * tests look at how it does that), and complains of an order that could deadlock. */
void
__wrap_atoll_lock_acquire(atoll_lock *lock)
{
    TSAN(__tsan_mutex_pre_lock(lock, 0));
    __real_atoll_lock_acquire(lock);
    TSAN(__tsan_mutex_post_lock(lock, 0, 0));
    held++;
}

void
__wrap_atoll_lock_release(atoll_lock *lock)
{
    held--;
    TSAN((void)__tsan_mutex_pre_unlock(lock, 0));
    __real_atoll_lock_release(lock);
    TSAN(__tsan_mutex_post_unlock(lock, 0));
}

unsigned
fake_locks_held(void)
{
    return held;
}

void
fake_fatal(const char *why)
{
    printf("Bail out! fatal: %s\n", why);
    fflush(stdout);
    abort();
}
