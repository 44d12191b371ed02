/* Threads of interpreters that are not ours, and that wait for one that is.
 *
 * When the process exits their calls end with an error, which they have to deal
 * with; and a thread that still runs when CPython goes on with its finalisation
 * hangs for ever, joined by nobody (seen on 3.13, where the heap may also be
 * damaged). So main waits for such threads to end, for a while. The dict of a
 * thread state says when that is; or rather that it is about to be, with the GIL of
 * its interpreter held until its state is out of CPython's list. CPython's finalisation
 * takes the first state of that list for its own, and frees it: main must not go there
 * before. So it then waits for that GIL once, by a visit. */
#include "home/home.h"
#include "wait/visit.h"

typedef struct caller {
    struct caller **link, *next; /* guarded by lock */
    unsigned calls;              /* guarded by lock: under way */
    bool awaited;                /* guarded by lock: main waits for its end */
    party *party;                /* kept by visit_begin once it is awaited */
} caller;

static atoll_lock lock;
static caller *callers;  /* guarded by lock */
static unsigned awaited; /* guarded by lock */
static caller *ended;    /* guarded by lock: those of the awaited, by `next` */
static atoll_event all_gone;

static const char caller_key[] = "atoll caller";

static void
caller_end(PyObject *capsule)
{
    caller *c = PyCapsule_GetPointer(capsule, caller_key);
    atoll_lock_acquire(&lock);
    *c->link = c->next;
    if (c->next != NULL) {
        c->next->link = c->link;
    }
    bool was_awaited = c->awaited, last = was_awaited && --awaited == 0;
    if (was_awaited) {
        c->next = ended;
        ended = c;
    }
    atoll_lock_release(&lock);
    if (last) {
        atoll_event_set(&all_gone);
    }
    if (!was_awaited) {
        atoll_free(c);
    }
}

/* The caller of this thread, or NULL without memory. */
static caller *
caller_here(const core_state *state)
{
    PyObject *dict = PyThreadState_GetDict(); /* borrowed */
    PyObject *capsule = dict == NULL ? NULL : PyDict_GetItemString(dict, caller_key);
    if (capsule != NULL) {
        return PyCapsule_GetPointer(capsule, caller_key);
    }
    caller *c = dict == NULL ? NULL : atoll_alloc(sizeof(*c));
    if (c == NULL) {
        return NULL;
    }
    capsule = PyCapsule_New(c, caller_key, NULL);
    if (capsule == NULL || PyDict_SetItemString(dict, caller_key, capsule) < 0) {
        PyErr_Clear();
        Py_XDECREF(capsule);
        atoll_free(c);
        return NULL;
    }
    atoll_lock_acquire(&lock);
    *c = (caller){.link = &callers, .next = callers, .party = state->wait->party};
    if (callers != NULL) {
        callers->link = &c->next;
    }
    callers = c;
    atoll_lock_release(&lock);
    int rc = PyCapsule_SetDestructor(capsule, caller_end);
    (void)rc; /* the capsule is valid */
    Py_DECREF(capsule);
    return c;
}

void
callers_enter(const core_state *state)
{
    caller *c = state->is_main || state->home->self != NULL ? NULL : caller_here(state);
    if (c != NULL) {
        atoll_lock_acquire(&lock);
        c->calls++;
        atoll_lock_release(&lock);
    }
}

void
callers_leave(const core_state *state)
{
    caller *c = state->is_main || state->home->self != NULL ? NULL : caller_here(state);
    if (c != NULL) {
        atoll_lock_acquire(&lock);
        c->calls -= c->calls > 0;
        atoll_lock_release(&lock);
    }
}

static bool
callers_keep(party *p)
{
    atoll_lock_acquire(&p->lock);
    bool kept = visit_begin(p);
    atoll_lock_release(&p->lock);
    return kept;
}

void
callers_note(void)
{
    atoll_lock_acquire(&lock);
    for (caller *c = callers; c != NULL; c = c->next) {
        /* In an interpreter that closes they are waited for there. */
        if (c->calls > 0 && !c->awaited && callers_keep(c->party)) {
            c->awaited = true;
            awaited++;
        }
    }
    atoll_lock_release(&lock);
}

/* Until `p`, kept by visit_begin, has let go of its GIL; and give it up. Without a
 * limit: CPython waits for that GIL next. */
static void
pass_through(party *p)
{
    stacks seen = {0};
    atoll_err err = visit_stacks(p, &seen, VISIT_FOR_EVER);
    (void)err; /* no memory for a thread: the small risk is left */
    stacks_free(&seen);
    visit_end(p);
}

void
callers_wait(int64_t deadline)
{
    atoll_lock_acquire(&lock);
    bool any = awaited > 0;
    atoll_lock_release(&lock);
    if (any) {
        atoll_wait wait = {.deadline = deadline};
        atoll_err err = atoll_event_wait(&all_gone, &wait);
        (void)err; /* a thread that goes on after its call: CPython's to join */
    }
    atoll_lock_acquire(&lock);
    for (caller *c = callers; c != NULL; c = c->next) {
        if (c->awaited) {
            c->awaited = false;
            awaited--;
            visit_end(c->party);
        }
    }
    caller *all = ended;
    ended = NULL;
    atoll_lock_release(&lock);
    while (all != NULL) {
        caller *c = all;
        all = c->next;
        pass_through(c->party);
        atoll_free(c);
    }
}

void
callers_fork_child(void)
{
    lock.word = 0;
    callers = NULL;
    ended = NULL;
    awaited = 0;
}
