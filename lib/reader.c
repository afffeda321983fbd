#include "reader.h"

#include <expat.h>
#include <limits.h>
#include <stdlib.h>

#include "err.h"

/* expat keeps every element and attribute name it has ever seen until it is reset. Users choose
 * names, and a stream lives for months: so the parser begins again after this many bytes. */
#define RESTART_BYTES (512 * 1024)
/* A tag that grows without end is tokenised anew with each piece: above this size it is handed on
 * only when it has doubled, or when a '>' has come that may end it. */
#define HOLD_BYTES 4096
/* Elements open at once inside a stanza that is being thrown away. */
#define REFUSED_MAX_DEPTH 65536
/* Bytes that may be read once more to find the good lines behind a bad one, per byte read. */
#define RESCAN_CREDIT 8
#define RESCAN_CREDIT_MAX (64 * 1024 * 1024)

/* <iq><error><condition/></error></iq> */
#define ERROR_DEPTH 3

#define ARENA_CHUNK 8192

/* With reparse deferral (there by symbol, not by version: distributions backport it) a stanza whose
 * last tag comes in pieces is not reported until more bytes arrive. */
extern XML_Bool XML_SetReparseDeferralEnabled(XML_Parser parser, XML_Bool enabled)
	__attribute__((weak));

struct chunk {
	struct chunk *next;
	size_t used, size;
	char bytes[];
};

struct reader {
	struct reader_config config;
	XML_Parser parser;
	struct buf in;	      /* from the first byte of what is being read */
	XML_Index base;	      /* the parser's index of in's first byte */
	size_t fed;	      /* bytes of in the parser has */
	size_t parsed;	      /* bytes given to this parser */
	bool suspended;	      /* stopped at an event, to be resumed */
	bool prologue;	      /* the parser is being given a header we made */
	bool ended, dead;     /* no more input; stream over */
	bool skipping;	      /* pipe: up to the next newline */
	size_t deliver_bytes; /* of in: to be dropped at the next call */
	size_t line;	      /* of in's first byte */
	int64_t rescan_credit;

	unsigned level; /* open elements, the stream's root included */
	enum reader_event event;
	const char *abort; /* why a handler stopped the parser for good */
	size_t start;	   /* of the stanza, in in */
	size_t event_end;  /* of the tag that is the event, in in */
	struct buf header; /* socket: the stream's start tag, to begin again with */
	struct buf kept;   /* start tag of a stanza that is being thrown away */

	struct chunk *arena, *arena_first;
	struct xml_declaration *pending; /* declarations before their start tag */
	uint32_t pending_count, pending_size;
	struct xml_declaration *outer; /* owned, of the stream header */
	size_t outer_count;
	struct xml_node *node;	/* innermost indexed open element */
	unsigned unindexed;	/* open elements below it */
	unsigned indexed_count; /* in this stanza */
	unsigned index_depth;	/* of this stanza */
	struct stanza stanza;

	const char *error;
	size_t error_line;
};

static size_t lines_in(const char *p, size_t n)
{
	const char *end = p + n;
	size_t lines = 0;

	while (p < end && (p = memchr(p, '\n', (size_t)(end - p)))) {
		lines++;
		p++;
	}
	return lines;
}

static bool is_space(char c)
{
	return c == ' ' || c == '\t' || c == '\n' || c == '\r';
}

/* Length of the white space s begins with. */
static size_t space_length(struct span s)
{
	size_t n = 0;

	while (n < s.n && is_space(s.p[n]))
		n++;
	return n;
}

/* Arena ------------------------------------------------------------------ */

static void *arena_take(struct reader *r, size_t n)
{
	struct chunk *c = r->arena;
	void *p;

	n = (n + 7) & ~(size_t)7;
	if (!c || c->size - c->used < n) {
		size_t size = n > ARENA_CHUNK ? n : ARENA_CHUNK;

		c = xmalloc(sizeof(*c) + size);
		c->next = r->arena;
		c->used = 0;
		c->size = size;
		r->arena = c;
	}
	p = c->bytes + c->used;
	c->used += n;
	return p;
}

static struct span arena_copy(struct reader *r, const char *p, size_t n)
{
	char *copy = arena_take(r, n + 1);

	memcpy(copy, p, n);
	copy[n] = '\0';
	return (struct span){copy, n};
}

/* Forget all; one chunk of the ordinary size is kept for the next stanza. */
static void arena_reset(struct reader *r)
{
	while (r->arena && (r->arena->next || r->arena->size > ARENA_CHUNK)) {
		struct chunk *c = r->arena;

		r->arena = c->next;
		free(c);
	}
	if (r->arena)
		r->arena->used = 0;
}

/* Handlers --------------------------------------------------------------- */

#define SEPARATOR '\x1f'

static void split_name(struct reader *r, const char *name, struct span *ns, struct span *local)
{
	size_t n = strlen(name);
	const char *separator = memchr(name, SEPARATOR, n);

	if (separator) {
		size_t at = (size_t)(separator - name);
		struct span whole = arena_copy(r, name, n);

		*ns = (struct span){whole.p, at};
		*local = (struct span){whole.p + at + 1, n - at - 1};
	} else {
		*ns = SPAN_NONE;
		*local = arena_copy(r, name, n);
	}
}

static size_t event_offset(const struct reader *r)
{
	return (size_t)(XML_GetCurrentByteIndex(r->parser) - r->base);
}

static void stop(struct reader *r, enum reader_event event)
{
	r->event = event;
	r->event_end = event_offset(r) + (size_t)XML_GetCurrentByteCount(r->parser);
	XML_StopParser(r->parser, XML_TRUE);
}

static void fail(struct reader *r, const char *why)
{
	if (!r->abort) {
		r->abort = why;
		XML_StopParser(r->parser, XML_FALSE);
	}
}

static void on_declaration(void *context, const XML_Char *prefix, const XML_Char *uri)
{
	struct reader *r = context;
	struct xml_declaration *d;

	if (r->unindexed || r->stanza.refusal || r->level > r->index_depth)
		return; /* its element will not be indexed either */
	if (r->pending_count == r->pending_size) {
		/* grown for this element only: bounded by the tag's bytes */
		uint32_t size = r->pending_size ? r->pending_size * 2 : 8;

		r->pending = xrealloc(r->pending, size * sizeof(*r->pending));
		r->pending_size = size;
	}
	d = &r->pending[r->pending_count++];
	d->prefix = prefix ? arena_copy(r, prefix, strlen(prefix)) : SPAN("");
	d->uri = uri ? arena_copy(r, uri, strlen(uri)) : SPAN("");
}

static struct xml_node *node_new(struct reader *r, const char *name, const char **atts, size_t at)
{
	struct xml_node *node = arena_take(r, sizeof(*node));
	struct xml_attribute *attributes;
	uint32_t count = 0;
	char after;

	memset(node, 0, sizeof(*node));
	split_name(r, name, &node->ns, &node->name);
	while (atts[2 * count])
		count++;
	attributes = count ? arena_take(r, count * sizeof(*attributes)) : NULL;
	for (uint32_t i = 0; i < count; i++) {
		split_name(r, atts[2 * i], &attributes[i].ns, &attributes[i].name);
		attributes[i].value = arena_copy(r, atts[2 * i + 1], strlen(atts[2 * i + 1]));
	}
	node->attributes = attributes;
	node->attributes_count = count;
	if (r->pending_count) {
		size_t bytes = r->pending_count * sizeof(*r->pending);

		node->declarations = memcpy(arena_take(r, bytes), r->pending, bytes);
		node->declarations_count = r->pending_count;
		r->pending_count = 0;
	}
	node->start = at - r->start;
	node->open_end = node->start + (size_t)XML_GetCurrentByteCount(r->parser);
	/* the local name ends the written one: where it alone would end, a prefixed one goes on */
	after = r->in.p[r->in.start + at + 1 + node->name.n];
	node->prefixed = !is_space(after) && after != '/' && after != '>';
	return node;
}

/* From here on only the root's start tag is known of this stanza. */
static void refuse(struct reader *r, enum stanza_refusal why)
{
	struct xml_node *root = (struct xml_node *)r->stanza.root;

	r->stanza.refusal = why;
	root->first_child = root->last_child = NULL;
	r->node = root;
	r->unindexed = 0;
	buf_reset(&r->kept);
	buf_append(&r->kept, r->in.p + r->in.start + r->start, root->open_end);
}

static const char outside[] = "text outside of a stanza";

static void stanza_begin(struct reader *r, const char *name, const char **atts)
{
	size_t at = event_offset(r);
	struct span gap = {r->in.p + r->in.start, at};

	if (space_length(gap) < gap.n) {
		r->level--;
		fail(r, outside);
		return;
	}
	/* what stands before the stanza is not needed any more, but in must stay where the parser
	 * believes it: it is dropped with the stanza, and its lines are counted here */
	r->line += lines_in(gap.p, gap.n);
	r->start = at;
	r->unindexed = 0;
	r->indexed_count = 1;
	r->node = node_new(r, name, atts, at);
	r->stanza = (struct stanza){
		.root = r->node, .outer = r->outer, .outer_count = r->outer_count, .line = r->line};
	stanza_describe(&r->stanza);
	r->index_depth = r->config.index_depth;
	if (r->stanza.type == TYPE_ERROR && r->index_depth < ERROR_DEPTH)
		r->index_depth = ERROR_DEPTH;
}

static void on_open(void *context, const XML_Char *name, const XML_Char **atts)
{
	struct reader *r = context;
	unsigned level = r->level++;

	if (r->prologue || r->abort) {
		r->pending_count = 0;
		return;
	}
	if (level == 0) { /* socket */
		r->start = event_offset(r);
		r->node = node_new(r, name, atts, r->start);
		r->stanza = (struct stanza){.root = r->node, .line = r->line};
		stanza_describe(&r->stanza);
		buf_reset(&r->header);
		if (!xml_is(r->node, NS_STREAM, "stream"))
			fail(r, "not an XMPP stream");
		else if (!buf_append(
				 &r->header, r->in.p + r->in.start + r->start, r->node->open_end))
			fail(r, "stream header too large");
		else
			stop(r, READER_OPEN);
		return;
	}
	if (level == 1) {
		stanza_begin(r, name, atts);
	} else if (r->stanza.refusal) {
		if (level > REFUSED_MAX_DEPTH)
			fail(r, "elements nested without end");
		return;
	} else if (level - 1 > r->config.max_depth) {
		refuse(r, STANZA_TOO_DEEP);
		return;
	} else if (r->unindexed == 0) {
		struct xml_node *parent = r->node;

		parent->children_count++;
		if (level <= r->index_depth && r->indexed_count < r->config.index_nodes) {
			struct xml_node *node = node_new(r, name, atts, event_offset(r));

			node->parent = parent;
			if (parent->last_child)
				parent->last_child->next = node;
			else
				parent->first_child = node;
			parent->last_child = node;
			r->node = node;
			r->indexed_count++;
		} else {
			r->unindexed = 1;
		}
	} else {
		r->unindexed++;
	}
	r->pending_count = 0;
	if ((unsigned)XML_GetSpecifiedAttributeCount(r->parser) / 2 > r->config.max_attributes &&
		!r->abort && !r->stanza.refusal)
		refuse(r, STANZA_TOO_MANY_ATTRIBUTES);
}

static void on_close(void *context, const XML_Char *name)
{
	struct reader *r = context;

	(void)name;
	r->level--;
	if (r->abort)
		return;
	if (r->level == 0) {
		if (r->config.kind == READER_PIPE)
			fail(r, "unexpected end tag");
		else
			stop(r, READER_CLOSE);
		return;
	}
	if (!r->stanza.refusal) {
		if (r->unindexed) {
			r->unindexed--;
		} else {
			size_t at = event_offset(r) - r->start;
			int bytes = XML_GetCurrentByteCount(r->parser);

			/* of an empty-element tag the end comes as an event of no bytes */
			r->node->close_start = at;
			r->node->end = at + (size_t)bytes;
			if (r->level > 1)
				r->node = r->node->parent;
		}
	}
	if (r->level == 1)
		stop(r, READER_STANZA);
}

static void on_comment(void *context, const XML_Char *text)
{
	(void)text;
	fail(context, "comments are not allowed");
}

static void on_instruction(void *context, const XML_Char *target, const XML_Char *text)
{
	(void)target;
	(void)text;
	fail(context, "processing instructions are not allowed");
}

static void on_doctype(void *context, const XML_Char *name, const XML_Char *system_id,
	const XML_Char *public_id, int internal)
{
	(void)name;
	(void)system_id;
	(void)public_id;
	(void)internal;
	fail(context, "document type declarations are not allowed");
}

/* Life ------------------------------------------------------------------- */

static void parser_begin(struct reader *r)
{
	struct span prologue = buf_span(&r->header);

	XML_ParserReset(r->parser, "UTF-8");
	XML_SetUserData(r->parser, r);
	XML_SetElementHandler(r->parser, on_open, on_close);
	XML_SetNamespaceDeclHandler(r->parser, on_declaration, NULL);
	XML_SetCommentHandler(r->parser, on_comment);
	XML_SetProcessingInstructionHandler(r->parser, on_instruction);
	XML_SetStartDoctypeDeclHandler(r->parser, on_doctype);
	if (XML_SetReparseDeferralEnabled)
		XML_SetReparseDeferralEnabled(r->parser, XML_FALSE);
	r->level = 0;
	r->base = 0;
	r->fed = r->parsed = 0;
	r->suspended = false;
	r->abort = NULL;
	r->event = READER_MORE;
	r->pending_count = 0;
	r->start = 0;
	r->stanza.refusal = STANZA_WHOLE;
	r->unindexed = 0;
	r->index_depth = r->config.index_depth;
	arena_reset(r);
	if (r->config.kind == READER_PIPE)
		prologue = SPAN("<stanzas>");
	if (prologue.n) {
		r->prologue = true;
		XML_Parse(r->parser, prologue.p, (int)prologue.n, 0);
		r->prologue = false;
		r->base = (XML_Index)prologue.n;
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
	if (!r->config.index_depth)
		r->config.index_depth = 3;
	if (!r->config.index_nodes)
		r->config.index_nodes = 64;
	r->parser = XML_ParserCreateNS("UTF-8", SEPARATOR);
	if (!r->parser)
		err_die(EXIT_TEMPORARY, "out of memory");
	buf_init(&r->in, BUF_NO_MAX);
	buf_init(&r->header, 65536);
	buf_init(&r->kept, BUF_NO_MAX);
	reader_reset(r);
	return r;
}

void reader_reset(struct reader *r)
{
	buf_reset(&r->in);
	buf_reset(&r->header);
	free(r->outer);
	r->outer = NULL;
	r->outer_count = 0;
	r->ended = r->dead = r->skipping = false;
	r->deliver_bytes = 0;
	r->line = 1;
	r->rescan_credit = 0;
	r->error = NULL;
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
	while (r->arena) {
		struct chunk *c = r->arena;

		r->arena = c->next;
		free(c);
	}
	free(r->pending);
	free(r->outer);
	free(r);
}

/* Reading ---------------------------------------------------------------- */

void reader_feed(struct reader *r, const char *bytes, size_t n)
{
	if (r->dead)
		return;
	buf_append(&r->in, bytes, n);
	r->rescan_credit += (int64_t)n * RESCAN_CREDIT;
	if (r->rescan_credit > RESCAN_CREDIT_MAX)
		r->rescan_credit = RESCAN_CREDIT_MAX;
}

void reader_end(struct reader *r)
{
	r->ended = true;
}

bool reader_inside(const struct reader *r)
{
	return r->level > 1;
}

const char *reader_error(const struct reader *r)
{
	return r->error;
}

size_t reader_error_line(const struct reader *r)
{
	return r->error_line;
}

/* Drop n bytes from the front of in; the lines of the first `counted` have been counted. */
static void drop(struct reader *r, size_t n, size_t counted)
{
	if (n > counted && r->config.kind == READER_PIPE)
		r->line += lines_in(r->in.p + r->in.start + counted, n - counted);
	buf_consume(&r->in, n);
	r->base += (XML_Index)n;
	r->fed = r->fed > n ? r->fed - n : 0;
}

/* Between stanzas: white space needs no place. */
static void drop_space(struct reader *r)
{
	size_t n = space_length((struct span){buf_span(&r->in).p, r->fed});

	if (n)
		drop(r, n, 0);
}

/* What came of the stanza being thrown away is not needed, its start tag is kept. */
static void drop_refused(struct reader *r)
{
	drop(r, r->fed, r->start);
	r->start = 0;
}

static void remember_outer(struct reader *r)
{
	const struct xml_node *root = r->stanza.root;
	size_t bytes = 0, count = 0;
	char *p;

	for (uint32_t i = 0; i < root->declarations_count; i++)
		if (root->declarations[i].prefix.n) {
			bytes += root->declarations[i].prefix.n + root->declarations[i].uri.n;
			count++;
		}
	free(r->outer);
	r->outer = xmalloc(count * sizeof(*r->outer) + bytes + 1);
	r->outer_count = 0;
	p = (char *)(r->outer + count);
	for (uint32_t i = 0; i < root->declarations_count; i++) {
		const struct xml_declaration *d = &root->declarations[i];

		if (!d->prefix.n)
			continue;
		memcpy(p, d->prefix.p, d->prefix.n);
		r->outer[r->outer_count].prefix = (struct span){p, d->prefix.n};
		p += d->prefix.n;
		memcpy(p, d->uri.p, d->uri.n);
		r->outer[r->outer_count++].uri = (struct span){p, d->uri.n};
		p += d->uri.n;
	}
}

/* The event that stopped the parser, as the caller wants it. */
static enum reader_event deliver(struct reader *r, struct stanza *out)
{
	enum reader_event event = r->event;

	r->event = READER_MORE;
	r->deliver_bytes = r->event_end;
	if (event == READER_CLOSE) {
		r->dead = true;
		return event;
	}
	if (event == READER_OPEN)
		remember_outer(r);
	if (r->stanza.refusal) {
		struct xml_node *root = (struct xml_node *)r->stanza.root;

		r->stanza.text = r->kept.p + r->kept.start;
		r->stanza.raw = buf_span(&r->kept);
		root->start = 0;
		root->close_start = root->end = root->open_end;
	} else {
		r->stanza.text = r->in.p + r->in.start + r->start;
		r->stanza.raw = (struct span){r->stanza.text, r->event_end - r->start};
	}
	*out = r->stanza;
	return event;
}

static bool line_begins_stanza(const char *p, size_t n)
{
	static const char *const names[] = {"<iq", "<message", "<presence"};

	for (size_t i = 0; i < 3; i++)
		if (n > strlen(names[i]) && memcmp(p, names[i], strlen(names[i])) == 0)
			return true;
	return false;
}

/* A pipe's input could not be parsed: find where to go on. The piece began at r->start (or at the
 * first byte that is no white space) and was seen to be wrong at `at`. If good lines may have been
 * swallowed by it (it was cut off), they are read once more, as far as the credit goes. */
static void resynchronise(struct reader *r, size_t at)
{
	struct span in = buf_span(&r->in);
	size_t from = r->start, to;
	const char *newline;

	newline = memchr(in.p + from, '\n', in.n - from);
	while (newline && (size_t)(newline - in.p) < at) {
		size_t next = (size_t)(newline - in.p) + 1;

		if (line_begins_stanza(in.p + next, in.n - next)) {
			if (r->rescan_credit < (int64_t)(in.n - next))
				break;
			r->rescan_credit -= (int64_t)(in.n - next);
			drop(r, next, r->start);
			parser_begin(r);
			return;
		}
		newline = memchr(in.p + next, '\n', in.n - next);
	}
	newline = at < in.n ? memchr(in.p + at, '\n', in.n - at) : NULL;
	to = newline ? (size_t)(newline - in.p) + 1 : in.n;
	drop(r, to, r->start);
	r->skipping = !newline;
	parser_begin(r);
}

static enum reader_event bad(struct reader *r, const char *why, size_t at)
{
	if (at > buf_length(&r->in))
		at = buf_length(&r->in);
	r->error = why;
	if (r->config.kind == READER_SOCKET) {
		r->error_line = 0;
		r->dead = true;
		return READER_BAD;
	}
	if (!reader_inside(r)) { /* the piece begins at its first visible byte */
		struct span in = buf_span(&r->in);
		size_t n = space_length(in);

		r->line += lines_in(in.p, n);
		r->start = n;
		if (at < n)
			at = n;
	}
	r->error_line = r->line;
	if (r->stanza.refusal &&
		reader_inside(r)) { /* its beginning is gone: nothing to go back to */
		r->line += lines_in(r->in.p + r->in.start + r->start, at - r->start);
		r->start = at;
	}
	resynchronise(r, at);
	return READER_BAD;
}

static enum reader_event parse_failed(struct reader *r)
{
	XML_Index at = XML_GetCurrentByteIndex(r->parser) - r->base;
	const char *why = r->abort;

	if (!why)
		why = XML_ErrorString(XML_GetErrorCode(r->parser));
	if (XML_GetErrorCode(r->parser) == XML_ERROR_NO_MEMORY)
		err_die(EXIT_TEMPORARY, "out of memory");
	return bad(r, why, at < 0 ? 0 : (size_t)at);
}

/* Whether to give the parser what it does not have yet. */
static bool worth_parsing(const struct reader *r, struct span rest)
{
	XML_Index done = r->parsed ? XML_GetCurrentByteIndex(r->parser) - r->base : 0;
	size_t held = done >= 0 && (size_t)done < r->fed ? r->fed - (size_t)done : 0;

	if (rest.n == 0)
		return false;
	return held < HOLD_BYTES || rest.n >= held || r->ended || memchr(rest.p, '>', rest.n);
}

static const char too_large[] = "tag too large";

enum reader_event reader_next(struct reader *r, struct stanza *out)
{
	if (r->deliver_bytes) {
		drop(r, r->deliver_bytes, r->start);
		r->deliver_bytes = 0;
		r->start = 0;
		r->stanza.refusal = STANZA_WHOLE;
		arena_reset(r);
		if (r->parsed > RESTART_BYTES && !r->dead && r->level == 1)
			parser_begin(r);
	}
	for (;;) {
		struct span rest;
		enum XML_Status status;

		if (r->dead)
			return READER_MORE;
		if (r->skipping) {
			struct span in = buf_span(&r->in);
			const char *newline = in.n ? memchr(in.p, '\n', in.n) : NULL;

			drop(r, newline ? (size_t)(newline - in.p) + 1 : in.n, 0);
			if (!newline)
				return READER_MORE;
			r->skipping = false;
			parser_begin(r);
		}
		rest = span_from(buf_span(&r->in), r->fed);
		if (r->suspended) {
			r->suspended = false;
			status = XML_ResumeParser(r->parser);
		} else if (worth_parsing(r, rest)) {
			size_t n = rest.n > INT_MAX / 4 ? INT_MAX / 4 : rest.n;

			r->fed += n;
			r->parsed += n;
			status = XML_Parse(r->parser, rest.p, (int)n, 0);
		} else {
			break;
		}
		if (status == XML_STATUS_SUSPENDED) {
			r->suspended = true;
			return deliver(r, out);
		}
		if (status == XML_STATUS_ERROR)
			return parse_failed(r);
		if (!reader_inside(r))
			drop_space(r);
	}
	if (r->level == 1 && buf_length(&r->in) && buf_span(&r->in).p[0] != '<' &&
		!is_space(buf_span(&r->in).p[0]))
		return bad(r, outside, 0);
	if (reader_inside(r)) {
		if (r->stanza.refusal) {
			drop_refused(r);
			if (r->base - XML_GetCurrentByteIndex(r->parser) >
				(XML_Index)r->config.max_stanza_bytes)
				return bad(r, too_large, 0);
		} else if (buf_length(&r->in) - r->start > r->config.max_stanza_bytes) {
			refuse(r, STANZA_TOO_LARGE);
		}
	}
	if (buf_length(&r->in) > r->config.max_stanza_bytes + RESTART_BYTES)
		return bad(r, too_large, buf_length(&r->in));
	if (r->ended && buf_length(&r->in)) {
		if (r->config.kind == READER_PIPE || reader_inside(r))
			return bad(r, "truncated stanza", buf_length(&r->in));
	}
	return READER_MORE;
}
