#include "roster/roster.h"

#include <stdlib.h>

#include "base/err.h"
#include "xmpp/jid.h"
#include "base/json.h"
#include "roster/read.h"

int roster_compare_texts(const void *a, const void *b)
{
	return strcmp(*(char *const *)a, *(char *const *)b);
}

/* Items ------------------------------------------------------------------ */

void roster_init(struct roster *r)
{
	*r = (struct roster){0};
}

void roster_item_free(struct roster_item *item)
{
	if (item->block) {
		free(item->block);
		*item = (struct roster_item){0};
		return;
	}
	for (size_t i = 0; i < item->groups_count; i++)
		free(item->groups[i]);
	free(item->groups);
	free(item->name);
	free(item->jid);
	*item = (struct roster_item){0};
}

void roster_free(struct roster *r)
{
	for (size_t i = 0; i < r->count; i++)
		roster_item_free(&r->items[i]);
	free(r->items);
	roster_init(r);
}

/* What is kept ----------------------------------------------------------- */

void roster_keep_init(struct roster_keep *k)
{
	buf_init(&k->jids, BUF_NO_MAX);
	buf_init(&k->domains, BUF_NO_MAX);
	buf_init(&k->above, BUF_NO_MAX);
	buf_init(&k->groups, BUF_NO_MAX);
}

void roster_keep_free(struct roster_keep *k)
{
	buf_free(&k->jids);
	buf_free(&k->domains);
	buf_free(&k->above);
	buf_free(&k->groups);
}

bool roster_keep_add(struct roster_keep *k, const char *text)
{
	bool above = strncmp(text, "*.", 2) == 0;
	bool address = strchr(text, '@') != NULL;
	struct buf jid;
	bool ok;

	buf_init(&jid, BUF_NO_MAX);
	ok = address ? !above && jid_normalise(span_of(text), &jid) && !jid_is_full(buf_span(&jid))
		     : jid_normalise_domain(span_of(above ? text + 2 : text), &jid);
	if (ok)
		buf_append(address ? &k->jids
			   : above ? &k->above
				   : &k->domains,
			buf_string(&jid), buf_length(&jid) + 1);
	buf_free(&jid);
	return ok;
}

void roster_keep_add_group(struct roster_keep *k, const char *name)
{
	buf_append(&k->groups, name, strlen(name) + 1);
}

/* The text behind `text` in a list of texts that each end with a NUL; NULL at its end. */
static const char *text_next(const struct buf *list, const char *text)
{
	struct span all = buf_span(list);

	text = text ? text + strlen(text) + 1 : all.p;
	return text && text < all.p + all.n ? text : NULL;
}

static bool text_among(const struct buf *list, struct span text)
{
	for (const char *one = NULL; (one = text_next(list, one));)
		if (span_is(text, one))
			return true;
	return false;
}

bool roster_keep_has(const struct roster_keep *k, const char *jid)
{
	struct span domain = jid_domain(span_of(jid));

	if (!k)
		return false;
	for (const char *above = NULL; (above = text_next(&k->above, above));) {
		size_t n = strlen(above);

		if (domain.n > n + 1 && domain.p[domain.n - n - 1] == '.' &&
			memcmp(domain.p + domain.n - n, above, n) == 0)
			return true;
	}
	return text_among(&k->domains, domain) || text_among(&k->jids, span_of(jid));
}

bool roster_keep_has_group(const struct roster_keep *k, const struct roster_item *item)
{
	for (size_t i = 0; k && item && i < item->groups_count; i++)
		if (text_among(&k->groups, span_of(item->groups[i])))
			return true;
	return false;
}

void roster_add_take(struct roster *r, struct roster_item *item)
{
	r->items = xgrow(r->items, &r->size, r->count, sizeof(*r->items));
	r->items[r->count++] = *item;
	*item = (struct roster_item){0};
}

static int by_jid(const void *a, const void *b)
{
	return strcmp(((const struct roster_item *)a)->jid, ((const struct roster_item *)b)->jid);
}

bool roster_sort(struct roster *r)
{
	bool sorted = true;

	for (size_t i = 1; i < r->count && sorted; i++)
		sorted = by_jid(&r->items[i - 1], &r->items[i]) < 0;
	if (sorted)
		return true;
	qsort(r->items, r->count, sizeof(*r->items), by_jid);
	for (size_t i = 1; i < r->count; i++)
		if (by_jid(&r->items[i - 1], &r->items[i]) == 0)
			return false;
	return true;
}

const struct roster_item *roster_find(const struct roster *r, const char *jid)
{
	const struct roster_item key = {.jid = (char *)jid};

	return r->count ? bsearch(&key, r->items, r->count, sizeof(*r->items), by_jid) : NULL;
}

static const char *const subscriptions[] = {"none", "to", "from", "both"};

const char *roster_subscription_name(enum roster_subscription s)
{
	return subscriptions[s];
}

bool roster_subscription_parse(struct span name, enum roster_subscription *out)
{
	for (int i = ROSTER_NONE; i <= ROSTER_BOTH; i++)
		if (span_is(name, subscriptions[i])) {
			*out = (enum roster_subscription)i;
			return true;
		}
	return false;
}

void roster_item_group(struct roster_item *item, struct span group)
{
	/* room is doubled at powers of two */
	if ((item->groups_count & (item->groups_count - 1)) == 0)
		item->groups = xrealloc(item->groups,
			(item->groups_count ? item->groups_count * 2 : 1) * sizeof(char *));
	item->groups[item->groups_count++] = xstrndup(group.p, group.n);
}

void roster_item_groups_sort(struct roster_item *item)
{
	size_t kept = 0;

	if (item->groups_count > 1)
		qsort(item->groups, item->groups_count, sizeof(*item->groups),
			roster_compare_texts);
	for (size_t i = 0; i < item->groups_count; i++) {
		if (!kept || strcmp(item->groups[kept - 1], item->groups[i]) != 0)
			item->groups[kept++] = item->groups[i];
		else if (!item->block)
			free(item->groups[i]);
	}
	item->groups_count = kept;
}

/* Writing ---------------------------------------------------------------- */

void roster_item_format(const struct roster_item *item, struct buf *out)
{
	buf_append_char(out, '{');
	if (item->name) {
		buf_append_string(out, "\"name\":");
		json_string(out, span_of(item->name));
		buf_append_char(out, ',');
	}
	if (item->groups_count) {
		buf_append_string(out, "\"groups\":[");
		for (size_t i = 0; i < item->groups_count; i++) {
			if (i)
				buf_append_char(out, ',');
			json_string(out, span_of(item->groups[i]));
		}
		buf_append_string(out, "],");
	}
	/* printf would take as much time as all the rest of the contact */
	buf_append_string(out, "\"subscription\":\"");
	buf_append_string(out, subscriptions[item->subscription]);
	buf_append_string(out, "\"}");
}

void roster_format(const struct roster *r, struct buf *out)
{
	buf_append_char(out, '{');
	for (size_t i = 0; i < r->count; i++) {
		if (i)
			buf_append_char(out, ',');
		json_string(out, span_of(r->items[i].jid));
		buf_append_char(out, ':');
		roster_item_format(&r->items[i], out);
	}
	buf_append_char(out, '}');
}

/* Differences ------------------------------------------------------------ */

static bool names_differ(const struct roster_item *a, const struct roster_item *b)
{
	return !a->name != !b->name || (a->name && strcmp(a->name, b->name) != 0);
}

static bool groups_differ(const struct roster_item *a, const struct roster_item *b)
{
	if (a->groups_count != b->groups_count)
		return true;
	for (size_t i = 0; i < a->groups_count; i++)
		if (strcmp(a->groups[i], b->groups[i]) != 0)
			return true;
	return false;
}

void roster_diff(const struct roster *from, const struct roster *to,
	void (*fn)(void *context, const struct roster_change *c), void *context)
{
	size_t i = 0, j = 0;

	while (i < from->count || j < to->count) {
		int order = i == from->count ? 1
			    : j == to->count ? -1
					     : by_jid(&from->items[i], &to->items[j]);
		struct roster_change c = {0};

		if (order <= 0)
			c.old = &from->items[i++];
		if (order >= 0)
			c.new = &to->items[j++];
		if (c.old && c.new) {
			c.kind = CHANGE_UPDATE;
			c.name = names_differ(c.old, c.new);
			c.groups = groups_differ(c.old, c.new);
			c.subscription = c.old->subscription != c.new->subscription;
			c.request = c.old->asking || c.old->asked;
			if (!c.name && !c.groups && !c.subscription && !c.request)
				continue;
		} else {
			c.kind = c.new ? CHANGE_ADD : CHANGE_REMOVE;
		}
		fn(context, &c);
	}
}
