#include "plumbing/unanswered.h"

#include "base/random.h"
#include "xmpp/jid.h"

#define MAX_BYTES ((size_t)256 * 1024 * 1024)

void unanswered_init(struct unanswered *u, const char *own, bool component, size_t max)
{
	uint64_t seed[2];

	random_bytes(seed, sizeof(seed));
	*u = (struct unanswered){.own = own, .component = component, .max = max};
	u->open = table_new(max, MAX_BYTES, seed);
	buf_init(&u->key, BUF_NO_MAX);
}

void unanswered_free(struct unanswered *u)
{
	if (!u->open)
		return;
	table_free(u->open);
	buf_free(&u->key);
}

static void append_address(struct buf *key, struct span typed)
{
	if (!typed.p || !jid_normalise(typed, key))
		buf_append_span(key, typed);
	buf_append_char(key, '\0');
}

/* A user asks from one address; without another address the own account is asked, or answers
 * (RFC 6120 8.1.1.1, 8.1.2.1). */
static struct span key_of(
	struct unanswered *u, struct span asker, struct span asked, struct span id)
{
	struct span own = span_of(u->own);

	buf_reset(&u->key);
	if (u->component)
		append_address(&u->key, asker.n ? asker : own);
	append_address(&u->key, asked.n || u->component ? asked : own);
	buf_append_span(&u->key, id);
	return buf_span(&u->key);
}

bool unanswered_add(struct unanswered *u, const struct stanza *s, int64_t deadline_ms)
{
	if (table_add(u->open, key_of(u, s->from, s->to, s->id), 0, deadline_ms))
		return true;
	u->given_up++;
	return false;
}

bool unanswered_take(struct unanswered *u, const struct stanza *s)
{
	struct table_entry *e =
		s->id.n ? table_find(u->open, key_of(u, s->to, s->from, s->id)) : NULL;

	if (e)
		table_remove(u->open, e);
	return e != NULL;
}

void unanswered_give_up(struct unanswered *u, int64_t now_ms)
{
	while (table_deadline(u->open) <= now_ms) {
		table_remove(u->open, table_earliest(u->open));
		u->given_up++;
	}
}

bool unanswered_full(const struct unanswered *u)
{
	return table_count(u->open) >= u->max;
}
