/* Handlers of many owners: who is called, what is left when they go, and that
 * none is called, or still runs, once its owner has been forgotten. */
#include <errno.h>
#include <pthread.h>
#include <sys/wait.h>

#include "helper.h"

static unsigned counts[3]; /* atomic: of the handlers below */

static void
count_up(int which)
{
    __atomic_fetch_add(&counts[which], 1, __ATOMIC_RELAXED);
}

static unsigned
count_of(int which)
{
    return __atomic_load_n(&counts[which], __ATOMIC_RELAXED);
}

static void
first_handler(int signum)
{
    (void)signum;
    count_up(0);
}

static void
second_handler(int signum, siginfo_t *info, void *context)
{
    (void)context;
    count_up(1);
    if (info->si_signo != signum) {
        count_up(1);
    }
}

static void
process_handler(int signum)
{
    (void)signum;
    count_up(2);
}

static const struct sigaction first = {.sa_handler = first_handler};
static const struct sigaction second = {.sa_sigaction = second_handler,
                                        .sa_flags = SA_SIGINFO};
static const struct sigaction of_process = {.sa_handler = process_handler};
static const struct sigaction standard = {.sa_handler = SIG_DFL};
static int a, b; /* owners are addresses */

static bool
counted(unsigned x, unsigned y, unsigned z)
{
    bool good = count_of(0) == x && count_of(1) == y && count_of(2) == z;
    memset(counts, 0, sizeof(counts));
    return good;
}

static void
each_is_called(void)
{
    struct sigaction was, now;
    CHECK(sigaction(SIGUSR1, &of_process, NULL) == 0);
    CHECK(atoll_signal_action(&a, SIGUSR1, &first, &was) == 0);
    CHECK(was.sa_handler == process_handler);
    CHECK(atoll_signal_action(&b, SIGUSR1, &second, &was) == 0);
    CHECK(was.sa_handler == process_handler);
    raise(SIGUSR1);
    CHECK(counted(1, 1, 1));
    CHECK(atoll_signals_has(&a, SIGUSR1) && !atoll_signals_has(&a, SIGUSR2));
    CHECK(atoll_signal_action(&a, SIGUSR1, &standard, &was) == 0);
    CHECK(was.sa_handler == first_handler);
    raise(SIGUSR1);
    CHECK(counted(0, 1, 1));
    /* Somebody does not know of us. */
    CHECK(sigaction(SIGUSR1, &standard, NULL) == 0);
    atoll_signals_check();
    raise(SIGUSR1);
    CHECK(counted(0, 1, 0));
    CHECK(atoll_signals_forget(&a, ATOLL_NOW));
    CHECK(atoll_signals_forget(&b, ATOLL_NOW));
    CHECK(sigaction(SIGUSR1, NULL, &now) == 0);
    CHECK(now.sa_handler == SIG_DFL);
}

static void
errors(void)
{
    struct sigaction was;
    CHECK(atoll_signal_action(&a, 0, &first, NULL) == -1 && errno == EINVAL);
    CHECK(atoll_signal_action(&a, 65, &first, NULL) == -1 && errno == EINVAL);
    CHECK(atoll_signal_action(&a, SIGKILL, &first, NULL) == -1);
    CHECK(atoll_signal_action(&a, SIGKILL, NULL, &was) == 0);
    CHECK(atoll_signals_forget(&a, ATOLL_NOW));
}

/* What the handler finds may be gone only when forget has returned. */
static int *volatile memory[2];
static int owners[2];

static void
look(int which)
{
    const int *place = memory[which];
    if (place == NULL || *place != 42) {
        count_up(2);
    }
}

static void
look_first(int signum)
{
    (void)signum;
    look(0);
    count_up(0);
}

static void
look_second(int signum)
{
    (void)signum;
    look(1);
    count_up(1);
}

static unsigned over; /* atomic */

static void *
send(void *arg)
{
    while (!__atomic_load_n(&over, __ATOMIC_ACQUIRE)) {
        raise(SIGUSR1);
    }
    return arg;
}

static void *
come_and_go(void *arg)
{
    int which = (int)(intptr_t)arg;
    struct sigaction action = {.sa_handler = which == 0 ? look_first : look_second};
    sigfillset(&action.sa_mask);
    for (int i = 0; i < 300; i++) {
        int *place = malloc(sizeof(*place));
        *place = 42;
        memory[which] = place;
        CHECK(atoll_signal_action(&owners[which], SIGUSR1, &action, NULL) == 0);
        unsigned before = count_of(which);
        while (i % 3 == 0 && count_of(which) == before) {
            raise(SIGUSR1);
        }
        if (i % 2 == 0) {
            CHECK(atoll_signal_action(&owners[which], SIGUSR1, &standard, NULL) == 0);
        }
        CHECK(atoll_signals_forget(&owners[which], ATOLL_FOREVER));
        memory[which] = NULL;
        *place = 0;
        free(place);
    }
    return NULL;
}

static void
nothing_runs_when_forgotten(void)
{
    pthread_t senders[2], makers[2];
    /* Ignored, or the default would be due between the owners. */
    struct sigaction ignored = {.sa_handler = SIG_IGN};
    CHECK(sigaction(SIGUSR1, &ignored, NULL) == 0);
    for (intptr_t i = 0; i < 2; i++) {
        CHECK(pthread_create(&senders[i], NULL, send, NULL) == 0);
        CHECK(pthread_create(&makers[i], NULL, come_and_go, (void *)i) == 0);
    }
    for (int i = 0; i < 2; i++) {
        pthread_join(makers[i], NULL);
    }
    __atomic_store_n(&over, 1, __ATOMIC_RELEASE);
    for (int i = 0; i < 2; i++) {
        pthread_join(senders[i], NULL);
    }
    CHECK(count_of(0) > 0 && count_of(1) > 0 && count_of(2) == 0);
    memset(counts, 0, sizeof(counts));
    CHECK(sigaction(SIGUSR1, &standard, NULL) == 0);
}

/* The owner hears of its child although the process's handler is another. */
static void
children(void)
{
    for (int i = 0; i < 20; i++) {
        CHECK(atoll_signal_action(&a, SIGCHLD, &first, NULL) == 0);
        CHECK(sigaction(SIGCHLD, &of_process, NULL) == 0);
        unsigned before = count_of(0);
        pid_t pid = fork();
        if (pid == 0) {
            _exit(0);
        }
        atoll_signals_watch(&a, pid);
        UNTIL(count_of(0) > before);
        CHECK(waitpid(pid, NULL, 0) == pid);
        CHECK(sigaction(SIGCHLD, &standard, NULL) == 0);
    }
    CHECK(atoll_signals_forget(&a, ATOLL_FOREVER));
}

static void
forked(void)
{
    CHECK(atoll_signal_action(&a, SIGUSR1, &first, NULL) == 0);
    pid_t pid = fork();
    if (pid == 0) {
        atoll_signals_fork_child();
        bool good = !atoll_signals_has(&a, SIGUSR1) &&
                    atoll_signal_action(&b, SIGUSR1, &second, NULL) == 0;
        memset(counts, 0, sizeof(counts));
        raise(SIGUSR1);
        _exit(good && counted(0, 1, 0) ? 0 : 1);
    }
    int status = -1;
    CHECK(waitpid(pid, &status, 0) == pid && status == 0);
    memset(counts, 0, sizeof(counts));
    raise(SIGUSR1);
    CHECK(counted(1, 0, 0));
    CHECK(atoll_signals_forget(&a, ATOLL_FOREVER));
}

int
main(void)
{
    TAP_BEGIN(60);
    RUN(each_is_called);
    RUN(errors);
    RUN(nothing_runs_when_forgotten);
    RUN(children);
    RUN(forked);
    TAP_END();
}
