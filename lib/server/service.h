/* server/service.h - what every stanza program is: a decision on a link
 *
 * service_run() puts a program's decisions on stdin/stdout (without `connect`:
 * a filter) or on a component stream (with it), and gives it a daemon's manners:
 * signals, readiness, watchdog, status, metrics, reconnect, drain.
 *
 *   SIGTERM, SIGINT  drain: no new requests are accepted (the program answers them itself: see
 *                    ops.drain), answers are awaited up to drain_ms, then ops.finish and exit 0.
 *                    While the stream is down the reconnect is awaited that long, if there are
 *                    requests to answer
 *   second SIGTERM   finish at once; the third also gives up what the reader of our output does
 *                    not take (EXIT_IO, a component EXIT_TEMPORARY)
 *   SIGHUP           hooks.reload, secrets re-read
 *   SIGUSR1          counters on stderr
 *
 * A filter ends at end of input: ops.finish (each request held is answered at
 * once), flush, exit 0, or EXIT_DATA if any input was bad: what cannot be parsed, what is no
 * stanza, what is over a limit, each reported as "stdin:LINE: what". A standard output that does
 * not take its bytes, or that nobody reads any more, ends it with EXIT_IO.
 */
#ifndef OUTBOARD_SERVER_SERVICE_H
#define OUTBOARD_SERVER_SERVICE_H

#include "base/deadline.h"
#include "server/component.h"
#include "server/limits.h"
#include "server/metrics.h"
#include "xmpp/turn.h"
#include "base/secret.h"

#define SERVICE_RETRIES_UNSET (-2)

struct service_config {
	const char *connect; /* NULL: filter */
	bool detached;	     /* neither: only a daemon's manners; every writer is NULL */
	const char *domain;  /* as typed; normalised by the program */
	const char *host; /* label of the metrics where it is not the domain; set by the program */
	struct secret secret;
	int64_t retries;
	int64_t drain_ms;
	int64_t ready_fd;
	const char *metrics_file;
	int64_t metrics_interval_ms;
	int64_t ping_interval_ms; /* see component.h */
	const char *ping_address; /* set by the program; NULL: the domain */
	struct stream_limits limits;
	enum reader_index index; /* set by the program, not an option */
};

/* Defaults for all fields. */
#define SERVICE_CONFIG_INIT                                                                        \
	{                                                                                          \
		.secret = {.fd = -1, .credential = "component-secret"},                            \
		.retries = SERVICE_RETRIES_UNSET, .drain_ms = 5000, .ping_interval_ms = 300000,    \
		.ready_fd = -1, .metrics_interval_ms = 15000,                                      \
		.limits = STREAM_LIMITS_INIT(LINK_MAX_QUEUE_BYTES)                                 \
	}

/* The options of a struct service_config. */
extern const struct opt service_options[];
/* Those of them that every daemon has: --drain-time --ready-fd --metrics --metrics-interval */
extern const struct opt daemon_options[];

struct service;

/* What a program decides: exported by the module that decides; self is its state. turn->writer
 * appends to the link, which is flushed at the end of the loop's turn.
 * None of these is called while the link is down, except down, deadline, open_requests,
 * handler_requests and metrics: deadlines that pass meanwhile are ticked when it is up again, and
 * so are those that pass while the link is congested. A drain that began while the link was down is
 * told after up. deadline and open_requests are asked at the end of each turn of the loop. Fields
 * may be NULL.
 *
 * What does not fit (WRITER_FULL) stays owed: stop writing, keep it, return a deadline that has
 * passed, and go on in the next tick, which comes as soon as the link is no longer congested.
 */
struct service_ops {
	/* fold to and from of stanzas (jid_fold()): the program compares them with addresses, and
	 * not every server normalises them */
	bool fold;
	/* the link is up: after each handshake; once at the start of a filter */
	void (*up)(void *self, struct turn *turn);
	void (*down)(void *self, struct turn *turn);
	/* Every stanza (kind iq, message, presence; refusal may be set). Others are dropped and
	 * counted. */
	void (*stanza)(void *self, const struct stanza *s, struct turn *turn);
	/* when deadline() has passed */
	void (*tick)(void *self, struct turn *turn);
	int64_t (*deadline)(const void *self); /* DEADLINE_NEVER: none */
	/* answer new requests yourself from now on */
	void (*drain)(void *self, struct turn *turn);
	/* Answer each open request now. What does not fit stays owed and goes on in tick; the
	 * program ends when deadline is in the future or nobody takes the output. */
	void (*finish)(void *self, struct turn *turn);
	/* open requests: drained when 0 */
	size_t (*open_requests)(const void *self);
	/* Those that a handler is going to answer. A filter whose input has ended waits for them,
	 * up to their deadlines, before finish. NULL: none. */
	size_t (*handler_requests)(const void *self);
	/* Fill up to max metrics, return how many. */
	size_t (*metrics)(const void *self, struct metric *out, size_t max);
	/* as component_ops.stream_error: 0, or the status to give up with */
	int (*stream_error)(void *self, struct span condition);
};

/* What a program keeps beside its decisions: keys, handlers, a state folder. Fields may be NULL. */
struct service_hooks {
	void *context;
	/* SIGHUP, also while the link is down; false: kept the old configuration (already logged)
	 */
	bool (*reload)(void *context, struct turn *turn);
	/* other inputs and outputs: called once, before the loop runs */
	void (*attach)(void *context, struct service *service, struct loop *loop);
	/* called once if attach was, after the loop has run and all output is written: remove
	 * everything from the loop */
	void (*detach)(void *context);
};

/* Runs to the end; returns the exit status. */
int service_run(const struct service_config *config, const struct service_ops *ops, void *self,
	const struct service_hooks *hooks);
/* For attached modules (handlers): the turn of the call under way. */
struct turn service_turn(const struct service *s);
/* Whether ops.finish is being called, or was. */
bool service_ending(const struct service *s);
/* Whether the link is down or its output congested: whatever produces output should wait. */
bool service_congested(const struct service *s);
/* Whether the link is down or takes nothing at the moment. The loop has another turn when it does.
 */
bool service_blocked(const struct service *s);
/* hold: leave the link unread (a handler's pipe is full), and also the next one after a reconnect;
 * else read it again. */
void service_hold(struct service *s, bool hold);
/* Stop with this status (after flush). */
void service_stop(struct service *s, int status);

#endif
