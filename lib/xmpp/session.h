/* xmpp/session.h - which clients of some accounts are online (RFC 6121 3, 4)
 *
 * A component learns the sessions (connected resources) of a few accounts, its
 * targets, by subscribing to their presence. A target is an account (all its
 * sessions) or a full JID (that session and no other of the account). Invariants: only `subscribe`
 * is sent until a target has answered `subscribed`, then a probe (Prosody deletes a pending request
 * when a probe comes first); a session is available exactly from its available to its unavailable
 * presence, and not while the link is down.
 *
 * A subscribe answered by an error is repeated after 1 s doubling to 5 min, an
 * unanswered one every 10 min. An `unsubscribed` within 10 s of a subscribe is a
 * refusal: it is repeated at the next reconnect or session_resubscribe(). A
 * subscription that ended later is asked for again after 1 min doubling to 1 h, at
 * most 8 times. A target that has no session for 10 s is named in the log.
 *
 * Pure: stanzas and the time come in, stanzas go out through a writer.
 */
#ifndef OUTBOARD_XMPP_SESSION_H
#define OUTBOARD_XMPP_SESSION_H

#include <stdint.h>

#include "xmpp/turn.h"

enum session_show { SHOW_ONLINE, SHOW_CHAT, SHOW_AWAY, SHOW_XA, SHOW_DND };

/* What is kept of a session's presence, to be shown to others. */
enum session_keep {
	KEEP_NOTHING,
	KEEP_CAPS,   /* show and entity capabilities (XEP-0115) */
	KEEP_STATUS, /* and status */
};

struct session {
	struct span jid; /* full JID, owned, NUL terminated */
	size_t target;	 /* index */
	char *details;	 /* what is kept of its presence, as XML; NULL: nothing */
	char *caps;	 /* its node#ver; NULL: none is kept */
	int priority;
	enum session_show show;
	void *owner; /* whatever the user of the module keeps with it */
	/* private */
	bool known;	  /* its presence has been looked at */
	bool probed;	  /* its next presence answers our probe */
	bool unconfirmed; /* if that does not come it has left */
};

struct session_config {
	struct span domain;	    /* ours: what subscribes; borrowed */
	const struct span *targets; /* normalised JIDs, bare or full, borrowed */
	size_t targets_count;
	size_t max_sessions;
	enum session_keep keep;
	int64_t confirm_ms; /* how long session_doubt() waits for a session to be shown again */
	/* A session has left (unavailable, error, unsubscribed, link down: then link_down is
	 * true and nothing is known of it). It is freed after the call. */
	void (*left)(void *context, struct session *s, bool link_down, struct turn *turn);
	/* Its presence has come, and no probe of ours asked for it: it lives; may be NULL. */
	void (*alive)(void *context, struct session *s, struct turn *turn);
	/* A session has come; may be NULL. */
	void (*arrived)(void *context, struct session *s, struct turn *turn);
	/* The set of available sessions, or a show or priority, has changed. */
	void (*changed)(void *context, struct turn *turn);
	void *context;
};

struct session_table;

/* *config is copied; what it points to is borrowed until the end. */
struct session_table *session_table_new(const struct session_config *config);
void session_table_free(struct session_table *t);

void session_up(struct session_table *t, struct turn *turn);
void session_down(struct session_table *t, struct turn *turn);
/* A presence to the domain. False if it is not from a target, or nothing that the table wants. */
bool session_presence(struct session_table *t, const struct stanza *s, struct turn *turn);
void session_tick(struct session_table *t, struct turn *turn);
int64_t session_deadline(const struct session_table *t);
void session_resubscribe(struct session_table *t, struct turn *turn);

/* A session is doubtful: its account is probed, and what that does not bring again within
 * confirm_ms has left. */
void session_doubt(struct session_table *t, const struct session *s, struct turn *turn);

/* Index of the target that this full JID is a session of, or whose account this bare JID is; -1 if
 * none. */
int session_target(const struct session_table *t, struct span jid);
/* Available sessions: count, and the i-th in the order they came. */
size_t session_count(const struct session_table *t);
struct session *session_at(const struct session_table *t, size_t i);

#endif
