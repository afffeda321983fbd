/* Properties of reader and writer together, over random stanzas (fixed seeds): the result does
 * not depend on how the bytes arrive; a part of a good stream gives no stanza twice or wrong; a
 * bad line spoils no other; a written stanza means the same as the one read. */
#include "check.h"

#include "infoset.h"
#include "transcript.h"
#include "xmpp/writer.h"

#define COMPONENT                                                                                  \
	"<stream:stream xmlns='jabber:component:accept' xmlns:z='urn:z' "                          \
	"xmlns:stream='http://etherx.jabber.org/streams'>"

/* Random stanzas --------------------------------------------------------- */

struct maker {
	struct dice dice;
	struct buf *out;
	bool lines;    /* line ends and sections may occur */
	bool prefix_z; /* "z" is declared around it */
};

static bool one_in(struct maker *m, size_t n)
{
	return dice_roll(&m->dice, n) == 0;
}

static void add(struct maker *m, const char *s)
{
	buf_append_string(m->out, s);
}

static void add_one_of(struct maker *m, const char *const *list, size_t count)
{
	add(m, list[dice_roll(&m->dice, count)]);
}

#define ONE_OF(m, ...)                                                                             \
	add_one_of(m, (const char *const[]){__VA_ARGS__},                                          \
		sizeof((const char *const[]){__VA_ARGS__}) / sizeof(char *))

static void make_space(struct maker *m)
{
	if (m->lines && one_in(m, 4))
		ONE_OF(m, "\n", "\r\n", "\r", " \n ", "\t", "  ");
	else
		add(m, " ");
}

static void make_value(struct maker *m)
{
	for (size_t i = dice_roll(&m->dice, 4); i > 0; i--) {
		if (m->lines && one_in(m, 5))
			ONE_OF(m, "\n", "\r\n", "\r", "\t");
		else
			ONE_OF(m, "a", "b c", "&amp;", "&lt;", "&#10;", "&#x1F600;", ">", "/>",
				"]]>", "\xc3\xa9", "\xe2\x82\xac", "xmlns='", "&quot;&apos;",
				"p:", "z:q");
	}
}

static void make_attribute(struct maker *m, const char *name)
{
	char quote = one_in(m, 2) ? '"' : '\'';
	size_t at;

	make_space(m);
	add(m, name);
	if (one_in(m, 8))
		make_space(m);
	add(m, "=");
	buf_append_char(m->out, quote);
	at = buf_length(m->out);
	buf_append_char(m->out, 'v');
	make_value(m);
	for (; at < buf_length(m->out); at++) /* its own quote may not occur in it */
		if (buf_string(m->out)[at] == quote)
			m->out->p[m->out->start + at] = '_';
	buf_append_char(m->out, quote);
}

static void make_text(struct maker *m)
{
	for (size_t i = dice_roll(&m->dice, 4); i > 0; i--) {
		if (m->lines && one_in(m, 3))
			ONE_OF(m, "\n", "\r\n", "\r", "<![CDATA[x]]>", "<![CDATA[\n]]>",
				"<![CDATA[<a b='\r\n'>]] >]]>", "<![CDATA[]]>", "\n\n", "\r\r\n");
		else
			ONE_OF(m, "text", " ", "&amp;&gt;", "&#13;&#x9;", "'\"", "]]x", ">",
				"\xf0\x9f\x98\x80", "p:q", "/", "=");
	}
}

/* One element below the root. p and q are declared around it where the bits say so. */
static void make_element(struct maker *m, unsigned depth, unsigned declared)
{
	static const char *const prefixes[] = {"", "p:", "q:", "z:"};
	unsigned own = (unsigned)dice_roll(&m->dice, 4) & (unsigned)dice_roll(&m->dice, 4);
	unsigned prefix = (unsigned)dice_roll(&m->dice, 4);
	char name[16];

	declared |= own;
	if (prefix == 3 ? !m->prefix_z : prefix && !(declared & 1u << (prefix - 1)))
		prefix = 0;
	snprintf(name, sizeof(name), "%s%c", prefixes[prefix], 'a' + (char)dice_roll(&m->dice, 6));
	add(m, "<");
	add(m, name);
	if (one_in(m, 3)) {
		make_space(m);
		ONE_OF(m, "xmlns='urn:x'", "xmlns=''", "xmlns=\"jabber:client\"",
			"xmlns='urn:&amp;'");
	}
	if (own & 1)
		ONE_OF(m, " xmlns:p='urn:p'", " xmlns:p='urn:p2'");
	if (one_in(m, 3))
		make_attribute(m, "to");
	if (own & 2)
		ONE_OF(m, " xmlns:q='urn:q'", " xmlns:q='jabber:client'");
	if (declared & 1 && one_in(m, 3))
		make_attribute(m, "p:from");
	if (m->prefix_z && one_in(m, 6))
		make_attribute(m, "z:id");
	if (one_in(m, 6))
		make_attribute(m, "xml:lang");
	if (one_in(m, 4)) {
		add(m, one_in(m, 2) ? "/>" : " />");
		return;
	}
	add(m, one_in(m, 6) ? " >" : ">");
	make_text(m);
	for (size_t i = depth < 5 ? dice_roll(&m->dice, 3) : 0; i > 0; i--) {
		make_element(m, depth + 1, declared);
		make_text(m);
	}
	add(m, "</");
	add(m, name);
	if (one_in(m, 6))
		make_space(m);
	add(m, ">");
}

/* A whole stanza. `unprefixed` is the start of a root without prefix, e.g. "" or " xmlns='...'". */
static void make_stanza_with(struct maker *m, const char *unprefixed)
{
	static const char *const names[] = {"iq", "message", "presence"};
	bool prefixed = one_in(m, 3);
	unsigned declared = 0;
	char name[20];

	snprintf(name, sizeof(name), "%s%s", prefixed ? "p:" : "", names[dice_roll(&m->dice, 3)]);
	add(m, "<");
	add(m, name);
	if (prefixed) {
		declared = 1;
		ONE_OF(m, " xmlns:p='jabber:client'", " xmlns:p='jabber:component:accept'");
		if (one_in(m, 2))
			ONE_OF(m, " xmlns='urn:d'", " xmlns=''", " xmlns='jabber:client'");
	} else {
		add(m, unprefixed);
	}
	make_attribute(m, "id");
	if (one_in(m, 2))
		make_attribute(m, "to");
	if (one_in(m, 4)) {
		make_space(m);
		add(m, "xmlns:q='urn:q'");
		declared |= 2;
		make_attribute(m, "q:type");
	}
	if (one_in(m, 2))
		make_attribute(m, "from");
	if (one_in(m, 2))
		ONE_OF(m, " type='get'", " type=\"chat\"", " type='error'");
	if (one_in(m, 5)) {
		add(m, "/>");
		return;
	}
	add(m, ">");
	make_text(m);
	for (size_t i = dice_roll(&m->dice, 4); i > 0; i--) {
		make_element(m, 1, declared);
		make_text(m);
	}
	add(m, "</");
	add(m, name);
	add(m, ">");
}

static void make_stanza(struct maker *m)
{
	make_stanza_with(m, one_in(m, 3) ? " xmlns='jabber:client'" : "");
}

/* How the bytes arrive --------------------------------------------------- */

static const struct reader_config configs[] = {
	{.kind = READER_PIPE},
	{.kind = READER_PIPE,
		.max_stanza_bytes = 120,
		.max_depth = 3,
		.max_attributes = 4,
		.index = READER_INDEX_CHILDREN},
	{.kind = READER_SOCKET},
	{.kind = READER_SOCKET, .max_stanza_bytes = 120, .max_depth = 3, .max_attributes = 4},
};
#define CONFIGS (sizeof(configs) / sizeof(configs[0]))

/* The same events whole, byte by byte and in random pieces; whatever the bytes are. */
static bool same_however(const struct buf *in, struct dice *dice)
{
	struct buf whole, pieces;
	bool same = true;

	buf_init(&whole, BUF_NO_MAX);
	buf_init(&pieces, BUF_NO_MAX);
	for (size_t c = 0; c < CONFIGS && same; c++) {
		buf_reset(&whole);
		transcript(&whole, &configs[c], buf_string(in), buf_length(in), 0, NULL);
		for (int how = 0; how < 3 && same; how++) {
			buf_reset(&pieces);
			transcript(&pieces, &configs[c], buf_string(in), buf_length(in),
				how == 0   ? 1
				: how == 1 ? 9
					   : 100,
				how == 0 ? NULL : dice);
			same = CHECK_EQ_MEM(buf_string(&pieces), buf_length(&pieces),
				buf_string(&whole), buf_length(&whole));
			if (!same) {
				char *quoted = check_quote(buf_string(in), buf_length(in));

				fprintf(stderr, "config %zu, way %d: %s\n", c, how, quoted);
				free(quoted);
			}
		}
	}
	buf_free(&whole);
	buf_free(&pieces);
	return same;
}

static void pieces_change_nothing(void)
{
	struct buf in;
	struct maker m = {.dice = {12345}, .out = &in, .lines = true};

	buf_init(&in, BUF_NO_MAX);
	for (size_t i = 0; i < rounds(400); i++) {
		buf_reset(&in);
		m.prefix_z = i % 2;
		if (m.prefix_z)
			add(&m, COMPONENT);
		for (size_t n = 1 + dice_roll(&m.dice, 5); n > 0; n--) {
			make_stanza(&m);
			ONE_OF(&m, "\n", "", "\n\n", "\r\n", " ");
		}
		if (!same_however(&in, &m.dice))
			break;
	}
	buf_free(&in);
}

static void pieces_change_nothing_of_bad_input(void)
{
	static const char *const tokens[] = {"<", ">", "\n", "\n<iq id='1'>", "</iq>", "<!--",
		"-->", "<![CDATA[", "]]>", "<?", "?>", "'", "\"", "&", ";", "/", "\0x", "\xff",
		"\xe2\x82", "\n<message to='a'/>\n", "<!D", "xmlns=''", ":", "\n  <iq/>\n",
		"<forwarded xmlns='urn:xmpp:forward:0'>", "</stream:stream>", "]]", "--",
		"<iq><a><b>"};
	struct buf in, bad;
	struct maker m = {.dice = {987654321}, .out = &in, .lines = true};

	buf_init(&in, BUF_NO_MAX);
	buf_init(&bad, BUF_NO_MAX);
	for (size_t i = 0; i < rounds(1200); i++) {
		struct span good;

		buf_reset(&in);
		buf_reset(&bad);
		m.prefix_z = i % 2;
		for (size_t n = 1 + dice_roll(&m.dice, 4); n > 0; n--) {
			make_stanza(&m);
			ONE_OF(&m, "\n", "", "\n\n", "\r\n", " ");
		}
		if (m.prefix_z)
			buf_append_string(&bad, COMPONENT);
		good = buf_span(&in);
		for (size_t n = 1 + dice_roll(&m.dice, 4); n > 0; n--) {
			size_t at = dice_roll(&m.dice, good.n + 1);
			const char *token =
				tokens[dice_roll(&m.dice, sizeof(tokens) / sizeof(tokens[0]))];

			buf_append(&bad, good.p, at);
			good = span_from(good, at);
			buf_append(&bad, token, strlen(token) + (*token == '\0'));
			if (good.n && one_in(&m, 2))
				good = span_from(good, 1 + dice_roll(&m.dice, good.n));
		}
		buf_append_span(&bad, good);
		if (!same_however(&bad, &m.dice))
			break;
	}
	buf_free(&in);
	buf_free(&bad);
}

/* Parts of good streams -------------------------------------------------- */

static void a_prefix_yields_nothing_twice_or_wrong(void)
{
	struct buf in, want, got;
	struct maker m = {.dice = {555}, .out = &in, .lines = true};

	buf_init(&in, BUF_NO_MAX);
	buf_init(&want, BUF_NO_MAX);
	buf_init(&got, BUF_NO_MAX);
	for (size_t i = 0; i < rounds(40); i++) {
		size_t ends[4], wants[4], count = 0;

		buf_reset(&in);
		buf_reset(&want);
		while (count < 4) {
			ONE_OF(&m, "\n", "", "\n\n", "\r\n", " ");
			if (one_in(&m, 3)) {
				add(&m, "<message>\n<forwarded xmlns='urn:xmpp:forward:0'>\n");
				make_stanza_with(&m, " xmlns='jabber:client'");
				add(&m, "\n</forwarded>\n</message>");
			} else {
				make_stanza(&m);
			}
			ends[count] = buf_length(&in);
			transcript(&want, &configs[0], buf_string(&in), buf_length(&in), 0, NULL);
			wants[count++] = buf_length(&want);
			if (count < 4)
				buf_reset(&want);
		}
		for (size_t n = 0; n <= buf_length(&in); n++) {
			size_t whole = 0, rest;
			bool more = false;

			while (whole < count && ends[whole] <= n)
				whole++;
			for (rest = whole ? ends[whole - 1] : 0; rest < n; rest++)
				more |= !strchr(" \r\n", buf_string(&in)[rest]);
			buf_reset(&got);
			transcript(&got, &configs[0], buf_string(&in), n, 0, NULL);
			rest = whole ? wants[whole - 1] : 0;
			if (!CHECK(buf_length(&got) >= rest) ||
				!CHECK_EQ_MEM(buf_string(&got), rest, buf_string(&want), rest))
				break;
			if (more) {
				const char *last = strchr(buf_string(&got) + rest, '!');

				if (!CHECK(last && strcmp(last, "!truncated stanza\n") == 0)) {
					fprintf(stderr, "cut: %.*s\nevents: %s", (int)n,
						buf_string(&in), buf_string(&got) + rest);
					break;
				}
			} else if (!CHECK_EQ_INT(buf_length(&got), rest)) {
				break;
			}
		}
	}
	buf_free(&in);
	buf_free(&want);
	buf_free(&got);
}

/* One byte of one line is changed, or the line is cut: it alone may suffer, and is reported at most
 * once. */
static void a_bad_line_costs_itself_only(void)
{
	struct buf in, want, got;
	struct maker m = {.dice = {31337}, .out = &in};

	buf_init(&in, BUF_NO_MAX);
	buf_init(&want, BUF_NO_MAX);
	buf_init(&got, BUF_NO_MAX);
	for (size_t i = 0; i < rounds(3000); i++) {
		size_t starts[6], bad = dice_roll(&m.dice, 5), at, before, after, reports = 0;
		const char *events, *end;

		buf_reset(&in);
		for (size_t n = 0; n < 5; n++) {
			starts[n] = buf_length(&in);
			make_stanza(&m);
			add(&m, "\n");
		}
		starts[5] = buf_length(&in);
		buf_reset(&want);
		transcript(&want, &configs[0], buf_string(&in), starts[bad], 0, NULL);
		before = buf_length(&want);
		buf_reset(&want);
		transcript(&want, &configs[0], buf_string(&in), starts[bad + 1], 0, NULL);
		after = buf_length(&want);
		buf_reset(&want);
		transcript(&want, &configs[0], buf_string(&in), buf_length(&in), 0, NULL);
		at = starts[bad] + dice_roll(&m.dice, starts[bad + 1] - 1 - starts[bad]);
		if (one_in(&m, 3)) { /* cut */
			memmove(in.p + in.start + at, in.p + in.start + starts[bad + 1] - 1,
				starts[5] - starts[bad + 1] + 1);
			buf_truncate(&in, starts[5] - (starts[bad + 1] - 1 - at));
		} else {
			in.p[in.start + at] = "<>&'\"/ =!?:;a\x01\xff]"[dice_roll(&m.dice, 16)];
		}
		buf_reset(&got);
		transcript(&got, &configs[0], buf_string(&in), buf_length(&in), 0, NULL);
		/* all the others are there */
		events = buf_string(&got);
		end = events + buf_length(&got);
		if (!CHECK_EQ_MEM(events, before, buf_string(&want), before) ||
			!CHECK(buf_length(&got) >= before + buf_length(&want) - after) ||
			!CHECK_EQ_MEM(end - (buf_length(&want) - after), buf_length(&want) - after,
				buf_string(&want) + after, buf_length(&want) - after)) {
			char *quoted = check_quote(buf_string(&in), buf_length(&in));

			fprintf(stderr, "line %zu: %s\n", bad + 1, quoted);
			free(quoted);
			break;
		}
		/* and the bad line is reported once */
		end -= buf_length(&want) - after;
		for (events += before; events < end; events = memchr(events, '\n', 4096) + 1) {
			CHECK_EQ_INT(strtoul(events, NULL, 10), bad + 1);
			reports += events[1] == '!';
		}
		CHECK(reports <= 1);
	}
	buf_free(&in);
	buf_free(&want);
	buf_free(&got);
}

/* What is written -------------------------------------------------------- */

static bool read_first(struct reader *r, const char *header, struct span xml, struct stanza *s)
{
	enum reader_event e;

	reader_reset(r);
	reader_feed(r, header, strlen(header));
	reader_feed(r, xml.p, xml.n);
	e = reader_next(r, s);
	if (e == READER_OPEN)
		e = reader_next(r, s);
	if (!CHECK_EQ_INT(e, READER_STANZA)) {
		fprintf(stderr, "%s: %.*s\n", reader_error(r), SPAN_ARG(xml));
		return false;
	}
	return true;
}

static bool same_infoset(struct span in, const char *around, struct span out)
{
	struct buf a, b;
	bool same;

	buf_init(&a, BUF_NO_MAX);
	buf_init(&b, BUF_NO_MAX);
	same = CHECK(infoset(&a, around, in)) && CHECK(infoset(&b, "", out)) &&
	       CHECK_EQ_MEM(buf_string(&b), buf_length(&b), buf_string(&a), buf_length(&a));
	if (!same)
		fprintf(stderr, "in: %.*s\nout: %.*s\n", SPAN_ARG(in), SPAN_ARG(out));
	buf_free(&a);
	buf_free(&b);
	return same;
}

static void copies_mean_the_same(void)
{
	struct reader_config config = {.kind = READER_PIPE};
	struct reader *pipe = reader_new(&config), *socket;
	struct buf in, out, second;
	struct maker m = {.dice = {4711}, .out = &in, .lines = true};

	config.kind = READER_SOCKET;
	socket = reader_new(&config);
	buf_init(&in, BUF_NO_MAX);
	buf_init(&out, BUF_NO_MAX);
	buf_init(&second, BUF_NO_MAX);
	for (size_t i = 0; i < rounds(5000); i++) {
		const char *around = i % 2 ? COMPONENT : "";
		struct writer w;
		struct stanza s;
		struct span line;

		buf_reset(&in);
		buf_reset(&out);
		buf_reset(&second);
		m.prefix_z = i % 2;
		make_stanza(&m);
		if (!read_first(i % 2 ? socket : pipe, around, buf_span(&in), &s))
			break;
		CHECK_EQ_MEM(s.raw.p, s.raw.n, buf_string(&in), buf_length(&in));
		writer_init(&w, &out, WRITER_PIPE, 0);
		CHECK_EQ_INT(writer_stanza(&w, &s, &STANZA_KEEP), WRITER_OK);
		line = (struct span){buf_string(&out), buf_length(&out) - 1};
		CHECK(line.p[line.n] == '\n');
		CHECK(!memchr(line.p, '\n', line.n) && !memchr(line.p, '\r', line.n));
		if (!same_infoset(buf_span(&in), around, line))
			break;
		/* the second pass changes no byte */
		if (!read_first(pipe, "", line, &s))
			break;
		writer_init(&w, &second, WRITER_PIPE, 0);
		CHECK_EQ_INT(writer_stanza(&w, &s, &STANZA_KEEP), WRITER_OK);
		if (!CHECK_EQ_MEM(buf_string(&second), buf_length(&second), buf_string(&out),
			    buf_length(&out)))
			break;
	}
	reader_free(pipe);
	reader_free(socket);
	buf_free(&in);
	buf_free(&out);
	buf_free(&second);
}

/* Edits, and edits that take them back. */
static void edits_are_exact(void)
{
	static const char *const values[] = {"x", "'\"<&>\n\t\r", "\xe2\x82\xac", "a b"};
	struct reader_config config = {.kind = READER_PIPE};
	struct reader *r = reader_new(&config), *again = reader_new(&config);
	struct buf in, out, back;
	struct maker m = {.dice = {90125}, .out = &in, .lines = true};

	buf_init(&in, BUF_NO_MAX);
	buf_init(&out, BUF_NO_MAX);
	buf_init(&back, BUF_NO_MAX);
	for (size_t i = 0; i < rounds(3000); i++) {
		struct stanza_edit edit = STANZA_KEEP, undo = STANZA_KEEP;
		struct writer w;
		struct stanza s, t;
		struct span *fields[] = {&edit.to, &edit.from, &edit.id};

		buf_reset(&in);
		buf_reset(&out);
		buf_reset(&back);
		make_stanza(&m);
		if (!read_first(r, "", buf_span(&in), &s))
			break;
		for (int f = 0; f < 3; f++)
			switch (dice_roll(&m.dice, 3)) {
			case 0:
				*fields[f] = SPAN("");
				break;
			case 1:
				*fields[f] = span_of(values[dice_roll(&m.dice, 4)]);
				break;
			}
		writer_init(&w, &out, WRITER_PIPE, 0);
		CHECK_EQ_INT(writer_stanza(&w, &s, &edit), WRITER_OK);
		if (!read_first(again, "", buf_span(&out), &t))
			break;
		CHECK(span_equal(t.to, edit.to.n ? edit.to : edit.to.p ? SPAN_NONE : s.to));
		CHECK(span_equal(t.from, edit.from.n   ? edit.from
					 : edit.from.p ? SPAN_NONE
						       : s.from));
		CHECK(span_equal(t.id, edit.id.n ? edit.id : edit.id.p ? SPAN_NONE : s.id));
		CHECK_EQ_INT(t.type, s.type);
		undo.to = s.to.p ? s.to : SPAN("");
		undo.from = s.from.p ? s.from : SPAN("");
		undo.id = s.id.p ? s.id : SPAN("");
		writer_init(&w, &back, WRITER_PIPE, 0);
		CHECK_EQ_INT(writer_stanza(&w, &t, &undo), WRITER_OK);
		if (!same_infoset(buf_span(&in), "",
			    (struct span){buf_string(&back), buf_length(&back) - 1}))
			break;
	}
	reader_free(r);
	reader_free(again);
	buf_free(&in);
	buf_free(&out);
	buf_free(&back);
}

/* Take a stanza out of a wrapper, and then one of its nodes. */
static void what_is_taken_out_means_the_same(void)
{
	static const char *const wrappers[] = {
		"<iq><d xmlns='urn:w'><forwarded xmlns='urn:xmpp:forward:0'>",
		"<iq xmlns:z='urn:1'><d xmlns:z='urn:z'><forwarded xmlns='urn:xmpp:forward:0'>",
		("<iq xmlns:z='urn:1'><d xmlns='jabber:client'><f:forwarded "
		 "xmlns:f='urn:xmpp:forward:0'>"),
		"<iq><d xmlns='urn:w'><f:forwarded xmlns:z='urn:3' xmlns:f='urn:xmpp:forward:0'>",
	};
	struct reader_config config = {.kind = READER_SOCKET};
	struct reader *r = reader_new(&config);
	struct buf in, out, around;
	struct maker m = {.dice = {2112}, .out = &in, .lines = true, .prefix_z = true};

	buf_init(&in, BUF_NO_MAX);
	buf_init(&out, BUF_NO_MAX);
	buf_init(&around, BUF_NO_MAX);
	for (size_t i = 0; i < rounds(3000); i++) {
		const char *wrapper = wrappers[i % 4];
		const struct xml_node *node;
		struct stanza s, inner;
		struct writer w;
		size_t n;

		buf_reset(&in);
		buf_reset(&out);
		buf_reset(&around);
		add(&m, wrapper);
		make_stanza_with(&m, " xmlns='jabber:client'");
		n = buf_length(&in) - strlen(wrapper);
		add(&m, strstr(wrapper, "f:") ? "</f:forwarded>" : "</forwarded>");
		add(&m, "</d></iq>");
		if (!read_first(r, COMPONENT, buf_span(&in), &s))
			break;
		node = stanza_payload(&s)->first_child->first_child;
		REQUIRE(node);
		stanza_of_node(&s, node, NULL, &inner);
		CHECK(inner.kind != STANZA_OTHER);
		CHECK_EQ_MEM(inner.raw.p, inner.raw.n, buf_string(&in) + strlen(wrapper), n);
		writer_init(&w, &out, WRITER_SOCKET, 0);
		CHECK_EQ_INT(writer_stanza(&w, &inner, &STANZA_KEEP), WRITER_OK);
		buf_printf(&around, "%s%s", COMPONENT, wrapper);
		if (!same_infoset(inner.raw, buf_string(&around), buf_span(&out)))
			break;
		/* into another wrapper */
		buf_reset(&out);
		writer_begin(&w);
		writer_copy(&w, &inner, &STANZA_KEEP, NS_CLIENT);
		CHECK_EQ_INT(writer_end(&w), WRITER_OK);
		if (!same_infoset(inner.raw, buf_string(&around), buf_span(&out)))
			break;
		/* a node of it */
		node = inner.root->first_child;
		if (!node)
			continue;
		node = node->first_child ? node->first_child : node;
		buf_reset(&out);
		writer_begin(&w);
		writer_node(&w, &s, node);
		CHECK_EQ_INT(writer_end(&w), WRITER_OK);
		buf_append(&around, s.text + inner.root->start,
			inner.root->open_end - inner.root->start);
		if (node->parent != inner.root)
			buf_append(&around, s.text + node->parent->start,
				node->parent->open_end - node->parent->start);
		if (!same_infoset((struct span){s.text + node->start, node->end - node->start},
			    buf_string(&around), buf_span(&out)))
			break;
	}
	reader_free(r);
	buf_free(&in);
	buf_free(&out);
	buf_free(&around);
}

static void stanzas_in_stanzas(void)
{
	static const char xml[] =
		"<iq xml:lang='en' id='o'><d xmlns='urn:d'><message xmlns='jabber:client' id='i' "
		"to='t' type='chat' xmlns:y='urn:y' y:from='f'/><presence "
		"xmlns='jabber:component:accept'/><iq/><q xmlns='jabber:client'/></d></iq>";
	struct reader_config config = {.kind = READER_PIPE};
	struct reader *r = reader_new(&config);
	struct stanza s, inner;
	const struct xml_node *node;

	reader_feed(r, xml, sizeof(xml) - 1);
	REQUIRE(reader_next(r, &s) == READER_STANZA);
	node = stanza_payload(&s)->first_child;
	stanza_of_node(&s, node, NS_CLIENT, &inner);
	CHECK_EQ_INT(inner.kind, STANZA_MESSAGE);
	CHECK_EQ_INT(inner.type, TYPE_CHAT);
	CHECK_EQ_SPAN(inner.id, "i");
	CHECK_EQ_SPAN(inner.to, "t");
	CHECK(!inner.from.p && !inner.lang.p);
	CHECK(inner.root == node);
	stanza_of_node(&s, node, NS_COMPONENT, &inner);
	CHECK_EQ_INT(inner.kind, STANZA_OTHER);
	stanza_of_node(&s, node->next, NULL, &inner);
	CHECK_EQ_INT(inner.kind, STANZA_PRESENCE);
	stanza_of_node(&s, node->next, NS_CLIENT, &inner);
	CHECK_EQ_INT(inner.kind, STANZA_OTHER);
	stanza_of_node(&s, node->next->next, NULL, &inner);
	CHECK_EQ_INT(inner.kind, STANZA_OTHER);
	stanza_of_node(&s, node->next->next->next, NULL, &inner);
	CHECK_EQ_INT(inner.kind, STANZA_OTHER);
	reader_free(r);
}

int main(void)
{
	TEST(pieces_change_nothing);
	TEST(pieces_change_nothing_of_bad_input);
	TEST(a_prefix_yields_nothing_twice_or_wrong);
	TEST(a_bad_line_costs_itself_only);
	TEST(copies_mean_the_same);
	TEST(edits_are_exact);
	TEST(what_is_taken_out_means_the_same);
	TEST(stanzas_in_stanzas);
	return check_done();
}
