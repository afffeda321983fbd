/* plumbing/message.h - text as messages (xmpp-message)
 *
 * Standard input is the body of one message, or each line of it is. Any bytes will do: what is no
 * UTF-8, or no character of XML, becomes U+FFFD. The message goes to every address in turn.
 *
 * Invariants: the exit status is EXIT_DONE only if the server has taken all messages and has sent
 * none back until a ping behind them had come round (server/roundtrip.h) and wait_ms had passed. A
 * bounce is recognised by the id, which cannot be guessed. A message that cannot be sent to one
 * address is still sent to the others.
 */
#ifndef OUTBOARD_PLUMBING_MESSAGE_H
#define OUTBOARD_PLUMBING_MESSAGE_H

#include "server/login.h"

struct message_config {
	struct login_config login;
	struct opt_list to;
	int type; /* index into MESSAGE_TYPES */
	const char *subject;
	int64_t wait_ms; /* for bounces that come late */
	bool lines;	 /* one message a line */
	int64_t max_body_bytes;
};

#define MESSAGE_TYPES "chat|headline|normal"
#define MESSAGE_MAX_BODY_BYTES (1024 * 1024)

#define MESSAGE_CONFIG_INIT                                                                        \
	{                                                                                          \
		.login = LOGIN_CONFIG_INIT, .max_body_bytes = MESSAGE_MAX_BODY_BYTES               \
	}

const char *message_check(const struct message_config *config);
/* EXIT_IO (standard input), login.h's status of the connection, EXIT_DATA (too large, no text),
 * EXIT_NO (a bounce), in this order; else EXIT_DONE. */
int message_run(const struct message_config *config);

#endif
