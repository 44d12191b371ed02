/* How many threads the pools of numerical libraries have.
 *
 * BLAS and OpenMP give each caller as many threads as there are cores; callers
 * in N interpreters would get N times as many. So each interpreter with such a
 * library gets its share of the cores, unless the user has said how many it
 * should be, in one of the variables that the libraries read. The names of
 * the functions are those that threadpoolctl knows. */
#include "isolate/isolate.h"

#include <dlfcn.h>
#include <stdlib.h>
#include <string.h>

#include "cpython/version.h"

/* For the process, also when the library is shared by all interpreters. */
static const char *const process_setters[] = {
    "MKL_Set_Num_Threads",
    "bli_thread_set_num_threads",
    "openblas_set_num_threads",
    "openblas_set_num_threads64_",
    "scipy_openblas_set_num_threads",
    "scipy_openblas_set_num_threads64_",
};

/* For the calling thread. */
static const char thread_setter[] = "omp_set_num_threads";

static const char *const variables[] = {
    "OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "GOTO_NUM_THREADS",
    "MKL_NUM_THREADS", "BLIS_NUM_THREADS",
};

static atoll_lock pools_lock;
static isolate *with_pools;  /* guarded by pools_lock */
static unsigned pools_count; /* guarded by pools_lock */
static unsigned isolates;    /* guarded by pools_lock: alive */

static unsigned
share_of(unsigned among)
{
    unsigned cores = atoll_cores();
    return among == 0 || cores / among == 0 ? 1 : cores / among;
}

static bool
user_has_spoken(void)
{
    for (size_t i = 0; i < sizeof(variables) / sizeof(*variables); i++) {
        const char *value = getenv(variables[i]);
        if (value != NULL && value[0] != '\0') {
            return true;
        }
    }
    return false;
}

/* Tell all libraries what is theirs now. Called with the lock held. */
static void
share_cores(void)
{
    int threads = (int)share_of(pools_count);
    for (isolate *iso = with_pools; iso != NULL; iso = iso->next_with_pool) {
        for (size_t i = 0; i < iso->setter_count; i++) {
            iso->setters[i](threads);
        }
        iso->thread_count_due = threads;
    }
}

static void
add_setter(isolate *iso, void (*setter)(int))
{
    for (size_t i = 0; i < iso->setter_count; i++) {
        if (iso->setters[i] == setter) {
            return;
        }
    }
    if (iso->setter_count < ISOLATE_SETTERS) {
        iso->setters[iso->setter_count++] = setter;
    }
}

static bool
find_setter(void *handle, const char *name, void (**setter)(int))
{
    void *found = dlsym(handle, name);
    memcpy(setter, &found, sizeof(found));
    return found != NULL;
}

void
threads_begin(void)
{
    atoll_lock_acquire(&pools_lock);
    isolates++;
    atoll_lock_release(&pools_lock);
}

void
threads_found(isolate *iso, void *handle)
{
    void (*setter)(int);
    bool some = false;
    if (user_has_spoken()) {
        return;
    }
    atoll_lock_acquire(&pools_lock);
    size_t before = iso->setter_count;
    for (size_t i = 0; i < sizeof(process_setters) / sizeof(*process_setters); i++) {
        if (find_setter(handle, process_setters[i], &setter)) {
            add_setter(iso, setter);
        }
    }
    if (find_setter(handle, thread_setter, &setter) && iso->thread_setter == NULL) {
        iso->thread_setter = setter;
        some = true;
    }
    some |= iso->setter_count > before;
    if (some) {
        if (!iso->has_pool) {
            iso->has_pool = true;
            iso->next_with_pool = with_pools;
            with_pools = iso;
            pools_count++;
        }
        share_cores();
    }
    atoll_lock_release(&pools_lock);
    threads_refresh(iso);
}

void
threads_refresh(isolate *iso)
{
    atoll_lock_acquire(&pools_lock);
    int due = iso->thread_count_due;
    iso->thread_count_due = 0;
    void (*setter)(int) = due > 0 ? iso->thread_setter : NULL;
    atoll_lock_release(&pools_lock);
    if (setter != NULL) {
        setter(due);
    }
}

void
threads_end(isolate *iso)
{
    atoll_lock_acquire(&pools_lock);
    isolates--;
    if (iso->has_pool) {
        isolate **link = &with_pools;
        while (*link != iso) {
            link = &(*link)->next_with_pool;
        }
        *link = iso->next_with_pool;
        iso->has_pool = false;
        pools_count--;
        share_cores();
    }
    atoll_lock_release(&pools_lock);
}

unsigned
threads_share(void)
{
    atoll_lock_acquire(&pools_lock);
    unsigned share = share_of(isolates);
    atoll_lock_release(&pools_lock);
    return share;
}

void
threads_fork_child(void)
{
    pools_lock.word = 0;
    with_pools = NULL;
    pools_count = isolates = 0;
}

bool
isolate_has_threads(isolate *iso)
{
    atoll_lock_acquire(&iso->lock);
    bool has = iso->threads > 0;
    atoll_lock_release(&iso->lock);
    return has;
}
