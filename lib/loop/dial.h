/* loop/dial.h - from HOST:PORT to a connected socket
 *
 * The name is looked up in a thread of its own, since getaddrinfo(3) may take half a minute over a
 * dead name server; then its addresses are tried one after the other. The socket is non-blocking,
 * close-on-exec, and tuned by dial_tune(). A socket that is connected to itself (an attempt at a
 * free port of this machine may meet itself) counts as refused.
 */
#ifndef OUTBOARD_LOOP_DIAL_H
#define OUTBOARD_LOOP_DIAL_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/socket.h>

#include "base/span.h"
#include "loop/loop.h"

#define DIAL_ADDRESS_MS 10000 /* for one address */

struct dial_ops {
	/* fd is the owner's from here on; loopback: its peer is this machine. */
	void (*connected)(void *context, int fd, bool loopback);
	/* why: "cannot connect to ..." or "cannot find the address of ..."; loopback: of the last
	 * address tried. Ends with the socket error of the last one. */
	void (*failed)(void *context, const char *why, bool loopback);
};

struct dial;

/* Exactly one of ops is called, from the loop only; the dial is gone before it is called. port is a
 * number. There is no deadline for the whole: call dial_cancel() for that. */
struct dial *dial_start(struct loop *loop, const char *host, const char *port,
	const struct dial_ops *ops, void *context);
/* Neither op is called any more. NULL is fine. */
void dial_cancel(struct dial *d);

/* No Nagle, keepalives that notice a peer that is gone within 90 s; what is sent must be
 * acknowledged within ack_ms (0: the system's default); and dial_bound_unsent() with 128 KiB. */
void dial_tune(int fd, int64_t ack_ms);
/* The kernel keeps about so many bytes for a peer that takes nothing, in place of megabytes: what
 * waits longer waits where its share is known. Also for a unix socket. */
void dial_bound_unsent(int fd, int bytes);
/* A loopback address; also true of a unix socket. */
bool dial_is_loopback(const struct sockaddr *address);
/* The same of a name: localhost, *.localhost, or an address as text, without brackets. */
bool dial_names_loopback(struct span host);

#endif
