/* base/backoff.h - waiting longer after each failure */
#ifndef OUTBOARD_BASE_BACKOFF_H
#define OUTBOARD_BASE_BACKOFF_H

#include <stdint.h>

struct backoff {
	int64_t first_ms, max_ms;
	uint64_t times; /* how often backoff_next_ms() was called in a row; set it to 0 after a
			   success */
};

/* How long to wait now: first_ms, and each time twice as long, up to max_ms. */
static inline int64_t backoff_next_ms(struct backoff *b)
{
	int64_t delay_ms = b->first_ms;

	for (uint64_t i = 0; i < b->times && delay_ms < b->max_ms; i++)
		delay_ms *= 2;
	b->times++;
	return delay_ms < b->max_ms ? delay_ms : b->max_ms;
}

#endif
