/* base/random.h - the only source of chance
 */
#ifndef OUTBOARD_BASE_RANDOM_H
#define OUTBOARD_BASE_RANDOM_H

#include <stddef.h>
#include <stdint.h>

/* Cryptographically secure random bytes (getrandom); exits 75 when the kernel has none. */
void random_bytes(void *bytes, size_t n);
/* The next of random numbers that are drawn many at a time, for the pure modules that are given a
 * function for them; context: a struct random_numbers, at first all 0. None stays in it once it
 * was given out. */
struct random_numbers {
	uint64_t drawn[32];
	size_t left;
};
uint64_t random_number(void *context);

#endif
