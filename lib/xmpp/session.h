/* xmpp/session.h - which clients of some accounts are online (RFC 6121 3, 4)
 *
 * A component learns the sessions (connected resources) of a few accounts, its
 * targets, by subscribing to their presence. Invariants: only `subscribe` is sent
 * until a target has answered `subscribed`, then a probe (Prosody deletes a
 * pending request when a probe comes first); a session is available exactly from
 * its available to its unavailable presence, and not while the link is down.
 *
 * A subscribe answered by an error is repeated after 1 s doubling to 5 min, an
 * unanswered one every 10 min, a refused one (unsubscribed) at the next
 * reconnect or session_resubscribe().
 *
 * Pure: stanzas and the time come in, stanzas go out through a writer.
 */
#ifndef OUTBOARD_XMPP_SESSION_H
#define OUTBOARD_XMPP_SESSION_H

#include <stdint.h>

#include "xmpp/turn.h"

enum session_show { SHOW_ONLINE, SHOW_CHAT, SHOW_AWAY, SHOW_XA, SHOW_DND };

struct session {
	struct span jid; /* full JID, owned, NUL terminated */
	uint64_t serial; /* never used twice in a process */
	size_t target;	 /* index */
	bool available;
	int priority;
	enum session_show show;
	void *owner;	/* whatever the user of the module keeps with it */
	unsigned holds; /* private */
};

struct session_config {
	struct span domain;	    /* ours: what subscribes; borrowed */
	const struct span *targets; /* normalised bare JIDs, borrowed */
	size_t targets_count;
	size_t max_sessions;
	/* A session has left (unavailable, error, unsubscribed, link down: then link_down is
	 * true and nothing is known of it). It stays valid as long as it is held. */
	void (*left)(void *context, struct session *s, bool link_down, struct turn *turn);
	/* A session has come; may be NULL. */
	void (*arrived)(void *context, struct session *s);
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

/* Index of the target whose account this JID (bare or full) belongs to, -1 if none. */
int session_target(const struct session_table *t, struct span jid);
/* Available sessions: count, and the i-th in the order they came. */
size_t session_count(const struct session_table *t);
struct session *session_at(const struct session_table *t, size_t i);
/* The available session with this full JID; NULL. */
struct session *session_find(const struct session_table *t, struct span jid);
/* The available session with this serial; NULL. */
struct session *session_by_serial(const struct session_table *t, uint64_t serial);
void session_hold(struct session *s);
void session_release(struct session_table *t, struct session *s);

#endif
