/* Stanzas as JSON. An input that begins with '<' is stanzas (round trip, infosets), any other is a
 * line of JSON: refused, or a stanza that is the same from then on. */
#include "require.h"

#define ROUND_TRIP_CHECK(what) REQUIRE(what)
#include "../unit/round-trip.h"

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t n);

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t n)
{
	struct span input = {(const char *)bytes, n};
	struct buf xml, again, xml2, again2;
	struct reader *r;
	struct stanza s;

	if (span_starts(input, SPAN("<"))) {
		r = round_trip_reader(input, &s);
		if (r)
			round_trip(&s, "");
		reader_free(r);
		return 0;
	}
	buf_init(&xml, BUF_NO_MAX);
	buf_init(&again, BUF_NO_MAX);
	buf_init(&xml2, BUF_NO_MAX);
	buf_init(&again2, BUF_NO_MAX);
	if (!round_trip_line(input, &xml, &again)) {
		REQUIRE(!round_trip_line(buf_span(&again), &xml2, &again2));
		REQUIRE(span_equal(buf_span(&again), buf_span(&again2)));
	}
	buf_free(&xml);
	buf_free(&again);
	buf_free(&xml2);
	buf_free(&again2);
	return 0;
}
