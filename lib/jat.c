#include "jat.h"

#include <stdlib.h>

#include <nettle/hmac.h>
#include <nettle/memops.h>
#include <nettle/siv-cmac.h>

#include "err.h"
#include "jid.h"

#define MAC_BYTES 16
/* The longest thing inside a token, which itself is at most 1023 bytes. */
#define PLAINTEXT_MAX_BYTES 1024

struct jat_key {
	char id;
	struct siv_cmac_aes128_ctx siv;
	struct hmac_sha256_ctx hmac;
};

struct jat_keys {
	size_t count;
	struct jat_key keys[JAT_MAX_KEYS];
	unsigned char index[128]; /* key id -> place + 1 */
};

/* Keys ------------------------------------------------------------------- */

static bool is_key_id(char c)
{
	return (c >= '0' && c <= '9') || (c >= 'A' && c <= 'Z') || (c >= 'a' && c <= 'z');
}

static bool add_key(struct jat_keys *keys, char id, const unsigned char bytes[JAT_KEY_BYTES])
{
	static const unsigned char purpose[] = "outboard jat signed";
	struct jat_key *key = &keys->keys[keys->count];
	unsigned char derived[JAT_KEY_BYTES];

	if (!is_key_id(id) || keys->count == JAT_MAX_KEYS || keys->index[(unsigned char)id])
		return false;
	key->id = id;
	siv_cmac_aes128_set_key(&key->siv, bytes);
	/* sealing and signing must not share a key */
	hmac_sha256_set_key(&key->hmac, JAT_KEY_BYTES, bytes);
	hmac_sha256_update(&key->hmac, sizeof(purpose), purpose);
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
	bool ok;

	while (line.n && (line.p[line.n - 1] == ' ' || line.p[line.n - 1] == '\t' ||
				 line.p[line.n - 1] == '\r'))
		line.n--;
	if (line.n == 0 || line.p[0] == '#')
		return true;
	if (line.n != 2 + 2 * JAT_KEY_BYTES || line.p[1] != ' ')
		return false;
	for (size_t i = 0; i < JAT_KEY_BYTES; i++) {
		int high = hex_digit(line.p[2 + 2 * i]), low = hex_digit(line.p[3 + 2 * i]);

		if (high < 0 || low < 0)
			return false;
		bytes[i] = (unsigned char)(high << 4 | low);
	}
	ok = add_key(keys, line.p[0], bytes);
	explicit_bzero(bytes, sizeof(bytes));
	return ok;
}

struct jat_keys *jat_keys_parse(struct span file, size_t *line)
{
	struct jat_keys *keys = xcalloc(1, sizeof(*keys));
	size_t number = 0;

	while (file.n) {
		const char *newline = memchr(file.p, '\n', file.n);
		size_t n = newline ? (size_t)(newline - file.p) : file.n;

		number++;
		if (!parse_line(keys, (struct span){file.p, n})) {
			*line = number;
			jat_keys_free(keys);
			return NULL;
		}
		file = span_from(file, newline ? n + 1 : n);
	}
	*line = 0;
	if (keys->count)
		return keys;
	jat_keys_free(keys);
	return NULL;
}

struct jat_keys *jat_keys_random(const unsigned char bytes[JAT_KEY_BYTES])
{
	struct jat_keys *keys = xcalloc(1, sizeof(*keys));

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

/* base64url (RFC 4648 5), unpadded --------------------------------------- */

static const char alphabet[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";

static size_t base64_length(size_t n)
{
	return n / 3 * 4 + (n % 3 ? n % 3 + 1 : 0);
}

static void base64_encode(char *out, const unsigned char *in, size_t n)
{
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

static int base64_value(char c)
{
	return c >= 'A' && c <= 'Z'   ? c - 'A'
	       : c >= 'a' && c <= 'z' ? c - 'a' + 26
	       : c >= '0' && c <= '9' ? c - '0' + 52
	       : c == '-'	      ? 62
	       : c == '_'	      ? 63
				      : -1;
}

/* Bytes decoded, or -1: every token has exactly one spelling, so bits that mean nothing must be
 * zero. */
static long base64_decode(unsigned char *out, struct span in)
{
	const unsigned char *begin = out;
	unsigned v = 0, bits = 0;

	if (in.n % 4 == 1)
		return -1;
	for (size_t i = 0; i < in.n; i++) {
		int value = base64_value(in.p[i]);

		if (value < 0)
			return -1;
		v = (v << 6 | (unsigned)value) & 0xffff;
		bits += 6;
		if (bits >= 8) {
			bits -= 8;
			*out++ = (unsigned char)(v >> bits);
		}
	}
	return v & ((1u << bits) - 1) ? -1 : out - begin;
}

/* Sealed ----------------------------------------------------------------- */

static void nonce_of(unsigned char nonce[5], char key_id)
{
	memcpy(nonce, "jat1", 4);
	nonce[4] = (unsigned char)key_id;
}

static enum jat_status seal(
	const struct jat *jat, struct span asked, struct span jid, struct buf *out)
{
	unsigned char plain[PLAINTEXT_MAX_BYTES], sealed[PLAINTEXT_MAX_BYTES + SIV_DIGEST_SIZE];
	struct jat_key *key = &jat->keys->keys[0];
	size_t n = 2 + asked.n + jid.n, token = 1 + base64_length(n + SIV_DIGEST_SIZE);
	unsigned char nonce[5];
	char *p;

	if (token > JID_PART_MAX_BYTES)
		return JAT_DOES_NOT_FIT;
	plain[0] = (unsigned char)(asked.n >> 8);
	plain[1] = (unsigned char)asked.n;
	if (asked.n)
		memcpy(plain + 2, asked.p, asked.n);
	memcpy(plain + 2 + asked.n, jid.p, jid.n);
	nonce_of(nonce, key->id);
	siv_cmac_aes128_encrypt_message(&key->siv, sizeof(nonce), nonce, jat->domain.n,
		(const unsigned char *)jat->domain.p, n + SIV_DIGEST_SIZE, sealed, plain);
	p = buf_reserve(out, token);
	if (!p)
		return JAT_DOES_NOT_FIT;
	p[0] = key->id;
	base64_encode(p + 1, sealed, n + SIV_DIGEST_SIZE);
	buf_commit(out, token);
	return JAT_OK;
}

/* On success *asked and *jid are offsets' worth of bytes in plain. */
static bool unseal(const struct jat *jat, struct span token, unsigned char *plain,
	struct span *asked, struct span *jid)
{
	unsigned char sealed[PLAINTEXT_MAX_BYTES];
	struct jat_key *key = token.n ? key_find(jat->keys, token.p[0]) : NULL;
	unsigned char nonce[5];
	size_t n, asked_bytes;
	long length;

	if (!key || token.n > JID_PART_MAX_BYTES)
		return false;
	length = base64_decode(sealed, span_from(token, 1));
	if (length < SIV_DIGEST_SIZE + 3)
		return false;
	n = (size_t)length - SIV_DIGEST_SIZE;
	nonce_of(nonce, key->id);
	if (!siv_cmac_aes128_decrypt_message(&key->siv, sizeof(nonce), nonce, jat->domain.n,
		    (const unsigned char *)jat->domain.p, n, plain, sealed))
		return false;
	asked_bytes = (size_t)plain[0] << 8 | plain[1];
	if (asked_bytes > n - 3)
		return false;
	*asked = (struct span){(const char *)plain + 2, asked_bytes};
	*jid = (struct span){(const char *)plain + 2 + asked_bytes, n - 2 - asked_bytes};
	return true;
}

/* Signed ----------------------------------------------------------------- */

static void length_update(struct hmac_sha256_ctx *hmac, size_t n)
{
	const unsigned char bytes[2] = {(unsigned char)(n >> 8), (unsigned char)n};

	hmac_sha256_update(hmac, sizeof(bytes), bytes);
}

/* Over the domain and the address asked with their lengths, and the JID. */
static void sign(const struct jat *jat, struct jat_key *key, struct span asked, struct span jid,
	unsigned char mac[MAC_BYTES])
{
	length_update(&key->hmac, jat->domain.n);
	hmac_sha256_update(&key->hmac, jat->domain.n, (const unsigned char *)jat->domain.p);
	length_update(&key->hmac, asked.n);
	hmac_sha256_update(&key->hmac, asked.n, (const unsigned char *)asked.p);
	hmac_sha256_update(&key->hmac, jid.n, (const unsigned char *)jid.p);
	hmac_sha256_digest(&key->hmac, MAC_BYTES, mac);
}

/* KEYID MAC "." JID; with an address asked that is not the bare domain KEYID MAC ".:" its length in
 * decimal ":" asked JID. A JID that begins with ':' itself does not fit. */
static enum jat_status put_signed(
	const struct jat *jat, struct span asked, struct span jid, struct buf *out)
{
	struct jat_key *key = &jat->keys->keys[0];
	size_t begin = buf_length(out);
	unsigned char mac[MAC_BYTES];
	char text[24];

	sign(jat, key, asked, jid, mac);
	base64_encode(text, mac, MAC_BYTES);
	buf_append_char(out, key->id);
	buf_append(out, text, base64_length(MAC_BYTES));
	buf_append_char(out, '.');
	if (asked.n) {
		buf_printf(out, ":%zu:", asked.n);
		buf_append_span(out, asked);
	}
	buf_append_span(out, jid);
	if (jid.p[0] != ':' && jid_resource_survives(span_from(buf_span(out), begin)))
		return JAT_OK;
	buf_truncate(out, begin);
	return JAT_DOES_NOT_FIT;
}

static bool check_signed(
	const struct jat *jat, struct span token, struct span *asked, struct span *jid)
{
	size_t head = 1 + base64_length(MAC_BYTES) + 1;
	struct jat_key *key = token.n > head ? key_find(jat->keys, token.p[0]) : NULL;
	unsigned char mac[MAC_BYTES], expected[MAC_BYTES + 2];

	if (!key || token.n > JID_PART_MAX_BYTES || token.p[head - 1] != '.' ||
		base64_decode(mac, (struct span){token.p + 1, head - 2}) != MAC_BYTES)
		return false;
	*asked = SPAN("");
	*jid = span_from(token, head);
	if (jid->p[0] == ':') {
		size_t n = 0, i = 1;

		if (jid->n < 2 || jid->p[1] == '0')
			return false;
		while (i < jid->n && jid->p[i] >= '0' && jid->p[i] <= '9' && n < 10000)
			n = n * 10 + (size_t)(jid->p[i++] - '0');
		if (i >= jid->n || jid->p[i] != ':' || n == 0 || n >= jid->n - i - 1)
			return false;
		*asked = (struct span){jid->p + i + 1, n};
		*jid = span_from(*jid, i + 1 + n);
	}
	sign(jat, key, *asked, *jid, expected);
	return memeql_sec(mac, expected, MAC_BYTES);
}

/* All three -------------------------------------------------------------- */

enum jat_status jat_encode(
	const struct jat *jat, struct span asked, struct span jid, struct buf *out)
{
	if (!asked.p || span_equal(asked, jat->domain))
		asked = SPAN("");
	switch (jat->encoding) {
	case JAT_SEALED:
		return asked.n + jid.n > PLAINTEXT_MAX_BYTES - 2 ? JAT_DOES_NOT_FIT
								 : seal(jat, asked, jid, out);
	case JAT_SIGNED:
		return put_signed(jat, asked, jid, out);
	default:
		return jid_resource_survives(jid) && buf_append_span(out, jid) ? JAT_OK
									       : JAT_DOES_NOT_FIT;
	}
}

enum jat_status jat_decode(const struct jat *jat, struct span token, struct buf *out,
	struct span *jid, struct span *asked)
{
	unsigned char plain[PLAINTEXT_MAX_BYTES];
	struct span in_asked = SPAN(""), in_jid = token;
	struct jid parts;
	size_t begin = buf_length(out);

	if (jat->encoding == JAT_SEALED	      ? !unseal(jat, token, plain, &in_asked, &in_jid)
		: jat->encoding == JAT_SIGNED ? !check_signed(jat, token, &in_asked, &in_jid)
					      : token.n > JID_PART_MAX_BYTES)
		return JAT_INVALID;
	if (in_asked.n == 0)
		in_asked = jat->domain;
	if (!jid_split(in_jid, &parts) || !jid_split(in_asked, &parts) ||
		!buf_append_span(out, in_asked) || !buf_append_span(out, in_jid))
		return JAT_INVALID;
	*asked = (struct span){buf_span(out).p + begin, in_asked.n};
	*jid = (struct span){asked->p + asked->n, in_jid.n};
	return JAT_OK;
}
