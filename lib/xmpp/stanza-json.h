/* xmpp/stanza-json.h - stanzas as JSON and back, without loss
 *
 *   {"v":1,"kind":"iq","type":"get","id":"a1","from":"u@h/r","to":"h","lang":"en","attrs":{},
 *    "ns":"jabber:iq:roster","name":"query",
 *    "payload":[{"name":"query","ns":"jabber:iq:roster","attrs":{},"children":["text"]}]}
 *
 * Payload and children are arrays of strings (text) and objects (elements), in
 * document order. An element's ns is left out where it is its parent's, and is "" for
 * none. Foreign attributes are "{namespace}local". ns and name at the top are those of
 * the first element of the payload. An error stanza also has
 * "error":{"type","condition","text","app"}. Every value is a string.
 *
 * On input body, subject and thread of a message, and show, status and priority (also a number) of
 * a presence may be members of the object: they are the elements of these names.
 */
#ifndef OUTBOARD_XMPP_STANZA_JSON_H
#define OUTBOARD_XMPP_STANZA_JSON_H

#include "xmpp/reader.h"
#include "xmpp/writer.h"

/* Append the object, without a newline. False if out is full. */
bool stanza_json_format(const struct stanza *s, struct buf *out);

/* What is wrong with a line that holds more values than come of the largest stanza, NULL if it does
 * not. To be asked before the line is parsed: they would take hundreds of times its bytes. */
const char *stanza_json_excess(struct span line, size_t max_stanza_bytes);
/* What an object says beside its stanza; each is appended to, NULL: not wanted. */
struct stanza_json_aside {
	struct buf *id;	     /* the id it has, whatever else is wrong with it */
	struct buf *unknown; /* the names of members that mean nothing, "a, b" */
};
/* Write the stanza that an object in JSON says. kind: that of an object which does not say its own
 * (NULL: it must, and a request without payload is wrong). NULL if all is well and *status is what
 * writer_end() said; else what is wrong with it (static), and nothing is written. */
const char *stanza_json_write(struct span line, const char *kind,
	const struct stanza_json_aside *aside, struct writer *w, enum writer_status *status);

/* Both ways: whether an attribute of the root has a member of its own at the top. */
bool stanza_json_is_common(struct span ns, struct span name);

#endif
