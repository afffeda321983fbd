#include "delegation/delegate.h"

#include <stdio.h>
#include <stdlib.h>

#include "base/deadline.h"
#include "base/utf8.h"
#include "delegation/delegation.h"
#include "base/err.h"
#include "xmpp/jid.h"
#include "loop/loop.h"
#include "xmpp/reply.h"
#include "xmpp/session.h"
#include "xmpp/stanza-error.h"

#define NESTING_MIN_MS 1000
#define NESTING_MAX_MS 60000
#define MAX_SESSIONS 1000

/* One managing entity: a component, one client, or whichever client of an account is online. */
struct entity {
	struct span jid;	 /* owned */
	bool account;		 /* a bare JID with a localpart: its sessions manage */
	struct session *session; /* account: the one that manages, held; NULL: none is there */
	bool told;    /* it has been told of the delegations and has answered all queries */
	bool changed; /* its delegations have changed since it was told */
	int64_t next_ms, retry_ms; /* when to tell it (again) */
};

/* One delegated namespace. */
struct rule {
	struct span ns, *attributes; /* owned */
	size_t attributes_count;
	size_t entity;		      /* index */
	struct disco_info host, bare; /* its answers to the nesting queries */
	bool host_known, bare_known;
};

enum request_kind { REQUEST_ENVELOPE, REQUEST_NESTING, REQUEST_HANDLER };

/* An open request: a user's at an entity or at OTHERWISE, or a nesting query. Texts in text. */
struct request {
	enum request_kind kind;
	struct span asked_jid;	  /* the entity that must answer */
	struct span user, to, id; /* the user's: from, to, id; nesting: id = the node */
	char *text;
};

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

static const struct metric_name counter_names[COUNTERS] = {
	[COUNT_REQUESTS] = {"requests", NULL, "requests forwarded to managing entities"},
	[COUNT_ANSWERS] = {"answers", NULL, "answers delivered"},
	[COUNT_HANDED] = {"otherwise", NULL, "requests given to the OTHERWISE handler"},
	[COUNT_BAD_ANSWER] = {"errors", "reason=\"bad-answer\"", "requests answered with an error"},
	[COUNT_BOUNCED] = {"errors", "reason=\"bounced\"", "requests answered with an error"},
	[COUNT_TIMEOUT] = {"errors", "reason=\"timeout\"", "requests answered with an error"},
	[COUNT_BUSY] = {"errors", "reason=\"busy\"", "requests answered with an error"},
	[COUNT_TOO_LARGE] = {"errors", "reason=\"too-large\"", "requests answered with an error"},
	[COUNT_BAD_REQUEST] = {"errors", "reason=\"bad-request\"",
		"requests answered with an error"},
	[COUNT_UNSERVED] = {"errors", "reason=\"unserved\"", "requests answered with an error"},
	[COUNT_STOPPED] = {"errors", "reason=\"stopped\"", "requests answered with an error"},
	[COUNT_STRAY] = {"dropped", "reason=\"stray\"", "stanzas dropped"},
	[COUNT_IGNORED] = {"dropped", "reason=\"ignored\"", "stanzas dropped"},
	[COUNT_QUEUE_FULL] = {"dropped", "reason=\"queue-full\"", "stanzas dropped"},
};

struct delegate {
	struct delegate_config config;
	struct entity *entities;
	size_t entities_count;
	struct rule *rules;
	size_t rules_count;
	struct span *accounts; /* of the entities that are accounts: the targets of sessions */
	size_t accounts_count;
	struct session_table *sessions; /* NULL: no entity is an account */
	struct table *requests;
	size_t open;   /* requests of users */
	size_t handed; /* those at OTHERWISE */
	struct buf node;
	bool up, draining;
	uint64_t counters[COUNTERS];
	struct err_limits junk; /* of the handler, that answers nothing */
};

static struct span span_copy(struct span s)
{
	return s.p ? (struct span){xstrndup(s.p, s.n), s.n} : SPAN_NONE;
}

/* Life ------------------------------------------------------------------- */

struct delegate *delegate_new(const struct delegate_config *config)
{
	struct delegate *d = xcalloc(1, sizeof(*d));
	uint64_t seed[2];

	d->config = *config;
	seed[0] = config->random(config->random_context);
	seed[1] = config->random(config->random_context);
	/* nesting queries come on top of what users may have open */
	d->requests = table_new(config->max_pending + 4096, config->max_pending_bytes, seed);
	buf_init(&d->node, BUF_NO_MAX);
	return d;
}

static void request_remove(struct delegate *d, struct request *r)
{
	d->open -= r->kind != REQUEST_NESTING;
	d->handed -= r->kind == REQUEST_HANDLER;
	if (r->kind == REQUEST_HANDLER)
		d->config.over(d->config.helper, table_entry_of(r)->key);
	free(r->text);
	table_remove(d->requests, table_entry_of(r));
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

static void sessions_free(struct delegate *d, struct entity *entities, size_t count)
{
	for (size_t i = 0; i < count; i++)
		if (entities[i].session) {
			session_release(entities[i].session);
			entities[i].session = NULL;
		}
	session_table_free(d->sessions);
	d->sessions = NULL;
	free(d->accounts);
	d->accounts = NULL;
	d->accounts_count = 0;
}

static void entities_free(struct entity *entities, size_t count)
{
	for (size_t i = 0; i < count; i++)
		free((char *)entities[i].jid.p);
	free(entities);
}

void delegate_free(struct delegate *d)
{
	struct table_entry *e;

	if (!d)
		return;
	while ((e = table_earliest(d->requests)))
		request_remove(d, table_record(e));
	table_free(d->requests);
	sessions_free(d, d->entities, d->entities_count);
	rules_free(d->rules, d->rules_count);
	entities_free(d->entities, d->entities_count);
	buf_free(&d->node);
	free(d);
}

static size_t delegate_open_requests(const void *self)
{
	const struct delegate *d = self;

	return d->open;
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
		"requests waiting for their answer", METRIC_GAUGE, d->open};
	size_t n = metrics_add(out, 0, max, &pending, 1);

	return metrics_add_counters(out, n, max, counter_names, d->counters, COUNTERS);
}

/* Requests --------------------------------------------------------------- */

/* An id that nobody can guess. */
static struct span fresh_id(struct delegate *d, char id[33])
{
	snprintf(id, 33, "%016llx%016llx",
		(unsigned long long)d->config.random(d->config.random_context),
		(unsigned long long)d->config.random(d->config.random_context));
	return (struct span){id, 32};
}

static struct request *request_add(struct delegate *d, enum request_kind kind, struct span key,
	struct span asked_jid, struct span user, struct span to, struct span id, struct turn *turn)
{
	const struct span parts[] = {asked_jid, user, to, id};
	struct table_entry *e = NULL;
	struct request *r;
	size_t n = 0;

	if (kind == REQUEST_NESTING || d->open < d->config.max_pending)
		e = table_add(d->requests, key, sizeof(*r), turn->now_ms + d->config.timeout_ms);
	if (!e)
		return NULL;
	for (size_t i = 0; i < 4; i++)
		n += parts[i].n;
	if (!table_charge(d->requests, e, n)) {
		table_remove(d->requests, e);
		return NULL;
	}
	r = table_record(e);
	struct span *const places[] = {&r->asked_jid, &r->user, &r->to, &r->id};

	r->text = xmalloc(n + 1);
	span_pack(r->text, parts, places, 4);
	r->kind = kind;
	d->open += kind != REQUEST_NESTING;
	d->handed += kind == REQUEST_HANDLER;
	return r;
}

static void answer_stanza(struct delegate *d, const struct stanza *s, enum stanza_error e,
	enum counter why, struct turn *turn)
{
	d->counters[why]++;
	if (stanza_error_reply(turn->writer, s, e, NULL) != WRITER_OK)
		d->counters[COUNT_QUEUE_FULL]++;
}

/* The request's one answer is an error of ours. */
static void answer_error(struct delegate *d, struct request *r, enum stanza_error e,
	enum counter why, struct turn *turn)
{
	if (r->kind != REQUEST_NESTING) {
		d->counters[why]++;
		if (stanza_error_send(turn->writer, "iq", r->user, r->to, r->id, e, NULL) !=
			WRITER_OK)
			d->counters[COUNT_QUEUE_FULL]++;
	}
	request_remove(d, r);
}

/* s is the answer to r. */
static void deliver(
	struct delegate *d, struct request *r, const struct stanza *s, struct turn *turn)
{
	struct stanza_edit edit = {.to = r->user, .from = r->to, .id = r->id};

	switch (writer_stanza(turn->writer, s, &edit)) {
	case WRITER_TOO_LARGE:
		answer_error(d, r, ERROR_POLICY_VIOLATION, COUNT_TOO_LARGE, turn);
		return;
	case WRITER_FULL:
		answer_error(d, r, ERROR_RESOURCE_CONSTRAINT, COUNT_BUSY, turn);
		return;
	case WRITER_OK:
		break;
	}
	d->counters[COUNT_ANSWERS]++;
	request_remove(d, r);
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
			(d->entities[i].account && span_equal(d->entities[i].jid, jid_bare(jid))))
			return &d->entities[i];
	return NULL;
}

/* The address for its stanzas now; absent while none of an account's clients is online. */
static struct span entity_address(const struct entity *entity)
{
	return !entity->account ? entity->jid : entity->session ? entity->session->jid : SPAN_NONE;
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

static void send_advertisement(struct delegate *d, size_t index, struct turn *turn)
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
	writer_end(turn->writer);
}

static void send_nesting(struct delegate *d, const struct rule *rule, bool bare, struct turn *turn)
{
	const struct delegation_node node = {
		.version = d->config.version, .bare = bare, .ns = rule->ns};
	struct span address = entity_address(&d->entities[rule->entity]);
	char text[33];
	struct span id = fresh_id(d, text);

	buf_reset(&d->node);
	delegation_node_format(&node, &d->node);
	if (!request_add(d, REQUEST_NESTING, id, address, SPAN_NONE, SPAN_NONE, buf_span(&d->node),
		    turn))
		return;
	writer_start(turn->writer, "iq", "get", id, address, d->config.domain);
	writer_raw(turn->writer, "><query xmlns='" NS_DISCO_INFO "'");
	writer_attribute(turn->writer, "node", buf_span(&d->node));
	writer_raw(turn->writer, "/></iq>");
	writer_end(turn->writer);
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
	if (!entity->told || entity->changed)
		send_advertisement(d, index, turn);
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

/* Sessions of accounts --------------------------------------------------- */

static void session_left(void *context, struct session *s, bool link_down, struct turn *turn)
{
	struct delegate *d = context;

	(void)link_down;
	(void)turn;
	for (size_t i = 0; i < d->entities_count; i++)
		if (d->entities[i].session == s) {
			d->entities[i].session = NULL;
			session_release(s);
		}
}

/* The first session online manages; when it has left, the next one. */
static void sessions_changed(void *context, struct turn *turn)
{
	struct delegate *d = context;

	for (size_t i = 0; i < d->entities_count; i++) {
		struct entity *entity = &d->entities[i];

		if (!entity->account || entity->session)
			continue;
		for (size_t j = 0; j < session_count(d->sessions) && !entity->session; j++)
			if (span_equal(jid_bare(session_at(d->sessions, j)->jid), entity->jid))
				entity->session = session_at(d->sessions, j);
		if (entity->session) {
			session_hold(entity->session);
			entity_begin(d, entity, turn);
		}
	}
}

struct leaving {
	const struct delegate *d;
	struct span left; /* a session, or an account with all of them */
};

static bool is_gone(void *context, struct table_entry *e)
{
	const struct leaving *l = context;
	const struct request *r = table_record(e);

	return (span_equal(r->asked_jid, l->left) || span_equal(jid_bare(r->asked_jid), l->left)) &&
	       !session_find(l->d->sessions, r->asked_jid);
}

static bool is_handed(void *context, struct table_entry *e)
{
	(void)context;
	return ((struct request *)table_record(e))->kind == REQUEST_HANDLER;
}

/* Answer all requests that `which` selects, because nobody else will. */
static void fail_some(struct delegate *d, bool (*which)(void *context, struct table_entry *e),
	void *context, enum stanza_error error, struct turn *turn)
{
	size_t count;
	struct table_entry **list = table_gather(d->requests, which, context, &count);

	for (size_t i = 0; i < count; i++)
		answer_error(d, table_record(list[i]), error, COUNT_BOUNCED, turn);
	free(list);
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
	entity->account = jid_split(jid, &parts) && parts.local.p && !parts.resource.p;
	return d->entities_count++;
}

/* The accounts among the entities, and the table of their clients: the old one, if it is of the
 * same accounts. */
static void sessions_begin(struct delegate *d, struct entity *old, size_t old_count)
{
	struct session_config config = {.domain = d->config.domain,
		.max_sessions = MAX_SESSIONS,
		.left = session_left,
		.changed = sessions_changed,
		.context = d};
	size_t kept = 0, accounts = 0;

	for (size_t i = 0; i < d->entities_count; i++) {
		struct entity *entity = &d->entities[i], *before;

		accounts += entity->account;
		before = entity->account ? entity_named(old, old_count, entity->jid) : NULL;
		kept += before != NULL;
	}
	if (d->sessions && kept == accounts && accounts == d->accounts_count) {
		for (size_t i = 0; i < d->entities_count; i++) {
			struct entity *entity = &d->entities[i];
			struct entity *before = entity_named(old, old_count, entity->jid);
			struct span jid = entity->jid;

			if (!entity->account || !before)
				continue;
			/* the table has the old one's text */
			entity->jid = before->jid;
			before->jid = jid;
			entity->session = before->session;
			before->session = NULL;
		}
		return;
	}
	sessions_free(d, old, old_count);
	d->accounts = xcalloc(accounts + 1, sizeof(*d->accounts));
	for (size_t i = 0; i < d->entities_count; i++)
		if (d->entities[i].account)
			d->accounts[d->accounts_count++] = d->entities[i].jid;
	if (!d->accounts_count)
		return;
	config.targets = d->accounts;
	config.targets_count = d->accounts_count;
	d->sessions = session_table_new(&config);
}

static void begin_all(struct delegate *d, struct turn *turn)
{
	if (d->sessions)
		session_up(d->sessions, turn);
	for (size_t i = 0; i < d->entities_count; i++)
		if (!d->entities[i].account) {
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

void delegate_rules(
	struct delegate *d, const struct delegate_rule *rules, size_t count, struct turn *turn)
{
	struct entity *old_entities = d->entities;
	struct rule *old_rules = d->rules;
	const struct session_table *old_sessions = d->sessions;
	size_t old_entities_count = d->entities_count, old_rules_count = d->rules_count;

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
	sessions_begin(d, old_entities, old_entities_count);
	rules_free(old_rules, old_rules_count);
	entities_free(old_entities, old_entities_count);
	if (!turn->writer)
		return;
	if (d->sessions && d->sessions != old_sessions)
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

static const struct rule *find_rule(struct delegate *d, const struct stanza *s)
{
	struct jid to;

	if (!jid_split(s->to, &to) || to.resource.p)
		return NULL;
	for (size_t i = 0; i < d->rules_count; i++)
		if (rule_applies(&d->rules[i], stanza_payload(s), to.local.p != NULL) &&
			!is_entity(&d->entities[d->rules[i].entity], s->from))
			return &d->rules[i];
	return NULL;
}

static void forward(
	struct delegate *d, const struct rule *rule, const struct stanza *s, struct turn *turn)
{
	struct span address = entity_address(&d->entities[rule->entity]), id;
	enum writer_status status;
	struct request *r;
	char text[33];

	if (!address.p) {
		answer_stanza(d, s, ERROR_SERVICE_UNAVAILABLE, COUNT_BOUNCED, turn);
		return;
	}
	id = fresh_id(d, text);
	r = request_add(d, REQUEST_ENVELOPE, id, address, s->from, s->to, s->id, turn);
	if (!r) {
		answer_stanza(d, s, ERROR_RESOURCE_CONSTRAINT, COUNT_BUSY, turn);
		return;
	}
	delegation_begin(turn->writer, d->config.version, "set", address, d->config.domain, id);
	writer_copy(turn->writer, s, &STANZA_KEEP, NS_CLIENT);
	status = delegation_end(turn->writer);
	if (status == WRITER_OK)
		d->counters[COUNT_REQUESTS]++;
	else
		answer_error(d, r,
			status == WRITER_TOO_LARGE ? ERROR_POLICY_VIOLATION
						   : ERROR_RESOURCE_CONSTRAINT,
			COUNT_TOO_LARGE, turn);
}

/* A feature of our own under a delegated namespace is the entity's to announce (7.2.1). */
static bool is_delegated_feature(const struct delegate *d, struct span feature)
{
	for (size_t i = 0; i < d->rules_count; i++)
		if (span_starts(feature, d->rules[i].ns))
			return true;
	return false;
}

static void answer_disco(
	struct delegate *d, const struct stanza *s, bool account, struct turn *turn)
{
	const struct disco_info *own = d->config.own;
	struct disco_info info;

	disco_init(&info);
	buf_append_span(&info.identities, buf_span(&own->identities));
	buf_append_span(&info.forms, buf_span(&own->forms));
	for (size_t i = 0; i < own->features_count; i++)
		if (!is_delegated_feature(d, span_of(own->features[i])))
			disco_add_feature(&info, span_of(own->features[i]));
	disco_add_feature(&info, SPAN(NS_DISCO_INFO));
	disco_add_feature(&info, span_of(delegation_ns(d->config.version)));
	for (size_t i = 0; i < d->rules_count; i++)
		disco_add_all(&info, account ? &d->rules[i].bare : &d->rules[i].host);
	if (disco_answer(&info, s, SPAN_NONE, turn->writer) != WRITER_OK)
		answer_stanza(d, s, ERROR_POLICY_VIOLATION, COUNT_TOO_LARGE, turn);
	disco_free(&info);
}

/* A request that is not delegated goes to OTHERWISE, passes through (a filter), or is refused. */
static void on_rest(
	struct delegate *d, const struct stanza *s, enum stanza_error none, struct turn *turn)
{
	if (d->config.hand && !d->draining) {
		char text[33];
		struct span id = fresh_id(d, text);
		struct request *r =
			request_add(d, REQUEST_HANDLER, id, SPAN_NONE, s->from, s->to, s->id, turn);

		if (!r)
			answer_stanza(d, s, ERROR_RESOURCE_CONSTRAINT, COUNT_BUSY, turn);
		else if (d->config.hand(d->config.helper,
				 &(struct helper_request){.stanza = s,
					 .id = id,
					 .deadline_ms = turn->now_ms + d->config.timeout_ms}))
			d->counters[COUNT_HANDED]++;
		else
			answer_error(d, r, ERROR_SERVICE_UNAVAILABLE, COUNT_BUSY, turn);
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
	rule = find_rule(d, s);
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

static void warn_answer(const struct request *r, const char *wrong)
{
	err_warn("the answer of '%.*s' to a request of '%.*s' is wrong: %s", SPAN_ARG(r->asked_jid),
		SPAN_ARG(r->user), wrong);
}

static void on_envelope_answer(
	struct delegate *d, struct request *r, const struct stanza *s, struct turn *turn)
{
	struct stanza inner;
	const char *wrong;
	int version;

	if (s->type == TYPE_ERROR) {
		struct span condition = stanza_error_condition(s);

		err_info("'%.*s' has not taken a request: %.*s", SPAN_ARG(r->asked_jid),
			SPAN_ARG(condition));
		entity_forgets(d, entity_of(d, r->asked_jid), turn);
		answer_error(d, r, ERROR_SERVICE_UNAVAILABLE, COUNT_BOUNCED, turn);
		return;
	}
	wrong = s->refusal ? "over a limit" : delegation_unwrap(s, &inner, &version);
	if (!wrong && version != d->config.version)
		wrong = "another version of delegation";
	if (!wrong && !span_equal(inner.id, r->id))
		wrong = "another inner id";
	if (!wrong)
		wrong = reply_wrong(&inner, r->to, r->user, true);
	if (wrong) {
		warn_answer(r, wrong);
		answer_error(d, r, ERROR_SERVICE_UNAVAILABLE, COUNT_BAD_ANSWER, turn);
		return;
	}
	deliver(d, r, &inner, turn);
}

static void on_nesting_answer(struct delegate *d, struct request *r, const struct stanza *s)
{
	const struct xml_node *query = xml_child(s->root, NS_DISCO_INFO, "query");
	struct delegation_node node;
	struct span text = xml_attribute(query, "node");

	if (s->type == TYPE_RESULT && !s->refusal && query && delegation_node_parse(r->id, &node) &&
		(!text.p || span_equal(text, r->id)))
		for (size_t i = 0; i < d->rules_count; i++) {
			struct rule *rule = &d->rules[i];
			struct disco_info *info = node.bare ? &rule->bare : &rule->host;
			struct entity *entity = &d->entities[rule->entity];

			/* it may have been given to another entity since */
			if (!span_equal(rule->ns, node.ns) ||
				!span_equal(entity_address(entity), r->asked_jid))
				continue;
			disco_reset(info);
			disco_add_query(info, s, query);
			*(node.bare ? &rule->bare_known : &rule->host_known) = true;
			if (entity_answered(d, entity)) {
				entity->told = true;
				entity->next_ms = DEADLINE_NEVER;
			}
		}
	else
		err_info("'%.*s' has not told what it does about '%.*s'", SPAN_ARG(r->asked_jid),
			SPAN_ARG(r->id));
	request_remove(d, r);
}

static void on_answer(struct delegate *d, const struct stanza *s, struct turn *turn)
{
	struct table_entry *e = s->id.n ? table_find(d->requests, s->id) : NULL;
	struct request *r = e ? table_record(e) : NULL;

	if (!r || r->kind == REQUEST_HANDLER || !span_equal(r->asked_jid, s->from) ||
		!span_equal(s->to, d->config.domain))
		d->counters[COUNT_STRAY]++;
	else if (r->kind == REQUEST_NESTING)
		on_nesting_answer(d, r, s);
	else
		on_envelope_answer(d, r, s, turn);
}

/* Everything that comes -------------------------------------------------- */

static void on_presence(struct delegate *d, const struct stanza *s, struct turn *turn)
{
	if (d->sessions && span_equal(s->to, d->config.domain) &&
		session_presence(d->sessions, s, turn)) {
		struct leaving leaving = {d, s->from};

		if (s->type != TYPE_NONE)
			fail_some(d, is_gone, &leaving, ERROR_SERVICE_UNAVAILABLE, turn);
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
	else if (!stanza_iq_valid(s))
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
	struct table_entry *e = s->id.n ? table_find(d->requests, s->id) : NULL;
	struct request *r = e ? table_record(e) : NULL;
	const char *wrong;

	if (!r || r->kind != REQUEST_HANDLER || s->kind != STANZA_IQ || !turn->writer) {
		err_log_limited(err_limit_of(&d->junk, turn->now_ms, "", s->id.p, s->id.n),
			turn->now_ms, ERR_WARNING,
			"the handler wrote what answers no open request (id '%.*s')",
			SPAN_ARG(s->id));
		d->counters[COUNT_STRAY]++;
		return;
	}
	wrong = reply_wrong(s, r->to, r->user, false);
	if (!wrong) {
		deliver(d, r, s, turn);
		return;
	}
	err_warn("the handler's reply to a request of '%.*s' is wrong: %s", SPAN_ARG(r->user),
		wrong);
	answer_error(d, r, ERROR_INTERNAL_SERVER_ERROR, COUNT_BAD_ANSWER, turn);
}

static bool handler_bad(void *self, struct span id, struct turn *turn)
{
	struct delegate *d = self;
	struct table_entry *e = id.n ? table_find(d->requests, id) : NULL;
	struct request *r = e ? table_record(e) : NULL;

	if (!(r && r->kind == REQUEST_HANDLER && turn->writer)) {
		d->counters[COUNT_STRAY]++;
		return false;
	}
	answer_error(d, r, ERROR_INTERNAL_SERVER_ERROR, COUNT_BAD_ANSWER, turn);
	return true;
}

static void handler_died(void *self, struct turn *turn)
{
	struct delegate *d = self;
	if (turn->writer)
		fail_some(d, is_handed, NULL, ERROR_INTERNAL_SERVER_ERROR, turn);
}

/* Time ------------------------------------------------------------------- */

static void delegate_up(void *self, struct turn *turn)
{
	struct delegate *d = self;

	d->up = true;
	begin_all(d, turn);
}

static void delegate_down(void *self, struct turn *turn)
{
	struct delegate *d = self;

	d->up = false;
	if (d->sessions)
		session_down(d->sessions, turn);
	for (size_t i = 0; i < d->entities_count; i++)
		d->entities[i].next_ms = DEADLINE_NEVER;
}

static int64_t delegate_deadline(const void *self)
{
	const struct delegate *d = self;
	int64_t deadline_ms = table_deadline(d->requests);

	if (d->sessions && session_deadline(d->sessions) < deadline_ms)
		deadline_ms = session_deadline(d->sessions);
	for (size_t i = 0; i < d->entities_count; i++)
		if (d->entities[i].next_ms < deadline_ms)
			deadline_ms = d->entities[i].next_ms;
	return deadline_ms;
}

static void delegate_tick(void *self, struct turn *turn)
{
	struct delegate *d = self;
	struct table_entry *e;

	while ((e = table_earliest(d->requests)) && e->deadline_ms <= turn->now_ms) {
		struct request *r = table_record(e);

		if (r->kind == REQUEST_ENVELOPE)
			entity_forgets(d, entity_of(d, r->asked_jid), turn);
		answer_error(d, r, ERROR_REMOTE_SERVER_TIMEOUT, COUNT_TIMEOUT, turn);
	}
	if (d->sessions)
		session_tick(d->sessions, turn);
	for (size_t i = 0; i < d->entities_count; i++)
		if (d->entities[i].next_ms <= turn->now_ms)
			entity_tell(d, i, turn);
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
	struct table_entry *e;

	d->draining = true;
	while ((e = table_earliest(d->requests)))
		answer_error(d, table_record(e), ERROR_RECIPIENT_UNAVAILABLE, COUNT_STOPPED, turn);
}

const struct service_ops delegate_ops = {
	.fold = true,
	.up = delegate_up,
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
