#include "xmpp/steps.h"

#include <stdlib.h>

#include "base/err.h"
#include "base/holdings.h"
#include "base/table.h"

#define NS_SI "http://jabber.org/protocol/si"
#define NS_IBB "http://jabber.org/protocol/ibb"
#define NS_BYTESTREAMS "http://jabber.org/protocol/bytestreams"

struct step {
	struct holding holding; /* first: a holding is its step */
	struct worker *worker;
};

struct steps {
	struct steps_config config;
	struct table *table;
	struct holdings *holdings;
	struct buf key;
};

struct steps *steps_new(const struct steps_config *config)
{
	struct steps *t = xcalloc(1, sizeof(*t));

	t->config = *config;
	t->table = table_new(config->max, config->max_bytes, config->seed);
	t->holdings = holdings_new(config->seed);
	buf_init(&t->key, BUF_NO_MAX);
	return t;
}

static void step_remove(struct steps *t, struct step *step)
{
	holdings_remove(t->holdings, &step->holding);
	worker_release(t->config.balance, step->worker);
	table_remove(t->table, table_entry_of(step));
}

void steps_free(struct steps *t)
{
	struct table_entry *e;

	if (!t)
		return;
	while ((e = table_earliest(t->table)))
		step_remove(t, table_record(e));
	table_free(t->table);
	holdings_free(t->holdings);
	buf_free(&t->key);
	free(t);
}

void steps_note(struct steps *t, struct span group, struct span owner, struct span key,
	struct worker *w, int64_t now_ms)
{
	struct table_entry *e = table_find(t->table, key);
	struct holding *oldest;
	struct step *step;

	if (!e) {
		if (holdings_of(t->holdings, owner, &oldest) >= t->config.max_of_one)
			step_remove(t, (struct step *)(void *)oldest);
		while (!(e = table_add(t->table, key, sizeof(*step), now_ms))) {
			oldest = holdings_victim(t->holdings);
			if (!oldest)
				return;
			step_remove(t, (struct step *)(void *)oldest);
		}
		holdings_add(t->holdings, table_record(e), group, owner);
	}
	step = table_record(e);
	worker_hold(w);
	if (step->worker)
		worker_release(t->config.balance, step->worker);
	step->worker = w;
	holdings_renew(&step->holding);
	table_deadline_set(t->table, e, now_ms + t->config.life_ms);
}

struct worker *steps_find(struct steps *t, struct span key, int64_t now_ms)
{
	struct table_entry *e = table_count(t->table) ? table_find(t->table, key) : NULL;
	struct step *step = e ? table_record(e) : NULL;

	if (!step || step->worker->state != WORKER_THERE)
		return NULL;
	holdings_renew(&step->holding);
	table_deadline_set(t->table, e, now_ms + t->config.life_ms);
	return step->worker;
}

int64_t steps_deadline(const struct steps *t)
{
	return table_deadline(t->table);
}

void steps_tick(struct steps *t, int64_t now_ms)
{
	struct table_entry *e;

	while ((e = table_earliest(t->table)) && e->deadline_ms <= now_ms)
		step_remove(t, table_record(e));
}

/* What a stream initiation (XEP-0095) names its stream stands as sid in the bytestreams of
 * XEP-0047 and XEP-0065 that follow: these three are one namespace here. */
static struct span step_namespace(struct span ns)
{
	return span_is(ns, NS_IBB) || span_is(ns, NS_BYTESTREAMS) ? SPAN(NS_SI) : ns;
}

/* Make t->key of the conversation. False: s belongs to none. */
static bool make_key(struct steps *t, const struct stanza *s, struct span user)
{
	const struct xml_node *payload = stanza_payload(s);
	struct span value, ns;

	if (!payload)
		return false;
	value = xml_attribute(payload, "sessionid");
	if (!value.n)
		value = xml_attribute(payload, "sid");
	if (!value.n && span_is(payload->ns, NS_SI))
		value = xml_attribute(payload, "id");
	if (!value.n)
		return false;
	ns = step_namespace(payload->ns);
	buf_reset(&t->key);
	buf_append_span(&t->key, user);
	buf_append_char(&t->key, '\0');
	buf_append_span(&t->key, ns);
	buf_append_char(&t->key, '\0');
	buf_append_span(&t->key, value);
	return true;
}

bool steps_of(struct steps *t, const struct stanza *s, struct worker **w, int64_t now_ms)
{
	bool step = make_key(t, s, s->from);

	*w = step ? steps_find(t, buf_span(&t->key), now_ms) : NULL;
	return step;
}

void steps_note_payload(
	struct steps *t, const struct stanza *s, struct span user, struct worker *w, int64_t now_ms)
{
	if (make_key(t, s, user))
		steps_note(t, shares_group(t->config.shares, user), user, buf_span(&t->key), w,
			now_ms);
}
