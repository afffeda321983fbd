#include "xmpp/jsonlines.h"

#include <stdlib.h>

#include "base/err.h"

/* `<b/>` against {"name":"b","attrs":{},"children":[]}, with its comma */
#define GROWTH 16

struct jsonlines {
	bool only_iq, messages;
	size_t max_stanza_bytes;
	struct reader *reader;
	struct buf xml, id, unknown;
	struct writer writer;
};

size_t jsonlines_max_bytes(int64_t max_stanza_bytes)
{
	return buf_bytes_and(0, GROWTH, buf_bytes(max_stanza_bytes));
}

enum writer_status jsonlines_append(
	const struct stanza *s, struct span id, size_t max_bytes, struct buf *out)
{
	const size_t begin = buf_length(out), max = out->max;
	struct stanza named = *s;
	bool fits, tight = max > begin && max - begin > max_bytes;

	if (id.p)
		named.id = id;
	if (tight) /* declared namespaces can make a large stanza of a short line: a larger one is
		      not built */
		out->max = begin + max_bytes;
	fits = stanza_json_format(&named, out) && buf_append_char(out, '\n');
	out->max = max;
	if (fits)
		return WRITER_OK;
	buf_truncate(out, begin);
	return tight || begin == 0 ? WRITER_TOO_LARGE : WRITER_FULL;
}

struct jsonlines *jsonlines_new(const struct reader_config *limits, bool only_iq)
{
	struct jsonlines *j = xcalloc(1, sizeof(*j));

	j->only_iq = only_iq;
	j->max_stanza_bytes =
		limits->max_stanza_bytes ? limits->max_stanza_bytes : READER_MAX_STANZA_BYTES;
	j->reader = reader_new(limits);
	/* a stanza just over the reader's limits is refused, with its addresses and id still known
	 */
	buf_init(&j->xml, jsonlines_max_bytes((int64_t)j->max_stanza_bytes));
	buf_init(&j->id, BUF_NO_MAX);
	buf_init(&j->unknown, BUF_NO_MAX);
	writer_init(&j->writer, &j->xml, WRITER_PIPE, 0);
	return j;
}

void jsonlines_take_messages(struct jsonlines *j)
{
	j->messages = true;
}

void jsonlines_free(struct jsonlines *j)
{
	if (!j)
		return;
	reader_free(j->reader);
	buf_free(&j->xml);
	buf_free(&j->id);
	buf_free(&j->unknown);
	free(j);
}

const char *jsonlines_unknown(const struct jsonlines *j)
{
	return buf_length(&j->unknown) ? buf_string(&j->unknown) : NULL;
}

const char *jsonlines_read(
	struct jsonlines *j, struct span text, size_t number, struct stanza *s, struct span *id)
{
	const struct stanza_json_aside aside = {.id = &j->id, .unknown = &j->unknown};
	enum writer_status status = WRITER_OK;
	const char *wrong;

	buf_reset(&j->xml);
	buf_reset(&j->id);
	buf_reset(&j->unknown);
	*id = SPAN_NONE;
	wrong = stanza_json_excess(text, j->max_stanza_bytes);
	if (wrong)
		return wrong;
	wrong = stanza_json_write(text, j->only_iq ? "iq" : NULL, &aside, &j->writer, &status);
	if (buf_length(&j->id))
		*id = buf_span(&j->id);
	if (wrong)
		return wrong;
	if (status != WRITER_OK)
		return "stanza too large";
	if (!reader_one(j->reader, buf_span(&j->xml), s))
		return "a start tag that is too large";
	s->line = number;
	if (j->messages && s->kind == STANZA_MESSAGE)
		return NULL;
	return j->only_iq && s->kind != STANZA_IQ ? "not an iq" : NULL;
}
