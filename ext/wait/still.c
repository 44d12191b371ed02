/* Holding the other interpreters still. See wait/visit.h.
 *
 * For each of them a thread, its guard, takes the GIL and keeps it. They come from
 * where the table of parties is locked, as visitors do, and a guard that does not get
 * in finds, when it does after all, that all is over. */
#include "wait/visit.h"
#include "wait/wait.h"

#define STACK ((size_t)1 << 20)
#define ATTEMPT_NS INT64_C(500000000)

typedef enum phase { GATHERING, HELD, OVER } phase;

typedef struct halt {
    uint32_t refs; /* atomic */
    atoll_lock lock;
    phase phase;        /* guarded by lock */
    size_t inside;      /* guarded by lock: guards that have their GIL */
    size_t count;       /* constant once the first guard runs */
    atoll_event calm;   /* nobody is unsteady */
    atoll_event all_in; /* all guards are inside */
    atoll_event over;
} halt;

typedef struct guard {
    struct guard *next; /* guarded by left_lock, of one that is left behind */
    halt *halt;         /* counted */
    party *party;       /* kept until it leaves */
    atoll_thread thread;
    int64_t id;       /* constant: of the interpreter */
    bool inside;      /* guarded by the halt's lock: it has the GIL */
    atoll_event gone; /* the thread is on its last lines */
} guard;

static struct {
    atoll_lock lock;
    halt *now;         /* guarded by lock; counted by who holds still */
    uint32_t unsteady; /* guarded by lock */
    guard *guards;     /* of who holds still; with main's GIL */
} gate;

static atoll_lock left_lock;
static guard *left; /* guarded by left_lock */

static const atoll_wait forever = {.deadline = ATOLL_FOREVER, .uncounted = true};

static void
halt_unref(halt *h)
{
    if (atoll_count_down(&h->refs)) {
        atoll_free(h);
    }
}

/* --------------------------------------------------------- who comes and goes */

void
unsteady_begin(void)
{
    PyThreadState *ts = PyThreadState_GetUnchecked();
    for (;;) {
        atoll_lock_acquire(&gate.lock);
        halt *h = gate.now;
        if (h == NULL) {
            gate.unsteady++;
        }
        else {
            atoll_count_up(&h->refs);
        }
        atoll_lock_release(&gate.lock);
        if (h == NULL) {
            return;
        }
        if (ts != NULL) {
            PyEval_SaveThread(); /* a guard may want this GIL */
        }
        while (atoll_event_wait(&h->over, &forever) != ATOLL_OK) {
        }
        halt_unref(h);
        if (ts != NULL) {
            PyEval_RestoreThread(ts);
        }
    }
}

void
unsteady_end(void)
{
    atoll_lock_acquire(&gate.lock);
    halt *h = --gate.unsteady == 0 ? gate.now : NULL;
    if (h != NULL) {
        atoll_count_up(&h->refs);
    }
    atoll_lock_release(&gate.lock);
    if (h != NULL) {
        atoll_event_set(&h->calm);
        halt_unref(h);
    }
}

/* -------------------------------------------------------------------- guards */

/* With the GIL, until it is over. If that takes too long, while others are still being
 * gathered, it may be that they wait for what somebody here has: let go. */
static void
guard_stand(guard *g)
{
    halt *h = g->halt;
    atoll_wait patience = {.deadline = atoll_now() + 2 * ATTEMPT_NS, .uncounted = true};
    atoll_lock_acquire(&h->lock);
    bool wanted = g->inside = h->phase != OVER;
    bool last = wanted && ++h->inside == h->count;
    atoll_lock_release(&h->lock);
    if (last) {
        atoll_event_set(&h->all_in);
    }
    while (wanted && atoll_event_wait(&h->over, &patience) != ATOLL_OK) {
        atoll_lock_acquire(&h->lock);
        if (h->phase == GATHERING) {
            h->phase = OVER;
        }
        wanted = h->phase == HELD; /* which does not take long */
        atoll_lock_release(&h->lock);
        patience.deadline = ATOLL_FOREVER;
    }
}

static void *
guard_main(void *arg)
{
    guard *g = arg;
    atoll_thread_name(atoll_thread_self(), "atoll-guard");
    PyThreadState *ts = PyThreadState_New(g->party->interp);
    if (ts != NULL) { /* else the attempt fails */
        PyEval_RestoreThread(ts);
        guard_stand(g);
        PyThreadState_Clear(ts);
        PyThreadState_DeleteCurrent();
    }
    visit_end(g->party);
    atoll_event_set(&g->gone);
    return NULL;
}

static void
guard_free(guard *g)
{
    atoll_thread_join(g->thread);
    halt_unref(g->halt);
    atoll_free(g);
}

/* Free those who have gone; keep the others for the next time. Detached. */
static void
guards_dismiss(guard *g, bool all_inside)
{
    guard *stay = NULL;
    while (g != NULL) {
        guard *next = g->next;
        if (all_inside || atoll_event_is_set(&g->gone)) {
            guard_free(g);
        }
        else {
            g->next = stay;
            stay = g;
        }
        g = next;
    }
    atoll_lock_acquire(&left_lock);
    while (stay != NULL) {
        guard *next = stay->next;
        stay->next = left;
        left = stay;
        stay = next;
    }
    atoll_lock_release(&left_lock);
}

/* A guard for each party but `own` that lives, its thread not started. */
static bool
guards_appoint(halt *h, const party *own, guard **out)
{
    bool enough = true;
    *out = NULL;
    for (party *p = waits_lock_all(); p != NULL && enough; p = p->next) {
        if (p == own || (p->closing && p->host == NULL)) {
            continue; /* who ends an interpreter that is no home's knows no guards */
        }
        guard *g = atoll_alloc(sizeof(*g));
        enough = g != NULL;
        if (enough) {
            p->visitors++; /* also while its exit handlers run */
            *g = (guard){.next = *out, .halt = h, .party = p, .id = p->id};
            *out = g;
            h->count++;
        }
    }
    waits_unlock_all();
    return enough;
}

/* Start their threads; those that cannot be are freed, and h->count is too high then.
 */
static guard *
guards_start(halt *h, guard *appointed)
{
    guard *running = NULL;
    while (appointed != NULL) {
        guard *g = appointed;
        appointed = g->next;
        atoll_count_up(&h->refs);
        if (atoll_thread_start(STACK, guard_main, g, &g->thread) == ATOLL_OK) {
            g->next = running;
            running = g;
        }
        else {
            visit_end(g->party);
            halt_unref(h);
            atoll_free(g);
        }
    }
    return running;
}

/* ------------------------------------------------------------------ all still */

static void
halt_over(halt *h)
{
    atoll_lock_acquire(&h->lock);
    h->phase = OVER;
    atoll_lock_release(&h->lock);
    atoll_lock_acquire(&gate.lock);
    gate.now = NULL;
    atoll_lock_release(&gate.lock);
    atoll_event_set(&h->over);
}

/* Let the others come to rest. Detached. */
static bool
halt_gather(halt *h, const party *own, bool calm)
{
    const atoll_wait wait = {.deadline = atoll_now() + ATTEMPT_NS, .uncounted = true};
    guard *appointed;
    if (!calm && atoll_event_wait(&h->calm, &wait) != ATOLL_OK) {
        return false;
    }
    bool whole = guards_appoint(h, own, &appointed);
    gate.guards = guards_start(h, appointed);
    return whole && (h->count == 0 || atoll_event_wait(&h->all_in, &wait) == ATOLL_OK);
}

/* Become the one who holds still; false: there is another. */
static bool
halt_publish(halt *h, bool *calm)
{
    atoll_lock_acquire(&gate.lock);
    bool first = gate.now == NULL;
    if (first) {
        gate.now = h;
        *calm = gate.unsteady == 0;
    }
    atoll_lock_release(&gate.lock);
    return first;
}

/* The interpreter of a guard that is not inside, or -1. With the halt's lock. */
static int64_t
guards_outside(const guard *g)
{
    while (g != NULL && g->inside) {
        g = g->next;
    }
    return g == NULL ? -1 : g->id;
}

bool
still_begin(core_state *state, int64_t *in_way)
{
    bool calm;
    *in_way = -1;
    halt *h = atoll_alloc(sizeof(*h));
    if (h == NULL) {
        return false;
    }
    *h = (halt){.refs = 1};
    if (!halt_publish(h, &calm)) {
        halt_unref(h);
        return false;
    }
    PyThreadState *ts = PyEval_SaveThread();
    atoll_lock_acquire(&left_lock);
    guard *before = left;
    left = NULL;
    atoll_lock_release(&left_lock);
    guards_dismiss(before, false);
    bool gathered = halt_gather(h, state->wait->party, calm);
    PyEval_RestoreThread(ts);
    atoll_lock_acquire(&h->lock);
    bool held = gathered && h->phase == GATHERING;
    h->phase = held ? HELD : OVER;
    if (!held) {
        *in_way = guards_outside(gate.guards);
    }
    atoll_lock_release(&h->lock);
    if (!held) {
        guard *guards = gate.guards;
        gate.guards = NULL;
        halt_over(h);
        guards_dismiss(guards, false);
        halt_unref(h);
    }
    return held;
}

void
still_end(void)
{
    halt *h = gate.now; /* ours */
    guard *guards = gate.guards;
    gate.guards = NULL;
    halt_over(h);
    PyThreadState *ts = PyEval_SaveThread();
    guards_dismiss(guards, true);
    PyEval_RestoreThread(ts);
    halt_unref(h);
}

void
still_fork_child(void)
{
    gate.lock.word = left_lock.word = 0;
    gate.now = NULL;
    gate.guards = left = NULL;
    gate.unsteady = 0;
}
