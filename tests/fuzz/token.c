/* Tokens. The first byte says what the rest is: a token to decode in each encoding, a key file, or
 * (address asked, newline, JID) to encode and decode. */
#include <stdint.h>

#include "jat/jat.h"
#include "xmpp/jid.h"
#include "require.h"

#define DOMAIN "proxy.test"

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t n);

static struct jat_keys *keys(void)
{
	static struct jat_keys *all;
	size_t line;

	/* made once for all inputs; two keys, so that both rows of the table are used */
	if (!all)
		all = jat_keys_parse(SPAN("a 00010203040506070809000102030405"
					  "06070809000102030405060708090001\n"
					  "b 10010203040506070809000102030405"
					  "06070809000102030405060708090001\n"),
			&line);
	return all;
}

/* Whatever decodes is valid, and encodes to the same token again if it was made by the first key.
 */
static void decode(struct jat *jat, struct span token)
{
	struct span jid, asked;
	struct jid parts;
	struct buf out, again;

	buf_init(&out, BUF_NO_MAX);
	buf_init(&again, BUF_NO_MAX);
	if (jat_decode(jat, token, &out, &jid, &asked) == JAT_OK) {
		REQUIRE(jid_split(jid, &parts) && jid_split(asked, &parts));
		REQUIRE(buf_length(&out) == jid.n + asked.n);
		if (jat->encoding == JAT_PLAIN || token.p[0] == 'a') {
			enum jat_status status = jat_encode(jat, asked, jid, &again);

			REQUIRE(status == JAT_OK ? span_equal(buf_span(&again), token)
						 : !jid_resource_survives(token));
		}
	} else {
		REQUIRE(buf_length(&out) == 0);
	}
	buf_free(&out);
	buf_free(&again);
}

static void encode(struct jat *jat, struct span asked, struct span jid)
{
	struct span out_jid, out_asked;
	struct buf token, out;

	buf_init(&token, BUF_NO_MAX);
	buf_init(&out, BUF_NO_MAX);
	if (jat_encode(jat, asked, jid, &token) == JAT_OK) {
		REQUIRE(jid_resource_survives(buf_span(&token)));
		REQUIRE(jat_decode(jat, buf_span(&token), &out, &out_jid, &out_asked) == JAT_OK);
		REQUIRE(span_equal(out_jid, jid));
		if (jat->encoding != JAT_PLAIN) {
			REQUIRE(jat_form(buf_span(&token)) == jat->encoding);
			REQUIRE(asked.n ? span_equal(out_asked, asked)
					: span_is(out_asked, DOMAIN));
		}
	} else {
		REQUIRE(buf_length(&token) == 0);
	}
	buf_free(&token);
	buf_free(&out);
}

static void encode_input(struct jat *jat, struct span rest)
{
	const char *newline = rest.n ? memchr(rest.p, '\n', rest.n) : NULL;
	struct span asked = SPAN(""), jid = rest;
	struct jid parts;

	if (newline) {
		asked.p = rest.p;
		asked.n = (size_t)(newline - rest.p);
		jid = span_from(rest, asked.n + 1);
	}
	if (!jid_split(jid, &parts) ||
		(asked.n && (!jid_split(asked, &parts) || !span_is(parts.domain, DOMAIN))))
		return;
	encode(jat, asked, jid);
}

static void parse_keys(struct span rest)
{
	struct jat jat = {JAT_SEALED, SPAN(DOMAIN), NULL};
	size_t line;

	jat.keys = jat_keys_parse(rest, &line);
	if (jat.keys) {
		REQUIRE(line == 0 && jat_keys_count(jat.keys) >= 1 &&
			jat_keys_count(jat.keys) <= JAT_MAX_KEYS);
		encode(&jat, SPAN("x@" DOMAIN), SPAN("a@b/c"));
	}
	jat_keys_free(jat.keys);
}

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t n)
{
	struct jat jat = {JAT_SEALED, SPAN(DOMAIN), keys()};
	struct span rest;

	if (n == 0)
		return 0;
	rest = span_from((struct span){(const char *)bytes, n}, 1);
	for (int e = JAT_SEALED; e <= JAT_PLAIN; e++) {
		jat.encoding = (enum jat_encoding)e;
		if (bytes[0] == 'd')
			decode(&jat, rest);
		else if (bytes[0] == 'e')
			encode_input(&jat, rest);
	}
	if (bytes[0] == 'k')
		parse_keys(rest);
	return 0;
}
