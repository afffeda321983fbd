/* echo-service: the smallest program on service_run(), for the tests of what all of them share.
 *
 * Each IQ get or set gets its payload back as a result, after --delay; a message goes back to its
 * sender; presence is dropped. Requests held when it ends get wait/recipient-unavailable. An iq
 * whose payload is named "abort" is taken for a broken stream, one named "stop" ends the program
 * with status 42, "big" answers with a payload of as many bytes as its text says.
 */
#include <stdlib.h>

#include "base/deadline.h"
#include "base/err.h"
#include "server/service.h"
#include "xmpp/stanza-error.h"

enum { HELD_MAX = 65536 };

struct held {
	char *from, *to, *id;
	int64_t deadline_ms;
};

static struct echo {
	int64_t delay_ms;
	struct held held[HELD_MAX]; /* in order of their deadlines */
	size_t first, last;
	bool draining, finishing;
	struct service *service;
} echo;

static char *copy(struct span s)
{
	return xstrndup(s.p ? s.p : "", s.n);
}

static void drop(struct held *h)
{
	free(h->from);
	free(h->to);
	free(h->id);
}

static void answer(struct echo *e, const struct stanza *s, struct writer *w)
{
	const struct xml_node *payload = stanza_payload(s);

	if (payload && span_is(payload->name, "stop")) {
		service_stop(e->service, 42);
	} else if (payload && span_is(payload->name, "big")) {
		struct buf text;
		char line[64] = "";

		buf_init(&text, 32);
		xml_node_text(s->text, payload, &text);
		memset(line, 'x', sizeof(line) - 1);
		writer_begin(w);
		writer_raw(w, "<iq type='result'");
		writer_attribute(w, "to", s->from);
		writer_attribute(w, "from", s->to);
		writer_attribute(w, "id", s->id);
		writer_raw(w, "><big>");
		for (long left = atol(buf_string(&text)); left > 0; left -= 63)
			writer_raw(w, line);
		writer_raw(w, "</big></iq>");
		if (writer_end(w) != WRITER_OK)
			stanza_error_reply(w, s, ERROR_POLICY_VIOLATION, NULL);
		buf_free(&text);
		return;
	}
	writer_stanza(w, s,
		&(struct stanza_edit){.to = s->from.p ? s->from : SPAN(""),
			.from = s->to.p ? s->to : SPAN(""),
			.type = s->kind == STANZA_IQ ? SPAN("result") : SPAN_NONE});
}

static void on_stanza(void *self, const struct stanza *s, struct turn *turn)
{
	struct echo *e = self;

	if (s->kind == STANZA_MESSAGE && s->type != TYPE_ERROR && s->refusal == STANZA_WHOLE)
		answer(e, s, turn->writer);
	if (!stanza_is_request(s))
		return;
	if (s->refusal != STANZA_WHOLE) {
		stanza_error_reply(turn->writer, s, ERROR_POLICY_VIOLATION, NULL);
	} else if (e->draining) {
		stanza_error_reply(turn->writer, s, ERROR_RECIPIENT_UNAVAILABLE, NULL);
	} else if (e->delay_ms == 0) {
		answer(e, s, turn->writer);
	} else if (e->last == HELD_MAX) {
		stanza_error_reply(turn->writer, s, ERROR_RESOURCE_CONSTRAINT, NULL);
	} else {
		e->held[e->last++] = (struct held){
			copy(s->from), copy(s->to), copy(s->id), turn->now_ms + e->delay_ms};
	}
}

static int64_t deadline(const void *self)
{
	const struct echo *e = self;

	if (e->first == e->last)
		return DEADLINE_NEVER;
	return e->finishing ? 0 : e->held[e->first].deadline_ms;
}

/* Answer what is due, until the output is full. */
static void tick(void *self, struct turn *turn)
{
	struct echo *e = self;
	enum writer_status status = WRITER_OK;

	while (deadline(e) <= turn->now_ms) {
		struct held *h = &e->held[e->first];

		if (e->finishing) {
			status = stanza_error_send(turn->writer, "iq", span_of(h->from),
				span_of(h->to), span_of(h->id), ERROR_RECIPIENT_UNAVAILABLE, NULL);
		} else {
			writer_begin(turn->writer);
			writer_raw(turn->writer, "<iq type='result'");
			writer_attribute(turn->writer, "to", span_of(h->from));
			writer_attribute(turn->writer, "from", span_of(h->to));
			writer_attribute(turn->writer, "id", span_of(h->id));
			writer_raw(turn->writer, "/>");
			status = writer_end(turn->writer);
		}
		if (status == WRITER_FULL)
			return;
		drop(h);
		e->first++;
	}
}

static void drain(void *self, struct turn *turn)
{
	struct echo *e = self;

	(void)turn;
	e->draining = true;
}

static void finish(void *self, struct turn *turn)
{
	struct echo *e = self;

	e->finishing = true;
	tick(e, turn);
}

static size_t open_requests(const void *self)
{
	const struct echo *e = self;

	return e->last - e->first;
}

static bool reload(void *context, struct turn *turn)
{
	(void)context;
	err_note("reloaded%s", turn->writer ? "" : " while not connected");
	return true;
}

static size_t metrics(const void *self, struct metric *out, size_t max)
{
	const struct echo *e = self;

	if (max < 1)
		return 0;
	out[0] = (struct metric){"held", NULL, "Requests held so far", METRIC_COUNTER, e->last};
	return 1;
}

static void up(void *self, struct turn *turn)
{
	(void)self;
	(void)turn;
	err_note("up");
}

static void down(void *self, struct turn *turn)
{
	(void)self;
	(void)turn;
	err_note("down");
}

static void attach(void *context, struct service *service, struct loop *loop)
{
	struct echo *e = context;

	(void)loop;
	e->service = service;
}

static struct service_config config = SERVICE_CONFIG_INIT;

static const struct opt options[] = {
	{"delay", 0, OPT_SECONDS, "SECONDS", "hold each request this long (default 0)",
		&echo.delay_ms, .min = 0, .max = 86400000},
	{.kind = OPT_ROWS, .rows = service_options, .target = &config},
	{0},
};

static const struct opt limits[] = {
	{.kind = OPT_ROWS, .rows = stream_limits, .target = &config.limits}, {0}};

static int run(const struct service_config *c)
{
	static const struct service_ops ops = {
		.up = up,
		.down = down,
		.stanza = on_stanza,
		.tick = tick,
		.deadline = deadline,
		.drain = drain,
		.finish = finish,
		.open_requests = open_requests,
		.metrics = metrics,
	};

	return service_run(c, &ops, &echo,
		&(struct service_hooks){.context = &echo, .reload = reload, .attach = attach});
}

int main(int argc, char **argv)
{
	static const struct opt_program program = {.name = "echo-service",
		.summary = "answer each request with itself",
		.options = options,
		.limits = limits};

	return opt_main(&program, argc, argv, &config, opt_no_check, run);
}
