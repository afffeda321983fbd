/* jat/messages.h - messages between users and sessions (--messages)
 *
 * A user's message goes to the session that talks with the user, which is remembered for an hour;
 * else to one chosen by policy; else, while no session is there, to a target's account, whose
 * server keeps it. A session's message to A/TOKEN goes to the user whom the token means, and from
 * then on the two talk with each other. Pure.
 */
#ifndef OUTBOARD_JAT_MESSAGES_H
#define OUTBOARD_JAT_MESSAGES_H

#include "jat/counters.h"
#include "jat/dispatch.h"
#include "jat/tokens.h"
#include "xmpp/steps.h"

struct messages {
	struct dispatch *dispatch;   /* borrowed */
	struct tokens *tokens;	     /* borrowed */
	const struct shares *shares; /* borrowed */
	struct steps *senders;	     /* key: a user's bare JID */
};

/* max, max_bytes: of the users that are remembered. The rest of *m is set by the caller. */
void messages_init(struct messages *m, size_t max, size_t max_bytes, const uint64_t seed[2]);
/* Before dispatch_free(): users hold their sessions. */
void messages_free(struct messages *m);
/* Hand a message on. What became of it: COUNT_MESSAGES (handed on) or COUNT_IGNORED; or
 * COUNT_TOO_LARGE or COUNT_CONSTRAINT, and its sender is to be told. */
enum counter messages_hand_on(struct messages *m, const struct stanza *s, struct turn *turn);

#endif
