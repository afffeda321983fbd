#include "delegation/delegate.h"

#include <stdlib.h>

#include "base/deadline.h"
#include "base/utf8.h"
#include "delegation/delegation.h"
#include "delegation/entities.h"
#include "base/err.h"
#include "xmpp/jid.h"
#include "loop/loop.h"
#include "xmpp/reply.h"
#include "xmpp/requests.h"
#include "xmpp/stanza-error.h"

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

/* Whom a user's request was given to. */
enum asked_kind { ASKED_ENTITY, ASKED_OTHERWISE };

/* What a request holds beside its user, address and id. Its token is the address of an entity that
 * is no account, its stanza the inner iq as it goes out, kept for another client of an account. */
struct asked {
	uint32_t account; /* of its entity, or NOT_AN_ACCOUNT */
	uint8_t kind;	  /* enum asked_kind */
	uint8_t why;	  /* enum counter: of an error of ours that was decided before */
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
	struct entities *entities;
	struct requests *requests;
	struct shares *shares;
	size_t handed; /* requests at OTHERWISE */
	struct buf spare;
	bool draining;
	uint64_t counters[COUNTERS];
	struct err_limits junk; /* of the handler, that answers nothing */
	struct err_limit too_late;
};

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
	const struct request_texts *texts, struct turn *turn)
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
	struct stanza_edit edit = {
		.to = request_user(r), .from = request_asked(r), .id = request_id(r)};

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
	return stanza_error_send(
		turn->writer, "iq", request_user(r), request_asked(r), request_id(r), e, NULL);
}

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
		entities_forget(d->entities,
			entities_of(d->entities,
				r->tries_count ? r->tries[0].worker->name : request_token(r)),
			&turn);
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

/* Clients of accounts ---------------------------------------------------- */

static void client_doubted(void *context, struct worker *client, int64_t now_ms)
{
	requests_hedge(((struct delegate *)context)->requests, client, now_ms);
}

static void client_left(void *context, struct worker *client, int64_t now_ms)
{
	requests_worker_left(((struct delegate *)context)->requests, client, now_ms);
}

static void doubted(void *context, struct worker *w, struct turn *turn)
{
	entities_doubt(((struct delegate *)context)->entities, w, turn);
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
	const struct delegate *d = context;

	(void)now_ms;
	return request_stanza(r).n && !left_in_order(r)
		       ? entities_client(d->entities, a->account, tier, r)
		       : NULL;
}

static enum writer_status hand(
	void *context, struct request *r, struct worker *w, struct turn *turn)
{
	struct delegate *d = context;

	delegation_begin(
		turn->writer, d->config.version, "set", w->name, d->config.domain, request_key(r));
	writer_raw_span(turn->writer, request_stanza(r));
	return delegation_end(turn->writer);
}

static void again(void *context, struct request *r)
{
	(void)context;
	(void)r;
}

/* disco#info ------------------------------------------------------------- */

/* Rules ------------------------------------------------------------------ */

/* Requests of users ------------------------------------------------------ */

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
	struct delegate *d, const struct entity *entity, const struct stanza *s, struct turn *turn)
{
	struct span address = entity_address(entity), id;
	struct request_texts texts = {
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
	const struct disco_info *info = entities_disco(d->entities, account);
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
			&(struct request_texts){.user = s->from, .asked = s->to, .id = s->id},
			turn);

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
	const struct entity *entity;
	bool info = xml_is(payload, NS_DISCO_INFO, "query") && s->type == TYPE_GET;
	bool node = xml_attribute(payload, "node").n > 0;
	struct jid to;
	bool bare = jid_split(s->to, &to) && !to.resource.p;

	if (info && !node && bare) {
		answer_disco(d, s, to.local.p != NULL, turn);
		return;
	}
	entity = bare ? entities_find(d->entities, s, &to) : NULL;
	if (entity && d->draining)
		answer_stanza(d, s, ERROR_RECIPIENT_UNAVAILABLE, COUNT_STOPPED, turn);
	else if (entity)
		forward(d, entity, s, turn);
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
	if (!wrong && !span_equal(inner->id, request_id(r)))
		wrong = "another inner id";
	return wrong ? wrong : reply_wrong(inner, request_asked(r), request_user(r), true);
}

/* An outer error. Of an account's client that may have come from its server, because the client is
 * not there any more: then another one is tried. */
static void on_bounce(struct delegate *d, struct request *r, struct request_try *try,
	const struct stanza *s, struct turn *turn)
{
	enum bounce bounce = try ? requests_bounce_of(s, try->worker) : BOUNCE_NONE;
	struct span condition = stanza_error_condition(s);

	err_info("'%.*s' has not taken a request: %.*s", SPAN_ARG(s->from), SPAN_ARG(condition));
	entities_forget(d->entities, entities_of(d->entities, s->from), turn);
	if (bounce != BOUNCE_NONE) {
		requests_bounced(d->requests, try, bounce == BOUNCE_UNTOUCHED, turn);
		return;
	}
	if (try)
		worker_alive(entities_clients(d->entities), try->worker, turn->now_ms);
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
		worker_alive(entities_clients(d->entities), try->worker, turn->now_ms);
	wrong = answer_wrong(d, r, s, &inner);
	if (wrong) {
		err_warn("the answer of '%.*s' to a request of '%.*s' is wrong: %s",
			SPAN_ARG(s->from), SPAN_ARG(request_user(r)), wrong);
		request_fail(d, r, ERROR_SERVICE_UNAVAILABLE, COUNT_BAD_ANSWER, turn);
	} else if (try) {
		requests_answered(d->requests, try, &inner, turn);
	} else {
		requests_deliver(d->requests, r, &inner, turn);
	}
}

/* The try of r that the sender of s can answer; NULL. */
static struct request_try *try_from(struct request *r, struct span from)
{
	for (unsigned i = 0; i < r->tries_count; i++)
		if (span_equal(r->tries[i].worker->name, from))
			return requests_try_of(r, r->tries[i].worker);
	return NULL;
}

static void on_answer(struct delegate *d, const struct stanza *s, struct turn *turn)
{
	bool ours = span_equal(s->to, d->config.domain);
	struct request *r = ours ? request_open(d, ASKED_ENTITY, s->id) : NULL;
	struct request_try *try = r ? try_from(r, s->from) : NULL;

	if (try || (r && request_token(r).n && span_equal(request_token(r), s->from)))
		on_envelope_answer(d, r, try, s, turn);
	else if (!ours || !entities_answer(d->entities, s, turn))
		d->counters[COUNT_STRAY]++;
}

/* Everything that comes -------------------------------------------------- */

static void on_presence(struct delegate *d, const struct stanza *s, struct turn *turn)
{
	if (span_equal(s->to, d->config.domain) && entities_presence(d->entities, s, turn)) {
		requests_tick(d->requests, turn); /* what a client had that has left */
		return;
	}
	if (d->config.passthrough)
		writer_stanza(turn->writer, s, &STANZA_KEEP);
	else if (s->type == TYPE_SUBSCRIBE) {
		/* accept a subscription of a managing account; refuse all others */
		bool known = entities_has_account(d->entities, s->from);

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
		      entities_of(d->entities, s->from);

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
	entities_tell(d->entities, turn);
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
	wrong = reply_wrong(s, request_asked(r), request_user(r), false);
	if (!wrong) {
		requests_deliver(d->requests, r, s, turn);
		return;
	}
	err_warn("the handler's reply to a request of '%.*s' is wrong: %s",
		SPAN_ARG(request_user(r)), wrong);
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

static void delegate_up(void *self, struct turn *turn)
{
	entities_up(((struct delegate *)self)->entities, turn);
}

static void delegate_down(void *self, struct turn *turn)
{
	entities_down(((struct delegate *)self)->entities, turn);
}

static int64_t delegate_deadline(const void *self)
{
	const struct delegate *d = self;
	const int64_t all_ms[] = {requests_deadline(d->requests), entities_deadline(d->entities)};

	return deadline_first(all_ms, sizeof(all_ms) / sizeof(all_ms[0]));
}

static void delegate_tick(void *self, struct turn *turn)
{
	struct delegate *d = self;

	entities_tick(d->entities, turn);
	requests_tick(d->requests, turn);
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

	d->entities = entities_new(&(struct entities_config){.domain = c->domain,
		.version = c->version,
		.own = c->own,
		.timeout_ms = c->timeout_ms,
		.try_timeout_ms = c->try_timeout_ms,
		.random = c->random,
		.seed = {seed[0], seed[1]},
		.doubted = client_doubted,
		.left = client_left,
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
		.balance = entities_clients(d->entities),
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
}

struct delegate *delegate_new(const struct delegate_config *config)
{
	struct delegate *d = xcalloc(1, sizeof(*d));

	d->config = *config;
	new_tables(d);
	buf_init(&d->spare, BUF_NO_MAX);
	return d;
}

void delegate_free(struct delegate *d)
{
	if (!d)
		return;
	requests_free(d->requests);
	entities_free(d->entities);
	shares_free(d->shares);
	buf_free(&d->spare);
	free(d);
}

void delegate_rules(
	struct delegate *d, const struct delegate_rule *rules, size_t count, struct turn *turn)
{
	size_t open;
	struct request **all = requests_all(d->requests, &open);

	entities_rules(d->entities, rules, count, turn);
	/* the requests of accounts learn the numbers these have now */
	for (size_t i = 0; i < open; i++) {
		struct asked *a = request_extra(all[i]);
		const struct entity *entity;

		if (!all[i]->tries_count)
			continue;
		entity = entities_of(d->entities, all[i]->tries[0].worker->name);
		a->account = entity ? entity->account : NOT_AN_ACCOUNT;
	}
	free(all);
}

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
