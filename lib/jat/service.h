/* jat/service.h - the proxy's decisions on a service, with its keys and its state folder
 *
 * What jat/proxy.h leaves out because it is pure: the configuration, key files, random numbers, the
 * state folder (jat/state.h).
 */
#ifndef OUTBOARD_JAT_SERVICE_H
#define OUTBOARD_JAT_SERVICE_H

#include "jat/proxy.h"
#include "server/service.h"
#include "base/secret.h"

struct jatservice_config {
	struct service_config service;
	struct opt_list targets;
	int encoding, policy; /* enum jat_encoding, enum balance_policy */
	struct secret keys;
	const char *state_dir;
	const char *drain; /* "xa,dnd,away" */
	const char *reply_domain;
	const char *show_presence; /* NULL: not shown; "" or "full" */
	int64_t min_priority, timeout_ms, bounce_wait_ms;
	int64_t try_timeout_ms;	      /* -1: a third of the timeout */
	struct pending_limits limits; /* domain_pending not given: a quarter */
	int64_t max_sessions, max_subscribers, max_handles, max_marks;
	bool messages, outbound_iq, keep_item_jids;
};

#define JATSERVICE_CONFIG_INIT                                                                     \
	{                                                                                          \
		.service = SERVICE_CONFIG_INIT, .keys = {.fd = -1, .credential = "jat-keys"},      \
		.min_priority = -128, .timeout_ms = 30000, .bounce_wait_ms = 1000,                 \
		.try_timeout_ms = -1, .limits = PENDING_LIMITS_INIT, .max_sessions = 1000,         \
		.max_subscribers = 10000, .max_handles = 10000, .max_marks = 262144,               \
	}

/* For opt_main(). What is wrong with keys and folder has been logged. */
const char *jatservice_check(const struct jatservice_config *config);
int jatservice_run(const struct jatservice_config *config);

#endif
