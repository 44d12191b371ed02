/* Test Anything Protocol, as much of it as these programs need.
 *
 *     int main(void) { TAP_BEGIN(60); RUN(first); RUN(second); TAP_END(); }
 *
 * RUN prints one `ok` or `not ok` line for a function, CHECK says what went
 * wrong in it and goes on; it may be used on any thread. A program that has
 * not ended after the seconds given to TAP_BEGIN is taken to hang. */
#ifndef TAP_H
#define TAP_H

#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static int tap_run, tap_failed;
static unsigned tap_complaints; /* atomic; of the function that runs */

static inline bool
tap_check(bool good, const char *file, int line, const char *text)
{
    if (!good && __atomic_fetch_add(&tap_complaints, 1, __ATOMIC_RELAXED) < 20) {
        printf("# %s:%d: %s\n", file, line, text);
    }
    return good;
}

#define CHECK(cond) tap_check((cond), __FILE__, __LINE__, #cond)

static inline void
tap_hang(int sig)
{
    static const char text[] = "Bail out! it hangs\n";
    (void)sig;
    ssize_t put = write(STDOUT_FILENO, text, sizeof(text) - 1);
    (void)put;
    _exit(99);
}

static inline void
tap_report(const char *name)
{
    bool good = __atomic_exchange_n(&tap_complaints, 0, __ATOMIC_RELAXED) == 0;
    tap_failed += !good;
    printf("%s %d - %s\n", good ? "ok" : "not ok", ++tap_run, name);
}

#define TAP_BEGIN(seconds) \
    (setvbuf(stdout, NULL, _IOLBF, 0), signal(SIGALRM, tap_hang), alarm(seconds))
#define RUN(function) (function(), tap_report(#function))
#define TAP_END()                                                             \
    (printf("1..%d\n# %d passed, %d failed\n", tap_run, tap_run - tap_failed, \
            tap_failed),                                                      \
     exit(tap_failed != 0))

#endif
