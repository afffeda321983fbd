#include "plumbing/connect.h"

#include <inttypes.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/deadline.h"
#include "base/err.h"
#include "base/io.h"
#include "plumbing/answers.h"
#include "plumbing/command.h"
#include "plumbing/local.h"
#include "plumbing/unanswered.h"
#include "server/notify.h"

/* from SIGTERM to SIGKILL for a command that does not end when its connection is gone */
#define COMMAND_KILL_MS 5000
/* for the server to handle all that was sent, after --wait */
#define TRIP_MS 5000

enum phase {
	LOGGING_IN,
	RUNNING,
	WAITING,  /* the input is over, answers are waited for */
	TRIP,	  /* the round trip behind what was sent last (server/roundtrip.h) is not over */
	STOPPING, /* the end of the turn closes everything */
	CLOSED,	  /* only the command may still run */
};

struct connect {
	const struct connect_config *config;
	struct loop *loop;
	struct login *login;
	struct notify *notify;
	enum phase phase;
	struct loop_timer
		deadline; /* of the phase; RUNNING: of requests, once there are too many */

	struct local local; /* standard input and output, or the command's; open after the login */
	const char *local_name;
	bool login_paused;

	struct command *command; /* NULL: none, or it has ended */
	int command_in, command_out;
	int command_status;  /* -1: it has not ended */
	int command_signal;  /* the signal that we passed on to it; 0: none */
	struct rlimit stack; /* the limit that we were started with */

	struct unanswered requests; /* sent, and not answered yet */
	struct answers *answers; /* requests that the reader has to answer; NULL before the login */
	struct loop_timer answers_due;
	struct roundtrip trip;
	bool unconfirmed; /* something was sent that may still come back */

	bool interrupted; /* by a signal */
	bool bad_input, bounced;
	int status; /* of the connection and the descriptors */
};

/* --- the end: stop() begins it, end_of_turn() does it, when no callback is on the stack */

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

/* Whether anything reads what comes back. */
static bool is_read(const struct connect *c)
{
	return !c->config->command || c->command || c->config->check;
}

/* All answers are there: wait until the server has handled what was sent, then stop. */
static void make_trip(struct connect *c)
{
	if (!c->unconfirmed || !is_read(c) || login_roundtrip(c->login, &c->trip) != WRITER_OK) {
		stop(c, EXIT_DONE);
		return;
	}
	c->phase = TRIP;
	set_deadline(c, TRIP_MS);
}

/* Go on to the round trip once no answer is waited for. */
static void look_for_end(struct connect *c)
{
	if (c->phase != WAITING)
		return;
	/* The answers of a command that has ended are not read. */
	if (table_count(c->requests.open) == 0 || (c->config->command && !c->command))
		make_trip(c);
}

/* --- from the server */

static void local_full(struct connect *c)
{
	err_error("dropped a stanza: the output takes no more");
	stop(c, EXIT_IO);
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
		if (!local_put(&c->local, s))
			local_full(c);
		if (c->local.broken)
			answers_reader_gone(c->answers);
		answers_asked(c->answers, s, loop_now_ms(c->loop));
		c->bounced |= s->kind == STANZA_MESSAGE && s->type == TYPE_ERROR;
	}
	if (stanza_is_answer(s) && unanswered_take(&c->requests, s))
		look_for_end(c);
}

/* --- backpressure, both ways: looked at once a turn, and after each stanza sent */

static void balance(struct connect *c)
{
	bool full = unanswered_full(&c->requests), hold_login;

	if (!c->local.source || c->phase >= STOPPING)
		return;
	source_hold(c->local.source, &c->local.held, full || login_congested(c->login));
	if (full && c->phase == RUNNING && c->deadline.deadline_ms == DEADLINE_NEVER)
		loop_timer_set(c->loop, &c->deadline, table_deadline(c->requests.open));
	hold_login = sink_congested(c->local.sink);
	if (hold_login != c->login_paused)
		(hold_login ? login_pause : login_resume)(c->login);
	c->login_paused = hold_login;
}

/* --- to the server */

static void bad_line(void *context, const char *what, size_t line)
{
	struct connect *c = context;

	err_error("%s:%zu: %s", c->local_name, line, what);
	c->bad_input = true;
}

/* Tell the local sender, or the peer that waits for an answer, that the stanza was not sent. */
static void too_large(struct connect *c, const struct stanza *s, struct writer *w)
{
	static const char text[] = "larger than the server takes";
	struct span from = s->from.n ? s->from : login_from(c->login);

	bad_line(c, "stanza larger than --max-send-bytes", s->line);
	if (stanza_is_answer(s))
		stanza_error_send(w, "iq", s->to, from, s->id, ERROR_POLICY_VIOLATION, text);
	else if (stanza_is_request(s) &&
		 !local_put_error(&c->local, from, s->to, s->id, ERROR_POLICY_VIOLATION, text))
		local_full(c);
}

static void request_sent(struct connect *c, const struct stanza *s)
{
	if (s->id.n == 0)
		err_info("%s:%zu: a request without id: its answer is not waited for",
			c->local_name, s->line);
	else if (!unanswered_add(&c->requests, s, loop_now_ms(c->loop) + c->config->wait_ms))
		err_warn("%s:%zu: too many open requests: its answer is not waited for",
			c->local_name, s->line);
}

/* Why the stanza cannot be sent, NULL if it can. */
static const char *unsendable(const struct stanza *s)
{
	if (s->refusal != STANZA_WHOLE)
		return refusal_text(s->refusal);
	return s->kind == STANZA_OTHER ? "neither iq, message nor presence" : NULL;
}

static void from_local(void *context, const struct stanza *s)
{
	struct connect *c = context;
	struct writer *w = login_writer(c->login);
	struct stanza_edit edit = STANZA_KEEP;
	const char *wrong = unsendable(s);

	if (c->phase >= STOPPING || !w)
		return;
	if (wrong) {
		bad_line(c, wrong, s->line);
		return;
	}
	if (stanza_is_answer(s) && !answers_given(c->answers, s)) {
		err_warn("%s:%zu: dropped: the request had to be answered meanwhile", c->local_name,
			s->line);
		return;
	}
	if (s->from.n == 0)
		edit.from = login_from(c->login);
	switch (writer_stanza(w, s, &edit)) {
	case WRITER_OK:
		if (stanza_is_request(s))
			request_sent(c, s);
		else
			c->unconfirmed = true;
		balance(c);
		break;
	case WRITER_TOO_LARGE:
		too_large(c, s, w);
		break;
	case WRITER_FULL:
		bad_line(c, "not sent: the server takes no more", s->line);
		break;
	}
}

static void input_ended(struct connect *c, int64_t wait_ms)
{
	c->phase = WAITING;
	answers_reader_gone(c->answers);
	set_deadline(c, wait_ms);
	look_for_end(c);
}

static void local_line(void *context, struct span line, size_t number)
{
	struct connect *c = context;

	json_input_line(c->local.objects, line, number);
}

static void local_ended(void *context, enum link_end why, int error, const char *text)
{
	struct connect *c = context;

	(void)text;
	if (c->local.objects)
		json_input_end(c->local.objects);
	if (why != LINK_EOF) {
		err_error("cannot read %s: %s",
			c->config->command ? "the command's output" : "standard input",
			strerror(error));
		stop(c, EXIT_IO);
	} else if (c->config->stay) {
		answers_reader_gone(c->answers);
	} else {
		input_ended(c, c->config->wait_ms);
	}
}

static void output_failed(void *context, int error)
{
	struct connect *c = context;

	c->local.broken = true;
	if (c->config->command) {
		err_info("the command has closed its standard input");
		return;
	}
	err_error("cannot write standard output: %s", strerror(error));
	stop(c, EXIT_IO);
}

/* --- time */

static void on_deadline(void *context)
{
	struct connect *c = context;

	switch (c->phase) {
	case CLOSED: /* the command has not ended */
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
	/* too many requests are open: make room, forget those that have waited long enough */
	unanswered_give_up(&c->requests, loop_now_ms(c->loop));
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
	/* It has ended as it was told to, and does not catch the signal, or did not yet. */
	if (WIFSIGNALED(wait_status) && WTERMSIG(wait_status) == c->command_signal)
		c->command_status = 0;
	if (c->phase == CLOSED)
		loop_stop(c->loop, 0);
	else
		look_for_end(c); /* what it has written is still to be read */
}

/* Returns an exit status. */
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

static void open_local(struct connect *c)
{
	static const struct source_ops source_ops = {
		.stanza = from_local, .line = local_line, .bad = bad_line, .ended = local_ended};
	static const struct sink_ops sink_ops = {.failed = output_failed};
	bool command = c->config->command != NULL;
	const struct local_config config = {
		.login = &c->config->login,
		.name = c->local_name,
		.in_fd = command ? c->command_out : STDIN_FILENO,
		.out_fd = command ? c->command_in : STDOUT_FILENO,
		.json = c->config->json,
	};

	local_open(&c->local, c->loop, &config, &source_ops, &sink_ops, c);
}

static struct answers *answers_make(const struct connect *c)
{
	const struct connect_config *config = c->config;
	bool component = login_is_component(c->login);
	const struct answers_config answers = {
		.pings = !config->no_answers && (!component || config->auto_answer),
		.all = config->auto_answer,
		/* another program may serve a component's domain in a moment */
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
	open_local(c);
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
			c->interrupted = true; /* the command ends, and we after it */
			return;
		}
	}
	if (c->phase == LOGGING_IN || c->interrupted) {
		stop(c, EXIT_DONE);
		return;
	}
	c->interrupted = true;
	if (c->local.source)
		source_stop(c->local.source);
	input_ended(
		c, c->config->wait_ms < CONNECT_DRAIN_MS ? c->config->wait_ms : CONNECT_DRAIN_MS);
}

static void give_answers(struct connect *c)
{
	struct turn turn = {login_writer(c->login), loop_now_ms(c->loop)};

	if (!c->answers)
		return;
	if (!login_congested(c->login))
		answers_tick(c->answers, &turn);
	loop_timer_set(c->loop, &c->answers_due,
		login_congested(c->login) ? DEADLINE_NEVER : answers_deadline(c->answers));
}

/* Write what the output still takes. */
static void close_local(struct connect *c, int64_t until_ms)
{
	struct sink *out = c->local.sink;

	if (out && !c->local.broken && !sink_flush(out, until_ms) && !c->config->command &&
		c->status == EXIT_DONE) {
		err_error("cannot write standard output: %s",
			sink_error(out) ? strerror(sink_error(out)) : "it does not take more");
		c->status = EXIT_IO;
	}
	local_close(&c->local);
	close_fd(&c->command_in);
	close_fd(&c->command_out);
}

static void close_login(struct connect *c, int64_t until_ms)
{
	bool up = c->answers != NULL;
	int status = up ? login_close(c->login, until_ms) : EXIT_DONE;

	if (c->status == EXIT_DONE)
		c->status = status;
	login_free(c->login);
	c->login = NULL;
}

/* Close the stream and the local side; go on only for a command that still runs. */
static void end_of_turn(void *context)
{
	struct connect *c = context;
	int64_t until_ms = io_now_ms() + CONNECT_CLOSE_MS;

	command_stop_with(c->command);
	if (c->phase != CLOSED)
		give_answers(c);
	if (c->phase != STOPPING) {
		balance(c);
		return;
	}
	c->phase = CLOSED;
	notify_stopping(c->notify);
	loop_timer_clear(c->loop, &c->answers_due);
	if (c->local.source)
		source_stop(c->local.source);
	close_login(c, until_ms);
	close_local(c, until_ms);
	if (!c->command)
		loop_stop(c->loop, 0);
	else
		set_deadline(c, c->interrupted ? COMMAND_KILL_MS : c->config->wait_ms);
}

static int final_status(const struct connect *c)
{
	uint64_t open = table_count(c->requests.open) + c->requests.given_up;
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

static void connect_init(struct connect *c, struct connect_config *config)
{
	*c = (struct connect){.config = config,
		.command_in = -1,
		.command_out = -1,
		.command_status = -1,
		.local_name = config->command ? config->command[0] : "stdin"};
	getrlimit(RLIMIT_STACK, &c->stack);
	c->loop = loop_new();
	c->notify = notify_new((int)config->ready_fd);
	loop_timer_init(&c->deadline, on_deadline, c);
	loop_timer_init(&c->answers_due, loop_only_turns, NULL);
	roundtrip_init(&c->trip);
	loop_signal(c->loop, SIGTERM, on_signal, c);
	loop_signal(c->loop, SIGINT, on_signal, c);
	loop_turn(c->loop, end_of_turn, c);
	if (config->json)
		config->login.index = READER_INDEX_ALL;
	config->login.from_is_read = true;
}

static void connect_free(struct connect *c)
{
	loop_timer_clear(c->loop, &c->deadline);
	loop_timer_clear(c->loop, &c->answers_due);
	if (c->answers)
		answers_free(c->answers);
	login_free(c->login);
	local_close(&c->local);
	unanswered_free(&c->requests);
	notify_free(c->notify);
	loop_free(c->loop);
}

int connect_run(struct connect_config *config)
{
	static const struct login_ops ops = {up, from_server, down};
	struct connect c;
	int status;

	connect_init(&c, config);
	c.login = login_new(c.loop, &config->login, &ops, &c, &status);
	if (c.login) {
		unanswered_init(&c.requests, login_bare(c.login), login_is_component(c.login),
			(size_t)config->max_pending);
		status = loop_run(c.loop);
		if (status == EXIT_DONE)
			status = final_status(&c);
	}
	connect_free(&c);
	return status;
}
