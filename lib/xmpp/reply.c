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
	if (!error || (complete && !stanza_error_condition(s).p))
		return "an error without its condition";
	other = s->root->first_child == error ? error->next : s->root->first_child;
	if (s->root->children_count > 2 ||
		(other && xml_is(other, "", "error") && xml_is_stanza_ns(other->ns)))
		return "more than an error and one element in it";
	return NULL;
}

/* An error whose element says neither more nor less than it must is copied as it is. */
static bool is_whole(const struct stanza *s)
{
	return s->type != TYPE_ERROR ||
	       (xml_attribute(stanza_error_child(s), "type").n && stanza_error_condition(s).p);
}

static void write_error(struct writer *w, const struct stanza *s, const struct xml_node *error)
{
	struct span type = xml_attribute(error, "type");

	writer_raw(w, "<error");
	writer_attribute(w, "type", type.n ? type : SPAN("cancel"));
	writer_attribute(w, "by", xml_attribute(error, "by"));
	writer_attribute(w, "code", xml_attribute(error, "code"));
	writer_raw(w, ">");
	if (!stanza_error_condition(s).p)
		writer_raw(w, "<undefined-condition xmlns='" NS_STANZAS "'/>");
	for (const struct xml_node *n = error->first_child; n; n = n->next)
		writer_node(w, s, n);
	writer_raw(w, "</error>");
}

void reply_copy(
	struct writer *w, const struct stanza *s, const struct stanza_edit *edit, const char *ns)
{
	const struct xml_node *error = stanza_error_child(s);

	if (is_whole(s)) {
		writer_copy(w, s, edit, ns);
		return;
	}
	writer_raw(w, "<iq");
	writer_attribute(w, "xmlns", ns ? span_of(ns) : SPAN_NONE);
	writer_raw(w, " type='error'");
	writer_attribute(w, "id", edit->id);
	writer_attribute(w, "to", edit->to);
	writer_attribute(w, "from", edit->from);
	writer_raw(w, ">");
	for (const struct xml_node *n = s->root->first_child; n; n = n->next)
		if (n == error)
			write_error(w, s, n);
		else
			writer_node(w, s, n);
	writer_raw(w, "</iq>");
}
