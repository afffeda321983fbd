#include "xmpp/peek.h"

static bool is_name_end(char c)
{
	return c == '=' || c == ' ' || c == '\t' || c == '\r' || c == '\n';
}

static unsigned flags_of(struct span name, struct span value)
{
	static const char disco[] = "http://jabber.org/protocol/disco#";
	unsigned flags = 0;

	if (name.n >= 2 && name.p[name.n - 2] == 'i' && name.p[name.n - 1] == 'd')
		flags |= PEEK_ID;
	/* one that is written with character references is looked at, too */
	if (name.n >= 5 && memcmp(name.p, "xmlns", 5) == 0 &&
		(span_starts(value, (struct span){disco, sizeof(disco) - 1}) ||
			memchr(value.p, '&', value.n)))
		flags |= PEEK_DISCO;
	return flags;
}

/* The next attribute of a start tag; false at its end. */
static bool next_attribute(const char **at, const char *end, struct span *name, struct span *value)
{
	const char *p = *at, *begin, *close;

	*name = SPAN("");
	while (p < end && *p != '=' && *p != '>') {
		for (begin = p; p < end && *p != '>' && !is_name_end(*p); p++)
			;
		if (p > begin)
			*name = (struct span){begin, (size_t)(p - begin)};
		while (p < end && *p != '=' && is_name_end(*p))
			p++;
	}
	while (p < end && *p != '\'' && *p != '"' && *p != '>')
		p++;
	close = p < end && *p != '>' ? memchr(p + 1, *p, (size_t)(end - p - 1)) : NULL;
	if (!close)
		return false;
	*value = (struct span){p + 1, (size_t)(close - p - 1)};
	*at = close + 1;
	return true;
}

unsigned peek_payload(const struct stanza *s)
{
	const char *p, *end;
	struct span name, value;
	unsigned flags = 0;

	if (s->refusal || !s->root || s->root->children_count == 0)
		return 0;
	if (s->root->declarations_count)
		flags = PEEK_DISCO;
	end = s->text + s->root->end;
	p = memchr(s->text + s->root->open_end, '<', s->root->end - s->root->open_end);
	while (p && next_attribute(&p, end, &name, &value))
		flags |= flags_of(name, value);
	return flags;
}
