/* What CPython itself costs: create and end interpreters, and nothing else.
 *
 * bench/py/lifecycle.py compiles this file into a small shared library for the
 * Python that it runs on, and calls it through ctypes.CDLL, that is, without
 * the GIL. Each interpreter has its own GIL and is created and ended on a
 * thread of its own, as atoll's are. What memory stays behind afterwards is
 * CPython's, and atoll is compared with it.
 */
#define _GNU_SOURCE

#include <Python.h>

#include <pthread.h>
#include <stdint.h>
#include <time.h>

/* One create and end. */
typedef struct cycle {
    int64_t create_ns;
    int64_t end_ns;
    int failed;
} cycle;

static int64_t
now_ns(void)
{
    struct timespec ts;
    clock_gettime(CLOCK_MONOTONIC, &ts);
    return (int64_t)ts.tv_sec * 1000000000 + ts.tv_nsec;
}

static void *
run_cycle(void *arg)
{
    cycle *result = arg;
    PyInterpreterConfig config = {
        .use_main_obmalloc = 0,
        .allow_fork = 0,
        .allow_exec = 0,
        .allow_threads = 1,
        .allow_daemon_threads = 0,
        .check_multi_interp_extensions = 1,
        .gil = PyInterpreterConfig_OWN_GIL,
    };
    PyGILState_STATE gil = PyGILState_Ensure();
    PyThreadState *outer = PyThreadState_Get();
    PyThreadState *inner = NULL;

    int64_t start = now_ns();
    PyStatus status = Py_NewInterpreterFromConfig(&inner, &config);
    int64_t created = now_ns();
    if (PyStatus_Exception(status) || inner == NULL) {
        result->failed = 1;
    }
    else {
        Py_EndInterpreter(inner);
        result->create_ns = created - start;
        result->end_ns = now_ns() - created;
        PyThreadState_Swap(outer);
    }
    PyGILState_Release(gil);
    return NULL;
}

/* Create and end `count` interpreters, one after the other. Fills
 * `create_ns[count]` and `end_ns[count]`. Returns how many failed, or -1 when
 * a thread could not be started. Call it without the GIL. */
__attribute__((visibility("default"))) int
bare_cycles(int count, int64_t *create_ns, int64_t *end_ns)
{
    int failed = 0;
    for (int i = 0; i < count; i++) {
        cycle result = {0, 0, 0};
        pthread_t thread;
        pthread_attr_t attr;
        pthread_attr_init(&attr);
        pthread_attr_setstacksize(&attr, (size_t)8 << 20);
        int err = pthread_create(&thread, &attr, run_cycle, &result);
        pthread_attr_destroy(&attr);
        if (err != 0) {
            return -1;
        }
        pthread_join(thread, NULL);
        create_ns[i] = result.create_ns;
        end_ns[i] = result.end_ns;
        failed += result.failed;
    }
    return failed;
}
