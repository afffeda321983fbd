/*
 * Fuzz target: the reader, and the writer behind it.
 *
 * The first byte chooses pipe or socket, limits and depth of the index, the second how the rest
 * arrives. Asserted: the same events however it arrives; trees whose offsets are right; copies that
 * stand on one line, mean the same and, copied again, are the same bytes.
 */
#include <stdio.h>

#include "../unit/infoset.h"
#include "../unit/transcript.h"
#include "require.h"
#include "base/utf8.h"
#include "xmpp/stanza-error.h"

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t n);

#define HEADER                                                                                     \
	"<stream:stream xmlns='jabber:component:accept' xmlns:z='urn:z' "                          \
	"xmlns:stream='http://etherx.jabber.org/streams'>"

static bool same_bytes(const struct buf *a, const struct buf *b)
{
	if (span_equal(buf_span(a), buf_span(b)))
		return true;
	fprintf(stderr, "--- one\n%s\n--- other\n%s\n", buf_string(a), buf_string(b));
	return false;
}

static bool same_value(struct span a, struct span b)
{
	return span_equal(a, b);
}

/* Read text as one stanza again; NULL if it is none. The caller frees the reader. */
static struct reader *read_again(const struct buf *text, struct stanza *s)
{
	static const struct reader_config config = {.kind = READER_PIPE,
		.max_stanza_bytes = 64 * 1024 * 1024,
		.max_depth = 100000,
		.max_attributes = 100000};
	struct reader *r = reader_new(&config);

	reader_feed(r, buf_string(text), buf_length(text));
	if (reader_next(r, s) == READER_STANZA)
		return r;
	fprintf(stderr, "%s: %s", reader_error(r), buf_string(text));
	reader_free(r);
	return NULL;
}

static void check_line(const struct buf *out)
{
	REQUIRE(buf_length(out) > 1);
	REQUIRE(buf_string(out)[buf_length(out) - 1] == '\n');
	REQUIRE(!memchr(buf_string(out), '\n', buf_length(out) - 1));
	REQUIRE(!memchr(buf_string(out), '\r', buf_length(out)));
}

/* Check the copy of a stanza. around: the start tags it stands in, NULL if unknown. */
static void check_copy(const struct stanza *s, const char *around)
{
	struct buf out, second, a, b;
	struct writer w;
	struct stanza again, thrice;
	struct stanza_edit edit = {SPAN("t'o"), SPAN("from"), SPAN("i&d"), SPAN("")};
	struct reader *r;

	buf_init(&out, BUF_NO_MAX);
	buf_init(&second, BUF_NO_MAX);
	buf_init(&a, BUF_NO_MAX);
	buf_init(&b, BUF_NO_MAX);
	writer_init(&w, &out, WRITER_PIPE, 0);
	REQUIRE(writer_stanza(&w, s, &STANZA_KEEP) == WRITER_OK);
	check_line(&out);
	r = read_again(&out, &again);
	REQUIRE(r);
	REQUIRE(again.kind == s->kind && again.type == s->type);
	REQUIRE(same_value(again.to, s->to) && same_value(again.from, s->from));
	REQUIRE(same_value(again.id, s->id) && same_value(again.lang, s->lang));
	writer_init(&w, &second, WRITER_PIPE, 0);
	REQUIRE(writer_stanza(&w, &again, &STANZA_KEEP) == WRITER_OK);
	REQUIRE(same_bytes(&out, &second));
	if (around && !s->refusal) {
		REQUIRE(again.root->children_count == s->root->children_count);
		REQUIRE(infoset(&a, around, s->raw));
		REQUIRE(infoset(&b, "", (struct span){buf_string(&out), buf_length(&out) - 1}));
		REQUIRE(same_bytes(&a, &b));
	}
	/* a copy with edits */
	buf_reset(&second);
	REQUIRE(writer_stanza(&w, &again, &edit) == WRITER_OK);
	check_line(&second);
	reader_free(r);
	r = read_again(&second, &thrice);
	REQUIRE(r);
	REQUIRE(span_is(thrice.to, "t'o") && span_is(thrice.from, "from"));
	REQUIRE(span_is(thrice.id, "i&d") && thrice.type == TYPE_NONE);
	reader_free(r);
	buf_free(&out);
	buf_free(&second);
	buf_free(&a);
	buf_free(&b);
}

/* Check each function that takes a node, with this one. */
static void check_node(const struct stanza *s, const struct xml_node *node)
{
	struct buf out;
	struct writer w;
	struct stanza inner;
	struct reader *r;
	uint32_t children = 0;

	REQUIRE(node->end <= s->raw.n + (size_t)(s->raw.p - s->text));
	REQUIRE(s->text[node->start] == '<' && s->text[node->open_end - 1] == '>');
	REQUIRE(s->text[node->end - 1] == '>');
	REQUIRE(node->start < node->open_end && node->open_end <= node->close_start);
	REQUIRE(node->close_start <= node->end);
	for (const struct xml_node *child = node->first_child; child; child = child->next) {
		REQUIRE(child->parent == node);
		REQUIRE(child->start >= node->open_end && child->end <= node->close_start);
		REQUIRE(!child->next || child->end <= child->next->start);
		check_node(s, child);
		children++;
	}
	REQUIRE(children <= node->children_count);
	buf_init(&out, BUF_NO_MAX);
	REQUIRE(xml_node_text(s->text, node, &out));
	REQUIRE(utf8_xml_valid(buf_span(&out)));
	buf_reset(&out);
	writer_init(&w, &out, WRITER_PIPE, 0);
	writer_begin(&w);
	writer_node(&w, s, node);
	REQUIRE(writer_end(&w) == WRITER_OK);
	check_line(&out);
	r = read_again(&out, &inner);
	REQUIRE(r);
	REQUIRE(span_equal(inner.root->name, node->name));
	reader_free(r);
	if (node->parent && s->root != node) {
		stanza_of_node(s, node, NULL, &inner);
		check_copy(&inner, NULL);
	}
	buf_free(&out);
}

static void check_stanza(const struct stanza *s, const char *around)
{
	struct buf out;
	struct writer w;

	check_node(s, s->root);
	check_copy(s, around);
	buf_init(&out, 1000);
	writer_init(&w, &out, WRITER_SOCKET, 900);
	writer_stanza(&w, s, &STANZA_KEEP);
	stanza_error_reply(&w, s, ERROR_BAD_REQUEST, "text");
	stanza_error_condition(s);
	stanza_iq_valid(s);
	REQUIRE(buf_length(&out) <= 1000);
	buf_free(&out);
}

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t n)
{
	struct reader_config config = {.kind = READER_PIPE};
	struct buf in, whole, pieces, around;
	struct dice dice = {88172645463325252u};
	struct reader *r;
	struct stanza s;
	enum reader_event e;

	if (n < 2)
		return 0;
	buf_init(&in, BUF_NO_MAX);
	buf_init(&whole, BUF_NO_MAX);
	buf_init(&pieces, BUF_NO_MAX);
	buf_init(&around, BUF_NO_MAX);
	if (bytes[0] & 1)
		config.kind = READER_SOCKET;
	if (bytes[0] & 2)
		config.max_stanza_bytes = 40 + bytes[1];
	if (bytes[0] & 4)
		config.max_depth = 3;
	if (bytes[0] & 8)
		config.max_attributes = 3;
	if (bytes[0] & 16)
		config.index = READER_INDEX_ALL;
	if (bytes[0] & 32)
		config.index = READER_INDEX_CHILDREN;
	if (config.kind == READER_SOCKET && bytes[0] & 64)
		buf_append_string(&in, HEADER);
	dice.state += bytes[1];
	buf_append(&in, bytes + 2, n - 2);

	transcript(&whole, &config, buf_string(&in), buf_length(&in), 0, NULL);
	transcript(&pieces, &config, buf_string(&in), buf_length(&in), bytes[1] & 1 ? 1 : bytes[1],
		bytes[1] & 2 ? &dice : NULL);
	REQUIRE(same_bytes(&whole, &pieces));

	r = reader_new(&config);
	reader_feed(r, buf_string(&in), buf_length(&in));
	reader_end(r);
	while ((e = reader_next(r, &s)) != READER_MORE)
		if (e == READER_OPEN)
			buf_append_span(&around, s.raw);
		else if (e == READER_STANZA)
			check_stanza(&s, buf_string(&around));
	reader_free(r);
	buf_free(&in);
	buf_free(&whole);
	buf_free(&pieces);
	buf_free(&around);
	return 0;
}
