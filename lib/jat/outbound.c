#include "jat/outbound.h"

/* The key by which the user's answer is found. */
static struct table_key key_of(
	const struct outbound *o, struct span user, struct span asked, struct span id)
{
	buf_reset(o->key);
	buf_append_char(o->key, 'o');
	buf_append_span(o->key, user);
	buf_append_char(o->key, '\0');
	buf_append_span(o->key, asked);
	buf_append_char(o->key, '\0');
	buf_append_span(o->key, id);
	return requests_key(o->requests, buf_span(o->key));
}

enum writer_status outbound_request(const struct outbound *o, const struct stanza *s,
	struct span token, struct span user, struct span asked, struct turn *turn)
{
	char id[RANDOM_NAME_CHARS + 1];
	const struct stanza_edit edit = {
		.to = user, .from = asked, .id = random_name(o->random, id)};
	const struct request_texts texts = {
		.user = s->from, .asked = s->to, .id = s->id, .token = token, .unshared = true};
	enum writer_status status;
	struct table_key key;
	struct request *r;

	key = key_of(o, user, asked, edit.id);
	r = requests_add(o->requests, &key, &texts, turn->now_ms);
	if (!r)
		return WRITER_FULL;
	tokens_opened(o->tokens, request_token(r));
	status = writer_stanza(turn->writer, s, &edit);
	if (status != WRITER_OK) {
		tokens_closed(o->tokens, request_token(r));
		requests_forget(o->requests, r);
	}
	return status;
}

bool outbound_answer(const struct outbound *o, const struct stanza *s, struct turn *turn)
{
	struct table_key key = key_of(o, s->from, s->to, s->id);
	struct request *r = requests_find(o->requests, &key);

	if (!r || r->owed)
		return false;
	requests_deliver(o->requests, r, s, turn);
	return true;
}
