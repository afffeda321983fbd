#include "server/client-tree.h"

#include <stdlib.h>
#include <string.h>

#include "base/err.h"
#include "xmpp/xml.h"

static bool quirk_attribute(xmpp_ctx_t *ctx, const char *xml, const char *name, const char *is)
{
	xmpp_stanza_t *s = xmpp_stanza_new_from_string(ctx, xml);
	const char *value = s ? xmpp_stanza_get_attribute(s, name) : NULL;
	bool found = value && strcmp(value, is) == 0;

	if (s)
		xmpp_stanza_release(s);
	return found;
}

struct client_quirks client_quirks_find(xmpp_ctx_t *ctx)
{
	return (struct client_quirks){
		.prefixes_dropped = quirk_attribute(
			ctx, "<a xmlns:p='urn:p' b='plain' p:b='other'/>", "b", "other"),
		.lang_bare = quirk_attribute(ctx, "<a xml:lang='en'/>", "lang", "en"),
	};
}

static bool print_attributes(struct buf *out, xmpp_stanza_t *node, bool lang_bare)
{
	int count = xmpp_stanza_get_attribute_count(node);
	const char **pairs;
	bool fits = true;
	int i;

	if (count <= 0)
		return true;
	pairs = xcalloc((size_t)count * 2, sizeof(*pairs));
	count = xmpp_stanza_get_attributes(node, pairs, count * 2);
	for (i = 0; fits && i + 1 < count; i += 2) {
		const char *name = pairs[i];

		if (strcmp(name, "xmlns") == 0) /* where the library keeps the namespace */
			continue;
		if (lang_bare && strcmp(name, "lang") == 0)
			name = "xml:lang";
		fits = buf_append_char(out, ' ') && buf_append_string(out, name) &&
		       buf_append_string(out, "='") &&
		       xml_escape_attribute(out, span_of(pairs[i + 1])) &&
		       buf_append_char(out, '\'');
	}
	free(pairs);
	return fits;
}

static bool in_xml_namespace(const char *ns)
{
	return strcmp(ns, NS_XML) ==
	       0; /* the xml namespace always has its prefix and is never declared */
}

static bool print_tag(
	struct buf *out, xmpp_stanza_t *node, const char *ns, const char *outer_ns, bool lang_bare)
{
	if (in_xml_namespace(ns))
		return buf_append_string(out, "<xml:") &&
		       buf_append_string(out, xmpp_stanza_get_name(node)) &&
		       print_attributes(out, node, lang_bare);
	if (!buf_append_char(out, '<') || !buf_append_string(out, xmpp_stanza_get_name(node)))
		return false;
	if (strcmp(ns, outer_ns) != 0 &&
		!(buf_append_string(out, " xmlns='") && xml_escape_attribute(out, span_of(ns)) &&
			buf_append_char(out, '\'')))
		return false;
	return print_attributes(out, node, lang_bare);
}

struct print_level {
	xmpp_stanza_t *node;
	const char *ns, *default_ns;
};

static bool print_end(struct buf *out, const struct print_level *level)
{
	return buf_append_string(out, in_xml_namespace(level->ns) ? "</xml:" : "</") &&
	       buf_append_string(out, xmpp_stanza_get_name(level->node)) &&
	       buf_append_char(out, '>');
}

bool client_tree_print(struct buf *out, xmpp_stanza_t *root, bool lang_bare)
{
	struct print_level *open = NULL; /* the elements that are open */
	size_t depth = 0, room = 0;
	xmpp_stanza_t *node = root;
	bool fits = true;

	while (fits) {
		const char *outer = depth ? open[depth - 1].default_ns : "";

		if (xmpp_stanza_is_text(node)) {
			fits = xml_escape_text(out, span_of(xmpp_stanza_get_text_ptr(node)));
		} else {
			const char *ns = xmpp_stanza_get_ns(node);

			ns = ns ? ns : "";
			fits = print_tag(out, node, ns, outer, lang_bare);
			if (fits && xmpp_stanza_get_children(node)) {
				open = xgrow(open, &room, depth, sizeof(*open));
				open[depth++] = (struct print_level){
					node, ns, in_xml_namespace(ns) ? outer : ns};
				fits = buf_append_char(out, '>');
				node = xmpp_stanza_get_children(node);
				continue;
			}
			fits = fits && buf_append_string(out, "/>");
		}
		while (fits && depth > 0 && !xmpp_stanza_get_next(node)) {
			fits = print_end(out, &open[--depth]);
			node = open[depth].node;
		}
		if (depth == 0)
			break;
		node = xmpp_stanza_get_next(node);
	}
	free(open);
	return fits;
}
