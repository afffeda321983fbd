/* xmpp/writer.h - stanzas to bytes
 *
 * A writer appends whole stanzas to a buf; who owns the buf sends it. Invariants:
 * a stanza is in the buf whole or not at all; every stanza stands on one line,
 * its root without prefix or xmlns (what is no stanza keeps both); a pipe writer
 * ends it with a newline, a socket writer
 * follows a stanza that has a tag over 1 KiB with as many spaces (the server's
 * parser may not look at it before: see stanza-stream(7)).
 * Copying edits nothing but the root's to, from, id and type, and namespace
 * declarations as the destination needs.
 */
#ifndef OUTBOARD_XMPP_WRITER_H
#define OUTBOARD_XMPP_WRITER_H

#include "xmpp/stanza.h"

enum writer_kind { WRITER_PIPE, WRITER_SOCKET };

#define WRITER_MAX_SEND_BYTES 500000

struct writer {
	struct buf *out; /* borrowed */
	enum writer_kind kind;
	size_t max_stanza_bytes; /* --max-send-bytes; 0 = none */
	size_t mark;		 /* private: where the open stanza begins (live offset) */
	bool failed;		 /* private: an append did not fit */
	uint64_t stanzas, bytes; /* written so far */
	uint64_t too_large;	 /* refused so far */
};

enum writer_status {
	WRITER_OK,
	/* over max_stanza_bytes, or an empty buf's hard maximum: nothing was or will be written */
	WRITER_TOO_LARGE,
	WRITER_FULL, /* the buf's hard maximum is reached: nothing was written, as yet */
};

void writer_init(struct writer *w, struct buf *out, enum writer_kind kind, size_t max_stanza_bytes);

/* What changes at the root: p == NULL keeps what is there; n == 0 with p != NULL (e.g. SPAN(""))
 * removes the attribute; else replaced or added. Values are unescaped text. */
struct stanza_edit {
	struct span to, from, id, type;
};
#define STANZA_KEEP ((struct stanza_edit){SPAN_NONE, SPAN_NONE, SPAN_NONE, SPAN_NONE})

/* Copy a stanza with edits. */
enum writer_status writer_stanza(
	struct writer *w, const struct stanza *s, const struct stanza_edit *edit);

/* Take back the stanza just written (WRITER_OK, and nothing was appended since): it is as if it had
 * not been. */
void writer_take_back(struct writer *w);
/* The same for the stanza written before one that was not: it begins at this length of the buf. */
void writer_take_back_to(struct writer *w, size_t length);

/* Build a stanza piece by piece: writer_begin, pieces, writer_end. */
void writer_begin(struct writer *w);
enum writer_status writer_end(struct writer *w);
/* Give up the stanza begun. */
void writer_abort(struct writer *w);
/* writer_begin and the start tag of kind ("iq") without its '>', with these attributes but those
 * that are absent (type: NULL). */
void writer_start(struct writer *w, const char *kind, const char *type, struct span id,
	struct span to, struct span from);
void writer_raw(struct writer *w, const char *xml);	 /* markup, as it is */
void writer_raw_span(struct writer *w, struct span xml); /* well-formed; put on one line */
void writer_text(struct writer *w, struct span text);	 /* escaped */
/* " name='value'", escaped; nothing if value is absent. */
void writer_attribute(struct writer *w, const char *name, struct span value);
/* The stanza itself as a piece, its root with xmlns='ns' if ns is not NULL ("jabber:client" inside
 * <forwarded/>), edits as above. */
void writer_copy(
	struct writer *w, const struct stanza *s, const struct stanza_edit *edit, const char *ns);
/* One element of a stanza as a piece, with the namespace declarations it inherits. */
void writer_node(struct writer *w, const struct stanza *s, const struct xml_node *node);

#endif
