/* server/client-story.h - what libstrophe shows of a login, and why it failed
 *
 * libstrophe tells its caller only that a connection has ended. Why shows in what the server sent,
 * and that shows only in the library's own log, which is read here. What we send (passwords!) is in
 * there as well and goes nowhere.
 */
#ifndef OUTBOARD_SERVER_CLIENT_STORY_H
#define OUTBOARD_SERVER_CLIENT_STORY_H

#include <stdbool.h>
#include <stddef.h>

#include <strophe.h>

#include "server/client.h"

struct client_story {
	bool established;  /* TCP */
	bool features;	   /* those that count: behind TLS if there is any */
	bool proceed;	   /* TLS begins */
	bool tls_required; /* the features say so */
	bool mechanisms;   /* the features offer some */
	bool broken;	   /* the peer has sent what is not XML */
	size_t max_bytes;  /* XEP-0478, of the last features; 0: nothing was said */
	int connect_errno;
	char sasl_failure[64], bind_failure[64], stream_error[64], stream_error_text[128];
	char library_says[160];
};

/* A line of the library's log. up: the login is over. */
void client_story_log(struct client_story *story, bool up, xmpp_log_level_t level, const char *area,
	const char *message);
void client_story_stream_error(struct client_story *story, const xmpp_stream_error_t *error);
/* What the stream error that was seen means as an exit status. */
int client_story_stream_status(const struct client_story *story);

/* Log why a login as jid at `where` did not come about; returns the exit status. */
int client_story_tell(
	const struct client_story *story, const char *where, const char *jid, enum client_tls tls);

#endif
