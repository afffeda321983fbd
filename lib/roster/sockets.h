/* roster/sockets.h - where the refresh endpoint gets its clients from
 *
 * Sockets that a supervisor has passed, those of --listen and --listen-unix, and with none of these
 * standard input (inetd: a listening socket, or one connection), or else the default address.
 */
#ifndef OUTBOARD_ROSTER_SOCKETS_H
#define OUTBOARD_ROSTER_SOCKETS_H

#include "loop/listen.h"
#include "roster/refresh-service.h"

struct sockets {
	struct listen_socket *listen;
	int connection; /* inetd's, for the owner to serve and close; -1: none */
};
#define SOCKETS_INIT                                                                               \
	{                                                                                          \
		.connection = -1                                                                   \
	}

/* Returns an exit status; what is wrong has been logged. Free s->listen in any case. */
int sockets_open(struct sockets *s, const struct refreshservice_config *c);

#endif
