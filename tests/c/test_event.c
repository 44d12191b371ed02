/* Events: every return code, all waiters woken, storage free at once. */
#include <sched.h>
#include <sys/eventfd.h>

#include "helper.h"

static void
return_codes(void)
{
    atoll_event event = {.is_set = 0};
    CHECK(!atoll_event_is_set(&event));
    CHECK(atoll_event_wait(&event, &try_once) == ATOLL_ERR_AGAIN);
    atoll_wait wait = within_ms(20);
    CHECK(atoll_event_wait(&event, &wait) == ATOLL_ERR_TIMEOUT);
    CHECK(atoll_now() >= wait.deadline);
    wait.deadline = 1; /* long ago */
    CHECK(atoll_event_wait(&event, &wait) == ATOLL_ERR_TIMEOUT);
    CHECK(event.first == NULL && event.last == NULL);

    atoll_event_set(&event);
    CHECK(atoll_event_is_set(&event));
    CHECK(atoll_event_wait(&event, &try_once) == ATOLL_OK);
    CHECK(atoll_event_wait(&event, &wait) == ATOLL_OK);
    CHECK(atoll_event_wait(&event, &for_ever) == ATOLL_OK);
    atoll_event_set(&event); /* again: no harm */
    CHECK(atoll_event_wait(&event, &for_ever) == ATOLL_OK);
    atoll_event_reset(&event);
    CHECK(!atoll_event_is_set(&event));
    CHECK(atoll_event_wait(&event, &wait) == ATOLL_ERR_TIMEOUT);
    atoll_event_set(&event);
    CHECK(atoll_event_wait(&event, &try_once) == ATOLL_OK);
}

/* A deadline before the clock's zero is a deadline that has passed. */
static void
negative_deadlines(void)
{
    int64_t times[] = {-1, -2000 * MS, INT64_MIN};
    for (int i = 0; i < 3; i++) {
        atoll_event event = {.is_set = 0};
        atoll_wait wait = {.deadline = times[i]};
        CHECK(atoll_event_wait(&event, &wait) == ATOLL_ERR_TIMEOUT);
        wait.use_fds = true;
        wait.event_fd = eventfd(0, EFD_NONBLOCK);
        wait.intr_fd = -1;
        CHECK(atoll_event_wait(&event, &wait) == ATOLL_ERR_TIMEOUT);
        close(wait.event_fd);
    }
}

static void
kicked(void)
{
    atoll_event event = {.is_set = 0};
    atoll_kick kick = {.set = 0};
    atoll_wait wait = {.deadline = ATOLL_FOREVER, .kick = &kick};
    atoll_kick_set(&kick);
    CHECK(atoll_event_wait(&event, &wait) == ATOLL_ERR_INTERRUPTED);
    CHECK(atoll_event_wait(&event, &wait) == ATOLL_ERR_INTERRUPTED);
    CHECK(event.first == NULL && kick.now == NULL);
    atoll_event_set(&event);
    CHECK(atoll_event_wait(&event, &wait) == ATOLL_OK); /* no need to wait */
}

enum { WAITERS = 12 };

typedef struct crowd {
    atoll_event event;
    int data; /* plain: published by the event */
} crowd;

static uint32_t woken; /* atomic */

static void *
wait_in_crowd(void *arg)
{
    crowd *c = arg;
    CHECK(atoll_event_wait(&c->event, &for_ever) == ATOLL_OK);
    CHECK(c->data == 42);
    at_add_rlx(&woken, 1);
    return NULL;
}

static unsigned
standing(atoll_event *event)
{
    unsigned count = 0;
    atoll_lock_acquire(&event->lock);
    for (at_node *node = event->first; node != NULL; node = node->next) {
        count++;
    }
    atoll_lock_release(&event->lock);
    return count;
}

static void
wakes_all(void)
{
    crowd c = {.data = 0};
    pthread_t threads[WAITERS];
    for (int i = 0; i < WAITERS; i++) {
        threads[i] = start(wait_in_crowd, &c);
    }
    UNTIL(standing(&c.event) == WAITERS);
    CHECK(woken == 0);
    c.data = 42;
    atoll_event_set(&c.event);
    for (int i = 0; i < WAITERS; i++) {
        join(threads[i]);
    }
    CHECK(woken == WAITERS);
}

/* The setter does not touch the event any more once the waiter has returned:
 * it frees it at once, and what the allocator writes there would be taken for
 * a lock. (Address sanitizer makes sure of it.) */
enum { HANDOVERS = 3000 };
static atoll_chan *to_setter;

static void *
set_them(void *arg)
{
    (void)arg;
    for (int i = 0; i < HANDOVERS; i++) {
        atoll_msg msg;
        CHECK(atoll_chan_recv(to_setter, &msg, &for_ever) == ATOLL_OK);
        crowd *c = msg.u.heap.ptr;
        c->data = i;
        if (i % 3 == 0) {
            sleep_us(i % 100);
        }
        atoll_event_set(&c->event);
    }
    return NULL;
}

static void
may_be_freed_at_once(void)
{
    to_setter = new_chan(1);
    pthread_t setter = start(set_them, NULL);
    for (int i = 0; i < HANDOVERS; i++) {
        crowd *c = calloc(1, sizeof(*c));
        atoll_msg msg = {.u.heap.ptr = c};
        atoll_spin spin = {.skip = i % 2 == 0 ? 0u : 5u};
        atoll_wait wait = {.deadline = ATOLL_FOREVER, .spin = &spin};
        CHECK(atoll_chan_send(to_setter, &msg, &for_ever) == ATOLL_OK);
        CHECK(atoll_event_wait(&c->event, &wait) == ATOLL_OK);
        CHECK(c->data == i);
        memset(c, 0xee, sizeof(*c));
        free(c);
    }
    join(setter);
    atoll_chan_unref(to_setter);
}

/* A waiter that is late while the event is being set: OK and TIMEOUT are both
 * right, and in both cases it has left the queue. */
typedef struct appointment {
    atoll_event event;
    int64_t when;
} appointment;

static void *
set_in_time(void *arg)
{
    appointment *a = arg;
    while (atoll_now() < a->when) {
        sched_yield();
    }
    atoll_event_set(&a->event);
    return NULL;
}

static void
late_or_set(void)
{
    int outcomes[2] = {0, 0};
    uint64_t seed = 3;
    for (int i = 0; i < 300; i++) {
        atoll_wait wait = {.deadline = atoll_now() + 200000};
        appointment a = {.when = wait.deadline - 50000 + next_random(&seed) % 150000};
        pthread_t thread = start(set_in_time, &a);
        atoll_err err = atoll_event_wait(&a.event, &wait);
        CHECK(err == ATOLL_OK || err == ATOLL_ERR_TIMEOUT);
        outcomes[err != ATOLL_OK]++;
        join(thread);
        CHECK(a.event.first == NULL && a.event.last == NULL);
        CHECK(atoll_event_wait(&a.event, &for_ever) == ATOLL_OK);
    }
    printf("# in time %d, late %d\n", outcomes[0], outcomes[1]);
}

int
main(void)
{
    TAP_BEGIN(60);
    RUN(return_codes);
    RUN(negative_deadlines);
    RUN(kicked);
    RUN(wakes_all);
    RUN(may_be_freed_at_once);
    RUN(late_or_set);
    TAP_END();
}
