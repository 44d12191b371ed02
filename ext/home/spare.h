/* Spares: interpreters that are ready before somebody needs one.
 *
 * Making an interpreter takes ten milliseconds; taking a spare takes none. There is
 * one list for the process. A spare is an ordinary home that is idle and that nobody
 * can see. It fits a request if it was made by an equal plan (sys.path, registered
 * types, streams, preloaded modules), so each *kind* of request has its own. Kinds that are asked for by executors and tasks get a spare again a moment
 * after one was needed; atoll.warm() asks for more, or none.
 */
#ifndef EXT_HOME_SPARE_H
#define EXT_HOME_SPARE_H

#include "home/home.h"

/* Take one that is ready: its reference and its handle are the caller's. NULL if
 * there is none. Any thread. */
home *spare_take(const home_plan *plan, const char *name);

/* Such interpreters are in use: have spares of this kind soon. Keeps a copy of
 * `plan`. Any thread; never fails, at worst there are none. */
void spare_expect(const home_plan *plan);

/* Have `count` of this kind, at once and from now on. Returns how many there are
 * or are being made. */
uint32_t spare_set(const home_plan *plan, uint32_t count);
/* Close all, and have no more unless they are asked for with spare_set. */
void spare_off(void);

/* The next spare that is still being made, with a reference; NULL: none. */
home *spare_unready(void);

/* Process exit: close all, make no more. */
void spare_end(void);
void spare_fork_child(void);

#endif
