/* xmpp/peek.h - what a stanza's payload may be, seen from the text of its start tag
 *
 * Whoever hands payloads on without a look has only the root indexed. A few payloads matter all the
 * same. Parsing each stanza to the next level costs a tenth of a request; this costs a hundredth.
 * It may say yes where a parser says no, but never the other way round (a namespace that is
 * declared on the stream header alone is not seen).
 */
#ifndef OUTBOARD_XMPP_PEEK_H
#define OUTBOARD_XMPP_PEEK_H

#include "xmpp/stanza.h"

enum peek {
	PEEK_ID = 1,	/* an attribute whose name ends in "id" */
	PEEK_DISCO = 2, /* a namespace of service discovery */
};

/* Flags of what may be there. s needs its root indexed. */
unsigned peek_payload(const struct stanza *s);

#endif
