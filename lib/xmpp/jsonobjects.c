#include "xmpp/jsonobjects.h"

#include "base/json.h"

static const char unclosed[] = "an object that is not closed", large[] = "an object too large";

void jsonobjects_init(struct jsonobjects *o, size_t max_bytes)
{
	*o = (struct jsonobjects){.max_bytes = max_bytes};
	buf_init(&o->text, BUF_NO_MAX);
}

void jsonobjects_free(struct jsonobjects *o)
{
	buf_free(&o->text);
}

bool jsonobjects_inside(const struct jsonobjects *o)
{
	return buf_length(&o->text) > 0 && !o->given;
}

/* How deep it is after the line. False: the line ends in a string, which no later one can mend. */
static bool count_brackets(struct span line, size_t *depth)
{
	bool in_string = false;
	char c;

	while ((c = json_take_outside(&line, &in_string))) {
		if (c == '{' || c == '[')
			++*depth;
		else if ((c == '}' || c == ']') && *depth > 0)
			--*depth;
	}
	return !in_string;
}

static bool begins_object(struct span line)
{
	while (line.n && (*line.p == ' ' || *line.p == '\t'))
		line = span_from(line, 1);
	return line.n && *line.p == '{';
}

bool jsonobjects_line(struct jsonobjects *o, struct span line, size_t number, struct span *object,
	size_t *broken, const char **why)
{
	bool first_column = line.n && *line.p == '{', inside = jsonobjects_inside(o), sound;

	*broken = 0;
	if (inside && first_column) {
		*broken = o->first;
		*why = unclosed;
		inside = false;
	}
	if (o->skipping && !first_column)
		return false;
	o->skipping = false;
	if (!inside) {
		buf_reset(&o->text);
		o->first = number;
		o->depth = 0;
		o->given = !begins_object(line);
		*object = line;
		if (o->given)
			return true;
	}
	if (buf_length(&o->text) + line.n > o->max_bytes) {
		*broken = o->first;
		*why = large;
		o->given = o->skipping = true;
		return false;
	}
	buf_append_span(&o->text, line);
	buf_append_char(&o->text, '\n');
	sound = count_brackets(line, &o->depth);
	if (sound && o->depth > 0)
		return false;
	o->given = true;
	o->skipping = o->depth > 0;
	*object = buf_span(&o->text);
	object->n--;
	return true;
}

size_t jsonobjects_end(struct jsonobjects *o, const char **why)
{
	if (!jsonobjects_inside(o))
		return 0;
	o->given = true;
	*why = unclosed;
	return o->first;
}
