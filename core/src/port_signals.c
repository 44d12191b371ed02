/* Signal handlers of many owners, where the process has room for one.
 *
 * Each owner has a seat for each signal that it has asked for; the kernel knows
 * one function, `dispatch`, which calls the handlers in the seats and then what
 * the process had before, its `base` (main's Python handler, say).
 *
 * Async-signal-safety. `dispatch` and what it calls take no lock, allocate
 * nothing and touch no thread-local variable but errno: they walk a list that is
 * only ever added to, of seats that are never freed, and use atomics and system
 * calls. Everybody else holds `lock`, with all signals blocked, so that no
 * handler finds it held by the very thread that it interrupts: handlers may
 * change handlers. (If one sets a handler that its owner has never had, memory
 * is allocated; to reset one, none is.)
 *
 * Memory order. A seat's `now` points to a setting that never changes; who sees
 * the pointer sees the setting (release by the sequentially consistent store,
 * acquire by the load). To take a handler away: `now = NULL`, then look at
 * `inside`. To call one: count up `inside`, then look at `now`. All four are in
 * the one total order, so either the caller sees NULL or the other sees the
 * count, and waits until it is back at zero; the decrement releases what the
 * handler has done. */
#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif

#include "port_signals.h"

#include <errno.h>
#include <pthread.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "at_atomic.h"
#include "at_base.h"
#include "at_port.h"

/* What somebody has asked for. Constant; padding is zero, for comparisons. */
typedef struct setting {
    struct setting *next;
    struct sigaction action;
} setting;

typedef struct seat {
    struct seat *next;      /* constant */
    const void *owner;      /* guarded by lock; NULL: nobody sits here */
    setting *settings;      /* guarded by lock: all that it has asked for */
    const setting *now;     /* atomic; NULL: no handler */
    uint32_t inside;        /* atomic: calls under way, and WAITED */
    struct sigaction under; /* guarded by lock: of a fault; see set_fault */
} seat;

#define WAITED UINT32_C(0x80000000)
#define SIGNALS 65 /* Linux's last is 64 */

static atoll_lock lock;
static struct {
    seat *seats;         /* atomic: the list's head */
    const setting *base; /* atomic: the process's own; NULL is SIG_DFL */
    setting *bases;      /* guarded by lock: all that there were */
} signals[SIGNALS];
static int32_t process; /* atomic: whose the owners are; 0: there are none */

void
at_signal_mask(sigset_t *before)
{
    sigset_t all;
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, before);
}

void
at_signal_unmask(sigset_t *before)
{
    pthread_sigmask(SIG_SETMASK, before, NULL);
}

static void
signals_enter(sigset_t *mask)
{
    at_signal_mask(mask);
    atoll_lock_acquire(&lock);
}

static void
signals_leave(sigset_t *mask)
{
    atoll_lock_release(&lock);
    at_signal_unmask(mask);
}

static bool
is_handler(const struct sigaction *action)
{
    return action->sa_handler != SIG_DFL && action->sa_handler != SIG_IGN;
}

static bool
is_ignored_by_default(int signum)
{
    return signum == SIGCHLD || signum == SIGURG || signum == SIGWINCH ||
           signum == SIGCONT;
}

/* Not: what says something about the instruction that ran, and whose handlers
 * pass on to each other by themselves. */
static bool
is_shared(int signum)
{
    switch (signum) {
    case SIGSEGV:
    case SIGBUS:
    case SIGFPE:
    case SIGILL:
    case SIGTRAP:
    case SIGSYS:
    case SIGABRT:
    case SIGKILL:
    case SIGSTOP:
        return false;
    default:
        return signum > 0 && signum < SIGNALS;
    }
}

/* ----------------------------------------------------------- in the handler */

/* What `place` has, to be called now; once, if it was meant for one time. */
static const setting *
signals_take(const setting **place)
{
    const setting *now = at_load_sc(place);
    if (now != NULL && (now->action.sa_flags & (int)SA_RESETHAND) != 0 &&
        !at_cas_ptr_sc(place, now, NULL)) {
        return NULL; /* somebody else was faster */
    }
    return now;
}

static void
signals_call(const setting *s, int signum, siginfo_t *info, void *context)
{
    sigset_t mask;
    pthread_sigmask(SIG_BLOCK, &s->action.sa_mask, &mask);
    if ((s->action.sa_flags & SA_SIGINFO) != 0) {
        s->action.sa_sigaction(signum, info, context);
    }
    else {
        s->action.sa_handler(signum);
    }
    pthread_sigmask(SIG_SETMASK, &mask, NULL);
}

static void
seat_leave(seat *s)
{
    /* Releases what the handler has done to at_load_sc in seat_drain. */
    if (at_sub_ar(&s->inside, 1) == (WAITED | 1)) {
        at_port_wake(&s->inside, 1);
    }
}

static bool
seat_call(seat *s, int signum, siginfo_t *info, void *context)
{
    at_add_sc(&s->inside, 1); /* before `now` is read: see above */
    const setting *now = signals_take(&s->now);
    if (now != NULL) {
        signals_call(now, signum, info, context);
    }
    seat_leave(s);
    return now != NULL;
}

/* Who is passing on which signal, as thread * 128 + signal. The process's own
 * handler may pass on to what it found, which is `dispatch`: round in circles. (If
 * it is left with a jump, that thread does not get here again for the signal.)
 * Relaxed: a thread looks for what it has written itself. */
static uint32_t passing[32]; /* atomic; 0: free */

#define PASSING (sizeof(passing) / sizeof(*passing))

static bool
is_passing(uint32_t me)
{
    size_t i = 0;
    while (i < PASSING && at_load_rlx(&passing[i]) != me) {
        i++;
    }
    return i < PASSING;
}

static uint32_t *
pass_begin(uint32_t me)
{
    for (size_t i = 0; i < PASSING; i++) {
        if (at_cas_acq(&passing[i], 0, me)) {
            return &passing[i];
        }
    }
    static uint32_t no_room; /* 32 others: go without */
    return &no_room;
}

/* To what the process had before. `taken`: an owner has had it. */
static void
pass_on(uint32_t me, int signum, siginfo_t *info, void *context, bool taken)
{
    const setting *base = signals_take(&signals[signum].base);
    if (base != NULL && is_handler(&base->action)) {
        uint32_t *pass = pass_begin(me);
        signals_call(base, signum, info, context);
        at_store_rlx(pass, 0);
    }
    else if (base == NULL && !taken && !is_ignored_by_default(signum)) {
        /* As if we were not here: it is due as soon as we return. */
        struct sigaction standard;
        memset(&standard, 0, sizeof(standard));
        sigaction(signum, &standard, NULL);
        raise(signum);
    }
}

static void
signals_dispatch(int signum, siginfo_t *info, void *context)
{
    int kept = errno;
    bool taken = false;
    uint32_t me = (uint32_t)syscall(SYS_gettid) * 128 + (uint32_t)signum;
    if (is_passing(me)) {
        errno = kept;
        return;
    }
    /* In the child of a fork there are no owners. Relaxed: it is the same word
     * for as long as there are seats in this process. */
    if (at_load_rlx(&process) == getpid()) {
        /* Pairs with at_store_rel in seat_of: its fields are there. */
        for (seat *s = at_load_acq(&signals[signum].seats); s != NULL; s = s->next) {
            taken |= seat_call(s, signum, info, context);
        }
    }
    pass_on(me, signum, info, context, taken);
    errno = kept;
}

/* --------------------------------------------- under the lock: the process's */

static bool
signals_is_ours(const struct sigaction *action)
{
    return (action->sa_flags & SA_SIGINFO) != 0 &&
           action->sa_sigaction == signals_dispatch;
}

/* The setting of this action in `list`, which gets it if need be. NULL with
 * errno. */
static const setting *
signals_remember(setting **list, const struct sigaction *action)
{
    struct sigaction clean;
    memset(&clean, 0, sizeof(clean));
    clean.sa_handler = action->sa_handler;
    clean.sa_flags = action->sa_flags;
    sigemptyset(&clean.sa_mask);
    for (int i = 1; i < SIGNALS; i++) {
        if (sigismember(&action->sa_mask, i) == 1) {
            sigaddset(&clean.sa_mask, i);
        }
    }
    setting *s = *list;
    while (s != NULL && memcmp(&s->action, &clean, sizeof(clean)) != 0) {
        s = s->next;
    }
    if (s == NULL) {
        s = atoll_alloc(sizeof(*s));
        if (s == NULL) {
            errno = ENOMEM;
            return NULL;
        }
        s->next = *list;
        s->action = clean;
        *list = s;
    }
    return s;
}

/* What the process's own action is: behind ours, if that is there. */
static int
get_base(int signum, struct sigaction *out)
{
    if (sigaction(signum, NULL, out) < 0) {
        return -1;
    }
    if (signals_is_ours(out)) {
        const setting *base = at_load_sc(&signals[signum].base);
        memset(out, 0, sizeof(*out));
        if (base != NULL) {
            *out = base->action;
        }
    }
    return 0;
}

static int
set_base(int signum, const struct sigaction *action)
{
    const setting *base = NULL;
    if (action->sa_handler != SIG_DFL || (action->sa_flags & SA_NOCLDWAIT) != 0) {
        base = signals_remember(&signals[signum].bases, action);
        if (base == NULL) {
            return -1;
        }
    }
    at_store_sc(&signals[signum].base, base);
    return 0;
}

static bool
is_wanted(int signum)
{
    seat *s = at_load_acq(&signals[signum].seats);
    while (s != NULL && at_load_sc(&s->now) == NULL) {
        s = s->next;
    }
    return s != NULL;
}

/* System calls go on after the signal, and stopped children are no reason for
 * it, only if nobody needs it otherwise: Ctrl-C has to end a read() of main's. */
static int
common_flags(int signum)
{
    int flags = SA_RESTART | SA_NOCLDSTOP;
    for (seat *s = at_load_acq(&signals[signum].seats); s != NULL; s = s->next) {
        const setting *now = at_load_sc(&s->now);
        flags &= now == NULL ? flags : now->action.sa_flags;
    }
    const setting *base = at_load_sc(&signals[signum].base);
    if (base != NULL && is_handler(&base->action)) {
        flags &= base->action.sa_flags;
    }
    return flags | SA_SIGINFO | SA_ONSTACK;
}

/* Be the process's handler, in front of the one that is there now. */
static int
signals_install(int signum)
{
    struct sigaction ours, was;
    if (sigaction(signum, NULL, &was) < 0 ||
        (!signals_is_ours(&was) && set_base(signum, &was) < 0)) {
        return -1;
    }
    memset(&ours, 0, sizeof(ours));
    ours.sa_sigaction = signals_dispatch;
    ours.sa_flags = common_flags(signum);
    sigemptyset(&ours.sa_mask); /* each handler's is added when it is called */
    if (sigaction(signum, &ours, &was) < 0) {
        return -1;
    }
    /* Somebody may have been faster than these two calls. */
    return signals_is_ours(&was) ? 0 : set_base(signum, &was);
}

/* No owner has a handler. Ours may stay where nothing can be seen of it, since
 * whoever sets another between the next calls would lose it: libuv sets and
 * resets its handler for every program that it starts. */
static void
signals_withdraw(int signum)
{
    struct sigaction now, base;
    if (sigaction(signum, NULL, &now) < 0 || !signals_is_ours(&now) ||
        get_base(signum, &base) < 0 ||
        (is_ignored_by_default(signum) && base.sa_handler != SIG_IGN &&
         (base.sa_flags & SA_NOCLDWAIT) == 0)) {
        return;
    }
    if (sigaction(signum, &base, &now) == 0 && !signals_is_ours(&now)) {
        sigaction(signum, &now, NULL); /* a newer one: theirs */
    }
}

/* --------------------------------------------------- under the lock: owners' */

/* NULL with errno if `create` and there is no memory. */
static seat *
seat_of(const void *owner, int signum, bool create)
{
    seat *free_one = NULL;
    for (seat *s = at_load_acq(&signals[signum].seats); s != NULL; s = s->next) {
        if (s->owner == owner) {
            return s;
        }
        free_one = s->owner == NULL ? s : free_one;
    }
    if (create && free_one == NULL) {
        free_one = at_alloc_zeroed(sizeof(*free_one));
        if (free_one == NULL) {
            errno = ENOMEM;
            return NULL;
        }
        free_one->next = at_load_acq(&signals[signum].seats);
        /* Pairs with at_load_acq in dispatch. */
        at_store_rel(&signals[signum].seats, free_one);
    }
    if (create) {
        free_one->owner = owner;
    }
    return create ? free_one : NULL;
}

static int
set_handler(const void *owner, int signum, const struct sigaction *action)
{
    seat *s = seat_of(owner, signum, true);
    const setting *now = s == NULL ? NULL : signals_remember(&s->settings, action);
    if (now == NULL) {
        return -1;
    }
    const setting *had = at_load_sc(&s->now);
    at_store_rlx(&process, (int32_t)getpid()); /* see dispatch */
    at_store_sc(&s->now, now);
    int rc = signals_install(signum);
    if (rc < 0) {
        at_store_sc(&s->now, had);
    }
    return rc;
}

static int
reset_handler(const void *owner, int signum, const struct sigaction *action,
              const struct sigaction *base)
{
    seat *s = seat_of(owner, signum, false);
    if (s != NULL) {
        at_store_sc(&s->now, NULL);
    }
    if (!is_wanted(signum)) {
        signals_withdraw(signum);
    }
    if (action->sa_handler != SIG_IGN || base->sa_handler != SIG_DFL ||
        signum == SIGCHLD) {
        return 0;
    }
    struct sigaction now;
    if (sigaction(signum, NULL, &now) < 0) {
        return -1;
    }
    return signals_is_ours(&now) ? set_base(signum, action)
                                 : sigaction(signum, action, NULL);
}

/* A fault's handler is the process's. All that is kept is what was there before,
 * for when the owner goes. */
static int
set_fault(const void *owner, int signum, const struct sigaction *action,
          struct sigaction *before)
{
    struct sigaction was;
    int rc = sigaction(signum, action, &was);
    if (rc < 0) {
        return rc;
    }
    seat *s = action == NULL ? NULL : seat_of(owner, signum, is_handler(action));
    if (s != NULL) {
        const setting *had = at_load_sc(&s->now);
        if (had == NULL || had->action.sa_handler != was.sa_handler) {
            s->under = was;
        }
        at_store_sc(&s->now,
                    is_handler(action) ? signals_remember(&s->settings, action) : NULL);
    }
    if (before != NULL) {
        *before = was;
    }
    return 0;
}

static void
reset_fault(seat *mine, int signum)
{
    const setting *had = at_load_sc(&mine->now);
    struct sigaction now;
    if (had == NULL || sigaction(signum, NULL, &now) < 0) {
        return;
    }
    if (now.sa_handler == had->action.sa_handler) {
        sigaction(signum, &mine->under, NULL);
    }
    for (seat *s = at_load_acq(&signals[signum].seats); s != NULL; s = s->next) {
        if (s->under.sa_handler == had->action.sa_handler) {
            s->under = mine->under;
        }
    }
}

/* -------------------------------------------------------------------- public */

int
atoll_signal_action(const void *owner, int signum, const struct sigaction *action,
                    struct sigaction *before)
{
    sigset_t mask;
    struct sigaction base;
    signals_enter(&mask);
    if (!is_shared(signum)) {
        int result = set_fault(owner, signum, action, before);
        signals_leave(&mask);
        return result;
    }
    seat *s = seat_of(owner, signum, false);
    const setting *had = s == NULL ? NULL : at_load_sc(&s->now);
    int rc = get_base(signum, &base);
    if (rc == 0 && action != NULL) {
        /* What it has found there it may put back. */
        bool own = is_handler(action) && !signals_is_ours(action) &&
                   action->sa_handler != base.sa_handler;
        rc = own ? set_handler(owner, signum, action)
                 : reset_handler(owner, signum, action, &base);
    }
    if (rc == 0 && before != NULL) {
        *before = had != NULL ? had->action : base;
    }
    signals_leave(&mask);
    return rc;
}

void
atoll_signals_check(void)
{
    sigset_t mask;
    signals_enter(&mask);
    for (int signum = 1; signum < SIGNALS; signum++) {
        struct sigaction now;
        if (is_shared(signum) && is_wanted(signum) &&
            sigaction(signum, NULL, &now) == 0 && !signals_is_ours(&now)) {
            (void)signals_install(signum); /* no memory: as if it came now */
        }
    }
    signals_leave(&mask);
}

bool
atoll_signals_has(const void *owner, int signum)
{
    sigset_t mask;
    signals_enter(&mask);
    seat *s = seat_of(owner, signum, false);
    bool has = s != NULL && at_load_sc(&s->now) != NULL;
    signals_leave(&mask);
    return has;
}

void
at_signal_deliver(const void *owner, int signum, siginfo_t *info)
{
    atoll_lock_acquire(&lock);
    seat *s = seat_of(owner, signum, false);
    if (s != NULL) {
        at_add_sc(&s->inside, 1); /* it is not anybody else's meanwhile */
    }
    atoll_lock_release(&lock);
    if (s != NULL) {
        seat_call(s, signum, info, NULL);
        seat_leave(s);
    }
}

/* Wait until nobody is inside. */
static bool
seat_drain(seat *s, int64_t deadline)
{
    for (;;) {
        /* After `now = NULL`: see above. Acquires from seat_leave. */
        uint32_t inside = at_or_sc(&s->inside, WAITED) | WAITED;
        if (inside == WAITED) {
            break;
        }
        if (at_port_park(&s->inside, inside, deadline) == AT_PARK_TIMEOUT) {
            return false;
        }
    }
    at_and_sc(&s->inside, ~WAITED);
    return true;
}

/* Empty the seat, which has no handler, and is still its owner's. */
static void
signals_vacate(seat *s)
{
    sigset_t mask;
    signals_enter(&mask);
    while (s->settings != NULL) {
        setting *next = s->settings->next;
        atoll_free(s->settings);
        s->settings = next;
    }
    s->owner = NULL;
    signals_leave(&mask);
}

bool
atoll_signals_forget(const void *owner, int64_t deadline)
{
    sigset_t mask;
    bool good = true;
    for (int signum = 1; signum < SIGNALS; signum++) {
        signals_enter(&mask);
        seat *s = seat_of(owner, signum, false);
        if (s != NULL && !is_shared(signum)) {
            reset_fault(s, signum);
        }
        if (s != NULL) {
            at_store_sc(&s->now, NULL);
            if (!is_wanted(signum)) {
                signals_withdraw(signum);
            }
        }
        signals_leave(&mask);
        if (s == NULL) {
            continue;
        }
        if (seat_drain(s, deadline)) {
            signals_vacate(s);
        }
        else {
            good = false; /* the seat stays taken */
        }
    }
    return good;
}

void
at_signals_fork_child(void)
{
    /* Seats are as whole as a handler would have found them. What somebody was
     * about to free, or to add, is lost. */
    (void)at_cas_acq(&lock.word, 0, 1); /* if it is free: as taking it does */
    for (int signum = 1; signum < SIGNALS; signum++) {
        for (seat *s = signals[signum].seats; s != NULL; s = s->next) {
            s->owner = NULL;
            s->settings = NULL;
            s->inside = 0;
            at_store_sc(&s->now, NULL);
        }
    }
    memset(passing, 0, sizeof(passing));
    lock.word = 0;
}
