/* base/random.h - random numbers, all from getrandom(2)
 */
#ifndef OUTBOARD_BASE_RANDOM_H
#define OUTBOARD_BASE_RANDOM_H

#include <stddef.h>
#include <stdint.h>

#include "base/span.h"

/* Cryptographically secure random bytes (getrandom); exits 75 when the kernel has none. */
void random_bytes(void *bytes, size_t n);
/* Numbers drawn many at a time, at first all 0. Used numbers are wiped. */
struct random_numbers {
	uint64_t drawn[256];
	size_t left;
};
/* context: a struct random_numbers. */
uint64_t random_number(void *context);

/* Where a pure module draws its random numbers from: random_number(), or a test's own. */
struct random_source {
	uint64_t (*draw)(void *context);
	void *context;
};

/* For those that draw seldom: each number is drawn from the kernel at once. */
extern const struct random_source random_kernel;

static inline uint64_t random_draw(const struct random_source *source)
{
	return source->draw(source->context);
}

/* A name that nobody can guess: 32 digits and a NUL. */
#define RANDOM_NAME_CHARS 32
struct span random_name(const struct random_source *source, char name[RANDOM_NAME_CHARS + 1]);

#endif
