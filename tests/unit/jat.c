/* lib/jat/jat.c: tokens against vectors of another implementation, and the properties of all three
 * encodings */
#include "jat/jat.h"

#include "check.h"
#include "xmpp/jid.h"

#define DOMAIN "proxy.example.org"
#define KEY_A "000102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f"
#define KEY_B "f0f1f2f3f4f5f6f7f8f9fafbfcfdfeff00112233445566778899AABBCCDDEEFF"

static const enum jat_encoding encodings[] = {JAT_SEALED, JAT_SIGNED, JAT_PLAIN};

static struct jat_keys *keys_of(const char *text)
{
	size_t line;
	struct jat_keys *keys = jat_keys_parse(span_of(text), &line);

	if (!keys) {
		fprintf(stderr, "keys_of: line %zu of %s\n", line, text);
		abort();
	}
	return keys;
}

/* Encode into a static buffer; "does not fit" if it is too long. */
static const char *encode(const struct jat *jat, const char *asked, struct span jid)
{
	static char out[2048];
	struct buf b;

	buf_init(&b, BUF_NO_MAX);
	snprintf(out, sizeof(out), "%s",
		jat_encode(jat, asked ? span_of(asked) : SPAN_NONE, jid, &b) == JAT_OK
			? buf_string(&b)
			: "does not fit");
	buf_free(&b);
	return out;
}

/* "JID asked", or "invalid" */
static const char *decode(const struct jat *jat, struct span token)
{
	static char out[8192];
	struct span jid, asked;
	struct buf b;

	buf_init(&b, BUF_NO_MAX);
	buf_append_string(&b, "before");
	if (jat_decode(jat, token, &b, &jid, &asked) == JAT_OK) {
		snprintf(out, sizeof(out), "%.*s %.*s", SPAN_ARG(jid), SPAN_ARG(asked));
	} else {
		snprintf(out, sizeof(out), "invalid");
		CHECK_EQ_STR(buf_string(&b), "before");
	}
	buf_free(&b);
	return out;
}

/* Made with AESSIV, hmac and base64 of Python (cryptography 38, OpenSSL 3). */
static const struct {
	char id;
	const char *domain, *asked, *jid, *sealed, *signature;
} vectors[] = {
	{'a', DOMAIN, "", "alice@example.org/a1",
		"aZKZDMhY2k62YoUjDhMyuQOvCDGxM7w8KQlVP8t4kozOdnAsUZnE",
		"alSm3qQGFY35oedJmNLTlDg.alice@example.org/a1"},
	{'a', DOMAIN, "x@" DOMAIN, "alice@example.org/a1",
		"anv8u7gBgiqDGmaLy1mymHyky_neC1topha81AbFCy0v7X8P8R6JGVkVHnOHaZiqtAbHMffboeLpH",
		"aSdLe5SnhX8xCDxlAu9IJUw.:19:x@proxy.example.orgalice@example.org/a1"},
	{'Z', "p", "", "h", "ZYCXmLCBBWXkVkcrgIGom3JLxZA", "Z8oK5vwzI4vdLSha8pb7olw.h"},
	{'7', DOMAIN, DOMAIN "/a b", "romeo@example.org/\U0001f600 \u05d0b",
		"7MtH2WhAK9_ir_lmZ0vlzLk52RbT1MS5i9Y1YRHev-1tvKeC9mF5s-PrZs9ZfyzVtHHYpc51zMBU3Sj25"
		"HlxWcT8",
		NULL},
};

static void known_tokens(void)
{
	for (size_t i = 0; i < sizeof(vectors) / sizeof(*vectors); i++) {
		char file[80], expected[256];
		struct jat jat = {JAT_SEALED, span_of(vectors[i].domain), NULL};

		snprintf(file, sizeof(file), "%c " KEY_A "\n", vectors[i].id);
		jat.keys = keys_of(file);
		snprintf(expected, sizeof(expected), "%s %s", vectors[i].jid,
			*vectors[i].asked ? vectors[i].asked : vectors[i].domain);
		CHECK_EQ_STR(
			encode(&jat, vectors[i].asked, span_of(vectors[i].jid)), vectors[i].sealed);
		CHECK_EQ_STR(decode(&jat, span_of(vectors[i].sealed)), expected);
		CHECK_EQ_INT(jat_form(span_of(vectors[i].sealed)), JAT_SEALED);
		jat.encoding = JAT_SIGNED;
		CHECK_EQ_STR(encode(&jat, vectors[i].asked, span_of(vectors[i].jid)),
			vectors[i].signature ? vectors[i].signature : "does not fit");
		if (vectors[i].signature) {
			CHECK_EQ_STR(decode(&jat, span_of(vectors[i].signature)), expected);
			CHECK_EQ_INT(jat_form(span_of(vectors[i].signature)), JAT_SIGNED);
		}
		jat_keys_free(jat.keys);
	}
}

/* "line N" or the number of keys */
static const char *parsed(const char *file)
{
	static char out[64];
	size_t line = 99;
	struct jat_keys *keys = jat_keys_parse(span_of(file), &line);

	if (keys) {
		snprintf(out, sizeof(out), "%zu keys", jat_keys_count(keys));
		if (line)
			snprintf(out, sizeof(out), "keys and line %zu", line);
	} else {
		snprintf(out, sizeof(out), "line %zu", line);
	}
	jat_keys_free(keys);
	return out;
}

static void key_files(void)
{
	CHECK_EQ_STR(parsed("a " KEY_A "\n"), "1 keys");
	CHECK_EQ_STR(parsed("a " KEY_A), "1 keys");
	CHECK_EQ_STR(parsed("# new\na " KEY_A "\n\n#old\nB " KEY_B " \r\n"), "2 keys");
	CHECK_EQ_STR(parsed("a " KEY_A "\nb " KEY_A "\n"), "2 keys");
	CHECK_EQ_STR(parsed(""), "line 0");
	CHECK_EQ_STR(parsed("\n# nothing\n"), "line 0");
	CHECK_EQ_STR(parsed("a " KEY_A "\na " KEY_B "\n"), "line 2");
	CHECK_EQ_STR(parsed(KEY_A "\n"), "line 1");
	CHECK_EQ_STR(parsed("a " KEY_A "0\n"), "line 1");
	CHECK_EQ_STR(parsed("#\n\na  " KEY_A "\n"), "line 3");
	CHECK_EQ_STR(parsed(" a " KEY_A "\n"), "line 1");
	CHECK_EQ_STR(parsed("ab " KEY_A "\n"), "line 1");
	CHECK_EQ_STR(parsed("_ " KEY_A "\n"), "line 1");
	CHECK_EQ_STR(parsed("a\t" KEY_A "\n"), "line 1");
	CHECK_EQ_STR(parsed("a " KEY_A "\nb 0001\n"), "line 2");
	CHECK_EQ_STR(parsed("a 0g0102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f\n"),
		"line 1");
	CHECK_EQ_INT(jat_keys_parse((struct span){"\0", 1}, &(size_t){0}) == NULL, 1);
	jat_keys_free(NULL);
}

static void keys_all_ids(void)
{
	static const char ids[] = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";
	struct buf file;

	buf_init(&file, BUF_NO_MAX);
	for (size_t i = 0; i < JAT_MAX_KEYS; i++)
		buf_printf(&file, "%c %064zx\n", ids[i], i);
	CHECK_EQ_STR(parsed(buf_string(&file)), "62 keys");
	buf_free(&file);
}

static void keys_made(void)
{
	unsigned char bytes[JAT_KEY_BYTES];
	struct jat random = {JAT_SEALED, SPAN(DOMAIN), NULL}, file = random;
	struct buf text;

	for (unsigned i = 0; i < sizeof(bytes); i++)
		bytes[i] = (unsigned char)(i * 37);
	buf_init(&text, BUF_NO_MAX);
	jat_keys_format(bytes, &text);
	random.keys = jat_keys_random(bytes);
	file.keys = keys_of(buf_string(&text));
	CHECK_EQ_INT(jat_keys_count(random.keys), 1);
	CHECK_EQ_STR(decode(&file, span_of(encode(&random, NULL, SPAN("a@b/c")))), "a@b/c " DOMAIN);
	CHECK_EQ_INT(encode(&random, NULL, SPAN("a@b"))[0], '0');
	jat_keys_free(random.keys);
	jat_keys_free(file.keys);
	buf_free(&text);
}

/* The first key encodes, all keys decode, and a removed key does not. */
static void rotation(void)
{
	struct jat old = {JAT_SEALED, SPAN(DOMAIN), keys_of("o " KEY_A "\n")};
	struct jat both = {JAT_SEALED, SPAN(DOMAIN), keys_of("n " KEY_B "\no " KEY_A "\n")};
	struct jat new = {JAT_SEALED, SPAN(DOMAIN), keys_of("n " KEY_B "\n")};
	/* other bytes under the same id */
	struct jat changed = {JAT_SEALED, SPAN(DOMAIN), keys_of("o " KEY_B "\n")};

	for (int i = 0; i < 2; i++) {
		char token[2048];

		old.encoding = both.encoding = new.encoding = changed.encoding = encodings[i];
		snprintf(token, sizeof(token), "%s", encode(&old, NULL, SPAN("a@b/c")));
		CHECK_EQ_INT(token[0], 'o');
		CHECK_EQ_STR(decode(&both, span_of(token)), "a@b/c " DOMAIN);
		CHECK_EQ_STR(decode(&new, span_of(token)), "invalid");
		CHECK_EQ_STR(decode(&changed, span_of(token)), "invalid");
		snprintf(token, sizeof(token), "%s", encode(&both, NULL, SPAN("a@b/c")));
		CHECK_EQ_INT(token[0], 'n');
		CHECK_EQ_STR(decode(&new, span_of(token)), "a@b/c " DOMAIN);
		CHECK_EQ_STR(decode(&old, span_of(token)), "invalid");
	}
	jat_keys_free(old.keys);
	jat_keys_free(both.keys);
	jat_keys_free(new.keys);
	jat_keys_free(changed.keys);
}

/* The same key under two ids: the token depends on the id, too. */
static void key_id_covered(void)
{
	struct jat jat = {JAT_SEALED, SPAN(DOMAIN), keys_of("a " KEY_A "\nb " KEY_A "\n")};

	for (int i = 0; i < 2; i++) {
		char token[2048];

		jat.encoding = encodings[i];
		snprintf(token, sizeof(token), "%s", encode(&jat, NULL, SPAN("a@b/c")));
		token[0] = 'b';
		CHECK_EQ_STR(decode(&jat, span_of(token)), "invalid");
	}
	jat_keys_free(jat.keys);
}

static void domain_covered(void)
{
	struct jat_keys *keys = keys_of("a " KEY_A "\n");
	struct jat here = {JAT_SEALED, SPAN("proxy.test"), keys};
	struct jat there = {JAT_SEALED, SPAN("proxy.tes"), keys};

	for (int i = 0; i < 2; i++) {
		here.encoding = there.encoding = encodings[i];
		CHECK_EQ_STR(decode(&there, span_of(encode(&here, NULL, SPAN("a@b")))), "invalid");
		CHECK_EQ_STR(decode(&here, span_of(encode(&there, NULL, SPAN("a@b")))), "invalid");
	}
	jat_keys_free(keys);
}

/* Stable for a user and address asked, and different from any other. */
static void deterministic(void)
{
	struct jat jat = {JAT_SEALED, SPAN(DOMAIN), keys_of("a " KEY_A "\n")};
	char first[2048];

	snprintf(first, sizeof(first), "%s", encode(&jat, NULL, SPAN("a@b/c")));
	CHECK_EQ_STR(encode(&jat, NULL, SPAN("a@b/c")), first);
	CHECK_EQ_STR(encode(&jat, "", SPAN("a@b/c")), first);
	CHECK_EQ_STR(encode(&jat, DOMAIN, SPAN("a@b/c")), first);
	CHECK(strcmp(encode(&jat, "x@" DOMAIN, SPAN("a@b/c")), first) != 0);
	CHECK(strcmp(encode(&jat, NULL, SPAN("a@b/d")), first) != 0);
	jat_keys_free(jat.keys);
}

/* No token decodes with one byte exchanged, whichever, or at another length. */
static void tampering(void)
{
	static const char *const asked[] = {NULL, "x@" DOMAIN};
	struct jat jat = {JAT_SEALED, SPAN(DOMAIN), keys_of("a " KEY_A "\nb " KEY_B "\n")};

	for (int e = 0; e < 2; e++) {
		for (int a = 0; a < 2; a++) {
			char token[2048], changed[260];
			size_t n, taken = 0;

			jat.encoding = encodings[e];
			snprintf(token, sizeof(token), "%s",
				encode(&jat, asked[a], SPAN("alice@h/res")));
			n = strlen(token);
			for (size_t i = 0; i < n; i++)
				for (int c = 0; c < 256; c++) {
					memcpy(changed, token, n);
					changed[i] = (char)c;
					if (changed[i] != token[i] &&
						strcmp(decode(&jat, (struct span){changed, n}),
							"invalid") != 0)
						taken++;
				}
			for (size_t i = 0; i < n; i++)
				taken += strcmp(decode(&jat, (struct span){token, i}), "invalid") !=
					 0;
			for (int c = 0; c < 256; c++) {
				memcpy(changed, token, n);
				changed[n] = (char)c;
				taken += strcmp(decode(&jat, (struct span){changed, n + 1}),
						 "invalid") != 0;
				changed[n + 1] = (char)c;
				taken += strcmp(decode(&jat, (struct span){changed, n + 2}),
						 "invalid") != 0;
			}
			CHECK_EQ_INT(taken, 0);
		}
	}
	CHECK_EQ_STR(decode(&jat, SPAN_NONE), "invalid");
	jat_keys_free(jat.keys);
}

/* A token of one encoding is not one of the other; padding and the other alphabet are refused.
 */
static void one_spelling(void)
{
	struct jat jat = {JAT_SEALED, SPAN("p"), keys_of("Z " KEY_A "\n")};

	CHECK_EQ_STR(decode(&jat, SPAN("ZYCXmLCBBWXkVkcrgIGom3JLxZA")), "h p");
	/* the last character has a bit that belongs to no byte */
	CHECK_EQ_STR(decode(&jat, SPAN("ZYCXmLCBBWXkVkcrgIGom3JLxZB")), "invalid");
	CHECK_EQ_STR(decode(&jat, SPAN("ZYCXmLCBBWXkVkcrgIGom3JLxZA==")), "invalid");
	CHECK_EQ_STR(decode(&jat, SPAN("ZYCXmLCBBWXkVkcrgIGom3JLxZA=")), "invalid");
	CHECK_EQ_STR(decode(&jat, SPAN("ZYCXmLCBBWXkVkcrgIGom3JLxZA\n")), "invalid");
	CHECK_EQ_STR(decode(&jat, SPAN("Z8oK5vwzI4vdLSha8pb7olw.h")), "invalid");
	jat.encoding = JAT_SIGNED;
	CHECK_EQ_STR(decode(&jat, SPAN("Z8oK5vwzI4vdLSha8pb7olw.h")), "h p");
	CHECK_EQ_STR(decode(&jat, SPAN("Z8oK5vwzI4vdLSha8pb7olx.h")), "invalid");
	CHECK_EQ_STR(decode(&jat, SPAN("Z8oK5vwzI4vdLSha8pb7olw.:0:h")), "invalid");
	CHECK_EQ_STR(decode(&jat, SPAN("Z8oK5vwzI4vdLSha8pb7olw.:1:h")), "invalid");
	CHECK_EQ_STR(decode(&jat, SPAN("Z8oK5vwzI4vdLSha8pb7olw.:01:xh")), "invalid");
	CHECK_EQ_STR(decode(&jat, SPAN("Z8oK5vwzI4vdLSha8pb7olw.:")), "invalid");
	CHECK_EQ_STR(decode(&jat, SPAN("Z8oK5vwzI4vdLSha8pb7olw.:9")), "invalid");
	CHECK_EQ_STR(
		decode(&jat, SPAN("Z8oK5vwzI4vdLSha8pb7olw.:99999999999999999999:h")), "invalid");
	CHECK_EQ_STR(decode(&jat, SPAN("ZYCXmLCBBWXkVkcrgIGom3JLxZA")), "invalid");
	jat_keys_free(jat.keys);
}

/* Valid seals around text that is no address, or an address of another domain. */
static void content_checked(void)
{
	struct jat jat = {JAT_SEALED, SPAN(DOMAIN), keys_of("a " KEY_A "\n")};

	for (int i = 0; i < 2; i++) {
		jat.encoding = encodings[i];
		CHECK_EQ_STR(decode(&jat, span_of(encode(&jat, NULL, SPAN("a@b@c")))), "invalid");
		CHECK_EQ_STR(decode(&jat, span_of(encode(&jat, NULL, SPAN("a@")))), "invalid");
		CHECK_EQ_STR(decode(&jat, span_of(encode(&jat, "x@y", SPAN("a@b")))), "invalid");
		CHECK_EQ_STR(
			decode(&jat, span_of(encode(&jat, "x@x" DOMAIN, SPAN("a@b")))), "invalid");
		CHECK_EQ_STR(
			decode(&jat, span_of(encode(&jat, "@" DOMAIN, SPAN("a@b")))), "invalid");
		CHECK_EQ_STR(decode(&jat, span_of(encode(&jat, "x@y." DOMAIN "/z", SPAN("a@b")))),
			"a@b x@y." DOMAIN "/z");
	}
	jat_keys_free(jat.keys);
}

static void plain_is_the_jid(void)
{
	struct jat jat = {JAT_PLAIN, SPAN(DOMAIN), NULL};

	CHECK_EQ_STR(encode(&jat, "x@" DOMAIN, SPAN("a@b/c/d@e")), "a@b/c/d@e");
	CHECK_EQ_STR(decode(&jat, SPAN("a@b/c/d@e")), "a@b/c/d@e " DOMAIN);
	CHECK_EQ_STR(decode(&jat, SPAN("a@b@c")), "invalid");
	CHECK_EQ_STR(decode(&jat, SPAN("")), "invalid");
	CHECK_EQ_STR(encode(&jat, NULL, SPAN("a@b/\ufb01")), "does not fit");
	CHECK_EQ_STR(encode(&jat, NULL, SPAN("a@b/latin \u05d0")), "does not fit");
}

/* A JID of n bytes, the longest parts first; n >= 3. */
static struct span jid_of(size_t n, char text[JID_MAX_BYTES + 1])
{
	size_t resource = n > 6 ? (n - 4 < JID_PART_MAX_BYTES ? n - 4 : JID_PART_MAX_BYTES) : 0;
	size_t left = n - (resource ? resource + 1 : 0) - 1;
	size_t domain = left - 1 < JID_PART_MAX_BYTES ? left - 1 : JID_PART_MAX_BYTES;
	size_t local = left - domain;

	memset(text, 'l', local);
	text[local] = '@';
	memset(text + local + 1, 'd', domain);
	if (resource) {
		text[local + 1 + domain] = '/';
		memset(text + local + domain + 2, 'r', resource);
	}
	text[n] = '\0';
	return (struct span){text, n};
}

/* Lengths from the shortest to the longest JID: those that fit come back, the others are refused.
 */
static void lengths(void)
{
	static const size_t longest[] = {748, 999, 1023};
	char text[JID_MAX_BYTES + 1];

	for (int e = 0; e < 3; e++) {
		struct jat jat = {encodings[e], SPAN(DOMAIN), keys_of("a " KEY_A "\n")};
		size_t fits = 0, wrong = 0;

		for (size_t n = 3; n <= JID_MAX_BYTES; n++) {
			struct span jid = jid_of(n, text), out_jid, out_asked;
			struct buf token, back;
			enum jat_status status;

			buf_init(&token, BUF_NO_MAX);
			buf_init(&back, BUF_NO_MAX);
			wrong += !jid_split(jid, &(struct jid){0});
			status = jat_encode(&jat, SPAN_NONE, jid, &token);
			wrong += (status == JAT_OK) != (n <= longest[e]);
			if (status == JAT_OK) {
				fits = n;
				wrong += buf_length(&token) > JID_PART_MAX_BYTES ||
					 !jid_resource_survives(buf_span(&token)) ||
					 jat_decode(&jat, buf_span(&token), &back, &out_jid,
						 &out_asked) != JAT_OK ||
					 !span_equal(out_jid, jid) || !span_is(out_asked, DOMAIN);
			} else {
				wrong += buf_length(&token) != 0;
			}
			buf_free(&token);
			buf_free(&back);
		}
		CHECK_EQ_INT(wrong, 0);
		CHECK_EQ_INT(fits, longest[e]);
		jat_keys_free(jat.keys);
	}
}

/* With a full output nothing is appended. */
static void full_out(void)
{
	struct jat_keys *keys = keys_of("a " KEY_A "\n");

	for (int e = 0; e < 3; e++) {
		struct jat jat = {encodings[e], SPAN(DOMAIN), keys};
		struct span jid, asked;
		struct buf token, b;

		buf_init(&token, BUF_NO_MAX);
		CHECK_EQ_INT(jat_encode(&jat, SPAN("x@" DOMAIN), SPAN("a@b/c"), &token), JAT_OK);
		for (size_t max = 0; max < buf_length(&token); max++) {
			buf_init(&b, max);
			CHECK_EQ_INT(jat_encode(&jat, SPAN("x@" DOMAIN), SPAN("a@b/c"), &b),
				JAT_DOES_NOT_FIT);
			CHECK_EQ_INT(buf_length(&b), 0);
			buf_free(&b);
		}
		for (size_t max = 0; max < sizeof("a@b/c" DOMAIN) - 1; max++) {
			buf_init(&b, max);
			CHECK_EQ_INT(
				jat_decode(&jat, buf_span(&token), &b, &jid, &asked), JAT_INVALID);
			CHECK_EQ_INT(buf_length(&b), 0);
			buf_free(&b);
		}
		buf_free(&token);
	}
	jat_keys_free(keys);
}

/* Properties over random addresses --------------------------------------- */

static uint32_t seed = 1;

static unsigned draw(unsigned below)
{
	seed = seed * 1664525 + 1013904223;
	return (seed >> 8) % below;
}

static const char *const letters[] = {"a", "b", "0", "-", ".", "x", "\\20", "%41", "é", "ü", "ß",
	"\U0001f600", "\u05d0", "\u0627", "\u4e2d", "\u0378"};
static const char *const marks[] = {" ", "\"", "'", "&", "<", ">", "/", "@", ":", ".", "=", "+",
	"e\u0301", "\ufb01", "\u2460", "\u00a0", "\u00ad", "latin \u05d0\u05d1"};

static void random_part(struct buf *out, unsigned most, bool resource)
{
	for (unsigned count = 1 + draw(most); count; count--) {
		if (resource && draw(2))
			buf_append_string(out, marks[draw(sizeof(marks) / sizeof(*marks))]);
		else
			buf_append_string(out, letters[draw(sizeof(letters) / sizeof(*letters))]);
	}
}

static void random_jid(struct buf *out, const char *domain)
{
	unsigned most = draw(20) == 0 ? 200 : 8;

	buf_reset(out);
	if (draw(4)) {
		random_part(out, most, false);
		buf_append_char(out, '@');
	}
	if (domain)
		buf_append_string(out, domain);
	else
		random_part(out, most, false);
	if (draw(4)) {
		buf_append_char(out, '/');
		random_part(out, most, true);
	}
}

static void there_and_back(void)
{
	struct jat_keys *keys = keys_of("a " KEY_A "\n");
	unsigned fit[3] = {0}, unfit[3] = {0};
	struct buf jid, asked, token, back;

	buf_init(&jid, BUF_NO_MAX);
	buf_init(&asked, BUF_NO_MAX);
	buf_init(&token, BUF_NO_MAX);
	buf_init(&back, BUF_NO_MAX);
	for (int i = 0; i < 60000; i++) {
		struct jat jat = {encodings[i % 3], SPAN(DOMAIN), keys};
		struct span out_jid, out_asked, wants;
		bool survives, ok;

		random_jid(&jid, NULL);
		buf_reset(&asked);
		if (draw(2))
			random_jid(&asked, draw(2) ? DOMAIN : "below." DOMAIN);
		buf_reset(&token);
		buf_reset(&back);
		wants = buf_length(&asked) && i % 3 != 2 ? buf_span(&asked) : SPAN(DOMAIN);
		survives = jid_resource_survives(buf_span(&jid));
		if (jat_encode(&jat, buf_span(&asked), buf_span(&jid), &token) == JAT_OK) {
			fit[i % 3]++;
			ok = jid_resource_survives(buf_span(&token)) &&
			     jat_decode(&jat, buf_span(&token), &back, &out_jid, &out_asked) ==
				     JAT_OK &&
			     span_equal(out_jid, buf_span(&jid)) && span_equal(out_asked, wants) &&
			     buf_length(&back) == out_jid.n + out_asked.n;
			/* the form tells them apart */
			ok = ok && (i % 3 == 2 || jat_form(buf_span(&token)) == encodings[i % 3]);
		} else {
			unfit[i % 3]++;
			ok = buf_length(&token) == 0 &&
			     (i % 3 == 0 ? buf_length(&jid) + buf_length(&asked) > 700
					 : i % 3 == 1 || !survives);
		}
		if (!ok) {
			CHECK_MSG(ok, "encoding %d, asked %s, JID %s", i % 3, buf_string(&asked),
				buf_string(&jid));
			break;
		}
	}
	for (int e = 0; e < 3; e++)
		CHECK_MSG(fit[e] > 2000 && unfit[e] > 20, "encoding %d: %u fit, %u do not", e,
			fit[e], unfit[e]);
	buf_free(&jid);
	buf_free(&asked);
	buf_free(&token);
	buf_free(&back);
	jat_keys_free(keys);
}

int main(void)
{
	TEST(known_tokens);
	TEST(key_files);
	TEST(keys_all_ids);
	TEST(keys_made);
	TEST(rotation);
	TEST(key_id_covered);
	TEST(domain_covered);
	TEST(deterministic);
	TEST(tampering);
	TEST(one_spelling);
	TEST(content_checked);
	TEST(plain_is_the_jid);
	TEST(lengths);
	TEST(full_out);
	TEST(there_and_back);
	return check_done();
}
