/* Tables, and the rolls of channels and locks that are made of them: right against a
 * plain model, and as fast with a million as with a thousand. That is shown by counting
 * steps, which no load of the machine changes. */
#include "at_table.h"
#include "atoll/sync.h"
#include "helper.h"

typedef struct thing {
    atoll_entry entry;
    bool in;
} thing;

/* Steps to `key` and to the end of its chain. */
static size_t
depth(const atoll_table *table, uint64_t key)
{
    size_t steps = 0;
    for (const atoll_entry *e = *at_table_chain(table, key); e != NULL;
         e = e->at_next) {
        steps++;
    }
    return steps;
}

static void
deepest(const atoll_table *table, thing *things, size_t count, size_t *most,
        double *mean)
{
    size_t sum = 0, found = 0;
    *most = 0;
    for (size_t i = 0; i < count; i++) {
        if (things[i].in) {
            size_t steps = depth(table, things[i].entry.key);
            *most = steps > *most ? steps : *most;
            sum += steps;
            found++;
        }
    }
    *mean = found == 0 ? 0 : (double)sum / (double)found;
}

/* Keys of all kinds: one after the other, the multiples of numbers, any. */
static uint64_t
key_of(int kind, uint64_t i)
{
    switch (kind) {
    case 0:
        return i + 1;
    case 1:
        return i * 65536;
    case 2:
        return UINT64_MAX - i;
    case 3:
        return UINT64_C(0x7f0000000000) + i * 48;
    default:
        return (i + 1) * UINT64_C(0xD1342543DE82EF95) ^ i >> 7;
    }
}

static void
steps_do_not_grow(void)
{
    enum { MILLION = 1000000 };
    thing *things = calloc(MILLION, sizeof(*things));
    for (int kind = 0; kind < 5; kind++) {
        atoll_table table = {.count = 0};
        for (size_t i = 0; i < MILLION; i++) {
            atoll_table_add(&table, &things[i].entry, key_of(kind, i));
            things[i].in = true;
        }
        CHECK(table.count == MILLION);
        size_t most;
        double mean;
        deepest(&table, things, MILLION, &most, &mean);
        printf("# kind %d: a million: %zu steps at most, %.2f as a mean", kind, most,
               mean);
        CHECK(most <= 14 && mean < 2.5);
        /* The survivors are few, and each a multiple of the same number. */
        for (size_t i = 0; i < MILLION; i++) {
            if (i % 512 != 0) {
                atoll_table_remove(&table, &things[i].entry);
                things[i].in = false;
            }
        }
        deepest(&table, things, MILLION, &most, &mean);
        printf("; %zu left: %zu, %.2f\n", table.count, most, mean);
        CHECK(most <= 16 && mean < 3);
        /* And memory is given back: less than four places for each that is left. */
        CHECK(table.at_buckets <= 2 * table.count + ATOLL_TABLE_FEW);
        for (size_t i = 0; i < MILLION; i += 512) {
            CHECK(atoll_table_find(&table, key_of(kind, i)) == &things[i].entry);
            atoll_table_remove(&table, &things[i].entry);
            CHECK(atoll_table_find(&table, key_of(kind, i)) == NULL);
        }
        CHECK(table.count == 0 && table.at_buckets == ATOLL_TABLE_FEW);
        atoll_table_end(&table);
    }
    free(things);
}

/* ------------------------------------------------------------- no memory */

static bool refusing; /* this part has one thread */
static bool refusing_large;
static long held;

static void *
stingy_alloc(size_t size, void *arg)
{
    (void)arg;
    bool refused = refusing || (refusing_large && size > 1000);
    void *ptr = refused ? NULL : malloc(size);
    held += ptr != NULL;
    return ptr;
}

static void *
stingy_realloc(void *ptr, size_t size, void *arg)
{
    (void)arg;
    void *more = refusing ? NULL : realloc(ptr, size);
    held += ptr == NULL && more != NULL;
    return more;
}

static void
stingy_free(void *ptr, void *arg)
{
    (void)arg;
    held--;
    free(ptr);
}

static void *
plain_alloc(size_t size, void *arg)
{
    (void)arg;
    return malloc(size);
}

static void *
plain_realloc(void *ptr, size_t size, void *arg)
{
    (void)arg;
    return realloc(ptr, size);
}

static void
plain_free(void *ptr, void *arg)
{
    (void)arg;
    free(ptr);
}

static const atoll_allocator stingy = {stingy_alloc, stingy_realloc, stingy_free, NULL};
static const atoll_allocator plain = {plain_alloc, plain_realloc, plain_free, NULL};

/* Random additions, removals and searches, while the memory comes and goes. */
static void
like_a_model(void)
{
    enum { KEYS = 9000, MOVES = 400000 };
    static thing things[KEYS];
    atoll_set_allocator(&stingy);
    atoll_table table = {.count = 0};
    size_t count = 0, most = 0;
    uint64_t seed = 12345;
    for (int move = 0; move < MOVES; move++) {
        seed = seed * UINT64_C(6364136223846793005) + 1442695040888963407u;
        size_t at = (size_t)(seed >> 33) % KEYS;
        refusing = move / 3000 % 3 == 1;
        /* Up for a while, then down. */
        bool add = (seed >> 20) % 8 < (move / 50000 % 2 == 0 ? 6u : 2u);
        thing *t = &things[at];
        if (add && !t->in) {
            atoll_table_add(&table, &t->entry, at * 256);
            t->in = true;
            count++;
        }
        else if (!add && t->in) {
            atoll_table_remove(&table, &t->entry);
            t->in = false;
            count--;
        }
        CHECK(atoll_table_find(&table, at * 256) == (t->in ? &t->entry : NULL));
        CHECK(table.count == count);
        most = count > most ? count : most;
    }
    for (size_t at = 0; at < KEYS; at++) {
        CHECK(atoll_table_find(&table, at * 256) ==
              (things[at].in ? &things[at].entry : NULL));
    }
    CHECK(most > KEYS / 2);
    atoll_table_end(&table);
    CHECK(table.count == 0 && held == 0);
    refusing = false;
    atoll_set_allocator(&plain);
}

/* It catches up when there is memory again. */
static void
no_memory_for_a_time(void)
{
    enum { MANY = 100000 };
    thing *things = calloc(2 * MANY, sizeof(*things));
    atoll_table table = {.count = 0};
    atoll_set_allocator(&stingy);
    for (size_t i = 0; i < 2 * MANY; i++) {
        refusing = i >= MANY / 2 && i < MANY;
        atoll_table_add(&table, &things[i].entry, i);
        things[i].in = true;
    }
    size_t most;
    double mean;
    deepest(&table, things, 2 * MANY, &most, &mean);
    CHECK(table.at_buckets == table.count && most <= 16 && mean < 3);
    atoll_table_end(&table);
    CHECK(held == 0);
    atoll_set_allocator(&plain);
    free(things);
}

/* The rolls, when there is memory for the objects, but none to grow. */
static void
nothing_is_lost(void)
{
    enum { MANY = 2000 };
    static atoll_chan *chans[MANY], *found;
    static atoll_sync *locks[MANY], *lock;
    static uint64_t ids[MANY];
    atoll_set_allocator(&stingy);
    refusing_large = true;
    for (int i = 0; i < MANY; i++) {
        CHECK(atoll_chan_new(0, 6, &chans[i]) == ATOLL_OK);
        CHECK(atoll_sync_new(ATOLL_FLAG, &locks[i]) == ATOLL_OK);
    }
    for (int round = 0; round < 2; round++) {
        CHECK(atoll_chan_list(6, ids, MANY) == MANY);
        for (int i = 0; i < MANY; i++) {
            CHECK(atoll_chan_find(ids[i], &found) == ATOLL_OK && found == chans[i]);
            CHECK(atoll_sync_find(atoll_sync_id(locks[i]), &lock) == ATOLL_OK);
            CHECK(lock == locks[i]);
            atoll_chan_unref(found);
            atoll_sync_unref(lock);
        }
        refusing_large = false; /* and it grows, with some more */
        atoll_chan *more[100];
        for (int i = 0; i < 100; i++) {
            CHECK(atoll_chan_new(0, 5, &more[i]) == ATOLL_OK);
        }
        for (int i = 0; i < 100; i++) {
            atoll_chan_unref(more[i]);
        }
    }
    for (int i = 0; i < MANY; i++) {
        atoll_chan_unref(chans[i]);
        atoll_sync_unref(locks[i]);
    }
    CHECK(atoll_chan_list(6, NULL, 0) == 0);
    atoll_set_allocator(&plain);
}

static void
equal_keys(void)
{
    thing things[200];
    atoll_table table = {.count = 0};
    CHECK(atoll_table_find(&table, 7) == NULL);
    for (size_t i = 0; i < 200; i++) {
        atoll_table_add(&table, &things[i].entry, i % 2 == 0 ? 7 : 1000 + i);
    }
    size_t i = 198;
    for (atoll_entry *e = atoll_table_find(&table, 7); e != NULL;
         e = atoll_table_again(e)) {
        CHECK(e == &things[i].entry);
        i -= 2;
    }
    CHECK(i == (size_t)0 - 2);
    atoll_table_end(&table);
    CHECK(atoll_table_find(&table, 7) == NULL);
}

/* ------------------------------------------------------------- the rolls */

static double
seconds(void)
{
    return (double)atoll_now() / 1e9;
}

/* The time to drop and to find the oldest of `have` channels and of as many locks, of
 * which the longest chains would be walked to their ends. */
static double
drop_time(size_t have)
{
    enum { SAMPLE = 2000 };
    double best = 1e9;
    atoll_chan **chans = malloc(have * sizeof(*chans));
    atoll_sync **locks = malloc(have * sizeof(*locks));
    for (size_t i = 0; i < have; i++) {
        CHECK(atoll_chan_new(0, 7, &chans[i]) == ATOLL_OK);
        CHECK(atoll_sync_new(ATOLL_LOCK, &locks[i]) == ATOLL_OK);
    }
    size_t at = 0;
    for (int round = 0; round < 8; round++) { /* the best: others use the machine */
        double begin = seconds();
        for (size_t end = at + SAMPLE / 8; at < end; at++) {
            atoll_chan *chan;
            atoll_sync *lock;
            CHECK(atoll_chan_find(atoll_chan_id(chans[at]), &chan) == ATOLL_OK);
            CHECK(atoll_sync_find(atoll_sync_id(locks[at]), &lock) == ATOLL_OK);
            CHECK(chan == chans[at] && lock == locks[at]);
            atoll_chan_unref(chan);
            atoll_sync_unref(lock);
            atoll_chan_unref(chans[at]);
            atoll_sync_unref(locks[at]);
        }
        double each = (seconds() - begin) / (SAMPLE / 8) / 4;
        best = each < best ? each : best;
    }
    for (; at < have; at++) {
        atoll_chan_unref(chans[at]);
        atoll_sync_unref(locks[at]);
    }
    free(chans);
    free(locks);
    return best;
}

/* With chains whose number is fixed it is a ratio of some hundreds. Caches and
 * translations of addresses make about ten. */
static void
many_channels_and_locks(void)
{
    double few = drop_time(2000), many = drop_time(200000);
    printf("# find or drop: %.0f ns with 2,000, %.0f ns with 200,000\n", few * 1e9,
           many * 1e9);
    CHECK(many < 50 * few);
}

/* Walks give the lock away, and find all that lives meanwhile. */
static uint32_t stop; /* atomic */

static void *
come_and_go(void *arg)
{
    (void)arg;
    while (at_load_rlx(&stop) == 0) {
        atoll_chan *few[50];
        for (int i = 0; i < 50; i++) {
            CHECK(atoll_chan_new(0, 9, &few[i]) == ATOLL_OK);
        }
        for (int i = 0; i < 50; i++) {
            atoll_chan_unref(few[(i * 7) % 50]);
        }
    }
    return NULL;
}

static void
walks_beside_changes(void)
{
    enum { STAY = 3000 };
    static atoll_chan *chans[STAY];
    static uint64_t ids[2 * STAY];
    pthread_t threads[2];
    for (int i = 0; i < STAY; i++) {
        CHECK(atoll_chan_new(1, 8, &chans[i]) == ATOLL_OK);
    }
    stop = 0;
    for (int i = 0; i < 2; i++) {
        threads[i] = start(come_and_go, NULL);
    }
    for (int round = 0; round < 50; round++) {
        CHECK(atoll_chan_list(8, ids, 2 * STAY) == STAY);
        for (int i = 0; i < STAY; i++) {
            CHECK(ids[i] == atoll_chan_id(chans[i]));
        }
        atoll_msg msg = number(round);
        msg.group = 5;
        msg.orphan = ATOLL_ORPHAN_REMOVE;
        CHECK(atoll_chan_send(chans[round * 50], &msg, &try_once) == ATOLL_OK);
        atoll_chan_orphan_all(5);
        CHECK(atoll_chan_len(chans[round * 50]) == 0);
    }
    at_store_rlx(&stop, 1);
    for (int i = 0; i < 2; i++) {
        join(threads[i]);
    }
    for (int i = 0; i < STAY; i++) {
        atoll_chan_unref(chans[i]);
    }
    CHECK(atoll_chan_list(8, NULL, 0) == 0 && atoll_chan_list(9, NULL, 0) == 0);
}

int
main(void)
{
    TAP_BEGIN(100);
    RUN(steps_do_not_grow);
    RUN(like_a_model);
    RUN(no_memory_for_a_time);
    RUN(nothing_is_lost);
    RUN(equal_keys);
    RUN(many_channels_and_locks);
    RUN(walks_beside_changes);
    TAP_END();
}
