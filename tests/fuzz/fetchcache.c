/* Fuzz target: a file of roster-fetch's cache, which a crash or another program may have changed.
 */
#include "roster/fetchcache.h"
#include "require.h"

#define URL "http://a/b"

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t n);

static bool header_value(struct span v)
{
	for (size_t i = 0; i < v.n; i++)
		if ((unsigned char)v.p[i] < 0x20)
			return false;
	return v.n <= FETCHCACHE_VALIDATOR_MAX_BYTES;
}

/* An accepted file has a validator that fits into a header, and a body up to the file's end.
 */
int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t n)
{
	struct fetchcache_entry e;

	fetchcache_entry_init(&e);
	buf_append(&e.all, bytes, n);
	if (fetchcache_parse(&e, SPAN(URL))) {
		const struct span all = buf_span(&e.all);

		REQUIRE(e.etag.p || e.modified.p);
		REQUIRE(header_value(e.etag) && header_value(e.modified));
		REQUIRE(e.body.n < all.n && e.body.p + e.body.n == all.p + all.n);
	}
	fetchcache_entry_free(&e);
	return 0;
}
