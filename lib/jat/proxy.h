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

#include "jat/jat.h"
#include "server/service.h"
#include "xmpp/balance.h"
#include "xmpp/session.h"

struct jatproxy_config {
	struct jat jat;		    /* encoding, A, D, keys: borrowed */
	const struct span *targets; /* normalised JIDs, bare or full, borrowed */
	size_t targets_count;
	enum balance_policy policy;
	bool messages, outbound_iq, keep_item_jids;
	bool show_presence;
	enum session_keep shown; /* of the best session */
	bool passthrough; /* filter: what is not addressed to the domain or below it is copied */
	bool drain_xa, drain_dnd, drain_away;
	int min_priority; /* sessions below are out of rotation; INT_MIN: none */
	int64_t timeout_ms, try_timeout_ms, bounce_wait_ms;
	size_t max_pending, max_pending_bytes, max_sessions, max_handles, max_subscribers;
	size_t user_pending, domain_pending; /* shares.h */
	const struct span *trusted;	     /* domains, borrowed */
	size_t trusted_count;
	int64_t handle_ttl_ms;
	bool grace; /* the predecessor did not stop cleanly and the key survives it */
	uint64_t (*random)(void *context);
	/* A subscription to our presence has begun or ended (for --state-dir); may be NULL. */
	void (*subscribed)(void *context, bool there, struct span user, struct span address);
	/* We answer a request ourselves, and its session may answer yet: a mark for it (marks.h),
	 * for a successor that takes answers on their token alone (for --state-dir). It must be
	 * kept before our answer is written. May be NULL. */
	void (*marked)(void *context, const char *mark);
	/* What the reply domain sends does not come back to it: its routes are not as needed. */
	void (*unrouted)(void *context);
	void *context;
};

struct jatproxy;

/* *config is copied; what it points to is borrowed until the end. */
struct jatproxy *jatproxy_new(const struct jatproxy_config *config);
void jatproxy_free(struct jatproxy *p);
/* Subscribers kept from an earlier run: audience_restore(). */
void jatproxy_restore_subscribers(struct jatproxy *p, struct span all, bool unsure);
size_t jatproxy_subscribers(const struct jatproxy *p);
void jatproxy_format_subscribers(const struct jatproxy *p, struct buf *out);
/* What predecessors have marked: marks_restore(). */
void jatproxy_restore_marks(struct jatproxy *p, struct span all);
/* The keys were re-read (SIGHUP); the old ones are no longer used. */
void jatproxy_rekey(struct jatproxy *p, struct jat_keys *keys);
/* Subscribe again where a target has said no (SIGHUP). */
void jatproxy_resubscribe(struct jatproxy *p, struct turn *turn);
/* self: a struct jatproxy. */
extern const struct service_ops jatproxy_ops;

#endif
