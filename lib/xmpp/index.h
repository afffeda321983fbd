/* xmpp/index.h - the tree of one stanza, while it is read
 *
 * Nodes are made for its first levels and elements only (reader_config); further elements are only
 * counted. The reader's two ways of reading, the lexer and expat, make nodes of their own kind of
 * strings in the arena here and tell of tags as they come:
 *
 *     if (index_wants(x, name)) index_open(x, node); ... index_close(x, start, end);
 */
#ifndef OUTBOARD_XMPP_INDEX_H
#define OUTBOARD_XMPP_INDEX_H

#include "base/arena.h"
#include "xmpp/reader.h"

struct index {
	struct arena arena;    /* holds the nodes and what they point to */
	struct xml_node *root; /* NULL: the stanza has not begun */
	struct xml_node *node; /* private: innermost indexed open element */
	unsigned level;	       /* private: indexed open elements */
	unsigned unindexed;    /* private: open elements below `node` */
	unsigned count;	       /* private: elements indexed */
	unsigned max_level;    /* of this stanza: levels that are indexed */
};

/* Before a stanza: forget the one before. */
void index_begin(struct index *x);
/* How many levels are indexed of s, of which only the root is known. */
unsigned index_levels(enum reader_index what, const struct stanza *s);
/* A tag opens an element with that local name. True: it is indexed, make a node and call
 * index_open(). */
bool index_wants(struct index *x, enum reader_index what, struct span name);
/* node: its strings, attributes, declarations, start and open_end are set, all else is zero. The
 * first one is the root; max_level is to be set then. */
void index_open(struct index *x, struct xml_node *node);
/* The innermost open element ends: its end tag, or nothing right behind an empty-element tag. */
static inline void index_close(struct index *x, size_t close_start, size_t end)
{
	if (x->unindexed) {
		x->unindexed--;
		return;
	}
	x->node->close_start = close_start;
	x->node->end = end;
	x->level--;
	if (x->node->parent)
		x->node = x->node->parent;
}

/* The stanza's n bytes have moved from `old` to `now`: move the strings that point into them. */
void index_move(struct index *x, const char *old, size_t n, const char *now);

#endif
