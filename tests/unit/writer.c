/* The writer: what a copy changes and what it leaves alone; stanza-error.h's answers. */
#include "check.h"

#include "xmpp/stanza-error.h"
#include "xmpp/reader.h"

#define COMPONENT                                                                                  \
	"<stream:stream xmlns='jabber:component:accept' xmlns:z='urn:z' "                          \
	"xmlns:stream='http://etherx.jabber.org/streams'>"

/* A reader standing behind its stream header. */
static struct reader *reader_for(enum reader_kind kind)
{
	struct reader_config config = {.kind = kind};
	struct reader *r = reader_new(&config);
	struct stanza s;

	if (kind == READER_SOCKET) {
		reader_feed(r, COMPONENT, strlen(COMPONENT));
		CHECK_EQ_INT(reader_next(r, &s), READER_OPEN);
		CHECK_EQ_INT(reader_next(r, &s), READER_MORE);
	}
	return r;
}

/* Read one stanza, copy it with edits, compare. The copy of the copy is the same again. */
static void copies(int line, enum reader_kind kind, const char *in, const struct stanza_edit *edit,
	const char *want)
{
	struct reader *r = reader_for(kind), *again = reader_for(READER_PIPE);
	struct stanza s;
	struct buf out, second;
	struct writer w;

	buf_init(&out, BUF_NO_MAX);
	buf_init(&second, BUF_NO_MAX);
	writer_init(&w, &out, WRITER_PIPE, 0);
	reader_feed(r, in, strlen(in));
	if (check_eq_int(__FILE__, line, "event", reader_next(r, &s), READER_STANZA)) {
		check_eq_int(__FILE__, line, "status", writer_stanza(&w, &s, edit), WRITER_OK);
		check_eq_mem(__FILE__, line, "copy", buf_string(&out), buf_length(&out), want,
			strlen(want));
		CHECK_EQ_INT(w.stanzas, 1);
		reader_feed(again, buf_string(&out), buf_length(&out));
		if (check_eq_int(__FILE__, line, "event", reader_next(again, &s), READER_STANZA)) {
			writer_init(&w, &second, WRITER_PIPE, 0);
			writer_stanza(&w, &s, &STANZA_KEEP);
			check_eq_mem(__FILE__, line, "second copy", buf_string(&second),
				buf_length(&second), want, strlen(want));
		}
	}
	reader_free(r);
	reader_free(again);
	buf_free(&out);
	buf_free(&second);
}

#define PIPE(in, want) copies(__LINE__, READER_PIPE, in, &STANZA_KEEP, want)
#define SOCKET(in, want) copies(__LINE__, READER_SOCKET, in, &STANZA_KEEP, want)
#define EDITS(in, edit, want) copies(__LINE__, READER_PIPE, in, edit, want)

static void untouched(void)
{
	PIPE("<iq/>", "<iq/>\n");
	PIPE("<iq></iq>", "<iq/>\n");
	PIPE("<iq  id = '1'\tb=\"2'&amp;&#x3e;\"  xml:lang='de' ><q a='1'  /></iq >",
		"<iq  id = '1'\tb=\"2'&amp;&#x3e;\"  xml:lang='de'><q a='1'  /></iq>\n");
	PIPE("<message><body>&#97;<![CDATA[<a>]]>\xe2\x82\xac</body></message>",
		"<message><body>&#97;<![CDATA[<a>]]>\xe2\x82\xac</body></message>\n");
	PIPE("<iq> <q/>\t</iq>", "<iq> <q/>\t</iq>\n");
}

static void one_line(void)
{
	/* character data */
	PIPE("<message><body>a\nb\r\nc\rd\r\r\n</body>\n</message>",
		"<message><body>a&#10;b&#10;c&#10;d&#10;&#10;</body>&#10;</message>\n");
	/* a literal attribute value */
	PIPE("<iq a='1\n2\r\n3\r4\t5&#10;6'><q b=\"\n\"/></iq>",
		"<iq a='1 2 3 4\t5&#10;6'><q b=\" \"/></iq>\n");
	/* between attributes, in end tags */
	PIPE("<iq\na\n=\n'1'\r\n\r\nb='2'\n><q\nc='3'\n/><r\n></r\n></iq\n>",
		"<iq a = '1'  b='2'><q c='3' /><r ></r ></iq>\n");
	/* sections */
	PIPE("<iq><![CDATA[a\nb\r\n]]><![CDATA[\n]]></iq>",
		"<iq><![CDATA[a]]>&#10;<![CDATA[b]]>&#10;<![CDATA[]]><![CDATA[]]>&#10;<![CDATA[]]><"
		"/"
		"iq>\n");
	PIPE("<iq><![CDATA[<a b='\n'>]]></iq>", "<iq><![CDATA[<a b=']]>&#10;<![CDATA['>]]></iq>\n");
}

static void edits(void)
{
	static const struct stanza_edit to = {.to = {"n", 1}};
	static const struct stanza_edit all = {.to = {"a'<&>\"", 6},
		.from = {"\n\r\t", 3},
		.id = {"\xe2\x82\xac", 3},
		.type = {"error", 5}};
	static const struct stanza_edit none = {
		.to = {"", 0}, .from = {"", 0}, .id = {"", 0}, .type = {"", 0}};

	EDITS("<iq a='1' to=\"o\" b=\"2\"/>", &to, "<iq a='1' to='n' b=\"2\"/>\n");
	EDITS("<iq a='1' b=\"2\"/>", &to, "<iq a='1' b=\"2\" to='n'/>\n");
	EDITS("<iq/>", &to, "<iq to='n'/>\n");
	EDITS("<iq\nto='o'\nid='1'>\n</iq>", &to, "<iq to='n' id='1'>&#10;</iq>\n");
	EDITS("<iq xmlns:y='urn:y' y:to='o' to='p'/>", &to,
		"<iq xmlns:y='urn:y' y:to='o' to='n'/>\n");
	EDITS("<iq xmlns:y='urn:y' y:to='o'/>", &to, "<iq xmlns:y='urn:y' y:to='o' to='n'/>\n");
	EDITS("<iq to='1' from='2' id='3' type='4' foo='5'><q/></iq>", &all,
		"<iq to='a&apos;&lt;&amp;&gt;\"' from='&#10;&#13;&#9;' id='\xe2\x82\xac' "
		"type='error' foo='5'><q/></iq>\n");
	EDITS("<iq type='4' id='3'/>", &all,
		"<iq type='error' id='\xe2\x82\xac' to='a&apos;&lt;&amp;&gt;\"' "
		"from='&#10;&#13;&#9;'/>\n");
	EDITS("<iq xml:lang='x' to='1' a='b' from='2' id='3' c='d' type='4'>t</iq>", &none,
		"<iq xml:lang='x' a='b' c='d'>t</iq>\n");
	EDITS("<iq to='1'/>", &none, "<iq/>\n");
	EDITS("<iq/>", &none, "<iq/>\n");
	EDITS("<iq xmlns='jabber:client' to='1' xmlns:a='urn:a'/>", &to,
		"<iq to='n' xmlns:a='urn:a'/>\n");
	EDITS("<iq to='1' xmlns='jabber:client'/>", &to, "<iq to='n'/>\n");
}

static void namespaces(void)
{
	PIPE("<iq xmlns='jabber:client'><q/></iq>", "<iq><q/></iq>\n");
	PIPE("<iq a='' xmlns='jabber:component:accept' b=''/>", "<iq a='' b=''/>\n");
	PIPE("<iq xmlns=''/>", "<iq/>\n");
	PIPE("<iq><q xmlns=''/><q xmlns='urn:q'><r xmlns=''/></q></iq>",
		"<iq><q xmlns=''/><q xmlns='urn:q'><r xmlns=''/></q></iq>\n");
	PIPE("<c:iq xmlns:c='jabber:client'><q xmlns='urn:q'/></c:iq>",
		"<iq xmlns:c='jabber:client'><q xmlns='urn:q'/></iq>\n");
	PIPE("<c:iq xmlns:c='jabber:client' c:to='x' to='y'><c:error/></c:iq>",
		"<iq xmlns:c='jabber:client' c:to='x' to='y'><error/></iq>\n");
	PIPE("<p:q xmlns:p='urn:p'/>", "<p:q xmlns:p='urn:p'/>\n");
	PIPE("<q xmlns='urn:q'\nto='x'><a/></q>", "<q xmlns='urn:q' to='x'><a/></q>\n");
	PIPE("<iq><p:q xmlns:p='urn:p' p:a='1'><p:r/></p:q></iq>",
		"<iq><p:q xmlns:p='urn:p' p:a='1'><p:r/></p:q></iq>\n");
}

/* The content of a prefixed root may stand in another default namespace. */
static void prefixed_roots_with_a_default(void)
{
	PIPE("<c:iq xmlns:c='jabber:client' xmlns='urn:d'>t<q/><r a='1'><s/></r>\n<q "
	     "xmlns='urn:e'/>"
	     "<p:u xmlns:p='urn:p'><v/></p:u><w xmlns=''/></c:iq>",
		"<iq xmlns:c='jabber:client'>t<q xmlns='urn:d'/><r xmlns='urn:d' a='1'><s/></r>"
		"&#10;<q xmlns='urn:e'/><p:u xmlns='urn:d' xmlns:p='urn:p'><v/></p:u><w "
		"xmlns=''/></iq>\n");
	PIPE("<c:iq xmlns:c='jabber:client' xmlns='it&apos;s'><q\na='\n'/></c:iq>",
		"<iq xmlns:c='jabber:client'><q xmlns='it&apos;s' a=' '/></iq>\n");
	PIPE("<c:iq xmlns:c='jabber:client' xmlns=''><q/></c:iq>",
		"<iq xmlns:c='jabber:client'><q xmlns=''/></iq>\n");
	PIPE("<c:iq xmlns:c='jabber:client' xmlns='jabber:client'><q/></c:iq>",
		"<iq xmlns:c='jabber:client'><q/></iq>\n");
	PIPE("<c:iq xmlns:c='jabber:client' xmlns='urn:d'/>", "<iq xmlns:c='jabber:client'/>\n");
	PIPE("<c:iq xmlns:c='jabber:client' xmlns='urn:d'><![CDATA[<a>]]></c:iq>",
		"<iq xmlns:c='jabber:client'><![CDATA[<a>]]></iq>\n");
	PIPE("<c:r xmlns:c='urn:c' xmlns='urn:d'><q/></c:r>",
		"<c:r xmlns:c='urn:c' xmlns='urn:d'><q/></c:r>\n");
}

/* The descendants of a root in jabber:client lose this namespace with it, down to the first
 * element of another namespace; nothing below that element changes. */
static void namespaces_that_move(void)
{
	/* as ElementTree writes it */
	PIPE("<ns0:message xmlns:ns0='jabber:client' "
	     "to='x'><ns0:body>a\nb</ns0:body></ns0:message>",
		"<message xmlns:ns0='jabber:client' to='x'><body>a&#10;b</body></message>\n");
	PIPE("<c:iq xmlns:c='jabber:client'>t<c:error\na='1'><c:text "
	     "/></c:error\n><c:x></c:x>u</c:iq>",
		"<iq xmlns:c='jabber:client'>t<error a='1'><text /></error ><x></x>u</iq>\n");
	PIPE("<message xmlns='jabber:client'><c:body xmlns:c='jabber:client' c:a='1'/></message>",
		"<message><body xmlns:c='jabber:client' c:a='1'/></message>\n");
	PIPE("<message xmlns='jabber:client'><body xmlns='jabber:client' a='1'>t</body></message>",
		"<message><body a='1'>t</body></message>\n");
	PIPE("<c:message xmlns:c='jabber:client'><body xmlns='jabber:client'/></c:message>",
		"<message xmlns:c='jabber:client'><body/></message>\n");
	/* the first element of another namespace, and those below it */
	PIPE("<c:iq xmlns:c='jabber:client'><f xmlns='urn:xmpp:forward:0'><c:iq/></f></c:iq>",
		"<iq xmlns:c='jabber:client'><f xmlns='urn:xmpp:forward:0'><c:iq/></f></iq>\n");
	PIPE("<message xmlns='jabber:client'><f xmlns='urn:xmpp:forward:0'>"
	     "<message xmlns='jabber:client'><body/></message></f></message>",
		"<message><f xmlns='urn:xmpp:forward:0'><message xmlns='jabber:client'><body/>"
		"</message></f></message>\n");
	PIPE("<message xmlns='jabber:client' xmlns:f='urn:f'><f:f><f:g/><message/></f:f><f:h/>"
	     "<f:i>t<![CDATA[<a>]]></f:i><body/></message>",
		"<message xmlns:f='urn:f'><f:f xmlns='jabber:client'><f:g/><message/></f:f><f:h/>"
		"<f:i>t<![CDATA[<a>]]></f:i><body/></message>\n");
	PIPE("<message xmlns='jabber:client'><f:f xmlns:f='urn:f' "
	     "xmlns='urn:g'><a/></f:f></message>",
		"<message><f:f xmlns:f='urn:f' xmlns='urn:g'><a/></f:f></message>\n");
	PIPE("<c:iq xmlns:c='jabber:client'><c:a xmlns='urn:d'><b/><c:e/></c:a><g/></c:iq>",
		"<iq xmlns:c='jabber:client'><a><b xmlns='urn:d'/><e/></a><g/></iq>\n");
	/* a root that is in no namespace, or not a stanza, moves nothing */
	PIPE("<message><c:body xmlns:c='jabber:client'/></message>",
		"<message><c:body xmlns:c='jabber:client'/></message>\n");
	PIPE("<c:x xmlns:c='urn:c'><c:y/></c:x>", "<c:x xmlns:c='urn:c'><c:y/></c:x>\n");
	SOCKET("<c:iq xmlns:c='jabber:component:accept'><c:error/></c:iq>",
		"<iq xmlns:c='jabber:component:accept'><error/></iq>\n");
}

/* Deeper than the lexer goes, the content keeps its meaning, and its prefixes. */
static void namespaces_too_deep_to_move(void)
{
	struct buf in, want;

	buf_init(&in, BUF_NO_MAX);
	buf_init(&want, BUF_NO_MAX);
	for (int i = 0; i < 2; i++) {
		struct buf *b = i ? &want : &in;

		buf_append_string(b, i ? "<iq xmlns:c='jabber:client'>"
				       : "<c:iq xmlns:c='jabber:client' xmlns='urn:d'>");
		buf_append_string(b, i ? "<a xmlns='urn:d'>" : "<a>");
		for (int n = 0; n < 60; n++)
			buf_append_string(b, "<b>");
		for (int n = 0; n < 60; n++)
			buf_append_string(b, "</b>");
		buf_append_string(b, i ? "</a></iq>\n" : "</a></c:iq>");
	}
	PIPE(buf_string(&in), buf_string(&want));
	buf_free(&in);
	buf_free(&want);
}

static void declarations_of_the_stream(void)
{
	SOCKET("<iq/>", "<iq/>\n");
	SOCKET("<iq><z:q/></iq>", "<iq xmlns:z='urn:z'><z:q/></iq>\n");
	SOCKET("<iq z:a='1'/>", "<iq z:a='1' xmlns:z='urn:z'/>\n");
	SOCKET("<iq xmlns:z='urn:y' z:a='1'/>", "<iq xmlns:z='urn:y' z:a='1'/>\n");
	SOCKET("<z:iq xmlns:z='jabber:client'/>", "<iq xmlns:z='jabber:client'/>\n");
	SOCKET("<stream:error a='b'><x/></stream:error>",
		"<stream:error a='b' xmlns:stream='http://etherx.jabber.org/streams'><x/></"
		"stream:error>\n");
	SOCKET("<z:q/>", "<z:q xmlns:z='urn:z'/>\n");
}

/* Copy the stanza inside <forwarded/>, which stands two levels deep. */
static void unwraps(int line, enum reader_kind kind, const char *in, const char *want)
{
	struct reader *r = reader_for(kind);
	struct stanza s, inner;
	struct buf out;
	struct writer w;
	const struct xml_node *forwarded, *node;

	buf_init(&out, BUF_NO_MAX);
	writer_init(&w, &out, WRITER_SOCKET, 0);
	reader_feed(r, in, strlen(in));
	CHECK_EQ_INT(reader_next(r, &s), READER_STANZA);
	forwarded = xml_child(stanza_payload(&s), NS_FORWARD, "forwarded");
	node = forwarded ? forwarded->first_child : NULL;
	if (check_report(node != NULL, __FILE__, line, "nothing is forwarded")) {
		stanza_of_node(&s, node, NULL, &inner);
		CHECK_EQ_INT(writer_stanza(&w, &inner, &STANZA_KEEP), WRITER_OK);
		check_eq_mem(__FILE__, line, "inner stanza", buf_string(&out), buf_length(&out),
			want, strlen(want));
	}
	reader_free(r);
	buf_free(&out);
}

#define UNWRAPS(in, want) unwraps(__LINE__, READER_PIPE, in, want)
#define F "<forwarded xmlns='urn:xmpp:forward:0'>"

static void inner_stanzas(void)
{
	UNWRAPS("<iq><d xmlns='urn:d'>" F "<iq xmlns='jabber:client' to='x'><q xmlns='urn:q'/></iq>"
		"</forwarded></d></iq>",
		"<iq to='x'><q xmlns='urn:q'/></iq>");
	/* prefixes declared around it, the inner ones first; only those in use */
	UNWRAPS("<iq xmlns:p='urn:1' xmlns:q='urn:q'><d xmlns='urn:d' xmlns:p='urn:2' "
		"xmlns:r='urn:r'>" F
		"<iq xmlns='jabber:client' p:a='1'><q:q/></iq></forwarded></d></iq>",
		"<iq p:a='1' xmlns:p='urn:2' xmlns:q='urn:q'><q:q/></iq>");
	UNWRAPS("<iq xmlns:p='urn:1'><d>" F "<iq xmlns='jabber:client' xmlns:p='urn:3' p:a='1'/>"
		"</forwarded></d></iq>",
		"<iq xmlns:p='urn:3' p:a='1'/>");
	/* a prefixed element: its content is in the surrounding namespace */
	UNWRAPS("<iq xmlns:c='jabber:client'><d>" F
		"<c:iq to='x'>\n<q/><c:r/></c:iq></forwarded></d>"
		"</iq>",
		"<iq to='x' xmlns:c='jabber:client'>&#10;<q xmlns='urn:xmpp:forward:0'/><r/></iq>");
	UNWRAPS("<c:iq xmlns:c='jabber:client' xmlns='urn:d'><d><f:forwarded "
		"xmlns:f='urn:xmpp:forward:0'><c:iq><q/></c:iq></f:forwarded></d></c:iq>",
		"<iq xmlns:c='jabber:client'><q xmlns='urn:d'/></iq>");
	/* an element that is not a stanza keeps its namespace */
	UNWRAPS("<iq><d>" F "<iq to='x'><q/></iq></forwarded></d></iq>",
		"<iq to='x' xmlns='urn:xmpp:forward:0'><q/></iq>");
	unwraps(__LINE__, READER_SOCKET,
		"<iq><d>" F "<iq xmlns='jabber:client'><z:q/></iq></forwarded></d></iq>",
		"<iq xmlns:z='urn:z'><z:q/></iq>");
	unwraps(__LINE__, READER_SOCKET,
		"<iq xmlns:z='urn:y'><d>" F
		"<iq xmlns='jabber:client'><z:q/></iq></forwarded></d></iq>",
		"<iq xmlns:z='urn:y'><z:q/></iq>");
}

static void many_declarations(void)
{
	struct buf in;

	buf_init(&in, BUF_NO_MAX);
	buf_append_string(&in, "<iq");
	for (int i = 0; i < 200; i++)
		buf_printf(&in, " xmlns:p%d='urn:%d'", i, i);
	buf_append_string(
		&in, "><d>" F "<iq xmlns='jabber:client'><p150:q/></iq></forwarded></d></iq>");
	struct reader *r = reader_for(READER_PIPE);
	struct stanza s, inner;
	struct buf out;
	struct writer w;

	buf_init(&out, BUF_NO_MAX);
	writer_init(&w, &out, WRITER_PIPE, 0);
	reader_feed(r, buf_string(&in), buf_length(&in));
	CHECK_EQ_INT(reader_next(r, &s), READER_STANZA);
	stanza_of_node(
		&s, xml_child(stanza_payload(&s), "", "forwarded")->first_child, NULL, &inner);
	CHECK_EQ_INT(writer_stanza(&w, &inner, &STANZA_KEEP), WRITER_OK);
	CHECK(strstr(buf_string(&out), " xmlns:p150='urn:150'") != NULL);
	reader_reset(r);
	reader_feed(r, buf_string(&out), buf_length(&out));
	CHECK_EQ_INT(reader_next(r, &s), READER_STANZA);
	CHECK(xml_is(stanza_payload(&s), "urn:150", "q"));
	reader_free(r);
	buf_free(&in);
	buf_free(&out);
}

static void copies_into_a_wrapper(void)
{
	static const struct {
		const char *in, *out;
	} cases[] = {
		{"<iq to='1'><q/></iq>", "<f><iq xmlns='jabber:client' to='2'><q/></iq></f>"},
		{"<iq to='1' xmlns='jabber:component:accept'/>",
			"<f><iq xmlns='jabber:client' to='2'/></f>"},
		{"<c:iq xmlns:c='jabber:component:accept' xmlns='urn:d'><q/></c:iq>",
			"<f><iq xmlns='jabber:client' xmlns:c='jabber:component:accept' to='2'><q "
			"xmlns='urn:d'/></iq></f>"},
		{"<iq><z:q/></iq>",
			"<f><iq xmlns='jabber:client' to='2' xmlns:z='urn:z'><z:q/></iq></f>"},
		{"<q xmlns='urn:q'/>", "<f><q xmlns='urn:q' to='2'/></f>"},
	};

	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		struct reader *r = reader_for(READER_SOCKET);
		struct stanza s;
		struct buf out;
		struct writer w;

		buf_init(&out, BUF_NO_MAX);
		writer_init(&w, &out, WRITER_SOCKET, 0);
		reader_feed(r, cases[i].in, strlen(cases[i].in));
		CHECK_EQ_INT(reader_next(r, &s), READER_STANZA);
		writer_begin(&w);
		writer_raw(&w, "<f>");
		writer_copy(&w, &s, &(struct stanza_edit){.to = SPAN("2")}, "jabber:client");
		writer_raw(&w, "</f>");
		CHECK_EQ_INT(writer_end(&w), WRITER_OK);
		CHECK_EQ_STR(buf_string(&out), cases[i].out);
		reader_free(r);
		buf_free(&out);
	}
}

static void nodes(void)
{
	static const struct {
		const char *in, *out; /* the second child of the payload */
	} cases[] = {
		{"<iq><p xmlns='urn:p'><a/><b>\n</b></p></iq>", "<b xmlns='urn:p'>&#10;</b>"},
		{"<iq><p xmlns='urn:p'><a/><b\nxmlns='' c='d'/></p></iq>", "<b xmlns='' c='d'/>"},
		{"<iq><p xmlns=''><a/><b/></p></iq>", "<b xmlns=''/>"},
		{"<iq><p><a/><b/></p></iq>", "<b/>"},
		{"<iq xmlns='jabber:client'><p><a/><b/></p></iq>", "<b/>"},
		{"<iq xmlns:x='urn:x'><p xmlns='urn:p'><a/><x:b><c/></x:b></p></iq>",
			"<x:b xmlns='urn:p' xmlns:x='urn:x'><c/></x:b>"},
		{"<iq><p xmlns='urn:p' xmlns:z='urn:1'><a/><b z:c='1'/></p></iq>",
			"<b xmlns='urn:p' xmlns:z='urn:1' z:c='1'/>"},
		{"<iq><p xmlns='urn:p'><a/><b z:c='1'/></p></iq>",
			"<b xmlns='urn:p' xmlns:z='urn:z' z:c='1'/>"},
	};

	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		struct reader *r = reader_for(READER_SOCKET);
		struct stanza s;
		struct buf out;
		struct writer w;

		buf_init(&out, BUF_NO_MAX);
		writer_init(&w, &out, WRITER_SOCKET, 0);
		reader_feed(r, cases[i].in, strlen(cases[i].in));
		CHECK_EQ_INT(reader_next(r, &s), READER_STANZA);
		writer_begin(&w);
		writer_node(&w, &s, stanza_payload(&s)->last_child);
		CHECK_EQ_INT(writer_end(&w), WRITER_OK);
		CHECK_EQ_STR(buf_string(&out), cases[i].out);
		reader_free(r);
		buf_free(&out);
	}
}

static void pieces(void)
{
	struct buf out;
	struct writer w;

	buf_init(&out, BUF_NO_MAX);
	writer_init(&w, &out, WRITER_PIPE, 0);
	writer_begin(&w);
	writer_raw(&w, "<message");
	writer_attribute(&w, "to", SPAN("a'b&c<d>e\"\n\t"));
	writer_attribute(&w, "from", SPAN_NONE);
	writer_attribute(&w, "id", SPAN(""));
	writer_raw(&w, "><body>");
	writer_text(&w, SPAN("x & y\r\n<z>]]>'\""));
	writer_raw(&w, "</body>");
	writer_raw_span(&w, SPAN("<a b='\n'>\n</a>"));
	writer_raw(&w, "</message>");
	CHECK_EQ_INT(writer_end(&w), WRITER_OK);
	CHECK_EQ_STR(buf_string(&out), "<message to='a&apos;b&amp;c&lt;d&gt;e\"&#10;&#9;' "
				       "id=''><body>x &amp; y&#13;&#10;&lt;"
				       "z&gt;]]&gt;'\"</body><a b=' '>&#10;</a></message>\n");
	/* it is given up, and leaves nothing behind */
	buf_reset(&out);
	buf_append_string(&out, "before");
	buf_consume(&out, 2);
	writer_begin(&w);
	writer_raw(&w, "<message/>");
	writer_abort(&w);
	CHECK_EQ_STR(buf_string(&out), "fore");
	writer_begin(&w);
	writer_raw(&w, "<iq/>");
	CHECK_EQ_INT(writer_end(&w), WRITER_OK);
	CHECK_EQ_STR(buf_string(&out), "fore<iq/>\n");
	CHECK_EQ_INT(w.stanzas, 2);
	CHECK_EQ_INT(w.too_large, 0);
	/* it is taken back: nothing has been written */
	writer_begin(&w);
	writer_raw(&w, "<presence/>");
	CHECK_EQ_INT(writer_end(&w), WRITER_OK);
	CHECK_EQ_INT(w.stanzas, 3);
	writer_take_back(&w);
	CHECK_EQ_STR(buf_string(&out), "fore<iq/>\n");
	CHECK_EQ_INT(w.stanzas, 2);
	buf_free(&out);
}

/* A long tag is followed by as many spaces, on sockets only. */
static void padding(void)
{
	static const struct {
		size_t attribute, text, least, most;
		bool self;
	} cases[] = {
		{10, 10, 0, 0, false},
		{10, 100000, 0, 0, false},
		{1000, 10, 0, 0, false}, /* <q a=''> and 1000 */
		{1017, 10, 1025, 3000, false},
		{100000, 10, 100008, 200100, false},
		{100000, 10, 100008, 200100, true},
	};

	for (size_t i = 0; i < 2 * sizeof(cases) / sizeof(cases[0]); i++) {
		enum writer_kind kind = i % 2 ? WRITER_PIPE : WRITER_SOCKET;
		struct reader *r = reader_for(READER_PIPE);
		struct stanza s;
		struct buf in, out;
		struct writer w;
		size_t n, spaces = 0;

		buf_init(&in, BUF_NO_MAX);
		buf_init(&out, BUF_NO_MAX);
		writer_init(&w, &out, kind, 0);
		buf_append_string(&in, "<iq><q a='");
		for (size_t j = 0; j < cases[i / 2].attribute; j++)
			buf_append_char(&in, '>');
		buf_append_string(&in, cases[i / 2].self ? "'/>" : "'>");
		for (size_t j = 0; j < cases[i / 2].text; j++)
			buf_append_char(&in, 't');
		buf_append_string(&in, cases[i / 2].self ? "</iq>" : "</q></iq>");
		reader_feed(r, buf_string(&in), buf_length(&in));
		CHECK_EQ_INT(reader_next(r, &s), READER_STANZA);
		CHECK_EQ_INT(writer_stanza(&w, &s, &STANZA_KEEP), WRITER_OK);
		n = buf_length(&out);
		if (kind == WRITER_PIPE) {
			CHECK_EQ_INT(n, buf_length(&in) + 1);
		} else {
			while (spaces < n && buf_string(&out)[n - 1 - spaces] == ' ')
				spaces++;
			CHECK(spaces >= cases[i / 2].least && spaces <= cases[i / 2].most);
			CHECK_EQ_MEM(
				buf_string(&out), n - spaces, buf_string(&in), buf_length(&in));
		}
		reader_free(r);
		buf_free(&in);
		buf_free(&out);
	}
}

static void too_large(void)
{
	struct reader *r = reader_for(READER_PIPE);
	struct stanza s;
	struct buf out;
	struct writer w;

	buf_init(&out, BUF_NO_MAX);
	writer_init(&w, &out, WRITER_PIPE, 20);
	reader_feed(r, "<iq id='123456789'/>", 20);
	CHECK_EQ_INT(reader_next(r, &s), READER_STANZA);
	CHECK_EQ_INT(writer_stanza(&w, &s, &STANZA_KEEP), WRITER_OK);
	CHECK_EQ_STR(buf_string(&out), "<iq id='123456789'/>\n");
	CHECK_EQ_INT(writer_stanza(&w, &s, &(struct stanza_edit){.id = SPAN("1234567890")}),
		WRITER_TOO_LARGE);
	CHECK_EQ_STR(buf_string(&out), "<iq id='123456789'/>\n");
	CHECK_EQ_INT(w.stanzas, 1);
	CHECK_EQ_INT(w.too_large, 1);
	reader_free(r);
	buf_free(&out);
}

/* A stanza is written whole or not at all, however much room there is. */
static void full(void)
{
	static const char xml[] = "<iq a='1'\nid='2'><q b='&amp;\n'>t\nt</q><![CDATA[\n]]></iq>";

	for (int kind = WRITER_PIPE; kind <= WRITER_SOCKET; kind++) {
		for (size_t max = 0; max < 120; max++) {
			struct reader *r = reader_for(READER_PIPE);
			struct stanza s;
			struct buf out;
			struct writer w;
			enum writer_status status;

			buf_init(&out, max);
			writer_init(&w, &out, (enum writer_kind)kind, 0);
			reader_feed(r, xml, sizeof(xml) - 1);
			CHECK_EQ_INT(reader_next(r, &s), READER_STANZA);
			if (max > 10)
				buf_append_string(&out, "before");
			status = writer_stanza(&w, &s, &(struct stanza_edit){.to = SPAN("<'>")});
			if (status != WRITER_OK) {
				CHECK_EQ_INT(status, max > 10 ? WRITER_FULL : WRITER_TOO_LARGE);
				CHECK_EQ_INT(w.too_large, max <= 10);
				CHECK_EQ_STR(buf_string(&out), max > 10 ? "before" : "");
				CHECK_EQ_INT(w.stanzas, 0);
			} else {
				CHECK_EQ_INT(status, WRITER_OK);
				CHECK(buf_length(&out) >= 100);
				CHECK_EQ_INT(w.stanzas, 1);
			}
			reader_free(r);
			buf_free(&out);
		}
	}
	/* the spaces behind a long tag belong to it */
	struct reader *r = reader_for(READER_PIPE);
	struct stanza s;
	struct buf in, out;
	struct writer w;

	buf_init(&in, BUF_NO_MAX);
	buf_append_string(&in, "<iq a='");
	for (int i = 0; i < 2000; i++)
		buf_append_char(&in, 'a');
	buf_append_string(&in, "'/>");
	reader_feed(r, buf_string(&in), buf_length(&in));
	CHECK_EQ_INT(reader_next(r, &s), READER_STANZA);
	buf_init(&out, 3000);
	writer_init(&w, &out, WRITER_SOCKET, 0);
	CHECK_EQ_INT(writer_stanza(&w, &s, &STANZA_KEEP), WRITER_TOO_LARGE);
	CHECK_EQ_INT(buf_length(&out), 0);
	buf_append_char(&out, '.');
	CHECK_EQ_INT(writer_stanza(&w, &s, &STANZA_KEEP), WRITER_FULL);
	CHECK_EQ_STR(buf_string(&out), ".");
	buf_free(&out);
	buf_free(&in);
	reader_free(r);
}

/* Refused stanzas have a start tag to copy, and nothing else. */
static void refused(void)
{
	struct reader_config config = {.kind = READER_PIPE, .max_depth = 1};
	struct reader *r = reader_new(&config);
	struct stanza s;
	struct buf out;
	struct writer w;

	buf_init(&out, BUF_NO_MAX);
	writer_init(&w, &out, WRITER_PIPE, 0);
	reader_feed(r, "<iq type='get' id='1' from='a'><q><r/></q></iq>", 47);
	CHECK_EQ_INT(reader_next(r, &s), READER_STANZA);
	CHECK_EQ_INT(s.refusal, STANZA_TOO_DEEP);
	CHECK_EQ_INT(writer_stanza(&w, &s, &STANZA_KEEP), WRITER_OK);
	writer_begin(&w);
	writer_node(&w, &s, s.root);
	CHECK_EQ_INT(writer_end(&w), WRITER_OK);
	CHECK_EQ_INT(stanza_error_reply(&w, &s, ERROR_POLICY_VIOLATION, "too <deep>"), WRITER_OK);
	CHECK_EQ_STR(buf_string(&out),
		"<iq type='get' id='1' from='a'/>\n"
		"<iq type='get' id='1' from='a'/>\n"
		"<iq type='error' id='1' to='a'><error type='modify'><policy-violation "
		"xmlns='urn:ietf:params:xml:ns:xmpp-stanzas'/><text "
		"xmlns='urn:ietf:params:xml:ns:xmpp-stanzas'>too "
		"&lt;deep&gt;</text></error></iq>\n");
	reader_free(r);
	buf_free(&out);
}

static void error_replies(void)
{
	static const struct {
		const char *in, *out;
	} cases[] = {
		{"<iq type='get' id='1' to='a' from='b'><q/></iq>",
			"<iq type='error' id='1' to='b' from='a'><error "
			"type='cancel'><item-not-found "
			"xmlns='urn:ietf:params:xml:ns:xmpp-stanzas'/></error></iq>\n"},
		{"<message to='a&amp;' from='b&apos;'/>",
			"<message type='error' to='b&apos;' from='a&amp;'><error "
			"type='cancel'><item-not-found "
			"xmlns='urn:ietf:params:xml:ns:xmpp-stanzas'/></error></message>\n"},
		{"<presence from='b' id=''/>",
			"<presence type='error' id='' to='b'><error type='cancel'><item-not-found "
			"xmlns='urn:ietf:params:xml:ns:xmpp-stanzas'/></error></presence>\n"},
		{"<iq type='foo' from='b'/>",
			"<iq type='error' to='b'><error type='cancel'><item-not-found "
			"xmlns='urn:ietf:params:xml:ns:xmpp-stanzas'/></error></iq>\n"},
		{"<iq type='result' id='1' to='a' from='b'/>", ""},
		{"<iq type='error' id='1' to='a' from='b'/>", ""},
		{"<message type='error' to='a' from='b'/>", ""},
		{"<presence type='error' to='a' from='b'/>", ""},
		{"<iq type='get' id='1' to='a'/>", ""},
		{"<iq type='get' id='1' to='a' from=''/>", ""},
		{"<iq xmlns:y='urn:y' type='get' id='1' to='a' y:from='b'/>", ""},
		{"<other from='a'/>", ""},
	};

	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		struct reader *r = reader_for(READER_PIPE);
		struct stanza s;
		struct buf out;
		struct writer w;

		buf_init(&out, BUF_NO_MAX);
		writer_init(&w, &out, WRITER_PIPE, 0);
		reader_feed(r, cases[i].in, strlen(cases[i].in));
		CHECK_EQ_INT(reader_next(r, &s), READER_STANZA);
		CHECK_EQ_INT(stanza_error_reply(&w, &s, ERROR_ITEM_NOT_FOUND, NULL), WRITER_OK);
		CHECK_EQ_STR(buf_string(&out), cases[i].out);
		reader_free(r);
		buf_free(&out);
	}
}

static void errors_of_our_own(void)
{
	struct reader *r = reader_for(READER_PIPE);
	struct stanza s;
	struct buf words;

	buf_init(&words, BUF_NO_MAX);
	for (int e = 0; e < ERROR_COUNT; e++) {
		struct span type;

		CHECK(stanza_error_made(
			r, SPAN("a&"), SPAN("b"), SPAN_NONE, (enum stanza_error)e, "no <why>", &s));
		CHECK(s.kind == STANZA_IQ && s.type == TYPE_ERROR);
		CHECK_EQ_SPAN(s.to, "a&");
		CHECK_EQ_SPAN(s.from, "b");
		CHECK(!s.id.p);
		CHECK(stanza_error_condition(&s).n > 5);
		type = xml_attribute(stanza_error_child(&s), "type");
		CHECK(span_is(type, "modify") || span_is(type, "cancel") || span_is(type, "auth") ||
			span_is(type, "wait"));
		buf_reset(&words);
		CHECK(stanza_error_text(&s, &words));
		CHECK_EQ_STR(buf_string(&words), "no <why>");
	}
	CHECK(stanza_error_made(r, SPAN_NONE, SPAN_NONE, SPAN_NONE, ERROR_FORBIDDEN, NULL, &s));
	CHECK(!stanza_error_text(&s, &words));
	reader_free(r);
	buf_free(&words);
}

int main(void)
{
	TEST(untouched);
	TEST(one_line);
	TEST(edits);
	TEST(namespaces);
	TEST(prefixed_roots_with_a_default);
	TEST(namespaces_that_move);
	TEST(namespaces_too_deep_to_move);
	TEST(declarations_of_the_stream);
	TEST(inner_stanzas);
	TEST(many_declarations);
	TEST(copies_into_a_wrapper);
	TEST(nodes);
	TEST(pieces);
	TEST(padding);
	TEST(too_large);
	TEST(full);
	TEST(refused);
	TEST(error_replies);
	TEST(errors_of_our_own);
	return check_done();
}
