/* Fuzz target: request targets, Host values, origins, lines of header files. */
#include "loop/dial.h"
#include "roster/http-request.h"

#include <stdint.h>

#include "base/url-template.h"
#include "require.h"

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t n);

/* A name that was encoded into a path decodes to itself, whatever its bytes. */
static void target(struct span text)
{
	struct buf authority, user, again, url;

	buf_init(&authority, BUF_NO_MAX);
	buf_init(&user, BUF_NO_MAX);
	buf_init(&again, BUF_NO_MAX);
	buf_init(&url, BUF_NO_MAX);
	if (http_target(text, &authority, &user) == HTTP_ONE) {
		buf_append_string(&url, "/roster_admin/refresh/");
		url_encode(buf_span(&user), &url);
		buf_reset(&authority);
		REQUIRE(http_target(buf_span(&url), &authority, &again) == HTTP_ONE);
		REQUIRE(span_equal(buf_span(&user), buf_span(&again)));
		REQUIRE(buf_length(&authority) == 0);
	}
	REQUIRE(!buf_length(&authority) ||
		!memchr(buf_span(&authority).p, '/', buf_length(&authority)));
	buf_free(&authority);
	buf_free(&user);
	buf_free(&again);
	buf_free(&url);
}

static void host(struct span text)
{
	struct span name = http_host_name(text), authority = http_url_authority(text);

	if (name.p) {
		REQUIRE(name.n > 0 && name.p >= text.p && name.p + name.n <= text.p + text.n);
		dial_names_loopback(name);
	}
	REQUIRE(!authority.p || !memchr(authority.p, '/', authority.n));
	REQUIRE(!http_origin_valid(text) || http_host_name(authority).p);
}

/* An accepted line is one header: no byte of it ends the line. */
static void header(struct span line)
{
	const char *colon = memchr(line.p, ':', line.n);

	if (!http_header_valid(line))
		return;
	REQUIRE(colon && colon > line.p && colon + 1 < line.p + line.n);
	for (size_t i = 0; i < line.n; i++) {
		unsigned char c = (unsigned char)line.p[i];

		REQUIRE(c >= ' ' || c == '\t');
		REQUIRE(line.p + i >= colon || (c > ' ' && c < 0x7f));
	}
}

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t n)
{
	struct span text = {(const char *)bytes, n};

	target(text);
	host(text);
	header(text);
	return 0;
}
