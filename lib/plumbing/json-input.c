#include "plumbing/json-input.h"

#include <stdlib.h>

#include "base/err.h"
#include "xmpp/jsonlines.h"
#include "xmpp/jsonobjects.h"

struct json_input {
	const char *name;
	const struct source_ops *ops;
	void *context;
	struct jsonobjects objects;
	struct jsonlines *lines;
};

struct json_input *json_input_new(const struct reader_config *limits, bool only_iq,
	const char *name, const struct source_ops *ops, void *context)
{
	struct json_input *in = xcalloc(1, sizeof(*in));

	*in = (struct json_input){.name = name,
		.ops = ops,
		.context = context,
		.lines = jsonlines_new(limits, only_iq)};
	jsonobjects_init(&in->objects, jsonlines_max_bytes((int64_t)limits->max_stanza_bytes));
	return in;
}

void json_input_free(struct json_input *in)
{
	if (!in)
		return;
	jsonlines_free(in->lines);
	jsonobjects_free(&in->objects);
	free(in);
}

static void on_object(struct json_input *in, struct span object, size_t number)
{
	struct stanza s;
	struct span id;
	const char *wrong = jsonlines_read(in->lines, object, number, &s, &id);

	if (jsonlines_unknown(in->lines))
		err_warn("%s:%zu: a member that means nothing: %s", in->name, number,
			jsonlines_unknown(in->lines));
	if (wrong)
		in->ops->bad(in->context, wrong, number);
	else
		in->ops->stanza(in->context, &s);
}

void json_input_line(struct json_input *in, struct span line, size_t number)
{
	struct span object;
	const char *why;
	size_t broken;
	bool whole = jsonobjects_line(&in->objects, line, number, &object, &broken, &why);

	if (broken)
		in->ops->bad(in->context, why, broken);
	if (whole)
		on_object(in, object, in->objects.first);
}

void json_input_end(struct json_input *in)
{
	const char *why;
	size_t broken = jsonobjects_end(&in->objects, &why);

	if (broken)
		in->ops->bad(in->context, why, broken);
}

bool json_input_inside(const struct json_input *in)
{
	return jsonobjects_inside(&in->objects);
}
