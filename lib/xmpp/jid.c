/* jid.c - see jid.h */
#include "xmpp/jid.h"

#include <stdlib.h>

#include <idn-free.h>
#include <idna.h>
#include <stringprep.h>

#include "base/utf8.h"
#include "base/err.h"
#include "xmpp/xml.h"

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

static struct span domain_of(struct span bare)
{
	const char *at = bare.n ? memchr(bare.p, '@', bare.n) : NULL;

	return at ? span_from(bare, (size_t)(at - bare.p) + 1) : bare;
}

struct span jid_domain(struct span text)
{
	return domain_of(jid_bare(text));
}

bool jid_is_full(struct span text)
{
	return jid_resource(text).n > 0;
}

bool jid_at_domain(struct span text, struct span domain)
{
	return text.p && span_equal(jid_domain(text), domain);
}

/* Parts ------------------------------------------------------------------ */

/* Classes of bytes: forbidden in a part, beyond ASCII, folded to lower case. */
enum { NOT_LOCAL = 1, NOT_DOMAIN = 2, NOT_RESOURCE = 4, NOT_ASCII = 8, UPPER_CASE = 16 };
#define NOWHERE (NOT_LOCAL | NOT_DOMAIN | NOT_RESOURCE)

/* A table: every stanza's addresses go through here, byte by byte. */
static const unsigned char class[256] = {
	[0 ... 0x1f] = NOWHERE,
	[0x7f] = NOWHERE,
	[' '] = NOT_LOCAL | NOT_DOMAIN,
	['"'] = NOT_LOCAL | NOT_DOMAIN,
	['&'] = NOT_LOCAL | NOT_DOMAIN,
	['\''] = NOT_LOCAL | NOT_DOMAIN,
	['/'] = NOT_LOCAL | NOT_DOMAIN,
	[':'] = NOT_LOCAL,
	['<'] = NOT_LOCAL | NOT_DOMAIN,
	['>'] = NOT_LOCAL | NOT_DOMAIN,
	['@'] = NOT_LOCAL | NOT_DOMAIN,
	['A' ... 'Z'] = UPPER_CASE,
	[0x80 ... 0xff] = NOT_ASCII,
};

static unsigned classes(struct span s)
{
	const unsigned char *p = (const unsigned char *)s.p;
	unsigned all = 0;
	size_t n = s.n;

	for (; n >= 4; n -= 4, p += 4)
		all |= (unsigned)(class[p[0]] | class[p[1]] | class[p[2]] | class[p[3]]);
	while (n-- > 0)
		all |= class[*p++];
	return all;
}

static bool part_fits(struct span part)
{
	return part.n >= 1 && part.n <= JID_PART_MAX_BYTES;
}

/* Cut at the separators, without checking the parts. */
static struct jid cut(struct span text)
{
	struct span bare = jid_bare(text);
	struct jid jid = {SPAN_NONE, domain_of(bare), SPAN_NONE};

	if (bare.n < text.n)
		jid.resource = span_from(text, bare.n + 1);
	if (jid.domain.n < bare.n)
		jid.local = (struct span){bare.p, bare.n - jid.domain.n - 1};
	return jid;
}

bool jid_split(struct span text, struct jid *out)
{
	unsigned local, domain, resource;
	struct jid jid;

	if (text.n == 0 || text.n > JID_MAX_BYTES)
		return false;
	jid = cut(text);
	if (!part_fits(jid.domain) || (jid.local.p && !part_fits(jid.local)) ||
		(jid.resource.p && !part_fits(jid.resource)))
		return false;
	local = classes(jid.local);
	domain = classes(jid.domain);
	resource = classes(jid.resource);
	if (local & NOT_LOCAL || domain & NOT_DOMAIN || resource & NOT_RESOURCE)
		return false;
	if ((local | domain | resource) & NOT_ASCII && !utf8_xml_valid(text))
		return false;
	*out = jid;
	return true;
}

/* Normalisation ---------------------------------------------------------- */

/* NFKC makes a string longer. A result that fits a part fits here; a longer one is refused anyway.
 */
#define PREPARED_BYTES (4 * JID_PART_MAX_BYTES + 1)

/* A part through libidn into text, unassigned code points allowed. Absent if the profile forbids
 * it or the result is not 1..1023 bytes. */
static struct span prepare(
	const Stringprep_profile *profile, struct span part, char text[PREPARED_BYTES])
{
	struct span prepared;

	if (!part_fits(part) || memchr(part.p, '\0', part.n) || !utf8_xml_valid(part))
		return SPAN_NONE;
	memcpy(text, part.p, part.n);
	text[part.n] = '\0';
	if (stringprep(text, PREPARED_BYTES, 0, profile) != STRINGPREP_OK)
		return SPAN_NONE;
	prepared = span_of(text);
	return part_fits(prepared) ? prepared : SPAN_NONE;
}

/* Whether it is ASCII that nodeprep and nameprep do not change. */
static struct span lowercase(struct span part, char text[PREPARED_BYTES])
{
	if (!part_fits(part))
		return SPAN_NONE;
	for (size_t i = 0; i < part.n; i++) {
		char c = part.p[i];

		text[i] = c >= 'A' && c <= 'Z' ? (char)(c | 0x20) : c;
	}
	return (struct span){text, part.n};
}

/* The separators must be the same after preparing. A character that becomes one (a full-width '/'
 * in a domain) would change the parts. */
static bool put_part(struct buf *out, struct span prepared, unsigned forbidden)
{
	return prepared.p && !(classes(prepared) & forbidden) && buf_append_span(out, prepared);
}

static bool put_local(struct buf *out, struct span local)
{
	char text[PREPARED_BYTES];
	struct span prepared = classes(local) & NOT_ASCII
				       ? prepare(stringprep_xmpp_nodeprep, local, text)
				       : lowercase(local, text);

	return put_part(out, prepared, NOT_LOCAL) && buf_append_char(out, '@');
}

static bool has_alabel(struct span domain)
{
	for (; domain.n > 4; domain.p++, domain.n--)
		if (memcmp(domain.p, "xn--", 4) == 0)
			return true;
	return false;
}

/* RFC 7622 3.2.1: a domain has U-labels. A label that only looks like an A-label stays as it is. */
static struct span with_ulabels(struct span domain, char text[PREPARED_BYTES])
{
	char *unicode = NULL;
	size_t n;
	bool fits;

	text[domain.n] = '\0';
	/* it returns an error but also the labels that it could convert */
	idna_to_unicode_8z8z(text, &unicode, IDNA_ALLOW_UNASSIGNED);
	n = unicode ? strlen(unicode) : 0;
	fits = unicode && n < PREPARED_BYTES;
	if (fits)
		memcpy(text, unicode, n + 1);
	idn_free(unicode);
	return fits ? span_of(text) : SPAN_NONE;
}

static bool put_domain(struct buf *out, struct span domain)
{
	char text[PREPARED_BYTES];
	struct span prepared = classes(domain) & NOT_ASCII
				       ? prepare(stringprep_nameprep, domain, text)
				       : lowercase(domain, text);

	if (has_alabel(prepared))
		prepared = with_ulabels(prepared, text);
	if (prepared.n && prepared.p[prepared.n - 1] == '.')
		prepared.n--;
	if (prepared.n == 0 || prepared.p[prepared.n - 1] == '.')
		return false;
	return put_part(out, prepared, NOT_DOMAIN);
}

static bool put_resource(struct buf *out, struct span resource)
{
	char text[PREPARED_BYTES];
	struct span prepared = classes(resource) & NOT_ASCII
				       ? prepare(stringprep_xmpp_resourceprep, resource, text)
				       : resource;

	return part_fits(prepared) && buf_append_char(out, '/') &&
	       put_part(out, prepared, NOT_RESOURCE);
}

bool jid_normalise(struct span text, struct buf *out)
{
	size_t begin = buf_length(out);
	struct jid jid = cut(text);

	if ((!jid.local.p || put_local(out, jid.local)) && put_domain(out, jid.domain) &&
		(!jid.resource.p || put_resource(out, jid.resource)))
		return true;
	buf_truncate(out, begin);
	return false;
}

bool jid_normalise_domain(struct span text, struct buf *out)
{
	struct jid jid = cut(text);

	return !jid.local.p && !jid.resource.p && jid_normalise(text, out);
}

bool jid_alabels(struct span domain, struct buf *out)
{
	char text[PREPARED_BYTES], *ascii = NULL;
	bool ok;

	if (!part_fits(domain))
		return false;
	memcpy(text, domain.p, domain.n);
	text[domain.n] = '\0';
	ok = idna_to_ascii_8z(text, &ascii, IDNA_ALLOW_UNASSIGNED) == IDNA_SUCCESS &&
	     buf_append_string(out, ascii);
	idn_free(ascii);
	return ok;
}

bool jid_is_valid(const char *typed)
{
	struct buf normal;
	bool valid;

	buf_init(&normal, BUF_NO_MAX);
	valid = jid_normalise(span_of(typed), &normal);
	buf_free(&normal);
	return valid;
}

bool jid_is_user(const char *typed)
{
	/* preparing a part makes no separators */
	return jid_is_valid(typed) && strchr(typed, '@') &&
	       (!strchr(typed, '/') || strchr(typed, '@') < strchr(typed, '/'));
}

bool jid_is_domain(const char *typed)
{
	struct buf normal;
	bool valid;

	buf_init(&normal, BUF_NO_MAX);
	valid = jid_normalise_domain(span_of(typed), &normal);
	buf_free(&normal);
	return valid;
}

void jid_list_domains(struct jid_list *list, const char *const *typed, size_t count)
{
	size_t at = 0;

	list->jids = xcalloc(count + 1, sizeof(*list->jids));
	buf_init(&list->texts, BUF_NO_MAX);
	for (size_t i = 0; i < count; i++) {
		size_t before = buf_length(&list->texts);

		if (jid_normalise_domain(span_of(typed[i]), &list->texts))
			list->jids[list->count++].n = buf_length(&list->texts) - before;
	}
	/* only now do the texts stay where they are */
	for (size_t i = 0; i < list->count; at += list->jids[i++].n)
		list->jids[i].p = buf_span(&list->texts).p + at;
}

void jid_list_free(struct jid_list *list)
{
	if (!list->jids)
		return;
	free(list->jids);
	buf_free(&list->texts);
	*list = (struct jid_list){0};
}

bool jid_fold(struct span text, struct buf *out)
{
	struct span bare = jid_bare(text);
	size_t kept = bare.n > 1 && bare.p[bare.n - 1] == '.' ? bare.n - 1 : bare.n;

	if (kept == bare.n && !(classes(bare) & UPPER_CASE))
		return false;
	for (size_t i = 0; i < kept; i++) {
		char c = bare.p[i];

		buf_append_char(out, c >= 'A' && c <= 'Z' ? (char)(c | 0x20) : c);
	}
	buf_append_span(out, span_from(text, bare.n));
	return true;
}

bool jid_resource_survives(struct span text)
{
	char prepared[PREPARED_BYTES];
	unsigned found;

	if (!part_fits(text))
		return false;
	found = classes(text);
	if (found & NOT_RESOURCE)
		return false;
	return !(found & NOT_ASCII) ||
	       span_equal(prepare(stringprep_xmpp_resourceprep, text, prepared), text);
}
