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

#include "xmpp/stanza.h"

struct unanswered;

/* own: the component's domain, or the user's bare JID; borrowed. */
struct unanswered *unanswered_new(const char *own, bool component, size_t max);
/* NULL is fine. */
void unanswered_free(struct unanswered *u);
/* A request was sent, whose answer is waited for until deadline_ms. False if there is no room: then
 * it counts as given up. It must have an id. */
bool unanswered_add(struct unanswered *u, const struct stanza *s, int64_t deadline_ms);
/* An iq of type result or error came. Whether it answers one of the requests. */
bool unanswered_take(struct unanswered *u, const struct stanza *s);
/* Forget the requests whose deadline has passed. */
void unanswered_give_up(struct unanswered *u, int64_t now_ms);
bool unanswered_full(const struct unanswered *u);
/* Requests whose answer is waited for. */
size_t unanswered_open(const struct unanswered *u);
/* The same and those that were given up. */
uint64_t unanswered_count(const struct unanswered *u);
/* The earliest deadline; DEADLINE_NEVER if none is open. */
int64_t unanswered_deadline(const struct unanswered *u);

#endif
