/* service.c - see service.h */
#include "server/service.h"

#include <errno.h>
#include <inttypes.h>
#include <malloc.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>

#include "base/deadline.h"
#include "base/err.h"
#include "xmpp/jid.h"
#include "server/notify.h"
#include "server/transport.h"
#include "base/io.h"

/* The most free memory kept at the end of the heap. */
#define HEAP_KEPT_BYTES (4 * 1024 * 1024)
#define METRICS_MAX 1024
#define METRICS_LINE_BYTES (16 * 1024)
/* How often a changed status is sent to a supervisor at most. */
#define STATUS_INTERVAL_MS 5000
/* How long the last answers and the end of the stream may take after a SIGTERM. It is longer while
 * the peer still takes output. */
#define LAST_WORDS_MS 5000
#define LAST_WORDS_MAX_MS 60000
enum phase {
	PHASE_SERVING,
	PHASE_DRAINING, /* waiting for open requests */
	PHASE_ENDING,	/* all answers are in the output, which has yet to be written */
};

struct service {
	const struct service_config *config;
	struct service_ops ops;
	struct service_hooks hooks;
	void *self;
	struct loop *loop;
	struct notify *notify;
	struct transport *transport;

	enum phase phase;
	int status;
	bool drain_told, input_ended, ready, stopping;
	bool impatient;		   /* after several signals: give up output that is not taken */
	int64_t last_words_max_ms; /* until then they may be taken */
	bool held;		   /* the link is paused, and the next one will be, too */
	int64_t tick_ms;	   /* what the timer is set to */
	struct loop_timer tick, drain, end, metrics, watchdog, status_line;
	/* stanzas and open requests when the last status was sent */
	uint64_t told;
	size_t told_open;
	struct buf folded_to, folded_from;
	struct err_limit metrics_failed;
};

/* NULL while it is not up, and if there is none. */
static struct link *service_link(const struct service *s)
{
	return transport_link(s->transport);
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

static uint64_t stanzas(const struct service *s)
{
	const struct link_counts *n = transport_counts(s->transport);

	return n->stanzas_in + n->stanzas_out;
}

static void service_status(struct service *s)
{
	struct buf text;

	buf_init(&text, BUF_NO_MAX);
	transport_describe(s->transport, s->phase != PHASE_SERVING, open_requests(s), &text);
	notify_status(s->notify, "%s", buf_string(&text));
	buf_free(&text);
	s->told = stanzas(s);
	s->told_open = open_requests(s);
}

static void on_status_line(void *context)
{
	struct service *s = context;

	if (s->told != stanzas(s) || s->told_open != open_requests(s))
		service_status(s);
	loop_timer_set(s->loop, &s->status_line, service_now_ms(s) + STATUS_INTERVAL_MS);
}

static void on_watchdog(void *context)
{
	struct service *s = context;

	notify_watchdog(s->notify);
	loop_timer_set(s->loop, &s->watchdog, service_now_ms(s) + notify_watchdog_ms(s->notify));
}

static size_t service_metrics(const struct service *s, struct metric *out)
{
	const struct metric own = {"open_requests", NULL, "Requests that wait for an answer",
		METRIC_GAUGE, open_requests(s)};
	size_t n = metrics_add(out, 0, METRICS_MAX, &own, 1);

	n += transport_metrics(s->transport, out + n, METRICS_MAX - n);
	if (s->ops.metrics)
		n += s->ops.metrics(s->self, out + n, METRICS_MAX - n);
	return n;
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

static void on_metrics(void *context)
{
	struct service *s = context;

	write_metrics(s);
	loop_timer_set(s->loop, &s->metrics, service_now_ms(s) + s->config->metrics_interval_ms);
}

static void log_counters(const struct service *s)
{
	struct metric metrics[METRICS_MAX];
	struct buf line;

	buf_init(&line, METRICS_LINE_BYTES);
	metrics_line(metrics, service_metrics(s, metrics), &line);
	/* The signal asks for it, so write it even with -q. */
	err_log(err_shows(ERR_NOTICE) ? ERR_NOTICE : ERR_ERROR, "%s", buf_string(&line));
	buf_free(&line);
}

/* Ending ------------------------------------------------------------------------- */

static void end_soon(struct service *s)
{
	loop_timer_set(s->loop, &s->end, 0);
}

static void tell_drain(struct service *s)
{
	struct turn turn = service_turn(s);

	if (s->drain_told)
		return;
	s->drain_told = true;
	transport_draining(s->transport);
	if (s->ops.drain)
		s->ops.drain(s->self, &turn);
}

static void service_finish(struct service *s, int status)
{
	if (s->phase >= PHASE_ENDING)
		return;
	s->phase = PHASE_ENDING;
	s->status = status;
	notify_stopping(s->notify);
	loop_timer_clear(s->loop, &s->tick);
	loop_timer_clear(s->loop, &s->drain);
	loop_timer_clear(s->loop, &s->end);
	/* The reader of a filter's output may be arbitrarily slow. */
	if (!s->input_ended)
		loop_timer_set(s->loop, &s->end, service_now_ms(s) + LAST_WORDS_MS);
	s->last_words_max_ms = service_now_ms(s) + LAST_WORDS_MAX_MS;
	if (transport_is_up(s->transport)) {
		struct turn turn = service_turn(s);

		/* From here on, input that comes is not waited for either. */
		tell_drain(s);
		if (s->ops.finish)
			s->ops.finish(s->self, &turn);
	} else if (s->ops.finish && open_requests(s) > 0) {
		err_warn("open requests left without an answer, as there is no stream: %zu",
			open_requests(s));
	}
	service_status(s);
}

/* Whether there are answers whose time to be written has passed. */
static bool service_owes(const struct service *s)
{
	return s->ops.tick && s->ops.deadline && s->ops.deadline(s->self) <= service_now_ms(s);
}

/* Work for the end of a turn: finish, or stop if all is written. */
static void on_end(void *context)
{
	struct service *s = context;
	struct link *link = service_link(s);
	int64_t now_ms = service_now_ms(s), until_ms;

	if (s->phase != PHASE_ENDING) {
		service_finish(s, s->status);
		return;
	}
	/* The time for the last answers has passed, unless the peer is still taking some. */
	until_ms = link ? sink_written_ms(link_sink(link)) + LAST_WORDS_MS : 0;
	if (until_ms > now_ms && now_ms < s->last_words_max_ms && !s->impatient) {
		loop_timer_set(s->loop, &s->end, until_ms);
		return;
	}
	if (service_owes(s))
		err_error("open requests left without an answer: %zu", open_requests(s));
	if (link && link_queued_bytes(link) > 0) {
		err_error("%zu bytes of output were not taken", link_queued_bytes(link));
		s->status = transport_lost_status(s->transport);
	}
	loop_stop(s->loop, s->status);
}

static void on_drain(void *context)
{
	struct service *s = context;

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
		if (transport_is_up(s->transport))
			tell_drain(s);
		loop_timer_set(s->loop, &s->drain, now_ms + s->config->drain_ms);
		service_status(s);
		break;
	case PHASE_DRAINING:
		service_finish(s, EXIT_DONE);
		break;
	case PHASE_ENDING:
		/* After the first signal a slow reader still gets some time. */
		s->impatient = s->end.deadline_ms != DEADLINE_NEVER;
		loop_timer_set(s->loop, &s->end, s->impatient ? 0 : now_ms + LAST_WORDS_MS);
		break;
	}
}

void service_stop(struct service *s, int status)
{
	if (s->phase >= PHASE_ENDING)
		return;
	/* Stop later: this may have been called from an op. */
	s->status = status;
	s->stopping = true;
	end_soon(s);
}

/* Deadlines ---------------------------------------------------------------------- */

static void on_tick(void *context)
{
	struct service *s = context;
	struct turn turn = service_turn(s);

	s->tick_ms = DEADLINE_NEVER;
	if (transport_is_up(s->transport) && s->ops.tick)
		s->ops.tick(s->self, &turn);
}

/* All answers are in the output, or will be as soon as there is room. */
static void ending_turn(struct service *s)
{
	if (!transport_is_up(s->transport) || !service_owes(s)) {
		if (transport_finish(s->transport, &s->status))
			loop_stop(s->loop, s->status);
	} else if (!service_congested(s)) {
		loop_timer_set(s->loop, &s->tick, 0);
	}
}

/* At the end of each turn: only set timers here. Their output must be written at the end of a turn,
 * too. */
static void on_turn(void *context)
{
	struct service *s = context;
	struct link *link = service_link(s);
	int64_t deadline_ms = DEADLINE_NEVER;

	if (loop_stopped(s->loop))
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

	return !transport_is_up(s->transport) || (link && link_congested(link));
}

bool service_blocked(const struct service *s)
{
	const struct link *link = service_link(s);

	return !transport_is_up(s->transport) || (link && link_blocked(link));
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

	if (service_link(s) && s->held)
		link_pause(service_link(s));
	if (s->ops.up)
		s->ops.up(s->self, &turn);
	if (s->phase == PHASE_DRAINING)
		tell_drain(s);
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
		s->status = EXIT_TEMPORARY; /* while the last words are written */
	if (s->ops.down)
		s->ops.down(s->self, &turn);
}

static void on_waiting(void *context)
{
	service_status(context);
}

static void on_gave_up(void *context, int status)
{
	struct service *s = context;

	if (s->phase == PHASE_SERVING) {
		service_finish(s, status);
		return;
	}
	service_finish(s, EXIT_DONE);
	if (s->status == EXIT_DONE && open_requests(s) > 0)
		s->status = EXIT_TEMPORARY;
}

static void on_input_ended(void *context, int status)
{
	struct service *s = context;

	if (status == EXIT_DONE)
		s->input_ended = true;
	else
		service_finish(s, status);
}

static void on_output_failed(void *context, int status)
{
	struct service *s = context;

	loop_stop(s->loop, status);
}

static void on_stanza(void *context, const struct stanza *stanza)
{
	struct service *s = context;
	struct turn turn = service_turn(s);
	struct stanza folded;
	bool to, from;

	buf_reset(&s->folded_to);
	buf_reset(&s->folded_from);
	to = s->ops.fold && jid_fold(stanza->to, &s->folded_to);
	from = s->ops.fold && jid_fold(stanza->from, &s->folded_from);
	if (to || from) {
		folded = *stanza;
		folded.to = to ? buf_span(&s->folded_to) : stanza->to;
		folded.from = from ? buf_span(&s->folded_from) : stanza->from;
		stanza = &folded;
	}
	s->ops.stanza(s->self, stanza, &turn);
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

static const struct transport_ops transport_ops = {
	.up = on_up,
	.down = on_down,
	.stanza = on_stanza,
	.input_ended = on_input_ended,
	.output_failed = on_output_failed,
	.gave_up = on_gave_up,
	.stream_error = on_stream_error,
	.waiting = on_waiting,
};

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
	transport_reload(s->transport);
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

/* From here on only the signals and the watchdog of the service are called. */
static void service_close(struct service *s)
{
	notify_stopping(s->notify);
	loop_turn_remove(s->loop, on_turn, s);
	loop_timer_clear(s->loop, &s->tick);
	loop_timer_clear(s->loop, &s->drain);
	loop_timer_clear(s->loop, &s->end);
	loop_timer_clear(s->loop, &s->metrics);
	loop_timer_clear(s->loop, &s->status_line);
	transport_close(s->transport);
	buf_free(&s->folded_to);
	buf_free(&s->folded_from);
	notify_free(s->notify);
	loop_free(s->loop);
}

static void timers_init(struct service *s)
{
	loop_timer_init(&s->tick, on_tick, s);
	loop_timer_init(&s->drain, on_drain, s);
	loop_timer_init(&s->end, on_end, s);
	loop_timer_init(&s->metrics, on_metrics, s);
	loop_timer_init(&s->watchdog, on_watchdog, s);
	loop_timer_init(&s->status_line, on_status_line, s);
}

/* What needs the transport. */
static void service_begin(struct service *s)
{
	int64_t now_ms = service_now_ms(s);

	loop_turn(s->loop, on_turn, s);
	loop_signal(s->loop, SIGTERM, on_terminate, s);
	loop_signal(s->loop, SIGINT, on_terminate, s);
	loop_signal(s->loop, SIGHUP, on_hangup, s);
	loop_signal(s->loop, SIGUSR1, on_counters, s);
	if (s->config->metrics_file)
		loop_timer_set(s->loop, &s->metrics, now_ms);
	if (notify_watchdog_ms(s->notify) > 0)
		loop_timer_set(s->loop, &s->watchdog, now_ms);
	loop_timer_set(s->loop, &s->status_line, now_ms + STATUS_INTERVAL_MS);
	if (s->hooks.attach)
		s->hooks.attach(s->hooks.context, s, s->loop);
	service_status(s);
	transport_start(s->transport);
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
	timers_init(s);
	buf_init(&s->folded_to, BUF_NO_MAX);
	buf_init(&s->folded_from, BUF_NO_MAX);
	s->transport = transport_new(s->loop, config, &transport_ops, s, &s->status);
	if (!s->transport) {
		notify_free(s->notify);
		loop_free(s->loop);
		return s->status;
	}
	service_begin(s);
	s->status = transport_end_status(s->transport, loop_run(s->loop));
	write_metrics(s);
	if (s->hooks.detach)
		s->hooks.detach(s->hooks.context);
	/* a hook that has been detached must not be called */
	s->ops = (struct service_ops){.stanza = ignore_stanza};
	service_close(s);
	return s->status;
}
