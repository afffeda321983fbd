/*
 * Fuzz target: envelopes of namespace delegation, and what is accepted as an answer.
 *
 * Asserted: an inner iq is an iq of jabber:client with nothing beside it; wrapped again it is the
 * same; an answer that is accepted has the addresses it must have and at most one payload, and is
 * still accepted when it has been copied.
 */
#include "delegation/delegation.h"
#include "xmpp/reader.h"
#include "xmpp/reply.h"
#include "require.h"

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t n);

static struct reader *new_reader(void)
{
	static const struct reader_config config = {.kind = READER_PIPE,
		.max_stanza_bytes = 64 * 1024 * 1024,
		.max_depth = 1000,
		.max_attributes = 10000};

	return reader_new(&config);
}

static void check_reply(const struct stanza *s)
{
	const struct span from = SPAN("host.test"), to = SPAN("user@host.test/r");
	struct stanza_edit edit = {.to = to, .from = from, .id = SPAN("i")};
	struct stanza again;
	struct writer w;
	struct buf out;
	struct reader *r;

	if (!reply_wrong(s, from, to, true)) {
		REQUIRE(span_equal(s->from, from) && span_equal(s->to, to));
		REQUIRE(!reply_wrong(s, from, to, false));
	}
	if (reply_wrong(s, from, to, false))
		return;
	REQUIRE(s->kind == STANZA_IQ && (s->type == TYPE_RESULT || s->type == TYPE_ERROR));
	REQUIRE(s->root->children_count <= (s->type == TYPE_RESULT ? 1u : 2u));
	buf_init(&out, BUF_NO_MAX);
	writer_init(&w, &out, WRITER_PIPE, 0);
	REQUIRE(writer_stanza(&w, s, &edit) == WRITER_OK);
	r = new_reader();
	reader_feed(r, buf_string(&out), buf_length(&out));
	REQUIRE(reader_next(r, &again) == READER_STANZA);
	REQUIRE(!reply_wrong(&again, from, to, true));
	reader_free(r);
	buf_free(&out);
}

static void check_envelope(const struct stanza *s)
{
	struct stanza inner, outer, again;
	struct delegation_node node;
	struct writer w;
	struct buf out;
	struct reader *r;
	int version;

	if (s->id.p && delegation_node_parse(s->id, &node)) {
		buf_init(&out, BUF_NO_MAX);
		delegation_node_format(&node, &out);
		REQUIRE(span_equal(buf_span(&out), s->id));
		buf_free(&out);
	}
	if (s->refusal || delegation_unwrap(s, &inner, &version))
		return;
	REQUIRE(version == 1 || version == 2);
	REQUIRE(inner.kind == STANZA_IQ && span_is(inner.root->ns, NS_CLIENT));
	REQUIRE(s->root->children_count == 1 && inner.root->parent->children_count == 1);
	check_reply(&inner);
	buf_init(&out, BUF_NO_MAX);
	writer_init(&w, &out, WRITER_PIPE, 0);
	delegation_begin(&w, version, "set", SPAN("a"), SPAN("b"), SPAN("c"));
	writer_copy(&w, &inner, &STANZA_KEEP, NS_CLIENT);
	REQUIRE(delegation_end(&w) == WRITER_OK);
	r = new_reader();
	reader_feed(r, buf_string(&out), buf_length(&out));
	REQUIRE(reader_next(r, &outer) == READER_STANZA);
	REQUIRE(!delegation_unwrap(&outer, &again, &version));
	REQUIRE(span_equal(again.id, inner.id) && span_equal(again.to, inner.to));
	REQUIRE(span_equal(again.from, inner.from) && again.type == inner.type);
	REQUIRE(again.root->children_count == inner.root->children_count);
	reader_free(r);
	buf_free(&out);
}

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t n)
{
	struct reader *r = new_reader();
	struct stanza s;
	enum reader_event e;

	reader_feed(r, (const char *)bytes, n);
	reader_end(r);
	while ((e = reader_next(r, &s)) != READER_MORE)
		if (e == READER_STANZA && s.kind != STANZA_OTHER) {
			check_envelope(&s);
			check_reply(&s);
		}
	reader_free(r);
	return 0;
}
