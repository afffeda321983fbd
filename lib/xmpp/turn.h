/* xmpp/turn.h - one call of a decision: where stanzas go, and what time it is
 *
 * Every deciding function is given a turn. A turn is valid during that call only: nothing keeps a
 * pointer to it, nor its writer, nor its time.
 */
#ifndef OUTBOARD_XMPP_TURN_H
#define OUTBOARD_XMPP_TURN_H

#include <stdint.h>

#include "xmpp/writer.h"

struct turn {
	struct writer *writer; /* appends to the link; NULL while the link is down */
	int64_t now_ms;	       /* of the monotonic clock, as base/io.h reads it */
};

#endif
