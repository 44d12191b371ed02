/* Mailboxes: what must be released in the interpreter that made it.
 *
 * An exported buffer belongs to an object of its owner's, which only the owner
 * may release. Whoever drops the last view of it, in whichever interpreter or
 * in none, posts it to the owner's mailbox: a stack without limit, linked through
 * the mail itself, so posting cannot fail.
 *
 * Who empties it: the owner itself, when the mail comes from its own thread,
 * when it sends another view or has waited in atoll, and when it ends; or, if it
 * has done nothing of the kind for a millisecond, the service thread
 * (wait/mail_service.c), which attaches to the owner for that moment. So the owner may
 * as well be busy, idle, or blocked for ever.
 *
 *   OPEN --- close() accepted ---> CLOSING --- all mail is in ---> DEAD
 *
 * A closing interpreter whose memory is still looked at elsewhere lives on,
 * seen by nobody, until the last mail has come in (mailbox_linger).
 */
#ifndef EXT_WAIT_MAIL_H
#define EXT_WAIT_MAIL_H

#include "base/base.h"

typedef struct mail {
    struct mail *next;
    /* Release it, attached to the owner; frees the mail. */
    void (*open)(struct mail *mail);
} mail;

typedef struct mailbox mailbox;

/* For the current interpreter. The caller owns a reference. NULL with
 * MemoryError. */
mailbox *mailbox_new(PyInterpreterState *interp);

/* Count a reference; returns the mailbox. Any thread. */
mailbox *mailbox_ref(mailbox *box);

/* Give a reference back. Any thread. */
void mailbox_unref(mailbox *box);

/* One more piece of mail will come. Attached to the owner. */
void mailbox_expect(mailbox *box);

/* Post it. Any thread, attached to anything or nothing. If the calling thread
 * is attached to the owner the mail is opened at once. Never blocks. */
void mailbox_post(mailbox *box, mail *m);

/* Open all that is there. Attached to the owner. */
void mailbox_drain(mailbox *box);

/* --- the end of the owner; attached to it */

/* Nobody else attaches for our sake from here on; waits, detached, until nobody
 * is. Then drains. Returns how much mail is still to come. */
uint32_t mailbox_close(mailbox *box);
/* It will not end after all. */
void mailbox_reopen(mailbox *box);
/* Wait, detached, until all mail has come in, and open it. */
void mailbox_linger(mailbox *box);
/* The interpreter is gone, or about to be: mail that still comes is lost. */
void mailbox_kill(mailbox *box);

/* --- the service thread (wait/mail_service.c) */

/* Let the service thread empty `box`. Any thread. Starts it if need be. */
void service_request(mailbox *box);
/* When that was (atoll_now()). */
int64_t mailbox_asked(mailbox *box);
/* From it: attach to the owner, drain, detach, if there still is mail. */
void mailbox_serve(mailbox *box);
/* Main is leaving: stop the thread, waiting for it detached. */
void service_stop(void);

/* Make main's mailbox anew, in the child. */
void mailbox_fork_child(void);

/* Forget the service thread, which is not in the child. */
void service_fork_child(void);

#endif
