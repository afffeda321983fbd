/* plumbing/json-tool.h - stanza-to-json and json-to-stanza
 */
#ifndef OUTBOARD_PLUMBING_JSON_TOOL_H
#define OUTBOARD_PLUMBING_JSON_TOOL_H

#include "server/service.h"

struct jsontool_config {
	struct service_config service; /* limits; never connects */
	int64_t max_line_bytes;	       /* json-to-stanza */
	bool bad;		       /* private */
};

#define JSONTOOL_CONFIG_INIT                                                                       \
	{                                                                                          \
		.service = SERVICE_CONFIG_INIT, .max_line_bytes = 16 * 1024 * 1024                 \
	}

/* Stanzas on stdin, objects on stdout, or the other way round; return the exit status. */
int jsontool_from_stanzas(struct jsontool_config *config);
int jsontool_to_stanzas(const struct jsontool_config *config);

#endif
