/* server/client-address.h - the addresses that a client connects to
 */
#ifndef OUTBOARD_SERVER_CLIENT_ADDRESS_H
#define OUTBOARD_SERVER_CLIENT_ADDRESS_H

#include <stdbool.h>
#include <stddef.h>

/* Numeric addresses, to be tried in turn; a single NULL where SRV records decide. At first all 0.
 */
struct client_addresses {
	char **list;
	size_t count;
	unsigned short port;
};

/* The addresses of `connect`, HOST:PORT; resolves the name, blocking. NULL: SRV of the domain is
 * for libstrophe to look up, or, as it looks up no names but ASCII ones, the host `alabels` (if not
 * NULL) itself. An exit status; what is wrong has been logged. */
int client_addresses_find(
	struct client_addresses *a, const char *connect, const char *alabels, bool only_loopback);
void client_addresses_free(struct client_addresses *a);

#endif
