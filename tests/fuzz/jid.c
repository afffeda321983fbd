/* Fuzz target: addresses. The parts of a split address join to it again; a normalised address
 * stays as it is; an address that survives resourceprep is unchanged by it. */
#include <stdint.h>

#include "base/utf8.h"
#include "xmpp/jid.h"
#include "require.h"
#include "xmpp/xml.h"

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t n);

static size_t part_length(struct span part)
{
	return part.p ? part.n + 1 : 0;
}

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t n)
{
	struct span text = {(const char *)bytes, n};
	struct buf once, twice;
	struct jid jid;

	buf_init(&once, BUF_NO_MAX);
	buf_init(&twice, BUF_NO_MAX);
	if (jid_split(text, &jid)) {
		REQUIRE(part_length(jid.local) + jid.domain.n + part_length(jid.resource) == n);
		REQUIRE(span_equal(jid.domain, jid_domain(text)));
		REQUIRE(span_equal(jid.resource, jid_resource(text)));
		REQUIRE(jid_at_domain(text, jid.domain));
		REQUIRE(utf8_xml_valid(text) && !memchr(text.p, '\0', n));
	}
	if (jid_normalise(text, &once)) {
		REQUIRE(jid_split(buf_span(&once), &jid));
		REQUIRE(jid_normalise(buf_span(&once), &twice));
		REQUIRE(span_equal(buf_span(&once), buf_span(&twice)));
	} else {
		REQUIRE(buf_length(&once) == 0);
	}
	if (jid_resource_survives(text)) {
		buf_reset(&once);
		buf_reset(&twice);
		buf_append_string(&once, "h/");
		buf_append_span(&once, text);
		REQUIRE(jid_normalise(buf_span(&once), &twice));
		REQUIRE(span_equal(buf_span(&once), buf_span(&twice)));
	}
	buf_free(&once);
	buf_free(&twice);
	return 0;
}
