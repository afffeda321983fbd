#include "xmpp/reader.h"

#include <limits.h>
#include <stdlib.h>

#include "base/err.h"
#include "xmpp/expat-position.h"
#include "xmpp/index.h"
#include "xmpp/lexer.h"
#include "xmpp/resync.h"

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
/* The stream's start tag and what stands before it. */
#define HEADER_MAX_BYTES (64 * 1024)
/* With reparse deferral (there by symbol, not by version: distributions backport it) a stanza whose
 * last tag comes in pieces is not reported until more bytes arrive. */
extern XML_Bool XML_SetReparseDeferralEnabled(XML_Parser parser, XML_Bool enabled)
	__attribute__((weak));

/* Reading: expat has the first `fed` bytes of `in`. Skipping (pipe): after something wrong, up to
 * where a stanza may begin. Passing: a stanza over a limit, up to its end. */
enum mode { MODE_READING, MODE_SKIPPING, MODE_PASSING };

/* What reads the stanza at the front of `in`. */
enum judge {
	JUDGE_LEXER,
	JUDGE_EXPAT, /* the lexer doubts: expat has it from its first byte */
};

/* A stanza over a limit, whose content is thrown away: only its nesting is followed. */
struct passing {
	struct lexer_piece piece;
	size_t depth, forwarded_depth;
	bool after_lines;
};

/* A tag that is not yet whole is not looked at anew with each byte: `looked` bytes from `from` on
 * hold no end of it. */
struct hold {
	int64_t from;
	size_t looked;
	struct lexer_piece piece;
};

struct reader {
	struct reader_config config;
	size_t tag_max_bytes; /* of a stanza's own start tag */
	enum mode mode;
	/* What was not given out yet. Between stanzas white space is dropped: with level 1 and
	 * above, the first byte is that of the stanza (or of what is none). */
	struct buf in;
	size_t line, column; /* of in's first byte; pipe only */
	bool ended, dead;    /* no more input; stream over */

	XML_Parser parser;
	int64_t base;		  /* the parser's index of in's first byte */
	size_t fed;		  /* bytes of in the parser has */
	size_t parsed;		  /* bytes given to this parser */
	bool suspended;		  /* stopped at an event, to be resumed */
	bool prologue;		  /* the parser is being given a header we made */
	unsigned level;		  /* open elements, the stream's root included */
	unsigned forwarded_level; /* of the innermost open <forwarded/>, 0: none is open */
	uint32_t declared;	  /* namespace declarations of the tag being read */
	bool in_cdata;
	size_t cdata; /* where the open section begins, in in */

	enum reader_event event; /* why the parser stopped */
	size_t event_start, event_end;
	const char *abort; /* why a handler stopped it for good, and where */
	size_t abort_at;
	size_t deliver_bytes; /* of in: to be dropped at the next call */
	bool restart;	      /* the parser has lost its place */

	struct hold hold;
	struct hold aside; /* pipe: a comment or instruction between stanzas */

	enum judge judge;
	struct lexer lexer;
	struct hold lexer_hold;
	size_t lexed;		/* bytes of in that were there when the lexer last wanted more */
	const char *lexed_from; /* where in's first byte stood then */

	struct resync resync;
	struct passing passing;
	struct index index;
	struct stanza stanza;		 /* being read, or given out */
	struct xml_declaration *pending; /* declarations before their start tag */
	uint32_t pending_count, pending_size;
	struct buf header; /* socket: the stream's start tag, to begin again with */
	struct buf kept;   /* start tag of a stanza that is being passed over */

	struct xml_declaration *outer; /* owned, of the stream header */
	size_t outer_count;

	const char *error;
	size_t error_line;
};

static const char truncated[] = "truncated stanza";
static const char outside[] = "text outside of a stanza";
static const char too_large[] = "tag too large";
static const char aside_too_large[] = "comment or instruction too large";
static const char no_comments[] = "comments are not allowed";
static const char no_instructions[] = "processing instructions are not allowed";
static const char no_doctype[] = "document type declarations are not allowed";
static const char malformed[] = "not well-formed";
static const char no_stream[] = "not an XMPP stream";

static bool is_space(char c)
{
	return c == ' ' || c == '\n' || c == '\r' || c == '\t';
}

static size_t smaller(size_t a, size_t b)
{
	return a < b ? a : b;
}

/* Handlers --------------------------------------------------------------- */

#define SEPARATOR '\x1f'

static const char forward_ns[] = NS_FORWARD "\x1f";
static const char forwarded_name[] = NS_FORWARD "\x1f"
						"forwarded";

/* Both stay where expat has them. Returns the bytes they need when they are kept. */
static size_t split_name(const char *name, struct span *ns, struct span *local)
{
	const char *end = strchrnul(name, SEPARATOR);

	if (*end) {
		*ns = (struct span){name, (size_t)(end - name)};
		*local = span_of(end + 1);
		return ns->n + 1 + local->n + 1;
	}
	*ns = SPAN_NONE; /* most attributes */
	*local = (struct span){name, (size_t)(end - name)};
	return local->n + 1;
}

/* Have *s stand at `text`, with the byte that ends it. Returns where the next one may stand. */
static char *keep(struct span *s, char *text)
{
	if (!s->p)
		return text;
	memcpy(text, s->p, s->n + 1);
	s->p = text;
	return text + s->n + 1;
}

static size_t event_offset(const struct reader *r)
{
	return (size_t)(expat_index(r->parser) - r->base);
}

static size_t event_stop(const struct reader *r)
{
	return event_offset(r) + (size_t)expat_count(r->parser);
}

static void stop(struct reader *r, enum reader_event event)
{
	r->event = event;
	r->event_start = event_offset(r);
	r->event_end = event_stop(r);
	XML_StopParser(r->parser, XML_TRUE);
}

static void fail(struct reader *r, const char *why, size_t at)
{
	if (!r->abort) {
		r->abort = why;
		r->abort_at = at;
		XML_StopParser(r->parser, XML_FALSE);
	}
}

/* From the end of this tag on nothing more is to be known of the stanza. */
static void refuse(struct reader *r, enum stanza_refusal why)
{
	r->stanza.refusal = why;
	fail(r, too_large, event_stop(r));
}

static void on_declaration(void *context, const XML_Char *prefix, const XML_Char *uri)
{
	struct reader *r = context;
	struct xml_declaration *d;

	r->declared++;
	if (r->index.unindexed || r->prologue || r->abort || r->level > r->index.max_level)
		return; /* its element will not be indexed either */
	if (r->pending_count == r->pending_size) {
		/* grown for this element only: bounded by the tag's bytes */
		uint32_t size = r->pending_size ? r->pending_size * 2 : 8;

		r->pending = xrealloc(r->pending, size * sizeof(*r->pending));
		r->pending_size = size;
	}
	d = &r->pending[r->pending_count++];
	d->prefix = prefix ? arena_copy(&r->index.arena, span_of(prefix)) : SPAN("");
	d->uri = uri ? arena_copy(&r->index.arena, span_of(uri)) : SPAN("");
}

/* expat does not tell where attributes are written. */
static void locate(struct xml_node *node, const char *text)
{
	struct span rest, name, value, whole;
	struct xml_attribute *attribute = (struct xml_attribute *)node->attributes;
	struct xml_declaration *declaration = (struct xml_declaration *)node->declarations;

	lexer_tag_begin(
		(struct span){text + node->start, node->open_end - node->start}, &rest, &name);
	while (lexer_tag_next(&rest, &name, &value, &whole)) {
		size_t start = (size_t)(whole.p - text), end = start + whole.n;

		if (span_is(name, "xmlns") || span_starts(name, SPAN("xmlns:"))) {
			declaration->start = start;
			declaration++->end = end;
		} else {
			/* there are as many as expat has told of */
			attribute->start = start; /* NOLINT(clang-analyzer-core.NullDereference) */
			attribute++->end = end;
		}
	}
}

static struct xml_node *node_new(struct reader *r, const char *name, const char **atts, size_t at)
{
	struct xml_node *node = arena_take(&r->index.arena, sizeof(*node));
	struct xml_attribute *attributes;
	uint32_t count = (uint32_t)XML_GetSpecifiedAttributeCount(r->parser) / 2;
	size_t bytes;
	char *text, after;

	memset(node, 0, sizeof(*node));
	bytes = split_name(name, &node->ns, &node->name);
	attributes = count ? arena_take(&r->index.arena, count * sizeof(*attributes)) : NULL;
	for (uint32_t i = 0; i < count; i++) {
		bytes += split_name(atts[2 * i], &attributes[i].ns, &attributes[i].name);
		attributes[i].value = span_of(atts[2 * i + 1]);
		bytes += attributes[i].value.n + 1;
	}
	text = arena_take(&r->index.arena, bytes);
	text = keep(&node->ns, text);
	text = keep(&node->name, text);
	for (uint32_t i = 0; i < count; i++) {
		text = keep(&attributes[i].ns, text);
		text = keep(&attributes[i].name, text);
		text = keep(&attributes[i].value, text);
	}
	node->attributes = attributes;
	node->attributes_count = count;
	if (r->pending_count) {
		bytes = r->pending_count * sizeof(*r->pending);
		node->declarations = memcpy(arena_take(&r->index.arena, bytes), r->pending, bytes);
		node->declarations_count = r->pending_count;
	}
	node->start = at;
	node->open_end = node->close_start = node->end = at + expat_count(r->parser);
	locate(node, r->in.p + r->in.start);
	/* the local name ends the written one: where it alone would end, a prefixed one goes on */
	after = r->in.p[r->in.start + at + 1 + node->name.n];
	node->prefixed = !is_space(after) && after != '/' && after != '>';
	return node;
}

static void open_stream(struct reader *r, const char *name, const char **atts, size_t at)
{
	const struct xml_node *node = node_new(r, name, atts, at);

	r->stanza = (struct stanza){.root = node};
	stanza_describe(&r->stanza);
	buf_reset(&r->header);
	buf_append(&r->header, r->in.p + r->in.start + at, node->open_end - at);
	if (node->open_end > HEADER_MAX_BYTES)
		fail(r, too_large, 0);
	else if (!xml_is(node, NS_STREAM, "stream"))
		fail(r, no_stream, 0);
	else
		stop(r, READER_OPEN);
}

/* The root of a stanza has been read. */
static void begin_stanza(struct reader *r, struct xml_node *root)
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

static void open_stanza(
	struct reader *r, const char *name, const char **atts, size_t at, bool too_many)
{
	struct xml_node *root;

	if (at != 0) {
		fail(r, outside, 0);
		return;
	}
	root = node_new(r, name, atts, at);
	begin_stanza(r, root);
	if (root->open_end > r->tag_max_bytes) {
		r->level--;
		fail(r, too_large, r->tag_max_bytes + 1);
	} else if (root->open_end > r->config.max_stanza_bytes) {
		refuse(r, STANZA_TOO_LARGE);
	} else if (too_many) {
		refuse(r, STANZA_TOO_MANY_ATTRIBUTES);
	}
}

/* Whether this tag inside a stanza is really the next stanza, and the one before it was cut off: a
 * new line begins with it, it has an address, id or type, and nobody forwards it (XEP-0297: then it
 * has a namespace of its own). `level` elements are open around it. */
static bool opens_next(
	const struct reader *r, const char *name, const char **atts, size_t at, unsigned level)
{
	struct span in = buf_span(&r->in);

	if (r->config.kind != READER_PIPE || at == 0 || in.p[at - 1] != '\n' ||
		resync_begins_stanza(span_from(in, at)) != RESYNC_YES)
		return false;
	if (r->forwarded_level == level && strncmp(name, forward_ns, sizeof(forward_ns) - 1) != 0)
		return false;
	for (; *atts; atts += 2)
		if (strcmp(atts[0], "to") == 0 || strcmp(atts[0], "from") == 0 ||
			strcmp(atts[0], "id") == 0 || strcmp(atts[0], "type") == 0)
			return true;
	return false;
}

static void open_child(struct reader *r, const char *name, const char **atts, size_t at)
{
	const char *separator = strchr(name, SEPARATOR);

	if (index_wants(&r->index, r->config.index, span_of(separator ? separator + 1 : name)))
		index_open(&r->index, node_new(r, name, atts, at));
}

static void on_open(void *context, const XML_Char *name, const XML_Char **atts)
{
	struct reader *r = context;
	unsigned level = r->level++;

	if (!r->prologue && !r->abort) {
		size_t at = event_offset(r);
		bool too_many =
			(unsigned)XML_GetSpecifiedAttributeCount(r->parser) / 2 + r->declared >
			r->config.max_attributes;

		if (level == 0)
			open_stream(r, name, atts, at);
		else if (level == 1)
			open_stanza(r, name, atts, at, too_many);
		else if (opens_next(r, name, atts, at, level))
			fail(r, truncated, at);
		else if (level - 1 > r->config.max_depth)
			refuse(r, STANZA_TOO_DEEP);
		else if (too_many)
			refuse(r, STANZA_TOO_MANY_ATTRIBUTES);
		else
			open_child(r, name, atts, at);
		/* only in a pipe is it asked where a stanza may begin */
		if (r->config.kind == READER_PIPE && strcmp(name, forwarded_name) == 0)
			r->forwarded_level = r->level;
	}
	r->pending_count = 0;
	r->declared = 0;
}

static void on_close(void *context, const XML_Char *name)
{
	struct reader *r = context;

	(void)name;
	if (r->forwarded_level == r->level)
		r->forwarded_level = 0;
	r->level--;
	if (r->abort)
		return;
	if (r->level == 0) {
		if (r->config.kind == READER_PIPE)
			fail(r, "unexpected end tag", event_offset(r));
		else
			stop(r, READER_CLOSE);
		return;
	}
	/* of an empty-element tag the end comes as an event of no bytes */
	index_close(&r->index, event_offset(r), event_stop(r));
	if (r->level == 1)
		stop(r, READER_STANZA);
}

static void on_cdata(void *context)
{
	struct reader *r = context;

	r->in_cdata = true;
	r->cdata = event_offset(r);
}

static void on_cdata_end(void *context)
{
	struct reader *r = context;

	r->in_cdata = false;
}

static void on_comment(void *context, const XML_Char *text)
{
	struct reader *r = context;

	(void)text;
	fail(r, no_comments, event_stop(r));
}

static void on_instruction(void *context, const XML_Char *target, const XML_Char *text)
{
	struct reader *r = context;

	(void)target;
	(void)text;
	fail(r, no_instructions, event_stop(r));
}

static void on_doctype(void *context, const XML_Char *name, const XML_Char *system_id,
	const XML_Char *public_id, int internal)
{
	(void)name;
	(void)system_id;
	(void)public_id;
	(void)internal;
	fail(context, no_doctype, 0);
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

	XML_ParserReset(r->parser, "UTF-8");
	XML_SetUserData(r->parser, r);
	XML_SetElementHandler(r->parser, on_open, on_close);
	XML_SetNamespaceDeclHandler(r->parser, on_declaration, NULL);
	XML_SetCdataSectionHandler(r->parser, on_cdata, on_cdata_end);
	XML_SetCommentHandler(r->parser, on_comment);
	XML_SetProcessingInstructionHandler(r->parser, on_instruction);
	XML_SetStartDoctypeDeclHandler(r->parser, on_doctype);
	if (XML_SetReparseDeferralEnabled)
		XML_SetReparseDeferralEnabled(r->parser, XML_FALSE);
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

/* Where expat fails for want of memory it says so in some places only. */
static const XML_Memory_Handling_Suite memory = {xmalloc, xrealloc, free};

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
	r->parser = XML_ParserCreate_MM("UTF-8", &memory, (const char[]){SEPARATOR, '\0'});
	if (!r->parser)
		err_die(EXIT_TEMPORARY, "out of memory");
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
	const char *const restricted[] = {no_comments, no_instructions, no_doctype,
		XML_ErrorString(XML_ERROR_UNDEFINED_ENTITY)};

	if (r->error == too_large || r->error == aside_too_large)
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
			return bad(r, truncated, r->cdata, r->fed);
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
		*why = truncated;
		if (answer == RESYNC_YES || (answer == RESYNC_UNSURE && !r->ended))
			return answer == RESYNC_YES ? RESYNC_NO : RESYNC_UNSURE;
	}
	if (rest.n < 2)
		return RESYNC_UNSURE;
	*why = no_instructions;
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
			return p->piece.kind == PIECE_COMMENT ? no_comments : malformed;
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
		return pass_bad(r, truncated, in.n);
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
			begin_stanza(r, node);
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
		why = no_doctype;
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
		bad(r, truncated, 0, in.n);
	return r->mode == MODE_SKIPPING ? BETWEEN_BAD : BETWEEN_DONE;
}

/* Between stanzas: white space needs no place, and nothing but markup may follow it. */
static enum between between(struct reader *r)
{
	for (;;) {
		struct span in = buf_span(&r->in);
		enum between found = BETWEEN_DONE;
		size_t n = 0;

		while (n < in.n && is_space(in.p[n]))
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
				bad(r, outside, 0, 0);
			else if (in.n > 2 && in.p[1] == '!' && in.p[2] != '-')
				bad(r, in.p[2] == '[' ? outside : no_doctype, 0, 0);
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
	return in.n < 2 || ((in.p[0] == '<' || is_space(in.p[0])) && in.p[1] != '\0');
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
		return bad(r, too_large, r->fed, r->fed);
	if (r->level == 1 && r->fed > r->tag_max_bytes)
		return bad(r, too_large, swallowed(r, in), r->fed);
	if (r->level > 1 && r->fed > r->config.max_stanza_bytes)
		return pass_large(r, unfinished(r), r->level - 1);
	if (in.n && boundary)
		return bad(r, truncated, r->fed, r->fed);
	if (in.n && r->ended)
		return bad(r, truncated, swallowed(r, in), in.n);
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
			return bad(r, no_stream, 0, 0);
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
