#include "server/transport.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "base/err.h"
#include "server/lastwords.h"
#include "server/service.h"

/* A socket takes this much at once, so the end of the stream is sent with it. */
#define GOODBYE_BYTES (64 * 1024)

struct transport {
	const struct transport_kind *kind;
	struct loop *loop;
	const struct service_config *config;
	struct transport_ops ops;
	void *context;
	struct link_counts counts;
	struct link *link;	     /* a filter's */
	struct component *component; /* a component's */
	struct lastwords lastwords;
	uint64_t unknown; /* pieces of a filter's input that are no stanza */
	char why[256];	  /* while waiting for the next connection */
};

struct transport_kind {
	bool (*open)(struct transport *t, const struct link_config *link, int *status);
	struct link *(*link)(const struct transport *t); /* NULL: detached */
	void (*describe)(const struct transport *t, struct buf *out);
	bool (*finish)(struct transport *t, int *status);
	int lost_status;
};

/* Component ---------------------------------------------------------------------- */

static void on_component_up(void *context)
{
	struct transport *t = context;

	*t->why = '\0';
	t->ops.up(t->context);
}

static void on_component_down(void *context)
{
	struct transport *t = context;

	t->ops.down(t->context);
}

static void on_component_stanza(void *context, const struct stanza *s)
{
	struct transport *t = context;

	if (s->refusal != STANZA_WHOLE)
		err_info("a stanza from '%.*s' is over a limit: its content was not read",
			SPAN_ARG(s->from));
	t->ops.stanza(t->context, s);
}

static bool on_component_late(void *context, const struct stanza *s)
{
	struct transport *t = context;

	return lastwords_note(&t->lastwords, s);
}

static void on_component_waiting(void *context, const char *why)
{
	struct transport *t = context;

	snprintf(t->why, sizeof(t->why), "%s", why);
	t->ops.waiting(t->context);
}

static int on_component_error(void *context, struct span condition)
{
	struct transport *t = context;

	return t->ops.stream_error(t->context, condition);
}

static void on_component_gave_up(void *context, int status)
{
	struct transport *t = context;

	t->ops.gave_up(t->context, status);
}

static bool stream_open(struct transport *t, const struct link_config *link, int *status)
{
	static const struct component_ops ops = {
		.up = on_component_up,
		.down = on_component_down,
		.stanza = on_component_stanza,
		.late = on_component_late,
		.stream_error = on_component_error,
		.gave_up = on_component_gave_up,
		.waiting = on_component_waiting,
	};
	const struct service_config *c = t->config;

	t->component = component_new(t->loop,
		&(struct component_config){
			.connect = c->connect,
			.domain = c->domain,
			.secret = c->secret,
			.retries = c->retries,
			.ping_interval_ms = c->ping_interval_ms,
			.ping_address = c->ping_address,
			.link = *link,
		},
		&ops, t, status);
	return t->component != NULL;
}

static struct link *stream_link(const struct transport *t)
{
	return component_link(t->component);
}

static void stream_describe(const struct transport *t, struct buf *out)
{
	if (transport_link(t))
		buf_printf(out, "connected to %s as %s", t->config->connect, t->config->domain);
	else
		buf_printf(out, "not connected to %s%s%s", t->config->connect, *t->why ? ": " : "",
			t->why);
}

static bool stream_finish(struct transport *t, int *status)
{
	struct link *link = transport_link(t);

	if (link && link_write_error(link))
		*status = EXIT_TEMPORARY;
	else if (link && link_queued_bytes(link) > GOODBYE_BYTES)
		return false;
	component_goodbye(t->component);
	return true;
}

static const struct transport_kind stream_kind = {
	.open = stream_open,
	.link = stream_link,
	.describe = stream_describe,
	.finish = stream_finish,
	.lost_status = EXIT_TEMPORARY,
};

/* Filter ------------------------------------------------------------------------- */

static void on_filter_stanza(void *context, const struct stanza *s)
{
	static const char *const refusals[] = {
		[STANZA_TOO_LARGE] = "stanza over --max-stanza-bytes",
		[STANZA_TOO_DEEP] = "stanza over --limit depth",
		[STANZA_TOO_MANY_ATTRIBUTES] = "stanza over --limit attributes",
	};
	struct transport *t = context;

	if (s->kind == STANZA_OTHER) {
		t->unknown++;
		err_error(
			"stdin:%zu: element '%.*s' is no stanza", s->line, SPAN_ARG(s->root->name));
		return;
	}
	if (s->refusal != STANZA_WHOLE)
		err_error("stdin:%zu: %s", s->line, refusals[s->refusal]);
	t->ops.stanza(t->context, s);
}

static void on_filter_bad(void *context, const char *what, size_t line)
{
	(void)context;
	err_error("stdin:%zu: %s", line, what);
}

static void on_filter_ended(void *context, enum link_end why, int error, const char *text)
{
	struct transport *t = context;

	(void)text;
	switch (why) {
	case LINK_EOF:
	case LINK_CLOSED:
	case LINK_BROKEN:
		t->ops.input_ended(t->context, EXIT_DONE);
		break;
	case LINK_READ_ERROR:
		err_error("cannot read standard input: %s", strerror(error));
		t->ops.input_ended(t->context, EXIT_IO);
		break;
	case LINK_WRITE_ERROR:
	case LINK_STALLED:
		err_error("cannot write standard output: %s", strerror(error));
		t->ops.output_failed(t->context, EXIT_IO);
		break;
	}
}

static bool filter_open(struct transport *t, const struct link_config *link, int *status)
{
	static const struct link_ops ops = {
		.stanza = on_filter_stanza, .bad = on_filter_bad, .ended = on_filter_ended};

	(void)status;
	t->link = link_new(t->loop, STDIN_FILENO, STDOUT_FILENO, link, &ops, t);
	return true;
}

static struct link *filter_link(const struct transport *t)
{
	return t->link;
}

static void filter_describe(const struct transport *t, struct buf *out)
{
	(void)t;
	buf_append_string(out, "filtering");
}

static bool filter_finish(struct transport *t, int *status)
{
	if (link_flush(t->link, 0))
		return true;
	if (!link_write_error(t->link))
		return false;
	err_error("cannot write standard output: %s", strerror(link_write_error(t->link)));
	*status = EXIT_IO;
	return true;
}

static const struct transport_kind filter_kind = {
	.open = filter_open,
	.link = filter_link,
	.describe = filter_describe,
	.finish = filter_finish,
	.lost_status = EXIT_IO,
};

/* Detached ----------------------------------------------------------------------- */

static bool detached_open(struct transport *t, const struct link_config *link, int *status)
{
	(void)t;
	(void)link;
	(void)status;
	return true;
}

static struct link *detached_link(const struct transport *t)
{
	(void)t;
	return NULL;
}

static void detached_describe(const struct transport *t, struct buf *out)
{
	(void)t;
	buf_append_string(out, "serving");
}

static bool detached_finish(struct transport *t, int *status)
{
	(void)t;
	(void)status;
	return true;
}

static const struct transport_kind detached_kind = {
	.open = detached_open,
	.link = detached_link,
	.describe = detached_describe,
	.finish = detached_finish,
};

/* All of them -------------------------------------------------------------------- */

static struct link_config link_limits(struct transport *t)
{
	const struct service_config *c = t->config;

	return (struct link_config){
		.reader = limits_of_reader(
			&c->limits, c->connect ? READER_SOCKET : READER_PIPE, c->index),
		.max_send_bytes = c->limits.send_bytes >= 0 ? (size_t)c->limits.send_bytes
				  : c->connect		    ? WRITER_MAX_SEND_BYTES
							    : 0,
		.max_queue_bytes = buf_bytes(c->limits.queue_bytes),
		.counts = &t->counts,
	};
}

struct transport *transport_new(struct loop *loop, const struct service_config *config,
	const struct transport_ops *ops, void *context, int *status)
{
	struct transport *t = xcalloc(1, sizeof(*t));
	struct link_config link;

	t->kind = config->detached ? &detached_kind : config->connect ? &stream_kind : &filter_kind;
	t->loop = loop;
	t->config = config;
	t->ops = *ops;
	t->context = context;
	lastwords_init(&t->lastwords);
	link = link_limits(t);
	if (t->kind->open(t, &link, status))
		return t;
	free(t);
	return NULL;
}

void transport_start(struct transport *t)
{
	if (!t->component)
		t->ops.up(t->context);
}

struct link *transport_link(const struct transport *t)
{
	return t->kind->link(t);
}

bool transport_is_up(const struct transport *t)
{
	return t->kind == &detached_kind || transport_link(t);
}

const struct link_counts *transport_counts(const struct transport *t)
{
	return &t->counts;
}

void transport_describe(
	const struct transport *t, bool stopping, size_t open_requests, struct buf *out)
{
	if (stopping)
		buf_append_string(out, "stopping");
	else
		t->kind->describe(t, out);
	buf_append_string(out, "; ");
	if (stopping || t->kind != &detached_kind)
		buf_printf(out, "%" PRIu64 " stanzas in, %" PRIu64 " out, ", t->counts.stanzas_in,
			t->counts.stanzas_out);
	buf_printf(out, "%zu requests open", open_requests);
}

size_t transport_metrics(const struct transport *t, struct metric *out, size_t max)
{
	static const char stanzas[] = "Stanzas read and written";
	static const char bytes[] = "Bytes of the stanza stream";
	static const char bad[] = "Input that was no stanza";
	const struct link_counts *n = &t->counts;
	const struct link *link = transport_link(t);
	uint64_t unknown = t->component ? component_unknown(t->component) : t->unknown;
	uint64_t connections = t->component ? component_connections(t->component) : 0;
	const struct metric own[] = {
		{"stanzas", "direction=\"in\"", stanzas, METRIC_COUNTER, n->stanzas_in},
		{"stanzas", "direction=\"out\"", stanzas, METRIC_COUNTER, n->stanzas_out},
		{"stream_bytes", "direction=\"in\"", bytes, METRIC_COUNTER, n->bytes_in},
		{"stream_bytes", "direction=\"out\"", bytes, METRIC_COUNTER, n->bytes_out},
		{"bad_input", "reason=\"malformed\"", bad, METRIC_COUNTER, n->bad},
		{"bad_input", "reason=\"unknown\"", bad, METRIC_COUNTER, unknown},
		{"refused", NULL, "Stanzas over a limit, read without their content",
			METRIC_COUNTER, n->refused},
		{"not_sent", NULL, "Stanzas not sent because they were too large", METRIC_COUNTER,
			n->too_large},
		{"connections", NULL, "Streams opened", METRIC_COUNTER, connections},
		{"reconnects", NULL, "Streams opened after the first", METRIC_COUNTER,
			connections ? connections - 1 : 0},
		{"up", NULL, "Whether the stream is up", METRIC_GAUGE, link != NULL},
		{"queued_bytes", NULL, "Output waiting to be written", METRIC_GAUGE,
			link ? link_queued_bytes(link) : 0},
	};

	/* a daemon without a stream has no metric about it, instead of one that says "down" */
	if (t->kind == &detached_kind)
		return 0;
	return metrics_add(out, 0, max, own, sizeof(own) / sizeof(own[0]));
}

void transport_reload(struct transport *t)
{
	if (t->component)
		component_reload(t->component);
}

void transport_draining(struct transport *t)
{
	if (t->component)
		component_leaving(t->component);
}

bool transport_finish(struct transport *t, int *status)
{
	return t->kind->finish(t, status);
}

int transport_lost_status(const struct transport *t)
{
	return t->kind->lost_status;
}

int transport_end_status(const struct transport *t, int status)
{
	bool bad = t->counts.bad + t->unknown + t->counts.refused > 0;

	return t->kind == &filter_kind && status == EXIT_DONE && bad ? EXIT_DATA : status;
}

void transport_close(struct transport *t)
{
	if (t->component)
		lastwords_say(&t->lastwords, t->loop, t->component);
	component_free(t->component);
	link_free(t->link);
	free(t);
}
