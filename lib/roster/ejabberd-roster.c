#include "roster/ejabberd-roster.h"

#include <string.h>

#include "base/err.h"
#include "base/json.h"
#include "xmpp/jid.h"

/* "G1;G2", how 23.01 writes groups: so none has a semicolon in its name. */
static void split_groups(struct roster_item *item, struct span groups)
{
	while (groups.n) {
		struct span group = span_take_until(&groups, ';');

		if (group.n)
			roster_item_group(item, group);
	}
}

void ejabberd_groups_split(struct roster_item *item)
{
	struct roster_item split = {.subscription = item->subscription};
	bool any = false;

	for (size_t i = 0; i < item->groups_count && !any; i++)
		any = strchr(item->groups[i], ';') != NULL;
	if (!any)
		return;
	split.jid = xstrdup(item->jid);
	split.name = item->name ? xstrdup(item->name) : NULL;
	for (size_t i = 0; i < item->groups_count; i++)
		split_groups(&split, span_of(item->groups[i]));
	roster_item_groups_sort(&split);
	roster_item_free(item);
	*item = split;
}

static void add_groups(struct roster_item *item, struct json_object *entry)
{
	struct json_object *groups;

	if (json_object_object_get_ex(entry, "groups", &groups) &&
		json_object_is_type(groups, json_type_array))
		for (size_t i = 0; i < json_object_array_length(groups); i++) {
			struct span g = json_text(json_object_array_get_idx(groups, i));

			if (g.n)
				roster_item_group(item, g);
		}
	split_groups(item, json_member_text(entry, "group"));
	roster_item_groups_sort(item);
}

/* Merge, in a sorted roster, the entries of one contact into one item with the groups of all. */
static void merge_repeated(struct roster *r)
{
	struct roster_item *last = r->items;

	for (size_t i = 1; i < r->count; i++) {
		struct roster_item *item = &r->items[i];

		if (strcmp(last->jid, item->jid) != 0) {
			*++last = *item;
			continue;
		}
		for (size_t g = 0; g < item->groups_count; g++)
			roster_item_group(last, span_of(item->groups[g]));
		last->asking |= item->asking;
		roster_item_groups_sort(last);
		roster_item_free(item);
	}
	r->count = (size_t)(last - r->items) + 1;
}

bool ejabberd_roster_parse(struct span text, struct roster *out)
{
	const struct json_bounds bounds = {.depth = 16, .values = (size_t)1 << 21};
	struct json_object *list, *entry;
	struct buf jid;
	bool ok;

	roster_init(out);
	buf_init(&jid, BUF_NO_MAX);
	ok = json_parse_bounded(text, &bounds, &list, &jid) == JSON_OK &&
	     json_object_is_type(list, json_type_array);
	for (size_t i = 0; ok && i < json_object_array_length(list); i++) {
		struct roster_item item = {.subscription = ROSTER_NONE};
		struct span nick, subscription;

		entry = json_object_array_get_idx(list, i);
		nick = json_member_text(entry, "nick");
		subscription = json_member_text(entry, "subscription");
		buf_reset(&jid);
		/* a record cannot hold an item with a resource, and the API cannot delete it
		 * alone */
		if (!jid_normalise(json_member_text(entry, "jid"), &jid) ||
			jid_is_full(buf_span(&jid)))
			continue;
		item.jid = xstrdup(buf_string(&jid));
		if (nick.n)
			item.name = xstrndup(nick.p, nick.n);
		if (subscription.n)
			roster_subscription_parse(subscription, &item.subscription);
		item.asking = span_is(json_member_text(entry, "ask"), "subscribe") ||
			      span_is(json_member_text(entry, "pending"), "subscribe");
		add_groups(&item, entry);
		roster_add_take(out, &item);
	}
	if (!roster_sort(out))
		merge_repeated(out);
	buf_free(&jid);
	json_object_put(list);
	return ok;
}
