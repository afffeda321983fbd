/* plumbing/iq.h - one IQ and its reply, or many (xmpp-iq)
 *
 * Invariants: a reply is taken only from the address the request was sent to
 * (exactly; for one without `to` or to the own account also as RFC 6120 8.1.2.1
 * has it), with the id it was sent under, which cannot be guessed, and once. The
 * user's own ids, whatever they are, never leave, and are restored.
 *
 * Of a batch each iq of type get or set that was read (with `each`: each address on a line) is
 * answered by exactly one line: its reply, or an error of ours
 *   remote-server-timeout   no reply within reply_timeout_ms
 *   recipient-unavailable   the connection was lost, a signal came; text "not sent": or before
 *   policy-violation        request or reply over a limit
 *   resource-constraint     too many bytes of replies waited for this one
 *   bad-request             not sent: not one element, or no `to` that is an address
 * in the order of the requests, or as they come. All else is reported and has no line.
 *
 * Bounded: at most max_pending requests are without a printed line; their replies and what stands
 * before standard output are max_queue_bytes each and a few stanzas. While standard output takes no
 * more, replies are not read, and none gets late; while the server takes no more, or there is no
 * room, requests are not read.
 */
#ifndef OUTBOARD_PLUMBING_IQ_H
#define OUTBOARD_PLUMBING_IQ_H

#include "server/login.h"

struct iq_config {
	struct login_config login;
	const char *to;
	int type;	/* 0 get, 1 set */
	char **payload; /* XML, the only operand; "-" or NULL: from stdin */
	const char *node;
	bool ping, disco_info, disco_items, version_of; /* payloads of our own */
	bool stanza, json;				/* what is printed */
	bool batch, each, unordered;
	int64_t reply_timeout_ms; /* 0: as login.timeout_ms */
	int64_t max_pending;
};

#define IQ_CONFIG_INIT                                                                             \
	{                                                                                          \
		.login = LOGIN_CONFIG_INIT, .max_pending = 1000                                    \
	}

/* Whether there may be many requests, each with a line of output. */
bool iq_is_many(const struct iq_config *config);
/* What is wrong with the combination of options, NULL if nothing. */
const char *iq_check(const struct iq_config *config);
/* EXIT_IO (standard input or output), login.h's status where there was no connection or it was lost
 * before all was answered, EXIT_TEMPORARY (SIGTERM, SIGINT), EXIT_DATA (bad input),
 * EXIT_TIMED_OUT (no reply; in a batch EXIT_NO), EXIT_NO (an IQ error), in this order; else
 * EXIT_DONE. The payload is checked before connecting. */
int iq_run(const struct iq_config *config);

#endif
