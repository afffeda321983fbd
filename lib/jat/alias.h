/* jat/alias.h - random names for addresses that fit no encoding
 *
 * A table with two sides: name -> (JID, address asked) and back, so that a user keeps a name as
 * long as it is in use. Bounded; a name that has not been used for its time expires. When the table
 * is full, or one group holds half of it, the longest unused name of whoever has most makes room,
 * unless an open request may still need it. Pure.
 */
#ifndef OUTBOARD_JAT_ALIAS_H
#define OUTBOARD_JAT_ALIAS_H

#include "base/buf.h"
#include "base/random.h"
#include "base/table.h"

struct alias_config {
	size_t max, max_bytes;
	int64_t life_ms; /* after the last use */
	int64_t busy_ms; /* after the last use; until then it is not removed to make room */
	uint64_t seed[2];
	struct random_source random;
};

/* A name begins with this. No token does (a key id is a letter or digit), and no domain. */
#define ALIAS_MARK '-'

struct alias_table;

/* *config is copied; what it points to is borrowed until the end. */
struct alias_table *alias_table_new(const struct alias_config *config);
void alias_table_free(struct alias_table *t);
/* Append the name of jid, for which `asked` is the address asked, to out; it is made if there is
 * none, and its life begins anew. group: what the user counts under (base/holdings.h). False when
 * the table is full of names in use. */
bool alias_name(struct alias_table *t, struct span group, struct span jid, struct span asked,
	int64_t now_ms, struct buf *out);
/* The addresses that a name stands for; the spans live as long as it does. */
bool alias_find(
	const struct alias_table *t, struct span name, struct span *jid, struct span *asked);
size_t alias_count(const struct alias_table *t);

#endif
