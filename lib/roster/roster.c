#include "roster/roster.h"

#include <errno.h>
#include <stdlib.h>

#include "base/err.h"
#include "base/utf8.h"
#include "xmpp/jid.h"
#include "base/json.h"
#include "xmpp/xml.h"

#define JSON_DEPTH 16

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

void roster_skips_free(struct roster_skips *s)
{
	for (size_t i = 0; i < s->count; i++)
		free(s->list[i].contact);
	free(s->list);
	for (size_t i = 0; i < s->jids_count; i++)
		free(s->jids[i]);
	free(s->jids);
	*s = (struct roster_skips){0};
}

static int compare_texts(const void *a, const void *b)
{
	return strcmp(*(char *const *)a, *(char *const *)b);
}

bool roster_skips_has(const struct roster_skips *s, const char *jid)
{
	return s->jids_count &&
	       bsearch(&jid, s->jids, s->jids_count, sizeof(*s->jids), compare_texts);
}

void roster_add_take(struct roster *r, struct roster_item *item)
{
	if (r->count == r->size) {
		r->size = r->size ? r->size * 2 : 8;
		r->items = xrealloc(r->items, r->size * sizeof(*r->items));
	}
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

bool roster_subscription_parse(const char *name, enum roster_subscription *out)
{
	for (int i = ROSTER_NONE; i <= ROSTER_BOTH; i++)
		if (strcmp(name, subscriptions[i]) == 0) {
			*out = (enum roster_subscription)i;
			return true;
		}
	return false;
}

static int by_text(const void *a, const void *b)
{
	return strcmp(*(char *const *)a, *(char *const *)b);
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

	if (item->groups_count)
		qsort(item->groups, item->groups_count, sizeof(*item->groups), by_text);
	for (size_t i = 0; i < item->groups_count; i++) {
		if (kept && strcmp(item->groups[kept - 1], item->groups[i]) == 0)
			free(item->groups[i]);
		else
			item->groups[kept++] = item->groups[i];
	}
	item->groups_count = kept;
}

/* Validation ------------------------------------------------------------- */

/* Text that can stand in a stanza and on a screen: no control characters, U+0000 included. */
static bool text_valid(struct span s)
{
	for (size_t i = 0; i < s.n; i++)
		if ((unsigned char)s.p[i] < 0x20 || s.p[i] == 0x7f)
			return false;
	/* C1 controls are written C2 80..9F in UTF-8 */
	for (size_t i = 0; i + 1 < s.n; i++)
		if ((unsigned char)s.p[i] == 0xc2 && (unsigned char)s.p[i + 1] < 0xa0)
			return false;
	return utf8_xml_valid(s);
}

/* While a contact is read, its name and groups are borrowed from json-c's object (which has no
 * U+0000 in it); pack_item() copies them. */
struct draft {
	struct span name;
	const char **groups;
	size_t groups_count, groups_size;
	enum roster_subscription subscription;
};

static const char *add_group(struct draft *d, struct span group)
{
	if (!text_valid(group))
		return "group with characters that are not allowed";
	if (group.n == 0)
		return "empty group";
	if (d->groups_count == d->groups_size) {
		d->groups_size = d->groups_size ? d->groups_size * 2 : 8;
		d->groups = xrealloc(d->groups, d->groups_size * sizeof(*d->groups));
	}
	d->groups[d->groups_count++] = group.p;
	return NULL;
}

static void sort_groups(struct draft *d)
{
	size_t kept = 0;

	if (d->groups_count > 1)
		qsort(d->groups, d->groups_count, sizeof(*d->groups), by_text);
	for (size_t i = 0; i < d->groups_count; i++)
		if (!kept || strcmp(d->groups[kept - 1], d->groups[i]) != 0)
			d->groups[kept++] = d->groups[i];
	d->groups_count = kept;
}

static char *pack(char **at, struct span text)
{
	char *copy = *at;

	memcpy(copy, text.p, text.n);
	copy[text.n] = '\0';
	*at += text.n + 1;
	return copy;
}

/* One allocation an item: with one for each string a large roster takes twice as long. */
static struct roster_item pack_item(const struct draft *d, struct span jid)
{
	size_t bytes = d->groups_count * sizeof(char *) + jid.n + 1 + d->name.n + 1;
	struct roster_item item = {
		.groups_count = d->groups_count, .subscription = d->subscription};
	char *at;

	for (size_t i = 0; i < d->groups_count; i++)
		bytes += strlen(d->groups[i]) + 1;
	item.block = xmalloc(bytes);
	item.groups = d->groups_count ? item.block : NULL;
	at = (char *)item.block + d->groups_count * sizeof(char *);
	item.jid = pack(&at, jid);
	if (d->name.n)
		item.name = pack(&at, d->name);
	for (size_t i = 0; i < d->groups_count; i++)
		item.groups[i] = pack(&at, span_of(d->groups[i]));
	return item;
}

static const char *read_groups(struct json_object *value, struct draft *d)
{
	const char *why = NULL;

	if (json_object_is_type(value, json_type_array)) {
		size_t n = json_object_array_length(value);

		for (size_t i = 0; i < n && !why; i++) {
			struct span group = json_text(json_object_array_get_idx(value, i));

			why = group.p ? add_group(d, group) : "group that is no string";
		}
	} else if (json_object_is_type(value, json_type_object)) {
		json_object_object_foreach(value, key, on)
		{
			if (why)
				break;
			if (!json_object_is_type(on, json_type_boolean))
				why = "groups that are no list";
			else if (json_object_get_boolean(on))
				why = add_group(d, span_of(key));
		}
	} else if (value) {
		why = "groups that are no list";
	}
	if (!why)
		sort_groups(d);
	return why;
}

static const char *read_name(struct json_object *value, struct draft *d)
{
	struct span name = json_text(value);

	if (!value)
		return NULL;
	if (!name.p)
		return "name that is no string";
	if (!text_valid(name))
		return "name with characters that are not allowed";
	d->name = name;
	return NULL;
}

static const char *read_subscription(struct json_object *value, struct draft *d)
{
	struct span name = json_text(value);

	if (name.p && name.n == strlen(name.p) &&
		roster_subscription_parse(name.p, &d->subscription))
		return NULL;
	return "subscription that is none of none, to, from, both";
}

/* What is wrong with a contact, NULL if nothing. */
static const char *read_contact(struct json_object *value, struct draft *d)
{
	const char *why = NULL;

	if (json_object_is_type(value, json_type_string))
		return read_name(value, d);
	if (!json_object_is_type(value, json_type_object))
		return "neither an object nor a string";
	json_object_object_foreach(value, key, field)
	{
		if (strcmp(key, "name") == 0)
			why = read_name(field, d);
		else if (strcmp(key, "groups") == 0)
			why = read_groups(field, d);
		else if (strcmp(key, "subscription") == 0)
			why = read_subscription(field, d);
		if (why)
			return why;
	}
	return NULL;
}

static const char *read_jid(struct span key, struct span own, struct buf *jid)
{
	buf_reset(jid);
	if (!jid_normalise(key, jid))
		return "not a JID";
	if (jid_is_full(buf_span(jid)))
		return "not a bare JID";
	if (own.p && span_equal(buf_span(jid), own))
		return "the user's own address";
	return NULL;
}

static void skip(struct roster_skips *skips, struct span contact, const char *why)
{
	if (skips->count == skips->size) {
		skips->size = skips->size ? skips->size * 2 : 4;
		skips->list = xrealloc(skips->list, skips->size * sizeof(*skips->list));
	}
	skips->list[skips->count++] =
		(struct roster_skip){.contact = xstrndup(contact.p, contact.n), .why = why};
}

/* When all are in the list: make what roster_skips_has() looks at. True if one of them is another
 * way to write a contact of r, which is not left out; r may be NULL. */
static bool skips_index(struct roster_skips *skips, const struct roster *r)
{
	struct buf jid;
	bool collide = false;

	if (!skips->count)
		return false;
	skips->jids = xcalloc(skips->count, sizeof(*skips->jids));
	buf_init(&jid, BUF_NO_MAX);
	for (size_t i = 0; i < skips->count; i++) {
		struct span bare;

		buf_reset(&jid);
		if (!jid_normalise(span_of(skips->list[i].contact), &jid))
			continue;
		collide |= r && roster_find(r, buf_string(&jid));
		bare = jid_bare(buf_span(&jid));
		skips->jids[skips->jids_count++] = xstrndup(bare.p, bare.n);
	}
	buf_free(&jid);
	qsort(skips->jids, skips->jids_count, sizeof(*skips->jids), compare_texts);
	return collide;
}

enum roster_status roster_from_json(struct json_object *object, struct span own, bool strict,
	struct roster *out, struct roster_skips *skips, struct buf *message)
{
	struct draft draft = {0};
	struct buf jid;
	bool ok = true;

	roster_init(out);
	*skips = (struct roster_skips){0};
	if (!json_object_is_type(object, json_type_object)) {
		buf_append_string(message, "not an object of contacts");
		return ROSTER_INVALID;
	}
	buf_init(&jid, BUF_NO_MAX);
	json_object_object_foreach(object, key, value)
	{
		const char *why = read_jid(span_of(key), own, &jid);

		draft.name = SPAN_NONE;
		draft.groups_count = 0;
		draft.subscription = ROSTER_BOTH;
		if (!why)
			why = read_contact(value, &draft);
		if (!why) {
			struct roster_item item = pack_item(&draft, buf_span(&jid));

			roster_add_take(out, &item);
			continue;
		}
		skip(skips, span_of(key), why);
		if (strict) {
			buf_printf(message, "contact '%s': %s", key, why);
			ok = false;
			break;
		}
	}
	buf_free(&jid);
	free(draft.groups);
	if (ok && (!roster_sort(out) || skips_index(skips, out))) {
		buf_append_string(message, "two contacts are the same address");
		ok = false;
	}
	return ok ? ROSTER_OK : ROSTER_INVALID;
}

enum roster_status roster_parse(struct span json, struct span own, bool strict, struct roster *out,
	struct roster_skips *skips, struct buf *message)
{
	struct json_object *object;
	enum json_status parsed = json_parse(json, JSON_DEPTH, &object, message);
	enum roster_status status = parsed == JSON_OK	 ? ROSTER_OK
				    : parsed == JSON_BAD ? ROSTER_NOT_JSON
							 : ROSTER_INVALID;

	roster_init(out);
	*skips = (struct roster_skips){0};
	if (status == ROSTER_OK)
		status = roster_from_json(object, own, strict, out, skips, message);
	json_object_put(object);
	return status;
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
	/* printf would cost as much as all the rest of the contact */
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

void roster_error_format(struct span user, const char *error, const char *message, struct buf *out)
{
	buf_append_string(out, "{\"user\":");
	json_string(out, user);
	buf_append_string(out, ",\"status\":\"error\",\"error\":");
	json_string(out, span_of(error));
	if (message) {
		buf_append_string(out, ",\"message\":");
		json_string(out, span_of(message));
	}
	buf_append_string(out, "}\n");
}

void roster_record_format(const struct roster_record *r, struct buf *out)
{
	if (r->status == RECORD_ERROR) {
		roster_error_format(span_of(r->user), r->error, r->message, out);
		return;
	}
	buf_append_string(out, "{\"user\":");
	json_string(out, span_of(r->user));
	buf_append_string(out, r->status == RECORD_OK ? ",\"status\":\"ok\",\"roster\":"
						      : ",\"status\":\"unchanged\",\"roster\":");
	roster_format(&r->roster, out);
	buf_append_string(out, ",\"skipped\":[");
	for (size_t i = 0; i < r->skips.count; i++) {
		buf_append_string(out, i ? ",{\"contact\":" : "{\"contact\":");
		json_string(out, span_of(r->skips.list[i].contact));
		buf_append_string(out, ",\"why\":");
		json_string(out, span_of(r->skips.list[i].why));
		buf_append_char(out, '}');
	}
	buf_append_string(out, "]}\n");
}

/* Reading records -------------------------------------------------------- */

bool roster_user_valid(struct span user)
{
	return user.n >= 1 && user.n <= JID_PART_MAX_BYTES && text_valid(user);
}

void roster_record_free(struct roster_record *r)
{
	free(r->user);
	roster_free(&r->roster);
	roster_skips_free(&r->skips);
	free(r->error);
	free(r->message);
	*r = (struct roster_record){0};
}

static char *take_string(struct json_object *object, const char *name)
{
	struct span text = json_member_text(object, name);

	return text.p ? xstrdup(text.p) : NULL;
}

/* The contacts an earlier program left out: they stay left out. */
static const char *read_skipped(struct json_object *object, struct roster_skips *skips)
{
	struct json_object *list;

	if (!json_object_object_get_ex(object, "skipped", &list))
		return NULL;
	if (!json_object_is_type(list, json_type_array))
		return "'skipped' is no list";
	for (size_t i = 0; i < json_object_array_length(list); i++) {
		struct json_object *entry = json_object_array_get_idx(list, i);
		struct span contact = json_member_text(entry, "contact");

		if (!contact.p)
			return "'skipped' holds what is no contact";
		skip(skips, contact, "skipped before");
	}
	skips_index(skips, NULL);
	return NULL;
}

static const char *read_record(struct json_object *object, struct roster_record *out)
{
	struct json_object *roster = NULL;
	struct roster_skips more = {0};
	struct buf message;
	const char *why;
	char *status;

	if (!json_object_is_type(object, json_type_object))
		return "not an object";
	out->user = take_string(object, "user");
	if (!out->user)
		return "no valid 'user'";
	status = take_string(object, "status");
	why = !status				 ? "no 'status'"
	      : strcmp(status, "ok") == 0	 ? (out->status = RECORD_OK, NULL)
	      : strcmp(status, "unchanged") == 0 ? (out->status = RECORD_UNCHANGED, NULL)
	      : strcmp(status, "error") == 0	 ? (out->status = RECORD_ERROR, NULL)
						 : "unknown 'status'";
	free(status);
	if (why)
		return why;
	if (out->status == RECORD_ERROR) {
		out->error = take_string(object, "error");
		out->message = take_string(object, "message");
		return out->error ? NULL : "an error without 'error'";
	}
	/* of an error it is the line that asked, whatever that was */
	if (!roster_user_valid(span_of(out->user)))
		return "no valid 'user'";
	if (!json_object_object_get_ex(object, "roster", &roster))
		return "no 'roster'";
	buf_init(&message, BUF_NO_MAX);
	if (roster_from_json(roster, SPAN_NONE, true, &out->roster, &more, &message) != ROSTER_OK)
		why = "invalid 'roster'";
	roster_skips_free(&more);
	buf_free(&message);
	return why ? why : read_skipped(object, &out->skips);
}

bool roster_record_parse(struct span line, struct roster_record *out, const char **why)
{
	struct json_object *object;
	struct buf message;
	bool event;
	char *user;

	*out = (struct roster_record){0};
	buf_init(&message, BUF_NO_MAX);
	*why = json_parse(line, JSON_DEPTH, &object, &message) == JSON_OK ? read_record(object, out)
									  : "not JSON";
	event = json_object_is_type(object, json_type_object) &&
		json_object_object_get_ex(object, "event", NULL);
	json_object_put(object);
	buf_free(&message);
	if (!*why)
		return true;
	user = out->user;
	out->user = NULL;
	roster_record_free(out);
	if (user && !event) {
		out->user = user;
		out->status = RECORD_ERROR;
		out->error = xstrdup("invalid-roster");
		out->message = xstrdup(*why);
	} else {
		free(user);
	}
	return false;
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
			if (!c.name && !c.groups && !c.subscription)
				continue;
		} else {
			c.kind = c.new ? CHANGE_ADD : CHANGE_REMOVE;
		}
		fn(context, &c);
	}
}
