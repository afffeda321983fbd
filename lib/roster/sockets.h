/* roster/sockets.h - where the refresh endpoint gets its clients from
 *
 * Sockets that a supervisor has passed, those of --listen and --listen-unix, and with none of these
 * standard input (inetd: a listening socket, or one connection), or else the default address.
 */
#ifndef OUTBOARD_ROSTER_SOCKETS_H
#define OUTBOARD_ROSTER_SOCKETS_H

#include "loop/loop.h"
#include "roster/refresh-service.h"

struct listen_socket;

struct sockets {
	struct listen_socket **list;
	size_t count;
	int connection; /* inetd's, for the owner to serve and close; -1: none */
};
#define SOCKETS_INIT                                                                               \
	{                                                                                          \
		.connection = -1                                                                   \
	}

/* Returns an exit status; what is wrong has been logged. Free s in any case. */
int sockets_open(struct sockets *s, const struct refreshservice_config *c);
/* Whether only this machine reaches them; the connection does not count. */
bool sockets_are_local(const struct sockets *s);
/* Log the addresses, and call fn with each client (see listen_start()). */
void sockets_start(
	struct sockets *s, struct loop *loop, void (*fn)(void *context, int fd), void *context);
void sockets_hold(struct sockets *s, bool hold);
/* take_waiting: take the clients that have connected already before. */
void sockets_stop(struct sockets *s, bool take_waiting);
void sockets_free(struct sockets *s);

#endif
