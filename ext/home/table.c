/* The table of all homes of the process: see home/home.h. */
#include "home/home.h"

#include <string.h>

static atoll_lock table_lock;
static home *table;        /* guarded by table_lock: all that have not ended */
static home *zombies;      /* guarded by table_lock: ended, to be joined */
static bool shutting_down; /* guarded by table_lock */

/* Take it out of the list; false if it is not in it. With the lock held. */
static bool
unlink_locked(home *h)
{
    home **link = &table;
    while (*link != NULL && *link != h) {
        link = &(*link)->next;
    }
    bool there = *link == h;
    if (there) {
        *link = h->next;
    }
    return there;
}

bool
homes_add(home *h)
{
    atoll_lock_acquire(&table_lock);
    bool welcome = !shutting_down;
    if (welcome) {
        h->next = table;
        table = h;
    }
    atoll_lock_release(&table_lock);
    return welcome;
}

void
homes_remove(home *h)
{
    atoll_lock_acquire(&table_lock);
    unlink_locked(h);
    atoll_lock_release(&table_lock);
}

void
homes_retire(home *h)
{
    atoll_lock_acquire(&table_lock);
    if (unlink_locked(h)) {
        h->next = zombies;
        zombies = h; /* the table's reference goes with it */
    }
    atoll_lock_release(&table_lock);
}

void
homes_set_id(home *h, int64_t id)
{
    atoll_lock_acquire(&table_lock);
    h->id = id;
    atoll_lock_release(&table_lock);
}

void
home_reap(void)
{
    atoll_lock_acquire(&table_lock);
    home *list = zombies;
    zombies = NULL;
    atoll_lock_release(&table_lock);
    while (list != NULL) {
        home *next = list->next;
        atoll_thread_join(list->host.thread); /* it is on its last lines */
        home_unref(list);
        list = next;
    }
}

void
home_read_name(home *h, char *text, size_t size)
{
    text[0] = '\0';
    atoll_lock_acquire(&h->lock);
    if (!h->spare) {
        strncpy(text, h->name, size - 1);
        text[size - 1] = '\0';
    }
    atoll_lock_release(&h->lock);
}

void
home_copy_name(int64_t id, char *text, size_t size)
{
    text[0] = '\0';
    atoll_lock_acquire(&table_lock);
    home *h = table;
    while (h != NULL && h->id != id) {
        h = h->next;
    }
    if (h != NULL) {
        home_read_name(h, text, size);
    }
    atoll_lock_release(&table_lock);
}

home *
home_find(int64_t id, bool any)
{
    atoll_lock_acquire(&table_lock);
    home *h = table;
    while (h != NULL && h->id != id) {
        h = h->next;
    }
    if (h != NULL) {
        atoll_lock_acquire(&h->lock);
        bool usable =
            (!h->spare && (h->state == HOME_IDLE || h->state == HOME_RUNNING)) ||
            (any && h->state != HOME_ENDED);
        if (usable) {
            h->handles++;
            home_ref(h);
        }
        atoll_lock_release(&h->lock);
        h = usable ? h : NULL;
    }
    atoll_lock_release(&table_lock);
    return h;
}

home **
homes_close(void)
{
    size_t count = 0, i = 0;
    atoll_lock_acquire(&table_lock);
    shutting_down = true;
    for (home *h = table; h != NULL; h = h->next) {
        count++;
    }
    home **homes = atoll_alloc((count + 1) * sizeof(*homes));
    if (homes != NULL) {
        for (home *h = table; h != NULL; h = h->next) {
            home_ref(h);
            homes[i++] = h;
        }
        homes[i] = NULL;
    }
    atoll_lock_release(&table_lock);
    return homes;
}

/* --------------------------------------------------------------------- fork */

void
home_fork_prepare(void)
{
    atoll_lock_acquire(&table_lock);
}

void
home_fork_parent(void)
{
    atoll_lock_release(&table_lock);
}

void
home_fork_child(void)
{
    /* None of the threads is here. Handles find their home ENDED; what the
     * interpreters owned is lost memory. */
    table_lock.word = 0;
    for (home *h = table; h != NULL; h = h->next) {
        h->lock.word = 0;
        h->host.kick = (atoll_kick){0};
        h->state = HOME_ENDED;
        h->interp = NULL;
        h->current = NULL;
    }
    table = NULL;
    zombies = NULL;
}
