/* share/hub.h - one component's stanzas, shared out among several instances of it
 *
 * The server knows one component, D. Behind it stand instances, each of which believes that this
 * program is its server (XEP-0114). No address is translated.
 *
 * Invariants: an IQ request from the server goes to one instance at a time and has exactly one
 * answer, from an instance that was asked (xmpp/requests, xmpp/balance: the open-request table,
 * health and second tries of xmpp-jat-proxy). An instance's own request leaves under an id that
 * cannot be guessed; its answer goes to that instance alone, under the instance's id. No instance
 * can make the server end the stream that all share: a stanza that the server would not accept is
 * refused, or ends the stream of the instance that wrote it.
 *
 * Pure: stanzas and the time come in; stanzas go out through the turn's writer (the server) and the
 * writers of the instances.
 */
#ifndef OUTBOARD_SHARE_HUB_H
#define OUTBOARD_SHARE_HUB_H

#include "base/random.h"
#include "server/service.h"
#include "xmpp/balance.h"

/* In the order of "sender|recipient". */
enum hub_key { HUB_BY_SENDER, HUB_BY_RECIPIENT };

struct hub_config {
	struct span domain; /* normalised; borrowed */
	enum balance_policy policy;
	enum hub_key sticky_by;
	int64_t timeout_ms, try_timeout_ms;
	size_t max_addresses;	      /* to which instances have sent presence */
	struct shares_config pending; /* open requests; own and seed are filled in */
	/* Whether the output of an instance is so full that it should get no new request. */
	bool (*congested)(void *context, void *port);
	void *context;
	struct random_source random;
};

struct hub;
struct hub_member;

/* *config is copied. */
struct hub *hub_new(const struct hub_config *config);
void hub_free(struct hub *h);
/* self: struct hub */
extern const struct service_ops hub_ops;

/* An instance has come. Its writer is borrowed until hub_part(); port is the owner's name for it
 * (hub_config.congested). It gets the advertisements of delegation and privilege that the server
 * has sent so far. */
struct hub_member *hub_join(struct hub *h, struct writer *writer, void *port, struct turn *turn);
/* The instance has left: requests that it has not answered go to others or get an error; its own
 * requests are forgotten. */
void hub_part(struct hub *h, struct hub_member *m, struct turn *turn);
unsigned hub_number(const struct hub_member *m);

enum hub_verdict {
	HUB_TAKEN,
	/* the instance's stream is to end with the stream error of that name (RFC 6120 4.9.3) */
	HUB_INVALID_FROM,
	HUB_IMPROPER_ADDRESSING,
	HUB_UNSUPPORTED_STANZA_TYPE,
};
/* An instance has written a stanza (or STANZA_OTHER). While the server is away its answers wait,
 * all else is refused. */
enum hub_verdict hub_stanza_of(
	struct hub *h, struct hub_member *m, const struct stanza *stanza, struct turn *turn);

/* Whether the instance has said that it wants to end (unavailable presence from D to D). */
bool hub_is_ending(const struct hub_member *m);
/* Whether it is ending because the server's stream has ended and begun again since it came: it has
 * to connect again, as to a server. */
bool hub_is_outdated(const struct hub_member *m);
/* Number of requests that it has to answer, and of its own that wait for an answer. */
size_t hub_load(const struct hub_member *m);
/* Whether a stanza did not fit its output: the instance does not read, so end its stream. */
bool hub_is_stuck(const struct hub_member *m);
/* Whether SIGTERM has come: then no new instances are taken. */
bool hub_is_draining(const struct hub *h);

#endif
