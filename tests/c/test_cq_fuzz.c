/* Asynchronous operations against a plain model: arrays for what is in a
 * channel, who stands in line, and what is in a completion queue. One thread,
 * thousands of random steps, each compared. */
#include "helper.h"

enum { CHANS = 3, QUEUES = 2, OPS = 10, MAX_LEN = 4000, STEPS = 60000 };
enum { RECV = 0, SEND = 1 };

typedef struct list {
    int items[MAX_LEN];
    int len;
} list;

static void
append(list *l, int item)
{
    l->items[l->len++] = item;
}

static void
prepend(list *l, int item)
{
    memmove(l->items + 1, l->items, (size_t)l->len++ * sizeof(int));
    l->items[0] = item;
}

static int
take_first(list *l)
{
    int first = l->items[0];
    memmove(l->items, l->items + 1, (size_t)--l->len * sizeof(int));
    return first;
}

static void
remove_item(list *l, int item)
{
    int kept = 0;
    for (int i = 0; i < l->len; i++) {
        if (l->items[i] != item) {
            l->items[kept++] = l->items[i];
        }
    }
    CHECK(kept == l->len - 1);
    l->len = kept;
}

static struct {
    atoll_chan *real;
    int capacity; /* -1: none */
    bool closed, discarded;
    list held;    /* messages */
    list line[2]; /* operations */
} chans[CHANS];

static struct {
    atoll_cq *real;
    list ended; /* operations */
} queues[QUEUES];

static struct {
    atoll_op real;
    bool used, waits;
    int chan, side, queue;
    atoll_err status; /* expected, once it has ended */
    int msg;
} ops[OPS];

static uint64_t dice;
static int last_msg;
static uint32_t expected_drops;

static int
below(int limit)
{
    return (int)(next_random(&dice) % (uint32_t)limit);
}

static void
end_op(int which, atoll_err status)
{
    ops[which].waits = false;
    ops[which].status = status;
    append(&queues[ops[which].queue].ended, which);
}

static atoll_err
model_send(int c, int msg)
{
    if (chans[c].closed) {
        return ATOLL_ERR_CLOSED;
    }
    if (chans[c].line[RECV].len > 0) {
        int which = take_first(&chans[c].line[RECV]);
        ops[which].msg = msg;
        end_op(which, ATOLL_OK);
        return ATOLL_OK;
    }
    if (chans[c].capacity >= 0 && chans[c].held.len >= chans[c].capacity) {
        return ATOLL_ERR_AGAIN;
    }
    append(&chans[c].held, msg);
    return ATOLL_OK;
}

static atoll_err
model_recv(int c, int *msg)
{
    list *senders = &chans[c].line[SEND];
    if (chans[c].held.len > 0) {
        *msg = take_first(&chans[c].held);
        if (senders->len > 0 && chans[c].held.len < chans[c].capacity) {
            int which = take_first(senders);
            append(&chans[c].held, ops[which].msg);
            end_op(which, ATOLL_OK);
        }
        return ATOLL_OK;
    }
    if (senders->len > 0) {
        int which = take_first(senders);
        *msg = ops[which].msg;
        end_op(which, ATOLL_OK);
        return ATOLL_OK;
    }
    return chans[c].closed ? ATOLL_ERR_CLOSED : ATOLL_ERR_AGAIN;
}

static void
step_blocking(int c, int side)
{
    if (side == SEND) {
        int msg = ++last_msg;
        atoll_err expected = model_send(c, msg);
        CHECK(send_number(chans[c].real, msg, &try_once) == expected);
        return;
    }
    int msg = 0;
    atoll_err expected = model_recv(c, &msg);
    CHECK(recv_number(chans[c].real, &try_once) ==
          (expected == ATOLL_OK ? msg : -(int64_t)expected));
}

static void
step_start(int c, int side)
{
    int which = below(OPS), q = below(QUEUES), msg = 0;
    if (ops[which].used) {
        return;
    }
    atoll_op *op = &ops[which].real;
    *op = (atoll_op){.user = &ops[which]};
    atoll_err expected, err;
    if (side == SEND) {
        msg = ++last_msg;
        op->msg = number(msg);
        expected = model_send(c, msg);
        err = atoll_chan_send_start(chans[c].real, op, queues[q].real);
    }
    else {
        expected = model_recv(c, &msg);
        err = atoll_chan_recv_start(chans[c].real, op, queues[q].real);
    }
    CHECK(err == expected && op->status == expected);
    if (err == ATOLL_ERR_AGAIN) {
        ops[which].used = ops[which].waits = true;
        ops[which].chan = c;
        ops[which].side = side;
        ops[which].queue = q;
        ops[which].msg = msg;
        append(&chans[c].line[side], which);
    }
    else if (err == ATOLL_OK && side == RECV) {
        CHECK(op->msg.u.i64 == msg);
    }
}

static void
step_cancel(void)
{
    int which = below(OPS);
    if (!ops[which].used) {
        return;
    }
    CHECK(atoll_op_cancel(&ops[which].real) == ops[which].waits);
    if (ops[which].waits) {
        remove_item(&chans[ops[which].chan].line[ops[which].side], which);
        CHECK(ops[which].side == RECV || ops[which].real.msg.u.i64 == ops[which].msg);
        ops[which].used = ops[which].waits = false;
    }
}

static void
put_back(int c, int msg)
{
    atoll_msg m = number(msg);
    atoll_err err = atoll_chan_unrecv(chans[c].real, &m);
    if (chans[c].line[RECV].len > 0) {
        int which = take_first(&chans[c].line[RECV]);
        ops[which].msg = msg;
        end_op(which, ATOLL_OK);
        CHECK(err == ATOLL_OK);
    }
    else if (chans[c].discarded) {
        CHECK(err == ATOLL_ERR_CLOSED);
    }
    else {
        prepend(&chans[c].held, msg);
        CHECK(err == ATOLL_OK);
    }
}

static void
step_next(void)
{
    int q = below(QUEUES);
    CHECK(atoll_cq_wait(queues[q].real, &try_once) ==
          (queues[q].ended.len > 0 ? ATOLL_OK : ATOLL_ERR_AGAIN));
    atoll_op *op = atoll_cq_next(queues[q].real);
    if (queues[q].ended.len == 0) {
        CHECK(op == NULL);
        return;
    }
    int which = take_first(&queues[q].ended);
    if (!CHECK(op == &ops[which].real)) {
        return;
    }
    CHECK(op->status == ops[which].status && op->user == &ops[which]);
    CHECK(op->status != ATOLL_OK || op->msg.u.i64 == ops[which].msg);
    ops[which].used = false;
    if (op->status == ATOLL_OK && ops[which].side == RECV && below(3) == 0) {
        put_back(ops[which].chan, ops[which].msg);
    }
}

static void
step_close(int c)
{
    bool discard = below(2) == 0;
    atoll_chan_close(chans[c].real, discard);
    for (int side = 0; side < 2; side++) {
        while (chans[c].line[side].len > 0) {
            end_op(take_first(&chans[c].line[side]), ATOLL_ERR_CLOSED);
        }
    }
    chans[c].closed = true;
    if (discard) {
        chans[c].discarded = true;
        expected_drops += (uint32_t)chans[c].held.len;
        chans[c].held.len = 0;
    }
}

/* A fresh one in its place, if nothing of the old one is still about. */
static void
step_renew(int c)
{
    static const int capacities[] = {0, 0, 1, 2, 9, -1};
    for (int i = 0; i < OPS; i++) {
        if (ops[i].used && ops[i].chan == c) {
            return;
        }
    }
    if (chans[c].real != NULL) {
        atoll_chan_unref(chans[c].real);
        expected_drops += (uint32_t)chans[c].held.len;
    }
    chans[c].capacity = capacities[below(6)];
    chans[c].real =
        new_chan(chans[c].capacity < 0 ? ATOLL_UNBOUNDED : (size_t)chans[c].capacity);
    chans[c].closed = chans[c].discarded = false;
    chans[c].held.len = 0;
}

static void
run_seed(uint64_t seed)
{
    dice = seed;
    drops = expected_drops = 0;
    for (int q = 0; q < QUEUES; q++) {
        CHECK(atoll_cq_new(&queues[q].real) == ATOLL_OK);
        CHECK(q == 1 || atoll_cq_fd(queues[q].real) >= 0);
    }
    for (int c = 0; c < CHANS; c++) {
        step_renew(c);
    }
    for (int i = 0; i < STEPS && tap_complaints == 0; i++) {
        int c = below(CHANS), what = below(200);
        if (chans[c].held.len > MAX_LEN / 2) {
            what = 1;
        }
        if (what < 60) {
            step_blocking(c, what % 2);
        }
        else if (what < 130) {
            step_start(c, what % 2);
        }
        else if (what < 155) {
            step_cancel();
        }
        else if (what < 196) {
            step_next();
        }
        else if (what == 196) {
            step_close(c);
        }
        else if (chans[c].closed || what == 197) {
            step_renew(c);
        }
        CHECK(atoll_chan_len(chans[c].real) == (size_t)chans[c].held.len);
        CHECK(waiting(chans[c].real, &chans[c].real->recvq) ==
              (unsigned)chans[c].line[RECV].len);
        CHECK(waiting(chans[c].real, &chans[c].real->sendq) ==
              (unsigned)chans[c].line[SEND].len);
        CHECK(drops == expected_drops);
    }
    /* Let go of all: close, take out, drop. */
    for (int c = 0; c < CHANS; c++) {
        step_close(c);
    }
    for (int q = 0; q < QUEUES; q++) {
        while (atoll_cq_next(queues[q].real) != NULL) {
        }
        atoll_cq_unref(queues[q].real);
        queues[q].ended.len = 0;
    }
    for (int c = 0; c < CHANS; c++) {
        atoll_chan_unref(chans[c].real);
        chans[c].real = NULL;
        chans[c].held.len = 0;
    }
    memset(ops, 0, sizeof(ops));
    if (tap_complaints > 0) {
        printf("# seed %d\n", (int)seed);
    }
}

static void
like_the_model(void)
{
    for (uint64_t seed = 1; seed <= 12 && tap_complaints == 0; seed++) {
        run_seed(seed);
    }
}

int
main(void)
{
    TAP_BEGIN(110);
    RUN(like_the_model);
    TAP_END();
}
