/* loop/lookup.h - finds the addresses of a name in a thread of its own
 *
 * getaddrinfo(3) may take half a minute over a name server that does not answer. The thread makes a
 * descriptor readable when it is done; until then the name can be given up at any time. Signals are
 * left to the thread that calls.
 */
#ifndef OUTBOARD_LOOP_LOOKUP_H
#define OUTBOARD_LOOP_LOOKUP_H

#include <netdb.h>

struct lookup;

/* Begin with getaddrinfo(3)'s arguments, which are copied; port may be NULL. NULL: there is no
 * descriptor or no thread for it, and errno says why. */
struct lookup *lookup_new(const char *host, const char *port, const struct addrinfo *hints);
/* The same for a service by its SRV records (RFC 2782): `service` is "_xmpp-client._tcp". The
 * addresses of the targets, at most LOOKUP_TARGETS, by priority and then the largest weight first;
 * those of host and port where there are no records. A service that the domain does not have (the
 * target ".") is EAI_SERVICE. */
#define LOOKUP_TARGETS 16
struct lookup *lookup_new_service(
	const char *service, const char *host, const char *port, const struct addrinfo *hints);
/* Readable once the name is looked up; borrowed. */
int lookup_fd(const struct lookup *l);
/* Wait until the name is looked up, and free the lookup. 0, and *found is the caller's to free, or
 * getaddrinfo(3)'s error; for EAI_SYSTEM errno says why. */
int lookup_finish(struct lookup *l, struct addrinfo **found);
/* Give the name up and free the lookup, without waiting. NULL is fine. */
void lookup_free(struct lookup *l);

#endif
