/* base/holdings.h - the holder of most entries of a bounded table, and the oldest of these entries
 *
 * When a table that users fill is full, the oldest entry of the holder with the most entries makes
 * room: so a user who fills it loses their own entries first. Holders stand in groups (the users of
 * a domain): of the group that has most the holder that has most. An entry embeds a struct holding;
 * adding, renewing, removing and finding the victim take O(1). Pure.
 */
#ifndef OUTBOARD_BASE_HOLDINGS_H
#define OUTBOARD_BASE_HOLDINGS_H

#include <stdint.h>
#include <sys/queue.h>

#include "base/span.h"

struct holder;
struct holding {
	struct holder *holder;
	TAILQ_ENTRY(holding) of_holder;
};

struct holdings;

struct holdings *holdings_new(const uint64_t seed[2]);
/* The owner frees entries that are still in it. */
void holdings_free(struct holdings *h);
/* A new entry, the newest of its holder. Both names are copied. */
void holdings_add(struct holdings *h, struct holding *item, struct span group, struct span name);
/* Make it the newest of its holder. */
void holdings_renew(struct holding *item);
void holdings_remove(struct holdings *h, struct holding *item);
/* The oldest entry of the holder with the most entries; NULL if there is none. Then the next
 * younger one of the same holder. */
struct holding *holdings_victim(const struct holdings *h);
struct holding *holdings_next(const struct holding *item);
/* Entries of one holder and the oldest of them; of one group. */
size_t holdings_of(const struct holdings *h, struct span name, struct holding **oldest);
size_t holdings_of_group(const struct holdings *h, struct span group);

#endif
