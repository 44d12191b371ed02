/* Completion queues, one thing at a time: results, order among blocking and
 * asynchronous waiters, cancelling, the descriptor, messages put back, forks. */
#include <fcntl.h>
#include <poll.h>
#include <sys/eventfd.h>
#include <sys/wait.h>

#include "helper.h"

static atoll_cq *
new_cq(void)
{
    atoll_cq *cq;
    if (atoll_cq_new(&cq) != ATOLL_OK) {
        printf("Bail out! no completion queue\n");
        exit(99);
    }
    return cq;
}

static atoll_op
sending(int64_t value)
{
    return (atoll_op){.msg = number(value)};
}

/* ----------------------------------------------------------- the results */

static void
done_at_once(void)
{
    atoll_cq *cq = new_cq();
    atoll_chan *chan = new_chan(1);
    atoll_event event = {.is_set = 0};
    atoll_op op = sending(5);
    CHECK(!atoll_op_cancel(&op)); /* never started */
    CHECK(atoll_chan_send_start(chan, &op, cq) == ATOLL_OK);
    CHECK(op.status == ATOLL_OK && !atoll_op_cancel(&op));
    op = (atoll_op){.status = ATOLL_ERR_SYSTEM};
    CHECK(atoll_chan_recv_start(chan, &op, cq) == ATOLL_OK);
    CHECK(op.msg.u.i64 == 5 && !atoll_op_cancel(&op));
    atoll_chan_close(chan, false);
    CHECK(atoll_chan_recv_start(chan, &op, cq) == ATOLL_ERR_CLOSED);
    CHECK(atoll_chan_send_start(chan, &op, cq) == ATOLL_ERR_CLOSED);
    CHECK(op.status == ATOLL_ERR_CLOSED && !atoll_op_cancel(&op));
    atoll_event_set(&event);
    CHECK(atoll_event_wait_start(&event, &op, cq) == ATOLL_OK);
    CHECK(!atoll_op_cancel(&op) && atoll_cq_next(cq) == NULL);
    CHECK(atoll_cq_wait(cq, &try_once) == ATOLL_ERR_AGAIN);
    atoll_chan_unref(chan);
    atoll_cq_unref(cq);
}

static void
done_later(void)
{
    atoll_cq *cq = new_cq();
    atoll_chan *chan = new_chan(1);
    atoll_event event = {.is_set = 0};
    int mine;
    atoll_op in = {.user = &mine}, out[2] = {sending(1), sending(2)};
    atoll_op set = {.user = &mine};
    CHECK(atoll_chan_recv_start(chan, &in, cq) == ATOLL_ERR_AGAIN);
    CHECK(atoll_event_wait_start(&event, &set, cq) == ATOLL_ERR_AGAIN);
    CHECK(atoll_cq_next(cq) == NULL);
    atoll_event_set(&event);
    CHECK(send_number(chan, 7, &try_once) == ATOLL_OK);
    CHECK(!atoll_op_cancel(&in) && !atoll_op_cancel(&set));
    CHECK(atoll_cq_wait(cq, &try_once) == ATOLL_OK);
    CHECK(atoll_cq_next(cq) == &set); /* in the order of their ends */
    CHECK(atoll_cq_next(cq) == &in && atoll_cq_next(cq) == NULL);
    CHECK(in.status == ATOLL_OK && in.msg.u.i64 == 7 && in.user == &mine);
    CHECK(set.status == ATOLL_OK && !atoll_op_cancel(&in));

    CHECK(send_number(chan, 0, &try_once) == ATOLL_OK);
    for (int i = 0; i < 2; i++) {
        CHECK(atoll_chan_send_start(chan, &out[i], cq) == ATOLL_ERR_AGAIN);
    }
    for (int i = 0; i < 3; i++) {
        CHECK(recv_number(chan, &try_once) == i);
        CHECK(atoll_cq_next(cq) == (i < 2 ? &out[i] : NULL));
    }
    CHECK(out[0].status == ATOLL_OK && out[1].status == ATOLL_OK);
    atoll_chan_unref(chan);
    atoll_cq_unref(cq);
}

static void
rendezvous(void)
{
    atoll_cq *cq = new_cq();
    atoll_chan *chan = new_chan(0);
    for (int i = 0; i < 2; i++) {
        atoll_op in = {.user = NULL}, out = sending(i);
        if (i == 0) {
            CHECK(atoll_chan_recv_start(chan, &in, cq) == ATOLL_ERR_AGAIN);
            CHECK(atoll_chan_send_start(chan, &out, cq) == ATOLL_OK);
        }
        else {
            CHECK(atoll_chan_send_start(chan, &out, cq) == ATOLL_ERR_AGAIN);
            CHECK(atoll_chan_recv_start(chan, &in, cq) == ATOLL_OK);
        }
        CHECK(in.msg.u.i64 == i);
        CHECK(atoll_cq_next(cq) == (i == 0 ? &in : &out));
        CHECK(atoll_cq_next(cq) == NULL && atoll_chan_len(chan) == 0);
        /* The other side blocks, or would. */
        CHECK(atoll_chan_recv_start(chan, &in, cq) == ATOLL_ERR_AGAIN);
        CHECK(send_number(chan, 8, &try_once) == ATOLL_OK);
        CHECK(atoll_cq_next(cq) == &in && in.msg.u.i64 == 8);
        out = sending(9);
        CHECK(atoll_chan_send_start(chan, &out, cq) == ATOLL_ERR_AGAIN);
        CHECK(recv_number(chan, &try_once) == 9);
        CHECK(atoll_cq_next(cq) == &out);
    }
    atoll_chan_unref(chan);
    atoll_cq_unref(cq);
}

static void
closed_meanwhile(void)
{
    atoll_cq *cq = new_cq();
    atoll_chan *empty = new_chan(1), *full = new_chan(1);
    atoll_op in[2] = {{.user = NULL}, {.user = NULL}};
    atoll_op out[2] = {sending(1), sending(2)};
    uint32_t before = drops;
    CHECK(send_number(full, 0, &try_once) == ATOLL_OK);
    for (int i = 0; i < 2; i++) {
        CHECK(atoll_chan_recv_start(empty, &in[i], cq) == ATOLL_ERR_AGAIN);
        CHECK(atoll_chan_send_start(full, &out[i], cq) == ATOLL_ERR_AGAIN);
    }
    atoll_chan_close(empty, false);
    atoll_chan_close(full, true);
    for (int i = 0; i < 2; i++) {
        CHECK(atoll_cq_next(cq) == &in[i]);
        CHECK(in[i].status == ATOLL_ERR_CLOSED);
    }
    for (int i = 0; i < 2; i++) {
        CHECK(atoll_cq_next(cq) == &out[i]);
        CHECK(out[i].status == ATOLL_ERR_CLOSED);
        CHECK(out[i].msg.u.i64 == i + 1); /* still the caller's */
    }
    CHECK(drops == before + 1);
    atoll_chan_unref(empty);
    atoll_chan_unref(full);
    atoll_cq_unref(cq);
}

static void
cancelled(void)
{
    atoll_cq *cq = new_cq();
    atoll_chan *chan = new_chan(1);
    atoll_event event = {.is_set = 0};
    atoll_op ops[3] = {{.user = NULL}, {.user = NULL}, {.user = NULL}};
    for (int i = 0; i < 3; i++) {
        CHECK(atoll_chan_recv_start(chan, &ops[i], cq) == ATOLL_ERR_AGAIN);
    }
    CHECK(atoll_op_cancel(&ops[1]) && !atoll_op_cancel(&ops[1]));
    CHECK(waiting(chan, &chan->recvq) == 2);
    CHECK(send_number(chan, 1, &try_once) == ATOLL_OK);
    CHECK(send_number(chan, 2, &try_once) == ATOLL_OK);
    CHECK(send_number(chan, 3, &try_once) == ATOLL_OK); /* the buffer's */
    CHECK(atoll_cq_next(cq) == &ops[0] && atoll_cq_next(cq) == &ops[2]);
    CHECK(ops[2].msg.u.i64 == 2 && atoll_cq_next(cq) == NULL);

    atoll_op out = sending(4), set = {.user = NULL};
    CHECK(atoll_chan_send_start(chan, &out, cq) == ATOLL_ERR_AGAIN);
    CHECK(atoll_op_cancel(&out) && out.msg.u.i64 == 4);
    CHECK(recv_number(chan, &try_once) == 3);
    CHECK(recv_number(chan, &try_once) == -ATOLL_ERR_AGAIN);
    CHECK(atoll_event_wait_start(&event, &set, cq) == ATOLL_ERR_AGAIN);
    CHECK(atoll_op_cancel(&set) && event.first == NULL);
    atoll_event_set(&event);
    CHECK(atoll_cq_next(cq) == NULL);
    /* Started again, in the same storage. */
    CHECK(atoll_chan_recv_start(chan, &ops[1], cq) == ATOLL_ERR_AGAIN);
    CHECK(atoll_op_cancel(&ops[1]));
    atoll_chan_unref(chan);
    atoll_cq_unref(cq);
}

/* --------------------------------------------- first come, first served */

typedef struct blocked {
    atoll_chan *chan;
    bool sends;
    int64_t value;
    pthread_t thread;
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

enum { LINE = 8 };

/* Threads and operations in turn; in both directions. */
static void
one_line(bool sends)
{
    atoll_cq *cq = new_cq();
    atoll_chan *chan = new_chan(0);
    at_waitq *line = sends ? &chan->sendq : &chan->recvq;
    atoll_op ops[LINE];
    blocked threads[LINE];
    for (int i = 0; i < LINE; i++) {
        if (i % 2 == 0) {
            threads[i] = (blocked){chan, sends, i, 0};
            threads[i].thread = start(block, &threads[i]);
        }
        else {
            ops[i] = sending(i);
            CHECK((sends
                       ? atoll_chan_send_start(chan, &ops[i], cq)
                       : atoll_chan_recv_start(chan, &ops[i], cq)) == ATOLL_ERR_AGAIN);
        }
        UNTIL(waiting(chan, line) == (unsigned)i + 1);
    }
    for (int i = 0; i < LINE; i++) {
        if (sends) {
            CHECK(recv_number(chan, &try_once) == i);
        }
        else {
            CHECK(send_number(chan, i, &try_once) == ATOLL_OK);
        }
        if (i % 2 == 0) {
            join(threads[i].thread);
        }
        else {
            CHECK(atoll_cq_next(cq) == &ops[i] && ops[i].msg.u.i64 == i);
        }
    }
    atoll_chan_unref(chan);
    atoll_cq_unref(cq);
}

static void
receivers_in_one_line(void)
{
    one_line(false);
}

static void
senders_in_one_line(void)
{
    one_line(true);
}

/* ------------------------------------------------------ waiting for a queue */

typedef struct later {
    atoll_cq *cq;
    atoll_chan *chan;
    atoll_kick *kick;
} later;

static void *
send_later(void *arg)
{
    later *l = arg;
    sleep_us(20000);
    if (l->kick != NULL) {
        atoll_kick_set(l->kick);
    }
    else if (l->chan != NULL) {
        CHECK(send_number(l->chan, 1, &for_ever) == ATOLL_OK);
    }
    else {
        atoll_cq_close(l->cq);
    }
    return NULL;
}

static void
waits(bool use_fds)
{
    atoll_cq *cq = new_cq();
    atoll_chan *chan = new_chan(1);
    atoll_kick kick = {.set = 0};
    atoll_op op = {.user = NULL};
    atoll_wait wait = within_ms(20);
    wait.use_fds = use_fds;
    wait.event_fd = use_fds ? eventfd(0, EFD_NONBLOCK) : -1;
    wait.intr_fd = -1;
    CHECK(atoll_cq_wait(cq, &wait) == ATOLL_ERR_TIMEOUT);
    wait.deadline = 1;
    CHECK(atoll_cq_wait(cq, &wait) == ATOLL_ERR_TIMEOUT);
    CHECK(atoll_chan_recv_start(chan, &op, cq) == ATOLL_ERR_AGAIN);
    wait.deadline = ATOLL_FOREVER;
    pthread_t thread = start(send_later, &(later){cq, chan, NULL});
    CHECK(atoll_cq_wait(cq, &wait) == ATOLL_OK);
    join(thread);
    CHECK(atoll_cq_wait(cq, &wait) == ATOLL_OK); /* it is still there */
    CHECK(atoll_cq_next(cq) == &op);
    wait.kick = &kick;
    thread = start(send_later, &(later){cq, chan, &kick});
    CHECK(atoll_cq_wait(cq, &wait) == ATOLL_ERR_INTERRUPTED);
    join(thread);
    atoll_kick_clear(&kick);
    CHECK(atoll_chan_recv_start(chan, &op, cq) == ATOLL_ERR_AGAIN);
    thread = start(send_later, &(later){cq, NULL, NULL});
    CHECK(atoll_cq_wait(cq, &wait) == ATOLL_ERR_CLOSED);
    join(thread);
    CHECK(atoll_cq_wait(cq, &wait) == ATOLL_ERR_CLOSED);
    /* What was started goes on. */
    CHECK(send_number(chan, 1, &try_once) == ATOLL_OK);
    CHECK(atoll_cq_wait(cq, &wait) == ATOLL_OK && atoll_cq_next(cq) == &op);
    if (use_fds) {
        close(wait.event_fd);
    }
    atoll_chan_unref(chan);
    atoll_cq_unref(cq);
}

static void
waits_on_a_futex(void)
{
    waits(false);
}

static void
waits_in_poll(void)
{
    waits(true);
}

static void *
wait_for_queue(void *arg)
{
    CHECK(atoll_cq_wait(arg, &for_ever) == ATOLL_OK);
    return NULL;
}

static void
all_are_told(void)
{
    atoll_cq *cq = new_cq();
    atoll_chan *chan = new_chan(1);
    atoll_op op = {.user = NULL};
    pthread_t threads[4];
    CHECK(atoll_chan_recv_start(chan, &op, cq) == ATOLL_ERR_AGAIN);
    for (int i = 0; i < 4; i++) {
        threads[i] = start(wait_for_queue, cq);
    }
    sleep_us(20000);
    CHECK(send_number(chan, 1, &try_once) == ATOLL_OK);
    for (int i = 0; i < 4; i++) {
        join(threads[i]);
    }
    CHECK(atoll_cq_next(cq) == &op);
    atoll_chan_unref(chan);
    atoll_cq_unref(cq);
}

/* -------------------------------------------------------- the descriptor */

static bool
readable(int fd)
{
    struct pollfd p = {.fd = fd, .events = POLLIN};
    return poll(&p, 1, 0) == 1;
}

static uint64_t
wakes(void)
{
    atoll_stats stats;
    atoll_stats_get(&stats);
    return stats.wakes;
}

static void
descriptor(void)
{
    atoll_cq *cq = new_cq();
    atoll_chan *chan = new_chan(1);
    atoll_op ops[3] = {{.user = NULL}, {.user = NULL}, {.user = NULL}};
    CHECK(atoll_chan_recv_start(chan, &ops[0], cq) == ATOLL_ERR_AGAIN);
    CHECK(send_number(chan, 1, &try_once) == ATOLL_OK);
    int fd = atoll_cq_fd(cq); /* made when there already is something */
    CHECK(fd >= 0 && atoll_cq_fd(cq) == fd && readable(fd));
    CHECK(atoll_cq_next(cq) == &ops[0] && atoll_cq_next(cq) == NULL);
    CHECK(!readable(fd));
    for (int round = 0; round < 3; round++) {
        for (int i = 0; i < 3; i++) {
            CHECK(atoll_chan_recv_start(chan, &ops[i], cq) == ATOLL_ERR_AGAIN);
        }
        CHECK(!readable(fd));
        uint64_t before = wakes();
        for (int i = 0; i < 3; i++) {
            CHECK(send_number(chan, i, &try_once) == ATOLL_OK);
            CHECK(readable(fd));
        }
        CHECK(wakes() == before + 1); /* one write for all three */
        for (int i = 0; i < 3; i++) {
            CHECK(atoll_cq_next(cq) == &ops[i]);
        }
        if (round == 1) { /* filled again before it was seen to be empty */
            CHECK(atoll_chan_recv_start(chan, &ops[0], cq) == ATOLL_ERR_AGAIN);
            CHECK(send_number(chan, 0, &try_once) == ATOLL_OK && readable(fd));
            CHECK(atoll_cq_next(cq) == &ops[0]);
        }
        CHECK(atoll_cq_next(cq) == NULL && !readable(fd));
    }
    atoll_cq_poke(cq);
    CHECK(readable(fd) && atoll_cq_wait(cq, &try_once) == ATOLL_ERR_AGAIN);
    CHECK(atoll_cq_next(cq) == NULL && !readable(fd));
    atoll_cq_unref(cq);
    CHECK(fcntl(fd, F_GETFD) == -1); /* closed with it */
    atoll_chan_unref(chan);
}

/* ------------------------------------------------------ messages put back */

static atoll_err
put_back(atoll_chan *chan, int64_t value)
{
    atoll_msg msg = number(value);
    return atoll_chan_unrecv(chan, &msg);
}

static void
unreceived(void)
{
    atoll_cq *cq = new_cq();
    for (size_t capacity = 0; capacity < 3; capacity++) {
        atoll_chan *chan = new_chan(capacity);
        atoll_op out = sending(9), in = {.user = NULL};
        for (size_t i = 0; i < capacity; i++) {
            CHECK(send_number(chan, 5 + (int64_t)i, &try_once) == ATOLL_OK);
        }
        CHECK(atoll_chan_send_start(chan, &out, cq) == ATOLL_ERR_AGAIN);
        CHECK(put_back(chan, 4) == ATOLL_OK && put_back(chan, 3) == ATOLL_OK);
        CHECK(atoll_chan_len(chan) == capacity + 2);
        CHECK(recv_number(chan, &try_once) == 3);
        CHECK(atoll_cq_next(cq) == NULL); /* no room for the sender yet */
        CHECK(recv_number(chan, &try_once) == 4);
        CHECK(atoll_cq_next(cq) == NULL);
        for (size_t i = 0; i < capacity; i++) {
            CHECK(recv_number(chan, &try_once) == 5 + (int64_t)i);
        }
        CHECK(recv_number(chan, &try_once) == 9);
        CHECK(atoll_cq_next(cq) == &out);
        /* Who waits gets it. */
        CHECK(atoll_chan_recv_start(chan, &in, cq) == ATOLL_ERR_AGAIN);
        CHECK(put_back(chan, 6) == ATOLL_OK && atoll_cq_next(cq) == &in);
        CHECK(in.msg.u.i64 == 6);
        /* After a close it is received before that is seen ... */
        atoll_chan_close(chan, false);
        CHECK(put_back(chan, 7) == ATOLL_OK);
        CHECK(recv_number(chan, &try_once) == 7);
        CHECK(recv_number(chan, &try_once) == -ATOLL_ERR_CLOSED);
        /* ... unless all was to be dropped. */
        CHECK(put_back(chan, 8) == ATOLL_OK);
        atoll_chan_close(chan, true);
        CHECK(put_back(chan, 8) == ATOLL_ERR_CLOSED);
        CHECK(atoll_chan_len(chan) == 0);
        atoll_chan_unref(chan);
    }
    /* Around the end of the ring, and while it grows. */
    atoll_chan *chan = new_chan(ATOLL_UNBOUNDED);
    for (int i = 0; i < 100; i++) {
        CHECK(put_back(chan, i) == ATOLL_OK);
        CHECK(send_number(chan, i, &try_once) == ATOLL_OK);
    }
    for (int i = 0; i < 200; i++) {
        CHECK(recv_number(chan, &try_once) == (i < 100 ? 99 - i : i - 100));
    }
    atoll_chan_unref(chan);
    atoll_cq_unref(cq);
}

/* -------------------------------------------------------------------- fork */

static void
forked(void)
{
    atoll_cq *cq = new_cq();
    atoll_chan *chan = new_chan(1);
    atoll_op in = {.user = NULL}, ended = {.user = NULL}, other = {.user = NULL};
    CHECK(atoll_chan_recv_start(chan, &ended, cq) == ATOLL_ERR_AGAIN);
    CHECK(atoll_chan_recv_start(chan, &in, cq) == ATOLL_ERR_AGAIN);
    int fd = atoll_cq_fd(cq);
    CHECK(send_number(chan, 1, &try_once) == ATOLL_OK);
    fflush(stdout);
    atoll_fork_prepare();
    pid_t pid = fork();
    if (pid == 0) {
        atoll_fork_child();
        alarm(20);
        tap_complaints = 0;
        CHECK(atoll_cq_next(cq) == NULL && readable(fd));
        CHECK(atoll_cq_wait(cq, &for_ever) == ATOLL_ERR_FORKED);
        CHECK(atoll_cq_fd(cq) == -1);
        atoll_cq_close(cq);
        atoll_chan *own = new_chan(1);
        atoll_event event = {.is_set = 0};
        CHECK(atoll_chan_recv_start(own, &other, cq) == ATOLL_ERR_FORKED);
        CHECK(atoll_chan_send_start(own, &other, cq) == ATOLL_ERR_FORKED);
        CHECK(atoll_event_wait_start(&event, &other, cq) == ATOLL_ERR_FORKED);
        atoll_cq *fresh = new_cq();
        CHECK(atoll_chan_recv_start(chan, &other, fresh) == ATOLL_ERR_FORKED);
        CHECK(put_back(chan, 1) == ATOLL_ERR_FORKED);
        CHECK(atoll_op_cancel(&in) && !atoll_op_cancel(&ended));
        atoll_cq_unref(cq);
        CHECK(fcntl(fd, F_GETFD) == -1);
        CHECK(atoll_chan_recv_start(own, &in, fresh) == ATOLL_ERR_AGAIN);
        CHECK(send_number(own, 2, &try_once) == ATOLL_OK);
        CHECK(atoll_cq_next(fresh) == &in && in.msg.u.i64 == 2);
        atoll_cq_unref(fresh);
        atoll_chan_unref(own);
        fflush(stdout);
        _exit(tap_complaints > 0);
    }
    atoll_fork_parent();
    int status;
    CHECK(waitpid(pid, &status, 0) == pid);
    CHECK(WIFEXITED(status) && WEXITSTATUS(status) == 0);
    CHECK(readable(fd));
    CHECK(atoll_cq_next(cq) == &ended && atoll_cq_next(cq) == NULL);
    CHECK(atoll_op_cancel(&in));
    atoll_chan_unref(chan);
    atoll_cq_unref(cq);
}

int
main(void)
{
    TAP_BEGIN(60);
    RUN(done_at_once);
    RUN(done_later);
    RUN(rendezvous);
    RUN(closed_meanwhile);
    RUN(cancelled);
    RUN(receivers_in_one_line);
    RUN(senders_in_one_line);
    RUN(waits_on_a_futex);
    RUN(waits_in_poll);
    RUN(all_are_told);
    RUN(descriptor);
    RUN(unreceived);
    RUN(forked);
    TAP_END();
}
