/* jat/proxy.h - the decisions of xmpp-jat-proxy
 *
 * Pure: stanzas and the time come in, stanzas go out through a turn's writer; random numbers come
 * from a function given at the start. Every row of the table in xmpp-jat-proxy(8) is one branch of
 * jatproxy_ops.stanza. Invariants: each IQ request taken is in the table of open requests
 * (xmpp/requests.h) until its one answer stands in the output; a session is known exactly from its
 * available to its unavailable presence.
 *
 * Two addresses: D, the domain that users ask, and A, where tokens stand and which subscribes,
 * pings and probes. A is D, unless a reply domain is given.
 */
#ifndef OUTBOARD_JAT_PROXY_H
#define OUTBOARD_JAT_PROXY_H

#include "jat/audience.h"
#include "jat/dispatch.h"
#include "jat/jat.h"
#include "jat/marks.h"
#include "server/service.h"

struct jatproxy_config {
	struct jat jat; /* encoding, A, D, keys: borrowed */
	struct dispatch_options dispatch;
	bool messages, outbound_iq, keep_item_jids;
	bool passthrough; /* filter: copy stanzas that are not addressed to the domain or below it
			   */
	int64_t timeout_ms, bounce_wait_ms;
	size_t max_handles, max_subscribers, max_marks;
	struct shares_config pending; /* open requests; own and seed are filled in */
	int64_t handle_ttl_ms;
	bool grace; /* the predecessor did not stop cleanly and the key survives it */
	struct random_source random;
	/* A subscription to our presence has begun or ended (for --state-dir); may be NULL. */
	void (*subscribed)(void *context, bool there, struct span user, struct span address);
	/* We answer a request ourselves, and its session may answer yet: a mark for it (marks.h),
	 * for a successor that takes answers on their token alone (for --state-dir). It must be
	 * kept before our answer is written. May be NULL. */
	void (*marked)(void *context, const char *mark);
	/* What the reply domain sends to itself does not come back: the server does not route it to
	 * us. */
	void (*unrouted)(void *context);
	void *context;
};

struct jatproxy;

/* *config is copied; what it points to is borrowed until the end. */
struct jatproxy *jatproxy_new(const struct jatproxy_config *config);
void jatproxy_free(struct jatproxy *p);
/* What is kept across runs (--state-dir). */
struct audience *jatproxy_audience(struct jatproxy *p);
struct marks *jatproxy_marks(struct jatproxy *p);
/* For session_resubscribe() (SIGHUP). */
struct session_table *jatproxy_sessions(struct jatproxy *p);
/* The keys were re-read (SIGHUP); the old ones are no longer used. */
void jatproxy_rekey(struct jatproxy *p, struct jat_keys *keys);
/* self: a struct jatproxy. */
extern const struct service_ops jatproxy_ops;

#endif
