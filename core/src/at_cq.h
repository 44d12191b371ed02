/* What at_cq.c, at_select.c and at_sync.c share: an operation whose waiter stands in
 * lines that somebody else takes care of. See at_cq.c for the protocol. */
#ifndef AT_CQ_H
#define AT_CQ_H

#include "at_wait.h"

/* Before the operation is tried. FORKED: `cq` is the parent's. */
atoll_err at_op_begin(atoll_op *op, const atoll_cq *cq);

/* Ready to be served: when its waiter is, it comes out of `cq`. To be called before
 * the first node of the waiter can be seen by anybody. */
void at_op_arm(atoll_op *op, atoll_cq *cq);

/* Stand in `line`, whose lock is held, and release that. AGAIN. `arrivals` is that of
 * at_waitq_enter; NULL: the line has no such number. */
atoll_err at_op_stand(atoll_op *op, atoll_cq *cq, at_waitq *line, uint64_t *arrivals,
                      atoll_lock *lock);

/* Take it back. True: nobody has served it, nor will. The caller unlinks its nodes,
 * unless *of_child (this is a forked child: the lines have been made anew), and
 * then gives its reference to op->at_cq back. */
bool at_op_disarm(atoll_op *op, bool *of_child);

#endif
