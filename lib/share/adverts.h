/* share/adverts.h - what servers have advertised to the component, kept for instances that connect
 * later
 *
 * A server says once, after the handshake, which namespaces it delegates (XEP-0355 4.2) and which
 * privileges it grants (XEP-0356 4): in a message from its bare domain. An instance that connects
 * later has missed that. Of each host the last <privilege/> is kept, and each different
 * <delegation/> (ejabberd sends one for each half). Bounded: 8 of a host, whose oldest goes, and 64
 * of all. When those are there, another host's are not kept: any server of the network can send
 * such messages, and the own one sends its own first.
 */
#ifndef OUTBOARD_SHARE_ADVERTS_H
#define OUTBOARD_SHARE_ADVERTS_H

#include "xmpp/stanza.h"

struct adverts;

struct adverts *adverts_new(void);
void adverts_free(struct adverts *a);
/* Keep a message if it is an advertisement. Returns whether it is one. */
bool adverts_note(struct adverts *a, const struct stanza *message);
/* Forget all, because the stream has ended: with the next one the server sends them again. */
void adverts_clear(struct adverts *a);
/* Call fn for each advertisement, oldest first. */
void adverts_each(
	struct adverts *a, void (*fn)(void *context, const struct stanza *message), void *context);

#endif
