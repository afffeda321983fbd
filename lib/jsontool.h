/* jsontool.h - stanza-to-json and json-to-stanza
 */
#ifndef OUTBOARD_JSONTOOL_H
#define OUTBOARD_JSONTOOL_H

#include "service.h"

struct jsontool_config {
	struct service_config service; /* limits; never connects */
	int64_t max_line_bytes;	       /* json-to-stanza */
	bool bad;		       /* private */
};

#define JSONTOOL_CONFIG_INIT                                                                       \
	{                                                                                          \
		.service = SERVICE_CONFIG_INIT, .max_line_bytes = 16 * 1024 * 1024                 \
	}

/* The options both have; c is a struct jsontool_config lvalue with static storage. */
#define JSONTOOL_OPTIONS(c)                                                                        \
	{"max-stanza-bytes", 0, OPT_BYTES, "BYTES", "largest stanza (default 1M)",                 \
		&(c).service.max_stanza_bytes, .min = 1024, .max = 1 << 30},                       \
		{"max-depth", 0, OPT_INT, "N", "deepest nesting (default 256)",                    \
			&(c).service.max_depth, .min = 2, .max = 500},                             \
	{                                                                                          \
		"max-attributes", 0, OPT_INT, "N", "most attributes of one element (default 256)", \
			&(c).service.max_attributes, .min = 8, .max = 100000                       \
	}

/* Stanzas on stdin, objects on stdout, or the other way round; return the exit status. */
int jsontool_from_stanzas(struct jsontool_config *config);
int jsontool_to_stanzas(const struct jsontool_config *config);

#endif
