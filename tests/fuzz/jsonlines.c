/* Lines of JSON as a handler writes them, to a program with limits. The first byte chooses these,
 * the rest are lines: a line gives the same result whether or not the lines before it were read,
 * and its stanza is within the limits and survives the conversion back. */
#include "xmpp/jsonlines.h"
#include "require.h"
#include "xmpp/stanza-json.h"

#define MAX_LINE_BYTES 4096

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t n);

static bool same(struct span a, struct span b)
{
	return !a.p == !b.p && span_equal(a, b);
}

/* Write s as a line: it is within max_bytes or not written, and is the same stanza when it is
 * read again. */
static void back(const struct stanza *s, const struct reader_config *limits, bool only_iq)
{
	const size_t most = jsonlines_max_bytes((int64_t)limits->max_stanza_bytes);
	struct jsonlines *j = jsonlines_new(limits, only_iq);
	struct stanza again;
	struct span id;
	struct buf out;

	buf_init(&out, most);
	buf_append_string(&out, "before");
	if (jsonlines_append(s, SPAN("an id"), most / 2, &out) != WRITER_OK) {
		REQUIRE(span_is(buf_span(&out), "before"));
		buf_reset(&out);
		if (jsonlines_append(s, SPAN_NONE, most, &out) != WRITER_OK)
			REQUIRE(buf_length(&out) == 0);
	} else {
		REQUIRE(buf_length(&out) <= most / 2 + strlen("before"));
		buf_reset(&out);
		REQUIRE(jsonlines_append(s, SPAN_NONE, most, &out) == WRITER_OK);
	}
	if (buf_length(&out)) {
		struct span line = {buf_string(&out), buf_length(&out) - 1};

		REQUIRE(buf_string(&out)[line.n] == '\n' && !memchr(line.p, '\n', line.n));
		REQUIRE(!jsonlines_read(j, line, 1, &again, &id));
		REQUIRE(same(s->raw, again.raw));
		REQUIRE(same(s->to, again.to) && same(s->from, again.from));
		REQUIRE(same(s->id, again.id) && s->type == again.type);
	}
	jsonlines_free(j);
	buf_free(&out);
}

static void line(struct jsonlines *used, const struct reader_config *limits, bool only_iq,
	struct span text, size_t number)
{
	struct jsonlines *fresh = jsonlines_new(limits, only_iq);
	struct stanza s, t;
	struct span id, same_id;
	const char *wrong = jsonlines_read(used, text, number, &s, &id);

	REQUIRE(jsonlines_read(fresh, text, number, &t, &same_id) == wrong);
	REQUIRE(same(id, same_id));
	if (!wrong) {
		REQUIRE(s.kind != STANZA_OTHER && (s.kind == STANZA_IQ || !only_iq));
		REQUIRE(s.line == number && s.refusal == t.refusal);
		REQUIRE(same(s.raw, t.raw));
		if (!s.refusal) {
			REQUIRE(s.raw.n <= limits->max_stanza_bytes);
			REQUIRE(id.n ? span_equal(id, s.id) : !s.id.n);
			back(&s, limits, only_iq);
		}
	}
	jsonlines_free(fresh);
}

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t n)
{
	unsigned choice = n ? bytes[0] : 0;
	const struct reader_config limits = {.kind = READER_PIPE,
		.max_stanza_bytes = choice & 2 ? 1024 : 65536,
		.max_depth = choice & 4 ? 2 : 0,
		.max_attributes = choice & 8 ? 8 : 0,
		.index = READER_INDEX_ALL};
	struct jsonlines *used = jsonlines_new(&limits, choice & 1);
	const char *p = (const char *)bytes + 1, *end = (const char *)bytes + n;

	for (size_t number = 1; p < end; number++) {
		const char *newline = memchr(p, '\n', (size_t)(end - p));
		struct span text = {p, (size_t)((newline ? newline : end) - p)};

		if (text.n <= MAX_LINE_BYTES)
			line(used, &limits, choice & 1, text, number);
		p += text.n + 1;
	}
	jsonlines_free(used);
	return 0;
}
