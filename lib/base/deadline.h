/* base/deadline.h - absolute times in milliseconds of CLOCK_MONOTONIC
 *
 * A deadline is an int64_t. Modules without a clock are given the time and say by a deadline when
 * they want to be called again.
 */
#ifndef OUTBOARD_BASE_DEADLINE_H
#define OUTBOARD_BASE_DEADLINE_H

#include <stddef.h>
#include <stdint.h>

/* Never: later than all others. */
#define DEADLINE_NEVER INT64_MAX

/* The earliest of several. */
static inline int64_t deadline_first(const int64_t *deadlines_ms, size_t count)
{
	int64_t first_ms = DEADLINE_NEVER;

	for (size_t i = 0; i < count; i++)
		if (deadlines_ms[i] < first_ms)
			first_ms = deadlines_ms[i];
	return first_ms;
}

#endif
