/* server/transport.h - the way a service's stanzas come and go
 *
 * Three instances: a component's stream (XEP-0114), a filter between standard input and output, and
 * none at all, for a daemon that serves something else (detached: it is up, without a writer).
 */
#ifndef OUTBOARD_SERVER_TRANSPORT_H
#define OUTBOARD_SERVER_TRANSPORT_H

#include "server/component.h"
#include "server/metrics.h"

struct service_config;

/* Callbacks to the service. */
struct transport_ops {
	void (*up)(void *context);
	void (*down)(void *context);
	/* iq, message, presence */
	void (*stanza)(void *context, const struct stanza *s);
	/* A filter's input is at its end; EXIT_IO: it cannot be read (logged). */
	void (*input_ended)(void *context, int status);
	/* A filter's output cannot be written (logged): end with this status. */
	void (*output_failed)(void *context, int status);
	/* There will be no stream any more: end with this status (logged). */
	void (*gave_up)(void *context, int status);
	/* As struct component_ops. */
	int (*stream_error)(void *context, struct span condition);
	void (*waiting)(void *context);
};

struct transport;

/* The instance that the configuration asks for; NULL after logging, with *status set. */
struct transport *transport_new(struct loop *loop, const struct service_config *config,
	const struct transport_ops *ops, void *context, int *status);
/* Calls up() at once where there is nothing to wait for. */
void transport_start(struct transport *t);
bool transport_is_up(const struct transport *t);
/* The link; NULL while it is down, and if there is none. */
struct link *transport_link(const struct transport *t);
const struct link_counts *transport_counts(const struct transport *t);
/* Append its state, for STATUS=. */
void transport_describe(
	const struct transport *t, bool stopping, size_t open_requests, struct buf *out);
size_t transport_metrics(const struct transport *t, struct metric *out, size_t max);
/* SIGHUP: secrets are read again. */
void transport_reload(struct transport *t);
/* A drain begins: tell the other side, where the protocol can. */
void transport_draining(struct transport *t);
/* Go on writing at the end. True when all has been written that must be, or when nothing more can
 * be: *status may have changed then. */
bool transport_finish(struct transport *t, int *status);
/* The exit status: that given, or the one for output that was not taken or for bad input. */
int transport_lost_status(const struct transport *t);
int transport_end_status(const struct transport *t, int status);
/* After the loop: end the stream and wait for the peer's end. Frees the transport. */
void transport_close(struct transport *t);

#endif
