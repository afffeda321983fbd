/* base/json-reader.h - JSON read token by token, strictly (RFC 8259)
 *
 * json-c builds a tree of everything: an empty object costs 720 bytes there, so that 1 MB of "{}"
 * takes 250 MB. This reader holds one token and one byte for each level that is open. json_parse()
 * uses it to check a text before the tree is made; rosters are read without a tree.
 *
 * Invariants: JSON_READ_END comes only after one whole JSON text and nothing else: no comments, no
 * NaN, no control characters in strings, valid UTF-8, no U+0000, no value deeper than `depth`, at
 * most `max_values` values. Until then the text may still turn out to be wrong. A byte order mark
 * in front is passed over. Half of a pair of surrogates becomes U+FFFD. Pure.
 */
#ifndef OUTBOARD_BASE_JSON_READER_H
#define OUTBOARD_BASE_JSON_READER_H

#include "base/buf.h"
#include "base/json.h"
#include "base/span.h"

enum json_token {
	JSON_READ_OBJECT,
	JSON_READ_OBJECT_END,
	JSON_READ_ARRAY,
	JSON_READ_ARRAY_END,
	JSON_READ_NAME, /* of a member; its value follows */
	JSON_READ_STRING,
	JSON_READ_NUMBER,
	JSON_READ_TRUE,
	JSON_READ_FALSE,
	JSON_READ_NULL,
	JSON_READ_END,
	JSON_READ_WRONG, /* status and why say what; every further token is this one */
};

struct json_reader {
	/* NAME, STRING: the decoded text, NUMBER: its digits; until the next token */
	struct span text;
	const char *p; /* behind the last token, in the text given */
	enum json_status status;
	const char *why; /* static */
	size_t values;	 /* read so far, names of members not among them */
	size_t numbers;	 /* of these */
	/* private */
	const char *end;
	struct buf open, decoded; /* '{' or '[' for each level */
	size_t depth, max_values;
	unsigned char expected;
	bool nul;
};

/* text is borrowed until the end. */
void json_reader_init(struct json_reader *r, struct span text, size_t depth, size_t max_values);
void json_reader_free(struct json_reader *r);
enum json_token json_reader_next(struct json_reader *r);
/* Pass over the rest of the value that `token` begins. */
void json_reader_skip(struct json_reader *r, enum json_token token);
/* Objects and arrays that are open. */
static inline size_t json_reader_level(const struct json_reader *r)
{
	return buf_length(&r->open);
}
/* text without a byte order mark (U+FEFF) at its front. */
struct span json_without_bom(struct span text);

#endif
