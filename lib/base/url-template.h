/* base/url-template.h - the URL of a user's roster, from a template and the user's name
 *
 * "http://app.example/contacts/%s": every %s becomes the percent-encoded name, %% is one %.
 * Invariants: whatever the name, the URL differs from the template only in the path segments and
 * query values that hold a %s, and has as many of them: everything but RFC 3986 unreserved
 * characters is encoded, and the names "." and ".." are refused: they are unreserved, but name
 * another segment. Pure.
 */
#ifndef OUTBOARD_BASE_URL_TEMPLATE_H
#define OUTBOARD_BASE_URL_TEMPLATE_H

#include "base/buf.h"
#include "base/span.h"

/* NULL, or what is wrong with it (static): it must be a http or https URL with a host, without
 * user:password@ (it would show in the list of processes), fragment, spaces or bytes beyond ASCII;
 * at least one %s, all of them in path or query; no other % but %%. */
const char *url_template_check(const char *url);

/* Append the URL of a user. False, out unchanged, if the name is "", "." or "..". The template has
 * passed url_template_check(). */
bool url_template_expand(const char *url, struct span user, struct buf *out);

/* Append all but RFC 3986 2.3 unreserved characters percent-encoded. */
void url_encode(struct span text, struct buf *out);

#endif
