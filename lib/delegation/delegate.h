/* delegation/delegate.h - the decisions of xmpp-delegate: being the delegating side (XEP-0355)
 *
 * Pure: stanzas and the time come in, stanzas go out through a writer, those for the
 * OTHERWISE handler through a function. Invariants: each request forwarded is in the
 * table of open requests until it has got its one answer; an answer is taken from exactly the
 * managing entity that was asked, under an id nobody can guess, once, and only if everything in it
 * is right; nothing an entity says reaches anybody but the requester.
 */
#ifndef OUTBOARD_DELEGATION_DELEGATE_H
#define OUTBOARD_DELEGATION_DELEGATE_H

#include "base/random.h"
#include "delegation/entities.h"
#include "delegation/helper.h"
#include "xmpp/disco.h"
#include "server/service.h"
#include "base/table.h"
#include "xmpp/turn.h"

struct delegate_config {
	struct span domain;
	int version; /* of what we send: 1 or 2 */
	const struct disco_info *own;
	int64_t timeout_ms;
	int64_t try_timeout_ms;	      /* a managing client that shows no life so long; 0: never */
	struct shares_config pending; /* open requests; own and seed are filled in */
	bool passthrough;	      /* filter: what is not delegated is copied */
	/* OTHERWISE: see helper_hand() and helper_over(). hand is NULL when there is none. */
	bool (*hand)(void *helper, const struct helper_request *request);
	void (*over)(void *helper, struct span id);
	void *helper;
	struct random_source random;
};

struct delegate;

/* What is wrong with the rules, NULL if nothing; *at is the rule. */
const char *delegate_rules_wrong(
	const struct delegate_rule *rules, size_t count, struct span domain, size_t *at);

/* *config is copied; what it points to is borrowed until the end. */
struct delegate *delegate_new(const struct delegate_config *config);
void delegate_free(struct delegate *d);
/* New rules (copied), also while the link is down. Entities are told; requests in flight finish.
 */
void delegate_rules(
	struct delegate *d, const struct delegate_rule *rules, size_t count, struct turn *turn);
/* self: a struct delegate. */
extern const struct service_ops delegate_ops;
extern const struct helper_ops delegate_helper_ops;

#endif
