/* delegation/manage-service.h - the managing entity's decisions on a service, with its handler
 *
 * What manage.h leaves out because it is pure: the handler's process or pipe, the jobs of
 * --per-request, the files.
 */
#ifndef OUTBOARD_DELEGATION_MANAGE_SERVICE_H
#define OUTBOARD_DELEGATION_MANAGE_SERVICE_H

#include "delegation/manage.h"
#include "delegation/limits.h"
#include "server/service.h"

struct manageservice_config {
	struct service_config service;
	struct opt_list hosts;
	struct manage_namespace *namespaces; /* grown by manageservice_namespace() */
	size_t namespaces_count;
	const char *disco_file;
	bool per_request, handler_requests;
	const char *handler_messages; /* NULL: none; "" or "users" */
	bool json; /* the handler reads and writes objects, our own pipe too if it is the handler */
	int64_t jobs, timeout_ms;
	struct pending_limits limits;
	char **handler; /* NULL ended argv, or NULL */
};

#define MANAGESERVICE_CONFIG_INIT                                                                  \
	{                                                                                          \
		.service = SERVICE_CONFIG_INIT, .jobs = 8, .timeout_ms = 25000,                    \
		.limits = PENDING_LIMITS_INIT                                                      \
	}

/* Calls of the option table (OPT_CALL; target: the config), in the order of the command line. */
const char *manageservice_namespace(void *config, const char *ns);
const char *manageservice_feature(void *config, const char *var);
const char *manageservice_bare_feature(void *config, const char *var);
const char *manageservice_identity(void *config, const char *text);

/* For opt_main(). */
const char *manageservice_check(const struct manageservice_config *config);
int manageservice_run(struct manageservice_config *config);

#endif
