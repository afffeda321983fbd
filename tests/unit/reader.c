/* The reader: every promise of reader.h and stanza.h's views of what it read. */
#include "check.h"

#include <malloc.h>

#include "xmpp/stanza.h"
#include "transcript.h"

#define HEADER                                                                                     \
	"<?xml version='1.0'?><stream:stream xmlns='jabber:component:accept' "                     \
	"xmlns:stream='http://etherx.jabber.org/streams' id='s1' from='p.test'>"
#define OPENED                                                                                     \
	"open<stream:stream xmlns='jabber:component:accept' "                                      \
	"xmlns:stream='http://etherx.jabber.org/streams' id='s1' from='p.test'>\n"

static const struct reader_config pipe_config = {.kind = READER_PIPE};
static const struct reader_config socket_config = {.kind = READER_SOCKET};

/* The events are the same when the bytes come whole, one by one, or in pieces. */
static void reads_n(
	int line, const struct reader_config *config, const char *bytes, size_t n, const char *want)
{
	static const size_t chunks[] = {0, 1, 2, 3, 5, 7, 11, 16, 64};
	struct dice dice = {88172645463325252u};
	struct buf got;

	buf_init(&got, BUF_NO_MAX);
	for (size_t i = 0; i < sizeof(chunks) / sizeof(chunks[0]) + 8; i++) {
		bool fixed = i < sizeof(chunks) / sizeof(chunks[0]);

		buf_reset(&got);
		transcript(&got, config, bytes, n, fixed ? chunks[i] : 40, fixed ? NULL : &dice);
		if (!check_eq_mem(__FILE__, line, "events", buf_string(&got), buf_length(&got),
			    want, strlen(want))) {
			fprintf(stderr, "(in pieces of %zu)\n", fixed ? chunks[i] : 0);
			break;
		}
	}
	buf_free(&got);
}

#define PIPE(bytes, want) reads_n(__LINE__, &pipe_config, bytes, sizeof(bytes) - 1, want)
#define SOCKET(bytes, want) reads_n(__LINE__, &socket_config, bytes, sizeof(bytes) - 1, want)
#define READS(config, bytes, want) reads_n(__LINE__, config, bytes, strlen(bytes), want)

/* A reader that has read one stanza. */
static struct reader *read_one(struct stanza *s, const char *bytes)
{
	struct reader *r = reader_new(&pipe_config);

	reader_feed(r, bytes, strlen(bytes));
	CHECK_EQ_INT(reader_next(r, s), READER_STANZA);
	return r;
}

/* Pipes ------------------------------------------------------------------ */

static void one_a_line(void)
{
	PIPE("<iq/>\n<message/>\n<presence/>\n", "1:<iq/>\n2:<message/>\n3:<presence/>\n");
	PIPE("<iq/>", "1:<iq/>\n");
	PIPE("", "");
	PIPE("\n \t\r\n", "");
	PIPE("\xef\xbf\xbd", "1!text outside of a stanza\n");
}

static void several_a_line_and_white_space(void)
{
	PIPE("<iq/><iq id='2'></iq> \t<iq/>\r\n\r\n  <iq/>  \n\n",
		"1:<iq/>\n1:<iq id='2'></iq>\n1:<iq/>\n3:<iq/>\n");
}

static void stanzas_spanning_lines(void)
{
	PIPE("<iq\n id='1'\n>\n<q/>\n</iq\n>\n<iq/>\n",
		"1:<iq\n id='1'\n>\n<q/>\n</iq\n>\n7:<iq/>\n");
	PIPE("<message><body>a\r\nb\rc</body></message>\r\n<iq/>",
		"1:<message><body>a\r\nb\rc</body></message>\n3:<iq/>\n");
	PIPE("<message><body><![CDATA[\n<iq/>\n]]></body></message>\n<iq/>",
		"1:<message><body><![CDATA[\n<iq/>\n]]></body></message>\n4:<iq/>\n");
	/* a forwarded stanza may begin at the beginning of a line */
	PIPE("<message>\n<forwarded xmlns='urn:xmpp:forward:0'>\n<message xmlns='jabber:client' "
	     "to='a'>\n<body/>\n</message>\n</forwarded>\n</message>\n<iq/>\n",
		"1:<message>\n<forwarded xmlns='urn:xmpp:forward:0'>\n<message "
		"xmlns='jabber:client' to='a'>\n<body/>\n</message>\n</forwarded>\n</message>\n"
		"8:<iq/>\n");
	/* and so may elements of these names without an address */
	PIPE("<iq><q><item>\n<message/>\n<iq/>\n</item></q></iq>\n",
		"1:<iq><q><item>\n<message/>\n<iq/>\n</item></q></iq>\n");
	PIPE("<iq><q>\n <message to='x'/>\n</q></iq>\n",
		"1:<iq><q>\n <message to='x'/>\n</q></iq>\n");
}

static void namespaces_and_other_roots(void)
{
	PIPE("<iq xmlns='jabber:client'/><c:iq xmlns:c='jabber:component:accept'/><iq "
	     "xmlns=''/><r/>",
		"1:<iq xmlns='jabber:client'/>\n1:<c:iq xmlns:c='jabber:component:accept'/>\n"
		"1:<iq xmlns=''/>\n1:<r/>\n");
}

static void bad_lines_cost_themselves_only(void)
{
	static const struct {
		const char *bad, *why;
	} cases[] = {
		{"<iq><a></iq>", "mismatched tag"},
		{"<iq></message>", "mismatched tag"},
		{"</iq>", "mismatched tag"},
		{"</stanzas>", "unexpected end tag"},
		{"<iq", "not well-formed (invalid token)"},
		{"<iq id='x", "not well-formed (invalid token)"},
		{"<iq id=", "not well-formed (invalid token)"},
		{"<iq id=x/>", "not well-formed (invalid token)"},
		{"<iq id='a'type='b'/>", "not well-formed (invalid token)"},
		{"<iq><q", "not well-formed (invalid token)"},
		{"<iq></i", "not well-formed (invalid token)"},
		{"<iq>a & b</iq>", "not well-formed (invalid token)"},
		{"<iq>a < b</iq>", "not well-formed (invalid token)"},
		{"<iq>]]></iq>", "not well-formed (invalid token)"},
		{"<iq>&am", "not well-formed (invalid token)"},
		{"<iq>", "truncated stanza"},
		{"<iq>text", "truncated stanza"},
		{"<iq><q xmlns='urn:x'>", "truncated stanza"},
		{"<iq><q xmlns='urn:x'/>", "truncated stanza"},
		{"<message><forwarded xmlns='urn:xmpp:forward:0'>", "truncated stanza"},
		{"<message><f xmlns='urn:xmpp:forward:0'><message xmlns='jabber:client' to='a'/>",
			"truncated stanza"},
		{"junk", "text outside of a stanza"},
		{"junk <iq id='9'/>", "text outside of a stanza"},
		{"&amp;<iq id='9'/>", "text outside of a stanza"},
		{"<![CDATA[x]]><iq id='9'/>", "text outside of a stanza"},
		{"<iq><!-- --></iq>", "comments are not allowed"},
		{"<iq><a><b><c><d><!-- --></d></c></b></a></iq>", "comments are not allowed"},
		{"<!-- -- -->", "not well-formed (invalid token)"},
		{"<!--->", "truncated stanza"},
		{"<iq><?xml version='1.0'?></iq>",
			"XML or text declaration not at start of entity"},
		{"<iq>\xef\xbb\xbf<q></iq>", "mismatched tag"},
		{"\xef\xbb<iq/>", "text outside of a stanza"},
		{"<iq><?pi?></iq>", "processing instructions are not allowed"},
		{"<!DOCTYPE x>", "document type declarations are not allowed"},
		{"<iq><!DOCTYPE x></iq>", "document type declarations are not allowed"},
		{"<!DOCTYPE x [<!ENTITY e 'x'>]><iq>&e;</iq>",
			"document type declarations are not allowed"},
		{"<iq>&e;</iq>", "undefined entity"},
		{"<iq id='&e;'/>", "undefined entity"},
		{"<iq>&#0;</iq>", "reference to invalid character number"},
		{"<iq>&#xFFFF;</iq>", "reference to invalid character number"},
		{"<iq id='1' id='2'/>", "duplicate attribute"},
		{"<iq xmlns:a='u' xmlns:b='u' a:x='' b:x=''/>", "duplicate attribute"},
		{"<a:iq/>", "unbound prefix"},
		{"<iq a:b=''/>", "unbound prefix"},
		{"<iq xmlns:a=''/>", "must not undeclare prefix"},
		{"<iq xmlns:xml='urn:x'/>",
			"reserved prefix (xml) must not be undeclared or bound to "
			"another namespace name"},
		{"<iq>\xff</iq>", "not well-formed (invalid token)"},
		{"<iq>\xc0\x80</iq>", "not well-formed (invalid token)"},
		{"<iq>\xed\xa0\x80</iq>", "not well-formed (invalid token)"},
		{"<iq>\xf5\x80\x80\x80</iq>", "not well-formed (invalid token)"},
		{"<iq>\xe2\x82</iq>", "not well-formed (invalid token)"},
		{"<iq id='\x01'/>", "not well-formed (invalid token)"},
		{"<iq>\x7f\x0b</iq>", "not well-formed (invalid token)"},
		{"<iq>\xef\xbf\xbe</iq>", "not well-formed (invalid token)"},
		{"<1/>", "not well-formed (invalid token)"},
		{"< iq/>", "not well-formed (invalid token)"},
		{"<>", "not well-formed (invalid token)"},
		{"<iq/ >", "not well-formed (invalid token)"},
	};

	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		char in[512], want[512];

		snprintf(in, sizeof(in), "<iq id='1'/>\n%s\n<iq id='3'/>\n<iq id='4'>a</iq>\n",
			cases[i].bad);
		snprintf(want, sizeof(want),
			"1:<iq id='1'/>\n2!%s\n3:<iq id='3'/>\n4:<iq id='4'>a</iq>\n",
			cases[i].why);
		if (strcmp(cases[i].bad, "<!DOCTYPE x [<!ENTITY e 'x'>]><iq>&e;</iq>") == 0)
			CHECK(strchr(in, '['));
		READS(&pipe_config, in, want);
		/* the same behind something good, and at the end */
		snprintf(in, sizeof(in), "<iq/> <iq/>\n\n<iq/>%s\n<iq id='4'/>\n%s", cases[i].bad,
			"<iq id='5'/>");
		snprintf(want, sizeof(want),
			"1:<iq/>\n1:<iq/>\n3:<iq/>\n3!%s\n4:<iq id='4'/>\n5:<iq id='5'/>\n",
			cases[i].why);
		READS(&pipe_config, in, want);
	}
	PIPE("<iq/>\n<iq>\0</iq>\n<iq/>\n",
		"1:<iq/>\n2!not well-formed (invalid token)\n3:<iq/>\n");
	PIPE("<iq/>\n\0<iq/>\n<iq/>\n", "1:<iq/>\n2!text outside of a stanza\n3:<iq/>\n");
}

/* What tools write before and between the stanzas of a pipe is passed over, on a stream it is not.
 */
static void what_tools_write(void)
{
	static const char *const asides[] = {"<?xml version='1.0' encoding='UTF-8'?>",
		"\xef\xbb\xbf", "\xef\xbb\xbf<?xml version='1.0'?>", "<!---->",
		"<!-- > <iq/> - -> -->", "<!--\n<iq id='no'/>\n-->", "<?pi?>",
		"<?pi\n<iq id='no'/> > ?>", "<!-- a --> <!-- b -->"};
	struct buf in, want;

	buf_init(&in, BUF_NO_MAX);
	buf_init(&want, BUF_NO_MAX);
	for (size_t i = 0; i < sizeof(asides) / sizeof(asides[0]); i++) {
		size_t lines = 0;

		for (const char *p = asides[i]; (p = strchr(p, '\n')); p++)
			lines++;
		buf_reset(&in);
		buf_reset(&want);
		buf_printf(&in, "%s<iq id='1'/>%s\n%s<iq id='2'/>\n%s", asides[i], asides[i],
			asides[i], asides[i]);
		buf_printf(&want, "%zu:<iq id='1'/>\n%zu:<iq id='2'/>\n", 1 + lines, 2 + 3 * lines);
		READS(&pipe_config, buf_string(&in), buf_string(&want));
	}
	buf_free(&in);
	buf_free(&want);
	/* a comment and an instruction without an end */
	PIPE("<iq/><!-- \n<iq id='2'/>\n", "1:<iq/>\n1!truncated stanza\n2:<iq id='2'/>\n");
	PIPE("<?pi >\n<iq/>", "1!truncated stanza\n2:<iq/>\n");
	SOCKET(HEADER "<!-- --><iq/>", OPENED "0!comments are not allowed\n");
	SOCKET(HEADER "<?pi?><iq/>", OPENED "0!processing instructions are not allowed\n");
}

static void what_tools_write_has_a_limit(void)
{
	static const char *const kinds[][2] = {{"<!--", "-->"}, {"<?x ", " ?>"}};
	const size_t max = 64 * 1024;

	for (size_t kind = 0; kind < 2; kind++)
		for (size_t more = 0; more < 2; more++)
			for (size_t chunk = 0; chunk <= 50000; chunk += 50000) {
				struct buf in, got;

				buf_init(&in, BUF_NO_MAX);
				buf_init(&got, BUF_NO_MAX);
				buf_append_string(&in, kinds[kind][0]);
				while (buf_length(&in) < max + more - strlen(kinds[kind][1]))
					buf_append_char(&in, 'x');
				buf_append_string(&in, kinds[kind][1]);
				buf_append_string(&in, "<iq id='1'/>\n<iq id='2'/>\n");
				transcript(&got, &pipe_config, buf_string(&in), buf_length(&in),
					chunk, NULL);
				CHECK_EQ_STR(buf_string(&got),
					more ? "1!comment or instruction too large\n2:<iq "
					       "id='2'/>\n"
					     : "1:<iq id='1'/>\n2:<iq id='2'/>\n");
				buf_free(&in);
				buf_free(&got);
			}
}

/* A line that is cut anywhere is reported, and no other line is lost. */
static void a_line_cut_off_anywhere(void)
{
	static const char line[] =
		"<iq type='get' id='1' from=\"a@b/c\" xmlns:p='urn:p'><query xmlns='urn:q' "
		"p:a='&lt;>'>"
		"t&amp;t<x/><p:y>z</p:y></query><forwarded xmlns='urn:xmpp:forward:0'><delay/>"
		"<message xmlns='jabber:client' to='x'><body>"
		"\xe2\x82\xac<![CDATA[<x>]]></body></message></forwarded></iq>";
	static const char before[] = "<iq id='a'/>\n";
	static const char after[] =
		"\n<message id='b'>c</message>\n<iq to='d' id='e'/>\n<iq id='f'/>\n";

	for (size_t n = 1; n < sizeof(line) - 1; n++) {
		struct buf in, got;
		const char *events;

		buf_init(&in, BUF_NO_MAX);
		buf_init(&got, BUF_NO_MAX);
		buf_append_string(&in, before);
		buf_append(&in, line, n);
		buf_append_string(&in, after);
		transcript(&got, &pipe_config, buf_string(&in), buf_length(&in), 0, NULL);
		events = buf_string(&got);
		CHECK(strncmp(events, "1:<iq id='a'/>\n2!", 17) == 0);
		CHECK_MSG(strcmp(strchr(events + 15, '\n'),
				  "\n3:<message id='b'>c</message>\n4:<iq to='d' id='e'/>\n5:<iq "
				  "id='f'/>\n") == 0,
			"cut at %zu: %s", n, events);
		reads_n(__LINE__, &pipe_config, buf_string(&in), buf_length(&in), buf_string(&got));
		buf_free(&in);
		buf_free(&got);
	}
}

static void many_lines_cut_off(void)
{
	/* thousands of each kind: in linear time, or this takes minutes */
	static const char *const cut[] = {"<iq><q>\n", "<iq id='1'><q>\n", "<iq><![CDATA[\n",
		"<iq><a><![CDATA[]]]>\n", "<!-- \n", "<iq a='\n", "<iq><!--\n", "<iq><?x\n", "x\n"};

	for (size_t i = 0; i < sizeof(cut) / sizeof(cut[0]); i++) {
		struct buf in, got;
		size_t bad = 0, good = 0, lines = rounds(8000);
		struct reader *r = reader_new(&pipe_config);
		struct stanza s;
		enum reader_event e;

		buf_init(&in, BUF_NO_MAX);
		buf_init(&got, BUF_NO_MAX);
		for (size_t n = 0; n < lines; n++) {
			buf_append_string(&in, cut[i]);
			buf_append_string(&in, "<iq id='2'/>\n");
		}
		for (size_t at = 0; at < buf_length(&in); at += 4000) {
			size_t n = buf_length(&in) - at;

			reader_feed(r, buf_string(&in) + at, n < 4000 ? n : 4000);
			while ((e = reader_next(r, &s)) != READER_MORE) {
				bad += e == READER_BAD;
				good += e == READER_STANZA;
			}
		}
		reader_end(r);
		while ((e = reader_next(r, &s)) != READER_MORE) {
			bad += e == READER_BAD;
			good += e == READER_STANZA;
		}
		CHECK_MSG(
			good == lines && bad == lines, "%s: %zu good, %zu bad", cut[i], good, bad);
		reader_free(r);
		buf_free(&in);
		buf_free(&got);
	}
}

static void sections_cut_off(void)
{
	PIPE("<iq><b><![CDATA[x\n<iq id='2'/>\n<iq id='3'><![CDATA[\n<presence/>\n\n <iq/>",
		"1!truncated stanza\n2:<iq id='2'/>\n3!truncated stanza\n4:<presence/>\n6:<iq/>\n");
	PIPE("<!-- x\n<iq id='2'/>\n", "1!truncated stanza\n2:<iq id='2'/>\n");
	PIPE("<iq>\n<?x\n<iq id='2'/>\n", "1!truncated stanza\n3:<iq id='2'/>\n");
	/* lines in a section that ends are no stanzas */
	PIPE("<iq><![CDATA[x\n<iq id='2'/>\n]]>", "1!truncated stanza\n");
	PIPE("<!-- x\n<iq id='2'/>\n-->\n<iq/>", "4:<iq/>\n");
}

static void bad_pieces_of_several_lines(void)
{
	/* reported once; what remains of it gives no stanzas */
	PIPE("<iq\n a='\n<b>'>\n<c/>\n</iq>\n<iq/>\n",
		"1!not well-formed (invalid token)\n6:<iq/>\n");
	PIPE("<iq>\n  <a>\n  </b>\n  <message to='x'/>\n  <c/>\n</iq>\njunk\n<iq/>\n",
		"1!mismatched tag\n8:<iq/>\n");
	PIPE("  <iq>\n    </b>\n    <iq to='x'/>\n  </iq>\n  <iq/>\n<iq/>\n",
		"1!mismatched tag\n5:<iq/>\n6:<iq/>\n");
	/* a cut-off line before an indented one */
	PIPE("<iq><a\n  <iq id='2'/>\n", "1!not well-formed (invalid token)\n2:<iq id='2'/>\n");
	PIPE("<iq><a>\r\n<iq id='2'/>\r\n", "1!truncated stanza\n2:<iq id='2'/>\n");
	PIPE("<iq><a></b>\n<c:iq xmlns:c='jabber:client'/>\n",
		"1!mismatched tag\n2:<c:iq xmlns:c='jabber:client'/>\n");
	PIPE("<iq><a\n<c:iq xmlns:c='jabber:client'/>\n",
		"1!not well-formed (invalid token)\n2:<c:iq xmlns:c='jabber:client'/>\n");
}

static void end_of_input(void)
{
	PIPE("<iq/>\n<iq>", "1:<iq/>\n2!truncated stanza\n");
	PIPE("<iq/>\n<iq><a/>\n", "1:<iq/>\n2!truncated stanza\n");
	PIPE("<iq/>\n<i", "1:<iq/>\n2!truncated stanza\n");
	PIPE("<", "1!truncated stanza\n");
	PIPE("<iq>\xe2\x82", "1!truncated stanza\n");
	PIPE("<iq/>\n\n\njunk", "1:<iq/>\n4!text outside of a stanza\n");
}

/* A stanza is reported as soon as its last byte has come, however its tags are written and cut. */
static void at_once(void)
{
	static const char *const shapes[] = {"<iq a='%s'/>", "<iq><q a=\"%s\"/></iq>",
		"<iq><q>%s</q></iq>", "<iq><![CDATA[%s]]></iq>", "<iq><q a='%s' b=\"'\"></q></iq>"};
	static const size_t sizes[] = {1, 1000, 5000, 70000};
	static const char *const fills[] = {">", "x", "]", "\""};

	for (size_t i = 0; i < 5 * 4 * 4; i++) {
		struct reader *r = reader_new(&pipe_config);
		struct stanza s;
		size_t size = sizes[i / 4 % 4];
		const char *fill = fills[i % 4], *shape = shapes[i / 16];
		struct buf in;

		if (*fill == '"')
			fill = strstr(shape, "\"%s") ? "'" : "\"";
		if (*fill == '>' && !strchr(shape, '='))
			fill = "x>";
		buf_init(&in, BUF_NO_MAX);
		buf_append(&in, shape, (size_t)(strchr(shape, '%') - shape));
		while (buf_length(&in) < size)
			buf_append_string(&in, fill);
		buf_append_string(&in, strchr(shape, '%') + 2);
		/* the last tag byte by byte, the rest in one piece, or in pieces */
		for (size_t at = 0, n; at < buf_length(&in); at += n) {
			size_t left = buf_length(&in) - at;

			n = left > 20 ? (i % 3 ? left - 20 : left > 1020 ? 1000 : left - 20) : 1;
			reader_feed(r, buf_string(&in) + at, n);
			if (left > n) {
				if (!CHECK_EQ_INT(reader_next(r, &s), READER_MORE))
					fprintf(stderr, "%s, %zu of %s\n", shape, size, fill);
			} else if (CHECK_EQ_INT(reader_next(r, &s), READER_STANZA)) {
				CHECK_EQ_MEM(s.raw.p, s.raw.n, buf_string(&in), buf_length(&in));
			} else {
				fprintf(stderr, "%s, %zu of %s\n", shape, size, fill);
			}
		}
		reader_free(r);
		buf_free(&in);
	}
	/* so is a fault */
	struct reader *r = reader_new(&pipe_config);
	struct stanza s;

	reader_feed(r, "<iq><a></b", 10);
	CHECK_EQ_INT(reader_next(r, &s), READER_MORE);
	reader_feed(r, ">", 1);
	CHECK_EQ_INT(reader_next(r, &s), READER_BAD);
	reader_feed(r, "\n<iq id='1'><q>\n<iq id='2'>", 27);
	CHECK_EQ_INT(reader_next(r, &s), READER_BAD);
	CHECK_EQ_INT(reader_error_line(r), 2);
	CHECK_EQ_INT(reader_next(r, &s), READER_MORE);
	reader_feed(r, "</iq>", 5);
	CHECK_EQ_INT(reader_next(r, &s), READER_STANZA);
	CHECK_EQ_INT(s.line, 3);
	reader_free(r);
}

static void inside(void)
{
	struct reader *r = reader_new(&pipe_config);
	struct stanza s;

	CHECK(!reader_inside(r));
	reader_feed(r, " \n<", 3);
	CHECK_EQ_INT(reader_next(r, &s), READER_MORE);
	CHECK(reader_inside(r));
	reader_feed(r, "iq>", 3);
	CHECK_EQ_INT(reader_next(r, &s), READER_MORE);
	CHECK(reader_inside(r));
	reader_feed(r, "</iq> ", 6);
	CHECK_EQ_INT(reader_next(r, &s), READER_STANZA);
	CHECK_EQ_INT(reader_next(r, &s), READER_MORE);
	CHECK(!reader_inside(r));
	reader_feed(r, "junk", 4);
	CHECK_EQ_INT(reader_next(r, &s), READER_BAD);
	CHECK_EQ_INT(reader_next(r, &s), READER_MORE);
	CHECK(!reader_inside(r));
	reader_reset(r);
	reader_feed(r, "<iq id='a'/>", 12);
	CHECK_EQ_INT(reader_next(r, &s), READER_STANZA);
	CHECK_EQ_INT(s.line, 1);
	reader_free(r);
	reader_free(NULL);
}

/* Sockets ---------------------------------------------------------------- */

static void socket_streams(void)
{
	SOCKET(HEADER "<handshake/> <iq id='1'/>\n</stream:stream>",
		OPENED "0:<handshake/>\n0:<iq id='1'/>\nclose\n");
	SOCKET(HEADER, OPENED);
	SOCKET(HEADER "</stream:stream><iq/>junk", OPENED "close\n");
	SOCKET("<stream xmlns='http://etherx.jabber.org/streams'><iq "
	       "xmlns='jabber:client'/></stream>",
		"open<stream xmlns='http://etherx.jabber.org/streams'>\n0:<iq "
		"xmlns='jabber:client'/>\nclose\n");
	SOCKET(HEADER "<stream:error><conflict xmlns='urn:ietf:params:xml:ns:xmpp-streams'/>"
		      "</stream:error></stream:stream>",
		OPENED "0:<stream:error><conflict xmlns='urn:ietf:params:xml:ns:xmpp-streams'/>"
		       "</stream:error>\nclose\n");
}

static void socket_malformed_ends_it(void)
{
	static const struct {
		const char *in, *out;
	} cases[] = {
		{HEADER "<iq/><a></b><iq/>", OPENED "0:<iq/>\n0!mismatched tag\n"},
		{HEADER "<iq/>junk<iq/>", OPENED "0:<iq/>\n0!text outside of a stanza\n"},
		{HEADER "<iq/>\n<!-- -->\n<iq/>", OPENED "0:<iq/>\n0!comments are not allowed\n"},
		{HEADER "<iq><?x?></iq>", OPENED "0!processing instructions are not allowed\n"},
		{HEADER "<!DOCTYPE x><iq/>",
			OPENED "0!document type declarations are not allowed\n"},
		{HEADER "<iq/><iq", OPENED "0:<iq/>\n0!truncated stanza\n"},
		{HEADER "<iq/><iq><a>\n<iq to='x'/>", OPENED "0:<iq/>\n0!truncated stanza\n"},
		{HEADER "<iq>&e;</iq>", OPENED "0!undefined entity\n"},
		{HEADER "</stream>", OPENED "0!mismatched tag\n"},
		{"<!DOCTYPE x [<!ENTITY e 'x'>]>" HEADER,
			"0!document type declarations are not allowed\n"},
		{"<!-- -->" HEADER, "0!comments are not allowed\n"},
		{"junk", "0!not an XMPP stream\n"},
		{"HTTP/1.1 400 Bad Request\r\n\r\n", "0!not an XMPP stream\n"},
		{"<", "0!truncated stanza\n"},
		{"\xef\xbb\xbf" HEADER, "0!not an XMPP stream\n"},
		{"\xff\xfe<", "0!not an XMPP stream\n"},
		{" " HEADER, "0!XML or text declaration not at start of entity\n"},
		{"<html><body/></html>", "0!not an XMPP stream\n"},
		{"<stream:stream xmlns:stream='urn:x'/>", "0!not an XMPP stream\n"},
	};

	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++)
		READS(&socket_config, cases[i].in, cases[i].out);
	SOCKET("<\0s\0t\0r\0e\0a\0m\0", "0!not an XMPP stream\n");
	SOCKET("\0<\0s\0t\0r\0e\0a\0m", "0!not an XMPP stream\n");
	SOCKET(HEADER "<iq>\0</iq>", OPENED "0!not well-formed (invalid token)\n");
}

static void socket_header(void)
{
	struct reader *r = reader_new(&socket_config);
	struct stanza s;
	static const char bytes[] = HEADER;

	reader_feed(r, bytes, sizeof(bytes) - 1);
	CHECK_EQ_INT(reader_next(r, &s), READER_OPEN);
	CHECK_EQ_SPAN(s.id, "s1");
	CHECK_EQ_SPAN(s.from, "p.test");
	CHECK(s.to.p == NULL);
	CHECK_EQ_INT(s.kind, STANZA_OTHER);
	CHECK(xml_is(s.root, NS_STREAM, "stream"));
	CHECK_EQ_INT(reader_next(r, &s), READER_MORE);
	CHECK(!reader_inside(r));
	/* a second stream after a reconnect */
	reader_reset(r);
	reader_feed(r, bytes, sizeof(bytes) - 1);
	CHECK_EQ_INT(reader_next(r, &s), READER_OPEN);
	reader_feed(r, "<iq", 3);
	CHECK_EQ_INT(reader_next(r, &s), READER_MORE);
	CHECK(reader_inside(r));
	reader_reset(r);
	reader_feed(r, "<iq", 3);
	CHECK_EQ_INT(reader_next(r, &s), READER_MORE);
	reader_feed(r, "/>", 2);
	CHECK_EQ_INT(reader_next(r, &s), READER_BAD);
	CHECK_EQ_STR(reader_error(r), "not an XMPP stream");
	CHECK_EQ_INT(reader_next(r, &s), READER_MORE);
	reader_feed(r, "<iq/>", 5);
	CHECK_EQ_INT(reader_next(r, &s), READER_MORE);
	reader_free(r);
}

static void prefixes_of_the_header(void)
{
	struct reader *r = reader_new(&socket_config);
	struct stanza s;
	static const char bytes[] =
		"<stream:stream xmlns='jabber:component:accept' xmlns:z='urn:z' "
		"xmlns:stream='http://etherx.jabber.org/streams'><iq z:to='x' to='y'><z:q/></iq>";

	reader_feed(r, bytes, sizeof(bytes) - 1);
	CHECK_EQ_INT(reader_next(r, &s), READER_OPEN);
	CHECK_EQ_INT(reader_next(r, &s), READER_STANZA);
	CHECK_EQ_SPAN(s.to, "y");
	CHECK(xml_is(stanza_payload(&s), "urn:z", "q"));
	CHECK_EQ_INT(s.outer_count, 3);
	CHECK_EQ_SPAN(s.outer[0].prefix, "");
	CHECK_EQ_SPAN(s.outer[0].uri, "jabber:component:accept");
	CHECK_EQ_SPAN(s.outer[1].prefix, "z");
	CHECK_EQ_SPAN(s.outer[1].uri, "urn:z");
	CHECK_EQ_SPAN(s.outer[2].prefix, "stream");
	reader_free(r);
}

/* The stream lives through many restarts of the parser. */
static void long_streams(void)
{
	struct reader *r = reader_new(&socket_config);
	struct stanza s;
	static const char header[] =
		"<stream:stream xmlns='jabber:component:accept' xmlns:z='urn:z' "
		"xmlns:stream='http://etherx.jabber.org/streams'>";
	struct buf in;
	unsigned good = 0, right = 0;

	buf_init(&in, BUF_NO_MAX);
	buf_append_string(&in, header);
	for (unsigned i = 0; i < 30000; i++)
		buf_printf(&in, "<iq id='%u'><z:q xmlns:y%u='urn:y' y%u:b%u=''/><a%u/></iq>\n", i,
			i, i, i, i);
	buf_append_string(&in, "</stream:stream>");
	for (size_t at = 0; at < buf_length(&in); at += 70000) {
		size_t n = buf_length(&in) - at;
		enum reader_event e;

		reader_feed(r, buf_string(&in) + at, n < 70000 ? n : 70000);
		while ((e = reader_next(r, &s)) != READER_MORE) {
			char id[20];

			if (e != READER_STANZA)
				continue;
			snprintf(id, sizeof(id), "%u", good++);
			right += span_is(s.id, id) && xml_is(stanza_payload(&s), "urn:z", "q") &&
				 s.kind == STANZA_IQ && s.raw.p[s.raw.n - 1] == '>' &&
				 s.raw.p[0] == '<';
		}
	}
	CHECK_EQ_INT(good, 30000);
	CHECK_EQ_INT(right, 30000);
	CHECK(!reader_inside(r));
	reader_free(r);
	buf_free(&in);
}

/* Stanzas ---------------------------------------------------------------- */

static void attributes(void)
{
	struct stanza s;
	struct reader *r = read_one(&s,
		"<iq xmlns:y='urn:y' y:from='1' y:type='2' y:id='3' y:to='4' y:lang='5' lang='6' "
		"type='get' from='a&amp;&#x62;\n\tc&#10;&lt;&gt;&quot;&apos;' xml:lang='de' "
		"to=\"it's\"/>");

	CHECK_EQ_INT(s.kind, STANZA_IQ);
	CHECK_EQ_INT(s.type, TYPE_GET);
	CHECK_EQ_SPAN(s.from, "a&b  c\n<>\"'");
	CHECK_EQ_SPAN(s.to, "it's");
	CHECK_EQ_SPAN(s.lang, "de");
	CHECK(s.id.p == NULL);
	CHECK_EQ_INT(s.root->attributes_count, 10);
	CHECK_EQ_SPAN(s.root->attributes[0].ns, "urn:y");
	CHECK_EQ_SPAN(s.root->attributes[0].name, "from");
	CHECK_EQ_INT(s.root->declarations_count, 1);
	CHECK(xml_attribute(s.root, "id").p == NULL);
	CHECK_EQ_SPAN(xml_attribute(s.root, "lang"), "6");
	reader_free(r);

	r = read_one(&s, "<presence xmlns:y='urn:y' y:type='unavailable' y:from='a' id=''/>");
	CHECK_EQ_INT(s.type, TYPE_NONE);
	CHECK(s.from.p == NULL);
	CHECK(s.id.p != NULL && s.id.n == 0);
	CHECK(s.lang.p == NULL);
	reader_free(r);
}

static void kinds_and_types(void)
{
	static const struct {
		const char *xml;
		enum stanza_kind kind;
		enum stanza_type type;
	} cases[] = {
		{"<iq/>", STANZA_IQ, TYPE_NONE},
		{"<iq type='set'/>", STANZA_IQ, TYPE_SET},
		{"<iq type='result'/>", STANZA_IQ, TYPE_RESULT},
		{"<iq type='error'/>", STANZA_IQ, TYPE_ERROR},
		{"<iq type='chat'/>", STANZA_IQ, TYPE_UNKNOWN},
		{"<iq type=''/>", STANZA_IQ, TYPE_UNKNOWN},
		{"<iq type='get '/>", STANZA_IQ, TYPE_UNKNOWN},
		{"<iq type='GET'/>", STANZA_IQ, TYPE_UNKNOWN},
		{"<message type='normal'/>", STANZA_MESSAGE, TYPE_NORMAL},
		{"<message type='chat'/>", STANZA_MESSAGE, TYPE_CHAT},
		{"<message type='groupchat'/>", STANZA_MESSAGE, TYPE_GROUPCHAT},
		{"<message type='headline'/>", STANZA_MESSAGE, TYPE_HEADLINE},
		{"<message type='error'/>", STANZA_MESSAGE, TYPE_ERROR},
		{"<message type='get'/>", STANZA_MESSAGE, TYPE_UNKNOWN},
		{"<presence/>", STANZA_PRESENCE, TYPE_NONE},
		{"<presence type='unavailable'/>", STANZA_PRESENCE, TYPE_UNAVAILABLE},
		{"<presence type='subscribe'/>", STANZA_PRESENCE, TYPE_SUBSCRIBE},
		{"<presence type='subscribed'/>", STANZA_PRESENCE, TYPE_SUBSCRIBED},
		{"<presence type='unsubscribe'/>", STANZA_PRESENCE, TYPE_UNSUBSCRIBE},
		{"<presence type='unsubscribed'/>", STANZA_PRESENCE, TYPE_UNSUBSCRIBED},
		{"<presence type='probe'/>", STANZA_PRESENCE, TYPE_PROBE},
		{"<presence type='error'/>", STANZA_PRESENCE, TYPE_ERROR},
		{"<presence type='available'/>", STANZA_PRESENCE, TYPE_UNKNOWN},
		{"<iq xmlns='jabber:client' type='get'/>", STANZA_IQ, TYPE_GET},
		{"<iq xmlns='jabber:component:accept' type='get'/>", STANZA_IQ, TYPE_GET},
		{"<c:iq xmlns:c='jabber:client' type='get'/>", STANZA_IQ, TYPE_GET},
		{"<iq xmlns='jabber:server'/>", STANZA_OTHER, TYPE_NONE},
		{"<iq xmlns='urn:x' type='get'/>", STANZA_OTHER, TYPE_UNKNOWN},
		{"<IQ type='get'/>", STANZA_OTHER, TYPE_UNKNOWN},
		{"<query/>", STANZA_OTHER, TYPE_NONE},
	};

	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		struct stanza s;
		struct reader *r = read_one(&s, cases[i].xml);

		CHECK_MSG(s.kind == cases[i].kind, "%s", cases[i].xml);
		CHECK_MSG(s.type == cases[i].type, "%s", cases[i].xml);
		CHECK_EQ_SPAN(s.raw, cases[i].xml);
		reader_free(r);
	}
	CHECK_EQ_STR(stanza_type_name(TYPE_PROBE), "probe");
	CHECK_EQ_STR(stanza_type_name(TYPE_GET), "get");
	CHECK_EQ_STR(stanza_type_name(TYPE_NONE), NULL);
	CHECK_EQ_STR(stanza_type_name(TYPE_UNKNOWN), NULL);
}

static void validity(void)
{
	static const struct {
		const char *xml;
		bool valid, request, answer;
	} cases[] = {
		{"<iq type='get' id='1'><q/></iq>", true, true, false},
		{"<iq type='set' id='1'> <q/> </iq>", true, true, false},
		{"<iq type='get' id='1'/>", false, true, false},
		{"<iq type='get' id='1'><q/><r/></iq>", false, true, false},
		{"<iq type='get' id=''><q/></iq>", false, true, false},
		{"<iq type='get'><q/></iq>", false, true, false},
		{"<iq id='1'><q/></iq>", false, false, false},
		{"<iq type='x' id='1'><q/></iq>", false, false, false},
		{"<iq type='result' id='1'/>", true, false, true},
		{"<iq type='result' id='1'><q/></iq>", true, false, true},
		{"<iq type='error' id='1'><q/><error/></iq>", true, false, true},
		{"<iq type='result'/>", false, false, true},
		{"<message type='chat' id='1'><q/></message>", false, false, false},
		{"<presence id='1'/>", false, false, false},
	};

	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		struct stanza s;
		struct reader *r = read_one(&s, cases[i].xml);

		CHECK_MSG(stanza_iq_valid(&s) == cases[i].valid, "%s", cases[i].xml);
		CHECK_MSG(stanza_is_request(&s) == cases[i].request, "%s", cases[i].xml);
		CHECK_MSG(stanza_is_answer(&s) == cases[i].answer, "%s", cases[i].xml);
		reader_free(r);
	}
}

/* Offsets of every node of the tree say where it stands. */
static void check_tree(const struct stanza *s, const struct xml_node *node)
{
	CHECK(s->text[node->start] == '<');
	CHECK(s->text[node->open_end - 1] == '>');
	CHECK(s->text[node->end - 1] == '>');
	CHECK(node->start < node->open_end && node->open_end <= node->close_start &&
		node->close_start <= node->end);
	if (node->close_start != node->end)
		CHECK(s->text[node->close_start] == '<' && s->text[node->close_start + 1] == '/');
	for (const struct xml_node *child = node->first_child; child; child = child->next) {
		CHECK(child->parent == node);
		CHECK(child->start >= node->open_end && child->end <= node->close_start);
		CHECK(child->next || child == node->last_child);
		if (child->next)
			CHECK(child->end <= child->next->start);
		check_tree(s, child);
	}
}

static void the_tree(void)
{
	struct stanza s;
	struct reader *r = read_one(&s, "<iq a='>'\n>t<a/>\n<b x='/'  ><c ><d><e/></d></c ></b \n>"
					"<p:a xmlns:p='urn:p' xmlns=''/></iq>");
	const struct xml_node *b, *c, *a2;

	check_tree(&s, s.root);
	CHECK_EQ_INT(s.root->children_count, 3);
	b = xml_child(s.root, "", "b");
	REQUIRE(b);
	CHECK(!b->prefixed);
	CHECK_EQ_INT(b->children_count, 1);
	CHECK_EQ_SPAN(xml_attribute(b, "x"), "/");
	c = xml_child(b, "", "c");
	REQUIRE(c);
	CHECK_EQ_INT(c->children_count, 1);
	CHECK_EQ_SPAN(c->first_child->name, "d");
	CHECK_EQ_MEM(s.text + c->open_end, c->close_start - c->open_end, "<d><e/></d>", 11);
	CHECK_EQ_SPAN(stanza_payload(&s)->name, "a");
	a2 = xml_next(stanza_payload(&s), "", "a");
	REQUIRE(a2);
	CHECK(a2->prefixed);
	CHECK_EQ_SPAN(a2->ns, "urn:p");
	CHECK_EQ_INT(a2->declarations_count, 2);
	CHECK(!xml_next(a2, "", ""));
	CHECK(!xml_next(NULL, "", ""));
	CHECK(!xml_child(a2, "", ""));
	CHECK(!xml_child(NULL, "", ""));
	CHECK(xml_child(s.root, "urn:p", "") == a2);
	CHECK(xml_child(s.root, "", "nothing") == NULL);
	CHECK(!xml_is(NULL, "", ""));
	reader_free(r);
}

/* READER_INDEX_NODES elements are indexed, the root included, and READER_INDEX_DEPTH levels. */
static void bounds_of_the_index(void)
{
	static const char xml[] = "<iq><a><x/><y/></a><b/></iq>";
	struct reader_config config = {.kind = READER_PIPE};
	const struct xml_node *node;
	struct reader *r = reader_new(&config);
	struct stanza s;
	struct buf many;
	int levels = 1;

	buf_init(&many, BUF_NO_MAX);
	buf_append_string(&many, "<iq><a><x/><y/></a>");
	for (int i = 4; i < READER_INDEX_NODES; i++)
		buf_append_string(&many, "<b/>");
	buf_append_string(&many, "<c/><d><z/></d></iq><iq><a/></iq>"
				 "<iq><a><b><c><d><e><f/><g/></e></d></c></b></a></iq>");
	reader_feed(r, buf_string(&many), buf_length(&many));
	CHECK_EQ_INT(reader_next(r, &s), READER_STANZA);
	check_tree(&s, s.root);
	CHECK_EQ_INT(s.root->children_count, READER_INDEX_NODES - 4 + 3);
	CHECK_EQ_INT(s.root->first_child->children_count, 2);
	CHECK_EQ_SPAN(s.root->last_child->name, "b");
	CHECK_EQ_INT(reader_next(r, &s), READER_STANZA);
	CHECK_EQ_SPAN(s.root->last_child->name, "a");
	CHECK_EQ_INT(reader_next(r, &s), READER_STANZA);
	for (node = s.root; node->first_child; node = node->first_child)
		levels++;
	CHECK_EQ_INT(levels, READER_INDEX_DEPTH);
	CHECK_EQ_SPAN(node->name, "e");
	CHECK_EQ_INT(node->children_count, 2);
	reader_free(r);
	buf_free(&many);

	config.index = READER_INDEX_CHILDREN;
	r = reader_new(&config);
	reader_feed(r, xml, sizeof(xml) - 1);
	CHECK_EQ_INT(reader_next(r, &s), READER_STANZA);
	CHECK_EQ_INT(s.root->children_count, 2);
	CHECK(stanza_payload(&s) != NULL);
	CHECK_EQ_INT(stanza_payload(&s)->children_count, 2);
	CHECK(!stanza_payload(&s)->first_child);
	reader_free(r);
}

/* Limits ----------------------------------------------------------------- */

static void too_large_stanzas(void)
{
	struct reader_config config = {.kind = READER_PIPE, .max_stanza_bytes = 60};

	READS(&config,
		"<iq id='1'>aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa</iq>\n"
		"<iq id='2'>aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa</iq>\n"
		"<iq id='3'><a "
		"b='>>>>>>>>>>>>>>>>>>>>>>>>>>>>>>>>>>>>>>>>>>>>>>>>>>>>>>>'/></iq><iq "
		"id='4'/>\n"
		"<iq id='5'><![CDATA[</iq></iq></iq></iq></iq></iq></iq></iq></iq></iq>]]]]></iq>"
		"<iq id='6'/>\n"
		"<iq id='7'><a><b/><c/><d/><e/><f/><g/><h/><i/><j/><k/><l/><m/><n/><o/></a></iq>\n"
		"<iq id='8' aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa='1'/>\n"
		"<iq id='9' aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa='1'><a/></iq>\n"
		"<iq "
		"id='0'>\n\n\n\n\n\n\n\n\n\n\n\n\n\n\n\n\n\n\n\n\n\n\n\n\n\n\n\n\n\n\n\n\n\n\n\n\n"
		"\n\n\n\n\n\n\n\n\n\n\n\n<a>\n\n\n</a></iq><iq id='a'/>\n<iq/>",
		"1:<iq id='1'>aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa</iq>\n"
		"2%too-large<iq id='2'>\n3%too-large<iq id='3'>\n3:<iq id='4'/>\n"
		"4%too-large<iq id='5'>\n4:<iq id='6'/>\n5%too-large<iq id='7'>\n"
		"6%too-large<iq id='8' "
		"aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa='1'/>\n"
		"7%too-large<iq id='9' "
		"aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa='1'>\n"
		"8%too-large<iq id='0'>\n60:<iq id='a'/>\n61:<iq/>\n");
	/* an error in the part that is thrown away */
	READS(&config,
		"<iq id='1'>aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa<!-- "
		"--></iq>\n"
		"<iq id='2'>aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa<?x?></iq>\n"
		"<iq id='3'>aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa<!x></iq>\n"
		"<iq id='4'>aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa<b\n"
		"<iq id='5'>aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa\n"
		"<iq id='6'>aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa",
		"1!comments are not allowed\n2!processing instructions are not allowed\n"
		"3!not well-formed\n4!not well-formed\n5!truncated stanza\n6!truncated stanza\n");
	/* a section that is cut swallows the lines behind it until the limit; they are read again
	 */
	READS(&config,
		"<iq><![CDATA[\n<iq id='1'/>\n<iq id='2'/>\n<iq id='3'/>\n<iq id='4'/>\n<iq "
		"id='5'/>\n",
		"1!truncated stanza\n2:<iq id='1'/>\n3:<iq id='2'/>\n4:<iq id='3'/>\n5:<iq "
		"id='4'/>\n6:<iq id='5'/>\n");
	/* a forwarded stanza at the beginning of a line does not begin a stanza there, either */
	READS(&config,
		"<iq id='1'><forwarded xmlns='urn:xmpp:forward:0'>                   \n"
		"<message xmlns='jabber:client' to='x'/>\n</forwarded></iq>\n<iq/>\n",
		"1%too-large<iq id='1'>\n4:<iq/>\n");
	READS(&config,
		"<iq id='1'>                                                              \n"
		"<forwarded xmlns='urn:xmpp:forward:0'>\n<message to='x'/>\n</forwarded></iq>\n"
		"<iq/>\n<iq id='1'>                                                       \n"
		"<forwarded/><x>\n<message to='x'/>\n<iq/>\n",
		"1%too-large<iq id='1'>\n5:<iq/>\n6!truncated stanza\n8:<message "
		"to='x'/>\n9:<iq/>\n");
	config.kind = READER_SOCKET;
	READS(&config,
		HEADER "<iq id='1'>aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa</iq><iq/>"
		       "<iq id='2'>aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa\n<iq "
		       "to='x'/></iq><iq/>"
		       "</stream:stream>",
		OPENED "0%too-large<iq id='1'>\n0:<iq/>\n0%too-large<iq id='2'>\n0:<iq/>\nclose\n");
}

static void too_deep_stanzas(void)
{
	struct reader_config config = {.kind = READER_PIPE, .max_depth = 2};

	READS(&config,
		"<iq id='1'><a><b/></a></iq>\n<iq id='2'><a><b><c/></b></a></iq>\n"
		"<iq id='3'><a><b><c><d/><e>t</e></c></b></a></iq><iq/>\n",
		"1:<iq id='1'><a><b/></a></iq>\n2%too-deep<iq id='2'>\n3%too-deep<iq id='3'>\n"
		"3:<iq/>\n");
}

static void too_many_attributes(void)
{
	struct reader_config config = {.kind = READER_PIPE, .max_attributes = 3};
	struct reader *r;
	struct stanza s;

	READS(&config,
		"<iq a='' b='' c=''/>\n<iq id='2' b='' c='' d=''/>\n<iq id='3'><q a='' b='' c='' "
		"d=''/></iq>\n<iq id='4'><q xmlns='a' xmlns:b='b' b:c='' d=''/><r/></iq>\n<iq/>\n",
		"1:<iq a='' b='' c=''/>\n2%too-many-attributes<iq id='2' b='' c='' d=''/>\n"
		"3%too-many-attributes<iq id='3'>\n4%too-many-attributes<iq id='4'>\n5:<iq/>\n");
	r = reader_new(&config);
	reader_feed(r, "<iq id='1' to='t' type='get' from='f'><q/></iq>", 47);
	CHECK_EQ_INT(reader_next(r, &s), READER_STANZA);
	CHECK_EQ_INT(s.refusal, STANZA_TOO_MANY_ATTRIBUTES);
	CHECK_EQ_SPAN(s.id, "1");
	CHECK_EQ_SPAN(s.to, "t");
	CHECK_EQ_SPAN(s.from, "f");
	CHECK(stanza_is_request(&s));
	CHECK(!stanza_payload(&s));
	check_tree(&s, s.root);
	CHECK_EQ_INT(s.raw.n, s.root->end);
	reader_free(r);
}

static void too_large_tags(void)
{
	struct buf in, got;
	static const size_t sizes[] = {60, 61, READER_MAX_TAG_BYTES, READER_MAX_TAG_BYTES + 1};
	struct reader_config config = {.kind = READER_PIPE, .max_stanza_bytes = 60};

	buf_init(&in, BUF_NO_MAX);
	buf_init(&got, BUF_NO_MAX);
	for (size_t i = 0; i < 4; i++) {
		buf_reset(&in);
		buf_append_string(&in, "<iq id='1' a='");
		while (buf_length(&in) < sizes[i] - 3)
			buf_append_char(&in, '>');
		buf_append_string(&in, "'/>\n<iq/>\n");
		for (size_t chunk = 0; chunk < 3; chunk++) {
			const char *events, *first = i == 0 ? "1:<iq" : "1%too-large<iq";

			buf_reset(&got);
			transcript(&got, &config, buf_string(&in), buf_length(&in), chunk * 4000,
				NULL);
			events = buf_string(&got);
			if (i == 3)
				CHECK_EQ_STR(events, "1!tag too large\n2:<iq/>\n");
			else
				CHECK_MSG(strncmp(events, first, strlen(first)) == 0 &&
						  strcmp(strrchr(events, '2'), "2:<iq/>\n") == 0,
					"%zu: %.60s", sizes[i], events);
		}
	}
	buf_free(&in);
	buf_free(&got);
}

extern size_t __sanitizer_get_current_allocated_bytes(void) __attribute__((weak));

static size_t allocated(void)
{
	return __sanitizer_get_current_allocated_bytes ? __sanitizer_get_current_allocated_bytes()
						       : mallinfo2().uordblks + mallinfo2().hblkhd;
}

/* Memory does not grow with input that does not end: 4 MiB of each kind. */
static void endless(const char *name, enum reader_kind kind, const char *first, const char *format,
	size_t limit_bytes)
{
	struct reader_config config = {.kind = kind};
	struct reader *r = reader_new(&config);
	size_t before = allocated(), most = 0, now;
	struct buf in;
	struct stanza s;
	size_t fed = 0;
	unsigned counter = 0, turns = 0;

	buf_init(&in, BUF_NO_MAX);
	if (kind == READER_SOCKET)
		reader_feed(r, &OPENED[4], sizeof(OPENED) - 6);
	reader_feed(r, first, strlen(first));
	while (fed < rounds(4 * 1024 * 1024)) {
		buf_reset(&in);
		while (buf_length(&in) < 16384) {
			buf_printf(&in, format, counter, counter);
			counter++;
		}
		reader_feed(r, buf_string(&in), buf_length(&in));
		fed += buf_length(&in);
		while (reader_next(r, &s) != READER_MORE)
			continue;
		if (++turns % 16)
			continue;
		now = allocated();
		if (now > before && now - before > most)
			most = now - before;
	}
	CHECK_MSG(most < limit_bytes, "%s: %zu KiB", name, most / 1024);
	if (getenv("VERBOSE"))
		printf("# %s: %zu KiB\n", name, most / 1024);
	reader_free(r);
	buf_free(&in);
}

#pragma GCC diagnostic ignored "-Wformat-nonliteral"
static void memory_is_bounded(void)
{
	static const struct {
		const char *name, *first, *format;
	} cases[] = {
		{"text", "<iq>", "text text text"},
		{"white space", "<iq>", "    \n"},
		{"white space between stanzas", "", "    \n"},
		{"junk", "", "junk"},
		{"a section", "<iq><![CDATA[", "text text %u"},
		{"a tag", "<iq><a b='", "text text %u"},
		{"a tag full of >", "<iq><a b='", ">>>>>>>>"},
		{"a root's tag", "<iq b='", "text text %u"},
		{"a root's tag with attributes", "<iq ", "b%u='' "},
		{"a tag with attributes", "<iq><q ", "b%u='' "},
		{"a tag with declarations", "<iq><q ", "xmlns:b%u='urn:b' "},
		{"a name", "<iq><", "aaaaaaaaaaaaaaaaaa"},
		{"a root's name", "<", "aaaaaaaaaaaaaaaaaa"},
		{"an end tag", "<iq></iq", "          "},
		{"an entity", "<iq>&", "aaaaaaaaaaaaaaa"},
		{"a comment", "<!--", " -> aaaaaaaaaaaaaaa"},
		{"a comment inside", "<iq><!--", " > aaaaaaaaaaaaaaa"},
		{"an instruction", "<?x ", " > aaaaaaaaaaaaaaa"},
		{"nesting", "<iq>", "<a>"},
		{"nesting with names", "<iq>", "<a%u>"},
		{"children", "<iq>", "<a/>"},
		{"children with names", "<iq>", "<a%u b%u=''/>"},
		{"stanzas", "", "<iq id='%u'/>\n"},
		{"stanzas with names", "", "<iq><a%u b%u=''/></iq>\n"},
		{"roots with names", "", "<a%u b%u=''/>"},
		{"stanzas cut off", "", "<iq><a>\n<iq><![CDATA[\n"},
		{"lines cut off", "", "<iq id=''><a>\n"},
	};

	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		endless(cases[i].name, READER_PIPE, cases[i].first, cases[i].format,
			16 * 1024 * 1024);
		endless(cases[i].name, READER_SOCKET, cases[i].first, cases[i].format,
			16 * 1024 * 1024);
	}
}

/* Errors ----------------------------------------------------------------- */

static void error_conditions(void)
{
	struct buf text;
	struct stanza s;
	struct reader *r = read_one(&s,
		"<iq type='error'><query xmlns='urn:q'><error/></query><error type='cancel'><x "
		"xmlns='urn:x'/><text xmlns='urn:ietf:params:xml:ns:xmpp-stanzas'>t</text>"
		"<item-not-found xmlns='urn:ietf:params:xml:ns:xmpp-stanzas'/></error></iq>");

	CHECK_EQ_SPAN(stanza_error_condition(&s), "item-not-found");
	reader_free(r);
	r = read_one(&s,
		"<iq type='error'><error xmlns='urn:e'><text "
		"xmlns='urn:ietf:params:xml:ns:xmpp-stanzas'>no</text></error><error type='wait'>"
		"<text xmlns='urn:ietf:params:xml:ns:xmpp-stanzas'>words</text></error></iq>");
	buf_init(&text, BUF_NO_MAX);
	CHECK(stanza_error_text(&s, &text));
	CHECK_EQ_STR(buf_string(&text), "words");
	buf_free(&text);
	reader_free(r);
	r = read_one(&s, "<iq type='error'><error type='cancel'/></iq>");
	CHECK(stanza_error_condition(&s).p == NULL);
	reader_free(r);
	r = read_one(&s, "<iq type='error'/>");
	CHECK(stanza_error_condition(&s).p == NULL);
	reader_free(r);
}

int main(void)
{
	TEST(one_a_line);
	TEST(several_a_line_and_white_space);
	TEST(stanzas_spanning_lines);
	TEST(namespaces_and_other_roots);
	TEST(bad_lines_cost_themselves_only);
	TEST(what_tools_write);
	TEST(what_tools_write_has_a_limit);
	TEST(a_line_cut_off_anywhere);
	TEST(many_lines_cut_off);
	TEST(sections_cut_off);
	TEST(bad_pieces_of_several_lines);
	TEST(end_of_input);
	TEST(at_once);
	TEST(inside);
	TEST(socket_streams);
	TEST(socket_malformed_ends_it);
	TEST(socket_header);
	TEST(prefixes_of_the_header);
	TEST(long_streams);
	TEST(attributes);
	TEST(kinds_and_types);
	TEST(validity);
	TEST(the_tree);
	TEST(bounds_of_the_index);
	TEST(too_large_stanzas);
	TEST(too_deep_stanzas);
	TEST(too_many_attributes);
	TEST(too_large_tags);
	TEST(memory_is_bounded);
	TEST(error_conditions);
	return check_done();
}
