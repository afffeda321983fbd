/* delegation/delegation.h - the stanzas of namespace delegation (XEP-0355 0.5, XEP-0297)
 *
 * Used by both sides: xmpp-manage unwraps what xmpp-delegate (or a server) wraps. Versions 1 and 2
 * differ in nothing but the namespace.
 *
 *   <iq to= from= id= type=>                                 the outer iq
 *     <delegation xmlns='urn:xmpp:delegation:2'>
 *       <forwarded xmlns='urn:xmpp:forward:0'>
 *         <iq xmlns='jabber:client' ...>...</iq>             the inner iq
 */
#ifndef OUTBOARD_DELEGATION_DELEGATION_H
#define OUTBOARD_DELEGATION_DELEGATION_H

#include "xmpp/writer.h"

#define NS_DELEGATION_1 "urn:xmpp:delegation:1"
#define NS_DELEGATION_2 "urn:xmpp:delegation:2"

/* 1 or 2 for a delegation namespace, 0 for any other. */
int delegation_version(struct span ns);
const char *delegation_ns(int version);

/* The inner iq of an envelope: exactly one delegation, in it exactly one forwarded, in it exactly
 * one iq in jabber:client (and perhaps one delay, XEP-0297 section 3, which is not looked at). NULL
 * if all is well and *inner (views that live as long as outer's) and *version are set; else what is
 * wrong (static). *version is set whenever there is a delegation element. */
const char *delegation_unwrap(const struct stanza *outer, struct stanza *inner, int *version);

/* Build an envelope around what is written between the two: */
void delegation_begin(struct writer *w, int version, const char *type, struct span to,
	struct span from, struct span id);
enum writer_status delegation_end(struct writer *w);

/* A disco#info node of a nesting query (7.2): urn:xmpp:delegation:2::NS for the host,
 * urn:xmpp:delegation:2:bare:NS for its accounts. */
struct delegation_node {
	int version;
	bool bare;
	struct span ns; /* into the node */
};
bool delegation_node_parse(struct span node, struct delegation_node *out);
void delegation_node_format(const struct delegation_node *node, struct buf *out);

/* The namespace of payloads that a listed name means: NS_DISCO_ITEMS or NS_DISCO_INFO for the
 * pseudo namespaces of "remaining" service discovery (7.2.1; also the older name
 * http://jabber.org/protocol/disco#items:*), else the name itself. */
struct span delegation_payload_ns(struct span listed);

/* Whether the condition of an error comes from the managing entity's server, because the entity is
 * not there. client: the entity is no component. */
bool delegation_is_absence(struct span condition, bool client);
/* What the condition of an error in answer to a nesting query means to an administrator (static).
 */
const char *delegation_refusal(struct span condition, bool client);

#endif
