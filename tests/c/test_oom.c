/* No memory: the N-th allocation fails, for every N, and then every one from
 * the N-th on. Each call that cannot have memory leaves all as it was, and in
 * the end nothing is left over. */
#include "atoll/sync.h"
#include "helper.h"

static long live, calls;   /* of the allocator; this program has one thread */
static long fail_at;       /* the call that fails; 0: none */
static bool fail_for_good; /* and all calls after it */
static long failed;

static bool
refuse(void)
{
    calls++;
    bool now = fail_at != 0 && (calls == fail_at || (fail_for_good && calls > fail_at));
    failed += now;
    return now;
}

static void *
counted_alloc(size_t size, void *arg)
{
    CHECK(arg == &live && size > 0);
    if (refuse()) {
        return NULL;
    }
    void *ptr = malloc(size);
    live += ptr != NULL;
    return ptr;
}

static void *
counted_realloc(void *ptr, size_t size, void *arg)
{
    CHECK(arg == &live && size > 0);
    if (refuse()) {
        return NULL;
    }
    void *grown = realloc(ptr, size);
    live += ptr == NULL && grown != NULL;
    return grown;
}

static void
counted_free(void *ptr, void *arg)
{
    CHECK(arg == &live && ptr != NULL);
    live--;
    free(ptr);
}

/* ---------------------------------------------------------------- scenario */

enum { MANY = 3000 };

static uint64_t
channels(void)
{
    atoll_stats stats;
    atoll_stats_get(&stats);
    return stats.channels;
}

/* NULL when there is no memory, even the second time. */
static atoll_chan *
try_new(size_t capacity)
{
    for (int i = 0; i < 2; i++) {
        atoll_chan *chan = (atoll_chan *)&live, *const before = chan;
        uint64_t count = channels();
        if (atoll_chan_new(capacity, 0, &chan) == ATOLL_OK) {
            CHECK(channels() == count + 1);
            return chan;
        }
        CHECK(chan == before && channels() == count);
        CHECK(atoll_chan_list(0, NULL, 0) == count);
    }
    return NULL;
}

/* Send, a second time if the first could not; false if neither could. */
static bool
try_send(atoll_chan *chan, int64_t value, int64_t group)
{
    for (int i = 0; i < 2; i++) {
        atoll_msg msg = number(value);
        msg.group = group;
        msg.orphan = group >= 0 ? ATOLL_ORPHAN_REMOVE : ATOLL_ORPHAN_KEEP;
        const atoll_msg before = msg;
        size_t len = atoll_chan_len(chan);
        atoll_err err = atoll_chan_send(chan, &msg, &try_once);
        if (err == ATOLL_OK) {
            CHECK(atoll_chan_len(chan) == len + 1);
            return true;
        }
        CHECK(err == ATOLL_ERR_NOMEM);
        CHECK(memcmp(&msg, &before, sizeof(msg)) == 0); /* still ours */
        CHECK(atoll_chan_len(chan) == len);
    }
    return false;
}

/* Fill `chan` as far as it goes with every third message of group 5, let that
 * group end, and see that the others are there in order. */
static void
fill_orphan_drain(atoll_chan *chan, int64_t count)
{
    int64_t sent = 0, kept = 0;
    for (int i = 0; i < 5 && try_send(chan, i, -1); i++) { /* move the head */
        CHECK(recv_number(chan, &try_once) == i);
    }
    while (sent < count && try_send(chan, sent, sent % 3 == 0 ? 5 : -1)) {
        kept += sent % 3 != 0;
        sent++;
    }
    uint32_t before = drops;
    atoll_chan_orphan_all(5); /* cannot fail */
    CHECK(drops - before == (uint32_t)(sent - kept));
    CHECK(atoll_chan_len(chan) == (size_t)kept);
    for (int64_t i = 0; i < sent; i++) {
        if (i % 3 != 0) {
            CHECK(recv_number(chan, &try_once) == i);
        }
    }
    CHECK(recv_number(chan, &try_once) == -ATOLL_ERR_AGAIN);
}

static void
no_fill(int64_t now, atoll_msg *msg)
{
    (void)now;
    (void)msg;
}

/* A timer that is a channel: all of it or nothing. Poison needs no memory. */
static void
timer_and_poison(void)
{
    atoll_stats stats;
    uint64_t count = channels();
    atoll_chan *chan;
    atoll_msg why = number(1);
    atoll_err err = atoll_chan_timer(ATOLL_FOREVER, 0, 0, no_fill, &chan);
    if (err == ATOLL_OK) {
        uint32_t before = drops;
        CHECK(atoll_chan_poison(chan, &why, NULL) == ATOLL_OK);
        atoll_chan_unref(chan);
        CHECK(drops == before + 1);
    }
    else {
        CHECK(err == ATOLL_ERR_NOMEM);
    }
    atoll_stats_get(&stats);
    CHECK(stats.timers == 0 && stats.channels == count);
}

static void
scenario(void)
{
    uint64_t count = channels();
    timer_and_poison();
    drops = 0;
    atoll_chan *bounded = try_new(100), *unbounded = try_new(ATOLL_UNBOUNDED);
    if (bounded != NULL) {
        fill_orphan_drain(bounded, 100);
        uint32_t before = drops, sent = 0;
        while (sent < 20 && try_send(bounded, 1, 6)) {
            sent++;
        }
        CHECK(atoll_chan_close(bounded, true));
        CHECK(drops == before + sent);
        atoll_chan_unref(bounded);
    }
    if (unbounded != NULL) {
        fill_orphan_drain(unbounded, MANY);
        uint32_t before = drops, sent = 0;
        while (sent < 20 && try_send(unbounded, 1, 6)) {
            sent++;
        }
        atoll_chan_unref(unbounded);
        CHECK(drops == before + sent);
    }
    CHECK(channels() == count);
}

static long
run_with(long nth, bool for_good)
{
    fail_at = nth;
    fail_for_good = for_good;
    calls = failed = 0;
    scenario();
    CHECK(live == 0);
    fail_at = 0;
    return failed;
}

static void
nothing_fails(void)
{
    CHECK(run_with(0, false) == 0);
    CHECK(calls > 15); /* otherwise the scenario tests nothing */
    CHECK(drops == 34 + 20 + MANY / 3 + 20);
    printf("# %ld allocations\n", calls);
}

static void
each_fails_once(void)
{
    long nth = 1;
    while (run_with(nth, false) == 1) {
        nth++;
    }
    CHECK(nth > 15);
}

static void
all_fail_from_the_nth_on(void)
{
    long nth = 1;
    while (run_with(nth, true) > 0) {
        nth++;
    }
    CHECK(nth > 15);
}

/* A message for somebody who waits needs no memory. */
static void *
receive_one(void *arg)
{
    CHECK(recv_number(arg, &for_ever) == 3);
    return NULL;
}

static void
hand_over_needs_no_memory(void)
{
    atoll_chan *chan = new_chan(ATOLL_UNBOUNDED);
    pthread_t thread = start(receive_one, chan);
    UNTIL(waiting(chan, &chan->recvq) == 1);
    fail_at = 1;
    fail_for_good = true;
    calls = 0;
    CHECK(send_number(chan, 3, &try_once) == ATOLL_OK);
    join(thread);
    CHECK(calls == 0);
    CHECK(send_number(chan, 4, &try_once) == ATOLL_ERR_NOMEM);
    fail_at = 0;
    atoll_chan_unref(chan);
    CHECK(live == 0);
}

/* Operations are their callers' storage: only the queue, and a message that is
 * put back into a channel, may need memory. */
static void
operations_need_no_memory(void)
{
    atoll_cq *cq = NULL;
    fail_at = 1;
    fail_for_good = true;
    calls = 0;
    CHECK(atoll_cq_new(&cq) == ATOLL_ERR_NOMEM && cq == NULL);
    fail_at = 0;
    CHECK(atoll_cq_new(&cq) == ATOLL_OK);
    atoll_chan *chan = new_chan(0);
    atoll_op in = {.user = NULL}, out = {.msg = number(7)};
    uint32_t before = drops;
    fail_at = 1;
    calls = 0;
    CHECK(atoll_cq_fd(cq) >= 0);
    CHECK(atoll_chan_recv_start(chan, &in, cq) == ATOLL_ERR_AGAIN);
    CHECK(atoll_chan_send_start(chan, &out, cq) == ATOLL_OK);
    CHECK(atoll_cq_next(cq) == &in && in.msg.u.i64 == 7 && calls == 0);
    CHECK(atoll_chan_unrecv(chan, &in.msg) == ATOLL_ERR_NOMEM);
    CHECK(in.msg.u.i64 == 7 && drops == before); /* still the caller's */
    CHECK(atoll_chan_len(chan) == 0);
    fail_at = 0;
    CHECK(atoll_chan_unrecv(chan, &in.msg) == ATOLL_OK);
    CHECK(recv_number(chan, &try_once) == 7);
    atoll_chan_unref(chan);
    atoll_cq_unref(cq);
    CHECK(live == 0);
}

/* Locks and what is like them need memory to be made, and then never again. */
static void
locks_need_memory_once(void)
{
    atoll_sync *lock = NULL, *cond = NULL, *barrier = NULL;
    atoll_party me = {1, 1};
    atoll_turn turn;
    fail_at = 1;
    fail_for_good = true;
    calls = 0;
    CHECK(atoll_sync_new(ATOLL_LOCK, &lock) == ATOLL_ERR_NOMEM);
    CHECK(atoll_barrier_new(1, false, ATOLL_FOREVER, &barrier) == ATOLL_ERR_NOMEM);
    fail_at = 0;
    CHECK(atoll_sync_new(ATOLL_LOCK, &lock) == ATOLL_OK);
    CHECK(atoll_barrier_new(1, false, ATOLL_FOREVER, &barrier) == ATOLL_OK);
    fail_at = 1;
    CHECK(atoll_cond_new(lock, &cond) == ATOLL_ERR_NOMEM);
    fail_at = 0;
    CHECK(atoll_cond_new(lock, &cond) == ATOLL_OK);
    fail_at = 1;
    calls = 0;
    CHECK(atoll_sync_take(lock, me, &for_ever) == ATOLL_OK);
    CHECK(atoll_cond_enter(cond, &turn) == ATOLL_OK);
    CHECK(atoll_cond_notify(cond, 1) == 1);
    CHECK(atoll_turn_wait(cond, &turn, &for_ever) == ATOLL_OK);
    atoll_sync_orphan_all(1);
    CHECK(atoll_sync_take(lock, me, &for_ever) == ATOLL_ERR_OWNER_DIED);
    CHECK(atoll_barrier_arrive(barrier, &turn) == ATOLL_OK);
    CHECK(atoll_turn_wait(barrier, &turn, &for_ever) == ATOLL_OK);
    CHECK(calls == 0);
    fail_at = 0;
    atoll_sync_unref(cond);
    atoll_sync_unref(lock);
    atoll_sync_unref(barrier);
    CHECK(live == 0);
}

/* The public allocation functions are the hooks. */
static void
public_functions(void)
{
    char *text = atoll_alloc(0);
    CHECK(text != NULL && live == 1);
    char *longer = atoll_realloc(text, 100);
    CHECK(longer != NULL && live == 1);
    memset(longer, 1, 100);
    calls = 0;
    fail_at = 1;
    fail_for_good = true;
    CHECK(atoll_alloc(1) == NULL);
    CHECK(atoll_realloc(longer, 200) == NULL && longer[99] == 1);
    fail_at = 0;
    atoll_free(longer);
    atoll_free(NULL);
    CHECK(live == 0);

    uint32_t count = 1;
    atoll_count_up(&count);
    CHECK(!atoll_count_down(&count));
    CHECK(atoll_count_down(&count));
}

int
main(void)
{
    static const atoll_allocator counted = {counted_alloc, counted_realloc,
                                            counted_free, &live};
    TAP_BEGIN(60);
    atoll_set_allocator(&counted);
    RUN(nothing_fails);
    RUN(each_fails_once);
    RUN(all_fail_from_the_nth_on);
    RUN(hand_over_needs_no_memory);
    RUN(operations_need_no_memory);
    RUN(locks_need_memory_once);
    RUN(public_functions);
    TAP_END();
}
