/* Waits for interpreters: how to say what they are, and who could end them. */
#include "home/home.h"

#include <stdio.h>

static void
home_describe_home_job(const void *object, char *text, size_t size)
{
    const home *h = object;
    snprintf(text, size, "what interpreter %lld '%s' runs", (long long)h->id, h->name);
}

static bool
home_may_end(const void *object, waits_view *view)
{
    return view->live(view, ((const home *)object)->id);
}

static void
home_describe_start(const void *object, char *text, size_t size)
{
    (void)object;
    snprintf(text, size, "a new interpreter");
}

const wait_type wait_home_job = {home_describe_home_job, home_may_end, true};
const wait_type wait_home_start = {home_describe_start, NULL, true};
