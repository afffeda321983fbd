/* roster/http-guard.h - which requests are let in, by their header: length, token, web pages
 *
 * A browser reaches loopback for every web page, under every name that leads there. So without a
 * token no request is let in that could come from a web page, and the Host must be one of this
 * machine's own: localhost, a loopback address, the address that was reached, the machine's name
 * with and without its domain, or one of allow_hosts.
 */
#ifndef OUTBOARD_ROSTER_HTTP_GUARD_H
#define OUTBOARD_ROSTER_HTTP_GUARD_H

#include <microhttpd.h>

#include "roster/http.h"

struct http_guard;

/* *config is borrowed. The machine's name is looked up in the background; starting waits for it for
 * a second at most. Until it is found, the name with its domain is not known as our own. */
struct http_guard *http_guard_new(const struct http_config *config);
void http_guard_free(struct http_guard *g);

/* What is malformed about the header; line_bytes: of the request's target. */
enum http_fault {
	HTTP_SOUND,
	HTTP_HEADER_TOO_LARGE,
	HTTP_LENGTH_UNCLEAR,
	HTTP_HOST_UNCLEAR,
};
enum http_fault http_guard_fault(const struct http_guard *g, struct MHD_Connection *mhd,
	size_t line_bytes, const char *version);
/* Whether the request bears one of the tokens. All of them are compared, in constant time. */
bool http_guard_token(const struct http_guard *g, struct MHD_Connection *mhd);
/* The web page that sent the request, if allow_origins has it; else NULL. */
const char *http_guard_origin(const struct http_guard *g, struct MHD_Connection *mhd);
/* Whether a browser may have sent the request for a page of another site. fd: the connection's;
 * authority: of an absolute-form target, else empty. */
bool http_guard_web_page(
	struct http_guard *g, struct MHD_Connection *mhd, int fd, struct span authority);

#endif
