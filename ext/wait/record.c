/* Parties, records and holds. See wait/record.h. */
#include "wait/record.h"

#include <string.h>

#include "wait/wait.h"

static atoll_lock table_lock;
static party *table;                       /* guarded by table_lock */
static const waits_watcher *table_watcher; /* constant once begun */

void
waits_set_watcher(const waits_watcher *watcher)
{
    table_watcher = watcher;
}

/* ----------------------------------------------------------------- parties */

int
waits_party_begin(core_state *state)
{
    party *p = atoll_alloc(sizeof(*p));
    if (p == NULL) {
        PyErr_NoMemory();
        return -1;
    }
    *p = (party){.interp = PyInterpreterState_Get(),
                 .id = state->interp_id,
                 .is_main = state->is_main};
    state->wait->party = p;
    atoll_lock_acquire(&table_lock);
    p->watch_all = table_watcher->wants_all(); /* who sets it locks the table */
    p->next = table;
    if (table != NULL) {
        table->prev = p;
    }
    table = p;
    atoll_lock_release(&table_lock);
    return 0;
}

void
waits_party_set_host(core_state *state, wait_host *host)
{
    party *p = state->wait->party;
    atoll_lock_acquire(&table_lock); /* waits_party_gone looks under this one */
    atoll_lock_acquire(&p->lock);
    p->host = host;
    atoll_lock_release(&p->lock);
    atoll_lock_release(&table_lock);
}

/* Out of the table, which is locked; releases that lock. */
static void
remove_party(party *p)
{
    *(p->prev == NULL ? &table : &p->prev->next) = p->next;
    if (p->next != NULL) {
        p->next->prev = p->prev;
    }
    atoll_lock_release(&table_lock);
}

void
waits_party_end(core_state *state)
{
    party *p = state->wait->party;
    if (p == NULL) {
        return;
    }
    state->wait->party = NULL;
    atoll_lock_acquire(&table_lock);
    remove_party(p);
    atoll_lock_acquire(&p->lock);
    /* Daemon threads of main may still wait, and handles outlive the module. */
    bool used = p->records != NULL || p->holds != NULL || p->visitors > 0;
    atoll_lock_release(&p->lock);
    if (!used) {
        atoll_free(p);
    }
}

void
waits_party_gone(const wait_host *host)
{
    atoll_lock_acquire(&table_lock);
    party *p = table;
    while (p != NULL && p->host != host) {
        p = p->next;
    }
    if (p == NULL) {
        atoll_lock_release(&table_lock);
        return;
    }
    remove_party(p);
    atoll_free(p);
}

party *
waits_lock_all(void)
{
    atoll_lock_acquire(&table_lock);
    for (party *p = table; p != NULL; p = p->next) {
        atoll_lock_acquire(&p->lock);
    }
    return table;
}

void
waits_unlock_all(void)
{
    for (party *p = table; p != NULL; p = p->next) {
        atoll_lock_release(&p->lock);
    }
    atoll_lock_release(&table_lock);
}

/* ----------------------------------------------------------------- records */

void
waits_init(wait_record *r, core_state *state, wait_host *host, const wait_case *cases,
           size_t count, int64_t deadline)
{
    *r = (wait_record){.party = state->wait->party,
                       .cases = cases,
                       .count = count,
                       .since = atoll_now(),
                       .deadline = deadline,
                       .ident = PyThread_get_thread_ident(),
                       .at_home = host != NULL};
    if (host != NULL) {
        r->kick = &host->kick;
    }
    else if (deadline == ATOLL_FOREVER) {
        r->kick = &r->own_kick;
    }
    r->of_task = state->wait->party->watched;
}

void
waits_enter(wait_record *r)
{
    party *p = r->party;
    bool tell = false;
    atoll_lock_acquire(&p->lock);
    r->next = p->records;
    r->prev = NULL;
    if (r->next != NULL) {
        r->next->prev = r;
    }
    p->records = r;
    p->epoch++;
    r->watched = r->deadline == ATOLL_FOREVER && (r->of_task || p->watch_all);
    if (r->watched && r->since - p->notified >= WATCH_GRACE) {
        p->notified = r->since;
        tell = true;
    }
    atoll_lock_release(&p->lock);
    if (tell) {
        table_watcher->notify();
    }
}

void
waits_leave(wait_record *r)
{
    party *p = r->party;
    atoll_lock_acquire(&p->lock);
    *(r->prev == NULL ? &p->records : &r->prev->next) = r->next;
    if (r->next != NULL) {
        r->next->prev = r->prev;
    }
    p->epoch++;
    atoll_lock_release(&p->lock);
}

/* ------------------------------------------------------------------- holds */

void
waits_hold(core_state *state, wait_hold *hold, const void *object, int side)
{
    party *p = state->wait->party;
    if (p == NULL) {
        return;
    }
    hold->object = object;
    hold->side = side;
    hold->prev = NULL;
    atoll_lock_acquire(&p->lock);
    hold->next = p->holds;
    if (hold->next != NULL) {
        hold->next->prev = hold;
    }
    p->holds = hold;
    atoll_lock_release(&p->lock);
}

void
waits_unhold(core_state *state, wait_hold *hold)
{
    party *p = state->wait->party;
    if (p == NULL) {
        return; /* the module has ended; nobody looks any more */
    }
    atoll_lock_acquire(&p->lock);
    *(hold->prev == NULL ? &p->holds : &hold->prev->next) = hold->next;
    if (hold->next != NULL) {
        hold->next->prev = hold->prev;
    }
    atoll_lock_release(&p->lock);
}

/* -------------------------------------------------------------------- fork */

void
waits_fork_prepare(void)
{
    atoll_lock_acquire(&table_lock);
}

void
waits_fork_parent(void)
{
    atoll_lock_release(&table_lock);
}

void
waits_fork_child(void)
{
    /* Main is alone, and its other threads are not here: nobody waits. What it
     * holds was changed with its GIL only, which the forking thread has. */
    table_lock.word = 0;
    party *mine = NULL;
    for (party *p = table; p != NULL; p = p->next) {
        if (p->is_main) {
            mine = p;
        }
    }
    table = mine;
    if (mine != NULL) {
        mine->prev = mine->next = NULL;
        mine->lock.word = 0;
        mine->records = NULL;
        mine->visitors = 0;
        mine->alone = NULL;
        mine->closing = false;
    }
}
