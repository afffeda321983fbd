/* base/json.h - JSON, strictly (RFC 8259), through json-c
 */
#ifndef OUTBOARD_BASE_JSON_H
#define OUTBOARD_BASE_JSON_H

#include <json-c/json.h>

#include "base/buf.h"

enum json_status {
	JSON_OK,
	JSON_BAD,	/* not one whole JSON text */
	JSON_FORBIDDEN, /* it is, but nested deeper than `depth`, or with U+0000 in a string */
	JSON_TOO_MANY,	/* more values than are taken */
};

struct json_bounds {
	size_t depth;  /* levels that are open at once, the value inside among them */
	size_t values; /* objects, arrays, strings, numbers and words */
};

/* Parse one whole JSON text and nothing else: no comments, no NaN, no control characters in
 * strings, valid UTF-8. A byte order mark in front is passed over. The bounds are kept before
 * anything is built. On JSON_OK *object is the caller's to json_object_put() and may be NULL
 * (the text is "null"); else *object is NULL and what is wrong has been appended to message. */
enum json_status json_parse_bounded(struct span text, const struct json_bounds *bounds,
	struct json_object **object, struct buf *message);
/* The same with any number of values. */
enum json_status json_parse(
	struct span text, int depth, struct json_object **object, struct buf *message);

/* The bytes of a string, borrowed from it; absent if the value is none. */
struct span json_text(struct json_object *value);
/* The same of an object's member; absent if there is none, or no object. */
struct span json_member_text(struct json_object *object, const char *name);

/* Take the next byte outside of strings off a text that need not be JSON; NUL at the end.
 * *in_string: whether the text begins in a string. */
static inline char json_take_outside(struct span *text, bool *in_string)
{
	while (text->n) {
		char c = *text->p;

		*text = span_from(*text, *in_string && c == '\\' && text->n > 1 ? 2 : 1);
		if (c == '"')
			*in_string = !*in_string;
		else if (!*in_string && c)
			return c;
	}
	return '\0';
}

/* Whether each half of a pair of surrogates (\uD83D\uDE00) in a JSON text stands with the other:
 * one that is alone, which is no character, leaves json_parse() as U+FFFD. */
bool json_surrogates_paired(struct span text);

/* Append s as a JSON string with its quotes; always valid JSON: bytes that are no UTF-8 become
 * U+FFFD. False if out is full (some of it may have been appended). */
bool json_string(struct buf *out, struct span s);

#endif
