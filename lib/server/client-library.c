#include "server/client-library.h"

#include <stdlib.h>
#include <sys/resource.h>

#include "base/err.h"

#define STACK_BYTES (256UL * 1024 * 1024)

static void *library_alloc(const size_t bytes, void *unused)
{
	(void)unused;
	return xmalloc(bytes);
}

static void *library_realloc(void *p, const size_t bytes, void *unused)
{
	(void)unused;
	return xrealloc(p, bytes);
}

static void library_free(void *p, void *unused)
{
	(void)unused;
	free(p);
}

static void stack_grow(void)
{
	struct rlimit limit;

	if (getrlimit(RLIMIT_STACK, &limit) != 0 || limit.rlim_cur == RLIM_INFINITY ||
		limit.rlim_cur >= STACK_BYTES)
		return;
	limit.rlim_cur = limit.rlim_max == RLIM_INFINITY || limit.rlim_max > STACK_BYTES
				 ? STACK_BYTES
				 : limit.rlim_max;
	setrlimit(RLIMIT_STACK, &limit);
}

xmpp_ctx_t *client_library_start(const xmpp_log_t *log)
{
	static const xmpp_mem_t memory = {library_alloc, library_free, library_realloc, NULL};
	xmpp_ctx_t *ctx;

	stack_grow();
	xmpp_initialize();
	ctx = xmpp_ctx_new(&memory, log);
	if (!ctx)
		err_die(EXIT_TEMPORARY, "out of memory");
	return ctx;
}

void client_library_end(xmpp_ctx_t *ctx)
{
	xmpp_ctx_free(ctx);
	xmpp_shutdown();
}
