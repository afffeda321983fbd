#include "jat/proxy.h"

#include <limits.h>
#include <stdio.h>
#include <stdlib.h>

#include <nettle/sha2.h>

#include "base/deadline.h"
#include "jat/alias.h"
#include "base/err.h"
#include "xmpp/jid.h"
#include "loop/loop.h"
#include "xmpp/reader.h"
#include "xmpp/session.h"
#include "xmpp/stanza-error.h"
#include "jat/audience.h"

/* How often a request is handed to another session after the first. */
#define MAX_RETRIES 2
/* An outbound request's id: unguessable, so that its answer can be told from a forgery. */
#define OUTBOUND_ID_BYTES 16
/* Open requests of one user with one id that are looked at to find a session without one of them.
 */
#define MAX_EQUAL 32
/* Open requests of one user to one address with one id. An answer is looked for among all of them:
 * without a bound one user and one silent session could keep us busy. */
#define MAX_SAME 256
#define AFFINITY_MS (60 * 60 * 1000)
/* After the link is up: until then a session may come that subscribers see already. */
#define SHOW_WAIT_MS 2000
#define MARK_BYTES (JATPROXY_MARK_CHARS / 2)

/* One IQ request we have handed on and that has not got its answer. The table entry's deadline is
 * the overall one, or an earlier one while its session has left and a bounce may come. */
struct request {
	struct session *session;	 /* held; NULL: outbound */
	struct request *previous, *next; /* of the same session */
	int64_t deadline_ms;		 /* overall */
	/* the texts stand behind the record */
	struct span user, asked, id, token; /* the answer: to, from, id */
	struct span stanza;		    /* as sent, for another try */
	char *bounce; /* an error that may be its server's, not its client's: see may_be_bounce() */
	size_t bounce_bytes;
	uint64_t tried[MAX_RETRIES + 1]; /* session serials */
	unsigned tries;
	bool set, bouncing;
};

/* What a session's owner pointer points to. */
struct load {
	struct request *first;
	size_t count;
};

struct affinity {
	uint64_t serial;
};

enum counter {
	COUNT_REQUESTS,
	COUNT_ANSWERS,
	COUNT_RETRIES,
	COUNT_MESSAGES,
	COUNT_NO_SESSION,
	COUNT_TIMEOUT,
	COUNT_CONSTRAINT,
	COUNT_BAD_REQUEST,
	COUNT_NOT_IMPLEMENTED,
	COUNT_TOO_LARGE,
	COUNT_SESSION_LEFT,
	COUNT_STOPPED,
	COUNT_NO_FROM,
	COUNT_FOREIGN,
	COUNT_STRAY,
	COUNT_LATE,
	COUNT_IGNORED,
	COUNT_QUEUE_FULL,
	COUNTERS,
};

static const struct metric_name counter_names[COUNTERS] = {
	[COUNT_REQUESTS] = {"requests", NULL, "IQ requests handed on"},
	[COUNT_ANSWERS] = {"answers", NULL, "answers handed back"},
	[COUNT_RETRIES] = {"retries", NULL, "requests handed to another session"},
	[COUNT_MESSAGES] = {"messages", NULL, "messages handed on"},
	[COUNT_NO_SESSION] = {"errors", "reason=\"no-session\"", "requests answered with an error"},
	[COUNT_TIMEOUT] = {"errors", "reason=\"timeout\"", "requests answered with an error"},
	[COUNT_CONSTRAINT] = {"errors", "reason=\"resource-constraint\"",
		"requests answered with an error"},
	[COUNT_BAD_REQUEST] = {"errors", "reason=\"bad-request\"",
		"requests answered with an error"},
	[COUNT_NOT_IMPLEMENTED] = {"errors", "reason=\"not-implemented\"",
		"requests answered with an error"},
	[COUNT_TOO_LARGE] = {"errors", "reason=\"too-large\"", "requests answered with an error"},
	[COUNT_SESSION_LEFT] = {"errors", "reason=\"session-left\"",
		"requests answered with an error"},
	[COUNT_STOPPED] = {"errors", "reason=\"stopped\"", "requests answered with an error"},
	[COUNT_NO_FROM] = {"dropped", "reason=\"no-from\"", "stanzas dropped"},
	[COUNT_FOREIGN] = {"dropped", "reason=\"foreign\"", "stanzas dropped"},
	[COUNT_STRAY] = {"dropped", "reason=\"stray\"", "stanzas dropped"},
	[COUNT_LATE] = {"dropped", "reason=\"late\"", "stanzas dropped"},
	[COUNT_IGNORED] = {"dropped", "reason=\"ignored\"", "stanzas dropped"},
	[COUNT_QUEUE_FULL] = {"dropped", "reason=\"queue-full\"", "stanzas dropped"},
};

struct jatproxy {
	struct jatproxy_config config;
	struct session_table *sessions;
	struct session **usable; /* in rotation */
	size_t usable_count, usable_size;
	size_t round;
	struct session **lost; /* held: with requests in hand when the link went down */
	size_t lost_count;
	uint64_t seed[2];
	struct table *requests;
	struct alias_table *aliases;
	struct table *affinities;
	struct subscriber_table *subscribers;
	struct table *graced; /* (token, id) of answers seen in the restart grace */
	int64_t grace_until_ms;
	char (*marks)[JATPROXY_MARK_CHARS]; /* of predecessors, sorted */
	size_t marks_count;
	bool draining, shown;
	/* Subscribers may see us available, but no session is known: none has come back yet after
	 * the link went down, or a run before this one could not tell them. */
	bool unsure;
	int64_t unsure_until_ms; /* DEADLINE_NEVER without link */
	struct reader *again;	 /* to parse a stanza once more for another try */
	struct buf key, address, scratch;
	uint64_t counters[COUNTERS];
};

static void session_left(void *context, struct session *s, bool link_down, struct turn *turn);
static void session_arrived(void *context, struct session *s);
static void sessions_changed(void *context, struct turn *turn);

/* Life ------------------------------------------------------------------- */

struct jatproxy *jatproxy_new(const struct jatproxy_config *config)
{
	struct jatproxy *p = xcalloc(1, sizeof(*p));
	struct session_config sessions = {.domain = config->jat.domain,
		.targets = config->targets,
		.targets_count = config->targets_count,
		.max_sessions = config->max_sessions,
		.left = session_left,
		.arrived = session_arrived,
		.changed = sessions_changed,
		.context = p};
	struct reader_config again = {.kind = READER_PIPE,
		.max_stanza_bytes = SIZE_MAX / 4,
		.max_depth = INT_MAX,
		.max_attributes = INT_MAX,
		.index = READER_INDEX_ROOT};

	p->config = *config;
	p->seed[0] = config->random(config->random_context);
	p->seed[1] = config->random(config->random_context);
	p->sessions = session_table_new(&sessions);
	p->requests = table_new(config->max_pending, config->max_pending_bytes, p->seed);
	p->aliases = alias_table_new(&(struct alias_config){.max = config->max_handles,
		.max_bytes = config->max_pending_bytes,
		.life_ms = config->handle_ttl_ms,
		.busy_ms = config->timeout_ms,
		.seed = {p->seed[0], p->seed[1]},
		.random = config->random,
		.random_context = config->random_context});
	p->affinities = table_new(config->max_subscribers, config->max_pending_bytes, p->seed);
	p->subscribers =
		subscriber_table_new(config->max_subscribers, config->max_pending_bytes, p->seed);
	p->graced = table_new(config->max_pending, config->max_pending_bytes, p->seed);
	p->grace_until_ms = config->grace ? DEADLINE_NEVER : 0;
	p->unsure_until_ms = DEADLINE_NEVER;
	p->again = reader_new(&again);
	buf_init(&p->key, BUF_NO_MAX);
	buf_init(&p->address, BUF_NO_MAX);
	buf_init(&p->scratch, BUF_NO_MAX);
	return p;
}

static void request_unlink(struct jatproxy *p, struct request *r)
{
	struct session *s = r->session;
	struct load *load;

	if (!s)
		return;
	load = s->owner;
	if (r->previous)
		r->previous->next = r->next;
	else
		load->first = r->next;
	if (r->next)
		r->next->previous = r->previous;
	load->count--;
	if (!s->available && load->count == 0) {
		free(load);
		s->owner = NULL;
	}
	r->session = NULL;
	session_release(p->sessions, s);
}

static void request_link(struct request *r, struct session *s)
{
	struct load *load = s->owner;

	if (!load)
		s->owner = load = xcalloc(1, sizeof(*load));
	r->session = s;
	r->previous = NULL;
	r->next = load->first;
	if (load->first)
		load->first->previous = r;
	load->first = r;
	load->count++;
	session_hold(s);
}

static size_t load_of(const struct session *s)
{
	const struct load *load = s->owner;

	return load ? load->count : 0;
}

static void request_remove(struct jatproxy *p, struct request *r, struct turn *turn)
{
	struct table_entry *e = table_entry_of(r);

	/* in the grace after a restart an answer is taken on its token alone: what has been
	 * answered here must not be answered once more */
	if (p->grace_until_ms > turn->now_ms)
		table_add(p->graced, e->key, 0, p->grace_until_ms);
	request_unlink(p, r);
	free(r->bounce);
	table_remove(p->requests, e);
}

static void forget_lost(struct jatproxy *p, size_t i)
{
	session_release(p->sessions, p->lost[i]);
	p->lost[i] = p->lost[--p->lost_count];
}

void jatproxy_free(struct jatproxy *p)
{
	struct table_entry *e;

	if (!p)
		return;
	p->grace_until_ms = 0;
	while ((e = table_earliest(p->requests)))
		request_remove(p, table_record(e), &(struct turn){0});
	for (size_t i = 0; i < session_count(p->sessions); i++)
		free(session_at(p->sessions, i)->owner);
	while (p->lost_count)
		forget_lost(p, p->lost_count - 1);
	free(p->lost);
	session_table_free(p->sessions);
	table_free(p->requests);
	alias_table_free(p->aliases);
	table_free(p->affinities);
	subscriber_table_free(p->subscribers);
	table_free(p->graced);
	free(p->marks);
	reader_free(p->again);
	free(p->usable);
	buf_free(&p->key);
	buf_free(&p->address);
	buf_free(&p->scratch);
	free(p);
}

void jatproxy_rekey(struct jatproxy *p, struct jat_keys *keys)
{
	p->config.jat.keys = keys;
}

static size_t jatproxy_open_requests(const void *self)
{
	const struct jatproxy *p = self;

	return table_count(p->requests);
}

static size_t jatproxy_metrics(const void *self, struct metric *out, size_t max)
{
	const struct jatproxy *p = self;
	const struct metric gauges[] = {
		{"sessions", NULL, "available sessions of the targets", METRIC_GAUGE,
			session_count(p->sessions)},
		{"pending_requests", NULL, "requests waiting for their answer", METRIC_GAUGE,
			table_count(p->requests)},
		{"pending_bytes", NULL, "memory held by open requests", METRIC_GAUGE,
			table_bytes(p->requests)},
		{"handles", NULL, "addresses kept in the table", METRIC_GAUGE,
			alias_count(p->aliases)},
		{"subscribers", NULL, "subscribers to our presence", METRIC_GAUGE,
			subscriber_count(p->subscribers)},
	};
	size_t n = metrics_add(out, 0, max, gauges, sizeof(gauges) / sizeof(gauges[0]));

	return metrics_add_counters(out, n, max, counter_names, p->counters, COUNTERS);
}

/* Choosing a session ----------------------------------------------------- */

static bool in_rotation(const struct jatproxy *p, const struct session *s)
{
	return s->priority >= p->config.min_priority &&
	       !(s->show == SHOW_XA && p->config.drain_xa) &&
	       !(s->show == SHOW_DND && p->config.drain_dnd) &&
	       !(s->show == SHOW_AWAY && p->config.drain_away);
}

static void sessions_changed(void *context, struct turn *turn)
{
	struct jatproxy *p = context;
	size_t count = session_count(p->sessions);

	(void)turn;
	if (count > p->usable_size) {
		p->usable_size = count * 2;
		p->usable = xrealloc(p->usable, p->usable_size * sizeof(*p->usable));
	}
	p->usable_count = 0;
	for (size_t i = 0; i < count; i++)
		if (in_rotation(p, session_at(p->sessions, i)))
			p->usable[p->usable_count++] = session_at(p->sessions, i);
	/* the last ones are never drained */
	for (size_t i = 0; p->usable_count == 0 && i < count; i++)
		p->usable[i] = session_at(p->sessions, i);
	if (p->usable_count == 0)
		p->usable_count = count;
}

/* Sessions that a request must not go to. */
struct exclusion {
	struct span jid;	     /* who asks */
	const struct request *tried; /* those it has been tried on */
	struct table_entry *same;    /* those that hold an equal request (and the following ones) */
};

static bool excluded(const struct jatproxy *p, const struct exclusion *x, const struct session *s)
{
	int equal = 0;

	if (span_equal(x->jid, s->jid))
		return true;
	for (unsigned i = 0; x->tried && i < x->tried->tries; i++)
		if (x->tried->tried[i] == s->serial)
			return true;
	for (struct table_entry *e = x->same; e && equal++ < MAX_EQUAL;
		e = table_find_next(p->requests, e))
		if (((struct request *)table_record(e))->session == s)
			return true;
	return false;
}

static size_t random_below(struct jatproxy *p, size_t n)
{
	return (size_t)(p->config.random(p->config.random_context) % n);
}

/* Rendezvous hashing: of all sessions the one with the highest score; a session that comes or goes
 * moves only its own share. The seed is fixed, so that all proxies of a service agree. */
static uint64_t score(const struct session *s, struct span bare)
{
	static const uint64_t seed[2] = {0x6f7574626f617264, 0x737469636b790000};
	const uint64_t own[2] = {table_hash(seed, s->jid), seed[1]};

	return table_hash(own, bare);
}

/* By policy one of the candidates that is not excluded; NULL if there is none. */
static struct session *choose(struct jatproxy *p, struct session **candidates, size_t count,
	const struct exclusion *x, struct span user)
{
	struct session *best = NULL;
	uint64_t best_score = 0;
	size_t left = 0, at;
	bool all = !x->same && !x->tried && (!x->jid.p || session_target(p->sessions, x->jid) < 0);

	if (count == 0)
		return NULL;
	switch (p->config.policy) {
	case POLICY_RANDOM:
	case POLICY_ROUND_ROBIN:
		if (all)
			left = count;
		for (size_t i = 0; !all && i < count; i++)
			left += !excluded(p, x, candidates[i]);
		if (left == 0)
			return NULL;
		at = p->config.policy == POLICY_RANDOM ? random_below(p, left)
						       : (size_t)(p->round++ % left);
		if (all)
			return candidates[at];
		for (size_t i = 0; i < count; i++)
			if (!excluded(p, x, candidates[i]) && at-- == 0)
				return candidates[i];
		return NULL;
	case POLICY_LEAST_PENDING:
		at = random_below(p, count);
		for (size_t i = 0; i < count; i++) {
			struct session *s = candidates[(at + i) % count];

			if ((!best || load_of(s) < load_of(best)) && (all || !excluded(p, x, s)))
				best = s;
		}
		return best;
	case POLICY_STICKY:
		for (size_t i = 0; i < count; i++) {
			uint64_t its = score(candidates[i], jid_bare(user));

			if ((!best || its > best_score) &&
				(all || !excluded(p, x, candidates[i]))) {
				best = candidates[i];
				best_score = its;
			}
		}
		return best;
	}
	return NULL;
}

/* The session for a new request or message of user. `same`: open requests it must be told from. */
static struct session *choose_first(struct jatproxy *p, struct span user, struct table_entry *same)
{
	struct exclusion x = {.jid = user, .same = same};
	struct session *s = choose(p, p->usable, p->usable_count, &x, user);

	if (!s && same) { /* all hold an equal one: answers are matched in order */
		x.same = NULL;
		s = choose(p, p->usable, p->usable_count, &x, user);
	}
	/* the asking session only if there is no other, not even one out of rotation */
	for (size_t i = 0; !s && i < session_count(p->sessions); i++)
		if (!excluded(p, &x, session_at(p->sessions, i)))
			s = session_at(p->sessions, i);
	if (!s) {
		x.jid = SPAN_NONE;
		s = choose(p, p->usable, p->usable_count, &x, user);
	}
	return s;
}

/* Tokens ----------------------------------------------------------------- */

static bool is_our_domain(const struct jatproxy *p, struct span jid)
{
	struct span domain = jid_domain(jid), own = p->config.jat.domain;

	return span_equal(domain, own) ||
	       (domain.n > own.n && domain.p[domain.n - own.n - 1] == '.' &&
		       memcmp(domain.p + domain.n - own.n, own.p, own.n) == 0);
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

/* Token and id of a request: what its answer is found by. */
static struct span request_key(struct jatproxy *p, struct span token, struct span id)
{
	key_of(&p->key, 'q', token, id, SPAN(""));
	return buf_span(&p->key);
}

/* D/TOKEN for a user who asked `asked` into p->address; returns the token in it. */
static struct span token_for(
	struct jatproxy *p, struct span asked, struct span user, struct turn *turn)
{
	size_t head;

	if (!asked.p)
		asked = p->config.jat.domain;
	buf_reset(&p->address);
	buf_append_span(&p->address, p->config.jat.domain);
	buf_append_char(&p->address, '/');
	head = buf_length(&p->address);
	if (jat_encode(&p->config.jat, asked, user, &p->address) != JAT_OK &&
		!alias_name(p->aliases, user, asked, turn->now_ms, &p->address))
		return SPAN_NONE;
	return span_from(buf_span(&p->address), head);
}

/* What a token says. The spans point into p->scratch or the table of handles. */
static bool token_read(struct jatproxy *p, struct span token, struct span *user, struct span *asked)
{
	if (token.n == 0)
		return false;
	if (token.p[0] == ALIAS_MARK && alias_find(p->aliases, token, user, asked))
		return true;
	buf_reset(&p->scratch);
	return jat_decode(&p->config.jat, token, &p->scratch, user, asked) == JAT_OK;
}

/* Whether a stanza of a target to D/x means the user in the token x, not D/x itself. Everything is
 * a token in plain: there x must look like a user's address, or stand for an open request. */
static bool is_token(struct jatproxy *p, const struct stanza *s, struct span *token,
	struct span *user, struct span *asked)
{
	struct jid to;

	if (session_target(p->sessions, s->from) < 0 || !jid_split(s->to, &to) || to.local.p ||
		!span_equal(to.domain, p->config.jat.domain) || !to.resource.p)
		return false;
	*token = to.resource;
	if (!token_read(p, *token, user, asked))
		return false;
	if (p->config.jat.encoding == JAT_PLAIN && token->p[0] != ALIAS_MARK) {
		struct span bare = jid_bare(*token);
		struct session *session = session_find(p->sessions, s->from);
		struct load *load = session ? session->owner : NULL;

		if (memchr(bare.p, '@', bare.n))
			return true;
		for (struct request *r = load ? load->first : NULL; r; r = r->next)
			if (span_equal(r->token, *token))
				return true;
		return false;
	}
	return true;
}

/* Marks ------------------------------------------------------------------ */

/* Of a request, by its key: of no use to who reads the file. */
static void mark_of(struct span key, char mark[JATPROXY_MARK_CHARS + 1])
{
	struct sha256_ctx sha;
	uint8_t digest[MARK_BYTES];

	sha256_init(&sha);
	sha256_update(&sha, key.n, (const uint8_t *)key.p);
	sha256_digest(&sha, sizeof(digest), digest);
	for (size_t i = 0; i < sizeof(digest); i++)
		snprintf(mark + 2 * i, 3, "%02x", digest[i]);
}

static int compare_marks(const void *a, const void *b)
{
	return memcmp(a, b, JATPROXY_MARK_CHARS);
}

void jatproxy_restore_marks(struct jatproxy *p, struct span all)
{
	free(p->marks);
	p->marks = xcalloc(all.n / (JATPROXY_MARK_CHARS + 1) + 1, sizeof(*p->marks));
	p->marks_count = 0;
	while (all.n > JATPROXY_MARK_CHARS) {
		const char *newline = memchr(all.p, '\n', all.n);

		if (!newline) /* the crash came before its answer was written */
			break;
		if (newline - all.p == JATPROXY_MARK_CHARS)
			memcpy(p->marks[p->marks_count++], all.p, JATPROXY_MARK_CHARS);
		all = span_from(all, (size_t)(newline + 1 - all.p));
	}
	qsort(p->marks, p->marks_count, sizeof(*p->marks), compare_marks);
}

static bool is_marked(const struct jatproxy *p, struct span key)
{
	char mark[JATPROXY_MARK_CHARS + 1];

	if (!p->marks_count)
		return false;
	mark_of(key, mark);
	return bsearch(mark, p->marks, p->marks_count, sizeof(*p->marks), compare_marks) != NULL;
}

/* Answering -------------------------------------------------------------- */

static void answer_stanza(struct jatproxy *p, const struct stanza *s, enum stanza_error e,
	enum counter why, struct turn *turn)
{
	p->counters[why]++;
	if (stanza_error_reply(turn->writer, s, e, NULL) != WRITER_OK)
		p->counters[COUNT_QUEUE_FULL]++;
}

/* The request's one answer is an error of ours. */
static void answer_request(struct jatproxy *p, struct request *r, enum stanza_error e,
	enum counter why, struct turn *turn)
{
	p->counters[why]++;
	if (p->config.marked && r->session) {
		char mark[JATPROXY_MARK_CHARS + 1];

		mark_of(table_entry_of(r)->key, mark);
		p->config.marked(p->config.marked_context, mark);
	}
	if (stanza_error_send(turn->writer, "iq", r->user, r->asked, r->id, e, NULL) != WRITER_OK)
		p->counters[COUNT_QUEUE_FULL]++;
	request_remove(p, r, turn);
}

/* s is the answer to r. */
static void deliver(
	struct jatproxy *p, struct request *r, const struct stanza *s, struct turn *turn)
{
	struct stanza_edit edit = {.to = r->user, .from = r->asked};

	if (!span_equal(r->id, s->id))
		edit.id = r->id;
	if (s->refusal || writer_stanza(turn->writer, s, &edit) == WRITER_TOO_LARGE) {
		answer_request(p, r, ERROR_POLICY_VIOLATION, COUNT_TOO_LARGE, turn);
		return;
	}
	p->counters[COUNT_ANSWERS]++;
	request_remove(p, r, turn);
}

/* Requests --------------------------------------------------------------- */

/* A request with its texts behind it: one entry, one allocation. NULL when a bound is reached. */
static struct request *request_add(struct jatproxy *p, const struct table_key *key,
	struct span user, struct span asked, struct span id, struct span token, struct span stanza,
	struct turn *turn)
{
	const struct span parts[] = {user, asked, id, token, stanza};
	size_t n = user.n + asked.n + id.n + token.n + stanza.n;
	int64_t deadline_ms = turn->now_ms + p->config.timeout_ms;
	struct table_entry *e =
		table_add_hashed(p->requests, key, sizeof(struct request) + n, deadline_ms);
	struct request *r;

	if (!e)
		return NULL;
	r = table_record(e);
	struct span *const places[] = {&r->user, &r->asked, &r->id, &r->token, &r->stanza};

	span_pack((char *)(r + 1), parts, places, 5);
	r->deadline_ms = deadline_ms;
	return r;
}

static struct span trimmed(struct span s)
{
	while (s.n && (s.p[s.n - 1] == '\n' || s.p[s.n - 1] == ' '))
		s.n--;
	return s;
}

static bool too_many_same(const struct jatproxy *p, const struct table_entry *same)
{
	size_t n = 0;

	for (; same && n < MAX_SAME; same = table_find_next(p->requests, same))
		n++;
	return n == MAX_SAME;
}

/* A request that was not handed on. */
static void answer_unsent(
	struct jatproxy *p, const struct stanza *s, enum writer_status status, struct turn *turn)
{
	if (status == WRITER_TOO_LARGE)
		answer_stanza(p, s, ERROR_POLICY_VIOLATION, COUNT_TOO_LARGE, turn);
	else
		answer_stanza(p, s, ERROR_RESOURCE_CONSTRAINT, COUNT_CONSTRAINT, turn);
}

/* A user's get or set: on to a session. */
static void on_request(struct jatproxy *p, const struct stanza *s, struct turn *turn)
{
	struct span asked = s->to.p ? s->to : p->config.jat.domain, token;
	struct table_key key;
	struct session *session;
	struct table_entry *same;
	struct request *r;
	struct stanza_edit edit = STANZA_KEEP;
	size_t at = buf_length(turn->writer->out);
	enum writer_status status;

	if (p->draining) {
		answer_stanza(p, s, ERROR_RECIPIENT_UNAVAILABLE, COUNT_STOPPED, turn);
		return;
	}
	if (p->usable_count == 0) {
		answer_stanza(p, s, ERROR_SERVICE_UNAVAILABLE, COUNT_NO_SESSION, turn);
		return;
	}
	token = token_for(p, asked, s->from, turn);
	if (!token.p) {
		answer_stanza(p, s, ERROR_RESOURCE_CONSTRAINT, COUNT_CONSTRAINT, turn);
		return;
	}
	key = table_key(p->requests, request_key(p, token, s->id));
	same = table_find_hashed(p->requests, &key);
	if (too_many_same(p, same)) {
		answer_stanza(p, s, ERROR_RESOURCE_CONSTRAINT, COUNT_CONSTRAINT, turn);
		return;
	}
	session = choose_first(p, s->from, same);
	if (!session) {
		answer_stanza(p, s, ERROR_SERVICE_UNAVAILABLE, COUNT_NO_SESSION, turn);
		return;
	}
	edit.to = session->jid;
	edit.from = buf_span(&p->address);
	status = writer_stanza(turn->writer, s, &edit);
	r = status != WRITER_OK
		    ? NULL
		    : request_add(p, &key, s->from, asked, s->id, token,
			      trimmed(span_from(buf_span(turn->writer->out), at)), turn);
	if (!r) {
		if (status == WRITER_OK)
			writer_take_back(turn->writer);
		answer_unsent(p, s, status, turn);
		return;
	}
	r->set = s->type == TYPE_SET;
	r->tried[r->tries++] = session->serial;
	request_link(r, session);
	p->counters[COUNT_REQUESTS]++;
}

/* It has not reached its session, or may be asked twice: on to another one, or to the end. */
static void try_another(struct jatproxy *p, struct request *r, struct turn *turn)
{
	struct exclusion x = {.jid = r->user, .tried = r};
	struct stanza_edit edit = STANZA_KEEP;
	struct session *session = NULL;
	struct stanza s;

	if (r->tries <= MAX_RETRIES) {
		size_t count = session_count(p->sessions);

		session = choose(p, p->usable, p->usable_count, &x, r->user);
		/* rather a drained one than none */
		for (size_t i = 0; !session && i < count; i++)
			if (!excluded(p, &x, session_at(p->sessions, i)))
				session = session_at(p->sessions, i);
	}
	if (!session) {
		answer_request(p, r, ERROR_SERVICE_UNAVAILABLE, COUNT_NO_SESSION, turn);
		return;
	}
	edit.to = session->jid;
	if (!reader_one(p->again, r->stanza, &s) ||
		writer_stanza(turn->writer, &s, &edit) != WRITER_OK) {
		answer_request(p, r, ERROR_POLICY_VIOLATION, COUNT_TOO_LARGE, turn);
		return;
	}
	request_unlink(p, r);
	request_link(r, session);
	r->tried[r->tries++] = session->serial;
	r->bouncing = false;
	table_deadline_set(p->requests, table_entry_of(r), r->deadline_ms);
	p->counters[COUNT_RETRIES]++;
}

/* A target's get or set to D/TOKEN: on to the user, under an id nobody can guess. */
static void on_outbound(struct jatproxy *p, const struct stanza *s, struct span token,
	struct span user, struct span asked, struct turn *turn)
{
	char id[2 * OUTBOUND_ID_BYTES + 1];
	struct stanza_edit edit = {.to = user, .from = asked};
	struct table_key key;
	struct request *r;
	enum writer_status status = WRITER_FULL;

	if (p->draining) {
		answer_stanza(p, s, ERROR_RECIPIENT_UNAVAILABLE, COUNT_STOPPED, turn);
		return;
	}
	snprintf(id, sizeof(id), "%016llx%016llx",
		(unsigned long long)p->config.random(p->config.random_context),
		(unsigned long long)p->config.random(p->config.random_context));
	edit.id = span_of(id);
	key_of(&p->key, 'o', user, asked, edit.id);
	key = table_key(p->requests, buf_span(&p->key));
	r = request_add(p, &key, s->from, s->to, s->id, token, SPAN(""), turn);
	if (r)
		status = writer_stanza(turn->writer, s, &edit);
	if (status != WRITER_OK) {
		if (r)
			request_remove(p, r, turn);
		answer_unsent(p, s, status, turn);
		return;
	}
	p->counters[COUNT_REQUESTS]++;
}

/* Answers ---------------------------------------------------------------- */

/* Errors by which a server says that it could not hand a stanza to a session. */
static bool says_undelivered(const struct stanza *s)
{
	struct span condition = s->type == TYPE_ERROR ? stanza_error_condition(s) : SPAN_NONE;

	return span_is(condition, "service-unavailable") ||
	       span_is(condition, "recipient-unavailable") || span_is(condition, "item-not-found");
}

/* ejabberd returns what it could not deliver before it says that a session whose connection broke
 * is unavailable. Its words tell such an error from one of a client, which must not wait. */
static bool may_be_bounce(const struct stanza *s)
{
	struct buf words;
	bool same;

	if (!says_undelivered(s))
		return false;
	buf_init(&words, 64);
	same = stanza_error_text(s, &words) && span_is(buf_span(&words), "User session not found");
	buf_free(&words);
	return same;
}

/* Keep it until its session has left, or it is clear that it has not. False: no room. */
static bool hold_bounce(
	struct jatproxy *p, struct request *r, const struct stanza *s, struct turn *turn)
{
	struct table_entry *e = table_entry_of(r);
	int64_t until_ms = turn->now_ms + p->config.bounce_wait_ms;
	struct writer w;

	buf_reset(&p->scratch);
	writer_init(&w, &p->scratch, WRITER_PIPE, 0);
	if (r->bounce || writer_stanza(&w, s, &STANZA_KEEP) != WRITER_OK ||
		!table_charge(p->requests, e, buf_length(&p->scratch)))
		return false;
	r->bounce = xstrndup(buf_span(&p->scratch).p, buf_length(&p->scratch));
	r->bounce_bytes = buf_length(&p->scratch);
	if (until_ms < r->deadline_ms)
		table_deadline_set(p->requests, e, until_ms);
	return true;
}

/* Its session has left, or has not: the held error is proof of non-delivery, or the answer. */
static void release_bounce(struct jatproxy *p, struct request *r, struct turn *turn)
{
	struct stanza s;

	if (!r->session->available) {
		free(r->bounce);
		r->bounce = NULL;
		try_another(p, r, turn);
		return;
	}
	if (reader_one(p->again, (struct span){r->bounce, r->bounce_bytes}, &s))
		deliver(p, r, &s, turn);
	else
		answer_request(p, r, ERROR_SERVICE_UNAVAILABLE, COUNT_NO_SESSION, turn);
}

/* After a crash: the predecessor's requests are not in the table, but their tokens verify. */
static bool grace_answer(struct jatproxy *p, const struct stanza *s, struct span token,
	struct span user, struct span asked, struct turn *turn)
{
	struct stanza_edit edit = {.to = user, .from = asked};
	struct span key;

	if (p->grace_until_ms <= turn->now_ms || token.p[0] == ALIAS_MARK)
		return false;
	key = request_key(p, token, s->id);
	if (is_marked(p, key) || table_find(p->graced, key) ||
		!table_add(p->graced, key, 0, p->grace_until_ms))
		return false;
	p->counters[COUNT_ANSWERS]++;
	if (s->refusal || writer_stanza(turn->writer, s, &edit) == WRITER_TOO_LARGE)
		stanza_error_send(
			turn->writer, "iq", user, asked, s->id, ERROR_POLICY_VIOLATION, NULL);
	return true;
}

static void on_answer(struct jatproxy *p, const struct stanza *s, struct turn *turn)
{
	struct span token = SPAN_NONE, user, asked;
	struct table_entry *e = NULL;
	struct jid to;

	if (s->id.n && jid_split(s->to, &to) && !to.local.p && to.resource.p &&
		span_equal(to.domain, p->config.jat.domain))
		e = table_find(p->requests, request_key(p, to.resource, s->id));
	for (; e; e = table_find_next(p->requests, e)) {
		struct request *r = table_record(e);

		if (!span_equal(r->session->jid, s->from))
			continue;
		if (!r->session->available && r->bouncing && says_undelivered(s))
			try_another(p, r, turn);
		else if (!(r->session->available && may_be_bounce(s) && hold_bounce(p, r, s, turn)))
			deliver(p, r, s, turn);
		return;
	}
	if (p->config.outbound_iq && s->id.n) {
		key_of(&p->key, 'o', s->from, s->to, s->id);
		e = table_find(p->requests, buf_span(&p->key));
		if (e) {
			deliver(p, table_record(e), s, turn);
			return;
		}
	}
	if (s->id.n && p->config.jat.encoding != JAT_PLAIN && jid_is_full(s->from) &&
		is_token(p, s, &token, &user, &asked)) {
		if (!grace_answer(p, s, token, user, asked, turn))
			p->counters[COUNT_LATE]++;
		return;
	}
	p->counters[COUNT_STRAY]++;
}

/* Leaving ---------------------------------------------------------------- */

static void session_left(void *context, struct session *s, bool link_down, struct turn *turn)
{
	struct jatproxy *p = context;
	struct load *load = s->owner;
	int64_t bounce_ms = turn->now_ms + p->config.bounce_wait_ms;

	if (load && load->count == 0) {
		free(load);
		s->owner = load = NULL;
	}
	if (link_down) { /* nothing is known of it; its answers may still come */
		if (load) {
			p->lost = xrealloc(p->lost, (p->lost_count + 1) * sizeof(*p->lost));
			p->lost[p->lost_count++] = s;
			session_hold(s);
		}
		return;
	}
	for (struct request *r = load ? load->first : NULL; r; r = r->next) {
		int64_t until_ms = r->bounce ? turn->now_ms : bounce_ms;

		r->bouncing = true;
		if (until_ms < r->deadline_ms)
			table_deadline_set(p->requests, table_entry_of(r), until_ms);
	}
}

/* A session known from before the link went down is there again: what it has in hand is the new
 * one's. */
static void session_arrived(void *context, struct session *s)
{
	struct jatproxy *p = context;

	for (size_t i = p->lost_count; i-- > 0;) {
		struct load *load = p->lost[i]->owner;

		if (load && !span_equal(p->lost[i]->jid, s->jid))
			continue;
		if (load && !s->owner) {
			for (struct request *r = load->first; r; r = r->next) {
				session_hold(s);
				session_release(p->sessions, r->session);
				r->session = s;
			}
			s->owner = load;
			p->lost[i]->owner = NULL;
		}
		forget_lost(p, i);
	}
}

/* Messages --------------------------------------------------------------- */

static void affinity_note(
	struct jatproxy *p, struct span user, const struct session *s, struct turn *turn)
{
	struct table_entry *e;

	key_of(&p->key, 'a', jid_bare(user), SPAN(""), SPAN(""));
	e = table_find(p->affinities, buf_span(&p->key));
	while (!e && (e = table_earliest(p->affinities)) &&
		(e->deadline_ms <= turn->now_ms ||
			table_count(p->affinities) >= p->config.max_subscribers)) {
		table_remove(p->affinities, e);
		e = NULL;
	}
	e = table_find(p->affinities, buf_span(&p->key));
	if (!e)
		e = table_add(p->affinities, buf_span(&p->key), sizeof(struct affinity), 0);
	if (!e)
		return;
	((struct affinity *)table_record(e))->serial = s->serial;
	table_deadline_set(p->affinities, e, turn->now_ms + AFFINITY_MS);
}

static struct session *affinity_find(struct jatproxy *p, struct span user)
{
	struct table_entry *e;

	key_of(&p->key, 'a', jid_bare(user), SPAN(""), SPAN(""));
	e = table_find(p->affinities, buf_span(&p->key));
	return e ? session_by_serial(p->sessions, ((struct affinity *)table_record(e))->serial)
		 : NULL;
}

static void send_message(struct jatproxy *p, const struct stanza *s, struct span to,
	struct span from, struct turn *turn)
{
	struct stanza_edit edit = {.to = to, .from = from};

	if (s->refusal || writer_stanza(turn->writer, s, &edit) == WRITER_TOO_LARGE)
		answer_stanza(p, s, ERROR_POLICY_VIOLATION, COUNT_TOO_LARGE, turn);
	else
		p->counters[COUNT_MESSAGES]++;
}

/* A user's message: to the session of the conversation, else by policy, else to the account, whose
 * server keeps it. */
static void on_user_message(struct jatproxy *p, const struct stanza *s, struct turn *turn)
{
	struct session *session = affinity_find(p, s->from);
	size_t targets = p->config.targets_count;
	struct span to;

	if (!session)
		session = choose_first(p, s->from, NULL);
	/* an error is kept for nobody, and an answer to a token that is none comes from nobody */
	if (s->type == TYPE_ERROR && (!session || session_target(p->sessions, s->from) >= 0)) {
		p->counters[COUNT_IGNORED]++;
		return;
	}
	to = session ? session->jid
		     : p->config.targets[table_hash(p->seed, jid_bare(s->from)) % targets];
	if (session)
		affinity_note(p, s->from, session, turn);
	if (!token_for(p, s->to, s->from, turn).p)
		answer_stanza(p, s, ERROR_RESOURCE_CONSTRAINT, COUNT_CONSTRAINT, turn);
	else
		send_message(p, s, to, buf_span(&p->address), turn);
}

static void on_message(struct jatproxy *p, const struct stanza *s, struct turn *turn)
{
	struct span token, user, asked;

	if (!p->config.messages || s->type == TYPE_GROUPCHAT) {
		if (s->type == TYPE_ERROR)
			p->counters[COUNT_IGNORED]++;
		else
			answer_stanza(
				p, s, ERROR_FEATURE_NOT_IMPLEMENTED, COUNT_NOT_IMPLEMENTED, turn);
	} else if (is_token(p, s, &token, &user, &asked)) {
		struct session *session = session_find(p->sessions, s->from);

		if (session)
			affinity_note(p, user, session, turn);
		send_message(p, s, user, asked, turn);
	} else {
		on_user_message(p, s, turn);
	}
}

/* Presence --------------------------------------------------------------- */

static void send_presence(
	struct jatproxy *p, struct turn *turn, struct span to, struct span from, const char *type)
{
	writer_start(turn->writer, "presence", type, SPAN_NONE, to, from);
	writer_raw(turn->writer, "/>");
	if (writer_end(turn->writer) != WRITER_OK)
		p->counters[COUNT_QUEUE_FULL]++;
}

struct showing {
	struct jatproxy *p;
	struct turn *turn;
};

static void show_one(void *context, struct span user, struct span address)
{
	struct showing *to = context;

	send_presence(to->p, to->turn, user, address, to->p->shown ? NULL : "unavailable");
}

static void show_all(struct jatproxy *p, bool shown, struct turn *turn)
{
	struct showing to = {.p = p, .turn = turn};

	p->shown = shown;
	p->unsure = false;
	p->unsure_until_ms = DEADLINE_NEVER;
	subscriber_each(p->subscribers, show_one, &to);
}

/* Tell the subscribers when the service comes or goes. */
static void show(struct jatproxy *p, bool shown, struct turn *turn)
{
	if (p->config.show_presence && p->shown != shown)
		show_all(p, shown, turn);
}

static void subscribers_save(struct jatproxy *p, struct turn *turn)
{
	struct buf text;

	subscriber_saved(p->subscribers, turn->now_ms);
	if (!p->config.subscribers_changed)
		return;
	buf_init(&text, BUF_NO_MAX);
	subscriber_format(p->subscribers, &text);
	p->config.subscribers_changed(p->config.subscribers_context, buf_span(&text));
	buf_free(&text);
}

void jatproxy_restore_subscribers(struct jatproxy *p, struct span all, bool unsure)
{
	p->unsure = unsure;
	subscriber_parse(p->subscribers, all);
}

/* With --show-presence: a subscription to an address of ours. */
static void on_subscription(struct jatproxy *p, const struct stanza *s, struct turn *turn)
{
	struct span user = jid_bare(s->from), address = jid_bare(s->to);

	switch (s->type) {
	case TYPE_SUBSCRIBE:
		if (!subscriber_add(p->subscribers, user, address, turn->now_ms)) {
			p->counters[COUNT_CONSTRAINT]++;
			send_presence(p, turn, user, address, "unsubscribed");
			return;
		}
		send_presence(p, turn, user, address, "subscribed");
		if (p->shown)
			send_presence(p, turn, user, address, NULL);
		break;
	case TYPE_UNSUBSCRIBE:
		subscriber_remove(p->subscribers, user, address, turn->now_ms);
		send_presence(p, turn, user, address, "unsubscribed");
		break;
	default: /* probe */
		send_presence(p, turn, s->from, address,
			p->shown && subscriber_there(p->subscribers, user, address)
				? NULL
				: "unavailable");
		return;
	}
	if (subscriber_save_ms(p->subscribers) <= turn->now_ms)
		subscribers_save(p, turn);
}

static void on_presence(struct jatproxy *p, const struct stanza *s, struct turn *turn)
{
	bool to_domain = span_equal(s->to, p->config.jat.domain);
	bool target = session_target(p->sessions, s->from) >= 0;

	if (to_domain && session_presence(p->sessions, s, turn)) {
		show(p, session_count(p->sessions) > 0, turn);
		return;
	}
	switch (s->type) {
	case TYPE_SUBSCRIBE:
		if (p->config.show_presence)
			on_subscription(p, s, turn);
		else
			send_presence(p, turn, jid_bare(s->from), jid_bare(s->to),
				target && to_domain ? "subscribed" : "unsubscribed");
		break;
	case TYPE_UNSUBSCRIBE:
		if (p->config.show_presence)
			on_subscription(p, s, turn);
		else
			p->counters[COUNT_IGNORED]++;
		break;
	case TYPE_PROBE:
		if (p->config.show_presence)
			on_subscription(p, s, turn);
		else
			send_presence(p, turn, s->from, jid_bare(s->to), "unavailable");
		break;
	case TYPE_NONE:
		if (target)
			p->counters[COUNT_IGNORED]++;
		else
			answer_stanza(p, s, ERROR_BAD_REQUEST_CANCEL, COUNT_BAD_REQUEST, turn);
		break;
	default:
		p->counters[COUNT_IGNORED]++;
	}
}

/* The decisions ---------------------------------------------------------- */

static void on_iq(struct jatproxy *p, const struct stanza *s, struct turn *turn)
{
	struct span token, user, asked;

	if (stanza_is_answer(s))
		on_answer(p, s, turn);
	else if (s->refusal)
		answer_stanza(p, s, ERROR_POLICY_VIOLATION, COUNT_TOO_LARGE, turn);
	else if (!stanza_iq_valid(s))
		answer_stanza(p, s, ERROR_BAD_REQUEST, COUNT_BAD_REQUEST, turn);
	else if (!is_token(p, s, &token, &user, &asked))
		on_request(p, s, turn);
	else if (p->config.outbound_iq)
		on_outbound(p, s, token, user, asked, turn);
	else
		answer_stanza(p, s, ERROR_FEATURE_NOT_IMPLEMENTED, COUNT_NOT_IMPLEMENTED, turn);
}

static void jatproxy_stanza(void *self, const struct stanza *s, struct turn *turn)
{
	struct jatproxy *p = self;
	struct jid from;

	if (p->config.passthrough ? !is_our_domain(p, s->to)
				  : s->to.p && !is_our_domain(p, s->to)) {
		if (!p->config.passthrough || s->refusal ||
			writer_stanza(turn->writer, s, &STANZA_KEEP) != WRITER_OK)
			p->counters[COUNT_FOREIGN]++;
	} else if (!jid_split(s->from, &from)) {
		p->counters[COUNT_NO_FROM]++;
	} else if (s->kind == STANZA_IQ) {
		on_iq(p, s, turn);
	} else if (s->kind == STANZA_MESSAGE) {
		on_message(p, s, turn);
	} else {
		on_presence(p, s, turn);
	}
}

static void jatproxy_up(void *self, struct turn *turn)
{
	struct jatproxy *p = self;

	if (p->grace_until_ms == DEADLINE_NEVER)
		p->grace_until_ms = turn->now_ms + p->config.timeout_ms;
	if (p->unsure)
		p->unsure_until_ms = turn->now_ms + SHOW_WAIT_MS;
	session_up(p->sessions, turn);
}

static void jatproxy_down(void *self, struct turn *turn)
{
	struct jatproxy *p = self;

	session_down(p->sessions, turn);
	p->unsure |= p->shown; /* servers do not tell our subscribers that we are gone */
	p->unsure_until_ms = DEADLINE_NEVER;
	p->shown = false;
}

void jatproxy_resubscribe(struct jatproxy *p, struct turn *turn)
{
	session_resubscribe(p->sessions, turn);
}

static int64_t jatproxy_deadline(const void *self)
{
	const struct jatproxy *p = self;
	int64_t deadline_ms = table_deadline(p->requests);
	int64_t others[] = {session_deadline(p->sessions), subscriber_save_ms(p->subscribers),
		table_deadline(p->graced), p->unsure_until_ms};

	for (size_t i = 0; i < sizeof(others) / sizeof(others[0]); i++)
		if (others[i] < deadline_ms)
			deadline_ms = others[i];
	return deadline_ms;
}

static void jatproxy_tick(void *self, struct turn *turn)
{
	struct jatproxy *p = self;
	struct table_entry *e;

	while ((e = table_earliest(p->requests)) && e->deadline_ms <= turn->now_ms) {
		struct request *r = table_record(e);

		if (r->bounce)
			release_bounce(p, r, turn);
		else if (r->deadline_ms <= turn->now_ms)
			answer_request(p, r, ERROR_REMOTE_SERVER_TIMEOUT, COUNT_TIMEOUT, turn);
		else if (r->set)
			answer_request(p, r, ERROR_RECIPIENT_UNAVAILABLE, COUNT_SESSION_LEFT, turn);
		else
			try_another(p, r, turn);
	}
	while ((e = table_earliest(p->graced)) && e->deadline_ms <= turn->now_ms)
		table_remove(p->graced, e);
	session_tick(p->sessions, turn);
	if (p->unsure_until_ms <= turn->now_ms)
		show_all(p, false, turn);
	if (subscriber_save_ms(p->subscribers) <= turn->now_ms)
		subscribers_save(p, turn);
}

static void jatproxy_drain(void *self, struct turn *turn)
{
	struct jatproxy *p = self;

	(void)turn;
	p->draining = true;
}

static void jatproxy_finish(void *self, struct turn *turn)
{
	struct jatproxy *p = self;
	struct table_entry *e;

	p->draining = true;
	while ((e = table_earliest(p->requests)))
		answer_request(
			p, table_record(e), ERROR_RECIPIENT_UNAVAILABLE, COUNT_STOPPED, turn);
	if (p->shown || p->unsure)
		show_all(p, false, turn);
	if (subscriber_save_ms(p->subscribers) != DEADLINE_NEVER)
		subscribers_save(p, turn);
}

const struct service_ops jatproxy_ops = {
	.fold = true,
	.up = jatproxy_up,
	.down = jatproxy_down,
	.stanza = jatproxy_stanza,
	.tick = jatproxy_tick,
	.deadline = jatproxy_deadline,
	.drain = jatproxy_drain,
	.finish = jatproxy_finish,
	.open_requests = jatproxy_open_requests,
	.metrics = jatproxy_metrics,
};
