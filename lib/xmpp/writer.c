#include "xmpp/writer.h"

#include "xmpp/lexer.h"

/* The server's parser puts off looking at a tag of more than about this size that reached it in
 * pieces, until about as many bytes have followed it. */
#define LONG_TAG_BYTES 1024
/* Prefixes declared on one element that are looked for before they are declared again. */
#define LOOKED_FOR 16
/* Declarations around a stanza that its content is read with when it is moved. */
#define AROUND 64

void writer_init(struct writer *w, struct buf *out, enum writer_kind kind, size_t max_stanza_bytes)
{
	*w = (struct writer){.out = out, .kind = kind, .max_stanza_bytes = max_stanza_bytes};
}

static void note(struct writer *w, bool fits)
{
	if (!fits)
		w->failed = true;
}

/* Pieces ----------------------------------------------------------------- */

void writer_begin(struct writer *w)
{
	w->mark = buf_length(w->out);
	w->failed = false;
}

void writer_start(struct writer *w, const char *kind, const char *type, struct span id,
	struct span to, struct span from)
{
	writer_begin(w);
	note(w, buf_append_char(w->out, '<'));
	writer_raw(w, kind);
	writer_attribute(w, "type", span_of(type));
	writer_attribute(w, "id", id);
	writer_attribute(w, "to", to);
	writer_attribute(w, "from", from);
}

void writer_abort(struct writer *w)
{
	buf_truncate(w->out, w->mark);
}

void writer_take_back(struct writer *w)
{
	w->bytes -= buf_length(w->out) - w->mark;
	writer_abort(w);
	w->stanzas--;
}

void writer_take_back_to(struct writer *w, size_t length)
{
	w->mark = length;
	writer_take_back(w);
}

static void pad(struct writer *w, size_t n)
{
	char *p = n ? buf_reserve(w->out, n) : NULL;

	if (p) {
		memset(p, ' ', n);
		buf_commit(w->out, n);
	} else if (n) {
		w->failed = true;
	}
}

enum writer_status writer_end(struct writer *w)
{
	size_t n = buf_length(w->out) - w->mark;
	bool too_large = w->max_stanza_bytes && n > w->max_stanza_bytes;

	if (w->kind == WRITER_PIPE) {
		note(w, buf_append_char(w->out, '\n'));
	} else if (n > LONG_TAG_BYTES && !too_large && !w->failed) {
		size_t tag = xml_longest_tag(span_from(buf_span(w->out), w->mark));

		if (tag > LONG_TAG_BYTES)
			pad(w, tag);
	}
	if (!too_large && !w->failed) {
		w->stanzas++;
		w->bytes += buf_length(w->out) - w->mark;
		return WRITER_OK;
	}
	writer_abort(w);
	/* what does not fit into an empty buf never will */
	if (!too_large && w->mark > 0)
		return WRITER_FULL;
	w->too_large++;
	return WRITER_TOO_LARGE;
}

void writer_raw(struct writer *w, const char *xml)
{
	note(w, buf_append_string(w->out, xml));
}

void writer_raw_span(struct writer *w, struct span xml)
{
	note(w, xml_one_line(w->out, xml));
}

void writer_text(struct writer *w, struct span text)
{
	note(w, xml_escape_text(w->out, text));
}

void writer_attribute(struct writer *w, const char *name, struct span value)
{
	if (!value.p)
		return;
	note(w, buf_append_char(w->out, ' '));
	note(w, buf_append_string(w->out, name));
	note(w, buf_append(w->out, "='", 2));
	note(w, xml_escape_attribute(w->out, value));
	note(w, buf_append_char(w->out, '\''));
}

/* Namespaces ------------------------------------------------------------- */

static bool declares(const struct xml_node *node, struct span prefix)
{
	for (uint32_t i = 0; i < node->declarations_count; i++)
		if (span_equal(node->declarations[i].prefix, prefix))
			return true;
	return false;
}

static bool in_a_name(char c)
{
	return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') ||
	       c == '-' || c == '_' || c == '.' || (unsigned char)c >= 0x80;
}

/* Whether "prefix:" occurs anywhere in the bytes of node, be it in a value: a declaration too many
 * does no harm. */
static bool mentions(const struct stanza *s, const struct xml_node *node, struct span prefix)
{
	const char *start = s->text + node->start, *end = s->text + node->end;

	for (const char *p = start; (p = memchr(p, ':', (size_t)(end - p))); p++)
		if ((size_t)(p - start) > prefix.n && !in_a_name(p[-1 - (ptrdiff_t)prefix.n]) &&
			memcmp(p - prefix.n, prefix.p, prefix.n) == 0)
			return true;
	return false;
}

static void declare(struct writer *w, struct span prefix, struct span uri)
{
	note(w, buf_append(w->out, " xmlns:", 7));
	note(w, buf_append_span(w->out, prefix));
	note(w, buf_append(w->out, "='", 2));
	note(w, xml_escape_attribute(w->out, uri));
	note(w, buf_append_char(w->out, '\''));
}

/* The prefixes that node uses and that are declared around it. An inner declaration hides an outer
 * one of the same prefix. Of many, all are declared: to look for each would take its time. */
static void declare_inherited(struct writer *w, const struct stanza *s, const struct xml_node *node)
{
	const struct xml_node *at = node;

	for (;;) {
		const struct xml_declaration *list;
		size_t count;

		at = at->parent;
		list = at ? at->declarations : s->outer;
		count = at ? at->declarations_count : s->outer_count;
		for (size_t i = 0; i < count; i++) {
			bool hidden = list[i].prefix.n == 0;

			for (const struct xml_node *n = node; n != at && n && !hidden;
				n = n->parent)
				hidden = declares(n, list[i].prefix);
			if (!hidden && (count > LOOKED_FOR || mentions(s, node, list[i].prefix)))
				declare(w, list[i].prefix, list[i].uri);
		}
		if (!at)
			return;
	}
}

/* The default namespace in force inside node (NULL: inside the stream). SPAN_NONE: nobody declared
 * one, "": it is none. */
static struct span default_namespace(const struct stanza *s, const struct xml_node *node)
{
	for (; node; node = node->parent)
		for (uint32_t i = 0; i < node->declarations_count; i++)
			if (node->declarations[i].prefix.n == 0)
				return node->declarations[i].uri;
	for (size_t i = 0; i < s->outer_count; i++)
		if (s->outer[i].prefix.n == 0)
			return s->outer[i].uri;
	return SPAN_NONE;
}

/* Whether content keeps its meaning in the default namespace that every stanza stands in. */
static bool is_ordinary(struct span ns)
{
	return !ns.p || (ns.n && xml_is_stanza_ns(ns));
}

/* Declare the default namespace that node's siblings stand in. */
static void declare_default(struct writer *w, const struct stanza *s, const struct xml_node *node)
{
	struct span ns = default_namespace(s, node->parent);

	if (!is_ordinary(ns) && !declares(node, SPAN("")))
		writer_attribute(w, "xmlns", ns);
}

/* Copying ---------------------------------------------------------------- */

static const struct span slot_begins[STANZA_SLOTS] = {
	{" to='", 5}, {" from='", 7}, {" id='", 5}, {" type='", 7}};

static void write_slot(struct writer *w, int slot, struct span value)
{
	note(w, buf_append_span(w->out, slot_begins[slot]));
	note(w, xml_escape_attribute(w->out, value));
	note(w, buf_append_char(w->out, '\''));
}

/* `flat`: there are no line ends anywhere in what is being copied. */
static void copy_in_tag(struct writer *w, bool flat, const char *from, const char *to)
{
	struct span part = {from, (size_t)(to - from)};

	note(w, flat ? buf_append_span(w->out, part) : xml_one_line_in_tag(w->out, part));
}

/* Copy up to what stands from start to end, which is left out with the white space before it. */
static void copy_without(
	struct writer *w, const char *text, bool flat, size_t *at, size_t start, size_t end)
{
	while (start > *at && xml_is_space(text[start - 1]))
		start--;
	copy_in_tag(w, flat, text + *at, text + start);
	*at = end;
}

/* The attributes of a start tag, edited; without xmlns if it is not to be kept. What is not edited
 * is copied in one run with the white space between, and with what stands before it from `at` on.
 * `last`: where the tag's name ends. */
static void copy_attributes(struct writer *w, const struct stanza *s, size_t at, size_t last,
	bool flat, const struct stanza_edit *edit, bool keep_xmlns)
{
	struct span edits[STANZA_SLOTS] = {edit->to, edit->from, edit->id, edit->type};
	const struct xml_node *root = s->root;
	const struct xml_declaration *xmlns = NULL;

	for (uint32_t i = 0; i < root->declarations_count; i++) {
		if (root->declarations[i].prefix.n == 0 && !keep_xmlns)
			xmlns = &root->declarations[i];
		last = root->declarations[i].end;
	}
	for (uint32_t i = 0; i < root->attributes_count; i++) {
		const struct xml_attribute *a = &root->attributes[i];
		int slot = a->ns.p ? -1 : stanza_slot_of(a->name);

		last = last > a->end ? last : a->end;
		if (slot < 0 || !edits[slot].p)
			continue;
		if (xmlns && xmlns->start < a->start) {
			copy_without(w, s->text, flat, &at, xmlns->start, xmlns->end);
			xmlns = NULL;
		}
		copy_without(w, s->text, flat, &at, a->start, a->end);
		if (edits[slot].n)
			write_slot(w, slot, edits[slot]);
		edits[slot] = SPAN_NONE;
	}
	if (xmlns)
		copy_without(w, s->text, flat, &at, xmlns->start, xmlns->end);
	copy_in_tag(w, flat, s->text + at, s->text + last);
	for (int slot = 0; slot < STANZA_SLOTS; slot++)
		if (edits[slot].n)
			write_slot(w, slot, edits[slot]);
}

/* Moving ----------------------------------------------------------------- */

/* A root that leaves the namespace it was written in takes along its children in that namespace,
 * and theirs, down to the first element of another one. What stands below such an element keeps its
 * meaning.
 */
struct move {
	struct writer *w;
	struct lexer lexer;
	struct span in;	 /* the whole element */
	struct span own; /* the namespace that is left */
	const char *to;	 /* the default namespace at the destination; NULL: that of its stanzas */
	size_t copied;	 /* of in */
	unsigned inside; /* open elements that move, the root included */
};

/* Copy what stands before the tag just read. */
static void move_up_to(struct move *m, size_t end)
{
	note(m->w, xml_one_line(m->w->out, (struct span){m->in.p + m->copied, end - m->copied}));
	m->copied = m->lexer.at;
}

/* A tag of an element that moves: without prefix, without xmlns. */
static void move_tag(struct move *m)
{
	const struct lexer *l = &m->lexer;
	size_t at = (size_t)(l->name.p + l->name.n - m->in.p);

	note(m->w, buf_append_char(m->w->out, '<'));
	note(m->w, buf_append_span(m->w->out, l->name));
	for (unsigned i = 0; i < l->count; i++) {
		const struct xml_attribute *a = &l->attributes[i];

		if (lexer_declares(l, i) && a->name.n == 0)
			copy_without(m->w, m->in.p, false, &at, a->start, a->end);
	}
	copy_in_tag(m->w, false, m->in.p + at, m->in.p + l->at);
}

static void move_end_tag(struct move *m)
{
	const char *end = m->in.p + m->lexer.at, *name = m->in.p + m->lexer.start + 2;
	const char *colon = memchr(name, ':', (size_t)(end - name));

	note(m->w, buf_append(m->w->out, "</", 2));
	copy_in_tag(m->w, false, colon ? colon + 1 : name, end);
}

/* Whether the default namespace matters to what begins at `from`, a tag with a prefix. */
static bool needs_default(struct span rest)
{
	struct span piece, scan, name;
	enum lexer_kind kind;
	size_t depth = 0;

	while (lexer_piece_next(&rest, &kind, &piece)) {
		if (kind == PIECE_OPEN || kind == PIECE_EMPTY)
			if (lexer_tag_begin(piece, &scan, &name) && !memchr(name.p, ':', name.n))
				return true;
		depth += kind == PIECE_OPEN;
		depth -= kind == PIECE_CLOSE;
		if (depth == 0)
			break;
	}
	return false;
}

/* The tag of the first element of another namespace: it stays as it is, and declares the default
 * namespace that it loses with those around it. */
static void stop_moving(struct move *m)
{
	const struct lexer *l = &m->lexer;
	struct span ns = lexer_default(l, m->in), tag = {m->in.p + l->start, l->at - l->start};
	struct span scan = tag, name;
	bool lost = ns.p && !span_is(ns, m->to ? m->to : NS_COMPONENT);

	for (unsigned i = 0; i < l->count; i++)
		lost = lost && !(lexer_declares(l, i) && l->attributes[i].name.n == 0);
	if (lost && l->prefixed)
		lost = needs_default(span_from(m->in, l->start));
	lexer_tag_begin(tag, &scan, &name);
	copy_in_tag(m->w, false, tag.p, scan.p);
	if (lost)
		writer_attribute(m->w, "xmlns", ns);
	copy_in_tag(m->w, false, scan.p, tag.p + tag.n);
}

/* A tag with nothing around it but elements that move. */
static void move_element(struct move *m, enum lexer_token token)
{
	move_up_to(m, m->lexer.start);
	if (token == LEXER_CLOSE) {
		if (--m->inside > 0)
			move_end_tag(m);
	} else if (span_equal(m->lexer.ns, m->own)) {
		move_tag(m);
		m->inside += token == LEXER_OPEN;
	} else {
		stop_moving(m);
	}
}

/* What is declared around a node, the innermost first. How many, at most AROUND + 1. */
static size_t declared_around(const struct stanza *s, const struct xml_node *node,
	struct xml_declaration list[AROUND + 1])
{
	size_t count = 0;

	do {
		node = node->parent;
		for (size_t i = 0; i < (node ? node->declarations_count : s->outer_count); i++)
			if (count <= AROUND)
				list[count++] = node ? node->declarations[i] : s->outer[i];
	} while (node);
	return count;
}

/* Copy the content of root, which moves. False: it is too unusual, nothing was written. */
static bool move_content(struct writer *w, const struct stanza *s, const char *to)
{
	const struct xml_node *root = s->root;
	struct xml_declaration around[AROUND + 1];
	size_t count = declared_around(s, root, around), before = buf_length(w->out);
	struct move m = {.w = w, .to = to, .inside = 1, .own = root->ns};
	struct lexer *l = &m.lexer;
	enum lexer_token token;

	m.in = (struct span){s->text + root->start, root->end - root->start};
	lexer_begin(l, around, count);
	token = count > AROUND ? LEXER_DOUBT : lexer_next(l, m.in);
	m.copied = l->at;
	while (token > LEXER_DOUBT && l->depth > 0) {
		token = lexer_next(l, m.in);
		if (token == LEXER_CLOSE ? l->depth < m.inside
					 : token > LEXER_DOUBT &&
						   l->depth - (token == LEXER_OPEN) == m.inside)
			move_element(&m, token);
	}
	if (token <= LEXER_DOUBT)
		buf_truncate(w->out, before);
	return token > LEXER_DOUBT;
}

/* Whether the content of a root that moves stays as it is: each child declares the default
 * namespace it stands in, which is another one. */
static bool content_stays(const struct xml_node *root)
{
	uint32_t count = 0;

	for (const struct xml_node *n = root->first_child; n; n = n->next, count++)
		if (span_equal(n->ns, root->ns) || !declares(n, SPAN("")))
			return false;
	return count == root->children_count;
}

/* Whether content leaves the namespace it is written in together with its root. */
static bool content_moves(const struct xml_node *root)
{
	return xml_is_stanza_ns(root->ns) && (root->prefixed || span_is(root->ns, NS_CLIENT)) &&
	       !content_stays(root);
}

/* Copy the content of a root that is written in the destination's namespace. */
static void copy_content(struct writer *w, const struct stanza *s, bool flat, const char *ns)
{
	const struct xml_node *root = s->root;
	struct span content = {s->text + root->open_end, root->close_start - root->open_end};
	struct span inherited = SPAN_NONE;
	bool moves = content_moves(root);

	if (moves && move_content(w, s, ns))
		return;
	/* a root written with a prefix may have another default namespace for its content */
	if (moves && root->prefixed)
		inherited = default_namespace(s, root);
	if (!is_ordinary(inherited))
		note(w, xml_inject_default(w->out, content, inherited));
	else
		note(w, flat ? buf_append_span(w->out, content) : xml_one_line(w->out, content));
}

/* The end of the root's start tag, its content and its end tag. same_name: the root is written with
 * that name, too. */
static void copy_rest(struct writer *w, const struct stanza *s, struct span name, bool same_name,
	bool flat, const char *ns)
{
	const struct xml_node *root = s->root;
	size_t from = root->open_end - 1;
	bool no_space = root->end - root->close_start == name.n + sizeof("</>") - 1;

	if (root->open_end == root->close_start) {
		note(w, buf_append(w->out, "/>", 2));
	} else if (same_name && flat && no_space && !content_moves(root)) {
		note(w, buf_append(w->out, s->text + from, root->end - from));
	} else {
		note(w, buf_append_char(w->out, '>'));
		copy_content(w, s, flat, ns);
		note(w, buf_append(w->out, "</", 2));
		note(w, buf_append_span(w->out, name));
		note(w, buf_append_char(w->out, '>'));
	}
}

void writer_copy(
	struct writer *w, const struct stanza *s, const struct stanza_edit *edit, const char *ns)
{
	const struct xml_node *root = s->root;
	struct span tag = {s->text + root->start, root->open_end - root->start};
	struct span scan, name;
	/* what is no stanza at all stays what it is */
	bool foreign = !xml_is_stanza_ns(root->ns);
	bool flat = s->flat || xml_is_one_line((struct span){tag.p, root->end - root->start});
	bool same_name = foreign || !root->prefixed;
	size_t at = root->start, name_end;

	if (!lexer_tag_begin(tag, &scan, &name)) {
		w->failed = true;
		return;
	}
	if (!foreign)
		name = root->name;
	name_end = (size_t)(scan.p - s->text);
	if (!same_name || ns) {
		at = name_end;
		note(w, buf_append_char(w->out, '<'));
		note(w, buf_append_span(w->out, name));
		if (!foreign && ns)
			writer_attribute(w, "xmlns", span_of(ns));
	}
	copy_attributes(w, s, at, name_end, flat, edit, foreign);
	if (foreign)
		declare_default(w, s, root);
	declare_inherited(w, s, root);
	copy_rest(w, s, name, same_name, flat, ns);
}

enum writer_status writer_stanza(
	struct writer *w, const struct stanza *s, const struct stanza_edit *edit)
{
	writer_begin(w);
	writer_copy(w, s, edit, NULL);
	return writer_end(w);
}

void writer_node(struct writer *w, const struct stanza *s, const struct xml_node *node)
{
	struct span tag = {s->text + node->start, node->open_end - node->start};
	struct span rest = {s->text + node->open_end, node->end - node->open_end};
	struct span scan, name;
	bool flat = s->flat || xml_is_one_line((struct span){tag.p, node->end - node->start});

	if (!lexer_tag_begin(tag, &scan, &name)) {
		w->failed = true;
		return;
	}
	note(w, buf_append(w->out, tag.p, name.n + 1));
	declare_default(w, s, node);
	declare_inherited(w, s, node);
	if (rest.n == 0 && tag.p[tag.n - 2] != '/') { /* all that is left of a stanza refused */
		copy_in_tag(w, flat, tag.p + name.n + 1, tag.p + tag.n - 1);
		note(w, buf_append(w->out, "/>", 2));
		return;
	}
	copy_in_tag(w, flat, tag.p + name.n + 1, tag.p + tag.n);
	note(w, flat ? buf_append_span(w->out, rest) : xml_one_line(w->out, rest));
}
