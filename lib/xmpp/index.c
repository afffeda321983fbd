#include "xmpp/index.h"

#include <limits.h>

/* How many levels, the root included, are indexed of stanzas that READER_INDEX_CHILDREN does not
 * limit to two: <iq><error><condition/></error></iq>, <presence><show/></presence>. */
#define LEAST_LEVELS 3
/* More elements than READER_INDEX_NODES, for errors. */
#define ERROR_NODES 16

void index_begin(struct index *x)
{
	arena_reset(&x->arena);
	x->root = x->node = NULL;
	x->level = x->unindexed = x->count = 0;
	x->max_level = UINT_MAX;
}

unsigned index_levels(enum reader_index what, const struct stanza *s)
{
	switch (what) {
	case READER_INDEX_ALL:
		return UINT_MAX;
	case READER_INDEX_CHILDREN:
		return s->kind == STANZA_IQ && s->type != TYPE_ERROR ? 2 : LEAST_LEVELS;
	default:
		return READER_INDEX_DEPTH;
	}
}

/* How many elements may be indexed, this one included. All programs look for the error of an iq,
 * which may stand behind an echo of any size. */
static unsigned room(const struct index *x, enum reader_index what, struct span name)
{
	bool for_error = (span_is(name, "error") && span_is(x->node->name, "iq")) ||
			 span_is(x->node->name, "error");

	return (what == READER_INDEX_ALL ? UINT_MAX - ERROR_NODES : READER_INDEX_NODES) +
	       (for_error ? ERROR_NODES : 0);
}

bool index_wants(struct index *x, enum reader_index what, struct span name)
{
	if (!x->root)
		return true;
	if (x->unindexed) {
		x->unindexed++;
		return false;
	}
	x->node->children_count++;
	if (x->level < x->max_level && x->count < room(x, what, name))
		return true;
	x->unindexed = 1;
	return false;
}

void index_open(struct index *x, struct xml_node *node)
{
	struct xml_node *parent = x->node;

	node->parent = parent;
	if (!parent)
		x->root = node;
	else if (parent->last_child)
		parent->last_child->next = node;
	else
		parent->first_child = node;
	if (parent)
		parent->last_child = node;
	x->node = node;
	x->level++;
	x->count++;
}

struct move {
	const char *old, *now;
	size_t n;
};

static void move_span(const struct move *m, struct span *s)
{
	size_t at = (size_t)((uintptr_t)s->p - (uintptr_t)m->old);

	if (s->p && at < m->n)
		s->p = m->now + at;
}

static void move_node(const struct move *m, struct xml_node *node)
{
	/* the index made them, so it may change them */
	struct xml_attribute *attributes = (struct xml_attribute *)node->attributes;
	struct xml_declaration *declarations = (struct xml_declaration *)node->declarations;

	move_span(m, &node->ns);
	move_span(m, &node->name);
	for (uint32_t i = 0; i < node->attributes_count; i++) {
		move_span(m, &attributes[i].ns);
		move_span(m, &attributes[i].name);
		move_span(m, &attributes[i].value);
	}
	for (uint32_t i = 0; i < node->declarations_count; i++) {
		move_span(m, &declarations[i].prefix);
		move_span(m, &declarations[i].uri);
	}
}

void index_move(struct index *x, const char *old, size_t n, const char *now)
{
	const struct move m = {old, now, n};
	struct xml_node *node = x->root;

	while (node) {
		move_node(&m, node);
		if (node->first_child) {
			node = node->first_child;
			continue;
		}
		while (node && !node->next)
			node = node->parent;
		if (node)
			node = node->next;
	}
}
