#include "delegation/manage.h"

#include <stdio.h>
#include <stdlib.h>

#include "base/deadline.h"
#include "delegation/delegation.h"
#include "base/err.h"
#include "xmpp/jid.h"
#include "loop/loop.h"
#include "xmpp/reader.h"
#include "xmpp/reply.h"
#include "xmpp/stanza-error.h"

/* How long after the connection an advertisement may take before its absence is mentioned. */
#define ADVERTISEMENT_MS 10000

/* One delegated request at the handler, or one of the handler's own on its way. All spans are in
 * text. */
struct request {
	struct span outer_from, outer_to,
		outer_id;	  /* own: from = the address that the handler asked */
	struct span from, to, id; /* the inner iq's; own: id = the handler's */
	struct span own_id;	  /* our id, at the handler or at the server */
	int version;		  /* 0: the handler's own request */
	char *text;
};

enum counter {
	COUNT_REQUESTS,
	COUNT_ANSWERS,
	COUNT_HANDLER_REQUESTS,
	COUNT_UNLISTED,
	COUNT_FORBIDDEN,
	COUNT_BAD_ENVELOPE,
	COUNT_BAD_REPLY,
	COUNT_DIED,
	COUNT_TIMEOUT,
	COUNT_BUSY,
	COUNT_TOO_LARGE,
	COUNT_STOPPED,
	COUNT_STRAY,
	COUNT_IGNORED,
	COUNT_QUEUE_FULL,
	COUNTERS,
};

static const struct metric_name counter_names[COUNTERS] = {
	[COUNT_REQUESTS] = {"requests", NULL, "delegated requests given to the handler"},
	[COUNT_ANSWERS] = {"answers", NULL, "answers of the handler delivered"},
	[COUNT_HANDLER_REQUESTS] = {"handler_requests", NULL, "requests of the handler sent"},
	[COUNT_UNLISTED] = {"errors", "reason=\"unlisted\"", "requests answered with an error"},
	[COUNT_FORBIDDEN] = {"errors", "reason=\"forbidden\"", "requests answered with an error"},
	[COUNT_BAD_ENVELOPE] = {"errors", "reason=\"bad-envelope\"",
		"requests answered with an error"},
	[COUNT_BAD_REPLY] = {"errors", "reason=\"bad-reply\"", "requests answered with an error"},
	[COUNT_DIED] = {"errors", "reason=\"handler-died\"", "requests answered with an error"},
	[COUNT_TIMEOUT] = {"errors", "reason=\"timeout\"", "requests answered with an error"},
	[COUNT_BUSY] = {"errors", "reason=\"busy\"", "requests answered with an error"},
	[COUNT_TOO_LARGE] = {"errors", "reason=\"too-large\"", "requests answered with an error"},
	[COUNT_STOPPED] = {"errors", "reason=\"stopped\"", "requests answered with an error"},
	[COUNT_STRAY] = {"dropped", "reason=\"stray\"", "stanzas dropped"},
	[COUNT_IGNORED] = {"dropped", "reason=\"ignored\"", "stanzas dropped"},
	[COUNT_QUEUE_FULL] = {"dropped", "reason=\"queue-full\"", "stanzas dropped"},
};

struct manage {
	struct manage_config config;
	struct table *requests;
	uint64_t serial;
	char run[17]; /* makes the serials of this run unlike those of another */
	bool draining, advertised;
	int64_t warn_ms;
	uint64_t counters[COUNTERS];
	struct err_limits junk; /* of the handler, that answers nothing */
	struct disco_info own;
};

struct manage *manage_new(const struct manage_config *config)
{
	struct manage *m = xcalloc(1, sizeof(*m));
	uint64_t seed[2];

	m->config = *config;
	seed[0] = config->random(config->random_context);
	seed[1] = config->random(config->random_context);
	m->requests = table_new(config->max_pending, config->max_pending_bytes, seed);
	snprintf(m->run, sizeof(m->run), "%016llx",
		(unsigned long long)config->random(config->random_context));
	m->warn_ms = DEADLINE_NEVER;
	disco_init(&m->own);
	disco_add_identity(&m->own, SPAN("component/generic/xmpp-manage"));
	disco_add_feature(&m->own, SPAN(NS_DISCO_INFO));
	return m;
}

static void request_remove(struct manage *m, struct request *r)
{
	free(r->text);
	table_remove(m->requests, table_entry_of(r));
}

void manage_free(struct manage *m)
{
	struct table_entry *e;

	if (!m)
		return;
	while ((e = table_earliest(m->requests)))
		request_remove(m, table_record(e));
	table_free(m->requests);
	disco_free(&m->own);
	free(m);
}

static size_t manage_open_requests(const void *self)
{
	const struct manage *m = self;

	return table_count(m->requests);
}

static size_t manage_metrics(const void *self, struct metric *out, size_t max)
{
	const struct manage *m = self;
	const struct metric pending = {"pending_requests", NULL,
		"requests waiting for their answer", METRIC_GAUGE, table_count(m->requests)};
	size_t n = metrics_add(out, 0, max, &pending, 1);

	return metrics_add_counters(out, n, max, counter_names, m->counters, COUNTERS);
}

/* Requests --------------------------------------------------------------- */

/* Keep what the answer needs under an id of ours. NULL when a bound is reached. */
static struct request *request_add(struct manage *m, const struct stanza *outer,
	const struct stanza *inner, int version, int64_t deadline_ms)
{
	char id[48];
	const struct span own = {id, (size_t)snprintf(id, sizeof(id), "%s-%llu", m->run,
					     (unsigned long long)++m->serial)};
	const struct span parts[] = {
		outer->from, outer->to, outer->id, inner->from, inner->to, inner->id, own};
	struct table_entry *e = table_add(m->requests, own, sizeof(struct request), deadline_ms);
	struct request *r;
	size_t n = 0;

	if (!e)
		return NULL;
	r = table_record(e);
	for (size_t i = 0; i < 7; i++)
		n += parts[i].n;
	if (!table_charge(m->requests, e, n)) {
		table_remove(m->requests, e);
		return NULL;
	}
	struct span *const places[] = {
		&r->outer_from, &r->outer_to, &r->outer_id, &r->from, &r->to, &r->id, &r->own_id};

	r->text = xmalloc(n + 1);
	span_pack(r->text, parts, places, 7);
	r->version = version;
	return r;
}

/* The sender of the answer to an inner iq: the address it was sent to, or without one the
 * requester's own account (XEP-0355 4.2, RFC 6120 10.3.3). */
static struct span answerer(struct span to, struct span from)
{
	return to.p ? to : jid_bare(from);
}

/* The envelope of an inner error. */
static enum writer_status send_error(struct manage *m, struct turn *turn, int version,
	struct span outer_to, struct span outer_from, struct span outer_id,
	const struct stanza *inner, enum stanza_error e)
{
	enum writer_status status;

	delegation_begin(turn->writer, version, "result", outer_to, outer_from, outer_id);
	writer_raw(turn->writer, "<iq xmlns='" NS_CLIENT "' type='error'");
	writer_attribute(turn->writer, "id", inner->id);
	writer_attribute(turn->writer, "to", inner->from);
	writer_attribute(turn->writer, "from", answerer(inner->to, inner->from));
	writer_raw(turn->writer, ">");
	stanza_error_element(turn->writer, e, NULL);
	writer_raw(turn->writer, "</iq>");
	status = delegation_end(turn->writer);
	if (status != WRITER_OK)
		m->counters[COUNT_QUEUE_FULL]++;
	return status;
}

/* The request's one answer is an error of ours. */
static void answer_error(struct manage *m, struct request *r, enum stanza_error e, enum counter why,
	struct turn *turn)
{
	const struct stanza inner = {.from = r->from, .to = r->to, .id = r->id};

	m->counters[why]++;
	if (r->version)
		send_error(m, turn, r->version, r->outer_from, r->outer_to, r->outer_id, &inner, e);
	request_remove(m, r);
}

/* An error for a request that never got into the table. */
static void refuse(struct manage *m, const struct stanza *outer, const struct stanza *inner,
	int version, enum stanza_error e, enum counter why, struct turn *turn)
{
	m->counters[why]++;
	send_error(m, turn, version, outer->from, outer->to, outer->id, inner, e);
}

static void answer_outer(struct manage *m, const struct stanza *s, enum stanza_error e,
	enum counter why, struct turn *turn)
{
	m->counters[why]++;
	if (stanza_error_reply(turn->writer, s, e, NULL) != WRITER_OK)
		m->counters[COUNT_QUEUE_FULL]++;
}

/* From the server -------------------------------------------------------- */

static bool is_host(const struct manage *m, struct span jid)
{
	for (size_t i = 0; i < m->config.hosts_count; i++)
		if (span_equal(m->config.hosts[i], jid))
			return true;
	return false;
}

/* The host itself, or an account on it. */
static bool on_host(const struct manage *m, struct span jid)
{
	struct jid parts;

	return jid_split(jid, &parts) && !parts.resource.p && is_host(m, parts.domain);
}

static bool is_listed(const struct manage *m, struct span payload_ns)
{
	for (size_t i = 0; i < m->config.namespaces_count; i++)
		if (span_equal(delegation_payload_ns(m->config.namespaces[i].ns), payload_ns))
			return true;
	return false;
}

/* A request of the host's user in its envelope. */
static void on_envelope(struct manage *m, const struct stanza *s, struct turn *turn)
{
	struct stanza inner;
	int version;
	const char *wrong = delegation_unwrap(s, &inner, &version);
	const struct xml_node *payload;
	struct helper_request request;
	struct request *r;

	if (!wrong && (!stanza_is_request(&inner) || !inner.from.n || !inner.id.n))
		wrong = "the forwarded iq is no request";
	if (wrong) {
		err_warn("bad envelope of '%.*s': %s", SPAN_ARG(s->from), wrong);
		answer_outer(m, s, ERROR_BAD_REQUEST, COUNT_BAD_ENVELOPE, turn);
		return;
	}
	payload = stanza_payload(&inner);
	/* ejabberd hands back our own requests: answering them would ask ourselves */
	if (!stanza_iq_valid(&inner) || !payload) {
		refuse(m, s, &inner, version, ERROR_BAD_REQUEST, COUNT_BAD_ENVELOPE, turn);
		return;
	}
	if (jid_at_domain(inner.from, m->config.domain) || !is_listed(m, payload->ns) ||
		(inner.to.p && !is_host(m, jid_domain(inner.to)))) {
		refuse(m, s, &inner, version, ERROR_SERVICE_UNAVAILABLE, COUNT_UNLISTED, turn);
		return;
	}
	if (m->draining) {
		refuse(m, s, &inner, version, ERROR_RECIPIENT_UNAVAILABLE, COUNT_STOPPED, turn);
		return;
	}
	r = request_add(m, s, &inner, version, turn->now_ms + m->config.timeout_ms);
	if (!r) {
		refuse(m, s, &inner, version, ERROR_RESOURCE_CONSTRAINT, COUNT_BUSY, turn);
		return;
	}
	request = (struct helper_request){.stanza = &inner,
		.host = s->from,
		.ns = payload->ns,
		.id = r->own_id,
		.deadline_ms = turn->now_ms + m->config.timeout_ms};
	m->counters[COUNT_REQUESTS]++;
	if (!m->config.hand(m->config.helper, &request))
		answer_error(m, r, ERROR_SERVICE_UNAVAILABLE, COUNT_BUSY, turn);
}

/* disco#info: nesting queries of a host, and questions about ourselves. */
static void on_disco(struct manage *m, const struct stanza *s, struct turn *turn)
{
	struct span node = xml_attribute(stanza_payload(s), "node");
	const struct disco_info *info = node.p ? NULL : &m->own;
	struct delegation_node nesting;

	if (node.p && delegation_node_parse(node, &nesting)) {
		if (!is_host(m, s->from)) {
			answer_outer(m, s, ERROR_FORBIDDEN, COUNT_FORBIDDEN, turn);
			return;
		}
		for (size_t i = 0; i < m->config.namespaces_count; i++)
			if (span_equal(m->config.namespaces[i].ns, nesting.ns))
				info = nesting.bare ? &m->config.namespaces[i].bare
						    : &m->config.namespaces[i].host;
	}
	if (!info) {
		answer_outer(m, s, ERROR_ITEM_NOT_FOUND, COUNT_UNLISTED, turn);
		return;
	}
	if (disco_answer(info, s, node, turn->writer) != WRITER_OK)
		answer_outer(m, s, ERROR_POLICY_VIOLATION, COUNT_TOO_LARGE, turn);
}

/* Tell the handler that its own request has failed. */
static void tell_error(struct manage *m, struct span from, struct span id, enum stanza_error e)
{
	struct reader_config config = {.kind = READER_PIPE};
	struct reader *reader = reader_new(&config);
	struct stanza s;

	if (stanza_error_made(reader, m->config.domain, from, id, e, NULL, &s))
		m->config.tell(m->config.helper, &s, SPAN_NONE);
	reader_free(reader);
}

/* The answer to a request of the handler. It counts once, with our id, from the address that was
 * asked. */
static bool on_answer(struct manage *m, const struct stanza *s)
{
	struct table_entry *e = s->id.n ? table_find(m->requests, s->id) : NULL;
	struct request *r = e ? table_record(e) : NULL;

	if (!r || r->version || !span_equal(r->outer_from, s->from))
		return false;
	if (s->refusal || !m->config.tell(m->config.helper, s, r->id))
		tell_error(m, r->outer_from, r->id, ERROR_POLICY_VIOLATION);
	request_remove(m, r);
	return true;
}

/* A message that tells what is delegated (XEP-0355 4.2). */
static void on_advertisement(
	struct manage *m, const struct stanza *s, const struct xml_node *delegation)
{
	if (!is_host(m, s->from)) {
		m->counters[COUNT_IGNORED]++;
		return;
	}
	m->advertised = true;
	for (const struct xml_node *n = delegation->first_child; n; n = n->next) {
		struct span ns = xml_attribute(n, "namespace");
		bool listed = false;

		for (size_t i = 0; i < m->config.namespaces_count; i++)
			listed |= span_equal(m->config.namespaces[i].ns, ns);
		err_note("'%.*s' delegates '%.*s'%s", SPAN_ARG(s->from), SPAN_ARG(ns),
			listed ? "" : ", which is not served here");
	}
}

static bool is_delegation(const struct stanza *s)
{
	const struct xml_node *n = s->root->first_child;

	return n && span_is(n->name, "delegation") && delegation_version(n->ns);
}

static void on_iq(struct manage *m, const struct stanza *s, struct turn *turn)
{
	const struct xml_node *payload = s->root->first_child;

	if (stanza_is_answer(s)) {
		if (!on_answer(m, s))
			m->counters[COUNT_STRAY]++;
	} else if (s->refusal) {
		answer_outer(m, s, ERROR_POLICY_VIOLATION, COUNT_TOO_LARGE, turn);
	} else if (!stanza_iq_valid(s)) {
		answer_outer(m, s, ERROR_BAD_REQUEST, COUNT_BAD_ENVELOPE, turn);
	} else if (is_delegation(s) && !is_host(m, s->from)) {
		answer_outer(m, s, ERROR_FORBIDDEN, COUNT_FORBIDDEN, turn);
	} else if (is_delegation(s)) {
		on_envelope(m, s, turn);
	} else if (s->type == TYPE_GET && xml_is(payload, NS_DISCO_INFO, "query") &&
		   (!s->to.p || span_equal(s->to, m->config.domain))) {
		on_disco(m, s, turn);
	} else {
		answer_outer(m, s, ERROR_SERVICE_UNAVAILABLE, COUNT_UNLISTED, turn);
	}
}

static void manage_stanza(void *self, const struct stanza *s, struct turn *turn)
{
	struct manage *m = self;

	if (m->config.passthrough && !jid_at_domain(s->to, m->config.domain)) {
		if (s->refusal || writer_stanza(turn->writer, s, &STANZA_KEEP) != WRITER_OK)
			m->counters[COUNT_IGNORED]++;
	} else if (!s->from.n) {
		m->counters[COUNT_IGNORED]++;
	} else if (s->kind == STANZA_IQ) {
		on_iq(m, s, turn);
	} else if (s->kind == STANZA_MESSAGE && s->type != TYPE_ERROR && is_delegation(s)) {
		on_advertisement(m, s, s->root->first_child);
	} else {
		m->counters[COUNT_IGNORED]++;
	}
}

/* From the handler ------------------------------------------------------- */

/* A reply to r that the handler gave. */
static void on_reply(struct manage *m, struct request *r, const struct stanza *s, struct turn *turn)
{
	const char *wrong = reply_wrong(s, answerer(r->to, r->from), r->from, false);
	struct stanza_edit edit = {.to = r->from, .from = answerer(r->to, r->from), .id = r->id};
	enum writer_status status;

	if (wrong) {
		err_warn("the handler's reply to a request of '%.*s' is wrong: %s",
			SPAN_ARG(r->from), wrong);
		answer_error(m, r, ERROR_INTERNAL_SERVER_ERROR, COUNT_BAD_REPLY, turn);
		return;
	}
	delegation_begin(
		turn->writer, r->version, "result", r->outer_from, r->outer_to, r->outer_id);
	writer_copy(turn->writer, s, &edit, NS_CLIENT);
	status = delegation_end(turn->writer);
	if (status != WRITER_OK) {
		answer_error(m, r,
			status == WRITER_TOO_LARGE ? ERROR_POLICY_VIOLATION
						   : ERROR_RESOURCE_CONSTRAINT,
			COUNT_TOO_LARGE, turn);
		return;
	}
	m->counters[COUNT_ANSWERS]++;
	request_remove(m, r);
}

/* A request of the handler's own (--handler-requests). */
static void on_handler_request(struct manage *m, const struct stanza *s, struct turn *turn)
{
	struct stanza outer = {.from = s->to};
	struct stanza_edit edit = {.from = m->config.domain};
	struct request *r;

	if (!m->config.handler_requests || s->refusal || !stanza_iq_valid(s) ||
		!on_host(m, s->to)) {
		err_warn("a request of the handler to '%.*s' is not sent", SPAN_ARG(s->to));
		if (s->id.n)
			tell_error(m, s->to, s->id, ERROR_NOT_ALLOWED);
		m->counters[COUNT_BAD_REPLY]++;
		return;
	}
	r = turn->writer ? request_add(m, &outer, s, 0, turn->now_ms + m->config.timeout_ms) : NULL;
	if (r) {
		edit.id = r->own_id;
		if (writer_stanza(turn->writer, s, &edit) == WRITER_OK) {
			m->counters[COUNT_HANDLER_REQUESTS]++;
			return;
		}
		request_remove(m, r);
	}
	tell_error(m, s->to, s->id, ERROR_RESOURCE_CONSTRAINT);
}

static void handler_stanza(void *self, const struct stanza *s, struct turn *turn)
{
	struct manage *m = self;
	struct table_entry *e = s->id.n ? table_find(m->requests, s->id) : NULL;
	struct request *r = e ? table_record(e) : NULL;

	if (stanza_is_request(s)) {
		on_handler_request(m, s, turn);
	} else if (r && !turn->writer) {
		/* output of a handler that has ended while the server is away: see handler_died()
		 */
		m->counters[COUNT_STRAY]++;
	} else if (!r || !r->version || s->kind != STANZA_IQ) {
		err_log_limited(err_limit_of(&m->junk, turn->now_ms, "", s->id.p, s->id.n),
			turn->now_ms, ERR_WARNING,
			"the handler wrote what answers no open request (id '%.*s')",
			SPAN_ARG(s->id));
		m->counters[COUNT_STRAY]++;
	} else {
		on_reply(m, r, s, turn);
	}
}

static bool handler_bad(void *self, struct span id, struct turn *turn)
{
	struct manage *m = self;
	struct table_entry *e = id.n ? table_find(m->requests, id) : NULL;
	struct request *r = e ? table_record(e) : NULL;

	if (!(r && r->version && turn->writer)) {
		m->counters[COUNT_STRAY]++;
		return false;
	}
	answer_error(m, r, ERROR_INTERNAL_SERVER_ERROR, COUNT_BAD_REPLY, turn);
	return true;
}

static void job_reply(void *self, struct span id, const struct stanza *reply, struct turn *turn)
{
	struct manage *m = self;
	struct table_entry *e = table_find(m->requests, id);
	struct request *r = e ? table_record(e) : NULL;
	const char *wrong = NULL;

	if (!r)
		return;
	if (!turn->writer) { /* the server is away: its deadline will answer it */
		table_deadline_set(m->requests, e, 0);
		return;
	}
	/* it knows the original id; absent ones are filled in */
	if (reply && reply->id.p && !span_equal(reply->id, r->id))
		wrong = "another id";
	if (!reply || wrong) {
		if (wrong)
			err_warn("the handler's reply to a request of '%.*s' is wrong: %s",
				SPAN_ARG(r->from), wrong);
		answer_error(m, r, ERROR_INTERNAL_SERVER_ERROR, COUNT_BAD_REPLY, turn);
		return;
	}
	on_reply(m, r, reply, turn);
}

static void fail_all(struct manage *m, enum stanza_error error, enum counter why, struct turn *turn)
{
	struct table_entry *e;

	while ((e = table_earliest(m->requests))) {
		struct request *r = table_record(e);

		if (r->version)
			m->config.over(m->config.helper, r->own_id);
		answer_error(m, r, error, why, turn);
	}
}

static void handler_died(void *self, struct turn *turn)
{
	struct manage *m = self;
	struct table_entry **all;
	size_t count;

	if (turn->writer) {
		fail_all(m, ERROR_INTERNAL_SERVER_ERROR, COUNT_DIED, turn);
		return;
	}
	/* the server is away: they are answered as soon as it is back */
	all = table_gather(m->requests, NULL, NULL, &count);
	for (size_t i = 0; i < count; i++)
		table_deadline_set(m->requests, all[i], 0);
	free(all);
}

/* Time ------------------------------------------------------------------- */

static void manage_up(void *self, struct turn *turn)
{
	struct manage *m = self;

	(void)turn;
	if (!m->advertised && m->warn_ms == DEADLINE_NEVER && !m->config.passthrough)
		m->warn_ms = turn->now_ms + ADVERTISEMENT_MS;
}

static int64_t manage_deadline(const void *self)
{
	const struct manage *m = self;
	int64_t deadline_ms = table_deadline(m->requests);

	return m->warn_ms < deadline_ms ? m->warn_ms : deadline_ms;
}

static void manage_tick(void *self, struct turn *turn)
{
	struct manage *m = self;
	struct table_entry *e;

	while ((e = table_earliest(m->requests)) && e->deadline_ms <= turn->now_ms) {
		struct request *r = table_record(e);

		if (r->version)
			m->config.over(m->config.helper, r->own_id);
		if (!r->version)
			tell_error(m, r->outer_from, r->id, ERROR_REMOTE_SERVER_TIMEOUT);
		answer_error(m, r, ERROR_REMOTE_SERVER_TIMEOUT, COUNT_TIMEOUT, turn);
	}
	if (m->warn_ms <= turn->now_ms) {
		if (!m->advertised)
			err_warn("no host has told that it delegates anything to '%.*s'",
				SPAN_ARG(m->config.domain));
		m->warn_ms = INT64_MAX - 1;
	}
}

static void manage_drain(void *self, struct turn *turn)
{
	struct manage *m = self;

	(void)turn;
	m->draining = true;
}

static void manage_finish(void *self, struct turn *turn)
{
	struct manage *m = self;

	m->draining = true;
	fail_all(m, ERROR_RECIPIENT_UNAVAILABLE, COUNT_STOPPED, turn);
}

const struct service_ops manage_ops = {
	.fold = true,
	.up = manage_up,
	.stanza = manage_stanza,
	.tick = manage_tick,
	.deadline = manage_deadline,
	.drain = manage_drain,
	.finish = manage_finish,
	.open_requests = manage_open_requests,
	.metrics = manage_metrics,
	.handler_requests = manage_open_requests,
};

const struct helper_ops manage_helper_ops = {
	.stanza = handler_stanza, .bad = handler_bad, .reply = job_reply, .died = handler_died};
