/* jat/service.h - the proxy's decisions on a service, with its keys and its state folder
 *
 * What jatproxy.h leaves out because it is pure: key files, random numbers, the
 * marker that tells a crash from a clean stop, the subscribers on disk.
 *
 * State folder (--state-dir or $STATE_DIRECTORY): "running" is there from the start until a
 * clean stop (found at the start: the predecessor crashed, and answers in flight get their
 * grace); "subscribers" holds who subscribed to our presence; "answered" and, when that has grown,
 * "answered.old" hold marks of the requests that we have answered although their session may do so
 * yet: a successor in its grace must not answer them again, for ten minutes.
 */
#ifndef OUTBOARD_JAT_SERVICE_H
#define OUTBOARD_JAT_SERVICE_H

#include "jat/proxy.h"
#include "server/service.h"
#include "base/secret.h"

struct jatservice_config {
	struct service_config service;
	struct opt_list targets;
	int encoding, policy; /* enum jat_encoding, enum jatproxy_policy */
	struct secret keys;
	const char *state_dir;
	const char *drain; /* "xa,dnd,away" */
	int64_t min_priority, timeout_ms, bounce_wait_ms;
	int64_t max_pending, max_pending_bytes, max_sessions, max_subscribers, max_handles;
	bool messages, outbound_iq, show_presence;
};

#define JATSERVICE_CONFIG_INIT                                                                     \
	{                                                                                          \
		.service = SERVICE_CONFIG_INIT, .keys = {.fd = -1, .credential = "jat-keys"},      \
		.min_priority = -128, .timeout_ms = 30000, .bounce_wait_ms = 1000,                 \
		.max_pending = 65536, .max_pending_bytes = 64 * 1024 * 1024, .max_sessions = 1000, \
		.max_subscribers = 10000, .max_handles = 10000                                     \
	}

/* For opt_main(). What is wrong with keys and folder has been logged. */
const char *jatservice_check(const struct jatservice_config *config);
int jatservice_run(const struct jatservice_config *config);

#endif
