/* Waits for events, in completion queues: how to say it, and who could end them. */
#include "async/async.h"

#include <stdio.h>

static void
async_describe_events(const void *object, char *text, size_t size)
{
    (void)object;
    snprintf(text, size, "events (a completion queue)");
}

static bool
async_events_may_end(const void *object, waits_view *view)
{
    (void)object;
    return view->any_live(view); /* which they are is known with the GIL only */
}

const wait_type wait_events = {async_describe_events, async_events_may_end, true};
