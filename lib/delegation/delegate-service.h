/* delegation/delegate-service.h - the delegating side's decisions on a service, with its rules and
 * its handler
 */
#ifndef OUTBOARD_DELEGATION_DELEGATE_SERVICE_H
#define OUTBOARD_DELEGATION_DELEGATE_SERVICE_H

#include "delegation/delegate.h"
#include "delegation/limits.h"
#include "server/service.h"

struct delegateservice_config {
	struct service_config service;
	struct opt_list delegations; /* "NS[attr,attr]=JID" */
	const char *config_file;
	struct opt_list identities, features;
	int version;			    /* index into "1|2" */
	int64_t timeout_ms, try_timeout_ms; /* try: -1: a third of timeout */
	struct pending_limits limits;
	char **otherwise; /* NULL ended argv, or NULL */
	bool json;	  /* it reads and writes objects */
};

#define DELEGATESERVICE_CONFIG_INIT                                                                \
	{                                                                                          \
		.service = SERVICE_CONFIG_INIT, .version = 1, .timeout_ms = 30000,                 \
		.try_timeout_ms = -1, .limits = PENDING_LIMITS_INIT                                \
	}

/* Rules as they are written, before they are checked: one allocation each, owned. */
struct delegate_rules {
	struct delegate_rule *list;
	size_t count;
};
void delegate_rules_init(struct delegate_rules *r);
void delegate_rules_free(struct delegate_rules *r);
/* "NS[attr,attr]=JID", split at the last '='. NULL, or what is wrong (static). */
const char *delegate_rules_option(struct delegate_rules *r, struct span text);
/* {"NS":{"filtering":["attr"],"jid":"JID"}}. NULL, or what is wrong (static); *key names where
 * (appended). */
const char *delegate_rules_json(struct delegate_rules *r, struct span text, struct buf *key);

/* For opt_main(). */
const char *delegateservice_check(const struct delegateservice_config *config);
int delegateservice_run(const struct delegateservice_config *config);

#endif
