/* xmpp/jsonlines.h - stanzas on a pipe that speaks JSON, an object a line (--json)
 *
 * As stanza-json.h for one object, with the limits of a stream of them. Invariant: a line becomes a
 * stanza that a reader has read, within the reader's limits or refused by it, so other modules
 * cannot tell it from a stanza that came as XML.
 */
#ifndef OUTBOARD_XMPP_JSONLINES_H
#define OUTBOARD_XMPP_JSONLINES_H

#include "xmpp/stanza-json.h"

/* The longest line for stanzas of at most this size: what `<b/>` becomes, and more. */
size_t jsonlines_max_bytes(int64_t max_stanza_bytes);

/* Append s as a line. id: instead of its own; SPAN_NONE keeps that. WRITER_TOO_LARGE: the line
 * would be longer than max_bytes, or does not fit into an empty out; nothing is appended then. */
enum writer_status jsonlines_append(
	const struct stanza *s, struct span id, size_t max_bytes, struct buf *out);

struct jsonlines;

/* *limits is copied. only_iq: an object without a kind is an iq, and other kinds are refused. */
struct jsonlines *jsonlines_new(const struct reader_config *limits, bool only_iq);
/* Of only_iq: messages are taken as well. */
void jsonlines_take_messages(struct jsonlines *j);
void jsonlines_free(struct jsonlines *j);
/* Read the object that is the whole text, as line `number`. A text with more values than the
 * largest stanza has is refused unread: they would take hundreds of times its bytes. NULL, and *s
 * is valid until the next call; else what is wrong with it (static). *id is then the id it has, as
 * far as it is an object with one, else SPAN_NONE; also valid until the next call. */
const char *jsonlines_read(
	struct jsonlines *j, struct span text, size_t number, struct stanza *s, struct span *id);
/* The names of members of the last object that mean nothing there ("'a', 'b'"), NULL if it has
 * none; to be told. */
const char *jsonlines_unknown(const struct jsonlines *j);

#endif
