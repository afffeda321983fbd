#include <stdlib.h>

#include "base/err.h"
#include "base/json-reader.h"
#include "base/utf8.h"
#include "roster/roster.h"
#include "xmpp/jid.h"

#define JSON_DEPTH 16

static int compare_texts(const void *a, const void *b)
{
	return strcmp(*(char *const *)a, *(char *const *)b);
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

/* A contact while it is read. Its texts are offsets into `words`, with a NUL behind each. */
struct draft {
	struct buf key, jid, words;
	size_t name;	/* 0: none */
	size_t *groups; /* places */
	size_t groups_count, groups_size;
	enum roster_subscription subscription;
	size_t members,
		others; /* members of its object; those that are none of the three known ones */
	bool object;
	const char *why; /* NULL, or what is wrong with it */
};

static void draft_init(struct draft *d)
{
	*d = (struct draft){0};
	buf_init(&d->key, BUF_NO_MAX);
	buf_init(&d->jid, BUF_NO_MAX);
	buf_init(&d->words, BUF_NO_MAX);
}

static void draft_free(struct draft *d)
{
	buf_free(&d->key);
	buf_free(&d->jid);
	buf_free(&d->words);
	free(d->groups);
}

static void draft_begin(struct draft *d, struct span key)
{
	buf_reset(&d->key);
	buf_append_span(&d->key, key);
	buf_reset(&d->jid);
	buf_reset(&d->words);
	buf_append_char(&d->words, '\0');
	d->name = d->groups_count = d->members = d->others = 0;
	d->subscription = ROSTER_BOTH;
	d->object = false;
	d->why = NULL;
}

/* Length of the character at the front of s if it may not stand in a stanza or on a screen (C0,
 * DEL, C1, U+FFFE, U+FFFF); else 0. s is UTF-8. */
static size_t unprintable(struct span s)
{
	unsigned char c = (unsigned char)*s.p;

	if (c < 0x20 || c == 0x7f)
		return 1;
	if (c == 0xc2 && (unsigned char)s.p[1] < 0xa0)
		return 2;
	return c == 0xef && (unsigned char)s.p[1] == 0xbf && (unsigned char)s.p[2] >= 0xbe ? 3 : 0;
}

/* Append a text and a NUL; return its offset. In a text with characters that cannot be shown,
 * these become a space, runs of white space become one space, and the ends are trimmed. */
static size_t word_add(struct buf *words, struct span text)
{
	size_t place = buf_length(words);
	bool space = false;

	if (text_valid(text)) {
		buf_append_span(words, text);
		buf_append_char(words, '\0');
		return place;
	}
	while (text.n) {
		size_t bad = unprintable(text), n = bad ? bad : utf8_length(text);

		if (bad || *text.p == ' ') {
			space = buf_length(words) > place;
		} else {
			if (space)
				buf_append_char(words, ' ');
			space = false;
			buf_append(words, text.p, n);
		}
		text = span_from(text, n);
	}
	buf_append_char(words, '\0');
	return place;
}

static const char *word_at(const struct draft *d, size_t place)
{
	return buf_span(&d->words).p + place;
}

/* A group without a printable character is left out. */
static void add_group(struct draft *d, struct span group)
{
	if (d->groups_count == d->groups_size) {
		d->groups_size = d->groups_size ? d->groups_size * 2 : 8;
		d->groups = xrealloc(d->groups, d->groups_size * sizeof(*d->groups));
	}
	d->groups[d->groups_count] = word_add(&d->words, group);
	d->groups_count += *word_at(d, d->groups[d->groups_count]) != '\0';
}

/* The fields of a packed item are not freed one by one. */
static void sort_groups(struct roster_item *item)
{
	size_t kept = 0;

	if (item->groups_count > 1)
		qsort(item->groups, item->groups_count, sizeof(*item->groups), compare_texts);
	for (size_t i = 0; i < item->groups_count; i++)
		if (!kept || strcmp(item->groups[kept - 1], item->groups[i]) != 0)
			item->groups[kept++] = item->groups[i];
	item->groups_count = kept;
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
static struct roster_item pack_item(const struct draft *d)
{
	struct span jid = buf_span(&d->jid), name = span_of(word_at(d, d->name));
	size_t bytes = d->groups_count * sizeof(char *) + jid.n + 1 + name.n + 1;
	struct roster_item item = {
		.groups_count = d->groups_count, .subscription = d->subscription};
	char *at;

	for (size_t i = 0; i < d->groups_count; i++)
		bytes += strlen(word_at(d, d->groups[i])) + 1;
	item.block = xmalloc(bytes);
	item.groups = d->groups_count ? item.block : NULL;
	at = (char *)item.block + d->groups_count * sizeof(char *);
	item.jid = pack(&at, jid);
	if (name.n)
		item.name = pack(&at, name);
	for (size_t i = 0; i < d->groups_count; i++)
		item.groups[i] = pack(&at, span_of(word_at(d, d->groups[i])));
	sort_groups(&item);
	return item;
}

/* {"A":true}, or how PHP writes a list with holes: {"0":"A","2":"B"} */
static const char *read_group_members(struct json_reader *r, struct draft *d)
{
	const char *why = NULL;
	enum json_token token;

	while (json_reader_next(r) == JSON_READ_NAME) {
		size_t place = word_add(&d->words, r->text);
		bool number = r->text.n && strspn(word_at(d, place), "0123456789") == r->text.n;

		token = json_reader_next(r);
		if (token == JSON_READ_STRING && number)
			add_group(d, r->text);
		else if (token == JSON_READ_TRUE) {
			char *name = xstrdup(word_at(d, place));

			add_group(d, span_of(name));
			free(name);
		} else if (token != JSON_READ_FALSE && token != JSON_READ_NULL)
			why = "groups that are no list";
		json_reader_skip(r, token);
	}
	return why;
}

static const char *read_groups(struct json_reader *r, enum json_token token, struct draft *d)
{
	const char *why = NULL;

	d->groups_count = 0;
	if (token == JSON_READ_NULL)
		return NULL;
	if (token == JSON_READ_OBJECT)
		return read_group_members(r, d);
	if (token != JSON_READ_ARRAY)
		return "groups that are no list";
	while ((token = json_reader_next(r)) != JSON_READ_ARRAY_END && token != JSON_READ_WRONG) {
		if (token == JSON_READ_STRING && r->text.n)
			add_group(d, r->text);
		else
			why = token == JSON_READ_STRING ? "empty group" : "group that is no string";
		json_reader_skip(r, token);
	}
	return why;
}

static const char *read_name(struct json_reader *r, enum json_token token, struct draft *d)
{
	d->name = 0;
	if (token == JSON_READ_STRING || token == JSON_READ_NUMBER)
		d->name = word_add(&d->words, r->text);
	else if (token != JSON_READ_NULL)
		return "name that is no string";
	return NULL;
}

static const char *read_subscription(struct json_reader *r, enum json_token token, struct draft *d)
{
	d->subscription = ROSTER_BOTH;
	if (token == JSON_READ_NULL)
		return NULL;
	if (token == JSON_READ_STRING && roster_subscription_parse(r->text, &d->subscription))
		return NULL;
	return "subscription that is none of none, to, from, both";
}

static void read_members(struct json_reader *r, struct draft *d)
{
	enum json_token token;

	while (json_reader_next(r) == JSON_READ_NAME) {
		enum {
			NAME,
			GROUPS,
			SUBSCRIPTION,
			OTHER
		} kind = span_is(r->text, "name")	    ? NAME
			 : span_is(r->text, "groups")	    ? GROUPS
			 : span_is(r->text, "subscription") ? SUBSCRIPTION
							    : OTHER;
		const char *why = NULL;

		token = json_reader_next(r);
		if (kind == NAME)
			why = read_name(r, token, d);
		else if (kind == GROUPS)
			why = read_groups(r, token, d);
		else if (kind == SUBSCRIPTION)
			why = read_subscription(r, token, d);
		if (kind == OTHER || why)
			json_reader_skip(r, token);
		d->members++;
		d->others += kind == OTHER;
		if (!d->why)
			d->why = why;
	}
}

/* A contact's value. */
static void read_contact(struct json_reader *r, struct draft *d)
{
	enum json_token token = json_reader_next(r);

	d->object = token == JSON_READ_OBJECT;
	if (token == JSON_READ_STRING) {
		d->why = read_name(r, token, d);
	} else if (token == JSON_READ_OBJECT) {
		read_members(r, d);
	} else if (token == JSON_READ_ARRAY) {
		/* PHP's way to write {} */
		token = json_reader_next(r);
		if (token == JSON_READ_ARRAY_END)
			return;
		d->why = "neither an object nor a string";
		do
			json_reader_skip(r, token);
		while ((token = json_reader_next(r)) != JSON_READ_ARRAY_END &&
			token != JSON_READ_WRONG);
	} else if (token != JSON_READ_NULL) {
		d->why = "neither an object nor a string";
	}
}

/* Check the length of each part before it is prepared: preparing a long one would cost time for
 * nothing. */
static bool too_long(struct span key)
{
	struct span bare = jid_bare(key), domain = jid_domain(key);

	return key.n > JID_MAX_BYTES || domain.n > JID_PART_MAX_BYTES ||
	       bare.n - domain.n > JID_PART_MAX_BYTES + 1 ||
	       key.n - bare.n > JID_PART_MAX_BYTES + 1;
}

/* NULL, or why the key is no address that a contact can have. */
static const char *read_key(struct draft *d)
{
	struct span key = buf_span(&d->key), jid;

	if (too_long(key) || !jid_normalise(key, &d->jid))
		return "not a JID";
	jid = buf_span(&d->jid);
	if (jid_is_full(jid))
		return "not a bare JID";
	return memchr(jid.p, '@', jid.n) || memchr(jid.p, '.', jid.n) ? NULL : "no contact";
}

static void skip(struct roster_skips *skips, struct span contact, struct span why, bool foreign)
{
	if (skips->count == skips->size) {
		skips->size = skips->size ? skips->size * 2 : 4;
		skips->list = xrealloc(skips->list, skips->size * sizeof(*skips->list));
	}
	skips->list[skips->count++] =
		(struct roster_skip){.contact = xstrndup(contact.p, contact.n),
			.why = xstrndup(why.p, why.n),
			.foreign = foreign};
	skips->foreign += foreign;
}

/* The list is complete: make the index for roster_skips_has(). True if one of the skipped keys
 * is another spelling of a contact in r; r may be NULL. */
static bool skips_index(struct roster_skips *skips, const struct roster *r)
{
	struct buf jid;
	bool collide = false;

	if (!skips->count)
		return false;
	skips->jids = xcalloc(skips->count, sizeof(*skips->jids));
	buf_init(&jid, BUF_NO_MAX);
	for (size_t i = 0; i < skips->count; i++) {
		struct span contact = span_of(skips->list[i].contact), bare;

		buf_reset(&jid);
		if (too_long(contact) || !jid_normalise(contact, &jid))
			continue;
		collide |= r && roster_find(r, buf_string(&jid));
		bare = jid_bare(buf_span(&jid));
		skips->jids[skips->jids_count++] = xstrndup(bare.p, bare.n);
	}
	buf_free(&jid);
	qsort(skips->jids, skips->jids_count, sizeof(*skips->jids), compare_texts);
	return collide;
}

/* A whole roster while it is read. */
struct reading {
	struct json_reader *reader;
	const struct roster_rules *rules;
	struct roster *out;
	struct roster_skips *skips;
	struct draft draft;
	const char **keys; /* where each item's key ends in the text */
	size_t keys_size, members, contacts;
};

static void take_item(struct reading *g, const char *key_end)
{
	struct roster_item item = pack_item(&g->draft);

	if (g->out->count == g->keys_size) {
		g->keys_size = g->keys_size ? g->keys_size * 2 : 64;
		g->keys = xrealloc(g->keys, g->keys_size * sizeof(*g->keys));
	}
	g->keys[g->out->count] = key_end;
	item.place = g->out->count;
	roster_add_take(g->out, &item);
}

/* Read the value of one member of the roster's object. False: it makes the roster invalid. */
static bool read_member(struct reading *g, struct buf *message)
{
	const struct roster_rules *rules = g->rules;
	const char *key_end = g->reader->p;
	struct draft *d = &g->draft;
	bool own, kept, address, foreign;
	const char *why;

	draft_begin(d, g->reader->text);
	why = read_key(d);
	read_contact(g->reader, d);
	own = !why && rules->own.p && span_equal(buf_span(&d->jid), rules->own);
	kept = !why && roster_keep_has(rules->keep, buf_string(&d->jid));
	address = !why && strchr(buf_string(&d->jid), '@');
	foreign = !own && !kept && !address && (why || !d->object || !d->members || d->others);
	g->members++;
	g->contacts += !foreign;
	if (!why)
		why = own ? "the user's own address" : foreign ? "no contact" : d->why;
	if (!why) {
		take_item(g, key_end);
		return true;
	}
	skip(g->skips, buf_span(&d->key), span_of(why), foreign);
	if (rules->strict)
		buf_printf(message, "contact '%s': %s", buf_string(&d->key), why);
	return !rules->strict;
}

/* Whether two keys, given by where they end, are written alike. */
static bool same_key(const char *a, const char *b)
{
	/* both are behind their colon, and begin with a quote that no backslash escapes */
	do {
		a--;
		b--;
	} while (*a == *b && *a != '"');
	if (*a != *b)
		return false;
	do {
		a--;
		b--;
	} while (*a == *b && (*a != '"' || a[-1] == '\\'));
	return *a == '"' && *b == '"';
}

/* Sort, and keep the last of equal keys. False: two different keys are one address. */
static bool settle(struct reading *g)
{
	struct roster *r = g->out;
	size_t kept = 0;
	bool distinct = true;

	roster_sort(r);
	for (size_t i = 0; i < r->count; i++) {
		struct roster_item *last = kept ? &r->items[kept - 1] : NULL;

		if (!last || strcmp(last->jid, r->items[i].jid) != 0) {
			r->items[kept++] = r->items[i];
			continue;
		}
		distinct &= same_key(g->keys[last->place], g->keys[r->items[i].place]);
		if (last->place < r->items[i].place) {
			struct roster_item swap = *last;

			*last = r->items[i];
			r->items[i] = swap;
		}
		roster_item_free(&r->items[i]);
	}
	r->count = kept;
	return !skips_index(g->skips, r) && distinct;
}

static enum roster_status read_object(struct reading *g, struct buf *message)
{
	enum json_token token;

	while ((token = json_reader_next(g->reader)) == JSON_READ_NAME) {
		if (!read_member(g, message))
			return ROSTER_INVALID;
		if (g->reader->status != JSON_OK)
			return ROSTER_OK; /* the reader reports it */
		if (g->out->count + g->skips->count > g->rules->max_contacts) {
			buf_printf(message, "more than %zu contacts", g->rules->max_contacts);
			return ROSTER_TOO_LARGE;
		}
	}
	if (g->members && !g->contacts) {
		buf_printf(message, "not one of its %zu member%s is a contact", g->members,
			g->members == 1 ? "" : "s");
		return ROSTER_INVALID;
	}
	if (token != JSON_READ_WRONG && !settle(g)) {
		buf_append_string(message, "two contacts are the same address");
		return ROSTER_INVALID;
	}
	return ROSTER_OK;
}

/* Read a roster whose first token is `token`. What is not JSON is reported by the reader, not
 * here. */
static enum roster_status read_roster(struct json_reader *reader, enum json_token token,
	const struct roster_rules *rules, struct roster *out, struct roster_skips *skips,
	struct buf *message)
{
	struct reading g = {.reader = reader, .rules = rules, .out = out, .skips = skips};
	enum roster_status status = ROSTER_OK;

	if (token == JSON_READ_OBJECT) {
		draft_init(&g.draft);
		status = read_object(&g, message);
		draft_free(&g.draft);
		free(g.keys);
	} else if (token != JSON_READ_WRONG &&
		   (token != JSON_READ_ARRAY || json_reader_next(reader) != JSON_READ_ARRAY_END)) {
		/* [] is PHP's way to write {} */
		buf_append_string(message, "not an object of contacts");
		status = ROSTER_INVALID;
	}
	return status;
}

/* The reader's verdict at the end of the text. */
static enum roster_status text_status(struct json_reader *r, struct buf *message)
{
	while (json_reader_next(r) < JSON_READ_END)
		;
	if (r->status == JSON_OK)
		return ROSTER_OK;
	buf_reset(message);
	buf_append_string(message, r->why);
	if (r->status == JSON_TOO_MANY) {
		buf_reset(message);
		buf_printf(message, "more than %zu values", r->max_values);
		return ROSTER_TOO_LARGE;
	}
	return r->status == JSON_BAD ? ROSTER_NOT_JSON : ROSTER_INVALID;
}

enum roster_status roster_parse(struct span json, const struct roster_rules *rules,
	struct roster *out, struct roster_skips *skips, struct buf *message)
{
	struct json_reader reader;
	enum roster_status status, whole;

	roster_init(out);
	*skips = (struct roster_skips){0};
	json_reader_init(&reader, json, JSON_DEPTH, rules->max_values);
	status = read_roster(&reader, json_reader_next(&reader), rules, out, skips, message);
	whole = status == ROSTER_TOO_LARGE ? status : text_status(&reader, message);
	json_reader_free(&reader);
	if (whole != ROSTER_OK)
		status = whole;
	if (status != ROSTER_OK) {
		roster_free(out);
		roster_skips_free(skips);
	}
	return status;
}

/* Reading records -------------------------------------------------------- */

bool roster_user_valid(struct span user)
{
	return user.n >= 1 && user.n <= JID_PART_MAX_BYTES && text_valid(user);
}

static void take_text(struct json_reader *r, enum json_token token, char **text)
{
	if (token != JSON_READ_STRING)
		return;
	free(*text);
	*text = xstrndup(r->text.p, r->text.n);
}

/* Contacts that an earlier program skipped stay skipped. */
static const char *read_skipped(
	struct json_reader *r, enum json_token token, struct roster_skips *skips)
{
	if (token != JSON_READ_ARRAY)
		return "'skipped' is no list";
	while ((token = json_reader_next(r)) == JSON_READ_OBJECT) {
		char *contact = NULL, *why = NULL;

		while (json_reader_next(r) == JSON_READ_NAME) {
			char **text = span_is(r->text, "contact") ? &contact
				      : span_is(r->text, "why")	  ? &why
								  : NULL;

			token = json_reader_next(r);
			if (text)
				take_text(r, token, text);
			json_reader_skip(r, token);
		}
		if (contact)
			skip(skips, span_of(contact), span_of(why ? why : "left out"), false);
		free(why);
		if (!contact)
			return "'skipped' holds what is no contact";
		free(contact);
	}
	return token == JSON_READ_ARRAY_END ? NULL : "'skipped' holds what is no contact";
}

/* Count as foreign the skipped keys that may not be contacts: all but bare JIDs with '@'. */
static void skips_judge(struct roster_skips *skips, const struct roster_keep *keep)
{
	struct buf jid;

	buf_init(&jid, BUF_NO_MAX);
	for (size_t i = 0; i < skips->count; i++) {
		struct span contact = span_of(skips->list[i].contact);

		buf_reset(&jid);
		skips->list[i].foreign |=
			too_long(contact) || !jid_normalise(contact, &jid) ||
			(!roster_keep_has(keep, buf_string(&jid)) &&
				(jid_is_full(buf_span(&jid)) || !strchr(buf_string(&jid), '@')));
		skips->foreign += skips->list[i].foreign;
	}
	buf_free(&jid);
}

/* The texts of a record, until it is known what it is. */
struct record_texts {
	char *status;
	bool event, roster, too_large;
};

/* The member 'roster'; NULL, or what is wrong with it. Its own skips are those of the record, too.
 */
static const char *read_record_roster(struct json_reader *r, enum json_token token,
	const struct roster_rules *rules, struct roster_record *out, struct record_texts *texts)
{
	struct roster_skips skips = {0};
	struct buf message;
	enum roster_status status;

	buf_init(&message, BUF_NO_MAX);
	status = read_roster(r, token, rules, &out->roster, &skips, &message);
	buf_free(&message);
	for (size_t i = 0; i < skips.count; i++)
		skip(&out->skips, span_of(skips.list[i].contact), span_of(skips.list[i].why),
			skips.list[i].foreign);
	roster_skips_free(&skips);
	texts->roster = true;
	texts->too_large |= status == ROSTER_TOO_LARGE;
	if (status == ROSTER_OK)
		return NULL;
	return status == ROSTER_TOO_LARGE ? "a 'roster' with more contacts than are taken"
					  : "invalid 'roster'";
}

/* One member; NULL, or what is wrong with it. */
static const char *read_record_member(struct json_reader *r, const struct roster_rules *rules,
	struct roster_record *out, struct record_texts *texts)
{
	char name[16] = "", *removals = NULL;
	enum json_token token;

	if (r->text.n < sizeof(name))
		memcpy(name, r->text.p, r->text.n);
	token = json_reader_next(r);
	if (strcmp(name, "user") == 0) {
		take_text(r, token, &out->user);
	} else if (strcmp(name, "status") == 0) {
		take_text(r, token, &texts->status);
	} else if (strcmp(name, "error") == 0) {
		take_text(r, token, &out->error);
	} else if (strcmp(name, "message") == 0) {
		take_text(r, token, &out->message);
	} else if (strcmp(name, "removals") == 0) {
		take_text(r, token, &removals);
		out->removals_all = removals && strcmp(removals, "all") == 0;
		free(removals);
	} else if (strcmp(name, "event") == 0) {
		texts->event = true;
	} else if (strcmp(name, "skipped") == 0) {
		return read_skipped(r, token, &out->skips);
	} else if (strcmp(name, "roster") == 0 && !texts->roster) {
		return read_record_roster(r, token, rules, out, texts);
	}
	json_reader_skip(r, token);
	return NULL;
}

static const char *judge_record(struct roster_record *out, const struct record_texts *texts)
{
	if (!out->user)
		return "no valid 'user'";
	if (!texts->status)
		return "no 'status'";
	if (strcmp(texts->status, "ok") == 0)
		out->status = RECORD_OK;
	else if (strcmp(texts->status, "unchanged") == 0)
		out->status = RECORD_UNCHANGED;
	else if (strcmp(texts->status, "error") == 0)
		out->status = RECORD_ERROR;
	else
		return "unknown 'status'";
	if (out->status == RECORD_ERROR)
		return out->error ? NULL : "an error without 'error'";
	/* in an error record `user` is the input line, which may be anything */
	if (!roster_user_valid(span_of(out->user)))
		return "no valid 'user'";
	return texts->roster ? NULL : "no 'roster'";
}

static const char *read_record(struct json_reader *r, const struct roster_rules *rules,
	struct roster_record *out, struct record_texts *texts)
{
	const char *why = NULL, *judged;
	struct buf message;
	enum json_token token = json_reader_next(r), next;
	enum roster_status whole;

	if (token != JSON_READ_OBJECT) {
		why = "not an object";
	} else {
		while (!why && json_reader_next(r) == JSON_READ_NAME)
			why = read_record_member(r, rules, out, texts);
		/* the 'user' may come after the member that is wrong */
		while ((next = json_reader_next(r)) < JSON_READ_END)
			if (next == JSON_READ_NAME && json_reader_level(r) == 1 &&
				(span_is(r->text, "user") || span_is(r->text, "event")))
				read_record_member(r, rules, out, texts);
	}
	buf_init(&message, BUF_NO_MAX);
	whole = text_status(r, &message);
	buf_free(&message);
	texts->too_large |= whole == ROSTER_TOO_LARGE;
	if (whole != ROSTER_OK)
		return whole == ROSTER_TOO_LARGE ? "more values than are taken" : "not JSON";
	if (token != JSON_READ_OBJECT)
		return why;
	judged = judge_record(out, texts);
	return judged ? judged : why;
}

bool roster_record_parse(struct span line, const struct roster_rules *rules,
	struct roster_record *out, const char **why)
{
	static const struct roster_rules usual = ROSTER_RULES_INIT;
	struct record_texts texts = {0};
	struct json_reader reader;
	char *user;

	if (!rules)
		rules = &usual;
	*out = (struct roster_record){.bytes = line.n};
	json_reader_init(&reader, line, JSON_DEPTH, rules->max_values);
	*why = read_record(&reader, rules, out, &texts);
	json_reader_free(&reader);
	free(texts.status);
	if (!*why && out->status != RECORD_ERROR) {
		skips_judge(&out->skips, rules->keep);
		skips_index(&out->skips, NULL);
	}
	if (!*why)
		return true;
	user = out->user;
	out->user = NULL;
	roster_record_free(out);
	if (user && !texts.event) {
		out->user = user;
		out->status = RECORD_ERROR;
		out->error = xstrdup(texts.too_large ? "too-large" : "invalid-roster");
		out->message = xstrdup(*why);
	} else {
		free(user);
	}
	return false;
}
