/* plumbing/json-input.h - lines with JSON objects, read as stanzas (--json)
 *
 * xmpp/jsonobjects puts the lines of an object together, xmpp/jsonlines makes a stanza of it. What
 * is wrong is reported with its line; members that mean nothing are logged.
 */
#ifndef OUTBOARD_PLUMBING_JSON_INPUT_H
#define OUTBOARD_PLUMBING_JSON_INPUT_H

#include "loop/source.h"

struct json_input;

/* *limits is copied. only_iq: see jsonlines_new(). name: of the input, for the log; borrowed. Calls
 * ops->stanza and ops->bad. */
struct json_input *json_input_new(const struct reader_config *limits, bool only_iq,
	const char *name, const struct source_ops *ops, void *context);
/* NULL is fine. */
void json_input_free(struct json_input *in);
/* A line, without its newline. */
void json_input_line(struct json_input *in, struct span line, size_t number);
void json_input_end(struct json_input *in);
/* Whether an object has begun and is not whole. */
bool json_input_inside(const struct json_input *in);

#endif
