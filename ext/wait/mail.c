/* See wait/mail.h. */
#include "wait/mail.h"

typedef enum box_state { OPEN, CLOSING, DEAD } box_state;

struct mailbox {
    uint32_t refs;              /* atomic */
    PyInterpreterState *interp; /* constant; valid until DEAD */
    int64_t id;                 /* constant */
    atoll_lock lock;
    mail *top;        /* guarded by lock: a stack */
    uint32_t due;     /* guarded by lock: mail that was not opened yet */
    box_state state;  /* guarded by lock */
    bool served;      /* guarded by lock: the service thread is attached */
    bool requested;   /* guarded by lock: it has been asked to come */
    int64_t asked;    /* guarded by lock: when */
    uint32_t forks;   /* constant but in a fork: of how many it knows */
    atoll_chan *bell; /* rung while CLOSING; constant */
};

static const atoll_wait now = {.deadline = ATOLL_NOW};
static const atoll_wait forever = {.deadline = ATOLL_FOREVER};

/* The one that is left in a forked child. Written once, with main's GIL. */
static mailbox *main_box;

/* How often this process and those before it have been forked, until they became it.
 * Changed in a child while it has one thread. */
static uint32_t mail_forks;

/* Is its owner in the parent of this process? Then its lock may be held for ever. */
static inline bool
is_of_parent(const mailbox *box)
{
    return box->forks != mail_forks;
}

mailbox *
mailbox_new(PyInterpreterState *interp)
{
    mailbox *box = atoll_alloc(sizeof(*box));
    atoll_chan *bell = NULL;
    if (box == NULL || atoll_chan_new(1, -1, &bell) != ATOLL_OK) {
        atoll_free(box);
        PyErr_NoMemory();
        return NULL;
    }
    *box = (mailbox){.refs = 1,
                     .interp = interp,
                     .id = PyInterpreterState_GetID(interp),
                     .bell = bell,
                     .forks = mail_forks};
    if (interp == PyInterpreterState_Main()) {
        main_box = box;
    }
    return box;
}

mailbox *
mailbox_ref(mailbox *box)
{
    atoll_count_up(&box->refs);
    return box;
}

void
mailbox_unref(mailbox *box)
{
    if (atoll_count_down(&box->refs)) {
        if (box == main_box) {
            main_box = NULL;
        }
        atoll_chan_unref(box->bell);
        atoll_free(box);
    }
}

void
mailbox_expect(mailbox *box)
{
    if (is_of_parent(box)) {
        return;
    }
    atoll_lock_acquire(&box->lock);
    box->due++;
    atoll_lock_release(&box->lock);
}

static void
mailbox_ring(mailbox *box)
{
    atoll_msg msg = {.group = -1};
    atoll_err err = atoll_chan_send(box->bell, &msg, &now);
    (void)err; /* AGAIN: it is ringing already */
}

/* Is the calling thread attached to the owner? */
static bool
mailbox_is_owner(const mailbox *box)
{
    PyThreadState *ts = PyThreadState_GetUnchecked();
    return ts != NULL && PyThreadState_GetInterpreter(ts) == box->interp;
}

void
mailbox_post(mailbox *box, mail *m)
{
    if (is_of_parent(box)) {
        return; /* as when it is dead */
    }
    atoll_lock_acquire(&box->lock);
    box_state state = box->state;
    /* The pointer may equal that of a later interpreter only if ours is dead. */
    bool here = state != DEAD && mailbox_is_owner(box);
    bool ask = state == OPEN && !here && !box->requested;
    if (here) {
        box->due--;
    }
    else if (state != DEAD) {
        m->next = box->top;
        box->top = m;
        box->requested = box->requested || ask;
        box->asked = ask ? atoll_now() : box->asked;
    }
    atoll_lock_release(&box->lock);
    if (here) {
        m->open(m);
    }
    else if (state == CLOSING) {
        mailbox_ring(box);
    }
    else if (ask) {
        service_request(box);
    }
    /* DEAD: the memory is never given back, there is nowhere to do it. */
}

void
mailbox_drain(mailbox *box)
{
    for (;;) {
        atoll_lock_acquire(&box->lock);
        mail *m = box->top;
        if (m != NULL) {
            box->top = m->next;
            box->due--;
        }
        atoll_lock_release(&box->lock);
        if (m == NULL) {
            return;
        }
        m->open(m); /* the user's destructors: with no lock held */
    }
}

static uint32_t
mail_due(mailbox *box)
{
    atoll_lock_acquire(&box->lock);
    uint32_t due = box->due;
    atoll_lock_release(&box->lock);
    return due;
}

int64_t
mailbox_asked(mailbox *box)
{
    atoll_lock_acquire(&box->lock);
    int64_t asked = box->asked;
    atoll_lock_release(&box->lock);
    return asked;
}

void
mailbox_serve(mailbox *box)
{
    atoll_lock_acquire(&box->lock);
    box->requested = false; /* mail from here on asks again */
    bool enter = box->state == OPEN && box->top != NULL;
    box->served = enter;
    atoll_lock_release(&box->lock);
    if (!enter) {
        return; /* the owner has seen to it, or will */
    }
    PyThreadState *ts = PyThreadState_New(box->interp);
    if (ts != NULL) {
        PyEval_RestoreThread(ts);
        mailbox_drain(box);
        PyThreadState_Clear(ts);
        PyThreadState_DeleteCurrent();
    }
    atoll_lock_acquire(&box->lock);
    box->served = false;
    bool waited_for = box->state == CLOSING;
    atoll_lock_release(&box->lock);
    if (waited_for) {
        mailbox_ring(box);
    }
}

/* ------------------------------------------------------------- the owner ends */

static void
wait_for_bell(mailbox *box)
{
    atoll_msg msg;
    PyThreadState *ts = PyEval_SaveThread();
    atoll_err err = atoll_chan_recv(box->bell, &msg, &forever);
    PyEval_RestoreThread(ts);
    (void)err;
}

uint32_t
mailbox_close(mailbox *box)
{
    atoll_lock_acquire(&box->lock);
    box->state = CLOSING;
    bool served = box->served;
    atoll_lock_release(&box->lock);
    while (served) {
        wait_for_bell(box);
        atoll_lock_acquire(&box->lock);
        served = box->served;
        atoll_lock_release(&box->lock);
    }
    mailbox_drain(box);
    return mail_due(box);
}

void
mailbox_reopen(mailbox *box)
{
    atoll_lock_acquire(&box->lock);
    box->state = OPEN;
    atoll_lock_release(&box->lock);
    mailbox_drain(box); /* what came meanwhile has asked nobody */
}

void
mailbox_linger(mailbox *box)
{
    for (;;) {
        mailbox_drain(box);
        if (mail_due(box) == 0) {
            return;
        }
        wait_for_bell(box);
    }
}

void
mailbox_kill(mailbox *box)
{
    atoll_lock_acquire(&box->lock);
    box->state = DEAD;
    atoll_lock_release(&box->lock);
}

void
mailbox_fork_child(void)
{
    mail_forks++;
    if (main_box != NULL) {
        main_box->forks = mail_forks;
        /* A lock that another thread held is held for ever, and what it did
         * may be half done; the views of the others are gone with them. */
        main_box->lock.word = 0;
        main_box->top = NULL;
        main_box->served = main_box->requested = false;
    }
}
