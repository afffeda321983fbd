/* roster/roster.h - contact lists: validation, records, differences (roster-stream(7))
 *
 * A roster is a set of items, sorted by JID; JIDs are bare and normalised. The
 * web application's JSON is either a whole valid roster or an error, never a
 * shorter roster. Single bad contacts are listed as skipped: such a contact is left as it is on the
 * server, not removed.
 *
 * A key of the JSON is a contact if it is a bare JID with '@', or a domain with a dot whose value
 * is an object that has members and none but name, groups, subscription. Another key (an error's
 * text, an envelope's "data") makes it doubtful whether the roster is complete: the key is skipped
 * as foreign, and no contact is removed because of such a roster. An object without a single
 * contact among its keys is no roster. Pure: no I/O.
 */
#ifndef OUTBOARD_ROSTER_ROSTER_H
#define OUTBOARD_ROSTER_ROSTER_H

#include "base/buf.h"
#include "base/json.h"
#include "base/span.h"

/* RFC 6121 2.1.2.5 */
enum roster_subscription { ROSTER_NONE, ROSTER_TO, ROSTER_FROM, ROSTER_BOTH };

struct roster_item {
	char *jid;     /* bare, normalised; owned, as the rest */
	char *name;    /* NULL: none; never "" */
	char **groups; /* sorted, each once, none empty */
	size_t groups_count;
	enum roster_subscription subscription;
	/* In a server's item: a request of the user that the contact has not answered; a request
	 * of the contact that the user has not answered. Never in records. */
	bool asking, asked;
	void *block;  /* private: NULL, or the one allocation that holds all of the above */
	size_t place; /* private: index of the key it was read from */
};

struct roster {
	struct roster_item *items; /* sorted by jid, each once */
	size_t count, size;
};

/* A contact of the web application's answer that is skipped, and why. */
struct roster_skip {
	char *contact; /* the key as it was written */
	char *why;
	bool foreign; /* the key is no contact */
};

struct roster_skips {
	struct roster_skip *list;
	size_t count, size;
	size_t foreign; /* how many of them are foreign */
	char **jids;	/* private: the bare JIDs of the skipped keys that are addresses, sorted */
	size_t jids_count;
};

void roster_init(struct roster *r);
void roster_free(struct roster *r);
void roster_skips_free(struct roster_skips *s);
/* Whether one of them is this bare JID, or a resource of it. */
bool roster_skips_has(const struct roster_skips *s, const char *jid);

/* Log a warning about the skipped contacts of a user's record: how many, and the first; with -v
 * all of them. */
void roster_skips_log(const struct roster_skips *s, const char *user);

/* Contacts, and groups whose contacts are neither added, changed nor removed (--keep,
 * --keep-group). */
struct roster_keep {
	struct buf jids, domains, above, groups; /* private: NUL after each; above: of *.DOMAIN */
};

void roster_keep_init(struct roster_keep *k);
void roster_keep_free(struct roster_keep *k);
/* JID, DOMAIN (with all addresses there) or *.DOMAIN (all domains below it). False: none. */
bool roster_keep_add(struct roster_keep *k, const char *text);
void roster_keep_add_group(struct roster_keep *k, const char *name);
/* k may be NULL: nothing is kept. */
bool roster_keep_has(const struct roster_keep *k, const char *jid);
bool roster_keep_has_group(const struct roster_keep *k, const struct roster_item *item);

/* Add an item; the roster owns its pointers from now on. Call roster_sort() after the last one. */
void roster_add_take(struct roster *r, struct roster_item *item);
void roster_item_free(struct roster_item *item);
/* Add a group to an item that was not read from JSON; then sort the groups. */
void roster_item_group(struct roster_item *item, struct span group);
/* Sort the groups and remove duplicates. */
void roster_item_groups_sort(struct roster_item *item);
/* Sort by JID. False if a JID is there twice. */
bool roster_sort(struct roster *r);
/* By JID; NULL. */
const struct roster_item *roster_find(const struct roster *r, const char *jid);

const char *roster_subscription_name(enum roster_subscription s);
/* False if the text is not "none", "to", "from" or "both". */
bool roster_subscription_parse(struct span name, enum roster_subscription *out);

enum roster_status {
	ROSTER_OK,
	ROSTER_NOT_JSON,  /* not one whole JSON text */
	ROSTER_INVALID,	  /* JSON, but no valid roster */
	ROSTER_TOO_LARGE, /* more contacts or values than are taken */
};

#define ROSTER_MAX_CONTACTS 20000
#define ROSTER_MAX_VALUES 400000

/* How a roster is read. */
struct roster_rules {
	struct span own; /* the user's own bare JID: skipped; absent when the host is not known */
	bool strict;	 /* one bad contact makes the whole roster invalid */
	const struct roster_keep
		*keep; /* a key that it has is a contact whatever its value; or NULL */
	size_t max_contacts, max_values;
};

#define ROSTER_RULES_INIT                                                                          \
	{                                                                                          \
		.max_contacts = ROSTER_MAX_CONTACTS, .max_values = ROSTER_MAX_VALUES               \
	}

/* Read a web application's answer: one JSON object {JID: contact}, or PHP's [] for an empty one. On
 * ROSTER_OK out and skips are filled (free them in any case); otherwise message says what is wrong.
 */
enum roster_status roster_parse(struct span json, const struct roster_rules *rules,
	struct roster *out, struct roster_skips *skips, struct buf *message);

/* Records --------------------------------------------------------------- */

enum record_status { RECORD_OK, RECORD_UNCHANGED, RECORD_ERROR };

struct roster_record {
	char *user; /* valid (roster_user_valid()), unless RECORD_ERROR: any line */
	enum record_status status;
	struct roster roster;	   /* unless RECORD_ERROR */
	struct roster_skips skips; /* unless RECORD_ERROR */
	bool removals_all;	   /* "removals":"all": every missing contact may be removed */
	size_t bytes;		   /* of the line that it was read from */
	char *error, *message;	   /* RECORD_ERROR; message may be NULL */
};

void roster_record_free(struct roster_record *r);
/* Parse one line. False if it is no record (*why: static). Where such a line still names a user,
 * out is an error record of that user with *why as its message. An event is no record and names no
 * user.
 * Free out in any case. rules: of its roster; NULL: the usual ones. */
bool roster_record_parse(struct span line, const struct roster_rules *rules,
	struct roster_record *out, const char **why);
/* Append one line with its newline. Invalid UTF-8 in the user name is impossible: it has come out
 * of JSON. */
void roster_record_format(const struct roster_record *r, struct buf *out);
/* An error record in one call. message may be NULL. */
void roster_error_format(struct span user, const char *error, const char *message, struct buf *out);
/* {"name":"Marie","groups":["A"],"subscription":"both"} */
void roster_item_format(const struct roster_item *item, struct buf *out);
/* {"marie@example.com":{"name":...,"groups":[...],"subscription":"both"}} */
void roster_format(const struct roster *r, struct buf *out);

/* A name line: valid UTF-8, 1..1023 bytes, no control characters. */
bool roster_user_valid(struct span user);

/* Differences ----------------------------------------------------------- */

enum roster_change_kind { CHANGE_ADD, CHANGE_UPDATE, CHANGE_REMOVE };

struct roster_change {
	enum roster_change_kind kind;
	const struct roster_item *old, *new; /* NULL where there is none */
	bool name, groups, subscription;     /* CHANGE_UPDATE: what differs */
	bool request;			     /* CHANGE_UPDATE: the old item has an open request */
};

/* Call fn for each change that makes `to` out of `from`, in the order of JIDs. */
void roster_diff(const struct roster *from, const struct roster *to,
	void (*fn)(void *context, const struct roster_change *c), void *context);

#endif
