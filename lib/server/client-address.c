#include "server/client-address.h"

#include <errno.h>
#include <netinet/in.h>
#include <stdlib.h>
#include <string.h>

#include "base/err.h"
#include "base/io.h"
#include "loop/dial.h"

static unsigned short port_of(const struct addrinfo *found)
{
	struct sockaddr_storage whole = {0};

	memcpy(&whole, found->ai_addr, found->ai_addrlen);
	return ntohs(found->ai_family == AF_INET ? ((struct sockaddr_in *)&whole)->sin_port
						 : ((struct sockaddr_in6 *)&whole)->sin6_port);
}

/* Add one of the addresses that were found. An exit status; what is wrong has been logged. */
static int add_found(struct client_addresses *a, const struct addrinfo *found, const char *where,
	bool only_loopback)
{
	char numeric[NI_MAXHOST];

	if ((found->ai_family != AF_INET && found->ai_family != AF_INET6) || port_of(found) == 0)
		return EXIT_DONE;
	if (only_loopback && !dial_is_loopback(found->ai_addr)) {
		err_error("--tls off is for loopback addresses only, %s is none", where);
		return EXIT_USAGE;
	}
	if (getnameinfo(found->ai_addr, found->ai_addrlen, numeric, sizeof(numeric), NULL, 0,
		    NI_NUMERICHOST) == 0) {
		a->list = xrealloc(a->list, (a->count + 1) * sizeof(*a->list));
		a->list[a->count++] = (struct client_address){xstrdup(numeric), port_of(found)};
	}
	return EXIT_DONE;
}

struct lookup *client_addresses_begin(
	const char *connect, const char *domain, bool direct, int *status)
{
	const struct addrinfo hints = {.ai_family = AF_UNSPEC, .ai_socktype = SOCK_STREAM};
	char *host = NULL, *port = NULL;
	struct lookup *l;

	if (connect && (!io_split_host_port(connect, &host, &port) || !port[strspn(port, "0")])) {
		err_error("'%s' is not HOST:PORT", connect);
		*status = EXIT_USAGE;
		free(host);
		free(port);
		return NULL;
	}
	if (connect)
		l = lookup_new(host ? host : "127.0.0.1", port, &hints);
	else
		l = lookup_new_service(direct ? "_xmpps-client._tcp" : "_xmpp-client._tcp", domain,
			direct ? "5223" : "5222", &hints);
	if (!l) {
		err_error("cannot find '%s': %s", connect ? connect : domain, strerror(errno));
		*status = EXIT_TEMPORARY;
	}
	free(host);
	free(port);
	return l;
}

int client_addresses_finish(
	struct client_addresses *a, struct lookup *l, const char *where, bool only_loopback)
{
	struct addrinfo *list = NULL;
	int error = lookup_finish(l, &list), status = EXIT_DONE;

	if (error) {
		err_error("cannot find '%s': %s", where,
			error == EAI_SYSTEM    ? strerror(errno)
			: error == EAI_MEMORY  ? "out of memory"
			: error == EAI_SERVICE ? "there is no such service"
					       : gai_strerror(error));
		return error == EAI_MEMORY ? EXIT_TEMPORARY : EXIT_UNAVAILABLE;
	}
	for (const struct addrinfo *f = list; f && status == EXIT_DONE; f = f->ai_next)
		status = add_found(a, f, where, only_loopback);
	if (list)
		freeaddrinfo(list);
	return status;
}

void client_addresses_free(struct client_addresses *a)
{
	for (size_t i = 0; i < a->count; i++)
		free(a->list[i].text);
	free(a->list);
}
