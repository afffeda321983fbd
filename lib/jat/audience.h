/* jat/audience.h - who subscribed to which of our addresses
 *
 * Bounded, for each user too: one alone cannot fill the table. What changed is to be saved at most
 * once a second: subscriber_save_ms() says when. Pure.
 */
#ifndef OUTBOARD_JAT_AUDIENCE_H
#define OUTBOARD_JAT_AUDIENCE_H

#include "base/buf.h"
#include "base/table.h"

/* Addresses that one user may subscribe to. */
#define SUBSCRIBER_MAX_ADDRESSES 32

struct subscriber_table;

struct subscriber_table *subscriber_table_new(size_t max, size_t max_bytes, const uint64_t seed[2]);
void subscriber_table_free(struct subscriber_table *t);
/* user and address are bare JIDs. False when the table is full or he has
 * SUBSCRIBER_MAX_ADDRESSES; true if the pair is there already. */
bool subscriber_add(
	struct subscriber_table *t, struct span user, struct span address, int64_t now_ms);
void subscriber_remove(
	struct subscriber_table *t, struct span user, struct span address, int64_t now_ms);
bool subscriber_there(struct subscriber_table *t, struct span user, struct span address);
size_t subscriber_count(const struct subscriber_table *t);
void subscriber_each(const struct subscriber_table *t,
	void (*fn)(void *context, struct span user, struct span address), void *context);
/* All, one "USER TAB ADDRESS" a line; and back (lines that are none are passed over). */
void subscriber_format(const struct subscriber_table *t, struct buf *out);
void subscriber_parse(struct subscriber_table *t, struct span text);
/* When what changed should be saved, INT64_MAX: nothing has changed. */
int64_t subscriber_save_ms(const struct subscriber_table *t);
void subscriber_saved(struct subscriber_table *t, int64_t now_ms);

#endif
