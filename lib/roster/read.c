#include <stdlib.h>

#include "base/err.h"
#include "base/json-reader.h"
#include "base/utf8.h"
#include "roster/read.h"
#include "xmpp/jid.h"

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

bool roster_user_valid(struct span user)
{
	return user.n >= 1 && user.n <= JID_PART_MAX_BYTES && text_valid(user);
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
	d->groups = xgrow(d->groups, &d->groups_size, d->groups_count, sizeof(*d->groups));
	d->groups[d->groups_count] = word_add(&d->words, group);
	d->groups_count += *word_at(d, d->groups[d->groups_count]) != '\0';
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
	roster_item_groups_sort(&item);
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

bool roster_key_normalise(struct span key, struct buf *jid)
{
	struct span bare = jid_bare(key), domain = jid_domain(key);

	return key.n <= JID_MAX_BYTES && domain.n <= JID_PART_MAX_BYTES &&
	       bare.n - domain.n <= JID_PART_MAX_BYTES + 1 &&
	       key.n - bare.n <= JID_PART_MAX_BYTES + 1 && jid_normalise(key, jid);
}

/* NULL, or why the key is no address that a contact can have. */
static const char *read_key(struct draft *d)
{
	struct span key = buf_span(&d->key), jid;

	if (!roster_key_normalise(key, &d->jid))
		return "not a JID";
	jid = buf_span(&d->jid);
	if (jid_is_full(jid))
		return "not a bare JID";
	return memchr(jid.p, '@', jid.n) || memchr(jid.p, '.', jid.n) ? NULL : "no contact";
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

	g->keys = xgrow(g->keys, &g->keys_size, g->out->count, sizeof(*g->keys));
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
	roster_skips_add(g->skips, buf_span(&d->key), span_of(why), foreign);
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
	return !roster_skips_index(g->skips, r) && distinct;
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

enum roster_status roster_read(struct json_reader *reader, enum json_token token,
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

enum roster_status roster_read_end(struct json_reader *r, struct buf *message)
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
	json_reader_init(&reader, json, ROSTER_JSON_DEPTH, rules->max_values);
	status = roster_read(&reader, json_reader_next(&reader), rules, out, skips, message);
	whole = status == ROSTER_TOO_LARGE ? status : roster_read_end(&reader, message);
	json_reader_free(&reader);
	if (whole != ROSTER_OK)
		status = whole;
	if (status != ROSTER_OK) {
		roster_free(out);
		roster_skips_free(skips);
	}
	return status;
}
