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
	LAST,	   /* standard input has ended, and its last lines are being handed over */
	LAST_HELD, /* ... and held in the middle of them */
	OVER,
};

struct input {
	const struct source_ops *ops;
	void *context;
	enum state state;
	struct source *source;
	/* --batch --json: each line goes to one of the two. The reader of stanzas gets the newlines
	 * of objects, too, because it counts lines. */
	struct json_input *objects;
	struct reader *stanzas;
	struct buf line;
};

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
			in->ops->stanza(in->context, &s);
		else if (event == READER_BAD)
			in->ops->bad(in->context, reader_error(in->stanzas),
				reader_error_line(in->stanzas));
	}
	if (in->state == LAST)
		in->state = OVER;
}

/* Lines ------------------------------------------------------------------ */

static bool begins_object(struct span line)
{
	while (line.n && (*line.p == ' ' || *line.p == '\t'))
		line = span_from(line, 1);
	return line.n && *line.p == '{';
}

void input_json_line(struct input *in, struct span line, size_t number)
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

void input_end(struct input *in)
{
	if (in->objects) {
		json_input_end(in->objects);
		reader_end(in->stanzas);
	}
	in->state = LAST;
	hand_over(in);
}

/* The input ---------------------------------------------------------------- */

struct input *input_new(struct loop *loop, const struct iq_config *config,
	const struct source_ops *ops, void *context)
{
	struct source_config source = {.reader = limits_of_reader(&config->login.limits,
					       READER_PIPE, config->login.index)};
	struct input *in = xcalloc(1, sizeof(*in));

	*in = (struct input){.ops = ops, .context = context};
	buf_init(&in->line, BUF_NO_MAX);
	if (config->each) {
		source.max_line_bytes = ADDRESS_LINE_BYTES;
	} else if (config->json) {
		in->objects = json_input_new(&source.reader, true, "stdin", ops, context);
		in->stanzas = reader_new(&source.reader);
		source.max_line_bytes = jsonlines_max_bytes(config->login.limits.stanza_bytes);
	}
	in->source = source_new(loop, 0, &source, ops, context);
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

bool input_over(const struct input *in)
{
	return in->state == OVER;
}

void input_hold(struct input *in)
{
	if (!is_flowing(in))
		return;
	in->state = in->state == READING ? HELD : LAST_HELD;
	source_pause(in->source);
}

/* End the hold. False if there was none. */
static bool flow(struct input *in)
{
	if (in->state != HELD && in->state != LAST_HELD)
		return false;
	in->state = in->state == HELD ? READING : LAST;
	return true;
}

void input_resume(struct input *in)
{
	if (!flow(in))
		return;
	hand_over(in);
	source_resume(in->source); /* counted: a callback may have held the input once more */
}

void input_read_rest(struct input *in)
{
	flow(in);
	hand_over(in);
	source_read_to_end(in->source, 0);
	source_stop(in->source);
	in->state = OVER;
}
