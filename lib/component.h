/* component.h - a component's stream to its server (XEP-0114)
 *
 * Connects (all addresses of the name, one after the other), opens the stream in
 * jabber:component:accept, authenticates with SHA-1 of stream id and secret
 * (XEP-0114 3), hands over stanzas, and connects again with capped exponential
 * backoff and jitter when the stream ends. TCP_NODELAY and keepalives are on. Stream errors
 * (RFC 6120 4.9) are logged by name; the secret never is.
 *
 * Ends for good (gave_up): bad secret (not-authorized: EXIT_DENIED), a domain the server does not
 * know (host-unknown, also invalid-namespace/improper-addressing at opening: EXIT_CONFIG),
 * retries used up (EXIT_TEMPORARY, or EXIT_UNAVAILABLE when no connection was ever made,
 * EXIT_PROTOCOL when the peer broke the protocol each time). conflict (another component holds the
 * domain) keeps trying with long backoff.
 */
#ifndef OUTBOARD_COMPONENT_H
#define OUTBOARD_COMPONENT_H

#include "io.h"
#include "link.h"

#define COMPONENT_RETRIES_FOREVER (-1)
#define COMPONENT_BACKOFF_MIN_MS 500
#define COMPONENT_BACKOFF_MAX_MS 60000
#define COMPONENT_CONFLICT_BACKOFF_MS 15000
#define COMPONENT_HANDSHAKE_MS 30000

struct component_config {
	const char *connect; /* "HOST:PORT" */
	const char *domain;
	struct io_secret secret; /* read at start and by component_reload */
	int64_t retries; /* connections after the first failed one in a row; -1 forever, 0 none */
	struct link_config link; /* reader.kind is set by the module */
};

struct component_ops {
	void (*up)(void *context);   /* handshake done */
	void (*down)(void *context); /* was up, stream ended; a reconnect is scheduled */
	void (*stanza)(void *context, const struct stanza *s);
	/* not going to try (again): the status the program should exit with */
	void (*gave_up)(void *context, int status);
	/* before the next attempt, for STATUS= lines; may be NULL */
	void (*waiting)(void *context, const char *why, int64_t delay_ms);
};

struct component;

/* NULL after logging if the configuration is unusable (*status says how). Starts connecting. */
struct component *component_new(struct loop *loop, const struct component_config *config,
	const struct component_ops *ops, void *context, int *status);
void component_free(struct component *c);
bool component_is_up(const struct component *c);
/* NULL while not up. */
struct writer *component_writer(struct component *c);
struct link *component_link(struct component *c);
/* Send </stream:stream>, wait for the server's (until deadline), close. Then no more callbacks. */
void component_close(struct component *c, int64_t deadline_ms);
/* SIGHUP: read the secret again; used at the next connection. False if it could not be read. */
bool component_reload(struct component *c);
/* end the stream with a stream error and connect again (RFC 6120 4.9.3 condition name) */
void component_abort(struct component *c, const char *condition);

#endif
