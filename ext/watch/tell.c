/* The text of a DeadlockError, and which of the waits end with it. See watch/watch.c.
 */
#include "watch/watch.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "async/async.h"
#include "home/home.h"

/* ------------------------------------------------------------------- groups */

static size_t
root_of(view *v, size_t i)
{
    while (v->parties[i].group != i) {
        i = v->parties[i].group;
    }
    return i;
}

/* Who was asked about by whom; who is connected with whom; who is in a circle. */
static void
tell_connect(view *v)
{
    v->log = true;
    for (size_t i = 0; i < v->count; i++) {
        v->asking = i;
        for (wait_record *r = v->parties[i].party->records;
             r != NULL && !v->parties[i].live; r = r->next) {
            bool may = view_may_end(v, r);
            v->failed = v->failed || may;
        }
    }
    v->log = false;
    for (size_t i = 0; i < v->edge_count; i++) {
        size_t a = root_of(v, v->edges[i].from);
        size_t b = root_of(v, v->edges[i].to);
        v->parties[a].group = b;
    }
}

/* Does a path of edges lead from `start` to itself? */
static bool
is_in_circle(const view *v, size_t start, bool *seen)
{
    memset(seen, 0, v->count * sizeof(*seen));
    bool changed = true;
    seen[start] = true; /* reached from it */
    while (changed) {
        changed = false;
        for (size_t i = 0; i < v->edge_count; i++) {
            const edge *e = &v->edges[i];
            if (seen[e->from] && e->to == start) {
                return true;
            }
            if (seen[e->from] && !seen[e->to]) {
                seen[e->to] = changed = true;
            }
        }
    }
    return false;
}

static bool
is_for_task(const wait_record *r)
{
    for (size_t i = 0; i < r->count; i++) {
        if (r->cases[i].type->for_task) {
            return true;
        }
    }
    return false;
}

/* The thread that calls back for futures is nobody to be told. */
static bool
is_of_user(const wait_record *r)
{
    return r->cases[0].type != &wait_events;
}

typedef struct text {
    char data[4096];
    size_t size;
} text;

static void
tell_add(text *t, const char *format, ...)
{
    va_list args;
    va_start(args, format);
    size_t room = sizeof(t->data) - t->size;
    int size = vsnprintf(t->data + t->size, room, format, args);
    va_end(args);
    if (size > 0) {
        t->size += (size_t)size < room ? (size_t)size : room - 1;
    }
}

static void
add_record(text *t, const view *v, const party_look *l, const wait_record *r, bool self)
{
    const party *p = l->party;
    const party_look *seen = view_before(v, p);
    const thread_stack *thread =
        seen == NULL ? NULL : stacks_find(&seen->stacks, r->ident);
    tell_add(t, "\n  interpreter %lld", (long long)p->id);
    if (p->is_main) {
        tell_add(t, " (main)");
    }
    else if (p->host != NULL) {
        char name[80];
        home_read_name(home_of_host(p->host), name, sizeof(name));
        if (name[0] != '\0') {
            tell_add(t, " '%s'", name);
        }
    }
    if (thread != NULL && thread->name[0] != '\0') {
        tell_add(t, ", thread %s", thread->name);
    }
    if (self) {
        tell_add(t, " (here)");
    }
    tell_add(t, " waits for ");
    for (size_t i = 0; i < r->count; i++) {
        char what[160] = "";
        r->cases[i].type->describe(r->cases[i].object, what, sizeof(what));
        tell_add(t, i == 0 ? "%s" : " or %s", what);
    }
    if (thread != NULL && thread->where[0] != '\0') {
        tell_add(t, " at %s", thread->where);
    }
}

/* End the wait of `told`, whose party is in the group `root`. */
static void
tell_tell(view *v, wait_record *told, size_t root)
{
    text *t = atoll_alloc(sizeof(*t));
    if (t == NULL) {
        return; /* the next look may have more luck */
    }
    t->size = 0;
    t->data[0] = '\0';
    tell_add(t, "all who could end this wait wait for ever themselves:");
    for (size_t i = 0; i < v->count; i++) {
        party_look *l = &v->parties[i];
        wait_record *r = l->live || root_of(v, i) != root ? NULL : l->party->records;
        for (; r != NULL; r = r->next) {
            add_record(t, v, l, r, r == told);
        }
    }
    atoll_free(told->verdict);
    told->verdict = (char *)t; /* the text is its first member */
    atoll_kick_set(told->kick);
}

/* Is there a wait in the group that is to be ended before those for tasks? */
static bool
has_others(view *v, size_t root)
{
    for (size_t i = 0; i < v->count; i++) {
        if (!v->parties[i].live && root_of(v, i) == root) {
            wait_record *r = v->parties[i].party->records;
            for (; r != NULL; r = r->next) {
                if (r->watched && !is_for_task(r)) {
                    return true;
                }
            }
        }
    }
    return false;
}

void
view_deliver(view *v)
{
    tell_connect(v);
    bool *seen = atoll_alloc(v->count * sizeof(*seen));
    if (seen == NULL || v->failed) {
        atoll_free(seen);
        return;
    }
    for (size_t i = 0; i < v->count; i++) {
        party_look *l = &v->parties[i];
        if (l->live) {
            continue;
        }
        size_t root = root_of(v, i);
        bool others = has_others(v, root);
        bool circle = !others && is_in_circle(v, i, seen);
        for (wait_record *r = l->party->records; r != NULL; r = r->next) {
            bool due = is_for_task(r) ? circle && is_of_user(r) : true;
            if (r->watched && due) {
                tell_tell(v, r, root);
            }
        }
    }
    atoll_free(seen);
}
