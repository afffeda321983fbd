#include "xmpp/reader-own.h"

#include <limits.h>
#include <stdlib.h>

#include "base/err.h"
#include "xmpp/expat-position.h"

/* expat keeps every element and attribute name it has ever seen until it is reset. Users choose
 * names, and a stream lives for months: so the parser begins again after this many bytes. */
#define RESTART_BYTES (512 * 1024)
/* A comment or instruction between the stanzas of a pipe. */
#define ASIDE_MAX_BYTES (64 * 1024)
/* Given to expat at once, so that few bytes are given anew when it begins again. */
#define FEED_BYTES (64 * 1024)
/* The same for a stanza that the lexer leaves to expat. */
#define FIRST_BYTES 1024
/* What offsets of 32 bits reach without a thought. */
#define LEXER_MAX_BYTES (1024 * 1024 * 1024)
/* expat looks at an unfinished tag anew with each piece. From this size on it gets more only when
 * the tag can be at its end, or has doubled. */
#define HOLD_BYTES 4096

const char reader_truncated[] = "truncated stanza";
const char reader_outside[] = "text outside of a stanza";
const char reader_too_large[] = "tag too large";
const char reader_no_comments[] = "comments are not allowed";
const char reader_no_instructions[] = "processing instructions are not allowed";
const char reader_no_doctype[] = "document type declarations are not allowed";
const char reader_no_stream[] = "not an XMPP stream";
static const char aside_too_large[] = "comment or instruction too large";
static const char malformed[] = "not well-formed";

static size_t smaller(size_t a, size_t b)
{
	return a < b ? a : b;
}

/* Life ------------------------------------------------------------------- */

/* The next stanza begins at the front of in. */
static void begin_next(struct reader *r)
{
	index_begin(&r->index);
	r->judge = r->config.expat_only ? JUDGE_EXPAT : JUDGE_LEXER;
	r->lexed = 0;
	r->lexer_hold.from = -1;
	r->aside = (struct hold){.from = 0};
	lexer_begin(&r->lexer, r->outer, r->outer_count);
}

static void parser_begin(struct reader *r)
{
	struct span prologue = buf_span(&r->header);

	reader_expat_begin(r);
	r->mode = MODE_READING;
	r->level = r->forwarded_level = 0;
	r->base = 0;
	r->fed = r->parsed = 0;
	r->suspended = r->restart = r->in_cdata = false;
	r->abort = NULL;
	r->event = READER_MORE;
	r->pending_count = 0;
	r->hold.from = -1;
	r->stanza.refusal = STANZA_WHOLE;
	begin_next(r);
	if (r->config.kind == READER_PIPE)
		prologue = SPAN("<stanzas>");
	if (prologue.n) {
		r->prologue = true;
		XML_Parse(r->parser, prologue.p, (int)prologue.n, 0);
		r->prologue = false;
		r->base = (int64_t)prologue.n;
	}
}

struct reader *reader_new(const struct reader_config *config)
{
	struct reader *r = xcalloc(1, sizeof(*r));

	r->config = *config;
	if (!r->config.max_stanza_bytes)
		r->config.max_stanza_bytes = READER_MAX_STANZA_BYTES;
	if (!r->config.max_depth)
		r->config.max_depth = READER_MAX_DEPTH;
	if (!r->config.max_attributes)
		r->config.max_attributes = READER_MAX_ATTRIBUTES;
#ifdef OUTBOARD_DEVELOPER
	r->config.expat_only =
		getenv("OUTBOARD_READER") && strcmp(getenv("OUTBOARD_READER"), "expat") == 0;
#endif
	r->tag_max_bytes = r->config.max_stanza_bytes > READER_MAX_TAG_BYTES
				   ? r->config.max_stanza_bytes
				   : READER_MAX_TAG_BYTES;
	r->parser = reader_expat_new();
	buf_init(&r->in, BUF_NO_MAX);
	buf_init(&r->header, BUF_NO_MAX);
	buf_init(&r->kept, BUF_NO_MAX);
	reader_reset(r);
	return r;
}

struct reader *reader_new_again(size_t max_bytes, enum reader_index index)
{
	return reader_new(&(struct reader_config){.kind = READER_PIPE,
		.max_stanza_bytes = max_bytes,
		.max_depth = INT_MAX,
		.max_attributes = INT_MAX,
		.index = index});
}

void reader_reset(struct reader *r)
{
	buf_reset(&r->in);
	buf_reset(&r->header);
	buf_reset(&r->kept);
	free(r->outer);
	r->outer = NULL;
	r->outer_count = 0;
	r->ended = r->dead = false;
	r->deliver_bytes = 0;
	r->line = r->config.kind == READER_PIPE;
	r->column = r->resync.strict_end = 0;
	r->error = NULL;
	r->error_line = 0;
	parser_begin(r);
}

void reader_free(struct reader *r)
{
	if (!r)
		return;
	XML_ParserFree(r->parser);
	buf_free(&r->in);
	buf_free(&r->header);
	buf_free(&r->kept);
	arena_free(&r->index.arena);
	free(r->pending);
	free(r->outer);
	free(r);
}

void reader_feed(struct reader *r, const char *bytes, size_t n)
{
	if (!r->dead)
		buf_append(&r->in, bytes, n);
}

char *reader_room(struct reader *r, size_t n)
{
	return buf_reserve(&r->in, n);
}

void reader_filled(struct reader *r, size_t n)
{
	buf_commit(&r->in, r->dead ? 0 : n);
}

bool reader_one(struct reader *r, struct span bytes, struct stanza *out)
{
	reader_reset(r);
	reader_feed(r, bytes.p, bytes.n);
	return reader_next(r, out) == READER_STANZA;
}

void reader_end(struct reader *r)
{
	r->ended = true;
}

bool reader_inside(const struct reader *r)
{
	if (r->mode == MODE_READING)
		return r->level > 1 || (r->level == 1 && buf_length(&r->in) > 0);
	return r->mode == MODE_PASSING;
}

const char *reader_error(const struct reader *r)
{
	return r->error;
}

enum reader_fault reader_fault(const struct reader *r)
{
	const char *const restricted[] = {reader_no_comments, reader_no_instructions,
		reader_no_doctype, XML_ErrorString(XML_ERROR_UNDEFINED_ENTITY)};

	if (r->error == reader_too_large || r->error == aside_too_large)
		return FAULT_TOO_LARGE;
	for (size_t i = 0; i < sizeof(restricted) / sizeof(*restricted); i++)
		if (r->error == restricted[i])
			return FAULT_RESTRICTED;
	return FAULT_NOT_WELL_FORMED;
}

size_t reader_error_line(const struct reader *r)
{
	return r->error_line;
}

/* Bytes ------------------------------------------------------------------ */

static void count_lines(struct reader *r, const char *p, size_t n)
{
	const char *end = p + n, *newline;

	while ((newline = memchr(p, '\n', (size_t)(end - p)))) {
		r->line++;
		r->column = 0;
		p = newline + 1;
	}
	r->column += (size_t)(end - p);
}

/* Drop n bytes from the front of in; expat need not have had them. flat: they have no line end. */
static void drop(struct reader *r, size_t n, bool flat)
{
	size_t fed = smaller(n, r->fed);

	if (flat)
		r->column += n;
	else if (r->config.kind == READER_PIPE)
		count_lines(r, r->in.p + r->in.start, n);
	buf_consume(&r->in, n);
	r->base += (int64_t)fed;
	r->fed -= fed;
	resync_dropped(&r->resync, n);
}

/* Something is wrong at offset `at` of in. Lines from `from` on may be stanzas that it swallowed.
 */
static enum reader_event bad(struct reader *r, const char *why, size_t from, size_t at)
{
	struct span in = buf_span(&r->in);
	bool passing = r->mode == MODE_PASSING;

	r->error = why;
	if (r->config.kind == READER_SOCKET) {
		r->dead = true;
		return READER_BAD;
	}
	at = smaller(at, in.n);
	r->error_line = passing ? r->stanza.line : r->line;
	r->resync.lines = memchr(in.p, '\n', at) || (passing && r->passing.after_lines);
	if (!passing)
		r->resync.column = r->column;
	r->resync.from = smaller(from, at);
	r->resync.at = at;
	r->mode = MODE_SKIPPING;
	return READER_BAD;
}

/* Pass over what is wrong. False: more bytes are needed. */
static bool skip(struct reader *r)
{
	size_t n;
	bool found = resync_find(&r->resync, buf_span(&r->in), r->ended, &n);

	drop(r, n, false);
	if (found)
		parser_begin(r);
	return found;
}

/* Stanzas over a limit --------------------------------------------------- */

/* Keep the start tag, drop the rest up to `from`, where `depth` elements are open. */
static void pass_begin(struct reader *r, size_t from, size_t depth)
{
	struct xml_node *root = (struct xml_node *)r->stanza.root;

	buf_reset(&r->kept);
	buf_append(&r->kept, r->in.p + r->in.start, root->open_end);
	r->mode = MODE_PASSING;
	r->passing.piece = (struct lexer_piece){.kind = r->in_cdata ? PIECE_CDATA : PIECE_NONE};
	r->passing.depth = depth;
	r->passing.forwarded_depth = r->forwarded_level ? r->forwarded_level - 1 : 0;
	r->resync.column = r->column;
	if (from > root->open_end && buf_span(&r->in).p[from - 1] == '\n')
		from--; /* a stanza may begin behind it */
	r->passing.after_lines = memchr(buf_span(&r->in).p, '\n', from);
	root->first_child = root->last_child = NULL;
	root->children_count = 0;
	root->close_start = root->end = root->open_end;
	drop(r, from, false);
}

/* The stanza has more bytes than allowed. */
static enum reader_event pass_large(struct reader *r, size_t from, size_t depth)
{
	const char *p = buf_span(&r->in).p, *end = p + r->fed;

	r->stanza.refusal = STANZA_TOO_LARGE;
	/* stanzas swallowed by a section that was cut off? */
	for (p += r->cdata; r->in_cdata && r->config.kind == READER_PIPE;) {
		p = memchr(p, '\n', (size_t)(end - p));
		if (!p)
			break;
		p++;
		if (resync_begins_stanza((struct span){p, (size_t)(end - p)}) == RESYNC_YES)
			return bad(r, reader_truncated, r->cdata, r->fed);
	}
	pass_begin(r, from, depth);
	return READER_MORE;
}

static enum reader_event pass_bad(struct reader *r, const char *why, size_t at)
{
	/* a stanza may begin here, but only at the beginning of a line: blanks are not kept */
	if (at > 0 && buf_span(&r->in).p[at - 1] != '\n')
		at++;
	return bad(r, why, at, at);
}

/* Whether the markup at in[i] may be passed over. RESYNC_UNSURE: more bytes are needed. RESYNC_NO:
 * *why says why not. */
static enum resync_answer pass_markup(struct reader *r, struct span in, size_t i, const char **why)
{
	static const char *const wrapper[] = {"forwarded"};
	struct passing *p = &r->passing;
	struct span rest = span_from(in, i);
	enum resync_answer answer;

	if (r->config.kind == READER_PIPE && i > 0 && in.p[i - 1] == '\n' &&
		p->forwarded_depth != p->depth) {
		answer = resync_begins_stanza(rest);
		*why = reader_truncated;
		if (answer == RESYNC_YES || (answer == RESYNC_UNSURE && !r->ended))
			return answer == RESYNC_YES ? RESYNC_NO : RESYNC_UNSURE;
	}
	if (rest.n < 2)
		return RESYNC_UNSURE;
	*why = reader_no_instructions;
	if (rest.p[1] == '?')
		return RESYNC_NO;
	if (rest.p[1] == '!' || rest.p[1] == '/')
		return RESYNC_YES;
	answer = resync_is_named(rest, wrapper, 1);
	if (answer == RESYNC_YES)
		p->forwarded_depth = p->depth + 1;
	return answer == RESYNC_UNSURE ? answer : RESYNC_YES;
}

/* A piece has been passed over. */
static void pass_piece(struct passing *p)
{
	bool empty = p->piece.kind == PIECE_EMPTY, close = p->piece.kind == PIECE_CLOSE;

	if (p->piece.kind == PIECE_OPEN)
		p->depth++;
	if ((empty || close) && p->forwarded_depth == p->depth + empty)
		p->forwarded_depth = 0;
	p->depth -= close;
	p->piece = (struct lexer_piece){.kind = PIECE_NONE};
}

/* Go on to the end of the stanza, as far as the bytes reach. *i: how far. Returns what is wrong
 * there, or NULL. */
static const char *pass_on(struct reader *r, struct span in, size_t *i)
{
	struct passing *p = &r->passing;
	const char *why;

	while (*i < in.n && p->depth > 0) {
		size_t n;

		if (p->piece.kind == PIECE_NONE && in.p[*i] == '<') {
			enum resync_answer may = pass_markup(r, in, *i, &why);

			if (may != RESYNC_YES)
				return may == RESYNC_NO ? why : NULL;
		}
		n = lexer_piece(&p->piece, span_from(in, *i));
		if (p->piece.kind == PIECE_COMMENT || p->piece.kind == PIECE_DECLARATION)
			return p->piece.kind == PIECE_COMMENT ? reader_no_comments : malformed;
		*i += n;
		if (p->piece.wrong)
			return malformed;
		if (!p->piece.whole)
			break;
		pass_piece(p);
	}
	return NULL;
}

/* Nothing of it is kept, so only its nesting is looked at. */
static enum reader_event pass(struct reader *r, struct stanza *out)
{
	struct span in = buf_span(&r->in);
	size_t i = 0;
	const char *why = pass_on(r, in, &i);

	if (why)
		return pass_bad(r, why, i);
	r->passing.after_lines = r->passing.after_lines || memchr(in.p, '\n', i);
	if (r->passing.depth == 0) {
		drop(r, i, false);
		r->restart = true;
		r->stanza.text = r->kept.p + r->kept.start;
		r->stanza.raw = buf_span(&r->kept);
		*out = r->stanza;
		return READER_STANZA;
	}
	if (r->ended)
		return pass_bad(r, reader_truncated, in.n);
	if (i > 0 && in.p[i - 1] == '\n')
		i--; /* a stanza may begin behind it */
	drop(r, i, false);
	return READER_MORE;
}

/* Reading ---------------------------------------------------------------- */

static void remember_outer(struct reader *r)
{
	const struct xml_node *root = r->stanza.root;
	size_t bytes = 0, count = root->declarations_count;
	char *p;

	for (uint32_t i = 0; i < count; i++)
		bytes += root->declarations[i].prefix.n + root->declarations[i].uri.n;
	free(r->outer);
	r->outer = xmalloc(count * sizeof(*r->outer) + bytes + 1);
	r->outer_count = count;
	p = (char *)(r->outer + count);
	for (uint32_t i = 0; i < count; i++) {
		const struct xml_declaration *d = &root->declarations[i];

		memcpy(p, d->prefix.p, d->prefix.n);
		r->outer[i].prefix = (struct span){p, d->prefix.n};
		p += d->prefix.n;
		memcpy(p, d->uri.p, d->uri.n);
		r->outer[i].uri = (struct span){p, d->uri.n};
		p += d->uri.n;
	}
}

/* The event that stopped the parser, as the caller wants it. READER_MORE: not wanted after all. */
static enum reader_event deliver(struct reader *r, struct stanza *out)
{
	enum reader_event event = r->event;

	r->event = READER_MORE;
	if (event == READER_STANZA && r->event_end > r->config.max_stanza_bytes)
		return pass_large(r, r->event_start, 1);
	r->deliver_bytes = r->event_end;
	if (event == READER_CLOSE) {
		r->dead = true;
		return event;
	}
	/* what expat has of the stanzas behind this one is the lexer's to read first */
	r->restart = !r->config.expat_only && r->fed > r->event_end;
	if (event == READER_OPEN) {
		remember_outer(r);
		r->restart = true; /* other limits from here on */
	}
	r->stanza.text = r->in.p + r->in.start;
	r->stanza.raw = (struct span){
		r->stanza.text + r->stanza.root->start, r->event_end - r->stanza.root->start};
	*out = r->stanza;
	return event;
}

/* Whether what begins at in[from] and is not whole yet (a tag, a reference) may end in the bytes
 * that have come since this was asked last. base: what in[0] is counted as. */
static bool may_end(struct hold *h, struct span in, size_t from, int64_t base)
{
	struct span rest = span_from(in, from), later;

	if (h->from != base + (int64_t)from)
		*h = (struct hold){.from = base + (int64_t)from};
	later = span_from(rest, h->looked);
	if (rest.p[0] == '<') {
		h->looked += lexer_piece(&h->piece, later);
		return h->piece.whole || h->piece.wrong;
	}
	h->looked = rest.n;
	return memchr(later.p, ';', later.n) || memchr(later.p, '<', later.n);
}

void reader_begin_stanza(struct reader *r, struct xml_node *root)
{
	index_open(&r->index, root);
	r->stanza.refusal = STANZA_WHOLE;
	r->stanza.root = root;
	r->stanza.outer = r->outer;
	r->stanza.outer_count = r->outer_count;
	r->stanza.line = r->line;
	r->stanza.flat = false;
	stanza_describe(&r->stanza); /* the rest, but the text */
	r->index.max_level = index_levels(r->config.index, &r->stanza);
}

/* The lexer's part: stanzas it takes without doubt. */

static struct span lexed_value(struct reader *r, struct span written)
{
	struct span run, value;
	char *to = arena_take(&r->index.arena, written.n), room[4];

	value = (struct span){to, 0};
	while (lexer_decode(&written, LEXER_VALUE, room, &run)) {
		memcpy(to + value.n, run.p, run.n);
		value.n += run.n;
	}
	return value;
}

/* A node of the lexer's tag. Its strings are the input's, but for those that had to be decoded. */
static struct xml_node *lexed_node(struct reader *r)
{
	const struct lexer *l = &r->lexer;
	unsigned declared = l->declarations, count = l->count - declared;
	struct xml_node *node =
		arena_take(&r->index.arena, sizeof(*node) + count * sizeof(struct xml_attribute) +
						    declared * sizeof(struct xml_declaration));
	struct xml_attribute *attribute = (struct xml_attribute *)(node + 1);
	struct xml_declaration *declaration = (struct xml_declaration *)(attribute + count);

	/* every field is named: to clear the others the compiler would clear them all (rep stos),
	 * which takes longer than the rest */
	*node = (struct xml_node){.ns = l->ns,
		.name = l->name,
		.prefixed = l->prefixed,
		.attributes = attribute,
		.attributes_count = count,
		.children_count = 0,
		.declarations_count = declared,
		.declarations = declaration,
		.parent = NULL,
		.first_child = NULL,
		.last_child = NULL,
		.next = NULL,
		.start = l->start,
		.open_end = l->at,
		.close_start = l->at,
		.end = l->at};
	for (unsigned i = 0; i < l->count; i++) {
		const struct xml_attribute *a = &l->attributes[i];

		if (lexer_declares(l, i)) {
			*declaration++ =
				(struct xml_declaration){a->name, a->value, a->start, a->end};
			continue;
		}
		*attribute = *a;
		if (lexer_is_coded(l, i))
			attribute->value = lexed_value(r, a->value);
		attribute++;
	}
	return node;
}

/* Take in a tag. False: it is over a limit, or may be another stanza's (opens_next()): expat's
 * part. */
static bool lexed_tag(struct reader *r, struct span in, enum lexer_token token)
{
	const struct lexer *l = &r->lexer;
	unsigned around = l->depth - (token == LEXER_OPEN);

	if (token == LEXER_CLOSE) {
		index_close(&r->index, l->start, l->at);
		return true;
	}
	if (around > r->config.max_depth || l->count > r->config.max_attributes)
		return false;
	if (r->config.kind == READER_PIPE && around && in.p[l->start - 1] == '\n' &&
		resync_begins_stanza(span_from(in, l->start)) != RESYNC_NO)
		return false;
	if (index_wants(&r->index, r->config.index, l->name)) {
		struct xml_node *node = lexed_node(r);

		if (around)
			index_open(&r->index, node);
		else
			reader_begin_stanza(r, node);
	}
	if (token == LEXER_EMPTY)
		index_close(&r->index, l->at, l->at);
	return true;
}

/* Read on in the stanza at the front of in. READER_MORE: with JUDGE_LEXER more bytes are needed,
 * else it is expat's from its first byte. */
static enum reader_event lex(struct reader *r, struct stanza *out)
{
	struct lexer *l = &r->lexer;
	struct span in = buf_span(&r->in);
	size_t max = smaller(r->config.max_stanza_bytes, LEXER_MAX_BYTES);
	bool may_wait = in.n <= max && !r->ended;
	enum lexer_token token;

	in.n = smaller(in.n, max);
	if (may_wait && in.n - l->at >= HOLD_BYTES && in.n - r->lexed < r->lexed - l->at &&
		!may_end(&r->lexer_hold, in, l->at, 0))
		return READER_MORE;
	if (r->index.root && r->lexed_from != in.p) {
		index_move(&r->index, r->lexed_from, r->lexed, in.p);
		stanza_describe(&r->stanza);
	}
	while ((token = lexer_next(l, in)) > LEXER_DOUBT && lexed_tag(r, in, token)) {
		if (l->depth > 0)
			continue;
		r->deliver_bytes = l->at;
		r->stanza.flat = l->flat;
		r->stanza.text = in.p;
		r->stanza.raw = (struct span){in.p, l->at};
		*out = r->stanza;
		return READER_STANZA;
	}
	r->lexed = in.n;
	r->lexed_from = in.p;
	if (token != LEXER_MORE || !may_wait) {
		r->judge = JUDGE_EXPAT;
		index_begin(&r->index);
	}
	return READER_MORE;
}

static enum reader_event parse_failed(struct reader *r)
{
	struct span in = buf_span(&r->in);
	const char *why = XML_ErrorString(XML_GetErrorCode(r->parser));
	int64_t index;
	size_t at, from;

	if (XML_GetErrorCode(r->parser) == XML_ERROR_NO_MEMORY)
		err_die(EXIT_TEMPORARY, "out of memory");
	if (r->stanza.refusal) {
		if (r->stanza.refusal == STANZA_TOO_LARGE)
			return pass_large(r, r->abort_at, r->level - 1);
		pass_begin(r, r->abort_at, r->level - 1);
		return READER_MORE;
	}
	if (r->abort)
		return bad(r, r->abort, r->abort_at, r->abort_at);
	index = expat_index(r->parser) - r->base;
	at = from = index < 0 ? 0 : smaller((size_t)index, in.n);
	if (r->in_cdata)
		from = r->cdata;
	else if (at >= 2 && memcmp(in.p + at - 2, "--", 2) == 0 && memmem(in.p, at, "<!--", 4))
		from = (size_t)((char *)memmem(in.p, at, "<!--", 4) - in.p); /* not ended */
	if (at >= 2 && memcmp(in.p + at - 2, "<!", 2) == 0 && at < in.n && in.p[at] == 'D')
		why = reader_no_doctype;
	return bad(r, why, from, at);
}

enum between { BETWEEN_DONE, BETWEEN_WAIT, BETWEEN_BAD };

/* What tools write before and between the stanzas of a pipe: a byte order mark, comments,
 * instructions (an XML declaration looks like one). *n: its bytes, 0 if something else stands
 * there. */
static enum between aside(struct reader *r, struct span in, size_t *n)
{
	static const char mark[] = "\xef\xbb\xbf";
	size_t have = smaller(in.n, sizeof(mark) - 1);
	struct lexer_piece piece;

	*n = 0;
	if (in.p[0] == mark[0] && memcmp(in.p, mark, have) == 0) {
		*n = have < sizeof(mark) - 1 ? 0 : have;
		return *n || r->ended ? BETWEEN_DONE : BETWEEN_WAIT;
	}
	if (in.p[0] != '<' || (in.n > 1 && in.p[1] != '!' && in.p[1] != '?'))
		return BETWEEN_DONE;
	r->aside.looked += lexer_piece(&r->aside.piece, span_from(in, r->aside.looked));
	piece = r->aside.piece;
	*n = r->aside.looked;
	if (*n <= ASIDE_MAX_BYTES && !piece.whole && !r->ended)
		return BETWEEN_WAIT;
	r->aside = (struct hold){.from = 0};
	if (piece.kind != PIECE_COMMENT && piece.kind != PIECE_INSTRUCTION)
		*n = 0;
	else if (piece.kind == PIECE_COMMENT && piece.whole && memmem(in.p + 4, *n - 6, "--", 2))
		*n = 0; /* it is none (XML 1.0 2.5) */
	else if (*n > ASIDE_MAX_BYTES)
		bad(r, aside_too_large, 0, ASIDE_MAX_BYTES);
	else if (!piece.whole)
		bad(r, reader_truncated, 0, in.n);
	return r->mode == MODE_SKIPPING ? BETWEEN_BAD : BETWEEN_DONE;
}

/* Between stanzas: white space needs no place, and nothing but markup may follow it. */
static enum between between(struct reader *r)
{
	for (;;) {
		struct span in = buf_span(&r->in);
		enum between found = BETWEEN_DONE;
		size_t n = 0;

		while (n < in.n && xml_is_space(in.p[n]))
			n++;
		if (n == 0 && in.n && r->config.kind == READER_PIPE) {
			found = aside(r, in, &n);
			/* expat has it already, and would refuse it */
			if (n && found == BETWEEN_DONE && r->fed)
				r->restart = true;
		}
		if (found != BETWEEN_DONE)
			return found;
		if (n == 0) {
			if (in.n && in.p[0] != '<')
				bad(r, reader_outside, 0, 0);
			else if (in.n > 2 && in.p[1] == '!' && in.p[2] != '-')
				bad(r, in.p[2] == '[' ? reader_outside : reader_no_doctype, 0, 0);
			else
				return BETWEEN_DONE;
			return BETWEEN_BAD;
		}
		drop(r, n, false);
		if (r->restart)
			parser_begin(r);
	}
}

/* The first two bytes of a stream, from which expat would guess UTF-16 although it is told UTF-8.
 */
static bool begins_stream(struct span in)
{
	return in.n < 2 || ((in.p[0] == '<' || xml_is_space(in.p[0])) && in.p[1] != '\0');
}

/* Where the unfinished token begins that expat has read, in in. */
static size_t unfinished(const struct reader *r)
{
	int64_t index = r->fed ? expat_index(r->parser) - r->base : 0;

	return index < 0 ? 0 : smaller((size_t)index, r->fed);
}

/* Where a section, comment or instruction begins that has no end: lines in it may be stanzas. */
static size_t swallowed(const struct reader *r, struct span in)
{
	size_t from = unfinished(r);

	if (r->in_cdata)
		return r->cdata;
	return in.n - from > 1 && in.p[from] == '<' &&
			       (in.p[from + 1] == '!' || in.p[from + 1] == '?')
		       ? from
		       : in.n;
}

/* How many bytes of in expat may have by now: it never sees more of a stanza than is allowed, so
 * that what happens does not depend on how the bytes arrive. */
static size_t feed_limit(const struct reader *r)
{
	size_t max = r->config.max_stanza_bytes + 1;

	if (r->level == 0)
		return HEADER_MAX_BYTES + 1;
	return r->level == 1 && r->fed >= max ? r->tag_max_bytes + 1 : max;
}

/* How many bytes expat gets at once, `held` of them for an unfinished tag. It keeps what it does
 * not need yet: where it reads single stanzas that is not to be much. */
static size_t feed_bytes(const struct reader *r, size_t held)
{
	size_t bytes = FEED_BYTES;

	if (r->judge == JUDGE_EXPAT && !r->config.expat_only && r->fed < FEED_BYTES)
		bytes = r->fed > FIRST_BYTES ? r->fed : FIRST_BYTES;
	return held > bytes ? held : bytes;
}

/* Give the parser what it may have, or let it go on. False: there is nothing to give. */
static bool step(struct reader *r, size_t limit, enum XML_Status *status)
{
	struct span in = buf_span(&r->in);
	size_t from, held, n;

	if (r->suspended) {
		r->suspended = false;
		*status = XML_ResumeParser(r->parser);
		return true;
	}
	n = limit - r->fed;
	if (n == 0)
		return false;
	from = unfinished(r);
	held = r->fed - from;
	/* `limit` short of what there is: expat gets all it may have */
	if (held >= HOLD_BYTES && n < held && limit == in.n && !r->ended &&
		!may_end(&r->hold, in, from, r->base))
		return false;
	n = smaller(n, feed_bytes(r, held));
	r->fed += n;
	r->parsed += n;
	*status = XML_Parse(r->parser, in.p + r->fed - n, (int)n, 0);
	return true;
}

/* All that may be parsed was parsed, without an event. */
static enum reader_event waiting(struct reader *r, bool boundary)
{
	struct span in = buf_span(&r->in);

	if (r->level == 0 && r->fed > HEADER_MAX_BYTES)
		return bad(r, reader_too_large, r->fed, r->fed);
	if (r->level == 1 && r->fed > r->tag_max_bytes)
		return bad(r, reader_too_large, swallowed(r, in), r->fed);
	if (r->level > 1 && r->fed > r->config.max_stanza_bytes)
		return pass_large(r, unfinished(r), r->level - 1);
	if (in.n && boundary)
		return bad(r, reader_truncated, r->fed, r->fed);
	if (in.n && r->ended)
		return bad(r, reader_truncated, swallowed(r, in), in.n);
	return READER_MORE;
}

/* Whether the next stanza may be the lexer's: expat has nothing of it, and nothing was wrong here.
 */
static bool lexer_may(struct reader *r)
{
	if (r->fed == 0 && r->resync.strict_end == 0)
		return buf_length(&r->in) > 0;
	r->judge = JUDGE_EXPAT;
	return false;
}

/* Read on with expat. READER_MORE with *again: what is in `in` is to be looked at anew. */
static enum reader_event judge(struct reader *r, struct stanza *out, bool *again)
{
	enum resync_answer boundary = RESYNC_NO;
	size_t limit = buf_length(&r->in);
	enum reader_event event;
	enum XML_Status status;

	if (r->level == 0 && r->fed == 0) {
		if (!begins_stream(buf_span(&r->in)))
			return bad(r, reader_no_stream, 0, 0);
		if (limit < 2)
			limit = 0;
	}
	if (r->resync.strict_end > 0)
		limit = resync_boundary(&r->resync, buf_span(&r->in), r->fed > 1 ? r->fed - 1 : 0,
			r->ended, &boundary);
	if (!step(r, smaller(limit, feed_limit(r)), &status)) {
		event = waiting(r, boundary == RESYNC_YES);
		*again = r->mode != MODE_READING;
		return event;
	}
	*again = true;
	if (status == XML_STATUS_ERROR)
		return parse_failed(r);
	r->suspended = status == XML_STATUS_SUSPENDED;
	return r->suspended ? deliver(r, out) : READER_MORE;
}

/* What was given out by the last call is over. */
static void go_on(struct reader *r)
{
	if (r->deliver_bytes) {
		drop(r, r->deliver_bytes, r->stanza.flat);
		r->deliver_bytes = 0;
		begin_next(r);
		if (r->parsed > RESTART_BYTES && !r->dead && r->level == 1)
			r->restart = true;
	}
	if (r->restart)
		parser_begin(r);
}

enum reader_event reader_next(struct reader *r, struct stanza *out)
{
	enum reader_event event = READER_MORE;
	bool again = true;

	go_on(r);
	while (!r->dead && event == READER_MORE && again) {
		if (r->mode == MODE_SKIPPING && !skip(r))
			return READER_MORE;
		if (r->mode == MODE_PASSING)
			return pass(r, out);
		if (r->level == 1) {
			enum between found = between(r);

			if (found != BETWEEN_DONE)
				return found == BETWEEN_BAD ? READER_BAD : READER_MORE;
			if (r->judge == JUDGE_LEXER && lexer_may(r)) {
				event = lex(r, out);
				if (event != READER_MORE || r->judge == JUDGE_LEXER)
					return event;
			}
		}
		event = judge(r, out, &again);
	}
	return event;
}
