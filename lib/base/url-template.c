#include "base/url-template.h"

#include <strings.h>

void url_encode(struct span text, struct buf *out)
{
	static const char hex[] = "0123456789ABCDEF";

	for (size_t i = 0; i < text.n; i++) {
		unsigned char c = (unsigned char)text.p[i];

		if ((c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') ||
			c == '-' || c == '.' || c == '_' || c == '~')
			buf_append_char(out, (char)c);
		else
			buf_append(out, (char[]){'%', hex[c >> 4], hex[c & 15]}, 3);
	}
}

/* Where host and port begin, NULL if it is another scheme. */
static const char *authority_of(const char *url)
{
	if (strncasecmp(url, "http://", 7) == 0)
		return url + 7;
	if (strncasecmp(url, "https://", 8) == 0)
		return url + 8;
	return NULL;
}

const char *url_template_check(const char *url)
{
	const char *authority = authority_of(url);
	const char *path = authority ? authority + strcspn(authority, "/?#") : NULL;
	bool named = false;

	for (const char *p = url; *p; p++)
		if (*p <= ' ' || *p > '~' || strchr("\"<>\\^`{|}", *p))
			return "it has characters that must be percent-encoded (as %%20)";
	if (!authority)
		return "it does not begin with http:// or https://";
	if (path == authority || *authority == ':')
		return "it has no host";
	for (const char *p = authority; p < path; p++) {
		if (*p == '@')
			return "it has a user or password, which everybody can see: use a token";
		if (*p == '%')
			return "%s may stand in path and query only";
	}
	for (const char *p = path; *p; p++) {
		if (*p == '#')
			return "it has a fragment, which is never sent";
		if (*p != '%')
			continue;
		if (*++p == 's')
			named = true;
		else if (*p != '%')
			return "% must be followed by s or %";
	}
	return named ? NULL : "it has no %s";
}

bool url_template_expand(const char *url, struct span user, struct buf *out)
{
	if (user.n == 0 || span_is(user, ".") || span_is(user, ".."))
		return false;
	for (const char *p = url; *p; p++) {
		if (*p != '%')
			buf_append_char(out, *p);
		else if (*++p == 's')
			url_encode(user, out);
		else
			buf_append_char(out, '%');
	}
	return true;
}
