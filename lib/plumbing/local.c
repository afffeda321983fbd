#include "plumbing/local.h"

#include "xmpp/jsonlines.h"

void local_open(struct local *l, struct loop *loop, const struct local_config *config,
	const struct source_ops *source_ops, const struct sink_ops *sink_ops, void *context)
{
	struct source_config source = {.reader = limits_of_reader(&config->login->limits,
					       READER_PIPE, config->login->index)};
	const struct sink_config sink = {
		.kind = WRITER_PIPE,
		.max_queue_bytes = login_queue_bytes(config->login),
		.stanza_bytes = source.reader.max_stanza_bytes,
	};

	*l = (struct local){.limits = source.reader};
	if (config->json) {
		l->objects =
			json_input_new(&source.reader, false, config->name, source_ops, context);
		source.max_line_bytes = jsonlines_max_bytes(config->login->limits.stanza_bytes);
	}
	l->source = source_new(loop, config->in_fd, &source, source_ops, context);
	l->sink = sink_new(loop, config->out_fd, &sink, sink_ops, context);
}

void local_close(struct local *l)
{
	source_free(l->source);
	sink_free(l->sink);
	json_input_free(l->objects);
	*l = (struct local){0};
}

bool local_put(struct local *l, const struct stanza *s)
{
	struct writer *w;

	if (!l->sink || l->broken)
		return true;
	w = sink_writer(l->sink);
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
