#include "xmpp/session.h"

#include <stdlib.h>

#include "base/deadline.h"
#include "base/err.h"
#include "xmpp/jid.h"

#define RETRY_MIN_MS 1000
#define RETRY_MAX_MS (5 * 60 * 1000)
#define REPEAT_MS (10 * 60 * 1000)

enum subscription { SUBSCRIPTION_ASKED, SUBSCRIPTION_ACCEPTED, SUBSCRIPTION_REFUSED };

struct target {
	enum subscription state;
	int64_t next_ms; /* when to ask again */
	int64_t retry_ms;
};

struct session_table {
	struct session_config config;
	struct target *targets;
	struct session **available; /* in the order they came */
	size_t count, size;
	uint64_t serial;
	bool up;
};

struct session_table *session_table_new(const struct session_config *config)
{
	struct session_table *t = xcalloc(1, sizeof(*t));

	t->config = *config;
	t->targets = xcalloc(config->targets_count, sizeof(*t->targets));
	for (size_t i = 0; i < config->targets_count; i++)
		t->targets[i].next_ms = DEADLINE_NEVER;
	return t;
}

void session_table_free(struct session_table *t)
{
	if (!t)
		return;
	for (size_t i = 0; i < t->count; i++)
		session_release(t, t->available[i]);
	free(t->available);
	free(t->targets);
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

struct session *session_find(const struct session_table *t, struct span jid)
{
	for (size_t i = 0; i < t->count; i++)
		if (span_equal(t->available[i]->jid, jid))
			return t->available[i];
	return NULL;
}

struct session *session_by_serial(const struct session_table *t, uint64_t serial)
{
	for (size_t i = 0; i < t->count; i++)
		if (t->available[i]->serial == serial)
			return t->available[i];
	return NULL;
}

int session_target(const struct session_table *t, struct span jid)
{
	struct span bare = jid_bare(jid);

	for (size_t i = 0; i < t->config.targets_count; i++)
		if (span_equal(t->config.targets[i], bare))
			return (int)i;
	return -1;
}

void session_hold(struct session *s)
{
	s->holds++;
}

void session_release(struct session_table *t, struct session *s)
{
	(void)t;
	if (--s->holds == 0) {
		free((char *)s->jid.p);
		free(s);
	}
}

static struct session *add(struct session_table *t, struct span jid, size_t target)
{
	struct session *s;

	if (t->count >= t->config.max_sessions) {
		err_warn("more than %zu sessions of '%.*s': '%.*s' is not used",
			t->config.max_sessions, SPAN_ARG(t->config.targets[target]), SPAN_ARG(jid));
		return NULL;
	}
	if (t->count == t->size) {
		t->size = t->size ? t->size * 2 : 8;
		t->available = xrealloc(t->available, t->size * sizeof(*t->available));
	}
	s = xcalloc(1, sizeof(*s));
	s->jid = (struct span){xstrndup(jid.p, jid.n), jid.n};
	s->serial = ++t->serial;
	s->target = target;
	s->available = true;
	s->holds = 1;
	t->available[t->count++] = s;
	err_info("session '%.*s' is available", SPAN_ARG(jid));
	if (t->config.arrived)
		t->config.arrived(t->config.context, s);
	return s;
}

static void remove_at(struct session_table *t, size_t i, bool link_down, struct turn *turn)
{
	struct session *s = t->available[i];

	memmove(t->available + i, t->available + i + 1, (t->count - i - 1) * sizeof(*t->available));
	t->count--;
	s->available = false;
	if (!link_down)
		err_info("session '%.*s' has left", SPAN_ARG(s->jid));
	t->config.left(t->config.context, s, link_down, turn);
	session_release(t, s);
}

/* Remove the session with this full JID, or all of a target. */
static void remove_some(struct session_table *t, struct span full, size_t target, struct turn *turn)
{
	size_t before = t->count;

	for (size_t i = t->count; i-- > 0;)
		if (full.p ? span_equal(t->available[i]->jid, full)
			   : t->available[i]->target == target)
			remove_at(t, i, false, turn);
	if (t->count != before)
		t->config.changed(t->config.context, turn);
}

/* Subscription ----------------------------------------------------------- */

static void send_presence(
	struct session_table *t, struct turn *turn, size_t target, const char *type)
{
	writer_start(turn->writer, "presence", type, SPAN_NONE, t->config.targets[target],
		t->config.domain);
	writer_raw(turn->writer, "/>");
	writer_end(turn->writer);
}

static void ask(struct session_table *t, struct turn *turn, size_t target)
{
	t->targets[target].state = SUBSCRIPTION_ASKED;
	t->targets[target].next_ms = turn->now_ms + REPEAT_MS;
	send_presence(t, turn, target, "subscribe");
}

void session_up(struct session_table *t, struct turn *turn)
{
	t->up = true;
	for (size_t i = 0; i < t->config.targets_count; i++) {
		t->targets[i].retry_ms = RETRY_MIN_MS;
		ask(t, turn, i);
	}
}

void session_down(struct session_table *t, struct turn *turn)
{
	t->up = false;
	for (size_t i = 0; i < t->config.targets_count; i++)
		t->targets[i].next_ms = DEADLINE_NEVER;
	while (t->count)
		remove_at(t, t->count - 1, true, turn);
	t->config.changed(t->config.context, turn);
}

void session_resubscribe(struct session_table *t, struct turn *turn)
{
	for (size_t i = 0; i < t->config.targets_count; i++)
		if (t->targets[i].state != SUBSCRIPTION_ACCEPTED) {
			t->targets[i].retry_ms = RETRY_MIN_MS;
			ask(t, turn, i);
		}
}

int64_t session_deadline(const struct session_table *t)
{
	int64_t deadline_ms = DEADLINE_NEVER;

	for (size_t i = 0; i < t->config.targets_count; i++)
		if (t->targets[i].next_ms < deadline_ms)
			deadline_ms = t->targets[i].next_ms;
	return deadline_ms;
}

void session_tick(struct session_table *t, struct turn *turn)
{
	for (size_t i = 0; i < t->config.targets_count; i++)
		if (t->targets[i].next_ms <= turn->now_ms)
			ask(t, turn, i);
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

static void available(
	struct session_table *t, const struct stanza *s, size_t target, struct turn *turn)
{
	struct session *session = session_find(t, s->from);
	int priority = priority_of(s);
	enum session_show show = show_of(s);

	if (session && session->priority == priority && session->show == show)
		return;
	if (!session)
		session = add(t, s->from, target);
	if (!session)
		return;
	session->priority = priority;
	session->show = show;
	t->config.changed(t->config.context, turn);
}

bool session_presence(struct session_table *t, const struct stanza *s, struct turn *turn)
{
	int index = session_target(t, s->from);
	bool full = jid_is_full(s->from);
	struct target *target;
	size_t i;

	if (index < 0)
		return false;
	i = (size_t)index;
	target = &t->targets[i];
	switch (s->type) {
	case TYPE_NONE:
		if (full)
			available(t, s, i, turn);
		return true;
	case TYPE_UNAVAILABLE:
		remove_some(t, full ? s->from : SPAN_NONE, i, turn);
		return true;
	case TYPE_ERROR:
		remove_some(t, full ? s->from : SPAN_NONE, i, turn);
		if (!full && target->state != SUBSCRIPTION_REFUSED) {
			struct span condition = stanza_error_condition(s);

			if (!condition.n)
				condition = SPAN("no reason given");
			err_note("'%.*s' cannot be subscribed to (%.*s): asking again in %lld s",
				SPAN_ARG(t->config.targets[i]), SPAN_ARG(condition),
				(long long)(target->retry_ms / 1000));
			target->state = SUBSCRIPTION_ASKED;
			target->next_ms = turn->now_ms + target->retry_ms;
			target->retry_ms *= 2;
			if (target->retry_ms > RETRY_MAX_MS)
				target->retry_ms = RETRY_MAX_MS;
		}
		return true;
	case TYPE_SUBSCRIBED:
		target->state = SUBSCRIPTION_ACCEPTED;
		target->next_ms = DEADLINE_NEVER;
		target->retry_ms = RETRY_MIN_MS;
		send_presence(t, turn, i, "probe");
		return true;
	case TYPE_UNSUBSCRIBED:
		err_warn("'%.*s' has refused or ended our subscription",
			SPAN_ARG(t->config.targets[i]));
		target->state = SUBSCRIPTION_REFUSED;
		target->next_ms = DEADLINE_NEVER;
		remove_some(t, SPAN_NONE, i, turn);
		return true;
	default:
		return false;
	}
}
