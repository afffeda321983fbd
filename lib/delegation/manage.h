/* delegation/manage.h - the decisions of xmpp-manage: being a managing entity (XEP-0355)
 *
 * Pure: stanzas of the server and of the handler, and the time, come in; stanzas for the server
 * go out through a writer, those for the handler through a function. Invariants:
 * each delegated request taken is in the table of open requests until it has got its one answer, an
 * inner result or error wrapped in an outer result; the id of an inner iq at the handler is ours,
 * never used twice; nothing the handler says reaches anybody but who asked.
 */
#ifndef OUTBOARD_DELEGATION_MANAGE_H
#define OUTBOARD_DELEGATION_MANAGE_H

#include "xmpp/disco.h"
#include "server/service.h"
#include "base/table.h"
#include "xmpp/turn.h"

struct manage_namespace {
	struct span ns;		      /* as listed; owned by who configures */
	struct disco_info host, bare; /* what is announced (nesting) */
};

/* What a handler is given for one request. */
struct manage_request {
	const struct stanza *inner;
	struct span host; /* who delegates */
	struct span ns;	  /* of the payload */
	struct span id;	  /* ours, for the persistent handler and for manage_reply() */
};

struct manage_config {
	struct span domain;
	const struct span *hosts;
	size_t hosts_count;
	const struct manage_namespace *namespaces;
	size_t namespaces_count;
	int64_t timeout_ms;
	size_t max_pending, max_pending_bytes;
	bool handler_requests;
	bool passthrough; /* filter: what is not addressed to the domain is copied */
	/* Hand a request to the handler. False: it cannot take any now. Replies come through
	 * manage_handler_stanza() or manage_reply(). */
	bool (*hand)(void *context, const struct manage_request *request, int64_t deadline_ms);
	/* A request is over before it was replied to (its id): a job can be killed; may be NULL */
	void (*over)(void *context, struct span id);
	/* A stanza for the persistent handler: the answer to its own request, to be given this
	 * id; SPAN_NONE: it has the right one. False: it is too large for the handler. */
	bool (*tell)(void *context, const struct stanza *s, struct span id);
	void *context;
	uint64_t (*random)(void *context);
	void *random_context;
};

struct manage;

/* *config is copied; what it points to is borrowed until the end. */
struct manage *manage_new(const struct manage_config *config);
void manage_free(struct manage *m);
/* A stanza the persistent handler wrote. */
void manage_handler_stanza(struct manage *m, const struct stanza *s, struct turn *turn);
/* The persistent handler wrote what is no iq, under this id (SPAN_NONE: none that is known); logged
 * by the caller. Who waits for that answer gets an error. */
void manage_handler_bad(struct manage *m, struct span id, struct turn *turn);
/* The per-request handler's whole output as one stanza, or NULL: it did not give one (logged). */
void manage_reply(struct manage *m, struct span id, const struct stanza *reply, struct turn *turn);
/* The persistent handler died: what it held is answered with an error. */
void manage_handler_died(struct manage *m, struct turn *turn);
/* self: a struct manage. */
extern const struct service_ops manage_ops;

#endif
