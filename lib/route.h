/* route.h - the table of open requests
 *
 * Every program that waits for an answer keeps its open requests here: hashed by
 * a key of bytes (whatever identifies the answer: addresses and id), ordered by
 * deadline, bounded in number and in bytes. Pure: time and the hash seed are
 * passed in (users choose ids, so the hash is keyed).
 *
 * An entry is one allocation: struct route_entry, then the owner's record, then
 * the key. Entries with equal keys are kept in the order they were added. Adding, finding and
 * removing take O(1) plus O(log n) for the deadline, also when all keys are equal.
 */
#ifndef OUTBOARD_ROUTE_H
#define OUTBOARD_ROUTE_H

#include <stdint.h>

#include "span.h"

struct route_entry {
	int64_t deadline_ms;
	struct span key; /* owned with the entry */
	uint64_t hash;
	size_t bytes;
	/* the rest is private: place in the deadline heap, in the hash chain, among equal keys */
	size_t slot;
	struct route_entry *chain, **chain_at;
	struct route_entry *peer;
	bool first;
};

struct route;

/* max_bytes counts entries, records, keys and what route_charge() adds. */
struct route *route_new(size_t max_entries, size_t max_bytes, const uint64_t seed[2]);
/* Frees the entries; what records point to is the owner's business. */
void route_free(struct route *r);

/* New entry with a zeroed record of record_bytes behind it (route_record) and a copy of key.
 * NULL when a bound is reached. */
struct route_entry *route_add(
	struct route *r, struct span key, size_t record_bytes, int64_t deadline_ms);
/* A key with its hash, for who looks for it and then adds it: hashing costs more than the rest. The
 * bytes are borrowed. */
struct route_key {
	struct span bytes;
	uint64_t hash;
};
struct route_key route_key(const struct route *r, struct span bytes);
struct route_entry *route_add_hashed(
	struct route *r, const struct route_key *key, size_t record_bytes, int64_t deadline_ms);
void *route_record(struct route_entry *e);
struct route_entry *route_entry_of(void *record);
/* Count bytes more (kept with a record); false (nothing counted) over the bound. */
bool route_charge(struct route *r, struct route_entry *e, size_t bytes);
/* Oldest entry with this key, NULL if none; then the next one with the same key. */
struct route_entry *route_find(const struct route *r, struct span key);
struct route_entry *route_find_hashed(const struct route *r, const struct route_key *key);
struct route_entry *route_find_next(const struct route *r, const struct route_entry *e);
void route_deadline_set(struct route *r, struct route_entry *e, int64_t deadline_ms);
/* Unlink and free. */
void route_remove(struct route *r, struct route_entry *e);
/* The entry with the earliest deadline, NULL if empty. */
struct route_entry *route_earliest(const struct route *r);
/* Its deadline, INT64_MAX if empty. */
int64_t route_deadline(const struct route *r);
/* Call fn for each entry, in no order; fn must not add or remove entries. */
void route_each(
	const struct route *r, void (*fn)(void *context, struct route_entry *e), void *context);
/* Those that fn says true of (NULL: all), in no order, for what adds or removes entries or sets
 * deadlines: an array that the caller frees. */
struct route_entry **route_gather(const struct route *r,
	bool (*fn)(void *context, struct route_entry *e), void *context, size_t *count);
size_t route_count(const struct route *r);
size_t route_bytes(const struct route *r);
/* SipHash-2-4 of s under the seed: for other tables that hold what users choose. */
uint64_t route_hash(const uint64_t seed[2], struct span s);

#endif
