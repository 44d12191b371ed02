/* Threads, and forks while threads are blocked in channels and others use
 * them: the child has a core that works, the parent goes on as if nothing had
 * been. */
#include <sys/wait.h>

#include "helper.h"

enum { BLOCKED = 4 };

/* Address sanitizer's allocator does not survive a fork while another thread
 * is inside it, unlike malloc: there nobody is. */
static pthread_mutex_t inside_malloc = PTHREAD_MUTEX_INITIALIZER;

static void *
locked_alloc(size_t size, void *arg)
{
    (void)arg;
    pthread_mutex_lock(&inside_malloc);
    void *ptr = malloc(size);
    pthread_mutex_unlock(&inside_malloc);
    return ptr;
}

static void
locked_free(void *ptr, void *arg)
{
    (void)arg;
    pthread_mutex_lock(&inside_malloc);
    free(ptr);
    pthread_mutex_unlock(&inside_malloc);
}

static pid_t
fork_core(void)
{
    fflush(stdout);
    pthread_mutex_lock(&inside_malloc);
    atoll_fork_prepare();
    pid_t pid = fork();
    if (pid == 0) {
        atoll_fork_child();
        alarm(20); /* alarms are not inherited */
        tap_complaints = 0;
    }
    else {
        atoll_fork_parent();
    }
    pthread_mutex_unlock(&inside_malloc);
    return pid;
}

/* A child ends without the parent's clean-up. */
static void
end_child(void)
{
    fflush(stdout);
    _exit(tap_complaints > 0);
}

static void
check_child(pid_t pid)
{
    int status;
    CHECK(pid > 0 && waitpid(pid, &status, 0) == pid);
    CHECK(WIFEXITED(status) && WEXITSTATUS(status) == 0);
}

typedef struct blocked {
    atoll_chan *chan;
    int64_t value;
    bool sends;
} blocked;

static void *
block(void *arg)
{
    blocked *b = arg;
    if (b->sends) {
        CHECK(send_number(b->chan, b->value, &for_ever) == ATOLL_OK);
    }
    else {
        CHECK(recv_number(b->chan, &for_ever) == b->value);
    }
    return NULL;
}

#ifndef __SANITIZE_THREAD__ /* it refuses threads in such a child */
static void *
receive_seven(void *arg)
{
    CHECK(recv_number(arg, &for_ever) == 7);
    return NULL;
}
#endif

/* What the child may do with what it got from its parent: nothing, safely. */
static void
use_old_handles(atoll_chan *chan)
{
    uint32_t before = drops;
    atoll_msg msg = number(1);
    CHECK(atoll_chan_send(chan, &msg, &try_once) == ATOLL_ERR_FORKED);
    CHECK(atoll_chan_send(chan, &msg, &for_ever) == ATOLL_ERR_FORKED);
    CHECK(msg.drop == count_drop && msg.u.i64 == 1);
    CHECK(atoll_chan_recv(chan, &msg, &try_once) == ATOLL_ERR_FORKED);
    CHECK(atoll_chan_recv(chan, &msg, &for_ever) == ATOLL_ERR_FORKED);
    CHECK(!atoll_chan_close(chan, true));
    CHECK(atoll_chan_id(chan) > 0);
    CHECK(atoll_chan_list(0, NULL, 0) == 0);
    atoll_chan_end_ref(chan, ATOLL_END_RECV);
    atoll_chan_end_unref(chan, ATOLL_END_RECV);
    atoll_chan_orphan_all(5);
    atoll_chan_ref(chan);
    atoll_chan_unref(chan);
    atoll_chan_unref(chan);
    CHECK(drops == before); /* messages are the parent's */
}

static void
use_new_channels(uint64_t last_id)
{
    atoll_chan *chan = new_chan(2), *found;
    CHECK(atoll_chan_id(chan) > last_id);
    CHECK(atoll_chan_find(atoll_chan_id(chan), &found) == ATOLL_OK);
    CHECK(found == chan);
    atoll_chan_unref(found);
    CHECK(send_number(chan, 1, &try_once) == ATOLL_OK);
    CHECK(send_number(chan, 2, &try_once) == ATOLL_OK);
    CHECK(recv_number(chan, &try_once) == 1);
    CHECK(recv_number(chan, &try_once) == 2);
    atoll_wait wait = within_ms(2);
    CHECK(recv_number(chan, &wait) == -ATOLL_ERR_TIMEOUT);
#ifndef __SANITIZE_THREAD__
    pthread_t thread = start(receive_seven, chan);
    UNTIL(waiting(chan, &chan->recvq) == 1);
    CHECK(send_number(chan, 7, &for_ever) == ATOLL_OK);
    join(thread);
#endif
    CHECK(atoll_chan_list(0, NULL, 0) == 1);
    atoll_chan_unref(chan);
}

/* A child of the child: its grandparent's channels stay dead, its parent's
 * die. */
static void
fork_again(atoll_chan *old)
{
    atoll_chan *chan = new_chan(1);
    CHECK(send_number(chan, 1, &try_once) == ATOLL_OK);
    pid_t pid = fork_core();
    if (pid == 0) {
        CHECK(recv_number(old, &try_once) == -ATOLL_ERR_FORKED);
        CHECK(recv_number(chan, &try_once) == -ATOLL_ERR_FORKED);
        atoll_chan_unref(chan);
        use_new_channels(atoll_chan_id(old));
        end_child();
    }
    check_child(pid);
    CHECK(recv_number(chan, &try_once) == 1);
    atoll_chan_unref(chan);
}

static void
threads_blocked(void)
{
    atoll_chan *empty = new_chan(1), *full = new_chan(0), *some = new_chan(9);
    blocked who[2 * BLOCKED];
    pthread_t threads[2 * BLOCKED];
    for (unsigned i = 0; i < 2 * BLOCKED; i++) {
        bool sends = i % 2;
        who[i] = (blocked){sends ? full : empty, i / 2, sends};
        threads[i] = start(block, &who[i]);
        atoll_chan *chan = who[i].chan;
        UNTIL(waiting(chan, sends ? &chan->sendq : &chan->recvq) == i / 2 + 1);
    }
    atoll_msg msg = number(5);
    msg.group = 5;
    msg.orphan = ATOLL_ORPHAN_REMOVE;
    CHECK(atoll_chan_send(some, &msg, &try_once) == ATOLL_OK);
    uint64_t last_id = atoll_chan_id(some);

    for (int i = 0; i < 3; i++) {
        /* As if another thread were just sending. */
        atoll_lock_acquire(&some->lock);
        pid_t pid = fork_core();
        if (pid > 0) {
            atoll_lock_release(&some->lock);
        }
        if (pid == 0) {
            CHECK(at_waitq_empty(&empty->recvq));
            CHECK(at_waitq_empty(&full->sendq));
            fork_again(some);
            use_old_handles(empty);
            use_old_handles(full);
            use_old_handles(some);
            use_new_channels(last_id);
            end_child();
        }
        check_child(pid);
    }

    /* The parent goes on: all are still in their places. */
    CHECK(recv_number(some, &try_once) == 5);
    for (int i = 0; i < BLOCKED; i++) {
        CHECK(send_number(empty, i, &try_once) == ATOLL_OK);
        CHECK(recv_number(full, &try_once) == i);
    }
    for (int i = 0; i < 2 * BLOCKED; i++) {
        join(threads[i]);
    }
    atoll_chan_unref(empty);
    atoll_chan_unref(full);
    atoll_chan_unref(some);
}

/* From prepare to parent the table stands still. */
static void *
make_channel(void *arg)
{
    atoll_chan_unref(new_chan(1));
    at_store_rel((uint32_t *)arg, 1);
    return NULL;
}

static void
table_is_locked(void)
{
    uint32_t done = 0;
    atoll_fork_prepare();
    pthread_t thread = start(make_channel, &done);
    sleep_us(20000);
    CHECK(at_load_acq(&done) == 0);
    atoll_fork_parent();
    join(thread);
}

/* Forks in the midst of everything: locks are held, messages half written,
 * channels come and go. */
static uint32_t stop; /* atomic */
static atoll_chan *busy;

static void *
churn(void *arg)
{
    uint64_t seed = (uint64_t)(uintptr_t)arg;
    while (!at_load_acq(&stop)) {
        atoll_chan *chan = new_chan(ATOLL_UNBOUNDED), *found;
        for (uint32_t i = next_random(&seed) % 30; i > 0; i--) {
            CHECK(send_number(chan, 1, &try_once) == ATOLL_OK);
        }
        if (atoll_chan_find(atoll_chan_id(chan) - 1, &found) == ATOLL_OK) {
            atoll_chan_unref(found);
        }
        atoll_wait wait = {.deadline = atoll_now() + 10000};
        atoll_err err = send_number(busy, 1, &wait);
        CHECK(err == ATOLL_OK || err == ATOLL_ERR_TIMEOUT);
        int64_t got = recv_number(busy, &wait);
        CHECK(got == 1 || got == -ATOLL_ERR_TIMEOUT);
        atoll_chan_orphan_all(1);
        atoll_chan_unref(chan);
    }
    return NULL;
}

static void
threads_busy(void)
{
    busy = new_chan(1);
    pthread_t threads[3];
    for (uintptr_t i = 0; i < 3; i++) {
        threads[i] = start(churn, (void *)i);
    }
    for (int i = 0; i < 40; i++) {
        sleep_us(300);
        uint64_t last_id = atoll_chan_id(busy);
        pid_t pid = fork_core();
        if (pid == 0) {
            use_old_handles(busy);
            use_new_channels(last_id);
            end_child();
        }
        check_child(pid);
    }
    at_store_rel(&stop, 1);
    for (int i = 0; i < 3; i++) {
        join(threads[i]);
    }
    atoll_chan_unref(busy);
    CHECK(atoll_chan_list(0, NULL, 0) == 0);
}

/* Hooks: before the fork the last one first, after it the first one first. */
static char order[16];

static void
note(char what)
{
    size_t len = strlen(order);
    if (CHECK(len + 1 < sizeof(order))) {
        order[len] = what;
    }
}

#define HOOK(name, what)   \
    static void name(void) \
    {                      \
        note(what);        \
    }
HOOK(prepare_1, 'a')
HOOK(parent_1, 'b')
HOOK(child_1, 'c')
HOOK(prepare_2, 'A')
HOOK(parent_2, 'B')
HOOK(child_2, 'C')

static void
hooks(void)
{
    CHECK(atoll_fork_hooks(prepare_1, parent_1, child_1) == ATOLL_OK);
    CHECK(atoll_fork_hooks(prepare_2, parent_2, child_2) == ATOLL_OK);
    pid_t pid = fork_core();
    if (pid == 0) {
        CHECK(strcmp(order, "AacC") == 0);
        end_child();
    }
    check_child(pid);
    CHECK(strcmp(order, "AabB") == 0);
}

/* ---------------------------------------------------------------- threads */

static atoll_thread seen_self;

static void *
note_self(void *arg)
{
    CHECK(arg == &seen_self);
    seen_self = atoll_thread_self();
    return NULL;
}

static void
threads(void)
{
    atoll_thread thread;
    CHECK(atoll_thread_start(1 << 20, note_self, &seen_self, &thread) == ATOLL_OK);
    atoll_thread_join(thread);
    CHECK(seen_self == thread && seen_self != atoll_thread_self());
    CHECK(atoll_thread_start((size_t)1 << 50, note_self, NULL, &thread) ==
          ATOLL_ERR_SYSTEM);

    int status;
    pid_t pid = fork_core();
    if (pid == 0) {
        atoll_thread_halt();
        end_child();
    }
    sleep_us(20000);
    CHECK(kill(pid, SIGTERM) == 0 && waitpid(pid, &status, 0) == pid);
    CHECK(WIFSIGNALED(status) && WTERMSIG(status) == SIGTERM);
}

int
main(void)
{
    TAP_BEGIN(60);
#ifdef __SANITIZE_ADDRESS__
    static const atoll_allocator locked = {locked_alloc, NULL, locked_free, NULL};
    atoll_set_allocator(&locked);
#else
    (void)locked_alloc;
    (void)locked_free;
#endif
    RUN(threads_blocked);
    RUN(table_is_locked);
    RUN(threads_busy);
    RUN(hooks);
    RUN(threads);
    TAP_END();
}
