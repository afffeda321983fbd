/* xmpp/lexer.h - the tags of a stanza, one after the other
 *
 *     lexer_begin(&l, declared, declared_count);
 *     while ((token = lexer_next(&l, in)) > LEXER_DOUBT) ...
 *
 * One tokenizer for the XML that XMPP allows (RFC 6120 11): UTF-8, no document type, no processing
 * instruction, no comment, the five named entities and character references. Invariants: what it
 * takes is well-formed and namespace-well-formed (XML 1.0, Namespaces in XML 1.0): names, tag
 * balance, attributes unique by expanded name, prefixes declared, every character allowed. It
 * allocates nothing, copies nothing and remembers only offsets, so the input may move between two
 * calls. Behind the input, at once or later, there is a byte that no tag has: the NUL that a buf
 * ends with. So it need not be asked at each byte whether there is one more.
 *
 * It does not decide what is wrong: LEXER_DOUBT means "not well-formed, or not common". Names
 * with bytes beyond ASCII, references or line ends in the name of a namespace, more nesting,
 * attributes or declarations than there are places for: the caller gives such a stanza to expat,
 * from its first byte, and expat decides. So LEXER_DOUBT is always a correct answer, only a slow
 * one.
 *
 * lexer_piece() is the lower half: it finds where markup begins and ends, in any input, and can
 * stop at any byte. lexer_tag_next() takes a tag that is known to be well-formed apart.
 */
#ifndef OUTBOARD_XMPP_LEXER_H
#define OUTBOARD_XMPP_LEXER_H

#include <stdint.h>

#include "xmpp/xml.h"

#define LEXER_DEPTH 48	      /* open elements */
#define LEXER_ATTRIBUTES 32   /* of one tag, with declarations; a bit each */
#define LEXER_DECLARATIONS 32 /* in force at once, besides those of the stream */

enum lexer_token {
	LEXER_MORE,  /* the input ends before the next tag does */
	LEXER_DOUBT, /* expat must decide; do not call the lexer again */
	LEXER_OPEN,
	LEXER_EMPTY,
	LEXER_CLOSE,
};

struct lexer_name {
	uint32_t at, n;
};

struct lexer {
	size_t at;	/* next byte to look at; the last tag ends here */
	unsigned depth; /* open elements; after LEXER_EMPTY, those around it */
	bool flat;	/* no TAB, LF or CR stands in what has been read of the stanza */

	size_t start; /* the last tag's first byte; not beside `at`: stored apart, read apart */
	/* the last tag, valid until the input moves */
	struct span ns, name; /* LEXER_OPEN, LEXER_EMPTY: as an xml_node has them */
	bool prefixed;
	unsigned count; /* attributes, with declarations, in order */
	unsigned declarations;
	/* As they are written in the input, which the spans point to: values are what stands
	 * between the quotes. Of a declaration the name is the prefix (n == 0 for the default), and
	 * there is no namespace. */
	struct xml_attribute attributes[LEXER_ATTRIBUTES];
	/* a bit for each attribute, the lowest for the first one */
	uint32_t declares; /* xmlns or xmlns:prefix */
	uint32_t coded;	   /* the value has a reference, TAB, LF or CR: it is not what it says */

	/* private */
	bool in_cdata;
	const struct xml_declaration *outer;
	size_t outer_count;
	unsigned bound_count;
	struct {
		struct lexer_name prefix, uri;
	} bound[LEXER_DECLARATIONS];
	struct {
		struct lexer_name name; /* with prefix */
		unsigned bound_count;	/* around it */
	} open[LEXER_DEPTH];
};

/* At the first byte of a stanza, which is that of the input. outer: declared around it, borrowed.
 */
void lexer_begin(struct lexer *l, const struct xml_declaration *outer, size_t outer_count);
/* The next tag. `in` begins with the stanza's first byte and has at least what it had before. Text
 * and sections before the tag are checked and passed over. Not to be called after the stanza's last
 * tag (depth 0). */
enum lexer_token lexer_next(struct lexer *l, struct span in);

/* Of attributes[i]. */
static inline bool lexer_declares(const struct lexer *l, unsigned i)
{
	return l->declares >> i & 1;
}
static inline bool lexer_is_coded(const struct lexer *l, unsigned i)
{
	return l->coded >> i & 1;
}

/* The default namespace inside the last tag (of LEXER_EMPTY: around it) as an xml_declaration
 * has it: n == 0: undeclared. SPAN_NONE: nobody declared one. */
struct span lexer_default(const struct lexer *l, struct span in);

enum lexer_meaning { LEXER_TEXT, LEXER_CDATA, LEXER_VALUE };

/* Decode text, a section's content or an attribute's value, that has passed lexer_next() (or expat)
 * as XML hands it on: references (not in a section), line ends (XML 1.0 2.11), in a value also TAB
 * and LF as spaces (3.3.3). Takes a run off *in, *out is what it means: bytes of in or, decoded, of
 * `room`. Never longer than it was. False at the end. */
bool lexer_decode(struct span *in, enum lexer_meaning where, char room[4], struct span *out);

enum lexer_kind {
	PIECE_NONE, /* nothing was taken of it */
	PIECE_TEXT,
	PIECE_CDATA,
	PIECE_COMMENT,
	PIECE_INSTRUCTION,
	PIECE_DECLARATION, /* <!DOCTYPE, or anything else that begins like one */
	PIECE_OPEN,
	PIECE_EMPTY, /* known at its end; PIECE_OPEN before that */
	PIECE_CLOSE,
};

/* A piece of XML, perhaps not yet whole. All zero at the beginning of one. */
struct lexer_piece {
	enum lexer_kind kind;
	char quote; /* of a tag: inside a value with this quote */
	bool whole; /* it has ended; of text: markup follows */
	bool wrong; /* a tag with '<' in it; it stands behind what was taken */
};

/* Take the next bytes of a piece off the front of `in`; how many. 0, or fewer than there are
 * without `whole` or `wrong`: more bytes are needed to tell. Only delimiters are looked at. */
size_t lexer_piece(struct lexer_piece *piece, struct span in);
/* Take one whole piece off *in, which is well-formed and ends outside of any tag. False at its end.
 * *out is the piece; a section with its brackets. */
bool lexer_piece_next(struct span *in, enum lexer_kind *kind, struct span *out);

/* The attributes of one well-formed start tag as they are written, in order, declarations
 * included: for copying them untouched. *scan: the tag from '<' to '>', then what is left of it.
 * *name is the element's name with its prefix. False if it is no tag. */
bool lexer_tag_begin(struct span tag, struct span *scan, struct span *name);
/* Next attribute: name with prefix, raw value, and the whole name='value'. False after the last. */
bool lexer_tag_next(struct span *scan, struct span *name, struct span *value, struct span *whole);

#endif
