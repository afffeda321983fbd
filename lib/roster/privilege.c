#include "roster/privilege.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

#include "base/deadline.h"
#include "base/err.h"
#include "xmpp/jid.h"
#include "loop/loop.h"
#include "base/table.h"
#include "xmpp/stanza-error.h"

#define NS_PRIVILEGE_1 "urn:xmpp:privilege:1"
#define NS_PRIVILEGE_2 "urn:xmpp:privilege:2"

#define LOGIN_QUIET_MS 10000

enum query_kind { QUERY_ROSTER, QUERY_CHANGE, QUERY_PEER, QUERY_SYNC };

/* An iq of ours that waits for its answer: key = its id. */
struct query {
	enum query_kind kind;
	struct apply_job *job;
	struct apply_change *change; /* QUERY_CHANGE, QUERY_PEER */
	char *to;		     /* the address that it was sent to, which must answer */
};

/* The backend's state of a job. */
struct show {
	size_t next;  /* the change whose contact's roster is to be looked at next */
	size_t peers; /* rosters of contacts that are being read */
	bool sent;    /* presence has been sent */
};

struct privilege {
	struct privilege_config config;
	struct table *queries;
	struct table *online; /* full JIDs of the host's users */
	struct table *quiet;  /* users whose login has just been told */
	bool granted;
	int64_t advertisement_ms; /* by when it must have come */
	bool crowded;		  /* more are online than are remembered: said once */
	uint64_t serial;
	uint64_t run;
};

struct privilege *privilege_new(const struct privilege_config *config)
{
	struct privilege *p = xcalloc(1, sizeof(*p));
	uint64_t seed[2];

	p->config = *config;
	seed[0] = config->random(config->random_context);
	seed[1] = config->random(config->random_context);
	p->run = config->random(config->random_context);
	p->queries = table_new(config->max_pending, SIZE_MAX / 4, seed);
	p->online = table_new(config->max_online, SIZE_MAX / 4, seed);
	p->quiet = table_new(config->max_online, SIZE_MAX / 4, seed);
	p->advertisement_ms = DEADLINE_NEVER;
	return p;
}

static void query_remove(struct privilege *p, struct table_entry *e)
{
	struct query *q = table_record(e);

	free(q->to);
	table_remove(p->queries, e);
}

static void clear(struct privilege *p)
{
	struct table_entry *e;

	while ((e = table_earliest(p->queries)))
		query_remove(p, e);
	while ((e = table_earliest(p->online)))
		table_remove(p->online, e);
}

void privilege_free(struct privilege *p)
{
	if (!p)
		return;
	clear(p);
	table_free(p->queries);
	table_free(p->online);
	table_free(p->quiet);
	free(p);
}

size_t privilege_online(const struct privilege *p)
{
	return table_count(p->online);
}

/* Configuration that is missing ------------------------------------------ */

static void say_grant(const struct privilege *p)
{
	int host = (int)p->config.host.n, domain = (int)p->config.domain.n;
	const char *presence =
		p->config.on_behalf || p->config.logins ? " presence = \"managed_entity\";" : "";

	err_error("'%.*s' has not been granted access to the rosters of '%.*s'", domain,
		p->config.domain.p, host, p->config.host.p);
	err_error("Prosody, VirtualHost \"%.*s\": modules_enabled = { \"privilege\" }; "
		  "privileged_entities = { [\"%.*s\"] = { roster = \"both\";%s } }",
		host, p->config.host.p, domain, p->config.domain.p, presence);
	err_error("Prosody, Component \"%.*s\": modules_enabled = { \"privilege\" }", domain,
		p->config.domain.p);
	err_error(
		"ejabberd 24.10 or newer: mod_privilege: roster: both: rule for '%.*s'; older ones "
		"need --via ejabberd-api",
		domain, p->config.domain.p);
}

void privilege_invalid_from(const struct privilege *p)
{
	int domain = (int)p->config.domain.n;

	err_error("the server does not let '%.*s' send from its users' addresses (--on-behalf)",
		domain, p->config.domain.p);
	err_error("Prosody, Component \"%.*s\": validate_from_addresses = false; "
		  "ejabberd, the listener: check_from: false",
		domain, p->config.domain.p);
}

/* Queries ---------------------------------------------------------------- */

/* A new open query to `to`; its id is *id. NULL: it cannot be made now. */
static struct query *query_new(struct privilege *p, enum query_kind kind, struct apply_job *job,
	struct apply_change *change, struct span to, char id[48], struct turn *turn)
{
	struct table_entry *e;
	struct query *q;

	snprintf(id, 48, "%016" PRIx64 "-%" PRIu64, p->run, ++p->serial);
	e = turn->writer ? table_add(p->queries, span_of(id), sizeof(*q), DEADLINE_NEVER) : NULL;
	if (!e)
		return NULL;
	q = table_record(e);
	*q = (struct query){.kind = kind, .job = job, .change = change, .to = xstrndup(to.p, to.n)};
	return q;
}

static void query_begin(
	struct privilege *p, const char *type, struct span to, const char *id, struct turn *turn)
{
	writer_start(turn->writer, "iq", type, span_of(id), to, p->config.domain);
	writer_raw(turn->writer, "><query xmlns='" NS_ROSTER "'");
}

static void ask_roster(struct privilege *p, enum query_kind kind, struct apply_job *job,
	struct apply_change *change, struct span to, struct turn *turn)
{
	char id[48];

	if (!query_new(p, kind, job, change, to, id, turn)) {
		job->deadline_ms = 0; /* it will tell */
		return;
	}
	query_begin(p, "get", to, id, turn);
	writer_raw(turn->writer, "/></iq>");
	if (writer_end(turn->writer) != WRITER_OK)
		job->deadline_ms = 0;
}

static void on_get(void *context, struct apply_job *job, struct turn *turn)
{
	ask_roster(context, QUERY_ROSTER, job, NULL, buf_span(&job->jid), turn);
}

static void write_item(struct writer *w, const struct roster_item *item)
{
	writer_raw(w, "><item");
	writer_attribute(w, "jid", span_of(item->jid));
	if (item->name)
		writer_attribute(w, "name", span_of(item->name));
	writer_attribute(w, "subscription", span_of(roster_subscription_name(item->subscription)));
	writer_raw(w, item->groups_count ? ">" : "/>");
	for (size_t i = 0; i < item->groups_count; i++) {
		writer_raw(w, "<group>");
		writer_text(w, span_of(item->groups[i]));
		writer_raw(w, "</group>");
	}
	if (item->groups_count)
		writer_raw(w, "</item>");
}

/* One item per set: two in one are answered twice by Prosody, and refused by ejabberd. */
static const char *on_change(
	void *context, struct apply_job *job, struct apply_change *change, struct turn *turn)
{
	struct privilege *p = context;
	struct span to = buf_span(&job->jid);
	enum writer_status status;
	char id[48];

	if (!query_new(p, QUERY_CHANGE, job, change, to, id, turn))
		return "too many requests are open";
	query_begin(p, "set", to, id, turn);
	if (change->new) {
		write_item(turn->writer, change->new);
	} else {
		writer_raw(turn->writer, "><item");
		writer_attribute(turn->writer, "jid", span_of(change->old->jid));
		writer_raw(turn->writer, " subscription='remove'/>");
	}
	writer_raw(turn->writer, "</query></iq>");
	status = writer_end(turn->writer);
	if (status == WRITER_OK)
		return NULL;
	query_remove(p, table_find(p->queries, span_of(id)));
	return status == WRITER_FULL ? "too much waits to be sent" : "larger than may be sent";
}

/* Presence --------------------------------------------------------------- */

static bool sends(const struct roster_item *item) /* the contact sees the user */
{
	return item && (item->subscription == ROSTER_FROM || item->subscription == ROSTER_BOTH);
}

static bool sees(const struct roster_item *item) /* the user sees the contact */
{
	return item && (item->subscription == ROSTER_TO || item->subscription == ROSTER_BOTH);
}

static void send_presence(
	struct show *show, const char *type, struct span from, struct span to, struct turn *turn)
{
	show->sent = true;
	writer_start(turn->writer, "presence", type, SPAN_NONE, to, from);
	writer_raw(turn->writer, "/>");
	writer_end(turn->writer);
}

struct leaving {
	struct privilege *p;
	struct turn *turn;
	struct show *show;
	struct span from, to;
};

static void leave_one(void *context, struct table_entry *e)
{
	struct leaving *l = context;

	if (span_equal(jid_bare(e->key), l->from))
		send_presence(l->show, "unavailable", e->key, l->to, l->turn);
}

/* Each online resource of `from` is gone for `to`. */
static void send_unavailable(
	struct privilege *p, struct show *show, struct span from, struct span to, struct turn *turn)
{
	struct leaving leaving = {.p = p, .turn = turn, .show = show, .from = from, .to = to};

	table_each(p->online, leave_one, &leaving);
}

static struct span contact_of(const struct apply_change *c)
{
	return span_of(c->new ? c->new->jid : c->old->jid);
}

/* Ping as a barrier: once it is answered, the server has processed what we sent before. */
static void ask_sync(struct privilege *p, struct apply_job *job, struct turn *turn)
{
	char id[48];

	if (!query_new(p, QUERY_SYNC, job, NULL, p->config.host, id, turn)) {
		job->deadline_ms = 0;
		return;
	}
	writer_start(turn->writer, "iq", "get", span_of(id), p->config.host, p->config.domain);
	writer_raw(turn->writer, "><ping xmlns='" NS_PING "'/></iq>");
	if (writer_end(turn->writer) != WRITER_OK)
		job->deadline_ms = 0;
}

static bool is_local(const struct privilege *p, struct span contact)
{
	return span_equal(jid_domain(contact), p->config.host);
}

/* Read the next rosters of contacts. After the last one send a ping: a server that refuses our
 * presence ends the stream, so the job is done when the ping is answered. */
static void show_on(struct privilege *p, struct apply_job *job, struct turn *turn)
{
	struct show *show = job->backend;

	while (show->next < job->changes_count && show->peers < PRIVILEGE_PIPELINE) {
		struct apply_change *c = &job->changes[show->next++];

		/* a probe is answered by the contact's roster: it must have the user */
		if (c->done && sees(c->new) && !sees(c->old) && is_local(p, contact_of(c))) {
			show->peers++;
			ask_roster(p, QUERY_PEER, job, c, contact_of(c), turn);
		}
	}
	if (show->peers > 0)
		return;
	if (show->sent)
		ask_sync(p, job, turn);
	else
		apply_shown(p->config.apply, job, turn);
}

/* Send the presence that the changes add or remove, in both directions. */
static void on_show(void *context, struct apply_job *job, struct turn *turn)
{
	struct privilege *p = context;
	struct span user = buf_span(&job->jid);
	struct show *show;

	if (!p->config.on_behalf || !turn->writer) {
		apply_shown(p->config.apply, job, turn);
		return;
	}
	job->backend = show = xcalloc(1, sizeof(*show));
	for (size_t i = 0; i < job->changes_count; i++) {
		struct apply_change *c = &job->changes[i];
		struct span contact = contact_of(c);

		if (!c->done)
			continue;
		/* answered by the user's own roster, which has just been set */
		if (sends(c->new) && !sends(c->old))
			send_presence(show, "probe", contact, user, turn);
		if (sends(c->old) && !sends(c->new))
			send_unavailable(p, show, user, contact, turn);
		if (sees(c->old) && !sees(c->new) && is_local(p, contact))
			send_unavailable(p, show, contact, user, turn);
	}
	show_on(p, job, turn);
}

static bool is_of(void *job, struct table_entry *e)
{
	return ((struct query *)table_record(e))->job == job;
}

/* The job has ended: forget its queries. */
static void on_forget(void *context, struct apply_job *job)
{
	struct privilege *p = context;
	size_t count;
	struct table_entry **list = table_gather(p->queries, is_of, job, &count);

	for (size_t i = 0; i < count; i++)
		query_remove(p, list[i]);
	free(list);
	free(job->backend);
	job->backend = NULL;
}

struct apply_backend privilege_backend(struct privilege *p)
{
	return (struct apply_backend){.get = on_get,
		.change = on_change,
		.show = on_show,
		.forget = on_forget,
		.context = p,
		.pipeline = PRIVILEGE_PIPELINE};
}

/* Answers ---------------------------------------------------------------- */

static bool item_of_node(
	const struct stanza *s, const struct xml_node *node, struct roster_item *item)
{
	struct span name = xml_attribute(node, "name");
	struct span subscription = xml_attribute(node, "subscription");
	struct buf text;
	bool ok;

	*item = (struct roster_item){.subscription = ROSTER_NONE};
	buf_init(&text, BUF_NO_MAX);
	/* An item with a resource fits no record and cannot be set: it stays as it is. */
	ok = jid_normalise(xml_attribute(node, "jid"), &text) &&
	     jid_bare(buf_span(&text)).n == buf_length(&text);
	if (ok) {
		item->jid = xstrdup(buf_string(&text));
		if (name.n)
			item->name = xstrndup(name.p, name.n);
		if (subscription.n)
			roster_subscription_parse(subscription.p, &item->subscription);
		for (const struct xml_node *g = xml_child(node, NS_ROSTER, "group"); g;
			g = xml_next(g, NS_ROSTER, "group")) {
			buf_reset(&text);
			if (xml_node_text(s->text, g, &text) && buf_length(&text))
				roster_item_group(item, buf_span(&text));
		}
		roster_item_groups_sort(item);
	}
	buf_free(&text);
	return ok;
}

/* False if there is none. */
static bool read_roster(const struct stanza *s, struct roster *out)
{
	const struct xml_node *query = xml_child(s->root, NS_ROSTER, "query");

	roster_init(out);
	for (const struct xml_node *n = xml_child(query, NS_ROSTER, "item"); n;
		n = xml_next(n, NS_ROSTER, "item")) {
		struct roster_item item;

		if (item_of_node(s, n, &item))
			roster_add_take(out, &item);
	}
	roster_sort(out);
	return query != NULL;
}

/* "forbidden" or "rejected"; the condition is put into message. NULL for a result. */
static const char *error_of(const struct stanza *s, struct buf *message)
{
	struct span condition = stanza_error_condition(s);

	if (s->refusal) {
		buf_append_string(message, "the server's answer is over a limit");
		return "rejected";
	}
	if (s->type == TYPE_RESULT)
		return NULL;
	if (condition.n)
		buf_append_span(message, condition);
	else
		buf_append_string(message, "an error without its condition");
	return span_is(condition, "forbidden") ? "forbidden" : "rejected";
}

/* The roster of a contact: if it has the user with from or both, a probe makes the user see the
 * contact. */
static void on_peer(struct privilege *p, struct apply_job *job, const struct apply_change *c,
	const struct stanza *s, struct turn *turn)
{
	struct show *show = job->backend;
	struct roster roster;

	if (s->type == TYPE_RESULT && !s->refusal) {
		if (read_roster(s, &roster) && sends(roster_find(&roster, buf_string(&job->jid))))
			send_presence(show, "probe", buf_span(&job->jid), contact_of(c), turn);
		roster_free(&roster);
	}
	show->peers--;
	apply_alive(p->config.apply, job, turn);
	show_on(p, job, turn);
}

static void on_answer(struct privilege *p, const struct stanza *s, struct turn *turn)
{
	struct table_entry *e = s->id.n ? table_find(p->queries, s->id) : NULL;
	struct query q;
	struct roster roster;
	const char *error;
	struct buf message;

	if (!e || !span_is(s->from, ((struct query *)table_record(e))->to))
		return;
	q = *(struct query *)table_record(e);
	query_remove(p, e);
	buf_init(&message, 256);
	error = error_of(s, &message);
	switch (q.kind) {
	case QUERY_ROSTER:
		roster_init(&roster);
		if (!error && !read_roster(s, &roster)) {
			error = "rejected";
			buf_append_string(&message, "the server's answer is no roster");
		}
		apply_got(p->config.apply, q.job, &roster, error, buf_string(&message), turn);
		roster_free(&roster);
		break;
	case QUERY_CHANGE:
		/* what is gone already need not be removed */
		if (error && q.change->kind == CHANGE_REMOVE &&
			span_is(stanza_error_condition(s), "item-not-found"))
			error = NULL;
		apply_changed(p->config.apply, q.job, q.change, error, buf_string(&message), turn);
		break;
	case QUERY_PEER:
		on_peer(p, q.job, q.change, s, turn);
		break;
	case QUERY_SYNC:
		apply_shown(p->config.apply, q.job, turn);
		break;
	}
	buf_free(&message);
}

/* What the server grants ------------------------------------------------- */

static bool has_permission(const struct xml_node *privilege, const char *access, const char *type)
{
	for (const struct xml_node *n = privilege->first_child; n; n = n->next)
		if (span_is(n->name, "perm") && span_is(xml_attribute(n, "access"), access) &&
			(span_is(xml_attribute(n, "type"), type) ||
				(strcmp(access, "roster") == 0 && strcmp(type, "get") == 0 &&
					span_is(xml_attribute(n, "type"), "both")) ||
				(strcmp(access, "presence") == 0 &&
					span_is(xml_attribute(n, "type"), "roster"))))
			return true;
	return false;
}

static void on_advertisement(
	struct privilege *p, const struct xml_node *privilege, struct turn *turn)
{
	bool rosters = !p->config.rosters ||
		       has_permission(privilege, "roster", p->config.read_only ? "get" : "both");
	bool presence = (!p->config.on_behalf && p->config.logins == LOGINS_NONE) ||
			has_permission(privilege, "presence", "managed_entity");

	if (p->granted && !(rosters && presence))
		err_warn("the server has taken back what it granted");
	p->advertisement_ms = DEADLINE_NEVER;
	if (!rosters || !presence) {
		say_grant(p);
		p->config.refused(p->config.context);
		return;
	}
	if (!p->granted) {
		p->granted = true;
		err_info("access to the rosters of '%.*s' is granted", SPAN_ARG(p->config.host));
		if (p->config.rosters && !p->config.on_behalf)
			err_note("without --on-behalf, presence follows at the next status change");
		if (p->config.rosters)
			apply_up(p->config.apply, turn);
	}
}

/* Presence of users ------------------------------------------------------ */

static void tell_login(struct privilege *p, struct span full, struct turn *turn)
{
	struct span bare = jid_bare(full);
	struct table_entry *e;

	while ((e = table_earliest(p->quiet)) && e->deadline_ms <= turn->now_ms)
		table_remove(p->quiet, e);
	if (table_find(p->quiet, bare))
		return;
	table_add(p->quiet, bare, 0, turn->now_ms + LOGIN_QUIET_MS);
	p->config.login(p->config.context, (struct span){bare.p, bare.n - p->config.host.n - 1});
}

static void on_presence(struct privilege *p, const struct stanza *s, struct turn *turn)
{
	struct table_entry *e;
	struct jid jid;

	if (!jid_split(s->from, &jid) || !jid.local.p || !jid.resource.p ||
		!span_equal(jid.domain, p->config.host))
		return;
	e = table_find(p->online, s->from);
	if (s->type == TYPE_UNAVAILABLE || s->type == TYPE_ERROR) {
		if (e)
			table_remove(p->online, e);
	} else if (s->type == TYPE_NONE) {
		if (p->config.logins == LOGINS_ALL || (p->config.logins == LOGINS_NEW && !e))
			tell_login(p, s->from, turn);
		if (!e && !table_add(p->online, s->from, 0, DEADLINE_NEVER) && !p->crowded) {
			p->crowded = true;
			err_warn("more than %zu sessions online: they are not all remembered",
				p->config.max_online);
		}
	}
}

/* Service ---------------------------------------------------------------- */

void privilege_up(struct privilege *p, struct turn *turn)
{
	p->advertisement_ms = turn->now_ms + PRIVILEGE_ADVERTISEMENT_MS;
}

void privilege_down(struct privilege *p)
{
	p->granted = false;
	p->advertisement_ms = DEADLINE_NEVER;
	if (p->config.rosters)
		apply_down(p->config.apply);
	clear(p);
}

void privilege_stanza(struct privilege *p, const struct stanza *s, struct turn *turn)
{
	const struct xml_node *child = s->root->first_child;

	if (stanza_is_answer(s))
		on_answer(p, s, turn);
	else if (s->kind == STANZA_IQ)
		stanza_error_reply(turn->writer, s, ERROR_SERVICE_UNAVAILABLE, NULL);
	else if (s->kind == STANZA_PRESENCE)
		on_presence(p, s, turn);
	else if (s->type != TYPE_ERROR && child && span_is(child->name, "privilege") &&
		 (span_is(child->ns, NS_PRIVILEGE_1) || span_is(child->ns, NS_PRIVILEGE_2)) &&
		 span_equal(s->from, p->config.host))
		on_advertisement(p, child, turn);
}

int64_t privilege_deadline(const struct privilege *p)
{
	return p->advertisement_ms;
}

void privilege_tick(struct privilege *p, struct turn *turn)
{
	if (p->advertisement_ms > turn->now_ms)
		return;
	p->advertisement_ms = DEADLINE_NEVER;
	say_grant(p);
	p->config.refused(p->config.context);
}
