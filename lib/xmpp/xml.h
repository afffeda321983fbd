/* xmpp/xml.h - what the reader knows of a stanza's XML, and escaping
 *
 * The tree is an index over the stanza's own bytes, not a copy of them: each
 * node knows where its tags begin and end. Strings (names, attribute values)
 * are decoded by expat and live in the reader's arena as long as the stanza.
 * Only the first levels and elements are indexed (reader_config): what nobody
 * looks at is only counted.
 */
#ifndef OUTBOARD_XMPP_XML_H
#define OUTBOARD_XMPP_XML_H

#include <stdint.h>

#include "base/buf.h"
#include "base/span.h"

#define NS_CLIENT "jabber:client"
#define NS_COMPONENT "jabber:component:accept"
#define NS_STREAM "http://etherx.jabber.org/streams"
#define NS_STANZAS "urn:ietf:params:xml:ns:xmpp-stanzas"
#define NS_STREAM_ERRORS "urn:ietf:params:xml:ns:xmpp-streams"
#define NS_XML "http://www.w3.org/XML/1998/namespace"
#define NS_DELAY "urn:xmpp:delay"
#define NS_FORWARD "urn:xmpp:forward:0"
#define NS_DISCO_INFO "http://jabber.org/protocol/disco#info"
#define NS_DISCO_ITEMS "http://jabber.org/protocol/disco#items"
#define NS_ROSTER "jabber:iq:roster"
#define NS_PING "urn:xmpp:ping"
#define NS_VERSION "jabber:iq:version"

struct xml_attribute {
	struct span ns;	   /* p == NULL: none. A prefixed attribute never has none. */
	struct span name;  /* local name */
	struct span value; /* decoded, as XML normalises it */
	size_t start, end; /* where name='value' is written, offsets as in a node */
};

struct xml_declaration {
	struct span prefix; /* n == 0: the default namespace */
	struct span uri;    /* n == 0: undeclared (xmlns='') */
	size_t start, end;  /* where it is written, offsets as in a node */
};

struct xml_node {
	struct span ns; /* p == NULL: no namespace */
	struct span name;
	bool prefixed; /* written with a prefix */
	const struct xml_attribute *attributes;
	uint32_t attributes_count;
	uint32_t children_count; /* element children, also those not indexed */
	uint32_t declarations_count;
	const struct xml_declaration *declarations; /* made on this element */
	struct xml_node *parent, *first_child, *last_child, *next;
	/* offsets into the text the tree belongs to:
	 * <start ... >open_end  content  close_start</...>end ; an empty-element
	 * tag has open_end == close_start == end. */
	size_t start, open_end, close_start, end;
};

/* First child element with that name and namespace ("" = any); NULL if none. */
const struct xml_node *xml_child(const struct xml_node *node, const char *ns, const char *name);
/* Next sibling of that kind. */
const struct xml_node *xml_next(const struct xml_node *node, const char *ns, const char *name);
bool xml_is(const struct xml_node *node, const char *ns, const char *name);
/* Value of an attribute without namespace; SPAN_NONE if absent. */
struct span xml_attribute(const struct xml_node *node, const char *name);
/* The namespace a stanza has: NS_CLIENT, NS_COMPONENT or none are all the same here. */
bool xml_is_stanza_ns(struct span ns);

/* Decode well-formed character data (text[from..to), may hold CDATA sections, references and
 * elements; elements are skipped with their content) into out as UTF-8, line ends normalised
 * (XML 1.0 2.11). False if out is full. */
bool xml_text(const char *text, size_t from, size_t to, struct buf *out);
/* All text of one node: xml_text over its content. */
bool xml_node_text(const char *text, const struct xml_node *node, struct buf *out);

/* Append s escaped: & < > and, in attribute values (quoted by '), ' and white space other than
 * the space as character references. In text, CR and LF become references too (one line). */
bool xml_escape_text(struct buf *out, struct span s);
bool xml_escape_attribute(struct buf *out, struct span s);

/* Copy well-formed XML so that it stands on one line (stanza-stream(7)): in character data LF,
 * CR LF, CR become &#10;, in attribute values and between attributes one space, in CDATA
 * "]]>&#10;<![CDATA[". `in` may begin in content or at a tag, and ends outside of any tag. */
bool xml_one_line(struct buf *out, struct span in);
/* Whether that would change nothing: no line ends in it. */
bool xml_is_one_line(struct span in);
/* As xml_one_line(), for a part of one tag. */
bool xml_one_line_in_tag(struct buf *out, struct span in);
/* Copy an element's content so that its direct children without an xmlns of their own stand in the
 * default namespace ns (for content that loses the element which declared it). */
bool xml_inject_default(struct buf *out, struct span content, struct span ns);

/* Length of the longest tag in well-formed XML. */
size_t xml_longest_tag(struct span in);

/* XML 1.0 [3] S */
static inline bool xml_is_space(char c)
{
	return c == ' ' || c == '\n' || c == '\r' || c == '\t';
}

#endif
