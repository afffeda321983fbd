#include "share/origins.h"

#include <stdlib.h>

#include "base/deadline.h"
#include "base/err.h"
#include "base/table.h"
#include "share/key.h"
#include "xmpp/jid.h"

#define MESSAGE_MS (5 * 60 * 1000)
#define MESSAGES_MAX 20000
#define MESSAGES_MAX_BYTES (16 * 1024 * 1024)
/* Longer ones are not remembered. */
#define ID_MAX_BYTES 1023
#define ADDRESS_MS (INT64_C(30) * 24 * 3600 * 1000)
#define ADDRESSES_MAX_BYTES (64 * 1024 * 1024)

/* Keys, each with an instance; the record is a struct origin. */
struct kept {
	struct table *table;
	struct holdings *holdings;
};

struct origins {
	struct kept messages;  /* (to, from, id) */
	struct kept addresses; /* bare JIDs */
	struct buf key;
};

static void kept_init(struct kept *k, size_t max, size_t max_bytes, const uint64_t seed[2])
{
	k->table = table_new(max, max_bytes, seed);
	k->holdings = holdings_new(seed);
}

static void kept_free(struct kept *k)
{
	table_free(k->table);
	holdings_free(k->holdings);
}

static void drop(struct kept *k, struct table_entry *e)
{
	holdings_remove(k->holdings, &((struct origin *)table_record(e))->holding);
	table_remove(k->table, e);
}

/* group and name: whose entry it is. */
static void keep(struct kept *k, struct span key, int64_t deadline_ms, void *instance,
	struct span group, struct span name)
{
	struct holding *oldest;
	struct table_entry *e;
	struct origin *origin;

	while (!(e = table_add(k->table, key, sizeof(*origin), deadline_ms))) {
		oldest = holdings_victim(k->holdings);
		if (!oldest)
			return;
		drop(k, table_entry_of(oldest));
	}
	origin = table_record(e);
	origin->instance = instance;
	holdings_add(k->holdings, &origin->holding, group, name);
}

static bool is_of(void *instance, struct table_entry *e)
{
	return ((struct origin *)table_record(e))->instance == instance;
}

static void forget(struct kept *k, void *instance)
{
	size_t count;
	struct table_entry **all = table_gather(k->table, is_of, instance, &count);

	for (size_t i = 0; i < count; i++)
		drop(k, all[i]);
	free(all);
}

static void expire(struct kept *k, int64_t now_ms)
{
	struct table_entry *e;

	while ((e = table_earliest(k->table)) && e->deadline_ms <= now_ms)
		drop(k, e);
}

/* -------------------------------------------------------------------------- */

struct origins *origins_new(size_t max_addresses, const uint64_t seed[2])
{
	struct origins *o = xcalloc(1, sizeof(*o));

	kept_init(&o->messages, MESSAGES_MAX, MESSAGES_MAX_BYTES, seed);
	kept_init(&o->addresses, max_addresses, ADDRESSES_MAX_BYTES, seed);
	buf_init(&o->key, BUF_NO_MAX);
	return o;
}

void origins_free(struct origins *o)
{
	kept_free(&o->messages);
	kept_free(&o->addresses);
	buf_free(&o->key);
	free(o);
}

/* Its pointer's bytes. */
static struct span span_of_instance(void *const *instance)
{
	return (struct span){(const char *)instance, sizeof(*instance)};
}

void origins_note_message(struct origins *o, void *instance, const struct stanza *message,
	struct span from, int64_t now_ms)
{
	struct span holder = span_of_instance(&instance);

	if (message->id.n && message->id.n <= ID_MAX_BYTES && message->type != TYPE_ERROR)
		keep(&o->messages, share_key(&o->key, message->to, from, message->id),
			now_ms + MESSAGE_MS, instance, holder, holder);
}

void *origins_take_message(struct origins *o, const struct stanza *error)
{
	struct table_entry *e;
	void *instance;

	if (error->type != TYPE_ERROR || !error->id.n)
		return NULL;
	e = table_find(o->messages.table, share_key(&o->key, error->from, error->to, error->id));
	if (!e)
		return NULL;
	instance = ((struct origin *)table_record(e))->instance;
	drop(&o->messages, e);
	return instance;
}

void origins_note_address(struct origins *o, void *instance, struct span bare, int64_t now_ms)
{
	struct table_entry *e = table_find(o->addresses.table, bare);
	struct span holder = span_of_instance(&instance);
	struct jid jid;

	while (e && !is_of(instance, e))
		e = table_find_next(o->addresses.table, e);
	if (e) {
		table_deadline_set(o->addresses.table, e, now_ms + ADDRESS_MS);
		holdings_renew(&((struct origin *)table_record(e))->holding);
	} else if (jid_split(bare, &jid)) {
		keep(&o->addresses, bare, now_ms + ADDRESS_MS, instance, holder,
			share_key(&o->key, holder, jid.domain, SPAN("")));
	}
}

static const struct origin *origin_of(struct table_entry *e)
{
	return e ? table_record(e) : NULL;
}

const struct origin *origins_find(const struct origins *o, struct span bare)
{
	return origin_of(table_find(o->addresses.table, bare));
}

const struct origin *origins_next(const struct origins *o, const struct origin *origin)
{
	return origin_of(table_find_next(o->addresses.table, table_entry_of((void *)origin)));
}

size_t origins_addresses(const struct origins *o)
{
	return table_count(o->addresses.table);
}

void origins_forget(struct origins *o, void *instance)
{
	forget(&o->messages, instance);
	forget(&o->addresses, instance);
}

void origins_tick(struct origins *o, int64_t now_ms)
{
	expire(&o->messages, now_ms);
	expire(&o->addresses, now_ms);
}

int64_t origins_deadline(const struct origins *o)
{
	const int64_t all_ms[] = {
		table_deadline(o->messages.table), table_deadline(o->addresses.table)};

	return deadline_first(all_ms, sizeof(all_ms) / sizeof(all_ms[0]));
}
