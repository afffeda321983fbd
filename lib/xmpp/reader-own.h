/* xmpp/reader-own.h - what the two files behind reader.h share: the reader's state
 *
 * reader.c has the bytes, decides what reads them, and takes the lexer's tags. reader-expat.c has
 * expat's handlers: they make the index of nodes, look at the limits, and stop the parser where
 * something is to be given out.
 */
#ifndef OUTBOARD_XMPP_READER_OWN_H
#define OUTBOARD_XMPP_READER_OWN_H

#include <expat.h>

#include "xmpp/index.h"
#include "xmpp/lexer.h"
#include "xmpp/reader.h"
#include "xmpp/resync.h"

/* The stream's start tag and what stands before it. */
#define HEADER_MAX_BYTES (64 * 1024)

/* Reading: expat has the first `fed` bytes of `in`. Skipping (pipe): after something wrong, up to
 * where a stanza may begin. Passing: a stanza over a limit, up to its end. */
enum mode { MODE_READING, MODE_SKIPPING, MODE_PASSING };

/* What reads the stanza at the front of `in`. */
enum judge {
	JUDGE_LEXER,
	JUDGE_EXPAT, /* the lexer doubts: expat has it from its first byte */
};

/* A stanza over a limit, whose content is thrown away: only its nesting is followed. */
struct passing {
	struct lexer_piece piece;
	size_t depth, forwarded_depth;
	bool after_lines;
};

/* A tag that is not yet whole is not looked at anew with each byte: `looked` bytes from `from` on
 * hold no end of it. */
struct hold {
	int64_t from;
	size_t looked;
	struct lexer_piece piece;
};

struct reader {
	struct reader_config config;
	size_t tag_max_bytes; /* of a stanza's own start tag */
	enum mode mode;
	/* What was not given out yet. Between stanzas white space is dropped: with level 1 and
	 * above, the first byte is that of the stanza (or of what is none). */
	struct buf in;
	size_t line, column; /* of in's first byte; pipe only */
	bool ended, dead;    /* no more input; stream over */

	XML_Parser parser;
	int64_t base;		  /* the parser's index of in's first byte */
	size_t fed;		  /* bytes of in the parser has */
	size_t parsed;		  /* bytes given to this parser */
	bool suspended;		  /* stopped at an event, to be resumed */
	bool prologue;		  /* the parser is being given a header we made */
	unsigned level;		  /* open elements, the stream's root included */
	unsigned forwarded_level; /* of the innermost open <forwarded/>, 0: none is open */
	uint32_t declared;	  /* namespace declarations of the tag being read */
	bool in_cdata;
	size_t cdata; /* where the open section begins, in in */

	enum reader_event event; /* why the parser stopped */
	size_t event_start, event_end;
	const char *abort; /* why a handler stopped it for good, and where */
	size_t abort_at;
	size_t deliver_bytes; /* of in: to be dropped at the next call */
	bool restart;	      /* the parser has lost its place */

	struct hold hold;
	struct hold aside; /* pipe: a comment or instruction between stanzas */

	enum judge judge;
	struct lexer lexer;
	struct hold lexer_hold;
	size_t lexed;		/* bytes of in that were there when the lexer last wanted more */
	const char *lexed_from; /* where in's first byte stood then */

	struct resync resync;
	struct passing passing;
	struct index index;
	struct stanza stanza;		 /* being read, or given out */
	struct xml_declaration *pending; /* declarations before their start tag */
	uint32_t pending_count, pending_size;
	struct buf header; /* socket: the stream's start tag, to begin again with */
	struct buf kept;   /* start tag of a stanza that is being passed over */

	struct xml_declaration *outer; /* owned, of the stream header */
	size_t outer_count;

	const char *error;
	size_t error_line;
};

/* What is wrong with the input; told apart by their addresses. */
extern const char reader_truncated[];
extern const char reader_outside[];
extern const char reader_too_large[];
extern const char reader_no_comments[];
extern const char reader_no_instructions[];
extern const char reader_no_doctype[];
extern const char reader_no_stream[];

/* The root of a stanza has been read: `stanza` is known but for its text. */
void reader_begin_stanza(struct reader *r, struct xml_node *root);

/* A parser without handlers. */
XML_Parser reader_expat_new(void);
/* Have the parser begin anew, with the handlers. */
void reader_expat_begin(struct reader *r);

#endif
