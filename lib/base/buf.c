/* buf.c - see buf.h */
#include "base/buf.h"

#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

#include "base/err.h"

#define KEEP_BYTES (1024 * 1024)
#define FIRST_BYTES 256

/* p points here before the first growth; only '\0' is ever written here. */
static char nothing[1];

void buf_init(struct buf *b, size_t max_bytes)
{
	*b = (struct buf){.p = nothing, .max = max_bytes < BUF_NO_MAX ? max_bytes : BUF_NO_MAX};
}

void buf_free(struct buf *b)
{
	if (b->capacity)
		free(b->p);
	buf_init(b, b->max);
}

void buf_reset(struct buf *b)
{
	if (b->capacity > KEEP_BYTES) {
		buf_free(b);
		return;
	}
	b->start = b->n = 0;
	b->p[0] = '\0';
}

void buf_consume(struct buf *b, size_t n)
{
	if (n < buf_length(b))
		b->start += n;
	else
		buf_reset(b);
}

void buf_truncate(struct buf *b, size_t n)
{
	if (n >= buf_length(b))
		return;
	b->n = b->start + n;
	b->p[b->n] = '\0';
}

char *buf_reserve(struct buf *b, size_t n)
{
	size_t live = buf_length(b);
	if (n > b->max || live > b->max - n)
		return NULL;
	if (n == 0 || (b->capacity > n && b->n < b->capacity - n))
		return b->p + b->n;
	/* Moving n live bytes down happens only after at least n were consumed, so it is O(1)
	 * amortised. */
	if (b->start >= live && b->capacity > n && live < b->capacity - n) {
		memmove(b->p, b->p + b->start, live + 1);
	} else {
		size_t want = live + n + 1, capacity = b->capacity ? b->capacity : FIRST_BYTES;
		while (capacity < want)
			capacity = capacity > SIZE_MAX / 2 ? want : capacity * 2;
		char *p = xmalloc(capacity);
		memcpy(p, b->p + b->start, live + 1);
		if (b->capacity)
			free(b->p);
		b->p = p;
		b->capacity = capacity;
	}
	b->start = 0;
	b->n = live;
	return b->p + live;
}

void buf_commit(struct buf *b, size_t n)
{
	b->n += n;
	b->p[b->n] = '\0';
}

bool buf_append_growing(struct buf *b, const void *bytes, size_t n)
{
	char *to = buf_reserve(b, n);
	if (!to)
		return false;
	if (n) {
		memcpy(to, bytes, n);
		buf_commit(b, n);
	}
	return true;
}

bool buf_printf(struct buf *b, const char *format, ...)
{
	va_list ap;
	va_start(ap, format);
	int n = vsnprintf(NULL, 0, format, ap);
	va_end(ap);
	if (n < 0)
		return false;
	char *to = buf_reserve(b, (size_t)n);
	if (!to)
		return false;
	if (n > 0) {
		va_start(ap, format);
		vsnprintf(to, (size_t)n + 1, format, ap);
		va_end(ap);
		buf_commit(b, (size_t)n);
	}
	return true;
}

const char *buf_string(const struct buf *b)
{
	return b->p + b->start;
}
