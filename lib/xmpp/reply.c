#include "xmpp/reply.h"

const char *reply_wrong(const struct stanza *s, struct span from, struct span to, bool complete)
{
	const struct xml_node *error = stanza_error_child(s), *other;

	if (s->refusal)
		return "over a limit";
	if (!stanza_is_answer(s))
		return "neither a result nor an error";
	if (complete && !s->from.p)
		return "no from";
	if (complete && !s->to.p)
		return "no to";
	if (s->to.p && !span_equal(s->to, to))
		return "addressed to somebody else";
	if (s->from.p && !span_equal(s->from, from))
		return "from an address that was not asked";
	if (s->type == TYPE_RESULT)
		return s->root->children_count > 1 ? "more than one element in it" : NULL;
	if (!stanza_error_condition(s).p)
		return "an error without its condition";
	other = s->root->first_child == error ? error->next : s->root->first_child;
	if (s->root->children_count > 2 ||
		(other && xml_is(other, "", "error") && xml_is_stanza_ns(other->ns)))
		return "more than an error and one element in it";
	return NULL;
}
