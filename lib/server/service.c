/* service.c - see service.h */
#include "server/service.h"

#include <errno.h>
#include <inttypes.h>
#include <malloc.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "base/deadline.h"
#include "base/err.h"
#include "xmpp/jid.h"
#include "server/notify.h"
#include "xmpp/stanza-error.h"
#include "base/io.h"

/* The most free memory kept at the end of the heap. */
#define HEAP_KEPT_BYTES (4 * 1024 * 1024)
#define METRICS_MAX 1024
#define METRICS_LINE_BYTES (16 * 1024)
/* How often a supervisor hears how we are, if it changes. */
#define STATUS_INTERVAL_MS 5000
/* The last words may take this long after a SIGTERM, and the end of the stream too; longer as long
 * as something of them is taken. */
#define LAST_WORDS_MS 5000
#define LAST_WORDS_MAX_MS 60000
/* What the socket takes at once: the end of the stream goes with it. */
#define GOODBYE_BYTES (64 * 1024)
/* Requests can come after the end of each stream: this often we come back for them. */
#define LATE_STREAMS 20
#define LATE_MAX_BYTES (1024 * 1024)

enum phase {
	PHASE_SERVING,
	PHASE_DRAINING, /* waiting for open requests */
	PHASE_ENDING,	/* all is said, the output is to be written */
	PHASE_LATE,	/* on another stream, only for answers to what came after the end of ours */
};

struct service {
	const struct service_config *config;
	struct service_ops ops;
	struct service_hooks hooks;
	void *self;
	struct loop *loop;
	struct notify *notify;
	struct link *link; /* a filter's */
	struct component *component;
	struct link_counts counts;
	uint64_t unknown; /* a filter's input that is no stanza */

	enum phase phase;
	int status;
	bool drain_told, input_ended, ready, stopping;
	bool impatient;		   /* several signals: what is not taken is given up */
	int64_t last_words_max_ms; /* by when they must have been taken */
	bool held;		   /* the link is paused, and so will the next one be */
	char why[256];		   /* while waiting for the next connection */
	int64_t tick_ms;	   /* what the timer is set to */
	struct loop_timer tick, drain, end, metrics, watchdog, status_line;
	/* stanzas and open requests when the last status was sent */
	uint64_t told;
	size_t told_open;
	struct buf late; /* answers to what came after the end of the stream */
	struct buf folded_to, folded_from;
	size_t late_count;
	struct err_limit metrics_failed;
};

/* The link while it is up. */
static struct link *service_link(const struct service *s)
{
	return s->component ? component_link(s->component) : s->link;
}

static bool service_up(const struct service *s)
{
	return s->config->detached || service_link(s) != NULL;
}

static int64_t service_now_ms(const struct service *s)
{
	return loop_now_ms(s->loop);
}

static size_t open_requests(const struct service *s)
{
	return s->ops.open_requests ? s->ops.open_requests(s->self) : 0;
}

struct turn service_turn(const struct service *s)
{
	struct link *link = service_link(s);

	return (struct turn){
		.writer = link ? link_writer(link) : NULL, .now_ms = service_now_ms(s)};
}

bool service_ending(const struct service *s)
{
	return s->phase >= PHASE_ENDING;
}

/* Telling others ----------------------------------------------------------------- */

static void service_status(struct service *s)
{
	const struct link_counts *n = &s->counts;
	char counts[128];

	snprintf(counts, sizeof(counts),
		"%" PRIu64 " stanzas in, %" PRIu64 " out, %zu requests open", n->stanzas_in,
		n->stanzas_out, open_requests(s));
	if (s->phase != PHASE_SERVING)
		notify_status(s->notify, "stopping; %s", counts);
	else if (s->config->detached)
		notify_status(s->notify, "serving; %zu requests open", open_requests(s));
	else if (!s->component)
		notify_status(s->notify, "filtering; %s", counts);
	else if (service_up(s))
		notify_status(s->notify, "connected to %s as %s; %s", s->config->connect,
			s->config->domain, counts);
	else
		notify_status(s->notify, "not connected to %s%s%s; %s", s->config->connect,
			*s->why ? ": " : "", s->why, counts);
	s->told = n->stanzas_in + n->stanzas_out;
	s->told_open = open_requests(s);
}

static void on_status_line(void *context, int64_t now_ms)
{
	struct service *s = context;

	if (s->told != s->counts.stanzas_in + s->counts.stanzas_out ||
		s->told_open != open_requests(s))
		service_status(s);
	loop_timer_set(s->loop, &s->status_line, now_ms + STATUS_INTERVAL_MS);
}

static void on_watchdog(void *context, int64_t now_ms)
{
	struct service *s = context;

	notify_watchdog(s->notify);
	loop_timer_set(s->loop, &s->watchdog, now_ms + notify_watchdog_ms(s->notify));
}

static size_t service_metrics(const struct service *s, struct metric *out)
{
	const struct link_counts *n = &s->counts;
	const struct link *link = service_link(s);
	uint64_t unknown = s->component ? component_unknown(s->component) : s->unknown;
	uint64_t connections = s->component ? component_connections(s->component) : 0;
	const struct metric own[] = {
		{"open_requests", NULL, "Requests that wait for an answer", METRIC_GAUGE,
			open_requests(s)},
		{"stanzas", "direction=\"in\"", "Stanzas read and written", METRIC_COUNTER,
			n->stanzas_in},
		{"stanzas", "direction=\"out\"", "Stanzas read and written", METRIC_COUNTER,
			n->stanzas_out},
		{"stream_bytes", "direction=\"in\"", "Bytes of the stanza stream", METRIC_COUNTER,
			n->bytes_in},
		{"stream_bytes", "direction=\"out\"", "Bytes of the stanza stream", METRIC_COUNTER,
			n->bytes_out},
		{"bad_input", "reason=\"malformed\"", "Input that was no stanza", METRIC_COUNTER,
			n->bad},
		{"bad_input", "reason=\"unknown\"", "Input that was no stanza", METRIC_COUNTER,
			unknown},
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
	/* who has no stream tells nothing of it: it is not down */
	size_t count = s->config->detached ? 1 : sizeof(own) / sizeof(own[0]);

	memcpy(out, own, count * sizeof(own[0]));
	if (s->ops.metrics)
		count += s->ops.metrics(s->self, out + count, METRICS_MAX - count);
	return count;
}

static void write_metrics(struct service *s)
{
	const struct service_config *c = s->config;
	struct metric metrics[METRICS_MAX];
	int error;

	if (!c->metrics_file)
		return;
	error = metrics_write(c->metrics_file, metrics, service_metrics(s, metrics),
		&(struct metrics_source){.program = err_program(),
			.label = c->host ? "host" : "domain",
			.value = c->host ? c->host : c->domain});
	if (error)
		err_log_limited(&s->metrics_failed, service_now_ms(s), ERR_ERROR,
			"cannot write metrics to '%s': %s", c->metrics_file,
			error == -ENXIO ? "it is no regular file" : strerror(-error));
}

static void on_metrics(void *context, int64_t now_ms)
{
	struct service *s = context;

	write_metrics(s);
	loop_timer_set(s->loop, &s->metrics, now_ms + s->config->metrics_interval_ms);
}

static void log_counters(const struct service *s)
{
	struct metric metrics[METRICS_MAX];
	struct buf line;

	buf_init(&line, METRICS_LINE_BYTES);
	metrics_line(metrics, service_metrics(s, metrics), &line);
	/* Somebody asked: also with -q. */
	err_log(err_shows(ERR_NOTICE) ? ERR_NOTICE : ERR_ERROR, "%s", buf_string(&line));
	buf_free(&line);
}

/* Ending ------------------------------------------------------------------------- */

static void end_soon(struct service *s)
{
	loop_timer_set(s->loop, &s->end, 0);
}

static void service_finish(struct service *s, int status)
{
	struct link *link = service_link(s);

	if (s->phase >= PHASE_ENDING)
		return;
	s->phase = PHASE_ENDING;
	s->status = status;
	notify_stopping(s->notify);
	loop_timer_clear(s->loop, &s->tick);
	loop_timer_clear(s->loop, &s->drain);
	loop_timer_clear(s->loop, &s->end);
	/* Who filters a file may read the end of the output when he likes. */
	if (!s->input_ended)
		loop_timer_set(s->loop, &s->end, service_now_ms(s) + LAST_WORDS_MS);
	s->last_words_max_ms = service_now_ms(s) + LAST_WORDS_MAX_MS;
	if (service_up(s)) {
		struct turn turn = service_turn(s);

		if (link)
			link_lift_bound(link);
		/* What comes in from here on is not waited for either. */
		if (!s->drain_told && s->ops.drain)
			s->ops.drain(s->self, &turn);
		s->drain_told = true;
		if (s->ops.finish)
			s->ops.finish(s->self, &turn);
	} else if (s->ops.finish && open_requests(s) > 0) {
		err_warn("open requests left without an answer, as there is no stream: %zu",
			open_requests(s));
	}
	service_status(s);
}

/* Whether there are answers that were to be written by now. */
static bool service_owes(const struct service *s)
{
	return s->ops.tick && s->ops.deadline && s->ops.deadline(s->self) <= service_now_ms(s);
}

/* All that waits for its turn to end: finish, or stop if all is written. */
static void on_end(void *context, int64_t now_ms)
{
	struct service *s = context;
	struct link *link = service_link(s);
	int64_t until_ms;

	if (s->phase == PHASE_LATE) {
		loop_stop(s->loop, s->status);
		return;
	}
	if (s->phase != PHASE_ENDING) {
		service_finish(s, s->status);
		return;
	}
	/* The time for the last words is over, if none of them is being taken. */
	until_ms = link ? sink_written_ms(link_sink(link)) + LAST_WORDS_MS : 0;
	if (until_ms > now_ms && now_ms < s->last_words_max_ms && !s->impatient) {
		loop_timer_set(s->loop, &s->end, until_ms);
		return;
	}
	if (service_owes(s))
		err_error("open requests left without an answer: %zu", open_requests(s));
	if (link && link_queued_bytes(link) > 0) {
		err_error("%zu bytes of output were not taken", link_queued_bytes(link));
		s->status = s->component ? EXIT_TEMPORARY : EXIT_IO;
	}
	loop_stop(s->loop, s->status);
}

static void stdout_failed(struct service *s, int error)
{
	err_error("cannot write standard output: %s", strerror(error));
	loop_stop(s->loop, EXIT_IO);
}

static void on_drain(void *context, int64_t now_ms)
{
	struct service *s = context;

	(void)now_ms;
	service_finish(s, EXIT_DONE);
}

static void on_terminate(void *context, int signal_number)
{
	struct service *s = context;
	int64_t now_ms = service_now_ms(s);

	(void)signal_number;
	switch (s->phase) {
	case PHASE_SERVING:
		s->phase = PHASE_DRAINING;
		notify_stopping(s->notify);
		err_info("stopping: %zu requests open", open_requests(s));
		if (service_up(s)) {
			struct turn turn = service_turn(s);

			if (s->ops.drain)
				s->ops.drain(s->self, &turn);
			s->drain_told = true;
		}
		loop_timer_set(s->loop, &s->drain, now_ms + s->config->drain_ms);
		service_status(s);
		break;
	case PHASE_DRAINING:
		service_finish(s, EXIT_DONE);
		break;
	case PHASE_ENDING:
		/* A first signal gives the slow reader some time yet. */
		s->impatient = s->end.deadline_ms != DEADLINE_NEVER;
		loop_timer_set(s->loop, &s->end, s->impatient ? 0 : now_ms + LAST_WORDS_MS);
		break;
	case PHASE_LATE:
		loop_stop(s->loop, s->status);
		break;
	}
}

void service_stop(struct service *s, int status)
{
	if (s->phase >= PHASE_ENDING)
		return;
	/* Not here: we may have been called from an op. */
	s->status = status;
	s->stopping = true;
	end_soon(s);
}

/* Deadlines ---------------------------------------------------------------------- */

static void on_tick(void *context, int64_t now_ms)
{
	struct service *s = context;
	struct turn turn = service_turn(s);

	(void)now_ms;
	s->tick_ms = DEADLINE_NEVER;
	if (service_up(s) && s->ops.tick)
		s->ops.tick(s->self, &turn);
}

/* All is said, or is said as soon as there is room. */
static void ending_turn(struct service *s)
{
	struct link *link = service_link(s);

	if (service_up(s) && service_owes(s)) {
		if (!service_congested(s))
			loop_timer_set(s->loop, &s->tick, 0);
		return;
	}
	if (s->component && link && link_queued_bytes(link) <= GOODBYE_BYTES) {
		component_goodbye(s->component);
		loop_stop(s->loop, s->status);
	} else if (!link || link_flush(link, 0)) {
		loop_stop(s->loop, s->status);
	} else if (link_write_error(link) && s->component) {
		loop_stop(s->loop, EXIT_TEMPORARY);
	} else if (link_write_error(link)) {
		stdout_failed(s, link_write_error(link));
	}
}

/* At the end of each turn: only timers are set here, for what is said in them is to be written at
 * the end of a turn as well. */
static void on_turn(void *context)
{
	struct service *s = context;
	struct link *link = service_link(s);
	int64_t deadline_ms = DEADLINE_NEVER;

	if (loop_stopped(s->loop) || s->phase == PHASE_LATE)
		return;
	if (s->phase == PHASE_ENDING) {
		ending_turn(s);
		return;
	}
	if (s->stopping)
		return;
	if (s->ops.deadline && !service_congested(s))
		deadline_ms = s->ops.deadline(s->self);
	if (deadline_ms != s->tick_ms) {
		loop_timer_set(s->loop, &s->tick, deadline_ms);
		s->tick_ms = deadline_ms;
	}
	if (s->input_ended && (!s->ops.handler_requests || !s->ops.handler_requests(s->self)))
		end_soon(s);
	else if (s->phase == PHASE_DRAINING && (s->drain_told || !link) && !open_requests(s))
		end_soon(s);
}

/* Link --------------------------------------------------------------------------- */

bool service_congested(const struct service *s)
{
	const struct link *link = service_link(s);

	return !service_up(s) || (link && link_congested(link));
}

void service_hold(struct service *s, bool hold)
{
	if (service_link(s))
		link_hold(service_link(s), &s->held, hold);
	s->held = hold;
}

static void on_up(void *context)
{
	struct service *s = context;
	struct turn turn = service_turn(s);

	if (s->phase == PHASE_LATE) {
		link_send_raw(service_link(s), buf_span(&s->late));
		buf_reset(&s->late);
		s->late_count = 0;
		component_goodbye(s->component);
		loop_stop(s->loop, s->status);
		return;
	}
	if (service_link(s) && s->held)
		link_pause(service_link(s));
	if (s->ops.up)
		s->ops.up(s->self, &turn);
	if (s->phase == PHASE_DRAINING && !s->drain_told) {
		if (s->ops.drain)
			s->ops.drain(s->self, &turn);
		s->drain_told = true;
	}
	*s->why = '\0';
	s->ready = true;
	if (s->phase == PHASE_SERVING)
		notify_ready(s->notify);
	service_status(s);
}

static void on_down(void *context)
{
	struct service *s = context;
	struct turn turn = {.now_ms = service_now_ms(s)};

	if (s->phase == PHASE_ENDING && s->status == EXIT_DONE)
		s->status = EXIT_TEMPORARY; /* in the middle of the last words */
	if (s->ops.down)
		s->ops.down(s->self, &turn);
}

static void on_waiting(void *context, const char *why, int64_t delay_ms)
{
	struct service *s = context;

	(void)delay_ms;
	snprintf(s->why, sizeof(s->why), "%s", why);
	service_status(s);
}

static void on_gave_up(void *context, int status)
{
	struct service *s = context;

	if (s->phase == PHASE_SERVING) {
		service_finish(s, status);
	} else if (s->phase == PHASE_LATE) {
		loop_stop(s->loop, s->status);
	} else {
		service_finish(s, EXIT_DONE);
		if (s->status == EXIT_DONE && open_requests(s) > 0)
			s->status = EXIT_TEMPORARY;
	}
}

static void hand_over(struct service *s, const struct stanza *stanza)
{
	struct turn turn = service_turn(s);
	struct stanza folded = *stanza;

	buf_reset(&s->folded_to);
	buf_reset(&s->folded_from);
	if (s->ops.fold && jid_fold(stanza->to, &s->folded_to))
		folded.to = buf_span(&s->folded_to);
	if (s->ops.fold && jid_fold(stanza->from, &s->folded_from))
		folded.from = buf_span(&s->folded_from);
	s->ops.stanza(s->self, &folded, &turn);
}

static void on_component_stanza(void *context, const struct stanza *stanza)
{
	struct service *s = context;

	if (stanza->refusal != STANZA_WHOLE)
		err_info("a stanza from '%.*s' is over a limit: its content was not read",
			SPAN_ARG(stanza->from));
	hand_over(s, stanza);
}

static void on_filter_stanza(void *context, const struct stanza *stanza)
{
	static const char *const refusals[] = {
		[STANZA_TOO_LARGE] = "stanza over --max-stanza-bytes",
		[STANZA_TOO_DEEP] = "stanza over --limit depth",
		[STANZA_TOO_MANY_ATTRIBUTES] = "stanza over --limit attributes",
	};
	struct service *s = context;

	if (stanza->kind == STANZA_OTHER) {
		s->unknown++;
		err_error("stdin:%zu: element '%.*s' is no stanza", stanza->line,
			SPAN_ARG(stanza->root->name));
		return;
	}
	if (stanza->refusal != STANZA_WHOLE)
		err_error("stdin:%zu: %s", stanza->line, refusals[stanza->refusal]);
	hand_over(s, stanza);
}

static void on_filter_bad(void *context, const char *what, size_t line)
{
	(void)context;
	err_error("stdin:%zu: %s", line, what);
}

static void on_filter_ended(void *context, enum link_end why, int error, const char *text)
{
	struct service *s = context;

	(void)text;
	switch (why) {
	case LINK_EOF:
	case LINK_CLOSED:
	case LINK_BROKEN:
		s->input_ended = true;
		break;
	case LINK_READ_ERROR:
		err_error("cannot read standard input: %s", strerror(error));
		service_finish(s, EXIT_IO);
		break;
	case LINK_WRITE_ERROR:
	case LINK_STALLED:
		stdout_failed(s, error);
		break;
	}
}

static void ignore_stanza(void *self, const struct stanza *stanza, struct turn *turn)
{
	(void)self;
	(void)stanza;
	(void)turn;
}

static int on_stream_error(void *context, struct span condition)
{
	struct service *s = context;

	return s->ops.stream_error ? s->ops.stream_error(s->self, condition) : 0;
}

/* What reached us is answered, if our stream has ended or not. */
static bool on_late(void *context, const struct stanza *stanza)
{
	struct service *s = context;
	struct writer w;

	if (!stanza_is_request(stanza) || !stanza->from.p)
		return false;
	writer_init(&w, &s->late, WRITER_SOCKET, 0);
	if (stanza_error_reply(&w, stanza, ERROR_RECIPIENT_UNAVAILABLE, NULL) != WRITER_OK)
		return false;
	s->late_count++;
	return true;
}

static const struct component_ops component_ops = {
	.late = on_late,
	.stream_error = on_stream_error,
	.up = on_up,
	.down = on_down,
	.stanza = on_component_stanza,
	.gave_up = on_gave_up,
	.waiting = on_waiting,
};

static const struct link_ops filter_ops = {
	.stanza = on_filter_stanza,
	.bad = on_filter_bad,
	.ended = on_filter_ended,
};

/* False after logging: s->status says how. */
static bool service_open(struct service *s)
{
	const struct service_config *c = s->config;
	struct link_config link = {
		.reader =
			{
				.kind = c->connect ? READER_SOCKET : READER_PIPE,
				.max_stanza_bytes = (size_t)c->max_stanza_bytes,
				.max_depth = (unsigned)c->max_depth,
				.max_attributes = (unsigned)c->max_attributes,
				.index = c->index,
			},
		.max_send_bytes = c->max_send_bytes >= 0 ? (size_t)c->max_send_bytes
				  : c->connect		 ? WRITER_MAX_SEND_BYTES
							 : 0,
		.max_queue_bytes = buf_bytes(c->max_queue_bytes),
		.counts = &s->counts,
	};

	if (c->detached)
		return true;
	if (!c->connect) {
		s->link = link_new(s->loop, STDIN_FILENO, STDOUT_FILENO, &link, &filter_ops, s);
		return true;
	}
	s->component = component_new(s->loop,
		&(struct component_config){
			.connect = c->connect,
			.domain = c->domain,
			.secret = c->secret,
			.retries = c->retries,
			.ping_interval_ms = c->ping_interval_ms,
			.ping_address = c->ping_address,
			.link = link,
		},
		&component_ops, s, &s->status);
	return s->component != NULL;
}

/* Signals ------------------------------------------------------------------------ */

static void on_hangup(void *context, int signal_number)
{
	struct service *s = context;
	struct turn turn = service_turn(s);

	(void)signal_number;
	if (s->phase != PHASE_SERVING)
		return;
	if (s->ready)
		notify_reloading(s->notify);
	if (s->component)
		component_reload(s->component);
	if (s->hooks.reload)
		s->hooks.reload(s->hooks.context, &turn);
	if (s->ready)
		notify_ready(s->notify);
	service_status(s);
}

static void on_counters(void *context, int signal_number)
{
	(void)signal_number;
	log_counters(context);
}

/* Run ---------------------------------------------------------------------------- */

/* Until the server has read our end tag it sends us requests. They are answered on another stream,
 * which is opened for nothing else; in the end there is one after which nothing came. */
static void component_end(struct service *s)
{
	int64_t deadline_ms = io_now_ms() + LAST_WORDS_MS;
	int status = component_close(s->component, deadline_ms);

	s->phase = PHASE_LATE;
	loop_timer_clear(s->loop, &s->metrics); /* the last ones are written */
	loop_timer_set(s->loop, &s->end, deadline_ms);
	for (int streams = 0; s->late_count && status == EXIT_DONE && streams < LATE_STREAMS &&
			      io_now_ms() < deadline_ms;
		streams++) {
		err_debug("%zu requests came after the end of the stream", s->late_count);
		component_reopen(s->component);
		loop_run(s->loop);
		status = component_close(s->component, deadline_ms);
	}
	if (s->late_count)
		err_warn("%zu requests came after the end of the stream and got no answer",
			s->late_count);
}

static void service_close(struct service *s)
{
	notify_stopping(s->notify);
	if (s->component)
		component_end(s);
	buf_free(&s->late);
	buf_free(&s->folded_to);
	buf_free(&s->folded_from);
	component_free(s->component);
	link_free(s->link);
	notify_free(s->notify);
	loop_free(s->loop);
}

int service_run(const struct service_config *config, const struct service_ops *ops, void *self,
	const struct service_hooks *hooks)
{
	struct service service = {
		.config = config,
		.ops = *ops,
		.self = self,
		.tick_ms = DEADLINE_NEVER,
	};
	struct service *s = &service;
	int64_t now_ms;

	if (hooks)
		s->hooks = *hooks;
	/* Requests come and go in waves: giving the heap's end back to the kernel after each one
	 * and asking for it again cost 4 % of the time. */
	mallopt(M_TRIM_THRESHOLD, HEAP_KEPT_BYTES);
	if (!s->ops.stanza)
		s->ops.stanza = ignore_stanza;
	if (config->connect)
		secret_no_core();
	s->loop = loop_new();
	s->notify = notify_new((int)config->ready_fd);
	now_ms = service_now_ms(s);
	loop_timer_init(&s->tick, on_tick, s);
	loop_timer_init(&s->drain, on_drain, s);
	loop_timer_init(&s->end, on_end, s);
	loop_timer_init(&s->metrics, on_metrics, s);
	loop_timer_init(&s->watchdog, on_watchdog, s);
	loop_timer_init(&s->status_line, on_status_line, s);
	buf_init(&s->late, LATE_MAX_BYTES);
	buf_init(&s->folded_to, BUF_NO_MAX);
	buf_init(&s->folded_from, BUF_NO_MAX);
	loop_turn(s->loop, on_turn, s);
	if (!service_open(s)) {
		notify_free(s->notify);
		loop_free(s->loop);
		return s->status;
	}
	loop_signal(s->loop, SIGTERM, on_terminate, s);
	loop_signal(s->loop, SIGINT, on_terminate, s);
	loop_signal(s->loop, SIGHUP, on_hangup, s);
	loop_signal(s->loop, SIGUSR1, on_counters, s);
	if (config->metrics_file)
		loop_timer_set(s->loop, &s->metrics, now_ms);
	if (notify_watchdog_ms(s->notify) > 0)
		loop_timer_set(s->loop, &s->watchdog, now_ms);
	loop_timer_set(s->loop, &s->status_line, now_ms + STATUS_INTERVAL_MS);
	if (s->hooks.attach)
		s->hooks.attach(s->hooks.context, s, s->loop);
	if (s->component)
		service_status(s);
	else
		on_up(s);
	s->status = loop_run(s->loop);
	if (!s->component && s->status == EXIT_DONE &&
		s->counts.bad + s->unknown + s->counts.refused > 0)
		s->status = EXIT_DATA;
	write_metrics(s);
	if (s->hooks.detach)
		s->hooks.detach(s->hooks.context);
	/* what has been let go of is not asked any more */
	s->ops = (struct service_ops){.stanza = ignore_stanza};
	service_close(s);
	return s->status;
}
