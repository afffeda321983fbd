#include "xmpp/xml.h"

#include <stdio.h>

/* Tags ------------------------------------------------------------------- */

/* What stands in well-formed content: one piece at a time. Comments and processing instructions
 * never get here, the reader refuses them. */
enum piece_kind { PIECE_TEXT, PIECE_CDATA, PIECE_OPEN, PIECE_CLOSE, PIECE_EMPTY };

struct piece {
	enum piece_kind kind;
	struct span text; /* the whole piece; a section with its brackets */
};

static const char *tag_end(const char *p, const char *end)
{
	char quote = 0;

	for (; p < end; p++) {
		if (quote) {
			p = memchr(p, quote, (size_t)(end - p));
			if (!p)
				return end;
			quote = 0;
		} else if (*p == '\'' || *p == '"') {
			quote = *p;
		} else if (*p == '>') {
			return p + 1;
		}
	}
	return end;
}

/* Take the next piece off *rest; false at its end. */
static bool piece_next(struct span *rest, struct piece *out)
{
	static const char open[] = "<![CDATA[";
	const char *p = rest->p, *end = rest->p + rest->n, *stop;

	if (rest->n == 0)
		return false;
	if (*p != '<') {
		stop = memchr(p, '<', rest->n);
		if (!stop)
			stop = end;
		out->kind = PIECE_TEXT;
	} else if (rest->n >= sizeof(open) - 1 && memcmp(p, open, sizeof(open) - 1) == 0) {
		stop = memmem(p, rest->n, "]]>", 3);
		stop = stop ? stop + 3 : end;
		out->kind = PIECE_CDATA;
	} else {
		stop = tag_end(p + 1, end);
		if (rest->n > 1 && p[1] == '/')
			out->kind = PIECE_CLOSE;
		else if (stop - p > 2 && stop[-2] == '/')
			out->kind = PIECE_EMPTY;
		else
			out->kind = PIECE_OPEN;
	}
	out->text = (struct span){p, (size_t)(stop - p)};
	*rest = (struct span){stop, (size_t)(end - stop)};
	return true;
}

size_t xml_longest_tag(struct span in)
{
	size_t longest = 0;
	struct piece piece;

	while (piece_next(&in, &piece))
		if (piece.kind >= PIECE_OPEN && piece.text.n > longest)
			longest = piece.text.n;
	return longest;
}

enum { IS_SPACE = 1, ENDS_NAME = 2 };

/* A table: every byte of every start tag that is copied is looked up here. */
static const unsigned char in_tag[256] = {
	[' '] = IS_SPACE | ENDS_NAME,
	['\t'] = IS_SPACE | ENDS_NAME,
	['\n'] = IS_SPACE | ENDS_NAME,
	['\r'] = IS_SPACE | ENDS_NAME,
	['='] = ENDS_NAME,
	['/'] = ENDS_NAME,
	['>'] = ENDS_NAME,
};

static const char *skip_space(const char *p, const char *end)
{
	while (p < end && in_tag[(unsigned char)*p] & IS_SPACE)
		p++;
	return p;
}

static const char *skip_name(const char *p, const char *end)
{
	while (p < end && !(in_tag[(unsigned char)*p] & ENDS_NAME))
		p++;
	return p;
}

bool xml_tag_begin(struct span tag, struct xml_tag *scan, struct span *name)
{
	const char *p, *end = tag.p + tag.n;

	if (tag.n < 3)
		return false;
	p = skip_name(tag.p + 1, end);
	*name = (struct span){tag.p + 1, (size_t)(p - tag.p - 1)};
	*scan = (struct xml_tag){p, end};
	return true;
}

bool xml_tag_next(struct xml_tag *scan, struct span *name, struct span *value, struct span *whole)
{
	const char *p = skip_space(scan->p, scan->end), *start = p, *stop;

	if (p >= scan->end || *p == '>' || *p == '/')
		return false;
	p = skip_name(p, scan->end);
	*name = (struct span){start, (size_t)(p - start)};
	p = skip_space(p, scan->end);
	if (p < scan->end)
		p++; /* = */
	p = skip_space(p, scan->end);
	if (p >= scan->end)
		return false;
	stop = memchr(p + 1, *p, (size_t)(scan->end - p - 1));
	if (!stop)
		return false;
	*value = (struct span){p + 1, (size_t)(stop - p - 1)};
	*whole = (struct span){start, (size_t)(stop + 1 - start)};
	scan->p = stop + 1;
	return true;
}

bool xml_inject_default(struct buf *out, struct span content, struct span ns)
{
	struct piece piece;
	struct xml_tag scan;
	struct span name, value, whole;
	size_t depth = 0;
	bool ok = true;

	while (ok && piece_next(&content, &piece)) {
		bool bare = depth == 0 && (piece.kind == PIECE_OPEN || piece.kind == PIECE_EMPTY);

		if (bare && xml_tag_begin(piece.text, &scan, &name)) {
			size_t head = name.n + 1;

			while (bare && xml_tag_next(&scan, &name, &value, &whole))
				bare = !span_is(name, "xmlns");
			if (bare) {
				ok = buf_append(out, piece.text.p, head) &&
				     buf_append_string(out, " xmlns='") &&
				     xml_escape_attribute(out, ns) && buf_append_char(out, '\'') &&
				     xml_one_line_in_tag(out, span_from(piece.text, head));
			}
		}
		if (!bare)
			ok = xml_one_line(out, piece.text);
		if (piece.kind == PIECE_OPEN)
			depth++;
		else if (piece.kind == PIECE_CLOSE && depth > 0)
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

/* Append the UTF-8 of one code point. */
static bool append_code_point(struct buf *out, unsigned long c)
{
	char b[4];
	size_t n;

	if (c < 0x80) {
		b[0] = (char)c;
		n = 1;
	} else if (c < 0x800) {
		b[0] = (char)(0xc0 | c >> 6);
		b[1] = (char)(0x80 | (c & 0x3f));
		n = 2;
	} else if (c < 0x10000) {
		b[0] = (char)(0xe0 | c >> 12);
		b[1] = (char)(0x80 | (c >> 6 & 0x3f));
		b[2] = (char)(0x80 | (c & 0x3f));
		n = 3;
	} else {
		b[0] = (char)(0xf0 | (c >> 18 & 0x07));
		b[1] = (char)(0x80 | (c >> 12 & 0x3f));
		b[2] = (char)(0x80 | (c >> 6 & 0x3f));
		b[3] = (char)(0x80 | (c & 0x3f));
		n = 4;
	}
	return buf_append(out, b, n);
}

/* ref is what stands between '&' and ';' and is known to be defined. */
static bool append_reference(struct buf *out, struct span ref)
{
	static const struct {
		const char *name;
		char c;
	} predefined[] = {{"amp", '&'}, {"lt", '<'}, {"gt", '>'}, {"apos", '\''}, {"quot", '"'}};
	unsigned long c = 0;

	for (size_t i = 0; i < sizeof(predefined) / sizeof(predefined[0]); i++)
		if (span_is(ref, predefined[i].name))
			return buf_append_char(out, predefined[i].c);
	if (ref.n < 2 || ref.p[0] != '#')
		return true;
	if (ref.p[1] == 'x') {
		for (size_t i = 2; i < ref.n && c < 0x110000; i++) {
			unsigned digit = (unsigned char)ref.p[i];

			digit = digit <= '9' ? digit - '0' : (digit | 0x20) - 'a' + 10;
			c = c * 16 + digit;
		}
	} else {
		for (size_t i = 1; i < ref.n && c < 0x110000; i++)
			c = c * 10 + (unsigned long)(ref.p[i] - '0');
	}
	return append_code_point(out, c);
}

/* Characters as XML hands them on: CR LF and CR become LF. */
static bool append_lines(struct buf *out, struct span s)
{
	const char *p = s.p, *end = s.p + s.n;

	while (p < end) {
		const char *cr = memchr(p, '\r', (size_t)(end - p));
		size_t n = (size_t)((cr ? cr : end) - p);

		if (!buf_append(out, p, n))
			return false;
		p += n;
		if (cr) {
			if (!buf_append_char(out, '\n'))
				return false;
			p++;
			if (p < end && *p == '\n')
				p++;
		}
	}
	return true;
}

static bool append_text(struct buf *out, struct span s)
{
	const char *p = s.p, *end = s.p + s.n;

	while (p < end) {
		const char *amp = memchr(p, '&', (size_t)(end - p)), *semicolon;
		size_t n = (size_t)((amp ? amp : end) - p);

		if (!append_lines(out, (struct span){p, n}))
			return false;
		p += n;
		if (!amp)
			break;
		semicolon = memchr(p, ';', (size_t)(end - p));
		if (!semicolon)
			break;
		if (!append_reference(out, (struct span){p + 1, (size_t)(semicolon - p - 1)}))
			return false;
		p = semicolon + 1;
	}
	return true;
}

bool xml_text(const char *text, size_t from, size_t to, struct buf *out)
{
	struct span rest = {text + from, to - from};
	struct piece piece;
	size_t depth = 0;
	bool ok = true;

	while (ok && piece_next(&rest, &piece)) {
		if (piece.kind == PIECE_OPEN)
			depth++;
		else if (piece.kind == PIECE_CLOSE && depth > 0)
			depth--;
		else if (piece.kind == PIECE_TEXT && depth == 0)
			ok = append_text(out, piece.text);
		else if (piece.kind == PIECE_CDATA && depth == 0)
			ok = append_lines(out, (struct span){piece.text.p + 9, piece.text.n - 12});
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

static unsigned special_in_8(const unsigned char *p)
{
	return (unsigned)(special[p[0]] | special[p[1]] | special[p[2]] | special[p[3]] |
			  special[p[4]] | special[p[5]] | special[p[6]] | special[p[7]]);
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
	const char *p = s.p, *end = s.n ? p + s.n : p, *run = p;

	for (; p < end; p++) {
		/* addresses, mostly: nothing in them is special */
		while (end - p >= 8 && !(special_in_8((const unsigned char *)p) & where))
			p += 8;
		if (p == end)
			break;
		if (!(special[(unsigned char)*p] & where))
			continue;
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
	struct piece piece;

	if (xml_is_one_line(in))
		return buf_append_span(out, in);
	while (piece_next(&in, &piece))
		if (!fold(out, piece.text,
			    piece.kind == PIECE_TEXT	? "&#10;"
			    : piece.kind == PIECE_CDATA ? "]]>&#10;<![CDATA["
							: " "))
			return false;
	return true;
}

bool xml_one_line_in_tag(struct buf *out, struct span in)
{
	return xml_is_one_line(in) ? buf_append_span(out, in) : fold(out, in, " ");
}
