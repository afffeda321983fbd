#include "base/arena.h"

#include <stdlib.h>

#include "base/err.h"

#define CHUNK_BYTES 8192

void arena_grow(struct arena *a, size_t n)
{
	size_t size = n > CHUNK_BYTES ? n : CHUNK_BYTES;
	struct arena_chunk *c = xmalloc(sizeof(*c) + size);

	c->next = a->chunks;
	c->used = 0;
	c->size = size;
	a->chunks = c;
}

static void drop_first(struct arena *a)
{
	struct arena_chunk *c = a->chunks;

	a->chunks = c->next;
	free(c);
}

void arena_reset(struct arena *a)
{
	while (a->chunks && (a->chunks->next || a->chunks->size > CHUNK_BYTES))
		drop_first(a);
	if (a->chunks)
		a->chunks->used = 0;
}

void arena_free(struct arena *a)
{
	while (a->chunks)
		drop_first(a);
}
