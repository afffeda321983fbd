/* xml.h: text, escaping, one line, tags. */
#include "check.h"

#include "base/utf8.h"
#include "xmpp/lexer.h"
#include "xmpp/reader.h"

static struct span text_of(struct buf *out, const char *xml)
{
	buf_reset(out);
	CHECK(xml_text(xml, 0, strlen(xml), out));
	return buf_span(out);
}

static void text(void)
{
	struct buf out;

	buf_init(&out, BUF_NO_MAX);
	CHECK_EQ_SPAN(text_of(&out, ""), "");
	CHECK_EQ_SPAN(text_of(&out, "abc"), "abc");
	CHECK_EQ_SPAN(text_of(&out, "&lt;&gt;&amp;&apos;&quot;"), "<>&'\"");
	CHECK_EQ_SPAN(text_of(&out, "&#97;&#x61;&#x0000061;&#x4A;&#x4a;"), "aaaJJ");
	CHECK_EQ_SPAN(text_of(&out, "&#9;&#10;&#13;"), "\t\n\r");
	CHECK_EQ_SPAN(text_of(&out, "&#x7f;&#x80;&#x7ff;&#x800;&#xffff;&#x10000;&#x10ffff;"),
		"\x7f\xc2\x80\xdf\xbf\xe0\xa0\x80\xef\xbf\xbf\xf0\x90\x80\x80\xf4\x8f\xbf\xbf");
	CHECK_EQ_SPAN(text_of(&out, "&#1114111;"), "\xf4\x8f\xbf\xbf");
	CHECK_EQ_SPAN(text_of(&out, "a\r\nb\rc\nd\r\r\n"), "a\nb\nc\nd\n\n");
	CHECK_EQ_SPAN(text_of(&out, "a<![CDATA[<b>&amp;]]]]>c<![CDATA[]]><![CDATA[\r\n]]>"),
		"a<b>&amp;]]c\n");
	CHECK_EQ_SPAN(
		text_of(&out, "a<b>c<b>d</b></b>e<f/>g<h i='>'>j</h>k<l m=\"/\"/>n"), "aegkn");
	CHECK_EQ_SPAN(text_of(&out, "a<b c='/'>d</b>e<b c=''/ >"), "ae");
	CHECK_EQ_SPAN(text_of(&out, "\xe2\x82\xac"), "\xe2\x82\xac");
	buf_free(&out);

	for (size_t max = 0; max < 12; max++) {
		static const char xml[] = "a&amp;b\r\n<![CDATA[cd]]>&#x20ac;ef";

		buf_init(&out, max);
		CHECK(xml_text(xml, 0, sizeof(xml) - 1, &out) == (max >= 11));
		CHECK(buf_length(&out) <= max);
		buf_free(&out);
	}
}

static void text_of_nodes(void)
{
	static const char xml[] = "<message><body a='>'>x<y>z</y></body><e/></message>";
	struct reader_config config = {.kind = READER_PIPE};
	struct reader *r = reader_new(&config);
	struct stanza s;
	struct buf out;

	buf_init(&out, BUF_NO_MAX);
	reader_feed(r, xml, sizeof(xml) - 1);
	CHECK_EQ_INT(reader_next(r, &s), READER_STANZA);
	CHECK(xml_node_text(s.text, s.root->first_child, &out));
	CHECK_EQ_STR(buf_string(&out), "x");
	CHECK(xml_node_text(s.text, s.root->last_child, &out));
	CHECK_EQ_STR(buf_string(&out), "x");
	reader_free(r);
	buf_free(&out);
}

static void escaping(void)
{
	static const char all[] = "a&<>'\"\t\r\n\xe2\x82\xac ";
	struct buf out;

	buf_init(&out, BUF_NO_MAX);
	CHECK(xml_escape_text(&out, SPAN("")));
	CHECK(xml_escape_text(&out, SPAN_NONE));
	CHECK_EQ_STR(buf_string(&out), "");
	CHECK(xml_escape_text(&out, (struct span){all, sizeof(all) - 1}));
	CHECK_EQ_STR(buf_string(&out), "a&amp;&lt;&gt;'\"\t&#13;&#10;\xe2\x82\xac ");
	buf_reset(&out);
	CHECK(xml_escape_attribute(&out, (struct span){all, sizeof(all) - 1}));
	CHECK_EQ_STR(buf_string(&out), "a&amp;&lt;&gt;&apos;\"&#9;&#13;&#10;\xe2\x82\xac ");
	buf_free(&out);
	for (size_t max = 0; max < 40; max++) {
		buf_init(&out, max);
		CHECK(xml_escape_attribute(&out, SPAN("ab'''c")) == (max >= 21));
		buf_free(&out);
	}
}

/* Every place of a special character, alone and with another one, in texts longer than a stride. */
static void escaping_long(void)
{
	static const char specials[] = "&<>'\n\r\t";
	struct buf out, expected;
	char text[70];

	buf_init(&out, BUF_NO_MAX);
	buf_init(&expected, BUF_NO_MAX);
	for (size_t n = 1; n < sizeof(text); n++)
		for (size_t at = 0; at < n * 7; at++) {
			memset(text, 'x', n);
			text[at / 7] = specials[at % 7];
			text[(at / 7 + 33) % n] = n % 2 ? '&' : '\xc3';
			buf_reset(&out);
			buf_reset(&expected);
			CHECK(xml_escape_attribute(&out, (struct span){text, n}));
			for (size_t i = 0; i < n; i++)
				CHECK(xml_escape_attribute(&expected, (struct span){text + i, 1}));
			CHECK_EQ_SPAN(buf_span(&out), buf_string(&expected));
		}
	buf_free(&out);
	buf_free(&expected);
}

static bool valid(const char *p, size_t n)
{
	/* exactly its size, so that memory checkers see a read beyond */
	char *copy = malloc(n ? n : 1);
	bool result;

	memcpy(copy, p, n);
	result = utf8_xml_valid((struct span){copy, n});
	free(copy);
	return result;
}

#define VALID(s) CHECK(valid(s, sizeof(s) - 1))
#define INVALID(s) CHECK(!valid(s, sizeof(s) - 1))

static void characters(void)
{
	VALID("");
	VALID("abc \t\r\n\x7f");
	VALID("\xc2\x80\xdf\xbf\xe0\xa0\x80\xed\x9f\xbf\xee\x80\x80\xef\xbf\xbd");
	VALID("\xf0\x90\x80\x80\xf4\x8f\xbf\xbf");
	INVALID("\0");
	INVALID("a\x01");
	INVALID("\x1f");
	INVALID("\x80");
	INVALID("\xc0\x80");
	INVALID("\xc1\xbf");
	INVALID("\xc2");
	INVALID("\xc2 ");
	INVALID("\xe0\x9f\xbf");
	INVALID("\xe2\x82");
	INVALID("\xe2\x82 ");
	INVALID("\xed\xa0\x80");
	INVALID("\xed\xbf\xbf");
	INVALID("\xef\xbf\xbe");
	INVALID("\xef\xbf\xbf");
	INVALID("\xf0\x8f\xbf\xbf");
	INVALID("\xf0\x90\x80");
	INVALID("\xf4\x90\x80\x80");
	INVALID("\xf5\x80\x80\x80");
	INVALID("\xff");
}

/* Every code point: the same verdict as expat's. */
static void characters_as_expat_sees_them(void)
{
	struct reader_config config = {.kind = READER_PIPE};
	struct reader *r = reader_new(&config);
	unsigned long wrong = 0;

	for (unsigned long c = 1; c < 0x110100; c += c < 0x3000 || c > 0xd000 ? 1 : 37) {
		char in[32] = "<iq>";
		size_t n = 4;
		struct stanza s;
		bool ok;

		if (c == '<' || c == '&')
			continue;
		if (c > 0x10200 && c < 0x10ff00)
			c += 0x1001;
		if (c < 0x80) {
			in[n++] = (char)c;
		} else if (c < 0x800) {
			in[n++] = (char)(0xc0 | c >> 6);
		} else if (c < 0x10000) {
			in[n++] = (char)(0xe0 | c >> 12);
		} else {
			in[n++] = (char)(0xf0 | c >> 18);
			in[n++] = (char)(0x80 | (c >> 12 & 0x3f));
		}
		if (c >= 0x800)
			in[n++] = (char)(0x80 | (c >> 6 & 0x3f));
		if (c >= 0x80)
			in[n++] = (char)(0x80 | (c & 0x3f));
		ok = utf8_xml_valid((struct span){in + 4, n - 4});
		memcpy(in + n, "</iq>\n", 6);
		reader_feed(r, in, n + 6);
		if ((reader_next(r, &s) == READER_STANZA) != ok)
			wrong++;
		while (reader_next(r, &s) != READER_MORE)
			continue;
	}
	CHECK_EQ_INT(wrong, 0);
	reader_free(r);
}

static void line(const char *in, const char *want)
{
	struct buf out;

	buf_init(&out, BUF_NO_MAX);
	CHECK(xml_one_line(&out, span_of(in)));
	CHECK_EQ_STR(buf_string(&out), want);
	buf_free(&out);
}

static void one_line(void)
{
	line("", "");
	line("abc<d/>", "abc<d/>");
	line("\n", "&#10;");
	line("\r", "&#10;");
	line("a\r\nb\rc\nd\n\r", "a&#10;b&#10;c&#10;d&#10;&#10;");
	line("<a\nb='\n>\n'\r\nc\r=\n\"'\n'\">\n</a\n>", "<a b=' > ' c = \"' '\">&#10;</a >");
	line("<![CDATA[\n]]>\n", "<![CDATA[]]>&#10;<![CDATA[]]>&#10;");
	line("<![CDATA[]]\r\n>]]>", "<![CDATA[]]]]>&#10;<![CDATA[>]]>");
	struct buf out;

	buf_init(&out, BUF_NO_MAX);
	CHECK(xml_one_line_in_tag(&out, SPAN(" a='\n'\r\n/>")));
	CHECK_EQ_STR(buf_string(&out), " a=' ' />");
	buf_free(&out);
	for (size_t max = 0; max < 40; max++) {
		buf_init(&out, max);
		CHECK(xml_one_line(&out, SPAN("<a\n>\n<![CDATA[\n]]></a>")) == (max >= 40));
		CHECK(buf_length(&out) <= max);
		buf_free(&out);
	}
}

static void default_namespace(void)
{
	static const struct {
		const char *in, *out;
	} cases[] = {
		{"", ""},
		{"text", "text"},
		{"<a/>", "<a xmlns='urn:x'/>"},
		{"<a />", "<a xmlns='urn:x' />"},
		{"<a\nb=''>\n<c/></a><d></d>",
			"<a xmlns='urn:x' b=''>&#10;<c/></a><d xmlns='urn:x'></d>"},
		{"<a xmlns='urn:y'/><a b='' xmlns=''/>", "<a xmlns='urn:y'/><a b='' xmlns=''/>"},
		{"<a xmlns:p='urn:y'/>", "<a xmlns='urn:x' xmlns:p='urn:y'/>"},
		{"<![CDATA[<a>\n]]>", "<![CDATA[<a>]]>&#10;<![CDATA[]]>"},
		{"<a b='xmlns=\"x\"'/>", "<a xmlns='urn:x' b='xmlns=\"x\"'/>"},
		{"<a><b/><c></c></a><d/>", "<a xmlns='urn:x'><b/><c></c></a><d xmlns='urn:x'/>"},
	};

	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		struct buf out;

		buf_init(&out, BUF_NO_MAX);
		CHECK(xml_inject_default(&out, span_of(cases[i].in), SPAN("urn:x")));
		CHECK_EQ_STR(buf_string(&out), cases[i].out);
		buf_free(&out);
	}
}

static void tags(void)
{
	static const struct {
		const char *tag, *out;
	} cases[] = {
		{"<a>", "a"},
		{"<a/>", "a"},
		{"<a\n>", "a"},
		{"<p:a b='1' />", "p:a|b,1,b='1'"},
		{"<a\tb='1'\nc =\r\"2'/>\"xmlns:d\n=\n''>",
			"a|b,1,b='1'|c,2'/>,c =\r\"2'/>\"|xmlns:d,,xmlns:d\n=\n''"},
	};

	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		struct span scan;
		struct span name, value, whole;
		struct buf out;

		buf_init(&out, BUF_NO_MAX);
		CHECK(lexer_tag_begin(span_of(cases[i].tag), &scan, &name));
		buf_append_span(&out, name);
		while (lexer_tag_next(&scan, &name, &value, &whole))
			buf_printf(&out, "|%.*s,%.*s,%.*s", SPAN_ARG(name), SPAN_ARG(value),
				SPAN_ARG(whole));
		CHECK_EQ_STR(buf_string(&out), cases[i].out);
		buf_free(&out);
	}
}

static void longest_tag(void)
{
	CHECK_EQ_INT(xml_longest_tag(SPAN("")), 0);
	CHECK_EQ_INT(xml_longest_tag(SPAN("text text")), 0);
	CHECK_EQ_INT(xml_longest_tag(SPAN("<![CDATA[<aaaaaaa>]]>")), 0);
	CHECK_EQ_INT(xml_longest_tag(SPAN("<a><bb c='>>>'/></a>")), 13);
	CHECK_EQ_INT(xml_longest_tag(SPAN("<a>text</a     >")), 9);
}

int main(void)
{
	TEST(text);
	TEST(text_of_nodes);
	TEST(escaping);
	TEST(escaping_long);
	TEST(characters);
	TEST(characters_as_expat_sees_them);
	TEST(one_line);
	TEST(default_namespace);
	TEST(tags);
	TEST(longest_tag);
	return check_done();
}
