/* jat/outbound.h - requests that sessions send to users (--outbound-iq)
 *
 * A session's get or set to A/TOKEN goes on to the user whom the token means, from the address that
 * the user asked, under an id of ours that nobody can guess: so no other answer is taken for this
 * one's. It stands in the table of open requests without a worker and outside the shares. Pure.
 */
#ifndef OUTBOARD_JAT_OUTBOUND_H
#define OUTBOARD_JAT_OUTBOUND_H

#include "jat/tokens.h"
#include "xmpp/requests.h"

/* All borrowed. */
struct outbound {
	struct requests *requests;
	struct tokens *tokens;
	struct buf *key; /* scratch */
	const struct random_source *random;
};

/* Hand s, a request to A/TOKEN, on; token, user and asked are what tokens_read() gives. Unless it
 * is WRITER_OK nothing was sent and nothing is open: the session is to be told. */
enum writer_status outbound_request(const struct outbound *o, const struct stanza *s,
	struct span token, struct span user, struct span asked, struct turn *turn);
/* Hand a user's answer back to the session that asked. False: s answers no open request. */
bool outbound_answer(const struct outbound *o, const struct stanza *s, struct turn *turn);

#endif
