#include "roster/http-guard.h"

#include <arpa/inet.h>
#include <netdb.h>
#include <netinet/in.h>
#include <nettle/memops.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/err.h"
#include "loop/dial.h"
#include "loop/lookup.h"
#include "roster/http-request.h"

/* How long starting waits for the machine's full name: a dead name server takes half a minute. */
#define LOOKUP_WAIT_MS 1000

struct http_guard {
	const struct http_config *config;
	char name[256];		/* the machine's; "" if it has none */
	struct lookup *lookup;	/* of its full name; NULL: done */
	struct addrinfo *found; /* NULL: the full name is not known */
};

static void find_full_name(struct http_guard *g)
{
	const struct addrinfo hints = {.ai_family = AF_UNSPEC, .ai_flags = AI_CANONNAME};

	if (gethostname(g->name, sizeof(g->name) - 1) == 0 && *g->name && !strchr(g->name, '.'))
		g->lookup = lookup_new(g->name, NULL, &hints);
	if (g->lookup)
		poll(&(struct pollfd){.fd = lookup_fd(g->lookup), .events = POLLIN}, 1,
			LOOKUP_WAIT_MS);
}

/* The machine's name with its domain; NULL if that is not known, or not yet. */
static const char *full_name(struct http_guard *g)
{
	if (g->lookup &&
		poll(&(struct pollfd){.fd = lookup_fd(g->lookup), .events = POLLIN}, 1, 0) > 0) {
		if (lookup_finish(g->lookup, &g->found) != 0)
			g->found = NULL;
		g->lookup = NULL;
	}
	return g->found ? g->found->ai_canonname : NULL;
}

struct http_guard *http_guard_new(const struct http_config *config)
{
	struct http_guard *g = xcalloc(1, sizeof(*g));

	g->config = config;
	find_full_name(g);
	return g;
}

void http_guard_free(struct http_guard *g)
{
	lookup_free(g->lookup);
	if (g->found)
		freeaddrinfo(g->found);
	free(g);
}

static const char *header_of(struct MHD_Connection *mhd, const char *name)
{
	return MHD_lookup_connection_value(mhd, MHD_HEADER_KIND, name);
}

bool http_guard_token(const struct http_guard *g, struct MHD_Connection *mhd)
{
	const char *given = header_of(mhd, "Authorization");
	struct span tokens = buf_span(g->config->tokens), text = span_of(given);
	bool matches = false;

	if (text.n < 7 || strncasecmp(given, "Bearer ", 7) != 0)
		return false;
	text = span_from(text, 7);
	while (text.n > 0 && *text.p == ' ')
		text = span_from(text, 1);
	while (tokens.n > 0) {
		struct span token = span_take_until(&tokens, '\n');

		token.n -= token.n && token.p[token.n - 1] == '\r';
		matches |= token.n && text.n == token.n && memeql_sec(text.p, token.p, token.n);
	}
	return matches;
}

const char *http_guard_origin(const struct http_guard *g, struct MHD_Connection *mhd)
{
	const struct opt_list *list = g->config->allow_origins;
	const char *origin = list->count ? header_of(mhd, "Origin") : NULL;

	for (size_t i = 0; origin && i < list->count; i++)
		if (strcmp(origin, list->items[i]) == 0)
			return origin;
	return NULL;
}

static enum MHD_Result count_length(
	void *context, enum MHD_ValueKind kind, const char *name, const char *value)
{
	size_t *count = context;
	size_t n = strcspn(name,
		" \t"); /* implementations differ on whether "Content-Length : 8" is a header */

	(void)kind;
	(void)value;
	if ((n == strlen("Content-Length") && strncasecmp(name, "Content-Length", n) == 0) ||
		(n == strlen("Transfer-Encoding") &&
			strncasecmp(name, "Transfer-Encoding", n) == 0))
		*count += name[n] ? 2 : 1;
	return MHD_YES;
}

/* Whether it is clear where the request ends (RFC 9112 6.3). Where it is not, a proxy in front may
 * see another end than libmicrohttpd does, and take the rest for another user's request. */
static bool length_clear(struct MHD_Connection *mhd)
{
	const char *coding = header_of(mhd, "Transfer-Encoding");
	size_t count = 0;

	MHD_get_connection_values(mhd, MHD_HEADER_KIND, count_length, &count);
	return count <= 1 && (!coding || strcasecmp(coding, "chunked") == 0);
}

struct header_sum {
	size_t bytes, hosts;
};

static enum MHD_Result sum_header(
	void *context, enum MHD_ValueKind kind, const char *name, const char *value)
{
	struct header_sum *sum = context;

	(void)kind;
	/* ": " and the line's end */
	sum->bytes += strlen(name) + (value ? strlen(value) : 0) + 4;
	sum->hosts += strcasecmp(name, "Host") == 0;
	return MHD_YES;
}

static bool address_is(int fd, struct span name)
{
	struct sockaddr_storage address = {0};
	socklen_t n = sizeof(address);
	char text[INET6_ADDRSTRLEN] = "";

	if (getsockname(fd, (struct sockaddr *)&address, &n) < 0)
		return false;
	if (address.ss_family == AF_INET)
		inet_ntop(AF_INET, &((struct sockaddr_in *)(void *)&address)->sin_addr, text,
			sizeof(text));
	else if (address.ss_family == AF_INET6)
		inet_ntop(AF_INET6, &((struct sockaddr_in6 *)(void *)&address)->sin6_addr, text,
			sizeof(text));
	return *text && span_is(name, text);
}

static bool same_name(struct span name, const char *own)
{
	size_t n = own ? strlen(own) : 0;

	return n && n == name.n && strncasecmp(name.p, own, n) == 0;
}

/* Whether the name is one of this machine's. */
static bool host_is_own(struct http_guard *g, int fd, struct span authority)
{
	struct span name = http_host_name(authority);

	if (!name.p)
		return false;
	for (size_t i = 0; i < g->config->allow_hosts->count; i++)
		if (same_name(name, g->config->allow_hosts->items[i]))
			return true;
	return dial_names_loopback(name) || address_is(fd, name) || same_name(name, g->name) ||
	       same_name(name, full_name(g));
}

static bool is_unix(int fd)
{
	struct sockaddr_storage address = {0};
	socklen_t n = sizeof(address);

	return getsockname(fd, (struct sockaddr *)&address, &n) == 0 &&
	       address.ss_family == AF_UNIX;
}

bool http_guard_web_page(
	struct http_guard *g, struct MHD_Connection *mhd, int fd, struct span authority)
{
	const char *referer = header_of(mhd, "Referer"), *site = header_of(mhd, "Sec-Fetch-Site");
	struct span host = authority.n ? authority : span_of(header_of(mhd, "Host"));

	if (header_of(mhd, "Origin"))
		return true;
	if (referer && !(host.p && span_equal(http_url_authority(span_of(referer)), host)))
		return true;
	if (site && strcmp(site, "none") != 0 && strcmp(site, "same-origin") != 0)
		return true;
	return host.p && !is_unix(fd) && !host_is_own(g, fd, host);
}

enum http_fault http_guard_fault(const struct http_guard *g, struct MHD_Connection *mhd,
	size_t line_bytes, const char *version)
{
	struct header_sum sum = {.bytes = line_bytes};

	MHD_get_connection_values(mhd, MHD_HEADER_KIND, sum_header, &sum);
	if (sum.bytes > g->config->max_header_bytes)
		return HTTP_HEADER_TOO_LARGE;
	if (!length_clear(mhd))
		return HTTP_LENGTH_UNCLEAR;
	if (sum.hosts > 1 || (!sum.hosts && strcmp(version, MHD_HTTP_VERSION_1_1) == 0))
		return HTTP_HOST_UNCLEAR;
	return HTTP_SOUND;
}
