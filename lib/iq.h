/* iq.h - one IQ and its reply, or many (xmpp-iq)
 *
 * A reply is taken only from the address the request was sent to (exactly; for
 * one without `to` or to the own account also as RFC 6120 8.1.2.1 has it) with
 * the id it was sent under, which nobody can guess. The user's own ids are restored.
 */
#ifndef OUTBOARD_IQ_H
#define OUTBOARD_IQ_H

#include "login.h"

struct iq_config {
	struct login_config login;
	const char *to;
	int type;	     /* 0 get, 1 set */
	const char *payload; /* XML; "-" or NULL: from stdin */
	const char *node;
	bool ping, disco_info, disco_items, version_of; /* payloads of our own */
	bool stanza, json;				/* what is printed */
	bool batch, unordered;
	int64_t reply_timeout_ms;
	int64_t max_pending;
};

#define IQ_CONFIG_INIT                                                                             \
	{                                                                                          \
		.login = LOGIN_CONFIG_INIT, .reply_timeout_ms = 30000, .max_pending = 1000         \
	}

/* What is wrong with the combination of options, NULL if nothing. */
const char *iq_config_error(const struct iq_config *config);
/* EXIT_DONE result, EXIT_NO an IQ error, EXIT_TIMED_OUT no reply; else as login.h says. */
int iq_run(const struct iq_config *config);

#endif
