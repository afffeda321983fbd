/* The way to JSON of stanza-json.h. */
#include "xmpp/stanza-json.h"

#include "base/json.h"

/* Once something did not fit nothing more is tried: namespaces can make much of little. */
struct out {
	struct buf *buf;
	bool full;
};

static void raw(struct out *o, const char *text)
{
	if (!o->full)
		o->full = !buf_append_string(o->buf, text);
}

static void string(struct out *o, struct span s)
{
	if (!o->full)
		o->full = !json_string(o->buf, s);
}

/* ,"name":"value" */
static void member(struct out *o, const char *name, struct span value)
{
	if (!value.p)
		return;
	raw(o, ",\"");
	raw(o, name);
	raw(o, "\":");
	string(o, value);
}

static void attribute(struct out *o, const struct xml_attribute *a)
{
	struct buf name;

	if (o->full)
		return;
	buf_init(&name, BUF_NO_MAX);
	if (a->ns.p) {
		buf_append_char(&name, '{');
		buf_append_span(&name, a->ns);
		buf_append_char(&name, '}');
	}
	buf_append_span(&name, a->name);
	string(o, buf_span(&name));
	raw(o, ":");
	string(o, a->value);
	buf_free(&name);
}

bool stanza_json_is_common(struct span ns, struct span name)
{
	static const char *const names[] = {"to", "from", "id", "type"};

	if (ns.p)
		return span_is(name, "lang") && span_is(ns, NS_XML);
	for (int i = 0; i < 4; i++)
		if (span_is(name, names[i]))
			return true;
	return false;
}

static void attributes(struct out *o, const struct xml_node *node, bool root)
{
	bool first = true;

	raw(o, "\"attrs\":{");
	for (uint32_t i = 0; i < node->attributes_count; i++) {
		const struct xml_attribute *a = &node->attributes[i];

		if (root && stanza_json_is_common(a->ns, a->name))
			continue;
		if (!first)
			raw(o, ",");
		first = false;
		attribute(o, a);
	}
	raw(o, "}");
}

static bool declares_none(const struct xml_node *node)
{
	for (uint32_t i = 0; i < node->declarations_count; i++)
		if (node->declarations[i].prefix.n == 0 && node->declarations[i].uri.n == 0)
			return true;
	return false;
}

/* Whether an element says another namespace than that of the stanza for what is in it. */
static bool is_other(const struct xml_node *node)
{
	return node->ns.p || declares_none(node);
}

/* What an element says of its namespace; SPAN_NONE: that of its parent. xmlns='' in a stanza
 * without namespace is said: on a server's stream the stanza has one. inside: of so many others. */
static struct span namespace_of(const struct stanza *s, const struct xml_node *node, size_t inside)
{
	bool own = inside == 0 && !s->root->ns.p;

	if (span_equal(node->ns, node->parent->ns) && !(!node->ns.p && own && declares_none(node)))
		return SPAN_NONE;
	return node->ns.p ? node->ns : SPAN("");
}

/* The text between two elements, if there is any. */
static void text_between(struct out *o, const struct stanza *s, size_t from, size_t to, bool *first)
{
	struct buf text;

	if (from >= to || o->full)
		return;
	buf_init(&text, BUF_NO_MAX);
	xml_text(s->text, from, to, &text);
	if (buf_length(&text)) {
		if (!*first)
			raw(o, ",");
		*first = false;
		string(o, buf_span(&text));
	}
	buf_free(&text);
}

/* The array of what is in `top`. Elements are walked without recursion: their depth is the
 * sender's choice. */
static void content(struct out *o, const struct stanza *s, const struct xml_node *top)
{
	const struct xml_node *node = top, *child = top->first_child;
	size_t at = top->open_end, inside = 0;
	bool first = true;

	raw(o, "[");
	while (!o->full) {
		text_between(o, s, at, child ? child->start : node->close_start, &first);
		if (child) {
			raw(o, first ? "{\"name\":" : ",{\"name\":");
			string(o, child->name);
			member(o, "ns", namespace_of(s, child, inside));
			raw(o, ",");
			attributes(o, child, false);
			raw(o, ",\"children\":[");
			inside += is_other(child);
			node = child;
			at = node->open_end;
			child = node->first_child;
			first = true;
			continue;
		}
		raw(o, "]");
		if (node == top)
			return;
		raw(o, "}");
		inside -= is_other(node);
		at = node->end;
		child = node->next;
		node = node->parent;
		first = false;
	}
}

static void error_member(struct out *o, const struct stanza *s)
{
	const struct xml_node *error = stanza_error_child(s), *node;
	struct span type = xml_attribute(error, "type");
	struct buf text;

	if (s->type != TYPE_ERROR || !error)
		return;
	raw(o, ",\"error\":{\"type\":");
	string(o, type.p ? type : SPAN(""));
	member(o, "condition", stanza_error_condition(s));
	buf_init(&text, BUF_NO_MAX);
	if (stanza_error_text(s, &text))
		member(o, "text", buf_span(&text));
	buf_free(&text);
	for (node = error->first_child; node; node = node->next)
		if (!span_is(node->ns, NS_STANZAS)) {
			member(o, "app", node->name);
			break;
		}
	raw(o, "}");
}

bool stanza_json_format(const struct stanza *s, struct buf *out)
{
	const struct xml_node *payload = stanza_payload(s);
	size_t begin = buf_length(out);
	struct out o = {.buf = out};

	raw(&o, "{\"v\":1");
	member(&o, "kind", span_of(stanza_kind_name(s->kind)));
	member(&o, "type", xml_attribute(s->root, "type"));
	member(&o, "id", s->id);
	member(&o, "from", s->from);
	member(&o, "to", s->to);
	member(&o, "lang", s->lang);
	raw(&o, ",");
	attributes(&o, s->root, true);
	if (payload) {
		struct span ns = namespace_of(s, payload, 0);

		/* whatever the stanza's own is called where it comes from */
		member(&o, "ns", ns.p ? ns : SPAN(""));
		member(&o, "name", payload->name);
	}
	error_member(&o, s);
	raw(&o, ",\"payload\":");
	content(&o, s, s->root);
	raw(&o, "}");
	if (o.full)
		buf_truncate(out, begin);
	return !o.full;
}
