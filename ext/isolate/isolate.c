/* The life of an isolate; see isolate/isolate.h. */
#include "isolate/isolate.h"

#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "cpython/runtime.h"
#include "wait/wait.h"

static void
isolate_free(isolate *iso)
{
    while (iso->memory != NULL) {
        isolate_memory *m = iso->memory;
        iso->memory = m->next;
        atoll_free(m);
    }
    atoll_thunks_free(iso->thunks);
    atoll_free(iso->keys);
    atoll_free(iso->tss);
    atoll_free(iso);
}

isolate *
isolate_new(void)
{
    isolate *iso = atoll_alloc(sizeof(*iso));
    if (iso == NULL) {
        PyErr_NoMemory();
        return NULL;
    }
    memset(iso, 0, sizeof(*iso));
    iso->interp = PyInterpreterState_Get();
    iso->id = PyInterpreterState_GetID(iso->interp);
    iso->process = getpid();
    iso->home = atoll_thread_self();
    iso->parsers_known = runtime_find_parsers();
    if (isolate_redirect(iso) < 0) {
        isolate_free(iso);
        return NULL;
    }
    threads_begin();
    return iso;
}

/* ------------------------------------------------------------------ closing */

bool
isolate_close(isolate *iso, int64_t deadline)
{
    atoll_wait wait = {.deadline = deadline};
    atoll_event quiet = {0};
    atoll_event *resumed = isolate_alloc(iso, sizeof(*resumed));
    if (resumed == NULL) {
        return false;
    }
    memset(resumed, 0, sizeof(*resumed));
    atoll_lock_acquire(&iso->lock);
    iso->closing = true;
    iso->resumed = resumed;
    bool empty = iso->visitors == NULL;
    iso->quiet = empty ? NULL : &quiet;
    atoll_lock_release(&iso->lock);
    if (empty) {
        return true;
    }
    /* They need the GIL to leave. */
    Py_BEGIN_ALLOW_THREADS(void)
    !atoll_event_wait(&quiet, &wait);
    Py_END_ALLOW_THREADS
    atoll_lock_acquire(&iso->lock);
    empty = iso->visitors == NULL;
    iso->quiet = NULL;
    atoll_lock_release(&iso->lock);
    if (!empty) {
        isolate_reopen(iso);
    }
    return empty;
}

void
isolate_reopen(isolate *iso)
{
    atoll_lock_acquire(&iso->lock);
    iso->closing = false;
    atoll_event_set(iso->resumed);
    atoll_lock_release(&iso->lock);
}

void
isolate_abandon(isolate *iso)
{
    atoll_lock_acquire(&iso->lock);
    iso->abandoned = true;
    atoll_lock_release(&iso->lock);
}

/* Thread-local keys whose makers forget them: without this, a process could
 * make about a thousand copies of some modules and no more. */
static void
delete_keys(isolate *iso)
{
    for (size_t i = 0; i < iso->tss_count; i++) {
        PyThread_tss_delete(iso->tss[i]); /* in the data of a copy */
    }
    for (size_t i = 0; i < iso->key_count; i++) {
        /* Threads of copies that stay may still use theirs. */
        if (!atoll_elf_space_keeps(iso->space, iso->keys[i].owner)) {
            atoll_tls_key_free(iso->keys[i].key);
        }
        else {
            /* This one is about to end, and its objects are gone. */
            atoll_tls_set(iso->keys[i].key, NULL);
        }
    }
    iso->tss_count = iso->key_count = 0;
}

/* Copies that are about to be unmapped: all but the first `count`. */
typedef struct goers {
    const isolate *iso;
    size_t count;
} goers;

static bool
goes_last(const void *address, void *arg)
{
    const goers *g = arg;
    return atoll_elf_space_has(g->iso->space, g->count, address);
}

static bool
goes_at_the_end(const void *address, void *arg)
{
    const goers *g = arg;
    return goes_last(address, arg) && !atoll_elf_space_keeps(g->iso->space, address);
}

void
isolate_drop_last(isolate *iso, size_t count)
{
    goers last = {iso, count};
    if (runtime_find_parsers()) {
        runtime_forget_parsers(goes_last, &last);
        atoll_elf_space_drop_last(iso->space, count);
    }
}

void
isolate_end(isolate *iso)
{
    if (iso == NULL) {
        return;
    }
    atoll_lock_acquire(&iso->lock);
    iso->closing = iso->ended = true;
    bool unload = iso->threads == 0 && iso->visitors == NULL && iso->late == 0;
    atoll_lock_release(&iso->lock);
    /* If it is not known where CPython keeps the addresses of parsers, it may go to
     * them when the copies are gone. */
    unload &= iso->parsers_known;
    unload &= isolate_silence(iso);
    threads_end(iso);
    forks_forget(iso);
    for (isolate_exit *e = iso->exits; e != NULL; e = e->next) {
        e->func();
    }
    if (unload) {
        goers all = {iso, 0};
        delete_keys(iso);
        runtime_forget_parsers(goes_at_the_end, &all);
    }
    if (atoll_elf_space_free(iso->space, unload)) {
        isolate_free(iso);
    }
    /* Else what is left of the copies may still call into it. */
}
