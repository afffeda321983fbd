#include "delegation/manage.h"

#include <stdlib.h>

#include <nettle/base16.h>

#include "base/deadline.h"
#include "base/err.h"
#include "delegation/announced.h"
#include "delegation/delegation.h"
#include "delegation/outgoing.h"
#include "xmpp/jid.h"
#include "xmpp/reader.h"
#include "xmpp/reply.h"
#include "xmpp/requests.h"
#include "xmpp/stanza-error.h"

/* Longer ids are refused: an error that mirrors one takes six times its bytes. */
#define MAX_ID_BYTES 1023
#define RUN_CHARS BASE16_ENCODE_LENGTH(sizeof(uint64_t))
/* RUN-SERIAL */
#define ID_CHARS (RUN_CHARS + 1 + 20)

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
	[COUNT_UNLISTED] = METRIC_ERROR("unlisted"),
	[COUNT_FORBIDDEN] = METRIC_ERROR("forbidden"),
	[COUNT_BAD_ENVELOPE] = METRIC_ERROR("bad-envelope"),
	[COUNT_BAD_REPLY] = METRIC_ERROR("bad-reply"),
	[COUNT_DIED] = METRIC_ERROR("handler-died"),
	[COUNT_TIMEOUT] = METRIC_ERROR("timeout"),
	[COUNT_BUSY] = METRIC_ERROR("busy"),
	[COUNT_TOO_LARGE] = METRIC_ERROR("too-large"),
	[COUNT_STOPPED] = METRIC_ERROR("stopped"),
	[COUNT_STRAY] = METRIC_DROPPED("stray"),
	[COUNT_IGNORED] = METRIC_DROPPED("ignored"),
	[COUNT_QUEUE_FULL] = METRIC_DROPPED("queue-full"),
};

/* What waits for the answer to an open request. */
enum asker { ASKER_HOST, ASKER_HANDLER };

/* What a request holds beside the inner iq's addresses and id (struct request: user, asked, id).
 * Of a host's: token is the outer id, stanza the outer `to` if it
 * is not our domain. Of the handler's own: asked is whom
 * it asked, id the handler's. */
struct delegated {
	uint32_t host;	 /* index in config.hosts */
	uint8_t asker;	 /* enum asker */
	uint8_t version; /* of the envelope */
	uint8_t why;	 /* enum counter: of an error of ours that was decided before */
};

struct manage {
	struct manage_config config;
	struct requests *requests;
	struct shares *shares;
	struct announced *announced;
	struct outgoing *outgoing; /* NULL: without --handler-messages */
	uint64_t serial;
	char run[RUN_CHARS]; /* makes the serials of this run unlike those of another */
	bool draining;
	struct buf spare; /* a stanza on its way to the debts */
	uint64_t counters[COUNTERS];
	struct err_limits junk;	   /* of the handler, that answers nothing */
	struct err_limits hosts;   /* that are no --host */
	struct err_limit too_late; /* of the handler */
	struct disco_info own;
};

/* Writing ---------------------------------------------------------------- */

/* Writes where a stanza that did not fit waits: see requests_owe(). */
static struct writer *spare_writer(struct manage *m, struct writer *w)
{
	buf_reset(&m->spare);
	writer_init(w, &m->spare, WRITER_SOCKET, 0);
	return w;
}

/* The sender of the answer to an inner iq: the address it was sent to, or without one the
 * requester's own account (XEP-0355 4.2, RFC 6120 10.3.3). */
static struct span answerer(struct span to, struct span from)
{
	return to.p ? to : jid_bare(from);
}

/* The envelope of an inner error, outer being the answer's outer addresses and id. */
static enum writer_status write_inner_error(struct writer *w, int version,
	const struct stanza_edit *outer, const struct stanza_edit *inner, enum stanza_error e)
{
	delegation_begin(w, version, "result", outer->to, outer->from, outer->id);
	writer_raw(w, "<iq xmlns='" NS_CLIENT "' type='error'");
	writer_attribute(w, "id", inner->id);
	writer_attribute(w, "to", inner->to);
	writer_attribute(w, "from", inner->from);
	writer_raw(w, ">");
	stanza_error_element(w, e, NULL);
	writer_raw(w, "</iq>");
	return delegation_end(w);
}

/* An error for a request that never got into the table. */
static void refuse(struct manage *m, const struct stanza *outer, const struct stanza *inner,
	int version, enum stanza_error e, enum counter why, struct turn *turn)
{
	const struct stanza_edit out = {.to = outer->from, .from = outer->to, .id = outer->id};
	struct stanza_edit in = {
		.to = inner->from, .from = answerer(inner->to, inner->from), .id = inner->id};
	struct writer spare;
	enum writer_status status = write_inner_error(turn->writer, version, &out, &in, e);

	m->counters[why]++;
	if (status == WRITER_TOO_LARGE) { /* an id that cannot be mirrored */
		in.id = SPAN_NONE;
		status = write_inner_error(turn->writer, version, &out, &in, e);
	}
	if (status != WRITER_FULL)
		return;
	write_inner_error(spare_writer(m, &spare), version, &out, &in, e);
	requests_owe(m->requests, buf_span(&m->spare));
}

static void answer_outer(struct manage *m, const struct stanza *s, enum stanza_error e,
	enum counter why, struct turn *turn)
{
	m->counters[why]++;
	requests_refuse(m->requests, s, e, turn);
}

/* Requests --------------------------------------------------------------- */

static struct stanza_edit outer_of(
	const struct manage *m, const struct request *r, const struct delegated *d)
{
	return (struct stanza_edit){.to = m->config.hosts[d->host],
		.from = request_stanza(r).p ? request_stanza(r) : m->config.domain,
		.id = request_token(r)};
}

static struct stanza_edit inner_of(const struct request *r)
{
	return (struct stanza_edit){
		.to = request_user(r), .from = request_asked(r), .id = request_id(r)};
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

static enum writer_status error(
	void *context, struct request *r, enum stanza_error e, struct turn *turn)
{
	struct delegated *d = request_extra(r);
	struct stanza_edit outer = outer_of(context, r, d), inner = inner_of(r);

	if (d->asker == ASKER_HOST)
		return write_inner_error(turn->writer, d->version, &outer, &inner, e);
	tell_error(context, request_asked(r), request_id(r), e);
	return WRITER_OK;
}

static enum writer_status answer(
	void *context, struct request *r, const struct stanza *s, struct turn *turn)
{
	struct manage *m = context;
	struct delegated *d = request_extra(r);
	struct stanza_edit outer = outer_of(m, r, d), inner = inner_of(r);

	if (d->asker == ASKER_HANDLER)
		return m->config.tell(m->config.helper, s, request_id(r)) ? WRITER_OK
									  : WRITER_TOO_LARGE;
	if (!turn->writer)
		return WRITER_FULL;
	delegation_begin(turn->writer, d->version, "result", outer.to, outer.from, outer.id);
	reply_copy(turn->writer, s, &inner, NS_CLIENT);
	return delegation_end(turn->writer);
}

static void ending(void *context, struct request *r, enum request_end end, int64_t now_ms)
{
	static const enum counter counters[REQUEST_ENDS] = {[END_ANSWERED] = COUNT_ANSWERS,
		[END_TIMEOUT] = COUNT_TIMEOUT,
		[END_NO_WORKER] = COUNT_BUSY,
		[END_WORKER_LEFT] = COUNT_DIED,
		[END_STOPPED] = COUNT_STOPPED,
		[END_TOO_LARGE] = COUNT_TOO_LARGE,
		[END_NO_ROOM] = COUNT_BUSY};
	struct manage *m = context;
	struct delegated *d = request_extra(r);

	if (d->asker == ASKER_HANDLER) {
		if (end == END_TIMEOUT)
			m->counters[COUNT_TIMEOUT]++;
		return;
	}
	m->counters[d->why != COUNTERS ? d->why : counters[end]]++;
	if (end == END_ANSWERED)
		return;
	m->config.over(m->config.helper, request_key(r));
	if (end == END_TIMEOUT)
		err_log_limited(&m->too_late, now_ms, ERR_WARNING,
			"the handler has not answered a request at '%.*s' in time%s",
			SPAN_ARG(m->config.hosts[d->host]),
			m->config.stays ? "; does it flush its output after each answer?" : "");
}

static struct span next_id(struct manage *m, char id[ID_CHARS])
{
	char *end = id + ID_CHARS, *p = end;
	uint64_t n = ++m->serial;

	do {
		*--p = (char)('0' + n % 10);
		n /= 10;
	} while (n);
	*--p = '-';
	p -= RUN_CHARS;
	memcpy(p, m->run, RUN_CHARS);
	return (struct span){p, (size_t)(end - p)};
}

/* Keep what the answer needs under an id of ours. NULL when a bound is reached. */
static struct request *request_add(
	struct manage *m, enum asker asker, const struct request_texts *texts, struct turn *turn)
{
	char id[ID_CHARS];
	const struct table_key key = requests_key(m->requests, next_id(m, id));
	struct request *r = requests_add(m->requests, &key, texts, turn->now_ms);
	struct delegated *d;

	if (!r)
		return NULL;
	d = request_extra(r);
	*d = (struct delegated){.asker = (uint8_t)asker, .why = COUNTERS};
	return r;
}

/* The open request that is at the handler under this id. */
static struct request *request_at_handler(const struct manage *m, struct span id)
{
	const struct table_key key = requests_key(m->requests, id);
	struct request *r = id.n ? requests_find(m->requests, &key) : NULL;
	struct delegated *d = r ? request_extra(r) : NULL;

	return d && d->asker == ASKER_HOST && !r->owed ? r : NULL;
}

static void request_fail(struct manage *m, struct request *r, enum counter why, enum stanza_error e,
	struct turn *turn)
{
	struct delegated *d = request_extra(r);

	d->why = (uint8_t)why;
	requests_fail(m->requests, r, END_NO_ROOM, e, turn);
}

/* Life ------------------------------------------------------------------- */

static void new_requests(struct manage *m)
{
	const struct manage_config *c = &m->config;
	struct shares_config shares = c->pending;
	const uint64_t seed[2] = {random_draw(&c->random), random_draw(&c->random)};

	shares.own = c->hosts;
	shares.own_count = c->hosts_count;
	memcpy(shares.seed, seed, sizeof(shares.seed));
	m->shares = shares_new(&shares);
	m->requests = requests_new(&(struct requests_config){.max = c->pending.max,
		.max_bytes = c->pending.max_bytes,
		.seed = {seed[0], seed[1]},
		.timeout_ms = c->timeout_ms,
		.extra_bytes = sizeof(struct delegated),
		.shares = m->shares,
		.answer = answer,
		.error = error,
		.ending = ending,
		.context = m});
}

struct manage *manage_new(const struct manage_config *config)
{
	struct manage *m = xcalloc(1, sizeof(*m));
	uint64_t run;

	m->config = *config;
	new_requests(m);
	m->announced = announced_new(&m->config);
	run = random_draw(&config->random);
	if (config->messages)
		m->outgoing = outgoing_new(&(struct outgoing_config){.domain = config->domain,
			.hosts = config->hosts,
			.hosts_count = config->hosts_count,
			.users = config->users_messages});
	base16_encode_update(m->run, sizeof(run), (const uint8_t *)&run);
	buf_init(&m->spare, BUF_NO_MAX);
	disco_init(&m->own);
	disco_add_identity(&m->own, SPAN("component/generic/xmpp-manage"));
	disco_add_feature(&m->own, SPAN(NS_DISCO_INFO));
	return m;
}

void manage_free(struct manage *m)
{
	if (!m)
		return;
	requests_free(m->requests);
	shares_free(m->shares);
	announced_free(m->announced);
	outgoing_free(m->outgoing);
	buf_free(&m->spare);
	disco_free(&m->own);
	free(m);
}

static size_t manage_open_requests(const void *self)
{
	const struct manage *m = self;

	return requests_count(m->requests);
}

static size_t manage_metrics(const void *self, struct metric *out, size_t max)
{
	const struct manage *m = self;
	const struct metric pending = {"pending_requests", NULL,
		"requests waiting for their answer", METRIC_GAUGE, requests_count(m->requests)};
	struct metric messages[] = {
		{"handler_messages", NULL, "messages of the handler sent", METRIC_COUNTER, 0},
		{"handler_messages_refused", NULL, "messages of the handler not sent",
			METRIC_COUNTER, 0}};
	size_t n = metrics_add(out, 0, max, &pending, 1);

	if (m->outgoing) {
		outgoing_counts(m->outgoing, &messages[0].value, &messages[1].value);
		n = metrics_add(out, n, max, messages, 2);
	}
	return metrics_add_counters(out, n, max, counter_names, m->counters, COUNTERS);
}

/* From the server -------------------------------------------------------- */

/* The --host of this name, NULL if there is none. */
static const struct span *host_of(const struct manage *m, struct span jid)
{
	for (size_t i = 0; i < m->config.hosts_count; i++)
		if (span_equal(m->config.hosts[i], jid))
			return &m->config.hosts[i];
	return NULL;
}

/* The host itself, or an account on it. */
static bool on_host(const struct manage *m, struct span jid)
{
	struct jid parts;

	return jid_split(jid, &parts) && !parts.resource.p && host_of(m, parts.domain);
}

/* A server that delegates to us, but is no --host: its administrator must learn of it. Users who
 * only pretend to be one are not worth a line. */
static void complain_of_host(struct manage *m, struct span from, struct turn *turn)
{
	struct jid parts;

	if (!jid_split(from, &parts) || parts.local.p || parts.resource.p ||
		span_equal(from, m->config.domain))
		return;
	err_log_limited(err_limit_of(&m->hosts, turn->now_ms, "", from.p, from.n), turn->now_ms,
		ERR_WARNING,
		"'%.*s' is no --host: what it sends as a delegating host is refused; if it "
		"is one, add --host %.*s",
		SPAN_ARG(from), SPAN_ARG(from));
}

static bool is_listed(const struct manage *m, struct span payload_ns)
{
	for (size_t i = 0; i < m->config.namespaces_count; i++)
		if (span_equal(delegation_payload_ns(m->config.namespaces[i].ns), payload_ns))
			return true;
	return false;
}

/* Give a request to the handler. */
static void take(struct manage *m, const struct stanza *s, const struct stanza *inner, int version,
	struct turn *turn)
{
	const struct request_texts texts = {.user = inner->from,
		.asked = answerer(inner->to, inner->from),
		.id = inner->id,
		.token = s->id,
		.stanza = span_equal(s->to, m->config.domain) ? SPAN_NONE : s->to};
	const struct span *host = host_of(m, s->from);
	struct request *r = request_add(m, ASKER_HOST, &texts, turn);
	struct delegated *d;

	if (!r) {
		refuse(m, s, inner, version, ERROR_RESOURCE_CONSTRAINT, COUNT_BUSY, turn);
		return;
	}
	d = request_extra(r);
	d->version = (uint8_t)version;
	d->host = (uint32_t)(host - m->config.hosts);
	m->counters[COUNT_REQUESTS]++;
	if (!m->config.hand(
		    m->config.helper, &(struct helper_request){.stanza = inner,
					      .host = *host,
					      .ns = stanza_payload(inner)->ns,
					      .id = request_key(r),
					      .deadline_ms = turn->now_ms + m->config.timeout_ms}))
		request_fail(m, r, COUNT_BUSY, ERROR_SERVICE_UNAVAILABLE, turn);
}

/* A request of the host's user in its envelope. */
static void on_envelope(struct manage *m, const struct stanza *s, struct turn *turn)
{
	struct stanza inner;
	struct jid from;
	int version;
	const char *wrong = delegation_unwrap(s, &inner, &version);
	const struct xml_node *payload;

	if (!wrong && (!stanza_is_request(&inner) || !jid_split(inner.from, &from) || !inner.id.n))
		wrong = "the forwarded iq is no request";
	if (wrong) {
		err_log_limited(err_limit_of(&m->hosts, turn->now_ms, wrong, NULL, 0), turn->now_ms,
			ERR_WARNING, "bad envelope of '%.*s': %s", SPAN_ARG(s->from), wrong);
		answer_outer(m, s, ERROR_BAD_REQUEST, COUNT_BAD_ENVELOPE, turn);
		return;
	}
	payload = stanza_payload(&inner);
	if (!stanza_iq_valid(&inner) || !payload || inner.id.n > MAX_ID_BYTES ||
		inner.to.n > JID_MAX_BYTES)
		refuse(m, s, &inner, version, ERROR_BAD_REQUEST, COUNT_BAD_ENVELOPE, turn);
	/* ejabberd hands back our own requests: answering them would ask ourselves */
	else if (jid_at_domain(inner.from, m->config.domain) || !is_listed(m, payload->ns) ||
		 (inner.to.p && !host_of(m, jid_domain(inner.to))))
		refuse(m, s, &inner, version, ERROR_SERVICE_UNAVAILABLE, COUNT_UNLISTED, turn);
	else if (m->draining)
		refuse(m, s, &inner, version, ERROR_RECIPIENT_UNAVAILABLE, COUNT_STOPPED, turn);
	else
		take(m, s, &inner, version, turn);
}

/* disco#info: nesting queries of a host, and questions about ourselves. */
static void on_disco(struct manage *m, const struct stanza *s, struct turn *turn)
{
	struct span node = xml_attribute(stanza_payload(s), "node");
	const struct disco_info *info = node.p ? NULL : &m->own;
	struct delegation_node nesting;
	struct writer spare;

	if (node.p && delegation_node_parse(node, &nesting)) {
		if (!host_of(m, s->from)) {
			complain_of_host(m, s->from, turn);
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
	switch (disco_answer(info, s, node, turn->writer)) {
	case WRITER_FULL:
		disco_answer(info, s, node, spare_writer(m, &spare));
		requests_owe(m->requests, buf_span(&m->spare));
		break;
	case WRITER_TOO_LARGE:
		answer_outer(m, s, ERROR_POLICY_VIOLATION, COUNT_TOO_LARGE, turn);
		break;
	case WRITER_OK:
		break;
	}
}

/* The answer to a request of the handler. It counts once, with our id, from the address that was
 * asked. */
static bool on_answer(struct manage *m, const struct stanza *s, struct turn *turn)
{
	const struct table_key key = requests_key(m->requests, s->id);
	struct request *r = s->id.n ? requests_find(m->requests, &key) : NULL;
	struct delegated *d = r ? request_extra(r) : NULL;

	if (!d || d->asker != ASKER_HANDLER || r->owed || !span_equal(request_asked(r), s->from))
		return announced_answer(m->announced, s);
	requests_deliver(m->requests, r, s, turn);
	return true;
}

static bool is_delegation(const struct stanza *s)
{
	const struct xml_node *n = s->root->first_child;

	return n && span_is(n->name, "delegation") && delegation_version(n->ns);
}

/* A message that tells what is delegated (XEP-0355 4.2). */
static void on_advertisement(struct manage *m, const struct stanza *s, struct turn *turn)
{
	if (host_of(m, s->from)) {
		announced_take(m->announced, s->from, s->root->first_child, turn->now_ms);
		return;
	}
	complain_of_host(m, s->from, turn);
	m->counters[COUNT_IGNORED]++;
}

static void on_iq(struct manage *m, const struct stanza *s, struct turn *turn)
{
	const struct xml_node *payload = s->root->first_child;

	if (stanza_is_answer(s)) {
		if (!on_answer(m, s, turn))
			m->counters[COUNT_STRAY]++;
	} else if (s->refusal) {
		answer_outer(m, s, ERROR_POLICY_VIOLATION, COUNT_TOO_LARGE, turn);
	} else if (!stanza_iq_valid(s) || s->id.n > MAX_ID_BYTES) {
		answer_outer(m, s, ERROR_BAD_REQUEST, COUNT_BAD_ENVELOPE, turn);
	} else if (is_delegation(s) && !host_of(m, s->from)) {
		complain_of_host(m, s->from, turn);
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
		on_advertisement(m, s, turn);
	} else if (m->outgoing && s->kind == STANZA_MESSAGE && host_of(m, s->from) &&
		   outgoing_granted(m->outgoing, s, turn)) {
		return;
	} else {
		m->counters[COUNT_IGNORED]++;
	}
}

/* From the handler ------------------------------------------------------- */

/* The error that the requester gets when the handler fails. If the server was away meanwhile, it is
 * worth another try. */
static enum stanza_error failure(const struct turn *turn)
{
	return turn->writer ? ERROR_INTERNAL_SERVER_ERROR : ERROR_REMOTE_SERVER_TIMEOUT;
}

/* A reply to r that the handler gave. */
static void on_reply(struct manage *m, struct request *r, const struct stanza *s, struct turn *turn)
{
	const char *wrong = reply_wrong(s, request_asked(r), request_user(r), false);

	if (!wrong) {
		requests_deliver(m->requests, r, s, turn);
		return;
	}
	err_warn("the handler's reply to a request of '%.*s' is wrong: %s",
		SPAN_ARG(request_user(r)), wrong);
	request_fail(m, r, COUNT_BAD_REPLY, ERROR_INTERNAL_SERVER_ERROR, turn);
}

/* A request of the handler's own (--handler-requests). */
static void on_handler_request(struct manage *m, const struct stanza *s, struct turn *turn)
{
	const struct request_texts texts = {
		.user = m->config.domain, .asked = s->to, .id = s->id, .unshared = true};
	struct stanza_edit edit = {.from = m->config.domain};
	struct request *r;

	if (!m->config.handler_requests || s->refusal || !stanza_iq_valid(s) ||
		!on_host(m, s->to)) {
		err_log_limited(err_limit_of(&m->junk, turn->now_ms, "request", s->to.p, s->to.n),
			turn->now_ms, ERR_WARNING,
			"a request of the handler to '%.*s' is not sent%s", SPAN_ARG(s->to),
			m->config.handler_requests ? "" : ": --handler-requests is not given");
		if (s->id.n)
			tell_error(m, s->to, s->id, ERROR_NOT_ALLOWED);
		m->counters[COUNT_BAD_REPLY]++;
		return;
	}
	r = turn->writer ? request_add(m, ASKER_HANDLER, &texts, turn) : NULL;
	if (r) {
		edit.id = request_key(r);
		if (writer_stanza(turn->writer, s, &edit) == WRITER_OK) {
			m->counters[COUNT_HANDLER_REQUESTS]++;
			return;
		}
		requests_forget(m->requests, r);
	}
	tell_error(m, s->to, s->id, ERROR_RESOURCE_CONSTRAINT);
}

/* A message of the handler's own (--handler-messages). */
static void on_handler_message(struct manage *m, const struct stanza *s, struct turn *turn)
{
	const char *wrong = m->outgoing ? outgoing_message(m->outgoing, s, turn)
					: "--handler-messages is not given";

	if (!wrong)
		return;
	err_log_limited(err_limit_of(&m->junk, turn->now_ms, wrong, NULL, 0), turn->now_ms,
		ERR_WARNING, "a message of the handler is not sent: %s", wrong);
	m->counters[COUNT_STRAY]++;
}

static void handler_stanza(void *self, const struct stanza *s, struct turn *turn)
{
	struct manage *m = self;
	struct request *r = request_at_handler(m, s->id);

	if (s->kind == STANZA_MESSAGE) {
		on_handler_message(m, s, turn);
	} else if (stanza_is_request(s)) {
		on_handler_request(m, s, turn);
	} else if (r && s->kind == STANZA_IQ) {
		on_reply(m, r, s, turn);
	} else {
		err_log_limited(err_limit_of(&m->junk, turn->now_ms, "", s->id.p, s->id.n),
			turn->now_ms, ERR_WARNING,
			"the handler wrote what answers no open request (id '%.*s')",
			SPAN_ARG(s->id));
		m->counters[COUNT_STRAY]++;
	}
}

static bool handler_bad(void *self, struct span id, struct turn *turn)
{
	struct manage *m = self;
	struct request *r = request_at_handler(m, id);

	if (!r) {
		m->counters[COUNT_STRAY]++;
		return false;
	}
	request_fail(m, r, COUNT_BAD_REPLY, ERROR_INTERNAL_SERVER_ERROR, turn);
	return true;
}

static void job_reply(void *self, struct span id, const struct stanza *reply, struct turn *turn)
{
	struct manage *m = self;
	struct request *r = request_at_handler(m, id);

	if (!r)
		return;
	/* it knows the original id; absent ones are filled in */
	if (reply && reply->id.p && !span_equal(reply->id, request_id(r))) {
		err_warn("the handler's reply to a request of '%.*s' is wrong: another id",
			SPAN_ARG(request_user(r)));
		reply = NULL;
	}
	if (reply)
		on_reply(m, r, reply, turn);
	else
		request_fail(m, r, COUNT_BAD_REPLY, failure(turn), turn);
}

static void handler_died(void *self, struct turn *turn)
{
	struct manage *m = self;

	size_t count;
	struct request **all = requests_all(m->requests, &count);

	for (size_t i = 0; i < count; i++)
		if (!all[i]->owed)
			request_fail(m, all[i], COUNT_DIED, failure(turn), turn);
	free(all);
}

/* Time ------------------------------------------------------------------- */

static void manage_up(void *self, struct turn *turn)
{
	struct manage *m = self;

	announced_up(m->announced, turn->now_ms);
}

static void manage_down(void *self, struct turn *turn)
{
	struct manage *m = self;

	(void)turn;
	if (m->outgoing)
		outgoing_down(m->outgoing);
}

static int64_t manage_deadline(const void *self)
{
	const struct manage *m = self;
	int64_t open_ms = requests_deadline(m->requests);
	int64_t announced_ms = announced_deadline(m->announced);
	int64_t outgoing_ms = m->outgoing ? outgoing_deadline(m->outgoing) : DEADLINE_NEVER;

	if (announced_ms < open_ms)
		open_ms = announced_ms;
	return outgoing_ms < open_ms ? outgoing_ms : open_ms;
}

static void manage_tick(void *self, struct turn *turn)
{
	struct manage *m = self;

	requests_tick(m->requests, turn);
	announced_tick(m->announced, turn);
	if (m->outgoing)
		outgoing_tick(m->outgoing, turn);
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
	requests_finish(m->requests, turn);
}

const struct service_ops manage_ops = {
	.fold = true,
	.up = manage_up,
	.down = manage_down,
	.stanza = manage_stanza,
	.tick = manage_tick,
	.deadline = manage_deadline,
	.drain = manage_drain,
	.finish = manage_finish,
	.open_requests = manage_open_requests,
	.metrics = manage_metrics,
	.handler_requests = manage_open_requests,
};

static bool handler_full(const void *self)
{
	const struct manage *m = self;

	return m->outgoing && outgoing_full(m->outgoing);
}

const struct helper_ops manage_helper_ops = {.full = handler_full,

	.stanza = handler_stanza,
	.bad = handler_bad,
	.reply = job_reply,
	.died = handler_died};
