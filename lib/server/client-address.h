/* server/client-address.h - the addresses that a client connects to
 */
#ifndef OUTBOARD_SERVER_CLIENT_ADDRESS_H
#define OUTBOARD_SERVER_CLIENT_ADDRESS_H

#include <stdbool.h>
#include <stddef.h>

#include "loop/lookup.h"

struct client_address {
	char *text; /* numeric */
	unsigned short port;
};

/* To be tried in turn. At first all 0. */
struct client_addresses {
	struct client_address *list;
	size_t count;
};

/* Begin to look up `connect`, HOST:PORT; or, where that is NULL, the SRV records of the domain, in
 * ASCII, for TLS from the first byte (direct, XEP-0368) or for STARTTLS (RFC 6120, 3.2.1). NULL
 * after logging; *status is then an exit status. */
struct lookup *client_addresses_begin(
	const char *connect, const char *domain, bool direct, int *status);
/* Take the addresses over from the lookup, which is freed. `where` is what was looked up, for
 * messages. Returns an exit status; what is wrong has been logged. */
int client_addresses_finish(
	struct client_addresses *a, struct lookup *l, const char *where, bool only_loopback);
void client_addresses_free(struct client_addresses *a);

#endif
