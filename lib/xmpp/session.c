#include "xmpp/session.h"

#include <stdlib.h>

#include "base/backoff.h"
#include "base/deadline.h"
#include "base/err.h"
#include "xmpp/jid.h"

#define NS_CAPS "http://jabber.org/protocol/caps"
#define RETRY_MIN_MS 1000
#define RETRY_MAX_MS (5 * 60 * 1000)
#define REPEAT_MS (10 * 60 * 1000)
/* An `unsubscribed` so soon after a subscribe refuses it; a later one ends the subscription. */
#define REFUSAL_MS 10000
#define ENDED_MIN_MS 60000
#define ENDED_MAX_MS (60 * 60 * 1000)
#define ENDED_TRIES 8
/* A target without a session for so long is named in the log, at most once a minute. */
#define LONELY_MS 10000
#define LONELY_AGAIN_MS 60000

enum subscription {
	SUBSCRIPTION_ASKED,
	SUBSCRIPTION_ACCEPTED,
	SUBSCRIPTION_ENDED, /* it is asked for again */
	SUBSCRIPTION_REFUSED,
};

/* What is subscribed to. */
struct account {
	struct span jid; /* bare */
	enum subscription state;
	int64_t asked_ms, next_ms; /* when it was asked last, and is asked again */
	int64_t accepted_ms;
	struct backoff backoff; /* after an error */
	struct backoff ended;	/* after an end of the subscription */
	int64_t probe_ms;	/* when a probe is due */
	int64_t confirm_ms;	/* what is still unconfirmed then has left */
};

struct target {
	size_t account;
	bool full;
	int64_t lonely_ms, told_ms; /* when its loneliness is told, and was */
};

struct session_table {
	struct session_config config;
	struct account *accounts;
	size_t accounts_count;
	struct target *targets;
	struct session **available; /* in the order they came */
	size_t count, size;
	bool up;
};

static size_t account_of(struct session_table *t, struct span bare)
{
	for (size_t i = 0; i < t->accounts_count; i++)
		if (span_equal(t->accounts[i].jid, bare))
			return i;
	t->accounts[t->accounts_count] = (struct account){.jid = bare,
		.next_ms = DEADLINE_NEVER,
		.probe_ms = DEADLINE_NEVER,
		.confirm_ms = DEADLINE_NEVER};
	return t->accounts_count++;
}

static void session_free(struct session *s)
{
	free((char *)s->jid.p);
	free(s->details);
	free(s->caps);
	free(s);
}

struct session_table *session_table_new(const struct session_config *config)
{
	struct session_table *t = xcalloc(1, sizeof(*t));

	t->config = *config;
	t->targets = xcalloc(config->targets_count, sizeof(*t->targets));
	t->accounts = xcalloc(config->targets_count, sizeof(*t->accounts));
	for (size_t i = 0; i < config->targets_count; i++) {
		t->targets[i].account = account_of(t, jid_bare(config->targets[i]));
		t->targets[i].full = jid_is_full(config->targets[i]);
		t->targets[i].lonely_ms = DEADLINE_NEVER;
	}
	return t;
}

void session_table_free(struct session_table *t)
{
	if (!t)
		return;
	for (size_t i = 0; i < t->count; i++)
		session_free(t->available[i]);
	free(t->available);
	free(t->targets);
	free(t->accounts);
	free(t);
}

/* Sessions --------------------------------------------------------------- */

size_t session_count(const struct session_table *t)
{
	return t->count;
}

struct session *session_at(const struct session_table *t, size_t i)
{
	return t->available[i];
}

static struct session *find(const struct session_table *t, struct span jid)
{
	for (size_t i = 0; i < t->count; i++)
		if (span_equal(t->available[i]->jid, jid))
			return t->available[i];
	return NULL;
}

int session_target(const struct session_table *t, struct span jid)
{
	for (size_t i = 0; i < t->config.targets_count; i++) {
		const struct target *target = &t->targets[i];
		struct span account = t->accounts[target->account].jid;

		if (!jid_is_of(jid, account))
			continue;
		if (jid.n == account.n || !target->full || span_equal(t->config.targets[i], jid))
			return (int)i;
	}
	return -1;
}

static bool has_session(const struct session_table *t, size_t target)
{
	for (size_t i = 0; i < t->count; i++)
		if (t->available[i]->target == target)
			return true;
	return false;
}

static struct session *add(
	struct session_table *t, struct span jid, size_t target, struct turn *turn)
{
	struct session *s;

	if (t->count >= t->config.max_sessions) {
		err_warn("more than %zu sessions of '%.*s': '%.*s' is not used",
			t->config.max_sessions, SPAN_ARG(t->config.targets[target]), SPAN_ARG(jid));
		return NULL;
	}
	t->available = xgrow(t->available, &t->size, t->count, sizeof(*t->available));
	s = xcalloc(1, sizeof(*s));
	s->jid = (struct span){xstrndup(jid.p, jid.n), jid.n};
	s->target = target;
	t->available[t->count++] = s;
	t->targets[target].lonely_ms = DEADLINE_NEVER;
	err_info("session '%.*s' is available", SPAN_ARG(jid));
	if (t->config.arrived)
		t->config.arrived(t->config.context, s, turn);
	return s;
}

static void remove_at(struct session_table *t, size_t i, bool link_down, struct turn *turn)
{
	struct session *s = t->available[i];

	memmove(t->available + i, t->available + i + 1, (t->count - i - 1) * sizeof(*t->available));
	t->count--;
	if (!link_down) {
		err_info("session '%.*s' has left", SPAN_ARG(s->jid));
		if (!has_session(t, s->target))
			t->targets[s->target].lonely_ms = turn->now_ms + LONELY_MS;
	}
	t->config.left(t->config.context, s, link_down, turn);
	session_free(s);
}

/* Remove the session with this full JID, or all of an account (unconfirmed: of these). */
static void remove_some(struct session_table *t, struct span full, size_t account, bool unconfirmed,
	struct turn *turn)
{
	size_t before = t->count;

	for (size_t i = t->count; i-- > 0;) {
		const struct session *s = t->available[i];

		if (full.p ? span_equal(s->jid, full)
			   : t->targets[s->target].account == account &&
					(s->unconfirmed || !unconfirmed))
			remove_at(t, i, false, turn);
	}
	if (t->count != before)
		t->config.changed(t->config.context, turn);
}

/* Subscription ----------------------------------------------------------- */

/* False: no room in the output. */
static bool send_presence(
	struct session_table *t, struct turn *turn, struct span to, const char *type)
{
	writer_start(turn->writer, "presence", type, SPAN_NONE, to, t->config.domain);
	writer_raw(turn->writer, "/>");
	return writer_end(turn->writer) != WRITER_FULL;
}

static void ask(struct session_table *t, struct turn *turn, struct account *a)
{
	bool sent = send_presence(t, turn, a->jid, "subscribe");

	a->state = SUBSCRIPTION_ASKED;
	a->asked_ms = turn->now_ms;
	a->next_ms = sent ? turn->now_ms + REPEAT_MS : turn->now_ms;
}

static void probe(struct session_table *t, struct turn *turn, struct account *a)
{
	if (!send_presence(t, turn, a->jid, "probe")) {
		a->probe_ms = turn->now_ms;
		return;
	}
	a->probe_ms = DEADLINE_NEVER;
	for (size_t i = 0; i < t->count; i++)
		if (&t->accounts[t->targets[t->available[i]->target].account] == a)
			t->available[i]->probed = true;
}

void session_doubt(struct session_table *t, const struct session *doubtful, struct turn *turn)
{
	size_t account = t->targets[doubtful->target].account;
	struct account *a = &t->accounts[account];

	if (a->confirm_ms != DEADLINE_NEVER)
		return;
	a->confirm_ms = turn->now_ms + t->config.confirm_ms;
	for (size_t i = 0; i < t->count; i++)
		if (t->targets[t->available[i]->target].account == account)
			t->available[i]->unconfirmed = true;
	probe(t, turn, a);
}

void session_up(struct session_table *t, struct turn *turn)
{
	t->up = true;
	for (size_t i = 0; i < t->accounts_count; i++) {
		t->accounts[i].backoff =
			(struct backoff){.first_ms = RETRY_MIN_MS, .max_ms = RETRY_MAX_MS};
		t->accounts[i].ended =
			(struct backoff){.first_ms = ENDED_MIN_MS, .max_ms = ENDED_MAX_MS};
		ask(t, turn, &t->accounts[i]);
	}
	for (size_t i = 0; i < t->config.targets_count; i++)
		t->targets[i].lonely_ms = turn->now_ms + LONELY_MS;
}

void session_down(struct session_table *t, struct turn *turn)
{
	t->up = false;
	for (size_t i = 0; i < t->accounts_count; i++) {
		struct account *a = &t->accounts[i];

		a->next_ms = a->probe_ms = a->confirm_ms = DEADLINE_NEVER;
	}
	for (size_t i = 0; i < t->config.targets_count; i++)
		t->targets[i].lonely_ms = DEADLINE_NEVER;
	while (t->count)
		remove_at(t, t->count - 1, true, turn);
	t->config.changed(t->config.context, turn);
}

void session_resubscribe(struct session_table *t, struct turn *turn)
{
	for (size_t i = 0; i < t->accounts_count; i++)
		if (t->accounts[i].state != SUBSCRIPTION_ACCEPTED) {
			t->accounts[i].backoff.times = 0;
			t->accounts[i].ended.times = 0;
			ask(t, turn, &t->accounts[i]);
		}
}

static int64_t earlier(int64_t a_ms, int64_t b_ms)
{
	return a_ms < b_ms ? a_ms : b_ms;
}

int64_t session_deadline(const struct session_table *t)
{
	int64_t deadline_ms = DEADLINE_NEVER;

	for (size_t i = 0; i < t->accounts_count; i++) {
		const struct account *a = &t->accounts[i];

		deadline_ms = earlier(deadline_ms, earlier(a->next_ms, a->probe_ms));
		deadline_ms = earlier(deadline_ms, a->confirm_ms);
	}
	for (size_t i = 0; i < t->config.targets_count; i++)
		deadline_ms = earlier(deadline_ms, t->targets[i].lonely_ms);
	return deadline_ms;
}

static void tell_lonely(struct session_table *t, size_t i, int64_t now_ms)
{
	struct target *target = &t->targets[i];

	if (target->told_ms && now_ms - target->told_ms < LONELY_AGAIN_MS) {
		target->lonely_ms = target->told_ms + LONELY_AGAIN_MS;
		return;
	}
	err_warn("no session of '%.*s' for %d s: is the account there, is its client logged in, "
		 "and has it accepted the subscription of '%.*s'?",
		SPAN_ARG(t->config.targets[i]), LONELY_MS / 1000, SPAN_ARG(t->config.domain));
	target->told_ms = now_ms;
	target->lonely_ms = DEADLINE_NEVER;
}

void session_tick(struct session_table *t, struct turn *turn)
{
	for (size_t i = 0; i < t->accounts_count; i++) {
		struct account *a = &t->accounts[i];

		if (a->next_ms <= turn->now_ms)
			ask(t, turn, a);
		if (a->probe_ms <= turn->now_ms)
			probe(t, turn, a);
		if (a->confirm_ms <= turn->now_ms) {
			a->confirm_ms = DEADLINE_NEVER;
			remove_some(t, SPAN_NONE, i, true, turn);
		}
	}
	for (size_t i = 0; i < t->config.targets_count; i++)
		if (t->targets[i].lonely_ms <= turn->now_ms)
			tell_lonely(t, i, turn->now_ms);
}

/* Presence --------------------------------------------------------------- */

/* The number a priority element holds: -128..127 (RFC 6121 4.7.2.3), 0 if it is none. */
static int priority_of(const struct stanza *s)
{
	const struct xml_node *node = xml_child(s->root, "", "priority");
	struct buf text;
	long value = 0;

	if (!node)
		return 0;
	buf_init(&text, 64);
	if (xml_node_text(s->text, node, &text))
		value = strtol(buf_string(&text), NULL, 10);
	buf_free(&text);
	return value < -128 ? -128 : value > 127 ? 127 : (int)value;
}

static enum session_show show_of(const struct stanza *s)
{
	static const char *const names[] = {"", "chat", "away", "xa", "dnd"};
	const struct xml_node *node = xml_child(s->root, "", "show");
	enum session_show show = SHOW_ONLINE;
	struct buf text;

	if (!node)
		return SHOW_ONLINE;
	buf_init(&text, 64);
	if (xml_node_text(s->text, node, &text))
		for (int i = SHOW_CHAT; i <= SHOW_DND; i++)
			if (span_is(buf_span(&text), names[i]))
				show = (enum session_show)i;
	buf_free(&text);
	return show;
}

static void details_of(const struct session_table *t, const struct stanza *s,
	enum session_show show, struct session *out)
{
	static const char *const shows[] = {"", "chat", "away", "xa", "dnd"};
	const struct xml_node *caps = xml_child(s->root, NS_CAPS, "c");
	const struct xml_node *status = xml_child(s->root, "", "status");
	struct buf xml, text;
	struct writer w;

	buf_init(&xml, 16 * 1024);
	buf_init(&text, 4 * 1024);
	writer_init(&w, &xml, WRITER_PIPE, 0);
	writer_begin(&w);
	if (show != SHOW_ONLINE)
		buf_printf(&xml, "<show>%s</show>", shows[show]);
	if (status && t->config.keep == KEEP_STATUS && xml_node_text(s->text, status, &text) &&
		buf_length(&text)) {
		writer_raw(&w, "<status>");
		writer_text(&w, buf_span(&text));
		writer_raw(&w, "</status>");
	}
	if (caps && xml_attribute(caps, "node").p && xml_attribute(caps, "ver").p) {
		writer_raw(&w, "<c xmlns='" NS_CAPS "'");
		writer_attribute(&w, "hash", xml_attribute(caps, "hash"));
		writer_attribute(&w, "node", xml_attribute(caps, "node"));
		writer_attribute(&w, "ver", xml_attribute(caps, "ver"));
		writer_raw(&w, "/>");
		buf_reset(&text);
		buf_append_span(&text, xml_attribute(caps, "node"));
		buf_append_char(&text, '#');
		buf_append_span(&text, xml_attribute(caps, "ver"));
		out->caps = xstrdup(buf_string(&text));
	}
	out->details = xstrdup(buf_string(&xml));
	buf_free(&text);
	buf_free(&xml);
}

static bool same_text(const char *a, const char *b)
{
	return a == b || (a && b && strcmp(a, b) == 0);
}

static void available(
	struct session_table *t, const struct stanza *s, size_t target, struct turn *turn)
{
	struct session *session = find(t, s->from);
	struct session now = {.priority = priority_of(s), .show = show_of(s)};
	bool asked_for;

	if (!session)
		session = add(t, s->from, target, turn);
	if (!session)
		return;
	asked_for = session->probed;
	session->probed = session->unconfirmed = false;
	if (!asked_for && t->config.alive)
		t->config.alive(t->config.context, session, turn);
	if (t->config.keep != KEEP_NOTHING)
		details_of(t, s, now.show, &now);
	if (session->known && session->priority == now.priority && session->show == now.show &&
		same_text(session->details, now.details)) {
		free(now.details);
		free(now.caps);
		return;
	}
	session->known = true;
	session->priority = now.priority;
	session->show = now.show;
	free(session->details);
	free(session->caps);
	session->details = now.details;
	session->caps = now.caps;
	t->config.changed(t->config.context, turn);
}

static void on_error(const struct stanza *s, struct account *a, struct turn *turn)
{
	struct span condition = stanza_error_condition(s);
	int64_t wait_ms;

	if (a->state == SUBSCRIPTION_REFUSED)
		return;
	if (!condition.n)
		condition = SPAN("no reason given");
	wait_ms = backoff_next_ms(&a->backoff);
	err_note("'%.*s' cannot be subscribed to (%.*s): asking again in %lld s", SPAN_ARG(a->jid),
		SPAN_ARG(condition), (long long)(wait_ms / 1000));
	a->state = SUBSCRIPTION_ASKED;
	a->next_ms = turn->now_ms + wait_ms;
}

static void on_unsubscribed(struct account *a, struct turn *turn)
{
	int64_t wait_ms;

	if (turn->now_ms - a->asked_ms <= REFUSAL_MS || a->ended.times == ENDED_TRIES) {
		err_warn("'%.*s' has refused our subscription: asking again at the next reconnect "
			 "or SIGHUP",
			SPAN_ARG(a->jid));
		a->state = SUBSCRIPTION_REFUSED;
		a->next_ms = DEADLINE_NEVER;
		return;
	}
	if (a->state == SUBSCRIPTION_ACCEPTED && turn->now_ms - a->accepted_ms > ENDED_MAX_MS)
		a->ended.times = 0;
	wait_ms = backoff_next_ms(&a->ended);
	err_warn("'%.*s' has ended our subscription (was its roster emptied?): asking again in "
		 "%lld s",
		SPAN_ARG(a->jid), (long long)(wait_ms / 1000));
	a->state = SUBSCRIPTION_ENDED;
	a->next_ms = turn->now_ms + wait_ms;
}

static bool is_account(const struct session_table *t, struct span bare)
{
	for (size_t i = 0; i < t->accounts_count; i++)
		if (span_equal(t->accounts[i].jid, bare))
			return true;
	return false;
}

bool session_presence(struct session_table *t, const struct stanza *s, struct turn *turn)
{
	int index = session_target(t, s->from);
	bool full = jid_is_full(s->from);
	struct account *a;
	size_t account;

	if (index < 0) /* another client of an account of which only one is a target */
		return full && is_account(t, jid_bare(s->from));
	account = t->targets[index].account;
	a = &t->accounts[account];
	switch (s->type) {
	case TYPE_NONE:
		if (full)
			available(t, s, (size_t)index, turn);
		return true;
	case TYPE_UNAVAILABLE:
		remove_some(t, full ? s->from : SPAN_NONE, account, false, turn);
		return true;
	case TYPE_ERROR:
		remove_some(t, full ? s->from : SPAN_NONE, account, false, turn);
		if (!full)
			on_error(s, a, turn);
		return true;
	case TYPE_SUBSCRIBED:
		if (a->state != SUBSCRIPTION_ACCEPTED)
			a->accepted_ms = turn->now_ms;
		a->state = SUBSCRIPTION_ACCEPTED;
		a->next_ms = DEADLINE_NEVER;
		a->backoff.times = 0;
		probe(t, turn, a);
		return true;
	case TYPE_UNSUBSCRIBED:
		on_unsubscribed(a, turn);
		remove_some(t, SPAN_NONE, account, false, turn);
		return true;
	default:
		return false;
	}
}
