/* delegation/helper.h - the handler, which answers requests for a deciding module
 *
 * One of three: a child process that stays, a child process for each request (delegation/jobs.h),
 * or our own standard input and output. It reads and writes stanzas, or with --json objects, one
 * a line. Requests that it does not take yet wait in turns over domains and users
 * (xmpp/fairqueue.h).
 *
 * A deciding module gives its requests to helper_hand() and gets the answers through its
 * helper_ops: it knows no process and no descriptor. helper_attach() and helper_detach() are hooks
 * of the service (server/service.h).
 */
#ifndef OUTBOARD_DELEGATION_HELPER_H
#define OUTBOARD_DELEGATION_HELPER_H

#include "server/service.h"

/* A request for the handler. */
struct helper_request {
	const struct stanza *stanza;
	struct span id; /* ours, never used twice: names the request when its outcome is reported */
	struct span host, ns; /* the delegating host and the namespace (--per-request) */
	int64_t deadline_ms;
};

/* What a deciding module does with what comes from its handler; self is its state. */
struct helper_ops {
	/* A handler that stays wrote a stanza. turn->writer is NULL while the server is away. */
	void (*stanza)(void *self, const struct stanza *s, struct turn *turn);
	/* It wrote something that is no stanza, under this id (SPAN_NONE: unknown). Whether that
	 * is the id of an open request, which has failed so. */
	bool (*bad)(void *self, struct span id, struct turn *turn);
	/* The whole output of a job as one stanza, or NULL: there was none (logged). */
	void (*reply)(void *self, struct span id, const struct stanza *reply, struct turn *turn);
	/* The handler that stays has died: what it held is lost. */
	void (*died)(void *self, struct turn *turn);
	/* Whether the handler must not be read for now; may be NULL. */
	bool (*full)(const void *self);
};

struct helper_config {
	char *const *argv; /* NULL ended; NULL: our own standard input and output */
	bool per_request;
	size_t jobs; /* at once */
	bool json;
	bool messages;	    /* it may write messages, too */
	int64_t timeout_ms; /* a handler that stays and does not read for so long is ended */
	size_t max_pending, max_pending_bytes;
	const struct stream_limits *limits; /* borrowed */
	struct random_numbers *random;	    /* borrowed */
};

struct helper;

/* *config is copied. */
struct helper *helper_new(const struct helper_config *config);
/* Set the deciding module; call it before helper_attach(). */
void helper_serve(struct helper *helper, const struct helper_ops *ops, void *self);
void helper_free(struct helper *helper);

/* Hooks of the service. */
void helper_attach(void *helper, struct service *service, struct loop *loop);
void helper_detach(void *helper);

/* Take a request: true, and something comes of it before the deadline unless the module says
 * helper_over(). False: the handler is away, a bound is reached, or the request is too large. */
bool helper_hand(void *helper, const struct helper_request *request);
/* The request has ended otherwise: take it out of the queue, or kill its job. */
void helper_over(void *helper, struct span id);
/* A stanza for the handler that stays, under this id (SPAN_NONE: its own). False: it is too large
 * for it. */
bool helper_tell(void *helper, const struct stanza *s, struct span id);

#endif
