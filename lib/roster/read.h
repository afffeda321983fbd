/* roster/read.h - what the files behind roster.h share: the lists in rosters and records that are
 * read from JSON
 */
#ifndef OUTBOARD_ROSTER_READ_H
#define OUTBOARD_ROSTER_READ_H

#include "base/json-reader.h"
#include "roster/roster.h"

#define ROSTER_JSON_DEPTH 16

/* Read a roster whose first token is `token`. It is a roster only if roster_read_end() finds no
 * fault with the text, either. */
enum roster_status roster_read(struct json_reader *reader, enum json_token token,
	const struct roster_rules *rules, struct roster *out, struct roster_skips *skips,
	struct buf *message);
/* Read to the end of the text. What is wrong with it as JSON replaces message. */
enum roster_status roster_read_end(struct json_reader *reader, struct buf *message);

/* Append a key as a normalised JID; false if it is none. The length of each part is checked before
 * it is prepared: preparing a long one would cost time for nothing. */
bool roster_key_normalise(struct span key, struct buf *jid);

void roster_skips_add(
	struct roster_skips *skips, struct span contact, struct span why, bool foreign);
/* Count as foreign the skipped keys that may not be contacts: all but bare JIDs with '@', and those
 * that keep has. */
void roster_skips_judge(struct roster_skips *skips, const struct roster_keep *keep);
/* The list is complete: make the index for roster_skips_has(). True if one of the skipped keys is
 * another spelling of a contact in r; r may be NULL. */
bool roster_skips_index(struct roster_skips *skips, const struct roster *r);

/* Of pointers to strings, for qsort(3) and bsearch(3). */
int roster_compare_texts(const void *a, const void *b);

#endif
