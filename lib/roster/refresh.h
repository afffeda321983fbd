/* roster/refresh.h - users whose rosters are refreshed, and the requests that wait for them
 *
 * Invariants: a user is at the worker at most once. A user that is asked for meanwhile is queued
 * once more, and that request waits for the second run: the first may have missed the change. Names
 * go out in the order in which they were asked for. Each request is answered exactly once: when all
 * its users are done, or at its deadline. A deadline changes nothing for the users: they stay busy
 * until their record, or the worker's end, comes, and a late record answers no request. When the
 * worker dies, its names are given once to the next worker; names whose second worker dies as well
 * have failed. A user whose failure may pass, and whom the owner keeps (in a spool), rests and is
 * tried again after all users that were asked for: in 1 s, then in twice as long, up to 5 minutes.
 * Pure: no I/O, no clock.
 */
#ifndef OUTBOARD_ROSTER_REFRESH_H
#define OUTBOARD_ROSTER_REFRESH_H

#include <stdint.h>

#include "base/buf.h"

struct refresh;

struct refresh_failure {
	char *name;
	char error[32]; /* the record's, or "timeout", "worker-died" */
};

struct refresh_result {
	size_t updated, errors; /* numbers of users; their sum is the number asked for */
	size_t late;		/* among the errors: no record came until the deadline */
	size_t pending;		/* among the errors: they are tried again */
	bool passing;		/* all errors are of kinds that may pass */
	const struct refresh_failure *failures;
	size_t failures_count;
};

/* The pause before a user that has failed is tried again. */
#define REFRESH_RETRY_FIRST_MS 1000
#define REFRESH_RETRY_MAX_MS (5 * 60 * 1000)

struct refresh_ops {
	/* Hand a name to the worker; false: not now (refresh_pump() tries again). */
	bool (*give)(void *context, struct span name);
	void (*answer)(void *context, void *client, const struct refresh_result *result);
	/* A user's record came, nobody has asked for the user since, and it is not tried again: may
	 * be forgotten. error: NULL, or what it has failed with for good. */
	void (*settled)(void *context, struct span name, const char *error);
	/* Whether a user that has failed is tried again. NULL: none is. */
	bool (*keeps)(void *context, struct span name);
};

/* *ops is copied. */
/* give_up_ms: how long a user is tried again. */
struct refresh *refresh_new(
	size_t max_users, int64_t give_up_ms, const struct refresh_ops *ops, void *context);
/* Requests that wait get no answer. */
void refresh_free(struct refresh *r);
/* Whether there is room for `count` more users. */
bool refresh_has_room(const struct refresh *r, size_t count);
/* Ask for users, each name once (copied). client NULL: no answer is wanted. The answer comes
 * before this returns only for a count of 0. False: there is no room, and no name was taken. */
bool refresh_ask(struct refresh *r, void *client, const struct span *names, size_t count,
	int64_t deadline_ms);
/* Give queued names to the worker, while it takes them. */
void refresh_pump(struct refresh *r);
/* The worker's record of a user came. error NULL: its roster is right. False: the worker was not
 * asked for this user. */
bool refresh_record(struct refresh *r, struct span name, const char *error, int64_t now_ms);
/* Whether an error is of a kind that may pass: the network, or the web application, is down. */
bool refresh_passes(const char *error);
/* Count each user at the worker as done (for a worker that only takes names). */
void refresh_all_done(struct refresh *r);
/* The worker is gone, with all its names. Returns how many users have failed by that. */
size_t refresh_worker_died(struct refresh *r, int64_t now_ms);
/* The earliest time at which a request ends or a user is tried again; DEADLINE_NEVER: none. */
int64_t refresh_deadline_ms(const struct refresh *r);
/* Answer the requests whose deadline has passed, and queue users whose rest is over. */
void refresh_tick(struct refresh *r, int64_t now_ms);
/* Answer all. */
void refresh_finish(struct refresh *r);
/* Requests not answered. */
size_t refresh_requests(const struct refresh *r);
/* Users known, and those of them that are at the worker. */
size_t refresh_users(const struct refresh *r);
/* Users that are queued or at the worker, without those that rest. */
size_t refresh_unfinished(const struct refresh *r);
size_t refresh_busy(const struct refresh *r);

/* The names of a request body: a JSON array of strings, each a user name (roster_user_valid()), in
 * the order in which they came, each once. */
struct refresh_names {
	struct span *list; /* into texts */
	size_t count;
	struct buf texts; /* private */
};
/* False: `why` (static) says what is wrong. Free the names in any case. */
bool refresh_names_parse(struct span body, size_t max_values, const char *host,
	struct refresh_names *out, const char **why);
/* Make name@HOST the localpart, where a host (normalised) is given. False: not a user name, or of
 * another host. */
bool refresh_name_local(struct span *name, const char *host);
void refresh_names_free(struct refresh_names *names);

/* What a worker's line is. */
enum refresh_line { REFRESH_RECORD, REFRESH_LOGIN, REFRESH_OTHER, REFRESH_BAD };
struct refresh_worker_line {
	struct buf user, status, event, error; /* empty: not there */
};
void refresh_worker_line_init(struct refresh_worker_line *said);
void refresh_worker_line_free(struct refresh_worker_line *said);
/* said is initialised and empty. A record has user and status, a login event the user;
 * REFRESH_OTHER is an event that is none of ours. */
enum refresh_line refresh_line_parse(struct span line, struct refresh_worker_line *said);
/* Of a record: status ok or unchanged. */
bool refresh_worker_line_ok(const struct refresh_worker_line *said);

#endif
