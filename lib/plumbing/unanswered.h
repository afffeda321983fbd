/* plumbing/unanswered.h - requests that we sent and that are not answered yet (xmpp-connect)
 *
 * An answer is known by who asked (a component has many addresses), who was asked, and the id.
 * Addresses are compared as they should have been typed, because some servers answer for what was
 * typed and others for what it means.
 *
 * Bounded: max requests. The caller reads no more requests while unanswered_full(), and makes room
 * with unanswered_give_up().
 */
#ifndef OUTBOARD_PLUMBING_UNANSWERED_H
#define OUTBOARD_PLUMBING_UNANSWERED_H

#include "base/buf.h"
#include "base/table.h"
#include "xmpp/stanza.h"

/* Other files read it, and change nothing. */
struct unanswered {
	const char *own;
	bool component;
	size_t max;
	struct table
		*open; /* requests whose answer is waited for, by what their answer is known by */
	uint64_t given_up;
	struct buf key;
};

/* own: the component's domain, or the user's bare JID; borrowed. */
void unanswered_init(struct unanswered *u, const char *own, bool component, size_t max);
/* Also of one that was not initialised, all zero. */
void unanswered_free(struct unanswered *u);
/* A request was sent, whose answer is waited for until deadline_ms. False if there is no room: then
 * it counts as given up. It must have an id. */
bool unanswered_add(struct unanswered *u, const struct stanza *s, int64_t deadline_ms);
/* An iq of type result or error came. Whether it answers one of the requests. */
bool unanswered_take(struct unanswered *u, const struct stanza *s);
/* Forget the requests whose deadline has passed. */
void unanswered_give_up(struct unanswered *u, int64_t now_ms);
bool unanswered_full(const struct unanswered *u);

#endif
