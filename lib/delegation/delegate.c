#include "delegation/delegate.h"

#include <stdlib.h>

#include "base/deadline.h"
#include "base/utf8.h"
#include "delegation/delegation.h"
#include "base/err.h"
#include "xmpp/jid.h"
#include "loop/loop.h"
#include "xmpp/reply.h"
#include "xmpp/requests.h"
#include "xmpp/session.h"
#include "xmpp/stanza-error.h"

#define NESTING_MIN_MS 1000
#define NESTING_MAX_MS 60000
#define MAX_SESSIONS 1000

enum counter {
	COUNT_REQUESTS,
	COUNT_ANSWERS,
	COUNT_HANDED,
	COUNT_BAD_ANSWER,
	COUNT_BOUNCED,
	COUNT_TIMEOUT,
	COUNT_BUSY,
	COUNT_TOO_LARGE,
	COUNT_BAD_REQUEST,
	COUNT_UNSERVED,
	COUNT_STOPPED,
	COUNT_STRAY,
	COUNT_IGNORED,
	COUNT_QUEUE_FULL,
	COUNTERS,
};

/* Longer ids are refused: an error that mirrors one takes six times its bytes. */
#define MAX_ID_BYTES 1023
/* A client that answers nesting queries with an error is asked again after so long, doubling. */
#define REFUSED_MIN_MS (60 * 1000)
#define REFUSED_MAX_MS (60 * 60 * 1000)
/* Nesting queries that may be open at once. */
#define MAX_QUERIES 4096
/* What an entity may announce for one namespace. */
#define MAX_FEATURES 64
#define MAX_IDENTITIES 16
#define MAX_DISCO_BYTES (16 * 1024)
#define NOT_AN_ACCOUNT UINT32_MAX

/* One managing entity: a component, one client, or whichever client of an account is online. */
struct entity {
	struct span jid;	   /* owned */
	bool client;		   /* not a component */
	uint32_t account;	   /* index in accounts, or NOT_AN_ACCOUNT */
	struct worker *manager;	   /* of an account: its client that manages, held; or NULL */
	bool told;		   /* it knows what is delegated and has answered all */
	bool changed;		   /* what is delegated to it is not what it was told */
	int64_t next_ms, retry_ms; /* when to tell it (again) */
	char *said;		   /* how it failed to answer nesting queries, as it was logged */
};

/* One delegated namespace. */
struct rule {
	struct span ns, *attributes; /* owned */
	size_t attributes_count;
	size_t entity;		      /* index */
	struct disco_info host, bare; /* its answers to the nesting queries */
	bool host_known, bare_known;
};

/* Whom a user's request was given to. */
enum asked_kind { ASKED_ENTITY, ASKED_OTHERWISE };

/* What a request holds beside its user, address and id. Its token is the address of an entity that
 * is no account, its stanza the inner iq as it goes out, kept for another client of an account. */
struct asked {
	uint32_t account; /* of its entity, or NOT_AN_ACCOUNT */
	uint8_t kind;	  /* enum asked_kind */
	uint8_t why;	  /* enum counter: of an error of ours that was decided before */
};

/* An open nesting query. Texts in text. */
struct query {
	struct span entity, node; /* whom it was sent to */
	char *text;
};

static const struct metric_name counter_names[COUNTERS] = {
	[COUNT_REQUESTS] = {"requests", NULL, "requests forwarded to managing entities"},
	[COUNT_ANSWERS] = {"answers", NULL, "answers delivered"},
	[COUNT_HANDED] = {"otherwise", NULL, "requests given to the OTHERWISE handler"},
	[COUNT_BAD_ANSWER] = METRIC_ERROR("bad-answer"),
	[COUNT_BOUNCED] = METRIC_ERROR("bounced"),
	[COUNT_TIMEOUT] = METRIC_ERROR("timeout"),
	[COUNT_BUSY] = METRIC_ERROR("busy"),
	[COUNT_TOO_LARGE] = METRIC_ERROR("too-large"),
	[COUNT_BAD_REQUEST] = METRIC_ERROR("bad-request"),
	[COUNT_UNSERVED] = METRIC_ERROR("unserved"),
	[COUNT_STOPPED] = METRIC_ERROR("stopped"),
	[COUNT_STRAY] = METRIC_DROPPED("stray"),
	[COUNT_IGNORED] = METRIC_DROPPED("ignored"),
	[COUNT_QUEUE_FULL] = METRIC_DROPPED("queue-full"),
};

struct delegate {
	struct delegate_config config;
	struct entity *entities;
	size_t entities_count;
	struct rule *rules;
	size_t rules_count;
	struct disco_info host, bare; /* what is answered to disco#info, merged */
	struct span *accounts;	      /* of the entities that are accounts: targets of sessions */
	size_t accounts_count;
	struct session_table *sessions; /* NULL: no entity is an account */
	struct balance *balance;	/* their clients */
	struct requests *requests;
	struct shares *shares;
	struct table *queries;
	size_t handed; /* requests at OTHERWISE */
	struct buf node, spare;
	bool draining;
	uint64_t counters[COUNTERS];
	struct err_limits junk; /* of the handler, that answers nothing */
	struct err_limit too_late;
};

static struct span span_copy(struct span s)
{
	return s.p ? (struct span){xstrndup(s.p, s.n), s.n} : SPAN_NONE;
}

static void rules_free(struct rule *rules, size_t count)
{
	for (size_t i = 0; i < count; i++) {
		struct rule *rule = &rules[i];

		for (size_t j = 0; j < rule->attributes_count; j++)
			free((char *)rule->attributes[j].p);
		free(rule->attributes);
		free((char *)rule->ns.p);
		disco_free(&rule->host);
		disco_free(&rule->bare);
	}
	free(rules);
}

static void entities_free(struct entity *entities, size_t count)
{
	for (size_t i = 0; i < count; i++) {
		free((char *)entities[i].jid.p);
		free(entities[i].said);
	}
	free(entities);
}

static size_t delegate_open_requests(const void *self)
{
	const struct delegate *d = self;

	return requests_count(d->requests);
}

static size_t delegate_handler_requests(const void *self)
{
	const struct delegate *d = self;

	return d->handed;
}

static size_t delegate_metrics(const void *self, struct metric *out, size_t max)
{
	const struct delegate *d = self;
	const struct metric pending = {"pending_requests", NULL,
		"requests waiting for their answer", METRIC_GAUGE, requests_count(d->requests)};
	size_t n = metrics_add(out, 0, max, &pending, 1);

	return metrics_add_counters(out, n, max, counter_names, d->counters, COUNTERS);
}

/* Requests --------------------------------------------------------------- */

/* Writes where a stanza that did not fit waits: see requests_owe(). */
static struct writer *spare_writer(struct delegate *d, struct writer *w)
{
	buf_reset(&d->spare);
	writer_init(w, &d->spare, WRITER_SOCKET, 0);
	return w;
}

static void answer_stanza(struct delegate *d, const struct stanza *s, enum stanza_error e,
	enum counter why, struct turn *turn)
{
	d->counters[why]++;
	requests_refuse(d->requests, s, e, turn);
}

static struct request *request_add(struct delegate *d, enum asked_kind kind, struct span key,
	const struct request *texts, struct turn *turn)
{
	const struct table_key hashed = requests_key(d->requests, key);
	struct request *r = requests_add(d->requests, &hashed, texts, turn->now_ms);
	struct asked *a;

	if (!r)
		return NULL;
	a = request_extra(r);
	*a = (struct asked){.kind = (uint8_t)kind, .account = NOT_AN_ACCOUNT, .why = COUNTERS};
	d->handed += kind == ASKED_OTHERWISE;
	return r;
}

/* The open request of this kind under this id. */
static struct request *request_open(const struct delegate *d, enum asked_kind kind, struct span id)
{
	const struct table_key key = requests_key(d->requests, id);
	struct request *r = id.n ? requests_find(d->requests, &key) : NULL;
	struct asked *a = r ? request_extra(r) : NULL;

	return a && a->kind == kind && !r->owed ? r : NULL;
}

/* The request's one answer is an error of ours. */
static void request_fail(struct delegate *d, struct request *r, enum stanza_error e,
	enum counter why, struct turn *turn)
{
	struct asked *a = request_extra(r);

	a->why = (uint8_t)why;
	requests_fail(d->requests, r, END_NO_WORKER, e, turn);
}

static enum writer_status answer(
	void *context, struct request *r, const struct stanza *s, struct turn *turn)
{
	struct stanza_edit edit = {.to = r->user, .from = r->asked, .id = r->id};

	(void)context;
	if (!turn->writer)
		return WRITER_FULL;
	writer_begin(turn->writer);
	reply_copy(turn->writer, s, &edit, NULL);
	return writer_end(turn->writer);
}

static enum writer_status error(
	void *context, struct request *r, enum stanza_error e, struct turn *turn)
{
	(void)context;
	/* an entity that has left is to the user what it is when it has never been there */
	if (r->end == END_WORKER_LEFT)
		e = ERROR_SERVICE_UNAVAILABLE;
	return stanza_error_send(turn->writer, "iq", r->user, r->asked, r->id, e, NULL);
}

static void entity_forgets(struct delegate *d, struct entity *entity, struct turn *turn);
static struct entity *entity_of(struct delegate *d, struct span jid);

static void ending(void *context, struct request *r, enum request_end end, int64_t now_ms)
{
	static const enum counter counters[REQUEST_ENDS] = {[END_ANSWERED] = COUNT_ANSWERS,
		[END_TIMEOUT] = COUNT_TIMEOUT,
		[END_NO_WORKER] = COUNT_BOUNCED,
		[END_WORKER_LEFT] = COUNT_BOUNCED,
		[END_STOPPED] = COUNT_STOPPED,
		[END_TOO_LARGE] = COUNT_TOO_LARGE,
		[END_NO_ROOM] = COUNT_BUSY};
	struct delegate *d = context;
	struct asked *a = request_extra(r);
	struct turn turn = {.now_ms = now_ms};

	d->counters[a->why != COUNTERS ? a->why : counters[end]]++;
	if (end == END_TIMEOUT && a->kind == ASKED_ENTITY)
		entity_forgets(d,
			entity_of(d, r->tries_count ? r->tries[0].worker->name : r->token), &turn);
	if (end != END_ANSWERED && a->kind == ASKED_OTHERWISE)
		d->config.over(d->config.helper, request_key(r));
	if (end == END_TIMEOUT && a->kind == ASKED_OTHERWISE)
		err_log_limited(&d->too_late, now_ms, ERR_WARNING,
			"the handler has not answered a request in time; does it flush its output "
			"after each answer?");
}

static void removed(void *context, struct request *r, int64_t now_ms)
{
	struct delegate *d = context;
	struct asked *a = request_extra(r);

	(void)now_ms;
	d->handed -= a->kind == ASKED_OTHERWISE;
}

/* Entities --------------------------------------------------------------- */

static struct entity *entity_named(struct entity *entities, size_t count, struct span jid)
{
	for (size_t i = 0; i < count; i++)
		if (span_equal(entities[i].jid, jid))
			return &entities[i];
	return NULL;
}

/* The entity that this address belongs to: itself, or the account of a session. */
static struct entity *entity_of(struct delegate *d, struct span jid)
{
	for (size_t i = 0; i < d->entities_count; i++)
		if (span_equal(d->entities[i].jid, jid) ||
			(d->entities[i].account != NOT_AN_ACCOUNT &&
				span_equal(d->entities[i].jid, jid_bare(jid))))
			return &d->entities[i];
	return NULL;
}

/* The address for its stanzas now; absent while none of an account's clients is online. */
static struct span entity_address(const struct entity *entity)
{
	if (entity->account == NOT_AN_ACCOUNT)
		return entity->jid;
	return entity->manager ? entity->manager->name : SPAN_NONE;
}

/* Any address of the entity: what it asks itself is not handed back to it (4.2.1). */
static bool is_entity(const struct entity *entity, struct span jid)
{
	return memchr(jid_bare(entity->jid).p, '@', jid_bare(entity->jid).n)
		       ? span_equal(jid_bare(entity->jid), jid_bare(jid))
		       : jid_at_domain(jid, jid_domain(entity->jid));
}

/* It bounced, was silent, or is new: tell it again soon. */
static void entity_forgets(struct delegate *d, struct entity *entity, struct turn *turn)
{
	if (!entity)
		return;
	for (size_t i = 0; i < d->rules_count; i++)
		if (&d->entities[d->rules[i].entity] == entity)
			d->rules[i].host_known = d->rules[i].bare_known = false;
	if (entity->told) {
		entity->told = false;
		entity->retry_ms = NESTING_MIN_MS;
		entity->next_ms = turn->now_ms + entity->retry_ms;
	}
}

static bool send_advertisement(struct delegate *d, size_t index, struct turn *turn)
{
	writer_start(turn->writer, "message", NULL, SPAN_NONE, entity_address(&d->entities[index]),
		d->config.domain);
	writer_raw(turn->writer, "><delegation xmlns='");
	writer_raw(turn->writer, delegation_ns(d->config.version));
	writer_raw(turn->writer, "'>");
	for (size_t i = 0; i < d->rules_count; i++) {
		const struct rule *rule = &d->rules[i];

		if (rule->entity != index)
			continue;
		writer_raw(turn->writer, "<delegated");
		writer_attribute(turn->writer, "namespace", rule->ns);
		writer_raw(turn->writer, rule->attributes_count ? ">" : "/>");
		for (size_t j = 0; j < rule->attributes_count; j++) {
			writer_raw(turn->writer, "<attribute");
			writer_attribute(turn->writer, "name", rule->attributes[j]);
			writer_raw(turn->writer, "/>");
		}
		if (rule->attributes_count)
			writer_raw(turn->writer, "</delegated>");
	}
	writer_raw(turn->writer, "</delegation></message>");
	return writer_end(turn->writer) == WRITER_OK;
}

static bool query_add(
	struct delegate *d, struct span id, struct span entity, struct span node, int64_t now_ms)
{
	const struct span parts[] = {entity, node};
	struct table_entry *e =
		table_add(d->queries, id, sizeof(struct query), now_ms + d->config.timeout_ms);
	struct query *q;

	if (!e)
		return false;
	q = table_record(e);
	q->text = xmalloc(entity.n + node.n + 1);
	span_pack(q->text, parts, (struct span *const[]){&q->entity, &q->node}, 2);
	return true;
}

static void query_remove(struct delegate *d, struct query *q)
{
	free(q->text);
	table_remove(d->queries, table_entry_of(q));
}

static void send_nesting(struct delegate *d, const struct rule *rule, bool bare, struct turn *turn)
{
	const struct delegation_node node = {
		.version = d->config.version, .bare = bare, .ns = rule->ns};
	struct span address = entity_address(&d->entities[rule->entity]);
	char text[RANDOM_NAME_CHARS + 1];
	struct span id = random_name(&d->config.random, text);

	buf_reset(&d->node);
	delegation_node_format(&node, &d->node);
	if (!query_add(d, id, address, buf_span(&d->node), turn->now_ms))
		return;
	writer_start(turn->writer, "iq", "get", id, address, d->config.domain);
	writer_raw(turn->writer, "><query xmlns='" NS_DISCO_INFO "'");
	writer_attribute(turn->writer, "node", buf_span(&d->node));
	writer_raw(turn->writer, "/></iq>");
	writer_end(turn->writer);
}

/* Say how an entity fails to answer, once as long as it fails so. */
static void entity_complains(
	struct entity *entity, struct span ns, struct span condition, const char *meaning)
{
	struct buf line;

	buf_init(&line, 4096);
	buf_append_string(&line, "'");
	buf_append_span(&line, entity->jid);
	buf_append_string(&line, "' does not manage '");
	buf_append_span(&line, ns);
	buf_append_string(&line, "': ");
	buf_append_span(&line, condition);
	buf_append_string(&line, meaning);
	if (!entity->said || strcmp(entity->said, buf_string(&line)) != 0) {
		free(entity->said);
		entity->said = xstrdup(buf_string(&line));
		err_warn("%s", entity->said);
	}
	buf_free(&line);
}

/* Whether a condition comes from the entity's server, in place of one that is not there. */
static bool is_absence(struct span condition, bool client)
{
	static const char *const absent[] = {"remote-server-not-found", "remote-server-timeout",
		"recipient-unavailable", "gone", "host-unknown"};

	for (size_t i = 0; i < sizeof(absent) / sizeof(absent[0]); i++)
		if (span_is(condition, absent[i]))
			return true;
	return client && span_is(condition, "service-unavailable");
}

/* What the condition of an error means to an administrator. */
static const char *meaning_of(const struct entity *entity, struct span condition)
{
	if (is_absence(condition, entity->client))
		return " (it is not connected)";
	if (span_is(condition, "forbidden") || span_is(condition, "not-allowed") ||
		span_is(condition, "not-authorized"))
		return " (it is forbidden: it must accept our domain as a host that delegates; "
		       "xmpp-manage: --host)";
	if (span_is(condition, "service-unavailable"))
		return " (it is not connected, or does not know delegation)";
	return " (it does not know delegation, or not of this namespace; xmpp-manage: "
	       "--namespace)";
}

/* Whether it has answered all nesting queries. */
static bool entity_answered(const struct delegate *d, const struct entity *entity)
{
	for (size_t i = 0; i < d->rules_count; i++)
		if (&d->entities[d->rules[i].entity] == entity &&
			!(d->rules[i].host_known && d->rules[i].bare_known))
			return false;
	return true;
}

/* The advertisement, then the nesting queries that are not answered yet. */
static void entity_tell(struct delegate *d, size_t index, struct turn *turn)
{
	struct entity *entity = &d->entities[index];

	entity->next_ms = DEADLINE_NEVER;
	if (!entity_address(entity).p)
		return;
	entity->told = entity_answered(d, entity);
	if ((!entity->told || entity->changed) && !send_advertisement(d, index, turn)) {
		entity->next_ms = turn->now_ms + NESTING_MIN_MS;
		return;
	}
	entity->changed = false;
	if (entity->told)
		return;
	for (size_t i = 0; i < d->rules_count; i++) {
		if (d->rules[i].entity != index)
			continue;
		if (!d->rules[i].host_known)
			send_nesting(d, &d->rules[i], false, turn);
		if (!d->rules[i].bare_known)
			send_nesting(d, &d->rules[i], true, turn);
	}
	entity->next_ms = turn->now_ms + entity->retry_ms;
	entity->retry_ms *= 2;
	if (entity->retry_ms > NESTING_MAX_MS)
		entity->retry_ms = NESTING_MAX_MS;
}

/* From the beginning: at start, or when another session takes over. */
static void entity_begin(struct delegate *d, struct entity *entity, struct turn *turn)
{
	entity_forgets(d, entity, turn);
	entity->told = false;
	entity->retry_ms = NESTING_MIN_MS;
	entity->next_ms = turn->now_ms;
}

/* Clients of accounts ---------------------------------------------------- */

static struct worker *client_of(
	const struct delegate *d, size_t account, enum balance_tier tier, const struct request *r)
{
	for (size_t i = 0; i < balance_count(d->balance, tier); i++) {
		struct worker *w = balance_at(d->balance, tier, i);

		if (w->group == account && !(r && requests_tried(r, w)))
			return w;
	}
	return NULL;
}

/* The client that manages stays until it has left or shows no life while another is well. */
static void manager_update(struct delegate *d, struct entity *entity, int64_t now_ms)
{
	struct worker *now = entity->manager, *next = NULL;
	bool there = now && now->state == WORKER_THERE && now->group == entity->account;

	if (there && !now->suspect)
		return;
	next = client_of(d, entity->account, TIER_WELL, NULL);
	if (!next && there)
		return;
	if (!next)
		next = client_of(d, entity->account, TIER_THERE, NULL);
	if (now)
		worker_release(d->balance, now);
	entity->manager = next;
	if (!next)
		return;
	worker_hold(next);
	if (there)
		err_note("'%.*s' manages now: '%.*s' shows no life", SPAN_ARG(next->name),
			SPAN_ARG(now->name));
	entity_begin(d, entity, &(struct turn){.now_ms = now_ms});
}

static void managers_update(struct delegate *d, int64_t now_ms)
{
	for (size_t i = 0; i < d->entities_count; i++)
		if (d->entities[i].account != NOT_AN_ACCOUNT)
			manager_update(d, &d->entities[i], now_ms);
}

static void suspects_changed(void *context, struct worker *suspect, int64_t now_ms)
{
	struct delegate *d = context;

	managers_update(d, now_ms);
	if (suspect) {
		requests_hedge(d->requests, suspect, now_ms);
		return;
	}
	for (size_t i = 0; i < balance_count(d->balance, TIER_THERE); i++) {
		struct worker *w = balance_at(d->balance, TIER_THERE, i);

		if (w->suspect)
			requests_hedge(d->requests, w, now_ms);
	}
}

static enum writer_status ping(void *context, const struct worker *w, struct turn *turn)
{
	struct delegate *d = context;

	writer_start(turn->writer, "iq", "get", span_of(w->ping_id), w->name, d->config.domain);
	writer_raw(turn->writer, "><ping xmlns='urn:xmpp:ping'/></iq>");
	return writer_end(turn->writer);
}

static void session_arrived(void *context, struct session *s, struct turn *turn)
{
	struct delegate *d = context;

	s->owner = worker_add(d->balance, s->jid, s->target, turn->now_ms);
	((struct worker *)s->owner)->owner = s;
}

static void session_left(void *context, struct session *s, bool link_down, struct turn *turn)
{
	struct delegate *d = context;
	struct worker *w = s->owner;

	if (!w)
		return;
	s->owner = NULL;
	if (!link_down)
		requests_worker_left(d->requests, w, turn->now_ms);
	worker_leave(d->balance, w, link_down ? WORKER_LOST : WORKER_LEFT);
}

static void session_alive(void *context, struct session *s, struct turn *turn)
{
	struct delegate *d = context;

	if (s->owner)
		worker_alive(d->balance, s->owner, turn->now_ms);
}

static void sessions_changed(void *context, struct turn *turn)
{
	managers_update(context, turn->now_ms);
}

/* Whether a client that had r has said that it leaves: what it had is answered. A client that was
 * thought to be dead before that is another matter. */
static bool left_in_order(const struct request *r)
{
	for (unsigned i = 0; i < r->tries_count; i++)
		if (r->tries[i].worker->state == WORKER_LEFT && !r->tries[i].worker->suspect)
			return true;
	return false;
}

/* Another client of the account that r was given to. */
static struct worker *choose(
	void *context, const struct request *r, enum balance_tier tier, int64_t now_ms)
{
	const struct asked *a = request_extra((struct request *)r);

	(void)now_ms;
	return r->stanza.n && !left_in_order(r) ? client_of(context, a->account, tier, r) : NULL;
}

static enum writer_status hand(
	void *context, struct request *r, struct worker *w, struct turn *turn)
{
	struct delegate *d = context;

	delegation_begin(
		turn->writer, d->config.version, "set", w->name, d->config.domain, request_key(r));
	writer_raw_span(turn->writer, r->stanza);
	return delegation_end(turn->writer);
}

static void doubted(void *context, struct worker *w, struct turn *turn)
{
	struct delegate *d = context;

	worker_suspect(d->balance, w, turn->now_ms);
	if (w->owner)
		session_doubt(d->sessions, w->owner, turn);
}

static void again(void *context, struct request *r)
{
	(void)context;
	(void)r;
}

/* disco#info ------------------------------------------------------------- */

/* A feature of our own under a delegated namespace is the entity's to announce (7.2.1). */
static bool is_delegated_feature(const struct delegate *d, struct span feature)
{
	for (size_t i = 0; i < d->rules_count; i++)
		if (span_starts(feature, d->rules[i].ns))
			return true;
	return false;
}

static void merge_one(struct delegate *d, bool bare)
{
	const struct disco_info *own = d->config.own;
	struct disco_info *info = bare ? &d->bare : &d->host;

	disco_reset(info);
	buf_append_span(&info->identities, buf_span(&own->identities));
	buf_append_span(&info->forms, buf_span(&own->forms));
	for (size_t i = 0; i < own->features_count; i++)
		if (!is_delegated_feature(d, span_of(own->features[i])))
			disco_add_feature(info, span_of(own->features[i]));
	disco_add_feature(info, SPAN(NS_DISCO_INFO));
	disco_add_feature(info, span_of(delegation_ns(d->config.version)));
	for (size_t i = 0; i < d->rules_count; i++)
		disco_add_all(info, bare ? &d->rules[i].bare : &d->rules[i].host);
}

/* Made whenever something in it changes, not for each question. */
static void merge(struct delegate *d)
{
	merge_one(d, false);
	merge_one(d, true);
}

/* Rules ------------------------------------------------------------------ */

const char *delegate_rules_wrong(
	const struct delegate_rule *rules, size_t count, struct span domain, size_t *at)
{
	struct jid jid;

	for (size_t i = 0; i < count; i++) {
		*at = i;
		if (!rules[i].ns.n || !utf8_xml_valid(rules[i].ns))
			return "not a namespace";
		if (delegation_version(rules[i].ns))
			return "the namespace of delegation itself is never delegated";
		if (!jid_split(rules[i].entity, &jid))
			return "not a JID";
		if (jid_at_domain(rules[i].entity, domain))
			return "the managing entity is the delegating domain";
		for (size_t j = 0; j < rules[i].attributes_count; j++)
			if (!rules[i].attributes[j].n || !utf8_xml_valid(rules[i].attributes[j]))
				return "not an attribute";
		for (size_t j = 0; j < i; j++)
			if (span_equal(rules[i].ns, rules[j].ns))
				return "the namespace is delegated twice";
	}
	return NULL;
}

static size_t entity_index(struct delegate *d, struct span jid)
{
	struct entity *entity;
	struct jid parts;

	for (size_t i = 0; i < d->entities_count; i++)
		if (span_equal(d->entities[i].jid, jid))
			return i;
	d->entities = xrealloc(d->entities, (d->entities_count + 1) * sizeof(*d->entities));
	entity = &d->entities[d->entities_count];
	*entity = (struct entity){
		.jid = span_copy(jid), .next_ms = DEADLINE_NEVER, .retry_ms = NESTING_MIN_MS};
	entity->client = jid_split(jid, &parts) && parts.local.p;
	entity->account = entity->client && !parts.resource.p ? 0 : NOT_AN_ACCOUNT;
	return d->entities_count++;
}

/* Whether the accounts among the entities are those whose clients are known. */
static bool same_accounts(const struct delegate *d)
{
	size_t same = 0, accounts = 0;

	for (size_t i = 0; i < d->entities_count; i++) {
		if (d->entities[i].account == NOT_AN_ACCOUNT)
			continue;
		accounts++;
		for (size_t j = 0; j < d->accounts_count; j++)
			same += span_equal(d->accounts[j], d->entities[i].jid);
	}
	return same == accounts && accounts == d->accounts_count;
}

static void sessions_free(struct delegate *d)
{
	/* what they have in hand is theirs to answer */
	for (size_t i = 0; d->sessions && i < session_count(d->sessions); i++) {
		struct session *session = session_at(d->sessions, i);

		if (session->owner) {
			((struct worker *)session->owner)->owner = NULL;
			worker_leave(d->balance, session->owner, WORKER_LOST);
		}
	}
	session_table_free(d->sessions);
	d->sessions = NULL;
	for (size_t i = 0; i < d->accounts_count; i++)
		free((char *)d->accounts[i].p);
	free(d->accounts);
	d->accounts = NULL;
	d->accounts_count = 0;
}

static void sessions_new(struct delegate *d)
{
	d->accounts = xcalloc(d->entities_count + 1, sizeof(*d->accounts));
	for (size_t i = 0; i < d->entities_count; i++)
		if (d->entities[i].account != NOT_AN_ACCOUNT)
			d->accounts[d->accounts_count++] = span_copy(d->entities[i].jid);
	if (d->accounts_count)
		d->sessions = session_table_new(&(struct session_config){.domain = d->config.domain,
			.targets = d->accounts,
			.targets_count = d->accounts_count,
			.max_sessions = MAX_SESSIONS,
			.confirm_ms = d->config.timeout_ms,
			.arrived = session_arrived,
			.left = session_left,
			.alive = session_alive,
			.changed = sessions_changed,
			.context = d});
}

/* The table of the accounts' clients: the one there is, if it is of the same accounts. True: it is
 * a new one, which has not asked anybody yet. */
static bool sessions_begin(struct delegate *d)
{
	bool fresh = !same_accounts(d);

	if (fresh) {
		sessions_free(d);
		sessions_new(d);
	}
	for (size_t i = 0; i < d->entities_count; i++)
		for (size_t j = 0; j < d->accounts_count; j++)
			if (span_equal(d->accounts[j], d->entities[i].jid))
				d->entities[i].account = (uint32_t)j;
	return fresh && d->sessions;
}

static void begin_all(void *self, struct turn *turn)
{
	struct delegate *d = self;

	if (d->sessions)
		session_up(d->sessions, turn);
	for (size_t i = 0; i < d->entities_count; i++)
		if (d->entities[i].account == NOT_AN_ACCOUNT) {
			entity_begin(d, &d->entities[i], turn);
			entity_tell(d, i, turn);
		}
}

/* Take over what an entity has answered under the old rules, and note whether the rules are new to
 * it. */
static void rules_inherit(
	struct delegate *d, struct rule *old, size_t old_count, const struct entity *old_entities)
{
	size_t *kept = xcalloc(d->entities_count + 1, sizeof(*kept));

	for (size_t i = 0; i < d->rules_count; i++) {
		struct rule *rule = &d->rules[i];
		struct entity *entity = &d->entities[rule->entity];
		bool same = false;

		for (size_t j = 0; j < old_count; j++) {
			if (!span_equal(old[j].ns, rule->ns) ||
				!span_equal(old_entities[old[j].entity].jid, entity->jid))
				continue;
			same = old[j].attributes_count == rule->attributes_count;
			for (size_t k = 0; same && k < rule->attributes_count; k++)
				same = span_equal(old[j].attributes[k], rule->attributes[k]);
			disco_free(&rule->host);
			disco_free(&rule->bare);
			rule->host = old[j].host;
			rule->bare = old[j].bare;
			rule->host_known = old[j].host_known;
			rule->bare_known = old[j].bare_known;
			disco_init(&old[j].host);
			disco_init(&old[j].bare);
			kept[rule->entity]++;
		}
		entity->changed |= !same;
	}
	/* one of its namespaces may be gone */
	for (size_t i = 0; i < d->entities_count; i++) {
		size_t had = 0;

		for (size_t j = 0; j < old_count; j++)
			had += span_equal(old_entities[old[j].entity].jid, d->entities[i].jid);
		d->entities[i].changed |= had != kept[i];
	}
	free(kept);
}

/* The clients that manage go on managing, and the requests of accounts know their places. */
static void managers_inherit(
	struct delegate *d, struct entity *old, size_t old_count, int64_t now_ms)
{
	size_t count;
	struct request **all = requests_all(d->requests, &count);

	for (size_t i = 0; i < old_count; i++) {
		struct entity *entity = entity_named(d->entities, d->entities_count, old[i].jid);

		if (!old[i].manager)
			continue;
		if (entity)
			entity->manager = old[i].manager;
		else
			worker_release(d->balance, old[i].manager);
	}
	for (size_t i = 0; i < count; i++) {
		const struct entity *entity =
			all[i]->tries_count ? entity_of(d, all[i]->tries[0].worker->name) : NULL;
		struct asked *a = request_extra(all[i]);

		if (all[i]->tries_count)
			a->account = entity ? entity->account : NOT_AN_ACCOUNT;
	}
	free(all);
	managers_update(d, now_ms);
}

void delegate_rules(
	struct delegate *d, const struct delegate_rule *rules, size_t count, struct turn *turn)
{
	struct entity *old_entities = d->entities;
	struct rule *old_rules = d->rules;
	size_t old_entities_count = d->entities_count, old_rules_count = d->rules_count;
	bool fresh;

	d->entities = NULL;
	d->entities_count = d->rules_count = 0;
	d->rules = xcalloc(count + 1, sizeof(*d->rules));
	for (size_t i = 0; i < count; i++) {
		struct rule *rule = &d->rules[d->rules_count++];

		rule->ns = span_copy(rules[i].ns);
		rule->attributes = xcalloc(rules[i].attributes_count + 1, sizeof(struct span));
		for (size_t j = 0; j < rules[i].attributes_count; j++)
			rule->attributes[rule->attributes_count++] =
				span_copy(rules[i].attributes[j]);
		rule->entity = entity_index(d, rules[i].entity);
		disco_init(&rule->host);
		disco_init(&rule->bare);
	}
	rules_inherit(d, old_rules, old_rules_count, old_entities);
	for (size_t i = 0; i < d->entities_count; i++) {
		struct entity *entity = &d->entities[i];
		const struct entity *before =
			entity_named(old_entities, old_entities_count, entity->jid);

		if (before) {
			entity->told = before->told;
			entity->next_ms = before->next_ms;
			entity->retry_ms = before->retry_ms;
		}
	}
	fresh = sessions_begin(d);
	managers_inherit(d, old_entities, old_entities_count, turn->now_ms);
	merge(d);
	rules_free(old_rules, old_rules_count);
	entities_free(old_entities, old_entities_count);
	if (!turn->writer)
		return;
	if (fresh)
		session_up(d->sessions, turn);
	for (size_t i = 0; i < d->entities_count; i++)
		if (d->entities[i].changed)
			entity_tell(d, i, turn);
}

/* Requests of users ------------------------------------------------------ */

/* Whether the rule holds for a payload to this address. Names of "remaining" discovery with
 * ":bare:" are for accounts only. */
static bool rule_applies(const struct rule *rule, const struct xml_node *payload, bool account)
{
	if (!span_equal(delegation_payload_ns(rule->ns), payload->ns))
		return false;
	if (!account && !span_equal(rule->ns, payload->ns) &&
		memmem(rule->ns.p, rule->ns.n, ":bare:", 6))
		return false;
	for (size_t i = 0; i < rule->attributes_count; i++) {
		bool there = false;

		for (uint32_t j = 0; j < payload->attributes_count; j++)
			there |= !payload->attributes[j].ns.p &&
				 span_equal(payload->attributes[j].name, rule->attributes[i]);
		if (!there)
			return false;
	}
	return true;
}

/* The rule for a request to our domain or an account of it. */
static const struct rule *find_rule(
	const struct delegate *d, const struct stanza *s, const struct jid *to)
{
	for (size_t i = 0; i < d->rules_count; i++)
		if (rule_applies(&d->rules[i], stanza_payload(s), to->local.p != NULL) &&
			!is_entity(&d->entities[d->rules[i].entity], s->from))
			return &d->rules[i];
	return NULL;
}

/* The inner iq as it goes out, in d->spare. */
static struct span inner_text(struct delegate *d, const struct stanza *s)
{
	struct writer w;

	spare_writer(d, &w);
	writer_begin(&w);
	writer_copy(&w, s, &STANZA_KEEP, NS_CLIENT);
	return buf_span(&d->spare);
}

static void forward(
	struct delegate *d, const struct rule *rule, const struct stanza *s, struct turn *turn)
{
	const struct entity *entity = &d->entities[rule->entity];
	struct span address = entity_address(entity), id;
	struct request texts = {
		.user = s->from, .asked = s->to, .id = s->id, .set = s->type == TYPE_SET};
	enum writer_status status;
	struct request *r;
	char text[RANDOM_NAME_CHARS + 1];

	if (!address.p) {
		answer_stanza(d, s, ERROR_SERVICE_UNAVAILABLE, COUNT_BOUNCED, turn);
		return;
	}
	if (entity->manager)
		texts.stanza = inner_text(d, s);
	else
		texts.token = address;
	id = random_name(&d->config.random, text);
	r = request_add(d, ASKED_ENTITY, id, &texts, turn);
	if (!r) {
		answer_stanza(d, s, ERROR_RESOURCE_CONSTRAINT, COUNT_BUSY, turn);
		return;
	}
	((struct asked *)request_extra(r))->account = entity->account;
	delegation_begin(turn->writer, d->config.version, "set", address, d->config.domain, id);
	writer_copy(turn->writer, s, &STANZA_KEEP, NS_CLIENT);
	status = delegation_end(turn->writer);
	if (status == WRITER_OK && entity->manager)
		requests_handed(d->requests, r, entity->manager, turn->now_ms);
	if (status == WRITER_OK)
		d->counters[COUNT_REQUESTS]++;
	else
		requests_end(d->requests, r,
			status == WRITER_TOO_LARGE ? END_TOO_LARGE : END_NO_ROOM, turn);
}

static void answer_disco(
	struct delegate *d, const struct stanza *s, bool account, struct turn *turn)
{
	const struct disco_info *info = account ? &d->bare : &d->host;
	struct writer spare;

	switch (disco_answer(info, s, SPAN_NONE, turn->writer)) {
	case WRITER_TOO_LARGE:
		answer_stanza(d, s, ERROR_POLICY_VIOLATION, COUNT_TOO_LARGE, turn);
		break;
	case WRITER_FULL:
		disco_answer(info, s, SPAN_NONE, spare_writer(d, &spare));
		requests_owe(d->requests, buf_span(&d->spare));
		break;
	case WRITER_OK:
		break;
	}
}

static void on_rest(
	struct delegate *d, const struct stanza *s, enum stanza_error none, struct turn *turn)
{
	if (d->config.hand && !d->draining) {
		char text[RANDOM_NAME_CHARS + 1];
		struct span id = random_name(&d->config.random, text);
		struct request *r = request_add(d, ASKED_OTHERWISE, id,
			&(struct request){.user = s->from, .asked = s->to, .id = s->id}, turn);

		if (!r)
			answer_stanza(d, s, ERROR_RESOURCE_CONSTRAINT, COUNT_BUSY, turn);
		else if (d->config.hand(d->config.helper,
				 &(struct helper_request){.stanza = s,
					 .id = id,
					 .deadline_ms = turn->now_ms + d->config.timeout_ms}))
			d->counters[COUNT_HANDED]++;
		else
			request_fail(d, r, ERROR_SERVICE_UNAVAILABLE, COUNT_BUSY, turn);
	} else if (d->config.hand) {
		answer_stanza(d, s, ERROR_RECIPIENT_UNAVAILABLE, COUNT_STOPPED, turn);
	} else if (d->config.passthrough) {
		if (writer_stanza(turn->writer, s, &STANZA_KEEP) != WRITER_OK)
			answer_stanza(d, s, ERROR_POLICY_VIOLATION, COUNT_TOO_LARGE, turn);
	} else {
		answer_stanza(d, s, none, COUNT_UNSERVED, turn);
	}
}

static void on_request(struct delegate *d, const struct stanza *s, struct turn *turn)
{
	const struct xml_node *payload = stanza_payload(s);
	const struct rule *rule;
	bool info = xml_is(payload, NS_DISCO_INFO, "query") && s->type == TYPE_GET;
	bool node = xml_attribute(payload, "node").n > 0;
	struct jid to;
	bool bare = jid_split(s->to, &to) && !to.resource.p;

	if (info && !node && bare) {
		answer_disco(d, s, to.local.p != NULL, turn);
		return;
	}
	rule = bare ? find_rule(d, s, &to) : NULL;
	if (rule && d->draining)
		answer_stanza(d, s, ERROR_RECIPIENT_UNAVAILABLE, COUNT_STOPPED, turn);
	else if (rule)
		forward(d, rule, s, turn);
	else
		on_rest(d, s,
			info && node && bare ? ERROR_ITEM_NOT_FOUND : ERROR_SERVICE_UNAVAILABLE,
			turn);
}

/* Answers of entities ---------------------------------------------------- */

/* What is wrong with the answer to r in its envelope; NULL and *inner if nothing. */
static const char *answer_wrong(
	struct delegate *d, const struct request *r, const struct stanza *s, struct stanza *inner)
{
	int version;
	const char *wrong = s->refusal ? "over a limit" : delegation_unwrap(s, inner, &version);

	if (!wrong && version != d->config.version)
		wrong = "another version of delegation";
	if (!wrong && !span_equal(inner->id, r->id))
		wrong = "another inner id";
	return wrong ? wrong : reply_wrong(inner, r->asked, r->user, true);
}

/* An outer error. Of an account's client that may have come from its server, because the client is
 * not there any more: then another one is tried. */
static void on_bounce(struct delegate *d, struct request *r, struct request_try *try,
	const struct stanza *s, struct turn *turn)
{
	enum bounce bounce = try ? requests_bounce_of(s, try->worker) : BOUNCE_NONE;
	struct span condition = stanza_error_condition(s);

	err_info("'%.*s' has not taken a request: %.*s", SPAN_ARG(s->from), SPAN_ARG(condition));
	entity_forgets(d, entity_of(d, s->from), turn);
	if (bounce != BOUNCE_NONE) {
		requests_bounced(d->requests, try, bounce == BOUNCE_UNTOUCHED, turn);
		return;
	}
	if (try)
		worker_alive(d->balance, try->worker, turn->now_ms);
	request_fail(d, r, ERROR_SERVICE_UNAVAILABLE, COUNT_BOUNCED, turn);
}

static void on_envelope_answer(struct delegate *d, struct request *r, struct request_try *try,
	const struct stanza *s, struct turn *turn)
{
	struct stanza inner;
	const char *wrong;

	if (s->type == TYPE_ERROR) {
		on_bounce(d, r, try, s, turn);
		return;
	}
	if (try)
		worker_alive(d->balance, try->worker, turn->now_ms);
	wrong = answer_wrong(d, r, s, &inner);
	if (wrong) {
		err_warn("the answer of '%.*s' to a request of '%.*s' is wrong: %s",
			SPAN_ARG(s->from), SPAN_ARG(r->user), wrong);
		request_fail(d, r, ERROR_SERVICE_UNAVAILABLE, COUNT_BAD_ANSWER, turn);
	} else if (try) {
		requests_answered(d->requests, try, &inner, turn);
	} else {
		requests_deliver(d->requests, r, &inner, turn);
	}
}

/* What an entity announces for a namespace, within the bounds; what is over them is dropped. */
static void take_nesting(const struct rule *rule, struct disco_info *info, const struct entity *e,
	const struct stanza *s, const struct xml_node *query)
{
	const struct disco_limits limits = {
		.features = MAX_FEATURES, .identities = MAX_IDENTITIES, .bytes = MAX_DISCO_BYTES};

	disco_reset(info);
	if (!disco_add_query(info, s, query, &limits))
		err_warn("'%.*s' announces more than %d features, %d identities or %d bytes for "
			 "'%.*s': the rest is dropped",
			SPAN_ARG(e->jid), MAX_FEATURES, MAX_IDENTITIES, MAX_DISCO_BYTES,
			SPAN_ARG(rule->ns));
}

static void on_nesting_result(struct delegate *d, const struct query *q,
	const struct delegation_node *node, const struct stanza *s, const struct xml_node *query)
{
	for (size_t i = 0; i < d->rules_count; i++) {
		struct rule *rule = &d->rules[i];
		struct entity *entity = &d->entities[rule->entity];

		/* it may have been given to another entity since */
		if (!span_equal(rule->ns, node->ns) ||
			!span_equal(entity_address(entity), q->entity))
			continue;
		take_nesting(rule, node->bare ? &rule->bare : &rule->host, entity, s, query);
		*(node->bare ? &rule->bare_known : &rule->host_known) = true;
		if (entity_answered(d, entity)) {
			entity->told = true;
			entity->next_ms = DEADLINE_NEVER;
			free(entity->said);
			entity->said = NULL;
		}
		merge(d);
	}
}

static void on_nesting_error(struct delegate *d, const struct query *q,
	const struct delegation_node *node, const struct stanza *s, struct turn *turn)
{
	struct entity *entity = entity_of(d, q->entity);
	struct span condition =
		s->type == TYPE_ERROR ? stanza_error_condition(s) : SPAN("no answer to disco#info");

	if (!entity)
		return;
	entity_complains(entity, node->ns, condition,
		s->type == TYPE_ERROR ? meaning_of(entity, condition) : "");
	if (!entity->client || is_absence(condition, true))
		return;
	if (entity->retry_ms < REFUSED_MIN_MS)
		entity->retry_ms = REFUSED_MIN_MS;
	/* one step for both queries of a round */
	if (entity->next_ms < turn->now_ms + REFUSED_MIN_MS) {
		entity->next_ms = turn->now_ms + entity->retry_ms;
		entity->retry_ms = entity->retry_ms * 2 > REFUSED_MAX_MS ? REFUSED_MAX_MS
									 : entity->retry_ms * 2;
	}
}

static void on_nesting_answer(
	struct delegate *d, struct query *q, const struct stanza *s, struct turn *turn)
{
	const struct xml_node *query = xml_child(s->root, NS_DISCO_INFO, "query");
	struct worker *w = balance_find(d->balance, s->from);
	struct delegation_node node;
	struct span text = xml_attribute(query, "node");

	if (!delegation_node_parse(q->node, &node))
		return;
	if (w && s->type == TYPE_RESULT)
		worker_alive(d->balance, w, turn->now_ms);
	if (s->type == TYPE_RESULT && !s->refusal && query &&
		(!text.p || span_equal(text, q->node)))
		on_nesting_result(d, q, &node, s, query);
	else
		on_nesting_error(d, q, &node, s, turn);
}

/* The try of r that the sender of s can answer; NULL. */
static struct request_try *try_from(struct request *r, struct span from)
{
	for (unsigned i = 0; i < r->tries_count; i++)
		if (span_equal(r->tries[i].worker->name, from))
			return requests_try_of(r, r->tries[i].worker);
	return NULL;
}

/* The answer to a nesting query or to a ping; false if it is none. */
static bool on_other_answer(struct delegate *d, const struct stanza *s, struct turn *turn)
{
	struct table_entry *e =
		s->id.n && table_count(d->queries) ? table_find(d->queries, s->id) : NULL;
	struct query *q = e ? table_record(e) : NULL;
	struct worker *w = balance_find(d->balance, s->from);

	if (q && span_equal(q->entity, s->from)) {
		on_nesting_answer(d, q, s, turn);
		query_remove(d, q);
		return true;
	}
	if (!w || !worker_is_pong(w, s->id))
		return false;
	if (requests_bounce_of(s, w) == BOUNCE_NONE)
		worker_alive(d->balance, w, turn->now_ms);
	return true;
}

static void on_answer(struct delegate *d, const struct stanza *s, struct turn *turn)
{
	bool ours = span_equal(s->to, d->config.domain);
	struct request *r = ours ? request_open(d, ASKED_ENTITY, s->id) : NULL;
	struct request_try *try = r ? try_from(r, s->from) : NULL;

	if (try || (r && r->token.n && span_equal(r->token, s->from)))
		on_envelope_answer(d, r, try, s, turn);
	else if (!ours || !on_other_answer(d, s, turn))
		d->counters[COUNT_STRAY]++;
}

/* Everything that comes -------------------------------------------------- */

static void on_presence(struct delegate *d, const struct stanza *s, struct turn *turn)
{
	if (d->sessions && span_equal(s->to, d->config.domain) &&
		session_presence(d->sessions, s, turn)) {
		requests_tick(d->requests, turn); /* what a client had that has left */
		return;
	}
	if (d->config.passthrough)
		writer_stanza(turn->writer, s, &STANZA_KEEP);
	else if (s->type == TYPE_SUBSCRIBE) {
		/* accept a subscription of a managing account; refuse all others */
		bool known = d->sessions && session_target(d->sessions, s->from) >= 0;

		writer_start(turn->writer, "presence", known ? "subscribed" : "unsubscribed",
			SPAN_NONE, jid_bare(s->from), s->to);
		writer_raw(turn->writer, "/>");
		writer_end(turn->writer);
	} else {
		d->counters[COUNT_IGNORED]++;
	}
}

static void on_message(struct delegate *d, const struct stanza *s, struct turn *turn)
{
	bool bounce = s->type == TYPE_ERROR && span_equal(s->to, d->config.domain) &&
		      entity_of(d, s->from);

	if (d->config.passthrough && !s->refusal && !bounce)
		writer_stanza(turn->writer, s, &STANZA_KEEP);
	else if (s->type == TYPE_ERROR)
		/* our advertisement has come back: its queries have as well */
		d->counters[COUNT_IGNORED]++;
	else
		answer_stanza(d, s, ERROR_SERVICE_UNAVAILABLE, COUNT_UNSERVED, turn);
}

static void on_iq(struct delegate *d, const struct stanza *s, struct turn *turn)
{
	if (stanza_is_answer(s) && d->config.passthrough && !s->refusal &&
		!span_equal(s->to, d->config.domain))
		writer_stanza(
			turn->writer, s, &STANZA_KEEP); /* nothing of ours is sent from there */
	else if (stanza_is_answer(s))
		on_answer(d, s, turn);
	else if (s->refusal)
		answer_stanza(d, s, ERROR_POLICY_VIOLATION, COUNT_TOO_LARGE, turn);
	else if (!stanza_iq_valid(s) || s->id.n > MAX_ID_BYTES)
		answer_stanza(d, s, ERROR_BAD_REQUEST, COUNT_BAD_REQUEST, turn);
	else
		on_request(d, s, turn);
}

static void delegate_stanza(void *self, const struct stanza *s, struct turn *turn)
{
	struct delegate *d = self;
	struct jid from;

	if (d->config.passthrough && !jid_at_domain(s->to, d->config.domain)) {
		if (s->refusal || writer_stanza(turn->writer, s, &STANZA_KEEP) != WRITER_OK)
			d->counters[COUNT_IGNORED]++;
	} else if (!jid_split(s->from, &from)) {
		d->counters[COUNT_IGNORED]++;
	} else if (s->kind == STANZA_IQ) {
		on_iq(d, s, turn);
	} else if (s->kind == STANZA_MESSAGE) {
		on_message(d, s, turn);
	} else {
		on_presence(d, s, turn);
	}
	/* a session that has just taken over is told at once */
	for (size_t i = 0; i < d->entities_count; i++)
		if (d->entities[i].next_ms <= turn->now_ms)
			entity_tell(d, i, turn);
}

static void handler_stanza(void *self, const struct stanza *s, struct turn *turn)
{
	struct delegate *d = self;
	struct request *r = request_open(d, ASKED_OTHERWISE, s->id);
	const char *wrong;

	if (!r || s->kind != STANZA_IQ || stanza_is_request(s)) {
		err_log_limited(err_limit_of(&d->junk, turn->now_ms, "", s->id.p, s->id.n),
			turn->now_ms, ERR_WARNING,
			"the handler wrote what answers no open request (id '%.*s')",
			SPAN_ARG(s->id));
		d->counters[COUNT_STRAY]++;
		return;
	}
	wrong = reply_wrong(s, r->asked, r->user, false);
	if (!wrong) {
		requests_deliver(d->requests, r, s, turn);
		return;
	}
	err_warn("the handler's reply to a request of '%.*s' is wrong: %s", SPAN_ARG(r->user),
		wrong);
	request_fail(d, r, ERROR_INTERNAL_SERVER_ERROR, COUNT_BAD_ANSWER, turn);
}

static bool handler_bad(void *self, struct span id, struct turn *turn)
{
	struct delegate *d = self;
	struct request *r = request_open(d, ASKED_OTHERWISE, id);

	if (!r) {
		d->counters[COUNT_STRAY]++;
		return false;
	}
	request_fail(d, r, ERROR_INTERNAL_SERVER_ERROR, COUNT_BAD_ANSWER, turn);
	return true;
}

static void handler_died(void *self, struct turn *turn)
{
	struct delegate *d = self;

	size_t count;
	struct request **all = requests_all(d->requests, &count);

	for (size_t i = 0; i < count; i++) {
		const struct asked *a = request_extra(all[i]);

		if (a->kind == ASKED_OTHERWISE && !all[i]->owed)
			request_fail(d, all[i], ERROR_INTERNAL_SERVER_ERROR, COUNT_BOUNCED, turn);
	}
	free(all);
}

/* Time ------------------------------------------------------------------- */

static void delegate_down(void *self, struct turn *turn)
{
	struct delegate *d = self;

	if (d->sessions)
		session_down(d->sessions, turn);
	for (size_t i = 0; i < d->entities_count; i++)
		d->entities[i].next_ms = DEADLINE_NEVER;
}

static int64_t delegate_deadline(const void *self)
{
	const struct delegate *d = self;
	const int64_t all_ms[] = {requests_deadline(d->requests), table_deadline(d->queries),
		balance_deadline(d->balance),
		d->sessions ? session_deadline(d->sessions) : DEADLINE_NEVER};
	int64_t deadline_ms = deadline_first(all_ms, sizeof(all_ms) / sizeof(all_ms[0]));

	for (size_t i = 0; i < d->entities_count; i++)
		if (d->entities[i].next_ms < deadline_ms)
			deadline_ms = d->entities[i].next_ms;
	return deadline_ms;
}

/* Nesting queries that nobody has answered. */
static void queries_tick(struct delegate *d, int64_t now_ms)
{
	struct table_entry *e;

	while ((e = table_earliest(d->queries)) && e->deadline_ms <= now_ms) {
		struct query *q = table_record(e);
		struct entity *entity = entity_of(d, q->entity);
		struct delegation_node node;

		if (entity && !entity->told && delegation_node_parse(q->node, &node))
			entity_complains(entity, node.ns, SPAN("no answer"),
				" (if its server is ejabberd 24.10 to 24.12 with mod_privilege: "
				"leave that module out, it drops what components ask)");
		query_remove(d, q);
	}
}

static void entities_tick(struct delegate *d, struct turn *turn)
{
	for (size_t i = 0; i < d->entities_count; i++)
		if (d->entities[i].next_ms <= turn->now_ms)
			entity_tell(d, i, turn);
}

static void delegate_tick(void *self, struct turn *turn)
{
	struct delegate *d = self;

	balance_tick(d->balance, turn);
	requests_tick(d->requests, turn);
	queries_tick(d, turn->now_ms);
	if (d->sessions)
		session_tick(d->sessions, turn);
	entities_tick(d, turn);
}

static void delegate_drain(void *self, struct turn *turn)
{
	struct delegate *d = self;

	(void)turn;
	d->draining = true;
}

static void delegate_finish(void *self, struct turn *turn)
{
	struct delegate *d = self;

	d->draining = true;
	requests_finish(d->requests, turn);
}

/* Life ------------------------------------------------------------------- */

static void new_tables(struct delegate *d)
{
	const struct delegate_config *c = &d->config;
	struct shares_config shares = c->pending;
	const uint64_t seed[2] = {random_draw(&c->random), random_draw(&c->random)};

	d->balance = balance_new(&(struct balance_config){.policy = POLICY_ROUND_ROBIN,
		.try_timeout_ms = c->try_timeout_ms,
		.noun = "client",
		.random = c->random,
		.ping = ping,
		.changed = suspects_changed,
		.context = d});
	shares.own = &d->config.domain;
	shares.own_count = 1;
	memcpy(shares.seed, seed, sizeof(shares.seed));
	d->shares = shares_new(&shares);
	d->requests = requests_new(&(struct requests_config){.max = c->pending.max,
		.max_bytes = c->pending.max_bytes,
		.seed = {seed[0], seed[1]},
		.timeout_ms = c->timeout_ms,
		.extra_bytes = sizeof(struct asked),
		.balance = d->balance,
		.shares = d->shares,
		.choose = choose,
		.hand = hand,
		.answer = answer,
		.error = error,
		.ending = ending,
		.again = again,
		.removed = removed,
		.doubted = doubted,
		.context = d});
	d->queries = table_new(MAX_QUERIES, SIZE_MAX / 2, seed);
}

struct delegate *delegate_new(const struct delegate_config *config)
{
	struct delegate *d = xcalloc(1, sizeof(*d));

	d->config = *config;
	new_tables(d);
	disco_init(&d->host);
	disco_init(&d->bare);
	buf_init(&d->node, BUF_NO_MAX);
	buf_init(&d->spare, BUF_NO_MAX);
	return d;
}

void delegate_free(struct delegate *d)
{
	struct table_entry *e;

	if (!d)
		return;
	requests_free(d->requests);
	while ((e = table_earliest(d->queries)))
		query_remove(d, table_record(e));
	table_free(d->queries);
	for (size_t i = 0; i < d->entities_count; i++)
		if (d->entities[i].manager)
			worker_release(d->balance, d->entities[i].manager);
	sessions_free(d);
	balance_free(d->balance);
	shares_free(d->shares);
	rules_free(d->rules, d->rules_count);
	entities_free(d->entities, d->entities_count);
	disco_free(&d->host);
	disco_free(&d->bare);
	buf_free(&d->node);
	buf_free(&d->spare);
	free(d);
}

const struct service_ops delegate_ops = {
	.fold = true,
	.up = begin_all,
	.down = delegate_down,
	.stanza = delegate_stanza,
	.tick = delegate_tick,
	.deadline = delegate_deadline,
	.drain = delegate_drain,
	.finish = delegate_finish,
	.open_requests = delegate_open_requests,
	.handler_requests = delegate_handler_requests,
	.metrics = delegate_metrics,
};

const struct helper_ops delegate_helper_ops = {
	.stanza = handler_stanza, .bad = handler_bad, .died = handler_died};
