/* A wait that is interrupted and begun again: its place in line, and what is missed
 * meanwhile. */
#include <fcntl.h>
#include <sys/eventfd.h>

#include "sync_helper.h"

/* Somebody who has been interrupted in `op` and comes again, and one who came between:
 * who is served first? */
typedef struct guest {
    atoll_err (*op)(void *thing, const atoll_wait *wait, int *got);
    void *thing;
    atoll_wait wait;
    atoll_err err;
    int got;
} guest;

static void *
go(void *arg)
{
    guest *g = arg;
    g->err = g->op(g->thing, &g->wait, &g->got);
    return NULL;
}

static atoll_err
op_recv(void *thing, const atoll_wait *wait, int *got)
{
    atoll_msg msg;
    atoll_err err = atoll_chan_recv(thing, &msg, wait);
    if (err == ATOLL_OK) {
        *got = (int)msg.u.i64;
    }
    return err;
}

/* What is sent says who has sent it. */
static atoll_err
op_send(void *thing, const atoll_wait *wait, int *got)
{
    return send_number(thing, *got, wait);
}

static atoll_err
op_take(void *thing, const atoll_wait *wait, int *got)
{
    *got = 0;
    return atoll_sync_take(thing, party(1, 7), wait);
}

static atoll_case cases[2][3]; /* those of the two guests */
static atoll_chan *beside;     /* nothing ever comes from there */

static atoll_err
op_select(void *thing, const atoll_wait *wait, int *got)
{
    atoll_case *c = cases[*got];
    uint32_t index;
    atoll_err err = ATOLL_OK, end;
    c[0] = (atoll_case){
        .kind = ATOLL_CASE_RECV, .of.chan = beside, .at_place = c[0].at_place};
    c[1] = (atoll_case){.kind = ATOLL_CASE_NEVER};
    c[2] = (atoll_case){
        .kind = ATOLL_CASE_RECV, .of.chan = thing, .at_place = c[2].at_place};
    end = atoll_select(c, 3, NULL, wait, &index, &err);
    if (end == ATOLL_OK) {
        CHECK(err == ATOLL_OK && index == 2);
        *got = (int)c[2].msg.u.i64;
    }
    return end;
}

/* How many stand in the line of the channel or lock? */
static size_t
standing(void *thing, bool of_lock)
{
    atoll_lock *lock =
        of_lock ? &((atoll_sync *)thing)->lock : &((atoll_chan *)thing)->lock;
    size_t count = 0;
    atoll_lock_acquire(lock);
    const at_node *nodes[] = {of_lock ? ((atoll_sync *)thing)->q.first
                                      : ((atoll_chan *)thing)->recvq.first,
                              of_lock ? NULL : ((atoll_chan *)thing)->sendq.first};
    for (int i = 0; i < 2; i++) {
        for (const at_node *n = nodes[i]; n != NULL; n = n->next) {
            count++;
        }
    }
    atoll_lock_release(lock);
    return count;
}

/* Let `first` stand, be interrupted and go; `second` come; and `first` again, which
 * keeps its place if `keeps`. Both sleep when it returns. */
static void
come_again(guest *first, guest *second, bool of_lock, bool keeps, pthread_t *threads)
{
    static uint64_t place;
    static atoll_kick kick;
    place = 0;
    kick = (atoll_kick){.set = 0};
    first->wait =
        (atoll_wait){.deadline = ATOLL_FOREVER, .kick = &kick, .place = &place};
    second->wait = for_ever;
    for (int i = 0; i < 3; i++) { /* it may be interrupted any number of times */
        atoll_kick_set(&kick);
        CHECK(first->op(first->thing, &first->wait, &first->got) ==
              ATOLL_ERR_INTERRUPTED);
        atoll_kick_clear(&kick);
        CHECK(place != 0);
    }
    if (!keeps) {
        first->wait.place = NULL;
    }
    threads[1] = start(go, second);
    UNTIL(standing(second->thing, of_lock) == 1);
    threads[0] = start(go, first);
    UNTIL(standing(second->thing, of_lock) == 2);
}

static void
leave(guest *first, guest *second, pthread_t *threads)
{
    join(threads[0]);
    join(threads[1]);
    CHECK(first->err == ATOLL_OK && second->err == ATOLL_OK);
}

static void
receivers(bool in_select, bool keeps)
{
    pthread_t threads[2];
    atoll_chan *chan = new_chan(4);
    beside = new_chan(1);
    guest first = {.op = in_select ? op_select : op_recv, .thing = chan, .got = 0};
    guest second = {.op = first.op, .thing = chan, .got = 1};
    come_again(&first, &second, false, keeps, threads);
    CHECK(send_number(chan, 10, &try_once) == ATOLL_OK);
    CHECK(send_number(chan, 20, &try_once) == ATOLL_OK);
    leave(&first, &second, threads);
    CHECK(first.got == (keeps ? 10 : 20) && second.got == (keeps ? 20 : 10));
    CHECK(standing(beside, false) == 0);
    atoll_chan_unref(chan);
    atoll_chan_unref(beside);
}

static void
senders(bool keeps)
{
    pthread_t threads[2];
    atoll_chan *chan = new_chan(0);
    guest first = {.op = op_send, .thing = chan, .got = 1};
    guest second = {.op = op_send, .thing = chan, .got = 2};
    come_again(&first, &second, false, keeps, threads);
    CHECK(recv_number(chan, &try_once) == (keeps ? 1 : 2));
    CHECK(recv_number(chan, &try_once) == (keeps ? 2 : 1));
    leave(&first, &second, threads);
    atoll_chan_unref(chan);
}

static void
takers(atoll_sync *sync, bool is_lock)
{
    pthread_t threads[2];
    guest first = {.op = op_take, .thing = sync, .got = -1};
    guest second = {.op = op_take, .thing = sync, .got = -1};
    CHECK(atoll_sync_take(sync, party(1, 1), &try_once) == ATOLL_OK);
    come_again(&first, &second, true, true, threads);
    for (int i = 0; i < 2; i++) {
        /* The one whose node has gone has it. */
        CHECK((is_lock ? atoll_mutex_release(sync, party(1, 7))
                       : atoll_sem_release(sync, 1)) == ATOLL_OK);
        UNTIL(standing(sync, true) == (size_t)(1 - i));
        join(threads[i]);
    }
    CHECK(first.err == ATOLL_OK && second.err == ATOLL_OK);
    atoll_sync_unref(sync);
}

static void
test_place(void)
{
    for (int keeps = 0; keeps < 2; keeps++) {
        receivers(false, keeps);
        receivers(true, keeps);
        senders(keeps);
    }
    takers(new_sync(ATOLL_LOCK), true);
    atoll_sync *sem;
    CHECK(atoll_sem_new(1, -1, &sem) == ATOLL_OK);
    takers(sem, false);
}

/* A flag that is set and cleared while one looks after an interrupt has been seen; for
 * one who comes only then it has not been set. */
static void
test_pulse(void)
{
    atoll_sync *flag = new_sync(ATOLL_FLAG);
    atoll_kick kick = {.set = 1};
    uint64_t place = 0, select_place = 0;
    atoll_wait wait = {.deadline = ATOLL_FOREVER, .kick = &kick, .place = &place};
    CHECK(atoll_sync_take(flag, party(1, 1), &wait) == ATOLL_ERR_INTERRUPTED);
    atoll_case c = {.kind = ATOLL_CASE_TAKE, .of.sync = flag};
    uint32_t index;
    atoll_err err;
    wait.place = &select_place;
    CHECK(atoll_select(&c, 1, NULL, &wait, &index, &err) == ATOLL_ERR_INTERRUPTED);
    atoll_wait later = {.deadline = ATOLL_NOW, .place = &place};
    CHECK(atoll_sync_take(flag, party(1, 1), &later) == ATOLL_ERR_AGAIN);
    CHECK(atoll_flag_set(flag) == ATOLL_OK && atoll_flag_clear(flag) == ATOLL_OK);
    CHECK(atoll_sync_take(flag, party(1, 1), &later) == ATOLL_OK);
    CHECK(atoll_sync_take(flag, party(1, 1), &try_once) == ATOLL_ERR_AGAIN);
    later.place = &select_place;
    CHECK(atoll_select(&c, 1, NULL, &later, &index, &err) == ATOLL_OK && index == 0 &&
          err == ATOLL_OK);
    CHECK(atoll_select(&c, 1, NULL, &try_once, &index, &err) == ATOLL_ERR_AGAIN);
    atoll_sync_unref(flag);
}

static atoll_chan *served;

static void
serve(void *arg)
{
    CHECK(send_number(served, *(int *)arg, &try_once) == ATOLL_OK);
}

/* Until it is known what an interrupt means, one stands in line. */
static void
test_served_while_told(void)
{
    int intr[2], value = 5;
    CHECK(pipe(intr) == 0 && write(intr[1], "x", 1) == 1);
    served = new_chan(0);
    atoll_wait wait = {.deadline = ATOLL_FOREVER,
                       .use_fds = true,
                       .event_fd = eventfd(0, EFD_NONBLOCK),
                       .intr_fd = intr[0]};
    CHECK(recv_number(served, &wait) == -ATOLL_ERR_INTERRUPTED);
    wait.interrupted = serve;
    wait.arg = &value;
    CHECK(recv_number(served, &wait) == 5);
    uint64_t count;
    CHECK(read(wait.event_fd, &count, sizeof(count)) == -1); /* it has been taken */
    close(wait.event_fd);
    close(intr[0]);
    close(intr[1]);
    atoll_chan_unref(served);
}

/* ------------------------------------------------------------------- done */

static void *
join_chan(void *arg)
{
    CHECK(atoll_chan_join(arg, &for_ever) == ATOLL_OK);
    return NULL;
}

static bool
somebody_joins(atoll_chan *chan)
{
    atoll_lock_acquire(&chan->lock);
    bool joins = chan->joinq.first != NULL;
    atoll_lock_release(&chan->lock);
    return joins;
}

static void
test_done(void)
{
    atoll_chan *chan = new_chan(ATOLL_UNBOUNDED), *full = new_chan(1);
    CHECK(atoll_chan_join(chan, &try_once) == ATOLL_OK);
    CHECK(atoll_chan_done(chan) == ATOLL_ERR_INVALID);
    for (int i = 0; i < 3000; i++) { /* the ring grows, and is given back */
        CHECK(send_number(chan, i, &try_once) == ATOLL_OK);
        if (i % 3 == 0) {
            CHECK(recv_number(chan, &try_once) == i / 3);
        }
    }
    CHECK(atoll_chan_unfinished(chan) == 3000);
    for (int i = 1000; i < 3000; i++) {
        CHECK(recv_number(chan, &try_once) == i);
    }
    for (int i = 0; i < 2999; i++) {
        CHECK(atoll_chan_done(chan) == ATOLL_OK);
    }
    CHECK(atoll_chan_unfinished(chan) == 1);
    CHECK(atoll_chan_join(chan, &try_once) == ATOLL_ERR_AGAIN);
    pthread_t thread = start(join_chan, chan);
    UNTIL(somebody_joins(chan));
    /* What is put back has not been received; what is handed over has. */
    atoll_msg msg = number(1);
    CHECK(atoll_chan_unrecv(chan, &msg) == ATOLL_OK);
    CHECK(atoll_chan_unfinished(chan) == 1 && recv_number(chan, &try_once) == 1);
    CHECK(atoll_chan_done(chan) == ATOLL_OK);
    join(thread);
    CHECK(atoll_chan_done(chan) == ATOLL_ERR_INVALID);

    /* All was done for a moment while one was away. */
    atoll_kick kick = {.set = 1};
    uint64_t place = 0;
    atoll_wait wait = {.deadline = ATOLL_FOREVER, .kick = &kick, .place = &place};
    CHECK(send_number(chan, 1, &try_once) == ATOLL_OK);
    CHECK(atoll_chan_join(chan, &wait) == ATOLL_ERR_INTERRUPTED);
    CHECK(atoll_chan_done(chan) == ATOLL_OK);
    CHECK(send_number(chan, 1, &try_once) == ATOLL_OK);
    CHECK(atoll_chan_join(chan, &try_once) == ATOLL_ERR_AGAIN);
    CHECK(atoll_chan_join(chan, &wait) == ATOLL_OK);

    /* What is dropped is done; a sender that waits has not sent. */
    CHECK(send_number(full, 1, &try_once) == ATOLL_OK);
    guest sender = {.op = op_send, .thing = full, .wait = for_ever, .got = 2};
    thread = start(go, &sender);
    UNTIL(standing(full, false) == 1);
    CHECK(atoll_chan_unfinished(full) == 1);
    CHECK(recv_number(full, &try_once) == 1);
    join(thread);
    CHECK(atoll_chan_unfinished(full) == 2);
    thread = start(join_chan, full);
    UNTIL(somebody_joins(full));
    CHECK(atoll_chan_done(full) == ATOLL_OK);
    CHECK(atoll_chan_close(full, true));
    join(thread);
    CHECK(atoll_chan_unfinished(full) == 0);
    atoll_chan_unref(chan);
    atoll_chan_unref(full);
}

static void
test_done_without_a_ring(void)
{
    atoll_chan *chan = new_chan(0);
    guest receiver = {.op = op_recv, .thing = chan, .wait = for_ever};
    for (int i = 0; i < 2; i++) {
        pthread_t thread;
        if (i == 0) {
            thread = start(go, &receiver);
            UNTIL(standing(chan, false) == 1);
            CHECK(send_number(chan, 1, &try_once) == ATOLL_OK);
        }
        else {
            guest sender = {.op = op_send, .thing = chan, .wait = for_ever, .got = 2};
            thread = start(go, &sender);
            UNTIL(standing(chan, false) == 1);
            CHECK(recv_number(chan, &try_once) == 2);
            join(thread);
        }
        if (i == 0) {
            join(thread);
        }
        CHECK(atoll_chan_unfinished(chan) == 1);
        CHECK(atoll_chan_done(chan) == ATOLL_OK);
    }
    /* An orphan that is removed is done. */
    atoll_msg msg = number(3);
    msg.group = 77;
    msg.orphan = ATOLL_ORPHAN_REMOVE;
    atoll_chan *queue = new_chan(2);
    CHECK(atoll_chan_send(queue, &msg, &try_once) == ATOLL_OK);
    pthread_t thread = start(join_chan, queue);
    UNTIL(somebody_joins(queue));
    atoll_chan_orphan_all(77);
    join(thread);
    atoll_chan_unref(queue);
    atoll_chan_unref(chan);
}

int
main(void)
{
    TAP_BEGIN(60);
    RUN(test_place);
    RUN(test_pulse);
    RUN(test_served_while_told);
    RUN(test_done);
    RUN(test_done_without_a_ring);
    TAP_END();
}
