/* Who is live, and who is not. See watch/watch.c and watch/watch.h; what these are told
 * is in watch/tell.c. */
#include "watch/watch.h"

#include <stdlib.h>
#include <string.h>

#include "isolate/isolate.h"
#include "pool/pool.h"

/* --------------------------------------------------------- the first answer */

static bool
waits_for_ever(wait_record *r)
{
    return r->deadline == ATOLL_FOREVER && r->kick != NULL && r->count > 0 &&
           atoll_kick_waits(r->kick);
}

/* Is there something that would end whatever it waits for? */
static bool
is_being_stopped(job *j)
{
    const task *t = task_of(j);
    atoll_lock_acquire(&j->lock);
    bool settled = j->status != JOB_PENDING; /* cancelled: it is interrupted */
    atoll_lock_release(&j->lock);
    return settled || (t != NULL && t->limit != ATOLL_FOREVER);
}

/* Has its home nothing to do (*idle), or nothing but to run its job? */
static bool
home_is_quiet(home *h, bool *idle)
{
    atoll_lock_acquire(&h->lock);
    *idle = h->state == HOME_IDLE;
    bool quiet = *idle || (h->state == HOME_RUNNING && !is_being_stopped(h->current));
    atoll_lock_release(&h->lock);
    return quiet;
}

/* Does anything speak for its being live by itself? */
static bool
is_busy(party_look *l)
{
    party *p = l->party;
    bool at_home = false;
    if (p->closing) {
        return true;
    }
    home *h = home_of_host(p->host);
    if (h != NULL && (!home_is_quiet(h, &l->idle) ||
                      (h->isolate != NULL && isolate_has_threads(h->isolate)))) {
        return true;
    }
    for (wait_record *r = p->records; r != NULL; r = r->next) {
        if (!waits_for_ever(r)) {
            return true;
        }
        at_home = at_home || r->at_home;
    }
    if (h != NULL) {
        return l->idle ? at_home : !at_home;
    }
    return p->records == NULL;
}

const party_look *
view_before(const view *v, const party *p)
{
    for (size_t i = 0; i < v->before->kept_count; i++) {
        if (v->before->kept[i]->party == p) {
            return v->before->kept[i];
        }
    }
    return NULL;
}

/* The second time: is it what the visitor has seen? */
static bool
has_changed(const party_look *l, const party_look *seen)
{
    size_t records = 0;
    for (const wait_record *r = l->party->records; r != NULL; r = r->next) {
        records++;
    }
    return seen == NULL || !seen->visited || seen->epoch != l->epoch ||
           seen->idle != l->idle || seen->stacks.has_handlers ||
           seen->stacks.states != records + (l->idle ? 1 : 0);
}

/* Threads that are neither ours nor in a wait: a library's, that may come into main
 * whenever they want, or those of interpreters that are busy anyway. */
static bool
are_there_strangers(const view *v)
{
    size_t known = v->before->known_threads;
    for (size_t i = 0; i < v->before->kept_count; i++) {
        const party_look *l = v->before->kept[i];
        if (l->visited && l->party->is_main) {
            known += l->stacks.states;
        }
        else if (l->visited && l->party->host != NULL) {
            known += l->stacks.states - 1; /* its home thread is one of ours */
        }
    }
    return v->before->threads == 0 || v->before->threads > known;
}

bool
view_make(view *v, party *table, bool *wanted)
{
    bool due = false;
    for (party *p = table; p != NULL; p = p->next) {
        v->count++;
        for (wait_record *r = p->records; r != NULL; r = r->next) {
            *wanted = *wanted || r->watched;
            due = due || (r->watched && r->since <= v->young);
        }
    }
    if (!due) {
        return false;
    }
    v->parties = atoll_alloc(v->count * sizeof(*v->parties));
    if (v->parties == NULL) {
        return false;
    }
    bool strangers = v->before != NULL && are_there_strangers(v);
    size_t i = 0;
    for (party *p = table; p != NULL; p = p->next, i++) {
        party_look *l = &v->parties[i];
        const party_look *seen = v->before == NULL ? NULL : view_before(v, p);
        *l = (party_look){.party = p, .epoch = p->epoch, .group = i};
        l->live = is_busy(l);
        if (v->before != NULL && !l->live) {
            l->live = has_changed(l, seen) || (strangers && p->is_main);
        }
    }
    return true;
}

/* ---------------------------------------------------------------- questions */

static void
note_edge(view *v, size_t to)
{
    if (!v->log) {
        return;
    }
    if (v->edge_count == v->edge_room) {
        size_t room = 2 * v->edge_room + 32;
        edge *more = atoll_realloc(v->edges, room * sizeof(*more));
        if (more == NULL) {
            v->failed = true;
            return;
        }
        v->edges = more;
        v->edge_room = room;
    }
    v->edges[v->edge_count++] = (edge){v->asking, to};
}

/* See waits_view.live. */
static bool
view_live(waits_view *asks, int64_t id)
{
    view *v = (view *)asks;
    for (size_t i = 0; i < v->count; i++) {
        if (v->parties[i].party->id == id) {
            note_edge(v, i);
            return v->parties[i].live;
        }
    }
    return true;
}

/* See waits_view.any_live. */
static bool
view_any_live(waits_view *asks)
{
    const view *v = (view *)asks;
    for (size_t i = 0; i < v->count; i++) {
        if (v->parties[i].live) {
            return true;
        }
    }
    return false;
}

static int
by_object(const void *a, const void *b)
{
    uintptr_t x = (uintptr_t)((const hold_look *)a)->object;
    uintptr_t y = (uintptr_t)((const hold_look *)b)->object;
    return (x > y) - (x < y);
}

/* All holds, sorted. */
static bool
make_holds(view *v)
{
    if (v->holds != NULL || v->failed) {
        return !v->failed;
    }
    size_t count = 0;
    for (size_t i = 0; i < v->count; i++) {
        for (wait_hold *h = v->parties[i].party->holds; h; h = h->next) {
            count++;
        }
    }
    v->holds = atoll_alloc((count + 1) * sizeof(*v->holds));
    if (v->holds == NULL) {
        v->failed = true;
        return false;
    }
    for (size_t i = 0; i < v->count; i++) {
        for (wait_hold *h = v->parties[i].party->holds; h; h = h->next) {
            v->holds[v->hold_count++] = (hold_look){h->object, h->side, i};
        }
    }
    qsort(v->holds, count, sizeof(*v->holds), by_object);
    return true;
}

/* The first hold of `object`; the end if there is none. */
static const hold_look *
first_hold(const view *v, const void *object)
{
    size_t low = 0, high = v->hold_count;
    while (low < high) {
        size_t middle = low + (high - low) / 2;
        if ((uintptr_t)v->holds[middle].object < (uintptr_t)object) {
            low = middle + 1;
        }
        else {
            high = middle;
        }
    }
    return v->holds + low;
}

/* See waits_view.held. */
static size_t
view_held(waits_view *asks, const void *object, int side)
{
    view *v = (view *)asks;
    size_t count = 0;
    if (!make_holds(v)) {
        return 0;
    }
    const hold_look *end = v->holds + v->hold_count;
    const hold_look *h = first_hold(v, object);
    for (; h < end && h->object == object; h++) {
        count += side < 0 || h->side == side;
    }
    return count;
}

/* See waits_view.held_live. */
static bool
view_held_live(waits_view *asks, const void *object, int side)
{
    view *v = (view *)asks;
    if (!make_holds(v)) {
        return true;
    }
    bool live = false;
    const hold_look *end = v->holds + v->hold_count;
    const hold_look *h = first_hold(v, object);
    for (; h < end && h->object == object; h++) {
        if (side < 0 || h->side == side) {
            note_edge(v, h->owner);
            live = live || v->parties[h->owner].live;
        }
    }
    return live;
}

void
view_init(view *v)
{
    v->asks = (waits_view){.live = view_live,
                           .any_live = view_any_live,
                           .held = view_held,
                           .held_live = view_held_live};
}

/* ------------------------------------------------------------------- finding */

bool
view_may_end(view *v, const wait_record *r)
{
    for (size_t i = 0; i < r->count; i++) {
        const wait_type *type = r->cases[i].type;
        if (type->may_end == NULL || type->may_end(r->cases[i].object, &v->asks)) {
            return true;
        }
    }
    return false;
}

static bool
becomes_live(view *v, party_look *l)
{
    if (l->idle && view_any_live(&v->asks)) {
        return true; /* it may be given something to do */
    }
    for (wait_record *r = l->party->records; r != NULL; r = r->next) {
        if (view_may_end(v, r)) {
            return true;
        }
    }
    return false;
}

size_t
view_find(view *v)
{
    size_t left;
    bool changed;
    do {
        left = 0;
        changed = false;
        for (size_t i = 0; i < v->count; i++) {
            party_look *l = &v->parties[i];
            if (!l->live && becomes_live(v, l)) {
                l->live = changed = true;
            }
            left += !l->live && l->party->records != NULL;
        }
    } while (changed);
    return v->failed ? 0 : left;
}

bool
view_keep(view *v)
{
    v->kept = atoll_alloc(v->count * sizeof(*v->kept));
    if (v->kept == NULL) {
        return false;
    }
    for (size_t i = 0; i < v->count; i++) {
        party_look *l = &v->parties[i];
        if (!l->live && visit_begin(l->party)) {
            v->kept[v->kept_count++] = l;
        }
    }
    return true;
}

void
view_free(view *v)
{
    for (size_t i = 0; i < v->count && v->parties != NULL; i++) {
        stacks_free(&v->parties[i].stacks);
    }
    atoll_free(v->parties);
    atoll_free(v->holds);
    atoll_free(v->kept);
    atoll_free(v->edges);
}
