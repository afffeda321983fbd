#include "base/json.h"

#include <errno.h>
#include <stdint.h>

#include "base/err.h"
#include "base/json-reader.h"
#include "base/utf8.h"

/* Reading ---------------------------------------------------------------- */

/* json-c (0.16) does not check whether strdup() failed, and then crashes. It has no hook for
 * allocation, but the dynamic linker prefers the executable's strdup() to the C library's. So this
 * one is called wherever a library copies a string, and ends the program as xstrdup() does. The C
 * library itself never calls it. */
char *strdup(const char *string)
{
	return xstrdup(string);
}

static void die_if_out_of_memory(void)
{
	if (errno == ENOMEM)
		err_die(EXIT_TEMPORARY, "out of memory");
}

/* Behind the next number from r on, or the end of the text. */
static const char *next_number(struct json_reader *r)
{
	enum json_token token;

	do
		token = json_reader_next(r);
	while (token != JSON_READ_NUMBER && token != JSON_READ_END && token != JSON_READ_WRONG);
	return r->p;
}

/* Build the tree of a text that the reader has accepted. json-c does not report its other failed
 * allocations either: it leaves out what did not fit. They set errno, and json-c itself sets errno
 * to 0 only behind a number. So the text is cut there, and errno is checked after each piece. Its
 * strict mode is not used: in version 0.18 that refuses every character beyond ASCII. */
static struct json_object *build(struct json_tokener *tokener, struct span text, bool numbers)
{
	struct json_object *object = NULL;
	const char *p = text.p, *end = p + text.n;
	struct json_reader places;

	json_reader_init(&places, text, SIZE_MAX, SIZE_MAX);
	while (p < end) {
		const char *next = numbers ? next_number(&places) : end;

		object = json_tokener_parse_ex(tokener, p, (int)(next - p));
		die_if_out_of_memory();
		if (json_tokener_get_error(tokener) != json_tokener_continue)
			break;
		p = next;
	}
	json_reader_free(&places);
	if (json_tokener_get_error(tokener) == json_tokener_continue) {
		/* a number or word at the very end is complete only when a byte follows it */
		object = json_tokener_parse_ex(tokener, "", 1);
		die_if_out_of_memory();
	}
	return object;
}

enum json_status json_parse_bounded(struct span text, const struct json_bounds *bounds,
	struct json_object **object, struct buf *message)
{
	struct json_tokener *tokener;
	struct json_reader reader;
	enum json_token token;
	enum json_status status;

	*object = NULL;
	if (text.n > INT32_MAX) {
		buf_append_string(message, "larger than 2 GB");
		return JSON_BAD;
	}
	text = json_without_bom(text);
	json_reader_init(&reader, text, bounds->depth, bounds->values);
	do
		token = json_reader_next(&reader);
	while (token != JSON_READ_END && token != JSON_READ_WRONG);
	status = reader.status;
	if (status != JSON_OK)
		buf_append_string(message, reader.why);
	json_reader_free(&reader);
	if (status != JSON_OK)
		return status;
	errno = 0;
	tokener = json_tokener_new_ex((int)bounds->depth + 1);
	if (!tokener)
		err_die(EXIT_TEMPORARY, "out of memory");
	*object = build(tokener, text, reader.numbers > 0);
	if (json_tokener_get_error(tokener) != json_tokener_success) {
		buf_append_string(
			message, json_tokener_error_desc(json_tokener_get_error(tokener)));
		status = JSON_BAD;
		json_object_put(*object);
		*object = NULL;
	}
	json_tokener_free(tokener);
	return status;
}

enum json_status json_parse(
	struct span text, int depth, struct json_object **object, struct buf *message)
{
	const struct json_bounds bounds = {.depth = (size_t)depth, .values = SIZE_MAX};

	return json_parse_bounded(text, &bounds, object, message);
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
