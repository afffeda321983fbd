#include "roster/ejabberd-api.h"

#include <stdlib.h>
#include <sys/queue.h>

#include "loop/curlloop.h"
#include "base/err.h"
#include "roster/ejabberd-roster.h"
#include "xmpp/jid.h"

#define MAX_RESPONSE_BYTES (64 * 1024 * 1024)
#define PIPELINE 8
/* More additions and updates than these fill a new roster; fewer change one. */
#define FEW 50
#define NO_LIST "get_roster gave no list"
/* A request that every version refuses, whether or not it takes empty names: the two arguments
 * exclude each other, and the refusal tells which one it knows. */
#define FIND_BODY                                                                                  \
	"{\"localuser\":\"\",\"localhost\":\"\",\"user\":\"\",\"host\":\"\",\"nick\":\"\","        \
	"\"subs\":\"none\",\"group\":\"\",\"groups\":[]"

enum step {
	STEP_FIND,	   /* ask which form the API has */
	STEP_FIND_VERSION, /* ask whether the command has a newer version */
	STEP_ACCOUNT,	   /* ask whether the user exists */
	STEP_ROSTER,
	STEP_BEFORE,  /* the contact's roster, before the item is deleted */
	STEP_DELETE,  /* the user's item */
	STEP_UNASK,   /* the contact's item, with the user's request in it */
	STEP_AFTER,   /* the contact's roster again */
	STEP_RESTORE, /* the contact's item */
	STEP_ADD,
};

/* How add_rosteritem takes groups. */
enum api_form {
	FORM_UNKNOWN,
	FORM_STRING, /* "group":"A;B" (23.01) */
	FORM_LIST,   /* "groups":["A","B"] */
};

/* One operation, in one or several requests. */
struct call {
	LIST_ENTRY(call) list;
	struct ejabberd_api *api;
	enum step step;
	struct apply_job *job; /* NULL: the job is gone */
	struct apply_change *change;
	char *user, *contact; /* contact: NULL: the user's roster is read */
	bool waits;	      /* for an older call, see must_wait() */
	CURL *easy;
	struct buf body, response;
	bool mends;    /* the contact's own item may be lost: read and restore it */
	bool unasks;   /* the contact has a request of the user, which the change deletes */
	bool deletes;  /* the item is deleted before it is added */
	bool stripped; /* the base that it was sent to had its version stripped */
	struct roster contacts; /* STEP_DELETE..: the contact's roster as it was */
};

struct ejabberd_api {
	struct ejabberd_api_config config;
	struct loop *loop;
	struct curlloop *curl;
	struct curl_slist *headers;
	struct buf login; /* user:password */
	enum api_form form;
	char *base;   /* without a slash at its end */
	char *behind; /* what stands behind each command: "", "/v1" */
	bool has_token;
	bool stripped; /* the version has been taken off base */
	bool refused;  /* the missing access was logged */
	LIST_HEAD(, call) calls;
};

/* JSON ------------------------------------------------------------------- */

static void member(struct buf *out, const char *name, struct span value)
{
	buf_append_char(out, buf_length(out) ? ',' : '{');
	json_string(out, span_of(name));
	buf_append_char(out, ':');
	json_string(out, value);
}

static void groups_member(struct buf *out, bool list, const struct roster_item *item)
{
	struct buf joined;

	buf_init(&joined, BUF_NO_MAX);
	for (size_t i = 0; i < item->groups_count; i++) {
		if (i)
			buf_append_char(&joined, list ? ',' : ';');
		if (list)
			json_string(&joined, span_of(item->groups[i]));
		else
			buf_append_string(&joined, item->groups[i]);
	}
	if (list)
		buf_printf(out, ",\"groups\":[%s]", buf_string(&joined));
	else
		member(out, "group", buf_span(&joined));
	buf_free(&joined);
}

static struct span local_part(struct span jid)
{
	struct jid parts;

	return jid_split(jid, &parts) && parts.local.p ? parts.local : SPAN("");
}

/* Requests --------------------------------------------------------------- */

static size_t on_bytes(char *bytes, size_t one, size_t n, void *context)
{
	struct call *call = context;

	return buf_append(&call->response, bytes, one * n) ? one * n : 0;
}

static void begin_body(struct call *call, enum step step)
{
	call->step = step;
	buf_reset(&call->body);
}

static void address_members(struct buf *body, const char *user, const char *host, struct span jid)
{
	member(body, user, local_part(jid));
	member(body, host, jid_domain(jid));
}

/* The body is complete but for its closing brace. */
static void post(struct call *call, const char *command, const char *behind)
{
	struct ejabberd_api *e = call->api;
	struct buf url;

	buf_append_char(&call->body, '}');
	buf_reset(&call->response);
	buf_init(&url, BUF_NO_MAX);
	buf_printf(&url, "%s/%s%s", e->base, command, behind);
	CURLLOOP_SET(call->easy, CURLOPT_URL, buf_string(&url));
	curlloop_spare_loopback(call->easy, buf_string(&url));
	buf_free(&url);
	CURLLOOP_SET(call->easy, CURLOPT_POSTFIELDSIZE_LARGE, (curl_off_t)buf_length(&call->body));
	CURLLOOP_SET(call->easy, CURLOPT_POSTFIELDS, buf_string(&call->body));
	curlloop_add(e->curl, call->easy);
}

/* Set the options that all requests share. */
static void handle_init(struct call *call)
{
	struct ejabberd_api *e = call->api;

	CURLLOOP_SET(call->easy, CURLOPT_HTTPHEADER, e->headers);
	CURLLOOP_SET(call->easy, CURLOPT_WRITEFUNCTION, on_bytes);
	CURLLOOP_SET(call->easy, CURLOPT_WRITEDATA, call);
	CURLLOOP_SET(call->easy, CURLOPT_TIMEOUT_MS, (long)e->config.timeout_ms);
	if (buf_length(&e->login)) {
		CURLLOOP_SET(call->easy, CURLOPT_HTTPAUTH, CURLAUTH_BASIC);
		CURLLOOP_SET(call->easy, CURLOPT_USERPWD, buf_string(&e->login));
	}
}

static struct call *call_new(
	struct ejabberd_api *e, struct apply_job *job, struct apply_change *change)
{
	struct call *call = xcalloc(1, sizeof(*call));

	call->api = e;
	call->job = job;
	call->change = change;
	call->user = xstrdup(buf_string(&job->jid));
	if (change)
		call->contact = xstrdup((change->old ? change->old : change->new)->jid);
	call->easy = curlloop_easy(call, e->config.tls_ca);
	buf_init(&call->body, BUF_NO_MAX);
	buf_init(&call->response, MAX_RESPONSE_BYTES);
	LIST_INSERT_HEAD(&e->calls, call, list);
	handle_init(call);
	return call;
}

static void call_free(struct call *call)
{
	LIST_REMOVE(call, list);
	curlloop_remove(call->api->curl, call->easy);
	curl_easy_cleanup(call->easy);
	buf_free(&call->body);
	buf_free(&call->response);
	roster_free(&call->contacts);
	free(call->user);
	free(call->contact);
	free(call);
}

/* get_roster of user, or check_account. */
static void ask_user(struct call *call, enum step step, const char *command, struct span jid)
{
	begin_body(call, step);
	address_members(&call->body, "user", "host", jid);
	post(call, command, call->api->behind);
}

/* The item of contact in the roster of user. */
static void add_item(
	struct call *call, enum step step, struct span user, const struct roster_item *item)
{
	begin_body(call, step);
	address_members(&call->body, "localuser", "localhost", user);
	address_members(&call->body, "user", "host", span_of(item->jid));
	member(&call->body, "nick", item->name ? span_of(item->name) : SPAN(""));
	groups_member(&call->body, call->api->form == FORM_LIST, item);
	member(&call->body, "subs", span_of(roster_subscription_name(item->subscription)));
	post(call, "add_rosteritem", call->api->behind);
}

static void delete_item(struct call *call, enum step step, struct span user, struct span contact)
{
	begin_body(call, step);
	address_members(&call->body, "localuser", "localhost", user);
	address_members(&call->body, "user", "host", contact);
	post(call, "delete_rosteritem", call->api->behind);
}

static void find(struct call *call, enum step step)
{
	begin_body(call, step);
	buf_append_string(&call->body, FIND_BODY);
	call->stripped = call->api->stripped;
	post(call, "add_rosteritem", step == STEP_FIND ? "" : "/v1");
}

/* Access that is missing ------------------------------------------------- */

enum missing { MISSING_HANDLER, MISSING_COMMANDS, MISSING_PERMISSION, MISSING_TOKEN };

static void say_missing(struct ejabberd_api *e, enum missing missing)
{
	if (e->refused)
		return;
	e->refused = true;
	err_error("ejabberd's API at '%s' cannot be used", e->base);
	switch (missing) {
	case MISSING_HANDLER:
		err_error("ejabberd, the HTTP listener: request_handlers: { /api: mod_http_api }");
		break;
	case MISSING_COMMANDS:
		err_error("ejabberd, modules: mod_admin_extra: {}");
		break;
	case MISSING_TOKEN:
		err_error("ejabberd does not take the token or password: of an administrator, "
			  "with a scope that has ejabberd:admin");
		/* fall through */
	case MISSING_PERMISSION:
		err_error("ejabberd, api_permissions: { \"roster-apply\": { from: [mod_http_api], "
			  "who: { ip: 127.0.0.1/8 }, what: [check_account, get_roster, "
			  "add_rosteritem, delete_rosteritem] } }");
		break;
	}
	e->config.refused(e->config.context);
}

/* Answers ---------------------------------------------------------------- */

static void calls_go_on(struct ejabberd_api *e);

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
	if (!error && step == STEP_ROSTER &&
		!ejabberd_roster_parse(buf_span(&call->response), &roster)) {
		error = "rejected";
		buf_append_string(&words, NO_LIST);
	}
	call_free(call);
	calls_go_on(e);
	if (!job)
		; /* no job waits for it */
	else if (change)
		apply_changed(job, change, error, buf_string(&words), &turn);
	else
		apply_got(job, &roster, error, buf_string(&words), &turn);
	roster_free(&roster);
	buf_free(&words);
}

/* Whether a record in hand has user (no longer) in the roster of contact. */
static bool drops(const struct apply_job *job, struct span contact)
{
	const struct roster_record *record = apply_record_of(job->apply, contact);
	const char *user = buf_string(&job->jid);

	return record && !roster_find(&record->roster, user) &&
	       !roster_skips_has(&record->skips, user);
}

/* The item was deleted. */
static void call_add(struct call *call)
{
	if (call->change->new)
		add_item(call, STEP_ADD, buf_span(&call->job->jid), call->change->new);
	else
		call_done(call, NULL, NULL);
}

/* Deleting the user's item has also changed the contact's own item of the user, which is to
 * stay: make it what it was before, or what the contact's record in hand wants. now: what it is;
 * NULL: it is gone. */
static void mend(struct call *call, const struct roster_item *now)
{
	struct span contact = span_of(call->contact);
	const char *user = buf_string(&call->job->jid);
	const struct roster_item *before = roster_find(&call->contacts, user);
	const struct roster_record *record = apply_record_of(call->job->apply, contact);
	const struct roster_item *wanted = record ? roster_find(&record->roster, user) : NULL;
	struct roster_item item = now ? *now : *before;

	if (drops(call->job, contact) || (now && now->subscription == before->subscription)) {
		call_add(call);
		return;
	}
	item.subscription = before->subscription;
	if (wanted)
		item = *wanted;
	add_item(call, STEP_RESTORE, contact, &item);
}

static void after_delete(struct call *call)
{
	struct span user = buf_span(&call->job->jid), contact = span_of(call->contact);
	const struct roster_item *before =
		roster_find(&call->contacts, buf_string(&call->job->jid));

	if (call->step == STEP_DELETE && call->unasks)
		delete_item(call, STEP_UNASK, contact, user);
	else if (!before || drops(call->job, contact))
		call_add(call);
	else if (call->step == STEP_UNASK)
		mend(call, NULL);
	else
		ask_user(call, STEP_AFTER, "get_roster", contact);
}

/* The first request of a job, once it is known what the API looks like. */
static void begin(struct call *call)
{
	struct apply_job *job = call->job;

	for (size_t i = 0; i < job->record.roster.count && call->api->form == FORM_STRING; i++)
		ejabberd_groups_split(&job->record.roster.items[i]);
	ask_user(call, STEP_ACCOUNT, "check_account", buf_span(&job->jid));
}

static void found(struct call *call, enum api_form form, const char *behind)
{
	struct ejabberd_api *e = call->api;

	e->form = form;
	free(e->behind);
	e->behind = xstrdup(behind);
	err_info("ejabberd's API at '%s' takes groups as a %s%s", e->base,
		form == FORM_LIST ? "list" : "string", behind);
	begin(call);
}

/* The contact's roster after the change. */
static void call_after(struct call *call, struct span response)
{
	struct roster after;

	if (ejabberd_roster_parse(response, &after))
		mend(call, roster_find(&after, buf_string(&call->job->jid)));
	else
		call_done(call, "rejected", NO_LIST);
	roster_free(&after);
}

/* The server has answered: the call's job has time for its next answer, and so have those that
 * wait. */
static void keep_alive(const struct call *call)
{
	struct turn turn = {.now_ms = loop_now_ms(call->api->loop)};
	const struct call *other;

	LIST_FOREACH(other, &call->api->calls, list)
	if (other == call || other->waits)
		apply_alive(other->job, &turn);
}

/* The next step of a call whose request went well. */
static void call_next(struct call *call)
{
	struct span user = buf_span(&call->job->jid), response = buf_span(&call->response);

	keep_alive(call);
	switch (call->step) {
	case STEP_FIND:
	case STEP_FIND_VERSION:
		/* an API that takes any argument */
		found(call, FORM_STRING, "");
		return;
	case STEP_ACCOUNT:
		if (span_is(response, "0"))
			ask_user(call, STEP_ROSTER, "get_roster", user);
		else
			call_done(call, "rejected", "no such user");
		return;
	case STEP_BEFORE:
		if (ejabberd_roster_parse(response, &call->contacts))
			delete_item(call, STEP_DELETE, user, span_of(call->contact));
		else
			call_done(call, "rejected", NO_LIST);
		return;
	case STEP_DELETE:
	case STEP_UNASK:
		after_delete(call);
		return;
	case STEP_AFTER:
		call_after(call, response);
		return;
	case STEP_RESTORE:
		call_add(call);
		return;
	case STEP_ROSTER:
	case STEP_ADD:
		call_done(call, NULL, NULL);
	}
}

/* Finding out ------------------------------------------------------------ */

static bool says(const struct call *call, const char *words)
{
	return strstr(buf_string(&call->response), words) != NULL;
}

/* ".../api/v1" is where a handler of that name is, or the version that belongs behind the command.
 */
static bool strip_version(struct ejabberd_api *e)
{
	size_t n = strlen(e->base);

	if (e->stripped || n < 4 || e->base[n - 3] != '/' || e->base[n - 2] != 'v' ||
		!strchr("0123456789", e->base[n - 1]))
		return false;
	e->base[n - 3] = '\0';
	e->stripped = true;
	return true;
}

/* Learn the API's form from an answer to FIND_BODY other than 200. False: the answer does not
 * tell. */
static bool find_answer(struct call *call, long status)
{
	bool list =
		says(call, "unknown arguments: [group]") || says(call, "missing argument: groups");
	bool string = says(call, "unknown arguments: [groups]") ||
		      says(call, "missing argument: group\"");
	bool none = status == 404 || says(call, "unknown_command") || says(call, "Missing command");

	if (call->step == STEP_FIND_VERSION) {
		if (list)
			found(call, FORM_LIST, "/v1");
		else
			found(call, FORM_STRING, "");
	} else if (list) {
		found(call, FORM_LIST, "");
	} else if (string) {
		find(call, STEP_FIND_VERSION);
	} else if (none && (call->stripped != call->api->stripped || strip_version(call->api))) {
		find(call, STEP_FIND);
	} else if (none) {
		say_missing(call->api, says(call, "\"") && !says(call, "<html") ? MISSING_COMMANDS
										: MISSING_HANDLER);
		return false;
	} else {
		return false;
	}
	return true;
}

/* The error that a refusal stands for; the server's words are put into message. */
static const char *refusal(struct call *call, long status, struct buf *message)
{
	struct span body = buf_span(&call->response);
	bool refused = status == 401 || status == 403;

	buf_printf(message, "HTTP %ld: %.*s", status, body.n > 200 ? 200 : (int)body.n, body.p);
	if (refused)
		say_missing(call->api,
			status == 401 && (buf_length(&call->api->login) || call->api->has_token)
				? MISSING_TOKEN
				: MISSING_PERMISSION);
	return refused ? "forbidden" : "rejected";
}

/* add_rosteritem and delete_rosteritem answer 0 for success. */
static bool done_well(const struct call *call)
{
	struct span body = buf_span(&call->response);

	if (call->step != STEP_ADD && call->step != STEP_RESTORE && call->step != STEP_DELETE &&
		call->step != STEP_UNASK)
		return true;
	while (body.n && strchr(" \t\r\n", body.p[body.n - 1]))
		body.n--;
	return span_is(body, "0");
}

static void on_done(void *context, CURL *easy, CURLcode code)
{
	struct call *call = NULL;
	struct buf message;
	const char *error;
	long status = 0;

	(void)context;
	curl_easy_getinfo(easy, CURLINFO_PRIVATE, (char **)&call);
	curl_easy_getinfo(easy, CURLINFO_RESPONSE_CODE, &status);
	if (!call->job) {
		call_done(call, NULL, NULL);
		return;
	}
	buf_init(&message, 512);
	if (code == CURLE_OPERATION_TIMEDOUT) {
		call_done(call, "server-timeout", "the API does not answer");
	} else if (code != CURLE_OK) {
		buf_append_string(&message, curl_easy_strerror(code));
		call_done(call, curlloop_is_tls(code) ? "tls" : "connect", buf_string(&message));
	} else if (status == 200 && done_well(call)) {
		call_next(call);
	} else if (status == 200 || call->step > STEP_FIND_VERSION || !find_answer(call, status)) {
		error = refusal(call, status, &message);
		call_done(call, error, buf_string(&message));
	}
	buf_free(&message);
}

/* Backend ---------------------------------------------------------------- */

static enum apply_sent on_get(void *context, struct apply_job *job, struct turn *turn)
{
	struct ejabberd_api *e = context;
	struct call *call = call_new(e, job, NULL);

	(void)turn;
	if (e->form == FORM_UNKNOWN)
		find(call, STEP_FIND);
	else
		begin(call);
	return APPLY_SENT;
}

static bool sends(const struct roster_item *item)
{
	return item && (item->subscription == ROSTER_FROM || item->subscription == ROSTER_BOTH);
}

/* Whether the contact's roster is on this server, too. */
static bool is_local(const struct ejabberd_api *e, struct span contact)
{
	struct span domain = jid_domain(contact);

	if (!local_part(contact).n)
		return false;
	for (size_t i = 0; i < e->config.also_hosts_count; i++)
		if (span_equal(domain, e->config.also_hosts[i]))
			return true;
	return span_equal(domain, e->config.host);
}

/* A request that the contact has made is hidden in the user's item: neither get_roster nor
 * clients show it, adding keeps it, and the user is asked at each login. Only deleting the item
 * ends it. So an item is deleted before it is added or grants something; and so is an item with
 * a request of the user's own, because the contact's server holds the other half of that.
 * Deleting costs as much as adding, so a new roster is filled without it; a contact that was
 * hidden then is missing in the next run, which adds these few. */
static void change_begin(struct call *call)
{
	const struct roster_item *old = call->change->old, *new = call->change->new;
	struct span user = span_of(call->user), contact = span_of(call->contact);
	struct apply_job *job = call->job;
	bool local = is_local(call->api, contact);

	call->waits = false;
	call->unasks = local && old && old->asking;
	call->deletes = !new || (!old && job->firm <= FEW) || (old && old->asking) ||
			(old && old->subscription != new->subscription && !sends(old));
	call->mends = local && old && call->deletes && (call->unasks || !drops(job, contact));
	if (call->mends)
		ask_user(call, STEP_BEFORE, "get_roster", contact);
	else if (call->deletes)
		delete_item(call, STEP_DELETE, user, contact);
	else
		add_item(call, STEP_ADD, user, new);
}

/* Whether an older call reads the contact's roster, or changes the contact's item of the user: each
 * of the two would read or delete what the other one is about to make. */
static bool must_wait(const struct call *call)
{
	const struct call *older = call;

	while ((older = LIST_NEXT(older, list)))
		if (strcmp(older->user, call->contact) == 0 &&
			(!older->contact || strcmp(older->contact, call->user) == 0))
			return true;
	return false;
}

/* A call that had begun has ended: begin those that have waited for it. */
static void calls_go_on(struct ejabberd_api *e)
{
	struct call *call;

	LIST_FOREACH(call, &e->calls, list)
	if (call->waits && !must_wait(call))
		change_begin(call);
}

static enum apply_sent on_change(void *context, struct apply_job *job, struct apply_change *change,
	struct turn *turn, const char **why)
{
	struct call *call = call_new(context, job, change);

	(void)turn;
	(void)why;
	call->waits = must_wait(call);
	if (!call->waits)
		change_begin(call);
	return APPLY_SENT;
}

/* Requests under way are not cancelled: half a change would be worse. */
static void on_forget(void *context, struct apply_job *job)
{
	struct ejabberd_api *e = context;
	struct call *call, *next;

	for (call = LIST_FIRST(&e->calls); call; call = next) {
		next = LIST_NEXT(call, list);
		if (call->job != job)
			continue;
		call->job = NULL;
		if (call->waits)
			call_free(call);
	}
}

/* Whether jid is the contact of a call that restores that contact's item, or is going to. A job of
 * this contact would read the item before it is restored, or find its own change undone. */
static bool on_touches(void *context, struct span jid)
{
	const struct ejabberd_api *e = context;
	const struct call *call;

	LIST_FOREACH(call, &e->calls, list)
	if ((call->mends || call->waits) && call->job && span_is(jid, call->contact))
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
	secret_first_line(&token);
	if (ok) {
		e->has_token = true;
		buf_append_string(&line, "Authorization: Bearer ");
		buf_append_span(&line, buf_span(&token));
		curlloop_header(&e->headers, buf_string(&line));
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
	LIST_INIT(&e->calls);
	buf_init(&e->login, SECRET_MAX_BYTES);
	while (n && config->url[n - 1] == '/')
		n--;
	e->base = xstrndup(config->url, n);
	e->behind = xstrdup("");
	curlloop_header(&e->headers, "Content-Type: application/json");
	if (strncmp(config->url, "http://", 7) != 0 && strncmp(config->url, "https://", 8) != 0) {
		err_error("'%s' is no http or https URL", config->url);
		ejabberd_api_free(e);
		return NULL;
	}
	if (!read_token(e) || curlloop_login_read(&config->login, &e->login) != EXIT_DONE) {
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
	while (!LIST_EMPTY(&e->calls))
		/* it leaves the list NOLINTNEXTLINE(clang-analyzer-unix.Malloc) */
		call_free(LIST_FIRST(&e->calls));
	if (e->curl)
		curlloop_free(e->curl);
	curl_slist_free_all(e->headers);
	secret_wipe(&e->login);
	free(e->base);
	free(e->behind);
	free(e);
}
