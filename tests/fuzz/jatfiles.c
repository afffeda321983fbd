/* Fuzz target: the files of xmpp-jat-proxy. Keys are one of 62 at most, and what is formatted
 * parses again; subscribers that were restored and formatted are the same the next time; marks that
 * were cut off are none. */
#include "jat/audience.h"
#include "jat/jat.h"
#include "jat/marks.h"

#include <stdint.h>

#include "require.h"
#include "xmpp/jid.h"

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t n);

static void format_again(struct span file, struct buf *out)
{
	struct shares *shares = shares_new(&(struct shares_config){0});
	struct audience *a = audience_new(&(struct audience_config){
		.max = 64, .max_bytes = 1 << 20, .seed = {1, 2}, .shares = shares});

	audience_restore(a, file, false);
	audience_format(a, out);
	REQUIRE(audience_count(a) <= 64);
	audience_free(a);
	shares_free(shares);
}

static void subscribers(struct span file)
{
	struct buf one, two;

	buf_init(&one, BUF_NO_MAX);
	buf_init(&two, BUF_NO_MAX);
	format_again(file, &one);
	format_again(buf_span(&one), &two);
	REQUIRE(span_equal(buf_span(&one), buf_span(&two)));
	buf_free(&one);
	buf_free(&two);
}

static void marks(struct span file)
{
	struct marks *m = marks_new(&(struct marks_config){
		.grace = true, .timeout_ms = 1000, .max = 16, .seed = {1, 2}});

	marks_restore(m, file);
	marks_up(m, 1);
	/* a mark that was taken is not taken again */
	if (marks_take(m, SPAN("a@h/r"), file, 2))
		REQUIRE(!marks_take(m, SPAN("a@h/r"), file, 3));
	REQUIRE(!marks_take(m, SPAN("a@h/r"), SPAN("other"), 1001));
	marks_free(m);
}

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t n)
{
	struct span file = {(const char *)bytes, n};
	size_t line;
	struct jat_keys *keys = jat_keys_parse(file, &line);

	if (keys)
		REQUIRE(jat_keys_count(keys) >= 1 && jat_keys_count(keys) <= JAT_MAX_KEYS);
	jat_keys_free(keys);
	subscribers(file);
	marks(file);
	return 0;
}
