#include "base/json.h"

#include <ctype.h>
#include <errno.h>
#include <stdint.h>

#include "base/err.h"
#include "base/utf8.h"

/* Reading ---------------------------------------------------------------- */

/* Length of the UTF-8 character at p, whose first byte is not ASCII; 0 if it is none (RFC 3629 4).
 * json-c looks at the form only. */
static size_t scan_character(const char *p, const char *end)
{
	const unsigned char *u = (const unsigned char *)p;
	size_t n = u[0] < 0xc2 ? 0 : u[0] < 0xe0 ? 2 : u[0] < 0xf0 ? 3 : u[0] < 0xf5 ? 4 : 0;

	if (n == 0 || (size_t)(end - p) < n)
		return 0;
	for (size_t i = 1; i < n; i++)
		if ((u[i] & 0xc0) != 0x80)
			return 0;
	/* written too long, surrogates, beyond U+10FFFF */
	if ((u[0] == 0xe0 && u[1] < 0xa0) || (u[0] == 0xed && u[1] >= 0xa0) ||
		(u[0] == 0xf0 && u[1] < 0x90) || (u[0] == 0xf4 && u[1] >= 0x90))
		return 0;
	return n;
}

/* Behind the closing quote; NULL if the string is malformed or does not end. */
static const char *scan_string(const char *p, const char *end, bool *nul)
{
	while (p < end) {
		unsigned char c = (unsigned char)*p++;

		if (c == '"')
			return p;
		if (c < 0x20)
			return NULL;
		if (c >= 0x80) {
			size_t n = scan_character(p - 1, end);

			if (n == 0)
				return NULL;
			p += n - 1;
			continue;
		}
		if (c != '\\')
			continue;
		if (p == end || !*p || !strchr("\"\\/bfnrtu", *p))
			return NULL;
		if (*p++ != 'u')
			continue;
		if (end - p < 4)
			return NULL;
		for (int i = 0; i < 4; i++)
			if (!isxdigit((unsigned char)p[i]))
				return NULL;
		*nul |= memcmp(p, "0000", 4) == 0;
		p += 4;
	}
	return NULL;
}

static const char *scan_digits(const char *p, const char *end)
{
	const char *first = p;

	while (p < end && isdigit((unsigned char)*p))
		p++;
	return p > first ? p : NULL;
}

/* RFC 8259 6 */
static const char *scan_number(const char *p, const char *end)
{
	const char *first;

	if (*p == '-')
		p++;
	first = p;
	p = scan_digits(p, end);
	if (!p || (*first == '0' && p - first > 1))
		return NULL;
	if (p < end && *p == '.' && !(p = scan_digits(p + 1, end)))
		return NULL;
	if (p < end && (*p == 'e' || *p == 'E')) {
		p++;
		if (p < end && (*p == '+' || *p == '-'))
			p++;
		p = scan_digits(p, end);
	}
	return p;
}

static const char *scan_word(const char *p, const char *end)
{
	static const struct span words[] = {{"true", 4}, {"false", 5}, {"null", 4}};

	for (int i = 0; i < 3; i++)
		if (span_starts((struct span){p, (size_t)(end - p)}, words[i]))
			return p + words[i].n;
	return NULL;
}

/* What is known of a text that is read piece by piece. */
struct scan {
	bool bad; /* something that is no token of RFC 8259 */
	bool nul; /* \u0000 in a string */
};

/* Behind the first number from p on, or the end. */
static const char *scan_piece(struct scan *scan, const char *p, const char *end)
{
	while (p && p < end) {
		switch (*p) {
		case ' ':
		case '\t':
		case '\r':
		case '\n':
		case '{':
		case '}':
		case '[':
		case ']':
		case ':':
		case ',':
			p++;
			break;
		case '"':
			p = scan_string(p + 1, end, &scan->nul);
			break;
		case '-':
		case '0' ... '9':
			p = scan_number(p, end);
			if (p)
				return p;
			break;
		default:
			p = scan_word(p, end);
			break;
		}
	}
	if (p)
		return p;
	scan->bad = true;
	return end;
}

/* json-c (0.16) does not look whether its copies of strings were made, and crashes on those that
 * were not; it has no hook for allocation, but the dynamic linker gives it the executable's
 * strdup() before the C library's. So this one is called wherever a library we use copies a
 * string, and ends the program as xstrdup() does. The C library itself never calls it. */
char *strdup(const char *string)
{
	return xstrdup(string);
}

static void die_if_out_of_memory(void)
{
	if (errno == ENOMEM)
		err_die(EXIT_TEMPORARY, "out of memory");
}

/* Feed the tokener, at most up to the end of the text. Nor does json-c tell of the other
 * allocations that failed: it leaves out what did not fit. They all set errno, which it sets to 0
 * itself only when it comes to what follows a number. So the text is cut there, and errno looked
 * at. */
static enum json_tokener_error feed(struct json_tokener *tokener, struct span text,
	struct json_object **object, struct scan *scan)
{
	const char *p = text.p, *end = p + text.n;
	enum json_tokener_error error = json_tokener_continue;

	while (error == json_tokener_continue && p < end) {
		const char *next = scan_piece(scan, p, end);

		*object = json_tokener_parse_ex(tokener, p, (int)(next - p));
		die_if_out_of_memory();
		error = json_tokener_get_error(tokener);
		if (error == json_tokener_success) {
			size_t at = (size_t)(p - text.p) + json_tokener_get_parse_end(tokener);

			while (at < text.n && memchr(" \t\r\n", text.p[at], 4))
				at++;
			return at < text.n ? json_tokener_error_parse_unexpected : error;
		}
		p = next;
	}
	if (error != json_tokener_continue)
		return error;
	/* a number or word at the very end is complete only with what follows */
	*object = json_tokener_parse_ex(tokener, "", 1);
	die_if_out_of_memory();
	error = json_tokener_get_error(tokener);
	return error == json_tokener_continue ? json_tokener_error_parse_eof : error;
}

enum json_status json_parse(
	struct span text, int depth, struct json_object **object, struct buf *message)
{
	struct json_tokener *tokener;
	enum json_tokener_error error = json_tokener_error_parse_eof;
	enum json_status status = JSON_BAD;
	struct scan scan = {false, false};

	*object = NULL;
	errno = 0;
	tokener = json_tokener_new_ex(depth);
	if (!tokener)
		err_die(EXIT_TEMPORARY, "out of memory");
	json_tokener_set_flags(tokener, JSON_TOKENER_STRICT);
	if (text.n > 0 && text.n <= INT32_MAX)
		error = feed(tokener, text, object, &scan);
	json_tokener_free(tokener);
	if (error == json_tokener_error_depth) {
		buf_append_string(message, "nested too deeply");
		status = JSON_FORBIDDEN;
	} else if (error != json_tokener_success) {
		buf_append_string(message, error == json_tokener_error_parse_eof
						   ? "unexpected end of data"
						   : json_tokener_error_desc(error));
	} else if (scan.bad) {
		buf_append_string(message, "a character or number that JSON does not allow");
	} else if (scan.nul) {
		buf_append_string(message, "U+0000 in a string");
		status = JSON_FORBIDDEN;
	} else {
		return JSON_OK;
	}
	json_object_put(*object);
	*object = NULL;
	return status;
}

struct span json_text(struct json_object *value)
{
	if (!json_object_is_type(value, json_type_string))
		return SPAN_NONE;
	return (struct span){
		json_object_get_string(value), (size_t)json_object_get_string_len(value)};
}

struct span json_member_text(struct json_object *object, const char *name)
{
	struct json_object *value;

	return json_object_object_get_ex(object, name, &value) ? json_text(value) : SPAN_NONE;
}

/* Whether \uD8XX..\uDBXX (high) or \uDCXX..\uDFXX stands at p. */
static bool is_surrogate(const char *p, const char *end, bool high)
{
	return end - p >= 6 && p[0] == '\\' && p[1] == 'u' && (p[2] == 'd' || p[2] == 'D') &&
	       p[3] && strchr(high ? "89abAB" : "cdefCDEF", p[3]);
}

bool json_surrogates_paired(struct span text)
{
	const char *p = text.p, *end = p + text.n;

	while (p < end && (p = memchr(p, '\\', (size_t)(end - p)))) {
		if (is_surrogate(p, end, false))
			return false;
		if (is_surrogate(p, end, true)) {
			p += 6;
			if (!is_surrogate(p, end, false))
				return false;
			p += 6;
			continue;
		}
		p += 2;
	}
	return true;
}

/* Writing ---------------------------------------------------------------- */

bool json_string(struct buf *out, struct span s)
{
	size_t i = 0, run = 0;
	bool ok;

	ok = buf_append_char(out, '"');
	while (ok && i < s.n) {
		unsigned char c = (unsigned char)s.p[i];
		size_t n = c < 0x80 ? 1 : c >= 0xf0 ? 4 : c >= 0xe0 ? 3 : 2;

		if (c >= 0x80 && i + n <= s.n && utf8_xml_valid((struct span){s.p + i, n})) {
			i += n;
			continue;
		}
		if (c >= 0x20 && c < 0x7f && c != '"' && c != '\\') {
			i++;
			continue;
		}
		ok = buf_append(out, s.p + run, i - run);
		if (c == '"' || c == '\\') {
			ok = ok && buf_append_char(out, '\\') && buf_append_char(out, (char)c);
		} else if (c < 0x80) {
			ok = ok && buf_printf(out, "\\u%04x", c);
		} else {
			ok = ok && buf_append_string(out, "\xef\xbf\xbd");
		}
		run = ++i;
	}
	return ok && buf_append(out, s.p + run, i - run) && buf_append_char(out, '"');
}
