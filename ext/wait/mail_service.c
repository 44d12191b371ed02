/* The service thread: empties the mailboxes of interpreters that are busy
 * with something else. One for the process, started when it is first needed. */
#include "wait/mail.h"

static struct {
    atoll_lock lock;
    bool running;        /* guarded by lock */
    bool stopped;        /* guarded by lock: main is leaving */
    atoll_chan *inbox;   /* mailboxes; set once, under the lock */
    atoll_thread thread; /* guarded by lock */
    atoll_event leave;   /* main is leaving */
} service;

static void
drop_request(atoll_msg *msg)
{
    mailbox_unref(msg->u.heap.ptr);
}

/* Attaching disturbs an owner that is busy; one that is active in atoll empties
 * its mailbox by itself within this time. */
#define PATIENCE_NS 1000000

static void *
service_main(void *arg)
{
    static const atoll_wait forever = {.deadline = ATOLL_FOREVER};
    atoll_chan *inbox = arg;
    atoll_msg msg;
    atoll_thread_name(atoll_thread_self(), "atoll-service");
    for (;;) {
        if (atoll_chan_recv(inbox, &msg, &forever) != ATOLL_OK) {
            return NULL; /* closed: service_stop */
        }
        atoll_wait patience = {.deadline = mailbox_asked(msg.u.heap.ptr) + PATIENCE_NS};
        atoll_err err = atoll_event_wait(&service.leave, &patience);
        (void)err; /* late, as hoped; or main is leaving */
        mailbox_serve(msg.u.heap.ptr);
        atoll_msg_drop(&msg);
    }
}

#define STACK ((size_t)1 << 20) /* destructors of the user's run on it */

void
service_request(mailbox *box)
{
    static const atoll_wait now = {.deadline = ATOLL_NOW};
    atoll_lock_acquire(&service.lock);
    if (service.inbox == NULL && !service.stopped &&
        atoll_chan_new(ATOLL_UNBOUNDED, -1, &service.inbox) != ATOLL_OK) {
        service.inbox = NULL;
    }
    if (!service.running && !service.stopped && service.inbox != NULL) {
        service.running = atoll_thread_start(STACK, service_main, service.inbox,
                                             &service.thread) == ATOLL_OK;
    }
    bool ready = service.running;
    atoll_lock_release(&service.lock);
    atoll_msg msg = {.drop = drop_request, .group = -1, .u.heap.ptr = mailbox_ref(box)};
    if (!ready || atoll_chan_send(service.inbox, &msg, &now) != ATOLL_OK) {
        /* No memory, no thread, or the end: the owner finds it when it ends. */
        atoll_msg_drop(&msg);
    }
}

void
service_stop(void)
{
    atoll_lock_acquire(&service.lock);
    bool join = service.running;
    service.running = false;
    service.stopped = true;
    atoll_lock_release(&service.lock);
    if (!join) {
        return;
    }
    PyThreadState *ts = PyEval_SaveThread();
    atoll_event_set(&service.leave);
    atoll_chan_close(service.inbox, true);
    atoll_thread_join(service.thread);
    PyEval_RestoreThread(ts);
}

void
service_fork_child(void)
{
    /* The thread is not here, and what it was asked is lost; the channel is
     * the parent's. */
    service.lock.word = 0;
    service.running = service.stopped = false;
    service.inbox = NULL;
    service.leave = (atoll_event){0};
}
