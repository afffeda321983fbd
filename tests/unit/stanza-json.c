/* Stanzas as JSON: random ones come back with the same infoset, and the second pass changes no
 * byte; and whatever the JSON holds, a stanza is written or nothing. */
#include "check.h"

static const char *round_trip_of; /* shown where a check fails */
#define ROUND_TRIP_CHECK(expr) CHECK_MSG((expr), "%s", round_trip_of)
#include "round-trip.h"

static uint64_t state = 88172645463325252u;

static unsigned roll(unsigned sides)
{
	state ^= state << 13;
	state ^= state >> 7;
	state ^= state << 17;
	return (unsigned)(state % sides);
}

#define PICK(list) ((list)[roll(sizeof(list) / sizeof((list)[0]))])

static void random_text(struct buf *out)
{
	static const char *const pieces[] = {"a", " ", "\n", "\r\n", "&#13;", "&#9;",
		"&lt;&amp;&gt;", "&quot;'", "\\", "<![CDATA[<x>]]>", "]]", "\xc3\xa9",
		"\xf0\x9f\x98\x80", "\x7f", "&#xe000;", "\xe2\x80\xa8", "\"", "/", "{}", "null",
		"1e5"};

	for (unsigned n = roll(4); n > 0; n--)
		buf_append_string(out, PICK(pieces));
}

static void random_value(struct buf *out)
{
	static const char *const pieces[] = {"a", " ", "\n", "&#10;", "&#13;", "\t", "&#9;",
		"&apos;", "\"", "&lt;", "&amp;", ">", "\xc3\xa9", "\x7f", "{", "}", "0"};

	for (unsigned n = roll(4); n > 0; n--)
		buf_append_string(out, PICK(pieces));
}

/* Names are chosen so that none comes twice: by kind. */
static void random_attributes(struct buf *out)
{
	static const char *const names[] = {" a='", " p:a='", " q:a='", " xml:lang='", " b='",
		" n\xc3\xa9='", " xml:id='", " r:to='"};

	for (unsigned i = 0; i < sizeof(names) / sizeof(names[0]); i++)
		if (roll(6) == 0) {
			buf_append_string(out, names[i]);
			random_value(out);
			buf_append_char(out, '\'');
		}
}

static void random_element(struct buf *out, unsigned depth)
{
	static const char *const names[] = {"a", "b", "error", "text", "p:a", "q:c", "xml:x",
		"n\xc3\xa9", "item-not-found", "body", "iq.x", "_-1", "r:error"};
	static const char *const namespaces[] = {"", "", "", " xmlns='urn:a'", " xmlns=''",
		" xmlns='jabber:client'", " xmlns='urn:ietf:params:xml:ns:xmpp-stanzas'",
		" xmlns:p='urn:p2'", " xmlns:q='urn:a'", " xmlns='jabber:component:accept'",
		" xmlns='urn:a}b'", " xmlns:p='}'", " xmlns='a&amp;b&apos; c'"};
	const char *name = PICK(names);

	buf_append_char(out, '<');
	buf_append_string(out, name);
	buf_append_string(out, PICK(namespaces));
	random_attributes(out);
	if (roll(4) == 0) {
		buf_append_string(out, "/>");
		return;
	}
	buf_append_char(out, '>');
	random_text(out);
	for (unsigned n = depth ? roll(4) : 0; n > 0; n--) {
		random_element(out, depth - 1);
		random_text(out);
	}
	buf_append_string(out, "</");
	buf_append_string(out, name);
	buf_append_char(out, '>');
}

static void random_stanza(struct buf *out, int depth)
{
	static const char *const kinds[] = {"iq", "message", "presence"};
	static const char *const namespaces[] = {
		"", "", " xmlns='jabber:client'", " xmlns='jabber:component:accept'"};
	static const char *const common[] = {" type='error'", " type='error'", " type='x'",
		" type=''", " id='1'", " id=''", " to='a@b/c'", " to=''", " from='d'",
		" xml:lang='de'"};
	const char *kind = PICK(kinds);

	buf_append_char(out, '<');
	buf_append_string(out, kind);
	buf_append_string(out, PICK(namespaces));
	buf_append_string(out, " xmlns:p='urn:p' xmlns:q='urn:q' xmlns:r='urn:r'");
	if (roll(2))
		buf_append_string(out, common[roll(4)]);
	if (roll(2))
		buf_append_string(out, common[4 + roll(2)]);
	if (roll(2))
		buf_append_string(out, common[6 + roll(2)]);
	if (roll(2))
		buf_append_string(out, common[8]);
	if (roll(2))
		buf_append_string(out, common[9]);
	if (roll(3) == 0)
		buf_append_string(out, " p:from='x' q:id='' ext='&#9;'");
	buf_append_char(out, '>');
	random_text(out);
	for (unsigned n = roll(4); n > 0; n--) {
		random_element(out, (unsigned)depth);
		random_text(out);
	}
	buf_append_string(out, "</");
	buf_append_string(out, kind);
	buf_append_string(out, ">\n");
}

static void random_stanzas_survive(void)
{
	struct buf xml;

	buf_init(&xml, BUF_NO_MAX);
	for (int i = 0; i < 3000; i++) {
		struct reader *r;
		struct stanza s;

		buf_reset(&xml);
		random_stanza(&xml, i % 5);
		round_trip_of = buf_string(&xml);
		r = round_trip_reader(buf_span(&xml), &s);
		if (!CHECK_MSG(r != NULL, "%s", round_trip_of))
			break;
		round_trip(&s, "");
		reader_free(r);
		if (check_failures > 5)
			break;
	}
	buf_free(&xml);
}

/* A stanza on a server's stream is in the stream's namespace: the same as one in a pipe. */
static void stream_and_pipe_are_the_same(void)
{
	static const char *const stanzas[] = {"<message><body>x</body></message>",
		"<iq type='error'><q xmlns='a'/><error type='cancel'/></iq>",
		"<message><body xmlns=''/></message>"};

	for (int i = 0; i < 3; i++) {
		static const struct reader_config config = {
			.kind = READER_SOCKET, .index = READER_INDEX_ALL};
		static const char header[] = "<stream:stream xmlns='jabber:component:accept' "
					     "xmlns:stream='http://etherx.jabber.org/streams'>";
		struct reader *socket = reader_new(&config), *pipe;
		struct stanza s, t;
		struct buf a, b;

		buf_init(&a, BUF_NO_MAX);
		buf_init(&b, BUF_NO_MAX);
		round_trip_of = stanzas[i];
		reader_feed(socket, header, strlen(header));
		CHECK_EQ_INT(reader_next(socket, &s), READER_OPEN);
		CHECK_EQ_INT(reader_next(socket, &s), READER_MORE);
		reader_feed(socket, stanzas[i], strlen(stanzas[i]));
		REQUIRE(reader_next(socket, &s) == READER_STANZA);
		pipe = round_trip_reader(span_of(stanzas[i]), &t);
		REQUIRE(pipe);
		stanza_json_format(&s, &a);
		stanza_json_format(&t, &b);
		CHECK_EQ_STR(buf_string(&a), buf_string(&b));
		round_trip(&s, header);
		reader_free(socket);
		reader_free(pipe);
		buf_free(&a);
		buf_free(&b);
	}
}

/* Lines of JSON with something exchanged: refused, or a stanza that is stable from then on. */
static void broken_lines_do_no_harm(void)
{
	static const char *const snippets[] = {"null", "1", "\"\"", "[]", "{}", "\"a:b\"",
		"\"xmlns\"", "\"\\u0000\"", "\"\\u0001\"", "\"\\ud800\"", "\"error\"", "\"{\"",
		"\"{a}\"", "[[]]", "[\"\",{}]", "\"\\uffff\"", "true",
		"\"http://www.w3.org/XML/1998/namespace\"", "\"iq\"", "\"\xc3\x97\"", "\"<\"", ",",
		"\"type\":\"set\",\"type\""};
	struct buf xml, line, broken, out, again;

	buf_init(&xml, BUF_NO_MAX);
	buf_init(&line, BUF_NO_MAX);
	buf_init(&broken, BUF_NO_MAX);
	buf_init(&out, BUF_NO_MAX);
	buf_init(&again, BUF_NO_MAX);
	for (int i = 0; i < 3000; i++) {
		struct reader *r;
		struct stanza s;
		struct span whole;
		size_t from, to;

		buf_reset(&xml);
		buf_reset(&line);
		buf_reset(&broken);
		buf_reset(&out);
		buf_reset(&again);
		random_stanza(&xml, i % 5);
		r = round_trip_reader(buf_span(&xml), &s);
		if (!CHECK(r != NULL))
			break;
		stanza_json_format(&s, &line);
		reader_free(r);
		/* from one piece of punctuation to the next */
		whole = buf_span(&line);
		from = roll((unsigned)whole.n);
		while (from > 0 && !strchr(":,[", whole.p[from - 1]))
			from--;
		to = from;
		while (to < whole.n && !strchr(",]}:", whole.p[to]))
			to++;
		buf_append(&broken, whole.p, from);
		buf_append_string(&broken, PICK(snippets));
		buf_append_span(&broken, span_from(whole, to));
		round_trip_of = buf_string(&broken);
		if (!round_trip_line(buf_span(&broken), &out, &again)) {
			struct buf xml2, json2;

			buf_init(&xml2, BUF_NO_MAX);
			buf_init(&json2, BUF_NO_MAX);
			CHECK(!round_trip_line(buf_span(&again), &xml2, &json2));
			CHECK_EQ_STR(buf_string(&json2), buf_string(&again));
			buf_free(&xml2);
			buf_free(&json2);
		}
		if (check_failures > 5)
			break;
	}
	buf_free(&xml);
	buf_free(&line);
	buf_free(&broken);
	buf_free(&out);
	buf_free(&again);
}

/* A small stanza whose JSON is large is refused, leaves nothing behind, and takes little time. */
static void growth_is_bounded(void)
{
	struct buf xml, out;
	struct reader *r;
	struct stanza s;

	buf_init(&xml, BUF_NO_MAX);
	buf_init(&out, 16 * 1024 * 1024);
	buf_append_string(&xml, "<message xmlns:p='urn:");
	for (int i = 0; i < 20000; i++)
		buf_append_char(&xml, 'x');
	buf_append_string(&xml, "'>");
	for (int i = 0; i < 4000; i++)
		buf_append_string(&xml, "<p:a p:b=''/>");
	buf_append_string(&xml, "</message>\n");
	buf_append_string(&out, "before");
	r = round_trip_reader(buf_span(&xml), &s);
	REQUIRE(r);
	CHECK(!stanza_json_format(&s, &out));
	CHECK_EQ_STR(buf_string(&out), "before");
	reader_free(r);
	buf_free(&xml);
	buf_free(&out);
}

int main(void)
{
	TEST(random_stanzas_survive);
	TEST(stream_and_pipe_are_the_same);
	TEST(broken_lines_do_no_harm);
	TEST(growth_is_bounded);
	return check_done();
}
