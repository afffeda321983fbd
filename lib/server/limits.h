/* server/limits.h - rows for opt_program.limits that several programs share
 *
 * c is an lvalue with static storage of a struct that has the fields max_depth, max_attributes and
 * max_queue_bytes: service_config, login_config.
 */
#ifndef OUTBOARD_SERVER_LIMITS_H
#define OUTBOARD_SERVER_LIMITS_H

#include "base/opt.h"

/* For programs that read and write stanzas: depth attributes queue-bytes */
#define STREAM_LIMITS(c)                                                                           \
	READER_LIMITS(c, 10000),                                                                   \
	{                                                                                          \
		"queue-bytes", 0, OPT_BYTES, NULL,                                                 \
			"most output waiting to be written (default 16M)", &(c).max_queue_bytes,   \
			.min = 65536, .max = 1 << 30                                               \
	}
/* For programs that only read stanzas. */
#define READER_LIMITS(c, deepest)                                                                  \
	{"depth", 0, OPT_INT, NULL, "deepest nesting read (default 256)", &(c).max_depth,          \
		.min = 2, .max = (deepest)},                                                       \
	{                                                                                          \
		"attributes", 0, OPT_INT, NULL, "most attributes of one element (default 256)",    \
			&(c).max_attributes, .min = 8, .max = 100000                               \
	}

#endif
