/* delegation/outgoing.h - messages that the handler writes of its own accord
 *
 * They go out from our domain, an account of it or a resource of it; with `users` also from the
 * accounts of hosts that have granted that (XEP-0356, messages outgoing), wrapped in <privilege/>.
 * What cannot be sent yet is kept: until there is room, or some seconds for a grant to come. While
 * OUTGOING_MAX of them are kept the handler is not read. Pure.
 */
#ifndef OUTBOARD_DELEGATION_OUTGOING_H
#define OUTBOARD_DELEGATION_OUTGOING_H

#include "xmpp/turn.h"

#define OUTGOING_MAX 1000

struct outgoing_config {
	struct span domain;
	const struct span *hosts; /* whose accounts may be senders; borrowed */
	size_t hosts_count;
	bool users; /* --handler-messages=users */
};

struct outgoing;

/* *config is copied. */
struct outgoing *outgoing_new(const struct outgoing_config *config);
void outgoing_free(struct outgoing *o);
/* Send or keep a message of the handler. NULL, or why it is refused (static). */
const char *outgoing_message(struct outgoing *o, const struct stanza *s, struct turn *turn);
/* Whether s is an advertisement in which one of the hosts says what it grants; then nobody else
 * handles it. */
bool outgoing_granted(struct outgoing *o, const struct stanza *s, struct turn *turn);
/* The link is down: nothing is granted. */
void outgoing_down(struct outgoing *o);
void outgoing_tick(struct outgoing *o, struct turn *turn);
int64_t outgoing_deadline(const struct outgoing *o);
/* Whether the handler must wait. */
bool outgoing_full(const struct outgoing *o);
/* How many were sent, and how many were refused after they had been kept. */
void outgoing_counts(const struct outgoing *o, uint64_t *sent, uint64_t *refused);

#endif
