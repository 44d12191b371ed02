/* Output: what many threads of many interpreters print, up to the exit. On a fake of
 * CPython: see fake/fake.h. */
#include "rooms_helper.h"

enum { HOMES = 3, CALLS = 12, LINES = 8 };

/* Lines are "home call line": each home's are written in order, and each once. Guarded
 * by main's GIL. */
static int written[HOMES];
static uint32_t torn; /* lines that are none */

static void
write_lines(output_kind Py_UNUSED(kind), int64_t Py_UNUSED(interp), const char *data,
            size_t size)
{
    const char *end = data + size;
    while (data < end) {
        int h, number, used = 0;
        if (sscanf(data, "%d %d line\n%n", &h, &number, &used) != 2 || used == 0 ||
            h < 0 || h >= HOMES) {
            torn++;
            return;
        }
        torn += number != written[h]++;
        data += used;
    }
}

typedef struct printer {
    home *h;
    int which, next;
} printer;

/* Print some lines, in pieces. */
static PyObject *
code_print(void *arg)
{
    printer *p = arg;
    for (int i = 0; i < LINES; i++) {
        char text[32];
        snprintf(text, sizeof(text), "%d %d ", p->which, p->next++);
        if (fake_print(OUTPUT_STDOUT, text) || fake_print(OUTPUT_STDOUT, "line\n")) {
            return NULL;
        }
    }
    return Py_NewRef(Py_None);
}

/* What a call has printed is written before it returns. */
static void
print_often(main_thread *self)
{
    printer *p = self->arg;
    for (int i = 0; i < CALLS; i++) {
        CHECK(call(p->h, code_print, p) == JOB_RETURNED);
        CHECK(written[p->which] == p->next);
        if (one_in(&self->seed, 3)) {
            fake_sleep(next_random(&self->seed) % (2 * MS));
        }
    }
}

static void
calls(uint64_t *seed)
{
    main_thread threads[HOMES];
    printer printers[HOMES];
    fake_begin();
    fake_writer = write_lines;
    for (int i = 0; i < HOMES; i++) {
        printers[i] = (printer){.h = make_home("printer", false), .which = i};
        main_threads_start(&threads[i], 1, print_often, &printers[i], seed);
    }
    main_threads_join(threads, HOMES);
    for (int i = 0; i < HOMES; i++) {
        drop_home(printers[i].h);
    }
    fake_exit();
    for (int i = 0; i < HOMES; i++) {
        CHECK(written[i] == CALLS * LINES);
    }
    CHECK(torn == 0);
    check_nothing_left();
}

/* ------------------------------------------------------------------------- many
 * threads */

static uint32_t lines_sent; /* atomic */
static uint32_t lines_seen; /* guarded by main's GIL */

static const char one_line[] = "a line that is somewhat longer\n";

/* What is left to itself says so, in lines of its own. */
static void
count_lines(output_kind Py_UNUSED(kind), int64_t Py_UNUSED(interp), const char *data,
            size_t size)
{
    const char *end = data + size;
    while ((data = memmem(data, (size_t)(end - data), one_line, strlen(one_line))) !=
           NULL) {
        lines_seen++;
        data += strlen(one_line);
    }
}

/* A thread of the interpreter's that prints, and leaves a line that it has begun. */
static PyObject *
code_print_alone(void *Py_UNUSED(arg))
{
    for (int i = 0; i < LINES; i++) {
        at_add_rlx(&lines_sent, 1); /* read when all have ended */
        if (fake_print((output_kind)(i % 2), one_line)) {
            PyErr_Clear();
        }
    }
    fake_print(OUTPUT_STDOUT, "the beginning of one");
    return Py_NewRef(Py_None);
}

static PyObject *
code_start_printers(void *Py_UNUSED(arg))
{
    for (int i = 0; i < 3; i++) {
        fake_thread_start(code_print_alone, NULL, i == 0);
    }
    return code_print_alone(NULL);
}

static void
print_in_threads(main_thread *self)
{
    for (int i = 0; i < 5; i++) {
        home *h = make_home("printers", one_in(&self->seed, 2));
        CHECK(call(h, code_start_printers, NULL) == JOB_RETURNED);
        if (one_in(&self->seed, 2)) {
            job_status status = close_home(h, ATOLL_FOREVER);
            CHECK(status == JOB_RETURNED || status == JOB_REFUSED);
        }
        drop_home(h);
    }
}

static void
threads_print(uint64_t *seed)
{
    main_thread threads[3];
    fake_begin();
    fake_writer = count_lines;
    main_threads_start(threads, 3, print_in_threads, NULL, seed);
    main_threads_join(threads, 3);
    while (fake_interpreters() > 0) {
        fake_sleep(100000);
    }
    fake_exit();
    CHECK(lines_seen == at_load_rlx(&lines_sent)); /* all have ended */
    check_nothing_left();
}

/* ------------------------------------------------------------------------ exit */

static PyObject *
code_print_for_ever(void *Py_UNUSED(arg))
{
    while (!fake_print(OUTPUT_STDERR, "still here: ") &&
           !fake_print(OUTPUT_STDERR, one_line)) {
        fake_sleep(20000); /* main is to be able to follow */
    }
    return NULL;
}

static PyObject *
code_print_deaf(void *arg)
{
    while (code_print_for_ever(arg) == NULL) {
        PyErr_Clear();
    }
    return NULL;
}

static void
exit_amid(uint64_t *seed)
{
    static home *homes[HOMES];
    setenv("ATOLL_CLOSE_LIMIT", "0.05", 1);
    fake_begin();
    fake_writer = count_lines;
    for (int i = 0; i < HOMES; i++) {
        atoll_err err;
        homes[i] = make_home("for ever", one_in(seed, 2));
        bool deaf = one_in(seed, 4);
        job *j = begin_call(homes[i], deaf ? code_print_deaf : code_print_for_ever,
                            NULL, &err);
        CHECK(j != NULL);
        job_unref(j);
    }
    fake_sleep(next_random(seed) % (5 * MS));
    home_hurry();
    fake_exit();
    uint32_t seen = lines_seen;
    fake_sleep(MS);
    CHECK(lines_seen == seen); /* nothing is written after the exit */
}

static void
test_calls(void)
{
    run_programs(calls, rounds_of(5, 300), 60);
}

static void
test_threads(void)
{
    run_programs(threads_print, rounds_of(5, 300), 60);
}

static void
test_exit_amid(void)
{
    run_programs(exit_amid, rounds_of(4, 200), 60);
}

int
main(void)
{
    TAP_BEGIN(0);
    RUN(test_calls);
    RUN(test_threads);
    RUN(test_exit_amid);
    TAP_END();
}
