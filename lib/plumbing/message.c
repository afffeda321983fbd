#include "plumbing/message.h"

#include <errno.h>
#include <inttypes.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/deadline.h"
#include "base/err.h"
#include "base/io.h"
#include "base/random.h"
#include "base/utf8.h"
#include "loop/source.h"
#include "server/roundtrip.h"
#include "xmpp/jid.h"
#include "xmpp/stanza-error.h"

/* for the server to close its side of the stream */
#define CLOSE_MS 5000
/* for the server to handle what was sent */
#define TRIP_MS 10000
#define REPLACEMENT "\xef\xbf\xbd"

enum phase {
	READING, /* standard input; without --lines before anything is connected to */
	LOGIN,
	SENDING,
	TRIP,	  /* the ping behind the last message is on its way */
	LINGERING /* --wait */
};

struct message {
	const struct message_config *config;
	struct loop *loop;
	struct loop_timer timer;
	struct source *in;
	bool in_held, in_ended;
	struct login *login;
	struct roundtrip trip;
	enum phase phase;

	struct buf body;	/* body of the message that is being sent */
	size_t line;		/* the message's line; 0: it is the whole input */
	struct buf *recipients; /* normalised */
	size_t next;		/* index of the next recipient; config->to.count: sent to all */

	char run[33]; /* ids are RUN-N, N counted in the order of sending */
	uint64_t sent;
	bool bounced, bad;
	int signals;
};

static void stop(struct message *m, int status)
{
	if (!loop_stopped(m->loop))
		loop_stop(m->loop, status);
}

/* Text ------------------------------------------------------------------- */

/* Append a character, or, where there is none, U+FFFD for one byte. Returns how many were taken. */
static size_t append_character(struct buf *out, struct span s)
{
	unsigned char c = (unsigned char)*s.p;
	int n = 0;

	if (c >= 0x80)
		n = utf8_xml_character(s.p, s.n);
	else if (c >= 0x20 || c == '\n' || c == '\t')
		n = 1;
	if (n > 0)
		buf_append(out, s.p, (size_t)n);
	else
		buf_append_string(out, REPLACEMENT);
	return n > 0 ? (size_t)n : 1;
}

/* Append the text of one line. A CR in it becomes a line break. */
static void append_text(struct buf *out, struct span s)
{
	while (s.n > 0) {
		size_t n = 1;

		if (*s.p != '\r')
			n = append_character(out, s);
		else
			buf_append_char(out, '\n');
		s.p += n;
		s.n -= n;
	}
}

/* Sending ---------------------------------------------------------------- */

static void report(struct message *m, const char *to, const char *what)
{
	if (m->line)
		err_error("stdin:%zu: not sent to '%s': %s", m->line, to, what);
	else
		err_error("not sent to '%s': %s", to, what);
	m->bad = true;
}

static enum writer_status send_one(struct message *m, struct writer *w, struct span to)
{
	static const char *const types[] = {"chat", "headline", "normal"};
	char id[64];

	snprintf(id, sizeof(id), "%s-%" PRIu64, m->run, m->sent);
	writer_begin(w);
	writer_raw(w, "<message");
	writer_attribute(w, "type", span_of(types[m->config->type]));
	writer_attribute(w, "id", span_of(id));
	writer_attribute(w, "to", to);
	writer_attribute(w, "from", login_from(m->login));
	writer_raw(w, ">");
	if (m->config->subject) {
		writer_raw(w, "<subject>");
		writer_text(w, span_of(m->config->subject));
		writer_raw(w, "</subject>");
	}
	writer_raw(w, "<body>");
	writer_text(w, buf_span(&m->body));
	writer_raw(w, "</body></message>");
	return writer_end(w);
}

/* Send the message to the remaining recipients, while the server takes more. True if none is
 * left. */
static bool send_rest(struct message *m)
{
	struct writer *w = login_writer(m->login);

	for (; m->next < m->config->to.count; m->next++) {
		enum writer_status status;

		if (!w || login_congested(m->login))
			return false;
		status = send_one(m, w, buf_span(&m->recipients[m->next]));
		if (status == WRITER_FULL)
			return false;
		if (status == WRITER_OK)
			m->sent++;
		else
			report(m, m->config->to.items[m->next], "larger than --max-send-bytes");
	}
	return true;
}

static void finish(struct message *m)
{
	if (m->sent == 0) {
		stop(m, EXIT_DONE);
		return;
	}
	if (login_roundtrip(m->login, &m->trip) != WRITER_OK)
		return; /* the next turn */
	m->phase = TRIP;
	loop_timer_set(m->loop, &m->timer, loop_now_ms(m->loop) + TRIP_MS);
}

static void linger(struct message *m)
{
	m->phase = LINGERING;
	loop_timer_set(m->loop, &m->timer, loop_now_ms(m->loop) + m->config->wait_ms);
}

static void on_turn(void *context)
{
	struct message *m = context;
	bool done;

	if (m->phase != SENDING)
		return;
	done = send_rest(m);
	if (m->in)
		source_hold(m->in, &m->in_held, !done || login_congested(m->login));
	if (done && m->in_ended && login_writer(m->login))
		finish(m);
}

static void on_timer(void *context)
{
	struct message *m = context;

	if (m->phase == LINGERING) {
		stop(m, EXIT_DONE);
	} else if (m->phase == TRIP) {
		err_warn("the server does not answer a ping: what it has sent back was not seen");
		linger(m);
	}
}

/* From the server -------------------------------------------------------- */

static bool is_ours(const struct message *m, struct span id)
{
	size_t n = strlen(m->run);

	return id.n > n + 1 && memcmp(id.p, m->run, n) == 0 && id.p[n] == '-';
}

static void say_bounce(const struct stanza *s)
{
	struct span condition = stanza_error_condition(s);
	struct buf words;

	buf_init(&words, 4096);
	stanza_error_text(s, &words);
	err_error("message to '%.*s' came back: %.*s%s%s", SPAN_ARG(s->from),
		SPAN_ARG(condition.n ? condition : SPAN("undefined-condition")),
		buf_length(&words) ? ": " : "", buf_string(&words));
	buf_free(&words);
}

static void on_stanza(void *context, const struct stanza *s)
{
	struct message *m = context;

	if (roundtrip_take(&m->trip, s)) {
		if (m->phase == TRIP && !m->trip.open)
			linger(m);
	} else if (s->kind == STANZA_MESSAGE && s->type == TYPE_ERROR && is_ours(m, s->id)) {
		m->bounced = true;
		say_bounce(s);
	} else {
		login_refuse(m->login, s);
	}
}

static void on_up(void *context, const char *address)
{
	struct message *m = context;

	(void)address;
	m->phase = SENDING;
	if (m->in)
		source_hold(m->in, &m->in_held, false);
}

static void on_down(void *context, int status)
{
	stop(context, status ? status : EXIT_TEMPORARY);
}

static void log_in(struct message *m)
{
	static const struct login_ops ops = {on_up, on_stanza, on_down};
	int status;

	m->phase = LOGIN;
	m->login = login_new(m->loop, &m->config->login, &ops, m, &status);
	if (!m->login)
		stop(m, status);
}

/* Standard input --------------------------------------------------------- */

static void too_long(struct message *m, size_t line)
{
	err_error("stdin:%zu: text longer than --limit body-bytes", line);
	m->bad = true;
}

static void on_line(void *context, struct span line, size_t number)
{
	struct message *m = context;

	if (line.n > 0 && line.p[line.n - 1] == '\r')
		line.n--;
	if (m->config->lines) {
		if (line.n == 0)
			return; /* an empty line is no message */
		buf_reset(&m->body);
		append_text(&m->body, line);
		m->line = number;
		m->next = 0;
		if (!send_rest(m))
			source_hold(m->in, &m->in_held, true);
		return;
	}
	if (number > 1)
		buf_append_char(&m->body, '\n');
	append_text(&m->body, line);
}

static void on_bad(void *context, const char *what, size_t line)
{
	(void)what;
	too_long(context, line);
}

static void on_in_ended(void *context, enum link_end why, int error, const char *text)
{
	struct message *m = context;

	(void)text;
	source_free(m->in);
	m->in = NULL;
	m->in_ended = true;
	if (why != LINK_EOF) {
		err_error("cannot read standard input: %s", strerror(error));
		stop(m, EXIT_IO);
	} else if (m->phase == READING) {
		if (buf_length(&m->body) > (size_t)m->config->max_body_bytes)
			too_long(m, 1);
		if (!buf_length(&m->body) && !m->config->subject && !m->bad) {
			err_error("no text on standard input");
			m->bad = true;
		}
		m->next = 0;
		if (m->bad)
			stop(m, EXIT_DONE);
		else
			log_in(m);
	}
}

static void on_signal(void *context, int signal_number)
{
	struct message *m = context;

	(void)signal_number;
	if (m->signals++ > 0 || m->phase < SENDING) {
		stop(m, EXIT_TEMPORARY);
		return;
	}
	source_free(m->in);
	m->in = NULL;
	m->in_ended = true;
}

/* Beginning and end ------------------------------------------------------ */

const char *message_check(const struct message_config *config)
{
	const char *wrong = login_check(&config->login);

	if (wrong)
		return wrong;
	if (!config->to.count)
		return "--to is needed";
	for (size_t i = 0; i < config->to.count; i++)
		if (!jid_is_valid(config->to.items[i]))
			return "--to is no address";
	if (config->subject && !utf8_xml_valid(span_of(config->subject)))
		return "--subject is no text that XML can hold";
	return NULL;
}

static void message_init(struct message *m, const struct message_config *config)
{
	static const struct source_ops in_ops = {
		.line = on_line, .bad = on_bad, .ended = on_in_ended};
	const struct source_config in = {
		.reader = {.kind = READER_PIPE}, .max_line_bytes = (size_t)config->max_body_bytes};

	*m = (struct message){.config = config, .loop = loop_new(), .next = config->to.count};
	/* before the login's: what is appended in a turn is written in it */
	loop_turn(m->loop, on_turn, m);
	loop_timer_init(&m->timer, on_timer, m);
	loop_signal(m->loop, SIGTERM, on_signal, m);
	loop_signal(m->loop, SIGINT, on_signal, m);
	random_name(&random_kernel, m->run);
	roundtrip_init(&m->trip);
	/* U+FFFD may take three bytes for one; the rest shows that the text is too long */
	buf_init(&m->body, 3 * (size_t)config->max_body_bytes + 64);
	m->recipients = xcalloc(config->to.count, sizeof(*m->recipients));
	for (size_t i = 0; i < config->to.count; i++) {
		buf_init(&m->recipients[i], BUF_NO_MAX);
		jid_normalise(span_of(config->to.items[i]), &m->recipients[i]);
	}
	m->in = source_new(m->loop, 0, &in, &in_ops, m);
	if (config->lines) {
		source_hold(m->in, &m->in_held, true);
		log_in(m);
	}
}

static void message_free(struct message *m)
{
	source_free(m->in);
	login_free(m->login);
	loop_timer_clear(m->loop, &m->timer);
	loop_free(m->loop);
	for (size_t i = 0; i < m->config->to.count; i++)
		buf_free(&m->recipients[i]);
	free(m->recipients);
	buf_free(&m->body);
}

int message_run(const struct message_config *config)
{
	struct message m;
	int status;

	message_init(&m, config);
	status = loop_run(m.loop);
	if (m.phase >= SENDING && m.login) {
		int closed = login_close(m.login, io_now_ms() + CLOSE_MS);

		if (status == EXIT_DONE)
			status = closed;
	}
	if (status == EXIT_DONE)
		status = m.bad ? EXIT_DATA : m.bounced ? EXIT_NO : EXIT_DONE;
	message_free(&m);
	return status;
}
