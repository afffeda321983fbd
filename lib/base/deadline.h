/* base/deadline.h - absolute times in milliseconds of CLOCK_MONOTONIC
 *
 * A deadline is an int64_t. Modules without a clock are given the time and say by a deadline when
 * they want to be called again.
 */
#ifndef OUTBOARD_BASE_DEADLINE_H
#define OUTBOARD_BASE_DEADLINE_H

#include <stdint.h>

/* Never: later than all others. */
#define DEADLINE_NEVER INT64_MAX

#endif
