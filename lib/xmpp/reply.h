/* xmpp/reply.h - is this the answer to that request?
 *
 * What comes from a handler or through an envelope must be exactly one answer to
 * exactly one request before it reaches the one who asked.
 */
#ifndef OUTBOARD_XMPP_REPLY_H
#define OUTBOARD_XMPP_REPLY_H

#include "xmpp/writer.h"

/* What is wrong with s as the answer from `from` to `to` (the id has been matched): static text,
 * NULL if nothing. complete: the answer must carry both addresses itself; else absent ones are
 * fine, and so is an <error/> without its condition. A result has at most one element, an error
 * exactly one <error/> and at most one other element (RFC 6120 8.2.3, 8.3.1). */
const char *reply_wrong(const struct stanza *s, struct span from, struct span to, bool complete);

/* writer_copy() of such an answer. Its <error/> gets what it lacks (RFC 6120 8.3.2): the type
 * cancel, the condition undefined-condition. */
void reply_copy(
	struct writer *w, const struct stanza *s, const struct stanza_edit *edit, const char *ns);

#endif
