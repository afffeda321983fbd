/* roster/ejabberd-api.h - rosters through ejabberd's HTTP API (mod_http_api, mod_admin_extra)
 *
 * A backend of apply.h for servers whose privileged roster sets fail (23.01) or lose the
 * subscription (24.12):
 * get_roster, add_rosteritem, delete_rosteritem, and check_account, because the other commands do
 * not tell that a user is unknown. ejabberd sends roster pushes and presence by itself.
 *
 * delete_rosteritem also changes the contact's own item of the user, which may have to stay. So
 * that item is read before and after, and restored, unless a record in hand drops it as well.
 *
 * Versions differ in how they take groups and in where the URL has the version: the first request
 * is one that every version refuses, and the refusal tells which one it is.
 */
#ifndef OUTBOARD_ROSTER_EJABBERD_API_H
#define OUTBOARD_ROSTER_EJABBERD_API_H

#include "roster/apply.h"
#include "base/secret.h"
#include "loop/loop.h"

struct ejabberd_api_config {
	const char *url; /* ".../api" or ".../api/v1"; the form of requests is found out */
	struct span host;
	const struct span *also_hosts; /* other hosts of the same server, normalised */
	size_t also_hosts_count;
	struct secret token; /* bearer; may be absent */
	struct secret login; /* user:password; may be absent */
	const char *tls_ca;  /* PEM file or NULL */
	/* Access is missing, and what to configure was logged: the owner ends with EXIT_CONFIG. */
	void (*refused)(void *context);
	void *context;
	int64_t timeout_ms;
	size_t connections;
};

struct ejabberd_api;

/* NULL after logging: the URL or token cannot be used. config's spans and strings are borrowed. */
struct ejabberd_api *ejabberd_api_new(struct loop *loop, const struct ejabberd_api_config *config);
void ejabberd_api_free(struct ejabberd_api *e);
struct apply_backend ejabberd_api_backend(struct ejabberd_api *e);

#endif
