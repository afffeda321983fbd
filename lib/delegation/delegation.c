#include "delegation/delegation.h"

int delegation_version(struct span ns)
{
	return span_is(ns, NS_DELEGATION_1) ? 1 : span_is(ns, NS_DELEGATION_2) ? 2 : 0;
}

const char *delegation_ns(int version)
{
	return version == 1 ? NS_DELEGATION_1 : NS_DELEGATION_2;
}

const char *delegation_unwrap(const struct stanza *outer, struct stanza *inner, int *version)
{
	const struct xml_node *delegation = outer->root->first_child, *forwarded, *iq, *delay;

	*version = 0;
	if (!delegation || !span_is(delegation->name, "delegation") ||
		!(*version = delegation_version(delegation->ns)))
		return "no delegation element";
	if (outer->root->children_count != 1)
		return "more than one element in it";
	forwarded = delegation->first_child;
	if (delegation->children_count != 1 || !xml_is(forwarded, NS_FORWARD, "forwarded"))
		return "not exactly one forwarded element";
	iq = forwarded->first_child;
	if (!iq)
		return "not exactly one iq forwarded";
	delay = iq->next;
	if (xml_is(iq, NS_DELAY, "delay")) {
		delay = iq;
		iq = iq->next;
	}
	if (forwarded->children_count != (xml_is(delay, NS_DELAY, "delay") ? 2 : 1) ||
		!xml_is(iq, "", "iq"))
		return "not exactly one iq forwarded";
	stanza_of_node(outer, iq, NS_CLIENT, inner);
	return inner->kind == STANZA_IQ ? NULL : "the forwarded iq is not in jabber:client";
}

void delegation_begin(struct writer *w, int version, const char *type, struct span to,
	struct span from, struct span id)
{
	writer_start(w, "iq", type, id, to, from);
	writer_raw(w, "><delegation xmlns='");
	writer_raw(w, delegation_ns(version));
	writer_raw(w, "'><forwarded xmlns='" NS_FORWARD "'>");
}

enum writer_status delegation_end(struct writer *w)
{
	writer_raw(w, "</forwarded></delegation></iq>");
	return writer_end(w);
}

bool delegation_node_parse(struct span node, struct delegation_node *out)
{
	static const struct span prefixes[] = {{NS_DELEGATION_1, sizeof(NS_DELEGATION_1) - 1},
		{NS_DELEGATION_2, sizeof(NS_DELEGATION_2) - 1}};

	for (int i = 0; i < 2; i++) {
		struct span rest;

		if (!span_starts(node, prefixes[i]))
			continue;
		rest = span_from(node, prefixes[i].n);
		out->version = i + 1;
		out->bare = span_starts(rest, SPAN(":bare:"));
		if (!out->bare && !span_starts(rest, SPAN("::")))
			return false;
		out->ns = span_from(rest, out->bare ? 6 : 2);
		return out->ns.n > 0;
	}
	return false;
}

void delegation_node_format(const struct delegation_node *node, struct buf *out)
{
	buf_append_string(out, delegation_ns(node->version));
	buf_append_string(out, node->bare ? ":bare:" : "::");
	buf_append_span(out, node->ns);
}

static bool ends(struct span s, struct span with)
{
	return s.n >= with.n && memcmp(s.p + s.n - with.n, with.p, with.n) == 0;
}

struct span delegation_payload_ns(struct span listed)
{
	bool pseudo = span_starts(listed, SPAN("urn:xmpp:delegation:")) ||
		      span_starts(listed, SPAN("http://jabber.org/protocol/disco#"));

	if (pseudo && ends(listed, SPAN("disco#items:*")))
		return SPAN(NS_DISCO_ITEMS);
	if (pseudo && ends(listed, SPAN("disco#info:*")))
		return SPAN(NS_DISCO_INFO);
	return listed;
}

bool delegation_is_absence(struct span condition, bool client)
{
	static const char *const absent[] = {"remote-server-not-found", "remote-server-timeout",
		"recipient-unavailable", "gone", "host-unknown"};

	for (size_t i = 0; i < sizeof(absent) / sizeof(absent[0]); i++)
		if (span_is(condition, absent[i]))
			return true;
	return client && span_is(condition, "service-unavailable");
}

const char *delegation_refusal(struct span condition, bool client)
{
	if (delegation_is_absence(condition, client))
		return " (it is not connected)";
	if (span_is(condition, "forbidden") || span_is(condition, "not-allowed") ||
		span_is(condition, "not-authorized"))
		return " (it is forbidden: it must accept our domain as a host that delegates; "
		       "xmpp-manage: --host)";
	if (span_is(condition, "service-unavailable"))
		return " (it is not connected, or does not know delegation)";
	return " (it does not know delegation, or not of this namespace; xmpp-manage: "
	       "--namespace)";
}
