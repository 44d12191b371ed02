/* Starting operations that wait without a thread, at channels and events; at locks it
 * is in at_take.c. See at_cq.c for what becomes of them. */
#include "at_chan.h"
#include "at_cq.h"

atoll_err
atoll_chan_recv_start(atoll_chan *chan, atoll_op *op, atoll_cq *cq)
{
    atoll_err err = at_op_begin(op, cq);
    if (err == ATOLL_OK) {
        err = at_chan_try_recv(chan, &op->msg);
        if (err == ATOLL_ERR_AGAIN) {
            return at_op_stand(op, cq, &chan->recvq, &chan->arrivals, &chan->lock);
        }
    }
    return op->status = err;
}

atoll_err
atoll_chan_send_start(atoll_chan *chan, atoll_op *op, atoll_cq *cq)
{
    atoll_err err = at_op_begin(op, cq);
    if (err == ATOLL_OK) {
        err = at_chan_try_send(chan, &op->msg);
        if (err == ATOLL_ERR_AGAIN) {
            return at_op_stand(op, cq, &chan->sendq, &chan->arrivals, &chan->lock);
        }
    }
    return op->status = err;
}

atoll_err
atoll_chan_join_start(atoll_chan *chan, atoll_op *op, atoll_cq *cq)
{
    atoll_err err = at_op_begin(op, cq);
    if (err == ATOLL_OK) {
        err = at_chan_try_join(chan, NULL);
        if (err == ATOLL_ERR_AGAIN) {
            return at_op_stand(op, cq, &chan->joinq, &chan->arrivals, &chan->lock);
        }
    }
    return op->status = err;
}

atoll_err
atoll_event_wait_start(atoll_event *event, atoll_op *op, atoll_cq *cq)
{
    atoll_err err = at_op_begin(op, cq);
    if (err == ATOLL_OK && at_event_try(event) == ATOLL_ERR_AGAIN) {
        return at_op_stand(op, cq, at_event_queue(event), NULL, &event->lock);
    }
    return op->status = err;
}
