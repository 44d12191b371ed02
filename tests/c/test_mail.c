/* Mailboxes and visitors: mail to interpreters that work, wait, close and are gone,
 * looks into them, and holding them still. On a fake of CPython: see fake/fake.h. */
#include "rooms_helper.h"
#include "wait/visit.h"

enum { OWNERS = 3, POSTERS = 3, LETTERS = 40 };

/* A piece of mail that knows where it may be opened. */
typedef struct letter {
    mail mail; /* first */
    PyInterpreterState *owner;
    uint32_t *opened; /* guarded by the owner's GIL until it has ended */
} letter;

static void
open_letter(mail *m)
{
    letter *l = (letter *)m;
    CHECK(PyInterpreterState_Get() == l->owner);
    CHECK(fake_locks_held() == 0);
    ++*l->opened;
    free(l);
}

/* An interpreter whose mail is posted elsewhere. */
typedef struct owner {
    home *h;
    mailbox *box; /* counted */
    letter *letters[LETTERS];
    uint32_t next;   /* atomic: the next one to be posted */
    uint32_t opened; /* see letter.opened */
    atoll_event never;
} owner;

/* In the owner: mail is to come. */
static PyObject *
code_expect(void *arg)
{
    owner *o = arg;
    o->box = mailbox_ref(fake_state()->wait->mailbox);
    for (int i = 0; i < LETTERS; i++) {
        letter *l = malloc(sizeof(*l));
        *l = (letter){.mail = {.open = open_letter},
                      .owner = PyInterpreterState_Get(),
                      .opened = &o->opened};
        o->letters[i] = l;
        mailbox_expect(o->box);
    }
    return Py_NewRef(Py_None);
}

static bool
post_next(owner *o)
{
    uint32_t number = at_add_rlx(&o->next, 1); /* a number of one's own is all */
    if (number < LETTERS) {
        mailbox_post(o->box, &o->letters[number]->mail);
    }
    return number < LETTERS;
}

/* The owner opens one of its own at once. */
static PyObject *
code_post(void *arg)
{
    uint32_t before = ((owner *)arg)->opened;
    if (post_next(arg)) {
        CHECK(((owner *)arg)->opened > before);
    }
    return Py_NewRef(Py_None);
}

/* Post to all of them, from main and from nowhere, and have them do something. */
static void
post(main_thread *self)
{
    owner *owners = self->arg;
    for (int i = 0; i < OWNERS * LETTERS; i++) {
        owner *o = &owners[next_random(&self->seed) % OWNERS];
        if (one_in(&self->seed, 2)) {
            post_next(o);
        }
        else {
            Py_BEGIN_ALLOW_THREADS
            post_next(o);
            Py_END_ALLOW_THREADS
        }
        if (one_in(&self->seed, 6)) {
            atoll_err err;
            job *j = one_in(&self->seed, 2)
                         ? begin_call(o->h, code_spin, NULL, &err)
                         : begin_call(o->h, code_wait, &o->never, &err);
            if (j != NULL) {
                fake_sleep(next_random(&self->seed) % (2 * MS));
                Py_BEGIN_ALLOW_THREADS
                home_interrupt(o->h, j, false);
                Py_END_ALLOW_THREADS
                end_call(o->h, j);
            }
        }
        if (one_in(&self->seed, 10)) {
            call(o->h, code_post, o);
        }
        if (one_in(&self->seed, 40)) {
            close_home(o->h, atoll_now() + MS);
        }
    }
}

static void
owners_begin(owner *owners, uint64_t *seed)
{
    for (int i = 0; i < OWNERS; i++) {
        owners[i] = (owner){.h = make_home("owner", one_in(seed, 2))};
        CHECK(call(owners[i].h, code_expect, &owners[i]) == JOB_RETURNED);
    }
}

/* Each piece of mail is opened once, in its owner, if it was posted before that ended;
 * an owner that closes waits for what is still to come. */
static void
posts(uint64_t *seed)
{
    static owner owners[OWNERS];
    main_thread threads[POSTERS];
    fake_begin();
    owners_begin(owners, seed);
    main_threads_start(threads, POSTERS, post, owners, seed);
    main_threads_join(threads, POSTERS);
    for (int i = 0; i < OWNERS; i++) {
        drop_home(owners[i].h);
        fake_sleep(next_random(seed) % (2 * MS));
        while (post_next(&owners[i])) {
        }
    }
    while (fake_interpreters() > 0) {
        fake_sleep(100000);
    }
    for (int i = 0; i < OWNERS; i++) {
        CHECK(owners[i].opened == LETTERS);
        mailbox_unref(owners[i].box);
    }
    fake_exit();
    check_nothing_left();
}

/* Mail that comes when the process exits finds its owner, or nobody; nothing breaks. */
static void
exit_amid(uint64_t *seed)
{
    static owner owners[OWNERS];
    static main_thread threads[POSTERS];
    setenv("ATOLL_CLOSE_LIMIT", "0.05", 1);
    fake_begin();
    owners_begin(owners, seed);
    main_threads_start(threads, POSTERS, post, owners, seed);
    main_threads_leave(threads, POSTERS);
    fake_sleep(next_random(seed) % (4 * MS));
    home_hurry();
    fake_exit();
}

/* -------------------------------------------------------------------- visitors */

/* Look into whatever there is, as dump() does. */
static void
look(main_thread *self)
{
    uint32_t *stop = self->arg;
    while (at_load_acq(stop) == 0) { /* pairs with `obey` */
        enum { MANY = 8 };
        party *kept[MANY];
        int count = 0;
        Py_BEGIN_ALLOW_THREADS
        for (party *p = waits_lock_all(); p != NULL && count < MANY; p = p->next) {
            if (visit_begin(p)) {
                kept[count++] = p;
            }
        }
        waits_unlock_all();
        while (count > 0) {
            stacks seen = {0};
            int64_t patience = next_random(&self->seed) % 300000;
            atoll_err err = visit_stacks(kept[--count], &seen, patience);
            CHECK(err == ATOLL_OK || err == ATOLL_ERR_TIMEOUT);
            CHECK(err != ATOLL_OK || seen.states == 0);
            visit_end(kept[count]);
        }
        Py_END_ALLOW_THREADS
        fake_sleep(200000);
    }
}

/* Hold everybody still, now and then: nothing moves meanwhile. */
static uint32_t steps; /* written by code in interpreters, under a GIL of theirs */

static PyObject *
code_step(void *Py_UNUSED(arg))
{
    while (!fake_look()) {
        at_add_rlx(&steps, 1); /* what orders it is that its GIL is taken */
    }
    return NULL;
}

static void
hold_still(main_thread *self)
{
    uint32_t *stop = self->arg;
    while (at_load_acq(stop) == 0) { /* pairs with `obey` */
        int64_t in_way;
        if (still_begin(fake_state(), &in_way)) {
            uint32_t before = at_load_rlx(&steps); /* as above */
            for (int i = 0; i < 1000; i++) {
                CHECK(at_load_rlx(&steps) == before); /* as above */
            }
            still_end();
        }
        fake_sleep(next_random(&self->seed) % (2 * MS));
    }
}

/* Interpreters come, compute, and go. */
static void
come_and_go(main_thread *self)
{
    for (int i = 0; i < 10; i++) {
        home *h = make_home("visited", false);
        atoll_err err;
        job *j = begin_call(h, code_step, NULL, &err);
        fake_sleep(next_random(&self->seed) % MS);
        Py_BEGIN_ALLOW_THREADS
        home_interrupt(h, j, false);
        Py_END_ALLOW_THREADS
        end_call(h, j);
        if (one_in(&self->seed, 2)) {
            CHECK(close_home(h, ATOLL_FOREVER) == JOB_RETURNED);
        }
        drop_home(h);
    }
}

static void
visits(uint64_t *seed)
{
    static uint32_t stop;
    main_thread residents[2], visitors[2], holder;
    fake_begin();
    main_threads_start(visitors, 2, look, &stop, seed);
    main_threads_start(&holder, 1, hold_still, &stop, seed);
    main_threads_start(residents, 2, come_and_go, NULL, seed);
    main_threads_join(residents, 2);
    obey(&stop);
    main_threads_join(visitors, 2);
    main_threads_join(&holder, 1);
    fake_exit();
    check_nothing_left();
}

static void
test_posts(void)
{
    run_programs(posts, rounds_of(5, 200), 60);
}

static void
test_exit_amid(void)
{
    run_programs(exit_amid, rounds_of(4, 200), 60);
}

static void
test_visits(void)
{
    run_programs(visits, rounds_of(4, 200), 60);
}

int
main(void)
{
    TAP_BEGIN(0);
    RUN(test_posts);
    RUN(test_exit_amid);
    RUN(test_visits);
    TAP_END();
}
