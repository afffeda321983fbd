/* base/span.h - a borrowed run of bytes
 *
 * Wire bytes are never NUL terminated strings: they are spans. A span owns
 * nothing; whoever hands one out says how long it stays valid. p == NULL means
 * "absent" (an attribute that is not there); n == 0 with p != NULL means
 * "present and empty".
 */
#ifndef OUTBOARD_BASE_SPAN_H
#define OUTBOARD_BASE_SPAN_H

#include <stdbool.h>
#include <stddef.h>
#include <string.h>

struct span {
	const char *p;
	size_t n;
};

/* A string literal as a span. */
#define SPAN(literal) ((struct span){"" literal, sizeof(literal) - 1})
/* "absent" */
#define SPAN_NONE ((struct span){NULL, 0})
/* For printf("%.*s"). */
#define SPAN_ARG(s) (int)(s).n, (s).p ? (s).p : ""

static inline struct span span_of(const char *string)
{
	return (struct span){string, string ? strlen(string) : 0};
}

/* Same bytes; an absent span equals only another absent one. */
static inline bool span_equal(struct span a, struct span b)
{
	if (!a.p || !b.p)
		return !a.p && !b.p;
	return a.n == b.n && memcmp(a.p, b.p, a.n) == 0;
}

static inline bool span_is(struct span a, const char *string)
{
	return a.p && a.n == strlen(string) && memcmp(a.p, string, a.n) == 0;
}

/* As memcmp(), the shorter of two that begin alike first. Not for absent ones. */
static inline int span_compare(struct span a, struct span b)
{
	int order = memcmp(a.p, b.p, a.n < b.n ? a.n : b.n);

	return order ? order : (a.n > b.n) - (a.n < b.n);
}

static inline bool span_starts(struct span a, struct span prefix)
{
	return a.p && a.n >= prefix.n && memcmp(a.p, prefix.p, prefix.n) == 0;
}

/* The bytes of `a` from `offset` on; offset <= a.n. */
static inline struct span span_from(struct span a, size_t offset)
{
	return (struct span){a.p + offset, a.n - offset};
}

/* Take what stands before the first `end` off the front of *rest, and that `end`, which is not
 * returned; the whole *rest if it has none. */
static inline struct span span_take_until(struct span *rest, char end)
{
	const char *at = rest->n ? (const char *)memchr(rest->p, end, rest->n) : NULL;
	struct span taken = {rest->p, at ? (size_t)(at - rest->p) : rest->n};

	*rest = span_from(*rest, taken.n + (at != NULL));
	return taken;
}

/* Copy parts to `to`, one behind the other, and let places[i] be where part i is now; absent ones
 * stay absent. */
static inline void span_pack(
	char *to, const struct span *parts, struct span *const *places, size_t count)
{
	for (size_t i = 0; i < count; i++) {
		*places[i] = parts[i].p ? (struct span){to, parts[i].n} : SPAN_NONE;
		if (parts[i].p)
			memcpy(to, parts[i].p, parts[i].n);
		to += parts[i].n;
	}
}

#endif
