#include "xmpp/lexer.h"

#include "base/scan.h"
#include "base/utf8.h"

/* Longest reference looked at: &#x0010FFFF; */
#define REFERENCE_BYTES 12

enum { NAME_START = 1, NAME = 2, SPACE = 4, ENDS_NAME = 8 };

#define LETTER (NAME_START | NAME)
static const unsigned char class[256] = {
	[' '] = SPACE | ENDS_NAME,
	['\t'] = SPACE | ENDS_NAME,
	['\n'] = SPACE | ENDS_NAME,
	['\r'] = SPACE | ENDS_NAME,
	['='] = ENDS_NAME,
	['/'] = ENDS_NAME,
	['>'] = ENDS_NAME,
	['-'] = NAME,
	['.'] = NAME,
	['0' ... '9'] = NAME,
	['_'] = LETTER,
	['A' ... 'Z'] = LETTER,
	['a' ... 'z'] = LETTER,
};

static inline unsigned class_of(const char *p)
{
	return class[(unsigned char)*p];
}

static inline bool is_ascii(char c)
{
	return (unsigned char)c < 0x80;
}

/* Functions that check a few bytes return the place behind them, or one of these: */
#define MORE ((const char *)0)
#define DOUBT ((const char *)1)

static inline bool stopped(const char *p)
{
	return (uintptr_t)p <= (uintptr_t)DOUBT;
}

static const struct {
	char name[6];
	char c;
	unsigned char n;
} entities[] = {
	{"amp;", '&', 4}, {"lt;", '<', 3}, {"gt;", '>', 3}, {"apos;", '\'', 5}, {"quot;", '"', 5}};

/* The code point of the character reference whose digits begin at p. Above 0x10ffff: wrong. */
static unsigned long code_point(const char *p, const char *end)
{
	unsigned base = p < end && *p == 'x' ? 16 : 10;
	unsigned long c = 0;

	if (base == 16)
		p++;
	if (p == end)
		return 0x110000;
	for (; p < end && c < 0x110000; p++) {
		unsigned digit = (unsigned char)*p;

		if (digit >= '0' && digit <= '9')
			digit -= '0';
		else if (base == 16 && (digit | 0x20) >= 'a' && (digit | 0x20) <= 'f')
			digit = (digit | 0x20) - 'a' + 10;
		else
			return 0x110000;
		c = c * base + digit;
	}
	return c;
}

/* XML 1.0 2.2 */
static bool is_character(unsigned long c)
{
	if (c < 0x20)
		return c == '\t' || c == '\n' || c == '\r';
	return c < 0xd800 || (c > 0xdfff && c < 0xfffe) || (c > 0xffff && c < 0x110000);
}

/* Whether the bytes from p to end, which have no ';', may be the beginning of a reference. */
static bool begins_reference(const char *p, const char *end)
{
	size_t n = (size_t)(end - p - 1);

	if (n > 0 && p[1] == '#') {
		p += n > 1 && p[2] == 'x' ? 3 : 2;
		return p == end || code_point(p - (p[-1] == 'x'), end) < 0x110000;
	}
	for (size_t i = 0; i < sizeof(entities) / sizeof(entities[0]); i++)
		if (n < entities[i].n && memcmp(p + 1, entities[i].name, n) == 0)
			return true;
	return false;
}

/* Past the reference whose '&' is at p. */
static const char *reference(const char *p, const char *end)
{
	size_t n = (size_t)(end - p) < REFERENCE_BYTES ? (size_t)(end - p) : REFERENCE_BYTES;
	const char *semicolon = memchr(p, ';', n);

	if (!semicolon)
		return n < REFERENCE_BYTES && begins_reference(p, end) ? MORE : DOUBT;
	if (p[1] == '#')
		return is_character(code_point(p + 2, semicolon)) ? semicolon + 1 : DOUBT;
	n = (size_t)(semicolon - p);
	for (size_t i = 0; i < sizeof(entities) / sizeof(entities[0]); i++)
		if (entities[i].n == n && memcmp(p + 1, entities[i].name, n) == 0)
			return semicolon + 1;
	return DOUBT;
}

/* Past the characters beyond ASCII from p on. */
static const char *beyond_ascii(const char *p, const char *end)
{
	while (p < end && !is_ascii(*p)) {
		int n = utf8_xml_character(p, (size_t)(end - p));

		if (n <= 0)
			return n < 0 ? MORE : DOUBT;
		p += n;
	}
	return p;
}

/* Text ------------------------------------------------------------------- */

/* Go on through text, or a section, up to the next tag. False: *token says why not. */
static bool pass_text(struct lexer *l, const char *start, const char *end, enum lexer_token *token)
{
	const char *p = start + l->at, *next;

	for (;; p = next) {
		/* constants: what scan() makes of them is made when it is compiled */
		p = l->in_cdata ? scan(p, end, ']', ']', ']', ']')
				: scan(p, end, ']', '<', '&', '&');
		next = MORE;
		if (p == end) {
			;
		} else if (*p == '<') {
			l->at = (size_t)(p - start);
			return true;
		} else if (*p == ']') {
			if (end - p >= 3 || (end - p == 2 && p[1] != ']'))
				next = p + 1;
			if (end - p >= 3 && p[1] == ']' && p[2] == '>') {
				next = l->in_cdata ? p + 3 : DOUBT;
				l->in_cdata = false;
			}
		} else if (*p == '&') {
			next = reference(p, end);
		} else if (!is_ascii(*p)) {
			next = beyond_ascii(p, end);
		} else {
			next = class_of(p) & SPACE ? p + 1 : DOUBT;
			l->flat = false;
		}
		if (stopped(next))
			break;
	}
	l->at = (size_t)(p - start);
	*token = next == MORE ? LEXER_MORE : LEXER_DOUBT;
	return false;
}

static const char cdata_begins[] = "<![CDATA[";
#define CDATA_BEGINS_BYTES (sizeof(cdata_begins) - 1)

/* At "<!": only a section may begin here. */
static bool section(struct lexer *l, const char *p, const char *end, enum lexer_token *token)
{
	size_t n = (size_t)(end - p);

	if (memcmp(p, cdata_begins, n < CDATA_BEGINS_BYTES ? n : CDATA_BEGINS_BYTES) != 0) {
		*token = LEXER_DOUBT;
		return false;
	}
	if (n < CDATA_BEGINS_BYTES) {
		*token = LEXER_MORE;
		return false;
	}
	l->at += CDATA_BEGINS_BYTES;
	l->in_cdata = true;
	return true;
}

/* Tags ------------------------------------------------------------------- */

/* Names, white space and what stands between them are read without asking for the end: the byte
 * behind the input stops them all (see lexer.h). Where it, or any byte, is not what is expected: */
static inline const char *unexpected(const char *p, const char *end)
{
	return p >= end ? MORE : DOUBT;
}

/* Past the name at p, or at what ends it too early. *local: where its local part begins; NULL: it
 * is no name. */
static inline const char *name(const char *p, const char **local)
{
	const char *start = p;

	for (*local = p; class_of(p) & NAME_START; *local = ++p) {
		do
			p++;
		while (class_of(p) & NAME);
		if (*p != ':')
			return p;
		if (*local != start)
			break;
	}
	*local = NULL;
	return p;
}

static inline const char *skip_space(const char *p, const char *end)
{
	while (p < end && class_of(p) & SPACE)
		p++;
	return p;
}

/* The same inside a tag of a stanza. */
static inline const char *pass_space(struct lexer *l, const char *p)
{
	/* one space, mostly, or none */
	if (*p == ' ')
		p++;
	for (; class_of(p) & SPACE; p++)
		l->flat &= *p == ' ';
	return p;
}

static inline const char *find_in_value(const char *p, const char *end, char quote)
{
	return quote == '\'' ? scan(p, end, '\'', '<', '&', '&') : scan(p, end, '"', '<', '&', '&');
}

static inline uint32_t bit_of(const struct lexer *l, const struct xml_attribute *a)
{
	return (uint32_t)1 << (a - l->attributes);
}

/* On from p, where the value has something else than ordinary ASCII: to its quote. */
static const char *value_rest(
	struct lexer *l, uint32_t bit, const char *p, const char *end, char quote)
{
	const char *next;

	for (; p < end && *p != quote; p = find_in_value(next, end, quote)) {
		if (!is_ascii(*p)) {
			next = beyond_ascii(p, end);
		} else if (*p == '&') {
			l->coded |= bit;
			next = reference(p, end);
		} else {
			l->coded |= bit;
			l->flat = false;
			next = class_of(p) & SPACE ? p + 1 : DOUBT;
		}
		if (stopped(next))
			return next;
	}
	return p < end ? p : MORE;
}

/* From the quote at p to the one that ends the value. */
static inline const char *value(
	struct lexer *l, const struct xml_attribute *a, const char *p, const char *end)
{
	const char quote = *p, *stop = find_in_value(p + 1, end, quote);

	return stop < end && *stop == quote ? stop : value_rest(l, bit_of(l, a), stop, end, quote);
}

/* Whether the declaration is allowed (Namespaces in XML 1.0, 3 and 2.2). */
static bool may_declare(const struct xml_attribute *a)
{
	if (span_is(a->value, NS_XML) || span_is(a->value, "http://www.w3.org/2000/xmlns/"))
		return false;
	return !a->ns.p ||
	       (a->value.n > 0 && !span_is(a->name, "xml") && !span_is(a->name, "xmlns"));
}

/* A bit chosen by a hash of the local name: equal names have equal bits. */
static inline uint64_t mark(struct span local)
{
	return (uint64_t)1 << (((unsigned char)local.p[0] + local.n * 8) & 63);
}

/* Go on from *at, past the '=' behind a name and the white space around it, to a quote. False: at
 * something else. */
static inline bool equals(struct lexer *l, const char **at)
{
	const char *p = *at;

	if (*p != '=')
		p = pass_space(l, p);
	*at = p;
	if (*p != '=')
		return false;
	p++;
	if (*p != '\'' && *p != '"')
		p = pass_space(l, p);
	*at = p;
	return *p == '\'' || *p == '"';
}

/* What is known of a tag while it is read. */
struct tag {
	struct xml_attribute *next; /* where the next attribute goes */
	uint64_t marks;		    /* of the names so far */
	uint64_t twice;		    /* of those that two may have */
	bool prefixes;		    /* an attribute has one */
};

/* Past the attribute whose name is at p. Until the tag ends, a->ns is its prefix. */
static inline const char *attribute(
	struct lexer *l, struct tag *t, const char *in, const char *p, const char *end)
{
	struct xml_attribute *a = t->next++;
	const char *start = p, *local, *stop;
	bool declares;
	uint64_t m;

	p = name(p, &local);
	if (!local)
		return unexpected(p, end);
	a->name = (struct span){local, (size_t)(p - local)};
	a->ns = SPAN_NONE;
	declares = span_is(a->name, "xmlns");
	if (local != start) {
		a->ns = (struct span){start, (size_t)(local - 1 - start)};
		declares = span_is(a->ns, "xmlns");
		t->prefixes = true;
	}
	m = mark(a->name);
	t->twice |= t->marks & m;
	t->marks |= m;
	if (!equals(l, &p))
		return unexpected(p, end);
	stop = value(l, a, p, end);
	if (stopped(stop))
		return stop;
	a->value = (struct span){p + 1, (size_t)(stop - p - 1)};
	a->start = (size_t)(start - in);
	a->end = (size_t)(stop + 1 - in);
	if (declares) {
		if ((l->coded & bit_of(l, a)) || !may_declare(a))
			return DOUBT;
		l->declares |= bit_of(l, a);
		l->declarations++;
	}
	return stop + 1;
}

/* What the innermost declaration of `prefix` (of none: of the default) says; SPAN_NONE: there is
 * none. */
static inline struct span declared(const struct lexer *l, const char *start, struct span prefix)
{
	for (unsigned i = l->bound_count; i-- > 0;) {
		struct lexer_name p = l->bound[i].prefix, uri = l->bound[i].uri;

		if (p.n == prefix.n && (p.n == 0 || memcmp(start + p.at, prefix.p, p.n) == 0))
			return (struct span){start + uri.at, uri.n};
	}
	for (size_t i = 0; i < l->outer_count; i++) {
		struct span p = l->outer[i].prefix;

		if (p.n == prefix.n && (p.n == 0 || memcmp(p.p, prefix.p, p.n) == 0))
			return l->outer[i].uri;
	}
	return SPAN_NONE;
}

/* Put the namespace of `prefix` (of none: the default one) into *ns. False: it is not declared. */
static inline bool resolve(
	const struct lexer *l, const char *start, struct span prefix, struct span *ns)
{
	*ns = declared(l, start, prefix);
	if (prefix.n && !ns->p && span_is(prefix, "xml"))
		*ns = SPAN(NS_XML);
	else if (ns->n == 0)
		*ns = SPAN_NONE;
	return prefix.n == 0 || ns->p;
}

struct span lexer_default(const struct lexer *l, struct span in)
{
	return declared(l, in.p, (struct span){in.p, 0});
}

/* The declarations of the tag. False: there are too many. */
static bool declare(struct lexer *l, const char *start)
{
	for (unsigned i = 0; i < l->count; i++) {
		struct xml_attribute *a = &l->attributes[i];

		if (!lexer_declares(l, i))
			continue;
		if (l->bound_count == LEXER_DECLARATIONS)
			return false;
		if (!a->ns.p)
			a->name.n = 0;
		a->ns = SPAN_NONE;
		l->bound[l->bound_count].prefix =
			(struct lexer_name){(uint32_t)(a->name.p - start), (uint32_t)a->name.n};
		l->bound[l->bound_count++].uri =
			(struct lexer_name){(uint32_t)(a->value.p - start), (uint32_t)a->value.n};
	}
	return true;
}

/* No two attributes with the same expanded name. */
static bool unique(const struct lexer *l)
{
	for (unsigned i = 0; i < l->count; i++)
		for (unsigned j = 0; j < i; j++) {
			const struct xml_attribute *a = &l->attributes[i], *b = &l->attributes[j];

			if (lexer_declares(l, i) == lexer_declares(l, j) &&
				span_equal(a->name, b->name) && span_equal(a->ns, b->ns))
				return false;
		}
	return true;
}

/* The name of an element, and the namespaces of its tag. */
static inline bool names(struct lexer *l, const struct tag *t, const char *start,
	struct span element, const char *local)
{
	struct span prefix = {element.p, 0};

	l->prefixed = local != element.p;
	if (l->prefixed)
		prefix.n = (size_t)(local - 1 - element.p);
	l->name = span_from(element, (size_t)(local - element.p));
	if (l->declarations && !declare(l, start))
		return false;
	if (!resolve(l, start, prefix, &l->ns))
		return false;
	for (unsigned i = 0; t->prefixes && i < l->count; i++) {
		struct xml_attribute *a = &l->attributes[i];

		if (a->ns.p && !resolve(l, start, a->ns, &a->ns))
			return false;
	}
	return !t->twice || unique(l);
}

static inline enum lexer_token token_of(const char *stop)
{
	return stop == MORE ? LEXER_MORE : LEXER_DOUBT;
}

/* A start tag, or that of an empty element. */
static enum lexer_token tag(struct lexer *l, const char *start, const char *end)
{
	const char *local, *first = start + l->at + 1, *p = name(first, &local), *space;
	struct span element = {first, (size_t)(p - first)};
	unsigned around = l->bound_count;
	struct tag t = {.next = l->attributes};
	bool empty;

	if (!local)
		return token_of(unexpected(p, end));
	l->declarations = 0;
	l->declares = l->coded = 0;
	while (space = p, p = pass_space(l, p), class_of(p) & NAME_START) {
		if (p == space || t.next == l->attributes + LEXER_ATTRIBUTES)
			return LEXER_DOUBT;
		p = attribute(l, &t, start, p, end);
		if (stopped(p))
			return token_of(p);
	}
	empty = *p == '/';
	p += empty;
	if (*p != '>' || p >= end)
		return token_of(unexpected(p, end));
	l->count = (unsigned)(t.next - l->attributes);
	if (!names(l, &t, start, element, local))
		return LEXER_DOUBT;
	l->at = (size_t)(p + 1 - start);
	if (empty) {
		l->bound_count = around;
		return LEXER_EMPTY;
	}
	if (l->depth == LEXER_DEPTH)
		return LEXER_DOUBT;
	l->open[l->depth].name =
		(struct lexer_name){(uint32_t)(first - start), (uint32_t)element.n};
	l->open[l->depth++].bound_count = around;
	return LEXER_OPEN;
}

static enum lexer_token end_tag(struct lexer *l, const char *start, const char *end)
{
	const char *p = start + l->at + 2, *open;
	uint32_t n;

	if (l->depth == 0)
		return LEXER_DOUBT;
	open = start + l->open[l->depth - 1].name.at;
	n = l->open[l->depth - 1].name.n;
	for (uint32_t i = 0; i < n; i++, p++)
		if (*p != open[i])
			return token_of(unexpected(p, end));
	p = pass_space(l, p);
	if (*p != '>' || p >= end)
		return token_of(unexpected(p, end));
	l->bound_count = l->open[--l->depth].bound_count;
	l->at = (size_t)(p + 1 - start);
	return LEXER_CLOSE;
}

void lexer_begin(struct lexer *l, const struct xml_declaration *outer, size_t outer_count)
{
	l->at = l->start = 0;
	l->depth = l->bound_count = 0;
	l->in_cdata = false;
	l->flat = true;
	l->outer = outer;
	l->outer_count = outer_count;
}

enum lexer_token lexer_next(struct lexer *l, struct span in)
{
	const char *end = in.p + in.n, *p;
	enum lexer_token token;

	for (;;) {
		if (!pass_text(l, in.p, end, &token))
			return token;
		l->start = l->at;
		p = in.p + l->at;
		if (end - p < 2)
			return LEXER_MORE;
		if (p[1] == '/')
			return end_tag(l, in.p, end);
		if (p[1] != '!')
			return tag(l, in.p, end);
		if (l->depth == 0)
			return LEXER_DOUBT;
		if (!section(l, p, end, &token))
			return token;
	}
}

/* Meaning ---------------------------------------------------------------- */

static size_t encode(char to[4], unsigned long c)
{
	if (c < 0x80) {
		to[0] = (char)c;
		return 1;
	}
	if (c < 0x800) {
		to[0] = (char)(0xc0 | c >> 6);
		to[1] = (char)(0x80 | (c & 0x3f));
		return 2;
	}
	if (c < 0x10000) {
		to[0] = (char)(0xe0 | c >> 12);
		to[1] = (char)(0x80 | (c >> 6 & 0x3f));
		to[2] = (char)(0x80 | (c & 0x3f));
		return 3;
	}
	to[0] = (char)(0xf0 | (c >> 18 & 0x07));
	to[1] = (char)(0x80 | (c >> 12 & 0x3f));
	to[2] = (char)(0x80 | (c >> 6 & 0x3f));
	to[3] = (char)(0x80 | (c & 0x3f));
	return 4;
}

/* ref: from behind '&' to ';' */
static size_t decode_reference(struct span ref, char to[4])
{
	if (ref.p[0] == '#')
		return encode(to, code_point(ref.p + 1, ref.p + ref.n - 1));
	for (size_t i = 0; i < sizeof(entities) / sizeof(entities[0]); i++)
		if (entities[i].n == ref.n && memcmp(ref.p, entities[i].name, ref.n) == 0)
			to[0] = entities[i].c;
	return 1;
}

bool lexer_decode(struct span *in, enum lexer_meaning where, char room[4], struct span *out)
{
	const char reference = where == LEXER_CDATA ? '\r' : '&';
	const char *end = in->p + in->n, *p = in->p, *semicolon;

	if (in->n == 0)
		return false;
	while (p < end && *p != reference && *p != '\r' &&
		!(where == LEXER_VALUE && (*p == '\n' || *p == '\t')))
		p = scan(p + 1, end, reference, reference, reference, reference);
	*out = (struct span){in->p, (size_t)(p - in->p)};
	if (out->n == 0) {
		*out = (struct span){room, 1};
		semicolon = *p == '&' ? memchr(p, ';', in->n) : NULL;
		if (semicolon) {
			out->n = decode_reference(
				(struct span){p + 1, (size_t)(semicolon - p)}, room);
			p = semicolon;
		} else {
			room[0] = where == LEXER_VALUE ? ' ' : '\n';
			p += *p == '\r' && end - p > 1 && p[1] == '\n';
		}
		p++;
	}
	*in = (struct span){p, (size_t)(end - p)};
	return true;
}

/* Pieces ----------------------------------------------------------------- */

/* The kind of piece that begins here; *n: the bytes of its opening. PIECE_NONE: more bytes are
 * needed to tell. */
static enum lexer_kind kind_of(struct span in, size_t *n)
{
	static const unsigned char opening[] = {[PIECE_CDATA] = CDATA_BEGINS_BYTES,
		[PIECE_COMMENT] = 4,
		[PIECE_INSTRUCTION] = 2,
		[PIECE_DECLARATION] = 2,
		[PIECE_OPEN] = 1,
		[PIECE_CLOSE] = 2};
	size_t have = in.n < CDATA_BEGINS_BYTES ? in.n : CDATA_BEGINS_BYTES;
	enum lexer_kind kind = PIECE_OPEN;

	if (in.n == 0)
		kind = PIECE_NONE;
	else if (in.p[0] != '<')
		kind = PIECE_TEXT;
	else if (in.n < 2)
		kind = PIECE_NONE;
	else if (in.p[1] == '/')
		kind = PIECE_CLOSE;
	else if (in.p[1] == '?')
		kind = PIECE_INSTRUCTION;
	else if (in.p[1] == '!' && memcmp(in.p, cdata_begins, have) == 0)
		kind = have < CDATA_BEGINS_BYTES ? PIECE_NONE : PIECE_CDATA;
	else if (in.p[1] == '!' && memcmp(in.p, "<!--", have < 4 ? have : 4) == 0)
		kind = have < 4 ? PIECE_NONE : PIECE_COMMENT;
	else if (in.p[1] == '!')
		kind = PIECE_DECLARATION;
	*n = kind == PIECE_TEXT ? 0 : opening[kind];
	return kind;
}

/* Take the bytes from in[i] up to and with `last`. Bytes that may be its beginning are not taken.
 */
static size_t up_to(struct lexer_piece *piece, struct span in, size_t i, const char *last)
{
	size_t n = strlen(last);
	const char *p = memmem(in.p + i, in.n - i, last, n);

	if (p) {
		piece->whole = true;
		return (size_t)(p - in.p) + n;
	}
	return in.n - i >= n ? in.n - n + 1 : i;
}

static size_t up_to_tag_end(struct lexer_piece *piece, struct span in, size_t i)
{
	while (i < in.n && !piece->whole && !piece->wrong) {
		char c = in.p[i];

		if (piece->quote) {
			const char *p = memchr(in.p + i, piece->quote, in.n - i);
			size_t n = p ? (size_t)(p - in.p) - i : in.n - i;
			const char *wrong = memchr(in.p + i, '<', n);

			piece->wrong = wrong;
			if (p && !wrong)
				piece->quote = 0;
			i = wrong ? (size_t)(wrong - in.p) : i + n + (p ? 1 : 0);
			continue;
		}
		if (c == '<') {
			piece->wrong = true;
			break;
		}
		if (c == '/' && i + 1 == in.n)
			break;
		if (c == '\'' || c == '"')
			piece->quote = c;
		piece->whole = c == '>';
		if (piece->whole && piece->kind == PIECE_OPEN && i > 0 && in.p[i - 1] == '/')
			piece->kind = PIECE_EMPTY;
		i++;
	}
	return i;
}

size_t lexer_piece(struct lexer_piece *piece, struct span in)
{
	const char *markup;
	size_t i = 0;

	if (piece->kind == PIECE_NONE)
		piece->kind = kind_of(in, &i);
	switch (piece->kind) {
	case PIECE_NONE:
		return 0;
	case PIECE_TEXT:
		markup = memchr(in.p, '<', in.n);
		piece->whole = markup;
		return markup ? (size_t)(markup - in.p) : in.n;
	case PIECE_CDATA:
		return up_to(piece, in, i, "]]>");
	case PIECE_COMMENT:
		return up_to(piece, in, i, "-->");
	case PIECE_INSTRUCTION:
		return up_to(piece, in, i, "?>");
	case PIECE_DECLARATION:
		return up_to(piece, in, i, ">");
	default:
		return up_to_tag_end(piece, in, i);
	}
}

bool lexer_piece_next(struct span *in, enum lexer_kind *kind, struct span *out)
{
	struct lexer_piece piece = {.kind = PIECE_NONE};
	size_t n = lexer_piece(&piece, *in);

	if (!piece.whole)
		n = in->n;
	*kind = piece.kind;
	*out = (struct span){in->p, n};
	*in = span_from(*in, n);
	return n > 0;
}

/* Tags known to be right ------------------------------------------------- */

static const char *skip_name(const char *p, const char *end)
{
	while (p < end && !(class_of(p) & ENDS_NAME))
		p++;
	return p;
}

bool lexer_tag_begin(struct span tag, struct span *scan, struct span *name)
{
	const char *p, *end = tag.p + tag.n;

	if (tag.n < 3)
		return false;
	p = skip_name(tag.p + 1, end);
	*name = (struct span){tag.p + 1, (size_t)(p - tag.p - 1)};
	*scan = (struct span){p, (size_t)(end - p)};
	return true;
}

bool lexer_tag_next(struct span *scan, struct span *name, struct span *value, struct span *whole)
{
	const char *end = scan->p + scan->n, *start = skip_space(scan->p, end), *p, *stop;

	if (start == end || *start == '>' || *start == '/')
		return false;
	p = skip_name(start, end);
	*name = (struct span){start, (size_t)(p - start)};
	p = skip_space(p, end);
	if (p < end)
		p++; /* = */
	p = skip_space(p, end);
	if (p == end)
		return false;
	stop = memchr(p + 1, *p, (size_t)(end - p - 1));
	if (!stop)
		return false;
	*value = (struct span){p + 1, (size_t)(stop - p - 1)};
	*whole = (struct span){start, (size_t)(stop + 1 - start)};
	*scan = (struct span){stop + 1, (size_t)(end - stop - 1)};
	return true;
}
