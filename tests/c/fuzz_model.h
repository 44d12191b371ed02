/* The plain model that test_fuzz.c compares channels with: arrays, and lines
 * of people who wait. It knows the rules, and nothing of locks or rings. */
#ifndef FUZZ_MODEL_H
#define FUZZ_MODEL_H

#include "helper.h"

enum {
    CHANS = 3,
    WAITERS = 5,
    NODES = 2,
    MAX_LEN = 2500,
    MAX_MSGS = 1 << 16,
};

/* Where a message is, by its number. */
enum { UNUSED, HELD, OURS, GONE };
static struct {
    int64_t group;
    uint8_t rule, orphaned, where;
} msgs[MAX_MSGS];
static int msg_count;

static void
drop_held(atoll_msg *msg)
{
    CHECK(msgs[msg->u.i64].where == HELD);
    msgs[msg->u.i64].where = GONE;
}

typedef struct model {
    atoll_chan *real;
    size_t capacity, len;
    uint64_t id;
    bool closed;
    int ends[2];
    int queue[MAX_LEN];           /* numbers of messages */
    int line[2][WAITERS * NODES]; /* who waits to receive, to send: */
    int line_len[2];              /* waiter * NODES + node */
} model;

enum { RECV = 0, SEND = 1 };

typedef struct standing {
    at_waiter waiter;
    at_node nodes[NODES];
    atoll_msg msgs[NODES];
    int chan[NODES], side[NODES], count; /* 0: not in use */
    int won;                             /* node, or -1: still waits */
    atoll_err err;
    int got; /* the message, if it was received */
} standing;

static model chans[CHANS];
static standing people[WAITERS];

/* The first in line is served: it leaves every line it stands in. */
static standing *
serve_first(model *m, int side, atoll_err err)
{
    if (m->line_len[side] == 0) {
        return NULL;
    }
    int who = m->line[side][0] / NODES;
    people[who].won = m->line[side][0] % NODES;
    people[who].err = err;
    for (int i = 0; i < CHANS * 2; i++) {
        model *other = &chans[i / 2];
        int kept = 0, *line = other->line[i % 2];
        for (int k = 0; k < other->line_len[i % 2]; k++) {
            if (line[k] / NODES != who) {
                line[kept++] = line[k];
            }
        }
        other->line_len[i % 2] = kept;
    }
    return &people[who];
}

static int
sent_by(const standing *s)
{
    return (int)s->msgs[s->won].u.i64;
}

/* A waiting sender's message becomes the channel's. */
static bool
admit_sender(model *m)
{
    standing *s = m->len < m->capacity ? serve_first(m, SEND, ATOLL_OK) : NULL;
    if (s != NULL) {
        m->queue[m->len++] = sent_by(s);
        msgs[sent_by(s)].where = HELD;
    }
    return s != NULL;
}

static atoll_err
model_send(model *m, int msg)
{
    if (m->closed) {
        return ATOLL_ERR_CLOSED;
    }
    standing *s = serve_first(m, RECV, ATOLL_OK);
    if (s != NULL) {
        s->got = msg;
        return ATOLL_OK;
    }
    if (m->len >= m->capacity) {
        return ATOLL_ERR_AGAIN;
    }
    m->queue[m->len++] = msg;
    return ATOLL_OK;
}

static atoll_err
model_recv(model *m, int *msg)
{
    if (m->len > 0) {
        *msg = m->queue[0];
        memmove(m->queue, m->queue + 1, --m->len * sizeof(int));
        admit_sender(m);
        return ATOLL_OK;
    }
    standing *s = serve_first(m, SEND, ATOLL_OK);
    if (s != NULL) {
        *msg = sent_by(s);
        return ATOLL_OK;
    }
    return m->closed ? ATOLL_ERR_CLOSED : ATOLL_ERR_AGAIN;
}

static void
check_dropped(const model *m)
{
    for (size_t i = 0; i < m->len; i++) {
        CHECK(msgs[m->queue[i]].where == GONE);
    }
}

static void
model_close(model *m, bool discard)
{
    m->closed = true;
    while (serve_first(m, RECV, ATOLL_ERR_CLOSED) != NULL) {
    }
    while (serve_first(m, SEND, ATOLL_ERR_CLOSED) != NULL) {
    }
    if (discard) {
        check_dropped(m); /* the real one has been closed already */
        m->len = 0;
    }
}

static void
model_orphan(model *m, int64_t group)
{
    size_t kept = 0, len = m->len;
    for (size_t i = 0; i < len; i++) {
        int msg = m->queue[i];
        bool mine = msgs[msg].group == group;
        if (mine && msgs[msg].rule == ATOLL_ORPHAN_REMOVE) {
            CHECK(msgs[msg].where == GONE);
            continue;
        }
        msgs[msg].orphaned |= mine && msgs[msg].rule != ATOLL_ORPHAN_KEEP;
        m->queue[kept++] = msg;
    }
    m->len = kept;
    while (kept < len && admit_sender(m)) {
    }
}

#endif
