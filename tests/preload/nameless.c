/*
 * nameless - a name server that never answers for one name
 *
 *	env LD_PRELOAD=build/preload/nameless.so NAMELESS=slow.test program
 *
 * getaddrinfo() does not come back with this name; numbers and all other names are as ever.
 */
#include "preload.h"

#include <netdb.h>

static char nameless[256];

static void preload_start(void)
{
	const char *name = getenv("NAMELESS");

	if (name)
		strncpy(nameless, name, sizeof(nameless) - 1);
	unsetenv("NAMELESS");
}

int getaddrinfo(const char *restrict node, const char *restrict service,
	const struct addrinfo *restrict hints, struct addrinfo **restrict found)
{
	int (*real)(const char *, const char *, const struct addrinfo *, struct addrinfo **);

	*(void **)&real = dlsym(RTLD_NEXT, "getaddrinfo");
	if (!node || !nameless[0] || strcmp(node, nameless) != 0 ||
		(hints && hints->ai_flags & AI_NUMERICHOST))
		return real(node, service, hints, found);
	for (;;)
		pause();
}
