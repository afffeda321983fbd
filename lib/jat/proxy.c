#include "jat/proxy.h"

#include <stdlib.h>

#include "base/deadline.h"
#include "base/err.h"
#include "jat/counters.h"
#include "jat/items.h"
#include "jat/messages.h"
#include "jat/outbound.h"
#include "jat/route.h"
#include "xmpp/jid.h"
#include "xmpp/reader.h"

#define MAX_ID_BYTES 1023

struct jatproxy {
	struct jatproxy_config config;
	struct tokens tokens;	/* A and D are tokens.own and tokens.served */
	struct span *own_names; /* what shares borrows */
	struct shares *shares;
	struct dispatch dispatch;
	struct requests *requests; /* dispatch.requests */
	struct messages messages;
	struct outbound outbound;
	struct audience *audience;
	struct marks *marks;
	bool draining, finishing;
	struct route route;
	struct reader *again, *deep; /* parse a stanza again: only its root, or all of it */
	struct buf key, scratch, labels;
	uint64_t counters[COUNTERS];
};

/* Names ------------------------------------------------------------------ */

/* The key of a request: token and id, by which its answer is found. */
static struct span key_of_token(struct jatproxy *p, struct span token, struct span id)
{
	size_t n = 1 + token.n + 1 + id.n + 1;
	char *to;

	buf_reset(&p->key);
	to = buf_reserve(&p->key, n);
	to[0] = 'q';
	memcpy(to + 1, token.p, token.n);
	to[1 + token.n] = '\0';
	memcpy(to + 1 + token.n + 1, id.p, id.n);
	to[n - 1] = '\0';
	buf_commit(&p->key, n);
	return buf_span(&p->key);
}

/* Answering -------------------------------------------------------------- */

static void refuse(struct jatproxy *p, const struct stanza *s, enum stanza_error e,
	enum counter why, struct turn *turn)
{
	p->counters[why]++;
	requests_refuse(p->requests, s, e, turn);
}

/* Refuse s, which the writer did not take. */
static void refuse_unsent(
	struct jatproxy *p, const struct stanza *s, enum writer_status status, struct turn *turn)
{
	if (status == WRITER_TOO_LARGE)
		refuse(p, s, ERROR_POLICY_VIOLATION, COUNT_TOO_LARGE, turn);
	else
		refuse(p, s, ERROR_RESOURCE_CONSTRAINT, COUNT_CONSTRAINT, turn);
}

/* Requests --------------------------------------------------------------- */

static struct span trimmed(struct span s)
{
	while (s.n && (s.p[s.n - 1] == '\n' || s.p[s.n - 1] == ' '))
		s.n--;
	return s;
}

/* The place that a request holds for its mark; NULL if none leaves marks. */
static struct mark_place *place_of(const struct jatproxy *p, struct request *r)
{
	return p->config.marked ? request_extra(r) : NULL;
}

/* Add s, which stands in the output for w from `at` on, to the open requests. False: there is no
 * room in the table, and the output was taken back. */
static bool request_open(struct jatproxy *p, const struct stanza *s, const struct table_key *key,
	struct request_texts *texts, size_t at, struct worker *w, struct turn *turn)
{
	struct mark_place place = {0};
	struct request *r;

	texts->stanza = trimmed(span_from(buf_span(turn->writer->out), at));
	texts->set = s->type == TYPE_SET;
	r = p->config.marked && !marks_reserve(p->marks, s->from, &place)
		    ? NULL
		    : requests_add(p->requests, key, texts, turn->now_ms);
	if (!r) {
		marks_release(p->marks, &place);
		writer_take_back(turn->writer);
		return false;
	}
	if (p->config.marked)
		*place_of(p, r) = place;
	tokens_opened(&p->tokens, request_token(r));
	requests_handed(p->requests, r, w, turn->now_ms);
	p->counters[COUNT_REQUESTS]++;
	return true;
}

/* A user's get or set: on to a session. */
static void on_request(struct jatproxy *p, const struct stanza *s, struct turn *turn)
{
	struct request_texts texts = {
		.user = s->from, .asked = s->to.p ? s->to : p->tokens.served, .id = s->id};
	struct stanza_edit edit = STANZA_KEEP;
	const struct request *same;
	struct table_key key;
	struct worker *w;
	size_t at = buf_length(turn->writer->out);
	enum writer_status status;

	if (!dispatch_has_session(&p->dispatch)) {
		refuse(p, s, ERROR_SERVICE_UNAVAILABLE, COUNT_NO_SESSION, turn);
		return;
	}
	texts.token = tokens_make(&p->tokens, p->shares, texts.asked, s->from, turn->now_ms);
	if (!texts.token.p) {
		refuse(p, s, ERROR_RESOURCE_CONSTRAINT, COUNT_CONSTRAINT, turn);
		return;
	}
	key = requests_key(p->requests, key_of_token(p, texts.token, s->id));
	/* both stand in the key: the table keeps them once */
	texts.token = (struct span){key.bytes.p + 1, texts.token.n};
	texts.id = span_from(key.bytes, texts.token.n + 2);
	texts.id.n = s->id.n;
	same = requests_find(p->requests, &key);
	if (!requests_may_add(p->requests, same)) {
		refuse(p, s, ERROR_RESOURCE_CONSTRAINT, COUNT_CONSTRAINT, turn);
		return;
	}
	w = dispatch_request(&p->dispatch, s, same, &texts.pinned, turn->now_ms);
	edit.to = w->name;
	edit.from = buf_span(&p->tokens.address);
	status = writer_stanza(turn->writer, s, &edit);
	if (status != WRITER_OK)
		refuse_unsent(p, s, status, turn);
	else if (!request_open(p, s, &key, &texts, at, w, turn))
		refuse(p, s, ERROR_RESOURCE_CONSTRAINT, COUNT_CONSTRAINT, turn);
	else if (texts.pinned)
		steps_note_payload(p->dispatch.steps, s, s->from, w, turn->now_ms);
}

/* A target's get or set to A/TOKEN: on to the user. */
static void on_outbound(struct jatproxy *p, const struct stanza *s, struct span token,
	struct span user, struct span asked, struct turn *turn)
{
	struct worker *w = balance_find(p->dispatch.balance, s->from);
	enum writer_status status;

	if (w)
		steps_note_payload(p->dispatch.steps, s, user, w, turn->now_ms);
	status = outbound_request(&p->outbound, s, token, user, asked, turn);
	if (status == WRITER_OK)
		p->counters[COUNT_REQUESTS]++;
	else
		refuse_unsent(p, s, status, turn);
}

/* Write a request again, for another session: requests_config.hand. */
static enum writer_status hand(
	void *context, struct request *r, struct worker *w, struct turn *turn)
{
	struct jatproxy *p = context;
	struct stanza_edit edit = {.to = w->name};
	struct stanza s;

	if (!reader_one(p->again, request_stanza(r), &s))
		return WRITER_TOO_LARGE;
	return writer_stanza(turn->writer, &s, &edit);
}

static enum writer_status answer(
	void *context, struct request *r, const struct stanza *s, struct turn *turn)
{
	struct jatproxy *p = context;
	struct stanza_edit edit = {.to = request_user(r), .from = request_asked(r)};
	struct stanza changed;

	if (!span_equal(request_id(r), s->id))
		edit.id = request_id(r);
	if (r->tries_count && !p->config.keep_item_jids && s->type == TYPE_RESULT &&
		xml_child(s->root, NS_DISCO_ITEMS, "query")) {
		const struct items_config items = {.targets = p->config.dispatch.targets,
			.targets_count = p->config.dispatch.targets_count,
			.asked = request_asked(r)};

		buf_reset(&p->scratch);
		if (items_rewrite(&items, s, p->deep, &p->scratch) &&
			reader_one(p->again, buf_span(&p->scratch), &changed))
			s = &changed;
	}
	return writer_stanza(turn->writer, s, &edit);
}

/* Mark a request, so that a successor does not take another answer to it on its token. */
static void mark_key(struct jatproxy *p, struct span key, struct mark_place *place, int64_t now_ms)
{
	char mark[MARK_CHARS + 1];

	mark_of(key, mark);
	p->config.marked(p->config.context, mark);
	marks_made(p->marks, place, now_ms);
}

static void ending(void *context, struct request *r, enum request_end end, int64_t now_ms)
{
	static const enum counter counters[REQUEST_ENDS] = {
		[END_ANSWERED] = COUNT_ANSWERS,
		[END_TIMEOUT] = COUNT_TIMEOUT,
		[END_NO_WORKER] = COUNT_NO_SESSION,
		[END_WORKER_LEFT] = COUNT_SESSION_LEFT,
		[END_STOPPED] = COUNT_STOPPED,
		[END_TOO_LARGE] = COUNT_TOO_LARGE,
		[END_NO_ROOM] = COUNT_CONSTRAINT,
	};
	struct jatproxy *p = context;

	p->counters[counters[end]]++;
	/* a session may still answer: the answer was an error of ours, or a second session had the
	 * request */
	if (p->config.marked && r->tries_count >= (end == END_ANSWERED ? 2 : 1))
		mark_key(p, request_key(r), place_of(p, r), now_ms);
}

static void handed_again(void *context, struct request *r)
{
	(void)r;
	((struct jatproxy *)context)->counters[COUNT_RETRIES]++;
}

static void request_removed(void *context, struct request *r, int64_t now_ms)
{
	struct jatproxy *p = context;

	tokens_closed(&p->tokens, request_token(r));
	marks_answered(p->marks, request_user(r), request_key(r), now_ms);
	if (p->config.marked)
		marks_release(p->marks, place_of(p, r));
}

/* Answers ---------------------------------------------------------------- */

static void on_answer_of(
	struct jatproxy *p, struct request_try *try, const struct stanza *s, struct turn *turn)
{
	struct worker *w = try->worker;
	enum bounce bounce = requests_bounce_of(s, w);

	if (bounce != BOUNCE_NONE) {
		requests_bounced(p->requests, try, bounce == BOUNCE_UNTOUCHED, turn);
		return;
	}
	worker_alive(p->dispatch.balance, w, turn->now_ms);
	if (s->type == TYPE_RESULT)
		steps_note_payload(
			p->dispatch.steps, s, request_user(try->request), w, turn->now_ms);
	requests_answered(p->requests, try, s, turn);
}

/* After a crash: take an answer to a request of the predecessor, which is not in the table but
 * whose token verifies. */
static bool grace_answer(struct jatproxy *p, const struct stanza *s, struct span token,
	struct span user, struct span asked, struct turn *turn)
{
	struct stanza_edit edit = {.to = user, .from = asked};
	/* the address that the predecessor was asked, as far as it is known */
	const struct stanza request = {
		.kind = STANZA_IQ, .type = TYPE_GET, .to = asked, .from = user, .id = s->id};
	struct mark_place place = {0};

	if (token.p[0] == ALIAS_MARK || !p->config.marked || !marks_reserve(p->marks, user, &place))
		return false;
	if (!marks_take(p->marks, user, key_of_token(p, token, s->id), turn->now_ms)) {
		marks_release(p->marks, &place);
		return false;
	}
	/* another session may have had the request, too, and this process may crash as well */
	mark_key(p, buf_span(&p->key), &place, turn->now_ms);
	p->counters[COUNT_ANSWERS]++;
	if (s->refusal || writer_stanza(turn->writer, s, &edit) != WRITER_OK)
		requests_refuse(p->requests, &request, ERROR_POLICY_VIOLATION, turn);
	return true;
}

/* The try that s answers: of an open request with its token and id, at the session that s comes
 * from. *open: whether there is any request with these. */
static struct request_try *find_try(struct jatproxy *p, const struct stanza *s, bool *open)
{
	struct table_key key;
	struct request *r;
	struct span token;

	*open = false;
	if (!s->id.n || !tokens_find(&p->tokens, s->to, &token))
		return NULL;
	key = requests_key(p->requests, key_of_token(p, token, s->id));
	for (r = requests_find(p->requests, &key); r; r = requests_next(p->requests, r)) {
		*open = true;
		for (unsigned i = 0; i < r->tries_count; i++)
			if (r->tries[i].state != TRY_CLOSED &&
				span_equal(r->tries[i].worker->name, s->from))
				return &r->tries[i];
	}
	return NULL;
}

/* Take s if it answers an open request. False: nobody waits for it. *open: see find_try(). */
static bool take_answer(struct jatproxy *p, const struct stanza *s, bool *open, struct turn *turn)
{
	struct request_try *try = find_try(p, s, open);

	if (try)
		on_answer_of(p, try, s, turn);
	return try;
}

/* An answer that nobody waits for. open: there is a request with its token and id. */
static void on_other_answer(
	struct jatproxy *p, const struct stanza *s, bool open, struct turn *turn)
{
	struct span token = SPAN_NONE, user, asked;

	dispatch_note_life(&p->dispatch, s, turn->now_ms);
	if (p->config.outbound_iq && s->id.n && outbound_answer(&p->outbound, s, turn))
		return;
	if (s->id.n && p->tokens.jat.encoding != JAT_PLAIN && jid_is_full(s->from) &&
		dispatch_is_target(&p->dispatch, s->from) &&
		tokens_read(&p->tokens, s->to, &token, &user, &asked)) {
		/* if such a request is open here, only the table decides */
		if (open || !grace_answer(p, s, token, user, asked, turn))
			p->counters[COUNT_LATE]++;
		return;
	}
	p->counters[COUNT_STRAY]++;
}

/* Messages --------------------------------------------------------------- */

static void on_message(struct jatproxy *p, const struct stanza *s, struct turn *turn)
{
	enum counter end;

	if (s->type != TYPE_ERROR && dispatch_is_target(&p->dispatch, s->from))
		dispatch_note_life(&p->dispatch, s, turn->now_ms);
	if (p->config.messages && s->type != TYPE_GROUPCHAT)
		end = messages_hand_on(&p->messages, s, turn);
	else
		end = s->type == TYPE_ERROR ? COUNT_IGNORED : COUNT_NOT_IMPLEMENTED;
	if (end == COUNT_NOT_IMPLEMENTED)
		refuse(p, s, ERROR_FEATURE_NOT_IMPLEMENTED, end, turn);
	else if (end == COUNT_TOO_LARGE)
		refuse(p, s, ERROR_POLICY_VIOLATION, end, turn);
	else if (end == COUNT_CONSTRAINT)
		refuse(p, s, ERROR_RESOURCE_CONSTRAINT, end, turn);
	else
		p->counters[end]++;
}

/* Presence --------------------------------------------------------------- */

static void best_changed(void *context, const struct session *best, struct turn *turn)
{
	struct jatproxy *p = context;

	audience_show(p->audience, !best ? NULL : best->details ? best->details : "", turn);
}

static void on_presence(struct jatproxy *p, const struct stanza *s, struct turn *turn)
{
	bool to_domain = span_equal(s->to, p->tokens.own);
	bool target = dispatch_is_target(&p->dispatch, s->from);

	if (to_domain && session_presence(p->dispatch.sessions, s, turn))
		return;
	if (p->config.dispatch.shown != KEEP_NOTHING &&
		(s->type == TYPE_SUBSCRIBE || s->type == TYPE_UNSUBSCRIBE ||
			s->type == TYPE_PROBE)) {
		audience_subscription(p->audience, s, turn);
		return;
	}
	switch (s->type) {
	case TYPE_SUBSCRIBE:
		audience_say(p->audience, jid_bare(s->from), jid_bare(s->to),
			target && to_domain ? "subscribed" : "unsubscribed", turn);
		break;
	case TYPE_PROBE:
		audience_say(p->audience, s->from, jid_bare(s->to), "unavailable", turn);
		break;
	case TYPE_NONE:
		if (target)
			p->counters[COUNT_IGNORED]++;
		else
			refuse(p, s, ERROR_BAD_REQUEST_CANCEL, COUNT_BAD_REQUEST, turn);
		break;
	default:
		p->counters[COUNT_IGNORED]++;
	}
}

/* The reply domain ------------------------------------------------------- */

/* Whether an address is at the reply domain, which nobody should ask. It may be below the domain
 * that users ask. */
static bool is_asked_wrongly(const struct jatproxy *p, struct span to)
{
	struct span domain;

	if (!to.p || !p->tokens.apart)
		return false;
	domain = jid_domain(to);
	return span_equal(domain, p->tokens.own) || !domain_is_at(domain, p->tokens.served);
}

/* Whether s comes from the reply domain itself. Only the ping of jat/route does. */
static bool is_from_us(struct jatproxy *p, const struct stanza *s)
{
	if (!p->tokens.apart || !span_equal(s->from, p->tokens.own))
		return false;
	if (!route_answer(&p->route, s))
		p->counters[COUNT_STRAY]++;
	return true;
}

static int on_stream_error(void *self, struct span condition)
{
	const struct jatproxy *p = self;

	if (!p->tokens.apart || !span_is(condition, "invalid-from"))
		return 0;
	route_explain(&p->route, p->tokens.served);
	return EXIT_CONFIG;
}

/* The decisions ---------------------------------------------------------- */

static void on_iq(struct jatproxy *p, const struct stanza *s, struct turn *turn)
{
	struct span token, user, asked;
	bool target, outbound;

	target = dispatch_is_target(&p->dispatch, s->from);
	if (target)
		dispatch_note_life(&p->dispatch, s, turn->now_ms);
	if (s->refusal) {
		refuse(p, s, ERROR_POLICY_VIOLATION, COUNT_TOO_LARGE, turn);
		return;
	}
	if (!stanza_iq_valid(s) || s->id.n > MAX_ID_BYTES) {
		refuse(p, s, ERROR_BAD_REQUEST, COUNT_BAD_REQUEST, turn);
		return;
	}
	outbound = target && tokens_read(&p->tokens, s->to, &token, &user, &asked);
	if (outbound && !p->config.outbound_iq)
		refuse(p, s, ERROR_FEATURE_NOT_IMPLEMENTED, COUNT_NOT_IMPLEMENTED, turn);
	else if (!outbound && is_asked_wrongly(p, s->to))
		refuse(p, s, ERROR_SERVICE_UNAVAILABLE, COUNT_NOT_IMPLEMENTED, turn);
	else if (p->draining)
		refuse(p, s, ERROR_RECIPIENT_UNAVAILABLE, COUNT_STOPPED, turn);
	else if (outbound)
		on_outbound(p, s, token, user, asked, turn);
	else
		on_request(p, s, turn);
}

static void on_stanza(void *self, const struct stanza *s, struct turn *turn)
{
	struct jatproxy *p = self;
	bool open = false, answer = stanza_is_answer(s);
	struct jid from;

	if (p->config.passthrough ? !tokens_ours(&p->tokens, s->to)
				  : s->to.p && !tokens_ours(&p->tokens, s->to)) {
		if (!p->config.passthrough || s->refusal ||
			writer_stanza(turn->writer, s, &STANZA_KEEP) != WRITER_OK)
			p->counters[COUNT_FOREIGN]++;
	} else if (answer && take_answer(p, s, &open, turn)) {
		return; /* it comes from a session, whose address need not be looked at again */
	} else if (!jid_split(s->from, &from)) {
		p->counters[COUNT_NO_FROM]++;
	} else if (is_from_us(p, s)) {
		return;
	} else if (answer) {
		on_other_answer(p, s, open, turn);
	} else if (s->kind == STANZA_IQ) {
		on_iq(p, s, turn);
	} else if (s->kind == STANZA_MESSAGE) {
		on_message(p, s, turn);
	} else {
		on_presence(p, s, turn);
	}
}

static void on_up(void *self, struct turn *turn)
{
	struct jatproxy *p = self;

	marks_up(p->marks, turn->now_ms);
	audience_up(p->audience, turn);
	if (p->tokens.apart && !p->config.passthrough)
		route_ask(&p->route, random_draw(&p->config.random), p->config.timeout_ms, turn);
	session_up(p->dispatch.sessions, turn);
}

static void on_down(void *self, struct turn *turn)
{
	struct jatproxy *p = self;

	session_down(p->dispatch.sessions, turn);
	audience_down(p->audience);
	route_forget(&p->route);
}

static int64_t on_deadline(const void *self)
{
	const struct jatproxy *p = self;
	const int64_t all_ms[] = {dispatch_deadline(&p->dispatch),
		steps_deadline(p->messages.senders), audience_deadline(p->audience),
		marks_deadline(p->marks), p->route.deadline_ms};

	return deadline_first(all_ms, sizeof(all_ms) / sizeof(all_ms[0]));
}

static void on_tick(void *self, struct turn *turn)
{
	struct jatproxy *p = self;

	dispatch_tick(&p->dispatch, turn);
	steps_tick(p->messages.senders, turn->now_ms);
	audience_tick(p->audience, turn);
	marks_tick(p->marks, turn->now_ms);
	if (route_failed(&p->route, p->tokens.served, turn->now_ms))
		p->config.unrouted(p->config.context);
}

static void on_drain(void *self, struct turn *turn)
{
	(void)turn;
	((struct jatproxy *)self)->draining = true;
}

static void on_finish(void *self, struct turn *turn)
{
	struct jatproxy *p = self;

	p->draining = p->finishing = true;
	requests_finish(p->requests, turn);
	audience_finish(p->audience, turn);
}

/* At the end this includes subscribers that have not been told yet that nobody is there. */
static size_t open_requests(const void *self)
{
	const struct jatproxy *p = self;

	return requests_count(p->requests) + (p->finishing ? audience_owed(p->audience) : 0);
}

/* Metrics ---------------------------------------------------------------- */

static size_t metrics(const void *self, struct metric *out, size_t max)
{
	const struct jatproxy *p = self;
	const struct metric gauges[] = {
		{"sessions", NULL, "available sessions of the targets", METRIC_GAUGE,
			session_count(p->dispatch.sessions)},
		{"pending_requests", NULL, "requests waiting for their answer", METRIC_GAUGE,
			requests_count(p->requests)},
		{"pending_bytes", NULL, "memory held by open requests", METRIC_GAUGE,
			requests_bytes(p->requests)},
		{"handles", NULL, "addresses kept in the table", METRIC_GAUGE,
			alias_count(p->tokens.aliases)},
		{"subscribers", NULL, "subscribers to our presence", METRIC_GAUGE,
			audience_count(p->audience)},
	};
	size_t n = metrics_add(out, 0, max, gauges, sizeof(gauges) / sizeof(gauges[0]));

	n = counters_metrics(p->counters, out, n, max);
	return session_metrics(p->dispatch.balance, p->config.dispatch.targets,
		(struct buf *)&p->labels, out, n, max);
}

const struct service_ops jatproxy_ops = {.fold = true,
	.up = on_up,
	.down = on_down,
	.stanza = on_stanza,
	.tick = on_tick,
	.deadline = on_deadline,
	.drain = on_drain,
	.finish = on_finish,
	.open_requests = open_requests,
	.metrics = metrics,
	.stream_error = on_stream_error};

/* Life ------------------------------------------------------------------- */

/* D, A and the domains of the targets have no share as a whole: each user there has one. */
static void new_shares(struct jatproxy *p, const uint64_t seed[2])
{
	const struct jatproxy_config *c = &p->config;
	struct shares_config shares = c->pending;
	size_t count = 0;

	p->own_names = xcalloc(c->dispatch.targets_count + 2, sizeof(*p->own_names));
	p->own_names[count++] = p->tokens.served;
	p->own_names[count++] = p->tokens.own;
	for (size_t i = 0; i < c->dispatch.targets_count; i++)
		p->own_names[count++] = jid_domain(c->dispatch.targets[i]);
	shares.own = p->own_names;
	shares.own_count = count;
	memcpy(shares.seed, seed, sizeof(shares.seed));
	p->shares = shares_new(&shares);
}

static void new_dispatch(struct jatproxy *p, const uint64_t seed[2])
{
	const struct jatproxy_config *c = &p->config;
	const struct dispatch_config dispatch = {.options = c->dispatch,
		.domain = p->tokens.own,
		.confirm_ms = c->timeout_ms,
		.max_steps = c->max_subscribers,
		.max_bytes = c->pending.max_bytes,
		.seed = {seed[0], seed[1]},
		.random = c->random,
		.best = best_changed,
		.context = p};
	const struct requests_config requests = {.max = c->pending.max,
		.max_bytes = c->pending.max_bytes,
		.seed = {seed[0], seed[1]},
		.timeout_ms = c->timeout_ms,
		.bounce_wait_ms = c->bounce_wait_ms,
		.shares = p->shares,
		.extra_bytes = c->marked ? sizeof(struct mark_place) : 0,
		.hand = hand,
		.answer = answer,
		.ending = ending,
		.again = handed_again,
		.removed = request_removed,
		.context = p};

	dispatch_init(&p->dispatch, &dispatch, &requests);
	p->requests = p->dispatch.requests;
	p->messages = (struct messages){
		.dispatch = &p->dispatch, .tokens = &p->tokens, .shares = p->shares};
	messages_init(&p->messages, c->max_subscribers, c->pending.max_bytes, seed);
	p->outbound = (struct outbound){.requests = p->requests,
		.tokens = &p->tokens,
		.key = &p->key,
		.random = &c->random};
}

static void new_tables(struct jatproxy *p, const uint64_t seed[2])
{
	const struct jatproxy_config *c = &p->config;

	p->audience = audience_new(&(struct audience_config){.max = c->max_subscribers,
		.max_bytes = c->pending.max_bytes,
		.seed = {seed[0], seed[1]},
		.shares = p->shares,
		.requests = p->requests,
		.changed = c->subscribed,
		.context = c->context});
	p->marks = marks_new(&(struct marks_config){.grace = c->grace,
		.timeout_ms = c->timeout_ms,
		.max = c->max_marks,
		.own = p->own_names,
		.own_count = c->dispatch.targets_count + 2,
		.seed = {seed[0], seed[1]}});
}

struct jatproxy *jatproxy_new(const struct jatproxy_config *config)
{
	struct jatproxy *p = xcalloc(1, sizeof(*p));
	struct alias_table *aliases;
	uint64_t seed[2];

	p->config = *config;
	seed[0] = random_draw(&config->random);
	seed[1] = random_draw(&config->random);
	aliases = alias_table_new(&(struct alias_config){.max = config->max_handles,
		.max_bytes = config->pending.max_bytes,
		.life_ms = config->handle_ttl_ms,
		.busy_ms = config->timeout_ms,
		.seed = {seed[0], seed[1]},
		.random = config->random});
	tokens_init(&p->tokens, &config->jat, aliases, seed);
	p->route = (struct route)ROUTE_INIT(p->tokens.own);
	p->again = reader_new_again(SIZE_MAX / 4, READER_INDEX_CHILDREN);
	p->deep = reader_new_again(SIZE_MAX / 4, READER_INDEX_ALL);
	buf_init(&p->key, BUF_NO_MAX);
	buf_init(&p->scratch, BUF_NO_MAX);
	buf_init(&p->labels, BUF_NO_MAX);
	new_shares(p, seed);
	new_dispatch(p, seed);
	new_tables(p, seed);
	return p;
}

void jatproxy_free(struct jatproxy *p)
{
	if (!p)
		return;
	messages_free(&p->messages);
	dispatch_free(&p->dispatch);
	shares_free(p->shares);
	tokens_free(&p->tokens);
	audience_free(p->audience);
	marks_free(p->marks);
	reader_free(p->again);
	reader_free(p->deep);
	free(p->own_names);
	buf_free(&p->key);
	buf_free(&p->scratch);
	buf_free(&p->labels);
	free(p);
}

void jatproxy_rekey(struct jatproxy *p, struct jat_keys *keys)
{
	p->tokens.jat.keys = keys;
}

struct audience *jatproxy_audience(struct jatproxy *p)
{
	return p->audience;
}

struct marks *jatproxy_marks(struct jatproxy *p)
{
	return p->marks;
}

struct session_table *jatproxy_sessions(struct jatproxy *p)
{
	return p->dispatch.sessions;
}
