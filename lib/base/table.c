/* base/table.c - see base/table.h
 *
 * In a hash chain entries with equal keys stand side by side, oldest first: a group. The first and
 * the last of a group point to each other (peer), the entries between have no peer. So a search
 * jumps over whole groups of other keys, and a user who gives a thousand requests the same id slows
 * nobody down.
 *
 * Most deadlines are "now and so many seconds", so they are set in order: an entry whose deadline
 * is not before that of the last one in the list is appended to the list. All others go to a heap.
 * The earliest entry is the first of one of the two.
 */
#include "base/table.h"

#include <endian.h>
#include <stdlib.h>

#include "base/err.h"

#define FIRST_BUCKETS 64
#define FIRST_SLOTS 16
#define MAX_ENTRY_BYTES (UINT32_C(1) << 30)
#define RECORD_ALIGNMENT _Alignof(max_align_t)
#define RECORD_OFFSET                                                                              \
	((sizeof(struct table_entry) + RECORD_ALIGNMENT - 1) / RECORD_ALIGNMENT * RECORD_ALIGNMENT)

/* An element of the deadline heap. It repeats the deadline, so that sifting does not touch the
 * entries. */
struct slot {
	int64_t deadline_ms;
	struct table_entry *entry;
};

struct table {
	struct table_entry **buckets;
	size_t buckets_count; /* a power of two */
	TAILQ_HEAD(entry_list, table_entry) in_order;
	struct slot *heap;
	size_t heap_count, heap_room;
	size_t count, max_entries;
	size_t bytes, max_bytes;
	uint64_t seed[2];
};

struct table *table_new(size_t max_entries, size_t max_bytes, const uint64_t seed[2])
{
	struct table *r = xcalloc(1, sizeof *r);
	r->buckets_count = FIRST_BUCKETS;
	r->buckets = xcalloc(r->buckets_count, sizeof(*r->buckets));
	r->max_entries = max_entries;
	r->max_bytes = max_bytes;
	r->seed[0] = seed[0];
	r->seed[1] = seed[1];
	TAILQ_INIT(&r->in_order);
	return r;
}

void table_free(struct table *r)
{
	struct table_entry *e;

	if (!r)
		return;
	while ((e = TAILQ_FIRST(&r->in_order))) {
		TAILQ_REMOVE(&r->in_order, e, place.in_order);
		free(e);
	}
	for (size_t i = 0; i < r->heap_count; i++)
		free(r->heap[i].entry);
	free(r->heap);
	free(r->buckets);
	free(r);
}

/* --- SipHash-1-3 (Aumasson, Bernstein: SipHash: a fast short-input PRF, 2012): the variant with
 * fewer rounds, which others use for hash tables, too: nobody sees the hashes, only how long a
 * search takes. */

static inline uint64_t rotate(uint64_t x, int bits)
{
	return x << bits | x >> (64 - bits);
}

static inline void sip_round(uint64_t v[4])
{
	v[0] += v[1];
	v[2] += v[3];
	v[1] = rotate(v[1], 13) ^ v[0];
	v[3] = rotate(v[3], 16) ^ v[2];
	v[0] = rotate(v[0], 32);
	v[2] += v[1];
	v[0] += v[3];
	v[1] = rotate(v[1], 17) ^ v[2];
	v[3] = rotate(v[3], 21) ^ v[0];
	v[2] = rotate(v[2], 32);
}

static inline void sip_word(uint64_t v[4], uint64_t word)
{
	v[3] ^= word;
	sip_round(v);
	v[0] ^= word;
}

static inline uint64_t load_word(const char *p)
{
	uint64_t word;

	memcpy(&word, p, sizeof(word));
	return le64toh(word);
}

/* The bytes behind the last whole word, the lowest first. */
static inline uint64_t load_rest(struct span s)
{
	size_t rest = s.n & 7;
	uint64_t word = 0;

	if (rest && s.n > 8)
		return load_word(s.p + s.n - 8) >> (64 - 8 * rest);
	for (size_t i = 0; i < rest; i++)
		word |= (uint64_t)(unsigned char)s.p[s.n - rest + i] << (8 * i);
	return word;
}

uint64_t table_hash(const uint64_t seed[2], struct span s)
{
	/* "somepseudorandomlygeneratedbytes" */
	uint64_t v[4] = {
		seed[0] ^ UINT64_C(0x736f6d6570736575),
		seed[1] ^ UINT64_C(0x646f72616e646f6d),
		seed[0] ^ UINT64_C(0x6c7967656e657261),
		seed[1] ^ UINT64_C(0x7465646279746573),
	};

	for (size_t i = 0; i + 8 <= s.n; i += 8)
		sip_word(v, load_word(s.p + i));
	sip_word(v, load_rest(s) | (uint64_t)(s.n & 0xff) << 56);
	v[2] ^= 0xff;
	for (int i = 0; i < 3; i++)
		sip_round(v);
	return v[0] ^ v[1] ^ v[2] ^ v[3];
}

/* --- the hash table */

static struct table_entry **bucket(const struct table *r, uint32_t hash)
{
	return &r->buckets[hash & (r->buckets_count - 1)];
}

/* Insert first..last, which are linked already, where *at points. */
static void link_at(struct table_entry **at, struct table_entry *first, struct table_entry *last)
{
	last->chain = *at;
	if (*at)
		(*at)->chain_at = &last->chain;
	*at = first;
	first->chain_at = at;
}

/* The oldest entry of the key's group. */
static struct table_entry *find_group(const struct table *r, uint32_t hash, struct span key)
{
	for (struct table_entry *e = *bucket(r, hash); e; e = e->peer->chain)
		if (e->hash == hash && span_equal(table_entry_key(e), key))
			return e;
	return NULL;
}

static void grow(struct table *r)
{
	struct table_entry **old = r->buckets;
	size_t old_count = r->buckets_count;
	r->buckets_count = old_count * 2;
	r->buckets = xcalloc(r->buckets_count, sizeof(*r->buckets));
	for (size_t i = 0; i < old_count; i++)
		for (struct table_entry *e = old[i], *next; e; e = next) {
			struct table_entry *last = e->peer;
			next = last->chain;
			link_at(bucket(r, e->hash), e, last);
		}
	free(old);
}

static void group_add(struct table *r, struct table_entry *e)
{
	struct table_entry *first = find_group(r, e->hash, table_entry_key(e));
	if (!first) {
		e->first = true;
		e->peer = e;
		link_at(bucket(r, e->hash), e, e);
		return;
	}
	struct table_entry *last = first->peer;
	link_at(&last->chain, e, e);
	last->peer = NULL;
	first->peer = e;
	e->peer = first;
}

static void group_remove(struct table_entry *e)
{
	struct table_entry *other = e->peer;
	*e->chain_at = e->chain;
	if (e->chain)
		e->chain->chain_at = e->chain_at;
	if (!other || other == e)
		return;
	/* e was one end of a group of at least two: its neighbour is now */
	struct table_entry *end = e->chain;
	if (!e->first || !end)
		end = (struct table_entry *)(void *)((char *)e->chain_at -
						     offsetof(struct table_entry, chain));
	end->first = end->first || e->first;
	end->peer = other;
	other->peer = end;
}

/* --- deadlines */

static void heap_put(struct table *r, struct slot s, size_t at)
{
	r->heap[at] = s;
	s.entry->place.slot = at;
}

/* Move e from the slot `at` to the one that fits its deadline. */
static void heap_sift(struct table *r, struct table_entry *e, size_t at)
{
	struct slot own = {e->deadline_ms, e};

	while (at > 0) {
		size_t parent = (at - 1) / 2;
		if (r->heap[parent].deadline_ms <= own.deadline_ms)
			break;
		heap_put(r, r->heap[parent], at);
		at = parent;
	}
	for (;;) {
		size_t child = at * 2 + 1;
		if (child >= r->heap_count)
			break;
		if (child + 1 < r->heap_count &&
			r->heap[child + 1].deadline_ms < r->heap[child].deadline_ms)
			child++;
		if (own.deadline_ms <= r->heap[child].deadline_ms)
			break;
		heap_put(r, r->heap[child], at);
		at = child;
	}
	heap_put(r, own, at);
}

/* Of equal deadlines a new entry's comes last, one that was set again comes first: it is older. */
static void deadline_insert(struct table *r, struct table_entry *e, bool again)
{
	const struct table_entry *last = TAILQ_LAST(&r->in_order, entry_list);

	e->heaped = last && (again ? last->deadline_ms >= e->deadline_ms
				   : last->deadline_ms > e->deadline_ms);
	if (!e->heaped) {
		TAILQ_INSERT_TAIL(&r->in_order, e, place.in_order);
		return;
	}
	r->heap = xgrow(r->heap, &r->heap_room, r->heap_count, sizeof(*r->heap));
	heap_sift(r, e, r->heap_count++);
}

static void deadline_remove(struct table *r, struct table_entry *e)
{
	struct table_entry *last;

	if (!e->heaped) {
		TAILQ_REMOVE(&r->in_order, e, place.in_order);
		return;
	}
	last = r->heap[--r->heap_count].entry;
	if (last != e)
		heap_sift(r, last, e->place.slot);
}

/* --- entries */

struct table_key table_key(const struct table *r, struct span bytes)
{
	/* an absent key is the same as an empty one */
	if (!bytes.p)
		bytes = SPAN("");
	return (struct table_key){bytes, table_hash(r->seed, bytes)};
}

/* How many bytes the entry counts, 0 if a bound is reached. */
static size_t room_for(const struct table *r, size_t record_bytes, size_t key_bytes)
{
	size_t bytes;
	if (r->count >= r->max_entries ||
		__builtin_add_overflow(RECORD_OFFSET, record_bytes, &bytes) ||
		__builtin_add_overflow(bytes, key_bytes, &bytes) || bytes > MAX_ENTRY_BYTES - 1 ||
		bytes > r->max_bytes - r->bytes)
		return 0;
	return bytes;
}

struct table_entry *table_add(
	struct table *r, struct span bytes, size_t record_bytes, int64_t deadline_ms)
{
	struct table_key key;

	if (!room_for(r, record_bytes, bytes.n))
		return NULL;
	key = table_key(r, bytes);
	return table_add_hashed(r, &key, record_bytes, deadline_ms);
}

struct table_entry *table_add_hashed(
	struct table *r, const struct table_key *key, size_t record_bytes, int64_t deadline_ms)
{
	size_t bytes = room_for(r, record_bytes, key->bytes.n);
	if (!bytes)
		return NULL;
	if (r->count == r->buckets_count)
		grow(r);
	struct table_entry *e = xmalloc(bytes);
	memset(e, 0, RECORD_OFFSET + record_bytes);
	e->key_at = (uint32_t)(RECORD_OFFSET + record_bytes);
	e->key_n = (uint32_t)key->bytes.n & (MAX_ENTRY_BYTES - 1);
	if (key->bytes.n)
		memcpy((char *)e + e->key_at, key->bytes.p, key->bytes.n);
	e->hash = (uint32_t)key->hash;
	e->bytes = (uint32_t)bytes;
	e->deadline_ms = deadline_ms;
	group_add(r, e);
	deadline_insert(r, e, false);
	r->count++;
	r->bytes += bytes;
	return e;
}

void *table_record(struct table_entry *e)
{
	return (char *)e + RECORD_OFFSET;
}

struct table_entry *table_entry_of(void *record)
{
	return (struct table_entry *)(void *)((char *)record - RECORD_OFFSET);
}

struct span table_entry_key(const struct table_entry *e)
{
	return (struct span){(const char *)e + e->key_at, e->key_n};
}

bool table_charge(struct table *r, struct table_entry *e, size_t bytes)
{
	if (bytes > r->max_bytes - r->bytes || bytes > MAX_ENTRY_BYTES - e->bytes)
		return false;
	r->bytes += bytes;
	e->bytes += (uint32_t)bytes;
	return true;
}

struct table_entry *table_find(const struct table *r, struct span bytes)
{
	struct table_key key = table_key(r, bytes);

	return table_find_hashed(r, &key);
}

struct table_entry *table_find_hashed(const struct table *r, const struct table_key *key)
{
	return find_group(r, (uint32_t)key->hash, key->bytes);
}

struct table_entry *table_find_next(const struct table *r, const struct table_entry *e)
{
	(void)r;
	/* the last of a group points to its first, or to itself */
	return e->peer && (!e->first || e->peer == e) ? NULL : e->chain;
}

void table_deadline_set(struct table *r, struct table_entry *e, int64_t deadline_ms)
{
	if (deadline_ms == e->deadline_ms)
		return;
	deadline_remove(r, e);
	e->deadline_ms = deadline_ms;
	deadline_insert(r, e, true);
}

void table_remove(struct table *r, struct table_entry *e)
{
	group_remove(e);
	deadline_remove(r, e);
	r->count--;
	r->bytes -= e->bytes;
	free(e);
}

struct table_entry *table_earliest(const struct table *r)
{
	struct table_entry *e = TAILQ_FIRST(&r->in_order);

	if (r->heap_count && (!e || r->heap[0].deadline_ms <= e->deadline_ms))
		return r->heap[0].entry;
	return e;
}

int64_t table_deadline(const struct table *r)
{
	const struct table_entry *e = table_earliest(r);

	return e ? e->deadline_ms : INT64_MAX;
}

void table_each(
	const struct table *r, void (*fn)(void *context, struct table_entry *e), void *context)
{
	struct table_entry *e;

	TAILQ_FOREACH(e, &r->in_order, place.in_order)
	{
		fn(context, e);
	}
	for (size_t i = 0; i < r->heap_count; i++)
		fn(context, r->heap[i].entry);
}

struct gathering {
	bool (*fn)(void *context, struct table_entry *e);
	void *context;
	struct table_entry **list;
	size_t count;
};

static void gather(void *context, struct table_entry *e)
{
	struct gathering *g = context;

	if (!g->fn || g->fn(g->context, e))
		g->list[g->count++] = e;
}

struct table_entry **table_gather(const struct table *r,
	bool (*fn)(void *context, struct table_entry *e), void *context, size_t *count)
{
	struct gathering g = {.fn = fn,
		.context = context,
		.list = xcalloc(r->count + 1, sizeof(struct table_entry *))};

	table_each(r, gather, &g);
	*count = g.count;
	return g.list;
}

size_t table_count(const struct table *r)
{
	return r->count;
}

size_t table_bytes(const struct table *r)
{
	return r->bytes;
}
