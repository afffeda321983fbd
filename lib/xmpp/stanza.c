#include "xmpp/stanza.h"

static const struct {
	const char *name;
	size_t n;
	enum stanza_type type;
	unsigned kinds; /* bit per enum stanza_kind */
} types[] = {
	{"get", 3, TYPE_GET, 1u << STANZA_IQ},
	{"set", 3, TYPE_SET, 1u << STANZA_IQ},
	{"result", 6, TYPE_RESULT, 1u << STANZA_IQ},
	{"error", 5, TYPE_ERROR, 1u << STANZA_IQ | 1u << STANZA_MESSAGE | 1u << STANZA_PRESENCE},
	{"normal", 6, TYPE_NORMAL, 1u << STANZA_MESSAGE},
	{"chat", 4, TYPE_CHAT, 1u << STANZA_MESSAGE},
	{"groupchat", 9, TYPE_GROUPCHAT, 1u << STANZA_MESSAGE},
	{"headline", 8, TYPE_HEADLINE, 1u << STANZA_MESSAGE},
	{"unavailable", 11, TYPE_UNAVAILABLE, 1u << STANZA_PRESENCE},
	{"subscribe", 9, TYPE_SUBSCRIBE, 1u << STANZA_PRESENCE},
	{"subscribed", 10, TYPE_SUBSCRIBED, 1u << STANZA_PRESENCE},
	{"unsubscribe", 11, TYPE_UNSUBSCRIBE, 1u << STANZA_PRESENCE},
	{"unsubscribed", 12, TYPE_UNSUBSCRIBED, 1u << STANZA_PRESENCE},
	{"probe", 5, TYPE_PROBE, 1u << STANZA_PRESENCE},
};

const char *stanza_kind_name(enum stanza_kind kind)
{
	static const char *const names[] = {
		[STANZA_IQ] = "iq", [STANZA_MESSAGE] = "message", [STANZA_PRESENCE] = "presence"};

	return kind < STANZA_OTHER ? names[kind] : NULL;
}

const char *stanza_type_name(enum stanza_type type)
{
	for (size_t i = 0; i < sizeof(types) / sizeof(types[0]); i++)
		if (types[i].type == type)
			return types[i].name;
	return NULL;
}

void stanza_describe(struct stanza *s)
{
	const struct xml_node *root = s->root;
	struct span type = SPAN_NONE;
	struct span *const places[STANZA_SLOTS] = {&s->to, &s->from, &s->id, &type};

	s->kind = STANZA_OTHER;
	s->to = s->from = s->id = s->lang = SPAN_NONE;
	for (uint32_t i = 0; i < root->attributes_count; i++) {
		const struct xml_attribute *a = &root->attributes[i];
		int slot = stanza_slot_of(a->name);

		if (!a->ns.p && slot >= 0)
			*places[slot] = a->value;
		else if (a->ns.p && span_is(a->name, "lang") && span_is(a->ns, NS_XML))
			s->lang = a->value;
	}
	if (xml_is_stanza_ns(root->ns)) {
		if (span_is(root->name, "iq"))
			s->kind = STANZA_IQ;
		else if (span_is(root->name, "message"))
			s->kind = STANZA_MESSAGE;
		else if (span_is(root->name, "presence"))
			s->kind = STANZA_PRESENCE;
	}
	s->type = type.p ? TYPE_UNKNOWN : TYPE_NONE;
	for (size_t i = 0; type.p && i < sizeof(types) / sizeof(types[0]); i++)
		if (types[i].n == type.n && (types[i].kinds & 1u << s->kind) &&
			memcmp(types[i].name, type.p, type.n) == 0) {
			s->type = types[i].type;
			break;
		}
}

void stanza_of_node(
	const struct stanza *outer, const struct xml_node *node, const char *ns, struct stanza *out)
{
	*out = *outer;
	out->root = node;
	out->raw = (struct span){outer->text + node->start, node->end - node->start};
	stanza_describe(out);
	if (ns && !span_is(node->ns, ns))
		out->kind = STANZA_OTHER;
}

bool stanza_is_request(const struct stanza *s)
{
	return s->kind == STANZA_IQ && (s->type == TYPE_GET || s->type == TYPE_SET);
}

bool stanza_is_answer(const struct stanza *s)
{
	return s->kind == STANZA_IQ && (s->type == TYPE_RESULT || s->type == TYPE_ERROR);
}

const struct xml_node *stanza_payload(const struct stanza *s)
{
	return s->root->first_child;
}

bool stanza_iq_valid(const struct stanza *s)
{
	if (s->kind != STANZA_IQ || s->id.n == 0)
		return false;
	if (stanza_is_answer(s))
		return true;
	return stanza_is_request(s) && s->root->children_count == 1;
}

const struct xml_node *stanza_error_child(const struct stanza *s)
{
	const struct xml_node *node = xml_child(s->root, "", "error");

	/* a payload of any namespace may have that name */
	while (node && !xml_is_stanza_ns(node->ns))
		node = xml_next(node, "", "error");
	return node;
}

struct span stanza_error_condition(const struct stanza *s)
{
	const struct xml_node *error = stanza_error_child(s), *node;

	for (node = error ? error->first_child : NULL; node; node = node->next)
		if (span_is(node->ns, NS_STANZAS) && !span_is(node->name, "text"))
			return node->name;
	return SPAN_NONE;
}

bool stanza_error_text(const struct stanza *s, struct buf *out)
{
	const struct xml_node *text = xml_child(stanza_error_child(s), NS_STANZAS, "text");

	return text && xml_node_text(s->text, text, out);
}
