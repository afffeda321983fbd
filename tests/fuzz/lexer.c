/*
 * Fuzz target: the lexer against expat.
 *
 * The first byte says where the input is cut and whether it stands in a stream with declarations.
 * What the lexer takes, expat takes, with the same names, namespaces, values and offsets; and it is
 * the same however the bytes arrive. That it doubts is always allowed. Then the reader: the same
 * events and trees with the lexer and without.
 */
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

#include "base/buf.h"
#include "require.h"
#include "xmpp/expat-position.h"
#include "xmpp/reader.h"
#include "xmpp/lexer.h"

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t n);

#define HEADER "<s:s xmlns:s='urn:s' xmlns:z='urn:z' xmlns='urn:outer'>"
static const struct xml_declaration outer[] = {
	{{"s", 1}, {"urn:s", 5}}, {{"z", 1}, {"urn:z", 5}}, {{"", 0}, {"urn:outer", 9}}};

/* One tag a line: <3-40 {ns}name xmlns:p={u} {ns}a={value}, /40-47 */
static void log_name(struct buf *log, struct span ns, struct span name)
{
	buf_append_string(log, " {");
	buf_append_span(log, ns);
	buf_append_string(log, "}");
	buf_append_span(log, name);
}

static void log_value(struct buf *log, struct span value)
{
	buf_append_string(log, "={");
	buf_append_span(log, value);
	buf_append_string(log, "}");
}

static void log_decoded(struct buf *log, struct span value, bool plain)
{
	size_t before = buf_length(log);
	struct span rest = value, run;
	char room[4];

	buf_append_string(log, "={");
	while (lexer_decode(&rest, LEXER_VALUE, room, &run))
		buf_append_span(log, run);
	REQUIRE(buf_length(log) - before - 2 <= value.n);
	if (plain)
		REQUIRE(span_equal(span_from(buf_span(log), before + 2), value));
	buf_append_string(log, "}");
}

static void log_token(struct buf *log, const struct lexer *l, enum lexer_token token)
{
	unsigned declared = 0;

	if (token == LEXER_CLOSE || token == LEXER_EMPTY) {
		if (token == LEXER_CLOSE) {
			buf_printf(log, "/%zu-%zu\n", l->start, l->at);
			return;
		}
	}
	buf_printf(log, "<%zu-%zu", l->start, l->at);
	log_name(log, l->ns, l->name);
	/* expat reports declarations first */
	for (int declares = 1; declares >= 0; declares--)
		for (unsigned i = 0; i < l->count; i++) {
			const struct xml_attribute *a = &l->attributes[i];

			if (lexer_declares(l, i) != (bool)declares)
				continue;
			declared += lexer_declares(l, i);
			if (declares)
				buf_append_string(log, " xmlns");
			log_name(log, a->ns, a->name);
			if (declares)
				log_value(log, a->value);
			else
				log_decoded(log, a->value, !lexer_is_coded(l, i));
		}
	REQUIRE(declared == l->declarations);
	buf_append_string(log, "\n");
	if (token == LEXER_EMPTY)
		buf_printf(log, "/%zu-%zu\n", l->at, l->at);
}

/* Cut into pieces by a seed; 0: whole. The input moves with each, and what comes later is already
 * there or not. Returns the last token; *used: what the stanza has. */
static enum lexer_token lex(
	struct buf *log, struct span in, unsigned seed, bool stream, size_t *used)
{
	struct lexer l;
	enum lexer_token token = LEXER_MORE;
	size_t have = seed ? 0 : in.n, there;
	bool ahead = seed & 64;
	char *copy = NULL;

	lexer_begin(&l, outer, stream ? 3 : 0);
	for (;;) {
		have = seed ? have + 1 + seed % 7 : in.n;
		seed = seed ? seed * 1103515245u + 12345u : 0;
		seed |= have < in.n;
		have = have < in.n ? have : in.n;
		free(copy);
		there = ahead ? in.n : have;
		copy = malloc(there + 1);
		REQUIRE(copy);
		memcpy(copy, in.p, there);
		copy[there] = '\0';
		while ((token = lexer_next(&l, (struct span){copy, have})) > LEXER_DOUBT) {
			REQUIRE(l.start < l.at && l.at <= have);
			log_token(log, &l, token);
			if (l.depth == 0)
				break;
		}
		REQUIRE(l.at <= have);
		if (token != LEXER_MORE || have == in.n)
			break;
	}
	free(copy);
	*used = l.at;
	return token;
}

extern XML_Bool XML_SetReparseDeferralEnabled(XML_Parser parser, XML_Bool enabled)
	__attribute__((weak));

struct judge {
	XML_Parser parser;
	struct buf *log, declared;
	size_t before;	/* bytes before the stanza */
	unsigned depth; /* around the stanza, too */
	bool over;
};

static void split(const char *name, struct span *ns, struct span *local)
{
	const char *separator = strchr(name, '\x1f');

	*ns = separator ? (struct span){name, (size_t)(separator - name)} : SPAN_NONE;
	*local = span_of(separator ? separator + 1 : name);
}

static void on_declaration(void *context, const XML_Char *prefix, const XML_Char *uri)
{
	struct judge *j = context;

	buf_append_string(&j->declared, " xmlns");
	log_name(&j->declared, SPAN_NONE, span_of(prefix));
	log_value(&j->declared, span_of(uri));
}

static void on_open(void *context, const XML_Char *name, const XML_Char **atts)
{
	struct judge *j = context;
	size_t at = (size_t)expat_index(j->parser) - j->before;
	struct span ns, local;

	if (j->before > 0 && j->depth++ == 0) {
		buf_reset(&j->declared);
		return;
	}
	if (!j->before)
		j->depth++;
	if (j->over)
		return;
	buf_printf(j->log, "<%zu-%zu", at, at + expat_count(j->parser));
	split(name, &ns, &local);
	log_name(j->log, ns, local);
	buf_append_span(j->log, buf_span(&j->declared));
	buf_reset(&j->declared);
	for (; *atts; atts += 2) {
		split(atts[0], &ns, &local);
		log_name(j->log, ns, local);
		log_value(j->log, span_of(atts[1]));
	}
	buf_append_string(j->log, "\n");
}

static void on_close(void *context, const XML_Char *name)
{
	struct judge *j = context;
	size_t at = (size_t)expat_index(j->parser) - j->before;

	(void)name;
	j->depth--;
	if (j->over)
		return;
	buf_printf(j->log, "/%zu-%zu\n", at, at + expat_count(j->parser));
	j->over = j->depth == (j->before > 0);
}

/* Whether expat takes `in`, which need not be whole. */
static bool judge(struct buf *log, struct span in, bool stream)
{
	const char *header = stream ? HEADER : "<s>";
	struct judge j = {.log = log, .before = strlen(header)};
	bool taken;

	buf_init(&j.declared, BUF_NO_MAX);
	j.parser = XML_ParserCreateNS("UTF-8", '\x1f');
	REQUIRE(j.parser);
	if (XML_SetReparseDeferralEnabled)
		XML_SetReparseDeferralEnabled(j.parser, XML_FALSE);
	XML_SetUserData(j.parser, &j);
	XML_SetElementHandler(j.parser, on_open, on_close);
	XML_SetNamespaceDeclHandler(j.parser, on_declaration, NULL);
	REQUIRE(XML_Parse(j.parser, header, (int)j.before, 0) == XML_STATUS_OK);
	taken = XML_Parse(j.parser, in.p, (int)in.n, 0) == XML_STATUS_OK;
	if (!taken)
		fprintf(stderr, "expat: %s\n", XML_ErrorString(XML_GetErrorCode(j.parser)));
	XML_ParserFree(j.parser);
	buf_free(&j.declared);
	return taken;
}

static void require_same(const struct buf *a, const struct buf *b, struct span in)
{
	if (span_equal(buf_span(a), buf_span(b)))
		return;
	fprintf(stderr, "--- one\n%s--- other\n%s--- of\n%.*s\n", buf_string(a), buf_string(b),
		SPAN_ARG(in));
	REQUIRE(false);
}

/* Pieces of any input are the same however it arrives. */
static void check_pieces(struct span in, unsigned seed)
{
	size_t at = 0, have = 0;
	struct lexer_piece piece = {.kind = PIECE_NONE};

	while (at < in.n) {
		struct lexer_piece whole = {.kind = PIECE_NONE};
		size_t n = lexer_piece(&whole, span_from(in, at)), got = 0, end;

		for (have = at; have < in.n && !piece.whole && !piece.wrong;) {
			have = have + 1 + seed % 5 < in.n ? have + 1 + seed % 5 : in.n;
			seed = seed * 1103515245u + 12345u;
			end = lexer_piece(&piece, (struct span){in.p + at + got, have - at - got});
			REQUIRE(end <= have - at - got);
			got += end;
		}
		REQUIRE(piece.kind == whole.kind && piece.whole == whole.whole);
		REQUIRE(piece.wrong == whole.wrong && got == n);
		if (!piece.whole)
			break;
		piece = (struct lexer_piece){.kind = PIECE_NONE};
		at += n;
	}
}

/* The reader with and without the lexer ---------------------------------- */

static void tell_span(struct buf *out, const char *what, struct span s)
{
	if (!s.p)
		return;
	buf_printf(out, " %s[", what);
	buf_append_span(out, s);
	buf_append_string(out, "]");
}

static void tell_node(struct buf *out, const struct xml_node *node)
{
	buf_printf(out, "(%zu-%zu %zu-%zu %u%s", node->start, node->open_end, node->close_start,
		node->end, node->children_count, node->prefixed ? " prefixed" : "");
	tell_span(out, "ns", node->ns);
	tell_span(out, "name", node->name);
	for (uint32_t i = 0; i < node->attributes_count; i++) {
		tell_span(out, "ns", node->attributes[i].ns);
		tell_span(out, "a", node->attributes[i].name);
		tell_span(out, "value", node->attributes[i].value);
	}
	for (uint32_t i = 0; i < node->declarations_count; i++) {
		tell_span(out, "prefix", node->declarations[i].prefix);
		tell_span(out, "uri", node->declarations[i].uri);
	}
	for (const struct xml_node *child = node->first_child; child; child = child->next) {
		REQUIRE(child->parent == node && (child->next || node->last_child == child));
		tell_node(out, child);
	}
	buf_append_string(out, ")");
}

static void tell_events(struct buf *out, struct reader *r)
{
	enum reader_event e;
	struct stanza s;

	while ((e = reader_next(r, &s)) != READER_MORE) {
		buf_printf(out, "\n%d", e);
		if (e == READER_BAD)
			buf_printf(out, " %zu %s", reader_error_line(r), reader_error(r));
		if (e != READER_STANZA && e != READER_OPEN)
			continue;
		buf_printf(out, " %d %d %d line %zu outer %zu", s.kind, s.type, s.refusal, s.line,
			s.outer_count);
		tell_span(out, "to", s.to);
		tell_span(out, "from", s.from);
		tell_span(out, "id", s.id);
		tell_span(out, "lang", s.lang);
		tell_span(out, "raw", s.raw);
		tell_node(out, s.root);
	}
	buf_printf(out, " %d", reader_inside(r));
}

static void tell(struct buf *out, const struct reader_config *config, struct span in, unsigned seed)
{
	struct reader *r = reader_new(config);

	for (size_t at = 0, n; at < in.n; at += n) {
		n = seed ? 1 + seed % 90 : in.n;
		seed = seed ? (seed * 1103515245u + 12345u) >> 1 | 1u : 0;
		n = n < in.n - at ? n : in.n - at;
		reader_feed(r, in.p + at, n);
		tell_events(out, r);
	}
	reader_end(r);
	tell_events(out, r);
	reader_free(r);
}

static void check_reader(unsigned how, struct span in)
{
	struct reader_config config = {.kind = how & 1 ? READER_SOCKET : READER_PIPE};
	struct buf fed, lexer, expat;

	buf_init(&fed, BUF_NO_MAX);
	buf_init(&lexer, BUF_NO_MAX);
	buf_init(&expat, BUF_NO_MAX);
	if (how & 1)
		buf_append_string(&fed,
			"<stream:stream xmlns='jabber:component:accept' xmlns:z='urn:z' "
			"xmlns:stream='http://etherx.jabber.org/streams'>");
	buf_append_span(&fed, in);
	config.index = (enum reader_index)((how >> 1) % 3);
	if (how & 8)
		config.max_stanza_bytes = 100;
	if (how & 16)
		config.max_depth = 3;
	if (how & 32)
		config.max_attributes = 3;
	tell(&lexer, &config, buf_span(&fed), how & 64 ? how : 0);
	config.expat_only = true;
	tell(&expat, &config, buf_span(&fed), how & 64 ? how : 0);
	require_same(&lexer, &expat, in);
	buf_free(&fed);
	buf_free(&lexer);
	buf_free(&expat);
}

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t n)
{
	struct span in = {(const char *)bytes + 1, n - 1};
	struct buf whole, pieces, expat;
	enum lexer_token token;
	size_t used, used_pieces;
	bool stream;

	if (n < 3)
		return 0;
	check_pieces(in, bytes[0]);
	check_reader(bytes[0], in);
	if (in.p[0] != '<' || memchr(in.p, 0x1f, in.n))
		return 0;
	stream = bytes[0] & 1;
	buf_init(&whole, BUF_NO_MAX);
	buf_init(&pieces, BUF_NO_MAX);
	buf_init(&expat, BUF_NO_MAX);
	token = lex(&whole, in, 0, stream, &used);
	REQUIRE(lex(&pieces, in, bytes[0] | 1u, stream, &used_pieces) == token);
	require_same(&whole, &pieces, in);
	if (token != LEXER_DOUBT) {
		REQUIRE(used == used_pieces || token == LEXER_MORE);
		if (token != LEXER_MORE)
			in.n = used;
		REQUIRE(judge(&expat, in, stream));
		require_same(&whole, &expat, in);
	}
	buf_free(&whole);
	buf_free(&pieces);
	buf_free(&expat);
	return 0;
}
