#include "iq.h"

#include <fcntl.h>
#include <inttypes.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "err.h"
#include "jid.h"
#include "jsonlines.h"
#include "link.h"
#include "route.h"
#include "stanza-error.h"

#define CLOSE_MS 5000
#define PAYLOAD_MAX_BYTES (16 * 1024 * 1024)

/* A request and what came of it, in the order of the input. */
struct slot {
	struct slot *next;
	char *id;	       /* the user's; NULL: none */
	char *from, *to;       /* who must answer (to), whom (from); NULL: absent */
	char *expected;	       /* `to`, normalised: the answer's from; NULL: the own account */
	struct route_entry *e; /* NULL: answered */
	struct buf out;	       /* what is to be printed */
};

struct iq {
	const struct iq_config *config;
	struct loop *loop;
	struct login *login;
	struct link *in; /* --batch: stdin; else what was made of the options */
	struct link *out;
	int null_in, null_out;
	struct route *open;
	struct slot *first, **last; /* not printed yet */
	struct loop_timer timer;
	uint64_t serial;
	uint64_t run[2];
	bool up, input_over, paused, stopping;
	bool failed, timed_out, bad;
	int status;
};

static void stop(struct iq *q, int status)
{
	if (q->stopping)
		return;
	q->stopping = true;
	q->status = status;
	loop_timer_set(q->loop, &q->timer, 0); /* not from within somebody's callback */
}

/* Output ----------------------------------------------------------------- */

static void slot_free(struct slot *slot)
{
	free(slot->id);
	free(slot->from);
	free(slot->to);
	free(slot->expected);
	buf_free(&slot->out);
	free(slot);
}

/* Print what may be printed: in order, or whatever is answered. */
static void print(struct iq *q)
{
	struct slot **at = &q->first;

	while (*at) {
		struct slot *slot = *at;

		if (slot->e) {
			if (!q->config->unordered)
				break;
			at = &slot->next;
			continue;
		}
		link_send_raw(q->out, buf_span(&slot->out));
		*at = slot->next;
		if (q->last == &slot->next)
			q->last = at;
		slot_free(slot);
	}
	if (q->paused && route_count(q->open) < (size_t)q->config->max_pending) {
		q->paused = false;
		link_resume(q->in);
	}
	if (q->input_over && !q->first)
		stop(q, EXIT_DONE);
}

static char *copy(struct span s)
{
	return s.p ? xstrndup(s.p, s.n) : NULL;
}

/* The reply as it is to be seen: with the user's id. */
static void format(struct iq *q, struct slot *slot, const struct stanza *s)
{
	struct stanza_edit edit = {.id = span_of(slot->id)};
	struct writer w;

	writer_init(&w, &slot->out, WRITER_PIPE, 0);
	if (q->config->json) {
		jsonlines_append(s, edit.id, BUF_NO_MAX, &slot->out);
	} else if (q->config->stanza || q->config->batch) {
		writer_stanza(&w, s, &edit);
	} else if (s->type == TYPE_RESULT) {
		for (const struct xml_node *n = stanza_payload(s); n; n = n->next) {
			writer_begin(&w);
			writer_node(&w, s, n);
			writer_end(&w);
		}
	}
}

static void say_error(const struct stanza *s)
{
	const struct xml_node *error = xml_child(s->root, "", "error");
	const struct xml_node *text = xml_child(error, NS_STANZAS, "text");
	struct span condition = stanza_error_condition(s);
	struct buf words;

	buf_init(&words, 4096);
	if (text)
		xml_node_text(s->text, text, &words);
	err_error("%.*s%s%s", SPAN_ARG(condition.n ? condition : SPAN("undefined-condition")),
		buf_length(&words) ? ": " : "", buf_string(&words));
	buf_free(&words);
}

static void answered(struct iq *q, struct slot *slot, const struct stanza *s)
{
	route_remove(q->open, slot->e);
	slot->e = NULL;
	if (s->type == TYPE_ERROR) {
		q->failed = true;
		if (!q->config->batch && !q->timed_out)
			say_error(s);
	}
	format(q, slot, s);
	print(q);
}

/* An answer that we give ourselves: parsed, so that it goes the way of the others. */
static void answer_error(struct iq *q, struct slot *slot, enum stanza_error error, const char *text)
{
	struct reader_config config = {.kind = READER_PIPE,
		.index_depth = STANZA_JSON_INDEX_DEPTH,
		.index_nodes = STANZA_JSON_INDEX_NODES};
	struct reader *reader = reader_new(&config);
	struct buf bytes;
	struct writer w;
	struct stanza s;

	buf_init(&bytes, BUF_NO_MAX);
	writer_init(&w, &bytes, WRITER_PIPE, 0);
	stanza_error_send(
		&w, "iq", span_of(slot->from), span_of(slot->to), span_of(slot->id), error, text);
	reader_feed(reader, buf_span(&bytes).p, buf_length(&bytes));
	if (reader_next(reader, &s) == READER_STANZA)
		answered(q, slot, &s);
	buf_free(&bytes);
	reader_free(reader);
}

/* From the server -------------------------------------------------------- */

/* Whether s comes from whom the request went to. The own account's server may leave its address out
 * (RFC 6120 8.1.2.1). */
static bool from_expected(const struct iq *q, const struct slot *slot, const struct stanza *s)
{
	const char *own = login_bare(q->login);

	if (slot->expected && span_is(s->from, slot->expected))
		return true;
	if (login_is_component(q->login) || (slot->expected && strcmp(slot->expected, own) != 0))
		return false;
	return !s->from.n || span_is(s->from, own);
}

static void on_stanza(void *context, const struct stanza *s)
{
	struct iq *q = context;
	struct route_entry *e;
	struct slot *slot;

	if (stanza_is_request(s) && login_writer(q->login)) {
		stanza_error_send(login_writer(q->login), "iq", s->from, s->to, s->id,
			ERROR_SERVICE_UNAVAILABLE, NULL);
		return;
	}
	e = stanza_is_answer(s) && s->id.n ? route_find(q->open, s->id) : NULL;
	slot = e ? *(struct slot **)route_record(e) : NULL;
	if (!slot || !from_expected(q, slot, s))
		return;
	if (s->refusal)
		answer_error(q, slot, ERROR_POLICY_VIOLATION, "the reply is over a limit");
	else
		answered(q, slot, s);
}

/* Requests --------------------------------------------------------------- */

static void set_timer(struct iq *q)
{
	if (!q->stopping)
		loop_timer_set(q->loop, &q->timer, route_deadline(q->open));
}

static void report(struct iq *q, const char *what, size_t line)
{
	if (q->config->batch)
		err_error("stdin:%zu: %s", line, what);
	else
		err_error("the payload: %s", what);
	q->bad = true;
}

static void send_request(void *context, const struct stanza *s)
{
	struct iq *q = context;
	struct span to = s->to.n ? s->to : span_of(q->config->to);
	bool component = login_is_component(q->login);
	struct stanza_edit edit = {.to = to.n ? to : SPAN_NONE};
	struct route_entry *e;
	struct slot *slot;
	struct buf expected;
	char id[64];

	if (s->refusal || !stanza_is_request(s) || s->root->children_count != 1) {
		report(q, s->refusal ? "over a limit" : "no iq of type get or set with one element",
			s->line);
		return;
	}
	if (component && !to.n) {
		report(q, "no 'to' and no --to", s->line);
		return;
	}
	snprintf(id, sizeof(id), "%016" PRIx64 "%016" PRIx64 "-%" PRIu64, q->run[0], q->run[1],
		++q->serial);
	edit.id = span_of(id);
	if (component && !s->from.n)
		edit.from = span_of(login_bare(q->login));
	buf_init(&expected, BUF_NO_MAX);
	if (to.n && !jid_normalise(to, &expected)) {
		report(q, "'to' is no address", s->line);
		buf_free(&expected);
		return;
	}
	slot = xcalloc(1, sizeof(*slot));
	buf_init(&slot->out, BUF_NO_MAX);
	slot->id = copy(s->id);
	slot->to = to.n ? copy(to) : NULL;
	slot->from = copy(s->from.n ? s->from : edit.from);
	slot->expected = to.n ? xstrdup(buf_string(&expected)) : NULL;
	buf_free(&expected);
	e = route_add(q->open, edit.id, sizeof(struct slot *),
		loop_now_ms(q->loop) + q->config->reply_timeout_ms);
	*(struct slot **)route_record(e) = slot;
	slot->e = e;
	*q->last = slot;
	q->last = &slot->next;
	if (writer_stanza(login_writer(q->login), s, &edit) != WRITER_OK)
		answer_error(q, slot, ERROR_POLICY_VIOLATION, "larger than --max-send-bytes");
	set_timer(q);
	if (route_count(q->open) >= (size_t)q->config->max_pending && !q->paused && q->in) {
		q->paused = true;
		link_pause(q->in);
	}
}

static void on_timer(void *context, int64_t now_ms)
{
	struct iq *q = context;
	struct route_entry *e;

	if (q->stopping) {
		loop_stop(q->loop, q->status);
		return;
	}
	while ((e = route_earliest(q->open)) && e->deadline_ms <= now_ms) {
		if (!q->config->batch)
			err_error("no reply");
		q->timed_out = true;
		answer_error(
			q, *(struct slot **)route_record(e), ERROR_REMOTE_SERVER_TIMEOUT, NULL);
	}
	set_timer(q);
}

/* The one request that the options say, as a stanza. EXIT_DATA after saying what is wrong. */
static int send_options(struct iq *q)
{
	const struct iq_config *c = q->config;
	const struct reader_config config = {
		.kind = READER_PIPE, .max_stanza_bytes = PAYLOAD_MAX_BYTES, .index_depth = 2};
	struct reader *reader = reader_new(&config);
	struct buf text;
	struct writer w;
	struct stanza s, more;
	int error = 0;

	buf_init(&text, PAYLOAD_MAX_BYTES);
	writer_init(&w, &text, WRITER_PIPE, 0);
	buf_append_string(&text, c->type ? "<iq type='set'>" : "<iq type='get'>");
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
	} else if (c->payload && strcmp(c->payload, "-") != 0) {
		buf_append_string(&text, c->payload);
	} else {
		error = io_read_fd(0, PAYLOAD_MAX_BYTES - 64, &text);
	}
	buf_append_string(&text, "</iq>\n");
	/* "<a/></iq><iq>..." is no payload: looked at as a whole before anything is sent */
	for (int pass = 0; pass < 2 && !error && !q->bad; pass++) {
		reader_reset(reader);
		reader_feed(reader, buf_span(&text).p, buf_length(&text));
		reader_end(reader);
		if (reader_next(reader, &s) != READER_STANZA)
			report(q, reader_error(reader) ? reader_error(reader) : "no element", 0);
		else if (pass == 0 && reader_next(reader, &more) != READER_MORE)
			report(q, "not one element", 0);
		else if (pass == 1)
			send_request(q, &s);
	}
	if (error) {
		err_error("cannot read standard input: %s", strerror(-error));
		q->bad = true;
	}
	reader_free(reader);
	buf_free(&text);
	return q->bad ? EXIT_DATA : EXIT_DONE;
}

/* Ends ------------------------------------------------------------------- */

static void on_in_bad(void *context, const char *what, size_t line)
{
	report(context, what, line);
}

static void on_in_ended(void *context, enum link_end why, int error, const char *text)
{
	struct iq *q = context;

	(void)text;
	if (why != LINK_EOF) {
		err_error("cannot read standard input: %s", strerror(error));
		stop(q, EXIT_IO);
		return;
	}
	q->input_over = true;
	print(q);
}

static void on_out_ended(void *context, enum link_end why, int error, const char *text)
{
	(void)text;
	if (why == LINK_EOF)
		return;
	err_error("cannot write standard output: %s", strerror(error));
	stop(context, EXIT_IO);
}

static void ignore(void *context, const struct stanza *s)
{
	(void)context;
	(void)s;
}

static void on_up(void *context, const char *address)
{
	static const struct link_ops in_ops = {
		.stanza = send_request, .bad = on_in_bad, .ended = on_in_ended};
	struct iq *q = context;
	struct link_config config = {.reader = login_limits(&q->config->login)};
	int status;

	(void)address;
	q->up = true;
	if (q->config->batch) {
		config.reader.kind = READER_PIPE;
		config.reader.index_depth = 2;
		q->in = link_new(q->loop, 0, q->null_out, &config, &in_ops, q);
		return;
	}
	q->input_over = true;
	status = send_options(q);
	if (status != EXIT_DONE)
		stop(q, status);
}

static void on_down(void *context, int status)
{
	struct iq *q = context;

	q->up = false;
	stop(q, status ? status : EXIT_TEMPORARY);
}

static void on_terminate(void *context, int signal_number)
{
	(void)signal_number;
	stop(context, EXIT_TEMPORARY);
}

const char *iq_config_error(const struct iq_config *c)
{
	int own = c->ping + c->disco_info + c->disco_items + c->version_of;
	const char *wrong = login_config_error(&c->login);
	struct buf to;
	bool valid;

	if (wrong)
		return wrong;
	if (own > 1)
		return "only one of --ping, --disco-info, --disco-items, --version-of";
	if (own && (c->payload || c->type))
		return "--ping, --disco-info, --disco-items and --version-of are whole payloads";
	if (c->node && !c->disco_info && !c->disco_items)
		return "--node needs --disco-info or --disco-items";
	if (c->batch && (own || c->payload || c->type))
		return "--batch takes stanzas from standard input and no payload";
	if (c->unordered && !c->batch)
		return "--unordered needs --batch";
	if (c->stanza && c->json)
		return "only one of --stanza and --json";
	if (!c->to && !c->batch && c->login.domain)
		return "--to is needed";
	if (c->node && !xml_characters_valid(span_of(c->node)))
		return "--node is no text that XML can hold";
	if (!c->to)
		return NULL;
	buf_init(&to, BUF_NO_MAX);
	valid = jid_normalise(span_of(c->to), &to);
	buf_free(&to);
	return valid ? NULL : "--to is no address";
}

int iq_run(const struct iq_config *config)
{
	static const struct login_ops login_ops = {
		.up = on_up, .stanza = on_stanza, .down = on_down};
	static const struct link_ops out_ops = {.stanza = ignore, .ended = on_out_ended};
	const struct link_config out = {.reader = {.kind = READER_PIPE}};
	struct iq q = {.config = config, .loop = loop_new()};
	struct login_config login = config->login;
	uint64_t seed[2];
	int status = EXIT_TEMPORARY;

	q.last = &q.first;
	io_random(seed, sizeof(seed));
	io_random(q.run, sizeof(q.run));
	q.open = route_new((size_t)config->max_pending + 1, SIZE_MAX / 4, seed);
	q.null_in = open("/dev/null", O_RDONLY | O_CLOEXEC);
	q.null_out = open("/dev/null", O_WRONLY | O_CLOEXEC);
	loop_timer_init(&q.timer, on_timer, &q);
	loop_signal(q.loop, SIGTERM, on_terminate, &q);
	loop_signal(q.loop, SIGINT, on_terminate, &q);
	login.index_depth = STANZA_JSON_INDEX_DEPTH;
	login.index_nodes = STANZA_JSON_INDEX_NODES;
	q.out = link_new(q.loop, q.null_in, 1, &out, &out_ops, &q);
	q.login = login_new(q.loop, &login, &login_ops, &q, &status);
	if (q.login) {
		status = loop_run(q.loop);
		if (q.up)
			login_close(q.login, io_now_ms() + CLOSE_MS);
	}
	if (status != EXIT_IO && !link_flush(q.out, LOOP_NEVER)) {
		err_error("cannot write standard output: %s", strerror(link_write_error(q.out)));
		status = EXIT_IO;
	}
	if (status == EXIT_DONE)
		status = q.bad				 ? EXIT_DATA
			 : q.timed_out && !config->batch ? EXIT_TIMED_OUT
			 : q.failed || q.timed_out	 ? EXIT_NO
							 : EXIT_DONE;
	link_free(q.in);
	link_free(q.out);
	login_free(q.login);
	while (q.first) {
		struct slot *slot = q.first;

		q.first = slot->next;
		slot_free(slot);
	}
	route_free(q.open);
	loop_free(q.loop);
	close(q.null_in);
	close(q.null_out);
	return status;
}
