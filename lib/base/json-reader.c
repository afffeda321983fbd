#include "base/json-reader.h"

#include <ctype.h>
#include <stdint.h>

#include "base/utf8.h"

enum {
	EXPECT_VALUE,
	EXPECT_FIRST_ELEMENT,
	EXPECT_FIRST_NAME,
	EXPECT_NAME,
	EXPECT_COMMA,
	EXPECT_END
};

#define NOT_ALLOWED "a character or number that JSON does not allow"
#define ENDS_EARLY "unexpected end of data"

struct span json_without_bom(struct span text)
{
	return span_starts(text, SPAN("\xef\xbb\xbf")) ? span_from(text, 3) : text;
}

void json_reader_init(struct json_reader *r, struct span text, size_t depth, size_t max_values)
{
	*r = (struct json_reader){.depth = depth, .max_values = max_values};
	text = json_without_bom(text);
	r->p = text.p;
	r->end = text.p + text.n;
	buf_init(&r->open, BUF_NO_MAX);
	buf_init(&r->decoded, BUF_NO_MAX);
}

void json_reader_free(struct json_reader *r)
{
	buf_free(&r->open);
	buf_free(&r->decoded);
}

static enum json_token wrong(struct json_reader *r, enum json_status status, const char *why)
{
	if (r->status == JSON_OK) {
		r->status = status;
		r->why = why;
	}
	return JSON_READ_WRONG;
}

static enum json_token malformed(struct json_reader *r)
{
	return wrong(r, JSON_BAD, r->p < r->end ? NOT_ALLOWED : ENDS_EARLY);
}

/* Strings ---------------------------------------------------------------- */

/* The number that four hexadecimal digits at p make; -1 if they are none. */
static int32_t code_unit(const char *p, const char *end)
{
	int32_t unit = 0;

	if (end - p < 4)
		return -1;
	for (int i = 0; i < 4; i++) {
		if (!isxdigit((unsigned char)p[i]))
			return -1;
		unit = unit * 16 +
		       (isdigit((unsigned char)p[i]) ? p[i] - '0' : (p[i] | 0x20) - 'a' + 10);
	}
	return unit;
}

static void append_character(struct buf *out, uint32_t c)
{
	char bytes[4];
	size_t n = 0;

	if (c < 0x80) {
		bytes[n++] = (char)c;
	} else if (c < 0x800) {
		bytes[n++] = (char)(0xc0 | c >> 6);
		bytes[n++] = (char)(0x80 | (c & 0x3f));
	} else if (c < 0x10000) {
		bytes[n++] = (char)(0xe0 | c >> 12);
		bytes[n++] = (char)(0x80 | (c >> 6 & 0x3f));
		bytes[n++] = (char)(0x80 | (c & 0x3f));
	} else {
		bytes[n++] = (char)(0xf0 | c >> 18);
		bytes[n++] = (char)(0x80 | (c >> 12 & 0x3f));
		bytes[n++] = (char)(0x80 | (c >> 6 & 0x3f));
		bytes[n++] = (char)(0x80 | (c & 0x3f));
	}
	buf_append(out, bytes, n);
}

/* p is behind the u of "\uXXXX". A pair of surrogates is one character. */
static const char *decode_unit(struct json_reader *r, const char *p)
{
	int32_t unit = code_unit(p, r->end), low;
	uint32_t c;

	if (unit < 0)
		return NULL;
	p += 4;
	c = (uint32_t)unit;
	if (unit >= 0xd800 && unit < 0xe000) {
		low = unit < 0xdc00 && r->end - p >= 6 && p[0] == '\\' && p[1] == 'u'
			      ? code_unit(p + 2, r->end)
			      : -1;
		c = 0xfffd;
		if (low >= 0xdc00 && low < 0xe000) {
			c = 0x10000 + (((uint32_t)unit & 0x3ff) << 10) + ((uint32_t)low & 0x3ff);
			p += 6;
		}
	}
	r->nul |= c == 0;
	append_character(&r->decoded, c);
	return p;
}

/* p is behind a backslash. Returns the place behind its escape; NULL if it is no escape. */
static const char *decode_escape(struct json_reader *r, const char *p)
{
	static const char names[] = "\"\\/bfnrt", values[] = "\"\\/\b\f\n\r\t";
	const char *at = p < r->end && *p ? strchr(names, *p) : NULL;

	if (at) {
		buf_append_char(&r->decoded, values[at - names]);
		return p + 1;
	}
	return p < r->end && *p == 'u' ? decode_unit(r, p + 1) : NULL;
}

/* Read the string whose first quote is before p into r->text, and move r->p behind it. A string
 * without escapes is not copied. False if it is malformed or does not end. */
static bool read_string(struct json_reader *r)
{
	const char *p = r->p + 1, *run = p;
	bool escaped = false;

	buf_reset(&r->decoded);
	while (p < r->end && *p != '"') {
		unsigned char c = (unsigned char)*p;

		if (c == '\\') {
			buf_append(&r->decoded, run, (size_t)(p - run));
			escaped = true;
			p = run = decode_escape(r, p + 1);
			if (!p)
				return false;
		} else if (c < 0x20) {
			r->p = p;
			return false;
		} else if (c < 0x80) {
			p++;
		} else {
			size_t n = utf8_length((struct span){p, (size_t)(r->end - p)});

			if (n == 0)
				return false;
			p += n;
		}
	}
	if (p == r->end) {
		r->p = p;
		return false;
	}
	r->text = (struct span){run, (size_t)(p - run)};
	if (escaped) {
		buf_append_span(&r->decoded, r->text);
		r->text = buf_span(&r->decoded);
	}
	r->p = p + 1;
	return true;
}

/* Numbers and words ------------------------------------------------------ */

static const char *pass_digits(const char *p, const char *end)
{
	const char *first = p;

	while (p < end && isdigit((unsigned char)*p))
		p++;
	return p > first ? p : NULL;
}

/* RFC 8259 6 */
static const char *pass_number(const char *p, const char *end)
{
	const char *first;

	if (*p == '-')
		p++;
	first = p;
	p = pass_digits(p, end);
	if (!p || (*first == '0' && p - first > 1))
		return NULL;
	if (p < end && *p == '.' && !(p = pass_digits(p + 1, end)))
		return NULL;
	if (p < end && (*p == 'e' || *p == 'E')) {
		p++;
		if (p < end && (*p == '+' || *p == '-'))
			p++;
		p = pass_digits(p, end);
	}
	return p;
}

static enum json_token read_number(struct json_reader *r)
{
	const char *p = pass_number(r->p, r->end);

	if (!p)
		return malformed(r);
	r->text = (struct span){r->p, (size_t)(p - r->p)};
	r->p = p;
	r->numbers++;
	return JSON_READ_NUMBER;
}

static enum json_token read_word(struct json_reader *r)
{
	static const struct {
		struct span word;
		enum json_token token;
	} words[] = {{{"true", 4}, JSON_READ_TRUE}, {{"false", 5}, JSON_READ_FALSE},
		{{"null", 4}, JSON_READ_NULL}};
	struct span left = {r->p, (size_t)(r->end - r->p)};

	for (size_t i = 0; i < sizeof(words) / sizeof(words[0]); i++) {
		if (span_starts(left, words[i].word)) {
			r->p += words[i].word.n;
			return words[i].token;
		}
	}
	return malformed(r);
}

/* Structure -------------------------------------------------------------- */

static bool in_object(const struct json_reader *r)
{
	struct span open = buf_span(&r->open);

	return open.n && open.p[open.n - 1] == '{';
}

static void value_over(struct json_reader *r)
{
	r->expected = buf_length(&r->open) ? EXPECT_COMMA : EXPECT_END;
}

static enum json_token read_value(struct json_reader *r)
{
	char c = *r->p;
	enum json_token token;

	if (buf_length(&r->open) >= r->depth)
		return wrong(r, JSON_FORBIDDEN, "nested too deeply");
	if (r->values++ >= r->max_values)
		return wrong(r, JSON_TOO_MANY, "too many values");
	if (c == '{' || c == '[') {
		buf_append_char(&r->open, c);
		r->expected = c == '{' ? EXPECT_FIRST_NAME : EXPECT_FIRST_ELEMENT;
		r->p++;
		return c == '{' ? JSON_READ_OBJECT : JSON_READ_ARRAY;
	}
	if (c == '"')
		token = read_string(r) ? JSON_READ_STRING : malformed(r);
	else
		token = c == '-' || isdigit((unsigned char)c) ? read_number(r) : read_word(r);
	value_over(r);
	return token;
}

static bool pass_space(struct json_reader *r)
{
	while (r->p < r->end && (*r->p == ' ' || *r->p == '\n' || *r->p == '\r' || *r->p == '\t'))
		r->p++;
	return r->p < r->end;
}

static enum json_token read_name(struct json_reader *r)
{
	if (*r->p != '"' || !read_string(r) || !pass_space(r) || *r->p != ':')
		return malformed(r);
	r->p++;
	r->expected = EXPECT_VALUE;
	return JSON_READ_NAME;
}

static enum json_token close_level(struct json_reader *r)
{
	bool object = in_object(r);

	r->p++;
	buf_truncate(&r->open, buf_length(&r->open) - 1);
	value_over(r);
	return object ? JSON_READ_OBJECT_END : JSON_READ_ARRAY_END;
}

enum json_token json_reader_next(struct json_reader *r)
{
	bool more = pass_space(r);

	if (r->status != JSON_OK)
		return JSON_READ_WRONG;
	if (r->expected == EXPECT_END) {
		if (more)
			return malformed(r);
		return r->nul ? wrong(r, JSON_FORBIDDEN, "U+0000 in a string") : JSON_READ_END;
	}
	if (!more)
		return malformed(r);
	if (r->expected != EXPECT_VALUE && r->expected != EXPECT_NAME &&
		*r->p == (in_object(r) ? '}' : ']'))
		return close_level(r);
	if (r->expected == EXPECT_COMMA) {
		if (*r->p != ',')
			return malformed(r);
		r->p++;
		if (!pass_space(r))
			return malformed(r);
		r->expected = in_object(r) ? EXPECT_NAME : EXPECT_VALUE;
	}
	return r->expected == EXPECT_NAME || r->expected == EXPECT_FIRST_NAME ? read_name(r)
									      : read_value(r);
}

void json_reader_skip(struct json_reader *r, enum json_token token)
{
	size_t level = buf_length(&r->open);

	if (token != JSON_READ_OBJECT && token != JSON_READ_ARRAY)
		return;
	while (buf_length(&r->open) >= level && json_reader_next(r) != JSON_READ_WRONG)
		;
}
