/* What threads wait for that is of no room: how to say it. The other kinds of waits are
 * where the things are that one waits for. */
#include "wait/record.h"

#include <stdio.h>

static void
wait_describe_unknown(const void *object, char *text, size_t size)
{
    (void)object;
    snprintf(text, size, "something of atoll's");
}

static void
wait_describe_never(const void *object, char *text, size_t size)
{
    (void)object;
    snprintf(text, size, "nothing");
}

static bool
wait_never_ends(const void *object, waits_view *view)
{
    (void)object;
    (void)view;
    return false;
}

const wait_type wait_unknown = {wait_describe_unknown, NULL, false};
const wait_type wait_never = {wait_describe_never, wait_never_ends, false};
