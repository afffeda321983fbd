/* xmpp/reader.h - bytes in, stanzas out
 *
 *     reader_feed(r, bytes, n);
 *     while ((e = reader_next(r, &stanza)) != READER_MORE) ...
 *
 * One reader for pipes and sockets. Invariants: the bytes of a stanza are kept
 * as they came; nothing is reported before its end tag has been seen; feeding
 * byte by byte gives the same events as feeding whole; memory is bounded by the
 * limits. A stanza (and everything it points to) is valid until the next call.
 *
 * The common stanza is read by the lexer (xmpp/lexer). Whatever that does not take without doubt
 * expat reads from the stanza's first byte: what is accepted, refused and said of it is expat's. In
 * a build with DEVELOPER=1 OUTBOARD_READER=expat in the environment has expat read everything.
 *
 * READER_PIPE: the stanza stream of stanza-stream(7): no stream header. An XML declaration, a byte
 * order mark, comments and processing instructions between stanzas are passed over, at most 64 KiB
 * each. What cannot be parsed is reported as READER_BAD, once, with the
 * line where it begins. Reading resumes after the next newline; where the bad
 * piece stands on several lines, its remains are passed over: up to the next
 * line that begins with <iq, <message or <presence and is indented no deeper
 * than the piece. A tag of one of these names at the very beginning of a line
 * inside a stanza, with to, from, id or type, is the next stanza: the one before
 * it was cut off, and is reported as soon as that. (But not a child of
 * <forwarded/> with a namespace of its own, XEP-0297.)
 *
 * READER_SOCKET: an XMPP stream (RFC 6120 4) with header; what cannot be parsed
 * ends it (READER_BAD, after that only READER_MORE).
 *
 * Refused everywhere else (RFC 6120 11.1): DOCTYPE, processing instructions, comments,
 * NUL, invalid UTF-8, undefined entities. A stanza over a limit is read to its
 * end, its content thrown away, and reported with stanza.refusal set, so that a
 * request can still be answered and the stream goes on. The content thrown away
 * is not checked for more than its nesting. Only a stanza whose own start tag has
 * more than READER_MAX_TAG_BYTES (and max_stanza_bytes) is READER_BAD: who sent it
 * cannot be told.
 */
#ifndef OUTBOARD_XMPP_READER_H
#define OUTBOARD_XMPP_READER_H

#include "xmpp/stanza.h"

enum reader_kind { READER_PIPE, READER_SOCKET };

#define READER_MAX_STANZA_BYTES (1024 * 1024)
#define READER_MAX_DEPTH 256
#define READER_MAX_ATTRIBUTES 256
#define READER_MAX_TAG_BYTES (1024 * 1024) /* a stanza's own start tag */

/* What is indexed of a stanza, from its root down. Of an iq's <error/> (and of all that is no iq)
 * three levels are indexed in any case. */
enum reader_index {
	READER_INDEX_PAYLOAD,  /* READER_INDEX_DEPTH levels, READER_INDEX_NODES elements */
	READER_INDEX_CHILDREN, /* the root and its children, for what hands payloads on */
	READER_INDEX_ALL,      /* everything: JSON, rosters */
};

/* iq, delegation, forwarded, iq, payload, and one more for error conditions (XEP-0355 4.2) */
#define READER_INDEX_DEPTH 6
#define READER_INDEX_NODES 1024

struct reader_config {
	enum reader_kind kind;
	size_t max_stanza_bytes; /* 0: READER_MAX_STANZA_BYTES */
	unsigned max_depth;	 /* levels below the root; 0: READER_MAX_DEPTH */
	unsigned max_attributes; /* per element, with declarations; 0: READER_MAX_ATTRIBUTES */
	enum reader_index index;
	bool expat_only; /* for tests: expat reads everything, the lexer nothing */
};

enum reader_event {
	READER_MORE,   /* feed more bytes */
	READER_OPEN,   /* socket: stream header; stanza holds its attributes (id, from, to) */
	READER_STANZA, /* an element at stanza level; kind STANZA_OTHER for handshake, features...
			*/
	READER_CLOSE,  /* socket: </stream:stream> */
	READER_BAD,    /* see reader_error() */
};

struct reader;

/* *config is copied. */
struct reader *reader_new(const struct reader_config *config);
/* A reader for stanzas of the program's own memory, which another reader or our writer has let
 * through: any depth, any number of attributes, max_bytes a stanza. */
struct reader *reader_new_again(size_t max_bytes, enum reader_index index);
void reader_free(struct reader *r);
/* Begin again with a fresh stream (reconnect); limits stay. */
void reader_reset(struct reader *r);
/* Take n bytes (copied). Only after reader_next() said READER_MORE. */
void reader_feed(struct reader *r, const char *bytes, size_t n);
/* The same without a copy: room for n bytes, until the next call, and how many were put there. */
char *reader_room(struct reader *r, size_t n);
void reader_filled(struct reader *r, size_t n);
/* No more bytes will come: what is unfinished becomes READER_BAD ("truncated stanza"). */
void reader_end(struct reader *r);
enum reader_event reader_next(struct reader *r, struct stanza *out);
/* Begin again with bytes that are one stanza, and give that. False if they are none. */
bool reader_one(struct reader *r, struct span bytes, struct stanza *out);
/* After READER_BAD: what was wrong (static text) and the line (0 on a socket). */
const char *reader_error(const struct reader *r);
/* Of what kind that is, for a stream error (RFC 6120 4.9.3). */
enum reader_fault {
	FAULT_NOT_WELL_FORMED,
	FAULT_RESTRICTED, /* comments, instructions, DOCTYPE, entities: RFC 6120 11.1 */
	FAULT_TOO_LARGE,
};
enum reader_fault reader_fault(const struct reader *r);
size_t reader_error_line(const struct reader *r);
/* After READER_MORE: whether a stanza has begun but not ended. */
bool reader_inside(const struct reader *r);

#endif
