/* What every room does around a fork. The order in which it is prepared is the lock
 * order (ARCHITECTURE.md); the parent lets go in the opposite one. */
#include "module/module.h"

#include "atoll/trace.h"
#include "cpython/dict.h"
#include "cpython/immortal.h"
#include "cpython/runtime.h"
#include "follow/follow.h"
#include "frozen/frozen.h"
#include "home/home.h"
#include "isolate/isolate.h"
#include "output/output.h"
#include "pool/pool.h"
#include "wait/visit.h"
#include "watch/watch.h"
#include "wire/wire.h"

static void
before_fork(void)
{
    waits_fork_prepare();
    pools_fork_prepare();
    home_fork_prepare();
    output_fork_prepare();
    atoll_fork_prepare();
    arena_fork_prepare();
    frozen_fork_prepare();
    follow_fork_prepare();
}

static void
after_fork_in_parent(void)
{
    follow_fork_parent();
    frozen_fork_parent();
    arena_fork_parent();
    atoll_fork_parent();
    output_fork_parent();
    home_fork_parent();
    pools_fork_parent();
    waits_fork_parent();
}

static atoll_lock once;

/* Runs inside fork(), before CPython's own PyOS_AfterFork_Child. */
static void
after_fork_in_child(void)
{
    forks_child();
    once.word = 0; /* another interpreter may have been about to import this */
    module_fork_child();
    runtime_fork_child();
    layout_fork_child();
    arena_fork_child();
    follow_fork_child();
    frozen_fork_child();
    frozen_static_fork_child();
    frozen_check_fork_child();
    atoll_trace_fork_child();
    atoll_fork_child();
    home_fork_child();
    spare_fork_child();
    output_fork_child();
    xfer_fork_child();
    service_fork_child();
    callers_fork_child();
    mailbox_fork_child();
    detach_fork_child();
    waits_fork_child();
    watch_fork_child();
    visit_fork_child();
    still_fork_child();
    pools_fork_child();
    threads_fork_child();
    isolate_numbers_fork_child();
    isolate_declared_fork_child();
    atoll_signals_fork_child();
    runtime_unlink_all();
}

int
fork_start(void)
{
    static bool done;     /* guarded by once */
    static atoll_err err; /* guarded by once */
    atoll_lock_acquire(&once);
    if (!done) {
        done = true;
        err = atoll_fork_hooks(before_fork, after_fork_in_parent, after_fork_in_child);
    }
    bool hooked = err == ATOLL_OK;
    atoll_lock_release(&once);
    if (!hooked) {
        PyErr_NoMemory();
        return -1;
    }
    return 0;
}
