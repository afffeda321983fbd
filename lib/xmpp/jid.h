/* xmpp/jid.h - addresses (RFC 7622, RFC 6122; RFC 6120 1.4)
 *
 * Splitting allocates nothing: parts are spans into the text given. Comparison
 * is byte comparison: servers normalise the addresses they put on stanzas, and
 * addresses that people type go through jid_normalise() first.
 */
#ifndef OUTBOARD_XMPP_JID_H
#define OUTBOARD_XMPP_JID_H

#include "base/buf.h"
#include "base/span.h"

#define JID_PART_MAX_BYTES 1023
#define JID_MAX_BYTES 3071

struct jid {
	struct span local;    /* p == NULL: none */
	struct span domain;   /* never empty in a valid JID */
	struct span resource; /* p == NULL: none */
};

/* RFC 7622 3.1: resource after the first '/', local before the first '@' left of it.
 * False (and *out unset) for: absent or over JID_MAX_BYTES, a part empty or over 1023 bytes,
 * NUL, no valid UTF-8, control bytes anywhere, space or one of "&'/:<>@ in the local part
 * or the domain (but a ':' is fine in the domain: IPv6). */
bool jid_split(struct span text, struct jid *out);

/* local@domain or domain: the part of text before the first '/'. */
struct span jid_bare(struct span text);
/* The resource, absent if none. */
struct span jid_resource(struct span text);
/* domain part of a JID text */
struct span jid_domain(struct span text);
bool jid_is_full(struct span text);
/* Whether the bare part of text equals `bare`, byte by byte. */
static inline bool jid_is_of(struct span text, struct span bare)
{
	return span_starts(text, bare) && (text.n == bare.n || text.p[bare.n] == '/');
}
/* Whether the domain of text equals domain, byte by byte. */
bool jid_at_domain(struct span text, struct span domain);

/* Normalise an address that a person typed: nodeprep, lowercased domain (nameprep; one trailing
 * dot dropped; xn-- labels become the U-labels that they mean), resourceprep; unassigned code
 * points allowed; ASCII takes a fast path without libidn. text must not point into out; the result,
 * for which jid_split() holds, is appended to it. False (out unchanged) if it is not a JID, also if
 * preparing a part would make separators in it.
 */
bool jid_normalise(struct span text, struct buf *out);

/* Domains that a person typed, normalised: those that jid_is_domain() says are none are left out.
 * Zeroed: none. */
struct jid_list {
	struct span *jids;
	size_t count;
	struct buf texts; /* private */
};
void jid_list_domains(struct jid_list *list, const char *const *typed, size_t count);
void jid_list_free(struct jid_list *list);

/* The same as jid_normalise() for a domain: false also if there are other parts. */
bool jid_normalise_domain(struct span text, struct buf *out);

/* Append a normalised domain as DNS and certificates have it: with A-labels (xn--...). False (out
 * unchanged) if it cannot be one there. */
bool jid_alabels(struct span domain, struct buf *out);

/* Whether what a person typed is an address, one with a local part, or a domain. */
bool jid_is_valid(const char *typed);
bool jid_is_user(const char *typed);
bool jid_is_domain(const char *typed);

/* Fold an address on a stanza, for servers that do not normalise addresses (ejabberd passes them on
 * as users write them): append it to out with the ASCII letters of its bare part in lower case and
 * without a dot behind the domain. False (out unchanged) if it is in that form already. */
bool jid_fold(struct span text, struct buf *out);

/* Whether resourceprep leaves these bytes unchanged and they fit a resourcepart (1..1023 bytes). A
 * token must pass this to survive a server. */
bool jid_resource_survives(struct span text);

#endif
