#include "roster/refresh.h"

#include <search.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/queue.h>

#include "base/backoff.h"
#include "base/deadline.h"
#include "base/err.h"
#include "base/json-reader.h"
#include "roster/roster.h"
#include "xmpp/jid.h"

/* An object of objects of arrays is as deep as a record goes. */
#define LINE_MAX_DEPTH 16
#define BODY_DEPTH 4
/* How many requests may wait for one user on average. */
#define WAITS_PER_USER 4
/* The error of users that two workers have died with. */
#define WORKER_DIED "worker-died"

struct request;

/* A request that waits for a user. */
struct wait {
	LIST_ENTRY(wait) list;
	struct request *request;
	struct user *user; /* NULL: over */
};
LIST_HEAD(waits, wait);

struct request {
	TAILQ_ENTRY(request) list; /* by deadline */
	void *client;
	int64_t deadline_ms;
	size_t count, open;
	struct refresh_result result;
	struct refresh_failure *failures;
	size_t failures_size;
	struct wait waits[];
};

enum user_state {
	USER_QUEUED,  /* asked for */
	USER_WAITING, /* has failed, and is tried again after all users that were asked for */
	USER_BUSY,    /* at the worker */
	USER_RESTING, /* has failed, and rests until it is tried again */
};

struct user {
	struct span name; /* owned; first, see compare() */
	TAILQ_ENTRY(user) list;
	enum user_state state;
	bool again;   /* asked for while busy */
	bool retried; /* a worker has died while it had this user */
	struct backoff backoff;
	int64_t begun_ms, due_ms; /* after failures: when they began; when it is tried again */
	struct waits now, later;  /* waits for this run, and for the next */
};
TAILQ_HEAD(users, user);

struct refresh {
	struct refresh_ops ops;
	void *context;
	size_t max_users, users, requests_count, waits_count, busy_count;
	int64_t give_up_ms;
	void *tree;
	struct users lists[4]; /* by enum user_state; resting: by due_ms */
	TAILQ_HEAD(requests, request) requests;
};

static int compare(const void *a, const void *b)
{
	return span_compare(*(const struct span *)a, *(const struct span *)b);
}

/* Users ---------------------------------------------------------------------------- */

static void user_leave(struct refresh *r, struct user *u)
{
	TAILQ_REMOVE(&r->lists[u->state], u, list);
	r->busy_count -= u->state == USER_BUSY;
}

static void user_enter(struct refresh *r, struct user *u, enum user_state state)
{
	u->state = state;
	r->busy_count += state == USER_BUSY;
	TAILQ_INSERT_TAIL(&r->lists[state], u, list);
}

static void user_move(struct refresh *r, struct user *u, enum user_state state)
{
	user_leave(r, u);
	user_enter(r, u, state);
}

/* Rests end in nearly the order in which they begin. */
static void user_rest(struct refresh *r, struct user *u, int64_t due_ms)
{
	struct user *before = TAILQ_LAST(&r->lists[USER_RESTING], users);

	u->due_ms = due_ms;
	while (before && before->due_ms > due_ms)
		before = TAILQ_PREV(before, users, list);
	user_leave(r, u);
	u->state = USER_RESTING;
	if (before)
		TAILQ_INSERT_AFTER(&r->lists[USER_RESTING], before, u, list);
	else
		TAILQ_INSERT_HEAD(&r->lists[USER_RESTING], u, list);
}

static void user_free(struct refresh *r, struct user *u)
{
	user_leave(r, u);
	tdelete(&u->name, &r->tree, compare);
	r->users--;
	free((char *)u->name.p);
	free(u);
}

static void wait_end(struct refresh *r, struct wait *w)
{
	if (!w->user)
		return;
	LIST_REMOVE(w, list);
	w->user = NULL;
	r->waits_count--;
}

static void waits_move(struct waits *to, struct waits *from)
{
	while (!LIST_EMPTY(from)) {
		struct wait *w = LIST_FIRST(from);

		LIST_REMOVE(w, list);
		LIST_INSERT_HEAD(to, w, list);
	}
}

struct refresh *refresh_new(
	size_t max_users, int64_t give_up_ms, const struct refresh_ops *ops, void *context)
{
	struct refresh *r = xcalloc(1, sizeof(*r));

	r->max_users = max_users;
	r->give_up_ms = give_up_ms;
	r->ops = *ops;
	r->context = context;
	for (int i = 0; i < 4; i++)
		TAILQ_INIT(&r->lists[i]);
	TAILQ_INIT(&r->requests);
	return r;
}

static void request_free(struct request *q)
{
	for (size_t i = 0; i < q->result.failures_count; i++)
		free(q->failures[i].name);
	free(q->failures);
	free(q);
}

void refresh_free(struct refresh *r)
{
	for (int i = 0; i < 4; i++)
		while (!TAILQ_EMPTY(&r->lists[i]))
			user_free(r, TAILQ_FIRST(&r->lists[i]));
	while (!TAILQ_EMPTY(&r->requests)) {
		struct request *q = TAILQ_FIRST(&r->requests);

		TAILQ_REMOVE(&r->requests, q, list);
		request_free(q);
	}
	free(r);
}

bool refresh_has_room(const struct refresh *r, size_t count)
{
	return count <= r->max_users - r->users &&
	       count <= WAITS_PER_USER * r->max_users - r->waits_count;
}

/* Requests ------------------------------------------------------------------------ */

static void failure_add(struct request *q, struct span name, const char *error)
{
	q->failures = xgrow(
		q->failures, &q->failures_size, q->result.failures_count, sizeof(*q->failures));
	q->failures[q->result.failures_count] =
		(struct refresh_failure){.name = xstrndup(name.p, name.n)};
	snprintf(q->failures[q->result.failures_count].error, sizeof(q->failures[0].error), "%s",
		error);
	q->result.failures_count++;
	q->result.errors++;
	q->result.passing &= refresh_passes(error);
}

static bool is_kept(const struct refresh *r, struct span name)
{
	return r->ops.keeps && r->ops.keeps(r->context, name);
}

static void request_answer(struct refresh *r, struct request *q)
{
	TAILQ_REMOVE(&r->requests, q, list);
	r->requests_count--;
	for (size_t i = 0; i < q->count; i++) {
		struct wait *w = &q->waits[i];

		if (!w->user)
			continue;
		failure_add(q, w->user->name, "timeout");
		q->result.late++;
		q->result.pending += is_kept(r, w->user->name);
		wait_end(r, w);
	}
	q->result.failures = q->failures;
	r->ops.answer(r->context, q->client, &q->result);
	request_free(q);
}

/* error: NULL, or why not; pending: it is tried again. */
static void waits_done(struct refresh *r, struct waits *list, const char *error, bool pending)
{
	while (!LIST_EMPTY(list)) {
		struct wait *w = LIST_FIRST(list);
		struct request *q = w->request;

		/* a wait keeps its user until it is done */
		if (error) /* NOLINTNEXTLINE(clang-analyzer-core.NullDereference) */
			failure_add(q, w->user->name, error);
		else
			q->result.updated++;
		q->result.pending += pending;
		wait_end(r, w);
		if (--q->open == 0)
			request_answer(r, q);
	}
}

static struct user *user_get(struct refresh *r, struct span name)
{
	struct user *u, **found = tfind(&name, &r->tree, compare);

	if (found) {
		u = *found;
		/* a user that is asked for again starts anew */
		if (u->state == USER_RESTING || u->state == USER_WAITING)
			user_move(r, u, USER_QUEUED);
		return u;
	}
	u = xcalloc(1, sizeof(*u));
	u->name = (struct span){xstrndup(name.p, name.n), name.n};
	u->backoff = (struct backoff){
		.first_ms = REFRESH_RETRY_FIRST_MS, .max_ms = REFRESH_RETRY_MAX_MS};
	u->begun_ms = DEADLINE_NEVER;
	if (!tsearch(&u->name, &r->tree, compare))
		err_die(EXIT_TEMPORARY, "out of memory");
	r->users++;
	user_enter(r, u, USER_QUEUED);
	return u;
}

static struct request *request_new(
	struct refresh *r, void *client, size_t count, int64_t deadline_ms)
{
	struct request *q = xcalloc(1, sizeof(*q) + count * sizeof(q->waits[0]));
	struct request *before;

	q->client = client;
	q->deadline_ms = deadline_ms;
	q->count = q->open = count;
	q->result.passing = true;
	TAILQ_FOREACH_REVERSE(before, &r->requests, requests, list)
	if (before->deadline_ms <= deadline_ms)
		break;
	if (before)
		TAILQ_INSERT_AFTER(&r->requests, before, q, list);
	else
		TAILQ_INSERT_HEAD(&r->requests, q, list);
	r->requests_count++;
	r->waits_count += count;
	return q;
}

bool refresh_ask(struct refresh *r, void *client, const struct span *names, size_t count,
	int64_t deadline_ms)
{
	struct request *q;

	if (!refresh_has_room(r, count)) {
		size_t new = 0;

		for (size_t i = 0; i < count; i++)
			new += !tfind(&names[i], &r->tree, compare);
		if (new > r->max_users - r->users ||
			(client && count > WAITS_PER_USER * r->max_users - r->waits_count))
			return false;
	}
	q = client ? request_new(r, client, count, deadline_ms) : NULL;
	for (size_t i = 0; i < count; i++) {
		struct user *u = user_get(r, names[i]);

		u->again = u->state == USER_BUSY;
		if (q) {
			q->waits[i] = (struct wait){.request = q, .user = u};
			LIST_INSERT_HEAD(&u->later, &q->waits[i], list);
		}
	}
	if (q && count == 0)
		request_answer(r, q);
	return true;
}

/* Runs ---------------------------------------------------------------------------- */

static bool give_from(struct refresh *r, enum user_state state)
{
	struct user *u;

	while ((u = TAILQ_FIRST(&r->lists[state]))) {
		if (!r->ops.give(r->context, u->name))
			return false;
		user_move(r, u, USER_BUSY);
		u->again = false;
		waits_move(&u->now, &u->later);
	}
	return true;
}

void refresh_pump(struct refresh *r)
{
	if (give_from(r, USER_QUEUED))
		give_from(r, USER_WAITING);
}

/* Whether a failure of this kind may be over when it is tried again. */
bool refresh_passes(const char *error)
{
	static const char *const passing[] = {"timeout", "connect", "tls", "truncated",
		"server-timeout", "http-408", "http-429", NULL};

	for (size_t i = 0; passing[i]; i++)
		if (strcmp(error, passing[i]) == 0)
			return true;
	return strncmp(error, "http-5", 6) == 0;
}

/* Let the user rest, then try it again, if the owner keeps it. False: it is not tried again. */
static bool try_again(struct refresh *r, struct user *u, const char *error, int64_t now_ms)
{
	if ((!refresh_passes(error) && strcmp(error, WORKER_DIED) != 0) || !is_kept(r, u->name))
		return false;
	if (u->begun_ms == DEADLINE_NEVER)
		u->begun_ms = now_ms;
	if (now_ms - u->begun_ms >= r->give_up_ms)
		return false;
	user_rest(r, u, now_ms + backoff_next_ms(&u->backoff));
	return true;
}

static void user_done(struct refresh *r, struct user *u, const char *error, int64_t now_ms)
{
	u->retried = false;
	if (!error) {
		u->backoff.times = 0;
		u->begun_ms = DEADLINE_NEVER;
	}
	if (u->again) {
		u->again = false;
		user_move(r, u, USER_QUEUED);
		waits_done(r, &u->now, error, error && is_kept(r, u->name));
		return;
	}
	if (error && try_again(r, u, error, now_ms)) {
		waits_done(r, &u->now, error, true);
		return;
	}
	/* before the answer, so that its receiver finds the user forgotten */
	if (!error || strcmp(error, WORKER_DIED) != 0)
		r->ops.settled(r->context, u->name, error);
	waits_done(r, &u->now, error, false);
	user_free(r, u);
}

bool refresh_record(struct refresh *r, struct span name, const char *error, int64_t now_ms)
{
	struct user **found = name.p ? tfind(&name, &r->tree, compare) : NULL;

	if (!found || (*found)->state != USER_BUSY)
		return false;
	user_done(r, *found, error, now_ms);
	return true;
}

void refresh_all_done(struct refresh *r)
{
	for (size_t left = r->busy_count; left > 0; left--)
		user_done(r, TAILQ_FIRST(&r->lists[USER_BUSY]), NULL, 0);
}

size_t refresh_worker_died(struct refresh *r, int64_t now_ms)
{
	struct users again = TAILQ_HEAD_INITIALIZER(again);
	struct user *u;
	size_t failed = 0;

	while ((u = TAILQ_FIRST(&r->lists[USER_BUSY]))) {
		if (u->retried) {
			failed++;
			user_done(r, u, WORKER_DIED, now_ms);
			continue;
		}
		user_leave(r, u);
		TAILQ_INSERT_TAIL(&again, u, list);
		u->state = USER_QUEUED;
		u->again = false;
		u->retried = true;
		/* the next run serves all that have asked until it begins */
		waits_move(&u->later, &u->now);
	}
	/* these users have waited longest */
	while ((u = TAILQ_LAST(&again, users))) {
		TAILQ_REMOVE(&again, u, list);
		TAILQ_INSERT_HEAD(&r->lists[USER_QUEUED], u, list);
	}
	return failed;
}

int64_t refresh_deadline_ms(const struct refresh *r)
{
	const struct request *q = TAILQ_FIRST(&r->requests);
	const struct user *u = TAILQ_FIRST(&r->lists[USER_RESTING]);
	int64_t deadline_ms = q ? q->deadline_ms : DEADLINE_NEVER;

	return u && u->due_ms < deadline_ms ? u->due_ms : deadline_ms;
}

void refresh_tick(struct refresh *r, int64_t now_ms)
{
	struct request *q;
	struct user *u;

	while ((q = TAILQ_FIRST(&r->requests)) && q->deadline_ms <= now_ms)
		request_answer(r, q);
	while ((u = TAILQ_FIRST(&r->lists[USER_RESTING])) && u->due_ms <= now_ms)
		user_move(r, u, USER_WAITING);
}

void refresh_finish(struct refresh *r)
{
	struct request *q;

	/* it leaves the list when it is answered NOLINTNEXTLINE(clang-analyzer-unix.Malloc) */
	while ((q = TAILQ_FIRST(&r->requests)))
		request_answer(r, q); /* NOLINT(clang-analyzer-unix.Malloc) */
}

size_t refresh_requests(const struct refresh *r)
{
	return r->requests_count;
}

size_t refresh_users(const struct refresh *r)
{
	return r->users;
}

size_t refresh_unfinished(const struct refresh *r)
{
	size_t resting = 0;
	const struct user *u;

	TAILQ_FOREACH(u, &r->lists[USER_RESTING], list)
	resting++;
	return r->users - resting;
}

size_t refresh_busy(const struct refresh *r)
{
	return r->busy_count;
}

/* JSON ---------------------------------------------------------------------------- */

static int compare_places(const void *a, const void *b)
{
	const struct span *const *x = a, *const *y = b;
	int order = compare(*x, *y);

	return order ? order : (*x > *y) - (*x < *y);
}

/* Remove duplicates. */
static void names_once(struct refresh_names *names)
{
	const struct span **places = xcalloc(names->count + 1, sizeof(struct span *));
	bool *twice = xcalloc(names->count + 1, sizeof(*twice));
	size_t n = 0;

	for (size_t i = 0; i < names->count; i++)
		places[i] = &names->list[i];
	qsort(places, names->count, sizeof(struct span *), compare_places);
	for (size_t i = 1; i < names->count; i++)
		if (compare(places[i - 1], places[i]) == 0)
			twice[places[i] - names->list] = true;
	for (size_t i = 0; i < names->count; i++)
		if (!twice[i])
			names->list[n++] = names->list[i];
	names->count = n;
	free(twice);
	free(places);
}

bool refresh_name_local(struct span *name, const char *host)
{
	const char *at = name->n ? memrchr(name->p, '@', name->n) : NULL;
	struct buf domain;
	bool same;

	if (at && host) {
		buf_init(&domain, BUF_NO_MAX);
		same = jid_normalise_domain(
			       span_from(*name, (size_t)(at - name->p) + 1), &domain) &&
		       span_is(buf_span(&domain), host);
		buf_free(&domain);
		name->n = (size_t)(at - name->p);
		if (!same || memchr(name->p, '@', name->n))
			return false;
	}
	return roster_user_valid(*name);
}

/* The strings of an array, each with a NUL, one behind the other in out->texts. */
static const char *names_read(struct json_reader *r, const char *host, struct refresh_names *out)
{
	enum json_token token = json_reader_next(r);
	const char *why = NULL;

	if (token != JSON_READ_ARRAY)
		why = "the body is not an array of user names";
	while (!why && (token = json_reader_next(r)) == JSON_READ_STRING) {
		struct span name = r->text;

		if (!refresh_name_local(&name, host))
			break;
		buf_append_span(&out->texts, name);
		buf_append_char(&out->texts, '\0');
		out->count++;
	}
	if (!why && token != JSON_READ_ARRAY_END)
		why = "not every element is a user name";
	while (json_reader_next(r) < JSON_READ_END)
		;
	return r->status == JSON_OK	    ? why
	       : r->status == JSON_TOO_MANY ? "the body has too many values"
					    : "the body is not JSON";
}

bool refresh_names_parse(struct span body, size_t max_values, const char *host,
	struct refresh_names *out, const char **why)
{
	struct json_reader reader;
	const char *at;

	*out = (struct refresh_names){0};
	buf_init(&out->texts, BUF_NO_MAX);
	json_reader_init(&reader, body, BODY_DEPTH, max_values);
	*why = names_read(&reader, host, out);
	json_reader_free(&reader);
	if (*why)
		return false;
	out->list = xcalloc(out->count + 1, sizeof(struct span));
	at = buf_span(&out->texts).p;
	for (size_t i = 0; i < out->count; i++) {
		out->list[i] = span_of(at);
		at += out->list[i].n + 1;
	}
	names_once(out);
	return true;
}

void refresh_names_free(struct refresh_names *names)
{
	buf_free(&names->texts);
	free(names->list);
	*names = (struct refresh_names){0};
}

/* Read the members of a record or event, without the roster. */
static void line_read(struct json_reader *r, struct refresh_worker_line *said, bool found[4])
{
	static const char *const names[] = {"user", "status", "event", "error"};
	struct buf *const texts[] = {&said->user, &said->status, &said->event, &said->error};
	enum json_token token = json_reader_next(r);

	while (token == JSON_READ_OBJECT && json_reader_next(r) == JSON_READ_NAME) {
		size_t i = 0;

		while (i < 4 && !span_is(r->text, names[i]))
			i++;
		token = json_reader_next(r);
		if (i < 4) {
			found[i] = token == JSON_READ_STRING;
			buf_reset(texts[i]);
		}
		if (i < 4 && found[i])
			buf_append_span(texts[i], r->text);
		json_reader_skip(r, token);
		token = JSON_READ_OBJECT;
	}
	while (json_reader_next(r) < JSON_READ_END)
		;
}

void refresh_worker_line_init(struct refresh_worker_line *said)
{
	buf_init(&said->user, BUF_NO_MAX);
	buf_init(&said->status, BUF_NO_MAX);
	buf_init(&said->event, BUF_NO_MAX);
	buf_init(&said->error, BUF_NO_MAX);
}

void refresh_worker_line_free(struct refresh_worker_line *said)
{
	buf_free(&said->user);
	buf_free(&said->status);
	buf_free(&said->event);
	buf_free(&said->error);
}

enum refresh_line refresh_line_parse(struct span line, struct refresh_worker_line *said)
{
	enum refresh_line kind = REFRESH_BAD;
	bool found[4] = {false}, user, status, event;
	struct json_reader reader;

	json_reader_init(&reader, line, LINE_MAX_DEPTH, SIZE_MAX);
	line_read(&reader, said, found);
	user = found[0];
	status = found[1];
	event = found[2];
	if (reader.status == JSON_OK && user && status)
		kind = REFRESH_RECORD;
	else if (reader.status == JSON_OK && event)
		kind = user && span_is(buf_span(&said->event), "login") ? REFRESH_LOGIN
									: REFRESH_OTHER;
	json_reader_free(&reader);
	if (kind != REFRESH_RECORD && kind != REFRESH_LOGIN)
		buf_reset(&said->user);
	return kind;
}

bool refresh_worker_line_ok(const struct refresh_worker_line *said)
{
	return span_is(buf_span(&said->status), "ok") ||
	       span_is(buf_span(&said->status), "unchanged");
}
