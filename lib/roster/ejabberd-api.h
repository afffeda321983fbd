/* roster/ejabberd-api.h - rosters through ejabberd's HTTP API (mod_http_api, mod_admin_extra)
 *
 * A backend of apply.h for servers that cannot take privileged roster sets (23.01):
 * get_roster, add_rosteritem, delete_rosteritem, and check_account, because the others do not
 * say that a user is unknown. ejabberd pushes and shows presence by itself.
 *
 * delete_rosteritem also takes the contact's item of the user down, which is the contact's own and
 * may be wanted: it is read before and after, and restored, unless a record in hand drops it as
 * well.
 */
#ifndef OUTBOARD_ROSTER_EJABBERD_API_H
#define OUTBOARD_ROSTER_EJABBERD_API_H

#include "roster/apply.h"
#include "base/secret.h"
#include "loop/loop.h"

struct ejabberd_api_config {
	const char *url; /* ".../api" or ".../api/v1": groups are then lists */
	struct span host;
	struct secret token; /* bearer; may be absent */
	struct apply *apply;
	int64_t timeout_ms;
	size_t connections;
};

struct ejabberd_api;

/* NULL after logging: the URL or token cannot be used. config's spans and strings are borrowed. */
struct ejabberd_api *ejabberd_api_new(struct loop *loop, const struct ejabberd_api_config *config);
void ejabberd_api_free(struct ejabberd_api *e);
struct apply_backend ejabberd_api_backend(struct ejabberd_api *e);

#endif
