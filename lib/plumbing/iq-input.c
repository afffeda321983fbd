#include "plumbing/iq-input.h"

#include <stdlib.h>
#include <string.h>

#include "base/err.h"
#include "plumbing/json-input.h"
#include "xmpp/jsonlines.h"

/* A longer line is no address. */
#define ADDRESS_LINE_BYTES 4096

enum state {
	READING,
	HELD,
	LAST,	   /* standard input has ended, its last lines are handed over */
	LAST_HELD, /* ... and held in the middle of them */
	OVER,
};

struct input {
	const struct iq_config *config;
	struct input_ops ops;
	void *context;
	enum state state;
	struct source *source;
	/* --batch --json: each line goes to one of the two. The reader of stanzas gets the newlines
	 * of objects, too, because it counts lines. */
	struct json_input *objects;
	struct reader *stanzas;
	struct buf line;
};

static void set_over(struct input *in)
{
	if (in->state == OVER)
		return;
	in->state = OVER;
	in->ops.over(in->context);
}

static bool is_flowing(const struct input *in)
{
	return in->state == READING || in->state == LAST;
}

/* Hand over what the lines that are no objects hold, until the input is held. */
static void hand_over(struct input *in)
{
	enum reader_event event = READER_STANZA;
	struct stanza s;

	while (in->stanzas && event != READER_MORE && is_flowing(in)) {
		event = reader_next(in->stanzas, &s);
		if (event == READER_STANZA)
			in->ops.stanza(in->context, &s);
		else if (event == READER_BAD)
			in->ops.bad(in->context, reader_error(in->stanzas),
				reader_error_line(in->stanzas));
	}
	if (in->state == LAST)
		set_over(in);
}

/* Lines ------------------------------------------------------------------ */

static void address_line(struct input *in, struct span line, size_t number)
{
	while (line.n && strchr(" \t\r", line.p[line.n - 1]))
		line.n--;
	while (line.n && strchr(" \t", *line.p))
		line = span_from(line, 1);
	if (line.n)
		in->ops.address(in->context, line, number);
}

static bool begins_object(struct span line)
{
	while (line.n && (*line.p == ' ' || *line.p == '\t'))
		line = span_from(line, 1);
	return line.n && *line.p == '{';
}

static void json_line(struct input *in, struct span line, size_t number)
{
	buf_reset(&in->line);
	if (json_input_inside(in->objects) || (!reader_inside(in->stanzas) && begins_object(line)))
		json_input_line(in->objects, line, number);
	else
		buf_append_span(&in->line, line);
	buf_append_char(&in->line, '\n');
	reader_feed(in->stanzas, buf_span(&in->line).p, buf_length(&in->line));
	hand_over(in);
}

/* What the source calls ---------------------------------------------------- */

static void on_stanza(void *context, const struct stanza *s)
{
	struct input *in = context;

	in->ops.stanza(in->context, s);
}

static void on_line(void *context, struct span line, size_t number)
{
	struct input *in = context;

	if (in->config->each)
		address_line(in, line, number);
	else
		json_line(in, line, number);
}

static void on_bad(void *context, const char *what, size_t line)
{
	struct input *in = context;

	in->ops.bad(in->context, what, line);
}

static void on_ended(void *context, enum link_end why, int error, const char *text)
{
	struct input *in = context;

	(void)text;
	if (why != LINK_EOF)
		in->ops.failed(in->context, error);
	if (in->objects)
		json_input_end(in->objects);
	if (in->stanzas)
		reader_end(in->stanzas);
	in->state = LAST;
	hand_over(in);
}

/* The input ---------------------------------------------------------------- */

struct input *input_new(struct loop *loop, const struct iq_config *config,
	const struct input_ops *ops, void *context)
{
	static const struct source_ops source_ops = {
		.stanza = on_stanza, .line = on_line, .bad = on_bad, .ended = on_ended};
	const struct json_input_ops object_ops = {.stanza = ops->stanza, .bad = ops->bad};
	struct source_config source = {.reader = limits_of_reader(&config->login.limits,
					       READER_PIPE, config->login.index)};
	struct input *in = xcalloc(1, sizeof(*in));

	*in = (struct input){.config = config, .ops = *ops, .context = context};
	buf_init(&in->line, BUF_NO_MAX);
	if (config->each) {
		source.max_line_bytes = ADDRESS_LINE_BYTES;
	} else if (config->json) {
		in->objects = json_input_new(&source.reader, true, "stdin", &object_ops, context);
		in->stanzas = reader_new(&source.reader);
		source.max_line_bytes = jsonlines_max_bytes(config->login.limits.stanza_bytes);
	}
	in->source = source_new(loop, 0, &source, &source_ops, in);
	return in;
}

void input_free(struct input *in)
{
	if (!in)
		return;
	source_free(in->source);
	json_input_free(in->objects);
	reader_free(in->stanzas);
	buf_free(&in->line);
	free(in);
}

bool input_held(const struct input *in)
{
	return in->state == HELD || in->state == LAST_HELD;
}

void input_hold(struct input *in)
{
	if (!is_flowing(in))
		return;
	in->state = in->state == READING ? HELD : LAST_HELD;
	source_pause(in->source);
}

void input_resume(struct input *in)
{
	if (!input_held(in))
		return;
	in->state = in->state == HELD ? READING : LAST;
	hand_over(in);
	source_resume(in->source); /* counted: a callback may have held the input once more */
}

void input_read_rest(struct input *in)
{
	if (input_held(in))
		in->state = in->state == HELD ? READING : LAST;
	hand_over(in);
	source_read_to_end(in->source, 0);
	source_stop(in->source);
	set_over(in);
}
