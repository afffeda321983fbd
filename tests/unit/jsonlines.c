/* Lines of JSON and stanzas: limits, the ids of bad lines, members that an iq may leave out. */
#include "xmpp/jsonlines.h"

#include "check.h"

static const struct reader_config everything = {
	.kind = READER_PIPE, .max_stanza_bytes = 4096, .index = READER_INDEX_ALL};

/* Append the stanza in xml; return the result of jsonlines_append(). */
static enum writer_status append(const char *xml, struct span id, size_t max_bytes, struct buf *out)
{
	struct reader *r = reader_new(&everything);
	enum writer_status status;
	struct stanza s;

	reader_feed(r, xml, strlen(xml));
	CHECK(reader_next(r, &s) == READER_STANZA);
	status = jsonlines_append(&s, id, max_bytes, out);
	reader_free(r);
	return status;
}

#define EMPTY "{\"v\":1,\"kind\":\"iq\",\"id\":\"a\",\"attrs\":{},\"payload\":[]}\n"
/* each of its elements says the namespace again */
#define MANY                                                                                       \
	"<iq id='a' xmlns:p='urn:0123456789012345678901234567890123456789'><a>"                    \
	"<p:b/><p:b/><p:b/><p:b/><p:b/><p:b/><p:b/><p:b/></a></iq>\n"

static void lines_are_appended_whole(void)
{
	const size_t n = strlen(EMPTY);
	struct buf out;

	buf_init(&out, BUF_NO_MAX);
	CHECK(append("<iq id='a'/>\n", SPAN_NONE, BUF_NO_MAX, &out) == WRITER_OK);
	CHECK(append("<iq id='longer'/>\n", SPAN("a"), n, &out) == WRITER_OK);
	CHECK(append("<iq id='longer'/>\n", SPAN_NONE, n, &out) == WRITER_TOO_LARGE);
	CHECK(append("<iq id='a'/>\n", SPAN_NONE, n - 1, &out) == WRITER_TOO_LARGE);
	CHECK(append(MANY, SPAN_NONE, 300, &out) == WRITER_TOO_LARGE);
	CHECK(buf_length(&out) == 2 * n);
	CHECK(out.max == BUF_NO_MAX);
	CHECK(strcmp(buf_string(&out), EMPTY EMPTY) == 0);
	buf_free(&out);

	/* nothing stays of a line that does not fit, whatever its limit */
	for (size_t room = 0; room < 2 * n + 2; room++) {
		enum writer_status wanted = room < n ? WRITER_TOO_LARGE : WRITER_OK;

		buf_init(&out, room);
		CHECK(append("<iq id='a'/>\n", SPAN_NONE, BUF_NO_MAX, &out) == wanted);
		CHECK(buf_length(&out) == (room < n ? 0 : n));
		if (room >= n) {
			wanted = room < 2 * n ? WRITER_FULL : WRITER_OK;
			CHECK(append("<iq id='a'/>\n", SPAN_NONE, n, &out) == wanted);
			CHECK(buf_length(&out) == (room < 2 * n ? n : 2 * n));
			CHECK(append(MANY, SPAN_NONE, BUF_NO_MAX, &out) == WRITER_FULL);
		}
		CHECK(out.max == room);
		buf_free(&out);
	}
}

/* Return what is wrong with the text, or NULL if it is an iq with this id. */
static const char *wrong(struct jsonlines *j, const char *text, const char *id_wanted)
{
	struct stanza s = {0};
	struct span id;
	const char *what = jsonlines_read(j, span_of(text), 7, &s, &id);

	CHECK_MSG(id_wanted ? span_is(id, id_wanted) : !id.p, "%s", text);
	if (what)
		return what;
	CHECK_MSG(s.line == 7, "%s", text);
	CHECK_MSG(id_wanted ? span_is(s.id, id_wanted) : !s.id.p, "%s", text);
	return NULL;
}

static void objects_are_read(void)
{
	static const struct {
		const char *text, *id, *any,
			*iq; /* the errors where any kind is accepted, and where only iqs are */
	} cases[] = {
		{"{\"kind\":\"iq\",\"id\":\"a\"}", "a", NULL, NULL},
		{" {\n\"kind\":\"iq\",\n\"id\":\"a\"}\r\n\t", "a", NULL, NULL},
		{"{\"kind\":\"iq\"}", NULL, NULL, NULL},
		{"{\"id\":\"a\"}", "a", "'kind' is none of iq, message, presence", NULL},
		{"{\"kind\":null,\"id\":\"a\"}", "a", "'kind' is none of iq, message, presence",
			NULL},
		{"{\"kind\":1,\"id\":\"a\"}", "a", "'kind' is none of iq, message, presence",
			"'kind' is none of iq, message, presence"},
		{"{\"kind\":\"message\",\"id\":\"a\"}", "a", NULL, "not an iq"},
		{"{\"kind\":\"iq\",\"id\":\"a\",\"payload\":1}", "a", "'payload' is no list",
			"'payload' is no list"},
		{"{\"kind\":\"iq\",\"id\":1}", NULL, "type, id, from, to and lang are strings",
			"type, id, from, to and lang are strings"},
		{"{\"kind\":\"iq\",\"id\":\"a\"}{}", NULL, "not JSON", "not JSON"},
		{"{\"kind\":\"iq\",\"id\":\"a\"", NULL, "not JSON", "not JSON"},
		{"[\"a\"]", NULL, "not an object", "not an object"},
		{"", NULL, "not JSON", "not JSON"},
	};
	struct jsonlines *any = jsonlines_new(&everything, false);
	struct jsonlines *iq = jsonlines_new(&everything, true);

	for (size_t i = 0; i < sizeof(cases) / sizeof(*cases); i++) {
		const char *a = wrong(any, cases[i].text, cases[i].id);
		const char *b = wrong(iq, cases[i].text, cases[i].id);

		CHECK_MSG(cases[i].any ? a && strcmp(a, cases[i].any) == 0 : !a, "%s: %s",
			cases[i].text, a ? a : "-");
		CHECK_MSG(cases[i].iq ? b && strcmp(b, cases[i].iq) == 0 : !b, "%s: %s",
			cases[i].text, b ? b : "-");
	}
	jsonlines_free(any);
	jsonlines_free(iq);
	jsonlines_free(NULL);
}

/* An object over a stanza's limit is refused with its root's attributes; a still larger one with
 * its id. */
static void what_is_too_large_is_refused(void)
{
	struct jsonlines *j = jsonlines_new(&everything, true);
	struct buf text;
	struct stanza s;
	struct span id;

	CHECK(jsonlines_max_bytes(4096) == (size_t)16 * 4096);
	CHECK(jsonlines_max_bytes(INT64_MAX) == BUF_NO_MAX);
	for (size_t n = 1000; n < 500000; n *= 2) {
		const char *what;

		buf_init(&text, BUF_NO_MAX);
		buf_append_string(&text, "{\"id\":\"a\",\"to\":\"b\",\"payload\":[\"");
		for (size_t i = 0; i < n; i++)
			buf_append_char(&text, 'x');
		buf_append_string(&text, "\"]}");
		what = jsonlines_read(j, buf_span(&text), 1, &s, &id);
		CHECK(span_is(id, "a"));
		if (n > 16 * 4096) {
			CHECK(what && strcmp(what, "stanza too large") == 0);
		} else {
			CHECK(!what && span_is(s.id, "a") && span_is(s.to, "b"));
			CHECK(s.refusal == (n > 4096 ? STANZA_TOO_LARGE : STANZA_WHOLE));
		}
		buf_free(&text);
	}
	jsonlines_free(j);
}

/* The largest stanza that fits comes back with all its elements; a line that would take much more
 * memory than that is not even parsed. */
static void no_more_is_parsed_than_a_stanza_holds(void)
{
	static const struct {
		const char *begin, *piece, *end;
	} full[] = {
		{"<iq id='a'>", "<b/>", "</iq>\n"},
		{"<iq id='a'>", "<b/>x", "</iq>\n"},
		{"<iq id='a' xmlns:p='u'>", "<p:b/>", "</iq>\n"},
		{"<iq id='a'>", "<b><c/></b>", "</iq>\n"},
		{"<iq id='a' xmlns:p='u'>", "<b c='' p:c=''/>", "</iq>\n"},
	};
	static const char *const pieces[] = {"{}", "[]", "\"\"", "1", "{\"a\":1}", "[[]]"};
	struct jsonlines *j = jsonlines_new(&everything, true);
	struct buf text, line;
	struct stanza s;
	struct span id;

	for (size_t i = 0; i < sizeof(full) / sizeof(*full); i++) {
		const char *what;

		buf_init(&text, BUF_NO_MAX);
		buf_init(&line, BUF_NO_MAX);
		buf_append_string(&text, full[i].begin);
		while (buf_length(&text) + strlen(full[i].piece) + 8 < 4096)
			buf_append_string(&text, full[i].piece);
		buf_append_string(&text, full[i].end);
		CHECK(append(buf_string(&text), SPAN_NONE, jsonlines_max_bytes(4096), &line) ==
			WRITER_OK);
		what = jsonlines_read(j, buf_span(&line), 1, &s, &id);
		CHECK_MSG(!what, "%s: %s", full[i].piece, what ? what : "");
		buf_free(&text);
		buf_free(&line);
	}
	for (size_t i = 0; i < sizeof(pieces) / sizeof(*pieces); i++) {
		const char *what;

		buf_init(&text, BUF_NO_MAX);
		buf_append_string(&text, "{\"id\":\"a\",\"x\":[");
		for (size_t n = 0; n < 7000; n++) {
			buf_append_string(&text, pieces[i]);
			buf_append_char(&text, ',');
		}
		buf_append_string(&text, "1]}");
		what = jsonlines_read(j, buf_span(&text), 1, &s, &id);
		CHECK_MSG(what && strcmp(what, "too much for a stanza") == 0 && !id.p, "%s: %s",
			pieces[i], what ? what : "");
		buf_free(&text);
	}
	/* in strings they are text */
	CHECK(!wrong(j, "{\"id\":\"{[,\\\"{[,\\\\\",\"x\":\"{{{{\"}", "{[,\"{[,\\"));
	jsonlines_free(j);
}

int main(void)
{
	TEST(lines_are_appended_whole);
	TEST(objects_are_read);
	TEST(what_is_too_large_is_refused);
	TEST(no_more_is_parsed_than_a_stanza_holds);
	return check_done();
}
