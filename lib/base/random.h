/* base/random.h - random numbers, all from getrandom(2)
 */
#ifndef OUTBOARD_BASE_RANDOM_H
#define OUTBOARD_BASE_RANDOM_H

#include <stddef.h>
#include <stdint.h>

/* Cryptographically secure random bytes (getrandom); exits 75 when the kernel has none. */
void random_bytes(void *bytes, size_t n);
/* A random number, for pure modules that are given a function. Numbers are drawn many at a time;
 * context: a struct random_numbers, at first all 0. Used numbers are wiped. */
struct random_numbers {
	uint64_t drawn[32];
	size_t left;
};
uint64_t random_number(void *context);

#endif
