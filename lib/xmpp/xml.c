#include "base/scan.h"
#include "xmpp/lexer.h"

/* Content ---------------------------------------------------------------- */

size_t xml_longest_tag(struct span in)
{
	size_t longest = 0;
	enum lexer_kind kind;
	struct span piece;

	while (lexer_piece_next(&in, &kind, &piece))
		if (kind >= PIECE_OPEN && piece.n > longest)
			longest = piece.n;
	return longest;
}

bool xml_inject_default(struct buf *out, struct span content, struct span ns)
{
	enum lexer_kind kind;
	struct span piece, scan, name, value, whole;
	size_t depth = 0;
	bool ok = true;

	while (ok && lexer_piece_next(&content, &kind, &piece)) {
		bool bare = depth == 0 && (kind == PIECE_OPEN || kind == PIECE_EMPTY);

		if (bare && lexer_tag_begin(piece, &scan, &name)) {
			size_t head = name.n + 1;

			while (bare && lexer_tag_next(&scan, &name, &value, &whole))
				bare = !span_is(name, "xmlns");
			if (bare) {
				ok = buf_append(out, piece.p, head) &&
				     buf_append_string(out, " xmlns='") &&
				     xml_escape_attribute(out, ns) && buf_append_char(out, '\'') &&
				     xml_one_line_in_tag(out, span_from(piece, head));
			}
		}
		if (!bare)
			ok = xml_one_line(out, piece);
		if (kind == PIECE_OPEN)
			depth++;
		else if (kind == PIECE_CLOSE && depth > 0)
			depth--;
	}
	return ok;
}

/* Tree ------------------------------------------------------------------- */

bool xml_is(const struct xml_node *node, const char *ns, const char *name)
{
	return node && (!*name || span_is(node->name, name)) && (!*ns || span_is(node->ns, ns));
}

const struct xml_node *xml_next(const struct xml_node *node, const char *ns, const char *name)
{
	for (node = node ? node->next : NULL; node; node = node->next)
		if (xml_is(node, ns, name))
			return node;
	return NULL;
}

const struct xml_node *xml_child(const struct xml_node *node, const char *ns, const char *name)
{
	const struct xml_node *child = node ? node->first_child : NULL;

	return !child || xml_is(child, ns, name) ? child : xml_next(child, ns, name);
}

struct span xml_attribute(const struct xml_node *node, const char *name)
{
	for (uint32_t i = 0; node && i < node->attributes_count; i++)
		if (!node->attributes[i].ns.p && span_is(node->attributes[i].name, name))
			return node->attributes[i].value;
	return SPAN_NONE;
}

bool xml_is_stanza_ns(struct span ns)
{
	return !ns.p || span_is(ns, NS_COMPONENT) || span_is(ns, NS_CLIENT);
}

/* Text ------------------------------------------------------------------- */

/* Characters as XML hands them on. */
static bool append_decoded(struct buf *out, struct span s, bool references)
{
	struct span run;
	char room[4];
	bool ok = true;

	while (ok && lexer_decode(&s, references ? LEXER_TEXT : LEXER_CDATA, room, &run))
		ok = buf_append_span(out, run);
	return ok;
}

bool xml_text(const char *text, size_t from, size_t to, struct buf *out)
{
	struct span rest = {text + from, to - from}, piece;
	enum lexer_kind kind;
	size_t depth = 0;
	bool ok = true;

	while (ok && lexer_piece_next(&rest, &kind, &piece)) {
		if (kind == PIECE_OPEN)
			depth++;
		else if (kind == PIECE_CLOSE && depth > 0)
			depth--;
		else if (kind == PIECE_TEXT && depth == 0)
			ok = append_decoded(out, piece, true);
		else if (kind == PIECE_CDATA && depth == 0)
			ok = append_decoded(out, (struct span){piece.p + 9, piece.n - 12}, false);
	}
	return ok;
}

bool xml_node_text(const char *text, const struct xml_node *node, struct buf *out)
{
	return xml_text(text, node->open_end, node->close_start, out);
}

/* Escaping --------------------------------------------------------------- */

enum { IN_TEXT = 1, IN_ATTRIBUTE = 2 };

/* Where a character cannot stand as itself. A table: most bytes written go past it. */
static const unsigned char special[256] = {
	['&'] = IN_TEXT | IN_ATTRIBUTE,
	['<'] = IN_TEXT | IN_ATTRIBUTE,
	['>'] = IN_TEXT | IN_ATTRIBUTE,
	['\n'] = IN_TEXT | IN_ATTRIBUTE,
	['\r'] = IN_TEXT | IN_ATTRIBUTE,
	['\''] = IN_ATTRIBUTE,
	['\t'] = IN_ATTRIBUTE,
};

static inline bool is_special(const char *p, unsigned where)
{
	return special[(unsigned char)*p] & where;
}

/* The first byte from p on that cannot stand as itself; or end. */
static inline const char *find_special(const char *p, const char *end, unsigned where)
{
	const char *start = p, *rest;

	while (scan_stride(&p, end, '&', '<', '>', '\'')) {
		if (is_special(p, where))
			return p;
		/* on past what is only beyond ASCII */
		do
			p++;
		while (p < end && (signed char)*p < 0x20 && !is_special(p, where));
	}
	/* a last stride, which takes up bytes before it once more, goes past the rest */
	rest = p;
	if (p < end && end - p < 16 && end - start >= 16) {
		p = end - 16;
		scan_stride(&p, end, '&', '<', '>', '\'');
	}
	for (p = p > rest ? p : rest; p < end && !is_special(p, where); p++)
		;
	return p;
}

static const char *escaped(char c)
{
	switch (c) {
	case '&':
		return "&amp;";
	case '<':
		return "&lt;";
	case '>':
		return "&gt;";
	case '\n':
		return "&#10;";
	case '\r':
		return "&#13;";
	case '\'':
		return "&apos;";
	default:
		return "&#9;";
	}
}

static bool escape(struct buf *out, struct span s, unsigned where)
{
	const char *run = s.p, *end = s.n ? s.p + s.n : s.p, *p;

	while ((p = find_special(run, end, where)) < end) {
		if (!buf_append(out, run, (size_t)(p - run)) ||
			!buf_append_string(out, escaped(*p)))
			return false;
		run = p + 1;
	}
	return run == end || buf_append(out, run, (size_t)(end - run));
}

bool xml_escape_text(struct buf *out, struct span s)
{
	return escape(out, s, IN_TEXT);
}

bool xml_escape_attribute(struct buf *out, struct span s)
{
	return escape(out, s, IN_ATTRIBUTE);
}

/* One line --------------------------------------------------------------- */

/* Copy with every line end replaced. */
static bool fold(struct buf *out, struct span in, const char *with)
{
	const char *p = in.p, *end = in.p + in.n;

	while (p < end) {
		size_t n = 0;

		while (p + n < end && p[n] != '\n' && p[n] != '\r')
			n++;
		if (!buf_append(out, p, n))
			return false;
		p += n;
		if (p == end)
			break;
		p += p[0] == '\r' && p + 1 < end && p[1] == '\n' ? 2 : 1;
		if (!buf_append_string(out, with))
			return false;
	}
	return true;
}

bool xml_is_one_line(struct span in)
{
	return in.n == 0 || (!memchr(in.p, '\n', in.n) && !memchr(in.p, '\r', in.n));
}

bool xml_one_line(struct buf *out, struct span in)
{
	enum lexer_kind kind;
	struct span piece;

	if (xml_is_one_line(in))
		return buf_append_span(out, in);
	while (lexer_piece_next(&in, &kind, &piece))
		if (!fold(out, piece,
			    kind == PIECE_TEXT	  ? "&#10;"
			    : kind == PIECE_CDATA ? "]]>&#10;<![CDATA["
						  : " "))
			return false;
	return true;
}

bool xml_one_line_in_tag(struct buf *out, struct span in)
{
	return xml_is_one_line(in) ? buf_append_span(out, in) : fold(out, in, " ");
}
