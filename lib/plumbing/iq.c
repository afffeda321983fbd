#include "plumbing/iq.h"

#include <errno.h>
#include <inttypes.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>

#include "base/deadline.h"
#include "base/err.h"
#include "base/io.h"
#include "base/random.h"
#include "base/utf8.h"
#include "loop/sink.h"
#include "plumbing/iq-input.h"
#include "plumbing/iq-payload.h"
#include "plumbing/iq-replies.h"
#include "xmpp/jid.h"

/* for the server to close its side of the stream */
#define CLOSE_MS 5000
/* how long the reader of standard output has after a signal */
#define DRAIN_MS 5000

enum phase {
	PAYLOAD,  /* the one payload is read from standard input */
	LOGIN,	  /* the login is not done */
	SENDING,  /* requests are read and sent, replies are read and printed */
	WAITING,  /* all requests have been sent */
	CUT,	  /* nothing is sent or answered any more; the end of the turn says so to each */
	PRINTING, /* each request has its line; lines are printed */
	STOPPED,
};

/* The time while replies are read. A reply that we do not read is not late. */
struct reply_clock {
	bool stopped;
	int64_t stopped_at_ms; /* if it is */
	int64_t missed_ms;     /* for which it was, before */
};

struct iq {
	const struct iq_config *config;
	struct loop *loop;
	struct loop_timer timer;
	enum phase phase;
	const char *why; /* CUT: what ended it */
	int status;	 /* what to exit with at the end, if it is not EXIT_DONE */
	bool bad_input;
	int signals;		   /* SIGTERM and SIGINT so far */
	int64_t drain_deadline_ms; /* of the first one */

	struct payload payload; /* not used with --batch */
	struct input *input;	/* --batch and --each, once logged in; else NULL */
	struct replies replies;
	struct reply_clock clock;
	struct sink *out;

	struct login *login;
	const char *address; /* ours, once logged in */
	char run[33];	     /* ids are RUN-N, N counted in the order of sending */
	uint64_t sent;
};

bool iq_is_many(const struct iq_config *config)
{
	return config->batch || config->each;
}

static void stop(struct iq *q, int status)
{
	if (q->phase == STOPPED)
		return;
	q->phase = STOPPED;
	loop_stop(q->loop, status);
}

/* The clock of replies ----------------------------------------------------- */

static int64_t clock_now_ms(const struct reply_clock *clock, int64_t now_ms)
{
	return (clock->stopped ? clock->stopped_at_ms : now_ms) - clock->missed_ms;
}

/* When the clock shows this, if it is not stopped. */
static int64_t clock_deadline_ms(const struct reply_clock *clock, int64_t shown_ms)
{
	if (clock->stopped || shown_ms == DEADLINE_NEVER)
		return DEADLINE_NEVER;
	return shown_ms + clock->missed_ms;
}

/* From the server -------------------------------------------------------- */

/* Whether s comes from the address that was asked. Some servers answer for an address as it was
 * typed, others as it should have been. The own account's answer comes without an address or with
 * the account's (RFC 6120 8.1.2.1); where the request named nobody, the account's server may also
 * give its own. */
static bool from_expected(const struct iq *q, const struct request *request, const struct stanza *s)
{
	const char *own = login_bare(q->login), *expected = request->expected;

	if (expected && (span_is(s->from, expected) || span_is(s->from, request->to)))
		return true;
	if (login_is_component(q->login) || (expected && strcmp(expected, own) != 0))
		return false;
	return !s->from.n || span_is(s->from, own) ||
	       (!expected && span_equal(s->from, jid_domain(span_of(own))));
}

static void on_stanza(void *context, const struct stanza *s)
{
	struct iq *q = context;
	struct request *request = stanza_is_answer(s) ? replies_find(&q->replies, s->id) : NULL;

	if (stanza_is_request(s))
		login_refuse(q->login, s);
	if (!request)
		return;
	if (from_expected(q, request, s))
		replies_answer(&q->replies, request, s);
	else
		err_info("dropped a reply with the right id from a wrong address: from '%.*s', "
			 "asked was '%s'",
			SPAN_ARG(s->from), request->to ? request->to : "the own account");
}

/* Requests --------------------------------------------------------------- */

static void report(void *context, const char *what, size_t line)
{
	struct iq *q = context;

	if (iq_is_many(q->config))
		err_error("stdin:%zu: %s", line, what);
	else
		err_error("the payload: %s", what);
	q->bad_input = true;
}

static bool is_full(const struct iq *q)
{
	return login_congested(q->login) || sink_congested(q->out) || replies_full(&q->replies);
}

static void hold_input(struct iq *q)
{
	if (q->input && q->phase == SENDING && is_full(q))
		input_hold(q->input);
}

/* What is wrong with a request, NULL if nothing; then *expected is the normalised `to`, absent
 * without one. */
static const char *request_wrong(
	const struct iq *q, const struct stanza *s, struct span to, struct buf *expected)
{
	if (s->refusal)
		return "over a limit";
	if (s->root->children_count != 1)
		return "not exactly one element in the iq";
	if (login_is_component(q->login) && !to.n)
		return "no 'to' and no --to";
	if (to.n && !jid_normalise(to, expected))
		return "'to' is no address";
	return NULL;
}

static int64_t reply_deadline_ms(const struct iq *q)
{
	const struct iq_config *c = q->config;

	return clock_now_ms(&q->clock, loop_now_ms(q->loop)) +
	       (c->reply_timeout_ms ? c->reply_timeout_ms : c->login.timeout_ms);
}

static void send_request(struct iq *q, struct request *request, const struct stanza *s)
{
	/* The stanza's own address is sent as it was typed, --to and a line's as normalised. */
	struct stanza_edit edit = {.to = s->to.n ? SPAN_NONE : span_of(request->expected)};
	char id[64];

	snprintf(id, sizeof(id), "%s-%" PRIu64, q->run, ++q->sent);
	edit.id = span_of(id);
	if (!s->from.n)
		edit.from = login_from(q->login);
	switch (writer_stanza(login_writer(q->login), s, &edit)) {
	case WRITER_OK:
		replies_open(&q->replies, request, edit.id, reply_deadline_ms(q));
		break;
	case WRITER_TOO_LARGE:
		replies_error(&q->replies, request, ERROR_POLICY_VIOLATION,
			"larger than --max-send-bytes");
		break;
	case WRITER_FULL:
		replies_error(&q->replies, request, ERROR_RESOURCE_CONSTRAINT,
			"the server takes no more");
		break;
	}
}

/* Send the request, or give it its error. */
static void take_request(struct iq *q, struct request *request, const struct stanza *s, size_t line)
{
	struct buf expected;
	const char *wrong;

	buf_init(&expected, BUF_NO_MAX);
	wrong = request_wrong(q, s, span_of(request->to), &expected);
	if (request->to && !wrong)
		request->expected = xstrdup(buf_string(&expected));
	buf_free(&expected);
	if (wrong) {
		report(q, wrong, line);
		replies_error(&q->replies, request,
			s->refusal ? ERROR_POLICY_VIOLATION : ERROR_BAD_REQUEST, wrong);
	} else if (q->phase >= CUT || !login_writer(q->login)) {
		replies_error(&q->replies, request, ERROR_RECIPIENT_UNAVAILABLE, "not sent");
	} else {
		send_request(q, request, s);
	}
	hold_input(q);
}

static void take_stanza(void *context, const struct stanza *s)
{
	struct iq *q = context;
	struct span to = s->to.n ? s->to : span_of(q->config->to);
	struct span from = s->from.n ? s->from : span_of(q->address);

	if (stanza_is_request(s))
		take_request(q, replies_request(&q->replies, s->id, from, to), s, s->line);
	else
		report(q, "no iq of type get or set", s->line);
}

/* --each: the one payload goes to the address on the line. */
static void take_address(struct iq *q, struct span to, size_t line)
{
	struct request *request;

	while (to.n && strchr(" \t\r", to.p[to.n - 1]))
		to.n--;
	while (to.n && strchr(" \t", *to.p))
		to = span_from(to, 1);
	if (!to.n)
		return;
	request = replies_request(&q->replies, SPAN_NONE, span_of(q->address), to);
	request->typed = xstrndup(to.p, to.n);
	for (char *c = request->typed; *c; c++)
		if (*c == '\t')
			*c = ' '; /* a tab ends the column of the address */
	take_request(q, request, &q->payload.stanza, line);
}

static void on_line(void *context, struct span line, size_t number)
{
	struct iq *q = context;

	if (q->config->each)
		take_address(q, line, number);
	else
		input_json_line(q->input, line, number);
}

static void look_for_end(struct iq *q)
{
	if (q->phase == SENDING && input_over(q->input))
		q->phase = WAITING;
}

static void on_input_ended(void *context, enum link_end why, int error, const char *text)
{
	struct iq *q = context;

	(void)text;
	if (why != LINK_EOF) { /* replies to what has been sent are waited for all the same */
		err_error("cannot read standard input: %s", strerror(error));
		q->status = EXIT_IO;
	}
	input_end(q->input);
	look_for_end(q);
}

static void begin_requests(struct iq *q)
{
	static const struct source_ops ops = {
		.stanza = take_stanza, .line = on_line, .bad = report, .ended = on_input_ended};

	if (iq_is_many(q->config)) {
		q->phase = SENDING;
		q->input = input_new(q->loop, q->config, &ops, q);
	} else {
		q->phase = WAITING;
		take_stanza(q, &q->payload.stanza);
	}
}

/* Turns and ends --------------------------------------------------------- */

/* Nothing more is sent, and what is open will not be answered. */
static void cut(struct iq *q, int status, const char *why)
{
	if (!iq_is_many(q->config) || q->phase < SENDING) {
		stop(q, status);
	} else if (q->phase == WAITING && table_count(q->replies.open) == 0) {
		q->phase = PRINTING; /* nothing is lost */
	} else if (q->phase < CUT) {
		q->phase = CUT;
		q->status = status;
		q->why = why;
	}
}

/* Answer each open request, and each that has been read and not sent. */
static void finish_cut(struct iq *q)
{
	size_t open = table_count(q->replies.open);
	struct request *request;

	if (open)
		err_error("%s: %zu %s without reply", q->why, open,
			open == 1 ? "request" : "requests");
	while ((request = replies_earliest(&q->replies)))
		replies_error(&q->replies, request, ERROR_RECIPIENT_UNAVAILABLE, q->why);
	if (q->input)
		input_read_rest(q->input);
	q->phase = PRINTING;
}

static void expire(struct iq *q)
{
	int64_t now_ms = clock_now_ms(&q->clock, loop_now_ms(q->loop));
	struct request *request;

	while (!q->clock.stopped && table_deadline(q->replies.open) <= now_ms) {
		request = replies_earliest(&q->replies);
		if (iq_is_many(q->config)) {
			replies_error(
				&q->replies, request, ERROR_REMOTE_SERVER_TIMEOUT, "no reply");
		} else {
			err_error("no reply");
			q->status = EXIT_TIMED_OUT;
			replies_drop(&q->replies, request);
		}
	}
}

/* Read replies while they can be printed, and requests while there is room for their replies. */
static void balance(struct iq *q)
{
	bool hold_login =
		(q->phase == SENDING || q->phase == WAITING) && !replies_out_takes(&q->replies);
	int64_t now_ms = loop_now_ms(q->loop);

	if (hold_login && !q->clock.stopped) {
		q->clock.stopped = true;
		q->clock.stopped_at_ms = now_ms;
		login_pause(q->login);
	} else if (!hold_login && q->clock.stopped) {
		q->clock.stopped = false;
		q->clock.missed_ms += now_ms - q->clock.stopped_at_ms;
		login_resume(q->login);
	}
	if (q->input && !is_full(q))
		input_resume(q->input);
	look_for_end(q);
	hold_input(q);
}

static void set_timer(struct iq *q)
{
	int64_t deadline_ms = clock_deadline_ms(&q->clock, table_deadline(q->replies.open));

	if (q->drain_deadline_ms < deadline_ms)
		deadline_ms = q->drain_deadline_ms;
	if (q->replies.unprinted && !sink_congested(q->out))
		deadline_ms = 0;
	loop_timer_set(q->loop, &q->timer, deadline_ms);
}

static void cannot_write(void *context, int error)
{
	err_error("cannot write standard output: %s",
		error ? strerror(error) : "it does not take more");
	stop(context, error ? EXIT_IO : EXIT_TEMPORARY);
}

/* Once a turn, when all that has come has been looked at: a reply that is there is not late. */
static void on_turn(void *context)
{
	struct iq *q = context;

	if (q->phase < SENDING || q->phase == STOPPED)
		return;
	expire(q);
	if (q->phase == CUT)
		finish_cut(q);
	replies_print(&q->replies);
	replies_give_up_first(&q->replies);
	balance(q);
	if (q->phase >= WAITING && q->replies.count == 0 && sink_flush(q->out, 0))
		stop(q, q->status);
	if (sink_error(q->out))
		cannot_write(q, sink_error(q->out));
	else if (q->drain_deadline_ms <= loop_now_ms(q->loop) && q->phase != STOPPED)
		cannot_write(q, 0);
	set_timer(q);
}

static void on_up(void *context, const char *address)
{
	struct iq *q = context;

	q->address = address;
	begin_requests(q);
}

static void on_down(void *context, int status)
{
	cut(context, status ? status : EXIT_TEMPORARY, "connection lost");
}

/* The first signal ends the requests, the second one ends the program. */
static void on_terminate(void *context, int signal_number)
{
	struct iq *q = context;

	(void)signal_number;
	if (q->signals++ > 0) {
		stop(q, EXIT_TEMPORARY);
		return;
	}
	q->drain_deadline_ms = loop_now_ms(q->loop) + DRAIN_MS;
	cut(q, EXIT_TEMPORARY, "interrupted");
}

/* Beginning and end ------------------------------------------------------ */

static void log_in(struct iq *q)
{
	static const struct login_ops ops = {.up = on_up, .stanza = on_stanza, .down = on_down};
	struct login_config login = q->config->login;
	int status;

	q->phase = LOGIN;
	if (q->config->json)
		login.index = READER_INDEX_ALL;
	q->login = login_new(q->loop, &login, &ops, q, &status);
	if (!q->login)
		stop(q, status);
}

/* Log in once the payload is one; nothing is connected to before. */
static void payload_is_there(struct iq *q)
{
	const char *wrong = payload_end(&q->payload);

	if (wrong) {
		report(q, wrong, 0);
		stop(q, EXIT_DATA);
	} else {
		log_in(q);
	}
}

static void on_payload(void *context, int fd, short revents)
{
	struct iq *q = context;
	enum payload_status status = payload_read(&q->payload, fd);
	int error = errno;

	(void)revents;
	if (status == PAYLOAD_MORE)
		return;
	loop_fd_remove(q->loop, fd);
	if (status == PAYLOAD_READ) {
		payload_is_there(q);
	} else if (status == PAYLOAD_TOO_LARGE) {
		report(q, "too large", 0);
		stop(q, EXIT_DATA);
	} else {
		err_error("cannot read standard input: %s", strerror(error));
		stop(q, EXIT_IO);
	}
}

const char *iq_check(const struct iq_config *c)
{
	int own = c->ping + c->disco_info + c->disco_items + c->version_of;
	const char *wrong = login_check(&c->login);

	if (wrong)
		return wrong;
	if (c->payload && c->payload[1])
		return "more than one payload";
	if (own > 1)
		return "only one of --ping, --disco-info, --disco-items, --version-of";
	if (own && (c->payload || c->type))
		return "--ping, --disco-info, --disco-items and --version-of are whole payloads";
	if (c->node && !c->disco_info && !c->disco_items)
		return "--node needs --disco-info or --disco-items";
	if (c->batch && (own || c->payload || c->type))
		return "--batch takes whole stanzas from standard input: --each sends one payload "
		       "to each JID there";
	if (c->each && (c->batch || c->to))
		return "--each takes JIDs from standard input: --batch and --to do not go with it";
	if (c->each && payload_is_read(c))
		return "--each needs a payload: PAYLOAD, --ping, --disco-info, --disco-items or "
		       "--version-of";
	if (c->unordered && !c->batch && !c->each)
		return "--unordered needs --batch or --each";
	if (c->stanza && c->json)
		return "only one of --stanza and --json";
	if (!c->to && !c->batch && !c->each && c->login.domain)
		return "--to is needed";
	if (c->node && !utf8_xml_valid(span_of(c->node)))
		return "--node is no text that XML can hold";
	return c->to && !jid_is_valid(c->to) ? "--to is no address" : NULL;
}

static void iq_init(struct iq *q, const struct iq_config *config)
{
	size_t queue_bytes = login_queue_bytes(&config->login);
	const struct sink_config out = {.kind = WRITER_PIPE,
		.max_queue_bytes = queue_bytes,
		.stanza_bytes = (size_t)config->login.limits.stanza_bytes};
	static const struct sink_ops out_ops = {.failed = cannot_write};

	*q = (struct iq){.config = config, .drain_deadline_ms = DEADLINE_NEVER};
	q->loop = loop_new();
	/* before the sink's: what is printed in a turn is written in it */
	loop_turn(q->loop, on_turn, q);
	loop_timer_init(&q->timer, loop_only_turns, NULL);
	loop_signal(q->loop, SIGTERM, on_terminate, q);
	loop_signal(q->loop, SIGINT, on_terminate, q);
	random_name(&random_kernel, q->run);
	payload_init(&q->payload, config);
	q->out = sink_new(q->loop, 1, &out, &out_ops, q);
	sink_lift_bound(q->out); /* replies_print() minds it */
	replies_init(&q->replies, config, q->out, queue_bytes);
}

static void iq_free(struct iq *q)
{
	input_free(q->input);
	replies_free(&q->replies);
	sink_free(q->out);
	login_free(q->login);
	payload_free(&q->payload);
	loop_timer_clear(q->loop, &q->timer);
	loop_free(q->loop);
}

static int outcome(const struct iq *q)
{
	if (q->bad_input)
		return EXIT_DATA;
	return q->replies.failed ? EXIT_NO : EXIT_DONE;
}

int iq_run(const struct iq_config *config)
{
	struct iq q;
	int status;

	iq_init(&q, config);
	if (payload_is_read(config))
		loop_fd(q.loop, 0, POLLIN, on_payload, &q);
	else if (config->batch)
		log_in(&q);
	else
		payload_is_there(&q);
	status = loop_run(q.loop);
	q.phase = STOPPED;
	if (q.address)
		login_close(q.login, q.signals > 1 ? 0 : io_now_ms() + CLOSE_MS);
	if (status == EXIT_DONE)
		status = outcome(&q);
	iq_free(&q);
	return status;
}
