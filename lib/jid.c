#include "jid.h"

#include <stdlib.h>
#include <stringprep.h>

#include "xml.h"

struct span jid_bare(struct span text)
{
	const char *slash = text.n ? memchr(text.p, '/', text.n) : NULL;

	return slash ? (struct span){text.p, (size_t)(slash - text.p)} : text;
}

struct span jid_resource(struct span text)
{
	struct span bare = jid_bare(text);

	return bare.n < text.n ? span_from(text, bare.n + 1) : SPAN_NONE;
}

struct span jid_domain(struct span text)
{
	struct span bare = jid_bare(text);
	const char *at = bare.n ? memchr(bare.p, '@', bare.n) : NULL;

	return at ? span_from(bare, (size_t)(at - bare.p) + 1) : bare;
}

bool jid_is_full(struct span text)
{
	return jid_resource(text).n > 0;
}

bool jid_at_domain(struct span text, struct span domain)
{
	return text.p && span_equal(jid_domain(text), domain);
}

bool jid_utf8_valid(struct span text)
{
	/* XML's characters are those of UTF-8 less NUL and the control bytes, which are let through
	 * here */
	const char *p = text.p, *end = text.p + text.n;

	while (p < end) {
		const char *run = p;

		while (p < end && (unsigned char)*p >= 0x20)
			p++;
		if (!xml_characters_valid((struct span){run, (size_t)(p - run)}))
			return false;
		while (p < end && (unsigned char)*p < 0x20)
			if (*p++ == '\0')
				return false;
	}
	return true;
}

/* What a byte must not stand in; control bytes stand in no part, the rest of ASCII is as RFC
 * 7622 3.3.1 and the shape of a JID have it. */
enum { NOT_LOCAL = 1, NOT_DOMAIN = 2, NOT_RESOURCE = 4, NOT_ASCII = 8 };

static unsigned char_class(unsigned char c)
{
	if (c >= 0x80)
		return NOT_ASCII;
	if (c < 0x20 || c == 0x7f)
		return NOT_LOCAL | NOT_DOMAIN | NOT_RESOURCE;
	switch (c) {
	case ' ':
	case '"':
	case '&':
	case '\'':
	case '<':
	case '>':
	case '@':
		return NOT_LOCAL | NOT_DOMAIN;
	case '/':
	case ':':
		return NOT_LOCAL;
	default:
		return 0;
	}
}

/* The classes of all bytes of s together. */
static unsigned classes(struct span s)
{
	unsigned all = 0;

	for (size_t i = 0; i < s.n; i++) {
		unsigned char c = (unsigned char)s.p[i];

		/* letters, digits and most signs need no look */
		if (c <= '@' || c >= 0x7f)
			all |= char_class(c);
	}
	return all;
}

static bool part_fits(struct span part)
{
	return part.n >= 1 && part.n <= JID_PART_MAX_BYTES;
}

static bool ascii(struct span s)
{
	return !(classes(s) & NOT_ASCII);
}

bool jid_split(struct span text, struct jid *out)
{
	struct jid jid = {SPAN_NONE, SPAN_NONE, SPAN_NONE};
	unsigned local, domain, resource;
	struct span bare = jid_bare(text);
	const char *at = bare.n ? memchr(bare.p, '@', bare.n) : NULL;

	if (text.n == 0 || text.n > JID_MAX_BYTES)
		return false;
	jid.domain = bare;
	if (at) {
		jid.local = (struct span){bare.p, (size_t)(at - bare.p)};
		jid.domain = span_from(bare, jid.local.n + 1);
	}
	if (bare.n < text.n)
		jid.resource = span_from(text, bare.n + 1);
	if (!part_fits(jid.domain) || (jid.local.p && !part_fits(jid.local)) ||
		(jid.resource.p && !part_fits(jid.resource)))
		return false;
	local = classes(jid.local);
	domain = classes(jid.domain);
	resource = classes(jid.resource);
	if ((local & NOT_LOCAL) || (domain & NOT_DOMAIN) || (resource & NOT_RESOURCE))
		return false;
	if (((local | domain | resource) & NOT_ASCII) && !xml_characters_valid(text))
		return false;
	*out = jid;
	return true;
}

/* Normalisation ---------------------------------------------------------- */

enum profile { PROFILE_NODE, PROFILE_NAME, PROFILE_RESOURCE };

/* Through libidn; false if the profile forbids it or the result is not 1..1023 bytes. */
static bool prepare(enum profile profile, struct span in, struct buf *out)
{
	/* twice the length and more: NFKC can make a string longer */
	char text[JID_PART_MAX_BYTES * 4 + 1];
	int error;

	if (!part_fits(in) || !xml_characters_valid(in))
		return false;
	memcpy(text, in.p, in.n);
	text[in.n] = '\0';
	error = profile == PROFILE_NODE
			? stringprep(text, sizeof(text), 0, stringprep_xmpp_nodeprep)
		: profile == PROFILE_NAME
			? stringprep(text, sizeof(text), 0, stringprep_nameprep)
			: stringprep(text, sizeof(text), 0, stringprep_xmpp_resourceprep);
	return error == STRINGPREP_OK && part_fits(span_of(text)) && buf_append_string(out, text);
}

static bool lowercase(struct span in, struct buf *out)
{
	char *p = part_fits(in) ? buf_reserve(out, in.n) : NULL;

	if (!p)
		return false;
	for (size_t i = 0; i < in.n; i++)
		p[i] = in.p[i] >= 'A' && in.p[i] <= 'Z' ? (char)(in.p[i] | 0x20) : in.p[i];
	buf_commit(out, in.n);
	return true;
}

static bool normalise(struct span text, struct buf *out)
{
	struct span bare = jid_bare(text), local = SPAN_NONE, domain = bare, resource;
	const char *at = bare.n ? memchr(bare.p, '@', bare.n) : NULL;
	size_t begin = buf_length(out);
	struct jid jid;

	if (text.n == 0)
		return false;
	resource = bare.n < text.n ? span_from(text, bare.n + 1) : SPAN_NONE;
	if (at) {
		local = (struct span){bare.p, (size_t)(at - bare.p)};
		domain = span_from(bare, local.n + 1);
	}
	if (domain.n && domain.p[domain.n - 1] == '.')
		domain.n--;
	if (local.p &&
		!((ascii(local) ? lowercase(local, out) : prepare(PROFILE_NODE, local, out)) &&
			buf_append_char(out, '@')))
		return false;
	if (!(ascii(domain) ? lowercase(domain, out) : prepare(PROFILE_NAME, domain, out)))
		return false;
	if (resource.p && !(buf_append_char(out, '/') &&
				  (ascii(resource) ? buf_append_span(out, resource)
						   : prepare(PROFILE_RESOURCE, resource, out))))
		return false;
	return jid_split(span_from(buf_span(out), begin), &jid);
}

bool jid_normalise(struct span text, struct buf *out)
{
	size_t begin = buf_length(out);

	if (normalise(text, out))
		return true;
	buf_truncate(out, begin);
	return false;
}

bool jid_resource_survives(struct span text)
{
	unsigned all = classes(text);
	struct buf prepared;
	bool same;

	if (!part_fits(text) || (all & NOT_RESOURCE))
		return false;
	if (!(all & NOT_ASCII))
		return true;
	buf_init(&prepared, BUF_NO_MAX);
	same = prepare(PROFILE_RESOURCE, text, &prepared) && span_equal(buf_span(&prepared), text);
	buf_free(&prepared);
	return same;
}
