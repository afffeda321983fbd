#include "xmpp/reader-own.h"

#include <stdlib.h>

#include "base/err.h"
#include "xmpp/expat-position.h"

/* With reparse deferral (there by symbol, not by version: distributions backport it) a stanza whose
 * last tag comes in pieces is not reported until more bytes arrive. */
extern XML_Bool XML_SetReparseDeferralEnabled(XML_Parser parser, XML_Bool enabled)
	__attribute__((weak));

/* Where expat fails for want of memory it says so in some places only. */
static const XML_Memory_Handling_Suite memory = {xmalloc, xrealloc, free};

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

/* Copy *s and its NUL to `text` and point *s there. Returns the place behind it. */
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
	fail(r, reader_too_large, event_stop(r));
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
	node->prefixed = !xml_is_space(after) && after != '/' && after != '>';
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
		fail(r, reader_too_large, 0);
	else if (!xml_is(node, NS_STREAM, "stream"))
		fail(r, reader_no_stream, 0);
	else
		stop(r, READER_OPEN);
}

static void open_stanza(
	struct reader *r, const char *name, const char **atts, size_t at, bool too_many)
{
	struct xml_node *root;

	if (at != 0) {
		fail(r, reader_outside, 0);
		return;
	}
	root = node_new(r, name, atts, at);
	reader_begin_stanza(r, root);
	if (root->open_end > r->tag_max_bytes) {
		r->level--;
		fail(r, reader_too_large, r->tag_max_bytes + 1);
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
			fail(r, reader_truncated, at);
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
	fail(r, reader_no_comments, event_stop(r));
}

static void on_instruction(void *context, const XML_Char *target, const XML_Char *text)
{
	struct reader *r = context;

	(void)target;
	(void)text;
	fail(r, reader_no_instructions, event_stop(r));
}

static void on_doctype(void *context, const XML_Char *name, const XML_Char *system_id,
	const XML_Char *public_id, int internal)
{
	(void)name;
	(void)system_id;
	(void)public_id;
	(void)internal;
	fail(context, reader_no_doctype, 0);
}

XML_Parser reader_expat_new(void)
{
	XML_Parser parser = XML_ParserCreate_MM("UTF-8", &memory, (const char[]){SEPARATOR, '\0'});

	if (!parser)
		err_die(EXIT_TEMPORARY, "out of memory");
	return parser;
}

void reader_expat_begin(struct reader *r)
{
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
}
