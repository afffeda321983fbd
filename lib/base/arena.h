/* base/arena.h - many small allocations that are freed together
 *
 * An arena of zeroes is ready. Allocated memory does not move before arena_reset(), which keeps one
 * chunk of the ordinary size for later allocations. Memory failure exits (see xmalloc).
 */
#ifndef OUTBOARD_BASE_ARENA_H
#define OUTBOARD_BASE_ARENA_H

#include "base/span.h"

struct arena_chunk {
	struct arena_chunk *next;
	size_t used, size;
	char bytes[];
};

struct arena {
	struct arena_chunk *chunks; /* private; the first is the one being filled */
};

/* private: a chunk with room for n bytes */
void arena_grow(struct arena *a, size_t n);

/* Allocate n bytes, aligned for pointers, not initialised. */
static inline void *arena_take(struct arena *a, size_t n)
{
	void *p;

	n = (n + 7) & ~(size_t)7;
	if (!a->chunks || a->chunks->size - a->chunks->used < n)
		arena_grow(a, n);
	p = a->chunks->bytes + a->chunks->used;
	a->chunks->used += n;
	return p;
}

/* A copy of s, which is not absent. */
static inline struct span arena_copy(struct arena *a, struct span s)
{
	char *copy = arena_take(a, s.n);

	memcpy(copy, s.p, s.n);
	return (struct span){copy, s.n};
}

/* Forget all. */
void arena_reset(struct arena *a);
void arena_free(struct arena *a);

#endif
