#include "plumbing/local.h"

#include <stdlib.h>

#include "base/err.h"
#include "plumbing/json-input.h"
#include "xmpp/jsonlines.h"

struct local {
	struct local_ops ops;
	void *context;
	struct reader_config limits;
	struct source *source;
	struct json_input *objects; /* NULL: the input is XML */
	struct sink *sink;
	bool held, broken;
};

static void on_stanza(void *context, const struct stanza *s)
{
	struct local *l = context;

	l->ops.stanza(l->context, s);
}

static void on_line(void *context, struct span line, size_t number)
{
	struct local *l = context;

	json_input_line(l->objects, line, number);
}

static void on_bad(void *context, const char *what, size_t line)
{
	struct local *l = context;

	l->ops.bad(l->context, what, line);
}

static void on_ended(void *context, enum link_end why, int error, const char *text)
{
	struct local *l = context;

	(void)text;
	if (l->objects)
		json_input_end(l->objects);
	l->ops.ended(l->context, why == LINK_EOF ? 0 : error);
}

static void on_failed(void *context, int error)
{
	struct local *l = context;

	l->broken = true;
	l->ops.broken(l->context, error);
}

struct local *local_new(struct loop *loop, const struct local_config *config,
	const struct local_ops *ops, void *context)
{
	static const struct source_ops source_ops = {
		.stanza = on_stanza, .line = on_line, .bad = on_bad, .ended = on_ended};
	static const struct sink_ops sink_ops = {.failed = on_failed};
	const struct json_input_ops object_ops = {.stanza = ops->stanza, .bad = ops->bad};
	struct source_config source = {.reader = limits_of_reader(&config->login->limits,
					       READER_PIPE, config->login->index)};
	const struct sink_config sink = {
		.kind = WRITER_PIPE,
		.max_queue_bytes = login_queue_bytes(config->login),
		.stanza_bytes = (size_t)config->login->limits.stanza_bytes,
	};
	struct local *l = xcalloc(1, sizeof(*l));

	*l = (struct local){.ops = *ops, .context = context, .limits = source.reader};
	if (config->json) {
		l->objects =
			json_input_new(&source.reader, false, config->name, &object_ops, context);
		source.max_line_bytes = jsonlines_max_bytes(config->login->limits.stanza_bytes);
	}
	l->source = source_new(loop, config->in_fd, &source, &source_ops, l);
	l->sink = sink_new(loop, config->out_fd, &sink, &sink_ops, l);
	return l;
}

void local_free(struct local *l)
{
	if (!l)
		return;
	source_free(l->source);
	sink_free(l->sink);
	json_input_free(l->objects);
	free(l);
}

bool local_put(struct local *l, const struct stanza *s)
{
	struct writer *w = sink_writer(l->sink);

	if (l->broken)
		return true;
	return (l->objects ? jsonlines_append(s, SPAN_NONE, BUF_NO_MAX, w->out)
			   : writer_stanza(w, s, &STANZA_KEEP)) == WRITER_OK;
}

bool local_put_error(struct local *l, struct span to, struct span from, struct span id,
	enum stanza_error error, const char *text)
{
	struct reader *reader = reader_new(&l->limits);
	struct stanza s;
	bool done = !stanza_error_made(reader, to, from, id, error, text, &s) || local_put(l, &s);

	reader_free(reader);
	return done;
}

bool local_broken(const struct local *l)
{
	return l->broken;
}

bool local_congested(const struct local *l)
{
	return sink_congested(l->sink);
}

void local_hold(struct local *l, bool hold)
{
	source_hold(l->source, &l->held, hold);
}

void local_stop(struct local *l)
{
	source_stop(l->source);
}

bool local_flush(struct local *l, int64_t deadline_ms, int *error)
{
	bool done = sink_flush(l->sink, deadline_ms);

	*error = sink_error(l->sink);
	return done;
}
