/* base/table.h - a bounded hash table whose entries have deadlines: open requests and the like
 *
 * Every program that waits for an answer keeps its open requests here: hashed by
 * a key of bytes (whatever identifies the answer: addresses and id), ordered by
 * deadline, bounded in number and in bytes. Pure: time and the hash seed are
 * passed in (users choose ids, so the hash is keyed).
 *
 * An entry is one allocation: struct table_entry, then the owner's record, then
 * the key. Entries with equal keys are kept in the order they were added. Adding, finding and
 * removing take O(1), also when all keys are equal, and O(log n) more where deadlines are not set
 * in order (base/table.c). An entry may hold 1 GiB.
 */
#ifndef OUTBOARD_BASE_TABLE_H
#define OUTBOARD_BASE_TABLE_H

#include <stdint.h>
#include <sys/queue.h>

#include "base/span.h"

struct table_entry {
	int64_t deadline_ms;
	/* the rest is private: place among the deadlines, in the hash chain, among equal keys */
	union {
		TAILQ_ENTRY(table_entry) in_order;
		size_t slot;
	} place;
	struct table_entry *chain, **chain_at;
	struct table_entry *peer;
	uint32_t hash; /* the part of it that the buckets use */
	uint32_t bytes;
	uint32_t key_at; /* the key's first byte, counted from the entry */
	uint32_t key_n : 30;
	uint32_t first : 1;  /* of its group */
	uint32_t heaped : 1; /* place.slot is valid, not place.in_order */
};

struct table;

/* max_bytes counts entries, records, keys and what table_charge() adds. */
struct table *table_new(size_t max_entries, size_t max_bytes, const uint64_t seed[2]);
/* Frees the entries. The owner frees what the records point to. */
void table_free(struct table *r);

/* New entry with a zeroed record of record_bytes behind it (table_record) and a copy of key.
 * NULL when a bound is reached. */
struct table_entry *table_add(
	struct table *r, struct span key, size_t record_bytes, int64_t deadline_ms);
/* A key with its hash, for callers that search and then add: hashing costs more than the rest. The
 * bytes are borrowed. */
struct table_key {
	struct span bytes;
	uint64_t hash;
};
struct table_key table_key(const struct table *r, struct span bytes);
struct table_entry *table_add_hashed(
	struct table *r, const struct table_key *key, size_t record_bytes, int64_t deadline_ms);
void *table_record(struct table_entry *e);
struct table_entry *table_entry_of(void *record);
/* Its key, owned with the entry. */
struct span table_entry_key(const struct table_entry *e);
/* Count bytes more (kept with a record); false (nothing counted) over the bound. */
bool table_charge(struct table *r, struct table_entry *e, size_t bytes);
/* Oldest entry with this key, NULL if none; then the next one with the same key. */
struct table_entry *table_find(const struct table *r, struct span key);
struct table_entry *table_find_hashed(const struct table *r, const struct table_key *key);
struct table_entry *table_find_next(const struct table *r, const struct table_entry *e);
void table_deadline_set(struct table *r, struct table_entry *e, int64_t deadline_ms);
/* Unlink and free. */
void table_remove(struct table *r, struct table_entry *e);
/* The entry with the earliest deadline, NULL if empty. */
struct table_entry *table_earliest(const struct table *r);
/* Its deadline, INT64_MAX if empty. */
int64_t table_deadline(const struct table *r);
/* Call fn for each entry, in no order; fn must not add or remove entries. */
void table_each(
	const struct table *r, void (*fn)(void *context, struct table_entry *e), void *context);
/* An array of the entries for which fn is true (NULL: of all), in no order; the caller frees it.
 * Entries may be added and removed, and deadlines set, while it is used. */
struct table_entry **table_gather(const struct table *r,
	bool (*fn)(void *context, struct table_entry *e), void *context, size_t *count);
size_t table_count(const struct table *r);
size_t table_bytes(const struct table *r);
/* SipHash-1-3 of s under the seed: for other tables that hold what users choose. */
uint64_t table_hash(const uint64_t seed[2], struct span s);

#endif
