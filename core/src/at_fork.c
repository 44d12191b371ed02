/* What the core does around a fork, and its counters: what looks at all of it. */
#include "at_chan.h"
#include "at_port.h"
#include "at_sync.h"

void
atoll_fork_prepare(void)
{
    at_registry_fork_prepare();
    at_sync_fork_prepare();
}

void
atoll_fork_parent(void)
{
    at_sync_fork_parent();
    at_registry_fork_parent();
}

void
atoll_fork_child(void)
{
    at_registry_fork_child(at_chan_fork_child);
    at_sync_fork_child();
    at_wait_fork_child();
    at_timer_fork_child();
    at_port_threads_fork_child();
}

void
atoll_stats_get(atoll_stats *out)
{
    at_wait_stats(out);
    at_timer_stats(out);
    out->channels = at_registry_alive();
}
