/* share/service.h - xmpp-share: listeners and instances around share/hub
 *
 * Instances connect to --listen or --listen-unix; each is a struct instance and, once it has proved
 * the secret, a member of the hub. While the server is away or takes nothing the instances are left
 * unread, and else they are read in turns: so what one of them writes does not stand before all
 * that the others write.
 */
#ifndef OUTBOARD_SHARE_SERVICE_H
#define OUTBOARD_SHARE_SERVICE_H

#include "server/service.h"
#include "share/hub.h"

struct shareservice_config {
	struct service_config service;
	const char *listen, *listen_unix;
	struct secret instance_secret;
	int policy, sticky_by;
	int64_t timeout_ms, try_timeout_ms; /* try_timeout_ms -1: a third of timeout_ms */
	int64_t max_pending, max_pending_bytes, max_instances, max_addresses;
	struct opt_share user_pending, domain_pending;
	struct opt_list trusted;
};

#define SHARESERVICE_CONFIG_INIT                                                                   \
	{                                                                                          \
		.service = SERVICE_CONFIG_INIT,                                                    \
		.instance_secret = {.fd = -1, .credential = "instance-secret"},                    \
		.policy = POLICY_STICKY, .timeout_ms = 30000, .try_timeout_ms = -1,                \
		.max_pending = 65536, .max_pending_bytes = 64 * 1024 * 1024, .max_instances = 64,  \
		.max_addresses = 100000, .user_pending = {.n = 256},                               \
		.domain_pending = {.n = 25, .percent = true},                                      \
	}

const char *shareservice_check(const struct shareservice_config *config);
int shareservice_run(const struct shareservice_config *config);

#endif
