#include "delegation/entities.h"

#include <stdlib.h>

#include "base/deadline.h"
#include "base/err.h"
#include "base/table.h"
#include "delegation/delegation.h"
#include "xmpp/requests.h"
#include "xmpp/session.h"
#include "xmpp/stanza-error.h"

#define NESTING_MIN_MS 1000
#define NESTING_MAX_MS 60000
/* A client that answers nesting queries with an error is asked again after so long, doubling. */
#define REFUSED_MIN_MS (60 * 1000)
#define REFUSED_MAX_MS (60 * 60 * 1000)
#define MAX_SESSIONS 1000
/* Nesting queries that may be open at once. */
#define MAX_QUERIES 4096
/* What an entity may announce for one namespace. */
#define MAX_FEATURES 64
#define MAX_IDENTITIES 16
#define MAX_DISCO_BYTES (16 * 1024)

/* One delegated namespace. */
struct rule {
	struct span ns, *attributes; /* owned */
	size_t attributes_count;
	size_t entity;		      /* index */
	struct disco_info host, bare; /* its answers to the nesting queries */
	bool host_known, bare_known;
};

/* An open nesting query. Texts in text. */
struct query {
	struct span entity, node; /* the address it was sent to, and the node asked for */
	char *text;
};

struct entities {
	struct entities_config config;
	struct entity *list;
	size_t count;
	struct rule *rules;
	size_t rules_count;
	struct disco_info host, bare; /* what is answered to disco#info, merged */
	struct span *accounts;	      /* of the entities that are accounts: targets of sessions */
	size_t accounts_count;
	struct session_table *sessions; /* NULL: no entity is an account */
	struct balance *balance;	/* their clients */
	struct table *queries;
	struct buf node;
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

static void list_free(struct entity *entities, size_t count)
{
	for (size_t i = 0; i < count; i++) {
		free((char *)entities[i].jid.p);
		free(entities[i].said);
	}
	free(entities);
}

/* Entities --------------------------------------------------------------- */

static struct entity *entity_named(struct entity *entities, size_t count, struct span jid)
{
	for (size_t i = 0; i < count; i++)
		if (span_equal(entities[i].jid, jid))
			return &entities[i];
	return NULL;
}

struct entity *entities_of(const struct entities *t, struct span jid)
{
	for (size_t i = 0; i < t->count; i++)
		if (span_equal(t->list[i].jid, jid) ||
			(t->list[i].account != NOT_AN_ACCOUNT &&
				span_equal(t->list[i].jid, jid_bare(jid))))
			return &t->list[i];
	return NULL;
}

struct span entity_address(const struct entity *entity)
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

void entities_forget(struct entities *t, struct entity *entity, struct turn *turn)
{
	if (!entity)
		return;
	for (size_t i = 0; i < t->rules_count; i++)
		if (&t->list[t->rules[i].entity] == entity)
			t->rules[i].host_known = t->rules[i].bare_known = false;
	if (entity->told) {
		entity->told = false;
		entity->silence.times = 0;
		entity->next_ms = turn->now_ms + NESTING_MIN_MS;
	}
}

static bool send_advertisement(struct entities *t, size_t index, struct turn *turn)
{
	writer_start(turn->writer, "message", NULL, SPAN_NONE, entity_address(&t->list[index]),
		t->config.domain);
	writer_raw(turn->writer, "><delegation xmlns='");
	writer_raw(turn->writer, delegation_ns(t->config.version));
	writer_raw(turn->writer, "'>");
	for (size_t i = 0; i < t->rules_count; i++) {
		const struct rule *rule = &t->rules[i];

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
	struct entities *t, struct span id, struct span entity, struct span node, int64_t now_ms)
{
	const struct span parts[] = {entity, node};
	struct table_entry *e =
		table_add(t->queries, id, sizeof(struct query), now_ms + t->config.timeout_ms);
	struct query *q;

	if (!e)
		return false;
	q = table_record(e);
	q->text = xmalloc(entity.n + node.n + 1);
	span_pack(q->text, parts, (struct span *const[]){&q->entity, &q->node}, 2);
	return true;
}

static void query_remove(struct entities *t, struct query *q)
{
	free(q->text);
	table_remove(t->queries, table_entry_of(q));
}

static void send_nesting(struct entities *t, const struct rule *rule, bool bare, struct turn *turn)
{
	const struct delegation_node node = {
		.version = t->config.version, .bare = bare, .ns = rule->ns};
	struct span address = entity_address(&t->list[rule->entity]);
	char text[RANDOM_NAME_CHARS + 1];
	struct span id = random_name(&t->config.random, text);

	buf_reset(&t->node);
	delegation_node_format(&node, &t->node);
	if (!query_add(t, id, address, buf_span(&t->node), turn->now_ms))
		return;
	writer_start(turn->writer, "iq", "get", id, address, t->config.domain);
	writer_raw(turn->writer, "><query xmlns='" NS_DISCO_INFO "'");
	writer_attribute(turn->writer, "node", buf_span(&t->node));
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

/* Whether it has answered all nesting queries. */
static bool entity_answered(const struct entities *t, const struct entity *entity)
{
	for (size_t i = 0; i < t->rules_count; i++)
		if (&t->list[t->rules[i].entity] == entity &&
			!(t->rules[i].host_known && t->rules[i].bare_known))
			return false;
	return true;
}

/* The advertisement, then the nesting queries that are not answered yet. */
static void entity_tell(struct entities *t, size_t index, struct turn *turn)
{
	struct entity *entity = &t->list[index];

	entity->next_ms = DEADLINE_NEVER;
	if (!entity_address(entity).p)
		return;
	entity->told = entity_answered(t, entity);
	if ((!entity->told || entity->changed) && !send_advertisement(t, index, turn)) {
		entity->next_ms = turn->now_ms + NESTING_MIN_MS;
		return;
	}
	entity->changed = false;
	if (entity->told)
		return;
	for (size_t i = 0; i < t->rules_count; i++) {
		if (t->rules[i].entity != index)
			continue;
		if (!t->rules[i].host_known)
			send_nesting(t, &t->rules[i], false, turn);
		if (!t->rules[i].bare_known)
			send_nesting(t, &t->rules[i], true, turn);
	}
	entity->refused = false;
	entity->next_ms = turn->now_ms + backoff_next_ms(&entity->silence);
}

/* From the beginning: at start, or when another session takes over. */
static void entity_begin(struct entities *t, struct entity *entity, struct turn *turn)
{
	entities_forget(t, entity, turn);
	entity->told = false;
	entity->silence.times = entity->refusals.times = 0;
	entity->next_ms = turn->now_ms;
}

/* Clients of accounts ---------------------------------------------------- */

struct worker *entities_client(
	const struct entities *t, size_t account, enum balance_tier tier, const struct request *r)
{
	for (size_t i = 0; i < balance_count(t->balance, tier); i++) {
		struct worker *w = balance_at(t->balance, tier, i);

		if (w->group == account && !(r && requests_tried(r, w)))
			return w;
	}
	return NULL;
}

/* The client that manages stays until it has left or shows no life while another is well. */
static void manager_update(struct entities *t, struct entity *entity, int64_t now_ms)
{
	struct worker *now = entity->manager, *next = NULL;
	bool there = now && now->state == WORKER_THERE && now->group == entity->account;

	if (there && !now->suspect)
		return;
	next = entities_client(t, entity->account, TIER_WELL, NULL);
	if (!next && there)
		return;
	if (!next)
		next = entities_client(t, entity->account, TIER_THERE, NULL);
	if (now)
		worker_release(t->balance, now);
	entity->manager = next;
	if (!next)
		return;
	worker_hold(next);
	if (there)
		err_note("'%.*s' manages now: '%.*s' shows no life", SPAN_ARG(next->name),
			SPAN_ARG(now->name));
	entity_begin(t, entity, &(struct turn){.now_ms = now_ms});
}

static void managers_update(struct entities *t, int64_t now_ms)
{
	for (size_t i = 0; i < t->count; i++)
		if (t->list[i].account != NOT_AN_ACCOUNT)
			manager_update(t, &t->list[i], now_ms);
}

static void suspects_changed(void *context, struct worker *suspect, int64_t now_ms)
{
	struct entities *t = context;

	managers_update(t, now_ms);
	if (suspect) {
		t->config.doubted(t->config.context, suspect, now_ms);
		return;
	}
	for (size_t i = 0; i < balance_count(t->balance, TIER_THERE); i++) {
		struct worker *w = balance_at(t->balance, TIER_THERE, i);

		if (w->suspect)
			t->config.doubted(t->config.context, w, now_ms);
	}
}

static enum writer_status ping(void *context, const struct worker *w, struct turn *turn)
{
	struct entities *t = context;

	writer_start(turn->writer, "iq", "get", span_of(w->ping_id), w->name, t->config.domain);
	writer_raw(turn->writer, "><ping xmlns='urn:xmpp:ping'/></iq>");
	return writer_end(turn->writer);
}

static void session_arrived(void *context, struct session *s, struct turn *turn)
{
	struct entities *t = context;

	s->owner = worker_add(t->balance, s->jid, s->target, turn->now_ms);
	((struct worker *)s->owner)->owner = s;
}

static void session_left(void *context, struct session *s, bool link_down, struct turn *turn)
{
	struct entities *t = context;
	struct worker *w = s->owner;

	if (!w)
		return;
	s->owner = NULL;
	if (!link_down)
		t->config.left(t->config.context, w, turn->now_ms);
	worker_leave(t->balance, w, link_down ? WORKER_LOST : WORKER_LEFT);
}

static void session_alive(void *context, struct session *s, struct turn *turn)
{
	struct entities *t = context;

	if (s->owner)
		worker_alive(t->balance, s->owner, turn->now_ms);
}

static void sessions_changed(void *context, struct turn *turn)
{
	managers_update(context, turn->now_ms);
}

void entities_doubt(struct entities *t, struct worker *client, struct turn *turn)
{
	worker_suspect(t->balance, client, turn->now_ms);
	if (client->owner)
		session_doubt(t->sessions, client->owner, turn);
}

/* disco#info ------------------------------------------------------------- */

/* A feature of our own under a delegated namespace is the entity's to announce (7.2.1). */
static bool is_delegated_feature(const struct entities *t, struct span feature)
{
	for (size_t i = 0; i < t->rules_count; i++)
		if (span_starts(feature, t->rules[i].ns))
			return true;
	return false;
}

static void merge_one(struct entities *t, bool bare)
{
	const struct disco_info *own = t->config.own;
	struct disco_info *info = bare ? &t->bare : &t->host;

	disco_reset(info);
	buf_append_span(&info->identities, buf_span(&own->identities));
	buf_append_span(&info->forms, buf_span(&own->forms));
	for (size_t i = 0; i < own->features_count; i++)
		if (!is_delegated_feature(t, span_of(own->features[i])))
			disco_add_feature(info, span_of(own->features[i]));
	disco_add_feature(info, SPAN(NS_DISCO_INFO));
	disco_add_feature(info, span_of(delegation_ns(t->config.version)));
	for (size_t i = 0; i < t->rules_count; i++)
		disco_add_all(info, bare ? &t->rules[i].bare : &t->rules[i].host);
}

/* Made whenever something in it changes, not for each question. */
static void merge(struct entities *t)
{
	merge_one(t, false);
	merge_one(t, true);
}

/* Rules ------------------------------------------------------------------ */

static size_t entity_index(struct entities *t, struct span jid)
{
	struct entity *entity;
	struct jid parts;

	for (size_t i = 0; i < t->count; i++)
		if (span_equal(t->list[i].jid, jid))
			return i;
	t->list = xrealloc(t->list, (t->count + 1) * sizeof(*t->list));
	entity = &t->list[t->count];
	*entity = (struct entity){.jid = span_copy(jid),
		.next_ms = DEADLINE_NEVER,
		.silence = {.first_ms = NESTING_MIN_MS, .max_ms = NESTING_MAX_MS},
		.refusals = {.first_ms = REFUSED_MIN_MS, .max_ms = REFUSED_MAX_MS}};
	entity->client = jid_split(jid, &parts) && parts.local.p;
	entity->account = entity->client && !parts.resource.p ? 0 : NOT_AN_ACCOUNT;
	return t->count++;
}

/* Whether the accounts among the entities are those whose clients are known. */
static bool same_accounts(const struct entities *t)
{
	size_t same = 0, accounts = 0;

	for (size_t i = 0; i < t->count; i++) {
		if (t->list[i].account == NOT_AN_ACCOUNT)
			continue;
		accounts++;
		for (size_t j = 0; j < t->accounts_count; j++)
			same += span_equal(t->accounts[j], t->list[i].jid);
	}
	return same == accounts && accounts == t->accounts_count;
}

static void sessions_free(struct entities *t)
{
	/* the clients may still answer what they have in hand */
	for (size_t i = 0; t->sessions && i < session_count(t->sessions); i++) {
		struct session *session = session_at(t->sessions, i);

		if (session->owner) {
			((struct worker *)session->owner)->owner = NULL;
			worker_leave(t->balance, session->owner, WORKER_LOST);
		}
	}
	session_table_free(t->sessions);
	t->sessions = NULL;
	for (size_t i = 0; i < t->accounts_count; i++)
		free((char *)t->accounts[i].p);
	free(t->accounts);
	t->accounts = NULL;
	t->accounts_count = 0;
}

static void sessions_new(struct entities *t)
{
	t->accounts = xcalloc(t->count + 1, sizeof(*t->accounts));
	for (size_t i = 0; i < t->count; i++)
		if (t->list[i].account != NOT_AN_ACCOUNT)
			t->accounts[t->accounts_count++] = span_copy(t->list[i].jid);
	if (t->accounts_count)
		t->sessions = session_table_new(&(struct session_config){.domain = t->config.domain,
			.targets = t->accounts,
			.targets_count = t->accounts_count,
			.max_sessions = MAX_SESSIONS,
			.confirm_ms = t->config.timeout_ms,
			.arrived = session_arrived,
			.left = session_left,
			.alive = session_alive,
			.changed = sessions_changed,
			.context = t});
}

/* The table of the accounts' clients: the one there is, if it is of the same accounts. True: it is
 * a new one, which has not asked anybody yet. */
static bool sessions_begin(struct entities *t)
{
	bool fresh = !same_accounts(t);

	if (fresh) {
		sessions_free(t);
		sessions_new(t);
	}
	for (size_t i = 0; i < t->count; i++)
		for (size_t j = 0; j < t->accounts_count; j++)
			if (span_equal(t->accounts[j], t->list[i].jid))
				t->list[i].account = (uint32_t)j;
	return fresh && t->sessions;
}

void entities_up(struct entities *t, struct turn *turn)
{
	if (t->sessions)
		session_up(t->sessions, turn);
	for (size_t i = 0; i < t->count; i++)
		if (t->list[i].account == NOT_AN_ACCOUNT) {
			entity_begin(t, &t->list[i], turn);
			entity_tell(t, i, turn);
		}
}

/* Take over what an entity has answered under the old rules, and note whether the rules are new to
 * it. */
static void rules_inherit(
	struct entities *t, struct rule *old, size_t old_count, const struct entity *old_entities)
{
	size_t *kept = xcalloc(t->count + 1, sizeof(*kept));

	for (size_t i = 0; i < t->rules_count; i++) {
		struct rule *rule = &t->rules[i];
		struct entity *entity = &t->list[rule->entity];
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
	for (size_t i = 0; i < t->count; i++) {
		size_t had = 0;

		for (size_t j = 0; j < old_count; j++)
			had += span_equal(old_entities[old[j].entity].jid, t->list[i].jid);
		t->list[i].changed |= had != kept[i];
	}
	free(kept);
}

/* The clients that manage go on managing. */
static void managers_inherit(
	struct entities *t, struct entity *old, size_t old_count, int64_t now_ms)
{
	for (size_t i = 0; i < old_count; i++) {
		struct entity *entity = entity_named(t->list, t->count, old[i].jid);

		if (!old[i].manager)
			continue;
		if (entity)
			entity->manager = old[i].manager;
		else
			worker_release(t->balance, old[i].manager);
	}
	managers_update(t, now_ms);
}

static void rules_copy(struct entities *t, const struct delegate_rule *rules, size_t count)
{
	t->rules = xcalloc(count + 1, sizeof(*t->rules));
	for (size_t i = 0; i < count; i++) {
		struct rule *rule = &t->rules[t->rules_count++];

		rule->ns = span_copy(rules[i].ns);
		rule->attributes = xcalloc(rules[i].attributes_count + 1, sizeof(struct span));
		for (size_t j = 0; j < rules[i].attributes_count; j++)
			rule->attributes[rule->attributes_count++] =
				span_copy(rules[i].attributes[j]);
		rule->entity = entity_index(t, rules[i].entity);
		disco_init(&rule->host);
		disco_init(&rule->bare);
	}
}

/* An entity that stays is told, or not yet, as before. */
static void entities_inherit(struct entities *t, struct entity *old, size_t old_count)
{
	for (size_t i = 0; i < t->count; i++) {
		struct entity *entity = &t->list[i];
		const struct entity *before = entity_named(old, old_count, entity->jid);

		if (!before)
			continue;
		entity->told = before->told;
		entity->next_ms = before->next_ms;
		entity->silence = before->silence;
		entity->refusals = before->refusals;
		entity->refused = before->refused;
	}
}

void entities_rules(
	struct entities *t, const struct delegate_rule *rules, size_t count, struct turn *turn)
{
	struct entity *old = t->list;
	struct rule *old_rules = t->rules;
	size_t old_count = t->count, old_rules_count = t->rules_count;
	bool fresh;

	t->list = NULL;
	t->count = t->rules_count = 0;
	rules_copy(t, rules, count);
	rules_inherit(t, old_rules, old_rules_count, old);
	entities_inherit(t, old, old_count);
	fresh = sessions_begin(t);
	managers_inherit(t, old, old_count, turn->now_ms);
	merge(t);
	rules_free(old_rules, old_rules_count);
	list_free(old, old_count);
	if (!turn->writer)
		return;
	if (fresh)
		session_up(t->sessions, turn);
	for (size_t i = 0; i < t->count; i++)
		if (t->list[i].changed)
			entity_tell(t, i, turn);
}

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

const struct entity *entities_find(
	const struct entities *t, const struct stanza *s, const struct jid *to)
{
	for (size_t i = 0; i < t->rules_count; i++) {
		const struct entity *entity = &t->list[t->rules[i].entity];

		if (rule_applies(&t->rules[i], stanza_payload(s), to->local.p != NULL) &&
			!is_entity(entity, s->from))
			return entity;
	}
	return NULL;
}

/* Answers ---------------------------------------------------------------- */

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

static void on_nesting_result(struct entities *t, const struct query *q,
	const struct delegation_node *node, const struct stanza *s, const struct xml_node *query)
{
	for (size_t i = 0; i < t->rules_count; i++) {
		struct rule *rule = &t->rules[i];
		struct entity *entity = &t->list[rule->entity];

		/* it may have been given to another entity since */
		if (!span_equal(rule->ns, node->ns) ||
			!span_equal(entity_address(entity), q->entity))
			continue;
		take_nesting(rule, node->bare ? &rule->bare : &rule->host, entity, s, query);
		*(node->bare ? &rule->bare_known : &rule->host_known) = true;
		if (entity_answered(t, entity)) {
			entity->told = true;
			entity->next_ms = DEADLINE_NEVER;
			free(entity->said);
			entity->said = NULL;
		}
		merge(t);
	}
}

static void on_nesting_error(struct entities *t, const struct query *q,
	const struct delegation_node *node, const struct stanza *s, struct turn *turn)
{
	struct entity *entity = entities_of(t, q->entity);
	struct span condition =
		s->type == TYPE_ERROR ? stanza_error_condition(s) : SPAN("no answer to disco#info");

	if (!entity)
		return;
	entity_complains(entity, node->ns, condition,
		s->type == TYPE_ERROR ? delegation_refusal(condition, entity->client) : "");
	/* one step for both queries of a round */
	if (!entity->client || delegation_is_absence(condition, true) || entity->refused)
		return;
	entity->refused = true;
	entity->next_ms = turn->now_ms + backoff_next_ms(&entity->refusals);
}

static void on_nesting_answer(
	struct entities *t, struct query *q, const struct stanza *s, struct turn *turn)
{
	const struct xml_node *query = xml_child(s->root, NS_DISCO_INFO, "query");
	struct worker *w = balance_find(t->balance, s->from);
	struct delegation_node node;
	struct span text = xml_attribute(query, "node");

	if (!delegation_node_parse(q->node, &node))
		return;
	if (w && s->type == TYPE_RESULT)
		worker_alive(t->balance, w, turn->now_ms);
	if (s->type == TYPE_RESULT && !s->refusal && query &&
		(!text.p || span_equal(text, q->node)))
		on_nesting_result(t, q, &node, s, query);
	else
		on_nesting_error(t, q, &node, s, turn);
}

bool entities_answer(struct entities *t, const struct stanza *s, struct turn *turn)
{
	struct table_entry *e =
		s->id.n && table_count(t->queries) ? table_find(t->queries, s->id) : NULL;
	struct query *q = e ? table_record(e) : NULL;
	struct worker *w = balance_find(t->balance, s->from);

	if (q && span_equal(q->entity, s->from)) {
		on_nesting_answer(t, q, s, turn);
		query_remove(t, q);
		return true;
	}
	if (!w || !worker_is_pong(w, s->id))
		return false;
	if (requests_bounce_of(s, w) == BOUNCE_NONE)
		worker_alive(t->balance, w, turn->now_ms);
	return true;
}

/* What others ask -------------------------------------------------------- */

struct balance *entities_clients(const struct entities *t)
{
	return t->balance;
}

const struct disco_info *entities_disco(const struct entities *t, bool account)
{
	return account ? &t->bare : &t->host;
}

bool entities_presence(struct entities *t, const struct stanza *s, struct turn *turn)
{
	return t->sessions && session_presence(t->sessions, s, turn);
}

bool entities_has_account(const struct entities *t, struct span jid)
{
	return t->sessions && session_target(t->sessions, jid) >= 0;
}

/* Time ------------------------------------------------------------------- */

void entities_down(struct entities *t, struct turn *turn)
{
	if (t->sessions)
		session_down(t->sessions, turn);
	for (size_t i = 0; i < t->count; i++)
		t->list[i].next_ms = DEADLINE_NEVER;
}

/* Nesting queries that nobody has answered. */
static void queries_tick(struct entities *t, int64_t now_ms)
{
	struct table_entry *e;

	while ((e = table_earliest(t->queries)) && e->deadline_ms <= now_ms) {
		struct query *q = table_record(e);
		struct entity *entity = entities_of(t, q->entity);
		struct delegation_node node;

		if (entity && !entity->told && delegation_node_parse(q->node, &node))
			entity_complains(entity, node.ns, SPAN("no answer"),
				" (if its server is ejabberd 24.10 to 24.12 with mod_privilege: "
				"leave that module out, it drops what components ask)");
		query_remove(t, q);
	}
}

void entities_tell(struct entities *t, struct turn *turn)
{
	for (size_t i = 0; i < t->count; i++)
		if (t->list[i].next_ms <= turn->now_ms)
			entity_tell(t, i, turn);
}

void entities_tick(struct entities *t, struct turn *turn)
{
	balance_tick(t->balance, turn);
	queries_tick(t, turn->now_ms);
	if (t->sessions)
		session_tick(t->sessions, turn);
	entities_tell(t, turn);
}

int64_t entities_deadline(const struct entities *t)
{
	const int64_t all_ms[] = {table_deadline(t->queries), balance_deadline(t->balance),
		t->sessions ? session_deadline(t->sessions) : DEADLINE_NEVER};
	int64_t deadline_ms = deadline_first(all_ms, sizeof(all_ms) / sizeof(all_ms[0]));

	for (size_t i = 0; i < t->count; i++)
		if (t->list[i].next_ms < deadline_ms)
			deadline_ms = t->list[i].next_ms;
	return deadline_ms;
}

/* Life ------------------------------------------------------------------- */

struct entities *entities_new(const struct entities_config *config)
{
	struct entities *t = xcalloc(1, sizeof(*t));

	t->config = *config;
	t->balance = balance_new(&(struct balance_config){.policy = POLICY_ROUND_ROBIN,
		.try_timeout_ms = config->try_timeout_ms,
		.noun = "client",
		.random = config->random,
		.ping = ping,
		.changed = suspects_changed,
		.context = t});
	t->queries = table_new(MAX_QUERIES, SIZE_MAX / 2, config->seed);
	disco_init(&t->host);
	disco_init(&t->bare);
	buf_init(&t->node, BUF_NO_MAX);
	return t;
}

void entities_free(struct entities *t)
{
	struct table_entry *e;

	if (!t)
		return;
	while ((e = table_earliest(t->queries)))
		query_remove(t, table_record(e));
	table_free(t->queries);
	for (size_t i = 0; i < t->count; i++)
		if (t->list[i].manager)
			worker_release(t->balance, t->list[i].manager);
	sessions_free(t);
	balance_free(t->balance);
	rules_free(t->rules, t->rules_count);
	list_free(t->list, t->count);
	disco_free(&t->host);
	disco_free(&t->bare);
	buf_free(&t->node);
	free(t);
}
