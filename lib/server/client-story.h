/* server/client-story.h - why a login through libstrophe failed
 *
 * libstrophe tells its caller only that a connection has ended. The reason is in the server's
 * stanzas, which only the library's own log shows, so that log is read here. It also holds what we
 * send, passwords among it: nothing of it is printed.
 */
#ifndef OUTBOARD_SERVER_CLIENT_STORY_H
#define OUTBOARD_SERVER_CLIENT_STORY_H

#include <stdbool.h>
#include <stddef.h>

#include <strophe.h>

#include "server/client.h"

struct client_story {
	bool established; /* TCP */
	bool features; /* the features that count: if there is TLS, those sent after its handshake
			*/
	bool proceed;  /* TLS begins */
	bool tls_required; /* the features say so */
	bool mechanisms;   /* the features offer mechanisms */
	bool broken;	   /* the peer has sent bytes that are not XML */
	size_t max_bytes;  /* XEP-0478: the largest stanza of the last features; 0: the server gave
			      none */
	int connect_errno;
	char sasl_failure[64], bind_failure[64], stream_error[64], stream_error_text[128];
	char library_says[160];
};

/* Take in a line of the library's log. up: the login has succeeded. */
void client_story_log(struct client_story *story, bool up, xmpp_log_level_t level, const char *area,
	const char *message);
void client_story_stream_error(struct client_story *story, const xmpp_stream_error_t *error);
/* The exit status for the stream error that was seen. */
int client_story_stream_status(const struct client_story *story);

/* Log why jid could not log in at `where`; returns the exit status. */
int client_story_tell(
	const struct client_story *story, const char *where, const char *jid, enum client_tls tls);

#endif
