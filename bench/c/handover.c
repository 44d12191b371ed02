/* The floors: what atoll's figures are compared with, without any Python.
 *
 *   handover parked [--floor futex|channel] [--count N] [--idle-us US]
 *                   [--sender-cpu N] [--receiver-cpu N]
 *     One thread sleeps for US, then hands a timestamp to another that has
 *     been blocked meanwhile; that one takes the time at once on waking.
 *     `futex` is the barest hand-over there is: one store, one FUTEX_WAKE,
 *     one FUTEX_WAIT. `channel` is a channel of the core. With a CPU number
 *     (Linux) that thread stays on that CPU; -1 leaves it free.
 *   handover awake [--capacity N] [--count N] [--rounds R]
 *     Two threads send a message there and back over two channels.
 *   handover oneway [--capacity N] [--count N] [--rounds R]
 *     One thread sends, the other receives. Capacity 0 is a rendezvous, -1
 *     is unbounded.
 *   handover pairs [--pairs N] [--seconds S]
 *     N pairs of threads play ping-pong at once, over channels of capacity 1.
 *
 * Each prints one line of JSON. Times are of CLOCK_MONOTONIC.
 */
#define _GNU_SOURCE

#include "atoll/atoll.h"

#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#ifdef __linux__
#include <linux/futex.h>
#include <sys/syscall.h>
#include <unistd.h>
#endif

#define MAX_PAIRS 256
#define NS_PER_S INT64_C(1000000000)

/* How many round trips pass between two looks at the clock. */
#define CLOCK_EVERY 16

typedef struct options {
    long count;
    long rounds;
    long capacity;
    long idle_us;
    long pairs;
    long sender_cpu; /* -1: any */
    long receiver_cpu;
    double seconds;
    const char *floor;
} options;

static int64_t
now_ns(void)
{
    struct timespec ts;
    clock_gettime(CLOCK_MONOTONIC, &ts);
    return (int64_t)ts.tv_sec * NS_PER_S + ts.tv_nsec;
}

static void
sleep_ns(int64_t ns)
{
    struct timespec ts = {(time_t)(ns / NS_PER_S), (long)(ns % NS_PER_S)};
    nanosleep(&ts, NULL);
}

static void
die(const char *what)
{
    fprintf(stderr, "handover: %s\n", what);
    exit(2);
}

/* Every error is fatal here: a benchmark that lost a message measures
 * nothing. */
static void
check(atoll_err err, const char *what)
{
    if (err != ATOLL_OK) {
        fprintf(stderr, "handover: %s: %s\n", what, atoll_strerror((int)err));
        exit(2);
    }
}

static void *
must_alloc(size_t n, size_t size)
{
    void *ptr = calloc(n, size);
    if (ptr == NULL) {
        die("out of memory");
    }
    return ptr;
}

static void
start_thread(pthread_t *thread, void *(*body)(void *), void *arg)
{
    if (pthread_create(thread, NULL, body, arg) != 0) {
        die("cannot start a thread");
    }
}

/* Keep the calling thread on one CPU; -1 leaves it free. */
static void
stay_on(long cpu)
{
    if (cpu < 0) {
        return;
    }
#ifdef __linux__
    cpu_set_t set;
    CPU_ZERO(&set);
    if (cpu < CPU_SETSIZE) {
        CPU_SET((size_t)cpu, &set);
    }
    if (sched_setaffinity(0, sizeof(set), &set) == 0) {
        return;
    }
#endif
    die("cannot keep a thread on that CPU");
}

static const atoll_wait FOREVER = {.deadline = ATOLL_FOREVER};

static void
send_int(atoll_chan *chan, int64_t value)
{
    atoll_msg msg;
    memset(&msg, 0, sizeof(msg));
    msg.group = -1;
    msg.u.i64 = value;
    check(atoll_chan_send(chan, &msg, &FOREVER), "send");
}

static int64_t
recv_int(atoll_chan *chan)
{
    atoll_msg msg;
    check(atoll_chan_recv(chan, &msg, &FOREVER), "recv");
    int64_t value = msg.u.i64;
    atoll_msg_drop(&msg);
    return value;
}

static atoll_chan *
new_chan(long capacity)
{
    atoll_chan *chan = NULL;
    size_t size = capacity < 0 ? ATOLL_UNBOUNDED : (size_t)capacity;
    check(atoll_chan_new(size, 0, &chan), "new channel");
    return chan;
}

/* ---------------------------------------------------------------- output */

static int
compare_i64(const void *a, const void *b)
{
    int64_t x = *(const int64_t *)a, y = *(const int64_t *)b;
    return (x > y) - (x < y);
}

static void
print_values(const char *mode, int64_t *values, long n)
{
    qsort(values, (size_t)n, sizeof(*values), compare_i64);
    int64_t median =
        n % 2 != 0 ? values[n / 2] : (values[n / 2 - 1] + values[n / 2]) / 2;
    printf("{\"mode\": \"%s\", \"count\": %ld, \"min_ns\": %lld, "
           "\"median_ns\": %lld, \"max_ns\": %lld}\n",
           mode, n, (long long)values[0], (long long)median, (long long)values[n - 1]);
}

static void
print_rounds(const char *mode, const double *ns, long n)
{
    printf("{\"mode\": \"%s\", \"ns\": [", mode);
    for (long i = 0; i < n; i++) {
        printf("%s%.2f", i > 0 ? ", " : "", ns[i]);
    }
    printf("]}\n");
}

/* ---------------------------------------------------------------- parked */

/* The bare hand-over. `word` counts the values handed over so far, `taken`
 * those that the receiver has read. */
typedef struct mailbox {
    _Atomic uint32_t word;
    _Atomic uint32_t taken;
    int64_t sent; /* written before `word`, read before `taken` */
#ifndef __linux__
    pthread_mutex_t mutex;
    pthread_cond_t cond;
#endif
} mailbox;

#ifdef __linux__
static void
mailbox_init(mailbox *box)
{
    atomic_init(&box->word, 0);
    atomic_init(&box->taken, 0);
}

static void
mailbox_put(mailbox *box, uint32_t nth)
{
    atomic_store_explicit(&box->word, nth, memory_order_release);
    syscall(SYS_futex, &box->word, FUTEX_WAKE_PRIVATE, 1, NULL, NULL, 0);
}

static void
mailbox_get(mailbox *box, uint32_t nth)
{
    /* Pairs with the release in mailbox_put. */
    while (atomic_load_explicit(&box->word, memory_order_acquire) != nth) {
        syscall(SYS_futex, &box->word, FUTEX_WAIT_PRIVATE, nth - 1, NULL, NULL, 0);
    }
}
#else
static void
mailbox_init(mailbox *box)
{
    atomic_init(&box->word, 0);
    atomic_init(&box->taken, 0);
    pthread_mutex_init(&box->mutex, NULL);
    pthread_cond_init(&box->cond, NULL);
}

static void
mailbox_put(mailbox *box, uint32_t nth)
{
    pthread_mutex_lock(&box->mutex);
    atomic_store(&box->word, nth);
    pthread_cond_signal(&box->cond);
    pthread_mutex_unlock(&box->mutex);
}

static void
mailbox_get(mailbox *box, uint32_t nth)
{
    pthread_mutex_lock(&box->mutex);
    while (atomic_load(&box->word) != nth) {
        pthread_cond_wait(&box->cond, &box->mutex);
    }
    pthread_mutex_unlock(&box->mutex);
}
#endif

typedef struct parked {
    mailbox box;
    atoll_chan *chan; /* NULL: use the mailbox */
    long count;
    long cpu;
    int64_t *latency; /* [count], written by the receiver */
} parked;

static void *
parked_receiver(void *arg)
{
    parked *p = arg;
    stay_on(p->cpu);
    for (long i = 0; i < p->count; i++) {
        int64_t sent;
        if (p->chan != NULL) {
            sent = recv_int(p->chan);
        }
        else {
            mailbox_get(&p->box, (uint32_t)(i + 1));
            sent = p->box.sent;
        }
        p->latency[i] = now_ns() - sent;
        atomic_store(&p->box.taken, (uint32_t)(i + 1));
    }
    return NULL;
}

static void
run_parked(const options *opt)
{
    parked p = {.chan = NULL, .count = opt->count, .cpu = opt->receiver_cpu};
    mailbox_init(&p.box);
    p.latency = must_alloc((size_t)opt->count, sizeof(int64_t));
    if (strcmp(opt->floor, "channel") == 0) {
        p.chan = new_chan(1024);
    }
    else if (strcmp(opt->floor, "futex") != 0) {
        die("--floor is futex or channel");
    }
    pthread_t receiver;
    start_thread(&receiver, parked_receiver, &p);
    stay_on(opt->sender_cpu);
    for (long i = 0; i < opt->count; i++) {
        sleep_ns((int64_t)opt->idle_us * 1000);
        if (p.chan != NULL) {
            send_int(p.chan, now_ns());
        }
        else {
            /* Never true but on a machine that stalls: the receiver has had
             * `idle_us` to read the one before. */
            while (atomic_load(&p.box.taken) != (uint32_t)i) {
                sched_yield();
            }
            p.box.sent = now_ns();
            mailbox_put(&p.box, (uint32_t)(i + 1));
        }
    }
    pthread_join(receiver, NULL);
    print_values(opt->floor, p.latency, opt->count);
    if (p.chan != NULL) {
        atoll_chan_unref(p.chan);
    }
    free(p.latency);
}

/* ------------------------------------------------------ awake and one way */

typedef struct link {
    atoll_chan *there, *back;
    long count;
} link_t;

static void *
echo(void *arg)
{
    link_t *link = arg;
    for (;;) {
        int64_t value = recv_int(link->there);
        if (value < 0) {
            return NULL;
        }
        send_int(link->back, value);
    }
}

static void
run_awake(const options *opt)
{
    link_t link = {new_chan(opt->capacity), new_chan(opt->capacity), 0};
    double *ns = must_alloc((size_t)opt->rounds, sizeof(double));
    pthread_t thread;
    start_thread(&thread, echo, &link);
    for (long r = 0; r < opt->rounds; r++) {
        int64_t start = now_ns();
        for (long i = 0; i < opt->count; i++) {
            send_int(link.there, i);
            if (recv_int(link.back) != i) {
                die("a message came back changed");
            }
        }
        ns[r] = (double)(now_ns() - start) / (double)opt->count;
    }
    send_int(link.there, -1);
    pthread_join(thread, NULL);
    print_rounds("awake", ns, opt->rounds);
    atoll_chan_unref(link.there);
    atoll_chan_unref(link.back);
    free(ns);
}

static void *
drain(void *arg)
{
    link_t *link = arg;
    for (long i = 0; i < link->count; i++) {
        if (recv_int(link->there) != i) {
            die("a message is out of order");
        }
    }
    send_int(link->back, link->count);
    return NULL;
}

static void
run_oneway(const options *opt)
{
    double *ns = must_alloc((size_t)opt->rounds, sizeof(double));
    for (long r = 0; r < opt->rounds; r++) {
        link_t link = {new_chan(opt->capacity), new_chan(1), opt->count};
        pthread_t thread;
        start_thread(&thread, drain, &link);
        int64_t start = now_ns();
        for (long i = 0; i < opt->count; i++) {
            send_int(link.there, i);
        }
        recv_int(link.back);
        ns[r] = (double)(now_ns() - start) / (double)opt->count;
        pthread_join(thread, NULL);
        atoll_chan_unref(link.there);
        atoll_chan_unref(link.back);
    }
    print_rounds("oneway", ns, opt->rounds);
    free(ns);
}

/* ----------------------------------------------------------------- pairs */

typedef struct pair {
    link_t link;
    pthread_t ping, pong;
    pthread_barrier_t *gate;
    int64_t duration; /* ns */
    long trips;       /* written by the ping thread */
    double seconds;   /* how long it really took */
} pair;

static void *
ping(void *arg)
{
    pair *p = arg;
    long trips = 0;
    pthread_barrier_wait(p->gate);
    int64_t start = now_ns(), now = start;
    while (now - start < p->duration) {
        for (int i = 0; i < CLOCK_EVERY; i++) {
            send_int(p->link.there, trips);
            if (recv_int(p->link.back) != trips) {
                die("a message came back changed");
            }
            trips++;
        }
        now = now_ns();
    }
    send_int(p->link.there, -1);
    p->trips = trips;
    p->seconds = (double)(now - start) / (double)NS_PER_S;
    return NULL;
}

static void
run_pairs(const options *opt)
{
    if (opt->pairs > MAX_PAIRS) {
        die("too many pairs");
    }
    pthread_barrier_t gate;
    pthread_barrier_init(&gate, NULL, (unsigned)opt->pairs);
    pair *pairs = must_alloc((size_t)opt->pairs, sizeof(pair));
    for (long i = 0; i < opt->pairs; i++) {
        pair *p = &pairs[i];
        p->link.there = new_chan(1);
        p->link.back = new_chan(1);
        p->gate = &gate;
        p->duration = (int64_t)(opt->seconds * (double)NS_PER_S);
        start_thread(&p->pong, echo, &p->link);
    }
    for (long i = 0; i < opt->pairs; i++) {
        start_thread(&pairs[i].ping, ping, &pairs[i]);
    }
    printf("{\"mode\": \"pairs\", \"per_second\": [");
    for (long i = 0; i < opt->pairs; i++) {
        pair *p = &pairs[i];
        pthread_join(p->ping, NULL);
        pthread_join(p->pong, NULL);
        printf("%s%.1f", i > 0 ? ", " : "", (double)p->trips / p->seconds);
        atoll_chan_unref(p->link.there);
        atoll_chan_unref(p->link.back);
    }
    printf("]}\n");
    pthread_barrier_destroy(&gate);
    free(pairs);
}

/* ---------------------------------------------------------- command line */

static const char USAGE[] =
    "usage: handover parked [--floor futex|channel] [--count N] "
    "[--idle-us US]\n"
    "                       [--sender-cpu N] [--receiver-cpu N]\n"
    "       handover awake|oneway [--capacity N] [--count N] [--rounds R]\n"
    "       handover pairs [--pairs N] [--seconds S]\n";

static void
usage(void)
{
    fputs(USAGE, stderr);
    exit(2);
}

static long
to_long(const char *text, long least)
{
    char *end;
    long value = strtol(text, &end, 10);
    if (*text == '\0' || *end != '\0' || value < least) {
        usage();
    }
    return value;
}

int
main(int argc, char **argv)
{
    options opt = {.count = 0,
                   .rounds = 5,
                   .capacity = 1,
                   .idle_us = 5000,
                   .pairs = 4,
                   .sender_cpu = -1,
                   .receiver_cpu = -1,
                   .seconds = 2.0,
                   .floor = "futex"};
    if (argc < 2 || argc % 2 != 0) {
        usage();
    }
    for (int i = 2; i < argc; i += 2) {
        const char *name = argv[i], *value = argv[i + 1];
        if (strcmp(name, "--floor") == 0) {
            opt.floor = value;
        }
        else if (strcmp(name, "--count") == 0) {
            opt.count = to_long(value, 1);
        }
        else if (strcmp(name, "--rounds") == 0) {
            opt.rounds = to_long(value, 1);
        }
        else if (strcmp(name, "--capacity") == 0) {
            opt.capacity = to_long(value, -1);
        }
        else if (strcmp(name, "--idle-us") == 0) {
            opt.idle_us = to_long(value, 0);
        }
        else if (strcmp(name, "--sender-cpu") == 0) {
            opt.sender_cpu = to_long(value, -1);
        }
        else if (strcmp(name, "--receiver-cpu") == 0) {
            opt.receiver_cpu = to_long(value, -1);
        }
        else if (strcmp(name, "--pairs") == 0) {
            opt.pairs = to_long(value, 1);
        }
        else if (strcmp(name, "--seconds") == 0) {
            char *end;
            opt.seconds = strtod(value, &end);
            if (*end != '\0' || !(opt.seconds > 0 && opt.seconds < 3600)) {
                usage();
            }
        }
        else {
            usage();
        }
    }
    const char *mode = argv[1];
    if (strcmp(mode, "parked") == 0) {
        opt.count = opt.count > 0 ? opt.count : 200;
        run_parked(&opt);
    }
    else if (strcmp(mode, "awake") == 0) {
        opt.count = opt.count > 0 ? opt.count : 100000;
        run_awake(&opt);
    }
    else if (strcmp(mode, "oneway") == 0) {
        opt.count = opt.count > 0 ? opt.count : 1000000;
        run_oneway(&opt);
    }
    else if (strcmp(mode, "pairs") == 0) {
        run_pairs(&opt);
    }
    else {
        usage();
    }
    return 0;
}
