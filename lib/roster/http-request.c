#include "roster/http-request.h"

#include <ctype.h>
#include <strings.h>

static int hex_digit(char c)
{
	return c >= '0' && c <= '9'   ? c - '0'
	       : c >= 'a' && c <= 'f' ? c - 'a' + 10
	       : c >= 'A' && c <= 'F' ? c - 'A' + 10
				      : -1;
}

static bool percent_decode(struct span text, struct buf *out)
{
	for (size_t i = 0; i < text.n; i++) {
		int high, low;

		if (text.p[i] != '%') {
			buf_append_char(out, text.p[i]);
			continue;
		}
		if (text.n - i < 3)
			return false;
		high = hex_digit(text.p[i + 1]);
		low = hex_digit(text.p[i + 2]);
		if (high < 0 || low < 0)
			return false;
		buf_append_char(out, (char)(high * 16 + low));
		i += 2;
	}
	return true;
}

/* The text before the first of these characters; *rest is what follows, with it. */
static struct span cut(struct span text, const char *at, struct span *rest)
{
	size_t n = 0;

	while (n < text.n && !(text.p[n] && strchr(at, text.p[n])))
		n++;
	*rest = span_from(text, n);
	return (struct span){text.p, n};
}

/* Take "http://" or "https://" off the front of *text. */
static bool take_scheme(struct span *text)
{
	static const struct span schemes[] = {{"http://", 7}, {"https://", 8}};

	for (int i = 0; i < 2; i++) {
		if (text->n >= schemes[i].n &&
			strncasecmp(text->p, schemes[i].p, schemes[i].n) == 0) {
			*text = span_from(*text, schemes[i].n);
			return true;
		}
	}
	return false;
}

static bool segment_is(struct span raw, const char *name)
{
	struct buf decoded;
	bool same;

	buf_init(&decoded, BUF_NO_MAX);
	same = percent_decode(raw, &decoded) && span_is(buf_span(&decoded), name);
	buf_free(&decoded);
	return same;
}

enum http_resource http_target(struct span target, struct buf *authority, struct buf *user)
{
	struct span segments[3], query;
	size_t count = 0;

	if (take_scheme(&target))
		buf_append_span(authority, cut(target, "/?", &target));
	target = cut(target, "?#", &query);
	while (target.n && *target.p == '/') {
		struct span segment = cut(span_from(target, 1), "/", &target);

		if (count == 3)
			return HTTP_NOTHING;
		segments[count++] = segment;
	}
	if (target.n)
		return HTTP_NOTHING;
	if (count == 1)
		return segment_is(segments[0], "health") ? HTTP_HEALTH : HTTP_NOTHING;
	if (count < 2 || !segment_is(segments[0], "roster_admin") ||
		!segment_is(segments[1], "refresh"))
		return HTTP_NOTHING;
	if (count == 2)
		return HTTP_ALL;
	if (!segments[2].n)
		return HTTP_NOTHING;
	return percent_decode(segments[2], user) ? HTTP_ONE : HTTP_BAD_NAME;
}

static bool all_digits(struct span text)
{
	for (size_t i = 0; i < text.n; i++)
		if (!isdigit((unsigned char)text.p[i]))
			return false;
	return text.n <= 5;
}

struct span http_host_name(struct span authority)
{
	struct span name = authority, port = SPAN("");

	if (name.n && *name.p == '[') {
		const char *end = memchr(name.p, ']', name.n);

		if (!end)
			return SPAN_NONE;
		port = span_from(name, (size_t)(end - name.p) + 1);
		name = (struct span){name.p + 1, (size_t)(end - name.p) - 1};
	} else {
		name = cut(name, ":", &port);
	}
	if (port.n && (*port.p != ':' || !all_digits(span_from(port, 1))))
		return SPAN_NONE;
	if (name.n > 0 && name.p[name.n - 1] == '.')
		name.n--;
	for (size_t i = 0; i < name.n; i++)
		if ((unsigned char)name.p[i] <= ' ' || strchr("/@?#\"<>\\", name.p[i]))
			return SPAN_NONE;
	return name.n ? name : SPAN_NONE;
}

struct span http_url_authority(struct span url)
{
	struct span rest;

	return take_scheme(&url) ? cut(url, "/?#", &rest) : SPAN_NONE;
}

bool http_origin_valid(struct span origin)
{
	struct span authority = http_url_authority(origin);

	return authority.p && authority.p + authority.n == origin.p + origin.n &&
	       http_host_name(authority).p;
}

bool http_header_valid(struct span line)
{
	const char *colon = memchr(line.p, ':', line.n);
	size_t name = colon ? (size_t)(colon - line.p) : 0;
	bool value = false;

	for (size_t i = 0; i < line.n; i++) {
		unsigned char c = (unsigned char)line.p[i];

		if ((c < 0x20 && c != '\t') || c == 0x7f)
			return false;
		if (i < name && (c <= ' ' || c > '~' || strchr("\"(),/:;<=>?@[\\]{}", c)))
			return false;
		value |= i > name && c != ' ' && c != '\t';
	}
	return name > 0 && value;
}
