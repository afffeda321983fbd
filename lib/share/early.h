/* share/early.h - what servers say before an instance is there, kept for instances that come later
 *
 * Right after the handshake a server says once, in messages from its bare domain, which namespaces
 * it delegates (XEP-0355 4.2) and which privileges it grants (XEP-0356 4). Of each host the last
 * <privilege/> is kept, and each different <delegation/> (ejabberd sends one for each half).
 * Bounded: 16 of a host, whose oldest goes, and 64 of all. When those are there, another host's are
 * not kept, because any server of the network can send such messages; only those of a host that the
 * component's domain is below take the place of others.
 *
 * It also asks for the features of each namespace that it delegates (XEP-0355 7.2: disco#info with
 * a node of urn:xmpp:delegation), and Prosody asks only once. These queries wait for the first
 * instance. Bounded: 64, and each until its deadline; all others are answered at once. Pure.
 */
#ifndef OUTBOARD_SHARE_EARLY_H
#define OUTBOARD_SHARE_EARLY_H

#include "xmpp/stanza.h"

struct early;

/* domain: the component's, borrowed. */
struct early *early_new(struct span domain);
void early_free(struct early *e);

/* Keep a message if it is an advertisement. Returns whether it is one. */
bool early_note_advert(struct early *e, const struct stanza *message);
/* Forget all advertisements, because the stream has ended: with the next one the server sends them
 * again. */
void early_forget_adverts(struct early *e);
/* Call fn for each advertisement, oldest first. */
void early_each_advert(
	struct early *e, void (*fn)(void *context, const struct stanza *message), void *context);

/* Keep a request if it is such a query and there is room; whether it is kept. All wait equally
 * long. */
bool early_keep_query(struct early *e, const struct stanza *request, int64_t deadline_ms);
/* Take out the oldest if its deadline is not after until_ms. The stanza is valid until the next
 * call. */
bool early_take_query(struct early *e, int64_t until_ms, struct stanza *request);
size_t early_queries(const struct early *e);
/* Of the queries. */
int64_t early_deadline(const struct early *e);

#endif
