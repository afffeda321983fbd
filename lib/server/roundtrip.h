/* server/roundtrip.h - whether the server has handled what was sent to it (XEP-0199)
 *
 * A ping from us to A/RANDOM, where A is our own bare address. To a component the server routes it
 * back; to a client it answers that there is no such session. Either comes only when all that was
 * sent before has been handled, and neither reaches anybody else. This works on every server and
 * needs no module.
 */
#ifndef OUTBOARD_SERVER_ROUNDTRIP_H
#define OUTBOARD_SERVER_ROUNDTRIP_H

#include <stdint.h>

#include "xmpp/stanza.h"
#include "xmpp/writer.h"

struct roundtrip {
	bool open; /* the last ping has not come back */
	char resource[33];
	uint64_t count;
};

/* Draws the random resource. */
void roundtrip_init(struct roundtrip *r);
/* from: the address that the stream sends from (SPAN_NONE: left to the server, which stamps a
 * client's); address: A. */
enum writer_status roundtrip_send(
	struct roundtrip *r, struct span from, struct span address, struct writer *w);
/* Whether s is the answer to our ping, or to an earlier one of ours: nobody else should see it. */
bool roundtrip_take(struct roundtrip *r, const struct stanza *s);

#endif
