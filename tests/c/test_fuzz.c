/* Random operations against a plain model. One thread: who waits is a waiter
 * that stands in one or two queues while this thread goes on.
 *
 *     test_fuzz [seed [runs]]    what failed is run again by its seed
 *
 * With -DLIBFUZZER it is a libFuzzer target instead. */
#include "fuzz_model.h"

/* ------------------------------------------------------------- the real one */

static atoll_msg
new_msg(unsigned bits)
{
    int msg = msg_count++;
    msgs[msg].where = OURS;
    msgs[msg].orphaned = 0;
    msgs[msg].group = bits % 3;
    msgs[msg].rule = bits / 4 % 4;
    return (atoll_msg){.drop = drop_held,
                       .group = msgs[msg].group,
                       .orphan = msgs[msg].rule,
                       .u.i64 = msg};
}

static void
check_received(const atoll_msg *got, int expected)
{
    CHECK(got->u.i64 == expected && got->group == msgs[expected].group);
    CHECK(got->orphaned == msgs[expected].orphaned);
    CHECK(got->drop == drop_held);
    msgs[expected].where = GONE;
}

static void
do_send(model *m, unsigned bits)
{
    if (m->len >= MAX_LEN - WAITERS || msg_count >= MAX_MSGS - 8) {
        return;
    }
    atoll_msg msg = new_msg(bits);
    int id = (int)msg.u.i64;
    msgs[id].where = HELD;
    atoll_err err = atoll_chan_send(m->real, &msg, &try_once);
    CHECK(err == model_send(m, id));
    if (err != ATOLL_OK) {
        CHECK(msg.u.i64 == id && msg.drop == drop_held);
        msgs[id].where = GONE;
    }
}

static void
do_recv(model *m)
{
    atoll_msg got;
    int expected = -1;
    atoll_err err = atoll_chan_recv(m->real, &got, &try_once);
    CHECK(err == model_recv(m, &expected));
    if (err == ATOLL_OK) {
        check_received(&got, expected);
    }
}

/* Stand in one or two queues, each of which could not serve at once. */
static void
do_stand(standing *s, unsigned bits)
{
    if (s->count > 0 || msg_count >= MAX_MSGS - 8) {
        return;
    }
    at_waiter_init(&s->waiter, &for_ever);
    s->won = -1;
    s->got = -1;
    for (unsigned i = 0; i <= bits % NODES; i++) {
        int side = bits >> (1 + i) & 1, c = (int)(bits >> (3 + 2 * i)) % CHANS;
        model *m = &chans[c];
        bool now = m->closed || m->line_len[!side] > 0 ||
                   (side == RECV ? m->len > 0 : m->len < m->capacity);
        if (now) {
            continue;
        }
        int n = s->count++;
        s->chan[n] = c;
        s->side[n] = side;
        s->msgs[n] = side == SEND ? new_msg(bits >> 2) : (atoll_msg){0};
        s->nodes[n] = (at_node){.waiter = &s->waiter, .msg = &s->msgs[n]};
        m->line[side][m->line_len[side]++] = (int)(s - people) * NODES + n;
        atoll_lock_acquire(&m->real->lock);
        at_waitq_push(side == SEND ? &m->real->sendq : &m->real->recvq, &s->nodes[n]);
        atoll_lock_release(&m->real->lock);
    }
}

/* See whether it was served; if not, it gives up. */
static void
do_leave(standing *s)
{
    if (s->count == 0) {
        return;
    }
    atoll_wait past = {.deadline = 1};
    atoll_err err = at_waiter_wait(&s->waiter, &past, NULL);
    CHECK(err == (s->won >= 0 ? ATOLL_OK : ATOLL_ERR_TIMEOUT));
    for (int i = 0; i < s->count; i++) {
        model *m = &chans[s->chan[i]];
        bool served = s->won == i && s->err == ATOLL_OK;
        CHECK(s->won != i || s->nodes[i].err == s->err);
        if (s->side[i] == RECV && served) {
            check_received(&s->msgs[i], s->got);
        }
        else if (s->side[i] == SEND && !served) {
            CHECK(msgs[s->msgs[i].u.i64].where == OURS); /* it kept it */
        }
        atoll_lock_acquire(&m->real->lock);
        at_waitq_remove(s->side[i] == SEND ? &m->real->sendq : &m->real->recvq,
                        &s->nodes[i]);
        atoll_lock_release(&m->real->lock);
    }
    if (s->won >= 0) {
        CHECK(s->waiter.won == &s->nodes[s->won]);
    }
    else if (s->count > 0) { /* out of the lines of the model */
        int who = (int)(s - people);
        for (int i = 0; i < s->count; i++) {
            model *m = &chans[s->chan[i]];
            int *line = m->line[s->side[i]], kept = 0;
            for (int k = 0; k < m->line_len[s->side[i]]; k++) {
                if (line[k] / NODES != who) {
                    line[kept++] = line[k];
                }
            }
            m->line_len[s->side[i]] = kept;
        }
    }
    s->count = 0;
}

static void
do_renew(model *m, unsigned bits)
{
    static const size_t capacities[] = {0, 1, 3, 9, ATOLL_UNBOUNDED};
    for (int i = 0; i < WAITERS; i++) {
        do_leave(&people[i]); /* a real one would hold a reference */
    }
    if (m->real != NULL) {
        atoll_chan *found;
        atoll_chan_unref(m->real);
        check_dropped(m);
        CHECK(atoll_chan_find(m->id, &found) == ATOLL_ERR_NOTFOUND);
    }
    memset(m, 0, sizeof(*m));
    m->capacity = bits < 256 ? capacities[bits % 5] : 0;
    m->real = new_chan(m->capacity);
    m->id = atoll_chan_id(m->real);
}

static void
do_end(model *m, int end, bool take)
{
    if (take) {
        m->ends[end]++;
        atoll_chan_end_ref(m->real, (atoll_end)end);
    }
    else if (m->ends[end] > 0) {
        atoll_chan_end_unref(m->real, (atoll_end)end);
        if (--m->ends[end] == 0) {
            model_close(m, end == ATOLL_END_RECV);
        }
    }
}

static void
check_all(void)
{
    for (int i = 0; i < CHANS; i++) {
        const model *m = &chans[i];
        CHECK(atoll_chan_len(m->real) == m->len);
        CHECK(atoll_chan_is_closed(m->real) == m->closed);
    }
    for (int i = 0; i < WAITERS; i++) {
        standing *s = &people[i];
        CHECK(s->count == 0 || (s->waiter.won != NULL) == (s->won >= 0));
    }
}

static void
step(unsigned op, unsigned bits)
{
    model *m = &chans[bits % CHANS];
    bits /= CHANS;
    switch (op % 32) {
    case 0:
        do_renew(m, bits);
        break;
    case 1:
        CHECK(atoll_chan_close(m->real, bits & 1) == !m->closed);
        model_close(m, bits & 1);
        break;
    case 2:
    case 3:
        atoll_chan_orphan_all(bits % 3);
        for (int i = 0; i < CHANS; i++) {
            model_orphan(&chans[i], bits % 3);
        }
        break;
    case 4:
    case 5:
        do_end(m, bits & 1, op % 32 == 4);
        break;
    case 6:
    case 7:
        for (unsigned i = 0; i < bits % 200 + 1; i++) {
            op % 2 ? do_recv(m) : do_send(m, bits + i);
        }
        break;
    case 8:
    case 9:
    case 10:
    case 11:
    case 12:
    case 13:
        do_stand(&people[bits % WAITERS], bits / WAITERS);
        break;
    case 14:
    case 15:
    case 16:
        do_leave(&people[bits % WAITERS]);
        break;
    default:
        op % 2 ? do_recv(m) : do_send(m, bits);
        break;
    }
    check_all();
}

/* Three bytes an operation. */
static void
run_bytes(const unsigned char *data, size_t size)
{
    msg_count = 0;
    for (int i = 0; i < CHANS; i++) {
        do_renew(&chans[i], size > 2 ? data[i] : 0u);
    }
    for (size_t i = 0; i + 2 < size; i += 3) {
        step(data[i], data[i + 1] | (unsigned)data[i + 2] << 8);
    }
    for (int i = 0; i < CHANS; i++) {
        do_renew(&chans[i], 0);
    }
    for (int i = 0; i < CHANS; i++) {
        atoll_chan_unref(chans[i].real);
        chans[i].real = NULL;
    }
    for (int i = 0; i < msg_count; i++) {
        CHECK(msgs[i].where != HELD); /* each was received or dropped */
    }
}

#ifdef LIBFUZZER

int LLVMFuzzerTestOneInput(const unsigned char *data, size_t size);

int
LLVMFuzzerTestOneInput(const unsigned char *data, size_t size)
{
    run_bytes(data, size);
    if (tap_complaints > 0) {
        abort();
    }
    return 0;
}

#else

static uint64_t first_seed = 1;
static int runs = 200;

static void
random_operations(void)
{
    static unsigned char data[3 * 1000];
    for (int run = 0; run < runs; run++) {
        uint64_t seed = first_seed + (uint64_t)run, state = seed * 0x9e3779b9;
        for (size_t i = 0; i < sizeof(data); i++) {
            data[i] = (unsigned char)(next_random(&state) >> 8);
        }
        run_bytes(data, sizeof(data));
        if (tap_complaints > 0) {
            printf("# again with: test_fuzz %llu 1\n", (unsigned long long)seed);
            return;
        }
    }
}

int
main(int argc, char **argv)
{
    TAP_BEGIN(100);
    first_seed = argc > 1 ? strtoull(argv[1], NULL, 0) : first_seed;
    runs = argc > 2 ? atoi(argv[2]) : runs;
    printf("# seed %llu, %d runs\n", (unsigned long long)first_seed, runs);
    RUN(random_operations);
    TAP_END();
}

#endif
