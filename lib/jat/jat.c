/* jat.c - see jat.h */
#include "jat/jat.h"

#include <endian.h>
#include <stdio.h>
#include <stdlib.h>

#include <nettle/hmac.h>
#include <nettle/memops.h>

#include "base/err.h"
#include "jat/siv.h"
#include "xmpp/jid.h"

#define MAC_BYTES 16
#define MAC_CHARACTERS 22 /* in base64url */
/* The bytes of a signed token before the JID: key id, MAC, dot. */
#define SIGNED_HEAD (1 + MAC_CHARACTERS + 1)
/* The longest plaintext of a token: the token itself is at most 1023 bytes. */
#define PLAINTEXT_MAX_BYTES 1024

struct jat_key {
	char id;
	struct siv siv;
	struct buf associated; /* what siv is prepared for */
	struct hmac_sha256_ctx hmac;
};

struct jat_keys {
	size_t count;
	struct jat_key keys[JAT_MAX_KEYS];
	unsigned char index[128]; /* key id -> place + 1 */
	unsigned char digit[256]; /* base64url: character -> value or NO_DIGIT */
};

/* base64url (RFC 4648 5), unpadded */
static const char alphabet[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
enum { NO_DIGIT = 0x40 };

/* Keys ------------------------------------------------------------------- */

static bool is_key_id(char c)
{
	return (c >= '0' && c <= '9') || (c >= 'A' && c <= 'Z') || (c >= 'a' && c <= 'z');
}

static bool add_key(struct jat_keys *keys, char id, const unsigned char bytes[JAT_KEY_BYTES])
{
	static const char purpose[] = "outboard jat signed";
	struct jat_key *key = &keys->keys[keys->count];
	unsigned char derived[JAT_KEY_BYTES];

	if (!is_key_id(id) || keys->count == JAT_MAX_KEYS || keys->index[(unsigned char)id])
		return false;
	key->id = id;
	siv_set_key(&key->siv, bytes);
	buf_init(&key->associated, BUF_NO_MAX);
	/* sealing and signing must not share a key */
	hmac_sha256_set_key(&key->hmac, JAT_KEY_BYTES, bytes);
	hmac_sha256_update(&key->hmac, sizeof(purpose) - 1, (const unsigned char *)purpose);
	hmac_sha256_digest(&key->hmac, sizeof(derived), derived);
	hmac_sha256_set_key(&key->hmac, sizeof(derived), derived);
	explicit_bzero(derived, sizeof(derived));
	keys->index[(unsigned char)id] = (unsigned char)++keys->count;
	return true;
}

static int hex_digit(char c)
{
	return c >= '0' && c <= '9'   ? c - '0'
	       : c >= 'a' && c <= 'f' ? c - 'a' + 10
	       : c >= 'A' && c <= 'F' ? c - 'A' + 10
				      : -1;
}

static bool parse_line(struct jat_keys *keys, struct span line)
{
	unsigned char bytes[JAT_KEY_BYTES];
	bool ok = true;

	while (line.n && (line.p[line.n - 1] == ' ' || line.p[line.n - 1] == '\t' ||
				 line.p[line.n - 1] == '\r'))
		line.n--;
	if (line.n == 0 || line.p[0] == '#')
		return true;
	if (line.n != 2 + 2 * JAT_KEY_BYTES || line.p[1] != ' ')
		return false;
	for (size_t i = 0; i < JAT_KEY_BYTES; i++) {
		int high = hex_digit(line.p[2 + 2 * i]), low = hex_digit(line.p[3 + 2 * i]);

		ok = ok && high >= 0 && low >= 0;
		bytes[i] = (unsigned char)((unsigned)high << 4 | (unsigned)low);
	}
	ok = ok && add_key(keys, line.p[0], bytes);
	explicit_bzero(bytes, sizeof(bytes));
	return ok;
}

static struct jat_keys *new_keys(void)
{
	struct jat_keys *keys = xcalloc(1, sizeof(*keys));

	memset(keys->digit, NO_DIGIT, sizeof(keys->digit));
	for (unsigned i = 0; i < 64; i++)
		keys->digit[(unsigned char)alphabet[i]] = (unsigned char)i;
	return keys;
}

struct jat_keys *jat_keys_parse(struct span file, size_t *line)
{
	struct jat_keys *keys = new_keys();
	size_t number = 0;

	while (file.n) {
		number++;
		if (!parse_line(keys, span_take_until(&file, '\n'))) {
			*line = number;
			jat_keys_free(keys);
			return NULL;
		}
	}
	*line = 0;
	if (keys->count)
		return keys;
	jat_keys_free(keys);
	return NULL;
}

struct jat_keys *jat_keys_random(const unsigned char bytes[JAT_KEY_BYTES])
{
	struct jat_keys *keys = new_keys();

	add_key(keys, '0', bytes);
	return keys;
}

void jat_keys_format(const unsigned char bytes[JAT_KEY_BYTES], struct buf *out)
{
	buf_append_string(out, "0 ");
	for (size_t i = 0; i < JAT_KEY_BYTES; i++)
		buf_printf(out, "%02x", bytes[i]);
	buf_append_char(out, '\n');
}

void jat_keys_free(struct jat_keys *keys)
{
	if (!keys)
		return;
	for (size_t i = 0; i < keys->count; i++)
		buf_free(&keys->keys[i].associated);
	explicit_bzero(keys, sizeof(*keys));
	free(keys);
}

size_t jat_keys_count(const struct jat_keys *keys)
{
	return keys->count;
}

static struct jat_key *key_find(struct jat_keys *keys, char id)
{
	unsigned char place = is_key_id(id) ? keys->index[(unsigned char)id] : 0;

	return place ? &keys->keys[place - 1] : NULL;
}

/* base64url -------------------------------------------------------------- */

static size_t base64_length(size_t n)
{
	return n / 3 * 4 + (n % 3 ? n % 3 + 1 : 0);
}

static void base64_encode(char *out, const unsigned char *in, size_t n)
{
	for (; n >= 8; n -= 6, in += 6) {
		uint64_t v;

		memcpy(&v, in, 8);
		v = be64toh(v);
#pragma GCC unroll 8
		for (int i = 0; i < 8; i++)
			out[i] = alphabet[v >> (58 - 6 * i) & 63];
		out += 8;
	}
	for (; n >= 3; n -= 3, in += 3) {
		unsigned v = (unsigned)in[0] << 16 | (unsigned)in[1] << 8 | in[2];

		*out++ = alphabet[v >> 18];
		*out++ = alphabet[v >> 12 & 63];
		*out++ = alphabet[v >> 6 & 63];
		*out++ = alphabet[v & 63];
	}
	if (n) {
		unsigned v = (unsigned)in[0] << 16 | (n == 2 ? (unsigned)in[1] << 8 : 0);

		*out++ = alphabet[v >> 18];
		*out++ = alphabet[v >> 12 & 63];
		if (n == 2)
			*out++ = alphabet[v >> 6 & 63];
	}
}

/* How many bytes were decoded, or -1. A token has exactly one spelling, so unused bits must be
 * zero. */
static long base64_decode(const unsigned char digit[256], unsigned char *out, struct span in)
{
	const unsigned char *p = (const unsigned char *)in.p, *begin = out;
	unsigned all = 0;
	size_t n = in.n;

	for (; n >= 4; n -= 4, p += 4) {
		unsigned a = digit[p[0]], b = digit[p[1]], c = digit[p[2]], d = digit[p[3]];

		all |= a | b | c | d;
		*out++ = (unsigned char)(a << 2 | b >> 4);
		*out++ = (unsigned char)(b << 4 | c >> 2);
		*out++ = (unsigned char)(c << 6 | d);
	}
	if (n == 1)
		return -1;
	if (n) {
		unsigned a = digit[p[0]], b = digit[p[1]], c = n == 3 ? digit[p[2]] : 0;

		all |= a | b | c;
		*out++ = (unsigned char)(a << 2 | b >> 4);
		if (n == 3)
			*out++ = (unsigned char)(b << 4 | c >> 2);
		if (n == 3 ? c & 3 : b & 15)
			return -1;
	}
	return all & NO_DIGIT ? -1 : out - begin;
}

/* Sealed ----------------------------------------------------------------- */

/* A key's SIV for tokens at a domain, which is mostly the same one. */
static struct siv *siv_for(struct jat_key *key, struct span domain)
{
	const char nonce[] = {'j', 'a', 't', '1', key->id};

	if (!span_equal(buf_span(&key->associated), domain)) {
		buf_reset(&key->associated);
		buf_append_span(&key->associated, domain);
		siv_set_associated(&key->siv, domain, (struct span){nonce, sizeof(nonce)});
	}
	return &key->siv;
}

static enum jat_status seal(
	const struct jat *jat, struct span asked, struct span jid, struct buf *out)
{
	unsigned char plain[PLAINTEXT_MAX_BYTES], sealed[PLAINTEXT_MAX_BYTES + SIV_TAG_BYTES];
	struct jat_key *key = &jat->keys->keys[0];
	size_t n = 2 + asked.n + jid.n, token = 1 + base64_length(n + SIV_TAG_BYTES);
	char *p;

	if (token > JID_PART_MAX_BYTES)
		return JAT_DOES_NOT_FIT;
	plain[0] = (unsigned char)(asked.n >> 8);
	plain[1] = (unsigned char)asked.n;
	if (asked.n)
		memcpy(plain + 2, asked.p, asked.n);
	memcpy(plain + 2 + asked.n, jid.p, jid.n);
	siv_seal(siv_for(key, jat->domain), n, sealed, plain);
	p = buf_reserve(out, token);
	if (!p)
		return JAT_DOES_NOT_FIT;
	p[0] = key->id;
	base64_encode(p + 1, sealed, n + SIV_TAG_BYTES);
	buf_commit(out, token);
	return JAT_OK;
}

/* On success *asked and *jid point into plain. */
static bool unseal(const struct jat *jat, struct span token, unsigned char *plain,
	struct span *asked, struct span *jid)
{
	unsigned char sealed[PLAINTEXT_MAX_BYTES];
	struct jat_key *key = token.n ? key_find(jat->keys, token.p[0]) : NULL;
	size_t n, asked_bytes;
	long length;

	if (!key || token.n > JID_PART_MAX_BYTES)
		return false;
	length = base64_decode(jat->keys->digit, sealed, span_from(token, 1));
	if (length < SIV_TAG_BYTES + 3)
		return false;
	n = (size_t)length - SIV_TAG_BYTES;
	if (!siv_unseal(siv_for(key, jat->domain), n, plain, sealed))
		return false;
	asked_bytes = (size_t)plain[0] << 8 | plain[1];
	if (asked_bytes > n - 3)
		return false;
	*asked = (struct span){(const char *)plain + 2, asked_bytes};
	*jid = (struct span){(const char *)plain + 2 + asked_bytes, n - 2 - asked_bytes};
	return true;
}

/* Signed ----------------------------------------------------------------- */

static void sign_span(struct hmac_sha256_ctx *hmac, struct span s)
{
	const unsigned char length[2] = {(unsigned char)(s.n >> 8), (unsigned char)s.n};

	hmac_sha256_update(hmac, sizeof(length), length);
	hmac_sha256_update(hmac, s.n, (const unsigned char *)s.p);
}

/* Each part but the last is preceded by its length, so two different inputs never give the same
 * bytes. */
static void sign(const struct jat *jat, struct jat_key *key, struct span asked, struct span jid,
	unsigned char mac[MAC_BYTES])
{
	hmac_sha256_update(&key->hmac, 1, (const unsigned char *)&key->id);
	sign_span(&key->hmac, jat->domain);
	sign_span(&key->hmac, asked);
	hmac_sha256_update(&key->hmac, jid.n, (const unsigned char *)jid.p);
	hmac_sha256_digest(&key->hmac, MAC_BYTES, mac);
}

/* An address asked stands before the JID, with its length between colons. A JID that begins with
 * ':' itself, which no server has, does not fit. */
static enum jat_status put_signed(
	const struct jat *jat, struct span asked, struct span jid, struct buf *out)
{
	struct jat_key *key = &jat->keys->keys[0];
	unsigned char mac[MAC_BYTES];
	char length[32] = "";
	size_t n, token_n;
	char *token;

	if (asked.n)
		snprintf(length, sizeof(length), ":%zu:", asked.n);
	n = SIGNED_HEAD + strlen(length);
	token_n = n + asked.n + jid.n;
	if (jid.p[0] == ':' || token_n > JID_PART_MAX_BYTES)
		return JAT_DOES_NOT_FIT;
	token = buf_reserve(out, token_n);
	if (!token)
		return JAT_DOES_NOT_FIT;
	sign(jat, key, asked, jid, mac);
	token[0] = key->id;
	base64_encode(token + 1, mac, MAC_BYTES);
	token[SIGNED_HEAD - 1] = '.';
	memcpy(token + SIGNED_HEAD, length, strlen(length));
	memcpy(token + n, asked.p, asked.n);
	memcpy(token + n + asked.n, jid.p, jid.n);
	if (!jid_resource_survives((struct span){token, token_n})) {
		token[0] = '\0'; /* for the NUL at the end of the buf */
		return JAT_DOES_NOT_FIT;
	}
	buf_commit(out, token_n);
	return JAT_OK;
}

/* Take ":N:" and N bytes from the front of *jid. */
static bool take_asked(struct span *asked, struct span *jid)
{
	size_t n = 0, i = 1;

	if (jid->n < 2 || jid->p[1] == '0')
		return false;
	while (i < jid->n && jid->p[i] >= '0' && jid->p[i] <= '9' && n < JID_PART_MAX_BYTES)
		n = n * 10 + (size_t)(jid->p[i++] - '0');
	if (n == 0 || i == jid->n || jid->p[i] != ':' || n >= jid->n - i - 1)
		return false;
	*asked = (struct span){jid->p + i + 1, n};
	*jid = span_from(*jid, i + 1 + n);
	return true;
}

static bool check_signed(
	const struct jat *jat, struct span token, struct span *asked, struct span *jid)
{
	struct jat_key *key = token.n > SIGNED_HEAD ? key_find(jat->keys, token.p[0]) : NULL;
	unsigned char mac[MAC_BYTES], expected[MAC_BYTES];

	if (!key || token.n > JID_PART_MAX_BYTES || jat_form(token) != JAT_SIGNED ||
		base64_decode(jat->keys->digit, mac, (struct span){token.p + 1, MAC_CHARACTERS}) !=
			MAC_BYTES)
		return false;
	*jid = span_from(token, SIGNED_HEAD);
	if (jid->p[0] == ':' && !take_asked(asked, jid))
		return false;
	sign(jat, key, *asked, *jid, expected);
	return memeql_sec(mac, expected, MAC_BYTES);
}

/* All three -------------------------------------------------------------- */

enum jat_encoding jat_form(struct span token)
{
	return token.n > SIGNED_HEAD && token.p[SIGNED_HEAD - 1] == '.' ? JAT_SIGNED : JAT_SEALED;
}

static struct span served(const struct jat *jat)
{
	return jat->served.p ? jat->served : jat->domain;
}

enum jat_status jat_encode(
	const struct jat *jat, struct span asked, struct span jid, struct buf *out)
{
	if (!asked.p || span_equal(asked, served(jat)))
		asked = SPAN("");
	if (jat->encoding != JAT_PLAIN && asked.n + jid.n > JID_PART_MAX_BYTES)
		return JAT_DOES_NOT_FIT;
	switch (jat->encoding) {
	case JAT_SEALED:
		return seal(jat, asked, jid, out);
	case JAT_SIGNED:
		return put_signed(jat, asked, jid, out);
	case JAT_PLAIN:
		return jid_resource_survives(jid) && buf_append_span(out, jid) ? JAT_OK
									       : JAT_DOES_NOT_FIT;
	}
	return JAT_DOES_NOT_FIT;
}

/* Whether a token is genuine; *asked and *jid then point into it, or into plain. */
static bool token_open(const struct jat *jat, struct span token,
	unsigned char plain[PLAINTEXT_MAX_BYTES], struct span *asked, struct span *jid)
{
	switch (jat->encoding) {
	case JAT_SEALED:
		return unseal(jat, token, plain, asked, jid);
	case JAT_SIGNED:
		return check_signed(jat, token, asked, jid);
	case JAT_PLAIN:
		*jid = token;
		return token.n <= JID_PART_MAX_BYTES;
	}
	return false;
}

/* Whether an address is at the domain that users ask, or below it. */
static bool asked_valid(const struct jat *jat, struct span asked)
{
	struct span domain = served(jat);
	struct jid parts;
	size_t below;

	if (asked.n == 0)
		return true;
	if (!jid_split(asked, &parts) || parts.domain.n < domain.n)
		return false;
	below = parts.domain.n - domain.n;
	return (below == 0 || parts.domain.p[below - 1] == '.') &&
	       span_equal(span_from(parts.domain, below), domain);
}

enum jat_status jat_decode(const struct jat *jat, struct span token, struct buf *out,
	struct span *jid, struct span *asked)
{
	unsigned char plain[PLAINTEXT_MAX_BYTES];
	struct span in_asked = SPAN(""), in_jid = {0};
	struct jid parts;
	char *p;

	if (!token_open(jat, token, plain, &in_asked, &in_jid) || !jid_split(in_jid, &parts) ||
		!asked_valid(jat, in_asked))
		return JAT_INVALID;
	if (in_asked.n == 0)
		in_asked = served(jat);
	p = buf_reserve(out, in_asked.n + in_jid.n);
	if (!p)
		return JAT_INVALID;
	memcpy(p, in_asked.p, in_asked.n);
	memcpy(p + in_asked.n, in_jid.p, in_jid.n);
	buf_commit(out, in_asked.n + in_jid.n);
	*asked = (struct span){p, in_asked.n};
	*jid = (struct span){p + in_asked.n, in_jid.n};
	return JAT_OK;
}
