#include "server/client-address.h"

#include <errno.h>
#include <netdb.h>
#include <netinet/in.h>
#include <stdlib.h>
#include <string.h>

#include "base/err.h"
#include "base/io.h"
#include "loop/dial.h"

static void add(struct client_addresses *a, const char *address)
{
	a->list = xrealloc(a->list, (a->count + 1) * sizeof(*a->list));
	a->list[a->count++] = address ? xstrdup(address) : NULL;
}

static unsigned short port_of(const struct addrinfo *found)
{
	struct sockaddr_storage whole = {0};

	memcpy(&whole, found->ai_addr, found->ai_addrlen);
	return ntohs(found->ai_family == AF_INET ? ((struct sockaddr_in *)&whole)->sin_port
						 : ((struct sockaddr_in6 *)&whole)->sin6_port);
}

/* Add one of the addresses of `connect`. An exit status; what is wrong has been logged. */
static int add_found(struct client_addresses *a, const struct addrinfo *found, const char *connect,
	bool only_loopback)
{
	char numeric[NI_MAXHOST];

	if (found->ai_family != AF_INET && found->ai_family != AF_INET6)
		return EXIT_DONE;
	a->port = port_of(found);
	if (a->port == 0) {
		err_error("'%s' is not HOST:PORT", connect);
		return EXIT_USAGE;
	}
	if (only_loopback && !dial_is_loopback(found->ai_addr)) {
		err_error("--tls off is for loopback addresses only, %s is none", connect);
		return EXIT_USAGE;
	}
	if (getnameinfo(found->ai_addr, found->ai_addrlen, numeric, sizeof(numeric), NULL, 0,
		    NI_NUMERICHOST) == 0)
		add(a, numeric);
	return EXIT_DONE;
}

static int look_up(const char *host, const char *port, struct addrinfo **list)
{
	const struct addrinfo hints = {.ai_family = AF_UNSPEC, .ai_socktype = SOCK_STREAM};
	int error = getaddrinfo(host, port, &hints, list);

	if (!error)
		return EXIT_DONE;
	*list = NULL;
	err_error("cannot find '%s': %s", host,
		error == EAI_SYSTEM   ? strerror(errno)
		: error == EAI_MEMORY ? "out of memory"
				      : gai_strerror(error));
	return error == EAI_MEMORY ? EXIT_TEMPORARY : EXIT_UNAVAILABLE;
}

int client_addresses_find(
	struct client_addresses *a, const char *connect, const char *alabels, bool only_loopback)
{
	char *host = NULL, *port = NULL;
	struct addrinfo *list;
	int status;

	if (!connect) {
		add(a, alabels);
		return EXIT_DONE;
	}
	if (!io_split_host_port(connect, &host, &port)) {
		err_error("'%s' is not HOST:PORT", connect);
		return EXIT_USAGE;
	}
	status = look_up(host, port, &list);
	for (const struct addrinfo *f = list; f && status == EXIT_DONE; f = f->ai_next)
		status = add_found(a, f, connect, only_loopback);
	if (list)
		freeaddrinfo(list);
	free(host);
	free(port);
	return status;
}

void client_addresses_free(struct client_addresses *a)
{
	for (size_t i = 0; i < a->count; i++)
		free(a->list[i]);
	free(a->list);
}
