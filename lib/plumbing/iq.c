#include "plumbing/iq.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "base/deadline.h"
#include "base/err.h"
#include "base/utf8.h"
#include "xmpp/jid.h"
#include "xmpp/jsonlines.h"
#include "xmpp/jsonobjects.h"
#include "loop/sink.h"
#include "loop/source.h"
#include "base/table.h"
#include "xmpp/stanza-error.h"
#include "base/random.h"
#include "base/io.h"

/* for the server to close its side of the stream */
#define CLOSE_MS 5000
/* what a signal leaves to those who read standard output */
#define DRAIN_MS 5000
#define PAYLOAD_MAX_BYTES (16 * 1024 * 1024)
#define READ_BYTES 65536
/* A longer line is no address. */
#define JID_LINE_BYTES 4096
/* Own errors carry what a stanza brought, escaped: `'` becomes six bytes. */
#define ESCAPED_STANZAS 8
/* What large replies have taught wears off by this part with each smaller one. */
#define REPLY_BYTES_MEMORY 16

/* A request and what came of it, in the order of the input. */
struct slot {
	struct slot *next;
	char *id;	       /* the user's; NULL: none */
	char *typed;	       /* --each: the line */
	char *from, *to;       /* who must answer (to), whom (from); NULL: absent */
	char *expected;	       /* `to`, normalised: the answer's from; NULL: the own account */
	struct table_entry *e; /* NULL: answered, or not sent */
	size_t bytes;	       /* of all this, in q->held_bytes */
	struct buf out;	       /* what is to be printed */
};

struct iq {
	const struct iq_config *config;
	struct loop *loop;
	struct loop_timer timer;
	struct login *login;

	struct source
		*in; /* --batch, --each: stdin; NULL before the login and when no more is read */
	struct jsonlines *objects; /* --batch --json: lines that are objects */
	struct jsonobjects gather; /* of which an object may have several */
	struct reader *stanzas;	   /* and those that are none */
	struct buf line;
	struct buf request;	    /* else: the one request, as a stream of one stanza */
	struct reader *each_reader; /* --each: that has it as a stanza */
	struct stanza each;

	struct table *open;
	/* What is to be printed: in order each request from when it was read, else what is
	 * answered. slots_count has all. */
	struct slot *first, **last;
	size_t slots_count, held_bytes, max_held_bytes;
	size_t reply_bytes;    /* what the next reply may well be as large as */
	struct reader *errors; /* to read our own with */
	struct sink *out;
	uint64_t serial;
	uint64_t run[2];

	/* While we do not read, no reply can be late: deadlines are on a clock that stands still
	 * then. */
	int64_t unread_ms, paused_at_ms;
	bool in_paused, login_paused;
	bool in_ended; /* with lines that are still to be looked at */

	const char *address; /* ours, when up */
	bool up, input_over, stopping;
	bool news;	       /* something can be printed, or the input has ended */
	bool ending, finished; /* nothing is sent any more, what there is is printed */
	const char *why;       /* ... because of this */
	int64_t drain_deadline_ms, close_ms;
	bool failed, timed_out, bad;
	int status;
};

/* Whether there are many requests, of which each has its line out. */
static bool is_many(const struct iq *q)
{
	return q->config->batch || q->config->each;
}

static void stop(struct iq *q, int status)
{
	if (q->stopping)
		return;
	q->stopping = true;
	loop_stop(q->loop, status);
}

/* Replies ---------------------------------------------------------------- */

static char *copy(struct span s)
{
	return s.p ? xstrndup(s.p, s.n) : NULL;
}

static void line_up(struct iq *q, struct slot *slot)
{
	*q->last = slot;
	q->last = &slot->next;
}

static struct slot *slot_new(struct iq *q, struct span id, struct span from, struct span to)
{
	struct slot *slot = xcalloc(1, sizeof(*slot));

	buf_init(&slot->out, BUF_NO_MAX);
	slot->id = id.n ? copy(id) : NULL;
	slot->from = copy(from);
	slot->to = to.n ? copy(to) : NULL;
	slot->bytes = sizeof(*slot) + id.n + from.n + 2 * to.n;
	q->held_bytes += slot->bytes;
	q->slots_count++;
	if (!q->config->unordered)
		line_up(q, slot);
	return slot;
}

static struct slot *slot_of(struct table_entry *e)
{
	return *(struct slot **)table_record(e);
}

static void slot_free(struct slot *slot)
{
	free(slot->id);
	free(slot->typed);
	free(slot->from);
	free(slot->to);
	free(slot->expected);
	buf_free(&slot->out);
	free(slot);
}

static struct span condition_of(const struct stanza *s)
{
	struct span condition = stanza_error_condition(s);

	return condition.n ? condition : SPAN("undefined-condition");
}

/* The reply as it is to be seen: with the user's id. False if it is larger than max_bytes then. */
static bool format(struct iq *q, struct slot *slot, const struct stanza *s, size_t max_bytes)
{
	struct stanza seen = *s;
	struct stanza_edit edit = STANZA_KEEP;
	const struct xml_node *payload;
	struct writer w;
	bool fits = true;

	slot->out.max = max_bytes;
	writer_init(&w, &slot->out, WRITER_PIPE, 0);
	if (q->config->batch) {
		seen.id = span_of(slot->id);
		edit.id = slot->id ? seen.id : SPAN("");
	}
	if (q->config->json)
		return jsonlines_append(&seen, SPAN_NONE, max_bytes, &slot->out) == WRITER_OK;
	if (slot->typed)
		fits = buf_append_string(&slot->out, slot->typed) &&
		       buf_append_char(&slot->out, '\t');
	if (q->config->stanza || q->config->batch)
		return fits && writer_stanza(&w, s, &edit) == WRITER_OK;
	payload = s->type == TYPE_RESULT ? stanza_payload(s) : NULL;
	if (payload) {
		writer_begin(&w);
		writer_node(&w, s, payload);
		return fits && writer_end(&w) == WRITER_OK;
	}
	if (slot->typed && s->type == TYPE_ERROR)
		fits = fits && buf_append_span(&slot->out, condition_of(s));
	return fits && (!slot->typed || buf_append_char(&slot->out, '\n'));
}

static void say_error(const struct stanza *s)
{
	struct buf words;

	buf_init(&words, 4096);
	stanza_error_text(s, &words);
	err_error("%.*s%s%s", SPAN_ARG(condition_of(s)), buf_length(&words) ? ": " : "",
		buf_string(&words));
	buf_free(&words);
}

static void closed(struct iq *q, struct slot *slot)
{
	if (slot->e)
		table_remove(q->open, slot->e);
	slot->e = NULL;
}

static void answered(struct iq *q, struct slot *slot, const struct stanza *s)
{
	size_t n = buf_length(&slot->out);

	closed(q, slot);
	slot->bytes += n;
	q->held_bytes += n;
	q->news = true;
	if (q->config->unordered)
		line_up(q, slot);
	if (n > q->reply_bytes)
		q->reply_bytes = n;
	else
		q->reply_bytes -= (q->reply_bytes - n) / REPLY_BYTES_MEMORY;
	if (s->type != TYPE_ERROR)
		return;
	q->failed = true;
	if (!is_many(q))
		say_error(s);
}

/* An answer that we give ourselves: read back, so that it goes the way of the others. */
static void answer_error(struct iq *q, struct slot *slot, enum stanza_error error, const char *text)
{
	struct stanza s;

	closed(q, slot);
	if (!stanza_error_made(q->errors, span_of(slot->from), span_of(slot->to), span_of(slot->id),
		    error, text, &s))
		return;
	format(q, slot, &s, BUF_NO_MAX);
	answered(q, slot, &s);
}

/* Whether standard output takes more. */
static bool out_takes_more(struct iq *q)
{
	if (sink_congested(q->out))
		sink_flush(q->out, 0);
	return !sink_congested(q->out);
}

/* Print what may be printed, while it is taken. */
static void print(struct iq *q)
{
	q->news = false;
	while (q->first && !q->first->e && out_takes_more(q)) {
		struct slot *slot = q->first;

		sink_send_raw(q->out, buf_span(&slot->out));
		q->first = slot->next;
		if (!q->first)
			q->last = &q->first;
		q->held_bytes -= slot->bytes;
		q->slots_count--;
		slot_free(slot);
	}
}

/* From the server -------------------------------------------------------- */

/* Whether s comes from whom the request went to: some servers answer for an address as it was
 * typed, others as it should have been. What the own account says comes without an address or with
 * the account's (RFC 6120 8.1.2.1); where nobody was named, the account's server may also give its
 * own. */
static bool from_expected(const struct iq *q, const struct slot *slot, const struct stanza *s)
{
	const char *own = login_bare(q->login);

	if (slot->expected && (span_is(s->from, slot->expected) || span_is(s->from, slot->to)))
		return true;
	if (login_is_component(q->login) || (slot->expected && strcmp(slot->expected, own) != 0))
		return false;
	return !s->from.n || span_is(s->from, own) ||
	       (!slot->expected && span_equal(s->from, jid_domain(span_of(own))));
}

static void on_stanza(void *context, const struct stanza *s)
{
	struct iq *q = context;
	struct table_entry *e;
	struct slot *slot;

	if (stanza_is_request(s)) {
		login_refuse(q->login, s);
		return;
	}
	e = stanza_is_answer(s) && s->id.n ? table_find(q->open, s->id) : NULL;
	slot = e ? slot_of(e) : NULL;
	if (!slot)
		return;
	if (!from_expected(q, slot, s)) {
		err_info("dropped a reply with the right id from a wrong address: from '%.*s', "
			 "asked was '%s'",
			SPAN_ARG(s->from), slot->to ? slot->to : "the own account");
		return;
	}
	if (!s->refusal && format(q, slot, s, q->max_held_bytes)) {
		answered(q, slot, s);
	} else {
		buf_reset(&slot->out);
		answer_error(q, slot, ERROR_POLICY_VIOLATION, "the reply is over a limit");
	}
}

/* Requests --------------------------------------------------------------- */

static void report(struct iq *q, const char *what, size_t line)
{
	if (is_many(q))
		err_error("stdin:%zu: %s", line, what);
	else
		err_error("the payload: %s", what);
	q->bad = true;
}

static int64_t clock_ms(const struct iq *q)
{
	return (q->login_paused ? q->paused_at_ms : loop_now_ms(q->loop)) - q->unread_ms;
}

/* Whether requests have to wait for replies: until those have left, and so that there is room for
 * them where the first of many is late. */
static bool is_full(const struct iq *q)
{
	size_t replies = table_count(q->open) + 1;

	if (login_congested(q->login) || sink_congested(q->out) ||
		q->slots_count >= (size_t)q->config->max_pending)
		return true;
	if (q->slots_count == 0)
		return false;
	return q->held_bytes > q->max_held_bytes / 2 ||
	       (!q->config->unordered &&
		       q->held_bytes + replies * q->reply_bytes > q->max_held_bytes);
}

static void hold_input(struct iq *q)
{
	if (!q->in || q->in_paused || !is_full(q))
		return;
	q->in_paused = true;
	source_pause(q->in);
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

static int64_t reply_timeout_ms(const struct iq_config *config)
{
	return config->reply_timeout_ms ? config->reply_timeout_ms : config->login.timeout_ms;
}

static void send_request(struct iq *q, struct slot *slot, const struct stanza *s)
{
	/* what was typed for the stanza is sent as it is normalised */
	struct stanza_edit edit = {.to = s->to.n ? SPAN_NONE : span_of(slot->expected)};
	char id[64];

	snprintf(id, sizeof(id), "%016" PRIx64 "%016" PRIx64 "-%" PRIu64, q->run[0], q->run[1],
		++q->serial);
	edit.id = span_of(id);
	if (login_is_component(q->login) && !s->from.n)
		edit.from = span_of(slot->from);
	switch (writer_stanza(login_writer(q->login), s, &edit)) {
	case WRITER_OK:
		slot->e = table_add(q->open, edit.id, sizeof(struct slot *),
			clock_ms(q) + reply_timeout_ms(q->config));
		*(struct slot **)table_record(slot->e) = slot;
		break;
	case WRITER_TOO_LARGE:
		answer_error(q, slot, ERROR_POLICY_VIOLATION, "larger than --max-send-bytes");
		break;
	case WRITER_FULL:
		answer_error(q, slot, ERROR_RESOURCE_CONSTRAINT, "the server takes no more");
		break;
	}
}

/* One answer for each, whatever is wrong with it. */
static void take_request(struct iq *q, struct slot *slot, const struct stanza *s, size_t line)
{
	struct span to = span_of(slot->to);
	struct buf expected;
	const char *wrong;

	buf_init(&expected, BUF_NO_MAX);
	wrong = request_wrong(q, s, to, &expected);
	if (to.n && !wrong)
		slot->expected = copy(buf_span(&expected));
	buf_free(&expected);
	if (wrong) {
		report(q, wrong, line);
		answer_error(
			q, slot, s->refusal ? ERROR_POLICY_VIOLATION : ERROR_BAD_REQUEST, wrong);
	} else if (q->ending || !login_writer(q->login)) {
		answer_error(q, slot, ERROR_RECIPIENT_UNAVAILABLE, "not sent");
	} else {
		send_request(q, slot, s);
	}
	hold_input(q);
}

static void take_stanza(void *context, const struct stanza *s)
{
	struct iq *q = context;
	struct span to = s->to.n ? s->to : span_of(q->config->to);
	struct span from = s->from.n ? s->from : span_of(q->address);

	if (stanza_is_request(s))
		take_request(q, slot_new(q, s->id, from, to), s, s->line);
	else
		report(q, "no iq of type get or set", s->line);
}

/* --each ----------------------------------------------------------------- */

/* The one payload to the address on the line. */
static void take_address(struct iq *q, struct span line, size_t number)
{
	struct span to = line;
	struct slot *slot;

	while (to.n && strchr(" \t\r", to.p[to.n - 1]))
		to.n--;
	while (to.n && strchr(" \t", *to.p))
		to = span_from(to, 1);
	if (!to.n)
		return;
	slot = slot_new(q, SPAN_NONE, span_of(q->address), to);
	slot->typed = xstrndup(to.p, to.n);
	for (char *c = slot->typed; *c; c++)
		if (*c == '\t')
			*c = ' '; /* the columns are ours */
	take_request(q, slot, &q->each, number);
}

/* --batch ---------------------------------------------------------------- */

/* Hand over what lines that are no objects hold, as far as there is room. True if that was all. */
static bool take_stanzas(struct iq *q)
{
	enum reader_event event;
	struct stanza s;

	while (q->ending || !q->in_paused) {
		event = reader_next(q->stanzas, &s);
		if (event == READER_STANZA)
			take_stanza(q, &s);
		else if (event == READER_BAD)
			report(q, reader_error(q->stanzas), reader_error_line(q->stanzas));
		else
			return true;
	}
	return false;
}

static void take_object(struct iq *q, struct span object, size_t number)
{
	struct stanza s;
	struct span id;
	const char *wrong = jsonlines_read(q->objects, object, number, &s, &id);

	if (jsonlines_unknown(q->objects))
		err_warn("stdin:%zu: a member that means nothing: %s", number,
			jsonlines_unknown(q->objects));
	if (wrong)
		report(q, wrong, number);
	else
		take_stanza(q, &s);
}

/* The reader of stanzas gets the newlines of objects, too: it counts lines. */
static void on_line(void *context, struct span line, size_t number)
{
	struct iq *q = context;
	struct span object;
	const char *why;
	size_t blank = 0, broken;

	if (q->config->each) {
		take_address(q, line, number);
		return;
	}
	buf_reset(&q->line);
	while (blank < line.n && (line.p[blank] == ' ' || line.p[blank] == '\t'))
		blank++;
	if (!jsonobjects_inside(&q->gather) &&
		(reader_inside(q->stanzas) || blank == line.n || line.p[blank] != '{')) {
		buf_append_span(&q->line, line);
	} else {
		bool whole = jsonobjects_line(&q->gather, line, number, &object, &broken, &why);

		if (broken)
			report(q, why, broken);
		if (whole)
			take_object(q, object, q->gather.first);
	}
	buf_append_char(&q->line, '\n');
	reader_feed(q->stanzas, buf_span(&q->line).p, buf_length(&q->line));
	take_stanzas(q);
}

static void on_in_bad(void *context, const char *what, size_t line)
{
	report(context, what, line);
}

static void on_in_ended(void *context, enum link_end why, int error, const char *text)
{
	struct iq *q = context;
	const char *what;
	size_t broken;

	(void)text;
	if (why != LINK_EOF) { /* what has been sent is waited for all the same */
		err_error("cannot read standard input: %s", strerror(error));
		q->status = EXIT_IO;
	}
	if ((broken = jsonobjects_end(&q->gather, &what)))
		report(q, what, broken);
	if (q->stanzas)
		reader_end(q->stanzas);
	q->in_ended = true;
	q->input_over = !q->stanzas || take_stanzas(q);
}

static void batch_begin(struct iq *q)
{
	static const struct source_ops ops = {
		.stanza = take_stanza, .line = on_line, .bad = on_in_bad, .ended = on_in_ended};
	struct source_config config = {.reader = login_limits(&q->config->login)};

	config.reader.kind = READER_PIPE;
	if (q->config->each) {
		config.max_line_bytes = JID_LINE_BYTES;
	} else if (q->config->json) {
		q->objects = jsonlines_new(&config.reader, true);
		q->stanzas = reader_new(&config.reader);
		config.max_line_bytes = jsonlines_max_bytes(q->config->login.max_stanza_bytes);
	}
	q->in = source_new(q->loop, 0, &config, &ops, q);
}

/* What has been read and not looked at is not lost: its requests were not sent. */
static void batch_end(struct iq *q)
{
	if (q->stanzas)
		take_stanzas(q);
	if (q->in) {
		source_read_to_end(q->in, 0);
		source_free(q->in);
	}
	q->in = NULL;
	q->in_paused = false;
	q->input_over = true;
}

/* One request ------------------------------------------------------------ */

static bool is_blank(const struct stanza *s, size_t from, size_t to)
{
	while (from < to && s->text[from] && strchr(" \t\r\n", s->text[from]))
		from++;
	return from == to;
}

/* Read q->request: the stream's header, one stanza, nothing else. What is wrong, or NULL. */
static const char *one_stanza(
	struct reader *reader, const struct buf *request, struct stanza *s, bool to_the_end)
{
	struct stanza more;

	reader_reset(reader);
	reader_feed(reader, buf_span(request).p, buf_length(request));
	if (reader_next(reader, &more) != READER_OPEN || reader_next(reader, s) != READER_STANZA)
		return reader_error(reader) ? reader_error(reader) : "not one element";
	if (!to_the_end)
		return NULL;
	if (s->refusal)
		return "over a limit";
	if (s->root->children_count != 1)
		return "not one element";
	if (!is_blank(s, s->root->open_end, s->root->first_child->start) ||
		!is_blank(s, s->root->first_child->end, s->root->close_start))
		return "text beside the element";
	return reader_next(reader, &more) == READER_MORE && !reader_inside(reader)
		       ? NULL
		       : "not one element";
}

static struct reader *request_reader(const struct iq *q)
{
	struct reader_config config = login_limits(&q->config->login);

	/* no pipe's: lines in a payload may begin with anything */
	config.kind = READER_SOCKET;
	config.max_stanza_bytes = PAYLOAD_MAX_BYTES + 1024;
	return reader_new(&config);
}

static void request_begin(struct iq *q)
{
	buf_append_string(
		&q->request, "<stream:stream xmlns='" NS_CLIENT "' xmlns:stream='" NS_STREAM "'>");
	buf_append_string(&q->request, q->config->type ? "<iq type='set'>" : "<iq type='get'>");
}

/* The end of the one request; whether it is one is looked at as a whole before anything is sent.
 * EXIT_DATA after saying what is wrong. */
static int request_end(struct iq *q)
{
	const struct iq_config *c = q->config;
	struct reader *reader = request_reader(q);
	const char *wrong;
	struct writer w;
	struct stanza s;

	writer_init(&w, &q->request, WRITER_PIPE, 0);
	if (c->ping) {
		writer_raw(&w, "<ping xmlns='" NS_PING "'/>");
	} else if (c->version_of) {
		writer_raw(&w, "<query xmlns='" NS_VERSION "'/>");
	} else if (c->disco_info || c->disco_items) {
		writer_raw(&w, "<query");
		writer_attribute(
			&w, "xmlns", span_of(c->disco_info ? NS_DISCO_INFO : NS_DISCO_ITEMS));
		writer_attribute(&w, "node", span_of(c->node));
		writer_raw(&w, "/>");
	} else if (c->payload && strcmp(*c->payload, "-") != 0) {
		buf_append_string(&q->request, *c->payload);
	}
	buf_append_string(&q->request, "</iq>");
	wrong = one_stanza(reader, &q->request, &s, true);
	if (wrong)
		report(q, wrong, 0);
	reader_free(reader);
	return q->bad ? EXIT_DATA : EXIT_DONE;
}

static void request_send(struct iq *q)
{
	struct reader *reader = request_reader(q);
	struct stanza s;

	one_stanza(reader, &q->request, &s, false);
	take_stanza(q, &s);
	reader_free(reader);
	q->input_over = true;
}

/* Of --each, too, the payload is looked at once. */
static void each_begin(struct iq *q)
{
	q->each_reader = request_reader(q);
	one_stanza(q->each_reader, &q->request, &q->each, false);
	batch_begin(q);
}

static bool has_own_payload(const struct iq_config *c)
{
	return c->ping || c->version_of || c->disco_info || c->disco_items;
}

static bool payload_is_read(const struct iq_config *c)
{
	return !c->batch && !has_own_payload(c) && (!c->payload || strcmp(*c->payload, "-") == 0);
}

/* Turns and ends --------------------------------------------------------- */

/* Nothing more is sent, what is open will not be answered. */
static void end(struct iq *q, int status, const char *why)
{
	if (!is_many(q) || !q->up) {
		stop(q, status);
		return;
	}
	if (q->input_over && table_count(q->open) == 0)
		return; /* it makes no difference */
	q->ending = true;
	q->status = status;
	q->why = why;
}

static void finish_open(struct iq *q)
{
	size_t open = table_count(q->open);

	q->finished = true;
	if (open)
		err_error("%s: %zu %s without reply", q->why, open,
			open == 1 ? "request" : "requests");
	while (table_count(q->open))
		answer_error(
			q, slot_of(table_earliest(q->open)), ERROR_RECIPIENT_UNAVAILABLE, q->why);
	batch_end(q);
}

static void expire(struct iq *q)
{
	struct table_entry *e;

	while (!q->login_paused && (e = table_earliest(q->open)) && e->deadline_ms <= clock_ms(q)) {
		struct slot *slot = slot_of(e);

		q->timed_out = true;
		if (is_many(q)) {
			answer_error(q, slot, ERROR_REMOTE_SERVER_TIMEOUT, "no reply");
		} else {
			err_error("no reply");
			closed(q, slot);
		}
	}
}

/* Too much waits for the first request that is not answered: it is waited for no longer. */
static void give_up_first(struct iq *q)
{
	while (!q->config->unordered && q->held_bytes > q->max_held_bytes && q->first &&
		q->first->e && out_takes_more(q)) {
		answer_error(q, q->first, ERROR_RESOURCE_CONSTRAINT,
			"too much waited for this reply: see --unordered");
		print(q);
	}
}

/* Replies are read while they can be printed, requests while replies are to be had. */
static void balance(struct iq *q)
{
	bool hold_login = q->up && !out_takes_more(q);

	if (hold_login && !q->login_paused) {
		q->paused_at_ms = loop_now_ms(q->loop);
		login_pause(q->login);
	} else if (!hold_login && q->login_paused) {
		q->unread_ms += loop_now_ms(q->loop) - q->paused_at_ms;
		login_resume(q->login);
	}
	q->login_paused = hold_login;
	if (q->in_paused && !is_full(q)) {
		q->in_paused = false;
		if ((!q->stanzas || take_stanzas(q)) && q->in_ended)
			q->input_over = q->news = true;
		source_resume(q->in); /* perhaps it has been paused once more */
	}
	hold_input(q);
}

static void set_timer(struct iq *q)
{
	int64_t deadline_ms = table_deadline(q->open);

	if (q->login_paused || deadline_ms == INT64_MAX)
		deadline_ms = DEADLINE_NEVER;
	else
		deadline_ms += q->unread_ms;
	if (q->drain_deadline_ms < deadline_ms)
		deadline_ms = q->drain_deadline_ms;
	if (q->news && !sink_congested(q->out))
		deadline_ms = 0;
	loop_timer_set(q->loop, &q->timer, deadline_ms);
}

static void cannot_write(struct iq *q, int error)
{
	err_error("cannot write standard output: %s",
		error ? strerror(error) : "it does not take more");
	stop(q, error ? EXIT_IO : EXIT_TEMPORARY);
}

/* Once a turn, when all that has come has been looked at: a reply that is there is not late. */
static void on_turn(void *context)
{
	struct iq *q = context;

	if (q->stopping || !q->login)
		return;
	expire(q);
	if (q->ending && !q->finished)
		finish_open(q);
	print(q);
	give_up_first(q);
	if (q->in || q->login_paused)
		balance(q);
	if (q->input_over && q->slots_count == 0 && sink_flush(q->out, 0))
		stop(q, q->status);
	if (sink_error(q->out))
		cannot_write(q, sink_error(q->out));
	else if (q->drain_deadline_ms <= loop_now_ms(q->loop) && !q->stopping)
		cannot_write(q, 0);
	set_timer(q);
}

static void on_timer(void *context, int64_t now_ms)
{
	(void)context; /* on_turn() looks */
	(void)now_ms;
}

static void on_out_failed(void *context, int error)
{
	cannot_write(context, error);
}

static void on_up(void *context, const char *address)
{
	struct iq *q = context;

	q->address = address;
	q->up = true;
	if (q->config->each)
		each_begin(q);
	else if (q->config->batch)
		batch_begin(q);
	else
		request_send(q);
}

static void on_down(void *context, int status)
{
	struct iq *q = context;

	end(q, status ? status : EXIT_TEMPORARY, "connection lost");
	q->up = false;
}

/* The first one ends the batch, the second one waits for nobody. */
static void on_terminate(void *context, int signal_number)
{
	struct iq *q = context;

	(void)signal_number;
	if (q->drain_deadline_ms != DEADLINE_NEVER) {
		q->close_ms = 0;
		stop(q, EXIT_TEMPORARY);
		return;
	}
	q->drain_deadline_ms = loop_now_ms(q->loop) + DRAIN_MS;
	end(q, EXIT_TEMPORARY, "interrupted");
}

static void log_in(struct iq *q)
{
	static const struct login_ops ops = {.up = on_up, .stanza = on_stanza, .down = on_down};
	struct login_config login = q->config->login;
	int status = EXIT_DONE;

	if (!q->config->batch)
		status = request_end(q);
	if (q->config->json) { /* everything is looked at */
		login.index = READER_INDEX_ALL;
	}
	if (status == EXIT_DONE)
		q->login = login_new(q->loop, &login, &ops, q, &status);
	if (!q->login)
		stop(q, status);
}

static void on_payload(void *context, int fd, short revents)
{
	struct iq *q = context;
	char *to = buf_reserve(&q->request, READ_BYTES);
	ssize_t n;

	(void)revents;
	n = to ? read(fd, to, READ_BYTES) : -1;
	if (n > 0)
		buf_commit(&q->request, (size_t)n);
	if (n > 0 || (to && n < 0 && (errno == EINTR || errno == EAGAIN)))
		return;
	loop_fd_remove(q->loop, fd);
	if (n == 0) {
		q->request.max = BUF_NO_MAX;
		log_in(q);
	} else if (!to) {
		report(q, "too large", 0);
		stop(q, EXIT_DATA);
	} else {
		err_error("cannot read standard input: %s", strerror(errno));
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

static void iq_init(struct iq *q)
{
	const struct iq_config *c = q->config;
	const struct sink_config out = {.kind = WRITER_PIPE,
		.max_queue_bytes = login_queue_bytes(&c->login),
		.stanza_bytes = (size_t)c->login.max_stanza_bytes};
	const struct reader_config errors = {.kind = READER_PIPE,
		.max_stanza_bytes = buf_bytes(ESCAPED_STANZAS * c->login.max_stanza_bytes),
		.index = READER_INDEX_ALL};
	static const struct sink_ops out_ops = {.failed = on_out_failed};
	uint64_t seed[2];

	q->loop = loop_new();
	/* before the sink's: what is printed in a turn is written in it */
	loop_turn(q->loop, on_turn, q);
	loop_timer_init(&q->timer, on_timer, q);
	loop_signal(q->loop, SIGTERM, on_terminate, q);
	loop_signal(q->loop, SIGINT, on_terminate, q);
	q->last = &q->first;
	q->drain_deadline_ms = DEADLINE_NEVER;
	q->close_ms = CLOSE_MS;
	q->max_held_bytes = login_queue_bytes(&c->login);
	random_bytes(seed, sizeof(seed));
	random_bytes(q->run, sizeof(q->run));
	q->open = table_new((size_t)c->max_pending + 1, SIZE_MAX / 4, seed);
	q->errors = reader_new(&errors);
	buf_init(&q->line, BUF_NO_MAX);
	buf_init(&q->request, PAYLOAD_MAX_BYTES);
	jsonobjects_init(&q->gather, jsonlines_max_bytes(c->login.max_stanza_bytes));
	q->out = sink_new(q->loop, 1, &out, &out_ops, q);
	sink_lift_bound(q->out); /* print() minds it */
}

static void iq_free(struct iq *q)
{
	source_free(q->in);
	sink_free(q->out);
	login_free(q->login);
	while (table_count(q->open)) {
		struct slot *slot = slot_of(table_earliest(q->open));

		closed(q, slot);
		if (q->config->unordered)
			line_up(q, slot);
	}
	while (q->first) {
		struct slot *slot = q->first;

		q->first = slot->next;
		slot_free(slot);
	}
	table_free(q->open);
	reader_free(q->errors);
	jsonlines_free(q->objects);
	reader_free(q->each_reader);
	reader_free(q->stanzas);
	buf_free(&q->line);
	buf_free(&q->request);
	jsonobjects_free(&q->gather);
	loop_timer_clear(q->loop, &q->timer);
	loop_free(q->loop);
}

int iq_run(const struct iq_config *config)
{
	struct iq q = {.config = config};
	int status;

	iq_init(&q);
	if (!config->batch)
		request_begin(&q);
	if (payload_is_read(config))
		loop_fd(q.loop, 0, POLLIN, on_payload, &q);
	else
		log_in(&q);
	status = loop_run(q.loop);
	q.stopping = true;
	if (q.up)
		login_close(q.login, io_now_ms() + q.close_ms);
	if (status == EXIT_DONE)
		status = q.bad			       ? EXIT_DATA
			 : q.timed_out && !is_many(&q) ? EXIT_TIMED_OUT
			 : q.failed || q.timed_out     ? EXIT_NO
						       : EXIT_DONE;
	iq_free(&q);
	return status;
}
