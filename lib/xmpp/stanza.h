/* xmpp/stanza.h - one stanza as it came (RFC 6120 8)
 *
 * Everything is borrowed from the reader and valid until its next call.
 * to, from, id, lang are decoded attribute values matched by expanded name: a
 * prefixed attribute (y:from) is never one of them.
 */
#ifndef OUTBOARD_XMPP_STANZA_H
#define OUTBOARD_XMPP_STANZA_H

#include "xmpp/xml.h"

enum stanza_kind { STANZA_IQ, STANZA_MESSAGE, STANZA_PRESENCE, STANZA_OTHER };

enum stanza_type {
	TYPE_NONE,    /* no type attribute: presence "available", message "normal", a bad iq */
	TYPE_UNKNOWN, /* a value the kind does not know */
	TYPE_ERROR,
	TYPE_GET,
	TYPE_SET,
	TYPE_RESULT,
	TYPE_NORMAL,
	TYPE_CHAT,
	TYPE_GROUPCHAT,
	TYPE_HEADLINE,
	TYPE_UNAVAILABLE,
	TYPE_SUBSCRIBE,
	TYPE_SUBSCRIBED,
	TYPE_UNSUBSCRIBE,
	TYPE_UNSUBSCRIBED,
	TYPE_PROBE,
};

/* Why the content of a stanza was thrown away: only root attributes are to be had. */
enum stanza_refusal {
	STANZA_WHOLE,
	STANZA_TOO_LARGE, /* more than max_stanza_bytes */
	STANZA_TOO_DEEP,
	STANZA_TOO_MANY_ATTRIBUTES,
};

struct stanza {
	enum stanza_kind kind; /* STANZA_OTHER: any other element at stanza level */
	enum stanza_type type;
	enum stanza_refusal refusal;
	struct span to, from, id, lang; /* p == NULL: absent */
	const struct xml_node *root;
	const char *text;		     /* what the offsets in the nodes count from */
	struct span raw;		     /* the whole element (only the start tag if refused) */
	const struct xml_declaration *outer; /* declared on the stream header */
	size_t outer_count;
	size_t line; /* line of its first byte, from 1; 0 on a socket */
	bool flat;   /* known to have no line end in it */
};

/* The attributes of a root that address it, and that may be edited when it is copied. */
enum stanza_slot { SLOT_TO, SLOT_FROM, SLOT_ID, SLOT_TYPE, STANZA_SLOTS };

/* The attribute of this name, which has no namespace; -1: another one. */
static inline int stanza_slot_of(struct span name)
{
	if (name.n == 2)
		return memcmp(name.p, "to", 2) == 0   ? SLOT_TO
		       : memcmp(name.p, "id", 2) == 0 ? SLOT_ID
						      : -1;
	if (name.n == 4)
		return memcmp(name.p, "from", 4) == 0	? SLOT_FROM
		       : memcmp(name.p, "type", 4) == 0 ? SLOT_TYPE
							: -1;
	return -1;
}

/* Fill in kind, type and the addresses from root (the reader's and stanza_of_node's last step). */
void stanza_describe(struct stanza *s);

/* Parse an element of another stanza (what <forwarded/> holds) as a stanza. Fills *out with views
 * that live as long as outer's. STANZA_OTHER if node is not iq, message or presence in
 * ns (NULL: any of the stanza namespaces). Needs node to be indexed. */
void stanza_of_node(const struct stanza *outer, const struct xml_node *node, const char *ns,
	struct stanza *out);

/* iq of type get or set */
bool stanza_is_request(const struct stanza *s);
/* iq of type result or error */
bool stanza_is_answer(const struct stanza *s);
/* First child element of the root, or NULL. */
const struct xml_node *stanza_payload(const struct stanza *s);
/* RFC 6120 8.2.3: has an id (not empty), a known type, and get/set exactly one child. Only for iq.
 */
bool stanza_iq_valid(const struct stanza *s);
/* Name of the defined condition in its <error/> child (RFC 6120 8.3.3), SPAN_NONE if none. */
struct span stanza_error_condition(const struct stanza *s);
/* Append the words of its <error/>, if there are any. False if there are none, or out is full. */
bool stanza_error_text(const struct stanza *s, struct buf *out);
/* Its <error/>, which is in the stanza's namespace; NULL if there is none. */
const struct xml_node *stanza_error_child(const struct stanza *s);
/* "iq", "message", "presence"; NULL for OTHER. */
const char *stanza_kind_name(enum stanza_kind kind);
/* Name of the type as it stands on the wire, NULL for NONE and UNKNOWN. */
const char *stanza_type_name(enum stanza_type type);

#endif
