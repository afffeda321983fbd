#include "roster/refresh.h"

#include <search.h>
#include <stdlib.h>

#include "base/err.h"
#include "base/json-reader.h"
#include "roster/roster.h"

/* An object of objects of arrays is as deep as a record goes. */
#define LINE_MAX_DEPTH 16
#define BODY_DEPTH 4

struct request;

/* One request waits for one user. */
struct wait {
	struct request *request;
	struct wait **at, *next; /* in the user's list; at NULL: over */
};

struct request {
	struct request *previous, *next; /* by deadline */
	void *client;
	int64_t deadline_ms;
	size_t count, open;
	struct refresh_result result;
	struct wait waits[];
};

struct user {
	struct span name; /* owned; first, see compare() */
	struct user *previous, *next;
	bool busy, again, retried;
	struct wait *now, *later; /* the requests that wait for this run, and for the next */
};

struct user_list {
	struct user *first, *last;
	size_t count;
};

struct refresh {
	struct refresh_ops ops;
	void *context;
	size_t max_users, users, requests_count;
	void *tree;
	struct user_list queue, busy;
	struct request *first, *last;
};

static int compare(const void *a, const void *b)
{
	return span_compare(*(const struct span *)a, *(const struct span *)b);
}

static void list_add(struct user_list *list, struct user *u)
{
	u->previous = list->last;
	u->next = NULL;
	/* unlinked before it is freed, which the analyzer does not see */
	/* NOLINTNEXTLINE(clang-analyzer-unix.Malloc) */
	*(list->last ? &list->last->next : &list->first) = u;
	list->last = u;
	list->count++;
}

static void list_remove(struct user_list *list, struct user *u)
{
	*(u->previous ? &u->previous->next : &list->first) = u->next;
	*(u->next ? &u->next->previous : &list->last) = u->previous;
	list->count--;
}

static void wait_add(struct wait **list, struct wait *w)
{
	w->at = list;
	w->next = *list;
	if (w->next)
		w->next->at = &w->next;
	*list = w;
}

static void wait_remove(struct wait *w)
{
	if (!w->at)
		return;
	*w->at = w->next;
	if (w->next)
		w->next->at = w->at;
	w->at = NULL;
}

static void wait_move(struct wait **to, struct wait **from)
{
	while (*from) {
		struct wait *w = *from;

		wait_remove(w);
		wait_add(to, w);
	}
}

struct refresh *refresh_new(size_t max_users, const struct refresh_ops *ops, void *context)
{
	struct refresh *r = xcalloc(1, sizeof(*r));

	r->max_users = max_users;
	r->ops = *ops;
	r->context = context;
	return r;
}

static void user_free(struct refresh *r, struct user *u)
{
	tdelete(&u->name, &r->tree, compare);
	r->users--;
	free((char *)u->name.p);
	free(u);
}

void refresh_free(struct refresh *r)
{
	struct user_list *lists[] = {&r->queue, &r->busy};

	for (int i = 0; i < 2; i++) {
		while (lists[i]->first) {
			struct user *u = lists[i]->first;

			list_remove(lists[i], u);
			user_free(r, u);
		}
	}
	while (r->first) {
		struct request *next = r->first->next;

		free(r->first);
		r->first = next;
	}
	free(r);
}

bool refresh_has_room(const struct refresh *r, size_t count)
{
	return count <= r->max_users - r->users;
}

/* Requests ------------------------------------------------------------------------ */

static void request_answer(struct refresh *r, struct request *q)
{
	*(q->previous ? &q->previous->next : &r->first) = q->next;
	*(q->next ? &q->next->previous : &r->last) = q->previous;
	r->requests_count--;
	for (size_t i = 0; i < q->count; i++)
		wait_remove(&q->waits[i]);
	q->result.late = q->open;
	q->result.errors += q->open;
	r->ops.answer(r->context, q->client, &q->result);
	free(q);
}

static void waits_done(struct refresh *r, struct wait **list, bool ok)
{
	while (*list) {
		struct wait *w = *list;
		struct request *q = w->request;

		wait_remove(w);
		*(ok ? &q->result.updated : &q->result.errors) += 1;
		if (--q->open == 0)
			request_answer(r, q);
	}
}

static struct user *user_get(struct refresh *r, struct span name)
{
	struct user *u, **found = tfind(&name, &r->tree, compare);

	if (found)
		return *found;
	u = xcalloc(1, sizeof(*u));
	u->name = (struct span){xstrndup(name.p, name.n), name.n};
	if (!tsearch(&u->name, &r->tree, compare))
		err_die(EXIT_TEMPORARY, "out of memory");
	r->users++;
	list_add(&r->queue, u);
	return u;
}

bool refresh_ask(struct refresh *r, void *client, const struct span *names, size_t count,
	int64_t deadline_ms)
{
	struct request *q = NULL, *after = r->last;

	if (!refresh_has_room(r, count)) {
		size_t new = 0;

		for (size_t i = 0; i < count; i++)
			new += !tfind(&names[i], &r->tree, compare);
		if (!refresh_has_room(r, new))
			return false;
	}
	if (client) {
		q = xcalloc(1, sizeof(*q) + count * sizeof(q->waits[0]));
		q->client = client;
		q->deadline_ms = deadline_ms;
		q->count = q->open = count;
		while (after && after->deadline_ms > deadline_ms)
			after = after->previous;
		q->previous = after;
		q->next = after ? after->next : r->first;
		*(q->previous ? &q->previous->next : &r->first) = q;
		*(q->next ? &q->next->previous : &r->last) = q;
		r->requests_count++;
	}
	for (size_t i = 0; i < count; i++) {
		struct user *u = user_get(r, names[i]);

		u->again = u->busy;
		if (q) {
			q->waits[i] = (struct wait){.request = q};
			wait_add(&u->later, &q->waits[i]);
		}
	}
	if (q && count == 0)
		request_answer(r, q);
	return true;
}

/* Runs ---------------------------------------------------------------------------- */

void refresh_pump(struct refresh *r)
{
	while (r->queue.first) {
		struct user *u = r->queue.first;

		if (!r->ops.give(r->context, u->name))
			return;
		list_remove(&r->queue, u);
		list_add(&r->busy, u);
		u->busy = true;
		u->again = false;
		wait_move(&u->now, &u->later);
	}
}

static void user_done(struct refresh *r, struct user *u, bool ok, bool settled)
{
	list_remove(&r->busy, u);
	u->busy = u->retried = false;
	if (u->again) {
		u->again = false;
		list_add(&r->queue, u);
		waits_done(r, &u->now, ok);
		return;
	}
	/* before the answer, so that whoever gets it finds it done */
	if (settled)
		r->ops.settled(r->context, u->name);
	waits_done(r, &u->now, ok);
	user_free(r, u);
}

bool refresh_record(struct refresh *r, struct span name, bool ok)
{
	struct user **found = name.p ? tfind(&name, &r->tree, compare) : NULL;

	if (!found || !(*found)->busy)
		return false;
	user_done(r, *found, ok, true);
	return true;
}

void refresh_all_done(struct refresh *r)
{
	for (size_t left = r->busy.count; left > 0; left--)
		user_done(r, r->busy.first, true, true);
}

size_t refresh_worker_died(struct refresh *r)
{
	struct user_list again = {0};
	size_t failed = 0;

	while (r->busy.first) {
		struct user *u = r->busy.first;

		if (u->retried) {
			failed++;
			user_done(r, u, false, false);
			continue;
		}
		list_remove(&r->busy, u);
		list_add(&again, u);
		u->busy = u->again = false;
		u->retried = true;
		/* the next run serves all requests that come before it begins */
		wait_move(&u->later, &u->now);
	}
	/* they have waited longest */
	while (again.last) {
		struct user *u = again.last;

		/* unlinked before it is freed, which the analyzer does not see */
		/* NOLINTNEXTLINE(clang-analyzer-unix.Malloc) */
		list_remove(&again, u);
		u->previous = NULL;
		u->next = r->queue.first;
		*(u->next ? &u->next->previous : &r->queue.last) = u;
		r->queue.first = u;
		r->queue.count++;
	}
	return failed;
}

int64_t refresh_deadline_ms(const struct refresh *r)
{
	return r->first ? r->first->deadline_ms : INT64_MAX;
}

void refresh_tick(struct refresh *r, int64_t now_ms)
{
	while (r->first && r->first->deadline_ms <= now_ms)
		request_answer(r, r->first);
}

void refresh_finish(struct refresh *r)
{
	while (r->first)
		/* unlinked before it is freed, which the analyzer does not see */
		/* NOLINTNEXTLINE(clang-analyzer-unix.Malloc) */
		request_answer(r, r->first);
}

size_t refresh_requests(const struct refresh *r)
{
	return r->requests_count;
}

size_t refresh_users(const struct refresh *r)
{
	return r->users;
}

size_t refresh_busy(const struct refresh *r)
{
	return r->busy.count;
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

/* The strings of an array, each with a NUL, one behind the other in out->texts. */
static const char *names_read(struct json_reader *r, struct refresh_names *out)
{
	enum json_token token = json_reader_next(r);
	const char *why = NULL;

	if (token != JSON_READ_ARRAY)
		why = "the body is not an array of user names";
	while (!why && (token = json_reader_next(r)) == JSON_READ_STRING) {
		if (!roster_user_valid(r->text))
			break;
		buf_append_span(&out->texts, r->text);
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

bool refresh_names_parse(
	struct span body, size_t max_values, struct refresh_names *out, const char **why)
{
	struct json_reader reader;
	const char *at;

	*out = (struct refresh_names){0};
	buf_init(&out->texts, BUF_NO_MAX);
	json_reader_init(&reader, body, BODY_DEPTH, max_values);
	*why = names_read(&reader, out);
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

/* A record's or event's members; the roster among them is passed over. */
static void line_read(struct json_reader *r, struct refresh_said *said, bool found[4])
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

void refresh_said_init(struct refresh_said *said)
{
	buf_init(&said->user, BUF_NO_MAX);
	buf_init(&said->status, BUF_NO_MAX);
	buf_init(&said->event, BUF_NO_MAX);
	buf_init(&said->error, BUF_NO_MAX);
}

void refresh_said_free(struct refresh_said *said)
{
	buf_free(&said->user);
	buf_free(&said->status);
	buf_free(&said->event);
	buf_free(&said->error);
}

enum refresh_line refresh_line_parse(struct span line, struct refresh_said *said)
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

bool refresh_said_ok(const struct refresh_said *said)
{
	return span_is(buf_span(&said->status), "ok") ||
	       span_is(buf_span(&said->status), "unchanged");
}
