/* The lexer, production by production (XML 1.0, Namespaces in XML 1.0): which input it reads,
 * which it leaves to expat, and that the reader's result is the same either way. */
#include "xmpp/lexer.h"

#include "check.h"
#include "transcript.h"

/* --- how a stanza is taken, fed whole and byte by byte */

enum verdict { TAKEN, LEFT, UNFINISHED };

static const struct xml_declaration stream[] = {
	{{"", 0}, {"jabber:component:accept", 23}}, {{"z", 1}, {"urn:z", 5}}};

/* The tags as the lexer tells them: {ns}name[a=value] ... / */
static void tell(struct buf *out, const struct lexer *l, enum lexer_token token)
{
	if (token != LEXER_CLOSE) {
		buf_append_string(out, "{");
		buf_append_span(out, l->ns);
		buf_append_string(out, "}");
		buf_append_span(out, l->name);
		for (unsigned i = 0; i < l->count; i++) {
			const struct xml_attribute *a = &l->attributes[i];
			struct span rest = a->value, run;
			char room[4];

			buf_append_string(out, lexer_declares(l, i) ? "[xmlns "
					       : a->ns.p	    ? "[{"
								    : "[");
			buf_append_span(out, a->ns);
			buf_append_string(out, a->ns.p ? "}" : "");
			buf_append_span(out, a->name);
			buf_append_string(out, "=");
			while (lexer_decode(&rest, LEXER_VALUE, room, &run))
				buf_append_span(out, run);
			buf_append_string(out, "]");
		}
	}
	if (token != LEXER_OPEN)
		buf_append_string(out, "/");
}

/* In malloced copies of exactly what there is and a NUL, so that memory checkers see a read beyond
 * it; or, `ahead`, with the whole input in memory. */
static enum verdict lex(struct buf *out, const char *xml, size_t n, size_t step, bool ahead)
{
	struct lexer l;
	enum lexer_token token = LEXER_MORE;

	lexer_begin(&l, stream, 2);
	for (size_t have = step; token == LEXER_MORE; have += step) {
		size_t there;
		char *copy;

		have = have < n ? have : n;
		there = ahead ? n : have;
		copy = malloc(there + 1);
		memcpy(copy, xml, there);
		copy[there] = '\0';
		while ((token = lexer_next(&l, (struct span){copy, have})) > LEXER_DOUBT) {
			tell(out, &l, token);
			if (l.depth == 0)
				break;
		}
		free(copy);
		if (have == n)
			break;
	}
	return token == LEXER_DOUBT ? LEFT : token == LEXER_MORE ? UNFINISHED : TAKEN;
}

/* What the reader says is the same with the lexer and without, in a pipe and on a stream, whole and
 * byte by byte. */
static void same_with_expat(const char *xml, size_t n)
{
	struct buf fed, lexer, expat;

	buf_init(&fed, BUF_NO_MAX);
	buf_init(&lexer, BUF_NO_MAX);
	buf_init(&expat, BUF_NO_MAX);
	for (unsigned how = 0; how < 4; how++) {
		struct reader_config config = {.kind = how & 1 ? READER_SOCKET : READER_PIPE};

		buf_reset(&fed);
		buf_reset(&lexer);
		buf_reset(&expat);
		if (how & 1)
			buf_append_string(&fed, "<stream:stream xmlns='jabber:component:accept' "
						"xmlns:stream='http://etherx.jabber.org/streams'>");
		buf_append(&fed, xml, n);
		transcript(&lexer, &config, buf_string(&fed), buf_length(&fed), how / 2, NULL);
		config.expat_only = true;
		transcript(&expat, &config, buf_string(&fed), buf_length(&fed), how / 2, NULL);
		CHECK_EQ_MEM(buf_string(&lexer), buf_length(&lexer), buf_string(&expat),
			buf_length(&expat));
	}
	buf_free(&fed);
	buf_free(&lexer);
	buf_free(&expat);
}

static void check_n(int line, const char *xml, size_t n, enum verdict want, const char *tags)
{
	struct buf out;

	buf_init(&out, BUF_NO_MAX);
	for (unsigned how = 0; how < 3; how++) {
		buf_reset(&out);
		check_eq_int(__FILE__, line, xml,
			lex(&out, xml, n, how == 2 && n ? n : 1, how == 1), want);
		if (tags)
			check_eq_str(__FILE__, line, xml, buf_string(&out), tags);
	}
	buf_free(&out);
	same_with_expat(xml, n);
}

#define TAKES(xml, tags) check_n(__LINE__, "" xml, sizeof(xml) - 1, TAKEN, tags)
#define LEAVES(xml) check_n(__LINE__, "" xml, sizeof(xml) - 1, LEFT, NULL)
#define WAITS(xml) check_n(__LINE__, "" xml, sizeof(xml) - 1, UNFINISHED, NULL)

/* --- XML 1.0 */

/* [39] element, [40] STag, [42] ETag, [44] EmptyElemTag; WFC: Element Type Match */
static void elements(void)
{
	TAKES("<iq/>", "{jabber:component:accept}iq/");
	TAKES("<iq></iq>", "{jabber:component:accept}iq/");
	TAKES("<a><b/><c></c></a>", "{jabber:component:accept}a{jabber:component:accept}b/"
				    "{jabber:component:accept}c//");
	TAKES("<a ><b\n\t/></a\r\n >", NULL);
	TAKES("<a/><b", "{jabber:component:accept}a/");
	LEAVES("<a></b>");
	LEAVES("<a></ab>");
	LEAVES("<ab></a>");
	LEAVES("<a></a b='c'>");
	LEAVES("<a></ a>");
	LEAVES("<a><b></a></b>");
	LEAVES("</a>");
	LEAVES("< a/>");
	LEAVES("<a / >");
	LEAVES("<a/ >");
	LEAVES("<>");
	LEAVES("<a <b/>");
	WAITS("<");
	WAITS("<a");
	WAITS("<a ");
	WAITS("<a/");
	WAITS("<a></");
	WAITS("<a></a");
	WAITS("<a></a ");
	WAITS("<a><b></b>");
}

/* [4] NameStartChar, [5] Name: those with bytes beyond ASCII are left to expat */
static void element_names(void)
{
	TAKES("<_a-b.c9/>", "{jabber:component:accept}_a-b.c9/");
	TAKES("<A/>", "{jabber:component:accept}A/");
	LEAVES("<9a/>");
	LEAVES("<-a/>");
	LEAVES("<.a/>");
	LEAVES("<a!/>");
	LEAVES("<a\x7f/>");
	LEAVES("<a\0/>");
	LEAVES("<\xc3\xa9/>");
	LEAVES("<a\xc3\xa9/>");
	LEAVES("<a \xc3\xa9=''/>");
	LEAVES("<a\xff/>");
}

/* [41] Attribute, [10] AttValue; WFC: No < in Attribute Values, Unique Att Spec */
static void attributes(void)
{
	TAKES("<a b='1' c=\"2\"/>", "{jabber:component:accept}a[b=1][c=2]/");
	TAKES("<a b = '1'\n\tc=\r'2'/>", "{jabber:component:accept}a[b=1][c=2]/");
	TAKES("<a b='\">' c=\"'/>\"/>", "{jabber:component:accept}a[b=\">][c='/>]/");
	TAKES("<a b=''/>", "{jabber:component:accept}a[b=]/");
	TAKES("<a b='0123456789abcdef0123456789abcdef'/>",
		"{jabber:component:accept}a[b=0123456789abcdef0123456789abcdef]/");
	LEAVES("<a b='<'/>");
	LEAVES("<a b='0123456789abcdef<'/>");
	LEAVES("<a b/>");
	LEAVES("<a b=1/>");
	LEAVES("<a b='1'c='2'/>");
	LEAVES("<a b='1' b='2'/>");
	LEAVES("<a b='1' c='' d='' b='2'/>");
	LEAVES("<a ='1'/>");
	LEAVES("<a b='1\"/>'x'/>");
	LEAVES("<a b='\x01'/>");
	LEAVES("<a b='\xff'/>");
	/* names with the same fingerprint */
	TAKES("<a ab='1' cb='2' aab='3' acb='4' ba='5'/>",
		"{jabber:component:accept}a[ab=1][cb=2][aab=3][acb=4][ba=5]/");
	WAITS("<a b");
	WAITS("<a b ");
	WAITS("<a b=");
	WAITS("<a b= ");
	WAITS("<a b='");
	WAITS("<a b='1");
	WAITS("<a b='1'");
}

/* 3.3.3 Attribute-Value Normalization, 2.11 End-of-Line Handling */
static void values(void)
{
	TAKES("<a b='x\ty\nz'/>", "{jabber:component:accept}a[b=x y z]/");
	TAKES("<a b='x\r\ny\rz\r\r\n'/>", "{jabber:component:accept}a[b=x y z  ]/");
	TAKES("<a b='&#9;&#10;&#13;'/>", "{jabber:component:accept}a[b=\t\n\r]/");
	TAKES("<a b='&lt;&gt;&amp;&apos;&quot;'/>", "{jabber:component:accept}a[b=<>&'\"]/");
	TAKES("<a b='&#65;&#x42;&#xe9;&#x20AC;&#x1f600;&#x10FFFF;'/>",
		"{jabber:component:accept}a[b="
		"AB\xc3\xa9\xe2\x82\xac\xf0\x9f\x98\x80\xf4\x8f\xbf\xbf]/");
}

/* [66] CharRef, [68] EntityRef; WFC: Legal Character, Entity Declared */
static void references(void)
{
	static const char *const wrong[] = {"&", "&;", "& ", "&a;", "&amp", "&ampx;", "&amp ;",
		"&#;", "&#x;", "&#X41;", "&#6a;", "&#xg;", "&#-1;", "&#0;", "&#8;", "&#x1f;",
		"&#xd800;", "&#xdfff;", "&#xfffe;", "&#xffff;", "&#x110000;", "&#99999999999;",
		"&nbsp;", "&0123456789abcdef;", "&lt"};
	static const char *const right[] = {"&amp;", "&#x9;", "&#xa;", "&#xd;", "&#x20;",
		"&#xd7ff;", "&#xe000;", "&#xfffd;", "&#x10000;", "&#0065;", "]", "]]", "a>", "]>",
		"]] >"};
	char xml[80];

	for (size_t i = 0; i < sizeof(wrong) / sizeof(wrong[0]); i++) {
		int n = snprintf(xml, sizeof(xml), "<a>%s</a>", wrong[i]);

		check_n(__LINE__, xml, (size_t)n, LEFT, NULL);
		n = snprintf(xml, sizeof(xml), "<a b='%s'/>", wrong[i]);
		check_n(__LINE__, xml, (size_t)n, LEFT, NULL);
	}
	for (size_t i = 0; i < sizeof(right) / sizeof(right[0]); i++) {
		int n = snprintf(xml, sizeof(xml), "<a>%s</a>", right[i]);

		check_n(__LINE__, xml, (size_t)n, TAKEN, NULL);
		n = snprintf(xml, sizeof(xml), "<a b='%s'/>", right[i]);
		check_n(__LINE__, xml, (size_t)n, TAKEN, NULL);
	}
	/* valid, but longer than in any real stanza */
	LEAVES("<a>&#000000000000065;</a>");
	WAITS("<a>&");
	WAITS("<a>&l");
	WAITS("<a>&#");
	WAITS("<a>&#x");
	WAITS("<a>&#x4");
	LEAVES("<a>&x");
	LEAVES("<a>&#xz");
}

/* [2] Char, [14] CharData: every byte as text, in a value and in a section */
static void characters(void)
{
	static const char *const around[][2] = {{"<a>", "</a>"}, {"<a b='", "'/>"},
		{"<a><![CDATA[", "]]></a>"}, {"<a>0123456789abcdef", "0123456789abcdef</a>"}};

	for (int c = 0; c < 256; c++)
		for (size_t i = 0; i < 4; i++) {
			bool allowed =
				c == '\t' || c == '\n' || c == '\r' || (c >= 0x20 && c < 0x80);
			char xml[80];
			int n = snprintf(
				xml, sizeof(xml), "%s%c%s", around[i][0], '?', around[i][1]);

			if ((c == '<' || c == '&') && i != 2)
				continue;
			if (c == '\'' && i == 1)
				continue;
			*strchr(xml + 1, '?') = (char)c;
			check_n(__LINE__, xml, (size_t)n, allowed ? TAKEN : LEFT, NULL);
		}
	LEAVES("<a>]]></a>");
	LEAVES("<a>]]]></a>");
	LEAVES("<a>0123456789abcdef]]></a>");
}

/* RFC 3629, in text, values and sections */
static void utf8(void)
{
	static const struct {
		const char *bytes;
		bool right;
	} cases[] = {{"\xc2\x80", true}, {"\xdf\xbf", true}, {"\xe0\xa0\x80", true},
		{"\xed\x9f\xbf", true}, {"\xee\x80\x80", true}, {"\xef\xbf\xbd", true},
		{"\xf0\x90\x80\x80", true}, {"\xf4\x8f\xbf\xbf", true}, {"\xf0\x9f\xbf\xbe", true},
		{"\x80", false}, {"\xc0\x80", false}, {"\xc1\xbf", false}, {"\xc2\x41", false},
		{"\xe0\x9f\xbf", false}, {"\xed\xa0\x80", false}, {"\xed\xbf\xbf", false},
		{"\xef\xbf\xbe", false}, {"\xef\xbf\xbf", false}, {"\xf0\x8f\xbf\xbf", false},
		{"\xf4\x90\x80\x80", false}, {"\xf5\x80\x80\x80", false}, {"\xe2\x82", false},
		{"\xe2\x82\x41", false}, {"\xf0\x9f\x98", false}, {"\xfe", false}};
	char xml[80];

	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		enum verdict want = cases[i].right ? TAKEN : LEFT;
		int n = snprintf(xml, sizeof(xml), "<a>x%s</a>", cases[i].bytes);

		check_n(__LINE__, xml, (size_t)n, want, NULL);
		n = snprintf(xml, sizeof(xml), "<a b='%s\xc3\xa9'/>", cases[i].bytes);
		check_n(__LINE__, xml, (size_t)n, want, NULL);
		n = snprintf(xml, sizeof(xml), "<a><![CDATA[%s]]></a>", cases[i].bytes);
		check_n(__LINE__, xml, (size_t)n, want, NULL);
	}
	WAITS("<a>\xe2\x82");
	WAITS("<a b='\xf0\x9f");
}

/* [18] CDSect */
static void sections(void)
{
	TAKES("<a><![CDATA[]]></a>", NULL);
	TAKES("<a><![CDATA[<b>&c;]]]]></a>", NULL);
	TAKES("<a><![CDATA[]]]><b/><![CDATA[]>]]>]]</a>", NULL);
	LEAVES("<a><![cdata[]]></a>");
	LEAVES("<a><![CDATA []]></a>");
	LEAVES("<![CDATA[]]>");
	WAITS("<a><![CDA");
	WAITS("<a><![CDATA[");
	WAITS("<a><![CDATA[x]");
	WAITS("<a><![CDATA[x]]");
}

/* RFC 6120 11.1 */
static void not_in_xmpp(void)
{
	LEAVES("<!DOCTYPE a>");
	LEAVES("<?a?>");
	LEAVES("<a><!-- --></a>");
	LEAVES("<a><?b c?></a>");
	LEAVES("<a><!DOCTYPE a></a>");
}

/* --- Namespaces in XML 1.0 */

static void namespaces(void)
{
	TAKES("<a xmlns='u'><b/><c xmlns=''><d/></c><e/></a>",
		"{u}a[xmlns =u]{u}b/{}c[xmlns =]{}d//{u}e//");
	TAKES("<p:a xmlns:p='u'><p:b xmlns:p='v'/><p:c/></p:a>",
		"{u}a[xmlns p=u]{v}b[xmlns p=v]/{u}c//");
	TAKES("<z:a z:b=''/>", "{urn:z}a[{urn:z}b=]/");
	TAKES("<a z:b='1' b='2'/>", "{jabber:component:accept}a[{urn:z}b=1][b=2]/");
	TAKES("<a p:b='' xmlns:p='u'/>", "{jabber:component:accept}a[{u}b=][xmlns p=u]/");
	TAKES("<a xml:lang='en'/>",
		"{jabber:component:accept}a[{http://www.w3.org/XML/1998/namespace}lang=en]/");
	TAKES("<a xmlns:p='\xc3\xa9 x'/>", NULL);
	TAKES("<xml:a/>", "{http://www.w3.org/XML/1998/namespace}a/");
	TAKES("<a a='' xmlns:a='u'/>", "{jabber:component:accept}a[a=][xmlns a=u]/");
	LEAVES("<a><p:b xmlns:p='u'/><p:c/></a>");
	LEAVES("<p:a/>");
	LEAVES("<a p:b=''/>");
	LEAVES("<a xmlns:p='u'><b xmlns:p=''/></a>");
	LEAVES("<a xmlns='u' xmlns='v'/>");
	LEAVES("<a xmlns:p='u' xmlns:p='u'/>");
	LEAVES("<a xmlns:p='u' xmlns:q='u' p:b='' q:b=''/>");
	TAKES("<a xmlns:p='u' xmlns:q='v' p:b='' q:b=''/>", NULL);
	LEAVES("<xmlns:a/>");
	LEAVES("<a xmlns:xml='u'/>");
	LEAVES("<a xmlns:xml='http://www.w3.org/XML/1998/namespace'/>");
	LEAVES("<a xmlns:xmlns='u'/>");
	LEAVES("<a xmlns:p='http://www.w3.org/XML/1998/namespace'/>");
	LEAVES("<a xmlns='http://www.w3.org/XML/1998/namespace'/>");
	LEAVES("<a xmlns:p='http://www.w3.org/2000/xmlns/'/>");
	LEAVES("<a xmlns='http://www.w3.org/2000/xmlns/'/>");
	LEAVES("<:a/>");
	LEAVES("<a:/>");
	LEAVES("<z:a:b/>");
	LEAVES("<z:9/>");
	LEAVES("<a z:='1'/>");
	LEAVES("<a :b='1'/>");
	/* valid, but only expat knows their values */
	LEAVES("<a xmlns='u&amp;v'/>");
	LEAVES("<a xmlns:p='u\nv'/>");
}

/* More than the lexer's tables have places for. */
static void places(void)
{
	struct buf xml;
	struct buf out;

	buf_init(&xml, BUF_NO_MAX);
	buf_init(&out, BUF_NO_MAX);
	for (int more = 0; more < 2; more++) {
		enum verdict want = more ? LEFT : TAKEN;

		buf_reset(&xml);
		for (int i = 0; i < LEXER_DEPTH + more; i++)
			buf_append_string(&xml, "<a>");
		for (int i = 0; i < LEXER_DEPTH + more; i++)
			buf_append_string(&xml, "</a>");
		CHECK_EQ_INT(lex(&out, buf_string(&xml), buf_length(&xml), 7, false), want);
		same_with_expat(buf_string(&xml), buf_length(&xml));
		buf_reset(&xml);
		buf_append_string(&xml, "<a");
		for (int i = 0; i < LEXER_ATTRIBUTES + more; i++)
			buf_printf(&xml, " a%d=''", i);
		buf_append_string(&xml, "/>");
		CHECK_EQ_INT(lex(&out, buf_string(&xml), buf_length(&xml), 7, false), want);
		same_with_expat(buf_string(&xml), buf_length(&xml));
		buf_reset(&xml);
		for (int i = 0; i < LEXER_DECLARATIONS + more; i++)
			buf_printf(&xml, "<a xmlns='urn:%d'>", i);
		for (int i = 0; i < LEXER_DECLARATIONS + more; i++)
			buf_append_string(&xml, "</a>");
		CHECK_EQ_INT(lex(&out, buf_string(&xml), buf_length(&xml), 7, false), want);
		same_with_expat(buf_string(&xml), buf_length(&xml));
	}
	buf_free(&xml);
	buf_free(&out);
}

/* --- pieces */

/* c: a comment, i: an instruction, d: a declaration, o e /: tags, [: a section, t: text, !: wrong
 */
static void pieces(void)
{
	static const struct {
		const char *xml, *kinds;
	} cases[] = {
		{"<a><b/>t</a>", "oet/"},
		{"<a b='/>' c=\">\"/>t", "et"},
		{"<a b='x'></a >", "o/"},
		{"<a b='<'>", "!"},
		{"<a <b>", "!"},
		{"<!-- > -- <a> --><b>", "co"},
		{"<!--->--><b/>", "ce"},
		{"<?xml version='1.0'?><?a > ?>", "ii"},
		{"<?>?><a>", "io"},
		{"<!DOCTYPE a><a>", "do"},
		{"<![CDATA[<a>]]]]]><![CDATA[]]>", "[["},
		{"<![CDAT><a>", "do"},
	};
	static const char kinds[] = {[PIECE_TEXT] = 't',
		[PIECE_CDATA] = '[',
		[PIECE_COMMENT] = 'c',
		[PIECE_INSTRUCTION] = 'i',
		[PIECE_DECLARATION] = 'd',
		[PIECE_OPEN] = 'o',
		[PIECE_EMPTY] = 'e',
		[PIECE_CLOSE] = '/'};

	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++)
		for (size_t step = 1; step < 40; step += 38) {
			struct span in = span_of(cases[i].xml);
			struct lexer_piece piece = {.kind = PIECE_NONE};
			char got[20] = "";
			size_t count = 0, at = 0;

			for (size_t have = 0; have < in.n && !piece.wrong;) {
				have = have + step < in.n ? have + step : in.n;
				for (;;) {
					at += lexer_piece(
						&piece, (struct span){in.p + at, have - at});
					if (piece.wrong)
						got[count++] = '!';
					if (!piece.whole)
						break;
					got[count++] = kinds[piece.kind];
					piece = (struct lexer_piece){.kind = PIECE_NONE};
				}
			}
			if (piece.kind == PIECE_TEXT)
				got[count++] = 't';
			CHECK_EQ_STR(got, cases[i].kinds);
		}
}

int main(void)
{
	TEST(elements);
	TEST(element_names);
	TEST(attributes);
	TEST(values);
	TEST(references);
	TEST(characters);
	TEST(utf8);
	TEST(sections);
	TEST(not_in_xmpp);
	TEST(namespaces);
	TEST(places);
	TEST(pieces);
	return check_done();
}
