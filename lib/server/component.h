/* server/component.h - a component's stream to its server (XEP-0114)
 *
 * Connects (loop/dial.h), opens the stream in jabber:component:accept, authenticates with SHA-1 of
 * stream id and secret (XEP-0114 3), hands over stanzas, and connects again with capped exponential
 * backoff and jitter when the stream ends (on loopback at most 5 s, but for conflict and unknown
 * domain). Stream errors (RFC 6120 4.9) are logged by name; the secret never is. What the server
 * had not taken when a stream was lost is logged in bytes.
 *
 * Ends for good (gave_up):
 *   EXIT_DENIED       bad secret (not-authorized before the handshake). ejabberd answers the
 *                     same for a domain that it does not know
 *   EXIT_CONFIG       a domain the server does not know (host-unknown, also invalid-namespace
 *                     and improper-addressing) on the first stream; later, when it once was
 *                     known, the server is being set up anew: long backoff
 *   EXIT_UNAVAILABLE  retries (more than 0) used up, and no connection was ever made
 *   EXIT_PROTOCOL     retries used up, the peer broke the protocol each time in the row
 *   EXIT_TEMPORARY    retries used up otherwise
 * conflict (another component holds the domain) keeps trying with long backoff: a standby waits
 * and takes over.
 *
 * A stream on which nothing was written for COMPONENT_SPACE_MS gets a space (RFC 6120 4.6.1). With
 * ping_interval_ms a stream on which nothing was read that long gets a ping to ourselves
 * (roundtrip.h), and a second one if nothing comes; if nothing comes then either, the stream is
 * lost. Any byte counts as an answer; the time stands still while we do not read.
 *
 * A stream that ends within COMPONENT_STABLE_MS counts as a failed attempt: a server that accepts
 * the handshake and closes is not hammered.
 */
#ifndef OUTBOARD_SERVER_COMPONENT_H
#define OUTBOARD_SERVER_COMPONENT_H

#include "base/secret.h"
#include "loop/link.h"

#define COMPONENT_BACKOFF_MIN_MS 500
#define COMPONENT_BACKOFF_MAX_MS 60000
#define COMPONENT_CONFLICT_BACKOFF_MS 15000
#define COMPONENT_HANDSHAKE_MS 30000 /* from the connection to <handshake/> */
#define COMPONENT_STABLE_MS 5000
#define COMPONENT_STALL_MS 60000
#define COMPONENT_SPACE_MS 60000
#define COMPONENT_PING_ANSWER_MS 30000 /* at most, for an answer to a ping */

struct component_config {
	const char *connect; /* "HOST:PORT"; borrowed as the domain is */
	const char *domain;
	struct secret secret; /* read at start and by component_reload */
	int64_t retries; /* connections after the first failed one in a row; -1 forever, 0 none */
	int64_t ping_interval_ms; /* 0: no pings */
	int64_t space_ms;	  /* 0: COMPONENT_SPACE_MS */
	const char *ping_address; /* pinged from and to; borrowed; NULL: the domain */
	struct link_config link;  /* reader.kind is set by the module; stall_ms 0 is
				     COMPONENT_STALL_MS */
};

struct component_ops {
	void (*up)(void *context);   /* handshake done */
	void (*down)(void *context); /* was up, stream ended; a reconnect is scheduled */
	/* While up: iq, message, presence. Other elements are logged and counted here. */
	void (*stanza)(void *context, const struct stanza *s);
	/* not going to try (again): the status the program should exit with. component_free() is
	 * allowed here (and in stanza). */
	void (*gave_up)(void *context, int status);
	/* The server has ended the stream that was up with this error (RFC 6120 4.9.3): an exit
	 * status gives up at once (the words are the owner's), 0 goes on as usual. May be NULL. */
	int (*stream_error)(void *context, struct span condition);
	/* After our end tag: what cannot be answered on this stream any more. True: a request that
	 * the owner answers on another (component_reopen()). May be NULL. */
	bool (*late)(void *context, const struct stanza *s);
	/* before the next attempt, for STATUS= lines; may be NULL */
	void (*waiting)(void *context, const char *why);
};

struct component;

/* NULL after logging if the configuration is unusable (*status says how: EXIT_USAGE for a missing
 * domain or a malformed HOST:PORT, EXIT_CONFIG for the secret). Starts connecting; callbacks come
 * from the loop only. */
struct component *component_new(struct loop *loop, const struct component_config *config,
	const struct component_ops *ops, void *context, int *status);
void component_free(struct component *c);
/* Both NULL while not up. */
struct writer *component_writer(struct component *c);
struct link *component_link(struct component *c);
/* Whether there ever was a TCP connection. */
bool component_reached(const struct component *c);
/* Handshakes done so far. */
uint64_t component_connections(const struct component *c);
/* Elements at stanza level that are no stanzas, so far. */
uint64_t component_unknown(const struct component *c);
/* Queue </stream:stream> behind what is queued, so that both leave in one write: which leaves the
 * server less time to send us something in between. From here on the component is not up.
 * component_close() must follow. */
void component_goodbye(struct component *c);
/* Write what is queued, send </stream:stream>, wait for the server's (until deadline), close.
 * Requests that arrive meanwhile and that ops.late does not take get no answer and are logged, and
 * so is a stream error. Then no more callbacks. EXIT_DONE if the server has taken it all (its end
 * tag came), EXIT_PROTOCOL if it answered with a stream error that blames us, else EXIT_TEMPORARY.
 */
int component_close(struct component *c, int64_t deadline_ms);
/* After a component_close() with EXIT_DONE: connect once more, in the loop, with another owner; up
 * or gave_up follows. */
void component_reopen(struct component *c, const struct component_ops *ops, void *context);
/* Tell a server that knows what it means (xmpp-share) that we take no new requests: unavailable
 * presence from the domain to itself. What comes back of it is not handed over. */
void component_leaving(struct component *c);
/* SIGHUP: read the secret again; used at the next connection. False if it could not be read. */
bool component_reload(struct component *c);

#endif
