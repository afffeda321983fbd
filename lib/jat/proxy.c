#include "jat/proxy.h"

#include <limits.h>
#include <stdio.h>
#include <stdlib.h>

#include "base/deadline.h"
#include "base/err.h"
#include "jat/audience.h"
#include "jat/counters.h"
#include "jat/items.h"
#include "jat/marks.h"
#include "jat/route.h"
#include "jat/tokens.h"
#include "xmpp/jid.h"
#include "xmpp/peek.h"
#include "xmpp/reader.h"
#include "xmpp/requests.h"
#include "xmpp/steps.h"

/* An outbound request's id: unguessable, so that its answer can be told from a forgery. */
#define OUTBOUND_ID_BYTES 16
/* How many open requests of one user with one id are searched to find a session that has none of
 * them.
 */
#define MAX_EQUAL 32
#define STEPS_OF_ONE 16
#define AFFINITY_MS (60 * 60 * 1000)
#define MAX_ID_BYTES 1023

struct jatproxy {
	struct jatproxy_config config;
	struct tokens tokens;	/* A and D are tokens.own and tokens.served */
	struct span *own_names; /* domains without a share: D's, A's, the targets' */
	size_t own_names_count;
	struct session_table *sessions;
	struct balance *balance; /* a worker is a session; its owner the struct session */
	struct shares *shares;
	struct requests *requests;
	struct steps *steps, *affinities; /* of requests; of messages */
	struct audience *audience;
	struct marks *marks;
	const struct session *best; /* whose presence is shown */
	bool draining, finishing;
	struct route route;
	struct reader *again, *deep; /* to parse a stanza once more: its root; all of it */
	struct buf key, scratch, labels;
	uint64_t counters[COUNTERS];
};

/* Names ------------------------------------------------------------------ */

static bool is_own_name(const struct jatproxy *p, struct span domain)
{
	for (size_t i = 0; i < p->own_names_count; i++)
		if (span_equal(p->own_names[i], domain))
			return true;
	return false;
}

/* What a user counts under where a table is full: the domain, but each user of our own ones alone.
 */
static struct span group_of(void *context, struct span user)
{
	const struct jatproxy *p = context;
	struct span domain = jid_domain(user);

	return is_own_name(p, domain) ? jid_bare(user) : domain;
}

static void key_of(struct buf *key, char kind, struct span a, struct span b, struct span c)
{
	buf_reset(key);
	buf_append_char(key, kind);
	buf_append_span(key, a);
	buf_append_char(key, '\0');
	buf_append_span(key, b);
	buf_append_char(key, '\0');
	buf_append_span(key, c);
}

/* The key of a request: token and id, by which its answer is found. */
static struct span key_of_token(struct jatproxy *p, struct span token, struct span id)
{
	key_of(&p->key, 'q', token, id, SPAN(""));
	return buf_span(&p->key);
}

/* A/TOKEN for a user who asked `asked` into p->tokens.address; returns the token in it. */
static struct span token_for(
	struct jatproxy *p, struct span asked, struct span user, int64_t now_ms)
{
	return tokens_make(&p->tokens, group_of(p, user), asked, user, now_ms);
}

/* Whether a stanza of a target to A/x means the user in the token x, not A/x itself. */
static bool is_token(struct jatproxy *p, const struct stanza *s, struct span *token,
	struct span *user, struct span *asked)
{
	return session_target(p->sessions, s->from) >= 0 &&
	       tokens_read(&p->tokens, s->to, token, user, asked);
}

/* Answering -------------------------------------------------------------- */

static void refuse(struct jatproxy *p, const struct stanza *s, enum stanza_error e,
	enum counter why, struct turn *turn)
{
	p->counters[why]++;
	requests_refuse(p->requests, s, e, turn);
}

static void send_presence(
	void *context, struct span to, struct span from, const char *type, struct turn *turn)
{
	struct jatproxy *p = context;
	struct writer w;

	writer_start(turn->writer, "presence", type, SPAN_NONE, to, from);
	writer_raw(turn->writer, "/>");
	if (writer_end(turn->writer) != WRITER_FULL)
		return;
	buf_reset(&p->scratch);
	writer_init(&w, &p->scratch, WRITER_SOCKET, 0);
	writer_start(&w, "presence", type, SPAN_NONE, to, from);
	writer_raw(&w, "/>");
	writer_end(&w);
	requests_owe(p->requests, buf_span(&p->scratch));
}

/* An answer that was not handed on. */
static void refuse_unsent(
	struct jatproxy *p, const struct stanza *s, enum writer_status status, struct turn *turn)
{
	if (status == WRITER_TOO_LARGE)
		refuse(p, s, ERROR_POLICY_VIOLATION, COUNT_TOO_LARGE, turn);
	else
		refuse(p, s, ERROR_RESOURCE_CONSTRAINT, COUNT_CONSTRAINT, turn);
}

/* Choosing a session ----------------------------------------------------- */

/* Sessions that a request must not go to. */
struct exclusion {
	const struct jatproxy *p;
	struct span self;	     /* the requester, if it is a session */
	const struct request *tried; /* those it has been tried on */
	const struct request *same;  /* those that hold an equal request (and the following ones) */
};

static bool excluded(const void *context, const struct worker *w)
{
	const struct exclusion *x = context;
	int equal = 0;

	if (span_equal(x->self, w->name) || (x->tried && requests_tried(x->tried, w)))
		return true;
	for (const struct request *r = x->same; r && equal++ < MAX_EQUAL;
		r = requests_next(x->p->requests, r))
		if (requests_try_of((struct request *)r, w))
			return true;
	return false;
}

static struct worker *choose(struct jatproxy *p, enum balance_tier tier, struct exclusion *x,
	struct span user, int64_t now_ms)
{
	bool all = !x->self.p && !x->tried && !x->same;
	struct balance_query query = {
		.user = user, .excluded = all ? NULL : excluded, .context = x, .now_ms = now_ms};

	return balance_choose(p->balance, tier, &query);
}

/* The session for a new request or message of user. same: open requests it must be told from. */
static struct worker *choose_first(
	struct jatproxy *p, struct span user, const struct request *same, int64_t now_ms)
{
	bool session = session_target(p->sessions, user) >= 0;
	struct exclusion x = {.p = p, .self = session ? user : SPAN_NONE, .same = same};
	struct worker *w = NULL;

	for (int tier = 0; !w && tier < TIERS; tier++) {
		x.same = same;
		w = choose(p, (enum balance_tier)tier, &x, user, now_ms);
		if (w || !same)
			continue;
		x.same = NULL; /* all hold an equal one: answers are matched in order */
		w = choose(p, (enum balance_tier)tier, &x, user, now_ms);
	}
	if (!w && session) { /* the asking session only if there is no other */
		x = (struct exclusion){.p = p};
		w = choose(p, TIER_USABLE, &x, user, now_ms);
	}
	return w;
}

static struct worker *choose_again(
	void *context, const struct request *r, enum balance_tier tier, int64_t now_ms)
{
	struct exclusion x = {.p = context, .self = r->user, .tried = r};

	return choose(context, tier, &x, r->user, now_ms);
}

/* The session that a request belongs to by what it says: the one that has its conversation in
 * hand, or the one whose capabilities are shown and asked for. */
static struct worker *choose_by_payload(
	struct jatproxy *p, const struct stanza *s, bool *step, struct turn *turn)
{
	struct stanza deep;
	const struct xml_node *payload;
	unsigned flags = peek_payload(s);

	*step = false;
	if (!(flags & PEEK_ID) && !(flags & PEEK_DISCO && p->best && p->best->caps))
		return NULL;
	if (!reader_one(p->deep, s->raw, &deep))
		return NULL;
	*step = steps_key(&deep, s->from, &p->scratch);
	if (*step)
		return steps_find(p->steps, buf_span(&p->scratch), turn->now_ms);
	payload = stanza_payload(&deep);
	if (p->best && p->best->caps && payload && xml_is(payload, NS_DISCO_INFO, "query") &&
		span_is(xml_attribute(payload, "node"), p->best->caps))
		return balance_find(p->balance, p->best->jid);
	return NULL;
}

/* The conversation of s, a result or request of user or to user, belongs to w from now on. */
static void note_step(struct jatproxy *p, const struct stanza *s, struct span user,
	struct worker *w, int64_t now_ms)
{
	struct stanza deep;

	if (peek_payload(s) & PEEK_ID && reader_one(p->deep, s->raw, &deep) &&
		steps_key(&deep, user, &p->key))
		steps_note(p->steps, group_of(p, user), user, buf_span(&p->key), w, now_ms);
}

/* Requests --------------------------------------------------------------- */

static struct span trimmed(struct span s)
{
	while (s.n && (s.p[s.n - 1] == '\n' || s.p[s.n - 1] == ' '))
		s.n--;
	return s;
}

/* s stands in the output for w, from `at` on: it is an open request now. False: no room, it is
 * taken back. */
static bool request_open(struct jatproxy *p, const struct stanza *s, const struct table_key *key,
	struct request *r, size_t at, struct worker *w, struct turn *turn)
{
	r->stanza = trimmed(span_from(buf_span(turn->writer->out), at));
	r->set = s->type == TYPE_SET;
	r = requests_add(p->requests, key, r, turn->now_ms);
	if (!r) {
		writer_take_back(turn->writer);
		return false;
	}
	tokens_opened(&p->tokens, r->token);
	requests_handed(p->requests, r, w, turn->now_ms);
	p->counters[COUNT_REQUESTS]++;
	return true;
}

/* A user's get or set: on to a session. */
static void on_request(struct jatproxy *p, const struct stanza *s, struct turn *turn)
{
	struct request r = {
		.user = s->from, .asked = s->to.p ? s->to : p->tokens.served, .id = s->id};
	struct stanza_edit edit = STANZA_KEEP;
	struct table_key key;
	struct worker *w;
	size_t at = buf_length(turn->writer->out);
	enum writer_status status;

	if (p->draining) {
		refuse(p, s, ERROR_RECIPIENT_UNAVAILABLE, COUNT_STOPPED, turn);
		return;
	}
	if (balance_count(p->balance, TIER_THERE) == 0) {
		refuse(p, s, ERROR_SERVICE_UNAVAILABLE, COUNT_NO_SESSION, turn);
		return;
	}
	w = choose_by_payload(p, s, &r.pinned, turn);
	r.token = token_for(p, r.asked, s->from, turn->now_ms);
	if (!r.token.p) {
		refuse(p, s, ERROR_RESOURCE_CONSTRAINT, COUNT_CONSTRAINT, turn);
		return;
	}
	key = requests_key(p->requests, key_of_token(p, r.token, s->id));
	if (!requests_may_add(p->requests, &key)) {
		refuse(p, s, ERROR_RESOURCE_CONSTRAINT, COUNT_CONSTRAINT, turn);
		return;
	}
	if (!w)
		w = choose_first(p, s->from, requests_find(p->requests, &key), turn->now_ms);
	edit.to = w->name;
	edit.from = buf_span(&p->tokens.address);
	status = writer_stanza(turn->writer, s, &edit);
	if (status != WRITER_OK)
		refuse_unsent(p, s, status, turn);
	else if (!request_open(p, s, &key, &r, at, w, turn))
		refuse(p, s, ERROR_RESOURCE_CONSTRAINT, COUNT_CONSTRAINT, turn);
	else if (r.pinned)
		note_step(p, s, s->from, w, turn->now_ms);
}

/* A target's get or set to A/TOKEN: on to the user, under an id nobody can guess. */
static void on_outbound(struct jatproxy *p, const struct stanza *s, struct span token,
	struct span user, struct span asked, struct turn *turn)
{
	char id[2 * OUTBOUND_ID_BYTES + 1];
	struct stanza_edit edit = {.to = user, .from = asked};
	struct request texts = {
		.user = s->from, .asked = s->to, .id = s->id, .token = token, .unshared = true};
	struct worker *w = balance_find(p->balance, s->from);
	struct table_key key;
	struct request *r;
	enum writer_status status = WRITER_FULL;

	if (p->draining) {
		refuse(p, s, ERROR_RECIPIENT_UNAVAILABLE, COUNT_STOPPED, turn);
		return;
	}
	if (w)
		note_step(p, s, user, w, turn->now_ms);
	snprintf(id, sizeof(id), "%016llx%016llx",
		(unsigned long long)p->config.random(p->config.context),
		(unsigned long long)p->config.random(p->config.context));
	edit.id = span_of(id);
	key_of(&p->key, 'o', edit.to, edit.from, edit.id);
	key = requests_key(p->requests, buf_span(&p->key));
	r = requests_add(p->requests, &key, &texts, turn->now_ms);
	if (r) {
		tokens_opened(&p->tokens, r->token);
		status = writer_stanza(turn->writer, s, &edit);
	}
	if (status == WRITER_OK) {
		p->counters[COUNT_REQUESTS]++;
		return;
	}
	if (r) {
		tokens_closed(&p->tokens, r->token);
		requests_forget(p->requests, r);
	}
	refuse_unsent(p, s, status, turn);
}

/* Written again for another session: requests_config.hand. */
static enum writer_status hand(
	void *context, struct request *r, struct worker *w, struct turn *turn)
{
	struct jatproxy *p = context;
	struct stanza_edit edit = {.to = w->name};
	struct stanza s;

	if (!reader_one(p->again, r->stanza, &s))
		return WRITER_TOO_LARGE;
	return writer_stanza(turn->writer, &s, &edit);
}

static enum writer_status answer(
	void *context, struct request *r, const struct stanza *s, struct turn *turn)
{
	struct jatproxy *p = context;
	struct stanza_edit edit = {.to = r->user, .from = r->asked};
	struct stanza changed;

	if (!span_equal(r->id, s->id))
		edit.id = r->id;
	if (r->tries_count && !p->config.keep_item_jids && s->type == TYPE_RESULT &&
		peek_payload(s) & PEEK_DISCO) {
		const struct items_config items = {.targets = p->config.targets,
			.targets_count = p->config.targets_count,
			.asked = r->asked};

		buf_reset(&p->scratch);
		if (items_rewrite(&items, s, p->deep, &p->scratch) &&
			reader_one(p->again, buf_span(&p->scratch), &changed))
			s = &changed;
	}
	return writer_stanza(turn->writer, s, &edit);
}

/* A successor is not to take another answer to this request on its token. */
static void mark_key(struct jatproxy *p, struct span key)
{
	char mark[MARK_CHARS + 1];

	if (!p->config.marked)
		return;
	mark_of(key, mark);
	p->config.marked(p->config.context, mark);
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

	(void)now_ms;
	p->counters[counters[end]]++;
	/* a session may answer yet: ours was an error, or another one had the request, too */
	if (r->tries_count >= (end == END_ANSWERED ? 2 : 1))
		mark_key(p, request_key(r));
}

static void handed_again(void *context, struct request *r)
{
	(void)r;
	((struct jatproxy *)context)->counters[COUNT_RETRIES]++;
}

static void request_removed(void *context, struct request *r, int64_t now_ms)
{
	struct jatproxy *p = context;

	tokens_closed(&p->tokens, r->token);
	marks_answered(p->marks, request_key(r), now_ms);
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
	worker_alive(p->balance, w, turn->now_ms);
	if (s->type == TYPE_RESULT)
		note_step(p, s, try->request->user, w, turn->now_ms);
	requests_answered(p->requests, try, s, turn);
}

/* After a crash: the predecessor's requests are not in the table, but their tokens verify. */
static bool grace_answer(struct jatproxy *p, const struct stanza *s, struct span token,
	struct span user, struct span asked, struct turn *turn)
{
	struct stanza_edit edit = {.to = user, .from = asked};
	/* the address that the predecessor was asked, as far as it is known */
	const struct stanza request = {
		.kind = STANZA_IQ, .type = TYPE_GET, .to = asked, .from = user, .id = s->id};

	if (token.p[0] == ALIAS_MARK ||
		!marks_take(p->marks, key_of_token(p, token, s->id), turn->now_ms))
		return false;
	/* another session may have had the request, too, and this process may crash as well */
	mark_key(p, buf_span(&p->key));
	p->counters[COUNT_ANSWERS]++;
	if (s->refusal || writer_stanza(turn->writer, s, &edit) != WRITER_OK)
		requests_refuse(p->requests, &request, ERROR_POLICY_VIOLATION, turn);
	return true;
}

/* Life of a session: anything it says by itself, but no bounce of its server. */
static void note_life(struct jatproxy *p, const struct stanza *s, int64_t now_ms)
{
	struct worker *w = balance_find(p->balance, s->from);

	if (w && requests_bounce_of(s, w) == BOUNCE_NONE)
		worker_alive(p->balance, w, now_ms);
}

/* Of the open requests with this token and id the one that s answers, as far as its session was
 * asked. *open: there are some. */
static struct request_try *find_try(struct jatproxy *p, const struct stanza *s, bool *open)
{
	struct table_key key;
	struct request *r;
	struct jid to;

	*open = false;
	if (!s->id.n || !jid_split(s->to, &to) || to.local.p || !to.resource.p ||
		!span_equal(to.domain, p->tokens.own))
		return NULL;
	key = requests_key(p->requests, key_of_token(p, to.resource, s->id));
	for (r = requests_find(p->requests, &key); r; r = requests_next(p->requests, r)) {
		*open = true;
		for (unsigned i = 0; i < r->tries_count; i++)
			if (r->tries[i].state != TRY_CLOSED &&
				span_equal(r->tries[i].worker->name, s->from))
				return &r->tries[i];
	}
	return NULL;
}

/* A user's answer to a request of a session. */
static bool on_outbound_answer(struct jatproxy *p, const struct stanza *s, struct turn *turn)
{
	struct table_key key;
	struct request *r;

	if (!p->config.outbound_iq || !s->id.n)
		return false;
	key_of(&p->key, 'o', s->from, s->to, s->id);
	key = requests_key(p->requests, buf_span(&p->key));
	r = requests_find(p->requests, &key);
	if (!r || r->owed)
		return false;
	requests_deliver(p->requests, r, s, turn);
	return true;
}

static void on_answer(struct jatproxy *p, const struct stanza *s, struct turn *turn)
{
	struct span token = SPAN_NONE, user, asked;
	bool open;
	struct request_try *try = find_try(p, s, &open);

	if (try) {
		on_answer_of(p, try, s, turn);
		return;
	}
	note_life(p, s, turn->now_ms);
	if (on_outbound_answer(p, s, turn))
		return;
	if (s->id.n && p->tokens.jat.encoding != JAT_PLAIN && jid_is_full(s->from) &&
		is_token(p, s, &token, &user, &asked)) {
		/* what is open here is judged by the table alone */
		if (open || !grace_answer(p, s, token, user, asked, turn))
			p->counters[COUNT_LATE]++;
		return;
	}
	p->counters[COUNT_STRAY]++;
}

/* Sessions --------------------------------------------------------------- */

static bool in_rotation(const struct jatproxy *p, const struct session *s)
{
	return s->priority >= p->config.min_priority &&
	       !(s->show == SHOW_XA && p->config.drain_xa) &&
	       !(s->show == SHOW_DND && p->config.drain_dnd) &&
	       !(s->show == SHOW_AWAY && p->config.drain_away);
}

static void session_arrived(void *context, struct session *s, struct turn *turn)
{
	struct jatproxy *p = context;
	struct worker *w = worker_add(p->balance, s->jid, s->target, turn->now_ms);

	s->owner = w;
	w->owner = s;
}

static void session_left(void *context, struct session *s, bool link_down, struct turn *turn)
{
	struct jatproxy *p = context;
	struct worker *w = s->owner;

	if (!link_down)
		requests_worker_left(p->requests, w, turn->now_ms);
	s->owner = NULL;
	worker_leave(p->balance, w, link_down ? WORKER_LOST : WORKER_LEFT);
	if (p->best == s)
		p->best = NULL;
}

static void session_alive(void *context, struct session *s, struct turn *turn)
{
	worker_alive(((struct jatproxy *)context)->balance, s->owner, turn->now_ms);
}

/* The one that subscribers see: of the highest priority the one that came first. The one that is
 * shown already stays while no other has a higher one. */
static const struct session *best_session(const struct jatproxy *p)
{
	const struct session *best = p->best;

	for (size_t i = 0; i < session_count(p->sessions); i++) {
		const struct session *s = session_at(p->sessions, i);

		if (!best || s->priority > best->priority)
			best = s;
	}
	return best;
}

static void sessions_changed(void *context, struct turn *turn)
{
	struct jatproxy *p = context;

	for (size_t i = 0; i < session_count(p->sessions); i++) {
		const struct session *s = session_at(p->sessions, i);

		worker_drain(p->balance, s->owner, !in_rotation(p, s));
	}
	if (!p->config.show_presence || !turn->writer)
		return;
	p->best = best_session(p);
	audience_show(p->audience,
		!p->best	   ? NULL
		: p->best->details ? p->best->details
				   : "",
		turn);
}

static enum writer_status ping(void *context, const struct worker *w, struct turn *turn)
{
	const struct jatproxy *p = context;

	writer_start(turn->writer, "iq", "get", span_of(w->ping_id), w->name, p->tokens.own);
	writer_raw(turn->writer, "><ping xmlns='" NS_PING "'/></iq>");
	return writer_end(turn->writer);
}

static void suspects_changed(void *context, struct worker *suspect, int64_t now_ms)
{
	requests_hedge(((struct jatproxy *)context)->requests, suspect, now_ms);
}

/* Its server has bounced a request, but has not said that it has left. */
static void doubted(void *context, struct worker *w, struct turn *turn)
{
	struct jatproxy *p = context;

	worker_suspect(p->balance, w, turn->now_ms);
	session_doubt(p->sessions, w->owner, turn);
}

/* Messages --------------------------------------------------------------- */

static struct span affinity_key(struct jatproxy *p, struct span user)
{
	key_of(&p->key, 'a', jid_bare(user), SPAN(""), SPAN(""));
	return buf_span(&p->key);
}

static void affinity_note(struct jatproxy *p, struct span user, struct worker *w, int64_t now_ms)
{
	steps_note(
		p->affinities, group_of(p, user), jid_bare(user), affinity_key(p, user), w, now_ms);
}

static void send_message(struct jatproxy *p, const struct stanza *s, struct span to,
	struct span from, struct turn *turn)
{
	struct stanza_edit edit = {.to = to, .from = from};
	enum writer_status status =
		s->refusal ? WRITER_TOO_LARGE : writer_stanza(turn->writer, s, &edit);

	if (status == WRITER_OK)
		p->counters[COUNT_MESSAGES]++;
	else
		refuse_unsent(p, s, status, turn);
}

/* A user's message: to the session of the conversation, else by policy, else to the account, whose
 * server keeps it. */
static void on_user_message(struct jatproxy *p, const struct stanza *s, struct turn *turn)
{
	struct worker *w = steps_find(p->affinities, affinity_key(p, s->from), turn->now_ms);
	size_t targets = p->config.targets_count;
	struct span to;

	if (!w)
		w = choose_first(p, s->from, NULL, turn->now_ms);
	/* the server does not keep errors, and an invalid token has no address to answer from */
	if (s->type == TYPE_ERROR && (!w || session_target(p->sessions, s->from) >= 0)) {
		p->counters[COUNT_IGNORED]++;
		return;
	}
	if (w) {
		to = w->name;
		affinity_note(p, s->from, w, turn->now_ms);
	} else {
		const uint64_t seed[2] = {0, 0};

		to = p->config.targets[table_hash(seed, jid_bare(s->from)) % targets];
	}
	if (!token_for(p, s->to, s->from, turn->now_ms).p)
		refuse(p, s, ERROR_RESOURCE_CONSTRAINT, COUNT_CONSTRAINT, turn);
	else
		send_message(p, s, to, buf_span(&p->tokens.address), turn);
}

static void on_message(struct jatproxy *p, const struct stanza *s, struct turn *turn)
{
	struct span token, user, asked;
	struct worker *w;

	if (s->type != TYPE_ERROR && session_target(p->sessions, s->from) >= 0)
		note_life(p, s, turn->now_ms);
	if (!p->config.messages || s->type == TYPE_GROUPCHAT) {
		if (s->type == TYPE_ERROR)
			p->counters[COUNT_IGNORED]++;
		else
			refuse(p, s, ERROR_FEATURE_NOT_IMPLEMENTED, COUNT_NOT_IMPLEMENTED, turn);
	} else if (is_token(p, s, &token, &user, &asked)) {
		w = balance_find(p->balance, s->from);
		if (w)
			affinity_note(p, user, w, turn->now_ms);
		send_message(p, s, user, asked, turn);
	} else {
		on_user_message(p, s, turn);
	}
}

/* Presence --------------------------------------------------------------- */

static void on_presence(struct jatproxy *p, const struct stanza *s, struct turn *turn)
{
	bool to_domain = span_equal(s->to, p->tokens.own);
	bool target = session_target(p->sessions, s->from) >= 0;

	if (to_domain && session_presence(p->sessions, s, turn))
		return;
	if (p->config.show_presence && (s->type == TYPE_SUBSCRIBE || s->type == TYPE_UNSUBSCRIBE ||
					       s->type == TYPE_PROBE)) {
		audience_subscription(p->audience, s, turn);
		return;
	}
	switch (s->type) {
	case TYPE_SUBSCRIBE:
		send_presence(p, jid_bare(s->from), jid_bare(s->to),
			target && to_domain ? "subscribed" : "unsubscribed", turn);
		break;
	case TYPE_PROBE:
		send_presence(p, s->from, jid_bare(s->to), "unavailable", turn);
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

/* Nobody is to ask the reply domain, which may stand below the one that users ask. */
static bool is_asked_wrongly(const struct jatproxy *p, struct span to)
{
	struct span domain = jid_domain(to);

	return tokens_has_reply_domain(&p->tokens) && to.p &&
	       (span_equal(domain, p->tokens.own) || !domain_is_at(domain, p->tokens.served));
}

/* Whether s is of the reply domain itself, to which only the ping comes back. */
static bool is_from_us(struct jatproxy *p, const struct stanza *s)
{
	if (!tokens_has_reply_domain(&p->tokens) || !span_equal(s->from, p->tokens.own))
		return false;
	if (!route_answer(&p->route, s))
		p->counters[COUNT_STRAY]++;
	return true;
}

static int on_stream_error(void *self, struct span condition)
{
	const struct jatproxy *p = self;

	if (!tokens_has_reply_domain(&p->tokens) || !span_is(condition, "invalid-from"))
		return 0;
	route_explain(&p->route, p->tokens.served);
	return EXIT_CONFIG;
}

/* The decisions ---------------------------------------------------------- */

static void on_iq(struct jatproxy *p, const struct stanza *s, struct turn *turn)
{
	struct span token, user, asked;

	if (stanza_is_answer(s)) {
		on_answer(p, s, turn);
		return;
	}
	if (session_target(p->sessions, s->from) >= 0)
		note_life(p, s, turn->now_ms);
	if (s->refusal)
		refuse(p, s, ERROR_POLICY_VIOLATION, COUNT_TOO_LARGE, turn);
	else if (!stanza_iq_valid(s) || s->id.n > MAX_ID_BYTES)
		refuse(p, s, ERROR_BAD_REQUEST, COUNT_BAD_REQUEST, turn);
	else if (is_token(p, s, &token, &user, &asked)) {
		if (p->config.outbound_iq)
			on_outbound(p, s, token, user, asked, turn);
		else
			refuse(p, s, ERROR_FEATURE_NOT_IMPLEMENTED, COUNT_NOT_IMPLEMENTED, turn);
	} else if (is_asked_wrongly(p, s->to))
		refuse(p, s, ERROR_SERVICE_UNAVAILABLE, COUNT_NOT_IMPLEMENTED, turn);
	else
		on_request(p, s, turn);
}

static void on_stanza(void *self, const struct stanza *s, struct turn *turn)
{
	struct jatproxy *p = self;
	struct jid from;

	if (p->config.passthrough ? !tokens_ours(&p->tokens, s->to)
				  : s->to.p && !tokens_ours(&p->tokens, s->to)) {
		if (!p->config.passthrough || s->refusal ||
			writer_stanza(turn->writer, s, &STANZA_KEEP) != WRITER_OK)
			p->counters[COUNT_FOREIGN]++;
	} else if (!jid_split(s->from, &from)) {
		p->counters[COUNT_NO_FROM]++;
	} else if (is_from_us(p, s)) {
		return;
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
	if (tokens_has_reply_domain(&p->tokens) && !p->config.passthrough)
		route_ask(
			&p->route, p->config.random(p->config.context), p->config.timeout_ms, turn);
	session_up(p->sessions, turn);
}

static void on_down(void *self, struct turn *turn)
{
	struct jatproxy *p = self;

	session_down(p->sessions, turn);
	audience_down(p->audience);
	route_forget(&p->route);
}

static int64_t on_deadline(const void *self)
{
	const struct jatproxy *p = self;
	int64_t deadline_ms = requests_deadline(p->requests);
	int64_t others[] = {session_deadline(p->sessions), balance_deadline(p->balance),
		audience_deadline(p->audience), marks_deadline(p->marks), steps_deadline(p->steps),
		steps_deadline(p->affinities), p->route.deadline_ms};

	for (size_t i = 0; i < sizeof(others) / sizeof(others[0]); i++)
		if (others[i] < deadline_ms)
			deadline_ms = others[i];
	return deadline_ms;
}

static void on_tick(void *self, struct turn *turn)
{
	struct jatproxy *p = self;

	balance_tick(p->balance, turn);
	requests_tick(p->requests, turn);
	session_tick(p->sessions, turn);
	audience_tick(p->audience, turn);
	marks_tick(p->marks, turn->now_ms);
	steps_tick(p->steps, turn->now_ms);
	steps_tick(p->affinities, turn->now_ms);
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

/* At the end, the subscribers that are still to be told that nobody is there count, too. */
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
			session_count(p->sessions)},
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
	return session_metrics(
		p->balance, p->config.targets, (struct buf *)&p->labels, out, n, max);
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

static uint64_t draw(void *context)
{
	const struct jatproxy *p = context;

	return p->config.random(p->config.context);
}

static void subscribed(void *context, bool there, struct span user, struct span address)
{
	const struct jatproxy *p = context;

	if (p->config.subscribed)
		p->config.subscribed(p->config.context, there, user, address);
}

static void name_own(struct jatproxy *p)
{
	const struct jatproxy_config *c = &p->config;

	p->own_names = xcalloc(c->targets_count + 2, sizeof(*p->own_names));
	p->own_names[p->own_names_count++] = p->tokens.served;
	p->own_names[p->own_names_count++] = p->tokens.own;
	for (size_t i = 0; i < c->targets_count; i++)
		p->own_names[p->own_names_count++] = jid_domain(c->targets[i]);
}

static void new_requests(struct jatproxy *p, const uint64_t seed[2])
{
	const struct jatproxy_config *c = &p->config;

	p->balance = balance_new(&(struct balance_config){.policy = c->policy,
		.try_timeout_ms = c->try_timeout_ms,
		.noun = "session",
		.random = draw,
		.ping = ping,
		.changed = suspects_changed,
		.context = p});
	p->shares = shares_new(&(struct shares_config){.max = c->max_pending,
		.max_bytes = c->max_pending_bytes,
		.user_max = c->user_pending,
		.domain_max = c->domain_pending,
		.own = p->own_names,
		.own_count = p->own_names_count,
		.trusted = c->trusted,
		.trusted_count = c->trusted_count,
		.seed = {seed[0], seed[1]}});
	p->requests = requests_new(&(struct requests_config){.max = c->max_pending,
		.max_bytes = c->max_pending_bytes,
		.seed = {seed[0], seed[1]},
		.timeout_ms = c->timeout_ms,
		.bounce_wait_ms = c->bounce_wait_ms,
		.balance = p->balance,
		.shares = p->shares,
		.choose = choose_again,
		.hand = hand,
		.answer = answer,
		.ending = ending,
		.again = handed_again,
		.removed = request_removed,
		.doubted = doubted,
		.context = p});
}

static void new_tables(struct jatproxy *p, const uint64_t seed[2])
{
	const struct jatproxy_config *c = &p->config;
	struct steps_config steps = {.max = c->max_subscribers,
		.max_bytes = c->max_pending_bytes,
		.max_of_one = STEPS_OF_ONE,
		.life_ms = AFFINITY_MS,
		.seed = {seed[0], seed[1]},
		.balance = p->balance};

	p->steps = steps_new(&steps);
	p->affinities = steps_new(&steps);
	p->audience = audience_new(&(struct audience_config){.max = c->max_subscribers,
		.max_bytes = c->max_pending_bytes,
		.seed = {seed[0], seed[1]},
		.group = group_of,
		.changed = subscribed,
		.send = send_presence,
		.context = p});
	p->marks = marks_new(&(struct marks_config){.grace = c->grace,
		.grace_ms = c->timeout_ms,
		.max = c->max_pending,
		.max_bytes = c->max_pending_bytes,
		.seed = {seed[0], seed[1]}});
}

static struct reader *new_reader(enum reader_index index)
{
	return reader_new(&(struct reader_config){.kind = READER_PIPE,
		.max_stanza_bytes = SIZE_MAX / 4,
		.max_depth = INT_MAX,
		.max_attributes = INT_MAX,
		.index = index});
}

struct jatproxy *jatproxy_new(const struct jatproxy_config *config)
{
	struct jatproxy *p = xcalloc(1, sizeof(*p));
	struct alias_table *aliases;
	uint64_t seed[2];

	p->config = *config;
	seed[0] = draw(p);
	seed[1] = draw(p);
	aliases = alias_table_new(&(struct alias_config){.max = config->max_handles,
		.max_bytes = config->max_pending_bytes,
		.life_ms = config->handle_ttl_ms,
		.busy_ms = config->timeout_ms,
		.seed = {seed[0], seed[1]},
		.random = draw,
		.random_context = p});
	tokens_init(&p->tokens, &config->jat, aliases, seed);
	p->route = (struct route)ROUTE_INIT(p->tokens.own);
	name_own(p);
	p->again = new_reader(READER_INDEX_ROOT);
	p->deep = new_reader(READER_INDEX_ALL);
	buf_init(&p->key, BUF_NO_MAX);
	buf_init(&p->scratch, BUF_NO_MAX);
	buf_init(&p->labels, BUF_NO_MAX);
	p->sessions = session_table_new(&(struct session_config){.domain = p->tokens.own,
		.targets = config->targets,
		.targets_count = config->targets_count,
		.max_sessions = config->max_sessions,
		.keep = config->show_presence ? config->shown : KEEP_NOTHING,
		.confirm_ms = config->timeout_ms,
		.left = session_left,
		.alive = session_alive,
		.arrived = session_arrived,
		.changed = sessions_changed,
		.context = p});
	new_requests(p, seed);
	new_tables(p, seed);
	return p;
}

void jatproxy_free(struct jatproxy *p)
{
	if (!p)
		return;
	requests_free(p->requests);
	steps_free(p->steps);
	steps_free(p->affinities);
	balance_free(p->balance);
	shares_free(p->shares);
	session_table_free(p->sessions);
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

void jatproxy_resubscribe(struct jatproxy *p, struct turn *turn)
{
	session_resubscribe(p->sessions, turn);
}

void jatproxy_restore_subscribers(struct jatproxy *p, struct span all, bool unsure)
{
	audience_restore(p->audience, all, unsure);
}

size_t jatproxy_subscribers(const struct jatproxy *p)
{
	return audience_count(p->audience);
}

void jatproxy_format_subscribers(const struct jatproxy *p, struct buf *out)
{
	audience_format(p->audience, out);
}

void jatproxy_restore_marks(struct jatproxy *p, struct span all)
{
	marks_restore(p->marks, all);
}
