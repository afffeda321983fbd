#include "roster/privilege.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/queue.h>

#include "base/deadline.h"
#include "base/err.h"
#include "base/table.h"
#include "server/grants.h"
#include "xmpp/jid.h"
#include "xmpp/stanza-error.h"

#define NS_VERSION "jabber:iq:version"
#define LOGIN_QUIET_MS 10000
/* How long we wait for the server's name and version before we log the lines to add to its
 * configuration. */
#define VERSION_MS 2000

enum query_kind {
	QUERY_ROSTER,
	QUERY_CHANGE,
	QUERY_PEER,   /* reads the roster of a changed contact */
	QUERY_BEHIND, /* reads the user's roster again: a barrier behind what was sent */
	QUERY_VERSION,
};

/* Record of an iq of ours that waits for its answer; the key is its id. */
struct query {
	enum query_kind kind;
	struct apply_job *job;	     /* NULL: QUERY_VERSION */
	struct apply_change *change; /* QUERY_CHANGE, QUERY_PEER */
	char *to; /* the address it was sent to, from which the answer must come */
};

/* How far the presence of a job has been sent. */
struct show {
	size_t next;  /* index of the next change */
	size_t peers; /* number of contacts' rosters that are being read */
	bool sent;    /* presence has been sent */
};

/* Record of a session that is online; the key is its full JID. */
struct session {
	LIST_ENTRY(session) list;
	struct user *user;
};

/* The key is the bare JID. */
struct user {
	LIST_HEAD(, session) sessions;
};

enum server_kind { SERVER_UNKNOWN, SERVER_PROSODY, SERVER_EJABBERD };

struct privilege {
	struct privilege_config config;
	struct table *queries;
	struct table *online, *users; /* sessions of the host's users, and these */
	struct table *quiet;	      /* users whose login was reported a moment ago */
	struct grants *grants;
	bool granted;
	bool proven;		  /* a roster that we set was read back and is right */
	int64_t advertisement_ms; /* until when the grant is waited for */
	int64_t version_ms;	  /* until when the server's version is waited for */
	unsigned missing;	  /* enum grant, logged then */
	bool crowded;		  /* more are online than we remember; logged once */
	uint64_t serial;
	uint64_t run;
};

struct privilege *privilege_new(const struct privilege_config *config)
{
	struct privilege *p = xcalloc(1, sizeof(*p));
	uint64_t seed[2];

	p->config = *config;
	seed[0] = random_draw(&config->random);
	seed[1] = random_draw(&config->random);
	p->run = random_draw(&config->random);
	p->queries = table_new(config->max_pending, SIZE_MAX / 4, seed);
	p->online = table_new(config->max_online, SIZE_MAX / 4, seed);
	p->users = table_new(config->max_online, SIZE_MAX / 4, seed);
	p->quiet = table_new(config->max_online, SIZE_MAX / 4, seed);
	p->grants = grants_new();
	p->advertisement_ms = p->version_ms = DEADLINE_NEVER;
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
	while ((e = table_earliest(p->users)))
		table_remove(p->users, e);
	grants_clear(p->grants);
}

void privilege_free(struct privilege *p)
{
	if (!p)
		return;
	clear(p);
	table_free(p->queries);
	table_free(p->online);
	table_free(p->users);
	table_free(p->quiet);
	grants_free(p->grants);
	free(p);
}

size_t privilege_online(const struct privilege *p)
{
	return table_count(p->online);
}

/* Configuration that is missing ------------------------------------------ */

static unsigned needed(const struct privilege *p)
{
	unsigned rosters =
		p->config.read_only ? GRANT_ROSTER_GET : GRANT_ROSTER_GET | GRANT_ROSTER_SET;

	return (p->config.rosters ? rosters : 0) |
	       (p->config.on_behalf || p->config.logins ? GRANT_PRESENCE : 0);
}

static void say_prosody(const struct privilege *p, const char *roster, const char *presence)
{
	struct span host = p->config.host, domain = p->config.domain;

	err_error("Prosody, VirtualHost \"%.*s\": modules_enabled = { \"privilege\" }; "
		  "privileged_entities = { [\"%.*s\"] = {%s%s } }",
		SPAN_ARG(host), SPAN_ARG(domain), roster, presence);
	err_error("Prosody, Component \"%.*s\": modules_enabled = { \"privilege\" }",
		SPAN_ARG(domain));
}

static void say_ejabberd(const struct privilege *p, bool roster, bool presence)
{
	struct span domain = p->config.domain;

	if (roster)
		err_error("ejabberd: its privileged access cannot set subscriptions: use --via "
			  "ejabberd-api");
	if (presence)
		err_error("ejabberd: acl: { component: { server: \"%.*s\" } }; access_rules: { "
			  "component: { allow: component } }; modules: { mod_privilege: { "
			  "presence: { managed_entity: component } } }",
			SPAN_ARG(domain));
}

/* Log the lines to add to the configuration of this server; of both servers if it is not known. */
static void say_missing(const struct privilege *p, enum server_kind server)
{
	bool roster = p->missing & (GRANT_ROSTER_GET | GRANT_ROSTER_SET);
	bool presence = p->missing & GRANT_PRESENCE;

	err_error("'%.*s' has not been granted access to the %s%s%s of '%.*s'",
		SPAN_ARG(p->config.domain), roster ? "rosters" : "",
		roster && presence ? " and the " : "", presence ? "presence of the users" : "",
		SPAN_ARG(p->config.host));
	if (server != SERVER_EJABBERD)
		say_prosody(p,
			!roster		      ? ""
			: p->config.read_only ? " roster = \"get\";"
					      : " roster = \"both\";",
			presence ? " presence = \"managed_entity\";" : "");
	if (server != SERVER_PROSODY)
		say_ejabberd(p, roster, presence);
}

void privilege_invalid_from(const struct privilege *p)
{
	err_error("the server does not let '%.*s' send from its users' addresses (--on-behalf)",
		SPAN_ARG(p->config.domain));
	err_error("Prosody, Component \"%.*s\": validate_from_addresses = false; "
		  "ejabberd, the listener: check_from: false",
		SPAN_ARG(p->config.domain));
}

/* Queries ---------------------------------------------------------------- */

static void id_make(struct privilege *p, char id[48])
{
	snprintf(id, 48, "%016" PRIx64 "-%" PRIu64, p->run, ++p->serial);
}

/* Begin a query of this kind: the caller writes the stanza with its id and calls query_end().
 * NULL: there is no link, or too many queries are open. */
static struct query *query_new(struct privilege *p, enum query_kind kind, struct apply_job *job,
	struct span to, char id[48], struct turn *turn)
{
	struct table_entry *e;
	struct query *q;

	id_make(p, id);
	e = turn->writer ? table_add(p->queries, span_of(id), sizeof(*q), DEADLINE_NEVER) : NULL;
	if (!e)
		return NULL;
	q = table_record(e);
	*q = (struct query){.kind = kind, .job = job, .to = xstrndup(to.p, to.n)};
	return q;
}

static enum apply_sent query_end(struct privilege *p, struct query *q, struct turn *turn)
{
	enum writer_status status = writer_end(turn->writer);

	if (status == WRITER_OK)
		return APPLY_SENT;
	query_remove(p, table_entry_of(q));
	return status == WRITER_FULL ? APPLY_LATER : APPLY_NEVER;
}

static void roster_begin(struct privilege *p, const char *type, struct span to, const char *id,
	struct writer *writer)
{
	writer_start(writer, "iq", type, span_of(id), to, p->config.domain);
	writer_raw(writer, "><query xmlns='" NS_ROSTER "'");
}

static enum apply_sent ask_roster(struct privilege *p, enum query_kind kind, struct apply_job *job,
	struct apply_change *change, struct span to, struct turn *turn)
{
	char id[48];
	struct query *q = query_new(p, kind, job, to, id, turn);

	if (!q)
		return APPLY_LATER;
	q->change = change;
	roster_begin(p, "get", to, id, turn->writer);
	writer_raw(turn->writer, "/></iq>");
	return query_end(p, q, turn);
}

static enum apply_sent on_get(void *context, struct apply_job *job, struct turn *turn)
{
	return ask_roster(context, QUERY_ROSTER, job, NULL, buf_span(&job->jid), turn);
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
	writer_raw(w, "</query></iq>");
}

static void write_removal(struct writer *w, const char *jid)
{
	writer_raw(w, "><item");
	writer_attribute(w, "jid", span_of(jid));
	writer_raw(w, " subscription='remove'/></query></iq>");
}

static bool sends(const struct roster_item *item) /* the contact sees the user */
{
	return item && (item->subscription == ROSTER_FROM || item->subscription == ROSTER_BOTH);
}

static bool sees(const struct roster_item *item) /* the user sees the contact */
{
	return item && (item->subscription == ROSTER_TO || item->subscription == ROSTER_BOTH);
}

/* One item per set: two in one are answered twice by Prosody, and refused by ejabberd. */
static enum apply_sent on_change(void *context, struct apply_job *job, struct apply_change *change,
	struct turn *turn, const char **why)
{
	struct privilege *p = context;
	struct span to = buf_span(&job->jid);
	enum apply_sent sent;
	struct query *q;
	char id[48];

	if (!turn->writer)
		return APPLY_LATER;
	/* An open request survives a roster set that does not grant it, but not the removal of
	 * the item. The answer to the removal is not waited for: the set that follows has its
	 * own. */
	if (change->new && change->old && change->old->asking && !sees(change->new)) {
		id_make(p, id);
		roster_begin(p, "set", to, id, turn->writer);
		write_removal(turn->writer, change->old->jid);
		if (writer_end(turn->writer) == WRITER_FULL)
			return APPLY_LATER;
	}
	q = query_new(p, QUERY_CHANGE, job, to, id, turn);
	if (!q)
		return APPLY_LATER;
	q->change = change;
	roster_begin(p, "set", to, id, turn->writer);
	if (change->new)
		write_item(turn->writer, change->new);
	else
		write_removal(turn->writer, change->old->jid);
	sent = query_end(p, q, turn);
	*why = "larger than may be sent";
	return sent;
}

/* Presence --------------------------------------------------------------- */

/* False: the output is full. */
static bool send_presence(
	struct show *show, const char *type, struct span from, struct span to, struct turn *turn)
{
	show->sent = true;
	writer_start(turn->writer, "presence", type, SPAN_NONE, to, from);
	writer_raw(turn->writer, "/>");
	return writer_end(turn->writer) != WRITER_FULL;
}

/* Tell `to` that each online resource of `from` is unavailable. */
static bool send_unavailable(
	struct privilege *p, struct show *show, struct span from, struct span to, struct turn *turn)
{
	struct table_entry *e = table_find(p->users, from);
	struct session *session;

	if (!e)
		return true;
	LIST_FOREACH(session, &((struct user *)table_record(e))->sessions, list)
	if (!send_presence(show, "unavailable", table_entry_key(table_entry_of(session)), to, turn))
		return false;
	return true;
}

/* Set an item of a roster again, unchanged. */
static bool set_again(
	struct privilege *p, struct span to, const struct roster_item *item, struct turn *turn)
{
	char id[48];

	id_make(p, id);
	roster_begin(p, "set", to, id, turn->writer);
	write_item(turn->writer, item);
	return writer_end(turn->writer) != WRITER_FULL;
}

static struct span contact_of(const struct apply_change *c)
{
	return span_of(c->new ? c->new->jid : c->old->jid);
}

static bool is_local(const struct privilege *p, struct span contact)
{
	return span_equal(jid_domain(contact), p->config.host);
}

/* Whether the contact's own roster has to be read. It decides whether a probe may be sent; and a
 * request between the two users is known only to the server of the user that was asked. */
static bool needs_peer(const struct apply_change *c)
{
	return (sees(c->new) && !sees(c->old)) || (c->old && c->old->asking) ||
	       (c->new && (!c->old || c->old->subscription != c->new->subscription));
}

static bool show_change(
	struct privilege *p, struct apply_job *job, struct apply_change *c, struct turn *turn)
{
	struct show *show = job->backend;
	struct span user = buf_span(&job->jid), contact = contact_of(c);
	bool local = is_local(p, contact), ok = true;

	if (!c->done)
		return true;
	/* the user's own roster, which was just set, allows it */
	if (sends(c->new) && !sends(c->old))
		ok = send_presence(show, "probe", contact, user, turn);
	if (ok && sends(c->old) && !sends(c->new))
		ok = send_unavailable(p, show, user, contact, turn);
	if (ok && sees(c->old) && !sees(c->new) && local)
		ok = send_unavailable(p, show, contact, user, turn);
	if (ok && local && needs_peer(c)) {
		ok = ask_roster(p, QUERY_PEER, job, c, contact, turn) == APPLY_SENT;
		show->peers += ok;
	}
	return ok;
}

/* Whether a change was made by whose subscription we can see that the server stores
 * subscriptions. */
static bool proves(const struct apply_job *job)
{
	for (size_t i = 0; i < job->changes_count; i++)
		if (job->changes[i].done && job->changes[i].new &&
			job->changes[i].new->subscription != ROSTER_NONE)
			return true;
	return false;
}

/* Send the presence that follows from the changes, in both directions, and take back requests
 * that they have answered. A server that does not let us send presence ends the stream, so the
 * job is done only when the answer to a last query has come. */
static enum apply_sent show_on(struct privilege *p, struct apply_job *job, struct turn *turn)
{
	struct show *show = job->backend;

	while (p->config.on_behalf && show->next < job->changes_count &&
		show->peers < PRIVILEGE_PIPELINE) {
		if (!show_change(p, job, &job->changes[show->next], turn))
			return APPLY_LATER;
		show->next++;
	}
	if (show->peers > 0)
		return APPLY_SENT;
	if (show->sent || (!p->proven && proves(job)))
		return ask_roster(p, QUERY_BEHIND, job, NULL, buf_span(&job->jid), turn);
	apply_shown(job, turn);
	return APPLY_SENT;
}

static enum apply_sent on_show(void *context, struct apply_job *job, struct turn *turn)
{
	if (!turn->writer)
		return APPLY_LATER;
	if (!job->backend)
		job->backend = xcalloc(1, sizeof(struct show));
	return show_on(context, job, turn);
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
			roster_subscription_parse(subscription, &item->subscription);
		item->asking = span_is(xml_attribute(node, "ask"), "subscribe");
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

/* False if the stanza holds no roster. */
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

/* The error of an answer: "forbidden" or "rejected", with the condition in message. NULL for a
 * result. */
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

/* Take back the request of `from` to `to` with an "unsubscribe". The server then also ends what the
 * item that `to` has for `from` grants, so it is set again. False: the output has no room for both.
 */
static bool unask(struct privilege *p, struct show *show, struct span from, struct span to,
	const struct roster_item *item, struct turn *turn)
{
	size_t length = buf_length(turn->writer->out);

	if (!send_presence(show, "unsubscribe", from, to, turn))
		return false;
	if (sends(item) && !set_again(p, to, item, turn)) {
		if (buf_length(turn->writer->out) > length)
			writer_take_back_to(turn->writer, length);
		return false;
	}
	return true;
}

/* Use the roster of a contact: take back requests that the change has answered, and if the roster
 * has the user with from or both, send a probe that makes the user see the contact. Since the
 * roster was read, the contact's own job may have changed it. False: the output is full; the roster
 * must be read again. */
static bool show_peer(struct privilege *p, struct apply_job *job, const struct apply_change *c,
	const struct roster *peer, struct turn *turn)
{
	struct show *show = job->backend;
	struct span user = buf_span(&job->jid), contact = contact_of(c);
	const struct roster_item *theirs = apply_item_sent(
		job->apply, contact, user, roster_find(peer, buf_string(&job->jid)));
	bool ok = true;

	if (c->old && c->old->asking)
		ok = unask(p, show, user, contact, theirs, turn);
	if (ok && c->new &&theirs && theirs->asking)
		ok = unask(p, show, contact, user, c->new, turn);
	if (ok && sees(c->new) && !sees(c->old) && sends(theirs))
		ok = send_presence(show, "probe", user, contact, turn);
	return ok;
}

static void on_peer(struct privilege *p, struct apply_job *job, const struct apply_change *c,
	const struct stanza *s, struct turn *turn)
{
	struct show *show = job->backend;
	size_t index = (size_t)(c - job->changes);
	struct roster roster;

	show->peers--;
	if (s->type == TYPE_RESULT && !s->refusal) {
		if (read_roster(s, &roster) && !show_peer(p, job, c, &roster, turn) &&
			index < show->next)
			show->next = index;
		roster_free(&roster);
	}
	apply_alive(job, turn);
	if (show_on(p, job, turn) == APPLY_LATER)
		apply_owe(job);
}

/* Whether the roster has what was set; a server that stores each subscription as "none" cannot be
 * used this way. */
static bool sets_stored(const struct apply_job *job, const struct roster *roster)
{
	for (size_t i = 0; i < job->changes_count; i++) {
		const struct apply_change *c = &job->changes[i];
		const struct roster_item *item =
			c->done && c->new ? roster_find(roster, c->new->jid) : NULL;

		if (item && item->subscription != ROSTER_NONE)
			return true;
	}
	return false;
}

static void on_behind(
	struct privilege *p, struct apply_job *job, const struct stanza *s, struct turn *turn)
{
	struct roster roster;

	if (!p->proven && proves(job) && s->type == TYPE_RESULT && !s->refusal) {
		p->proven = read_roster(s, &roster) && sets_stored(job, &roster);
		roster_free(&roster);
		if (!p->proven) {
			err_error("the server takes what is set in rosters, but makes every "
				  "subscription 'none' (ejabberd 24.12 does): use --via "
				  "ejabberd-api");
			p->config.refused(p->config.context);
			return;
		}
	}
	apply_shown(job, turn);
}

static void refuse(struct privilege *p, enum server_kind server)
{
	p->version_ms = DEADLINE_NEVER;
	say_missing(p, server);
	p->config.refused(p->config.context);
}

/* jabber:iq:version (XEP-0092) of the host. */
static void on_version(struct privilege *p, const struct stanza *s)
{
	const struct xml_node *query = xml_child(s->root, NS_VERSION, "query");
	const struct xml_node *name = query ? xml_child(query, NS_VERSION, "name") : NULL;
	enum server_kind server = SERVER_UNKNOWN;
	struct buf text;

	buf_init(&text, 256);
	if (name && s->type == TYPE_RESULT && xml_node_text(s->text, name, &text)) {
		if (strcasestr(buf_string(&text), "prosody"))
			server = SERVER_PROSODY;
		else if (strcasestr(buf_string(&text), "ejabberd"))
			server = SERVER_EJABBERD;
	}
	buf_free(&text);
	refuse(p, server);
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
		apply_got(q.job, &roster, error, buf_string(&message), turn);
		roster_free(&roster);
		break;
	case QUERY_CHANGE:
		/* what is gone already need not be removed */
		if (error && q.change->kind == CHANGE_REMOVE &&
			span_is(stanza_error_condition(s), "item-not-found"))
			error = NULL;
		apply_changed(q.job, q.change, error, buf_string(&message), turn);
		break;
	case QUERY_PEER:
		on_peer(p, q.job, q.change, s, turn);
		break;
	case QUERY_BEHIND:
		on_behind(p, q.job, s, turn);
		break;
	case QUERY_VERSION:
		on_version(p, s);
		break;
	}
	buf_free(&message);
}

/* What the server grants ------------------------------------------------- */

/* Ask which server it is before the lines to add to its configuration are logged. */
static void ask_version(struct privilege *p, unsigned missing, struct turn *turn)
{
	struct query *q;
	char id[48];

	p->missing = missing;
	p->advertisement_ms = DEADLINE_NEVER;
	p->version_ms = turn->now_ms + VERSION_MS;
	q = query_new(p, QUERY_VERSION, NULL, p->config.host, id, turn);
	if (!q)
		return;
	writer_start(turn->writer, "iq", "get", span_of(id), p->config.host, p->config.domain);
	writer_raw(turn->writer, "><query xmlns='" NS_VERSION "'/></iq>");
	query_end(p, q, turn);
}

static void on_advertisement(struct privilege *p, struct turn *turn)
{
	unsigned missing = needed(p) & ~grants_of(p->grants, p->config.host);

	if (p->granted && missing)
		err_warn("the server has taken back what it granted");
	p->advertisement_ms = DEADLINE_NEVER;
	if (missing) {
		ask_version(p, missing, turn);
		return;
	}
	p->version_ms = DEADLINE_NEVER;
	if (p->granted)
		return;
	p->granted = true;
	err_info("access to the rosters of '%.*s' is granted", SPAN_ARG(p->config.host));
	if (p->config.rosters && !p->config.on_behalf)
		err_note("without --on-behalf, presence follows at the next status change");
	p->config.ready(p->config.context, turn);
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

static void session_add(struct privilege *p, struct span full)
{
	struct table_entry *e = table_add(p->online, full, sizeof(struct session), DEADLINE_NEVER);
	struct table_entry *u = e ? table_find(p->users, jid_bare(full)) : NULL;
	struct session *session;

	if (e && !u)
		u = table_add(p->users, jid_bare(full), sizeof(struct user), DEADLINE_NEVER);
	if (!u) {
		if (!p->crowded)
			err_warn("more than %zu sessions online: they are not all remembered",
				p->config.max_online);
		p->crowded = true;
		if (e)
			table_remove(p->online, e);
		return;
	}
	session = table_record(e);
	session->user = table_record(u);
	LIST_INSERT_HEAD(&session->user->sessions, session, list);
}

static void session_remove(struct privilege *p, struct table_entry *e)
{
	struct session *session = table_record(e);

	LIST_REMOVE(session, list);
	if (LIST_EMPTY(&session->user->sessions))
		table_remove(p->users, table_entry_of(session->user));
	table_remove(p->online, e);
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
			session_remove(p, e);
	} else if (s->type == TYPE_NONE) {
		if (p->config.logins == LOGINS_ALL || (p->config.logins == LOGINS_NEW && !e))
			tell_login(p, s->from, turn);
		if (!e)
			session_add(p, s->from);
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
	p->advertisement_ms = p->version_ms = DEADLINE_NEVER;
	clear(p);
}

void privilege_stanza(struct privilege *p, const struct stanza *s, struct turn *turn)
{
	struct span host;

	if (stanza_is_answer(s))
		on_answer(p, s, turn);
	else if (s->kind == STANZA_IQ)
		stanza_error_reply(turn->writer, s, ERROR_SERVICE_UNAVAILABLE, NULL);
	else if (s->kind == STANZA_PRESENCE)
		on_presence(p, s, turn);
	else if (grants_note(p->grants, s, &host) && span_equal(host, p->config.host))
		on_advertisement(p, turn);
}

int64_t privilege_deadline(const struct privilege *p)
{
	return p->advertisement_ms < p->version_ms ? p->advertisement_ms : p->version_ms;
}

void privilege_tick(struct privilege *p, struct turn *turn)
{
	if (p->version_ms <= turn->now_ms)
		refuse(p, SERVER_UNKNOWN);
	if (p->advertisement_ms <= turn->now_ms)
		ask_version(p, needed(p), turn);
}
