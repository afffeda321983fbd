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

/* Find the addresses of `connect`, HOST:PORT; blocks while the name is looked up. connect NULL:
 * libstrophe looks up the SRV records of the domain; since it can only do that for ASCII names, it
 * connects to the host `alabels` itself if that is not NULL. Returns an exit status; what is wrong
 * has been logged. */
int client_addresses_find(
	struct client_addresses *a, const char *connect, const char *alabels, bool only_loopback);
void client_addresses_free(struct client_addresses *a);

#endif
