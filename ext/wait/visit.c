/* Visitors. See wait/visit.h; what they look at is in wait/stacks.c. */
#include "wait/visit.h"

#include "wait/wait.h"

typedef enum phase { COMING, INSIDE, DONE, LEFT } phase;

typedef struct visit {
    uint32_t refs; /* atomic: the visitor's and its sender's */
    atoll_lock lock;
    phase phase; /* guarded by lock */
    party *party;
    stacks *out; /* the sender's; not touched once it is LEFT; NULL: an errand */
    visit_errand errand;
    atoll_event done;
    atoll_event gone; /* the thread is on its last lines */
    atoll_thread thread;
    struct visit *next; /* guarded by left_lock */
} visit;

/* Those that were left behind, whose threads are still to be joined. */
static atoll_lock left_lock;
static visit *left; /* guarded by left_lock; a reference to each */

static const atoll_wait forever = {.deadline = ATOLL_FOREVER, .uncounted = true};

/* ------------------------------------------------------------------ the gate */

bool
visit_begin(party *p)
{
    bool welcome = !p->closing;
    p->visitors += welcome;
    return welcome;
}

void
visit_end(party *p)
{
    atoll_lock_acquire(&p->lock);
    atoll_event *alone = --p->visitors == 0 ? p->alone : NULL;
    if (alone != NULL) {
        p->alone = NULL;
    }
    atoll_lock_release(&p->lock);
    if (alone != NULL) {
        atoll_event_set(alone); /* `p` may be gone from here on */
    }
}

void
visit_close(core_state *state)
{
    party *p = state->wait->party;
    atoll_event alone = {0};
    atoll_lock_acquire(&p->lock);
    p->closing = true;
    bool wait = p->visitors > 0;
    p->alone = wait ? &alone : NULL;
    atoll_lock_release(&p->lock);
    if (wait) {
        Py_BEGIN_ALLOW_THREADS
        while (atoll_event_wait(&alone, &forever) != ATOLL_OK) {
        }
        Py_END_ALLOW_THREADS
    }
}

void
visit_reopen(core_state *state)
{
    party *p = state->wait->party;
    atoll_lock_acquire(&p->lock);
    p->closing = false;
    atoll_lock_release(&p->lock);
}

/* --------------------------------------------------------------- the visitor */

static void
visit_unref(visit *v)
{
    if (atoll_count_down(&v->refs)) {
        atoll_free(v);
    }
}

static bool
visit_enter(visit *v)
{
    atoll_lock_acquire(&v->lock);
    bool wanted = v->phase == COMING;
    if (wanted) {
        v->phase = INSIDE;
    }
    atoll_lock_release(&v->lock);
    return wanted;
}

/* Inside, attached. */
static void
visit_do(visit *v)
{
    if (v->out == NULL) {
        v->errand.inside(v->errand.arg);
        PyErr_Clear();
        return;
    }
    stacks_here(v->out);
    v->out->states--; /* our own */
}

static void *
visitor_main(void *arg)
{
    visit *v = arg;
    atoll_thread_name(atoll_thread_self(), "atoll-visitor");
    PyThreadState *ts = PyThreadState_New(v->party->interp);
    if (ts != NULL) {
        PyEval_RestoreThread(ts);
        if (visit_enter(v)) {
            visit_do(v);
        }
        PyThreadState_Clear(ts);
        PyThreadState_DeleteCurrent();
    }
    else if (visit_enter(v) && v->out != NULL) {
        v->out->failed = true;
    }
    visit_end(v->party);
    if (v->errand.over != NULL) {
        v->errand.over(v->errand.arg);
    }
    atoll_lock_acquire(&v->lock);
    v->phase = DONE;
    atoll_lock_release(&v->lock);
    atoll_event_set(&v->done);
    atoll_event_set(&v->gone);
    visit_unref(v);
    return NULL;
}

/* Join those who have come out meanwhile. */
static void
visit_reap(void)
{
    visit *done = NULL;
    atoll_lock_acquire(&left_lock);
    visit **link = &left;
    while (*link != NULL) {
        visit *v = *link;
        if (atoll_event_is_set(&v->gone)) {
            *link = v->next;
            v->next = done;
            done = v;
        }
        else {
            link = &v->next;
        }
    }
    atoll_lock_release(&left_lock);
    while (done != NULL) {
        visit *next = done->next;
        atoll_thread_join(done->thread);
        visit_unref(done);
        done = next;
    }
}

static void
leave_behind(visit *v)
{
    atoll_lock_acquire(&left_lock);
    v->next = left;
    left = v;
    atoll_lock_release(&left_lock);
}

#define STACK ((size_t)1 << 20)

atoll_err
visit_stacks(party *p, stacks *out, int64_t patience)
{
    visit_reap();
    visit *v = atoll_alloc(sizeof(*v));
    if (v == NULL) {
        return ATOLL_ERR_NOMEM;
    }
    *v = (visit){.refs = 2, .party = p, .out = out};
    atoll_lock_acquire(&p->lock);
    p->visitors++; /* the visitor's own, since it may outstay us */
    atoll_lock_release(&p->lock);
    atoll_err err = atoll_thread_start(STACK, visitor_main, v, &v->thread);
    if (err != ATOLL_OK) {
        visit_end(p);
        atoll_free(v);
        return err;
    }
    atoll_wait wait = {.deadline =
                           patience < 0 ? ATOLL_FOREVER : atoll_now() + patience,
                       .uncounted = true};
    err = atoll_event_wait(&v->done, &wait);
    if (err != ATOLL_OK) {
        atoll_lock_acquire(&v->lock);
        bool outside = v->phase == COMING;
        if (outside) {
            v->phase = LEFT;
        }
        atoll_lock_release(&v->lock);
        if (outside) {
            leave_behind(v);
            return ATOLL_ERR_TIMEOUT;
        }
        /* It is inside, and does nothing there that could block. */
        while (atoll_event_wait(&v->done, &forever) != ATOLL_OK) {
        }
    }
    atoll_thread_join(v->thread);
    visit_unref(v);
    return out->failed ? ATOLL_ERR_NOMEM : ATOLL_OK;
}

atoll_err
visit_send(party *p, const visit_errand *errand)
{
    visit_reap();
    visit *v = atoll_alloc(sizeof(*v));
    if (v == NULL) {
        return ATOLL_ERR_NOMEM;
    }
    *v = (visit){.refs = 2, .party = p, .errand = *errand};
    atoll_err err = atoll_thread_start(STACK, visitor_main, v, &v->thread);
    if (err != ATOLL_OK) {
        atoll_free(v);
        return err;
    }
    leave_behind(v);
    return ATOLL_OK;
}

void
visit_fork_child(void)
{
    left_lock.word = 0;
    left = NULL;
}
