#include "jat/alias.h"

#include <stdlib.h>

#include "base/err.h"
#include "base/holdings.h"
#include "xmpp/jid.h"

struct alias {
	struct holding holding; /* first member, so that a pointer to it is one to the alias */
	struct table_entry *by_address;
	struct span jid, asked; /* in text */
	char *text;
};

struct alias_table {
	struct alias_config config;
	struct table *names, *addresses;
	struct holdings *holdings;
	struct buf key;
};

struct alias_table *alias_table_new(const struct alias_config *config)
{
	struct alias_table *t = xcalloc(1, sizeof(*t));

	t->config = *config;
	t->names = table_new(config->max, config->max_bytes, config->seed);
	t->addresses = table_new(config->max, config->max_bytes, config->seed);
	t->holdings = holdings_new(config->seed);
	buf_init(&t->key, BUF_NO_MAX);
	return t;
}

static void alias_remove(struct alias_table *t, struct table_entry *e)
{
	struct alias *a = table_record(e);

	holdings_remove(t->holdings, &a->holding);
	table_remove(t->addresses, a->by_address);
	free(a->text);
	table_remove(t->names, e);
}

void alias_table_free(struct alias_table *t)
{
	struct table_entry *e;

	if (!t)
		return;
	while ((e = table_earliest(t->names)))
		alias_remove(t, e);
	table_free(t->names);
	table_free(t->addresses);
	holdings_free(t->holdings);
	buf_free(&t->key);
	free(t);
}

size_t alias_count(const struct alias_table *t)
{
	return table_count(t->names);
}

static bool is_busy(const struct alias_table *t, const struct table_entry *e, int64_t now_ms)
{
	return e->deadline_ms - t->config.life_ms + t->config.busy_ms >= now_ms;
}

/* False: all names of the largest group are in use. */
static bool evict(struct alias_table *t, int64_t now_ms)
{
	struct holding *item = holdings_victim(t->holdings);

	for (; item; item = holdings_next(item)) {
		struct table_entry *e = table_entry_of(item);

		if (is_busy(t, e, now_ms))
			continue;
		alias_remove(t, e);
		return true;
	}
	return false;
}

/* Add an alias and its two entries; NULL: a bound is reached. t->key holds the key of the address.
 */
static struct alias *insert(
	struct alias_table *t, struct span jid, struct span asked, int64_t now_ms)
{
	struct table_entry *e, *address = table_add(t->addresses, buf_span(&t->key),
				       sizeof(struct table_entry *), INT64_MAX);
	char digits[RANDOM_NAME_CHARS + 1];
	struct buf name;
	struct alias *a;

	if (!address)
		return NULL;
	buf_init(&name, BUF_NO_MAX);
	buf_append_char(&name, ALIAS_MARK);
	buf_append_span(&name, random_name(&t->config.random, digits));
	e = table_add(t->names, buf_span(&name), sizeof(*a), now_ms + t->config.life_ms);
	buf_free(&name);
	if (!e || !table_charge(t->names, e, jid.n + asked.n)) {
		if (e)
			table_remove(t->names, e);
		table_remove(t->addresses, address);
		return NULL;
	}
	*(struct table_entry **)table_record(address) = e;
	a = table_record(e);
	a->by_address = address;
	a->text = xmalloc(jid.n + asked.n + 1);
	memcpy(a->text, jid.p, jid.n);
	memcpy(a->text + jid.n, asked.p, asked.n);
	a->jid = (struct span){a->text, jid.n};
	a->asked = (struct span){a->text + jid.n, asked.n};
	return a;
}

bool alias_name(struct alias_table *t, struct span group, struct span jid, struct span asked,
	int64_t now_ms, struct buf *out)
{
	struct table_entry *e, *address;
	struct alias *a;

	buf_reset(&t->key);
	buf_append_span(&t->key, jid);
	buf_append_char(&t->key, '\0');
	buf_append_span(&t->key, asked);
	address = table_find(t->addresses, buf_span(&t->key));
	if (address) {
		e = *(struct table_entry **)table_record(address);
		holdings_renew(&((struct alias *)table_record(e))->holding);
		table_deadline_set(t->names, e, now_ms + t->config.life_ms);
		return buf_append_span(out, table_entry_key(e));
	}
	while ((e = table_earliest(t->names)) && e->deadline_ms <= now_ms)
		alias_remove(t, e);
	if (holdings_of_group(t->holdings, group) >= (t->config.max + 1) / 2 && !evict(t, now_ms))
		return false;
	while (!(a = insert(t, jid, asked, now_ms)))
		if (!evict(t, now_ms))
			return false;
	holdings_add(t->holdings, &a->holding, group, jid_bare(jid));
	return buf_append_span(out, table_entry_key(table_entry_of(a)));
}

bool alias_find(const struct alias_table *t, struct span name, struct span *jid, struct span *asked)
{
	struct table_entry *e = table_find(t->names, name);
	struct alias *a = e ? table_record(e) : NULL;

	if (!a)
		return false;
	*jid = a->jid;
	*asked = a->asked;
	return true;
}
