/* Completion queues under many threads: nothing is lost and nothing comes
 * twice, whoever serves, cancels, puts back and frees at the same moment. */
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

static atoll_msg
plain(int64_t value)
{
    return (atoll_msg){.group = -1, .u.i64 = value};
}

/* ------------------------------------- send and receive, in all four ways */

enum { SENDERS = 3, RECEIVERS = 3, EACH = 6000, FLIGHT = 8 };

static atoll_chan *chan;
static uint32_t arrived[SENDERS * EACH];            /* atomic */
static uint32_t received, cancels, lates, put_back; /* atomic */

/* Blocking and asynchronous sends in turn, some of them cancelled and sent
 * again. */
static void *
send_all(void *arg)
{
    int64_t base = (int64_t)(intptr_t)arg * EACH;
    uint64_t seed = (uint64_t)base + 7;
    atoll_cq *cq = new_cq();
    for (int i = 0; i < EACH;) {
        atoll_op ops[FLIGHT];
        int count = 0, out = 0;
        while (count < FLIGHT && i < EACH) {
            if (next_random(&seed) % 4 == 0) {
                atoll_msg msg = plain(base + i++);
                if (count > 0) {
                    /* Room is certain only when ours have come out. */
                    i--;
                    break;
                }
                CHECK(atoll_chan_send(chan, &msg, &for_ever) == ATOLL_OK);
                continue;
            }
            atoll_op *op = &ops[count];
            *op = (atoll_op){.msg = plain(base + i++)};
            atoll_err err = atoll_chan_send_start(chan, op, cq);
            CHECK(err == ATOLL_OK || err == ATOLL_ERR_AGAIN);
            while (err == ATOLL_ERR_AGAIN && next_random(&seed) % 4 == 0 &&
                   atoll_op_cancel(op)) {
                at_add_rlx(&cancels, 1);
                err = atoll_chan_send_start(chan, op, cq);
            }
            count += err == ATOLL_ERR_AGAIN;
        }
        while (out < count) {
            atoll_op *op = atoll_cq_next(cq);
            if (op == NULL) {
                CHECK(atoll_cq_wait(cq, &for_ever) == ATOLL_OK);
                continue;
            }
            CHECK(op->status == ATOLL_OK);
            out++;
        }
    }
    CHECK(atoll_cq_next(cq) == NULL);
    atoll_cq_unref(cq);
    return NULL;
}

static void
note(const atoll_msg *msg)
{
    CHECK(at_add_rlx(&arrived[msg->u.i64], 1) == 0);
    at_add_rlx(&received, 1);
}

/* Got one: keep it, or give it back now and then. */
static void
take(atoll_msg *msg, uint64_t *seed)
{
    if (next_random(seed) % 8 == 0) {
        at_add_rlx(&put_back, 1);
        CHECK(atoll_chan_unrecv(chan, msg) == ATOLL_OK);
        return;
    }
    note(msg);
}

static void *
receive_all(void *arg)
{
    uint64_t seed = (uint64_t)(uintptr_t)arg + 99;
    atoll_cq *cq = new_cq();
    atoll_op *ops[FLIGHT];
    int count = 0;
    bool closed = false;
    while (!closed || count > 0) {
        while (count < FLIGHT && !closed) {
            atoll_op *op = calloc(1, sizeof(*op));
            atoll_err err = atoll_chan_recv_start(chan, op, cq);
            if (err == ATOLL_ERR_AGAIN) {
                ops[count++] = op;
                continue;
            }
            closed = err == ATOLL_ERR_CLOSED;
            if (err == ATOLL_OK) {
                take(&op->msg, &seed);
            }
            free(op);
        }
        if (count > 0 && next_random(&seed) % 2 == 0) {
            int which = (int)(next_random(&seed) % (unsigned)count);
            if (atoll_op_cancel(ops[which])) {
                free(ops[which]);
                ops[which] = ops[--count];
                at_add_rlx(&cancels, 1);
            }
            else {
                at_add_rlx(&lates, 1);
            }
        }
        if (count > 0 && next_random(&seed) % 4 == 0) {
            CHECK(atoll_cq_wait(cq, &for_ever) == ATOLL_OK);
        }
        atoll_op *op;
        while ((op = atoll_cq_next(cq)) != NULL) {
            int which = 0;
            while (ops[which] != op) {
                which++;
            }
            ops[which] = ops[--count];
            if (op->status == ATOLL_OK) {
                take(&op->msg, &seed);
            }
            else {
                CHECK(op->status == ATOLL_ERR_CLOSED);
                closed = true;
            }
            memset(op, 0xee, sizeof(*op));
            free(op);
        }
    }
    atoll_cq_unref(cq);
    return NULL;
}

static void *
receive_blocking(void *arg)
{
    atoll_msg msg;
    (void)arg;
    while (atoll_chan_recv(chan, &msg, &for_ever) == ATOLL_OK) {
        note(&msg);
    }
    return NULL;
}

static void
exchange(size_t capacity)
{
    chan = new_chan(capacity);
    memset(arrived, 0, sizeof(arrived));
    received = cancels = lates = put_back = 0;
    pthread_t senders[SENDERS], receivers[RECEIVERS + 1];
    for (intptr_t i = 0; i < RECEIVERS; i++) {
        receivers[i] = start(receive_all, (void *)i);
    }
    receivers[RECEIVERS] = start(receive_blocking, NULL);
    for (intptr_t i = 0; i < SENDERS; i++) {
        senders[i] = start(send_all, (void *)i);
    }
    for (int i = 0; i < SENDERS; i++) {
        join(senders[i]);
    }
    UNTIL(at_load_acq(&received) == SENDERS * EACH);
    atoll_chan_close(chan, false);
    for (int i = 0; i <= RECEIVERS; i++) {
        join(receivers[i]);
    }
    for (int i = 0; i < SENDERS * EACH; i++) {
        CHECK(arrived[i] == 1);
    }
    CHECK(atoll_chan_len(chan) == 0);
    CHECK(at_waitq_empty(&chan->recvq) && at_waitq_empty(&chan->sendq));
    printf("# cancelled %u, too late %u, put back %u\n", cancels, lates, put_back);
    atoll_chan_unref(chan);
}

static void
exchange_rendezvous(void)
{
    exchange(0);
}

static void
exchange_buffered(void)
{
    exchange(3);
}

static void
exchange_unbounded(void)
{
    exchange(ATOLL_UNBOUNDED);
}

/* ---------------------------------- one starts, one serves, one cancels */

enum { DUELS = 3000 };

typedef struct duel {
    atoll_op op;
    atoll_event event;
    uint32_t refs;  /* of the duel: starter, setter, canceller */
    uint32_t ended; /* atomic: by an end, by a cancel */
} duel;

static atoll_chan *to_setter, *to_canceller;
static uint32_t by_end, by_cancel; /* atomic */

static void
leave(duel *d)
{
    if (atoll_count_down(&d->refs)) {
        CHECK(d->ended == 1);
        memset(d, 0xee, sizeof(*d));
        free(d);
    }
}

static duel *
next_duel(atoll_chan *from)
{
    atoll_msg msg;
    return atoll_chan_recv(from, &msg, &for_ever) == ATOLL_OK ? msg.u.heap.ptr : NULL;
}

static void *
set_them(void *arg)
{
    duel *d;
    (void)arg;
    while ((d = next_duel(to_setter)) != NULL) {
        atoll_event_set(&d->event);
        leave(d);
    }
    return NULL;
}

static void *
cancel_them(void *arg)
{
    duel *d;
    (void)arg;
    while ((d = next_duel(to_canceller)) != NULL) {
        if (atoll_op_cancel(&d->op)) {
            at_add_rlx(&d->ended, 1);
            at_add_rlx(&by_cancel, 1);
            leave(d); /* the one that its end would have given back */
        }
        leave(d);
    }
    return NULL;
}

static void *
take_out(void *arg)
{
    atoll_cq *cq = arg;
    for (;;) {
        atoll_err err = atoll_cq_wait(cq, &for_ever);
        if (err == ATOLL_ERR_CLOSED) {
            return NULL;
        }
        atoll_op *op = atoll_cq_next(cq);
        duel *d = op == NULL ? NULL : op->user;
        if (d != NULL) {
            at_add_rlx(&d->ended, 1);
            at_add_rlx(&by_end, 1);
            leave(d);
        }
    }
}

static void
duels(void)
{
    atoll_cq *cq = new_cq();
    to_setter = new_chan(4);
    to_canceller = new_chan(4);
    pthread_t setter = start(set_them, NULL), canceller, taker[2];
    canceller = start(cancel_them, NULL);
    taker[0] = start(take_out, cq);
    taker[1] = start(take_out, cq);
    uint64_t seed = 1;
    for (int i = 0; i < DUELS; i++) {
        duel *d = calloc(1, sizeof(*d));
        d->refs = 3;
        d->op.user = d;
        CHECK(atoll_event_wait_start(&d->event, &d->op, cq) == ATOLL_ERR_AGAIN);
        atoll_msg msg = {.u.heap.ptr = d};
        bool first = next_random(&seed) % 2 == 0;
        CHECK(atoll_chan_send(first ? to_setter : to_canceller, &msg, &for_ever) ==
              ATOLL_OK);
        CHECK(atoll_chan_send(first ? to_canceller : to_setter, &msg, &for_ever) ==
              ATOLL_OK);
    }
    UNTIL(at_load_acq(&by_end) + at_load_acq(&by_cancel) == DUELS);
    atoll_chan_close(to_setter, false);
    atoll_chan_close(to_canceller, false);
    join(setter);
    join(canceller);
    atoll_cq_close(cq);
    join(taker[0]);
    join(taker[1]);
    printf("# ended %u, cancelled %u\n", by_end, by_cancel);
    atoll_cq_unref(cq);
    atoll_chan_unref(to_setter);
    atoll_chan_unref(to_canceller);
}

/* ---------------- the taker frees everything while the server is inside */

enum { HANDOVERS = 3000 };

typedef struct given {
    atoll_op op;
    atoll_event event;
    int data; /* plain: published by the end */
} given;

static void *
set_and_forget(void *arg)
{
    (void)arg;
    given *g;
    int i = 0;
    while ((g = (given *)(void *)next_duel(to_setter)) != NULL) {
        g->data = 42;
        if (i++ % 3 == 0) {
            sleep_us(i % 60);
        }
        atoll_event_set(&g->event);
    }
    return NULL;
}

static void
freed_at_once(void)
{
    to_setter = new_chan(1);
    pthread_t setter = start(set_and_forget, NULL);
    for (int i = 0; i < HANDOVERS; i++) {
        atoll_cq *cq = new_cq();
        if (i % 2 == 0) {
            CHECK(atoll_cq_fd(cq) >= 0);
        }
        given *g = calloc(1, sizeof(*g));
        CHECK(atoll_event_wait_start(&g->event, &g->op, cq) == ATOLL_ERR_AGAIN);
        atoll_msg msg = {.u.heap.ptr = g};
        CHECK(atoll_chan_send(to_setter, &msg, &for_ever) == ATOLL_OK);
        atoll_op *op = NULL;
        if (i % 4 == 3) {
            while ((op = atoll_cq_next(cq)) == NULL) {
            }
        }
        else {
            CHECK(atoll_cq_wait(cq, &for_ever) == ATOLL_OK);
            op = atoll_cq_next(cq);
        }
        CHECK(op == &g->op && g->data == 42);
        memset(g, 0xee, sizeof(*g));
        free(g);
        atoll_cq_unref(cq);
    }
    atoll_chan_close(to_setter, false);
    join(setter);
    atoll_chan_unref(to_setter);
}

int
main(void)
{
    TAP_BEGIN(110);
    RUN(exchange_rendezvous);
    RUN(exchange_buffered);
    RUN(exchange_unbounded);
    RUN(duels);
    RUN(freed_at_once);
    TAP_END();
}
