/* What a process has only so much of, and copies would use up: thread-local keys,
 * threads. And thread-local destructors, which must not run too late. */
#include "isolate/api.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* Room for one more in an array of pointers or keys. Called with the lock
 * held. */
static void *
room_for(void *array, size_t count, size_t *room, size_t width)
{
    if (count < *room) {
        return array;
    }
    size_t more = *room * 2 + 16;
    array = atoll_realloc(array, more * width);
    if (array != NULL) {
        *room = more;
    }
    return array;
}

int
api_key_create(atoll_tls_key *key, void (*destructor)(void *), isolate *iso)
{
    atoll_lock_acquire(&iso->lock);
    isolate_key *keys =
        room_for(iso->keys, iso->key_count, &iso->key_room, sizeof(*keys));
    int rc = -1;
    if (keys != NULL) {
        iso->keys = keys;
        rc = atoll_tls_key_new(key, destructor);
        if (rc == 0) {
            const void *owner;
            memcpy(&owner, &destructor, sizeof(owner));
            keys[iso->key_count++] = (isolate_key){*key, owner};
        }
    }
    atoll_lock_release(&iso->lock);
    return rc < 0 ? ENOMEM : rc;
}

int
api_key_delete(atoll_tls_key key, isolate *iso)
{
    atoll_lock_acquire(&iso->lock);
    for (size_t i = 0; i < iso->key_count; i++) {
        if (iso->keys[i].key == key) {
            iso->keys[i] = iso->keys[--iso->key_count];
            break;
        }
    }
    int rc = atoll_tls_key_free(key);
    atoll_lock_release(&iso->lock);
    return rc;
}

int
api_tss_create(Py_tss_t *key, isolate *iso)
{
    atoll_lock_acquire(&iso->lock);
    bool is_new = !PyThread_tss_is_created(key);
    Py_tss_t **tss = room_for(iso->tss, iso->tss_count, &iso->tss_room, sizeof(*tss));
    int rc = -1;
    if (tss != NULL) {
        iso->tss = tss;
        rc = PyThread_tss_create(key);
        if (rc == 0 && is_new) {
            tss[iso->tss_count++] = key;
        }
    }
    atoll_lock_release(&iso->lock);
    return rc;
}

void
api_tss_delete(Py_tss_t *key, isolate *iso)
{
    atoll_lock_acquire(&iso->lock);
    for (size_t i = 0; i < iso->tss_count; i++) {
        if (iso->tss[i] == key) {
            iso->tss[i] = iso->tss[--iso->tss_count];
            break;
        }
    }
    PyThread_tss_delete(key);
    atoll_lock_release(&iso->lock);
}

void
api_tss_free(Py_tss_t *key, isolate *iso)
{
    if (key != NULL) {
        api_tss_delete(key, iso);
        PyThread_tss_free(key);
    }
}

static void
thread_over(void *arg)
{
    isolate *iso = arg;
    atoll_lock_acquire(&iso->lock);
    iso->threads--;
    atoll_lock_release(&iso->lock);
}

int
api_thread_create(void *thread, const void *attributes, void *(*run)(void *), void *arg,
                  isolate *iso)
{
    atoll_lock_acquire(&iso->lock);
    iso->threads++;
    atoll_lock_release(&iso->lock);
    int rc = atoll_thread_watch(thread, attributes, run, arg, thread_over, iso);
    if (rc != 0) {
        thread_over(iso);
    }
    return rc;
}

/* Destructors of C++'s and Rust's thread-local objects. Those of the home thread
 * would run when the interpreter is gone, and greenlet's would look for objects
 * in it; in a process's main thread they mostly do not run before the end. */
int
api_thread_at_exit(void (*destructor)(void *), void *object, void *library,
                   isolate *iso)
{
    return atoll_thread_self() == iso->home
               ? 0
               : __cxa_thread_atexit_impl(destructor, object, library);
}

typedef struct process_exit {
    isolate *iso;
    void (*destructor)(void *);
    void *object;
} process_exit;

/* At the end of the process, when the interpreter has long ended, destructors wait
 * for the threads of their pools (libarrow's). One that waits for the interpreter
 * would be waited for in vain. */
static void
system_destroy(void *arg)
{
    const process_exit *e = arg;
    isolate *iso = e->iso;
    if (getpid() != iso->process) {
        return; /* its threads are not here */
    }
    atoll_lock_acquire(&iso->lock);
    bool stuck = iso->late > 0 || (iso->abandoned && iso->visitors != NULL);
    atoll_lock_release(&iso->lock);
    if (!stuck) {
        e->destructor(e->object);
    }
}

/* Destructors of C++'s static objects, and the functions of atexit. They run at the
 * end of the process, or when the library is unloaded. */
int
api_at_process_exit(void (*destructor)(void *), void *object, void *library,
                    isolate *iso)
{
    process_exit *e = isolate_alloc(iso, sizeof(*e));
    if (e == NULL) {
        return -1;
    }
    *e = (process_exit){iso, destructor, object};
    return __cxa_atexit(system_destroy, e, library);
}

/* How many threads a library's pool has, by the names of the variables that say
 * so. A copy has a pool of its own, so all together would have too many. */
static char *
system_limited(const char *name, isolate *iso)
{
    static const char *const variables[] = {
        "BLIS_NUM_THREADS",     "GOTO_NUM_THREADS",  "MKL_NUM_THREADS",
        "NUMEXPR_NUM_THREADS",  "OMP_NUM_THREADS",   "OPENBLAS_NUM_THREADS",
        "POLARS_MAX_THREADS",   "RAYON_NUM_THREADS", "RAYON_RS_NUM_CPUS",
        "TOKIO_WORKER_THREADS",
    };
    for (size_t i = 0; i < sizeof(variables) / sizeof(*variables); i++) {
        if (strcmp(name, variables[i]) == 0) {
            atoll_lock_acquire(&iso->lock);
            if (iso->thread_limit[0] == '\0') {
                PyOS_snprintf(iso->thread_limit, sizeof(iso->thread_limit), "%u",
                              threads_share());
            }
            atoll_lock_release(&iso->lock);
            return iso->thread_limit; /* written once */
        }
    }
    return NULL;
}

char *
api_get_env(const char *name, isolate *iso)
{
    char *value = getenv(name);
    return value != NULL ? value : system_limited(name, iso);
}

char *
api_secure_get_env(const char *name, isolate *iso)
{
    char *value = secure_getenv(name);
    return value != NULL ? value : system_limited(name, iso);
}
