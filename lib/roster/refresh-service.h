/* roster/refresh-service.h - the refresh endpoint as a service: HTTP in, names to a worker, records
 * back
 */
#ifndef OUTBOARD_ROSTER_REFRESH_SERVICE_H
#define OUTBOARD_ROSTER_REFRESH_SERVICE_H

#include "roster/http.h"
#include "roster/roster.h"
#include "server/service.h"
#include "base/secret.h"

struct refreshservice_config {
	struct service_config service;
	struct opt_list listen;
	const char *unix_path, *unix_mode;
	const char *cert, *key; /* files */
	struct secret token;
	const char *spool;
	const char *host; /* the users' host, so that NAME@host is NAME; or NULL */
	struct opt_list allow_origins, allow_hosts;
	int64_t give_up_ms, max_values;
	char **worker; /* NULL: names are printed */
	int64_t timeout_ms, receive_ms, max_body_bytes, max_header_bytes, max_connections,
		max_pending, max_record_bytes;
};

#define REFRESHSERVICE_CONFIG_INIT                                                                 \
	{                                                                                          \
		.service = SERVICE_CONFIG_INIT, .token = {.fd = -1, .credential = "api-token"},    \
		.give_up_ms = 86400000, .max_values = ROSTER_MAX_VALUES, .timeout_ms = 60000,      \
		.receive_ms = HTTP_RECEIVE_MS, .max_body_bytes = HTTP_MAX_BODY_BYTES,              \
		.max_header_bytes = HTTP_MAX_HEADER_BYTES,                                         \
		.max_connections = HTTP_MAX_CONNECTIONS, .max_pending = 65536,                     \
		.max_record_bytes = 16 * 1024 * 1024                                               \
	}

/* For opt_main(). */
const char *refreshservice_check(const struct refreshservice_config *config);
int refreshservice_run(struct refreshservice_config *config);

#endif
