/* See home/spare.h. */
#include "home/spare.h"

#include <stdlib.h>
#include <string.h>

/* So many kinds are remembered, and so many spares kept, of all kinds. */
#define KINDS 4
#define SPARES_MAX 16
/* Whoever has just taken one needs the cores now. */
#define DELAY_NS INT64_C(50000000)

typedef struct kind {
    home_plan plan; /* owned */
    uint32_t wanted;
    uint32_t count;
    home *homes[SPARES_MAX]; /* with a reference and a handle */
} kind;

static struct {
    atoll_lock lock;
    kind kinds[KINDS]; /* guarded by lock: the one used last is first */
    uint32_t known;    /* guarded by lock: how many there are */
    uint32_t usual;    /* guarded by lock: spares of an expected kind */
    bool ready;        /* guarded by lock: `usual` is set */
    bool ended;        /* guarded by lock */
    bool due;          /* guarded by lock: the timer is set */
    atoll_timer timer;
} spares;

/* ATOLL_SPARES, or one. With the lock held. */
static uint32_t
spare_usual(void)
{
    if (!spares.ready) {
        const char *text = getenv("ATOLL_SPARES");
        long count = text == NULL ? 1 : strtol(text, NULL, 10);
        spares.usual = count < 0            ? 0
                       : count > SPARES_MAX ? SPARES_MAX
                                            : (uint32_t)count;
        spares.ready = true;
    }
    return spares.usual;
}

/* Move the kind to the front; NULL if it is not known. With the lock held. */
static kind *
spare_find(const home_plan *plan)
{
    for (uint32_t i = 0; i < spares.known; i++) {
        kind found = spares.kinds[i];
        if (found.plan.isolated == plan->isolated &&
            found.plan.key_size == plan->key_size &&
            memcmp(found.plan.key, plan->key, plan->key_size) == 0) {
            memmove(&spares.kinds[1], &spares.kinds[0], i * sizeof(kind));
            follow_unref(found.plan.follow); /* the next one is made as of now */
            found.plan.follow = follow_ref(plan->follow);
            spares.kinds[0] = found;
            return &spares.kinds[0];
        }
    }
    return NULL;
}

static void
spare_forget(kind *k)
{
    for (uint32_t i = 0; i < k->count; i++) {
        home_handle_unref(k->homes[i]); /* it closes */
        home_unref(k->homes[i]);
    }
    plan_drop(&k->plan);
}

/* The kind, made if need be: at the front. NULL without memory. With the lock held;
 * a kind that has to make room goes to *dropped. */
static kind *
find_or_add(const home_plan *plan, kind *dropped)
{
    kind *k = spare_find(plan);
    home_plan copy;
    if (k != NULL || plan_clone(plan, &copy) != ATOLL_OK) {
        return k;
    }
    if (spares.known == KINDS) {
        *dropped = spares.kinds[--spares.known];
    }
    memmove(&spares.kinds[1], &spares.kinds[0], spares.known * sizeof(kind));
    spares.known++;
    spares.kinds[0] = (kind){.plan = copy};
    return &spares.kinds[0];
}

/* ------------------------------------------------------------------- making */

/* Take out what has ended (it could not be made). With the lock held; returns
 * such a home, or NULL. */
static home *
remove_dead(kind *k)
{
    for (uint32_t i = 0; i < k->count; i++) {
        if (home_state_now(k->homes[i]) == HOME_ENDED) {
            home *h = k->homes[i];
            k->homes[i] = k->homes[--k->count];
            k->wanted = 0; /* it would fail again */
            return h;
        }
    }
    return NULL;
}

static uint32_t
spare_total(void)
{
    uint32_t count = 0;
    for (uint32_t i = 0; i < spares.known; i++) {
        count += spares.kinds[i].count;
    }
    return count;
}

/* Make one that is missing. False: none is. */
static bool
make_one(void)
{
    home *h = NULL;
    atoll_lock_acquire(&spares.lock);
    kind *k = NULL;
    for (uint32_t i = 0; i < spares.known && !spares.ended; i++) {
        kind *candidate = &spares.kinds[i];
        while ((h = remove_dead(candidate)) != NULL) {
            home_handle_unref(h);
            home_unref(h);
        }
        if (candidate->count < candidate->wanted && spare_total() < SPARES_MAX) {
            k = candidate;
            break;
        }
    }
    /* Under the lock: so it is in the list before it can be looked for. */
    bool made = k != NULL && home_new_spare(&k->plan, &h) == ATOLL_OK;
    if (made) {
        k->homes[k->count++] = h;
    }
    else if (k != NULL) {
        k->wanted = 0;
    }
    atoll_lock_release(&spares.lock);
    return made;
}

static void
make_all(void)
{
    while (make_one()) {
    }
}

static void
timer_fires(atoll_timer *Py_UNUSED(timer))
{
    atoll_lock_acquire(&spares.lock);
    spares.due = false;
    atoll_lock_release(&spares.lock);
    make_all();
}

/* With the lock held. */
static void
make_soon(void)
{
    if (!spares.due && !spares.ended) {
        spares.timer.fire = timer_fires;
        spares.due =
            atoll_timer_start(&spares.timer, atoll_now() + DELAY_NS) == ATOLL_OK;
    }
}

/* -------------------------------------------------------------------- using */

home *
spare_take(const home_plan *plan)
{
    home *h = NULL;
    atoll_lock_acquire(&spares.lock);
    kind *k = spare_find(plan);
    for (uint32_t i = 0; k != NULL && i < k->count; i++) {
        if (home_state_now(k->homes[i]) == HOME_IDLE) {
            h = k->homes[i];
            h->depth = plan->depth; /* nothing runs in it */
            k->homes[i] = k->homes[--k->count];
            make_soon();
            break;
        }
    }
    atoll_lock_release(&spares.lock);
    return h;
}

void
spare_expect(const home_plan *plan)
{
    kind dropped = {0};
    atoll_lock_acquire(&spares.lock);
    if (spare_usual() > 0 && !spares.ended) {
        kind *k = find_or_add(plan, &dropped);
        if (k != NULL && k->wanted < spare_usual()) {
            k->wanted = spare_usual();
        }
        make_soon();
    }
    atoll_lock_release(&spares.lock);
    spare_forget(&dropped);
}

uint32_t
spare_set(const home_plan *plan, uint32_t count)
{
    kind dropped = {0};
    atoll_lock_acquire(&spares.lock);
    kind *k = spares.ended ? NULL : find_or_add(plan, &dropped);
    if (k != NULL) {
        k->wanted = count > SPARES_MAX ? SPARES_MAX : count;
    }
    atoll_lock_release(&spares.lock);
    spare_forget(&dropped);
    make_all();
    atoll_lock_acquire(&spares.lock);
    k = spare_find(plan);
    count = k == NULL ? 0 : k->count;
    atoll_lock_release(&spares.lock);
    return count;
}

/* Take all kinds out. */
static void
drop_all(bool for_ever)
{
    kind gone[KINDS];
    atoll_lock_acquire(&spares.lock);
    uint32_t count = spares.known;
    memcpy(gone, spares.kinds, count * sizeof(kind));
    spares.known = 0;
    spares.usual = 0;
    spares.ready = true;
    spares.ended |= for_ever;
    atoll_lock_release(&spares.lock);
    for (uint32_t i = 0; i < count; i++) {
        spare_forget(&gone[i]);
    }
}

void
spare_off(void)
{
    drop_all(false);
}

void
spare_end(void)
{
    drop_all(true);
}

home *
spare_unready(void)
{
    home *h = NULL;
    atoll_lock_acquire(&spares.lock);
    for (uint32_t i = 0; i < spares.known && h == NULL; i++) {
        for (uint32_t n = 0; n < spares.kinds[i].count && h == NULL; n++) {
            home *candidate = spares.kinds[i].homes[n];
            if (home_state_now(candidate) == HOME_STARTING) {
                h = candidate;
                home_ref(h);
            }
        }
    }
    atoll_lock_release(&spares.lock);
    return h;
}

void
spare_fork_child(void)
{
    spares.lock.word = 0;
    spares.known = 0;
    spares.due = false;
    spares.timer = (atoll_timer){0};
}
