/* xmpp/reply.h - is this the answer to that request?
 *
 * What comes from a handler or through an envelope must be exactly one answer to
 * exactly one request before it reaches who asked.
 */
#ifndef OUTBOARD_XMPP_REPLY_H
#define OUTBOARD_XMPP_REPLY_H

#include "xmpp/stanza.h"

/* What is wrong with s as the answer from `from` to `to` (the id has been matched): static text,
 * NULL if nothing. complete: the answer must carry both addresses itself; else absent ones are
 * fine. A result has at most one element, an error exactly one <error/> with a condition and at
 * most one other element (RFC 6120 8.2.3, 8.3.1). Needs three levels indexed. */
const char *reply_wrong(const struct stanza *s, struct span from, struct span to, bool complete);

#endif
