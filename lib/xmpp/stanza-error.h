/* xmpp/stanza-error.h - stanza errors (RFC 6120 8.3)
 */
#ifndef OUTBOARD_XMPP_STANZA_ERROR_H
#define OUTBOARD_XMPP_STANZA_ERROR_H

#include "xmpp/reader.h"
#include "xmpp/writer.h"

enum stanza_error {
	ERROR_BAD_REQUEST,	       /* modify */
	ERROR_BAD_REQUEST_CANCEL,      /* cancel: what mod_client_proxy answers a presence */
	ERROR_FEATURE_NOT_IMPLEMENTED, /* cancel */
	ERROR_FORBIDDEN,	       /* auth */
	ERROR_INTERNAL_SERVER_ERROR,   /* cancel */
	ERROR_ITEM_NOT_FOUND,	       /* cancel */
	ERROR_NOT_ACCEPTABLE,	       /* modify */
	ERROR_NOT_ALLOWED,	       /* cancel */
	ERROR_POLICY_VIOLATION,	       /* modify */
	ERROR_RECIPIENT_UNAVAILABLE,   /* wait */
	ERROR_REMOTE_SERVER_TIMEOUT,   /* wait */
	ERROR_RESOURCE_CONSTRAINT,     /* wait */
	ERROR_SERVICE_UNAVAILABLE,     /* cancel */
	ERROR_COUNT,
};

/* Append the <error type=.../> element as a piece; text may be NULL. */
void stanza_error_element(struct writer *w, enum stanza_error e, const char *text);

/* Answer a stanza with an error of its own kind: to and from swapped, its id, type error; the
 * payload is not echoed. An absent `to` gives an answer without from. Nothing is written
 * (WRITER_OK) for a stanza that must not be answered: one of type error, an iq result, a
 * stanza without from. */
enum writer_status stanza_error_reply(
	struct writer *w, const struct stanza *s, enum stanza_error e, const char *text);
/* The same for a stanza no longer at hand. kind "iq", "message", "presence"; absent spans are
 * left out. */
enum writer_status stanza_error_send(struct writer *w, const char *kind, struct span to,
	struct span from, struct span id, enum stanza_error e, const char *text);
/* An iq of our own as if it had come: for an answer that goes the way of those of others. *out is
 * read with r, and valid until its next call. False if it is beyond what r reads. */
bool stanza_error_made(struct reader *r, struct span to, struct span from, struct span id,
	enum stanza_error e, const char *text, struct stanza *out);

#endif
