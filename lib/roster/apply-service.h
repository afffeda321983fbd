/* roster/apply-service.h - rosters applied as a service: records in, results out
 *
 * Records come from stdin, or from the clients of a unix socket (--listen-unix, LISTEN_FDS);
 * results go back to where the record came from, events to stdout.
 */
#ifndef OUTBOARD_ROSTER_APPLY_SERVICE_H
#define OUTBOARD_ROSTER_APPLY_SERVICE_H

#include "roster/roster.h"
#include "server/service.h"
#include "base/secret.h"

enum apply_via { VIA_PRIVILEGE, VIA_EJABBERD_API };

struct applyservice_config {
	struct service_config service;
	int via; /* enum apply_via */
	const char *host;
	bool on_behalf, dry_run;
	const char *login_events;   /* NULL: none; "": new sessions; "all" */
	const char *api;	    /* URL of ejabberd's mod_http_api */
	struct secret token, login; /* of the API */
	const char *tls_ca;
	struct opt_list keep, keep_groups, skip_users, also_hosts;
	const char *max_removals; /* N, P%, none; NULL: the usual part */
	int64_t max_contacts, max_values;
	int64_t jobs, max_waiting, timeout_ms, max_online, max_record_bytes;
	const char *listen_unix, *unix_mode;
};

#define APPLYSERVICE_CONFIG_INIT                                                                   \
	{                                                                                          \
		.service = SERVICE_CONFIG_INIT, .token = {.fd = -1, .credential = "api-token"},    \
		.login = {.fd = -1}, .max_contacts = ROSTER_MAX_CONTACTS,                          \
		.max_values = ROSTER_MAX_VALUES, .jobs = 16, .max_waiting = 1024,                  \
		.timeout_ms = 60000, .max_online = 100000, .max_record_bytes = 16 * 1024 * 1024    \
	}

/* For opt_main(); EXIT_NO if any record failed. */
const char *applyservice_check(const struct applyservice_config *config);
int applyservice_run(const struct applyservice_config *config);

#endif
