#include "plumbing/connect.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/deadline.h"
#include "base/err.h"
#include "xmpp/jid.h"
#include "xmpp/jsonlines.h"
#include "xmpp/jsonobjects.h"
#include "loop/sink.h"
#include "loop/source.h"
#include "plumbing/answers.h"
#include "plumbing/command.h"
#include "server/notify.h"
#include "server/roundtrip.h"
#include "base/table.h"
#include "xmpp/stanza-error.h"
#include "base/random.h"
#include "base/io.h"

#define PENDING_MAX_BYTES ((size_t)256 * 1024 * 1024)
/* From SIGTERM to SIGKILL for a command that stays when its connection is gone. */
#define COMMAND_KILL_MS 5000
/* for the server to have handled all that was sent, beyond --wait */
#define TRIP_MS 5000

enum phase {
	LOGGING_IN,
	RUNNING,
	WAITING, /* the input is over, answers are waited for */
	TRIP,	 /* what was sent last may still come back: see server/roundtrip.h */
	STOPPING,
	CLOSED, /* only the command may still be there */
};

struct connect {
	const struct connect_config *config;
	struct loop *loop;
	struct login *login;
	struct notify *notify;

	/* Where stanzas come from, and where they go to. */
	struct source *source;
	struct sink *sink;
	const char *source_name;
	bool sink_broken;
	bool source_paused, login_paused;

	struct reader_config limits; /* of all readers here */
	struct jsonlines *lines;     /* --json, or NULL */
	struct jsonobjects objects;  /* with it */

	struct command *command; /* NULL: none, or it has ended */
	int command_in, command_out;
	int command_status;
	int command_signal;  /* that we were sent and have passed on to it; 0: none */
	struct rlimit stack; /* as we found it */

	struct table *pending;
	struct buf key;
	uint64_t unanswered; /* given up because the table was full */
	struct loop_timer deadline;

	struct answers *answers; /* that the reader owes */
	struct loop_timer answers_due;
	struct roundtrip trip;
	bool unconfirmed; /* something was sent that may still come back */

	enum phase phase;
	bool interrupted;
	bool bad_input, bounced;
	int status; /* of the connection and the descriptors */
};

/* --- the end: what ends it calls stop(); it is done at the end of the turn, when nobody's
 * callback is on the stack */

static void stop(struct connect *c, int status)
{
	if (c->phase < STOPPING)
		c->phase = STOPPING;
	if (c->status == EXIT_DONE)
		c->status = status;
}

static void set_deadline(struct connect *c, int64_t ms)
{
	loop_timer_set(c->loop, &c->deadline, loop_now_ms(c->loop) + ms);
}

/* Whether anybody wants to see what comes back. */
static bool is_read(const struct connect *c)
{
	return !c->config->command || c->command || c->config->check;
}

/* Nothing is waited for any more, but that the server has handled what was sent. */
static void make_trip(struct connect *c)
{
	struct writer *w = login_writer(c->login);
	struct span own = span_of(login_bare(c->login));

	if (!c->unconfirmed || !is_read(c) || !w ||
		roundtrip_send(&c->trip, login_is_component(c->login) ? own : SPAN_NONE, own, w) !=
			WRITER_OK) {
		stop(c, EXIT_DONE);
		return;
	}
	c->phase = TRIP;
	set_deadline(c, TRIP_MS);
}

/* Look whether all is done. */
static void look(struct connect *c)
{
	if (c->phase != WAITING)
		return;
	/* Nobody reads the answers of a command that has ended. */
	if (table_count(c->pending) == 0 || (c->config->command && !c->command))
		make_trip(c);
}

/* --- open requests. What identifies an answer: who asked (a component has many addresses), who
 * was asked, the id. */

/* People type addresses; some servers answer for what was typed, others for what it means. */
static void key_address(struct buf *key, struct span typed)
{
	if (!typed.p || !jid_normalise(typed, key))
		buf_append_span(key, typed);
	buf_append_char(key, '\0');
}

/* A user asks from one address; without another it is the own account that is asked, or answers
 * (RFC 6120 8.1.1.1, 8.1.2.1). */
static struct span key_of(struct connect *c, struct span asker, struct span asked, struct span id)
{
	struct span bare = span_of(login_bare(c->login));
	bool component = login_is_component(c->login);

	buf_reset(&c->key);
	if (component)
		key_address(&c->key, asker.n ? asker : bare);
	key_address(&c->key, asked.n || component ? asked : bare);
	buf_append_span(&c->key, id);
	return buf_span(&c->key);
}

static void request_opened(struct connect *c, const struct stanza *s)
{
	int64_t deadline_ms = loop_now_ms(c->loop) + c->config->wait_ms;

	if (s->id.n == 0) {
		err_info("%s:%zu: a request without id: its answer is not waited for",
			c->source_name, s->line);
		return;
	}
	if (!table_add(c->pending, key_of(c, s->from, s->to, s->id), 0, deadline_ms)) {
		err_warn("%s:%zu: too many open requests: its answer is not waited for",
			c->source_name, s->line);
		c->unanswered++;
	}
}

static void request_closed(struct connect *c, const struct stanza *s)
{
	struct table_entry *e =
		s->id.n ? table_find(c->pending, key_of(c, s->to, s->from, s->id)) : NULL;

	if (!e)
		return;
	table_remove(c->pending, e);
	look(c);
}

static bool pending_full(const struct connect *c)
{
	return table_count(c->pending) >= (size_t)c->config->max_pending;
}

/* --- from the server. put() is the one place where a stanza becomes a line. */

static void put(struct connect *c, const struct stanza *s)
{
	struct writer *w;

	if (!c->sink || c->sink_broken)
		return;
	w = sink_writer(c->sink);
	if ((c->lines ? jsonlines_append(s, SPAN_NONE, BUF_NO_MAX, w->out)
		      : writer_stanza(w, s, &STANZA_KEEP)) == WRITER_OK)
		return;
	err_error("dropped a stanza: the output takes no more");
	stop(c, EXIT_IO);
}

/* An answer from here instead of from the one who was asked. */
static void put_error(struct connect *c, struct span to, struct span from, struct span id,
	enum stanza_error e, const char *text)
{
	struct reader *reader = reader_new(&c->limits);
	struct stanza s;

	if (stanza_error_made(reader, to, from, id, e, text, &s))
		put(c, &s);
	reader_free(reader);
}

static void refuse(struct connect *c, const struct stanza *s, enum stanza_error e, const char *text)
{
	struct writer *w = login_writer(c->login);

	if (!w || !stanza_is_request(s))
		return;
	/* a user's own server leaves out its address (roster pushes) */
	stanza_error_send(w, "iq", s->from, s->to, s->id, e, text);
}

static const char *refusal_text(enum stanza_refusal refusal)
{
	switch (refusal) {
	case STANZA_TOO_LARGE:
		return "stanza too large";
	case STANZA_TOO_DEEP:
		return "stanza too deep";
	case STANZA_TOO_MANY_ATTRIBUTES:
		return "too many attributes";
	case STANZA_WHOLE:
		break;
	}
	return "refused";
}

static void from_server(void *context, const struct stanza *s)
{
	struct connect *c = context;

	if (roundtrip_take(&c->trip, s)) {
		if (c->phase == TRIP && !c->trip.open)
			stop(c, EXIT_DONE);
		return;
	}
	if (s->refusal != STANZA_WHOLE) {
		err_error("dropped a stanza from '%.*s': %s", SPAN_ARG(s->from),
			refusal_text(s->refusal));
		c->bad_input = true;
		refuse(c, s, ERROR_POLICY_VIOLATION, refusal_text(s->refusal));
	} else {
		put(c, s);
		if (c->sink_broken)
			answers_reader_gone(c->answers);
		answers_asked(c->answers, s, loop_now_ms(c->loop));
		c->bounced |= s->kind == STANZA_MESSAGE && s->type == TYPE_ERROR;
	}
	if (stanza_is_answer(s))
		request_closed(c, s);
}

/* --- backpressure, both ways: looked at once a turn, and after each stanza sent */

static void balance(struct connect *c)
{
	bool hold_source, hold_login;

	if (!c->source || c->phase >= STOPPING)
		return;
	hold_source = login_congested(c->login) || pending_full(c);
	hold_login = sink_congested(c->sink);
	source_hold(c->source, &c->source_paused, hold_source);
	if (pending_full(c) && c->phase == RUNNING && c->deadline.deadline_ms == DEADLINE_NEVER)
		loop_timer_set(c->loop, &c->deadline, table_deadline(c->pending));
	if (hold_login != c->login_paused) {
		c->login_paused = hold_login;
		if (hold_login)
			login_pause(c->login);
		else
			login_resume(c->login);
	}
}

/* --- to the server. from_source() and from_json() are where a line has become a stanza. */

static void bad_line(struct connect *c, size_t line, const char *what)
{
	err_error("%s:%zu: %s", c->source_name, line, what);
	c->bad_input = true;
}

static void source_bad(void *context, const char *what, size_t line)
{
	bad_line(context, line, what);
}

/* Tell the one who waits for a stanza that it was not sent. */
static void too_large(struct connect *c, const struct stanza *s, struct writer *w)
{
	static const char text[] = "larger than the server takes";
	struct span from = s->from.n || !login_is_component(c->login)
				   ? s->from
				   : span_of(login_bare(c->login));

	bad_line(c, s->line, "stanza larger than --max-send-bytes");
	if (stanza_is_answer(s))
		stanza_error_send(w, "iq", s->to, from, s->id, ERROR_POLICY_VIOLATION, text);
	else if (stanza_is_request(s))
		put_error(c, from, s->to, s->id, ERROR_POLICY_VIOLATION, text);
}

static void send_stanza(struct connect *c, const struct stanza *s)
{
	struct writer *w = login_writer(c->login);
	struct stanza_edit edit = STANZA_KEEP;

	if (c->phase >= STOPPING || !w)
		return;
	if (s->refusal != STANZA_WHOLE) {
		bad_line(c, s->line, refusal_text(s->refusal));
		return;
	}
	if (s->kind == STANZA_OTHER) {
		bad_line(c, s->line, "neither iq, message nor presence");
		return;
	}
	if (stanza_is_answer(s) && !answers_given(c->answers, s)) {
		err_warn("%s:%zu: dropped: the request had to be answered meanwhile",
			c->source_name, s->line);
		return;
	}
	if (login_is_component(c->login) && s->from.n == 0)
		edit.from = span_of(login_bare(c->login));
	switch (writer_stanza(w, s, &edit)) {
	case WRITER_OK:
		if (stanza_is_request(s))
			request_opened(c, s);
		else
			c->unconfirmed = true;
		balance(c);
		break;
	case WRITER_TOO_LARGE:
		too_large(c, s, w);
		break;
	case WRITER_FULL:
		bad_line(c, s->line, "not sent: the server takes no more");
		break;
	}
}

static void from_source(void *context, const struct stanza *s)
{
	send_stanza(context, s);
}

static void from_object(struct connect *c, struct span object, size_t number)
{
	struct stanza s;
	struct span id;
	const char *wrong = jsonlines_read(c->lines, object, number, &s, &id);

	if (jsonlines_unknown(c->lines))
		err_warn("%s:%zu: a member that means nothing: %s", c->source_name, number,
			jsonlines_unknown(c->lines));
	if (wrong)
		bad_line(c, number, wrong);
	else
		send_stanza(c, &s);
}

static void from_json(void *context, struct span line, size_t number)
{
	struct connect *c = context;
	struct span object;
	const char *why;
	size_t broken;
	bool whole = jsonobjects_line(&c->objects, line, number, &object, &broken, &why);

	if (broken)
		bad_line(c, broken, why);
	if (whole)
		from_object(c, object, c->objects.first);
}

static void input_ended(struct connect *c, int64_t wait_ms)
{
	c->phase = WAITING;
	answers_reader_gone(c->answers);
	set_deadline(c, wait_ms);
	look(c);
}

static void source_ended(void *context, enum link_end why, int error, const char *text)
{
	struct connect *c = context;
	const char *what;
	size_t broken = jsonobjects_end(&c->objects, &what);

	(void)text;
	if (broken)
		bad_line(c, broken, what);
	if (why == LINK_READ_ERROR) {
		err_error("cannot read %s: %s",
			c->config->command ? "the command's output" : "standard input",
			strerror(error));
		stop(c, EXIT_IO);
	} else if (why == LINK_EOF && c->config->stay) {
		answers_reader_gone(c->answers);
	} else if (why == LINK_EOF) {
		input_ended(c, c->config->wait_ms);
	}
}

static void sink_failed(void *context, int error)
{
	struct connect *c = context;

	c->sink_broken = true;
	if (c->config->command) {
		err_info("the command has closed its standard input");
		return;
	}
	err_error("cannot write standard output: %s", strerror(error));
	stop(c, EXIT_IO);
}

/* --- time */

static void on_deadline(void *context, int64_t now_ms)
{
	struct connect *c = context;

	switch (c->phase) {
	case CLOSED: /* the command stays */
		if (c->command)
			command_signal(c->command, c->interrupted ? SIGKILL : SIGTERM);
		c->interrupted = true;
		set_deadline(c, COMMAND_KILL_MS);
		return;
	case WAITING:
		make_trip(c);
		return;
	case TRIP:
		err_info("the server has not answered the ping behind what was sent");
		stop(c, EXIT_DONE);
		return;
	case LOGGING_IN:
	case RUNNING:
	case STOPPING:
		break;
	}
	/* the table was full: what is older than anybody would wait makes room */
	while (table_deadline(c->pending) <= now_ms) {
		table_remove(c->pending, table_earliest(c->pending));
		c->unanswered++;
	}
}

/* --- the command */

static void on_signal(void *context, int signal_number);

static void close_fd(int *fd)
{
	if (*fd >= 0)
		close(*fd);
	*fd = -1;
}

static void command_ended(void *context, int status, int wait_status)
{
	struct connect *c = context;

	c->command = NULL;
	c->command_status = status;
	/* it has ended as it was told to: it does not catch the signal, or not yet */
	if (WIFSIGNALED(wait_status) && WTERMSIG(wait_status) == c->command_signal)
		c->command_status = 0;
	if (c->phase == CLOSED)
		loop_stop(c->loop, 0);
	else
		look(c); /* what it has written is still to be read */
}

/* An exit status. */
static int start_command(struct connect *c, const char *address)
{
	const char *domain = strchr(login_bare(c->login), '@');
	int status;

	setenv("PROTO", "XMPP", 1);
	setenv("XMPP_JID", address, 1);
	setenv("XMPP_DOMAIN", domain ? domain + 1 : login_bare(c->login), 1);
	c->command = command_start(c->loop, c->config->command, &c->stack, command_ended, c,
		&c->command_in, &c->command_out, &status);
	if (c->command) {
		loop_signal(c->loop, SIGHUP, on_signal, c);
		loop_signal(c->loop, SIGQUIT, on_signal, c);
	}
	return status;
}

/* --- the connection */

static void send_presence(struct connect *c)
{
	const char *show = c->config->presence;
	struct writer *w = login_writer(c->login);

	if (!show || !w)
		return;
	writer_begin(w);
	if (*show) {
		writer_raw(w, "<presence><show>");
		writer_text(w, span_of(show));
		writer_raw(w, "</show></presence>");
	} else {
		writer_raw(w, "<presence/>");
	}
	writer_end(w);
}

static void pipes_open(struct connect *c)
{
	static const struct source_ops source_ops = {
		.stanza = from_source, .line = from_json, .bad = source_bad, .ended = source_ended};
	static const struct sink_ops sink_ops = {.failed = sink_failed};
	const struct source_config source = {
		.reader = c->limits,
		.max_line_bytes =
			c->lines ? jsonlines_max_bytes(c->config->login.max_stanza_bytes) : 0,
	};
	const struct sink_config sink = {
		.kind = WRITER_PIPE,
		.max_queue_bytes = login_queue_bytes(&c->config->login),
		.stanza_bytes = c->limits.max_stanza_bytes,
	};
	bool command = c->config->command != NULL;

	c->source = source_new(
		c->loop, command ? c->command_out : STDIN_FILENO, &source, &source_ops, c);
	c->sink = sink_new(c->loop, command ? c->command_in : STDOUT_FILENO, &sink, &sink_ops, c);
}

static struct answers *answers_make(const struct connect *c)
{
	const struct connect_config *config = c->config;
	bool component = login_is_component(c->login);
	const struct answers_config answers = {
		.pings = !config->no_answers && (!component || config->auto_answer),
		.all = config->auto_answer,
		/* a component's domain may well have somebody else in a moment */
		.error = component ? ERROR_RECIPIENT_UNAVAILABLE : ERROR_SERVICE_UNAVAILABLE,
		.own = login_bare(c->login),
		.component = component,
		.max = (size_t)config->max_pending,
	};

	return answers_new(&answers);
}

static void up(void *context, const char *address)
{
	struct connect *c = context;
	int status = EXIT_DONE;

	if (!login_is_component(c->login))
		err_info("logged in as %s", address);
	c->phase = RUNNING;
	c->answers = answers_make(c);
	if (c->config->command)
		status = start_command(c, address);
	if (status != EXIT_DONE) {
		stop(c, status);
		return;
	}
	pipes_open(c);
	send_presence(c);
	notify_ready(c->notify);
}

static void down(void *context, int status)
{
	struct connect *c = context;

	stop(c, status);
}

static void on_signal(void *context, int signal_number)
{
	struct connect *c = context;

	if (c->command) {
		c->command_signal = signal_number;
		command_signal(c->command, signal_number);
		if (!c->interrupted && c->phase != CLOSED) {
			c->interrupted = true; /* it ends, and we with it */
			return;
		}
	}
	if (c->phase == LOGGING_IN || c->interrupted) {
		stop(c, EXIT_DONE);
		return;
	}
	c->interrupted = true;
	if (c->source)
		source_free(c->source);
	c->source = NULL;
	input_ended(
		c, c->config->wait_ms < CONNECT_DRAIN_MS ? c->config->wait_ms : CONNECT_DRAIN_MS);
}

static void answer(struct connect *c)
{
	struct turn turn = {login_writer(c->login), loop_now_ms(c->loop)};

	if (!c->answers)
		return;
	if (!login_congested(c->login))
		answers_tick(c->answers, &turn);
	loop_timer_set(c->loop, &c->answers_due,
		login_congested(c->login) ? DEADLINE_NEVER : answers_deadline(c->answers));
}

static void on_answers_due(void *context, int64_t now_ms)
{
	(void)context; /* end_of_turn() gives them */
	(void)now_ms;
}

static void close_sink(struct connect *c, int64_t until_ms)
{
	if (!c->sink)
		return;
	if (!c->sink_broken && !sink_flush(c->sink, until_ms) && !c->config->command &&
		c->status == EXIT_DONE) {
		err_error("cannot write standard output: %s",
			sink_error(c->sink) ? strerror(sink_error(c->sink))
					    : "it does not take more");
		c->status = EXIT_IO;
	}
	sink_free(c->sink);
	c->sink = NULL;
}

/* Close the stream and both ends of the local side; go on only for a command that still runs. */
static void end_of_turn(void *context)
{
	struct connect *c = context;
	int64_t until_ms = io_now_ms() + CONNECT_CLOSE_MS;

	command_look(c->command);
	if (c->phase != CLOSED)
		answer(c);
	if (c->phase != STOPPING) {
		balance(c);
		return;
	}
	c->phase = CLOSED;
	notify_stopping(c->notify);
	loop_timer_clear(c->loop, &c->answers_due);
	source_free(c->source);
	c->source = NULL;
	if (c->answers) { /* that is: the login was done */
		int status = login_close(c->login, until_ms);

		if (c->status == EXIT_DONE)
			c->status = status;
	}
	login_free(c->login);
	c->login = NULL;
	close_sink(c, until_ms);
	close_fd(&c->command_in);
	close_fd(&c->command_out);
	if (!c->command)
		loop_stop(c->loop, 0);
	else
		set_deadline(c, c->interrupted ? COMMAND_KILL_MS : c->config->wait_ms);
}

static int final_status(const struct connect *c)
{
	uint64_t open = table_count(c->pending) + c->unanswered;
	bool nobody_asks = c->config->command && c->command_status >= 0;

	if (c->status != EXIT_DONE)
		return c->status;
	if (c->command_status > 0)
		return c->command_status;
	if (open > 0 && !nobody_asks)
		err_error(
			"%" PRIu64 " %s without answer", open, open == 1 ? "request" : "requests");
	if (c->bad_input)
		return EXIT_DATA;
	if (c->config->check && c->bounced)
		return EXIT_NO;
	return open > 0 && !nobody_asks ? EXIT_TIMED_OUT : EXIT_DONE;
}

const char *connect_check(const struct connect_config *config)
{
	static const char *const shows[] = {"", "away", "chat", "dnd", "xa"};
	size_t i;

	if (config->presence) {
		if (config->login.domain)
			return "--presence goes with --jid";
		for (i = 0; i < sizeof(shows) / sizeof(*shows); i++)
			if (strcmp(config->presence, shows[i]) == 0)
				break;
		if (i == sizeof(shows) / sizeof(*shows))
			return "--presence is away, chat, dnd or xa";
	}
	if (config->stay && config->command)
		return "--stay is for standard input: a COMMAND's end is the end";
	if (config->auto_answer && config->no_answers)
		return "only one of --auto-answer and --no-answers";
	return login_check(&config->login);
}

int connect_run(struct connect_config *config)
{
	static const struct login_ops ops = {up, from_server, down};
	struct connect c = {.config = config,
		.command_in = -1,
		.command_out = -1,
		.command_status = -1,
		.source_name = config->command ? config->command[0] : "stdin"};
	uint64_t seed[2];
	int status;

	getrlimit(RLIMIT_STACK, &c.stack);
	random_bytes(seed, sizeof(seed));
	c.loop = loop_new();
	c.notify = notify_new((int)config->ready_fd);
	c.pending = table_new((size_t)config->max_pending, PENDING_MAX_BYTES, seed);
	buf_init(&c.key, BUF_NO_MAX);
	loop_timer_init(&c.deadline, on_deadline, &c);
	loop_timer_init(&c.answers_due, on_answers_due, &c);
	roundtrip_init(&c.trip);
	loop_signal(c.loop, SIGTERM, on_signal, &c);
	loop_signal(c.loop, SIGINT, on_signal, &c);
	loop_turn(c.loop, end_of_turn, &c);

	if (config->json) { /* everything is looked at */
		config->login.index = READER_INDEX_ALL;
	}
	config->login.from_is_read = true;
	c.limits = login_limits(&config->login);
	c.limits.kind = READER_PIPE;
	if (config->json)
		c.lines = jsonlines_new(&c.limits, false);
	jsonobjects_init(&c.objects, jsonlines_max_bytes(config->login.max_stanza_bytes));

	c.login = login_new(c.loop, &config->login, &ops, &c, &status);
	if (c.login) {
		status = loop_run(c.loop);
		if (status == EXIT_DONE)
			status = final_status(&c);
	}
	loop_timer_clear(c.loop, &c.deadline);
	loop_timer_clear(c.loop, &c.answers_due);
	if (c.answers)
		answers_free(c.answers);
	login_free(c.login);
	table_free(c.pending);
	buf_free(&c.key);
	jsonlines_free(c.lines);
	jsonobjects_free(&c.objects);
	notify_free(c.notify);
	loop_free(c.loop);
	return status;
}
