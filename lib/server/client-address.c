#include "server/client-address.h"

#include <errno.h>
#include <netdb.h>
#include <netinet/in.h>
#include <stdlib.h>
#include <string.h>

#include "base/err.h"
#include "base/io.h"
#include "loop/dial.h"

int client_addresses_find(
	struct client_addresses *a, const char *connect, const char *alabels, bool only_loopback)
{
	struct addrinfo hints = {.ai_family = AF_UNSPEC, .ai_socktype = SOCK_STREAM}, *list, *found;
	char *host = NULL, *port = NULL, numeric[NI_MAXHOST];
	int error, status = EXIT_DONE;

	if (!connect) {
		a->list = xcalloc(1, sizeof(*a->list));
		a->count = 1;
		if (alabels)
			a->list[0] = xstrdup(alabels);
		return EXIT_DONE;
	}
	if (!io_split_host_port(connect, &host, &port)) {
		err_error("'%s' is not HOST:PORT", connect);
		return EXIT_USAGE;
	}
	error = getaddrinfo(host, port, &hints, &list);
	if (error) {
		err_error("cannot find '%s': %s", host,
			error == EAI_SYSTEM   ? strerror(errno)
			: error == EAI_MEMORY ? "out of memory"
					      : gai_strerror(error));
		status = error == EAI_MEMORY ? EXIT_TEMPORARY : EXIT_UNAVAILABLE;
		list = NULL;
	}
	for (found = list; found; found = found->ai_next) {
		struct sockaddr_storage whole = {0};

		if (found->ai_family != AF_INET && found->ai_family != AF_INET6)
			continue;
		memcpy(&whole, found->ai_addr, found->ai_addrlen);
		a->port = ntohs(found->ai_family == AF_INET
					? ((struct sockaddr_in *)&whole)->sin_port
					: ((struct sockaddr_in6 *)&whole)->sin6_port);
		if (a->port == 0) {
			err_error("'%s' is not HOST:PORT", connect);
			status = EXIT_USAGE;
			break;
		}
		if (only_loopback && !dial_is_loopback(found->ai_addr)) {
			err_error("--tls off is for loopback addresses only, %s is none", connect);
			status = EXIT_USAGE;
			break;
		}
		if (getnameinfo(found->ai_addr, found->ai_addrlen, numeric, sizeof(numeric), NULL,
			    0, NI_NUMERICHOST) != 0)
			continue;
		a->list = xrealloc(a->list, (a->count + 1) * sizeof(*a->list));
		a->list[a->count++] = xstrdup(numeric);
	}
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
