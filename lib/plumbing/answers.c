#include "plumbing/answers.h"

#include <stdlib.h>
#include <string.h>

#include "base/err.h"
#include "base/random.h"
#include "base/table.h"

#define MAX_BYTES ((size_t)256 * 1024 * 1024)

enum state { WAITING, ANSWERED };

/* A record of the table. The three texts follow it. */
struct asked {
	enum state state;
	bool ping, due; /* due: we answer it at the deadline; otherwise it is forgotten then */
	size_t from_n, to_n, id_n;
	char texts[];
};

struct answers {
	struct answers_config config;
	struct table *asked;
	struct buf key;
	bool reader_gone;
};

struct answers *answers_new(const struct answers_config *config)
{
	struct answers *a = xcalloc(1, sizeof(*a));
	uint64_t seed[2];

	random_bytes(seed, sizeof(seed));
	a->config = *config;
	a->asked = table_new(config->max, MAX_BYTES, seed);
	buf_init(&a->key, BUF_NO_MAX);
	return a;
}

void answers_free(struct answers *a)
{
	table_free(a->asked);
	buf_free(&a->key);
	free(a);
}

static struct span key_of(struct answers *a, struct span asker, struct span asked, struct span id)
{
	struct span own = span_of(a->config.own);

	buf_reset(&a->key);
	buf_append_span(&a->key, asker.n ? asker : own);
	buf_append_char(&a->key, '\0');
	if (a->config.component)
		buf_append_span(&a->key, asked.n ? asked : own);
	buf_append_char(&a->key, '\0');
	buf_append_span(&a->key, id);
	return buf_span(&a->key);
}

static bool is_ping(const struct stanza *s)
{
	const struct xml_node *payload = stanza_payload(s);

	return s->type == TYPE_GET && payload && span_is(payload->name, "ping") &&
	       span_is(payload->ns, NS_PING);
}

static char *put(char *to, struct span text)
{
	if (text.n)
		memcpy(to, text.p, text.n);
	return to + text.n;
}

void answers_asked(struct answers *a, const struct stanza *s, int64_t now_ms)
{
	struct span key = key_of(a, s->from, s->to, s->id);
	bool ping = a->config.pings && is_ping(s), due = ping || a->config.all || a->reader_gone;
	int64_t wait_ms = a->reader_gone ? 0 : due ? ANSWERS_WAIT_MS : ANSWERS_KEEP_MS;
	size_t record_bytes = sizeof(struct asked) + s->from.n + s->to.n + s->id.n;
	struct table_entry *e;
	struct asked *asked;
	char *to;

	if (!stanza_is_request(s))
		return;
	while (!(e = table_add(a->asked, key, record_bytes, now_ms + wait_ms))) {
		if (!table_count(a->asked))
			return;
		table_remove(a->asked, table_earliest(a->asked));
	}
	asked = table_record(e);
	*asked = (struct asked){
		.ping = ping, .due = due, .from_n = s->from.n, .to_n = s->to.n, .id_n = s->id.n};
	to = put(asked->texts, s->from);
	to = put(to, s->to);
	put(to, s->id);
}

bool answers_given(struct answers *a, const struct stanza *s)
{
	struct table_entry *e = table_find(a->asked, key_of(a, s->to, s->from, s->id));
	struct asked *asked = e ? table_record(e) : NULL;

	if (!e)
		return true;
	if (asked->state == WAITING) {
		table_remove(a->asked, e);
		return true;
	}
	return false;
}

static bool is_waiting(void *context, struct table_entry *e)
{
	(void)context;
	return ((struct asked *)table_record(e))->state == WAITING;
}

void answers_reader_gone(struct answers *a)
{
	size_t count;
	struct table_entry **waiting = table_gather(a->asked, is_waiting, NULL, &count);

	a->reader_gone = true;
	for (size_t i = 0; i < count; i++) {
		((struct asked *)table_record(waiting[i]))->due = true;
		table_deadline_set(a->asked, waiting[i], 0);
	}
	free(waiting);
}

static enum writer_status answer(
	const struct answers *a, struct table_entry *e, struct writer *writer)
{
	const struct asked *asked = table_record(e);
	const char *p = asked->texts;
	struct span from = {p, asked->from_n}, to = {p + from.n, asked->to_n};
	struct span id = {p + from.n + to.n, asked->id_n};

	if (!from.n)
		from = SPAN_NONE;
	if (!to.n)
		to = SPAN_NONE;
	if (!asked->ping)
		return stanza_error_send(writer, "iq", from, to, id, a->config.error, NULL);
	writer_begin(writer);
	writer_raw(writer, "<iq type='result'");
	writer_attribute(writer, "id", id);
	writer_attribute(writer, "to", from);
	writer_attribute(writer, "from", to);
	writer_raw(writer, "/>");
	return writer_end(writer);
}

void answers_tick(struct answers *a, struct turn *turn)
{
	struct table_entry *e;

	while ((e = table_earliest(a->asked)) && e->deadline_ms <= turn->now_ms) {
		struct asked *asked = table_record(e);

		if (asked->state == ANSWERED || !asked->due) {
			table_remove(a->asked, e);
			continue;
		}
		if (!turn->writer || answer(a, e, turn->writer) == WRITER_FULL)
			return;
		asked->state = ANSWERED;
		table_deadline_set(a->asked, e, turn->now_ms + ANSWERS_KEEP_MS);
	}
}

int64_t answers_deadline(const struct answers *a)
{
	return table_deadline(a->asked);
}
