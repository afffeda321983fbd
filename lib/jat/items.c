#include "jat/items.h"

#include "xmpp/jid.h"
#include "xmpp/lexer.h"

static bool is_targets(const struct items_config *config, struct span typed)
{
	bool same = false;
	struct buf jid;

	buf_init(&jid, BUF_NO_MAX);
	if (typed.n && jid_normalise(typed, &jid))
		for (size_t i = 0; i < config->targets_count; i++)
			same |= span_equal(jid_bare(buf_span(&jid)), jid_bare(config->targets[i]));
	buf_free(&jid);
	return same;
}

/* The start tag of an item with another jid. */
static void put_tag(struct span tag, struct span asked, struct buf *out)
{
	struct span name, value, whole;
	struct span scan;

	if (!lexer_tag_begin(tag, &scan, &name))
		return;
	buf_append_char(out, '<');
	buf_append_span(out, name);
	while (lexer_tag_next(&scan, &name, &value, &whole)) {
		buf_append_char(out, ' ');
		if (!span_is(name, "jid")) {
			buf_append_span(out, whole);
			continue;
		}
		buf_append_string(out, "jid='");
		xml_escape_attribute(out, asked);
		buf_append_char(out, '\'');
	}
	buf_append_string(out, tag.p[tag.n - 2] == '/' ? "/>" : ">");
}

bool items_rewrite(const struct items_config *config, const struct stanza *s, struct reader *deep,
	struct buf *out)
{
	const struct xml_node *query, *item;
	bool changed = false;
	struct stanza all;
	size_t done;

	if (!reader_one(deep, s->raw, &all))
		return false;
	query = xml_child(all.root, NS_DISCO_ITEMS, "query");
	done = all.root->start;
	for (item = query ? xml_child(query, NS_DISCO_ITEMS, "item") : NULL; item;
		item = xml_next(item, NS_DISCO_ITEMS, "item")) {
		if (!is_targets(config, xml_attribute(item, "jid")))
			continue;
		buf_append(out, all.text + done, item->start - done);
		put_tag((struct span){all.text + item->start, item->open_end - item->start},
			config->asked, out);
		done = item->open_end;
		changed = true;
	}
	buf_append(out, all.text + done, all.root->end - done);
	return changed;
}
