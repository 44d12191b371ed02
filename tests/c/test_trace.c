/* Logs: what is noted is there, in order; the limit; threads that come and go while
 * tracing begins and ends. */
#include <sched.h>

#include "atoll/trace.h"
#include "helper.h"

#define THREADS 4

static int64_t
namer(char *name, size_t size)
{
    snprintf(name, size, "somebody");
    return 42;
}

/* Count the events of all logs, and check that each log's ids ascend. */
static uint64_t
drain(uint64_t *lost, size_t *logs)
{
    uint64_t found = 0;
    *logs = 0;
    for (atoll_trace_log *log = atoll_trace_stop(lost); log != NULL;
         log = atoll_trace_drop(log)) {
        const void *at = NULL;
        const atoll_trace_event *events;
        size_t count;
        uint64_t before = 0;
        atoll_trace_facts facts;
        atoll_trace_look(log, &facts);
        CHECK(facts.number == 42 && strcmp(facts.name, "somebody") == 0);
        CHECK(facts.thread > 0);
        while ((events = atoll_trace_next(log, &at, &count)) != NULL) {
            for (size_t i = 0; i < count; i++) {
                CHECK(events[i].id > before && events[i].kind == 3);
                before = events[i].id;
            }
            found += count;
        }
        (*logs)++;
    }
    return found;
}

static void
notes(void)
{
    uint64_t lost;
    size_t logs;
    CHECK(!atoll_trace_on(ATOLL_TRACE_ON));
    CHECK(atoll_trace_start(100000, 4, namer));
    CHECK(!atoll_trace_start(100000, 0, namer));
    CHECK(atoll_trace_on(ATOLL_TRACE_ON) && atoll_trace_on(4) && !atoll_trace_on(8));
    for (uint64_t i = 1; i <= 2000; i++) {
        atoll_trace_note(3, 1, 2, i, "a name that is longer than there is room for");
    }
    CHECK(drain(&lost, &logs) == 2000 && lost == 0 && logs == 1);
    CHECK(!atoll_trace_on(ATOLL_TRACE_ON));
    CHECK(drain(&lost, &logs) == 0 && logs == 0);
}

static void
names(void)
{
    static const char digits[] = "0123456789012345678901234567890123456789";
    CHECK(atoll_trace_start(1000, 0, namer));
    atoll_trace_note(3, 1, 2, 1, digits); /* 40: one too many */
    atoll_trace_note(3, 1, 2, 2, NULL);
    uint64_t lost;
    atoll_trace_log *log = atoll_trace_stop(&lost);
    const void *at = NULL;
    size_t count;
    const atoll_trace_event *e = atoll_trace_next(log, &at, &count);
    CHECK(count == 2);
    CHECK(memcmp(e[0].name, digits, sizeof(e[0].name)) == 0);
    CHECK(e[1].name[0] == '\0');
    CHECK(atoll_trace_drop(log) == NULL);
}

static void
limit(void)
{
    uint64_t lost;
    size_t logs;
    CHECK(atoll_trace_start(1022, 0, namer));
    for (uint64_t i = 1; i <= 2000; i++) {
        atoll_trace_note(3, 1, 2, i, NULL);
    }
    CHECK(drain(&lost, &logs) == 1022 && lost == 2000 - 1022);
}

static uint32_t over; /* atomic */

static void *
work(void *arg)
{
    (void)arg;
    for (uint64_t i = 1; at_load_acq(&over) == 0; i++) {
        if (atoll_trace_on(ATOLL_TRACE_ON)) {
            atoll_trace_note(3, 1, 2, i, "work");
        }
    }
    return NULL;
}

static void
begin_and_end_while_others_write(void)
{
    for (int round = 0; round < 20; round++) {
        atoll_thread threads[THREADS];
        at_store_rlx(&over, 0);
        for (int i = 0; i < THREADS; i++) {
            CHECK(atoll_thread_start(256 * 1024, work, NULL, &threads[i]) == ATOLL_OK);
        }
        uint64_t found = 0;
        for (int i = 0; i < 10; i++) {
            uint64_t lost;
            size_t logs;
            CHECK(atoll_trace_start(20000, 0, namer));
            int64_t end = atoll_now() + MS;
            while (atoll_now() < end) {
                sched_yield();
            }
            found += drain(&lost, &logs);
        }
        at_store_rel(&over, 1);
        for (int i = 0; i < THREADS; i++) {
            atoll_thread_join(threads[i]);
        }
        CHECK(found > 0);
    }
    uint64_t lost;
    size_t logs;
    (void)drain(&lost, &logs);
}

int
main(void)
{
    TAP_BEGIN(100);
    RUN(notes);
    RUN(names);
    RUN(limit);
    RUN(begin_and_end_while_others_write);
    RUN(limit);
    TAP_END();
}
