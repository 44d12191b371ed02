/* Selects without a thread, sends, receives, closes, poisons and cancels against a
 * plain model: up to 6 parties, each of which has one thing under way, and one thread
 * that makes all their moves. So the model knows exactly what has to happen.
 *
 *     test_select_model [seed [seeds]]    what failed is run again by its seed
 *
 * ATOLL_NIGHTLY=1 makes it 10,000 seeds. */
#include "helper.h"

enum {
    CHANS = 3,
    EVENTS = 1,
    PARTIES = 6,
    CASES = 5,
    STEPS = 300,
    MAX_LEN = STEPS + 4,
    MAX_MSGS = STEPS * (CASES + 1),
};
/* A line is that of a channel's receivers, of its senders, or of an event. */
enum { LINES = 2 * CHANS + EVENTS, EVENT_LINE = 2 * CHANS };
enum { RECV = 0, SEND = 1 };

/* ---------------------------------------------------------------- messages */

/* NOBODY has it, a party wants to send it (OFFERED), a channel holds it, it has
 * come to a receiver, it was dropped. */
enum { NOBODY, OFFERED, HELD, RECEIVED, DROPPED };
static uint8_t where[MAX_MSGS];
static int msg_count;

static void
drop_held(atoll_msg *msg)
{
    CHECK(where[msg->u.i64] == HELD);
    where[msg->u.i64] = DROPPED;
}

static atoll_msg
new_msg(void)
{
    where[msg_count] = OFFERED;
    return (atoll_msg){.drop = drop_held, .group = -1, .u.i64 = msg_count++};
}

/* --------------------------------------------------------------- the model */

typedef struct list {
    int items[MAX_LEN];
    int len;
} list;

static void
append(list *l, int item)
{
    l->items[l->len++] = item;
}

static int
take_first(list *l)
{
    int first = l->items[0];
    memmove(l->items, l->items + 1, (size_t)--l->len * sizeof(int));
    return first;
}

static void
remove_all(list *l, int item)
{
    int kept = 0;
    for (int i = 0; i < l->len; i++) {
        if (l->items[i] != item) {
            l->items[kept++] = l->items[i];
        }
    }
    l->len = kept;
}

static struct {
    atoll_chan *real;
    int capacity;
    bool closed, poisoned; /* one that is poisoned is closed as well */
    int64_t why;
    list held; /* messages */
} chans[CHANS];

static atoll_event event;
static bool event_set;

/* Who stands where. One that stands twice in a line is in it once. */
static list lines[LINES];

typedef struct party {
    atoll_op op;
    atoll_case cases[CASES]; /* the first alone, if it is no select */
    int count;
    bool selects, waits, ended;
    int won;          /* the line in which it was served */
    atoll_err status; /* expected, once it has ended */
    int got;          /* the message expected, if it received */
} party;

static party parties[PARTIES];
static list ended; /* parties, in the order in which they have to come out */
static atoll_cq *cq;
static uint64_t dice;
/* How often: done at once, had to wait, served later, cancelled. */
static long at_once, waited, served, cancelled;

static int
below(int limit)
{
    return (int)(next_random(&dice) % (uint32_t)limit);
}

static int
line_of(const atoll_case *c)
{
    if (c->kind == ATOLL_CASE_EVENT) {
        return EVENT_LINE;
    }
    for (int i = 0; i < CHANS; i++) {
        if (chans[i].real == c->of.chan) {
            return 2 * i + (c->kind == ATOLL_CASE_SEND ? SEND : RECV);
        }
    }
    return -1;
}

/* The message that party `who` sends to the channel of `line`. No party offers
 * two to one channel: then the model could not know which it is. */
static int
offered(int who, int line)
{
    const party *p = &parties[who];
    for (int i = 0; i < p->count; i++) {
        if (line_of(&p->cases[i]) == line) {
            return (int)p->cases[i].msg.u.i64;
        }
    }
    CHECK(!"it sends there");
    return 0;
}

/* The first in that line is served, and leaves all others. -1: nobody. */
static int
serve_first(int line, atoll_err status)
{
    if (lines[line].len == 0) {
        return -1;
    }
    int who = lines[line].items[0];
    for (int i = 0; i < LINES; i++) {
        remove_all(&lines[i], who);
    }
    parties[who].waits = false;
    parties[who].ended = true;
    parties[who].won = line;
    parties[who].status = status;
    append(&ended, who);
    return who;
}

static atoll_err
end_of(int c)
{
    return chans[c].poisoned ? ATOLL_ERR_POISONED : ATOLL_ERR_CLOSED;
}

static bool
model_ready(int line)
{
    if (line == EVENT_LINE) {
        return event_set;
    }
    int c = line / 2, other = lines[line ^ 1].len;
    return chans[c].closed || other > 0 ||
           (line % 2 == SEND ? chans[c].held.len < chans[c].capacity
                             : chans[c].held.len > 0);
}

static atoll_err
model_send(int c, int msg)
{
    if (chans[c].closed) {
        return end_of(c);
    }
    int who = serve_first(2 * c + RECV, ATOLL_OK);
    if (who >= 0) {
        parties[who].got = msg;
        where[msg] = RECEIVED;
        return ATOLL_OK;
    }
    if (chans[c].held.len >= chans[c].capacity) {
        return ATOLL_ERR_AGAIN;
    }
    append(&chans[c].held, msg);
    where[msg] = HELD;
    return ATOLL_OK;
}

static atoll_err
model_recv(int c, int *msg)
{
    int line = 2 * c + SEND;
    if (chans[c].held.len > 0) {
        *msg = take_first(&chans[c].held);
        where[*msg] = RECEIVED;
        if (chans[c].held.len < chans[c].capacity) {
            int who = serve_first(line, ATOLL_OK);
            if (who >= 0) {
                append(&chans[c].held, offered(who, line));
                where[offered(who, line)] = HELD;
            }
        }
        return ATOLL_OK;
    }
    int who = serve_first(line, ATOLL_OK);
    if (who >= 0) {
        *msg = offered(who, line);
        where[*msg] = RECEIVED;
        return ATOLL_OK;
    }
    return chans[c].closed ? end_of(c) : ATOLL_ERR_AGAIN;
}

/* The end of channel c, which has come in the real one. */
static void
model_end(int c, bool discard)
{
    chans[c].closed = true;
    for (int side = RECV; side <= SEND; side++) {
        while (serve_first(2 * c + side, end_of(c)) >= 0) {
        }
    }
    for (int i = 0; i < chans[c].held.len && discard; i++) {
        CHECK(where[chans[c].held.items[i]] == DROPPED);
    }
    chans[c].held.len = discard ? 0 : chans[c].held.len;
}

/* ------------------------------------------------------------- what they do */

/* What is left of a case that has not happened. */
static void
take_back(atoll_case *c)
{
    if (c->kind == ATOLL_CASE_SEND) {
        CHECK(where[c->msg.u.i64] == OFFERED && c->msg.drop == drop_held);
        where[c->msg.u.i64] = NOBODY;
    }
}

/* `c` has happened, says the real one. `got`: what the model says it received. */
static void
check_done(const atoll_case *c, atoll_err err, int got)
{
    if (c->kind == ATOLL_CASE_RECV && err == ATOLL_OK) {
        CHECK(c->msg.u.i64 == got && where[got] == RECEIVED);
    }
    else if (c->kind == ATOLL_CASE_SEND && err != ATOLL_OK) {
        CHECK(where[c->msg.u.i64] == OFFERED && c->msg.drop == drop_held);
        where[c->msg.u.i64] = NOBODY;
    }
}

/* The case happens at once in the model, and what comes of it is as said. */
static void
happens_now(const atoll_case *c, atoll_err err)
{
    int line = line_of(c), got = -1;
    atoll_err expected = ATOLL_OK;
    CHECK(model_ready(line));
    if (c->kind == ATOLL_CASE_SEND) {
        expected = model_send(line / 2, (int)c->msg.u.i64);
    }
    else if (c->kind == ATOLL_CASE_RECV) {
        expected = model_recv(line / 2, &got);
    }
    CHECK(err == expected);
    check_done(c, err, got);
}

static atoll_case
random_case(void)
{
    int kind = below(9), c = below(CHANS);
    if (kind == 0) {
        return (atoll_case){.kind = ATOLL_CASE_NEVER};
    }
    if (kind == 1) {
        return (atoll_case){.kind = ATOLL_CASE_EVENT, .of.event = &event};
    }
    return (atoll_case){
        .kind = kind < 5 ? ATOLL_CASE_RECV : ATOLL_CASE_SEND,
        .of.chan = chans[c].real,
    };
}

static void
make_cases(party *p)
{
    unsigned sent = 0;
    p->selects = below(3) > 0;
    p->count = p->selects ? below(CASES + 1) : 1;
    for (int i = 0; i < p->count; i++) {
        atoll_case *c = &p->cases[i];
        do {
            *c = random_case();
        } while (!p->selects && c->kind == ATOLL_CASE_NEVER);
        if (c->kind == ATOLL_CASE_SEND) {
            unsigned bit = 1u << line_of(c);
            if (sent & bit) {
                *c = (atoll_case){.kind = ATOLL_CASE_NEVER};
                continue;
            }
            sent |= bit;
            c->msg = new_msg();
        }
    }
}

/* What p does has happened at once: case `index`, unless that is -1. */
static void
was_ready(party *p, int index, atoll_err err)
{
    if (index >= 0) {
        at_once++;
        happens_now(&p->cases[index], err);
    }
    for (int i = 0; i < p->count; i++) {
        if (i != index) {
            take_back(&p->cases[i]);
        }
    }
}

/* The first case that is ready; -1: none. */
static int
first_ready(const party *p)
{
    for (int i = 0; i < p->count; i++) {
        if (p->cases[i].kind != ATOLL_CASE_NEVER &&
            model_ready(line_of(&p->cases[i]))) {
            return i;
        }
    }
    return -1;
}

/* Start the one case of a party that does not select. */
static atoll_err
start_one(party *p)
{
    atoll_case *c = &p->cases[0];
    switch (c->kind) {
    case ATOLL_CASE_RECV:
        return atoll_chan_recv_start(c->of.chan, &p->op, cq);
    case ATOLL_CASE_SEND:
        p->op.msg = c->msg;
        return atoll_chan_send_start(c->of.chan, &p->op, cq);
    default:
        return atoll_event_wait_start(&event, &p->op, cq);
    }
}

static void
step_start(party *p)
{
    if (p->waits || p->ended) {
        return;
    }
    *p = (party){.got = -1};
    make_cases(p);
    int expected = first_ready(p);
    uint32_t index = 0;
    atoll_err err = ATOLL_OK, began;
    if (p->selects) {
        bool random = below(2) == 0;
        began = atoll_select_start(p->cases, (uint32_t)p->count, random ? &dice : NULL,
                                   &p->op, cq, &index, &err);
        CHECK(random || began != ATOLL_OK || (int)index == expected);
    }
    else {
        err = start_one(p);
        began = err == ATOLL_ERR_AGAIN ? err : ATOLL_OK;
        if (began == ATOLL_OK && p->cases[0].kind == ATOLL_CASE_RECV) {
            p->cases[0].msg = p->op.msg;
        }
    }
    CHECK(began == (expected < 0 ? ATOLL_ERR_AGAIN : ATOLL_OK));
    if (began == ATOLL_OK) {
        was_ready(p, (int)index, err);
        return;
    }
    p->waits = true;
    waited++;
    for (int i = 0; i < p->count; i++) {
        if (p->cases[i].kind != ATOLL_CASE_NEVER) {
            list *line = &lines[line_of(&p->cases[i])];
            remove_all(line, (int)(p - parties));
            append(line, (int)(p - parties));
        }
    }
}

/* A select that does not wait. */
static void
step_try(void)
{
    static party p;
    p = (party){.got = -1};
    make_cases(&p);
    int expected = first_ready(&p);
    bool random = below(2) == 0;
    uint32_t index = 0;
    atoll_err err = ATOLL_OK,
              said = atoll_select(p.cases, (uint32_t)p.count, random ? &dice : NULL,
                                  &try_once, &index, &err);
    CHECK(said == (expected < 0 ? ATOLL_ERR_AGAIN : ATOLL_OK));
    CHECK(random || said != ATOLL_OK || (int)index == expected);
    was_ready(&p, said == ATOLL_OK ? (int)index : -1, err);
}

static void
step_cancel(party *p)
{
    if (!p->waits && !p->ended) {
        return;
    }
    bool undone = p->selects ? atoll_select_cancel(p->cases, (uint32_t)p->count, &p->op)
                             : atoll_op_cancel(&p->op);
    CHECK(undone == p->waits);
    if (undone) {
        cancelled++;
        p->waits = false;
        for (int i = 0; i < LINES; i++) {
            remove_all(&lines[i], (int)(p - parties));
        }
        was_ready(p, -1, ATOLL_OK);
    }
}

/* Take out of the queue who has ended first. */
static void
step_next(void)
{
    atoll_op *op = atoll_cq_next(cq);
    if (ended.len == 0 || op == NULL) {
        CHECK(ended.len == 0 && op == NULL);
        return;
    }
    party *p = &parties[take_first(&ended)];
    served++;
    CHECK(op == &p->op && op->status == p->status);
    uint32_t index = 0;
    if (p->selects) {
        index = atoll_select_end(p->cases, (uint32_t)p->count, &p->op);
    }
    else if (p->cases[0].kind == ATOLL_CASE_RECV) {
        p->cases[0].msg = p->op.msg;
    }
    CHECK((int)index < p->count && line_of(&p->cases[index]) == p->won);
    check_done(&p->cases[index], p->status, p->got);
    for (int i = 0; i < p->count; i++) {
        if (i != (int)index) {
            take_back(&p->cases[i]);
        }
    }
    p->ended = false;
}

static void
step_close(int c, bool discard)
{
    CHECK(atoll_chan_close(chans[c].real, discard) == !chans[c].closed);
    model_end(c, discard);
}

static void
step_poison(int c)
{
    atoll_msg why = {.group = -1, .u.i64 = below(1000)};
    size_t dropped = 77, held = (size_t)chans[c].held.len;
    atoll_err expected = chans[c].poisoned ? ATOLL_ERR_POISONED : ATOLL_OK;
    CHECK(atoll_chan_poison(chans[c].real, &why, &dropped) == expected);
    if (expected == ATOLL_OK) {
        CHECK(dropped == held);
        chans[c].poisoned = true;
        chans[c].why = why.u.i64;
        model_end(c, true);
    }
}

static void
step_event(void)
{
    if (!event_set) {
        atoll_event_set(&event);
        event_set = true;
        while (serve_first(EVENT_LINE, ATOLL_OK) >= 0) {
        }
    }
}

static void
step(void)
{
    int what = below(100), ends = below(40);
    if (what < 50) {
        step_start(&parties[below(PARTIES)]);
    }
    else if (what < 65) {
        step_try();
    }
    else if (what < 90) {
        step_next();
    }
    else if (what < 98) {
        step_cancel(&parties[below(PARTIES)]);
    }
    else if (ends < CHANS) {
        step_close(ends, below(2) == 0);
    }
    else if (ends < 2 * CHANS) {
        step_poison(ends - CHANS);
    }
    else if (ends == 2 * CHANS) {
        step_event();
    }
    for (int c = 0; c < CHANS; c++) {
        const atoll_msg *why = atoll_chan_why(chans[c].real);
        CHECK(atoll_chan_len(chans[c].real) == (size_t)chans[c].held.len);
        CHECK(atoll_chan_is_closed(chans[c].real) == chans[c].closed);
        CHECK((why != NULL) == chans[c].poisoned);
        CHECK(why == NULL || why->u.i64 == chans[c].why);
    }
}

/* ------------------------------------------------------------------ one seed */

static void
run_seed(uint64_t seed)
{
    static const int capacities[] = {0, 0, 1, 3};
    dice = seed * UINT64_C(0x9e3779b97f4a7c15);
    msg_count = 0;
    event = (atoll_event){.is_set = 0};
    event_set = false;
    memset(parties, 0, sizeof(parties));
    memset(lines, 0, sizeof(lines));
    CHECK(atoll_cq_new(&cq) == ATOLL_OK);
    for (int c = 0; c < CHANS; c++) {
        chans[c].capacity = capacities[below(4)];
        chans[c].closed = chans[c].poisoned = false;
        chans[c].held.len = 0;
        chans[c].real = new_chan((size_t)chans[c].capacity);
    }
    for (int i = 0; i < STEPS && tap_complaints == 0; i++) {
        step();
    }
    for (int i = 0; i < PARTIES && tap_complaints == 0; i++) {
        step_cancel(&parties[i]);
    }
    while (ended.len > 0 && tap_complaints == 0) {
        step_next();
    }
    CHECK(tap_complaints > 0 || atoll_cq_next(cq) == NULL);
    for (int c = 0; c < CHANS && tap_complaints == 0; c++) {
        CHECK(waiting(chans[c].real, &chans[c].real->recvq) == 0);
        CHECK(waiting(chans[c].real, &chans[c].real->sendq) == 0);
        atoll_chan_unref(chans[c].real);
    }
    atoll_cq_unref(cq);
    for (int i = 0; i < msg_count && tap_complaints == 0; i++) {
        CHECK(where[i] != OFFERED && where[i] != HELD);
    }
}

static uint64_t first_seed = 1;
static int seeds = 300;

static void
random_programs(void)
{
    for (int i = 0; i < seeds && tap_complaints == 0; i++) {
        run_seed(first_seed + (uint64_t)i);
        if (tap_complaints > 0) {
            printf("# again with: test_select_model %llu 1\n",
                   (unsigned long long)first_seed + (unsigned long long)i);
        }
    }
}

int
main(int argc, char **argv)
{
    const char *nightly = getenv("ATOLL_NIGHTLY");
    if (nightly != NULL && strcmp(nightly, "1") == 0) {
        seeds = 10000;
    }
    first_seed = argc > 1 ? strtoull(argv[1], NULL, 0) : first_seed;
    seeds = argc > 2 ? atoi(argv[2]) : seeds;
    TAP_BEGIN(seeds > 1000 ? 3000 : 100);
    printf("# seed %llu, %d seeds\n", (unsigned long long)first_seed, seeds);
    RUN(random_programs);
    printf("# %ld at once, %ld waited, %ld were served, %ld cancelled\n", at_once,
           waited, served, cancelled);
    TAP_END();
}
