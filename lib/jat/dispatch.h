/* jat/dispatch.h - the sessions of the targets, and which of them a request or message goes to
 *
 * Each available session of a target (xmpp/session.h) is a worker (xmpp/balance.h) with requests in
 * its hands (xmpp/requests.h). This module ties the three tables together: a session that comes
 * becomes a worker, one that leaves lets its requests go on to others, one that is to be drained
 * goes out of rotation.
 *
 * A session is chosen by, in this order: the conversation that a request belongs to, the
 * capabilities that are shown and asked for, the policy. A request goes to no session that has one
 * with the same token and id in hand, as long as there is another: answers are matched by these.
 * A session that asks is served by itself only if it is alone.
 *
 * It knows no tokens: `user` is the real address of whoever asks. Pure.
 */
#ifndef OUTBOARD_JAT_DISPATCH_H
#define OUTBOARD_JAT_DISPATCH_H

#include "xmpp/requests.h"
#include "xmpp/session.h"

/* What the administrator says. */
struct dispatch_options {
	const struct span *targets; /* normalised JIDs, bare or full, borrowed */
	size_t targets_count;
	enum balance_policy policy;
	enum session_keep shown; /* of the best session's presence; KEEP_NOTHING: it is not shown */
	bool drain_xa, drain_dnd, drain_away;
	int min_priority; /* sessions below are out of rotation; INT_MIN: none */
	int64_t try_timeout_ms;
	size_t max_sessions;
};

struct dispatch_config {
	struct dispatch_options options;
	struct span domain;	     /* what subscribes and pings; borrowed */
	int64_t confirm_ms;	     /* see struct session_config */
	size_t max_steps, max_bytes; /* of the conversations that are remembered */
	uint64_t seed[2];
	struct random_source random;
	/* Another session is the best one, or its presence has changed; NULL: none is there. Only
	 * called while there is a writer, if the best session is shown. */
	void (*best)(void *context, const struct session *best, struct turn *turn);
	void *context;
};

struct dispatch {
	struct session_table *sessions;
	struct balance *balance; /* a worker is a session; its owner the struct session */
	struct requests *requests;
	/* the rest is private */
	struct dispatch_config config;
	struct steps *steps;
	const struct session *best;
};

/* *config is copied. requests: its owner's part of struct requests_config, with shares; the
 * workers' part (balance, chooser, choose, doubted) is filled in. */
void dispatch_init(struct dispatch *d, const struct dispatch_config *config,
	const struct requests_config *requests);
/* The shares must live until then, because open requests have taken from them. */
void dispatch_free(struct dispatch *d);

/* Whether an address is a target, or a session of one. */
bool dispatch_is_target(const struct dispatch *d, struct span jid);
/* Whether a session is there. */
bool dispatch_has_session(const struct dispatch *d);

/* A session for user by policy; NULL: none is there. same: requests that the session should not
 * have in hand; NULL: none. */
struct worker *dispatch_choose(
	struct dispatch *d, struct span user, const struct request *same, int64_t now_ms);
/* The session for a new request; there must be one. same: open requests with its token and id.
 * *pinned: it belongs to a conversation, which is its session's from then on. */
struct worker *dispatch_request(struct dispatch *d, const struct stanza *s,
	const struct request *same, bool *pinned, int64_t now_ms);
/* s, which came from a session, shows that it lives, unless its server has bounced s. */
void dispatch_note_life(struct dispatch *d, const struct stanza *s, int64_t now_ms);

void dispatch_tick(struct dispatch *d, struct turn *turn);
int64_t dispatch_deadline(const struct dispatch *d);

#endif
