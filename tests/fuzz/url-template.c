/* Fuzz target: URL templates. Host and number of path segments stay the same whatever the name is.
 * Input: template LF name. */
#include "base/url-template.h"

#include <curl/curl.h>
#include <stdint.h>

#include "require.h"

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t n);

static size_t count(const char *text, char c)
{
	size_t n = 0;

	for (; text && *text; text++)
		n += *text == c;
	return n;
}

/* A part of a URL, freed by curl_free(); NULL if the URL lacks it. */
static char *part(CURLU *url, CURLUPart which)
{
	char *text = NULL;

	curl_url_get(url, which, &text, CURLU_DEFAULT_PORT);
	return text;
}

static void compare(const char *one, const char *other)
{
	static const CURLUPart same[] = {CURLUPART_SCHEME, CURLUPART_HOST, CURLUPART_PORT};
	CURLU *a = curl_url(), *b = curl_url();

	REQUIRE(a && b);
	/* curl refuses a template with every name or with none */
	if (curl_url_set(a, CURLUPART_URL, one, CURLU_PATH_AS_IS) == CURLUE_OK) {
		char *x, *y;

		REQUIRE(curl_url_set(b, CURLUPART_URL, other, CURLU_PATH_AS_IS) == CURLUE_OK);
		for (int i = 0; i < 3; i++) {
			x = part(a, same[i]);
			y = part(b, same[i]);
			REQUIRE(x && y && strcmp(x, y) == 0);
			curl_free(x);
			curl_free(y);
		}
		x = part(a, CURLUPART_PATH);
		y = part(b, CURLUPART_PATH);
		REQUIRE(count(x, '/') == count(y, '/'));
		REQUIRE(!part(b, CURLUPART_FRAGMENT) && !part(b, CURLUPART_USER));
		curl_free(x);
		curl_free(y);
		x = part(a, CURLUPART_QUERY);
		y = part(b, CURLUPART_QUERY);
		REQUIRE(!x == !y && count(x, '&') == count(y, '&') &&
			count(x, '=') == count(y, '='));
		curl_free(x);
		curl_free(y);
	}
	curl_url_cleanup(a);
	curl_url_cleanup(b);
}

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t n)
{
	char *text = malloc(n + 1);
	struct span user = SPAN("");
	struct buf url, plain;
	char *newline;

	REQUIRE(text != NULL);
	if (n)
		memcpy(text, bytes, n);
	text[n] = '\0';
	newline = memchr(text, '\n', n);
	if (newline) {
		*newline = '\0';
		user = (struct span){newline + 1, n - (size_t)(newline + 1 - text)};
	}
	buf_init(&url, BUF_NO_MAX);
	buf_init(&plain, BUF_NO_MAX);
	if (!url_template_check(text)) {
		REQUIRE(url_template_expand(text, SPAN("x"), &plain));
		if (url_template_expand(text, user, &url)) {
			REQUIRE(strlen(buf_string(&url)) == buf_length(&url));
			compare(buf_string(&plain), buf_string(&url));
		} else {
			REQUIRE(buf_length(&url) == 0);
		}
	}
	buf_free(&url);
	buf_free(&plain);
	free(text);
	return 0;
}
