#include "plumbing/json-tool.h"

#include "base/deadline.h"
#include "base/err.h"
#include "xmpp/jsonlines.h"
#include "xmpp/jsonobjects.h"

/* From stanzas: a filter like the others, but its output is JSON. */

static void on_stanza(void *self, const struct stanza *s, struct turn *turn)
{
	struct jsontool_config *config = self;

	if (s->refusal)
		return; /* the service has reported it */
	if (jsonlines_append(s, SPAN_NONE, BUF_NO_MAX, turn->writer->out) == WRITER_OK)
		return;
	err_error("stdin:%zu: too large as JSON", s->line);
	config->bad = true;
}

int jsontool_from_stanzas(struct jsontool_config *config)
{
	static const struct service_ops ops = {.stanza = on_stanza};
	int status;

	config->service.index = READER_INDEX_ALL;
	/* a stanza of nothing but empty elements becomes this much JSON */
	config->service.limits.queue_bytes +=
		(int64_t)jsonlines_max_bytes(config->service.limits.stanza_bytes);
	status = service_run(&config->service, &ops, config, NULL);
	return status == EXIT_DONE && config->bad ? EXIT_DATA : status;
}

/* To stanzas: objects in, stanzas out. */

struct to_stanzas {
	const struct jsontool_config *config;
	struct loop *loop;
	struct link *link;
	struct jsonobjects objects;
	struct buf unknown; /* members of the last one */
	bool bad;
};

static void report(void *context, const char *what, size_t line)
{
	struct to_stanzas *t = context;

	err_error("stdin:%zu: %s", line, what);
	t->bad = true;
}

static void on_object(struct to_stanzas *t, struct span object, size_t number)
{
	const struct stanza_json_aside aside = {.unknown = &t->unknown};
	enum writer_status status = WRITER_OK;
	const char *wrong =
		stanza_json_excess(object, (size_t)t->config->service.limits.stanza_bytes);

	buf_reset(&t->unknown);
	if (!wrong)
		wrong = stanza_json_write(object, NULL, &aside, link_writer(t->link), &status);
	if (buf_length(&t->unknown))
		err_warn("stdin:%zu: a member that means nothing: %s", number,
			buf_string(&t->unknown));
	if (wrong)
		report(t, wrong, number);
	else if (status != WRITER_OK)
		report(t, "stanza too large", number);
}

static void on_line(void *context, struct span line, size_t number)
{
	struct to_stanzas *t = context;
	struct span object;
	const char *why;
	size_t broken;
	bool whole = jsonobjects_line(&t->objects, line, number, &object, &broken, &why);

	if (broken)
		report(t, why, broken);
	if (whole)
		on_object(t, object, t->objects.first);
}

static void on_ended(void *context, enum link_end why, int error, const char *text)
{
	struct to_stanzas *t = context;
	const char *what;
	size_t broken = jsonobjects_end(&t->objects, &what);

	(void)text;
	if (broken)
		report(t, what, broken);
	if (why == LINK_READ_ERROR)
		err_error("cannot read standard input: %s", strerror(error));
	else if (why != LINK_EOF)
		err_error("cannot write standard output: %s", strerror(error));
	loop_stop(t->loop, why == LINK_EOF ? EXIT_DONE : EXIT_IO);
}

int jsontool_to_stanzas(const struct jsontool_config *config)
{
	static const struct link_ops ops = {.line = on_line, .bad = report, .ended = on_ended};
	const struct link_config link = {
		.reader = {.kind = READER_PIPE,
			.max_stanza_bytes = (size_t)config->service.limits.stanza_bytes},
		.max_send_bytes = (size_t)config->service.limits.stanza_bytes,
		.max_queue_bytes = (size_t)config->service.limits.queue_bytes,
		.max_line_bytes = (size_t)config->max_line_bytes,
	};
	struct to_stanzas t = {.config = config, .loop = loop_new()};
	int status;

	jsonobjects_init(&t.objects, (size_t)config->max_line_bytes);
	buf_init(&t.unknown, BUF_NO_MAX);
	t.link = link_new(t.loop, 0, 1, &link, &ops, &t);
	status = loop_run(t.loop);
	if (status == EXIT_DONE && !link_flush(t.link, DEADLINE_NEVER)) {
		err_error("cannot write standard output: %s", strerror(link_write_error(t.link)));
		status = EXIT_IO;
	}
	link_free(t.link);
	loop_free(t.loop);
	jsonobjects_free(&t.objects);
	buf_free(&t.unknown);
	if (status == EXIT_DONE && t.bad)
		status = EXIT_DATA;
	return status;
}
