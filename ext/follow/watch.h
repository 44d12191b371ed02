/* Seeing, for next to nothing, whether surroundings have changed. */
#ifndef EXT_FOLLOW_WATCH_H
#define EXT_FOLLOW_WATCH_H

#include "follow/follow.h"

/* Guards the list of watchers, and the counts of references to all records: they change
 * rarely, and one lock is easily kept still for a fork. No other is taken inside. */
extern atoll_lock follow_lock;

/* Begin to watch the surroundings of this interpreter. NULL with an exception. */
struct follow_watch *watch_new(core_state *state);

/* Find out which parts may have changed since this was asked the last time: their bits.
 * Then they are collected; if that fails, watch_again() has them. -1 with an exception.
 */
int watch_look(core_state *state, uint32_t *due);

/* Have the next watch_look() find these parts changed. */
void watch_again(struct follow_watch *watch, uint32_t parts);

/* Make the value of a part that C knows, from what watch_look() has found: a new
 * reference, NULL with an exception. Py_NotImplemented: Python knows it. */
PyObject *watch_value(const struct follow_watch *watch, follow_part part);

/* Get the mapping of os.environ: borrowed, NULL without an exception if there is none
 * or it is no dict. */
PyObject *watch_environ(void);

/* Copy the strings of sys.path into a tuple. NULL with an exception. */
PyObject *watch_path(void);

/* For the garbage collector, as core_room has them. */
int watch_visit(struct follow_watch *watch, visitproc visit, void *arg);

/* Stop watching, give all objects back. */
void watch_clear(struct follow_watch *watch);

/* Free what watch_new has made and watch_clear has cleared. */
void watch_free(struct follow_watch *watch);

#endif
