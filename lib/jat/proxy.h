/* jat/proxy.h - the decisions of xmpp-jat-proxy
 *
 * Pure: stanzas and the time come in, stanzas go out through a writer; random
 * numbers come from a function given at the start. Every row of the table in
 * xmpp-jat-proxy(8) is one branch of jatproxy_stanza(). Invariants: each IQ request taken is
 * in the table of open requests until it has got its one answer; a session is
 * known exactly from its available to its unavailable presence.
 */
#ifndef OUTBOARD_JAT_PROXY_H
#define OUTBOARD_JAT_PROXY_H

#include "jat/jat.h"
#include "server/service.h"
#include "base/table.h"
#include "xmpp/turn.h"

enum jatproxy_policy { POLICY_RANDOM, POLICY_ROUND_ROBIN, POLICY_LEAST_PENDING, POLICY_STICKY };

struct jatproxy_config {
	struct jat jat;		    /* encoding, normalised domain, keys: borrowed */
	const struct span *targets; /* normalised bare JIDs, borrowed */
	size_t targets_count;
	enum jatproxy_policy policy;
	bool messages, outbound_iq, show_presence;
	bool passthrough; /* filter: what is not addressed to the domain or below it is copied */
	bool drain_xa, drain_dnd, drain_away;
	int min_priority; /* sessions below are out of rotation; INT_MIN: none */
	int64_t timeout_ms, bounce_wait_ms;
	size_t max_pending, max_pending_bytes, max_sessions, max_handles, max_subscribers;
	int64_t handle_ttl_ms;
	bool grace; /* the predecessor did not stop cleanly and the key survives it */
	uint64_t (*random)(void *context);
	void *random_context;
	/* the set of subscribers changed (for --state-dir): all of them, one "USER TAB ADDRESS" a
	 * line; at most once a second; may be NULL */
	void (*subscribers_changed)(void *context, struct span all);
	void *subscribers_context;
	/* We have answered a request ourselves, and its session may answer yet: a mark for it, for
	 * a successor that takes answers on their token alone (for --state-dir). It must be kept
	 * before our answer is written. May be NULL. */
	void (*marked)(void *context, const char *mark);
	void *marked_context;
};

/* Characters of a mark. */
#define JATPROXY_MARK_CHARS 32

struct jatproxy;

/* *config is copied; what it points to is borrowed until the end. */
struct jatproxy *jatproxy_new(const struct jatproxy_config *config);
void jatproxy_free(struct jatproxy *p);
/* Subscribers kept from an earlier run, in the form of subscribers_changed. unsure: it did not stop
 * cleanly, so that they may still see a session; when none is there soon after the start they are
 * told. */
void jatproxy_restore_subscribers(struct jatproxy *p, struct span all, bool unsure);
/* What predecessors have marked, a mark a line: in the grace answers to that are too late. */
void jatproxy_restore_marks(struct jatproxy *p, struct span all);
/* The keys were re-read (SIGHUP); the old ones are no longer used. */
void jatproxy_rekey(struct jatproxy *p, struct jat_keys *keys);

/* Subscribe again where a target has said no (SIGHUP). */
void jatproxy_resubscribe(struct jatproxy *p, struct turn *turn);
/* self: a struct jatproxy. */
extern const struct service_ops jatproxy_ops;

#endif
