/* Preloaded by test_no_memory.py: makes the N-th allocation of atoll's own fail. Only
 * those of the thread that asked for it, and only calls from the module _core. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

extern void *__libc_malloc(size_t);
extern void *__libc_calloc(size_t, size_t);
extern void *__libc_realloc(void *, size_t);

static __thread long left __attribute__((tls_model("initial-exec"))); /* 0: off */
static __thread int fired __attribute__((tls_model("initial-exec")));
static __thread int inside __attribute__((tls_model("initial-exec")));

/* From now on the n-th (from 1) fails, once; 0: none does. */
void
fail_at(long n)
{
    left = n;
    fired = 0;
}

int
fail_fired(void)
{
    return fired;
}

static int
fails(const void *caller)
{
    if (left <= 0 || inside) {
        return 0;
    }
    Dl_info info;
    inside = 1; /* dladdr() may allocate */
    int ours = dladdr(caller, &info) != 0 && info.dli_fname != NULL &&
               strstr(info.dli_fname, "/atoll/_core.") != NULL;
    inside = 0;
    if (!ours || --left > 0) {
        return 0;
    }
    fired = 1;
    errno = ENOMEM;
    return 1;
}

#define CALLER __builtin_extract_return_addr(__builtin_return_address(0))

void *
malloc(size_t size)
{
    return fails(CALLER) ? NULL : __libc_malloc(size);
}

void *
calloc(size_t count, size_t size)
{
    return fails(CALLER) ? NULL : __libc_calloc(count, size);
}

void *
realloc(void *ptr, size_t size)
{
    return fails(CALLER) ? NULL : __libc_realloc(ptr, size);
}

void *
mmap(void *addr, size_t size, int prot, int flags, int fd, off_t offset)
{
    if (fails(CALLER)) {
        return MAP_FAILED;
    }
    return (void *)syscall(SYS_mmap, addr, size, prot, flags, fd, offset);
}
