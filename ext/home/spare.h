/* Spares: interpreters that are ready before somebody needs one.
 *
 * Making an interpreter takes ten milliseconds; taking a spare takes none. There is
 * one list for the process. A spare is an ordinary home that is idle and that nobody
 * can see. It fits a request if it was made by an equal plan (sys.path, registered
 * types, streams, preloaded modules), so each *kind* of request has its own. Kinds that
 * are asked for by executors and tasks get a spare again a moment after one was needed;
 * atoll.warm() asks for more, or none. home/home.h has what other rooms call.
 */
#ifndef EXT_HOME_SPARE_H
#define EXT_HOME_SPARE_H

#include "home/home.h"

/* Have `count` of this kind, at once and from now on. Returns how many there are
 * or are being made. */
uint32_t spare_set(const home_plan *plan, uint32_t count);
/* Close all, and have no more unless they are asked for with spare_set. */
void spare_off(void);

/* Find the next spare that is still being made, with a reference; NULL: none. */
home *spare_unready(void);

#endif
