/* xmpp/resync.h - where a pipe's reader goes on after something wrong
 *
 * A bad piece costs itself only: reading goes on at the next line. Where the piece stands on
 * several lines its remains are not taken for stanzas: reading goes on at the next line that begins
 * a stanza and is indented no deeper than the piece. A stanza that the piece has swallowed (it was
 * cut off, or has a section without end) comes before these.
 *
 * Offsets count from the first byte of the reader's input; resync_dropped() moves them when the
 * input loses bytes at its front.
 */
#ifndef OUTBOARD_XMPP_RESYNC_H
#define OUTBOARD_XMPP_RESYNC_H

#include "base/span.h"

struct resync {
	size_t at;     /* where it was seen to be wrong */
	size_t from;   /* lines from here on may be stanzas that were swallowed */
	size_t column; /* the wrong piece's indentation */
	bool lines;    /* it stands on several lines */
	/* Up to here everything has been read in vain once: a line in it that looks like a stanza
	 * is one. */
	size_t strict_end;
};

enum resync_answer { RESYNC_NO, RESYNC_YES, RESYNC_UNSURE };

/* Whether a stanza's start tag, or that of an element named so, begins here: "<iq", "<c:message".
 * UNSURE: more bytes are needed. */
enum resync_answer resync_begins_stanza(struct span s);
/* The same question for an element's name. */
enum resync_answer resync_is_named(struct span s, const char *const *names, size_t count);

/* Find the line where reading goes on. *n: bytes at the front of `in` that are passed over (to be
 * dropped). False: more bytes are needed. `ended`: none will come. */
bool resync_find(struct resync *s, struct span in, bool ended, size_t *n);
/* The next line behind `from` that looks like a stanza among those read in vain before; in.n with
 * RESYNC_NO if there is none. */
size_t resync_boundary(const struct resync *s, struct span in, size_t from, bool ended,
	enum resync_answer *answer);
/* private: see resync_dropped() */
void resync_move(struct resync *s, size_t n);
/* The input has lost its first n bytes. Inline: nothing has been wrong, mostly. */
static inline void resync_dropped(struct resync *s, size_t n)
{
	if (s->at | s->from | s->strict_end)
		resync_move(s, n);
}

#endif
