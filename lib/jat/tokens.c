#include "jat/tokens.h"

#include "base/deadline.h"
#include "xmpp/jid.h"

void tokens_init(struct tokens *t, const struct jat *jat, struct alias_table *aliases,
	const uint64_t seed[2])
{
	*t = (struct tokens){.jat = *jat,
		.own = jat->domain,
		.served = jat->served.p ? jat->served : jat->domain,
		.apart = jat->served.p && !span_equal(jat->served, jat->domain),
		.aliases = aliases,
		.short_open = table_new(SIZE_MAX / 2, SIZE_MAX / 2, seed)};
	buf_init(&t->address, BUF_NO_MAX);
	buf_init(&t->text, BUF_NO_MAX);
}

void tokens_free(struct tokens *t)
{
	alias_table_free(t->aliases);
	table_free(t->short_open);
	buf_free(&t->address);
	buf_free(&t->text);
}

bool domain_is_at(struct span domain, struct span own)
{
	return span_equal(domain, own) ||
	       (domain.n > own.n && domain.p[domain.n - own.n - 1] == '.' &&
		       memcmp(domain.p + domain.n - own.n, own.p, own.n) == 0);
}

bool tokens_ours(const struct tokens *t, struct span jid)
{
	struct span domain, token;

	/* most are D itself, or A/TOKEN */
	if (span_equal(jid, t->served) || tokens_find(t, jid, &token))
		return true;
	domain = jid_domain(jid);
	return domain_is_at(domain, t->served) || domain_is_at(domain, t->own);
}

struct span tokens_make(struct tokens *t, const struct shares *shares, struct span asked,
	struct span user, int64_t now_ms)
{
	size_t head;

	if (!asked.p)
		asked = t->served;
	buf_reset(&t->address);
	buf_append_span(&t->address, t->own);
	buf_append_char(&t->address, '/');
	head = buf_length(&t->address);
	if (jat_encode(&t->jat, asked, user, &t->address) != JAT_OK &&
		!alias_name(
			t->aliases, shares_group(shares, user), user, asked, now_ms, &t->address))
		return SPAN_NONE;
	return span_from(buf_span(&t->address), head);
}

/* Whether it has no local part. */
static bool is_domain(struct span jid)
{
	struct span bare = jid_bare(jid);

	return !memchr(bare.p, '@', bare.n);
}

static bool is_short(const struct tokens *t, struct span token)
{
	return t->jat.encoding == JAT_PLAIN && token.n && token.p[0] != ALIAS_MARK &&
	       is_domain(token);
}

bool tokens_find(const struct tokens *t, struct span address, struct span *token)
{
	if (address.n < t->own.n + 2 || address.p[t->own.n] != '/' || !span_starts(address, t->own))
		return false;
	*token = span_from(address, t->own.n + 1);
	return true;
}

bool tokens_read(struct tokens *t, struct span address, struct span *token, struct span *user,
	struct span *asked)
{
	if (!tokens_find(t, address, token))
		return false;
	if (token->p[0] == ALIAS_MARK && alias_find(t->aliases, *token, user, asked))
		return true;
	buf_reset(&t->text);
	return jat_decode(&t->jat, *token, &t->text, user, asked) == JAT_OK &&
	       (!is_short(t, *token) || table_find(t->short_open, *token));
}

void tokens_opened(struct tokens *t, struct span token)
{
	struct table_entry *e;

	if (!is_short(t, token))
		return;
	e = table_find(t->short_open, token);
	if (!e)
		e = table_add(t->short_open, token, sizeof(size_t), DEADLINE_NEVER);
	++*(size_t *)table_record(e);
}

void tokens_closed(struct tokens *t, struct span token)
{
	struct table_entry *e = is_short(t, token) ? table_find(t->short_open, token) : NULL;

	if (e && --*(size_t *)table_record(e) == 0)
		table_remove(t->short_open, e);
}
