/* jat/audience.h - subscribers to our addresses, and the presence they are shown
 *
 * A bounded table of (user, address). When it is full the oldest subscription of whoever has most
 * is ended, and its user is told (`unsubscribed`). What subscribers are to see is set with
 * audience_show(); they are told while there is room in the output, the rest in the next turns:
 * none is left out, and each gets only the newest presence.
 *
 * Pure: each change is given to a function that keeps it (a journal).
 */
#ifndef OUTBOARD_JAT_AUDIENCE_H
#define OUTBOARD_JAT_AUDIENCE_H

#include "base/buf.h"
#include "xmpp/requests.h"

/* Addresses that one user may subscribe to. */
#define AUDIENCE_MAX_ADDRESSES 32

struct audience_config {
	size_t max, max_bytes;
	uint64_t seed[2];
	const struct shares *shares; /* tells what a user counts under; borrowed */
	struct requests *requests;   /* a presence that does not fit is owed there; borrowed */
	/* A subscription has begun or ended, for the owner to keep. May be NULL. */
	void (*changed)(void *context, bool there, struct span user, struct span address);
	void *context;
};

struct audience;

/* *config is copied. */
struct audience *audience_new(const struct audience_config *config);
void audience_free(struct audience *a);
/* The subscribers of an earlier run: lines "USER TAB ADDRESS", and "- TAB USER TAB ADDRESS" for
 * those that ended. unsure: it did not stop cleanly, so they may still see a session; when none is
 * there soon after the start they are told. */
void audience_restore(struct audience *a, struct span text, bool unsure);
/* All, one "USER TAB ADDRESS" a line. */
void audience_format(const struct audience *a, struct buf *out);

/* Send a bare presence of this type (NULL: available), now or as soon as there is room. */
void audience_say(
	struct audience *a, struct span to, struct span from, const char *type, struct turn *turn);
/* A subscribe, unsubscribe or probe to an address of ours. */
void audience_subscription(struct audience *a, const struct stanza *s, struct turn *turn);
/* What subscribers are to see from now on: the children of an available presence ("" for none);
 * NULL: unavailable. Does nothing if they see that already. */
void audience_show(struct audience *a, const char *shown, struct turn *turn);
void audience_up(struct audience *a, struct turn *turn);
void audience_down(struct audience *a);
void audience_tick(struct audience *a, struct turn *turn);
int64_t audience_deadline(const struct audience *a);
/* Show that nobody is there, also to subscribers that may still see a session of an earlier run. */
void audience_finish(struct audience *a, struct turn *turn);
/* How many subscribers have not been told the newest presence yet. */
size_t audience_owed(const struct audience *a);
size_t audience_count(const struct audience *a);

#endif
