#include "share/hub.h"

#include <stdio.h>
#include <stdlib.h>

#include "base/deadline.h"
#include "base/err.h"
#include "share/early.h"
#include "share/key.h"
#include "share/origins.h"
#include "share/own.h"
#include "xmpp/jid.h"
#include "xmpp/reader.h"
#include "xmpp/requests.h"
#include "xmpp/steps.h"

/* RFC 6120 sets no limit on an id's length; ours exists because each error that we write repeats
 * the id. */
#define ID_MAX_BYTES 1023
enum counter {
	COUNT_REQUESTS,
	COUNT_ANSWERS,
	COUNT_RETRIES,
	COUNT_OWN,
	COUNT_MESSAGES,
	COUNT_PRESENCES,
	COUNT_NO_INSTANCE,
	COUNT_TIMEOUT,
	COUNT_CONSTRAINT,
	COUNT_BAD_REQUEST,
	COUNT_TOO_LARGE,
	COUNT_INSTANCE_LEFT,
	COUNT_STOPPED,
	COUNT_STRAY,
	COUNT_FOREIGN,
	COUNT_UNDELIVERED,
	COUNTERS,
};

static const struct metric_name counter_names[COUNTERS] = {
	[COUNT_REQUESTS] = {"requests", NULL, "IQ requests handed to an instance"},
	[COUNT_ANSWERS] = {"answers", NULL, "answers of instances handed on"},
	[COUNT_RETRIES] = {"retries", NULL, "requests handed to another instance"},
	[COUNT_OWN] = {"own_requests", NULL, "IQ requests that instances sent"},
	[COUNT_MESSAGES] = {"messages", NULL, "messages handed to an instance"},
	[COUNT_PRESENCES] = {"presences", NULL, "presences handed to instances"},
	[COUNT_NO_INSTANCE] = METRIC_ERROR("no-instance"),
	[COUNT_TIMEOUT] = METRIC_ERROR("timeout"),
	[COUNT_CONSTRAINT] = METRIC_ERROR("resource-constraint"),
	[COUNT_BAD_REQUEST] = METRIC_ERROR("bad-request"),
	[COUNT_TOO_LARGE] = METRIC_ERROR("too-large"),
	[COUNT_INSTANCE_LEFT] = METRIC_ERROR("instance-left"),
	[COUNT_STOPPED] = METRIC_ERROR("stopped"),
	[COUNT_STRAY] = METRIC_DROPPED("stray"),
	[COUNT_FOREIGN] = METRIC_DROPPED("foreign"),
	[COUNT_UNDELIVERED] = METRIC_DROPPED("undelivered"),
};

struct hub_member {
	LIST_ENTRY(hub_member) of_hub;
	struct worker *worker;
	struct outlet outlet;
	struct own_asker asker;
	void *port;
	bool ending;
	bool outdated; /* the server's stream has ended since it came */
};

struct hub {
	struct hub_config config;
	LIST_HEAD(, hub_member) members;
	size_t members_count;
	struct balance *balance;
	struct shares *shares;
	struct shares_config waiting; /* of what waits for one instance */
	struct requests *requests; /* requests from the server that the instances have to answer */
	struct own *own;	   /* requests from the instances that the server has to answer */
	struct steps *steps;	   /* which instance a conversation of several steps belongs to */
	struct origins *origins;   /* of messages and presence, members */
	struct early *early;	   /* what servers have said to instances that come later */
	struct reader *reader;	   /* reads kept requests again, which go to another instance */
	struct buf key, folded, asked;
	bool draining;
	uint64_t counters[COUNTERS];
};

/* The address as a server would normalise it; in *out if that differs. */
static struct span folded(struct span jid, struct buf *out)
{
	buf_reset(out);
	return jid_fold(jid, out) ? buf_span(out) : jid;
}

static void refuse(struct hub *h, const struct stanza *stanza, enum stanza_error e,
	enum counter why, struct turn *turn)
{
	h->counters[why]++;
	requests_refuse(h->requests, stanza, e, turn);
}

/* Write to the server. WRITER_FULL while there is no connection: answers wait then, and all else
 * is refused. */
static enum writer_status write_to_server(
	struct turn *turn, const struct stanza *stanza, const struct stanza_edit *edit)
{
	return turn->writer ? writer_stanza(turn->writer, stanza, edit) : WRITER_FULL;
}

/* Instances ----------------------------------------------------------------- */

static bool is_open(const struct hub_member *m)
{
	return m && !m->ending && !m->outlet.stuck;
}

static bool has_no_room(const struct hub *h, const struct hub_member *m)
{
	return h->config.congested(h->config.context, m->port);
}

/* What an instance is chosen for. */
struct choice {
	const struct request *tried; /* the request to try again; NULL: a new stanza */
	struct span sender, recipient;
	bool sticky; /* choose by sender and recipient, whatever the policy is */
	bool waits;  /* also for an instance whose output has no room now */
};

struct exclusion {
	const struct hub *hub;
	const struct choice *choice;
};

static bool excluded(const void *context, const struct worker *w)
{
	const struct exclusion *x = context;
	const struct hub_member *m = w->owner;
	const struct request *tried = x->choice->tried;

	return !is_open(m) || (has_no_room(x->hub, m) && !x->choice->waits) ||
	       (tried && requests_tried(tried, w));
}

static struct worker *choose_at(
	struct hub *h, const struct choice *choice, enum balance_tier tier, int64_t now_ms)
{
	struct exclusion x = {h, choice};
	struct balance_query query = {
		.user = h->config.sticky_by == HUB_BY_SENDER ? choice->sender : choice->recipient,
		.sticky = choice->sticky,
		.excluded = excluded,
		.context = &x,
		.now_ms = now_ms};

	return balance_choose(h->balance, tier, &query);
}

static struct hub_member *choose(struct hub *h, const struct choice *choice, int64_t now_ms)
{
	struct worker *w = NULL;

	for (int tier = 0; !w && tier < TIERS; tier++)
		w = choose_at(h, choice, (enum balance_tier)tier, now_ms);
	return w ? w->owner : NULL;
}

/* Choose the instance for a message or presence: always sticky. */
static struct hub_member *choose_sticky(struct hub *h, const struct stanza *stanza, int64_t now_ms)
{
	struct choice choice = {.sender = stanza->from, .recipient = stanza->to, .sticky = true};

	return choose(h, &choice, now_ms);
}

static bool any_open(const struct hub *h)
{
	const struct hub_member *m;
	bool any = false;

	LIST_FOREACH(m, &h->members, of_hub)
	any |= is_open(m);
	return any;
}

/* Why no instance can be chosen: none takes new work, or the outputs of all are too full. */
static void refuse_unchosen(struct hub *h, const struct stanza *stanza, struct turn *turn)
{
	if (any_open(h))
		refuse(h, stanza, ERROR_RESOURCE_CONSTRAINT, COUNT_CONSTRAINT, turn);
	else
		refuse(h, stanza, ERROR_SERVICE_UNAVAILABLE, COUNT_NO_INSTANCE, turn);
}

static void tell_advert(void *context, const struct stanza *stanza)
{
	outlet_write(context, stanza, &STANZA_KEEP);
}

static void on_request(struct hub *h, const struct stanza *stanza, struct turn *turn);

/* Something has changed for the queries that wait: an instance is there, or none will come. */
static void hand_queries(struct hub *h, struct turn *turn)
{
	struct stanza query;

	for (size_t n = early_queries(h->early); n--;)
		if (early_take_query(h->early, INT64_MAX, &query))
			on_request(h, &query, turn);
}

struct hub_member *hub_join(struct hub *h, struct writer *writer, void *port, struct turn *turn)
{
	struct hub_member *m = xcalloc(1, sizeof(*m)), *other;
	unsigned n = 1;
	char name[16];
	bool taken;

	do { /* the lowest free number, so that an instance that comes back gets its old number
	      */
		taken = false;
		LIST_FOREACH(other, &h->members, of_hub)
		taken |= hub_number(other) == n;
	} while (taken && ++n);
	snprintf(name, sizeof(name), "%u", n);
	outlet_open(&m->outlet, writer, &h->waiting);
	m->asker.outlet = &m->outlet;
	m->port = port;
	m->worker = worker_add(h->balance, span_of(name), 0, turn->now_ms);
	m->worker->owner = m;
	LIST_INSERT_HEAD(&h->members, m, of_hub);
	h->members_count++;
	early_each_advert(h->early, tell_advert, &m->outlet);
	hand_queries(h, turn);
	return m;
}

void hub_part(struct hub *h, struct hub_member *m, struct turn *turn)
{
	own_forget(h->own, &m->asker);
	origins_forget(h->origins, m);
	LIST_REMOVE(m, of_hub);
	h->members_count--;
	requests_worker_left(h->requests, m->worker, turn->now_ms);
	worker_leave(h->balance, m->worker, WORKER_LEFT);
	outlet_close(&m->outlet);
	free(m);
	requests_tick(h->requests, turn);
}

unsigned hub_number(const struct hub_member *m)
{
	return (unsigned)strtoul(m->worker->name.p, NULL, 10);
}

bool hub_is_ending(const struct hub_member *m)
{
	return m->ending;
}

size_t hub_load(const struct hub_member *m)
{
	/* the answers to what an outdated instance has asked may have been lost with the stream */
	return m->worker->load + (m->outdated ? 0 : m->asker.count);
}

bool hub_is_outdated(const struct hub_member *m)
{
	return m->outdated;
}

bool hub_is_stuck(const struct hub_member *m)
{
	return m->outlet.stuck;
}

bool hub_is_draining(const struct hub *h)
{
	return h->draining;
}

/* Requests from the server ---------------------------------------------------- */

/* We owe r an answer, so a full output is no reason to refuse it: hand() waits for room. */
static struct worker *choose_again(
	void *context, const struct request *r, enum balance_tier tier, int64_t now_ms)
{
	struct choice choice = {
		.tried = r, .sender = request_user(r), .recipient = request_asked(r)};
	struct worker *w = choose_at(context, &choice, tier, now_ms);

	choice.waits = true;
	return w ? w : choose_at(context, &choice, tier, now_ms);
}

static enum writer_status hand(
	void *context, struct request *r, struct worker *w, struct turn *turn)
{
	struct hub *h = context;
	struct stanza stanza;

	(void)turn;
	if (has_no_room(h, w->owner))
		return WRITER_FULL;
	if (!reader_one(h->reader, request_stanza(r), &stanza))
		return WRITER_TOO_LARGE;
	return outlet_write(&((struct hub_member *)w->owner)->outlet, &stanza, &STANZA_KEEP);
}

static enum writer_status hand_back(
	void *context, struct request *r, const struct stanza *stanza, struct turn *turn)
{
	struct stanza_edit edit = {
		.to = request_user(r), .from = request_asked(r), .id = request_id(r)};

	(void)context;
	return write_to_server(turn, stanza, &edit);
}

static void count_end(void *context, struct request *r, enum request_end end, int64_t now_ms)
{
	static const enum counter counters[REQUEST_ENDS] = {
		[END_ANSWERED] = COUNT_ANSWERS,
		[END_TIMEOUT] = COUNT_TIMEOUT,
		[END_NO_WORKER] = COUNT_NO_INSTANCE,
		[END_WORKER_LEFT] = COUNT_INSTANCE_LEFT,
		[END_STOPPED] = COUNT_STOPPED,
		[END_TOO_LARGE] = COUNT_TOO_LARGE,
		[END_NO_ROOM] = COUNT_CONSTRAINT,
	};

	(void)r;
	(void)now_ms;
	((struct hub *)context)->counters[counters[end]]++;
}

static void count_retry(void *context, struct request *r)
{
	(void)r;
	((struct hub *)context)->counters[COUNT_RETRIES]++;
}

static struct span without_spaces_behind(struct span s)
{
	while (s.n && (s.p[s.n - 1] == '\n' || s.p[s.n - 1] == ' '))
		s.n--;
	return s;
}

/* Send a new request to m, and keep it. pinned: no other instance could take its place. */
static void hand_first(struct hub *h, const struct table_key *key, const struct stanza *stanza,
	struct hub_member *m, bool pinned, struct turn *turn)
{
	size_t at = buf_length(m->outlet.writer->out);
	enum writer_status status = outlet_write(&m->outlet, stanza, &STANZA_KEEP);
	struct request_texts texts = {.user = stanza->from,
		.asked = stanza->to,
		.id = stanza->id,
		.set = stanza->type == TYPE_SET,
		.pinned = pinned};
	struct request *r = NULL;

	if (status == WRITER_OK) {
		texts.stanza =
			without_spaces_behind(span_from(buf_span(m->outlet.writer->out), at));
		r = requests_add(h->requests, key, &texts, turn->now_ms);
		if (!r)
			writer_take_back(m->outlet.writer);
	}
	if (r) {
		requests_handed(h->requests, r, m->worker, turn->now_ms);
		h->counters[COUNT_REQUESTS]++;
		if (pinned)
			steps_note_payload(h->steps, stanza, stanza->from, m->worker, turn->now_ms);
	} else if (status == WRITER_TOO_LARGE) {
		refuse(h, stanza, ERROR_POLICY_VIOLATION, COUNT_TOO_LARGE, turn);
	} else {
		refuse(h, stanza, ERROR_RESOURCE_CONSTRAINT, COUNT_CONSTRAINT, turn);
	}
}

static void on_request(struct hub *h, const struct stanza *stanza, struct turn *turn)
{
	struct span asked = folded(stanza->to, &h->asked);
	struct table_key key;
	struct hub_member *m;
	struct worker *w;
	bool step;

	if (h->draining) {
		refuse(h, stanza, ERROR_RECIPIENT_UNAVAILABLE, COUNT_STOPPED, turn);
		return;
	}
	key = requests_key(h->requests, share_key(&h->key, stanza->from, asked, stanza->id));
	if (!requests_may_add(h->requests, requests_find(h->requests, &key))) {
		refuse(h, stanza, ERROR_RESOURCE_CONSTRAINT, COUNT_CONSTRAINT, turn);
		return;
	}
	step = steps_of(h->steps, stanza, &w, turn->now_ms);
	m = w ? w->owner
	      : choose(h, &(struct choice){.sender = stanza->from, .recipient = asked},
			turn->now_ms);
	if (w && (m->outlet.stuck || has_no_room(h, m)))
		m = NULL;
	if (m)
		hand_first(h, &key, stanza, m, step, turn);
	else if (any_open(h) ||
		 !early_keep_query(h->early, stanza, turn->now_ms + h->config.timeout_ms))
		refuse_unchosen(h, stanza, turn);
}

static void on_iq(struct hub *h, const struct stanza *stanza, struct turn *turn)
{
	if (stanza_is_answer(stanza))
		h->counters[COUNT_STRAY] += !own_answer(h->own, stanza, turn);
	else if (stanza->refusal)
		refuse(h, stanza, ERROR_POLICY_VIOLATION, COUNT_TOO_LARGE, turn);
	else if (!stanza_iq_valid(stanza) || stanza->id.n > ID_MAX_BYTES)
		refuse(h, stanza, ERROR_BAD_REQUEST, COUNT_BAD_REQUEST, turn);
	else
		on_request(h, stanza, turn);
}

/* Messages and presence from the server ----------------------------------------- */

static void hand_message(
	struct hub *h, const struct stanza *stanza, struct hub_member *m, struct turn *turn)
{
	switch (outlet_write_shared(&m->outlet, stanza, turn->now_ms)) {
	case WRITER_OK:
		h->counters[COUNT_MESSAGES]++;
		break;
	case WRITER_TOO_LARGE:
		refuse(h, stanza, ERROR_POLICY_VIOLATION, COUNT_TOO_LARGE, turn);
		break;
	case WRITER_FULL:
		refuse(h, stanza, ERROR_RESOURCE_CONSTRAINT, COUNT_CONSTRAINT, turn);
	}
}

static void on_message(struct hub *h, const struct stanza *stanza, struct turn *turn)
{
	struct hub_member *m = origins_take_message(h->origins, stanza);

	if (stanza->refusal) {
		refuse(h, stanza, ERROR_POLICY_VIOLATION, COUNT_TOO_LARGE, turn);
	} else if (!m && early_note_advert(h->early, stanza)) {
		LIST_FOREACH(m, &h->members, of_hub)
		if (!m->ending)
			outlet_write(&m->outlet, stanza, &STANZA_KEEP);
	} else if (m || (m = choose_sticky(h, stanza, turn->now_ms))) {
		hand_message(h, stanza, m, turn);
	} else if (stanza->type == TYPE_ERROR) {
		h->counters[COUNT_UNDELIVERED]++;
	} else {
		refuse_unchosen(h, stanza, turn);
	}
}

static void count_presence(struct hub *h, enum writer_status status)
{
	if (status == WRITER_OK)
		h->counters[COUNT_PRESENCES]++;
	else
		h->counters[COUNT_UNDELIVERED]++;
}

/* Send the presence to each instance that has sent presence to that address, because it may have
 * subscribed there. */
static void on_presence(struct hub *h, const struct stanza *stanza, struct turn *turn)
{
	const struct origin *origin;
	struct hub_member *m;

	if (stanza->refusal) {
		h->counters[COUNT_UNDELIVERED]++;
		return;
	}
	origin = origins_find(h->origins, folded(jid_bare(stanza->from), &h->folded));
	if (!origin) {
		m = choose_sticky(h, stanza, turn->now_ms);
		count_presence(
			h, m ? outlet_write_shared(&m->outlet, stanza, turn->now_ms) : WRITER_FULL);
	}
	for (; origin; origin = origins_next(h->origins, origin)) {
		m = origin->instance;
		count_presence(h, outlet_write(&m->outlet, stanza, &STANZA_KEEP));
	}
}

static void hub_stanza(void *self, const struct stanza *stanza, struct turn *turn)
{
	struct hub *h = self;

	if (!stanza->from.n || !jid_at_domain(folded(stanza->to, &h->folded), h->config.domain))
		h->counters[COUNT_FOREIGN]++;
	else if (stanza->kind == STANZA_IQ)
		on_iq(h, stanza, turn);
	else if (stanza->kind == STANZA_MESSAGE)
		on_message(h, stanza, turn);
	else
		on_presence(h, stanza, turn);
}

/* What instances write ------------------------------------------------------------ */

/* Take an instance's answer to a request that it was asked. */
static void own_reply(struct hub *h, struct hub_member *m, const struct stanza *stanza,
	struct span from, struct turn *turn)
{
	struct table_key key =
		requests_key(h->requests, share_key(&h->key, stanza->to, from, stanza->id));
	struct request *r = stanza->id.n ? requests_find(h->requests, &key) : NULL;

	for (; r; r = requests_next(h->requests, r)) {
		struct request_try *try = requests_try_of(r, m->worker);

		if (!try)
			continue;
		if (stanza->type == TYPE_RESULT)
			steps_note_payload(
				h->steps, stanza, request_user(r), m->worker, turn->now_ms);
		requests_answered(h->requests, try, stanza, turn);
		return;
	}
	h->counters[COUNT_STRAY]++;
}

static void own_iq(struct hub *h, struct hub_member *m, const struct stanza *stanza,
	struct span from, struct turn *turn)
{
	if (stanza_is_answer(stanza))
		own_reply(h, m, stanza, from, turn);
	else if (stanza->refusal)
		outlet_refuse(&m->outlet, stanza, ERROR_POLICY_VIOLATION,
			"larger than --max-stanza-bytes");
	else if (!stanza_iq_valid(stanza))
		outlet_refuse(&m->outlet, stanza, ERROR_BAD_REQUEST, NULL);
	else if (own_ask(h->own, &m->asker, stanza, from, turn)) {
		h->counters[COUNT_OWN]++;
		steps_note_payload(h->steps, stanza, stanza->to, m->worker, turn->now_ms);
	}
}

/* Send an instance's message or presence to the server. */
static void pass_on(struct hub *h, struct hub_member *m, const struct stanza *stanza,
	struct span from, struct turn *turn)
{
	struct stanza_edit edit = {.from = span_equal(from, stanza->from) ? SPAN_NONE : from};
	enum writer_status status =
		stanza->refusal ? WRITER_TOO_LARGE : write_to_server(turn, stanza, &edit);

	if (status != WRITER_OK) {
		if (stanza->kind == STANZA_MESSAGE)
			outlet_refuse(&m->outlet, stanza,
				status == WRITER_FULL ? ERROR_RESOURCE_CONSTRAINT
						      : ERROR_POLICY_VIOLATION,
				NULL);
		h->counters[COUNT_UNDELIVERED]++;
		return;
	}
	if (stanza->kind == STANZA_MESSAGE)
		origins_note_message(h->origins, m, stanza, from, turn->now_ms);
	else
		origins_note_address(
			h->origins, m, folded(jid_bare(stanza->to), &h->asked), turn->now_ms);
}

/* Send a stanza that an instance addressed to its own domain back to it, as a server does:
 * components check their link that way. Two kinds of these stanzas are for us. */
static void turn_back(
	struct hub *h, struct hub_member *m, const struct stanza *stanza, struct span from)
{
	bool to_domain = span_equal(folded(stanza->to, &h->asked), h->config.domain);

	if (stanza->kind == STANZA_PRESENCE && stanza->type == TYPE_UNAVAILABLE && to_domain &&
		span_equal(from, h->config.domain))
		m->ending = true;
	else if (stanza_is_answer(stanza) && worker_is_pong(m->worker, stanza->id))
		return;
	else if (stanza->refusal || outlet_write(&m->outlet, stanza, &STANZA_KEEP) != WRITER_OK)
		h->counters[COUNT_UNDELIVERED]++;
}

/* The address that an instance sends from, as the server would write it: not every component
 * library normalises its domain, which may have letters beyond ASCII. */
static struct span sender_of(struct hub *h, const struct stanza *stanza)
{
	struct span from = folded(stanza->from, &h->folded);
	struct jid jid;

	if (!jid_split(from, &jid) || span_equal(jid.domain, h->config.domain))
		return from;
	buf_reset(&h->folded);
	return jid_normalise(stanza->from, &h->folded) ? buf_span(&h->folded) : stanza->from;
}

enum hub_verdict hub_stanza_of(
	struct hub *h, struct hub_member *m, const struct stanza *stanza, struct turn *turn)
{
	struct span from = sender_of(h, stanza);
	struct jid jid;

	if (stanza->kind == STANZA_OTHER)
		return HUB_UNSUPPORTED_STANZA_TYPE;
	if (!jid_split(from, &jid) || !span_equal(jid.domain, h->config.domain))
		return HUB_INVALID_FROM;
	if (!jid_split(stanza->to, &jid))
		return HUB_IMPROPER_ADDRESSING;
	if (stanza->kind != STANZA_PRESENCE)
		worker_alive(h->balance, m->worker, turn->now_ms);
	if (jid_at_domain(folded(stanza->to, &h->asked), h->config.domain))
		turn_back(h, m, stanza, from);
	else if (stanza->kind == STANZA_IQ)
		own_iq(h, m, stanza, from, turn);
	else
		pass_on(h, m, stanza, from, turn);
	return HUB_TAKEN;
}

/* Life ------------------------------------------------------------------------------ */

/* A component answers a ping to its own domain. The ping comes from an address that no other
 * session has. */
static enum writer_status ping(void *context, const struct worker *w, struct turn *turn)
{
	struct hub *h = context;
	struct hub_member *m = w->owner;

	(void)turn;
	buf_reset(&h->key);
	buf_append_span(&h->key, h->config.domain);
	buf_append_char(&h->key, '/');
	buf_append_span(&h->key, span_of(w->ping_id));
	writer_start(m->outlet.writer, "iq", "get", span_of(w->ping_id), h->config.domain,
		buf_span(&h->key));
	writer_raw(m->outlet.writer, "><ping xmlns='" NS_PING "'/></iq>");
	outlet_wrote(&m->outlet, writer_end(m->outlet.writer));
	return WRITER_OK;
}

static void suspects_changed(void *context, struct worker *suspect, int64_t now_ms)
{
	struct hub *h = context;

	requests_hedge(h->requests, suspect, now_ms);
}

static void make_tables(struct hub *h, const uint64_t seed[2])
{
	const struct hub_config *c = &h->config;
	struct shares_config shares = c->pending;

	shares.own = &h->config.domain;
	shares.own_count = 1;
	memcpy(shares.seed, seed, sizeof(shares.seed));
	h->shares = shares_new(&shares);
	h->waiting = shares;
	h->requests = requests_new(&(struct requests_config){.max = c->pending.max,
		.workers_apart = true,
		.max_bytes = c->pending.max_bytes,
		.seed = {seed[0], seed[1]},
		.timeout_ms = c->timeout_ms,
		.balance = h->balance,
		.shares = h->shares,
		.choose = choose_again,
		.hand = hand,
		.answer = hand_back,
		.ending = count_end,
		.again = count_retry,
		.context = h});
	h->steps = steps_new(&(struct steps_config){.max = c->max_addresses,
		.max_bytes = c->pending.max_bytes,
		.max_of_one = STEPS_OF_ONE,
		.life_ms = STEP_LIFE_MS,
		.seed = {seed[0], seed[1]},
		.balance = h->balance,
		.shares = h->shares});
	h->own = own_new(&h->config.random, seed);
	h->origins = origins_new(c->max_addresses, seed);
}

struct hub *hub_new(const struct hub_config *config)
{
	struct hub *h = xcalloc(1, sizeof(*h));
	uint64_t seed[2];

	h->config = *config;
	seed[0] = random_draw(&config->random);
	seed[1] = random_draw(&config->random);
	LIST_INIT(&h->members);
	h->balance = balance_new(&(struct balance_config){.policy = config->policy,
		.try_timeout_ms = config->try_timeout_ms,
		.noun = "instance",
		.random = config->random,
		.ping = ping,
		.changed = suspects_changed,
		.context = h});
	make_tables(h, seed);
	h->early = early_new(h->config.domain);
	h->reader = reader_new_again(SIZE_MAX / 4, READER_INDEX_CHILDREN);
	buf_init(&h->key, BUF_NO_MAX);
	buf_init(&h->folded, BUF_NO_MAX);
	buf_init(&h->asked, BUF_NO_MAX);
	return h;
}

void hub_free(struct hub *h)
{
	struct hub_member *m;

	if (!h)
		return;
	/* it leaves the list NOLINTNEXTLINE(clang-analyzer-unix.Malloc) */
	while ((m = LIST_FIRST(&h->members)))
		hub_part(/* NOLINT(clang-analyzer-unix.Malloc) */ h, m, &(struct turn){0});
	requests_free(h->requests);
	steps_free(h->steps);
	own_free(h->own);
	shares_free(h->shares);
	balance_free(h->balance);
	origins_free(h->origins);
	early_free(h->early);
	reader_free(h->reader);
	buf_free(&h->key);
	buf_free(&h->folded);
	buf_free(&h->asked);
	free(h);
}

/* The service ------------------------------------------------------------------------ */

/* The server sends them again with the next stream; what it no longer grants is not told. */
static void hub_down(void *self, struct turn *turn)
{
	struct hub *h = self;
	struct hub_member *m;

	(void)turn;
	early_forget_adverts(h->early);
	LIST_FOREACH(m, &h->members, of_hub)
	m->outdated = true;
}

/* What a component does at the beginning of a stream (subscribe, probe, advertise) is due again. */
static void hub_up(void *self, struct turn *turn)
{
	struct hub_member *m;

	(void)turn;
	LIST_FOREACH(m, &((struct hub *)self)->members, of_hub)
	m->ending |= m->outdated;
}

static void hub_tick(void *self, struct turn *turn)
{
	struct hub *h = self;

	struct stanza query;

	while (turn->writer && early_take_query(h->early, turn->now_ms, &query))
		refuse_unchosen(h, &query, turn);
	balance_tick(h->balance, turn);
	requests_tick(h->requests, turn);
	own_tick(h->own, turn);
	steps_tick(h->steps, turn->now_ms);
	origins_tick(h->origins, turn->now_ms);
}

static int64_t hub_deadline(const void *self)
{
	const struct hub *h = self;
	const int64_t all_ms[] = {requests_deadline(h->requests), balance_deadline(h->balance),
		own_deadline(h->own), origins_deadline(h->origins), early_deadline(h->early),
		steps_deadline(h->steps)};

	return deadline_first(all_ms, sizeof(all_ms) / sizeof(all_ms[0]));
}

static void hub_drain(void *self, struct turn *turn)
{
	struct hub *h = self;

	h->draining = true;
	hand_queries(h, turn);
}

static void hub_finish(void *self, struct turn *turn)
{
	struct hub *h = self;

	hub_drain(h, turn);
	requests_finish(h->requests, turn);
}

static size_t hub_open_requests(const void *self)
{
	return requests_count(((const struct hub *)self)->requests);
}

static size_t hub_metrics(const void *self, struct metric *out, size_t max)
{
	const struct hub *h = self;
	const struct metric gauges[] = {
		{"instances", NULL, "instances connected", METRIC_GAUGE, h->members_count},
		{"suspect_instances", NULL, "of these, those that show no life", METRIC_GAUGE,
			balance_count(h->balance, TIER_USABLE) -
				balance_count(h->balance, TIER_WELL)},
		{"pending_requests", NULL, "requests waiting for their answer", METRIC_GAUGE,
			requests_count(h->requests)},
		{"pending_bytes", NULL, "memory held by open requests", METRIC_GAUGE,
			requests_bytes(h->requests)},
		{"pending_own_requests", NULL, "requests of instances waiting for their answer",
			METRIC_GAUGE, own_count(h->own)},
		{"addresses", NULL, "addresses that instances have sent presence to", METRIC_GAUGE,
			origins_addresses(h->origins)},
	};
	size_t n = metrics_add(out, 0, max, gauges, sizeof(gauges) / sizeof(gauges[0]));

	return metrics_add_counters(out, n, max, counter_names, h->counters, COUNTERS);
}

const struct service_ops hub_ops = {.up = hub_up,
	.down = hub_down,
	.stanza = hub_stanza,
	.tick = hub_tick,
	.deadline = hub_deadline,
	.drain = hub_drain,
	.finish = hub_finish,
	.open_requests = hub_open_requests,
	.metrics = hub_metrics};
