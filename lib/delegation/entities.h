/* delegation/entities.h - the managing entities: which namespaces each one has, and its current
 * address
 *
 * An entity is a component, one client, or an account: of an account the client that came first
 * manages, until it leaves or shows no life while another is well. Each entity is told what is
 * delegated to it (XEP-0355 4.2) and asked what it announces (nesting queries, 7.2), again and
 * again with growing pauses until it has answered all; what it announces is merged into the answers
 * to disco#info once, when it comes. Pure.
 *
 * Requests are not known here (delegation/delegate.h): their owner gives answers in, and learns of
 * clients that have left or show no life.
 */
#ifndef OUTBOARD_DELEGATION_ENTITIES_H
#define OUTBOARD_DELEGATION_ENTITIES_H

#include "base/backoff.h"
#include "base/random.h"
#include "xmpp/balance.h"
#include "xmpp/disco.h"
#include "xmpp/jid.h"

#define NOT_AN_ACCOUNT UINT32_MAX

/* A namespace that is delegated, as it is configured. */
struct delegate_rule {
	struct span ns;
	const struct span *attributes; /* all must be there (filtering) */
	size_t attributes_count;
	struct span entity; /* normalised JID */
};

/* One managing entity: a component, one client, or whichever client of an account is online. */
struct entity {
	struct span jid;	/* owned */
	uint32_t account;	/* number among the accounts, or NOT_AN_ACCOUNT */
	struct worker *manager; /* of an account: its client that manages, held; or NULL */
	/* the rest is private */
	bool client;	 /* not a component */
	bool told;	 /* it knows its namespaces and has answered all nesting queries */
	bool changed;	 /* its rules have changed since it was told */
	bool refused;	 /* it has answered with an error since it was told last */
	int64_t next_ms; /* when it is told (again) */
	struct backoff silence, refusals; /* pauses after no answer, and after errors */
	char *said; /* how it failed to answer nesting queries, as it was logged */
};

struct entities_config {
	struct span domain;
	int version; /* of what we send: 1 or 2 */
	const struct disco_info *own;
	int64_t timeout_ms;	/* of a nesting query */
	int64_t try_timeout_ms; /* a managing client that shows no life so long; 0: never */
	struct random_source random;
	uint64_t seed[2];
	/* The requests that this client has in hand may go to another client of its account. */
	void (*doubted)(void *context, struct worker *client, int64_t now_ms);
	/* This client has left, and the link is up. */
	void (*left)(void *context, struct worker *client, int64_t now_ms);
	void *context;
};

struct entities;

/* *config is copied; what it points to is borrowed until the end. */
struct entities *entities_new(const struct entities_config *config);
void entities_free(struct entities *t);
/* New rules (copied), also while the link is down. Pointers to entities are no longer valid, and
 * the numbers of accounts are new. */
void entities_rules(
	struct entities *t, const struct delegate_rule *rules, size_t count, struct turn *turn);
/* The clients of the accounts; owned here. */
struct balance *entities_clients(const struct entities *t);

/* The entity that manages what a request to `to`, our domain or an account of it, asks for; NULL.
 */
const struct entity *entities_find(
	const struct entities *t, const struct stanza *s, const struct jid *to);
/* The entity that this address belongs to: itself, or the account of a client; NULL. */
struct entity *entities_of(const struct entities *t, struct span jid);
/* The address for its stanzas now; absent while none of an account's clients is online. */
struct span entity_address(const struct entity *entity);
/* A client of this account that is in the tier and has not had r (NULL: any); NULL. */
struct request;
struct worker *entities_client(
	const struct entities *t, size_t account, enum balance_tier tier, const struct request *r);
/* What is answered to disco#info: our own, less what is delegated, and what entities announce. */
const struct disco_info *entities_disco(const struct entities *t, bool account);

/* The entity has bounced a stanza, was silent, or is new: tell it again soon. NULL is allowed. */
void entities_forget(struct entities *t, struct entity *entity, struct turn *turn);
/* The server has bounced a request of a client that has not left. */
void entities_doubt(struct entities *t, struct worker *client, struct turn *turn);
/* Whether s is the answer to a nesting query or to a ping. */
bool entities_answer(struct entities *t, const struct stanza *s, struct turn *turn);
/* Whether s, a presence to our domain, is of a client of an account. */
bool entities_presence(struct entities *t, const struct stanza *s, struct turn *turn);
/* Whether jid is an account that manages, or a client of it. */
bool entities_has_account(const struct entities *t, struct span jid);

void entities_up(struct entities *t, struct turn *turn);
void entities_down(struct entities *t, struct turn *turn);
/* Tell the entities that are due. Call it after each stanza, because a client that has just taken
 * over is told at once. */
void entities_tell(struct entities *t, struct turn *turn);
/* What is due: pings, queries that nobody has answered, entities to tell. */
void entities_tick(struct entities *t, struct turn *turn);
int64_t entities_deadline(const struct entities *t);

#endif
