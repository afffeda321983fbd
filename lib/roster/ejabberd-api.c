#include "roster/ejabberd-api.h"

#include <stdlib.h>

#include "loop/curlloop.h"
#include "base/err.h"
#include "xmpp/jid.h"

#define MAX_RESPONSE_BYTES (64 * 1024 * 1024)
#define PIPELINE 8
#define NO_LIST "get_roster gave no list"

enum step {
	STEP_ACCOUNT, /* is there such a user? */
	STEP_ROSTER,
	STEP_ADD,
	STEP_BEFORE, /* the contact's roster, before the item is deleted */
	STEP_DELETE,
	STEP_AFTER,
	STEP_RESTORE,
};

/* One thing to do, in one or several requests. */
struct call {
	struct call *next;
	struct ejabberd_api *api;
	enum step step;
	struct apply_job *job; /* NULL: the job is gone */
	struct apply_change *change;
	CURL *easy;
	struct buf body, response;
	bool mends;	       /* the contact keeps the user: see STEP_BEFORE to STEP_RESTORE */
	struct roster contact; /* STEP_DELETE..: the contact's roster as it was */
};

struct ejabberd_api {
	struct ejabberd_api_config config;
	struct loop *loop;
	struct curlloop *curl;
	struct curl_slist *headers;
	bool v1;
	char *base; /* without a slash at its end */
	struct call *calls;
};

/* JSON ------------------------------------------------------------------- */

static void member(struct buf *out, const char *name, struct span value)
{
	buf_append_char(out, buf_length(out) ? ',' : '{');
	json_string(out, span_of(name));
	buf_append_char(out, ':');
	json_string(out, value);
}

static void groups_member(struct buf *out, bool v1, const struct roster_item *item)
{
	struct buf joined;

	if (v1) {
		buf_append_string(out, ",\"groups\":[");
		for (size_t i = 0; i < item->groups_count; i++) {
			if (i)
				buf_append_char(out, ',');
			json_string(out, span_of(item->groups[i]));
		}
		buf_append_char(out, ']');
		return;
	}
	buf_init(&joined, BUF_NO_MAX);
	for (size_t i = 0; i < item->groups_count; i++) {
		if (i)
			buf_append_char(&joined, ';');
		buf_append_string(&joined, item->groups[i]);
	}
	member(out, "group", buf_span(&joined));
	buf_free(&joined);
}

static struct span local_part(struct span jid)
{
	struct jid parts;

	return jid_split(jid, &parts) && parts.local.p ? parts.local : SPAN("");
}

/* "G1;G2", as versions before /v1 write groups: so none has a semicolon in its name. */
static void split_groups(struct roster_item *item, struct span groups)
{
	while (groups.n) {
		const char *semicolon = memchr(groups.p, ';', groups.n);
		size_t n = semicolon ? (size_t)(semicolon - groups.p) : groups.n;

		if (n)
			roster_item_group(item, (struct span){groups.p, n});
		groups = span_from(groups, semicolon ? n + 1 : n);
	}
}

/* Change an item's groups as the server will; otherwise they would differ in each run. */
static void item_as_split(struct roster_item *item)
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

/* Of a sorted roster: entries of one contact become one item that has the groups of all. */
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
		roster_item_groups_sort(last);
		roster_item_free(item);
	}
	r->count = (size_t)(last - r->items) + 1;
}

/* get_roster's answer: a list of {jid, nick, subscription, ask, group}; a contact in several groups
 * may be listed once for each. */
static bool read_roster(struct span text, struct roster *out)
{
	struct json_object *list, *entry;
	struct buf jid;
	bool ok;

	roster_init(out);
	buf_init(&jid, BUF_NO_MAX);
	ok = json_parse(text, 16, &list, &jid) == JSON_OK &&
	     json_object_is_type(list, json_type_array);
	for (size_t i = 0; ok && i < json_object_array_length(list); i++) {
		struct roster_item item = {.subscription = ROSTER_NONE};
		struct span nick, subscription;

		entry = json_object_array_get_idx(list, i);
		nick = json_member_text(entry, "nick");
		subscription = json_member_text(entry, "subscription");
		buf_reset(&jid);
		if (!jid_normalise(json_member_text(entry, "jid"), &jid))
			continue;
		item.jid = xstrdup(buf_string(&jid));
		if (nick.n)
			item.name = xstrndup(nick.p, nick.n);
		if (subscription.n)
			roster_subscription_parse(subscription.p, &item.subscription);
		add_groups(&item, entry);
		roster_add_take(out, &item);
	}
	if (!roster_sort(out))
		merge_repeated(out);
	buf_free(&jid);
	json_object_put(list);
	return ok;
}

/* Requests --------------------------------------------------------------- */

static size_t on_bytes(char *bytes, size_t one, size_t n, void *context)
{
	struct call *call = context;

	return buf_append(&call->response, bytes, one * n) ? one * n : 0;
}

static void post(struct call *call, const char *command)
{
	struct ejabberd_api *e = call->api;
	struct buf url;

	buf_append_char(&call->body, '}');
	buf_reset(&call->response);
	buf_init(&url, BUF_NO_MAX);
	buf_printf(&url, "%s/%s", e->base, command);
	CURLLOOP_SET(call->easy, CURLOPT_URL, buf_string(&url));
	buf_free(&url);
	CURLLOOP_SET(call->easy, CURLOPT_POSTFIELDSIZE_LARGE, (curl_off_t)buf_length(&call->body));
	CURLLOOP_SET(call->easy, CURLOPT_POSTFIELDS, buf_string(&call->body));
	CURLLOOP_SET(call->easy, CURLOPT_HTTPHEADER, e->headers);
	CURLLOOP_SET(call->easy, CURLOPT_WRITEFUNCTION, on_bytes);
	CURLLOOP_SET(call->easy, CURLOPT_WRITEDATA, call);
	CURLLOOP_SET(call->easy, CURLOPT_PRIVATE, call);
	CURLLOOP_SET(call->easy, CURLOPT_NOSIGNAL, 1L);
	CURLLOOP_SET(call->easy, CURLOPT_PROTOCOLS_STR, "http,https");
	CURLLOOP_SET(call->easy, CURLOPT_TIMEOUT_MS, (long)e->config.timeout_ms);
	curlloop_add(e->curl, call->easy);
}

static struct call *call_new(
	struct ejabberd_api *e, struct apply_job *job, struct apply_change *change)
{
	struct call *call = xcalloc(1, sizeof(*call));

	call->api = e;
	call->job = job;
	call->change = change;
	call->easy = curl_easy_init();
	if (!call->easy)
		err_die(EXIT_TEMPORARY, "out of memory");
	buf_init(&call->body, BUF_NO_MAX);
	buf_init(&call->response, MAX_RESPONSE_BYTES);
	call->next = e->calls;
	e->calls = call;
	return call;
}

static void call_free(struct call *call)
{
	struct call **at = &call->api->calls;

	while (*at != call)
		at = &(*at)->next;
	*at = call->next;
	curlloop_remove(call->api->curl, call->easy);
	curl_easy_cleanup(call->easy);
	buf_free(&call->body);
	buf_free(&call->response);
	roster_free(&call->contact);
	free(call);
}

/* get_roster of user, or check_account. */
static void ask_user(struct call *call, enum step step, const char *command, struct span jid)
{
	call->step = step;
	buf_reset(&call->body);
	member(&call->body, "user", local_part(jid));
	member(&call->body, "host", jid_domain(jid));
	post(call, command);
}

/* The item of contact in the roster of user. */
static void add_item(
	struct call *call, enum step step, struct span user, const struct roster_item *item)
{
	struct span contact = span_of(item->jid);

	call->step = step;
	buf_reset(&call->body);
	member(&call->body, "localuser", local_part(user));
	member(&call->body, "localhost", jid_domain(user));
	member(&call->body, "user", local_part(contact));
	member(&call->body, "host", jid_domain(contact));
	member(&call->body, "nick", item->name ? span_of(item->name) : SPAN(""));
	groups_member(&call->body, call->api->v1, item);
	member(&call->body, "subs", span_of(roster_subscription_name(item->subscription)));
	post(call, "add_rosteritem");
}

static void delete_item(struct call *call, struct span user, struct span contact)
{
	call->step = STEP_DELETE;
	buf_reset(&call->body);
	member(&call->body, "localuser", local_part(user));
	member(&call->body, "localhost", jid_domain(user));
	member(&call->body, "user", local_part(contact));
	member(&call->body, "host", jid_domain(contact));
	post(call, "delete_rosteritem");
}

/* Answers ---------------------------------------------------------------- */

static void call_done(struct call *call, const char *error, const char *message)
{
	struct ejabberd_api *e = call->api;
	struct apply_job *job = call->job;
	struct apply_change *change = call->change;
	enum step step = call->step;
	struct turn turn = {.now_ms = loop_now_ms(e->loop)};
	struct roster roster;
	struct buf words;

	buf_init(&words, 256);
	if (message)
		buf_append_string(&words, message);
	roster_init(&roster);
	if (!error && step == STEP_ROSTER && !read_roster(buf_span(&call->response), &roster)) {
		error = "rejected";
		buf_append_string(&words, NO_LIST);
	}
	call_free(call);
	if (!job)
		; /* no job waits for it */
	else if (change)
		apply_changed(e->config.apply, job, change, error, buf_string(&words), &turn);
	else
		apply_got(e->config.apply, job, &roster, error, buf_string(&words), &turn);
	roster_free(&roster);
	buf_free(&words);
}

/* Whether a record in hand has user (no longer) in the roster of contact. */
static bool drops(const struct ejabberd_api *e, struct span contact, struct buf *user)
{
	const struct roster_record *record = apply_record_of(e->config.apply, contact);

	return record && !roster_find(&record->roster, buf_string(user)) &&
	       !roster_skips_has(&record->skips, buf_string(user));
}

/* Deleting the user's item has also changed the item of the contact, who keeps the user. Restore
 * it, or make it what a record in hand wants. */
static void mend(struct call *call, struct span contact, const struct roster *after)
{
	struct buf *user = &call->job->jid;
	const struct roster_item *before = roster_find(&call->contact, buf_string(user));
	const struct roster_item *now = roster_find(after, before->jid);
	const struct roster_record *record = apply_record_of(call->api->config.apply, contact);
	const struct roster_item *wanted =
		record ? roster_find(&record->roster, buf_string(user)) : NULL;
	struct roster_item item = now ? *now : *before;

	if (drops(call->api, contact, user) || (now && now->subscription == before->subscription)) {
		call_done(call, NULL, NULL);
		return;
	}
	item.subscription = before->subscription;
	if (wanted)
		item = *wanted;
	add_item(call, STEP_RESTORE, contact, &item);
}

/* The next step of a call whose request went well. */
static void call_next(struct call *call)
{
	struct ejabberd_api *e = call->api;
	struct turn turn = {.now_ms = loop_now_ms(e->loop)};
	struct span user = buf_span(&call->job->jid);
	struct span contact =
		call->change && call->change->old ? span_of(call->change->old->jid) : SPAN("");
	const struct roster_item *before;
	struct roster after;

	apply_alive(e->config.apply, call->job, &turn);
	switch (call->step) {
	case STEP_ACCOUNT:
		if (!span_is(buf_span(&call->response), "0"))
			call_done(call, "rejected", "no such user");
		else
			ask_user(call, STEP_ROSTER, "get_roster", user);
		return;
	case STEP_BEFORE:
		if (read_roster(buf_span(&call->response), &call->contact))
			delete_item(call, user, contact);
		else
			call_done(call, "rejected", NO_LIST);
		return;
	case STEP_DELETE:
		before = roster_find(&call->contact, buf_string(&call->job->jid));
		if (before && !drops(e, contact, &call->job->jid))
			ask_user(call, STEP_AFTER, "get_roster", contact);
		else
			call_done(call, NULL, NULL);
		return;
	case STEP_AFTER:
		if (read_roster(buf_span(&call->response), &after))
			mend(call, contact, &after);
		else
			call_done(call, "rejected", NO_LIST);
		roster_free(&after);
		return;
	case STEP_ROSTER:
	case STEP_ADD:
	case STEP_RESTORE:
		call_done(call, NULL, NULL);
	}
}

static void on_done(void *context, CURL *easy, CURLcode code)
{
	struct call *call = NULL;
	struct buf message;
	long status = 0;
	struct span body;

	(void)context;
	curl_easy_getinfo(easy, CURLINFO_PRIVATE, (char **)&call);
	curl_easy_getinfo(easy, CURLINFO_RESPONSE_CODE, &status);
	if (!call->job) {
		call_free(call);
		return;
	}
	buf_init(&message, 512);
	if (code == CURLE_OPERATION_TIMEDOUT) {
		call_done(call, "server-timeout", "the API does not answer");
	} else if (code != CURLE_OK) {
		buf_append_string(&message, curl_easy_strerror(code));
		call_done(call, "connect", buf_string(&message));
	} else if (status == 200) {
		call_next(call);
	} else {
		body = buf_span(&call->response);
		buf_printf(&message, "HTTP %ld: %.*s", status, body.n > 200 ? 200 : (int)body.n,
			body.p);
		call_done(call, status == 401 || status == 403 ? "forbidden" : "rejected",
			buf_string(&message));
	}
	buf_free(&message);
}

/* Backend ---------------------------------------------------------------- */

static void on_get(void *context, struct apply_job *job, struct turn *turn)
{
	const struct ejabberd_api *e = context;

	(void)turn;
	for (size_t i = 0; i < job->record.roster.count && !e->v1; i++)
		item_as_split(&job->record.roster.items[i]);
	ask_user(call_new(context, job, NULL), STEP_ACCOUNT, "check_account", buf_span(&job->jid));
}

static const char *on_change(
	void *context, struct apply_job *job, struct apply_change *change, struct turn *turn)
{
	struct ejabberd_api *e = context;
	struct call *call = call_new(e, job, change);
	struct span user = buf_span(&job->jid), contact;

	(void)turn;
	if (change->kind != CHANGE_REMOVE) {
		add_item(call, STEP_ADD, user, change->new);
		return NULL;
	}
	contact = span_of(change->old->jid);
	call->mends = jid_at_domain(contact, e->config.host) && local_part(contact).n &&
		      !drops(e, contact, &job->jid);
	if (call->mends)
		ask_user(call, STEP_BEFORE, "get_roster", contact);
	else
		delete_item(call, user, contact);
	return NULL;
}

/* Requests under way go on: half a change would be worse. */
static void on_forget(void *context, struct apply_job *job)
{
	struct ejabberd_api *e = context;

	for (struct call *call = e->calls; call; call = call->next)
		if (call->job == job)
			call->job = NULL;
}

/* The contact of a call that mends: a job of theirs would read what is not yet mended, or find
 * undone what it has just made so. */
static bool on_touches(void *context, struct span jid)
{
	const struct ejabberd_api *e = context;

	for (const struct call *call = e->calls; call; call = call->next)
		if (call->mends && call->job && span_is(jid, call->change->old->jid))
			return true;
	return false;
}

struct apply_backend ejabberd_api_backend(struct ejabberd_api *e)
{
	return (struct apply_backend){.get = on_get,
		.change = on_change,
		.forget = on_forget,
		.touches = on_touches,
		.context = e,
		.pipeline = PIPELINE};
}

static bool read_token(struct ejabberd_api *e)
{
	struct buf token, line;
	bool ok = true;

	if (!secret_given(&e->config.token))
		return true;
	buf_init(&token, SECRET_MAX_BYTES);
	buf_init(&line, BUF_NO_MAX);
	ok = secret_read(&e->config.token, "API token", &token) == EXIT_DONE;
	secret_trim(&token);
	if (ok) {
		buf_append_string(&line, "Authorization: Bearer ");
		buf_append_span(&line, buf_span(&token));
		e->headers = curl_slist_append(e->headers, buf_string(&line));
	}
	secret_wipe(&line);
	secret_wipe(&token);
	return ok;
}

struct ejabberd_api *ejabberd_api_new(struct loop *loop, const struct ejabberd_api_config *config)
{
	struct ejabberd_api *e = xcalloc(1, sizeof(*e));
	size_t n = strlen(config->url);

	e->config = *config;
	e->loop = loop;
	while (n && config->url[n - 1] == '/')
		n--;
	e->base = xstrndup(config->url, n);
	e->v1 = n > 3 && e->base[n - 2] == 'v' && e->base[n - 3] == '/' && e->base[n - 1] != '0';
	e->headers = curl_slist_append(NULL, "Content-Type: application/json");
	if (!e->headers)
		err_die(EXIT_TEMPORARY, "out of memory");
	if (strncmp(config->url, "http://", 7) != 0 && strncmp(config->url, "https://", 8) != 0) {
		err_error("'%s' is no http or https URL", config->url);
		ejabberd_api_free(e);
		return NULL;
	}
	if (!read_token(e)) {
		ejabberd_api_free(e);
		return NULL;
	}
	e->curl = curlloop_new(loop, config->connections, on_done, e);
	return e;
}

void ejabberd_api_free(struct ejabberd_api *e)
{
	if (!e)
		return;
	while (e->calls)
		/* it leaves the list NOLINTNEXTLINE(clang-analyzer-unix.Malloc) */
		call_free(e->calls);
	if (e->curl)
		curlloop_free(e->curl);
	curl_slist_free_all(e->headers);
	free(e->base);
	free(e);
}
