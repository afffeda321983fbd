/* share/origins.h - which instance has written to whom
 *
 * The error of a message goes to the instance that sent the message, for 5 minutes. Presence from
 * an address goes to each instance that has sent presence there: it may have subscribed. Both
 * tables are bounded: when one is full, the instance that has most entries loses one, its oldest
 * message, or the oldest address of the domain of which it has most (base/holdings.h). So neither a
 * busy instance nor a domain of many invented users displaces what the others need. Pure.
 */
#ifndef OUTBOARD_SHARE_ORIGINS_H
#define OUTBOARD_SHARE_ORIGINS_H

#include "base/holdings.h"
#include "xmpp/stanza.h"

struct origins;
struct origin {
	struct holding holding; /* private */
	void *instance;
};

struct origins *origins_new(size_t max_addresses, const uint64_t seed[2]);
void origins_free(struct origins *o);

/* An instance has sent a message; from is normalised. One without an id is not remembered. */
void origins_note_message(struct origins *o, void *instance, const struct stanza *message,
	struct span from, int64_t now_ms);
/* The instance that has sent the message of which this is the error, once; NULL. */
void *origins_take_message(struct origins *o, const struct stanza *error);

/* An instance has sent presence to an address: bare and normalised. */
void origins_note_address(struct origins *o, void *instance, struct span bare, int64_t now_ms);
/* The first instance that has sent presence there, and the next; NULL. */
const struct origin *origins_find(const struct origins *o, struct span bare);
const struct origin *origins_next(const struct origins *o, const struct origin *origin);
size_t origins_addresses(const struct origins *o);

/* An instance is gone. */
void origins_forget(struct origins *o, void *instance);
void origins_tick(struct origins *o, int64_t now_ms);
int64_t origins_deadline(const struct origins *o);

#endif
