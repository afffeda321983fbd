/* roster/http-request.h - what the texts in a request's header mean: targets, hosts, origins (RFC
 * 9110,
 * 9112)
 *
 * Pure: texts in, decisions out.
 */
#ifndef OUTBOARD_ROSTER_HTTP_REQUEST_H
#define OUTBOARD_ROSTER_HTTP_REQUEST_H

#include "base/buf.h"
#include "base/span.h"

enum http_resource {
	HTTP_NOTHING,  /* no resource has this target */
	HTTP_ALL,      /* /roster_admin/refresh */
	HTTP_ONE,      /* /roster_admin/refresh/USER */
	HTTP_HEALTH,   /* /health */
	HTTP_BAD_NAME, /* /roster_admin/refresh/USER, of which the percent-encoding is malformed */
};

/* The resource of a target, in origin form ("/path") or absolute form ("http://host/path"), with or
 * without a query. authority: what an absolute form says instead of the Host header; user: decoded,
 * any bytes. Both are appended to. */
enum http_resource http_target(struct span target, struct buf *authority, struct buf *user);

/* The name in "name", "name:port", "[::1]:port", without brackets, or absent if it is malformed. */
struct span http_host_name(struct span authority);
/* Whether scheme://host[:port] is an origin as browsers write it. */
bool http_origin_valid(struct span origin);
/* The "host:port" of a URL; absent if it is none. */
struct span http_url_authority(struct span url);
/* A header line as it is sent (RFC 9110 5.1, 5.5): a token, a colon, a value without control
 * characters; no line's end. */
bool http_header_valid(struct span line);

#endif
