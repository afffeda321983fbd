/* roster/roster.h - contact lists: validation, records, differences (roster-stream(7))
 *
 * A roster is a set of items, sorted by JID; JIDs are bare and normalised. The
 * web application's JSON is either a whole valid roster or an error, never a
 * shorter roster; single bad contacts are left out and listed as skipped, which
 * means "leave it as it is", not "remove it". Pure: no I/O.
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
	void *block; /* private: NULL, or the one allocation that holds all of the above */
};

struct roster {
	struct roster_item *items; /* sorted by jid, each once */
	size_t count, size;
};

/* A contact of the web application that is left as it is, and why. */
struct roster_skip {
	char *contact;	 /* the key as it was written */
	const char *why; /* static */
};

struct roster_skips {
	struct roster_skip *list;
	size_t count, size;
	char **jids; /* private: the bare JIDs of those that are addresses, sorted */
	size_t jids_count;
};

void roster_init(struct roster *r);
void roster_free(struct roster *r);
void roster_skips_free(struct roster_skips *s);
/* Whether one of them is this bare JID, or a resource of it. */
bool roster_skips_has(const struct roster_skips *s, const char *jid);

/* Take an item over (its pointers are owned by the roster from now on). The order is made by
 * roster_sort(). */
void roster_add_take(struct roster *r, struct roster_item *item);
void roster_item_free(struct roster_item *item);
/* Add a group as it is; then sort, each once. Not to an item that was read from JSON. */
void roster_item_group(struct roster_item *item, struct span group);
void roster_item_groups_sort(struct roster_item *item);
/* Sort by JID. False if a JID is there twice. */
bool roster_sort(struct roster *r);
/* By JID; NULL. */
const struct roster_item *roster_find(const struct roster *r, const char *jid);

const char *roster_subscription_name(enum roster_subscription s);
/* false if it is none of none, to, from, both */
bool roster_subscription_parse(const char *name, enum roster_subscription *out);

enum roster_status {
	ROSTER_OK,
	ROSTER_NOT_JSON, /* not one whole JSON text */
	ROSTER_INVALID,	 /* JSON, but no valid roster */
};

/* Read a web application's answer: one JSON object {JID: contact}. own: the user's own bare JID, or
 * absent when the host is not known (then a key of which only the localpart equals `user` is kept).
 * strict: one bad contact makes the whole roster invalid. On ROSTER_OK out and skips are filled
 * (free them in any case); otherwise *why (static, or in `message`) says what is wrong. */
enum roster_status roster_parse(struct span json, struct span own, bool strict, struct roster *out,
	struct roster_skips *skips, struct buf *message);
/* The same from a parsed object. */
enum roster_status roster_from_json(struct json_object *object, struct span own, bool strict,
	struct roster *out, struct roster_skips *skips, struct buf *message);

/* Records --------------------------------------------------------------- */

enum record_status { RECORD_OK, RECORD_UNCHANGED, RECORD_ERROR };

struct roster_record {
	char *user; /* valid (roster_user_valid()), unless RECORD_ERROR: any line */
	enum record_status status;
	struct roster roster;	   /* unless RECORD_ERROR */
	struct roster_skips skips; /* unless RECORD_ERROR */
	char *error, *message;	   /* RECORD_ERROR; message may be NULL */
};

void roster_record_free(struct roster_record *r);
/* Parse one line. False if it is no record (*why: static); where it still says whose it would be,
 * out is an error record of that user with *why as its message. An event is none, and nobody's.
 * Free out in any case. */
bool roster_record_parse(struct span line, struct roster_record *out, const char **why);
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
};

/* Call fn for each change that makes `to` out of `from`, in the order of JIDs. */
void roster_diff(const struct roster *from, const struct roster *to,
	void (*fn)(void *context, const struct roster_change *c), void *context);

#endif
