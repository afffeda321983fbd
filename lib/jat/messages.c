#include "jat/messages.h"

#include "xmpp/jid.h"

#define TALK_LIFE_MS (60 * 60 * 1000)

void messages_init(struct messages *m, size_t max, size_t max_bytes, const uint64_t seed[2])
{
	m->senders = steps_new(&(struct steps_config){.max = max,
		.max_bytes = max_bytes,
		.max_of_one = 1,
		.life_ms = TALK_LIFE_MS,
		.seed = {seed[0], seed[1]},
		.balance = m->dispatch->balance});
}

void messages_free(struct messages *m)
{
	steps_free(m->senders);
}

/* w and user talk with each other. */
static void note(struct messages *m, struct span user, struct worker *w, int64_t now_ms)
{
	struct span bare = jid_bare(user);

	steps_note(m->senders, shares_group(m->shares, user), bare, bare, w, now_ms);
}

static enum counter send(
	const struct stanza *s, struct span to, struct span from, struct turn *turn)
{
	const struct stanza_edit edit = {.to = to, .from = from};

	if (s->refusal)
		return COUNT_TOO_LARGE;
	switch (writer_stanza(turn->writer, s, &edit)) {
	case WRITER_OK:
		return COUNT_MESSAGES;
	case WRITER_TOO_LARGE:
		return COUNT_TOO_LARGE;
	default:
		return COUNT_CONSTRAINT;
	}
}

/* A target for a message while no session is there: always the same one for a user. */
static struct span account_for(const struct messages *m, struct span user)
{
	static const uint64_t seed[2] = {0, 0};
	const struct dispatch_options *o = &m->dispatch->config.options;

	return o->targets[table_hash(seed, jid_bare(user)) % o->targets_count];
}

static enum counter to_session(struct messages *m, const struct stanza *s, struct turn *turn)
{
	struct worker *w = steps_find(m->senders, jid_bare(s->from), turn->now_ms);
	struct span to;

	if (!w)
		w = dispatch_choose(m->dispatch, s->from, NULL, turn->now_ms);
	/* the server does not keep errors, and an invalid token has no address to answer from */
	if (s->type == TYPE_ERROR && (!w || dispatch_is_target(m->dispatch, s->from)))
		return COUNT_IGNORED;
	to = w ? w->name : account_for(m, s->from);
	if (w)
		note(m, s->from, w, turn->now_ms);
	if (!tokens_make(m->tokens, m->shares, s->to, s->from, turn->now_ms).p)
		return COUNT_CONSTRAINT;
	return send(s, to, buf_span(&m->tokens->address), turn);
}

enum counter messages_hand_on(struct messages *m, const struct stanza *s, struct turn *turn)
{
	struct span token, user, asked;
	struct worker *w;

	if (!dispatch_is_target(m->dispatch, s->from) ||
		!tokens_read(m->tokens, s->to, &token, &user, &asked))
		return to_session(m, s, turn);
	w = balance_find(m->dispatch->balance, s->from);
	if (w)
		note(m, user, w, turn->now_ms);
	return send(s, user, asked, turn);
}
