/* base/buf.h - growing bytes with a hard maximum
 *
 * Invariants: p is never NULL after buf_init (it points to a static empty
 * string until first growth); p[n] is always '\0' (not counted in n); n <= max.
 * An append that would pass max appends nothing and returns false; memory
 * failure exits (see xmalloc). One owner: whoever called buf_init calls buf_free.
 * `start` bytes at the front are already consumed: the live bytes are
 * buf_span(). Appending compacts lazily, so consuming is O(1) amortised.
 */
#ifndef OUTBOARD_BASE_BUF_H
#define OUTBOARD_BASE_BUF_H

#include <stdint.h>

#include "base/span.h"

struct buf {
	char *p;
	size_t start; /* consumed */
	size_t n;     /* end of the live bytes, >= start */
	size_t capacity;
	size_t max; /* of live bytes */
};

#define BUF_NO_MAX ((size_t)-1 / 2)

/* A limit that was given as `bytes` (not negative), for size_t, which may have only 32 bits: no
 * more than BUF_NO_MAX. */
static inline size_t buf_bytes(int64_t bytes)
{
	return (uint64_t)bytes < BUF_NO_MAX ? (size_t)bytes : BUF_NO_MAX;
}

/* bytes + times * more, no more than BUF_NO_MAX. */
static inline size_t buf_bytes_and(size_t bytes, size_t times, size_t more)
{
	size_t sum;

	return __builtin_mul_overflow(times, more, &sum) ||
			       __builtin_add_overflow(bytes, sum, &sum) || sum > BUF_NO_MAX
		       ? BUF_NO_MAX
		       : sum;
}

void buf_init(struct buf *b, size_t max_bytes);
void buf_free(struct buf *b);
void buf_reset(struct buf *b);		    /* empty, memory kept (returned if over 1 MiB) */
void buf_consume(struct buf *b, size_t n);  /* drop n live bytes from the front */
void buf_truncate(struct buf *b, size_t n); /* keep the first n live bytes */
/* Live bytes. */
static inline size_t buf_length(const struct buf *b)
{
	return b->n - b->start;
}

/* The live bytes, valid until the next append or free. */
static inline struct span buf_span(const struct buf *b)
{
	return (struct span){b->p + b->start, b->n - b->start};
}

/* private: where growing is needed, or the maximum is near */
bool buf_append_growing(struct buf *b, const void *bytes, size_t n);

/* Inline where there is room: a stanza is written in twenty pieces. */
static inline bool buf_append(struct buf *b, const void *bytes, size_t n)
{
	if (b->capacity - b->n <= n || b->n + n > b->max)
		return buf_append_growing(b, bytes, n);
	if (n)
		memcpy(b->p + b->n, bytes, n);
	b->n += n;
	b->p[b->n] = '\0';
	return true;
}

/* An absent span adds nothing. */
static inline bool buf_append_span(struct buf *b, struct span s)
{
	return !s.p || buf_append(b, s.p, s.n);
}

static inline bool buf_append_string(struct buf *b, const char *string)
{
	return buf_append(b, string, strlen(string));
}

static inline bool buf_append_char(struct buf *b, char c)
{
	return buf_append(b, &c, 1);
}

bool buf_printf(struct buf *b, const char *format, ...) __attribute__((format(printf, 2, 3)));
/* Room for at least n more bytes; returns where to put them, or NULL over max.
 * Then buf_commit(the number really put there). */
char *buf_reserve(struct buf *b, size_t n);
void buf_commit(struct buf *b, size_t n);
/* NUL terminated string of the live bytes, owned by the buf. */
const char *buf_string(const struct buf *b);

#endif
