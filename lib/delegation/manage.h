/* delegation/manage.h - the decisions of xmpp-manage: being a managing entity (XEP-0355)
 *
 * Pure: stanzas of the server and of the handler, and the time, come in; stanzas for the server
 * go out through a writer, those for the handler through functions. Invariants: each delegated
 * request taken is in the table of open requests (xmpp/requests.h) until its one answer, an inner
 * result or error wrapped in an outer result, stands in the output buffer; the id of an inner iq
 * at the handler is ours, never used twice; nothing the handler says reaches anybody but the
 * requester.
 */
#ifndef OUTBOARD_DELEGATION_MANAGE_H
#define OUTBOARD_DELEGATION_MANAGE_H

#include "base/random.h"
#include "delegation/helper.h"
#include "xmpp/disco.h"

struct manage_namespace {
	struct span ns;		      /* as listed; owned by the configuration */
	struct disco_info host, bare; /* what is announced (nesting) */
};

struct manage_config {
	struct span domain;
	const struct span *hosts;
	size_t hosts_count;
	const struct manage_namespace *namespaces;
	size_t namespaces_count;
	int64_t timeout_ms;
	struct shares_config pending; /* open requests; own and seed are filled in */
	bool handler_requests;
	bool messages;	     /* --handler-messages */
	bool users_messages; /* --handler-messages=users */
	bool stays;	     /* the handler: not one for each request */
	bool passthrough;    /* filter: what is not addressed to the domain is copied */
	/* The handler: see helper_hand(), helper_over(), helper_tell(). */
	bool (*hand)(void *helper, const struct helper_request *request);
	void (*over)(void *helper, struct span id);
	bool (*tell)(void *helper, const struct stanza *s, struct span id);
	void *helper;
	struct random_source random;
};

struct manage;

/* *config is copied; what it points to is borrowed until the end. */
struct manage *manage_new(const struct manage_config *config);
void manage_free(struct manage *m);
/* self: a struct manage. */
extern const struct service_ops manage_ops;
extern const struct helper_ops manage_helper_ops;

#endif
