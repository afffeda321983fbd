#include "jat/audience.h"

#include <stdlib.h>

#include "base/err.h"

#define SAVE_INTERVAL_MS 1000

struct subscriber_table {
	struct table *all;   /* key: "USER NUL ADDRESS" */
	struct table *users; /* key: USER; record: size_t, his addresses */
	struct buf key;
	bool changed;
	int64_t save_ms, saved_ms;
};

struct subscriber_table *subscriber_table_new(size_t max, size_t max_bytes, const uint64_t seed[2])
{
	struct subscriber_table *t = xcalloc(1, sizeof(*t));

	t->all = table_new(max, max_bytes, seed);
	t->users = table_new(max, max_bytes, seed);
	t->save_ms = INT64_MAX;
	buf_init(&t->key, BUF_NO_MAX);
	return t;
}

void subscriber_table_free(struct subscriber_table *t)
{
	if (!t)
		return;
	table_free(t->all);
	table_free(t->users);
	buf_free(&t->key);
	free(t);
}

size_t subscriber_count(const struct subscriber_table *t)
{
	return table_count(t->all);
}

static struct table_entry *find(struct subscriber_table *t, struct span user, struct span address)
{
	buf_reset(&t->key);
	buf_append_span(&t->key, user);
	buf_append_char(&t->key, '\0');
	buf_append_span(&t->key, address);
	return table_find(t->all, buf_span(&t->key));
}

static void changed(struct subscriber_table *t, int64_t now_ms)
{
	t->changed = true;
	t->save_ms = t->saved_ms + SAVE_INTERVAL_MS;
	if (t->save_ms < now_ms)
		t->save_ms = now_ms;
}

bool subscriber_there(struct subscriber_table *t, struct span user, struct span address)
{
	return find(t, user, address) != NULL;
}

/* After find() has found nothing: the pair whose key it made. */
static bool insert(struct subscriber_table *t, struct span user)
{
	struct table_entry *own = table_find(t->users, user);
	size_t *addresses;

	if (!own)
		own = table_add(t->users, user, sizeof(size_t), INT64_MAX);
	if (!own)
		return false;
	addresses = table_record(own);
	if (*addresses < SUBSCRIBER_MAX_ADDRESSES &&
		table_add(t->all, buf_span(&t->key), 0, INT64_MAX)) {
		++*addresses;
		return true;
	}
	if (*addresses == 0)
		table_remove(t->users, own);
	return false;
}

bool subscriber_add(
	struct subscriber_table *t, struct span user, struct span address, int64_t now_ms)
{
	if (find(t, user, address))
		return true;
	if (!insert(t, user))
		return false;
	changed(t, now_ms);
	return true;
}

void subscriber_remove(
	struct subscriber_table *t, struct span user, struct span address, int64_t now_ms)
{
	struct table_entry *e = find(t, user, address), *own = table_find(t->users, user);

	if (!e)
		return;
	table_remove(t->all, e);
	if (--*(size_t *)table_record(own) == 0)
		table_remove(t->users, own);
	changed(t, now_ms);
}

int64_t subscriber_save_ms(const struct subscriber_table *t)
{
	return t->changed ? t->save_ms : INT64_MAX;
}

void subscriber_saved(struct subscriber_table *t, int64_t now_ms)
{
	t->changed = false;
	t->saved_ms = now_ms;
}

struct each {
	void (*fn)(void *context, struct span user, struct span address);
	void *context;
};

static void each_entry(void *context, struct table_entry *e)
{
	struct each *each = context;
	const char *zero = memchr(e->key.p, '\0', e->key.n);
	size_t n = (size_t)(zero - e->key.p);

	each->fn(each->context, (struct span){e->key.p, n}, span_from(e->key, n + 1));
}

void subscriber_each(const struct subscriber_table *t,
	void (*fn)(void *context, struct span user, struct span address), void *context)
{
	struct each each = {fn, context};

	table_each(t->all, each_entry, &each);
}

static void format_one(void *context, struct span user, struct span address)
{
	struct buf *out = context;

	buf_append_span(out, user);
	buf_append_char(out, '\t');
	buf_append_span(out, address);
	buf_append_char(out, '\n');
}

void subscriber_format(const struct subscriber_table *t, struct buf *out)
{
	subscriber_each(t, format_one, out);
}

void subscriber_parse(struct subscriber_table *t, struct span text)
{
	while (text.n) {
		const char *newline = memchr(text.p, '\n', text.n);
		size_t n = newline ? (size_t)(newline - text.p) : text.n;
		const char *tab = memchr(text.p, '\t', n);
		struct span user = {text.p, tab ? (size_t)(tab - text.p) : 0};

		if (user.n && user.n + 1 < n &&
			!find(t, user, (struct span){tab + 1, n - user.n - 1}))
			insert(t, user);
		text = span_from(text, newline ? n + 1 : n);
	}
}
